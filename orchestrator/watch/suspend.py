"""Ctrl-Z at a terminal: leave it in order, and find it again once the process goes on.

Without that, whoever gets the terminal next has no cursor, and sees nothing of what they type.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Guest(Protocol):
    """Somebody who has changed how the terminal behaves."""

    def step_aside(self) -> None:
        """Leave it as it was found."""

    def come_back(self) -> None:
        """Take it up again."""


@contextmanager
def suspending(*guests: Guest) -> Iterator[None]:
    """Let every guest step aside before the process is stopped, and come back afterwards.

    Needs a running loop: a handler between any two instructions could meet a half-written line.
    """
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for guest in guests:
            guest.step_aside()
        os.kill(os.getpid(), signal.SIGSTOP)
        for guest in guests:
            guest.come_back()

    loop.add_signal_handler(signal.SIGTSTP, stop)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTSTP)
