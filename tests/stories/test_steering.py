"""Runs that are steered while they go on: in virtual time, then with real processes over HTTP."""

import contextlib
import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import ExitCode
from orchestrator.journal import open_store
from orchestrator.limits import Concurrency, Limit, Rate, Unavailable, parse_limit
from orchestrator.model import (
    Event,
    LimitsChanged,
    Outcome,
    RestartRequested,
    RunContinued,
    RunnerStarted,
    RunPaused,
    RunResumed,
    RunStopping,
)
from orchestrator.orders import Bound, NewBound, NewLimits, Order, OrderKind, order_of
from orchestrator.plan import Portion, Window, changed_policy
from orchestrator.simulator import Record, invent_targets, judge, read_trace
from tests.stories.night import Morning, Night, fleet
from tests.stories.processes import (
    QUICK,
    environment,
    fleet_file,
    kill_after,
    said,
    simulator,
    start,
)

# --------------------------------------------------------------------------------- virtual time


def order(at: float, kind: OrderKind, **wanted: Any) -> Order:
    return Order(
        at=at, by="ben", kind=kind, wanted=NewLimits(**wanted) if kind is OrderKind.LIMIT else None
    )


def executed(morning: Morning) -> list[Record]:
    return [record for record in morning.trace if record.what == "executed"]


def test_a_pause_of_an_hour() -> None:
    """Nothing reaches the service while a run is paused; then it goes on to a good end."""
    morning = Night(
        targets=fleet(30, 3),
        scenario='[restart]\nduration = "1m"\n',
        policy={"limits": (Concurrency(3),)},
        orders=[order(100, OrderKind.PAUSE), order(3700, OrderKind.CONTINUE)],
    ).run()
    assert morning.outcomes() == {Outcome.RESTARTED: 30}
    assert morning.findings.broken == ()
    starts = sorted(record.at for record in executed(morning))
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert 3500 < max(gaps) < 3600 + 100


def check_each_start(morning: Morning) -> None:
    """Whenever the service executed a restart, the limits of its grant had room for it."""
    limits: Sequence[Limit] = morning.plan.policy.limits
    granted: list[tuple[str, Sequence[Limit]]] = []
    for event in morning.events:
        if isinstance(event, LimitsChanged):
            limits = [parse_limit(text) for text in event.limits]
        elif isinstance(event, RestartRequested):
            granted.append((event.request_id, limits))
    by_request = {record.request_id: record for record in executed(morning)}
    before: list[Record] = []
    for request_id, kept in granted:
        record = by_request.get(request_id)
        if record is None:
            continue
        for limit in kept:
            assert 1 + sum(counts(limit, earlier, record) for earlier in before) <= limit.most
        before.append(record)


def counts(limit: Limit, earlier: Record, record: Record) -> bool:
    if isinstance(limit, Rate):
        return earlier.at >= record.at - limit.per
    return earlier.over_at is None or earlier.over_at > record.at


def test_a_longer_interval_counts_what_was_long_ago() -> None:
    """A rate whose interval is stretched counts the starts that the one before had forgotten."""
    morning = Night(
        targets=fleet(60, 2),
        scenario='[restart]\nduration = "5s"\n',
        policy={"limits": (Concurrency(50), Rate(10, 60.0))},
        orders=[order(200, OrderKind.LIMIT, limits=(Rate(10, 1200.0),))],
    ).run()
    assert morning.outcomes() == {Outcome.RESTARTED: 60}
    assert morning.findings.broken == ()
    check_each_start(morning)
    starts = sorted(record.at for record in executed(morning))
    changed_at = next(e.at for e in morning.events if isinstance(e, LimitsChanged))
    first_after = next(at for at in starts if at > changed_at)
    # Forty had begun within 200 s: the first that has room again waits for the 31st to be over.
    assert first_after - starts[30] > 1200


BEGAN = 1_700_000_000.0
"""When a night begins, by its wall clock."""


def slow(cutoff: float, *orders: Order) -> Morning:
    """Thirty restarts of a minute each, one after the other, in a window."""
    return Night(
        targets=fleet(30, 2),
        scenario='[restart]\nduration = "1m"\n',
        policy={"limits": (Concurrency(1),), "window": Window(cutoff=BEGAN + cutoff)},
        orders=orders,
    ).run()


def test_the_window_is_moved_in_the_middle_of_the_night() -> None:
    """A run goes on until the cutoff that was given last; a later one has to be meant."""
    later = (NewBound(bound=Bound.CUTOFF, at=BEGAN + 9000.0),)
    sooner = (NewBound(bound=Bound.CUTOFF, at=BEGAN + 500.0),)
    refused = slow(900.0, order(300, OrderKind.LIMIT, window=later))
    assert refused.ending.exit_code == ExitCode.STOPPED
    assert 800 < max(record.at for record in executed(refused)) - BEGAN < 900
    moved = slow(900.0, order(300, OrderKind.LIMIT, window=later, loosen=True))
    assert moved.outcomes() == {Outcome.RESTARTED: 30}
    [steered] = moved.report["steering"]
    assert (steered["event"], steered["by"], steered["is_looser"]) == (
        "window.changed",
        "ben",
        True,
    )
    assert steered["window"]["cutoff"] == "2023-11-15T00:43:20.000Z"
    narrowed = slow(900.0, order(300, OrderKind.LIMIT, window=sooner))
    assert narrowed.ending.exit_code == ExitCode.STOPPED
    assert 400 < max(record.at for record in executed(narrowed)) - BEGAN < 500
    for morning in (refused, moved, narrowed):
        assert morning.findings.broken == ()


def test_how_many_may_be_down_is_limited_in_the_middle_of_the_night() -> None:
    """From then on no restart begins while as many clusters are down, in every project."""
    down = (Unavailable(3), Unavailable(1, "project"))
    morning = Night(
        targets=fleet(40, 4),
        scenario='[restart]\nduration = "1m"\n',
        policy={"limits": (Concurrency(8),)},
        orders=[order(200, OrderKind.LIMIT, max_unavailable=down)],
    ).run()
    assert morning.outcomes() == {Outcome.RESTARTED: 40}
    assert morning.findings.broken == ()
    changed_at = next(e.at for e in morning.events if isinstance(e, LimitsChanged))
    records = executed(morning)
    after = [(n, record) for n, record in enumerate(records) if record.at > changed_at + 1.0]
    assert len(after) > 15
    for number, record in after:
        others = [e for e in records[:number] if counts(Concurrency(1), e, record)]
        assert len(others) < 3
        assert record.project_id not in {other.project_id for other in others}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_limits_changed_in_random_nights(data: st.DataObject) -> None:
    """Whatever the limits become, and whenever: each start has room under those of its grant."""
    at_once = st.builds(Concurrency, st.integers(1, 12))
    rates = st.builds(Rate, st.integers(1, 10), st.floats(5, 300))
    changes = data.draw(
        st.lists(st.tuples(st.floats(1, 600), st.tuples(at_once, rates)), min_size=1, max_size=5)
    )
    faults = "".join(
        f"{name} = {data.draw(st.sampled_from([0.0, 0.1]))}\n"
        for name in ("throttled", "reset_before", "reset_after", "hang_after")
    )
    morning = Night(
        targets=fleet(data.draw(st.integers(1, 40)), data.draw(st.integers(1, 4))),
        scenario='[latency]\nbefore = ["0ms", "900ms"]\nafter = ["0ms", "900ms"]\n'
        f'[restart]\nduration = ["5s", "3m"]\n[faults]\n{faults}',
        seed=data.draw(st.integers(0, 1000)),
        patience=data.draw(st.sampled_from([0.5, 5.0])),
        policy={
            "limits": (data.draw(at_once), data.draw(rates)),
            "max_failures": Portion(100, is_percent=True),
        },
        orders=[order(at, OrderKind.LIMIT, limits=limits, loosen=True) for at, limits in changes],
    ).run()
    assert morning.findings.broken == ()
    assert morning.judged().twice == ()
    check_each_start(morning)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_who_may_be_down_changed_in_random_nights(data: st.DataObject) -> None:
    """Whatever is said of clusters down, and whenever: no restart begins beside as many of them."""
    down = st.builds(Unavailable, st.integers(1, 4), st.sampled_from(["fleet", "project"]))
    limits = st.lists(down, max_size=2, unique_by=lambda one: one.scope).map(tuple)
    changes = data.draw(st.lists(st.tuples(st.floats(1, 600), limits), min_size=1, max_size=4))
    share = data.draw(st.sampled_from([0.0, 0.05, 0.2]))
    over = max(at for at, _ in changes) + 1500.0
    morning = Night(
        targets=fleet(data.draw(st.integers(5, 30)), data.draw(st.integers(1, 4))),
        scenario='[restart]\nduration = ["5s", "3m"]\n'
        f"[state]\ninitial = {{unhealthy = {share}}}\n",
        seed=data.draw(st.integers(0, 1000)),
        policy={
            "limits": (Concurrency(data.draw(st.integers(1, 8))),),
            "max_failures": Portion(100, is_percent=True),
        },
        orders=[
            *(order(at, OrderKind.LIMIT, no_unavailable=True, max_unavailable=most, loosen=True)
              for at, most in changes),
            # Clusters that stay down would hold up the others for ever.
            order(over, OrderKind.LIMIT, no_unavailable=True, loosen=True),
        ],
    ).run()  # fmt: skip
    assert morning.findings.broken == ()
    assert morning.judged().twice == ()
    assert Outcome.NOT_STARTED not in morning.outcomes()
    policies = [(-math.inf, morning.plan.policy)]
    for event in morning.events:
        if isinstance(event, LimitsChanged):
            policies.append((event.at, changed_policy(policies[-1][1], event)))
    records = executed(morning)
    for number, record in enumerate(records):
        begun = [e for e in records[:number] if counts(Concurrency(1), e, record)]
        # What was granted right before a change may be executed right after it.
        kept = [p for n, (at, p) in enumerate(policies) if at < record.at - 0.5
                and all(later > record.at for later, _ in policies[n + 1 :])]  # fmt: skip
        for limit in kept[0].max_unavailable if kept else ():
            same = [e for e in begun if limit.scope == "fleet" or e.project_id == record.project_id]
            assert len(same) < limit.most


# ------------------------------------------------------------------------------- real processes

JOURNAL = ("--journal", "journal.db")
SCENARIO = '[restart]\nduration = ["300ms", "900ms"]\nbusy_after = ["0ms", "50ms"]\n'


class Desk:
    """Two terminals: at one a run goes on, at the other somebody steers it."""

    def __init__(self, folder: Path, run: "subprocess.Popen[str]") -> None:
        self.folder = folder
        self.run = run

    def order(self, *arguments: str) -> int:
        return start(self.folder, *arguments, *JOURNAL).wait(30)

    def runs(self) -> list[dict[str, Any]]:
        """What `runs` prints."""
        command = [sys.executable, "-m", "orchestrator", "runs", "-o", "json", *JOURNAL]
        found = subprocess.run(
            command, cwd=self.folder, env=environment(self.folder), capture_output=True, check=True
        )
        listed: list[dict[str, Any]] = json.loads(found.stdout)
        return listed

    def executed(self) -> list[Record]:
        trace = self.folder / "trace.jsonl"
        records = read_trace(trace) if trace.exists() else iter(())
        return [record for record in records if record.what == "executed"]

    def until(self, number: int) -> None:
        """Wait until so many restarts were executed."""
        wait_for(lambda: len(self.executed()) >= number, self.folder)

    def events(self) -> list[Event]:
        async def read() -> list[Event]:
            async with open_store(self.folder / "journal.db", create=False) as store:
                [run] = await store.runs()
                return await store.run_events(run.run_id)

        return anyio.run(read)

    def latencies(self) -> list[float]:
        """How long after each order the run obeyed it, in seconds."""

        async def read() -> list[float]:
            async with open_store(self.folder / "journal.db", create=False) as store:
                [run] = await store.runs()
                given = {order.number: order.at for order in await store.orders(run.run_id, 0)}
                events = await store.run_events(run.run_id)
                return [e.at - given[n] for e in events if (n := order_of(e)) is not None]

        return anyio.run(read)

    def give(self, kind: OrderKind, **wanted: Any) -> None:
        """Leave an order in the journal, as somebody did a moment before the runner died."""

        async def give() -> None:
            async with open_store(self.folder / "journal.db", create=False) as store:
                [run] = await store.runs()
                await store.give(run.run_id, order(store.clock.now(), kind, **wanted))

        anyio.run(give)

    def report(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return document

    def check(self) -> None:
        """Nothing twice, and the journal agrees that every promise was kept."""
        assert judge(self.executed()).twice == ()
        assert self.order("verify") == ExitCode.OK, said(self.folder)


def wait_for(is_so: Callable[[], bool], folder: Path, within: float = 20.0) -> None:
    until = time.monotonic() + within
    while not is_so():
        assert time.monotonic() < until, said(folder)
        time.sleep(0.02)


@contextmanager
def desk(folder: Path, *more: str, count: int = 24, terminal: int | None = None) -> Iterator[Desk]:
    """Serve a fleet and begin to restart it, perhaps on a terminal."""
    targets = invent_targets(count, 2, 3)
    fleet_file(folder, "fleet.csv", targets)
    with simulator(folder, targets, SCENARIO) as url:
        arguments = (
            "restart", "fleet.csv", "--yes", "--endpoint", url, *QUICK, *JOURNAL,
            "--report", "report.json", *(more if "--rate" in more else (*more, "--rate", "none")),
        )  # fmt: skip
        run = start(folder, *arguments, terminal=terminal)
        try:
            yield Desk(folder, run)
        finally:
            run.kill()
            run.wait()


def test_pause_and_continue_from_another_terminal(tmp_path: Path) -> None:
    """Within two seconds nothing starts any more, the process stays, and `resume` lets it go on."""
    with desk(tmp_path, "--max-concurrency", "4") as it:
        it.until(8)
        assert it.order("pause", "--reason", "disk alarm", "--operator", "ben") == ExitCode.OK
        paused_with = len(it.executed())
        time.sleep(1.5)
        assert len(it.executed()) == paused_with < 24
        assert it.run.poll() is None
        [listed] = it.runs()
        assert (listed["state"], listed["doing"]) == ("running", "paused")
        assert (listed["paused"]["by"], listed["paused"]["reason"]) == ("ben", "disk alarm")
        assert it.order("resume", "--reason", "cleared") == ExitCode.OK
        assert it.run.wait(60) == ExitCode.OK, said(tmp_path)
        it.check()
        assert max(it.latencies()) < 2.0
        assert it.order("pause") == ExitCode.UNAVAILABLE
    told = said(tmp_path)
    assert "paused by ben: disk alarm" in told
    assert "restarts under way still followed" in told
    assert "continued by" in told
    assert "(cleared)" in told
    assert "no run of this journal is live" in told
    assert it.report()["counts"]["restarted"] == 24


def test_limits_changed_from_another_terminal(tmp_path: Path) -> None:
    """From the moment that the command returns the service sees the new limits kept, exactly."""
    with desk(tmp_path, "--max-concurrency", "10", "--rate", "8/500ms", count=60) as it:
        it.until(20)
        assert it.order("limit", "--max-concurrency", "11") == ExitCode.USAGE
        assert it.order("limit", "--max-concurrency", "3", "--rate", "8/4s") == ExitCode.OK
        before = len(it.executed())
        assert before < 45
        it.until(before + 12)
        # The command returns some time after the runner has obeyed.
        loosened = len(it.executed())
        assert it.order("limit", "--rate", "none", "--loosen", "--reason", "late") == ExitCode.OK
        assert it.run.wait(60) == ExitCode.OK, said(tmp_path)
        it.check()
        records = it.executed()
        for number, record in enumerate(records[before:], start=before):
            at_once = sum(counts(Concurrency(3), earlier, record) for earlier in records[:number])
            assert at_once < 3
            if number < loosened:
                begun = sum(counts(Rate(8, 4.0), e, record) for e in records[:number])
                assert begun < 8
    told = said(tmp_path)
    assert "--loosen" in told
    assert "keeps from now on: 3, 8/4s; failures allowed 0" in told
    limits = [event for event in it.events() if isinstance(event, LimitsChanged)]
    assert [event.is_looser for event in limits] == [False, True]
    assert limits[1].reason == "late"


def test_a_longer_interval_counts_what_other_runs_did(tmp_path: Path) -> None:
    """When a rate is stretched, starts of runs that are long over come back into it, exactly."""
    targets = invent_targets(30, 2, 3)
    fleet_file(tmp_path, "first.csv", targets[:10])
    fleet_file(tmp_path, "second.csv", targets[10:])
    with simulator(tmp_path, targets, SCENARIO) as url:
        common = ["--yes", "--endpoint", url, *QUICK, *JOURNAL, "--max-concurrency", "10"]
        first = start(
            tmp_path, "restart", "first.csv", *common, "--rate", "10/1s", "--report", "1.json"
        )
        assert first.wait(60) == ExitCode.OK, said(tmp_path)
        run = start(
            tmp_path, "restart", "second.csv", *common, "--rate", "4/1s", "--report", "2.json"
        )
        it = Desk(tmp_path, run)
        it.until(14)
        assert it.order("limit", "--rate", "14/12s", "--loosen") == ExitCode.OK
        before = len(it.executed())
        assert before < 28
        assert run.wait(90) == ExitCode.OK, said(tmp_path)
        records = it.executed()
        assert len(records) == 30
        for number, record in enumerate(records[before:], start=before):
            assert sum(counts(Rate(14, 12.0), e, record) for e in records[:number]) < 14
        it.check()


def test_the_window_changed_from_another_terminal(tmp_path: Path) -> None:
    """Window and clusters down hold as soon as the command returns; a resume brings a new night."""
    with desk(tmp_path, "--max-concurrency", "6", "--deadline", "1h", count=60) as it:
        it.until(6)
        assert it.order("limit", "--deadline", "2h") == ExitCode.USAGE
        assert it.order("limit", "--deadline", "none", "--max-failures", "x") == ExitCode.USAGE
        assert it.order("limit", "--max-unavailable", "2", "--cutoff", "30m") == ExitCode.OK
        before = len(it.executed())
        it.until(before + 8)
        assert it.order("limit", "--cutoff", "100ms", "--reason", "late") == ExitCode.OK
        assert it.run.wait(30) == ExitCode.STOPPED, said(tmp_path)
        for number, record in enumerate(it.executed()[before:], start=before):
            assert sum(counts(Concurrency(2), e, record) for e in it.executed()[:number]) < 2
        report = it.report()
        assert report["stop_reason"].startswith("cutoff: nothing starts after 20")
        assert report["plan"]["max_unavailable"] == ["2"]
        assert [one["event"] for one in report["steering"][:3]] == [
            "limits.changed", "window.changed", "window.changed",
        ]  # fmt: skip
        assert it.order("resume") == ExitCode.USAGE
        assert it.order("resume", "--cutoff", "none", "--report", "report.json") == ExitCode.OK
        it.check()
    told = said(tmp_path)
    assert "that allows more than what holds now: done by 20" in told
    assert "--max-failures: 'x' is not a number of targets" in told
    assert "; 2 unavailable; failures allowed 0; window no start after 20" in told
    assert "window changed by" in told
    assert "give --cutoff anew, or as none" in told
    assert it.report()["counts"]["restarted"] == 60


def test_a_paused_run_goes_on_within_other_limits(tmp_path: Path) -> None:
    """`resume` of a run that is live gives it the limits first; wider ones let nothing go on."""
    with desk(tmp_path, "--max-concurrency", "6", "--rate", "1000/1m", count=40) as it:
        it.until(8)
        assert it.order("pause") == ExitCode.OK
        assert it.order("resume", "--rate", "none") == ExitCode.USAGE
        assert it.order("resume", "--only", "failed") == ExitCode.USAGE
        before = len(it.executed())
        assert it.order("resume", "--max-concurrency", "project=1") == ExitCode.OK
        assert it.run.wait(60) == ExitCode.OK, said(tmp_path)
        records = it.executed()
        for number, record in enumerate(records[before:], start=before):
            others = [e for e in records[:number] if counts(Concurrency(1), e, record)]
            assert record.project_id not in {other.project_id for other in others}
        it.check()
    [changed] = [event for event in it.events() if isinstance(event, LimitsChanged)]
    assert changed.limits == ("6", "1000/60s", "project=1")
    assert "that allows more than what holds now: 1000/60s" in said(tmp_path)


def test_drain_and_abort_from_another_terminal(tmp_path: Path) -> None:
    """They end the run in its own process, with its report, the reason and the usual exit code."""
    for command, code in (("drain", ExitCode.STOPPED), ("abort", ExitCode.ABORTED)):
        folder = tmp_path / command
        folder.mkdir()
        # What was under way at an abort may be over before anybody looks again: unknown.
        with desk(folder, "--max-concurrency", "4", "--max-failures", "100%") as it:
            it.until(6)
            assert it.order(command, "--reason", "enough", "--operator", "ben") == ExitCode.OK
            assert it.run.wait(30) == code, said(folder)
            report = it.report()
            assert "by ben: enough" in report["stop_reason"]
            assert report["exit_code"] == code
            assert 0 < report["counts"]["not_started"] < 24
            assert it.order("resume", "--report", "report.json") in {
                ExitCode.OK, ExitCode.SOME_FAILED,
            }  # fmt: skip
            it.check()


def test_killed_while_paused(tmp_path: Path) -> None:
    """A paused run whose runner was killed goes on when it is taken up again, and says so."""
    with desk(tmp_path, "--max-concurrency", "4", "--max-failures", "100%") as it:
        it.until(6)
        assert it.order("pause") == ExitCode.OK
        it.run.send_signal(signal.SIGKILL)
        it.run.wait()
        assert it.order("drain") == ExitCode.UNAVAILABLE
        assert "nobody works on it" in said(tmp_path) or "no run" in said(tmp_path)
        assert it.order("resume", "--report", "report.json") in {
            ExitCode.OK, ExitCode.SOME_FAILED,
        }  # fmt: skip
        it.check()
    assert "continued by" in said(tmp_path)
    assert "it was paused by" in said(tmp_path)
    kinds = [type(event) for event in it.events()]
    assert kinds.index(RunPaused) < kinds.index(RunContinued)
    assert it.report()["counts"]["not_started"] == 0


def test_two_who_resume_at_once(tmp_path: Path) -> None:
    """A paused run goes on once; who comes second, or for nothing, reads that it does already."""
    with desk(tmp_path, "--max-concurrency", "2", count=40) as it:
        it.until(4)
        assert it.order("resume") == ExitCode.UNAVAILABLE
        assert it.order("pause") == ExitCode.OK
        both = [start(tmp_path, "resume", *JOURNAL) for _ in range(2)]
        codes = sorted(each.wait(30) for each in both)
        assert codes[0] == ExitCode.OK
        assert codes[1] in {ExitCode.OK, ExitCode.USAGE, ExitCode.UNAVAILABLE}
        assert it.order("drain", "--reason", "enough") == ExitCode.OK
        assert it.order("limit", "--max-concurrency", "1") != ExitCode.OK
        assert it.run.wait(30) == ExitCode.STOPPED, said(tmp_path)
        it.check()
    told = said(tmp_path)
    assert told.count("continued by") == 1
    assert "it is not paused, and goes on already: " in told
    assert len([event for event in it.events() if isinstance(event, RunContinued)]) == 1


def test_orders_that_nobody_lived_to_take(tmp_path: Path) -> None:
    """What was asked of a runner that died is obeyed by the next, once; who resumes goes on."""
    with desk(tmp_path, "--max-concurrency", "6", "--max-failures", "100%") as it:
        it.until(6)
        it.run.send_signal(signal.SIGKILL)
        it.run.wait()
        it.give(OrderKind.LIMIT, limits=(Concurrency(2),))
        it.give(OrderKind.DRAIN)
        before = len(it.executed())
        assert it.order("resume", "--report", "report.json") in {
            ExitCode.OK, ExitCode.SOME_FAILED,
        }  # fmt: skip
        it.check()
        records = it.executed()
        for number, record in enumerate(records[before:], start=before):
            assert sum(counts(Concurrency(2), e, record) for e in records[:number]) < 2
    kinds = [type(e) for e in it.events() if not isinstance(e, RunnerStarted)]
    assert kinds.count(LimitsChanged) == kinds.count(RunStopping) == 1
    assert kinds.index(RunStopping) < kinds.index(RunResumed)
    assert it.report()["counts"]["not_started"] == 0


def test_each_order_is_obeyed_once_whoever_dies(tmp_path: Path) -> None:
    """Runners that are killed right after orders: the history has each order once, in its turn."""
    rng = random.Random(5)
    with desk(tmp_path, "--max-concurrency", "4", "--max-failures", "100%") as it:
        it.until(2)
        for number in range(4):
            # Given to the journal, for a command would wait for a runner that is about to die.
            later = NewBound(bound=Bound.DEADLINE, at=time.time() + 3600 * (number + 1))
            slots = (Concurrency(3 - number % 2),)
            it.give(OrderKind.LIMIT, limits=slots, window=(later,), loosen=True)
            it.give(rng.choice([OrderKind.PAUSE, OrderKind.DRAIN, OrderKind.CONTINUE]))
            kill_after(it.run, rng.uniform(0.0, 0.8))
            it.run = start(tmp_path, "resume", *JOURNAL, "--report", "report.json")
            events = len(it.events())
            wait_for(partial(_is_longer, it, events), tmp_path)
        assert it.run.wait(60) in {ExitCode.OK, ExitCode.SOME_FAILED}, said(tmp_path)
        it.check()
    obeyed: dict[int, list[str]] = {}
    for event in it.events():
        number_of = order_of(event)
        if number_of is not None:
            obeyed.setdefault(number_of, []).append(event.kind)
    assert list(obeyed) == [1, 2, 3, 4, 5, 6, 7, 8]
    for asked, kinds in obeyed.items():
        # Limits and window of one order happen together, or not at all.
        both = ["limits.changed", "window.changed"]
        assert kinds == both if asked % 2 and kinds != ["order.refused"] else len(kinds) == 1
    assert it.report()["counts"]["not_started"] == 0


def _is_longer(it: Desk, than: int) -> bool:
    return len(it.events()) > than


def test_a_terminal_that_is_gone(tmp_path: Path) -> None:
    """A run whose terminal hangs up goes on, can be steered, and ends as if nothing had been."""
    ours, theirs = os.openpty()
    with desk(tmp_path, "--max-concurrency", "4", terminal=theirs) as it:
        os.close(theirs)
        it.until(6)
        os.close(ours)
        it.run.send_signal(signal.SIGHUP)
        before = len(it.executed())
        it.until(before + 4)
        assert it.order("pause") == ExitCode.OK
        time.sleep(1.0)
        assert it.run.poll() is None
        assert it.order("resume") == ExitCode.OK
        assert it.run.wait(60) == ExitCode.OK
        it.check()
    assert it.report()["counts"]["restarted"] == 24


def test_status_of_a_live_run(tmp_path: Path) -> None:
    """From another terminal: who works on it, what runs, and why and until when others wait."""
    with desk(tmp_path, "--max-concurrency", "3", "--rate", "9/60s") as it:
        it.until(9)
        wait_for(lambda: looked(it)["counts"]["restarted"] == 9, tmp_path)
        status = looked(it)
        [wait] = status["waits"]
        assert (wait["count"], wait["cause"]) == (15, "limit")
        assert wait["reason"].startswith("for 9/60s (next in")
        assert wait["until"] == status["limits"][1]["frees_at"]
        assert status["runner"]["pid"] == it.run.pid
        assert it.order("pause", "--reason", "lunch") == ExitCode.OK
        status = looked(it)
        assert status["waits"][0]["cause"] == "paused"
        assert status["paused"]["reason"] == "lunch"
        (tmp_path / "journal.db").chmod(0o400)
        assert looked(it)["state"] == "running"
        (tmp_path / "journal.db").chmod(0o600)
        watching = looking(tmp_path, "--watch", "-o", "json")
        assert watching.stdout is not None
        first = watching.stdout.readline()
        assert it.order("drain") == ExitCode.OK
        assert it.run.wait(30) == ExitCode.STOPPED
        out, _ = watching.communicate(timeout=30)
        states = [json.loads(line)["state"] for line in (first, *out.splitlines())]
        assert states[0] == "running"
        assert states[-1] == "stopped"
        stopped = looked(it)
        assert (stopped["counts"]["waiting"], stopped["counts"]["not_started"]) == (0, 15)
        assert stopped["waits"] == []
        text, _ = looking(tmp_path).communicate(timeout=30)
        assert "stopped: drained by" in text
        assert "`orchestrator resume" in text


def looking(folder: Path, *more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "status", *more, *JOURNAL],
        cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def looked(it: Desk) -> dict[str, Any]:
    out, _ = looking(it.folder, "-o", "json").communicate(timeout=30)
    document: dict[str, Any] = json.loads(out)
    return document


CONFIRMED = ("--max-concurrency", "6", "--confirm-waves", "--waves", "2,4,rest", "--soak", "100ms")


def test_waves_wait_for_a_word_from_another_terminal(tmp_path: Path) -> None:
    """Without a terminal of its own a run waits before each wave for `resume`, and says so."""
    with desk(tmp_path, *CONFIRMED, count=9) as it:
        for done in (2, 6):
            it.until(done)
            wait_for(lambda: looked(it)["paused"] is not None, tmp_path)
            time.sleep(0.5)
            assert len(it.executed()) == done
            assert it.run.poll() is None
            assert it.order("resume") == ExitCode.OK
        assert it.run.wait(60) == ExitCode.OK, said(tmp_path)
        it.check()
    told = said(tmp_path)
    assert "paused by orchestrator: wave 1 is done: 2 restarted; wave 2 of 3" in told
    assert "lets it go on" in told
    assert "press y" not in told


def test_waves_wait_for_a_key_at_the_terminal(tmp_path: Path) -> None:
    """At its own terminal a run waits for a key; what was typed before the question is no word."""
    ours, theirs = os.openpty()
    with desk(tmp_path, *CONFIRMED, count=9, terminal=theirs) as it, Screen(ours) as screen:
        echoing = termios.tcgetattr(theirs)[3] & termios.ECHO
        screen.type("y")
        for wave, done in ((1, 2), (2, 6)):
            it.until(done)
            wait_for(screen.shows(f"wave {wave} is done"), tmp_path)
            wait_for(screen.shows("press y, or run"), tmp_path)
            time.sleep(0.5)
            assert len(it.executed()) == done
            assert not termios.tcgetattr(theirs)[3] & termios.ECHO
            screen.type("n")
            time.sleep(0.5)
            assert len(it.executed()) == done
            screen.type("yes\n")
            it.until(done + 1)
        assert it.run.wait(60) == ExitCode.OK
        assert termios.tcgetattr(theirs)[3] & termios.ECHO == echoing
        it.check()
    os.close(theirs)


def test_ctrl_z_leaves_the_terminal_in_order(tmp_path: Path) -> None:
    """Whoever stops the run gets the cursor and the keys back; it asks again when it goes on."""
    ours, theirs = os.openpty()
    with desk(tmp_path, *CONFIRMED, count=9, terminal=theirs) as it, Screen(ours) as screen:
        echoing = termios.tcgetattr(theirs)[3] & termios.ECHO
        wait_for(screen.shows("press y, or run"), tmp_path)
        assert not screen.has_cursor()
        it.run.send_signal(signal.SIGTSTP)
        wait_for(screen.shows("stopped by Ctrl-Z: nothing starts"), tmp_path)
        _, status = os.waitpid(it.run.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        wait_for(screen.has_cursor, tmp_path)
        assert termios.tcgetattr(theirs)[3] & termios.ECHO == echoing
        it.run.send_signal(signal.SIGCONT)
        wait_for(lambda: not screen.has_cursor(), tmp_path)
        wait_for(lambda: not termios.tcgetattr(theirs)[3] & termios.ECHO, tmp_path)
        screen.type("y")
        it.until(3)
        wait_for(screen.shows("wave 2 is done"), tmp_path)
        screen.type("y")
        assert it.run.wait(60) == ExitCode.OK
        wait_for(screen.has_cursor, tmp_path)
        it.check()
    os.close(theirs)


class Screen:
    """What a terminal shows, and somebody who types at it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._shown: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def has_cursor(self) -> bool:
        """Whether the cursor is shown now."""
        drawn = b"".join(self._shown)
        return drawn.rfind(b"\x1b[?25h") >= drawn.rfind(b"\x1b[?25l")

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._descriptor, 65536):
                self._shown.append(data)

    def shows(self, words: str) -> Callable[[], bool]:
        return lambda: words in b"".join(self._shown).decode(errors="replace")

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())
