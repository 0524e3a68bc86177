"""One account's way to the service: its first call alone, and none after a refusal.

A key that is refused a few times is locked for minutes, for everybody who uses it. Hence:

- Until a call of the account was accepted, its calls go one at a time.
- After a refusal none leaves, unless the account has other credentials by then. If those are
  refused as well, it rests.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from orchestrator.css.codes import ErrorClass
from orchestrator.errors import CloudError
from orchestrator.span import format_span

UNAUTHORIZED = 401

REST = 60.0
"""Seconds for which nothing is tried after other credentials were refused as well."""

Renew = Callable[[float], Awaitable[bool]]
"""Gets other credentials than those given out at a moment; says whether there are any."""


class Turnstile:
    """Whether calls of one account may leave.

    Args:
        account: how the account is called in what is said of it.
        now: the steady moment.
        patience: seconds that a call waits for its turn.
    """

    def __init__(self, account: str, now: Callable[[], float], patience: float) -> None:
        self._account = account
        self._now = now
        self._patience = patience
        self._is_trusted = False
        self._refusal: str | None = None
        self._refused_at = -math.inf
        self._renewed_at = -math.inf
        self._rests_until = -math.inf
        self._trial: anyio.Event | None = None

    @property
    def is_open(self) -> bool:
        """Return whether any number of calls may leave at once."""
        return self._is_trusted

    def accept(self) -> None:
        """Take note that the service accepted a call of the account."""
        self._is_trusted = True
        self._refusal = None
        self._renewed_at = -math.inf

    def refuse(self, given_at: float, words: str) -> None:
        """Take note that the service refused the credentials given out at that moment."""
        self._is_trusted = False
        self._refused_at = max(given_at, self._refused_at)
        self._refusal = words
        if given_at >= self._renewed_at > -math.inf:
            # Others were no better, and still others would not be: somebody has to act.
            self._rests_until = self._now() + REST

    async def renew(self, get: Renew) -> bool:
        """Get others in place of the credentials that were refused; return whether there are any.

        Raises:
            CloudError: it cannot be said just now.
        """
        if self._now() < self._rests_until or not await get(self._refused_at):
            return False
        self._renewed_at = self._now()
        return True

    @asynccontextmanager
    async def turn(self, get: Renew) -> AsyncIterator[None]:
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
            if self._refusal is not None and not await self.renew(get):
                raise self._refused(self._refusal)
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

    def _refused(self, words: str) -> CloudError:
        return CloudError(
            f"nothing more is sent with credential {self._account}, lest it be locked: it was "
            f"refused ({words}); correct it, then go on with `orchestrator resume`",
            status=UNAUTHORIZED,
            error_class=ErrorClass.UNAUTHORIZED.value,
        )
