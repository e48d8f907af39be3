"""A worker process from the side of the kernel: starts it, sends calls, gives each caller its answers, notices its end.

Knows frames, and nothing of what the verbs mean.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, cast

from memos_mcp import asked
from memos_mcp.backends.llama import frames
from memos_mcp.errors import EngineLost, EngineUnavailable

MODULE = "memos_mcp.backends.llama.worker"
ENVIRONMENT = {
    "GGML_NO_BACKTRACE": "1",  # else an abort waits for a debugger
    "OMP_WAIT_POLICY": "passive",  # else threads that wait for each other burn the cores that these need
    "GOMP_SPINCOUNT": "1000",  # some 35 us: a short wait is not worth a sleep, which costs a fifth of a short question
}
"""Set for the worker, where the person has not set it."""
END_S = 5.0
"""Seconds for a worker to end by itself once its pipe is closed."""
ATTENTION_S = 0.02
"""Seconds between two looks at whether a caller has given up."""
LOG_BYTES = 1 << 20
"""Size of the log at which a new one is begun."""


class Refused(Exception):
    """The worker did not do it: the name of the error, what it says, as the worker sent it."""

    def __init__(self, name: str, say: Any) -> None:
        super().__init__(name)
        self.name, self.say = name, say


class WorkerProcess:
    """One running worker. Safe to call from several threads."""

    def __init__(self, wish: dict[str, Any], log: Path | None) -> None:
        """Start it and wait until the model is loaded.

        Raises:
            EngineUnavailable: it cannot be started, or the model not be loaded. EngineLost: it died over it.
        """
        environment = {**ENVIRONMENT, **asked.environment()}
        command = [sys.executable, "-P", "-m", MODULE]
        try:
            with open(_log_file(log), "ab") as errors:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment
                )
        except OSError as error:
            raise EngineUnavailable(f"The local model's process cannot be started ({error.strerror}).") from error
        self._log = log
        self._writing, self._numbers = threading.Lock(), count(1)
        self._waiting: dict[int, queue.SimpleQueue[frames.Frame | None]] = {}
        self._lock = threading.Lock()
        self._ended = False
        self._send(wish)
        first = self._receive()
        if first is None:
            lost = self.lost()
            self.close()
            raise lost
        if "failed" in first[0]:
            self.close()
            raise EngineUnavailable(str(first[0]["failed"]))
        self.facts: dict[str, Any] = first[0]["loaded"]
        self._listener = threading.Thread(target=self._listen, name="llama-answers", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return not self._ended

    def call(
        self,
        verb: str,
        blob: bytes = b"",
        *,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        cancelled: threading.Event | None = None,
        **content: Any,
    ) -> tuple[Any, bytes]:
        """Have something done; returns the result and the bytes beside it. `on_event` is called on this thread.

        Raises:
            Refused: it was not done. EngineLost: the worker died.
        """
        number, answers = next(self._numbers), queue.SimpleQueue[frames.Frame | None]()
        with self._lock:
            if self._ended:
                raise self.lost()
            self._waiting[number] = answers
        over = False
        try:
            self._send({"id": number, "verb": verb, **content}, blob)
            found = self._answer(number, answers, on_event, cancelled)
            over = True
            return found
        except (Refused, EngineLost):
            over = True
            raise
        finally:
            with self._lock:
                self._waiting.pop(number, None)
            if not over and self.alive:  # the caller's own callback failed: nobody waits for the rest
                self._send({"id": 0, "verb": "cancel", "job": number})

    def _answer(
        self,
        number: int,
        answers: queue.SimpleQueue[frames.Frame | None],
        on_event: Callable[[dict[str, Any]], None] | None,
        cancelled: threading.Event | None,
    ) -> tuple[Any, bytes]:
        watching = cancelled
        while True:
            if watching is not None and watching.is_set():
                self._send({"id": 0, "verb": "cancel", "job": number})
                watching = None
            try:
                frame = answers.get(timeout=ATTENTION_S if watching is not None else None)
            except queue.Empty:
                continue
            if frame is None:
                raise self.lost()
            content, blob = frame
            if "event" in content:
                if on_event is not None:
                    on_event(content["event"])
            elif "error" in content:
                raise Refused(content["error"], content["say"])
            else:
                return content["ok"], blob

    def _send(self, content: dict[str, Any], blob: bytes = b"") -> None:
        try:
            with self._writing:
                frames.send(cast(BinaryIO, self._process.stdin), content, blob)
        except (OSError, ValueError):
            raise self.lost() from None

    def _receive(self) -> frames.Frame | None:
        try:
            return frames.receive(cast(BinaryIO, self._process.stdout))
        except (OSError, ValueError):
            return None

    def _listen(self) -> None:
        while (frame := self._receive()) is not None:
            with self._lock:
                answers = self._waiting.get(frame[0]["id"])
            if answers is not None:
                answers.put(frame)
        with self._lock:
            self._ended = True
            for answers in self._waiting.values():
                answers.put(None)

    def lost(self) -> EngineLost:
        """What is said to a caller whose worker has gone."""
        try:
            status = self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            return EngineLost("it does not answer")
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return EngineLost(f"{how}; see {self._log}" if self._log else how)

    def close(self) -> None:
        """End it; may be called twice."""
        with self._lock:
            self._ended = True
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # what was still to be written to a dead worker
                self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if hasattr(self, "_listener"):
            self._listener.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _log_file(log: Path | None) -> str:
    """Where a worker's error output goes; a log that has grown long is put aside."""
    if log is None:
        return os.devnull
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".old"))
    return str(log)
