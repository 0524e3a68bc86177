"""Passcodes that somebody has to type, for credentials that need one."""

import getpass
import sys
from collections.abc import Callable


def passcode_prompt() -> Callable[[str], str] | None:
    """Return what asks on the terminal, unseen; None if there is none."""
    return getpass.getpass if sys.stdin.isatty() and sys.stderr.isatty() else None
