"""Lines into JSON-RPC messages, or into the error that answers them.

Knows no channel and no session. It reads more than the SDK's parser does, and says what is wrong with the rest.
"""

from __future__ import annotations

import json
import re
from typing import Any

import mcp_types as types
from pydantic import ValidationError

from memos_mcp.framing import KEPT_OF_OVERLONG, MAX_LINE, Overlong

MAX_LEVELS = 200
"""Levels of nesting in one line; the SDK's own parser reads no deeper either."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_ID_VALUE = rb'"id"\s*:\s*(-?\d{1,20}(?![\d.eE])|"(?:[^"\\]|\\.){0,200}")'
_ID_BEFORE_PARAMS = re.compile(_ID_VALUE)
_ID_AT_END = re.compile(_ID_VALUE + rb"\s*\}\s*$")
_TOO_LONG = f"The line is over {MAX_LINE >> 20} MiB: split the content and send the parts in requests of their own."
_UNFINISHED = "The input ended within a line: end each message with a line end."
_NOT_UTF8 = "The line is not valid UTF-8: send UTF-8 text."
_NOT_JSON = "The line is not valid JSON: send one JSON-RPC message a line."
_NOT_A_MESSAGE = "The line is not a JSON-RPC 2.0 message: send jsonrpc, id, method, and params as an object."
_BATCH = "Batches are not part of MCP: send one message a line."
_BAD_ID = "The id of a request is text or a whole number: send the request again with such an id."
_TOO_DEEP = f"The line is nested deeper than {MAX_LEVELS} levels: send flatter arguments."


class Refused(Exception):
    """A line that is no message; it carries the JSON-RPC error that answers it."""

    def __init__(self, code: int, message: str, request_id: str | int | None) -> None:
        super().__init__(message)
        self.code, self.message, self.request_id = code, message, request_id


def unfinished(rest: bytes) -> Refused | None:
    """The error for what stands after the last line end, when the input has ended; None for nothing."""
    return Refused(types.PARSE_ERROR, _UNFINISHED, _id_in(rest, whole=False)) if rest else None


def parsed(line: bytes | Overlong) -> types.JSONRPCMessage:
    """The message of a line; half surrogate pairs in it are replaced by U+FFFD.

    Raises:
        Refused: it holds none.
    """
    if isinstance(line, Overlong):
        known = _id_in(line.head, whole=False)
        raise Refused(types.INVALID_REQUEST, _TOO_LONG, _id_in(line.tail) if known is None else known)
    try:
        message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValidationError:
        message = _mended(line)
    if isinstance(message, types.JSONRPCNotification) and b'"id"' in line and "id" in json.loads(line):
        raise Refused(types.INVALID_REQUEST, _BAD_ID, None)
    return message


def _mended(line: bytes) -> types.JSONRPCMessage:
    try:
        plain = json.loads(line.decode("utf-8-sig"))
        if isinstance(plain, list):
            raise Refused(types.INVALID_REQUEST, _BATCH, None)
        plain = _without_surrogates(plain, MAX_LEVELS)
    except UnicodeDecodeError:
        raise Refused(types.PARSE_ERROR, _NOT_UTF8, _id_in(line)) from None
    except ValueError:
        raise Refused(types.PARSE_ERROR, _NOT_JSON, _id_in(line)) from None
    except RecursionError:
        raise Refused(types.INVALID_REQUEST, _TOO_DEEP, _id_in(line)) from None
    try:
        return types.jsonrpc_message_adapter.validate_python(plain, by_name=False)
    except ValidationError:
        found = plain.get("id") if isinstance(plain, dict) else None
        known = found if isinstance(found, str | int) and not isinstance(found, bool) else None
        raise Refused(types.INVALID_REQUEST, _NOT_A_MESSAGE, known) from None


def _id_in(line: bytes, *, whole: bool = True) -> str | int | None:
    """The request id in a line that could not be parsed, so that the host does not wait for ever.

    Looked for only where it cannot be a tool's argument: before `params`, and at the very end of a whole line.
    """
    found = _ID_BEFORE_PARAMS.search(line.partition(b'"params"')[0])
    if found is None and whole:
        found = _ID_AT_END.search(line[-KEPT_OF_OVERLONG:])
    if found is None:
        return None
    try:
        value = json.loads(found.group(1))
    except ValueError:
        return None
    return value if isinstance(value, str | int) else None


def _without_surrogates(value: Any, levels: int) -> Any:
    if levels < 0:
        raise RecursionError
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item, levels - 1) for item in value]
    if isinstance(value, dict):
        return {_SURROGATE.sub("\ufffd", key): _without_surrogates(item, levels - 1) for key, item in value.items()}
    return value
