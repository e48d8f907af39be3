"""The ledger's tables in SQLAlchemy Core, portable between SQLite and PostgreSQL.

Knows no queries; full text, which no two databases share, stands in `dialect`.
Times are text as `cube.instant` writes it; JSON is text; ids are ULIDs.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)

from memos_mcp.states import LIVE

metadata = MetaData()

NOT_STANDING = text(f"(superseded_by IS NOT NULL OR state NOT IN ({', '.join(repr(str(state)) for state in LIVE)}))")
"""The condition on a row of `cubes` that the memory does not stand: it is not live, or another superseded it.

Written out, for only the very same condition is answered from the index `cubes_cold`."""
STANDING = text(f"NOT {NOT_STANDING.text}")
"""The condition that it stands: that it belongs to the main index."""

meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", Text, nullable=False))

applied_migrations = Table(
    "applied_migrations",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("name", String, nullable=False),
    Column("applied", String, nullable=False),
    Column("writer", String, nullable=False),
)

spaces = Table(
    "spaces",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("owner", String, nullable=False),
    Column("created", String, nullable=False),
    Column("indexed_upto", Integer, nullable=True),
    sqlite_autoincrement=True,
)
"""`indexed_upto`: the vector up to which the space's index is complete; NULL while the space has none."""

PINNED: ColumnElement[Any] = literal_column("instr(snapshot, '\"pinned\":true') > 0")
"""Of the memories that are pinned, and of few others: what an index holds that is small."""

cubes = Table(
    "cubes",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("space", ForeignKey("spaces.id"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("frozen_from", String),
    Column("owner", String, nullable=False),
    Column("created", String, nullable=False),
    Column("updated", String, nullable=False),
    Column("client", String),
    Column("language", String, nullable=False),
    Column("op", String, nullable=False),
    Column("uses", Integer, nullable=False, default=0),
    Column("last_used", String),
    Column("content_hash", String, nullable=False),
    Column("becomes_true", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("session", String),
    Column("source", String),
    Column("ref", String),
    Column("importance", Float, nullable=False),
    Column("expires", String),
    Column("superseded_by", String),
    Column("snapshot", Text, nullable=False),
    Index("cubes_by_space", "space", "seq", "created"),
    Index("cubes_by_session", "space", "session", "seq"),
    Index("cubes_by_ref", "space", "ref"),
    Index("cubes_by_content", "space", "content_hash"),
    Index("cubes_by_kind", "space", "kind"),
    Index("cubes_by_time", "space", "becomes_true"),
    Index("cubes_by_expiry", "expires"),
    Index("cubes_cold", "space", "seq", sqlite_where=NOT_STANDING, postgresql_where=NOT_STANDING),
    Index("cubes_pinned", "space", "seq", sqlite_where=PINNED),
    sqlite_autoincrement=True,
)
"""`snapshot` is the current version whole; the columns from `content_hash` on repeat what queries filter by."""

versions = Table(
    "versions",
    metadata,
    Column("cube", ForeignKey("cubes.seq"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("op", String, nullable=False),
    Column("since", String, nullable=False),
    Column("until", String, nullable=False),
    Column("snapshot", Text, nullable=False),
)
"""Former versions only: the current one stands in `cubes`."""

operations = Table(
    "operations",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("verb", String, nullable=False),
    Column("principal", String, nullable=False),
    Column("client", String),
    Column("at", String, nullable=False),
    Column("reason", String),
    Column("undoes", String),
    Column("undone_by", String),
    Column("purged", Boolean, nullable=False, default=False),
    Column("request", String),
    Column("answer", Text),
    Index("operations_by_request", "request", unique=True),
    Index("operations_by_time", "at", "verb"),
    sqlite_autoincrement=True,
)
"""`request`: the key of the request that was carried out; `answer`: what it got, and gets when it is repeated."""

changes = Table(
    "changes",
    metadata,
    Column("op", ForeignKey("operations.seq"), primary_key=True),
    Column("cube", String, primary_key=True),
    Column("from_version", Integer),
    Column("to_version", Integer),
    Column("from_state", String),
    Column("to_state", String),
    Column("from_space", Integer),
    Column("to_space", Integer),
    Index("changes_by_cube", "cube", "op"),
)
"""What an operation did to each cube, as references to versions and states; it holds no text to forget."""

links = Table(
    "links",
    metadata,
    Column("cube", ForeignKey("cubes.seq"), primary_key=True),
    Column("target", String, primary_key=True),
    Column("relation", String, primary_key=True),
    Index("links_by_target", "target"),
)
"""Edges of current versions, lineage included (relations parent, supersedes)."""

tags = Table(
    "tags",
    metadata,
    Column("space", Integer, primary_key=True),
    Column("tag", String, primary_key=True),
    Column("cube", ForeignKey("cubes.seq"), primary_key=True),
    Index("tags_by_cube", "cube"),
)

attributes = Table(
    "attributes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("space", Integer, nullable=False),
    Column("key", String, nullable=False),
    Column("text", String),
    Column("number", Float),
    Column("cube", ForeignKey("cubes.seq"), nullable=False),
    Index("attributes_by_text", "space", "key", "text", "cube"),
    Index("attributes_by_number", "space", "key", "number", "cube"),
    Index("attributes_by_cube", "cube"),
)
"""The caller's metadata, a row a value, so that it can be filtered by equality and range."""

grants = Table(
    "grants",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("space", ForeignKey("spaces.id")),
    Column("cube", ForeignKey("cubes.seq")),
    Column("principal", String, nullable=False),
    Column("can", String, nullable=False),
    UniqueConstraint("space", "cube", "principal", "can"),
    Index("grants_by_principal", "principal"),
    Index("grants_by_cube", "cube"),
)

embedders = Table(
    "embedders",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("identity", String, nullable=False, unique=True),
    Column("dimensions", Integer, nullable=False),
)

vectors = Table(
    "vectors",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("cube", ForeignKey("cubes.seq"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("space", Integer, nullable=False),
    Column("embedder", ForeignKey("embedders.id"), nullable=False),
    Column("tier", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("vectors_by_space", "space", "embedder", "tier", "seq", "cube"),
    Index("vectors_by_cube", "cube", "embedder", "tier"),
    sqlite_autoincrement=True,
)
"""One embedding a row, half precision, little endian. `seq` only grows, so an index is complete up to a number.

`tier`: `FORMER`, of a text that the memory had; `MAIN`, of a memory that stands; `COLD`, of one that does not."""

FORMER, MAIN, COLD = range(3)

vector_queue = Table(
    "vector_queue",
    metadata,
    Column("cube", ForeignKey("cubes.seq"), primary_key=True),
    Column("space", Integer, nullable=False),
)
"""Cubes whose current version has no vector yet."""

index_removals = Table(
    "index_removals",
    metadata,
    Column("vector", Integer, primary_key=True),
    Column("space", Integer, nullable=False),
)
"""Vectors that left the ledger and may still stand in a space's index."""

usage = Table(
    "usage",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("cube", ForeignKey("cubes.seq"), nullable=False),
    Column("at", String, nullable=False),
    Column("event", String, nullable=False),
    Column("principal", String, nullable=False),
    Index("usage_by_cube", "cube"),
    sqlite_autoincrement=True,
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("state", String, nullable=False),
    Column("payload", Text, nullable=False),
    Column("done", Integer, nullable=False, default=0),
    Column("total", Integer, nullable=False, default=0),
    Column("error", String),
    Column("created", String, nullable=False),
    Column("updated", String, nullable=False),
    Column("attempts", Integer, nullable=False, default=0, server_default="0"),
    Column("not_before", String),
    Column("holder", String),
    Column("leased_until", String),
    Column("priority", Float, nullable=False, default=0.5, server_default="0.5"),
    Column("cancelled", Boolean, nullable=False, default=False, server_default="0"),
    Column("principal", String),
    Index("jobs_by_state", "state"),
)
"""Background work; the payload holds ids and numbers, never a memory's text.

`holder` does a job until `leased_until`: after that another may take it up. `cancelled`: it was asked to end.
`principal`: for whom it is done, NULL for the store itself."""

proposals = Table(
    "proposals",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("key", String, nullable=False, unique=True),
    Column("space", Integer, nullable=False),
    Column("score", Float, nullable=False),
    Column("reason", String, nullable=False),
    Column("state", String, nullable=False),
    Column("created", String, nullable=False),
    Column("settled", String),
    Column("op", String),
    Index("proposals_by_state", "state", "space"),
)
"""What the scheduler would do but does not without approval; `state` is open, declined or done, `op` what did it.

`key` names kind and memories in their versions, so that nothing is proposed twice. No reason holds a memory's text."""

proposed_cubes = Table(
    "proposed_cubes",
    metadata,
    Column("proposal", ForeignKey("proposals.id", ondelete="CASCADE"), primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("cube", ForeignKey("cubes.seq"), nullable=False),
    Column("version", Integer, nullable=False),
    Index("proposed_cubes_by_cube", "cube"),
)

entities = Table(
    "entities",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("space", ForeignKey("spaces.id"), nullable=False),
    Column("key", String, nullable=False),
    Column("name", String, nullable=False),
    Column("kind", String, nullable=False),
    UniqueConstraint("space", "key"),
    sqlite_autoincrement=True,
)
"""What the memories of a space name. Derived, with `mentions` and `relations`: made anew from the memories' texts."""

mentions = Table(
    "mentions",
    metadata,
    Column("entity", ForeignKey("entities.id"), primary_key=True),
    Column("cube", ForeignKey("cubes.seq"), primary_key=True),
    Index("mentions_by_cube", "cube"),
)

relations = Table(
    "relations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("cube", ForeignKey("cubes.seq"), nullable=False),
    Column("subject", ForeignKey("entities.id"), nullable=False),
    Column("relation", String, nullable=False),
    Column("object", ForeignKey("entities.id"), nullable=False),
    Column("valid_from", String),
    Column("valid_to", String),
    Index("relations_by_subject", "subject", "relation"),
    Index("relations_by_object", "object", "relation"),
    Index("relations_by_cube", "cube"),
    sqlite_autoincrement=True,
)
"""That one entity stands in a relation to another, as a memory states; the times are those that it states with it."""

contexts = Table(
    "contexts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("principal", String, nullable=False),
    Column("spaces", String, nullable=False),
    Column("host", String, nullable=False),
    Column("task", String, nullable=False),
    Column("used", String, nullable=False),
    Column("budget", Integer, nullable=False),
    Column("turn", Integer, nullable=False),
    Column("debt", Float, nullable=False),
    Column("next_number", Integer, nullable=False),
    Index("contexts_by_host", "principal", "spaces", "host"),
    Index("contexts_by_task", "principal", "spaces", "task"),
    Index("contexts_by_use", "used"),
    sqlite_autoincrement=True,
)
"""Prompts that go on from turn to turn. Derived: a lost one begins anew. `task` is a keyed digest, never its words."""

context_lines = Table(
    "context_lines",
    metadata,
    Column("context", ForeignKey("contexts.id", ondelete="CASCADE"), primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("seq", ForeignKey("cubes.seq"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("kind", String, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("chars", Integer),
    Column("part", Integer, nullable=False),
    Column("found", Integer, nullable=False),
    Column("given", Integer, nullable=False),
    Column("refers", Integer),
    Index("context_lines_by_cube", "seq"),
)
"""The lines of a prompt, by memory and version: their texts are read from the versions each time."""

kept_states = Table(
    "kept_states",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String, nullable=False, unique=True),
    Column("identity", String, nullable=False),
    Column("promoted", Boolean, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("tokens_read", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("file", String, nullable=False, unique=True),
    Column("created", String, nullable=False),
    Column("last_used", String, nullable=False),
    Column("uses", Integer, nullable=False),
    Column("conversation", String, unique=True),
    Column("principal", String),
    Column("space", Integer),
    Column("session", String),
    Column("format", String),
    Column("layers", Integer),
    Column("head", Integer),
    Column("mounted", String),
    sqlite_autoincrement=True,
)
"""States of the local model that lie in files. Derived: a lost one is read anew. `tokens_read`: how many were read to
make it; those behind a state that was known already. `conversation` to `session` are of conversations alone. `head`:
tokens before the first memory. `mounted`: the engine's identity with what it was read under, NULL for nothing."""

state_parts = Table(
    "state_parts",
    metadata,
    Column("state", ForeignKey("kept_states.id"), primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("cube", ForeignKey("cubes.seq")),
    Column("version", Integer),
    Column("role", String),
    Column("end", Integer, nullable=False),
    Index("state_parts_by_cube", "cube"),
)
"""What a state holds up to token `end`: a memory in a version, or of a conversation a turn of this role.

With the role `mounted` and no end of its own, a cube that it was read under: a steering vector, or what that is of."""

promoted_cubes = Table(
    "promoted_cubes",
    metadata,
    Column("set", Integer, primary_key=True),
    Column("cube", ForeignKey("cubes.seq"), primary_key=True),
    Index("promoted_cubes_by_cube", "cube"),
)
"""Memories that are to be held as one state, whatever becomes of the state itself."""

steerings = Table(
    "steerings",
    metadata,
    Column("cube", ForeignKey("cubes.seq"), primary_key=True),
    Column("identity", String, nullable=False),
    Column("model", String, nullable=False),
    Column("first", Integer, nullable=False),
    Column("last", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("shares", Text, nullable=False),
    Column("norms", Text, nullable=False),
    Column("sha256", String, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("file", String, nullable=False, unique=True),
    Column("created", String, nullable=False),
)
"""Steering vectors that lie in files, by their cubes. Derived: a lost one is made anew from the cube's recipe.
`shares` and `norms` hold a number for each layer from `first` to `last`, as JSON."""

steering_sources = Table(
    "steering_sources",
    metadata,
    Column("steering", ForeignKey("steerings.cube"), primary_key=True),
    Column("cube", ForeignKey("cubes.seq"), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("side", String, nullable=False),
    Index("steering_sources_by_cube", "cube"),
)
"""Which memories, in which versions, a steering vector was made of; `side` is towards or away."""
