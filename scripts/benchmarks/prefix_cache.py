"""What a real OpenAI-compatible server with a prefix cache makes of prompts: llama.cpp's own, on this machine.

Knows no memories: prompts are texts. Tokens are counted by the server, over all turns, with a small model of random
weights; first tokens are timed on the last turns, with one of a real shape. Each way has a server of its own, for a
server remembers what another way sent, too.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx

from benchmarks.measure import milliseconds
from benchmarks.plan import Plan
from memos_mcp.backends.openai_completions import OpenAICompletions
from memos_mcp.errors import ModelUnavailable
from memos_mcp.ports import Spoken

TOKENIZER = Path(__file__).parents[2] / "tests" / "data" / "tiny_model"
CONTEXT = 16_384
TIMED = {"memory_context": 12, "top 5 pasted": 12, "pasted, as many tokens": 4}
"""Ways whose first tokens are timed, over how many of the last turns: long prompts that are all new take long."""
QUICK = 2
PATIENCE_S = 1_800.0
"""A long prompt may be read for minutes where other work is done."""
NAME = "random"
PYTHON_NEEDS = ("llama_cpp", "fastapi", "uvicorn", "sse_starlette", "starlette_context", "pydantic_settings")
NONE = (
    "no server: name llama.cpp's with --server PROGRAM, put llama-server on the PATH, or "
    "pip install 'llama-cpp-python[server]'"
)


@dataclass(frozen=True)
class Sent:
    """A prompt: the system message, and the question with what stands in front of it."""

    prefix: str
    rest: str


@dataclass(frozen=True)
class Program:
    """A server: how it is started with a model, a port and room for so many tokens."""

    name: str
    argv: Callable[[Path, int], list[str]]


def measured(
    plan: Plan, ways: Mapping[str, Sequence[Sent]], asked: Callable[[str], list[dict[str, Any]]]
) -> None:
    """The figures of each way; `asked` gives the results of `memory_ask` over a model that is named to it."""
    program = _program(plan)
    if program is None or find_spec("gguf") is None:
        reason = NONE if program is None else "not installed: gguf (the extra dev has it)"
        plan.figure("context", "a server's cache", None, "", note=reason)
        return
    small = _model(plan, "small")
    for name, prompts in ways.items():
        target = 0.9 if name == "memory_context" else None
        with _running(program, small) as url:
            _counted(plan, f"{name} ({program.name})", _answers(url, prompts), target)
    with _running(program, small) as url:
        told = asked(f"openai:{NAME}@{url}")
    _counted(plan, f"memory_ask ({program.name})", [_as_spoken(one) for one in told], None)
    timed(plan, program, ways)


def timed(plan: Plan, program: Program, ways: Mapping[str, Sequence[Sent]]) -> None:
    """First tokens of the last turns of each way, each behind one that is not timed: it finds an empty cache."""
    shape = "small" if plan.quick else "0.5b"
    medians: dict[str, float] = {}
    for name, turns in TIMED.items():
        count = QUICK if plan.quick else turns
        with _running(program, _model(plan, shape)) as url:
            spoken = _answers(url, ways[name][-count - 1 :])[1:]
        times = [one.first_token_s for one in spoken]
        medians[name] = milliseconds(times, 0.5) / 1e3
        sizes = [(one.prompt_tokens or 0, one.cached_tokens or 0) for one in spoken]
        mean, new = (statistics.mean(size) for size in zip(*((a, a - b) for a, b in sizes), strict=True))
        note = f"{len(times)} turns, {min(times):.2f} to {max(times):.2f} s; {mean:.0f} tokens, {new:.0f} new; {shape}"
        plan.figure("context", f"{name}: first token, p50 ({program.name})", medians[name], "s", note=note)
    for name in list(TIMED)[1:]:
        ratio = medians[name] / medians["memory_context"]
        plan.figure("context", f"first token: {name} ÷ memory_context", ratio, "")


def _counted(plan: Plan, name: str, spoken: Sequence[Spoken], target: float | None) -> None:
    """The share of prompt tokens, from turn 2 on, that the server says it had in its cache."""
    later = [one for one in spoken[1:] if one.prompt_tokens is not None and one.cached_tokens is not None]
    if len(later) < len(spoken) - 1:
        plan.figure("context", f"{name}: cached", None, "", note="this server does not count cached tokens")
        return
    prompt, cached = (sum(getattr(one, part) for one in later) for part in ("prompt_tokens", "cached_tokens"))
    note = f"{len(later)} turns, {prompt / len(later):.0f} tokens a turn, counted by the server"
    plan.figure("context", f"{name}: cached", cached / prompt, "", target, at_least=True, note=note)


def _answers(url: str, prompts: Sequence[Sent]) -> list[Spoken]:
    model = OpenAICompletions(f"{NAME}@{url}", timeout_s=PATIENCE_S)
    try:
        return [model.speak(prompt.prefix, prompt.rest, 1) for prompt in prompts]
    finally:
        model.close()


def _as_spoken(told: Mapping[str, Any]) -> Spoken:
    timing = told["timing"]
    counted = {part: told.get(part) for part in ("prompt_tokens", "cached_tokens")}
    return Spoken(told["answer"], timing["first_token_s"], timing["total_s"], **counted)


def _model(plan: Plan, name: str) -> Path:
    """A model of random weights with the tokens of the tests' model, of a size to be timed, or to be counted."""
    from tiny_model.export import Shape, write_random

    shape = Shape(64, 2, 2, 1, 32, 64, 2_048, 32_768, 1e6, 1e-6, tied=True)
    if name == "0.5b":
        shape = Shape(896, 24, 14, 2, 64, 4_864, 151_936, 32_768, 1e6, 1e-6, tied=True)
    path = plan.work.folder / f"random-words-{name}.gguf"
    if not path.exists():
        write_random(shape, path, tokenizer=TOKENIZER)
    return path


def _program(plan: Plan) -> Program | None:
    """The server that was named, else llama.cpp's on the PATH, else that of llama-cpp-python."""
    named = plan.server or shutil.which("llama-server")
    if named is not None:
        return Program("llama-server", lambda model, port: [
            named, "--model", str(model), "--alias", NAME, "--host", "127.0.0.1", "--port", str(port),
            "--ctx-size", str(CONTEXT), "--parallel", "1",
        ])  # fmt: skip
    if any(find_spec(name) is None for name in PYTHON_NEEDS):
        return None
    return Program("llama_cpp.server", lambda model, port: [
        sys.executable, "-m", "llama_cpp.server", "--model", str(model), "--model_alias", NAME, "--host", "127.0.0.1",
        "--port", str(port), "--n_ctx", str(CONTEXT),
    ])  # fmt: skip


@contextlib.contextmanager
def _running(program: Program, model: Path) -> Iterator[str]:
    """The server on loopback for the length of a block; its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(program.argv(model, port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        _answering(process, url)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _answering(process: subprocess.Popen[bytes], url: str, limit_s: float = 120.0) -> None:
    """Wait until the model is loaded: the list of models may be there before it."""
    began = time.perf_counter()
    model = OpenAICompletions(f"{NAME}@{url}")
    while process.poll() is None and time.perf_counter() - began < limit_s:
        with contextlib.suppress(httpx.HTTPError, ModelUnavailable):
            if httpx.get(f"{url}/models", trust_env=False).is_success:
                model.check()
                model.close()
                return
        time.sleep(0.2)
    raise RuntimeError("the server did not start")
