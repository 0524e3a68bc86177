"""Pacing over real HTTP: windows, gates, waves and what is down already."""

import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.errors import ExitCode
from tests.stories.test_http import report_of, run, settings_for

SMOOTH = """
[restart]
duration = "400ms"
busy_after = "0ms"
"""


def test_a_run_keeps_its_window_over_http(tmp_path: Path) -> None:
    """Nothing reaches the service before `not_before`, and what cannot be done in time is left."""
    began = time.time()
    settings = settings_for(
        tmp_path,
        limits__rate=("2/1s",),
        waves__canary="0",
        follow__expected_duration="1s",
        window__not_before="1s",
        window__deadline="5s",
    )
    result = run(tmp_path, settings, scenario=SMOOTH, clusters=40, projects=2)
    report = report_of(tmp_path)
    assert result.exit_code is ExitCode.STOPPED
    assert result.stop_reason is not None
    assert result.stop_reason.startswith("deadline: what is left would not be done by ")
    starts = [
        datetime.fromisoformat(target["granted_at"]).astimezone(UTC).timestamp()
        for target in report["targets"]
        if target["granted_at"]
    ]
    assert report["plan"]["window"]["deadline"] > report["plan"]["window"]["not_before"]
    assert 2 <= len(starts) < 20
    assert min(starts) >= began + 1
    assert max(starts) < began + 5
    assert report["counts"]["restarted"] == len(starts)
    assert report["counts"]["not_started"] == 40 - len(starts)


def test_a_closed_gate_keeps_everything_from_the_service(tmp_path: Path) -> None:
    """A gate that opens after a while is asked until it does; nothing starts before."""
    mark = tmp_path / "mark"
    settings = settings_for(
        tmp_path,
        limits__rate=("none",),
        gate__command=(f"test -e {mark} || {{ touch {mark}; echo one alert fires; exit 1; }}",),
        gate__every="600ms",
    )
    result = run(tmp_path, settings, scenario=SMOOTH, clusters=12, projects=2)
    report = report_of(tmp_path)
    assert result.exit_code is ExitCode.OK
    kinds = [kind for (kind,) in sqlite3.connect(tmp_path / "journal.db").execute(
        "SELECT kind FROM event ORDER BY seq"
    )]  # fmt: skip
    assert kinds.index("gate.closed") < kinds.index("gate.opened") < kinds.index("wave.opened")
    assert report["counts"]["restarted"] == 12


def test_what_is_down_already_leaves_less_room(tmp_path: Path) -> None:
    """With 4 of 40 allowed down and 2 down without us, never more than 2 are restarted at once."""
    settings = settings_for(
        tmp_path,
        limits__max_concurrency=("20",),
        limits__max_unavailable=("10%",),
        limits__rate=("none",),
        waves__canary="0",
        follow__unhealthy="skip",
    )
    scenario = SMOOTH + '[[cluster]]\nmatch = "*-00[12]5"\nstate = {initial = "unhealthy"}\n'
    result = run(tmp_path, settings, scenario=scenario, clusters=40, projects=3)
    report = report_of(tmp_path)
    skipped = report["counts"]["skipped"]
    assert skipped == 2
    assert result.stop_reason is None
    assert report["observed"]["max_in_progress"] <= 2
    assert report["plan"]["max_unavailable"] == ["10%"]
