"""Why targets wait: every one of them is in one group, with its cause, and its moment if known."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.campaign import Campaign
from orchestrator.limits import Concurrency, Limit, Rate
from orchestrator.model import (
    Cause,
    ErrorInfo,
    LimitsChanged,
    RunContinued,
    RunPaused,
    RunStopping,
    Verdict,
)
from orchestrator.plan import Policy
from orchestrator.waits import Wait, waits
from orchestrator.watch.picture import state_lines
from tests.test_watch_picture import Hand, fleet, wall


def causes(hand: Hand, now: float) -> list[tuple[int, Cause, float]]:
    return [(wait.count, wait.cause, wait.until) for wait in waits(hand.campaign, now)]


def test_a_full_rate_names_its_moment_and_a_full_slot_none() -> None:
    """Time frees a rate; a slot is free when its restart has ended, and nobody knows when."""
    hand = Hand(fleet(5), Rate(2, 600.0))
    hand.start(0.0)
    hand.answer(0, 1.0)
    hand.answer(1, 2.0)
    assert causes(hand, 100.0) == [(3, Cause.LIMIT, 601.25)]
    slots = Hand(fleet(5), Concurrency(2))
    slots.start(0.0)
    assert causes(slots, 100.0) == [(3, Cause.LIMIT, math.inf)]
    assert str(waits(slots.campaign, 100.0)[0]) == "3 for 2 at once (next when one ends)"


def test_of_several_full_limits_the_last_to_free_decides() -> None:
    """Whoever waits for two limits may go when both have room."""
    hand = Hand(fleet(5), Rate(2, 60.0), Rate(2, 600.0))
    hand.start(0.0)
    hand.answer(0, 0.0)
    hand.answer(1, 0.0)
    assert causes(hand, 10.0) == [(3, Cause.LIMIT, 600.25)]


def test_a_paused_run_holds_everybody_without_a_moment() -> None:
    """While paused that is the reason, whatever the limits say; later waves wait for theirs."""
    hand = Hand(fleet(10), Concurrency(2), waves=("4", "rest"))
    hand.start(0.0)
    hand.tell(RunPaused(at=1.0, by="ana", reason="alarm"))
    assert causes(hand, 2.0) == [(2, Cause.PAUSED, math.inf), (6, Cause.WAVE, math.inf)]
    assert waits(hand.campaign, 2.0)[0].what == "held: paused by ana: alarm"
    hand.tell(RunContinued(at=3.0, by="ana"))
    assert causes(hand, 3.0)[0][1] is Cause.LIMIT


def test_a_soak_names_its_end() -> None:
    """During a soak all others wait for its end; in a pause besides, for the pause."""
    hand = Hand(fleet(20), Concurrency(5), canary=1, soak=60.0)
    hand.start(0.0)
    hand.end(0, 10.0)
    hand.turn(10.0)
    [(count, cause, until)] = causes(hand, 22.0)
    assert (count, cause) == (19, Cause.SOAK)
    assert until == pytest.approx(70.0, abs=1.0)
    hand.tell(RunPaused(at=23.0, by="ana"))
    assert causes(hand, 24.0) == [(19, Cause.PAUSED, math.inf)]


def test_a_gate_that_is_closed_is_the_reason_from_outside_too() -> None:
    """A runner knows when it asks its gate again; from outside only what it said is known."""
    policy = Policy(limits=(Concurrency(2),), gates=("ask.sh",))
    hand = Hand(fleet(3), policy=policy)
    hand.turn(0.0)
    hand.campaign.hear_gate("ask.sh: exit code 1", 0.0, 1.0)
    hand.turn(1.0)
    assert [str(wait) for wait in waits(hand.campaign, 2.0)] == [
        "3 held: the gate is closed: ask.sh: exit code 1 (asked again in 28 s)"
    ]
    outside = Campaign("2026-11-23-7k3f", hand.campaign.plan, hand.events)
    outside.believe_looks(2.0)
    [wait] = waits(outside, 2.0)
    assert (wait.cause, wait.until, wait.when) == (Cause.GATE, math.inf, "")


def test_a_gate_that_was_never_asked_is_asked_now() -> None:
    """Before its first answer there is no moment to count from, so that it is this one."""
    policy = Policy(limits=(Concurrency(2),), gates=("ask.sh",))
    [wait] = waits(Hand(fleet(3), policy=policy).campaign, 5.0)
    assert wait.until == 5.0
    assert str(wait) == ("3 held: the gate is closed: it was not asked yet (asked again in 0 s)")


def test_a_gate_that_nobody_waits_for_is_no_reason() -> None:
    """While the last of a wave run, those behind wait for their wave: nobody asks the gate."""
    policy = Policy(limits=(Concurrency(2),), gates=("ask.sh",))
    hand = Hand(fleet(5), policy=policy, waves=("2", "rest"))
    hand.turn(0.0)
    hand.campaign.hear_gate(None, 0.0, 0.0)
    hand.start(0.0)
    assert len(hand.campaign.tracks) == 2
    assert hand.campaign.hold(1000.0) is not None
    assert causes(hand, 1000.0) == [(3, Cause.WAVE, math.inf)]
    [state] = state_lines(hand.campaign, 1000.0, wall)
    assert state == "waiting: 3 in later waves (after wave 1)"


def test_nobody_waits_in_a_run_that_stops() -> None:
    """Those who will not start are not said to wait."""
    hand = Hand(fleet(5), Concurrency(2))
    hand.start(0.0)
    hand.tell(RunStopping(at=1.0, by="ana", reason="enough"))
    assert waits(hand.campaign, 2.0) == []


def test_a_project_that_cannot_be_read_says_so() -> None:
    """Where looks fail, those who need one read how often that was so."""
    hand = Hand(fleet(4), Concurrency(10))
    hand.turn(0.0)
    error = ErrorInfo(error_class="unavailable", message="no")
    hand.campaign.fail_to_observe(hand.looks.pop(), error, 0.0)
    hand.turn(0.0)
    [wait] = waits(hand.campaign, 0.0)
    assert wait.cause is Cause.LOOK
    assert "could not be read, 1 time so far" in str(wait)


def test_limits_that_are_counted_anew_hold_for_a_moment() -> None:
    """Between other limits and their count nothing starts, and the reason is named."""
    hand = Hand(fleet(5), Concurrency(2))
    hand.start(0.0)
    hand.tell(LimitsChanged(at=1.0, limits=("1",), max_failures="0", by="a", is_looser=False))
    assert causes(hand, 1.0) == [(3, Cause.COUNTING, 1.0)]


def test_from_outside_looks_are_believed_and_limits_are_exact() -> None:
    """A replay without any look explains by limits, not by looks that its runner has made."""
    hand = Hand(fleet(12, 2), Concurrency(1, "project"), Concurrency(10))
    hand.start(0.0)
    begun = Campaign("2026-11-23-7k3f", hand.campaign.plan, hand.events[:1])
    assert {wait.cause for wait in waits(begun, 5.0)} == {Cause.LOOK}
    outside = Campaign("2026-11-23-7k3f", hand.campaign.plan, hand.events)
    outside.believe_looks(5.0)
    found = waits(outside, 5.0, most=None)
    assert [(wait.count, wait.cause) for wait in found] == [(10, Cause.LIMIT)]


@given(st.data())
def test_the_groups_are_everybody_who_waits(data: st.DataObject) -> None:
    """Whatever limits and waves there are, nobody who waits is forgotten or counted twice."""
    limits: list[Limit] = data.draw(
        st.lists(
            st.one_of(
                st.builds(Concurrency, st.integers(1, 9), st.sampled_from(["fleet", "project"])),
                st.builds(Rate, st.integers(1, 9), st.just(60.0), st.sampled_from(["project"])),
            ),
            max_size=3,
        )
    )
    count, projects = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 4))
    hand = Hand(fleet(count, projects), *limits, canary=data.draw(st.integers(0, 2)))
    hand.start(0.0)
    for target in list(hand.campaign.tracks)[: data.draw(st.integers(0, 5))]:
        hand.answer(target, 1.0, data.draw(st.sampled_from([Verdict.ACCEPTED, Verdict.BUSY])))
    if data.draw(st.booleans()):
        hand.tell(RunPaused(at=2.0, by="ana"))
    hand.turn(2.0)
    found: list[Wait] = waits(hand.campaign, 2.0)
    assert sum(wait.count for wait in found) == hand.campaign.waiting
    assert all(wait.count > 0 for wait in found)
