"""Targets and policy → an ordered plan in waves, the canary first; a plan has an id.

Percentages are integers of the targets selected at plan time, rounded down, never below 1.

The id stands for what is asked for: the fleet as listed, its waves, the policy, and how a wave is
put in order. What the journal makes of that order is no part of it: a run that was killed half-way
has taught the journal something, and must still be found by whoever asks for the same again.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from orchestrator.errors import PlanError
from orchestrator.experience import Durations, expected_seconds
from orchestrator.limits import FLEET, Concurrency, Limit, Rate, Unavailable, parse_limit
from orchestrator.model import LimitsChanged, Target, WindowChanged
from orchestrator.ranking import Order, ranked
from orchestrator.span import format_moment

_ALL_PERCENT = 100


class Unhealthy(StrEnum):
    """What to do with a cluster that is not ready before its restart."""

    SKIP = "skip"
    RESTART = "restart"
    FIRST = "first"


class FailureMode(StrEnum):
    """Whether failures also shrink concurrency while they are still allowed."""

    NORMAL = "normal"
    STRICT = "strict"


@dataclass(frozen=True, slots=True)
class Portion:
    """A number of targets, or a percentage of those selected: `3`, `10%`."""

    number: int
    is_percent: bool = False

    def __str__(self) -> str:
        return f"{self.number}%" if self.is_percent else str(self.number)

    @classmethod
    def parse(cls, text: str) -> "Portion":
        """Read `3` or `10%`.

        Raises:
            ValueError: with words for the operator.
        """
        cleaned = text.strip()
        number = cleaned.removesuffix("%")
        is_percent = number != cleaned
        if not number.isdecimal() or (is_percent and int(number) > _ALL_PERCENT):
            raise ValueError(f"{text!r} is not a number of targets; write it like 3 or 10%")
        return cls(int(number), is_percent)

    def of(self, total: int) -> int:
        """Return how many of `total` this is; a percentage above 0 is at least 1."""
        if not self.is_percent:
            return self.number
        return max(1, total * self.number // _ALL_PERCENT) if self.number else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When restarts may start; moments of the wall clock, in seconds since 1970."""

    not_before: float | None = None
    cutoff: float | None = None
    """Nothing starts after this."""
    deadline: float | None = None
    """Nothing starts that is expected to last beyond this."""

    @property
    def has_end(self) -> bool:
        """Whether there is a moment from which on nothing may start."""
        return self.cutoff is not None or self.deadline is not None

    def words(self) -> dict[str, str]:
        """Return each bound that there is in words, by its name: `done by 2026-11-23T20:00:00Z`."""
        bounds = (
            ("not_before", "not before"),
            ("cutoff", "no start after"),
            ("deadline", "done by"),
        )
        return {
            name: f"{what} {format_moment(at)}"
            for name, what in bounds
            if (at := getattr(self, name)) is not None
        }

    def __str__(self) -> str:
        return ", ".join(self.words().values()) or "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How one run restarts and judges; frozen with the plan. Spans are seconds.

    The defaults are those of the contract (design, configuration).
    """

    limits: tuple[Limit, ...] = (Concurrency(10), Rate(20, 600.0))
    max_unavailable: tuple[Unavailable, ...] = ()
    """How many clusters may be down at once, with those that are down without us."""
    max_failures: Portion = Portion(0)
    """Failures allowed; one more stops the run."""
    failure_mode: FailureMode = FailureMode.NORMAL
    unhealthy: Unhealthy = Unhealthy.SKIP
    unhealthy_asked: bool = False
    """Whether the operator asked for `unhealthy` in so many words: such skips are no fault."""
    wait: bool = True
    """Follow each restart to its end; without it a target ends as `accepted` with its answer."""
    confirm_within: float = 90.0
    """A restart must be seen to begin within this long after its call."""
    settle: float = 0.0
    """Health is ignored this long after the answer."""
    stable_for: float = 20.0
    """A cluster must be ready this long without a break."""
    healthy_deadline: float = 3600.0
    """A cluster must be ready by this long after its call; of a rolling restart, each node."""
    expected_duration: float = 300.0
    """How long a restart is expected to take while this journal knows no better; of a rolling one,
    the restart of each of three nodes."""
    max_reissues: int = 1
    """How often a call may be repeated that was lost and proved not to have begun anything."""
    confirm_waves: bool = False
    """Whether each wave but the first waits for somebody's word."""
    poll_every: float = 5.0
    """How often what runs is looked at: one list call a project."""
    gates: tuple[str, ...] = ()
    """Commands that have to say go before anything starts."""
    gate_every: float = 30.0
    """How often they are asked while anything waits; before each wave in any case."""
    gate_timeout: float = 30.0
    """How long each of them may take to answer."""
    window: Window = Window()
    """When anything may start; no part of the plan's identity, as spans count from its making."""

    @property
    def longest_interval(self) -> float:
        """The longest interval of any rate, in seconds: for so long starts can matter."""
        return max((limit.per for limit in self.limits if isinstance(limit, Rate)), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Targets between two barriers, as positions in the fleet; the soak after them in seconds."""

    name: str
    targets: tuple[int, ...]
    soak: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run will do: targets in the fleet's order, in waves, under one policy."""

    plan_id: str
    targets: tuple[Target, ...]
    waves: tuple[Wave, ...]
    policy: Policy
    source: tuple[str, ...] = ()
    ordered: str = ""
    """How the targets of a wave were put in order: `spread`, `shuffle 7`; empty: as listed."""

    def kinds(self) -> list[str]:
        """Return the kind of restart of each target, as it is printed."""
        names = {target.kind: str(target.kind) for target in self.targets}
        return [names[target.kind] for target in self.targets]

    def order(self) -> Sequence[int]:
        """Return all positions in the order in which they are to start; empty: as numbered."""
        order = [position for wave in self.waves for position in wave.targets]
        return () if order == list(range(len(order))) else order


def changed_policy(policy: Policy, event: LimitsChanged | WindowChanged) -> Policy:
    """Return the policy as an operator changed it in the middle of a run."""
    if isinstance(event, WindowChanged):
        return replace(policy, window=window_of(event))
    down = event.max_unavailable
    return replace(
        policy,
        limits=tuple(parse_limit(text) for text in event.limits),
        max_unavailable=(
            policy.max_unavailable if down is None else tuple(map(Unavailable.parse, down))
        ),
        max_failures=Portion.parse(event.max_failures),
    )


def window_of(event: WindowChanged) -> Window:
    """Return the window that an operator gave a run in its middle."""
    return Window(not_before=event.not_before, cutoff=event.cutoff, deadline=event.deadline)


def loosened(new: Policy, old: Policy, targets: int) -> list[str]:
    """Name what `old` kept and `new` does not, for a fleet of so many targets; nothing if all is.

    Only what can be changed in the middle of a run is compared.
    """
    limits = [str(kept) for kept in old.limits if not any(_keeps(one, kept) for one in new.limits)]
    down = [
        f"{kept} unavailable"
        for kept in old.max_unavailable
        if not any(_keeps_up(one, kept, targets) for one in new.max_unavailable)
    ]
    failures = (
        [f"failures {old.max_failures}"]
        if new.max_failures.of(targets) > old.max_failures.of(targets)
        else []
    )
    return [*limits, *down, *failures, *_opened(new.window, old.window)]


def _keeps(limit: Limit, kept: Limit) -> bool:
    """Whether whoever is within `limit` is within `kept`, too.

    A rate of a shorter interval never is, however low: it forgets what `kept` still counts.
    """
    if isinstance(limit, Rate) and isinstance(kept, Rate):
        return limit.scope == kept.scope and limit.most <= kept.most and limit.per >= kept.per
    return type(limit) is type(kept) and limit.scope == kept.scope and limit.most <= kept.most


def _keeps_up(limit: Unavailable, kept: Unavailable, targets: int) -> bool:
    """Whether `limit` leaves at least as many clusters available as `kept`."""
    if limit.scope != kept.scope:
        return False
    if limit.is_percent == kept.is_percent:
        return limit.most <= kept.most
    if limit.scope == FLEET:
        return limit.of(targets) <= kept.of(targets)
    # How many a percentage of a narrow scope is differs with its values; it is at least one.
    return not limit.is_percent and limit.most == 1


def _opened(new: Window, old: Window) -> list[str]:
    """Name the bounds of `old` beyond which restarts may start under `new`."""
    words = old.words()
    looser = {
        "not_before": (new.not_before or -math.inf) < (old.not_before or -math.inf),
        "cutoff": (new.cutoff or math.inf) > (old.cutoff or math.inf),
        "deadline": (new.deadline or math.inf) > (old.deadline or math.inf),
    }
    return [words[name] for name, is_looser in looser.items() if is_looser]


CANARY = "canary"
"""The wave in which a failure always stops the run."""

REST = "rest"
"""Whatever the waves before have left."""

_CANARY_FROM = 11
"""Fleets of this size and more get a canary unless the operator says otherwise."""


def make_plan(
    targets: Sequence[Target],
    policy: Policy,
    *,
    canary: Portion | None = None,
    waves: Sequence[str] = (),
    soak: float = 0.0,
    order: Order = Order.LISTED,
    seed: int = 0,
    known: Mapping[str, Durations] = MappingProxyType({}),
    source: Sequence[str] = (),
) -> Plan:
    """Put targets into waves and give the whole an id.

    Args:
        targets: the fleet, in its order.
        policy: how to restart and judge.
        canary: how many go first, alone; None means one for fleets over ten that are followed.
        waves: sizes such as `1`, `5`, `10%`, `rest`; empty: one wave, or the fleet's own column.
        soak: seconds after each wave but the last in which its clusters must stay healthy.
        order: in which order the targets of a wave start; the waves are cut as the fleet is listed.
        seed: chooses among all orders, where chance does.
        known: how long restarts of each kind lasted before, for an order that goes by that.
        source: where the fleet was read from, for the report.

    Raises:
        PlanError: no targets, or waves that contradict the fleet.
    """
    if not targets:
        raise PlanError("planning the run: the fleet is empty; name at least one cluster")
    limits = (*policy.limits, *policy.max_unavailable)
    expected: Sequence[float] = ()
    if order is Order.SPREAD:  # no other goes by it, and a large fleet takes a while
        expected = expected_seconds(targets, known, policy.expected_duration)
    groups = [
        (name, ranked(targets, group, order, limits=limits, expected=expected, seed=seed))
        for name, group in _groups(targets, policy, canary, waves)
    ]
    planned = tuple(
        Wave(name=name, targets=tuple(group), soak=0.0 if last else soak)
        for (name, group), last in zip(groups, [False] * (len(groups) - 1) + [True], strict=True)
    )
    ordered = _order_words(order, seed)
    return Plan(
        plan_id=_identity(targets, planned, policy, ordered),
        targets=tuple(targets),
        waves=planned,
        policy=policy,
        source=tuple(source),
        ordered=ordered,
    )


def with_targets(plan: Plan, targets: Sequence[Target]) -> Plan:
    """Return the plan for the same clusters, of which something else is known now."""
    known = tuple(targets)
    if known == plan.targets:
        return plan
    plan_id = _identity(known, plan.waves, plan.policy, plan.ordered)
    return replace(plan, targets=known, plan_id=plan_id)


def _groups(
    targets: Sequence[Target], policy: Policy, canary: Portion | None, waves: Sequence[str]
) -> list[tuple[str, list[int]]]:
    by_column = any(target.wave is not None for target in targets)
    if by_column and waves:
        raise PlanError(
            "planning the run: the fleet has a wave column and --waves was given too; "
            "drop one of the two"
        )
    if canary is None:
        alone = len(targets) >= _CANARY_FROM and policy.wait and not by_column and not waves
        canary = Portion(1 if alone else 0)
    positions = list(range(len(targets)))
    first = min(canary.of(len(targets)), len(targets))
    groups = [(CANARY, positions[:first])] if first else []
    if by_column:
        return groups + _by_column(targets, positions[first:])
    return groups + _by_size(len(targets), positions[first:], waves, first=len(groups) + 1)


def _by_column(targets: Sequence[Target], positions: list[int]) -> list[tuple[str, list[int]]]:
    named: dict[str, list[int]] = {}
    for position in positions:
        named.setdefault(targets[position].wave or REST, []).append(position)
    names = [name for name in named if name != REST]
    if all(name.isdecimal() for name in names):
        names.sort(key=int)
    # A fleet may name its own canary; wherever it stands in the file, it goes first.
    names.sort(key=lambda name: name != CANARY)
    return [(name, named[name]) for name in (*names, REST) if name in named]


def _by_size(
    total: int, positions: list[int], waves: Sequence[str], *, first: int
) -> list[tuple[str, list[int]]]:
    """Cut the targets into waves, the first of which is the run's wave of that number."""
    groups: list[tuple[str, list[int]]] = []
    for number, size in enumerate(waves, start=first):
        count = len(positions) if size == REST else Portion.parse(size).of(total)
        if positions and count:
            groups.append((REST if size == REST else f"wave {number}", positions[:count]))
        positions = positions[count:]
    if positions:
        groups.append((REST, positions))
    return groups


def _order_words(order: Order, seed: int) -> str:
    match order:
        case Order.LISTED:
            return ""
        case Order.SPREAD:
            return order.value
        case Order.SHUFFLE:
            return f"{order.value} {seed}"


def _has_gaps(positions: Sequence[int]) -> bool:
    return positions[-1] - positions[0] >= len(positions)


def _identity(
    targets: Sequence[Target], waves: Sequence[Wave], policy: Policy, ordered: str
) -> str:
    digest = hashlib.sha256()
    for target in targets:
        digest.update(f"{target}\0{target.kind}\0".encode())
    digest.update(repr([(wave.name, len(wave.targets), wave.soak) for wave in waves]).encode())
    members = [sorted(wave.targets) for wave in waves]
    if sorted(members) != members or any(map(_has_gaps, members)):
        digest.update(repr(members).encode())
    digest.update(ordered.encode())
    digest.update(repr(replace(policy, window=Window())).encode())
    return digest.hexdigest()[:12]
