"""What a run's events show: what bound it, when its waves were over, how much there was at once."""

from collections.abc import Iterator, Sequence

import pytest

from orchestrator.limits import GUARD, Concurrency, Limit, Rate
from orchestrator.model import (
    Answer,
    ClusterState,
    Event,
    Outcome,
    RestartAnswered,
    RestartRequested,
    RunFinished,
    RunnerStarted,
    RunStopping,
    Target,
    TargetEnded,
    TargetRelapsed,
    Verdict,
    WaveFinished,
    WaveOpened,
    WaveSoaking,
)
from orchestrator.plan import Plan, Policy, Portion, Window, make_plan
from orchestrator.rehearsal import (
    LAST,
    LOOKS,
    WAVES,
    WINDOW,
    Rehearsal,
    RehearsedRun,
    analyse,
    quantile,
)

BASELINE = ClusterState(status="200")


def a_plan(count: int, *limits: Limit, canary: int = 0, soak: float = 0.0) -> Plan:
    targets = [Target(project_id=f"p{n % 2}", cluster_id=f"c{n}") for n in range(count)]
    return make_plan(targets, Policy(limits=limits), canary=Portion(canary), soak=soak)


def restarted(target: int, since: float, until: float) -> Iterator[Event]:
    """One restart as it is recorded; the call is answered at once."""
    answer = Answer(verdict=Verdict.ACCEPTED, sent_at=since, answered_at=since)
    yield RestartRequested(at=since, target=target, attempt=1, request_id="r", baseline=BASELINE)
    yield RestartAnswered(at=since, target=target, attempt=1, answer=answer)
    yield TargetEnded(at=until, target=target, outcome=Outcome.RESTARTED)


def a_run(plan: Plan, *events: Event, end: float, began: float = 0.0) -> RehearsedRun:
    """Analyse what happened, put in order, between a beginning and an end."""
    started = RunnerStarted(at=began, owner="ana", host="h", pid=1, wall_offset=0.0, version="1")
    # What frees a place comes before what takes it at the same moment.
    rank = {RestartRequested: 1, RestartAnswered: 2}
    happened = sorted(events, key=lambda one: (one.at, rank.get(type(one), 0)))
    finished = RunFinished(at=end, outcome="completed", exit_code=0)
    return analyse(plan, [started, *happened, finished])


def bound(run: RehearsedRun) -> dict[str, float]:
    return {str(use.limit): use.bound for use in run.limits}


def test_the_last_limit_to_open_is_what_bound() -> None:
    """Two slots and two starts a minute: first a slot is waited for, then the rate."""
    plan = a_plan(4, Concurrency(2), Rate(2, 60.0))
    run = a_run(
        plan,
        *restarted(0, 0.0, 10.0),
        *restarted(1, 0.0, 100.0),
        *restarted(2, 60.0 + GUARD, 90.0),
        *restarted(3, 90.0, 95.0),
        end=100.0,
    )
    assert bound(run) == {"2": 90.0 - (60.0 + GUARD), "2/60s": 60.0 + GUARD}
    assert run.waited == {LAST: 10.0}
    assert [str(one.what) for one in run.stretches] == ["2/60s", "2", LAST]
    assert [(use.most, use.allowed) for use in run.limits] == [(2, 2), (2, 2)]
    assert run.most_at_once == 2
    assert run.most_in_an_hour == 4


def test_a_scope_that_is_full_binds_only_its_own() -> None:
    """One slot a project: each waits for its own, and the fleet's limit never binds."""
    plan = a_plan(4, Concurrency(4), Concurrency(1, "project"))
    run = a_run(
        plan,
        *restarted(0, 0.0, 30.0),
        *restarted(1, 0.0, 10.0),
        *restarted(3, 10.0, 20.0),
        *restarted(2, 30.0, 40.0),
        end=40.0,
    )
    assert bound(run) == {"4": 0.0, "project=1": 30.0}
    assert run.efficiency == 1.0


def test_barriers_window_and_looks_have_their_share() -> None:
    """What no limit explains goes to the window, to the wave before, or to looks."""
    plan = a_plan(3, Concurrency(5), canary=1, soak=20.0)
    window = Window(not_before=50.0)
    plan = Plan(
        plan_id="p", targets=plan.targets, waves=plan.waves,
        policy=Policy(limits=(Concurrency(5),), window=window),
    )  # fmt: skip
    run = a_run(
        plan,
        WaveOpened(at=0.0, wave=0),
        *restarted(0, 50.0, 60.0),
        WaveSoaking(at=60.0, wave=0),
        WaveFinished(at=80.0, wave=0),
        WaveOpened(at=80.0, wave=1),
        *restarted(1, 80.0, 90.0),
        *restarted(2, 83.0, 99.0),
        end=100.0,
    )
    assert run.waited == {WINDOW: 50.0, WAVES: 30.0, LOOKS: 3.0, LAST: 17.0}
    assert [(one.what, round(one.begins), round(one.ends)) for one in run.stretches] == [
        (WINDOW, 0, 50), (WAVES, 50, 83), (LAST, 83, 100),
    ]  # fmt: skip
    canary, rest = run.waves
    assert (canary.opened, canary.ended, canary.finished) == (0.0, 60.0, 80.0)
    assert (rest.opened, rest.ended, rest.finished) == (80.0, 99.0, None)
    assert run.least == 50.0 + 10.0 + 20.0 + 16.0


def test_a_run_that_stops_says_why_and_what_is_left() -> None:
    """What was not started is left; a run without any start has an end, too."""
    plan = a_plan(3, Concurrency(1))
    stop = RunStopping(at=5.0, reason="cutoff: nothing starts after noon", by="orchestrator")
    run = a_run(plan, *restarted(0, 0.0, 10.0), stop, end=10.0)
    assert run.left == 2
    assert run.stop_reason == stop.reason
    nothing = a_run(plan, stop, end=5.0)
    assert (nothing.left, nothing.took, nothing.most_at_once) == (3, 5.0, 0)


def test_a_start_that_never_began_gives_its_places_back() -> None:
    """A throttled call holds nobody up afterwards, and is no failure."""
    plan = a_plan(2, Concurrency(1), Rate(1, 60.0))
    throttled = Answer(verdict=Verdict.THROTTLED, sent_at=0.0, answered_at=1.0)
    request = RestartRequested(at=0.0, target=0, attempt=1, request_id="r", baseline=BASELINE)
    run = a_run(
        plan,
        request,
        RestartAnswered(at=1.0, target=0, attempt=1, answer=throttled),
        *restarted(1, 2.0, 5.0),
        *restarted(0, 62.0 + GUARD, 70.0),
        end=70.0,
    )
    assert bound(run)["1/60s"] == 60.0 + GUARD
    assert run.most_at_once == 1
    assert run.counts[Outcome.RESTARTED] == 2


def test_who_relapses_has_failed() -> None:
    """A cluster that turns bad in the soak is no success of the rehearsal."""
    plan = a_plan(1, Concurrency(1))
    relapsed = TargetRelapsed(at=15.0, target=0, reason="down")
    run = a_run(plan, *restarted(0, 0.0, 10.0), relapsed, end=20.0)
    assert run.counts[Outcome.FAILED] == 1
    assert Rehearsal(began_at=0.0, runs=(run,)).made_by(100.0) == 0


def test_a_run_that_was_not_finished_ends_with_its_last_event() -> None:
    """Its history may break off; what is there counts."""
    plan = a_plan(1, Concurrency(1))
    assert analyse(plan, list(restarted(0, 0.0, 10.0))).took == 10.0


def several(*took: float, left: Sequence[int] = ()) -> Rehearsal:
    plan = a_plan(4, Concurrency(4))
    runs = []
    for number, seconds in enumerate(took):
        count = 4 - (left[number] if left else 0)
        events = [event for n in range(count) for event in restarted(n, 0.0, seconds)]
        runs.append(a_run(plan, *events, end=seconds))
    return Rehearsal(began_at=1000.0, runs=tuple(runs))


def test_several_runs_give_a_range_and_a_chance() -> None:
    """The end is a range; a deadline is made by the runs that leave nothing and end in time."""
    rehearsal = several(10.0, 20.0, 30.0, 40.0, left=[1, 0, 0, 0])
    assert [rehearsal.took(share) for share in (0.0, 0.5, 1.0)] == [10.0, 20.0, 40.0]
    assert rehearsal.made_by(1030.0) == 2
    assert (rehearsal.left(0.5), rehearsal.left(1.0)) == (0, 1)
    assert rehearsal.most_at_once == 4
    assert rehearsal.mean() == 25.0
    assert rehearsal.waited()[LAST] == 25.0
    [wave] = rehearsal.waves()
    assert (wave.opened, wave.ended) == (None, 20.0)


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1.0), (0.1, 1.0), (0.5, 5.0), (0.9, 9.0), (1.0, 10.0)]
)
def test_quantiles_go_by_the_nearest_rank(share: float, value: float) -> None:
    """Each is one of the values."""
    assert quantile([float(n) for n in range(10, 0, -1)], share) == value
