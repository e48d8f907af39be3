"""Near-duplicates: found once among what is new, proposed, and merged only on approval or from a set threshold on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from person import Clock, Person, eventually
from sqlalchemy import delete, insert

from memos_mcp.errors import AccessDenied, Conflict, InvalidInput, NotFound
from memos_mcp.gateway import resources
from memos_mcp.jobs import Job
from memos_mcp.kernel import Kernel
from memos_mcp.ledger.schema import vector_queue
from memos_mcp.memory_api import proposals
from memos_mcp.scheduler import merging
from memos_mcp.scheduler.runner import Runner
from memos_mcp.settings import load, write_config

CATS = "Bruno has two black cats and feeds them at seven in the morning"


def looked(ada: Person) -> None:
    """Have everything that was written looked at."""
    parts = ada.api.parts
    assert eventually(lambda: not parts.indexer.busy)
    while merging.look(parts):
        pass


def test_memories_that_say_nearly_the_same_are_proposed_to_be_merged_and_left_alone(ada: Person) -> None:
    one, two = ada.keep(f"{CATS}."), ada.keep(f"{CATS}!", tags=["cats"])
    three = ada.keep("Bruno has the two black cats and really feeds them at seven in the morning.")
    ada.keep("Bruno has three black cats and feeds them at seven in the morning.")
    ada.keep("Bruno does not feed two black cats at seven in the morning and has them.")
    ada.keep("The weather is fine.")
    looked(ada)
    (proposal,) = ada.api.proposals(ada.caller)
    assert [row["id"] for row in proposal["memories"]] == [one, two, three]
    assert (proposal["kind"], proposal["score"], proposal["space"]) == ("merge", 1.0, "personal")
    assert "3 memories" in proposal["reason"]
    assert {ada.state(cube) for cube in (one, two, three)} <= {"generated", "activated"}
    assert json.loads(resources.read(ada.api, ada.caller, resources.PROPOSALS))["proposals"] == [proposal]


def test_an_approved_proposal_is_carried_out_once_and_can_be_undone(ada: Person) -> None:
    one, two = ada.keep(f"{CATS}."), ada.keep(f"{CATS}!")
    looked(ada)
    (proposal,) = ada.api.proposals(ada.caller)
    done = ada.api.approve(ada.caller, proposal["id"])
    assert {ada.state(cube) for cube in (one, two)} == {"merged"}
    (found,) = ada.ids("How many cats has Bruno?")
    assert ada.text(found) == f"{CATS}."
    assert ada.api.proposals(ada.caller) == []
    with pytest.raises(Conflict, match="done already"):
        ada.api.approve(ada.caller, proposal["id"])
    (operation,) = ada.history(op=done["op"])["operations"]
    assert (operation["verb"], operation["principal"]) == ("fuse", "ada")
    assert "approved" in (operation["reason"] or "")
    ada.undo(done["op"])
    assert set(ada.ids("How many cats has Bruno?")) <= {one, two}
    looked(ada)
    assert ada.api.proposals(ada.caller) == []


def test_a_declined_proposal_is_not_made_again(ada: Person) -> None:
    ada.keep(f"{CATS}.")
    ada.keep(f"{CATS}!")
    looked(ada)
    (proposal,) = ada.api.proposals(ada.caller)
    ada.api.decline(ada.caller, proposal["id"])
    assert ada.api.proposals(ada.caller) == []
    with ada.api.parts.ledger.write() as connection:
        ada.api.parts.ledger.put(connection, merging.NOTE, "0")
    looked(ada)
    assert ada.api.proposals(ada.caller) == []
    with pytest.raises(Conflict, match="declined already"):
        ada.api.decline(ada.caller, proposal["id"])


def test_a_larger_cluster_takes_the_place_of_the_smaller(ada: Person) -> None:
    ada.keep(f"{CATS}.")
    ada.keep(f"{CATS}!")
    looked(ada)
    ada.keep(f"Really, {CATS}.")
    looked(ada)
    (proposal,) = ada.api.proposals(ada.caller)
    assert len(proposal["memories"]) == 3


def test_a_proposal_whose_memories_changed_is_not_carried_out(ada: Person) -> None:
    one = ada.keep(f"{CATS}.")
    two = ada.keep(f"{CATS}!")
    looked(ada)
    (proposal,) = ada.api.proposals(ada.caller)
    ada.update(two, content="Bruno has one dog.")
    assert ada.api.proposals(ada.caller) == []
    with pytest.raises(Conflict, match="have changed"):
        ada.api.approve(ada.caller, proposal["id"])
    assert "merged" not in {ada.state(cube) for cube in (one, two)}
    with pytest.raises(Conflict, match="declined already"):
        ada.api.approve(ada.caller, proposal["id"])


def test_only_who_may_write_approves_or_sees_what_is_proposed(ada: Person, bob: Person) -> None:
    ada.keep(f"{CATS}.")
    ada.keep(f"{CATS}!")
    looked(ada)
    (proposal,) = ada.api.proposals(ada.caller)
    with pytest.raises(NotFound):
        bob.api.approve(bob.caller, proposal["id"])
    ada.api.grant(ada.caller, "personal", "bob", ["read"])
    assert bob.api.proposals(bob.caller) == []
    with pytest.raises(AccessDenied):
        bob.api.decline(bob.caller, proposal["id"])
    with pytest.raises(NotFound):
        ada.api.approve(ada.caller, "nothing")
    ada.api.grant(ada.caller, "personal", "bob", ["write"])
    assert bob.api.approve(bob.caller, proposal["id"])["op"]


def test_secrets_frozen_memories_events_and_other_speakers_are_not_compared(ada: Person) -> None:
    secret, frozen = ada.keep(f"{CATS}."), ada.keep(f"{CATS}!")
    ada.update(secret, sensitivity="secret")
    ada.update(frozen, freeze=True)
    ada.keep(f"{CATS}?")
    for _ in range(2):
        ada.keep(f"{CATS} today.", kind="event")
    ada.at("den").keep(f"{CATS} .")
    looked(ada)
    assert ada.api.proposals(ada.caller) == []


def test_a_purge_leaves_nothing_of_a_proposal(ada: Person) -> None:
    one = ada.keep(f"{CATS}.")
    ada.keep(f"{CATS}!")
    looked(ada)
    ada.forget(one, mode="purge")
    assert ada.api.proposals(ada.caller) == []


def test_from_the_stores_threshold_on_they_are_merged_without_asking(ada: Person) -> None:
    ada.api.parts = replace(ada.api.parts, merge_from=0.99)
    one, two = ada.keep(f"{CATS}.", importance=0.9), ada.keep(f"{CATS}!")
    other, near = ada.keep("Cleo paints the old boats in the small harbour every long summer."), ada.keep(
        "Cleo paints the old boats in the small harbour every summer."
    )
    looked(ada)
    assert {ada.state(cube) for cube in (one, two)} == {"merged"}
    assert "merged" not in {ada.state(cube) for cube in (other, near)}
    (proposal,) = ada.api.proposals(ada.caller)
    assert {row["id"] for row in proposal["memories"]} == {other, near}
    (hit,) = ada.ids("How many cats has Bruno?", top_k=1)
    (operation,) = [row for row in ada.history(hit)["operations"] if row["verb"] == "fuse"]
    assert (operation["principal"], operation["client"]) == ("ada", merging.CLIENT)
    assert "without asking" in (operation["reason"] or "")
    ada.undo(operation["op"])
    looked(ada)
    assert {ada.state(cube) for cube in (one, two)} <= {"generated", "activated"}


def test_what_was_looked_at_is_not_looked_at_again_whatever_ended_the_process(ada: Person) -> None:
    for n in range(merging.BATCH + 8):
        ada.keep(f"Beacon of the name {chr(65 + n % 26)}{n} stands on a hill far from here.")
    ada.keep(f"{CATS}.")
    ada.keep(f"{CATS}!")
    parts = ada.api.parts
    assert eventually(lambda: not parts.indexer.busy)
    assert merging.look(parts) == merging.BATCH  # the process ends here
    assert [merging.look(parts) for _ in range(3)] == [merging.BATCH, 10 - merging.BATCH, 0]
    assert len(ada.api.proposals(ada.caller)) == 1


@pytest.mark.slow
def test_the_job_is_queued_once_and_only_when_there_is_something_new(
    open_kernel: Callable[..., Kernel],
) -> None:
    kernel = open_kernel()
    ada, parts = Person(kernel.api, "ada"), kernel.api.parts
    assert merging.queue(parts) is None
    ada.keep(f"{CATS}.")
    ada.keep(f"{CATS}!")
    kernel.runner.stop()
    job = merging.queue(parts)
    assert job is not None
    assert merging.queue(parts) is None
    found = parts.jobs.find(job)
    assert isinstance(found, Job)
    assert (found.kind, found.total) == (merging.KIND, 2)
    kernel.close()
    again = open_kernel()
    again.api.parts.jobs.notice()
    assert eventually(lambda: again.api.read.job(job)["state"] == "done")
    assert len(again.api.proposals(ada.caller)) == 1
    assert merging.queue(again.api.parts) is None


def test_the_same_in_other_words_is_sure_and_what_says_more_is_less_so(ada: Person) -> None:
    same = ada.keep("My name is Ada Weber."), ada.keep("The user's name is Ada Weber")
    more = ada.keep("The red bicycle is in the cellar."), ada.keep("The red bicycle is in the cellar near the barn.")
    ada.keep("The red bicycle is not in the cellar.")
    looked(ada)
    scores = {tuple(row["id"] for row in one["memories"]): one["score"] for one in ada.api.proposals(ada.caller)}
    assert scores[same] == 1.0
    assert 0.6 <= scores[more] < 1.0


def test_what_a_legal_hold_protects_or_a_policy_keeps_is_not_proposed(ada: Person) -> None:
    one, two = ada.keep(f"{CATS}."), ada.keep(f"{CATS}!")
    other = ada.keep("The harbour opens at seven."), ada.keep("The harbour opens at seven!")
    den = ada.at("den")
    den.keep(f"{CATS}.")
    den.keep(f"{CATS}!")
    ada.api.policy(ada.caller, one, "legal hold")
    ada.api.policy(ada.caller, other[1], "keep")
    ada.api.policy(ada.caller, "den", "keep")
    looked(ada)
    assert ada.api.proposals(ada.caller) == []
    ada.api.policy(ada.caller, one, "none")
    ada.api.policy(ada.caller, two, "decay")
    with ada.api.parts.ledger.write() as connection:
        ada.api.parts.ledger.put(connection, merging.NOTE, "0")
    looked(ada)
    (proposal,) = ada.api.proposals(ada.caller)
    assert [row["id"] for row in proposal["memories"]] == [one, two]


def test_behind_additions_it_is_queued_in_a_quiet_minute_or_after_ten(
    open_kernel: Callable[..., Kernel], clock: Clock
) -> None:
    kernel = open_kernel()
    ada, parts = Person(kernel.api, "ada"), kernel.api.parts
    kernel.runner.stop()
    assert merging.queue(parts, quiet_s=0.0) is None
    ada.keep(f"{CATS}.")
    assert eventually(lambda: not parts.indexer.busy)
    assert merging.queue(parts, quiet_s=merging.QUIET_S - 1) is None, "calls are going on"
    assert merging.queue(parts, quiet_s=merging.QUIET_S)
    assert merging.queue(parts, quiet_s=merging.QUIET_S) is None, "it waits already"
    Runner(parts.jobs, parts.now, {merging.KIND: merging.work(parts)}).run_ready()
    assert merging.queue(parts, quiet_s=merging.QUIET_S) is None, "nothing is new"
    cube = ada.keep(f"{CATS}!")
    assert eventually(lambda: not parts.indexer.busy)
    assert merging.queue(parts, quiet_s=0.0) is None
    clock.advance(minutes=11)
    with parts.ledger.write() as connection:
        row = {"cube": parts.vault.by_ids(connection, [cube])[cube].seq, "space": 1}
        connection.execute(insert(vector_queue), row)
    assert merging.queue(parts, quiet_s=0.0) is None, "it has no vector yet"
    with parts.ledger.write() as connection:
        connection.execute(delete(vector_queue))
    assert merging.queue(parts, quiet_s=0.0)


def test_the_loop_has_it_queued(open_kernel: Callable[..., Kernel], clock: Clock) -> None:
    kernel = open_kernel()
    ada, parts = Person(kernel.api, "ada"), kernel.api.parts
    kernel.runner.stop()
    ada.keep(f"{CATS}.")
    assert eventually(lambda: not parts.indexer.busy)
    assert parts.jobs.unfinished(merging.KIND) == []
    clock.advance(minutes=11)
    assert kernel.loop is not None
    kernel.loop.notice()
    assert eventually(lambda: len(parts.jobs.unfinished(merging.KIND)) == 1)


def test_the_threshold_is_a_percentage(open_kernel: Callable[..., Kernel], home: object) -> None:
    with pytest.raises(InvalidInput, match="at most 100"):
        load({"home": str(home)}, env={}, config={"merge_from": 101})
    first = open_kernel()
    assert first.api.parts.merge_from is None
    first.close()
    write_config(first.settings.home, "merge_from", 95)
    assert open_kernel().api.parts.merge_from == 0.95


def test_a_kind_that_nobody_knows_is_declined(ada: Person) -> None:
    cube = ada.keep("Alpha.")
    with ada.api.parts.ledger.write() as connection:
        found = list(ada.api.parts.vault.by_ids(connection, [cube]).values())
        made = proposals.proposals.propose(connection, "unheard of", found, 0.5, "why not", ada.api.parts.stamp())
    assert made is not None
    with pytest.raises(Conflict):
        ada.api.approve(ada.caller, made)
