"""What can be asked of a journal: which runs there are, what one did, and whether promises held."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TextIO

from orchestrator.campaign import Campaign
from orchestrator.config import Settings
from orchestrator.errors import JournalError, UsageError
from orchestrator.experience import Durations, learn
from orchestrator.journal import RunRecord, RunState, RunSummary, Store, open_store
from orchestrator.model import Event, Outcome, TargetResolved
from orchestrator.plan import Plan
from orchestrator.ranking import Order
from orchestrator.report import ReportFold, RunFacts, write_report
from orchestrator.verify import Findings, verify

REAL = ""
"""The world of real clusters in the journal: all their runs share one ledger."""

RESOLVABLE = (Outcome.RESTARTED, Outcome.FAILED, Outcome.NOT_STARTED)
"""What a person can say of a target whose outcome is unknown."""


@asynccontextmanager
async def open_journal(
    settings: Settings, *, create: bool = False, read_only: bool = False
) -> AsyncIterator[Store]:
    """Open the journal that the settings name.

    Args:
        settings: name it.
        create: make it if there is none.
        read_only: never write to it, nor wait for those who do.

    Raises:
        UsageError: it is of a kind that is not supported.
        JournalError: it cannot be opened, or does not exist and must not be created.
    """
    path = settings.journal.path
    if path is None:
        raise UsageError(
            "opening the journal: PostgreSQL is not supported by this version; "
            "give a file with --journal"
        )
    async with open_store(path, create=create, read_only=read_only) as store:
        yield store


async def list_runs(settings: Settings) -> list[RunSummary]:
    """Return all runs of the journal, newest first.

    Raises:
        JournalError: it cannot be read.
    """
    async with open_journal(settings) as store:
        return await store.runs()


async def report_run(settings: Settings, run_id: str | None, path: str, *, stdout: TextIO) -> None:
    """Write the report of a run, or of the newest, from the journal; `-` is standard output.

    Raises:
        JournalError: there is no such run, or no journal.
        OrchestratorError: the report cannot be written there.
    """
    async with open_journal(settings) as store:
        record = await store.load_run(run_id or await _newest(store))
        fold = ReportFold(record.plan)
        for event in await events_of(store, record.run_id):
            fold.take(event)
        write_report(fold, facts_of(record), path, stdout=stdout)


async def verify_run(settings: Settings, run_id: str | None) -> Findings:
    """Recompute from the journal whether a run, or the newest, kept what was promised.

    Raises:
        JournalError: there is no such run, or no journal.
    """
    async with open_journal(settings) as store:
        record = await store.load_run(run_id or await _newest(store))
        events = await events_of(store, record.run_id)
        starts = await store.starts(record.world)
        return verify(record.run_id, record.plan, events, starts)


async def resolve_target(
    settings: Settings, run_id: str, target: str, outcome: Outcome, *, by: str, reason: str | None
) -> None:
    """Settle a target whose outcome is unknown by what a person knows; its slot is free then.

    Args:
        settings: where the journal is.
        run_id: the run.
        target: `project/cluster`.
        outcome: one of `RESOLVABLE`.
        by: who says so.
        reason: why, for the report.

    Raises:
        UsageError: the run has no such target, or its outcome is not unknown.
        LeaseError: a runner works on the run; it has to end or be stopped first.
        JournalError: there is no such run, or it cannot be written.
    """
    async with open_journal(settings) as store:
        record = await store.load_run(run_id)
        position = _position_of(record, target)
        journal = await store.journal(run_id, horizon=0.0, owner=by)
        try:
            campaign = Campaign(run_id, record.plan, await events_of(store, run_id))
            found = campaign.outcomes.get(position, Outcome.NOT_STARTED)
            if found is not Outcome.UNKNOWN:
                raise UsageError(
                    f"resolving {target} of run {run_id}: its outcome is {found}, not unknown; "
                    "only what nobody knows can be resolved"
                )
            resolved = TargetResolved(
                at=store.clock.now(), target=position, outcome=outcome, by=by, reason=reason
            )
            await journal.write(lambda _starts: [resolved])
        finally:
            await journal.close()


async def find_unfinished(settings: Settings, plan: Plan) -> RunSummary | None:
    """Return the newest real run of the same plan that is not finished, if there is one.

    Raises:
        JournalError: there is a journal, but it cannot be read.
    """
    if settings.journal.path is None or not settings.journal.path.exists():
        return None
    async with open_journal(settings) as store:
        runs = await store.runs(REAL)
        return next(
            (
                run
                for run in runs
                if run.plan_id == plan.plan_id and run.state is not RunState.FINISHED
            ),
            None,
        )


async def durations_of(store: Store, world: str = REAL) -> Mapping[str, Durations]:
    """Return how long restarts lasted by kind, as kinds are printed, and those of each cluster."""
    return learn(await store.lasted(world))


async def known_durations(settings: Settings) -> Mapping[str, Durations]:
    """Return how long real restarts lasted; nothing is known where there is no journal yet.

    Whoever plans or rehearses writes nothing, and waits for nobody who does.

    Raises:
        JournalError: there is a journal, but it cannot be read.
    """
    path = settings.journal.path
    if path is not None and not (path.exists() and path.stat().st_size):
        return {}
    async with open_journal(settings, read_only=True) as store:
        return await durations_of(store)


async def known_for_order(settings: Settings) -> Mapping[str, Durations]:
    """Return what the order of the settings has to know: nothing, unless it goes by durations.

    Raises:
        JournalError: there is a journal that is needed, but it cannot be read.
    """
    return await known_durations(settings) if settings.waves.order is Order.SPREAD else {}


async def events_of(store: Store, run_id: str) -> list[Event]:
    """Return the whole history of a run."""
    return [event async for batch in store.events(run_id) for event in batch]


def facts_of(record: RunRecord) -> RunFacts:
    """Return what the report says of the run itself."""
    return RunFacts(
        run_id=record.run_id,
        operator=record.operator,
        change=record.change,
        tool_version=record.tool_version,
    )


async def newest_unfinished(store: Store) -> str:
    """Return the id of the only run that is not finished.

    Raises:
        UsageError: there is none, or more than one; names them.
    """
    runs = [run for run in await store.runs() if run.state is not RunState.FINISHED]
    if len(runs) == 1:
        return runs[0].run_id
    if not runs:
        raise UsageError("looking for the run to go on with: every run of the journal is finished")
    named = ", ".join(f"{run.run_id} ({run.state})" for run in runs[:5])
    raise UsageError(f"looking for the run to go on with: there are {len(runs)}, {named}; name one")


async def _newest(store: Store) -> str:
    runs = await store.runs()
    if not runs:
        raise JournalError("looking for the newest run: the journal has no runs yet")
    return runs[0].run_id


def _position_of(record: RunRecord, target: str) -> int:
    for position, planned in enumerate(record.plan.targets):
        if str(planned) == target:
            return position
    raise UsageError(
        f"resolving {target}: run {record.run_id} has no such target; "
        "write it as its report does: PROJECT/CLUSTER"
    )
