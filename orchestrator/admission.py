"""Who of the open wave gets in line, in which order, and what must be seen of others before.

Rules:

- They get in line in the order of the plan; who is down before all others, where that is asked for.
- Where a limit counts who is down, every project is looked at before anybody gets in; where who is
  down goes first, those of the wave. Nobody waits for looks at a project that is given up, or whose
  credential was refused.
- Who looks down when it gets in line passes the limits on that: it makes nothing more unavailable.
"""

import math
from collections.abc import Collection, Container, Iterator
from functools import partial

from orchestrator.accounts import Accounts
from orchestrator.looks import Looks
from orchestrator.plan import Plan, Unhealthy
from orchestrator.progress import Progress
from orchestrator.starts import Starts
from orchestrator.waves import Waves


class Admission:
    """Lets the targets of one run in line, wave by wave."""

    def __init__(
        self,
        plan: Plan,
        *,
        waves: Waves,
        progress: Progress,
        looks: Looks,
        accounts: Accounts,
        starts: Starts,
        settled: Container[int | str],
    ) -> None:
        """Let nobody in yet; nobody is let in who is `settled`, as an end of theirs was found."""
        self._targets = plan.targets
        self._puts_down_first = plan.policy.unhealthy is Unhealthy.FIRST
        self._waves = waves
        self._progress = progress
        self._looks = looks
        self._accounts = accounts
        self._starts = starts
        self._settled = settled

    def let_in(self, at: float) -> None:
        """Let the current wave's targets wait for their turn; where health decides, look first."""
        unseen = self._waves.unseen = self._to_survey()
        if not unseen:
            self._admit()
        for project_id in unseen:
            self._looks.survey(project_id, at)

    def have_seen(self, project_ids: Collection[str]) -> None:
        """Take note that nobody has to look at these projects any more before the wave begins."""
        if self._waves.saw(project_ids):
            self._admit()

    def line_up(self, position: int, not_before: float = -math.inf) -> None:
        """Let a target wait for its turn."""
        self._starts.line_up(
            position,
            not_before,
            is_down=self._looks.looks_down(position),
            goes_first=self._goes_first(position),
        )

    def survey(self, now: float) -> None:
        """Look at every project for its health; who was not seen lately may be down until then."""
        # Looks are forgotten in their order.
        for watch in sorted(self._looks.watches, key=lambda watch: watch.seen_at):
            if watch.blind is not None:
                self.note_health(watch.project_id, math.inf, now)
            else:
                self.note_health(watch.project_id, watch.seen_at, now)
                self._looks.survey(watch.project_id, now)
        self._starts.fade(now, self._progress.tracks.keys())

    def note_health(self, project_id: str, at: float, now: float) -> None:
        """Take note of who is down in a project, by the look that was sent at `at`."""
        states = self._looks.at(project_id).states
        holds_a_slot = partial(self._progress.holds_a_slot, now=now)
        self._starts.see(project_id, states, holds_a_slot, at=at, now=now)

    def _to_survey(self) -> set[str]:
        """Return the projects that must be looked at before anybody of the wave goes."""
        if self._starts.health is not None:
            projects = set(self._looks.projects)
        elif self._puts_down_first:
            projects = {self._targets[position].project_id for position in self._waiting()}
        else:
            return set()
        projects.difference_update(self._accounts.refused_projects())
        return projects

    def _waiting(self) -> Iterator[int]:
        """Yield who of the current wave waits for a turn."""
        for position in self._waves.current.targets:
            if self._progress.is_waiting(position) and position not in self._settled:
                yield position

    def _admit(self) -> None:
        # In the order in which they go: a lane is known by its first when it is put in line.
        for position in sorted(self._waiting(), key=lambda one: not self._goes_first(one)):
            self.line_up(position)

    def _goes_first(self, position: int) -> bool:
        return self._puts_down_first and self._looks.looks_down(position)
