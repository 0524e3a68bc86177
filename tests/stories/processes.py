"""Real processes over real HTTP: a simulator, and runs that may be killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from orchestrator.fleet import Format, write_fleet
from orchestrator.model import Target

QUICK = (
    "--poll-every", "100ms", "--stable-for", "100ms", "--confirm-within", "2s",
    "--healthy-deadline", "20s", "--request-timeout", "3s", "--canary", "0",
)  # fmt: skip
"""Options that make a run quick enough for tests, with everything real."""


def environment(folder: Path) -> dict[str, str]:
    """Return an environment with nothing of this machine's user in it."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),  # the tree under test, where it is named
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CONFIG_HOME": str(folder / "xdg"),
        **tree(),
    }


def tree() -> dict[str, str]:
    """Return what makes a process run the code that is tested, where that is not installed."""
    path = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": path} if path else {}


def start(folder: Path, *arguments: str, terminal: int | None = None) -> subprocess.Popen[str]:
    """Start one command; what it says goes to a terminal or, lest a pipe fill up, to a file."""
    command = [sys.executable, "-m", "orchestrator", *arguments]
    if terminal is not None:
        return subprocess.Popen(
            command, cwd=folder, env={**environment(folder), "TERM": "xterm"}, text=True,
            stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
        )  # fmt: skip
    with (folder / "said.txt").open("a") as said:
        return subprocess.Popen(
            command, cwd=folder, env=environment(folder), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
        )  # fmt: skip


def said(folder: Path) -> str:
    """Return what all commands of the folder said on standard error."""
    return (folder / "said.txt").read_text()


def fleet_file(folder: Path, name: str, targets: Sequence[Target]) -> str:
    """Write a fleet; return its name."""
    (folder / name).write_text(write_fleet(targets, Format.CSV))
    return name


@contextmanager
def simulator(folder: Path, targets: Sequence[Target], scenario: str) -> Iterator[str]:
    """Serve the targets in a process of its own, traced to `trace.jsonl`; the value is the URL."""
    (folder / "scenario.toml").write_text(scenario)
    fleet = fleet_file(folder, "all.csv", targets)
    command = [
        sys.executable, "-m", "orchestrator", "simulate", "--fleet", fleet,
        "--scenario", "scenario.toml", "--trace", "trace.jsonl", "--seed", "3",
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment(folder)
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            process.wait(10)


def kill_after(process: subprocess.Popen[str], seconds: float) -> bool:
    """Let it live so long, then SIGKILL it; say whether it was still alive."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return True
