"""Text for people: names, moments and spans as a terminal may show them, cut to its width.

Names come from fleet files and from the service: nothing in them reaches a terminal but letters.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # titles, links
    r"|\x1b[ -/]*[0-~]?"
)


def shown(text: str) -> str:
    """Return `text` without anything that would steer a terminal, on one line."""
    if text.isprintable():
        return text
    plain = _ESCAPE.sub("", text)
    return " ".join("".join(c if c.isprintable() else " " for c in plain).split())


def short(name: str) -> str:
    """Return an id by its first eight letters, or a short name as it is."""
    clean = shown(name)
    return clean if len(clean) <= 12 else f"{clean[:8]}…"  # noqa: PLR2004 - as short as the cut one


def clock(at: datetime) -> str:
    """Write a moment as `01:02:10Z`."""
    return f"{at.astimezone(UTC):%H:%M:%S}Z"


def spell(seconds: float) -> str:
    """Write how long something took: `61 s`, `12 min 3 s`, `1 h 40 min`."""
    whole = max(0, round(seconds))
    if whole < 100:  # noqa: PLR2004 - up to here seconds alone read best
        return f"{whole} s"
    if whole < 3600:  # noqa: PLR2004 - an hour
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def spell_until(seconds: float) -> str:
    """Write how long is still to wait; never less than it is."""
    return spell(math.ceil(seconds))


def about(seconds: float) -> str:
    """Write an estimate no finer than it is: `about 12 min`."""
    minutes = math.ceil(seconds / 60)
    if minutes <= 1:
        return "about a minute"
    return f"about {minutes} min" if minutes <= 90 else f"about {spell(minutes * 60)}"  # noqa: PLR2004


def flow(parts: Sequence[str], width: int) -> list[str]:
    """Put parts beside each other, two spaces between, onto as many lines as that takes."""
    lines: list[str] = []
    for part in parts:
        if lines and cells(lines[-1]) + 2 + cells(part) <= width:
            lines[-1] += f"  {part}"
        else:
            lines.append(part)
    return lines


def wrap(text: str, width: int, most: int) -> list[str]:
    """Break `text` between words onto at most so many lines, the later ones indented.

    What does not fit is cut, with a sign: a word that is longer than a line, or whatever is left
    over for the last one.
    """
    lines: list[str] = []
    for word in text.split(" "):
        if lines and (len(lines) == most or cells(lines[-1]) + 1 + cells(word) <= width):
            lines[-1] += f" {word}"
        else:
            lines.append(f"  {word}" if lines else word)
    return [cut(line, width) for line in lines]


def cells(text: str) -> int:
    """Return how many columns of a terminal `text` takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def cut(text: str, width: int) -> str:
    """Return as much of `text` as fits, with a sign where something is missing."""
    if cells(text) <= width:
        return text
    kept, used = [], 1
    for character in text:
        used += _width(character)
        if used > width:
            break
        kept.append(character)
    return "".join(kept) + ("…" if width > 0 else "")


def pad(text: str, width: int) -> str:
    """Return `text` in exactly so many columns."""
    fitted = cut(text, max(0, width))
    return fitted + " " * (width - cells(fitted))


def counted(count: int, noun: str) -> str:
    """Write so many of something: `1 wave`, `2 waves`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
