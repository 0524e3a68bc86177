"""The report: every target once, everything the service answered, valid against its schema."""

import io
import json
import os
import resource
import signal
import stat
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from orchestrator import report
from orchestrator.errors import ExitCode, OrchestratorError
from orchestrator.limits import Concurrency, Rate, scope_value
from orchestrator.model import (
    Answer,
    AnswerArrivedLate,
    ClusterState,
    ErrorInfo,
    Event,
    Kind,
    LimitsChanged,
    OrderRefused,
    Outcome,
    RestartAnswered,
    RestartBegan,
    RestartDisproved,
    RestartRequested,
    RestartSettling,
    RestartUnsettled,
    RestartWithdrawn,
    RunAborted,
    RunContinued,
    RunFinished,
    RunnerStarted,
    RunPaused,
    RunResumed,
    RunStopping,
    Target,
    TargetEnded,
    TargetRelapsed,
    TargetResolved,
    Verdict,
    WaveOpened,
)
from orchestrator.plan import Plan, Policy, Portion, make_plan
from orchestrator.report import (
    INTERRUPTED,
    ReportFold,
    RunFacts,
    build_report,
    default_report_name,
    exit_code_for,
    write_report,
)

BEGIN = 1795395600.0
"""2026-11-23T01:00:00Z."""

READY = ClusterState(status="200", instances=(("n1", "200"),))
FACTS = RunFacts(
    run_id="2026-11-23-7k3f", operator="ana@bastion-1", change="CHG-1234", tool_version="0.1.0"
)
HTTP_500 = ErrorInfo(
    error_class="server", message="no usable answer", status=500, code="CSS.0001", request_id="q1"
)

SCHEMA = json.loads(Path(report.__file__).with_name("report.schema.json").read_text("utf-8"))
FORMATS = FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)
def _is_moment(text: object) -> bool:
    return not isinstance(text, str) or datetime.fromisoformat(text).tzinfo is not None


VALIDATOR = Draft202012Validator(SCHEMA, format_checker=FORMATS)


def fleet(size: int, **policy: Any) -> Plan:
    targets = [
        Target(project_id=f"p{n % 3}", cluster_id=f"c{n}", labels=(("az", str(n % 2)),))
        for n in range(size)
    ]
    return make_plan(targets, Policy(**policy), source=["fleet.csv"])


def started(at: float = 0.0, offset: float = 0.0) -> RunnerStarted:
    return RunnerStarted(
        at=BEGIN + at, owner="ana", host="bastion-1", pid=7, wall_offset=offset, version="0.1.0"
    )


def requested(at: float, target: int = 0, attempt: int = 1) -> RestartRequested:
    return RestartRequested(
        at=BEGIN + at,
        target=target,
        attempt=attempt,
        request_id=f"r{target}-{attempt}",
        baseline=READY,
    )


def answered(
    at: float,
    *job_ids: str,
    target: int = 0,
    attempt: int = 1,
    verdict: Verdict = Verdict.ACCEPTED,
    status: int | None = 200,
    error: ErrorInfo | None = None,
    request_id: str | None = None,
) -> RestartAnswered:
    answer = Answer(
        verdict=verdict,
        sent_at=BEGIN + at - 0.5,
        answered_at=BEGIN + at,
        status=status,
        job_ids=job_ids,
        request_id=request_id,
        error=error,
    )
    return RestartAnswered(at=BEGIN + at, target=target, attempt=attempt, answer=answer)


def began(at: float, target: int = 0) -> RestartBegan:
    return RestartBegan(at=BEGIN + at, target=target, seen="status 100")


def settling(at: float, target: int = 0) -> RestartSettling:
    return RestartSettling(at=BEGIN + at, target=target)


def ended(
    at: float, target: int = 0, outcome: Outcome = Outcome.RESTARTED, **more: Any
) -> TargetEnded:
    return TargetEnded(at=BEGIN + at, target=target, outcome=outcome, **more)


def late(*given: Any, **more: Any) -> AnswerArrivedLate:
    event = answered(*given, **more)
    return AnswerArrivedLate(
        at=event.at, target=event.target, attempt=event.attempt, answer=event.answer
    )


def resolved(
    at: float, outcome: Outcome, target: int = 0, reason: str | None = "seen by hand"
) -> TargetResolved:
    return TargetResolved(at=BEGIN + at, target=target, outcome=outcome, by="ana", reason=reason)


def changed(at: float, *limits: str, max_failures: str = "0") -> LimitsChanged:
    return LimitsChanged(
        at=BEGIN + at, limits=limits, max_failures=max_failures, by="ana", is_looser=False
    )


def restarted(at: float, target: int = 0, attempt: int = 1) -> list[Event]:
    return [
        requested(at, target, attempt),
        answered(at + 1, f"job-{target}-{attempt}", target=target, attempt=attempt),
        began(at + 2, target),
        settling(at + 50, target),
        ended(at + 70, target),
    ]


def finished(at: float, outcome: str = "completed", exit_code: int = 0) -> RunFinished:
    return RunFinished(at=BEGIN + at, outcome=outcome, exit_code=exit_code)


def fold_of(plan: Plan, events: Sequence[Event]) -> ReportFold:
    fold = ReportFold(plan)
    for event in events:
        fold.take(event)
    return fold


def reported(plan: Plan, *events: Event) -> dict[str, Any]:
    document: dict[str, Any] = build_report(fold_of(plan, events), FACTS)
    VALIDATOR.validate(document)
    return document


def first_target(*events: Event, plan: Plan | None = None) -> dict[str, Any]:
    target: dict[str, Any] = reported(plan or fleet(1), started(), *events)["targets"][0]
    return target


# ------------------------------------------------------------------------------------ the schema


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "properties" in schema or schema.get("type") == "object":
            yield schema
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from _objects(part)


def test_schema_is_strict() -> None:
    """The schema is valid itself, closes every object and requires every member it names."""
    Draft202012Validator.check_schema(SCHEMA)
    objects = [found for found in _objects(SCHEMA) if not isinstance(found.get("type"), dict)]
    assert len(objects) > 8
    for found in objects:
        assert found["additionalProperties"] is False
        assert set(found.get("required", ())) == set(found.get("properties", ()))


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("started_at", "2026-11-23 01:00:00"),
        ("started_at", "2026-11-23T01:00:00Z"),
        ("started_at", "2026-02-31T01:00:00.000Z"),
        ("outcome", "fine"),
        ("duration_s", -1),
        ("extra", None),
    ],
)
def test_schema_refuses(member: str, value: object) -> None:
    """A report with a member of another form, or one too many, is not valid."""
    document = reported(fleet(1), started(), finished(1))
    assert not VALIDATOR.is_valid(document | {member: value})


def test_schema_refuses_a_report_that_leaves_a_member_out() -> None:
    """No member may be missing, also none that is null."""
    document = reported(fleet(1), started())
    assert document.pop("finished_at") is None
    assert not VALIDATOR.is_valid(document)


# ---------------------------------------------------------------------------------- the contents


def test_whole_report_of_a_run_that_went_well() -> None:
    """A finished run is reported whole, with every member where the contract has it."""
    target = Target(
        project_id="p",
        cluster_id="c",
        name="orders",
        region="eu-de",
        kind=Kind.parse("rolling:ess"),
        labels=(("az", "1"),),
    )
    limits = (Concurrency(10), Concurrency(2, "project"), Rate(20, 600.0), Rate(5, 90.5, "az"))
    plan = make_plan(
        [target],
        Policy(limits=limits, max_failures=Portion(10, is_percent=True)),
        source=["fleet.csv"],
    )
    document = reported(
        plan,
        started(),
        WaveOpened(at=BEGIN, wave=0),
        requested(1.25),
        answered(3.0, "ff80", request_id="svc-1"),
        began(4.5),
        settling(65.8),
        ended(85.8),
        finished(90.0004),
    )
    assert document == {
        "report_version": 1,
        "run_id": "2026-11-23-7k3f",
        "outcome": "completed",
        "stop_reason": None,
        "exit_code": 0,
        "tool_version": "0.1.0",
        "operator": "ana@bastion-1",
        "change": "CHG-1234",
        "started_at": "2026-11-23T01:00:00.000Z",
        "finished_at": "2026-11-23T01:01:30.000Z",
        "duration_s": 90.0,
        "plan": {
            "plan_id": plan.plan_id,
            "source": ["fleet.csv"],
            "waves": [{"name": "rest", "targets": 1, "soak_s": 0.0}],
            "limits": {
                "max_concurrency": {"fleet": 10, "project": 2},
                "rate": ["20/600s", "az=5/90.5s"],
                "max_failures": 1,
            },
            "max_unavailable": [],
            "window": {"not_before": None, "cutoff": None, "deadline": None},
        },
        "counts": {
            "targets": 1,
            "restarted": 1,
            "accepted": 0,
            "failed": 0,
            "refused": 0,
            "unknown": 0,
            "skipped": 0,
            "not_started": 0,
        },
        "observed": {
            "max_in_progress": 1,
            "max_started_in_window": {"20/600s": 1, "az=5/90.5s": 1},
        },
        "steering": [],
        "job_ids": ["ff80"],
        "targets": [
            {
                "project_id": "p",
                "cluster_id": "c",
                "name": "orders",
                "region": "eu-de",
                "labels": {"az": "1"},
                "kind": "rolling:ess",
                "wave": "rest",
                "outcome": "restarted",
                "reason": None,
                "job_ids": ["ff80"],
                "granted_at": "2026-11-23T01:00:01.250Z",
                "answered_at": "2026-11-23T01:00:03.000Z",
                "began_at": "2026-11-23T01:00:04.500Z",
                "finished_at": "2026-11-23T01:01:25.800Z",
                "downtime_s": 61.3,
                "calls": [
                    {
                        "sent_at": "2026-11-23T01:00:02.500Z",
                        "answered_at": "2026-11-23T01:00:03.000Z",
                        "status": 200,
                        "job_ids": ["ff80"],
                        "error": None,
                        "request_id": "svc-1",
                    }
                ],
                "error": None,
            }
        ],
        "failures": [],
    }


def test_run_of_which_nothing_is_known_yet() -> None:
    """A run without any event has a valid report: every target is not started, moments are null."""
    document = reported(fleet(12))
    assert document["started_at"] is document["finished_at"] is document["duration_s"] is None
    assert document["counts"]["not_started"] == 12
    assert [target["wave"] for target in document["targets"]] == ["canary"] + ["rest"] * 11
    assert document["targets"][4]["cluster_id"] == "c4"
    assert document["targets"][4]["calls"] == []


def test_several_limits_of_one_scope() -> None:
    """Of several concurrency limits of a scope the one that binds is printed."""
    plan = fleet(1, limits=(Concurrency(7), Concurrency(3), Concurrency(5)))
    assert reported(plan)["plan"]["limits"]["max_concurrency"] == {"fleet": 3}


def test_moments_are_wall_clock_of_their_runner() -> None:
    """A moment is printed with the offset of the process that recorded it; spans are steady."""
    document = reported(
        fleet(2),
        started(0, offset=100.0),
        *restarted(0),
        started(100, offset=-50.0),
        *restarted(100, target=1),
        finished(200),
    )
    before, after = document["targets"]
    assert document["started_at"] == "2026-11-23T01:01:40.000Z"
    assert before["granted_at"] == "2026-11-23T01:01:40.000Z"
    assert after["calls"][0]["sent_at"] == "2026-11-23T01:00:50.500Z"
    assert after["answered_at"] == "2026-11-23T01:00:51.000Z"
    assert document["finished_at"] == "2026-11-23T01:02:30.000Z"
    assert document["duration_s"] == 200.0
    assert before["downtime_s"] == after["downtime_s"] == 48.0


def test_milliseconds_are_rounded_and_carried() -> None:
    """A moment just before a full second is printed as that second."""
    target = first_target(requested(0.9996))
    assert target["granted_at"] == "2026-11-23T01:00:01.000Z"


def test_nothing_lasts_less_than_no_time() -> None:
    """Where two hosts disagree about the axis, a span is 0 rather than negative."""
    assert reported(fleet(1), started(10), finished(3))["duration_s"] == 0.0


# -------------------------------------------------------------------------------------- the run


def test_unfinished_run_is_interrupted() -> None:
    """A run that no runner finished is stopped, says so, and has the code of a stopped run."""
    document = reported(fleet(2), started(), *restarted(1))
    assert (document["outcome"], document["stop_reason"]) == ("stopped", INTERRUPTED)
    assert document["exit_code"] == 3
    assert document["finished_at"] is None


def test_stop_reason_is_the_first_since_the_run_was_let_go_on() -> None:
    """The first reason is the cause; what was before a resume does not count any more."""
    events = [
        started(),
        RunStopping(at=BEGIN + 1, reason="deadline", by="orchestrator"),
        finished(2, "stopped", 3),
        RunResumed(at=BEGIN + 3, by="ana"),
        RunStopping(at=BEGIN + 4, reason="drain", by="ana"),
        RunStopping(at=BEGIN + 5, reason="later", by="ana"),
        finished(6, "stopped", 3),
    ]
    assert reported(fleet(1), *events[:3])["stop_reason"] == "deadline"
    assert reported(fleet(1), *events[:4])["stop_reason"] == INTERRUPTED
    assert reported(fleet(1), *events)["stop_reason"] == "drain"


def test_aborted_run() -> None:
    """An abort shows as such with 130, whether or not its runner could still say so."""
    abort = RunAborted(at=BEGIN + 1, by="ana")
    for more in ([], [finished(2, "aborted", 130)]):
        document = reported(fleet(1), started(), abort, *more)
        assert (document["outcome"], document["exit_code"]) == ("aborted", 130)
        assert document["stop_reason"] == "aborted by ana"


def test_finish_counts_until_the_run_is_taken_up_again() -> None:
    """What a former runner said at its end is not the end of a run that goes on."""
    document = reported(fleet(1), started(), finished(2, "completed", 1), started(9))
    assert (document["exit_code"], document["finished_at"]) == (3, None)
    assert document["started_at"] == "2026-11-23T01:00:00.000Z"


@pytest.mark.parametrize(
    ("counts", "asked", "aborted", "expected"),
    [
        ({Outcome.RESTARTED: 3, Outcome.ACCEPTED: 2}, 0, False, ExitCode.OK),
        ({Outcome.SKIPPED: 2}, 2, False, ExitCode.OK),
        ({Outcome.SKIPPED: 2}, 1, False, ExitCode.SOME_FAILED),
        ({Outcome.FAILED: 1}, 0, False, ExitCode.SOME_FAILED),
        ({Outcome.REFUSED: 1}, 0, False, ExitCode.SOME_FAILED),
        ({Outcome.UNKNOWN: 1}, 0, False, ExitCode.SOME_FAILED),
        ({Outcome.FAILED: 1, Outcome.NOT_STARTED: 1}, 0, False, ExitCode.STOPPED),
        ({Outcome.NOT_STARTED: 1}, 0, True, ExitCode.ABORTED),
        ({}, 0, True, ExitCode.ABORTED),
    ],
)
def test_exit_code(
    counts: dict[Outcome, int], asked: int, *, aborted: bool, expected: ExitCode
) -> None:
    """An abort outweighs targets left over, these outweigh bad ends, and asked skips are fine."""
    assert exit_code_for(counts, asked_skips=asked, aborted=aborted) is expected


def test_questions_of_the_fold() -> None:
    """Counts name every outcome, and the exit code is the one that the run recorded."""
    fold = fold_of(fleet(3), [started(), *restarted(0), finished(80, "stopped", 1)])
    assert fold.counts() == dict.fromkeys(Outcome, 0) | {
        Outcome.RESTARTED: 1,
        Outcome.NOT_STARTED: 2,
    }
    assert fold.exit_code() == 1


def test_default_name() -> None:
    """A report that nobody named is called after its run."""
    assert default_report_name("2026-11-23-7k3f") == "restart-2026-11-23-7k3f.json"


# ----------------------------------------------------------------------------------- the targets


def test_call_without_an_answer_yet() -> None:
    """An intent counts as sent when it was recorded, with the id that was to be sent."""
    target = first_target(requested(5))
    # Something was asked for, and nobody saw what came of it: that is no "not started".
    assert target["outcome"] == "unknown"
    assert target["error"]["class"] == "unconfirmed"
    assert target["granted_at"] == "2026-11-23T01:00:05.000Z"
    assert target["calls"] == [
        {
            "sent_at": "2026-11-23T01:00:05.000Z",
            "answered_at": None,
            "status": None,
            "job_ids": [],
            "error": None,
            "request_id": "r0-1",
        }
    ]


def test_lost_answer() -> None:
    """A lost answer has no moment, but the status it had, its error, and when it was sent."""
    target = first_target(
        requested(5),
        answered(7, verdict=Verdict.LOST, status=500, error=HTTP_500),
        ended(95, outcome=Outcome.UNKNOWN, reason="no answer", error=HTTP_500),
    )
    (call,) = target["calls"]
    assert (call["answered_at"], call["status"]) == (None, 500)
    assert call["sent_at"] == "2026-11-23T01:00:06.500Z"
    assert target["answered_at"] is None
    assert target["reason"] == "no answer"
    assert target["error"] == call["error"]
    assert call["error"] == {
        "class": "server",
        "status": 500,
        "code": "CSS.0001",
        "message": "no usable answer",
        "request_id": "q1",
    }


def test_every_call_is_an_entry_and_the_last_one_dates_the_target() -> None:
    """Throttled, disproved and accepted calls are three entries; the moments are the last one's."""
    document = reported(
        fleet(1),
        started(),
        requested(0, attempt=1),
        answered(1, verdict=Verdict.THROTTLED, status=429, attempt=1),
        requested(10, attempt=2),
        answered(11, verdict=Verdict.LOST, status=None, attempt=2),
        RestartDisproved(at=BEGIN + 100, target=0, attempt=2),
        requested(110, attempt=3),
        answered(111, "a", "b", "a", attempt=3),
        ended(112, outcome=Outcome.ACCEPTED),
    )
    (target,) = document["targets"]
    assert [call["status"] for call in target["calls"]] == [429, None, 200]
    assert target["granted_at"] == "2026-11-23T01:01:50.000Z"
    assert target["answered_at"] == "2026-11-23T01:01:51.000Z"
    assert target["job_ids"] == document["job_ids"] == ["a", "b"]
    # The throttled start gave its place back; the disproved one may have been received.
    assert document["observed"]["max_started_in_window"] == {"20/600s": 2}


def test_withdrawn_call_was_never_made() -> None:
    """A withdrawn intent leaves no call and no start, though it held a slot for its while."""
    document = reported(
        fleet(1),
        started(),
        requested(0),
        RestartWithdrawn(at=BEGIN + 1, target=0, attempt=1, reason="paused"),
    )
    (target,) = document["targets"]
    assert target["calls"] == []
    assert target["granted_at"] is None
    assert document["observed"] == {
        "max_in_progress": 1,
        "max_started_in_window": {"20/600s": 0},
    }


def test_job_ids_are_in_the_order_of_their_answers() -> None:
    """The run's job ids are as they came in, whatever the order of the fleet."""
    document = reported(
        fleet(2),
        started(),
        requested(0, target=0),
        requested(0, target=1),
        answered(1, "late", target=1),
        answered(2, "first", "late", target=0),
    )
    assert document["job_ids"] == ["late", "first"]
    assert document["targets"][0]["job_ids"] == ["first", "late"]


def test_usable_answer_is_kept_when_another_runner_lost_it() -> None:
    """Lost and found again in either order, the answer and its job ids are in the report."""
    lost = answered(9, verdict=Verdict.LOST, status=None)
    heard = answered(8, "j")
    for news in ([lost, heard], [heard, lost]):
        (call,) = first_target(requested(5), *news)["calls"]
        assert (call["status"], call["job_ids"]) == (200, ["j"])
        assert call["answered_at"] == "2026-11-23T01:00:08.000Z"


def test_answer_without_an_intent_is_evidence() -> None:
    """A job id that came in for a call nobody remembers is reported all the same."""
    target = first_target(answered(3, "j"))
    assert target["job_ids"] == ["j"]
    assert target["calls"][0]["request_id"] is None


def test_late_answer_to_an_earlier_call_leaves_the_latest_slot_alone() -> None:
    """News of an earlier attempt fill its own entry and free nothing."""
    document = reported(
        fleet(2),
        started(),
        requested(0, attempt=1),
        answered(1, verdict=Verdict.LOST, status=None, attempt=1),
        RestartDisproved(at=BEGIN + 90, target=0, attempt=1),
        requested(91, attempt=2),
        answered(92, verdict=Verdict.REFUSED, status=403, attempt=1),
        requested(93, target=1),
    )
    assert [call["status"] for call in document["targets"][0]["calls"]] == [403, None]
    assert document["observed"]["max_in_progress"] == 2


def test_downtime_ends_when_the_cluster_was_ready_for_good() -> None:
    """A cluster that was ready for a moment was down until the last time it became ready."""
    unsettled = RestartUnsettled(at=BEGIN + 30, target=0, seen="status 100")
    events = [requested(0), answered(1), began(2), settling(20), unsettled, settling(40.1234)]
    assert first_target(*events)["downtime_s"] is None
    assert first_target(*events, ended(60))["downtime_s"] == 38.123


def test_downtime_of_a_cluster_that_never_came_back() -> None:
    """Without ready at the end, the end is the latest moment that is known."""
    failed = ended(500, outcome=Outcome.FAILED, reason="not ready in time", error=HTTP_500)
    assert first_target(requested(0), answered(1), began(2), failed)["downtime_s"] == 498.0
    assert first_target(requested(0), answered(1), failed)["downtime_s"] is None


def test_failures_are_those_that_failed_were_refused_or_are_unknown() -> None:
    """A failure's entry names the target, its outcome and its error, in the fleet's order."""
    outcomes = [Outcome.UNKNOWN, Outcome.RESTARTED, Outcome.FAILED, Outcome.REFUSED]
    document = reported(
        fleet(6),
        started(),
        *(ended(n, n, outcome) for n, outcome in enumerate(outcomes)),
        ended(9, 4, Outcome.SKIPPED, reason="busy", asked=True),
    )
    assert [(f["cluster_id"], f["outcome"]) for f in document["failures"]] == [
        ("c0", "unknown"),
        ("c2", "failed"),
        ("c3", "refused"),
    ]
    assert document["targets"][4]["reason"] == "busy"
    assert document["counts"]["skipped"] == document["counts"]["not_started"] == 1


def test_relapse_is_a_failure() -> None:
    """A cluster that turned bad in the soak counts as failed, with that reason and error."""
    document = reported(
        fleet(1),
        started(),
        *restarted(0),
        TargetRelapsed(at=BEGIN + 90, target=0, reason="went bad", error=HTTP_500),
    )
    (target,) = document["targets"]
    assert (target["outcome"], target["reason"]) == ("failed", "went bad")
    assert target["finished_at"] == "2026-11-23T01:01:10.000Z"
    assert document["counts"]["failed"] == 1
    assert document["counts"]["restarted"] == 0
    assert document["failures"][0]["error"]["class"] == "server"


def test_resume_takes_up_the_outcomes_that_it_names() -> None:
    """Targets taken up again are not started until they end again; their calls are kept."""
    events = [
        started(),
        requested(0),
        answered(1, "j1"),
        began(2),
        ended(3, outcome=Outcome.FAILED, reason="bad", error=HTTP_500),
        ended(4, 1, Outcome.REFUSED, error=HTTP_500),
        finished(5, "stopped", 3),
        RunResumed(at=BEGIN + 6, by="ana", again=(Outcome.FAILED,)),
    ]
    document = reported(fleet(2), *events)
    target = document["targets"][0]
    assert (target["outcome"], target["job_ids"]) == ("not_started", ["j1"])
    members = ("reason", "error", "began_at", "finished_at", "downtime_s")
    assert [target[member] for member in members] == [None] * 5
    assert document["targets"][1]["outcome"] == "refused"
    assert document["counts"]["not_started"] == document["counts"]["refused"] == 1

    document = reported(fleet(2), *events, *restarted(10, attempt=2))
    target = document["targets"][0]
    assert (target["outcome"], target["job_ids"]) == ("restarted", ["j1", "job-0-2"])
    assert target["downtime_s"] == 48.0
    assert len(target["calls"]) == 2


UNKNOWN_ONE = (
    started(),
    requested(0),
    answered(1, verdict=Verdict.LOST, status=None, error=HTTP_500),
    began(2),
    ended(90, outcome=Outcome.UNKNOWN, reason="no answer", error=HTTP_500, slot_until=BEGIN + 3600),
)


@pytest.mark.parametrize("outcome", [Outcome.RESTARTED, Outcome.FAILED])
def test_resolved_unknown_is_what_the_person_said(outcome: Outcome) -> None:
    """The outcome is theirs, with their name; how long the cluster was down is not known then."""
    document = reported(fleet(1), *UNKNOWN_ONE, resolved(100, outcome))
    (target,) = document["targets"]
    assert (target["outcome"], target["reason"]) == (outcome, "resolved by ana: seen by hand")
    assert target["began_at"] == "2026-11-23T01:00:02.000Z"
    assert target["finished_at"] == "2026-11-23T01:01:40.000Z"
    assert target["downtime_s"] is None
    assert document["counts"][outcome] == 1
    assert document["counts"]["unknown"] == 0
    # What the call met stays an error of the failed; the restarted have none, but in the call.
    failures = [entry["error"]["class"] for entry in document["failures"]]
    assert failures == (["server"] if outcome is Outcome.FAILED else [])
    assert (target["error"] is None) is (outcome is Outcome.RESTARTED)
    assert target["calls"][0]["error"]["class"] == "server"


def test_resolved_as_not_started_waits_again() -> None:
    """A target that a person says never began has no end, and may get one of its own later."""
    events = [*UNKNOWN_ONE, resolved(100, Outcome.NOT_STARTED, reason=None)]
    document = reported(fleet(1), *events)
    (target,) = document["targets"]
    assert (target["outcome"], target["reason"]) == ("not_started", "resolved by ana")
    members = ("error", "began_at", "finished_at", "downtime_s")
    assert [target[member] for member in members] == [None] * 4
    assert document["counts"]["not_started"] == 1
    (target,) = reported(fleet(1), *events, *restarted(200, attempt=2))["targets"]
    assert (target["outcome"], target["reason"], target["downtime_s"]) == ("restarted", None, 48.0)


def test_word_of_a_person_counts_even_without_an_outcome_before() -> None:
    """A target that is resolved before it had any outcome is counted once, too."""
    document = reported(fleet(2), started(), resolved(1, Outcome.RESTARTED))
    assert document["counts"]["restarted"] == document["counts"]["not_started"] == 1


@pytest.mark.parametrize("outcome", [Outcome.RESTARTED, Outcome.FAILED, Outcome.NOT_STARTED])
def test_resolving_frees_the_slot(outcome: Outcome) -> None:
    """Whatever the person said, the slot of the unknown is free from then on."""
    events = [*UNKNOWN_ONE, resolved(100, outcome), requested(101, 1)]
    assert reported(fleet(2), *events)["observed"]["max_in_progress"] == 1


@pytest.mark.parametrize(
    ("outcome", "said", "expected"),
    [
        (Outcome.RESTARTED, "completed", 0),
        (Outcome.FAILED, "completed", 1),
        (Outcome.NOT_STARTED, "completed", 3),
        (Outcome.RESTARTED, "aborted", 130),
    ],
)
def test_exit_code_knows_what_was_resolved_after_the_end(
    outcome: Outcome, said: str, expected: int
) -> None:
    """Resolved after the end, the code is that of the outcomes; skips that were asked are fine."""
    skipped = ended(91, 1, Outcome.SKIPPED, reason="unhealthy", asked=True)
    before = [*UNKNOWN_ONE, skipped, finished(92, said, 1)]
    assert reported(fleet(2), *before)["exit_code"] == 1
    assert reported(fleet(2), *before, resolved(100, outcome))["exit_code"] == expected
    again = [*before, resolved(100, outcome), started(110), finished(120, said, 4)]
    assert reported(fleet(2), *again)["exit_code"] == 4


def test_skip_that_was_asked_for_is_forgotten_when_taken_up_again() -> None:
    """A target skipped as asked, taken up again and then skipped as busy is no asked skip."""
    document = reported(
        fleet(2),
        *UNKNOWN_ONE,
        ended(91, 1, Outcome.SKIPPED, asked=True),
        RunResumed(at=BEGIN + 92, by="ana", again=(Outcome.SKIPPED,)),
        started(93),
        ended(94, 1, Outcome.SKIPPED, reason="busy"),
        finished(95, exit_code=1),
        resolved(100, Outcome.RESTARTED),
    )
    assert document["exit_code"] == 1


def test_late_answer_is_evidence_and_decides_nothing() -> None:
    """It fills its call's entry and adds its job ids; outcome, reason and slot stay as they are."""
    news = late(95, "j9", request_id="svc-9")
    document = reported(fleet(2), *UNKNOWN_ONE, news, requested(100, 1))
    (target, _) = document["targets"]
    assert (target["outcome"], target["reason"]) == ("unknown", "no answer")
    assert target["job_ids"] == document["job_ids"] == ["j9"]
    (call,) = target["calls"]
    assert (call["status"], call["request_id"], call["error"]) == (200, "svc-9", None)
    assert call["answered_at"] == "2026-11-23T01:01:35.000Z"
    assert document["observed"]["max_in_progress"] == 2


def test_late_answer_to_an_attempt_before_belongs_to_its_own_call() -> None:
    """With two calls, a late answer to the first leaves the second alone."""
    document = reported(
        fleet(1),
        started(),
        requested(0, attempt=1),
        answered(1, verdict=Verdict.LOST, status=None, attempt=1),
        RestartDisproved(at=BEGIN + 95, target=0, attempt=1),
        requested(96, attempt=2),
        late(97, "j1", attempt=1),
        answered(98, "j2", attempt=2),
    )
    calls = document["targets"][0]["calls"]
    assert [call["job_ids"] for call in calls] == [["j1"], ["j2"]]


# -------------------------------------------------------------------------------- changed limits


def test_changed_limits_are_the_plans() -> None:
    """After a change the report shows the limits and the failures allowed that apply now."""
    events = [started(), changed(1, "3", "az=1", "5/60s", max_failures="50%")]
    document = reported(fleet(6), *events)
    assert document["plan"]["limits"] == {
        "max_concurrency": {"fleet": 3, "az": 1},
        "rate": ["5/60s"],
        "max_failures": 3,
    }
    assert document["plan"]["plan_id"] == fleet(6).plan_id
    again = reported(fleet(6), *events, changed(2, "7"))["plan"]["limits"]
    assert again == {"max_concurrency": {"fleet": 7}, "rate": [], "max_failures": 0}


def test_rates_are_observed_while_they_applied() -> None:
    """Every rate that ever applied is shown, with what it came to at the grants under it."""
    plan = fleet(6, limits=(Rate(9, 10.0), Rate(9, 3.0)))
    events = [
        started(),
        *(requested(n / 2, n) for n in range(4)),
        changed(3, "9/10s", "2/10s"),
        requested(11.5, 4),
        changed(12, "9/3s"),
        requested(12.5, 5),
    ]
    observed = reported(plan, *events)["observed"]
    assert observed["max_started_in_window"] == {"9/10s": 4, "9/3s": 4, "2/10s": 2}


# ------------------------------------------------------------------------------ what was observed


def test_slot_of_an_unknown_is_held_as_long_as_was_said() -> None:
    """An unknown counts as in progress until its slot frees, or somebody settles it."""
    unknown = ended(10, outcome=Outcome.UNKNOWN, slot_until=BEGIN + 100)
    lost = answered(1, verdict=Verdict.LOST, status=None)
    first = [started(), requested(0), lost, unknown]

    def most(*events: Event) -> int:
        observed: dict[str, int] = reported(fleet(2), *first, *events)["observed"]
        return observed["max_in_progress"]

    assert most(requested(99, target=1)) == 2
    assert most(requested(100, target=1)) == 1
    assert most(ended(50), requested(60, target=1)) == 1
    again = RunResumed(at=BEGIN + 20, by="ana", again=(Outcome.UNKNOWN,))
    assert most(again, ended(30, outcome=Outcome.SKIPPED), requested(60, target=1)) == 2
    assert most(again, requested(30, attempt=2)) == 2


def test_places_change_hands_in_the_same_instant() -> None:
    """A restart that starts when another one ended, or gave up its place, is not one more."""
    refused = answered(5, verdict=Verdict.REFUSED, status=403)
    events = [requested(5), refused, requested(5, 1), ended(5, 1), requested(5, 2)]
    assert reported(fleet(3), started(), *events)["observed"]["max_in_progress"] == 1


def test_window_is_counted_per_value_of_its_scope() -> None:
    """A scope's rate shows the value that had most starts; both ends of a window belong to it."""
    plan = fleet(6, limits=(Rate(9, 10.0), Rate(9, 10.0, "project"), Rate(9, 4.0, "az")))
    events = [requested(at, n) for n, at in enumerate([0, 1, 2, 10, 11, 30])]
    observed = reported(plan, started(), *events)["observed"]
    assert observed["max_started_in_window"] == {"9/10s": 4, "project=9/10s": 2, "az=9/4s": 2}


# ------------------------------------------------------------------- what holds for any run at all

SIZE = 6
OBSERVED = (Concurrency(3), Rate(9, 10.0), Rate(9, 3.0, "project"), Rate(9, 7.0, "az"))
VERDICTS = tuple(Verdict)
CHANGES = (("2", "9/10s"), ("9/3s", "az=9/7s"), ("3", "1/1s", "9/10s"))
SAID = (Outcome.RESTARTED, Outcome.FAILED, Outcome.NOT_STARTED)
OUTCOMES = tuple(outcome for outcome in Outcome if outcome is not Outcome.NOT_STARTED)


class Story:
    """Turns any numbers into events that a run could have recorded."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[Event] = [started(offset=0.25)]
        self.attempts = [0] * SIZE
        self.phases = ["waiting"] * SIZE

    def move(self, target: int, choice: int, passed: float) -> None:
        self.now += passed
        if choice % 40 == 39:
            self.events.append(changed(self.now, *CHANGES[choice % len(CHANGES)]))
            return
        {
            "waiting": self._waiting,
            "issuing": self._issuing,
            "accepted": self._followed,
            "lost": self._lost,
            "ended": self._ended,
        }[self.phases[target]](target, choice)

    def _tell(self, target: int, phase: str, event: Event) -> None:
        self.phases[target] = phase
        self.events.append(event)

    def _waiting(self, target: int, choice: int) -> None:
        if choice % 5 == 4:
            self._end(target, choice)
            return
        self.attempts[target] += 1
        event = requested(self.now, target, self.attempts[target])
        self._tell(target, "issuing", event)

    def _issuing(self, target: int, choice: int) -> None:
        attempt = self.attempts[target]
        if choice % 8 == 7:
            event = RestartWithdrawn(
                at=BEGIN + self.now, target=target, attempt=attempt, reason="paused"
            )
            self._tell(target, "waiting", event)
            return
        verdict = VERDICTS[choice % len(VERDICTS)]
        phase = {Verdict.ACCEPTED: "accepted", Verdict.LOST: "lost"}.get(verdict, "waiting")
        jobs = [f"job-{target}-{attempt}"] * (choice % 3) if phase == "accepted" else []
        error = None if phase == "accepted" else HTTP_500
        self._tell(
            target,
            phase,
            answered(self.now, *jobs, target=target, attempt=attempt, verdict=verdict, error=error),
        )

    def _lost(self, target: int, choice: int) -> None:
        attempt = self.attempts[target]
        if choice % 7 == 6:
            news = late(self.now, f"late-{target}-{attempt}", target=target, attempt=attempt)
            self._tell(target, "lost", news)
            return
        if choice % 3:
            self._followed(target, choice)
            return
        event = RestartDisproved(at=BEGIN + self.now, target=target, attempt=attempt)
        self._tell(target, "waiting", event)

    def _followed(self, target: int, choice: int) -> None:
        at = BEGIN + self.now
        match choice % 6:
            case 0:
                self._tell(target, "accepted", began(self.now, target))
            case 1:
                self._tell(target, "accepted", settling(self.now, target))
            case 2:
                self._tell(target, "accepted", RestartUnsettled(at=at, target=target, seen="?"))
            case _:
                self._end(target, choice)

    def _end(self, target: int, choice: int) -> None:
        outcome = OUTCOMES[choice % len(OUTCOMES)]
        later = BEGIN + self.now + choice if outcome is Outcome.UNKNOWN else None
        event = ended(self.now, target, outcome, slot_until=later, error=HTTP_500)
        self._tell(target, "ended", event)

    def _ended(self, target: int, choice: int) -> None:
        if outcomes_of(self.events)[target] is Outcome.UNKNOWN and choice % 3:
            outcome = SAID[choice % len(SAID)]
            phase = "waiting" if outcome is Outcome.NOT_STARTED else "ended"
            self._tell(target, phase, resolved(self.now, outcome, target))
            return
        if choice % 2:
            event = TargetRelapsed(at=BEGIN + self.now, target=target, reason="went bad")
            self._tell(target, "ended", event)
            return
        again = OUTCOMES[choice % len(OUTCOMES)]
        self.events.append(RunResumed(at=BEGIN + self.now, by="ana", again=(again,)))
        outcomes = outcomes_of(self.events)
        for position, phase in enumerate(self.phases):
            if phase == "ended" and outcomes[position] is Outcome.NOT_STARTED:
                self.phases[position] = "waiting"


@st.composite
def stories(draw: st.DrawFn) -> list[Event]:
    moves = st.tuples(
        st.integers(0, SIZE - 1), st.integers(0, 200), st.sampled_from([0.0, 0.001, 0.5, 3.0, 7.0])
    )
    story = Story()
    for target, choice, passed in draw(st.lists(moves, max_size=60)):
        story.move(target, choice, passed)
    if draw(st.booleans()):
        story.events.append(finished(story.now))
    return story.events


def ends_of(events: Sequence[Event]) -> list[Outcome]:
    """Each target's outcome as it was recorded, read as slowly as can be."""
    outcomes = [Outcome.NOT_STARTED] * SIZE
    for event in events:
        match event:
            case TargetEnded() | TargetResolved():
                outcomes[event.target] = event.outcome
            case TargetRelapsed():
                outcomes[event.target] = Outcome.FAILED
            case RunResumed():
                outcomes = [Outcome.NOT_STARTED if o in event.again else o for o in outcomes]
            case _:
                pass
    return outcomes


def outcomes_of(events: Sequence[Event]) -> list[Outcome]:
    """Each target's outcome as a report has it: what is under way is unknown."""
    return [
        Outcome.UNKNOWN if one is Outcome.NOT_STARTED and is_under_way(events, target) else one
        for target, one in enumerate(ends_of(events))
    ]


def is_under_way(events: Sequence[Event], target: int) -> bool:
    """Whether the target's last start was neither given back nor seen to be over."""
    indexes = [
        n for n, e in enumerate(events) if isinstance(e, RestartRequested) and e.target == target
    ]
    if not indexes or is_given_back(events, indexes[-1]):
        return False
    over = (RestartDisproved, TargetEnded, TargetResolved)
    return not any(isinstance(e, over) and e.target == target for e in events[indexes[-1] :])


def is_given_back(events: Sequence[Event], index: int) -> bool:
    """Whether the start at `index` certainly never began."""
    start = events[index]
    assert isinstance(start, RestartRequested)
    for event in events[index + 1 :]:
        match event:
            case RestartWithdrawn(target=start.target, attempt=start.attempt):
                return True
            case RestartAnswered(target=start.target, attempt=start.attempt):
                return event.answer.verdict.gives_back
            case _:
                pass
    return False


def holds(events: Sequence[Event], index: int, moment: int) -> bool:
    """Whether the start at `index` holds its slot when the event at `moment` happens."""
    start = events[index]
    assert isinstance(start, RestartRequested)
    if moment < index or is_given_back(events[: moment + 1], index):
        return False
    until = float("inf")
    for now in range(index + 1, moment + 1):
        event = events[now]
        match event:
            case RestartDisproved(target=start.target) | TargetResolved(target=start.target):
                until = min(until, event.at)
            case TargetEnded(target=start.target):
                until = min(until, event.slot_until or event.at)
            case RunResumed() if ends_of(events[:now])[start.target] in event.again:
                break  # whatever comes now is about another start
            case _:
                pass
    return events[moment].at < until


def test_who_steered_a_run_and_why() -> None:
    """Pauses, other limits, stops and refused orders are in the report, by whom, when and why."""
    document = reported(
        fleet(1),
        started(),
        RunPaused(at=BEGIN + 5, by="ana@desk", reason="disk alarm", order=1),
        RunContinued(at=BEGIN + 65, by="ben", order=2),
        changed(70, "3", "8/60s"),
        OrderRefused(at=BEGIN + 80, by="eve", reason="these limits allow more", order=3),
        RunStopping(at=BEGIN + 90, reason="drained by ana@desk", by="ana@desk", order=4),
    )
    steering = document["steering"]
    assert [one["event"] for one in steering] == [
        "run.paused", "run.continued", "limits.changed", "order.refused", "run.stopping",
    ]  # fmt: skip
    assert steering[0] == {
        "at": "2026-11-23T01:00:05.000Z", "event": "run.paused", "by": "ana@desk",
        "reason": "disk alarm", "limits": None, "max_unavailable": None, "max_failures": None,
        "window": None, "is_looser": None,
    }  # fmt: skip
    assert steering[2]["limits"] == ["3", "8/60s"]
    assert steering[3]["by"] == "eve"


def naive_in_progress(events: Sequence[Event]) -> int:
    grants = [n for n, event in enumerate(events) if isinstance(event, RestartRequested)]
    return max((sum(holds(events, n, moment) for n in grants) for moment in grants), default=0)


def naive_in_window(events: Sequence[Event], plan: Plan) -> dict[str, int]:
    """For every start: how many of those before it each rate of the day counted with it."""
    most: dict[str, int] = {}
    rates = [limit for limit in plan.policy.limits if isinstance(limit, Rate)]
    starts: list[tuple[float, Target]] = []
    for n, event in enumerate(events):
        match event:
            case LimitsChanged():
                rates = [Rate.parse(text) for text in event.limits if "/" in text]
            case RestartRequested() if not is_given_back(events, n):
                starts.append((event.at, plan.targets[event.target]))
                for rate in rates:
                    value = scope_value(starts[-1][1], rate.scope)
                    count = sum(
                        event.at - at <= rate.per and scope_value(target, rate.scope) == value
                        for at, target in starts
                    )
                    most[str(rate)] = max(count, most.get(str(rate), 0))
            case _:
                pass
        for rate in rates:
            most.setdefault(str(rate), 0)
    return most


@given(stories())
def test_any_run_has_a_valid_and_complete_report(events: list[Event]) -> None:
    """Whatever happened: valid, every target once with its outcome, every job id, every call."""
    document = reported(fleet(SIZE, limits=OBSERVED), *events)
    targets = document["targets"]
    assert [target["cluster_id"] for target in targets] == [f"c{n}" for n in range(SIZE)]
    assert [target["outcome"] for target in targets] == outcomes_of(events)
    jobs = [
        job
        for event in events
        if isinstance(event, RestartAnswered | AnswerArrivedLate)
        for job in event.answer.job_ids
    ]
    assert document["job_ids"] == list(dict.fromkeys(jobs))
    assert {job for target in targets for job in target["job_ids"]} == set(jobs)
    requests = sum(isinstance(event, RestartRequested) for event in events)
    withdrawn = sum(isinstance(event, RestartWithdrawn) for event in events)
    assert sum(len(target["calls"]) for target in targets) == requests - withdrawn
    counts = document["counts"]
    assert counts.pop("targets") == sum(counts.values()) == SIZE
    bad = {"failed", "refused", "unknown"}
    assert len(document["failures"]) == sum(counts[outcome] for outcome in bad)


@given(stories())
def test_observed_is_what_counting_by_hand_gives(events: list[Event]) -> None:
    """The most at once and the most per window agree with a count of every start against all."""
    plan = fleet(SIZE, limits=OBSERVED)
    observed = reported(plan, *events)["observed"]
    assert observed["max_in_progress"] == naive_in_progress(events)
    assert observed["max_started_in_window"] == naive_in_window(events, plan)


@given(stories())
def test_stream_says_what_the_document_says(events: list[Event]) -> None:
    """What is written piece by piece is JSON, and the very document that is built in memory."""
    fold = fold_of(fleet(SIZE, limits=OBSERVED), events)
    printed = io.StringIO()
    write_report(fold, FACTS, "-", stdout=printed)
    assert json.loads(printed.getvalue()) == build_report(fold, FACTS)


# ------------------------------------------------------------------------------------ the writing


def long_fold(size: int = 400) -> ReportFold:
    events: list[Event] = [started()]
    for n in range(size):
        events += restarted(n, n)
    return fold_of(fleet(size), [*events, finished(size + 100)])


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let the kernel refuse to write more than this to a file, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write(fold: ReportFold, path: str | Path) -> None:
    write_report(fold, FACTS, path, stdout=io.StringIO())


def test_file_is_whole_private_and_readable(tmp_path: Path) -> None:
    """The file holds the report, a target a line, top members indented, for its owner only."""
    path = tmp_path / "report.json"
    fold = long_fold(3)
    write(fold, str(path))
    text = path.read_text("utf-8")
    assert json.loads(text) == build_report(fold, FACTS)
    assert sum(line.startswith('    {"project_id"') for line in text.splitlines()) == 3
    assert '\n  "run_id": "2026-11-23-7k3f",\n' in text
    assert text.endswith("\n}\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare file name is written to the current folder."""
    monkeypatch.chdir(tmp_path)
    write(long_fold(1), "report.json")
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["exit_code"] == 0


def test_link_stays_a_link(tmp_path: Path) -> None:
    """A path that is a link gets its destination replaced, not itself."""
    real = tmp_path / "real.json"
    real.write_text("old")
    link = tmp_path / "link.json"
    link.symlink_to(real)
    write(long_fold(1), link)
    assert link.is_symlink()
    assert json.loads(real.read_text("utf-8"))["run_id"] == FACTS.run_id


def test_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """A path that is a pipe or a device gets the report and stays what it is."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text("utf-8")))
    reader.start()
    write(long_fold(2), pipe)
    reader.join(10)
    assert json.loads(received[0])["counts"]["restarted"] == 2
    assert pipe.is_fifo()


def test_texts_of_every_kind_survive(tmp_path: Path) -> None:
    """Names in any script are readable in the file, escaped in print, and come back whole."""
    name = '搜索 \ud800 "x"\n\U0001f600'
    target = Target(project_id="p", cluster_id="c", name=name, labels=(("Größe", "ü"),))
    fold = fold_of(make_plan([target], Policy()), [])
    path = tmp_path / "report.json"
    printed = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    write(fold, path)
    write_report(fold, FACTS, "-", stdout=printed)
    printed.seek(0)
    text = path.read_text("utf-8")
    assert "搜索" in text
    for form in (text, printed.read()):
        assert json.loads(form)["targets"][0]["name"] == name
        assert json.loads(form)["targets"][0]["labels"] == {"Größe": "ü"}


def test_full_disk_leaves_the_old_report_whole(tmp_path: Path) -> None:
    """Where the new report has no room, the old one stays, nothing lies about, and we say so."""
    path = tmp_path / "report.json"
    path.write_text("old")
    fold = long_fold()
    with (
        files_of_at_most(50_000),
        pytest.raises(OrchestratorError, match=r"File too large.*`orchestrator report 2026"),
    ):
        write(fold, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_kill_while_writing_leaves_the_old_report_whole(tmp_path: Path) -> None:
    """A process that dies in the middle of a report leaves the old one as it was."""
    path = tmp_path / "report.json"
    path.write_text("old")
    fold = long_fold()
    child = os.fork()
    if not child:
        # The kernel kills the child in the very write that passes the limit.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with files_of_at_most(50_000):
            write(fold, path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGXFSZ
    assert path.read_text() == "old"
    write(fold, path)
    assert json.loads(path.read_text("utf-8"))["counts"]["restarted"] == 400


@pytest.mark.parametrize("place", ["no/such/folder/report.json", "", "file/report.json"])
def test_unwritable_path_says_what_to_do(tmp_path: Path, place: str) -> None:
    """The error names the path and the cause, and where else the report can be had."""
    (tmp_path / "file").write_text("x")
    path = tmp_path / place
    with pytest.raises(OrchestratorError) as caught:
        write(long_fold(1), path)
    text = str(caught.value)
    assert f"writing the report of run {FACTS.run_id} to {str(path)!r}: " in text
    assert "choose another file" in text
    assert f"`orchestrator report {FACTS.run_id}`" in text


def test_broken_standard_output_says_so() -> None:
    """A reader of standard output that is gone is an error with words, not a traceback."""
    read, written = os.pipe()
    os.close(read)
    stdout = os.fdopen(written, "w")
    with pytest.raises(OrchestratorError, match="to standard output: Broken pipe"):
        write_report(long_fold(1), FACTS, "-", stdout=stdout)
    with pytest.raises(BrokenPipeError):
        stdout.close()


def test_writing_needs_little_memory(tmp_path: Path) -> None:
    """The report is never whole in memory: writing takes a small part of the file's size."""
    path = tmp_path / "report.json"
    fold = long_fold(2000)
    tracemalloc.start()
    try:
        write(fold, path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size / 3
