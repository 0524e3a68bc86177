"""When the machine fails the run: a full disk, a journal that is gone, a clock that is set."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import pytest

from orchestrator.campaign import Campaign
from orchestrator.commands import Command, Look, Record, Restart
from orchestrator.errors import ExitCode
from orchestrator.journal import RunRecord, Store, open_store
from orchestrator.journal.clock import Host
from orchestrator.limits import Concurrency, Rate
from orchestrator.model import (
    Answer,
    ClusterState,
    Event,
    RestartAnswered,
    RestartRequested,
    Target,
    Verdict,
)
from orchestrator.plan import Plan, Policy, make_plan
from orchestrator.simulator import invent_targets, judge, read_trace
from tests.stories.processes import QUICK, environment, fleet_file, said, simulator

HOUR = 3600.0


def run_limited(folder: Path, fleet: str, url: str, *, largest_file: int) -> int:
    """Run a fleet in a process whose files cannot grow beyond a size: a disk that is full."""
    code = (
        "import resource, signal, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({largest_file}, {largest_file}))\n"
        "from orchestrator.cli import run\nsys.exit(run(sys.argv[1:]))"
    )
    with (folder / "said.txt").open("a") as words:
        return subprocess.run(
            [
                sys.executable, "-c", code, "restart", fleet, "--yes", "--endpoint", url,
                "--rate", "none", "--max-concurrency", "4", "--journal", "journal.db",
                "--report", "report.json", *QUICK,
            ],
            cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL, stderr=words,
            timeout=100, check=False,
        ).returncode  # fmt: skip


def test_a_full_disk(tmp_path: Path) -> None:
    """When the journal cannot grow nothing new starts, what runs is followed, and it is told."""
    targets = invent_targets(60, 1, 1)
    fleet = fleet_file(tmp_path, "fleet.csv", targets)
    scenario = '[restart]\nduration = "400ms"\nbusy_after = "20ms"\n'
    with simulator(tmp_path, targets, scenario) as url:
        code = run_limited(tmp_path, fleet, url, largest_file=100_000)
        assert code == ExitCode.UNAVAILABLE, said(tmp_path)
        judgement = judge(read_trace(tmp_path / "trace.jsonl"), concurrency=[Concurrency(4)])
        assert judgement.broken == ()
        assert 0 < judgement.restarts < 60
        words = said(tmp_path)
        assert "journal" in words
        assert "Traceback" not in words
        report = json.loads((tmp_path / "report.json").read_text())
        # Whatever was begun was followed to its end, and is in the report.
        assert report["counts"]["restarted"] == judgement.restarts
        assert report["counts"]["not_started"] == 60 - judgement.restarts
        # With room again the run goes on, and nothing is restarted a second time.
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator", "resume", "--journal", "journal.db",
             "--report", "report.json"],
            cwd=tmp_path, env=environment(tmp_path), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
    assert done.returncode in {ExitCode.OK, ExitCode.SOME_FAILED, ExitCode.STOPPED}, done.stderr
    assert judge(read_trace(tmp_path / "trace.jsonl")).twice == ()


OWN_DISK = ("unshare", "--mount", "--map-root-user", "sh", "-euc")
"""Runs a script whose mounts nobody else sees."""

FILLS_UP = """
mount -t tmpfs -o size=8m tmpfs disk
"$@" restart all.csv --yes --endpoint "$URL" --rate none --max-concurrency 50 --no-wait \
    --journal disk/journal.db --report report.json || echo $? >first
mount -o remount,size=64m disk
"$@" resume --journal disk/journal.db --report report.json
"""


def has_own_disks(folder: Path) -> bool:
    """Return whether this machine lets us mount what only we see."""
    mount = [*OWN_DISK, 'mount -t tmpfs tmpfs "$0"', str(folder)]
    try:
        return subprocess.run(mount, capture_output=True, timeout=10, check=False).returncode == 0
    except FileNotFoundError:
        return False


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    """What was answered when the disk was full is known to who resumes: nobody is asked again.

    The restarts are over by then, so that nothing at the clusters would tell.
    """
    (tmp_path / "disk").mkdir()
    if not has_own_disks(tmp_path / "disk"):
        pytest.skip("needs the right to mount a small disk of its own")
    targets = invent_targets(4000, 5, 1)
    scenario = '[restart]\nduration = "20ms"\nbusy_after = "0ms"\n'
    with simulator(tmp_path, targets, scenario) as url, (tmp_path / "said.txt").open("a") as words:
        code = subprocess.run(
            [*OWN_DISK, FILLS_UP, "sh", sys.executable, "-m", "orchestrator"],
            cwd=tmp_path, env={**environment(tmp_path), "URL": url}, stdin=subprocess.DEVNULL,
            stdout=words, stderr=words, timeout=100, check=False,
        ).returncode  # fmt: skip
    assert code == ExitCode.OK, said(tmp_path)
    assert (tmp_path / "first").read_text().strip() == str(int(ExitCode.UNAVAILABLE))
    judgement = judge(read_trace(tmp_path / "trace.jsonl"), concurrency=[Concurrency(50)])
    assert judgement.twice == ()
    assert judgement.restarts == 4000


# ------------------------------------------------------------------------------- clocks


class SteppedHost(Host):
    """A host whose wall clock was set by so many seconds; its uptime tells the truth."""

    def __init__(self, step: float) -> None:
        self._step = step

    def wall(self) -> float:
        return time.time() + self._step


STATE = ClusterState(status="200")
TARGETS = tuple(Target(project_id="p", cluster_id=f"c{n}") for n in range(6))
PLAN = make_plan(TARGETS, Policy(limits=(Concurrency(6), Rate(2, 600.0)), wait=False))


def ask(campaign: Campaign, now: float) -> Sequence[Event]:
    """Let the campaign decide; answer its looks at once; return what it records."""
    events: list[Event] = []

    def take(command: Command) -> None:
        match command:
            case Record(event=event) | Restart(event=event):
                campaign.apply(event)
                events.append(event)
            case Look(project_id=project_id):
                states = {target.cluster_id: STATE for target in TARGETS}
                campaign.observe(project_id, states, now, now)
            case _:
                pass

    for _ in range(3):
        for command in campaign.due(now):
            take(command)
    return events


def accepted(event: RestartRequested, now: float) -> Event:
    answer = Answer(verdict=Verdict.ACCEPTED, sent_at=now, answered_at=now, status=200)
    return RestartAnswered(at=now, target=event.target, attempt=event.attempt, answer=answer)


async def first_life(store: Store, plan: Plan) -> None:
    """Use up the rate, then die without a word."""
    record = RunRecord(
        run_id="run", plan=plan, operator="ana", change=None, created_at=store.clock.now(),
        world="", tool_version="0", settings={},
    )  # fmt: skip
    await store.create_run(record)
    journal = await store.journal("run", horizon=600.0)
    campaign = Campaign("run", plan)
    now = store.clock.now()
    events = list(ask(campaign, now))
    for event in list(events):
        if isinstance(event, RestartRequested):
            answer = accepted(event, now)
            campaign.apply(answer)
            events.append(answer)
    assert sum(isinstance(event, RestartRequested) for event in events) == 2
    await journal.write(lambda _: events)
    await journal.close()


def grants(campaign: Campaign, now: float) -> int:
    return sum(isinstance(event, RestartRequested) for event in ask(campaign, now))


@pytest.mark.parametrize("step", [HOUR, -HOUR, 48 * HOUR])
def test_a_wall_clock_that_is_set_loosens_nothing(tmp_path: Path, step: float) -> None:
    """The wall clock is set between a crash and a resume: the rate's window is what it was."""

    async def resumed() -> None:
        async with open_store(tmp_path / "j.db") as store:
            await first_life(store, PLAN)
        async with open_store(tmp_path / "j.db", host=SteppedHost(step)) as store:
            history = [event async for batch in store.events("run") for event in batch]
            campaign = Campaign("run", PLAN, history)
            now = store.clock.now()
            assert grants(campaign, now) == 0
            assert 590 < campaign.lanes.wake_at(now) - now < 601
            # The clock that is printed has moved with the wall.
            assert abs(now + store.clock.wall_offset - (time.time() + step)) < 5

    anyio.run(resumed)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_another_run_after_a_clock_step_counts_the_first(tmp_path: Path, step: float) -> None:
    """Another run, begun after the clock was set, still counts the starts before it."""

    async def second() -> None:
        async with open_store(tmp_path / "j.db") as store:
            await first_life(store, PLAN)
        async with open_store(tmp_path / "j.db", host=SteppedHost(step)) as store:
            record = await store.load_run("run")
            other = RunRecord(
                run_id="other", plan=record.plan, operator="ben", change=None,
                created_at=store.clock.now(), world="", tool_version="0", settings={},
            )  # fmt: skip
            await store.create_run(other)
            journal = await store.journal("other", horizon=600.0)
            campaign = Campaign("other", other.plan)
            granted = []

            def decide(starts: Sequence[object]) -> Sequence[Event]:
                campaign.take_note_of(starts, store.clock.now())  # type: ignore[arg-type]
                granted.append(grants(campaign, store.clock.now()))
                return ()

            await journal.write(decide)
            assert granted == [0]
            await journal.close()

    anyio.run(second)


def test_the_journal_is_gone(tmp_path: Path) -> None:
    """When the journal's folder is taken away, the run ends with 4 and still has its report."""
    targets = invent_targets(40, 1, 1)
    fleet = fleet_file(tmp_path, "fleet.csv", targets)
    (tmp_path / "kept").mkdir()
    scenario = '[restart]\nduration = "400ms"\nbusy_after = "20ms"\n'
    with simulator(tmp_path, targets, scenario) as url, (tmp_path / "said.txt").open("a") as words:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "orchestrator", "restart", fleet, "--yes", "--endpoint", url,
                "--rate", "none", "--max-concurrency", "4", "--journal", "kept/journal.db",
                "--report", "report.json", *QUICK,
            ],
            cwd=tmp_path, env=environment(tmp_path), stdin=subprocess.DEVNULL, stderr=words,
        )  # fmt: skip
        wait_for(lambda: " restarted " in said(tmp_path))
        (tmp_path / "kept").rename(tmp_path / "gone")
        assert process.wait(60) == ExitCode.UNAVAILABLE, said(tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["counts"]["restarted"] == judge(read_trace(tmp_path / "trace.jsonl")).restarts
    assert report["counts"]["not_started"] > 0


def wait_for(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)
