"""How often a target was tried, and whether it has another turn.

Rules:

- Attempts are numbered from 1, through all lives of a run.
- A call that began nothing gives another turn where that may help: at once after a 429, whose wait
  is the account's; after ever longer waits if the target was busy or could not be reached. So does
  a look at one cluster that showed nothing.
- After `MOST_TRIES` of a sort there is none. Who is taken up again begins with none of that.
"""

from dataclasses import dataclass

from orchestrator.model import THROTTLED, UNAVAILABLE, Answer, ErrorInfo, Outcome, Verdict
from orchestrator.pace import doubling

MOST_TRIES = 4
"""How often a target is tried that is busy, or that no connection could be made for."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What becomes of a target whose try began nothing."""

    wait: float = 0.0
    """Seconds before the next try of it, or of its project if that could not be reached."""
    outcome: Outcome | None = None
    """How it ends, if this was the last."""
    reason: str | None = None


@dataclass(slots=True)
class _Tries:
    busy: int = 0
    unsent: int = 0
    unread: int = 0
    lost: int = 0


class Attempts:
    """What the targets of a run have been through already.

    Args:
        wait: seconds before the second try; they double from there.
    """

    def __init__(self, wait: float) -> None:
        self._wait = wait
        self._numbers: dict[int, int] = {}
        self._tries: dict[int, _Tries] = {}

    def next_number(self, position: int) -> int:
        """Return the number of a target's next attempt."""
        return self._numbers.get(position, 0) + 1

    def begin(self, position: int, number: int) -> int:
        """Take note of an attempt; return how many calls before it were proved to begin nothing."""
        self._numbers[position] = number
        return self.lost(position)

    def lost(self, position: int) -> int:
        """Return how many lost calls of a target were proved to have begun nothing."""
        tries = self._tries.get(position)
        return 0 if tries is None else tries.lost

    def disprove(self, position: int) -> None:
        """Take note that a lost call was proved to have begun nothing."""
        self._of(position).lost += 1

    def turn_away(self, position: int, answer: Answer) -> Turn:
        """Take note of an answer that says that nothing began."""
        match answer.verdict:
            case Verdict.THROTTLED:
                return Turn()
            case Verdict.UNSENT:
                tries = self._of(position)
                tries.unsent += 1
                return self._turn(tries.unsent, Outcome.REFUSED)
            case Verdict.BUSY:
                tries = self._of(position)
                tries.busy += 1
                is_other = answer.error is not None and answer.error.error_class == UNAVAILABLE
                return self._turn(tries.busy, Outcome.SKIPPED, UNAVAILABLE if is_other else "busy")
            case _:
                return Turn(outcome=Outcome.REFUSED)

    def fail_to_read(self, position: int, error: ErrorInfo, retry_after: float | None) -> Turn:
        """Take note that a look at this cluster alone showed nothing; a 429 is no try."""
        if error.error_class == THROTTLED:
            return Turn(wait=doubling(1.0, 1) if retry_after is None else retry_after)
        tries = self._of(position)
        tries.unread += 1
        if tries.unread >= MOST_TRIES:
            return Turn(outcome=Outcome.REFUSED, reason="cannot be read")
        return Turn(wait=doubling(1.0, tries.unread))

    def forget(self, position: int) -> None:
        """Let a target begin anew; only its attempts are numbered on."""
        self._tries.pop(position, None)

    def _turn(self, times: int, outcome: Outcome, reason: str | None = None) -> Turn:
        wait = doubling(self._wait, times)
        return Turn(wait, outcome, reason) if times >= MOST_TRIES else Turn(wait)

    def _of(self, position: int) -> _Tries:
        return self._tries.setdefault(position, _Tries())
