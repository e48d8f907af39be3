"""The built-in embedder: all-MiniLM-L6-v2 with int8 weights, run on the CPU by onnxruntime.

Knows nothing of memories, spaces or stores: it turns text into vectors and keeps no text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors
from tokenizers import Tokenizer

from memos_mcp.errors import EmbedderUnavailable
from memos_mcp.ports import Matrix, Vector

BUNDLED_FOLDER = Path(__file__).resolve().parent / "minilm_model"
MAX_TOKENS = 256
"""The length the model was trained for, its two special tokens included; later tokens are cut off."""
MAX_CHARACTERS = 4_000
"""Read of a text: more than 256 tokens of prose need, and little enough to tokenise in milliseconds."""
FOREIGN = 0.15
"""Weight of meaning for a text of another script, measured on Chinese questions."""

# Each of these derives from Exception alone, so that they can only be told apart by name.
_MODEL_REFUSED = (
    runtime_errors.Fail,
    runtime_errors.InvalidArgument,
    runtime_errors.InvalidGraph,
    runtime_errors.InvalidProtobuf,
    runtime_errors.NoSuchFile,
    runtime_errors.NotImplemented,
    runtime_errors.RuntimeException,
)


@dataclass(frozen=True)
class _ModelFiles:
    """The three files of a model folder, found complete, and what stores know its vectors by."""

    model: Path
    tokenizer: Path
    identity: str


class MiniLM:
    """Vectors of 384 dimensions by the bundled model; satisfies the port Embedder.

    A vector depends on its text alone, never on the texts embedded with it. Safe to call from several
    threads: the session and the tokenizer are not changed after construction.
    """

    name: str = "minilm"
    dimensions: int = 384
    at_a_time: int = 1
    is_quick: bool = True

    def __init__(self, folder: Path | None = None, threads: int = 1) -> None:
        """Load the model.

        Args:
            folder: holds model.onnx, tokenizer.json and model.json; None for the bundled one.
            threads: threads that work on one text.

        Raises:
            EmbedderUnavailable: a file is missing, cut short or not readable as what it should be.
        """
        files = _find_files(BUNDLED_FOLDER if folder is None else folder)
        self.identity: str = f"{self.name}:{files.identity}"
        self._tokenizer = Tokenizer.from_file(str(files.tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._session = _open_session(files.model, threads)

    def embed(self, texts: Sequence[str]) -> Matrix:
        """Vectors of `texts` in their order: float32, shape (n, 384), each row of unit length.

        Only the first MAX_CHARACTERS characters and MAX_TOKENS tokens of a text count. Any string is
        accepted, also an empty one or one with lone surrogates.
        """
        rows = np.empty((len(texts), self.dimensions), dtype=np.float32)
        # The graph takes one text: int8 activations are scaled over a whole run, so that texts that are run together
        # change one another's vectors (down to a cosine of 0.98).
        for row, text in zip(rows, texts, strict=True):
            row[:] = self.embed_query(text)
        return rows

    def embed_query(self, text: str) -> Vector:
        """The vector of one text, as `embed` gives it: float32, shape (384,), of unit length."""
        ids = np.array([self._tokenizer.encode(_readable(text)).ids], dtype=np.int64)
        outputs = self._session.run(None, {"input_ids": ids})
        vector: Vector = outputs[0][0]
        return vector

    def trust(self, text: str) -> float:
        """The share of Latin letters among the letters of `text`, at least FOREIGN: the model learnt English."""
        letters = [char for char in text[:MAX_CHARACTERS] if char.isalpha()]
        latin = sum(char < "\u0250" for char in letters)
        return max(FOREIGN, latin / len(letters)) if letters else 1.0


def _readable(text: str) -> str:
    """The start of `text` as valid Unicode: surrogate pairs joined, lone surrogates replaced by U+FFFD."""
    start = text.lstrip()[:MAX_CHARACTERS]
    return start.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _find_files(folder: Path) -> _ModelFiles:
    """The files of `folder`, their sizes checked against model.json; hashing 23 MB would delay the start.

    Raises:
        EmbedderUnavailable: a file is missing, or its size is not the recorded one.
    """
    model, tokenizer, facts_file = folder / "model.onnx", folder / "tokenizer.json", folder / "model.json"
    try:
        facts = json.loads(facts_file.read_text(encoding="utf-8"))
        sizes = {model: int(facts["model_bytes"]), tokenizer: int(facts["tokenizer_bytes"])}
        identity = str(facts["identity"])
    except OSError as error:
        raise _unavailable(facts_file, error.strerror or "not readable") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _unavailable(facts_file, "not in the expected form") from error
    for path, expected in sizes.items():
        try:
            found = path.stat().st_size
        except OSError as error:
            raise _unavailable(path, error.strerror or "not readable") from error
        if found != expected:
            raise _unavailable(path, f"{found} bytes instead of {expected}")
    return _ModelFiles(model=model, tokenizer=tokenizer, identity=identity)


def _open_session(model: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session that keeps to `threads` threads and leaves the processor alone between runs.

    Raises:
        EmbedderUnavailable: onnxruntime refuses the file.
    """
    if hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except _MODEL_REFUSED as error:
        raise _unavailable(model, f"onnxruntime refuses it ({error})") from error


def _unavailable(path: Path, problem: str) -> EmbedderUnavailable:
    return EmbedderUnavailable(
        f"The built-in embedder cannot load {path}: {problem}. Install memos-mcp again, "
        "or make the file anew with scripts/make_minilm.py from the source tree."
    )
