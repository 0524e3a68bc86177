"""`orchestrator credentials`: which one a project uses, whether it is any good, and no secret."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import ExitCode
from orchestrator.simulator import invent_targets
from tests.stories.processes import environment, fleet_file, simulator
from tests.stories.test_credentials import AK, SCENARIO, SK, WRONG, settings

TABLES = """
[cloud.projects.%s]
credentials = "good"
[cloud.projects.%s]
credentials = "bad"
[credentials.good]
type = "aksk"
access_key_file = "ak"
secret_key_file = "sk"
[credentials.bad]
type = "aksk"
access_key_file = "ak"
secret_key_env = "BAD_SK"
"""


def credentials(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", "credentials", *arguments],
        cwd=folder, env=environment(folder) | environ, text=True, capture_output=True,
        stdin=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture
def projects(tmp_path: Path) -> tuple[str, str, str]:
    """Three projects of a fleet: with a good credential, with a bad one, and with none."""
    targets = invent_targets(3, 3, 3)
    first, second, third = (target.project_id for target in targets)
    settings(tmp_path, TABLES % (first, second), ak=AK, sk=SK)
    fleet_file(tmp_path, "fleet.csv", targets)
    return first, second, third


def test_each_project_of_a_fleet(tmp_path: Path, projects: tuple[str, str, str]) -> None:
    """Each has a line with what it uses and what came of it; one that is refused is exit code 1."""
    with simulator(tmp_path, invent_targets(3, 3, 3), SCENARIO) as url:
        done = credentials(tmp_path, "fleet.csv", "--endpoint", url, "-o", "json", BAD_SK=WRONG)
        text = credentials(tmp_path, "fleet.csv", "--endpoint", url, BAD_SK=WRONG)
    assert done.returncode == ExitCode.SOME_FAILED, done.stderr
    found = json.loads(done.stdout)
    assert [(one["project_id"], one["credential"], one["state"]) for one in found] == [
        (projects[0], "good", "accepted"),
        (projects[1], "bad", "refused"),
        (projects[2], None, "refused"),
    ]
    assert found[0] == {
        "project_id": projects[0],
        "region": "cn-north-4",
        "endpoint": url,
        "credential": "good",
        "type": "aksk",
        "source": f"{tmp_path}/ak, {tmp_path}/sk",
        "state": "accepted",
        "error": None,
    }
    assert "verify aksk signature fail" in found[1]["error"]
    lines = text.stdout.splitlines()
    assert [line.split()[:2] for line in lines if not line.startswith(" ")] == [
        [projects[0], "accepted"], [projects[1], "refused"], [projects[2], "refused"],
    ]  # fmt: skip
    for secret in (SK, WRONG):
        assert secret not in done.stdout + done.stderr + text.stdout + text.stderr


def test_projects_by_name(tmp_path: Path, projects: tuple[str, str, str]) -> None:
    """Projects are named on the command line, or are those of the settings and the environment."""
    with simulator(tmp_path, invent_targets(3, 3, 3), SCENARIO) as url:
        one = credentials(tmp_path, "--project", projects[0], "--endpoint", url, "-o", "json")
        assert one.returncode == ExitCode.OK, one.stderr
        assert [finding["state"] for finding in json.loads(one.stdout)] == ["accepted"]
        known = credentials(
            tmp_path, "--endpoint", url, "--no-check", "-o", "json",
            BAD_SK=WRONG, HUAWEICLOUD_SDK_PROJECT_ID=projects[2],
        )  # fmt: skip
    assert known.returncode == ExitCode.OK, known.stderr
    found = json.loads(known.stdout)
    assert [(f["project_id"], f["state"]) for f in found] == [
        (projects[0], "unchecked"), (projects[1], "unchecked"), (projects[2], "not needed"),
    ]  # fmt: skip
    assert len((tmp_path / "trace.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "environ", "words"),
    [
        ((), {}, "no project is known"),
        (("--project", "p"), {}, "HUAWEICLOUD_SDK_AK and _SK, HW_*, OS_*, clouds.yaml"),
        (("--project", "p"), {"HW_ACCESS_KEY": "hw"}, "but HW_SECRET_KEY is not"),
        (("--project", "p"), {"OS_TOKEN": "tökén"}, "credential OS_TOKEN (OS_TOKEN): the token"),
    ],
)
def test_what_is_missing(
    tmp_path: Path, arguments: tuple[str, ...], environ: dict[str, str], words: str
) -> None:
    """A credential that is not there, or not whole, is exit code 2 and a sentence."""
    done = credentials(
        tmp_path, *arguments, "--endpoint", "https://css.example",
        "--metadata-endpoint", "http://127.0.0.1:9", **environ,
    )  # fmt: skip
    assert done.returncode == ExitCode.USAGE
    assert words in done.stderr


def test_the_source_that_would_serve(tmp_path: Path) -> None:
    """Without settings the command says which of the usual places has it, without a call."""
    done = credentials(
        tmp_path, "--project", "p", "--endpoint", "https://css.example", "--no-check",
        HW_ACCESS_KEY="hw", HW_SECRET_KEY=WRONG, OS_TOKEN=WRONG,
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.stdout.split() == [
        "p", "unchecked", "aksk", "HW_ACCESS_KEY", "HW_ACCESS_KEY,", "HW_SECRET_KEY",
    ]  # fmt: skip
    assert WRONG not in done.stdout + done.stderr
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - nothing is left behind
