"""Carries lines between a host's pipes and the kernel of its data directory, across the deaths of kernels.

Standard library only, and what is slow to import only where no kernel runs. One thread reads the host, the main thread
the kernel.
"""

from __future__ import annotations

import _socket
import _thread
import os
import select
import sys
import time

from memos_mcp import asked, rendezvous
from memos_mcp.bridge.conversation import Conversation
from memos_mcp.errors import MemosError
from memos_mcp.framing import GOODBYE, OTHER, PING, PONG, Lines, Overlong, marked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

READ_BYTES = 1 << 16
TICK_S = 1.0
"""Seconds between two looks at a kernel that owes an answer."""
SILENT_S = 5.0
"""Seconds without a sign of life after which a kernel that owes an answer is reported."""
QUICK_S = 0.5
"""Seconds for the greeting of a warm kernel; one that takes longer is looked at more closely."""
HANDSHAKE_S = 30.0
MOST_FAILURES = 5
"""Connections in a row that may break in the handshake until the host is told."""
SHORT_LIFE_S = 2.0
"""Seconds of a connection below which a kernel is not started again for the sake of notifications alone."""
LAST_ANSWERS_S = 12.0
"""Seconds that answers may still take after the host has closed its end."""
FULL_PAUSE_S = 0.005
_SHORT_LIVED = "The memory kernel ends as soon as it is started: run `memos-mcp doctor`."
_UNDECIDED = "It may still carry this request out: look with memory_search or memory_history before you repeat it."
LAZY = "stop"
"""A kernel that was stopped by a person is started again only when the host wants something."""


def main(arguments: list[str]) -> None:
    """Serve the host until it ends; ends the process."""
    _occupy_closed_streams()
    try:
        given = asked.options(arguments)
    except MemosError as error:
        os.write(2, f"memos-mcp: {error}\n".encode())
        os._exit(2)
    wishes = asked.here(given)
    bridge = Bridge(asked.home(wishes), wishes.as_json(), asked.LOOPBACK in arguments)
    try:
        bridge.run()
    except KeyboardInterrupt:
        os._exit(130)
    os._exit(0)  # the thread that reads the host may wait for ever


class Bridge:
    """One host's connection to the kernel."""

    def __init__(self, home: str, wishes: dict[str, Any], loopback: bool) -> None:
        self._home, self._wishes, self._loopback = home, wishes, loopback
        self._id = os.urandom(12).hex()
        self._generation = 0
        self._conversation = Conversation()
        self._link: _socket.socket | None = None
        self._sock: _socket.socket | None = None
        """The same connection, while the kernel takes what the host sends."""
        self._lines = Lines(sys.maxsize)
        self._sending = _thread.allocate_lock()
        self._woken, self._waker = _pair()
        self._host_left: float | None = None
        self._unfinished = b""
        self._wanted = True
        """Whether a kernel is needed now."""
        self._connected = self._heard = self._pinged = 0.0
        self._reported = False
        self._failures = 0

    def run(self) -> None:
        """Carry until the host has left and nothing is owed to it."""
        _thread.start_new_thread(self._read_host, ())
        while not self._over():
            if not self._wanted:
                self._woken.recv(READ_BYTES)
                self._wanted = self._wanted or self._conversation.owed or self._host_left is not None
                continue
            try:
                self._connect()
            except MemosError as error:
                self._give_up(str(error))
                continue
            except OSError:
                self._failures += 1
                if self._failures > MOST_FAILURES:
                    self._give_up(_SHORT_LIVED)
                else:
                    self._lost("broken")
                continue
            self._failures = 0
            self._lost(self._carry())

    def _over(self) -> bool:
        if self._host_left is None:
            return False
        owed = self._conversation.owed or (self._unfinished and self._generation == 0)
        return not owed or time.monotonic() - self._host_left > LAST_ANSWERS_S

    def _connect(self) -> None:
        """Reach a kernel and tell it where the host is.

        Raises:
            MemosError: none can be reached or started. OSError: it ended in the meantime.
        """
        hello = {"role": "host", "bridge": self._id, "generation": self._generation, "asked": self._wishes}
        try:
            connection = rendezvous.connect(self._home)
            received = rendezvous.greet(connection, self._home, hello, QUICK_S)[1]
        except (rendezvous.NoKernel, rendezvous.KernelGone, rendezvous.KernelSilent):
            from memos_mcp import launch

            connection, _, received = launch.reach(self._home, hello, loopback=self._loopback)
        self._generation += 1
        self._connected = self._heard = time.monotonic()
        self._pinged, self._reported = 0.0, False
        self._lines, self._link = Lines(sys.maxsize), connection.sock
        sock = connection.sock
        resume = self._conversation.resume()
        if resume is not None:
            number, line = resume
            sock.sendall(line)
            received = self._await_handshake(sock, number, received)
        self._take(received)
        with self._sending:
            for data in self._conversation.replay():
                sock.sendall(data)
            self._sock = sock
            if self._host_left is not None:
                self._hang_up(sock)
        if self._generation > 1:
            self._to_host(self._conversation.missed())

    def _await_handshake(self, sock: _socket.socket, number: int, received: bytes) -> bytes:
        """Wait for the answer to our own handshake; returns what was read and not taken yet."""
        end = time.monotonic() + HANDSHAKE_S
        while True:
            self._take(received)
            if number not in self._conversation.requests:
                return b""
            if not select.select([sock], [], [], max(end - time.monotonic(), 0))[0]:
                raise OSError("no answer to the handshake")
            received = sock.recv(READ_BYTES)
            if not received:
                raise OSError("the kernel ended")

    def _carry(self) -> str:
        """Pass on what the kernel says until its connection ends; returns why it says that it ends, or nothing."""
        sock, why = self._link, ""
        while sock is not None:
            waits = self._conversation.owed
            ready = select.select([sock, self._woken], [], [], TICK_S if waits else None)[0]
            if self._woken in ready:
                self._woken.recv(READ_BYTES)
            if sock not in ready:
                self._look_after(sock)
                continue
            try:
                chunk = sock.recv(READ_BYTES)
            except OSError:
                return why
            if not chunk:
                return why
            self._heard, self._reported = time.monotonic(), False
            why = self._take(chunk) or why
        return why

    def _take(self, chunk: bytes) -> str:
        """Pass on what has come; returns why the kernel ends, if it says so."""
        why = ""
        for line in self._lines.take(chunk):
            why = self._from_kernel(line) or why
        return why

    def _from_kernel(self, line: bytes | Overlong) -> str:
        """Pass a line on; returns why the kernel ends, if it says so."""
        if isinstance(line, Overlong):
            return ""
        mark, _, rest = line.partition(b" ")
        if mark == OTHER:
            self._to_host((rest + b"\n",))
        elif mark == GOODBYE:
            with self._sending:
                self._sock = None  # what the host sends from now on is for the next kernel
            return rest.decode("utf-8", "replace") or "end"
        elif mark != PONG and mark.isdigit() and self._conversation.answered(int(mark), rest):
            self._to_host((rest + b"\n",))
        return ""

    def _lost(self, why: str) -> None:
        """The kernel is gone: decide what to send again, and whether another one is needed at once.

        `why`: what it said; nothing, if it died without a word.
        """
        with self._sending:
            if self._link is not None:
                self._link.close()
            self._link = self._sock = None
            if why:
                self._conversation.kernel_left()
            else:
                self._to_host(self._conversation.kernel_died())
            lasted = time.monotonic() - self._connected > SHORT_LIFE_S
            self._wanted = self._conversation.owed or (self._conversation.attached and why != LAZY and lasted)

    def _give_up(self, sentence: str) -> None:
        """No kernel can be had: say so to whoever waits, and try again when the host wants something else."""
        self._lost("unreachable")
        self._tell_person(sentence)
        with self._sending:
            self._to_host(self._conversation.fail(list(self._conversation.requests), sentence))
            self._wanted = self._conversation.owed
        self._failures = 0
        if self._host_left is not None:
            self._host_left -= LAST_ANSWERS_S

    def _look_after(self, sock: _socket.socket) -> None:
        """Ask a kernel that owes an answer whether it is there; report one that does not say so."""
        now = time.monotonic()
        if not self._conversation.owed:
            return
        if self._pinged <= self._heard and self._sending.acquire(False):
            try:
                sock.sendall(marked(PING, b""))
            except OSError:
                return
            finally:
                self._sending.release()
            self._pinged = now
        if now - self._heard < SILENT_S:
            return
        late = self._conversation.overdue(now - SILENT_S)
        if late:
            from memos_mcp import launch

            sentence = str(launch.silent(self._home))
            if not self._reported:
                self._tell_person(sentence)
                self._reported = True
            self._to_host(self._conversation.fail(late, f"{sentence} {_UNDECIDED}"))

    def _read_host(self) -> None:
        lines = Lines()
        while chunk := _read(0):
            for line in lines.take(chunk):
                self._from_host(line)
        with self._sending:
            self._unfinished = lines.rest
            self._host_left = time.monotonic()
            if self._sock is not None:
                self._hang_up(self._sock)
        self._wake()

    def _from_host(self, line: bytes | Overlong) -> None:
        while self._conversation.full:
            time.sleep(FULL_PAUSE_S)
        with self._sending:
            owed = self._conversation.owed
            data = self._conversation.from_host(line, self._sock is not None)
            if self._sock is not None:
                try:
                    self._sock.sendall(data)
                except OSError:
                    pass  # the main thread sees it too, and sends requests again
        if not owed:
            self._heard = max(self._heard, time.monotonic())  # it owed nothing so far
            self._wake()

    def _hang_up(self, sock: _socket.socket) -> None:
        """Tell the kernel that the host has closed its end."""
        try:
            if self._unfinished:
                sock.sendall(marked(OTHER, self._unfinished)[:-1])
            sock.shutdown(_socket.SHUT_WR)
        except OSError:
            pass

    def _wake(self) -> None:
        self._waker.send(b"!")

    def _to_host(self, parts: Iterable[bytes]) -> None:
        for data in parts:
            try:
                _write(1, data)
            except OSError:  # the host is gone
                os._exit(0)

    def _tell_person(self, sentence: str) -> None:
        try:
            os.write(2, f"memos-mcp: {sentence}\n".encode())
        except OSError:
            pass


def _occupy_closed_streams() -> None:
    """Put nothing where the host closed a standard stream, or the next thing opened would be taken for the host."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _pair() -> tuple[_socket.socket, _socket.socket]:
    """Two connected sockets."""
    if hasattr(_socket, "socketpair"):
        return _socket.socketpair()
    import socket

    return socket.socketpair()


def _read(fd: int) -> bytes:
    """What has come; empty when the other end is closed."""
    while True:
        try:
            return os.read(fd, READ_BYTES)
        except BlockingIOError:  # the host made its end non-blocking
            select.select([fd], [], [])
        except OSError:
            return b""


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])
