"""`orchestrator restart`: plan, ask, restart, follow, report."""

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click

from orchestrator.cli.ending import say_how_it_ended
from orchestrator.cli.options import (
    SettingsCommand,
    fleet_options,
    outcomes,
    settings_from,
    settings_options,
)
from orchestrator.cli.passcode import passcode_prompt
from orchestrator.cli.preview import say_preview
from orchestrator.cli.watchers import watchers_for
from orchestrator.config import KEYS, Settings
from orchestrator.errors import ConfigError, ExitCode, UsageError
from orchestrator.experience import Durations, count_known
from orchestrator.fleet import Fleet, Format, read_fleet
from orchestrator.history import find_unfinished, known_for_order
from orchestrator.journal import RunState, RunSummary, is_unfinished
from orchestrator.limits import FLEET, Unavailable
from orchestrator.model import WHOLE
from orchestrator.plan import Plan, Window
from orchestrator.preflight import check_endpoints, doubts_about, doubts_about_scopes, prepare
from orchestrator.ranking import Order
from orchestrator.report import plan_member
from orchestrator.session import Result, Simulation, resume_run, run_plan
from orchestrator.span import format_span, parse_moment
from orchestrator.survey import Survey, called, few, survey_lines
from orchestrator.wording import shown


@click.command(cls=SettingsCommand)
@fleet_options
@click.option("--dry-run", is_flag=True, help="Stop after the plan; nothing is sent.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--expect", type=int, metavar="N", help="Do not ask, and fail unless N targets.")
@click.option("--simulate", is_flag=True, help="Restart the clusters of the built-in simulator.")
@click.option(
    "--scenario", type=click.Path(path_type=Path), metavar="FILE",
    help="How the simulator behaves, with --simulate.",
)  # fmt: skip
@click.option(
    "--trace", type=click.Path(path_type=Path), metavar="FILE",
    help="Where the simulator writes what it did, with --simulate.",
)  # fmt: skip
@click.option(
    "--since", metavar="TIME|SPAN",
    help="Skip what the journal knows as restarted since then.",
)  # fmt: skip
@click.option("--new", is_flag=True, help="Begin anew even if a run of this plan is not finished.")
@click.option("--no-reissue", is_flag=True, help="Never repeat a call whose answer was lost.")
@click.option("-v", "--verbose", is_flag=True, help="Log every step: --log-level debug.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text",
    help="How --dry-run prints the plan.",
)  # fmt: skip
@settings_options(KEYS)
def restart(
    fleet: tuple[str, ...],
    *,
    format_: str | None,
    only: str | None,
    config_file: Path | None,
    no_reissue: bool,
    verbose: bool,
    **given: Any,
) -> int:
    """Restart every cluster of FLEET within the limits, and report on each.

    FLEET is a file of project/cluster pairs (csv, txt, json, jsonl, yaml), a report of an earlier
    run, or - for standard input; several are taken together.
    """
    if no_reissue:
        given["max_reissues"] = 0
    if verbose:
        given["log_level"] = "debug"
    settings = settings_from(given, config_file)
    since = _moment_before(given["since"])
    read = read_fleet(
        fleet,
        stdin=sys.stdin.buffer,
        format_=Format(format_) if format_ else None,
        only=outcomes(only),
        kind=settings.kind,
    )
    known = anyio.run(known_for_order, settings)
    plan = prepare(read, settings, known=known)
    describe(plan, read, known)
    if not given["simulate"]:
        _look_for_places(plan, settings, is_dry=given["dry_run"])
    simulation = _simulation(given, settings.waves.seed)
    scenario = simulation.scenario if simulation is not None else None
    if given["dry_run"]:
        say_preview(plan, settings, scenario)
        _print_plan(plan, given["output"])
        return ExitCode.OK
    if simulation is None and not given["new"]:
        unfinished = anyio.run(find_unfinished, settings, plan)
        if unfinished is not None:
            return _go_on_with(unfinished, settings, config_file)
    asks = _has_to_ask(plan, yes=given["yes"], expect=given["expect"])
    if asks:
        say_preview(plan, settings, scenario)

    async def run() -> Result:
        return await run_plan(
            plan,
            settings,
            simulation=simulation,
            watch=partial(watchers_for, settings, sys.stderr),
            prompt=passcode_prompt(),
            new=given["new"],
            since=since,
            agree=partial(_agree, plan, asks=asks, is_simulated=simulation is not None),
        )

    result = anyio.run(run)
    say_how_it_ended(result, settings, config_file)
    return result.exit_code


def _look_for_places(plan: Plan, settings: Settings, *, is_dry: bool) -> None:
    """Say what is doubtful about where calls would go; for a plan alone a missing place is no more.

    Raises:
        ConfigError: calls would have nowhere to go.
    """
    doubts = list(doubts_about(plan.targets, settings))
    try:
        check_endpoints(plan.targets, settings)
    except ConfigError as error:
        if not is_dry:
            raise
        doubts += error.mistakes
    for doubt in doubts:
        click.echo(f"warning: {doubt}", err=True)


def _go_on_with(unfinished: RunSummary, settings: Settings, config_file: Path | None) -> int:
    """Offer to resume the run of the same plan that is not finished."""
    run_id = unfinished.run_id
    if unfinished.state is RunState.RUNNING or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise is_unfinished(unfinished)
    what = f"run {run_id} of the same plan is {unfinished.state}"
    click.echo(
        f"{what}. Go on with it, within its own limits? Type yes, or no to leave: ",
        err=True,
        nl=False,
    )
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UsageError("nothing was sent; --new begins anew")
    watch = partial(watchers_for, settings, sys.stderr)

    async def go_on() -> Result:
        return await resume_run(
            run_id, lambda _kept: settings, watch=lambda _: watch, prompt=passcode_prompt()
        )

    result = anyio.run(go_on)
    say_how_it_ended(result, settings, config_file)
    return result.exit_code


def _moment_before(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_moment(text, now=time.time(), sign=-1)
    except ValueError as error:
        raise UsageError(f"--since: {error}") from error


def _simulation(given: dict[str, Any], seed: int) -> Simulation | None:
    if not given["simulate"]:
        for name in ("scenario", "trace"):
            if given[name] is not None:
                raise UsageError(f"--{name} is for the simulator; give --simulate too, or leave it")
        return None
    return Simulation.load(given["scenario"], seed=seed, trace=given["trace"])


def describe(plan: Plan, read: Fleet, known: Mapping[str, Durations]) -> None:
    """Say in a few lines what would be done and how fast, so that it can be agreed to.

    Args:
        plan: what would be done.
        read: the fleet as it was read.
        known: what the plan's order goes by.
    """
    total = len(plan.targets)
    policy = plan.policy
    projects = len({target.project_id for target in plan.targets})
    lines = [f"plan {plan.plan_id}: {_count(total, 'cluster')} in {_count(projects, 'project')}"]
    if read.collapsed:
        lines.append(f"  {_count(read.collapsed, 'line')} named a cluster again and count once")
    lines.append(f"  kind      {_kinds(plan)}")
    lines.append(
        "  waves     "
        + ", then ".join(
            f"{wave.name} ({len(wave.targets)}"
            + (f", soak {format_span(wave.soak)})" if wave.soak else ")")
            for wave in plan.waves
        )
        + ("; each but the first waits for a word" if policy.confirm_waves else "")
    )
    if plan.ordered:
        lines.append(f"  order     {_order_words(plan, known)}")
    lines.append("  limits    " + ", ".join(str(limit) for limit in policy.limits))
    if policy.max_unavailable:
        at_most = ", ".join(_unavailable_words(limit, total) for limit in policy.max_unavailable)
        lines.append(f"  down      at most {at_most}; who is down already counts")
    lines.extend(f"  gate      {command}" for command in policy.gates)
    if policy.window != Window():
        lines.append(f"  window    {policy.window}")
    allowed = policy.max_failures.of(total)
    said = f"{policy.max_failures} of {total} → {allowed}"
    lines.append(f"  failures  {said if policy.max_failures.is_percent else allowed} allowed")
    lines.extend(f"warning: {doubt}" for doubt in doubts_about_scopes(plan))
    click.echo("\n".join(lines), err=True)


def _order_words(plan: Plan, known: Mapping[str, Durations]) -> str:
    if plan.ordered != Order.SPREAD:
        return plan.ordered
    total, seen = len(plan.targets), count_known(plan.targets, known)
    return f"{plan.ordered}; by how long they lasted before: {seen} of {_count(total, 'cluster')}"


def _unavailable_words(limit: Unavailable, total: int) -> str:
    is_of_fleet = limit.is_percent and limit.scope == FLEET
    return f"{limit} of {total} → {limit.of(total)}" if is_of_fleet else str(limit)


def _kinds(plan: Plan) -> str:
    kinds = Counter(str(target.kind) for target in plan.targets)
    return ", ".join(f"{kind} ({n})" for kind, n in kinds.items())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _print_plan(plan: Plan, output: str) -> None:
    wave_of = {p: wave.name for wave in plan.waves for p in wave.targets}
    ordered = [(wave_of[p], plan.targets[p]) for wave in plan.waves for p in wave.targets]
    if output == "json":
        document = {
            **plan_member(plan),
            "targets": [
                {
                    "project_id": target.project_id,
                    "cluster_id": target.cluster_id,
                    "name": target.name,
                    "region": target.region,
                    "labels": dict(target.labels),
                    "kind": str(target.kind),
                    "wave": wave,
                }
                for wave, target in ordered
            ],
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    lines = (
        "\t".join((wave, str(target), str(target.kind), target.name or "")).rstrip()
        for wave, target in ordered
    )
    click.echo("\n".join(lines))


async def _agree(
    plan: Plan, fitted: Plan, survey: Survey, *, asks: bool, is_simulated: bool
) -> None:
    """Say how the clusters of a plan were found, and ask whether to go on with what fits them."""
    lines = []
    if fitted.plan_id != plan.plan_id:
        lines.append(f"kind      {_kinds(fitted)}: plan {fitted.plan_id}")
    lines += survey_lines(fitted.targets, survey)
    unseen = [
        called(target)
        for target in plan.targets
        if target.kind.is_auto and survey.cluster_of(target) is None
    ]
    if unseen:
        what = f"{len(unseen)} with kind auto that were not seen, so {WHOLE}"
        lines.append(f"warning   {what}: {few(unseen)}")
    click.echo("\n".join(f"  {shown(line)}" for line in lines), err=True)
    if asks:
        await _ask(fitted, is_simulated=is_simulated)


def _has_to_ask(plan: Plan, *, yes: bool, expect: int | None) -> bool:
    """Return whether somebody has to be asked, if that is possible at all."""
    total = len(plan.targets)
    if expect is not None and expect != total:
        raise UsageError(
            f"--expect {expect}: the fleet has {_count(total, 'cluster')}; nothing was sent. "
            "Check the fleet, or expect that many"
        )
    if yes or expect is not None:
        return False
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            f"there is no terminal to ask on; give --yes, or --expect {total} to agree to "
            f"{_count(total, 'cluster')}; nothing was sent"
        )
    return True


async def _ask(plan: Plan, *, is_simulated: bool) -> None:
    total = len(plan.targets)
    projects = len({target.project_id for target in plan.targets})
    what = "simulated clusters" if is_simulated else "clusters"
    click.echo(
        f"Restart {total} {what} in {_count(projects, 'project')}? Type {total} to go on: ",
        err=True, nl=False,
    )  # fmt: skip
    # Waiting in a read would keep Ctrl-C from being heard.
    await anyio.wait_readable(sys.stdin)
    typed = sys.stdin.readline().strip()
    if typed != str(total):
        raise UsageError(f"{typed!r} is not {total}; nothing was restarted")
