"""A night to play runs in: the real engine on a clock that jumps, and the simulated service."""

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
from jsonschema import Draft202012Validator

from orchestrator.campaign import Campaign
from orchestrator.css import answers
from orchestrator.engine import Ending, Engine, Runner
from orchestrator.journal import MemoryStore, RunRecord
from orchestrator.limits import Concurrency, Rate
from orchestrator.model import Event, Outcome, Target
from orchestrator.orders import Order
from orchestrator.plan import Plan, Policy, Portion, make_plan
from orchestrator.report import ReportFold, RunFacts, build_report
from orchestrator.simulator import Judgement, Record, Service, invent_targets, judge, parse_scenario
from orchestrator.simulator.clock import JumpingClock, run_in_virtual_time
from orchestrator.simulator.memory import MemoryCloud
from orchestrator.verify import Findings, verify
from tests.schema import report_schema

HOUR = 3600.0


@dataclass(kw_only=True)
class Night:
    """What a story is made of; `run` plays it."""

    targets: Sequence[Target]
    scenario: str = ""
    seed: int = 0
    canary: int = 0
    soak: float = 0.0
    patience: float = 30.0
    within: float = 48 * HOUR
    policy: Mapping[str, Any] = field(default_factory=dict)
    orders: Sequence[Order] = ()
    """What other terminals ask; `at` is seconds after the beginning."""

    def plan(self) -> Plan:
        rules = Policy(**dict(self.policy))
        return make_plan(self.targets, rules, canary=Portion(self.canary), soak=self.soak)

    def run(self) -> "Morning":
        """Play the run to its end in virtual time."""
        return run_in_virtual_time(self._run)

    async def _run(self) -> "Morning":
        plan = self.plan()
        clock = JumpingClock()
        began_at = clock.now()
        trace: list[Record] = []
        service = Service(self.targets, parse_scenario(self.scenario), self.seed)
        cloud = MemoryCloud(
            service, answers, now=clock.now, patience=self.patience, trace=trace.append
        )
        store = MemoryStore(clock, random=random.Random(self.seed))
        run_id = await store.new_run_id()
        await store.create_run(
            RunRecord(
                run_id=run_id,
                plan=plan,
                operator="ana@bastion",
                change=None,
                created_at=clock.now(),
                world="",
                tool_version="0",
                settings={},
            )
        )
        journal = await store.journal(run_id, horizon=_horizon(plan))
        engine = Engine(
            campaign=Campaign(run_id, plan),
            cloud=cloud,
            journal=journal,
            clock=clock,
            runner=Runner(owner="ana", host="bastion", pid=1, version="0"),
            hear_every=0.5 if self.orders else math.inf,
        )
        with anyio.fail_after(self.within):
            async with anyio.create_task_group() as tasks:
                for order in self.orders:
                    tasks.start_soon(_give, store, run_id, order)
                ending = await engine.run()
                tasks.cancel_scope.cancel()
        took = clock.now() - began_at
        cloud.settle()
        events = [event async for batch in store.events(run_id) for event in batch]
        findings = verify(run_id, plan, events, await store.starts(""))
        return Morning(
            plan=plan, ending=ending, events=events, trace=trace, took=took, findings=findings
        )


@dataclass(kw_only=True)
class Morning:
    """What a run left: its end, its history, and what the service saw."""

    plan: Plan
    ending: Ending
    events: Sequence[Event]
    trace: Sequence[Record]
    took: float
    findings: Findings

    @property
    def report(self) -> dict[str, Any]:
        """The report, checked against its schema."""
        fold = ReportFold(self.plan)
        for event in self.events:
            fold.take(event)
        facts = RunFacts(run_id="2026-11-23-abcd", operator="ana", change=None, tool_version="0")
        document: dict[str, Any] = json.loads(json.dumps(build_report(fold, facts)))
        Draft202012Validator(report_schema()).validate(document)
        return document

    def outcomes(self) -> dict[Outcome, int]:
        counts = {Outcome(k): n for k, n in self.report["counts"].items() if k != "targets"}
        return {outcome: n for outcome, n in counts.items() if n}

    def judged(self) -> Judgement:
        """What the service's own trace says about the promises."""
        limits = self.plan.policy.limits
        return judge(
            self.trace,
            concurrency=[limit for limit in limits if isinstance(limit, Concurrency)],
            rates=[limit for limit in limits if isinstance(limit, Rate)],
            labels={(t.project_id, t.cluster_id): dict(t.labels) for t in self.plan.targets},
            reported_job_ids=self.report["job_ids"],
        )


async def _give(store: MemoryStore, run_id: str, order: Order) -> None:
    await anyio.sleep(order.at)
    await store.give(run_id, replace(order, at=store.clock.now()))


def fleet(count: int, projects: int = 1, seed: int = 0) -> tuple[Target, ...]:
    """Return made-up targets."""
    return invent_targets(count, projects, seed)


def _horizon(plan: Plan) -> float:
    return max((r.per for r in plan.policy.limits if isinstance(r, Rate)), default=-math.inf)
