"""The least time: no schedule goes below it, and simple ones reach it."""

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.bound import least_time
from orchestrator.limits import Concurrency, Limit, Limits, Rate, Start, StartChange, Unavailable
from orchestrator.model import Target


def job(project: str, seconds: float) -> tuple[Target, float]:
    return Target(project_id=project, cluster_id="c"), seconds


def makespan(jobs: list[tuple[Target, float]], limits: list[Limit]) -> float:
    """Start each as soon as the limits let it, in this order but nobody behind anybody."""
    counted = Limits(limits, [target for target, _ in jobs])
    waiting = list(range(len(jobs)))
    running: list[tuple[float, int, Start]] = []
    now = end = 0.0
    while waiting or running:
        for position in list(waiting):
            target, seconds = jobs[position]
            if all(gate.has_room(now) for gate in counted.gates(target)):
                start = Start(
                    run_id="r", target=position, attempt=1, project_id=target.project_id,
                    cluster_id=target.cluster_id, region=None, labels=(), granted_at=now,
                ).after(StartChange(settled_at=now))  # fmt: skip
                counted.note(start, now)
                waiting.remove(position)
                heapq.heappush(running, (now + seconds, position, start))
                end = max(end, now + seconds)
        soonest = [running[0][0]] if running else []
        soonest += [
            max(gate.frees_at(now) for gate in counted.gates(jobs[position][0]))
            for position in waiting
        ]
        now = min((at for at in soonest if at > now), default=now)
        while running and running[0][0] <= now:
            _, _, start = heapq.heappop(running)
            counted.note(start.after(StartChange(ended_at=now)), now)
    return end


@pytest.mark.parametrize(
    ("limits", "least"),
    [
        ([Concurrency(1)], 100.0),
        ([Concurrency(5)], 20.0),
        ([Concurrency(4)], 25.0),
        ([Concurrency(9)], 20.0),  # the tenth needs a slot that another one had
        ([Concurrency(100)], 10.0),
        ([Rate(1, 60.0)], 9 * 60.0 + 10.0),
        ([Rate(3, 60.0)], 3 * 60.0 + 10.0),
        ([Concurrency(100), Concurrency(1, "project")], 70.0),
        ([Concurrency(100), Rate(2, 60.0, "project")], 3 * 60.0 + 10.0),
        ([Unavailable(1)], 100.0),
        ([Unavailable(10, is_percent=True)], 10.0),  # of more than these, perhaps
        ([], 10.0),
    ],
)
def test_equal_restarts_take_what_the_tightest_limit_forces(
    limits: list[Limit], least: float
) -> None:
    """Ten restarts of ten seconds, seven of them in one project."""
    jobs = [job("big", 10.0)] * 7 + [job("small", 10.0)] * 3
    assert least_time(jobs, limits) == least


def test_nothing_takes_no_time() -> None:
    """Without restarts there is nothing to wait for."""
    assert least_time([], [Concurrency(1), Rate(1, 60.0, "project")]) == 0.0


def test_all_values_of_a_scope_together_are_no_wider_than_each() -> None:
    """Three projects with one slot each are three slots, whatever the fleet allows."""
    jobs = [job(project, 10.0) for project in "abc" for _ in range(3)] + [job("a", 10.0)]
    assert least_time(jobs, [Concurrency(50), Concurrency(1, "project")]) == 40.0


@given(st.integers(0, 10_000))
def test_no_schedule_goes_below_it(seed: int) -> None:
    """Whatever the fleet, its durations and limits: a schedule that keeps them takes longer."""
    luck = random.Random(seed)
    jobs = [
        job(luck.choice("abc"), luck.choice([1.0, 5.0, luck.uniform(1, 50)]))
        for _ in range(luck.randint(1, 25))
    ]
    limits: list[Limit] = [Concurrency(luck.randint(1, 6))]
    if luck.random() < 0.6:
        limits.append(Rate(luck.randint(1, 5), luck.uniform(5, 60)))
    if luck.random() < 0.6:
        limits.append(Concurrency(luck.randint(1, 3), "project"))
    if luck.random() < 0.4:
        limits.append(Rate(luck.randint(1, 3), luck.uniform(5, 60), "project"))
    luck.shuffle(jobs)
    assert least_time(jobs, limits) <= makespan(jobs, limits) + 1e-9
