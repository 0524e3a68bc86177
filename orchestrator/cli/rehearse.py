"""`orchestrator rehearse`: what a restart would come to, without touching anything."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import click

from orchestrator.cli.options import (
    SettingsCommand,
    fleet_options,
    outcomes,
    settings_from,
    settings_options,
)
from orchestrator.cli.preview import clock_of, long_words
from orchestrator.cli.restart import describe
from orchestrator.config import KEYS
from orchestrator.errors import ExitCode, UsageError
from orchestrator.fleet import Format, read_fleet
from orchestrator.history import known_durations
from orchestrator.limits import Limit, Rate, Unavailable
from orchestrator.plan import Plan
from orchestrator.preflight import prepare
from orchestrator.rehearsal import LAST, LOOKS, WAVES, WINDOW, Rehearsal
from orchestrator.report import plan_member
from orchestrator.simulator import load_scenario
from orchestrator.span import format_moment, format_span, parse_moment
from orchestrator.stage import KindModel, Model, model_of, rehearse_plan, seeds_for, settled
from orchestrator.watch.progress import takes_pictures

REHEARSAL_VERSION = 1
"""Goes up when a member of the JSON changes its meaning or goes away."""

_EARLY, _LIKELY, _LATE = 0.1, 0.5, 0.9
_MANY = 10

_WAITS = {
    WINDOW: "until the window opens",
    WAVES: "waves and soaks",
    LOOKS: "looks at clusters",
    LAST: "the last restarts",
}


@click.command(cls=SettingsCommand)
@fleet_options
@click.option("--at", metavar="TIME|SPAN", help="As if it began then.  [now]")
@click.option(
    "--seeds", type=click.IntRange(1), metavar="N",
    help="How many runs are played.  [1 to 50, fewer for large fleets]",
)  # fmt: skip
@click.option(
    "--scenario", type=click.Path(path_type=Path), metavar="FILE",
    help="How the service behaves, durations and faults; else restarts last as this journal saw.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How it is printed."
)
@settings_options(KEYS)
def rehearse(
    fleet: tuple[str, ...],
    *,
    format_: str | None,
    only: str | None,
    at: str | None,
    seeds: int | None,
    scenario: Path | None,
    output: str,
    config_file: Path | None,
    **given: Any,
) -> int:
    """Play the restart of FLEET in virtual time: nothing is sent, hours take seconds.

    The same engine with the same limits runs against a modelled service, several times with other
    durations. It says when each wave would end, how sure a deadline is, which limit holds the run
    up for how long, and what would be left. Settings are those of `restart`.
    """
    settings = settings_from(given, config_file)
    begins_at = _moment(at)
    read = read_fleet(
        fleet,
        stdin=sys.stdin.buffer,
        format_=Format(format_) if format_ else None,
        only=outcomes(only),
        kind=settings.kind,
    )
    known = anyio.run(known_durations, settings)
    plan = settled(prepare(read, settings, begins_at, known=known))
    describe(plan, read, known)
    model = model_of(plan, known, None if scenario is None else load_scenario(scenario))
    seed, count = settings.waves.seed, seeds or seeds_for(len(plan.targets))
    _say_how_far(0, count)
    rehearsal = rehearse_plan(
        plan, model, known=known, seeds=range(seed, seed + count), at=begins_at,
        played=lambda number: _say_how_far(number, count),
    )  # fmt: skip
    if output == "json":
        document = _document(plan, model, rehearsal, seed)
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        click.echo("\n".join(_lines(plan, model, rehearsal, scenario)))
    return ExitCode.OK


def _moment(text: str | None) -> float:
    now = time.time()
    if text is None:
        return now
    try:
        return parse_moment(text, now=now)
    except ValueError as error:
        raise UsageError(f"--at: {error}") from error


def _say_how_far(number: int, count: int) -> None:
    if takes_pictures(sys.stderr, os.environ):
        words = f"playing run {number + 1} of {count}" if number < count else ""
        click.echo(f"\r\x1b[K{words}", err=True, nl=False)


# ----------------------------------------------------------------------------------------- words


def _lines(plan: Plan, model: Model, rehearsal: Rehearsal, scenario: Path | None) -> Iterator[str]:
    runs = len(rehearsal.runs)
    times = "once" if runs == 1 else f"{runs} times"
    yield f"rehearsed {times}, beginning {format_moment(rehearsal.began_at)}"
    yield ""
    yield from _upshot(plan, rehearsal)
    yield ""
    yield from _table(_wave_rows(rehearsal))
    yield ""
    yield from _table(_limit_rows(rehearsal))
    yield ""
    yield from _stretch_lines(rehearsal)
    yield (
        f"  most      {rehearsal.most_at_once} in progress at once, "
        f"{rehearsal.most_in_an_hour} begun in the worst hour"
    )
    if rehearsal.efficiency:
        yield (
            f"  speed     at least {rehearsal.efficiency:.0%} of the fastest that these limits and "
            "waves allow"
        )
    yield from _assumptions(model, scenario)


def _upshot(plan: Plan, rehearsal: Rehearsal) -> Iterator[str]:
    likely = rehearsal.took(_LIKELY)
    yield f"  end       about {clock_of(rehearsal, likely)}, after {long_words(likely)}"
    runs = len(rehearsal.runs)
    if runs > 1:
        is_many = runs >= _MANY
        shares = (_EARLY, _LATE) if is_many else (0.0, 1.0)
        early, late = (clock_of(rehearsal, rehearsal.took(share)) for share in shares)
        who = "8 of 10" if is_many else f"all {runs}"
        yield f"            {who} runs end between {early} and {late}"
    deadline = plan.policy.window.deadline
    if deadline is not None:
        made = rehearsal.made_by(deadline)
        yield (
            f"  deadline  everything restarted by {format_moment(deadline)} in {made} of {runs} "
            f"runs ({made / runs:.0%})"
        )
    if rehearsal.left(1.0):
        yield (
            f"  left      {rehearsal.left(_LIKELY)} not started in the median run, "
            f"{rehearsal.left(1.0)} in the worst"
        )
    else:
        yield "  left      nothing"
    for reason, times in rehearsal.stop_reasons.items():
        yield f"  stopped   in {times} of {runs} runs: {reason}"


def _wave_rows(rehearsal: Rehearsal) -> Iterator[tuple[str, ...]]:
    yield "wave", "clusters", "opens", "restarted", "over"
    for wave in rehearsal.waves():
        moments = (wave.opened, wave.ended, wave.finished)
        words = ("never" if at is None else clock_of(rehearsal, at) for at in moments)
        yield (wave.name, str(wave.targets), *words)


def _limit_rows(rehearsal: Rehearsal) -> Iterator[tuple[str, ...]]:
    whole = rehearsal.mean()
    yield "what the next start waited for", "of the time", "most", "allowed"
    for use in sorted(rehearsal.limits(), key=lambda use: -use.bound):
        yield name_of(use.limit), _share(use.bound, whole), str(use.most), str(use.allowed)
    for what, seconds in rehearsal.waited().items():
        if seconds > 0.005 * whole:
            yield _WAITS[what], _share(seconds, whole), "", ""


def _stretch_lines(rehearsal: Rehearsal) -> Iterator[str]:
    for number, one in enumerate(rehearsal.typical().stretches):
        label = "" if number else "when"
        begins, ends = (clock_of(rehearsal, at) for at in (one.begins, one.ends))
        yield f"  {label:<9} {begins} to {ends}: {_words_for(one.what)}"


def _words_for(what: Limit | str) -> str:
    return _WAITS[what] if isinstance(what, str) else name_of(what)


def _assumptions(model: Model, scenario: Path | None) -> Iterator[str]:
    if scenario is not None:
        yield f"  assumed   restarts and faults as in {scenario}"
    for number, one in enumerate(model.kinds):
        label = "assumed" if not number else ""
        half, most = (format_span(round(one.span.at(share))) for share in (0.5, 0.95))
        how = _how_known(one)
        yield f"  {label:<9} {one.kind} takes {half}, in 1 of 20 cases more than {most} ({how})"
    if scenario is None:
        yield "            every restart ends well, and nobody else restarts anything"


def _how_known(one: KindModel) -> str:
    if not one.seen:
        return "a guess by --expected-duration"
    own = f"; {one.own} of {one.targets} each around its own past" if one.own else ""
    return f"as {one.seen} times in this journal{own}"


def name_of(limit: Limit) -> str:
    """Return a limit with the option that sets it."""
    if isinstance(limit, Rate):
        return f"--rate {limit}"
    option = "--max-unavailable" if isinstance(limit, Unavailable) else "--max-concurrency"
    return f"{option} {limit}"


def _table(rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    cells = list(rows)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for first, *rest in cells:
        others = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        yield "  ".join(("", first.ljust(widths[0]), *others)).rstrip()


def _share(seconds: float, whole: float) -> str:
    return f"{seconds / whole:.0%}" if whole else "0%"


# ------------------------------------------------------------------------------------------ JSON


def _document(plan: Plan, model: Model, rehearsal: Rehearsal, seed: int) -> dict[str, object]:
    whole = rehearsal.mean() or 1.0
    deadline = plan.policy.window.deadline
    return {
        "rehearsal_version": REHEARSAL_VERSION,
        "plan": plan_member(plan),
        "begins_at": format_moment(rehearsal.began_at),
        "runs": len(rehearsal.runs),
        "seed": seed,
        "assumed": [_kind_member(one) for one in model.kinds],
        "end": {
            name: {
                "after_s": _seconds(rehearsal.took(share)),
                "at": format_moment(rehearsal.began_at + rehearsal.took(share)),
            }
            for name, share in (("p10", _EARLY), ("p50", _LIKELY), ("p90", _LATE))
        },
        "deadline": None
        if deadline is None
        else {
            "at": format_moment(deadline),
            "chance": rehearsal.made_by(deadline) / len(rehearsal.runs),
        },
        "waves": [
            {
                "name": wave.name,
                "targets": wave.targets,
                "opens_after_s": _seconds(wave.opened),
                "restarted_after_s": _seconds(wave.ended),
                "over_after_s": _seconds(wave.finished),
            }
            for wave in rehearsal.waves()
        ],
        "limits": [
            {
                "limit": str(use.limit),
                "option": name_of(use.limit).split()[0],
                "allowed": use.allowed,
                "most": use.most,
                "binds": round(use.bound / whole, 4),
            }
            for use in rehearsal.limits()
        ],
        "waits": {
            what.replace(" ", "_"): round(seconds / whole, 4)
            for what, seconds in rehearsal.waited().items()
        },
        "when": [
            {
                "from_s": _seconds(one.begins),
                "to_s": _seconds(one.ends),
                "what": one.what.replace(" ", "_") if isinstance(one.what, str) else str(one.what),
            }
            for one in rehearsal.typical().stretches
        ],
        "most_in_progress": rehearsal.most_at_once,
        "most_begun_in_an_hour": rehearsal.most_in_an_hour,
        "left": {"p50": rehearsal.left(_LIKELY), "most": rehearsal.left(1.0)},
        "stop_reasons": dict(rehearsal.stop_reasons),
        "efficiency": round(rehearsal.efficiency, 4),
    }


def _kind_member(one: KindModel) -> dict[str, object]:
    return {
        "kind": one.kind,
        "targets": one.targets,
        "seen": one.seen,
        "own": one.own,
        "p50_s": _seconds(one.span.at(0.5)),
        "p95_s": _seconds(one.span.at(0.95)),
    }


def _seconds(at: float | None) -> float | None:
    return None if at is None else round(at, 3)
