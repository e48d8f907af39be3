"""Adapters as GGUF say what peft says, for models of several architectures; what cannot be converted is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memos_mcp.parametric.adapter_folder import read_adapter
from memos_mcp.parametric.base_model import read_base_model
from memos_mcp.parametric.bases import Bases, difference, of_gguf
from memos_mcp.parametric.gguf_adapter import read_gguf_adapter
from memos_mcp.parametric.gguf_file import read
from memos_mcp.parametric.recipe import TARGETS

pytest.importorskip("torch", reason="torch is not installed: nothing is compared with peft")
pytest.importorskip("peft", reason="peft is not installed: nothing is compared with it")
pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed: nothing is compared with it")
pytest.importorskip("gguf", reason="gguf is not installed: nothing is converted")

import random_models

from memos_mcp.parametric.conversion import to_gguf

# peft asks every attribute of a transformers model, also one that is about to go
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
TOKENS = [5, 17, 3, 88, 41, 41, 9, 60, 2, 71, 13, 30]
CLOSE = 1e-2


@pytest.fixture(scope="module", params=["llama", "mistral", "qwen2", "qwen3"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    made = random_models.random_model(request.param, folder / "hf")
    random_models.as_gguf(made, folder / "model.gguf")
    return made, folder


def apart(model: Any, folder: Path, adapter: Path | None = None) -> float:
    """The largest difference between what transformers and llama.cpp predict."""
    opened = random_models.Adapted(folder / "model.gguf", exact=True)
    try:
        if adapter is not None:
            opened.mount(adapter)
        return float(np.abs(opened.logits(TOKENS) - random_models.logits(model, TOKENS)).max())
    finally:
        opened.close()


@pytest.mark.parametrize("targets", [list(TARGETS), ["q_proj", "v_proj"], ["down_proj"]], ids="-".join)
def test_llama_cpp_predicts_with_the_converted_adapter_what_peft_does(
    model: Any, tmp_path: Path, targets: list[str]
) -> None:
    made, folder = model
    plain = random_models.logits(made, TOKENS)
    assert apart(made, folder) <= CLOSE
    adapted = random_models.random_adapter(made, tmp_path / "peft", targets)
    try:
        base = read_base_model(folder / "hf")
        to_gguf(read_adapter(tmp_path / "peft", base), base, tmp_path / "adapter.gguf")
        again = read_gguf_adapter(tmp_path / "adapter.gguf", base)
        assert (again.rank, again.alpha, set(again.targets)) == (4, 12.0, set(targets))
        moved = np.abs(random_models.logits(adapted, TOKENS) - plain).max()
        assert moved > 100 * CLOSE, "an adapter that changes nothing shows nothing"
        assert apart(adapted, folder, tmp_path / "adapter.gguf") <= CLOSE
    finally:
        adapted.unload()


def test_a_folder_and_the_file_that_was_made_of_it_are_known_as_one_model(model: Any) -> None:
    _, folder = model
    bases = Bases(folder / "hf", folder / "model.gguf")
    bases.require(bases.base().identity)
    file = read(folder / "model.gguf")
    assert difference(read_base_model(folder / "hf"), file, of_gguf(file)) is None


def test_a_model_of_the_same_shape_with_other_weights_is_another(model: Any, tmp_path: Path) -> None:
    made, folder = model
    random_models.random_model(made.config.model_type, tmp_path / "hf", seed=1)
    file = read(folder / "model.gguf")
    assert "weights" in str(difference(read_base_model(tmp_path / "hf"), file, of_gguf(file)))
