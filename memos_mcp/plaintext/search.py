"""Ranks memories for a question: gathers what may answer it, looks at what speaks for each, and weighs that.

Knows nothing of verbs, access or display. It is the seam of search: what it returns carries every figure that led to
the score, and nothing outside reads the indexes.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, func, select

from memos_mcp.cube import content_hash
from memos_mcp.ledger import dialect
from memos_mcp.ledger.schema import NOT_STANDING, STANDING, cubes
from memos_mcp.ledger.vectors import Stored
from memos_mcp.plaintext import dense, lexical, pool
from memos_mcp.plaintext.cold import Cold
from memos_mcp.plaintext.cold import look_up as look_up_cold
from memos_mcp.plaintext.combiner import combine, fits
from memos_mcp.plaintext.evidence import NAMES, Evidence, weigh
from memos_mcp.plaintext.facts import Floats
from memos_mcp.plaintext.pool import LookedUp, Pool
from memos_mcp.plaintext.question import Question, asked
from memos_mcp.plaintext.scope import Eligible, Scope
from memos_mcp.plaintext.signatures import Signed
from memos_mcp.plaintext.views import Views
from memos_mcp.ports import Vector

DENSE_HITS = 64
WORD_HITS = 80
DAY_HITS = 40
MOSTLY = 0.9
"""Share of all memories from which on words are looked up without naming spaces: the end drops the few of others."""
VIEWED = 200_000
"""Memories of the searched spaces up to which their words are held in memory: some 40 MB for each 100,000."""
HELD = 20_000
"""Memories of the searched spaces up to which their vectors are held in memory too."""
VIEWED_SPACES = 500
VIEWED_SINGLES = 10_000
"""Single memories of other spaces up to which their words are held in memory: a tenth of a second for 5,000."""
MOST_SAME = 20
"""Memories whose text is the question itself that are put before all others."""
WORDS_SHOWN = 8
SHOWN = {
    "session_words": "session",
    "beside": "neighbours",
    "answers": "asked_before",
    "on_day": "day",
    "speaks": "speaker",
}
"""Evidence that a hit's reasons name beside words and meaning, and how they call it."""
_SHOWN = [NAMES.index(name) for name in SHOWN]


@dataclass(frozen=True)
class Found:
    """A memory and why it was found.

    `score`: about the chance that it answers, 0..1; `bm25` >= 0; `cosine` -1..1, None without vectors; `words` that it
    shares, heaviest first; `reasons`: what else speaks for it, 0..1 each.
    """

    seq: int
    score: float
    bm25: float
    cosine: float | None
    words: tuple[str, ...]
    reasons: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Weighed:
    """A question's pool with all that is known of it.

    `cosines` (n,), NaN of a memory without a vector, None without meaning; `trust`, 0..1, is the weight of meaning.
    """

    question: Question
    pool: Pool
    evidence: Evidence
    cosines: Floats | None
    trust: float

    def ranked(self, exact: frozenset[int], eligible: Eligible | None) -> Ranking:
        """Every memory of the pool (of `eligible`, when given), best first; those that are `exact` before all."""
        seqs = self.pool.facts.seq
        totals = combine(self.evidence, self.trust)
        known = np.nan_to_num(self.cosines) if self.cosines is not None else None
        scores = fits(self.evidence, totals, known, self.trust)
        if exact:
            same = np.isin(seqs, list(exact))
            totals[same], scores[same] = np.inf, 1.0
        order = np.lexsort((-seqs, -totals))
        if eligible is not None:
            order = order[eligible.among(seqs[order])]
        scores[order] = np.minimum.accumulate(scores[order])  # no hit fits better than the one before it
        return Ranking(self, order, scores)

    def found(self, i: int, score: float) -> Found:
        """The memory at place `i`, with what speaks for it."""
        counts = self.pool.counts[i].tolist()
        words = [self.question.words[j] for j in self._heaviest if counts[j]][:WORDS_SHOWN]
        cosine = float(self.cosines[i]) if self.cosines is not None else math.nan
        shares = zip(SHOWN.values(), self.evidence.columns[i, _SHOWN].tolist(), strict=True)
        reasons = {said: min(share, 1.0) for said, share in shares if share > 0}
        seq, bm25 = int(self.pool.facts.seq[i]), float(self.evidence.bm25[i])
        return Found(seq, score, bm25, None if math.isnan(cosine) else cosine, tuple(words), reasons)

    @cached_property
    def _heaviest(self) -> list[int]:
        """The question's words by what they tell, that first which tells most."""
        heaviest: list[int] = np.argsort(-self.pool.idf, kind="stable").tolist()
        return heaviest


@dataclass(frozen=True)
class Ranking:
    """Places of a pool, best first, and the score of each place."""

    weighed: Weighed
    order: NDArray[np.int64]
    scores: Floats

    def standing(self, connection: Connection, scope: Scope, count: int) -> list[Found]:
        """The first `count` that are in scope."""
        found: list[Found] = []
        step = max(2 * count, 20)
        for start in range(0, len(self.order), step):
            block = self.order[start : start + step]
            seqs = self.weighed.pool.facts.seq[block].tolist()
            kept = scope.keep(connection, seqs)
            places = [int(i) for i, seq in zip(block, seqs, strict=True) if seq in kept]
            found += [self.weighed.found(i, float(self.scores[i])) for i in places[: count - len(found)]]
            if len(found) >= count:
                break
        return found


@dataclass(frozen=True)
class Begun:
    """A search without the question's meaning yet.

    `exact`: memories whose text is the question; `eligible`: those that a filter leaves, None without one or when they
    are too many; `here`: how many memories there are. The words are looked up in views (`words`) or in the ledger
    (`holders`, with the best by words); `cold` are those in scope that do not stand.
    """

    question: Question
    exact: frozenset[int]
    eligible: Eligible | None
    here: int
    words: LookedUp | None
    holders: tuple[lexical.Holders, list[int]] | None
    cold: Cold | None = None

    @property
    def in_memory(self) -> bool:
        """Whether the vectors of all memories are held in memory too."""
        return self.words is not None and self.here <= HELD


class Search:
    """Search over the plaintext of memories. Safe to share between threads.

    `beside` asks the index while the ledger is read; what runs there waits for nobody.
    """

    def __init__(self, searcher: dense.Searcher, views: Views, beside: Executor) -> None:
        self._dense, self._views, self._beside = searcher, views, beside
        self._sizes = _Sizes()

    def find(
        self, connection: Connection, text: str, query: Vector | None, scope: Scope, count: int, trust: float = 1.0
    ) -> list[Found]:
        """The best `count` memories in scope, best first; without a query vector by words alone.

        `trust`, 0..1, is how far the embedder understands the question's language.
        """
        return self.finish(connection, self.begin(connection, text, scope, count), query, scope, count, trust)

    def begin(self, connection: Connection, text: str, scope: Scope, count: int) -> Begun:
        """What can be done before the question's vector is there, in another thread than the one that makes it."""
        question = asked(text, scope.now)
        newest = dialect.sequence(connection, "cubes")
        held, everywhere = self._sizes.of(connection, scope.space_ids, newest)
        here = sum(held.values())
        views = self._views.of(held, newest) if self._in_view(scope, here) else None
        if views is not None and scope.shared:
            views.append(self._views.of_singles(scope.shared))
        eligible = scope.eligible(connection, dense.EXACT_UPTO, sure=views is None) if scope.narrows else None
        exact = _same_text(connection, text, scope)
        if views is not None:
            return Begun(question, exact, eligible, here, pool.look_up(views, question, eligible), None)
        holders, cold = lexical.nobody(question), None
        if scope.reaches_main:
            spaces = () if here >= MOSTLY * everywhere else scope.word_spaces(connection)
            written = max(here + len(scope.shared), 1)
            standing = max(written - self._sizes.cold(scope.space_ids), 1)
            holders = lexical.look_up(connection, question, spaces, standing, written)
        if scope.reaches_cold:
            holders, cold = look_up_cold(connection, question, scope, holders)
        by_words = _by_words(connection, holders, scope, max(WORD_HITS, count), eligible, strict=False)
        return Begun(question, exact, eligible, here, None, (holders, by_words), cold)

    def finish(
        self, connection: Connection, begun: Begun, query: Vector | None, scope: Scope, count: int, trust: float = 1.0
    ) -> list[Found]:
        """What `find` gives, from what was begun."""
        ranked = self.weighed(connection, begun, query, scope, count, trust).ranked(begun.exact, begun.eligible)
        found = ranked.standing(connection, scope, count)
        if len(found) < count and len(ranked.order) > len(found) and not (begun.eligible and begun.eligible.sure):
            # what ranks first is over or hidden: look again among what stands
            begun = replace(begun, eligible=None)
            again = self.weighed(connection, begun, query, scope, count, trust, strict=True)
            found = again.ranked(begun.exact, None).standing(connection, scope, count)
        return found

    def weighed(
        self,
        connection: Connection,
        begun: Begun,
        query: Vector | None,
        scope: Scope,
        count: int,
        trust: float = 1.0,
        *,
        strict: bool = False,
    ) -> Weighed:
        """What may answer the question, with everything that speaks for each; with `strict` all of it in scope."""
        near: dict[int, float] = {}
        ground = self._dense.ground(connection, scope) if query is not None else None
        most, read, vectors = max(DENSE_HITS, count), lexical.Read(scope.space_ids, scope.reaches_cold), list[Stored]()

        def meanwhile() -> None:
            if begun.words is None:
                self._read_words(connection, begun, scope, read, count, strict)
            elif ground is not None and ground.tails and not begun.in_memory:
                likely = begun.words.pool(sorted(begun.exact)).facts.seq
                vectors.append(self._dense.read(connection, likely.tolist()))

        if query is None or ground is None or (begun.words is not None and begun.words.whole):
            meanwhile()
        else:
            near = self._near(connection, begun, query, scope, most, ground, meanwhile, strict)
        if begun.words is not None:
            held = begun.words.pool([*near, *begun.exact, *self._in_scope(connection, begun, scope, count, strict)])
        else:
            assert begun.holders is not None
            read.add(connection, list(near), pool.AROUND // 2)
            held = read.pool(begun.question, begun.holders[0])
        cosines = known = None
        if query is not None and ground is not None:
            seqs, cached = held.facts.seq, begun.in_memory
            cosines = self._dense.cosines(connection, query, scope, seqs, near, ground, read=vectors, cached=cached)
            known = np.nan_to_num(cosines)
        trust = 0.0 if cosines is None else trust
        return Weighed(begun.question, held, weigh(held, begun.question, known, trust), cosines, trust)

    def _in_scope(self, connection: Connection, begun: Begun, scope: Scope, count: int, strict: bool) -> list[int]:
        """The best by words in scope, where a filter leaves too many to be listed and would drop most of the best."""
        if begun.words is None or begun.eligible is not None or not (strict or scope.narrows):
            return []
        most = max(WORD_HITS, count)
        return _first_in_scope(connection, partial(begun.words.widest, begun.question), scope, most)

    def _near(
        self,
        connection: Connection,
        begun: Begun,
        query: Vector,
        scope: Scope,
        count: int,
        ground: dense.Ground,
        meanwhile: Callable[[], None],
        strict: bool,
    ) -> dict[int, float]:
        """Cosines of the nearest memories; the indexes work without Python, and `meanwhile` is done in their time."""
        spaces = list(ground.tails) if begun.eligible is None or dense.many(begun.eligible) else []
        asking = self._beside.submit(self._dense.ask, query, spaces, count) if spaces else None
        meanwhile()
        asked = asking.result() if asking is not None else None
        cold = begun.cold.seqs.tolist() if begun.cold is not None else ()
        return self._dense.nearest(
            connection, query, scope, count, begun.eligible, strict=strict, ground=ground, asked=asked, cold=cold
        )

    def _read_words(
        self, connection: Connection, begun: Begun, scope: Scope, read: lexical.Read, count: int, strict: bool
    ) -> None:
        """Read what the words brought from the ledger, where they are not held in memory."""
        if begun.holders is None:
            return
        holders, by_words = begun.holders
        if strict:
            by_words = _by_words(connection, holders, scope, max(WORD_HITS, count), begun.eligible, strict=True)
        dated = lexical.on_days(connection, begun.question, scope.space_ids, DAY_HITS) if begun.question.days else []
        read.add(connection, list(dict.fromkeys([*by_words, *dated, *begun.exact])), pool.AROUND // 2)
        if begun.cold is not None:
            likely = begun.cold.likely(connection, begun.question, scope, max(WORD_HITS, count), DAY_HITS)
            read.add(connection, likely, pool.AROUND // 2)

    def like(self, connection: Connection, scope: Scope) -> dense.Ground | Signed:
        """Where `similar` has to look, so that it can begin there."""
        return self._dense.like(connection, scope)

    def similar(
        self,
        connection: Connection,
        query: Vector,
        scope: Scope,
        floor: float,
        count: int,
        where: dense.Ground | Signed,
    ) -> list[tuple[int, float]]:
        """Memories of the scope's spaces whose meaning is at least `floor` (cosine) near, nearest first.

        `where` is what `like` gave a moment before. Unless the scope narrows, some may be over: who reads them sees it.
        """
        return list(self._dense.near(connection, query, scope, floor, count, where).items())

    def _in_view(self, scope: Scope, here: int) -> bool:
        """Whether the words of what is searched are held in memory: live memories of spaces that are not large."""
        special = len(scope.shared) > VIEWED_SINGLES or scope.include or scope.written_by or "state" in scope.where
        return not special and here <= VIEWED and len(scope.space_ids) <= VIEWED_SPACES


def _same_text(connection: Connection, text: str, scope: Scope) -> frozenset[int]:
    """Memories of the scope's spaces whose text is the question itself: of those that stand, or of those in scope."""
    if not scope.space_ids or len(scope.space_ids) > lexical.MAX_SCOPES:
        return frozenset()
    values = {"spaces": dialect.listed(scope.space_ids), "hash": content_hash(text)}
    if not scope.reaches_cold:
        return frozenset(connection.execute(_SAME_TEXT_STANDING, values).scalars())
    ever = connection.execute(_SAME_TEXT, values).scalars()
    return frozenset(sorted(scope.keep(connection, list(ever)))[-MOST_SAME:])


_SAME_TEXT = select(cubes.c.seq).where(
    dialect.among(cubes.c.space, "spaces"), cubes.c.content_hash == bindparam("hash")
)
_SAME_TEXT_STANDING = _SAME_TEXT.where(STANDING).limit(MOST_SAME)


def _by_words(
    connection: Connection,
    holders: lexical.Holders,
    scope: Scope,
    count: int,
    eligible: Eligible | None,
    strict: bool,
) -> list[int]:
    if eligible is not None:
        return holders.candidates(count, eligible.seqs)
    if not (strict or scope.narrows):
        return holders.candidates(count)
    return _first_in_scope(connection, holders.candidates, scope, count)


def _first_in_scope(
    connection: Connection, candidates: Callable[[int], list[int]], scope: Scope, count: int
) -> list[int]:
    """At most `count` of the candidates that are in scope, looked for further down until there are some."""
    kept: list[int] = []
    for width in (2 * count, 10 * count):
        wide = candidates(width)
        matching = scope.keep(connection, wide)
        kept = [seq for seq in wide if seq in matching]
        if len(kept) >= count // 3 or len(wide) < width:
            break
    return kept[:count]


class _Sizes:
    """How many memories each space holds, counted once and then kept up by counting the newer ones.

    Those that do not stand are counted once: what words tell changes little by those that fell since.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._upto = 0
        self._held: Counter[int] = Counter()
        self._cold: Counter[int] = Counter()

    def of(self, connection: Connection, space_ids: Sequence[int], newest: int) -> tuple[dict[int, int], int]:
        """Memories in each of these spaces, and in all; `newest` is the highest number that was given out."""
        with self._lock:
            if not self._upto:
                self._cold.update(dict(connection.execute(_COLD).all()))
            if newest > self._upto:
                self._held.update(dict(connection.execute(_NEWER, {"upto": self._upto, "newest": newest}).all()))
                self._upto = newest
            return {number: self._held[number] for number in space_ids}, self._held.total()

    def cold(self, space_ids: Sequence[int]) -> int:
        """About how many memories of these spaces do not stand."""
        return sum(self._cold[number] for number in space_ids)


_SPACE = cubes.c.space + 0  # no indexed column: the few newer rows are read, not an index over all
_NEWER = (
    select(_SPACE, func.count())
    .where(cubes.c.seq > bindparam("upto"), cubes.c.seq <= bindparam("newest"))
    .group_by(_SPACE)
)
_COLD = select(cubes.c.space, func.count()).where(NOT_STANDING).group_by(cubes.c.space)
