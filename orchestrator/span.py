"""Times as operators write them; inside, float seconds.

A span is `90s`, `10m`, `1h30m`, `100ms`. A moment carries its zone, or is a span from now.
"""

import re
from datetime import datetime

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
_WHOLE = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[dhms]))+")


def parse_span(text: str) -> float:
    """Return the seconds that `text` means.

    Raises:
        ValueError: with words for the operator, when `text` is not a span.
    """
    cleaned = text.strip().lower()
    if not _WHOLE.fullmatch(cleaned):
        raise ValueError(f"{text!r} is not a span of time; write it like 90s, 10m, 1h30m or 100ms")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(cleaned))


def parse_moment(text: str, *, now: float, sign: int = 1) -> float:
    """Return the moment of the wall clock that `text` means, in seconds since 1970.

    Args:
        text: `2026-11-23T04:00+08:00`, or a span such as `2h`.
        now: the moment from which a span counts.
        sign: 1 if a span lies ahead, -1 if it lies behind.

    Raises:
        ValueError: with words for the operator.
    """
    try:
        return now + sign * parse_span(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no moment; write it like 2026-11-23T04:00+08:00, or as a span like 2h"
        ) from error
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no zone; add one, like 2026-11-23T04:00+08:00 or …Z")
    return moment.timestamp()


def format_span(seconds: float) -> str:
    """Write `seconds` the short way an operator would: `2h`, `1h30m`, `45s`, `250ms`."""
    if seconds < 1 and seconds:
        return f"{_plain(round(seconds * 1000, 3))}ms"
    parts = []
    rest = round(seconds, 3)
    for unit in ("d", "h", "m"):
        whole, rest = divmod(rest, _UNITS[unit])
        if whole:
            parts.append(f"{int(whole)}{unit}")
    rest = round(rest, 3)
    if rest or not parts:
        parts.append(f"{_plain(rest)}s")
    return "".join(parts)


def format_seconds(seconds: float) -> str:
    """Write `seconds` in the one form that limits are printed in: `600s`, `0.1s`."""
    return f"{_plain(seconds)}s"


def _plain(number: float) -> str:
    return f"{number:.6f}".rstrip("0").rstrip(".")
