"""The least time in which a fleet can be restarted under given limits, whatever the order.

For restarts with durations d (longest first), c slots, at most W starts in any T seconds, and S(m)
the sum of the m shortest, every schedule takes at least

    max over k = 0 … N-1 of   T·floor(k/W) + max( d[k], S(N-k)/c )
    d[c-1] + d[c]             where N > c

since start k, counted from 0, cannot come before T·floor(k/W), and the N-k restarts that start from
then on share c slots, are no shorter than the N-k shortest, and one of them lasts at least d[k].
This holds for the fleet and for each value of each scope, by their own limits and by the fleet's.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate

from orchestrator.limits import FLEET, Concurrency, Limit, Rate, Scoped, Unavailable, scope_value


def least_time(jobs: Iterable[tuple[Scoped, float]], limits: Sequence[Limit]) -> float:
    """Return seconds that no schedule of these restarts can go below.

    Args:
        jobs: what is restarted, and for how many seconds each holds its slot.
        limits: what has to be kept.
    """
    jobs = list(jobs)
    own = [limit for limit in limits if limit.scope == FLEET]
    everything = [seconds for _, seconds in jobs]
    slots = _slots(own)
    least = _least_of(everything, slots, _rates(own))
    for scope in dict.fromkeys(limit.scope for limit in limits if limit.scope != FLEET):
        groups: dict[str, list[float]] = defaultdict(list)
        for subject, seconds in jobs:
            groups[scope_value(subject, scope)].append(seconds)
        scoped = [limit for limit in limits if limit.scope == scope]
        narrow, rates = min(slots, _slots(scoped)), [*_rates(own), *_rates(scoped)]
        least = max([least, *(_least_of(group, narrow, rates) for group in groups.values())])
        # All values together have no more slots than each of them can fill.
        width = sum(min(narrow, len(group)) for group in groups.values())
        least = max(least, _least_of(everything, min(slots, width), ()))
    return least


def _slots(limits: Iterable[Limit]) -> float:
    # A percentage is of more than what is restarted here: without it the bound is still one.
    slots = (
        one.most
        for one in limits
        if isinstance(one, Concurrency) and not (isinstance(one, Unavailable) and one.is_percent)
    )
    return min(slots, default=math.inf)


def _rates(limits: Iterable[Limit]) -> list[Rate]:
    return [one for one in limits if isinstance(one, Rate)]


def _least_of(durations: Sequence[float], slots: float, rates: Iterable[Rate]) -> float:
    """Return the bound for restarts that share these slots and each of these rates."""
    if not durations:
        return 0.0
    longest = sorted(durations, reverse=True)
    count = len(longest)
    sums = [0.0, *accumulate(reversed(longest))]
    least = max(longest[0], sums[count] / slots)
    if count > slots:
        width = int(slots)
        least = max(least, longest[width - 1] + longest[width])
    for rate in rates:
        # Within a window's worth of starts, the first is the one that leaves the most to come.
        for first in range(0, count, rate.most):
            rest = max(longest[first], sums[count - first] / slots)
            least = max(least, rate.per * (first // rate.most) + rest)
    return least
