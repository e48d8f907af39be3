"""Where the kernel listens: made, watched and taken away by the one process that owns the data directory.

Standard library only; `rendezvous` is how others find it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import socket
import stat
from typing import Any

from memos_mcp.errors import KernelUnreachable, StorageFailed
from memos_mcp.rendezvous import ADDRESS, LOOPBACK, SOCKET, UNIX, fits, is_ours, read_address


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
        _clear(os.path.join(home, ADDRESS), stat.S_IFREG)
        _clear(usual, stat.S_IFSOCK)
        if loopback or not UNIX:
            return _listen_loopback(home)
        if fits(usual):
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


def _listen_loopback(home: str) -> Listener:
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
    folder = os.path.join(above, "memos-mcp") if is_ours(above) else f"/tmp/memos-mcp-{user}"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if not is_ours(folder):
        raise PermissionError(13, f"{folder} belongs to another user")
    return folder


def _digest(home: str) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(home))).hexdigest()[:24]


def _clear(path: str, kind: int) -> None:
    """Remove what a former kernel left at this path.

    Raises:
        StorageFailed: what is there is not of that kind, so it was not made by a kernel.
    """
    try:
        found = stat.S_IFMT(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if found != kind:
        raise StorageFailed(f"{path} stands where the kernel has to make its own: move it away, and call again.")
    _remove(path)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
