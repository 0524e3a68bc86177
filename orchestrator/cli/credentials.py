"""`orchestrator credentials`: which credential each project uses, and whether it is any good."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import click

from orchestrator.access import Finding, Standing, check_credentials
from orchestrator.cli import completion
from orchestrator.cli.options import CLOUD, settings_from, settings_options
from orchestrator.cli.passcode import passcode_prompt
from orchestrator.config import Settings
from orchestrator.errors import ExitCode, UsageError
from orchestrator.fleet import Format, read_fleet

_PROJECT_VARIABLES = ("HUAWEICLOUD_SDK_PROJECT_ID", "HW_PROJECT_ID", "OS_PROJECT_ID")


@click.command()
@click.argument("fleet", nargs=-1, metavar="[FLEET...]", shell_complete=completion.files)
@click.option(
    "--format", "format_", type=click.Choice([str(f) for f in Format]),
    help="How the fleet is written, where its suffix does not tell.",
)  # fmt: skip
@click.option("--project", "projects", multiple=True, metavar="ID", help="A project to look at.")
@click.option("--no-check", is_flag=True, help="Only say where they stand; nothing is sent.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How it is printed."
)
@settings_options(CLOUD)
def credentials(
    fleet: tuple[str, ...],
    *,
    format_: str | None,
    projects: tuple[str, ...],
    no_check: bool,
    output: str,
    config_file: Path | None,
    **given: Any,
) -> int:
    """Show which credential each project of FLEET would use, and try it with one small look.

    Without FLEET and --project: the projects of the settings and of the environment. Secrets are
    never shown. The exit code is 1 if one is not accepted, 2 if one is missing.
    """
    settings = settings_from(given, config_file)
    regions = _regions(fleet, Format(format_) if format_ else None, projects, settings)
    if not regions:
        raise UsageError(
            "credentials: no project is known; name a fleet, or a project with --project ID"
        )

    async def check() -> Sequence[Finding]:
        return await check_credentials(
            settings.cloud, regions, is_sent=not no_check, prompt=passcode_prompt()
        )

    findings = anyio.run(check)
    if output == "json":
        click.echo(json.dumps([_record(one) for one in findings], indent=2, ensure_ascii=False))
    else:
        for line in _lines(findings):
            click.echo(line)
    bad = any(one.standing in {Standing.REFUSED, Standing.FAILED} for one in findings)
    return ExitCode.SOME_FAILED if bad else ExitCode.OK


def _regions(
    fleet: tuple[str, ...],
    format_: Format | None,
    projects: tuple[str, ...],
    settings: Settings,
) -> Mapping[str, str | None]:
    """Return the projects that are meant, and the region that each one's targets name."""
    regions: dict[str, str | None] = {}
    if fleet:
        for target in read_fleet(fleet, stdin=sys.stdin.buffer, format_=format_).targets:
            regions.setdefault(target.project_id, settings.cloud.region_for(target))
    if not fleet and not projects:
        projects = _known_projects(settings)
    for project_id in projects:
        regions.setdefault(project_id, settings.cloud.region_of(project_id))
    return regions


def _known_projects(settings: Settings) -> tuple[str, ...]:
    named = (os.environ.get(name, "").strip() for name in _PROJECT_VARIABLES)
    return tuple(dict.fromkeys((*settings.cloud.projects, *filter(None, named))))


def _record(finding: Finding) -> Mapping[str, object]:
    return {
        "project_id": finding.project_id,
        "region": finding.region,
        "endpoint": finding.endpoint,
        "credential": finding.account,
        "type": finding.kind,
        "source": finding.where,
        "state": finding.standing.value,
        "error": finding.error,
    }


def _lines(findings: Sequence[Finding]) -> Sequence[str]:
    rows = [
        (one.project_id, one.standing.value, one.kind or "-", one.account or "-")
        for one in findings
    ]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row, one in zip(rows, findings, strict=True):
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append(f"{cells}  {one.where or 'nothing is sent to this machine'}")
        if one.error is not None:
            lines.append(f"  {one.error}")
    return lines
