"""The kernel process: owns a data directory and serves every bridge and command that connects to it.

Takes lock and socket with the standard library alone, so that others find it while it is still loading the rest.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from memos_mcp import launch, listening, rendezvous
from memos_mcp import settings as settings_of
from memos_mcp.errors import MemosError, StoreOwned
from memos_mcp.layout import Layout
from memos_mcp.listening import Listener
from memos_mcp.lock import DirectoryLock
from memos_mcp.settings import Settings

Kind = Literal["kernel", "serve"]
TAKE_OVER_S = 30.0
"""Seconds in which a bridged kernel has to give the directory up to one in the foreground."""
BRIEFLY_S = 0.2
"""Seconds for which a kernel waits for a lock that is being looked at by somebody."""
ERRORS_FILE = "kernel-errors.log"


@dataclass(frozen=True)
class Ground:
    """What a kernel stands on: an owned data directory that can be written, and a place where it is found.

    `kind`: started by a bridge (kernel), ending when idle; or in the foreground (serve).
    """

    settings: Settings
    lock: DirectoryLock
    listener: Listener
    identity: list[int]
    kind: Kind
    loopback: bool


def main(arguments: Mapping[str, str], *, bridged: bool = False, loopback: bool = False) -> int:
    """Serve until told to end, and end the process. Returns the exit status only if serving could not begin."""
    try:
        ground = take(settings_of.load(arguments), "kernel" if bridged else "serve", loopback)
    except StoreOwned as owned:
        print(json.dumps({"pid": owned.pid, "kind": owned.kind}) if bridged else f"memos-mcp: {owned}", file=sys.stderr)
        return launch.EXIT_OWNED
    except MemosError as error:
        print(f"memos-mcp: {error}", file=sys.stderr)
        return launch.EXIT_REFUSED
    if bridged:
        _leave_the_starter(Layout(ground.settings.home))
    else:
        print(f"memos-mcp serves {ground.settings.home} at {ground.listener.address}; Ctrl-C ends it.", flush=True)
    import anyio

    from memos_mcp.gateway.kernel_process import KernelProcess
    from memos_mcp.gateway.process import log_to_file, share_one_heap, take_short_turns

    log_to_file(ground.settings.home)
    share_one_heap()
    take_short_turns()
    anyio.run(KernelProcess(ground).run)
    logging.shutdown()
    os._exit(0)  # threads of native libraries still run, and waiting for them could take long or abort


def bridged(arguments: list[str]) -> int:
    """What a bridge starts: `serve --bridged --home FOLDER [--loopback]`."""
    parser = argparse.ArgumentParser(prog="memos-mcp serve")
    parser.add_argument("serve")
    parser.add_argument("--bridged", action="store_true", required=True)
    parser.add_argument("--home", required=True)
    parser.add_argument("--loopback", action="store_true")
    given = parser.parse_args(arguments)
    return main({"home": given.home}, bridged=True, loopback=given.loopback)


def take(settings: Settings, kind: Kind, loopback: bool) -> Ground:
    """Own the data directory, prove that it can be written, and listen.

    Raises:
        StoreOwned: another process owns it. StorageFailed: it cannot be written.
    """
    layout = Layout(settings.home)
    layout.create()
    lock = DirectoryLock(layout.lock)
    if kind == "serve":
        _take_over(lock, str(settings.home))
    else:
        lock.acquire(BRIEFLY_S, kind, loading=True)
    try:
        layout.prove_writable()
        if not layout.ledger.exists():
            settings_of.pin_store_settings(settings)
        identity = rendezvous.identity(str(settings.home))
        listener = listening.listen(str(settings.home), loopback=loopback)
    except MemosError:
        lock.release()
        raise
    os.chdir(settings.home)
    return Ground(settings, lock, listener, identity, kind, loopback)


def _take_over(lock: DirectoryLock, home: str) -> None:
    """Take the lock, asking a kernel that was started by a bridge to drain and give it up."""
    end = time.monotonic() + TAKE_OVER_S
    while True:
        try:
            lock.acquire(BRIEFLY_S, "serve", loading=True)
            return
        except StoreOwned as owned:
            if owned.kind != "kernel" or time.monotonic() > end:
                raise
            _ask_to_drain(home)


def _ask_to_drain(home: str) -> None:
    try:
        connection = rendezvous.connect(home)
        rendezvous.greet(connection, home, {"role": "command", "drain": True}, launch.SILENT_S)
        connection.sock.close()
    except (rendezvous.NoKernel, rendezvous.KernelGone):
        return
    except rendezvous.KernelSilent:
        raise launch.silent(home) from None


def _leave_the_starter(layout: Layout) -> None:
    """Let go of what the starting process waits for, and have crashes of native code written down."""
    layout.logs.mkdir(mode=0o700, exist_ok=True)
    errors = os.open(layout.logs / ERRORS_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    os.close(null)
    os.close(errors)
    faulthandler.enable()
