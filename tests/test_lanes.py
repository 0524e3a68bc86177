"""Lanes: whoever may go goes, in order, and nobody waits behind a limit that is not theirs."""

import math

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.lanes import PATIENCE, Lanes
from orchestrator.limits import Concurrency, Limits, Rate, Start, StartChange, Unavailable
from orchestrator.model import Target


def target(number: int, project: str = "p", **labels: str) -> Target:
    return Target(project_id=project, cluster_id=f"c{number}", labels=tuple(labels.items()))


def start_of(position: int, subject: Target, at: float) -> Start:
    return Start(
        run_id="r",
        target=position,
        attempt=1,
        project_id=subject.project_id,
        cluster_id=subject.cluster_id,
        region=None,
        labels=subject.labels,
        granted_at=at,
    )


def open_all(lanes: Lanes, targets: list[Target]) -> None:
    for subject in targets:
        lanes.door(subject.project_id).fresh_until = math.inf


def take_all(lanes: Lanes, limits: Limits, targets: list[Target], now: float) -> list[int]:
    taken = []
    while (position := lanes.next(now)) is not None:
        limits.note(start_of(position, targets[position], now), now)
        taken.append(position)
    return taken


def test_a_narrow_scope_does_not_hold_up_others() -> None:
    """With one project full, targets of another go ahead of those that wait for it."""
    targets = [target(n, "a") for n in range(5)] + [target(n, "b") for n in range(5, 7)]
    limits = Limits([Concurrency(10), Concurrency(2, "project")])
    lanes = Lanes(limits)
    open_all(lanes, targets)
    for position, subject in enumerate(targets):
        lanes.put(position, subject)
    assert take_all(lanes, limits, targets, 0.0) == [0, 1, 5, 6]
    assert len(lanes) == 3


def test_a_door_that_is_shut_makes_its_project_wanted() -> None:
    """When only the baseline is missing, the project is wanted, and goes on once it was seen."""
    targets = [target(0)]
    limits = Limits([Concurrency(1)])
    lanes = Lanes(limits)
    lanes.put(0, targets[0])
    assert lanes.next(0.0) is None
    assert lanes.wanted == {"p"}
    assert lanes.wake_at(0.0) == math.inf
    door = lanes.door("p")
    door.fresh_until = 10.0
    lanes.changed((door,), 1.0)
    assert lanes.next(1.0) == 0


def test_later_targets_leave_earlier_ones_the_moment_a_look_takes() -> None:
    """The plan's order is kept while a look is under way; one that dawdles holds up nobody."""
    targets = [target(0, "a"), target(1, "b")]
    limits = Limits([Concurrency(5)])
    lanes = Lanes(limits)
    lanes.door("b").fresh_until = math.inf
    for position, subject in enumerate(targets):
        lanes.put(position, subject)
    assert lanes.next(0.0) is None
    assert lanes.wanted == {"a"}
    assert lanes.wake_at(0.0) == PATIENCE
    assert lanes.next(PATIENCE) == 1
    lanes.put(1, targets[1])
    lanes.door("a").fresh_until = math.inf
    lanes.changed((lanes.door("a"),), 2.0)
    assert [lanes.next(2.0), lanes.next(2.0)] == [0, 1]


def test_the_order_of_the_plan_decides() -> None:
    """Who comes first in the plan goes first, wherever it stands in the fleet."""
    targets = [target(n, "ab"[n % 2]) for n in range(4)]
    limits = Limits([Concurrency(3), Concurrency(1, "project")])
    lanes = Lanes(limits, order=[3, 0, 1, 2])
    open_all(lanes, targets)
    for position in (3, 0, 1, 2):
        lanes.put(position, targets[position])
    assert take_all(lanes, limits, targets, 0.0) == [3, 0]
    moved = lanes.under(Limits([Concurrency(3)]), targets, lambda _: False)
    assert [moved.next(0.0), moved.next(0.0)] == [1, 2]


def test_no_more_projects_are_wanted_than_there_is_room_for() -> None:
    """With room for two, two projects are looked at; with a third start the next one is."""
    targets = [target(n, f"p{n}") for n in range(5)]
    limits = Limits([Concurrency(2)])
    lanes = Lanes(limits)
    for position, subject in enumerate(targets):
        lanes.put(position, subject)
    assert lanes.next(0.0) is None
    assert lanes.wanted == {"p0", "p1"}
    lanes.wanted.clear()
    door = lanes.door("p0")
    door.fresh_until = 10.0
    lanes.changed((door,), 0.1)
    taken = lanes.next(0.1)
    assert taken == 0
    limits.note(start_of(0, targets[0], 0.1), 0.1)
    assert lanes.next(0.1) is None
    assert lanes.wanted == set()
    # A look that dawdles makes way for the next one.
    assert lanes.next(PATIENCE) is None
    assert lanes.wanted == {"p2"}


def test_nothing_is_wanted_while_a_limit_is_full() -> None:
    """Nobody looks at a project whose targets could not go anyway."""
    targets = [target(0), target(1)]
    limits = Limits([Concurrency(1, "project")])
    lanes = Lanes(limits)
    limits.note(start_of(9, targets[0], 0.0), 0.0)
    for position, subject in enumerate(targets):
        lanes.put(position, subject)
    assert lanes.next(0.0) is None
    assert lanes.wanted == set()


def test_a_door_shut_for_a_while_opens_by_time() -> None:
    """After a throttle the project waits as told, and the campaign wakes for it."""
    targets = [target(0)]
    limits = Limits([Concurrency(1)])
    lanes = Lanes(limits)
    door = lanes.door("p")
    door.fresh_until = math.inf
    door.shut_until = 5.0
    lanes.put(0, targets[0])
    assert lanes.next(0.0) is None
    assert lanes.wake_at(0.0) == 5.0
    assert lanes.next(5.0) == 0


def test_a_turn_that_comes_later_comes_later() -> None:
    """A target put back with `not_before` waits for it, and then takes its place in the order."""
    targets = [target(0), target(1)]
    limits = Limits([Concurrency(5)])
    lanes = Lanes(limits)
    open_all(lanes, targets)
    lanes.put(0, targets[0], not_before=3.0)
    lanes.put(1, targets[1])
    assert take_all(lanes, limits, targets, 0.0) == [1]
    assert lanes.wake_at(0.0) == 3.0
    assert take_all(lanes, limits, targets, 3.0) == [0]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=30),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.lists(st.floats(0.1, 6.0), max_size=40),
)
def test_no_room_is_left_unused(
    kinds: list[tuple[str, str]], fleet: int, project: int, az: int, waits: list[float]
) -> None:
    """At every moment, after all that can go went, each target left meets some full limit."""
    targets = [target(n, p, az=z) for n, (p, z) in enumerate(kinds)]
    limits = Limits(
        [Concurrency(fleet), Concurrency(project, "project"), Rate(az, 5.0, "az"), Rate(6, 9.0)]
    )
    lanes = Lanes(limits)
    open_all(lanes, targets)
    left = set(range(len(targets)))
    running: list[Start] = []
    for position, subject in enumerate(targets):
        lanes.put(position, subject)
    now = 0.0
    for wait in [0.0, *waits]:
        now += wait
        if running:
            done = running.pop(0)
            done = done.after(StartChange(settled_at=done.granted_at, ended_at=now))
            lanes.changed(limits.note(done, now), now)
        for position in take_all(lanes, limits, targets, now):
            left.discard(position)
            running.append(start_of(position, targets[position], now))
        for position in left:
            assert any(not gate.has_room(now) for gate in limits.gates(targets[position]))
        # Waking by time alone never comes too late for somebody who could go.
        soonest = min(
            (max(g.frees_at(now) for g in limits.gates(targets[p])) for p in left), default=math.inf
        )
        assert lanes.wake_at(now) <= soonest


def test_a_grant_costs_little_among_many() -> None:
    """50,000 targets in 50,000 scopes of their own are granted in seconds, not hours."""
    targets = [target(n, f"p{n % 100}", az=str(n)) for n in range(50_000)]
    limits = Limits([Concurrency(100_000), Concurrency(20, "project"), Concurrency(1, "az")])
    lanes = Lanes(limits)
    open_all(lanes, targets)
    for position, subject in enumerate(targets):
        lanes.put(position, subject)
    asked = 0
    for now in range(25):
        taken = take_all(lanes, limits, targets, float(now))
        asked += len(taken)
        for position in taken:
            row = start_of(position, targets[position], now)
            row = row.after(StartChange(settled_at=float(now), ended_at=float(now)))
            lanes.changed(limits.note(row, now), now)
    assert asked == 50_000


def test_who_waits_goes_on_waiting_under_other_limits() -> None:
    """Order, waits that were told, who is down, and what is known of projects survive a change."""
    targets = [target(n, "a") for n in range(4)] + [target(n, "b") for n in range(4, 6)]
    before = Limits([Concurrency(1)])
    lanes = Lanes(before)
    open_all(lanes, targets[:4])
    for position, subject in enumerate(targets[:5]):
        lanes.put(position, subject, is_down=position == 3)
    lanes.put(5, targets[5], 50.0)
    assert take_all(lanes, before, targets, 0.0) == [0]
    after = Limits([Concurrency(9), Unavailable(1, "project")])
    after.note(start_of(0, targets[0], 0.0), 0.0)
    moved = lanes.under(after, targets, lambda position: position == 3)
    assert len(moved) == 5
    # Who is down passes the limit on what is unavailable; project b was never looked at.
    assert take_all(moved, after, targets, 0.0) == [3]
    assert moved.wanted == {"b"}
    moved.door("b").fresh_until = math.inf
    moved.changed((moved.door("b"),), 1.0)
    assert take_all(moved, after, targets, 1.0) == [4]
    after.note(start_of(4, targets[4], 1.0).after(StartChange(settled_at=2.0, ended_at=2.0)), 2.0)
    moved.changed(after.all_gates(), 60.0)
    assert take_all(moved, after, targets, 60.0) == [5]
