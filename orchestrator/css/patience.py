"""One patience for many calls, and one timer for all of them.

`asyncio.timeout` makes a timer for each, which costs a tenth of a call, four times as much as this.
Here everybody has the same patience, so whoever began first is out of it first.
"""

import asyncio
from types import TracebackType
from typing import Self


class Patience:
    """So many seconds for each call; fits as many calls at once as there are tasks.

    Args:
        seconds: how long a call may take.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._calls: dict[_Limited, None] = {}
        """Who is under way, in the order of their deadlines."""
        self._timer: asyncio.TimerHandle | None = None

    def limit(self) -> "_Limited":
        """Return a context for one call: it raises `TimeoutError` once patience is over."""
        return _Limited(self)

    def begin(self, call: "_Limited") -> float:
        """Take note of a call; return the moment on the loop's clock when patience is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.seconds
        self._calls[call] = None
        if self._timer is None:
            self._timer = loop.call_at(deadline, self._interrupt, loop)
        return deadline

    def end(self, call: "_Limited") -> None:
        """Forget a call that is over."""
        del self._calls[call]

    def _interrupt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Interrupt whoever is over the time, and come back for the next."""
        self._timer = None
        for call in self._calls:
            if call.deadline > loop.time():
                self._timer = loop.call_at(call.deadline, self._interrupt, loop)
                return
            call.interrupt()


class _Limited:
    """One call of one task; see `asyncio.timeout`, which does the same with a timer of its own."""

    __slots__ = ("_before", "_is_over", "_patience", "_task", "deadline")

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._is_over = False
        self.deadline = 0.0

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("patience is for tasks")
        self._task = task
        # Whoever else wants the task cancelled has to get that.
        self._before = task.cancelling()
        self.deadline = self._patience.begin(self)
        return self

    def interrupt(self) -> None:
        """Have the task stop waiting for whatever it waits for."""
        if not self._is_over:
            self._is_over = True
            self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._patience.end(self)
        if not self._is_over:
            return
        is_ours = self._task.uncancel() <= self._before
        if is_ours and kind is asyncio.CancelledError:
            raise TimeoutError from error
