"""The command line: turn options into one call, and its end into an exit code.

Data goes to standard output, words to standard error. Commands are loaded when they are called:
`--help` imports click and nothing else.
"""

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from orchestrator.errors import ExitCode, OrchestratorError
from orchestrator.secret import blot

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_COMMANDS = {
    "restart": ("orchestrator.cli.restart", "Restart every cluster of a fleet, within limits."),
    "rehearse": (
        "orchestrator.cli.rehearse",
        "Play a restart in virtual time: how long, what binds.",
    ),
    "resume": ("orchestrator.cli.resume", "Go on with a run that is paused, stopped or crashed."),
    "status": ("orchestrator.cli.status", "Say how a run stands, and why each target waits."),
    "pause": ("orchestrator.cli.steer", "Let a live run start nothing new until resume."),
    "drain": ("orchestrator.cli.steer", "Let a live run finish what runs, and end."),
    "abort": ("orchestrator.cli.steer", "End a live run at once."),
    "limit": ("orchestrator.cli.steer", "Give a live run other limits."),
    "resolve": ("orchestrator.cli.history", "Settle an unknown by what a person knows."),
    "verify": ("orchestrator.cli.history", "Recompute whether a run kept its promises."),
    "discover": ("orchestrator.cli.discover", "List the clusters of projects as a fleet file."),
    "credentials": ("orchestrator.cli.credentials", "Show and try each project's credential."),
    "report": ("orchestrator.cli.history", "Write the report of a run again."),
    "runs": ("orchestrator.cli.history", "List the runs of the journal."),
    "simulate": ("orchestrator.cli.simulate", "Serve a pretend service on loopback."),
    "completion": ("orchestrator.cli.completion", "Print what lets a shell complete commands."),
}
"""Each command, the module that has it under its name, and its line in the list."""


class _Commands(click.Group):
    """Commands by name; a module is imported when its command is asked for."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(_COMMANDS[name][0]), name)
        assert isinstance(command, click.Command)  # noqa: S101 - the table is wrong otherwise
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Complete the name of a command, from the table: none has to be loaded for that."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only who completes

        return [
            *(
                CompletionItem(name, help=words)
                for name, (_, words) in _COMMANDS.items()
                if name.startswith(incomplete)
            ),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in _COMMANDS.items()])


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value:
        from importlib.metadata import version  # noqa: PLC0415 - only who asks pays for it

        click.echo(f"orchestrator {version('fleet-restart-orchestrator')}")
        ctx.exit()


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 all restarted, 1 some not, 2 wrong use (nothing sent), 3 stopped early, "
    "4 not possible now, 130 aborted, 70 a bug.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
    help="Print the version and leave.",
)  # fmt: skip
def commands() -> None:
    """Restart a fleet of managed search clusters within limits that hold, and say what happened."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command line; return its exit code."""
    try:
        return _carry_out(arguments)
    finally:
        _let_go_of_dead_streams()


def _let_go_of_dead_streams() -> None:
    """Drop what a terminal that is gone cannot take: it must not change the exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _carry_out(arguments: Sequence[str] | None) -> int:
    try:
        code = commands.main(
            args=None if arguments is None else list(arguments),
            prog_name="orchestrator",
            standalone_mode=False,
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _said(ExitCode.ABORTED, "aborted")
    except OrchestratorError as error:
        return _said(error.exit_code, f"error: {error}")
    except BrokenPipeError:
        # Whoever read our output has left; python must not complain about it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception:  # noqa: BLE001 - the last line of defence: say that it is our fault
        _said(ExitCode.BUG, traceback.format_exc().rstrip())
        return _said(
            ExitCode.BUG,
            "error: this is a bug in orchestrator, not in what you did; the journal holds what "
            "happened until here, `orchestrator report` prints it",
        )
    return code if isinstance(code, int) else ExitCode.OK


def _said(code: ExitCode, words: str) -> int:
    with contextlib.suppress(OSError):  # the terminal is gone; the exit code still tells
        click.echo(blot(words), err=True)
    return code
