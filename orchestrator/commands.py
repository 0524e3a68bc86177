"""What the campaign asks for: things to write down, to call, to look at."""

from dataclasses import dataclass

from orchestrator.model import Event, RestartRequested


@dataclass(frozen=True, slots=True)
class Record:
    """Write this down: it follows from what is known."""

    event: Event


@dataclass(frozen=True, slots=True)
class Restart:
    """Write this down, then make the call."""

    event: RestartRequested


@dataclass(frozen=True, slots=True)
class Look:
    """List the clusters of this project."""

    project_id: str
    region: str | None


@dataclass(frozen=True, slots=True)
class LookAt:
    """Read this one cluster: the list did not show it."""

    target: int


@dataclass(frozen=True, slots=True)
class AskGate:
    """Ask the operator's gate whether anything may start."""

    wave: str


Command = Record | Restart | Look | LookAt | AskGate
