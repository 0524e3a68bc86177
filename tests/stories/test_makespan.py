"""Runs keep their limits full: as fast as the limits allow, but for the last straggler.

The long form, over many random fleets, is `tests/benchmarks/makespan.py`.
"""

import random
from dataclasses import replace

import pytest

from orchestrator.limits import Concurrency
from orchestrator.ranking import Order
from tests.benchmarks import makespan
from tests.benchmarks.makespan import FAITHFUL, FAMILIES, GOAL, Case, played, serial, with_past


@pytest.mark.parametrize(
    ("family", "size"),
    [
        ("slots, N/c 100-200", 600),
        ("project slots", 1000),
        ("project and zone slots", 1000),
        ("project rates", 1000),
    ],
)
def test_limits_are_kept_full(family: str, size: int) -> None:
    """Spread, a run takes at most 1.02 times the least time that its limits allow."""
    case = FAMILIES[family](random.Random(f"{family}/1"), size)
    took, least, _ = played(case, Order.SPREAD, 1)
    assert least <= took <= GOAL * least


@pytest.mark.parametrize(
    ("family", "size", "seed"),
    [("slots, N/c 50-100", 600, 1), ("rate binds", 600, 5), ("sigma 1, N/c 100-200", 600, 2)],
)
def test_what_a_journal_saw_cuts_the_end_short(family: str, size: int, seed: int) -> None:
    """With a past that says who takes long, no straggler is left for the end."""
    bare = FAMILIES[family](random.Random(f"{family}/{seed}"), size)
    case = with_past(bare, random.Random(seed), FAITHFUL)
    unknown, _, _ = played(replace(case, past=()), Order.SPREAD, seed)
    known, least, _ = played(case, Order.SPREAD, seed)
    assert least <= known <= GOAL * least
    assert known < unknown


def test_what_a_journal_saw_does_no_harm_where_two_limits_are_as_tight() -> None:
    """Longest first would leave the rate unused, then the slots; long and short take turns."""
    family = "slots and rate as tight"
    case = with_past(FAMILIES[family](random.Random(1), 400), random.Random(1), FAITHFUL)
    unknown, _, _ = played(replace(case, past=()), Order.SPREAD, 1)
    known, _, _ = played(case, Order.SPREAD, 1)
    assert known < unknown


def test_a_list_that_goes_project_by_project_is_what_spread_is_for() -> None:
    """The largest project last, and limits for each: spread does not leave it for the end."""
    case = FAMILIES["project slots"](random.Random("largest last"), 500)
    targets = sorted(case.targets, key=lambda one: _size(case, one.project_id))
    case = Case(targets=targets, limits=case.limits, sigma=case.sigma)
    listed, _, _ = played(case, Order.LISTED, 1)
    spread, least, _ = played(case, Order.SPREAD, 1)
    assert spread <= GOAL * least
    assert listed > 1.2 * spread


def test_no_barrier_is_worth_having() -> None:
    """Batches of twenty, a barrier behind each, take more than twice as long as the run."""
    targets = makespan.fleet(random.Random(1), 600, 5)
    case = Case(targets=targets, limits=(Concurrency(20),), sigma=0.5)
    took, _, held = played(case, Order.LISTED, 1)
    assert serial(case, held) > 2.1 * took


def _size(case: Case, project_id: str) -> tuple[int, str]:
    return sum(one.project_id == project_id for one in case.targets), project_id
