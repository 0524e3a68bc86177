"""What a rehearsed run shows: its events → when each wave is over, what binds, what is left.

Rules:

- A limit *binds* for as long as it was the last one to let the next restart start: between one
  start and the next, the time goes to that limit of the next which was full for longest. What no
  limit explains goes to the barrier between waves, to the opening of the window, or to looks.
- After the last start nothing is bound; that time goes to the last restarts.
- Moments are seconds from the beginning of the run, so that the same seed gives the same values.
"""

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.bound import least_time
from orchestrator.limits import (
    GUARD,
    Concurrency,
    Gate,
    Limit,
    Limits,
    Rate,
    StartChange,
    change_of,
    most_within,
)
from orchestrator.model import (
    Event,
    Outcome,
    RestartRequested,
    RunFinished,
    RunnerStarted,
    RunStopping,
    TargetEnded,
    TargetEvent,
    TargetRelapsed,
    WaveFinished,
    WaveOpened,
)
from orchestrator.plan import Plan

HOUR = 3600.0

PARTS = 12
"""In so many parts of equal length it is told what was waited for when."""

WAVES = "waves"
"""Waiting until the wave before is over, and its soak."""
WINDOW = "window"
"""Waiting until the window opens."""
LOOKS = "looks"
"""Waiting for a look at the next cluster, or as the service told us to."""
LAST = "last restarts"
"""Waiting for the end of what runs, when there is nothing left to start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveTimes:
    """When a wave was open; None is a moment that never came."""

    name: str
    targets: int
    opened: float | None
    ended: float | None
    """When its last target had ended."""
    finished: float | None
    """When its soak was over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitUse:
    """What became of a limit."""

    limit: Limit
    allowed: int
    """How many it allows, in the value of its scope where it came to most."""
    most: int
    """The most that it ever counted at once, in the fullest value of its scope."""
    bound: float
    """Seconds for which it was what the next start waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A part of a run in which mostly one thing was waited for; seconds from the beginning."""

    begins: float
    ends: float
    what: Limit | str
    """A limit, or one of `WAVES`, `WINDOW`, `LOOKS`, `LAST`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsedRun:
    """One run from its beginning to its end; moments are seconds from the beginning."""

    took: float
    counts: Mapping[Outcome, int]
    stop_reason: str | None
    waves: tuple[WaveTimes, ...]
    limits: tuple[LimitUse, ...]
    waited: Mapping[str, float]
    """Seconds that went elsewhere: `WAVES`, `WINDOW`, `LOOKS`, `LAST`."""
    stretches: tuple[Stretch, ...]
    """What was waited for when, from the beginning to the end."""
    most_at_once: int
    most_in_an_hour: int
    held: Mapping[int, float]
    """For how many seconds each target held its slot, by position."""
    least: float
    """Seconds below which no order of these restarts in these waves could have come."""

    @property
    def left(self) -> int:
        """How many targets were not started."""
        return self.counts[Outcome.NOT_STARTED]

    @property
    def efficiency(self) -> float:
        """The least time over the time it took; 0 if nothing was restarted."""
        return self.least / self.took if self.took else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """Several runs of one plan that differ in how long its restarts take; one at least."""

    began_at: float
    """The moment of the wall clock at which each begins."""
    runs: tuple[RehearsedRun, ...]

    def took(self, share: float) -> float:
        """Return the seconds within which this share of the runs was over."""
        return quantile([run.took for run in self.runs], share)

    def left(self, share: float) -> int:
        """Return how many targets at most were not started in this share of the runs."""
        return int(quantile([run.left for run in self.runs], share))

    def made_by(self, deadline: float) -> int:
        """Return how many runs restarted everything by this moment of the wall clock."""
        return sum(
            run.counts[Outcome.RESTARTED] == sum(run.counts.values())
            and self.began_at + run.took <= deadline
            for run in self.runs
        )

    @property
    def most_at_once(self) -> int:
        """The most restarts in progress at any moment of any run."""
        return max(run.most_at_once for run in self.runs)

    @property
    def most_in_an_hour(self) -> int:
        """The most restarts begun in any hour of any run."""
        return max(run.most_in_an_hour for run in self.runs)

    @property
    def efficiency(self) -> float:
        """The least time over the time taken, in the median run."""
        return quantile([run.efficiency for run in self.runs], 0.5)

    @property
    def stop_reasons(self) -> Mapping[str, int]:
        """Why runs stopped before their end, and how many did."""
        return Counter(run.stop_reason for run in self.runs if run.stop_reason is not None)

    def waves(self) -> tuple[WaveTimes, ...]:
        """Return the median moments of each wave, over the runs that came to them."""
        return tuple(
            WaveTimes(
                name=same[0].name,
                targets=same[0].targets,
                opened=_median(wave.opened for wave in same),
                ended=_median(wave.ended for wave in same),
                finished=_median(wave.finished for wave in same),
            )
            for same in zip(*(run.waves for run in self.runs), strict=True)
        )

    def limits(self) -> tuple[LimitUse, ...]:
        """Return of each limit the most of any run, and the mean seconds for which it bound."""
        return tuple(
            LimitUse(
                limit=same[0].limit,
                allowed=same[0].allowed,
                most=max(use.most for use in same),
                bound=sum(use.bound for use in same) / len(same),
            )
            for same in zip(*(run.limits for run in self.runs), strict=True)
        )

    def waited(self) -> Mapping[str, float]:
        """Return the mean seconds that went elsewhere."""
        return {
            what: sum(run.waited.get(what, 0.0) for run in self.runs) / len(self.runs)
            for what in (WINDOW, WAVES, LOOKS, LAST)
        }

    def typical(self) -> RehearsedRun:
        """Return the run that took the median time."""
        likely = self.took(0.5)
        return next(run for run in self.runs if run.took == likely)

    def mean(self) -> float:
        """Return the mean seconds that a run took."""
        return sum(run.took for run in self.runs) / len(self.runs)


def _median(moments: Iterable[float | None]) -> float | None:
    came = [at for at in moments if at is not None]
    return quantile(came, 0.5) if came else None


def limits_of(plan: Plan) -> tuple[Limit, ...]:
    """Return everything of the plan that limits how much is restarted at once, or how fast."""
    return (*plan.policy.limits, *plan.policy.max_unavailable)


def quantile(values: Iterable[float], share: float) -> float:
    """Return the value that this share of the values does not exceed, by the nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


# ---------------------------------------------------------------------------------- what binds


class _Turnstile:
    """The places of one limit for one value, with the moment since which there has been room."""

    __slots__ = ("_ends", "_open", "allowed", "free_since", "limit", "most")

    def __init__(self, limit: Limit, allowed: int) -> None:
        self.limit = limit
        self.most = 0
        self.allowed = allowed
        self.free_since = -math.inf
        self._open = 0
        self._ends: list[float] = []

    def take(self, now: float) -> None:
        self.let_out(now)
        self._open += 1
        self.most = max(self.most, self._open + len(self._ends))

    def end(self, at: float) -> None:
        self._open -= 1
        heapq.heappush(self._ends, at)

    def give_back(self, now: float) -> None:
        self.let_out(now)
        self._note_room(now)
        self._open -= 1

    def let_out(self, now: float) -> None:
        """Free the places whose time has come."""
        while self._ends and self._ends[0] <= now:
            self._note_room(self._ends[0])
            heapq.heappop(self._ends)

    def _note_room(self, at: float) -> None:
        if self._open + len(self._ends) == self.allowed:
            self.free_since = at


@dataclass(slots=True)
class _Held:
    """The places of a target's latest start."""

    granted_at: float
    places: tuple[_Turnstile, ...]
    is_settled: bool = False
    is_ended: bool = False

    def change(self, change: StartChange, now: float) -> None:
        if change.returned:
            for place in self._held():
                place.give_back(now)
            self.is_settled = self.is_ended = True
            return
        if change.settled_at is not None and not self.is_settled:
            self.is_settled = True
            for place in self.places:
                if isinstance(place.limit, Rate):
                    place.end(change.settled_at + place.limit.per + GUARD)
        if change.ended_at is not None and not self.is_ended:
            self.is_ended = True
            for place in self.places:
                if isinstance(place.limit, Concurrency):
                    place.end(change.ended_at)

    def _held(self) -> Iterable[_Turnstile]:
        for place in self.places:
            is_rate = isinstance(place.limit, Rate)
            if not (self.is_settled if is_rate else self.is_ended):
                yield place


@dataclass(slots=True)
class _Wave:
    opened: float | None = None
    ended: float | None = None
    finished: float | None = None


class _Run:
    """The fold over the events of one run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.began = 0.0
        self.ended: float | None = None
        self.stop_reason: str | None = None
        self.waves = [_Wave() for _ in plan.waves]
        self.outcomes: dict[int, Outcome] = {}
        self.bound: dict[Limit, float] = dict.fromkeys(limits_of(plan), 0.0)
        self.waited: dict[str, float] = defaultdict(float)
        self.stretches: list[Stretch] = []
        self.starts: list[float] = []
        self.held: dict[int, float] = {}
        self.at_once = _Turnstile(Concurrency(1), len(plan.targets))
        self.places: dict[Gate, _Turnstile] = {}
        self._limits = Limits(limits_of(plan), plan.targets)
        self._latest: dict[int, _Held] = {}
        self._last_start: float | None = None
        self._opened_at = -math.inf
        self._wave_of = {p: n for n, wave in enumerate(plan.waves) for p in wave.targets}

    def take(self, event: Event) -> None:
        match event:
            case RestartRequested():
                self._start(event)
            case TargetEvent():
                self._go_on(event)
            case RunnerStarted():
                self.began = self._last_start = event.at
            case RunStopping():
                self.stop_reason = self.stop_reason or event.reason
            case RunFinished():
                self.ended = event.at
            case WaveOpened():
                self.waves[event.wave].opened = self._opened_at = event.at
            case WaveFinished():
                self.waves[event.wave].finished = event.at
            case _:
                pass  # what else there is says nothing of time

    def _start(self, event: RestartRequested) -> None:
        now = event.at
        gates = self._limits.gates(self.plan.targets[event.target])
        places = tuple(self._place(gate) for gate in gates)
        self._attribute(places, now)
        places = (*places, self.at_once)
        for place in places:
            place.take(now)
        self._latest[event.target] = _Held(now, places)
        self.starts.append(now)
        self._last_start = now

    def _place(self, gate: Gate) -> _Turnstile:
        found = self.places.get(gate)
        if found is None:
            found = self.places[gate] = _Turnstile(gate.limit, gate.most)
        return found

    def _attribute(self, places: Sequence[_Turnstile], now: float) -> None:
        """Say what the time since the last start went to."""
        since = self.began if self._last_start is None else self._last_start
        if now <= since:
            return
        for place in places:
            place.let_out(now)
        last = max(places, key=lambda place: place.free_since, default=None)
        if last is not None and last.free_since > max(since, self._opened_at):
            self.wait(since, now, last.limit)
        elif not self.starts and self._is_early(since):
            self.wait(since, now, WINDOW)
        else:
            self.wait(since, now, WAVES if self._opened_at > since else LOOKS)

    def wait(self, since: float, until: float, what: Limit | str) -> None:
        """Take down what the time from one moment to another went to."""
        if isinstance(what, str):
            self.waited[what] += until - since
        else:
            self.bound[what] += until - since
        self.stretches.append(
            Stretch(begins=since - self.began, ends=until - self.began, what=what)
        )

    def _is_early(self, now: float) -> bool:
        opens_at = self.plan.policy.window.not_before
        return opens_at is not None and now < opens_at

    def _go_on(self, event: TargetEvent) -> None:
        held, change = self._latest.get(event.target), change_of(event)
        if held is not None and change is not None:
            held.change(change, event.at)
        if isinstance(event, TargetEnded):
            self.outcomes[event.target] = event.outcome
            self.waves[self._wave_of[event.target]].ended = event.at
            if held is not None:
                self.held[event.target] = event.at - held.granted_at
        elif isinstance(event, TargetRelapsed):
            self.outcomes[event.target] = Outcome.FAILED

    # ------------------------------------------------------------------------------------ upshot

    def least(self) -> float:
        """Return the bound of each wave's restarts and the soaks between them, one after another.

        What was not restarted has no part in it, and a wave that was not reached none either.
        """
        opens_at = self.plan.policy.window.not_before
        least = 0.0 if opens_at is None else max(0.0, opens_at - self.began)
        for wave in self.plan.waves:
            jobs = [(self.plan.targets[p], self.held[p]) for p in wave.targets if p in self.held]
            if jobs:
                least += least_time(jobs, limits_of(self.plan)) + wave.soak
        return least

    def counts(self) -> dict[Outcome, int]:
        counts = dict.fromkeys(Outcome, 0)
        for outcome in self.outcomes.values():
            counts[outcome] += 1
        counts[Outcome.NOT_STARTED] = len(self.plan.targets) - len(self.outcomes)
        return counts


def analyse(plan: Plan, events: Iterable[Event]) -> RehearsedRun:
    """Return what the events of a finished run show.

    Args:
        plan: what the run did.
        events: its whole history, in order.
    """
    run = _Run(plan)
    end = 0.0
    for event in events:
        run.take(event)
        end = event.at
    end = end if run.ended is None else run.ended
    if run.starts:
        run.wait(run.starts[-1], end, LAST)
    else:
        run.wait(run.began, end, WINDOW if run.stop_reason is not None else LOOKS)
    fullest: dict[Limit, _Turnstile] = {}
    for place in run.places.values():
        fullest[place.limit] = max(
            place, fullest.get(place.limit, place), key=lambda one: one.most / one.allowed
        )
    return RehearsedRun(
        took=end - run.began,
        counts=run.counts(),
        stop_reason=run.stop_reason,
        waves=tuple(
            WaveTimes(
                name=wave.name,
                targets=len(wave.targets),
                opened=_since(run.began, times.opened),
                ended=_since(run.began, times.ended),
                finished=_since(run.began, times.finished),
            )
            for wave, times in zip(plan.waves, run.waves, strict=True)
        ),
        limits=tuple(
            LimitUse(
                limit=limit,
                allowed=fullest[limit].allowed if limit in fullest else limit.most,
                most=fullest[limit].most if limit in fullest else 0,
                bound=bound,
            )
            for limit, bound in run.bound.items()
        ),
        waited=dict(run.waited),
        stretches=tuple(_summed_up(run.stretches, end - run.began)),
        most_at_once=run.at_once.most,
        most_in_an_hour=most_within(run.starts, HOUR),
        held=run.held,
        least=run.least(),
    )


def _summed_up(stretches: Sequence[Stretch], whole: float) -> Iterator[Stretch]:
    """Yield what most of each part of the run went to; parts in a row that agree are one."""
    found: list[Stretch] = []
    for number in range(PARTS):
        begins, ends = (whole * edge / PARTS for edge in (number, number + 1))
        shares: dict[Limit | str, float] = defaultdict(float)
        for one in stretches:
            shares[one.what] += max(0.0, min(one.ends, ends) - max(one.begins, begins))
        what = max(shares, key=lambda each: shares[each])
        if found and found[-1].what == what:
            begins = found.pop().begins
        found.append(Stretch(begins=begins, ends=ends, what=what))
    yield from found


def _since(began: float, at: float | None) -> float | None:
    return None if at is None else at - began
