"""The engine: what it does when the journal, the lease, a watcher or the operator fails it."""

import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import anyio
import anyio.lowlevel

from orchestrator.campaign import Campaign
from orchestrator.css import answers
from orchestrator.engine import LAST_WORDS, Ending, Engine, Runner, Watcher
from orchestrator.errors import (
    ExitCode,
    IncompleteError,
    JournalError,
    LeaseError,
    UnavailableError,
)
from orchestrator.journal import MemoryStore
from orchestrator.limits import Concurrency, Start
from orchestrator.model import (
    Answer,
    AnswerArrivedLate,
    ClusterState,
    Event,
    Leave,
    Outcome,
    RestartRequested,
    RestartWithdrawn,
    RunContinued,
    RunPaused,
    RunStopping,
    Target,
    TargetEnded,
    leave_at_once,
)
from orchestrator.orders import Order, OrderKind
from orchestrator.plan import Policy, Portion, make_plan
from orchestrator.simulator import Record, Service, parse_scenario
from orchestrator.simulator.clock import JumpingClock, run_in_virtual_time
from orchestrator.simulator.memory import MemoryCloud
from tests.stories.night import fleet

SCENARIO = """
[latency]
before = "1s"
after = "1s"
[restart]
duration = "30s"
"""


class FailingJournal:
    """A journal that fails from one write on, for good or for a while; or that takes its time."""

    def __init__(self, store: MemoryStore, run_id: str, error: UnavailableError) -> None:
        self._store = store
        self._run_id = run_id
        self._error = error
        self.fails = False
        self.fails_to_commit = False
        self.fails_to_beat = False
        self.commit_takes = 0.0
        self.is_unreadable = False
        self.intents = 0
        self.last_intent = anyio.Event()
        self.written: list[Event] = []
        self.given: list[Order] = []
        self.evidence: list[Event] = []

    async def write(self, decide: Callable[[Sequence[Start]], Sequence[Event]]) -> None:
        if self.fails:
            raise self._error
        events = list(decide(()))
        self.intents += sum(isinstance(event, RestartRequested) for event in events)
        if self.intents == 6:
            self.last_intent.set()
        if self.commit_takes:
            await anyio.sleep(self.commit_takes)
        if self.fails_to_commit and any(isinstance(event, RestartRequested) for event in events):
            raise self._error
        self.written.extend(events)

    async def count_anew(self, horizon: float) -> None:
        del horizon
        if self.fails:
            raise self._error

    async def orders(self, after: int) -> Sequence[Order]:
        if self.is_unreadable:
            raise self._error
        return [order for order in self.given if order.number > after]

    async def beat(self) -> None:
        if self.fails or self.fails_to_beat:
            raise self._error

    async def testify(self, events: Sequence[Event]) -> None:
        self.evidence.extend(events)


class Scene:
    """An engine with a fleet of six, four at once, and everything that it told."""

    def __init__(self, error: UnavailableError | None = None, watchers: int = 0) -> None:
        self.clock = JumpingClock()
        self.targets = fleet(6, 1)
        self.trace: list[Record] = []
        service = Service(self.targets, parse_scenario(SCENARIO), 0)
        self.cloud = MemoryCloud(service, answers, now=self.clock.now, trace=self.trace.append)
        rules = Policy(
            limits=(Concurrency(4),), max_failures=Portion(6), stable_for=2.0, poll_every=2.0
        )
        self.campaign = Campaign("run", make_plan(self.targets, rules))
        store = MemoryStore(self.clock, random=random.Random(0))
        self.journal = FailingJournal(store, "run", error or JournalError("disk full"))
        self.asked = 0
        self.cloud_waits = 0.0
        self.total_lies = False
        self.told: list[Event] = []
        self.notices: list[str] = []
        self.engine = Engine(
            campaign=self.campaign,
            cloud=Crowded(self),
            journal=self.journal,
            clock=self.clock,
            runner=Runner(owner="ana", host="bastion", pid=1, version="0"),
            watchers=[Deaf() for _ in range(watchers)] + [self],
            renew_every=20.0,
            hear_every=0.5,
        )
        self.began_at = self.clock.now()

    def order(self, kind: OrderKind) -> None:
        number = len(self.journal.given) + 1
        asked = Order(at=self.clock.now(), by="ben", kind=kind, reason="because", number=number)
        self.journal.given.append(asked)

    def saw(self, event: Event) -> None:
        self.told.append(event)

    def noticed(self, notice: str, facts: Mapping[str, object]) -> None:
        del facts
        self.notices.append(notice)

    def turned(self, campaign: Campaign, now: float) -> None:
        """Need nothing of that."""

    def executed(self) -> int:
        return sum(record.what == "executed" for record in self.trace)


class Crowded:
    """The scene's cloud, where a restart may have to wait before it can leave.

    Its lists may count a cluster that nobody may see.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scene.cloud, name)

    async def restart(
        self, target: Target, request_id: str, leave: Leave = leave_at_once
    ) -> Answer:
        self._scene.asked += 1
        await anyio.sleep(self._scene.cloud_waits)
        return await self._scene.cloud.restart(target, request_id, leave)

    async def list_clusters(
        self, project_id: str, region: str | None
    ) -> Mapping[str, ClusterState]:
        found = await self._scene.cloud.list_clusters(project_id, region)
        if self._scene.total_lies:
            raise IncompleteError("1 of 7 clusters are missing", found)
        return found


class Deaf:
    """A watcher that fails at the first word."""

    def saw(self, event: Event) -> None:
        raise ValueError(event.kind)

    def noticed(self, notice: str, facts: Mapping[str, object]) -> None:
        """Hear nothing."""

    def turned(self, campaign: Campaign, now: float) -> None:
        """See nothing."""


def play(
    act: Callable[[Scene], Coroutine[Any, Any, None]], **scene: object
) -> tuple[Scene, Ending]:
    """Run a scene with somebody who acts besides."""

    async def main() -> tuple[Scene, Ending]:
        it = Scene(**scene)  # type: ignore[arg-type]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(act, it)
            with anyio.fail_after(3600):
                ending = await it.engine.run()
            tasks.cancel_scope.cancel()
        return it, ending

    return run_in_virtual_time(main)


async def nothing(_: Scene) -> None:
    """Let it run."""


def test_an_undisturbed_run() -> None:
    """Everything told was recorded first, and all six are restarted."""
    scene, ending = play(nothing)
    assert ending.exit_code is ExitCode.OK
    assert scene.told == scene.journal.written
    assert scene.campaign.counts()[Outcome.RESTARTED] == 6


def test_a_list_that_has_all_targets_is_enough() -> None:
    """A service that counts clusters which it does not show holds nobody up."""

    async def lie(scene: Scene) -> None:
        scene.total_lies = True

    scene, ending = play(lie)
    assert ending == Ending("completed", ExitCode.OK, None)
    assert "look.failed" not in scene.notices


def test_a_journal_that_fails_stops_new_starts_and_what_runs_is_followed() -> None:
    """With the journal gone nothing new starts, what runs comes to its end, and it is told."""

    async def fail(scene: Scene) -> None:
        await anyio.sleep(10)
        scene.journal.fails = True

    scene, ending = play(fail)
    assert ending.exit_code is ExitCode.UNAVAILABLE
    assert isinstance(ending.journal_error, JournalError)
    assert scene.executed() == 4
    counts = scene.campaign.counts()
    assert (counts[Outcome.RESTARTED], counts[Outcome.NOT_STARTED]) == (4, 2)
    assert "journal.lost" in scene.notices
    # Those who are told know what the journal could not take.
    assert sum(isinstance(event, TargetEnded) for event in scene.told) == 4


def test_a_journal_that_fails_with_an_intent_sends_nothing() -> None:
    """An intent that did not become durable is withdrawn: no call of it ever leaves."""

    async def fail(scene: Scene) -> None:
        scene.journal.fails = True
        await anyio.lowlevel.checkpoint()

    scene, ending = play(fail)
    assert ending.exit_code is ExitCode.UNAVAILABLE
    assert scene.executed() == 0
    asked = [event.target for event in scene.told if isinstance(event, RestartRequested)]
    back = [event.target for event in scene.told if isinstance(event, RestartWithdrawn)]
    assert asked == back


def test_a_journal_that_works_again_gets_what_it_missed() -> None:
    """What could not be written is written when it can; the run stays stopped all the same."""

    async def fail_for_a_while(scene: Scene) -> None:
        await anyio.sleep(10)
        scene.journal.fails = True
        await anyio.sleep(15)
        scene.journal.fails = False

    scene, ending = play(fail_for_a_while)
    assert ending.exit_code is ExitCode.UNAVAILABLE
    assert scene.journal.written == scene.told
    assert scene.executed() == 4


def test_no_call_is_made_before_its_intent_is_durable() -> None:
    """While intents are being written their calls are not made yet; then they are."""

    async def take_time(scene: Scene) -> None:
        await anyio.sleep(10)
        scene.journal.commit_takes = 3.0
        await scene.journal.last_intent.wait()
        await anyio.sleep(2.9)
        assert scene.asked == 4
        scene.journal.commit_takes = 0.0

    scene, ending = play(take_time)
    assert ending.exit_code is ExitCode.OK
    assert scene.executed() == scene.asked == 6


def test_no_call_is_made_for_an_intent_that_is_not_durable() -> None:
    """Whatever the commit of an intent failed of, its restart is taken back and not asked for."""

    async def fail(scene: Scene) -> None:
        await anyio.sleep(10)
        scene.journal.commit_takes = 1.0
        scene.journal.fails_to_commit = True

    scene, ending = play(fail)
    assert ending.exit_code is ExitCode.UNAVAILABLE
    assert scene.asked == scene.executed() == 4
    assert scene.campaign.counts()[Outcome.NOT_STARTED] == 2
    assert sum(isinstance(event, RestartWithdrawn) for event in scene.told) == 2


def test_a_lease_that_cannot_be_renewed_has_nothing_written_twice() -> None:
    """What is durable already is not kept for the next write when renewing the lease fails."""

    async def fail_for_a_while(scene: Scene) -> None:
        scene.journal.fails_to_beat = True
        await anyio.sleep(25)
        scene.journal.fails_to_beat = False

    scene, ending = play(fail_for_a_while)
    assert ending.exit_code is ExitCode.UNAVAILABLE
    assert scene.journal.written == scene.told
    replayed = Campaign("run", scene.campaign.plan, scene.journal.written)
    assert replayed.counts() == scene.campaign.counts()


def test_a_lost_lease_stops_before_the_next_call_and_bears_witness() -> None:
    """A runner whose run was taken over starts and follows nothing; late answers are evidence."""

    async def lose(scene: Scene) -> None:
        await anyio.sleep(1.5)
        scene.journal.fails = True

    scene, ending = play(lose, error=LeaseError("ben works on it"))
    assert ending.exit_code is ExitCode.UNAVAILABLE
    assert scene.executed() == 4
    assert len(scene.journal.evidence) == 4
    for event in scene.journal.evidence:
        assert isinstance(event, AnswerArrivedLate)
        assert event.answer.job_ids


def test_a_lost_lease_is_noticed_while_nothing_happens() -> None:
    """The lease is renewed while a run only waits, so its loss is noticed in time."""

    async def lose(scene: Scene) -> None:
        await anyio.sleep(40)
        scene.journal.fails = True

    scene, _ = play(lose, error=LeaseError("ben works on it"))
    assert scene.campaign.aborted


def test_the_first_interrupt_drains_and_the_second_aborts() -> None:
    """First nothing new starts; then following stops, too, and the exit code says so."""

    async def interrupt(scene: Scene) -> None:
        await anyio.sleep(10)
        scene.engine.interrupt("SIGINT")
        await anyio.sleep(5)
        assert not scene.campaign.finished
        scene.engine.interrupt("SIGINT")

    scene, ending = play(interrupt)
    assert ending.exit_code is ExitCode.ABORTED
    assert scene.executed() == 4
    standing = scene.campaign.standing()
    # What was asked for is not called not started: its end is what nobody knows.
    assert (standing[Outcome.UNKNOWN], standing[Outcome.NOT_STARTED]) == (4, 2)


def test_one_interrupt_lets_what_runs_come_to_its_end() -> None:
    """After one interrupt the exit code says that targets are left."""

    async def interrupt(scene: Scene) -> None:
        await anyio.sleep(10)
        scene.engine.interrupt("SIGTERM")

    scene, ending = play(interrupt)
    assert ending.exit_code is ExitCode.STOPPED
    assert scene.campaign.counts()[Outcome.RESTARTED] == 4
    stop = next(event for event in scene.told if isinstance(event, RunStopping))
    assert stop.reason == "interrupted by SIGTERM"


def test_a_paused_run_waits_and_goes_on() -> None:
    """Within a second of an order nothing new starts; what runs is followed, and it goes on."""

    async def pause_and_go_on(scene: Scene) -> None:
        await anyio.sleep(10)
        scene.order(OrderKind.PAUSE)
        await anyio.sleep(1.0)
        assert scene.campaign.paused is not None
        await anyio.sleep(3000)
        assert scene.executed() == 4
        assert scene.campaign.counts()[Outcome.RESTARTED] == 4
        scene.order(OrderKind.CONTINUE)

    scene, ending = play(pause_and_go_on)
    assert ending.exit_code is ExitCode.OK
    assert scene.executed() == 6
    assert [e.order for e in scene.told if isinstance(e, RunPaused | RunContinued)] == [1, 2]


def test_an_order_to_abort_ends_it_with_the_reason() -> None:
    """An abort from another terminal is the second signal, and says whose it was."""

    async def abort(scene: Scene) -> None:
        await anyio.sleep(10)
        scene.order(OrderKind.ABORT)

    scene, ending = play(abort)
    assert ending.exit_code is ExitCode.ABORTED
    assert scene.told[-1].at < scene.began_at + 10 + 0.5 + LAST_WORDS + 0.1
    assert scene.campaign.stopping is not None
    assert scene.campaign.stopping.reason == "aborted by ben: because"


def test_a_restart_that_is_kept_from_leaving_is_withdrawn() -> None:
    """Who objects in the last moment, when the call has waited, keeps it back for certain."""

    async def pause(scene: Scene) -> None:
        scene.cloud_waits = 3.0
        scene.order(OrderKind.PAUSE)
        await anyio.sleep(100)
        assert scene.executed() == 0
        assert sum(isinstance(event, RestartWithdrawn) for event in scene.told) == 4
        scene.cloud_waits = 0.0
        scene.order(OrderKind.CONTINUE)

    scene, ending = play(pause)
    assert ending.exit_code is ExitCode.OK
    assert scene.executed() == 6
    reasons = {event.reason for event in scene.told if isinstance(event, RestartWithdrawn)}
    assert reasons == {"paused by ben: because"}


def test_orders_that_cannot_be_read_are_read_later() -> None:
    """A journal that cannot be read for a moment loses no order."""

    async def fail_for_a_moment(scene: Scene) -> None:
        await anyio.sleep(10)
        scene.journal.is_unreadable = True
        scene.order(OrderKind.DRAIN)
        await anyio.sleep(5)
        assert scene.campaign.stopping is None
        scene.journal.is_unreadable = False
        await anyio.sleep(1)
        assert scene.campaign.stopping is not None

    _, ending = play(fail_for_a_moment)
    assert ending.exit_code is ExitCode.STOPPED


def test_a_watcher_that_fails_is_dismissed() -> None:
    """A watcher's failure is told to the others, and does not disturb the run."""
    scene, ending = play(nothing, watchers=1)
    assert ending.exit_code is ExitCode.OK
    assert scene.notices.count("watcher.failed") == 1


def test_scene_is_a_watcher() -> None:
    """The scene fits the protocol that it stands in for."""

    async def main() -> Sequence[Watcher]:
        return [Scene()]

    assert run_in_virtual_time(main)
