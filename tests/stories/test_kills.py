"""SIGKILL at any instant, then `resume`: real processes, judged by the server's trace."""

import contextlib
import json
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from orchestrator.errors import ExitCode
from orchestrator.limits import Concurrency, Rate
from orchestrator.simulator import Judgement, invent_targets, judge, read_trace
from tests.schema import report_schema
from tests.stories.processes import (
    QUICK,
    environment,
    fleet_file,
    kill_after,
    said,
    simulator,
    start,
)

SCENARIO = """
[latency]
before = ["0ms", "300ms"]
after = ["0ms", "100ms"]
read = ["0ms", "30ms"]
[restart]
duration = ["500ms", "1500ms"]
busy_after = ["0ms", "100ms"]
[faults]
refused = 0.02
throttled = 0.05
reset_before = 0.02
reset_after = 0.02
error_502_after = 0.02
retry_after = "1s"
"""

AT_ONCE, RATE = Concurrency(15), Rate(12, 2.0)


def judged(folder: Path) -> Judgement:
    return judge(read_trace(folder / "trace.jsonl"), concurrency=[AT_ONCE], rates=[RATE])


def report_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "report.json").read_text())
    Draft202012Validator(report_schema()).validate(document)
    return document


def has_a_run(journal: Path) -> bool:
    """Whether whoever was killed had kept its run, which it may not have had time to say."""
    if not journal.exists():
        return False
    # Not read-only: whoever was killed may have left a half of a transaction to undo.
    with contextlib.closing(sqlite3.connect(journal)) as connection:
        is_made = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'run'")
        if not is_made.fetchone()[0]:
            return False
        return bool(connection.execute("SELECT count(*) FROM run").fetchone()[0])


def live_and_die(folder: Path, *, clusters: int, kills: int, seed: int) -> int:
    """Run a fleet, killing whoever runs it at random instants; return how often that was done."""
    rng = random.Random(seed)
    targets = invent_targets(clusters, 4, seed)
    fleet = fleet_file(folder, "fleet.csv", targets)
    common = ["--journal", "journal.db", "--report", "report.json"]
    killed = 0
    with simulator(folder, targets, SCENARIO) as url:
        process = start(
            folder, "restart", fleet, "--yes", "--endpoint", url, "--max-failures", "100%",
            "--max-concurrency", str(AT_ONCE), "--rate", str(RATE), *QUICK, *common,
        )  # fmt: skip
        while killed < kills and kill_after(process, rng.uniform(0.5, 2.0)):
            killed += 1
            again = ["resume"] if has_a_run(folder / "journal.db") else None
            if again is None:  # it died before the run was in the journal
                process = start(
                    folder, "restart", fleet, "--yes", "--endpoint", url, "--new",
                    "--max-failures", "100%", "--max-concurrency", str(AT_ONCE),
                    "--rate", str(RATE), *QUICK, *common,
                )  # fmt: skip
            else:
                process = start(folder, *again, *common)
        code = process.wait(120)
    assert code in {ExitCode.OK, ExitCode.SOME_FAILED}, said(folder)
    return killed


def check(folder: Path, clusters: int) -> None:
    """Nothing twice, nothing lost, no limit passed, and every line of the fleet has an end."""
    judgement = judged(folder)
    assert judgement.broken == (), said(folder)
    assert judgement.twice == ()
    report = report_of(folder)
    counts = report["counts"]
    assert counts["targets"] == clusters
    assert counts["not_started"] == 0
    executed = {(r.project_id, r.cluster_id) for r in read_trace(folder / "trace.jsonl")
                if r.what == "executed"}  # fmt: skip
    never = {(t["project_id"], t["cluster_id"]) for t in report["targets"]
             if t["outcome"] in {"refused", "skipped"}}  # fmt: skip
    assert not executed & never
    well = {(t["project_id"], t["cluster_id"]) for t in report["targets"]
            if t["outcome"] == "restarted"}  # fmt: skip
    assert well <= executed


def test_killed_and_resumed(tmp_path: Path) -> None:
    """A fleet of fifty, its runner killed a few times at random: every promise holds."""
    killed = live_and_die(tmp_path, clusters=50, kills=5, seed=1)
    assert killed >= 3
    check(tmp_path, 50)
    verified = start(tmp_path, "verify", "--journal", "journal.db")
    assert verified.wait(30) == ExitCode.OK, said(tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 36))
def test_killed_and_resumed_often(tmp_path: Path, seed: int) -> None:
    """Two hundred kills over fleets of a hundred: nothing twice, nothing lost."""
    killed = live_and_die(tmp_path, clusters=100, kills=8, seed=seed)
    assert killed >= 6
    check(tmp_path, 100)


def test_two_runs_share_one_rate(tmp_path: Path) -> None:
    """Two processes on one journal never pass one rate at the server, and both come to an end."""
    targets = invent_targets(80, 4, 9)
    first = fleet_file(tmp_path, "first.csv", targets[:40])
    second = fleet_file(tmp_path, "second.csv", targets[40:])
    scenario = '[latency]\nbefore = ["0ms", "300ms"]\n[restart]\nduration = "200ms"\n'
    with simulator(tmp_path, targets, scenario) as url:
        runs = [
            start(
                tmp_path, "restart", fleet, "--yes", "--endpoint", url, "--rate", "20/2s",
                "--max-concurrency", "30", "--journal", "journal.db",
                "--report", f"{fleet}.json", *QUICK,
            )
            for fleet in (first, second)
        ]  # fmt: skip
        codes = [run.wait(120) for run in runs]
    assert codes == [ExitCode.OK, ExitCode.OK], said(tmp_path)
    judgement = judge(
        read_trace(tmp_path / "trace.jsonl"), concurrency=[Concurrency(30)], rates=[Rate(20, 2.0)]
    )
    assert judgement.broken == ()
    assert judgement.restarts == 80
    # Nobody starved: both had a part in the first half of all grants.
    grants: list[tuple[str, str]] = []
    for fleet in (first, second):
        report = json.loads((tmp_path / f"{fleet}.json").read_text())
        grants.extend((target["granted_at"], fleet) for target in report["targets"])
    early = [fleet for _, fleet in sorted(grants)[:40]]
    assert min(early.count(first), early.count(second)) >= 5


def test_places_that_a_dead_run_holds_are_named(tmp_path: Path) -> None:
    """A run that died keeps its places; whoever comes next is told by whom, and what to do."""
    targets = invent_targets(8, 1, 4)
    first = fleet_file(tmp_path, "first.csv", targets[:4])
    second = fleet_file(tmp_path, "second.csv", targets[4:])
    with simulator(tmp_path, targets, '[restart]\nduration = "3s"\n') as url:
        common = ["--yes", "--endpoint", url, "--journal", "journal.db", "--rate", "none",
                  "--report", "report.json", "--max-concurrency", "4", *QUICK]  # fmt: skip
        dying = start(tmp_path, "restart", first, *common)
        while not (tmp_path / "trace.jsonl").exists() or not judged(tmp_path).restarts:
            assert dying.poll() is None, said(tmp_path)
        kill_after(dying, 0.5)
        next_one = start(tmp_path, "restart", second, *common)
        while "slots.held" not in said(tmp_path):
            assert next_one.poll() is None, said(tmp_path)
        assert judged(tmp_path).restarts == 4
        # Once it is taken up again and has come to its end, the next one has room.
        found = re.search(r"`orchestrator resume (\S+)`", said(tmp_path))
        assert found
        again = start(tmp_path, "resume", found.group(1), "--journal", "journal.db")
        assert again.wait(60) in {ExitCode.OK, ExitCode.SOME_FAILED, ExitCode.STOPPED}
        assert next_one.wait(60) == ExitCode.OK, said(tmp_path)
    assert judge(read_trace(tmp_path / "trace.jsonl"), concurrency=[Concurrency(4)]).broken == ()


def test_a_second_runner_is_told_who_works_on_the_run(tmp_path: Path) -> None:
    """While a run is live, `resume` and a second `restart` of the plan are refused in words."""
    targets = invent_targets(12, 1, 4)
    fleet = fleet_file(tmp_path, "fleet.csv", targets)
    scenario = '[restart]\nduration = "2s"\n'
    with simulator(tmp_path, targets, scenario) as url:
        arguments = [
            "restart", fleet, "--yes", "--endpoint", url, "--journal", "journal.db",
            "--report", "report.json", "--rate", "none", "--max-concurrency", "4", *QUICK,
        ]  # fmt: skip
        run = start(tmp_path, *arguments)
        while "started by" not in said(tmp_path):
            assert run.poll() is None, said(tmp_path)
        assert start(tmp_path, "resume", "--journal", "journal.db").wait(30) == (
            ExitCode.UNAVAILABLE
        ), said(tmp_path)
        assert start(tmp_path, *arguments).wait(30) == ExitCode.UNAVAILABLE
        assert run.wait(60) == ExitCode.OK
    assert "pid" in said(tmp_path)
    assert "of the same plan is running" in said(tmp_path)
    assert "`orchestrator status " in said(tmp_path)
    assert judge(read_trace(tmp_path / "trace.jsonl")).twice == ()


def test_a_third_interrupt_does_not_cost_the_report(tmp_path: Path) -> None:
    """Whoever keeps pressing Ctrl-C while the report is written gets the whole report."""
    fleet = fleet_file(tmp_path, "fleet.csv", invent_targets(600, 1, 5))
    command = [
        sys.executable, "-m", "orchestrator", "restart", fleet, "--simulate", "--yes",
        "--journal", "journal.db", "--report", "-", *QUICK,
    ]  # fmt: skip
    with (tmp_path / "said.txt").open("w") as words:
        run = subprocess.Popen(
            command, cwd=tmp_path, env=environment(tmp_path), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=words,
        )  # fmt: skip
    wait_for(run, tmp_path, "opened")
    run.send_signal(signal.SIGINT)
    wait_for(run, tmp_path, "stopping")
    run.send_signal(signal.SIGINT)
    wait_for(run, tmp_path, "run aborted")
    for _ in range(2):  # it is writing by now, and nobody reads
        time.sleep(0.2)
        run.send_signal(signal.SIGINT)
    printed, _ = run.communicate(timeout=30)
    assert run.returncode == ExitCode.ABORTED, said(tmp_path)
    assert len(json.loads(printed)["targets"]) == 600


def wait_for(run: subprocess.Popen[str], folder: Path, words: str) -> None:
    while words not in said(folder):
        assert run.poll() is None, said(folder)
        time.sleep(0.02)
