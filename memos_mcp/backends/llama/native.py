"""One model and one context of llama.cpp, through its C interface: the only module, with `hidden`, that calls it.

Knows nothing of callers, turns and pipes: slots are llama.cpp's numbers of sequences, and whoever calls keeps account
of them. One thread uses it. llama.cpp checks little and aborts the process: what it would not survive is refused here.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import llama_cpp as llama
import numpy as np
from numpy.typing import NDArray

GGML_TYPES = {"f32": 0, "f16": 1, "q8_0": 8}
"""Names of KV types and ggml's numbers of them."""
QUANTISED = {"q8_0"}
AMX = b"AMX_INT8 = 1"
"""In what llama.cpp says of its build: weights laid out for these instructions end the process at the first product
(seen with llama-cpp-python 0.3.36; ggml-org/llama.cpp issue 20824)."""
WARNING = 3
CONTINUED = 5
"""Levels of llama.cpp's log: from the first on something is wrong; the second goes on with the line before."""
PIECE_BYTES = 256
OWN_SLOTS = 3
"""Slots beside the callers' sequences: company for a lone token, the dead, and one to copy through."""

Vocabulary = NDArray[np.float32]
"""A logit for each token, shape (vocabulary,)."""


def model_params() -> Any:
    """How llama.cpp loads a model if nothing is asked for, but for what would end the process on this processor."""
    params = llama.llama_model_default_params()
    if AMX in llama.llama_print_system_info():
        params.use_extra_bufts = False
    return params


class LoadFailed(Exception):
    """The model or its context could not be made; the text is llama.cpp's own last complaint."""


class NoRoom(Exception):
    """There are no cells left."""


class NativeFailed(Exception):
    """llama.cpp refused what it was asked for."""


@dataclass(frozen=True)
class Wish:
    """How the context is to be made."""

    model: str
    cells: int
    step: int
    sequences: int
    kv_type: str
    flash: bool
    rope_base: float
    rope_scale: float
    gpu_layers: int | None
    threads: int


@dataclass(frozen=True)
class Steered:
    """A control vector: vectors (layers, embedding), weighted already, of which `name` is the identity."""

    name: str
    first: int
    last: int
    vectors: NDArray[np.float32] = field(compare=False)


class Complaints:
    """llama.cpp's log: warnings and errors go to the error output; the first error since `forget` is kept."""

    def __init__(self) -> None:
        self.first = ""
        self._loud = False
        self._callback = llama.llama_log_callback(self._take)  # llama.cpp holds no reference of its own
        llama.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _take(self, level: int, text: bytes, _: Any) -> None:
        line = text.decode("utf-8", "replace")
        if level != CONTINUED:
            self._loud = level >= WARNING
        if self._loud:
            sys.stderr.write(line)
            sys.stderr.flush()
        if level == WARNING + 1 and line.strip() and not self.first:
            self.first = line.strip()

    def forget(self) -> None:
        self.first = ""


class Native:
    """A loaded model; `close` frees it."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.complaints = Complaints()
        llama.llama_backend_init()
        self.gpu = bool(llama.llama_supports_gpu_offload())
        self.model = self._load()
        self.vocabulary = llama.llama_model_get_vocab(self.model)
        self.words = int(llama.llama_vocab_n_tokens(self.vocabulary))
        self.layers = int(llama.llama_model_n_layer(self.model))
        self.embedding = int(llama.llama_model_n_embd(self.model))
        self.trained_context = int(llama.llama_model_n_ctx_train(self.model))
        self.company_slot, self.dead_slot, self.spare_slot = range(wish.sequences, wish.sequences + OWN_SLOTS)
        self.context = self.make_context(wish.cells, wish.step, wish.sequences + OWN_SLOTS)
        self._memory = llama.llama_get_memory(self.context)
        self.cells = int(llama.llama_n_ctx(self.context))
        self.can_shift = wish.kv_type not in QUANTISED and bool(llama.llama_memory_can_shift(self._memory))
        self._batch = llama.llama_batch_init(wish.step, 0, 1)
        self._tokens = np.ctypeslib.as_array(self._batch.token, shape=(wish.step,))
        self._positions = np.ctypeslib.as_array(self._batch.pos, shape=(wish.step,))
        self._wanted = np.ctypeslib.as_array(self._batch.logits, shape=(wish.step,))
        np.ctypeslib.as_array(self._batch.n_seq_id, shape=(wish.step,))[:] = 1
        self._pieces: dict[int, bytes] = {}
        self._adapters: dict[str, Any] = {}
        self._mounted: tuple[Any, ...] = ((), None)
        self._steered = ""
        self.bytes_per_token, self._bytes_beside = self._measure()

    def _load(self) -> Any:
        params = model_params()
        layers = self.wish.gpu_layers
        params.n_gpu_layers = 0 if not self.gpu else 999 if layers is None else layers
        model = llama.llama_model_load_from_file(self.wish.model.encode(), params)
        if not model:
            raise LoadFailed(self.complaints.first or "it gives no reason")
        if llama.llama_model_is_recurrent(model) or llama.llama_model_is_hybrid(model):
            raise LoadFailed("its state is not made of cells that can be cut and shared")
        if llama.llama_model_has_encoder(model) or llama.llama_model_is_diffusion(model):
            raise LoadFailed("it does not read from left to right")
        return model

    def make_context(self, cells: int, step: int, sequences: int, *, watch: Any = None, kv: str | None = None) -> Any:
        """A context over the model; `watch` is called for the values that it computes.

        Raises:
            LoadFailed: there is not enough memory, or the settings do not go together.
        """
        wish = self.wish
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = cells, step, step, sequences
        params.kv_unified, params.swa_full, params.no_perf = True, True, True
        params.n_threads = params.n_threads_batch = wish.threads
        params.type_k = params.type_v = GGML_TYPES[kv or wish.kv_type]
        params.flash_attn_type = int(wish.flash)
        params.rope_freq_base, params.rope_freq_scale = wish.rope_base, wish.rope_scale
        if watch is not None:
            params.cb_eval = watch
        context = llama.llama_init_from_model(self.model, params)
        if not context:
            raise LoadFailed(self.complaints.first or "there is not enough memory for its context")
        return context

    def _measure(self) -> tuple[int, int]:
        """Bytes of state that a token costs, and that any state has beside, from two small ones; a warm-up, too."""
        count = self.wish.step // 2
        sizes: list[int] = []
        for _ in range(2):
            self.decode(0, [0] * count, len(sizes) * count)
            sizes.append(self.state_size(0))
        self.remove(0)
        each = (sizes[1] - sizes[0]) // count
        return each, sizes[0] - count * each

    def bytes_of(self, tokens: int) -> int:
        """The size of a state of so many tokens."""
        return self._bytes_beside + tokens * self.bytes_per_token

    # The vocabulary.

    @property
    def bos(self) -> int | None:
        token = int(llama.llama_vocab_bos(self.vocabulary))
        return token if token >= 0 else None

    @property
    def adds_bos(self) -> bool:
        return bool(llama.llama_vocab_get_add_bos(self.vocabulary))

    @property
    def description(self) -> str:
        out = ctypes.create_string_buffer(PIECE_BYTES)
        llama.llama_model_desc(self.model, out, len(out))
        return out.value.decode("utf-8", "replace")

    @property
    def chat_template(self) -> str | None:
        found = llama.llama_model_chat_template(self.model, None)
        return found.decode("utf-8", "replace") if found else None

    def tokenize(self, text: str, special: bool) -> list[int]:
        raw = text.encode("utf-8", "replace")
        room = len(raw) + 16
        while True:
            out = (llama.llama_token * room)()
            count = int(llama.llama_tokenize(self.vocabulary, raw, len(raw), out, room, False, special))
            if count >= 0:
                return list(out[:count])
            room = -count

    def detokenize(self, tokens: Sequence[int]) -> str:
        if tokens and tokens[0] == self.bos:  # behind it, llama.cpp takes a leading space for the text's own
            tokens = tokens[1:]
        given = (llama.llama_token * len(tokens))(*tokens)
        room = 16 * len(tokens) + 16
        while True:
            out = ctypes.create_string_buffer(room)
            count = int(llama.llama_detokenize(self.vocabulary, given, len(tokens), out, room, True, False))
            if count >= 0:
                return out.raw[:count].decode("utf-8", "replace")
            room = -count

    def piece(self, token: int) -> bytes:
        """The bytes that a token puts out, which may be a part of a character."""
        found = self._pieces.get(token)
        if found is None:
            out = ctypes.create_string_buffer(PIECE_BYTES)
            count = int(llama.llama_token_to_piece(self.vocabulary, token, out, len(out), 0, False))
            if count < 0:
                out = ctypes.create_string_buffer(-count)
                count = int(llama.llama_token_to_piece(self.vocabulary, token, out, len(out), 0, False))
            found = self._pieces[token] = out.raw[: max(count, 0)]
        return found

    def ends(self, token: int) -> bool:
        """Whether the token means that the model has finished."""
        return bool(llama.llama_vocab_is_eog(self.vocabulary, token))

    # Sequences.

    def decode(self, slot: int, tokens: Sequence[int], position: int, wanted: bool = False) -> Vocabulary | None:
        """Read one step's tokens at a position; with `wanted`, the logits behind the last, valid until the next call.

        Raises:
            NoRoom: nothing was read. NativeFailed: what the slot holds is uncertain.
        """
        count = len(tokens)
        self._tokens[:count] = tokens
        self._positions[:count] = np.arange(position, position + count)
        self._wanted[:count] = 0
        self._wanted[count - 1] = wanted
        for place in range(count):
            self._batch.seq_id[place][0] = slot
        self._batch.n_tokens = count
        lone = count == 1
        if lone:  # a row alone takes another way through the kernels, whose bits depend on the other sequences
            self._tokens[1], self._positions[1], self._wanted[1] = 0, 0, 0
            self._batch.seq_id[1][0] = self.company_slot
            self._batch.n_tokens = 2
        self.complaints.forget()
        status = int(llama.llama_decode(self.context, self._batch))
        if lone:
            self.remove(self.company_slot)
        if status == 1:
            raise NoRoom
        if status != 0:
            raise NativeFailed(f"llama_decode returned {status} {self.complaints.first}".rstrip())
        if not wanted:
            llama.llama_synchronize(self.context)
            return None
        return np.ctypeslib.as_array(llama.llama_get_logits_ith(self.context, count - 1), shape=(self.words,))

    def settle(self) -> None:
        """Carry out what llama.cpp puts off until the next decode: moved positions would else be saved half moved."""
        self._tokens[:2], self._positions[:2], self._wanted[:2] = 0, (0, 1), 0
        self._batch.seq_id[0][0] = self._batch.seq_id[1][0] = self.company_slot
        self._batch.n_tokens = 2
        status = int(llama.llama_decode(self.context, self._batch))
        self.remove(self.company_slot)
        if status != 0:
            raise NativeFailed(f"llama_decode returned {status}")

    def copy(self, source: int, target: int, begin: int, end: int) -> None:
        """Let the slot `target` share the cells of `source` from `begin` to before `end`; all with -1 and -1."""
        llama.llama_memory_seq_cp(self._memory, source, target, begin, end)

    def clear(self) -> None:
        """Empty every slot."""
        llama.llama_memory_clear(self._memory, False)

    def remove(self, slot: int, begin: int = -1, end: int = -1) -> None:
        """Take positions from a slot; all without bounds."""
        if not llama.llama_memory_seq_rm(self._memory, slot, begin, end):
            raise NativeFailed(f"positions {begin} to {end} cannot be taken away")

    def shift(self, slot: int, by: int) -> None:
        """Move a slot's positions, for every slot that shares its cells. llama.cpp crashes with a quantised KV."""
        if not self.can_shift:
            raise NativeFailed("positions cannot be moved with this KV type")
        llama.llama_memory_seq_add(self._memory, slot, 0, -1, by)

    def end(self, slot: int) -> int:
        """The position behind the slot's last token; 0 when it is empty."""
        return int(llama.llama_memory_seq_pos_max(self._memory, slot)) + 1

    def begin(self, slot: int) -> int:
        """The position of the slot's first token; -1 when it is empty."""
        return int(llama.llama_memory_seq_pos_min(self._memory, slot))

    # States.

    def state_size(self, slot: int) -> int:
        return int(llama.llama_state_seq_get_size(self.context, slot))

    def state(self, slot: int) -> bytearray:
        out = bytearray(self.state_size(slot))
        room = (ctypes.c_uint8 * len(out)).from_buffer(out)
        if llama.llama_state_seq_get_data(self.context, room, len(out), slot) != len(out):
            raise NativeFailed("the state could not be copied")
        return out

    def put_state(self, slot: int, state: NDArray[np.uint8]) -> bool:
        """Fill a slot; whether llama.cpp says that it took all of it."""
        start = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        return int(llama.llama_state_seq_set_data(self.context, start, len(state), slot)) == len(state)

    # Mounts.

    def mount(self, adapters: tuple[tuple[str, str, float], ...], steering: Steered | None) -> None:
        """Let the next decodes go through these adapters (path, hash, weight) and this control vector and no others.

        Raises:
            NativeFailed: an adapter cannot be loaded or does not fit the model.
        """
        wanted = (adapters, steering)
        if wanted == self._mounted:
            return
        self.complaints.forget()
        loaded = [self._adapter(path, digest) for path, digest, _ in adapters]
        count = len(loaded)
        pointers = (llama.llama_adapter_lora_p_ctypes * max(count, 1))(*loaded)
        weights = (ctypes.c_float * max(count, 1))(*(weight for _, _, weight in adapters))
        if llama.llama_set_adapters_lora(self.context, pointers, count, weights) != 0:
            raise NativeFailed("the adapters could not be mounted")
        self._steer(steering)
        self._mounted = wanted

    def _adapter(self, path: str, digest: str) -> Any:
        if digest not in self._adapters:
            found = llama.llama_adapter_lora_init(self.model, path.encode())
            if not found:
                raise NativeFailed(f"the adapter {path} cannot be loaded: {self.complaints.first}")
            self._adapters[digest] = found
        return self._adapters[digest]

    def forget_adapter(self, digest: str) -> None:
        """Unmount an adapter, should it be mounted, and free it."""
        adapter = self._adapters.pop(digest, None)
        if adapter is None:
            return
        if any(known == digest for _, known, _ in self._mounted[0]):
            self.mount((), self._mounted[1])
        llama.llama_adapter_lora_free(adapter)

    def _steer(self, steering: Steered | None) -> None:
        if steering is None:
            status = llama.llama_set_adapter_cvec(self.context, None, 0, self.embedding, -1, -1)
        else:
            self._steered = steering.name
            rows = np.ascontiguousarray(steering.vectors[1:], np.float32)  # llama.cpp counts from layer 1
            start = rows.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            status = llama.llama_set_adapter_cvec(
                self.context, start, rows.size, self.embedding, steering.first, steering.last
            )
        if status != 0:
            raise NativeFailed("the steering vector could not be mounted")

    def forget_steering(self, name: str) -> None:
        """Write zeros over llama.cpp's copy of a control vector, mounted or not; it keeps that of the last one."""
        if self._steered.startswith(name):
            zeros = Steered("", 1, self.layers - 1, np.zeros((self.layers, self.embedding), np.float32))
            self._steer(zeros)
            self._mounted = (self._mounted[0], zeros)  # so that the next decode mounts what it needs

    def close(self) -> None:
        """Free the context and the model."""
        llama.llama_batch_free(self._batch)
        llama.llama_free(self.context)
        llama.llama_model_free(self.model)
