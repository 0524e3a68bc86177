"""In which order the targets of a wave start: as listed, spread, or shuffled.

`spread` comes as close to the least time as what is known allows. Its rules:

- Who has most left goes first. What takes longest is what one value of a narrow scope (a project, a
  region, a label) has to go through alone; its targets have to start as early and as steadily as
  its limits let them, and all others fit in between. So the next place always goes to a target of
  the value that has the most left to do, in seconds: what is expected of its restarts, shared by
  its slots, or the windows that its rate makes of them. Where several scopes are limited, the
  coarser decides between values, and the finer within each of them.
- The longest go first, within a value as in the whole fleet, so that nothing long is left when
  slots get empty, and what a rate lets go last is soon over.
- Long and short take turns where slots and a rate are about as tight as each other. Longest first
  would leave the rate unused as long as long ones hold the slots, and slots empty as soon as short
  ones use up the rate. Only what starts last, in the time that the longest takes, is sorted.

With limits of the fleet alone and restarts that are all expected to last the same nothing changes.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.limits import FLEET, Gate, Limit, Limits, Rate
from orchestrator.model import Target

_GIVEN = 0.003
"""Such a part of the whole may be lost for the sake of a short end."""

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
"""Steps of this size on a ring spread evenly, however many are taken."""


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
    expected: Sequence[float],
    seed: int,
) -> list[int]:
    """Return the positions of `group` in the order in which they are to start.

    Args:
        targets: the whole fleet.
        group: positions in it, as listed.
        order: which order.
        limits: everything that limits how much is restarted at once, or how fast.
        expected: for how many seconds the restart of each target is expected to hold its slot;
            only `spread` goes by it.
        seed: chooses among all orders, where chance does.
    """
    match order:
        case Order.LISTED:
            return list(group)
        case Order.SPREAD:
            return _Spread(targets, group, limits, expected).order()
        case Order.SHUFFLE:
            return sorted(group, key=lambda position: _lot(targets[position], seed))


def _lot(target: Target, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{target}".encode()).digest()


_Value = tuple[str, str]
"""A scope and its value."""


@dataclass(frozen=True, slots=True)
class _Room:
    """What gates let through that count the same targets."""

    slots: float
    apart: float
    """Seconds between two starts, on average."""

    @classmethod
    def behind(cls, gates: Iterable[Gate]) -> "_Room":
        slots, apart = math.inf, 0.0
        for gate in gates:
            if isinstance(gate.limit, Rate):
                apart = max(apart, gate.limit.per / gate.most)
            else:
                slots = min(slots, gate.most)
        return cls(slots, apart)

    def within(self, other: "_Room") -> "_Room":
        """Return what gets through both."""
        return _Room(min(self.slots, other.slots), max(self.apart, other.apart))

    def takes(self, count: int, seconds: float) -> float:
        """Return in how many seconds so many restarts of so many seconds together come through."""
        return max(seconds / self.slots, count * self.apart)

    def tail(self, spans: Sequence[float]) -> float:
        """Return which part of these restarts, the last of them, may go longest first."""
        whole = self.takes(len(spans), sum(spans))
        lost = sum(self.takes(1, span) for span in spans) - whole
        if lost <= _GIVEN * whole:
            return 1.0
        return min(1.0, max(_GIVEN * whole / lost, max(spans) / whole))


class _Spread:
    """A group that is put in order."""

    def __init__(
        self,
        targets: Sequence[Target],
        group: Sequence[int],
        limits: Sequence[Limit],
        expected: Sequence[float],
    ) -> None:
        self._group = group
        self._expected = expected
        counted = Limits(limits, targets)
        self._fleet = _Room.behind(counted.fleet_gates())
        self._rooms: dict[_Value, _Room] = {}
        known: dict[tuple[str, ...], tuple[_Value, ...]] = {}
        self._values: dict[int, tuple[_Value, ...]] = {}
        """The narrow values that count a target."""
        for position in group:
            key = counted.values(targets[position])
            if key not in known:
                known[key] = self._meet(counted.gates(targets[position]))
            self._values[position] = known[key]

    def _meet(self, gates: Iterable[Gate]) -> tuple[_Value, ...]:
        narrow: dict[_Value, list[Gate]] = defaultdict(list)
        for gate in gates:
            if gate.limit.scope != FLEET:
                narrow[gate.limit.scope, gate.value].append(gate)
        for value, its in narrow.items():
            self._rooms[value] = _Room.behind(its)
        return tuple(narrow)

    def order(self) -> list[int]:
        tail = self._fleet.tail(self._spans(self._group))
        order = self._arranged(self._group, tail)
        # Where long and short take turns in the fleet, values that are as good as done must not
        # part them again.
        least = max(self._spans(self._group)) if tail < 1.0 else 0.0
        sizes = Counter(scope for scope, _ in self._rooms)
        finest_first = [scope for scope, _ in sizes.most_common()]
        if finest_first:
            order = self._arranged_within(order, finest_first[0], tail, least)
        # Whom a coarse scope does not tell apart, the finer ones have spread already.
        for number in range(len(finest_first)):
            order = self._most_left_first(order, finest_first[: number + 1], least)
        return order

    def _spans(self, positions: Iterable[int]) -> list[float]:
        return [self._expected[position] for position in positions]

    def _longest_first(self, positions: Iterable[int]) -> list[int]:
        # Stable: of those that last as long, the one that came first.
        return sorted(positions, key=lambda position: -self._expected[position])

    def _arranged(self, positions: Sequence[int], tail: float) -> list[int]:
        """Let long and short take turns but in this part, the last, which goes longest first."""
        longest = self._longest_first(positions)
        count = len(longest)
        first = count - round(tail * count)
        if not first:
            return longest
        turns = sorted(range(count), key=lambda number: number * _GOLDEN % 1.0)
        mixed = [longest[number] for number in turns]
        return mixed[:first] + self._longest_first(mixed[first:])

    def _arranged_within(
        self, order: Sequence[int], scope: str, tail: float, least: float
    ) -> list[int]:
        """Arrange the targets of each value among themselves, by its limits and the fleet's.

        Those of values that take no longer than the least stay as they are.
        """
        mine: dict[_Value, list[int]] = defaultdict(list)
        value_of = {p: value for p in order for value in self._values[p] if value[0] == scope}
        for position in order:
            mine[value_of[position]].append(position)
        arranged = {}
        for value, positions in mine.items():
            spans, room = self._spans(positions), self._rooms[value]
            if room.takes(len(spans), sum(spans)) > least:
                own = min(tail, room.within(self._fleet).tail(spans))
                arranged[value] = iter(self._arranged(positions, own))
            else:
                arranged[value] = iter(positions)
        return [next(arranged[value_of[position]]) for position in order]

    def _most_left_first(
        self, order: Sequence[int], scopes: Container[str], least: float
    ) -> list[int]:
        """Sort by the seconds that any value in these scopes has left when a target's turn comes.

        So many are left at least: below that values are not told apart.
        """
        count: Counter[_Value] = Counter()
        seconds: defaultdict[_Value, float] = defaultdict(float)
        left: dict[int, float] = {}
        # From the end, so that those who have the same left have exactly the same.
        for position in reversed(order):
            left[position] = least
            for value in self._values[position]:
                if value[0] in scopes:
                    count[value] += 1
                    seconds[value] += self._expected[position]
                    takes = self._rooms[value].takes(count[value], seconds[value])
                    left[position] = max(left[position], takes)
        # Stable: of those that have as much left, the one that came first.
        return sorted(order, key=lambda position: -left[position])
