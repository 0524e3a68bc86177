"""Waves: one after the other, a soak where something was touched, a word where it is asked for."""

import math

from orchestrator.model import Outcome, Target, WaveFinished, WaveSoaking
from orchestrator.plan import Policy, Portion, make_plan
from orchestrator.waves import Waves

RESTARTED, SKIPPED = Outcome.RESTARTED, Outcome.SKIPPED


def of(count: int = 4, *, soak: float = 60.0, words: bool = False) -> Waves:
    """Return waves of a canary of one, and the rest."""
    targets = [Target(project_id="p", cluster_id=f"c{n}") for n in range(count)]
    return Waves(make_plan(targets, Policy(confirm_waves=words), canary=Portion(1), soak=soak))


def is_anybody_else_left(waves: Waves) -> bool:
    return waves.is_anybody_else_left


def test_a_wave_that_touched_something_soaks_and_is_finished() -> None:
    """It is over when all have ended, and finished when its soak is over too."""
    waves = of()
    assert waves.is_at_barrier
    waves.open()
    assert waves.admits
    assert waves.turn(0.0, {}, math.inf) is None
    waves.leave(0)
    assert waves.turn(1.0, {0: RESTARTED}, math.inf) == WaveSoaking(at=1.0, wave=0)
    waves.soak(1.0)
    assert (waves.admits, waves.soak_ends_at) == (False, 61.0)
    assert waves.turn(61.0, {0: RESTARTED}, math.inf) is None
    assert waves.turn(61.5, {0: RESTARTED}, 61.0) == WaveFinished(at=61.5, wave=0)
    waves.finish(0)
    assert (waves.number, waves.left, waves.is_at_barrier) == (1, 3, True)


def test_a_wave_that_touched_nothing_does_not_soak() -> None:
    """Where all were skipped, or no soak is asked for, the next wave opens at once."""
    for waves, outcome in ((of(), SKIPPED), (of(soak=0.0), RESTARTED)):
        waves.open()
        waves.leave(0)
        assert waves.turn(1.0, {0: outcome}, math.inf) == WaveFinished(at=1.0, wave=0)


def test_a_wave_does_not_wait_for_who_is_left_out() -> None:
    """It goes on to its end without them; the run is not over until they are taken back."""
    waves = of()
    waves.leave(0)
    waves.finish(0)
    waves.open()
    waves.leave_out(1)
    waves.leave_out(2)
    assert is_anybody_else_left(waves)
    waves.leave(3)
    assert not is_anybody_else_left(waves)
    assert isinstance(waves.turn(1.0, {3: SKIPPED}, math.inf), WaveFinished)
    waves.take_back()
    assert not waves.is_anybody_left_out
    assert waves.turn(1.0, {3: SKIPPED}, math.inf) is None


def test_who_is_late_or_left_out_never_starts() -> None:
    """All are late when nobody is left but those, and those under way."""
    waves = of()
    waves.leave(0)
    waves.finish(0)
    assert not waves.are_all_late(under_way=0)
    waves.late.add(1)
    waves.leave_out(2)
    assert not waves.are_all_late(under_way=0)
    assert waves.are_all_late(under_way=1)
    waves.leave(1)
    assert not waves.late


def test_after_a_stop_the_first_wave_that_has_anybody_is_next() -> None:
    """Who comes back to an earlier wave is taken up there."""
    waves = of()
    waves.open()
    waves.leave(0)
    waves.finish(0)
    waves.open()
    waves.begin_again()
    assert (waves.number, waves.is_open) == (1, False)
    waves.come_back(0)
    waves.begin_again()
    assert waves.number == 0
    for position in range(4):
        waves.leave(position)
    waves.begin_again()
    assert waves.are_over
    assert (waves.left, list(waves.left_out)) == (0, [])


def test_a_wave_is_surveyed_before_it_lets_anybody_in() -> None:
    """The last project that was to be seen says so, once, and only while the wave is open."""
    waves = of()
    waves.open()
    waves.unseen = {"a", "b"}
    assert not waves.saw(["a"])
    assert waves.saw(["b", "c"])
    assert not waves.saw(["b"])


def test_each_wave_but_the_first_waits_for_a_word_where_that_is_asked_for() -> None:
    """The pause says how the last wave went; a word that was asked for is not asked for again."""
    assert not of().needs_word(None)
    waves = of(words=True)
    assert not waves.needs_word(None)
    waves.leave(0)
    waves.finish(0)
    assert waves.needs_word(None)
    assert not waves.needs_word(1)
    pause = waves.pause(5.0, {0: RESTARTED})
    assert pause.wave == 1
    assert (
        pause.reason == "wave canary is done: 1 restarted; wave 2 of 2 (rest, 3) waits for a word"
    )
    for position in (1, 2, 3):
        waves.leave(position)
    assert not waves.needs_word(None)
