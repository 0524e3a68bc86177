"""A run's history and the ledger → whether the promises were kept, worked out anew and by hand.

Rules:

- Nothing here asks `Limits`, a gate or the campaign: what they got wrong must show here.
- Everyone's starts are counted, but only a start of ours can break a limit of ours: at the moment
  of its grant there has to be room. What others with wider limits add later is theirs; it is shown.
- A start is in progress from its grant until its end, for ever if it has none. For a rate it began
  somewhere between its grant and its settling (perhaps not yet, if unsettled), and the worst
  counts: starts count together if all of them may lie in one interval of the rate's length.
- What was given back counts nowhere. A limit counts for the starts granted while it applied.
- Our own starts are read from the history; the ledger, by which other runs go, must hold each of
  them, and must not free one earlier than the history does.
- Of what happened at one moment, the order in which it is handed over decides.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

from orchestrator.limits import FLEET, Concurrency, Limit, Scoped, Start, scope_value
from orchestrator.model import (
    Answer,
    AnswerArrivedLate,
    Event,
    LimitsChanged,
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
    TargetEnded,
    TargetEvent,
    TargetRelapsed,
    TargetResolved,
    Verdict,
    WindowChanged,
)
from orchestrator.plan import Plan, Policy, changed_policy
from orchestrator.span import format_seconds, format_span

SAME = 0.001
"""Seconds by which a moment may differ from what it was: stores round."""

# -------------------------------------------------------------------------------- what was found


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitFinding:
    """What one limit came to in one value of its scope."""

    limit: str
    """As limits are printed: `20/600s`, `project=2`."""
    value: str
    """The value of the limit's scope; empty for the fleet."""
    allowed: int
    most: int
    """The most that were counted at any moment at which one of ours was among them."""
    most_at_grants: int
    """The most when one of ours was granted, itself included: this is what the limit promises."""

    @property
    def is_broken(self) -> bool:
        """Whether one of ours was granted although there was no room for it."""
        return self.most_at_grants > self.allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the journal shows of a run's promises; with nothing in `broken` they were kept."""

    run_id: str
    targets: int
    starts: int
    """Restarts that the run asked for, without those that certainly never began."""
    limits: tuple[LimitFinding, ...]
    """Every limit that ever applied, for every value of its scope in which we started anything."""
    twice: tuple[str, ...]
    """Targets that were asked for again though nothing allowed it."""
    lost: tuple[str, ...]
    """Targets of which the journal lost something: an answer, an end, a row of the ledger."""
    pretended: tuple[str, ...]
    """Targets that were called better than what was seen of them."""
    broken: tuple[str, ...]
    """One sentence for every broken promise."""
    notes: tuple[str, ...]
    """What breaks no promise of this run, but should be known."""

    @property
    def is_kept(self) -> bool:
        """Whether every promise was kept."""
        return not self.broken

    def as_dict(self) -> dict[str, object]:
        """Return everything as JSON would have it."""
        content = asdict(self)
        content["is_kept"] = self.is_kept
        content["limits"] = [
            {**asdict(finding), "broken": finding.is_broken} for finding in self.limits
        ]
        return content

    def lines(self) -> Iterator[str]:
        """Yield lines for people: a table of the limits, what was broken, and the upshot."""
        yield from _table(self._rows())
        yield from (f"BROKEN: {sentence}" for sentence in self.broken)
        yield from (f"note: {sentence}" for sentence in self.notes)
        what = f"{_many(self.targets, 'target')}, {_many(self.starts, 'restart')} asked for"
        count = _many(len(self.broken), "broken promise")
        yield f"run {self.run_id}: {what}; {'every promise was kept' if self.is_kept else count}"

    def _rows(self) -> Iterator[tuple[str, ...]]:
        yield "limit", "in", "allowed", "most", "at our grants", ""
        by_limit: dict[str, list[LimitFinding]] = defaultdict(list)
        for finding in self.limits:
            by_limit[finding.limit].append(finding)
        for findings in by_limit.values():
            # Thousands of projects make no table: the fullest value speaks for those that held.
            fullest = max(findings, key=lambda one: one.most_at_grants)
            for finding in findings:
                if finding.is_broken or finding is fullest:
                    yield _row(finding, len(findings))


def _row(finding: LimitFinding, values: int) -> tuple[str, ...]:
    place = finding.value or ("(none)" if "=" in finding.limit else FLEET)
    return (
        finding.limit,
        place if values == 1 else f"{place}, 1 of {values}",
        str(finding.allowed),
        str(finding.most),
        str(finding.most_at_grants),
        "BROKEN" if finding.is_broken else "kept",
    )


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


_WORDS = 2
"""Columns of words, aligned to the left; numbers follow."""


def _table(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    cells = list(rows)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        *columns, verdict = (
            cell.ljust(width) if number < _WORDS else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join((*columns, verdict.strip())).rstrip()


# ----------------------------------------------------------------------------------- the history


@dataclass(slots=True)
class _Attempt:
    """A start of ours, as the history tells it."""

    number: int
    period: int
    """How often the limits had been changed at its grant."""
    granted_at: float
    settled_at: float | None = None
    ended_at: float | None = None
    returned: bool = False
    is_answered: bool = False
    """There is an answer, be it that none will come."""
    lost_at: float | None = None
    is_accepted: bool = False
    has_begun: bool = False
    is_disproved: bool = False
    """It had no answer, was watched for all of `confirm_within`, and nothing moved."""

    @property
    def is_certain(self) -> bool:
        """Whether it began for certain."""
        return self.is_accepted or self.has_begun

    @property
    def hinders(self) -> bool:
        """Whether the target must not be asked for again because of it."""
        return self.is_certain or not (self.returned or self.is_disproved)

    @property
    def is_under_way(self) -> bool:
        """Whether nothing so far says that it is over, or never was."""
        return not self.returned and self.ended_at is None

    def settle(self, at: float) -> None:
        """The call is certainly over; the first such news counts."""
        if self.settled_at is None:
            self.settled_at = at

    def end(self, at: float, until: float) -> None:
        """Its slot is free from `until` on; of several ends the earliest counts."""
        self.settle(at)
        self.ended_at = until if self.ended_at is None else min(until, self.ended_at)


@dataclass(slots=True)
class _Story:
    """One target, so far."""

    attempts: list[_Attempt] = field(default_factory=list)
    forgiven: int = 0
    """So many of the attempts are no hindrance: after them, a person had it taken up again."""
    outcome: Outcome | None = None
    was_asked: bool = False
    """It was skipped because the operator asked for it."""
    ready_since: float | None = None

    @property
    def current(self) -> _Attempt | None:
        """The latest attempt, if there was one since the target was last taken up."""
        return self.attempts[-1] if len(self.attempts) > self.forgiven else None

    @property
    def unforgiven(self) -> list[_Attempt]:
        """The attempts since the target was last taken up."""
        return self.attempts[self.forgiven :]

    def attempt(self, number: int) -> _Attempt | None:
        return next((one for one in reversed(self.attempts) if one.number == number), None)

    def reopen(self) -> None:
        self.outcome = self.ready_since = None
        self.was_asked = False
        self.forgiven = len(self.attempts)


class _Complaints:
    """What is wrong, and with which targets."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.twice: dict[str, None] = {}
        self.lost: dict[str, None] = {}
        self.pretended: dict[str, None] = {}
        self.broken: list[str] = []
        self.notes: list[str] = []

    def name(self, target: int) -> str:
        """Return the target as it is printed."""
        return str(self._plan.targets[target])

    def add(self, to: dict[str, None], target: int, what: str) -> None:
        """Say in a sentence what is wrong with a target."""
        name = self.name(target)
        to[name] = None
        self.broken.append(f"{name} {what}")


class _History:
    """A run's events, read from the first to the last."""

    def __init__(self, plan: Plan, complaints: _Complaints) -> None:
        self.stories = [_Story() for _ in plan.targets]
        self.policies: list[Policy] = [plan.policy]
        """The plan's, and after each change of limits that which applied from then on."""
        self._complaints = complaints
        self._is_stopping = False
        self._is_aborted = False
        self._is_paused = False
        self._failures = 0
        self._finished: RunFinished | None = None
        self._unended: list[int] = []
        """Targets without an outcome when the run was finished."""

    @property
    def _policy(self) -> Policy:
        return self.policies[-1]

    def take(self, event: Event) -> None:
        """Take note of the next event."""
        if isinstance(event, TargetEvent):
            self._take_of_target(event, self.stories[event.target])
        else:
            self._take_of_run(event)

    def close(self) -> None:
        """Judge what the run left behind at its end, if it came to one and was not aborted."""
        end = self._finished
        if end is None or self._is_aborted or end.outcome == "aborted":
            return
        for target in self._unended:
            self._judge_unended(target, is_complete=end.outcome == "completed")

    def _take_of_run(self, event: Event) -> None:
        match event:
            case LimitsChanged() | WindowChanged():
                self.policies.append(changed_policy(self._policy, event))
            case RunnerStarted():
                self._finished = None
            case RunResumed():
                self._finished = None
                self._is_stopping = self._is_aborted = self._is_paused = False
                self._failures = 0
                for story in self.stories:
                    if story.outcome in event.again:
                        story.reopen()
            case RunPaused() | RunContinued():
                self._is_paused = isinstance(event, RunPaused)
            case RunStopping():
                self._is_stopping = True
            case RunAborted():
                self._is_stopping = self._is_aborted = True
            case RunFinished():
                self._finish(event)
            case _:
                pass  # No promise here is about waves.

    def _take_of_target(self, event: TargetEvent, story: _Story) -> None:
        match event:
            case RestartRequested():
                self._request(event, story)
            case RestartWithdrawn():
                self._give_back(story.attempt(event.attempt))
            case RestartAnswered() | AnswerArrivedLate():
                self._answer(event, story)
            case RestartDisproved():
                self._disprove(event, story)
            case RestartBegan():
                self._begin(event, story)
            case RestartSettling() | RestartUnsettled():
                story.ready_since = event.at if isinstance(event, RestartSettling) else None
            case TargetEnded():
                self._end(event, story)
            case TargetRelapsed():
                story.outcome = Outcome.FAILED
                self._failures += 1
            case TargetResolved():
                self._resolve(event, story)
            case _:
                pass  # Of whatever else happens to a target, nothing was promised.

    # ------------------------------------------------------------------------------ never twice

    def _request(self, event: RestartRequested, story: _Story) -> None:
        objection = self._objection(event, story)
        if objection is not None:
            self._twice(event, f"was asked for again {objection}")
        self._judge_stop(event)
        story.attempts.append(_Attempt(event.attempt, len(self.policies) - 1, event.at))
        story.ready_since = None

    def _judge_stop(self, event: RestartRequested) -> None:
        name = self._complaints.name(event.target)
        allowed = self._policy.max_failures.of(len(self.stories))
        if self._is_stopping:
            self._complaints.broken.append(f"{name} was asked for after the run had been stopped")
        elif self._is_paused:
            self._complaints.broken.append(f"{name} was asked for while the run was paused")
        elif self._failures > allowed:
            self._complaints.broken.append(
                f"{name} was asked for after {_many(self._failures, 'failure')}; "
                f"max_failures is {allowed}"
            )

    def _objection(self, event: RestartRequested, story: _Story) -> str | None:
        """Say why the target must not be asked for again, if so."""
        if story.outcome is not None:
            return f"though it had ended as {story.outcome} and nobody took it up again"
        if story.attempt(event.attempt) is not None:
            return f"under number {event.attempt}, which it had been asked under before"
        before = story.unforgiven
        if any(attempt.is_certain for attempt in before):
            return "though an attempt before was accepted or seen to begin"
        if any(attempt.hinders for attempt in before):
            return "though an attempt before had no answer, and was not watched for long enough"
        reissues = sum(attempt.is_disproved for attempt in before)
        if reissues > self._policy.max_reissues:
            allowed = self._policy.max_reissues
            return f"after {reissues} calls without an answer; max_reissues is {allowed}"
        return None

    def _give_back(self, attempt: _Attempt | None) -> None:
        # Nothing takes back what was accepted or seen.
        if attempt is not None and not attempt.is_certain:
            attempt.returned = True

    def _answer(self, event: RestartAnswered | AnswerArrivedLate, story: _Story) -> None:
        attempt = story.attempt(event.attempt)
        if attempt is None:
            self._lost(event, f"had attempt {event.attempt} answered, of which there is no intent")
            return
        attempt.is_answered = True
        match event.answer.verdict:
            case Verdict.ACCEPTED:
                self._accept(event, story, attempt)
            case Verdict.LOST:
                attempt.lost_at = event.at if attempt.lost_at is None else attempt.lost_at
            case _:
                self._judge_return(event, event.answer)
                self._give_back(attempt)

    def _accept(
        self, event: RestartAnswered | AnswerArrivedLate, story: _Story, attempt: _Attempt
    ) -> None:
        if attempt is not story.attempts[-1]:
            self._complaints.notes.append(
                f"{self._complaints.name(event.target)} may have been restarted twice: attempt "
                f"{attempt.number} turned out to be accepted after it had been asked for again"
            )
        attempt.is_accepted = True
        attempt.returned = False
        attempt.settle(event.at)

    def _judge_return(self, event: TargetEvent, answer: Answer) -> None:
        if answer.job_ids:
            jobs = ", ".join(answer.job_ids)
            self._lost(event, f"was answered with job {jobs}, and yet counted as not begun")

    def _judge_answer(self, event: RestartDisproved | TargetEnded, attempt: _Attempt) -> None:
        if not attempt.is_answered:
            self._lost(event, f"came to {event.kind} without any answer to its call")

    def _disprove(self, event: RestartDisproved, story: _Story) -> None:
        attempt = story.attempt(event.attempt)
        if attempt is not None:
            self._judge_answer(event, attempt)
            attempt.end(event.at, event.at)
            since = math.inf if attempt.lost_at is None else attempt.lost_at
            attempt.is_disproved = event.at >= since + self._policy.confirm_within - SAME

    # ---------------------------------------------------------------------------- no pretending

    def _begin(self, event: RestartBegan, story: _Story) -> None:
        attempt = story.current
        if attempt is None or attempt.returned or not attempt.is_answered:
            self._pretended(event, "was said to begin without a call that was accepted or lost")
        if attempt is not None:
            attempt.settle(event.at)
            attempt.has_begun = True

    def _end(self, event: TargetEnded, story: _Story) -> None:
        attempt = story.current
        if story.outcome is not None:
            self._lost(event, f"ended as {event.outcome} after it had ended as {story.outcome}")
        doubt = self._doubt(event, story)
        if doubt is not None:
            self._pretended(event, f"ended as {event.outcome} {doubt}")
        if attempt is not None and attempt.is_under_way:
            self._judge_answer(event, attempt)
            if event.outcome in {Outcome.SKIPPED, Outcome.REFUSED}:
                how = "accepted" if attempt.is_accepted else "asked for, and may have begun"
                self._lost(event, f"was {how}, and yet ended as {event.outcome}")
            attempt.end(event.at, event.slot_until or event.at)
        story.outcome = event.outcome
        story.was_asked = event.asked
        self._failures += event.outcome.is_failure

    def _doubt(self, event: TargetEnded, story: _Story) -> str | None:
        """Say what is missing for the outcome, if anything is."""
        attempt = story.current
        has_begun = attempt is not None and attempt.has_begun
        match event.outcome:
            case Outcome.ACCEPTED:
                is_known = attempt is not None and attempt.is_certain
                return None if is_known else "without an answer that said so"
            case Outcome.RESTARTED if not has_begun:
                return "without having been seen to begin"
            case Outcome.RESTARTED if self._policy.stable_for:
                within = self._policy.stable_for
                since = math.inf if story.ready_since is None else story.ready_since
                is_stable = event.at >= since + within - SAME
                return None if is_stable else f"without having been ready for {format_span(within)}"
            case _:
                return None

    def _resolve(self, event: TargetResolved, story: _Story) -> None:
        if story.attempts and not story.attempts[-1].returned:
            story.attempts[-1].end(event.at, event.at)
        if event.outcome is Outcome.NOT_STARTED:
            story.reopen()
        else:
            story.outcome = event.outcome

    # ----------------------------------------------------------------------------- nothing lost

    def _finish(self, event: RunFinished) -> None:
        self._finished = event
        self._unended = [n for n, story in enumerate(self.stories) if story.outcome is None]
        bad = sum(_is_bad(story) for story in self.stories)
        if bad and event.exit_code == 0:
            self._complaints.broken.append(
                f"the run ended with exit code 0, though {_many(bad, 'target')} did not end well"
            )

    def _judge_unended(self, target: int, *, is_complete: bool) -> None:
        story = self.stories[target]
        attempt = story.current
        if attempt is not None and attempt.is_under_way:
            what = "no end" if attempt.is_answered else "no answer"
            reason = f"was asked for, and {what} of attempt {attempt.number} is in the history"
        elif is_complete:
            reason = "has no outcome, though the run was completed"
        else:
            return
        self._complaints.add(self._complaints.lost, target, reason)

    def _twice(self, event: TargetEvent, what: str) -> None:
        self._complaints.add(self._complaints.twice, event.target, what)

    def _lost(self, event: TargetEvent, what: str) -> None:
        self._complaints.add(self._complaints.lost, event.target, what)

    def _pretended(self, event: TargetEvent, what: str) -> None:
        self._complaints.add(self._complaints.pretended, event.target, what)


_WELL = frozenset({Outcome.RESTARTED, Outcome.ACCEPTED})


def _is_bad(story: _Story) -> bool:
    if story.outcome is Outcome.SKIPPED:
        return not story.was_asked
    return story.outcome not in _WELL


# ------------------------------------------------------------------------------------ the ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """A start as limits count it; `period` is None for those of other runs."""

    run_id: str
    subject: Scoped
    cluster: tuple[str, str]
    target: int
    granted_at: float
    settled_at: float
    ended_at: float
    period: int | None = None


def _counted(
    run_id: str, plan: Plan, history: _History, starts: Iterable[Start], complaints: _Complaints
) -> list[_Counted]:
    """Return every start that counts, in the order of grants; ours as the history has them."""
    unseen = {
        (target, attempt.number): attempt
        for target, story in enumerate(history.stories)
        for attempt in story.attempts
    }
    found: list[_Counted] = []
    for start in starts:
        if start.run_id != run_id:
            if not start.returned:
                found.append(_other(start))
            continue
        attempt = unseen.pop((start.target, start.attempt), None)
        if attempt is None:
            what = f"has attempt {start.attempt} in the ledger, but not in the history"
            complaints.add(complaints.lost, start.target, what)
        else:
            _compare(start, attempt, complaints)
            found.extend(_own(run_id, plan, start.target, attempt))
    for (target, number), attempt in unseen.items():
        what = f"has attempt {number} in the history, but not in the ledger that other runs go by"
        complaints.add(complaints.lost, target, what)
        found.extend(_own(run_id, plan, target, attempt))
    # The sort is stable: what was granted at one moment stays in the order it came in.
    found.sort(key=lambda one: one.granted_at)
    return found


def _other(start: Start) -> _Counted:
    return _Counted(
        run_id=start.run_id,
        subject=start,
        cluster=(start.project_id, start.cluster_id),
        target=start.target,
        granted_at=start.granted_at,
        settled_at=_or_never(start.settled_at),
        ended_at=_or_never(start.ended_at),
    )


def _own(run_id: str, plan: Plan, target: int, attempt: _Attempt) -> Iterator[_Counted]:
    if not attempt.returned:
        subject = plan.targets[target]
        yield _Counted(
            run_id=run_id,
            subject=subject,
            cluster=(subject.project_id, subject.cluster_id),
            target=target,
            granted_at=attempt.granted_at,
            settled_at=_or_never(attempt.settled_at),
            ended_at=_or_never(attempt.ended_at),
            period=attempt.period,
        )


def _or_never(moment: float | None) -> float:
    return math.inf if moment is None else moment


def _compare(start: Start, attempt: _Attempt, complaints: _Complaints) -> None:
    """Find places that the ledger frees too early; one that it holds for longer harms nobody."""
    if attempt.returned:
        return
    early = []
    if start.returned:
        early.append("counts it as given back")
    if _or_never(start.settled_at) < _or_never(attempt.settled_at) - SAME:
        early.append("has its call settled too early")
    if _or_never(start.ended_at) < _or_never(attempt.ended_at) - SAME:
        early.append("frees its slot too early")
    if start.granted_at > attempt.granted_at + SAME:
        early.append("has it granted too late")
    if early:
        what = f"has an attempt {start.attempt} of which the ledger {' and '.join(early)}"
        complaints.add(complaints.lost, start.target, what)


def _judge_clusters(starts: Sequence[_Counted], complaints: _Complaints) -> None:
    """Find clusters that we asked for while another run had them under way."""
    theirs: dict[tuple[str, str], list[_Counted]] = defaultdict(list)
    for start in starts:
        if start.period is None:
            theirs[start.cluster].append(start)
            continue
        for other in theirs.get(start.cluster, ()):
            if other.ended_at > start.granted_at:
                what = f"was asked for while run {other.run_id} had it under way"
                complaints.add(complaints.twice, start.target, what)


# ------------------------------------------------------------------------------------ the limits


def _judge_limits(
    policies: Sequence[Policy], starts: Sequence[_Counted], complaints: _Complaints
) -> Iterator[LimitFinding]:
    periods: dict[Limit, set[int]] = {}
    for period, policy in enumerate(policies):
        for limit in policy.limits:
            periods.setdefault(limit, set()).add(period)
    for limit, applied in periods.items():
        by_value: dict[str, list[_Counted]] = defaultdict(list)
        for start in starts:
            by_value[scope_value(start.subject, limit.scope)].append(start)
        ours = [
            value
            for value, counted in by_value.items()
            if any(start.period in applied for start in counted)
        ]
        for value in ours:
            yield _judge_limit(limit, value, by_value[value], applied, complaints)
        if not ours and limit.scope == FLEET:
            yield LimitFinding(
                limit=str(limit), value="", allowed=limit.most, most=0, most_at_grants=0
            )


def _judge_limit(
    limit: Limit,
    value: str,
    starts: Sequence[_Counted],
    applied: set[int],
    complaints: _Complaints,
) -> LimitFinding:
    most = most_at_grants = 0
    too_many: list[int] = []
    for taken, start, is_among in _sweep(limit, starts, applied):
        if is_among:
            most = max(most, taken)
        if start.period in applied:
            most_at_grants = max(most_at_grants, taken)
            if taken > limit.most:
                too_many.append(start.target)
    finding = LimitFinding(
        limit=str(limit),
        value=value,
        allowed=limit.most,
        most=most,
        most_at_grants=most_at_grants,
    )
    place = f" in {limit.scope} {value or '(none)'}" if limit.scope != FLEET else ""
    if too_many:
        complaints.broken.append(
            f"{_counted_as(limit, most_at_grants)}{place}, where the limit {limit} allows "
            f"{limit.most}: {_many(len(too_many), 'grant')} had no room, the first that of "
            f"{complaints.name(too_many[0])}"
        )
    elif most > limit.most:
        complaints.notes.append(
            f"{_counted_as(limit, most)}{place}, more than the limit {limit} of this run: "
            "other runs started theirs after ours, by limits of their own"
        )
    return finding


def _sweep(
    limit: Limit, starts: Sequence[_Counted], applied: set[int]
) -> Iterator[tuple[int, _Counted, bool]]:
    """Yield with each start how many count at its grant, and whether one of ours is among them."""
    held: list[tuple[float, bool]] = []
    ours = 0
    for start in starts:
        while held and _is_over(limit, held[0][0], start.granted_at):
            ours -= heapq.heappop(held)[1]
        is_ours = start.period in applied
        ours += is_ours
        yield len(held) + 1, start, bool(ours)
        heapq.heappush(held, (_last_of(limit, start), is_ours))


def _last_of(limit: Limit, start: _Counted) -> float:
    return start.ended_at if isinstance(limit, Concurrency) else start.settled_at


def _is_over(limit: Limit, last: float, now: float) -> bool:
    """Whether a start whose slot was freed, or whose call was settled, at `last` counts no more."""
    return last <= now if isinstance(limit, Concurrency) else now - last > limit.per


def _counted_as(limit: Limit, count: int) -> str:
    if isinstance(limit, Concurrency):
        return f"{count} restarts were in progress at once"
    return f"{count} restarts may have begun within {format_seconds(limit.per)}"


# ----------------------------------------------------------------------------------- the verdict


def verify(run_id: str, plan: Plan, events: Iterable[Event], starts: Iterable[Start]) -> Findings:
    """Say what the journal shows of a run's promises.

    Args:
        run_id: the run.
        plan: the run's plan, as it was created.
        events: the run's whole history, in order.
        starts: the ledger's rows of all runs of the same world, the run's own among them.
    """
    complaints = _Complaints(plan)
    history = _History(plan, complaints)
    for event in events:
        history.take(event)
    history.close()
    counted = _counted(run_id, plan, history, starts, complaints)
    _judge_clusters(counted, complaints)
    limits = tuple(_judge_limits(history.policies, counted, complaints))
    return Findings(
        run_id=run_id,
        targets=len(plan.targets),
        starts=sum(start.period is not None for start in counted),
        limits=limits,
        twice=tuple(complaints.twice),
        lost=tuple(complaints.lost),
        pretended=tuple(complaints.pretended),
        broken=tuple(complaints.broken),
        notes=tuple(complaints.notes),
    )
