"""When looks may leave: slowed by an account's 429s, and out of the way of its restarts.

Rules:

- Restarts are never held back here: they are paced where they are granted.
- A look that would have to wait for long does not: it is told when its turn is, and that turn is
  kept for it. A look that came back late would be no baseline any more.
- A look that was throttled slows down all looks of its account. A restart that was throttled does
  not: looks that are too rare miss what they are for, and if the service counts both together, they
  will be throttled themselves.
- While looks are slowed down, they let restarts that are under way go first.
"""

from collections.abc import Callable

import anyio

from orchestrator.css.codes import ErrorClass
from orchestrator.errors import CloudError
from orchestrator.model import Throttle
from orchestrator.pace import Pace

PATIENCE = 0.5
"""Seconds that a look waits for its turn; beyond that it is told to come again."""

GRACE = 5.0
"""Seconds for which a turn is kept for a look that was told to come again."""

GIVE_WAY = 0.2
"""Seconds that a look waits for restarts to be answered, at the most."""


class Looks:
    """The looks of one account.

    Args:
        now: the steady moment.
    """

    __slots__ = ("_all_answered", "_kept", "_now", "_pace", "_restarting")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._pace = Pace("looks")
        self._kept: dict[str, float] = {}
        self._restarting = 0
        self._all_answered: anyio.Event | None = None

    async def turn(self, what: str, doing: str, *, patience: float = PATIENCE) -> float:
        """Wait until a look at `what` may leave; return when that is.

        Raises:
            CloudError: it has to wait for longer; says for how long, and keeps its turn.
        """
        now = self._now()
        at = self._kept.pop(what, None)
        if at is None or now > at + GRACE:
            at = self._pace.frees_at(now)
            self._pace.ask(at)
        if at - now > patience:
            self._kept[what] = at
            raise CloudError(
                f"{doing}: put off, for looks with the same credential were throttled; they go "
                "slower now",
                retry_after=at - now,
                error_class=ErrorClass.THROTTLED.value,
            )
        if at > now:
            await anyio.sleep(at - now)
        if self._restarting and self._pace.is_slowed:
            await self._give_way()
        return self._now()

    async def _give_way(self) -> None:
        if self._all_answered is None:
            self._all_answered = anyio.Event()
        with anyio.move_on_after(GIVE_WAY):
            await self._all_answered.wait()

    def went_well(self) -> None:
        """Take note that a look was answered."""
        self._pace.speed_up()

    def throttled(self, asked_at: float, wait: float | None, named: Throttle | None) -> float:
        """Take note that a look was throttled; return for how long looks wait now."""
        now = self._now()
        self._pace.slow_down(now, asked_at=asked_at, wait=wait, named=named)
        return self._pace.frees_at(now) - now

    def restart_begins(self) -> None:
        """Take note that a restart is under way; `restart_ended` follows in any case."""
        self._restarting += 1

    def restart_ended(self) -> None:
        """Take note that a restart was answered, or never will be."""
        self._restarting -= 1
        if not self._restarting and self._all_answered is not None:
            self._all_answered.set()
            self._all_answered = None
