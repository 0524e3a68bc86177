"""Whether the operator's gate lets anything start; what it said, when, and when to ask it again.

Rules:

- A gate that was not asked, does not answer or cannot be run is closed.
- What it says counts for `every` seconds from when it was asked; then it is asked again, and what
  it said before counts until the new answer is there, for `timeout` seconds at the most.
- What was asked before a barrier says nothing about the wave behind it.
"""

import math

from orchestrator.model import Event, GateClosed, GateOpened


class Gatekeeper:
    """The state of a run's gate; without commands there is none, and it is open."""

    def __init__(self, commands: tuple[str, ...], every: float, timeout: float) -> None:
        self._is_kept = bool(commands)
        self._every = every
        self._valid_for = every + timeout
        self._since = -math.inf
        self._asked_at = -math.inf
        self._is_open = False
        self._is_asking = False
        self._said: str | None = None
        """Why it is closed, as the history has it; None if the history has it open."""
        self.reason = "it was not asked yet"

    def forget(self, at: float) -> None:
        """Believe nothing that was asked before `at`."""
        self._since = at
        self._asked_at = -math.inf
        if self._said is None:
            self.reason = "it is being asked"

    def apply(self, event: GateClosed | GateOpened) -> None:
        """Take note of what the history says; whether it still holds must be asked."""
        self._said = event.reason if isinstance(event, GateClosed) else None
        if isinstance(event, GateClosed):
            self.reason = event.reason

    def believe(self, now: float) -> None:
        """Take what the history says for what the gate says now; its runner asks it again."""
        self._is_open = self._said is None
        self._asked_at = now
        self._is_asking = True

    def lets(self, now: float) -> bool:
        """Return whether anything may start now as far as the gate is concerned."""
        return not self._is_kept or (self._is_open and now <= self._asked_at + self._valid_for)

    def ask_at(self) -> float:
        """Return when it is to be asked next; infinity while an answer is awaited."""
        return math.inf if not self._is_kept or self._is_asking else self._asked_at + self._every

    def ask(self) -> None:
        """Take note that it is being asked."""
        self._is_asking = True

    def answer(self, reason: str | None, asked_at: float, now: float) -> Event | None:
        """Take in its answer: why not, or None for go; return what has to be recorded of it."""
        self._is_asking = False
        if asked_at < self._since:
            return None
        self._asked_at = asked_at
        self._is_open = reason is None
        if reason is None:
            return None if self._said is None else GateOpened(at=now)
        self.reason = reason
        return None if self._said is not None else GateClosed(at=now, reason=reason)
