"""Channels: what is published reaches those who subscribed and may read, follows its source, and goes when it goes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from person import Clock, Person
from sqlalchemy import delete, func, select

from memos_mcp.errors import AccessDenied, Conflict, InvalidInput, MemosError, NotFound
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import channel_tables as tables
from memos_mcp.ledger.schema import grants, operations

NEWS = "team/news"


@pytest.fixture
def team(ada: Person, bob: Person) -> Person:
    """Bob, in a space of his own; he may read the space team of Ada's."""
    ada.api.read.create_space(ada.caller, "team")
    ada.api.grant(ada.caller, "team", "bob", ["read"])
    return bob.at("den")


def delivered(kernel: Kernel) -> None:
    kernel.deliveries.catch_up()


def count_of(kernel: Kernel, table: Any) -> int:
    with kernel.ledger.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def held(one: Person, channel: str = NEWS) -> list[str]:
    """Ids that a channel holds, in order."""
    return [row["id"] for row in one.api.channel(one.caller, channel)["memories"]]


def copies_of(one: Person, words: str, space: str = "den", **given: Any) -> list[dict[str, Any]]:
    """Memories of the subscriber's own space with these words."""
    return [{**hit} for hit in one.search(words, space=space, top_k=50, **given)["hits"] if hit["space"] == space]


def test_a_published_memory_is_found_and_read_by_subscribers_with_its_origin(ada: Person, team: Person) -> None:
    cube = ada.keep("The harbour opens at seven", tags=["harbour"])
    other = ada.keep("The harbour master is tired")
    done = ada.publish(NEWS, cube)
    assert (done["channel"], done["count"], done["published"], done["unchanged"]) == (NEWS, 1, [cube], [])
    team.keep("Something of bob's own")
    assert cube not in team.ids("When does the harbour open?"), "nobody subscribed yet"
    told = team.subscribe(NEWS)
    assert (told["space"], told["memories"]) == ("den", 1)
    narrowed: list[dict[str, Any]] = [{}, {"space": "den"}, {"tags": ["harbour"]}, {"kinds": ["fact"]}]
    for how in narrowed:
        hits = team.search("When does the harbour open?", **how)["hits"]
        found = {hit["id"]: hit for hit in hits}
        assert found[cube]["space"] == "personal", "a hit names its own space"
        assert other not in found
    assert team.text(cube) == "The harbour opens at seven"
    assert cube not in team.at("elsewhere").ids("harbour"), "another space of his did not subscribe"
    assert "harbour opens" in str(team.context("When does the harbour open?"))


def test_a_reference_is_no_copy_and_follows_new_versions(ada: Person, team: Person, kernel: Kernel) -> None:
    cube = ada.keep("The harbour opens at seven")
    ada.publish(NEWS, cube)
    team.subscribe(NEWS)
    before = kernel.api.read.figures()["cubes"]
    ada.update(cube, content="The harbour opens at eight, as of Monday")
    delivered(kernel)
    hit = next(hit for hit in team.search("harbour opens Monday")["hits"] if hit["id"] == cube)
    assert (hit["text"], hit["version"]) == ("The harbour opens at eight, as of Monday", 2)
    assert kernel.api.read.figures()["cubes"] == before


def test_a_channel_is_the_only_right_that_its_readers_get(ada: Person, team: Person) -> None:
    cube, other = ada.keep("The harbour opens at seven", session="s"), ada.keep("Private talk", session="s")
    ada.publish(NEWS, cube)
    team.subscribe(NEWS)
    for act in (
        lambda: team.update(cube, content="x"),
        lambda: team.forget(cube),
        lambda: team.forget(cube, mode="purge"),
        lambda: team.publish("den/mine", cube),
        lambda: team.share("eve", cube),
        lambda: team.withdraw(NEWS, cube),
        lambda: team.publish(NEWS, team.keep("bob's")),
    ):
        with pytest.raises(AccessDenied):
            act()
    with pytest.raises(NotFound):
        team.text(other)
    assert "Private" not in str(team.search(ids=[cube], around=2))
    eve = Person(ada.api, "eve")
    with pytest.raises(NotFound):
        eve.text(cube)
    with pytest.raises(NotFound, match="channel"):
        eve.subscribe(NEWS)
    acl = ada.api.read.cube(ada.caller, cube)["governance"]["acl"]
    assert {"principal": f"readers of channel {NEWS}", "can": ["read"]} in acl


def test_who_may_not_read_the_channel_sees_nothing_in_a_space_that_subscribed(ada: Person, team: Person) -> None:
    cube = ada.keep("The harbour opens at seven")
    ada.publish(NEWS, cube)
    team.subscribe(NEWS)
    team.api.grant(team.caller, "den", "eve", ["read"])
    eve = Person(ada.api, "eve")
    assert cube not in eve.ids("harbour", space="den")
    ada.api.grant(ada.caller, "team", "eve", ["read"])
    assert cube in eve.ids("harbour", space="den")


def test_withdrawal_ends_references_at_once_and_undo_brings_them_back(ada: Person, team: Person) -> None:
    one, two = ada.keep("The harbour opens at seven"), ada.keep("The harbour closes at nine")
    published = ada.publish(NEWS, one, two)["op"]
    team.subscribe(NEWS)
    assert set(team.ids("harbour")) == {one, two}
    gone = ada.withdraw(NEWS, one)
    assert (gone["withdrawn"], gone["count"]) == ([one], 1)
    assert team.ids("harbour") == [two]
    with pytest.raises(NotFound):
        team.text(one)
    back = ada.undo(gone["op"])
    assert back["undone"] == [one]
    assert set(team.ids("harbour")) == {one, two}
    again = ada.undo(published)
    assert set(again["undone"]) == {one, two}
    assert team.ids("harbour") == []
    ada.undo(again["op"])
    assert set(team.ids("harbour")) == {one, two}
    assert ada.withdraw(NEWS)["count"] == 2
    assert held(ada) == team.ids("harbour") == []
    with pytest.raises(Conflict, match="undone by"):
        ada.undo(gone["op"])


def test_subscribing_is_undone_too_and_ends_by_command(ada: Person, team: Person) -> None:
    cube = ada.keep("The harbour opens at seven")
    ada.publish(NEWS, cube)
    done = team.subscribe(NEWS)
    assert team.subscribe(NEWS)["op"] is None, "it was so already"
    assert team.ids("harbour") == [cube]
    undone = team.undo(done["op"])
    assert team.ids("harbour") == []
    team.undo(undone["op"])
    assert team.ids("harbour") == [cube]
    ended = team.unsubscribe(NEWS)
    assert team.ids("harbour") == []
    assert team.text(cube), "who may read the channel may read it by id"
    with pytest.raises(InvalidInput, match="not subscribed"):
        team.unsubscribe(NEWS)
    team.undo(ended["op"])
    assert team.ids("harbour") == [cube]
    with pytest.raises(NotFound):
        ada.undo(ended["op"])


def test_a_purge_takes_the_memory_out_of_channels_and_copies(ada: Person, team: Person, kernel: Kernel) -> None:
    one, two = ada.keep("The harbour opens at seven"), ada.keep("The harbour closes at nine")
    op = ada.publish(NEWS, one, two)["op"]
    team.subscribe(NEWS, copies=True)
    delivered(kernel)
    copies = copies_of(team, "harbour")
    assert len(copies) == 2
    purged = ada.forget(one, mode="purge")
    assert len(purged["derived"]["cubes"]) == 1
    delivered(kernel)
    assert [hit["text"] for hit in copies_of(team, "harbour")] == ["The harbour closes at nine"]
    assert held(ada) == [two]
    with kernel.ledger.read() as connection:
        for table, column in ((tables.published, "cube"), (tables.copied, "source"), (tables.copied, "copy")):
            assert len(connection.execute(select(table.c[column])).all()) == 1
    assert ada.undo(op)["undone"] == [two], "what is left of it can still be withdrawn"


def test_a_copy_that_its_space_purged_is_not_made_again(ada: Person, team: Person, kernel: Kernel) -> None:
    cube = ada.keep("The harbour opens at seven")
    ada.publish(NEWS, cube)
    team.subscribe(NEWS, copies=True)
    delivered(kernel)
    (copy,) = copies_of(team, "harbour")
    team.forget(copy["id"], mode="purge")
    ada.update(cube, tags=["new"])
    delivered(kernel)
    assert copies_of(team, "harbour") == []
    ada.forget(cube, mode="purge")


def test_copies_have_lineage_and_take_new_versions_as_subscribed(ada: Person, team: Person, kernel: Kernel) -> None:
    cube = ada.keep("The harbour opens at seven", tags=["times"], metadata={"port": "north"}, importance=0.9)
    ada.publish(NEWS, cube)
    team.subscribe(NEWS, copies=True)
    following = team.at("loft")
    following.subscribe(NEWS, copies=True, follow=True)
    delivered(kernel)
    (copy,), (other,) = copies_of(team, "harbour"), copies_of(following, "harbour", "loft")
    whole = team.api.read.cube(team.caller, copy["id"])
    assert whole["lineage"]["links"] == [{"to": cube, "relation": "copied_from"}]
    metadata = {"port": "north", "copied_from": {"uri": f"memcube://{cube}/v/1", "channel": NEWS}}
    assert whole["descriptive"]["metadata"] == metadata
    assert (whole["descriptive"]["tags"], whole["governance"]["owner"]) == (["times"], "bob")
    ada.update(cube, content="The harbour opens at eight")
    delivered(kernel)
    assert team.text(copy["id"]) == "The harbour opens at seven", "offered, and not taken"
    assert following.text(other["id"]) == "The harbour opens at eight"
    taken = team.subscribe(NEWS, copies=True)
    assert taken["taken"] == [copy["id"]]
    assert team.text(copy["id"]) == "The harbour opens at eight"
    assert team.subscribe(NEWS, copies=True)["op"] is None
    team.undo(taken["op"])
    assert team.text(copy["id"]) == "The harbour opens at seven"


def test_an_offer_is_told_and_an_edited_copy_is_not_overwritten_unasked(
    ada: Person, team: Person, kernel: Kernel
) -> None:
    cube = ada.keep("The harbour opens at seven")
    ada.publish(NEWS, cube)
    team.subscribe(NEWS, copies=True, follow=True)
    delivered(kernel)
    (copy,) = copies_of(team, "harbour")
    team.update(copy["id"], content="The harbour opens at seven, bring a lamp")
    ada.update(cube, content="The harbour opens at eight")
    delivered(kernel)
    assert team.text(copy["id"]) == "The harbour opens at seven, bring a lamp"
    op = team.unsubscribe(NEWS)
    assert op["op"] is not None
    delivered(kernel)
    assert team.state(copy["id"]) in ("generated", "activated"), "what was edited is the space's own"


@pytest.mark.parametrize("withdrawal", ["archive", "mark"])
def test_withdrawal_reaches_copies_as_the_publisher_said(
    ada: Person, team: Person, kernel: Kernel, withdrawal: str
) -> None:
    cube = ada.keep("The harbour opens at seven")
    ada.publish(NEWS, cube, withdrawal=withdrawal)
    team.subscribe(NEWS, copies=True)
    delivered(kernel)
    (copy,) = copies_of(team, "harbour")
    gone = ada.withdraw(NEWS)
    delivered(kernel)
    after = team.api.read.cube(team.caller, copy["id"])
    assert (after["governance"]["state"] == "archived") == (withdrawal == "archive")
    assert ("withdrawn" in after["descriptive"]["metadata"]) == (withdrawal == "mark")
    ada.undo(gone["op"])
    delivered(kernel)
    again = team.api.read.cube(team.caller, copy["id"])
    assert again["governance"]["state"] in ("generated", "activated")
    assert "withdrawn" not in again["descriptive"]["metadata"]
    assert len(copies_of(team, "harbour")) == 1


def test_a_published_query_goes_on_taking_in_what_matches(
    ada: Person, team: Person, kernel: Kernel, clock: Clock
) -> None:
    first = ada.keep("Harbour news: the crane is mended", tags=["open"])
    ada.keep("Harbour news: my salary", tags=["closed"])
    done = ada.publish(NEWS, query="harbour news", tags=["open"])
    assert done["published"] == [first]
    assert ada.publish(NEWS, query="harbour news", tags=["open"])["op"] is None
    team.subscribe(NEWS)
    second = ada.keep("News from the harbours: a ship came", tags=["open", "ship"])
    third = ada.keep("Nothing of that kind", tags=["open"])
    ada.keep("Harbour news elsewhere", tags=["open"], space="attic")
    delivered(kernel)
    assert held(team) == [first, second]
    assert set(team.ids("harbour")) == {first, second}
    ada.update(third, content="More harbour news")
    ada.update(second, tags=["ship"])
    delivered(kernel)
    assert held(team) == [first, third], "what does not match any more is published no more"
    clock.advance(days=1)
    ada.undo(done["op"])
    ada.keep("Harbour news of today", tags=["open"])
    delivered(kernel)
    assert held(ada) == []


def test_a_query_of_chinese_words_takes_in_chinese_memories(ada: Person, team: Person, kernel: Kernel) -> None:
    first = ada.keep("港口早上七点开门")
    channel = "team/新闻 📰"
    ada.publish(channel, query="港口")
    team.subscribe(channel)
    second = ada.keep("港口晚上九点关门 🚢")
    ada.keep("机场晚上关门")
    delivered(kernel)
    assert held(team, channel) == [first, second]
    uri = ada.publish(channel, second)["uri"]
    assert uri.isascii()
    assert held(team, uri) == [first, second]


def test_what_is_private_or_secret_is_never_published(ada: Person, team: Person, kernel: Kernel) -> None:
    ada.keep("Something else")
    ada.publish(NEWS, tags=["open"])
    cubes = [ada.keep(f"Harbour {i}", tags=["open"]) for i in range(3)]
    delivered(kernel)
    team.subscribe(NEWS)
    assert set(team.ids("harbour")) == set(cubes)
    hidden = ada.update(cubes[0], sensitivity="secret")
    assert set(team.ids("harbour")) == set(cubes[1:]), "at once"
    with pytest.raises(NotFound):
        team.text(cubes[0])
    delivered(kernel)
    ada.undo(hidden["op"])
    delivered(kernel)
    assert set(team.ids("harbour")) == set(cubes)
    private = ada.keep("Harbour of my own")
    ada.update(private, sensitivity="private")
    with pytest.raises(Conflict, match="is private and stays with its owner"):
        ada.publish(NEWS, private)
    gone = ada.withdraw(NEWS)
    ada.update(cubes[1], sensitivity="private")
    with pytest.raises(Conflict, match="not published again"):
        ada.undo(gone["op"])


def test_a_publisher_who_may_not_share_any_more_publishes_no_more(ada: Person, bob: Person, kernel: Kernel) -> None:
    ada.api.read.create_space(ada.caller, "shop")
    ada.api.grant(ada.caller, "shop", "bob", ["read", "write"])
    cube = ada.keep("The harbour opens at seven", space="shop")
    for act in (lambda: bob.publish("own/x", cube), lambda: bob.at("shop").publish("own/x", query="harbour")):
        with pytest.raises(AccessDenied, match="may not share"):
            act()
    ada.api.grant(ada.caller, "shop", "bob", ["share"])
    assert bob.publish("own/x", cube)["count"] == 1


def test_the_owner_of_a_memory_and_of_a_channel_can_withdraw_what_others_published(
    ada: Person, bob: Person, kernel: Kernel
) -> None:
    ada.api.read.create_space(ada.caller, "team")
    ada.api.grant(ada.caller, "team", "bob", ["read", "write"])
    mine = bob.keep("The harbour opens at seven", space="den")
    theirs = ada.keep("The harbour closes at nine", space="team")
    bob.publish(NEWS, mine)
    assert ada.withdraw(NEWS, mine)["withdrawn"] == [mine]
    ada.api.grant(ada.caller, "team", "bob", ["share"])
    bob.publish(NEWS, theirs)
    assert ada.withdraw(NEWS, theirs)["withdrawn"] == [theirs]
    with pytest.raises(NotFound, match="not published"):
        ada.withdraw(NEWS, theirs)


@pytest.mark.parametrize(
    ("act", "error", "said"),
    [
        (lambda p, _: p.subscribe("team/nothing"), NotFound, "made by the first memory|you can read"),
        (lambda p, _: p.subscribe(""), InvalidInput, "1 to 100 characters"),
        (lambda p, _: p.subscribe("a/" + "x" * 101), InvalidInput, "1 to 100 characters"),
        (lambda p, _: p.subscribe("new\nline"), InvalidInput, "control characters"),
        (lambda p, _: p.subscribe("x", follow=True), InvalidInput, "References follow by themselves"),
        (lambda p, cube: p.publish("x"), InvalidInput, "either ids or a query"),
        (lambda p, cube: p.publish("x", cube, query="y"), InvalidInput, "either ids or a query"),
        (lambda p, cube: p.publish("x", query=" … "), InvalidInput, "holds no word"),
        (lambda p, cube: p.publish("x", query=""), InvalidInput, "holds no word"),
        (lambda p, cube: p.publish("x", "nope", cube), NotFound, "nope"),
        (lambda p, cube: p.publish("memos://channels/a/b%2Fc", cube), InvalidInput, "no '/'"),
        (lambda p, cube: p.withdraw("x", cube), NotFound, "channel"),
        (lambda p, cube: p.api.channel(p.caller, "x"), NotFound, "channel"),
        (lambda p, cube: p.publish("x", *[cube] * 10_000), ValueError, "200"),
        (lambda p, cube: p.publish("x", cube, withdrawal="burn"), ValueError, "archive"),
    ],
)
def test_bad_input_gets_a_clear_sentence_and_changes_nothing(
    ada: Person, kernel: Kernel, act: Any, error: type[Exception], said: str
) -> None:
    cube = ada.keep("The harbour opens at seven")
    before = count_of(kernel, operations)
    with pytest.raises(error, match=said):
        act(ada, cube)
    assert count_of(kernel, operations) == before
    assert count_of(kernel, tables.channels) == 0


def test_what_is_over_is_not_published_and_the_sentence_says_which(ada: Person) -> None:
    old, new = ada.keep("The harbour opens at seven"), ""
    new = ada.keep("The harbour opens at eight", supersedes=[old])
    ada.publish("x", new)
    with pytest.raises(Conflict, match=f"{old} is superseded by {new}"):
        ada.publish("x", old)
    ada.forget(new)
    with pytest.raises(Conflict, match=f"{new} is archived"):
        ada.publish("y", new)


@pytest.mark.slow
def test_a_thousand_references_are_found_among_ones_own(ada: Person, team: Person, kernel: Kernel) -> None:
    texts = [f"Berth number {i} is for the ship {i * 7919 % 1009}" for i in range(1_000)]
    ada.add(messages=[{"role": "user", "content": text} for text in texts], tags=["berth"])
    done = ada.publish(NEWS, tags=["berth"])
    assert (done["count"], len(done["published"])) == (1_000, 200)
    team.subscribe(NEWS)
    team.keep("Berth of my own boat")
    hits = team.search("Which ship is at berth number 517?", top_k=10)["hits"]
    assert any(hit["text"] == texts[517] for hit in hits)
    pages, after = [], 0
    while after is not None:
        page = team.api.channel(team.caller, NEWS, after)
        pages += [row["id"] for row in page["memories"]]
        after = page["next"]
    assert len(set(pages)) == len(pages) == page["count"] == 1_000
    team.subscribe(NEWS, copies=True)
    delivered(kernel)
    assert len(copies_of(team, "berth", tags=["berth"])) == 50
    delivered(kernel)
    assert kernel.api.read.figures()["cubes"] == 2_001, "each once, whatever is repeated"


def test_what_a_crash_interrupted_is_done_after_the_next_start(ada: Person, open_kernel: Any, kernel: Kernel) -> None:
    kernel.deliveries.stop()
    cube = ada.keep("The harbour opens at seven")
    ada.publish("news", query="harbour")
    ada.at("den").subscribe("personal/news", copies=True)
    later = ada.keep("The harbour closes at nine")
    kernel.close()
    again = open_kernel()
    there = Person(again.api, "ada", "den")
    again.deliveries.catch_up()
    assert held(there, "personal/news") == [cube, later]
    assert len(copies_of(there, "harbour")) == 2


def test_copies_of_copies_end(ada: Person, kernel: Kernel) -> None:
    """Two spaces that publish to one another what they get would go on for ever."""
    one, two = ada.at("one"), ada.at("two")
    one.keep("The harbour opens at seven")
    two.keep("Nothing")
    one.publish("out", query="harbour")
    two.publish("out", query="harbour")
    two.subscribe("one/out", copies=True)
    one.subscribe("two/out", copies=True)
    delivered(kernel)
    assert kernel.api.read.figures()["cubes"] == 3


def test_a_store_that_publishes_nothing_notes_nothing(ada: Person, kernel: Kernel) -> None:
    ada.keep("The harbour opens at seven")
    assert kernel.deliveries.catch_up() is None
    with kernel.ledger.read() as connection:
        assert kernel.ledger.get(connection, "channels-upto") is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["publish", "publish two", "withdraw", "withdraw one", "undo", "subscribe", "copies", "end"]),
        st.integers(0, 2),
    ),
    max_size=8,
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
@example([('subscribe', 0), ('end', 0), ('copies', 0), ('undo', 1)])
def test_whatever_is_done_what_is_read_is_what_stands(kernel: Kernel, steps: list[tuple[str, int]]) -> None:
    """Access, search and the channel's list agree after every step; undo(undo(x)) is x."""
    number = count_of(kernel, tables.channels)
    ada, bob = Person(kernel.api, "ada", f"home {number}"), Person(kernel.api, "bob", f"den {number}")
    channel = f"home {number}/news"
    cubes = [ada.keep(f"Lantern {number} {i}") for i in range(3)]
    kernel.api.read.create_space(ada.caller, "room")
    ada.api.grant(ada.caller, ada.caller.space, "bob", ["read"])
    bob.keep("Mine")
    ada.publish(channel, cubes[0])
    ops: list[tuple[Person, str]] = []
    for step, i in steps:
        who, op = bob if step in ("subscribe", "copies", "end") else ada, ""
        if step == "undo":
            if not ops:
                continue
            who, op = ops[-1 - i % len(ops)]
        act = {
            "publish": lambda i=i: ada.publish(channel, cubes[i]),
            "publish two": lambda: ada.publish(channel, *cubes[:2]),
            "withdraw": lambda: ada.withdraw(channel),
            "withdraw one": lambda i=i: ada.withdraw(channel, cubes[i]),
            "subscribe": lambda: bob.subscribe(channel),
            "copies": lambda: bob.subscribe(channel, copies=True),
            "end": lambda: bob.unsubscribe(channel),
            "undo": lambda who=who, op=op: who.undo(op),
        }[step]
        before = held(ada, channel)
        try:
            done: Any = act()
        except (Conflict, NotFound, InvalidInput):
            assert held(ada, channel) == before
            continue
        if done["op"] is not None:
            if step != "undo":
                ops.append((who, done["op"]))
            back = who.undo(done["op"])["op"] if step == "undo" else ""
            if back:
                who.undo(back)
        delivered(kernel)
        stands = set(held(ada, channel))
        ways = {row["channel"]: row["subscribed"] for row in bob.api.channels(bob.caller)}
        eve = Person(kernel.api, "eve")
        for cube in cubes:
            with pytest.raises(NotFound):
                eve.text(cube)
        found = set(bob.ids(f"Lantern {number}", space=bob.caller.space, top_k=50)) & set(cubes)
        assert found == (stands if ways[channel] == "references" else set())
        copies = copies_of(bob, f"Lantern {number}", bob.caller.space)
        assert len([hit for hit in copies if hit["text"] != "Mine"]) == (
            len(stands) if ways[channel] == "copies" else 0
        )


def test_errors_of_a_channel_name_the_ones_there_are(ada: Person) -> None:
    ada.publish("news", ada.keep("The harbour opens at seven"))
    with pytest.raises(MemosError, match="you can read 'personal/news'"):
        ada.subscribe("nwes")


def test_a_reader_of_a_channel_learns_nothing_of_a_memorys_past(ada: Person, team: Person, clock: Clock) -> None:
    cube = ada.keep("The code of the gate is 4711")
    was = clock.advance(days=1)
    clock.advance(days=1)
    ada.update(cube, content="The gate opens at seven")
    ada.publish(NEWS, cube)
    team.subscribe(NEWS)
    assert team.ids("gate") == [cube]
    told = team.history(cube)
    assert ([one["text"] for one in told["versions"]], told["operations"]) == (["The gate opens at seven"], [])
    with pytest.raises(NotFound):
        team.api.read.cube(team.caller, cube, 1)
    assert team.api.read.cube(team.caller, cube, 2)["version"] == 2
    assert team.ids("gate", as_of=was) == []
    assert ada.ids("gate", as_of=was) == [cube]


def test_a_subscription_can_be_ended_by_who_may_not_read_the_channel_any_more(ada: Person, team: Person) -> None:
    ada.publish(NEWS, ada.keep("The harbour opens at seven"))
    team.subscribe(NEWS)
    with ada.api.parts.ledger.write() as connection:
        connection.execute(delete(grants).where(grants.c.principal == "bob"))
    assert team.ids("harbour") == []
    assert team.unsubscribe(NEWS)["op"] is not None


def test_hosts_that_publish_and_withdraw_at_once_leave_one_truth(ada: Person, team: Person, kernel: Kernel) -> None:
    cubes = [ada.keep(f"The harbour has berth {i}") for i in range(8)]
    ada.publish(NEWS, cubes[0])
    team.subscribe(NEWS)

    def host(number: int) -> None:
        for cube in cubes[number::2]:
            ada.publish(NEWS, cube)
            team.ids("harbour")
            if number:
                ada.withdraw(NEWS, cube)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(host, range(2)))
    delivered(kernel)
    assert set(held(ada)) == set(cubes[0::2]) == set(team.ids("harbour", top_k=20))
