"""One raw entry of a fleet file → a target, or every mistake in it.

Rules:

- Spaces around a value mean nothing, and an empty value is an absent one, in every format alike:
  `az=" a"` and `az="a"` would otherwise be two scopes of one limit. So it is with names of columns.
- Whatever is printed or put into an address is checked here: ids and regions are plain words, other
  values are printable.
- A name that resembles a field that is absent is taken for it misspelt, and not for a label.
"""

import difflib
import re
from collections.abc import Iterable
from functools import lru_cache

from orchestrator.fleet.mistakes import EntryError, Mistake, Oddity, Raw, shown
from orchestrator.model import WHOLE, Kind, Target

FIELDS = ("project_id", "cluster_id", "name", "region", "kind", "wave")
"""What an entry can say besides its labels, in the order in which it is written."""

_RESERVED = frozenset((*FIELDS, "project", "fleet", "labels"))

_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Ids and regions: they become part of addresses."""

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
"""Labels are scopes of limits, and are written like them."""


def is_id(text: str) -> bool:
    """Whether `text` can be the id of a project or a cluster."""
    return _WORD.fullmatch(text) is not None


def is_label(name: str) -> bool:
    """Whether a label may be called `name`: the name of a scope that is not taken already."""
    return label_problem(name) is None


def target_of(raw: Raw, kind: Kind) -> Target:
    """Return the target that an entry describes; of this kind, if it names none.

    Raises:
        EntryError: with every mistake in it.
    """
    mistakes: list[Mistake] = []
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
        raise EntryError(mistakes)
    return target


def _id(raw: Raw, field: str, mistakes: list[Mistake]) -> str:
    value = raw.get(field)
    if isinstance(value, str):
        value = value.strip()
        if _WORD.fullmatch(value):
            return value
    if isinstance(value, Oddity):
        mistakes.append(Mistake(value.value, f"field {field}"))
    elif value is None or value == "":
        mistakes.append(Mistake(f"is missing; every target needs a {field}", f"field {field}"))
    else:
        text = f"found {shown(value)}; an id is 1 to 64 of the characters A-Z a-z 0-9 _ -"
        mistakes.append(Mistake(text, f"field {field}"))
    return ""


def _text(value: object, field: str, mistakes: list[Mistake]) -> str | None:
    """Return a value as text, without spaces around it; None if it is absent or a mistake."""
    match value:
        case None:
            return None
        case str():
            text = value.strip()
            if text.isprintable():
                return text or None
            problem = f"found {shown(value)}; remove the characters that cannot be printed"
        case bool():
            return "true" if value else "false"
        case Oddity():
            problem = value.value
        case _:
            problem = f"found {shown(value)}; write a single value"
    mistakes.append(Mistake(problem, f"field {field}"))
    return None


def _region(value: object, mistakes: list[Mistake]) -> str | None:
    region = _text(value, "region", mistakes)
    if region is not None and not _WORD.fullmatch(region):
        text = f"found {shown(region)}; a region is a word such as cn-north-4"
        mistakes.append(Mistake(text, "field region"))
    return region


def _kind(value: object, usual: Kind, mistakes: list[Mistake]) -> Kind:
    text = _text(value, "kind", mistakes)
    if text is None:
        return usual
    try:
        return Kind.parse(text)
    except ValueError as error:
        mistakes.append(Mistake(str(error), "field kind"))
        return WHOLE


def _labels(raw: Raw, mistakes: list[Mistake]) -> tuple[tuple[str, str], ...]:
    """Return the labels of an entry, in the order of their names."""
    found: dict[str, str] = {}
    for key, value in raw.items():
        if key in FIELDS or key == "labels":
            continue
        problem = label_problem(key) or misspelling(key, raw)
        if problem:
            mistakes.append(Mistake(problem, f"field {_field_name(key)}"))
        _add_label(found, key, value, mistakes)
    inner = raw.get("labels")
    if isinstance(inner, dict):
        for key, value in inner.items():
            problem = label_problem(key)
            if problem:
                mistakes.append(Mistake(problem, f"field labels.{_field_name(key)}"))
            _add_label(found, key, value, mistakes)
    elif inner is not None:
        odd = inner.value if isinstance(inner, Oddity) else None
        text = odd or f"found {shown(inner)}; write an object of names and values"
        mistakes.append(Mistake(text, "field labels"))
    return tuple(sorted(found.items()))


def _add_label(found: dict[str, str], key: str, value: object, mistakes: list[Mistake]) -> None:
    text = _text(value, _field_name(key), mistakes)
    if text is None:
        return
    if found.setdefault(key, text) != text:
        mistakes.append(
            Mistake("differs inside and outside of labels; keep one", f"field {_field_name(key)}")
        )


@lru_cache(maxsize=4096)
def _field_name(key: str) -> str:
    """Return a key as it is named in a mistake: bare if it is a plain word."""
    return key if _WORD.fullmatch(key) else shown(key)


@lru_cache(maxsize=4096)
def label_problem(key: str) -> str | None:
    """Return why nothing can be called `key`, or None."""
    for field in FIELDS:
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


def misspelling(key: str, present: Iterable[str]) -> str | None:
    """Return words about the absent field that `key` resembles, or None.

    Otherwise a `regoin` would be a label, and its targets would be looked for somewhere else.
    """
    field = nearest(key)
    if field is None or field in present:
        return None
    return f"is no field; the nearest is {field}, write that, or give a label another name"


@lru_cache(maxsize=4096)
def nearest(key: str) -> str | None:
    """Return the field that is spelt nearly like `key`, if one is."""
    near = difflib.get_close_matches(key.strip().casefold(), FIELDS, n=1, cutoff=0.8)
    return near[0] if near else None
