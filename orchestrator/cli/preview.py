"""What a restart would come to, in the two lines that stand above the question."""

import time
from collections.abc import Iterator

import anyio
import click

from orchestrator.config import Settings
from orchestrator.history import known_durations
from orchestrator.plan import Plan
from orchestrator.rehearsal import Rehearsal
from orchestrator.simulator import Scenario
from orchestrator.span import format_moment, format_span
from orchestrator.stage import model_of, rehearse_plan, seeds_for, settled

LARGEST = 1000
"""Targets up to which a plan is rehearsed unasked: it takes about a second."""

PATIENCE = 3.0
"""Seconds after which whoever wants to restart something is not kept waiting any more."""

_RUNS = 5
_MINUTE = 60.0
_TO_THE_SECOND = 10 * _MINUTE
_LIKELY = 0.5


def say_preview(plan: Plan, settings: Settings, scenario: Scenario | None = None) -> None:
    """Say on standard error what the plan comes to in a rehearsal; if that fails, say only so.

    Args:
        plan: what would be restarted.
        settings: where the journal is.
        scenario: how the service behaves, if it is a simulated one.
    """
    total = len(plan.targets)
    if total > LARGEST:
        what = "`orchestrator rehearse` with the same fleet and options plays it"
        lines = [f"  rehearsal left out: {total} clusters take a while; {what}"]
    else:
        try:
            lines = list(_preview(plan, settings, scenario))
        except Exception as error:  # noqa: BLE001 - no restart depends on its rehearsal
            lines = [f"  rehearsal left out: {error}"]
    click.echo("\n".join(lines), err=True)


def _preview(plan: Plan, settings: Settings, scenario: Scenario | None) -> Iterator[str]:
    plan = settled(plan)
    known = anyio.run(known_durations, settings)
    model = model_of(plan, known, scenario)
    rehearsal = rehearse_plan(
        plan,
        model,
        known=known,
        seeds=range(min(_RUNS, seeds_for(len(plan.targets), starts=LARGEST))),
        at=time.time(),
        patience=PATIENCE,
    )
    return preview_of(plan, rehearsal, own=sum(one.own for one in model.kinds))


def preview_of(plan: Plan, rehearsal: Rehearsal, *, own: int = 0) -> Iterator[str]:
    """Yield two lines: how much there is at once, and when it ends.

    Args:
        plan: what was rehearsed.
        rehearsal: what it came to.
        own: how many targets lasted by what was seen of themselves.
    """
    yield (
        f"  rehearsal at most {rehearsal.most_at_once} at once, "
        f"{rehearsal.most_in_an_hour} begun in the worst hour"
        + (f"; {own} of {len(plan.targets)} last as they did before" if own else "")
    )
    likely = rehearsal.took(_LIKELY)
    early, late = (clock_of(rehearsal, rehearsal.took(share)) for share in (0.0, 1.0))
    runs, left = len(rehearsal.runs), rehearsal.left(_LIKELY)
    deadline = plan.policy.window.deadline
    yield (
        f"  end       about {clock_of(rehearsal, likely)}, after {long_words(likely)}"
        + (f" ({early} to {late} in {runs} rehearsals)" if early != late else "")
        + (f"; {left} not started" if left else "")
        + (f"; deadline made in {rehearsal.made_by(deadline)} of {runs}" if deadline else "")
    )


def long_words(seconds: float) -> str:
    """Write a span as exactly as it can be meant: to the minute from an hour on."""
    unit = _MINUTE if seconds >= 60 * _MINUTE else 1.0
    return format_span(max(1.0, round(seconds / unit)) * unit)


def clock_of(rehearsal: Rehearsal, after: float) -> str:
    """Write the moment so long after the beginning: to the minute, the day only if it is another.

    Runs of less than some minutes are told to the second.
    """
    day, clock = format_moment(rehearsal.began_at + after).removesuffix("Z").split("T")
    if rehearsal.took(1.0) > _TO_THE_SECOND:
        clock = clock[:5]
    is_same_day = format_moment(rehearsal.began_at).startswith(day)
    return f"{clock}Z" if is_same_day else f"{day[5:]} {clock}Z"
