"""Where a kernel is found and how it is greeted: what bridge, command line and kernel share.

Standard library only, as little of it as will do: `_socket` is the part of `socket` that is written in C, and loads in
a tenth of the time. Knows nothing of what is said after the greeting.
"""

from __future__ import annotations

import _socket
import json
import os
import select
import sys
import time

from memos_mcp.errors import KernelUnreachable
from memos_mcp.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

PROTOCOL = 1
"""The version of the greeting. Fields may be added to it; what there is keeps its meaning."""
SOCKET, ADDRESS = "kernel.sock", "kernel.address"
LONGEST_PATH = 100
"""Bytes of a path that every system takes for a Unix socket."""
LONGEST_GREETING = 1 << 18
LOOPBACK = "127.0.0.1"
UNIX = hasattr(_socket, "AF_UNIX") and sys.platform != "win32"


class NoKernel(Exception):
    """No kernel listens for this data directory."""


class KernelGone(Exception):
    """A kernel took the connection and closed it before it answered: it was about to end."""


class KernelSilent(Exception):
    """A kernel took the connection and does not answer; carries nothing, for nothing was said."""


class Connection:
    """A connection to a kernel; `secret` is empty for a Unix socket, whose file permissions do its work."""

    __slots__ = ("address", "secret", "sock")

    def __init__(self, sock: _socket.socket, address: str, secret: str = "") -> None:
        self.sock, self.address, self.secret = sock, address, secret

    def detached(self) -> socket.socket:
        """The same connection as a socket with files and a block; this object has none any more."""
        import socket

        return socket.socket(fileno=self.sock.detach())


def connect(home: str) -> Connection:
    """A connection to the kernel of this data directory, not greeted yet.

    Raises:
        NoKernel: nobody listens. KernelUnreachable: somebody may, and this process is not allowed to know.
    """
    path = os.path.join(home, SOCKET)
    if UNIX and fits(path):
        try:
            return _connect_unix(path)
        except NoKernel:
            pass
    found = read_address(home)
    if found is None:
        raise NoKernel
    if "unix" in found:
        path = str(found["unix"])
        if not UNIX or not is_ours(os.path.dirname(path)):
            raise NoKernel
        return _connect_unix(path)
    return _connect_loopback(found)


def greet(
    connection: Connection, home: str, hello: dict[str, Any], wait_s: float
) -> tuple[dict[str, Any], bytes]:
    """Send the first line and read the kernel's; returns it with what came after it. A connection that fails is closed.

    Raises:
        KernelGone, KernelSilent: it ends, or does not answer. NoKernel: whoever answered is no kernel, or another data
            directory's: a copy holds the original's address. KernelUnreachable: it refuses; the sentence is its own.
    """
    secret, half = connection.secret, len(connection.secret) // 2
    line: dict[str, Any] = {"memos": PROTOCOL, "version": VERSION, "pid": os.getpid(), "token": secret[:half]}
    try:
        line["home"] = identity(home)
        connection.sock.sendall(json.dumps(line | hello).encode() + b"\n")
        answer, rest = _first_line(connection.sock, wait_s)
        return _accepted(json.loads(answer), secret[half:]), rest
    except (OSError, ValueError, NoKernel, KernelGone, KernelSilent, KernelUnreachable) as error:
        connection.sock.close()
        if isinstance(error, OSError):
            raise KernelGone from None
        if isinstance(error, ValueError):
            raise NoKernel from None
        raise


def _accepted(greeting: object, proof: str) -> dict[str, Any]:
    """The kernel's greeting, if it goes on with this connection."""
    if not isinstance(greeting, dict) or "memos" not in greeting or greeting.get("proof", "") != proof:
        raise NoKernel
    if greeting.get("elsewhere"):
        raise NoKernel
    if greeting.get("refused"):
        raise KernelUnreachable(str(greeting["refused"]))
    if greeting.get("draining"):
        raise KernelGone
    return greeting


def identity(home: str) -> list[int]:
    """What tells a folder from its copy and from another at its path: [device, file number]."""
    found = os.stat(home)
    return [found.st_dev, found.st_ino]


def read_address(home: str) -> dict[str, Any] | None:
    """Where the kernel of this data directory said that it listens, if not at the usual place."""
    try:
        with open(os.path.join(home, ADDRESS), encoding="utf-8") as file:
            found = json.loads(file.read(10_000))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return None
    except PermissionError as error:
        raise _forbidden(os.path.join(home, ADDRESS), error) from None
    return found if isinstance(found, dict) else None


def _connect_unix(path: str) -> Connection:
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        sock.close()
        raise NoKernel from None
    except PermissionError as error:
        sock.close()
        raise _forbidden(path, error) from None
    except OSError as error:
        sock.close()
        raise KernelUnreachable(
            f"The kernel's socket {path} cannot be used ({error.strerror}): check the folder it is in."
        ) from None
    return Connection(sock, path)


def _connect_loopback(found: dict[str, Any]) -> Connection:
    port, token = found.get("port"), found.get("token")
    if not isinstance(port, int) or not isinstance(token, str):
        raise NoKernel
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    try:
        sock.connect((LOOPBACK, port))
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    except (OSError, OverflowError):
        sock.close()
        raise NoKernel from None
    return Connection(sock, f"{LOOPBACK}:{port}", token)


def is_ours(folder: str) -> bool:
    """Whether the folder is one that only this user could have put a socket into."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return found.st_uid == os.getuid() and found.st_mode & 0o170022 == 0o040000


def _first_line(sock: _socket.socket, wait_s: float) -> tuple[bytes, bytes]:
    end = time.monotonic() + wait_s
    got = b""
    while b"\n" not in got:
        if len(got) > LONGEST_GREETING or not select.select([sock], [], [], max(end - time.monotonic(), 0))[0]:
            raise KernelSilent
        chunk = sock.recv(1 << 16)
        if not chunk:
            raise KernelGone
        got += chunk
    line, _, rest = got.partition(b"\n")
    return line, rest


def _forbidden(path: str, error: OSError) -> KernelUnreachable:
    return KernelUnreachable(
        f"This process may not use {path} ({error.strerror}): it runs in a sandbox or as another user. Allow it that "
        "folder, or set MEMOS_HOME to a folder of its own."
    )


def fits(path: str) -> bool:
    return len(os.fsencode(path)) <= LONGEST_PATH
