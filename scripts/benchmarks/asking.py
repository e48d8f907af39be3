"""The verbs of a store with a given local model, and memories put together in a given way.

Knows nothing of what is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from memos_mcp.activation.catalogue import Budgets
from memos_mcp.activation.composition import Composition
from memos_mcp.activation.engine import EngineSettings
from memos_mcp.activation.memory import ActivationMemory
from memos_mcp.backends.llama.engine import LlamaEngine
from memos_mcp.governance import Caller
from memos_mcp.kernel import Kernel
from memos_mcp.layout import Layout
from memos_mcp.memory_api.api import MemoryAPI

CALLER = Caller("bench")
BUDGETS = Budgets(512 << 20, 4_096 << 20)


@contextmanager
def asking(kernel: Kernel, folder: Path, model: Path, way: Composition) -> Iterator[MemoryAPI]:
    """The verbs over the kernel's store, which has no model of its own, for the length of a block."""
    parts = kernel.api.parts
    engine = LlamaEngine(EngineSettings(model), folder)
    states = Layout(kernel.settings.home).states
    activation = ActivationMemory(parts.ledger, parts.vault, parts.jobs, engine, states, BUDGETS, parts.now, way)
    activation.start()
    try:
        yield MemoryAPI(replace(parts, activation=activation))
    finally:
        activation.stop()
