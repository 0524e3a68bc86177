"""When a list of clusters, read page by page while it changes, is whole; pure.

Rules:

- Clusters are counted by id: they move between pages while others are created and deleted.
- With a total, a pass is whole if the total held still and that many ids were seen.
- Without one it is over at a short page. A short page of 10, 20 … is asked past once more, though:
  it may be all that the service gives at a time, whatever was asked for.
"""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

ClusterT = TypeVar("ClusterT")
"""What is taken from the list for each cluster."""

Page = tuple[Sequence[tuple[str, ClusterT]], int | None]
"""The clusters of a page by id, and the total if the service tells it."""

_USUAL_SIZES = 10


class Pass(Generic[ClusterT]):
    """One reading of a list from its start, in pages of `size`."""

    def __init__(self, size: int) -> None:
        self.clusters: dict[str, ClusterT] = {}
        self.received = 0
        """Items so far, repeated ones too: the next page starts after them."""
        self.is_over = False
        self._size = size
        self._totals: set[int | None] = set()
        self._goes_nowhere = False

    def add(self, page: Page[ClusterT]) -> None:
        """Take in the next page."""
        items, total = page
        before = len(self.clusters)
        self.clusters.update(items)
        self.received += len(items)
        self._totals.add(total)
        self._goes_nowhere = bool(items) and len(self.clusters) == before
        self.is_over = not items or self._is_enough(len(items), total)

    @property
    def total(self) -> int | None:
        """How many clusters the service says there are; None if it does not, or says several."""
        return next(iter(self._totals)) if len(self._totals) == 1 else None

    @property
    def is_whole(self) -> bool:
        """Whether every cluster of the list was seen in this pass."""
        if self._totals == {None}:
            return not self._goes_nowhere
        return self.total is not None and len(self.clusters) >= self.total

    def _is_enough(self, count: int, total: int | None) -> bool:
        if total is not None:
            had_all_places = self._goes_nowhere and self.received >= total
            return had_all_places or len(self.clusters) >= total
        return self._goes_nowhere or (count < self._size and count % _USUAL_SIZES != 0)


def missing(last: Pass[Any], seen: int) -> str:
    """Say what a list that did not become whole lacks; `seen` counts the ids of all passes."""
    if last.total is None:
        return f"it did not hold still ({seen} clusters seen, their total unclear)"
    return f"{max(1, last.total - seen)} of {last.total} clusters are missing"
