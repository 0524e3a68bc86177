"""Whoever takes too long is interrupted in time, and nobody else."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from orchestrator.css.patience import Patience
from orchestrator.simulator.clock import run_in_virtual_time

T = TypeVar("T")


async def within(patience: Patience, seconds: float) -> float | None:
    """Take so many seconds; return when it was interrupted, or None if it was not."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        with patience.limit():
            await asyncio.sleep(seconds)
    except TimeoutError:
        return round(loop.time() - began, 3)
    return None


def play(story: Coroutine[Any, Any, T]) -> T:
    async def main() -> T:
        return await story

    return run_in_virtual_time(main)


def test_each_call_has_the_whole_patience() -> None:
    """Calls that begin one after the other are interrupted one after the other, each in time."""

    async def story() -> list[float | None]:
        patience = Patience(10.0)
        async with asyncio.TaskGroup() as tasks:
            calls = []
            for _ in range(5):
                calls.append(tasks.create_task(within(patience, 60.0)))
                await asyncio.sleep(3.0)
        return [call.result() for call in calls]

    assert play(story()) == [10.0] * 5


def test_who_is_quick_is_left_alone() -> None:
    """Quick calls come to their end, however many there are, and slow ones among them do not."""

    async def story() -> list[float | None]:
        patience = Patience(10.0)
        spans = [1.0, 60.0, 9.9, 0.0, 60.0]
        found = []
        for _ in range(3):
            found += await asyncio.gather(*(within(patience, span) for span in spans))
        return found

    assert play(story()) == [None, 10.0, None, None, 10.0] * 3


def test_one_task_may_be_interrupted_again_and_again() -> None:
    """A call that was interrupted leaves nothing behind for the next of the same task."""

    async def story() -> list[float | None]:
        patience = Patience(2.0)
        return [await within(patience, span) for span in (5.0, 1.0, 5.0)]

    assert play(story()) == [2.0, None, 2.0]


@pytest.mark.parametrize("at", [1.0, 2.0])
def test_who_is_cancelled_by_others_is_cancelled(at: float) -> None:
    """Whoever wants the task to end gets that, even in the moment in which patience is over."""

    async def story() -> bool:
        task = asyncio.create_task(within(Patience(2.0), 60.0))
        asyncio.get_running_loop().call_later(at, task.cancel)
        await asyncio.wait([task])
        return task.cancelled()

    assert play(story())


def test_what_breaks_is_raised_as_it_is() -> None:
    """An error inside is no matter of patience."""

    async def story() -> None:
        with Patience(1.0).limit():
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        play(story())
