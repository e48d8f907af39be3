#!/usr/bin/env python3
"""Measures what the project claims, section by section, and prints each figure beside its target.

Knows no figure itself: the sections are in `benchmarks`. It asserts nothing about time: the exit status is 0 unless a
section failed to run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks import (
    activation,
    answers,
    archived,
    blocks,
    bulk,
    calls,
    conflicts,
    context,
    evidence,
    forgetting,
    hosts,
    install,
    life,
    overhead,
    parametric,
    paths,
    prefixes,
    preload,
    ranking,
    recall,
    replacement,
    soak,
    spaces,
    starting,
    steering,
    switching,
    tiers,
)
from benchmarks.measure import HEAD, Report, environment_line
from benchmarks.plan import Plan, Section
from benchmarks.stores import Workplace

SECTIONS: dict[str, Section] = {
    "start": starting.start,
    **calls.SECTIONS,
    "hosts": hosts.hosts,
    "ranking": ranking.ranking,
    "recall": recall.recall,
    "replacement": replacement.replacement,
    "archived": archived.archived,
    "conflicts": conflicts.conflicts,
    "context": context.context,
    "bulk": bulk.bulk,
    "spaces": spaces.spaces,
    "overhead": overhead.overhead,
    "activation": activation.activation,
    "answers": answers.answers,
    "blocks": blocks.blocks,
    "prefixes": prefixes.prefixes,
    "steering": steering.steering,
    "tiers": tiers.tiers,
    "parametric": parametric.parametric,
    "paths": paths.paths,
    "switching": switching.switching,
    "loop": life.loop,
    "beside": life.beside,
    "preload": preload.preload,
    "install": install.install,
    "peer": overhead.peer,
    "evidence": evidence.evidence,
    "purge": forgetting.purge,
    "recovery": forgetting.recovery,
    "soak": soak.soak,
    "million": ranking.million,
}
BY_NAME_ONLY = ("parametric", "soak", "million")
MINUTES = 10.0


def main() -> int:
    """Run the sections that were named, or all but those that take long on purpose."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure what the project claims.")
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION",
        help=f"of {', '.join(SECTIONS)} (default: all but {', '.join(BY_NAME_ONLY)})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--quick", action="store_true", help="small sizes and few repeats: does it run?")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep the stores here and use them again")
    parser.add_argument("--embed-all", action="store_true", help="generate no vectors: embed every text")
    parser.add_argument("--minutes", type=float, default=MINUTES, metavar="N", help="of soak (default: %(default)s)")
    parser.add_argument("--server", metavar="PROGRAM", help="llama.cpp's llama-server, for context (default: if found)")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="conversations with known answers: evidence, preload, replacement"
    )
    given = parser.parse_args()
    unknown = [name for name in given.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"there is no section {', '.join(unknown)}: choose of {', '.join(SECTIONS)}")
    if given.work is not None:
        given.work.mkdir(parents=True, exist_ok=True)
        return _run(given, given.work.resolve())
    with tempfile.TemporaryDirectory(prefix="memos-bench-") as folder:
        return _run(given, Path(folder))


def _run(given: argparse.Namespace, folder: Path) -> int:
    report = Report()
    plan = Plan(Workplace(folder, given.embed_all, _say), report, given.quick, given.minutes, given.server, given.data)
    print(f"{environment_line()}\n\n{HEAD}", flush=True)
    for name in given.sections or [name for name in SECTIONS if name not in BY_NAME_ONLY]:
        began = time.perf_counter()
        try:
            SECTIONS[name](plan)
        except Exception as error:
            traceback.print_exc()
            report.failures.append(f"{name}: {error}")
        _say(f"{name}: {time.perf_counter() - began:.0f} s; {environment_line()}")
    if given.json is not None:
        report.write(given.json, given.quick)
    for failure in report.failures:
        _say(f"FAILED {failure}")
    return 1 if report.failures else 0


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
