"""Spans and moments: what operators write, and what is meant."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.span import format_seconds, format_span, parse_moment, parse_span


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("100ms", 0.1), ("2d", 172800), ("1.5h", 5400),
     (" 5S ", 5), ("0s", 0)],
)  # fmt: skip
def test_spans_are_read(text: str, seconds: float) -> None:
    """Units from milliseconds to days, alone or together."""
    assert parse_span(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "m", "1x", "-5s", "1h 30m", "1:30", "inf"])
def test_what_is_no_span_is_refused(text: str) -> None:
    """A bare number, a sign or a foreign unit is an error that shows how to write it."""
    with pytest.raises(ValueError, match="write it like 90s"):
        parse_span(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (45, "45s"),
        (3600, "1h"),
        (5400, "1h30m"),
        (90061.5, "1d1h1m1.5s"),
    ],
)
def test_spans_are_written_short(seconds: float, text: str) -> None:
    """A span is printed the way an operator would write it."""
    assert format_span(seconds) == text


@given(st.integers(0, 10_000_000))
def test_what_is_written_reads_the_same(milliseconds: int) -> None:
    """Printing and reading back changes nothing."""
    seconds = milliseconds / 1000
    assert parse_span(format_span(seconds)) == pytest.approx(seconds)
    assert parse_span(format_seconds(seconds)) == pytest.approx(seconds)


def test_moments_carry_their_zone_or_are_spans() -> None:
    """An offset is needed; a span counts from now, ahead or behind."""
    assert parse_moment("1970-01-01T08:00:10+08:00", now=5.0) == 10.0
    assert parse_moment("1970-01-01T00:00:10Z", now=5.0) == 10.0
    assert parse_moment("2h", now=10_000.0) == 17_200.0
    assert parse_moment("2h", now=10_000.0, sign=-1) == 2_800.0
    with pytest.raises(ValueError, match="has no zone"):
        parse_moment("2026-11-23T04:00", now=0.0)
    with pytest.raises(ValueError, match="is no moment"):
        parse_moment("tomorrow", now=0.0)


NOW = datetime(2026, 3, 28, 22, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "sign", "meant"),
    [
        ("2026-11-23T04:00 Asia/Shanghai", 1, "2026-11-22T20:00+00:00"),
        ("2026-11-23 04:00[Asia/Shanghai]", 1, "2026-11-22T20:00+00:00"),
        ("04:00+08:00", 1, "2026-03-29T20:00+00:00"),
        ("23:30Z", 1, "2026-03-28T23:30+00:00"),
        ("21:00Z", 1, "2026-03-29T21:00+00:00"),
        ("21:00Z", -1, "2026-03-28T21:00+00:00"),
        ("23:30Z", -1, "2026-03-27T23:30+00:00"),
        ("03:00 Europe/Berlin", 1, "2026-03-29T01:00+00:00"),
    ],
)
def test_times_of_day_and_named_zones_are_read(text: str, sign: int, meant: str) -> None:
    """A time of day is the next one, or the last one where we look back; zones have names."""
    assert parse_moment(text, now=NOW, sign=sign) == datetime.fromisoformat(meant).timestamp()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2026-03-29T02:30 Europe/Berlin", "does not exist: clocks in Europe/Berlin are set for"),
        ("02:30 Europe/Berlin", "does not exist"),
        ("2026-10-25T02:30 Europe/Berlin", r"comes twice.*say \+02:00 or \+01:00"),
        ("04:00", "has no zone"),
        ("25:00Z", "is no time of day"),
        ("04:00 Nowhere/Atall", "there is no zone 'Nowhere/Atall' here"),
        ("2026-11-23T04:00+08:00 Asia/Tokyo", "has an offset and a zone"),
    ],
)
def test_times_that_mean_nothing_or_two_things_are_refused(text: str, words: str) -> None:
    """What a zone skips or has twice is an error that says what to write instead."""
    with pytest.raises(ValueError, match=words):
        parse_moment(text, now=NOW)
