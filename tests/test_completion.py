"""What a shell completes: asked as its script asks, and by a real shell where there is one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import ExitCode
from orchestrator.fleet import Format, write_fleet
from orchestrator.simulator import invent_targets
from tests.stories.processes import QUICK, environment


def orchestrator(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        cwd=folder, env={**environment(folder), **more}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def completed(folder: Path, line: str, shell: str = "bash") -> list[str]:
    """Return what completes the last word of a line; nothing may be said beside that."""
    words = line.split(" ")
    count = words[-1] if shell == "fish" else str(len(words) - 1)
    done = orchestrator(
        folder, _ORCHESTRATOR_COMPLETE=f"{shell}_complete", COMP_WORDS=line, COMP_CWORD=count
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.strip().splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(tmp_path: Path, shell: str) -> None:
    """Each shell gets its script, which asks by the variable that we answer to."""
    done = orchestrator(tmp_path, "completion", shell)
    assert done.returncode == ExitCode.OK
    assert done.stderr == ""
    assert f"_ORCHESTRATOR_COMPLETE={shell}_complete" in done.stdout
    assert "orchestrator" in done.stdout


def test_other_shells(tmp_path: Path) -> None:
    """A shell that we know nothing of is wrong use."""
    done = orchestrator(tmp_path, "completion", "tcsh")
    assert done.returncode == ExitCode.USAGE
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in done.stderr


def test_commands(tmp_path: Path) -> None:
    """Commands are completed in every shell, with their line of help where it shows one."""
    assert completed(tmp_path, "orchestrator res") == [
        "plain,restart", "plain,resume", "plain,resolve",
    ]  # fmt: skip
    assert completed(tmp_path, "orchestrator veri", "zsh") == [
        "plain", "verify", "Recompute whether a run kept its promises.",
    ]  # fmt: skip
    (line,) = completed(tmp_path, "orchestrator simu", "fish")
    assert line.startswith("plain")
    assert "simulate" in line
    assert completed(tmp_path, "orchestrator --ver") == ["plain,--version"]


def test_commands_are_completed_without_loading_them(tmp_path: Path) -> None:
    """Nothing heavy is loaded to complete the name of a command."""
    code = (
        "import sys\nfrom orchestrator.cli import run\n"
        "try:\n    run([])\nexcept SystemExit:\n    pass\n"
        "print('LOADED', sorted({'aiohttp', 'anyio', 'rich', 'sqlite3'} & set(sys.modules)))"
    )
    asked = {
        "_ORCHESTRATOR_COMPLETE": "bash_complete",
        "COMP_WORDS": "orchestrator ",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**environment(tmp_path), **asked},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "plain,discover" in done.stdout
    assert done.stdout.splitlines()[-1] == "LOADED []"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("orchestrator restart --max-c", ["plain,--max-concurrency"]),
        ("orchestrator discover --project-n", ["plain,--project-name"]),
        ("orchestrator restart --failure-mode s", ["plain,strict"]),
        ("orchestrator restart --log-format ", ["plain,console", "plain,json"]),
        ("orchestrator restart --format js", ["plain,json", "plain,jsonl"]),
        ("orchestrator completion f", ["plain,fish"]),
        ("orchestrator restart --ca-file co", ["file,co"]),
        ("orchestrator restart fl", ["file,fl"]),
        ("orchestrator restart --rate ", []),
        ("orchestrator report ", []),
        ("orchestrator report --journal nowhere.db ", []),
    ],
)
def test_options_words_and_files(tmp_path: Path, line: str, found: list[str]) -> None:
    """Options are completed by command, their values where there is a choice or a file."""
    assert completed(tmp_path, line) == found


def test_settings_that_are_wrong_complete_nothing(tmp_path: Path) -> None:
    """A half-typed line is no place for errors."""
    (tmp_path / "orchestrator.toml").write_text("nonsense")
    assert completed(tmp_path, "orchestrator resume ") == []


def test_runs_of_the_journal(tmp_path: Path) -> None:
    """Where a run is wanted, those of the journal are there, whichever journal the line names."""
    (tmp_path / "fleet.csv").write_text(write_fleet(invent_targets(2, 1, 1), Format.CSV))
    done = orchestrator(
        tmp_path, "restart", "fleet.csv", "--simulate", "--yes", "--no-wait",
        "--journal", "own.db", "--report", "r.json", *QUICK,
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stderr
    (run_id,) = [word for word in done.stderr.split() if word.startswith("20") and "-" in word][:1]
    for command in ("report", "verify", "resume", "resolve", "drain", "status"):
        line = f"orchestrator {command} --journal own.db "
        assert completed(tmp_path, line) == [f"plain,{run_id}"]
    line = f"orchestrator report --journal own.db {run_id[:4]}"
    assert completed(tmp_path, line, "zsh") == ["plain", run_id, "finished, 2 targets"]
    assert completed(tmp_path, "orchestrator report --journal own.db 1") == []
    assert not (tmp_path / "state").exists()


def test_a_real_bash(tmp_path: Path) -> None:
    """Bash, with our script, completes a line as somebody types it."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    command = tmp_path / "orchestrator"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m orchestrator "$@"\n')
    command.chmod(0o755)
    script = """
    PATH="$PWD:$PATH"
    eval "$(orchestrator completion bash)"
    COMP_WORDS=(orchestrator disc) COMP_CWORD=1
    _orchestrator_completion orchestrator disc orchestrator
    echo "${COMPREPLY[@]}"
    COMPREPLY=() COMP_WORDS=(orchestrator restart --max-f) COMP_CWORD=2
    _orchestrator_completion orchestrator --max-f restart
    echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        [bash, "--norc", "-c", script], cwd=tmp_path, env=environment(tmp_path),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["discover", "--max-failures"], done.stderr
