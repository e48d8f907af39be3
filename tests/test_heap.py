"""Memory that native code is given begins blank where an index is written, and as before behind that."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

TRIED = """
import ctypes
from memos_mcp.backends.heap import blank_heap

SIZE, SAID, TRIM_THRESHOLD = 50_000, b"The gate code is 4711. ", -1
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
library.mallopt(TRIM_THRESHOLD, 1 << 30)  # else what lies at the heap's end may be given back to the system

def given():
    "What stands in memory that is given out, and given back full of a text."
    place = library.malloc(SIZE)
    found = ctypes.string_at(place, SIZE)
    text = SAID * (SIZE // len(SAID))
    ctypes.memmove(place, text, len(text))
    library.free(place)
    return found

def comes_back():
    "Whether the text is met again; not always at once: what is given back may join the free memory before it."
    return any(SAID in given() for _ in range(100))

assert comes_back(), "else this test shows nothing"
with blank_heap():
    assert given() == bytes(SIZE)
    with blank_heap():
        assert given() == bytes(SIZE)
    assert given() == bytes(SIZE), "a block that ends within another ends nothing"
assert comes_back()
print("as it should be")
"""
"""In a process of its own: what others have left in a heap decides which memory is given out."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to blank its memory")
def test_memory_is_given_out_as_it_was_left_but_within_the_block() -> None:
    done = subprocess.run([sys.executable, "-c", TRIED], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "as it should be\n", done.stderr
