"""Targets → a fleet file that reads as what they are."""

import csv
import io
import json
from collections.abc import Iterable, Sequence

import yaml

from orchestrator.fleet.entries import FIELDS
from orchestrator.fleet.formats import Format
from orchestrator.model import WHOLE, Target


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
    writer.writerow((*FIELDS, *labels))
    for target in targets:
        row = {**_plain(target), **dict(target.labels)}
        writer.writerow([row.get(column, "") for column in (*FIELDS, *labels)])
    return text.getvalue()
