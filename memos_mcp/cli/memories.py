"""The commands over memories: add, search, show, forget, undo and history, as the verbs of the same names.

Knows no ledger: it turns options into calls of the kernel, which checks them, and results into lines.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from memos_mcp.cli import documents, terminal
from memos_mcp.cli.graph import add_triples
from memos_mcp.cli.session import Json, Session, identifier, json_object, read_input, session_of
from memos_mcp.errors import InvalidInput
from memos_mcp.results import REASONS, memories

if TYPE_CHECKING:
    from memos_mcp.link import Link
    from memos_mcp.results import AddResult, ForgetResult, Hit, OperationEntry, VersionEntry

SHOWN = 20
"""Memories that are shown before a question is asked about them."""
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A tag; may be repeated.")]
Triples = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A knowledge graph: triples as CSV, TSV, JSON, JSONL or N-Triples.")
]
Space = Annotated[str | None, typer.Option(help="The space, if not the usual one.")]


def add(
    context: typer.Context,
    text: Annotated[str | None, typer.Argument(help="The memory; - or none to read standard input.")] = None,
    kind: Annotated[str | None, typer.Option(help="fact, preference, event, procedure, document, dialogue …")] = None,
    tag: Tags = None,
    space: Space = None,
    session: Annotated[str | None, typer.Option(help="The conversation it belongs to.")] = None,
    source: Annotated[str | None, typer.Option(help="Where it comes from: a URI, or words.")] = None,
    time: Annotated[str | None, typer.Option(help="When it became true, ISO 8601.")] = None,
    importance: Annotated[float | None, typer.Option(help="0 to 1.")] = None,
    expires: Annotated[str | None, typer.Option(help="When it is over, ISO 8601.")] = None,
    metadata: Annotated[str | None, typer.Option(metavar="JSON", help="Your own keys and values.")] = None,
    supersedes: Annotated[list[str] | None, typer.Option(help="A memory that this replaces; may be repeated.")] = None,
    ref: Annotated[str | None, typer.Option(help="Your own identifier; adding it again is safe.")] = None,
    file: Annotated[
        list[str] | None, typer.Option(help="Or a document: Markdown, HTML, PDF, OPML, text; may be repeated.")
    ] = None,
    folder: Annotated[list[str] | None, typer.Option(help="Or all documents below a folder; may be repeated.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With files: only show what it would do.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="With a folder: archive documents whose files are gone.")
    ] = False,
    triples: Triples = None,
    as_json: Json = False,
) -> None:
    """Keep a memory, files, the documents of a folder, or triples; of files that are known only what has changed."""
    run = session_of(context)
    if file or folder:
        documents.require_alone(
            TEXT=text, **{"--ref": ref, "--source": source, "--supersedes": supersedes, "--triples": triples}
        )
        about = {
            "kind": kind, "tags": tag, "space": space, "session": session, "time": time, "importance": importance,
            "expires": expires, "metadata": json_object(metadata, "--metadata"),
        }  # fmt: skip
        documents.add_files(run, about, file or [], folder or [], dry_run=dry_run, prune=prune)
        return
    if dry_run or prune:
        raise InvalidInput("--dry-run and --prune go with --file and --folder: name what to read.")
    given = {
        "content": text if triples is not None and text != "-" else _said(text),
        "kind": kind, "tags": tag, "space": space, "session": session, "source": source, "time": time,
        "importance": importance, "expires": expires, "metadata": json_object(metadata, "--metadata"),
        "supersedes": [identifier(one) for one in supersedes] if supersedes else None, "ref": ref,
    }  # fmt: skip
    if triples is not None:
        add_triples(run, triples, given)
        return
    _keep(run, given)


def _said(text: str | None) -> str:
    """The text that was given, or what is piped in."""
    if text is None and sys.stdin.isatty():
        raise typer.BadParameter("Give the text to remember, or pipe it in.", param_hint="TEXT")
    return read_input() if text is None or text == "-" else text


def _keep(run: Session, given: dict[str, Any]) -> None:
    with run.kernel() as kernel:
        problem = kernel.call("embedder_problem")
        result: AddResult = kernel.call("add", given)
        if problem is None and result["cubes"] and result["similar"] is None:  # not compared: it failed just now
            problem = kernel.call("embedder_problem", {"ask": True})
    if problem:
        terminal.note(f"It is found by its words until it is embedded. {problem}")
    if run.json:
        terminal.write_json(result)
    else:
        _say_added(result)


def _say_added(result: AddResult) -> None:
    for cube in result["cubes"]:
        did = "Archived" if cube["state"] == "archived" else "Kept"
        terminal.say(f"{did} {cube['id']} (version {cube['version']}), operation {result['op']}.")
    for known in result["unchanged"]:
        terminal.say(f"Known already: {known}.")
    for like in result["similar"] or ():
        measured = f" ({like['similarity']:.2f})" if "similarity" in like else ""
        terminal.say(f"Like it{measured}: {like['id']}  {terminal.one_line(like['text'], 100)}")
        if "conflict" in like:
            terminal.say(f"  They contradict each other: {like['conflict']}.")


def search(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="A question or words, in any language.")],
    top_k: Annotated[int | None, typer.Option(help="How many, 1 to 50 (5).")] = None,
    space: Annotated[list[str] | None, typer.Option(help="Where to look; may be repeated.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind; may be repeated.")] = None,
    tag: Tags = None,
    after: Annotated[str | None, typer.Option(help="Became true at or after, ISO 8601.")] = None,
    before: Annotated[str | None, typer.Option(help="Became true before, ISO 8601.")] = None,
    as_of: Annotated[str | None, typer.Option(help="What was believed then, ISO 8601.")] = None,
    session: Annotated[str | None, typer.Option(help="Only this conversation.")] = None,
    where: Annotated[str | None, typer.Option(metavar="JSON", help="Filter over metadata.")] = None,
    include: Annotated[list[str] | None, typer.Option(help="superseded or archived; may be repeated.")] = None,
    around: Annotated[int | None, typer.Option(help="Neighbours of each hit in its session, 0 to 2.")] = None,
    as_json: Json = False,
) -> None:
    """Find memories, best first, each with the reason."""
    run = session_of(context)
    given = {
        "query": query, "top_k": top_k, "space": space or None, "kinds": kind, "tags": tag, "after": after,
        "before": before, "as_of": as_of, "session": session, "where": json_object(where, "--where"),
        "include": include, "around": around,
    }  # fmt: skip
    with run.kernel() as kernel:
        kernel.call("embedder_problem")  # the result says what a search without it lacks
        result = kernel.call("search", given)
    if as_json:
        terminal.write_json(result)
        return
    for place, hit in enumerate(result["hits"], 1):
        _say_hit(place, hit)
    for key in ("degraded", "next"):
        if key in result:
            terminal.note(str(result.get(key)))


def _say_hit(place: int, hit: Hit) -> None:
    facts = [hit["kind"], hit["valid_from"][:10], hit["space"], *(f"#{tag}" for tag in hit["tags"])]
    if hit["source"]:
        facts.append(f"from {terminal.one_line(hit['source'], 80)}")
    terminal.say(f"{place}  {hit['score']:.2f}  {hit['id']}  {' · '.join(facts)}", "bold")
    terminal.say("   " + hit["text"].replace("\n", "\n   "))
    why, reasons = hit["why"], []
    if why["words"]:
        reasons.append(f"words {', '.join(why['words'])}")
    if why["cosine"] is not None:
        reasons.append(f"meaning {why['cosine']:.2f}")
    reasons += [f"{name.replace('_', ' ')} {why[name]:.2f}" for name in REASONS if name in why]
    if "same" in why:
        reasons.append(f"said also by {', '.join(why['same'])}")
    terminal.say(f"   why: {'; '.join(reasons) or 'asked for'}", "dim")


def show(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="The memory's id or URI.")],
    version: Annotated[int | None, typer.Option(min=1, help="A former version.")] = None,
    history: Annotated[bool, typer.Option("--history", help="Its versions and operations too.")] = False,
    tree: Annotated[bool, typer.Option("--tree", help="What stands under it, as an outline.")] = False,
    as_json: Json = False,
) -> None:
    """Show a memory whole, or the tree under it."""
    run, cube_id = session_of(context), identifier(id)
    if tree:
        if version is not None or history:
            raise InvalidInput("--tree shows what is there now: leave out --version and --history.")
        with run.kernel() as kernel:
            found = kernel.call("tree", {"id": cube_id})
        terminal.write_json(found) if as_json else documents.say_tree(found)
        return
    past = None
    with run.kernel() as kernel:
        cube = kernel.call("cube", {"id": cube_id, "version": version})
        if history:
            past = kernel.call("history", {"id": cube_id})
    if as_json:
        terminal.write_json(cube if past is None else {"cube": cube, **past})
        return
    _say_cube(cube)
    if past is not None:
        terminal.say()
        _say_versions(past["versions"])
        terminal.say()
        _say_operations(past["operations"])


def _say_cube(cube: dict[str, Any]) -> None:
    told, rules, use, lineage = (cube[part] for part in ("descriptive", "governance", "behavioural", "lineage"))
    source = told["source"]
    lines = {
        "id": f"{cube['id']} (version {cube['version']})",
        "kind": f"{told['kind']}, {rules['state']}, in {rules['space']} of {rules['owner']}",
        "true from": told["valid_from"] + (f" to {told['valid_to']}" if told["valid_to"] else ""),
        "written": told["created"] + (f", changed {told['updated']}" if told["updated"] != told["created"] else ""),
        "by": told["name"] or told["role"],
        "in": " › ".join(str(step["title"]) for step in lineage["path"]),
        "source": ", ".join(str(source[key]) for key in ("uri", "session", "client") if source[key]),
        "ref": told["ref"],
        "tags": ", ".join(told["tags"]),
        "metadata": str(told["metadata"]) if told["metadata"] else None,
        "expires": rules["expires"],
        "used": f"{use['uses']} times, last {use['last_used']}" if use["uses"] else None,
        "heat": f"{use['heat']:.2f}",
        "tier": _tier(use["tier"]),
        "supersedes": ", ".join(lineage["supersedes"]),
        "superseded": f"by {lineage['superseded_by']}" if lineage["superseded_by"] else None,
    }
    for name, value in lines.items():
        if value:
            terminal.say(f"{name + ':':<12}{value}")
    terminal.say()
    terminal.say(cube["payload"]["value"])


def _tier(tier: dict[str, Any]) -> str:
    segment = tier.get("segment")
    if segment is None:
        return str(tier["name"])
    on = f", goes on from {segment['continues']}" if segment["continues"] else ""
    return f"{tier['name']}, topic {segment['id']} of {len(segment['turns'])} turns (heat {segment['heat']:.2f}){on}"


def forget(
    context: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids or URIs.")] = None,
    query: Annotated[str | None, typer.Option(help="Or those that hold all these words.")] = None,
    tag: Tags = None,
    before: Annotated[str | None, typer.Option(help="Became true before, ISO 8601.")] = None,
    space: Space = None,
    purge: Annotated[bool, typer.Option("--purge", help="Erase for ever, with everything made from them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would affect.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Archive memories, or purge them for ever.

    What is archived comes back with `undo`. By a filter, it shows what it would affect, and asks.
    """
    run = session_of(context)
    given: dict[str, Any] = {
        "ids": [identifier(one) for one in ids] if ids else None, "query": query, "tags": tag, "before": before,
        "space": space, "mode": "purge" if purge else "archive",
    }  # fmt: skip
    with run.kernel() as kernel:
        result = _forget(run, kernel, given, dry_run, yes)
    if as_json:
        terminal.write_json(result)
    elif dry_run:
        terminal.say(f"{memories(len(result['would_affect']))} would be {'purged' if purge else 'archived'}.")
    else:
        terminal.say(f"{memories(len(result['affected']))} {'purged' if purge else 'archived'}.")
        if result["op"] and not purge:
            terminal.say(f"To take it back: memos-mcp undo {result['op']}")


def _forget(run: Session, kernel: Link, given: dict[str, Any], dry_run: bool, yes: bool) -> ForgetResult:
    if given["ids"] is not None and not dry_run:
        return cast("ForgetResult", kernel.call("forget", given))
    plan: ForgetResult = kernel.call("forget", {**given, "dry_run": True})
    if not run.json:
        _say_plan(kernel, plan)
    if dry_run or not plan["would_affect"]:
        return plan
    if not yes:
        if run.json:
            raise InvalidInput(f"This affects {memories(len(plan['would_affect']))}: add --yes to carry it out.")
        typer.confirm(f"{given['mode'].capitalize()} {memories(len(plan['would_affect']))}?", abort=True, err=True)
    return cast("ForgetResult", kernel.call("forget", {**given, "confirm": plan["confirm"]}))


def _say_plan(kernel: Link, plan: ForgetResult) -> None:
    for cube_id in plan["would_affect"][:SHOWN]:
        text = kernel.call("cube", {"id": cube_id})["payload"]["value"]
        made = "  (made from one of them)" if cube_id in plan["derived"]["cubes"] else ""
        terminal.say(f"{cube_id}  {terminal.one_line(text, 100)}{made}")
    more = len(plan["would_affect"]) - SHOWN
    if more > 0:
        terminal.say(f"… and {more} more")


def undo(
    context: typer.Context,
    op: Annotated[str, typer.Argument(help="The operation, as the change or `history` names it.")],
    as_json: Json = False,
) -> None:
    """Take an operation back; that too can be undone."""
    run = session_of(context)
    with run.kernel() as kernel:
        result = kernel.call("undo", {"op": op.strip()})
    if as_json:
        terminal.write_json(result)
    else:
        of = f" for {', '.join(result['undone'])}" if result["undone"] else ""
        terminal.say(f"Taken back{of}; operation {result['op']}.")


def history(
    context: typer.Context,
    what: Annotated[str | None, typer.Argument(metavar="[ID|OP]", help="A memory or an operation.")] = None,
    as_json: Json = False,
) -> None:
    """Tell what was done: to a memory, by an operation, or last."""
    from memos_mcp.link import Refused

    run = session_of(context)
    name = identifier(what) if what is not None else None
    with run.kernel() as kernel:
        try:
            result = kernel.call("history", {"id": name})
        except Refused as error:
            if name is None or error.kind != "NotFound":
                raise
            result = kernel.call("history", {"op": name})
    if as_json:
        terminal.write_json(result)
        return
    if result["versions"]:
        _say_versions(result["versions"])
        terminal.say()
    _say_operations(result["operations"])


def _say_versions(found: list[VersionEntry]) -> None:
    terminal.table(
        ("version", "from", "to", "text"),
        [(str(v["version"]), v["since"], v["until"] or "now", terminal.one_line(v["text"], 80)) for v in found],
    )


def _say_operations(found: list[OperationEntry]) -> None:
    if not found:
        terminal.note("Nothing was done yet.")
        return
    rows = [
        (
            one["op"], one["at"], one["verb"], one["principal"], one["client"] or "", str(len(one["changes"])),
            "" if one["undoable"] else f"undone by {one['undone_by']}" if one["undone_by"] else "purged",
        )
        for one in found
    ]  # fmt: skip
    terminal.table(("operation", "at", "verb", "who", "client", "memories", ""), rows)
