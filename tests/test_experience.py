"""What restarts of the past say of the next ones: of each cluster, and of strangers."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.experience import NEWEST, Habit, count_known, expected_seconds, learn
from orchestrator.model import AUTO, Kind, Target


@dataclass(frozen=True)
class Past:
    """A restart as a journal has it."""

    cluster_id: str
    whole: float
    kind: str = "restart"
    project_id: str = "p"

    @property
    def ready(self) -> float:
        return self.whole - 20.0


def target(cluster_id: str, kind: str = "restart") -> Target:
    return Target(project_id="p", cluster_id=cluster_id, kind=Kind.parse(kind))


def expected(past: Sequence[Past], *targets: Target) -> list[float]:
    return expected_seconds(targets, learn(past), 300.0)


def repeated(clusters: int, between: float, within: float, times: int = 3) -> list[Past]:
    """Clusters whose middles differ so far (sigma), and their restarts from one to the next."""
    luck = random.Random(1)
    middles = [300.0 * math.exp(luck.gauss(0.0, between)) for _ in range(clusters)]
    return [
        Past(f"c{number}", middle * math.exp(luck.gauss(0.0, within)))
        for number, middle in enumerate(middles)
        for _ in range(times)
    ]


def test_of_what_was_never_seen_the_operator_knows_best() -> None:
    """Without a past a restart lasts as expected, a rolling one for each of its nodes."""
    assert expected([], target("a"), target("b", "rolling")) == [300.0, 900.0]


def test_a_kind_speaks_for_strangers() -> None:
    """A cluster without a past lasts as its kind does on average, whatever other kinds do."""
    past = [*(Past(f"c{n}", 100.0) for n in range(9)), Past("slow", 900.0, "rolling")]
    known, rolling, reboot = expected(
        past, target("new"), target("new", "rolling"), target("new", "reboot")
    )
    assert known == pytest.approx(100.0)
    assert rolling == pytest.approx(900.0)
    assert reboot == 300.0


def test_a_past_of_its_own_counts_but_not_alone() -> None:
    """One restart moves what is expected of a cluster towards it, others further, never beyond."""
    others = [Past(f"c{n}", 200.0 + 10 * n) for n in range(30)]
    once, thrice = (
        expected([*[Past("slow", 1200.0)] * times, *others], target("slow"), target("new"))
        for times in (1, 3)
    )
    assert once[1] < once[0] < thrice[0] < 1200.0


def test_what_a_cluster_does_again_and_again_counts_for_more() -> None:
    """Where clusters repeat themselves their past says nearly all; where not, next to nothing."""
    faithful, fickle = (
        expected([*repeated(50, *sigmas), Past("slow", 1200.0)], target("slow"))[0]
        for sigmas in ((0.8, 0.1), (0.1, 0.8))
    )
    assert 1000.0 < faithful < 1300.0
    assert 300.0 < fickle < 600.0


def test_the_newest_restarts_count() -> None:
    """A cluster that has grown is known by what it does now."""
    past = [*[Past("grown", 900.0)] * NEWEST, *[Past("grown", 100.0)] * 20, *repeated(20, 0.5, 0.2)]
    assert learn(past)["restart"].whole_of["p", "grown"] == (900.0,) * NEWEST
    assert expected(past, target("grown"))[0] > 600.0


def test_one_odd_restart_says_little() -> None:
    """A cluster that once took an hour and else five minutes is not expected to take long."""
    odd = [Past("odd", seconds) for seconds in (300.0, 3600.0, 310.0, 290.0, 305.0)]
    assert expected([*repeated(40, 0.5, 0.2), *odd], target("odd"))[0] < 400.0


def test_another_kind_of_restart_is_another_past() -> None:
    """What a cluster's rolling restart lasted says nothing of a restart of all of it."""
    past = [Past("a", 2000.0, "rolling"), *(Past(f"c{n}", 100.0) for n in range(5))]
    assert expected(past, target("a"))[0] == pytest.approx(100.0)


def test_a_kind_to_be_chosen_has_the_past_of_what_it_may_become() -> None:
    """A Logstash cluster with kind auto is known by its reboots; a stranger by plain restarts."""
    past = [Past("log", 50.0, "reboot"), *(Past(f"c{n}", 200.0) for n in range(5))]
    known = learn(past)
    auto = [replace(target(cluster), kind=AUTO) for cluster in ("log", "c1", "new")]
    assert expected_seconds(auto, known, 300.0) == pytest.approx([50.0, 200.0, 200.0])
    assert count_known(auto, known) == 2


@given(st.lists(st.floats(0.0, 1e5), min_size=1, max_size=30), st.lists(st.floats(0.0, 1e5)))
def test_any_past_gives_something_to_go_by(spans: list[float], own: list[float]) -> None:
    """Whatever was seen, some seconds are expected, and a stranger's are never surer."""
    habit = Habit([*spans, *own], [own])
    outlook = habit.outlook(own)
    assert 0.0 < outlook.middle < math.inf
    assert 0.0 < outlook.expected < math.inf
    assert 0.0 <= outlook.share <= 1.0


@given(st.integers(0, 99), st.sampled_from([0.1, 0.25, 0.5]))
def test_all_that_is_expected_adds_up(seed: int, within: float) -> None:
    """Over many clusters, what is expected of each comes to what they lasted on average."""
    luck = random.Random(seed)
    middles = [300.0 * math.exp(luck.gauss(0.0, 0.5)) for _ in range(400)]
    runs = [[m * math.exp(luck.gauss(0.0, within)) for m in middles] for _ in range(3)]
    past = [Past(f"c{n}", span) for run in runs for n, span in enumerate(run)]
    found = expected(past, *(target(f"c{n}") for n in range(400)))
    assert sum(found) == pytest.approx(sum(one.whole for one in past) / 3, rel=0.05)
