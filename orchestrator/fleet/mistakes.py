"""What can stand in a fleet file where something else should, and how it is said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Mistake:
    """What was found, and what to do; `where` narrows the line down: `field region`, `column 7`."""

    text: str
    where: str | None = None


Raw = Mapping[str, object]
"""An entry as a format yields it: text, None for an absent value, or something nested."""

Item = tuple[int | None, Raw | Mistake]
"""A line, if there is one, and what stands there."""


class Oddity(Enum):
    """A value that is none; yaml and json let it stand where one should be."""

    TWICE = "is given twice; keep one of the two"
    NESTED = "holds something nested; write a single value"
    ANCHORLESS = "refers to an anchor that stands nowhere above it; write the value here"


class UnreadableError(Exception):
    """A source of which nothing, or nothing more, can be read."""

    def __init__(self, text: str, line: int | None = None, where: str | None = None) -> None:
        self.line = line
        self.mistake = Mistake(text, where)
        super().__init__(text)


class EntryError(Exception):
    """All mistakes of one entry."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = mistakes
        super().__init__()


def shown(value: object, most: int = 60) -> str:
    """Return what was found, fit for one line of a terminal."""
    match value:
        case str():
            return repr(value if len(value) <= most else f"{value[:most]}…")
        case dict():
            return "an object"
        case list():
            return "a list"
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case _:
            return "something else"
