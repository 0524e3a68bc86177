"""Who may go next: nobody waits behind a limit that does not count them.

Targets that the same limits count wait in one *lane*, in the order of the plan. A lane that meets
a full gate waits at that gate and is not looked at again before the gate has room, so that a grant
costs O(log n) however many targets wait, and a narrow scope never holds up another.

Each project has a *door* besides: it is open while the project's baselines are fresh. A lane that
finds every limit open and its door shut makes the project `wanted`: somebody must look. Those who
come later in the plan leave it a moment for that, so that the plan's order is kept; but a look that
fails or dawdles holds up nobody for longer than that. No more projects are wanted at once than
there is room for.

Inside, a target is known by its *rank*: its place in the order of the plan, or for those who go
first of all, before zero.

Each account, the credential of one or more projects, has a *pace*. It comes before the door: nobody
looks for those who may not be asked yet.
"""

import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from orchestrator.limits import Gate, Limits, Unavailable
from orchestrator.model import Target
from orchestrator.pace import Pace, Paces

PATIENCE = 1.0
"""Seconds that later targets leave a project for the look that its earlier ones need."""

_FIRST = 1 << 40
"""By so much the rank of who goes first is less than its place in the order of the plan."""


class Door:
    """Whether targets of one project may start as far as the project itself is concerned."""

    __slots__ = ("fresh_until", "project_id", "shut_until", "sought_at")

    def __init__(self, project_id: str) -> None:
        self.project_id = project_id
        self.sought_at: float | None = None
        """Since when somebody waits for a look, if it did not come yet."""
        self.fresh_until = -math.inf
        self.shut_until = -math.inf

    def has_room(self, now: float) -> bool:
        """Return whether the baselines are fresh and nobody asked us to wait."""
        return self.shut_until <= now <= self.fresh_until

    def frees_at(self, now: float) -> float:
        """Return when the door may open by time alone; infinity if somebody must look first."""
        if self.shut_until > now:
            return self.shut_until
        return now if now <= self.fresh_until else math.inf

    def is_stale(self, now: float) -> bool:
        """Return whether only a look could open the door."""
        return self.shut_until <= now and self.fresh_until < now


Barrier = Gate | Pace | Door
"""What a lane may wait at."""


@dataclass(slots=True, eq=False)
class _Lane:
    gates: tuple[Gate, ...]
    pace: Pace
    door: Door
    is_down: bool
    queue: list[int] = field(default_factory=list)
    is_placed: bool = False
    woken_by: Barrier | None = None


@dataclass(slots=True)
class _Stop:
    """The lanes that wait at one barrier, and when it is next asked."""

    lanes: list[tuple[int, int, _Lane]] = field(default_factory=list)
    asked_at: float = math.inf


class Lanes:
    """The targets that wait, and who of them may go."""

    def __init__(
        self, limits: Limits, paces: Paces | None = None, order: Sequence[int] = ()
    ) -> None:
        """Begin with nobody waiting.

        Args:
            limits: what is counted.
            paces: how fast accounts may be asked.
            order: all positions in the order of the plan; without it, that of their numbers.
        """
        self._order = order
        self._ranks = {position: rank for rank, position in enumerate(order)}
        self._limits = limits
        self._paces = Paces() if paces is None else paces
        # Who is down passes the limits on what is unavailable, so these do not hold up everybody.
        self._fleet_gates = tuple(
            gate for gate in limits.fleet_gates() if not isinstance(gate.limit, Unavailable)
        )
        self._lanes: dict[tuple[str, ...], _Lane] = {}
        self._doors: dict[str, Door] = {}
        self._ready: list[tuple[int, int, _Lane]] = []
        self._stops: dict[Barrier, _Stop] = {}
        self._agenda: list[tuple[float, int, Barrier]] = []
        self._later: list[tuple[float, int, bool, Target]] = []
        self._count = 0
        self._ticket = 0
        self._sought: list[tuple[int, int, Door]] = []
        self.wanted: set[str] = set()

    def under(
        self, limits: Limits, targets: Sequence[Target], is_down: Callable[[int], bool]
    ) -> "Lanes":
        """Return the same targets waiting under other limits; what is known of projects stays.

        Args:
            limits: what is counted from now on.
            targets: all of them, by position.
            is_down: whether the target at a position is down already.
        """
        moved = Lanes(limits, self._paces, self._order)
        for project_id, door in self._doors.items():
            kept = moved.door(project_id)
            kept.fresh_until, kept.shut_until = door.fresh_until, door.shut_until
        for lane in self._lanes.values():
            for rank in lane.queue:
                position = self._position_at(rank)
                waits, goes_first = targets[position], rank < 0
                moved.put(position, waits, is_down=is_down(position), goes_first=goes_first)
        for not_before, rank, _, target in self._later:
            position, goes_first = self._position_at(rank), rank < 0
            down = is_down(position)
            moved.put(position, target, not_before, is_down=down, goes_first=goes_first)
        return moved

    def __len__(self) -> int:
        """Return how many targets wait."""
        return self._count

    def put(
        self,
        position: int,
        target: Target,
        not_before: float = -math.inf,
        *,
        is_down: bool = False,
        goes_first: bool = False,
    ) -> None:
        """Let a target wait for its turn, which does not come before `not_before`.

        Args:
            position: the target's.
            target: what it is.
            not_before: the moment from which on it is in line.
            is_down: it makes nothing more unavailable, and passes the limits on that.
            goes_first: its turn comes before that of all who do not.
        """
        self._count += 1
        rank = self._ranks.get(position, position)
        if goes_first:
            rank -= _FIRST
        if not_before > -math.inf:
            heapq.heappush(self._later, (not_before, rank, is_down, target))
        else:
            self._join(rank, target, is_down=is_down)

    def door(self, project_id: str) -> Door:
        """Return the project's door."""
        found = self._doors.get(project_id)
        if found is None:
            found = self._doors[project_id] = Door(project_id)
        return found

    def changed(self, barriers: Iterable[Barrier], now: float) -> None:
        """Say that these may have more room than before."""
        for barrier in barriers:
            if isinstance(barrier, Door) and barrier.has_room(now):
                barrier.sought_at = None
            if barrier in self._stops:
                self._ask_again(barrier, barrier.frees_at(now), now)

    def next(self, now: float) -> int | None:
        """Take the first target out that every limit and its door lets through now.

        The caller takes its places (`Limits.note`) before asking for the next.
        """
        self._let_join(now)
        while True:
            for gate in self._fleet_gates:
                if not gate.has_room(now):
                    return None
            self._wake(now)
            if not self._ready:
                return None
            _, _, lane = heapq.heappop(self._ready)
            woken_by, lane.woken_by = lane.woken_by, None
            barrier = _first_shut(lane, now)
            if self._yields(lane, barrier, now):
                lane.woken_by = woken_by
                self._place(lane)
                return None
            if barrier is None:
                position = self._position_at(heapq.heappop(lane.queue))
                self._count -= 1
                self._place(lane)
                if woken_by is not None:
                    self._ask_again(woken_by, now, now)
                return position
            self._park(lane, barrier, now)
            if woken_by is not None and woken_by is not barrier:
                self._ask_again(woken_by, now, now)

    def wake_at(self, now: float) -> float:
        """Return when `next` may have more to say if nothing happens but time."""
        times = [self._later[0][0] if self._later else math.inf]
        if self._ready or self._agenda:
            fleet = max((gate.frees_at(now) for gate in self._fleet_gates), default=now)
            lanes = [self._agenda[0][0]] if self._agenda else []
            if self._ready:
                lanes.append(self._yields_until(self._ready[0][0], now))
            times.append(max(fleet, min(lanes)))
        return min(times)

    def is_waited_at(self, barrier: Barrier) -> bool:
        """Return whether any target waits here."""
        return barrier in self._stops

    def waiting(self, now: float) -> Iterable[tuple[Barrier | None, int]]:
        """Yield what lanes wait for (None: only their turn) and how many targets each holds."""
        for _, _, lane in self._ready:
            yield _first_shut(lane, now), len(lane.queue)
        for barrier, stop in self._stops.items():
            for _, _, lane in stop.lanes:
                yield barrier, len(lane.queue)
        if self._later:
            yield None, len(self._later)

    def shut_fleet_gates(self, now: float) -> list[Gate]:
        """Return the gates of the whole fleet that are full now."""
        return [gate for gate in self._fleet_gates if not gate.has_room(now)]

    def _yields(self, lane: _Lane, barrier: Barrier | None, now: float) -> bool:
        """Return whether the lane leaves earlier targets the moment that their looks take.

        Who needs a look as well does so only if there is no room for more than those.
        """
        if barrier is not None:
            is_sought = not isinstance(barrier, Door) or barrier.sought_at is not None
            if is_sought or self._looks_to_come(now) < self._room(now):
                return False
        return self._yields_until(lane.queue[0], now) > now

    def _looks_to_come(self, now: float) -> int:
        """Return how many looks are waited for that do not dawdle."""
        sought = (door.sought_at for _, _, door in self._sought)
        return sum(at is not None and at + PATIENCE > now for at in sought)

    def _room(self, now: float) -> float:
        """Return how many targets could start at most now, by the limits of the whole fleet."""
        return min((gate.most - gate.taken(now) for gate in self._fleet_gates), default=math.inf)

    def _position_at(self, rank: int) -> int:
        place = rank if rank >= 0 else rank + _FIRST
        return self._order[place] if self._order else place

    def _yields_until(self, rank: int, now: float) -> float:
        """Return until when a target leaves earlier ones the moment that a look takes."""
        while self._sought:
            first, _, door = self._sought[0]
            until = -math.inf if door.sought_at is None else door.sought_at + PATIENCE
            if until > now:
                return until if first < rank else now
            heapq.heappop(self._sought)
        return now

    def _join(self, rank: int, target: Target, *, is_down: bool) -> None:
        key = (target.project_id, "down" if is_down else "", *self._limits.values(target))
        lane = self._lanes.get(key)
        if lane is None:
            own = tuple(
                gate
                for gate in self._limits.gates(target)
                if gate not in self._fleet_gates
                and not (is_down and isinstance(gate.limit, Unavailable))
            )
            lane = self._lanes[key] = _Lane(
                own, self._paces.of(target.project_id), self.door(target.project_id), is_down
            )
        heapq.heappush(lane.queue, rank)
        if not lane.is_placed:
            self._place(lane)

    def _let_join(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            _, rank, is_down, target = heapq.heappop(self._later)
            self._join(rank, target, is_down=is_down)

    def _place(self, lane: _Lane) -> None:
        lane.is_placed = bool(lane.queue)
        if lane.queue:
            self._ticket += 1
            heapq.heappush(self._ready, (lane.queue[0], self._ticket, lane))

    def _park(self, lane: _Lane, barrier: Barrier, now: float) -> None:
        stop = self._stops.setdefault(barrier, _Stop())
        self._ticket += 1
        heapq.heappush(stop.lanes, (lane.queue[0], self._ticket, lane))
        self._ask_again(barrier, barrier.frees_at(now), now)

    def _ask_again(self, barrier: Barrier, at: float, now: float) -> None:
        stop = self._stops.get(barrier)
        if stop is None:
            return
        if isinstance(barrier, Door) and barrier.is_stale(now):
            self.wanted.add(barrier.project_id)
            if barrier.sought_at is None:
                barrier.sought_at = now
                self._ticket += 1
                heapq.heappush(self._sought, (stop.lanes[0][0], self._ticket, barrier))
        if at < stop.asked_at:
            stop.asked_at = at
            self._ticket += 1
            heapq.heappush(self._agenda, (at, self._ticket, barrier))

    def _wake(self, now: float) -> None:
        """Let the first lane go on at every barrier that has room again."""
        while self._agenda and self._agenda[0][0] <= now:
            _, _, barrier = heapq.heappop(self._agenda)
            stop = self._stops.get(barrier)
            if stop is None:
                continue
            stop.asked_at = math.inf
            if barrier.has_room(now):
                _, _, lane = heapq.heappop(stop.lanes)
                lane.woken_by = barrier
                self._place(lane)
                if not stop.lanes:
                    del self._stops[barrier]
            else:
                self._ask_again(barrier, barrier.frees_at(now), now)


def _first_shut(lane: _Lane, now: float) -> Barrier | None:
    for gate in lane.gates:
        if not gate.has_room(now):
            return gate
    if not lane.pace.has_room(now):
        return lane.pace
    return None if lane.door.has_room(now) else lane.door
