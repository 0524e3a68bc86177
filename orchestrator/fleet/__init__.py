"""Fleet files (csv, txt, json, jsonl, yaml, a report of ours) → targets; and targets → text."""

from orchestrator.fleet.entries import is_id, is_label
from orchestrator.fleet.formats import Format, format_by_suffix
from orchestrator.fleet.reading import STDIN, Fleet, Readable, read_fleet
from orchestrator.fleet.writing import write_fleet

__all__ = [
    "STDIN",
    "Fleet",
    "Format",
    "Readable",
    "format_by_suffix",
    "is_id",
    "is_label",
    "read_fleet",
    "write_fleet",
]
