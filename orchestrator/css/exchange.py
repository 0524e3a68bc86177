"""One request and its whole answer, or the reason why there is none.

Rules:

- Nothing repeats a POST, follows a redirect or keeps a cookie. Of aiohttp only connections and
  parser are used: its session does these things, and more that a restart has to pay for.
- A request is known not to have left until its first byte is handed to a live connection.
- One patience covers all: waiting for a connection, making it, asking, and the body to its end.
- A body is read up to a bound; a longer one is no answer.
- A reason never quotes what could hold a header.
"""

from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp
from aiohttp import StreamReader
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage
from multidict import CIMultiDict
from yarl import URL

from orchestrator.css.connections import Connections, Passage
from orchestrator.css.credentials import CONTENT_TYPE
from orchestrator.css.endpoints import Endpoint
from orchestrator.css.mishaps import mishap_of
from orchestrator.css.patience import Patience
from orchestrator.css.tls import Tls
from orchestrator.model import Leave, leave_at_once

# All that aiohttp lets through when a call breaks: its own, the system's, and what it takes for a
# misuse of itself (an unreadable address, a session closed meanwhile).
_BROKEN = (
    aiohttp.ClientError, HttpProcessingError, OSError, EOFError, ValueError, RuntimeError,
)  # fmt: skip
_WITH_BODY = frozenset({"POST", "PUT"})
"""The verbs whose length is said even if it is nothing."""
_FIRST_FINAL, _OTHER_PROTOCOL = 200, 101
_TOO_LONG = "the answer is longer than any that the service gives"


class Reply(NamedTuple):
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class BrokenCallError(Exception):
    """A call without a whole answer; its text is for the operator.

    `may_have_left` is False only if it is certain that the service saw nothing of it; `status` is
    there if the answer had begun.
    """

    def __init__(self, message: str, *, may_have_left: bool, status: int | None = None) -> None:
        super().__init__(message)
        self.may_have_left = may_have_left
        self.status = status


class Exchange:
    """The connections to the service, for as long as the context lasts.

    Args:
        patience: seconds for one call.
        connections: connections open at once; further calls wait, within their patience.
        tls: whom to trust, and what to show.
    """

    def __init__(self, *, patience: float, connections: int, tls: Tls) -> None:
        self._patience = Patience(patience)
        self._connections = connections
        self._tls = tls
        self._pool: Connections | None = None
        self._ways: dict[URL, aiohttp.ClientRequest] = {}

    async def __aenter__(self) -> Self:
        """Open the pool of connections.

        Raises:
            UsageError: a file of certificates cannot be read.
        """
        self._pool = Connections(
            most=self._connections, patience=self._patience.seconds, tls=self._tls
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pool is not None:  # pragma: no branch - it was entered
            await self._pool.close()
            self._pool = None

    async def call(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        *,
        endpoint: Endpoint,
        most: int,
        body: bytes = b"",
        leave: Leave = leave_at_once,
    ) -> Reply:
        """Make one call and read its answer, of at most `most` bytes.

        Args:
            method: the verb.
            url: the address, as it is sent.
            headers: besides those that every call has.
            endpoint: where it goes, and through which proxy.
            most: bytes of a body that are read.
            body: what is sent with it.
            leave: called once the call has a connection, in the moment in which it would leave.

        Raises:
            HeldBackError: it was not let; nothing of it left.
            BrokenCallError: there is no whole answer.
        """
        if self._pool is None:
            raise BrokenCallError("the client is not open", may_have_left=False)
        request = _whole_request(method, endpoint, url, headers, body)
        passage: Passage | None = None
        may_have_left = False
        reply = status = None
        try:
            with self._patience.limit():
                passage = await self._pool.board(self._way_to(endpoint), leave)
                may_have_left = True
                passage.transport.write(request)
                message, content = await _next_answer(passage.protocol)
                status = message.code
                reply = Reply(
                    status, message.headers, await _read_at_most(message.headers, content, most)
                )
        except _BROKEN as exc:
            words = self._words_for(exc, endpoint, may_have_left=may_have_left)
            raise BrokenCallError(words, may_have_left=may_have_left, status=status) from exc
        finally:
            if passage is not None and reply is not None:
                passage.give_back()
            elif passage is not None:
                passage.give_up()
        return reply

    def _way_to(self, endpoint: Endpoint) -> aiohttp.ClientRequest:
        """Return what the pool needs to know of a request to find or make its connection."""
        if endpoint.proxy is not None:
            # The pool writes into it what the proxy has to know.
            return aiohttp.ClientRequest(
                "GET", endpoint.base, proxy=endpoint.proxy, proxy_headers=endpoint.proxy_headers
            )
        way = self._ways.get(endpoint.base)
        if way is None:
            way = self._ways[endpoint.base] = aiohttp.ClientRequest("GET", endpoint.base)
        return way

    def _words_for(self, error: BaseException, endpoint: Endpoint, *, may_have_left: bool) -> str:
        mishap = mishap_of(error, self._patience.seconds)
        reason = str(error) if isinstance(error, _TooLongError) else mishap.reason
        if may_have_left:
            return f"no whole answer came from {endpoint.host}: {reason}"
        through = f" through proxy {endpoint.proxy.host}" if endpoint.proxy is not None else ""
        return f"no connection to {endpoint.host}{through} could be had: {reason}; {mishap.advice}"


class _TooLongError(ValueError):
    """A body goes on beyond its bound."""


@lru_cache(maxsize=1024)
def _usual_headers(base: URL) -> CIMultiDict[str]:
    return CIMultiDict(
        {
            "Host": base.host_port_subcomponent or "",
            "User-Agent": f"orchestrator/{_version()}",
            "Content-Type": CONTENT_TYPE,
        }
    )


def _whole_request(
    method: str, endpoint: Endpoint, url: URL, headers: Mapping[str, str], body: bytes
) -> bytes:
    """Return a request as it is sent."""
    found = _usual_headers(endpoint.base).copy()
    found.update(headers)
    if body or method in _WITH_BODY:
        found["Content-Length"] = str(len(body))
    lines = [f"{method} {url.raw_path_qs} HTTP/1.1", *map(": ".join, found.items())]
    head = "\r\n".join(lines)
    if head.count("\r") != len(found) or head.count("\n") != len(found):
        raise BrokenCallError("a header has a line break in it", may_have_left=False)
    return b"%b\r\n\r\n%b" % (head.encode(), body)


async def _next_answer(protocol: ResponseHandler) -> tuple[RawResponseMessage, StreamReader]:
    """Return the answer that is the last word, whatever was said before it."""
    while True:
        message, content = await protocol.read()
        if message.code >= _FIRST_FINAL or message.code == _OTHER_PROTOCOL:
            return message, content


async def _read_at_most(headers: Mapping[str, str], content: StreamReader, most: int) -> bytes:
    length = headers.get("Content-Length")
    if length is not None and int(length) > most:
        raise _TooLongError(_TOO_LONG)
    if length is not None and "Content-Encoding" not in headers:
        return content.read_nowait() if content.is_eof() else await content.read()
    return await _read_pieces(content, most)


async def _read_pieces(content: StreamReader, room: int) -> bytes:
    pieces: list[bytes] = []
    while room >= 0:
        piece = await content.readany()
        if not piece:
            return b"".join(pieces)
        room -= len(piece)
        pieces.append(piece)
    raise _TooLongError(_TOO_LONG)


@lru_cache(maxsize=1)
def _version() -> str:
    try:
        return metadata.version("fleet-restart-orchestrator")
    except metadata.PackageNotFoundError:  # pragma: no cover - run from a bare source tree
        return "unknown"
