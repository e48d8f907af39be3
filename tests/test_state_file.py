"""States on disk: what was written comes back, and nothing else is ever taken for it."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_mcp.activation import state_file
from memos_mcp.activation.state_file import Part, StateHeader, StateRefused, open_state, read_header, write_state
from memos_mcp.errors import EngineLost, StorageFailed

STATE = bytes(range(256)) * 40
HEADER = StateHeader(
    identity="abc", kv_type="f16", layers=24, bytes_per_token=12, tokens=(1, 5, 700), parts=(Part("01J", 3, 3),),
    created="2026-01-01T00:00:00Z",
)  # fmt: skip


def writing(state: bytes = STATE) -> Callable[[Path, int], int]:
    def write(path: Path, offset: int) -> int:
        with open(path, "r+b") as file:
            file.seek(offset)
            return file.write(state)

    return write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / f"one{state_file.SUFFIX}"
    write_state(made, HEADER, writing())
    return made


def refused(path: Path, **expected: object) -> str:
    with pytest.raises(StateRefused) as found:
        open_state(path, **({"identity": "abc"} | expected))  # type: ignore[arg-type]
    assert found.value.path == path
    return found.value.reason


def test_what_was_written_comes_back(path: Path) -> None:
    found = open_state(path, "abc", tokens=HEADER.tokens, parts=HEADER.parts)
    assert found.header == HEADER == read_header(path)
    content = path.read_bytes()
    assert content[found.blob.offset :] == STATE
    assert len(STATE) == found.blob.size


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 10**6), max_size=50),
    st.text(max_size=20).filter(lambda text: text.isprintable()),
    st.binary(max_size=3_000),
    st.booleans(),
)
def test_any_header_and_state_come_back(tmp_path_factory: pytest.TempPathFactory, tokens: list[int], word: str,
                                        state: bytes, thinned: bool) -> None:  # fmt: skip
    made = tmp_path_factory.mktemp("state") / "any.state"
    positions = tuple(range(3, 3 + 2 * len(tokens), 2)) if thinned else None
    header = replace(HEADER, tokens=tuple(tokens), positions=positions, approximate=word or None)
    size = write_state(made, header, writing(state))
    found = open_state(made, "abc")
    assert found.header == header
    assert made.stat().st_size == size == found.blob.offset + len(state)
    assert found.header.end == ((positions[-1] + 1) if positions else len(tokens))


def test_a_state_file_is_private(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


def places(path: Path) -> dict[str, int]:
    """An offset within each class of bytes."""
    content = path.read_bytes()
    _, _, of_text, offset, size, *_ = state_file.PREAMBLE.unpack(content[: state_file.PREAMBLE.size])
    text, end = state_file.PREAMBLE.size, state_file.PREAMBLE.size + of_text
    found = {
        "magic": 3,
        "format": 8,
        "header length": 12,
        "offset": 16,
        "size": 24,
        "state digest": 40,
        "head digest": 72,
        "identity": content.index(b'"abc"') + 1,
        "token": content.index(b"700"),
        "cube": content.index(b"01J"),
        "version": content.index(b'"version":') + 10,
        "kv type": content.index(b"f16"),
        "header brace": text,
        "first of the state": offset,
        "middle of the state": offset + size // 2,
        "last of the state": offset + size - 1,
    }
    assert offset > end
    return found | {"padding": end}


def test_a_flip_in_any_class_of_bytes_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    for name, place in places(path).items():
        for bit in (0x01, 0x80):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            reason = refused(path)
            assert reason == {"magic": "not a state", "format": "format"}.get(name, "damaged"), name
    path.write_bytes(whole)
    open_state(path, "abc")


@pytest.mark.slow
def test_a_flip_of_any_byte_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    offset = open_state(path, "abc").blob.offset
    for place in range(offset + 100):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        assert refused(path)


def test_a_file_of_any_other_length_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in (0, 1, 7, 50, state_file.PREAMBLE.size, state_file.PREAMBLE.size + 9, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert refused(path) in ("damaged", "not a state")
    path.write_bytes(whole + b"\0")
    assert refused(path) == "damaged"


def test_another_models_state_is_refused(path: Path) -> None:
    assert refused(path, identity="abd") == "model"


def test_a_state_of_other_tokens_or_cubes_is_refused(path: Path) -> None:
    assert refused(path, tokens=(1, 5, 701)) == "tokens"
    assert refused(path, tokens=(1, 5)) == "tokens"
    assert refused(path, parts=(Part("01J", 4, 3),)) == "cubes"
    assert refused(path, parts=()) == "cubes"


def test_an_older_format_is_refused_by_its_name(path: Path) -> None:
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 8, state_file.FORMAT - 1)
    path.write_bytes(content)
    assert refused(path) == "format"


def test_a_state_swapped_under_another_header_is_refused(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.state"
    write_state(other, replace(HEADER, identity="xyz"), writing(STATE[::-1]))
    mine, theirs = path.read_bytes(), other.read_bytes()
    offset = open_state(path, "abc").blob.offset
    path.write_bytes(mine[:offset] + theirs[-len(STATE) :])
    assert refused(path) == "damaged"
    path.write_bytes(theirs)
    assert refused(path) == "model"


def test_what_is_not_there_or_not_a_file_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.state") == "missing"
    (tmp_path / "folder.state").mkdir()
    assert refused(tmp_path / "folder.state") == "unreadable"


def test_a_writing_that_fails_leaves_the_old_file_and_no_other(path: Path) -> None:
    before = path.read_bytes()

    def dies(_: Path, __: int) -> int:
        raise EngineLost("signal 9")

    def full(_: Path, __: int) -> int:
        raise OSError(28, "No space left on device")

    with pytest.raises(EngineLost):
        write_state(path, HEADER, dies)
    with pytest.raises(StorageFailed, match="No space left"):
        write_state(path, HEADER, full)
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_what_a_crash_left_is_swept(path: Path) -> None:
    left = path.with_name(f".one.state.1234{state_file.UNFINISHED}")
    left.write_bytes(b"half")
    assert state_file.remove_unfinished(path.parent) == 1
    assert os.listdir(path.parent) == [path.name]


def test_an_engines_state_goes_through_a_file(tmp_path: Path) -> None:
    engine = FakeEngine()
    sequence = engine.open()
    tokens = engine.tokenize("the tea is hot", bos=True)
    engine.read(sequence, tokens)
    header = replace(HEADER, identity=engine.identity(), tokens=tokens)
    write_state(tmp_path / "t.state", header, lambda path, offset: engine.write(sequence, path, offset))
    found = open_state(tmp_path / "t.state", engine.identity(), tokens=tokens)
    restored = engine.restore(found.blob, found.header.tokens)
    assert engine.generate(restored, [5], 8).tokens == engine.generate(sequence, [5], 8).tokens
    with pytest.raises(StateRefused):
        open_state(tmp_path / "t.state", FakeEngine("other").identity())
