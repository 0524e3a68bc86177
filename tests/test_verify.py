"""Verifying: what a journal shows of the promises, against counts that are slower still."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.limits import Concurrency, Limit, Rate, Start, change_of, scope_value, start_of
from orchestrator.model import (
    Answer,
    AnswerArrivedLate,
    ClusterState,
    Event,
    LimitsChanged,
    Outcome,
    RestartAnswered,
    RestartBegan,
    RestartDisproved,
    RestartRequested,
    RestartSettling,
    RestartUnsettled,
    RestartWithdrawn,
    RunAborted,
    RunFinished,
    RunnerStarted,
    RunResumed,
    RunStopping,
    Target,
    TargetEnded,
    TargetEvent,
    TargetRelapsed,
    TargetResolved,
    Verdict,
    WaveOpened,
)
from orchestrator.plan import Plan, Policy, Portion, make_plan
from orchestrator.simulator import invent_targets
from orchestrator.verify import Findings, LimitFinding, verify
from tests.stories.night import Night

RUN = "2026-11-23-7k3f"
OTHER = "2026-11-23-aaaa"
READY = ClusterState(status="200", instances=(("n1", "200"),))
WIDE = (Concurrency(100), Rate(100, 1.0))


def fleet(size: int, **policy: Any) -> Plan:
    targets = [
        Target(project_id=f"p{n % 2}", cluster_id=f"c{n}", labels=(("az", str(n % 3)),))
        for n in range(size)
    ]
    policy.setdefault("limits", WIDE)
    policy.setdefault("max_failures", Portion(99))
    return make_plan(targets, Policy(**policy))


def started(at: float = 0.0) -> RunnerStarted:
    return RunnerStarted(at=at, owner="ana", host="b", pid=7, wall_offset=0.0, version="0")


def requested(at: float, target: int = 0, attempt: int = 1) -> RestartRequested:
    return RestartRequested(
        at=at, target=target, attempt=attempt, request_id=f"r{target}-{attempt}", baseline=READY
    )


def answered(
    at: float, target: int = 0, attempt: int = 1, verdict: Verdict = Verdict.ACCEPTED, *jobs: str
) -> RestartAnswered:
    answer = Answer(verdict=verdict, sent_at=at, answered_at=at, job_ids=jobs)
    return RestartAnswered(at=at, target=target, attempt=attempt, answer=answer)


def late(
    at: float, target: int = 0, attempt: int = 1, verdict: Verdict = Verdict.ACCEPTED
) -> AnswerArrivedLate:
    event = answered(at, target, attempt, verdict)
    return AnswerArrivedLate(at=at, target=target, attempt=attempt, answer=event.answer)


def lost(at: float, target: int = 0, attempt: int = 1) -> RestartAnswered:
    return answered(at, target, attempt, Verdict.LOST)


def disproved(at: float, target: int = 0, attempt: int = 1) -> RestartDisproved:
    return RestartDisproved(at=at, target=target, attempt=attempt)


def withdrawn(at: float, target: int = 0, attempt: int = 1) -> RestartWithdrawn:
    return RestartWithdrawn(at=at, target=target, attempt=attempt, reason="too old")


def began(at: float, target: int = 0) -> RestartBegan:
    return RestartBegan(at=at, target=target, seen="status 100")


def settling(at: float, target: int = 0) -> RestartSettling:
    return RestartSettling(at=at, target=target)


def ended(
    at: float, target: int = 0, outcome: Outcome = Outcome.RESTARTED, **more: Any
) -> TargetEnded:
    return TargetEnded(at=at, target=target, outcome=outcome, **more)


def relapsed(at: float, target: int = 0) -> TargetRelapsed:
    return TargetRelapsed(at=at, target=target, reason="went bad")


def resolved(at: float, target: int, outcome: Outcome) -> TargetResolved:
    return TargetResolved(at=at, target=target, outcome=outcome, by="ana")


def resumed(at: float, *again: Outcome) -> RunResumed:
    return RunResumed(at=at, by="ana", again=again)


def changed(at: float, *limits: str, max_failures: str = "99") -> LimitsChanged:
    return LimitsChanged(at=at, limits=limits, max_failures=max_failures, by="ana", is_looser=False)


def finished(at: float, outcome: str = "completed", exit_code: int = 0) -> RunFinished:
    return RunFinished(at=at, outcome=outcome, exit_code=exit_code)


def restarted(at: float, target: int = 0, attempt: int = 1) -> list[Event]:
    return [
        requested(at, target, attempt),
        answered(at + 1, target, attempt),
        began(at + 2, target),
        settling(at + 10, target),
        ended(at + 30, target),
    ]


def ledger_of(plan: Plan, events: Sequence[Event]) -> list[Start]:
    """Return the rows that a store keeps of these events: each change is of the latest start."""
    rows: dict[tuple[int, int], Start] = {}
    latest: dict[int, tuple[int, int]] = {}
    for event in events:
        if isinstance(event, RestartRequested):
            key = latest[event.target] = (event.target, event.attempt)
            rows[key] = start_of(event, RUN, plan.targets[event.target])
        elif isinstance(event, TargetEvent) and event.target in latest:
            change = change_of(event)
            if change is not None:
                key = latest[event.target]
                rows[key] = rows[key].after(change)
    return list(rows.values())


def verified(plan: Plan, *events: Event, others: Sequence[Start] = ()) -> Findings:
    return verify(RUN, plan, events, [*others, *ledger_of(plan, events)])


def other(target: int, granted_at: float, cluster: str | None = None, **rest: Any) -> Start:
    rest = {"region": None, "labels": (("az", str(target % 3)),), **rest}
    return Start(
        run_id=OTHER,
        target=target,
        attempt=1,
        project_id=f"p{target % 2}",
        cluster_id=cluster or f"other-{target}",
        granted_at=granted_at,
        **rest,
    )


def only_limit(findings: Findings, limit: str, value: str = "") -> LimitFinding:
    (found,) = [one for one in findings.limits if (one.limit, one.value) == (limit, value)]
    return found


# -------------------------------------------------------------------------------- kept promises


def test_a_run_that_went_well() -> None:
    """A run within its limits, each target asked once and seen through, kept every promise."""
    plan = fleet(2, limits=(Concurrency(1), Rate(2, 60.0), Concurrency(1, "project")))
    events = [
        WaveOpened(at=0, wave=0), *restarted(1), *restarted(31, 1), finished(70),
    ]  # fmt: skip
    findings = verified(plan, started(), *events)
    assert findings.broken == findings.notes == ()
    assert findings.is_kept
    assert (findings.targets, findings.starts) == (2, 2)
    assert [(one.limit, one.value, one.most, one.allowed) for one in findings.limits] == [
        ("1", "", 1, 1),
        ("2/60s", "", 2, 2),
        ("project=1", "p0", 1, 1),
        ("project=1", "p1", 1, 1),
    ]


def test_events_of_which_nothing_was_promised() -> None:
    """Other events, of the run or of a target, change nothing."""
    assert verified(fleet(1), WaveOpened(at=0, wave=0), TargetEvent(at=1, target=0)).is_kept


def test_a_run_that_did_nothing() -> None:
    """A run without any event breaks nothing, and shows the limits of the fleet."""
    findings = verified(fleet(1, limits=(Concurrency(3), Rate(2, 60.0, "az"))))
    assert findings.is_kept
    assert [(one.limit, one.most, one.is_broken) for one in findings.limits] == [("3", 0, False)]


TROUBLES = """
[latency]
before = ["0ms", "400ms"]
after = ["0ms", "400ms"]
[restart]
duration = ["30s", "3m"]
[faults]
refused = 0.05
throttled = 0.1
error_502_before = 0.1
hang_before = 0.1
reset_after = 0.1
[[cluster]]
match = "*-0007"
restart = {end = "failed"}
[[cluster]]
match = "*-0011"
state = {initial = "busy"}
"""


def night(
    count: int = 40, seed: int = 1, limits: tuple[Limit, ...] = ()
) -> tuple[Plan, list[Event]]:
    """Play a night of troubles with the real engine, and return its plan and history."""
    limits = limits or (Concurrency(7), Rate(9, 120.0), Concurrency(3, "project"))
    policy = {"limits": limits, "max_failures": Portion(count)}
    targets = invent_targets(count, 3, seed)
    morning = Night(targets=targets, scenario=TROUBLES, seed=seed, policy=policy).run()
    return morning.plan, list(morning.events)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_what_the_engine_does_is_found_to_be_kept(seed: int) -> None:
    """The history of a real run among faults shows every promise kept, whatever the faults."""
    plan, events = night(seed=seed)
    findings = verified(plan, *events)
    assert findings.broken == ()
    assert only_limit(findings, "7").most <= 7
    assert only_limit(findings, "9/120s").most <= 9


def test_a_real_run_is_found_at_its_limits() -> None:
    """Where no 429 slows the account down for long, the run fills its limits, and that is seen."""
    plan, events = night(seed=0)
    findings = verified(plan, *events)
    assert only_limit(findings, "7").most == 7
    assert only_limit(findings, "9/120s").most == 9


Pick = Callable[[Event], bool]


def is_answer_that(*verdicts: Verdict) -> Pick:
    return lambda e: isinstance(e, RestartAnswered) and e.answer.verdict in verdicts


@pytest.mark.parametrize(
    "left_out",
    [
        is_answer_that(Verdict.ACCEPTED),
        is_answer_that(Verdict.LOST),
        is_answer_that(Verdict.THROTTLED),
        lambda e: isinstance(e, RestartRequested),
        lambda e: isinstance(e, RestartBegan),
        lambda e: isinstance(e, RestartSettling),
        lambda e: isinstance(e, RestartDisproved),
        lambda e: isinstance(e, TargetEnded),
    ],
    ids=[
        "accepted",
        "lost",
        "throttled",
        "requested",
        "began",
        "settling",
        "disproved",
        "ended",
    ],
)
def test_whatever_is_left_out_of_a_history_is_missed(left_out: Pick) -> None:
    """A history from which one event of any kind is taken away shows a broken promise."""
    plan, events = night()
    found = [n for n, event in enumerate(events) if left_out(event)]
    assert found
    for n in found:
        assert not verified(plan, *events[:n], *events[n + 1 :]).is_kept


def test_narrower_limits_than_the_run_had_are_found_broken() -> None:
    """The history of a run that used its limits up breaks any limit that is one narrower."""
    plan, events = night()
    for limit in (Concurrency(6), Rate(8, 120.0), Rate(9, 150.0), Concurrency(2, "project")):
        narrower = replace(plan, policy=replace(plan.policy, limits=(limit,)))
        findings = verified(narrower, *events)
        assert any(one.is_broken for one in findings.limits), limit
        assert f"the limit {limit} allows {limit.most}" in findings.broken[0]
        assert findings.twice == findings.lost == findings.pretended == ()


# ----------------------------------------------------------------------------------------- limits


@dataclass(frozen=True)
class Row:
    """A start as the oracle sees it."""

    ours: bool
    granted: float
    settled: float
    ended: float
    value: str = ""


def naive_most(rows: Sequence[Row], last: int, limit: Limit) -> int:
    """The most that count together with row `last` at its grant: try every set of those before."""
    if isinstance(limit, Concurrency):
        return 1 + sum(row.ended > rows[last].granted for row in rows[:last])
    return max(
        size
        for size in range(1, last + 2)
        for chosen in combinations(rows[:last], size - 1)
        if rows[last].granted - min(row.settled for row in (*chosen, rows[last])) <= limit.per
    )


def counts_still(row: Row, now: float, limit: Limit) -> bool:
    if isinstance(limit, Concurrency):
        return row.ended > now
    return now - row.settled <= limit.per


@st.composite
def ledgers(draw: st.DrawFn) -> list[Row]:
    rows = []
    for _ in range(draw(st.integers(1, 8))):
        granted = float(draw(st.integers(0, 12)))
        settled = granted + draw(st.sampled_from([0, 1, 2, 5, math.inf]))
        ended = settled + draw(st.sampled_from([0, 1, 4, 9, math.inf]))
        rows.append(Row(draw(st.booleans()), granted, settled, ended, draw(st.sampled_from("01"))))
    return sorted(rows, key=lambda row: row.granted)


def journal_of(rows: Sequence[Row], plan: Plan) -> tuple[list[Event], list[Start]]:
    events: list[Event] = []
    starts: list[Start] = []
    for n, row in enumerate(rows):
        ended_at = row.ended if math.isfinite(row.ended) else None
        settled_at = row.settled if math.isfinite(row.settled) else None
        target = plan.targets[n]
        starts.append(
            Start(
                run_id=RUN if row.ours else OTHER,
                target=n,
                attempt=1,
                project_id=target.project_id,
                cluster_id=target.cluster_id,
                region=None,
                labels=target.labels,
                granted_at=row.granted,
                settled_at=settled_at,
                ended_at=ended_at,
            )
        )
        if row.ours:
            events.append(requested(row.granted, n))
            if settled_at is not None:
                events.append(answered(settled_at, n))
            if ended_at is not None:
                events.append(ended(ended_at, n, Outcome.ACCEPTED))
    return sorted(events, key=lambda event: event.at), starts


@settings(max_examples=300)
@given(
    ledgers(),
    st.lists(
        st.builds(Concurrency, st.integers(1, 4), st.sampled_from(["fleet", "az"]))
        | st.builds(
            Rate,
            st.integers(1, 4),
            st.sampled_from([1.0, 3.0, 5.0]),
            st.sampled_from(["fleet", "az"]),
        ),
        min_size=1,
        unique=True,
    ),
)
def test_limits_are_judged_as_by_hand(rows: list[Row], limits: list[Limit]) -> None:
    """Most seen, most at our grants and what is broken agree with trying out every set."""
    targets = [
        Target(project_id="p", cluster_id=f"c{n}", labels=(("az", row.value),))
        for n, row in enumerate(rows)
    ]
    plan = make_plan(targets, Policy(limits=tuple(limits)))
    events, starts = journal_of(rows, plan)
    findings = verify(RUN, plan, events, starts)
    expected = {}
    for limit in limits:
        values = {scope_value(plan.targets[n], limit.scope) for n, r in enumerate(rows) if r.ours}
        for value in values or ({""} if limit.scope == "fleet" else set()):
            chosen = [row for row in rows if limit.scope == "fleet" or row.value == value]
            expected[str(limit), value] = naive_finding(chosen, limit)
    assert {
        (one.limit, one.value): (one.most, one.most_at_grants, one.is_broken)
        for one in findings.limits
    } == expected
    assert len(findings.broken) == sum(is_broken for _, _, is_broken in expected.values())


def naive_finding(rows: Sequence[Row], limit: Limit) -> tuple[int, int, bool]:
    counts = [naive_most(rows, n, limit) for n in range(len(rows))]
    at_grants = max((count for count, row in zip(counts, rows, strict=True) if row.ours), default=0)
    among = [
        count
        for n, count in enumerate(counts)
        if rows[n].ours
        or any(row.ours and counts_still(row, rows[n].granted, limit) for row in rows[:n])
    ]
    return max(among, default=0), at_grants, at_grants > limit.most


def test_too_many_at_once() -> None:
    """A grant without room is named with its limit, the value of its scope, and its target."""
    plan = fleet(4, limits=(Concurrency(3), Concurrency(1, "project")))
    findings = verified(plan, requested(0, 0), requested(1, 1), requested(2, 2), requested(3, 3))
    no_room = [sentence.partition(": 1 grant had no room, ") for sentence in findings.broken]
    assert [(what, first) for what, _, first in no_room] == [
        ("4 restarts were in progress at once, where the limit 3 allows 3",
         "the first that of p1/c3"),
        ("2 restarts were in progress at once in project p0, where the limit project=1 allows 1",
         "the first that of p0/c2"),
        ("2 restarts were in progress at once in project p1, where the limit project=1 allows 1",
         "the first that of p1/c3"),
    ]  # fmt: skip
    assert not findings.is_kept


def test_too_many_in_a_window() -> None:
    """A start may have begun as late as its answer; from there the interval is counted."""
    plan = fleet(2, limits=(Rate(1, 10.0),))
    first = [requested(0), answered(5)]
    findings = verified(plan, *first, requested(15, 1))
    assert (
        "2 restarts may have begun within 10s, where the limit 1/10s allows 1"
        in (findings.broken[0])
    )
    assert verified(plan, *first, requested(15.1, 1)).is_kept
    unsettled = [requested(0), lost(5)]
    assert not verified(plan, *unsettled, requested(1000, 1)).is_kept
    assert verified(plan, *unsettled, began(20), requested(30.1, 1)).is_kept
    assert not verified(plan, *unsettled, began(20), requested(30, 1)).is_kept


@pytest.mark.parametrize(
    "ending",
    [
        [answered(5, 0, 1, Verdict.REFUSED)],
        [withdrawn(5)],
        [lost(5), late(9, 0, 1, Verdict.THROTTLED)],
    ],
)
def test_what_was_given_back_counts_nowhere(ending: list[Event]) -> None:
    """A refused or withdrawn start takes no place, not even for the time before."""
    plan = fleet(2, limits=(Concurrency(1), Rate(1, 60.0)))
    findings = verified(plan, requested(0), *ending, requested(10, 1))
    assert findings.is_kept
    assert findings.starts == 1


def test_slot_of_an_unknown_is_held() -> None:
    """An unknown holds its slot as long as was said, or until somebody resolves it."""
    plan = fleet(2, limits=(Concurrency(1),))
    unknown = [requested(0), lost(1), ended(100, 0, Outcome.UNKNOWN, slot_until=500)]
    assert not verified(plan, *unknown, requested(499, 1)).is_kept
    assert verified(plan, *unknown, requested(500, 1)).is_kept
    said = resolved(200, 0, Outcome.FAILED)
    assert verified(plan, *unknown, said, requested(200, 1)).is_kept
    assert not verified(plan, *unknown, requested(199, 1), said).is_kept


def test_slot_of_an_unknown_is_not_freed_by_a_skip_that_follows() -> None:
    """Taken up again and skipped as busy, the start before still holds what was said."""
    plan = fleet(2, limits=(Concurrency(1),))
    events = [
        requested(0),
        lost(1),
        ended(100, 0, Outcome.UNKNOWN, slot_until=500),
        resumed(110, Outcome.UNKNOWN),
        ended(120, 0, Outcome.SKIPPED, reason="busy"),
        requested(130, 1),
    ]
    held = Start(
        run_id=RUN, target=0, attempt=1, project_id="p0", cluster_id="c0", region=None,
        labels=(("az", "0"),), granted_at=0, settled_at=100, ended_at=500,
    )  # fmt: skip
    findings = verify(RUN, plan, events, [held, ledger_of(plan, events)[1]])
    assert only_limit(findings, "1").is_broken
    assert findings.lost == ()
    freed = verify(
        RUN, plan, events, [msgspec.structs.replace(held, ended_at=120), ledger_of(plan, events)[1]]
    )
    assert "of which the ledger frees its slot too early" in freed.broken[0]


def test_disproved_start_frees_its_slot_and_charges_its_rate() -> None:
    """What was disproved holds no slot, but counts for its rate from when that was certain."""
    plan = fleet(2, limits=(Concurrency(1), Rate(1, 60.0)))
    events = [requested(0), lost(1), disproved(91)]
    assert [one.is_broken for one in verified(plan, *events, requested(92, 1)).limits] == [
        False,
        True,
    ]
    assert verified(plan, *events, requested(151.5, 1)).is_kept


def test_starts_of_others_count() -> None:
    """Others before ours count; others after ours break nothing of ours, and are noted."""
    plan = fleet(1, limits=(Concurrency(2), Rate(2, 60.0, "project")))
    rows = [other(0, 0.0), other(2, 1.0)]
    findings = verified(plan, requested(5), others=rows)
    assert len(findings.broken) == 2
    assert verified(
        plan, requested(5), others=[msgspec.structs.replace(rows[0], returned=True), rows[1]]
    ).is_kept
    over = msgspec.structs.replace(rows[0], settled_at=0.5, ended_at=4.0)
    assert [one.is_broken for one in verified(plan, requested(5), others=[over, rows[1]]).limits] \
        == [False, True]  # fmt: skip
    after = verified(plan, requested(0), others=[other(0, 1.0), other(2, 2.0)])
    assert after.is_kept
    assert [(one.most, one.most_at_grants) for one in after.limits] == [(3, 1), (3, 1)]
    assert len(after.notes) == 2
    assert (
        "more than the limit 2 of this run: other runs started theirs after ours"
        in (after.notes[0])
    )
    elsewhere = verified(plan, *restarted(0), others=[other(2 * n, 50.0) for n in range(9)])
    assert elsewhere.notes[0].startswith("10 restarts may have begun within 60s")
    assert only_limit(elsewhere, "2").most == 1


def test_at_one_moment_the_order_given_decides() -> None:
    """Of two grants at the same moment the later row is the one that had no room."""
    plan = fleet(1, limits=(Concurrency(1),))
    ours = ledger_of(plan, [requested(5)])
    assert verify(RUN, plan, [requested(5)], [*ours, other(0, 5.0)]).is_kept
    assert not verify(RUN, plan, [requested(5)], [other(0, 5.0), *ours]).is_kept


def test_a_limit_counts_for_what_was_granted_under_it() -> None:
    """After a change the new limits count for new starts, and those before count in them."""
    plan = fleet(4, limits=(Concurrency(3), Rate(9, 60.0)))
    first = [requested(0, 0), requested(1, 1), requested(2, 2)]
    assert verified(plan, *first, changed(3, "1", "9/60s")).is_kept
    narrowed = verified(plan, *first, changed(3, "1", "9/60s"), requested(4, 3))
    assert only_limit(narrowed, "1").most_at_grants == 4
    assert only_limit(narrowed, "3").most_at_grants == 3
    assert [one.is_broken for one in narrowed.limits] == [False, False, True]
    assert only_limit(narrowed, "9/60s").most == 4
    widened = verified(plan, *first, changed(3, "4"), requested(4, 3))
    assert widened.is_kept
    back = verified(plan, *first, changed(3, "4"), changed(3.5, "3"), requested(4, 3))
    assert only_limit(back, "3").is_broken


# ------------------------------------------------------------------------------------ never twice

GOOD_REASONS: dict[str, list[Event]] = {
    "refused": [answered(1, 0, 1, Verdict.THROTTLED)],
    "unsent": [answered(1, 0, 1, Verdict.UNSENT)],
    "withdrawn": [withdrawn(1)],
    "refused late": [lost(1), late(2, 0, 1, Verdict.REFUSED)],
    "disproved": [lost(1), disproved(91)],
    "resumed": [answered(1), ended(2, 0, Outcome.FAILED), resumed(3, Outcome.FAILED)],
    "resumed after a relapse": [*restarted(0)[1:], relapsed(60), resumed(61, Outcome.FAILED)],
    "resolved": [
        lost(1),
        ended(91, 0, Outcome.UNKNOWN, slot_until=92.0),
        resolved(93, 0, Outcome.NOT_STARTED),
    ],
    "accepted late, but forgiven": [
        lost(1),
        ended(91, 0, Outcome.UNKNOWN, slot_until=92.0),
        resumed(93, Outcome.UNKNOWN),
        late(94),
    ],
}

BAD_REASONS: dict[str, tuple[list[Event], str]] = {
    "no answer": ([], "had no answer, and was not watched for long enough"),
    "lost": ([lost(1)], "had no answer, and was not watched for long enough"),
    "disproved early": ([lost(1), disproved(90)], "was not watched for long enough"),
    "disproved unwatched": ([disproved(99)], "was not watched for long enough"),
    "accepted": ([answered(1)], "though an attempt before was accepted or seen to begin"),
    "accepted, then refused": (
        [answered(1), answered(2, 0, 1, Verdict.REFUSED)],
        "though an attempt before was accepted",
    ),
    "accepted late": ([lost(1), late(80), disproved(99)], "was accepted or seen to begin"),
    "seen": ([lost(1), began(2), disproved(99)], "was accepted or seen to begin"),
    "ended": (
        [answered(1, 0, 1, Verdict.REFUSED), ended(2, 0, Outcome.REFUSED)],
        "ended as refused",
    ),
    "resumed for others": (
        [answered(1), ended(2, 0, Outcome.FAILED), resumed(3, Outcome.UNKNOWN)],
        "though it had ended as failed and nobody took it up again",
    ),
    "resumed in flight": ([lost(1), resumed(3, Outcome.UNKNOWN)], "had no answer"),
}


@pytest.mark.parametrize("before", GOOD_REASONS.values(), ids=GOOD_REASONS)
def test_asked_again_for_a_good_reason(before: list[Event]) -> None:
    """Nothing started, it was disproved, or a person said so: then a target is asked again."""
    findings = verified(fleet(1), requested(0), *before, requested(200, 0, 2))
    assert findings.is_kept, findings.broken


@pytest.mark.parametrize(("before", "why"), BAD_REASONS.values(), ids=BAD_REASONS)
def test_asked_twice(before: list[Event], why: str) -> None:
    """Without a good reason a second request is named, with what speaks against it."""
    findings = verified(fleet(2), requested(0), *before, requested(200, 0, 2))
    assert findings.twice == ("p0/c0",)
    (sentence,) = [one for one in findings.broken if "was asked for again" in one]
    assert sentence.startswith("p0/c0 was asked for again ")
    assert why in sentence


def test_asked_twice_under_one_number() -> None:
    """Two calls of one number would carry the same request id."""
    events = [requested(0), answered(1, 0, 1, Verdict.BUSY), requested(9), withdrawn(10)]
    findings = verify(RUN, fleet(1), events, ledger_of(fleet(1), events))
    assert findings.twice == ("p0/c0",)
    assert "under number 1" in findings.broken[0]


def test_asked_again_more_often_than_allowed() -> None:
    """Calls without an answer are repeated as often as the plan says; taken up again, anew."""
    lost_once = [requested(0), lost(1), disproved(91)]
    lost_twice = [*lost_once, requested(100, 0, 2), lost(101, 0, 2), disproved(191, 0, 2)]
    plan = fleet(1)
    assert verified(plan, *lost_twice).is_kept
    findings = verified(plan, *lost_twice, requested(200, 0, 3))
    assert "after 2 calls without an answer; max_reissues is 1" in findings.broken[0]
    again = [ended(192, 0, Outcome.UNKNOWN), resumed(193, Outcome.UNKNOWN)]
    assert verified(plan, *lost_twice, *again, requested(200, 0, 3)).is_kept
    never = fleet(1, max_reissues=0)
    assert verified(never, *lost_once, requested(100, 0, 2)).twice == ("p0/c0",)


def test_cluster_that_another_run_has_under_way() -> None:
    """A cluster of another run that has not ended must not be asked for; one that has, may."""
    theirs = other(0, 0.0, "c0", settled_at=1.0)
    findings = verified(fleet(1), requested(5), others=[theirs])
    assert findings.twice == ("p0/c0",)
    assert f"while run {OTHER} had it under way" in findings.broken[0]
    for harmless in (
        msgspec.structs.replace(theirs, ended_at=5.0),
        msgspec.structs.replace(theirs, returned=True),
        msgspec.structs.replace(theirs, granted_at=6.0),
    ):
        assert verified(fleet(1), requested(5), others=[harmless]).is_kept


def test_restarted_twice_without_anyone_to_blame_is_noted() -> None:
    """An attempt that was disproved, asked again and then accepted after all breaks no promise."""
    events = [requested(0), lost(1), disproved(91), requested(200, 0, 2), late(201)]
    findings = verified(fleet(1), *events)
    assert findings.is_kept
    assert "p0/c0 may have been restarted twice: attempt 1 turned out" in findings.notes[0]


Make = Callable[[float, int], Event]


def any_answer(make: Callable[[float, int, int, Verdict], Event], verdict: Verdict) -> Make:
    return lambda at, attempt: make(at, 0, attempt, verdict)


CHOICES: tuple[Make, ...] = (
    *(any_answer(answered, verdict) for verdict in Verdict),
    *(any_answer(late, verdict) for verdict in Verdict),
    lambda at, attempt: disproved(at, 0, attempt),
    lambda at, attempt: withdrawn(at, 0, attempt),
    lambda at, _: began(at),
    lambda at, _: ended(at, 0, Outcome.UNKNOWN),
    lambda at, _: ended(at, 0, Outcome.FAILED),
    lambda at, _: resumed(at, Outcome.FAILED),
    lambda at, _: resumed(at, Outcome.UNKNOWN),
    lambda at, _: resolved(at, 0, Outcome.NOT_STARTED),
    lambda at, _: resolved(at, 0, Outcome.FAILED),
)


@st.composite
def confusions(draw: st.DrawFn) -> list[Event]:
    """Return any events of one target, whether or not they could follow each other."""
    events: list[Event] = [requested(0)]
    attempts = 1
    steps = st.tuples(st.integers(0, 3), st.integers(0, len(CHOICES) - 1), st.integers(1, 60))
    for step, choice, passed in draw(st.lists(steps, max_size=12)):
        at = events[-1].at + passed
        if step == 0:
            attempts += 1
            events.append(requested(at, 0, attempts))
        else:
            events.append(CHOICES[choice](at, max(1, attempts - step + 1)))
    return events


def outcome_before(events: Sequence[Event]) -> Outcome | None:
    outcome = None
    for event in events:
        match event:
            case TargetEnded() | TargetResolved():
                outcome = None if event.outcome is Outcome.NOT_STARTED else event.outcome
            case RunResumed() if outcome in event.again:
                outcome = None
            case _:
                pass
    return outcome


def is_reopened_at(events: Sequence[Event], n: int) -> bool:
    event = events[n]
    match event:
        case RunResumed():
            return outcome_before(events[:n]) in event.again
        case TargetResolved():
            return event.outcome is Outcome.NOT_STARTED
        case _:
            return False


def answers_to(events: Sequence[Event], attempt: int) -> Iterator[tuple[Event, Verdict]]:
    for event in events:
        if isinstance(event, RestartAnswered | AnswerArrivedLate) and event.attempt == attempt:
            yield event, event.answer.verdict


def is_in_the_way(events: Sequence[Event], first: int) -> bool:
    """Whether the request at `first` forbids one more after all these events."""
    start = events[first]
    assert isinstance(start, RestartRequested)
    if any(is_reopened_at(events, n) for n in range(first + 1, len(events))):
        return False
    verdicts = list(answers_to(events, start.attempt))
    following = [n for n, e in enumerate(events) if n > first and isinstance(e, RestartRequested)]
    until = following[0] if following else len(events)
    if any(isinstance(event, RestartBegan) for event in events[first:until]):
        return True
    if any(verdict is Verdict.ACCEPTED for _, verdict in verdicts):
        return True
    if any(verdict.gives_back for _, verdict in verdicts):
        return False
    if any(isinstance(e, RestartWithdrawn) and e.attempt == start.attempt for e in events):
        return False
    return not any(
        isinstance(event, RestartDisproved)
        and event.attempt == start.attempt
        and any(
            verdict is Verdict.LOST and event.at - news.at >= 90
            for news, verdict in answers_to(events[:n], start.attempt)
        )
        for n, event in enumerate(events)
    )


@settings(max_examples=500)
@given(confusions())
def test_twice_is_found_as_by_hand(events: list[Event]) -> None:
    """In any confusion of events, requests are objected to as when each is checked against all."""
    requests = [n for n, event in enumerate(events) if isinstance(event, RestartRequested)]
    expected = sum(
        outcome_before(events[:n]) is not None
        or any(is_in_the_way(events[:n], before) for before in requests if before < n)
        for n in requests
    )
    plan = fleet(1, max_reissues=99)
    findings = verify(RUN, plan, events, ledger_of(plan, events))
    assert sum("was asked for again" in sentence for sentence in findings.broken) == expected
    assert findings.twice == (("p0/c0",) if expected else ())


# ------------------------------------------------------------------------------------- nothing lost


def test_intent_without_an_answer_in_a_finished_run() -> None:
    """A run that finished knows the answer to each intent, unless it was aborted."""
    events = [started(), requested(0)]
    plan = fleet(1)
    assert verified(plan, *events).is_kept
    findings = verified(plan, *events, finished(9, "stopped", 3))
    assert findings.lost == ("p0/c0",)
    assert "was asked for, and no answer of attempt 1 is in the history" in findings.broken[0]
    assert verified(plan, *events, RunAborted(at=8, by="ana"), finished(9, "aborted", 130)).is_kept
    assert verified(plan, *events, finished(9, "stopped", 3), started(10)).is_kept
    resumed_later = [RunAborted(at=8, by="ana"), resumed(9), started(10)]
    assert verified(plan, *events, *resumed_later, finished(11, "stopped", 3)).lost == ("p0/c0",)


def test_restart_without_an_end_in_a_finished_run() -> None:
    """What was accepted is followed to its end before a run finishes."""
    events = [started(), requested(0), answered(1), began(2)]
    findings = verified(fleet(1), *events, finished(9, "stopped", 3))
    assert "was asked for, and no end of attempt 1 is in the history" in findings.broken[0]


def test_target_without_an_outcome_in_a_completed_run() -> None:
    """A completed run has an outcome for each target; a stopped one need not."""
    findings = verified(fleet(2), started(), *restarted(0), finished(99, "completed", 3))
    assert findings.lost == ("p1/c1",)
    assert "has no outcome, though the run was completed" in findings.broken[0]
    assert verified(fleet(2), started(), *restarted(0), finished(99, "stopped", 3)).is_kept
    reopened = [requested(0), lost(1), ended(92, 0, Outcome.UNKNOWN), finished(93, exit_code=1)]
    said = resolved(99, 0, Outcome.NOT_STARTED)
    assert verified(fleet(1), started(), *reopened, said).is_kept


def test_two_ends() -> None:
    """A target ends once, unless somebody took it up again."""
    first = ended(1, 0, Outcome.REFUSED)
    findings = verified(fleet(1), first, ended(2, 0, Outcome.SKIPPED))
    assert findings.lost == ("p0/c0",)
    assert "ended as skipped after it had ended as refused" in findings.broken[0]
    again = resumed(1.5, Outcome.REFUSED)
    assert verified(fleet(1), first, again, ended(2, 0, Outcome.SKIPPED)).is_kept
    assert verified(fleet(1), *restarted(0), relapsed(60)).is_kept


@pytest.mark.parametrize("outcome", [Outcome.SKIPPED, Outcome.REFUSED])
@pytest.mark.parametrize(("news", "how"), [(answered(1), "accepted"), (lost(1), "may have begun")])
def test_restart_under_way_that_ends_as_if_nothing_was(
    outcome: Outcome, news: Event, how: str
) -> None:
    """A target whose restart was accepted, or may have begun, is neither skipped nor refused."""
    findings = verified(fleet(1), requested(0), news, ended(2, 0, outcome))
    assert findings.lost == ("p0/c0",)
    assert how in findings.broken[0]


def test_job_that_counts_as_not_begun() -> None:
    """Who answers with a job has begun something; giving its place back loses it."""
    findings = verified(fleet(1), requested(0), answered(1, 0, 1, Verdict.BUSY, "ff80"))
    assert findings.lost == ("p0/c0",)
    assert "was answered with job ff80, and yet counted as not begun" in findings.broken[0]


def test_answer_without_an_intent() -> None:
    """The intent is on disk before its call leaves, so an answer has one."""
    findings = verified(fleet(1), answered(1, 0, 3))
    assert "had attempt 3 answered, of which there is no intent" in findings.broken[0]


def test_start_that_the_ledger_does_not_know() -> None:
    """Other runs count by the ledger: each start of the history is in it, and counts anyway."""
    plan = fleet(2, limits=(Concurrency(1),))
    findings = verify(RUN, plan, [requested(0), requested(1, 1)], [])
    assert findings.lost == ("p0/c0", "p1/c1")
    assert "in the history, but not in the ledger" in findings.broken[0]
    assert only_limit(findings, "1").most == 2


def test_start_that_the_history_does_not_know() -> None:
    """A row of ours without an intent in the history is a loss, too."""
    findings = verify(RUN, fleet(1), [], ledger_of(fleet(1), [requested(0)]))
    assert findings.lost == ("p0/c0",)
    assert "in the ledger, but not in the history" in findings.broken[0]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"returned": True}, "counts it as given back"),
        ({"settled_at": 0.5}, "has its call settled too early"),
        ({"ended_at": 29.0}, "frees its slot too early"),
        ({"granted_at": 0.5}, "has it granted too late"),
    ],
)
def test_place_that_the_ledger_frees_too_early(change: dict[str, Any], what: str) -> None:
    """By a row that says less than the history, other runs count too little."""
    events = restarted(0)
    (row,) = ledger_of(fleet(1), events)
    findings = verify(RUN, fleet(1), events, [msgspec.structs.replace(row, **change)])
    assert findings.lost == ("p0/c0",)
    assert what in findings.broken[0]


def test_place_that_the_ledger_holds_for_longer_harms_nobody() -> None:
    """A row may be stricter than the history: not settled, not ended, not given back."""
    plan = fleet(1)
    (row,) = ledger_of(plan, restarted(0))
    assert verify(
        RUN, plan, restarted(0), [msgspec.structs.replace(row, settled_at=None, ended_at=None)]
    ).is_kept
    refused = [requested(0), answered(1, 0, 1, Verdict.REFUSED)]
    assert verify(RUN, plan, refused, [row]).is_kept


# ----------------------------------------------------------------------------------- no pretending

WELL = ended(100)
PRETENDED: dict[str, tuple[list[Event], str]] = {
    "never asked": ([WELL], "ended as restarted without having been seen to begin"),
    "not seen": ([requested(0), answered(1), WELL], "without having been seen to begin"),
    "seen before": (
        [*restarted(0), relapsed(40), resumed(41, Outcome.FAILED), requested(42, 0, 2),
         answered(43, 0, 2), ended(99)],
        "without having been seen to begin",
    ),
    "refused": (
        [requested(0), answered(1, 0, 1, Verdict.REFUSED), began(2), settling(3), WELL],
        "was said to begin without a call that was accepted or lost",
    ),
    "unanswered": ([requested(0), began(2), settling(3), WELL], "was said to begin without a call"),
    "never ready": (
        [requested(0), answered(1), began(2), WELL],
        "ended as restarted without having been ready for 20s",
    ),
    "ready for too short": (
        [requested(0), answered(1), began(2), settling(81), WELL],
        "without having been ready for 20s",
    ),
    "not ready any more": (
        [requested(0), answered(1), began(2), settling(3),
         RestartUnsettled(at=50, target=0, seen="status 100"), WELL],
        "without having been ready for 20s",
    ),
    "accepted by nobody": (
        [requested(0), lost(1), ended(2, 0, Outcome.ACCEPTED)],
        "ended as accepted without an answer that said so",
    ),
    "accepted unasked": (
        [ended(2, 0, Outcome.ACCEPTED)],
        "ended as accepted without an answer that said so",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("events", "why"), PRETENDED.values(), ids=PRETENDED)
def test_pretended(events: list[Event], why: str) -> None:
    """An outcome that was not seen, from call to ready, is named."""
    findings = verified(fleet(1), *events)
    assert findings.pretended == ("p0/c0",)
    assert any(why in sentence for sentence in findings.broken)


def test_begun_without_a_request() -> None:
    """A restart that was seen to begin without any call is none of ours."""
    assert verified(fleet(1), began(2)).pretended == ("p0/c0",)


@pytest.mark.parametrize(
    "events",
    [
        [requested(0), lost(1), began(2), settling(3), ended(23)],
        [requested(0), lost(1), began(2), ended(2, 0, Outcome.ACCEPTED)],
        [requested(0), answered(1), ended(2, 0, Outcome.ACCEPTED)],
    ],
)
def test_seen_is_not_pretended(events: list[Event]) -> None:
    """A lost answer does not matter once the restart was seen; accepted needs its answer only."""
    assert verified(fleet(1), *events).is_kept


def test_what_a_store_rounds_away_is_forgiven() -> None:
    """A microsecond less than was to be waited for is the store's, not the run's."""
    tiny = 1e-6
    again = [requested(0), lost(1), disproved(91 - tiny), requested(200, 0, 2)]
    assert verified(fleet(1), *again).is_kept
    ready = [requested(0), answered(1), began(2), settling(3), ended(23 - tiny)]
    assert verified(fleet(1), *ready).is_kept


def test_ready_at_once_where_the_plan_says_so() -> None:
    """With a `stable_for` of nothing, one look that shows it ready is enough."""
    events = [requested(0), answered(1), began(2), ended(3)]
    assert verified(fleet(1, stable_for=0.0), *events).is_kept
    assert not verified(fleet(1), *events).is_kept


@pytest.mark.parametrize(
    ("last", "exit_code", "is_kept"),
    [
        (ended(1, 0, Outcome.REFUSED), 0, False),
        (ended(1, 0, Outcome.REFUSED), 1, True),
        (ended(1, 0, Outcome.SKIPPED), 0, False),
        (ended(1, 0, Outcome.SKIPPED, asked=True), 0, True),
    ],
)
def test_exit_code_that_pretends(last: Event, exit_code: int, *, is_kept: bool) -> None:
    """A run that ended with 0 has targets that ended well, or were skipped as asked."""
    findings = verified(fleet(1), started(), last, finished(2, exit_code=exit_code))
    assert findings.is_kept is is_kept
    if not is_kept:
        assert findings.broken == (
            "the run ended with exit code 0, though 1 target did not end well",
        )


# ----------------------------------------------------------------------------------- stopping works


@pytest.mark.parametrize(
    "stop", [RunStopping(at=1, reason="drain", by="ana"), RunAborted(at=1, by="ana")]
)
def test_nothing_starts_after_a_stop(stop: Event) -> None:
    """A request after a stop is found, unless the run was let go on in between."""
    findings = verified(fleet(1), stop, requested(2))
    assert findings.broken == ("p0/c0 was asked for after the run had been stopped",)
    assert verified(fleet(1), stop, resumed(1.5), requested(2)).is_kept


def test_nothing_starts_after_too_many_failures() -> None:
    """Failures, relapses among them, are counted as long as nobody acknowledged them."""
    plan = fleet(3, max_failures=Portion(1))
    failed = [ended(1, 0, Outcome.UNKNOWN), *restarted(2, 1), relapsed(50, 1)]
    assert verified(plan, *failed[:-1], requested(60, 2)).is_kept
    findings = verified(plan, *failed, requested(60, 2))
    assert findings.broken == ("p0/c2 was asked for after 2 failures; max_failures is 1",)
    assert verified(plan, *failed, resumed(55), requested(60, 2)).is_kept
    more = changed(55, *map(str, WIDE), max_failures="100%")
    assert verified(plan, *failed, more, requested(60, 2)).is_kept


# ---------------------------------------------------------------------------------- how it is said


def test_findings_as_json() -> None:
    """Everything is in the JSON, and it says by itself what was broken."""
    plan = fleet(2, limits=(Concurrency(1),))
    content = json.loads(json.dumps(verified(plan, requested(0), requested(1, 1)).as_dict()))
    assert content.pop("broken")
    assert content == {
        "run_id": RUN,
        "targets": 2,
        "starts": 2,
        "limits": [
            {"limit": "1", "value": "", "allowed": 1, "most": 2, "most_at_grants": 2,
             "broken": True},
        ],
        "twice": [],
        "lost": [],
        "pretended": [],
        "notes": [],
        "is_kept": False,
    }  # fmt: skip


def test_findings_for_people() -> None:
    """A small table: per limit its fullest value and each that broke; then words, then the end."""
    plan = fleet(5, limits=(Concurrency(10), Rate(9, 60.0, "project"), Concurrency(1, "az")))
    events = [requested(0), requested(1, 1), requested(2, 2), requested(3, 3)]
    lines = list(verified(plan, *events, others=[other(4, 9.0)]).lines())
    assert lines[:4] == [
        "limit          in          allowed  most  at our grants",
        "10             fleet            10     5              4  kept",
        "project=9/60s  p0, 1 of 2        9     3              2  kept",
        "az=1           0, 1 of 3         1     2              2  BROKEN",
    ]
    broken, note, end = lines[4:]
    assert broken.startswith("BROKEN: 2 restarts were in progress at once in az 0, where the limit")
    assert note.startswith("note: 2 restarts were in progress at once in az 1, more than the limit")
    assert end == (f"run {RUN}: 5 targets, 4 restarts asked for; 1 broken promise")


def test_kept_findings_for_people() -> None:
    """A kept run ends in one plain sentence; targets without a label are counted as such."""
    plan = make_plan(
        [Target(project_id="p", cluster_id="c")], Policy(limits=(Concurrency(1, "tier"),))
    )
    assert list(verified(plan, requested(0)).lines()) == [
        "limit   in      allowed  most  at our grants",
        "tier=1  (none)        1     1              1  kept",
        f"run {RUN}: 1 target, 1 restart asked for; every promise was kept",
    ]
    assert "in tier (none)" in verified(plan, requested(0), others=[other(1, -1.0)]).broken[0]


def test_ten_thousand_targets_take_no_time() -> None:
    """A night of ten thousand restarts is judged in about a second, not in minutes."""
    plan = fleet(10_000, limits=(Concurrency(2000), Rate(2000, 600.0), Rate(2000, 600.0, "az")))
    events = [event for n in range(10_000) for event in restarted(n, n)]
    events.sort(key=lambda event: event.at)
    assert verified(plan, *events).is_kept
