"""What each verb returns, as plain dictionaries with declared keys.

Knows no protocol, but every surface makes its output schema from these types.
"""

from __future__ import annotations

from typing import Literal, NotRequired, get_args

from typing_extensions import TypedDict


class CubeRef(TypedDict):
    id: str
    uri: str
    version: int
    state: str


class Similar(TypedDict):
    """A memory that is like what was added.

    `similarity`: cosine of the vectors, absent while one is not made; `conflict`: that both do not hold, and what was
    done about it.
    """

    id: str
    text: str
    similarity: NotRequired[float]
    conflict: NotRequired[str]


class AddResult(TypedDict):
    cubes: list[CubeRef]
    unchanged: list[str]
    similar: list[Similar] | None
    op: str | None


class Why(TypedDict):
    """What brought a hit up.

    `words` that it shares with the question, heaviest first; `bm25` >= 0; `cosine` -1..1; `session`, `neighbours` and
    `asked_before`: how well its session, what was said beside it, and a question just before it fit, 0..1; `day` and
    `speaker`: it is of the day or the person that is named, 0..1; `rerank`: how well a reranker finds that it answers,
    0..1; `feedback`: by what the score was multiplied for the last that was said of it, below 1 for wrong and stale;
    `same`: ids of older memories that say the same.
    """

    words: list[str]
    bm25: float
    cosine: float | None
    session: NotRequired[float]
    neighbours: NotRequired[float]
    asked_before: NotRequired[float]
    day: NotRequired[float]
    speaker: NotRequired[float]
    rerank: NotRequired[float]
    feedback: NotRequired[float]
    archive: NotRequired[float]
    same: NotRequired[list[str]]


Reason = Literal["session", "neighbours", "asked_before", "day", "speaker", "rerank", "feedback", "archive"]
REASONS: tuple[Reason, ...] = get_args(Reason)


class Hit(TypedDict):
    id: str
    uri: str
    text: str
    score: float
    why: Why
    refs: list[str]
    kind: str
    tags: list[str]
    source: str | None
    space: str
    created: str
    valid_from: str
    state: str
    form: str
    version: int


class SearchResult(TypedDict):
    hits: list[Hit]
    degraded: NotRequired[str]
    next: NotRequired[str]


class ContextCube(TypedDict):
    """A memory of a block: `number` is what the block calls it."""

    id: str
    version: int
    number: int
    place: Literal["prefix", "suffix"]


class ContextResult(TypedDict):
    """A block for a prompt: `prefix_tokens` is an estimate, `prefix_hash` the prefix's SHA-256 in UTF-8."""

    prefix: str
    suffix: str
    prefix_hash: str
    prefix_tokens: int
    cubes: list[ContextCube]


class UpdateResult(TypedDict):
    """`paged`: memories that hold what went out of a block, for it had grown beyond its limit. `proposed`: what follows
    from feedback and is not done without approval, a sentence each: kind of change, ids of the memories, reason, and
    the proposal's id."""

    id: str
    uri: str
    version: int
    state: str
    op: str | None
    paged: NotRequired[list[str]]
    proposed: NotRequired[list[str]]


class FuseResult(TypedDict):
    """The fused memory, and the sources that it stands for."""

    id: str
    uri: str
    version: int
    state: str
    merged: list[str]
    op: str | None


class PromoteResult(TypedDict):
    """`moved`: what has another form now; `job`: what is still at work, and moves them at its end. `adapter`: what is
    trained, of which `said` tells more."""

    moved: list[str]
    op: str | None
    job: NotRequired[str]
    adapter: NotRequired[str]
    said: NotRequired[str]


class UsedCube(TypedDict):
    """A memory that an answer rests on, and where it was: in the model's context, its memory, a file, or read now; of
    a server's model in the part of the prompt that stays the same, or behind it."""

    id: str
    version: int
    how: Literal["resident", "ram", "disk", "read", "prefix"]


class MountedCube(TypedDict):
    """What was mounted while an answer was made. Of a steering vector: from layer `first` to `last`, and `again`, why
    it was made anew for it. Of an adapter `form` is parametric; `picked`: chosen by the question, for what it knows of
    the memories `about`."""

    id: str
    version: int
    weight: float
    form: NotRequired[str]
    first: NotRequired[int]
    last: NotRequired[int]
    again: NotRequired[str]
    picked: NotRequired[bool]
    about: NotRequired[list[str]]


class AdapterResult(TypedDict):
    """An adapter that was taken in or put away. `op` None: it was there already."""

    id: str
    uri: str
    state: str
    name: str
    op: str | None
    rank: NotRequired[int]
    alpha: NotRequired[float]
    targets: NotRequired[list[str]]
    bytes: NotRequired[int]


class SteerResult(TypedDict):
    """A steering vector. `layers`: first and last; `shares` and `norms`, for each of them: which part of the variance
    of what it puts out lies between the sides, and how long their difference is beside it; `job`: still at work."""

    id: str
    uri: str
    version: int
    state: str
    name: str
    towards: list[str]
    away: list[str]
    layers: list[int]
    width: int
    shares: NotRequired[list[float]]
    norms: NotRequired[list[float]]
    job: NotRequired[str]
    op: str | None


class Timing(TypedDict):
    """Seconds: finding memories, attaching what the model had read, reading the rest, waiting for the model, the
    question until the first token, the other tokens, keeping the conversation, and all of it."""

    search_s: float
    attach_s: float
    read_s: float
    wait_s: float
    first_token_s: float
    rest_s: float
    keep_s: float
    total_s: float


class AskResult(TypedDict):
    """`conversation`: its id, which memory_promote takes to keep it as plaintext; tokens as a server counted them;
    `approximate`: how the memories were composed, if the answer may differ from what reading them would give;
    `mounted`: what was mounted."""

    answer: str
    used: list[UsedCube]
    timing: Timing
    approximate: NotRequired[str]
    mounted: NotRequired[list[MountedCube]]
    conversation: NotRequired[str]
    prompt_tokens: NotRequired[int]
    cached_tokens: NotRequired[int]
    degraded: NotRequired[str]


class Derived(TypedDict):
    cubes: list[str]
    states: list[str]
    adapters: list[str]


class ForgetResult(TypedDict):
    would_affect: list[str]
    affected: list[str]
    derived: Derived
    op: str | None
    confirm: NotRequired[str]
    job: NotRequired[str]


class VersionEntry(TypedDict):
    version: int
    op: str
    since: str
    until: str | None
    text: str


class ChangeEntry(TypedDict):
    """What an operation did to a memory; where one operation was asked for, with the fields that it changed and the
    text before and after it, as far as they are there to be read."""

    cube: str
    from_version: int | None
    to_version: int | None
    from_state: str | None
    to_state: str | None
    fields: NotRequired[list[str]]
    before: NotRequired[str | None]
    after: NotRequired[str | None]


class OperationEntry(TypedDict):
    op: str
    verb: str
    principal: str
    client: str | None
    at: str
    reason: str | None
    undoes: str | None
    undone_by: str | None
    undoable: bool
    changes: list[ChangeEntry]


class HistoryResult(TypedDict):
    versions: list[VersionEntry]
    operations: list[OperationEntry]


class GraphNode(TypedDict):
    id: str
    type: Literal["memory", "name"]
    kind: str
    text: str
    space: str | None
    depth: int


GraphEdge = TypedDict(
    "GraphEdge",
    {"from": str, "relation": str, "to": str, "memory": str, "valid_from": str, "valid_to": str | None},
)


class GraphResult(TypedDict):
    nodes: list[GraphNode]
    edges: list[GraphEdge]
    degraded: NotRequired[str]
    next: NotRequired[str]


class JobResult(TypedDict):
    """A background job; `state` is queued, running, done, failed or cancelled; `cancelled`: it was asked to end."""

    id: str
    uri: str
    kind: str
    state: str
    done: int
    total: int
    error: str | None
    attempts: int
    priority: float
    not_before: str | None
    cancelled: bool
    created: str
    updated: str


class PastMemory(TypedDict):
    """A memory as it stood at a time; `uri` names that version, `changed`: whether it is otherwise today."""

    id: str
    uri: str
    kind: str
    state: str
    version: int
    valid_from: str
    text: str
    changed: bool


class PastResult(TypedDict):
    """A page of a space at a time; `purged`: memories of the whole store that were there then and are nowhere now."""

    space: str
    as_of: str
    memories: list[PastMemory]
    purged: int
    next: NotRequired[int]


class RestoredMemory(TypedDict):
    """What brings a memory back: it moves, and what it said in a former version becomes a new one."""

    id: str
    why: str
    from_state: NotRequired[str]
    to_state: NotRequired[str]
    from_version: NotRequired[int]
    as_in_version: NotRequired[int]


class LeftMemory(TypedDict):
    id: str
    why: str


class RestoreResult(TypedDict):
    """What a restoration did, or would do; `left`: memories that stay as they are, with the reason."""

    space: str
    as_of: str
    restored: list[RestoredMemory]
    left: list[LeftMemory]
    purged: int
    op: str | None


class PublishResult(TypedDict):
    """`published`: the first of the `count` memories that were not in the channel yet; `subscribers`: spaces."""

    channel: str
    uri: str
    published: list[str]
    count: int
    unchanged: list[str]
    subscribers: int
    op: str | None


class WithdrawResult(TypedDict):
    """`withdrawn`: the first of the `count` memories; `queries`: how many published queries ended too."""

    channel: str
    withdrawn: list[str]
    count: int
    queries: int
    op: str | None


class SubscribeResult(TypedDict):
    """`memories` in the channel; `offered`: copies that have a newer version; `taken`: those that took it now."""

    channel: str
    uri: str
    space: str
    memories: int
    offered: list[str]
    taken: list[str]
    op: str | None


class ShareResult(TypedDict):
    shared: list[str]
    principal: str
    can: list[str]
    op: str | None


class SplitResult(TypedDict):
    """The parts in order; `id`: the memory that stands in them from now on, still readable."""

    id: str
    parts: list[CubeRef]
    op: str


class ComposeResult(TypedDict):
    """A composition; `parts` in order. `op` is None if it was there already."""

    id: str
    uri: str
    version: int
    state: str
    title: str
    parts: list[str]
    op: str | None


class RelocateResult(TypedDict):
    """`moved`: what is in `space` now; of a copy the new memories, and `unchanged` those that it had already."""

    moved: list[str]
    unchanged: list[str]
    space: str
    op: str | None


class UndoResult(TypedDict):
    undone: list[str]
    op: str


class DocumentResult(TypedDict):
    """What keeping a document did, or would do, to its memories; `id` is the document's own, None before it is kept."""

    id: str | None
    added: int
    changed: int
    unchanged: int
    archived: int
    op: str | None


class MoveResult(TypedDict):
    moved: list[str]
    path: str
    op: str | None


class TreeNode(TypedDict):
    """A node with all that is under it. `text` is its own part of the source, without what it repeats."""

    id: str
    uri: str
    node: str
    title: str
    state: str
    order: int | None
    page: int | None
    text: str
    children: list[TreeNode]


class TreeResult(TypedDict):
    """A subtree; `left_out` counts the nodes beyond what one answer holds."""

    path: str
    tree: TreeNode
    nodes: int
    left_out: int


def memories(count: int) -> str:
    """So many memories, as every surface says it to a person."""
    return "1 memory" if count == 1 else f"{count:,} memories"
