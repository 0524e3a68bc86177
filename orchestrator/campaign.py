"""What happens next: the state of one run, and every rule that moves it.

Rules:

- `apply` is the only way to change what lasts; replaying a journal is a loop over it.
- What a look showed (`observe`) is not recorded; what follows from it is, as events out of `due`.
- `due` yields what is to be done now, one at a time; what it yields is applied before it is asked
  for the next. It records first what already follows, then stops what must stop, and starts last.
- Nothing here knows a clock: `now` comes in. A call whose answer was lost is looked after, not
  repeated, until it is proved that it began nothing.
- Each rule is kept by a part of its own, which knows nothing of the campaign; here is when they are
  asked, in which order, and what is recorded of it.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from orchestrator.accounts import Accounts
from orchestrator.admission import Admission
from orchestrator.attempts import Attempts
from orchestrator.commands import AskGate, Command, Record, Restart
from orchestrator.errors import ImpossibleEventError
from orchestrator.failures import Failures
from orchestrator.gatekeeper import Gatekeeper
from orchestrator.health import LOOK_EVERY, Health
from orchestrator.holds import Hold, Holds
from orchestrator.judgement import Judge, Track
from orchestrator.lanes import Lanes
from orchestrator.limits import Limits, Start
from orchestrator.looks import FRESH_FOR, Looks
from orchestrator.model import (
    UNAUTHORIZED,
    UNAVAILABLE,
    AccountRefused,
    ClusterState,
    ErrorInfo,
    Event,
    GateClosed,
    GateOpened,
    LimitsChanged,
    OrderRefused,
    Outcome,
    Phase,
    RestartAnswered,
    RestartBegan,
    RestartDisproved,
    RestartRequested,
    RestartSettling,
    RestartUnsettled,
    RestartWithdrawn,
    RunAborted,
    RunContinued,
    RunFinished,
    RunnerStarted,
    RunPaused,
    RunResumed,
    RunStopping,
    Target,
    TargetEnded,
    TargetEvent,
    TargetRelapsed,
    TargetResolved,
    Verdict,
    WaveFinished,
    WaveOpened,
    WaveSoaking,
    WindowChanged,
    request_id_of,
)
from orchestrator.orders import Order, Standing
from orchestrator.pace import Paces
from orchestrator.plan import Plan, Policy, changed_policy
from orchestrator.progress import Progress
from orchestrator.span import format_span
from orchestrator.starts import Starts
from orchestrator.waves import Waves
from orchestrator.window import Durations, Opening


class Campaign:
    """The state of one run. `apply` is the only way to change what lasts."""

    def __init__(
        self,
        run_id: str,
        plan: Plan,
        history: Sequence[Event] = (),
        *,
        accounts: Mapping[str, str] = MappingProxyType({}),
        durations: Mapping[str, Sequence[float]] = MappingProxyType({}),
        expected: Sequence[float] = (),
        same_until: Callable[[Target], float] = lambda _: -math.inf,
    ) -> None:
        """Replay what happened so far.

        Args:
            run_id: the run.
            plan: what it does.
            history: its events up to now.
            accounts: the name of the credential that each project uses.
            durations: by kind, how long finished restarts took in earlier runs, in seconds.
            expected: for how many seconds each restart is expected to hold its slot, for those who
                say when all is over; without it, all as long as each other.
            same_until: up to when a cluster is known to look as it does now; who can know that, as
                a rehearsal does, is spared the looks that would show nothing new.
        """
        self.run_id = run_id
        self.plan = plan
        self.expected = expected or [plan.policy.expected_duration] * len(plan.targets)
        self.policy = _policy_after(plan.policy, history)
        self.paces = Paces(accounts)
        self._judge = Judge(plan)
        self._starts = Starts(run_id, plan, self.policy, self.paces)
        self._progress = Progress(plan.targets)
        self._failures = Failures(self.policy, len(plan.targets))
        self._standing = Standing(plan.policy)
        self._attempts = Attempts(plan.policy.poll_every)
        self._waves = Waves(plan)
        self._looks = Looks(plan, self._judge, self._progress.tracks, same_until)
        self._accounts = Accounts(self.paces, self._looks.projects)
        self._findings: dict[int | str, Event] = {}
        """What has to be recorded, by position; of an account by its name."""
        self._kinds = plan.kinds()
        self.opening = Opening(
            self.policy.window,
            Durations(durations, self.policy.expected_duration),
            self._kinds,
        )
        self._gatekeeper = Gatekeeper(
            self.policy.gates, self.policy.gate_every, self.policy.gate_timeout
        )
        self._holds = Holds(self._standing, self.opening, self._gatekeeper)
        self._admission = Admission(
            plan,
            waves=self._waves,
            progress=self._progress,
            looks=self._looks,
            accounts=self._accounts,
            starts=self._starts,
            settled=self._findings,
        )
        self._is_live = False
        for event in history:
            self.apply(event)
        self._is_live = True
        if self._waves.admits:
            self._admission.let_in(-math.inf)

    # ------------------------------------------------------------------------------- questions

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        if self.aborted:
            return not any(True for _ in self.unanswered())
        if self._progress.tracks or self._findings:
            return False
        return self.stopping is not None or (
            self._waves.are_over and not self._waves.is_anybody_left_out
        )

    @property
    def stopping(self) -> RunStopping | None:
        """Why nothing new starts for good, if so: the first reason there was."""
        return self._standing.stopping

    @property
    def paused(self) -> RunPaused | None:
        """Why nothing new starts until somebody lets the run go on, if so."""
        return self._standing.paused

    @property
    def aborted(self) -> bool:
        """Whether nothing is followed any more."""
        return self._standing.aborted

    @property
    def last_order(self) -> int:
        """The number of the last order from another terminal that was taken."""
        return self._standing.last_order

    @property
    def limits(self) -> Limits:
        """What is counted, and how much of it is taken."""
        return self._starts.limits

    @property
    def lanes(self) -> Lanes:
        """Who waits to be started."""
        return self._starts.lanes

    @property
    def health(self) -> Health | None:
        """Who is down without us, where a limit counts that."""
        return self._starts.health

    @property
    def tracks(self) -> Mapping[int, Track]:
        """Everything between intent and end, by position."""
        return self._progress.tracks

    @property
    def outcomes(self) -> Mapping[int, Outcome]:
        """The outcome of each target that has one, by position."""
        return self._progress.outcomes

    @property
    def asked_skips(self) -> int:
        """How many targets were skipped because the operator asked for it."""
        return len(self._progress.asked_skips)

    @property
    def wave(self) -> int | None:
        """The wave that is open or soaking, by number."""
        return self._waves.number if self._waves.is_open else None

    @property
    def soak_ends_at(self) -> float | None:
        """Until when the wave soaks, if one does."""
        return self._waves.soak_ends_at

    @property
    def waiting(self) -> int:
        """How many targets have neither begun nor ended."""
        return self._progress.waiting

    @property
    def left_in_wave(self) -> int:
        """How many targets of the wave that is open, soaking or next have not ended."""
        return self._waves.left

    @property
    def left_out(self) -> int:
        """How many targets of that wave do not start because their credential was refused."""
        return len(self._waves.left_out)

    @property
    def late(self) -> int:
        """How many targets of that wave would not be done by the deadline."""
        return len(self._waves.late)

    @property
    def failures(self) -> int:
        """How many clusters were harmed, or may have been."""
        return self._failures.count

    @property
    def allowed(self) -> int:
        """How many may be; one more stops the run."""
        return self._failures.allowed

    def failed_looks(self, project_id: str) -> int:
        """Return how often in a row a project could not be read."""
        return self._looks.at(project_id).failed

    def believe_looks(self, now: float) -> None:
        """Take for granted what a runner sees and does not write down, to explain from outside.

        Every project counts as just looked at, and the gate as the history has it.
        """
        self._admission.have_seen(self._looks.projects)
        for project_id in self._looks.projects:
            self.lanes.door(project_id).fresh_until = math.inf
        self._gatekeeper.believe(now)

    def counts(self) -> dict[Outcome, int]:
        """Return how many targets ended how; `not_started` are all the others."""
        return self._progress.counts()

    def standing(self) -> dict[Outcome, int]:
        """Return how the targets stand if nobody goes on: what is under way is unknown then."""
        return self._progress.standing()

    @property
    def uncounted(self) -> float | None:
        """The longest interval of the rates for which all starts are to be counted anew.

        None if they are counted. Until they are, nothing starts: other limits may have to count
        what those before had forgotten, of ours and of others.
        """
        if self._starts.are_counted or self.stopping is not None or self.aborted:
            return None
        return self.policy.longest_interval

    def obey(self, order: Order, now: float) -> Sequence[Event]:
        """Return what becomes of an order from another terminal; nothing has happened yet."""
        return self._standing.obey(order, len(self.plan.targets), now)

    def unanswered(self) -> Iterator[Track]:
        """Yield the intents without any answer: after a replay, nobody waits for them any more."""
        return self._progress.unanswered()

    def wake_at(self, now: float) -> float:
        """Return when to ask `due` again if no news comes first; infinity if only news can help."""
        if self._findings:
            return now
        times = [self._looks.wake_at(now)]
        if self._waves.soak_ends_at is not None:
            times.append(self._looks.soaked_at())
        elif self.stopping is None:
            times.append(self._may_start_at(now))
        if self.opening.window.has_end and self.stopping is None and self._anybody_waits():
            times.append(max(now, self.opening.closes_at()))
        return min(times)

    def _may_start_at(self, now: float) -> float:
        """Return when a wave or a restart may start if nothing happens but time."""
        if self._waves.are_over:
            return math.inf
        hold = self.hold(now)
        if hold is not None:
            # A gate is not asked while nobody waits for it, so that its moment may have passed.
            return hold.until if self._waves.is_at_barrier or len(self.lanes) else math.inf
        if self._waves.is_at_barrier:
            return now
        lanes_at = self.lanes.wake_at(now)
        return min(lanes_at, self._gatekeeper.ask_at()) if len(self.lanes) else lanes_at

    def hold(self, now: float) -> Hold | None:
        """Return why nothing at all may start now, whatever the limits say; None if it may."""
        return self._holds.hold(now, is_counting=self.uncounted is not None)

    def objection(self, event: RestartRequested, now: float) -> str | None:
        """Return why a call must not leave although its intent is durable; None if it may."""
        return self._holds.objection(
            self._kinds[event.target], event.at, now, is_counting=self.uncounted is not None
        )

    # ---------------------------------------------------------------------------------- events

    def apply(self, event: Event) -> None:
        """Take note of something that happened.

        Raises:
            ImpossibleEventError: the event does not fit the state; a bug, never bad luck.
        """
        if isinstance(event, TargetEvent):
            if not self._progress.lets(event):
                return
            self._findings.pop(event.target, None)
            self._apply_to_target(event)
        else:
            self._apply_to_run(event)

    def _apply_to_run(self, event: Event) -> None:
        self._standing.take(event)
        match event:
            case RunResumed():
                self._resume(event)
            case LimitsChanged() | WindowChanged() if self._is_live:
                self._change_policy(event)
            case WaveOpened() | WaveSoaking() | WaveFinished():
                self._apply_to_wave(event)
            case RunnerStarted():
                self._take_new_runner(event)
            case AccountRefused():
                self._refuse_account(event)
            case GateClosed() | GateOpened():
                self._findings.pop(_GATE, None)
                self._gatekeeper.apply(event)
            case RunFinished() | LimitsChanged() | WindowChanged():
                pass
            case RunStopping() | RunAborted() | RunPaused() | RunContinued() | OrderRefused():
                pass  # it is in the standing
            case _:
                raise ImpossibleEventError(f"{event.kind} means nothing to a campaign")

    def _apply_to_wave(self, event: WaveOpened | WaveSoaking | WaveFinished) -> None:
        match event:
            case WaveOpened():
                self._waves.open()
                if self._is_live:
                    self._admission.let_in(event.at)
            case WaveSoaking():
                self._begin_soak(event)
            case WaveFinished():
                self._waves.finish(event.wave)
                self._looks.end_soak()
                self._gatekeeper.forget(event.at)

    def _apply_to_target(self, event: TargetEvent) -> None:
        match event:  # the frequent ones first: each case is one more question
            case RestartRequested():
                self._request(event)
            case RestartAnswered():
                self._answer(event)
            case TargetEnded():
                self._end(event)
            case RestartWithdrawn():
                self._release(event)
                self._put_back(event.target)
            case RestartDisproved():
                self._attempts.disprove(event.target)
                self._release(event)
                self._put_back(event.target)
            case RestartBegan():
                self._begin(event)
            case RestartSettling():
                self._move(event, Phase.SETTLING).ready_since = event.at
                self._look_soon(event)
            case RestartUnsettled():
                self._move(event, Phase.RESTARTING).ready_since = None
                self._look_soon(event)
            case TargetRelapsed() | TargetResolved():
                self._think_better_of(event)
            case _:
                raise ImpossibleEventError(f"{event.kind} means nothing to a target")

    def _resume(self, event: RunResumed) -> None:
        """Go on after a stop: what was known is acknowledged, some outcomes get another chance."""
        if self._is_live:
            raise ImpossibleEventError(f"{event.kind} belongs before a campaign goes live")
        self._failures.forgive()
        self._failures.shrink(self.limits)
        for position, outcome in list(self._progress.outcomes.items()):
            if outcome in event.again:
                self._reopen(position)
        self._looks.end_soak()
        self._waves.begin_again()

    def _change_policy(self, event: LimitsChanged | WindowChanged) -> None:
        """Keep other limits, or another window, from now on."""
        self.policy = changed_policy(self.policy, event)
        if isinstance(event, LimitsChanged):
            self._failures.allow(self.policy)
            self._starts.are_counted = False
            return
        self.opening.window = self.policy.window
        # Whoever would not have been done by the deadline before may be by that of now.
        late = sorted(self._waves.late)
        self._waves.late.clear()
        for position in late:
            self._admission.line_up(position)

    # ---------------------------------------------------------------------------------- window

    def _anybody_waits(self) -> bool:
        return self._waves.left_in_all > len(self._progress.tracks)

    def _why_window_is_over(self, now: float) -> str | None:
        """Say why nothing that waits may start any more, if nothing may."""
        if not self.opening.window.has_end or not self._anybody_waits():
            return None
        all_are_late = self._waves.are_all_late(len(self._progress.tracks))
        is_over = all_are_late or now >= self.opening.closes_at()
        return self.opening.why_over(now) if is_over else None

    # ------------------------------------------------------------------------------------ gate

    def hear_gate(self, reason: str | None, asked_at: float, now: float) -> None:
        """Take note of what the gate said that was asked at `asked_at`: why not, or None for go."""
        event = self._gatekeeper.answer(reason, asked_at, now)
        if event is not None:
            self._findings[_GATE] = event

    def _ask_gate(self, now: float) -> AskGate | None:
        waves = self._waves
        wants_to_start = waves.is_at_barrier or (len(self.lanes) and waves.soak_ends_at is None)
        if not wants_to_start or not self._holds.asks_gate(now):
            return None
        return AskGate(waves.current.name)

    # ------------------------------------------------------------------------------- credentials

    def _take_new_runner(self, event: RunnerStarted) -> None:
        """Take its clock, and believe in every credential again: it brings those of its own."""
        self.opening.wall_offset = event.wall_offset
        for project_id in self._accounts.believe():
            self._starts.unlock_door(project_id, event.at)
        self._waves.take_back()

    def _find_account_refused(self, project_id: str, error: ErrorInfo | None, at: float) -> None:
        event = self._accounts.find_refused(project_id, error, at)
        if event is not None:
            self._findings[event.account] = event

    def _refuse_account(self, event: AccountRefused) -> None:
        """Start nothing with this credential, so that it is not locked; others go on."""
        self._findings.pop(event.account, None)
        projects = self._accounts.refuse(event)
        for project_id in projects:
            self._starts.shut_door(project_id, math.inf, event.at)
        for position in range(len(self.plan.targets)):
            is_waiting = self._progress.is_waiting(position)
            if is_waiting and self._accounts.is_refused(self._project_of(position)):
                self._waves.leave_out(position)
        self._admission.have_seen(projects)

    def _project_of(self, position: int) -> str:
        return self.plan.targets[position].project_id

    # ------------------------------------------------------------------------------- one start

    def _request(self, event: RestartRequested) -> None:
        track = Track(
            start=self._starts.begin(event),
            baseline=event.baseline,
            lost=self._attempts.begin(event.target, event.attempt),
            watched_until=event.at,
        )
        self._progress.begin(track)
        self._looks.begin(track, event.at)

    def _answer(self, event: RestartAnswered) -> None:
        track = self._progress.tracks[event.target]
        track.answer = event.answer
        match event.answer.verdict:
            case Verdict.LOST:
                self._looks.follow(track, event.at)
            case Verdict.ACCEPTED:
                self._failures.accept()
                self._starts.speed_up(track.start.project_id, event.at)
                self._move(event, Phase.ACCEPTED)
                if self.policy.wait:
                    self._looks.follow(track, event.at)
                else:
                    self._find_end(event, Outcome.ACCEPTED)
            case _:
                self._release(event)
                self._turn_away(event, track.start.granted_at)

    def _turn_away(self, event: RestartAnswered, asked_at: float) -> None:
        """Nothing started: the target has another turn, or this was its last."""
        answer, project_id = event.answer, self._project_of(event.target)
        turn = self._attempts.turn_away(event.target, answer)
        not_before = -math.inf
        match answer.verdict:
            case Verdict.THROTTLED:
                self._slow_down(event, asked_at)
            case Verdict.UNSENT:
                self._starts.shut_door(project_id, event.at + turn.wait, event.at)
            case Verdict.BUSY:
                not_before = event.at + turn.wait
            case Verdict.UNAUTHORIZED:
                self._find_account_refused(project_id, answer.error, event.at)
            case _:
                pass
        if turn.outcome is None:
            self._put_back(event.target, not_before)
        else:
            self._find_end(event, turn.outcome, turn.reason, answer.error)

    def _slow_down(self, event: RestartAnswered, asked_at: float) -> None:
        target = self.plan.targets[event.target]
        pace = self._accounts.slow_down(
            target.project_id,
            event.answer,
            at=event.at,
            asked_at=asked_at,
            request_id=request_id_of(self.run_id, target, event.attempt),
        )
        self._starts.slow_down(pace, event.at)

    def _begin(self, event: RestartBegan) -> None:
        self._move(event, Phase.RESTARTING).began_at = event.at
        self._look_soon(event)
        if not self.policy.wait:
            self._find_end(event, Outcome.ACCEPTED)

    def _move(self, event: TargetEvent, phase: Phase) -> Track:
        track = self._progress.move(event.target, phase)
        self._starts.note(track, event)
        return track

    def _look_soon(self, event: TargetEvent) -> None:
        if self.policy.wait:
            self._looks.look_soon(self._progress.tracks[event.target], event.at)

    def _release(self, event: TargetEvent) -> None:
        """Give back what the target holds; it is waiting again, but not yet in line."""
        self._starts.note(self._progress.release(event.target), event)
        self._looks.leave(event.target)

    def _put_back(self, position: int, not_before: float = -math.inf) -> None:
        if self._accounts.is_refused(self._project_of(position)):
            self._waves.leave_out(position)
        if self._is_live:
            self._admission.line_up(position, not_before)

    def _think_better_of(self, event: TargetRelapsed | TargetResolved) -> None:
        match event:
            case TargetRelapsed():
                self._progress.fail(event.target)
                self._looks.leave_soak(event.target)
                self._count_failure(event.target)
            case TargetResolved():
                self._resolve(event)

    def _end(self, event: TargetEnded) -> None:
        position = event.target
        track = self._progress.end(event)
        if track is not None:
            self._starts.note(track, event)
        self._looks.leave(position)
        kind = self._kinds[position]
        self.opening.leave(kind)
        if event.outcome is Outcome.RESTARTED and track is not None:
            self.opening.durations.note(kind, event.at - track.start.granted_at)
        self._waves.leave(position)
        if event.outcome.is_failure:
            self._count_failure(position)
        if event.outcome is Outcome.FAILED:
            self._starts.fail(position)
        if event.outcome is Outcome.REFUSED:
            self._failures.refuse(event.error)

    def _resolve(self, event: TargetResolved) -> None:
        """Believe a person: the slot is free, and the outcome is what they say."""
        track = self._progress.resolve(event)
        if track is not None:
            self._starts.note(track, event)
        if event.outcome is Outcome.NOT_STARTED:
            self._reopen(event.target)

    def _reopen(self, position: int) -> None:
        self._progress.reopen(position)
        self._attempts.forget(position)
        self._waves.come_back(position)
        self.opening.come_back(self._kinds[position])

    def _count_failure(self, position: int) -> None:
        self._failures.note(is_in_canary=self._waves.is_in_canary(position))
        self._failures.shrink(self.limits)

    def _find_end(
        self,
        event: TargetEvent,
        outcome: Outcome,
        reason: str | None = None,
        error: ErrorInfo | None = None,
    ) -> None:
        """Take down that `event` was the last of its target; `due` has it recorded."""
        self._findings[event.target] = TargetEnded(
            at=event.at, target=event.target, outcome=outcome, reason=reason, error=error
        )

    # ----------------------------------------------------------------------------------- waves

    def _begin_soak(self, event: WaveSoaking) -> None:
        wave = self.plan.waves[event.wave]
        self._waves.soak(event.at)
        restarted = (p for p in wave.targets if self.outcomes.get(p) is Outcome.RESTARTED)
        self._looks.begin_soak(restarted, event.at, event.at + wave.soak)

    # ----------------------------------------------------------------------------------- looks

    def count_anew(self, starts: Iterable[Start], now: float) -> None:
        """Begin to keep the limits of now, which have to count all of these starts, ours included.

        Whoever waits goes on waiting, in the same order.
        """
        is_new = self._starts.change_limits(self.policy, self._looks.looks_down)
        self._failures.shrink(self.limits)
        self.take_note_of(starts, now)
        if is_new:
            self._admission.survey(now)

    def take_note_of(self, starts: Iterable[Start], now: float) -> None:
        """Count what was started, and leave alone what other runs have under way."""
        self._starts.take_note_of(starts, now)

    def observe(
        self, project_id: str, states: Mapping[str, ClusterState], began_at: float, now: float
    ) -> None:
        """Take note of what a list call showed that was sent at `began_at`."""
        for event in self._looks.saw(project_id, states, began_at, now, self._findings):
            self._findings[event.target] = event
        seen_at = now if self._looks.at(project_id).is_slow else began_at
        self._starts.open_door(project_id, seen_at + FRESH_FOR, now)
        self._admission.note_health(project_id, began_at, now)
        self._admission.have_seen((project_id,))
        self._look_again(project_id, now)

    def observe_one(self, position: int, state: ClusterState, began_at: float, now: float) -> None:
        """Take note of what a detail call showed that was sent at `began_at`."""
        if position in self._progress.tracks:
            event = None
            if position not in self._findings:
                event = self._looks.judged(position, state, began_at, now)
            if event is not None:
                self._findings[position] = event
        elif now > began_at + FRESH_FOR:
            message = f"reading it took {format_span(now - began_at)}, too long for a baseline"
            late = ErrorInfo(error_class=UNAVAILABLE, message=message)
            self.fail_to_observe_one(position, late, now)
        elif self._looks.comes_back(position):
            self._looks.saw_one(position, state, began_at)
            self._starts.open_door(
                self.plan.targets[position].project_id, began_at + FRESH_FOR, now
            )
            self._put_back(position)

    def miss(self, position: int, error: ErrorInfo) -> None:
        """Take note that the service does not know this cluster, or not for us."""
        track = self._progress.tracks.get(position)
        if track is not None:
            # It may be a passing thing of a cluster on its way; the deadline decides.
            track.moved = True
        elif self._looks.comes_back(position):
            self._findings[position] = TargetEnded(
                at=0.0, target=position, outcome=Outcome.REFUSED, reason="gone", error=error
            )

    def fail_to_observe_one(
        self, position: int, error: ErrorInfo, now: float, retry_after: float | None = None
    ) -> None:
        """Take note that a detail call gave nothing usable."""
        if position in self._progress.tracks or not self._looks.comes_back(position):
            return
        turn = self._attempts.fail_to_read(position, error, retry_after)
        if turn.outcome is not None:
            self._findings[position] = TargetEnded(
                at=now, target=position, outcome=turn.outcome, reason=turn.reason, error=error
            )
        else:
            self._put_back(position, now + turn.wait)

    def fail_to_observe(
        self, project_id: str, error: ErrorInfo, now: float, retry_after: float | None = None
    ) -> None:
        """Take note that a list call gave nothing usable; it is repeated, ever more slowly."""
        watch = self._looks.at(project_id)
        is_given_up = self._looks.missed(project_id, error, now, retry_after)
        is_unauthorized = error.error_class == UNAUTHORIZED
        if is_unauthorized:
            self._find_account_refused(project_id, error, now)
        if is_given_up:
            self._starts.open_door(project_id, math.inf, now)
            self._admission.have_seen((project_id,))
            self._admission.note_health(project_id, math.inf, now)
        self._look_again(project_id, now)
        is_waited_for = self.lanes.is_waited_at(self.lanes.door(project_id))
        if is_waited_for and watch.blind is None and not is_unauthorized:
            self._looks.by(watch, now)

    def _look_again(self, project_id: str, now: float) -> None:
        """Decide anew when the project is looked at next."""
        survey_at = now if project_id in self._waves.unseen else math.inf
        if self.health is not None and self.stopping is None and self._anybody_waits():
            survey_at = min(survey_at, now + LOOK_EVERY)
        self._looks.again(self._looks.at(project_id), now, self._findings, survey_at=survey_at)

    # ------------------------------------------------------------------------------- decisions

    def due(self, now: float) -> Iterator[Command]:
        """Yield what is to be done now, one at a time; record or do each before taking the next."""
        command = self._next(now)
        while command is not None:
            yield command
            # Who has just been started is no reason to stop, to ask the gate or to turn the wave.
            is_start = isinstance(command, Restart) and not self._findings
            command = (self._start(now) if is_start else None) or self._next(now)

    def _next(self, now: float) -> Command | None:
        if self._findings:
            finding = next(iter(self._findings.values()))
            return Record(finding if finding.at == now else replace(finding, at=now))
        if self.aborted:
            return None
        command: Command | None = self._give_up(now)
        if command is None and self.stopping is None:
            command = (
                self._stop(now) or self._ask_gate(now) or self._turn_wave(now) or self._start(now)
            )
        return command or self._looks.next(now, self.lanes.wanted)

    def _give_up(self, now: float) -> Record | None:
        """End what could not be seen for so long that its deadline has passed."""
        ended = self._looks.given_up(now)
        return Record(ended) if ended is not None else None

    def _stop(self, now: float) -> Record | None:
        reason = self._failures.why_stop()
        if reason is None:
            if self._waves.is_anybody_left_out and not self._waves.is_anybody_else_left:
                reason = self._accounts.why_stop()
            else:
                reason = self._why_window_is_over(now)
        return Record(RunStopping(at=now, reason=reason, by="orchestrator")) if reason else None

    def _turn_wave(self, now: float) -> Record | None:
        waves = self._waves
        if waves.are_over:
            return None
        if waves.is_open:
            event = waves.turn(now, self._progress.outcomes, self._looks.soaked_at())
            return Record(event) if event is not None else None
        if self.paused is None and waves.needs_word(self._standing.asked_before):
            return Record(waves.pause(now, self._progress.outcomes))
        return None if self.hold(now) else Record(WaveOpened(at=now, wave=waves.number))

    def _start(self, now: float) -> Command | None:
        if not self._waves.admits or self.hold(now) is not None:
            return None
        self._starts.fade(now, self._progress.tracks.keys())
        while (position := self.lanes.next(now)) is not None:
            command = self._consider(position, now)
            if command is not None:
                return command
        return None

    def _consider(self, position: int, now: float) -> Command | None:
        """Decide about a target that every limit lets through."""
        if self.opening.is_late(self._kinds[position], now):
            self._waves.late.add(position)
            return self._stop(now)
        other, blind = self._starts.elsewhere(position, now), self._looks.of(position).blind
        if other is not None and now <= other.granted_at + self.policy.healthy_deadline:
            self._put_back(position, now + self.policy.poll_every)
            return None
        if other is not None:
            reason = f"under way in run {other.run_id}, which has to settle it"
            return self._ended(position, Outcome.SKIPPED, now, reason)
        if blind is not None:
            reason = "its project cannot be read"
            return self._ended(position, Outcome.REFUSED, now, reason, blind)
        state = self._looks.baseline(position, now)
        if state is not None:
            return self._by_baseline(position, state, now)
        self._seek_baseline(position, now)
        return None

    def _seek_baseline(self, position: int, now: float) -> None:
        """Have a target read: alone if the list does not show it, or is too slow to, else with all.

        The door may stand open for one that was read alone; the next ones have to be read, too.
        """
        watch = self._looks.of(position)
        if self._looks.is_fresh(position, now) or self._looks.may_read_alone(watch):
            self._looks.examine(position, is_out_of_line=True)
        elif watch.is_slow:
            self._put_back(position, now + self.policy.poll_every)
        else:
            self._starts.open_door(watch.project_id, -math.inf, now)
            self._put_back(position)

    def _by_baseline(self, position: int, state: ClusterState, now: float) -> Command | None:
        lost = self._attempts.lost(position)
        ended = self._judge.judge_baseline(position, state, lost=lost, now=now)
        if ended is not None:
            return self._with_slot(ended)
        is_well = self.health is not None and state.is_ready
        if is_well and not self._starts.may_be_down(position, now):
            # It was down when it lined up, and passed the limit on that; now it waits for room.
            self._admission.line_up(position)
            return None
        attempt = self._attempts.next_number(position)
        return Restart(
            RestartRequested(
                at=now,
                target=position,
                attempt=attempt,
                request_id=request_id_of(self.run_id, self.plan.targets[position], attempt),
                baseline=state,
            )
        )

    def _ended(
        self,
        position: int,
        outcome: Outcome,
        now: float,
        reason: str,
        error: ErrorInfo | None = None,
    ) -> Record:
        return self._with_slot(
            TargetEnded(at=now, target=position, outcome=outcome, reason=reason, error=error)
        )

    def _with_slot(self, ended: TargetEnded) -> Record:
        """Have an end recorded; the slot of an earlier unknown stays taken as long as it was."""
        slot_until = self._progress.held_until(ended.target, ended.at)
        return Record(replace(ended, slot_until=slot_until))


_GATE = "the gate"
"""Where a finding about the gate is kept among the others."""


def _policy_after(policy: Policy, history: Iterable[Event]) -> Policy:
    """Return the policy as operators changed it; what was allowed before is of no interest."""
    for event in history:
        if isinstance(event, LimitsChanged | WindowChanged):
            policy = changed_policy(policy, event)
    return policy
