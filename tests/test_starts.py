"""Starts: ours and others' count by our limits; who waits goes on waiting when these change."""

import math
from typing import Any

from orchestrator.judgement import Track
from orchestrator.limits import Concurrency, Limit, Rate, Start, Unavailable
from orchestrator.model import (
    Answer,
    ClusterState,
    Outcome,
    RestartAnswered,
    RestartRequested,
    Target,
    TargetEnded,
    Throttle,
    Verdict,
)
from orchestrator.pace import Paces
from orchestrator.plan import Policy, make_plan
from orchestrator.starts import Starts

IDLE = ClusterState(status="200")
DOWN = ClusterState(status="303")


class Room:
    """The starts of a run of four targets in two projects."""

    def __init__(self, *limits: Limit, **policy: Any) -> None:
        self.targets = [Target(project_id=f"p{n % 2}", cluster_id=f"c{n}") for n in range(4)]
        self.policy = Policy(limits=limits, **policy)
        plan = make_plan(self.targets, self.policy)
        self.paces = Paces()
        self.starts = Starts("run", plan, self.policy, self.paces)

    def line_up(self, *positions: int) -> None:
        for position in positions:
            self.starts.line_up(position, -math.inf, is_down=False, goes_first=False)

    def open_doors(self) -> None:
        for project_id in ("p0", "p1"):
            self.starts.open_door(project_id, math.inf, 0.0)

    def begin(self, position: int, at: float) -> Track:
        event = RestartRequested(at=at, target=position, attempt=1, request_id="x", baseline=IDLE)
        return Track(start=self.starts.begin(event), baseline=IDLE)

    def go(self, now: float) -> list[int]:
        """Start whoever may."""
        gone = []
        while (position := self.starts.lanes.next(now)) is not None:
            self.begin(position, now)
            gone.append(position)
        return gone


def elsewhere(**facts: Any) -> Start:
    return Start(
        run_id="other", target=0, attempt=1, project_id="p1", cluster_id="c1", region=None,
        labels=(), granted_at=1.0, **facts,
    )  # fmt: skip


def test_a_start_takes_its_places_and_what_happens_to_it_gives_them_back() -> None:
    """The slot with the end; of a call that began nothing, everything at once."""
    room = Room(Concurrency(1), Rate(10, 60.0))
    [slots, rate] = room.starts.limits.fleet_gates()
    track = room.begin(0, 1.0)
    assert (slots.taken(1.0), rate.taken(1.0)) == (1, 1)
    room.starts.note(track, TargetEnded(at=9.0, target=0, outcome=Outcome.RESTARTED))
    assert (slots.taken(9.0), rate.taken(9.0)) == (0, 1)
    assert (track.start.settled_at, track.start.ended_at) == (9.0, 9.0)
    track = room.begin(1, 10.0)
    busy = Answer(verdict=Verdict.BUSY, sent_at=10.0, answered_at=11.0)
    room.starts.note(track, RestartAnswered(at=11.0, target=1, attempt=1, answer=busy))
    assert (slots.taken(11.0), rate.taken(11.0)) == (0, 1)


def test_what_another_run_has_under_way_counts_and_is_left_alone() -> None:
    """Until it has ended, or was given back."""
    room = Room(Concurrency(1))
    room.line_up(0)
    room.open_doors()
    assert room.starts.elsewhere(1, 1.0) is None
    room.starts.take_note_of([elsewhere()], 1.0)
    assert room.starts.elsewhere(1, 2.0) == elsewhere()
    assert room.starts.elsewhere(0, 2.0) is None
    assert room.go(2.0) == []
    room.starts.take_note_of([elsewhere(settled_at=3.0, ended_at=5.0)], 3.0)
    assert room.starts.elsewhere(1, 4.9) is not None
    assert room.starts.elsewhere(1, 5.0) is None
    assert room.go(5.0) == [0]
    room.starts.take_note_of([elsewhere(returned=True)], 6.0)
    assert room.starts.elsewhere(1, 4.9) is None


def test_other_limits_count_anew_and_whoever_waits_goes_on_waiting() -> None:
    """They know of no start until they are told of all."""
    room = Room(Concurrency(1))
    room.open_doors()
    room.line_up(0, 1, 2)
    assert room.go(1.0) == [0]
    ours = room.begin(0, 1.0).start
    room.starts.are_counted = False
    looser = Policy(limits=(Concurrency(2),))
    assert not room.starts.change_limits(looser, lambda _: False)
    room.starts.take_note_of([ours], 2.0)
    assert room.starts.are_counted
    assert room.go(2.0) == [1]
    assert len(room.starts.lanes) == 1


def test_a_limit_on_who_may_be_down_can_come_and_go() -> None:
    """When it comes, health decides about others and must be looked at; then no more."""
    room = Room(Concurrency(4))
    assert room.starts.may_be_down(0, 1.0)
    down = Policy(limits=(Concurrency(4),), max_unavailable=(Unavailable(1),))
    assert room.starts.change_limits(down, lambda _: False)
    assert not room.starts.change_limits(down, lambda _: False)
    states = {"c0": DOWN, "c2": DOWN}
    room.starts.see("p0", states, lambda position: position == 2, at=1.0, now=1.0)
    assert not room.starts.may_be_down(1, 1.0)
    room.starts.see("p0", {"c0": IDLE}, lambda _: False, at=2.0, now=2.0)
    assert room.starts.may_be_down(1, 2.0)
    room.starts.fail(3)
    assert not room.starts.may_be_down(1, 2.0)
    assert not room.starts.change_limits(room.policy, lambda _: False)
    assert room.starts.health is None
    assert room.starts.may_be_down(1, 2.0)


def test_who_is_down_passes_the_limit_on_that_only_where_there_is_one() -> None:
    """A cluster that is down makes nothing more unavailable, and need not wait for room."""
    room = Room(Concurrency(4), max_unavailable=(Unavailable(1),))
    room.open_doors()
    room.starts.see("p0", {"c0": DOWN}, lambda _: False, at=1.0, now=1.0)
    room.line_up(1)
    room.starts.line_up(0, -math.inf, is_down=True, goes_first=False)
    assert room.go(1.0) == [0]


def test_nobody_goes_through_a_door_that_is_shut() -> None:
    """It opens by time alone, never sooner than it was said; or when it is unlocked."""
    room = Room(Concurrency(4))
    room.open_doors()
    room.starts.shut_door("p0", 10.0, 1.0)
    room.starts.shut_door("p0", 5.0, 1.0)
    room.line_up(0, 1)
    assert room.go(6.0) == [1]
    assert room.go(10.0) == [0]
    room.starts.shut_door("p1", math.inf, 11.0)
    room.line_up(3)
    assert room.go(1000.0) == []
    room.starts.unlock_door("p1", 1001.0)
    assert room.go(1001.0) == [3]


def test_an_account_has_its_pace() -> None:
    """Who was too fast waits for it; calls that are taken bring the next ones closer."""
    room = Room(Concurrency(4))
    room.open_doors()
    room.line_up(0, 1)
    pace = room.paces.of("p0")
    for asked_at in (0.0, 1.0):
        pace.slow_down(
            asked_at + 0.5, asked_at=asked_at, wait=5.0, named=Throttle(30, 60.0), jitter=0.0
        )
    room.starts.slow_down(pace, 1.5)
    assert room.go(1.5) == []
    assert room.go(6.6) == [0]
    rate = pace.rate
    room.starts.speed_up("p0", 7.0)
    assert pace.rate > rate
