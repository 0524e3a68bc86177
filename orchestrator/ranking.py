"""In which order the targets of a wave start: as listed, spread over narrow limits, or shuffled.

`spread` is for limits that count a project, a region or a label. What takes longest is what one
value of such a scope has to go through alone; its targets have to start as early and as steadily as
its limit lets them, and all others fit in between. So the next place always goes to a target of the
value that has the most left to do, measured in time: for c at once that is n/c restarts one after
the other, for W in any T it is n/W windows. With limits of the fleet alone nothing changes.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum

from orchestrator.limits import FLEET, Limit, Limits, Rate
from orchestrator.model import Target


class Order(StrEnum):
    """In which order targets start, as far as limits let them."""

    LISTED = "listed"
    SPREAD = "spread"
    SHUFFLE = "shuffle"


def ranked(
    targets: Sequence[Target],
    group: Sequence[int],
    order: Order,
    *,
    limits: Sequence[Limit],
    duration: float,
    seed: int,
) -> list[int]:
    """Return the positions of `group` in the order in which they are to start.

    Args:
        targets: the whole fleet.
        group: positions in it, as listed.
        order: which order.
        limits: everything that limits how much is restarted at once, or how fast.
        duration: how many seconds a restart is expected to take.
        seed: chooses among all orders, where chance does.
    """
    match order:
        case Order.LISTED:
            return list(group)
        case Order.SPREAD:
            return _spread(targets, group, limits, duration)
        case Order.SHUFFLE:
            return sorted(group, key=lambda position: _lot(targets[position], seed))


def _lot(target: Target, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{target}".encode()).digest()


_Value = tuple[str, str]
"""A scope and its value."""


def _spread(
    targets: Sequence[Target], group: Sequence[int], limits: Sequence[Limit], duration: float
) -> list[int]:
    counted = Limits(limits, targets)
    known: dict[tuple[str, ...], Mapping[_Value, float]] = {}
    costs = []
    left: Counter[_Value] = Counter()
    for position in group:
        key = counted.values(targets[position])
        if key not in known:
            known[key] = _costs(counted, targets[position], duration)
        costs.append(known[key])
        left.update(known[key].keys())
    seconds_left: dict[int, float] = {}
    for position, cost in zip(group, costs, strict=True):
        seconds_left[position] = max(
            (left[value] * seconds for value, seconds in cost.items()), default=0.0
        )
        left.subtract(cost.keys())
    # Stable: of those that have as much left, the one that was listed first.
    return sorted(group, key=lambda position: -seconds_left[position])


def _costs(counted: Limits, target: Target, duration: float) -> Mapping[_Value, float]:
    """Return what a restart of the target costs each narrow value that counts it, in seconds."""
    costs: dict[_Value, float] = {}
    for gate in counted.gates(target):
        if gate.limit.scope != FLEET:
            whole = gate.limit.per if isinstance(gate.limit, Rate) else duration
            value = (gate.limit.scope, gate.value)
            costs[value] = max(costs.get(value, 0.0), whole / gate.most)
    return costs
