"""Runs of hours, played in virtual time; the service's trace judges the promises."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import ExitCode
from orchestrator.limits import Concurrency, Limit, Rate
from orchestrator.model import Outcome
from orchestrator.plan import Portion
from tests.stories.night import HOUR, Morning, Night, fleet

SLOW = """
[latency]
before = ["0ms", "400ms"]
after = ["0ms", "400ms"]
read = ["20ms", "200ms"]
[restart]
duration = ["30s", "5m"]
busy_after = ["0ms", "5s"]
"""


def check(morning: Morning) -> None:
    """Nothing promised may be broken, seen from the service's side."""
    judged = morning.judged()
    assert judged.broken == ()
    assert judged.twice == ()
    assert judged.lost_job_ids == ()


def test_a_quiet_night() -> None:
    """A fleet of a hundred under the default limits is restarted as fast as the rate allows."""
    morning = Night(targets=fleet(100, 5), scenario=SLOW, canary=1, soak=60).run()
    check(morning)
    assert morning.outcomes() == {Outcome.RESTARTED: 100}
    assert morning.ending.exit_code is ExitCode.OK
    # 20 in 10 minutes: the last of 100 cannot begin before four windows have passed.
    assert 4 * 600 < morning.took < 4 * 600 + 900


def test_the_same_seed_plays_the_same_night() -> None:
    """Two runs of one story have the same history, to the last event."""
    night = Night(targets=fleet(40, 3), scenario=SLOW + "[faults]\nthrottled = 0.2\n", seed=7)
    assert night.run().events == night.run().events


def test_a_night_with_troubles() -> None:
    """Throttled, refused, lost, failed: each cluster has one outcome, and no promise is broken."""
    scenario = (
        SLOW
        + """
[faults]
refused = 0.05
throttled = 0.1
error_502_before = 0.05
error_504_after = 0.05
hang_before = 0.03
reset_after = 0.05
retry_after = "2s"
[reads]
error = 0.05
throttled = 0.02
[[cluster]]
match = "*-0007"
restart = {end = "failed"}
[[cluster]]
match = "*-0011"
state = {initial = "busy"}
[[cluster]]
match = "*-0012"
state = {initial = "unhealthy"}
[[cluster]]
match = "*-0013"
state = {initial = "absent"}
"""
    )
    limits: tuple[Limit, ...] = (Concurrency(12), Rate(30, 600.0), Concurrency(4, "project"))
    morning = Night(
        targets=fleet(150, 5),
        scenario=scenario,
        policy={"limits": limits, "max_failures": Portion(20)},
        seed=3,
    ).run()
    check(morning)
    outcomes = morning.outcomes()
    assert sum(outcomes.values()) == 150
    assert outcomes[Outcome.RESTARTED] > 120
    assert outcomes[Outcome.SKIPPED] >= 2
    assert outcomes[Outcome.REFUSED] >= 2
    assert outcomes.get(Outcome.NOT_STARTED, 0) == 0
    assert morning.ending.exit_code is ExitCode.SOME_FAILED


def test_nothing_starts_after_too_many_failures() -> None:
    """When restarts go wrong one by one, the run stops at the failure that was not allowed."""
    morning = Night(
        targets=fleet(60, 2),
        scenario='[restart]\nend = "failed"\nduration = "1m"\n',
        policy={"limits": (Concurrency(1),), "max_failures": Portion(2)},
    ).run()
    check(morning)
    assert morning.outcomes() == {Outcome.FAILED: 3, Outcome.NOT_STARTED: 57}
    assert morning.ending.exit_code is ExitCode.STOPPED
    assert "max_failures" in morning.report["stop_reason"]


def test_a_lost_answer_that_is_executed_late_is_not_repeated() -> None:
    """The service executes long after the client gave up, inside `confirm_within`: one restart."""
    morning = Night(
        targets=fleet(5),
        scenario='[latency]\nbefore = "40s"\n[restart]\nduration = "1m"\n',
        patience=2.0,
        policy={"limits": (Concurrency(5),), "max_failures": Portion(5)},
    ).run()
    check(morning)
    assert morning.outcomes() == {Outcome.RESTARTED: 5}
    assert morning.report["job_ids"] == []


def test_a_vanished_cluster_is_unknown() -> None:
    """A cluster that vanishes in its restart is neither well nor failed."""
    morning = Night(
        targets=fleet(2),
        scenario='[[cluster]]\nmatch = "*-0001"\nrestart = {end = "vanished"}\n',
        policy={"max_failures": Portion(5), "healthy_deadline": 600.0},
    ).run()
    assert morning.outcomes() == {Outcome.RESTARTED: 1, Outcome.UNKNOWN: 1}


def test_project_scopes_do_not_hold_each_other_up() -> None:
    """With one project much larger than the others, the others are done long before it."""
    targets = [*fleet(60, 1, seed=1), *fleet(10, 5, seed=2)]
    morning = Night(
        targets=targets,
        scenario='[restart]\nduration = "2m"\n',
        policy={"limits": (Concurrency(10), Concurrency(2, "project"))},
    ).run()
    check(morning)
    finished = [t["finished_at"] for t in morning.report["targets"]]
    assert max(finished[60:]) < sorted(finished[:60])[15]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_limits_hold_in_random_nights(data: st.DataObject) -> None:
    """Random fleets, limits, latencies and faults: the service never sees more than was allowed."""
    scopes = data.draw(st.lists(st.sampled_from(["project", "az"]), unique=True))
    limits: list[Limit] = [Concurrency(data.draw(st.integers(1, 12)))]
    limits.append(Rate(data.draw(st.integers(1, 10)), data.draw(st.floats(5, 120))))
    limits.extend(Concurrency(data.draw(st.integers(1, 4)), scope) for scope in scopes)
    limits.extend(
        Rate(data.draw(st.integers(1, 4)), data.draw(st.floats(5, 60)), scope) for scope in scopes
    )
    rates = {
        name: data.draw(st.sampled_from([0.0, 0.0, 0.05, 0.2]))
        for name in ("throttled", "reset_before", "reset_after", "hang_after", "error_502_before")
    }
    scenario = (
        SLOW + "[faults]\n" + "\n".join(f"{name} = {rate}" for name, rate in rates.items()) + "\n"
    )
    count = data.draw(st.integers(1, 40))
    morning = Night(
        targets=fleet(count, data.draw(st.integers(1, 4))),
        scenario=scenario,
        seed=data.draw(st.integers(0, 1000)),
        patience=data.draw(st.sampled_from([0.3, 5.0, 30.0])),
        policy={"limits": tuple(limits), "max_failures": Portion(100, is_percent=True)},
        within=200 * HOUR,
    ).run()
    check(morning)
    assert sum(morning.outcomes().values()) == count


@pytest.mark.parametrize(("rate", "count"), [(Rate(20, 600.0), 200), (Rate(3, 60.0), 60)])
def test_the_rate_is_tight(rate: Rate, count: int) -> None:
    """Where only the rate binds, the last restart begins within a hundredth of the least time."""
    morning = Night(
        targets=fleet(count, 4),
        scenario='[latency]\nbefore = "50ms"\nafter = "50ms"\n[restart]\nduration = "20s"\n',
        policy={"limits": (Concurrency(100), rate)},
    ).run()
    check(morning)
    starts = sorted(r.at for r in morning.trace if r.what == "executed")
    least = rate.per * ((count - 1) // rate.most)
    assert starts[-1] - starts[0] <= 1.01 * least + 2.0
    windows = itertools.pairwise(starts[:: rate.most])
    assert all(later - earlier > rate.per for earlier, later in windows)
