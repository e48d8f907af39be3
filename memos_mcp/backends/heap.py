"""Has new memory of native code begin blank for a while: a library that writes what it never filled writes no text.

Knows no library. Only glibc can be told; elsewhere nothing changes.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_M_PERTURB = -6
"""glibc's name for the byte with which memory is filled when it is given back, see mallopt(3)."""
_FILL = 0xFF
"""Memory given out is filled with its complement: zeros."""
_inside = 0
_lock = threading.Lock()


@contextmanager
def blank_heap() -> Iterator[None]:
    """Within the block, in whatever thread, memory is given out blank. Blocks may overlap."""
    global _inside
    with _lock:
        _inside += 1
        _fill_with(_FILL)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _fill_with(0)


def _fill_with(byte: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_PERTURB, byte)
