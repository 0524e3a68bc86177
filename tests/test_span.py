"""Spans and moments: what operators write, and what is meant."""

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
