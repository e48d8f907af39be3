"""Documents as trees of memories: kept in parts, kept again, changed, read, moved and forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from person import Person
from sqlalchemy import insert

from memos_mcp.documents.manuscript import SPLIT_FROM
from memos_mcp.documents.position import DOCUMENT, own_text, path, position_of, sum_of
from memos_mcp.documents.position import Position as At
from memos_mcp.errors import AccessDenied, Conflict, InvalidInput, NotFound
from memos_mcp.gateway import texts
from memos_mcp.ledger.schema import grants
from memos_mcp.requests import AddRequest, DocumentRequest, DropRequest, MoveRequest
from memos_mcp.results import DocumentResult, MoveResult, TreeNode
from memos_mcp.states import LIVE

LINUX = "Run the package manager and wait for the harbour light to turn green. " * 18
MAC = "Open the orchard image and drag the lamp into the meadow folder. " * 12
USE = "Start the signal with the copper key and watch the ledger. " * 20
GUIDE = f"# Guide\n\nWelcome.\n\n## Install\n\n### Linux\n\n{LINUX}\n\n### Mac\n\n{MAC}\n\n## Use\n\n{USE}\n"


def keep(person: Person, of: str, content: str, **given: Any) -> DocumentResult:
    return person.api.keep_document(person.caller, DocumentRequest(of=of, title=of, content=content, **given))


def move(person: Person, cube: str, under: str | None, place: int | None = None) -> MoveResult:
    return person.api.move(person.caller, MoveRequest(id=cube, under=under, place=place))


def held(person: Person, of: str) -> str:
    """The source as the live parts of a document hold it."""
    parts = person.api.parts
    with parts.ledger.read() as connection:
        cubes = [c for space in (1, 2) for c in parts.vault.holding(connection, space, "document.of", of)]
    rows = [(at, cube) for cube in cubes if (at := position_of(cube.snapshot)) is not None and cube.state in LIVE]
    inner = sorted((row for row in rows if row[0].node != DOCUMENT), key=lambda row: row[0].start or 0)
    if not inner:
        return "".join(cube.snapshot.content for _, cube in rows)
    own = [own_text(cube.snapshot) for _, cube in inner]
    assert [(at.end or 0) - (at.start or 0) for at, _ in inner] == [len(text) for text in own]
    return "".join(own)


def titles(node: TreeNode) -> list[Any]:
    """A tree as nested lists of titles."""
    return [node["title"], *(titles(child) for child in node["children"])]


def ids(node: TreeNode) -> dict[str, str]:
    """Ids of a tree's nodes by title."""
    found = {node["title"]: node["id"]}
    for child in node["children"]:
        found |= ids(child)
    return found


def tree(person: Person, cube: str) -> TreeNode:
    return person.api.tree(person.caller, cube)["tree"]


# --- kept


def test_a_long_document_is_kept_in_parts_that_join_to_its_text(ada: Person) -> None:
    added = ada.add(GUIDE, kind="document", ref="guide", tags=["docs"], importance=0.9, metadata={"year": 2026})
    assert len(added["cubes"]) == 6
    assert held(ada, "guide") == GUIDE
    assert added["similar"] is None
    cube = ada.api.read.cube(ada.caller, added["cubes"][3]["id"])
    assert cube["descriptive"]["metadata"]["year"] == 2026
    assert cube["descriptive"]["metadata"]["document"] == {
        "of": "guide", "node": "section", "title": "Linux", "order": 0, "start": GUIDE.index("### Linux"),
        "end": GUIDE.index("### Mac"), "overlap": 0, "headings": ["Guide", "Install", "Linux"],
        "sum": sum_of(GUIDE[GUIDE.index("### Linux") : GUIDE.index("### Mac")]),
    }  # fmt: skip
    assert (cube["descriptive"]["tags"], cube["behavioural"]["importance"]) == (["docs"], 0.9)
    assert [step["title"] for step in cube["lineage"]["path"]] == ["Guide", "Guide", "Install"]
    assert titles(tree(ada, added["cubes"][0]["id"])) == ["Guide", ["Guide", ["Install", ["Linux"], ["Mac"]], ["Use"]]]


def test_a_short_document_and_long_texts_of_other_kinds_stay_one_memory(ada: Person) -> None:
    short = GUIDE[: SPLIT_FROM - 1]
    assert len(ada.add(short, kind="document")["cubes"]) == 1
    for kind in ("fact", "procedure", "event"):
        assert len(ada.add(GUIDE, kind=kind)["cubes"]) == 1
    assert ada.text(ada.keep(GUIDE, kind="block", metadata={"limit": 20_000})) == GUIDE


@pytest.mark.parametrize("known_by", [{"ref": "g"}, {"source": "https://example.org/guide"}, {"source": "wiki"}, {}])
def test_the_same_document_again_is_unchanged(ada: Person, known_by: dict[str, str]) -> None:
    first = ada.add(GUIDE, kind="document", **known_by)
    again = ada.add(GUIDE, kind="document", **known_by)
    assert again["cubes"] == []
    assert again["unchanged"] == [cube["id"] for cube in first["cubes"]]
    assert again["op"] is None


@pytest.mark.parametrize("known_by", [{"ref": "g"}, {"source": "https://example.org/guide"}])
def test_of_a_changed_document_only_what_changed_is_written(ada: Person, known_by: dict[str, str]) -> None:
    first = [cube["id"] for cube in ada.add(GUIDE, kind="document", **known_by)["cubes"]]
    changed = GUIDE.replace("Start the signal", "Stop the signal", 1).replace("Welcome.", "Welcome aboard, all of you.")
    again = ada.add(changed, kind="document", **known_by)
    assert [(cube["id"], cube["version"]) for cube in again["cubes"]] == [(first[1], 2), (first[5], 2)]
    assert again["unchanged"] == [first[0], *first[2:5]]
    assert held(ada, next(iter(known_by.values()))) == changed
    ada.undo(again["op"])
    assert held(ada, next(iter(known_by.values()))) == GUIDE


def test_parts_that_vanish_are_archived_and_come_back_with_the_text(ada: Person) -> None:
    first = ada.add(GUIDE, kind="document", ref="g")
    mac = first["cubes"][4]["id"]
    without = GUIDE.replace(f"### Mac\n\n{MAC}\n\n", "")
    again = ada.add(without, kind="document", ref="g")
    assert [(cube["id"], cube["state"]) for cube in again["cubes"]] == [(mac, "archived")]
    assert f"Archived, for the document no longer has them: {mac}" in texts.added(again)
    assert mac not in ada.ids("orchard lamp meadow")
    assert held(ada, "g") == without
    back = ada.add(GUIDE, kind="document", ref="g")
    assert [(cube["id"], cube["state"]) for cube in back["cubes"]] == [(mac, "activated")]
    assert held(ada, "g") == GUIDE
    ada.undo(back["op"])
    assert held(ada, "g") == without
    ada.undo(again["op"])
    assert held(ada, "g") == GUIDE


def test_undoing_the_first_time_takes_the_whole_document_back(ada: Person) -> None:
    added = ada.add(GUIDE, kind="document", ref="g")
    assert len(ada.undo(added["op"])["undone"]) == 6
    assert ada.ids("harbour light") == []
    assert len(ada.add(GUIDE, kind="document", ref="g")["cubes"]) == 6


def test_words_as_source_do_not_make_two_documents_one(ada: Person) -> None:
    ada.add(GUIDE, kind="document", source="my wiki")
    other = ada.add(f"# Other\n\n{USE * 3}", kind="document", source="my wiki")
    assert all(cube["state"] == "generated" for cube in other["cubes"])
    assert ada.ids("harbour light green package manager")


def test_two_documents_may_hold_the_same_part(ada: Person) -> None:
    ada.add(GUIDE, kind="document", ref="one")
    ada.add(GUIDE, kind="document", ref="two")
    assert held(ada, "one") == held(ada, "two") == GUIDE


def test_a_document_grows_into_parts_and_shrinks_again_under_its_ref(ada: Person) -> None:
    short = ada.keep("# Guide\n\nWelcome.", kind="document", ref="g")
    grown = ada.add(GUIDE, kind="document", ref="g")
    assert (grown["cubes"][0]["id"], len(grown["cubes"])) == (short, 6)
    assert held(ada, "g") == GUIDE
    shrunk = ada.add("# Guide\n\nGone.", kind="document", ref="g")
    assert [cube["state"] for cube in shrunk["cubes"]] == ["generated", *["archived"] * 5]
    assert held(ada, "g") == "# Guide\n\nGone."
    ada.undo(shrunk["op"])
    assert held(ada, "g") == GUIDE


def test_a_frozen_part_is_not_changed_and_then_nothing_is(ada: Person) -> None:
    added = ada.add(GUIDE, kind="document", ref="g")
    linux = added["cubes"][3]["id"]
    ada.update(linux, freeze=True)
    with pytest.raises(Conflict, match=linux):
        ada.add(GUIDE.replace("harbour", "airport").replace("copper", "iron"), kind="document", ref="g")
    assert held(ada, "g") == GUIDE
    moved_down = GUIDE.replace("Welcome.", "Welcome to all of it.")
    assert linux in ada.add(moved_down, kind="document", ref="g")["unchanged"]


def test_what_a_person_archived_stays_so_until_it_is_said_again(ada: Person) -> None:
    keep(ada, "/f/guide.md", GUIDE)
    mac = ada.ids("orchard lamp meadow")[0]
    ada.forget(mac)
    done = keep(ada, "/f/guide.md", GUIDE.replace("Welcome.", "Hello."))
    assert (done["added"], done["changed"], done["archived"]) == (0, 1, 0)
    assert mac not in ada.ids("orchard lamp meadow")
    changed = keep(ada, "/f/guide.md", GUIDE.replace("orchard", "garden"))
    assert changed["added"] == 1, "the new text is kept beside what was archived"
    assert ada.ids("garden lamp meadow")


def test_what_a_person_wrote_into_a_part_stays_until_the_source_says_something_new_there(ada: Person) -> None:
    added = ada.add(GUIDE, kind="document", ref="g")
    mac = added["cubes"][4]["id"]
    ada.update(mac, content="Mac: ask Ada.")
    again = ada.add(GUIDE.replace("Welcome.", "Hello."), kind="document", ref="g")
    assert mac in again["unchanged"]
    assert ada.text(mac) == "Mac: ask Ada."
    assert tree(ada, mac)["text"] == "Mac: ask Ada."
    newer = GUIDE.replace("orchard", "garden")
    assert [cube["id"] for cube in ada.add(newer, kind="document", ref="g")["cubes"]] == [added["cubes"][1]["id"], mac]
    assert held(ada, "g") == newer


def test_a_document_supersedes_and_links_as_one(ada: Person) -> None:
    old, other = ada.keep("The old guide"), ada.keep("A fact about guides")
    added = ada.add(
        GUIDE, kind="document", ref="g", supersedes=[old], links=[{"to": other, "relation": "about"}], session="s1"
    )
    own = added["cubes"][0]["id"]
    lineage = ada.api.read.cube(ada.caller, own)["lineage"]
    assert (lineage["supersedes"], lineage["links"]) == ([old], [{"to": other, "relation": "about"}])
    assert ada.api.read.cube(ada.caller, old)["lineage"]["superseded_by"] == own
    with pytest.raises(Conflict, match="part of this document"):
        ada.add(GUIDE + "more\n", kind="document", ref="g", supersedes=[added["cubes"][1]["id"]])


@pytest.mark.parametrize(
    ("given", "said"),
    [({"metadata": {"document": 1}}, "use another"), ({"ref": "a\nb"}, "control"), ({"time": "soon"}, "not a date")],
)
def test_what_cannot_be_kept_of_a_document_is_said_and_nothing_is_written(
    ada: Person, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        ada.add(GUIDE, kind="document", **given)
    with pytest.raises(NotFound, match="nope"):
        ada.add(GUIDE, kind="document", supersedes=["nope"])
    assert ada.ids("harbour light") == []


def test_a_document_with_characters_that_no_store_holds_is_kept(ada: Person) -> None:
    text = "\0 مرحبا \u202e 绿茶 👩‍👩‍👧‍👦 " + "Words and more words. " * 200
    ada.add(text, kind="document", ref="odd")
    assert held(ada, "odd") == text.replace("\0", "\ufffd")


def test_metadata_that_only_look_like_a_place_in_a_document_do_no_harm(ada: Person) -> None:
    section = {"node": "section", "of": "x", "order": -1, "headings": 3}
    for odd in ({"node": "part"}, {"node": "part", "of": 7}, section, 5):
        cube = ada.keep(f"Odd {odd}", metadata={"document": odd})
        assert cube in ada.ids("Odd")
        assert ada.api.read.cube(ada.caller, cube)["lineage"]["path"] == []
        assert tree(ada, cube)["children"] == []


EDITS = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(["cut", "insert", "edit", "swap"]), st.integers(0, 99)), max_size=4
)


@pytest.mark.slow
@given(EDITS)
@example([(2, "insert", 79), (0, "insert", 36), (0, "insert", 79), (0, "insert", 79)])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_edited_the_live_parts_are_the_latest_text(ada: Person, edits: list[tuple[int, str, int]]) -> None:
    said = [f"Sentence {n} about the copper harbour. " * (20 + 30 * (n % 3)) for n in range(7)]
    blocks = [f"## Section {n}\n\n{said[n]}" for n in range(7)]
    for place, how, number in [(0, "none", 0), *edits]:
        if how == "cut" and len(blocks) > 3:
            del blocks[place % len(blocks)]
        elif how == "insert":
            blocks.insert(place, f"## New {number}\n\n" + f"Quite new words {number}. " * 30)
        elif how == "edit":
            at = place % len(blocks)
            blocks[at] = blocks[at].replace("copper", f"iron {number}", 3)
        elif how == "swap":
            blocks[0], blocks[place % len(blocks)] = blocks[place % len(blocks)], blocks[0]
        text = "\n\n".join(blocks)
        ada.add(text, kind="document", ref="edited")
        assert held(ada, "edited") == text
        assert ada.add(text, kind="document", ref="edited")["op"] is None


# --- found


def test_a_hit_shows_the_way_down_to_it_and_its_neighbours_are_those_of_the_source(ada: Person) -> None:
    ada.add(GUIDE, kind="document", source="https://example.org/guide")
    found = ada.search("orchard lamp meadow", top_k=1, around=1)
    (hit,) = found["hits"]
    assert hit["source"] == "https://example.org/guide › Guide › Install › Mac"
    assert "https://example.org/guide › Guide › Install › Mac" in texts.found(found)
    assert hit["text"].index("harbour light") < hit["text"].index("orchard image") < hit["text"].index("copper key")
    assert ada.ids("orchard", where={"document.headings": "Mac"}) == [hit["id"]]
    assert ada.ids("orchard", where={"source": "https://example.org/guide", "document.headings": "Use"}) != [hit["id"]]


def test_a_part_and_the_one_above_it_are_two_hits(ada: Person) -> None:
    ada.add(f"# Harbour light\n\nThe harbour light.\n\n## Red harbour light\n\n{LINUX * 2}", kind="document", ref="g")
    found = {hit["source"] for hit in ada.search("harbour light", top_k=10)["hits"]}
    assert {"Harbour light › Harbour light", "Harbour light › Harbour light › Red harbour light"} <= found


def test_headings_above_a_part_help_to_find_it(ada: Person) -> None:
    keep(ada, "pricing-2031.md", GUIDE)
    assert ada.search("pricing 2031 mac", top_k=1)["hits"][0]["source"] == "pricing-2031.md › Guide › Install › Mac"


def test_a_memory_shared_by_itself_shows_its_own_titles_only(ada: Person, bob: Person) -> None:
    keep(ada, "/private/guide.md", GUIDE, folders=[{"of": "/private", "title": "private"}])
    mac = ada.ids("orchard lamp meadow")[0]
    with ada.api.parts.ledger.write() as connection:
        seq = ada.api.parts.vault.by_ids(connection, [mac])[mac].seq
        connection.execute(insert(grants), {"cube": seq, "principal": "bob", "can": "read"})
    assert [hit["source"] for hit in bob.search(ids=[mac])["hits"]] == ["Mac"]
    assert bob.api.read.cube(bob.caller, mac)["lineage"]["path"] == []
    assert bob.api.tree(bob.caller, mac)["path"] == "Mac"
    with pytest.raises(AccessDenied):
        move(bob, mac, None)
    with pytest.raises(NotFound):
        bob.api.tree(bob.caller, ada.ids("Guide welcome")[0])


def test_a_long_path_keeps_its_ends() -> None:
    shown = path([At("a", "document", "guide.md"), *(At("a", "section", f"Section {n} with words") for n in range(30))])
    assert len(shown) <= 190
    assert shown.startswith("guide.md › ")
    assert shown.endswith("Section 29 with words")
    assert "…" in shown
    assert path([At("/", "folder", "docs"), At("a", "document", "a.pdf", pages=(3, 4))]) == "docs/a.pdf (pages 3–4)"


# --- files


FOLDERS = [{"of": "/f/docs", "title": "docs"}, {"of": "/f/docs/sub", "title": "sub"}]


def test_folders_files_and_headings_are_one_tree(ada: Person) -> None:
    keep(ada, "b.md", GUIDE, folders=FOLDERS[:1])
    one = keep(ada, "a.txt", "A short note about tiles.", folders=FOLDERS)
    assert ada.search("tiles", top_k=1)["hits"][0]["source"] == "docs/sub/a.txt"
    top = ada.api.read.cube(ada.caller, one["id"] or "")["lineage"]["path"][0]["id"]
    whole = tree(ada, top)
    assert titles(whole) == ["docs", ["b.md", ["Guide", ["Install", ["Linux"], ["Mac"]], ["Use"]]], ["sub", ["a.txt"]]]
    outer = keep(ada, "c.md", "Another note.", folders=[{"of": "/f", "title": "f"}, *FOLDERS])
    assert ada.search("tiles", top_k=1)["hits"][0]["source"] == "f/docs/sub/a.txt"
    assert outer["added"] == 1


def test_a_dry_run_says_what_would_be_done_and_does_nothing(ada: Person) -> None:
    would = keep(ada, "g.md", GUIDE, dry_run=True)
    assert would == {"id": None, "added": 6, "changed": 0, "unchanged": 0, "archived": 0, "op": None}
    assert ada.api.documents(ada.caller) == []
    done = keep(ada, "g.md", GUIDE)
    counts = ("added", "changed", "unchanged", "archived")
    assert [done[name] for name in counts] == [would[name] for name in counts]
    edited = GUIDE.replace(f"### Mac\n\n{MAC}\n\n", "").replace("copper", "iron")
    would = keep(ada, "g.md", edited, dry_run=True)
    assert (would["changed"], would["archived"]) == (1, 1)
    assert held(ada, "g.md") == GUIDE
    assert ada.api.drop_document(ada.caller, DropRequest(of="g.md", dry_run=True))["archived"] == 6
    assert held(ada, "g.md") == GUIDE


def test_a_dropped_document_is_archived_and_comes_back_with_its_file(ada: Person) -> None:
    first = keep(ada, "g.md", GUIDE, digest="one")
    dropped = ada.api.drop_document(ada.caller, DropRequest(of="g.md"))
    assert dropped["archived"] == 6
    assert ada.ids("harbour light") == []
    (row,) = ada.api.documents(ada.caller)
    assert (row["state"], row["vanished"], row["digest"]) == ("archived", True, "one")
    back = keep(ada, "g.md", GUIDE, digest="one")
    assert (back["id"], back["changed"]) == (first["id"], 6)
    assert held(ada, "g.md") == GUIDE
    assert ada.api.drop_document(ada.caller, DropRequest(of="nothing"))["op"] is None
    with pytest.raises(NotFound):
        ada.api.drop_document(ada.caller, DropRequest(of="g.md", space="nowhere"))


def test_a_plain_short_document_is_taken_into_its_file(ada: Person) -> None:
    known = ada.keep("A short note about tiles.", kind="document")
    done = keep(ada, "/f/a.txt", "A short note about tiles.")
    assert (done["id"], done["unchanged"]) == (known, 1)
    assert keep(ada, "/f/b.txt", "A short note about tiles.")["added"] == 1


def test_somebody_who_may_not_write_to_the_space_keeps_nothing(ada: Person, bob: Person) -> None:
    ada.keep("A fact")
    for dry_run in (True, False):
        with pytest.raises((AccessDenied, NotFound)):
            keep(bob, "g.md", GUIDE, about=AddRequest(space="personal"), dry_run=dry_run)
    with pytest.raises(NotFound):
        bob.api.documents(bob.caller, "personal")


def test_a_document_that_is_too_long_or_falls_into_too_many_parts_is_refused(ada: Person) -> None:
    with pytest.raises(InvalidInput, match="10,001 parts"):
        keep(ada, "g.md", "# a\n" * 10_001)
    with pytest.raises(InvalidInput, match="empty"):
        keep(ada, "g.md", " \n")


# --- moved and forgotten


def test_a_part_is_moved_with_all_under_it_and_keeping_the_source_again_leaves_it_there(ada: Person) -> None:
    root = keep(ada, "g.md", GUIDE)["id"] or ""
    by = ids(tree(ada, root))
    done = move(ada, by["Install"], by["Use"])
    assert done["path"] == "g.md › Guide › Use › Install"
    assert titles(tree(ada, root)) == ["g.md", ["Guide", ["Use", ["Install", ["Linux"], ["Mac"]]]]]
    assert ada.search("orchard lamp", top_k=1)["hits"][0]["source"] == "g.md › Guide › Use › Install › Mac"
    edited = GUIDE.replace("Welcome.", "Hello to you all.").replace("harbour", "airport")
    keep(ada, "g.md", edited)
    assert titles(tree(ada, root)) == ["g.md", ["Guide", ["Use", ["Install", ["Linux"], ["Mac"]]]]]
    assert held(ada, "g.md") == edited
    assert move(ada, by["Install"], by["Use"])["op"] is None
    assert move(ada, by["Install"], by["Use"], 0)["moved"] == [by["Install"]]
    assert move(ada, by["Install"], by["Use"], 0) == {
        "moved": [], "path": "g.md › Guide › Use › Install", "op": None
    }  # fmt: skip


def test_a_node_gets_its_place_among_its_siblings_and_a_move_can_be_undone(ada: Person) -> None:
    root = keep(ada, "g.md", GUIDE)["id"] or ""
    by = ids(tree(ada, root))
    before = titles(tree(ada, root))
    done = move(ada, by["Mac"], by["Install"], 0)
    assert titles(tree(ada, by["Install"])) == ["Install", ["Mac"], ["Linux"]]
    ada.undo(done["op"])
    assert titles(tree(ada, root)) == before
    alone = move(ada, by["Install"], None)
    assert alone["path"] == "Install"
    assert titles(tree(ada, root)) == ["g.md", ["Guide", ["Use"]]]
    ada.undo(alone["op"])
    assert titles(tree(ada, root)) == before


def test_a_node_is_not_moved_under_itself_or_out_of_trees_or_spaces(ada: Person) -> None:
    root = keep(ada, "g.md", GUIDE)["id"] or ""
    by = ids(tree(ada, root))
    for under in (by["Mac"], by["Install"]):
        with pytest.raises(Conflict, match="under itself"):
            move(ada, by["Install"], under)
    fact = ada.keep("A fact")
    with pytest.raises(InvalidInput, match="no tree"):
        move(ada, fact, root)
    with pytest.raises(InvalidInput, match="no tree"):
        move(ada, by["Mac"], fact)
    elsewhere = keep(ada.at("work"), "h.md", GUIDE)["id"]
    with pytest.raises(Conflict, match="another space"):
        move(ada, by["Mac"], elsewhere)
    ada.update(by["Mac"], freeze=True)
    with pytest.raises(Conflict, match="frozen"):
        move(ada, by["Mac"], by["Use"])
    with pytest.raises(NotFound):
        move(ada, "nope", by["Use"])


def test_archiving_a_document_archives_its_parts_and_undo_brings_all_back(ada: Person) -> None:
    root = keep(ada, "g.md", GUIDE, folders=FOLDERS)["id"] or ""
    assert len(ada.forget(root, dry_run=True)["would_affect"]) == 6
    done = ada.forget(root)
    assert len(done["affected"]) == 6
    assert len(done["derived"]["cubes"]) == 5
    assert held(ada, "g.md") == ""
    ada.undo(done["op"])
    assert held(ada, "g.md") == GUIDE


def test_purging_a_folder_purges_what_is_under_it_and_nothing_else(ada: Person) -> None:
    keep(ada, "a.md", GUIDE, folders=FOLDERS)
    other = keep(ada, "b.md", GUIDE)["id"] or ""
    inner = ada.ids("sub", where={"document.node": "folder", "source": "/f/docs/sub"})[0]
    top = ada.api.read.cube(ada.caller, inner)["lineage"]["path"][0]["id"]
    assert len(ada.forget(top, mode="purge")["affected"]) == 8
    assert held(ada, "a.md") == ""
    assert len(ids(tree(ada, other))) == 6


@pytest.mark.slow
def test_a_subtree_of_very_many_nodes_says_how_many_it_leaves_out(ada: Person) -> None:
    root = keep(ada, "many.md", "".join(f"# Heading {n}\n\nText {n}.\n\n" for n in range(2_100)))["id"] or ""
    found = ada.api.tree(ada.caller, root)
    assert (found["nodes"], found["left_out"]) == (2_000, 101)
