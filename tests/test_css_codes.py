"""The documented tables of errors, row by row: class, verdict, and what the campaign then does."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from orchestrator.attempts import MOST_TRIES
from orchestrator.css.answers import read_answer
from orchestrator.css.codes import BY_CODE, BY_CODE_AND_STATUS
from orchestrator.limits import Concurrency
from orchestrator.model import (
    AccountRefused,
    Answer,
    Outcome,
    RestartAnswered,
    RestartDisproved,
    Verdict,
)
from tests.test_campaign import Play


@dataclass(frozen=True)
class Row:
    """One row of a table: what the document says, and what we make of it."""

    statuses: tuple[int, ...]
    codes: tuple[str, ...]
    meaning: str
    action: str
    error_class: str
    verdict: Verdict
    then: Callable[[Answer], None]


def playing(count: int) -> Play:
    """Return a run of so many targets, one at a time, that has asked for the first."""
    play = Play(count, limits=(Concurrency(1),))
    play.turn()
    return play


def answered(play: Play, answer: Answer) -> None:
    """Give this answer to the first target's latest call, as if it came now."""
    asked = next(event for event in reversed(play.asked) if event.target == 0)
    play.apply(RestartAnswered(at=play.now, target=0, attempt=asked.attempt, answer=answer))
    play.turn()


def of_first(play: Play) -> int:
    return sum(event.target == 0 for event in play.asked)


# ------------------------------------------------------------------- what the campaign then does


def refuses(answer: Answer) -> None:
    """The target is refused with the service's reason, at once; the next one goes on."""
    play = playing(2)
    answered(play, answer)
    assert (play.outcome(), play.ended().error) == (Outcome.REFUSED, answer.error)
    assert play.campaign.failures == 0
    play.wait(1000.0)
    assert of_first(play) == 1
    assert [event.target for event in play.asked] == [0, 1]


def tries_later(answer: Answer) -> None:
    """It is asked again after a wait and a fresh look, so many times, and then skipped."""
    play = playing(1)
    for attempt in range(1, MOST_TRIES):
        looks = play.looks
        answered(play, answer)
        assert play.outcome() is None
        assert of_first(play) == attempt
        play.wait(100.0)
        assert of_first(play) == attempt + 1
        assert play.looks > looks
    answered(play, answer)
    assert answer.error is not None
    assert play.outcome() is Outcome.SKIPPED
    assert play.ended().reason == answer.error.error_class
    assert play.campaign.failures == 0


def waits(answer: Answer) -> None:
    """Nobody of the account is asked for a while, and then the same target is; never a failure."""
    play = playing(2)
    for attempt in range(1, 2 * MOST_TRIES):
        answered(play, answer)
        assert (play.outcome(), len(play.asked)) == (None, attempt)
        play.wait(120.0)
        assert of_first(play) == len(play.asked) == attempt + 1
    assert play.campaign.failures == 0
    assert play.stop_reason() is None


def gives_up_the_credential(answer: Answer) -> None:
    """Nothing more is asked with this credential, so that it is not locked."""
    play = playing(2)
    answered(play, answer)
    assert play.outcome() is Outcome.REFUSED
    play.wait(1000.0)
    assert len(play.asked) == 1
    assert any(isinstance(event, AccountRefused) for event in play.events)
    assert "credential refused" in (play.stop_reason() or "")


def looks_first(answer: Answer) -> None:
    """It is looked after for all of `confirm_within`, repeated once, and then unknown."""
    play = playing(2)
    answered(play, answer)
    play.wait(9.0)
    assert (play.outcome(), of_first(play)) == (None, 1)
    play.wait(5.0)
    assert any(isinstance(event, RestartDisproved) for event in play.events)
    assert of_first(play) == 2
    answered(play, answer)
    play.wait(15.0)
    assert (play.outcome(), of_first(play)) == (Outcome.UNKNOWN, 2)
    assert play.ended().error == answer.error


# -------------------------------------------------------------------------------------- the tables

NO = "no retry"
UNKNOWN = "outcome unknown: read detail first"

SERVICE = [
    Row((202, 409), ("CSS.0011",), "another operation running, or instance faulty",
        "not started; re-read detail; wait and try again within the window, bounded",
        "busy", Verdict.BUSY, tries_later),
    Row((400,), ("CSS.0001",), "bad parameter", NO,
        "bad_request", Verdict.REFUSED, refuses),
    Row((400,), ("CSS.0006", "CSS.0017", "CSS.5037", "CSS.5038", "CSS.5056"),
        "empty body / letter case / unknown parameter / out of range / length", NO,
        "bad_request", Verdict.REFUSED, refuses),
    Row((400,), ("CSS.0021", "CSS.5301"), "account or cluster frozen (arrears)",
        "stop for that account or cluster", "frozen", Verdict.REFUSED, refuses),
    Row((403,), ("CSS.5045",), "tenant not allowed",
        "stop for that account or cluster", "frozen", Verdict.REFUSED, refuses),
    Row((400,), ("CSS.0036",), "internal error",
        "one careful retry after reading detail", "server_error", Verdict.LOST, looks_first),
    Row((400,), ("CSS.0045",), "token wrong", "re-authenticate once",
        "unauthorized", Verdict.UNAUTHORIZED, gives_up_the_credential),
    Row((400,), ("CSS.0047",), "cluster gone", "skip, report",
        "not_found", Verdict.REFUSED, refuses),
    Row((400,), ("CSS.0051",), "no permission", NO, "forbidden", Verdict.REFUSED, refuses),
    Row((403,), ("CSS.0010", "CSS.0032"), "no permission", NO,
        "forbidden", Verdict.REFUSED, refuses),
    Row((400,), ("CSS.0074", "CSS.5069"), "too few data nodes (<3) / bad node number", NO,
        "unsupported", Verdict.REFUSED, refuses),
    Row((400,), ("CSS.0076", "CSS.5106", "CSS.5073", "CSS.5095", "CSS.5167"),
        "wrong role / wrong instance type / cannot be restarted alone / unsupported / no data node",
        NO, "unsupported", Verdict.REFUSED, refuses),
    Row((400,), ("CSS.0077",), "scaling in progress", "wait, then retry",
        "busy", Verdict.BUSY, tries_later),
    Row((400,), ("CSS.5090", "CSS.5140"), "not allowed in this status / not supported now",
        "re-read; wait or give up", "busy", Verdict.BUSY, tries_later),
    Row((400,), ("CSS.5306", "CSS.5307"), "unpaid / processing order", NO,
        "frozen", Verdict.REFUSED, refuses),
    Row((403,), ("CSS.0015",), "not found or no access", NO,
        "not_found", Verdict.REFUSED, refuses),
    Row((404,), ("CSS.0002", "CSS.0016", "CSS.0022", "CSS.1103", "CSS.3027"), "not found", NO,
        "not_found", Verdict.REFUSED, refuses),
    Row((404,), ("CSS.0007",), "VM info missing", "later",
        "unavailable", Verdict.BUSY, tries_later),
    Row((409,), ("CSS.0012", "CSS.0029", "CSS.3004"), "standby / being created / backup running",
        "wait, retry", "busy", Verdict.BUSY, tries_later),
    Row((415,), ("CSS.0004", "CSS.5108"), "illegal operation", NO,
        "unsupported", Verdict.REFUSED, refuses),
    Row((419,), ("CSS.0023",), "resources short", "later",
        "unavailable", Verdict.BUSY, tries_later),
    Row((422,), ("CSS.0040",), "cannot process", NO, "bad_request", Verdict.REFUSED, refuses),
    Row((500,), ("CSS.0005", "CSS.1004", "CSS.9999"), "server error", UNKNOWN,
        "server_error", Verdict.LOST, looks_first),
]  # fmt: skip

GATEWAY = [
    Row((404,), ("0101",), "no such API, method or environment", NO,
        "wrong_endpoint", Verdict.REFUSED, refuses),
    Row((404,), ("0103",), "backend not found", "later",
        "unavailable", Verdict.THROTTLED, waits),
    Row((500,), ("0103",), "backend not found, as a dedicated gateway says it", "later",
        "server_error", Verdict.LOST, looks_first),
    Row((400, 413, 414, 494), ("0201",), "bad request / too large", NO,
        "bad_request", Verdict.REFUSED, refuses),
    Row((502,), ("0201", "0202", "0610"), "backend unavailable", UNKNOWN,
        "server_error", Verdict.LOST, looks_first),
    Row((504,), ("0201", "0203"), "backend timeout", UNKNOWN,
        "server_error", Verdict.LOST, looks_first),
    Row((500,), ("0201", "0601", "0606", "0608"), "gateway internal", UNKNOWN,
        "server_error", Verdict.LOST, looks_first),
    Row((503,), ("0613",), "IAM unavailable for the gateway", "retry with backoff (not executed)",
        "unavailable", Verdict.THROTTLED, waits),
    Row((401,), ("0301",), "IAM authentication wrong", "never retry a signature failure",
        "unauthorized", Verdict.UNAUTHORIZED, gives_up_the_credential),
    Row((403,), ("0302", "0306", "0310", "0402", "0802"),
        "user or IP not allowed, project unavailable, region disabled", "stop",
        "forbidden", Verdict.REFUSED, refuses),
    Row((401,), ("0303", "0305"), "app / auth info wrong", "stop",
        "unauthorized", Verdict.UNAUTHORIZED, gives_up_the_credential),
    Row((401,), ("0307",), "token must be renewed", "re-authenticate once, repeat",
        "unauthorized", Verdict.UNAUTHORIZED, gives_up_the_credential),
    Row((429,), ("0308",), "throttled", "not executed; wait, repeat",
        "throttled", Verdict.THROTTLED, waits),
]  # fmt: skip

BARE = [
    Row((409,), ("",), "conflicts with the current state", "wait and re-check",
        "busy", Verdict.BUSY, tries_later),
    Row((412,), ("",), "a precondition is not met", "change the request",
        "unsupported", Verdict.REFUSED, refuses),
    Row((419,), ("",), "resources short", "later", "unavailable", Verdict.BUSY, tries_later),
    Row((422, 494), ("",), "cannot process / headers too large", NO,
        "bad_request", Verdict.REFUSED, refuses),
    Row((429,), ("",), "throttled", "not executed; wait, repeat",
        "throttled", Verdict.THROTTLED, waits),
    Row((500, 502, 503, 504), ("",), "somebody on the way failed", UNKNOWN,
        "server_error", Verdict.LOST, looks_first),
]  # fmt: skip
"""Statuses that came without a code."""


def service_body(code: str, row: Row) -> dict[str, str]:
    return {"errCode": code, "externalMessage": f"{code} : {row.meaning}. (detail)"}


def gateway_body(prefix: str) -> Callable[[str, Row], dict[str, str]]:
    def body(code: str, row: Row) -> dict[str, str]:
        return {
            "error_msg": row.meaning, "error_code": f"{prefix}.{code}", "request_id": "gateway",
        }  # fmt: skip

    return body


def bare_body(_code: str, _row: Row) -> dict[str, str]:
    return {}


Body = Callable[[str, Row], dict[str, str]]


def rows() -> Iterator[object]:
    tables: list[tuple[str, list[Row], Body]] = [
        ("", SERVICE, service_body),
        ("APIGW.", GATEWAY, gateway_body("APIGW")),
        ("APIG.", GATEWAY, gateway_body("APIG")),
        ("", BARE, bare_body),
    ]
    for prefix, table, body in tables:
        for row in table:
            for status in row.statuses:
                for code in row.codes:
                    yield pytest.param(status, code, row, body, id=f"{status} {prefix}{code}")


@pytest.mark.parametrize(("status", "code", "row", "body"), list(rows()))
def test_row(status: int, code: str, row: Row, body: Body) -> None:
    """A documented error has its class and verdict, and the campaign does what the row says."""
    answer = read_answer(
        status, {}, json.dumps(body(code, row)).encode(),
        sent_at=1000.0, answered_at=1000.0, request_id="sent",
    )  # fmt: skip
    assert answer.error is not None
    assert (answer.error.error_class, answer.verdict) == (row.error_class, row.verdict)
    assert (answer.error.code or "").endswith(code)
    row.then(answer)


def test_every_code_has_a_row() -> None:
    """No code is known to us that the tables do not have, and the other way round."""
    documented = {
        (code if code.startswith("CSS") else f"APIGW.{code}", status)
        for row in (*SERVICE, *GATEWAY)
        for code in row.codes
        for status in row.statuses
    }
    assert {code for code, _ in documented} == set(BY_CODE)
    assert set(BY_CODE_AND_STATUS) <= documented
