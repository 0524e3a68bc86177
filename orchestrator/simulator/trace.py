"""The service's own record of what happened, and a judge of it: promises checked from the far side.

A record is one JSON object a line, appended and flushed as it happens. For a call there is
`received`, then, for restarts, `executed` or `refused` (nothing was started), then how it ended for
the client: `answered` (the whole answer was written), `severed`, `hung` or `left` (it was gone).
A call that the gate did not let pass is `denied`, and nothing else; one for credentials is
`answered` or `denied`. Both name the credential, but never show a secret.

Rules of judging:

- A cluster counts as down from the moment its restart was executed until the operation was over.
- A window of a rate is closed at both ends: N+1 executions must lie *more* than T apart.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

import msgspec

from orchestrator.limits import FLEET, Concurrency, Limit, Rate, most_within, scope_value
from orchestrator.simulator.gate import Admission
from orchestrator.simulator.iam import Given
from orchestrator.simulator.replies import Hang, Reply, Sever
from orchestrator.simulator.service import Ask, Done, Handling, Reading

_DENIED = (401, 403)


class What(StrEnum):
    """What happened."""

    DENIED = "denied"
    RECEIVED = "received"
    EXECUTED = "executed"
    REFUSED = "refused"
    ANSWERED = "answered"
    SEVERED = "severed"
    HUNG = "hung"
    LEFT = "left"


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing that happened, at seconds of the server's steady clock."""

    at: float
    what: What
    call: str
    project_id: str = ""
    """Empty for a call for credentials, which is about none."""
    cluster_id: str = ""
    region: str | None = None
    request_id: str | None = None
    status: int | None = None
    code: str | None = None
    job_ids: tuple[str, ...] = ()
    over_at: float | None = None
    """When the operation that was executed ends; None: never."""
    ready_at: float | None = None
    """When the cluster serves again; None: this restart does not bring it back."""
    credential: str | None = None
    """Who asked: an access key, a user, or the name of a token; None if nobody looked."""

    def line(self) -> str:
        """Write the record as one line of JSON, without the newline."""
        content: dict[str, object] = {
            name: value
            for name in self.__struct_fields__
            if (value := getattr(self, name)) is not None and value not in ((), "")
        }
        if self.what is What.EXECUTED:
            content |= {"over_at": self.over_at, "ready_at": self.ready_at}
        return json.dumps(content)

    @classmethod
    def parse(cls, line: str) -> "Record":
        """Read one line.

        Raises:
            ValueError: it is not a record.
        """
        content: dict[str, Any] = json.loads(line)
        try:
            content["what"] = What(content["what"])
            content["job_ids"] = tuple(content.get("job_ids", ()))
            return cls(**content)
        except (KeyError, TypeError) as exc:
            raise ValueError(f"not a record of the simulator: {line[:200]!r}") from exc


Tracer: TypeAlias = Callable[[Record], None]
"""Who is told of every record as it happens."""


class TraceFile:
    """Records appended to a file, each flushed at once; use it as a context."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def __call__(self, record: Record) -> None:
        """Append one record."""
        self._file.write(record.line() + "\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


def read_trace(path: Path) -> Iterator[Record]:
    """Yield the records of a file; a last line that was torn by a kill is left out.

    Raises:
        ValueError: another line is not a record.
    """
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield Record.parse(line)


# ------------------------------------------------------------------------------------- recording


def note(tracer: Tracer | None, what: What, handling: Handling, at: float, **more: Any) -> None:
    """Tell the tracer, if there is one, what happened to a call; `more` are fields of `Record`."""
    if tracer is None:
        return
    ask = handling.ask
    tracer(
        Record(
            at=at,
            what=what,
            call=ask.call.value,
            project_id=ask.project_id,
            cluster_id=ask.cluster_id,
            region=handling.cluster.target.region if handling.cluster else None,
            request_id=ask.request_id,
            **more,
        )
    )


def note_execution(tracer: Tracer | None, handling: Handling, at: float, done: Done) -> None:
    """Tell the tracer what the execution of a call came to; looks execute nothing."""
    if isinstance(handling.ask.call, Reading):
        return
    begun = done.begun
    if begun is None:
        note(tracer, What.REFUSED, handling, at, status=done.status, code=done.code)
        return
    note(
        tracer,
        What.EXECUTED,
        handling,
        at,
        status=done.status,
        job_ids=(begun.job_id,),
        over_at=begun.over_at if math.isfinite(begun.over_at) else None,
        ready_at=begun.ready_at,
    )


def note_given(tracer: Tracer | None, given: Given, at: float, request_id: str) -> None:
    """Tell the tracer, if there is one, what became of a call for credentials."""
    if tracer is not None:
        reply = given.reply
        tracer(
            Record(
                at=at,
                what=What.DENIED if reply.status in _DENIED else What.ANSWERED,
                call=given.call,
                project_id="",
                request_id=request_id,
                status=reply.status,
                code=reply.code,
                credential=given.credential or None,
            )
        )


def note_denial(tracer: Tracer | None, ask: Ask, admission: Admission, at: float) -> None:
    """Tell the tracer, if there is one, that a call was not let pass."""
    if tracer is not None and admission.refusal is not None:
        tracer(
            Record(
                at=at,
                what=What.DENIED,
                call=ask.call.value,
                project_id=ask.project_id,
                cluster_id=ask.cluster_id,
                request_id=ask.request_id,
                status=admission.refusal.status,
                code=admission.refusal.code,
                credential=admission.credential,
            )
        )


def note_ending(
    tracer: Tracer | None, handling: Handling, at: float, done: Done, *, is_there: bool = True
) -> None:
    """Tell the tracer how a call ended for its client; `is_there`: it stayed until the end."""
    if not is_there:
        note(tracer, What.LEFT, handling, at)
        return
    match done.ending:
        case Sever() | Reply(is_cut=True):
            note(tracer, What.SEVERED, handling, at)
        case Hang():
            note(tracer, What.HUNG, handling, at)
        case reply:
            note(
                tracer,
                What.ANSWERED,
                handling,
                at,
                status=reply.status,
                code=reply.code,
                job_ids=reply.job_ids,
            )


# --------------------------------------------------------------------------------------- judging

Pair: TypeAlias = tuple[str, str]
"""A cluster, as project id and cluster id; or a limit and a value of its scope, as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a trace shows of the promises; with nothing in `broken` they were kept."""

    restarts: int
    """Executions in all."""
    most_at_once: Mapping[Pair, int]
    """By concurrency limit and value of its scope: the most clusters down at one moment."""
    most_per_window: Mapping[Pair, int]
    """By rate and value of its scope: the most executions in any interval of its length."""
    twice: tuple[Pair, ...]
    """Clusters that were restarted more often than allowed."""
    lost_job_ids: tuple[str, ...]
    """Job ids that were answered, but not reported."""
    broken: tuple[str, ...]
    """One sentence for every promise that was broken."""


@dataclass(frozen=True, slots=True)
class _Subject:
    """A cluster as limits see it."""

    project_id: str
    region: str | None
    labels: tuple[tuple[str, str], ...]


def judge(
    trace: Iterable[Record],
    *,
    concurrency: Sequence[Concurrency] = (),
    rates: Sequence[Rate] = (),
    labels: Mapping[Pair, Mapping[str, str]] | None = None,
    reported_job_ids: Collection[str] | None = None,
    allowed_twice: Collection[Pair] = (),
    give_up_after: float = math.inf,
) -> Judgement:
    """Say whether limits held and nothing was done twice or lost, from the service's records.

    Args:
        trace: the records, in any order.
        concurrency: limits on how many clusters are down at once.
        rates: limits on how many restarts are executed in any interval.
        labels: what the fleet says of a cluster, for scopes other than fleet, project and region.
        reported_job_ids: every job id that the client knows; None leaves that unjudged.
        allowed_twice: clusters that were rightly asked for again.
        give_up_after: seconds after which a restart that never ends no longer counts as running.
    """
    records = list(trace)
    executed = sorted(
        (record for record in records if record.what is What.EXECUTED), key=lambda one: one.at
    )
    subjects = [_subject(record, labels or {}) for record in executed]
    spans = [(record.at, _over_at(record, give_up_after)) for record in executed]
    at_once = {
        key: most_at_once([spans[index] for index in chosen])
        for key, _, chosen in _scoped(concurrency, subjects)
    }
    per_window = {
        key: most_within([executed[index].at for index in chosen], rate.per)
        for key, rate, chosen in _scoped(rates, subjects)
    }
    twice = _twice(executed, allowed_twice)
    lost = _lost(records, reported_job_ids)
    return Judgement(
        restarts=len(executed),
        most_at_once=at_once,
        most_per_window=per_window,
        twice=twice,
        lost_job_ids=lost,
        broken=(
            *_exceeded(concurrency, at_once, "clusters were down at once"),
            *_exceeded(rates, per_window, "restarts were executed within one interval"),
            *(f"cluster {'/'.join(pair)} was restarted more than once" for pair in twice),
            *(f"job id {job_id} was answered, but not reported" for job_id in lost),
        ),
    )


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """Return how many of the half-open spans overlap at most."""
    changes = [change for start, end in spans for change in ((start, 1), (end, -1))]
    # At the same moment an end comes first: what is back no longer counts. A span of no length,
    # whose end would come before its start, holds nobody down.
    changes.sort()
    most = down = 0
    for _, change in changes:
        down += change
        most = max(most, down)
    return most


LimitT = TypeVar("LimitT", bound=Limit)


def _scoped(
    limits: Iterable[LimitT], subjects: Sequence[_Subject]
) -> Iterator[tuple[Pair, LimitT, list[int]]]:
    """Yield every limit with every value of its scope, and who is counted there."""
    for limit in limits:
        counted: dict[str, list[int]] = defaultdict(list)
        for index, subject in enumerate(subjects):
            counted[scope_value(subject, limit.scope)].append(index)
        for value, chosen in counted.items():
            yield (str(limit), value), limit, chosen


def _subject(record: Record, labels: Mapping[Pair, Mapping[str, str]]) -> _Subject:
    known = labels.get((record.project_id, record.cluster_id), {})
    return _Subject(record.project_id, record.region, tuple(known.items()))


def _over_at(record: Record, give_up_after: float) -> float:
    return record.at + give_up_after if record.over_at is None else record.over_at


def _twice(executed: Iterable[Record], allowed: Collection[Pair]) -> tuple[Pair, ...]:
    times = Counter((record.project_id, record.cluster_id) for record in executed)
    return tuple(pair for pair, count in times.items() if count > 1 and pair not in allowed)


def _lost(records: Iterable[Record], reported: Collection[str] | None) -> tuple[str, ...]:
    if reported is None:
        return ()
    known = frozenset(reported)
    answered = (
        job_id for record in records if record.what is What.ANSWERED for job_id in record.job_ids
    )
    return tuple(job_id for job_id in answered if job_id not in known)


def _exceeded(limits: Iterable[Limit], observed: Mapping[Pair, int], what: str) -> Iterator[str]:
    by_text = {str(limit): limit for limit in limits}
    for (text, value), most in observed.items():
        limit = by_text[text]
        if most > limit.most:
            where = "" if limit.scope == FLEET else f" in {limit.scope} {value or '(none)'}"
            yield f"{most} {what}{where}; the limit {text} allows {limit.most}"
