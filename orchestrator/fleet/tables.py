"""A fleet as lines: csv under a header, or txt with a pair on each line."""

import csv
import io
from collections.abc import Iterator

from orchestrator.fleet.entries import FIELDS, label_problem, misspelling, nearest
from orchestrator.fleet.mistakes import Item, Mistake, shown


def csv_items(text: str) -> Iterator[Item]:
    """Yield the records below a header, and what is wrong with either."""
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
        if isinstance(row, Mistake):
            yield at, row
        elif len(row) == len(columns):
            yield at, {key: cell for key, cell in zip(columns, row, strict=True) if key}
        else:
            yield (
                at,
                Mistake(
                    f"found {len(row)} fields for {len(columns)} columns; "
                    "add or remove commas, or quote a value that has one"
                ),
            )


def _csv_records(text: str) -> Iterator[tuple[int, list[str] | Mistake]]:
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
            yield line, Mistake(f"cannot be split into fields ({error}); check its quotes")
            line = reader.line_num + 1


def _columns(header: list[str]) -> tuple[list[str], list[Mistake]]:
    """Return what each column holds, empty for one to be left out, and the mistakes in the header.

    A misspelt field is taken for what was meant, so that mistakes below it are found in one go.
    """
    columns: list[str] = []
    mistakes: list[Mistake] = []
    for number, name in enumerate(header, 1):
        problem = _column_problem(name, header[: number - 1], header)
        if problem:
            mistakes.append(Mistake(f"{shown(name)} {problem}", f"column {number}"))
            meant = nearest(name) or ""
            columns.append("" if meant in header or meant in columns else meant)
        else:
            columns.append(name)
    lacking = [field for field in ("project_id", "cluster_id") if field not in columns]
    if lacking:
        is_other = any(mark in header[0] for mark in ";\t|")
        advice = "separate columns with commas" if is_other else "name it in the first line"
        mistakes.append(Mistake(f"there is no column {' and no '.join(lacking)}; {advice}"))
    return columns, mistakes


def _column_problem(name: str, before: list[str], header: list[str]) -> str | None:
    if name in before:
        return "is there twice; keep one of the two"
    if name in FIELDS:
        return None
    if not name:
        return "is no name; name the column, or remove it from every line"
    return label_problem(name) or misspelling(name, header)


def txt_items(text: str) -> Iterator[Item]:
    """Yield the pair on each line that has one; `#` begins a comment."""
    for line, content in lines_in(text):
        pair = content.partition("#")[0].strip()
        project_id, slash, cluster_id = pair.partition("/")
        if slash:
            yield line, {"project_id": project_id, "cluster_id": cluster_id}
        elif pair:
            hint = "name another format with --format" if "," in pair or ":" in pair else ""
            advice = f"write project/cluster{' or ' if hint else ''}{hint}"
            yield line, Mistake(f"found {shown(pair)}; {advice}")


def lines_in(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that an editor counts; `splitlines` also splits at rarer characters."""
    return enumerate(io.StringIO(text, newline=None), 1)
