"""`orchestrator discover`: the clusters of projects, as a fleet file."""

import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click

from orchestrator.cli.options import CLOUD, SettingsCommand, settings_from, settings_options
from orchestrator.cli.passcode import passcode_prompt
from orchestrator.config import Settings
from orchestrator.discovery import Choice, Condition, Discovery, discover_fleet
from orchestrator.errors import ExitCode, NothingFoundError, OrchestratorError, UsageError
from orchestrator.fleet import STDIN, Format, format_by_suffix, write_fleet
from orchestrator.model import WHOLE
from orchestrator.output import write_whole

TYPES = ("elasticsearch", "opensearch", "logstash")


@click.command(cls=SettingsCommand)
@click.option("--project", "projects", multiple=True, metavar="ID", help="A project to list.")
@click.option(
    "--project-name", "names", multiple=True, metavar="NAME",
    help="A project to list, by the name that IAM knows.",
)  # fmt: skip
@click.option(
    "--where", multiple=True, metavar="LABEL=VALUE",
    help="Only clusters with such a tag, name, datastore or version; also LABEL!=VALUE, several "
    "values with commas, * and ? for any characters. All that are given have to hold.",
)  # fmt: skip
@click.option(
    "--status", "statuses", multiple=True, metavar="STATUS",
    help="Only clusters with this status, such as 200 (available) or 303 (unavailable).",
)  # fmt: skip
@click.option(
    "--type", "types", multiple=True, type=click.Choice(TYPES, case_sensitive=False),
    help="Only clusters of this type.",
)  # fmt: skip
@click.option(
    "--format", "format_", type=click.Choice([str(f) for f in Format]),
    help="How the fleet is written, where the suffix of --output does not tell.  [csv]",
)  # fmt: skip
@click.option("--output", default=STDIN, metavar="FILE|-", help="Where the fleet is written.  [-]")
@settings_options(CLOUD)
def discover(
    *,
    projects: tuple[str, ...],
    names: tuple[str, ...],
    where: tuple[str, ...],
    statuses: tuple[str, ...],
    types: tuple[str, ...],
    format_: str | None,
    output: str,
    config_file: Path | None,
    **given: Any,
) -> int:
    """List the clusters of projects as a fleet file, which restart takes as it is.

    Without --project and --project-name: the projects of the settings. Tags become labels. Nothing
    is changed anywhere, and nothing is written unless all projects could be listed whole.
    """
    settings = settings_from(given, config_file)
    shape = _format_of(output, format_)
    choice = Choice(
        where=tuple(map(Condition.parse, where)),
        statuses=frozenset(word for status in statuses for word in status.split(",") if word),
        datastores=frozenset(types),
    )
    if not projects and not names:
        projects = tuple(settings.cloud.projects)
    if not projects and not names:
        raise UsageError("discover: no project is known; name one with --project or --project-name")

    async def look() -> Discovery:
        return await discover_fleet(
            settings.cloud,
            choice,
            projects=projects,
            names=names,
            prompt=passcode_prompt(),
            say=partial(click.echo, err=True),
        )

    found = anyio.run(look)
    _describe(found, settings)
    if not found.targets:
        raise NothingFoundError(_why_empty(found))
    _write(found, shape, output)
    return ExitCode.OK


def _format_of(output: str, format_: str | None) -> Format:
    if format_ is not None:
        return Format(format_)
    if output == STDIN:
        return Format.CSV
    try:
        return format_by_suffix(output)
    except ValueError as error:
        raise UsageError(f"--output {output}: {error}") from error


def _describe(found: Discovery, settings: Settings) -> None:
    """Say on standard error what was found where, and what of it a fleet cannot hold."""
    chosen = Counter(target.project_id for target in found.targets)
    for project_id, region in found.regions.items():
        place = f"{project_id} ({region})" if region else project_id
        click.echo(f"project {place}: {chosen[project_id]} of {found.seen[project_id]}", err=True)
        doubt = settings.cloud.doubt_about(project_id, region)
        if doubt is not None:
            click.echo(f"warning: {doubt}", err=True)
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    total = f"{len(found.targets)} of {sum(found.seen.values())} clusters"
    projects = "1 project" if len(found.regions) == 1 else f"{len(found.regions)} projects"
    click.echo(f"{total} in {projects}", err=True)


def _why_empty(found: Discovery) -> str:
    if not sum(found.seen.values()):
        return (
            "discovering clusters: there is none in these projects, or none that the credential "
            "may see; nothing was written. Check projects and regions"
        )
    lines = "".join(f"\n  {miss}" for miss in found.misses)
    return f"discovering clusters: none is left; nothing was written{lines}"


def _write(found: Discovery, shape: Format, output: str) -> None:
    if shape is Format.TXT and any(target.kind != WHOLE for target in found.targets):
        raise UsageError(
            "--format txt: it cannot say that Logstash clusters are rebooted; use another format, "
            "or leave them out with --where datastore!=logstash"
        )
    text = write_fleet(found.targets, shape)
    try:
        if output == STDIN:
            # UTF-8 whatever the locale says, for so it is read.
            sys.stdout.buffer.write(text.encode())
            sys.stdout.buffer.flush()
        else:
            write_whole(Path(output), [text])
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OrchestratorError(
            f"writing the fleet to {output!r}: {error.strerror or error}; what was there before is "
            "untouched, choose another file"
        ) from error
