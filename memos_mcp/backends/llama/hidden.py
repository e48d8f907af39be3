"""What each layer of a model puts out while it reads a text, watched through llama.cpp's callback of evaluations.

Knows nothing of sequences: it reads in a small context of its own, made at the first use, so that the other one is
neither slowed by the watching nor changed. One thread uses it.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np
from numpy.typing import NDArray

from memos_mcp.backends.llama.native import LoadFailed, Native, NativeFailed

CELLS = 512
"""Tokens of a text."""
LAYER_OUTPUT = re.compile(rb"l_out-(\d+)")
"""llama.cpp's name for what a layer puts out, the control vector included."""

Watcher = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p)


class Watch:
    """A context whose layers can be looked into."""

    def __init__(self, native: Native) -> None:
        """Raises `LoadFailed`: this llama.cpp cannot be watched, or there is no memory for another context."""
        self._native = native
        self._ggml = _ggml_library()
        self._sums = np.zeros((native.layers, native.embedding), np.float64)
        self._rows = np.zeros(native.layers, np.int64)
        self._callback = Watcher(self._see)
        pointer = ctypes.cast(self._callback, llama.ggml_backend_sched_eval_callback)
        self._context = native.make_context(CELLS, native.wish.step, 1, watch=pointer, kv="f16")

    def mean(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The mean over a text's tokens, a row for each layer. Between 1 and `CELLS` tokens."""
        self._sums[:], self._rows[:] = 0.0, 0
        llama.llama_memory_clear(llama.llama_get_memory(self._context), False)
        step = self._native.wish.step
        batch = llama.llama_batch_init(step, 0, 1)
        try:
            for begin in range(0, len(tokens), step):
                part = tokens[begin : begin + step]
                batch.n_tokens = len(part)
                for place, token in enumerate(part):
                    batch.token[place], batch.pos[place] = token, begin + place
                    batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
                    batch.logits[place] = True  # else the last layer puts out only what is asked for
                if llama.llama_decode(self._context, batch) != 0:
                    raise NativeFailed(f"a text could not be read {self._native.complaints.first}".rstrip())
                llama.llama_synchronize(self._context)
        finally:
            llama.llama_batch_free(batch)
        if not (self._rows == len(tokens)).all():
            raise NativeFailed("this model's layers cannot be seen")
        return (self._sums / len(tokens)).astype(np.float32)

    def _see(self, tensor: int, ask: bool, _: Any) -> bool:
        found = LAYER_OUTPUT.fullmatch(self._ggml.ggml_get_name(tensor))
        if ask or found is None:
            return found is not None or not ask
        layer, count = int(found[1]), int(self._ggml.ggml_nelements(tensor))
        values = np.empty(count, np.float32)
        self._ggml.ggml_backend_tensor_get(tensor, values.ctypes.data, 0, values.nbytes)
        rows = values.reshape(-1, self._native.embedding)
        self._sums[layer] += rows.sum(axis=0, dtype=np.float64)
        self._rows[layer] += len(rows)
        return True


def _ggml_library() -> Any:
    """ggml's own functions, from the library that llama.cpp has loaded already."""
    folder = Path(llama.__file__).parent / "lib"
    for path in sorted(folder.glob("*ggml-base*")):
        library = ctypes.CDLL(str(path))
        library.ggml_get_name.argtypes, library.ggml_get_name.restype = [ctypes.c_void_p], ctypes.c_char_p
        library.ggml_nelements.argtypes, library.ggml_nelements.restype = [ctypes.c_void_p], ctypes.c_int64
        library.ggml_backend_tensor_get.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_size_t] * 2
        library.ggml_backend_tensor_get.restype = None
        return library
    raise LoadFailed("its library ggml-base is not where llama-cpp-python keeps it")
