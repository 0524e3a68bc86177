"""A journal in memory: for stories in virtual time and for rehearsals. No threads, no real clock.

Several runs may share one `MemoryStore`; it is lost with the process, and that is its point.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import anyio.lowlevel

from orchestrator.errors import JournalError
from orchestrator.journal.lease import (
    LEASE_TTL,
    RENEWALS,
    LeaseRecord,
    Succession,
    is_held,
    lease_is_lost,
    succeed,
)
from orchestrator.journal.store import (
    ALPHABET,
    MOMENTS,
    RECENT,
    Clock,
    Decide,
    Lasted,
    Moment,
    RunRecord,
    RunSummary,
    check_evidence,
    cluster_is_taken,
    is_live,
    no_such_run,
    refuse_second,
    restarted_after,
    run_exists,
    run_id_at,
    spans_of,
    start_exists,
    state_of,
    still_matters,
)
from orchestrator.limits import Start, change_of, start_of
from orchestrator.model import (
    Event,
    RestartRequested,
    RunFinished,
    RunnerStarted,
    TargetEnded,
    TargetEvent,
)
from orchestrator.orders import Order

_Key = tuple[str, int, int]
_Cluster = tuple[str, str, str]


def _everyone_lives(_: str) -> bool:
    return True


@dataclass(slots=True)
class _Run:
    record: RunRecord
    wall_created_at: float
    events: list[Event] = field(default_factory=list)
    lease: LeaseRecord | None = None
    orders: list[Order] = field(default_factory=list)


class _Ledger:
    """Every start of every run, in the order in which they last changed."""

    def __init__(self) -> None:
        self.starts: dict[_Key, Start] = {}
        self.latest: dict[tuple[str, int], int] = {}
        self.live: dict[_Cluster, _Key] = {}
        self.changes: list[_Key] = []
        self._worlds: dict[str, str] = {}

    def take_over(self, world: str, rows: dict[_Key, Start]) -> None:
        """Make a draft the truth."""
        for key, start in rows.items():
            self.starts[key] = start
            self._worlds[start.run_id] = world
            self.latest[key[:2]] = max(start.attempt, self.latest.get(key[:2], start.attempt))
            self._occupy(_cluster(world, start), key, start)
        self.changes.extend(rows)

    def since(self, seen: int, world: str, but: str | None = None) -> list[Start]:
        """Return what changed after the first `seen` changes, in runs of `world` but for one."""
        keys = dict.fromkeys(self.changes[seen:])
        return [self.starts[key] for key in keys if key[0] != but and self._worlds[key[0]] == world]

    def _occupy(self, cluster: _Cluster, key: _Key, start: Start) -> None:
        if is_live(start):
            self.live[cluster] = key
        elif self.live.get(cluster) == key:
            del self.live[cluster]


class _Draft:
    """What one batch makes of the ledger, before it is taken over as a whole or thrown away."""

    def __init__(self, ledger: _Ledger, run: RunRecord) -> None:
        self.rows: dict[_Key, Start] = {}
        self._ledger = ledger
        self._run = run
        self._latest: dict[int, int] = {}
        self._live: dict[_Cluster, _Key] = {}

    def add(self, event: Event) -> None:
        """Take note of the next event.

        Raises:
            JournalError: it starts a cluster that has a live start.
        """
        if isinstance(event, RestartRequested):
            self._start(start_of(event, self._run.run_id, self._run.plan.targets[event.target]))
        elif isinstance(event, TargetEvent):
            change = change_of(event)
            attempt = self._attempt(event.target)
            if change is not None and attempt is not None:
                key = (self._run.run_id, event.target, attempt)
                self.rows[key] = self._row(key).after(change)

    def _start(self, start: Start) -> None:
        key = _key(start)
        cluster = _cluster(self._run.world, start)
        holder = self._live.get(cluster) or self._ledger.live.get(cluster)
        if holder is not None and is_live(self._row(holder)):
            raise cluster_is_taken(start, self._row(holder))
        if key in self.rows or key in self._ledger.starts:
            raise start_exists(start)
        self.rows[key] = start
        self._live[cluster] = key
        self._latest[start.target] = max(start.attempt, self._attempt(start.target) or 0)

    def _attempt(self, target: int) -> int | None:
        stored = self._ledger.latest.get((self._run.run_id, target))
        return self._latest.get(target, stored)

    def _row(self, key: _Key) -> Start:
        return self.rows.get(key) or self._ledger.starts[key]


def _key(start: Start) -> _Key:
    return start.run_id, start.target, start.attempt


def _cluster(world: str, start: Start) -> _Cluster:
    return world, start.project_id, start.cluster_id


def _moments(events: Sequence[Event]) -> Iterator[Moment]:
    for event in events:
        if event.kind in MOMENTS:
            target = event.target if isinstance(event, TargetEvent) else None
            outcome = event.outcome if isinstance(event, TargetEnded) else None
            yield event.kind, event.at, target, outcome


class MemoryStore:
    """All runs of one journal in memory.

    Args:
        clock: the axis of all moments, often one that jumps.
        random: where the letters of run ids come from; pass a seeded one to repeat a story.
        is_alive: whether an owner still lives; one who does not loses its runs at once.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        random: Random | None = None,
        is_alive: Callable[[str], bool] = _everyone_lives,
    ) -> None:
        self.clock = clock
        self._random = random or Random()
        self._is_alive = is_alive
        self._runs: dict[str, _Run] = {}
        self._ledger = _Ledger()

    async def new_run_id(self) -> str:
        """Return an id that no run here has."""
        await anyio.lowlevel.checkpoint()
        wall = self.clock.now() + self.clock.wall_offset
        while True:
            run_id = run_id_at(wall, "".join(self._random.choices(ALPHABET, k=4)))
            if run_id not in self._runs:
                return run_id

    async def create_run(self, record: RunRecord, *, alone: bool = False) -> None:
        """Keep the run; if it has to be alone, no other of its plan may be unfinished."""
        await anyio.lowlevel.checkpoint()
        if record.run_id in self._runs:
            raise run_exists(record.run_id)
        if alone:
            same_world = [r for r in self._runs.values() if r.record.world == record.world]
            refuse_second(record, [self._summary(run) for run in same_world])
        wall = record.created_at + self.clock.wall_offset
        self._runs[record.run_id] = _Run(record, wall)

    async def runs(self, world: str | None = None) -> list[RunSummary]:
        """Return all runs (of one world), newest first."""
        await anyio.lowlevel.checkpoint()
        return [self._summary(run) for run in self._newest_first(world)]

    async def load_run(self, run_id: str) -> RunRecord:
        """Return a run as it was created."""
        await anyio.lowlevel.checkpoint()
        return self._run(run_id).record

    async def events(self, run_id: str, *, after: int = 0) -> AsyncIterator[list[Event]]:
        """Yield the run's events, all in one batch."""
        await anyio.lowlevel.checkpoint()
        run = self._runs.get(run_id)
        if run is not None and run.events[after:]:
            yield run.events[after:]

    async def run_events(self, run_id: str) -> list[Event]:
        """Return those of a run's events that concern no single target."""
        await anyio.lowlevel.checkpoint()
        run = self._runs.get(run_id)
        events = [] if run is None else run.events
        return [event for event in events if not isinstance(event, TargetEvent)]

    async def starts(self, world: str) -> list[Start]:
        """Return the whole ledger of a world, in the order of grants."""
        await anyio.lowlevel.checkpoint()
        numbers = {run_id: number for number, run_id in enumerate(self._runs)}
        return sorted(
            self._ledger.since(0, world),
            key=lambda one: (one.granted_at, numbers[one.run_id], one.target, one.attempt),
        )

    async def counting(self, world: str, horizon: float) -> list[Start]:
        """Return the starts of a world that rates of so many seconds may still have to count."""
        now = self.clock.now()
        return [one for one in await self.starts(world) if still_matters(one, now, horizon)]

    async def restarted_since(self, at: float, world: str) -> frozenset[tuple[str, str]]:
        """Return project and cluster of what was restarted well after a steady moment."""
        await anyio.lowlevel.checkpoint()
        found: set[tuple[str, str]] = set()
        for run in self._runs.values():
            if run.record.world == world:
                targets = run.record.plan.targets
                found.update(
                    (targets[position].project_id, targets[position].cluster_id)
                    for position in restarted_after(run.events, at)
                )
        return frozenset(found)

    async def lasted(self, world: str, *, most: int = RECENT) -> list[Lasted]:
        """Return how long restarts of the newest runs lasted."""
        await anyio.lowlevel.checkpoint()
        found: list[Lasted] = []
        for run in self._newest_first(world):
            if len(found) >= most:
                break
            targets = run.record.plan.targets
            found.extend(
                Lasted(
                    project_id=targets[target].project_id,
                    cluster_id=targets[target].cluster_id,
                    kind=str(targets[target].kind),
                    ready=ready,
                    whole=whole,
                )
                for target, ready, whole in spans_of(_moments(run.events))
            )
        return found

    async def lease(self, run_id: str) -> LeaseRecord | None:
        """Return who works on a run or did last."""
        await anyio.lowlevel.checkpoint()
        run = self._runs.get(run_id)
        return None if run is None else run.lease

    async def give(self, run_id: str, order: Order) -> Order:
        """Keep an order to a run; return it with its number."""
        await anyio.lowlevel.checkpoint()
        orders = self._run(run_id).orders
        orders.append(replace(order, number=len(orders) + 1))
        return orders[-1]

    async def orders(self, run_id: str, after: int) -> list[Order]:
        """Return the orders of a run whose numbers are greater."""
        await anyio.lowlevel.checkpoint()
        run = self._runs.get(run_id)
        return [] if run is None else run.orders[after:]

    async def journal(
        self, run_id: str, *, horizon: float, owner: str = "", ttl: float = LEASE_TTL
    ) -> "MemoryJournal":
        """Take a run's lease and open it for writing."""
        await anyio.lowlevel.checkpoint()
        run, now = self._run(run_id), self.clock.now()
        succession = succeed(run.lease, now, self._is_dead, self.clock.wall_offset)
        run.lease = LeaseRecord(
            run_id=run_id,
            owner=owner,
            host="",
            boot_id=None,
            pid=0,
            epoch=succession.epoch,
            taken_at=now,
            heartbeat_at=now,
            expires_at=now + ttl,
        )
        return MemoryJournal(run, succession, self._ledger, self.clock, horizon=horizon, ttl=ttl)

    def _newest_first(self, world: str | None) -> list[_Run]:
        in_order = sorted(self._runs.values(), key=lambda run: run.record.created_at)
        return [run for run in reversed(in_order) if world in {None, run.record.world}]

    def _is_dead(self, lease: LeaseRecord) -> bool:
        return not self._is_alive(lease.owner)

    def _run(self, run_id: str) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            raise no_such_run(run_id, list(reversed(self._runs)))
        return run

    def _summary(self, run: _Run) -> RunSummary:
        words = (
            event
            for event in reversed(run.events)
            if isinstance(event, RunnerStarted | RunFinished)
        )
        lease = run.lease
        held = is_held(lease, self.clock.now(), self._is_dead)
        state, outcome, exit_code = state_of(next(words, None), is_held=held)
        return RunSummary(
            run_id=run.record.run_id,
            created_at=run.record.created_at,
            wall_created_at=run.wall_created_at,
            operator=run.record.operator,
            change=run.record.change,
            targets=len(run.record.plan.targets),
            plan_id=run.record.plan.plan_id,
            state=state,
            outcome=outcome,
            exit_code=exit_code,
            world=run.record.world,
            owner=lease.describe() if held and lease is not None else None,
        )


class MemoryJournal:
    """Where one run of a `MemoryStore` writes."""

    def __init__(
        self,
        run: _Run,
        succession: Succession,
        ledger: _Ledger,
        clock: Clock,
        *,
        horizon: float,
        ttl: float,
    ) -> None:
        self._run = run
        self._succession = succession
        self._ledger = ledger
        self._clock = clock
        self._horizon = horizon
        self._ttl = ttl
        self._seen: int | None = None
        self._without: str | None = run.record.run_id
        """Whose starts are not handed over: our own, but when all are counted anew."""
        self._closed = False

    @property
    def epoch(self) -> int:
        """The number of our lease."""
        return self._succession.epoch

    @property
    def took_over(self) -> LeaseRecord | None:
        """The previous holder, if it did not give the run back."""
        return self._succession.took_over

    @property
    def is_inherited(self) -> bool:
        """Whether the previous holder may still be at work."""
        return self._succession.is_inherited

    async def write(self, decide: Decide) -> None:
        """Decide and record in one step; nothing can come in between."""
        # Cancellation is met before, never after: what was written must not look undone.
        await anyio.lowlevel.checkpoint()
        lease = self._check_lease()
        events = decide(self._foreign())
        seen = len(self._ledger.changes)
        draft = _Draft(self._ledger, self._run.record)
        for event in events:
            draft.add(event)
        self._ledger.take_over(self._run.record.world, draft.rows)
        self._run.events.extend(events)
        self._seen = seen
        self._without = self._run.record.run_id
        if self._clock.now() >= lease.heartbeat_at + self._ttl / RENEWALS:
            self._renew(lease)

    async def count_anew(self, horizon: float) -> None:
        """Have the next decision get every start that can still matter, ours among them."""
        await anyio.lowlevel.checkpoint()
        self._horizon, self._seen, self._without = horizon, None, None

    async def orders(self, after: int) -> list[Order]:
        """Return the orders of the run whose numbers are greater."""
        await anyio.lowlevel.checkpoint()
        return self._run.orders[after:]

    async def beat(self) -> None:
        """Renew the lease."""
        await anyio.lowlevel.checkpoint()
        self._renew(self._check_lease())

    async def testify(self, events: Sequence[Event]) -> None:
        """Record evidence, lease or not."""
        await anyio.lowlevel.checkpoint()
        check_evidence(events)
        self._run.events.extend(events)

    async def close(self) -> None:
        """Write no more, and give the lease back."""
        self._closed = True
        lease = self._run.lease
        if lease is not None and lease.epoch == self.epoch and lease.released_at is None:
            self._run.lease = replace(lease, released_at=self._clock.now())
        await anyio.lowlevel.checkpoint()

    def _check_lease(self) -> LeaseRecord:
        run_id, lease = self._run.record.run_id, self._run.lease
        if self._closed:
            raise JournalError(f"the journal of run {run_id} is closed")
        if lease is None or lease.epoch != self.epoch:
            raise lease_is_lost(run_id, lease, self._clock.wall_offset)
        return lease

    def _renew(self, lease: LeaseRecord) -> None:
        now = self._clock.now()
        self._run.lease = replace(lease, heartbeat_at=now, expires_at=now + self._ttl)

    def _foreign(self) -> list[Start]:
        record = self._run.record
        changed = self._ledger.since(self._seen or 0, record.world, self._without)
        if self._seen is not None:
            return changed
        now = self._clock.now()
        return [start for start in changed if still_matters(start, now, self._horizon)]
