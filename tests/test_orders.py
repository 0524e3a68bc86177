"""What a run makes of orders: each is obeyed once, or refused in words."""

from typing import Any

import pytest

from orchestrator.limits import Concurrency, Limit, Rate, Unavailable
from orchestrator.model import (
    Event,
    LimitsChanged,
    OrderRefused,
    RunAborted,
    RunContinued,
    RunFinished,
    RunnerStarted,
    RunPaused,
    RunResumed,
    RunStopping,
    WindowChanged,
)
from orchestrator.orders import (
    Bound,
    NewBound,
    NewLimits,
    Order,
    OrderKind,
    Standing,
    order_of,
)
from orchestrator.plan import Policy, Portion, Window

POLICY = Policy(
    limits=(Concurrency(10), Rate(20, 600.0), Rate(5, 600.0, "project")),
    max_unavailable=(Unavailable(3),),
    window=Window(cutoff=500.0, deadline=1000.0),
)
PAUSED = RunPaused(at=1.0, by="ana", reason="lunch")
STOPPING = RunStopping(at=1.0, by="ana", reason="drained by ana")


def order(
    kind: OrderKind, *, reason: str | None = None, wanted: NewLimits | None = None, number: int = 7
) -> Order:
    return Order(at=5.0, by="ben", kind=kind, reason=reason, wanted=wanted, number=number)


def obeyed(asked: Order, *history: Event) -> list[Event]:
    return list(Standing.after(POLICY, history).obey(asked, 100, 9.0))


def limited(*history: Event, **wanted: Any) -> Event:
    new = NewLimits(**wanted)
    [event] = obeyed(order(OrderKind.LIMIT, wanted=new), *history)
    return event


def test_each_order_becomes_events_with_its_number() -> None:
    """What is asked happens, by whom and why it was asked, under the number of the order."""
    assert obeyed(order(OrderKind.PAUSE, reason="alarm")) == [
        RunPaused(at=9.0, by="ben", reason="alarm", order=7)
    ]
    assert obeyed(order(OrderKind.CONTINUE), PAUSED) == [RunContinued(at=9.0, by="ben", order=7)]
    [drained] = obeyed(order(OrderKind.DRAIN, reason="alarm"))
    assert drained == RunStopping(at=9.0, by="ben", reason="drained by ben: alarm", order=7)


def test_an_abort_stops_what_is_not_stopping_yet() -> None:
    """The reason of an abort is that of the stop; a run that stops already only stops following."""
    first, second = obeyed(order(OrderKind.ABORT, reason="fire"))
    assert first == RunStopping(at=9.0, by="ben", reason="aborted by ben: fire", order=7)
    assert second == RunAborted(at=9.0, by="ben", reason="fire", order=7)
    assert obeyed(order(OrderKind.ABORT), STOPPING) == [RunAborted(at=9.0, by="ben", order=7)]


@pytest.mark.parametrize(
    ("asked", "history", "words"),
    [
        (OrderKind.CONTINUE, (), "not paused"),
        (OrderKind.CONTINUE, (PAUSED, RunContinued(at=2.0, by="ana")), "not paused"),
        (OrderKind.PAUSE, (STOPPING,), "stopping already: drained by ana"),
        (OrderKind.DRAIN, (STOPPING,), "stopping already"),
        (OrderKind.ABORT, (STOPPING, RunAborted(at=2.0, by="ana")), "aborted already"),
    ],
)
def test_what_makes_no_sense_is_refused(
    asked: OrderKind, history: tuple[Event, ...], words: str
) -> None:
    """An order that the run cannot obey as it stands is refused in words, and still counted."""
    [refused] = obeyed(order(asked), *history)
    assert isinstance(refused, OrderRefused)
    assert words in refused.reason
    assert refused.order == 7


def test_an_order_that_came_too_late_is_not_obeyed_by_the_next_runner() -> None:
    """Who was told that the run was over must not find the order obeyed when it goes on."""
    over = RunFinished(at=3.0, outcome="stopped", exit_code=3)
    wanted = NewLimits(limits=(Concurrency(50),), loosen=True)
    [refused] = obeyed(order(OrderKind.LIMIT, wanted=wanted), STOPPING, over)
    assert isinstance(refused, OrderRefused)
    assert "was over" in refused.reason
    again = RunnerStarted(at=4.0, owner="a", host="b", pid=1, wall_offset=0.0, version="1")
    resumed = RunResumed(at=4.0, by="ana")
    [changed] = obeyed(order(OrderKind.LIMIT, wanted=wanted), STOPPING, over, resumed, again)
    assert isinstance(changed, LimitsChanged)


def test_a_second_pause_is_the_one_that_counts() -> None:
    """Whoever pauses a paused run is named from then on."""
    standing = Standing.after(POLICY, [PAUSED])
    for event in standing.obey(order(OrderKind.PAUSE, reason="still"), 100, 9.0):
        standing.take(event)
    assert standing.paused is not None
    assert standing.paused.describe() == "paused by ben: still"


def test_a_resume_forgets_pause_and_stop() -> None:
    """Whoever takes a run up again has the last word."""
    history = [PAUSED, STOPPING, RunAborted(at=2.0, by="ana"), RunResumed(at=3.0, by="ben")]
    standing = Standing.after(POLICY, history)
    assert (standing.paused, standing.stopping, standing.aborted) == (None, None, False)


def test_only_what_is_named_changes() -> None:
    """A limit takes the place of the one of its kind and scope; the others stay."""
    event = limited(limits=(Rate(3, 60.0, "project"),), loosen=True)
    assert isinstance(event, LimitsChanged)
    assert event.limits == ("10", "20/600s", "project=3/60s")
    assert event.max_failures == "0"
    narrower: tuple[Limit, ...] = (Concurrency(3), Concurrency(1, "az"))
    event = limited(limits=narrower, max_failures=Portion(0))
    assert isinstance(event, LimitsChanged)
    assert event.limits == ("3", "20/600s", "project=5/600s", "az=1")
    assert not event.is_looser


HOUR, DAY = Rate(60, 3600.0), Rate(500, 86_400.0)
TEN, AZ = Rate(20, 600.0), Rate(5, 600.0, "az")


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        ([Rate(5, 600.0)], [Rate(5, 600.0), HOUR, AZ]),
        ([Rate(5, 600.0), Rate(9, 60.0)], [Rate(5, 600.0), Rate(9, 60.0), AZ]),
        ([Rate(9, 60.0)], [Rate(9, 60.0), AZ]),
        ([TEN, HOUR, DAY], [TEN, HOUR, AZ, DAY]),
        ([Rate(2, 60.0, "az")], [TEN, HOUR, Rate(2, 60.0, "az")]),
        ([Rate(2, 60.0, "region")], [TEN, HOUR, AZ, Rate(2, 60.0, "region")]),
    ],
)
def test_a_rate_is_named_by_scope_and_interval(wanted: list[Rate], kept: list[Rate]) -> None:
    """No rate is dropped beside which one of its scope was named, but by one of a new interval."""
    policy = Policy(limits=(TEN, Concurrency(3), HOUR, AZ))
    new = NewLimits(limits=tuple(wanted)).of(policy).limits
    assert [limit for limit in new if isinstance(limit, Rate)] == kept
    assert Concurrency(3) in new


def test_none_spares_what_is_named_beside_it() -> None:
    """`none` takes away all of a kind but what is given with it, in one step."""
    policy = Policy(limits=(Concurrency(3), TEN, AZ), max_unavailable=(Unavailable(2),))
    wanted = NewLimits(
        limits=(HOUR,), no_rates=True, max_unavailable=(Unavailable(1, "az"),), no_unavailable=True
    )
    new = wanted.of(policy)
    assert new.limits == (Concurrency(3), HOUR)
    assert new.max_unavailable == (Unavailable(1, "az"),)


@pytest.mark.parametrize(
    "wanted",
    [
        {"limits": (Concurrency(11),)},
        {"limits": (Rate(20, 599.0),)},
        {"no_rates": True},
        {"max_failures": Portion(1, is_percent=True)},
        {"max_unavailable": (Unavailable(4),)},
        {"no_unavailable": True},
        {"window": (NewBound(bound=Bound.CUTOFF, at=501.0),)},
        {"window": (NewBound(bound=Bound.DEADLINE),)},
    ],
)
def test_wider_limits_have_to_be_meant(wanted: dict[str, Any]) -> None:
    """Whatever allows more is refused, unless it is said to be meant; then it is recorded."""
    refused = limited(**wanted)
    assert isinstance(refused, OrderRefused)
    assert "--loosen" in refused.reason
    event = limited(loosen=True, **wanted)
    assert isinstance(event, LimitsChanged | WindowChanged)
    assert event.is_looser


def test_a_wider_limit_is_named() -> None:
    """Whoever would loosen something reads what, as it holds now."""
    refused = limited(limits=(Rate(50, 60.0),), window=(NewBound(bound=Bound.DEADLINE),))
    assert isinstance(refused, OrderRefused)
    assert refused.reason == (
        "that allows more than what holds now: 20/600s, done by 1970-01-01T00:16:40Z; "
        "give --loosen too if it is meant, it is recorded"
    )


def test_a_window_is_an_event_of_its_own() -> None:
    """Limits and window of one order are two events with its number; a window alone is one."""
    cutoff = NewBound(bound=Bound.CUTOFF, at=400.0)
    wanted = NewLimits(
        limits=(Concurrency(3),), max_unavailable=(Unavailable(2),), window=(cutoff,)
    )
    limits, window = obeyed(order(OrderKind.LIMIT, wanted=wanted, reason="late"))
    assert isinstance(limits, LimitsChanged)
    assert limits.max_unavailable == ("2",)
    assert window == WindowChanged(
        at=9.0, by="ben", cutoff=400.0, deadline=1000.0, reason="late", order=7
    )
    assert [order_of(event) for event in (limits, window)] == [7, 7]
    assert limited(window=(cutoff,)).kind == "window.changed"
    standing = Standing.after(POLICY, [limits, window])
    assert standing.policy.max_unavailable == (Unavailable(2),)
    assert standing.policy.window == Window(cutoff=400.0, deadline=1000.0)


def test_a_window_that_is_over_is_nobodys_any_more() -> None:
    """A bound that has passed, and the window of a run that has stopped, may be moved freely."""
    later = NewLimits(window=(NewBound(bound=Bound.CUTOFF, at=2000.0),))
    begun = RunnerStarted(at=1.0, owner="a", host="b", pid=1, wall_offset=100.0, version="1")
    standing = Standing.after(POLICY, [begun])
    assert standing.objection_to(later, 100, 399.0) is not None
    assert standing.objection_to(later, 100, 400.0) is None
    [changed] = standing.changes(later, 100, at=400.0, by="ana")
    assert isinstance(changed, WindowChanged)
    assert not changed.is_looser
    standing.take(STOPPING)
    assert standing.objection_to(later, 100, 1.0) is None


def test_a_window_without_a_moment_is_refused() -> None:
    """A window that ends before it begins would let nothing start."""
    refused = limited(window=(NewBound(bound=Bound.NOT_BEFORE, at=1500.0),))
    assert isinstance(refused, OrderRefused)
    assert "nothing could start in this window: not before 1970" in refused.reason


def test_other_limits_do_not_save_a_run_that_stops() -> None:
    """Who moves the deadline of a run that stops for it is told that it is too late for that."""
    wanted = NewLimits(window=(NewBound(bound=Bound.DEADLINE),), loosen=True)
    [refused] = obeyed(order(OrderKind.LIMIT, wanted=wanted), STOPPING)
    assert isinstance(refused, OrderRefused)
    assert "stopping already: drained by ana; nothing more starts" in refused.reason


def test_limits_are_compared_with_those_of_now() -> None:
    """What an earlier order changed is what a later one is measured by."""
    changed = LimitsChanged(
        at=2.0, limits=("3",), max_failures="0", by="ana", is_looser=False, order=1
    )
    assert isinstance(limited(changed, limits=(Concurrency(4),)), OrderRefused)
    assert isinstance(limited(changed, limits=(Concurrency(2),)), LimitsChanged)


def test_orders_are_obeyed_one_after_the_other() -> None:
    """Each order meets the run as the one before left it; the last number is remembered."""
    standing = Standing(POLICY)
    asked = [
        order(OrderKind.PAUSE, number=1),
        order(OrderKind.CONTINUE, number=2),
        order(OrderKind.CONTINUE, number=3),
        order(OrderKind.DRAIN, number=4),
    ]
    events = standing.obey_all(asked, 100, 9.0)
    assert [event.kind for event in events] == [
        "run.paused", "run.continued", "order.refused", "run.stopping",
    ]  # fmt: skip
    assert [order_of(event) for event in events] == [1, 2, 3, 4]
    assert standing.last_order == 4
    other = RunnerStarted(at=1.0, owner="a", host="b", pid=1, wall_offset=0.0, version="1")
    assert order_of(other) is None
