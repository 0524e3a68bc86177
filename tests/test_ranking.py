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
    expected: Sequence[float] = (),
    seed: int = 0,
) -> list[int]:
    positions = range(len(fleet)) if group is None else group
    spans = expected or [60.0] * len(fleet)
    return ranked(fleet, positions, how, limits=limits, expected=spans, seed=seed)


def spread(projects: str, *limits: Limit) -> str:
    fleet = targets(projects)
    return "".join(fleet[position].project_id for position in order(fleet, Order.SPREAD, *limits))


def longest_first(expected: Sequence[float], *limits: Limit, projects: str = "") -> list[int]:
    fleet = targets(projects or "a" * len(expected))
    return order(fleet, Order.SPREAD, *limits, expected=expected)


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


@pytest.mark.parametrize(
    "limits",
    [(Concurrency(2),), (Rate(2, 600.0),), (Concurrency(9), Rate(1, 3600.0)), (Concurrency(1),)],
)
def test_the_longest_go_first(limits: tuple[Limit, ...]) -> None:
    """Where one limit of the fleet decides; of those that last as long, the one listed first."""
    assert longest_first([10.0, 40.0, 30.0, 40.0, 20.0], *limits) == [1, 3, 2, 4, 0]


def test_the_longest_of_each_value_go_first() -> None:
    """Who has most left goes first, in seconds; within a value its longest does."""
    expected = [50.0, 90.0, 70.0, 300.0, 10.0]
    found = longest_first(expected, Concurrency(5), Concurrency(1, "project"), projects="aaabb")
    # b has 310 s left, then 10; a has 210, then 120, then 50.
    assert found == [3, 1, 2, 0, 4]


def test_long_and_short_take_turns_where_slots_and_a_rate_are_as_tight() -> None:
    """Any ten in a row last as long together as any other ten, and only the last are sorted."""
    luck = random.Random(1)
    expected = [luck.uniform(100.0, 500.0) for _ in range(400)]
    found = longest_first(expected, Concurrency(10), Rate(20, 600.0))
    spans = [expected[position] for position in found]
    tens = [sum(spans[first : first + 10]) for first in range(0, 370, 10)]
    assert max(tens) < 1.2 * min(tens)
    last = spans[-10:]
    assert last == sorted(last, reverse=True)
    assert last[-1] < 150.0


def test_values_that_are_as_good_as_done_leave_the_fleet_its_turns() -> None:
    """A limit of projects that hold two clusters each does not sort the fleet by duration."""
    luck = random.Random(1)
    expected = [luck.uniform(100.0, 500.0) for _ in range(400)]
    fleet = [Target(project_id=f"p{n // 2}", cluster_id=f"c{n}") for n in range(400)]
    limits = (Concurrency(10), Concurrency(2, "project"), Rate(20, 600.0))
    found = order(fleet, Order.SPREAD, *limits, expected=expected)
    first, second = (sum(expected[p] for p in half) for half in (found[:200], found[200:]))
    assert first == pytest.approx(second, rel=0.1)


LIMITS: st.SearchStrategy[list[Limit]] = st.lists(
    st.one_of(
        st.builds(Concurrency, st.integers(1, 9), st.sampled_from(["fleet", "project", "az"])),
        st.builds(
            Rate,
            st.integers(1, 9),
            st.sampled_from([60.0, 600.0]),
            st.sampled_from(["fleet", "project", "az"]),
        ),
    ),
    max_size=4,
)


@given(st.text("abc", min_size=1, max_size=30), LIMITS, st.floats(1.0, 1e4), st.integers(0, 99))
def test_where_all_last_the_same_durations_change_nothing(
    projects: str, limits: list[Limit], each: float, seed: int
) -> None:
    """However long that is: the order is that of the numbers of restarts that are left."""
    luck = random.Random(seed)
    fleet = targets(projects, "".join(luck.choices("xy", k=len(projects))))
    found = order(fleet, Order.SPREAD, *limits, expected=[each] * len(fleet))
    if all(limit.scope == "fleet" for limit in limits):
        assert found == list(range(len(fleet)))
    for value in {(one.project_id, one.labels) for one in fleet}:
        mine = [p for p in found if (fleet[p].project_id, fleet[p].labels) == value]
        assert mine == sorted(mine)


@given(LIMITS, st.lists(st.sampled_from([30.0, 60.0, 61.0, 300.0, 3000.0]), min_size=1))
def test_durations_lose_nobody(limits: list[Limit], expected: list[float]) -> None:
    """Whatever is expected, every target has one place, and it is the same when asked again."""
    luck = random.Random(len(expected))
    fleet = targets("".join(luck.choices("abc", k=len(expected))), "xy" * len(expected))
    found = order(fleet, Order.SPREAD, *limits, expected=expected)
    assert sorted(found) == list(range(len(fleet)))
    assert found == order(fleet, Order.SPREAD, *limits, expected=expected)


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
    expected = [luck.lognormvariate(5.0, 0.5) for _ in fleet]
    assert len(order(fleet, Order.SPREAD, *limits, expected=expected)) == 50_000
