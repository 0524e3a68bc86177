"""Those who are told and cannot answer: the log, the live picture, plain progress lines.

The names are loaded at first use: structlog and rich take longer to load than some commands to run.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.watch.log import LogWatcher, open_log
    from orchestrator.watch.picture import Line, Tally, Tone, picture, summary
    from orchestrator.watch.progress import PlainProgress, TerminalProgress, progress_for

__all__ = [
    "Line",
    "LogWatcher",
    "PlainProgress",
    "Tally",
    "TerminalProgress",
    "Tone",
    "open_log",
    "picture",
    "progress_for",
    "summary",
]

_HOMES = {
    "log": ("LogWatcher", "open_log"),
    "picture": ("Line", "Tally", "Tone", "summary"),
    "progress": ("PlainProgress", "TerminalProgress", "progress_for"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
