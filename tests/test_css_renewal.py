"""What is fetched once and kept fresh: how often, when, and what happens if it cannot be had."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

from orchestrator.css.credentials import Token
from orchestrator.css.renewal import LONGEST_MARGIN, Fetched, Renewal
from orchestrator.errors import CloudError
from orchestrator.secret import Secret


class Well:
    """Gives a new token each time, by a clock that is set by hand."""

    def __init__(self, life: float = 100.0) -> None:
        self.now = 0.0
        self.life = life
        self.fetched = 0
        self.takes = 0.001
        self.is_dry = False
        self.is_the_same = False

    async def fetch(self) -> Fetched:
        self.fetched += 1
        number = 1 if self.is_the_same else self.fetched
        await anyio.sleep(self.takes)
        if self.is_dry:
            raise CloudError(f"fetch {number} in vain")
        return Fetched.living(Token(Secret(f"token-{number}")), self.life)

    def renewal(self) -> Renewal:
        return Renewal(self.fetch, lambda: self.now)


def token(number: int) -> Token:
    return Token(Secret(f"token-{number}"))


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with anyio.fail_after(10):
            await story()

    anyio.run(bounded)


async def at_once(number: int, ask: Callable[[], Awaitable[object]]) -> list[object]:
    """Ask so often at the same time; errors count as answers."""
    found: list[object] = []

    async def one() -> None:
        try:
            found.append(await ask())
        except CloudError as error:
            found.append(str(error))

    async with anyio.create_task_group() as tasks:
        for _ in range(number):
            tasks.start_soon(one)
    return found


def test_one_fetch_for_all_who_wait() -> None:
    """A hundred who ask at once get one credential, fetched once."""

    async def story() -> None:
        well = Well()
        renewal = well.renewal()
        assert await at_once(100, renewal.current) == [token(1)] * 100
        assert well.fetched == 1

    run(story)


def test_a_fetch_in_vain_fails_all_who_waited() -> None:
    """Who waited for a fetch that failed fails with it; who comes later has another try."""

    async def story() -> None:
        well = Well()
        well.is_dry = True
        renewal = well.renewal()
        assert await at_once(50, renewal.current) == ["fetch 1 in vain"] * 50
        well.is_dry = False
        assert await renewal.current() == token(2)

    run(story)


@pytest.mark.parametrize(
    ("life", "renewed_at"), [(3.0, 2.4), (3600.0, 2880.0), (86400.0, 86400.0 - LONGEST_MARGIN)]
)
def test_renewed_well_before_its_end(life: float, renewed_at: float) -> None:
    """A credential is replaced in the last fifth of its life, at most in the last half hour."""

    async def story() -> None:
        well = Well(life)
        renewal = well.renewal()
        await renewal.current()
        well.now = renewed_at - 0.01
        assert await renewal.current() == token(1)
        well.now = renewed_at + 0.01
        assert await renewal.current() == token(2)

    run(story)


def test_the_old_one_serves_while_it_is_replaced() -> None:
    """Before its end nobody waits for the new one but who fetches it."""

    async def story() -> None:
        well = Well()
        renewal = well.renewal()
        await renewal.current()
        well.now, well.takes = 90.0, 0.05
        found = await at_once(10, renewal.current)
        assert sorted(map(repr, found)) == sorted(map(repr, [token(1)] * 9 + [token(2)]))
        assert found[-1] == token(2)
        assert well.fetched == 2
        well.now = 300.0
        assert await at_once(10, renewal.current) == [token(3)] * 10

    run(story)


def test_the_old_one_serves_if_it_cannot_be_replaced_yet() -> None:
    """A failed renewal is tried again a little later; only at its end the old one is over."""

    async def story() -> None:
        well = Well()
        renewal = well.renewal()
        await renewal.current()
        well.now, well.is_dry = 80.0, True
        assert await renewal.current() == token(1)
        assert await renewal.current() == token(1)
        assert well.fetched == 2
        well.now = 86.0
        assert await renewal.current() == token(1)
        assert well.fetched == 3
        well.now = 100.0
        with pytest.raises(CloudError, match="fetch 4 in vain"):
            await renewal.current()

    run(story)


def test_a_refused_one_is_replaced_once() -> None:
    """Of many who were refused, one fetches another credential, and all are told of it."""

    async def story() -> None:
        well = Well()
        renewal = well.renewal()
        await renewal.current()
        well.now = 5.0
        assert await at_once(20, lambda: renewal.renew(4.0)) == [True] * 20
        assert well.fetched == 2
        assert await renewal.current() == token(2)
        assert await renewal.renew(4.5)
        assert well.fetched == 2

    run(story)


def test_who_was_refused_with_the_same_as_now_has_no_other() -> None:
    """What reads the same again is no replacement."""

    async def story() -> None:
        well = Well()
        well.is_the_same = True
        renewal = well.renewal()
        await renewal.current()
        assert not await renewal.renew(1.0)
        well.is_the_same, well.now = False, 2.0
        assert await renewal.renew(1.0)

    run(story)


def test_a_renewal_in_vain_fails_all_who_waited() -> None:
    """With nobody to give another one, each who asks learns that, and one has tried."""

    async def story() -> None:
        well = Well()
        renewal = well.renewal()
        await renewal.current()
        well.is_dry, well.now = True, 1.0
        assert await at_once(20, lambda: renewal.renew(0.5)) == ["fetch 2 in vain"] * 20

    run(story)


def test_patience_with_who_fetches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits too long for another's fetch goes without; the fetch itself goes on."""
    monkeypatch.setattr("orchestrator.css.renewal.PATIENCE", 0.02)

    async def story() -> None:
        well = Well()
        well.takes = 0.1
        found = await at_once(3, well.renewal().current)
        assert found[2] == token(1)
        assert found[:2] == ["a credential was not to be had within 20ms; try again later"] * 2

    run(story)


def test_before_the_first_there_is_nothing_to_replace() -> None:
    """Who asks for another before there was one is told to take the first."""

    async def story() -> None:
        assert await Well().renewal().renew(0.0)

    run(story)
