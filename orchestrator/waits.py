"""Why targets wait, and until when: one explanation, for the live picture and for `status`.

Rules:

- Pure: a campaign and a moment come in, groups of waiting targets come out, the largest first.
- Together the groups are everybody who waits. Nobody waits in a run that stops.
- A moment is named only if time alone brings it: a slot is free when its restart has ended.
- Of lanes only the first are asked, unless all are wanted; the others are counted.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from orchestrator.campaign import Campaign
from orchestrator.holds import Hold
from orchestrator.lanes import Barrier, Door
from orchestrator.limits import Concurrency, Gate, Limit, Unavailable
from orchestrator.model import Cause
from orchestrator.pace import Pace
from orchestrator.wording import counted, short, shown, spell_until

LANES_LOOKED_AT = 2000
"""Lanes whose reasons are told apart; more would slow a picture down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """So many targets that wait for the same thing."""

    count: int
    cause: Cause
    what: str
    """What they wait for, in words that follow their number: `for 20/600s`."""
    when: str = ""
    """When it may end, in words: `next in 42 s`."""
    until: float = math.inf
    """The moment from which the first of them may go, if time alone brings it."""

    def __str__(self) -> str:
        when = f" ({self.when})" if self.when else ""
        return f"{self.count} {self.what}{when}"


def waits(campaign: Campaign, now: float, *, most: int | None = LANES_LOOKED_AT) -> list[Wait]:
    """Return why targets wait, the largest group first.

    Args:
        campaign: the run.
        now: the steady moment.
        most: of how many lanes the reasons are told apart; None for all.
    """
    if campaign.stopping is not None or campaign.aborted or not campaign.waiting:
        return []
    soak, hold = campaign.soak_ends_at, hold_of(campaign, now)
    if soak is not None and campaign.paused is None:
        return [_of_soak(campaign, soak, now)]
    here = campaign.left_in_wave - len(campaign.tracks)
    found: list[Wait] = []
    if hold is not None:
        # In a soak nobody is left in the wave: those after it are held by the same word.
        here = here or campaign.waiting
        found = [
            Wait(
                count=here,
                cause=hold.cause,
                what=f"held: {shown(hold.reason)}",
                when=until_words(hold, now),
                until=hold.until,
            )
        ]
    elif campaign.wave is not None:
        found = [*_Reasons(campaign, now, most).waits(), *_of_others(campaign, here)]
    else:
        found = [Wait(count=here, cause=Cause.WAVE, what="for their wave to open")]
    later = campaign.waiting - here
    if later > 0:
        after = f"after wave {(campaign.wave or 0) + 1}"
        found.append(Wait(count=later, cause=Cause.WAVE, what="in later waves", when=after))
    return [wait for wait in found if wait.count > 0]


def hold_of(campaign: Campaign, now: float) -> Hold | None:
    """Return why nothing at all may start, if that is what anybody waits for.

    A gate that nobody waits for, because all who are left are in later waves, is not asked.
    """
    hold = campaign.hold(now)
    is_idle = campaign.wave is not None and campaign.left_in_wave <= len(campaign.tracks)
    return None if hold is not None and hold.cause is Cause.GATE and is_idle else hold


def until_words(hold: Hold, now: float) -> str:
    """Say when what holds everybody may end; nothing if time alone does not end it."""
    if hold.until == math.inf:
        return ""
    left = spell_until(hold.until - now)
    return f"asked again in {left}" if hold.cause is Cause.GATE else f"in {left}"


def _of_soak(campaign: Campaign, ends_at: float, now: float) -> Wait:
    name = "" if campaign.wave is None else f" of {shown(campaign.plan.waves[campaign.wave].name)}"
    is_over = now >= ends_at
    return Wait(
        count=campaign.waiting,
        cause=Cause.SOAK,
        what=f"for the soak{name}",
        when="over; one last look at its clusters" if is_over else spell_until(ends_at - now),
        until=ends_at,
    )


def _of_others(campaign: Campaign, here: int) -> Iterator[Wait]:
    """Yield who of the open wave is in no lane."""
    left_out, late = campaign.left_out, campaign.late
    yield Wait(count=left_out, cause=Cause.CREDENTIAL, what="whose credential was refused")
    yield Wait(count=late, cause=Cause.WINDOW, what="that would not be done by the deadline")
    seen = here - len(campaign.lanes) - left_out - late
    yield Wait(count=seen, cause=Cause.LOOK, what="being looked at")


class _Reasons:
    """How many of the targets in line wait for which limit, look or next try."""

    def __init__(self, campaign: Campaign, now: float, most: int | None) -> None:
        self._now = now
        self._campaign = campaign
        self._fleet_gates = campaign.lanes.shut_fleet_gates(now)
        self._by_limit: dict[Limit, dict[Gate, int]] = {}
        self._looks: dict[str, int] = {}
        self._held: dict[Door, int] = {}
        self._paced: dict[Pace, int] = {}
        self._rest = 0
        found = 0
        for barrier, count in islice(campaign.lanes.waiting(now), most):
            found += count
            self._count(barrier, count)
        self._uncounted = len(campaign.lanes) - found

    def waits(self) -> list[Wait]:
        """Return the reasons, the one that holds most targets first."""
        found = [*self._of_fleet(), *self._of_limits(), *self._of_paces(), *self._of_doors()]
        found.sort(key=lambda wait: -wait.count)
        return found

    def _count(self, barrier: Barrier | None, count: int) -> None:
        is_shut = barrier is not None and not barrier.has_room(self._now)
        if isinstance(barrier, Gate) and is_shut:
            gates = self._by_limit.setdefault(barrier.limit, {})
            gates[barrier] = gates.get(barrier, 0) + count
        elif self._fleet_gates or barrier is None or isinstance(barrier, Gate) or not is_shut:
            self._rest += count
        elif isinstance(barrier, Pace):
            self._paced[barrier] = self._paced.get(barrier, 0) + count
        elif barrier.shut_until > self._now:
            self._held[barrier] = self._held.get(barrier, 0) + count
        else:
            self._looks[barrier.project_id] = self._looks.get(barrier.project_id, 0) + count

    def _of_fleet(self) -> Iterator[Wait]:
        if self._fleet_gates:
            gates = sorted(self._fleet_gates, key=lambda gate: gate.frees_at(self._now))
            *before, last = gates
            words = [
                f"{limit_words(gate.limit)} ({next_words(gate, self._now)})" for gate in before
            ]
            yield Wait(
                count=self._rest + self._uncounted,
                cause=Cause.LIMIT,
                what=f"for {' and '.join((*words, limit_words(last.limit)))}",
                when=next_words(last, self._now),
                until=last.frees_at(self._now),
            )
            return
        yield Wait(count=self._rest, cause=Cause.TURN, what="for their turn or next try")
        yield Wait(count=self._uncounted, cause=Cause.TURN, what="for limits or looks of their own")

    def _of_limits(self) -> Iterator[Wait]:
        for gates in self._by_limit.values():
            first = min(gates, key=lambda gate: gate.frees_at(self._now))
            which = f"{len(gates)} full, first " if len(gates) > 1 else ""
            yield Wait(
                count=sum(gates.values()),
                cause=Cause.LIMIT,
                what=f"for {limit_words(first.limit)}",
                when=f"{which}{value_words(first)}: {next_words(first, self._now)}",
                until=first.frees_at(self._now),
            )

    def _of_paces(self) -> Iterator[Wait]:
        for pace, count in self._paced.items():
            yield Wait(
                count=count,
                cause=Cause.PACE,
                what=f"for the service's limit on {shown(pace.name)}",
                when=pace_words(pace, self._now),
                until=pace.frees_at(self._now),
            )

    def _of_doors(self) -> Iterator[Wait]:
        if self._looks:
            yield Wait(
                count=sum(self._looks.values()),
                cause=Cause.LOOK,
                what=f"for a look at {_projects(list(self._looks))}",
                when=self._failing(),
            )
        if self._held:
            first = min(self._held, key=lambda door: door.shut_until)
            again = spell_until(first.shut_until - self._now)
            yield Wait(
                count=sum(self._held.values()),
                cause=Cause.CONNECTION,
                what=f"for {_projects([door.project_id for door in self._held])}",
                when=f"next try in {again}: no connection",
                until=first.shut_until,
            )

    def _failing(self) -> str:
        """Say which of the projects that are to be looked at could not be read last time."""
        failing = [name for name in islice(self._looks, LANES_LOOKED_AT) if self._failed(name)]
        if not failing:
            return ""
        times = max(self._failed(name) for name in failing)
        return f"{_projects(failing)} could not be read, {counted(times, 'time')} so far"

    def _failed(self, project_id: str) -> int:
        return self._campaign.failed_looks(project_id)


def _projects(project_ids: Sequence[str]) -> str:
    if len(project_ids) == 1:
        return f"project {short(project_ids[0])}"
    return counted(len(project_ids), "project")


# ----------------------------------------------------------------------------------------- limits


def limit_words(limit: Limit) -> str:
    """Name a limit; a bare number needs a word more."""
    if isinstance(limit, Unavailable):
        return f"{limit} unavailable"
    return f"{limit} at once" if isinstance(limit, Concurrency) else str(limit)


def value_words(gate: Gate) -> str:
    """Name the value that a gate of a narrow limit counts."""
    return short(gate.value) if gate.value else f"no {gate.limit.scope}"


def next_words(gate: Gate, now: float) -> str:
    """Say when a gate that is full has room for one more."""
    frees_at = gate.frees_at(now)
    if frees_at < math.inf:
        return f"next in {spell_until(frees_at - now)}"
    if gate.down:
        return "next when one ends or recovers"
    return "next when one ends" if isinstance(gate.limit, Concurrency) else "next after an answer"


def pace_words(pace: Pace, now: float) -> str:
    """Say when the next of an account may start, and how fast others may follow."""
    apart = f", then one every {1 / pace.rate:.3g} s" if pace.is_slowed else ""
    return f"next in {spell_until(pace.frees_at(now) - now)}{apart}"
