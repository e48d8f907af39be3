"""Records which memories were served, in batches behind the calls, and moves the used ones to activated.

Knows nothing of searching: it is told what was served, after the answer.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import bindparam, insert, update

from memos_mcp.errors import MemosError
from memos_mcp.governance import Caller
from memos_mcp.ledger import operations
from memos_mcp.ledger.ledger import Ledger
from memos_mcp.ledger.schema import cubes, usage
from memos_mcp.states import State
from memos_mcp.vault import Vault

log = logging.getLogger(__name__)

FLUSH_S = 1.0
_USED = (
    update(cubes)
    .where(cubes.c.seq == bindparam("cube"))
    .values(uses=cubes.c.uses + bindparam("more"), last_used=bindparam("at"))
)
"""One statement for any number of memories: SQLAlchemy keeps what it compiles, and each number would be another."""


class Usage:
    """A queue of served memories with a thread that writes it down. Safe to share between threads."""

    def __init__(self, ledger: Ledger, vault: Vault) -> None:
        self._ledger, self._vault = ledger, vault
        self._served: list[tuple[int, str, Caller]] = []
        self._wake = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to write in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
        self._thread.start()

    def served(self, seqs: Sequence[int], at: str, caller: Caller) -> None:
        """Note that these memories were given to the caller; returns at once. A read-only store notes nothing."""
        if self._ledger.read_only:
            return
        with self._wake:
            self._served += [(seq, at, caller) for seq in seqs]

    def stop(self) -> None:
        """Write what is left and end; may be called twice."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join()
        self.flush()

    def flush(self) -> None:
        """Write what was noted so far."""
        with self._wake:
            batch, self._served = self._served, []
        if not batch:
            return
        try:
            self._write(batch)
        except MemosError as error:
            log.warning("%d uses were not recorded: %s", len(batch), error)

    def _run(self) -> None:
        while True:
            with self._wake:
                stopping = self._wake.wait_for(lambda: self._stopping, FLUSH_S)
            if stopping:
                return
            self.flush()

    def _write(self, batch: list[tuple[int, str, Caller]]) -> None:
        counts = Counter(seq for seq, _, _ in batch)
        last = {seq: at for seq, at, _ in batch}
        by_caller: dict[Caller, list[int]] = {}
        for seq, _, caller in batch:
            by_caller.setdefault(replace(caller, request=None, again=False), []).append(seq)
        with self._ledger.write() as connection:
            present = self._vault.by_seqs(connection, list(counts))
            rows = [
                {"cube": seq, "at": at, "event": "served", "principal": caller.principal}
                for seq, at, caller in batch
                if seq in present
            ]
            if not rows:
                return
            connection.execute(insert(usage), rows)
            connection.execute(_USED, [{"cube": seq, "more": counts[seq], "at": last[seq]} for seq in present])
            for caller, served in by_caller.items():
                found = [present[seq] for seq in dict.fromkeys(served) if seq in present]
                if fresh := [cube for cube in found if cube.state is State.GENERATED]:
                    op = operations.begin("use", caller.principal, caller.client, batch[-1][1], "first use")
                    made = self._vault.move_all(connection, op, fresh, State.ACTIVATED, "use")
                    operations.record(connection, op, [change for _, change in made])
                    present |= self._vault.by_seqs(connection, [cube.seq for cube in fresh])
