#!/usr/bin/env python3
"""Learns the weights of `memos_mcp/policies/preload.py` from conversations with known evidence.

    python scripts/train_preload.py FOLDER [--validate]

FOLDER holds data files as `scripts/bench preload --data FOLDER` takes them. Each is replayed through the product twice,
with and without the messages told before they are asked about, and what spoke for each memory is learnt from where the
evidence was among the likely ones: the loss is that of a softmax over them (listwise; Cao et al. 2007), minimised by
AdaGrad (Duchi et al. 2011). `--validate` learns from all files but one in turn, and reports the share of evidence on
the one left out, with the weights as learnt and with the product's own learning from what was served.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from benchmarks.replay import Ready, data_in, replay

from memos_mcp.policies import preload
from memos_mcp.policies.preload import NAMES, Habits

SEED, PASSES, RATE, DECAY = 11, 6, 0.2, 0.003
SIZES = (8, 16, 32)
Replays = list[list[Ready]]


def main() -> None:
    """Replay, learn, and print what was learnt."""
    parser = argparse.ArgumentParser(description="Learn what predicts the memories that are needed next.")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--validate", action="store_true", help="learn from all files but one, and report on that one")
    given = parser.parse_args()
    files = {name: _replayed(stores) for name, stores in data_in(given.folder).items()}
    if given.validate:
        for name, replays in files.items():
            learnt = _learnt([others for other, others in files.items() if other != name])
            for told in (False, True):
                fixed, going = (_shares(replays[told], learnt, learning=learning) for learning in (False, True))
                print(f"{name}, {'told' if told else 'not told'}: as learnt {fixed}, learning on {going}", flush=True)
    weights = _learnt(list(files.values())).weights
    print({name: round(weight, 2) for name, weight in zip(NAMES, weights, strict=True)})


def _replayed(stores: Sequence[dict[str, object]]) -> tuple[Replays, Replays]:
    """The replays of a file's stores, without and with the messages told."""
    found: tuple[Replays, Replays] = ([], [])
    for told in (False, True):
        for store in stores:
            with tempfile.TemporaryDirectory() as folder:
                found[told].append(list(replay(store, Path(folder) / "home", told=told)))
    return found


def _learnt(files: Sequence[tuple[Replays, Replays]]) -> Habits:
    """Weights that every file has an equal part in."""
    rng = random.Random(SEED)
    by_file = [
        [(one.table, places) for replays in both for rows in replays for one in rows if (places := _places(one))]
        for both in files
    ]
    most = max(map(len, by_file))
    weights, moved = np.zeros(len(NAMES)), np.ones(len(NAMES))
    for _ in range(PASSES):
        lessons = [lesson for rows in by_file for lesson in rng.choices(rows, k=most)]
        rng.shuffle(lessons)
        for table, places in lessons:
            habits = Habits(tuple(weights.tolist()))
            wanted = np.zeros(len(table))
            wanted[places] = 1.0 / len(places)
            slope = table.T @ (wanted - preload.scores(table, habits, np.zeros(len(table)))) - DECAY * weights
            moved += slope * slope
            weights = weights + RATE * slope / np.sqrt(moved)
    return Habits(tuple(weights.tolist()))


def _places(one: Ready) -> list[int]:
    used = set().union(*one.used) if one.used else set()
    return [place for place, seq in enumerate(one.likely) if seq in used]


def _shares(replays: Replays, begin: Habits, *, learning: bool) -> list[float]:
    """The share of evidence among the likeliest, in percent, for each of `SIZES`."""
    found, total = dict.fromkeys(SIZES, 0), 0
    for rows in replays:
        habits = begin
        for one in rows:
            order = preload.order(one.table, habits, np.zeros(len(one.table)))
            for size in SIZES:
                first = {one.likely[i] for i in order[:size]}
                found[size] += sum(not first.isdisjoint(group) for group in one.used)
            total += len(one.used)
            if learning:
                places = {seq: place for place, seq in enumerate(one.likely)}
                habits = preload.learnt(habits, one.table, [places[seq] for seq in one.served if seq in places])
    return [round(100 * found[size] / max(total, 1), 1) for size in SIZES]


if __name__ == "__main__":
    main()
