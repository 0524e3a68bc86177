"""Put the parts together for a run: journal, service, engine, watchers, report.

This is the one place that knows both sides of the engine's protocols.
"""

import asyncio
import gc
import math
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
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
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

from orchestrator.access import open_access
from orchestrator.campaign import Campaign
from orchestrator.config import CloudSettings, Settings, load_settings, user_config_file
from orchestrator.css import CssClient, Prompt
from orchestrator.engine import Clock, Cloud, Ending, Engine, Runner, Watcher
from orchestrator.errors import ExitCode, LeaseError, OrchestratorError, UsageError
from orchestrator.experience import expected_seconds
from orchestrator.fleet import Fleet
from orchestrator.gate import CommandGate
from orchestrator.history import (
    REAL,
    durations_of,
    events_of,
    facts_of,
    known_for_order,
    newest_unfinished,
    open_journal,
)
from orchestrator.journal import LEASE_TTL, RunRecord, RunState, Store
from orchestrator.limits import Start
from orchestrator.looks import FRESH_FOR
from orchestrator.model import (
    Event,
    LimitsChanged,
    Outcome,
    RunContinued,
    RunFinished,
    RunResumed,
    Target,
    TargetResolved,
)
from orchestrator.orders import NewLimits, Order, Standing
from orchestrator.output import why_unwritable
from orchestrator.plan import Plan, Policy, changed_policy, with_targets
from orchestrator.preflight import check_endpoints, prepare
from orchestrator.report import STANDARD_OUTPUT, ReportFold, default_report_name, write_report
from orchestrator.simulator import Scenario, Service, TraceFile, load_scenario
from orchestrator.simulator.auth import Mode
from orchestrator.simulator.server import serve
from orchestrator.span import format_span
from orchestrator.survey import Sight, Survey, fitted, survey_fleet
from orchestrator.whoami import whoami

Watch = Callable[[Campaign, Clock], AbstractContextManager[Sequence[Watcher]]]
"""Opens those who are told of a run, once there is one to tell of."""

Agree = Callable[[Plan, Survey], Awaitable[None]]
"""Agrees to a plan whose clusters were found like this, or raises a `UsageError`."""


@runtime_checkable
class Asker(Protocol):
    """A watcher that asks somebody at the run's terminal whether a paused run may go on."""

    def answer_with(self, go_on: Callable[[], None]) -> None:
        """Have `go_on` called when the word is given."""


TOOL_VERSION = version("fleet-restart-orchestrator")

_SHARE_EVERY = 0.25
"""Seconds between two looks at what other runs did, while targets wait for a limit."""

_HEAR_EVERY = 0.5
"""Seconds between two looks at what other terminals ask of the run."""

_BEAT = 0.25
"""Seconds between two looks of the watchers at the campaign."""

_STOPS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """A run against the built-in simulator instead of the service.

    Its starts are kept apart from real ones in the journal: they use up nobody's rate.
    """

    scenario: Scenario = field(default_factory=Scenario)
    source: Path | None = None
    """Where the scenario was read from, for `resume`."""
    seed: int = 0
    trace: Path | None = None

    @classmethod
    def load(cls, scenario: Path | None, *, seed: int, trace: Path | None = None) -> "Simulation":
        """Read the scenario from a file; without one everything goes well.

        Raises:
            ConfigError: mistakes in the scenario.
        """
        loaded = Scenario() if scenario is None else load_scenario(scenario)
        source = None if scenario is None else scenario.absolute()
        return cls(scenario=loaded, source=source, seed=seed, trace=trace)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended, for whoever started it."""

    run_id: str
    outcome: str
    exit_code: ExitCode
    stop_reason: str | None
    counts: Mapping[Outcome, int]
    report: str
    """Where the report was written; `-` is standard output. Empty if it was not."""
    report_error: OrchestratorError | None = None
    """Why it could not be written; a run in which all went well has exit code 1 then."""


async def restart_fleet(
    fleet: Fleet | Sequence[Target],
    settings: Settings | None = None,
    *,
    simulation: Simulation | None = None,
    watch: Watch | None = None,
    environ: Mapping[str, str] | None = None,
    prompt: Prompt | None = None,
    new: bool = False,
) -> Result:
    """Restart a fleet within the limits of the settings, follow every cluster, write the report.

    Args:
        fleet: the targets, or what `read_fleet` gives.
        settings: limits, waves and how to judge, as `load_settings` gives them; if not given, those
            of the environment and the configuration file, as for the command line.
        simulation: restart the clusters of a simulator instead.
        watch: opens those who are told of every event.
        environ: where credentials are looked for; the process's environment if not given.
        prompt: asks a person for a passcode, before the run begins.
        new: begin a run even if one of the same plan is not finished.

    Raises:
        UsageError: the fleet or the settings do not make a plan, or a run of the same plan is not
            finished; nothing was sent.
        LeaseError: somebody works on a run of the same plan; nothing was sent.
        JournalError: the journal cannot be opened, read or written; nothing was sent.
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
    plan = prepare(fleet, settings, known=await known_for_order(settings))
    if simulation is None:
        check_endpoints(plan.targets, settings)
    return await run_plan(
        plan, settings, simulation=simulation, watch=watch, environ=environ, prompt=prompt, new=new
    )


async def run_plan(
    plan: Plan,
    settings: Settings,
    *,
    simulation: Simulation | None = None,
    watch: Watch | None = None,
    environ: Mapping[str, str] | None = None,
    prompt: Prompt | None = None,
    new: bool = False,
    since: float | None = None,
    agree: Agree | None = None,
) -> Result:
    """Look at every cluster of a plan, and run it from its beginning; see `restart_fleet`.

    Args:
        plan: what to do.
        settings: where the service and the journal are.
        simulation: restart the clusters of a simulator instead.
        watch: opens those who are told of every event.
        environ: where credentials are looked for; the process's environment if not given.
        prompt: asks a person for a passcode, before the run begins.
        new: begin a run even if one of the same plan is not finished.
        since: skip what the journal knows as restarted after this moment of the wall clock.
        agree: is told how the clusters were found, and has to agree before anything is restarted.

    Raises:
        UsageError: a run of the same plan is not finished, or nobody agreed; nothing was sent.
        LeaseError: somebody works on a run of the same plan; nothing was sent.
        UnfitError: kinds of restart do not fit their clusters; nothing was restarted.
        JournalError: the journal cannot be opened or written; nothing was sent.
    """
    _check_report_place(settings)
    async with AsyncExitStack() as stack:
        stack.enter_context(_calm_collector())
        store = await stack.enter_async_context(open_journal(settings, create=True))
        service = await stack.enter_async_context(
            _open_service(
                plan, settings, store.clock, simulation=simulation, environ=environ, prompt=prompt
            )
        )
        plan, found = await _look_over(plan, service.cloud, store.clock, agree)
        run_id = await store.new_run_id()
        record = RunRecord(
            run_id=run_id,
            plan=plan,
            operator=settings.operator or whoami(),
            change=settings.change,
            created_at=store.clock.now(),
            world=REAL if simulation is None else run_id,
            tool_version=TOOL_VERSION,
            settings=_kept(settings, simulation, service.accounts),
        )
        await store.create_run(record, alone=not new)
        skips = await _restarted_since(store, record, since)
        return await carry_out(
            store, record, service.cloud, settings,
            watch=watch, skips=skips, accounts=service.accounts, found=found,
        )  # fmt: skip


async def resume_run(
    run_id: str | None,
    settings_with: Callable[[Mapping[str, object]], Settings],
    *,
    again: frozenset[Outcome] = frozenset(),
    wanted: NewLimits = NewLimits(),  # noqa: B008 - a value
    reason: str | None = None,
    watch: Callable[[Settings], Watch] | None = None,
    environ: Mapping[str, str] | None = None,
    prompt: Prompt | None = None,
) -> Result:
    """Go on with a run that was stopped, or whose runner died.

    Args:
        run_id: the run; None means the only one that is not finished.
        settings_with: loads settings on top of those that the run was started with.
        again: outcomes that are taken up once more, besides what was never started.
        wanted: limits and window from here on, where they change.
        reason: why a paused run goes on, or limits change, for the history.
        watch: opens those who are told of every event.
        environ: where credentials are looked for; the process's environment if not given.
        prompt: asks a person for a passcode, before the run begins.

    Raises:
        UsageError: there is nothing to go on with, or a limit would be wider and that is not meant.
        LeaseError: another runner works on the run.
        JournalError: there is no such run, or the journal cannot be written.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(_calm_collector())
        store = await stack.enter_async_context(open_journal(settings_with({})))
        record = await store.load_run(run_id or await newest_unfinished(store))
        settings = settings_with(_options_of(record))
        _check_report_place(settings)
        simulation = _simulation_of(record)
        service = await stack.enter_async_context(
            _open_service(
                record.plan,
                settings,
                store.clock,
                simulation=simulation,
                environ=environ,
                prompt=prompt,
            )
        )
        by = settings.operator or whoami()

        def opening(
            history: Sequence[Event], pending: Sequence[Order], now: float
        ) -> Sequence[Event]:
            standing = Standing.after(record.plan.policy, history)
            standing.wall_offset = store.clock.wall_offset
            # Orders that the last runner did not live to take are obeyed first: none is forgotten,
            # and whoever resumes has the last word, as over an order that was taken.
            obeyed = standing.obey_all(pending, len(record.plan.targets), now)
            opening = _opening(
                record, history, standing, wanted, again, by=by, reason=reason, now=now
            )
            return [*obeyed, *opening]

        return await carry_out(
            store, record, service.cloud, settings,
            watch=watch(settings) if watch else None, opening=opening, owner=by,
            accounts=service.accounts,
        )  # fmt: skip


async def _look_over(
    plan: Plan, cloud: CssClient, clock: Clock, agree: Agree | None
) -> tuple[Plan, Mapping[str, Sight]]:
    """Return the plan with kinds that fit, once somebody agreed to it, and how its clusters look.

    Raises:
        UsageError: nobody agreed, or kinds do not fit.
    """
    survey = await survey_fleet(plan.targets, cloud, clock.now)
    plan = with_targets(plan, fitted(plan.targets, survey))
    if agree is not None:
        await agree(plan, survey)
    return plan, survey.sights()


def _show_to(campaign: Campaign, found: Mapping[str, Sight], now: float) -> None:
    """Let what was just found serve as the first looks, while it is fresh."""
    for project_id, sight in found.items():
        if now <= sight.began_at + FRESH_FOR:
            campaign.observe(project_id, sight.states, sight.began_at, now)


_Opening = Callable[[Sequence[Event], Sequence[Order], float], Sequence[Event]]
"""From the history, and the orders that no runner took, make what has to be recorded first."""


async def carry_out(
    store: Store,
    record: RunRecord,
    cloud: Cloud,
    settings: Settings,
    *,
    watch: Watch | None = None,
    opening: _Opening = lambda _history, _pending, _now: (),
    skips: Mapping[int, str] = MappingProxyType({}),
    owner: str | None = None,
    accounts: Mapping[str, str] = MappingProxyType({}),
    found: Mapping[str, Sight] = MappingProxyType({}),
) -> Result:
    """Take the run's lease, replay its history, run it to its end, and write its report."""
    plan, owner = record.plan, owner or record.operator
    journal = await store.journal(
        record.run_id, horizon=settings.policy.longest_interval, owner=owner
    )
    try:
        # Only with the lease nobody else can add to the history while it is read.
        history = await events_of(store, record.run_id)
        others: list[Start] = []
        standing = Standing.after(plan.policy, history)
        pending = await journal.orders(standing.last_order)
        first = opening(history, pending, store.clock.now())
        await journal.count_anew(_horizon(plan.policy, [*history, *first]))

        def begin(starts: Sequence[Start]) -> Sequence[Event]:
            others.extend(starts)
            return first

        await journal.write(begin)
        history.extend(first)
        known = await durations_of(store, record.world)
        campaign = Campaign(
            record.run_id,
            plan,
            history,
            accounts=accounts,
            durations={kind: durations.whole for kind, durations in known.items()},
            expected=expected_seconds(plan.targets, known, plan.policy.expected_duration),
        )
        campaign.take_note_of(others, store.clock.now())
        _show_to(campaign, found, store.clock.now())
        scribe = _Scribe(plan, history)
        with watch(campaign, store.clock) if watch else nullcontext(()) as watchers:
            held = await _held_by_the_dead(store, record)
            for event in first:
                for watcher in watchers:
                    watcher.saw(event)
            for notice, facts in (*_slots_held(held), *_credentials_changed(record, accounts)):
                for watcher in watchers:
                    watcher.noticed(notice, facts)
            engine = Engine(
                campaign=campaign,
                cloud=cloud,
                journal=journal,
                clock=store.clock,
                runner=Runner(
                    owner=owner, host=socket.gethostname(), pid=os.getpid(), version=TOOL_VERSION
                ),
                watchers=[scribe, *watchers],
                beat=_BEAT if watchers else math.inf,
                share_every=_SHARE_EVERY if record.world == REAL else math.inf,
                renew_every=LEASE_TTL / 3,
                hear_every=_HEAR_EVERY,
                skips=skips,
                is_inherited=journal.is_inherited,
                gate=CommandGate(campaign.policy.gates, timeout=campaign.policy.gate_timeout),
            )
            for watcher in watchers:
                if isinstance(watcher, Asker):
                    watcher.answer_with(partial(engine.proceed, owner))
            with _signals_to(engine):
                ending = await engine.run()
                # Who asks a third time to stop does not ask for a run without its report.
                path, error = _write_report(scribe, record, settings, ending)
    finally:
        await journal.close()
    return Result(
        run_id=record.run_id,
        outcome=ending.outcome,
        exit_code=ending.exit_code if error is None else ending.exit_code or ExitCode.SOME_FAILED,
        stop_reason=campaign.stopping.reason if campaign.stopping else None,
        counts=campaign.standing(),
        report=path,
        report_error=error,
    )


def _check_report_place(settings: Settings) -> None:
    """Make sure that the report can be written, before there is anything to report.

    Raises:
        UsageError: it cannot.
    """
    if settings.report == STANDARD_OUTPUT:
        return
    reason = why_unwritable(Path(settings.report or default_report_name("RUN")))
    if reason is not None:
        raise UsageError(
            f"the report could not be written to {settings.report or 'this folder'}: {reason}; "
            "nothing was sent. Name another place with --report"
        )


def _write_report(
    scribe: "_Scribe", record: RunRecord, settings: Settings, ending: Ending
) -> tuple[str, OrchestratorError | None]:
    """Write the report of a run that ended; return where it is, or why it is nowhere."""
    if isinstance(ending.journal_error, LeaseError):
        return "", None  # it is the new runner's to write
    path = settings.report or default_report_name(record.run_id)
    try:
        write_report(scribe.fold, facts_of(record), path, stdout=sys.stdout)
    except OrchestratorError as error:
        return "", error
    return path, None


def _slots_held(held: Mapping[str, int]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Say which dead runs hold places in the limits."""
    for run_id, number in held.items():
        yield (
            "slots.held",
            {
                "run": run_id,
                "restarts": number,
                "error": "its runner is gone and its places in the limits stay taken; "
                f"`orchestrator resume {run_id}` settles them",
            },
        )


def _credentials_changed(
    record: RunRecord, accounts: Mapping[str, str]
) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Say where a run goes on with another credential than it was started with: it may be meant."""
    before = record.settings.get("accounts")
    if not isinstance(before, dict):
        return
    changes = Counter((before.get(project), account) for project, account in accounts.items())
    for (old, new), projects in changes.items():
        if old is not None and old != new:
            yield (
                "credentials.changed",
                {
                    "projects": projects,
                    "error": f"the run was started with {old} and goes on with {new}",
                },
            )


async def _held_by_the_dead(store: Store, record: RunRecord) -> Mapping[str, int]:
    """Return the runs whose runner is gone with restarts under way, and how many those are."""
    dead = {
        run.run_id
        for run in await store.runs(record.world)
        if run.state is RunState.INTERRUPTED and run.run_id != record.run_id
    }
    if not dead:
        return {}
    return Counter(
        start.run_id
        for start in await store.starts(record.world)
        if start.run_id in dead and start.ended_at is None and not start.returned
    )


# --------------------------------------------------------------------------------- going on


def _opening(
    record: RunRecord,
    history: Sequence[Event],
    standing: Standing,
    wanted: NewLimits,
    again: frozenset[Outcome],
    *,
    by: str,
    reason: str | None,
    now: float,
) -> Sequence[Event]:
    """Return what has to be recorded before a run goes on."""
    is_complete = is_reopened = False
    for event in history:
        match event:
            case RunResumed():
                is_complete = False
            case RunFinished(outcome=outcome):
                is_complete, is_reopened = outcome == "completed", False
            case TargetResolved(outcome=Outcome.NOT_STARTED):
                is_reopened = True
            case _:
                pass
    if is_complete and not (again or is_reopened):
        raise UsageError(
            f"resuming run {record.run_id}: every target has its outcome, nothing is left; "
            "--only failed,unknown takes some up again"
        )
    events: list[Event] = []
    if standing.stopping is not None or standing.aborted or again or is_complete:
        events.append(RunResumed(at=now, by=by, again=tuple(sorted(again))))
    elif standing.paused is not None:
        # Whoever paused it may not know that its runner is gone, and reads here what came of it.
        why = reason or f"it was {standing.paused.describe()}"
        events.append(RunContinued(at=now, by=by, reason=why))
    events.extend(_changed_limits(record, standing, wanted, by=by, reason=reason, now=now))
    return events


def _changed_limits(
    record: RunRecord,
    standing: Standing,
    wanted: NewLimits,
    *,
    by: str,
    reason: str | None,
    now: float,
) -> Sequence[Event]:
    """Return the changes that `resume` makes to limits and window, if it makes any.

    Raises:
        UsageError: it would loosen them unasked, or the window is over and no other was given.
    """
    run_id, total = record.run_id, len(record.plan.targets)
    objection = None if wanted.is_empty else standing.objection_to(wanted, total, now)
    if objection is not None:
        raise UsageError(f"resuming run {run_id}: {objection}")
    window, wall = wanted.of(standing.policy).window, now + standing.wall_offset
    over = [
        f"--{name}"
        for name in ("cutoff", "deadline")
        if (getattr(window, name) or math.inf) <= wall
    ]
    if over:
        raise UsageError(
            f"resuming run {run_id}: its window is over ({window}); give {' and '.join(over)} "
            "anew, or as none"
        )
    return [] if wanted.is_empty else standing.changes(wanted, total, at=now, by=by, reason=reason)


def _kept(
    settings: Settings, simulation: Simulation | None, accounts: Mapping[str, str]
) -> dict[str, object]:
    """Return what a later `resume` needs to reach the same service; never a secret.

    And, for those who look from outside, which projects share a credential, by its name.
    """
    cloud = settings.cloud
    kept: dict[str, object] = {
        "options": {
            "cloud.endpoint": cloud.endpoint,
            "cloud.region_endpoint": list(cloud.region_endpoints),
            "cloud.iam_endpoint": cloud.iam_endpoint,
            "cloud.metadata_endpoint": cloud.metadata_endpoint,
            "cloud.region": cloud.region,
            "cloud.request_timeout": format_span(cloud.request_timeout),
            "cloud.connections": cloud.connections,
            **_kept_files(cloud),
            "cloud.client_key_password_env": cloud.client_key_password_env,
            "report": settings.report,
        },
        "accounts": dict(accounts),
    }
    if simulation is not None:
        kept["simulation"] = {
            "scenario": None if simulation.source is None else str(simulation.source),
            "seed": simulation.seed,
        }
    return kept


def _kept_files(cloud: CloudSettings) -> Mapping[str, object]:
    files = {name: getattr(cloud, name) for name in ("ca_file", "client_cert", "client_key")}
    return {f"cloud.{name}": None if file is None else str(file) for name, file in files.items()}


def _options_of(record: RunRecord) -> Mapping[str, object]:
    options = record.settings.get("options")
    return options if isinstance(options, dict) else {}


def _simulation_of(record: RunRecord) -> Simulation | None:
    kept = record.settings.get("simulation")
    if not isinstance(kept, dict):
        return None
    source = kept["scenario"]
    return Simulation.load(None if source is None else Path(source), seed=kept["seed"])


async def _restarted_since(
    store: Store, record: RunRecord, since: float | None
) -> Mapping[int, str]:
    """Return which targets the journal knows as restarted after that moment, with the reason."""
    if since is None:
        return {}
    known = await store.restarted_since(since - store.clock.wall_offset, record.world)
    return {
        position: "restarted already, by an earlier run"
        for position, target in enumerate(record.plan.targets)
        if (target.project_id, target.cluster_id) in known
    }


# ------------------------------------------------------------------------------------ the parts


class _Scribe:
    """The watcher that keeps the report: what was recorded, and what no journal would take."""

    def __init__(self, plan: Plan, history: Sequence[Event]) -> None:
        self.fold = ReportFold(plan)
        for event in history:
            self.fold.take(event)

    def saw(self, event: Event) -> None:
        """Take the event into the report."""
        self.fold.take(event)

    def noticed(self, notice: str, facts: Mapping[str, object]) -> None:
        """Do nothing: a notice is no part of the report."""

    def turned(self, campaign: Campaign, now: float) -> None:
        """Do nothing: events say it all."""


class _Service(NamedTuple):
    """What a run talks to, and whose name it uses there."""

    cloud: CssClient
    accounts: Mapping[str, str]


@asynccontextmanager
async def _open_service(
    plan: Plan,
    settings: Settings,
    clock: Clock,
    *,
    simulation: Simulation | None,
    environ: Mapping[str, str] | None,
    prompt: Prompt | None,
) -> AsyncIterator[_Service]:
    regions = {target.project_id: target.region for target in reversed(plan.targets)}
    async with AsyncExitStack() as stack:
        cloud = settings.cloud
        if simulation is not None:
            url = await stack.enter_async_context(serve_simulator(plan.targets, simulation))
            cloud = _simulated(cloud, simulation, url)
        access = await stack.enter_async_context(
            open_access(cloud, regions, clock.now, environ=environ, prompt=prompt)
        )
        accounts = dict(access.book.accounts)
        if simulation is not None:
            # Even if nothing is sent with them, whose limits count whom is as in earnest.
            for project_id, project in settings.cloud.projects.items():
                if project.credentials is not None:
                    accounts.setdefault(project_id, project.credentials)
        yield _Service(access.client, accounts)


def _simulated(cloud: CloudSettings, simulation: Simulation, url: str) -> CloudSettings:
    """Return the simulator's place; no credential is needed there unless its scenario asks."""
    is_asked = simulation.scenario.auth.mode is not Mode.OFF
    return CloudSettings(
        endpoint=url,
        iam_endpoint=url,
        metadata_endpoint=url,
        request_timeout=cloud.request_timeout,
        connections=cloud.connections,
        projects=cloud.projects if is_asked else {},
        credentials=cloud.credentials if is_asked else {},
    )


@asynccontextmanager
async def serve_simulator(
    targets: Sequence[Target], simulation: Simulation, *, port: int = 0
) -> AsyncIterator[str]:
    """Serve the simulator with these clusters on loopback; the value is its URL.

    Raises:
        UsageError: the trace's file cannot be had.
        OSError: the port cannot be had.
    """
    with ExitStack() as stack:
        trace = None
        if simulation.trace is not None:
            trace = stack.enter_context(_open_trace(simulation.trace))
        service = Service(targets, simulation.scenario, simulation.seed)
        async with serve(service, port=port, trace=trace) as server:
            yield server.url


def _open_trace(path: Path) -> TraceFile:
    try:
        return TraceFile(path)
    except OSError as error:
        raise UsageError(
            f"opening the trace {path}: {error.strerror or error}; name a file in a folder that "
            "can be written"
        ) from error


@contextmanager
def _calm_collector() -> Iterator[None]:
    """Keep the garbage collector from reading a large plan again and again.

    A run makes little garbage in cycles and keeps what it makes; with the usual thresholds a tenth
    of a busy run goes into looking for what is not there.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def _signals_to(engine: Engine) -> Iterator[None]:
    """Let the signals that mean "stop" interrupt the engine instead of the process.

    A terminal that is gone stops nothing: the run goes on, or stays paused, and any other terminal
    steers it. Not a task that receives them: the engine has the only task group, and a signal needs
    no task.
    """
    loop = asyncio.get_running_loop()
    for number in _STOPS:
        loop.add_signal_handler(number, engine.interrupt, number.name)
    loop.add_signal_handler(signal.SIGHUP, engine.notice, "terminal.lost")
    try:
        yield
    finally:
        for number in (*_STOPS, signal.SIGHUP):
            loop.remove_signal_handler(number)


def _horizon(policy: Policy, history: Sequence[Event]) -> float:
    """Return for how long starts can matter: the longest interval of any rate there ever was."""
    longest = policy.longest_interval
    for event in history:
        if isinstance(event, LimitsChanged):
            longest = max(longest, changed_policy(policy, event).longest_interval)
    return longest
