"""Fleet files, standard input, a report of ours → the targets of a run.

Rules:

- Every mistake of every file is found in one go, each with file, line, field and what to do.
- The same pair again, saying the same, is collapsed and counted. Contradictions are mistakes.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

from orchestrator.errors import FleetError
from orchestrator.fleet.documents import (
    DECODER,
    NOT_A_REPORT,
    json_items,
    jsonl_items,
    yaml_items,
)
from orchestrator.fleet.entries import target_of
from orchestrator.fleet.formats import Format, format_by_suffix
from orchestrator.fleet.mistakes import EntryError, Item, Mistake, Raw, UnreadableError
from orchestrator.fleet.tables import csv_items, txt_items
from orchestrator.model import WHOLE, Kind, Outcome, Target

STDIN = "-"
"""The source that means standard input."""


class Readable(Protocol):
    """Standard input, or anything else that is read once, as text or as bytes."""

    def read(self) -> str | bytes:
        """Return everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All targets, in the order of their first mention."""

    targets: tuple[Target, ...]
    source: tuple[str, ...]
    """The paths as they were given; `-` is standard input."""
    collapsed: int
    """How many entries named a pair once more and were left out for that."""


def read_fleet(
    sources: Sequence[str],
    *,
    stdin: Readable,
    format_: Format | None = None,
    only: frozenset[Outcome] | None = None,
    kind: Kind = WHOLE,
) -> Fleet:
    """Read all `sources` as one fleet.

    Args:
        sources: paths; `-` is standard input.
        stdin: what `-` reads.
        format_: how every source is written; without it the suffix decides, and for standard input
            what it begins with.
        only: for a report of ours, which must have it: the outcomes whose targets are taken.
        kind: the kind of restart for targets that name none.

    Raises:
        FleetError: with every mistake of every source, or because there is no target at all.
    """
    gathered = _Gathered(kind)
    for position, source in enumerate(sources):
        if source == STDIN and STDIN in sources[:position]:
            gathered.note(_title(source), None, Mistake(_TWICE_STDIN))
            continue
        for line, item in _items_of(source, stdin, format_, only):
            gathered.take(_title(source), line, item)
    if gathered.mistakes:
        raise _refusal(gathered.mistakes)
    if not gathered.targets:
        raise FleetError("the fleet is empty; nothing was sent", _why_empty(sources, only))
    return Fleet(targets=gathered.targets, source=tuple(sources), collapsed=gathered.collapsed)


_TWICE_STDIN = "is named twice, but can be read only once; name it once"


def _title(source: str) -> str:
    return "standard input" if source == STDIN else source


def _place(file: str, line: int | None) -> str:
    return file if line is None else f"{file}, line {line}"


_MOST_PRINTED = 200
"""Mistakes in the text of an error; a file read in the wrong format has one on every line."""


def _refusal(mistakes: Sequence[str]) -> FleetError:
    """Return the error that holds all mistakes; its text names the first of them."""
    count = len(mistakes)
    heading = f"the fleet has {count} mistake{'s' if count > 1 else ''}; nothing was sent"
    error = FleetError(heading, mistakes)
    if count > _MOST_PRINTED:
        printed = [f"  {mistake}" for mistake in mistakes[:_MOST_PRINTED]]
        error.args = ("\n".join((heading, *printed, f"  … and {count - _MOST_PRINTED} more")),)
    return error


def _why_empty(sources: Sequence[str], only: frozenset[Outcome] | None) -> list[str]:
    if not sources:
        return ["no file was named; name one, or - for standard input"]
    if only is None:
        return [f"{_title(source)}: holds no target; add one" for source in sources]
    asked = ", ".join(outcome for outcome in Outcome if outcome in only) or "nothing"
    return [
        f"{_title(source)}: holds no target that --only takes ({asked}); name other outcomes"
        for source in sources
    ]


@dataclass(frozen=True, slots=True)
class _First:
    """Where a cluster was named first."""

    target: Target
    file: str
    line: int | None


class _Gathered:
    """Targets, duplicates and mistakes of all sources so far."""

    def __init__(self, kind: Kind) -> None:
        self.mistakes: list[str] = []
        self.collapsed = 0
        self._kind = kind
        self._first: dict[str, _First] = {}

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(first.target for first in self._first.values())

    def note(self, file: str, line: int | None, mistake: Mistake) -> None:
        """Keep a mistake, with its place."""
        place = _place(file, line)
        place = f"{place}, {mistake.where}" if mistake.where else place
        self.mistakes.append(f"{place}: {mistake.text}")

    def take(self, file: str, line: int | None, item: Raw | Mistake) -> None:
        """Take in what stands on a line."""
        if isinstance(item, Mistake):
            self.note(file, line, item)
            return
        try:
            target = target_of(item, self._kind)
        except EntryError as error:
            for mistake in error.mistakes:
                self.note(file, line, mistake)
            return
        first = self._first.setdefault(target.cluster_id, _First(target, file, line))
        if first.target is target:
            return
        if first.target == target:
            self.collapsed += 1
        else:
            self.note(file, line, _contradiction(target, first))


def _contradiction(target: Target, first: _First) -> Mistake:
    """Say how an entry contradicts the one that named its cluster first."""
    there = _place(first.file, first.line)
    if target.project_id != first.target.project_id:
        return Mistake(
            f"cluster {target.cluster_id} is under project {target.project_id} here and under "
            f"{first.target.project_id} in {there}; it is in one project, remove the other entry",
            "field project_id",
        )
    differ = [
        field.name
        for field in fields(Target)
        if getattr(target, field.name) != getattr(first.target, field.name)
    ]
    return Mistake(
        f"{target} stands in {there} too, with other words for {', '.join(differ)}; "
        f"make both say the same, or remove one",
        f"field {differ[0]}",
    )


def _items_of(
    source: str, stdin: Readable, format_: Format | None, only: frozenset[Outcome] | None
) -> Iterator[Item]:
    """Yield the entries and mistakes of one source."""
    try:
        shape = format_ or _format_by_name(source)
        text = _decoded(_content(source, stdin))
        yield from _items_in(text, shape or _format_by_content(text), only)
    except UnreadableError as error:
        yield error.line, error.mistake
    except RecursionError:
        yield None, Mistake("is nested too deeply; a fleet is a list of plain entries")


def _items_in(text: str, shape: Format, only: frozenset[Outcome] | None) -> Iterator[Item]:
    if only is not None and shape not in {Format.JSON, Format.YAML}:
        raise UnreadableError(NOT_A_REPORT)
    match shape:
        case Format.JSON:
            return json_items(text, only)
        case Format.YAML:
            return yaml_items(text, only)
        case Format.CSV:
            return csv_items(text)
        case Format.TXT:
            return txt_items(text)
        case Format.JSONL:  # pragma: no branch - every format has a case
            return jsonl_items(text)


def _format_by_name(source: str) -> Format | None:
    """Return the format that the suffix names; None for standard input, which has none."""
    try:
        return None if source == STDIN else format_by_suffix(source)
    except ValueError as error:
        raise UnreadableError(str(error)) from None


def _content(source: str, stdin: Readable) -> bytes:
    try:
        if source != STDIN:
            return Path(source).read_bytes()
        # A text stream would decode by the locale, and the fleet is UTF-8 wherever it is read.
        stream: Readable = getattr(stdin, "buffer", stdin)
        found = stream.read()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UnreadableError(
            f"cannot be read: {why}; check the name and the permissions"
        ) from error
    return found if isinstance(found, bytes) else found.encode(errors="surrogatepass")


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise UnreadableError(
            f"the byte 0x{byte:02x} is not UTF-8; save the file as UTF-8", line
        ) from error


def _format_by_content(text: str) -> Format:
    """Tell how standard input is written by what it begins with."""
    start = text.lstrip()
    if start[:1] in {"{", "["}:
        return _json_or_lines(start)
    header = start.partition("\n")[0].split(",")
    columns = {column.strip().strip('"') for column in header}
    return Format.CSV if "project_id" in columns else Format.TXT


def _json_or_lines(start: str) -> Format:
    """Tell one json document from one json value a line."""
    first_line = start.partition("\n")[0].rstrip()
    try:
        value, end = DECODER.raw_decode(start)
    except json.JSONDecodeError as error:
        # One bad line among lines: it is closed like an entry, and the mistake lies within.
        is_closed = error.pos < len(first_line) and first_line.endswith(("}", "]"))
        return Format.JSONL if is_closed and "\n" in start.rstrip() else Format.JSON
    is_single_line = "\n" not in start.rstrip() and _is_entry(value)
    return Format.JSONL if start[end:].strip() or is_single_line else Format.JSON


def _is_entry(value: object) -> bool:
    if isinstance(value, dict):
        return "targets" not in value
    return isinstance(value, list) and [type(part) for part in value] == [str, str]
