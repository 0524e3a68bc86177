"""A clock that jumps: an event loop in which waiting takes no time.

Whenever the loop would sleep until its next timer, the clock is moved there instead. What runs on
it is the real engine; hours pass in as long as the deciding takes, and the same seed gives the same
run. There must be no threads and no sockets: nothing would wake the loop for them. Bound what runs
with `anyio.fail_after`, or a task that waits for nothing at all spins for ever.
"""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import anyio

ResultT = TypeVar("ResultT")


class _JumpingSelector(selectors.SelectSelector):
    """A selector that never blocks: it moves the clock by the time it was asked to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now; if nothing is, it is `timeout` later."""
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everything waits for something that will never happen")
            self.now += max(timeout, 0.0)
        return ready


class _JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is its selector's."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        # Above zero, or rounding leaves a timer just ahead of the clock for ever.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Return the seconds that have passed in this loop."""
        return self._jumping.now


class JumpingClock:
    """The steady axis of a virtual run; begins at `start`."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._start = start

    def now(self) -> float:
        """Return the moment on the axis."""
        return self._start + asyncio.get_running_loop().time()

    @property
    def wall_offset(self) -> float:
        """Return 0: here the steady axis is the wall clock."""
        return 0.0


def run_in_virtual_time(main: Callable[..., Awaitable[ResultT]], *arguments: Any) -> ResultT:
    """Run `main` to its end on a loop whose clock jumps.

    Raises:
        RuntimeError: everything waits, and nothing will ever happen.
    """
    options: Mapping[str, Any] = {"loop_factory": _JumpingLoop}
    return anyio.run(main, *arguments, backend="asyncio", backend_options=dict(options))
