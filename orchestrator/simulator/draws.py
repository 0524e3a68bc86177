"""Chance that can be repeated: numbers drawn from a hash of what they are for.

Nothing is consumed by drawing, so the order in which clusters are called changes nobody's luck.
"""

import hashlib
import struct
from collections.abc import Iterable
from typing import TypeAlias

_WORDS = struct.Struct("<8Q")
_STEP = 2.0**-53


_BETWEEN = "\x1f"

Numbers: TypeAlias = tuple[float, float, float, float, float, float, float, float]
"""Independent of each other, each in [0, 1)."""


class Luck:
    """Draws whose keys begin alike; what they begin with is written out once."""

    __slots__ = ("_start",)

    def __init__(self, *start: object) -> None:
        self._start = _text(start) + _BETWEEN

    def draw(self, *rest: object) -> Numbers:
        """Return the numbers that belong to the whole key for ever."""
        return _numbers(self._start + _text(rest))


def draw(*key: object) -> Numbers:
    """Return eight independent numbers in [0, 1) that belong to `key` for ever."""
    return _numbers(_text(key))


def _text(key: Iterable[object]) -> str:
    return _BETWEEN.join(map(str, key))


def _numbers(text: str) -> Numbers:
    digest = hashlib.blake2b(text.encode()).digest()
    one, two, three, four, five, six, seven, eight = _WORDS.unpack(digest)
    return (
        (one >> 11) * _STEP,
        (two >> 11) * _STEP,
        (three >> 11) * _STEP,
        (four >> 11) * _STEP,
        (five >> 11) * _STEP,
        (six >> 11) * _STEP,
        (seven >> 11) * _STEP,
        (eight >> 11) * _STEP,
    )


def hexadecimal(*key: object) -> str:
    """Return 32 hex digits that belong to `key` for ever, as ids of the service look."""
    return hashlib.blake2b(_text(key).encode(), digest_size=16).hexdigest()


def identity(*key: object) -> str:
    """Return an id of the form 8-4-4-4-12 that belongs to `key` for ever."""
    digits = hexadecimal(*key)
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
