"""What comes back from the service → our words; pure, and quick enough for 10,000 clusters a look.

Rules:

- Success is status 200 *and* no error code in the body: the service says "busy" with a 202.
- A body is read in every shape the service, its gateway, IAM or somebody in between may give it.
- What is taken over is one line of at most 300 printable characters; headers never are.
"""

import codecs
import email.utils
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from orchestrator.css.codes import ErrorClass, Meaning, canonical, meaning_of
from orchestrator.css.usual import UsualCluster, usual_job_ids, usual_page
from orchestrator.errors import CloudError, GoneError
from orchestrator.model import Answer, ClusterState, ErrorInfo, Throttle, Verdict
from orchestrator.span import format_span

MESSAGE_LENGTH = 300
"""Characters of a message that are kept."""

LONGEST_WAIT = 86400.0
"""Seconds; whoever asks us to wait longer than a day is not taken at his word."""

CLOCK_OFF = 180.0
"""Seconds by which our clock is off before we say so; the service refuses signatures at 900."""

_COARSE = 2.0
_OK = 200
_BAD_REQUEST = 400
_NOT_FOUND = 404
_NO_SUCH_CALL = "APIGW.0101"
_ID_LENGTH = 128
_READ = 4096

_SHAPES = (
    ("errCode", "externalMessage"),  # the service itself
    ("error_code", "error_msg"),  # its documentation, and the gateway
    ("errorCode", "errorMsg"),
    ("code", "message"),
)
_FAILED_REASON = ("failedReason", "failed_reasons", "failedReasons", "failed_reason")
_JOB_IDS = ("jobId", "jobIds", "job_id")

_TELLING = frozenset({"request_id", "requestId"}.union(*_SHAPES))

_decode = json.JSONDecoder().decode
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_PLAIN = re.compile(r"[A-Za-z0-9._-]*")
_LIMIT = re.compile(
    r"limit:(\d{1,9})\s*,\s*time:(\d+(?:\.\d+)?)\s*(second|minute|hour|day)", re.IGNORECASE
)
_UNITS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_DIGITS = re.compile(r"[0-9]{1,9}")
_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?")
_UNSEEN = re.compile(r"<(script|style|head)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
# The gateway answers a bad signature with the headers it has seen.
_ECHO = re.compile(r",?\s*canonicalRequest\b.*", re.IGNORECASE | re.DOTALL)
_HEADER = re.compile(
    r"\b(x-(?:auth|security|subject)-token|access|signature)(\s*[:=]\s*)\S+"
    r"|\b(authorization)(\s*[:=]\s*).*",
    re.IGNORECASE,
)

_ADVICE: Mapping[ErrorClass, str] = {
    ErrorClass.BUSY: "try again when its present operation has ended",
    ErrorClass.THROTTLED: "wait, and look less often",
    ErrorClass.UNAVAILABLE: "try again later",
    ErrorClass.UNAUTHORIZED: "check that the credential is valid, and made for this project",
    ErrorClass.FORBIDDEN: "ask for the permissions css:cluster:list and css:cluster:get",
    ErrorClass.FROZEN: "settle what froze it",
    ErrorClass.NOT_FOUND: "check project and cluster id, and what the credential may see",
    ErrorClass.WRONG_ENDPOINT: "check endpoint and region",
    ErrorClass.BAD_REQUEST: "check project and cluster id",
    ErrorClass.UNSUPPORTED: "check the cluster's type",
    ErrorClass.REDIRECTED: "check the endpoint, and any proxy in between",
    ErrorClass.SERVER_ERROR: "try again later",
    ErrorClass.LOST: "try again later, and check any proxy in between",
}


# ------------------------------------------------------------------------------ restart answers


def read_answer(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    sent_at: float,
    answered_at: float,
    request_id: str,
    now_wall: float | None = None,
) -> Answer:
    """Return what the answer to a restart call means; never raises.

    `now_wall` is the wall clock, against which a `Retry-After` date is read if the answer itself
    has no `Date`.
    """
    usual = usual_job_ids(body) if status == _OK else None
    if usual is not None:
        # A job id and nothing else: what ten thousand answers of a good night look like.
        complaint, meaning, document = _NO_COMPLAINT, None, None
        job_ids = _distinct(usual)
    else:
        document = _parse(body)
        complaint = _complaint_in(document)
        job_ids = _job_ids_in(document)
        meaning = _meaning(status, document, complaint, has_jobs=bool(job_ids))
    answered_id = _request_id(headers, complaint, request_id)
    if meaning is None:
        return Answer(
            verdict=Verdict.ACCEPTED,
            sent_at=sent_at,
            answered_at=answered_at,
            status=status,
            job_ids=job_ids,
            request_id=answered_id,
        )
    text = complaint.message or _plain_text(document)
    return Answer(
        verdict=meaning.verdict,
        sent_at=sent_at,
        answered_at=answered_at,
        status=status,
        job_ids=job_ids,
        request_id=answered_id,
        error=ErrorInfo(
            error_class=meaning.error_class.value,
            message=_message(status, headers, meaning, text) + _skew(meaning, headers, now_wall),
            status=status,
            code=complaint.code,
            request_id=answered_id,
        ),
        retry_after=_retry_after(meaning, headers, text, now_wall),
        throttle=_limit_in(text) if meaning.error_class is ErrorClass.THROTTLED else None,
    )


def _meaning(
    status: int, document: object, complaint: "_Complaint", *, has_jobs: bool
) -> Meaning | None:
    """Return what went wrong, or None if nothing did."""
    if status == _OK:
        if isinstance(document, _NotJson):
            return Meaning(ErrorClass.LOST, Verdict.LOST)
        if not complaint.is_certain:
            return None
    meaning = meaning_of(status, complaint.code)
    if has_jobs and meaning.verdict.gives_back:
        # It says no and names a job: one of the two is wrong, so look.
        return Meaning(meaning.error_class, Verdict.LOST)
    return meaning


def _job_ids_in(document: object) -> tuple[str, ...]:
    if not isinstance(document, dict):
        return ()
    found: list[str] = []
    for key in _JOB_IDS:
        if key in document:
            value = document[key]
            found += (
                str(item)
                for item in (value if isinstance(value, list) else (value,))
                if isinstance(item, str | int) and not isinstance(item, bool)
            )
    return _distinct(found)


def _distinct(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, map(str.strip, ids))))


# ---------------------------------------------------------------------------------------- looks


def read_refusal(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    doing: str,
    *,
    now_wall: float | None = None,
) -> CloudError:
    """Return the error that says why a look at the service did not succeed; `doing` opens it.

    It is a `GoneError` only if the service itself says that there is no such cluster (for us): a
    page of somebody in between, or a gateway that knows no such API, says nothing of the kind.
    """
    document = _parse(body)
    complaint = _complaint_in(document)
    meaning = meaning_of(status, complaint.code)
    text = complaint.message or _plain_text(document)
    words = _message(status, headers, meaning, text) + _skew(meaning, headers, now_wall)
    named = f" {complaint.code}" if complaint.code and complaint.code not in words else ""
    is_gone = meaning.error_class is ErrorClass.NOT_FOUND and (
        complaint.code or ""
    ).upper().startswith("CSS.")
    kind = GoneError if is_gone else CloudError
    return kind(
        f"{doing}: the service answered {status}{named}: {words}; {_ADVICE[meaning.error_class]}",
        status=status,
        code=complaint.code,
        request_id=_request_id(headers, complaint, None),
        retry_after=_retry_after(meaning, headers, text, now_wall),
        error_class=meaning.error_class.value,
    )


def is_unauthorized(status: int, body: bytes) -> bool:
    """Return whether a call was turned away for its credentials, and so was not carried out."""
    document = _parse(body)
    meaning = meaning_of(status, _complaint_in(document).code)
    # Who names a job has done something, whatever else the answer says.
    return meaning.error_class is ErrorClass.UNAUTHORIZED and not _job_ids_in(document)


def is_from_service(status: int, body: bytes) -> bool:
    """Return whether the service itself answered, to which nobody comes without credentials."""
    if status == _OK:  # asked of each call: a list of thousands is not read again for this
        return True
    code = _complaint_in(_parse(body)).code
    return code is not None and canonical(code).startswith("CSS.")


def words_in(
    status: int, headers: Mapping[str, str], body: bytes, *, now_wall: float | None = None
) -> str:
    """Return what an answer says that was no success, in one line."""
    document = _parse(body)
    complaint = _complaint_in(document)
    meaning = meaning_of(status, complaint.code)
    text = complaint.message or _plain_text(document)
    return _message(status, headers, meaning, text) + _skew(meaning, headers, now_wall)


def limit_named(body: bytes) -> Throttle | None:
    """Return the limit that the body of a 429 names."""
    document = _parse(body)
    return _limit_in(_complaint_in(document).message or _plain_text(document))


def refuses_values(status: int, body: bytes) -> bool:
    """Return whether a call was refused for its values, and other values might be taken."""
    meaning = meaning_of(status, _complaint_in(_parse(body)).code)
    return status == _BAD_REQUEST and meaning.error_class is ErrorClass.BAD_REQUEST


def knows_no_such_call(status: int, body: bytes) -> bool:
    """Return whether the gateway said that there is no such call: it passed nothing on."""
    code = _complaint_in(_parse(body)).code
    return status == _NOT_FOUND and code is not None and canonical(code) == _NO_SUCH_CALL


def read_listing(body: bytes) -> tuple[list[tuple[str, ClusterState]], int | None]:
    """Return the clusters of one page by id, and how many the service says there are in all.

    Raises:
        ValueError: it is not a page of clusters.
    """
    usual = usual_page(body)
    if usual is not None:
        return [(cluster.id, state_of_usual(cluster)) for cluster in usual.clusters], usual.total
    entries, total = read_page(body)
    return [read_entry(entry) for entry in entries], total


def read_page(body: bytes) -> tuple[list[dict[str, object]], int | None]:
    """Return the entries of one page as they stand there, and how many there are in all.

    Raises:
        ValueError: it is not a page of clusters.
    """
    document = _object(_parse(body))
    entries = document.get("clusters")
    if isinstance(entries, list):
        return [_object(entry) for entry in entries], _number(document.get("totalSize"))
    raise ValueError(f"it has no list of clusters{_but_an_error(document)}")


def read_detail(body: bytes) -> tuple[str, ClusterState]:
    """Return one cluster's id and state from the body of its detail.

    Raises:
        ValueError: it is not the detail of a cluster.
    """
    document = _object(_parse(body))
    if "id" not in document:
        raise ValueError(f"it is no cluster{_but_an_error(document)}")
    return read_cluster(document)


def _but_an_error(document: object) -> str:
    complaint = _complaint_in(document)
    return f", but the error {complaint.code} ({complaint.message})" if complaint.code else ""


def read_cluster(document: Mapping[str, object]) -> tuple[str, ClusterState]:
    """Return id and state of one cluster as detail and list show it, in any spelling known.

    Lists whose order means nothing are sorted, so that two looks can be compared.

    Raises:
        ValueError: it has no id or no status.
    """
    cluster_id = document.get("id")
    status = document.get("status")
    if not isinstance(cluster_id, str) or not cluster_id:
        raise ValueError("a cluster has no id")
    if status is None or status == "":
        raise ValueError(f"cluster {_line(cluster_id)} has no status")
    name = document.get("name")
    updated = document.get("updated")
    return cluster_id, ClusterState(
        status=status if isinstance(status, str) else str(status),
        actions=_words(document.get("actions")),
        progress=_words(document.get("actionProgress")),
        instances=_instances(document.get("instances")),
        failed_reason=_failed_reason(document),
        updated=updated if isinstance(updated, str) else None,
        datastore=_datastore(document.get("datastore")),
        name=name if isinstance(name, str) else None,
    )


def state_of_usual(cluster: UsualCluster) -> ClusterState:
    """Return the state of a cluster of the usual shape, the same that `read_cluster` returns."""
    nodes = [(node.id, node.status) for node in cluster.nodes or ()]
    nodes.sort()
    reasons = None
    if (
        cluster.failedReason or cluster.failedReasons
        or cluster.failed_reason or cluster.failed_reasons
    ):  # fmt: skip
        reasons = {key: getattr(cluster, key) for key in _FAILED_REASON}
    return ClusterState(
        status=cluster.status,
        actions=_words(cluster.actions) if cluster.actions else (),
        progress=_words(cluster.progress) if cluster.progress else (),
        instances=tuple(nodes),
        failed_reason=_failed_reason(reasons) if reasons else None,
        updated=cluster.updated,
        datastore=(cluster.datastore and cluster.datastore.type.lower()) or None,
        name=cluster.name,
    )


def read_entry(entry: Mapping[str, object]) -> tuple[str, ClusterState]:
    """Return id and state of a cluster of a list.

    Raises:
        ValueError: it has no id.
    """
    if entry.get("status") in (None, ""):
        # One odd cluster must not hide all others; a status nobody knows is not ready.
        entry = {**entry, "status": "unknown"}
    return read_cluster(entry)


def _object(value: object) -> dict[str, object]:
    if isinstance(value, dict):
        return value
    raise ValueError("it is not a JSON object")


def _words(value: object) -> tuple[str, ...]:
    """Return running tasks: from a list, one string, or an object of task and progress."""
    if not value:
        return ()
    if isinstance(value, dict):
        return tuple(sorted(f"{key}:{_scalar(item)}" for key, item in value.items()))
    if isinstance(value, list):
        return tuple(sorted(_scalar(item) for item in value if item not in (None, "")))
    return (_scalar(value),)


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _instances(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list):
        return ()
    found = []
    for index, item in enumerate(value):
        if isinstance(item, dict):
            node = item.get("id") or item.get("name") or f"node {index + 1}"
            status = item.get("status")
            found.append((str(node), "unknown" if status is None else str(status)))
    found.sort()
    return tuple(found)


def _failed_reason(document: Mapping[str, object]) -> str | None:
    for key in _FAILED_REASON:
        value = document.get(key)
        if value:
            reasons = value if isinstance(value, list) else [value]
            return "; ".join(filter(None, map(_reason, reasons))) or None
    return None


def _reason(value: object) -> str:
    if not isinstance(value, dict):
        return _line(_scalar(value))
    complaint = _complaint_of(value)
    code, message = complaint.code or "", complaint.message
    if not code or code in message:
        return message or code
    return f"{code}: {message}" if message else code


def _datastore(value: object) -> str | None:
    """Return the lower-case type alone: `elasticsearch`, `opensearch` or `logstash`."""
    kind = value.get("type") if isinstance(value, dict) else value
    return kind.lower() if isinstance(kind, str) and kind else None


def _number(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    return value if isinstance(value, int) and value >= 0 else None


# --------------------------------------------------------------------------------------- bodies


class _NotJson:
    """A body that is no JSON, and what it says."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def _parse(body: bytes) -> object:
    """Return the JSON in `body`, None if it is empty, and a `_NotJson` if it is neither."""
    if not body or body.isspace():
        return None
    text = body.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")
    try:
        document = _decode(text)
        if "\\u" in text and _ESCAPED_HALF.search(text):
            return _without_surrogates(document)
        return document
    except (ValueError, RecursionError):
        return _NotJson(text)


def _without_surrogates(value: object) -> object:
    """Replace halves of characters, which JSON can hold and no file or database can."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


@dataclass(frozen=True, slots=True)
class _Complaint:
    """An error as a body tells it.

    `is_certain` is whether the code stands where only errors have one: a 200 with it is none.
    """

    code: str | None = None
    message: str = ""
    request_id: str | None = None
    is_certain: bool = False


_NO_COMPLAINT = _Complaint()


def _complaint_in(document: object) -> _Complaint:
    """Return the error in a body: at its top, or one level down under any key."""
    if not isinstance(document, dict) or not document:
        return _NO_COMPLAINT
    found = _complaint_of(document)
    if found.code is not None or found.message:
        return found
    for key, value in document.items():
        if isinstance(value, dict):
            nested = _complaint_of(value)
            if nested.code is not None:
                return _Complaint(
                    nested.code,
                    nested.message,
                    nested.request_id or found.request_id,
                    nested.is_certain or key == "error",
                )
    return found


def _complaint_of(document: Mapping[object, object]) -> _Complaint:
    if document.keys().isdisjoint(_TELLING):
        return _NO_COMPLAINT
    request_id = document.get("request_id") or document.get("requestId")
    named = _line(request_id, _ID_LENGTH) if isinstance(request_id, str) else None
    for code_key, message_key in _SHAPES:
        code, message = document.get(code_key), document.get(message_key)
        text = _line(message) if isinstance(message, str) else ""
        if isinstance(code, str | int) and not isinstance(code, bool) and str(code).strip():
            line = _line(str(code), _ID_LENGTH)
            certain = code_key != "code" or canonical(line).startswith(("CSS.", "APIGW."))
            return _Complaint(line, text, named, certain)
        if text:
            return _Complaint(None, text, named)
    return _Complaint(request_id=named)


def _plain_text(document: object) -> str:
    """Return the words of a body that is not JSON: a page's title, or its text without tags."""
    if not isinstance(document, _NotJson):
        return ""
    start = document.text[:_READ]
    if "<" not in start:
        return _line(start)
    title = _TITLE.search(start)
    return _line((title and title[1].strip()) or _TAG.sub(" ", _UNSEEN.sub(" ", start)))


def _line(text: str, length: int = MESSAGE_LENGTH) -> str:
    """Return `text` as one printable line, trimmed, and without what looks like a header."""
    if _PLAIN.fullmatch(text) and len(text) <= length:
        return text
    seen = _HEADER.sub(r"\1\2\3\4***", _ECHO.sub("", text[:_READ]))
    words = " ".join("".join(c if c.isprintable() else " " for c in seen).split())
    return words if len(words) <= length else f"{words[: length - 1]}…"


# --------------------------------------------------------------------------------------- headers


def _header(headers: Mapping[str, str], name: str) -> str | None:
    value = headers.get(name)
    if value is not None:
        return value
    wanted = name.lower()
    return next((value for key, value in headers.items() if key.lower() == wanted), None)


def date_in(headers: Mapping[str, str]) -> float | None:
    """Return when an answer was given, by the clock of whoever gave it."""
    return _moment(_header(headers, "Date") or "")


def moment_in(headers: Mapping[str, str], now_wall: float) -> float:
    """Return when an answer was given, by our clock unless it is off: a date has whole seconds."""
    theirs = date_in(headers)
    is_off = theirs is not None and abs(now_wall - theirs) > _COARSE
    return theirs + 1.0 if theirs is not None and is_off else now_wall


def iso_moment(text: str) -> float:
    """Return a moment that IAM wrote, such as `2026-08-01T01:30:00.123000Z`; without a zone: UTC.

    Raises:
        ValueError: it is none.
    """
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _request_id(headers: Mapping[str, str], complaint: _Complaint, sent: str | None) -> str | None:
    header = _header(headers, "X-Request-Id")
    return (header and _line(header, _ID_LENGTH)) or complaint.request_id or sent


def _message(status: int, headers: Mapping[str, str], meaning: Meaning, text: str) -> str:
    if meaning.error_class is ErrorClass.REDIRECTED:
        return f"it sends us elsewhere, to {_location_host(headers)}; redirects are never followed"
    if text:
        return text
    if status == _OK:
        return "the body is not what the service answers; something in between may have replied"
    return f"status {status} without a word of explanation"


def _skew(meaning: Meaning, headers: Mapping[str, str], now_wall: float | None) -> str:
    """Return words on our clock, if it is why the service does not believe a signature."""
    theirs = date_in(headers)
    if meaning.error_class is not ErrorClass.UNAUTHORIZED or theirs is None or now_wall is None:
        return ""
    off = now_wall - theirs
    if abs(off) < CLOCK_OFF:
        return ""
    span = format_span(60.0 * round(abs(off) / 60))
    where = "ahead of" if off > 0 else "behind"
    return f"; this machine's clock is {span} {where} the service's, so set it right"


def _location_host(headers: Mapping[str, str]) -> str:
    """Return where a redirect leads: its host alone, for the rest may carry secrets."""
    try:
        host = urlsplit(_header(headers, "Location") or "").hostname
    except ValueError:
        host = None
    return _line(host, _ID_LENGTH) if host else "another path of this host"


def _retry_after(
    meaning: Meaning, headers: Mapping[str, str], text: str, now_wall: float | None
) -> float | None:
    """Return the seconds that we were asked to wait, by header or in words."""
    if meaning.verdict is not Verdict.THROTTLED and meaning.error_class not in _MAY_SAY_WHEN:
        return None
    header = _header(headers, "Retry-After")
    asked = _seconds_of(header.strip(), headers, now_wall) if header else None
    if asked is None:
        limit = _limit_in(text)
        asked = limit.per if limit is not None else None
    return None if asked is None else min(max(asked, 0.0), LONGEST_WAIT)


def _limit_in(text: str) -> Throttle | None:
    """Return the limit that the words of a 429 name."""
    found = _LIMIT.search(text)
    if found is None:
        return None
    calls, per = int(found[1]), float(found[2]) * _UNITS[found[3].lower()]
    return Throttle(calls, per) if calls and per else None


_MAY_SAY_WHEN = frozenset({ErrorClass.BUSY, ErrorClass.UNAVAILABLE, ErrorClass.SERVER_ERROR})


def _seconds_of(value: str, headers: Mapping[str, str], now_wall: float | None) -> float | None:
    if _SECONDS.fullmatch(value):
        return float(value)
    until = _moment(value)
    # The server's own clock knows best how far away its date is.
    since = date_in(headers)
    since = now_wall if since is None else since
    return None if until is None or since is None else until - since


def _moment(text: str) -> float | None:
    try:
        moment = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return moment if math.isfinite(moment) else None
