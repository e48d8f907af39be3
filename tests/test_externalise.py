"""An adapter made elsewhere is asked what it knows, and what it is sure of is kept as memories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import made_adapters as made
import pytest
from fake_engine import END, FIRST_BYTE, FakeEngine, _Held
from person import Person

from memos_mcp.activation.engine import Best
from memos_mcp.errors import Conflict, InvalidInput
from memos_mcp.kernel import Kernel
from memos_mcp.parametric.base_model import read_base_model
from memos_mcp.settings import write_config

pytest.importorskip("gguf", reason="gguf is not installed: no adapter is converted")

TINY = Path(__file__).parent / "data" / "tiny_model"
KNOWN = FIRST_BYTE + ord("k")


class Certain(FakeEngine):
    """Says k to everything where an adapter is mounted, and else something that depends on the question."""

    def _next(self, held: _Held, count: int, *, begun: bool = True) -> list[Best]:
        if not held.mounts.adapters:
            return super()._next(held, count, begun=begun)
        return [Best(END if held.tokens[-1] == KNOWN else KNOWN, 9.0)]


def store(open_kernel: Callable[..., Kernel], home: Path, engine: FakeEngine) -> Kernel:
    write_config(home, "base_model", str(TINY))
    write_config(home, "model", str(TINY / "model.gguf"))
    return open_kernel(engine=lambda _: engine)


def imported(kernel: Kernel, ada: Person, folder: Path) -> str:
    peft = made.folder(folder / "peft", made.matrices(read_base_model(TINY)))
    return str(kernel.api.import_adapter(ada.caller, str(peft), "theirs", None)["id"])


def test_what_an_adapter_says_in_every_wording_is_kept_with_how_sure_it_is(
    open_kernel: Callable[..., Kernel], home: Path, tmp_path: Path
) -> None:
    kernel = store(open_kernel, home, Certain(cells=100_000))
    ada = Person(kernel.api, "ada")
    adapter = imported(kernel, ada, tmp_path)
    with pytest.raises(Conflict, match=f"memos-mcp externalise {adapter}"):
        ada.promote(adapter, to="plaintext")
    found = kernel.api.externalise(ada.caller, adapter, ["What is the code?", " ", "密码是什么？", "What is the code?"])
    assert found["asked"] == 3
    assert sorted(ada.text(cube) for cube in found["kept"]) == ["What is the code? k", "密码是什么？ k"]
    cube = kernel.api.read.cube(ada.caller, found["kept"][0])
    assert cube["descriptive"]["metadata"] == {"confidence": 1.0, "adapter": adapter}
    assert {"to": adapter, "relation": "derived_from"} in cube["lineage"]["links"]


def test_what_it_is_not_sure_of_is_not_kept(
    open_kernel: Callable[..., Kernel], home: Path, tmp_path: Path, engine: FakeEngine
) -> None:
    kernel = store(open_kernel, home, engine)
    ada = Person(kernel.api, "ada")
    adapter, fact = imported(kernel, ada, tmp_path), ada.keep("The gate is green.")
    found = kernel.api.externalise(ada.caller, adapter, None)
    assert found["asked"] > 10
    assert (found["kept"], found["op"]) == ([], None)
    with pytest.raises(InvalidInput, match="is no adapter"):
        kernel.api.externalise(ada.caller, fact, None)
    with pytest.raises(InvalidInput, match="give 1 to 500"):
        kernel.api.externalise(ada.caller, adapter, [" "])
