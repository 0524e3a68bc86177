"""What the service's answers mean: every row of the tables, every shape of a body, and rubbish."""

import codecs
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.css.answers import (
    LONGEST_WAIT,
    MESSAGE_LENGTH,
    is_from_service,
    is_unauthorized,
    read_answer,
    read_cluster,
    read_detail,
    read_listing,
    read_refusal,
    refuses_values,
)
from orchestrator.css.codes import BY_CODE, BY_CODE_AND_STATUS, BY_STATUS, ErrorClass, meaning_of
from orchestrator.css.listing import Pass, missing
from orchestrator.errors import GoneError
from orchestrator.model import Answer, ClusterState, Throttle, Verdict

JOB = "ff8080815fa0fa5e015fa365b6300007"


def answer(
    status: int,
    body: object = b"",
    headers: dict[str, str] | None = None,
    now_wall: float | None = None,
) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_answer(
        status,
        headers or {},
        raw,
        sent_at=1.0,
        answered_at=2.0,
        request_id="sent",
        now_wall=now_wall,
    )


def error_of(given: Answer) -> tuple[str, str | None, str]:
    assert given.error is not None
    return given.error.error_class, given.error.code, given.error.message


# --------------------------------------------------------------------------------------- success


@pytest.mark.parametrize(
    ("body", "job_ids"),
    [
        ({"jobId": [JOB]}, (JOB,)),
        ({"jobId": [JOB, "b", JOB]}, (JOB, "b")),
        ({"jobId": JOB}, (JOB,)),
        ({"jobId": None}, ()),
        ({"jobId": []}, ()),
        ({"jobId": ["", None, True, {"a": 1}]}, ()),
        ({"jobId": 17}, ("17",)),
        ({"jobId": JOB, "errCode": None, "error_code": ""}, (JOB,)),
        ({"code": 0, "message": "ok", "jobId": JOB}, (JOB,)),
        ({}, ()),
        (None, ()),
        ([], ()),
        (b"", ()),
        (b" \r\n", ()),
        (b"\xef\xbb\xbf" + json.dumps({"jobId": JOB}).encode(), (JOB,)),
    ],
)
def test_success(body: object, job_ids: tuple[str, ...]) -> None:
    """A 200 without an error code is accepted, with whatever job ids it carries."""
    given = answer(200, body)
    assert given == Answer(
        verdict=Verdict.ACCEPTED,
        sent_at=1.0,
        answered_at=2.0,
        status=200,
        job_ids=job_ids,
        request_id="sent",
    )


@pytest.mark.parametrize(
    "body",
    [
        {"errCode": "CSS.0011", "externalMessage": "CSS.0011 : busy"},
        {"error_code": "CSS.0011", "error_msg": "busy"},
        {"errorCode": "CSS.0011", "errorMsg": "busy"},
        {"code": "CSS.0011", "message": "busy"},
        {"error": {"code": "CSS.0011", "message": "busy"}},
        {"result": {"errCode": "CSS.0011", "externalMessage": "busy"}},
    ],
)
@pytest.mark.parametrize("status", [200, 202, 409])
def test_busy_whatever_the_status(status: int, body: object) -> None:
    """The service's code for busy means that nothing started, even with a status of success."""
    given = answer(status, body)
    assert given.verdict is Verdict.BUSY
    assert error_of(given)[:2] == ("busy", "CSS.0011")
    assert "busy" in error_of(given)[2]


@pytest.mark.parametrize(
    "body", [b"<html><title>Login</title></html>", b"OK", b'{"jobId":["ff80', b"\xff\xfe\x00"]
)
def test_success_that_cannot_be_read(body: bytes) -> None:
    """A 200 that is no JSON may come from anybody in between: look."""
    assert answer(200, body).verdict is Verdict.LOST


@pytest.mark.parametrize(
    "body",
    [{"errCode": "CSS.7777"}, {"error": {"code": 401, "message": "no"}}, {"error_code": "X"}],
)
def test_success_with_an_unknown_error(body: object) -> None:
    """A 200 with a code that nobody knows proves neither success nor refusal: look."""
    assert answer(200, body).verdict is Verdict.LOST


def test_refusal_that_names_a_job() -> None:
    """An answer that says no and names a job keeps the job and counts as lost."""
    given = answer(400, {"errCode": "CSS.0001", "jobId": [JOB]})
    assert given.verdict is Verdict.LOST
    assert given.job_ids == (JOB,)


# ---------------------------------------------------------------------------------------- tables

ROWS = [
    # what the service says of itself
    *((status, "CSS.0011", "busy", Verdict.BUSY) for status in (202, 409)),
    *((409, f"CSS.{n}", "busy", Verdict.BUSY) for n in ("0012", "0029", "3004")),
    *((400, f"CSS.{n}", "busy", Verdict.BUSY) for n in ("0077", "5090", "5140")),
    (404, "CSS.0007", "unavailable", Verdict.BUSY),
    (419, "CSS.0023", "unavailable", Verdict.BUSY),
    *(
        (400, f"CSS.{n}", "bad_request", Verdict.REFUSED)
        for n in ("0001", "0006", "0017", "5037", "5038", "5056")
    ),
    (422, "CSS.0040", "bad_request", Verdict.REFUSED),
    *((400, f"CSS.{n}", "frozen", Verdict.REFUSED) for n in ("0021", "5301", "5306", "5307")),
    (403, "CSS.5045", "frozen", Verdict.REFUSED),
    (400, "CSS.0036", "server_error", Verdict.LOST),
    (400, "CSS.0045", "unauthorized", Verdict.UNAUTHORIZED),
    (400, "CSS.0047", "not_found", Verdict.REFUSED),
    (403, "CSS.0015", "not_found", Verdict.REFUSED),
    *(
        (404, f"CSS.{n}", "not_found", Verdict.REFUSED)
        for n in ("0002", "0016", "0022", "1103", "3027")
    ),
    (400, "CSS.0051", "forbidden", Verdict.REFUSED),
    *((403, f"CSS.{n}", "forbidden", Verdict.REFUSED) for n in ("0010", "0032")),
    *(
        (400, f"CSS.{n}", "unsupported", Verdict.REFUSED)
        for n in ("0074", "5069", "0076", "5106", "5073", "5095", "5167")
    ),
    *((415, f"CSS.{n}", "unsupported", Verdict.REFUSED) for n in ("0004", "5108")),
    *((500, f"CSS.{n}", "server_error", Verdict.LOST) for n in ("0005", "1004", "9999")),
    # what its gateway says
    (404, "APIGW.0101", "wrong_endpoint", Verdict.REFUSED),
    (404, "APIGW.0103", "unavailable", Verdict.THROTTLED),
    (500, "APIGW.0103", "server_error", Verdict.LOST),
    *((status, "APIGW.0201", "bad_request", Verdict.REFUSED) for status in (400, 413, 414, 494)),
    *((502, f"APIGW.{n}", "server_error", Verdict.LOST) for n in ("0201", "0202", "0610")),
    *((504, f"APIGW.{n}", "server_error", Verdict.LOST) for n in ("0201", "0203")),
    *((500, f"APIGW.{n}", "server_error", Verdict.LOST) for n in ("0201", "0601", "0606", "0608")),
    (503, "APIGW.0613", "unavailable", Verdict.THROTTLED),
    *(
        (401, f"APIGW.{n}", "unauthorized", Verdict.UNAUTHORIZED)
        for n in ("0301", "0303", "0305", "0307")
    ),
    *(
        (403, f"APIGW.{n}", "forbidden", Verdict.REFUSED)
        for n in ("0302", "0306", "0310", "0402", "0802")
    ),
    (429, "APIGW.0308", "throttled", Verdict.THROTTLED),
]


@pytest.mark.parametrize(("status", "code", "error_class", "verdict"), ROWS)
@pytest.mark.parametrize("keys", [("errCode", "externalMessage"), ("error_code", "error_msg")])
def test_codes(
    status: int, code: str, error_class: str, verdict: Verdict, keys: tuple[str, str]
) -> None:
    """Each code of the service and its gateway, both its prefixes, has its class and verdict."""
    for spelling in (code, code.replace("APIGW.", "APIG."), code.lower()):
        given = answer(status, {keys[0]: spelling, keys[1]: "why"})
        assert (given.verdict, *error_of(given)) == (verdict, error_class, spelling, "why")


def test_rows_cover_the_tables() -> None:
    """No row of the tables is left untested."""
    tested = {(code, status) for status, code, *_ in ROWS}
    assert {code for code, _ in tested} == set(BY_CODE)
    assert set(BY_CODE_AND_STATUS) <= tested


@pytest.mark.parametrize(
    ("status", "error_class", "verdict"),
    [
        (201, "lost", Verdict.LOST),
        (202, "lost", Verdict.LOST),
        (204, "lost", Verdict.LOST),
        (301, "redirected", Verdict.REFUSED),
        (307, "redirected", Verdict.REFUSED),
        (400, "bad_request", Verdict.REFUSED),
        (401, "unauthorized", Verdict.UNAUTHORIZED),
        (403, "forbidden", Verdict.REFUSED),
        (404, "not_found", Verdict.REFUSED),
        (405, "bad_request", Verdict.REFUSED),
        (407, "forbidden", Verdict.REFUSED),
        (408, "lost", Verdict.LOST),
        (409, "busy", Verdict.BUSY),
        (412, "unsupported", Verdict.REFUSED),
        (415, "unsupported", Verdict.REFUSED),
        (429, "throttled", Verdict.THROTTLED),
        (500, "server_error", Verdict.LOST),
        (502, "server_error", Verdict.LOST),
        (503, "server_error", Verdict.LOST),
        (504, "server_error", Verdict.LOST),
        (599, "server_error", Verdict.LOST),
        (0, "lost", Verdict.LOST),
        (999, "lost", Verdict.LOST),
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"{}", b"<html>x</html>", b'{"errCode":"CSS.7777","externalMessage":"?"}']
)
def test_statuses(status: int, error_class: str, verdict: Verdict, body: bytes) -> None:
    """Without a code we know, the status decides."""
    given = answer(status, body)
    assert (given.verdict, error_of(given)[0]) == (verdict, error_class)
    assert error_of(given)[2]


def test_statuses_cover_the_table() -> None:
    """Whatever gives the slot back is a status of the client's fault, or a redirect."""
    assert {s for s in BY_STATUS if BY_STATUS[s].verdict.gives_back} <= set(range(400, 500))
    for status in [*range(200, 300), *range(500, 600)]:
        assert meaning_of(status, None).verdict is Verdict.LOST


# ---------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"errCode": "CSS.1", "externalMessage": "a  b\nc"}, "CSS.1", "a b c"),
        ({"errCode": "CSS.1", "externalMessage": None}, "CSS.1", "status 418 without"),
        ({"error_code": "A.1", "error_msg": "m", "request_id": "r"}, "A.1", "m"),
        ({"errorCode": "A.1", "errorMsg": "m"}, "A.1", "m"),
        ({"code": "A.1", "message": "m"}, "A.1", "m"),
        ({"error": {"code": 401, "message": "m", "title": "t"}}, "401", "m"),
        ({"x": 1, "y": {"error_code": "A.1", "error_msg": "m"}}, "A.1", "m"),
        ({"message": "only words"}, None, "only words"),
        ({"x": {"y": {"error_code": "too deep"}}}, None, "status 418 without"),
        ([{"error_code": "A.1"}], None, "status 418 without"),
        (b"plain\r\n words", None, "plain words"),
        (b"<html><head><title> 502 Bad\n Gateway</title></head></html>", None, "502 Bad Gateway"),
        (b"<p>no <b>title</b></p><script>x()</script>", None, "no title"),
        (b"\xff\x00\x1b[31mred", None, "\ufffd [31mred"),
        (b"[" * 100_000, None, "[[["),
        (b'{"errCode": "A\\ud800", "externalMessage": "\\udfff!"}', "A\ufffd", "\ufffd!"),
        (b'{"message": "\\ud83d\\ude00"}', None, "\U0001f600"),
    ],
)
def test_shapes(body: object, code: str | None, message: str) -> None:
    """Every shape of an error body yields its code and its words, on one line."""
    _, found, words = error_of(answer(418, body))
    assert found == code
    assert words.startswith(message)
    words.encode()


def test_messages_are_short() -> None:
    """A message is trimmed, even one of a megabyte, and quickly."""
    before = time.perf_counter()
    words = error_of(answer(400, {"errCode": "CSS.0001", "externalMessage": "x y" * 400_000}))[2]
    assert len(words) == MESSAGE_LENGTH
    assert time.perf_counter() - before < 0.5


@pytest.mark.parametrize(
    "message",
    [
        "verify aksk signature fail, canonicalRequest:POST|/v1.0|x-security-token:SECRET|",
        "header X-Auth-Token: SECRET is bad",
        "bad authorization: SDK-HMAC-SHA256 Access=SECRET, SignedHeaders=a;b, Signature=SECRET",
        "Access=SECRET, Signature=SECRET",
    ],
)
def test_echoed_headers_are_dropped(message: str) -> None:
    """What the gateway echoes of our headers never gets into a message."""
    given = answer(401, {"error_code": "APIGW.0301", "error_msg": message})
    assert "SECRET" not in repr(given)
    refusal = read_refusal(401, {}, json.dumps({"error_msg": message}).encode(), "looking")
    assert "SECRET" not in str(refusal)


@given(
    status=st.integers(),
    headers=st.dictionaries(
        st.sampled_from(["Retry-After", "date", "Date", "X-Request-Id", "Location"]),
        st.text(),
    ),
    body=st.one_of(
        st.binary(),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(["jobId", "errCode", "error_msg", "error", "message", "code"]),
                    inner,
                )
            ),
        ).map(lambda document: json.dumps(document).encode()),
    ),
)
def test_answers_never_raise(status: int, headers: dict[str, str], body: bytes) -> None:
    """Whatever comes back, there is an answer, and everything in it can be written down."""
    given = read_answer(
        status, headers, body, sent_at=1.0, answered_at=2.0, request_id="r", now_wall=3.0
    )
    repr(given).encode()
    assert (given.error is None) == (given.verdict is Verdict.ACCEPTED)
    assert given.verdict is not Verdict.ACCEPTED or status == 200
    str(read_refusal(status, headers, body, "looking")).encode()


# --------------------------------------------------------------------------------------- headers


@pytest.mark.parametrize("name", ["X-Request-Id", "x-request-id", "X-REQUEST-ID"])
def test_request_id(name: str) -> None:
    """The gateway's header names the call, else the body, else what we sent."""
    body = {"error_code": "APIGW.0201", "request_id": "body"}
    assert answer(400, body, {name: "head\x07er"}).request_id == "head er"
    assert answer(400, body).request_id == "body"
    assert answer(400).request_id == "sent"
    assert answer(200, {"request_id": "body"}).request_id == "body"


THROTTLE = "the throttling threshold has been reached: policy user over ratelimit"
NOW = "Mon, 23 Nov 2026 01:00:00 GMT"
SOON = "Mon, 23 Nov 2026 01:01:30 GMT"


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"Retry-After": "7"}, "limit:10,time:1 minute", 7.0),
        ({"Retry-After": " 0.5 "}, "", 0.5),
        ({"retry-after": "7"}, "", 7.0),
        ({"Retry-After": "9999999"}, "", LONGEST_WAIT),
        ({"Retry-After": "-1"}, "", None),
        ({"Retry-After": "soon"}, "limit:10,time:30 second", 30.0),
        ({"Retry-After": "1" * 40}, "", None),
        ({"Retry-After": SOON, "Date": NOW}, "", 90.0),
        ({"Retry-After": NOW, "Date": SOON}, "", 0.0),
        ({}, f"{THROTTLE},limit:10,time:1 minute", 60.0),
        ({}, f"{THROTTLE},limit:10, time:2 hour", 7200.0),
        ({}, THROTTLE, None),
    ],
)
def test_retry_after(headers: dict[str, str], message: str, seconds: float | None) -> None:
    """A throttled call waits as told by header, else by the limit in the message."""
    body = {"error_code": "APIGW.0308", "error_msg": message}
    assert answer(429, body, headers).retry_after == seconds


@pytest.mark.parametrize(
    ("message", "throttle"),
    [
        (f"{THROTTLE},limit:10,time:1 minute", Throttle(10, 60.0)),
        ("policy api over ratelimit,limit:200,time:1 second", Throttle(200, 1.0)),
        ("policy ip over ratelimit, LIMIT:3 , time:0.5 Hour", Throttle(3, 1800.0)),
        ("limit:0,time:1 minute", None),
        ("limit:10,time:0 minute", None),
        ("limit:10,time:1 fortnight", None),
        (THROTTLE, None),
    ],
)
def test_the_limit_of_a_throttled_call(message: str, throttle: Throttle | None) -> None:
    """The limit that a 429 names is read with its interval, Retry-After or not."""
    body = {"error_code": "APIGW.0308", "error_msg": message}
    for headers in ({}, {"Retry-After": "1"}):
        assert answer(429, body, headers).throttle == throttle
    assert answer(503, {**body, "error_code": "APIGW.0613"}).throttle is None


def test_retry_after_date_without_a_date() -> None:
    """Without the server's clock its date is read against ours; without ours it says nothing."""
    assert answer(429, headers={"Retry-After": SOON}).retry_after is None
    wall = 1795395600.0  # the moment NOW
    assert answer(429, headers={"Retry-After": SOON}, now_wall=wall).retry_after == 90.0


def test_retry_after_of_a_refusal() -> None:
    """A refusal for good is not made to wait."""
    assert answer(403, {"errCode": "CSS.0015"}, {"Retry-After": "5"}).retry_after is None
    assert answer(503, {"error_code": "APIGW.0613"}, {"Retry-After": "5"}).retry_after == 5.0


def test_redirect_names_the_host_alone() -> None:
    """A redirect is told by its host: the rest of its address may carry what must not be seen."""
    words = error_of(
        answer(302, b"moved", {"Location": "https://u:p@login.example:8/x?token=abc"})
    )[2]
    assert "login.example" in words
    assert not any(part in words for part in ("abc", "u:p", "/x"))
    assert "this host" in error_of(answer(302, headers={"location": "/x?token=abc"}))[2]
    assert "this host" in error_of(answer(302, headers={"Location": "http://[bad"}))[2]


# ----------------------------------------------------------------------------------------- looks

DETAIL: dict[str, object] = {
    "id": "c-1",
    "name": "css-orders",
    "status": "200",
    "actions": ["REBOOTING"],
    "actionProgress": {},
    "updated": "2026-07-11T22:05:03",
    "datastore": {"type": "Elasticsearch", "version": "7.10.2"},
    "period": "true",
    "instances": [
        {"id": "n-2", "status": "100", "type": "ess"},
        {"id": "n-1", "status": 200, "type": "ess"},
    ],
    "tags": [{"key": "env", "value": "prod"}],
}


def test_cluster() -> None:
    """A detail becomes a state; lists whose order means nothing are sorted."""
    assert read_cluster(DETAIL) == (
        "c-1",
        ClusterState(
            status="200",
            actions=("REBOOTING",),
            instances=(("n-1", "200"), ("n-2", "100")),
            updated="2026-07-11T22:05:03",
            datastore="elasticsearch",
            name="css-orders",
        ),
    )


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("failedReason", {"errorCode": "CSS.6002", "errorMsg": "restart"}, "CSS.6002: restart"),
        ("failed_reasons", {"error_code": "CSS.6002", "error_msg": "x"}, "CSS.6002: x"),
        ("failedReasons", {"errorCode": "CSS.6002", "errorMsg": None}, "CSS.6002"),
        ("failed_reasons", [{"error_code": "A", "error_msg": "b"}, "c"], "A: b; c"),
        ("failedReason", {"errorCode": "A", "errorMsg": "A failed"}, "A failed"),
        ("failedReason", "words", "words"),
        ("failedReason", {"errorCode": None, "errorMsg": ""}, None),
        ("failedReason", {}, None),
        ("failedReason", None, None),
    ],
)
def test_failed_reason(field: str, value: object, reason: str | None) -> None:
    """A failure is read under every name that the service has had for it."""
    assert read_cluster({"id": "c", "status": "303", field: value})[1].failed_reason == reason


@pytest.mark.parametrize(
    ("document", "busy"),
    [
        ({"status": 100}, True),
        ({"status": "200", "actions": None, "actionProgress": None, "instances": None}, False),
        ({"status": "200", "actions": "REBOOTING"}, True),
        ({"status": "200", "actionProgress": {"CREATING": "5%"}}, True),
        ({"status": "200", "actionProgress": {"CREATING": {"x": 5}}}, True),
        ({"status": "200", "actions": [{"name": "odd"}]}, True),
        ({"status": "200", "instances": [{"id": "n", "status": "100"}, "rubbish"]}, True),
    ],
)
def test_odd_clusters(document: dict[str, object], *, busy: bool) -> None:
    """Missing and odd fields are taken as far as they go; any task means busy."""
    state = read_cluster({"id": "c", **document})[1]
    assert state.is_busy is busy
    assert state.is_ready is not busy


def test_instances_without_a_status() -> None:
    """A node without a status, or without an id, is there and is not ready."""
    state = read_cluster({"id": "c", "status": "200", "instances": [{"id": "n"}, {"name": "m"}]})[1]
    assert state.instances == (("m", "unknown"), ("n", "unknown"))
    assert not state.is_ready


@pytest.mark.parametrize("document", [{}, {"id": "c"}, {"status": "200"}, {"id": 5, "status": "1"}])
def test_no_cluster(document: dict[str, object]) -> None:
    """A document without id or status is no cluster."""
    with pytest.raises(ValueError, match=r"no (id|status)"):
        read_cluster(document)


def test_listing() -> None:
    """A page has its clusters in order, and the total where the service tells it."""
    page = {"totalSize": 2, "clusters": [DETAIL, {"id": "c-2", "status": None}]}
    clusters, total = read_listing(json.dumps(page).encode())
    assert [cluster_id for cluster_id, _ in clusters] == ["c-1", "c-2"]
    assert not clusters[1][1].is_ready
    assert total == 2
    assert read_listing(b'{"clusters": []}') == ([], None)
    assert read_listing(b'{"clusters": [], "totalSize": "12"}')[1] == 12
    assert read_listing(b'{"clusters": [], "totalSize": true}')[1] is None
    assert read_listing(b'{"clusters": [], "totalSize": -1}')[1] is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"<html>", b'{"errCode":"CSS.0001"}', b'{"clusters":[1]}']
)
def test_no_listing(body: bytes) -> None:
    """What is not a page of clusters is an error, and an error in it is named."""
    with pytest.raises(ValueError, match=r"CSS.0001|not a JSON object"):
        read_listing(body)


def test_no_detail() -> None:
    """What is not a detail is an error, and an error in it is named."""
    with pytest.raises(ValueError, match=r"CSS.0011 \(busy\)"):
        read_detail(b'{"errCode":"CSS.0011","externalMessage":"busy"}')


def test_many_clusters_are_read_quickly() -> None:
    """10,000 clusters are parsed in less than half a second."""
    pages = [
        json.dumps(
            {"totalSize": 10_000, "clusters": [{**DETAIL, "id": f"c-{n}"} for n in range(1000)]}
        ).encode()
    ] * 10
    best = 9.0
    for _ in range(3):
        before = time.perf_counter()
        assert sum(len(read_listing(page)[0]) for page in pages) == 10_000
        best = min(best, time.perf_counter() - before)
    assert best < 0.5


@pytest.mark.parametrize(
    ("status", "body", "gone"),
    [
        (403, {"errCode": "CSS.0015"}, True),
        (404, {"error_code": "CSS.0002"}, True),
        (400, {"errCode": "CSS.0047"}, True),
        (404, {"errCode": "CSS.0007"}, False),
        (404, {"error_code": "APIGW.0101"}, False),
        (403, {"errCode": "CSS.0010"}, False),
        (404, b"<html>", False),
        (404, b"", False),
    ],
)
def test_says_gone(status: int, body: object, *, gone: bool) -> None:
    """Only the service itself can say that a cluster is not there."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert isinstance(read_refusal(status, {}, raw, "looking"), GoneError) is gone


def test_refuses_values() -> None:
    """A page size is refused by a 400 about values, not by one about tokens or arrears."""
    assert refuses_values(400, b'{"errCode":"CSS.5038"}')
    assert refuses_values(400, b"")
    assert not refuses_values(400, b'{"errCode":"CSS.0045"}')
    assert not refuses_values(404, b"")


def test_refusal() -> None:
    """A refused look says what was being done, what came back and what to do."""
    body = json.dumps({"errCode": "CSS.0015", "externalMessage": "not found"}).encode()
    error = read_refusal(403, {"x-request-id": "r"}, body, "looking at cluster p/c")
    assert str(error) == (
        "looking at cluster p/c: the service answered 403 CSS.0015: not found; check project and "
        "cluster id, and what the credential may see"
    )
    assert (error.status, error.code, error.request_id) == (403, "CSS.0015", "r")
    assert error.error_class == "not_found"
    throttled = read_refusal(429, {"Retry-After": "3"}, b"", "looking")
    assert (throttled.retry_after, throttled.request_id) == (3.0, None)


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 409, 415, 429, 500, 503])
def test_refusals_of_all_classes(status: int) -> None:
    """Every class of error has its advice for a look."""
    for code in [None, *BY_CODE]:
        body = json.dumps({"error_code": code}).encode()
        assert "; " in str(read_refusal(status, {}, body, "looking"))


def test_error_classes_are_words() -> None:
    """Class names are plain words, for reports and scripts."""
    assert all(name.value == name.name.lower() for name in ErrorClass)


# --------------------------------------------------------------------------------------- listing


def clusters(*numbers: int) -> list[tuple[str, ClusterState]]:
    return [(f"c-{number}", ClusterState(status="200")) for number in numbers]


def read_pages(
    size: int, *pages: tuple[list[tuple[str, ClusterState]], int | None]
) -> Pass[ClusterState]:
    latest: Pass[ClusterState] = Pass(size)
    for page in pages:
        assert not latest.is_over
        latest.add(page)
    assert latest.is_over
    return latest


def test_pass_with_a_total() -> None:
    """A pass with a total ends when that many ids are in hand, without asking for more."""
    latest = read_pages(2, (clusters(1, 2), 4), (clusters(2, 3), 4), (clusters(4), 4))
    assert latest.is_whole
    assert len(latest.clusters) == 4


def test_pass_that_lost_one() -> None:
    """A pass whose pages end before the total is not whole, and says how many it lacks."""
    latest = read_pages(2, (clusters(1, 2), 4), (clusters(2), 4), ([], 4))
    assert not latest.is_whole
    assert missing(latest, 2) == "2 of 4 clusters are missing"


def test_pass_over_a_list_that_shifts() -> None:
    """A page of repetitions does not end a pass before all its places were read."""
    latest = read_pages(2, (clusters(1, 2), 4), (clusters(1, 2), 4))
    assert not latest.is_whole
    shifted = [(clusters(1), 3), (clusters(1), 3), (clusters(2), 3), (clusters(3), 3)]
    assert read_pages(1, *shifted).is_whole


def test_pass_whose_total_moves() -> None:
    """A deletion meanwhile may have moved a cluster to a page already read: not whole."""
    latest = read_pages(2, (clusters(1, 2), 4), (clusters(4), 3))
    assert not latest.is_whole
    assert "did not hold still" in missing(latest, 3)


def test_pass_without_a_total() -> None:
    """Without a total a short page ends the list."""
    assert read_pages(3, (clusters(1, 2, 3), None), (clusters(4), None)).is_whole
    assert read_pages(3, (clusters(1, 2, 3), None), ([], None)).is_whole


def test_pass_without_a_total_that_may_be_cut_short() -> None:
    """Ten of a thousand may be all that the service gives at a time: it is asked once more."""
    ten = clusters(*range(10))
    assert read_pages(1000, (ten, None), (clusters(11), None)).is_whole
    assert read_pages(1000, (ten, None), ([], None)).is_whole


def test_pass_that_goes_nowhere() -> None:
    """A service that gives the same page for ever is not taken to have no more."""
    assert not read_pages(2, (clusters(1, 2), None), (clusters(1, 2), None)).is_whole


@pytest.mark.parametrize(
    ("off", "words"),
    [
        (0, None),
        (100, None),
        (-1020, "this machine's clock is 17m behind the service's"),
        (3600, "this machine's clock is 1h ahead of the service's"),
    ],
)
def test_a_clock_that_is_off_is_named(off: float, words: str | None) -> None:
    """A refused signature says so when our clock is minutes off; nothing else does."""
    headers = {"Date": "Sat, 01 Aug 2026 01:30:00 GMT"}
    ours = datetime(2026, 8, 1, 1, 30, tzinfo=UTC).timestamp() + off
    body = json.dumps({"error_code": "APIGW.0301", "error_msg": "no"}).encode()
    refused = read_answer(
        401, headers, body, sent_at=0, answered_at=1, request_id="r", now_wall=ours
    )
    looked = read_refusal(401, headers, body, "looking", now_wall=ours)
    assert refused.error is not None
    for said in (refused.error.message, str(looked)):
        assert ("clock" in said) is (words is not None)
        assert (words or "") in said
    other = read_refusal(403, headers, body.replace(b"0301", b"0302"), "looking", now_wall=ours)
    assert "clock" not in str(other)


@pytest.mark.parametrize(
    ("status", "body", "refused"),
    [
        (401, {"error_code": "APIGW.0301"}, True),
        (401, {"error_code": "APIGW.0307"}, True),
        (401, {"error": {"code": 401, "message": "no", "title": "Unauthorized"}}, True),
        (401, {}, True),
        (400, {"errCode": "CSS.0045"}, True),
        (400, {"errCode": "CSS.0001"}, False),
        (403, {"errCode": "CSS.0015"}, False),
        (401, {"error_code": "APIGW.0301", "jobId": ["j"]}, False),
    ],
)
def test_what_refuses_a_credential(status: int, body: object, *, refused: bool) -> None:
    """A credential was refused if the answer says so and names no job."""
    assert is_unauthorized(status, json.dumps(body).encode()) is refused


@pytest.mark.parametrize(
    ("status", "body", "known"),
    [
        (200, b"{}", True),
        (403, b'{"errCode": "CSS.0015"}', True),
        (429, b'{"error_code": "APIGW.0308"}', False),
        (502, b"<html>", False),
        (302, b"", False),
    ],
)
def test_who_answers(status: int, body: bytes, *, known: bool) -> None:
    """Only the service itself shows that a credential was accepted; a gateway does not."""
    assert is_from_service(status, body) is known


_TEXTS = st.sampled_from(["", "a", " b ", "200", "100", "CSS.6002", "é", "\ud800", "\U0001f600"])
_ODD = st.none() | st.booleans() | st.integers(-2, 300) | _TEXTS
_NODES = st.fixed_dictionaries({}, optional={"id": _ODD, "status": _ODD, "name": _ODD})
_CLUSTERS = st.fixed_dictionaries(
    {"id": st.just("c") | _TEXTS, "status": st.just("200") | _ODD},
    optional={
        "name": _ODD,
        "updated": _ODD,
        "actions": st.lists(_TEXTS) | st.lists(_ODD) | _ODD,
        "actionProgress": st.dictionaries(_TEXTS, _TEXTS) | st.dictionaries(_TEXTS, _ODD) | _ODD,
        "instances": st.lists(_NODES | _ODD) | _ODD,
        "datastore": st.fixed_dictionaries({}, optional={"type": _ODD}) | _ODD,
        "failedReason": st.fixed_dictionaries({"errorCode": _ODD, "errorMsg": _ODD}) | _ODD,
        "failed_reasons": st.lists(_ODD) | _ODD,
        "tags": st.lists(_ODD),
    },
)


@given(st.lists(_CLUSTERS, max_size=3), _ODD, st.booleans())
def test_a_usual_page_reads_like_any_other(
    clusters: list[dict[str, object]],
    total: object,
    ascii_only: bool,  # noqa: FBT001 - drawn
) -> None:
    """The quick way for usual pages says the very same as the way for all of them."""
    document = {"clusters": clusters, "totalSize": total}
    body = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    # A byte order mark is nothing that the quick way knows.
    assert _outcome(read_listing, body) == _outcome(read_listing, codecs.BOM_UTF8 + body)


@given(st.dictionaries(st.sampled_from(["jobId", "jobIds", "errCode", "x"]), _ODD | st.lists(_ODD)))
def test_a_usual_answer_reads_like_any_other(document: dict[str, object]) -> None:
    """The quick way for usual answers says the very same as the way for all of them."""
    body = json.dumps(document).encode()
    assert answer(200, body) == answer(200, codecs.BOM_UTF8 + body)


def _outcome(read: Callable[[bytes], object], body: bytes) -> object:
    try:
        return read(body)
    except ValueError as error:
        return str(error)
