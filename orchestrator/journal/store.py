"""What journals keep and promise: records, protocols, and the rules that all stores share.

Rules:

- A store keeps runs (a plan, frozen), their events (append only) and the ledger of starts, which
  all runs of the same world share. A *world* is a service that can be told apart from others: the
  real one, or one simulator; runs of different worlds know nothing of each other.
- `RunJournal.write` is one durable transaction around a decision. Others' starts are handed over
  as whole rows: a row may come again, and the last one counts.
- A settling in the ledger stays, and of several ends the earliest counts. What was given back
  counts nowhere. Moments are kept to the last bit.
- One runner at a time works on a run: `Store.journal` takes its lease, see `lease.py`. Evidence is
  taken from anybody.
- One cluster has at most one live start: begun, neither ended nor given back.

The rules are here as pure functions; a store in SQL mirrors them, and one contract suite holds
every store to the same behaviour.
"""

import difflib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from orchestrator.errors import (
    ImpossibleEventError,
    JournalError,
    LeaseError,
    OrchestratorError,
    UsageError,
)
from orchestrator.journal.lease import LEASE_TTL, LeaseRecord
from orchestrator.limits import Start
from orchestrator.model import (
    AnswerArrivedLate,
    Event,
    Outcome,
    RestartRequested,
    RestartSettling,
    RestartUnsettled,
    RunFinished,
    RunnerStarted,
    TargetEnded,
    TargetRelapsed,
)
from orchestrator.orders import Order
from orchestrator.plan import Plan

Decide = Callable[[Sequence[Start]], Sequence[Event]]
"""Given what other runs' starts did since last asked, say what happens now. Quick and pure."""

MARGIN = 1.0
"""Seconds beyond the horizon that settled starts are still handed over: more than any guard."""

RECENT = 30_000
"""Finished restarts that say enough of how long others will last: three of each in large fleets."""

ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
"""Letters of a run's id; those that are mistaken for each other when read aloud are left out."""


class Clock(Protocol):
    """A steady axis of seconds, and the way from it to the wall clock."""

    def now(self) -> float:
        """Return the steady moment in seconds."""

    @property
    def wall_offset(self) -> float:
        """Return what to add to a steady moment to get wall clock time."""


# --------------------------------------------------------------------------------------- records


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run as it was asked for; never changes. `created_at` is on the steady axis."""

    run_id: str
    plan: Plan
    operator: str
    change: str | None
    created_at: float
    world: str
    tool_version: str
    settings: Mapping[str, object]
    """JSON-able, never a secret."""


class RunState(StrEnum):
    """What can be said of a run from outside."""

    RUNNING = "running"
    """Somebody holds its lease, and is not certainly dead."""
    STOPPED = "stopped"
    """Its runner ended before the work did."""
    FINISHED = "finished"
    """Nothing is left to do."""
    INTERRUPTED = "interrupted"
    """Nobody works on it, and nobody said that it was over; `resume` takes it up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A run in one line. `created_at` is steady, `wall_created_at` seconds of wall clock time."""

    run_id: str
    created_at: float
    wall_created_at: float
    operator: str
    change: str | None
    targets: int
    plan_id: str
    state: RunState
    outcome: str | None
    exit_code: int | None
    world: str
    owner: str | None = None
    """Who works on it: `ana@bastion-1 pid 123 on bastion-1`; None if nobody does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasted:
    """How long a restart lasted that ended well; seconds from its grant."""

    project_id: str
    cluster_id: str
    kind: str
    """The target's kind, as it is printed."""
    ready: float
    """Until the cluster was seen ready, and stayed so."""
    whole: float
    """Until its end, when its slot was free."""


Moment = tuple[str, float, int | None, str | None]
"""An event by its kind, moment and target, and its outcome if it is an end."""


# ------------------------------------------------------------------------------------- protocols


class RunJournal(Protocol):
    """Where one run writes what happens; what the engine asks for, and an end."""

    @property
    def epoch(self) -> int:
        """The number of our lease: the first runner's is 1, and each one after has the next."""

    @property
    def took_over(self) -> LeaseRecord | None:
        """The previous holder, if it did not give the run back."""

    @property
    def is_inherited(self) -> bool:
        """Whether the previous holder's death is not certain, so that it may still be asking."""

    async def write(self, decide: Decide) -> None:
        """Decide and record in one durable transaction; calls are carried out one after another.

        `decide` is called once, under the store's lock and perhaps on another thread. Its first
        call gets every start of other runs that can still matter, later ones those that changed
        since the last call that came through; see `count_anew`. If it returns nothing, nothing is
        written; what it raises comes out unchanged, and nothing is written either. A cancelled call
        has either not begun or comes to its end.

        Raises:
            JournalError: nothing of it is in the journal; it may be tried again.
            LeaseError: the run belongs to another runner now; nothing of it is in the journal.
        """

    async def count_anew(self, horizon: float) -> None:
        """Have the next decision get every start that can still matter, ours among them.

        Args:
            horizon: the longest interval of the run's rates from now on, in seconds.
        """

    async def orders(self, after: int) -> list[Order]:
        """Return the orders of the run whose numbers are greater, in their order.

        Raises:
            JournalError: they cannot be read.
        """

    async def beat(self) -> None:
        """Renew the lease; a `write` does it too when a third of the lease's time is over.

        Raises:
            JournalError: it could not be renewed.
            LeaseError: the run belongs to another runner now.
        """

    async def testify(self, events: Sequence[Event]) -> None:
        """Record evidence (`AnswerArrivedLate`), whoever the run belongs to; the ledger stays.

        Raises:
            JournalError: nothing of it is in the journal.
        """

    async def close(self) -> None:
        """Write no more, and give the lease back if that is possible; harmless when repeated."""


class Store(Protocol):
    """All runs of one journal, and the ledger they share."""

    @property
    def clock(self) -> Clock:
        """The axis that all moments in this store lie on."""

    async def new_run_id(self) -> str:
        """Return an id that no run here has: the date of the wall clock (UTC) and four letters."""

    async def create_run(self, record: RunRecord, *, alone: bool = False) -> None:
        """Keep the run, durably.

        Args:
            record: the run.
            alone: refuse it while another run of the same plan and world is not finished.

        Raises:
            LeaseError: it is not alone, and somebody works on the other; nothing of it was kept.
            UsageError: it is not alone; nothing of it was kept.
            JournalError: nothing of it was kept.
        """

    async def runs(self, world: str | None = None) -> list[RunSummary]:
        """Return all runs (of one world), newest first."""

    async def load_run(self, run_id: str) -> RunRecord:
        """Return a run as it was created.

        Raises:
            JournalError: there is none of that id; names those that may have been meant.
        """

    def events(self, run_id: str, *, after: int = 0) -> AsyncIterator[list[Event]]:
        """Yield the run's events in the order of writing, in batches, up to those of now.

        Args:
            run_id: the run.
            after: so many of the first events are left out, for those who have them.
        """

    async def run_events(self, run_id: str) -> list[Event]:
        """Return those of a run's events that concern no single target, in the order of writing."""

    async def starts(self, world: str) -> list[Start]:
        """Return the whole ledger of a world, in the order of grants."""

    async def counting(self, world: str, horizon: float) -> list[Start]:
        """Return the starts of a world that rates of so many seconds may still have to count."""

    async def restarted_since(self, at: float, world: str) -> frozenset[tuple[str, str]]:
        """Return project and cluster of what was restarted well after a steady moment."""

    async def lasted(self, world: str, *, most: int = RECENT) -> list[Lasted]:
        """Return how long restarts lasted, of the newest runs: so many runs that `most` are had."""

    async def lease(self, run_id: str) -> LeaseRecord | None:
        """Return who works on a run or did last, even if it is over; None if nobody ever did."""

    async def give(self, run_id: str, order: Order) -> Order:
        """Keep an order to a run, durably; return it with its number.

        Raises:
            JournalError: there is no such run, or nothing of it was kept.
        """

    async def orders(self, run_id: str, after: int) -> list[Order]:
        """Return the orders of a run whose numbers are greater, in their order."""

    async def journal(
        self, run_id: str, *, horizon: float, owner: str = "", ttl: float = LEASE_TTL
    ) -> RunJournal:
        """Take a run's lease and open it for writing.

        Args:
            run_id: a run of this store.
            horizon: the longest interval of the run's rates in seconds; starts of others that were
                settled longer ago are of no interest.
            owner: who works on it from here on, for those who find it taken.
            ttl: seconds without a heartbeat after which others may take the run.

        Raises:
            LeaseError: somebody else works on it; says who, since when, and what to do.
            JournalError: there is no such run, or it cannot be written.
        """


# ----------------------------------------------------------------------------------------- rules


def is_live(start: Start) -> bool:
    """Whether the start keeps its cluster to itself: begun, neither ended nor given back."""
    return start.ended_at is None and not start.returned


def still_matters(start: Start, now: float, horizon: float) -> bool:
    """Whether a limit may still have to count the start, with rates of up to `horizon` seconds."""
    if start.returned:
        return False
    if start.settled_at is None or start.ended_at is None:
        return True
    return start.ended_at > now or start.settled_at > now - horizon - MARGIN


def state_of(last: Event | None, *, is_held: bool) -> tuple[RunState, str | None, int | None]:
    """Return state, outcome and exit code from the last word of the run's runner and its lease."""
    if isinstance(last, RunFinished):
        state = RunState.FINISHED if last.outcome == "completed" else RunState.STOPPED
        return state, last.outcome, last.exit_code
    return RunState.RUNNING if is_held else RunState.INTERRUPTED, None, None


def check_evidence(events: Sequence[Event]) -> None:
    """See that these events are evidence, and move nothing.

    Raises:
        ImpossibleEventError: one of them is not.
    """
    for event in events:
        if not isinstance(event, AnswerArrivedLate):
            raise ImpossibleEventError(f"{event.kind} is no evidence; it needs the run's lease")


def refuse_second(record: RunRecord, others: Iterable[RunSummary]) -> None:
    """Refuse a run while another of the same plan is not finished.

    Raises:
        LeaseError: there is one, and somebody works on it.
        UsageError: there is one that can be resumed.
    """
    for other in others:
        if other.plan_id == record.plan.plan_id and other.state is not RunState.FINISHED:
            raise is_unfinished(other)


def is_unfinished(other: RunSummary) -> OrchestratorError:
    """Return the error that says which run of the same plan is not finished, and what can be done.

    Who is at work there is not to be helped by a second runner.
    """
    what = f"run {other.run_id} of the same plan is {other.state}; nothing was sent"
    anew = "--new begins anew and restarts again what it has restarted"
    if other.state is RunState.RUNNING:
        return LeaseError(
            f"{what}. `orchestrator status {other.run_id}` shows how far it is; {anew}"
        )
    return UsageError(f"{what}. `orchestrator resume {other.run_id}` goes on with it, {anew}")


def restarted_after(events: Iterable[Event], at: float) -> set[int]:
    """Return the targets that were seen to end well after `at`, and stayed so."""
    found: set[int] = set()
    for event in events:
        match event:
            case TargetEnded(outcome=Outcome.RESTARTED) if event.at > at:
                found.add(event.target)
            case TargetRelapsed():
                found.discard(event.target)
            case _:
                pass
    return found


MOMENTS = (
    RunnerStarted.kind,
    RestartRequested.kind,
    RestartSettling.kind,
    RestartUnsettled.kind,
    TargetEnded.kind,
)
"""The kinds of events that `spans_of` has a use for."""


def spans_of(moments: Iterable[Moment]) -> Iterator[tuple[int, float, float]]:
    """Yield each target that ended as restarted, with its seconds until ready and until its end.

    Restarts that were under way while the runner changed are left out: nobody saw when they ended.
    """
    asked: dict[int, float] = {}
    ready: dict[int, float] = {}
    for kind, at, target, outcome in moments:
        if target is None:
            asked.clear()
        elif kind == RestartRequested.kind:
            asked[target] = at
            ready.pop(target, None)
        elif kind == RestartSettling.kind:
            ready[target] = at
        elif kind == RestartUnsettled.kind:
            ready.pop(target, None)
        else:
            since = asked.pop(target, None)
            if since is not None and outcome == Outcome.RESTARTED:
                yield target, ready.get(target, at) - since, at - since


def run_id_at(wall: float, letters: str) -> str:
    """Return the id of a run of that day."""
    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%d}-{letters}"


# ---------------------------------------------------------------------------------------- errors


def no_such_run(run_id: str, newest_first: Sequence[str]) -> JournalError:
    """Return the error for an id that no run has; names the nearest, else the newest."""
    if not newest_first:
        return JournalError(f"no run {run_id!r}: the journal has no runs yet")
    nearest = difflib.get_close_matches(run_id, newest_first, n=3, cutoff=0.7)
    if nearest:
        return JournalError(f"no run {run_id!r}; the nearest: {', '.join(nearest)}")
    return JournalError(f"no run {run_id!r}; the newest: {', '.join(newest_first[:3])}")


def run_exists(run_id: str) -> JournalError:
    """Return the error for a second run of the same id."""
    return JournalError(f"there is a run {run_id!r} already; take a new id, or resume that run")


def cluster_is_taken(wanted: Start, by: Start) -> JournalError:
    """Return the error for a start on a cluster that has a live one already."""
    return JournalError(
        f"{wanted.project_id}/{wanted.cluster_id} cannot be started by run {wanted.run_id}: "
        f"attempt {by.attempt} of run {by.run_id} on it has not ended; nothing was written"
    )


def start_exists(wanted: Start) -> JournalError:
    """Return the error for an attempt that was recorded before: asking again must never happen."""
    return JournalError(
        f"attempt {wanted.attempt} of run {wanted.run_id} on "
        f"{wanted.project_id}/{wanted.cluster_id} is in the journal already; nothing was written"
    )
