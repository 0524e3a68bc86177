"""The pretend service without a wire: the engine's cloud, straight over `service`, in any time.

Waiting is `anyio.sleep`, so a rehearsal in virtual time takes no time at all. Replies are read by
the same reader as those of the real service, which is handed in: nothing is translated twice.

A call that has arrived is carried out even if its caller gave up or was cancelled. Nobody has to
stay behind for that: what is due is carried out, in order, before anybody looks again.
"""

import heapq
import itertools
import json
import math
from collections.abc import Callable, Mapping
from typing import Protocol

import anyio

from orchestrator.errors import CloudError, GoneError
from orchestrator.model import (
    Answer,
    Call,
    ClusterState,
    ErrorInfo,
    Kind,
    Leave,
    Target,
    Verdict,
    leave_at_once,
)
from orchestrator.simulator.replies import Hang, Reply
from orchestrator.simulator.service import Ask, Done, Handling, Reading, Service
from orchestrator.simulator.trace import Tracer, What, note, note_ending, note_execution


class Reader(Protocol):
    """Who understands the service's replies; those of the real client fit by shape."""

    def read_answer(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        *,
        sent_at: float,
        answered_at: float,
        request_id: str,
    ) -> Answer:
        """Return what a reply to a restart means."""

    def read_cluster(self, document: Mapping[str, object]) -> tuple[str, ClusterState]:
        """Return id and state of a cluster as detail and list print it."""

    def read_refusal(
        self, status: int, headers: Mapping[str, str], body: bytes, doing: str
    ) -> CloudError:
        """Return what to raise for a look that was refused."""


class _Pending:
    """A call on its way, and what it came to once it was carried out."""

    __slots__ = ("due_at", "handling", "outcome")

    def __init__(self, handling: Handling, due_at: float) -> None:
        self.handling = handling
        self.due_at = due_at
        self.outcome: Done | None = None


class _Project:
    """What the clusters of a project looked like last, and until when that holds of which."""

    __slots__ = ("first", "moving", "states")

    def __init__(self, cluster_ids: tuple[str, ...]) -> None:
        self.first: dict[str, tuple[bytes, ClusterState]] = {}
        """How each cluster looked first, read: after its restart it looks so again."""
        self.states: Mapping[str, ClusterState] = {}
        self.moving = dict.fromkeys(cluster_ids, -math.inf)


class MemoryCloud:
    """The service as the engine's `Cloud`.

    Args:
        service: how clusters behave; nobody else may be talking to it.
        reader: who understands its replies.
        now: the run's clock, which anyio's sleeping must follow.
        patience: seconds after which a call without an answer is given up.
        trace: who is told of every call as it happens.
    """

    def __init__(
        self,
        service: Service,
        reader: Reader,
        *,
        now: Callable[[], float],
        patience: float = 30.0,
        trace: Tracer | None = None,
    ) -> None:
        self._service = service
        self._reader = reader
        self._now = now
        self._patience = patience
        self._trace = trace
        self._pending: list[tuple[float, int, _Pending]] = []
        self._order = itertools.count()
        self._projects: dict[str, _Project] = {}

    async def restart(
        self, target: Target, request_id: str, leave: Leave = leave_at_once
    ) -> Answer:
        """Ask for one restart; whatever happens on the way is in the answer, never raised.

        Raises:
            HeldBackError: it was not let; nothing was asked.
        """
        leave()
        sent_at = self._now()
        pending = self._send(
            Ask(
                call=target.kind.call,
                project_id=target.project_id,
                cluster_id=target.cluster_id,
                request_id=request_id,
                body=_body_of(target.kind),
            )
        )
        reply = await self._reply_to(pending)
        if reply is None:
            return self._lost(sent_at, request_id)
        return self._reader.read_answer(
            reply.status,
            _headers(reply, request_id),
            reply.body,
            sent_at=sent_at,
            answered_at=self._now(),
            request_id=request_id,
        )

    async def list_clusters(
        self,
        project_id: str,
        region: str | None,  # noqa: ARG002  # here a project is enough to find its clusters
    ) -> Mapping[str, ClusterState]:
        """Return all clusters of a project by id.

        Raises:
            CloudError: the look met a fault; looking again later may help.
        """
        ask = Ask(call=Reading.LIST, project_id=project_id, request_id="")
        await self._look(ask, f"listing the clusters of project {project_id}")
        project = self._projects.get(project_id)
        if project is None:
            project = _Project(self._service.clusters_of(project_id))
            self._projects[project_id] = project
        self._refresh(project_id, project)
        return project.states

    async def show_cluster(self, target: Target) -> ClusterState:
        """Return one cluster.

        Raises:
            GoneError: there is no such cluster.
            CloudError: the look met a fault; looking again later may help.
        """
        ask = Ask(
            call=Reading.DETAIL,
            project_id=target.project_id,
            cluster_id=target.cluster_id,
            request_id="",
        )
        await self._look(ask, f"looking at cluster {target}")
        text = self._service.look(target.project_id, target.cluster_id, self._now()).text
        if text is None:
            raise GoneError(
                f"looking at cluster {target}: there is no such cluster",
                status=403,
                code="CSS.0015",
                error_class="not_found",
            )
        return self._reader.read_cluster(json.loads(text))[1]

    def settle(self) -> None:
        """Carry out every call that is still on its way; for traces of a run that has ended."""
        self._catch_up(math.inf)

    # -------------------------------------------------------------------------------------- calls

    def _send(self, ask: Ask) -> _Pending:
        now = self._now()
        self._catch_up(now)
        handling = self._service.receive(ask, now)
        note(self._trace, What.RECEIVED, handling, now)
        pending = _Pending(handling, now + handling.wait_before_s)
        heapq.heappush(self._pending, (pending.due_at, next(self._order), pending))
        return pending

    def _catch_up(self, until: float) -> None:
        """Carry out what is due, in the order in which it was."""
        while self._pending and self._pending[0][0] <= until:
            due_at, _, pending = heapq.heappop(self._pending)
            handling = pending.handling
            pending.outcome = self._service.execute(handling, due_at)
            note_execution(self._trace, handling, due_at, pending.outcome)
            project = self._projects.get(handling.ask.project_id)
            if pending.outcome.begun is not None and project is not None:
                project.moving[handling.ask.cluster_id] = -math.inf

    async def _reply_to(self, pending: _Pending) -> Reply | None:
        """Wait for the end of a call as its client sees it; None if no whole answer comes."""
        handling = pending.handling
        if handling.wait_before_s > self._patience:
            await self._give_up(handling, self._patience)
            return None
        await _sleep(handling.wait_before_s)
        # A timer may fire a hair early; for this call its moment has come all the same.
        self._catch_up(max(self._now(), pending.due_at))
        done = pending.outcome
        if done is None:  # pragma: no cover - it was due
            raise RuntimeError("a call that was due was not carried out")
        rest = self._patience - handling.wait_before_s
        ending = done.ending
        wait = math.inf
        if isinstance(ending, Reply):
            wait = handling.wait_after_s + ending.over_s
        elif not isinstance(ending, Hang):
            wait = handling.wait_after_s
        if wait > rest:
            await self._give_up(handling, rest)
            return None
        await _sleep(wait)
        note_ending(self._trace, handling, self._now(), done)
        return ending if isinstance(ending, Reply) and not ending.is_cut else None

    async def _give_up(self, handling: Handling, after: float) -> None:
        await anyio.sleep(after)
        note(self._trace, What.LEFT, handling, self._now())

    def _lost(self, sent_at: float, request_id: str) -> Answer:
        now = self._now()
        return Answer(
            verdict=Verdict.LOST,
            sent_at=sent_at,
            answered_at=now,
            request_id=request_id,
            error=ErrorInfo(
                error_class="lost",
                message=f"no whole answer came within {now - sent_at:.3f}s",
                request_id=request_id,
            ),
        )

    # -------------------------------------------------------------------------------------- looks

    async def _look(self, ask: Ask, doing: str) -> None:
        """Go through a look as far as its faults and latencies; the caller then reads the state."""
        now = self._now()
        self._catch_up(now)
        handling = self._service.receive(ask, now)
        if handling.wait_before_s > self._patience:
            await anyio.sleep(self._patience)
            raise CloudError(f"{doing}: no answer within {self._patience}s; looking again may help")
        await _sleep(handling.wait_before_s)
        now = self._now()
        self._catch_up(now)
        if handling.fault is None:
            return
        ending = self._service.execute(handling, now).ending
        if isinstance(ending, Reply):
            raise self._reader.read_refusal(ending.status, _headers(ending, ""), ending.body, doing)
        raise CloudError(f"{doing}: the connection was reset; looking again may help")

    def _refresh(self, project_id: str, project: _Project) -> None:
        """Read again what may have changed: clusters that move by time, or were restarted since.

        Whoever got the states of an earlier look keeps them as they were.
        """
        now = self._now()
        due = [cluster_id for cluster_id, until in project.moving.items() if until <= now]
        if not due:
            return
        states = dict(project.states)
        for cluster_id in due:
            look = self._service.look(project_id, cluster_id, now)
            if look.text is None:
                states.pop(cluster_id, None)
            else:
                states[cluster_id] = self._read(project, cluster_id, look.text)
            if math.isinf(look.until):
                del project.moving[cluster_id]
            else:
                project.moving[cluster_id] = look.until
        project.states = states

    def _read(self, project: _Project, cluster_id: str, text: bytes) -> ClusterState:
        first = project.first.get(cluster_id)
        if first is not None and first[0] is text:
            return first[1]
        _, state = self._reader.read_cluster(json.loads(text))
        project.first.setdefault(cluster_id, (text, state))
        return state


async def _sleep(seconds: float) -> None:
    # A service that answers at once needs no turn of the loop for it: there are many calls.
    if seconds:
        await anyio.sleep(seconds)


def _headers(reply: Reply, request_id: str) -> dict[str, str]:
    headers = {"Content-Type": reply.content_type, **dict(reply.headers)}
    return headers | {"X-Request-Id": request_id} if request_id else headers


def _body_of(kind: Kind) -> bytes:
    """Return the body that the v2.0 calls need; the v1.0 calls have none."""
    if kind.call in {Call.RESTART, Call.REBOOT}:
        return b""
    if kind.node is not None:
        content = {"type": "node", "value": kind.node}
    else:
        content = {"type": "role", "value": ",".join(kind.roles) or "all"}
    return json.dumps(content).encode()
