"""SIGKILL at every step of every kind of job, and of what else writes behind the calls: resumed or rolled back, exactly
once, and the ledger is whole.

How a further kind is taken in says the module `crash_scenarios`; `crashing` runs them.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from crash_scenarios import SCENARIOS

from memos_mcp.activation.memory import KINDS
from memos_mcp.kernel import Kernel
from memos_mcp.scheduler.works import works

LIMIT_S = 300.0


def test_every_kind_of_job_is_killed_at_every_step(kernel: Kernel) -> None:
    """A kind without a scenario: add one to `crash_scenarios.SCENARIOS`."""
    kinds = works(kernel.api.parts, kernel.upkeep, kernel.summaries)
    assert {*kinds, *KINDS} <= set(SCENARIOS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(SCENARIOS))
def test_a_job_that_is_killed_is_done_once_or_never_begun(kind: str) -> None:
    folder = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, str(folder / "crashing.py"), kind],
        capture_output=True, text=True, check=False, timeout=LIMIT_S, env={"PYTHONPATH": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3_000:]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one for one in told if one["problems"]] == [], done.stderr[-3_000:]
    assert [one["killed"] for one in told] == [signal.SIGKILL] * (len(told) - 1) + [0]
    assert len(told) > 3, "there were steps to be killed at"
    again = sum(one["again"] == signal.SIGKILL for one in told)
    assert again or not SCENARIOS[kind].resumes, "some were killed twice"
