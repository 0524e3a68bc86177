"""The service over HTTP, as the engine wants it.

Rules:

- A restart call ends in an answer, whatever happens on its way, and is made once: nothing here or
  below repeats a POST, follows a redirect or keeps a cookie. Two calls are made once more, with the
  same request id, for they were certainly not carried out: one that was turned away for its
  credentials, if others can be had; and a rolling restart, in its other spelling, if the gateway
  said that it knows no such call (404 and APIGW.0101).
- It was `unsent` only if its connection was never made; any other mishap is `lost`.
- A look either shows everything asked for or raises: a list with clusters missing is no list.
- Every call has one patience, `request_timeout`, from waiting for a connection to the body's end.
- Looks make room for restarts: they leave them connections, and go slower when an account is
  throttled (`pacing`).
- What a credential put into a call is blotted out of what is kept of its answer.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType, TracebackType
from typing import NamedTuple, Self

import anyio
from yarl import URL

from orchestrator.css.answers import (
    is_from_service,
    is_unauthorized,
    knows_no_such_call,
    limit_named,
    read_answer,
    read_detail,
    read_listing,
    read_refusal,
    refuses_values,
    words_in,
)
from orchestrator.css.codes import ErrorClass
from orchestrator.css.credentials import NOBODY, CredentialProvider
from orchestrator.css.endpoints import Endpoint, read_endpoint
from orchestrator.css.exchange import BrokenCallError, Exchange, Reply
from orchestrator.css.inventory import Cluster, read_inventory
from orchestrator.css.listing import ClusterT, Page, Pass, missing
from orchestrator.css.pacing import PATIENCE, Looks
from orchestrator.css.tls import USUAL, Tls
from orchestrator.css.turnstile import Renew, Turnstile
from orchestrator.errors import (
    CloudError,
    HeldBackError,
    IncompleteError,
    OrchestratorError,
    UsageError,
)
from orchestrator.model import (
    Answer,
    Call,
    ClusterState,
    ErrorInfo,
    Leave,
    Target,
    Verdict,
    leave_at_once,
)
from orchestrator.span import format_span

SMALL_BODY = 1024 * 1024
"""Bytes of a restart's answer or of one cluster's detail; more is not read."""

PAGE_BODY = 64 * SMALL_BODY
"""Bytes of one page of a list; more is not read."""

PAGE_SIZES = (1000, 100, 10)
"""Clusters asked for in a page; the next smaller when the service refuses the first."""

MOST_PAGES = 10_000
"""Pages read of one list before it is called endless."""

LEAVES_WITHIN = 10.0
"""Seconds after which a restart does not leave any more that had to wait for its credential: what
it was allowed for, and what its cluster looked like, is of the moment when it was asked for."""

REREADS = 2
"""Times a list is read again from the start when clusters were missing at its end."""

FOR_RESTARTS = 10
"""One in so many connections is kept from looks, for restarts."""

_OK = 200
_THROTTLED = 429
_MAY_REFUSE = frozenset({400, 401})
"""The statuses that refuse credentials; the service itself does so with the first."""

_PACKED = MappingProxyType({"Accept-Encoding": "gzip, deflate"})
_LEAST_SECRET = 8
_PUBLIC_HEADERS = frozenset({"x-project-id", "x-domain-id", "x-sdk-date", "host", "content-type"})

_PATHS: Mapping[Call, tuple[str, str]] = {
    Call.RESTART: ("v1.0", "restart"),
    Call.RESTART_PART: ("v2.0", "restart"),
    Call.ROLLING: ("v2.0", "rolling-restart"),
    Call.REBOOT: ("v1.0", "reboot"),
}

_OLD_ROLLING = "rolling_restart"
"""How older gateways spell a rolling restart."""

_ReadPage = Callable[[bytes], Page[ClusterT]]


_REFUSING: Mapping[str, tuple[Verdict, ErrorClass]] = {
    ErrorClass.UNAUTHORIZED.value: (Verdict.UNAUTHORIZED, ErrorClass.UNAUTHORIZED),
    ErrorClass.FORBIDDEN.value: (Verdict.REFUSED, ErrorClass.FORBIDDEN),
}
"""What it means that no credential was given out for a call, by class of the error."""


class _Request(NamedTuple):
    """One call, but for its credentials."""

    method: str
    project_id: str
    endpoint: Endpoint
    url: URL
    headers: Mapping[str, str]
    most: int
    """Bytes of an answer that are read at the most."""
    body: bytes = b""
    leave_by: float = math.inf
    """The steady moment after which it must not leave any more."""
    leave: Leave = leave_at_once
    """Called right before it leaves."""


class _Sent(NamedTuple):
    """What came of one call, and when its credentials were given out."""

    reply: Reply
    given_at: float


class CssClient:
    """The service, for as long as the context lasts; fits `engine.Cloud`.

    Args:
        endpoint_for: the endpoint's URL for a project and the region its target names.
        credentials: what authenticates each call.
        now: the steady moment, for the times of an answer.
        request_timeout: seconds of patience with one call.
        connections: connections open at once; further calls wait, which is within their patience.
        tls: whom to trust, and what to show.
    """

    def __init__(
        self,
        endpoint_for: Callable[[str, str | None], str],
        credentials: CredentialProvider,
        now: Callable[[], float],
        *,
        request_timeout: float = 30.0,
        connections: int = 100,
        tls: Tls = USUAL,
    ) -> None:
        self._endpoint_for = endpoint_for
        self._patience = request_timeout
        self._credentials = credentials
        self._now = now
        self._exchange = Exchange(patience=request_timeout, connections=connections, tls=tls)
        self._endpoints: dict[tuple[str, str | None], Endpoint] = {}
        self._turnstiles: dict[str, Turnstile] = {}
        self._looks: dict[str, Looks] = {}
        kept = max(1, connections // FOR_RESTARTS)
        self._looking = anyio.Semaphore(max(1, connections - kept), fast_acquire=True)
        self._page_size = PAGE_SIZES[0]
        self._old_rolling: set[URL] = set()
        """Addresses that know only the older spelling of a rolling restart."""

    async def __aenter__(self) -> Self:
        """Open the pool of connections.

        Raises:
            UsageError: a file of certificates cannot be read.
        """
        await self._exchange.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._exchange.__aexit__(kind, error, traceback)

    # ---------------------------------------------------------------------------------- restart

    async def restart(
        self, target: Target, request_id: str, leave: Leave = leave_at_once
    ) -> Answer:
        """Ask for one restart; whatever happens on the way is in the answer, never raised.

        Raises:
            HeldBackError: it was not let when it would have left; no byte of it did.
        """
        sent_at = self._now()

        def depart() -> None:
            nonlocal sent_at
            leave()
            sent_at = self._now()

        try:
            endpoint = self._endpoint(target.project_id, target.region)
            verb = self._verb_of(target, endpoint)
            looks = self._looks_of(target.project_id)
            looks.restart_begins()
            try:
                reply = await self._post(target, endpoint, verb, request_id, depart)
                if verb != _OLD_ROLLING and target.kind.call is Call.ROLLING:
                    reply = await self._spelled_otherwise(
                        reply, target, endpoint, request_id, depart
                    )
            finally:
                looks.restart_ended()
        except HeldBackError:
            raise
        except OrchestratorError as exc:
            return self._not_asked(exc, sent_at, request_id)
        except BrokenCallError as exc:
            return self._broken(exc, sent_at, request_id)
        return read_answer(
            reply.status,
            reply.headers,
            reply.body,
            sent_at=sent_at,
            answered_at=self._now(),
            request_id=request_id,
            now_wall=time.time(),
        )

    def _verb_of(self, target: Target, endpoint: Endpoint) -> str:
        verb = _PATHS[target.kind.call][1]
        is_old = target.kind.call is Call.ROLLING and endpoint.base in self._old_rolling
        return _OLD_ROLLING if is_old else verb

    async def _spelled_otherwise(
        self,
        reply: Reply,
        target: Target,
        endpoint: Endpoint,
        request_id: str,
        leave: Leave,
    ) -> Reply:
        """Return `reply`, or that to the older spelling if nobody there knows the newer one."""
        if not knows_no_such_call(reply.status, reply.body):
            return reply
        other = await self._post(target, endpoint, _OLD_ROLLING, request_id, leave)
        if not knows_no_such_call(other.status, other.body):
            self._old_rolling.add(endpoint.base)
        return other

    async def _post(
        self,
        target: Target,
        endpoint: Endpoint,
        verb: str,
        request_id: str,
        leave: Leave,
    ) -> Reply:
        """Ask for the restart in one spelling."""
        version = _PATHS[target.kind.call][0]
        url = endpoint.url(version, target.project_id, target.cluster_id, verb)
        headers = {"X-Request-Id": request_id}
        body = _body_of(target)
        leave_by = self._now() + LEAVES_WITHIN
        return await self._send(
            _Request(
                "POST", target.project_id, endpoint, url, headers, SMALL_BODY, body, leave_by,
                leave,
            )
        )  # fmt: skip

    def _not_asked(self, error: OrchestratorError, sent_at: float, request_id: str) -> Answer:
        """Return the answer of a call that was not made, for want of an address or a credential."""
        verdict, name = Verdict.REFUSED, ErrorClass.BAD_REQUEST
        status = code = retry_after = None
        if isinstance(error, CloudError):
            verdict, name = Verdict.UNSENT, ErrorClass.UNSENT
            status, code, retry_after = error.status, error.code, error.retry_after
            if error.error_class in _REFUSING:
                verdict, name = _REFUSING[error.error_class]
        return Answer(
            verdict=verdict,
            sent_at=sent_at,
            answered_at=self._now(),
            request_id=request_id,
            retry_after=retry_after,
            error=ErrorInfo(
                error_class=name.value,
                message=str(error),
                status=status,
                code=code,
                request_id=request_id,
            ),
        )

    def _broken(self, error: BrokenCallError, sent_at: float, request_id: str) -> Answer:
        name, message = ErrorClass.UNSENT, str(error)
        if error.may_have_left:
            name, message = ErrorClass.LOST, f"{error}; it may have begun, so look at the cluster"
        return Answer(
            verdict=Verdict.LOST if error.may_have_left else Verdict.UNSENT,
            sent_at=sent_at,
            answered_at=self._now(),
            status=error.status,
            request_id=request_id,
            error=ErrorInfo(
                error_class=name.value,
                message=message,
                status=error.status,
                request_id=request_id,
            ),
        )

    # ------------------------------------------------------------------------------------ looks

    async def show_cluster(self, target: Target) -> ClusterState:
        """Return one cluster.

        Raises:
            GoneError: the service does not know it, or not for us.
            CloudError: no usable answer; looking again later may help.
        """
        doing = f"looking at cluster {target}"
        reply = await self._look(
            target.project_id, target.region, doing, cluster_id=target.cluster_id, most=SMALL_BODY
        )
        if reply.status != _OK:
            raise _refusal(reply, doing)
        try:
            found, state = read_detail(reply.body)
        except ValueError as exc:
            raise _unreadable(reply, doing, exc) from exc
        if found != target.cluster_id:
            raise _unreadable(reply, doing, ValueError("it shows another cluster"))
        return state

    async def probe(self, project_id: str, region: str | None) -> None:
        """Make the smallest look at a project that there is.

        Raises:
            CloudError: it did not succeed.
        """
        await self._page(project_id, region, 1, 1, read_listing, may_end=False)

    async def list_clusters(
        self, project_id: str, region: str | None
    ) -> Mapping[str, ClusterState]:
        """Return all clusters of a project by id.

        Raises:
            IncompleteError: the list lacks clusters that the service counts.
            CloudError: no list could be had; looking again later may help.
        """
        return await self._whole_list(project_id, region, read_listing)

    async def take_inventory(self, project_id: str, region: str | None) -> Mapping[str, Cluster]:
        """Return all clusters of a project by id, with all that the list says of them.

        Raises:
            IncompleteError: the list lacks clusters that the service counts.
            CloudError: no list could be had; looking again later may help.
        """
        return await self._whole_list(project_id, region, read_inventory)

    async def _whole_list(
        self, project_id: str, region: str | None, read: _ReadPage[ClusterT]
    ) -> Mapping[str, ClusterT]:
        union: dict[str, ClusterT] = {}
        rereads = REREADS
        while True:
            latest = await self._read_list(project_id, region, read)
            if latest.is_whole:
                return latest.clusters
            union |= latest.clusters
            # Clusters that move are missing in turn; all passes together may have every one.
            if latest.total is not None and len(union) >= latest.total:
                return union
            if not rereads:
                raise IncompleteError(
                    f"{_listing(project_id)}: {missing(latest, len(union))} after reading the list "
                    f"{1 + REREADS} times; look again when no clusters are being created or "
                    "deleted",
                    union,
                )
            rereads -= 1

    async def _read_list(
        self, project_id: str, region: str | None, read: _ReadPage[ClusterT]
    ) -> Pass[ClusterT]:
        """Read the list once from its start, as far as it goes."""
        page, size = await self._first_page(project_id, region, read)
        latest: Pass[ClusterT] = Pass(size)
        latest.add(page)
        for _ in range(MOST_PAGES):
            if latest.is_over:
                return latest
            start = latest.received + 1
            following = await self._page(project_id, region, size, start, read, may_end=True)
            latest.add(following or ((), None))
        raise CloudError(
            f"{_listing(project_id)}: it did not end after {MOST_PAGES} pages of {size}; "
            "check that the endpoint is the service's"
        )

    async def _first_page(
        self, project_id: str, region: str | None, read: _ReadPage[ClusterT]
    ) -> tuple[Page[ClusterT], int]:
        """Return the first page, and its size: the largest that the service takes."""
        for size in PAGE_SIZES:
            if size <= self._page_size:
                is_last = size == PAGE_SIZES[-1]
                page = await self._page(project_id, region, size, 1, read, may_end=not is_last)
                if page is not None:
                    self._page_size = size
                    return page, size
        raise AssertionError("the last size is refused by raising")  # pragma: no cover

    async def _page(
        self,
        project_id: str,
        region: str | None,
        size: int,
        start: int,
        read: _ReadPage[ClusterT],
        *,
        may_end: bool,
    ) -> Page[ClusterT] | None:
        """Return one page, or None if `may_end` and the service refuses size or start."""
        doing = _listing(project_id)
        # Older services count from `start`, newer ones from `offset`.
        query = f"limit={size}&offset={start}&start={start}"
        # Who has begun to read a list does not begin anew for want of a moment.
        patience = PATIENCE if start == 1 else self._patience
        reply = await self._look(
            project_id, region, doing, query=query, most=PAGE_BODY, patience=patience
        )
        if reply.status != _OK:
            if may_end and refuses_values(reply.status, reply.body):
                return None
            raise _refusal(reply, doing)
        try:
            return read(reply.body)
        except ValueError as exc:
            raise _unreadable(reply, doing, exc) from exc

    async def _look(
        self,
        project_id: str,
        region: str | None,
        doing: str,
        *,
        most: int,
        cluster_id: str | None = None,
        query: str = "",
        patience: float = PATIENCE,
    ) -> Reply:
        """Read one resource of a project; what tells of an error has no credentials in it."""
        try:
            endpoint = self._endpoint(project_id, region)
            url = endpoint.url("v1.0", project_id, cluster_id, query=query)
            looks = self._looks_of(project_id)
            what = f"{project_id}/{cluster_id or ''}"
            asked_at = await looks.turn(what, doing, patience=patience)
            await self._wait_for_connection(doing)
            try:
                reply = await self._send(_Request("GET", project_id, endpoint, url, _PACKED, most))
            finally:
                self._looking.release()
        except UsageError as exc:
            name = ErrorClass.BAD_REQUEST.value
            raise CloudError(f"{doing}: {exc}", error_class=name) from exc
        except BrokenCallError as exc:
            name = (ErrorClass.LOST if exc.may_have_left else ErrorClass.UNSENT).value
            raise CloudError(f"{doing}: {exc}; look again later", error_class=name) from exc
        if reply.status != _THROTTLED:
            looks.went_well()
            return reply
        refusal = _refusal(reply, doing)
        wait = looks.throttled(asked_at, refusal.retry_after, limit_named(reply.body))
        refusal.retry_after = max(wait, refusal.retry_after or 0.0)
        raise refusal

    def _looks_of(self, project_id: str) -> Looks:
        account = self._credentials.account_of(project_id)
        found = self._looks.get(account)
        if found is None:
            found = self._looks[account] = Looks(self._now)
        return found

    async def _wait_for_connection(self, doing: str) -> None:
        """Wait for one of the connections that looks may use; the others are for restarts."""
        try:
            with anyio.fail_after(self._patience):
                await self._looking.acquire()
        except TimeoutError as exc:
            raise CloudError(
                f"{doing}: no connection was free within {format_span(self._patience)}; look again "
                "later, or allow more connections",
                error_class=ErrorClass.UNSENT.value,
            ) from exc

    # ------------------------------------------------------------------------------------- calls

    async def _send(self, request: _Request) -> Reply:
        """Make one call of a project's account, as soon as the account may make it.

        Raises:
            BrokenCallError: there is no whole answer.
            CloudError: nothing was sent, for want of a credential; of class `unauthorized` if the
                account was refused before.
            UsageError: there is no credential.
        """
        account = self._credentials.account_of(request.project_id)
        if account == NOBODY:
            return (await self._send_once(request)).reply
        turnstile = self._turnstiles.get(account)
        if turnstile is None:
            turnstile = self._turnstiles[account] = Turnstile(account, self._now)
        if turnstile.is_open:
            return await self._send_through(turnstile, request)
        async with turnstile.turn(self._renewal(request), request.project_id):
            return await self._send_through(turnstile, request)

    def _renewal(self, request: _Request) -> Renew:
        return partial(self._credentials.renew, request.project_id)

    async def _send_through(self, turnstile: Turnstile, request: _Request) -> Reply:
        """Make one call, and once more if its credentials were refused and there are others."""
        sent = await self._send_once(request)
        if _is_refused(sent.reply):
            self._take_refusal(turnstile, request, sent)
            if not await turnstile.renew(self._renewal(request), request.project_id):
                return sent.reply
            sent = await self._send_once(request)
            if _is_refused(sent.reply):
                self._take_refusal(turnstile, request, sent)
                return sent.reply
        if is_from_service(sent.reply.status, sent.reply.body):
            turnstile.accept(sent.given_at, request.project_id)
        return sent.reply

    def _take_refusal(self, turnstile: Turnstile, request: _Request, sent: _Sent) -> None:
        words = words_in(*sent.reply, now_wall=time.time())
        turnstile.refuse(sent.given_at, words, request.project_id)

    async def _send_once(self, request: _Request) -> _Sent:
        """Make one call, once; what comes back has no credentials in it."""
        method, project_id, endpoint, url, headers, most, body, leave_by, leave = request
        signed = await self._credentials.headers(project_id, method, url, body)
        given_at = self._now()
        if given_at > leave_by:
            raise CloudError(
                f"its credential was not to be had within {format_span(LEAVES_WITHIN)}, and after "
                "that it is too late; try again",
                error_class=ErrorClass.UNSENT.value,
            )
        reply = await self._exchange.call(
            method,
            url,
            {**signed, **headers},
            endpoint=endpoint,
            body=body,
            most=most,
            leave=leave,
        )
        if method != "GET" or reply.status != _OK:
            reply = _blotted(reply, signed)
        return _Sent(reply, given_at)

    def _endpoint(self, project_id: str, region: str | None) -> Endpoint:
        """Return where calls for a project go.

        Raises:
            UsageError: no call may go there.
        """
        known = self._endpoints.get((project_id, region))
        if known is None:
            known = read_endpoint(self._endpoint_for(project_id, region))
            self._endpoints[project_id, region] = known
        return known


def _is_refused(reply: Reply) -> bool:
    return reply.status in _MAY_REFUSE and is_unauthorized(reply.status, reply.body)


def _body_of(target: Target) -> bytes:
    kind = target.kind
    if kind.call is Call.RESTART or kind.call is Call.REBOOT:
        return b""
    wanted = {"type": "role", "value": ",".join(kind.roles) or "all"}
    if kind.node is not None:
        wanted = {"type": "node", "value": kind.node}
    return json.dumps(wanted).encode()


def _blotted(reply: Reply, signed: Mapping[str, str]) -> Reply:
    """Return the answer without what a credential put into the call's headers."""
    body = reply.body
    for name, value in signed.items():
        secret = value.encode()
        if len(secret) >= _LEAST_SECRET and secret in body and name.lower() not in _PUBLIC_HEADERS:
            body = body.replace(secret, b"***")
    return reply if body is reply.body else reply._replace(body=body)


def _listing(project_id: str) -> str:
    return f"listing the clusters of project {project_id}"


def _refusal(reply: Reply, doing: str) -> CloudError:
    return read_refusal(reply.status, reply.headers, reply.body, doing, now_wall=time.time())


def _unreadable(reply: Reply, doing: str, error: ValueError) -> CloudError:
    return CloudError(
        f"{doing}: the answer cannot be used: {error}; check that the endpoint is the service's",
        status=reply.status,
        error_class=ErrorClass.LOST.value,
    )
