"""Small models with random weights in Hugging Face folders and as GGUF files, and random adapters for them.

Knows no memory. Import it behind `pytest.importorskip` of torch, peft and gguf.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_model.check import GgufModel
from transformers import LlamaConfig, MistralConfig, PreTrainedModel, Qwen2Config, Qwen3Config
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

SIZES: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 80, "vocab_size": 96, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
}  # fmt: skip
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config
}
_OF_LAYER = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
_OF_MODEL = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def random_model(kind: str, folder: Path, seed: int = 0) -> PreTrainedModel:
    """A model of this `model_type` in a folder, with biases that are not zero where it has any."""
    torch.manual_seed(seed)
    sizes = {**SIZES, "head_dim": 12, "tie_word_embeddings": False}
    if kind == "mistral":
        sizes["sliding_window"] = None
    model = AutoModelForCausalLM.from_config(CONFIGS[kind](**sizes))
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(torch.randn_like(value) * 0.2 + (1.0 if "norm" in name else 0.0))
    model.save_pretrained(folder)
    return model.eval()


def as_gguf(model: PreTrainedModel, out: Path) -> None:
    """The model as an F32 GGUF file without a vocabulary of texts."""
    config = model.config
    architecture = "llama" if config.model_type == "mistral" else config.model_type
    writer = gguf.GGUFWriter(out, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    for name, value in model.state_dict().items():
        writer.add_tensor(_name(name), _rows(name, value.numpy().astype(np.float32), config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def random_adapter(model: PreTrainedModel, folder: Path, targets: list[str], *, rank: int = 4) -> PeftModel:
    """An adapter with random weights, saved by peft."""
    config = LoraConfig(r=rank, lora_alpha=3 * rank, target_modules=targets, task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "lora_" in name:
                value.copy_(torch.randn_like(value) * 0.2)
    adapted.save_pretrained(folder, safe_serialization=True)
    return adapted.eval()


def logits(model: Any, tokens: list[int]) -> NDArray[np.float32]:
    """What transformers predicts after each token."""
    with torch.no_grad():
        found: NDArray[np.float32] = model(torch.tensor([tokens])).logits[0].float().numpy()
    return found


class Adapted(GgufModel):
    """A model opened by llama.cpp, on which an adapter can be mounted."""

    def mount(self, path: Path, weight: float = 1.0) -> None:
        """Let the next readings go through this adapter."""
        adapter = llama_cpp.llama_adapter_lora_init(self._model, str(path).encode())
        if not adapter:
            raise ValueError(f"llama.cpp cannot mount {path}")
        one = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter)
        status = llama_cpp.llama_set_adapters_lora(self._context, one, 1, (ctypes.c_float * 1)(weight))
        if status != 0:
            raise ValueError(f"llama.cpp cannot mount {path}: {status}")


def _name(name: str) -> str:
    stem, _, suffix = name.rpartition(".")
    if stem in _OF_MODEL:
        return f"{_OF_MODEL[stem]}.{suffix}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{_OF_LAYER[rest]}.{suffix}"


def _rows(name: str, values: NDArray[np.float32], config: Any) -> NDArray[np.float32]:
    """Rows of queries and keys in the order in which llama.cpp's Llama rotates them; everything else as it is."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    projection = name.split(".")[-2]
    if config.model_type not in ("llama", "mistral") or projection not in heads:
        return values
    return np.ascontiguousarray(
        values.reshape(heads[projection], 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
    )
