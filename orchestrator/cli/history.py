"""`orchestrator runs` and `orchestrator report`: what the journal knows."""

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import click

from orchestrator.cli.options import JOURNAL, settings_from, settings_options
from orchestrator.config import Settings
from orchestrator.errors import ExitCode
from orchestrator.journal import RunSummary
from orchestrator.session import list_runs, report_run


@click.command()
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How it is printed."
)
@settings_options(JOURNAL)
def runs(*, output: str, config_file: Path | None, **given: Any) -> int:
    """List the runs of the journal, newest first."""
    settings = settings_from(given, config_file)
    found = anyio.run(list_runs, settings)
    if output == "json":
        click.echo(json.dumps([_record(run) for run in found], indent=2, ensure_ascii=False))
        return ExitCode.OK
    if not found:
        click.echo("the journal has no runs yet", err=True)
    for run in found:
        click.echo(
            f"{run.run_id}  {_moment(run.wall_created_at)}  {run.state:<11}  "
            f"{run.targets:>6} targets  {run.operator}"
            + (f"  {run.change}" if run.change else "")
            + ("" if run.world == "" else "  (simulated)")
        )
    return ExitCode.OK


@click.command()
@click.argument("run", required=False, metavar="[RUN]")
@click.option(
    "--format", "format_", type=click.Choice(["json"]), default="json", help="How it is written."
)
@click.option(
    "--report", "path", default="-", metavar="FILE|-", help="Where it is written; - is stdout."
)
@settings_options(JOURNAL)
def report(
    run: str | None, *, format_: str, path: str, config_file: Path | None, **given: Any
) -> int:
    """Write the report of RUN, or of the newest run, from the journal."""
    del format_  # one so far; named so that scripts can say what they rely on
    settings = settings_from(given, config_file)
    anyio.run(_report, settings, run, path)
    return ExitCode.OK


async def _report(settings: Settings, run: str | None, path: str) -> None:
    await report_run(settings, run, path, stdout=sys.stdout)


def _record(run: RunSummary) -> dict[str, object]:
    record = asdict(run)
    record["created_at"] = _moment(record.pop("wall_created_at"))
    record["simulated"] = record.pop("world") != ""
    return record


def _moment(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
