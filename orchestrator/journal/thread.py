"""One thread for all blocking work of a store, in the order it was asked for.

A job that has begun comes to its end even if its caller is cancelled: half a commit is no answer.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel

from orchestrator.errors import JournalError

T = TypeVar("T")

_JOIN_WITHIN = 1.0


class _Work(Generic[T]):
    """A piece of work, and what came of it."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._result: T | None = None
        self._error: BaseException | None = None

    def do(self) -> None:
        """Do it; whatever it raises belongs to who asked for it."""
        try:
            self._result = self._work()
        except BaseException as exc:  # noqa: BLE001  it is raised where it was asked for
            self._error = exc

    def outcome(self) -> T:
        """Return or raise what it did."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # it is what the work returned


def on_loop(loop: asyncio.AbstractEventLoop, work: Callable[[], T]) -> T:
    """Have the loop do a piece of work, and wait for it; for jobs that the loop waits for.

    Raises:
        RuntimeError: the loop is closed.
    """
    piece = _Work(work)
    done: queue.SimpleQueue[None] = queue.SimpleQueue()

    def do() -> None:
        piece.do()
        done.put(None)

    loop.call_soon_threadsafe(do)
    done.get()
    return piece.outcome()


class _Job(_Work[T]):
    """A piece of work for the thread."""

    def __init__(
        self, work: Callable[[], T], loop: asyncio.AbstractEventLoop, over: Callable[[], None]
    ) -> None:
        super().__init__(work)
        self._loop = loop
        self._over = over
        self.done: asyncio.Future[None] = loop.create_future()

    def run(self) -> None:
        """Do the work, on the thread, and say so on the loop."""
        self.do()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._over()
        if not self.done.done():
            self.done.set_result(None)


class Worker:
    """A thread that does one job after another; it never keeps the process from ending."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._closed = False
        self._unfinished = 0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[], T]) -> T:
        """Have the thread do `work`; return or raise what it did.

        Raises:
            JournalError: the worker is closed.
        """
        await anyio.lowlevel.checkpoint_if_cancelled()
        return await self.finish(work)

    @property
    def is_idle(self) -> bool:
        """Whether the thread has nothing to do: until it waits, its loop may use what it uses."""
        return not self._unfinished and not self._closed

    async def finish(self, work: Callable[[], T]) -> T:
        """Have the thread do `work` even if the caller is cancelled by now: it was begun already.

        Raises:
            JournalError: the worker is closed.
        """
        if self._closed:
            raise JournalError("the journal is closed; nothing can be read or written any more")
        job = _Job(work, asyncio.get_running_loop(), self._count_off)
        self._unfinished += 1
        self._jobs.put(job)
        with anyio.CancelScope(shield=True):
            await job.done
        return job.outcome()

    async def close(self, last: Callable[[], None]) -> None:
        """Do what was asked for so far, then `last`, and end the thread."""
        try:
            await self.finish(last)
        finally:
            self._closed = True
            self._jobs.put(None)
            self._thread.join(_JOIN_WITHIN)

    def _count_off(self) -> None:
        self._unfinished -= 1

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
