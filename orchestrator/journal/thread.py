"""One thread for all blocking work of a store, in the order it was asked for.

A job that has begun comes to its end even if its caller is cancelled: half a commit is no answer.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.lowlevel

from orchestrator.errors import JournalError

T = TypeVar("T")

_JOIN_WITHIN = 1.0


class _Job:
    """One piece of work, and what came of it."""

    def __init__(self, work: Callable[[], object], loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        self._loop = loop
        self.done: asyncio.Future[None] = loop.create_future()
        self.result: object = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do the work, on the thread; whatever it raises belongs to the caller."""
        try:
            self.result = self._work()
        except BaseException as exc:  # noqa: BLE001  it is raised where the job was asked for
            self.error = exc
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class Worker:
    """A thread that does one job after another; it never keeps the process from ending."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[], T]) -> T:
        """Have the thread do `work`; return or raise what it did.

        Raises:
            JournalError: the worker is closed.
        """
        await anyio.lowlevel.checkpoint_if_cancelled()
        return await self._ask(work)

    async def close(self, last: Callable[[], None]) -> None:
        """Do what was asked for so far, then `last`, and end the thread."""
        try:
            await self._ask(last)
        finally:
            self._closed = True
            self._jobs.put(None)
            self._thread.join(_JOIN_WITHIN)

    async def _ask(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise JournalError("the journal is closed; nothing can be read or written any more")
        job = _Job(work, asyncio.get_running_loop())
        self._jobs.put(job)
        with anyio.CancelScope(shield=True):
            await job.done
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[return-value]  # it is what `work` returned

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
