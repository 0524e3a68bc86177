"""Whole runs, in processes of their own, against a service that asks who calls."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import ExitCode
from orchestrator.model import Target
from orchestrator.simulator import Record, invent_targets, judge, read_trace
from orchestrator.simulator.trace import What
from tests.stories.processes import QUICK, fleet_file, said, simulator, start

AK, SK = "AKEXAMPLE0000000001A", "SKexample000000000000000000000000000000A"
WRONG = "wr0ngWr0ngWr0ngWr0ngWr0ngWr0ngWr0ngWr0ng"
SCENARIO = f"""
[restart]
duration = ["400ms", "800ms"]
busy_after = "20ms"
[auth]
mode = "any"
token_size = 12000
[[auth.key]]
access_key = "{AK}"
secret_key = "{SK}"
[[auth.user]]
name = "ops"
password = "correct-horse"
"""


def settings(folder: Path, text: str, **secrets: str) -> None:
    """Write a settings file, and a file for each secret."""
    for name, value in secrets.items():
        (folder / name).write_text(value)
    (folder / "orchestrator.toml").write_text(text)


KEYS = '[credentials.default]\ntype = "aksk"\naccess_key_file = "ak"\nsecret_key_file = "sk"\n'
OPS = """
[credentials.default]
type = "password"
user_file = "user"
password_file = "password"
domain_file = "domain"
"""


def restart(folder: Path, url: str, fleet: str, *options: str) -> int:
    process = start(
        folder, "restart", fleet, "--yes", "--endpoint", url, "--iam-endpoint", url,
        "--metadata-endpoint", url, "--journal", "j.db", "--report", "report.json",
        "--rate", "none", *QUICK, *options,
    )  # fmt: skip
    return process.wait(90)


def report_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return document


def trace_of(folder: Path) -> list[Record]:
    return list(read_trace(folder / "trace.jsonl"))


def count(records: list[Record], call: str, what: What) -> int:
    return sum((one.call, one.what) == (call, what) for one in records)


def is_kept(folder: Path, records: list[Record]) -> bool:
    """Say whether the service saw each restart once, and the report lacks none of its job ids."""
    found = judge(records, concurrency=(), rates=(), reported_job_ids=report_of(folder)["job_ids"])
    return not found.twice and not found.lost_job_ids


@pytest.mark.parametrize("promised", ["3s", "24h"])
def test_a_run_outlives_its_tokens(tmp_path: Path, promised: str) -> None:
    """With tokens that live three seconds a longer run ends well, told of that life or not."""
    targets = invent_targets(40, 2, 3)
    scenario = SCENARIO.replace(
        "[auth]\n", f'[auth]\ntoken_life = "3s"\ntoken_claims = "{promised}"\n'
    )
    settings(tmp_path, OPS, user="ops\n", password="correct-horse\n", domain="ACCOUNT\n")
    with simulator(tmp_path, targets, scenario) as url:
        code = restart(tmp_path, url, "all.csv", "--max-concurrency", "4")
    assert code == ExitCode.OK, said(tmp_path)
    report = report_of(tmp_path)
    assert report["counts"]["restarted"] == 40
    assert report["duration_s"] > 6
    records = trace_of(tmp_path)
    assert is_kept(tmp_path, records)
    logins = count(records, "token", What.ANSWERED)
    assert 4 <= logins <= 2 * (2 + report["duration_s"] / 2)
    denied = [one for one in records if one.what is What.DENIED]
    assert bool(denied) is (promised == "24h")
    # A restart that was turned away was asked for again as the same call.
    executed = {one.request_id for one in records if one.what is What.EXECUTED}
    assert {one.request_id for one in denied if one.call == "restart"} <= executed


def test_a_wrong_key_is_shown_once_in_a_run(tmp_path: Path) -> None:
    """Thirty projects and ten at once show a wrong key once; with the right one it is resumed."""
    targets = invent_targets(60, 30, 3)
    settings(tmp_path, KEYS, ak=AK, sk=WRONG)
    with simulator(tmp_path, targets, SCENARIO) as url:
        code = restart(tmp_path, url, "all.csv", "--max-concurrency", "10")
        assert code == ExitCode.STOPPED, said(tmp_path)
        records = trace_of(tmp_path)
        assert [one.what for one in records] == [What.DENIED]
        report = report_of(tmp_path)
        assert "credential refused: default: " in report["stop_reason"]
        assert report["counts"]["not_started"] == 60
        assert "verify aksk signature fail" in said(tmp_path)

        (tmp_path / "sk").write_text(SK)
        resumed = start(tmp_path, "resume", "--journal", "j.db", "--report", "report.json")
        assert resumed.wait(60) == ExitCode.OK, said(tmp_path)
    assert report_of(tmp_path)["counts"]["restarted"] == 60
    assert is_kept(tmp_path, trace_of(tmp_path))
    assert WRONG not in said(tmp_path)


def test_a_wrong_key_stops_its_own_projects_only(tmp_path: Path) -> None:
    """Projects with another credential are restarted to the last; the refused one's are left."""
    targets = invent_targets(30, 3, 3)
    bad = targets[0].project_id
    settings(
        tmp_path,
        KEYS
        + f'[cloud.projects.{bad}]\ncredentials = "bad"\n'
        + '[credentials.bad]\ntype = "aksk"\naccess_key_file = "ak2"\nsecret_key_file = "sk2"\n',
        ak=AK, sk=SK, ak2="AKUNKNOWN0000000001A", sk2=WRONG,
    )  # fmt: skip
    with simulator(tmp_path, targets, SCENARIO) as url:
        code = restart(tmp_path, url, "all.csv", "--max-concurrency", "10")
    assert code == ExitCode.STOPPED, said(tmp_path)
    outcomes = Counter(
        (one["project_id"] == bad, one["outcome"]) for one in report_of(tmp_path)["targets"]
    )
    assert outcomes == {(True, "not_started"): 10, (False, "restarted"): 20}
    denied = [one for one in trace_of(tmp_path) if one.what is What.DENIED]
    assert len(denied) == 1
    assert "refused: bad: " in report_of(tmp_path)["stop_reason"]


def test_a_run_that_goes_on_with_another_credential(tmp_path: Path) -> None:
    """Whoever resumes with another credential, by another settings file, is told so."""
    targets = invent_targets(4, 2, 3)
    settings(tmp_path, KEYS, ak=AK, sk=WRONG, user="ops", password="correct-horse", domain="A")
    (tmp_path / "other.toml").write_text(
        OPS.replace("credentials.default", "credentials.ops")
        + "".join(
            f'[cloud.projects.{project}]\ncredentials = "ops"\n'
            for project in {target.project_id for target in targets}
        )
    )
    with simulator(tmp_path, targets, SCENARIO) as url:
        assert restart(tmp_path, url, "all.csv") == ExitCode.STOPPED
        resumed = start(
            tmp_path, "resume", "--journal", "j.db", "--report", "report.json",
            "--config", "other.toml",
        )  # fmt: skip
        assert resumed.wait(60) == ExitCode.OK, said(tmp_path)
    words = "credentials.changed projects 2: the run was started with default and goes on with ops"
    assert words in said(tmp_path)
    assert report_of(tmp_path)["counts"]["restarted"] == 4


def test_a_key_of_an_agency_is_enough(tmp_path: Path) -> None:
    """A machine of the cloud needs no secret of anybody: its own keys change under the run."""
    targets = invent_targets(16, 2, 3)
    scenario = SCENARIO.replace("[auth]\n", '[auth]\nkey_life = "3s"\nkey_overlap = "2s"\n')
    settings(tmp_path, '[credentials.default]\ntype = "ecs"\n')
    with simulator(tmp_path, targets, scenario) as url:
        code = restart(tmp_path, url, "all.csv", "--max-concurrency", "2")
    assert code == ExitCode.OK, said(tmp_path)
    records = trace_of(tmp_path)
    assert is_kept(tmp_path, records)
    assert count(records, "securitykey", What.ANSWERED) >= 2
    assert not [one for one in records if one.what is What.DENIED]


@pytest.mark.parametrize("asks", [True, False])
def test_a_rehearsal_against_a_simulator_that_asks(tmp_path: Path, *, asks: bool) -> None:
    """`--simulate` needs the settings' credentials if its scenario asks for any, and only then."""
    fleet_file(tmp_path, "fleet.csv", invent_targets(6, 2, 3))
    (tmp_path / "scenario.toml").write_text(SCENARIO if asks else SCENARIO.partition("[auth]")[0])
    settings(tmp_path, KEYS, ak=AK, **({"sk": SK} if asks else {}))
    process = start(
        tmp_path, "restart", "fleet.csv", "--yes", "--simulate", "--scenario", "scenario.toml",
        "--trace", "trace.jsonl", "--report", "report.json", *QUICK,
    )  # fmt: skip
    assert process.wait(60) == ExitCode.OK, said(tmp_path)
    names = {one.credential for one in trace_of(tmp_path) if one.what is What.RECEIVED}
    assert names == ({AK} if asks else {None})


def test_a_credential_that_is_missing_sends_nothing(tmp_path: Path) -> None:
    """What can be known to be wrong is told before a run begins, and no run is made of it."""
    targets: tuple[Target, ...] = invent_targets(4, 2, 3)
    settings(tmp_path, KEYS, ak=AK)
    fleet_file(tmp_path, "fleet.csv", targets)
    with simulator(tmp_path, targets, SCENARIO) as url:
        code = restart(tmp_path, url, "fleet.csv")
    assert code == ExitCode.USAGE
    assert "credential default: " in said(tmp_path)
    assert "sk cannot be read" in said(tmp_path)
    assert trace_of(tmp_path) == []
    assert not (tmp_path / "report.json").exists()
