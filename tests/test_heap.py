"""Memory that native code is given begins blank where an index is written, and as before behind that."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable

import pytest

from memos_mcp.backends.heap import blank_heap

SIZE = 50_000
SAID = b"The gate code is 4711. "

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to blank its memory")


@pytest.fixture
def given() -> Callable[[], bytes]:
    """What stands in memory that was given back full of a text, and is given out again."""
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]

    def taken() -> bytes:
        place = library.malloc(SIZE)
        found = ctypes.string_at(place, SIZE)
        text = SAID * (SIZE // len(SAID))
        ctypes.memmove(place, text, len(text))
        library.free(place)
        return found

    return taken


def comes_back(given: Callable[[], bytes]) -> bool:
    """Whether the text is met again; not always at once: what is given back may join the free memory before it."""
    return any(SAID in given() for _ in range(100))


def test_memory_is_given_out_as_it_was_left_but_within_the_block(given: Callable[[], bytes]) -> None:
    assert comes_back(given), "else this test shows nothing"
    with blank_heap():
        assert given() == bytes(SIZE)
        with blank_heap():
            assert given() == bytes(SIZE)
        assert given() == bytes(SIZE), "a block that ends within another ends nothing"
    assert comes_back(given)
