"""What looks at a cluster mean for its restart: that it may be, its beginning, its end, or nothing.

Rules:

- A cluster that is busy is left alone, and one that is not ready unless that is asked for. If it is
  busy after a call without an answer, that call may be why: nobody can tell.
- A restart has begun when the cluster is seen busy, or a node is bad that was good at the baseline.
- It ended well when the cluster was ready for all of `stable_for`, as good as at its baseline. It
  ended badly when it is down with no task running, shows a new failed reason, or is late and busy.
  Late and neither, as with a state that nobody knows or a node that is gone, it is unknown.
- A call without an answer is disproved only if its cluster was watched without a break for all of
  `confirm_within` and stayed exactly at its baseline: a restart that comes and goes while nobody
  looks leaves no trace at the service.
"""

import math
from dataclasses import dataclass

from orchestrator.limits import Start
from orchestrator.model import (
    Answer,
    ClusterState,
    ErrorInfo,
    Outcome,
    Phase,
    RestartBegan,
    RestartDisproved,
    RestartSettling,
    RestartUnsettled,
    TargetEnded,
    TargetEvent,
)
from orchestrator.plan import Plan, Unhealthy
from orchestrator.span import format_span

SLOW_LOOK = 1.0
"""Seconds that a look may take and still count as one moment, however often looks are wanted."""

TAKEN_OVER = "taken_over"
"""The class of an answer lost with the host that waited for it."""


@dataclass(slots=True)
class Track:
    """What is known of a target between its intent and its end."""

    start: Start
    baseline: ClusterState
    lost: int = 0
    """How many calls for the same target were disproved before this one."""
    phase: Phase = Phase.ISSUING
    answer: Answer | None = None
    """The answer, once there is one; a lost one too."""
    followed_from: float = math.inf
    """When following began: the answer, or the moment it was known to be lost."""
    began_at: float | None = None
    ready_since: float | None = None
    moved: bool = False
    """Whether any look since the call differed from the baseline."""
    watched_until: float = math.inf
    """Up to when it was looked at without a break, from its intent on."""
    was_unwatched: bool = False
    """Whether there was a break long enough for a restart to come and go unseen."""
    begun: str | None = None
    """What a look showed of the restart before the answer came."""


class Judge:
    """Says what a look means; what it learns of a restart, it notes in its track."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._policy = plan.policy

    @property
    def patience(self) -> float:
        """For how long nothing may be seen of a target before it counts as out of sight."""
        return max(1.0, 3 * self._policy.poll_every)

    def healthy_by(self, track: Track) -> float:
        """Return by when the cluster must be ready."""
        return track.followed_from + self.may_take(track)

    def may_take(self, track: Track) -> float:
        """Return how long a restart may take; a rolling one has the time of each node in turn."""
        kind = self._plan.targets[track.start.target].kind
        return self._policy.healthy_deadline * kind.steps(len(track.baseline.instances))

    def judge_baseline(
        self, position: int, state: ClusterState, *, lost: int, now: float
    ) -> TargetEnded | None:
        """Return the end of a target that must not be restarted as it is; None if it may.

        Args:
            position: the target, which nobody restarts now.
            state: what was seen of it last.
            lost: how many calls for it were disproved.
            now: this moment.
        """
        if state.is_busy and lost:
            reason = f"asked before without an answer, and busy now: {state.describe()}"
            error = ErrorInfo(error_class="unconfirmed", message=reason)
            return TargetEnded(
                at=now, target=position, outcome=Outcome.UNKNOWN, reason=reason, error=error
            )
        if state.is_busy:
            return TargetEnded(at=now, target=position, outcome=Outcome.SKIPPED, reason="busy")
        if self._policy.unhealthy is Unhealthy.SKIP and not state.is_ready:
            return TargetEnded(
                at=now,
                target=position,
                outcome=Outcome.SKIPPED,
                reason="unhealthy",
                asked=self._policy.unhealthy_asked,
            )
        return None

    def judge(self, track: Track, state: ClusterState, at: float, now: float) -> TargetEvent | None:
        """Return what follows from a look, if anything does.

        Args:
            track: the restart; what was seen of it is noted there.
            state: what the look showed.
            at: when it was sent.
            now: when it came back.
        """
        self._note_watch(track, state, at, now)
        if track.answer is None:
            return None
        if track.phase in {Phase.ISSUING, Phase.ACCEPTED}:
            return self._judge_beginning(track, state, at)
        return self._judge_end(track, state, at)

    def _note_watch(self, track: Track, state: ClusterState, at: float, now: float) -> None:
        """Keep account of what was seen since the intent, and of whether anything can be missed."""
        blink = 2 * self._policy.poll_every
        if at - track.watched_until > blink or now - at > max(blink, SLOW_LOOK):
            track.was_unwatched = True
        track.watched_until = now
        if not state.is_exactly(track.baseline):
            track.moved = True
        if track.began_at is None and state.shows_begun(track.baseline):
            track.begun = state.describe()

    def _judge_beginning(self, track: Track, state: ClusterState, at: float) -> TargetEvent | None:
        position = track.start.target
        if track.begun is not None:
            return RestartBegan(at=at, target=position, seen=track.begun)
        if not state.is_exactly(track.baseline) and state.shows_failure(track.baseline):
            return _failed(track, state, "the cluster went down")
        if at < track.followed_from + self._policy.confirm_within:
            return None
        return self._judge_unbegun(track, at)

    def _judge_unbegun(self, track: Track, at: float) -> TargetEvent:
        """Say what it means that nothing was seen to begin in all of `confirm_within`."""
        within = format_span(self._policy.confirm_within)
        if track.phase is Phase.ACCEPTED:
            return self.unknown(track, f"accepted, but not seen to begin within {within}")
        if track.moved:
            return self.unknown(track, "no answer, and the cluster changed without a restart seen")
        if track.was_unwatched:
            return self.unknown(track, "no answer, and it was not watched all the time since")
        position = track.start.target
        error = track.answer.error if track.answer is not None else None
        if error is not None and error.error_class == TAKEN_OVER:
            # Another host may have asked, or may still ask: nobody here can prove that it did not.
            return self.unknown(track, "asked by a host that was lost, and not seen to begin")
        if track.lost >= self._policy.max_reissues:
            return self.unknown(track, f"no answer, and not seen to begin within {within}")
        return RestartDisproved(at=at, target=position, attempt=track.start.attempt)

    def _judge_end(self, track: Track, state: ClusterState, at: float) -> TargetEvent | None:
        position = track.start.target
        if at < track.followed_from + self._policy.settle:
            return None
        if state.shows_failure(track.baseline):
            return _failed(track, state, "the restart failed")
        if state.shows_ready(track.baseline):
            return self._judge_ready(track, at)
        if at >= self.healthy_by(track):
            return self._judge_late(track, state)
        if track.phase is Phase.SETTLING:
            return RestartUnsettled(at=at, target=position, seen=state.describe())
        return None

    def _judge_late(self, track: Track, state: ClusterState) -> TargetEvent:
        what = f"not ready within {format_span(self.may_take(track))}"
        if state.is_busy:
            return _failed(track, state, what)
        seen, nodes = state.describe(), len(track.baseline.instances)
        if len(state.instances) < nodes:
            seen = f"{seen}, {nodes - len(state.instances)} of {nodes} nodes gone"
        return self.unknown(track, f"{what}: {seen}")

    def _judge_ready(self, track: Track, at: float) -> TargetEvent | None:
        position = track.start.target
        ready_since = at if track.ready_since is None else track.ready_since
        if at >= ready_since + self._policy.stable_for:
            return TargetEnded(at=at, target=position, outcome=Outcome.RESTARTED)
        return RestartSettling(at=at, target=position) if track.ready_since is None else None

    def unknown(self, track: Track, reason: str) -> TargetEnded:
        """Return the end of a target of which nobody can tell what became; it keeps its slot."""
        error = track.answer.error if track.answer is not None else None
        return TargetEnded(
            at=0.0,
            target=track.start.target,
            outcome=Outcome.UNKNOWN,
            reason=reason,
            error=error or ErrorInfo(error_class="unconfirmed", message=reason),
            slot_until=self.healthy_by(track),
        )


def _failed(track: Track, state: ClusterState, what: str) -> TargetEnded:
    reason = f"{what}: {state.describe()}"
    code = (state.failed_reason or "").split(":", 1)[0].split(" ", 1)[0] or None
    is_new = state.failed_reason != track.baseline.failed_reason
    return TargetEnded(
        at=0.0,
        target=track.start.target,
        outcome=Outcome.FAILED,
        reason=reason,
        error=ErrorInfo(
            error_class="restart_failed", message=reason, code=code if is_new else None
        ),
    )
