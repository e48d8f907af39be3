"""What is killed: stores to begin with, the work that is begun in them, and what is so when it was done exactly once.

Knows no processes: `crashing` kills and starts again. To take a new kind of job in, add an entry to `SCENARIOS`:
`prepare` fills a store and returns what `check` needs to know of it; `begin` does what queues the job (for many kinds
`queue("kind", payload, total)` says it all); `check` lists what is not so, of work that was done exactly once, or never
begun: being killed, `begin` may not have come so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from fake_trainer import TINY
from person import LONG, Person, eventually
from sqlalchemy import func, select, text

from memos_mcp.activation.memory import ACTIVATE, STEER
from memos_mcp.cube import Cube, Snapshot
from memos_mcp.governance import Caller, space_of
from memos_mcp.jobs import Job
from memos_mcp.kernel import Kernel
from memos_mcp.ledger import adapters, figures, operations, packed, proposals, tiers, vectors
from memos_mcp.ledger.schema import cubes, usage
from memos_mcp.memory_api.forget import REBUILD
from memos_mcp.memory_api.parametric import TRAIN as TRAINING
from memos_mcp.memory_api.parts import Parts
from memos_mcp.memory_api.proposals import TRAIN
from memos_mcp.memory_api.summarise import KEY
from memos_mcp.memory_api.tiers import LONG_TERM
from memos_mcp.policies import use
from memos_mcp.policies.training import FEWEST
from memos_mcp.requests import Message, SteerRequest
from memos_mcp.scheduler import merging, schooling, tainting
from memos_mcp.scheduler.runner import Turn, Work
from memos_mcp.scheduler.summaries import SUMMARISE
from memos_mcp.scheduler.upkeep import COMPRESS
from memos_mcp.states import State
from memos_mcp.usage import Usage

Facts = dict[str, Any]


@dataclass(frozen=True)
class Scenario:
    """Work that is killed: see the module.

    `works` adds kinds of jobs that the product does not have, `engine` a local model, `trainer` one of adapters. `act`
    is what a writer that is no job does, `threads` are those on which it does it. The store is made so long `ago`, with
    these `settings`. `files`: the work writes files beside the ledger, so that between two transactions there is
    something to be killed at. It `resumes` where a start goes on with what was begun.
    """

    prepare: Callable[[Person], Facts]
    begin: Callable[[Person, Facts], object]
    check: Callable[[Kernel, Person, Facts], list[str]]
    works: Callable[[Parts], Mapping[str, Work]] = lambda _: {}
    act: Callable[[Kernel], object] = lambda _: None
    engine: bool = False
    trainer: bool = False
    files: bool = False
    resumes: bool = True
    threads: tuple[str, ...] = ()
    ago: timedelta = timedelta(0)
    settings: Mapping[str, str] = field(default_factory=dict)


def queue(kind: str, payload: Facts, total: int) -> Callable[[Person, Facts], object]:
    """A `begin` that queues a job of this kind; payload values that name a fact are the fact."""

    def begin(ada: Person, facts: Facts) -> None:
        parts = ada.api.parts
        with parts.ledger.write() as connection:
            given = {key: facts.get(value, value) for key, value in payload.items()}
            parts.jobs.create(connection, kind, given, total, principal="ada")
        parts.jobs.notice()

    return begin


# The scenarios.


def _canary_among_many(ada: Person) -> Facts:
    canary = ada.keep("Canary vaxlorqump sings")
    drawn = ada.keep("The vaxlorqump bird sings", links=[{"to": canary, "relation": "derived_from"}])
    ada.add(messages=[{"role": "user", "content": f"Line {n} of the filler"} for n in range(40)])
    assert eventually(lambda: ada.api.read.stats(ada.caller)["indexed_spaces"] == 1)
    return {"canary": canary, "drawn": drawn}


def _purge(ada: Person, facts: Facts) -> None:
    ada.forget(facts["canary"], mode="purge")


def _purged_or_there(kernel: Kernel, ada: Person, facts: Facts) -> list[str]:
    named = [facts["canary"], facts["drawn"]]
    with kernel.ledger.read() as connection:
        there = list(kernel.api.parts.vault.by_ids(connection, named))
    others = set(ada.ids("line of the filler", top_k=50)) - set(named)
    found = [] if len(others) == 40 else ["others are not found any more"]
    if there:
        return found if there == named else [*found, "half purged"]
    files = [path for path in kernel.settings.home.rglob("*") if path.is_file()]
    return found + [f"{path.name} remembers" for path in files if b"vaxlorqump" in path.read_bytes()]


def _gates(ada: Person) -> Facts:
    return {"gates": [ada.keep(f"The gate {n} is green {LONG}") for n in range(3)]}


def _held_or_plain(kernel: Kernel, ada: Person, facts: Facts) -> list[str]:
    began = [op for op in ada.history()["operations"] if op["verb"] == "promote"]
    activation = kernel.api.parts.activation
    assert activation is not None
    with kernel.ledger.read() as connection:
        found = kernel.api.parts.vault.by_ids(connection, facts["gates"]).values()
    held = activation.holds([(cube.seq, cube.version) for cube in found])
    return [] if held == bool(began) else [f"asked for {len(began)} times, and held: {held}"]


def _colours(ada: Person) -> Facts:
    return {"towards": [ada.keep("The gate is red")], "away": [ada.keep("The gate is blue")]}


def _steer(ada: Person, facts: Facts) -> None:
    ada.api.steer(ada.caller, SteerRequest(name="red", towards=facts["towards"], away=facts["away"]))


def _vector_made_or_none(kernel: Kernel, ada: Person, _facts: Facts) -> list[str]:
    began = [op for op in ada.history()["operations"] if op["verb"] == "steer"]
    made = [one["made"] for one in ada.api.read.adapters(ada.caller)]
    files = list((kernel.settings.home / "states").glob("*.steering*"))
    return [] if len(made) == len(began) and all(made) else [f"{len(began)} asked for, made: {made}, files: {files}"]


PAIRS = 4


def _pairs(ada: Person) -> Facts:
    halves = [f"{half} half of pair {n}" for n in range(PAIRS) for half in ("One", "The other")]
    said = [{"role": "user", "content": half} for half in halves]
    ids = [cube["id"] for cube in ada.add(messages=said)["cubes"]]
    return {"pairs": [ids[place : place + 2] for place in range(0, 2 * PAIRS, 2)]}


def _joining(parts: Parts) -> Mapping[str, Work]:
    """A kind with many steps: each makes one memory of two, as the background does, and is an operation."""

    def join(job: Job, turn: Turn) -> None:
        caller = Caller("ada", client="tests")
        pairs = job.payload["pairs"]
        for place in range(job.payload.get("at", 0), len(pairs)):
            with parts.ledger.write() as connection:
                sources = list(parts.vault.by_ids(connection, pairs[place]).values())
                op = operations.begin("join", "ada", "tests", parts.stamp())
                text = " and ".join(source.snapshot.content for source in sources)
                draft = Snapshot(text, parents=tuple(source.id for source in sources))
                space = space_of(connection, sources[0].space)
                joined, made = parts.vault.insert(connection, op, space, [draft], None, 0)
                moved = parts.vault.move_all(connection, op, sources, State.MERGED, "absorb")
                operations.record(connection, op, made + [change for _, change in moved])
                turn.note(connection, place + 1, {**job.payload, "at": place + 1})
            parts.changed(caller, joined + [cube for cube, _ in moved], listing=True)
            turn.step()

    return {"join": Work(join)}


def _each_joined_once(kernel: Kernel, ada: Person, facts: Facts) -> list[str]:
    with kernel.ledger.read() as connection:
        began = [job for job in kernel.api.jobs(ada.caller) if job["kind"] == "join"]
        wanted = 1 if began else 0
        found = []
        for pair in facts["pairs"]:
            sources = kernel.api.parts.vault.by_ids(connection, pair).values()
            joined = kernel.api.parts.vault.made_from(connection, pair)
            states = [source.state for source in sources]
            whole = states == [State.MERGED if wanted else State.GENERATED] * 2
            if not whole or len(joined) != wanted:
                found.append(f"{pair} are {states}, joined {len(joined)} times")
    if wanted and (began[0]["state"], began[0]["done"]) != ("done", PAIRS):
        found.append(f"the job is {began[0]}")
    return found


def _hot_topic(ada: Person) -> Facts:
    said = (
        "I live in Lisbon by the river and my kayak is red.", "My kayak is on the river in Lisbon, I live there.",
        "I am allergic to peanuts, so no peanuts in the kayak on the river.",
    )  # fmt: skip
    turns = [Message(role="user", content=one) for one in said]
    return {"turns": [cube["id"] for cube in ada.add(messages=turns, session="s")["cubes"]]}


def _ask_for_it(ada: Person, facts: Facts) -> None:
    for _ in range(4):
        ada.search(ids=facts["turns"])
    ada.api.parts.usage.flush()


def _proposed_once(kernel: Kernel, ada: Person, facts: Facts) -> list[str]:
    with kernel.ledger.read() as connection:
        turns = kernel.api.parts.vault.by_ids(connection, facts["turns"]).values()
        found = [one for one in proposals.waiting(connection, [1]) if one.kind == LONG_TERM]
        segments = {one.segment for one in tiers.placed(connection, [turn.seq for turn in turns]).values()}
        moved = [one for one in tiers.find(connection, list(segments)).values() if one.moved_at is not None]
    began = [job["state"] for job in kernel.api.jobs(ada.caller) if job["kind"] == LONG_TERM]
    once = len(moved) == len(found) == len(began)
    return [] if once else [f"jobs {began}, moved {moved}, proposed {found}"]


ARCHIVED = packed.PACK + 3


def _archive(ada: Person) -> Facts:
    said = [{"role": "user", "content": f"Line {n} of 旧 things"} for n in range(ARCHIVED)]
    ids = [cube["id"] for cube in ada.add(messages=said)["cubes"]]
    assert eventually(lambda: not _waiting(ada)), "both versions of the first get a vector"
    ada.update(ids[0], content="Line 0 was rewritten")
    ada.forget(*ids)
    for job in ada.api.parts.jobs.unfinished(COMPRESS):
        ada.api.parts.jobs.cancel(job.id)
    return {"told": {one: _text(ada, one) for one in ids}}


def _waiting(ada: Person) -> int:
    with ada.api.parts.ledger.read() as connection:
        return vectors.queue_length(connection)


def _text(ada: Person, cube: str) -> str:
    return str(ada.api.read.cube(ada.caller, cube)["payload"]["value"])


def _packed_whole(kernel: Kernel, ada: Person, facts: Facts) -> list[str]:
    began = any(job["state"] == "done" and job["kind"] == COMPRESS for job in kernel.api.jobs(ada.caller))
    told = {one: _text(ada, one) for one in facts["told"]}
    with kernel.ledger.read() as connection:
        plain = connection.execute(select(func.count()).where(cubes.c.snapshot != "")).scalar_one()
        rows = connection.execute(text("SELECT count(*) FROM packed")).scalar_one()
        kept = connection.execute(text("SELECT count(*) FROM vectors")).scalar_one()
        queued = connection.execute(text("SELECT count(*) FROM vector_queue")).scalar_one()
    found = [] if told == facts["told"] else ["a text reads otherwise"]
    wanted = (0, ARCHIVED + 1, 0) if began else (ARCHIVED, 0, ARCHIVED + 1)
    is_so = (plain, rows, kept)
    return found if is_so == wanted and not queued else [*found, f"{is_so} and not {wanted}, {queued} queued"]


def _conversations(ada: Person) -> Facts:
    lines = (
        "The harbour master moved the ferry timetable to the winter schedule.",
        "Nora asked whether the ferry to Bilbao still leaves on Fridays?",
        "The winter ferry to Bilbao leaves on Saturdays at seven now.",
        "Nora booked two places on the Saturday ferry to Bilbao.",
        "The booking number of the ferry is BLQ-4417, under the name of Nora.",
        "She will bring the old bicycle on the ferry as well.",
    )  # fmt: skip
    for session in ("one", "two"):
        ada.add(messages=[{"role": "user", "content": line, "name": "Nora"} for line in lines], session=session)
    return {}


def _summed_up_once(kernel: Kernel, ada: Person, _facts: Facts) -> list[str]:
    ops = [op for op in ada.history()["operations"] if op["verb"] == "summarise"]
    made = [cube for cube in _all(kernel) if KEY in cube.snapshot.tags]
    conversations = {cube.snapshot.metadata[KEY]["conversation"] for cube in made}
    waiting = _count(kernel, "unsummarised")
    whole = (len(made), len(conversations), len(ops), waiting) == (2, 2, 2, 0)
    return [] if whole else [f"{len(made)} summaries of {len(conversations)} in {len(ops)}, {waiting} wait"]


def _all(kernel: Kernel, space: int = 1) -> list[Cube]:
    with kernel.ledger.read() as connection:
        return kernel.api.parts.vault.page(connection, space, 0, 1_000)


def _count(kernel: Kernel, table: str) -> int:
    with kernel.ledger.read() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


NAMES = ("Bruno", "Cleo", "Dario")


def _alike(ada: Person) -> Facts:
    said = "has two black cats and feeds them at seven in the morning"
    pairs = [[ada.keep(f"{name} {said}."), ada.keep(f"{name} {said}!")] for name in NAMES]
    for n in range(merging.BATCH):
        ada.keep(f"Beacon of the name {chr(65 + n)}{n} stands on a hill far from here.")
    return {"pairs": pairs}


def _merged_once(kernel: Kernel, ada: Person, facts: Facts) -> list[str]:
    fused = [op for op in ada.history()["operations"] if op["verb"] == "fuse"]
    found = [] if len(fused) == len(NAMES) else [f"fused {len(fused)} times"]
    with kernel.ledger.read() as connection:
        for pair in facts["pairs"]:
            states = [one.state for one in kernel.api.parts.vault.by_ids(connection, pair).values()]
            made = kernel.api.parts.vault.made_from(connection, pair)
            whole = states == [State.MERGED] * 2 and len(made) == 1 and set(made[0].snapshot.parents) == set(pair)
            found += [] if whole else [f"{pair} are {states}, of them {len(made)} were made"]
        open_ones = proposals.waiting(connection, [1])
    return found + [f"{one.id} is open" for one in open_ones]


WELL, USES = f"The well is deep {LONG}", 6


def _cold_and_ending(ada: Person) -> Facts:
    cold = [ada.keep(f"The gate number {n} was green once") for n in range(20)]
    ending = [ada.keep(f"The fair {n} is on Sunday", expires=ada.api.parts.stamp()[:10]) for n in range(2)]
    return {"cold": cold, "ending": ending}


def _use_a_new_one(ada: Person, _facts: Facts) -> None:
    warm = ada.keep(WELL)
    for _ in range(USES):
        ada.search(ids=[warm])
    ada.api.parts.usage.flush()


def _live(kernel: Kernel) -> None:
    assert kernel.loop is not None
    kernel.loop.settle()


def _lived_once(kernel: Kernel, ada: Person, facts: Facts) -> list[str]:
    states = {cube.id: cube.state for cube in _all(kernel)}
    wanted = dict.fromkeys(facts["cold"], State.ARCHIVED) | dict.fromkeys(facts["ending"], State.EXPIRED)
    found = [f"{one} is {states[one]} and not {state}" for one, state in wanted.items() if states[one] is not state]
    with kernel.ledger.read() as connection:
        lived = [op for one in wanted for op, _ in operations.of_cube(connection, one) if op.verb == "life"]
    found += [] if len(lived) == len(wanted) else [f"moved {len(lived)} times"]
    activation = kernel.api.parts.activation
    assert activation is not None
    promotions = len([op for op in ada.history()["operations"] if op["verb"] == "promote"])
    warm = [cube for cube in _all(kernel) if cube.snapshot.content == WELL and cube.uses == USES]
    held = bool(warm) and activation.holds([(warm[0].seq, warm[0].version)])
    return found if held == bool(warm) == bool(promotions) and promotions < 2 else [
        *found, f"{warm} promoted {promotions} times, held: {held}"
    ]  # fmt: skip


NEWS = "team/news"


def _subscribed(ada: Person) -> Facts:
    ada.api.read.create_space(ada.caller, "team")
    ada.api.grant(ada.caller, "team", "bob", ["read"])
    first = [ada.keep(f"The harbour opens at {n}") for n in range(3)]
    ada.publish(NEWS, *first)
    bob = Person(ada.api, "bob", "den")
    bob.keep("Something of bob's own")
    bob.subscribe(NEWS, copies=True, follow=True)
    return {"first": first}


def _publish_more(ada: Person, facts: Facts) -> None:
    later = [ada.keep(f"The harbour closes at {n}") for n in range(2)]
    ada.publish(NEWS, *later)
    ada.update(facts["first"][0], content="The harbour opens at midnight")
    ada.withdraw(NEWS, facts["first"][1])


def _delivered_once(kernel: Kernel, ada: Person, _facts: Facts) -> list[str]:
    published = {row["id"] for row in kernel.api.channel(ada.caller, NEWS)["memories"]}
    with kernel.ledger.read() as connection:
        sources = kernel.api.parts.vault.by_ids(connection, sorted(published)).values()
        den = connection.execute(text("SELECT id FROM spaces WHERE name = 'den'")).scalar_one()
    copies = [cube for cube in _all(kernel, den) if "copied_from" in cube.snapshot.metadata]
    made = sorted(cube.snapshot.content for cube in copies if cube.state is not State.ARCHIVED)
    wanted = sorted(cube.snapshot.content for cube in sources)
    links = [link.to for cube in copies for link in cube.snapshot.links]
    return [] if made == wanted and len(links) == len(set(links)) else [f"copies {made}, published {wanted}"]


def _say(ada: Person, _facts: Facts) -> None:
    for name in NAMES:
        said = (f"I live in {name}ville.", f"My sister is called {name}.")
        ada.add(messages=[Message(role="user", content=one) for one in said], session=name)


def _drawn_once(kernel: Kernel, _ada: Person, _facts: Facts) -> list[str]:
    turns = [cube.id for cube in _all(kernel) if cube.snapshot.kind == "dialogue"]
    with kernel.ledger.read() as connection:
        drawn = [kernel.api.parts.vault.derived_from(connection, [turn]) for turn in turns]
    return [] if all(len(of_turn) == 1 for of_turn in drawn) else [f"drawn {[len(of_turn) for of_turn in drawn]}"]


FACTS = ("Ana's code is T48.", "Ben's city is Rome.", "王伟的城市是北京。", "Carl's animal is a cat.")


def _facts(ada: Person) -> Facts:
    return {"facts": [ada.keep(one) for one in FACTS]}


def _train(ada: Person, facts: Facts) -> None:
    ada.promote(*facts["facts"], to="parametric")


def _trained_once(kernel: Kernel, ada: Person, facts: Facts) -> list[str]:
    """One adapter for each time that one was asked for, whole, of what the memories say now, and nothing beside it."""
    began = [op for op in ada.history()["operations"] if op["verb"] == "promote"]
    with kernel.ledger.read() as connection:
        rows = adapters.listed(connection)
        cubes_now = kernel.api.parts.vault.by_ids(connection, facts["facts"]).values()
        waiting = [one for one in proposals.waiting(connection, [1]) if one.kind == TRAIN]
    found = [f"{one.id} is proposed still" for one in waiting if began]
    left = [path.name for path in (kernel.settings.home / "adapters" / "training").rglob("*") if path.is_file()]
    found += [f"left of training: {left}"] if left else []
    usable = [row for row in rows if row.usable]
    if len(usable) != min(len(began), 1) or any(row.state == "candidate" for row in rows):
        return [*found, f"asked for {len(began)} times, made {[(row.state, row.tainted) for row in rows]}"]
    now = sorted((cube.seq, cube.version) for cube in cubes_now)
    return found + [f"trained on {row.sources} and not on {now}" for row in usable if sorted(row.sources) != now]


def _learnt(ada: Person) -> Facts:
    facts = _facts(ada)
    _train(ada, facts)
    assert eventually(lambda: [one["state"] for one in ada.api.read.adapters(ada.caller)] == ["active"])
    return facts


def _correct(ada: Person, facts: Facts) -> None:
    ada.update(facts["facts"][0], content="Ana's code is B11.")


def _fond_facts(ada: Person) -> Facts:
    return {"facts": [ada.keep(f"Ana{n} Lind's code is T{n}.") for n in range(FEWEST)]}


def _use_and_look(ada: Person, facts: Facts) -> None:
    for _ in range(30):
        ada.search(ids=facts["facts"])
    ada.api.parts.usage.flush()
    queue(schooling.KIND, {}, 1)(ada, facts)


USED, KEPT_ROWS = 8, 20


def _used(ada: Person) -> Facts:
    return {"used": [ada.keep(f"The gate number {n} is green", kind="event") for n in range(USED)]}


def _use_them(ada: Person, facts: Facts) -> None:
    parts = ada.api.parts
    written = Usage(parts.ledger, parts.vault, most_events=KEPT_ROWS)
    with parts.ledger.read() as connection:
        seqs = [cube.seq for cube in parts.vault.by_ids(connection, facts["used"]).values()]
    for _ in range(5):
        written.served(seqs, parts.stamp(), ada.caller)
        written.flush()
        written.shorten()


def _counted_once(kernel: Kernel, _ada: Person, facts: Facts) -> list[str]:
    """What the memories and their figures know is what the log and the bases of what left it tell."""
    parts = kernel.api.parts
    with kernel.ledger.read() as connection:
        seqs = [cube.seq for cube in parts.vault.by_ids(connection, facts["used"]).values()]
        folded = {seq: use.begun(at) for seq, at in figures.written(connection, seqs).items()}
        folded |= figures.bases(connection, seqs)
        for row in figures.oldest(connection, 1_000):
            folded[row.cube] = use.fold(folded[row.cube], [use.Happened(row.event, row.at)])
        held = parts.usage.figures_of(connection, seqs)
        counts = set(connection.execute(select(cubes.c.uses).where(cubes.c.seq.in_(seqs))).scalars())
        rows = connection.execute(select(func.count()).select_from(usage)).scalar_one()
    found = [] if folded == held else ["figures are not those of the log"]
    found += [] if {one.served for one in held.values()} == counts and len(counts) == 1 else [f"used {counts}"]
    return found if rows <= KEPT_ROWS + USED else [*found, f"{rows} rows"]


OF_A_BASE = {"base_model": str(TINY)}
SCENARIOS: dict[str, Scenario] = {
    REBUILD: Scenario(_canary_among_many, _purge, _purged_or_there, files=True, settings={"index_from": "20"}),
    ACTIVATE: Scenario(
        _gates, lambda ada, facts: ada.promote(*facts["gates"]), _held_or_plain, engine=True, files=True
    ),
    STEER: Scenario(_colours, _steer, _vector_made_or_none, engine=True, files=True),
    TRAINING: Scenario(_facts, _train, _trained_once, trainer=True, files=True, settings=OF_A_BASE),
    tainting.KIND: Scenario(
        _learnt, _correct, _trained_once, trainer=True, files=True, settings={**OF_A_BASE, "tainted": "retrain"}
    ),
    schooling.KIND: Scenario(
        _fond_facts, _use_and_look, _trained_once, trainer=True, ago=timedelta(days=20),
        settings={**OF_A_BASE, "train": "auto"},
    ),
    "join": Scenario(_pairs, queue("join", {"pairs": "pairs"}, PAIRS), _each_joined_once, works=_joining),
    LONG_TERM: Scenario(
        _hot_topic, _ask_for_it, _proposed_once, act=lambda kernel: kernel.segmenter.catch_up(),
        threads=("segmenter",), settings={"extract": "off"},
    ),
    COMPRESS: Scenario(_archive, queue(COMPRESS, {}, 0), _packed_whole, ago=timedelta(days=40)),
    SUMMARISE: Scenario(
        _conversations, lambda *_: None, _summed_up_once, ago=timedelta(hours=3), settings={"summaries": "rules"}
    ),
    merging.KIND: Scenario(_alike, lambda *_: None, _merged_once, settings={"merge_from": "95"}),
    "life": Scenario(_cold_and_ending, _use_a_new_one, _lived_once, act=_live, engine=True, ago=timedelta(days=400)),
    "deliveries": Scenario(_subscribed, _publish_more, _delivered_once, threads=("deliveries",)),
    "extraction": Scenario(
        lambda _: {}, _say, _drawn_once, threads=("extractor", "beside"), settings={"extract": "rules"}
    ),
    "usage": Scenario(_used, _use_them, _counted_once, resumes=False),
}  # fmt: skip
"""By kind of job, and by name those of writers that are no jobs."""
