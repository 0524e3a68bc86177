"""What the service's codes and statuses mean for us, as data.

Rules:

- A code says more than the status it came with: it is looked up first, with its status where the
  gateway uses one number for several things, then alone. Only an unknown code is judged by status.
- Whatever does not prove that nothing started is `lost`: look, do not repeat.
- `APIG.` (dedicated gateways) and `APIGW.` (shared ones) number the same things the same way.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from orchestrator.model import Verdict


class ErrorClass(StrEnum):
    """Our names for what went wrong, by what can be done about it; `ErrorInfo.error_class`."""

    BUSY = "busy"
    """Another operation runs on the cluster, or its state does not allow it now: later."""
    THROTTLED = "throttled"
    """Too many calls for this account: wait and go slower."""
    UNAVAILABLE = "unavailable"
    """The service cannot do it at present, and did not: later."""
    UNAUTHORIZED = "unauthorized"
    """The credential was not accepted: renew or correct it."""
    FORBIDDEN = "forbidden"
    """The credential is good, but may not do this: ask for the permission."""
    FROZEN = "frozen"
    """Account or cluster is frozen, unpaid or has an open order: settle that first."""
    NOT_FOUND = "not_found"
    """There is no such cluster, or none that this credential may see: check the fleet."""
    WRONG_ENDPOINT = "wrong_endpoint"
    """The address does not serve this API: check endpoint and region."""
    BAD_REQUEST = "bad_request"
    """The call was not understood, or its values were not accepted: correct the fleet."""
    UNSUPPORTED = "unsupported"
    """This kind of restart does not fit the cluster: choose another kind."""
    REDIRECTED = "redirected"
    """Sent elsewhere, which is never followed: check the endpoint, or a proxy in between."""
    SERVER_ERROR = "server_error"
    """The service or its gateway failed on the way; the call may have been carried out."""
    LOST = "lost"
    """No usable answer: a broken connection, a timeout, a page of somebody in between."""
    UNSENT = "unsent"
    """The connection was never made: check endpoint, network, DNS and certificates."""


class Meaning(NamedTuple):
    """What an answer is called, and what it means when it came to a restart call."""

    error_class: ErrorClass
    verdict: Verdict


_BUSY = Meaning(ErrorClass.BUSY, Verdict.BUSY)
_LATER = Meaning(ErrorClass.UNAVAILABLE, Verdict.BUSY)
_THROTTLED = Meaning(ErrorClass.THROTTLED, Verdict.THROTTLED)
_UNAVAILABLE = Meaning(ErrorClass.UNAVAILABLE, Verdict.THROTTLED)
_UNAUTHORIZED = Meaning(ErrorClass.UNAUTHORIZED, Verdict.UNAUTHORIZED)
_FORBIDDEN = Meaning(ErrorClass.FORBIDDEN, Verdict.REFUSED)
_FROZEN = Meaning(ErrorClass.FROZEN, Verdict.REFUSED)
_NOT_FOUND = Meaning(ErrorClass.NOT_FOUND, Verdict.REFUSED)
_WRONG_ENDPOINT = Meaning(ErrorClass.WRONG_ENDPOINT, Verdict.REFUSED)
_BAD_REQUEST = Meaning(ErrorClass.BAD_REQUEST, Verdict.REFUSED)
_UNSUPPORTED = Meaning(ErrorClass.UNSUPPORTED, Verdict.REFUSED)
_REDIRECTED = Meaning(ErrorClass.REDIRECTED, Verdict.REFUSED)
_SERVER_ERROR = Meaning(ErrorClass.SERVER_ERROR, Verdict.LOST)
_LOST = Meaning(ErrorClass.LOST, Verdict.LOST)

BY_CODE: Mapping[str, Meaning] = {
    "CSS.0011": _BUSY,  # another operation runs, or the instance is faulty; as 202 and as 409
    "CSS.0012": _BUSY,
    "CSS.0029": _BUSY,
    "CSS.3004": _BUSY,
    "CSS.0077": _BUSY,  # scaling in progress
    "CSS.5090": _BUSY,  # not allowed in this status
    "CSS.5140": _BUSY,  # not supported by the cluster at present
    "CSS.0007": _LATER,  # information on its machines is missing; may pass
    "CSS.0023": _LATER,  # resources are short
    "CSS.0001": _BAD_REQUEST,
    "CSS.0006": _BAD_REQUEST,
    "CSS.0017": _BAD_REQUEST,
    "CSS.0040": _BAD_REQUEST,
    "CSS.5037": _BAD_REQUEST,
    "CSS.5038": _BAD_REQUEST,
    "CSS.5056": _BAD_REQUEST,
    "CSS.0021": _FROZEN,
    "CSS.5301": _FROZEN,
    "CSS.5045": _FROZEN,
    "CSS.5306": _FROZEN,  # unpaid order
    "CSS.5307": _FROZEN,  # order being processed
    "CSS.0045": _UNAUTHORIZED,  # a wrong token, as a 400
    "CSS.0010": _FORBIDDEN,
    "CSS.0032": _FORBIDDEN,
    "CSS.0051": _FORBIDDEN,
    "CSS.0002": _NOT_FOUND,
    "CSS.0015": _NOT_FOUND,  # not there or not ours: what a missing cluster really gives, as a 403
    "CSS.0016": _NOT_FOUND,
    "CSS.0022": _NOT_FOUND,
    "CSS.0047": _NOT_FOUND,
    "CSS.1103": _NOT_FOUND,
    "CSS.3027": _NOT_FOUND,
    "CSS.0004": _UNSUPPORTED,
    "CSS.0074": _UNSUPPORTED,  # fewer than three data nodes
    "CSS.0076": _UNSUPPORTED,
    "CSS.5069": _UNSUPPORTED,
    "CSS.5073": _UNSUPPORTED,
    "CSS.5095": _UNSUPPORTED,
    "CSS.5106": _UNSUPPORTED,
    "CSS.5108": _UNSUPPORTED,
    "CSS.5167": _UNSUPPORTED,  # no data node chosen
    "CSS.0036": _SERVER_ERROR,  # an internal error that calls itself 400: look first
    "CSS.0005": _SERVER_ERROR,
    "CSS.1004": _SERVER_ERROR,
    "CSS.9999": _SERVER_ERROR,
    "APIGW.0101": _WRONG_ENDPOINT,
    "APIGW.0103": _SERVER_ERROR,
    "APIGW.0201": _SERVER_ERROR,
    "APIGW.0202": _SERVER_ERROR,
    "APIGW.0203": _SERVER_ERROR,  # the backend took too long: likely carried out
    "APIGW.0601": _SERVER_ERROR,
    "APIGW.0606": _SERVER_ERROR,
    "APIGW.0608": _SERVER_ERROR,
    "APIGW.0610": _SERVER_ERROR,
    "APIGW.0613": _UNAVAILABLE,  # the gateway could not ask IAM, so nothing was passed on
    "APIGW.0301": _UNAUTHORIZED,
    "APIGW.0303": _UNAUTHORIZED,
    "APIGW.0305": _UNAUTHORIZED,
    "APIGW.0307": _UNAUTHORIZED,  # the token must be renewed
    "APIGW.0302": _FORBIDDEN,
    "APIGW.0306": _FORBIDDEN,
    "APIGW.0310": _FORBIDDEN,
    "APIGW.0402": _FORBIDDEN,
    "APIGW.0802": _FORBIDDEN,
    "APIGW.0308": _THROTTLED,
}
"""What a code means, whatever status it came with."""

BY_CODE_AND_STATUS: Mapping[tuple[str, int], Meaning] = {
    ("APIGW.0103", 404): _UNAVAILABLE,  # no backend to pass it on to; as a 500 that is not as sure
    ("APIGW.0201", 400): _BAD_REQUEST,
    ("APIGW.0201", 413): _BAD_REQUEST,
    ("APIGW.0201", 414): _BAD_REQUEST,
    ("APIGW.0201", 494): _BAD_REQUEST,
}
"""Where one code means several things."""

BY_STATUS: Mapping[int, Meaning] = {
    401: _UNAUTHORIZED,
    403: _FORBIDDEN,
    404: _NOT_FOUND,
    407: _FORBIDDEN,
    408: _LOST,  # also sent on idle connections, just when a request is on its way
    409: _BUSY,
    412: _UNSUPPORTED,
    415: _UNSUPPORTED,
    419: _LATER,  # the service's own number for resources that are short
    429: _THROTTLED,
}
"""What a status means without a known code; `_BY_HUNDRED` has the rest."""

_BY_HUNDRED: Mapping[int, Meaning] = {3: _REDIRECTED, 4: _BAD_REQUEST, 5: _SERVER_ERROR}


def canonical(code: str) -> str:
    """Return the one spelling of a code: upper case, gateway codes as `APIGW.`."""
    upper = code.strip().upper()
    return f"APIGW.{upper.removeprefix('APIG.')}" if upper.startswith("APIG.") else upper


def meaning_of(status: int, code: str | None) -> Meaning:
    """Return what an answer means that was no success."""
    if code is not None:
        known = canonical(code)
        meaning = BY_CODE_AND_STATUS.get((known, status)) or BY_CODE.get(known)
        if meaning is not None:
            return meaning
    return BY_STATUS.get(status) or _BY_HUNDRED.get(status // 100, _LOST)
