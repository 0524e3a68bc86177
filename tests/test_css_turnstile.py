"""The first call of an account goes alone, and none goes after a refusal."""

import time
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest

from orchestrator.css.turnstile import REST, TRIALS, Turnstile
from orchestrator.errors import CloudError


class Road:
    """Counts the calls that are under way at once, and what became of them."""

    def __init__(self, turnstile: Turnstile, *, has_others: bool = False) -> None:
        self.turnstile = turnstile
        self.has_others = has_others
        self.under_way = 0
        self.most = 0
        self.sent = 0
        self.errors: list[CloudError] = []

    async def renew(self, _given_at: float) -> bool:
        await anyio.lowlevel.checkpoint()
        return self.has_others

    async def call(self, tell: Callable[[], None]) -> None:
        try:
            if self.turnstile.is_open:
                await self._go(tell)
            else:
                async with self.turnstile.turn(self.renew, "p"):
                    await self._go(tell)
        except CloudError as error:
            self.errors.append(error)

    async def _go(self, tell: Callable[[], None]) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.sent += 1
        await anyio.sleep(0.01)
        tell()
        self.under_way -= 1

    async def calls(self, number: int, tell: Callable[[], None]) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(number):
                tasks.start_soon(self.call, tell)


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with anyio.fail_after(10):
            await story()

    anyio.run(bounded)


def test_the_first_goes_alone() -> None:
    """Until one was accepted the others wait; then all go at once."""

    async def story() -> None:
        turnstile = Turnstile("prod", time.monotonic)
        road = Road(turnstile)
        moments = iter(range(100))

        def accept() -> None:
            if next(moments) == 0:
                assert road.most == 1
            turnstile.accept(time.monotonic(), "p")

        await road.calls(20, accept)
        assert (road.sent, road.errors) == (20, [])
        assert road.most == 19

    run(story)


def test_without_a_verdict_they_go_one_by_one() -> None:
    """A call that showed nothing lets the next one try, alone."""

    async def story() -> None:
        road = Road(Turnstile("prod", time.monotonic))
        await road.calls(5, lambda: None)
        assert (road.sent, road.most) == (5, 1)

    run(story)


def test_nothing_follows_a_refusal() -> None:
    """After one refusal nothing more leaves, and each who would is told why."""

    async def story() -> None:
        turnstile = Turnstile("prod", time.monotonic)
        road = Road(turnstile)
        await road.calls(20, lambda: turnstile.refuse(1.0, "signature fail", "p"))
        assert road.sent == 1
        assert len(road.errors) == 19
        for error in road.errors:
            assert (error.status, error.error_class) == (401, "unauthorized")
            assert "credential prod" in str(error)
            assert "signature fail" in str(error)

    run(story)


def test_others_open_it_again() -> None:
    """With other credentials at hand the next call tries them, alone, and then all go."""

    async def story() -> None:
        turnstile = Turnstile("prod", time.monotonic)
        road = Road(turnstile)
        await road.call(lambda: turnstile.accept(time.monotonic(), "p"))
        await road.call(lambda: turnstile.refuse(1.0, "expired", "p"))
        await road.call(lambda: turnstile.accept(time.monotonic(), "p"))
        assert (road.sent, len(road.errors)) == (2, 1)
        road.has_others = True
        await road.calls(5, lambda: turnstile.accept(time.monotonic(), "p"))
        assert road.sent == 7
        assert turnstile.is_open

    run(story)


def test_patience_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits too long for the first call's answer is told so, and has sent nothing."""
    monkeypatch.setattr("orchestrator.css.turnstile.PATIENCE", 0.05)

    async def story() -> None:
        turnstile = Turnstile("prod", time.monotonic)
        road = Road(turnstile)
        async with anyio.create_task_group() as tasks, turnstile.turn(road.renew, "p"):
            tasks.start_soon(road.call, lambda: turnstile.accept(time.monotonic(), "p"))
            await anyio.sleep(0.1)
        (error,) = road.errors
        assert (error.status, error.error_class) == (None, "unsent")
        assert "has no answer yet" in str(error)
        assert road.sent == 0

    run(story)


def test_a_first_call_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hangs, in a region that is down, does not keep the others: a second one tries."""
    monkeypatch.setattr("orchestrator.css.turnstile.NEXT_TRIAL_AFTER", 0.05)

    async def story() -> None:
        turnstile = Turnstile("prod", time.monotonic)
        road = Road(turnstile)
        async with anyio.create_task_group() as tasks, turnstile.turn(road.renew, "p"):
            for _ in range(10):
                tasks.start_soon(road.call, lambda: turnstile.accept(time.monotonic(), "p"))
            await anyio.sleep(0.04)
            assert road.sent == 0
            await anyio.sleep(0.06)
            assert (road.sent, road.errors) == (10, [])
        assert turnstile.is_open

    run(story)


def test_few_try_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long nobody is answered, fewer try than would lock a key."""
    monkeypatch.setattr("orchestrator.css.turnstile.NEXT_TRIAL_AFTER", 0.01)

    async def story() -> None:
        turnstile = Turnstile("prod", time.monotonic)
        trying: list[int] = []

        async def hang(number: int) -> None:
            async with turnstile.turn(Road(turnstile).renew, "p"):
                trying.append(number)
                await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(hang, number)
            await anyio.sleep(0.2)
            assert len(trying) == TRIALS
            tasks.cancel_scope.cancel()

    run(story)


def test_a_cancelled_first_lets_the_next_try() -> None:
    """If the first call is given up, nobody waits for it in vain."""

    async def story() -> None:
        turnstile = Turnstile("prod", time.monotonic)
        road = Road(turnstile)
        async with anyio.create_task_group() as tasks:
            with anyio.move_on_after(0.02):
                async with turnstile.turn(road.renew, "p"):
                    tasks.start_soon(road.call, lambda: turnstile.accept(time.monotonic(), "p"))
                    await anyio.sleep(1)
        assert (road.sent, road.errors) == (1, [])

    run(story)


def test_an_error_while_renewing_leaves_it_as_it_was() -> None:
    """If it cannot be said whether there are others, nothing leaves; the next one asks again."""

    async def story() -> None:
        turnstile = Turnstile("prod", time.monotonic)
        turnstile.refuse(1.0, "expired", "p")

        async def cannot_say(_given_at: float) -> bool:
            raise CloudError("IAM is away")

        for _ in range(2):
            with pytest.raises(CloudError, match="IAM is away"):
                async with turnstile.turn(cannot_say, "p"):
                    raise AssertionError
        assert not turnstile.is_open

    run(story)


def test_others_that_are_no_better_are_tried_once() -> None:
    """When what replaced a refused credential is refused too, nothing is tried for a while."""
    now = [2.0]

    async def story() -> None:
        turnstile = Turnstile("prod", lambda: now[0])
        road = Road(turnstile, has_others=True)
        await road.call(lambda: turnstile.refuse(1.0, "stale", "p"))
        await road.call(lambda: turnstile.refuse(now[0], "wrong", "p"))
        for _ in range(3):
            await road.call(lambda: turnstile.accept(time.monotonic(), "p"))
        assert (road.sent, len(road.errors)) == (2, 3)
        now[0] += REST
        await road.call(lambda: turnstile.accept(time.monotonic(), "p"))
        assert (road.sent, turnstile.is_open) == (3, True)

    run(story)


def test_late_refusals_of_what_was_replaced() -> None:
    """Who used the old credential hears of it late: that says nothing against the new one."""

    async def story() -> None:
        turnstile = Turnstile("prod", time.monotonic)
        road = Road(turnstile, has_others=True)
        turnstile.refuse(1.0, "stale", "p")
        assert await turnstile.renew(road.renew, "p")
        turnstile.refuse(1.5, "stale", "p")
        assert await turnstile.renew(road.renew, "p")
        await road.call(lambda: turnstile.accept(time.monotonic(), "p"))
        assert turnstile.is_open

    run(story)


def test_tokens_of_two_projects_that_end_together() -> None:
    """The end of one project's token says nothing about what just replaced that of another."""

    async def story() -> None:
        turnstile = Turnstile("prod", time.monotonic)
        road = Road(turnstile, has_others=True)
        turnstile.accept(time.monotonic(), "one")
        turnstile.refuse(time.monotonic(), "expired", "one")
        assert await turnstile.renew(road.renew, "one")
        turnstile.refuse(time.monotonic(), "expired", "two")
        assert await turnstile.renew(road.renew, "two")
        # What replaced the first is refused as well: now it rests, for everybody.
        turnstile.refuse(time.monotonic(), "expired", "one")
        assert not await turnstile.renew(road.renew, "one")
        assert not await turnstile.renew(road.renew, "two")

    run(story)


def test_an_acceptance_speaks_for_its_own_project() -> None:
    """A token that replaced another may end again, whichever project was accepted first."""

    async def story() -> None:
        turnstile = Turnstile("prod", time.monotonic)
        road = Road(turnstile, has_others=True)
        for _ in range(3):
            for project in ("one", "two"):
                turnstile.refuse(time.monotonic(), "expired", project)
                assert await turnstile.renew(road.renew, project)
            for project in ("one", "two"):
                turnstile.accept(time.monotonic(), project)

    run(story)
