"""Which clusters of the fleet are down although nobody restarts them; limits count them too.

Rules:

- Down is who was not ready when last looked at, who failed, and whoever was not looked at for
  `SEEN_FOR`: what cannot be seen may be down.
- Who is being restarted, by us or by others, holds a slot and is not counted twice.
- Restarting what is down already makes no more of the fleet unavailable: it need not wait for room.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.limits import Gate, Limits, Unavailable
from orchestrator.model import Target

SEEN_FOR = 30.0
"""Seconds after which what a look showed says nothing any more."""

LOOK_EVERY = 10.0
"""Seconds between two looks at a project while anybody waits whom its clusters concern."""


class Health:
    """Who is down, kept in the gates of the limits on what may be unavailable."""

    def __init__(self, targets: Sequence[Target], limits: Limits) -> None:
        self._targets = targets
        self._limits = limits
        self._down: set[int] = set()
        self._of_project: dict[str, list[int]] = {}
        self._seen_at: dict[str, float] = {}
        self._looks: deque[tuple[float, str]] = deque()
        for position, target in enumerate(targets):
            self._of_project.setdefault(target.project_id, []).append(position)

    def move_to(self, limits: Limits) -> None:
        """Keep other limits from now on, which have counted nobody yet."""
        self._limits = limits
        for position in self._down:
            for gate in self._gates_of(position):
                gate.down += 1

    def positions_of(self, project_id: str) -> Iterable[int]:
        """Return the targets of a project."""
        return self._of_project[project_id]

    def look(self, project_id: str, down: Mapping[int, bool], at: float) -> list[Gate]:
        """Take in a look that was sent at `at`; return the gates that have more room than before.

        Infinity is a project of which nothing will be seen: its clusters count no more.
        """
        self._seen_at[project_id] = at
        if at < math.inf:
            self._looks.append((at, project_id))
        return [gate for position, is_down in down.items() for gate in self.mark(position, is_down)]

    def mark(self, position: int, is_down: bool) -> list[Gate]:  # noqa: FBT001 - a fact, not a mode
        """Take note of one target; return the gates that have more room than before."""
        if is_down == (position in self._down):
            return []
        gates = self._gates_of(position)
        if is_down:
            self._down.add(position)
        else:
            self._down.remove(position)
        for gate in gates:
            gate.down += 1 if is_down else -1
        return [] if is_down else gates

    def _gates_of(self, position: int) -> list[Gate]:
        gates = self._limits.gates(self._targets[position])
        return [gate for gate in gates if isinstance(gate.limit, Unavailable)]

    def fade(self, now: float, exempt: Iterable[int]) -> None:
        """Count as down whoever was not looked at for too long, but for those who hold a slot."""
        held = exempt if isinstance(exempt, set | frozenset | dict) else set(exempt)
        while self._looks and self._looks[0][0] < now - SEEN_FOR:
            at, project_id = self._looks.popleft()
            if self._seen_at.get(project_id) == at:
                for position in self._of_project[project_id]:
                    if position not in held:
                        self.mark(position, is_down=True)
