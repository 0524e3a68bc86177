"""The pace of one account: what a 429 teaches, and how it is forgotten again."""

import math
from itertools import pairwise

import pytest

from orchestrator.model import Throttle
from orchestrator.pace import LONGEST_WAIT, SHARE, Pace

TEN_A_MINUTE = Throttle(10, 60.0)


def ask(pace: Pace, count: int, at: float = 0.0) -> list[float]:
    """Make so many calls as soon as each may be made; return when."""
    moments = []
    for _ in range(count):
        at = pace.frees_at(at)
        pace.ask(at)
        moments.append(at)
    return moments


def test_nothing_is_held_back_at_first() -> None:
    """Before the first 429 calls follow each other at once."""
    pace = Pace("a")
    assert ask(pace, 100) == [0.0] * 100
    assert pace.has_room(0.0)
    assert not pace.is_slowed


def test_a_named_limit_is_kept_from_then_on() -> None:
    """After the interval that the message names, no interval sees more calls than it allows."""
    pace = Pace("a")
    ask(pace, 12)
    pace.slow_down(0.1, asked_at=0.0, wait=60.0, named=TEN_A_MINUTE)
    moments = ask(pace, 200, 0.1)
    assert moments[0] == 60.1
    assert all(
        later - earlier > 60.0 for earlier, later in zip(moments, moments[10:], strict=False)
    )
    apart = {round(b - a, 6) for a, b in pairwise(moments)}
    assert apart == {round(6.0 / SHARE, 6)}


def test_a_named_limit_is_never_passed() -> None:
    """However many calls are taken, the pace stays within the limit that was named."""
    pace = Pace("a")
    ask(pace, 12)
    pace.slow_down(0.1, asked_at=0.0, wait=60.0, named=TEN_A_MINUTE)
    for _ in range(500):
        pace.speed_up()
    assert pace.rate == SHARE * 10 / 60


def test_a_limit_that_others_use_too_is_shared() -> None:
    """A 429 although we kept to the limit halves the pace; calls that are taken bring it back."""
    pace = Pace("a")
    ask(pace, 12)
    pace.slow_down(0.1, asked_at=0.0, wait=60.0, named=TEN_A_MINUTE)
    told = pace.rate
    (asked_at,) = ask(pace, 1, 60.0)
    pace.slow_down(asked_at + 0.1, asked_at=asked_at, wait=60.0, named=TEN_A_MINUTE)
    assert pace.rate == pytest.approx(told / 2)
    taken = 0
    while pace.rate < told:
        pace.speed_up()
        taken += 1
    assert taken == 20


def test_calls_under_way_together_slow_down_once() -> None:
    """Twenty 429s for calls that left together are one lesson, not twenty."""
    one, many = Pace("a"), Pace("a")
    for pace, count in ((one, 1), (many, 20)):
        ask(pace, 20)
        for number in range(count):
            pace.slow_down(1.0 + number / 100, asked_at=0.0, wait=None)
    assert one.rate == many.rate
    assert many.frees_at(1.2) == pytest.approx(2.19)


def test_waits_double_in_a_row_and_start_anew() -> None:
    """Without a word the waits double with each round, to a minute, until a call is taken."""
    pace = Pace("a")
    waits, now = [], 0.0
    for _ in range(8):
        asked_at = pace.frees_at(now)
        pace.ask(asked_at)
        now = asked_at + 0.1
        pace.slow_down(now, asked_at=asked_at, wait=None)
        waits.append(round(pace.opens_at - now, 3))
    assert waits == [1, 2, 4, 8, 16, 32, LONGEST_WAIT, LONGEST_WAIT]
    asked_at = pace.frees_at(now)
    pace.ask(asked_at)
    pace.speed_up()
    later = pace.frees_at(asked_at)
    pace.ask(later)
    pace.slow_down(later + 100.0, asked_at=later, wait=None)
    assert pace.opens_at - (later + 100.0) == 1.0


def test_calls_are_never_further_apart_than_the_wait() -> None:
    """If every other call is refused for luck and not for speed, nothing crawls: a wait a call."""
    pace = Pace("a")
    now, refused = 0.0, 0
    for number in range(100):
        now = pace.frees_at(now)
        pace.ask(now)
        if number % 2:
            pace.speed_up()
        else:
            refused += 1
            pace.slow_down(now, asked_at=now, wait=1.0)
    assert refused == 50
    assert now <= 100.0


def test_a_header_that_contradicts_the_message_is_believed() -> None:
    """Told to come back in a second, nobody keeps to ten calls a minute."""
    pace = Pace("a")
    ask(pace, 30)
    pace.slow_down(1.0, asked_at=0.0, wait=1.0, named=TEN_A_MINUTE)
    assert pace.rate == 24.0
    for _ in range(1000):
        pace.speed_up()
    assert pace.rate > 30.0


def test_a_pause_leaves_the_pace_alone() -> None:
    """When the service cannot be asked at all, waiting is enough."""
    pace = Pace("a")
    ask(pace, 3)
    pace.pause(1.0, asked_at=0.0, wait=None, jitter=1.0)
    assert pace.opens_at == pytest.approx(2.1)
    assert pace.rate == math.inf


def test_callers_refused_together_come_back_apart() -> None:
    """The jitter adds up to a tenth to a wait."""
    opens = []
    for jitter in (0.0, 0.5, 1.0):
        pace = Pace("a")
        ask(pace, 1)
        pace.slow_down(0.0, asked_at=0.0, wait=20.0, jitter=jitter)
        opens.append(pace.opens_at)
    assert opens == [20.0, 21.0, 22.0]


@pytest.mark.parametrize("limit", [10, 20, 60])
def test_an_unnamed_limit_is_found_without_hammering(limit: int) -> None:
    """Against a gateway that names no limit, a long run meets few 429s and uses most of it."""
    pace, window, now = Pace("a"), 60.0, 0.0
    taken: list[float] = []
    refused = 0
    while now < 3600.0:
        now = pace.frees_at(now)
        pace.ask(now)
        if sum(moment > now - window for moment in taken) < limit:
            taken.append(now)
            pace.speed_up()
        else:
            refused += 1
            pace.slow_down(now + 0.1, asked_at=now, wait=None)
            now += 0.1
    assert len(taken) > 0.5 * limit * 60
    assert refused < 0.2 * len(taken) + 10
