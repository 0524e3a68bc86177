"""One account's way to the service: its first call alone, and none after a refusal.

A key that is refused a few times is locked for minutes, for everybody who uses it. Hence:

- Until a call of the account was accepted, its calls go one at a time.
- After a refusal none leaves, unless the account has other credentials by then.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from orchestrator.css.codes import ErrorClass
from orchestrator.errors import CloudError
from orchestrator.span import format_span

UNAUTHORIZED = 401

Renew = Callable[[float], Awaitable[bool]]
"""Gets other credentials than those given out at a moment; says whether there are any."""


class Turnstile:
    """Whether calls of one account may leave.

    Args:
        account: how the account is called in what is said of it.
        patience: seconds that a call waits for its turn.
    """

    __slots__ = ("_account", "_is_trusted", "_patience", "_refusal", "_refused_at", "_trial")

    def __init__(self, account: str, patience: float) -> None:
        self._account = account
        self._patience = patience
        self._is_trusted = False
        self._refusal: str | None = None
        self._refused_at = 0.0
        self._trial: anyio.Event | None = None

    @property
    def is_open(self) -> bool:
        """Return whether any number of calls may leave at once."""
        return self._is_trusted

    def accept(self) -> None:
        """Take note that the service accepted a call of the account."""
        self._is_trusted = True
        self._refusal = None

    def refuse(self, given_at: float, words: str) -> None:
        """Take note that the service refused the credentials given out at that moment."""
        self._is_trusted = False
        self._refused_at = given_at
        self._refusal = words

    @asynccontextmanager
    async def turn(self, renew: Renew) -> AsyncIterator[None]:
        """Wait until the call may leave, and keep others back while it shows what comes of it.

        Raises:
            CloudError: the account was refused and has no other credentials; status 401. Or nobody
                knows yet whether it is accepted.
        """
        if not await self._wait():
            yield
            return
        self._trial = trial = anyio.Event()
        try:
            if self._refusal is not None and not await renew(self._refused_at):
                raise self._refused()
            yield
        finally:
            self._trial = None
            trial.set()

    async def _wait(self) -> bool:
        """Return whether the call goes alone; False once the account is trusted."""
        with anyio.move_on_after(self._patience):
            while not self._is_trusted and self._trial is not None:
                await self._trial.wait()
        if self._is_trusted:
            return False
        if self._trial is None:
            return True
        raise CloudError(
            f"the first call with credential {self._account} has no answer after "
            f"{format_span(self._patience)}, and others wait for it; look again later",
            error_class=ErrorClass.UNSENT.value,
        )

    def _refused(self) -> CloudError:
        return CloudError(
            f"nothing more is sent with credential {self._account}, lest it be locked: it was "
            f"refused ({self._refusal}); correct it, then go on with `orchestrator resume`",
            status=UNAUTHORIZED,
            error_class=ErrorClass.UNAUTHORIZED.value,
        )
