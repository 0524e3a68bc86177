"""Progress: what may happen to a target in which phase, and how all of them stand."""

import pytest

from orchestrator.errors import ImpossibleEventError
from orchestrator.judgement import Track
from orchestrator.limits import Start, StartChange
from orchestrator.model import (
    Answer,
    AnswerArrivedLate,
    ClusterState,
    Outcome,
    Phase,
    RestartAnswered,
    RestartRequested,
    Target,
    TargetEnded,
    TargetResolved,
    Verdict,
)
from orchestrator.progress import Progress

IDLE = ClusterState(status="200")
ANSWER = Answer(verdict=Verdict.ACCEPTED, sent_at=1.0, answered_at=2.0)


def of(count: int = 3) -> Progress:
    return Progress([Target(project_id="p", cluster_id=f"c{n}") for n in range(count)])


def begin(progress: Progress, position: int = 0) -> Track:
    start = Start(
        run_id="r", target=position, attempt=1, project_id="p", cluster_id=f"c{position}",
        region=None, labels=(), granted_at=1.0,
    )  # fmt: skip
    track = Track(start=start, baseline=IDLE)
    progress.begin(track)
    return track


def end(progress: Progress, outcome: Outcome, *, asked: bool = False) -> Track | None:
    return progress.end(TargetEnded(at=5.0, target=0, outcome=outcome, asked=asked))


def test_an_event_that_does_not_fit_the_phase_is_a_bug() -> None:
    """An intent meets who waits and nobody else; an answer meets who was asked."""
    progress = of()
    requested = RestartRequested(at=1.0, target=0, attempt=1, request_id="x", baseline=IDLE)
    answered = RestartAnswered(at=2.0, target=0, attempt=1, answer=ANSWER)
    assert progress.lets(requested)
    with pytest.raises(ImpossibleEventError, match=r"restart\.answered cannot happen to p/c0"):
        progress.lets(answered)
    begin(progress)
    assert progress.lets(answered)
    with pytest.raises(ImpossibleEventError, match="which is issuing"):
        progress.lets(requested)


def test_a_late_answer_moves_nobody() -> None:
    """It is evidence for the report, in whatever phase its target is by then."""
    progress = of()
    late = AnswerArrivedLate(at=9.0, target=0, attempt=1, answer=ANSWER)
    assert not progress.lets(late)
    begin(progress)
    end(progress, Outcome.UNKNOWN)
    assert not progress.lets(late)


def test_every_target_is_in_one_place() -> None:
    """Waiting, under way or ended; the counts are everybody, whoever asks."""
    progress = of()
    track = begin(progress)
    assert (progress.waiting, progress.is_waiting(0)) == (2, False)
    assert list(progress.unanswered()) == [track]
    track.answer = ANSWER
    assert list(progress.unanswered()) == []
    assert progress.counts()[Outcome.NOT_STARTED] == 3
    standing = progress.standing()
    assert (standing[Outcome.UNKNOWN], standing[Outcome.NOT_STARTED]) == (1, 2)
    assert progress.move(0, Phase.RESTARTING).phase is Phase.RESTARTING
    assert end(progress, Outcome.RESTARTED) is track
    assert progress.counts()[Outcome.RESTARTED] == 1
    assert sum(progress.standing().values()) == 3
    progress.fail(0)
    assert progress.outcomes == {0: Outcome.FAILED}


def test_a_call_that_began_nothing_leaves_its_target_waiting() -> None:
    """What was known of the try is handed back."""
    progress = of()
    track = begin(progress)
    assert progress.release(0) is track
    assert progress.is_waiting(0)
    assert not progress.tracks


def test_an_unknown_keeps_its_slot_until_its_restart_must_be_over() -> None:
    """Or until a person says what became of it."""
    progress = of()
    track = begin(progress)
    assert progress.holds_a_slot(0, 2.0)
    end(progress, Outcome.UNKNOWN)
    track.start = track.start.after(StartChange(ended_at=100.0))
    assert progress.held_until(0, 99.0) == 100.0
    assert progress.holds_a_slot(0, 99.0)
    assert progress.held_until(0, 100.0) is None
    resolved = TargetResolved(at=50.0, target=0, outcome=Outcome.RESTARTED, by="ana")
    assert progress.resolve(resolved) is track
    assert progress.outcomes == {0: Outcome.RESTARTED}
    assert not progress.holds_a_slot(0, 51.0)


def test_who_is_taken_up_again_waits_as_if_nothing_had_been() -> None:
    """Its outcome is gone, and a skip that was asked for is asked for no more."""
    progress = of()
    assert end(progress, Outcome.SKIPPED, asked=True) is None
    assert progress.asked_skips == {0}
    progress.reopen(0)
    assert progress.is_waiting(0)
    assert (progress.waiting, progress.asked_skips, progress.outcomes) == (3, set(), {})
