"""What is sent as proof for some time, and replaced before that is over.

Rules:

- It is fetched once for all who wait for it, and whoever waited for a fetch that failed fails with
  it: a hundred calls must not make a hundred logins.
- It is replaced well before its end, and while that takes, or fails for now, it serves on.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import anyio

from orchestrator.css.codes import ErrorClass
from orchestrator.css.credentials import Credential
from orchestrator.errors import CloudError, OrchestratorError
from orchestrator.span import format_span

LONGEST_MARGIN = 1800.0
"""Seconds before its end at which a credential is replaced, at the most."""

PATIENCE = 10.0
"""Seconds that a call waits for others to fetch what it needs."""

_MARGIN = 0.2
_PAUSE = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A credential and its times, in seconds from when it was fetched."""

    credential: Credential
    renew_after: float = math.inf
    ends_after: float = math.inf

    @classmethod
    def living(cls, credential: Credential, life: float) -> "Fetched":
        """Return a credential that lives so long, to be replaced well before."""
        margin = min(LONGEST_MARGIN, _MARGIN * life) if math.isfinite(life) else 0.0
        return cls(credential=credential, renew_after=life - margin, ends_after=life)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    credential: Credential
    since: float
    renew_at: float
    ends_at: float


class Renewal:
    """Holds one credential and keeps it fresh.

    Args:
        fetch: gets the credential as it is now; raises `OrchestratorError` if it cannot be had.
        now: the steady moment.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Fetched]], now: Callable[[], float]) -> None:
        self._fetch = fetch
        self._now = now
        self._lock = anyio.Lock()
        self._held: _Held | None = None
        self._failures = 0
        self._failure: OrchestratorError | None = None

    async def current(self) -> Credential:
        """Return a credential that is good now, as far as anybody can tell.

        Raises:
            OrchestratorError: none can be had.
        """
        held, now = self._held, self._now()
        if held is not None and (now < held.renew_at or self._may_serve_on(held, now)):
            return held.credential
        failures = self._failures
        async with self._turn():
            held = self._held
            if held is not None and self._now() < held.renew_at:
                return held.credential
            try:
                fetched = await self._fetch_after(failures)
            except OrchestratorError:
                if held is None or self._now() >= held.ends_at:
                    raise
                return self._serve_on(held)
            self._keep(fetched)
            return fetched.credential

    def _may_serve_on(self, held: _Held, now: float) -> bool:
        return now < held.ends_at and self._lock.locked()

    def _serve_on(self, held: _Held) -> Credential:
        """Leave what we hold in place, and try to replace it a little later."""
        now = self._now()
        pause = min(_PAUSE, (held.ends_at - now) / 4)
        self._held = replace(held, renew_at=now + pause)
        return held.credential

    def _keep(self, fetched: Fetched) -> None:
        now, before = self._now(), self._held
        is_same = before is not None and before.credential == fetched.credential
        self._held = _Held(
            credential=fetched.credential,
            since=before.since if is_same and before is not None else now,
            renew_at=now + fetched.renew_after,
            ends_at=now + fetched.ends_after,
        )

    async def renew(self, given_at: float) -> bool:
        """Return whether there is another credential now than the one given out at that moment.

        Raises:
            OrchestratorError: it cannot be said just now.
        """
        failures = self._failures
        async with self._turn():
            held = self._held
            if held is None or held.since > given_at:
                return True
            fetched = await self._fetch_after(failures)
            if fetched.credential == held.credential:
                return False
            self._keep(fetched)
            return True

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        with anyio.move_on_after(PATIENCE) as waiting:
            await self._lock.acquire()
        if waiting.cancelled_caught:
            raise CloudError(
                f"a credential was not to be had within {format_span(PATIENCE)}; try again later",
                error_class=ErrorClass.UNSENT.value,
            )
        try:
            yield
        finally:
            self._lock.release()

    async def _fetch_after(self, failures: int) -> Fetched:
        """Fetch, unless another did so in vain while we waited: `failures` is from before that."""
        if failures != self._failures and self._failure is not None:
            raise self._failure
        try:
            return await self._fetch()
        except OrchestratorError as error:
            self._failures += 1
            self._failure = error
            raise
