"""`orchestrator pause`, `drain`, `abort`, `limit`: steer a live run from any terminal."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import click

from orchestrator.cli import completion
from orchestrator.cli.limits import ONE_RULE, limit_options, limits_in
from orchestrator.cli.options import JOURNAL, SettingsCommand, settings_from, settings_options
from orchestrator.errors import ExitCode, UsageError
from orchestrator.model import OrderRefused
from orchestrator.orders import NewLimits, OrderKind, change_words
from orchestrator.steering import Reply, give_order
from orchestrator.whoami import whoami
from orchestrator.wording import counted

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

STEERING = (*JOURNAL, "operator")


def _steers(command: CommandT) -> CommandT:
    """Give a command what all that steer have in common."""
    command = settings_options(STEERING)(command)
    command = click.option("--reason", metavar="TEXT", help="Why, for the history and the report.")(
        command
    )
    return click.argument("run", required=False, metavar="[RUN]", shell_complete=completion.runs)(
        command
    )


@click.command()
@_steers
def pause(**given: Any) -> int:
    """Let RUN, or the only live run, start nothing new until `resume`; what runs is followed."""
    return _give(OrderKind.PAUSE, given)


@click.command()
@_steers
def drain(**given: Any) -> int:
    """Let RUN, or the only live run, start nothing more, follow what runs, and end."""
    return _give(OrderKind.DRAIN, given)


@click.command()
@_steers
def abort(**given: Any) -> int:
    """End RUN, or the only live run, at once; restarts under way go on, and nobody follows them."""
    return _give(OrderKind.ABORT, given)


@click.command(
    cls=SettingsCommand,
    help=f"""Give RUN, or the only live run, other limits or another window.

    {ONE_RULE} Every restart that still counts under the new limits is counted, however long ago it
    was.""",
)
@_steers
@limit_options
def limit(**given: Any) -> int:
    """Give a live run other limits or another window."""
    wanted = limits_in(given)
    if wanted.is_empty:
        raise UsageError(
            "changing limits: nothing was named; give --max-concurrency, --rate, "
            "--max-unavailable, --max-failures, --not-before, --cutoff or --deadline"
        )
    return _give(OrderKind.LIMIT, given, wanted)


def _give(kind: OrderKind, given: dict[str, Any], wanted: NewLimits | None = None) -> int:
    run, reason = given.pop("run"), given.pop("reason")
    config_file: Path | None = given.pop("config_file")
    settings = settings_from(given, config_file)
    by = settings.operator or whoami()
    ask = partial(give_order, settings, run, kind, by=by, reason=reason, wanted=wanted)
    run_id, reply = anyio.run(ask)
    say_what_came_of_it(run_id, reply)
    return ExitCode.OK


def say_what_came_of_it(run_id: str, reply: Reply) -> None:
    """Say on standard error what the runner made of an order.

    Raises:
        UsageError: it refused, or the run was over before it could take it.
    """
    order = reply.order
    for event in reply.events:
        if isinstance(event, OrderRefused):
            raise UsageError(f"{order.kind.verb} of run {run_id}: {event.reason}")
    if reply.events:
        click.echo(f"run {run_id} {_words(order.kind, reply, run_id)}", err=True)
    elif reply.is_over:
        raise UsageError(
            f"{order.kind.verb} of run {run_id}: it was over before its runner took the order; "
            f"`orchestrator report {run_id}` says how it ended"
        )
    else:
        click.echo(
            f"recorded as order {order.number} of run {run_id}; its runner has not taken it yet, "
            "and obeys as soon as it can",
            err=True,
        )


def _words(kind: OrderKind, reply: Reply, run_id: str) -> str:
    restarts = counted(reply.running, "restart")
    match kind:
        case OrderKind.PAUSE:
            go_on = f"`orchestrator resume {run_id}` lets it go on"
            return f"is paused: {restarts} under way still followed, nothing new starts; {go_on}"
        case OrderKind.CONTINUE:
            return f"goes on: {restarts} under way"
        case OrderKind.DRAIN:
            return f"starts nothing more; it ends when {restarts} under way have ended"
        case OrderKind.ABORT:
            return f"is aborted: {restarts} under way, not followed any more"
        case OrderKind.LIMIT:
            said = [words for event in reply.events if (words := change_words(event))]
            return f"keeps from now on: {'; '.join(said)}"
