"""A campaign → what a terminal shows of it: how far, how full, what runs, why others wait.

Rules:

- Pure: a campaign, its running totals and a moment come in, lines come out.
- Never a guess dressed as a fact. What is estimated says "about"; what is not known is not shown.
- A picture costs the same for ten targets and for a hundred thousand: totals are kept from events,
  and of anything that grows with the fleet only the first few are looked at.
- Names come from fleet files and from the service: nothing in them reaches a terminal but letters.
"""

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Self

from orchestrator.campaign import Campaign
from orchestrator.judgement import Track
from orchestrator.limits import FLEET, Concurrency, Gate, Limit, Rate, Unavailable, scope_value
from orchestrator.model import (
    Event,
    LimitsChanged,
    Outcome,
    Phase,
    RestartAnswered,
    RestartDisproved,
    RestartRequested,
    RestartWithdrawn,
    RunnerStarted,
    Target,
    TargetEnded,
    TargetRelapsed,
    TargetResolved,
)
from orchestrator.plan import CANARY, Plan, Policy
from orchestrator.waits import (
    Wait,
    hold_of,
    limit_words,
    next_words,
    until_words,
    value_words,
    waits,
)
from orchestrator.wording import (
    about,
    cells,
    clock,
    counted,
    cut,
    flow,
    pad,
    short,
    shown,
    spell,
    spell_until,
    wrap,
)

Wall = Callable[[float], datetime]
"""Turns a steady moment into wall clock time."""

FEW = 2
"""How many values of a limit are named; more would not fit on a line."""

ENOUGH = 3
"""So many restarts must have ended before anything is said about the time left."""

_TRACKS_LOOKED_AT = 200
_FULL_IDS_FROM = 120
"""Columns from which there is room for ids in full."""

_PROJECTS_FROM = 80
"""Columns from which there is room for the project beside the name of a cluster."""

_UNSEEN = "of clusters down only restarts are counted here; the run's own terminal counts all"
"""Said where a run is seen from outside: only whoever carries it out has looked."""

_MOST_LINES = 3
"""So many lines at most are given to one of the picture's sentences where they are narrow."""

_ALL_LINES = 20
"""So many to one of the sentences that stay when the run is over: nothing of them may be lost."""


class Tone(StrEnum):
    """What a line is, for whoever has colours."""

    PLAIN = "plain"
    HEAD = "head"
    FAINT = "faint"
    GOOD = "good"
    BAD = "bad"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the picture: printable text that fits the width."""

    text: str
    tone: Tone = Tone.PLAIN

    def __str__(self) -> str:
        return self.text


# --------------------------------------------------------------------------------- running totals


class Tally:
    """Running totals of one run, kept from its events; made before the events it is told."""

    def __init__(self, campaign: Campaign) -> None:
        plan = campaign.plan
        self.total = len(plan.targets)
        self.counts = campaign.counts()
        del self.counts[Outcome.NOT_STARTED]
        self.ended = sum(self.counts.values())
        self.started_at: float | None = None
        """When this runner took up the run."""
        self.finished_restarts = 0
        self._restart_seconds = 0.0
        self._expected_seconds = 0.0
        """What was expected of the restarts that have finished."""
        self._left_seconds = sum(
            seconds
            for position, seconds in enumerate(campaign.expected)
            if position not in campaign.outcomes
        )
        """What is expected of the targets that have not ended."""
        self._plan = plan
        self._wave_of = _wave_of(plan)
        self.left_in_wave = [len(wave.targets) for wave in plan.waves]
        for position in campaign.outcomes:
            self.left_in_wave[self._wave_of[position]] -= 1
        self._granted: dict[int, float] = {
            position: track.start.granted_at for position, track in campaign.tracks.items()
        }
        self._campaign = campaign
        self._grants: deque[float] = deque(sorted(self._granted.values()))
        self._soaks = _sums_after([wave.soak for wave in plan.waves])
        self._measure(campaign.policy)

    @classmethod
    def after(cls, campaign: Campaign, history: Sequence[Event]) -> Self:
        """Return the totals of a run that others carry out, from its whole history."""
        tally = cls(campaign)
        granted: dict[int, float] = {}
        for event in history:
            match event:
                case RunnerStarted():
                    tally.started_at = event.at
                case RestartRequested():
                    granted[event.target] = event.at
                    tally._grants.append(event.at)
                case TargetEnded() if event.target in granted:
                    tally._note_duration(event, event.at - granted.pop(event.target))
                case _:
                    pass
        return tally

    def _note_duration(self, event: TargetEnded, seconds: float) -> None:
        if event.outcome in {Outcome.RESTARTED, Outcome.ACCEPTED}:
            self.finished_restarts += 1
            self._restart_seconds += seconds
            self._expected_seconds += self._campaign.expected[event.target]

    def _measure(self, policy: Policy) -> None:
        """Keep what the limits of now make worth knowing."""
        rates = (limit for limit in policy.limits if isinstance(limit, Rate))
        most = max((limit.most for limit in rates if limit.scope == FLEET), default=0)
        self._grants = deque(self._grants, maxlen=min(most, 10_000))
        self.crowds = [
            _Crowd(limit, self._plan, self._campaign)
            for limit in policy.limits
            if limit.scope != FLEET
        ]
        self._rounds = _rounds_after(self._plan, policy)

    @property
    def mean_duration(self) -> float | None:
        """How many seconds a restart that is left will take on average, once enough have ended.

        It is what was expected of it, corrected by how those that ended kept to what was expected
        of them: an order that begins with the longest says little of the others by itself.
        """
        left = self.total - self.ended
        if self.finished_restarts < ENOUGH:
            return None
        if not left:
            return self._restart_seconds / self.finished_restarts
        return self._restart_seconds / self._expected_seconds * self._left_seconds / left

    def saw(self, event: Event) -> None:
        """Take note of an event, after the campaign did."""
        match event:
            case TargetEnded():
                self._end(event)
            case RestartRequested():
                self._granted[event.target] = event.at
                self._grants.append(event.at)
            case RestartAnswered() if event.answer.verdict.gives_back:
                self._take_back(event.target)
            case RestartWithdrawn():
                self._take_back(event.target)
            case RestartDisproved():
                self._granted.pop(event.target, None)
            case TargetRelapsed():
                # Only a restarted cluster is watched during a soak.
                self.counts[Outcome.RESTARTED] -= 1
                self.counts[Outcome.FAILED] += 1
            case TargetResolved():
                self._resolve(event)
            case RunnerStarted():
                self.started_at = event.at
            case LimitsChanged():
                self._measure(self._campaign.policy)
            case _:
                pass

    def running_for(self, position: int, now: float) -> float | None:
        """Return how long ago the target's restart was granted; None if nothing is under way."""
        granted_at = self._granted.get(position)
        return None if granted_at is None else now - granted_at

    def seconds_running(self, now: float) -> float:
        """Return how long all restarts under way have run, taken together."""
        return now * len(self._granted) - sum(self._granted.values())

    def youngest_grant(self) -> float | None:
        """Return when the latest of the restarts under way was granted."""
        return next(reversed(self._granted.values()), None)

    def rounds_after(self, wave: int) -> float:
        """Return how many restarts one after the other the waves after this one need at least."""
        return self._rounds[wave]

    def soaks_after(self, wave: int) -> float:
        """Return for how many seconds the waves after this one soak."""
        return self._soaks[wave]

    def grant_before(self, back: int) -> float | None:
        """Return when the start was granted that had `back` younger ones, if it is remembered."""
        return self._grants[-1 - back] if back < len(self._grants) else None

    def _end(self, event: TargetEnded) -> None:
        position = event.target
        self.counts[event.outcome] += 1
        self.ended += 1
        self._left_seconds -= self._campaign.expected[position]
        self.left_in_wave[self._wave_of[position]] -= 1
        for crowd in self.crowds:
            crowd.leave(self._plan.targets[position])
        seconds = self.running_for(position, event.at)
        self._granted.pop(position, None)
        if seconds is not None:
            self._note_duration(event, seconds)

    def _resolve(self, event: TargetResolved) -> None:
        """Believe a person, who speaks of unknown outcomes only."""
        self.counts[Outcome.UNKNOWN] -= 1
        if event.outcome is not Outcome.NOT_STARTED:
            self.counts[event.outcome] += 1
            return
        self.ended -= 1
        self._left_seconds += self._campaign.expected[event.target]
        self.left_in_wave[self._wave_of[event.target]] += 1
        for crowd in self.crowds:
            crowd.come_back(self._plan.targets[event.target])

    def _take_back(self, position: int) -> None:
        """Forget a start that never began: no rate counts it."""
        granted_at = self._granted.pop(position, None)
        if granted_at is not None and granted_at in self._grants:
            self._grants.remove(granted_at)


class _Crowd:
    """How many targets are left in each value of a limit's scope, and which value has the most."""

    def __init__(self, limit: Limit, plan: Plan, campaign: Campaign) -> None:
        self.limit = limit
        self._left: Counter[str] = Counter()
        self._example: dict[str, Target] = {}
        for position, target in enumerate(plan.targets):
            value = scope_value(target, limit.scope)
            self._left[value] += position not in campaign.outcomes
            self._example.setdefault(value, target)
        self._order = [(-left, value) for value, left in self._left.items()]
        heapq.heapify(self._order)

    def leave(self, target: Target) -> None:
        """Take note that a target has ended."""
        self._left[scope_value(target, self.limit.scope)] -= 1

    def come_back(self, target: Target) -> None:
        """Take note that a target has not ended after all."""
        value = scope_value(target, self.limit.scope)
        self._left[value] += 1
        heapq.heappush(self._order, (-self._left[value], value))

    def biggest(self) -> tuple[Target, int]:
        """Return one target of the value with the most targets left, and how many these are."""
        while True:
            left, value = self._order[0]
            # What goes up is pushed anew, so a stale head can only be too big.
            if -left == self._left[value]:
                return self._example[value], -left
            heapq.heapreplace(self._order, (-self._left[value], value))


def _wave_of(plan: Plan) -> list[int]:
    waves = [0] * len(plan.targets)
    for number, wave in enumerate(plan.waves):
        for position in wave.targets:
            waves[position] = number
    return waves


def _rounds_after(plan: Plan, policy: Policy) -> list[float]:
    slots = min((limit.most for limit in policy.limits if _is_slots(limit)), default=math.inf)
    return _sums_after([max(1.0, len(wave.targets) / slots) for wave in plan.waves])


def _is_slots(limit: Limit) -> bool:
    return isinstance(limit, Concurrency) and limit.scope == FLEET


def _sums_after(numbers: Sequence[float]) -> list[float]:
    sums = [0.0] * len(numbers)
    for index in range(len(numbers) - 2, -1, -1):
        sums[index] = sums[index + 1] + numbers[index + 1]
    return sums


def _rates(gates: Iterable[Gate]) -> Iterator[Gate]:
    return (gate for gate in gates if isinstance(gate.limit, Rate))


# -------------------------------------------------------------------------------------- the whole


def picture(
    campaign: Campaign,
    now: float,
    *,
    tally: Tally,
    wall: Wall,
    width: int = 80,
    height: int = 24,
    who: str | None = None,
    asks: bool = False,
) -> list[Line]:
    """Return what a terminal of this size shows of the campaign now; the most important first.

    Args:
        campaign: the run.
        now: the steady moment.
        tally: its running totals, told every event that the campaign was told.
        wall: turns steady moments into wall clock time.
        width: columns; a line that is longer is cut.
        height: lines; what does not fit is counted where it can be, and left out where not.
        who: who carries the run out, for those who look from outside.
        asks: whether a key lets the next wave begin.
    """
    lines = [
        *_headline(campaign, now, tally, wall, width),
        _failures(campaign),
        *([Line(who)] if who is not None else []),
        *_counts(campaign, tally, width),
        Line(""),
        *_states(campaign, now, wall, None if who else "press Ctrl-C", asks=asks),
        *_window(campaign),
        *(Line(f"limit {text}", Tone.FAINT) for text in limit_lines(campaign, now)),
        *([Line(_UNSEEN, Tone.FAINT)] if who and campaign.policy.max_unavailable else []),
        Line(""),
    ]
    lines = _wrapped(lines, width, _MOST_LINES)
    lines += _running(campaign, now, width, height - len(lines))
    return [Line(cut(line.text, width), line.tone) for line in lines[:height]]


def _wrapped(lines: Iterable[Line], width: int, most: int) -> list[Line]:
    return [Line(text, line.tone) for line in lines for text in wrap(line.text, width, most)]


def summary(
    campaign: Campaign, now: float, *, tally: Tally, wall: Wall, width: int = 80
) -> list[Line]:
    """Return what stays on the screen when the run, or the watching of it, is over."""
    took = "" if tally.started_at is None else f" after {spell(now - tally.started_at)}"
    head = f"run {shown(campaign.run_id)} {_ending(campaign)} at {clock(wall(now))}{took}"
    tone = Tone.BAD if campaign.failures else Tone.PLAIN
    lines = [
        Line(head, Tone.HEAD),
        *_counts(campaign, tally, width),
        Line(failure_words(campaign), tone),
    ]
    if campaign.stopping is not None:
        lines.append(Line(f"stopped: {shown(campaign.stopping.reason)}", Tone.WARN))
    return _wrapped(lines, width, _ALL_LINES)


def _ending(campaign: Campaign) -> str:
    if campaign.aborted:
        return "aborted"
    if not campaign.finished:
        return "left"
    return "completed" if campaign.stopping is None else "stopped"


def _headline(campaign: Campaign, now: float, tally: Tally, wall: Wall, width: int) -> list[Line]:
    parts = [f"run {shown(campaign.run_id)}", wave_words(campaign)]
    parts.append(clock(wall(now)))
    if tally.started_at is not None:
        parts.append(f"for {spell(now - tally.started_at)}")
    left = time_left(campaign, now, tally)
    if left is not None:
        parts.append(f"{about(left)} left")
    return [Line(text, Tone.HEAD) for text in flow(parts, width)]


def wave_words(campaign: Campaign) -> str:
    """Say which wave is open: `wave 2 of 3: rest`, and no more if it has no name of its own."""
    waves = campaign.plan.waves
    if campaign.wave is None:
        return counted(len(waves), "wave")
    place, name = f"wave {campaign.wave + 1}", shown(waves[campaign.wave].name)
    return f"{place} of {len(waves)}" if name == place else f"{place} of {len(waves)}: {name}"


def _counts(campaign: Campaign, tally: Tally, width: int) -> list[Line]:
    tone = Tone.BAD if campaign.failures else Tone.GOOD
    return [Line(text, tone) for text in flow(count_words(campaign, tally), width)]


def count_words(campaign: Campaign, tally: Tally) -> list[str]:
    """Return how many targets are where; together they are the whole fleet."""
    running = len(campaign.tracks)
    counts = [
        f"{outcome} {count}"
        for outcome, count in tally.counts.items()
        if count or outcome is not Outcome.ACCEPTED
    ]
    rest = tally.total - tally.ended - running
    over = campaign.finished or campaign.aborted or campaign.stopping is not None
    return [
        *counts,
        f"running {running}",
        f"{'not started' if over else 'waiting'} {rest} of {tally.total}",
    ]


def failure_words(campaign: Campaign) -> str:
    """Say how many failures there were, and how many are allowed."""
    return f"failures {campaign.failures} of {campaign.allowed} allowed"


def _failures(campaign: Campaign) -> Line:
    text = failure_words(campaign)
    if campaign.wave is not None and campaign.plan.waves[campaign.wave].name == CANARY:
        text += "; one in the canary stops the run"
    return Line(text, Tone.BAD if campaign.failures else Tone.PLAIN)


# --------------------------------------------------------------------------------- what goes on


def _states(
    campaign: Campaign, now: float, wall: Wall, key: str | None, *, asks: bool
) -> list[Line]:
    is_held = campaign.stopping or campaign.paused or campaign.aborted
    tone = Tone.WARN if is_held else Tone.PLAIN
    return [Line(text, tone) for text in state_lines(campaign, now, wall, key, asks=asks)]


def _window(campaign: Campaign) -> list[Line]:
    window = campaign.policy.window
    return [Line(f"window: {window}", Tone.FAINT)] if window.has_end else []


def state_lines(
    campaign: Campaign,
    now: float,
    wall: Wall,
    key: str | None = "press Ctrl-C",
    *,
    asks: bool = False,
) -> list[str]:
    """Say what the run as a whole is doing: stopping, soaking, or why who waits waits.

    Args:
        campaign: the run.
        now: the steady moment.
        wall: turns steady moments into wall clock time.
        key: what aborts the run where this is read; None where only a command does.
        asks: whether a key lets the next wave begin there.
    """
    running = len(campaign.tracks)
    if campaign.aborted:
        return [f"aborted: no longer following {running}; what was asked for goes on by itself"]
    if campaign.stopping is not None:
        reason = shown(campaign.stopping.reason)
        again = " again" if reason.startswith("interrupted") else ""
        abort = f"`orchestrator abort {shown(campaign.run_id)}`" if key is None else key + again
        return [f"stopping: {reason}", f"nothing new starts; following {running}; {abort} to abort"]
    soak = campaign.soak_ends_at
    soaking = [_soak_words(campaign, soak, now, wall)] if soak is not None else []
    if campaign.paused is not None:
        go_on = how_to_go_on(campaign, asks=asks)
        return [shown(campaign.paused.describe()), f"nothing new starts; {go_on}", *soaking]
    if soaking:
        return soaking
    hold = hold_of(campaign, now)
    if hold is not None:
        when = until_words(hold, now)
        return [f"nothing starts: {shown(hold.reason)}{f' ({when})' if when else ''}"]
    return [f"waiting: {_wait_words(wait, wall)}" for wait in waits(campaign, now)]


def _wait_words(wait: Wait, wall: Wall) -> str:
    if not wait.when or wait.until == math.inf:
        return str(wait)
    first, then, after = wait.when.partition(", then ")
    return f"{wait.count} {wait.what} ({first}, at {clock(wall(wait.until))}{then}{after})"


def how_to_go_on(campaign: Campaign, *, asks: bool) -> str:
    """Say what lets a paused run go on; `asks` says that a key lets the next wave begin."""
    resume = f"`orchestrator resume {shown(campaign.run_id)}`"
    is_asked = asks and campaign.paused is not None and campaign.paused.wave is not None
    return f"press y, or run {resume}" if is_asked else f"{resume} lets it go on"


def _soak_words(campaign: Campaign, ends_at: float, now: float, wall: Wall) -> str:
    name = "" if campaign.wave is None else f" of {shown(campaign.plan.waves[campaign.wave].name)}"
    if now >= ends_at:
        return f"soak{name} over; one last look at its clusters"
    return f"soak{name} until {clock(wall(ends_at))} ({spell_until(ends_at - now)})"


# ----------------------------------------------------------------------------------------- limits


def limit_lines(campaign: Campaign, now: float) -> list[str]:
    """Say of each limit how full it is; of limits with many values, of the fullest few."""
    lines = [_gate_words(gate, campaign, now) for gate in campaign.limits.fleet_gates()]
    by_limit: dict[Limit, list[Gate]] = {}
    for gate in _narrow_gates(campaign, now):
        by_limit.setdefault(gate.limit, []).append(gate)
    for gates in by_limit.values():
        fullest = heapq.nlargest(FEW, gates, key=lambda gate: gate.taken(now) / gate.most)
        words = [f"{value_words(gate)} {gate.taken(now)} of {gate.most}" for gate in fullest]
        lines.append(f"{limit_words(gates[0].limit)}: fullest {', '.join(words)}")
    return lines


def _narrow_gates(campaign: Campaign, now: float) -> Iterable[Gate]:
    """Return gates of narrow scopes that somebody waits at, or that count what runs."""
    gates: dict[Gate, None] = {}
    for track in islice(campaign.tracks.values(), _TRACKS_LOOKED_AT):
        gates.update(dict.fromkeys(campaign.limits.gates(track.start)))
    for barrier, _ in islice(campaign.lanes.waiting(now), _TRACKS_LOOKED_AT):
        if isinstance(barrier, Gate):
            gates[barrier] = None
    return [gate for gate in gates if gate.limit.scope != FLEET]


def _gate_words(gate: Gate, campaign: Campaign, now: float) -> str:
    taken = gate.taken(now)
    words = f"{limit_words(gate.limit)}: {taken} of {gate.most} used"
    if gate.most < gate.limit.most and not isinstance(gate.limit, Unavailable):
        words += f" (not {gate.limit.most}, after failures)"
    if gate.down:
        words += f", {gate.down} down or unseen without us"
    others = taken - gate.down - len(campaign.tracks)
    if isinstance(gate.limit, Concurrency) and others > 0:
        words += f", {others} by other runs or unknown outcomes"
    return words if gate.has_room(now) else f"{words}, {next_words(gate, now)}"


# -------------------------------------------------------------------------------------- what runs


def _running(campaign: Campaign, now: float, width: int, room: int) -> list[Line]:
    """List what runs, the oldest first, as much as there is room for."""
    count = len(campaign.tracks)
    if not count or room < 2:  # noqa: PLR2004 - a heading without a line below it says nothing
        return []
    fits = room - 1 if count <= room - 1 else room - 2
    lines = [Line(f"running {count}, oldest first", Tone.HEAD)]
    # Tracks stand in the order of their grants.
    shown_tracks = list(islice(campaign.tracks.values(), fits))
    lines.extend(map(Line, _track_lines(campaign, shown_tracks, now, width)))
    if count > fits:
        lines.append(Line(f"  … and {count - fits} more" if fits else f"  {count}", Tone.FAINT))
    return lines


def _track_lines(
    campaign: Campaign, tracks: Sequence[Track], now: float, width: int
) -> Iterator[str]:
    """Yield a line for each, in columns that are no wider than what stands in them."""
    targets = campaign.plan.targets
    names = [target_words(targets[track.start.target], width) for track in tracks]
    phases = [phase_words(track) for track in tracks]
    times = [spell(now - track.start.granted_at) for track in tracks]
    phase_width = max(map(len, (Phase.RESTARTING, *phases)))
    time_width = max(map(len, (_USUAL_TIME, *times)))
    room = width - phase_width - time_width - 6
    name_width = min(room, max(map(cells, names), default=0))
    for name, phase, time in zip(names, phases, times, strict=True):
        yield f"  {pad(name, name_width)}  {phase:<{phase_width}}  {time:>{time_width}}"


_USUAL_TIME = "99 s"


def phase_words(track: Track) -> str:
    """Say how far a restart is."""
    if track.phase is Phase.ISSUING and track.answer is not None:
        return "no answer, looking"
    return track.phase.value


def target_words(target: Target, width: int) -> str:
    """Name a target as its width allows: the ids, and the name if there is one."""
    project_id, cluster_id = shown(target.project_id), shown(target.cluster_id)
    if width < _FULL_IDS_FROM:
        project_id, cluster_id = short(project_id), short(cluster_id)
    if width < _PROJECTS_FROM and target.name:
        return f"{cluster_id} {shown(target.name)}"
    name = f" {shown(target.name)}" if target.name else ""
    return f"{project_id}/{cluster_id}{name}"


# -------------------------------------------------------------------------------------- time left


def time_left(campaign: Campaign, now: float, tally: Tally) -> float | None:
    """Return in about how many seconds the run will be over; None while that is anybody's guess.

    It is the longest of what each limit needs by itself, given how long those that are left will
    take on average (`Tally.mean_duration`): slots (targets left, wave by wave, and the soaks),
    rates of the fleet (the last start comes whole windows after one that is known), and for each
    narrow limit the value with most targets left. Skips, throttling and other runs are not
    foreseen. None until `ENOUGH` restarts have ended, and when everything that runs takes longer
    than the average.
    """
    mean = tally.mean_duration
    if mean is None or campaign.aborted or campaign.paused is not None:
        return None
    running = len(campaign.tracks)
    waiting = tally.total - tally.ended - running
    if campaign.stopping is not None or not waiting:
        left = _youngest_ends_in(tally, now, mean) + _soak_left(campaign, now)
        return left if left > 0 else None
    estimates = [_slots_need(campaign, now, tally, mean)]
    estimates += (
        _rate_needs(gate, now, waiting, tally) + mean
        for gate in _rates(campaign.limits.fleet_gates())
    )
    estimates += (_crowd_needs(crowd, campaign, now, mean) for crowd in tally.crowds)
    return max(estimates)


def _youngest_ends_in(tally: Tally, now: float, mean: float) -> float:
    granted_at = tally.youngest_grant()
    return 0.0 if granted_at is None else max(0.0, granted_at + mean - now)


def _soak_left(campaign: Campaign, now: float) -> float:
    """Return how long the open wave still soaks, or will; nothing soaks in a run that stops."""
    if campaign.stopping is not None or campaign.wave is None:
        return 0.0
    if campaign.soak_ends_at is not None:
        return max(0.0, campaign.soak_ends_at - now)
    return campaign.plan.waves[campaign.wave].soak


def _slots_need(campaign: Campaign, now: float, tally: Tally, mean: float) -> float:
    if campaign.wave is None:
        return mean
    running = len(campaign.tracks)
    waiting = max(0, tally.left_in_wave[campaign.wave] - running)
    slots = min(
        (_own_slots(gate, now, running) for gate in _fleet_slots(campaign)), default=math.inf
    )
    work = waiting * mean + max(0.0, running * mean - tally.seconds_running(now))
    here = max(work / slots, mean if waiting else _youngest_ends_in(tally, now, mean))
    later = tally.rounds_after(campaign.wave) * mean + tally.soaks_after(campaign.wave)
    return here + _soak_left(campaign, now) + later


def _fleet_slots(campaign: Campaign) -> Iterator[Gate]:
    return (gate for gate in campaign.limits.fleet_gates() if _is_slots(gate.limit))


def _own_slots(gate: Gate, now: float, running: int) -> int:
    """Return how many places are ours to use; some may be held by others."""
    return max(1, gate.most - (gate.taken(now) - running))


def _rate_needs(gate: Gate, now: float, waiting: int, tally: Tally) -> float:
    """Return when the last start may be granted: whole windows after a start that is known."""
    windows = math.ceil(waiting / gate.most)
    known = tally.grant_before(windows * gate.most - waiting)
    earliest = (windows - 1) * _per(gate)
    if known is not None:
        earliest = max(earliest, known + windows * _per(gate) - now)
    return max(earliest, gate.frees_at(now) - now if gate.frees_at(now) < math.inf else 0.0)


def _crowd_needs(crowd: _Crowd, campaign: Campaign, now: float, mean: float) -> float:
    target, left = crowd.biggest()
    if not left:
        return 0.0
    gate = next(gate for gate in campaign.limits.gates(target) if gate.limit == crowd.limit)
    if isinstance(gate.limit, Concurrency):
        return left * mean / gate.most
    windows = (left + gate.taken(now) - 1) // gate.most
    return max(0, windows - 1) * _per(gate) + mean


def _per(gate: Gate) -> float:
    return gate.limit.per if isinstance(gate.limit, Rate) else 0.0
