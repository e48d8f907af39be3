"""The tables of parametric memory: adapters, and what they were trained on.

Knows no queries. Times, JSON and ids are written as in `schema`.
"""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table, Text

from memos_mcp.ledger.schema import metadata

adapters = Table(
    "adapters",
    metadata,
    Column("cube", ForeignKey("cubes.seq"), primary_key=True),
    Column("state", String, nullable=False),
    Column("base", String, nullable=False),
    Column("sha256", String),
    Column("gguf_sha256", String),
    Column("bytes", Integer, nullable=False, default=0),
    Column("report", Text),
    Column("tainted", String),
    Column("created", String, nullable=False),
    Column("last_mounted", String),
    Column("mounts", Integer, nullable=False, default=0),
    Index("adapters_by_state", "state"),
)
"""LoRA adapters by their cubes; the files lie in a folder of the cube's id. `base`: the identity of the base model.

`state` is candidate, active or retired; `tainted` says why it may not be mounted any more, NULL while it may. `report`:
its exams and what they came to, as JSON, without a memory's text."""

adapter_sources = Table(
    "adapter_sources",
    metadata,
    Column("adapter", ForeignKey("adapters.cube"), primary_key=True),
    Column("cube", ForeignKey("cubes.seq"), primary_key=True),
    Column("version", Integer, nullable=False),
    Index("adapter_sources_by_cube", "cube"),
)
"""Which memories, in which versions, an adapter was trained on."""

TABLES = (adapters, adapter_sources)
"""All of them, in an order in which they can be made."""
