"""Whole runs over real HTTP against the simulator; its trace judges the promises."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from jsonschema import Draft202012Validator

from orchestrator import load_settings
from orchestrator.config import Settings
from orchestrator.errors import ExitCode
from orchestrator.fleet import Fleet, Format, write_fleet
from orchestrator.limits import Concurrency, Rate
from orchestrator.session import Result, Simulation, restart_fleet
from orchestrator.simulator import Judgement, invent_targets, judge, read_trace
from tests.schema import report_schema

TROUBLE = """
[latency]
before = ["0ms", "400ms"]
after = ["0ms", "50ms"]
read = ["0ms", "50ms"]
[restart]
duration = ["300ms", "900ms"]
busy_after = ["0ms", "100ms"]
end = {failed = 0.01}
[faults]
refused = 0.01
throttled = 0.05
retry_after = "1s"
[[cluster]]
match = "*-00?7"
restart = {busy_after = "1s"}
"""

QUICK: Mapping[str, object] = {
    "follow.poll_every": "200ms",
    "follow.stable_for": "200ms",
    "follow.confirm_within": "4s",
    "follow.healthy_deadline": "20s",
    "waves.soak": "300ms",
}


def settings_for(folder: Path, **options: object) -> Settings:
    given = {name.replace("__", "."): value for name, value in options.items()}
    return load_settings(
        options={
            **QUICK,
            "journal.url": str(folder / "journal.db"),
            "report": str(folder / "report.json"),
            **given,
        },
        environ={},
        config_file=None,
        cwd=folder,
        user_config=None,
    )


def run(folder: Path, settings: Settings, *, scenario: str, clusters: int, projects: int) -> Result:
    file = folder / "scenario.toml"
    file.write_text(scenario)
    simulation = Simulation.load(file, seed=5, trace=folder / "trace.jsonl")
    targets = invent_targets(clusters, projects, 5)
    fleet = Fleet(targets=targets, source=("invented",), collapsed=0)

    async def main() -> Result:
        return await restart_fleet(fleet, settings, simulation=simulation, environ={})

    return anyio.run(main)


def report_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "report.json").read_text())
    Draft202012Validator(report_schema()).validate(document)
    return document


def judged(folder: Path, settings: Settings) -> Judgement:
    limits = settings.policy.limits
    return judge(
        read_trace(folder / "trace.jsonl"),
        concurrency=[limit for limit in limits if isinstance(limit, Concurrency)],
        rates=[limit for limit in limits if isinstance(limit, Rate)],
        reported_job_ids=report_of(folder)["job_ids"],
    )


def test_a_run_from_python_learns_from_the_journal(tmp_path: Path) -> None:
    """Spread, the cluster that took long in an earlier real run starts first in the next one."""
    slowest = invent_targets(3, 1, 5)[2]
    scenario = (
        '[restart]\nduration = "300ms"\nbusy_after = "0ms"\n'
        f'[[cluster]]\nmatch = "{slowest.cluster_id}"\nrestart = {{duration = "2s"}}\n'
    )
    settings = settings_for(tmp_path, limits__max_concurrency=("1",), waves__order="spread")
    first_started = []
    for _ in range(2):
        run(tmp_path, settings, scenario=scenario, clusters=3, projects=1)
        # As if the simulator had been the real service.
        with contextlib.closing(sqlite3.connect(tmp_path / "journal.db")) as journal, journal:
            journal.execute("UPDATE run SET world = ''")
        first = min(report_of(tmp_path)["targets"], key=lambda one: one["granted_at"])
        first_started.append(first["cluster_id"])
    assert first_started[0] != slowest.cluster_id
    assert first_started[1] == slowest.cluster_id


def test_two_hundred_clusters_with_troubles(tmp_path: Path) -> None:
    """A fleet with faults ends with a valid report that the service's own trace confirms."""
    settings = settings_for(
        tmp_path,
        limits__max_concurrency=("30", "project=10"),
        limits__rate=("40/2s",),
        limits__max_failures="10%",
    )
    result = run(tmp_path, settings, scenario=TROUBLE, clusters=200, projects=5)
    report = report_of(tmp_path)
    judgement = judged(tmp_path, settings)
    assert judgement.broken == ()
    assert judgement.twice == ()
    assert judgement.lost_job_ids == ()
    assert result.exit_code is ExitCode.SOME_FAILED
    assert report["exit_code"] == 1
    counts = report["counts"]
    assert counts["targets"] == sum(n for name, n in counts.items() if name != "targets") == 200
    assert counts["not_started"] == counts["unknown"] == counts["skipped"] == 0
    assert counts["restarted"] >= 180
    # What the service executed is what the report says was begun, cluster by cluster.
    executed = {(r.project_id, r.cluster_id) for r in read_trace(tmp_path / "trace.jsonl")
                if r.what == "executed"}  # fmt: skip
    begun = {(t["project_id"], t["cluster_id"]) for t in report["targets"]
             if t["outcome"] in {"restarted", "failed"}}  # fmt: skip
    assert executed == begun


def test_a_rate_holds_against_late_execution(tmp_path: Path) -> None:
    """With up to 400 ms between arrival and execution no window sees more than was allowed."""
    settings = settings_for(
        tmp_path,
        limits__max_concurrency=("60",),
        limits__rate=("10/1s", "project=4/1s"),
        follow__wait=False,
    )
    scenario = '[latency]\nbefore = ["0ms", "400ms"]\nafter = ["0ms", "200ms"]\n'
    result = run(tmp_path, settings, scenario=scenario, clusters=60, projects=3)
    assert result.exit_code is ExitCode.OK
    judgement = judged(tmp_path, settings)
    assert judgement.broken == ()
    assert judgement.restarts == 60


def test_a_closed_port_ends_in_a_sentence(tmp_path: Path) -> None:
    """With nobody listening, every target is refused with the reason, and nothing hangs."""
    fleet = tmp_path / "fleet.csv"
    fleet.write_text(write_fleet(invent_targets(3, 1, 1), Format.CSV))
    done = subprocess.run(
        [
            sys.executable, "-m", "orchestrator", "restart", str(fleet), "--yes",
            "--endpoint", "http://127.0.0.1:9", "--journal", str(tmp_path / "j.db"),
            "--report", str(tmp_path / "report.json"), "--poll-every", "100ms",
        ],
        capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == ExitCode.SOME_FAILED, done.stderr
    report = report_of(tmp_path)
    assert {t["outcome"] for t in report["targets"]} == {"refused"}
    assert "Connection refused" in report["targets"][0]["error"]["message"]
    assert "connect" in done.stderr.lower()


@pytest.mark.parametrize("stop", ["SIGINT", "SIGTERM"])
def test_the_first_signal_drains(tmp_path: Path, stop: str) -> None:
    """A first signal lets what runs come to its end, starts nothing more, and says how to go on."""
    import signal  # noqa: PLC0415 - only here

    fleet = tmp_path / "fleet.csv"
    fleet.write_text(write_fleet(invent_targets(40, 2, 1), Format.CSV))
    scenario = tmp_path / "scenario.toml"
    scenario.write_text('[restart]\nduration = "1s"\nbusy_after = "50ms"\n')
    command = [
        sys.executable, "-m", "orchestrator", "restart", str(fleet), "--yes", "--simulate",
        "--scenario", str(scenario), "--journal", str(tmp_path / "j.db"), "--canary", "0",
        "--report", str(tmp_path / "report.json"), "--poll-every", "100ms",
        "--stable-for", "100ms", "--max-concurrency", "4", "--rate", "none",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    ) as process:  # fmt: skip
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "restarted" in line and len([x for x in said if " restarted " in x]) == 2:
                process.send_signal(signal.Signals[stop])
        code = process.wait(30)
    assert code == ExitCode.STOPPED, "".join(said)
    assert "orchestrator resume" in said[-1]
    report = report_of(tmp_path)
    assert report["outcome"] == "stopped"
    assert stop in report["stop_reason"]
    counts = report["counts"]
    assert counts["restarted"] + counts["not_started"] == 40
    assert counts["not_started"] > 20
