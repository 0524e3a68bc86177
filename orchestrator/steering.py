"""Orders to a run that somebody else's process works on: who may be asked, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import anyio

from orchestrator.config import Settings
from orchestrator.errors import UnavailableError, UsageError
from orchestrator.history import open_journal
from orchestrator.journal import RunRecord, RunState, RunSummary, Store
from orchestrator.journal.store import is_live
from orchestrator.model import Event, OrderRefused
from orchestrator.orders import NewLimits, Order, OrderKind, Standing, order_of

PATIENCE = 5.0
"""Seconds that whoever gives an order waits for the runner to take it."""

_ASK_EVERY = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came of an order."""

    order: Order
    events: Sequence[Event]
    """What the run made of it; empty if its runner has not taken it yet."""
    running: int
    """How many restarts of the run are under way."""
    is_over: bool
    """Whether nobody works on the run any more."""


async def give_order(
    settings: Settings,
    run_id: str | None,
    kind: OrderKind,
    *,
    by: str,
    reason: str | None = None,
    wanted: NewLimits | None = None,
    patience: float = PATIENCE,
) -> tuple[str, Reply]:
    """Ask something of a live run, and wait a little for its runner to take it.

    Args:
        settings: where the journal is.
        run_id: the run; None means the only one that is live.
        kind: what is asked.
        by: who asks.
        reason: why, for the history.
        wanted: the new limits, for `limit`.
        patience: seconds to wait.

    Returns:
        the run, and what came of the order.

    Raises:
        UsageError: the run cannot do that as it stands, or it is not clear which run is meant.
        UnavailableError: nobody works on the run.
        JournalError: there is no such run, or the journal cannot be written.
    """
    async with open_journal(settings) as store:
        run = await _live_run(store, run_id, kind)
        record = await store.load_run(run.run_id)
        draft = Order(at=store.clock.now(), by=by, kind=kind, reason=reason, wanted=wanted)
        _refuse_in_vain(await _standing(store, record), draft, record)
        order = await store.give(run.run_id, draft)
        return run.run_id, await _reply(store, record, order, patience)


async def continue_if_paused(
    settings: Settings,
    run_id: str | None,
    *,
    by: str,
    reason: str | None = None,
    wanted: NewLimits = NewLimits(),  # noqa: B008 - a value
    takes_up: bool = False,
    patience: float = PATIENCE,
) -> tuple[str, Sequence[Reply]] | None:
    """Let a run go on that is paused and whose runner is alive.

    Args:
        settings: where the journal is.
        run_id: the run; None means the only one that is not finished.
        by: who lets it go on.
        reason: why, for the history.
        wanted: limits and window from here on, where they change.
        takes_up: whether outcomes are to be taken up again, which only a run without a runner can.
        patience: seconds to wait for the runner to take each order.

    Returns:
        the run, and what came of each order; None if nobody works on the run.

    Raises:
        UsageError: the limits would be wider and that is not meant, or outcomes are to be taken up.
        UnavailableError: the run goes on already, or is stopping.
        JournalError: the journal cannot be read or written.
    """
    async with open_journal(settings) as store:
        unfinished = [run for run in await store.runs() if run.state is not RunState.FINISHED]
        chosen = [run for run in unfinished if run_id in {None, run.run_id}]
        if len(chosen) != 1 or chosen[0].state is not RunState.RUNNING:
            return None
        run = chosen[0]
        record = await store.load_run(run.run_id)
        standing = await _standing(store, record)
        objection = None
        if not wanted.is_empty:
            objection = standing.objection_to(wanted, run.targets, store.clock.now())
    _refuse_to_resume(run, standing, objection, takes_up=takes_up)
    give = partial(give_order, settings, run.run_id, by=by, reason=reason, patience=patience)
    replies = []
    if not wanted.is_empty:
        # First, so that nothing starts under the limits of before.
        _, reply = await give(OrderKind.LIMIT, wanted=wanted)
        _refuse_without_limits(run.run_id, reply)
        replies.append(reply)
    _, reply = await give(OrderKind.CONTINUE)
    return run.run_id, [*replies, reply]


def _refuse_without_limits(run_id: str, reply: Reply) -> None:
    """Refuse to let a run go on that has not taken the limits which it was to go on with."""
    for event in reply.events:
        if isinstance(event, OrderRefused):
            raise UsageError(f"resuming run {run_id}: {event.reason}; it stays paused")
    if not reply.events:
        raise UnavailableError(
            f"resuming run {run_id}: its limits are recorded as order {reply.order.number}, and "
            "its runner has not taken it yet; it stays paused: resume it again when it has"
        )


def _refuse_to_resume(
    run: RunSummary, standing: Standing, objection: str | None, *, takes_up: bool
) -> None:
    """Refuse to let a live run go on that is not held, or not as it is asked for."""
    what = f"resuming run {run.run_id}"
    if standing.stopping is not None:
        raise UnavailableError(
            f"{what}: it is stopping ({standing.stopping.reason}), and {run.owner} still follows "
            f"what runs; resume it once that has ended, `orchestrator status {run.run_id}` shows it"
        )
    if standing.paused is None:
        raise UnavailableError(
            f"{what}: it is not paused, and goes on already: {run.owner} works on it; "
            f"`orchestrator status {run.run_id}` shows it, `orchestrator limit {run.run_id}` "
            "changes its limits"
        )
    if takes_up:
        raise UsageError(
            f"{what}: it is live and only paused; without --only it goes on, and what has ended "
            "can be taken up again once the run is over"
        )
    if objection is not None:
        raise UsageError(f"{what}: {objection}")


async def _standing(store: Store, record: RunRecord) -> Standing:
    """Return how a run stands once its runner has taken all that was asked of it so far."""
    standing = Standing.after(record.plan.policy, await store.run_events(record.run_id))
    pending = await store.orders(record.run_id, standing.last_order)
    standing.obey_all(pending, len(record.plan.targets), store.clock.now())
    return standing


def _refuse_in_vain(standing: Standing, draft: Order, record: RunRecord) -> None:
    for event in standing.obey(draft, len(record.plan.targets), draft.at):
        if isinstance(event, OrderRefused):
            raise UsageError(f"{draft.kind.verb} of run {record.run_id}: {event.reason}")


async def _reply(store: Store, record: RunRecord, order: Order, patience: float) -> Reply:
    events: list[Event] = []
    with anyio.move_on_after(patience):
        while not events:
            await anyio.sleep(_ASK_EVERY)
            told = await store.run_events(record.run_id)
            events = [event for event in told if order_of(event) == order.number]
    starts = await store.starts(record.world)
    state = next(run.state for run in await store.runs() if run.run_id == record.run_id)
    return Reply(
        order=order,
        events=events,
        running=sum(start.run_id == record.run_id and is_live(start) for start in starts),
        is_over=state is not RunState.RUNNING,
    )


async def _live_run(store: Store, run_id: str | None, kind: OrderKind) -> RunSummary:
    """Return the run that is meant, if somebody works on it."""
    runs = await store.runs()
    if run_id is None:
        return _only_live(runs, kind)
    run = next((run for run in runs if run.run_id == run_id), None)
    if run is None:
        # It says which run may have been meant.
        await store.load_run(run_id)
        raise AssertionError(run_id)
    if run.state is RunState.FINISHED:
        raise UsageError(
            f"{kind.verb} of run {run_id}: it is finished; `orchestrator report {run_id}` says how"
        )
    if run.state is not RunState.RUNNING:
        raise UnavailableError(
            f"{kind.verb} of run {run_id}: it is {run.state}, and nobody works on it; "
            f"`orchestrator resume {run_id}` goes on with it, and takes other limits, too"
        )
    return run


def _only_live(runs: Sequence[RunSummary], kind: OrderKind) -> RunSummary:
    live = [run for run in runs if run.state is RunState.RUNNING]
    if len(live) == 1:
        return live[0]
    if live:
        names = ", ".join(run.run_id for run in live[:5])
        raise UsageError(f"{kind.verb}: {len(live)} runs are live, {names}; name one")
    left = [run.run_id for run in runs if run.state is not RunState.FINISHED]
    what = f"; not finished: {', '.join(left[:5])}, see `orchestrator resume`" if left else ""
    raise UnavailableError(f"{kind.verb}: no run of this journal is live{what}")
