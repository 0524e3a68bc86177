"""`orchestrator credentials`: which one a project uses, whether it is any good, and no secret."""

import contextlib
import fcntl
import json
import os
import pty
import subprocess
import sys
import termios
import time
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
        one = credentials(
            tmp_path, "--project", projects[0], "--endpoint", url, "-o", "json",
            "--region", "cn-north-4",
        )  # fmt: skip
        assert one.returncode == ExitCode.OK, one.stderr
        assert [finding["state"] for finding in json.loads(one.stdout)] == ["accepted"]
        assert [finding["region"] for finding in json.loads(one.stdout)] == ["cn-north-4"]
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


@pytest.mark.parametrize("typed", [b"123456\n", b"\x03"])
def test_a_passcode_is_typed_unseen(tmp_path: Path, typed: bytes) -> None:
    """On a terminal the code is asked for, not echoed, and Ctrl-C leaves a terminal that works."""
    table = (
        '[credentials.default]\ntype = "password"\nuser_file = "user"\npassword_file = "password"\n'
        'domain_file = "user"\nuser_id_file = "user"\n'
    )
    settings(tmp_path, table, user="mfa", password="correct-horse")
    guard = '[[auth.user]]\nname = "mfa"\npassword = "correct-horse"\ntotp = "123456"\n'
    targets = invent_targets(1, 1, 3)
    leader, follower = pty.openpty()
    attributes = termios.tcgetattr(follower)
    with simulator(tmp_path, targets, SCENARIO + guard) as url:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "credentials", "--project",
             targets[0].project_id, "--endpoint", url, "--iam-endpoint", url],
            cwd=tmp_path, env=environment(tmp_path), stdin=follower, stdout=subprocess.PIPE,
            stderr=follower, start_new_session=True, text=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one thread
        )  # fmt: skip
        shown = b""
        while b": " not in shown:
            shown += os.read(leader, 4096)
        time.sleep(0.2)
        os.write(leader, typed)
        out, _ = process.communicate(timeout=30)
    os.set_blocking(leader, False)
    with contextlib.suppress(OSError):
        shown += os.read(leader, 4096)
    assert f"Passcode of credential default for project {targets[0].project_id}".encode() in shown
    if typed == b"\x03":
        assert process.returncode == ExitCode.ABORTED
    else:
        assert process.returncode == ExitCode.OK
        assert " accepted " in out
    assert typed.strip() not in shown or typed == b"\x03"
    assert termios.tcgetattr(follower) == attributes
    os.close(leader)
    os.close(follower)
