"""What is asked of a GPU where there is one. What libraries say of it is made up, so that tests run without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SETTINGS: dict[str, Any] = {
    "model": "no.gguf", "cells": 64, "step": 8, "sequences": 1, "kv_type": "f16", "flash": True, "rope_base": 0.0,
    "rope_scale": 0.0, "threads": 1,
}  # fmt: skip


class Reached(Exception):
    """The device was told."""


@pytest.mark.parametrize(
    ("gpu", "wished", "layers"), [(True, None, 999), (True, 7, 7), (True, 0, 0), (False, None, 0), (False, 7, 0)]
)
def test_a_models_layers_go_to_the_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, wished: int | None, layers: int
) -> None:
    pytest.importorskip("llama_cpp", reason="the extra activation is not installed")
    from memos_mcp.backends.llama import native

    asked: list[int] = []
    monkeypatch.setattr(native.llama, "llama_supports_gpu_offload", lambda: gpu)
    monkeypatch.setattr(
        native.llama, "llama_model_load_from_file", lambda _, params: asked.append(int(params.n_gpu_layers))
    )
    with pytest.raises(native.LoadFailed):
        native.Native(native.Wish(**SETTINGS, gpu_layers=wished))
    assert asked == [layers]


@pytest.mark.parametrize(("there", "device"), [(True, "cuda"), (False, "cpu")])
def test_a_model_learns_on_the_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, there: bool, device: str
) -> None:
    torch = pytest.importorskip("torch", reason="the extra parametric is not installed")
    pytest.importorskip("peft", reason="the extra parametric is not installed")
    from memos_mcp.backends.lora import pupil
    from memos_mcp.parametric.recipe import Recipe

    class Wrapped:
        def to(self, where: Any) -> None:
            assert where == torch.device(device)
            raise Reached

    class Given:
        @staticmethod
        def from_pretrained(*_: object, **__: object) -> object:
            return object()

    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    # which takes the smallest numbers from every test that comes after in this process
    monkeypatch.setattr(torch, "set_flush_denormal", lambda _: True)
    for name in ("AutoTokenizer", "AutoModelForCausalLM"):
        monkeypatch.setattr(pupil, name, Given)
    monkeypatch.setattr(pupil, "get_peft_model", lambda *_: Wrapped())
    with pytest.raises(Reached):
        pupil.Pupil(Path("no-folder"), Recipe())
