"""One account's way to the service: its first call alone, and none after a refusal.

A key that is refused a few times is locked for minutes, for everybody who uses it. Hence:

- Until a call of the account was accepted, its calls go one at a time. One that is not answered
  holds up the others for a moment only, for it may have gone to a region that is down; but never
  more than `TRIALS` are under way.
- After a refusal none leaves, unless the account has other credentials by then. If those are
  refused as well, it rests. Tokens are made for one project each: that of another, which ended in
  the same moment, says nothing about what has just replaced the first.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from orchestrator.css.codes import ErrorClass
from orchestrator.errors import CloudError

UNAUTHORIZED = 401

TRIALS = 3
"""Calls under way at once while it is not known whether the account is accepted: too few to lock
it."""

NEXT_TRIAL_AFTER = 3.0
"""Seconds without an answer after which another call may try."""

PATIENCE = 10.0
"""Seconds that a call waits for its turn at the most."""

REST = 60.0
"""Seconds for which nothing is tried after other credentials were refused as well."""

Renew = Callable[[float], Awaitable[bool]]
"""Gets other credentials than those given out at a moment; says whether there are any."""


class Turnstile:
    """Whether calls of one account may leave.

    Args:
        account: how the account is called in what is said of it.
        now: the steady moment.
    """

    def __init__(self, account: str, now: Callable[[], float]) -> None:
        self._account = account
        self._now = now
        self._is_trusted = False
        self._refusal: str | None = None
        self._refused_at = -math.inf
        self._refusals: dict[str, float] = {}
        self._renewed: dict[str, float] = {}
        self._accepted: dict[str, float] = {}
        """By project: when what was refused was given out, when it was replaced, and when what was
        accepted last was given out."""
        self._rests_until = -math.inf
        self._trials = 0
        self._next_trial_at = -math.inf
        self._news: anyio.Event | None = None

    @property
    def is_open(self) -> bool:
        """Return whether any number of calls may leave at once."""
        return self._is_trusted

    def accept(self, given_at: float, project_id: str) -> None:
        """Take note that the service accepted the credentials given out at that moment."""
        self._accepted[project_id] = given_at
        if not self._is_trusted:
            self._is_trusted = True
            self._refusal = None
            self._tell()

    def refuse(self, given_at: float, words: str, project_id: str) -> None:
        """Take note that the service refused the credentials given out at that moment."""
        self._is_trusted = False
        self._refused_at = max(given_at, self._refused_at)
        self._refusals[project_id] = max(given_at, self._refusals.get(project_id, given_at))
        self._refusal = words
        replaced_at = self._renewed.get(project_id, math.inf)
        if given_at >= replaced_at > self._accepted.get(project_id, -math.inf):
            # Others were no better, and still others would not be: somebody has to act.
            self._rests_until = self._now() + REST

    async def renew(self, get: Renew, project_id: str) -> bool:
        """Get others in place of the credentials that were refused; return whether there are any.

        Raises:
            CloudError: it cannot be said just now.
        """
        given_at = self._refusals.get(project_id, self._refused_at)
        if self._now() < self._rests_until or not await get(given_at):
            return False
        self._renewed[project_id] = self._now()
        return True

    @asynccontextmanager
    async def turn(self, get: Renew, project_id: str) -> AsyncIterator[None]:
        """Wait until the call may leave, and keep others back while it shows what comes of it.

        Raises:
            CloudError: the account was refused and has no other credentials; status 401. Or nobody
                knows yet whether it is accepted.
        """
        await self._wait()
        if self._is_trusted:
            yield
            return
        self._trials += 1
        self._next_trial_at = self._now() + NEXT_TRIAL_AFTER
        try:
            if self._refusal is not None and not await self.renew(get, project_id):
                raise self._refused(self._refusal)
            yield
        finally:
            self._trials -= 1
            self._tell()

    async def _wait(self) -> None:
        """Wait until the account is trusted, or the call may try."""
        until = self._now() + PATIENCE
        while not (self._is_trusted or self._may_try()):
            now = self._now()
            if now >= until:
                raise CloudError(
                    f"the first call with credential {self._account} has no answer yet, and others "
                    "wait for it; look again later",
                    error_class=ErrorClass.UNSENT.value,
                )
            if self._news is None:
                self._news = anyio.Event()
            wake_at = self._next_trial_at if self._next_trial_at > now else until
            with anyio.move_on_after(min(wake_at, until) - now):
                await self._news.wait()

    def _may_try(self) -> bool:
        if not self._trials:
            return True
        is_late = self._now() >= self._next_trial_at
        return self._refusal is None and self._trials < TRIALS and is_late

    def _tell(self) -> None:
        """Wake all who wait: something has changed."""
        news, self._news = self._news, None
        if news is not None:
            news.set()

    def _refused(self, words: str) -> CloudError:
        return CloudError(
            f"nothing more is sent with credential {self._account}, lest it be locked: it was "
            f"refused ({words}); correct it, then go on with `orchestrator resume`",
            status=UNAUTHORIZED,
            error_class=ErrorClass.UNAUTHORIZED.value,
        )
