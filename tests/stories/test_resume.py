"""What an operator does the morning after: resume, take up again, loosen, resolve, skip."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from orchestrator.errors import ExitCode
from orchestrator.simulator import invent_targets, judge, read_trace
from orchestrator.simulator.trace import What
from tests.stories.processes import QUICK, environment, fleet_file, simulator

JOURNAL = ("--journal", "journal.db", "--report", "report.json")


def orchestrator(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=90, check=False,
    )  # fmt: skip


def restart(folder: Path, url: str, *more: str) -> subprocess.CompletedProcess[str]:
    return orchestrator(
        folder, "restart", "fleet.csv", "--yes", "--endpoint", url, "--rate", "none",
        *JOURNAL, *QUICK, *more,
    )  # fmt: skip


def counts(folder: Path) -> dict[str, int]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return {name: n for name, n in report["counts"].items() if n and name != "targets"}


QUICK_RESTART = '[restart]\nduration = "300ms"\nbusy_after = "20ms"\n'


def test_too_many_failures_then_resume(tmp_path: Path) -> None:
    """A run stopped by a failure says how to go on; `resume` does, and takes failures up again."""
    targets = invent_targets(8, 1, 1)
    fleet_file(tmp_path, "fleet.csv", targets)
    scenario = QUICK_RESTART + (
        f'[[cluster]]\nmatch = "{targets[2].cluster_id}"\nrestart = {{end = "failed"}}\n'
    )
    with simulator(tmp_path, targets, scenario) as url:
        first = restart(tmp_path, url, "--max-concurrency", "1")
        assert first.returncode == ExitCode.STOPPED, first.stderr
        assert "max_failures: 1 failed, 0 allowed" in first.stderr
        last = first.stderr.splitlines()[-1]
        journal = tmp_path.resolve() / "journal.db"
        assert re.fullmatch(
            rf"to go on: orchestrator resume 20\S+ --journal {re.escape(str(journal))}", last
        )
        assert counts(tmp_path) == {"restarted": 2, "failed": 1, "not_started": 5}

        command = shlex.split(last)[4:]
        again = orchestrator(tmp_path, *command)
        assert again.returncode == ExitCode.SOME_FAILED, again.stderr
        assert counts(tmp_path) == {"restarted": 7, "failed": 1}

        # It is down, so it is skipped: nobody said that the unhealthy are to be restarted.
        third = orchestrator(tmp_path, *command, "--only", "failed")
        assert third.returncode == ExitCode.SOME_FAILED, third.stderr
        assert counts(tmp_path) == {"restarted": 7, "skipped": 1}
        done = orchestrator(tmp_path, *command)
        assert done.returncode == ExitCode.USAGE
        assert "nothing is left" in done.stderr
        wrong = orchestrator(tmp_path, "resume", "--only", "restarted", *JOURNAL)
        assert wrong.returncode == ExitCode.USAGE
    assert judge(read_trace(tmp_path / "trace.jsonl")).twice == ()
    verified = orchestrator(tmp_path, "verify", "-o", "json", *JOURNAL[:2])
    assert verified.returncode == ExitCode.OK, verified.stdout


def test_limits_are_loosened_only_on_purpose(tmp_path: Path) -> None:
    """Wider limits on `resume` need `--loosen`; narrower ones do not."""
    targets = invent_targets(6, 1, 1)
    fleet_file(tmp_path, "fleet.csv", targets)
    scenario = QUICK_RESTART + (
        f'[[cluster]]\nmatch = "{targets[0].cluster_id}"\nrestart = {{end = "failed"}}\n'
    )
    with simulator(tmp_path, targets, scenario) as url:
        limits = ("--max-concurrency", "2", "--max-concurrency", "project=2")
        assert restart(tmp_path, url, *limits).returncode == ExitCode.STOPPED
        wider = orchestrator(tmp_path, "resume", "--max-concurrency", "3", *JOURNAL)
        assert wider.returncode == ExitCode.USAGE
        assert "--loosen" in wider.stderr
        assert counts(tmp_path)["not_started"] > 0
        assert "that allows more than what holds now: 2; give" in wider.stderr
        done = orchestrator(
            tmp_path, "resume", "--max-concurrency", "3", "--rate", "90/1m", "--loosen", *JOURNAL
        )
        assert done.returncode == ExitCode.SOME_FAILED, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    # What was not named still holds.
    assert report["plan"]["limits"]["max_concurrency"] == {"fleet": 3, "project": 2}
    assert report["plan"]["limits"]["rate"] == ["90/60s"]
    [change] = [one for one in report["steering"] if one["event"] == "limits.changed"]
    assert change["is_looser"] is True


def test_an_unknown_is_resolved(tmp_path: Path) -> None:
    """What nobody saw is unknown until a person says what happened; then it is what they say."""
    targets = invent_targets(3, 1, 1)
    fleet_file(tmp_path, "fleet.csv", targets)
    scenario = QUICK_RESTART + (
        f'[[cluster]]\nmatch = "{targets[1].cluster_id}"\n'
        'restart = {busy_after = "1h"}\nfaults = {reset_after = 1.0}\n'
    )
    with simulator(tmp_path, targets, scenario) as url:
        first = restart(tmp_path, url, "--max-failures", "3", "--no-reissue")
        assert first.returncode == ExitCode.SOME_FAILED, first.stderr
        assert counts(tmp_path) == {"restarted": 2, "unknown": 1}
        run_id = json.loads((tmp_path / "report.json").read_text())["run_id"]
        target = str(targets[1])
        wrong = orchestrator(
            tmp_path, "resolve", run_id, str(targets[0]), "--as", "failed", *JOURNAL[:2]
        )
        assert wrong.returncode == ExitCode.USAGE
        assert "its outcome is restarted, not unknown" in wrong.stderr
        done = orchestrator(
            tmp_path, "resolve", run_id, target, "--as", "restarted", "--reason", "seen in console",
            "--operator", "ana", *JOURNAL[:2],
        )  # fmt: skip
        assert done.returncode == ExitCode.OK, done.stderr
    report = json.loads(orchestrator(tmp_path, "report", *JOURNAL[:2]).stdout)
    (entry,) = [t for t in report["targets"] if t["cluster_id"] == targets[1].cluster_id]
    assert entry["outcome"] == "restarted"
    assert "ana" in entry["reason"]
    assert report["exit_code"] == 0


def test_what_a_person_says_was_not_started_is_started(tmp_path: Path) -> None:
    """An unknown of a run that was complete, resolved as not started, is taken up by `resume`."""
    targets = invent_targets(2, 1, 1)
    fleet_file(tmp_path, "fleet.csv", targets)
    scenario = QUICK_RESTART + (
        f'[[cluster]]\nmatch = "{targets[1].cluster_id}"\n'
        "faults = {reset_before = {rate = 1.0, first = 1}}\n"
    )
    with simulator(tmp_path, targets, scenario) as url:
        first = restart(tmp_path, url, "--max-failures", "2", "--no-reissue")
        assert counts(tmp_path) == {"restarted": 1, "unknown": 1}, first.stderr
        run_id = json.loads((tmp_path / "report.json").read_text())["run_id"]
        resolve = ("resolve", run_id, str(targets[1]), "--as", "not-started", *JOURNAL[:2])
        assert (
            f"`orchestrator resume {run_id}` starts it" in orchestrator(tmp_path, *resolve).stderr
        )
        again = orchestrator(tmp_path, "resume", run_id, *JOURNAL)
        assert again.returncode == ExitCode.OK, again.stderr
        assert counts(tmp_path) == {"restarted": 2}
        over = orchestrator(tmp_path, "resume", run_id, *JOURNAL)
        assert over.returncode == ExitCode.USAGE
    assert judge(read_trace(tmp_path / "trace.jsonl")).twice == ()
    assert orchestrator(tmp_path, "verify", *JOURNAL[:2]).returncode == ExitCode.OK


def test_what_was_restarted_already_is_skipped(tmp_path: Path) -> None:
    """`--since` skips what the journal knows as restarted; such skips are no fault."""
    targets = invent_targets(5, 1, 1)
    fleet_file(tmp_path, "fleet.csv", targets[:3])
    with simulator(tmp_path, targets, QUICK_RESTART) as url:
        assert restart(tmp_path, url).returncode == ExitCode.OK
        fleet_file(tmp_path, "fleet.csv", targets)
        done = restart(tmp_path, url, "--since", "1h")
        assert done.returncode == ExitCode.OK, done.stderr
    assert counts(tmp_path) == {"restarted": 2, "skipped": 3}
    assert judge(read_trace(tmp_path / "trace.jsonl")).twice == ()
    wrong = orchestrator(tmp_path, "restart", "fleet.csv", "--since", "2026-01-01T00:00", "--yes")
    assert wrong.returncode == ExitCode.USAGE
    assert "has no zone" in wrong.stderr


def test_the_same_plan_again(tmp_path: Path) -> None:
    """A plan whose run is not finished is not begun again without `--new`."""
    targets = invent_targets(4, 1, 1)
    fleet_file(tmp_path, "fleet.csv", targets)
    scenario = QUICK_RESTART + (
        f'[[cluster]]\nmatch = "{targets[0].cluster_id}"\nrestart = {{end = "failed"}}\n'
    )
    with simulator(tmp_path, targets, scenario) as url:
        assert restart(tmp_path, url, "--max-concurrency", "1").returncode == ExitCode.STOPPED
        second = restart(tmp_path, url, "--max-concurrency", "1")
        assert second.returncode == ExitCode.USAGE
        assert "of the same plan is stopped" in second.stderr
        assert "--new" in second.stderr
        third = restart(tmp_path, url, "--max-concurrency", "1", "--new")
        assert third.returncode == ExitCode.SOME_FAILED, third.stderr
    assert len(json.loads(orchestrator(tmp_path, "runs", "-o", "json", *JOURNAL[:2]).stdout)) == 2


def test_what_a_stopped_run_has_taught_makes_no_other_plan(tmp_path: Path) -> None:
    """The journal knows by now who takes long; who asks for the same again is told as before."""
    targets = invent_targets(5, 1, 1)
    fleet_file(tmp_path, "fleet.csv", targets)
    scenario = QUICK_RESTART + (
        f'[[cluster]]\nmatch = "{targets[2].cluster_id}"\nrestart = {{duration = "2s"}}\n'
        f'[[cluster]]\nmatch = "{targets[3].cluster_id}"\nrestart = {{end = "failed"}}\n'
    )
    spread = ("--max-concurrency", "1", "--order", "spread")
    with simulator(tmp_path, targets, scenario) as url:
        first = restart(tmp_path, url, *spread)
        assert first.returncode == ExitCode.STOPPED, first.stderr
        assert "order     spread; by how long they lasted before: 0 of 5 clusters" in first.stderr
        dry = restart(tmp_path, url, *spread, "--dry-run")
        assert "order     spread; by how long they lasted before: 3 of 5 clusters" in dry.stderr
        assert "; 3 of 5 last as they did before" in dry.stderr
        order = [line.split("\t")[1] for line in dry.stdout.splitlines()]
        assert order[0] == str(targets[2])
        assert sorted(order) == sorted(map(str, targets))
        second = restart(tmp_path, url, *spread)
        assert second.returncode == ExitCode.USAGE
        assert "of the same plan is stopped" in second.stderr
        third = restart(tmp_path, url, *spread, "--new")
        assert third.returncode == ExitCode.SOME_FAILED, third.stderr
    trace = read_trace(tmp_path / "trace.jsonl")
    starts = [one.cluster_id for one in trace if one.what is What.EXECUTED]
    assert starts[4] == targets[2].cluster_id


def test_the_next_night_has_a_window_of_its_own(tmp_path: Path) -> None:
    """A run stopped at its cutoff goes on only with another one, and then to its end."""
    targets = invent_targets(6, 1, 1)
    fleet_file(tmp_path, "fleet.csv", targets)
    with simulator(tmp_path, targets, QUICK_RESTART.replace("300ms", "1s")) as url:
        first = restart(tmp_path, url, "--max-concurrency", "1", "--cutoff", "4s")
        assert first.returncode == ExitCode.STOPPED, first.stderr
        assert "stopped: cutoff: nothing starts after 20" in first.stderr
        started = counts(tmp_path)["restarted"]
        assert 1 <= started <= 4

        late = orchestrator(tmp_path, "resume", *JOURNAL)
        assert late.returncode == ExitCode.USAGE
        assert "its window is over (no start after 20" in late.stderr
        assert "give --cutoff anew, or as none" in late.stderr

        done = orchestrator(tmp_path, "resume", "--cutoff", "none", *JOURNAL)
        assert done.returncode == ExitCode.OK, done.stderr
        assert counts(tmp_path) == {"restarted": 6}
