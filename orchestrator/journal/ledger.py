"""What a batch of events does to the ledger, put together so that few statements write it.

Rules:

- An event changes the latest start of its target; without a start it changes nothing.
- All changes of one start in a step are one change: the first settling stays, the earliest end
  counts, and what was given back stays so.
- In a step the changes come before the new starts. An event on a start of the same batch opens the
  next step, so that a start that is over at once still meets the guard of live clusters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.limits import StartChange, change_of
from orchestrator.model import Event, RestartRequested

Change = tuple[int, int, float | None, float | None, bool]
"""Target, attempt, settled, ended, given back."""

New = tuple[int, int, float]
"""Target, attempt, granted."""


@dataclass(frozen=True, slots=True)
class Step:
    """Changes of starts, then new starts; both by target."""

    changes: dict[int, Change] = field(default_factory=dict)
    new: dict[int, New] = field(default_factory=dict)


def steps_of(events: Sequence[Event], latest: Sequence[int]) -> list[Step]:
    """Return what the events do to the ledger, in order.

    Args:
        events: one batch.
        latest: the number of each target's latest attempt so far; 0 where there is none.
    """
    step = Step()
    steps = [step]
    asked: dict[int, int] = {}
    for event in events:
        if isinstance(event, RestartRequested):
            target = event.target
            if target in step.new:
                steps.append(step := Step())
            step.new[target] = (target, event.attempt, event.at)
            asked[target] = max(event.attempt, asked.get(target, latest[target]))
        elif (change := change_of(event)) is not None:
            target = event.target  # type: ignore[attr-defined]  # only targets have starts
            attempt = asked.get(target) or latest[target]
            if not attempt:
                continue
            if target in step.new:
                steps.append(step := Step())
            step.changes[target] = _merged(step.changes.get(target), target, attempt, change)
    return steps


def _merged(earlier: Change | None, target: int, attempt: int, change: StartChange) -> Change:
    """Mirrors `Start.after`."""
    settled, ended = change.settled_at, change.ended_at
    if earlier is None:
        return target, attempt, settled, ended, change.returned
    _, _, settled_before, ended_before, returned = earlier
    if settled_before is not None:
        settled = settled_before
    if ended is None or (ended_before is not None and ended_before < ended):
        ended = ended_before
    return target, attempt, settled, ended, returned or change.returned
