"""`orchestrator status`: how a run stands, what runs, and why the others wait."""

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import click

from orchestrator.cli import completion
from orchestrator.cli.options import JOURNAL, settings_from, settings_options
from orchestrator.config import Settings
from orchestrator.errors import ExitCode
from orchestrator.status import Status, lookout

if TYPE_CHECKING:
    from rich.live import Live

EVERY = 1.0
"""Seconds between two looks of `--watch`, at least."""

_SHARE = 10
"""Between two looks passes so many times as long as the last one took: a tenth of a core."""

_PLAIN_WIDTH = 120
_ALL = 10_000
_SHORTEST = 24


@click.command()
@click.argument("run", required=False, metavar="[RUN]", shell_complete=completion.runs)
@click.option("--watch", is_flag=True, help="Look again each second until the run ends.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How it is printed."
)
@settings_options(JOURNAL)
def status(
    run: str | None, *, watch: bool, output: str, config_file: Path | None, **given: Any
) -> int:
    """Say how RUN stands, from any terminal: what runs, and why each of the others waits.

    Without RUN: the only live run, else the newest. It only reads, and disturbs nobody.
    """
    settings = settings_from(given, config_file)
    screen = _screen(output, is_watching=watch)
    try:
        anyio.run(partial(_look, settings, run, screen, is_watching=watch))
    except KeyboardInterrupt:
        if not watch:
            raise
    return ExitCode.OK


async def _look(
    settings: Settings, run: str | None, screen: "_Screen", *, is_watching: bool
) -> None:
    async with lookout(settings, run) as look:
        with screen:
            while True:
                began_at = anyio.current_time()
                found = await look.look()
                screen.show(found)
                if not (is_watching and found.is_live):
                    return
                took = anyio.current_time() - began_at
                await anyio.sleep(max(EVERY - took, _SHARE * took))


# ---------------------------------------------------------------------------------- where it goes


class _Screen(Protocol):
    def __enter__(self) -> object: ...
    def __exit__(self, *_: object) -> None: ...
    def show(self, found: Status) -> None: ...


def _screen(output: str, *, is_watching: bool) -> _Screen:
    if output == "json":
        return _Json(indent=None if is_watching else 2)
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        return _Terminal(is_watching=is_watching)
    return _Plain()


class _Json:
    """One object: over several lines, or a line each when looking again and again."""

    def __init__(self, indent: int | None) -> None:
        self._indent = indent

    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...

    def show(self, found: Status) -> None:
        """Print the object."""
        click.echo(json.dumps(found.as_dict(), indent=self._indent, ensure_ascii=False))


class _Plain:
    """Plain lines; a look that shows the same as the one before is not printed again."""

    def __init__(self) -> None:
        self._said = ""

    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...

    def show(self, found: Status) -> None:
        """Print the lines."""
        text = "\n".join(map(str, found.lines(_PLAIN_WIDTH, _ALL)))
        if text != self._said:
            click.echo(f"\n{text}" if self._said else text)
        self._said = text


class _Terminal:
    """Lines with colours; painted in place when looking again and again."""

    def __init__(self, *, is_watching: bool) -> None:
        from rich.console import Console  # noqa: PLC0415 - it takes 50 ms to load

        self._console = Console(no_color=bool(os.environ.get("NO_COLOR")), legacy_windows=False)
        self._is_watching = is_watching
        self._live: Live | None = None

    def __enter__(self) -> None:
        if self._is_watching:
            from rich.live import Live  # noqa: PLC0415 - it takes 50 ms to load

            self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
            self._live.start()

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, found: Status) -> None:
        """Paint the lines."""
        from orchestrator.watch.progress import text_of  # noqa: PLC0415 - with rich

        width, height = self._console.size
        if self._live is not None:
            self._live.update(text_of(found.lines(width, height - 1), fold=False), refresh=True)
        else:
            # What matters stands first: a long list of what runs must not push it off the screen.
            self._console.print(text_of(found.lines(width, max(height - 1, _SHORTEST)), fold=True))
