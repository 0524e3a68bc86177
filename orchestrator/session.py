"""Put the parts together for a run: journal, service, engine, watchers, report.

This is the one place that knows both sides of the engine's protocols.
"""

import asyncio
import getpass
import math
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

from orchestrator.campaign import Campaign
from orchestrator.config import Settings
from orchestrator.css import CssClient, NoCredentials, credentials_from_environment
from orchestrator.engine import Clock, Cloud, Ending, Engine, Runner, Watcher
from orchestrator.errors import ExitCode, JournalError, UsageError
from orchestrator.fleet import Fleet
from orchestrator.journal import RunRecord, RunSummary, Store, open_store
from orchestrator.limits import Rate
from orchestrator.model import Event, Outcome, Target
from orchestrator.plan import Plan
from orchestrator.preflight import prepare
from orchestrator.report import ReportFold, RunFacts, default_report_name, write_report
from orchestrator.simulator import Scenario, Service, TraceFile, load_scenario
from orchestrator.simulator.server import serve

REAL = ""
"""The world of real clusters in the journal: all their runs share one ledger."""

TOOL_VERSION = version("fleet-restart-orchestrator")

_SHARE_EVERY = 0.25
"""Seconds between two looks at what other runs did, while targets wait for a limit."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """A run against the built-in simulator instead of the service.

    Its starts are kept apart from real ones in the journal: they use up nobody's rate.
    """

    scenario: Scenario = Scenario()
    seed: int = 0
    trace: Path | None = None

    @classmethod
    def load(cls, scenario: Path | None, *, seed: int, trace: Path | None = None) -> "Simulation":
        """Read the scenario from a file; without one everything goes well.

        Raises:
            ConfigError: mistakes in the scenario.
        """
        loaded = Scenario() if scenario is None else load_scenario(scenario)
        return cls(scenario=loaded, seed=seed, trace=trace)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended, for whoever started it."""

    run_id: str
    outcome: str
    exit_code: ExitCode
    stop_reason: str | None
    counts: Mapping[Outcome, int]
    report: str
    """Where the report was written; `-` is standard output."""


async def restart_fleet(
    fleet: Fleet,
    settings: Settings,
    *,
    simulation: Simulation | None = None,
    watchers: Sequence[Watcher] = (),
    environ: Mapping[str, str] | None = None,
) -> Result:
    """Restart a fleet within the limits of the settings, follow every cluster, write the report.

    Args:
        fleet: the targets, as `read_fleet` gives them.
        settings: limits, waves and how to judge, as `load_settings` gives them.
        simulation: restart the clusters of a simulator instead.
        watchers: who is told of every event.
        environ: where credentials are looked for; the process's environment if not given.

    Raises:
        UsageError: the fleet or the settings do not make a plan; nothing was sent.
        JournalError: the journal cannot be opened or written; nothing was sent.
    """
    plan = prepare(fleet, settings)
    return await run_plan(
        plan, settings, simulation=simulation, watchers=watchers, environ=environ
    )


async def run_plan(
    plan: Plan,
    settings: Settings,
    *,
    simulation: Simulation | None = None,
    watchers: Sequence[Watcher] = (),
    environ: Mapping[str, str] | None = None,
    stdout: TextIO | None = None,
) -> Result:
    """Run a plan from its beginning; see `restart_fleet`."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(_path_of(settings)))
        cloud = await stack.enter_async_context(
            _open_cloud(
                plan, settings, simulation, os.environ if environ is None else environ, store.clock
            )
        )
        run_id = await store.new_run_id()
        record = RunRecord(
            run_id=run_id,
            plan=plan,
            operator=settings.operator or _whoami(),
            change=settings.change,
            created_at=store.clock.now(),
            world=REAL if simulation is None else run_id,
            tool_version=TOOL_VERSION,
            settings={},
        )
        await store.create_run(record)
        return await _carry_out(store, record, cloud, settings, watchers, stdout or sys.stdout)


async def _carry_out(
    store: Store,
    record: RunRecord,
    cloud: Cloud,
    settings: Settings,
    watchers: Sequence[Watcher],
    stdout: TextIO,
) -> Result:
    campaign = Campaign(record.run_id, record.plan)
    journal = await store.journal(record.run_id, horizon=_horizon(record.plan))
    engine = Engine(
        campaign=campaign,
        cloud=cloud,
        journal=journal,
        clock=store.clock,
        runner=Runner(
            owner=record.operator, host=socket.gethostname(), pid=os.getpid(), version=TOOL_VERSION
        ),
        watchers=watchers,
        beat=0.25 if watchers else math.inf,
        share_every=_SHARE_EVERY if record.world == REAL else math.inf,
    )
    try:
        with _signals_to(engine):
            ending = await engine.run()
    finally:
        await journal.close()
    path = settings.report or default_report_name(record.run_id)
    await write_report_of(store, record, path, stdout=stdout, unwritten=ending.unwritten)
    return _result(record.run_id, campaign, ending, path)


def _result(run_id: str, campaign: Campaign, ending: Ending, path: str) -> Result:
    return Result(
        run_id=run_id,
        outcome=ending.outcome,
        exit_code=ending.exit_code,
        stop_reason=campaign.stopping.reason if campaign.stopping else None,
        counts=campaign.counts(),
        report=path,
    )


async def list_runs(settings: Settings) -> list[RunSummary]:
    """Return all runs of the journal, newest first.

    Raises:
        JournalError: it cannot be read.
    """
    async with open_store(_path_of(settings), create=False) as store:
        return await store.runs()


async def report_run(settings: Settings, run_id: str | None, path: str, *, stdout: TextIO) -> None:
    """Write the report of a run, or of the newest, from the journal.

    Raises:
        JournalError: there is no such run, or no journal.
        OrchestratorError: the report cannot be written there.
    """
    async with open_store(_path_of(settings), create=False) as store:
        record = await store.load_run(run_id or await _newest(store))
        await write_report_of(store, record, path, stdout=stdout)


async def _newest(store: Store) -> str:
    runs = await store.runs()
    if not runs:
        raise JournalError("looking for the newest run: the journal has no runs yet")
    return runs[0].run_id


async def write_report_of(
    store: Store,
    record: RunRecord,
    path: str,
    *,
    stdout: TextIO,
    unwritten: Sequence[Event] = (),
) -> None:
    """Write the report of a run from its journal.

    Args:
        store: the journal.
        record: the run.
        path: where to; `-` is standard output.
        stdout: what standard output is.
        unwritten: events that the journal could not take any more.

    Raises:
        OrchestratorError: it cannot be written there.
    """
    fold = ReportFold(record.plan)
    try:
        async for batch in store.events(record.run_id):
            for event in batch:
                fold.take(event)
    except JournalError:
        # A journal that is gone must not take the report with it, if there is anything to say.
        if not unwritten:
            raise
    for event in unwritten:
        fold.take(event)
    facts = RunFacts(
        run_id=record.run_id,
        operator=record.operator,
        change=record.change,
        tool_version=record.tool_version,
    )
    write_report(fold, facts, path, stdout=stdout)


@asynccontextmanager
async def _open_cloud(
    plan: Plan,
    settings: Settings,
    simulation: Simulation | None,
    environ: Mapping[str, str],
    clock: Clock,
) -> AsyncIterator[Cloud]:
    async with AsyncExitStack() as stack:
        if simulation is None:
            first = plan.targets[0]
            endpoint_for = settings.cloud.endpoint_for
            endpoint = endpoint_for(first.project_id, first.region)
            credentials = credentials_from_environment(environ, endpoint)
        else:
            url = await stack.enter_async_context(serve_simulator(plan.targets, simulation))

            def endpoint_for(_project_id: str, _region: str | None) -> str:
                return url

            credentials = NoCredentials()
        client = CssClient(
            endpoint_for,
            credentials,
            clock.now,
            request_timeout=settings.cloud.request_timeout,
            connections=settings.cloud.connections,
            ca_file=settings.cloud.ca_file,
        )
        yield await stack.enter_async_context(client)


@asynccontextmanager
async def serve_simulator(
    targets: Sequence[Target], simulation: Simulation, *, port: int = 0
) -> AsyncIterator[str]:
    """Serve the simulator with these clusters on loopback; the value is its URL.

    Raises:
        OSError: the port or the trace's file cannot be had.
    """
    with ExitStack() as stack:
        trace = None
        if simulation.trace is not None:
            trace = stack.enter_context(TraceFile(simulation.trace))
        service = Service(targets, simulation.scenario, simulation.seed)
        async with serve(service, port=port, trace=trace) as server:
            yield server.url


@contextmanager
def _signals_to(engine: Engine) -> Iterator[None]:
    """Let the signals that mean "stop" interrupt the engine instead of the process.

    Not a task that receives them: the engine has the only task group, and a signal needs no task.
    """
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, engine.interrupt, number.name)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def _path_of(settings: Settings) -> Path:
    path = settings.journal.path
    if path is None:
        raise UsageError(
            "opening the journal: PostgreSQL is not supported by this version; "
            "give a file with --journal"
        )
    return path


def _horizon(plan: Plan) -> float:
    return max((limit.per for limit in plan.policy.limits if isinstance(limit, Rate)), default=0.0)


def _whoami() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # no entry for this user id, as in some containers
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"
