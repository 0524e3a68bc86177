"""How a document of settings is read: tables of keys, values that say what is wrong with them.

A value's reader takes what TOML gave and returns what it means, or raises ValueError with words for
the operator. A `Walk` goes through a document with such readers and collects every mistake.
"""

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

from orchestrator.span import parse_span

Reader: TypeAlias = Callable[[Any], Any]
"""Reads one value, or raises ValueError with words for the operator."""

Keys: TypeAlias = Mapping[str, tuple[str, Reader]]
"""Key of a table → the field it sets, and who reads it."""


class Walk:
    """One walk over a document, collecting what is wrong with it."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []

    def section(
        self,
        values: Mapping[str, object],
        keys: Keys,
        where: str,
        changes: dict[str, Any],
        *,
        many: Collection[str] = (),
        also: Collection[str] = (),
    ) -> None:
        """Read a table into `changes`, field by field.

        Args:
            values: the table.
            keys: its keys.
            where: where it stands, for mistakes.
            changes: what was read, by field.
            many: fields that many keys fill together.
            also: keys that somebody else reads.
        """
        self.check_names(values, (*keys, *also), where)
        for key, value in values.items():
            if key not in keys:
                continue
            field, read = keys[key]
            found = self.attempt(read, value, where + key)
            if field in many:
                changes[field] = (*changes.get(field, ()), *((found,) if found else ()))
            else:
                changes[field] = found

    def attempt(self, read: Reader, value: object, where: str) -> Any:
        """Return what a value means; None, and one mistake more, if it means nothing."""
        try:
            return read(value)
        except ValueError as exc:
            self.mistakes.append(f"{where}: {exc}")
            return None

    def check_names(self, table: Mapping[str, object], known: Iterable[str], where: str) -> None:
        """Note every key of a table that is not known, with the nearest one that is."""
        names = list(known)
        for name in table:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
                hint = f"did you mean {near[0]}?" if near else f"use {either(['', *names])[2:]}"
                self.mistakes.append(f"{where}{name}: unknown; {hint}")


NamedT = TypeVar("NamedT", bound=StrEnum)


def named(kind: type[NamedT], name: object) -> NamedT:
    """Read one of several names."""
    names = [member.value for member in kind]
    if name not in names:
        raise ValueError(f"{name!r} is not known; use {either(names)}")
    return kind(name)


def flag(value: object) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is not true or false")  # noqa: TRY004  # one kind to collect
    return value


def text(value: object) -> str:
    """Read a text."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text; put it in quotes")  # noqa: TRY004  # as above
    return value


def span(value: object) -> float:
    """Read a span of time, as seconds."""
    return parse_span(text(value))


def span_or_none(value: object) -> float | None:
    """Read a span of time, or `none`."""
    return None if value == "none" else span(value)


def count(value: object) -> int:
    """Read a whole number, at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{value!r} is not a whole number, at least 1")
    return value


def is_count(value: object) -> bool:
    """Whether a value is a whole number, at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def either(names: Iterable[str]) -> str:
    """Write names as a choice: `a, b or c`."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
