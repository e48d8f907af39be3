"""What each verb takes: typed, bounded arguments with their descriptions.

Knows no protocol, but every surface makes its schema from these models, so that a tool is described once.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, WithJsonSchema

from memos_mcp.cube import MAX_CONTENT, MAX_DOCUMENT, Kind

MAX_IDS = 200
Id = Annotated[str, StringConstraints(max_length=64)]
Label = Annotated[str, StringConstraints(max_length=200)]
Unit = Annotated[float, Field(ge=0, le=1)]
Moment = Annotated[str, StringConstraints(max_length=64)]
Spaces = Annotated[list[Label], Field(max_length=50)]
SpacesSaid = Annotated[Label | Spaces, WithJsonSchema(TypeAdapter(Spaces).json_schema())]
"""One space is taken by its name alone too; a model need not know of two ways."""
Identity = Annotated[str, StringConstraints(min_length=1, max_length=4000)]


class Request(BaseModel):
    """A verb's arguments; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Text = Annotated[str, StringConstraints(max_length=MAX_CONTENT)]


class Message(Request):
    """One turn of a conversation."""

    role: Label
    content: Text
    name: Label | None = None
    time: Moment | None = None
    ref: Label | None = None


class LinkTo(Request):
    """A typed link to another memory."""

    to: Id
    relation: Label


def _named_in_words(properties: int) -> WithJsonSchema:
    """An object whose fields the argument's description names: half as long as a schema, and refused as strictly."""
    return WithJsonSchema({"type": "object", "maxProperties": properties})


Turn = Annotated[Message, _named_in_words(5)]
LinkSaid = Annotated[LinkTo, _named_in_words(2)]
KindSaid = Annotated[Kind, WithJsonSchema({"type": "string", "maxLength": 12})]


class AddRequest(Request):
    content: Text | None = None
    messages: Annotated[
        list[Turn] | None, Field(max_length=1000, description="{role, content, name?, time?, ref?}")
    ] = None
    kind: Kind | None = None
    tags: Annotated[list[Label], Field(max_length=50)] = []
    space: Label | None = None
    session: Label | None = None
    source: Annotated[str | None, Field(max_length=2000)] = None
    time: Annotated[Moment | None, Field(description="When it became true, ISO 8601")] = None
    importance: Unit | None = None
    expires: Moment | None = None
    priority: Unit | None = None
    metadata: Annotated[dict[str, Any], Field(max_length=100)] = {}
    supersedes: Annotated[list[Id], Field(max_length=50)] = []
    links: Annotated[list[LinkSaid], Field(max_length=50, description="{to, relation}")] = []
    ref: Annotated[Label | None, Field(description="Your own id")] = None


class SearchRequest(Request):
    query: Annotated[str | None, Field(max_length=20_000)] = None
    ids: Annotated[list[Id] | None, Field(max_length=50)] = None
    top_k: Annotated[int, Field(ge=1, le=50)] = 5
    space: SpacesSaid | None = None
    kinds: Annotated[list[KindSaid], Field(max_length=10)] = []
    tags: Annotated[list[Label], Field(max_length=20)] = []
    after: Annotated[Moment | None, Field(description="Became true")] = None
    before: Moment | None = None
    as_of: Annotated[Moment | None, Field(description="Believed then")] = None
    session: Label | None = None
    where: Annotated[
        dict[str, Any],
        Field(
            max_length=20,
            description="Metadata, source, form, modality, importance, state: value or {gt|gte|lt|lte|ne|in}",
        ),
    ] = {}
    include: Annotated[list[Literal["superseded", "archived"]], Field(max_length=2)] = []
    around: Annotated[int, Field(ge=0, le=2, description="Neighbours")] = 0
    max_chars: Annotated[int, Field(ge=200, le=1_000_000)] = 24_000


class ContextRequest(Request):
    task: Annotated[str, Field(max_length=20_000)]
    budget_tokens: Annotated[int, Field(ge=400, le=200_000)] = 6_000
    space: Label | None = None


class UpdateRequest(Request):
    id: Id
    content: Text | None = None
    append: Annotated[Text | None, Field(description="To a block")] = None
    tags: Annotated[list[Label] | None, Field(max_length=50)] = None
    importance: Unit | None = None
    expires: Annotated[Moment | None, Field(description="Or 'never'")] = None
    priority: Unit | None = None
    links: Annotated[list[LinkSaid], Field(max_length=50)] = []
    pin: bool | None = None
    freeze: bool | None = None
    sensitivity: Literal["normal", "private", "secret"] | None = None
    feedback: Literal["useful", "wrong", "stale"] | None = None


class FuseRequest(Request):
    ids: Annotated[list[Id], Field(min_length=2, max_length=50)]
    content: Text | None = None


class PromoteRequest(Request):
    ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_IDS)]
    to: Literal["working", "activation", "parametric", "plaintext", "archive"]


class Weighted(Request):
    """What is mounted on the local model, and how strongly."""

    id: Id
    weight: Annotated[float, Field(allow_inf_nan=False)]


WeightedSaid = Annotated[Weighted, _named_in_words(2)]


class SteerRequest(Request):
    name: Label
    towards: Annotated[
        list[Label], Field(min_length=1, max_length=MAX_IDS, description="Memories of what is wanted: ids, or tag:NAME")
    ]
    away: Annotated[
        list[Label], Field(min_length=1, max_length=MAX_IDS, description="Memories of what is not: ids, or tag:NAME")
    ]
    layers: Annotated[
        list[Annotated[int, Field(ge=0, le=1_000)]] | None,
        Field(min_length=2, max_length=2, description="First and last; default: all"),
    ] = None
    space: Label | None = None


class AskRequest(Request):
    question: Annotated[str, Field(max_length=20_000)]
    ids: Annotated[list[Id] | None, Field(max_length=50)] = None
    space: Label | None = None
    session: Label | None = None
    adapters: Annotated[list[WeightedSaid], Field(max_length=8, description="{id, weight}")] = []
    max_tokens: Annotated[int, Field(ge=1, le=4_096)] = 128


class ForgetRequest(Request):
    ids: Annotated[list[Id] | None, Field(max_length=MAX_IDS)] = None
    query: Annotated[str | None, Field(max_length=2000)] = None
    tags: Annotated[list[Label], Field(max_length=20)] = []
    before: Moment | None = None
    space: Label | None = None
    mode: Literal["archive", "purge"] = "archive"
    dry_run: bool = False
    confirm: Annotated[str | None, Field(max_length=200)] = None


class HistoryRequest(Request):
    id: Id | None = None
    op: Id | None = None


class UndoRequest(Request):
    op: Id


class PastRequest(Request):
    """`after`: the number at which the page before ended."""

    at: Moment
    space: Label | None = None
    after: Annotated[int, Field(ge=0, le=2**53)] = 0


class RestoreRequest(Request):
    at: Moment
    space: Label | None = None
    dry_run: bool = False


class GraphRequest(Request):
    from_: Annotated[
        str, Field(alias="from", min_length=1, max_length=200, description="A memory's id, or a name they mention")
    ]
    relation: Annotated[Label | None, Field(description="Follow only this, e.g. mentions, works at, supersedes")] = None
    direction: Annotated[Literal["out", "in", "both"], Field(description="Which way edges are followed")] = "both"
    depth: Annotated[int, Field(ge=1, le=4)] = 1
    as_of: Annotated[Moment | None, Field(description="What was true then, ISO 8601")] = None


ChannelName = Annotated[str, StringConstraints(max_length=600)]
Can = Literal["read", "write", "forget", "share"]


class PublishRequest(Request):
    channel: Annotated[ChannelName, Field(description="NAME, or SPACE/NAME")]
    ids: Annotated[list[Id] | None, Field(max_length=MAX_IDS)] = None
    query: Annotated[str | None, Field(max_length=2000, description="All words; later memories too")] = None
    tags: Annotated[list[Label], Field(max_length=20)] = []
    kinds: Annotated[list[KindSaid], Field(max_length=10)] = []
    withdrawal: Annotated[Literal["archive", "mark"], Field(description="Of copies, once withdrawn")] = "archive"


class WithdrawRequest(Request):
    """What is not to be published any more: these memories, or all that the caller published to the channel."""

    channel: ChannelName
    ids: Annotated[list[Id] | None, Field(max_length=MAX_IDS)] = None


class SubscribeRequest(Request):
    channel: Annotated[ChannelName, Field(description="NAME, or SPACE/NAME")]
    copies: Annotated[bool, Field(description="Copies, not references")] = False
    follow: Annotated[bool, Field(description="Copies take new versions")] = False


class UnsubscribeRequest(Request):
    """A channel that the caller's space is not to show any more."""

    channel: ChannelName


class ShareRequest(Request):
    ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_IDS)]
    principal: Label
    can: Annotated[list[Can], Field(max_length=4, description="All they may do; empty revokes")]


class SplitRequest(Request):
    id: Id
    parts: Annotated[
        list[Text] | None,
        Field(min_length=2, max_length=200, description="Texts in order; without: by headings, turns, paragraphs"),
    ] = None


class ComposeRequest(Request):
    ids: Annotated[list[Id], Field(min_length=1, max_length=50, description="In order")]
    title: Label | None = None


class RelocateRequest(Request):
    ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_IDS)]
    space: Annotated[Label, Field(description="Made if there is none")]
    copy_: Annotated[bool, Field(alias="copy", description="Leave the originals where they are")] = False


class HeadingAt(Request):
    """A heading of a document that its text does not mark."""

    offset: Annotated[int, Field(ge=0)]
    level: Annotated[int, Field(ge=1, le=100)]
    title: Label


class FolderAt(Request):
    """A folder above a document."""

    of: Identity
    title: Label


class DocumentRequest(Request):
    """A whole document, to be kept in parts. `of` identifies it from one time to the next."""

    of: Identity
    title: Label
    content: Annotated[str, StringConstraints(max_length=MAX_DOCUMENT)]
    form: Literal["markdown", "text", "outline"] = "markdown"
    headings: Annotated[list[HeadingAt] | None, Field(max_length=10_000)] = None
    pages: Annotated[list[int], Field(max_length=100_000, description="Where each page begins")] = []
    folders: Annotated[list[FolderAt], Field(max_length=100, description="Outermost first")] = []
    digest: Label | None = None
    about: Annotated[AddRequest, Field(description="What its memories have in common")] = AddRequest()
    dry_run: bool = False


class DropRequest(Request):
    """A document that is no longer where it came from: what is kept of it is archived."""

    of: Identity
    space: Label | None = None
    dry_run: bool = False


class MoveRequest(Request):
    """A node of a tree that gets another parent, or none, or another place among its siblings."""

    id: Id
    under: Id | None = None
    place: Annotated[int | None, Field(ge=0, le=1_000_000, description="From 0; without, the last")] = None
