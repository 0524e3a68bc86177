"""What a journal is asked: how long restarts last, by what it saw of earlier ones."""

from collections.abc import Sequence

import anyio

from orchestrator.experience import Durations
from orchestrator.history import durations_of
from orchestrator.journal import MemoryStore, RunRecord
from orchestrator.limits import Start
from orchestrator.model import ClusterState, Event, Outcome, RestartRequested, Target, TargetEnded
from orchestrator.plan import Policy, make_plan


class _StillClock:
    """A clock for stories in which no time passes."""

    wall_offset = 0.0

    def now(self) -> float:
        return 0.0


def lasting(*seconds: float) -> Sequence[Event]:
    """The history of a run whose targets lasted so long."""
    baseline = ClusterState(status="200")
    asked = [
        RestartRequested(at=1.0, target=n, attempt=1, request_id="r", baseline=baseline)
        for n in range(len(seconds))
    ]
    ended = [
        TargetEnded(at=1.0 + span, target=n, outcome=Outcome.RESTARTED)
        for n, span in enumerate(seconds)
    ]
    return [*asked, *ended]


async def learn(events: Sequence[Event], world: str) -> dict[str, Durations]:
    """Keep a run with these events in a world; return what can be learnt of the real one."""
    store = MemoryStore(_StillClock())
    targets = [Target(project_id="p", cluster_id=f"c{n}") for n in range(len(events) // 2)]
    record = RunRecord(
        run_id="one", plan=make_plan(targets, Policy()), operator="ana", change=None,
        created_at=0.0, world=world, tool_version="1", settings={},
    )  # fmt: skip
    await store.create_run(record)
    journal = await store.journal("one", horizon=0.0)

    def decide(_others: Sequence[Start]) -> Sequence[Event]:
        return events

    await journal.write(decide)
    return dict(await durations_of(store))


def test_durations_come_sorted_by_kind() -> None:
    """Each kind has what its restarts lasted, shortest first, and each cluster its own."""
    known = anyio.run(learn, lasting(30.0, 10.0, 20.0), "")
    own = {("p", "c0"): (30.0,), ("p", "c1"): (10.0,), ("p", "c2"): (20.0,)}
    assert known == {
        "restart": Durations(
            ready=(10.0, 20.0, 30.0), whole=(10.0, 20.0, 30.0), ready_of=own, whole_of=own
        )
    }


def test_simulated_restarts_teach_nothing_about_real_ones() -> None:
    """A journal that only knows simulated runs knows no durations."""
    assert anyio.run(learn, lasting(30.0), "2026-11-25-abcd") == {}
