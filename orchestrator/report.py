"""Events of a run → the JSON report: every target once, with everything the service answered.

Rules:

- The report is a fold over the journal's events; it can be made at any time, also of a run that
  still goes on, was interrupted, or was finished months ago.
- Every member that `report.schema.json` names is present; what does not apply is null.
- Moments are printed as wall clock time, UTC: the event's steady moment and the offset of the
  process that recorded it. Spans are taken on the steady axis, where no clock ever steps.
- What was observed is counted as the limits count it: a place is held from its grant until the end
  that was seen, and a start that certainly never began was no start. A rate that was changed on the
  way shows what it came to while it applied.
- It is written one target at a time, and replaces an older report only when it is whole.
"""

import json
import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TextIO, get_args

import msgspec

from orchestrator.errors import ExitCode, OrchestratorError
from orchestrator.limits import Concurrency, Gate, Rate, change_of, counts_within, scope_value
from orchestrator.model import (
    AnswerArrivedLate,
    ErrorInfo,
    Event,
    Kind,
    LimitsChanged,
    OrderRefused,
    Outcome,
    RestartAnswered,
    RestartBegan,
    RestartDisproved,
    RestartRequested,
    RestartSettling,
    RestartUnsettled,
    RestartWithdrawn,
    RunAborted,
    RunContinued,
    RunFinished,
    RunnerStarted,
    RunPaused,
    RunResumed,
    RunStopping,
    Target,
    TargetEnded,
    TargetEvent,
    TargetRelapsed,
    TargetResolved,
    Verdict,
    WindowChanged,
)
from orchestrator.output import write_whole
from orchestrator.plan import Plan, Window, changed_policy, window_of

REPORT_VERSION = 1
"""Goes up when a member changes its meaning or goes away; new members leave it."""

STANDARD_OUTPUT = "-"
"""As a path: print the report."""

INTERRUPTED = "interrupted: no runner finished this run"
"""The stop reason of a run that nobody stopped and nobody finished."""

_Steered = (
    RunPaused | RunContinued | RunResumed | RunStopping | RunAborted
    | LimitsChanged | WindowChanged | OrderRefused
)  # fmt: skip
_STEERED = get_args(_Steered)

_FAILURES = frozenset({Outcome.FAILED, Outcome.REFUSED, Outcome.UNKNOWN})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What the report says of a run that is in no event: who, why, and with which version."""

    run_id: str
    operator: str
    change: str | None
    tool_version: str


UNFOLLOWED = ErrorInfo(
    error_class="unconfirmed", message="asked for, and not followed to its end; resume looks at it"
)
"""Why a restart is unknown whose runner ended before it did."""


def exit_code_for(counts: Mapping[Outcome, int], *, asked_skips: int, aborted: bool) -> ExitCode:
    """Return how a run with these outcomes ends for the shell.

    Args:
        counts: how many targets ended how.
        asked_skips: how many of the skipped ones the operator asked to skip.
        aborted: whether following was stopped by a second signal or by `abort`.
    """
    if aborted:
        return ExitCode.ABORTED
    if counts.get(Outcome.NOT_STARTED, 0):
        return ExitCode.STOPPED
    unasked = counts.get(Outcome.SKIPPED, 0) - asked_skips
    if unasked > 0 or any(counts.get(outcome, 0) for outcome in _FAILURES):
        return ExitCode.SOME_FAILED
    return ExitCode.OK


def default_report_name(run_id: str) -> str:
    """Return the file name of a report that nobody named."""
    return f"restart-{run_id}.json"


# -------------------------------------------------------------------------------------- the fold


@dataclass(slots=True)
class _Call:
    """One restart call; `granted` is steady, what ends in `_at` is wall clock."""

    attempt: int
    period: int
    """How often the limits had been changed before it."""
    request_id: str | None
    granted: float
    granted_at: float
    sent_at: float
    answered_at: float | None = None
    status: int | None = None
    job_ids: tuple[str, ...] = ()
    error: ErrorInfo | None = None
    is_answered: bool = False
    returned: bool = False


@dataclass(slots=True)
class _Track:
    """One target from its first event on; `began`, `ready` and `ended` are steady."""

    calls: tuple[_Call, ...] = ()
    attempt: int = 0
    outcome: Outcome | None = None
    reason: str | None = None
    error: ErrorInfo | None = None
    was_asked: bool = False
    """It was skipped because the operator asked for it."""
    began: float | None = None
    began_at: float | None = None
    ready: float | None = None
    ended: float | None = None
    finished_at: float | None = None
    frees: float | None = None
    """When the slot of the latest start is free: infinity while it is held, None if it has none."""

    def call_of(self, attempt: int) -> _Call | None:
        if self.calls and self.calls[-1].attempt == attempt:
            return self.calls[-1]
        return next((call for call in reversed(self.calls) if call.attempt == attempt), None)

    def forget_progress(self) -> None:
        """A new attempt: what the attempts before showed is in their calls."""
        self.began = self.began_at = self.ready = self.ended = self.finished_at = None
        self.reason = self.error = None
        self.was_asked = False

    @property
    def is_open(self) -> bool:
        """Whether a restart was asked for whose end nobody has seen, and nobody follows now."""
        return self.outcome is None and self.frees == math.inf

    @property
    def standing(self) -> Outcome:
        """How it stands: what was begun and not seen to end is unknown, never `not_started`."""
        if self.outcome is not None:
            return self.outcome
        return Outcome.UNKNOWN if self.is_open else Outcome.NOT_STARTED

    @property
    def downtime(self) -> float | None:
        """Seconds from the begin that was seen until ready for good, or until given up."""
        # Until the target has ended, a cluster that is ready may still turn out not to stay so.
        if self.began is None or self.ended is None:
            return None
        return _span(self.began, self.ended if self.ready is None else self.ready)


class ReportFold:
    """What a run's events come to, so far; take all of them, in the journal's order."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._tracks: list[_Track | None] = [None] * len(plan.targets)
        self._counts = dict.fromkeys(Outcome, 0)
        self._job_ids: dict[str, None] = {}
        self._wall_offset = 0.0
        self._started: tuple[float, float] | None = None
        self._finished: tuple[float, float] | None = None
        self._end: RunFinished | None = None
        self._is_resolved = False
        """Whether a person said what became of a target after the run had finished."""
        self._period = 0
        self._policy = plan.policy
        self._rates: dict[Rate, set[int]] = {}
        """By rate that ever applied, in which periods between changes of the limits it did."""
        self._note_rates()
        self._steering: list[tuple[_Steered, float]] = []
        """What people asked of the run on its way, and the wall clock time."""
        self._stopping: RunStopping | None = None
        self._aborted: RunAborted | None = None
        # Never asked for room: it only counts, by the same rule as the limits do.
        self._slots = Gate(Concurrency(1), "")
        self._most_in_progress = 0

    # ------------------------------------------------------------------------------- questions

    def counts(self) -> dict[Outcome, int]:
        """Return how many targets stand how; `not_started` are those that nothing was asked for."""
        counts = dict(self._counts)
        for track in self._tracks:
            if track is not None and track.is_open:
                counts[Outcome.UNKNOWN] += 1
        counts[Outcome.NOT_STARTED] = len(self.plan.targets) - sum(counts.values())
        return counts

    def outcome(self) -> str:
        """Return how the run ended: completed, stopped or aborted."""
        if self._end is not None:
            return self._end.outcome
        return "stopped" if self._aborted is None else "aborted"

    def stop_reason(self) -> str | None:
        """Return why the run ended before its time; what was said first is the cause."""
        if self._stopping is not None:
            return self._stopping.reason
        if self._aborted is not None:
            why = f": {self._aborted.reason}" if self._aborted.reason else ""
            return f"aborted by {self._aborted.by}{why}"
        return INTERRUPTED if self._end is None else None

    def exit_code(self) -> int:
        """Return what the run told the shell, or would have, knowing all that is known now."""
        if self._end is not None and self._is_resolved:
            return exit_code_for(
                self.counts(),
                asked_skips=sum(track is not None and track.was_asked for track in self._tracks),
                aborted=self.outcome() == "aborted",
            )
        if self._end is not None:
            return self._end.exit_code
        return ExitCode.STOPPED if self._aborted is None else ExitCode.ABORTED

    # ---------------------------------------------------------------------------------- events

    def take(self, event: Event) -> None:
        """Take note of the next event of the run."""
        if isinstance(event, TargetEvent):
            track = self._tracks[event.target]
            if track is None:
                track = self._tracks[event.target] = _Track()
            self._take_of_target(track, event)
            self._hold_or_free(track, event)
        else:
            self._take_of_run(event)

    def _take_of_run(self, event: Event) -> None:
        self._note_steering(event)
        match event:
            case RunnerStarted():
                self._wall_offset = event.wall_offset
                self._started = self._started or (event.at, self._wall(event.at))
                self._end = self._finished = None
            case RunResumed():
                self._end = self._finished = self._stopping = self._aborted = None
                self._reopen(frozenset(event.again))
            case LimitsChanged():
                self._policy = changed_policy(self._policy, event)
                self._period += 1
                self._note_rates()
            case WindowChanged():
                self._policy = changed_policy(self._policy, event)
            case RunStopping():
                self._stopping = self._stopping or event
            case RunAborted():
                self._aborted = self._aborted or event
            case RunFinished():
                self._end = event
                self._is_resolved = False
                self._finished = (event.at, self._wall(event.at))
            case _:
                pass  # Waves are in the plan; the report shows them there.

    def _note_steering(self, event: Event) -> None:
        if isinstance(event, _STEERED):
            self._steering.append((event, self._wall(event.at)))

    def _note_rates(self) -> None:
        for limit in self._policy.limits:
            if isinstance(limit, Rate):
                self._rates.setdefault(limit, set()).add(self._period)

    def _reopen(self, again: frozenset[Outcome]) -> None:
        for track in self._tracks:
            if track is not None and track.outcome in again:
                self._counts[track.outcome] -= 1
                track.outcome = None
                track.forget_progress()
                # Whatever comes now is about another start; that one's slot frees as was said.
                track.frees = None

    def _take_of_target(self, track: _Track, event: TargetEvent) -> None:
        match event:
            case RestartRequested():
                self._request(track, event)
            case RestartAnswered() | AnswerArrivedLate():
                self._answer(track, event)
            case TargetEnded() | TargetRelapsed() | TargetResolved():
                self._conclude(track, event)
            case RestartWithdrawn():
                withdrawn = track.call_of(event.attempt)
                track.calls = tuple(call for call in track.calls if call is not withdrawn)
            case RestartBegan():
                track.began, track.began_at = event.at, self._wall(event.at)
            case RestartSettling():
                track.ready = event.at
            case RestartUnsettled():
                track.ready = None
            case _:
                pass  # A disproved call ends its slot, and nothing else.

    def _conclude(
        self, track: _Track, event: TargetEnded | TargetRelapsed | TargetResolved
    ) -> None:
        match event:
            case TargetEnded():
                self._judge(track, event.outcome, event.reason, event.error)
                track.was_asked = event.asked
                track.ended, track.finished_at = event.at, self._wall(event.at)
            case TargetRelapsed():
                self._judge(track, Outcome.FAILED, event.reason, event.error)
            case _:
                self._resolve(track, event)

    def _resolve(self, track: _Track, event: TargetResolved) -> None:
        """Believe a person. When the cluster was ready is not known, only when they said so."""
        self._is_resolved = True
        error = track.error if event.outcome in _FAILURES else None
        began_at = track.began_at
        if track.outcome is not None:
            self._counts[track.outcome] -= 1
        track.forget_progress()
        if event.outcome is Outcome.NOT_STARTED:
            track.outcome = None
        else:
            self._counts[event.outcome] += 1
            track.outcome, track.error, track.began_at = event.outcome, error, began_at
            track.finished_at = self._wall(event.at)
        said = f": {event.reason}" if event.reason else ""
        track.reason = f"resolved by {event.by}{said}"

    def _request(self, track: _Track, event: RestartRequested) -> None:
        track.forget_progress()
        track.attempt = event.attempt
        self._add_call(track, event, event.request_id)

    def _add_call(
        self,
        track: _Track,
        event: RestartRequested | RestartAnswered | AnswerArrivedLate,
        request_id: str | None,
    ) -> _Call:
        wall = self._wall(event.at)
        call = _Call(event.attempt, self._period, request_id, event.at, wall, wall)
        track.calls = (*track.calls, call)
        return call

    def _answer(self, track: _Track, event: RestartAnswered | AnswerArrivedLate) -> None:
        answer = event.answer
        call = track.call_of(event.attempt)
        if call is None:
            # An answer is evidence, whatever became of its intent.
            call = self._add_call(track, event, answer.request_id)
        for job_id in answer.job_ids:
            self._job_ids[job_id] = None
            if job_id not in call.job_ids:
                call.job_ids = (*call.job_ids, job_id)
        is_lost = answer.verdict is Verdict.LOST
        if is_lost and call.is_answered:
            return  # One runner gave up what another one had heard.
        call.is_answered = True
        call.sent_at = self._wall(answer.sent_at)
        call.answered_at = None if is_lost else self._wall(answer.answered_at)
        call.status = answer.status
        call.error = answer.error
        call.request_id = answer.request_id or call.request_id
        call.returned = answer.verdict.gives_back

    def _judge(
        self, track: _Track, outcome: Outcome, reason: str | None, error: ErrorInfo | None
    ) -> None:
        if track.outcome is not None:
            self._counts[track.outcome] -= 1
        self._counts[outcome] += 1
        track.outcome, track.reason, track.error = outcome, reason, error

    def _hold_or_free(self, track: _Track, event: TargetEvent) -> None:
        """Count what is in progress, in the journal's order, as the limits count it."""
        if isinstance(event, RestartRequested):
            self._slots.take()
            track.frees = math.inf
            self._most_in_progress = max(self._most_in_progress, self._slots.taken(event.at))
            return
        change = change_of(event)
        if change is None or track.frees is None or _is_about_another(track, event):
            return
        if change.returned and track.frees == math.inf:
            self._slots.give_back()
            track.frees = None
        elif change.ended_at is not None and change.ended_at < track.frees:
            if track.frees == math.inf:
                self._slots.end(change.ended_at)
            else:
                self._slots.move(track.frees, change.ended_at)
            track.frees = change.ended_at

    def _wall(self, at: float) -> float:
        return at + self._wall_offset

    # -------------------------------------------------------------------------------- contents

    def members(self, facts: RunFacts) -> Iterator[tuple[str, object]]:
        """Yield the report's members in order; those as long as the fleet are iterators."""
        yield "report_version", REPORT_VERSION
        yield "run_id", facts.run_id
        yield "outcome", self.outcome()
        yield "stop_reason", self.stop_reason()
        yield "exit_code", int(self.exit_code())
        yield "tool_version", facts.tool_version
        yield "operator", facts.operator
        yield "change", facts.change
        yield "started_at", moment(self._started and self._started[1])
        yield "finished_at", moment(self._finished and self._finished[1])
        yield "duration_s", self._duration()
        yield "plan", plan_member(replace(self.plan, policy=self._policy))
        counts = self.counts()
        by_name = {outcome.value: counts[outcome] for outcome in Outcome}
        yield "counts", {"targets": len(self.plan.targets), **by_name}
        yield "observed", self._observed()
        yield "steering", [_steering(event, at) for event, at in self._steering]
        yield "job_ids", iter(self._job_ids)
        yield "targets", self._target_entries()
        yield "failures", self._failure_entries()

    def _duration(self) -> float | None:
        if self._started is None or self._finished is None:
            return None
        return _span(self._started[0], self._finished[0])

    def _observed(self) -> dict[str, object]:
        starts = sorted(
            _Moment(call.granted, call.period, position)
            for position, track in enumerate(self._tracks)
            if track is not None
            for call in track.calls
            if not call.returned
        )
        return {
            "max_in_progress": self._most_in_progress,
            "max_started_in_window": {
                str(rate): _most_started(rate, applied, starts, self.plan.targets)
                for rate, applied in self._rates.items()
            },
        }

    def _target_entries(self) -> Iterator[dict[str, object]]:
        waves = [""] * len(self.plan.targets)
        for wave in self.plan.waves:
            for position in wave.targets:
                waves[position] = wave.name
        untouched = _Track()
        for target, track, wave_name in zip(self.plan.targets, self._tracks, waves, strict=True):
            yield _target(target, track or untouched, wave_name)

    def _failure_entries(self) -> Iterator[dict[str, object]]:
        for target, track in zip(self.plan.targets, self._tracks, strict=True):
            if track is not None and track.standing in _FAILURES:
                yield {
                    "project_id": target.project_id,
                    "cluster_id": target.cluster_id,
                    "outcome": track.standing.value,
                    "error": _error(UNFOLLOWED if track.is_open else track.error),
                }


def _is_about_another(track: _Track, event: TargetEvent) -> bool:
    """Whether this is late news of an attempt before the latest."""
    match event:
        case RestartWithdrawn() | RestartAnswered() | RestartDisproved():
            return event.attempt != track.attempt
        case _:
            return False


class _Moment(NamedTuple):
    """A start as rates see it, on the steady axis."""

    at: float
    period: int
    target: int


def _most_started(
    rate: Rate,
    applied: Container[int],
    starts: Iterable[_Moment],
    targets: tuple[Target, ...],
) -> int:
    """Return the most of `starts`, in order of time, in any interval, both its ends included.

    An interval counts if the rate `applied` when the last of them was granted.
    """
    scoped: dict[str, list[_Moment]] = {}
    for start in starts:
        scoped.setdefault(scope_value(targets[start.target], rate.scope), []).append(start)
    return max((_most_applied(rate, applied, chosen) for chosen in scoped.values()), default=0)


def _most_applied(rate: Rate, applied: Container[int], starts: Sequence[_Moment]) -> int:
    counts = counts_within([start.at for start in starts], rate.per)
    ends = zip(starts, counts, strict=True)
    return max((count for start, count in ends if start.period in applied), default=0)


# ----------------------------------------------------------------------------------- the entries


def plan_member(plan: Plan) -> dict[str, object]:
    """Return the plan as reports and dry runs print it, without its targets."""
    policy = plan.policy
    most: dict[str, int] = {}
    for limit in policy.limits:
        if isinstance(limit, Concurrency):
            most[limit.scope] = min(limit.most, most.get(limit.scope, limit.most))
    return {
        "plan_id": plan.plan_id,
        "source": list(plan.source),
        "waves": [
            {"name": wave.name, "targets": len(wave.targets), "soak_s": wave.soak}
            for wave in plan.waves
        ],
        "limits": {
            "max_concurrency": most,
            "rate": [str(limit) for limit in policy.limits if isinstance(limit, Rate)],
            "max_failures": policy.max_failures.of(len(plan.targets)),
        },
        "max_unavailable": [str(limit) for limit in policy.max_unavailable],
        "window": _window(policy.window),
    }


_kind_name = lru_cache(maxsize=256)(Kind.__str__)


def _window(window: Window) -> dict[str, str | None]:
    return {name: moment(at) for name, at in asdict(window).items()}


def _texts(texts: Sequence[str] | None) -> list[str] | None:
    return None if texts is None else list(texts)


def _steering(event: _Steered, at: float) -> dict[str, object]:
    limits = event if isinstance(event, LimitsChanged) else None
    window = event if isinstance(event, WindowChanged) else None
    return {
        "at": moment(at),
        "event": event.kind,
        "by": event.by,
        "reason": getattr(event, "reason", None),
        "limits": None if limits is None else list(limits.limits),
        "max_unavailable": _texts(limits.max_unavailable) if limits is not None else None,
        "max_failures": None if limits is None else limits.max_failures,
        "window": None if window is None else _window(window_of(window)),
        "is_looser": getattr(event, "is_looser", None),
    }


def _target(target: Target, track: _Track, wave: str) -> dict[str, object]:
    last = track.calls[-1] if track.calls else None
    calls = track.calls
    if len(calls) == 1:
        job_ids = calls[0].job_ids
    else:
        job_ids = tuple(dict.fromkeys(job_id for call in calls for job_id in call.job_ids))
    error = UNFOLLOWED if track.is_open else track.error
    return {
        "project_id": target.project_id,
        "cluster_id": target.cluster_id,
        "name": target.name,
        "region": target.region,
        "labels": dict(target.labels),
        "kind": _kind_name(target.kind),
        "wave": wave,
        "outcome": track.standing.value,
        "reason": UNFOLLOWED.message if error is UNFOLLOWED else track.reason,
        "job_ids": list(job_ids),
        "granted_at": moment(last.granted_at if last else None),
        "answered_at": moment(last.answered_at if last else None),
        "began_at": moment(track.began_at),
        "finished_at": moment(track.finished_at),
        "downtime_s": track.downtime,
        "calls": [_call(call) for call in calls],
        "error": _error(error),
    }


def _call(call: _Call) -> dict[str, object]:
    return {
        "sent_at": moment(call.sent_at),
        "answered_at": moment(call.answered_at),
        "status": call.status,
        "job_ids": list(call.job_ids),
        "error": _error(call.error),
        "request_id": call.request_id,
    }


def _error(error: ErrorInfo | None) -> dict[str, object] | None:
    if error is None:
        return None
    return {
        "class": error.error_class,
        "status": error.status,
        "code": error.code,
        "message": error.message,
        "request_id": error.request_id,
    }


def moment(at: float | None) -> str | None:
    """Print a wall clock moment: RFC 3339, UTC, milliseconds."""
    return None if at is None else _printed(at)


# Of the moments of a restart most are those of a turn, which it shares with others.
@lru_cache(maxsize=256)
def _printed(at: float) -> str:
    seconds, milliseconds = divmod(round(at * 1000), 1000)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    # Without zone and fraction isoformat has one form; both follow in ours.
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def _span(begin: float, end: float) -> float:
    # Two hosts may disagree about the steady axis; nothing lasts less than no time.
    return round(max(0.0, end - begin), 3)


# ----------------------------------------------------------------------------------- the writing


def build_report(fold: ReportFold, facts: RunFacts) -> dict[str, object]:
    """Return the whole report in memory."""
    return {
        name: list(value) if isinstance(value, Iterator) else value
        for name, value in fold.members(facts)
    }


def write_report(fold: ReportFold, facts: RunFacts, path: str | Path, *, stdout: TextIO) -> None:
    """Write the report as JSON, one target a line; `-` prints it to `stdout`.

    A file is replaced at once and only by a whole report, whatever happens meanwhile.

    Raises:
        OrchestratorError: it cannot be written there; what was there before is untouched.
    """
    printing = str(path) == STANDARD_OUTPUT
    try:
        if printing:
            _print(fold, facts, stdout)
        else:
            write_whole(Path(path), _chunks(fold, facts, _to_text))
    except OSError as error:
        place = "standard output" if printing else repr(str(path))
        raise OrchestratorError(
            f"writing the report of run {facts.run_id} to {place}: {error.strerror or error}; "
            "nothing is lost, the journal has it all: make room there or choose another file, "
            f"and get it with `orchestrator report {facts.run_id}`"
        ) from error


def _print(fold: ReportFold, facts: RunFacts, stdout: TextIO) -> None:
    # Escapes are for whatever encoding the other end of standard output has.
    stdout.writelines(_chunks(fold, facts, _to_ascii))
    stdout.flush()


_Encode = Callable[[object], str]
_encode_quickly = msgspec.json.Encoder().encode
_encode_anything: _Encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode
_encode_as_ascii: _Encode = json.JSONEncoder(allow_nan=False).encode


def _to_text(value: object) -> str:
    """Write a value on one line; what UTF-8 cannot carry is left to whoever encodes the text."""
    try:
        return msgspec.json.format(_encode_quickly(value), indent=0).decode()
    except UnicodeEncodeError:
        return _encode_anything(value)


def _to_ascii(value: object) -> str:
    """Write a value on one line, with escapes."""
    text = _to_text(value)
    return text if text.isascii() else _encode_as_ascii(value)


def _chunks(fold: ReportFold, facts: RunFacts, encode: _Encode) -> Iterator[str]:
    separator = "{\n"
    for name, value in fold.members(facts):
        yield f"{separator}  {encode(name)}: "
        if isinstance(value, Iterator):
            yield from _lines(value, encode)
        else:
            yield encode(value)
        separator = ",\n"
    yield "\n}\n"


def _lines(items: Iterator[object], encode: _Encode) -> Iterator[str]:
    separator = "[\n    "
    for item in items:
        yield separator + encode(item)
        separator = ",\n    "
    yield "\n  ]" if separator.startswith(",") else "[]"
