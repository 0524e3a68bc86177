"""Limits: what is said, what a gate holds, and what all starts together leave room for."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.limits import (
    GUARD,
    Concurrency,
    Gate,
    Limit,
    Limits,
    Rate,
    Start,
    StartChange,
    change_of,
    counts_within,
    most_within,
    scope_value,
)
from orchestrator.model import (
    Answer,
    ClusterState,
    Event,
    Outcome,
    RestartAnswered,
    RestartBegan,
    RestartDisproved,
    RestartRequested,
    RestartSettling,
    RestartWithdrawn,
    Target,
    TargetEnded,
    Verdict,
)


def start(target: int = 0, *, granted_at: float = 0.0, project: str = "p", **rest: object) -> Start:
    labels = rest.pop("labels", ())
    assert isinstance(labels, tuple)
    row = Start(
        run_id="run",
        target=target,
        attempt=1,
        project_id=project,
        cluster_id=f"c{target}",
        region=None,
        labels=labels,
        granted_at=granted_at,
    )
    return row.after(StartChange(**rest))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("typed", "printed"),
    [
        ("20/10m", "20/600s"),
        ("project=5/10m", "project=5/600s"),
        (" az = 1 / 1h30m ", "az=1/5400s"),
        ("3/100ms", "3/0.1s"),
        ("10/m", "10/60s"),
    ],
)
def test_a_rate_is_printed_in_one_form(typed: str, printed: str) -> None:
    """Whatever was typed, a rate is printed in seconds, and what is printed reads the same."""
    assert str(Rate.parse(typed)) == printed
    assert Rate.parse(printed) == Rate.parse(typed)


@pytest.mark.parametrize(
    "typed", ["", "20", "x/10m", "0/10m", "5/0s", "5/soon", "a b=5/1m", "-1/1m"]
)
def test_a_rate_that_cannot_be_is_refused(typed: str) -> None:
    """A rate without number, interval or a proper scope is an error with words."""
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        Rate.parse(typed)


@pytest.mark.parametrize("typed", ["", "ten", "project=", "0", "project=0", "=3"])
def test_a_concurrency_that_cannot_be_is_refused(typed: str) -> None:
    """A concurrency limit is a number above nought, with or without a scope."""
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        Concurrency.parse(typed)


def test_scopes_tell_targets_apart() -> None:
    """A scope is the fleet, the project, the region, or any label; missing labels count as one."""
    target = Target(project_id="p", cluster_id="c", region="r", labels=(("az", "1"),))
    assert [scope_value(target, s) for s in ("fleet", "project", "region", "az", "tier")] == [
        "", "p", "r", "1", "",
    ]  # fmt: skip


def test_a_gate_frees_by_time_and_by_word() -> None:
    """A place is held until somebody says when it ends; then time frees it."""
    gate = Gate(Concurrency(2), "")
    gate.take()
    gate.take()
    assert not gate.has_room(0)
    assert gate.frees_at(0) == math.inf
    gate.end(10)
    assert gate.frees_at(0) == 10
    assert not gate.has_room(9.9)
    assert gate.has_room(10)
    gate.give_back()
    assert gate.taken(10) == 0


def test_a_gate_that_shrank_waits_for_several() -> None:
    """When fewer are allowed than are taken, room comes only when enough of them have ended."""
    gate = Gate(Concurrency(5), "")
    for at in (1, 2, 3, 4, 5):
        gate.take()
        gate.end(at)
    gate.most = 2
    assert gate.frees_at(0) == 4


def test_a_rate_holds_from_the_grant_until_after_the_answer() -> None:
    """The place in a rate is taken at the grant and free only T and the guard after the answer."""
    limits = Limits([Rate(1, 10.0)])
    gate = limits.fleet_gates()[0]
    limits.note(start(granted_at=0), 0)
    assert gate.frees_at(1000) == math.inf
    limits.note(start(granted_at=0, settled_at=7.0), 7)
    assert gate.frees_at(7) == 17 + GUARD


def test_a_returned_start_counts_nowhere() -> None:
    """A refusal gives back what the grant took, in every limit."""
    limits = Limits([Rate(1, 10.0), Concurrency(1)])
    limits.note(start(), 0)
    assert not any(gate.has_room(0) for gate in limits.fleet_gates())
    limits.note(start(returned=True), 1)
    assert all(gate.has_room(1) for gate in limits.fleet_gates())


def test_an_end_that_lies_ahead_can_be_brought_forward() -> None:
    """An unknown keeps its slot until its deadline, unless somebody says earlier what happened."""
    limits = Limits([Concurrency(1)])
    (gate,) = limits.fleet_gates()
    limits.note(start(settled_at=1.0, ended_at=100.0), 1)
    assert gate.frees_at(1) == 100
    limits.note(start(settled_at=1.0, ended_at=5.0), 2)
    assert gate.frees_at(2) == 5


def test_old_news_of_others_takes_nothing() -> None:
    """A start that is over in every limit is not counted when it is first heard of."""
    limits = Limits([Concurrency(1), Rate(1, 5.0)])
    limits.note(start(settled_at=1.0, ended_at=2.0), 100)
    assert all(gate.has_room(100) for gate in limits.fleet_gates())


STATE = ClusterState(status="200")


def _answer(verdict: Verdict) -> Event:
    answer = Answer(verdict=verdict, sent_at=1, answered_at=2)
    return RestartAnswered(at=3, target=0, attempt=1, answer=answer)


@pytest.mark.parametrize(
    ("event", "change"),
    [
        (RestartRequested(at=1, target=0, attempt=1, request_id="", baseline=STATE), None),
        (_answer(Verdict.LOST), None),
        (_answer(Verdict.ACCEPTED), StartChange(settled_at=3)),
        *((_answer(v), StartChange(returned=True)) for v in Verdict if v.gives_back),
        (RestartWithdrawn(at=3, target=0, attempt=1, reason=""), StartChange(returned=True)),
        (RestartBegan(at=3, target=0, seen=""), StartChange(settled_at=3)),
        (RestartSettling(at=3, target=0), None),
        (RestartDisproved(at=3, target=0, attempt=1), StartChange(settled_at=3, ended_at=3)),
        (
            TargetEnded(at=3, target=0, outcome=Outcome.UNKNOWN, slot_until=9),
            StartChange(settled_at=3, ended_at=9),
        ),
        (
            TargetEnded(at=3, target=0, outcome=Outcome.FAILED),
            StartChange(settled_at=3, ended_at=3),
        ),
    ],
)
def test_what_an_event_means_for_the_ledger(event: Event, change: StartChange | None) -> None:
    """Only what proves that a call is over settles it; only an outcome frees its slot."""
    assert change_of(event) == change


# ------------------------------------------------------------------ against a naive oracle

LIMITS: tuple[Limit, ...] = (
    Concurrency(3),
    Concurrency(2, "project"),
    Rate(4, 10.0),
    Rate(2, 7.0, "az"),
)


def naive_room(limit: Limit, value: str, starts: list[Start], now: float) -> bool:
    """Count by the words of the contract, start by start."""
    counted = 0
    for one in starts:
        if one.returned or scope_value(one, limit.scope) != value:
            continue
        if isinstance(limit, Concurrency):
            counted += one.ended_at is None or one.ended_at > now
        else:
            counted += one.settled_at is None or one.settled_at + limit.per + GUARD > now
    return counted < limit.most


def step(row: Start | None, number: int, what: str, now: float) -> Start:
    """Return what becomes of a row of the ledger, as far as that can happen to it."""
    if row is None:
        labels = (("az", str(number % 3)),)
        return start(number, granted_at=now, project=f"p{number % 2}", labels=labels)
    if row.returned or (what == "return" and row.settled_at is not None):
        return row
    changes = {
        "settle": StartChange(settled_at=now),
        "end": StartChange(settled_at=now, ended_at=now),
        "late": StartChange(settled_at=now, ended_at=now + 20),
        "return": StartChange(returned=True),
    }
    return row.after(changes[what]) if what in changes else row


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.sampled_from(["start", "settle", "end", "return", "late"]),
            st.floats(0, 5),
        ),
        max_size=60,
    )
)
def test_gates_agree_with_counting_by_hand(steps: list[tuple[int, str, float]]) -> None:
    """After any history of starts, every gate has room exactly when counting by hand says so."""
    limits = Limits(LIMITS)
    rows: dict[int, Start] = {}
    now = 0.0
    for number, what, wait in steps:
        now += wait
        row = rows[number] = step(rows.get(number), number, what, now)
        limits.note(row, now)
        for gate in limits.all_gates():
            for later in (now, now + 3.0, now + 12.0):
                expected = naive_room(gate.limit, gate.value, list(rows.values()), later)
                if later == now:
                    assert gate.has_room(now) == expected
                elif expected:
                    assert gate.frees_at(now) <= later


@given(
    st.lists(st.integers(0, 400).map(lambda n: n / 4), max_size=40).map(sorted),
    st.integers(1, 80).map(lambda n: n / 4),
)
def test_what_lies_within_a_span_agrees_with_a_naive_count(
    moments: list[float], span: float
) -> None:
    """The sliding window finds what counting from every moment finds."""
    naive = max((sum(at <= one <= at + span for one in moments) for at in moments), default=0)
    assert most_within(moments, span) == naive
    until = [
        sum(at - span <= one <= at for one in moments[: n + 1]) for n, at in enumerate(moments)
    ]
    assert list(counts_within(moments, span)) == until
