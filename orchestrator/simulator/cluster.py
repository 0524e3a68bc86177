"""One pretend cluster: what it is, and how it looks as a function of time.

Rules:

- Time comes in, in seconds on any axis, and never goes back.
- A restart is known to the service from its execution, and seen by others `busy_after` later.
- A look is a JSON text that is made once and kept until the next moment at which it would differ.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from orchestrator.model import Call, Target
from orchestrator.simulator.draws import Luck, hexadecimal, identity
from orchestrator.simulator.scenario import AnswerForm, Behaviour, End, Rest, Signs
from orchestrator.simulator.spans import Span

DATA_ROLES = ("ess", "ess-cold")
"""Roles whose nodes hold data."""

LOGSTASH = "logstash"
DATASTORES = {"elasticsearch": "7.10.2", "opensearch": "2.19.0", LOGSTASH: "7.10.0"}
"""Types of clusters, and the version that ours have."""

_FIRST_CREATED = datetime(2024, 1, 1)  # noqa: DTZ001  # the service prints times without a zone
_USUAL_NODES = 3
_NEVER_CAME_UP = ("CSS.6005", "service initialization failed")
_RESTART_FAILED = ("CSS.6002", "failed to restart the cluster")


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of a cluster."""

    id: str
    name: str
    role: str
    az: str
    ip: str


class _Step(msgspec.Struct, frozen=True, gc=False):
    """Part of a restart: which nodes it takes down, and until when."""

    until: float
    nodes: Sequence[Node]


class _Operation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One restart that was executed."""

    seen_at: float
    steps: tuple[_Step, ...]
    over_at: float
    signs: Signs
    end: End


class Begun(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a restart that was just executed will come to.

    `over_at` is when the operation ends, infinity if never; `ready_at` is when the cluster serves
    again, None if this restart does not bring it back.
    """

    job_id: str
    answer: AnswerForm
    over_at: float
    ready_at: float | None


class Look(msgspec.Struct, frozen=True, gc=False):
    """How a cluster looks: its JSON text, None when it is not there, true until `until`."""

    text: bytes | None
    until: float


@dataclass(frozen=True, slots=True)
class _Shape:
    """The part of a look that moves."""

    status: str = "200"
    actions: tuple[str, ...] = ()
    busy_nodes: frozenset[str] = frozenset()
    bad_nodes: frozenset[str] = frozenset()
    failed: tuple[str, str] | None = None


_CALM = _Shape()


class Cluster:
    """The state of one cluster; only `begin` changes it, the rest follows from time."""

    __slots__ = (
        "_calm_text",
        "_data_nodes",
        "_executions",
        "_lasting",
        "_look",
        "_nodes",
        "_operation",
        "_position",
        "_reason",
        "_rest",
        "_seed",
        "behaviour",
        "calls",
        "datastore",
        "luck",
        "reads",
        "target",
    )

    def __init__(
        self,
        target: Target,
        behaviour: Behaviour,
        seed: int,
        position: int,
        lasting: Span | None = None,
    ) -> None:
        self.target = target
        self.behaviour = behaviour
        self.datastore = _datastore_of(target)
        self.calls = 0
        """Restart calls received so far."""
        self.reads = 0
        """Details asked for so far."""
        self.luck = Luck(seed, target.project_id, target.cluster_id)
        """All that chance decides about it, for one seed."""
        self._seed = seed
        self._position = position
        self._executions = 0
        self._lasting = lasting
        """How long its restarts take as a whole, if that is not as its behaviour says."""
        self._nodes: tuple[Node, ...] = ()
        self._data_nodes: tuple[Node, ...] = ()
        self._operation: _Operation | None = None
        self._rest = behaviour.initial.pick(self.luck.draw("initial")[0])
        self._reason = _NEVER_CAME_UP
        self._look = Look(None, -math.inf)
        self._calm_text = b""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The machines, made up when first needed."""
        if not self._nodes:
            self._nodes = _invent_nodes(self.target, self.datastore, self._seed, self._position)
        return self._nodes

    @property
    def data_nodes(self) -> tuple[Node, ...]:
        """The machines that hold data."""
        if not self._data_nodes:
            self._data_nodes = tuple(node for node in self.nodes if node.role in DATA_ROLES)
        return self._data_nodes

    def exists(self, now: float) -> bool:
        """Whether the service knows the cluster."""
        return self._rest_at(now) is not Rest.ABSENT

    def is_busy(self, now: float) -> bool:
        """Whether an operation runs, shown or not."""
        operation = self._operation
        if operation is not None and now < operation.over_at:
            return True
        return self._rest_at(now) is Rest.BUSY

    def begin(self, call: Call, nodes: Sequence[Node], now: float) -> Begun:
        """Execute a restart of `nodes` now; the cluster must exist and not be busy."""
        self._rest = self._rest_at(now)
        if self._operation is not None:
            self._reason = _RESTART_FAILED
        self._executions += 1
        drawn = self.luck.draw("execution", self._executions)
        settings = self.behaviour
        seen_at = now + settings.busy_after.at(drawn[0])
        steps = self._steps(call, nodes, seen_at, drawn[1])
        end = settings.end.pick(drawn[2])
        over_at = math.inf if end is End.STUCK else steps[-1].until
        self._operation = _Operation(
            seen_at=seen_at,
            steps=steps,
            over_at=over_at,
            signs=settings.signs.pick(drawn[3]),
            end=end,
        )
        self._look = Look(None, -math.inf)
        return Begun(
            job_id=hexadecimal("job", self._seed, self.target, self._executions),
            answer=settings.answer.pick(drawn[4]),
            over_at=over_at,
            ready_at=over_at if end is End.READY else None,
        )

    def look(self, now: float) -> Look:
        """Return how the cluster looks now, and until when it will look so."""
        if now >= self._look.until:
            self._look = self._make_look(now)
        return self._look

    def _steps(
        self, call: Call, nodes: Sequence[Node], seen_at: float, drawn: float
    ) -> tuple[_Step, ...]:
        if call is not Call.ROLLING:
            until = seen_at + (self._lasting or self.behaviour.duration).at(drawn)
            return (_Step(until, nodes),)
        steps, until = [], seen_at
        whole = self._lasting or self.behaviour.rolling
        for node in nodes:
            if whole is None:
                luck = self.luck.draw("node", self._executions, node.id)[0]
                until += self.behaviour.rolling_node.at(luck)
            else:
                until += whole.at(drawn) / len(nodes)
            steps.append(_Step(until, (node,)))
        return tuple(steps)

    def _rest_at(self, now: float) -> Rest:
        operation = self._operation
        if operation is None or now < operation.over_at:
            return self._rest
        match operation.end:
            case End.FAILED:
                return Rest.UNHEALTHY
            case End.VANISHED:
                return Rest.ABSENT
            case _:
                return Rest.IDLE

    def _make_look(self, now: float) -> Look:
        operation = self._operation
        if operation is None:
            return self._at_rest(self._rest, self._reason, math.inf)
        if now < operation.seen_at:
            return self._at_rest(self._rest, self._reason, operation.seen_at)
        if now >= operation.over_at:
            return self._at_rest(self._rest_at(now), _RESTART_FAILED, math.inf)
        step = next((step for step in operation.steps if now < step.until), operation.steps[-1])
        until = step.until if now < step.until else math.inf
        return Look(self._text(_busy_shape(operation.signs, step.nodes)), until)

    def _at_rest(self, rest: Rest, reason: tuple[str, str], until: float) -> Look:
        match rest:
            case Rest.IDLE:
                # Before a restart and after it the same, and most of what is ever listed.
                self._calm_text = self._calm_text or self._text(_CALM)
                return Look(self._calm_text, until)
            case Rest.BUSY:
                return Look(self._text(_Shape(actions=("SNAPSHOTTING",))), until)
            case Rest.UNHEALTHY:
                bad = frozenset((self.nodes[0].id,))
                return Look(self._text(_Shape(status="303", bad_nodes=bad, failed=reason)), until)
            case Rest.ABSENT:  # pragma: no branch - there are no more
                return Look(None, until)

    def _text(self, shape: _Shape) -> bytes:
        """Write the cluster as detail and list print it."""
        target, legacy = self.target, self.behaviour.legacy
        created = _FIRST_CREATED + timedelta(minutes=self._position)
        content: dict[str, object] = {
            "id": target.cluster_id,
            "name": name_of(target),
            "status": shape.status,
            "actions": shape.actions,
            "actionProgress": {},
            "instances": [self._instance(node, shape) for node in self.nodes],
            "datastore": {"type": self.datastore, "version": DATASTORES[self.datastore]},
            "created": created.isoformat(),
            "updated": created.isoformat(),
            "period": "false" if legacy else False,
            "enterprise_project_id" if legacy else "enterpriseProjectId": "0",
            "endpoint": ",".join(f"{node.ip}:9200" for node in self.nodes),
            "httpsEnable": True,
            "authorityEnable": True,
            "diskEncrypted": False,
            "backupAvailable": True,
            "tags": [{"key": key, "value": value} for key, value in target.labels],
        }
        if shape.failed is not None:
            code, text = shape.failed
            if legacy:
                content["failed_reasons"] = {"error_code": code, "error_msg": text}
            else:
                content["failedReason"] = {"errorCode": code, "errorMsg": text}
        return json.dumps(content).encode()

    def _instance(self, node: Node, shape: _Shape) -> dict[str, object]:
        status = "200"
        if node.id in shape.busy_nodes:
            status = "100"
        elif node.id in shape.bad_nodes:
            status = "303"
        return {
            "id": node.id,
            "name": node.name,
            "type": node.role,
            "status": status,
            "specCode": "ess.spec-4u16g",
            "azCode": node.az,
            "ip": node.ip,
            "volume": {"type": "HIGH", "size": 200},
        }


def name_of(target: Target) -> str:
    """Return the target's name, or one made from its id."""
    return target.name or f"css-{target.cluster_id[:8]}"


def _busy_shape(signs: Signs, nodes: Sequence[Node]) -> _Shape:
    shows_nodes = signs in {Signs.ALL, Signs.INSTANCES}
    return _Shape(
        status="100" if signs in {Signs.ALL, Signs.STATUS} else "200",
        actions=("REBOOTING",) if signs in {Signs.ALL, Signs.ACTIONS} else (),
        busy_nodes=frozenset(node.id for node in (nodes if shows_nodes else ())),
    )


def _datastore_of(target: Target) -> str:
    if target.kind.call is Call.REBOOT:
        return LOGSTASH
    named = dict(target.labels).get("datastore", "")
    return named if named in DATASTORES else "elasticsearch"


def _invent_nodes(target: Target, datastore: str, seed: int, position: int) -> tuple[Node, ...]:
    """Make up the machines: three, or as the label `nodes` says, and those that the kind names."""
    labels = dict(target.labels)
    wished = labels.get("nodes", "")
    usual = min(int(wished), 200) if wished.isdecimal() and int(wished) else _USUAL_NODES
    main = "lgs" if datastore == LOGSTASH else "ess"
    extra = [role for role in target.kind.roles if role not in {main, "all"}]
    roles = [main] * usual + [role for role in extra for _ in range(_USUAL_NODES)]
    zone = f"{target.region or 'cn-north-4'}a"
    nodes = [
        Node(
            id=identity("node", seed, target, number),
            name=f"{name_of(target)}-{role}-esn-{number}-1",
            role=role,
            az=labels.get("az", zone),
            ip=f"10.{position >> 8 & 255}.{position & 255}.{number}",
        )
        for number, role in enumerate(roles, 1)
    ]
    if target.kind.node is not None:
        first = nodes[0]
        nodes[0] = Node(target.kind.node, first.name, first.role, first.az, first.ip)
    return tuple(nodes)
