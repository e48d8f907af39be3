"""Where a kernel listens and how one is found and greeted: what bridge, command line and kernel share.

Standard library only, as little of it as will do; knows nothing of what is said after the greeting.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time

from memos_mcp.errors import KernelUnreachable, StorageFailed
from memos_mcp.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROTOCOL = 1
"""The version of the greeting. Fields may be added to it; what there is keeps its meaning."""
SOCKET, ADDRESS = "kernel.sock", "kernel.address"
LONGEST_PATH = 100
"""Bytes of a path that every system takes for a Unix socket."""
LONGEST_GREETING = 1 << 18
_FILE, _SOCKET = 0o100000, 0o140000
"""Kinds of files, in their mode."""
LOOPBACK = "127.0.0.1"
UNIX = hasattr(socket, "AF_UNIX") and sys.platform != "win32"


class NoKernel(Exception):
    """No kernel listens for this data directory."""


class KernelGone(Exception):
    """A kernel took the connection and closed it before it answered: it was about to end."""


class KernelSilent(Exception):
    """A kernel took the connection and does not answer; carries nothing, for nothing was said."""


class Connection:
    """A connection to a kernel; `secret` is empty for a Unix socket, whose file permissions do its work."""

    __slots__ = ("address", "secret", "sock")

    def __init__(self, sock: socket.socket, address: str, secret: str = "") -> None:
        self.sock, self.address, self.secret = sock, address, secret


def connect(home: str) -> Connection:
    """A connection to the kernel of this data directory, not greeted yet.

    Raises:
        NoKernel: nobody listens. KernelUnreachable: somebody may, and this process is not allowed to know.
    """
    path = os.path.join(home, SOCKET)
    if UNIX and _fits(path):
        try:
            return _connect_unix(path)
        except NoKernel:
            pass
    found = read_address(home)
    if found is None:
        raise NoKernel
    if "unix" in found:
        path = str(found["unix"])
        if not UNIX or not _is_ours(os.path.dirname(path)):
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


class Listener:
    """The place where a kernel listens. Made and closed by the one process that owns the data directory.

    `path`: of its Unix socket; `address`: what the address file says, if it needs one.
    """

    def __init__(self, home: str, sock: socket.socket, path: str | None, address: dict[str, Any] | None) -> None:
        self.sock, self.token = sock, str((address or {}).get("token", ""))
        self._home, self._path, self._address = home, path, address
        self._file = os.stat(path) if path is not None else None
        if address is not None:
            _write_address(home, address)

    @property
    def address(self) -> str:
        """For people: a path, or host and port."""
        return self._path or "{}:{}".format(*self.sock.getsockname())

    def intact(self) -> bool:
        """Whether others still find it."""
        return self._is_in_place() and self._is_announced()

    def mend(self) -> bool:
        """Write the address file again, if nothing else is gone; returns whether others find it now."""
        if self._address is not None and self._is_in_place():
            try:
                _write_address(self._home, self._address)
            except OSError:
                return False
        return self.intact()

    def close(self) -> None:
        """Stop listening, and leave no file behind that leads here."""
        self.sock.close()
        if self._path is not None and self._is_in_place():
            _remove(self._path)
        if self._address is not None and self._is_announced():
            _remove(os.path.join(self._home, ADDRESS))

    def _is_in_place(self) -> bool:
        try:
            return self._path is None or self._file is None or os.path.samestat(self._file, os.stat(self._path))
        except OSError:
            return False

    def _is_announced(self) -> bool:
        try:
            return self._address is None or read_address(self._home) == self._address
        except (OSError, KernelUnreachable):
            return False


def listen(home: str, *, loopback: bool = False) -> Listener:
    """Listen for the data directory that this process owns; what a former owner left is replaced.

    `loopback`: TCP on this machine alone with a token, as where there are no Unix sockets.

    Raises:
        StorageFailed: the socket or its address file cannot be made, or something else is in their way.
    """
    usual = os.path.join(home, SOCKET)
    try:
        _clear(os.path.join(home, ADDRESS), _FILE)
        _clear(usual, _SOCKET)
        if loopback or not UNIX:
            return _listen_loopback(home)
        if _fits(usual):
            return Listener(home, _bound(usual), usual, None)
        path = os.path.join(_runtime_folder(), f"{_digest(home)}.sock")
        _remove(path)
        return Listener(home, _bound(path), path, {"unix": path})
    except OSError as error:
        said = error.strerror or str(error)
        raise StorageFailed(
            f"No socket can be made for the data directory {home} ({said}): "
            "check its permissions and the space on its disk, or set MEMOS_HOME to another folder."
        ) from error


def _connect_unix(path: str) -> Connection:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
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
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.connect((LOOPBACK, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, OverflowError):
        sock.close()
        raise NoKernel from None
    return Connection(sock, f"{LOOPBACK}:{port}", token)


def _listen_loopback(home: str) -> Listener:
    import secrets

    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.bind((LOOPBACK, 0))
    sock.listen(128)
    return Listener(home, sock, None, {"port": sock.getsockname()[1], "token": secrets.token_hex(32)})


def _bound(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(path)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(before)
    sock.listen(128)
    return sock


def _write_address(home: str, address: dict[str, Any]) -> None:
    path = os.path.join(home, ADDRESS)
    handle = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(address, file)
    os.replace(path + ".new", path)


def _runtime_folder() -> str:
    """A short folder of this user alone, the same one whatever environment a process has.

    Raises:
        OSError: it belongs to somebody else.
    """
    user = os.getuid()
    above = f"/run/user/{user}"
    folder = os.path.join(above, "memos-mcp") if _is_ours(above) else f"/tmp/memos-mcp-{user}"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if not _is_ours(folder):
        raise PermissionError(13, f"{folder} belongs to another user")
    return folder


def _is_ours(folder: str) -> bool:
    """Whether the folder is one that only this user could have put a socket into."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return found.st_uid == os.getuid() and found.st_mode & 0o170022 == 0o040000


def _first_line(sock: socket.socket, wait_s: float) -> tuple[bytes, bytes]:
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


def _fits(path: str) -> bool:
    return len(os.fsencode(path)) <= LONGEST_PATH


def _digest(home: str) -> str:
    import hashlib

    return hashlib.sha256(os.fsencode(os.path.realpath(home))).hexdigest()[:24]


def _clear(path: str, kind: int) -> None:
    """Remove what a former kernel left at this path.

    Raises:
        StorageFailed: what is there is not of that kind, so it was not made by a kernel.
    """
    try:
        found = os.lstat(path).st_mode & 0o170000
    except FileNotFoundError:
        return
    if found != kind:
        raise StorageFailed(f"{path} stands where the kernel has to make its own: move it away, and call again.")
    _remove(path)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
