"""Spans of time as operators write them: `90s`, `10m`, `1h30m`, `100ms`; inside, float seconds."""

import re

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
