"""Connections that are alive when a request leaves, and cannot deliver it late.

Rules:

- What the peer has not confirmed when our patience ends is thrown away, not delivered later:
  `TCP_USER_TIMEOUT` and `SO_LINGER(1, 0)` make the kernel do so, once the transport is aborted.
- A pooled connection that the peer has closed, or has written to, is not used again.
"""

import asyncio
import select
import socket
import struct
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from orchestrator.css.tls import Tls
from orchestrator.model import Leave

IDLE_FOR = 5.0
"""Seconds that a connection is kept without use: short, for peers close theirs without a word."""

HEADER_BYTES = 65_536
"""Bytes of an answer's first line, or of one of its headers; a longer one is no answer."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_NO_TIMEOUT = aiohttp.ClientTimeout()
"""The caller's patience covers all."""


class Passage(NamedTuple):
    """A connection that one request has for itself."""

    connection: Connection
    protocol: ResponseHandler
    transport: asyncio.Transport

    def give_back(self) -> None:
        """Let others have the connection: the request has its whole answer."""
        self.connection.release()

    def give_up(self) -> None:
        """Drop the connection, and with it whatever has not been delivered yet."""
        self.transport.abort()
        self.connection.close()


class Connections(aiohttp.TCPConnector):
    """The pool of connections.

    Args:
        most: connections open at once; who wants one more waits.
        patience: seconds for one call.
        tls: whom to trust, and what to show.
    """

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

    async def board(self, request: aiohttp.ClientRequest, leave: Leave) -> Passage:
        """Return a connection, new or kept, that is alive, for a request that leaves now.

        Args:
            request: where it goes, and how.
            leave: called once there is a connection, as whoever waited long for one may not be
                wanted any more.

        Raises:
            HeldBackError: it must not leave.
        """
        while True:
            connection = await self.connect(request, [], _NO_TIMEOUT)
            try:
                leave()
            except BaseException:
                connection.release()
                raise
            protocol, transport = connection.protocol, connection.transport
            if protocol is None or transport is None or self._is_stale(protocol):
                connection.close()
                continue
            if protocol not in self._polls:
                self._set_up(protocol, transport)
            return Passage(connection, protocol, transport)

    def _is_stale(self, protocol: ResponseHandler) -> bool:
        """Return whether a kept connection has said something: its end, or what nobody asked."""
        poll = self._polls.get(protocol)
        # What it said may have been read already, and would be taken for the next answer.
        return poll is not None and (protocol.should_close or bool(poll.poll(0)))

    def _set_up(self, protocol: ResponseHandler, transport: asyncio.Transport) -> None:
        """Prepare a new connection for all of its answers: one parser reads one after another."""
        poll = self._polls[protocol] = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        protocol.set_response_params(
            read_until_eof=True, max_line_size=HEADER_BYTES, max_field_size=HEADER_BYTES
        )

    def _new_socket(self, address: tuple[Any, ...]) -> socket.socket:
        made = socket.socket(*address[:3])
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # pragma: no branch - Linux has it
            patience_ms = max(1, round(self._patience * 1000))
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience_ms)
        return made
