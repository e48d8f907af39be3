#!/usr/bin/env python3
"""What a host spends for an answerable context: evidence within so many tokens of hits, beside plain ways of retrieval.

    python scripts/measure_evidence.py DATA.json [DATA.json ...]

DATA as in `train_combiner.py`. A token is four characters of Latin text or one Chinese character. Evidence counts when
its whole text is within the budget, best hits first. Beside ours: fixed chunks of the same conversation by the cosines
of the same embedder, and the tokens of the full history, which holds everything.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from train_combiner import added

from memos_mcp import settings as settings_of
from memos_mcp.governance import Caller
from memos_mcp.kernel import opened
from memos_mcp.ports import Embedder
from memos_mcp.requests import SearchRequest

BUDGETS = (1_000, 2_000)
CHUNK_TOKENS = 200
TOP = 50


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        data = json.loads(path.read_text(encoding="utf-8"))
        ours: dict[int, list[float]] = {budget: [] for budget in BUDGETS}
        plain: dict[int, list[float]] = {budget: [] for budget in BUDGETS}
        history = []
        for gold, found, plainly, whole in asked(data):
            history.append(whole)
            for budget in BUDGETS:
                ours[budget].append(covered(found, gold, budget))
                plain[budget].append(covered(plainly, gold, budget))
        print(f"{data['name']}: full history {np.mean(history):,.0f} tokens a question")
        for budget in BUDGETS:
            hits, chunks = 100 * np.mean(ours[budget]), 100 * np.mean(plain[budget])
            print(f"  evidence within {budget:,} tokens: hits {hits:.1f} %, chunks of {CHUNK_TOKENS} {chunks:.1f} %")


Hits = list[tuple[set[str], int]]
"""What was found, best first: the refs that each holds whole, and its tokens."""


def asked(data: dict[str, Any]) -> Iterator[tuple[list[list[str]], Hits, Hits, int]]:
    """Every question with its gold, our hits, the best chunks, and the tokens of all there was."""
    with tempfile.TemporaryDirectory() as home, opened(settings_of.load({"home": home})) as kernel:
        embedder = kernel.api.parts.embedder.get()
        for number, store in enumerate(data["stores"]):
            space, done, memories = f"space {number}", 0, store["memories"]
            for query in sorted(store["queries"], key=lambda query: query.get("at", len(memories))):
                upto = query.get("at", len(memories))
                if upto > done or not done:
                    added(kernel, space, memories[done:upto])
                    done = max(done, upto)
                    chunks, vectors = chunked(memories[:done], embedder)
                request = SearchRequest(query=query["text"][:4000], top_k=TOP, space=space, max_chars=1_000_000)
                found = kernel.api.search(Caller("trainer", space), request)["hits"]
                hits = [(set(hit["refs"]), tokens(hit["text"])) for hit in found]
                order = np.argsort(-(vectors @ embedder.embed_query(query["text"][:4000])))[:TOP]
                whole = sum(tokens(said(one)) for one in memories[:done])
                yield query["gold"], hits, [chunks[i] for i in order.tolist()], whole


def chunked(memories: Sequence[dict[str, Any]], embedder: Embedder) -> tuple[Hits, np.ndarray[Any, Any]]:
    """The conversation in chunks of whole turns, as near to `CHUNK_TOKENS` as they come, and their vectors."""
    chunks, written = [], []
    refs, lines = set[str](), list[str]()
    for memory in memories:
        lines.append(said(memory))
        refs.add(memory["ref"])
        if sum(map(tokens, lines)) >= CHUNK_TOKENS or memory is memories[-1]:
            chunks.append((refs, sum(map(tokens, lines))))
            written.append("\n".join(lines))
            refs, lines = set(), []
    vectors = np.concatenate([embedder.embed(written[i : i + 16]) for i in range(0, len(written), 16)])
    return chunks, vectors


def said(memory: dict[str, Any]) -> str:
    return f"{memory['speaker']}: {memory['text']}" if memory["speaker"] else str(memory["text"])


def covered(found: Hits, gold: list[list[str]], budget: int) -> float:
    """The share of the groups of evidence that are within the budget."""
    there, spent = set[str](), 0
    for refs, cost in found:
        spent += cost
        if spent > budget:
            break
        there |= refs
    return sum(any(ref in there for ref in group) for group in gold) / len(gold)


def tokens(text: str) -> int:
    wide = sum(char > "\u2e7f" for char in text)
    return wide + (len(text) - wide + 3) // 4


if __name__ == "__main__":
    main()
