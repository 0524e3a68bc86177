"""Looks of a throttled account: slower, in turn, and out of the way of restarts."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

from orchestrator.css.pacing import GIVE_WAY, GRACE, PATIENCE, Looks
from orchestrator.errors import CloudError
from orchestrator.model import Throttle
from orchestrator.pace import SHARE
from orchestrator.simulator.clock import JumpingClock, run_in_virtual_time

Story = Callable[[Looks, JumpingClock], Awaitable[None]]


def play(story: Story) -> None:
    """Play a story in virtual time."""

    async def main() -> None:
        clock = JumpingClock(start=0.0)
        with anyio.fail_after(10_000):
            await story(Looks(clock.now), clock)

    run_in_virtual_time(main)


async def put_off(looks: Looks, what: str) -> float:
    """Return for how long a look is put off."""
    with pytest.raises(CloudError) as caught:
        await looks.turn(what, f"listing {what}")
    assert caught.value.error_class == "throttled"
    assert caught.value.retry_after is not None
    return caught.value.retry_after


def test_looks_are_free_until_one_is_throttled() -> None:
    """Nothing is put off or delayed before the first 429."""

    async def story(looks: Looks, clock: JumpingClock) -> None:
        for number in range(100):
            await looks.turn(f"p{number}", "looking")
            looks.went_well()
        assert clock.now() == 0.0

    play(story)


def test_a_named_limit_is_kept() -> None:
    """After the wait, looks follow each other as the message allows, whoever they are for."""

    async def story(looks: Looks, clock: JumpingClock) -> None:
        asked_at = await looks.turn("p", "looking")
        assert looks.throttled(asked_at, 6.0, Throttle(20, 6.0)) == 6.0
        await anyio.sleep(6.0)
        began_at = clock.now()
        for number in range(40):
            await looks.turn(f"p{number}", "looking")
            looks.went_well()
        apart = (clock.now() - began_at) / 39
        assert apart == pytest.approx(6.0 / 20 / SHARE)

    play(story)


def test_a_long_wait_is_told_and_the_turn_is_kept() -> None:
    """Whoever is put off has its turn when it comes back, and cannot be overtaken for ever."""

    async def story(looks: Looks, clock: JumpingClock) -> None:
        asked_at = await looks.turn("a", "looking")
        looks.throttled(asked_at, 10.0, Throttle(1, 10.0))
        waits = [await put_off(looks, name) for name in "abc"]
        spacing = 10.0 / SHARE
        assert waits == pytest.approx([10.0, 10.0 + spacing, 10.0 + 2 * spacing])
        assert await put_off(looks, "b") == pytest.approx(waits[1], abs=0.001)
        await anyio.sleep(waits[0])
        await looks.turn("a", "looking")
        assert clock.now() == pytest.approx(10.0, abs=0.001)
        await anyio.sleep(waits[1] - clock.now() - PATIENCE / 2)
        await looks.turn("b", "looking")
        assert clock.now() == pytest.approx(waits[1], abs=0.001)

    play(story)


def test_a_turn_is_not_kept_for_ever() -> None:
    """Whoever does not come back within the grace has lost the turn and gets another."""

    async def story(looks: Looks, _clock: JumpingClock) -> None:
        asked_at = await looks.turn("a", "looking")
        looks.throttled(asked_at, 10.0, Throttle(1, 10.0))
        wait = await put_off(looks, "a")
        await anyio.sleep(wait + GRACE + 0.1)
        assert await put_off(looks, "a") == pytest.approx(10.0 / SHARE - GRACE - 0.1)

    play(story)


def test_looks_of_a_slowed_account_give_way_to_restarts() -> None:
    """While restarts are under way looks wait for them, but not for long; others do not wait."""

    async def story(looks: Looks, clock: JumpingClock) -> None:
        looks.restart_begins()
        asked_at = await looks.turn("p", "looking")
        assert clock.now() == 0.0
        looks.throttled(asked_at, 1.0, None)
        await anyio.sleep(1.0)
        await looks.turn("p", "looking")
        assert clock.now() == pytest.approx(1.0 + GIVE_WAY, abs=0.001)
        await anyio.sleep(1.0)

        async def end_soon() -> None:
            await anyio.sleep(0.1)
            looks.restart_ended()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end_soon)
            began_at = clock.now()
            await looks.turn("p", "looking")
            assert clock.now() - began_at == pytest.approx(0.1, abs=0.001)

    play(story)
