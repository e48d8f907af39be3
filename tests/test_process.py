"""What serving processes set up before they serve."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAPS = """
import ctypes, re, sys, threading
from memos_mcp.gateway.process import share_one_heap
share_one_heap()
libc, together = ctypes.CDLL(None), threading.Barrier(8)
libc.malloc.restype = ctypes.c_void_p
def allocate():
    together.wait()
    for _ in range(1_000):
        libc.malloc(100)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fdopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, stream)
libc.fflush(stream)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc gives threads heaps of their own that can be counted")
def test_the_threads_of_a_serving_process_share_one_heap() -> None:
    done = subprocess.run([sys.executable, "-c", HEAPS], capture_output=True, text=True, check=True, timeout=60)
    if "<heap nr=" not in done.stdout:
        pytest.skip("this C library does not tell its heaps")
    assert done.stdout.count("<heap nr=") == 1


def test_what_is_loaded_is_left_out_of_the_search_for_garbage() -> None:
    code = (
        "import gc\nfrom memos_mcp.gateway.process import spare_what_is_loaded\nbefore = len(gc.get_objects())\n"
        "spare_what_is_loaded()\nprint(before, len(gc.get_objects()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    before, after = map(int, done.stdout.split())
    assert after < before / 10
