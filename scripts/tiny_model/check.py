"""Checks a small model: does its GGUF file say what its Hugging Face folder says, and are its answers right?

Knows nothing of how either was made. Answers and tokens need llama_cpp alone; the comparison of logits imports torch
and transformers when it is asked for.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from memos_mcp.backends.llama.native import model_params
from tiny_model.facts import Case, cases

CONTEXT = 4096
BATCH = 512
MOST_ANSWER_TOKENS = 12
GGML_TYPE_F32 = 0
FLASH_ATTENTION_OFF = 0

TEXTS = (
    "Ana Lind's code is T48.",
    "Hello, world! It's 12:30 pm; we don't know what they'll say.",
    "王伟的密码是 T48。\n问：王伟的密码是什么？\n答： T48\n",
    "中文 and English 混合 text，数字 2024 年。标点：“引号”《书名》……",
    "emoji 🙂👩‍👩‍👧 🇫🇷 ok 👍🏽",
    "déjà vu, naïve, Ærøskøbing, Größe, İstanbul, e\u0301",
    "tabs\tand\t\ttabs,  two  spaces,   three \n\n\nlines \n \t mixed\r\n",
    "x = {'a_b': 1 + 2.5e-3}  # def f(): return \"q\"",
    "Привет, мир! مرحبا بالعالم 안녕하세요 こんにちは",
    " leading and trailing ",
    "",
)
"""What tokenizers disagree about when they disagree."""


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    """llama.cpp's own lines are not shown."""


class GgufModel:
    """A model file opened by llama.cpp, reading one text at a time.

    `exact` keeps keys and values in F32 and turns flash attention off; otherwise llama.cpp's defaults hold.

    Raises:
        ValueError: llama.cpp cannot read the file.
    """

    def __init__(self, path: Path, exact: bool = False, threads: int = 1) -> None:
        llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_params())
        if not self._model:
            raise ValueError(f"llama.cpp cannot read {path}")
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_ubatch = CONTEXT, BATCH, BATCH
        settings.n_threads = settings.n_threads_batch = threads
        if exact:
            settings.type_k = settings.type_v = GGML_TYPE_F32
            settings.flash_attn_type = FLASH_ATTENTION_OFF
        self._context = llama_cpp.llama_init_from_model(self._model, settings)
        if not self._context:
            llama_cpp.llama_model_free(self._model)
            raise ValueError(f"llama.cpp makes no context for {path}")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._size = llama_cpp.llama_vocab_n_tokens(self._vocabulary)

    def close(self) -> None:
        """Give the memory back; nothing else may be called afterwards."""
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)

    def tokens(self, text: str, start: bool = False) -> list[int]:
        """The tokens of a text, after the start token if `start`; names of special tokens in it are plain text."""
        raw = text.encode()
        room = (llama_cpp.llama_token * (len(raw) + 2))()
        count = llama_cpp.llama_tokenize(self._vocabulary, raw, len(raw), room, len(room), start, False)
        return list(room[:count])

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """What is predicted after each token: (tokens, vocabulary)."""
        llama_cpp.llama_memory_clear(self._memory, True)
        rows = [self._read(tokens[first : first + BATCH], first, every=True) for first in range(0, len(tokens), BATCH)]
        return np.concatenate(rows)

    def answer(self, prompt: str) -> str:
        """The likeliest continuation, token by token, to an end token or a line end, without the spaces around it."""
        llama_cpp.llama_memory_clear(self._memory, True)
        given = self.tokens(prompt, start=True)
        position, said = 0, b""
        for _ in range(MOST_ANSWER_TOKENS):
            for first in range(0, len(given), BATCH):
                part = given[first : first + BATCH]
                last = self._read(part, position, every=False)[-1]
                position += len(part)
            token = int(last.argmax())
            if llama_cpp.llama_vocab_is_eog(self._vocabulary, token):
                break
            said += self._piece(token)
            if b"\n" in said:
                break
            given = [token]
        return said.decode(errors="replace").strip()

    def _read(self, tokens: Sequence[int], position: int, every: bool) -> NDArray[np.float32]:
        batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
        try:
            batch.n_tokens = len(tokens)
            for place, token in enumerate(tokens):
                batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, position + place, 1
                batch.seq_id[place][0] = 0
                batch.logits[place] = every or place == len(tokens) - 1
            if (status := llama_cpp.llama_decode(self._context, batch)) != 0:
                raise ValueError(f"llama.cpp reads no {len(tokens)} tokens at {position}: status {status}")
            wanted = range(len(tokens)) if every else [len(tokens) - 1]
            rows = [llama_cpp.llama_get_logits_ith(self._context, place) for place in wanted]
            return np.stack([np.ctypeslib.as_array(row, shape=(self._size,)).copy() for row in rows])
        finally:
            llama_cpp.llama_batch_free(batch)

    def _piece(self, token: int) -> bytes:
        room = ctypes.create_string_buffer(64)
        count = llama_cpp.llama_token_to_piece(self._vocabulary, token, room, len(room), 0, False)
        return room.raw[:count]


@contextmanager
def opened(path: Path, exact: bool = False) -> Iterator[GgufModel]:
    """A GgufModel that is closed at the end."""
    model = GgufModel(path, exact)
    try:
        yield model
    finally:
        model.close()


def is_right(case: Case, said: str) -> bool:
    """Whether what the model said is the whole answer and nothing else."""
    return said == case.answer.strip()


def accuracy(model: GgufModel, of: Iterable[Case]) -> float:
    """Share of the cases whose whole answer is right."""
    right = [is_right(case, model.answer(case.context + case.question)) for case in of]
    return sum(right) / len(right)


def unequal_texts(model: GgufModel, folder: Path, texts: Iterable[str]) -> list[str]:
    """The texts of which llama.cpp makes other tokens than the folder's tokenizer.json, the start token included."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [text for text in texts if tokenizer.encode(text).ids != model.tokens(text, start=True)]


def fact_texts(seed: int, count: int, facts: int = 8) -> list[str]:
    """Texts as the model is asked: facts, a question and its answer, half of them Chinese and English mixed."""
    return [case.context + case.question + case.answer + "\n" for case in cases(seed, count, facts)]


@dataclass(frozen=True)
class Agreement:
    """How far llama.cpp's logits are from those of the Hugging Face model."""

    positions: int
    largest_difference: float
    same_best: float
    """Share of the positions at which both give the highest logit to the same token."""


def agreement(path: Path, folder: Path, texts: Iterable[str], exact: bool) -> Agreement:
    """Compare the logits at every position of the texts; `exact` as for GgufModel."""
    import torch
    from transformers import LlamaForCausalLM

    reference: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    positions, largest, same = 0, 0.0, 0
    with opened(path, exact) as model, torch.no_grad():
        for text in texts:
            tokens = tokenizer.encode(text).ids
            ours, theirs = model.logits(tokens), reference(torch.tensor([tokens])).logits[0].numpy()
            positions += len(tokens)
            largest = max(largest, float(np.abs(ours - theirs).max()))
            same += int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    return Agreement(positions, largest, same / positions)
