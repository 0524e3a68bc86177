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
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

from orchestrator.campaign import Campaign
from orchestrator.config import Settings, load_settings, user_config_file
from orchestrator.css import (
    CredentialProvider,
    CssClient,
    NoCredentials,
    credentials_from_environment,
)
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

Watch = Callable[[Campaign, Clock], AbstractContextManager[Sequence[Watcher]]]
"""Opens those who are told of a run, once there is one to tell of."""

REAL = ""
"""The world of real clusters in the journal: all their runs share one ledger."""

TOOL_VERSION = version("fleet-restart-orchestrator")

_SHARE_EVERY = 0.25
"""Seconds between two looks at what other runs did, while targets wait for a limit."""

_BEAT = 0.25
"""Seconds between two looks of the watchers at the campaign."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """A run against the built-in simulator instead of the service.

    Its starts are kept apart from real ones in the journal: they use up nobody's rate.
    """

    scenario: Scenario = field(default_factory=Scenario)
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
    fleet: Fleet | Sequence[Target],
    settings: Settings | None = None,
    *,
    simulation: Simulation | None = None,
    watch: Watch | None = None,
    environ: Mapping[str, str] | None = None,
) -> Result:
    """Restart a fleet within the limits of the settings, follow every cluster, write the report.

    Args:
        fleet: the targets, or what `read_fleet` gives.
        settings: limits, waves and how to judge, as `load_settings` gives them; if not given, those
            of the environment and the configuration file, as for the command line.
        simulation: restart the clusters of a simulator instead.
        watch: opens those who are told of every event.
        environ: where credentials are looked for; the process's environment if not given.

    Raises:
        UsageError: the fleet or the settings do not make a plan; nothing was sent.
        JournalError: the journal cannot be opened or written; nothing was sent.
    """
    if not isinstance(fleet, Fleet):
        fleet = Fleet(targets=tuple(fleet), source=(), collapsed=0)
    if settings is None:
        settings = load_settings(
            options={},
            environ=os.environ,
            config_file=None,
            cwd=Path.cwd(),
            user_config=user_config_file(),
        )
    plan = prepare(fleet, settings)
    return await run_plan(plan, settings, simulation=simulation, watch=watch, environ=environ)


async def run_plan(
    plan: Plan,
    settings: Settings,
    *,
    simulation: Simulation | None = None,
    watch: Watch | None = None,
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
        return await _carry_out(
            store, record, cloud,
            report=settings.report, watch=watch, stdout=stdout or sys.stdout,
        )  # fmt: skip


async def _carry_out(
    store: Store,
    record: RunRecord,
    cloud: Cloud,
    *,
    report: str | None,
    watch: Watch | None,
    stdout: TextIO,
) -> Result:
    campaign = Campaign(record.run_id, record.plan)
    scribe = _Scribe(record.plan)
    journal = await store.journal(record.run_id, horizon=_horizon(record.plan))
    try:
        with watch(campaign, store.clock) if watch else nullcontext(()) as watchers:
            engine = Engine(
                campaign=campaign,
                cloud=cloud,
                journal=journal,
                clock=store.clock,
                runner=Runner(
                    owner=record.operator,
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    version=TOOL_VERSION,
                ),
                watchers=[scribe, *watchers],
                beat=_BEAT if watchers else math.inf,
                share_every=_SHARE_EVERY if record.world == REAL else math.inf,
            )
            with _signals_to(engine):
                ending = await engine.run()
    finally:
        await journal.close()
    path = report or default_report_name(record.run_id)
    write_report(scribe.fold, _facts(record), path, stdout=stdout)
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


async def write_report_of(store: Store, record: RunRecord, path: str, *, stdout: TextIO) -> None:
    """Write the report of a run from its journal.

    Args:
        store: the journal.
        record: the run.
        path: where to; `-` is standard output.
        stdout: what standard output is.

    Raises:
        OrchestratorError: it cannot be written there.
    """
    fold = ReportFold(record.plan)
    async for batch in store.events(record.run_id):
        for event in batch:
            fold.take(event)
    write_report(fold, _facts(record), path, stdout=stdout)


def _facts(record: RunRecord) -> RunFacts:
    return RunFacts(
        run_id=record.run_id,
        operator=record.operator,
        change=record.change,
        tool_version=record.tool_version,
    )


class _Scribe:
    """The watcher that keeps the report: what was recorded, and what no journal would take."""

    def __init__(self, plan: Plan) -> None:
        self.fold = ReportFold(plan)

    def saw(self, event: Event) -> None:
        self.fold.take(event)

    def noticed(self, notice: str, facts: Mapping[str, object]) -> None:
        """Do nothing: a notice is no part of the report."""

    def turned(self, campaign: Campaign, now: float) -> None:
        """Do nothing: events say it all."""


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
            endpoint_for: Callable[[str, str | None], str] = settings.cloud.endpoint_for
            credentials: CredentialProvider = credentials_from_environment(
                environ, endpoint_for(first.project_id, first.region)
            )
        else:
            url = await stack.enter_async_context(serve_simulator(plan.targets, simulation))
            endpoint_for = partial(_always, url)
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


def _always(url: str, _project_id: str, _region: str | None) -> str:
    return url


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
