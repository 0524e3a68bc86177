"""The word for the next wave, given by a key at the run's own terminal.

Rules:

- It is asked for only where a person can answer: at a terminal, and not from the background.
- Only while it is asked for are keys read one by one, without being echoed into the picture. What
  was typed before counts for nothing: a word is given by whoever has read the question.
- A terminal that goes away takes the question with it; `orchestrator resume` stays.
"""

import asyncio
import contextlib
import os
import termios
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from orchestrator.campaign import Campaign
from orchestrator.model import Event, RunAborted, RunContinued, RunFinished, RunPaused, RunStopping

YES = b"yY"
"""The keys that let the run go on; whoever types `yes` has begun with one."""

_LOCAL = 3
_MANY = 1024


def can_be_asked(terminal: TextIO) -> bool:
    """Return whether somebody may answer there: it is a terminal, and we are not behind it."""
    try:
        descriptor = terminal.fileno()
        if not terminal.isatty():
            return False
    except (OSError, ValueError):
        return False
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return True  # not the terminal that controls us: it puts nobody into the background


class WordForWave:
    """The watcher that asks for the word, and tells those who can let the run go on."""

    def __init__(self, terminal: TextIO) -> None:
        """Ask at `terminal`, from the first pause before a wave on."""
        self._terminal = terminal
        self._descriptor = terminal.fileno()
        self._stepped_aside = False
        self._go_on: Callable[[], None] = _nobody
        self._modes: list[Any] | None = None

    def answer_with(self, go_on: Callable[[], None]) -> None:
        """Have `go_on` called when the word is given."""
        self._go_on = go_on

    @contextmanager
    def asking(self) -> Iterator["WordForWave"]:
        """Leave the terminal as it was, whatever happens."""
        try:
            yield self
        finally:
            self._stop()

    def saw(self, event: Event) -> None:
        """Ask, or stop asking."""
        match event:
            case RunPaused(wave=int()):
                self._ask()
            case RunPaused() | RunContinued() | RunStopping() | RunAborted() | RunFinished():
                self._stop()
            case _:
                pass

    def noticed(self, notice: str, facts: Mapping[str, object]) -> None:
        """Do nothing: a notice asks for no word."""

    def turned(self, campaign: Campaign, now: float) -> None:
        """Do nothing: the question stands in the picture."""

    def step_aside(self) -> None:
        """Leave the terminal to whoever stops us."""
        self._stepped_aside = self._modes is not None
        self._stop()

    def come_back(self) -> None:
        """Ask again, unless we went on in the background."""
        if self._stepped_aside and can_be_asked(self._terminal):
            self._ask()

    def _ask(self) -> None:
        if self._modes is not None:
            return
        try:
            self._modes = termios.tcgetattr(self._descriptor)
            modes = termios.tcgetattr(self._descriptor)
            # Ctrl-C goes on being a signal.
            modes[_LOCAL] &= ~(termios.ICANON | termios.ECHO)
            termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, modes)
        except (OSError, termios.error):
            self._modes = None
        else:
            asyncio.get_running_loop().add_reader(self._descriptor, self._hear)

    def _hear(self) -> None:
        try:
            keys = os.read(self._descriptor, _MANY)
        except OSError:
            keys = b""
        if not keys:
            self._stop()  # nobody is there any more
        elif any(key in YES for key in keys):
            self._stop()
            self._go_on()

    def _stop(self) -> None:
        modes, self._modes = self._modes, None
        if modes is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            with contextlib.suppress(OSError, termios.error):
                # What is left of a `yes` must not reach whoever reads the terminal next.
                termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, modes)


def _nobody() -> None:
    """Be told, and do nothing."""
