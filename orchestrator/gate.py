"""The operator's gate: commands of their own that say whether the night may go on.

Rules:

- Exit code 0 means go. Anything else does not: another code, a signal, no answer in time, a command
  that cannot be run. The last line of what it printed is the reason.
- A command that takes too long is ended with everything that it started.
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

import anyio
from anyio.abc import Process

from orchestrator.span import format_span

REASON_LENGTH = 200
"""Characters of a reason that are kept."""

_OUTPUT = 65_536
_CANNOT_RUN = {126: "it cannot be executed", 127: "it was not found"}


class CommandGate:
    """Asks one command after the other, through the shell; fits `engine.Gate`."""

    def __init__(self, commands: Sequence[str], *, timeout: float) -> None:
        """Take the commands.

        Args:
            commands: as they would be typed; all of them have to say go.
            timeout: seconds that each of them may take.
        """
        self._commands = tuple(commands)
        self._timeout = timeout

    async def ask(self, facts: Mapping[str, str]) -> str | None:
        """Return why nothing may start, or None for go; `facts` become environment variables."""
        for command in self._commands:
            reason = await self._ask_one(command, facts)
            if reason is not None:
                return reason
        return None

    async def _ask_one(self, command: str, facts: Mapping[str, str]) -> str | None:
        try:
            process = await anyio.open_process(
                command,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
                env={**os.environ, **facts},
                start_new_session=True,
            )
        except OSError as error:
            return f"{_short(command)}: {error.strerror or error}"
        try:
            with anyio.move_on_after(self._timeout):
                said = await _output_of(process)
                code = await process.wait()
                return None if code == 0 else _reason(command, code, said)
            return f"{_short(command)}: no answer within {format_span(self._timeout)}"
        finally:
            await _end(process)


async def _output_of(process: Process) -> bytes:
    """Read to the end, and keep the last of it."""
    kept = b""
    assert process.stdout is not None  # noqa: S101 - it was asked for
    async for piece in process.stdout:
        kept = (kept + piece)[-_OUTPUT:]
    return kept


async def _end(process: Process) -> None:
    with anyio.CancelScope(shield=True):
        with suppress(ProcessLookupError, PermissionError):
            # The session is its own, so that this reaches its children and nobody else.
            os.killpg(process.pid, signal.SIGKILL)
        await process.aclose()


def _reason(command: str, code: int, said: bytes) -> str:
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines()]
    last = next((line for line in reversed(lines) if line), "")
    printable = "".join(letter for letter in last if letter.isprintable())[:REASON_LENGTH]
    if printable:
        return printable
    how = _CANNOT_RUN.get(code) or (f"signal {-code}" if code < 0 else f"exit code {code}")
    return f"{_short(command)}: {how}"


def _short(command: str) -> str:
    return command if len(command) <= REASON_LENGTH // 4 else f"{command[: REASON_LENGTH // 4]}…"
