"""Loads models through sentence-transformers, by folder or by name, and gives one sentence for whatever is wrong.

Knows neither what a model is for nor stores. A name is looked for on this machine first, and in its hub only when it is
not there, so that a model that was loaded once never needs the network again.
"""

from __future__ import annotations

import hashlib
import importlib
import math
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from memos_mcp.errors import MemosError
from memos_mcp.model_names import folder_problem, is_folder

EXTRA = "pip install 'memos-mcp[models]'"
MOST_TOKENS = 512
"""Tokens of a text that are read, whatever a model could read: time grows with their square, and one vector cannot hold
much more."""
REACHED_S = 5.0
"""Seconds in which the hub of models must take a connection."""
_SKIPPED = ("onnx", "openvino")
_SUFFIXES = (".safetensors", ".bin", ".json", ".txt", ".model", ".vocab", ".py")
_PIECE = 1 << 20


@dataclass(frozen=True)
class Loaded:
    """A model that answers, what its answers depend on, and whether it runs on an accelerator.

    `turn` is held while it is asked: its tokenizer cannot be used by two threads at once.
    """

    model: Any
    identity: str
    accelerated: bool
    turn: threading.Lock


def load(kind: str, name: str, failed: Callable[[str], MemosError]) -> Loaded:
    """The model of this folder or name as a `SentenceTransformer` or `CrossEncoder` (`kind`), on a GPU if there is one.

    `identity` of a folder is that of its contents; of a name, the revision that was loaded.

    Raises:
        MemosError: what `failed` makes of a sentence that says what is wrong and what to do.
    """
    problem = folder_problem(name)
    if problem is not None:
        raise failed(problem)
    library, wrong = _library(failed)
    source = str(Path(name).expanduser()) if is_folder(name) or os.path.isdir(name) else name
    try:
        model = _made(kind, library, source)
        accelerated = str(model.device) != "cpu"
        if not accelerated:
            model.float()  # half precision is slower than single on processors
        model.eval()
        if MOST_TOKENS < (model.max_seq_length or 0) < math.inf:  # it is infinite where length costs nothing
            model.max_seq_length = MOST_TOKENS
        identity = _contents(Path(source)) if os.path.isdir(source) else f"{name}@{_revision(name)}"
    except wrong as error:
        raise failed(_said(name, source, error)) from error
    return Loaded(model, identity, accelerated, threading.Lock())


def readable(text: str) -> str:
    """The text as valid Unicode."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _library(failed: Callable[[str], MemosError]) -> tuple[Any, tuple[type[Exception], ...]]:
    """The library, and the errors with which it refuses a model."""
    try:
        library: Any = importlib.import_module("sentence_transformers")
        weights: Any = importlib.import_module("safetensors")
        reports: Any = importlib.import_module("transformers.utils.logging")
    except ImportError as error:
        raise failed(f"Models by name or folder need an extra ({error.name} is not installed): {EXTRA}.") from error
    reports.disable_progress_bar()
    # torch would take every core for one text, and its threads spin against whoever else wants them
    importlib.import_module("torch").set_num_threads(max((os.cpu_count() or 2) // 2, 1))
    refused = (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, ImportError)
    return library, (*refused, weights.SafetensorError)


def _made(kind: str, library: Any, source: str) -> Any:
    make = getattr(library, kind)
    if os.path.isdir(source):
        return make(source, local_files_only=True)
    if kind != "SentenceTransformer" or _is_whole_here(source):
        try:
            return make(source, local_files_only=True)
        except OSError:
            pass  # not here, or not whole: its hub has it
    _reach_hub()
    return make(source)


def _is_whole_here(name: str) -> bool:
    """Whether it is known how the model pools its tokens: without that file the library would take their mean."""
    hub: Any = importlib.import_module("huggingface_hub")
    return any(hub.try_to_load_from_cache(one, "modules.json") is not None for one in _repositories(name))


def _reach_hub() -> None:
    """Find out in seconds that there is no network: the library tries each file six times, for a minute together.

    Raises:
        OSError: the hub cannot be reached, or is not to be.
    """
    known: Any = importlib.import_module("huggingface_hub.constants")
    if known.HF_HUB_OFFLINE:
        raise ConnectionError("offline by choice")
    hub = urlsplit(known.ENDPOINT)
    if not getproxies():
        port = hub.port or (80 if hub.scheme == "http" else 443)
        socket.create_connection((hub.hostname or "", port), timeout=REACHED_S).close()


def _said(name: str, source: str, error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0][:160]
    if os.path.isdir(source):
        return (
            f"The model in {source} cannot be loaded ({type(error).__name__}: {first}): the folder must hold every "
            "file of the model, so copy or download it again."
        )
    return (
        f"The model {name[:200]!r} is not on this machine and was not got from its hub ({type(error).__name__}): check "
        "its name, go online once, or give the whole path of a folder that holds it."
    )


def _revision(name: str) -> str:
    """The revision of a model by name that lies on this machine, of which it was loaded a moment ago."""
    hub: Any = importlib.import_module("huggingface_hub")
    for repository in _repositories(name):
        try:
            return Path(hub.snapshot_download(repository, local_files_only=True)).name[:12]
        except (OSError, ValueError):
            continue  # kept elsewhere
    return "unknown"


def _repositories(name: str) -> tuple[str, ...]:
    """What the hub may call this model."""
    return (name,) if "/" in name else (f"sentence-transformers/{name}", name)


def _contents(folder: Path) -> str:
    """A digest of every file that a model's answers can depend on: weights, configuration, vocabulary."""
    digest = hashlib.sha256()
    for path in _files(folder):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    return digest.hexdigest()[:16]


def _files(folder: Path) -> Iterator[Path]:
    found = [path for path in sorted(folder.rglob("*")) if path.suffix in _SUFFIXES and path.is_file()]
    folders = {path.parent for path in found if path.suffix == ".safetensors"}
    for path in found:
        inner = path.relative_to(folder).parts
        unread = inner[0] in _SKIPPED or any(part.startswith(".") for part in inner)
        if not unread and not (path.suffix == ".bin" and path.parent in folders):  # the same weights once more
            yield path
