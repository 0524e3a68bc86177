"""Whether the process that took up a run can be shown to be gone."""

import math
import os
import socket
from pathlib import Path

from orchestrator.journal.clock import uptime
from orchestrator.journal.store import Clock
from orchestrator.model import RunnerStarted

_DEAD = {"Z", "X"}
"""States of a process that has ended and was not yet cleared away."""

_SLACK = 1.0
"""Seconds between a process's start as the kernel rounds it, and our clock."""


def may_live(runner: RunnerStarted, clock: Clock) -> bool:
    """Whether the runner may still be at work; False only where its death is certain.

    Another host cannot be looked at from here, so its processes may live.
    """
    if runner.host != socket.gethostname():
        return True
    try:
        os.kill(runner.pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError, ValueError):
        pass  # somebody else's process of that number: its age decides
    began = _began_at(runner.pid)
    # A process that is younger than the runner's first word only has the same number.
    return began is None or clock.now() - (uptime() - began) <= runner.at + _SLACK


def _began_at(pid: int) -> float | None:
    """Return when a process began, in seconds of uptime; None where the kernel does not tell.

    A process that has ended already is as good as one that is yet to come.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # The program's name stands in brackets and may hold anything; 20 fields on is the start.
        fields = text.rpartition(")")[2].split()
        return math.inf if fields[0] in _DEAD else int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
