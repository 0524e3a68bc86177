"""How a run stands, seen from any terminal: the journal replayed, and the explanation of the core.

Rules:

- Nothing here writes, and nobody who does is waited for longer than a read takes.
- What a runner sees and does not write down, such as looks, is taken to be well; what the journal
  knows is exact: starts of all runs, answers, pauses, who works on the run.
"""

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from orchestrator.campaign import Campaign
from orchestrator.config import Settings
from orchestrator.errors import JournalError, UsageError
from orchestrator.experience import expected_seconds
from orchestrator.history import durations_of, open_journal
from orchestrator.journal import LeaseRecord, RunRecord, RunState, RunSummary, Store
from orchestrator.judgement import Track
from orchestrator.limits import FLEET, Gate
from orchestrator.model import Event, LimitsChanged, Outcome, RunPaused, RunStopping
from orchestrator.orders import Standing
from orchestrator.plan import Policy, changed_policy
from orchestrator.report import moment
from orchestrator.span import format_moment
from orchestrator.waits import waits
from orchestrator.watch.picture import Line, Tally, Tone, phase_words, picture, summary, time_left
from orchestrator.wording import shown, spell, wrap

STATUS_VERSION = 1
"""Goes up when a member of `Status.as_dict` changes its meaning or goes away."""

_LINES = 3
"""So many lines at most are given to what can be done where they are narrow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One look at a run."""

    record: RunRecord
    run: RunSummary
    lease: LeaseRecord | None
    campaign: Campaign
    tally: Tally
    now: float
    ended_at: float
    """The moment of the last event; `now` if there is none."""
    wall_offset: float

    @property
    def is_live(self) -> bool:
        """Whether somebody works on the run."""
        return self.run.state is RunState.RUNNING

    def wall(self, at: float) -> datetime:
        """Return the wall clock time of a steady moment."""
        return datetime.fromtimestamp(at + self.wall_offset, UTC)

    def lines(self, width: int, height: int) -> list[Line]:
        """Return it for people, the most important first."""
        campaign, now, tally = self.campaign, self.now, self.tally
        if self.run.state in {RunState.FINISHED, RunState.STOPPED}:
            lines = summary(campaign, self.ended_at, tally=tally, wall=self.wall, width=width)
            return [*lines, *(Line(text, Tone.FAINT) for text in wrap(self._who(), width, _LINES))]
        return picture(
            campaign, now, tally=tally, wall=self.wall, width=width, height=height, who=self._who()
        )

    def gist(self) -> object:
        """Return what makes a look news: everything but moments, which change all the time."""
        campaign = self.campaign
        return (
            self.run.state,
            tuple(self._counts().items()),
            (campaign.wave, campaign.soak_ends_at, campaign.failures, campaign.allowed),
            (campaign.paused, campaign.stopping, campaign.policy),
            tuple(sorted({wait.cause for wait in waits(campaign, self.now)})),
        )

    def _who(self) -> str:
        """Say who works on the run, or what can be done if nobody does."""
        run, lease = self.run, self.lease
        if self.is_live and lease is not None:
            ago = spell(self.now - lease.heartbeat_at)
            return f"carried out by {shown(lease.describe())}, last heard of {ago} ago"
        if run.state is RunState.FINISHED:
            return f"exit code {run.exit_code}; `orchestrator report {run.run_id}` tells the rest"
        held = len(self.campaign.tracks)
        holds = f"; {held} under way keep their places in the limits" if held else ""
        return f"{run.state}: `orchestrator resume {run.run_id}` goes on with it{holds}"

    # ------------------------------------------------------------------------------ for scripts

    def as_dict(self) -> dict[str, object]:
        """Return it for scripts; moments are RFC 3339, UTC, and null where nobody knows them."""
        campaign, run = self.campaign, self.run
        left = time_left(campaign, self.now, self.tally) if self.is_live else None
        return {
            "status_version": STATUS_VERSION,
            "run_id": run.run_id,
            "at": self._moment(self.now),
            "state": run.state.value,
            "outcome": run.outcome,
            "exit_code": run.exit_code,
            "operator": run.operator,
            "change": run.change,
            "simulated": run.world != "",
            "created_at": moment(run.wall_created_at),
            "started_at": self._moment(self.tally.started_at),
            "ended_at": None if self.is_live else self._moment(self.ended_at),
            "runner": self._runner(),
            "wave": self._wave(),
            "counts": self._counts(),
            "failures": {"count": campaign.failures, "allowed": campaign.allowed},
            "paused": _said(campaign.paused, self.wall_offset),
            "stopping": _said(campaign.stopping, self.wall_offset),
            "window": self._window(),
            "limits": [self._limit(gate) for gate in self._gates()],
            "running": [self._running(track) for track in campaign.tracks.values()],
            "waits": self._waits(),
            "left_s": None if left is None else round(left),
        }

    def _moment(self, at: float | None) -> str | None:
        return None if at is None or math.isinf(at) else moment(at + self.wall_offset)

    def _runner(self) -> dict[str, object] | None:
        lease = self.lease
        if lease is None or not self.is_live:
            return None
        return {
            "owner": lease.owner,
            "host": lease.host,
            "pid": lease.pid,
            "since": self._moment(lease.taken_at),
            "heard_at": self._moment(lease.heartbeat_at),
        }

    def _wave(self) -> dict[str, object] | None:
        campaign, number = self.campaign, self.campaign.wave
        if number is None:
            return None
        return {
            "number": number + 1,
            "of": len(campaign.plan.waves),
            "name": campaign.plan.waves[number].name,
            "soaks_until": self._moment(campaign.soak_ends_at),
        }

    def _counts(self) -> dict[str, int]:
        campaign = self.campaign
        ended = {o.value: n for o, n in campaign.counts().items() if o is not Outcome.NOT_STARTED}
        is_over = campaign.finished or campaign.aborted or campaign.stopping is not None
        return {
            "targets": len(campaign.plan.targets),
            **ended,
            "running": len(campaign.tracks),
            "waiting": 0 if is_over else campaign.waiting,
            "not_started": campaign.waiting if is_over else 0,
        }

    def _window(self) -> dict[str, str | None]:
        window = self.campaign.policy.window
        return {name: moment(at) for name, at in asdict(window).items()}

    def _gates(self) -> Sequence[Gate]:
        """Return the gates of the fleet, and those of narrow limits that count anything."""
        limits = self.campaign.limits
        narrow = (gate for gate in limits.all_gates() if gate.limit.scope != FLEET)
        return [*limits.fleet_gates(), *(gate for gate in narrow if gate.taken(self.now))]

    def _limit(self, gate: Gate) -> dict[str, object]:
        frees_at = gate.frees_at(self.now)
        return {
            "limit": str(gate.limit),
            "scope": gate.limit.scope,
            "value": gate.value if gate.limit.scope != FLEET else None,
            "used": gate.taken(self.now),
            "allowed": gate.most,
            "frees_at": None if gate.has_room(self.now) else self._moment(frees_at),
        }

    def _running(self, track: Track) -> dict[str, object]:
        target = self.campaign.plan.targets[track.start.target]
        return {
            "project_id": target.project_id,
            "cluster_id": target.cluster_id,
            "name": target.name,
            "phase": phase_words(track),
            "since": self._moment(track.start.granted_at),
            "for_s": round(max(0.0, self.now - track.start.granted_at), 3),
            "job_ids": list(track.answer.job_ids) if track.answer is not None else [],
        }

    def _waits(self) -> list[dict[str, object]]:
        return [
            {
                "count": wait.count,
                "cause": wait.cause.value,
                "reason": " ".join(filter(None, (wait.what, wait.when and f"({wait.when})"))),
                "until": self._moment(wait.until),
            }
            for wait in waits(self.campaign, self.now, most=None)
        ]


class Lookout:
    """Looks at one run again and again; what was read before is not read again."""

    def __init__(self, store: Store, record: RunRecord) -> None:
        self._store = store
        self._record = record
        self._history: list[Event] = []
        self._durations: Mapping[str, Sequence[float]] = {}
        self._expected: Sequence[float] = ()

    async def look(self) -> Status:
        """Read what is new, and return how the run stands."""
        store, record = self._store, self._record
        async for batch in store.events(record.run_id, after=len(self._history)):
            self._history.extend(batch)
        if not self._durations:
            known = await durations_of(store, record.world)
            self._durations = {kind: durations.whole for kind, durations in known.items()}
            usual = record.plan.policy.expected_duration
            self._expected = expected_seconds(record.plan.targets, known, usual)
        run = next(run for run in await store.runs() if run.run_id == record.run_id)
        starts = await store.counting(record.world, self._horizon())
        now = store.clock.now()
        campaign = Campaign(
            record.run_id, record.plan, self._history,
            accounts=_accounts_of(record), durations=self._durations,
            expected=self._expected,
        )  # fmt: skip
        campaign.take_note_of((one for one in starts if one.run_id != record.run_id), now)
        campaign.believe_looks(now)
        return Status(
            record=record,
            run=run,
            lease=await store.lease(record.run_id),
            campaign=campaign,
            tally=Tally.after(campaign, self._history),
            now=now,
            ended_at=self._history[-1].at if self._history else now,
            wall_offset=store.clock.wall_offset,
        )

    def _horizon(self) -> float:
        policy = self._record.plan.policy
        for event in self._history:
            if isinstance(event, LimitsChanged):
                policy = changed_policy(policy, event)
        return policy.longest_interval


# ------------------------------------------------------------------------------------- all runs


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNow:
    """One run of the journal in a line: how it stands, and why."""

    run: RunSummary
    wall_offset: float
    paused: RunPaused | None = None
    """Since when and by whom, if nothing starts until somebody lets it go on."""
    stopping: RunStopping | None = None
    """Why nothing new starts for good, or why it ended before its time."""
    opens_at: float | None = None
    """The wall clock moment before which nothing starts, while that lies ahead."""

    @property
    def word(self) -> str:
        """What it does: its state, or what keeps a live run from starting anything."""
        if self.run.state is not RunState.RUNNING:
            return self.run.state.value
        if self.stopping is not None:
            return "stopping"
        if self.paused is not None:
            return "paused"
        return "running" if self.opens_at is None else "waiting"

    @property
    def why(self) -> str | None:
        """Why that is so, and since when, in words; None if there is nothing to say."""
        if self.stopping is not None:
            return self.stopping.reason
        if self.paused is not None:
            since = format_moment(self.paused.at + self.wall_offset)
            what = f"{self.paused.describe()} (since {since})"
            is_live = self.run.state is RunState.RUNNING
            return what.removeprefix("paused ") if is_live else what
        return None if self.opens_at is None else f"not before {format_moment(self.opens_at)}"

    def __str__(self) -> str:
        run = self.run
        parts = [
            run.run_id,
            format_moment(run.wall_created_at),
            f"{self.word:<11}",
            f"{run.targets:>6} targets",
            run.operator,
            run.change,
            "(simulated)" if run.world else None,
            self.why,
        ]
        return "  ".join(shown(part) for part in parts if part)

    def as_dict(self) -> dict[str, object]:
        """Return it for scripts; `state` is as the journal has it, the rest says what is new."""
        record = asdict(self.run)
        record["created_at"] = format_moment(record.pop("wall_created_at"))
        record["simulated"] = record.pop("world") != ""
        record["doing"] = self.word
        record["paused"] = _said(self.paused, self.wall_offset)
        record["stopping"] = _said(self.stopping, self.wall_offset)
        record["opens_at"] = None if self.opens_at is None else moment(self.opens_at)
        return record


async def runs_now(settings: Settings) -> list[RunNow]:
    """Return all runs of the journal as they stand, newest first.

    Raises:
        JournalError: it cannot be read.
    """
    async with open_journal(settings) as store:
        return [await run_now(store, run) for run in await store.runs()]


async def run_now(store: Store, run: RunSummary) -> RunNow:
    """Return how a run of the journal stands."""
    offset = store.clock.wall_offset
    if run.state is RunState.FINISHED:
        return RunNow(run=run, wall_offset=offset)
    # Only what was said of the run as a whole is read, however large its fleet.
    events = await store.run_events(run.run_id)
    standing = Standing.after(Policy(), events)
    found = RunNow(run=run, wall_offset=offset, paused=standing.paused, stopping=standing.stopping)
    if run.state is not RunState.RUNNING or found.why is not None:
        return found
    planned = (await store.load_run(run.run_id)).plan.policy
    opens_at = Standing.after(planned, events).policy.window.not_before
    is_ahead = opens_at is not None and opens_at > store.clock.now() + offset
    return replace(found, opens_at=opens_at) if is_ahead else found


def _said(event: RunPaused | RunStopping | None, wall_offset: float) -> dict[str, object] | None:
    if event is None:
        return None
    return {"by": event.by, "reason": event.reason, "at": moment(event.at + wall_offset)}


# -------------------------------------------------------------------------------------- one run


@asynccontextmanager
async def lookout(settings: Settings, run_id: str | None) -> AsyncIterator[Lookout]:
    """Open the journal to look at a run; None means the only live one, else the newest.

    Raises:
        UsageError: several runs are live, and none was named.
        JournalError: there is no such run, or the journal cannot be read.
    """
    async with open_journal(settings, read_only=True) as store:
        chosen = run_id or _meant(await store.runs())
        yield Lookout(store, await store.load_run(chosen))


def _meant(runs: Sequence[RunSummary]) -> str:
    live = [run.run_id for run in runs if run.state is RunState.RUNNING]
    if len(live) > 1:
        raise UsageError(f"status: {len(live)} runs are live, {', '.join(live[:5])}; name one")
    if not runs:
        raise JournalError("status: the journal has no runs yet")
    return live[0] if live else runs[0].run_id


def _accounts_of(record: RunRecord) -> Mapping[str, str]:
    accounts = record.settings.get("accounts")
    return accounts if isinstance(accounts, dict) else {}
