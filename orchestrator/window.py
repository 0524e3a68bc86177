"""When restarts may start: the window's bounds, and how long a restart is expected to take.

Rules:

- Nothing starts before `not_before`, nor at or after `cutoff`.
- Nothing starts that is expected to last beyond `deadline`. Expected is the 95th percentile of what
  was seen of that kind of restart, else the usual time; for a rolling one that of its least nodes.
- Bounds are moments of the wall clock, by the clock of whoever runs now: one that is set while they
  run moves nothing, so that no step of it lets anything start too early.
"""

import math
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.model import Kind
from orchestrator.plan import Window
from orchestrator.span import format_moment, format_span

_TAIL = 20
"""One in so many may take longer than expected."""


def expected_of(ordered: Sequence[float]) -> float:
    """Return the 95th percentile of durations in ascending order, by the nearest rank."""
    return ordered[len(ordered) - 1 - len(ordered) // _TAIL]


class Durations:
    """What is known of durations in seconds; what nothing is known of takes the usual time."""

    def __init__(self, known: Mapping[str, Sequence[float]], usual: float) -> None:
        self._known = {kind: sorted(durations) for kind, durations in known.items() if durations}
        self._usual = usual

    def note(self, kind: str, seconds: float) -> None:
        """Take note of a restart of this kind that has finished."""
        insort(self._known.setdefault(kind, []), seconds)

    def expected(self, kind: str) -> float:
        """Return how long a restart of this kind is expected to take."""
        known = self._known.get(kind)
        return expected_of(known) if known else self._usual * Kind.parse(kind).steps()


class Opening:
    """The window of one run, for the kinds of restart that are left in it."""

    def __init__(self, window: Window, durations: Durations, kinds: Iterable[str]) -> None:
        self.window = window
        self.wall_offset = 0.0
        """What to add to a steady moment to get the wall clock of whoever runs now."""
        self.durations = durations
        self._left = Counter(kinds)

    def leave(self, kind: str) -> None:
        """Take note that a restart of this kind is left no more."""
        self._left[kind] -= 1

    def come_back(self, kind: str) -> None:
        """Take note that a restart of this kind is left after all."""
        self._left[kind] += 1

    def opens_at(self) -> float:
        """Return the steady moment at which the window opens; minus infinity if it always was."""
        opens_at = self.window.not_before
        return -math.inf if opens_at is None else opens_at - self.wall_offset

    def closes_at(self, kind: str | None = None) -> float:
        """Return the steady moment from which on nothing of this kind may start, or of any left.

        Infinity if the window has no end.
        """
        window, end = self.window, math.inf
        if window.cutoff is not None:
            end = window.cutoff - self.wall_offset
        if window.deadline is not None:
            takes = self._shortest() if kind is None else self.durations.expected(kind)
            end = min(end, window.deadline - self.wall_offset - takes)
        return end

    def is_late(self, kind: str, now: float) -> bool:
        """Whether a restart of this kind may not start any more."""
        return self.window.has_end and now >= self.closes_at(kind)

    def why_over(self, now: float) -> str:
        """Say why nothing that waits may start any more."""
        cutoff, deadline = self.window.cutoff, self.window.deadline
        if deadline is None or (cutoff is not None and now >= cutoff - self.wall_offset):
            return f"cutoff: nothing starts after {format_moment(cutoff or 0.0)}"
        return (
            f"deadline: what is left would not be done by {format_moment(deadline)}; "
            f"a restart is expected to take {format_span(round(self._shortest(), 1))}"
        )

    def _shortest(self) -> float:
        return min(map(self.durations.expected, +self._left), default=0.0)
