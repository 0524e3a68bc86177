"""In which order the targets of a wave start: as listed, spread over narrow limits, or shuffled.

`spread` is for limits that count a project, a region or a label. What takes longest is what one
value of such a scope has to go through alone; its targets have to start as early and as steadily as
its limit lets them, and all others fit in between. So the next place always goes to a target of the
value that has the most left to do, measured in time: for c at once that is n/c restarts one after
the other, for W in any T it is n/W windows. With limits of the fleet alone nothing changes. Where
several scopes are limited, the coarser decides between values, and the finer within each of them.
"""

import hashlib
from collections import Counter
from collections.abc import Container, Mapping, Sequence
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
    costs: dict[int, Mapping[_Value, float]] = {}
    for position in group:
        key = counted.values(targets[position])
        if key not in known:
            known[key] = _costs(counted, targets[position], duration)
        costs[position] = known[key]
    sizes = Counter(scope for scope, _ in {value for cost in known.values() for value in cost})
    order = list(group)
    # Scope by scope, the finest first: whom a coarse one does not tell apart, the finer ones have
    # spread already.
    for number in range(len(sizes)):
        scopes = {scope for scope, _ in sizes.most_common(number + 1)}
        order = _most_left_first(order, costs, scopes)
    return order


def _most_left_first(
    order: Sequence[int], costs: Mapping[int, Mapping[_Value, float]], scopes: Container[str]
) -> list[int]:
    """Sort by the seconds that any value in these scopes has left when a target's turn comes."""
    left = Counter(value for position in order for value in costs[position])
    seconds: dict[int, float] = {}
    for position in order:
        cost = costs[position]
        seconds[position] = max(left[value] * cost[value] for value in cost if value[0] in scopes)
        left.subtract(cost.keys())
    # Stable: of those that have as much left, the one that came first.
    return sorted(order, key=lambda position: -seconds[position])


def _costs(counted: Limits, target: Target, duration: float) -> Mapping[_Value, float]:
    """Return what a restart of the target costs each narrow value that counts it, in seconds."""
    costs: dict[_Value, float] = {}
    for gate in counted.gates(target):
        if gate.limit.scope != FLEET:
            whole = gate.limit.per if isinstance(gate.limit, Rate) else duration
            value = (gate.limit.scope, gate.value)
            costs[value] = max(costs.get(value, 0.0), whole / gate.most)
    return costs
