"""The last lines of a run: how it ended, where the report is, how to go on."""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from orchestrator.config import Settings
from orchestrator.errors import ExitCode
from orchestrator.session import Result


def say_how_it_ended(result: Result, settings: Settings, config_file: Path | None) -> None:
    """Say it on standard error; the last line is what to do next, if something is left.

    Args:
        result: how the run ended.
        settings: those of this command.
        config_file: the file that the command named, if it did.
    """
    counts = ", ".join(f"{n} {outcome}" for outcome, n in result.counts.items() if n)
    lines = [f"run {result.run_id} {result.outcome}: {counts}"]
    if result.stop_reason:
        lines.append(f"stopped: {result.stop_reason}")
    if result.report not in {"", "-"}:
        lines.append(f"report: {result.report}")
    if result.report_error is not None:
        lines.append(f"error: {result.report_error}")
    if result.exit_code in {ExitCode.STOPPED, ExitCode.ABORTED, ExitCode.UNAVAILABLE}:
        command = ("orchestrator", "resume", result.run_id, *_whereabouts(settings, config_file))
        lines.append(f"to go on: {shlex.join(command)}")
    with contextlib.suppress(OSError):  # the terminal is gone; journal and report say it, too
        click.echo("\n".join(lines), err=True)


def _whereabouts(settings: Settings, config_file: Path | None) -> Iterator[str]:
    """Yield the options without which another command would look into another journal."""
    path = settings.journal.path
    if settings.origins["journal.url"] == "--journal" and path is not None:
        yield from ("--journal", str(path))
    if config_file is not None:
        yield from ("--config", str(config_file))
