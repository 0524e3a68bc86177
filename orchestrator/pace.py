"""How fast one account may be asked, learned from the times it was too fast (429); a value, pure.

Rules:

- Nothing is known at first, and nothing is held back.
- After a 429 nobody is asked for as long as the service says: its Retry-After, else the interval of
  the limit that it names, else a wait that doubles with each round of 429s in a row.
- From then on calls are spaced evenly: as closely as the limit that was named allows; else, if we
  were told when to come back, a little less closely than before; else half as closely. Calls that
  were under way together are one round, and slow down once.
- Calls are never further apart than the wait that the service asked for: after it one is welcome.
  Where it says nothing, `USUAL` is as far as they go; a 429 may have come for other reasons.
- Each call that is taken brings the next ones a little closer, up to the limit that was named. When
  they are much closer than they ever had to be, and no limit was named, all is forgotten.
"""

import math
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType

from orchestrator.model import Throttle

ONE_ACCOUNT = "the credential"
"""The account of projects of which nobody said whose credential they use."""

LONGEST_WAIT = 60.0
"""Seconds; waits that double after each failure go no further."""

SHARE = 0.95
"""How much of a limit that was named is used: calls arrive a little closer than they were sent."""

SPEED_UP = 0.05
"""What each call that is taken adds to the rate, as a share of what it was slowed down to."""

TOLD = 0.8
"""What is left of the rate after a 429 that says when to come back, but names no limit."""

USUAL = 10.0
"""Seconds between two calls that are few enough wherever the service is known to allow few."""

FORGET = 4.0
"""So many times as fast as after the last 429, nothing of it is remembered."""

_MEASURED = 60.0
_MOST_MEASURED = 1000
_JITTER = 0.1


def doubling(first: float, times: int) -> float:
    """Return how long to wait after so many failures in a row: `first`, and twice as long each."""
    return min(LONGEST_WAIT, first * 2.0 ** (times - 1))


class Pace:
    """How fast calls of one account may follow each other."""

    __slots__ = ("_asked", "_ceiling", "_next_at", "_rounds", "_slowed_at", "_step", "name", "rate")

    def __init__(self, name: str) -> None:
        self.name = name
        """The account."""
        self.rate = math.inf
        """Calls a second."""
        self._ceiling = math.inf
        self._step = 0.0
        self._next_at = -math.inf
        self._slowed_at = -math.inf
        self._rounds = 0
        self._asked: deque[float] = deque(maxlen=_MOST_MEASURED)

    @property
    def is_slowed(self) -> bool:
        """Whether calls are held apart at all."""
        return self.rate < math.inf

    @property
    def opens_at(self) -> float:
        """When the next call may be made; a moment that has passed if it may be made now."""
        return self._next_at

    def has_room(self, now: float) -> bool:
        """Return whether a call may be made now."""
        return self._next_at <= now

    def frees_at(self, now: float) -> float:
        """Return when the next call may be made."""
        return max(now, self._next_at)

    def ask(self, at: float) -> None:
        """Take note of a call."""
        self._asked.append(at)
        if self.rate < math.inf:
            self._next_at = max(self._next_at, at + 1 / self.rate)

    def speed_up(self) -> None:
        """Take note that a call was taken."""
        self._rounds = 0
        self.rate = min(self._ceiling, self.rate + self._step)
        if self._ceiling == math.inf and self.rate * SPEED_UP > FORGET * self._step:
            self.rate = math.inf

    def slow_down(
        self,
        at: float,
        *,
        asked_at: float,
        wait: float | None,
        named: Throttle | None = None,
        jitter: float = 0.0,
    ) -> None:
        """Take note of a 429.

        Args:
            at: when it came.
            asked_at: when its call was made.
            wait: the seconds that we were asked to wait, if we were.
            named: the limit that it named, if it did.
            jitter: a number from 0 to 1 that tells callers apart who were refused together.
        """
        is_new = self._begin_round(at, asked_at)
        self._hold(at, wait, jitter)
        if is_new:
            self._set_rate(at, wait, named)
            self._step = SPEED_UP * self.rate

    def pause(self, at: float, *, asked_at: float, wait: float | None, jitter: float = 0.0) -> None:
        """Take note that nobody can be asked for a while, for which our speed is not to blame."""
        self._begin_round(at, asked_at)
        self._hold(at, wait, jitter)

    def _begin_round(self, at: float, asked_at: float) -> bool:
        is_new = asked_at > self._slowed_at
        if is_new:
            self._slowed_at = at
            self._rounds += 1
        return is_new

    def _hold(self, at: float, wait: float | None, jitter: float) -> None:
        if wait is None:
            wait = doubling(1.0, self._rounds)
        self._next_at = max(self._next_at, at + wait * (1 + _JITTER * jitter))

    def _set_rate(self, at: float, wait: float | None, named: Throttle | None) -> None:
        """Slow down, but leave calls no further apart than is surely welcome."""
        slowest = 1 / (USUAL if wait is None else max(wait, 1e-3))
        # A limit that allows less than what we are told to do in the same breath is none.
        if named is not None and slowest <= named.calls / named.per:
            self._ceiling = SHARE * named.calls / named.per
            # Somebody else uses the same account if we are refused although we kept to its limit.
            is_kept = self.rate <= self._ceiling
            slowest = min(slowest, self._ceiling)
            self.rate = max(slowest, self.rate / 2) if is_kept else self._ceiling
            return
        self._ceiling = math.inf
        left = 0.5 if wait is None else TOLD
        self.rate = max(slowest, min(self.rate, self._measured(at)) * left)

    def _measured(self, at: float) -> float:
        while self._asked and self._asked[0] < at - _MEASURED:
            self._asked.popleft()
        if not self._asked:
            return self.rate
        return len(self._asked) / max(1.0, at - self._asked[0])


class Paces:
    """The pace of every account.

    Args:
        accounts: the account of each project; those that it does not name share one.
    """

    def __init__(self, accounts: Mapping[str, str] = MappingProxyType({})) -> None:
        self._accounts = accounts
        self._by_account: dict[str, Pace] = {}

    def account_of(self, project_id: str) -> str:
        """Return the account that a project belongs to."""
        return self._accounts.get(project_id, ONE_ACCOUNT)

    def of(self, project_id: str) -> Pace:
        """Return the pace of the account that a project belongs to."""
        account = self.account_of(project_id)
        found = self._by_account.get(account)
        if found is None:
            found = self._by_account[account] = Pace(account)
        return found
