"""`orchestrator resume`: go on with a run that is paused, was stopped, or whose runner died."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click

from orchestrator.cli import completion
from orchestrator.cli.ending import say_how_it_ended
from orchestrator.cli.limits import ONE_RULE, limit_options, limits_in
from orchestrator.cli.options import (
    CLOUD,
    SettingsCommand,
    options_in,
    outcomes,
    settings_options,
    settings_with,
)
from orchestrator.cli.passcode import passcode_prompt
from orchestrator.cli.steer import say_what_came_of_it
from orchestrator.cli.watchers import watchers_for
from orchestrator.config import Settings
from orchestrator.errors import ExitCode, UsageError
from orchestrator.model import Outcome
from orchestrator.session import Watch, resume_run
from orchestrator.steering import continue_if_paused
from orchestrator.whoami import whoami

SETTINGS = (
    *CLOUD,
    "journal.url",
    "log.format",
    "log.file",
    "log.level",
    "report",
    "operator",
)
"""What may be said anew besides limits when a run goes on; all else was fixed with its plan."""

AGAIN = (Outcome.FAILED, Outcome.REFUSED, Outcome.UNKNOWN, Outcome.SKIPPED, Outcome.NOT_STARTED)
"""What can be taken up once more; what was not started always is."""


@click.command(
    cls=SettingsCommand,
    help=f"""Go on with RUN, or with the only run that is not finished.

    A paused run whose runner is alive goes on there. Otherwise it is taken up here: what was in
    flight is looked at first and never asked twice; then the run goes on within the limits that
    held last. Failures so far are acknowledged.

    {ONE_RULE} The window of a run that has stopped is over: another one needs no --loosen.""",
)
@click.argument("run", required=False, metavar="[RUN]", shell_complete=completion.runs)
@click.option(
    "--only", metavar="OUTCOMES",
    help="Take these up again, too: some of failed, refused, unknown, skipped.",
)  # fmt: skip
@limit_options
@click.option("--reason", metavar="TEXT", help="Why it goes on, or limits change, for the history.")
@settings_options(SETTINGS)
def resume(
    run: str | None,
    *,
    only: str | None,
    reason: str | None,
    config_file: Path | None,
    **given: Any,
) -> int:
    """Go on with a run that is paused, was stopped, or whose runner died."""
    wanted = limits_in(given)
    chosen = outcomes(only) or frozenset()
    if not chosen <= set(AGAIN):
        wrong = ", ".join(sorted(chosen - set(AGAIN)))
        raise UsageError(f"--only {only}: {wrong} is done and not taken up again")
    options = options_in(given)
    load = partial(_load, options, config_file)
    settings = load({})
    continued = anyio.run(
        partial(
            continue_if_paused, settings, run,
            by=settings.operator or whoami(), reason=reason, wanted=wanted,
            takes_up=only is not None,
        )
    )  # fmt: skip
    if continued is not None:
        run_id, replies = continued
        for reply in replies:
            say_what_came_of_it(run_id, reply)
        return ExitCode.OK

    def watch(settings: Settings) -> Watch:
        return partial(watchers_for, settings, sys.stderr)

    async def go_on() -> int:
        result = await resume_run(
            run, load, again=chosen - {Outcome.NOT_STARTED}, wanted=wanted, reason=reason,
            watch=watch, prompt=passcode_prompt(),
        )  # fmt: skip
        say_how_it_ended(result, settings, config_file)
        return result.exit_code

    return anyio.run(go_on)


def _load(
    options: Mapping[str, object], config_file: Path | None, kept: Mapping[str, object]
) -> Settings:
    said = {name: value for name, value in options.items() if value not in (None, ())}
    return settings_with({**kept, **said}, config_file)
