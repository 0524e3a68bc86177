"""Whether the process that holds a lease can be shown to be gone."""

import math
import os
import socket
from pathlib import Path

from orchestrator.journal.clock import Host
from orchestrator.journal.lease import LeaseRecord
from orchestrator.journal.store import Clock

_DEAD = {"Z", "X"}
"""States of a process that has ended and was not yet cleared away."""

_SLACK = 1.0
"""Seconds between a process's start as the kernel rounds it, and our clock."""


def is_dead(lease: LeaseRecord, clock: Clock, host: Host) -> bool:
    """Whether the holder's process is certainly gone.

    Another host cannot be looked at from here, so its processes may live.
    """
    if lease.host != socket.gethostname():
        return False
    boot_id = host.boot_id()
    if None not in {boot_id, lease.boot_id} and boot_id != lease.boot_id:
        return True
    try:
        os.kill(lease.pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass  # somebody else's process of that number: its age decides
    began = _began_at(lease.pid)
    # A process that is younger than the lease only has the same number.
    return began is not None and clock.now() - (host.uptime() - began) > lease.taken_at + _SLACK


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
