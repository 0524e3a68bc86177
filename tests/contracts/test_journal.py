"""What every journal must do, the file and the one in memory alike."""

import re
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import ImpossibleEventError, JournalError, LeaseError
from orchestrator.journal import (
    Lasted,
    MemoryStore,
    RunJournal,
    RunRecord,
    RunState,
    SteadyClock,
    Store,
    open_store,
)
from orchestrator.journal.clock import Host, axis_at
from orchestrator.limits import Concurrency, Rate, Start, Unavailable
from orchestrator.model import (
    Answer,
    AnswerArrivedLate,
    Call,
    ClusterState,
    Event,
    Kind,
    Outcome,
    RestartAnswered,
    RestartBegan,
    RestartDisproved,
    RestartRequested,
    RestartSettling,
    RestartUnsettled,
    RestartWithdrawn,
    RunFinished,
    RunnerStarted,
    RunPaused,
    Target,
    TargetEnded,
    TargetResolved,
    Verdict,
    WaveOpened,
)
from orchestrator.orders import Bound, NewBound, NewLimits, Order, OrderKind
from orchestrator.plan import Plan, Policy, Portion, Wave

T = TypeVar("T")
Opens = Callable[[], AbstractAsyncContextManager[Store]]

HORIZON = 250.0
BASELINE = ClusterState(status="200", instances=(("n1", "200"),))


class SleepyHost(Host):
    """This host, where time can pass at once."""

    def __init__(self) -> None:
        self.slept = 0.0

    def uptime(self) -> float:
        return super().uptime() + self.slept


@pytest.fixture
def host() -> SleepyHost:
    """The clocks of the journal under test."""
    return SleepyHost()


@pytest.fixture(params=["sqlite", "memory"])
def opens(request: pytest.FixtureRequest, tmp_path: Path, host: SleepyHost) -> Opens:
    """What opens the journal under test, again and again the same one."""
    if request.param == "sqlite":
        return lambda: open_store(tmp_path / "journal.db", host=host)
    store = MemoryStore(SteadyClock(axis_at(None, 0.0, host.read()), host.uptime))
    return lambda: nullcontext(store)


def targets(*clusters: str) -> tuple[Target, ...]:
    return tuple(
        Target(
            project_id="p1",
            cluster_id=cluster,
            region="cn-north-4",
            labels=(("az", "a"), ("team", "søk")),
        )
        for cluster in clusters
    )


def a_run(
    run_id: str, *clusters: str, world: str = "real", created_at: float = 1000.0
) -> RunRecord:
    return RunRecord(
        run_id=run_id,
        plan=Plan(
            plan_id="plan",
            targets=targets(*clusters),
            waves=(Wave(name="all", targets=tuple(range(len(clusters)))),),
            policy=Policy(),
        ),
        operator="ana@bastion-1",
        change=None,
        created_at=created_at,
        world=world,
        tool_version="1.0",
        settings={},
    )


def requested(at: float, target: int, attempt: int = 1) -> RestartRequested:
    return RestartRequested(
        at=at, target=target, attempt=attempt, request_id="r", baseline=BASELINE
    )


def answered(
    at: float, target: int, verdict: Verdict = Verdict.ACCEPTED, attempt: int = 1
) -> RestartAnswered:
    answer = Answer(verdict=verdict, sent_at=at, answered_at=at, job_ids=("job",))
    return RestartAnswered(at=at, target=target, attempt=attempt, answer=answer)


def ended(at: float, target: int, until: float | None = None) -> TargetEnded:
    return TargetEnded(at=at, target=target, outcome=Outcome.RESTARTED, slot_until=until)


def resolved(at: float, target: int) -> TargetResolved:
    return TargetResolved(at=at, target=target, outcome=Outcome.RESTARTED, by="ana")


def arrived_late(at: float, target: int) -> AnswerArrivedLate:
    answer = Answer(verdict=Verdict.ACCEPTED, sent_at=at, answered_at=at, job_ids=("late",))
    return AnswerArrivedLate(at=at, target=target, attempt=1, answer=answer)


async def tell(journal: RunJournal, *happened: Event) -> list[Start]:
    """Write events; return the starts of others that came with it."""
    seen: list[Start] = []

    def decide(foreign: Sequence[Start]) -> Sequence[Event]:
        seen.extend(foreign)
        return happened

    await journal.write(decide)
    return sorted(seen, key=lambda start: (start.run_id, start.target, start.attempt))


async def all_events(store: Store, run_id: str) -> list[Event]:
    return [event async for batch in store.events(run_id) for event in batch]


async def two_journals(store: Store) -> tuple[RunJournal, RunJournal]:
    await store.create_run(a_run("one", "c1", "c2", "c3"))
    await store.create_run(a_run("two", "c1", "d2", "d3"))
    return (
        await store.journal("one", horizon=HORIZON),
        await store.journal("two", horizon=HORIZON),
    )


def play(opens: Opens, story: Callable[[Store], Awaitable[T]]) -> T:
    async def main() -> T:
        async with opens() as store:
            return await story(store)

    return anyio.run(main)


# ------------------------------------------------------------------------------------------ runs


def test_a_run_comes_back_whole(opens: Opens) -> None:
    """Plan, policy, labels, kinds and settings are the same after closing and opening again."""
    record = RunRecord(
        run_id="2026-11-23-7k3f",
        plan=Plan(
            plan_id="abc",
            targets=(
                Target(project_id="p1", cluster_id="c1"),
                Target(
                    project_id="p1",
                    cluster_id="c2",
                    name="søk \ud83d",
                    region="eu",
                    kind=Kind(Call.ROLLING, ("ess",)),
                    wave="canary",
                    labels=(("az", "a"), ("az", "b")),
                ),
            ),
            waves=(Wave(name="canary", targets=(1,), soak=60.0), Wave(name="rest", targets=(0,))),
            policy=Policy(
                limits=(Concurrency(3, "az"), Rate(5, 0.1, "project")),
                max_failures=Portion(10, is_percent=True),
                confirm_within=0.1,
            ),
            source=("fleet.csv",),
        ),
        operator="ana@bastion-1",
        change="CHG-1234",
        created_at=1000.25,
        world="real",
        tool_version="1.0",
        settings={"cloud": {"region": "eu", "projects": ["p1"]}, "wait": True, "none": None},
    )

    async def keep(store: Store) -> None:
        await store.create_run(record)

    async def load(store: Store) -> RunRecord:
        return await store.load_run(record.run_id)

    play(opens, keep)
    assert play(opens, load) == record


def test_no_run_twice(opens: Opens) -> None:
    """A second run of an id is refused, and the first stays as it is."""

    async def story(store: Store) -> RunRecord:
        await store.create_run(a_run("one", "c1"))
        with pytest.raises(JournalError, match="'one' already"):
            await store.create_run(a_run("one", "c1", "c2"))
        return await store.load_run("one")

    assert play(opens, story) == a_run("one", "c1")


def test_unknown_runs_are_refused_with_a_hint(opens: Opens) -> None:
    """A mistyped id names what may have been meant, any other the newest runs."""

    async def story(store: Store) -> None:
        with pytest.raises(JournalError, match="no runs yet"):
            await store.load_run("one")
        for number in range(5):
            await store.create_run(a_run(f"2026-11-23-abc{number}", "c1"))
        with pytest.raises(JournalError, match="nearest: 2026-11-23-abc4"):
            await store.load_run("2026-11-23-bc4")
        with pytest.raises(JournalError, match=r"newest: 2026-11-23-abc4, 2026-11-23-abc3"):
            await store.journal("zzz", horizon=1.0)
        assert await all_events(store, "zzz") == []

    play(opens, story)


def test_runs_newest_first(opens: Opens) -> None:
    """All runs, or those of one world, with the moment of creation on both clocks."""

    async def story(store: Store) -> None:
        await store.create_run(a_run("one", "c1", created_at=5.0))
        await store.create_run(a_run("two", "c1", "c2", created_at=7.0, world="pretend"))
        await store.create_run(a_run("three", "c1", created_at=5.0))

        assert [run.run_id for run in await store.runs()] == ["two", "three", "one"]
        assert [run.run_id for run in await store.runs("real")] == ["three", "one"]
        [run] = await store.runs("pretend")
        assert run.targets == 2
        assert (run.created_at, run.world, run.operator) == (7.0, "pretend", "ana@bastion-1")
        assert run.wall_created_at == 7.0 + store.clock.wall_offset

    play(opens, story)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        ("completed", RunState.FINISHED),
        ("stopped", RunState.STOPPED),
        ("aborted", RunState.STOPPED),
    ],
)
def test_state_of_a_run(opens: Opens, outcome: str, state: RunState) -> None:
    """Without a runner a run is interrupted; while one works it runs, until its last word."""

    async def summary(store: Store) -> tuple[RunState, str | None, int | None, str | None]:
        [run] = await store.runs()
        return run.state, run.outcome, run.exit_code, run.owner and run.owner.split()[0]

    async def story(store: Store) -> None:
        started = RunnerStarted(
            at=1.0, owner="ana", host="elsewhere", pid=1, wall_offset=0.0, version="1"
        )
        await store.create_run(a_run("one", "c1"))
        assert await summary(store) == (RunState.INTERRUPTED, None, None, None)
        journal = await store.journal("one", horizon=HORIZON, owner="ana@b")
        assert await summary(store) == (RunState.RUNNING, None, None, "ana@b")
        await tell(journal, started, requested(2.0, 0))
        assert await summary(store) == (RunState.RUNNING, None, None, "ana@b")
        await tell(journal, RunFinished(at=3.0, outcome=outcome, exit_code=3), ended(3.0, 0))
        await journal.close()
        assert await summary(store) == (state, outcome, 3, None)
        journal = await store.journal("one", horizon=HORIZON, owner="bo@b")
        await tell(journal, started)
        assert await summary(store) == (RunState.RUNNING, None, None, "bo@b")
        await journal.close()
        assert await summary(store) == (RunState.INTERRUPTED, None, None, None)

    play(opens, story)


def test_new_run_ids(opens: Opens) -> None:
    """Ids are a date and four letters that cannot be misread, and differ."""

    async def story(store: Store) -> None:
        ids = {await store.new_run_id() for _ in range(20)}
        assert len(ids) > 18
        pattern = r"\d{4}-\d\d-\d\d-[2-9a-hjkmnp-z]{4}"
        assert all(re.fullmatch(pattern, run_id) for run_id in ids)

    play(opens, story)


def lasted_of(cluster_id: str, kind: str, ready: float, whole: float) -> Lasted:
    return Lasted(project_id="p1", cluster_id=cluster_id, kind=kind, ready=ready, whole=whole)


def test_how_long_restarts_lasted(opens: Opens) -> None:
    """Of each cluster, from grant until ready for good and until the end; only what ended well.

    What failed, what was asked for in vain, and what was under way while the runner changed says
    nothing; simulated runs say nothing about real ones.
    """
    rolling = Kind(Call.ROLLING, ("ess",))
    record = a_run("old", "c0", "c1", "c2", "c3", "c4")
    planned = record.plan.targets
    changed = (planned[0], replace(planned[1], kind=rolling), *planned[2:])
    record = replace(record, plan=replace(record.plan, targets=changed))
    runner = RunnerStarted(at=1.0, owner="ana", host="h", pid=1, wall_offset=0.0, version="1")

    async def story(store: Store) -> None:
        await store.create_run(record)
        await store.create_run(a_run("new", "d0", created_at=2000.0))
        await store.create_run(a_run("pretend", "e0", world="pretend", created_at=3000.0))
        journal = await store.journal("old", horizon=HORIZON)
        await tell(
            journal, runner,
            *(requested(10.0 * position, position) for position in range(5)),
            RestartDisproved(at=50.0, target=0, attempt=1),
            RestartSettling(at=60.0, target=1),
            RestartUnsettled(at=61.0, target=1, seen="down"),
            requested(100.0, 0, attempt=2),
            RestartSettling(at=110.0, target=1),
            ended(130.0, 1),
            TargetEnded(at=140.0, target=2, outcome=Outcome.FAILED),
            ended(161.5, 0),
        )  # fmt: skip
        await tell(journal, replace(runner, at=170.0), ended(999.0, 3))
        for run, lasted in (("new", 7.0), ("pretend", 8.0)):
            other = await store.journal(run, horizon=HORIZON)
            await tell(other, runner, requested(2.0, 0), ended(2.0 + lasted, 0))

        new = lasted_of("d0", "restart", 7.0, 7.0)
        assert await store.lasted("real") == [
            new,
            lasted_of("c1", "rolling:ess", 100.0, 120.0),
            lasted_of("c0", "restart", 61.5, 61.5),
        ]
        assert await store.lasted("real", most=1) == [new]
        assert await store.lasted("nowhere") == []

    play(opens, story)


# ---------------------------------------------------------------------------------------- events


def test_events_come_back_in_order(opens: Opens) -> None:
    """Events of a run, over many writes and a new opening, are read as they were written."""
    batches = [
        [WaveOpened(at=float(number), wave=number), ended(number + 0.5, number % 3)]
        for number in range(1500)
    ]

    async def write(store: Store) -> None:
        one, two = await two_journals(store)
        await tell(two, WaveOpened(at=1.0, wave=7))
        for number in range(0, 1500, 100):
            await tell(one, *(event for batch in batches[number : number + 100] for event in batch))
            await tell(two, WaveOpened(at=2.0, wave=8))

    async def read(store: Store) -> list[Event]:
        return await all_events(store, "one")

    play(opens, write)
    assert play(opens, read) == [event for batch in batches for event in batch]


def test_nothing_decided_nothing_written(opens: Opens) -> None:
    """A decision for nothing leaves no trace, and what it was told does not come again."""

    async def story(store: Store) -> None:
        one, two = await two_journals(store)
        await tell(one, requested(1.0, 1))
        assert len(await tell(two)) == 1
        assert await tell(two) == []
        assert await all_events(store, "two") == []

    play(opens, story)


def test_a_decision_that_raises(opens: Opens) -> None:
    """What a decision raises comes out unchanged; nothing is written and nothing is missed."""

    class OopsError(Exception):
        pass

    oops = OopsError("oops")

    def decide(_: Sequence[Start]) -> Sequence[Event]:
        raise oops

    async def story(store: Store) -> None:
        one, two = await two_journals(store)
        await tell(one, requested(1.0, 1))
        with pytest.raises(OopsError) as raised:
            await two.write(decide)
        assert raised.value is oops
        assert len(await tell(two, requested(2.0, 1))) == 1
        assert await all_events(store, "two") == [requested(2.0, 1)]

    play(opens, story)


def test_closed_journal(opens: Opens) -> None:
    """A closed journal writes no more, closing twice is harmless, and the store goes on."""

    async def story(store: Store) -> None:
        one, two = await two_journals(store)
        await one.close()
        await one.close()
        with pytest.raises(JournalError, match="closed"):
            await tell(one, requested(1.0, 0))
        await tell(two, requested(1.0, 0))
        assert await all_events(store, "one") == []

    play(opens, story)


def test_writes_from_many_tasks_are_serial(opens: Opens) -> None:
    """Decisions never overlap, and each sees the one before."""

    async def story(store: Store) -> None:
        await store.create_run(a_run("one", *(f"c{number}" for number in range(40))))
        journal = await store.journal("one", horizon=HORIZON)
        inside: list[int] = []
        taken: list[int] = []

        def decide(_: Sequence[Start]) -> Sequence[Event]:
            assert not inside
            inside.append(1)
            taken.append(len(taken))
            inside.clear()
            return [requested(1.0, taken[-1])]

        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(journal.write, decide)
        written = [event async for batch in store.events("one") for event in batch]
        assert written == [requested(1.0, number) for number in range(40)]

    play(opens, story)


def test_cancelled_writes_are_whole_or_not_there(opens: Opens) -> None:
    """A cancelled write has not begun, or all of it is in the journal; decided means written."""

    async def story(store: Store) -> None:
        await store.create_run(a_run("one", *(f"c{number}" for number in range(300))))
        journal = await store.journal("one", horizon=HORIZON)
        decided: list[Event] = []

        def decide(_: Sequence[Start]) -> Sequence[Event]:
            number = len(decided) // 2
            batch = [requested(1.0, number), answered(2.0, number)]
            decided.extend(batch)
            return batch

        with anyio.CancelScope() as scope:
            scope.cancel()
            await journal.write(decide)
        assert not decided
        for number in range(50):
            with anyio.move_on_after(number * 2e-5):
                await journal.write(decide)
        assert await all_events(store, "one") == decided

    play(opens, story)


# ---------------------------------------------------------------------------------------- orders


def test_orders_are_numbered_and_kept(opens: Opens) -> None:
    """Orders of a run come back whole, after any number, to its runner and to everybody else."""
    wanted = NewLimits(
        limits=(Concurrency(3), Rate(5, 600.0, "project")), no_rates=True,
        max_failures=Portion(5, is_percent=True), loosen=True, no_unavailable=True,
        max_unavailable=(Unavailable(10, "az", is_percent=True), Unavailable(3)),
        window=(NewBound(bound=Bound.CUTOFF), NewBound(bound=Bound.DEADLINE, at=7.25)),
    )  # fmt: skip
    pause = Order(at=1.5, by="ana", kind=OrderKind.PAUSE, reason="søk")
    limit = Order(at=2.5, by="ben", kind=OrderKind.LIMIT, wanted=wanted)

    async def give(store: Store) -> None:
        await store.create_run(a_run("one", "c1"))
        await store.create_run(a_run("two", "c1"))
        assert await store.give("one", pause) == replace(pause, number=1)
        assert await store.give("two", pause) == replace(pause, number=1)
        assert await store.give("one", limit) == replace(limit, number=2)
        with pytest.raises(JournalError, match="no run 'three'"):
            await store.give("three", pause)

    async def read(store: Store) -> None:
        kept = [replace(pause, number=1), replace(limit, number=2)]
        assert await store.orders("one", 0) == kept
        assert await store.orders("one", 1) == kept[1:]
        assert await store.orders("one", 2) == []
        assert await store.orders("three", 0) == []
        journal = await store.journal("one", horizon=HORIZON)
        assert await journal.orders(0) == kept
        assert await journal.orders(1) == kept[1:]

    play(opens, give)
    play(opens, read)


def test_events_of_the_run_itself(opens: Opens) -> None:
    """What concerns no single target can be read alone, in order."""

    async def story(store: Store) -> None:
        one, _ = await two_journals(store)
        paused = RunPaused(at=2.0, by="ana", order=1)
        await tell(one, WaveOpened(at=1.0, wave=0), requested(1.0, 0), paused, answered(3.0, 0))
        assert await store.run_events("one") == [WaveOpened(at=1.0, wave=0), paused]
        assert await store.run_events("two") == []
        assert await store.run_events("three") == []

    play(opens, story)


# ---------------------------------------------------------------------------------------- ledger


def test_starts_of_others_are_told(opens: Opens) -> None:
    """Each change of another run's start is told once, as a whole row, with its scopes."""

    async def story(store: Store) -> None:
        one, two = await two_journals(store)
        assert await tell(two) == []
        await tell(one, requested(10.0, 1), requested(11.0, 2))
        first, second = await tell(two)
        assert first == Start(
            run_id="one",
            target=1,
            attempt=1,
            project_id="p1",
            cluster_id="c2",
            region="cn-north-4",
            labels=(("az", "a"), ("team", "søk")),
            granted_at=10.0,
        )
        assert second.cluster_id == "c3"
        await tell(one, answered(12.0, 1))
        [first] = await tell(two)
        assert (first.settled_at, first.ended_at) == (12.0, None)
        await tell(one, ended(20.0, 1))
        await tell(one, answered(21.0, 2, Verdict.THROTTLED))
        first, second = await tell(two)
        assert (first.settled_at, first.ended_at, first.returned) == (12.0, 20.0, False)
        assert second.returned
        assert await tell(two) == []
        assert await tell(one) == []

    play(opens, story)


def test_events_without_ledger_hide_nothing(opens: Opens) -> None:
    """A run that wrote events which mean nothing to the ledger still hears of the next start."""

    async def story(store: Store) -> None:
        one, two = await two_journals(store)
        await tell(two, WaveOpened(at=1.0, wave=0))
        await tell(two, ended(2.0, 2))
        await tell(one, requested(3.0, 1))
        assert [start.run_id for start in await tell(two)] == ["one"]

    play(opens, story)


def test_first_write_tells_what_still_matters(opens: Opens) -> None:
    """A new run hears of every start that a limit may have to count, and of no other."""

    async def story(store: Store) -> None:
        now = store.clock.now()
        await store.create_run(a_run("old", *(f"o{number}" for number in range(8))))
        old = await store.journal("old", horizon=HORIZON)
        long_ago = now - HORIZON - 60
        await tell(
            old,
            *(requested(long_ago - 5, number) for number in range(8)),
            ended(long_ago, 1),  # over and done with
            answered(long_ago, 2),  # settled, not ended
            answered(long_ago, 3),
            ended(long_ago, 3, until=now + 500),  # an unknown that keeps its slot
            answered(now - HORIZON + 5, 4),
            ended(now, 4),  # within the horizon
            answered(long_ago, 5, Verdict.REFUSED),  # given back
            RestartWithdrawn(at=long_ago, target=6, attempt=1, reason="cutoff"),
            RestartDisproved(at=long_ago, target=7, attempt=1),
        )
        one, _ = await two_journals(store)
        assert [start.target for start in await tell(one)] == [0, 2, 3, 4]

    play(opens, story)


def test_counting_anew_tells_what_matters_to_longer_rates(opens: Opens) -> None:
    """All starts of the new horizon are told at once, ours too; then only news of others again."""

    async def story(store: Store) -> None:
        one, two = await two_journals(store)
        now = store.clock.now()
        past = now - HORIZON - 50.0
        await tell(one, requested(past - 9, 1), answered(past, 1), ended(past, 1))
        await tell(two, requested(past - 9, 1), answered(past, 1), ended(past, 1))
        await tell(two, requested(past - 9, 2), answered(past, 2, Verdict.REFUSED))
        await two.count_anew(HORIZON + 100.0)
        with pytest.raises(ZeroDivisionError):
            await two.write(lambda _: [WaveOpened(at=1 / 0, wave=0)])
        assert [start.run_id for start in await tell(two)] == ["one", "two"]
        assert await tell(two, requested(now, 0)) == []
        await tell(one, requested(now, 2))
        assert [start.run_id for start in await tell(two)] == ["one"]

    play(opens, story)


def test_worlds_are_apart(opens: Opens) -> None:
    """Runs of different worlds hear nothing of each other and may restart the same cluster."""

    async def story(store: Store) -> None:
        await store.create_run(a_run("one", "c1"))
        await store.create_run(a_run("pretend", "c1", world="simulator"))
        one = await store.journal("one", horizon=HORIZON)
        pretend = await store.journal("pretend", horizon=HORIZON)
        await tell(one, requested(1.0, 0))
        assert await tell(pretend, requested(2.0, 0)) == []
        assert await tell(one) == []

    play(opens, story)


def test_one_cluster_one_live_start(opens: Opens) -> None:
    """A cluster that another run restarts cannot be started; nothing of such a batch stays."""

    async def story(store: Store) -> None:
        one, two = await two_journals(store)
        await tell(one, requested(1.0, 0))
        with pytest.raises(JournalError, match=r"p1/c1 cannot be started by run two.* run one"):
            await tell(two, requested(2.0, 1), requested(2.0, 0))
        assert await all_events(store, "two") == []
        await tell(one, ended(3.0, 0))
        await tell(two, requested(4.0, 1), requested(4.0, 0))
        with pytest.raises(JournalError, match="has not ended"):
            await tell(one, requested(5.0, 0, attempt=2))

    play(opens, story)


def test_an_attempt_is_recorded_once(opens: Opens) -> None:
    """The same attempt on a target cannot be written again, even when it has ended."""

    async def story(store: Store) -> None:
        one, _ = await two_journals(store)
        await tell(one, requested(1.0, 0), ended(2.0, 0))
        with pytest.raises(JournalError, match="in the journal already"):
            await tell(one, requested(3.0, 0))
        await tell(one, requested(3.0, 0, attempt=2))
        assert len(await all_events(store, "one")) == 3

    play(opens, story)


def test_a_resumed_run_keeps_its_ledger(opens: Opens) -> None:
    """Opened anew, a run's events change the starts that an earlier process began."""

    async def begin(store: Store) -> None:
        one, two = await two_journals(store)
        await tell(one, requested(1.0, 1), answered(2.0, 1, Verdict.BUSY))
        await tell(one, requested(3.0, 1, attempt=2))
        await one.close()
        await two.close()

    async def go_on(store: Store) -> list[Start]:
        one = await store.journal("one", horizon=HORIZON)
        await tell(one, RestartBegan(at=4.0, target=1, seen="status 100"))
        two = await store.journal("two", horizon=HORIZON)
        return await tell(two)

    play(opens, begin)
    [start] = play(opens, go_on)
    assert (start.attempt, start.settled_at, start.ended_at) == (2, 4.0, None)


def test_the_earliest_end_counts(opens: Opens) -> None:
    """What was to keep its slot for long is free when somebody says what became of it."""

    async def story(store: Store) -> None:
        one, two = await two_journals(store)
        await tell(two)
        await tell(one, requested(1.0, 1), requested(1.0, 2))
        await tell(one, ended(5.0, 1, until=900.0), ended(5.0, 2, until=900.0))
        assert [start.ended_at for start in await tell(two)] == [900.0, 900.0]
        await tell(one, resolved(20.0, 1))
        await tell(one, ended(999.0, 2))
        assert [start.ended_at for start in await tell(two)] == [20.0, 900.0]

    play(opens, story)


def test_a_target_changes_often_in_one_batch(opens: Opens) -> None:
    """Whatever happens to a target in one batch, its starts end as if told one by one."""

    async def story(store: Store) -> None:
        one, two = await two_journals(store)
        await tell(two)
        await tell(
            one,
            requested(1.0, 1),
            answered(2.0, 1, Verdict.BUSY),
            requested(3.0, 1, attempt=2),
            answered(4.0, 1, attempt=2),
            RestartBegan(at=5.0, target=1, seen="busy"),
            ended(7.0, 1, until=9.0),
            ended(8.0, 1),
        )
        first, second = await tell(two)
        assert (first.returned, first.settled_at, first.ended_at) == (True, None, None)
        assert (second.returned, second.settled_at, second.ended_at) == (False, 4.0, 8.0)

    play(opens, story)


def test_the_whole_ledger(opens: Opens) -> None:
    """All starts of a world can be read, of every run and every state, in the order of grants."""

    async def story(store: Store) -> None:
        one, two = await two_journals(store)
        await tell(two, requested(2.0, 1))
        await tell(one, requested(1.0, 1), answered(1.5, 1, Verdict.REFUSED))
        await tell(one, requested(3.0, 1, attempt=2), ended(4.0, 1))
        starts = await store.starts("real")
        assert [(start.run_id, start.granted_at) for start in starts] == [
            ("one", 1.0),
            ("two", 2.0),
            ("one", 3.0),
        ]
        assert [start.returned for start in starts] == [True, False, False]
        assert await store.starts("pretend") == []

    play(opens, story)


# ---------------------------------------------------------------------------------------- leases


def test_one_runner_at_a_time(opens: Opens) -> None:
    """A run that somebody works on is not given away; given back, it has the next epoch."""

    async def story(store: Store) -> None:
        await store.create_run(a_run("one", "c1"))
        assert await store.lease("one") is None
        first = await store.journal("one", horizon=HORIZON, owner="ana@b")
        words = r"run one cannot be taken up: ana@b.* since \d{4}-.* heard of at .*; wait for it"
        with pytest.raises(LeaseError, match=words):
            await store.journal("one", horizon=HORIZON, owner="bo@b")
        held = await store.lease("one")
        assert held is not None
        assert (held.owner, held.epoch, held.released_at) == ("ana@b", 1, None)
        assert (first.epoch, first.took_over, first.is_inherited) == (1, None, False)
        await tell(first, requested(1.0, 0))
        await first.close()
        second = await store.journal("one", horizon=HORIZON, owner="bo@b")
        assert (second.epoch, second.took_over, second.is_inherited) == (2, None, False)
        await first.close()
        await tell(second, ended(2.0, 0))

    play(opens, story)


def test_runs_have_leases_of_their_own(opens: Opens) -> None:
    """Who works on one run is in nobody's way at another."""

    async def story(store: Store) -> None:
        one, two = await two_journals(store)
        await one.close()
        assert (one.epoch, two.epoch) == (1, 1)
        await tell(two, requested(1.0, 0))

    play(opens, story)


def test_a_lease_that_ran_out_is_taken_over(opens: Opens, host: SleepyHost) -> None:
    """Not a moment before it runs out; then its holder writes nothing more, but its evidence."""

    async def story(store: Store) -> None:
        await store.create_run(a_run("one", "c1", "c2"))
        slow = await store.journal("one", horizon=HORIZON, owner="ana@b", ttl=30.0)
        await tell(slow, requested(1.0, 0))
        host.slept += 29.0
        with pytest.raises(LeaseError):
            await store.journal("one", horizon=HORIZON, owner="bo@b")
        host.slept += 1.0
        new = await store.journal("one", horizon=HORIZON, owner="bo@b")
        assert (new.epoch, new.is_inherited) == (2, True)
        assert new.took_over is not None
        assert new.took_over.owner == "ana@b"
        lost = r"run one cannot be written: bo@b.* took it over at .*; nothing was written"
        for refused in (lambda: tell(slow, requested(2.0, 1)), lambda: tell(slow), slow.beat):
            with pytest.raises(LeaseError, match=lost):
                await refused()
        await slow.testify([arrived_late(3.0, 0)])
        await slow.close()
        await tell(new, ended(4.0, 0))
        assert await all_events(store, "one") == [
            requested(1.0, 0),
            arrived_late(3.0, 0),
            ended(4.0, 0),
        ]
        [start] = await store.starts("real")
        assert (start.settled_at, start.ended_at) == (4.0, 4.0)

    play(opens, story)


def test_a_lease_that_ran_out_and_nobody_took(opens: Opens, host: SleepyHost) -> None:
    """Whoever slept for long goes on with the next write, and holds the run again."""

    async def story(store: Store) -> None:
        await store.create_run(a_run("one", "c1"))
        slow = await store.journal("one", horizon=HORIZON, owner="ana@b", ttl=30.0)
        host.slept += 1000.0
        [run] = await store.runs()
        assert (run.state, run.owner) == (RunState.INTERRUPTED, None)
        await tell(slow, requested(1.0, 0))
        with pytest.raises(LeaseError):
            await store.journal("one", horizon=HORIZON, owner="bo@b")
        [run] = await store.runs()
        assert run.state is RunState.RUNNING

    play(opens, story)


@pytest.mark.parametrize("how", ["write", "look", "beat"])
def test_a_holder_that_is_heard_of_keeps_its_lease(
    opens: Opens, host: SleepyHost, how: str
) -> None:
    """Writing renews it once a third of its time is over, even nothing; a beat renews it always."""

    async def story(store: Store) -> None:
        await store.create_run(a_run("one", "c1"))
        journal = await store.journal("one", horizon=HORIZON, owner="ana@b", ttl=30.0)
        taken = await store.lease("one")
        assert taken is not None
        for number in range(4):
            host.slept += 11.0
            if how == "beat":
                await journal.beat()
            else:
                await tell(journal, *([WaveOpened(at=1.0, wave=number)] if how == "write" else []))
        renewed = await store.lease("one")
        assert renewed is not None
        assert renewed.heartbeat_at >= taken.heartbeat_at + 44.0
        assert renewed.expires_at == pytest.approx(renewed.heartbeat_at + 30.0)
        assert (renewed.taken_at, renewed.epoch) == (taken.taken_at, 1)
        host.slept += 9.0
        await tell(journal)
        assert await store.lease("one") == renewed

    play(opens, story)


def test_only_evidence_is_taken_from_anybody(opens: Opens) -> None:
    """What moves a run needs its lease, whatever the testimony."""

    async def story(store: Store) -> None:
        one, _ = await two_journals(store)
        with pytest.raises(ImpossibleEventError, match=r"target\.ended is no evidence"):
            await one.testify([arrived_late(1.0, 0), ended(1.0, 0)])
        await one.close()
        await one.testify([arrived_late(1.0, 0)])
        assert await all_events(store, "one") == [arrived_late(1.0, 0)]

    play(opens, story)


def test_a_dead_owner_is_succeeded_at_once() -> None:
    """In memory somebody who is known to be dead holds nothing, and asks for nothing more."""
    alive = {"ana@b"}

    async def main() -> None:
        clock = SteadyClock(axis_at(None, 0.0, Host().read()))
        store = MemoryStore(clock, is_alive=alive.__contains__)
        await store.create_run(a_run("one", "c1"))
        await store.journal("one", horizon=HORIZON, owner="ana@b")
        with pytest.raises(LeaseError):
            await store.journal("one", horizon=HORIZON, owner="bo@b")
        alive.clear()
        [run] = await store.runs()
        assert run.state is RunState.INTERRUPTED
        new = await store.journal("one", horizon=HORIZON, owner="bo@b")
        assert new.took_over is not None
        assert not new.is_inherited

    anyio.run(main)


# ------------------------------------------------------------------------------------- agreement

RUNS = ("one", "two", "three")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(RUNS),
        st.lists(st.tuples(st.integers(0, 11), st.integers(0, 2), st.integers(1, 3)), max_size=4),
    ),
    max_size=25,
)


def an_event(what: int, target: int, attempt: int, at: float) -> Event:
    """One of the events that mean something to the ledger, or of those that do not."""
    return (
        requested(at, target, attempt),
        requested(at, target, attempt),
        requested(at, target, attempt),
        RestartWithdrawn(at=at, target=target, attempt=attempt, reason="cutoff"),
        answered(at, target, Verdict.ACCEPTED, attempt),
        answered(at, target, Verdict.LOST, attempt),
        answered(at, target, Verdict.THROTTLED, attempt),
        RestartBegan(at=at, target=target, seen="busy"),
        RestartDisproved(at=at, target=target, attempt=attempt),
        ended(at, target, until=at + 300 if attempt == 1 else None),
        resolved(at, target),
        AnswerArrivedLate(
            at=at, target=target, attempt=attempt, answer=answered(at, target).answer
        ),
    )[what]


async def observe(
    store: Store, steps: Sequence[tuple[str, Sequence[tuple[int, int, int]]]], now: float
) -> list[object]:
    """Write the steps; return all that could be seen of it."""
    for run_id in RUNS:
        world = "pretend" if run_id == "three" else "real"
        await store.create_run(a_run(run_id, "c1", "c2", f"{run_id}-c3", world=world))
    journals: dict[str, RunJournal] = {}
    seen: list[object] = []
    for number, (run_id, happened) in enumerate(steps):
        at = now - 2000 + 100 * number
        if run_id in journals and number % 7 == 6:
            await journals.pop(run_id).close()
        if run_id not in journals:
            journals[run_id] = await store.journal(run_id, horizon=HORIZON)
        events = [an_event(*one, at + place) for place, one in enumerate(happened)]
        try:
            seen.append(await tell(journals[run_id], *events))
        except JournalError:
            seen.append("refused")
    for run_id in RUNS:
        if run_id in journals:
            await journals[run_id].close()
        seen.append(await tell(await store.journal(run_id, horizon=1e9)))
        seen.append(await all_events(store, run_id))
    seen.append([await store.starts("real"), await store.starts("pretend")])
    return seen


@given(steps=STEPS)
@settings(max_examples=60, deadline=None)
def test_file_and_memory_agree(
    steps: list[tuple[str, list[tuple[int, int, int]]]],
) -> None:
    """Whatever is written, in whatever order, both journals tell the same of it."""

    async def main(folder: str) -> None:
        async with open_store(Path(folder) / "journal.db") as store:
            now = store.clock.now() + 50
            in_file = await observe(store, steps, now)
            in_memory = await observe(MemoryStore(store.clock), steps, now)
        assert in_file == in_memory

    with tempfile.TemporaryDirectory() as folder:
        anyio.run(main, folder)
