"""Every start there is, ours and others', what it takes a place in, and who may be the next.

Rules:

- A start takes its places when it is granted, and what happens to it gives them back.
- Other limits count every start anew before anything goes by them; whoever waits goes on waiting.
- A cluster that another run has under way is left alone.
- Who was too fast, or could not be reached, holds back others: of its account, or of its project.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping

from orchestrator.health import Health
from orchestrator.judgement import Track
from orchestrator.lanes import Lanes
from orchestrator.limits import Limits, Start, Unavailable, change_of, start_of
from orchestrator.model import ClusterState, RestartRequested, TargetEvent
from orchestrator.pace import Pace, Paces
from orchestrator.plan import Plan, Policy


class Starts:
    """The starts that concern one run, and its targets that wait to be started."""

    def __init__(self, run_id: str, plan: Plan, policy: Policy, paces: Paces) -> None:
        """Begin with nothing counted and nobody waiting; `policy` is the plan's as it is now."""
        self._run_id = run_id
        self._targets = plan.targets
        self._paces = paces
        self._elsewhere: dict[tuple[str, str], Start] = {}
        self.are_counted = True
        """Whether the limits know every start that matters to them."""
        self.limits = self._limits_of(policy)
        self.lanes = Lanes(self.limits, paces, plan.order())
        self.health = Health(plan.targets, self.limits) if policy.max_unavailable else None

    def _limits_of(self, policy: Policy) -> Limits:
        return Limits((*policy.limits, *policy.max_unavailable), self._targets)

    # --------------------------------------------------------------------------------- counting

    def begin(self, event: RestartRequested) -> Start:
        """Count a start of ours."""
        target = self._targets[event.target]
        start = start_of(event, self._run_id, target)
        if self.health is not None:
            self.lanes.changed(self.health.mark(event.target, is_down=False), event.at)
        self.limits.note(start, event.at)
        self._paces.of(target.project_id).ask(event.at)
        return start

    def note(self, track: Track, event: TargetEvent) -> None:
        """Take note of what an event means for a start of ours."""
        change = change_of(event)
        if change is not None:
            track.start = track.start.after(change)
            self.lanes.changed(self.limits.note(track.start, event.at), event.at)

    def take_note_of(self, starts: Iterable[Start], now: float) -> None:
        """Count what was started, and leave alone what other runs have under way."""
        for start in starts:
            if start.run_id == self._run_id:
                self.limits.note(start, now)
                continue
            cluster = (start.project_id, start.cluster_id)
            self.lanes.changed(self.limits.note(start, now), now)
            if not start.returned and (start.ended_at is None or start.ended_at > now):
                self._elsewhere[cluster] = start
            else:
                self._elsewhere.pop(cluster, None)

    def elsewhere(self, position: int, now: float) -> Start | None:
        """Return the start of another run that has this target under way, if one has."""
        if not self._elsewhere:
            return None
        target = self._targets[position]
        start = self._elsewhere.get((target.project_id, target.cluster_id))
        is_over = start is not None and start.ended_at is not None and start.ended_at <= now
        return None if is_over else start

    def change_limits(self, policy: Policy, is_down: Callable[[int], bool]) -> bool:
        """Keep the limits of this policy, which have counted nothing yet.

        Args:
            policy: what is allowed now.
            is_down: whether a target looks down, for those who wait.

        Returns:
            whether health decides about others that did not before.
        """
        self.limits = self._limits_of(policy)
        is_new = self.health is None and bool(policy.max_unavailable)
        if is_new:
            self.health = Health(self._targets, self.limits)
        elif not policy.max_unavailable:
            self.health = None
        elif self.health is not None:
            self.health.move_to(self.limits)
        passes = is_down if self.health is not None else lambda _: False
        self.lanes = self.lanes.under(self.limits, self._targets, passes)
        self.are_counted = True
        return is_new

    # --------------------------------------------------------------------------------- waiting

    def line_up(self, position: int, not_before: float, *, is_down: bool, goes_first: bool) -> None:
        """Let a target wait for its turn, which does not come before `not_before`."""
        self.lanes.put(
            position,
            self._targets[position],
            not_before,
            is_down=is_down and self.health is not None,
            goes_first=goes_first,
        )

    def may_be_down(self, position: int, now: float) -> bool:
        """Whether the limits on what is unavailable have room for one more cluster."""
        return self.health is None or all(
            gate.has_room(now)
            for gate in self.limits.gates(self._targets[position])
            if isinstance(gate.limit, Unavailable)
        )

    def open_door(self, project_id: str, fresh_until: float, now: float) -> None:
        """Let a project's targets go while its baselines are fresh."""
        door = self.lanes.door(project_id)
        door.fresh_until = fresh_until
        self.lanes.changed((door,), now)

    def shut_door(self, project_id: str, until: float, now: float) -> None:
        """Let nobody of a project go before this moment."""
        door = self.lanes.door(project_id)
        door.shut_until = max(door.shut_until, until)
        self.lanes.changed((door,), now)

    def unlock_door(self, project_id: str, now: float) -> None:
        """Forget that a door was shut."""
        door = self.lanes.door(project_id)
        door.shut_until = -math.inf
        self.lanes.changed((door,), now)

    def slow_down(self, pace: Pace, now: float) -> None:
        """Take note that an account has another pace."""
        self.lanes.changed((pace,), now)

    def speed_up(self, project_id: str, now: float) -> None:
        """Take note of a call that was taken: its account may go a little faster."""
        pace = self._paces.of(project_id)
        is_slowed = pace.is_slowed
        pace.speed_up()
        if is_slowed:
            self.lanes.changed((pace,), now)

    # ---------------------------------------------------------------------------------- health

    def see(
        self,
        project_id: str,
        states: Mapping[str, ClusterState],
        holds_a_slot: Callable[[int], bool],
        *,
        at: float,
        now: float,
    ) -> None:
        """Take note of who is down in a project, but for those who hold a slot in any case."""
        if self.health is None:
            return
        down = {}
        for position in self.health.positions_of(project_id):
            if not holds_a_slot(position) and self.elsewhere(position, now) is None:
                state = states.get(self._targets[position].cluster_id)
                down[position] = state is not None and not state.is_ready
        self.lanes.changed(self.health.look(project_id, down, at), now)

    def fail(self, position: int) -> None:
        """Take note that a cluster is down since its restart."""
        if self.health is not None:
            self.health.mark(position, is_down=True)

    def fade(self, now: float, under_way: Collection[int]) -> None:
        """Count as down whoever was not looked at for too long, and is not under way."""
        if self.health is not None:
            self.health.fade(now, under_way)
