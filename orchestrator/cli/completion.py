"""What a shell completes: `orchestrator completion`, and the answers to what its script asks.

Whatever goes wrong while completing, nothing is said: the line is the operator's, and half typed.
"""

from collections.abc import Callable, Sequence

import anyio
import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from orchestrator.errors import ExitCode

VARIABLE = "_ORCHESTRATOR_COMPLETE"
"""By this variable a script of ours says that it asks for completions, and in which form."""

PATIENCE = 1.0
"""Seconds that a journal may take to tell its runs."""

SHELLS = ("bash", "zsh", "fish")

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, /, shell: str) -> int:
    """Print the script that lets SHELL complete commands, options, words and runs.

    \b
    bash:  eval "$(orchestrator completion bash)"          in ~/.bashrc
    zsh:   eval "$(orchestrator completion zsh)"           in ~/.zshrc
    fish:  orchestrator completion fish | source           in ~/.config/fish/config.fish
    """  # noqa: D301 - click's mark for lines that are not wrapped
    root = ctx.find_root()
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - all of ours are known
    # Past the shell's own version check: the script may be made here for another machine.
    click.echo(ShellComplete.source(kind(root.command, {}, "orchestrator", VARIABLE)))
    return ExitCode.OK


def files(_ctx: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Let the shell complete the name of a file."""
    return [CompletionItem(typed, type="file")]


def words(choices: Sequence[str]) -> Complete:
    """Return what completes one of these words."""

    def complete(
        _ctx: click.Context, _parameter: click.Parameter, typed: str
    ) -> list[CompletionItem]:
        return [CompletionItem(word) for word in choices if word.startswith(typed)]

    return complete


def runs(ctx: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Complete the id of a run, from the journal that the line names so far."""
    from orchestrator.cli.options import settings_from  # noqa: PLC0415 - it needs us
    from orchestrator.history import list_runs  # noqa: PLC0415 - only this needs a journal

    given = dict(ctx.params)

    async def ask() -> list[CompletionItem]:
        with anyio.move_on_after(PATIENCE):
            return [
                CompletionItem(run.run_id, help=f"{run.state}, {run.targets} targets")
                for run in await list_runs(settings_from(given, given.pop("config_file", None)))
                if run.run_id.startswith(typed)
            ]
        return []

    try:
        return anyio.run(ask)
    except Exception:  # noqa: BLE001 - no journal, or bad settings: there is nothing to complete
        return []
