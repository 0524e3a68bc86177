"""`orchestrator runs` and `orchestrator report`: what the journal knows."""

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import click

from orchestrator.cli import completion
from orchestrator.cli.options import JOURNAL, settings_from, settings_options
from orchestrator.config import Settings
from orchestrator.errors import ExitCode
from orchestrator.history import report_run, resolve_target, verify_run
from orchestrator.model import Outcome
from orchestrator.status import runs_now
from orchestrator.whoami import whoami


@click.command()
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How it is printed."
)
@settings_options(JOURNAL)
def runs(*, output: str, config_file: Path | None, **given: Any) -> int:
    """List the runs of the journal, newest first: what each does, and what keeps it back."""
    settings = settings_from(given, config_file)
    found = anyio.run(runs_now, settings)
    if output == "json":
        click.echo(json.dumps([run.as_dict() for run in found], indent=2, ensure_ascii=False))
        return ExitCode.OK
    if not found:
        click.echo("the journal has no runs yet", err=True)
    for run in found:
        click.echo(str(run))
    return ExitCode.OK


@click.command()
@click.argument("run", required=False, metavar="[RUN]", shell_complete=completion.runs)
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


@click.command()
@click.argument("run", required=False, metavar="[RUN]", shell_complete=completion.runs)
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How it is printed."
)
@settings_options(JOURNAL)
def verify(run: str | None, *, output: str, config_file: Path | None, **given: Any) -> int:
    """Recompute from the journal whether RUN, or the newest run, kept what is promised.

    Prints for each limit the most there ever was, and anything twice, lost or pretended; the exit
    code is 1 if a promise was broken.
    """
    settings = settings_from(given, config_file)
    findings = anyio.run(verify_run, settings, run)
    if output == "json":
        click.echo(json.dumps(findings.as_dict(), indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(findings.lines()))
    return ExitCode.OK if findings.is_kept else ExitCode.SOME_FAILED


@click.command()
@click.argument("run", shell_complete=completion.runs)
@click.argument("target", metavar="PROJECT/CLUSTER")
@click.option(
    "--as", "outcome", required=True, type=click.Choice(["restarted", "failed", "not-started"]),
    help="What became of it.",
)  # fmt: skip
@click.option("--reason", metavar="TEXT", help="How that is known, for the report.")
@settings_options((*JOURNAL, "operator"))
def resolve(
    run: str,
    target: str,
    *,
    outcome: str,
    reason: str | None,
    config_file: Path | None,
    **given: Any,
) -> int:
    """Say what became of a TARGET of RUN whose outcome is unknown; its slot is free then."""
    settings = settings_from(given, config_file)
    by = settings.operator or whoami()
    meant = Outcome(outcome.replace("-", "_"))

    async def settle() -> None:
        await resolve_target(settings, run, target, meant, by=by, reason=reason)

    anyio.run(settle)
    words = f"{target} of run {run} is {outcome} now, on the word of {by}"
    if meant is Outcome.NOT_STARTED:
        words += f"; `orchestrator resume {run}` starts it"
    click.echo(words, err=True)
    return ExitCode.OK
