"""Restart a fleet of managed search clusters within limits that hold, and say what happened.

    import anyio
    from orchestrator import load_settings, read_fleet, restart_fleet

    result = anyio.run(restart_fleet, read_fleet(["fleet.csv"]))

What the command line does is here as functions; `restart_fleet` is the one that runs a fleet.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.config import Settings, load_settings
    from orchestrator.discovery import Choice, Condition, Discovery, discover_fleet
    from orchestrator.errors import ExitCode, OrchestratorError
    from orchestrator.fleet import Fleet, read_fleet
    from orchestrator.model import Kind, Outcome, Target
    from orchestrator.session import Result, Simulation, restart_fleet

__all__ = [
    "Choice",
    "Condition",
    "Discovery",
    "ExitCode",
    "Fleet",
    "Kind",
    "OrchestratorError",
    "Outcome",
    "Result",
    "Settings",
    "Simulation",
    "Target",
    "discover_fleet",
    "load_settings",
    "read_fleet",
    "restart_fleet",
]

_HOMES = {
    "Choice": "discovery",
    "Condition": "discovery",
    "Discovery": "discovery",
    "ExitCode": "errors",
    "Fleet": "fleet",
    "Kind": "model",
    "OrchestratorError": "errors",
    "Outcome": "model",
    "Result": "session",
    "Settings": "config",
    "Simulation": "session",
    "Target": "model",
    "discover_fleet": "discovery",
    "load_settings": "config",
    "read_fleet": "fleet",
    "restart_fleet": "session",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is asked for: `--help` must not wait for aiohttp."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only where it is needed

    return getattr(import_module(f"orchestrator.{_HOMES[name]}"), name)
