"""The MCP server of one connection: tools, resources, prompts and subscriptions over the verbs.

The only place where errors of the core become MCP errors. Knows no transport and opens no store.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.lowlevel
import mcp_types as types
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from mcp.server import Server, ServerRequestContext
from mcp.server.caching import CacheHint
from mcp.server.context import CallNext, HandlerResult
from mcp.server.lowlevel import NotificationOptions
from mcp.server.models import InitializationOptions
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError
from ulid import ULID

from memos_mcp.errors import InvalidInput, MemosError, NotFound
from memos_mcp.gateway import prompts, resources, texts, tools
from memos_mcp.gateway.project import Project
from memos_mcp.gateway.store_access import StoreAccess
from memos_mcp.gateway.subscriptions import HANDSHAKE_ERA_ENDS, Subscriptions
from memos_mcp.gateway.wire import RequestKey
from memos_mcp.settings import Settings
from memos_mcp.version import VERSION

if TYPE_CHECKING:
    from memos_mcp.governance import Caller
    from memos_mcp.memory_api.api import MemoryAPI

log = logging.getLogger(__name__)

Context = ServerRequestContext[Any]
RESOURCE_NOT_FOUND = -32002
"""What the handshake era calls a resource that is not there; since 2026-07-28 it is INVALID_PARAMS."""
CALLS_AT_ONCE, CHANGES_AT_ONCE = 4, 2
"""Calls of one connection, and those among them that change something, which are carried out at the same time; more
wait, and hold up nobody else: changes take turns at the ledger."""
_T = TypeVar("_T")


class Gateway:
    """One connection's handlers. `client` is what the host says of itself, once it has.

    `flowing` returns when the host takes answers: until then none are made.
    """

    def __init__(
        self,
        store: StoreAccess,
        subscriptions: Subscriptions,
        settings: Settings | None = None,
        cwd: str | None = None,
        flowing: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint,
    ) -> None:
        self._store, self._subscriptions = store, subscriptions
        self.settings = settings or store.settings
        self.project = Project(self.settings, cwd)
        self.client: str | None = None
        self._flowing, self._listed = flowing, anyio.Event()
        self._calls, self._changes = CapacityLimiter(CALLS_AT_ONCE), CapacityLimiter(CHANGES_AT_ONCE)
        self._tools = tools.offered(self.settings.tools, asking=self.settings.model is not None)
        self._listen = ListenHandler(subscriptions.bus)
        self.server: Server[Any] = Server(
            "memos-mcp",
            version=VERSION,
            title="MemOS memory",
            description="Long-term memory for AI agents",
            instructions=instructions(self.settings, self.project),
            cache_hints={"tools/list": CacheHint(ttl_ms=3_600_000, scope="public")},
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
            on_subscribe_resource=self._subscribe,
            on_unsubscribe_resource=self._unsubscribe,
            on_subscriptions_listen=self._listen_to,
            on_list_prompts=self._list_prompts,
            on_get_prompt=self._get_prompt,
        )
        self.server.add_notification_handler(
            "notifications/roots/list_changed", types.NotificationParams, self._roots_changed
        )
        self.server.middleware.append(self._errors)

    def options(self) -> InitializationOptions:
        """What `initialize` answers: capabilities with list changes, instructions, names."""
        changes = NotificationOptions(prompts_changed=True, resources_changed=True, tools_changed=False)
        return self.server.create_initialization_options(changes)

    async def get_ready(self) -> None:
        """Have the store prepare for the first question once the host has listed the tools: it asks soon."""
        await self._listed.wait()
        if self.project.space is None:
            return  # nobody knows yet where it will ask
        with suppress(MemosError):  # the question meets the same error, and says it
            kernel = await self._store.kernel()
            kernel.api.get_ready(self._caller_of(self.project.space))

    async def _errors(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Errors of the core become protocol errors; of what nobody foresaw the peer learns a reference only."""
        self._subscriptions.remember(ctx)
        self.client = _client(ctx) or self.client
        try:
            return await call_next(ctx)
        except MemosError as error:
            raise MCPError(_code(error, ctx), str(error)) from None
        except ValidationError as error:
            raise MCPError(types.INVALID_PARAMS, _arguments_refused(ctx.method, error)) from None
        except MCPError:
            raise
        except Exception as error:
            if ctx.method == "tools/call":
                return _failed(_unforeseen(error, _tool_name(ctx)))
            raise MCPError(types.INTERNAL_ERROR, _unforeseen(error, ctx.method)) from None

    async def _list_tools(
        self, _context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        _require_first_page(params)
        self._listed.set()
        return types.ListToolsResult(tools=[tool.listed() for tool in self._tools.values()])

    async def _roots_changed(self, _context: Context, _params: types.NotificationParams | None) -> None:
        self.project.forget_roots()

    async def _call_tool(
        self, context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        tool = self._tools.get(params.name)
        if tool is None:
            said = tools.advice(params.name, self._tools)
            raise MCPError(types.INVALID_PARAMS, f"There is no tool {params.name[:100]!r} here: {said}")
        if context.protocol_version >= HANDSHAKE_ERA_ENDS:
            self.project.answered(params.input_responses)
            if (question := self.project.question(context)) is not None:
                return question
        try:
            request = tool.request.model_validate(params.arguments or {})
            limiter = self._calls if tool.read_only else self._changes
            result = await self._run(context, lambda api, caller: tool.call(api, caller, request), limiter)
        except ValidationError as error:
            return _failed(_arguments_refused(tool.name, error))
        except MemosError as error:
            return _failed(str(error))
        content = [types.TextContent(type="text", text=tool.text(result))]
        return types.CallToolResult(content=list(content), structured_content=result)

    async def _list_resources(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        cursor = params.cursor if params else None
        rows, following = await self._run(context, lambda api, caller: resources.listed(api, caller, cursor))
        return types.ListResourcesResult(resources=rows, next_cursor=following)

    async def _list_templates(
        self, _context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        _require_first_page(params)
        return types.ListResourceTemplatesResult(resource_templates=resources.templates())

    async def _read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        uri = str(params.uri)
        text = await self._run(context, lambda api, caller: resources.read(api, caller, uri))
        content = types.TextResourceContents(uri=uri, mime_type="application/json", text=text)
        return types.ReadResourceResult(contents=[content])

    async def _subscribe(self, context: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
        await self._require_readable(context, [str(params.uri)])
        if not self._subscriptions.watch(str(params.uri)):
            raise InvalidInput("Too many subscriptions on this connection: end some first.")
        return types.EmptyResult()

    async def _unsubscribe(self, _context: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        self._subscriptions.unwatch(str(params.uri))
        return types.EmptyResult()

    async def _listen_to(
        self, context: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        await self._require_readable(context, [str(u) for u in params.notifications.resource_subscriptions or ()])
        return await self._listen(context, params)

    async def _require_readable(self, context: Context, uris: list[str]) -> None:
        """Nobody watches what they may not read."""

        def check(api: MemoryAPI, caller: Caller) -> None:
            for uri in uris:
                at = resources.parse(uri)
                if at.kind == "space":
                    api.read.require_watchable(caller, at.name)
                else:
                    resources.read(api, caller, uri)

        await self._run(context, check)

    async def _list_prompts(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListPromptsResult:
        _require_first_page(params)
        try:
            kept = await self._run(context, prompts.kept)
        except MemosError:  # a host that gets no list would offer no prompt, and each call says what is wrong
            kept = []
        return types.ListPromptsResult(prompts=prompts.listed() + kept)

    async def _get_prompt(self, context: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        given = {key: str(value) for key, value in (params.arguments or {}).items()}
        text = await self._run(context, lambda api, caller: prompts.get(api, caller, params.name, given))
        message = types.PromptMessage(role="user", content=types.TextContent(type="text", text=text))
        return types.GetPromptResult(messages=[message])

    async def _run(
        self, context: Context, work: Callable[[MemoryAPI, Caller], _T], limiter: CapacityLimiter | None = None
    ) -> _T:
        """Do synchronous work of the core in a thread, as the caller that this connection stands for.

        Who cancels does not wait for it; a change is then whole on disk or not made.
        """
        kernel = await self._store.kernel()
        caller = await self._caller(context)
        async with limiter or self._calls:
            await self._flowing()
            return await run_sync(lambda: work(kernel.api, caller), abandon_on_cancel=True)

    async def _caller(self, context: Context) -> Caller:
        space = self.project.space or await self.project.ask(context)
        key = context.request if isinstance(context.request, RequestKey) else None
        return replace(
            self._caller_of(space),
            client=_client(context),
            request=key.text if key else None,
            again=key.again if key else False,
        )

    def _caller_of(self, space: str) -> Caller:
        from memos_mcp.governance import Caller

        return Caller(self.settings.principal, space, also=self.project.also_read)


def instructions(settings: Settings, project: Project) -> str:
    """What tells a model how to use this memory, and the person what was asked for and is not in force."""
    lines = [texts.INSTRUCTIONS, _where(project)]
    for name, wish in settings.wishes.items():
        kept = settings.value(name)
        how = f"memos-mcp embedder {wish}" if name == "embedder" else f"memos-mcp config {name} {wish}"
        lines.append(f"Note: {name} {wish!r} was asked for, and the store keeps {kept!r}: change it with `{how}`.")
    return "\n".join(lines)


def _where(project: Project) -> str:
    if not project.automatic:
        return f"Memories go to the space {project.space!r} unless you name another."
    own = f"the project's own space {project.space!r}" if project.space else "the project's own space"
    return f"Memories go to {own} unless you name another; 'personal', for what is true in every project, is read too."


def _client(context: Context) -> str | None:
    info = context.session.client_params.client_info if context.session.client_params else None
    return f"{info.name} {info.version}"[:120] if info else None


def _require_first_page(params: types.PaginatedRequestParams | None) -> None:
    """These lists have one page, so that no cursor can be one of theirs."""
    if params is not None and params.cursor is not None:
        raise InvalidInput(resources.BAD_CURSOR, field="cursor")


def _code(error: MemosError, context: Context) -> int:
    if isinstance(error, NotFound) and context.method.startswith("resources/"):
        return RESOURCE_NOT_FOUND if context.protocol_version < HANDSHAKE_ERA_ENDS else types.INVALID_PARAMS
    return types.INVALID_PARAMS if isinstance(error, InvalidInput | NotFound) else types.INTERNAL_ERROR


def _tool_name(context: Context) -> str:
    name = (context.params or {}).get("name")
    return str(name)[:100]


def _failed(sentence: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=sentence)], is_error=True)


_UNION_STEPS = ("constrained-str", "list[constrained-str]")
_SAID = {"extra_forbidden": "is not an argument"}
_ADVICE = {"string_too_long": ": split it into parts", "too_long": ": send them in several calls"}


def _arguments_refused(called: str, error: ValidationError) -> str:
    """One sentence that names each argument and what it must be, without repeating what was sent."""
    parts = []
    for problem in error.errors(include_url=False, include_input=False, include_context=True)[:5]:
        where = ".".join(str(step) for step in problem["loc"] if not str(step).startswith(_UNION_STEPS))
        where = "".join(char if char.isprintable() else "?" for char in where[:100])
        said = _SAID.get(problem["type"], problem["msg"].lower())
        parts.append(f"{where or 'arguments'}: {said}{_ADVICE.get(problem['type'], '')}")
    return f"{called} was not carried out: {'; '.join(dict.fromkeys(parts))}. Correct that and call again."


def _unforeseen(error: Exception, where: str) -> str:
    """Log where it happened, never the message: it could quote a memory; return what the peer may know."""
    reference = str(ULID())[-8:]
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("unforeseen %s in %s, reference %s\n%s", type(error).__name__, where, reference, frames)
    return f"{where} failed unexpectedly (reference {reference}): try again, and see the log in the data directory."
