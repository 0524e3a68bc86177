"""How long things take: spans of seconds, drawn anew for every use.

A draw is a number in [0, 1); each distribution turns it into seconds by its quantiles, so that a
larger draw never means a shorter span, and the same seed means the same spans.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

from orchestrator.experience import SHORTEST

_NORMAL = NormalDist()
_SHARE = 2.0**-40
"""The normal distribution has no quantile at 0."""


class Span(Protocol):
    """A distribution of seconds."""

    def at(self, drawn: float) -> float:
        """Return the seconds that a draw in [0, 1) stands for."""


@dataclass(frozen=True, slots=True)
class Uniform:
    """From `low` to `high`, each as likely as any other."""

    low: float
    high: float

    def at(self, drawn: float) -> float:
        """Return the seconds that a draw in [0, 1) stands for."""
        return self.low + (self.high - self.low) * drawn


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen before, shortest first; between two of them in a straight line."""

    ordered: tuple[float, ...]

    @classmethod
    def of(cls, spans: Sequence[float]) -> "Seen":
        """Return the distribution that these spans come from; there must be one at least."""
        return cls(tuple(sorted(spans)))

    def at(self, drawn: float) -> float:
        """Return the seconds that a draw in [0, 1) stands for."""
        whole, part = divmod(drawn * (len(self.ordered) - 1), 1.0)
        low = self.ordered[int(whole)]
        return low + (self.ordered[min(int(whole) + 1, len(self.ordered) - 1)] - low) * part


@dataclass(frozen=True, slots=True)
class Around:
    """As others were seen, in the same shape, but around a middle of its own and less far from it.

    None is shorter or longer than any that was seen.
    """

    seen: Seen
    usual: float
    """The middle of what was seen, in seconds."""
    middle: float
    """Its own, in seconds."""
    share: float
    """How far it spreads beside the others, by ratio: 1 is as far, 0 not at all."""

    def at(self, drawn: float) -> float:
        """Return the seconds that a draw in [0, 1) stands for."""
        off = max(self.seen.at(drawn), SHORTEST) / self.usual
        shortest, longest = self.seen.ordered[0], self.seen.ordered[-1]
        return min(max(self.middle * math.pow(off, self.share), shortest), longest)


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Mostly near `mean` seconds, with a tail of long ones that ends at `most`."""

    mean: float
    sigma: float
    most: float = math.inf

    def at(self, drawn: float) -> float:
        """Return the seconds that a draw in [0, 1) stands for."""
        deviations = _NORMAL.inv_cdf(max(drawn, _SHARE))
        spread = math.exp(self.sigma * deviations - self.sigma**2 / 2)
        return min(self.mean * spread, self.most)
