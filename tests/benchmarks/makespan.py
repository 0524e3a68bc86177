"""How close rehearsed runs come to the least time that their limits allow.

    python -m tests.benchmarks.makespan [--fleets N] [--seed N] [--size N]

Random fleets in families, each played by the real engine in virtual time in the listed order and
spread, and worked out for batches with a barrier behind each, as Ansible's `serial` has them, under
the same limits and with the same durations. Printed are makespan / lower bound at the median, at
the 90th percentile and at worst, and how many times as long the batches take as the run.

The bound is `orchestrator.bound`. What a run loses against it is the tail, in which slots stay
empty because nothing is left: one straggler, whatever the order, as durations are not known before.
It weighs 1/(N/c), so that fleets have to be large beside their slots for a run to come close. Where
two limits are nearly as tight as each other the bound itself lies too low.
"""

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.limits import Concurrency, Limit, Rate, scope_value
from orchestrator.model import Target
from orchestrator.plan import Plan, Policy, Portion, make_plan
from orchestrator.ranking import Order
from orchestrator.rehearsal import quantile
from orchestrator.simulator import Scenario
from orchestrator.simulator.scenario import Behaviour
from orchestrator.simulator.spans import Lognormal, Uniform
from orchestrator.stage import Model, rehearse_plan

GOAL = 1.02
MEAN = 280.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A fleet, its limits, and how far its durations spread."""

    targets: Sequence[Target]
    limits: tuple[Limit, ...]
    sigma: float


def fleet(luck: random.Random, count: int, projects: int, zones: int = 3) -> list[Target]:
    """Make up clusters in projects of very different sizes, listed project by project."""
    weights = [luck.expovariate(1.0) + 0.1 for _ in range(projects)]
    homes = sorted(luck.choices(range(projects), weights, k=count))
    return [
        Target(
            project_id=f"p{home}",
            cluster_id=f"c{number}",
            labels=(("az", f"z{luck.randrange(zones)}"),),
        )
        for number, home in enumerate(homes)
    ]


def slots_only(luck: random.Random, size: int) -> Case:
    """One limit for all: 100 to 200 restarts for each slot."""
    return _slots_only(luck, size, (100, 200))


def fewer_for_each_slot(luck: random.Random, size: int) -> Case:
    """50 to 100 restarts for each slot."""
    return _slots_only(luck, size, (50, 100))


def few_for_each_slot(luck: random.Random, size: int) -> Case:
    """10 to 20 restarts for each slot: the tail shows."""
    return _slots_only(luck, size, (10, 20))


def _slots_only(luck: random.Random, size: int, each: tuple[int, int]) -> Case:
    count = luck.randint(size // 2, size)
    most = max(2, count // luck.randint(*each))
    return Case(targets=fleet(luck, count, 5), limits=(Concurrency(most),), sigma=0.5)


def project_slots(luck: random.Random, size: int) -> Case:
    """Slots for the fleet and for each project, which are of very different sizes."""
    count = luck.randint(size // 2, size)
    most = max(4, count // luck.randint(100, 160))
    narrow = max(1, most // luck.randint(2, 4))
    limits = (Concurrency(most), Concurrency(narrow, "project"))
    return Case(targets=fleet(luck, count, luck.randint(5, 12)), limits=limits, sigma=0.5)


def two_scopes(luck: random.Random, size: int) -> Case:
    """Slots for the fleet, for each project and for each zone."""
    count = luck.randint(size // 2, size)
    most = max(6, count // luck.randint(100, 160))
    limits = (
        Concurrency(most),
        Concurrency(max(1, most // 2), "project"),
        Concurrency(max(1, most // 2), "az"),
    )
    return Case(targets=fleet(luck, count, luck.randint(5, 12)), limits=limits, sigma=0.5)


def rate_binds(luck: random.Random, size: int) -> Case:
    """A rate for the fleet that leaves slots empty."""
    count = luck.randint(size // 2, size)
    most = luck.randint(5, 30)
    slots = max(2, round(6 * most * MEAN / 600))
    return Case(
        targets=fleet(luck, count, 5), limits=(Concurrency(slots), Rate(most, 600.0)), sigma=0.5
    )


def project_rates(luck: random.Random, size: int) -> Case:
    """Plenty of slots, and a rate for each project: the largest project decides."""
    count = luck.randint(size // 2, size)
    limits = (Concurrency(count // 10), Rate(luck.randint(3, 8), 600.0, "project"))
    return Case(targets=fleet(luck, count, luck.randint(3, 8)), limits=limits, sigma=0.5)


def long_tails(luck: random.Random, size: int) -> Case:
    """As `slots_only`, with durations that spread twice as far."""
    case = slots_only(luck, size)
    return Case(targets=case.targets, limits=case.limits, sigma=1.0)


FAMILIES: Mapping[str, Callable[[random.Random, int], Case]] = {
    "slots, N/c 100-200": slots_only,
    "project slots": project_slots,
    "project and zone slots": two_scopes,
    "rate binds": rate_binds,
    "project rates": project_rates,
    "slots, N/c 50-100": fewer_for_each_slot,
    "slots, N/c 10-20": few_for_each_slot,
    "sigma 1, N/c 100-200": long_tails,
}
"""By the words that are printed."""

REACHES_GOAL = (
    "slots, N/c 100-200",
    "project slots",
    "project and zone slots",
    "rate binds",
    "project rates",
)
"""The families in which `spread` has to reach the goal at the median, given fleets of 1,500."""


def plan_of(case: Case, order: Order) -> Plan:
    """Return the plan of one wave."""
    rules = Policy(limits=case.limits, healthy_deadline=86_400.0)
    return make_plan(case.targets, rules, canary=Portion(0), order=order)


def played(case: Case, order: Order, seed: int) -> tuple[float, float, Mapping[int, float]]:
    """Return the seconds that a rehearsed run takes, the bound, and how long each slot was held."""
    span = Lognormal(MEAN, case.sigma)
    behaviour = Behaviour(duration=span, busy_after=Uniform(0.0, 0.0))
    model = Model(scenario=Scenario(base=behaviour), kinds=())
    [run] = rehearse_plan(plan_of(case, order), model, known={}, seeds=[seed], at=1.8e9).runs
    assert run.left == 0, run.stop_reason
    return run.took, run.least, run.held


def serial(case: Case, held: Mapping[int, float]) -> float:
    """Return the seconds that batches take: each as large as the limits allow, then a barrier."""
    now = 0.0
    waiting = list(range(len(case.targets)))
    begun: list[tuple[float, int]] = []
    while waiting:
        batch = _batch(case, waiting, begun, now)
        if batch:
            begun.extend((now, position) for position in batch)
            now += max(held[position] for position in batch)
            waiting = waiting[len(batch) :]
        else:
            horizon = [rate.per for rate in case.limits if isinstance(rate, Rate)]
            ends = [at + per for at, _ in begun for per in horizon if at + per > now]
            now = min(ends)
    return now


def _batch(
    case: Case, waiting: Iterable[int], begun: Sequence[tuple[float, int]], now: float
) -> list[int]:
    """Return the longest beginning of the list that may run at once from now on."""
    taken: Counter[tuple[Limit, str]] = Counter()
    for limit in case.limits:
        if isinstance(limit, Rate):
            for at, position in reversed(begun):
                if at + limit.per <= now:
                    break
                taken[limit, scope_value(case.targets[position], limit.scope)] += 1
    batch: list[int] = []
    for position in waiting:
        keys = [(one, scope_value(case.targets[position], one.scope)) for one in case.limits]
        if any(taken[key] >= key[0].most for key in keys):
            break
        taken.update(keys)
        batch.append(position)
    return batch


def _row(name: str, *columns: Sequence[float]) -> str:
    cells = [f"{name:<24}"]
    for values in columns:
        cells += [f"{quantile(values, share):7.3f}" for share in (0.5, 0.9, 1.0)]
    return " ".join(cells)


def main() -> None:
    """Play the families; the exit code is 1 if one that is to reach the goal does not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fleets", type=int, default=12, help="for each family")
    parser.add_argument("--size", type=int, default=1500, help="of the largest fleet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", action="append", choices=list(FAMILIES))
    arguments = parser.parse_args()
    print(f"{'makespan / least time':<24} {'listed':<23} {'spread':<23} {'serial / spread'}")
    print(
        f"{'':<24} "
        + " ".join(f"{share:>7}" for share in ("median", "p90", "worst") * 3)
        + f"   spread within {GOAL}"
    )
    missed = False
    for name in arguments.family or FAMILIES:
        ratios: dict[str, list[float]] = {"listed": [], "spread": [], "serial": []}
        for number in range(arguments.fleets):
            seed = arguments.seed + number
            case = FAMILIES[name](random.Random(f"{name}/{seed}"), arguments.size)
            for order in (Order.LISTED, Order.SPREAD):
                took, least, held = played(case, order, seed)
                ratios[order].append(took / least)
                if order is Order.SPREAD:
                    ratios["serial"].append(serial(case, held) / took)
        within = sum(ratio <= GOAL for ratio in ratios["spread"]) / arguments.fleets
        print(_row(name, *ratios.values()), f"{within:6.0%}", flush=True)
        missed |= name in REACHES_GOAL and quantile(ratios["spread"], 0.5) > GOAL
    sys.exit(missed)


if __name__ == "__main__":
    main()
