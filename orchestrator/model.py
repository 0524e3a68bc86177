"""The words everyone speaks: targets, phases, what a look shows, what an answer means, events.

Rules:

- Values are frozen, and a value that exists is valid. What calls and looks bring by the thousand is
  a `msgspec.Struct`: the same as a frozen dataclass, made in a tenth of the time.
- Moments end in `_at` and are seconds on the journal's steady axis; spans are seconds too.
- An event is something that happened. Its `kind` is its one name: the journal's row, the log
  line, the metric and the report all use it. Events name a target by its position in the fleet.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from operator import itemgetter
from typing import ClassVar

import msgspec

# --------------------------------------------------------------------------------------- targets

ROLES = ("ess", "ess-master", "ess-client", "ess-cold")
"""Node roles of Elasticsearch and OpenSearch clusters that a call can name (H-V2)."""

LEAST_ROLLING = 3
"""Nodes that a cluster must have for a rolling restart."""

_NODE = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Call(StrEnum):
    """The four calls of the service that restart something; all are POST."""

    RESTART = "restart"
    """v1.0 restart of the whole cluster (since 2025: of its data nodes), no body."""
    RESTART_PART = "restart_part"
    """v2.0 restart of roles, all at once, or of one node."""
    ROLLING = "rolling"
    """v2.0 rolling restart: the nodes of the named roles one after the other."""
    REBOOT = "reboot"
    """v1.0 forced reboot of a Logstash cluster's machines."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Which restart a target gets; printed as the operator writes it: `rolling:ess`.

    `is_auto` leaves the choice to the survey, which replaces it by the one that fits the cluster.
    """

    call: Call = Call.RESTART
    roles: tuple[str, ...] = ()
    node: str | None = None
    is_auto: bool = False

    def __str__(self) -> str:
        if self.is_auto:
            return "auto"
        if self.node is not None:
            return f"restart:node={self.node}"
        name = "restart" if self.call is Call.RESTART_PART else self.call.value
        return f"{name}:{','.join(self.roles)}" if self.roles else name

    def steps(self, nodes: int = 0) -> int:
        """Return how many restarts one after the other this is for a cluster of so many nodes."""
        return max(nodes, LEAST_ROLLING) if self.call is Call.ROLLING else 1

    @classmethod
    @lru_cache(maxsize=4096)
    def parse(cls, text: str) -> "Kind":
        """Return the kind that `text` names.

        Raises:
            ValueError: with words for the operator.
        """
        name, _, detail = text.strip().partition(":")
        if name == "auto" and not detail:
            return AUTO
        if name == "reboot" and not detail:
            return cls(Call.REBOOT)
        if name == "restart" and not detail:
            return cls(Call.RESTART)
        if name == "restart" and detail.startswith("node="):
            node = detail.removeprefix("node=")
            if _NODE.fullmatch(node):
                return cls(Call.RESTART_PART, node=node)
        elif name in {"restart", "rolling"}:
            roles = tuple(dict.fromkeys(role.strip() for role in detail.split(",") if role.strip()))
            allowed = (*ROLES, "all") if name == "rolling" else ROLES
            if all(role in allowed for role in roles) and (roles or name == "rolling"):
                call = Call.ROLLING if name == "rolling" else Call.RESTART_PART
                return cls(call, roles)
        raise ValueError(
            f"{text!r} is not a kind of restart; use restart, restart:ROLES, restart:node=ID, "
            f"rolling, rolling:ROLES, reboot or auto, with ROLES from {', '.join(ROLES)}"
        )


WHOLE = Kind()
"""The default kind: the whole cluster, v1.0."""

AUTO = Kind(is_auto=True)
"""The whole cluster, by the call that its type takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One project/cluster pair, and what the fleet file says about it."""

    project_id: str
    cluster_id: str
    name: str | None = None
    region: str | None = None
    kind: Kind = WHOLE
    wave: str | None = None
    labels: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.project_id}/{self.cluster_id}"


# ------------------------------------------------------------------------------ phases, outcomes


class Phase(StrEnum):
    """How far a target is; it only moves forward, but for the ways back to `waiting`."""

    WAITING = "waiting"
    ISSUING = "issuing"
    ACCEPTED = "accepted"
    RESTARTING = "restarting"
    SETTLING = "settling"
    ENDED = "ended"


class Outcome(StrEnum):
    """How a target ended; `not_started` is the absence of an end."""

    RESTARTED = "restarted"
    ACCEPTED = "accepted"
    FAILED = "failed"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"
    NOT_STARTED = "not_started"

    @property
    def is_failure(self) -> bool:
        """Whether the cluster was harmed, or may have been; a refusal harmed nobody."""
        return self in {Outcome.FAILED, Outcome.UNKNOWN}


class Cause(StrEnum):
    """Why a target waits; the names are a contract with scripts, see `status -o json`."""

    PAUSED = "paused"
    """Until somebody lets the run go on."""
    WINDOW = "window"
    """The window is not open yet, or would be over before the restart is."""
    GATE = "gate"
    """The operator's gate does not say go."""
    COUNTING = "counting"
    """Starts are being counted anew, for other limits."""
    SOAK = "soak"
    """The clusters of the wave before must stay healthy for a while."""
    WAVE = "wave"
    """Its wave is not open."""
    LIMIT = "limit"
    """A concurrency, a rate or a number of unavailable clusters is reached."""
    PACE = "pace"
    """The service asked us to call it more slowly."""
    CONNECTION = "connection"
    """No connection could be made; it is tried again."""
    LOOK = "look"
    """Its project, or the cluster itself, is to be looked at first."""
    CREDENTIAL = "credential"
    """The credential of its project was refused."""
    TURN = "turn"
    """Nothing but its turn, or a next try."""


# -------------------------------------------------------------------------- what a look can show


_status_of: Callable[[tuple[str, str]], str] = itemgetter(1)
_ALL_READY = frozenset({"200"})


class ClusterState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one look at a cluster showed; detail and list carry the same fields.

    `status` is the service's string: "100" operation in progress, "200" available, "303" (or
    "300") unavailable. `actions` are its running tasks, an open set. `instances` pairs node id and
    status. (CSS API reference, ShowClusterDetail and ListClustersDetails.)
    """

    status: str
    actions: tuple[str, ...] = ()
    progress: tuple[str, ...] = ()
    instances: tuple[tuple[str, str], ...] = ()
    failed_reason: str | None = None
    updated: str | None = None
    datastore: str | None = None
    name: str | None = None

    @property
    def is_busy(self) -> bool:
        """Some operation runs on the cluster; `status` alone does not show a restart."""
        return bool(
            self.status == "100"
            or self.actions
            or self.progress
            or "100" in map(_status_of, self.instances)
        )

    @property
    def is_ready(self) -> bool:
        """Available, no task, and every node available."""
        return (
            self.status == "200"
            and not self.actions
            and not self.progress
            and _ALL_READY.issuperset(map(_status_of, self.instances))
        )

    @property
    def is_down(self) -> bool:
        """No task runs, and the service says that the cluster or a node is unavailable."""
        return not self.is_busy and (
            self.status in {"300", "303"}
            or any(status in {"300", "303"} for _, status in self.instances)
        )

    def shows_begun(self, baseline: "ClusterState") -> bool:
        """Whether a restart is under way here that was not under way at `baseline`."""
        if self.is_busy:
            return True
        before = dict(baseline.instances)
        return any(status != "200" and before.get(node) == "200" for node, status in self.instances)

    def shows_failure(self, baseline: "ClusterState") -> bool:
        """Whether the restart ended badly: down with no task running, or a new failed reason."""
        if self.is_busy:
            return False
        new_reason = self.failed_reason is not None and self.failed_reason != baseline.failed_reason
        return self.is_down or new_reason

    def shows_ready(self, baseline: "ClusterState") -> bool:
        """Whether the cluster is ready again and no node of the baseline is missing."""
        return self.is_ready and len(self.instances) >= len(baseline.instances)

    def is_exactly(self, baseline: "ClusterState") -> bool:
        """Whether nothing at all moved since `baseline`: the only proof that nothing started."""
        return self == baseline

    def describe(self) -> str:
        """Say in a few words what is seen, for reasons and errors."""
        words = [f"status {self.status}"]
        if self.actions:
            words.append("actions " + ",".join(self.actions))
        bad = sum(status != "200" for _, status in self.instances)
        if bad:
            words.append(f"{bad} of {len(self.instances)} nodes not ready")
        if self.failed_reason:
            words.append(self.failed_reason)
        return ", ".join(words)


# --------------------------------------------------------------------------- what an answer means


UNAUTHORIZED = "unauthorized"
"""The `error_class` that says: the credential was not accepted; not all of them are a 401."""

UNAVAILABLE = "unavailable"
"""The `error_class` that says: not at present, and nothing was done."""

THROTTLED = "throttled"
"""The `error_class` that says: not so fast."""


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What went wrong, as the report prints it; never with a header or a token.

    `error_class` is our name for what can be done about it, `code` the service's own.
    """

    error_class: str
    message: str
    status: int | None = None
    code: str | None = None
    request_id: str | None = None


class Verdict(StrEnum):
    """What an answer to a restart call means for what may follow."""

    ACCEPTED = "accepted"
    """The service took it: 200 and no error code in the body."""
    BUSY = "busy"
    """Nothing started: another operation runs (CSS.0011 and its like); later it may be taken."""
    THROTTLED = "throttled"
    """Nothing started: too many calls (429)."""
    REFUSED = "refused"
    """Nothing started, and asking again will not help."""
    UNAUTHORIZED = "unauthorized"
    """Nothing started: the credential was not accepted (401)."""
    UNSENT = "unsent"
    """Nothing started: the connection was never made."""
    LOST = "lost"
    """No usable answer; it may have started. Look, do not repeat."""

    @property
    def gives_back(self) -> bool:
        """Whether it is certain that nothing started, so that slot and rate are free again."""
        return self not in {Verdict.ACCEPTED, Verdict.LOST}


@dataclass(frozen=True, slots=True)
class Throttle:
    """A limit as the service names it in a 429: so many calls in so many seconds."""

    calls: int
    per: float


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What came back from one restart call, with every job id it carried."""

    verdict: Verdict
    sent_at: float
    answered_at: float
    status: int | None = None
    job_ids: tuple[str, ...] = ()
    request_id: str | None = None
    error: ErrorInfo | None = None
    retry_after: float | None = None
    throttle: Throttle | None = None
    """The limit that a 429 named."""


Leave = Callable[[], None]
"""Called by a restart in the moment in which it would leave; raises `HeldBackError` if it must
not."""


def leave_at_once() -> None:
    """Let it leave."""


# ---------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, at a moment of the journal's steady axis."""

    kind: ClassVar[str]
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerStarted(Event):
    """A process took up the run: its first start, or a resume.

    `wall_offset` is what to add to a steady moment to get the wall clock of that process.
    """

    kind: ClassVar[str] = "runner.started"
    owner: str
    host: str
    pid: int
    wall_offset: float
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResumed(Event):
    """An operator let a run go on that had been stopped: the failures so far are acknowledged.

    `again` are the outcomes that are taken up once more, besides what was never started.
    """

    kind: ClassVar[str] = "run.resumed"
    by: str
    again: tuple[Outcome, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsChanged(Event):
    """An operator gave the run other limits; printed as the plan prints them: `20/600s`.

    `is_looser` says that something is allowed now that was not before.
    """

    kind: ClassVar[str] = "limits.changed"
    limits: tuple[str, ...]
    max_failures: str
    by: str
    is_looser: bool
    reason: str | None = None
    order: int | None = None
    """The number of the order that this obeys, if it came from another terminal."""
    max_unavailable: tuple[str, ...] | None = None
    """How many may be down from then on; None if that stayed as it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPaused(Event):
    """Nothing new starts until somebody lets the run go on; what runs is followed."""

    kind: ClassVar[str] = "run.paused"
    by: str
    reason: str | None = None
    order: int | None = None
    wave: int | None = None
    """The wave that waits for a word, if the run paused itself before it."""

    def describe(self) -> str:
        """Say by whom the run is paused, and why: `paused by ana@bastion-1: disk alarm`."""
        why = f": {self.reason}" if self.reason else ""
        return f"paused by {self.by}{why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContinued(Event):
    """Somebody let a paused run go on."""

    kind: ClassVar[str] = "run.continued"
    by: str
    reason: str | None = None
    order: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRefused(Event):
    """An order from another terminal was not obeyed, and why; the run is as it was."""

    kind: ClassVar[str] = "order.refused"
    by: str
    reason: str
    order: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowChanged(Event):
    """An operator gave the run another window; wall clock seconds since 1970, None for no bound.

    `is_looser` says that something is allowed now that was not before.
    """

    kind: ClassVar[str] = "window.changed"
    not_before: float | None = None
    cutoff: float | None = None
    deadline: float | None = None
    by: str
    is_looser: bool = False
    reason: str | None = None
    order: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStopping(Event):
    """Nothing new starts from here on; what runs is followed to its end."""

    kind: ClassVar[str] = "run.stopping"
    reason: str
    by: str
    order: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAborted(Event):
    """Following stops now; restarts already issued go on without us."""

    kind: ClassVar[str] = "run.aborted"
    by: str
    reason: str | None = None
    order: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    """The runner has nothing left to do; `outcome` is completed, stopped or aborted."""

    kind: ClassVar[str] = "run.finished"
    outcome: str
    exit_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRefused(Event):
    """The service did not accept this credential: nothing starts with it while this runner runs.

    `account` is the credential's name, never a part of it.
    """

    kind: ClassVar[str] = "account.refused"
    account: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateClosed(Event):
    """The operator's gate does not let anything start; it is asked again and again."""

    kind: ClassVar[str] = "gate.closed"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOpened(Event):
    """The operator's gate lets restarts start again."""

    kind: ClassVar[str] = "gate.opened"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveOpened(Event):
    """Targets of this wave may start."""

    kind: ClassVar[str] = "wave.opened"
    wave: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveSoaking(Event):
    """Every target of the wave has ended; its clusters must stay healthy for the soak."""

    kind: ClassVar[str] = "wave.soaking"
    wave: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveFinished(Event):
    """The wave and its soak are over."""

    kind: ClassVar[str] = "wave.finished"
    wave: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEvent(Event):
    """Something that happened to one target, named by its position in the fleet."""

    target: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartRequested(TargetEvent):
    """The intent: slot and rate are taken, the call may leave once this is durable."""

    kind: ClassVar[str] = "restart.requested"
    attempt: int
    request_id: str
    baseline: ClusterState


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartWithdrawn(TargetEvent):
    """The intent was not carried out, for certain: no byte of it left."""

    kind: ClassVar[str] = "restart.withdrawn"
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartAnswered(TargetEvent):
    """The call came back, or it is certain that it never will; see `Answer.verdict`."""

    kind: ClassVar[str] = "restart.answered"
    attempt: int
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerArrivedLate(TargetEvent):
    """An answer that came when its runner had lost the run: evidence, whatever came since."""

    kind: ClassVar[str] = "answer.late"
    attempt: int
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartDisproved(TargetEvent):
    """A call without an answer was watched for all of `confirm_within`, and nothing moved."""

    kind: ClassVar[str] = "restart.disproved"
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartBegan(TargetEvent):
    """The restart was seen to begin."""

    kind: ClassVar[str] = "restart.began"
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartSettling(TargetEvent):
    """The cluster was seen ready; it must stay so for `stable_for`."""

    kind: ClassVar[str] = "restart.settling"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartUnsettled(TargetEvent):
    """The cluster was ready and is not any more; waiting for it begins anew."""

    kind: ClassVar[str] = "restart.unsettled"
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEnded(TargetEvent):
    """The target has its outcome.

    `slot_until` is later than `at` only for an `unknown`: the slot stays taken until then.
    `asked` is true for a skip that the operator asked for, which is no fault of the run.
    """

    kind: ClassVar[str] = "target.ended"
    outcome: Outcome
    reason: str | None = None
    error: ErrorInfo | None = None
    slot_until: float | None = None
    asked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRelapsed(TargetEvent):
    """A cluster that had ended well turned bad during the soak of its wave: it counts as failed."""

    kind: ClassVar[str] = "target.relapsed"
    reason: str
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetResolved(TargetEvent):
    """A person said what became of a target whose outcome was unknown; its slot is free."""

    kind: ClassVar[str] = "target.resolved"
    outcome: Outcome
    by: str
    reason: str | None = None


EVENTS: Mapping[str, type[Event]] = {
    event.kind: event
    for event in (
        RunnerStarted, RunResumed, LimitsChanged, RunStopping, RunAborted, RunFinished,
        RunPaused, RunContinued, OrderRefused,
        AccountRefused, WindowChanged, GateClosed, GateOpened,
        WaveOpened, WaveSoaking, WaveFinished,
        RestartRequested, RestartWithdrawn, RestartAnswered, AnswerArrivedLate,
        RestartDisproved, RestartBegan, RestartSettling, RestartUnsettled,
        TargetEnded, TargetRelapsed, TargetResolved,
    )
}  # fmt: skip
"""Every event by its name."""


def request_id_of(run_id: str, target: Target, attempt: int) -> str:
    """Return the `X-Request-Id` of one call: unique to it, and the same when worked out again."""
    name = f"{run_id}/{target.project_id}/{target.cluster_id}/{attempt}"
    return hashlib.sha256(name.encode()).hexdigest()[:32]
