"""The stage on which a plan is rehearsed: the real engine, in virtual time, on a modelled service.

Nothing of it is a copy: campaign, engine, journal and service are those of every run. Modelled is
how long restarts take; every one of them ends well unless a scenario says otherwise, gates say go,
and nobody else restarts anything. Looks that would show nothing new are left out, which changes
nothing but the time that a rehearsal takes itself.
"""

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import anyio

from orchestrator.campaign import Campaign
from orchestrator.css import answers
from orchestrator.engine import Engine, Runner
from orchestrator.errors import OrchestratorError
from orchestrator.experience import Durations, Habit, Pair
from orchestrator.journal import MemoryStore, RunRecord
from orchestrator.limits import GUARD, Rate
from orchestrator.model import WHOLE, Call, Event, Target
from orchestrator.plan import Plan, Policy, with_targets
from orchestrator.rehearsal import Rehearsal, RehearsedRun, analyse
from orchestrator.simulator import Scenario, Service
from orchestrator.simulator.clock import JumpingClock, run_in_virtual_time
from orchestrator.simulator.memory import MemoryCloud
from orchestrator.simulator.scenario import Behaviour, OfKind
from orchestrator.simulator.spans import Around, Lognormal, Seen, Span, Uniform

SIGMA = 0.5
"""How far durations spread that nobody has seen yet: half lie within a third of the middle."""

LONGEST = 1000 * 86400.0
"""Seconds of virtual time after which a rehearsal that does not end is given up."""

EXACT = 500
"""Fleets up to this size are rehearsed to the instant, larger ones in steps of a look."""

HUGE = 3000
"""Fleets over this size are rehearsed in steps of two looks: their end comes out 0.7 % late."""

MOST_STARTS = 5_000
"""About so many restarts a rehearsal plays, over all its runs, unless told otherwise."""

_MOST_RUNS = 50
_RARELY = 1e-6
_NO_TIME = Uniform(0.0, 0.0)
_ROLLING_NODES = "3"


@dataclass(frozen=True, slots=True, kw_only=True)
class KindModel:
    """How long restarts of one kind are taken to last."""

    kind: str
    targets: int
    span: Span
    """Seconds until ready."""
    seen: int
    """How many of them this journal saw; 0: it is a guess around the expected duration."""
    own: int = 0
    """How many of the targets have a past of their own, around which they are taken to last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """How the service is taken to behave."""

    scenario: Scenario
    kinds: tuple[KindModel, ...]
    """Empty where a scenario says it all."""
    is_known: bool = True
    """Whether looks that would show nothing new are left out."""


class TakesTooLongError(OrchestratorError):
    """The rehearsal took longer than there was time for; nothing is known of the run."""


def seeds_for(targets: int, *, starts: int = MOST_STARTS) -> int:
    """Return how many runs of a fleet of this size make about so many starts, at least one."""
    return max(1, min(_MOST_RUNS, starts // targets))


def settled(plan: Plan) -> Plan:
    """Return the plan as it can be rehearsed.

    Kinds still to be chosen are the usual one, and a word that is asked for is given at once.
    """
    return with_targets(
        replace(plan, policy=replace(plan.policy, confirm_waves=False)),
        [replace(one, kind=WHOLE) if one.kind.is_auto else one for one in plan.targets],
    )


def model_of(plan: Plan, known: Mapping[str, Durations], scenario: Scenario | None = None) -> Model:
    """Return how the service is taken to behave for this plan.

    Args:
        plan: what is to be rehearsed.
        known: what the journal saw of each kind.
        scenario: how it is to behave instead, durations and all.
    """
    if scenario is not None:
        return Model(scenario=scenario, kinds=())
    kinds: dict[str, list[Target]] = defaultdict(list)
    for kind, target in zip(plan.kinds(), plan.targets, strict=True):
        kinds[kind].append(target)
    models: list[KindModel] = []
    lasting: dict[Pair, Span] = {}
    for kind, targets in kinds.items():
        own = _own_spans(targets, known[kind]) if kind in known else {}
        lasting.update(own)
        models.append(
            KindModel(
                kind=kind,
                targets=len(targets),
                span=Seen.of(known[kind].ready) if kind in known else _guess(plan.policy),
                seen=len(known[kind].ready) if kind in known else 0,
                own=len(own),
            )
        )
    return Model(
        scenario=Scenario(
            base=Behaviour(busy_after=_NO_TIME),
            overrides=tuple(
                OfKind(one.kind, {"duration": one.span, "rolling": one.span}) for one in models
            ),
            lasting=lasting,
        ),
        kinds=tuple(models),
    )


def _own_spans(targets: Iterable[Target], seen: Durations) -> Mapping[Pair, Span]:
    """Return how long restarts last of those targets that have a past of their own."""
    habit, all_of_them = Habit(seen.ready, seen.ready_of.values()), Seen(seen.ready)
    spans: dict[Pair, Span] = {}
    for target in targets:
        pair = (target.project_id, target.cluster_id)
        if pair in seen.ready_of:
            outlook = habit.outlook(seen.ready_of[pair])
            spans[pair] = Around(all_of_them, habit.middle, outlook.middle, outlook.share)
    return spans


def _guess(policy: Policy) -> Lognormal:
    """Return a distribution whose restarts last as long as expected, ready and proved stable."""
    proving = policy.stable_for + policy.poll_every / 2
    mean = max(policy.expected_duration - proving, policy.expected_duration / 10)
    # A guess must not make anything fail.
    return Lognormal(mean, SIGMA, most=max(mean, 0.8 * policy.healthy_deadline))


def rehearse_plan(
    plan: Plan,
    model: Model,
    *,
    known: Mapping[str, Durations],
    seeds: Sequence[int],
    at: float,
    patience: float = math.inf,
    played: Callable[[int], None] = lambda _number: None,
) -> Rehearsal:
    """Play the plan once for each seed.

    Args:
        plan: what is rehearsed.
        model: how the service behaves.
        known: what the journal saw of each kind, for the campaign's own expectations.
        seeds: one run each; the same seed gives the same run.
        at: the moment of the wall clock at which the runs begin.
        patience: seconds of real time that all of it may take.
        played: told how many runs have been played, after each.

    Raises:
        TakesTooLongError: it took longer than that, or a run does not come to an end.
    """
    stage = _Stage(_at_rest(plan, model), model, known, at, give_up_at=time.monotonic() + patience)
    tick = _tick_for(plan, model)
    runs: list[RehearsedRun] = []
    for seed in seeds:
        runs.append(run_in_virtual_time(stage.play, seed, tick=tick))
        played(len(runs))
    return Rehearsal(began_at=at, runs=tuple(runs))


def _at_rest(plan: Plan, model: Model) -> Plan:
    """Return the plan for clusters of which none is down unless we restart it.

    What may be unavailable is then what may be restarted at once; nobody has to look every few
    seconds whether anything went down by itself.
    """
    if not model.kinds:
        return plan
    limits = (*plan.policy.limits, *plan.policy.max_unavailable)
    return replace(plan, policy=replace(plan.policy, limits=limits, max_unavailable=()))


def _tick_for(plan: Plan, model: Model) -> float:
    """Return the steps in which time goes: to the instant, that of a look, or that of two.

    No restart may begin and end between two steps, or it would not be seen; and the steps divide
    the shortest interval of any rate, or each window would seem longer than it is.
    """
    spans = [*(one.span for one in model.kinds), *model.scenario.lasting.values()]
    shortest = min((span.at(_RARELY) for span in spans), default=0.0) if model.kinds else 0.0
    wished = sum(len(plan.targets) > size for size in (EXACT, HUGE)) * plan.policy.poll_every
    steps = (wished, plan.policy.poll_every if wished else 0.0)
    step = next((step for step in steps if 2 * step < shortest), 0.0)
    windows = [limit.per + GUARD for limit in plan.policy.limits if isinstance(limit, Rate)]
    return min(windows) / max(1, round(min(windows) / step)) if windows and step else step


@dataclass(slots=True)
class _Stage:
    """Where the runs of one plan are played, one after another."""

    plan: Plan
    model: Model
    known: Mapping[str, Durations]
    at: float
    give_up_at: float

    async def play(self, seed: int) -> RehearsedRun:
        """Play one run to its end."""
        plan = self.plan
        clock = JumpingClock(self.at)
        service = Service([_slim(target) for target in plan.targets], self.model.scenario, seed)
        store = MemoryStore(clock, random=random.Random(seed))
        record = RunRecord(
            run_id="rehearsal",
            plan=plan,
            operator="",
            change=None,
            created_at=clock.now(),
            world="",
            tool_version="",
            settings={},
        )
        await store.create_run(record)
        horizon = max((r.per for r in plan.policy.limits if isinstance(r, Rate)), default=0.0)
        journal = await store.journal(record.run_id, horizon=horizon)

        def same_until(target: Target) -> float:
            if not self.model.is_known:
                return -math.inf
            return service.look(target.project_id, target.cluster_id, clock.now()).until

        campaign = Campaign(
            record.run_id,
            plan,
            durations={kind: durations.whole for kind, durations in self.known.items()},
            same_until=same_until,
        )
        audience = _Audience(self.give_up_at)
        engine = Engine(
            campaign=campaign,
            cloud=MemoryCloud(service, answers, now=clock.now),
            journal=journal,
            clock=clock,
            runner=Runner(owner="rehearsal", host="", pid=0, version=""),
            watchers=[audience],
            gate=_OpenGate(),
        )
        audience.engine = engine
        with anyio.move_on_after(LONGEST) as scope:
            await engine.run()
        if scope.cancelled_caught or audience.has_left:
            raise TakesTooLongError(
                f"rehearsing plan {plan.plan_id}: it did not come to an end in time; "
                "give fewer --seeds, or wider limits"
            )
        return analyse(plan, audience.events)


@dataclass(slots=True)
class _Audience:
    """The watcher that takes down what happens, and leaves when it takes too long."""

    give_up_at: float
    engine: Engine | None = None
    events: list[Event] = field(default_factory=list)
    has_left: bool = False

    def saw(self, event: Event) -> None:
        """Take it down."""
        self.events.append(event)

    def noticed(self, notice: str, facts: Mapping[str, object]) -> None:
        """Do nothing: notices are no part of the run."""

    def turned(self, campaign: Campaign, now: float) -> None:  # noqa: ARG002  # a watcher's
        """Have the run stopped, then aborted, when its time is over."""
        if self.engine is not None and time.monotonic() > self.give_up_at:
            self.has_left = True
            self.engine.interrupt("rehearsal")


class _OpenGate:
    """The operator's gate, as if every command said go: none of them is run."""

    async def ask(self, _facts: Mapping[str, str]) -> str | None:
        """Say go."""
        return None


def _slim(target: Target) -> Target:
    """Return the target as the model has it: with no more nodes than its restart needs."""
    nodes = _ROLLING_NODES if target.kind.call is Call.ROLLING else "1"
    return replace(target, labels=(("nodes", nodes),))
