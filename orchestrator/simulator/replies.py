"""What comes back over the wire: replies in the shapes of the service and its gateway, or nothing.

The service says `errCode` and `externalMessage`, the gateway `error_code`, `error_msg` and
`request_id`, IAM has all within `error`; a middleware that breaks says HTML. A client has to know
all four.
"""

import json
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

JSON = "application/json"
HTML = "text/html;charset=utf-8"
TEXT = "text/plain;charset=utf-8"


class Reply(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One HTTP answer, but for the headers that every answer has."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    code: str | None = None
    """The error code in the body, for the record."""
    job_ids: tuple[str, ...] = ()
    over_s: float = 0.0
    """The body trickles out over this many seconds."""
    is_cut: bool = False
    """The connection is reset half-way through the body."""


@dataclass(frozen=True, slots=True)
class Sever:
    """No answer: the connection is reset."""


@dataclass(frozen=True, slots=True)
class Hang:
    """No answer, and the connection stays as it is."""


Ending = Reply | Sever | Hang


def css_error(status: int, code: str, text: str) -> Reply:
    """Return a refusal as the service itself words it."""
    body = {"errCode": code, "externalMessage": f"{code} : {text}"}
    return Reply(status=status, body=json.dumps(body).encode(), code=code)


def gateway_error(status: int, code: str, text: str, request_id: str) -> Reply:
    """Return a refusal as the gateway before the service words it."""
    body = {"error_msg": text, "error_code": code, "request_id": request_id}
    return Reply(status=status, body=json.dumps(body).encode(), code=code)


def iam_error(status: int, text: str) -> Reply:
    """Return a refusal as IAM words it; its code is the status again, as a number."""
    body = {"error": {"code": status, "message": text, "title": HTTPStatus(status).phrase}}
    return Reply(status=status, body=json.dumps(body).encode(), code=str(status))


def throttled(request_id: str, limit: str, retry_after: float | None) -> Reply:
    """Return a 429; `limit` is the part of its message that tells the limit, and may be empty."""
    text = "The throttling threshold has been reached: policy user over ratelimit"
    reply = gateway_error(429, "APIGW.0308", f"{text},{limit}" if limit else text, request_id)
    if retry_after is None:
        return reply
    # The header knows whole seconds only; rounding up keeps the promise.
    seconds = str(int(-(-retry_after // 1)))
    return msgspec.structs.replace(reply, headers=(("Retry-After", seconds),))


def page(status: int, title: str) -> Reply:
    """Return the HTML page of a middleware that broke."""
    text = f"<!doctype html><html><head><title>{title}</title></head><body>{title}</body></html>"
    return Reply(status=status, body=text.encode(), content_type=HTML)


def document(text: bytes) -> Reply:
    """Return a 200 with a JSON text."""
    return Reply(status=200, body=text)


def accepted(text: str = "", job_id: str | None = None) -> Reply:
    """Return the 200 of a call that was taken, with a JSON text, or an empty body."""
    job_ids = () if job_id is None else (job_id,)
    return Reply(status=200, body=text.encode(), job_ids=job_ids)
