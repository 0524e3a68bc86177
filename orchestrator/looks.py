"""Whose clusters are looked at, when next, and what a look, or one that failed, means.

Rules:

- A project is listed only while somebody needs it: who is under way there, who was restarted and
  soaks, who waits for a baseline, and whoever's health decides about others. One list serves all.
- Who is under way is looked at often until the restart was seen to begin, then as told; a look that
  is known to show nothing new is left out.
- A cluster that the list does not show is read alone. Who waits leaves the line for that; who was
  under way may have ended before the answer comes, which then concerns nobody.
- What was seen serves as a baseline for `FRESH_FOR`. Where lists take longer than that, those who
  wait are read alone, a few at a time.
- A look that failed is repeated, ever more slowly. A project that was never seen is given up after
  `BLIND_LOOKS` of them, one that was seen before after `BLIND_FOR`, and at once if it is refused.
- Who is not seen ready by the deadline and is out of sight is unknown.
- Nothing of this is recorded; what follows from it is, as the events that `saw` returns.
"""

import heapq
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from orchestrator.commands import Look, LookAt
from orchestrator.judgement import Judge, Track
from orchestrator.model import (
    THROTTLED,
    UNAUTHORIZED,
    UNAVAILABLE,
    ClusterState,
    ErrorInfo,
    Phase,
    Target,
    TargetEnded,
    TargetEvent,
    TargetRelapsed,
)
from orchestrator.pace import doubling
from orchestrator.plan import Plan
from orchestrator.span import format_span

FRESH_FOR = 10.0
"""Seconds for which a look may serve as the baseline of a restart."""

ALONE_AT_ONCE = 5
"""So many of a project are read alone at the same time, where its lists are too slow."""

BLIND_LOOKS = 5
"""After so many failed looks in a row a project that was never seen is given up."""

BLIND_FOR = 600.0
"""Seconds without a look that succeeds after which a project is given up that was seen before."""

PASSING = frozenset({"busy", THROTTLED, UNAVAILABLE, "server_error", "lost", UNAUTHORIZED})
"""Classes of errors that may be over when it is tried again, whatever their status says."""


@dataclass(slots=True)
class Watch:
    """The looks at one project: who needs them and when the next is due."""

    project_id: str
    region: str | None
    first: int
    """The first of its targets."""
    due_at: float = math.inf
    not_before: float = -math.inf
    is_looking: bool = False
    states: Mapping[str, ClusterState] = field(default_factory=dict)
    seen_at: float = -math.inf
    """When the last look was sent that succeeded."""
    failed: int = 0
    blind: ErrorInfo | None = None
    """Why its clusters cannot be seen, when there is no hope that they will."""
    followed: set[int] = field(default_factory=set)
    soaking: set[int] = field(default_factory=set)
    is_slow: bool = False
    """Whether the last list was too old for a baseline when it came."""
    is_wanted: bool = False
    """Whether targets wait for a baseline."""
    is_surveyed: bool = False
    """Whether the health of its clusters decides about others."""

    @property
    def is_needed(self) -> bool:
        """Whether anybody has a use for a look."""
        return self.is_wanted or self.is_surveyed or bool(self.followed) or bool(self.soaking)


class Looks:
    """The looks of one run."""

    def __init__(
        self,
        plan: Plan,
        judge: Judge,
        tracks: Mapping[int, Track],
        same_until: Callable[[Target], float] = lambda _: -math.inf,
    ) -> None:
        """Begin with nobody who needs a look.

        Args:
            plan: what the run does.
            judge: says what a look means for a restart that is under way.
            tracks: what is under way, by position; kept by whoever follows it.
            same_until: up to when a cluster is known to look as it does now.
        """
        self._targets = plan.targets
        self._policy = plan.policy
        self._judge = judge
        self._tracks = tracks
        self._same_until = same_until
        self._watches = _watches_of(plan)
        self._of = [self._watches[target.project_id] for target in plan.targets]
        self._agenda: list[tuple[float, str]] = []
        self._deadlines: list[tuple[float, int, int]] = []
        self._examined: dict[int, tuple[float, ClusterState]] = {}
        self._to_examine: deque[int] = deque()
        self._out_of_line: set[int] = set()
        """Who left the line to be read alone and is not back yet."""
        self._soak_ends_at = math.inf
        self._unsoaked: set[str] = set()
        """Projects that were not yet looked at after the end of the soak."""

    # ------------------------------------------------------------------------------- questions

    @property
    def projects(self) -> Collection[str]:
        """All projects of the run."""
        return self._watches.keys()

    @property
    def watches(self) -> Collection[Watch]:
        """What is known of every project."""
        return self._watches.values()

    def at(self, project_id: str) -> Watch:
        """Return what is known of a project."""
        return self._watches[project_id]

    def of(self, position: int) -> Watch:
        """Return what is known of the project of a target."""
        return self._of[position]

    def state_of(self, position: int) -> ClusterState | None:
        """Return what the last list showed of a target, however old it is."""
        return self._of[position].states.get(self._targets[position].cluster_id)

    def looks_down(self, position: int) -> bool:
        """Whether a target was down when it was last seen, with nobody at work on it."""
        state = self.state_of(position)
        return state is not None and not state.is_ready and not state.is_busy

    def baseline(self, position: int, now: float) -> ClusterState | None:
        """Return what a restart would begin from; None if the cluster must be read first."""
        at, state = self._examined.get(position, (-math.inf, None))
        if state is not None and now <= at + FRESH_FOR:
            return state
        return self.state_of(position) if self.is_fresh(position, now) else None

    def is_fresh(self, position: int, now: float) -> bool:
        """Whether the last list of its project is new enough for baselines."""
        return now <= self._of[position].seen_at + FRESH_FOR

    def may_read_alone(self, watch: Watch) -> bool:
        """Whether one more of a project with slow lists may leave the line to be read."""
        alone = sum(self._of[position] is watch for position in self._out_of_line)
        return watch.is_slow and alone < ALONE_AT_ONCE

    def wake_at(self, now: float) -> float:
        """Return when there is something to do by time alone; infinity if nothing ever."""
        if self._to_examine:
            return now
        self._forget_stale()
        at = self._agenda[0][0] if self._agenda else math.inf
        return min(at, self._deadlines[0][0]) if self._deadlines else at

    # ---------------------------------------------------------------------------- who needs one

    def begin(self, track: Track, now: float) -> None:
        """Watch a cluster while its call is under way.

        If the answer is lost, only a watch without a break can prove that nothing was begun.
        """
        position = track.start.target
        self._examined.pop(position, None)
        watch = self._of[position]
        watch.followed.add(position)
        self.by(watch, now + self._policy.poll_every)

    def follow(self, track: Track, now: float) -> None:
        """Follow a restart to its end, from its answer on, or from when that was lost."""
        track.followed_from = now
        self.look_soon(track, now)
        given_up_at = self._judge.healthy_by(track) + self._judge.patience
        heapq.heappush(self._deadlines, (given_up_at, track.start.target, track.start.attempt))

    def look_soon(self, track: Track, now: float) -> None:
        """Look when the next thing can be seen of a restart that is, or has just moved on."""
        watch = self._of[track.start.target]
        watch.followed.add(track.start.target)
        self.by(watch, self._wants_look_at(track, now))

    def leave(self, position: int) -> None:
        """Nothing is under way any more at a target."""
        self._of[position].followed.discard(position)
        self._examined.pop(position, None)

    def survey(self, project_id: str, at: float) -> None:
        """Look at all of a project: its health decides about others."""
        watch = self._watches[project_id]
        watch.is_surveyed = True
        if not watch.is_looking:
            self.by(watch, at)

    def by(self, watch: Watch, at: float) -> None:
        """Look at a project at the moment `at`, or as soon after it as it may be asked."""
        at = max(at, watch.not_before)
        if at < watch.due_at:
            watch.due_at = at
            heapq.heappush(self._agenda, (at, watch.project_id))

    def examine(self, position: int, *, is_out_of_line: bool) -> None:
        """Read a cluster alone; who left the line for that waits to be back in it."""
        self._to_examine.append(position)
        if is_out_of_line:
            self._out_of_line.add(position)

    def comes_back(self, position: int) -> bool:
        """Whether a target that was read alone left the line for that, and may be back in it."""
        is_back = position in self._out_of_line
        self._out_of_line.discard(position)
        return is_back

    # ------------------------------------------------------------------------------------- soak

    def begin_soak(self, positions: Iterable[int], now: float, ends_at: float) -> None:
        """Watch over these to the end of their soak, and once after it."""
        self._soak_ends_at = ends_at
        self._unsoaked.clear()
        for position in positions:
            watch = self._of[position]
            watch.soaking.add(position)
            self._unsoaked.add(watch.project_id)
            self.by(watch, min(now + self._policy.poll_every, ends_at))

    def leave_soak(self, position: int) -> None:
        """Watch over this one no more: it turned bad."""
        self._of[position].soaking.discard(position)

    def end_soak(self) -> None:
        """Watch over nobody any more."""
        for watch in self._watches.values():
            watch.soaking.clear()

    def soaked_at(self) -> float:
        """Return when the soak is over; infinity while its last look is to come."""
        return math.inf if self._unsoaked else self._soak_ends_at

    # -------------------------------------------------------------------------- what came of one

    def saw(
        self,
        project_id: str,
        states: Mapping[str, ClusterState],
        at: float,
        now: float,
        settled: Collection[int | str] = (),
    ) -> list[TargetEvent]:
        """Take in what a list showed that was sent at `at`; return what follows for its targets.

        Nothing more follows for those that are `settled`.
        """
        watch = self._watches[project_id]
        watch.is_looking = watch.is_wanted = watch.is_surveyed = False
        watch.failed = 0
        watch.blind = None
        watch.not_before = -math.inf
        watch.states = states
        watch.seen_at = at
        watch.is_slow = now > at + FRESH_FOR
        found: list[TargetEvent] = []
        for position in watch.followed:
            state = states.get(self._targets[position].cluster_id)
            if state is None:
                self.examine(position, is_out_of_line=False)
            elif position not in settled:
                event = self.judged(position, state, at, now)
                if event is not None:
                    found.append(event)
        if watch.soaking:
            found.extend(self._relapses(watch, at, settled))
        return found

    def judged(
        self, position: int, state: ClusterState, at: float, now: float
    ) -> TargetEvent | None:
        """Return what a look means for a restart that is under way, if it does anything."""
        track = self._tracks[position]
        # A look from before the call says nothing of it.
        return None if at < track.start.granted_at else self._judge.judge(track, state, at, now)

    def _relapses(
        self, watch: Watch, at: float, settled: Collection[int | str]
    ) -> Iterator[TargetRelapsed]:
        if at >= self._soak_ends_at:
            self._unsoaked.discard(watch.project_id)
        for position in watch.soaking:
            state = watch.states.get(self._targets[position].cluster_id)
            if state is not None and state.is_down and position not in settled:
                reason = f"unhealthy again during the soak: {state.describe()}"
                error = ErrorInfo(error_class="relapsed", message=reason)
                yield TargetRelapsed(at=at, target=position, reason=reason, error=error)

    def saw_one(self, position: int, state: ClusterState, at: float) -> None:
        """Keep what a detail showed of a target that waits: its baseline."""
        self._examined[position] = (at, state)

    def missed(
        self, project_id: str, error: ErrorInfo, now: float, retry_after: float | None
    ) -> bool:
        """Take note of a list that failed; return whether the project is given up."""
        watch = self._watches[project_id]
        watch.is_looking = False
        watch.failed += error.error_class != THROTTLED
        wait = retry_after if retry_after is not None else doubling(1.0, watch.failed or 1)
        watch.not_before = now + wait
        is_final = error.status in {400, 403, 404} and error.error_class not in PASSING
        is_outage = watch.failed >= BLIND_LOOKS and now > watch.seen_at + BLIND_FOR
        if is_final or is_outage:
            watch.blind = error
        return is_final or is_outage

    def again(
        self,
        watch: Watch,
        now: float,
        settled: Collection[int | str] = (),
        *,
        survey_at: float = math.inf,
    ) -> None:
        """Decide anew when the project is looked at next, if anybody still needs it.

        Args:
            watch: the project.
            now: this moment.
            settled: targets that are about to move on, and then say when to look again.
            survey_at: when the health of all its clusters is to be known next.
        """
        watch.due_at = math.inf
        times = [
            self._wants_look_at(self._tracks[position], now)
            for position in watch.followed
            if position not in settled
        ]
        if watch.soaking:
            soonest = now + self._policy.poll_every
            times.append(min(soonest, self._soak_ends_at) if now < self._soak_ends_at else soonest)
        if survey_at < math.inf:
            watch.is_surveyed = True
            times.append(survey_at)
        if times:
            self.by(watch, min(times))

    # -------------------------------------------------------------------------------- what is due

    def next(self, now: float, wanted: set[str]) -> Look | LookAt | None:
        """Return the look that is due now, if one is; `wanted` are projects without baselines."""
        if self._to_examine:
            return LookAt(self._to_examine.popleft())
        while wanted:
            watch = self._watches[wanted.pop()]
            watch.is_wanted = True
            if not watch.is_looking:
                self.by(watch, now)
        self._forget_stale()
        if not self._agenda or self._agenda[0][0] > now:
            return None
        watch = self._watches[heapq.heappop(self._agenda)[1]]
        watch.due_at = math.inf
        watch.is_looking = True
        return Look(watch.project_id, watch.region)

    def given_up(self, now: float) -> TargetEnded | None:
        """Return the end of one that could not be seen until its deadline had passed, if any."""
        while self._deadlines and self._deadlines[0][0] <= now:
            at, position, attempt = heapq.heappop(self._deadlines)
            track = self._tracks.get(position)
            if track is None or track.start.attempt != attempt:
                continue
            is_seen = now - track.watched_until <= self._judge.patience
            if track.phase is Phase.SETTLING and is_seen:
                later = max(at, now) + self._policy.stable_for + self._policy.poll_every
                heapq.heappush(self._deadlines, (later, position, attempt))
                continue
            within = format_span(self._judge.may_take(track))
            return replace(self._judge.unknown(track, f"not seen ready within {within}"), at=now)
        return None

    def _forget_stale(self) -> None:
        while self._agenda:
            at, project_id = self._agenda[0]
            watch = self._watches[project_id]
            if at == watch.due_at and not watch.is_looking and watch.is_needed:
                return
            if at == watch.due_at:
                watch.due_at = math.inf
            heapq.heappop(self._agenda)

    def _wants_look_at(self, track: Track, now: float) -> float:
        """Return when this target should be looked at next: often until it began, then as told."""
        every = self._policy.poll_every
        match track.phase:
            case Phase.ISSUING | Phase.ACCEPTED if track.answer is not None:
                return now + min(every, max(every / 5, 0.05))
            case Phase.SETTLING if track.ready_since is not None:
                stable_at = track.ready_since + self._policy.stable_for
                return min(self._news_at(track, now), stable_at) if stable_at > now else now + every
            case Phase.RESTARTING:
                return self._news_at(track, now)
            case _:
                return now + every

    def _news_at(self, track: Track, now: float) -> float:
        """Return the moment of the next of the regular looks that can show anything new."""
        every = self._policy.poll_every
        same_until = self._same_until(self._targets[track.start.target])
        quiet = min(same_until, self._judge.healthy_by(track)) - now
        return now + every * math.ceil(quiet / every) if quiet > every else now + every


def _watches_of(plan: Plan) -> dict[str, Watch]:
    watches: dict[str, Watch] = {}
    for position, target in enumerate(plan.targets):
        if target.project_id not in watches:
            watches[target.project_id] = Watch(target.project_id, target.region, position)
    return watches
