"""How much at once and how fast: concurrency and rolling windows per scope; values, not locks.

Rules:

- A *start* is one restart begun. It takes a place in every limit that counts it, at its grant.
- A concurrency limit holds the place until the outcome was observed; a rate of N per T holds it
  from the grant until T (and a guard) after the answer was *received*. The service executes
  somewhere between grant and answer, so N+1 restarts lie more than T apart there, whatever the
  network did.
- A start that certainly never began (refusal, 429, no connection) gives its places back.
- Starts of other runs count like our own; each run applies its own limits to everyone's starts.
- A start whose limit is full never holds up another whose limits have room.

Both kinds are one mechanism, a `Gate`: a place is taken for ever, then given an end.
"""

import heapq
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec

from orchestrator.model import (
    Event,
    RestartAnswered,
    RestartBegan,
    RestartDisproved,
    RestartRequested,
    RestartWithdrawn,
    Target,
    TargetEnded,
    TargetResolved,
    Verdict,
)
from orchestrator.span import format_seconds, parse_span

FLEET = "fleet"
"""The scope that counts everything."""

SCOPES = (FLEET, "project", "region")
"""The scopes that every target has; any other is the name of a label."""

GUARD = 0.25
"""Seconds added to a rate's window: covers rounding and the granularity of clocks."""

_ALL_PERCENT = 100
_SCOPE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


# ---------------------------------------------------------------------------------- what is said


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most `most` restarts in progress, in the fleet or in each value of the scope."""

    most: int
    scope: str = FLEET

    def __post_init__(self) -> None:
        _check(self.most, self.scope)

    def __str__(self) -> str:
        return str(self.most) if self.scope == FLEET else f"{self.scope}={self.most}"

    @classmethod
    def parse(cls, text: str) -> "Concurrency":
        """Read `10` or `project=2`.

        Raises:
            ValueError: with words for the operator.
        """
        scope, number = _split(text)
        if not number.isdecimal():
            raise ValueError(f"{text!r} is not a concurrency limit; write it like 10 or project=2")
        return cls(int(number), scope)


@dataclass(frozen=True, slots=True)
class Unavailable(Concurrency):
    """At most `most` of the fleet's clusters down at once: restarted, or down without us.

    As a percentage it is of the targets selected at plan time, in each value of the scope, rounded
    down, and never below 1.
    """

    is_percent: bool = False

    def __str__(self) -> str:
        number = f"{self.most}%" if self.is_percent else str(self.most)
        return number if self.scope == FLEET else f"{self.scope}={number}"

    @classmethod
    def parse(cls, text: str) -> "Unavailable":
        """Read `3`, `10%` or `project=10%`.

        Raises:
            ValueError: with words for the operator.
        """
        scope, number = _split(text)
        bare = number.removesuffix("%")
        is_percent = bare != number
        if not bare.isdecimal() or (is_percent and int(bare) > _ALL_PERCENT):
            raise ValueError(
                f"{text!r} is not a number of clusters; write it like 3 or project=10%"
            )
        return cls(int(bare), scope, is_percent)

    def of(self, total: int) -> int:
        """Return how many of `total` may be down."""
        return max(1, total * self.most // _ALL_PERCENT) if self.is_percent else self.most


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `most` restarts begun in any `per` seconds, in the fleet or each value of scope."""

    most: int
    per: float
    scope: str = FLEET

    def __post_init__(self) -> None:
        _check(self.most, self.scope)
        if not self.per > 0:
            raise ValueError(f"a rate's interval must be longer than 0s, not {self.per}")

    def __str__(self) -> str:
        text = f"{self.most}/{format_seconds(self.per)}"
        return text if self.scope == FLEET else f"{self.scope}={text}"

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Read `20/10m` or `project=5/10m`.

        Raises:
            ValueError: with words for the operator.
        """
        scope, limit = _split(text)
        number, slash, span = limit.partition("/")
        if not slash or not number.strip().isdecimal():
            raise ValueError(f"{text!r} is not a rate; write it like 20/10m or project=5/10m")
        span = span.strip()
        return cls(int(number), parse_span(span if span[:1].isdigit() else f"1{span}"), scope)


Limit = Concurrency | Rate


def parse_limit(text: str) -> Limit:
    """Read a limit as it is printed: a rate has a slash.

    Raises:
        ValueError: with words for the operator.
    """
    return Rate.parse(text) if "/" in text else Concurrency.parse(text)


def _split(text: str) -> tuple[str, str]:
    scope, equals, rest = text.strip().partition("=")
    return (scope.strip(), rest.strip()) if equals else (FLEET, scope)


def _check(most: int, scope: str) -> None:
    if most < 1:
        raise ValueError(f"a limit must allow at least 1, not {most}")
    if not _SCOPE.fullmatch(scope):
        raise ValueError(f"{scope!r} is not a scope; use fleet, project, region or a label's name")


# ------------------------------------------------------------------------------------ the ledger


# Of the ledger's values three are made for each restart and two for what happens to it: as frozen
# dataclasses these took ten times as long, a third of a decision.
class Start(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of the ledger: one restart begun, by whichever run, and what limits need of it."""

    run_id: str
    target: int
    attempt: int
    project_id: str
    cluster_id: str
    region: str | None
    labels: tuple[tuple[str, str], ...]
    granted_at: float
    settled_at: float | None = None
    """When it became certain that the call is no longer under way: its answer, or a verdict."""
    ended_at: float | None = None
    """From when on its slot is free; for an unknown outcome that lies ahead."""
    returned: bool = False
    """It certainly never began: it counts nowhere."""

    def after(self, change: "StartChange") -> "Start":
        """Return the row as `change` leaves it; the first settling and the earliest end count."""
        ended_at = self.ended_at
        if change.ended_at is not None and (ended_at is None or change.ended_at < ended_at):
            ended_at = change.ended_at
        return Start(
            run_id=self.run_id,
            target=self.target,
            attempt=self.attempt,
            project_id=self.project_id,
            cluster_id=self.cluster_id,
            region=self.region,
            labels=self.labels,
            granted_at=self.granted_at,
            settled_at=change.settled_at if self.settled_at is None else self.settled_at,
            ended_at=ended_at,
            returned=self.returned or change.returned,
        )


def start_of(event: RestartRequested, run_id: str, target: Target) -> Start:
    """Return the row for an intent."""
    return Start(
        run_id=run_id,
        target=event.target,
        attempt=event.attempt,
        project_id=target.project_id,
        cluster_id=target.cluster_id,
        region=target.region,
        labels=target.labels,
        granted_at=event.at,
    )


class StartChange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an event means for the row of its target's latest start.

    The first settling stays; of several ends the earliest counts, so that what was to stay taken
    for long can be freed by somebody who knows.
    """

    settled_at: float | None = None
    ended_at: float | None = None
    returned: bool = False


def change_of(event: Event) -> StartChange | None:
    """Return what `event` means for the ledger; the one place that knows, for every store."""
    rule = _CHANGES.get(type(event))
    return rule(event) if rule is not None else None


def _change_by_answer(event: Any) -> StartChange | None:
    verdict = event.answer.verdict
    if verdict is Verdict.LOST:
        return None
    return StartChange(settled_at=event.at) if verdict is Verdict.ACCEPTED else _RETURNED


_RETURNED = StartChange(returned=True)

# A table, and not a match: it is asked three times for each of ten thousand restarts.
_CHANGES: Mapping[type[Event], Callable[[Any], StartChange | None]] = {
    RestartWithdrawn: lambda _: _RETURNED,
    RestartAnswered: _change_by_answer,
    RestartBegan: lambda event: StartChange(settled_at=event.at),
    RestartDisproved: lambda event: StartChange(settled_at=event.at, ended_at=event.at),
    TargetEnded: lambda event: StartChange(
        settled_at=event.at, ended_at=event.slot_until or event.at
    ),
    TargetResolved: lambda event: StartChange(settled_at=event.at, ended_at=event.at),
}


# ---------------------------------------------------------------------------------------- gates


class Scoped(Protocol):
    """What a scope can tell apart: targets, and the starts of the ledger."""

    @property
    def project_id(self) -> str:
        """The project."""

    @property
    def region(self) -> str | None:
        """The region, where known."""

    @property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """Whatever else the fleet file says."""


def scope_value(subject: Scoped, scope: str) -> str:
    """Return which value of `scope` counts `subject`; all without such a label count as one."""
    if scope == FLEET:
        return ""
    if scope == "project":
        return subject.project_id
    if scope == "region":
        return subject.region or ""
    return next((value for name, value in subject.labels if name == scope), "")


class Gate:
    """The places of one limit for one value of its scope."""

    __slots__ = ("_ends", "_held", "down", "limit", "most", "value")

    def __init__(self, limit: Limit, value: str, most: int | None = None) -> None:
        self.limit = limit
        self.value = value
        self.most = limit.most if most is None else most
        self.down = 0
        """Clusters that are down without a start of anybody's, where the limit counts them."""
        self._held = 0
        self._ends: list[float] = []

    def take(self) -> None:
        """Take a place for as long as nobody says when it ends; even when there is none left."""
        self._held += 1

    def end(self, at: float) -> None:
        """Say that a place taken without an end is free from `at` on."""
        self._held -= 1
        heapq.heappush(self._ends, at)

    def move(self, end: float, at: float) -> None:
        """Say that the place that was to be free at `end` is free from `at` on."""
        if end in self._ends:
            self._ends[self._ends.index(end)] = at
            heapq.heapify(self._ends)

    def give_back(self) -> None:
        """Undo a `take`: what it was taken for never began."""
        self._held -= 1

    def taken(self, now: float) -> int:
        """Return how many places are taken."""
        while self._ends and self._ends[0] <= now:
            heapq.heappop(self._ends)
        return self._held + len(self._ends) + self.down

    def has_room(self, now: float) -> bool:
        """Return whether one more may start here."""
        return self.taken(now) < self.most

    def frees_at(self, now: float) -> float:
        """Return when there is room if nothing happens but time; infinity if only news can help."""
        surplus = self.taken(now) - self.most + 1
        if surplus <= 0:
            return now
        if surplus > len(self._ends):
            return math.inf
        return self._ends[0] if surplus == 1 else heapq.nsmallest(surplus, self._ends)[-1]

    def describe(self) -> str:
        """Name the limit and the value it counts here: `project=5/600s (6204a5bd…)`."""
        return f"{self.limit} ({self.value})" if self.value else str(self.limit)


class _Gates(NamedTuple):
    """The gates that the same starts have to pass, and which of them are of which sort."""

    all: tuple[Gate, ...]
    slots: tuple[Gate, ...]
    rates: tuple[Gate, ...]


@dataclass(slots=True)
class _Places:
    """What one start holds, and what is known of it so far."""

    slots: tuple[Gate, ...]
    rates: tuple[Gate, ...]
    settled: bool = False
    ended_at: float | None = None


class Limits:
    """Every start there is, ours and others', counted by every limit that counts it."""

    def __init__(self, limits: Sequence[Limit], fleet: Iterable[Scoped] = ()) -> None:
        """Begin to count.

        Args:
            limits: what is allowed.
            fleet: the targets selected at plan time, of which percentages are meant.
        """
        self._limits = tuple(limits)
        self._sizes = _sizes(limits, fleet)
        self._scopes = tuple(dict.fromkeys(limit.scope for limit in limits))
        self._gates: dict[tuple[str, ...], _Gates] = {}
        self._gate: dict[tuple[Limit, str], Gate] = {}
        self._places: dict[tuple[str, int, int], _Places] = {}
        self._over: list[tuple[float, tuple[str, int, int]]] = []
        self._longest = max((limit.per for limit in limits if isinstance(limit, Rate)), default=0.0)

    def values(self, subject: Scoped) -> tuple[str, ...]:
        """Return what tells `subject` apart for these limits; equal values share every gate."""
        return tuple([scope_value(subject, scope) for scope in self._scopes])

    def gates(self, subject: Scoped) -> tuple[Gate, ...]:
        """Return the gates that `subject` has to pass, the whole fleet's first."""
        return self._gates_of(subject).all

    def fleet_gates(self) -> tuple[Gate, ...]:
        """Return the gates that everyone has to pass."""
        return tuple(self._gate_of(limit, "") for limit in self._limits if limit.scope == FLEET)

    def all_gates(self) -> Iterable[Gate]:
        """Return every gate that was needed so far."""
        return self._gate.values()

    def note(self, start: Start, now: float) -> tuple[Gate, ...]:
        """Take note of how a start stands; the same news twice changes nothing.

        Returns:
            the gates that may have more room than before, now or at a known moment.
        """
        self._forget(now)
        key = (start.run_id, start.target, start.attempt)
        places = self._places.get(key)
        if places is None:
            if start.returned or self._over_at(start) <= now:
                return ()
            places = self._take(key, start)
        if start.returned:
            return self._give_back(key, places)
        freed: tuple[Gate, ...] = ()
        if start.settled_at is not None and not places.settled:
            places.settled = True
            for gate in places.rates:
                gate.end(start.settled_at + _interval(gate) + GUARD)
            freed += places.rates
        if start.ended_at is not None and start.ended_at != places.ended_at:
            for gate in places.slots:
                if places.ended_at is None:
                    gate.end(start.ended_at)
                else:
                    gate.move(places.ended_at, start.ended_at)
            places.ended_at = start.ended_at
            freed += places.slots
        if freed and (over_at := self._over_at(start)) < math.inf:
            heapq.heappush(self._over, (over_at, key))
        return freed

    def _forget(self, now: float) -> None:
        """Drop what no limit counts any more, so that a long run does not grow."""
        while self._over and self._over[0][0] <= now:
            self._places.pop(heapq.heappop(self._over)[1], None)

    def _take(self, key: tuple[str, int, int], start: Start) -> _Places:
        gates = self._gates_of(start)
        for gate in gates.all:
            gate.take()
        places = self._places[key] = _Places(gates.slots, gates.rates)
        return places

    def _give_back(self, key: tuple[str, int, int], places: _Places) -> tuple[Gate, ...]:
        del self._places[key]
        rates = () if places.settled else places.rates
        slots = places.slots if places.ended_at is None else ()
        for gate in (*rates, *slots):
            gate.give_back()
        return (*rates, *slots)

    def _over_at(self, start: Start) -> float:
        """Return from when on no limit counts this start."""
        if start.settled_at is None or start.ended_at is None:
            return math.inf
        return max(start.settled_at + self._longest + GUARD, start.ended_at)

    def _gates_of(self, subject: Scoped) -> "_Gates":
        values = self.values(subject)
        found = self._gates.get(values)
        if found is None:
            by_scope = dict(zip(self._scopes, values, strict=True))
            ordered = sorted(self._limits, key=lambda limit: limit.scope != FLEET)
            gates = tuple(self._gate_of(limit, by_scope[limit.scope]) for limit in ordered)
            found = self._gates[values] = _Gates(
                all=gates,
                slots=tuple(gate for gate in gates if isinstance(gate.limit, Concurrency)),
                rates=tuple(gate for gate in gates if isinstance(gate.limit, Rate)),
            )
        return found

    def _gate_of(self, limit: Limit, value: str) -> Gate:
        gate = self._gate.get((limit, value))
        if gate is None:
            size = self._sizes[limit.scope, value]
            most = limit.of(size) if isinstance(limit, Unavailable) else limit.most
            gate = self._gate[limit, value] = Gate(limit, value, most)
        return gate


def counts_within(moments: Sequence[float], span: float) -> Iterator[int]:
    """Yield of each of ascending moments how many lie in the interval of that length up to it.

    Both its ends are part of it. It is how to look back at what a rate let through.
    """
    first = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] > span:
            first += 1
        yield last - first + 1


def most_within(moments: Sequence[float], span: float) -> int:
    """Return how many of ascending moments any interval of that length holds at most."""
    return max(counts_within(moments, span), default=0)


def _sizes(limits: Iterable[Limit], fleet: Iterable[Scoped]) -> Counter[tuple[str, str]]:
    """Count the targets in each value of the scopes that percentages need."""
    scopes = {
        limit.scope for limit in limits if isinstance(limit, Unavailable) and limit.is_percent
    }
    if not scopes:
        return Counter()
    return Counter((scope, scope_value(target, scope)) for target in fleet for scope in scopes)


def _interval(gate: Gate) -> float:
    return gate.limit.per if isinstance(gate.limit, Rate) else 0.0
