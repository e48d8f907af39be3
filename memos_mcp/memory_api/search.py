"""The verb search: finds memories for a question or reads them by id, with the reason for each hit."""

from __future__ import annotations

from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from memos_mcp import governance
from memos_mcp.cube import Cube, clean_label, content_hash, parse_instant
from memos_mcp.documents.position import own_text, position_of
from memos_mcp.errors import InvalidInput, MemosError
from memos_mcp.governance import Caller
from memos_mcp.ledger import packed, vectors
from memos_mcp.memory_api import believed, collapse, compose, fetch, similar, split, trees
from memos_mcp.memory_api.parts import MOST_OF_OTHERS, SEARCH_WAIT_S, Parts, cubes_for
from memos_mcp.plaintext import rerank
from memos_mcp.plaintext.scope import Scope
from memos_mcp.plaintext.search import Begun, Found
from memos_mcp.policies.feedback import factor
from memos_mcp.policies.sharing import shares
from memos_mcp.ports import Vector
from memos_mcp.requests import SearchRequest
from memos_mcp.results import REASONS, Hit, SearchResult, Why
from memos_mcp.usage import task_of
from memos_mcp.vault import embeddable_text

_FIRST = "What is known?"
"""A question as good as any, for what every question needs."""
_BY_WORDS = "Memories compressed in the archive are found by their words only."


@dataclass(frozen=True)
class _Answer:
    """A hit before display: the memory, why it was found, its neighbours in the session, others that say the same."""

    cube: Cube
    found: Found | None
    before: list[Cube]
    after: list[Cube]
    same: list[Cube]

    def text(self) -> str:
        said = [*self.before, self.cube, *self.after]
        return "\n".join(_spoken(cube) if len(said) > 1 else cube.snapshot.content for cube in said)

    def refs(self) -> list[str]:
        found = [cube.snapshot.ref for cube in (self.cube, *self.before, *self.after, *self.same)]
        return [ref for ref in found if ref is not None]


def search(parts: Parts, caller: Caller, request: SearchRequest, task: str | None = None) -> SearchResult:
    """Find memories, best first, or read the named ones whole.

    `task`: for which the relevance of what is found is kept; None for the session, or the caller's connection.

    Raises:
        InvalidInput: neither query nor ids, or a filter that makes no sense. NotFound: a space or id not the caller's.
    """
    if (request.query is None) == (request.ids is None):
        raise InvalidInput("Give either query or ids.", field="query")
    if request.ids is not None:
        answers, degraded, vector = _named(parts, caller, request), None, None
    else:
        answers, degraded, vector = _found(parts, caller, request)
    scores = [min(max(answer.found.score, 0.0), 1.0) if answer.found else 1.0 for answer in answers]
    task = None if request.ids is not None else task or task_of(caller, request.session)
    event = "read" if request.ids is not None else "served"
    seqs = [answer.cube.seq for answer in answers]
    parts.usage.served(seqs, parts.stamp(), caller, event, task=task, scores=scores)
    parts.working.served(caller, seqs, request.query, vector)
    cold = [answer.cube for answer in answers if answer.found is not None and "archive" in answer.found.reasons]
    if cold and not parts.ledger.read_only:
        parts.beside.submit(fetch.bring_back, parts, caller, cold)
    places = trees.paths(parts, caller, [answer.cube for answer in answers])
    return _result(answers, request, degraded, places)


def get_ready(parts: Parts, caller: Caller) -> None:
    """Ask once what nobody hears, so that the caller's first question finds words, index and models in memory, and the
    first addition what it is compared with.

    Nothing is noted as used. Small spaces are ready when this returns; the words of a large one are still being read.
    """
    with suppress(MemosError):  # the question meets the same error, and says it
        _found(parts, caller, SearchRequest(query=_FIRST, top_k=1))
    similar.place_of(parts, caller, caller.space)


def _named(parts: Parts, caller: Caller, request: SearchRequest) -> list[_Answer]:
    with parts.ledger.read() as connection:
        cubes = cubes_for(parts, connection, caller, request.ids or [], "read")
        return [_answer(parts, connection, caller, cube, None, [], request.around) for cube in cubes]


def _found(
    parts: Parts, caller: Caller, request: SearchRequest
) -> tuple[list[_Answer], str | None, Vector | None]:
    """The hits, why the search was less than whole, and the question's vector."""
    query = (request.query or "").strip()
    if not query:
        raise InvalidInput("query is empty: ask a question, or give ids.", field="query")
    with parts.ledger.read() as connection:
        scope = scope_of(parts, connection, caller, request)
        resting = scope.reaches_cold and packed.is_in(connection, scope.space_ids)
        waiting = vectors.queue_length_of(connection, scope.space_ids)
    as_of = parse_instant(request.as_of, "as_of") if request.as_of else None
    late = _wait_for_vectors(parts, caller, scope, waiting)
    with parts.foreground, parts.asking:
        # the words are looked up in the model's time: only one thread can run Python, but the model works without it
        begun = None if as_of else parts.ahead.submit(_begun, parts, query, scope, request.top_k)
        try:
            vector, trust, degraded = _query_vector(parts, caller, query)
        finally:
            wait([begun] if begun else [])
        answers, unranked = _answered(parts, caller, request, scope, (query, vector, trust), begun, as_of)
    said = degraded or late, unranked, _BY_WORDS if resting else None
    return answers, " ".join(filter(None, said)) or None, vector


def _begun(parts: Parts, query: str, scope: Scope, count: int) -> Begun:
    with parts.ledger.read() as connection:
        return parts.search.begin(connection, query, scope, count)


def _answered(
    parts: Parts,
    caller: Caller,
    request: SearchRequest,
    scope: Scope,
    asked: tuple[str, Vector | None, float],
    begun: Future[Begun] | None,
    as_of: str | None,
) -> tuple[list[_Answer], str | None]:
    """The hits; if the store has a reranker and they are not in its order, why."""
    reranks, unranked = _reranker_ready(parts)
    wanted = max(request.top_k + collapse.SPARE, rerank.MOST if reranks else 0)
    with parts.ledger.read() as connection:
        pairs = _ranked(parts, connection, asked, scope, begun, as_of, wanted)
        if begun is not None:
            pairs = compose.with_compositions(parts, connection, scope, pairs, request.top_k)
            pairs = fetch.fetched(parts, connection, begun.result().question, scope, pairs)
        if not reranks:
            return _answers(parts, connection, caller, request, pairs), unranked
    pairs, unranked = _reranked(parts, asked[0], pairs)
    with parts.ledger.read() as connection:
        standing = parts.vault.by_seqs(connection, [hit.seq for _, hit in pairs])
        pairs = [pair for pair in pairs if pair[1].seq in standing]  # none that was purged meanwhile
        return _answers(parts, connection, caller, request, pairs), unranked


def _ranked(
    parts: Parts,
    connection: Connection,
    asked: tuple[str, Vector | None, float],
    scope: Scope,
    begun: Future[Begun] | None,
    as_of: str | None,
    wanted: int,
) -> list[tuple[Cube, Found]]:
    query, vector, trust = asked
    if begun is None:
        return believed.search(parts, connection, query, vector, scope, as_of or scope.now, wanted)
    found = parts.search.finish(connection, begun.result(), vector, scope, wanted, trust)
    cubes = parts.vault.by_seqs(connection, [hit.seq for hit in found])
    return [(cubes[hit.seq], hit) for hit in found if hit.seq in cubes]


def _answers(
    parts: Parts, connection: Connection, caller: Caller, request: SearchRequest, pairs: list[tuple[Cube, Found]]
) -> list[_Answer]:
    pairs = _by_feedback(request.query or "", pairs)
    return [
        _answer(parts, connection, caller, hit.cube, hit.found, hit.others, request.around)
        for hit in collapse.joined(pairs, request.top_k)
    ]


def _by_feedback(query: str, pairs: list[tuple[Cube, Found]]) -> list[tuple[Cube, Found]]:
    """The hits with what hosts said of them weighed in; without feedback they are as they were.

    A memory whose text is the question itself stays first, whatever was said of it.
    """
    if all(cube.snapshot.feedback is None for cube, _ in pairs):
        return pairs
    same = content_hash(query)
    exact = [pair for pair in pairs if content_hash(pair[0].snapshot.content) == same]
    others = [pair for pair in pairs if pair not in exact]
    return exact + sorted((_judged(*pair) for pair in others), key=lambda pair: -pair[1].score)


def _judged(cube: Cube, found: Found) -> tuple[Cube, Found]:
    moved = factor(cube.snapshot.feedback)
    if moved == 1.0:
        return cube, found
    return cube, replace(found, score=min(found.score * moved, 1.0), reasons={**found.reasons, "feedback": moved})


def _reranker_ready(parts: Parts) -> tuple[bool, str | None]:
    """Whether there is a reranker to ask; if the store has one and it is not there, why."""
    if not parts.reranker.chosen:
        return False, None
    try:
        parts.reranker.get()
    except MemosError as error:
        return False, f"Hits are in their order before reranking: {error}"
    return True, None


def _reranked(
    parts: Parts, query: str, pairs: list[tuple[Cube, Found]]
) -> tuple[list[tuple[Cube, Found]], str | None]:
    """The hits in the order that the reranker gives them; as they were, and why, if it does not answer in time.

    A memory whose text is the question itself stays first.
    """
    same = content_hash(query)
    exact = [pair for pair in pairs if content_hash(pair[0].snapshot.content) == same]
    others = [pair for pair in pairs if pair not in exact] if exact else pairs
    texts = rerank.shown([embeddable_text(cube.snapshot) for cube, _ in others])
    try:
        log_odds = parts.reranker.scores(query, texts)
    except MemosError as error:
        return pairs, f"Hits are in their order before reranking: {error}"
    places = rerank.blend([hit.score for _, hit in others], log_odds.tolist())
    return exact + [_placed(*others[place.position], place) for place in places], None


def _placed(cube: Cube, found: Found, place: rerank.Place) -> tuple[Cube, Found]:
    said = {} if place.relevance is None else {"rerank": place.relevance}
    return cube, replace(found, score=place.score, reasons={**found.reasons, **said})


def _answer(
    parts: Parts,
    connection: Connection,
    caller: Caller,
    cube: Cube,
    found: Found | None,
    same: list[Cube],
    around: int,
) -> _Answer:
    """The hit as the caller reads it, with its neighbours; a memory shared by itself has none, for its space is not
    the caller's to read."""
    cube = compose.shown(parts, connection, caller, cube)
    if around and governance.may(connection, caller.principal, "read", governance.space_of(connection, cube.space)):
        if position_of(cube.snapshot) is not None:
            return _Answer(cube, found, *trees.neighbours(parts, connection, cube, around), same)
        before, behind = split.neighbours(parts, connection, cube, around)
        if before or behind:
            return _Answer(cube, found, before, behind, same)
        return _Answer(cube, found, *parts.vault.neighbours(connection, cube, around, parts.stamp()), same)
    return _Answer(cube, found, [], [], same)


def scope_of(parts: Parts, connection: Connection, caller: Caller, request: SearchRequest) -> Scope:
    """Where the request looks, which the caller may read; raises as `search` does."""
    names = [request.space] if isinstance(request.space, str) else request.space
    own_missing = names == [caller.space] and governance.find_space(connection, caller.space) is None
    spaces = [] if own_missing else governance.readable_spaces(connection, caller, names)
    here = [] if request.as_of else spaces  # a reference is what is so now
    scope = Scope(
        space_ids=tuple(space.id for space in spaces),
        now=parts.stamp(),
        shared=tuple(governance.reached_cubes(connection, caller, here, granted=not names)),
        kinds=tuple(request.kinds),
        tags=tuple(clean_label(tag, "tag", 100) for tag in request.tags),
        after=parse_instant(request.after, "after") if request.after else None,
        before=parse_instant(request.before, "before") if request.before else None,
        session=clean_label(request.session, "session") if request.session else None,
        where=request.where,
        include=tuple(request.include),
    )
    scope.check()
    return scope


def _wait_for_vectors(parts: Parts, caller: Caller, scope: Scope, waiting: int) -> str | None:
    """Wait a bounded moment for the embedder and for what the caller just added; say so when that was not enough.

    `waiting` memories of the scope's spaces had no vector a moment ago.

    What others added is waited for if it is little. While somebody is adding there is always more to come: then nobody
    waits, and the words alone find the newest.
    """
    try:
        parts.embedder.get(SEARCH_WAIT_S)
    except MemosError:
        return None  # the query meets the same error, and says it
    if not waiting:
        return None
    own = parts.behind.upto(caller.writer) if waiting > MOST_OF_OTHERS else None
    if own is not None or waiting <= MOST_OF_OTHERS:
        parts.indexer.wait_embedded(
            scope.space_ids, SEARCH_WAIT_S, lambda: parts.adding.busy or parts.indexer.stalled, own
        )
        with parts.ledger.read() as connection:
            if not vectors.queue_length_of(connection, scope.space_ids):
                return None
    return "Memories added a moment ago are found by their words only, until they are embedded."


def _query_vector(parts: Parts, caller: Caller, query: str) -> tuple[Vector | None, float, str | None]:
    try:
        embedder = parts.embedder.get(0.0)
        known = parts.working.vector_of(caller, query)
        return embedder.embed_query(query) if known is None else known, embedder.trust(query), None
    except MemosError as error:
        return None, 0.0, f"Searched by words alone: {error}"


def _result(
    answers: list[_Answer], request: SearchRequest, degraded: str | None, places: dict[str, str]
) -> SearchResult:
    texts = [answer.text() for answer in answers]
    given = shares([len(text) for text in texts], request.max_chars)
    cut = sum(len(text) > share for text, share in zip(texts, given, strict=True))
    result: SearchResult = {
        "hits": [
            _hit(answer, text if len(text) <= share else text[: max(share - 1, 0)] + "…", places.get(answer.cube.id))
            for answer, text, share in zip(answers, texts, given, strict=True)
        ]
    }
    if degraded:
        result["degraded"] = degraded
    if cut:
        result["next"] = (
            f"{cut} text(s) were cut to fit max_chars={request.max_chars}: "
            "read one whole with ids=[its id] and a larger max_chars."
        )
    elif not answers:
        result["next"] = "Nothing matched: ask in other words, or with fewer filters."
    return result


def _hit(answer: _Answer, text: str, place: str | None) -> Hit:
    """The hit as it is told; of a node of a tree the source is its `place`, the way down to it."""
    cube, found = answer.cube, answer.found
    return {
        "id": cube.id,
        "uri": cube.uri,
        "text": text,
        "score": round(found.score, 4) if found else 1.0,
        "why": _why(found, answer.same),
        "refs": answer.refs(),
        "kind": cube.snapshot.kind,
        "tags": list(cube.snapshot.tags),
        "source": place or cube.snapshot.source,
        "space": cube.space_name,
        "created": cube.created,
        "valid_from": cube.becomes_true,
        "state": cube.state,
        "form": cube.snapshot.form,
        "version": cube.version,
    }


def _why(found: Found | None, same: list[Cube]) -> Why:
    why: Why = {"words": [], "bm25": 0.0, "cosine": None}
    if found is not None:
        cosine = None if found.cosine is None else round(found.cosine, 4)
        why = {"words": list(found.words), "bm25": round(found.bm25, 3), "cosine": cosine}
        for name in REASONS:
            if name in found.reasons:
                why[name] = round(found.reasons[name], 3)
    if same:
        why["same"] = [cube.id for cube in same]
    return why


def _spoken(cube: Cube) -> str:
    who = cube.snapshot.name or cube.snapshot.role
    return f"{who}: {own_text(cube.snapshot)}" if who else own_text(cube.snapshot)
