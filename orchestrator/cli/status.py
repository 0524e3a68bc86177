"""`orchestrator status`: how a run stands, what runs, and why the others wait."""

import json
import math
import os
import sys
from contextlib import ExitStack
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
from orchestrator.watch.progress import takes_pictures
from orchestrator.watch.suspend import suspending

if TYPE_CHECKING:
    from rich.live import Live

EVERY = 1.0
"""Seconds between two looks of `--watch`, at least."""

SILENCE = 60.0
"""Seconds without news after which plain lines say once more how the run stands."""

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
    if takes_pictures(sys.stdout, os.environ):
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
    """Plain lines; when looking again and again, only when something moved, or after a while."""

    def __init__(self) -> None:
        self._gist: object = None
        self._said_at = -math.inf

    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...

    def show(self, found: Status) -> None:
        """Print the lines."""
        gist = found.gist()
        if gist == self._gist and found.now < self._said_at + SILENCE:
            return
        text = "\n".join(map(str, found.lines(_PLAIN_WIDTH, _ALL)))
        click.echo(text if self._gist is None else f"\n{text}")
        self._gist, self._said_at = gist, found.now


class _Terminal:
    """Lines with colours; painted in place when looking again and again."""

    def __init__(self, *, is_watching: bool) -> None:
        from rich.console import Console  # noqa: PLC0415 - it takes 50 ms to load

        self._console = Console(legacy_windows=False)
        self._is_watching = is_watching
        self._live: Live | None = None
        self._stack = ExitStack()

    def __enter__(self) -> None:
        if self._is_watching:
            self._stack.enter_context(suspending(self))
            self.come_back()

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self.step_aside()

    def step_aside(self) -> None:
        """Leave what is painted where it is, and give the cursor back."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def come_back(self) -> None:
        """Paint anew, below whatever was written meanwhile."""
        from rich.live import Live  # noqa: PLC0415 - it takes 50 ms to load

        self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
        self._live.start()

    def show(self, found: Status) -> None:
        """Paint the lines."""
        from orchestrator.watch.progress import text_of  # noqa: PLC0415 - with rich

        width, height = self._console.size
        if self._live is not None:
            self._live.update(text_of(found.lines(width, height - 1), fold=False), refresh=True)
        else:
            # What matters stands first: a long list of what runs must not push it off the screen.
            self._console.print(text_of(found.lines(width, max(height - 1, _SHORTEST)), fold=True))
