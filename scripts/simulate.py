#!/usr/bin/env python3
"""Lives a made-up year through twice, with the life of memories and keeping everything, and prints what came of both.

Knows no figure itself: the year is made by `simulation.world` and lived by `simulation.year`. The exit status is 1 if
needed memories are found less than 0.98 times as often as where everything is kept, or more than a third stays active.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from simulation.world import year
from simulation.year import Year, live

from memos_mcp.kernel import Kernel
from memos_mcp.settings import Settings, load

ARCHIVE_DAYS = 14
"""Days without use after which a memory of middling importance is archived, in the simulated life."""
FOUND, ACTIVE = 0.98, 1 / 3
LISTED = 20


def main() -> int:
    """Simulate and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=2, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--days", type=int, default=365, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--archive-days", type=int, default=ARCHIVE_DAYS, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="where pictures are written")
    given = parser.parse_args()
    days, began = list(year(given.users, given.days, given.seed)), time.perf_counter()
    with ProcessPoolExecutor(2) as beside:
        kept = beside.submit(_lived, "everything kept", days, 0)
        life = beside.submit(_lived, "with its life", days, given.archive_days).result()
        everything = kept.result()
    print(f"both side by side: {time.perf_counter() - began:.0f} s")
    if given.plots is not None:
        from simulation.plots import draw  # a second or two, which neither life needs

        print("pictures:", ", ".join(str(path) for path in draw(life, everything, given.plots)))
    found, active = life.recall / max(everything.recall, 1e-9), life.active / max(everything.active, 1)
    print(f"found {found:.4f} of what is found where everything is kept ({FOUND} wanted)")
    print(f"active {active:.3f} of what is active there ({ACTIVE:.3f} at most wanted)")
    _tell_missed(life, everything)
    return 0 if found >= FOUND and active <= ACTIVE else 1


def _lived(name: str, days: list, archive_days: int) -> Year:
    def settings(home: Path) -> Settings:
        return load({"home": str(home), "archive_days": str(archive_days), "life": "off"}, {})

    def evening(kernel: Kernel) -> None:
        if archive_days and kernel.loop is not None:
            kernel.loop.settle()

    began = time.perf_counter()
    lived = live(days, settings, evening)
    took = time.perf_counter() - began
    print(
        f"{name}: {lived.told:,} told, {sum(lived.asked):,} asked, {100 * lived.recall:.2f} % found, "
        f"{lived.active:,} active of {sum(lived.states[-1].values()):,}, {lived.fetched:,} fetched back, {took:.0f} s",
        flush=True,
    )
    return lived


def _tell_missed(life: Year, everything: Year) -> None:
    """What was needed and not found with its life alone."""
    known = {(miss.day, miss.user, miss.text) for miss in everything.misses}
    missed = [miss for miss in life.misses if (miss.day, miss.user, miss.text) not in known]
    print(f"needed, and not found for its life: {len(missed)}")
    for miss in missed[:LISTED]:
        print(f"  day {miss.day}, {miss.age} days old, {miss.state}: {miss.text}")


if __name__ == "__main__":
    sys.exit(main())
