"""What restarts of the past say of how long the next ones will last.

Rules:

- What a cluster did itself counts: the middle of its own last restarts of the same kind. Beside it
  counts what is usual for the kind, which is all that is known of clusters without a past.
- How much either counts was measured. Where a cluster's restarts differ little from each other and
  clusters differ a lot, one restart says nearly everything; where they differ as much, next to
  nothing, and each further one says more.
- Durations are compared by their ratio: half as long is as far from usual as twice as long.
- Of a kind that was never seen a restart takes as long as the operator expects.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Protocol

from orchestrator.model import WHOLE, Call, Kind, Target

Pair = tuple[str, str]
"""A project and a cluster of it."""

SHORTEST = 1e-3
"""Seconds; what took less, as a restart that was over within one look, has no ratio to others."""

NEWEST = 5
"""So many restarts of one cluster, the newest, say what it does by now."""

_ENOUGH = 10
"""So many repeated restarts of a kind say how far those of one cluster differ."""

_LIKELY_SHARE = 0.5
"""Before that, such a part of all difference is taken to be between clusters."""

_LEAST_SHARE = 0.1
"""However alike clusters seem, their own past counts for something."""

_AUTO = (WHOLE, Kind(Call.REBOOT))
"""What a kind that is still to be chosen may become, the usual one first."""


class PastRestart(Protocol):
    """A restart that ended well, as a journal has it."""

    @property
    def project_id(self) -> str:
        """The project."""

    @property
    def cluster_id(self) -> str:
        """The cluster."""

    @property
    def kind(self) -> str:
        """The kind of restart, as it is printed."""

    @property
    def ready(self) -> float:
        """Seconds from its grant until the cluster was seen ready, and stayed so."""

    @property
    def whole(self) -> float:
        """Seconds from its grant until its end, when its slot was free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """How long restarts of a kind lasted that ended well: seconds from grant, shortest first."""

    ready: tuple[float, ...]
    """Until the cluster was seen ready, and stayed so."""
    whole: tuple[float, ...]
    """Until the end, when the slot was free."""
    ready_of: Mapping[Pair, Sequence[float]] = field(default_factory=dict)
    """The same of each cluster, by its newest restarts."""
    whole_of: Mapping[Pair, Sequence[float]] = field(default_factory=dict)


def learn(past: Iterable[PastRestart]) -> Mapping[str, Durations]:
    """Return what restarts of the past say, by kind; those of the newest runs come first."""
    ready: dict[str, dict[Pair, list[float]]] = defaultdict(lambda: defaultdict(list))
    whole: dict[str, dict[Pair, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in past:
        pair = (one.project_id, one.cluster_id)
        ready[one.kind][pair].append(one.ready)
        whole[one.kind][pair].append(one.whole)
    return {
        kind: Durations(
            ready=_sorted(ready[kind]),
            whole=_sorted(whole[kind]),
            ready_of=_newest(ready[kind]),
            whole_of=_newest(whole[kind]),
        )
        for kind in whole
    }


def _sorted(spans: Mapping[Pair, Sequence[float]]) -> tuple[float, ...]:
    return tuple(sorted(span for own in spans.values() for span in own))


def _newest(spans: Mapping[Pair, Sequence[float]]) -> Mapping[Pair, tuple[float, ...]]:
    return {pair: tuple(own[:NEWEST]) for pair, own in spans.items()}


@dataclass(frozen=True, slots=True)
class Outlook:
    """How long one cluster's next restart is likely to last."""

    middle: float
    """Seconds; it is as likely to last longer as to last less."""
    share: float
    """How far it may be off, beside all restarts of the kind: 1 is as far, 0 not at all."""
    expected: float
    """Seconds that it lasts on average."""


class Habit:
    """What is usual for one kind of restart, and how much a cluster's own past counts beside it."""

    def __init__(self, spans: Sequence[float], of_each: Iterable[Sequence[float]] = ()) -> None:
        """Measure it.

        Args:
            spans: seconds that restarts of the kind lasted; one at least.
            of_each: the same, cluster by cluster.
        """
        logs = [_log(span) for span in spans]
        self._middle = median(logs)
        self._spread = fmean((one - self._middle) ** 2 for one in logs)
        repeated = [[_log(span) for span in own] for own in of_each if len(own) > 1]
        self._between = self._spread * _share_between(self._spread, repeated)

    @property
    def middle(self) -> float:
        """Seconds of which half of all restarts last less."""
        return math.exp(self._middle)

    def outlook(self, own: Sequence[float] = ()) -> Outlook:
        """Return how long the next restart of a cluster is likely to last.

        Args:
            own: seconds that its own last ones lasted.
        """
        spread, middle = self._spread, self._middle
        if own and spread:
            # Of what a cluster showed so often, so much is the cluster and not its luck.
            within = spread - self._between
            weight = self._between / (self._between + within / len(own))
            middle += weight * (median(map(_log, own)) - middle)
            spread -= weight * self._between
        return Outlook(
            middle=math.exp(middle),
            share=math.sqrt(spread / self._spread) if self._spread else 1.0,
            expected=math.exp(middle + spread / 2),
        )


def _share_between(spread: float, repeated: Sequence[Sequence[float]]) -> float:
    """Return which part of all difference is between clusters, and not between their restarts."""
    freedom = sum(len(own) - 1 for own in repeated)
    if freedom < _ENOUGH or not spread:
        return _LIKELY_SHARE
    within = sum(map(_scatter, repeated)) / freedom
    return max(_LEAST_SHARE, 1.0 - within / spread)


def _scatter(values: Sequence[float]) -> float:
    mean = fmean(values)
    return sum((value - mean) ** 2 for value in values)


def _log(span: float) -> float:
    return math.log(max(span, SHORTEST))


def own_past(target: Target, known: Mapping[str, Durations]) -> tuple[str, Sequence[float]]:
    """Return the kind whose past counts for a target, and how long its own restarts lasted.

    Args:
        target: what is to be restarted.
        known: what was seen of each kind.
    """
    kinds = _AUTO if target.kind.is_auto else (target.kind,)
    pair = (target.project_id, target.cluster_id)
    for kind in map(str, kinds):
        if kind in known and pair in known[kind].whole_of:
            return kind, known[kind].whole_of[pair]
    return str(kinds[0]), ()


def count_known(targets: Iterable[Target], known: Mapping[str, Durations]) -> int:
    """Return how many of the targets have a past of their own."""
    return sum(bool(own_past(target, known)[1]) for target in targets)


def expected_seconds(
    targets: Iterable[Target], known: Mapping[str, Durations], usual: float
) -> list[float]:
    """Return for how long the restart of each target is expected to hold its slot.

    Args:
        targets: what is restarted.
        known: what was seen of each kind.
        usual: seconds that a restart takes of which nothing is known.
    """
    if not known:
        return [usual * target.kind.steps() for target in targets]
    habits = {kind: Habit(one.whole, one.whole_of.values()) for kind, one in known.items()}
    strangers = {kind: habit.outlook().expected for kind, habit in habits.items()}
    expected = []
    for target in targets:
        kind, own = own_past(target, known)
        if own:
            expected.append(habits[kind].outlook(own).expected)
        else:
            expected.append(strangers.get(kind, usual * target.kind.steps()))
    return expected
