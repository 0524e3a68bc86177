"""Who stands at this keyboard, as far as the machine knows."""

import getpass
import os
import socket


def whoami() -> str:
    """Return `user@host`, for journals and reports."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # no entry for this user id, as in some containers
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"
