"""The forms in which a store names its models, and which of the names are folders or files.

Standard library only, and it loads nothing: command line, settings and kernel share it.
"""

from __future__ import annotations

import os
import re

from memos_mcp.errors import InvalidInput

NONE = "none"
GGUF = b"GGUF"
"""What a model file of llama.cpp begins with."""
BUILT_IN = "minilm"
TRANSFORMERS, ENDPOINT, CROSS_ENCODER = "sentence-transformers", "openai", "cross-encoder"
EMBEDDERS = "minilm, sentence-transformers:NAME-OR-PATH or openai:MODEL@URL"
RERANKERS = "none or cross-encoder:NAME-OR-PATH"
MODELS = "a GGUF file's whole path, or openai:MODEL@URL"
_SERVER = re.compile(r"https?://[^\s/@?#\0][^\s@?#\0]*$")
_PATH = re.compile(r"^(~|/|\.{1,2}(/|\\|$)|[A-Za-z]:[\\/])|\\|/.*/")


def check_embedder(name: str) -> tuple[str, str]:
    """The kind of the embedder and what follows its colon.

    Raises:
        InvalidInput: there is no embedder of such a name.
    """
    kind, _, rest = name.partition(":")
    if name == BUILT_IN or (kind in (TRANSFORMERS, ENDPOINT) and rest.strip() and "\0" not in rest):
        return kind, rest
    raise InvalidInput(f"There is no embedder {name[:200]!r}: use {EMBEDDERS}.", field="embedder")


def check_reranker(name: str) -> str | None:
    """The model of the reranker, by name or folder; None for `none`.

    Raises:
        InvalidInput: there is no reranker of such a name.
    """
    kind, _, rest = name.partition(":")
    if name == NONE:
        return None
    if kind == CROSS_ENCODER and rest.strip() and "\0" not in rest:
        return rest
    raise InvalidInput(f"There is no reranker {name[:200]!r}: use {RERANKERS}.", field="reranker")


def is_folder(model: str) -> bool:
    """Whether a model is given as a folder; `owner/name` and `name` are names of the hub."""
    return _PATH.search(model) is not None


def folder_problem(model: str) -> str | None:
    """Why this folder can hold no model for every process alike; None where it can, and for names."""
    if not is_folder(model):
        return None
    folder = os.path.expanduser(model)
    if not os.path.isabs(folder):
        return f"The model's folder {model!r} is relative, and each process stands elsewhere: give its whole path."
    if not os.path.isdir(folder):
        what = "is a file, not a folder" if os.path.lexists(folder) else "is not there"
        return f"The model's folder {folder} {what}: give the folder that holds its config.json."
    return None


def is_served(model: str) -> bool:
    """Whether a model is named as another server's, well or badly."""
    return model.startswith(f"{ENDPOINT}:")


def served_model(model: str) -> tuple[str, str] | None:
    """The model ("": the server's first one) and the URL of an OpenAI-compatible server; None for a file's path.

    Raises:
        InvalidInput: it begins like a server's name and is none.
    """
    if not is_served(model):
        return None
    rest = model.partition(":")[2]
    name, _, url = ("", "", rest) if _SERVER.match(rest) else rest.rpartition("@")
    if _SERVER.match(url) is None:
        raise InvalidInput(
            f"{model[:200]!r} is not openai:MODEL@URL: for example openai:qwen3@http://127.0.0.1:8080/v1 (no user or "
            "password in the URL: the key is model_api_key).", field="model",
        )  # fmt: skip
    return name.strip(), url.rstrip("/").removesuffix("/chat/completions").rstrip("/")


def model_problem(model: str) -> str | None:
    """Why this can be no model for every process alike, neither a file nor a server's name; None where it can."""
    try:
        return None if served_model(model) is not None else gguf_problem(model)
    except InvalidInput as error:
        return str(error)


def gguf_problem(model: str) -> str | None:
    """Why this file can be no local model for every process alike; None where it can."""
    path = os.path.expanduser(model)
    if not os.path.isabs(path):
        return f"The model's file {model!r} is relative, and each process stands elsewhere: give its whole path."
    try:
        with open(path, "rb") as file:
            magic = file.read(len(GGUF))
    except OSError as error:
        return f"The model's file {path} cannot be read ({error.strerror}): give the path of a GGUF file."
    return None if magic == GGUF else f"{path} is not a GGUF file: give one that llama.cpp can load."


def absolute(name: str, cwd: str) -> str:
    """The same embedder or reranker with its folder, if it is one seen from `cwd`, as a whole path."""
    kind, colon, rest = name.partition(":")
    if kind not in (TRANSFORMERS, CROSS_ENCODER) or not rest.strip() or "\0" in rest:
        return name
    folder = os.path.normpath(os.path.join(cwd, os.path.expanduser(rest)))
    return f"{kind}{colon}{folder}" if is_folder(rest) or os.path.isdir(folder) else name
