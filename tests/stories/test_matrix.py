"""The crash matrix with real processes: SIGKILL at each write and each call, then `resume`.

A life is played point by point: the run is made, its process dies at the point, `resume` takes it
to its end, and the simulator's trace judges. The everyday form takes some points, the long one all.
"""

import json
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from orchestrator.errors import ExitCode
from orchestrator.journal import RunRecord, open_store
from orchestrator.limits import Concurrency, Rate
from orchestrator.plan import Policy, Portion, make_plan
from orchestrator.simulator import invent_targets, judge, read_trace
from tests.stories.processes import environment, simulator

ROOT = Path(__file__).parent.parent.parent
LIMITS = (Concurrency(2), Rate(2, 1.0))
POLICY = Policy(
    limits=LIMITS, poll_every=0.1, confirm_within=1.5, stable_for=0.1, healthy_deadline=10.0,
    max_failures=Portion(100, is_percent=True),
)  # fmt: skip
SCENARIO = """
[latency]
before = "80ms"
after = "20ms"
[restart]
duration = ["300ms", "600ms"]
busy_after = "20ms"
[faults]
retry_after = "1s"
[[cluster]]
match = "*-0002"
faults = {reset_after = {rate = 1.0, first = 1}}
[[cluster]]
match = "*-0003"
faults = {throttled = {rate = 1.0, first = 1}}
"""
CLUSTERS = 4


def make_run(folder: Path) -> None:
    """Put the run into the journal, with nobody at work on it."""
    plan = make_plan(invent_targets(CLUSTERS, 1, 1), POLICY, canary=Portion(0))

    async def create() -> None:
        async with open_store(folder / "journal.db") as store:
            await store.create_run(
                RunRecord(
                    run_id="run", plan=plan, operator="ana", change=None,
                    created_at=store.clock.now(), world="", tool_version="0", settings={},
                )
            )  # fmt: skip

    anyio.run(create)


def live(folder: Path, url: str, point: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.stories.mortal", "run", url, "journal.db", str(point)],
        cwd=folder, env={**environment(folder), "PYTHONPATH": str(ROOT)}, timeout=60,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


def resume(folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    again = orchestrator(folder, "resume", "run", "--endpoint", url, "--report", "report.json")
    if "nothing is left" in again.stderr:
        # It died with its last word said and written down: all that is missing is the report.
        again = orchestrator(folder, "report", "run", "--report", "report.json")
    return again


def orchestrator(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *words, "--journal", "journal.db"],
        cwd=folder, env=environment(folder), timeout=60, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def die_and_resume(folder: Path, point: int) -> int:
    """Die at the point and resume; judge; return how many points there were if nobody died."""
    folder.mkdir()
    make_run(folder)
    with simulator(folder, invent_targets(CLUSTERS, 1, 1), SCENARIO) as url:
        life = live(folder, url, point)
        if life.returncode == 0:
            return int(life.stdout)
        assert life.returncode == -9, life.stderr
        again = resume(folder, url)
    assert again.returncode in {ExitCode.OK, ExitCode.SOME_FAILED}, again.stderr
    judged = judge(
        read_trace(folder / "trace.jsonl"),
        concurrency=[limit for limit in LIMITS if isinstance(limit, Concurrency)],
        rates=[limit for limit in LIMITS if isinstance(limit, Rate)],
    )
    where = f"killed at point {point}: {again.stderr}"
    assert judged.broken == (), where
    assert judged.twice == (), where
    counts = json.loads((folder / "report.json").read_text())["counts"]
    assert counts["not_started"] == counts["skipped"] == 0, where
    return 0


@pytest.mark.timeout(300)
def test_killed_at_points_of_every_kind(tmp_path: Path) -> None:
    """Every seventh point of a life, each time another: promises hold after the resume."""
    count = die_and_resume(tmp_path / "whole", 10_000)
    assert count > 25
    for point in range(1, count + 1, 7):
        die_and_resume(tmp_path / str(point), point)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_killed_at_every_point(tmp_path: Path) -> None:
    """Every point of a life."""
    count = die_and_resume(tmp_path / "whole", 10_000)
    for point in range(1, count + 1):
        die_and_resume(tmp_path / str(point), point)
