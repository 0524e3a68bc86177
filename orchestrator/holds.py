"""Why nothing at all may start now: a pause, a count, the window, the gate.

Rules:

- Whoever steers the run comes first, then the window, then the gate; the limits come after all.
- Everything is asked again in the moment in which a call would leave, which may come long after its
  intent: then it must not be too old, either, and the run must not have stopped meanwhile.
"""

import math
from dataclasses import dataclass

from orchestrator.gatekeeper import Gatekeeper
from orchestrator.model import Cause
from orchestrator.orders import Standing
from orchestrator.span import format_moment
from orchestrator.window import Opening

STALE_INTENT = 10.0
"""Seconds after which an intent is withdrawn that was not sent: its baseline is too old."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Why nothing at all may start now, and until when, if time alone ends it (else infinity)."""

    cause: Cause
    reason: str
    until: float


class Holds:
    """What may hold a run: those who steer it, its window, and its gate."""

    def __init__(self, standing: Standing, opening: Opening, gatekeeper: Gatekeeper) -> None:
        self._standing = standing
        self._opening = opening
        self._gatekeeper = gatekeeper

    def hold(self, now: float, *, is_counting: bool) -> Hold | None:
        """Return why nothing may start now, whatever the limits say; None if it may.

        While `is_counting`, nobody knows yet what the limits say.
        """
        paused = self._standing.paused
        if paused is not None:
            return Hold(Cause.PAUSED, paused.describe(), math.inf)
        if is_counting:
            return Hold(Cause.COUNTING, "all starts are counted anew for other limits", now)
        opens_at = self._opening.opens_at()
        if now < opens_at:
            bound = format_moment(self._opening.window.not_before or 0)
            return Hold(Cause.WINDOW, f"not before {bound}", opens_at)
        if not self._gatekeeper.lets(now):
            reason = f"the gate is closed: {self._gatekeeper.reason}"
            return Hold(Cause.GATE, reason, max(now, self._gatekeeper.ask_at()))
        return None

    def objection(
        self, kind: str, intended_at: float, now: float, *, is_counting: bool
    ) -> str | None:
        """Return why a call of this kind must not leave although its intent is durable, if so."""
        if now > intended_at + STALE_INTENT:
            return "it could not be sent in time"
        if self._standing.stopping is not None:
            return f"stopped before it was sent: {self._standing.stopping.reason}"
        hold = self.hold(now, is_counting=is_counting)
        if hold is not None:
            return hold.reason
        if self._opening.is_late(kind, now):
            return "the window was over before it was sent"
        return None

    def asks_gate(self, now: float) -> bool:
        """Return whether the gate is to be asked now for those who want to start; it is, then."""
        is_held = self._standing.paused is not None or now < self._opening.opens_at()
        if is_held or now < self._gatekeeper.ask_at():
            return False
        self._gatekeeper.ask()
        return True
