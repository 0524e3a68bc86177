"""Passcodes that somebody has to type, for credentials that need one."""

import getpass
import signal
import sys
from collections.abc import Callable


def passcode_prompt() -> Callable[[str], str] | None:
    """Return what asks on the terminal, unseen; None if there is none."""
    return _ask if sys.stdin.isatty() and sys.stderr.isatty() else None


def _ask(words: str) -> str:
    # A loop would note a first Ctrl-C for later; who is typing wants to leave now.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return getpass.getpass(words)
    finally:
        signal.signal(signal.SIGINT, before)
