"""Connections that tell whether a request may have left, and cannot deliver it late.

Rules:

- A request is known not to have left only while its connection is still being made. Before we hear
  of that, and from the moment there is a connection, it may have left.
- What the peer has not confirmed when our patience ends is thrown away, not delivered later:
  `TCP_USER_TIMEOUT` and `SO_LINGER(1, 0)` make the kernel do so, `Passage.give_up` asks for it.
- A pooled connection that the peer has closed, or has written to, is not used again.
"""

import asyncio
import select
import socket
import struct
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import aiohttp

from orchestrator.css.tls import Tls
from orchestrator.model import Leave, leave_at_once

if TYPE_CHECKING:
    from aiohttp.tracing import Trace

IDLE_FOR = 5.0
"""Seconds that a connection is kept without use: short, for peers close theirs without a word."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Passage:
    """How far one request has come on its way out."""

    __slots__ = ("leave", "may_have_left", "transport")

    def __init__(self, leave: Leave = leave_at_once) -> None:
        self.leave = leave
        """Awaited once it has a connection, right before it leaves."""
        self.may_have_left = True
        self.transport: asyncio.Transport | None = None

    def give_up(self) -> None:
        """Drop the connection, and with it whatever has not been delivered yet."""
        if self.transport is not None:
            self.transport.abort()


passage: ContextVar[Passage] = ContextVar("passage")
"""The passage of the request that the running task makes."""


class Connections(aiohttp.TCPConnector):
    """The pool of connections; tells the passage of each request when it is given one."""

    def __init__(self, *, most: int, patience: float, tls: Tls) -> None:
        self._patience = patience
        self._polls: WeakKeyDictionary[asyncio.BaseProtocol, select.poll] = WeakKeyDictionary()
        """What asks each connection that was used before whether there is something to read."""
        super().__init__(
            limit=most,
            ssl=tls.context(),
            keepalive_timeout=IDLE_FOR,
            socket_factory=self._new_socket,
        )

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: "list[Trace]",
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> aiohttp.connector.Connection:
        """Return a connection, new or kept, that was alive a moment ago."""
        mine = passage.get()
        mine.may_have_left = False
        while True:
            connection = await super().connect(req, traces, timeout)
            try:
                await mine.leave()
            except BaseException:
                connection.release()
                raise
            if not self._is_stale(connection):
                break
            connection.close()
        mine.may_have_left = True
        mine.transport = connection.transport
        return connection

    def _is_stale(self, connection: aiohttp.connector.Connection) -> bool:
        """Return whether a kept connection has something to read: its end, or what nobody asked."""
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None:  # pragma: no cover - closed as it was handed over
            return True
        poll = self._polls.get(protocol)
        if poll is None:
            poll = self._polls[protocol] = select.poll()
            poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
            return False
        return bool(poll.poll(0))

    def _new_socket(self, address: tuple[Any, ...]) -> socket.socket:
        made = socket.socket(*address[:3])
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # pragma: no branch - Linux has it
            patience_ms = max(1, round(self._patience * 1000))
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience_ms)
        return made
