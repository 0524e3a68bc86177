"""Plans: who goes in which wave, and when two plans are the same."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import PlanError
from orchestrator.experience import learn
from orchestrator.journal import Lasted
from orchestrator.limits import Concurrency, Rate, Unavailable
from orchestrator.model import Kind, LimitsChanged, Target
from orchestrator.plan import (
    Plan,
    Policy,
    Portion,
    Window,
    changed_policy,
    loosened,
    make_plan,
    with_targets,
)
from orchestrator.ranking import Order


def fleet(count: int, *waves: str | None) -> list[Target]:
    names = [*waves, *[None] * (count - len(waves))]
    return [
        Target(project_id="p", cluster_id=f"c{n}", wave=name)
        for n, name in zip(range(count), names, strict=True)
    ]


def shape(plan: Plan) -> list[tuple[str, int, float]]:
    return [(wave.name, len(wave.targets), wave.soak) for wave in plan.waves]


@pytest.mark.parametrize(
    ("text", "total", "number"),
    [("10%", 37, 3), ("1%", 37, 1), ("0%", 37, 0), ("100%", 37, 37), ("5", 37, 5), ("50%", 1, 1)],
)
def test_portions_round_down_but_never_to_nothing(text: str, total: int, number: int) -> None:
    """Percentages are of those selected, rounded down; what is above nought is at least one."""
    assert Portion.parse(text).of(total) == number
    assert str(Portion.parse(text)) == text


@pytest.mark.parametrize("text", ["", "%", "101%", "-1", "1.5", "x"])
def test_a_portion_that_cannot_be_is_refused(text: str) -> None:
    """What is neither a number nor a percentage up to a hundred is an error with words."""
    with pytest.raises(ValueError, match="number of targets"):
        Portion.parse(text)


def test_large_fleets_have_a_canary_and_small_ones_none() -> None:
    """More than ten targets mean one canary unless somebody says otherwise."""
    assert shape(make_plan(fleet(10), Policy(), soak=60)) == [("rest", 10, 0)]
    assert shape(make_plan(fleet(11), Policy(), soak=60)) == [("canary", 1, 60), ("rest", 10, 0)]
    assert shape(make_plan(fleet(11), Policy(), canary=Portion(0))) == [("rest", 11, 0)]
    assert shape(make_plan(fleet(11), Policy(wait=False))) == [("rest", 11, 0)]


def test_waves_by_size() -> None:
    """Sizes are taken in turn; what they leave goes last, and the last wave does not soak."""
    plan = make_plan(fleet(40), Policy(), waves=("1", "5", "10%", "rest"), soak=30)
    assert shape(plan) == [("wave 1", 1, 30), ("wave 2", 5, 30), ("wave 3", 4, 30), ("rest", 30, 0)]
    plan = make_plan(fleet(8), Policy(), canary=Portion(2), waves=("3",), soak=30)
    assert shape(plan) == [("canary", 2, 30), ("wave 2", 3, 30), ("rest", 3, 0)]
    assert shape(make_plan(fleet(2), Policy(), waves=("5", "rest"))) == [("wave 1", 2, 0)]


def test_waves_by_column() -> None:
    """A wave column decides; numbers go in their order, the canary first, the unnamed last."""
    plan = make_plan(fleet(6, "10", "2", "canary", "2"), Policy(), soak=5)
    assert shape(plan) == [("canary", 1, 5), ("10", 1, 5), ("2", 2, 5), ("rest", 2, 0)]
    plan = make_plan(fleet(3, "10", "2", "2"), Policy(), soak=5)
    assert shape(plan) == [("2", 2, 5), ("10", 1, 0)]


def test_contradictions_are_refused() -> None:
    """No fleet, or waves from two sources, make no plan."""
    with pytest.raises(PlanError, match="empty"):
        make_plan([], Policy())
    with pytest.raises(PlanError, match="wave column"):
        make_plan(fleet(2, "1"), Policy(), waves=("1",))


def test_the_id_tells_plans_apart() -> None:
    """The same fleet under the same policy is the same plan; any change makes another."""
    one = make_plan(fleet(3), Policy(), source=["a.csv"])
    assert one.plan_id == make_plan(fleet(3), Policy(), source=["b.csv"]).plan_id
    others = [
        make_plan(fleet(4), Policy()),
        make_plan(list(reversed(fleet(3))), Policy()),
        make_plan(fleet(3), Policy(max_failures=Portion(1))),
        make_plan(fleet(3), Policy(), waves=("1",)),
        make_plan([*fleet(2), Target(project_id="p", cluster_id="c2", kind=Kind.parse("rolling"))],
                  Policy()),
    ]  # fmt: skip
    assert len({one.plan_id, *(plan.plan_id for plan in others)}) == 6


@pytest.mark.parametrize(
    ("new", "looser"),
    [
        ({}, False),
        ({"limits": (Concurrency(5), Rate(10, 600.0))}, False),
        ({"limits": (Concurrency(10), Rate(20, 600.0), Concurrency(1, "project"))}, False),
        ({"limits": (Concurrency(10), Rate(20, 1200.0))}, False),
        ({"limits": (Concurrency(11), Rate(20, 600.0))}, True),
        ({"limits": (Concurrency(10), Rate(21, 600.0))}, True),
        ({"limits": (Concurrency(10), Rate(20, 500.0))}, True),
        ({"limits": (Concurrency(10),)}, True),
        ({"limits": (Concurrency(10), Rate(1, 600.0, "project"))}, True),
        ({"max_failures": Portion(1)}, True),
        ({"max_failures": Portion(1, is_percent=True)}, True),
        ({"max_unavailable": (Unavailable(1),)}, False),
        ({"window": Window(deadline=5.0)}, False),
    ],
)
def test_what_is_looser(new: dict[str, Any], *, looser: bool) -> None:
    """Limits are looser if anything is allowed that was not; narrower ones besides are not."""
    assert bool(loosened(Policy(**new), Policy(), 100)) == looser


@pytest.mark.parametrize(
    ("new", "named"),
    [
        ({"max_unavailable": (Unavailable(9), Unavailable(1, "az", is_percent=True))}, []),
        ({"max_unavailable": (Unavailable(10), Unavailable(1, "az"))}, []),
        ({"max_unavailable": (Unavailable(10, is_percent=True),)}, ["az=5% unavailable"]),
        ({"max_unavailable": (Unavailable(11), Unavailable(2, "az"))},
         ["10% unavailable", "az=5% unavailable"]),
        ({"window": Window(not_before=200.0, cutoff=300.0, deadline=400.0)}, []),
        ({"window": Window(not_before=100.0, cutoff=350.0, deadline=500.0)},
         ["no start after 1970-01-01T00:05:00Z", "done by 1970-01-01T00:06:40Z"]),
        ({"window": Window(cutoff=300.0)},
         ["not before 1970-01-01T00:01:40Z", "done by 1970-01-01T00:06:40Z"]),
    ],
)  # fmt: skip
def test_what_would_be_loosened_is_named(new: dict[str, Any], named: list[str]) -> None:
    """Of what may be down, and of the window, whatever would hold no more is named as it was."""
    old = Policy(
        max_unavailable=(Unavailable(10, is_percent=True), Unavailable(5, "az", is_percent=True)),
        window=Window(not_before=100.0, cutoff=300.0, deadline=400.0),
    )
    assert loosened(replace(old, **new), old, 100) == named


def test_a_change_of_limits_reads_what_was_printed() -> None:
    """The policy after a change has the limits that the event prints."""
    change = LimitsChanged(
        at=0, limits=("3", "project=1", "5/600s"), max_failures="5%", by="ana", is_looser=False
    )
    before = Policy(max_unavailable=(Unavailable(4),))
    assert changed_policy(before, change).max_unavailable == (Unavailable(4),)
    down = replace(change, max_unavailable=("az=10%",))
    after = (Unavailable(10, "az", is_percent=True),)
    assert changed_policy(before, down).max_unavailable == after
    policy = changed_policy(Policy(), change)
    assert policy.limits == (Concurrency(3), Concurrency(1, "project"), Rate(5, 600.0))
    assert policy.max_failures == Portion(5, is_percent=True)


@given(
    st.integers(1, 60),
    st.none() | st.integers(0, 70).map(Portion),
    st.lists(st.sampled_from(["1", "3", "10%", "50%", "rest"]), max_size=5),
)
def test_every_target_is_in_one_wave(count: int, canary: Portion | None, waves: list[str]) -> None:
    """However waves are cut, each target is in exactly one, and the fleet's order is kept."""
    plan = make_plan(fleet(count), Policy(), canary=canary, waves=waves)
    assert [p for wave in plan.waves for p in wave.targets] == list(range(count))
    assert all(wave.targets for wave in plan.waves)


def test_the_order_is_part_of_the_plan() -> None:
    """Waves are cut from the list; within each the order decides, and the plan's id knows it."""
    fleet = [Target(project_id="ab"[n in {1, 2}], cluster_id=f"c{n}") for n in range(12)]
    policy = Policy(limits=(Concurrency(2), Concurrency(1, "project")))
    listed, spread, shuffled, other = (
        make_plan(fleet, policy, waves=("2", "rest"), order=order, seed=seed)
        for order, seed in (
            (Order.LISTED, 1), (Order.SPREAD, 1), (Order.SHUFFLE, 4), (Order.SHUFFLE, 5),
        )
    )  # fmt: skip
    assert listed.order() == ()
    assert spread.order() == [0, 1, *range(3, 11), 2, 11]
    assert all(sorted(plan.waves[0].targets) == [0, 1] for plan in (spread, shuffled, other))
    assert len({plan.plan_id for plan in (listed, spread, shuffled, other)}) == 4
    assert make_plan(fleet, policy, waves=("2", "rest")).plan_id == listed.plan_id


def test_what_the_journal_makes_of_an_order_is_no_part_of_the_id() -> None:
    """Who asks for the same again finds the run that was killed, though it has taught the journal.

    The canary and the other waves have the members that the list gives them.
    """
    fleet = [Target(project_id="p", cluster_id=f"c{n}") for n in range(12)]
    past = learn(
        Lasted(project_id="p", cluster_id=cluster_id, kind="restart", ready=span, whole=span)
        for cluster_id, span in (("c7", 90.0), ("c3", 9.0))
    )
    before, after = (
        make_plan(fleet, Policy(), waves=("2", "rest"), order=Order.SPREAD, known=known)
        for known in ({}, past)
    )
    assert before.order() == ()
    assert after.order() == [0, 1, 7, 2, 4, 5, 6, 8, 9, 10, 11, 3]
    assert after.plan_id == before.plan_id
    assert with_targets(after, fleet) is after
    other = with_targets(after, [replace(fleet[0], kind=Kind.parse("rolling")), *fleet[1:]])
    assert other.plan_id != after.plan_id
    assert other.order() == after.order()


def test_who_is_in_which_wave_is_part_of_the_id() -> None:
    """Two fleets whose column puts others into waves of the same size are two plans."""
    one, other = (make_plan(fleet(4, *waves), Policy()) for waves in ("1212", "1122"))
    assert shape(one) == shape(other)
    assert one.plan_id != other.plan_id
