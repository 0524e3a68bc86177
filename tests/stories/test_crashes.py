"""The crash matrix in memory: killed at every write and at every call, then resumed.

The service goes on while nobody runs; its trace says at the end whether anything was asked twice,
or more was restarted than allowed. Real processes and real signals are in `test_kills.py`.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from orchestrator.campaign import Campaign
from orchestrator.css import answers
from orchestrator.engine import Cloud, Engine, Runner
from orchestrator.journal import MemoryStore, RunRecord
from orchestrator.limits import Concurrency, Rate
from orchestrator.plan import Policy, Portion, make_plan
from orchestrator.report import ReportFold, RunFacts, build_report
from orchestrator.simulator import Record, Service, judge, parse_scenario
from orchestrator.simulator.clock import JumpingClock, run_in_virtual_time
from orchestrator.simulator.memory import MemoryCloud
from tests.stories.mortal import Fate, MortalCloud, MortalJournal
from tests.stories.night import fleet

SCENARIO = """
[latency]
before = ["50ms", "1500ms"]
after = ["50ms", "500ms"]
read = ["20ms", "100ms"]
[restart]
duration = ["20s", "60s"]
busy_after = ["0ms", "3s"]
[faults]
throttled = 0.1
hang_after = 0.1
reset_before = 0.1
retry_after = "3s"
"""

FACTS = RunFacts(run_id="2026-11-23-abcd", operator="ana", change=None, tool_version="0")

LIMITS = (Concurrency(4), Rate(3, 20.0), Concurrency(2, "project"))


class KilledError(BaseException):
    """The process is gone, here and now."""


def be_gone() -> None:
    """Die within this process: nothing catches it, and nothing of this life goes on."""
    raise KilledError


@dataclass
class Outcome:
    """What came of a life that ended at one point, and of the one after it."""

    points: int
    trace: Sequence[Record]
    ends: Mapping[str, int]
    answered_on_disk: frozenset[str]
    reported: frozenset[str]


def live_twice(kill_at: int, seed: int) -> Outcome:
    """Run until the point, die there, resume, and come to the end."""
    return run_in_virtual_time(_live_twice, kill_at, seed)


async def _live_twice(kill_at: int, seed: int) -> Outcome:
    targets = fleet(9, 2, seed)
    rules = Policy(
        limits=LIMITS, confirm_within=15.0, stable_for=5.0, poll_every=2.0,
        healthy_deadline=300.0, max_failures=Portion(9),
    )  # fmt: skip
    plan = make_plan(targets, rules, waves=("3", "rest"), soak=10.0)
    clock = JumpingClock()
    trace: list[Record] = []
    service = Service(targets, parse_scenario(SCENARIO), seed)
    cloud = MemoryCloud(service, answers, now=clock.now, patience=2.0, trace=trace.append)
    store = MemoryStore(clock, random=random.Random(seed), is_alive=lambda _: False)
    run_id = await store.new_run_id()
    await store.create_run(
        RunRecord(
            run_id=run_id, plan=plan, operator="ana", change=None, created_at=clock.now(),
            world="", tool_version="0", settings={},
        )
    )  # fmt: skip
    fate = Fate(kill_at, be_gone)
    with anyio.fail_after(24 * 3600):
        try:
            await _one_life(store, run_id, cloud, clock, fate)
        except BaseExceptionGroup as group:
            if group.subgroup(KilledError) is None:
                raise
        except KilledError:
            pass
        on_disk = [event async for batch in store.events(run_id) for event in batch]
        await anyio.sleep(random.Random(kill_at).uniform(0, 40))
        await _one_life(store, run_id, cloud, clock, Fate(-1, be_gone))
    cloud.settle()
    fold = ReportFold(plan)
    async for batch in store.events(run_id):
        for event in batch:
            fold.take(event)
    answered = {
        job for event in on_disk if hasattr(event, "answer") for job in event.answer.job_ids
    }
    report: Any = build_report(fold, FACTS)
    reported = {job for entry in report["targets"] for job in entry["job_ids"]}
    ends = {str(outcome): n for outcome, n in fold.counts().items() if n}
    return Outcome(fate.passed, trace, ends, frozenset(answered), frozenset(reported))


async def _one_life(
    store: MemoryStore, run_id: str, cloud: Cloud, clock: JumpingClock, fate: Fate
) -> None:
    record = await store.load_run(run_id)
    journal = await store.journal(run_id, horizon=20.0)
    history = [event async for batch in store.events(run_id) for event in batch]
    engine = Engine(
        campaign=Campaign(run_id, record.plan, history),
        cloud=MortalCloud(cloud, fate),
        journal=MortalJournal(journal, fate),
        clock=clock,
        runner=Runner(owner="ana", host="bastion", pid=1, version="0"),
    )
    await engine.run()


def points(seed: int) -> int:
    """How many points there are to die at in an undisturbed life."""
    return live_twice(-1, seed).points


def check(seed: int, kill_at: int) -> None:
    """Whatever the point: nothing twice, nothing lost, no limit passed."""
    came = live_twice(kill_at, seed)
    judged = judge(
        came.trace,
        concurrency=[limit for limit in LIMITS if isinstance(limit, Concurrency)],
        rates=[limit for limit in LIMITS if isinstance(limit, Rate)],
    )
    where = f"killed at point {kill_at} with seed {seed}"
    assert judged.broken == (), where
    assert judged.twice == (), where
    assert sum(came.ends.values()) == 9, where
    assert "not_started" not in came.ends, where
    assert came.answered_on_disk <= came.reported, where


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_every_point_and_resumed(seed: int) -> None:
    """At every write and every call of two runs: die there, resume, and every promise holds."""
    count = points(seed)
    assert count > 100
    for kill_at in range(1, count + 1):
        check(seed, kill_at)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3, 40))
def test_killed_at_every_point_of_many_runs(seed: int) -> None:
    """The same for many more runs."""
    for kill_at in range(1, points(seed) + 1):
        check(seed, kill_at)
