"""What every serving process sets up: where it writes its log, how its threads take turns, and what heap they share."""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

from memos_mcp.errors import MemosError
from memos_mcp.layout import Layout

LOG_BYTES, LOG_FILES = 1_000_000, 3
LOG_FILE = "memos-mcp.log"
_M_ARENA_MAX = -8
"""glibc's name for the number of heaps that threads spread over, see mallopt(3)."""
SWITCH_S = 0.0005
"""Seconds after which a busy thread lets another one run: a search has some fifty moments at which it would wait
Python's usual 5 ms behind a bulk addition."""


def take_short_turns() -> None:
    """Let threads take turns more often than Python would."""
    sys.setswitchinterval(SWITCH_S)


def spare_what_is_loaded() -> None:
    """Leave what there is now, a hundred thousand objects of modules, out of the search for garbage.

    To look at all of them stops every thread for a tenth of a second.
    """
    gc.freeze()


def share_one_heap() -> None:
    """Have all threads allocate from one heap; called before there is a second one, and in vain without glibc.

    With a heap for each few threads, short-lived worker threads leave every one of them full of holes.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def log_to_file(home: Path) -> None:
    """Our own log goes to a rotating file; those of libraries, which may quote what they were given, nowhere."""
    logging.getLogger().addHandler(logging.NullHandler())
    ours = logging.getLogger("memos_mcp")
    ours.propagate = False
    ours.setLevel(logging.INFO)
    folder = Layout(home).logs
    handler: logging.Handler
    try:
        Layout(home).create()
        folder.mkdir(mode=0o700, exist_ok=True)
        handler = RotatingFileHandler(folder / LOG_FILE, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8")
    except (OSError, MemosError):
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"))
    ours.addHandler(handler)
