"""How far every target is: its phase, what is known of it on its way, and its outcome.

Rules:

- `LEGAL` says which events may meet a target in which phase; anything else is a bug.
- A call that began nothing leaves its target where it was before: it waits.
- An answer that came when its runner had lost the run is evidence and moves nobody.
- An unknown keeps its slot for as long as its restart may take; a person may say what became of it.
"""

from collections.abc import Iterator, Mapping, Sequence

from orchestrator.errors import ImpossibleEventError
from orchestrator.judgement import Track
from orchestrator.model import (
    AnswerArrivedLate,
    Outcome,
    Phase,
    RestartAnswered,
    RestartBegan,
    RestartDisproved,
    RestartRequested,
    RestartSettling,
    RestartUnsettled,
    RestartWithdrawn,
    Target,
    TargetEnded,
    TargetEvent,
    TargetRelapsed,
    TargetResolved,
)

LEGAL: Mapping[Phase, frozenset[type[TargetEvent]]] = {
    Phase.WAITING: frozenset({RestartRequested, TargetEnded}),
    Phase.ISSUING: frozenset(
        {RestartAnswered, RestartWithdrawn, RestartBegan, RestartDisproved, TargetEnded}
    ),
    Phase.ACCEPTED: frozenset({RestartBegan, TargetEnded}),
    Phase.RESTARTING: frozenset({RestartSettling, TargetEnded}),
    Phase.SETTLING: frozenset({RestartUnsettled, TargetEnded}),
    Phase.ENDED: frozenset({TargetRelapsed, TargetResolved}),
}  # fmt: skip
"""Which events may meet a target in which phase; whatever is missing raises."""


class Progress:
    """How far the targets of one run are."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = targets
        self._phases = [Phase.WAITING] * len(targets)
        self.tracks: dict[int, Track] = {}
        """Everything between intent and end, by position."""
        self.outcomes: dict[int, Outcome] = {}
        """The outcome of each target that has one, by position."""
        self.asked_skips: set[int] = set()
        """Who was skipped because the operator asked for it."""
        self._unresolved: dict[int, Track] = {}
        """What is known of targets that ended as unknown: somebody may still tell."""

    # ------------------------------------------------------------------------------- questions

    @property
    def waiting(self) -> int:
        """How many targets have neither begun nor ended."""
        return len(self._targets) - len(self.outcomes) - len(self.tracks)

    def is_waiting(self, position: int) -> bool:
        """Whether a target has neither begun nor ended."""
        return self._phases[position] is Phase.WAITING

    def unanswered(self) -> Iterator[Track]:
        """Yield the intents without any answer."""
        return (track for track in self.tracks.values() if track.answer is None)

    def held_until(self, position: int, now: float) -> float | None:
        """Return until when an earlier unknown of the target keeps its slot, if it still does."""
        earlier = self._unresolved.get(position)
        ended_at = earlier.start.ended_at if earlier is not None else None
        return ended_at if ended_at is not None and ended_at > now else None

    def holds_a_slot(self, position: int, now: float) -> bool:
        """Whether a target is under way, or may be for all that anybody knows."""
        return position in self.tracks or self.held_until(position, now) is not None

    def counts(self) -> dict[Outcome, int]:
        """Return how many targets ended how; `not_started` are all the others."""
        counts = dict.fromkeys(Outcome, 0)
        for outcome in self.outcomes.values():
            counts[outcome] += 1
        counts[Outcome.NOT_STARTED] = len(self._targets) - len(self.outcomes)
        return counts

    def standing(self) -> dict[Outcome, int]:
        """Return how the targets stand if nobody goes on: what is under way is unknown then."""
        counts = self.counts()
        counts[Outcome.UNKNOWN] += len(self.tracks)
        counts[Outcome.NOT_STARTED] -= len(self.tracks)
        return counts

    # ----------------------------------------------------------------------------------- steps

    def lets(self, event: TargetEvent) -> bool:
        """Return whether an event moves its target; it does not if it is mere evidence.

        Raises:
            ImpossibleEventError: it does not fit the target's phase.
        """
        phase = self._phases[event.target]
        if type(event) in LEGAL[phase]:
            return True
        if isinstance(event, AnswerArrivedLate):
            return False
        raise ImpossibleEventError(
            f"{event.kind} cannot happen to {self._targets[event.target]}, which is {phase}"
        )

    def begin(self, track: Track) -> None:
        """Take up a target: its intent is written."""
        position = track.start.target
        self.tracks[position] = track
        self._phases[position] = Phase.ISSUING

    def move(self, position: int, phase: Phase) -> Track:
        """Take a target that is under way to its next phase."""
        track = self.tracks[position]
        track.phase = self._phases[position] = phase
        return track

    def release(self, position: int) -> Track:
        """Let a target wait again; return what was known of its try."""
        self._phases[position] = Phase.WAITING
        return self.tracks.pop(position)

    def end(self, event: TargetEnded) -> Track | None:
        """Give a target its outcome; return what is known of its restart, if there was one."""
        position = event.target
        track = self.tracks.pop(position, None)
        if track is not None and event.outcome is Outcome.UNKNOWN:
            self._unresolved[position] = track
        self._phases[position] = Phase.ENDED
        self.outcomes[position] = event.outcome
        if event.asked:
            self.asked_skips.add(position)
        return track

    def fail(self, position: int) -> None:
        """Take note that a target which had ended well turned bad."""
        self.outcomes[position] = Outcome.FAILED

    def resolve(self, event: TargetResolved) -> Track | None:
        """Believe a person; return what is known of the restart that nobody could tell of."""
        if event.outcome is not Outcome.NOT_STARTED:
            self.outcomes[event.target] = event.outcome
        return self._unresolved.pop(event.target, None)

    def reopen(self, position: int) -> None:
        """Let a target that had ended wait again."""
        del self.outcomes[position]
        self.asked_skips.discard(position)
        self._phases[position] = Phase.WAITING
