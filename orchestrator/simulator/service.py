"""The pretend service: what it makes of a call, as a function of what was asked and when.

Pure: no clock, no I/O. Time comes in as `now`, seconds on any axis that never goes back.

A call has two moments, so that a server can put real time between them:

    handling = service.receive(ask, now)            # the call has arrived; faults are drawn
    …  handling.wait_before_s later, whether or not the client still listens  …
    done = service.execute(handling, now)           # the cluster begins to restart, or not
    …  handling.wait_after_s later  …               # done.ending is the answer, or why none comes

The execution is what counts. Faults are drawn from (seed, project, cluster, call number) alone.
"""

import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import partial

import msgspec

from orchestrator.limits import Rate
from orchestrator.model import ROLES, Call, Target
from orchestrator.simulator import replies
from orchestrator.simulator.cluster import (
    DATA_ROLES,
    DATASTORES,
    LOGSTASH,
    Begun,
    Cluster,
    Look,
    Node,
)
from orchestrator.simulator.draws import Luck
from orchestrator.simulator.gate import Gate
from orchestrator.simulator.iam import Iam
from orchestrator.simulator.replies import Ending, Hang, Reply, Sever
from orchestrator.simulator.scenario import (
    AnswerForm,
    Behaviour,
    Fault,
    ReadFault,
    Scenario,
    strike,
)

DEFAULT_PAGE = 10
LARGEST_PAGE = 1000
"""Clusters on one page of a list: without a `limit`, and at most."""

ROLLING_NODES = 3
"""A rolling restart is refused on clusters with fewer nodes."""


class Reading(StrEnum):
    """The two calls that only look."""

    LIST = "list"
    DETAIL = "detail"


class Ask(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call as it arrived; for a list `cluster_id` is empty."""

    call: Call | Reading
    project_id: str
    request_id: str
    cluster_id: str = ""
    query: Mapping[str, str] = {}
    body: bytes = b""


class Handling(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What will happen with a call: when it is carried out, and when it is answered after that."""

    ask: Ask
    wait_before_s: float = 0.0
    wait_after_s: float = 0.0
    executes: bool = True
    """Whether it gets through to the cluster; a fault may stand before it."""
    fault: Fault | ReadFault | None = None
    over_s: float = 0.0
    """How long the body of the answer takes."""
    cluster: Cluster | None = None


class Done(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a call came to: how it ends for the client, and what it began if it began anything."""

    ending: Ending
    begun: Begun | None = None
    status: int | None = None
    """What the service itself answered, even if the answer is then lost."""
    code: str | None = None


class _RefusedError(Exception):
    """The call cannot be carried out; carries the answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.code)
        self.reply = reply


class _Quota:
    """The calls of one sort that an account may make in any interval, and those it made."""

    __slots__ = ("_made", "_rate")

    def __init__(self, rate: Rate | None) -> None:
        self._rate = rate
        self._made: deque[float] = deque()

    def is_used_up(self, now: float) -> bool:
        """Count a call, unless there were as many as are allowed already."""
        if self._rate is None:
            return False
        while self._made and self._made[0] <= now - self._rate.per:
            self._made.popleft()
        if len(self._made) >= self._rate.most:
            return True
        self._made.append(now)
        return False

    def words(self, usual: str) -> str:
        """Return what a 429 says of the limit; `usual` where there is none."""
        if self._rate is None:
            return usual
        unit, seconds = next(u for u in _UNITS if self._rate.per % u[1] == 0 or u[1] == 1.0)
        return f"limit:{self._rate.most},time:{self._rate.per / seconds:g} {unit}"


_UNITS = (("hour", 3600.0), ("minute", 60.0), ("second", 1.0))


class _Project:
    """The clusters of one project, how often its list was asked for, and what it may do."""

    __slots__ = ("_listed", "_listed_until", "by_id", "read_quota", "reads", "writes")

    def __init__(self, writes: _Quota, reads: _Quota) -> None:
        self.by_id: dict[str, Cluster] = {}
        self.reads = 0
        self.writes = writes
        self.read_quota = reads
        self._listed: Sequence[bytes] = ()
        self._listed_until = -math.inf

    def newest_first(self, now: float, datastore: str) -> Sequence[bytes]:
        """Return the texts of all clusters that are there, the newest creation first."""
        if datastore:
            return _texts(
                cluster.look(now)
                for cluster in reversed(self.by_id.values())
                if cluster.datastore == datastore
            )
        # The pages of one list are asked for one after the other, and there may be many.
        if now >= self._listed_until:
            looks = [cluster.look(now) for cluster in reversed(self.by_id.values())]
            self._listed = _texts(looks)
            self._listed_until = min((look.until for look in looks), default=math.inf)
        return self._listed

    def changed(self) -> None:
        """Take note that a cluster looks different from now on for another reason than time."""
        self._listed_until = -math.inf


def _texts(looks: Iterable[Look]) -> list[bytes]:
    return [look.text for look in looks if look.text is not None]


class Service:
    """All clusters there are, and the gateway before them."""

    def __init__(self, targets: Sequence[Target], scenario: Scenario, seed: int = 0) -> None:
        self._seed = seed
        self._settings = scenario.base
        self._accounts = tuple(
            (one.match, _Quota(one.writes), _Quota(one.reads)) for one in scenario.accounts
        )
        self._projects: dict[str, _Project] = {}
        known: dict[tuple[int, ...], Behaviour] = {}
        for position, target in enumerate(targets):
            matching = scenario.matching(target)
            behaviour = known.get(matching)
            if behaviour is None:
                behaviour = known[matching] = scenario.behaviour(matching)
            lasting = scenario.lasting.get((target.project_id, target.cluster_id))
            cluster = Cluster(target, behaviour, seed, position, lasting)
            project = self._projects.get(target.project_id)
            if project is None:
                project = self._projects[target.project_id] = self._new_project(target.project_id)
            project.by_id.setdefault(target.cluster_id, cluster)
        self.clock_ahead = scenario.auth.clock_ahead
        """Seconds that the wall clock of gate and IAM is ahead of ours."""
        self.gate = Gate(scenario.auth)
        self.iam = Iam(scenario.auth, self.gate, _regions(targets), seed)

    def _new_project(self, project_id: str) -> _Project:
        for match, writes, reads in self._accounts:
            if fnmatchcase(project_id, match):
                return _Project(writes, reads)
        return _Project(_Quota(None), _Quota(None))

    def _luck(self, ask: Ask, cluster: Cluster | None) -> Luck:
        """Return the luck of a call, even if it is about no cluster that there is."""
        return cluster.luck if cluster else Luck(self._seed, ask.project_id, ask.cluster_id)

    def receive(self, ask: Ask, now: float) -> Handling:
        """Take in a call, and draw its fault and its latencies; nothing is carried out yet."""
        if isinstance(ask.call, Reading):
            return self._receive_read(ask, now)
        project = self._projects.get(ask.project_id)
        cluster = project.by_id.get(ask.cluster_id) if project else None
        settings = cluster.behaviour if cluster else self._settings
        number = 1
        if cluster is not None:
            cluster.calls = number = cluster.calls + 1
        drawn = self._luck(ask, cluster).draw("call", number)
        fault = strike(settings.faults, number, drawn[0])
        if project is not None and project.writes.is_used_up(now):
            fault = Fault.THROTTLED
        return Handling(
            ask=ask,
            wait_before_s=settings.before.at(drawn[1]),
            wait_after_s=settings.after.at(drawn[2]),
            executes=fault is None or fault.executes,
            fault=fault,
            over_s=settings.slow_over.at(drawn[3]) if fault is Fault.SLOW_BODY else 0.0,
            cluster=cluster,
        )

    def execute(self, handling: Handling, now: float) -> Done:
        """Carry out a call that was received, once; `now` is the moment that counts."""
        if isinstance(handling.ask.call, Reading):
            return self._read(handling, now)
        if not handling.executes:
            ending = _lost(handling) or self._gateway_reply(handling)
            return _done(ending, ending)
        try:
            begun, reply = self._begin(handling, handling.ask.call, now)
        except _RefusedError as refused:
            begun, reply = None, refused.reply
        return _done(_lost(handling) or _worn(reply, handling), reply, begun)

    def look(self, project_id: str, cluster_id: str, now: float) -> Look:
        """Return how a cluster looks, past all faults; for those who need no wire."""
        project = self._projects.get(project_id)
        cluster = project.by_id.get(cluster_id) if project else None
        return cluster.look(now) if cluster else Look(None, float("inf"))

    def clusters_of(self, project_id: str) -> tuple[str, ...]:
        """Return the ids of all clusters that a project may show, the newest creation first."""
        project = self._projects.get(project_id)
        return tuple(reversed(project.by_id)) if project else ()

    # ---------------------------------------------------------------------------------- restarts

    def _begin(self, handling: Handling, call: Call, now: float) -> tuple[Begun, Reply]:
        cluster = handling.cluster
        if cluster is None or not cluster.exists(now):
            raise _RefusedError(_missing(handling.ask.cluster_id))
        nodes = _nodes_of(cluster, call, handling.ask.body)
        if cluster.is_busy(now):
            raise _RefusedError(_busy(cluster.behaviour))
        begun = cluster.begin(call, nodes, now)
        self._projects[handling.ask.project_id].changed()
        if call is not Call.RESTART:
            return begun, replies.accepted()
        return begun, _acceptance(begun)

    def _gateway_reply(self, handling: Handling) -> Reply:
        """Return the answer of a call that a fault kept from its cluster."""
        settings = handling.cluster.behaviour if handling.cluster else self._settings
        request_id = handling.ask.request_id
        match handling.fault:
            case Fault.THROTTLED:
                project = self._projects.get(handling.ask.project_id)
                limit = settings.throttled_limit
                limit = project.writes.words(limit) if project is not None else limit
                return replies.throttled(request_id, limit, settings.retry_after)
            case Fault.BUSY:
                return _busy(settings)
            case Fault.UNAUTHORIZED:
                text = "Incorrect IAM authentication information: verify aksk signature fail"
                return replies.gateway_error(401, "APIGW.0301", text, request_id)
            case _:
                return replies.css_error(400, settings.refused_code, "the request is not valid")

    # ------------------------------------------------------------------------------------- reads

    def _receive_read(self, ask: Ask, now: float) -> Handling:
        project = self._projects.get(ask.project_id)
        cluster = project.by_id.get(ask.cluster_id) if project else None
        number = 1
        if cluster is not None:
            cluster.reads = number = cluster.reads + 1
        elif project is not None:
            project.reads = number = project.reads + 1
        settings = cluster.behaviour if cluster else self._settings
        drawn = self._luck(ask, cluster).draw(ask.call, number)
        fault = strike(settings.read_faults, number, drawn[0])
        if project is not None and project.read_quota.is_used_up(now):
            fault = ReadFault.THROTTLED
        return Handling(
            ask=ask,
            wait_before_s=settings.read.at(drawn[1]),
            executes=fault is None,
            fault=fault,
            cluster=cluster,
        )

    def _read(self, handling: Handling, now: float) -> Done:
        settings = handling.cluster.behaviour if handling.cluster else self._settings
        request_id = handling.ask.request_id
        match handling.fault:
            case ReadFault.THROTTLED:
                project = self._projects.get(handling.ask.project_id)
                limit = settings.throttled_limit
                limit = project.read_quota.words(limit) if project is not None else limit
                reply = replies.throttled(request_id, limit, settings.retry_after)
            case ReadFault.ERROR:
                reply = replies.page(500, "CloudMiddleWareTomcat")
            case ReadFault.RESET:
                return Done(ending=Sever())
            case _ if handling.ask.call is Reading.LIST:
                reply = self._list(handling.ask, now)
            case _:
                text = handling.cluster.look(now).text if handling.cluster else None
                reply = replies.document(text) if text else _missing(handling.ask.cluster_id)
        return _done(reply, reply)

    def _list(self, ask: Ask, now: float) -> Reply:
        try:
            start = _number(ask.query, ("start", "offset"), 1, None)
            limit = _number(ask.query, ("limit",), DEFAULT_PAGE, LARGEST_PAGE)
            datastore = _datastore(ask.query)
        except _RefusedError as refused:
            return refused.reply
        project = self._projects.get(ask.project_id)
        texts = project.newest_first(now, datastore) if project else ()
        page = b",".join(texts[start - 1 : start - 1 + limit])
        total = b"" if self._settings.legacy else b'"totalSize":%d,' % len(texts)
        return replies.document(b'{%b"clusters":[%b]}' % (total, page))


def _regions(targets: Iterable[Target]) -> dict[str, str | None]:
    """Return the region of each project: that of its first cluster."""
    regions: dict[str, str | None] = {}
    for target in targets:
        regions.setdefault(target.project_id, target.region)
    return regions


def _done(ending: Ending, own: Ending, begun: Begun | None = None) -> Done:
    """Say what a call came to; `own` is the answer of the service before it was lost, if any."""
    if isinstance(own, Reply):
        return Done(ending=ending, begun=begun, status=own.status, code=own.code)
    return Done(ending=ending, begun=begun)


_LOST: Mapping[Fault | ReadFault, Callable[[str], Ending]] = {
    Fault.RESET_BEFORE: lambda _: Sever(),
    Fault.RESET_AFTER: lambda _: Sever(),
    Fault.HANG_BEFORE: lambda _: Hang(),
    Fault.HANG_AFTER: lambda _: Hang(),
    Fault.ERROR_500_BEFORE: lambda _: replies.page(500, "CloudMiddleWareTomcat"),
    Fault.ERROR_500_AFTER: lambda _: replies.page(500, "CloudMiddleWareTomcat"),
    Fault.ERROR_502_BEFORE: partial(
        replies.gateway_error, 502, "APIGW.0202", "Backend unavailable"
    ),
    Fault.ERROR_502_AFTER: partial(replies.gateway_error, 502, "APIGW.0202", "Backend unavailable"),
    # The one lost answer that tells: the gateway could not ask IAM, so nothing went on.
    Fault.ERROR_503_BEFORE: partial(replies.gateway_error, 503, "APIGW.0613", "IAM unavailable"),
    Fault.ERROR_503_AFTER: lambda _: replies.page(503, "Service Unavailable"),
    Fault.ERROR_504_BEFORE: partial(replies.gateway_error, 504, "APIGW.0203", "Backend timeout"),
    Fault.ERROR_504_AFTER: partial(replies.gateway_error, 504, "APIGW.0203", "Backend timeout"),
}
"""What the client gets in place of the service's own answer, by its request id."""


def _lost(handling: Handling) -> Ending | None:
    if handling.fault is None or handling.fault not in _LOST:
        return None
    return _LOST[handling.fault](handling.ask.request_id)


def _worn(reply: Reply, handling: Handling) -> Reply:
    """Return the answer as a bad connection carries it."""
    if handling.fault is Fault.CUT_BODY:
        return msgspec.structs.replace(reply, is_cut=True)
    if handling.over_s:
        return msgspec.structs.replace(reply, over_s=handling.over_s)
    return reply


def _acceptance(begun: Begun) -> Reply:
    match begun.answer:
        case AnswerForm.LIST:
            return replies.accepted(f'{{"jobId": ["{begun.job_id}"]}}', begun.job_id)
        case AnswerForm.STRING:
            return replies.accepted(f'{{"jobId": "{begun.job_id}"}}', begun.job_id)
        case AnswerForm.OBJECT:
            return replies.accepted("{}")
        case AnswerForm.EMPTY:  # pragma: no branch - there are no more
            return replies.accepted()


def _missing(cluster_id: str) -> Reply:
    return replies.css_error(
        403, "CSS.0015", f"cluster {cluster_id} is not found, or access to it is not allowed"
    )


def _busy(settings: Behaviour) -> Reply:
    return replies.css_error(
        settings.busy_status, "CSS.0011", "another operation is running, or the instance is faulty"
    )


def _bad(text: str, code: str = "CSS.0001") -> Reply:
    return replies.css_error(400, code, text)


def _datastore(query: Mapping[str, str]) -> str:
    """Read which type of cluster is asked for; empty: all."""
    datastore = query.get("datastoreType", "")
    if datastore and datastore not in DATASTORES:
        raise _RefusedError(_bad(f"datastoreType {datastore!r} is not known"))
    return datastore


def _number(query: Mapping[str, str], names: Iterable[str], usual: int, most: int | None) -> int:
    """Read the first of the named parameters that was given, from 1 up."""
    text = next((query[name] for name in names if name in query), None)
    if text is None:
        return usual
    if not text.isdecimal() or int(text) < 1 or (most is not None and int(text) > most):
        raise _RefusedError(_bad(f"{next(iter(names))}={text} is out of range", "CSS.5038"))
    return int(text)


# ------------------------------------------------------------------------------ what to restart


def _nodes_of(cluster: Cluster, call: Call, body: bytes) -> tuple[Node, ...]:
    """Return the nodes that a call means, in the order in which a rolling restart takes them."""
    is_logstash = cluster.datastore == LOGSTASH
    if call is Call.REBOOT:
        if not is_logstash:
            raise _RefusedError(_bad("only Logstash clusters can be rebooted", "CSS.5106"))
        return cluster.nodes
    if is_logstash:
        text = "illegal operation for a Logstash cluster"
        raise _RefusedError(replies.css_error(415, "CSS.0004", text))
    if call is Call.RESTART:
        return cluster.data_nodes
    kind, value = _part_of(body)
    if call is Call.ROLLING:
        return _rolling(cluster.nodes, kind, value)
    if kind == "node":
        found = tuple(node for node in cluster.nodes if node.id == value)
        if not found:
            raise _RefusedError(_bad(f"there is no node {value}"))
        return found
    return _of_roles(cluster.nodes, kind, value)


def _part_of(body: bytes) -> tuple[str, str]:
    """Read `type` and `value`, which the v2.0 calls demand."""
    if not body:
        raise _RefusedError(_bad("the body is empty", "CSS.0006"))
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    match content:
        case {"type": str() as kind, "value": str() as value}:
            return kind, value
        case _:
            raise _RefusedError(_bad("the body must be an object with type and value"))


def _rolling(nodes: Sequence[Node], kind: str, value: str) -> tuple[Node, ...]:
    if len(nodes) < ROLLING_NODES:
        text = f"a rolling restart needs at least {ROLLING_NODES} nodes"
        raise _RefusedError(_bad(text, "CSS.0074"))
    if value == "all" and kind == "role":
        return tuple(nodes)
    found = _of_roles(nodes, kind, value)
    if not any(node.role in DATA_ROLES for node in found):
        raise _RefusedError(_bad("no data node was chosen", "CSS.5167"))
    return found


def _of_roles(nodes: Sequence[Node], kind: str, value: str) -> tuple[Node, ...]:
    roles = value.split(",")
    there = {node.role for node in nodes}
    if kind != "role":
        raise _RefusedError(_bad(f"type {kind!r} is not allowed here"))
    for role in roles:
        if role not in ROLES or role not in there:
            raise _RefusedError(_bad(f"the cluster has no role {role!r}", "CSS.0076"))
    return tuple(node for node in nodes if node.role in roles)
