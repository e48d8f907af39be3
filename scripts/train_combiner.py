#!/usr/bin/env python3
"""Learns the weights of `memos_mcp/plaintext/combiner.json` from questions with known answers.

    python scripts/train_combiner.py DATA.json [DATA.json ...] [--validate] [--write]

Each DATA is {"name", "stores": [{"name", "memories": [{"ref", "session", "speaker", "time", "text"}],
"queries": [{"text", "category", "gold": [[ref, ...], ...], "at"?}]}]}. The memories go into a store of their own, and
the evidence is what the product's own search gathers. To the questions are added generated ones: memories asked for by
their own words. `--validate` learns from all stores but one in turn and reports recall on the one left out; `--ablate`
reports the same with one idea left out at a time; `--write` writes the weights learnt from all. The loss is that of a
softmax over the memories of a question (listwise; Cao et al. 2007), minimised by Adam (Kingma and Ba 2015) with a small
weight decay.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from memos_mcp import governance
from memos_mcp import settings as settings_of
from memos_mcp.governance import Caller
from memos_mcp.kernel import Kernel, opened
from memos_mcp.ledger.schema import cubes
from memos_mcp.plaintext import combiner
from memos_mcp.plaintext.evidence import NAMES
from memos_mcp.plaintext.scope import Scope
from memos_mcp.plaintext.search import Weighed
from memos_mcp.requests import AddRequest, Message

SEED = 11
GENERATED = 0.15
"""Generated questions for each real one."""
FOREIGN = 0.25
"""Questions of another store for each real one."""
FITTED = 10
"""Hits of a question from which it is learnt how well a memory fits."""
MOST = 150
"""Memories of a question that are learnt from: the best of the fixed blend, and the right ones."""
STEPS, RATE, DECAY = 400, 0.05, 0.01
AT = (1, 5, 10, 20)
IDEAS = {
    "neighbours": ("beside", "further", "covered_around", "meaning_around", "answers"),
    "sessions": ("session_words", "session_best"),
    "days and times": ("on_day", "near_day", "timed"),
    "speakers": ("speaks", "other_speaks"),
    "questions, length and age": ("asks", "length", "age"),
    "how much the words know": ("covered", "rarest", "words_known", "meaning_unknown"),
    "meaning": ("meaning", "meaning_around", "meaning_unknown"),
}
"""Columns of the evidence by idea; `both`, which holds words and meaning, stays."""
OUT = Path(__file__).parent.parent / "memos_mcp" / "plaintext" / combiner.WEIGHTS


MADE = ("generated", "foreign")
"""Categories of questions that are in no data set."""


@dataclass(frozen=True)
class Asked:
    """A question's evidence: `rows` (n, k), places of each group of right answers, number of groups."""

    data: str
    store: int
    category: str
    rows: NDArray[np.float32]
    weighed: Weighed
    groups: list[list[int]]
    wanted: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--ablate", action="store_true")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    questions = [one for path in given.data for one in gathered(path)]
    real = [one for one in questions if one.category not in MADE]
    report("fixed blend", real, {id(one): combiner.blend(one.weighed.evidence) for one in real})
    if given.validate:
        report("learned, each store by the others", real, validated(questions))
    if given.ablate:
        for idea, names in IDEAS.items():
            fewer = validated([without(one, names) for one in questions], questions)
            report(f"without {idea}", real, fewer, brief=True)
        report("words alone", real, {id(one): one.weighed.evidence.of("words") for one in real}, brief=True)
        report("meaning alone", real, {id(one): one.weighed.evidence.of("meaning") for one in real}, brief=True)
        report("ranks of both added", real, {id(one): reciprocal(one) for one in real}, brief=True)
    columns = learn(questions)
    report("learned, on what it was learnt from", real, {id(one): mixed(one, columns) for one in real})
    if given.write:
        fit = fitted(questions, columns)
        named = ((combiner.input_names(), columns), (combiner.FIT, fit))
        weights, fit_by_name = (
            {name: round(float(x), 4) for name, x in zip(names, values, strict=True)} for names, values in named
        )
        plain = {"weights": weights, "fit": fit_by_name}
        OUT.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


def gathered(path: Path) -> Iterator[Asked]:
    """The evidence for every question of a data set."""
    data = json.loads(path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as home, opened(settings_of.load({"home": home})) as kernel:
        for number, store in enumerate(data["stores"]):
            done = 0
            queries = sorted(store["queries"], key=lambda query: query.get("at", len(store["memories"])))
            for query in [*queries, *generated(store, len(queries)), *foreign(data["stores"], number)]:
                upto = query.get("at", len(store["memories"]))
                added(kernel, f"space {number}", store["memories"][done:upto])
                done = max(done, upto)
                yield asked(kernel, data["name"], number, query)


def generated(store: dict[str, Any], real: int) -> Iterator[dict[str, Any]]:
    """Memories asked for by some of their own words, in their order."""
    chance = random.Random(SEED)
    for memory in chance.sample(store["memories"], int(GENERATED * real)):
        words = memory["text"].split() if " " in memory["text"] else list(memory["text"])
        if len(words) < 6:
            continue
        size = chance.randint(3, max(3, len(words) // 2))
        start = chance.randint(0, len(words) - size)
        joint = " " if " " in memory["text"] else ""
        yield {"text": joint.join(words[start : start + size]), "category": "generated", "gold": [[memory["ref"]]]}


def foreign(stores: Sequence[dict[str, Any]], number: int) -> Iterator[dict[str, Any]]:
    """Questions that the next store answers, and this one does not."""
    mine, other = stores[number], stores[(number + 1) % len(stores)]
    if other is not mine:
        for query in random.Random(SEED).sample(other["queries"], int(FOREIGN * len(other["queries"]))):
            yield {"text": query["text"], "category": "foreign", "gold": []}


def added(kernel: Kernel, space: str, memories: Sequence[dict[str, Any]]) -> None:
    caller = Caller("trainer", space)
    for session, group in groupby(memories, key=lambda memory: memory["session"]):
        messages = [
            Message(role="user", content=one["text"], name=one["speaker"], time=one["time"], ref=one["ref"])
            for one in group
        ]
        kernel.api.add(caller, AddRequest(messages=messages, session=session or "none", space=space, kind="dialogue"))
    kernel.api.parts.indexer.wait_embedded((number_of(kernel, space),), 600.0)


def number_of(kernel: Kernel, space: str) -> int:
    with kernel.ledger.read() as connection:
        found = governance.find_space(connection, space)
    assert found is not None
    return found.id


def asked(kernel: Kernel, data: str, number: int, query: dict[str, Any]) -> Asked:
    parts = kernel.api.parts
    space = number_of(kernel, f"space {number}")
    embedder = parts.embedder.get()
    with parts.ledger.read() as connection:
        rows = connection.execute(select(cubes.c.ref, cubes.c.seq).where(cubes.c.space == space)).all()
        text, scope = query["text"][:4000], Scope((space,), parts.stamp())
        begun = parts.search.begin(connection, text, scope, 1)
        vector, trust = embedder.embed_query(text), embedder.trust(text)
        weighed = parts.search.weighed(connection, begun, vector, scope, 1, trust)
    by_ref = dict(rows)
    place = {seq: i for i, seq in enumerate(weighed.pool.facts.seq.tolist())}
    groups = [[place[by_ref[ref]] for ref in group if by_ref.get(ref) in place] for group in query["gold"]]
    return Asked(
        data, number, query["category"], combiner.inputs(weighed.evidence), weighed,
        [group for group in groups if group], len(groups),
    )  # fmt: skip


def learn(questions: Sequence[Asked]) -> NDArray[np.float32]:
    """The weights of `combiner.inputs`, shape (k,); every data set counts by the root of its questions."""
    blocks, targets, shares = [], [], []
    sizes = {name: sum(one.data == name for one in questions) for name in {one.data for one in questions}}
    for one in questions:
        if not one.groups:
            continue
        best = np.argsort(-combiner.blend(one.weighed.evidence), kind="stable")[:MOST].tolist()
        chosen = sorted({*best, *(place for group in one.groups for place in group)})
        target = np.zeros(len(chosen))
        for group in one.groups:
            for place in group:
                target[chosen.index(place)] += 1 / len(group) / len(one.groups)
        blocks.append(one.rows[chosen].astype(np.float64))
        targets.append(target)
        shares.append(sizes[one.data] ** -0.5)
    rows, target = np.concatenate(blocks), np.concatenate(targets)
    lengths = [len(block) for block in blocks]
    starts, owner = np.cumsum([0, *lengths[:-1]]), np.repeat(np.arange(len(blocks)), lengths)
    spread = rows.std(axis=0) + 1e-9
    rows = (rows - rows.mean(axis=0)) / spread
    share = (np.array(shares) / sum(shares))[owner]
    weights, first, second = (np.zeros(rows.shape[1]) for _ in range(3))
    for step in range(1, STEPS + 1):
        total = rows @ weights
        raised = np.exp(total - np.maximum.reduceat(total, starts)[owner])
        chance = raised / np.add.reduceat(raised, starts)[owner]
        slope = rows.T @ ((chance - target) * share) + DECAY * weights
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope * slope
        rate = RATE * (1 - 0.9 * step / STEPS)
        weights -= rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return (weights / spread).astype(np.float32)


def validated(
    questions: Sequence[Asked], known_as: Sequence[Asked] | None = None
) -> dict[int, NDArray[np.float32]]:
    """Scores of each real question by weights that its own store had no part in, by the id of `known_as`."""
    scores = {}
    for number in sorted({one.store for one in questions}):
        columns = learn([one for one in questions if one.store != number])
        for one, known in zip(questions, known_as or questions, strict=True):
            if one.store == number and one.category not in MADE:
                scores[id(known)] = mixed(one, columns)
    return scores


def without(one: Asked, names: Sequence[str]) -> Asked:
    """The question without some columns of its evidence."""
    evidence = one.weighed.evidence
    columns = evidence.columns.copy()
    columns[:, [NAMES.index(name) for name in names]] = 0.0
    fewer = replace(evidence, columns=columns)
    return replace(one, rows=combiner.inputs(fewer), weighed=replace(one.weighed, evidence=fewer))


def reciprocal(one: Asked) -> NDArray[np.float32]:
    """Reciprocal rank fusion of words and meaning (Cormack et al. 2009, k = 60)."""
    total = np.zeros(len(one.rows), dtype=np.float32)
    for name in ("words", "meaning"):
        order = np.argsort(-one.weighed.evidence.of(name), kind="stable")
        total[order] += 1.0 / (61.0 + np.arange(len(order)))
    return total


def mixed(one: Asked, columns: NDArray[np.float32]) -> NDArray[np.float32]:
    total = combiner.beside_blend(one.rows @ columns, combiner.blend(one.weighed.evidence), one.weighed.trust)
    return total.astype(np.float32)


def fitted(questions: Sequence[Asked], columns: NDArray[np.float32]) -> NDArray[np.float64]:
    """Weights of `combiner.fit_inputs` that make a chance of being right of them: logistic regression by Newton's
    method, every data set counting alike. Prints the chance that was told beside the share that was right."""
    rows, right, shares = [], [], []
    sizes = {name: sum(one.data == name for one in questions) for name in {one.data for one in questions}}
    for one in questions:
        totals = mixed(one, columns)
        best = np.argsort(-totals, kind="stable")[:FITTED]
        cosines = np.nan_to_num(one.weighed.cosines) if one.weighed.cosines is not None else None
        rows.append(combiner.fit_inputs(one.weighed.evidence, totals, cosines, one.weighed.trust)[best])
        gold = {place for group in one.groups for place in group}
        right.append([float(place in gold) for place in best.tolist()])
        shares.append(np.full(len(best), 1.0 / sizes[one.data]))
    x, y, share = np.concatenate(rows).astype(np.float64), np.concatenate(right), np.concatenate(shares)
    weights = np.zeros(x.shape[1])
    for _ in range(30):
        chance = 1 / (1 + np.exp(-(x @ weights)))
        slope = x.T @ ((chance - y) * share)
        bend = (x * (chance * (1 - chance) * share)[:, None]).T @ x + 1e-6 * np.eye(x.shape[1])
        weights -= np.linalg.solve(bend, slope)
    chance = 1 / (1 + np.exp(-(x @ weights)))
    for low, high in pairwise((0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)):
        told = (chance >= low) & (chance < high)
        if told.any():
            print(f"  told {chance[told].mean():.2f}, right {y[told].mean():.2f}, of {told.sum()} hits")
    firsts = np.cumsum([0, *(len(one) for one in right[:-1])])
    away = np.array([one.category == "foreign" for one in questions])
    for name, chosen in (("its own", ~away), ("another store's", away)):
        print(f"  best hit of {name} question: told {np.percentile(chance[firsts][chosen], [10, 50, 90]).round(2)}")
    return weights


def report(
    title: str, questions: Sequence[Asked], scores: dict[int, NDArray[np.float32]], *, brief: bool = False
) -> None:
    """Print recall by data set and category, or of all categories together."""
    print(f"\n{title}")
    rows: dict[tuple[str, str], list[list[float]]] = {}
    for one in questions:
        best = np.argsort(-scores[id(one)], kind="stable")[: max(AT)].tolist()
        got = [sum(any(p in best[:k] for p in group) for group in one.groups) / max(one.wanted, 1) for k in AT]
        for category in ("all",) if brief else (one.category, "all"):
            rows.setdefault((one.data, category), []).append(got)
    for (data, category), found in sorted(rows.items()):
        means = "  ".join(f"R@{k} {100 * mean:5.1f}" for k, mean in zip(AT, np.mean(found, axis=0), strict=True))
        print(f"  {data:18} {category:22} {len(found):4}  {means}", flush=True)


if __name__ == "__main__":
    main()
