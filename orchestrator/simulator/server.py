"""The pretend service behind real HTTP on loopback.

Rules:

- A call that has arrived is carried out, even if its client leaves meanwhile: handlers are never
  cancelled by a disconnect.
- An answer counts as given when its last byte was handed to the socket.
- Who may call is the gate's decision; a call that it refuses is not received at all.
- Headers may be as large as real tokens are.
- Answers are put on the wire here, headers and all: what the library would make of them first costs
  as much as all the rest of a call.
"""

import re
import secrets
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http.client import responses as phrases

import anyio
import msgspec
from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE, HttpVersion10, HttpVersion11
from multidict import CIMultiDict

from orchestrator.model import Call
from orchestrator.simulator.gate import Request
from orchestrator.simulator.replies import JSON, Hang, Reply, gateway_error
from orchestrator.simulator.service import Ask, Done, Handling, Reading, Service
from orchestrator.simulator.trace import (
    Tracer,
    What,
    note,
    note_denial,
    note_ending,
    note_execution,
    note_given,
)

HOLD = 600.0
"""Seconds for which a connection without an answer is held open at most."""

_HOST = "127.0.0.1"
_LARGEST_HEADER = 65536
_BACKLOG = 1024
_LOOK_EVERY = 0.05
_SLICES = 10
_LINGER = struct.pack("ii", 1, 0)
_PATH = re.compile(r"/(v1\.0|v2\.0)/([^/]+)/clusters(?:/([^/]+)(?:/([^/]+))?)?/?")
_CALLS: dict[tuple[str, str, str | None], Call] = {
    ("POST", "v1.0", "restart"): Call.RESTART,
    ("POST", "v2.0", "restart"): Call.RESTART_PART,
    ("POST", "v2.0", "rolling-restart"): Call.ROLLING,
    ("POST", "v2.0", "rolling_restart"): Call.ROLLING,
    ("POST", "v1.0", "reboot"): Call.REBOOT,
}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is listening."""

    port: int

    @property
    def url(self) -> str:
        """What to give as the endpoint."""
        return f"http://{_HOST}:{self.port}"


@asynccontextmanager
async def serve(
    service: Service,
    *,
    port: int = 0,
    trace: Tracer | None = None,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> AsyncIterator[Server]:
    """Serve on loopback until the context is left.

    Args:
        service: how clusters, gate and IAM behave.
        port: 0 takes any free one.
        trace: who is told of every call as it happens.
        clock: seconds on a steady axis, for clusters and the trace.
        wall: seconds since 1970, for signatures and tokens.

    Raises:
        OSError: the port cannot be had.
    """
    handler = _Handler(service, trace, clock, wall)
    http = web.Server(
        handler.handle,
        handler_cancellation=False,
        access_log=None,
        max_field_size=_LARGEST_HEADER,
        max_line_size=_LARGEST_HEADER,
    )
    runner = web.ServerRunner(http, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, _HOST, port, backlog=_BACKLOG, reuse_address=True)
        await site.start()
        yield Server(runner.addresses[0][1])
    finally:
        await runner.cleanup()


class _Written(web.StreamResponse):
    """What the library is told of an answer that is on the wire, or never will be.

    It has nothing left to write; `goes_on` says whether the connection may bring another call.
    """

    def __init__(self, *, goes_on: bool) -> None:
        super().__init__()
        self._goes_on = goes_on

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays for another call."""
        return self._goes_on

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write no headers."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Write no rest."""


_GOES_ON = _Written(goes_on=True)
_ENDS = _Written(goes_on=False)


class _Handler:
    """Puts real time between the moments of a call, and its ending on the wire."""

    def __init__(
        self,
        service: Service,
        trace: Tracer | None,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._service = service
        self._trace = trace
        self._clock = clock
        self._wall = wall

    async def handle(self, request: web.BaseRequest) -> _Written:
        request_id = request.headers.get("X-Request-Id") or secrets.token_hex(16)
        ask = await _ask_of(request, request_id)
        if ask is None:
            return await self._tell(request, await self._give(request, request_id), request_id)
        gate, credential = self._service.gate, None
        if not gate.is_open:
            admission = gate.admit(
                _seen(request, ask.body, request_id), self._now(), ask.project_id
            )
            if admission.refusal is not None:
                note_denial(self._trace, ask, admission, self._clock())
                return await self._tell(request, admission.refusal, request_id)
            credential = admission.credential
        handling = self._service.receive(ask, self._clock())
        note(self._trace, What.RECEIVED, handling, self._clock(), credential=credential)
        if handling.wait_before_s:
            await anyio.sleep(handling.wait_before_s)
        now = self._clock()
        done = self._service.execute(handling, now)
        note_execution(self._trace, handling, now, done)
        if handling.wait_after_s:
            await anyio.sleep(handling.wait_after_s)
        return await self._end(request, handling, done)

    def _now(self) -> float:
        """Return the moment of the gateway's wall clock."""
        return self._wall() + self._service.clock_ahead

    async def _tell(self, request: web.BaseRequest, reply: Reply, request_id: str) -> _Written:
        """Write an answer of gateway or IAM, with the date of their clock, which may be off."""
        headers = (*reply.headers, ("Date", _date(int(self._now()))))
        dated = msgspec.structs.replace(reply, headers=headers)
        try:
            return await _send(request, dated, request_id, self._wall())
        except ConnectionError:
            return _ENDS

    async def _give(self, request: web.BaseRequest, request_id: str) -> Reply:
        """Answer a call for credentials, or one for nothing that there is."""
        seen = _seen(request, await _body_of(request), request_id)
        given = self._service.iam.answer(seen, self._now())
        if given is None:
            text = "The API does not exist or has not been published in the environment"
            return gateway_error(404, "APIGW.0101", text, request_id)
        await anyio.sleep(self._service.iam.latency)
        note_given(self._trace, given, self._clock(), request_id)
        return given.reply

    async def _end(self, request: web.BaseRequest, handling: Handling, done: Done) -> _Written:
        ending = done.ending
        is_there = not _is_gone(request)
        response = _ENDS
        try:
            if isinstance(ending, Reply):
                response = await _send(request, ending, handling.ask.request_id, self._wall())
            elif isinstance(ending, Hang):
                note_ending(self._trace, handling, self._clock(), done, is_there=is_there)
                await _hold(request)
                _sever(request)
                return response
            else:
                _sever(request)
        except ConnectionError:
            is_there = False
        note_ending(self._trace, handling, self._clock(), done, is_there=is_there)
        return response


async def _ask_of(request: web.BaseRequest, request_id: str) -> Ask | None:
    """Return which call a request means; None if there is no such, and then its body is unread."""
    found = _PATH.fullmatch(request.path)
    if found is None:
        return None
    method = request.method
    version, project_id, cluster_id, action = found.groups()
    call: Call | Reading | None = _CALLS.get((method, version, action))
    if method == "GET" and version == "v1.0" and action is None:
        call = Reading.DETAIL if cluster_id else Reading.LIST
    if call is None:
        return None
    return Ask(
        call=call,
        project_id=project_id,
        cluster_id=cluster_id or "",
        request_id=request_id,
        query=dict(request.query) if request.query_string else {},
        body=await _body_of(request),
    )


async def _body_of(request: web.BaseRequest) -> bytes:
    return await request.read() if request.can_read_body else b""


def _seen(request: web.BaseRequest, body: bytes, request_id: str) -> Request:
    """Return the request as it came over the wire; of a header sent twice, the last one."""
    path, _, query = request.raw_path.partition("?")
    return Request(
        method=request.method,
        path=path,
        query=query,
        headers={name.lower(): value for name, value in request.headers.items()},
        body=body,
        request_id=request_id,
    )


async def _send(request: web.BaseRequest, reply: Reply, request_id: str, at: float) -> _Written:
    """Write all of the answer, or as much of it as the reply wants to arrive.

    Args:
        request: what is answered.
        reply: the answer.
        request_id: the caller's, or ours.
        at: its date, if the reply has none, in seconds since 1970.

    Raises:
        ConnectionError: the client has left.
    """
    writer = request.writer
    version = request.version
    status_line = f"HTTP/{version.major}.{version.minor} {reply.status} {phrases[reply.status]}"
    await writer.write_headers(status_line, _headers(request, reply, request_id, at))
    body = reply.body if request.method != "HEAD" else b""
    if reply.is_cut:
        await writer.write(body[: len(body) // 2])
        _sever(request)
        return _ENDS
    if reply.over_s:
        writer.send_headers()
        size = max(1, -(-len(body) // _SLICES))
        for start in range(0, len(body), size):
            await anyio.sleep(reply.over_s * min(size, len(body) - start) / len(body))
            await writer.write(body[start : start + size])
        body = b""
    await writer.write_eof(body)
    return _GOES_ON if request.keep_alive else _ENDS


def _headers(
    request: web.BaseRequest, reply: Reply, request_id: str, at: float
) -> CIMultiDict[str]:
    headers = {"X-Request-Id": request_id, **dict(reply.headers)}
    if reply.body or reply.content_type != JSON:
        headers["Content-Type"] = reply.content_type
    headers["Content-Length"] = str(len(reply.body))
    if "Date" not in headers:
        headers["Date"] = _date(int(at))
    headers["Server"] = SERVER_SOFTWARE
    # What a version does unasked is not said.
    if not request.keep_alive:
        if request.version == HttpVersion11:
            headers["Connection"] = "close"
    elif request.version == HttpVersion10:
        headers["Connection"] = "keep-alive"
    return CIMultiDict(headers)


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    """Write a moment as headers do; most calls of a second share it."""
    return formatdate(second, usegmt=True)


def _is_gone(request: web.BaseRequest) -> bool:
    transport = request.transport
    return transport is None or transport.is_closing()


async def _hold(request: web.BaseRequest) -> None:
    """Wait until the client leaves, or too long."""
    with anyio.move_on_after(HOLD):
        while not _is_gone(request):  # noqa: ASYNC110  # aiohttp has no event for a client leaving
            await anyio.sleep(_LOOK_EVERY)


def _sever(request: web.BaseRequest) -> None:
    """Reset the connection: the client sees ECONNRESET, not an orderly end."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:  # pragma: no branch - TCP has one
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    transport.abort()
