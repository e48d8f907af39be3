"""The verb graph: what stands around a memory or a name, within bounds, for those who may see it, at a time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from person import Clock, Person, eventually
from pydantic import ValidationError
from sqlalchemy import insert, select

from memos_mcp.errors import InvalidInput, NotFound
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import schema
from memos_mcp.ledger.migrations import MIGRATIONS
from memos_mcp.memory_api.graph import FAN, MOST_EDGES, MOST_NODES, TEXT
from memos_mcp.requests import GraphRequest
from memos_mcp.results import GraphResult

AS_TRIPLES = {"format": "triples"}


def triples(ada: Person, *rows: tuple[str, ...], **more: object) -> list[str]:
    """Keep triples; returns the ids of the memories."""
    return [cube["id"] for cube in ada.add(json.dumps(rows), metadata=AS_TRIPLES, **more)["cubes"]]


def edges(result: GraphResult) -> set[tuple[str, str, str]]:
    return {(edge["from"], edge["relation"], edge["to"]) for edge in result["edges"]}


def nodes(result: GraphResult) -> dict[str, int]:
    """Nodes with their distance."""
    return {node["id"]: node["depth"] for node in result["nodes"]}


def tables(home: Path) -> dict[str, list[tuple[object, ...]]]:
    """What the ledger's file holds of the graph."""
    with sqlite3.connect(home / "ledger.db") as connection:
        found = {
            "entities": connection.execute("SELECT space, key, name, kind FROM entities ORDER BY 1, 2").fetchall(),
            "mentions": connection.execute(
                "SELECT key, cube FROM mentions JOIN entities ON id = entity ORDER BY 1, 2").fetchall(),
            "relations": connection.execute(
                "SELECT s.key, relation, o.key, cube, valid_from, valid_to FROM relations "
                "JOIN entities s ON s.id = subject JOIN entities o ON o.id = object ORDER BY 1, 2, 3, 4").fetchall(),
        }  # fmt: skip
    connection.close()
    return found


# --- walking


def test_a_name_leads_to_the_memories_that_mention_it_and_to_what_they_state(ada: Person) -> None:
    cube = ada.keep("Last week Bob Stone moved to Lisbon with Anna.")
    result = ada.graph("Bob Stone")
    assert edges(result) == {("Bob Stone", "moved to", "Lisbon"), (cube, "mentions", "Bob Stone")}
    assert nodes(result) == {"Bob Stone": 0, "Lisbon": 1, cube: 1}
    stating = next(edge for edge in result["edges"] if edge["relation"] == "moved to")
    assert (stating["memory"], stating["valid_to"]) == (cube, None)
    assert stating["valid_from"].startswith("2026-03-01")


def test_a_memory_leads_to_what_it_names_and_along_links_both_ways(ada: Person) -> None:
    trip = ada.keep("We planned a trip to Rome.")
    hotel = ada.keep("The hotel is booked.", links=[{"to": trip, "relation": "part_of"}])
    assert edges(ada.graph(trip)) == {(trip, "mentions", "Rome"), (hotel, "part_of", trip)}
    assert edges(ada.graph(f"memcube://{hotel}")) == {(hotel, "part_of", trip)}
    assert edges(ada.graph(hotel, direction="in")) == set()
    assert edges(ada.graph(trip, direction="in")) == {(hotel, "part_of", trip)}
    assert edges(ada.graph(trip, direction="out")) == {(trip, "mentions", "Rome")}
    assert edges(ada.graph(hotel, depth=2)) == {(hotel, "part_of", trip), (trip, "mentions", "Rome")}


def test_one_relation_is_followed_alone_however_it_is_written(ada: Person) -> None:
    triples(ada, ("Ada", "reports_to", "Bob"), ("Bob", "reports to", "Carla"), ("Ada", "likes", "Chess"))
    for written in ("reports to", "reportsTo", "Reports_To"):
        result = ada.graph("ada", relation=written, direction="out", depth=4)
        assert edges(result) == {("Ada", "reports to", "Bob"), ("Bob", "reports to", "Carla")}
    assert nodes(ada.graph("Carla", relation="reports to", direction="in", depth=4)) == {"Carla": 0, "Bob": 1, "Ada": 2}
    one = ada.keep("First.")
    two = ada.keep("Second.", links=[{"to": one, "relation": "Depends_On"}])
    assert edges(ada.graph(one, relation="depends on")) == {(two, "Depends_On", one)}


def test_circles_end(ada: Person) -> None:
    triples(ada, ("Ada", "knows", "Bob"), ("Bob", "knows", "Carla"), ("Carla", "knows", "Ada"))
    result = ada.graph("Ada", relation="knows", depth=4)
    assert edges(result) == {("Ada", "knows", "Bob"), ("Bob", "knows", "Carla"), ("Carla", "knows", "Ada")}
    assert nodes(result) == {"Ada": 0, "Bob": 1, "Carla": 1}


def test_questions_that_need_several_memories_are_one_walk(ada: Person) -> None:
    ada.keep("Maria volunteers at Hope House.")
    met = ada.keep("At Hope House somebody called Laura wrote a letter.")
    assert met in nodes(ada.graph("Hope House"))
    assert nodes(ada.graph("Maria", depth=4))[met] <= 3


def test_chinese_names_are_walked_from(ada: Person) -> None:
    cube = ada.keep("小王在北京大学读书。")
    assert edges(ada.graph("北京大学")) == {("小王", "在…读书", "北京大学"), (cube, "mentions", "北京大学")}


def test_a_wide_neighbourhood_is_cut_and_the_cut_is_said(ada: Person) -> None:
    triples(ada, *((f"Person {i}", "knows", "Ada") for i in range(FAN + 5)))
    result = ada.graph("Ada", relation="knows")
    assert len(result["edges"]) == FAN
    assert f"{FAN} newest" in result["next"]
    triples(ada, *((f"Person {i}", "knows", f"Friend {j}") for i in range(FAN + 5) for j in range(9)))
    wide = ada.graph("Ada", depth=4)
    assert len(wide["nodes"]) <= MOST_NODES
    assert len(wide["edges"]) <= MOST_EDGES
    assert "Cut at" in wide["next"]
    assert {edge[end] for edge in wide["edges"] for end in ("from", "to")} <= set(nodes(wide))


def test_a_long_memory_is_shown_by_its_beginning(ada: Person) -> None:
    cube = ada.keep("Bob Stone is here. " + "word " * 500)
    (shown,) = [node for node in ada.graph(cube)["nodes"] if node["id"] == cube]
    assert len(shown["text"]) == TEXT
    assert shown["text"].endswith("…")


# --- where a walk begins


def test_a_part_of_a_name_will_do_where_it_is_the_part_of_one(ada: Person) -> None:
    ada.keep("Yesterday we met Ada Lovelace.")
    assert ada.graph("lovelace")["nodes"][0]["id"] == "Ada Lovelace"
    assert ada.graph("  The ADA lovelace's ")["nodes"][0]["id"] == "Ada Lovelace"
    ada.keep("Yesterday we met Ada Byron.")
    with pytest.raises(NotFound, match="'Ada Byron', 'Ada Lovelace'"):
        ada.graph("Ada")


@pytest.mark.parametrize(
    "start", ["Nobody", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "%", "_", "…", " ", "\0", "🎉", "ﷺ", "' OR 1=1 --"]
)
def test_what_is_not_there_is_said_with_what_to_do(ada: Person, start: str) -> None:
    ada.keep("Yesterday we met Ada Lovelace.")
    with pytest.raises(NotFound, match="a name that memories mention"):
        ada.graph(start)


@pytest.mark.parametrize(
    "given",
    [{"depth": 0}, {"depth": 5}, {"direction": "up"}, {"relation": "x" * 201}, {"unknown": 1}, {"depth": "deep"}],
)
def test_arguments_are_bounded(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GraphRequest.model_validate({"from": "Ada", **given})
    with pytest.raises(ValidationError):
        GraphRequest.model_validate({"from": ""})


def test_a_relation_or_time_that_cannot_be_one_is_refused(ada: Person) -> None:
    for wrong in ({"relation": " "}, {"relation": "a\nb"}, {"as_of": "someday"}):
        with pytest.raises(InvalidInput):
            ada.graph("Ada", **wrong)


def test_nothing_in_the_relation_is_said_in_words(ada: Person) -> None:
    ada.keep("Yesterday we met Ada Lovelace.")
    result = ada.graph("Ada Lovelace", relation="knows")
    assert result["edges"] == []
    assert "leave relation out" in result["next"]


# --- what stands, and when


def test_what_was_superseded_archived_or_is_over_leads_nowhere(ada: Person, clock: Clock) -> None:
    old = ada.keep("Since then Bob Stone lives in Lisbon.")
    ada.keep("Since then Bob Stone lives in Porto.", supersedes=[old])
    gone = ada.keep("Once Bob Stone visited Rome.")
    ada.forget(gone)
    ada.keep("For now Bob Stone visited Oslo.", expires="2026-03-02")
    clock.advance(days=2)
    found = edges(ada.graph("Bob Stone"))
    assert {edge for edge in found if edge[0] == "Bob Stone"} == {("Bob Stone", "lives in", "Porto")}
    with pytest.raises(NotFound):
        ada.graph("Rome")


def test_a_replaced_memory_is_reached_when_that_is_asked_for(ada: Person) -> None:
    old = ada.keep("The meeting is on Tuesday.")
    new = ada.keep("The meeting is on Friday.", supersedes=[old])
    assert edges(ada.graph(new)) == set()
    assert edges(ada.graph(new, relation="supersedes")) == {(new, "supersedes", old)}
    assert edges(ada.graph(old)) == {(new, "supersedes", old)}


def test_as_of_shows_what_was_true_then(ada: Person) -> None:
    first = ada.keep("Since then Bob Stone lives in Lisbon.", time="2020-01-01")
    ada.keep("Since then Bob Stone lives in Porto.", time="2023-01-01", supersedes=[first])
    works = ("Bob Stone", "works at")
    triples(ada, (*works, "Acme", "2015-01-01", "2018-01-01"), (*works, "Initech", "2018"))

    def at(moment: str | None) -> set[str]:
        return {to for start, _, to in edges(ada.graph("Bob Stone", direction="out", as_of=moment))}

    assert at(None) == {"Porto", "Initech"}
    assert at("2016-05-05") == {"Acme"}
    assert at("2021-05-05") == {"Lisbon", "Initech"}
    assert at("2024-05-05") == {"Porto", "Initech"}
    (edge,) = ada.graph("Lisbon", relation="lives in", as_of="2021-05-05")["edges"]
    assert (edge["valid_from"][:10], edge["valid_to"]) == ("2020-01-01", "2023-01-01T00:00:00.000Z")
    with pytest.raises(NotFound):
        ada.graph("Bob Stone", as_of="2000-01-01")


def test_changes_and_undoing_change_the_graph(ada: Person, home: Path) -> None:
    cube = ada.keep("We know that Bob likes Chess.")
    assert ("Bob", "likes", "Chess") in edges(ada.graph("Bob"))
    op = ada.update(cube, content="We know that Bob likes Rowing.")["op"]
    assert ("Bob", "likes", "Rowing") in edges(ada.graph("Bob"))
    assert [row[1] for row in tables(home)["entities"]] == ["bob", "rowing"]
    ada.undo(op)
    assert ("Bob", "likes", "Chess") in edges(ada.graph("Bob"))
    ada.undo(ada.history(cube)["operations"][0]["op"])
    with pytest.raises(NotFound):
        ada.graph("Bob")


def test_a_purged_memory_leaves_no_name_that_only_it_mentions(ada: Person, home: Path) -> None:
    doomed = ada.keep("We know that Bob Vaxlorqump likes Anna.")
    kept = ada.keep("We called Anna.")
    assert nodes(ada.graph("Anna", depth=2))
    ada.forget(doomed, mode="purge")
    assert edges(ada.graph("Anna")) == {(kept, "mentions", "Anna")}
    assert [row[1] for row in tables(home)["entities"]] == ["anna"]
    assert tables(home)["relations"] == []


def test_no_byte_of_a_purged_name_stays_in_any_file(open_kernel: Callable[..., Kernel], home: Path) -> None:
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    words = [f"Brithnavoq{chr(97 + i)}xel" for i in range(26)]
    fillers = [f"We met Somebody{chr(97 + i // 26)}{chr(97 + i % 26)}er Else." for i in range(400)]
    ada.add(messages=[{"role": "user", "content": text} for text in fillers[:200]])
    doomed = [ada.keep(f"Then {word} met Anna in Lisbon.") for word in words]
    ada.add(messages=[{"role": "user", "content": text} for text in fillers[200:]])
    assert len(ada.graph("Lisbon", depth=2)["nodes"]) > 20
    for cube in doomed:
        ada.forget(cube, mode="purge")
    for moment in ("while it runs", "after its end"):
        files = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
        traces = {trace for word in words for trace in (word.encode(), word.lower().encode())}
        assert not [trace for trace in traces for data in files if trace in data], moment
        kernel.close()


# --- who sees what


def test_others_see_nothing_of_a_space_that_is_not_theirs(ada: Person, bob: Person) -> None:
    cube = ada.keep("We know that Carla likes Chess.")
    ada.graph("Carla")
    own = bob.at("bob's")
    own.keep("Today Carla called.")
    assert edges(own.graph("Carla", depth=3)) == {(own.ids("Carla")[0], "mentions", "Carla")}
    for start in (cube, "Chess"):
        with pytest.raises(NotFound):
            own.graph(start)


def test_a_granted_space_joins_the_walk_and_a_shared_memory_brings_itself_alone(ada: Person, bob: Person) -> None:
    team = ada.at("team")
    told = team.keep("We know that Carla likes Chess.")
    alone, hidden = ada.keep("We know that Carla met Dora."), ada.keep("We know that Carla met Egon.")
    own = bob.at("bob's")
    own.keep("Today Carla called.")
    ada.api.grant(ada.caller, "team", "bob", ["read"])
    with ada.api.parts.ledger.write() as connection:
        seq = connection.execute(select(schema.cubes.c.seq).where(schema.cubes.c.id == alone)).scalar_one()
        connection.execute(insert(schema.grants), {"cube": seq, "principal": "bob", "can": "read"})
    found = own.graph("Carla", depth=3)
    assert {("Carla", "likes", "Chess"), ("Carla", "met", "Dora"), (told, "mentions", "Carla")} <= edges(found)
    assert alone in nodes(found)
    assert hidden not in nodes(found)
    assert "Egon" not in nodes(found)
    assert nodes(own.graph(alone)).keys() == {alone, "Carla", "Dora"}


def test_a_link_to_what_the_caller_may_not_read_is_not_told(ada: Person, bob: Person) -> None:
    secret = ada.keep("The secret plan.")
    team = ada.at("team")
    open_one = team.keep("The public plan.", links=[{"to": secret, "relation": "part_of"}])
    ada.api.grant(ada.caller, "team", "bob", ["read"])
    assert edges(ada.graph(open_one)) == {(open_one, "part_of", secret)}
    assert edges(bob.at("bob's").graph(open_one)) == set()


# --- kept up behind the calls


def test_the_graph_follows_behind_the_additions_without_being_asked(ada: Person, home: Path) -> None:
    ada.keep("Yesterday we met Ada Lovelace.")
    assert eventually(lambda: any(row[1] == "ada lovelace" for row in tables(home)["entities"]))
    assert eventually(lambda: not ada.api.parts.weaver.busy)


def test_a_store_of_the_former_schema_gets_its_graph(open_kernel: Callable[..., Kernel], home: Path) -> None:
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    cube = ada.keep("We know that Bob likes Chess.")
    kernel.close()
    with sqlite3.connect(home / "ledger.db") as connection:
        for table in ("relations", "mentions", "entities"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("DELETE FROM meta WHERE key = 'graph'")
        connection.execute("DELETE FROM applied_migrations WHERE number > 2")
    connection.close()
    assert [migration.name for migration in MIGRATIONS[:3]] == ["first schema", "requests and answers", "graph"]
    kernel = open_kernel()
    ada = Person(kernel.api, "ada")
    assert (cube, "mentions", "Bob") in edges(ada.graph("Bob"))


def test_a_rebuild_gives_the_same_graph(ada: Person, home: Path) -> None:
    triples(ada, ("Ada", "knows", "Bob", "2020-01-01"), ("Bob", "likes", "Chess"))
    said = {"role": "user", "content": "Today Bob called Anna."}
    ada.add(messages=[{**said, "name": f"Speaker {i}"} for i in range(150)])
    ada.update(ada.keep("We met Carla."), content="We met Dora.")
    ada.api.parts.weaver.catch_up()
    before, steps = tables(home), list[tuple[int, int]]()
    ada.api.parts.weaver.rebuild(lambda done, total: steps.append((done, total)))
    assert tables(home) == before
    assert steps[-1] == (153, 153)
    assert "carla" not in [row[1] for row in before["entities"]]


def test_other_rules_read_everything_again(ada: Person, home: Path) -> None:
    ada.keep("We met Anna Berg.")
    ada.api.parts.weaver.catch_up()
    with ada.api.parts.ledger.write() as connection:
        ada.api.parts.ledger.put(connection, "graph", json.dumps([0, 10**6, "Z"]))
        connection.execute(schema.mentions.delete())
        connection.execute(schema.entities.delete())
    assert ada.graph("Anna Berg")["edges"]


def test_a_store_that_can_only_be_read_is_walked_as_it_stands(ada: Person) -> None:
    ada.keep("We met Anna Berg.")
    ada.api.parts.weaver.catch_up()
    ada.api.parts.ledger.read_only = True
    try:
        assert ada.graph("Anna Berg")["edges"]
    finally:
        ada.api.parts.ledger.read_only = False


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(*[st.sampled_from("ABCDEF")] * 2, st.sampled_from(["knows", "likes"])), max_size=12),
    depth=st.integers(1, 4),
    direction=st.sampled_from(["out", "in", "both"]),
)
def test_a_walk_reaches_all_that_stands_within_its_depth(
    ada: Person, rows: list[tuple[str, str, str]], depth: int, direction: str
) -> None:
    space = f"case {ada.api.read.stats(ada.caller)['operations']}"
    mine = ada.at(space)
    wanted = {(f"Node {a}", verb, f"Node {b}") for a, b, verb in rows if a != b}
    triples(mine, ("Node A", "knows", "Node A0"), *wanted)
    steps = {(a, b) for a, _, b in wanted | {("Node A", "knows", "Node A0")}}
    reach = {"out": steps, "in": {(b, a) for a, b in steps}}
    moves = reach["out"] | reach["in"] if direction == "both" else reach[direction]
    expected = {"Node A": 0}
    for distance in range(1, depth + 1):
        for a, b in moves:
            if expected.get(a) == distance - 1:
                expected.setdefault(b, distance)
    found = mine.graph("Node A", depth=depth, direction=direction)
    names = {node["id"]: node["depth"] for node in found["nodes"] if node["type"] == "name"}
    assert expected.keys() <= names.keys()
    assert all(names[name] <= far for name, far in expected.items())
    assert mine.graph("Node A", depth=depth, direction=direction) == found


def test_a_walk_that_comes_before_the_newest_were_read_says_so(ada: Person) -> None:
    ada.keep("We met Anna Berg.")
    ada.api.parts.weaver.catch_up()
    ada.api.parts.weaver.stop()
    ada.add(messages=[{"role": "user", "content": f"Line {n} about Anna Berg."} for n in range(100)])
    assert "ask again" in ada.graph("Anna Berg")["degraded"]
