"""In which order a wave starts: as listed, by what has most left to do, or by lot."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.limits import Concurrency, Limit, Rate, Unavailable
from orchestrator.model import Target
from orchestrator.ranking import Order, ranked


def targets(projects: str, zones: str = "") -> list[Target]:
    """A target for each letter, in the project of that name."""
    return [
        Target(
            project_id=project,
            cluster_id=f"c{number}",
            labels=(("az", zones[number]),) if zones else (),
        )
        for number, project in enumerate(projects)
    ]


def order(
    fleet: Sequence[Target],
    how: Order,
    *limits: Limit,
    group: Sequence[int] | None = None,
    seed: int = 0,
) -> list[int]:
    positions = range(len(fleet)) if group is None else group
    return ranked(fleet, positions, how, limits=limits, duration=60.0, seed=seed)


def spread(projects: str, *limits: Limit) -> str:
    fleet = targets(projects)
    return "".join(fleet[position].project_id for position in order(fleet, Order.SPREAD, *limits))


def test_listed_is_as_listed() -> None:
    """Nothing is moved, and a group keeps to itself."""
    fleet = targets("aabbc")
    assert order(fleet, Order.LISTED, Concurrency(1, "project"), group=[3, 1]) == [3, 1]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((Concurrency(9), Rate(2, 60.0)), "bbaaaac"),
        ((Concurrency(9), Concurrency(1, "project")), "aababac"),
        ((Rate(1, 600.0, "project"),), "aababac"),
        ((Unavailable(50, "project", is_percent=True),), "baabaca"),
        ((Concurrency(1, "region"),), "bbaaaac"),
    ],
)
def test_who_has_most_left_alone_goes_first(limits: tuple[Limit, ...], expected: str) -> None:
    """The largest comes early until it has no more left than the next, then they take turns.

    With limits of the fleet alone, or of what all have in common, the list stays as it is.
    """
    assert spread("bbaaaac", *limits) == expected


def test_a_tighter_limit_counts_for_more() -> None:
    """A few in a zone with one slot have more left than many in a project with ten."""
    fleet = targets("aaaaaaabb", "xxxxxxxyy")
    limits = (Concurrency(10, "project"), Rate(1, 600.0, "az"))
    assert order(fleet, Order.SPREAD, *limits)[:5] == [0, 1, 2, 3, 4]
    lonely = targets("aaaaaaaab", "xyzxyzxyy")
    # Four in zone y, three in x, two in z; all of y come first until they are no more than x.
    assert [lonely[p].labels[0][1] for p in order(lonely, Order.SPREAD, *limits)][:3] == list("yxy")


def test_within_a_value_the_list_decides() -> None:
    """Spreading never turns two targets around that the same limits count."""
    fleet = targets("abcabcaab")
    found = order(fleet, Order.SPREAD, Concurrency(1, "project"))
    for project in "abc":
        mine = [position for position in found if fleet[position].project_id == project]
        assert mine == sorted(mine)


def test_a_shuffle_goes_by_its_seed() -> None:
    """The same seed gives the same order however the fleet is listed; another one differs."""
    fleet = targets("abcdefgh")
    first, again = (order(fleet, Order.SHUFFLE, seed=7) for _ in range(2))
    assert first == again != order(fleet, Order.SHUFFLE, seed=8)
    assert first != sorted(first)
    turned = [fleet[position] for position in reversed(range(8))]
    assert [turned[p] for p in order(turned, Order.SHUFFLE, seed=7)] == [fleet[p] for p in first]


@given(st.text("abc", min_size=1, max_size=30), st.sampled_from(list(Order)), st.integers(0, 99))
def test_every_target_has_one_place(projects: str, how: Order, seed: int) -> None:
    """No order loses anybody or has somebody twice."""
    luck = random.Random(seed)
    fleet = targets(projects, "".join(luck.choices("xy", k=len(projects))))
    group = sorted(luck.sample(range(len(fleet)), luck.randint(1, len(fleet))))
    limits = (Concurrency(3), Concurrency(2, "project"), Rate(1, 30.0, "az"))
    assert sorted(order(fleet, how, *limits, group=group, seed=seed)) == group


def test_a_large_fleet_is_spread_in_no_time() -> None:
    """Fifty thousand targets of a thousand projects in three zones take seconds at the most."""
    luck = random.Random(1)
    fleet = [
        Target(
            project_id=f"p{int(luck.expovariate(0.005))}",
            cluster_id=f"c{number}",
            labels=(("az", luck.choice("xyz")),),
        )
        for number in range(50_000)
    ]
    limits = (Concurrency(100), Concurrency(3, "project"), Concurrency(40, "az"))
    assert len(order(fleet, Order.SPREAD, *limits)) == 50_000
