"""One request and its whole answer, or the reason why there is none.

Rules:

- Nothing repeats a POST, follows a redirect or keeps a cookie.
- One patience covers all: waiting for a connection, making it, asking, and the body to its end.
- A body is read up to a bound; a longer one is no answer.
- A reason never quotes what could hold a header.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from types import MappingProxyType, TracebackType
from typing import NamedTuple, Self

import aiohttp
from yarl import URL

from orchestrator.css.connections import Connections, Passage, passage
from orchestrator.css.credentials import CONTENT_TYPE
from orchestrator.css.endpoints import Endpoint
from orchestrator.css.mishaps import mishap_of
from orchestrator.css.tls import Tls
from orchestrator.model import Leave, leave_at_once

_HEADER_BYTES = 65_536

# All that aiohttp lets through when a call breaks: its own, the system's, and what it takes for a
# misuse of itself (an unreadable address, a session closed meanwhile).
_BROKEN = (aiohttp.ClientError, OSError, EOFError, ValueError, RuntimeError)


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


class _Request(aiohttp.ClientRequest):
    """A request with the headers that it is given, and no others but those HTTP needs."""

    DEFAULT_HEADERS: Mapping[str, str] = MappingProxyType({})  # type: ignore[assignment]


class Exchange:
    """The connections to the service, for as long as the context lasts.

    Args:
        patience: seconds for one call.
        connections: connections open at once; further calls wait, within their patience.
        tls: whom to trust, and what to show.
    """

    def __init__(self, *, patience: float, connections: int, tls: Tls) -> None:
        self._patience = patience
        self._connections = connections
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the pool of connections.

        Raises:
            UsageError: a file of certificates cannot be read.
        """
        self._session = aiohttp.ClientSession(
            connector=Connections(most=self._connections, patience=self._patience, tls=self._tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={
                "User-Agent": f"orchestrator/{_version()}",
                "Content-Type": CONTENT_TYPE,
            },
            # The exact patience: aiohttp would round it up to whole seconds.
            timeout=aiohttp.ClientTimeout(total=self._patience, ceil_threshold=math.inf),
            # Endpoints know their proxies: aiohttp would look them up for each call, in a thread,
            # and would add what ~/.netrc says to the headers.
            trust_env=False,
            request_class=_Request,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:  # pragma: no branch - it was entered
            await self._session.close()
            self._session = None

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

        Raises:
            HeldBackError: it was not let once it had a connection; nothing of it left.
            BrokenCallError: there is no whole answer.
        """
        if self._session is None:
            raise BrokenCallError("the client is not open", may_have_left=False)
        way = Passage(leave)
        token = passage.set(way)
        reply = status = None
        try:
            response = await self._session.request(
                method,
                url,
                headers=headers,
                data=body or None,
                allow_redirects=False,
                proxy=endpoint.proxy,
                proxy_headers=endpoint.proxy_headers,
            )
            status = response.status
            reply = Reply(status, response.headers, await _read_at_most(response, most))
        except _BROKEN as exc:
            left = way.may_have_left
            words = self._words_for(exc, endpoint, may_have_left=left)
            raise BrokenCallError(words, may_have_left=left, status=status) from exc
        finally:
            passage.reset(token)
            if reply is None:
                way.give_up()
        return reply

    def _words_for(self, error: BaseException, endpoint: Endpoint, *, may_have_left: bool) -> str:
        mishap = mishap_of(error, self._patience)
        reason = str(error) if isinstance(error, _TooLongError) else mishap.reason
        if may_have_left:
            return f"no whole answer came from {endpoint.host}: {reason}"
        through = f" through proxy {endpoint.proxy.host}" if endpoint.proxy is not None else ""
        return f"no connection to {endpoint.host}{through} could be had: {reason}; {mishap.advice}"


class _TooLongError(ValueError):
    """A body goes on beyond its bound."""


async def _read_at_most(response: aiohttp.ClientResponse, most: int) -> bytes:
    length = response.content_length
    if length is not None and length <= most and "Content-Encoding" not in response.headers:
        return await response.read()
    try:
        return await _read_pieces(response, most if length is None or length <= most else -1)
    except BaseException:
        response.close()
        raise


async def _read_pieces(response: aiohttp.ClientResponse, room: int) -> bytes:
    pieces: list[bytes] = []
    while room >= 0:
        piece = await response.content.readany()
        if not piece:
            return b"".join(pieces)
        room -= len(piece)
        pieces.append(piece)
    raise _TooLongError("the answer is longer than any that the service gives")


@lru_cache(maxsize=1)
def _version() -> str:
    try:
        return metadata.version("fleet-restart-orchestrator")
    except metadata.PackageNotFoundError:  # pragma: no cover - run from a bare source tree
        return "unknown"
