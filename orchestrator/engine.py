"""Carry out what the campaign decides; the only task group.

The engine says what it needs of the world as small protocols; the HTTP client, the simulated
service in memory and the journals fit by shape.

One loop owns the campaign. It turns: everything that came in since the last turn is told to the
campaign, everything the campaign decides is written in one durable transaction, and only then is
any of it done. Workers make one call each and put what came of it into the inbox; they touch no
state.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from orchestrator.campaign import Campaign
from orchestrator.commands import AskGate, Look, LookAt, Record, Restart
from orchestrator.errors import (
    CloudError,
    ExitCode,
    GoneError,
    HeldBackError,
    IncompleteError,
    JournalError,
    LeaseError,
    UnavailableError,
)
from orchestrator.judgement import TAKEN_OVER
from orchestrator.limits import Start
from orchestrator.model import (
    Answer,
    AnswerArrivedLate,
    ClusterState,
    ErrorInfo,
    Event,
    Leave,
    Outcome,
    RestartAnswered,
    RestartRequested,
    RestartWithdrawn,
    RunAborted,
    RunContinued,
    RunFinished,
    RunnerStarted,
    RunStopping,
    Target,
    TargetEnded,
    Verdict,
    leave_at_once,
)
from orchestrator.orders import Order
from orchestrator.report import exit_code_for

GATHER = 0.01
"""Seconds that a turn waits at the most for further answers while calls are under way."""

LULL = 0.0005
"""Seconds without an answer after which a turn waits no longer."""

OUT_FOR_EACH = 2
"""A turn waits no longer, either, when for each call that is back no more than so many are out."""

LAST_WORDS = 5.0
"""Seconds for which an aborted run still waits for answers that are on their way."""


class Clock(Protocol):
    """One clock for a run: a steady axis of seconds that journals, limits and waiting share."""

    def now(self) -> float:
        """Return the steady moment: close to wall time, but it never steps and never goes back."""

    @property
    def wall_offset(self) -> float:
        """Return what to add to a steady moment to print it as wall clock time."""


class Cloud(Protocol):
    """The service, as far as a run needs it."""

    async def restart(
        self, target: Target, request_id: str, leave: Leave = leave_at_once
    ) -> Answer:
        """Ask for one restart; whatever happens on the way is in the answer, never raised.

        Args:
            target: what to restart.
            request_id: our name for the call.
            leave: called when the call has all it needs, in the moment in which it would leave.

        Raises:
            HeldBackError: it was not let; no byte of it left.
        """

    async def list_clusters(
        self, project_id: str, region: str | None
    ) -> Mapping[str, ClusterState]:
        """Return all clusters of a project by id.

        Raises:
            IncompleteError: the list lacks clusters that the service counts.
            CloudError: no list could be had; looking again later may help.
        """

    async def show_cluster(self, target: Target) -> ClusterState:
        """Return one cluster.

        Raises:
            GoneError: the service does not know it, or not for us.
            CloudError: no usable answer; looking again later may help.
        """


class Journal(Protocol):
    """Where one run's events and the shared ledger of starts are kept."""

    async def write(self, decide: Callable[[Sequence[Start]], Sequence[Event]]) -> None:
        """Decide and record in one durable transaction.

        `decide` is called once, under the store's lock, with what other runs' starts did since the
        last call; the events it returns, and what they mean for the ledger, are durable on return.

        Raises:
            JournalError: nothing of it is in the journal.
            LeaseError: the run belongs to another runner now; nothing of it is in the journal.
        """

    async def count_anew(self, horizon: float) -> None:
        """Have the next decision get every start that still matters for rates of so many seconds.

        Our own are among them.
        """

    async def orders(self, after: int) -> Sequence[Order]:
        """Return what was asked of the run from other terminals, after the order of that number.

        Raises:
            JournalError: it cannot be read.
        """

    async def beat(self) -> None:
        """Keep the run ours while nothing is written.

        Raises:
            JournalError: it cannot be said.
            LeaseError: it is not ours any more.
        """

    async def testify(self, events: Sequence[Event]) -> None:
        """Record evidence, whoever the run belongs to.

        Raises:
            JournalError: nothing of it is in the journal.
        """


class Gate(Protocol):
    """Commands of the operator that say whether anything may start."""

    async def ask(self, facts: Mapping[str, str]) -> str | None:
        """Return why nothing may start, or None for go; whatever goes wrong is a reason."""


class Watcher(Protocol):
    """Somebody who is told and cannot answer."""

    def saw(self, event: Event) -> None:
        """Take note of an event, after it was recorded."""

    def noticed(self, notice: str, facts: Mapping[str, object]) -> None:
        """Take note of something that is no part of the run's history, such as a failed look."""

    def turned(self, campaign: Campaign, now: float) -> None:
        """Look at the campaign between two turns, while nothing moves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Who runs: goes into the journal with the run."""

    owner: str
    host: str
    pid: int
    version: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended."""

    outcome: str
    exit_code: ExitCode
    journal_error: UnavailableError | None


# What workers and signals put into the inbox: called with the moment of the turn, it tells the
# campaign and returns what has to be recorded of it.
_Fact = Callable[[float], Sequence[Event]]


@dataclass(slots=True)
class _Turn:
    """What came of one turn: events to record, and what to do once they are."""

    campaign: Campaign
    facts: Sequence[_Fact]
    now: Callable[[], float]
    unwritten: Sequence[Event]
    events: list[Event] = field(default_factory=list)
    restarts: list[RestartRequested] = field(default_factory=list)
    looks: list[Look | LookAt | AskGate] = field(default_factory=list)
    is_decided: bool = False
    counts_anew: bool = False
    """Whether the journal hands over every start that matters, and not only the news of others."""
    written: int = 0
    """How many of the events are durable."""

    def decide(self, starts: Sequence[Start]) -> Sequence[Event]:
        """Tell the campaign what came in and take down what it decides."""
        self.is_decided = True
        now = self.now()
        if self.counts_anew:
            self.campaign.count_anew(starts, now)
        else:
            self.campaign.take_note_of(starts, now)
        for fact in self.facts:
            for event in fact(now):
                self.apply(event)
        for command in self.campaign.due(now):
            match command:
                case Record(event=event):
                    self.apply(event)
                case Restart(event=event):
                    self.apply(event)
                    self.restarts.append(event)
                case Look() | LookAt() | AskGate():
                    self.looks.append(command)
        return [*self.unwritten, *self.events] if self.unwritten else self.events

    def withdraw(self, reason: str) -> None:
        """Take back the restarts of this turn: none of them was handed out, so nothing was sent."""
        now = self.now()
        for event in self.restarts:
            self.apply(
                RestartWithdrawn(at=now, target=event.target, attempt=event.attempt, reason=reason)
            )
        self.restarts.clear()

    def apply(self, event: Event) -> None:
        """Have it happen, and take it down."""
        self.campaign.apply(event)
        self.events.append(event)


class Engine:
    """Runs one campaign against one cloud, one journal and one clock."""

    def __init__(
        self,
        *,
        campaign: Campaign,
        cloud: Cloud,
        journal: Journal,
        clock: Clock,
        runner: Runner,
        watchers: Sequence[Watcher] = (),
        beat: float = math.inf,
        share_every: float = math.inf,
        renew_every: float = math.inf,
        hear_every: float = math.inf,
        skips: Mapping[int, str] = MappingProxyType({}),
        is_inherited: bool = False,
        gate: Gate | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            campaign: the state of the run, replayed if it is resumed.
            cloud: the service.
            journal: where this run is written.
            clock: the steady axis.
            runner: who runs.
            watchers: who is told.
            beat: the longest time in seconds between two looks of the watchers at the campaign.
            share_every: how often in seconds to see what other runs did while targets wait.
            renew_every: how often in seconds to say that the run is still ours.
            hear_every: how often in seconds to see what other terminals ask of the run.
            skips: targets that are skipped from the start, by position, with the reason.
            is_inherited: the run was taken over from another host, which may still be asking.
            gate: who is asked before anything starts, if the policy has gates.
        """
        self._campaign = campaign
        self._cloud = cloud
        self._journal = journal
        self._clock = clock
        self._runner = runner
        self._watchers = list(watchers)
        self._beat = beat
        self._share_every = share_every
        self._renew_every = renew_every
        self._renew_at = clock.now() + renew_every
        self._hear_every = hear_every
        self._skips = skips
        self._is_inherited = is_inherited
        self._gate = gate
        self._inbox: list[_Fact] = []
        self._news = asyncio.Event()
        self._calling = 0
        self._enough_back = asyncio.Event()
        self._idle: list[asyncio.Future[RestartRequested]] = []
        """Callers who wait for a restart to ask for."""
        self._journal_error: UnavailableError | None = None
        self._unwritten: list[Event] = []
        self._aborted_at = math.inf

    async def run(self) -> Ending:
        """Run the campaign to its end, whatever that is."""
        self._put(self._take_up)
        async with anyio.create_task_group() as tasks:
            if self._hear_every < math.inf:
                tasks.start_soon(self._hear)
            while not self._is_over():
                turn = await self._turn()
                for event in turn.restarts:
                    self._hand_out(event, tasks)
                for look in turn.looks:
                    self._begin_look(look, tasks)
                # What it was can be told while the service is at work.
                await asyncio.sleep(0)
                self._tell(turn.events)
                await self._wait()
                await self._gather()
            tasks.cancel_scope.cancel()
        return await self._finish()

    def interrupt(self, by: str) -> None:
        """Stop: the first time what runs is followed to its end, the second time not even that."""
        if self._campaign.stopping is None:
            self._put(lambda now: [RunStopping(at=now, reason=f"interrupted by {by}", by=by)])
        elif not self._campaign.aborted:
            self._put(lambda now: self._abort(now, by))

    def proceed(self, by: str) -> None:
        """Let a paused run go on."""
        campaign = self._campaign
        self._put(lambda now: [RunContinued(at=now, by=by)] if campaign.paused else [])

    # ------------------------------------------------------------------------------------ turns

    async def _turn(self) -> _Turn:
        """Decide and write."""
        facts, self._inbox = self._inbox, []
        turn = _Turn(self._campaign, facts, self._clock.now, self._unwritten)
        try:
            if self._campaign.uncounted is not None:
                await self._journal.count_anew(self._campaign.uncounted)
                turn.counts_anew = True
            await self._journal.write(turn.decide)
            turn.written = len(turn.events)
            self._unwritten = []
            await self._keep_lease()
        except (JournalError, LeaseError) as error:
            # Not at once again: a journal that fails is tried with every turn anyway.
            self._renew_at = self._clock.now() + self._renew_every
            self._go_on_without_journal(turn, error)
            await self._testify()
        return turn

    def _is_enough_back(self) -> bool:
        return self._calling <= OUT_FOR_EACH * len(self._inbox)

    async def _keep_lease(self) -> None:
        now = self._clock.now()
        if now >= self._renew_at:
            await self._journal.beat()
            self._renew_at = now + self._renew_every

    def _go_on_without_journal(self, turn: _Turn, error: UnavailableError) -> None:
        """Start nothing more and keep what could not be written; what runs is followed.

        With the lease gone, another runner follows it: only answers on their way are waited for.
        """
        if self._journal_error is None:
            self._journal_error = error
            self.notice("journal.lost", error=str(error))
        if self._campaign.stopping is None:
            what = "lease lost" if isinstance(error, LeaseError) else "journal"
            stop = RunStopping(at=self._clock.now(), reason=f"{what}: {error}", by="orchestrator")
            turn.apply(stop)
        if not turn.is_decided:
            turn.counts_anew = False
            turn.decide(())
        turn.withdraw("the intent could not be written down")
        if isinstance(error, LeaseError) and not self._campaign.aborted:
            turn.apply(RunAborted(at=self._clock.now(), by="orchestrator"))
        self._unwritten = [*self._unwritten, *turn.events[turn.written :]]

    async def _testify(self) -> None:
        """Bear witness to answers that came when the run was no longer ours to write."""
        if not isinstance(self._journal_error, LeaseError):
            return
        late = [
            AnswerArrivedLate(
                at=event.at, target=event.target, attempt=event.attempt, answer=event.answer
            )
            for event in self._unwritten
            if isinstance(event, RestartAnswered) and event.answer.verdict is not Verdict.LOST
        ]
        self._unwritten = []
        if late:
            try:
                await self._journal.testify(late)
            except JournalError as error:
                self.notice("journal.lost", error=str(error))

    async def _wait(self) -> None:
        """Wait for news, or until the campaign has something to do by time alone."""
        # Fixed before the first beat: a moment that moved on with each beat would never come.
        shared_at = self._shared_news_at(self._clock.now())
        while not self._inbox and not self._is_over():
            now = self._clock.now()
            self._show(now)
            wake_at = min(self._campaign.wake_at(now), shared_at, self._aborted_at)
            if wake_at <= now or self._renew_at <= now:
                return
            await _heard(self._news, min(min(wake_at, self._renew_at) - now, self._beat))

    def _shared_news_at(self, now: float) -> float:
        campaign = self._campaign
        waiting = len(campaign.lanes) and campaign.stopping is None and campaign.paused is None
        return now + self._share_every if waiting else math.inf

    def _is_over(self) -> bool:
        return self._campaign.finished or self._clock.now() >= self._aborted_at

    def _put(self, fact: _Fact) -> None:
        self._inbox.append(fact)
        self._news.set()
        if self._is_enough_back():
            self._enough_back.set()

    def _take_up(self, now: float) -> Sequence[Event]:
        """Note who runs; an intent of an earlier runner without an answer is an answer lost."""
        started = RunnerStarted(
            at=now,
            owner=self._runner.owner,
            host=self._runner.host,
            pid=self._runner.pid,
            wall_offset=self._clock.wall_offset,
            version=self._runner.version,
        )
        message = "the runner ended before an answer was recorded"
        error_class = TAKEN_OVER if self._is_inherited else "lost"
        skipped = [
            TargetEnded(at=now, target=position, outcome=Outcome.SKIPPED, reason=reason, asked=True)
            for position, reason in self._skips.items()
        ]
        lost = [
            RestartAnswered(
                at=now,
                target=track.start.target,
                attempt=track.start.attempt,
                answer=Answer(
                    verdict=Verdict.LOST,
                    sent_at=track.start.granted_at,
                    answered_at=now,
                    error=ErrorInfo(error_class=error_class, message=message),
                ),
            )
            for track in self._campaign.unanswered()
        ]
        return [started, *skipped, *lost]

    def _abort(self, now: float, by: str) -> Sequence[Event]:
        self._aborted_at = now + LAST_WORDS
        return [RunAborted(at=now, by=by)]

    async def _finish(self) -> Ending:
        campaign = self._campaign
        if campaign.aborted:
            outcome = "aborted"
        else:
            outcome = "stopped" if campaign.stopping is not None else "completed"
        exit_code = exit_code_for(
            campaign.standing(), asked_skips=campaign.asked_skips, aborted=campaign.aborted
        )
        if self._journal_error is not None:
            exit_code = ExitCode.UNAVAILABLE
        self._put(lambda now: [RunFinished(at=now, outcome=outcome, exit_code=int(exit_code))])
        turn = await self._turn()
        self._tell(turn.events)
        return Ending(outcome, exit_code, self._journal_error)

    # ---------------------------------------------------------------------------------- workers

    def _hand_out(self, event: RestartRequested, tasks: TaskGroup) -> None:
        """Have a restart asked for, by a caller who is idle if there is one.

        A task for each call would cost a third of the call; like this there are never more of them
        than calls were under way at once.
        """
        self._calling += 1
        if self._idle:
            self._idle.pop().set_result(event)
        else:
            tasks.start_soon(self._keep_calling, event)

    async def _keep_calling(self, event: RestartRequested) -> None:
        """Make one call, and further ones as they are handed out."""
        loop = asyncio.get_running_loop()
        while True:
            fact = await self._call(event)
            self._calling -= 1
            self._put(fact)
            # A bare future: whatever else can be waited for costs a tenth of a call.
            idle = loop.create_future()
            self._idle.append(idle)
            event = await idle

    async def _call(self, event: RestartRequested) -> _Fact:
        position, attempt = event.target, event.attempt
        target = self._campaign.plan.targets[position]
        try:
            answer = await self._cloud.restart(
                target, event.request_id, partial(self._leave, event)
            )
        except HeldBackError as error:
            reason = str(error)
            return lambda now: [
                RestartWithdrawn(at=now, target=position, attempt=attempt, reason=reason)
            ]
        return lambda now: [
            RestartAnswered(at=now, target=position, attempt=attempt, answer=answer)
        ]

    def _leave(self, event: RestartRequested) -> None:
        """Let a call leave if it still may.

        Raises:
            HeldBackError: it may not.
        """
        objection = self._campaign.objection(event, self._clock.now())
        if objection is not None:
            raise HeldBackError(objection)

    def _begin_look(self, look: Look | LookAt | AskGate, tasks: TaskGroup) -> None:
        match look:
            case Look():
                tasks.start_soon(self._look, look)
            case LookAt():
                tasks.start_soon(self._look_at, look)
            case AskGate():
                tasks.start_soon(self._ask_gate, look)

    async def _ask_gate(self, ask: AskGate) -> None:
        asked_at = self._clock.now()
        campaign = self._campaign
        if self._gate is None:
            reason: str | None = "there is nobody to ask it"
        else:
            reason = await self._gate.ask(
                {"FLEET_RUN": campaign.run_id, "FLEET_WAVE": ask.wave,
                 "FLEET_IN_PROGRESS": str(len(campaign.tracks))}
            )  # fmt: skip
        self._tell_later(lambda now: campaign.hear_gate(reason, asked_at, now))

    async def _hear(self) -> None:
        """Put what other terminals ask for into the inbox, soon after they do."""
        heard = self._campaign.last_order
        while True:
            await anyio.sleep(self._hear_every)
            try:
                orders = await self._journal.orders(heard)
            except JournalError:
                continue  # the next turn or beat meets the same trouble, and deals with it
            for order in orders:
                heard = order.number
                self._put(partial(self._obey, order))

    def _obey(self, order: Order, now: float) -> Sequence[Event]:
        events = self._campaign.obey(order, now)
        if any(isinstance(event, RunAborted) for event in events):
            self._aborted_at = now + LAST_WORDS
        return events

    async def _look(self, look: Look) -> None:
        began_at = self._clock.now()
        campaign, project_id = self._campaign, look.project_id
        try:
            states = await self._list(project_id, look.region)
        except CloudError as error:
            seen, retry_after = _error_of(error), error.retry_after
            self.notice("look.failed", project=project_id, error=str(error))
            self._tell_later(
                lambda now: campaign.fail_to_observe(project_id, seen, now, retry_after)
            )
        else:
            self._tell_later(lambda now: campaign.observe(project_id, states, began_at, now))

    async def _list(self, project_id: str, region: str | None) -> Mapping[str, ClusterState]:
        """Return a project's clusters; of a list that is not whole, if it has all of our targets.

        Raises:
            CloudError: no list could be had, or it lacks a target.
        """
        try:
            return await self._cloud.list_clusters(project_id, region)
        except IncompleteError as error:
            targets = self._campaign.plan.targets
            if error.lacks(one.cluster_id for one in targets if one.project_id == project_id):
                raise
            return error.seen

    async def _look_at(self, look: LookAt) -> None:
        began_at = self._clock.now()
        campaign, position = self._campaign, look.target
        target = campaign.plan.targets[position]
        try:
            state = await self._cloud.show_cluster(target)
        except GoneError as error:
            gone = _error_of(error)
            self._tell_later(lambda _now: campaign.miss(position, gone))
        except CloudError as error:
            seen, retry_after = _error_of(error), error.retry_after
            self.notice("look.failed", cluster=str(target), error=str(error))
            self._tell_later(
                lambda now: campaign.fail_to_observe_one(position, seen, now, retry_after)
            )
        else:
            self._tell_later(lambda now: campaign.observe_one(position, state, began_at, now))

    def _tell_later(self, tell: Callable[[float], None]) -> None:
        """Tell the campaign at the next turn what needs no record: what follows from it is due."""

        def fact(now: float) -> Sequence[Event]:
            tell(now)
            return ()

        self._put(fact)

    # --------------------------------------------------------------------------------- watchers

    def _tell(self, events: Sequence[Event]) -> None:
        def tell(watcher: Watcher) -> None:
            for event in events:
                watcher.saw(event)

        self._each_watcher(tell)

    def notice(self, notice: str, **facts: object) -> None:
        """Tell the watchers of something that is no part of the run's history."""
        self._each_watcher(lambda watcher: watcher.noticed(notice, facts))

    async def _gather(self) -> None:
        """Let answers that are about to come have a part in the same turn.

        A turn costs a durable commit whatever is in it; with many calls under way the next answers
        are moments off, and waiting while they keep coming makes batches that disk and loop like.
        It waits for a third of them at the most: the others go on while this third is written.
        """
        until = self._clock.now() + GATHER
        seen = 0
        while not self._is_enough_back() and len(self._inbox) > seen and self._clock.now() < until:
            seen = len(self._inbox)
            await _heard(self._enough_back, LULL)

    def _show(self, now: float) -> None:
        self._each_watcher(lambda watcher: watcher.turned(self._campaign, now))

    def _each_watcher(self, tell: Callable[[Watcher], None]) -> None:
        """Tell every watcher; one that fails is dismissed, for no run depends on watchers."""
        for watcher in list(self._watchers):
            try:
                tell(watcher)
            except Exception as error:  # noqa: BLE001 - whatever a watcher raises is its own affair
                self._watchers.remove(watcher)
                self.notice("watcher.failed", watcher=type(watcher).__name__, error=repr(error))


def _error_of(error: CloudError) -> ErrorInfo:
    return ErrorInfo(
        error_class=error.error_class,
        message=str(error),
        status=error.status,
        code=error.code,
        request_id=error.request_id,
    )


async def _heard(bell: asyncio.Event, patience: float) -> None:
    """Wait until the bell rings from now on, for so many seconds at the most.

    One bell for the run's whole life and a bare timer: a scope and an event for each turn would
    cost a tenth of it.
    """
    bell.clear()
    timer = None
    if patience < math.inf:
        timer = asyncio.get_running_loop().call_later(patience, bell.set)
    try:
        await bell.wait()
    finally:
        if timer is not None:
            timer.cancel()
