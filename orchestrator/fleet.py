"""Fleet files (csv, txt, json, jsonl, yaml, a report of ours) → targets; and targets → fleet text.

Rules:

- Every mistake of every file is found in one go, each with file, line, field and what to do.
- A scalar is text *as written*: a bare `007` in yaml and a bare `1e3` in json stay what they are,
  for ids that happen to look like numbers must not change.
- Spaces around a value mean nothing, and an empty value is an absent one, in every format alike:
  `az=" a"` and `az="a"` would otherwise be two scopes of one limit. So it is with names of columns.
- Whatever is printed or put into an address is checked here: ids and regions are plain words, other
  values are printable.
- The same pair again, saying the same, is collapsed and counted. Contradictions are mistakes.
"""

import csv
import difflib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum, StrEnum
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Protocol

import yaml

from orchestrator.errors import FleetError
from orchestrator.model import WHOLE, Kind, Outcome, Target

STDIN = "-"
"""The source that means standard input."""


class Format(StrEnum):
    """How a fleet is written; `jsonl` is one json value a line."""

    CSV = "csv"
    TXT = "txt"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"


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
            gathered.note(_title(source), None, _Mistake(_TWICE_STDIN))
            continue
        for line, item in _items_of(source, stdin, format_, only):
            gathered.take(_title(source), line, item)
    if gathered.mistakes:
        raise _refusal(gathered.mistakes)
    if not gathered.targets:
        raise FleetError("the fleet is empty; nothing was sent", _why_empty(sources, only))
    return Fleet(targets=gathered.targets, source=tuple(sources), collapsed=gathered.collapsed)


def write_fleet(targets: Iterable[Target], format_: Format) -> str:
    """Return `targets` as a fleet file that `read_fleet` takes.

    The plain form holds nothing but the pairs (names become comments); all others hold everything.
    A label whose name is not one (see `is_label`) is written, but is a mistake when read.
    """
    match format_:
        case Format.CSV:
            return _csv_text(tuple(targets))
        case Format.TXT:
            return "".join(map(_txt_line, targets))
        case Format.JSON:
            lines = ",\n".join(f" {_json_line(target)}" for target in targets)
            return f"[\n{lines}\n]\n" if lines else "[]\n"
        case Format.JSONL:
            return "".join(f"{_json_line(target)}\n" for target in targets)
        case Format.YAML:  # pragma: no branch - every format has a case
            return yaml.dump(
                [_plain(target) for target in targets],
                Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper),
                allow_unicode=True,
                sort_keys=False,
            )


def format_by_suffix(path: str) -> Format:
    """Return the format that a file of this name has.

    Raises:
        ValueError: the suffix names none.
    """
    suffix = PurePath(path).suffix
    try:
        return _SUFFIXES[suffix.lower()]
    except KeyError:
        raise ValueError(
            f"the suffix {suffix!r} names no format; use --format with one of {', '.join(Format)}"
        ) from None


def is_id(text: str) -> bool:
    """Whether `text` can be the id of a project or a cluster."""
    return _WORD.fullmatch(text) is not None


def is_label(name: str) -> bool:
    """Whether a label may be called `name`: the name of a scope that is not taken already."""
    return _label_problem(name) is None


# -------------------------------------------------------------------------------- mistakes, places


@dataclass(frozen=True, slots=True)
class _Mistake:
    """What was found, and what to do; `where` narrows the line down: `field region`, `column 7`."""

    text: str
    where: str | None = None


_Raw = Mapping[str, object]
"""An entry as a format yields it: text, None for an absent value, or something nested."""

_Item = tuple[int | None, _Raw | _Mistake]
"""A line, if there is one, and what stands there."""


class _Oddity(Enum):
    """A value that is none; yaml and json let it stand where one should be."""

    TWICE = "is given twice; keep one of the two"
    NESTED = "holds something nested; write a single value"
    ANCHORLESS = "refers to an anchor that stands nowhere above it; write the value here"


class _UnreadableError(Exception):
    """A source of which nothing, or nothing more, can be read."""

    def __init__(self, text: str, line: int | None = None, where: str | None = None) -> None:
        self.line = line
        self.mistake = _Mistake(text, where)
        super().__init__(text)


class _EntryError(Exception):
    """All mistakes of one entry."""

    def __init__(self, mistakes: Sequence[_Mistake]) -> None:
        self.mistakes = mistakes
        super().__init__()


_TWICE_STDIN = "is named twice, but can be read only once; name it once"
_NOT_A_REPORT = "--only chooses outcomes of a report, and this is none; leave it out, or give one"


def _title(source: str) -> str:
    return "standard input" if source == STDIN else source


def _place(file: str, line: int | None) -> str:
    return file if line is None else f"{file}, line {line}"


def _shown(value: object, most: int = 60) -> str:
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

    def note(self, file: str, line: int | None, mistake: _Mistake) -> None:
        """Keep a mistake, with its place."""
        place = _place(file, line)
        place = f"{place}, {mistake.where}" if mistake.where else place
        self.mistakes.append(f"{place}: {mistake.text}")

    def take(self, file: str, line: int | None, item: _Raw | _Mistake) -> None:
        """Take in what stands on a line."""
        if isinstance(item, _Mistake):
            self.note(file, line, item)
            return
        try:
            target = _target_of(item, self._kind)
        except _EntryError as error:
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


def _contradiction(target: Target, first: _First) -> _Mistake:
    """Say how an entry contradicts the one that named its cluster first."""
    there = _place(first.file, first.line)
    if target.project_id != first.target.project_id:
        return _Mistake(
            f"cluster {target.cluster_id} is under project {target.project_id} here and under "
            f"{first.target.project_id} in {there}; it is in one project, remove the other entry",
            "field project_id",
        )
    differ = [
        field.name
        for field in fields(Target)
        if getattr(target, field.name) != getattr(first.target, field.name)
    ]
    return _Mistake(
        f"{target} stands in {there} too, with other words for {', '.join(differ)}; "
        f"make both say the same, or remove one",
        f"field {differ[0]}",
    )


# --------------------------------------------------------------------------------- one raw entry

_FIELDS = ("project_id", "cluster_id", "name", "region", "kind", "wave")
_RESERVED = frozenset((*_FIELDS, "project", "fleet", "labels"))

_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Ids and regions: they become part of addresses."""

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
"""Labels are scopes of limits, and are written like them."""


def _target_of(raw: _Raw, kind: Kind) -> Target:
    """Return the target that an entry describes; of this kind, if it names none.

    Raises:
        _EntryError: with every mistake in it.
    """
    mistakes: list[_Mistake] = []
    target = Target(
        project_id=_id(raw, "project_id", mistakes),
        cluster_id=_id(raw, "cluster_id", mistakes),
        name=_text(raw.get("name"), "name", mistakes),
        region=_region(raw.get("region"), mistakes),
        kind=_kind(raw.get("kind"), kind, mistakes),
        wave=_text(raw.get("wave"), "wave", mistakes),
        labels=_labels(raw, mistakes),
    )
    if mistakes:
        raise _EntryError(mistakes)
    return target


def _id(raw: _Raw, field: str, mistakes: list[_Mistake]) -> str:
    value = raw.get(field)
    if isinstance(value, str):
        value = value.strip()
        if _WORD.fullmatch(value):
            return value
    if isinstance(value, _Oddity):
        mistakes.append(_Mistake(value.value, f"field {field}"))
    elif value is None or value == "":
        mistakes.append(_Mistake(f"is missing; every target needs a {field}", f"field {field}"))
    else:
        text = f"found {_shown(value)}; an id is 1 to 64 of the characters A-Z a-z 0-9 _ -"
        mistakes.append(_Mistake(text, f"field {field}"))
    return ""


def _text(value: object, field: str, mistakes: list[_Mistake]) -> str | None:
    """Return a value as text, without spaces around it; None if it is absent or a mistake."""
    match value:
        case None:
            return None
        case str():
            text = value.strip()
            if text.isprintable():
                return text or None
            problem = f"found {_shown(value)}; remove the characters that cannot be printed"
        case bool():
            return "true" if value else "false"
        case _Oddity():
            problem = value.value
        case _:
            problem = f"found {_shown(value)}; write a single value"
    mistakes.append(_Mistake(problem, f"field {field}"))
    return None


def _region(value: object, mistakes: list[_Mistake]) -> str | None:
    region = _text(value, "region", mistakes)
    if region is not None and not _WORD.fullmatch(region):
        text = f"found {_shown(region)}; a region is a word such as cn-north-4"
        mistakes.append(_Mistake(text, "field region"))
    return region


def _kind(value: object, usual: Kind, mistakes: list[_Mistake]) -> Kind:
    text = _text(value, "kind", mistakes)
    if text is None:
        return usual
    try:
        return Kind.parse(text)
    except ValueError as error:
        mistakes.append(_Mistake(str(error), "field kind"))
        return WHOLE


def _labels(raw: _Raw, mistakes: list[_Mistake]) -> tuple[tuple[str, str], ...]:
    """Return the labels of an entry, in the order of their names."""
    found: dict[str, str] = {}
    for key, value in raw.items():
        if key in _FIELDS or key == "labels":
            continue
        problem = _label_problem(key) or _misspelling(key, raw)
        if problem:
            mistakes.append(_Mistake(problem, f"field {_field_name(key)}"))
        _add_label(found, key, value, mistakes)
    inner = raw.get("labels")
    if isinstance(inner, dict):
        for key, value in inner.items():
            problem = _label_problem(key)
            if problem:
                mistakes.append(_Mistake(problem, f"field labels.{_field_name(key)}"))
            _add_label(found, key, value, mistakes)
    elif inner is not None:
        odd = inner.value if isinstance(inner, _Oddity) else None
        text = odd or f"found {_shown(inner)}; write an object of names and values"
        mistakes.append(_Mistake(text, "field labels"))
    return tuple(sorted(found.items()))


def _add_label(found: dict[str, str], key: str, value: object, mistakes: list[_Mistake]) -> None:
    text = _text(value, _field_name(key), mistakes)
    if text is None:
        return
    if found.setdefault(key, text) != text:
        mistakes.append(
            _Mistake("differs inside and outside of labels; keep one", f"field {_field_name(key)}")
        )


@lru_cache(maxsize=4096)
def _field_name(key: str) -> str:
    """Return a key as it is named in a mistake: bare if it is a plain word."""
    return key if _WORD.fullmatch(key) else _shown(key)


@lru_cache(maxsize=4096)
def _label_problem(key: str) -> str | None:
    """Return why nothing can be called `key`, or None."""
    for field in _FIELDS:
        if key != field and _squeezed(key) == _squeezed(field):
            return f"is no field; the nearest is {field}, write it exactly so"
    if key == "project":
        return "is no field; the nearest is project_id, write it exactly so"
    if key in _RESERVED:
        return f"is no label, {key} means something else already; choose another name"
    if not _LABEL.fullmatch(key):
        return "is no label; a name is of A-Z a-z 0-9 _ . - and begins with a letter or _"
    return None


def _squeezed(key: str) -> str:
    return re.sub(r"[\W_]", "", key.casefold())


def _misspelling(key: str, present: Iterable[str]) -> str | None:
    """Return words about the absent field that `key` resembles, or None.

    Otherwise a `regoin` would be a label, and its targets would be looked for somewhere else.
    """
    field = _nearest(key)
    if field is None or field in present:
        return None
    return f"is no field; the nearest is {field}, write that, or give a label another name"


@lru_cache(maxsize=4096)
def _nearest(key: str) -> str | None:
    near = difflib.get_close_matches(key.strip().casefold(), _FIELDS, n=1, cutoff=0.8)
    return near[0] if near else None


# -------------------------------------------------------------------------------- one whole source

_SUFFIXES = {
    ".csv": Format.CSV,
    ".txt": Format.TXT,
    ".json": Format.JSON,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".yaml": Format.YAML,
    ".yml": Format.YAML,
}


def _items_of(
    source: str, stdin: Readable, format_: Format | None, only: frozenset[Outcome] | None
) -> Iterator[_Item]:
    """Yield the entries and mistakes of one source."""
    try:
        shape = format_ or _format_by_name(source)
        text = _decoded(_content(source, stdin))
        yield from _items_in(text, shape or _format_by_content(text), only)
    except _UnreadableError as error:
        yield error.line, error.mistake
    except RecursionError:
        yield None, _Mistake("is nested too deeply; a fleet is a list of plain entries")


def _items_in(text: str, shape: Format, only: frozenset[Outcome] | None) -> Iterator[_Item]:
    if only is not None and shape not in {Format.JSON, Format.YAML}:
        raise _UnreadableError(_NOT_A_REPORT)
    match shape:
        case Format.JSON:
            return _json_items(text, only)
        case Format.YAML:
            return _yaml_items(text, only)
        case Format.CSV:
            return _csv_items(text)
        case Format.TXT:
            return _txt_items(text)
        case Format.JSONL:  # pragma: no branch - every format has a case
            return _jsonl_items(text)


def _format_by_name(source: str) -> Format | None:
    """Return the format that the suffix names; None for standard input, which has none."""
    try:
        return None if source == STDIN else format_by_suffix(source)
    except ValueError as error:
        raise _UnreadableError(str(error)) from None


def _content(source: str, stdin: Readable) -> bytes:
    try:
        if source != STDIN:
            return Path(source).read_bytes()
        # A text stream would decode by the locale, and the fleet is UTF-8 wherever it is read.
        stream: Readable = getattr(stdin, "buffer", stdin)
        found = stream.read()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise _UnreadableError(
            f"cannot be read: {why}; check the name and the permissions"
        ) from error
    return found if isinstance(found, bytes) else found.encode(errors="surrogatepass")


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise _UnreadableError(
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
        value, end = _DECODER.raw_decode(start)
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


# ------------------------------------------------------------------------------------- csv, txt


def _csv_items(text: str) -> Iterator[_Item]:
    records = _csv_records(text)
    line, header = next(records, (1, None))
    if not isinstance(header, list):
        if header is not None:
            yield line, header
        return
    columns, mistakes = _columns([name.strip() for name in header])
    for mistake in mistakes:
        yield line, mistake
    if not {"project_id", "cluster_id"}.issubset(columns):
        return
    for at, row in records:
        if isinstance(row, _Mistake):
            yield at, row
        elif len(row) == len(columns):
            yield at, {key: cell for key, cell in zip(columns, row, strict=True) if key}
        else:
            yield (
                at,
                _Mistake(
                    f"found {len(row)} fields for {len(columns)} columns; "
                    "add or remove commas, or quote a value that has one"
                ),
            )


def _csv_records(text: str) -> Iterator[tuple[int, list[str] | _Mistake]]:
    """Yield each record that is not blank, with the line on which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    while True:
        try:
            for row in reader:
                if any(map(str.strip, row)):
                    yield line, row
                line = reader.line_num + 1
            return
        except csv.Error as error:
            yield line, _Mistake(f"cannot be split into fields ({error}); check its quotes")
            line = reader.line_num + 1


def _columns(header: list[str]) -> tuple[list[str], list[_Mistake]]:
    """Return what each column holds, empty for one to be left out, and the mistakes in the header.

    A misspelt field is taken for what was meant, so that mistakes below it are found in one go.
    """
    columns: list[str] = []
    mistakes: list[_Mistake] = []
    for number, name in enumerate(header, 1):
        problem = _column_problem(name, header[: number - 1], header)
        if problem:
            mistakes.append(_Mistake(f"{_shown(name)} {problem}", f"column {number}"))
            meant = _nearest(name) or ""
            columns.append("" if meant in header or meant in columns else meant)
        else:
            columns.append(name)
    lacking = [field for field in ("project_id", "cluster_id") if field not in columns]
    if lacking:
        is_other = any(mark in header[0] for mark in ";\t|")
        advice = "separate columns with commas" if is_other else "name it in the first line"
        mistakes.append(_Mistake(f"there is no column {' and no '.join(lacking)}; {advice}"))
    return columns, mistakes


def _column_problem(name: str, before: list[str], header: list[str]) -> str | None:
    if name in before:
        return "is there twice; keep one of the two"
    if name in _FIELDS:
        return None
    if not name:
        return "is no name; name the column, or remove it from every line"
    return _label_problem(name) or _misspelling(name, header)


def _txt_items(text: str) -> Iterator[_Item]:
    for line, content in _lines(text):
        pair = content.partition("#")[0].strip()
        project_id, slash, cluster_id = pair.partition("/")
        if slash:
            yield line, {"project_id": project_id, "cluster_id": cluster_id}
        elif pair:
            hint = "name another format with --format" if "," in pair or ":" in pair else ""
            advice = f"write project/cluster{' or ' if hint else ''}{hint}"
            yield line, _Mistake(f"found {_shown(pair)}; {advice}")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that an editor counts; `splitlines` also splits at rarer characters."""
    return enumerate(io.StringIO(text, newline=None), 1)


# ------------------------------------------------------------------------------------------ json


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make a json object; a key that is there twice keeps neither value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        found.update((key, _Oddity.TWICE) for key, count in counts.items() if count > 1)
    return found


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=str, parse_float=str, parse_constant=str
)
_SKIMMER = json.JSONDecoder(parse_int=str)
"""As above, for finding where values end: what they are does not matter."""

_SPACE = re.compile(r"[ \t\r\n]*")


def _json_items(text: str, only: frozenset[Outcome] | None) -> Iterator[_Item]:
    if not text.strip():
        return
    try:
        document: object = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise _UnreadableError(
            f"is not json: {error.msg}; correct the file", error.lineno, f"column {error.colno}"
        ) from error
    yield from _document_items(document, lambda _: _element_lines(text), only)


def _jsonl_items(text: str) -> Iterator[_Item]:
    for line, content in _lines(text):
        if content.isspace():
            continue
        try:
            yield line, _entry(_DECODER.decode(content.rstrip()))
        except json.JSONDecodeError as error:
            where = f"column {error.colno}"
            yield line, _Mistake(f"is not json: {error.msg}; correct the line", where)
        except RecursionError:
            yield line, _Mistake("is nested too deeply; write a plain entry")


def _element_lines(text: str) -> Iterator[int]:
    """Yield the line on which each element begins of the fleet in `text`, which is valid json."""
    position = _fleet_start(text)
    line, counted = 1, 0
    while text[position] != "]":
        line += text.count("\n", counted, position)
        counted = position
        yield line
        position = _skip(text, _SKIMMER.raw_decode(text, position)[1])
        if text[position] == ",":
            position = _skip(text, position + 1)


def _fleet_start(text: str) -> int:
    """Return where the first element, or the closing bracket, of the list of targets stands."""
    position = _skip(text, 0)
    if text[position] == "[":
        return _skip(text, position + 1)
    while True:
        key, position = _SKIMMER.raw_decode(text, _skip(text, position + 1))
        position = _skip(text, _skip(text, position) + 1)
        if key == "targets":
            return _skip(text, position + 1)
        position = _skip(text, _SKIMMER.raw_decode(text, position)[1])


def _skip(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return space.end() if space else position


# ------------------------------------------------------------------------------------------ yaml


def _yaml_items(text: str, only: frozenset[Outcome] | None) -> Iterator[_Item]:
    document = _YamlDocument(text)
    try:
        content = document.read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, where = (mark.line + 1, f"column {mark.column + 1}") if mark else (None, None)
        text = f"is not yaml: {_yaml_problem(error)}; correct the file"
        raise _UnreadableError(text, line, where) from error
    except yaml.YAMLError as error:
        odd = yaml.reader.Reader.NON_PRINTABLE.search(text)
        line = text.count("\n", 0, odd.start()) + 1 if odd else None
        raise _UnreadableError("has a character that yaml forbids; remove it", line) from error
    if content is not None:
        yield from _document_items(content, document.lines_of, only)


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    """Return what the parser says; what was left open stands far above where it was missed."""
    problem = error.problem or "not understood"
    if error.context and error.context_mark:
        return f"{problem} {error.context} begun on line {error.context_mark.line + 1}"
    return problem


class _YamlDocument:
    """Builds a document from the parser's events: scalars as written, but for nulls.

    The loaders that come with the parser either turn scalars into numbers, or take several times
    as long; and events cannot run out of stack, however deep the text is nested. Nothing is ever
    constructed but text, lists and dicts. Below `_DEPTH` levels nothing can be part of a fleet,
    and it is left out.
    """

    _DEPTH = 4
    """A report's: document, list of targets, target, labels."""

    def __init__(self, text: str) -> None:
        loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=loader)
        self._anchors: dict[str, object] = {}
        self._lines: dict[int, list[int]] = {}

    def lines_of(self, elements: list[object]) -> Sequence[int]:
        """Return the line on which each element of a list in the document begins."""
        return self._lines[id(elements)]

    def read(self) -> object:
        """Return the content of the only document; None if there is none.

        Raises:
            yaml.YAMLError: this is not yaml.
            _UnreadableError: there is more than one document.
        """
        content: object = None
        is_first = True
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if not is_first:
                    raise _UnreadableError(
                        "a second yaml document begins; write one list", _line_of(event)
                    )
                is_first = False
                content = self._value(next(self._events), self._DEPTH)
        return content

    def _value(self, event: yaml.Event, depth: int) -> object:
        if isinstance(event, yaml.AliasEvent):
            return self._anchors.get(event.anchor or "", _Oddity.ANCHORLESS)
        value: object
        if isinstance(event, yaml.ScalarEvent):
            is_null = not event.style and event.value in _YAML_NULLS
            value = None if is_null else event.value
        elif not depth:
            self._leave_out()
            value = _Oddity.NESTED
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(depth)
        else:
            value = self._mapping(depth)
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self._anchors[anchor] = value
        return value

    def _sequence(self, depth: int) -> list[object]:
        found: list[object] = []
        lines: list[int] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            lines.append(_line_of(event))
            found.append(self._value(event, depth - 1))
        self._lines[id(found)] = lines
        return found

    def _mapping(self, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            name = self._value(event, 0)
            key = name if isinstance(name, str) else ""
            value = self._value(next(self._events), depth - 1)
            found[key] = _Oddity.TWICE if key in found else value
        return _merged(found) if _MERGE in found else found

    def _leave_out(self) -> None:
        """Pass over the rest of a list or mapping, however deep it is nested."""
        open_ = 1
        while open_:
            event = next(self._events)
            if isinstance(event, yaml.CollectionStartEvent):
                open_ += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                open_ -= 1


_MERGE = "<<"
"""The key under which yaml takes over what other mappings say."""


def _merged(mapping: dict[str, object]) -> dict[str, object]:
    """Return a mapping with what it takes over; its own words win, then those named first.

    Only mappings can be taken over; anything else stays where it stands, as the mistake it is.
    """
    taken = mapping[_MERGE]
    found = {key: value for key, value in mapping.items() if key != _MERGE}
    for other in taken if isinstance(taken, list) else [taken]:
        if not isinstance(other, dict):
            return mapping
        found = {**other, **found}
    return found


def _line_of(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


_YAML_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


# ---------------------------------------------------------------- json and yaml: fleets, reports

_REPORT_VERSION = "1"
_KEPT = ("project_id", "cluster_id", "name", "region", "labels", "kind")
"""What a report says about a target that is true of its fleet; waves are the next plan's."""


def _document_items(
    document: object,
    lines_of: Callable[[list[object]], Iterable[int]],
    only: frozenset[Outcome] | None,
) -> Iterator[_Item]:
    """Yield the entries of a list of targets, of an object that has one, or of a report."""
    is_object = isinstance(document, dict)
    elements = document.get("targets") if isinstance(document, dict) else document
    if not isinstance(elements, list):
        found = f"{_shown(document)} without a list of targets" if is_object else _shown(document)
        raise _UnreadableError(f'found {found}; write a list, or {{"targets": [a list]}}')
    if isinstance(document, dict) and "report_version" in document:
        yield from _report_items(document["report_version"], elements, lines_of(elements), only)
        return
    if only is not None:
        raise _UnreadableError(_NOT_A_REPORT)
    for line, element in zip(lines_of(elements), elements, strict=True):
        yield line, _entry(element)


def _entry(element: object) -> _Raw | _Mistake:
    """Return an entry that is written as an object, or as a pair."""
    if isinstance(element, dict):
        return element
    if isinstance(element, list) and len(element) == len(("project", "cluster")):
        return dict(zip(("project_id", "cluster_id"), element, strict=True))
    what = f"a list of {len(element)}" if isinstance(element, list) else _shown(element)
    return _Mistake(f"found {what}; a target is an object or a pair [project, cluster]")


def _report_items(
    version: object,
    elements: list[object],
    lines: Iterable[int],
    only: frozenset[Outcome] | None,
) -> Iterator[_Item]:
    """Yield the targets of a report that ended as one of `only`."""
    if version != _REPORT_VERSION:
        raise _UnreadableError(
            f"is a report of version {_shown(version)}, and this program reads version "
            f"{_REPORT_VERSION}; use the program that wrote it, or a newer one"
        )
    if only is None:
        raise _UnreadableError(
            "is a report; use --only to say which outcomes to take "
            f"(it holds {_outcomes_in(elements)})"
        )
    for line, element in zip(lines, elements, strict=True):
        outcome = _outcome_of(element)
        if outcome is None:
            text = f"is none of {', '.join(Outcome)}; was the report edited? Write it anew"
            yield line, _Mistake(text, "field outcome")
        elif outcome in only and isinstance(element, dict):
            yield line, {key: element[key] for key in _KEPT if key in element}


def _outcome_of(element: object) -> Outcome | None:
    try:
        return Outcome(str(element.get("outcome"))) if isinstance(element, dict) else None
    except ValueError:
        return None


def _outcomes_in(elements: list[object]) -> str:
    counts = Counter(map(_outcome_of, elements))
    found = [f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]]
    return ", ".join(found) or "no targets"


# --------------------------------------------------------------------------------------- writing


def _plain(target: Target) -> dict[str, object]:
    """Return a target as json and yaml write it: without what it does not have."""
    kind = None if target.kind == WHOLE else str(target.kind)
    members = {
        "project_id": target.project_id,
        "cluster_id": target.cluster_id,
        "name": target.name,
        "region": target.region,
        "kind": kind,
        "wave": target.wave,
        "labels": dict(target.labels) or None,
    }
    return {key: value for key, value in members.items() if value is not None}


def _json_line(target: Target) -> str:
    return json.dumps(_plain(target), ensure_ascii=False)


def _txt_line(target: Target) -> str:
    # A name must not break out of its comment, wherever it came from.
    name = target.name if target.name and target.name.isprintable() else None
    return f"{target}  # {name}\n" if name else f"{target}\n"


def _csv_text(targets: Sequence[Target]) -> str:
    """Return the targets under all fields, empty or not, and all labels that any of them has."""
    labels = sorted({key for target in targets for key, _ in target.labels})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*_FIELDS, *labels))
    for target in targets:
        row = {**_plain(target), **dict(target.labels)}
        writer.writerow([row.get(column, "") for column in (*_FIELDS, *labels)])
    return text.getvalue()
