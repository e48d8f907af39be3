"""Work behind the calls lets them go first, a bounded moment, and those that come right after them too."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from person import eventually

from memos_mcp.foreground import Foreground


def test_work_begins_once_the_last_call_has_ended() -> None:
    calls, begun = Foreground(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with calls:
            pool.submit(lambda: (calls.step_aside(30.0), begun.set()))
            assert not begun.wait(0.05)
        assert begun.wait(10)


def test_calls_that_follow_one_another_are_one_to_those_who_wait_a_moment_longer() -> None:
    calls, begun = Foreground(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        with calls:
            pool.submit(lambda: (calls.step_aside(3.0, since_s=60.0), begun.set()))
        for _ in range(5):
            assert not begun.wait(0.01)
            with calls:
                pass
        assert not begun.is_set()
        assert begun.wait(10)


def test_nobody_waits_longer_than_the_bound() -> None:
    calls = Foreground()
    with calls, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(calls.step_aside, 0.01, 60.0)
        assert eventually(waiting.done)
        assert calls.busy
