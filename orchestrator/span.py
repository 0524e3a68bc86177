"""Times as operators write them; inside, float seconds.

A span is `90s`, `10m`, `1h30m`, `100ms`. A moment carries its zone, or is a span from now; a local
time that its zone skips, or has twice, is refused.
"""

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")
_ZONED = re.compile(r"(?P<time>.*\d)\s*(?:\[|\s)(?P<zone>[A-Za-z][\w+/-]*)\]?")
_TIME_OF_DAY = re.compile(r"\d{1,2}:")
_ANY_DAY = date(2026, 1, 15)
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

    A time of day is the next one from `now` on, or the last one before it where `sign` looks back.

    Args:
        text: `2026-11-23T04:00+08:00`, `2026-11-23T04:00 Asia/Shanghai`, `04:00+08:00`, or a span
            such as `2h`.
        now: the moment from which a span counts.
        sign: 1 if the moment lies ahead, -1 if it lies behind.

    Raises:
        ValueError: with words for the operator.
    """
    try:
        return now + sign * parse_span(text)
    except ValueError:
        pass
    local, zone = _split_zone(text.strip())
    if _TIME_OF_DAY.match(local):
        return _time_of_day(text, local, zone, now, sign)
    try:
        moment = datetime.fromisoformat(local)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no moment; write it like 2026-11-23T04:00+08:00, 04:00+08:00 or "
            "2026-11-23T04:00 Asia/Shanghai, or as a span like 2h"
        ) from error
    return _in_zone(text, moment, zone).timestamp()


def _split_zone(text: str) -> tuple[str, str | None]:
    """Split the name of a zone from a time: `04:00 Europe/Berlin`, `04:00[Europe/Berlin]`."""
    found = _ZONED.fullmatch(text)
    return (found["time"], found["zone"]) if found else (text, None)


def _in_zone(text: str, moment: datetime, zone: str | None) -> datetime:
    if zone is None:
        if moment.tzinfo is None:
            raise ValueError(f"{text!r} has no zone; add one, like +08:00, Z or Asia/Shanghai")
        return moment
    if moment.tzinfo is not None:
        raise ValueError(f"{text!r} has an offset and a zone; keep one of them")
    try:
        info = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"{text!r}: there is no zone {zone!r} here; write it like Asia/Shanghai, or use an "
            "offset like +08:00"
        ) from error
    first, second = (moment.replace(tzinfo=info, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first
    if first.astimezone(UTC).astimezone(info).replace(tzinfo=None) != moment:
        raise ValueError(
            f"{text!r} does not exist: clocks in {zone} are set forward across it; "
            "choose another time, or use an offset like +01:00"
        )
    offsets = " or ".join(f"{each:%z}"[:3] + ":" + f"{each:%z}"[3:] for each in (first, second))
    raise ValueError(f"{text!r} comes twice, as clocks in {zone} are set back; say {offsets}")


def _time_of_day(text: str, local: str, zone: str | None, now: float, sign: int) -> float:
    try:
        clock = time.fromisoformat(local)
    except ValueError as error:
        raise ValueError(f"{text!r} is no time of day; write it like 04:00+08:00") from error
    here = datetime.fromtimestamp(now, _zone_of(text, clock, zone))
    # By the wall clock there: the day is chosen before it is asked whether that day has the time.
    is_today = (clock.replace(tzinfo=None) >= here.time()) == (sign > 0)
    day = here.date() if is_today else here.date() + timedelta(days=sign)
    return _in_zone(text, datetime.combine(day, clock), zone).timestamp()


def _zone_of(text: str, clock: time, zone: str | None) -> tzinfo:
    """Return the zone by whose calendar a time of day is meant."""
    found = _in_zone(text, datetime.combine(_ANY_DAY, clock), zone).tzinfo
    assert found is not None  # noqa: S101 - `_in_zone` refuses a time without
    return found


def format_moment(at: float) -> str:
    """Write a moment of the wall clock, given in seconds since 1970: `2026-11-23T20:00:00Z`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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
