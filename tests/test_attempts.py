"""Attempts: numbered through all lives of a run; what may pass is tried again, and not for ever."""

import pytest

from orchestrator.attempts import MOST_TRIES, Attempts, Turn
from orchestrator.model import Answer, ErrorInfo, Outcome, Verdict


def answer(verdict: Verdict, error_class: str = "busy") -> Answer:
    error = ErrorInfo(error_class=error_class, message="no")
    return Answer(verdict=verdict, sent_at=0.0, answered_at=1.0, error=error)


def test_attempts_are_numbered_from_one() -> None:
    """Each has the next number, also after the target began anew."""
    attempts = Attempts(5.0)
    assert attempts.next_number(0) == 1
    attempts.begin(0, 1)
    attempts.forget(0)
    assert (attempts.next_number(0), attempts.next_number(1)) == (2, 1)


def test_lost_calls_are_counted_until_the_target_begins_anew() -> None:
    """What was proved to have begun nothing is known to the attempts after it."""
    attempts = Attempts(5.0)
    assert attempts.begin(0, 1) == 0
    attempts.disprove(0)
    assert attempts.begin(0, 2) == 1
    attempts.forget(0)
    assert attempts.begin(0, 3) == 0


@pytest.mark.parametrize(
    ("verdict", "error_class", "last"),
    [
        (Verdict.BUSY, "busy", Turn(40.0, Outcome.SKIPPED, "busy")),
        (Verdict.BUSY, "unavailable", Turn(40.0, Outcome.SKIPPED, "unavailable")),
        (Verdict.UNSENT, "unsent", Turn(40.0, Outcome.REFUSED)),
    ],
)
def test_what_may_pass_is_tried_ever_more_slowly_and_not_for_ever(
    verdict: Verdict, error_class: str, last: Turn
) -> None:
    """The waits double, and after some tries of a sort it is over."""
    attempts = Attempts(5.0)
    turns = [attempts.turn_away(0, answer(verdict, error_class)) for _ in range(MOST_TRIES)]
    assert turns == [Turn(5.0), Turn(10.0), Turn(20.0), last]


def test_a_throttled_call_is_no_try() -> None:
    """A 429 is the account's affair, however often it comes."""
    attempts = Attempts(5.0)
    for _ in range(10 * MOST_TRIES):
        assert attempts.turn_away(0, answer(Verdict.THROTTLED, "throttled")) == Turn()


@pytest.mark.parametrize("verdict", [Verdict.REFUSED, Verdict.UNAUTHORIZED])
def test_a_refusal_is_the_end(verdict: Verdict) -> None:
    """Asking again would not help."""
    turn = Attempts(5.0).turn_away(0, answer(verdict))
    assert turn == Turn(outcome=Outcome.REFUSED)


def test_a_cluster_that_cannot_be_read_is_given_up() -> None:
    """It is read again after a second, and two, and four; then it is refused. A 429 is no try."""
    attempts = Attempts(5.0)
    outage = ErrorInfo(error_class="server_error", message="502", status=502)
    throttled = ErrorInfo(error_class="throttled", message="slow down", status=429)
    turns = [attempts.fail_to_read(0, outage, None) for _ in range(MOST_TRIES - 1)]
    assert attempts.fail_to_read(0, throttled, None) == Turn(1.0)
    assert attempts.fail_to_read(0, throttled, 7.0) == Turn(7.0)
    turns.append(attempts.fail_to_read(0, outage, None))
    assert [turn.wait for turn in turns[:3]] == [1.0, 2.0, 4.0]
    assert turns[3] == Turn(outcome=Outcome.REFUSED, reason="cannot be read")
