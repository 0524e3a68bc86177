"""A fleet as json, one json value a line, or yaml: a list of entries, or a report of ours.

Rules:

- A scalar is text *as written*: a bare `007` in yaml and a bare `1e3` in json stay what they are,
  for ids that happen to look like numbers must not change.
- Every entry is told with the line on which it begins.
- Of a report only those targets are taken whose outcomes are asked for.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import yaml

from orchestrator.fleet.mistakes import Item, Mistake, Oddity, Raw, UnreadableError, shown
from orchestrator.fleet.tables import lines_in
from orchestrator.model import Outcome

NOT_A_REPORT = "--only chooses outcomes of a report, and this is none; leave it out, or give one"


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make a json object; a key that is there twice keeps neither value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        found.update((key, Oddity.TWICE) for key, count in counts.items() if count > 1)
    return found


DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=str, parse_float=str, parse_constant=str
)
"""Reads scalars as they are written."""

_SKIMMER = json.JSONDecoder(parse_int=str)
"""As above, for finding where values end: what they are does not matter."""

_SPACE = re.compile(r"[ \t\r\n]*")


def json_items(text: str, only: frozenset[Outcome] | None) -> Iterator[Item]:
    """Yield what stands in a json document.

    Raises:
        UnreadableError: it is no json, or no fleet, or no report where outcomes are asked for.
    """
    if not text.strip():
        return
    try:
        document: object = DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise UnreadableError(
            f"is not json: {error.msg}; correct the file", error.lineno, f"column {error.colno}"
        ) from error
    yield from _document_items(document, lambda _: _element_lines(text), only)


def jsonl_items(text: str) -> Iterator[Item]:
    """Yield what stands on each line; a line that is no json is a mistake of its own."""
    for line, content in lines_in(text):
        if content.isspace():
            continue
        try:
            yield line, _entry(DECODER.decode(content.rstrip()))
        except json.JSONDecodeError as error:
            where = f"column {error.colno}"
            yield line, Mistake(f"is not json: {error.msg}; correct the line", where)
        except RecursionError:
            yield line, Mistake("is nested too deeply; write a plain entry")


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


def yaml_items(text: str, only: frozenset[Outcome] | None) -> Iterator[Item]:
    """Yield what stands in a yaml document.

    Raises:
        UnreadableError: it is no yaml, or no fleet, or no report where outcomes are asked for.
    """
    document = _YamlDocument(text)
    try:
        content = document.read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, where = (mark.line + 1, f"column {mark.column + 1}") if mark else (None, None)
        text = f"is not yaml: {_yaml_problem(error)}; correct the file"
        raise UnreadableError(text, line, where) from error
    except yaml.YAMLError as error:
        odd = yaml.reader.Reader.NON_PRINTABLE.search(text)
        line = text.count("\n", 0, odd.start()) + 1 if odd else None
        raise UnreadableError("has a character that yaml forbids; remove it", line) from error
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
            UnreadableError: there is more than one document.
        """
        content: object = None
        is_first = True
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if not is_first:
                    raise UnreadableError(
                        "a second yaml document begins; write one list", _line_of(event)
                    )
                is_first = False
                content = self._value(next(self._events), self._DEPTH)
        return content

    def _value(self, event: yaml.Event, depth: int) -> object:
        if isinstance(event, yaml.AliasEvent):
            return self._anchors.get(event.anchor or "", Oddity.ANCHORLESS)
        value: object
        if isinstance(event, yaml.ScalarEvent):
            is_null = not event.style and event.value in _YAML_NULLS
            value = None if is_null else event.value
        elif not depth:
            self._leave_out()
            value = Oddity.NESTED
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
            found[key] = Oddity.TWICE if key in found else value
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


_REPORT_VERSION = "1"
_KEPT = ("project_id", "cluster_id", "name", "region", "labels", "kind")
"""What a report says about a target that is true of its fleet; waves are the next plan's."""


def _document_items(
    document: object,
    lines_of: Callable[[list[object]], Iterable[int]],
    only: frozenset[Outcome] | None,
) -> Iterator[Item]:
    """Yield the entries of a list of targets, of an object that has one, or of a report."""
    is_object = isinstance(document, dict)
    elements = document.get("targets") if isinstance(document, dict) else document
    if not isinstance(elements, list):
        found = f"{shown(document)} without a list of targets" if is_object else shown(document)
        raise UnreadableError(f'found {found}; write a list, or {{"targets": [a list]}}')
    if isinstance(document, dict) and "report_version" in document:
        yield from _report_items(document["report_version"], elements, lines_of(elements), only)
        return
    if only is not None:
        raise UnreadableError(NOT_A_REPORT)
    for line, element in zip(lines_of(elements), elements, strict=True):
        yield line, _entry(element)


def _entry(element: object) -> Raw | Mistake:
    """Return an entry that is written as an object, or as a pair."""
    if isinstance(element, dict):
        return element
    if isinstance(element, list) and len(element) == len(("project", "cluster")):
        return dict(zip(("project_id", "cluster_id"), element, strict=True))
    what = f"a list of {len(element)}" if isinstance(element, list) else shown(element)
    return Mistake(f"found {what}; a target is an object or a pair [project, cluster]")


def _report_items(
    version: object,
    elements: list[object],
    lines: Iterable[int],
    only: frozenset[Outcome] | None,
) -> Iterator[Item]:
    """Yield the targets of a report that ended as one of `only`."""
    if version != _REPORT_VERSION:
        raise UnreadableError(
            f"is a report of version {shown(version)}, and this program reads version "
            f"{_REPORT_VERSION}; use the program that wrote it, or a newer one"
        )
    if only is None:
        raise UnreadableError(
            "is a report; use --only to say which outcomes to take "
            f"(it holds {_outcomes_in(elements)})"
        )
    for line, element in zip(lines, elements, strict=True):
        outcome = _outcome_of(element)
        if outcome is None:
            text = f"is none of {', '.join(Outcome)}; was the report edited? Write it anew"
            yield line, Mistake(text, "field outcome")
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
