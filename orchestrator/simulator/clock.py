"""A clock that jumps: an event loop in which waiting takes no time.

Whenever the loop would sleep until its next timer, the clock is moved there instead. What runs on
it is the real engine; hours pass in as long as the deciding takes, and the same seed gives the same
run. There must be no threads and no sockets: nothing would wake the loop for them. Bound what runs
with `anyio.fail_after`, or a task that waits for nothing at all spins for ever.
"""

import asyncio
import math
import selectors
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import anyio

ResultT = TypeVar("ResultT")

_CLOCK_RESOLUTION = 1e-6
"""Above zero, or rounding leaves a timer just ahead of the clock for ever."""

_HAIR = 1e-6
"""Seconds by which whoever waited is late: nobody may find that the moment has not quite come."""

_FUZZ = 1e-3
"""The part of a tick by which something may be due after it and still belongs to it."""


class _JumpingSelector(selectors.SelectSelector):
    """A selector that never blocks: it moves the clock by the time it was asked to wait.

    With a `tick` it moves by whole ticks, so that what is due at nearly the same moment is done in
    one go.
    """

    def __init__(self, tick: float) -> None:
        super().__init__()
        self.now = 0.0
        self._tick = tick

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now; if nothing is, it is `timeout` later."""
        if timeout == 0:
            return []  # there is something to do already, and nobody else to hear from
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everything waits for something that will never happen")
            due_at = self.now + max(timeout, 0.0)
            if self._tick:
                ticks = math.ceil((due_at - _FUZZ * self._tick) / self._tick)
                due_at = max(due_at, ticks * self._tick)
            self.now = due_at + _HAIR
        return ready


class _JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is its selector's."""

    def __init__(self, tick: float) -> None:
        self._jumping = _JumpingSelector(tick)
        super().__init__(self._jumping)
        self._clock_resolution = _CLOCK_RESOLUTION

    def time(self) -> float:
        """Return the seconds that have passed in this loop."""
        return self._jumping.now


class JumpingClock:
    """The steady axis of a virtual run; begins at `start`."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._start = start
        self._loop: asyncio.AbstractEventLoop | None = None

    def now(self) -> float:
        """Return the moment on the axis."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._start + self._loop.time()

    @property
    def wall_offset(self) -> float:
        """Return 0: here the steady axis is the wall clock."""
        return 0.0


def run_in_virtual_time(
    main: Callable[..., Awaitable[ResultT]], *arguments: Any, tick: float = 0.0
) -> ResultT:
    """Run `main` to its end on a loop whose clock jumps.

    Args:
        main: what to run.
        arguments: what it is called with.
        tick: the step in seconds in which time goes; 0 lets it go to whatever is due.

    Raises:
        RuntimeError: everything waits, and nothing will ever happen.
    """
    options: Mapping[str, Any] = {"loop_factory": partial(_JumpingLoop, tick)}
    return anyio.run(main, *arguments, backend="asyncio", backend_options=dict(options))
