"""The last lines of a run: how it ended, where the report is, how to go on."""

import contextlib

import click

from orchestrator.errors import ExitCode
from orchestrator.session import Result


def say_how_it_ended(result: Result) -> None:
    """Say it on standard error; the last line is what to do next, if something is left."""
    counts = ", ".join(f"{n} {outcome}" for outcome, n in result.counts.items() if n)
    lines = [f"run {result.run_id} {result.outcome}: {counts}"]
    if result.stop_reason:
        lines.append(f"stopped: {result.stop_reason}")
    if result.report not in {"", "-"}:
        lines.append(f"report: {result.report}")
    if result.report_error is not None:
        lines.append(f"error: {result.report_error}")
    if result.exit_code in {ExitCode.STOPPED, ExitCode.ABORTED, ExitCode.UNAVAILABLE}:
        lines.append(f"to go on: orchestrator resume {result.run_id}")
    with contextlib.suppress(OSError):  # the terminal is gone; journal and report say it, too
        click.echo("\n".join(lines), err=True)
