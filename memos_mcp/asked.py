"""What the command line and the environment ask for, before anything says what it means.

The only reader of the environment. It travels from a host's bridge to the kernel, so it holds plain text alone, and
imports nothing that costs a bridge time.
"""

from __future__ import annotations

import os
import sys

from memos_mcp.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PREFIX = "MEMOS_"
CONNECTION = ("MEMOS_SPACE", "MEMOS_PRINCIPAL", "MEMOS_TOOLS")
IN_PROCESS, LOOPBACK = "--in-process", "--loopback"
OPTIONS = ("--home", "--space", "--principal", "--tools")
SECRETS = ("OPENAI_API_KEY", "MODEL_API_KEY")


class Asked:
    """A host's wishes: `arguments` by setting, `environment` by variable, who runs it, and the folder it runs in."""

    __slots__ = ("arguments", "cwd", "environment", "user")

    def __init__(
        self,
        arguments: Mapping[str, str],
        environment: Mapping[str, str],
        user: str,
        cwd: str | None,
    ) -> None:
        self.arguments = {name: value for name, value in arguments.items() if value}
        self.environment = {name: value for name, value in environment.items() if name.startswith(PREFIX) and value}
        self.user = user
        self.cwd = cwd

    def as_json(self) -> dict[str, Any]:
        """As it stands in the first line that a bridge sends."""
        return {"arguments": self.arguments, "environment": self.environment, "user": self.user, "cwd": self.cwd}


def options(arguments: list[str]) -> dict[str, str]:
    """The options of `stdio` that take a value, by setting.

    Raises:
        InvalidInput: it has no such option.
    """
    given: dict[str, str] = {}
    rest = [one for one in arguments if one not in (IN_PROCESS, LOOPBACK)]
    while rest:
        name, sign, value = rest.pop(0).partition("=")
        if name not in OPTIONS or not (sign or rest):
            known = ", ".join([f"{one} VALUE" for one in OPTIONS] + [IN_PROCESS, LOOPBACK])
            raise InvalidInput(f"stdio does not take {name!r} like that: its options are {known}.")
        given[name[2:]] = value if sign else rest.pop(0)
    return given


def from_json(value: Mapping[str, Any]) -> Asked:
    """What `as_json` gave; of anything else, the parts that are text."""
    found = {name: _texts(value.get(name)) for name in ("arguments", "environment")}
    user, cwd = value.get("user"), value.get("cwd")
    return Asked(
        found["arguments"],
        found["environment"],
        user if isinstance(user, str) and user else "user",
        cwd if isinstance(cwd, str) else None,
    )


def here(arguments: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None) -> Asked:
    """What was asked of this process."""
    env = environment() if env is None else env
    try:
        cwd = os.getcwd()
    except OSError:  # the folder was removed
        cwd = None
    return Asked(arguments or {}, env, user_name(env), cwd)


def environment() -> Mapping[str, str]:
    """This process's environment."""
    return os.environ


def home(asked: Asked, env: Mapping[str, str] | None = None) -> str:
    """The data directory, as an absolute path; whether it can be one is for others to say."""
    given = asked.arguments.get("home") or asked.environment.get("MEMOS_HOME")
    return os.path.abspath(os.path.expanduser(given)) if given else default_home(sys.platform, env)


def default_home(platform: str = sys.platform, env: Mapping[str, str] | None = None) -> str:
    """The platform's user data directory for memos-mcp."""
    env = environment() if env is None else env
    user = os.path.expanduser("~")
    if platform == "win32":
        return os.path.join(env.get("LOCALAPPDATA") or os.path.join(user, "AppData", "Local"), "memos-mcp")
    if platform == "darwin":
        return os.path.join(user, "Library", "Application Support", "memos-mcp")
    return os.path.join(env.get("XDG_DATA_HOME") or os.path.join(user, ".local", "share"), "memos-mcp")


def user_name(env: Mapping[str, str]) -> str:
    """The operating-system user's name."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        if env.get(name):
            return env[name]
    try:
        import pwd
    except ImportError:
        return "user"
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return "user"


def for_kernel(fresh: bool) -> dict[str, str]:
    """The environment in which a bridge starts a kernel.

    What belongs to one host's connection stays out of it; so do wishes for the store, unless it is about to be made.
    """
    kept = dict(environment())
    for name in list(kept):
        if name in CONNECTION or (not fresh and (name.startswith(PREFIX) or name in SECRETS)):
            del kept[name]
    kept.pop("MEMOS_HOME", None)
    return kept


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(key, str) and isinstance(text, str)}
