"""Reads memories, spaces, jobs and figures whole, for resources, tables and programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memos_mcp import governance, templates
from memos_mcp.cube import Cube, Snapshot
from memos_mcp.documents.position import position_of, title_of
from memos_mcp.errors import NotFound
from memos_mcp.governance import Caller, Space
from memos_mcp.ledger import channels, operations, vectors
from memos_mcp.ledger import tiers as ledger_tiers
from memos_mcp.memory_api import activated, adapters, compose, tiers, trees
from memos_mcp.memory_api.parts import Parts, cubes_for
from memos_mcp.plaintext.scope import Scope
from memos_mcp.templates import Template

PAGE = 50
MOST_TEMPLATES = 200


class Read:
    """Reading without finding: what the caller names, whole."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def cube(self, caller: Caller, cube_id: str, version: int | None = None) -> dict[str, Any]:
        """A MemCube as the contract writes it, as it is or as a former version was.

        Raises:
            NotFound: no such memory or version, or not the caller's to see.
        """
        parts = self._parts
        with parts.ledger.read() as connection:
            cube = cubes_for(parts, connection, caller, [cube_id], "read")[0]
            space = governance.space_of(connection, cube.space)
            past = governance.may_ever(connection, caller.principal, "read", space, cube.seq)
            number = version or cube.version
            snapshot = parts.vault.version(connection, cube, number) if past or number == cube.version else None
            if snapshot is None:
                raise NotFound("version", [f"{cube_id}/v/{version}"], f"the current version is {cube.version}.")
            acl = parts.vault.access_list(connection, cube)
            for channel in channels.by_ids(connection, channels.channels_of(connection, [cube.seq])):
                acl[f"readers of channel {channel.address}"] = ["read"]
            if snapshot is cube.snapshot:
                snapshot = compose.shown(parts, connection, caller, cube).snapshot
            forms = activated.payload(connection, cube, snapshot), activated.states(connection, caller, cube)
            above = trees.ancestors(parts, connection, caller, cube)
            warm = parts.usage.heats(connection, [cube], parts.now())[cube.seq]
            use = parts.usage.figures_of(connection, [cube.seq])[cube.seq]
            tier = tiers.of_cube(parts, connection, caller, cube)
        found = _memcube(cube, snapshot, version or cube.version, acl)
        found["behavioural"] |= {"heat": round(warm, 4), "served": use.served, "used": use.used, "tier": tier}
        found["payload"], states = forms
        if states:
            found["states"] = states
        found["lineage"]["path"] = [{"id": one.id, "title": _title(one)} for one in above]
        return found

    def page(self, caller: Caller, space: str, after: int = 0) -> tuple[list[Cube], int | None]:
        """A page of a space's memories in the order of writing, and where the next one begins."""
        parts = self._parts
        with parts.ledger.read() as connection:
            found = governance.readable_spaces(connection, caller, [space])[0]
            cubes = parts.vault.page(connection, found.id, after, PAGE + 1)
        return cubes[:PAGE], cubes[PAGE - 1].seq if len(cubes) > PAGE else None

    def adapters(self, caller: Caller) -> list[dict[str, Any]]:
        """What the caller may have mounted on the local model: see `adapters.listed` and `activated.adapters`."""
        with self._parts.ledger.read() as connection:
            trained = adapters.listed(self._parts, connection, caller)
            return trained + activated.adapters(connection, self._parts.vault, caller)

    def spaces(self, caller: Caller) -> list[Space]:
        """The spaces that the caller may read."""
        with self._parts.ledger.read() as connection:
            return governance.list_spaces(connection, caller)

    def templates(self, caller: Caller, taken: Sequence[str]) -> list[Template]:
        """The live templates of the spaces that a search of the caller's looks in, at most `MOST_TEMPLATES`, named.

        `taken` are names that none of them gets.
        """
        parts = self._parts
        with parts.ledger.read() as connection:
            looked_in = governance.readable_spaces(connection, caller, None)
            spaces = tuple(space.id for space in looked_in)
            shared = tuple(governance.reached_cubes(connection, caller, looked_in))
            scope = Scope(spaces, parts.stamp(), shared, kinds=(templates.KIND,))
            seqs = scope.first(connection, MOST_TEMPLATES) if spaces or shared else []
            cubes = parts.vault.by_seqs(connection, seqs)
        return templates.named(list(cubes.values()), taken)

    def require_watchable(self, caller: Caller, name: str) -> None:
        """Raise unless the caller may read the space, or it is the caller's own of this connection and not made yet.

        Raises:
            NotFound: it is not there, or not the caller's to see.
        """
        with self._parts.ledger.read() as connection:
            if name != caller.space or governance.find_space(connection, name) is not None:
                governance.readable_spaces(connection, caller, [name])

    def create_space(self, caller: Caller, name: str) -> Space:
        """The space of this name, made if there is none."""
        with self._parts.ledger.write() as connection:
            return governance.open_space(connection, caller, name, self._parts.stamp())

    def job(self, job_id: str) -> dict[str, Any]:
        """A background job as the ledger has it, for the store's own upkeep: what a caller may see is `jobs.job`.

        Raises:
            NotFound: there is no such job.
        """
        found = self._parts.jobs.find(job_id)
        if found is None:
            raise NotFound("job", [job_id], "its id is in the result of the call that started it.")
        return {**vars(found)}

    def stats(self, caller: Caller) -> dict[str, Any]:
        """Figures of the store, the spaces that the caller may read, and how tools did in those."""
        spaces = self.spaces(caller)
        with self._parts.ledger.read() as connection:
            tools = tiers.outcomes(connection, [space.id for space in spaces])
        return {**self.figures(), "spaces": [space.name for space in spaces[:PAGE]], "tools": tools}

    def figures(self) -> dict[str, Any]:
        """Figures of the whole store."""
        parts = self._parts
        with parts.ledger.read() as connection:
            return {
                "cubes": parts.vault.count(connection),
                "operations": operations.count(connection),
                "waiting_for_vectors": vectors.queue_length(connection),
                "indexed_spaces": len(vectors.indexed_spaces(connection)),
                **ledger_tiers.figures(connection),
                "working": parts.working.figures(),
            }


def _title(cube: Cube) -> str:
    at = position_of(cube.snapshot)
    return at.title if at is not None else title_of(cube.snapshot.content[:200])


def _memcube(cube: Cube, snapshot: Snapshot, version: int, acl: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "id": cube.id,
        "version": version,
        "uri": cube.uri if version == cube.version else f"{cube.uri}/v/{version}",
        "descriptive": {
            "kind": snapshot.kind,
            "created": cube.created,
            "updated": cube.updated,
            "valid_from": snapshot.valid_from or cube.created,
            "valid_to": snapshot.valid_to,
            "source": {"client": cube.client, "session": snapshot.session, "uri": snapshot.source},
            "role": snapshot.role,
            "name": snapshot.name,
            "ref": snapshot.ref,
            "modality": "text",
            "tags": list(snapshot.tags),
            "language": cube.language,
            "metadata": snapshot.metadata,
        },
        "governance": {
            "owner": cube.owner,
            "space": cube.space_name,
            "acl": [{"principal": principal, "can": can} for principal, can in acl.items()],
            "state": cube.state,
            "expires": snapshot.expires,
            "priority": snapshot.priority,
            "policy": snapshot.policy,
            "pinned": snapshot.pinned,
            "sensitivity": snapshot.sensitivity,
        },
        "behavioural": {
            "uses": cube.uses,
            "last_used": cube.last_used,
            "importance": snapshot.importance,
            "feedback": snapshot.feedback,
        },
        "lineage": {
            "parents": list(snapshot.parents),
            "supersedes": list(snapshot.supersedes),
            "superseded_by": snapshot.superseded_by,
            "links": [{"to": link.to, "relation": link.relation} for link in snapshot.links],
            "op": cube.op,
        },
    }
