"""How a fleet can be written, and how the name of a file tells."""

from enum import StrEnum
from pathlib import PurePath


class Format(StrEnum):
    """How a fleet is written; `jsonl` is one json value a line."""

    CSV = "csv"
    TXT = "txt"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"


_SUFFIXES = {
    ".csv": Format.CSV,
    ".txt": Format.TXT,
    ".json": Format.JSON,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".yaml": Format.YAML,
    ".yml": Format.YAML,
}


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
