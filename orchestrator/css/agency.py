"""The access key that a machine of the cloud has by its agency, from its metadata service.

The key lives for an hour or so; the service has another well before that, and for a while both
work.
"""

import json
import math
import time

from yarl import URL

from orchestrator.css.answers import iso_moment, moment_in
from orchestrator.css.codes import ErrorClass
from orchestrator.css.credentials import Key
from orchestrator.css.endpoints import Endpoint
from orchestrator.css.exchange import BrokenCallError, Exchange, Reply
from orchestrator.css.renewal import Fetched
from orchestrator.errors import CloudError
from orchestrator.secret import Secret, blot
from orchestrator.signing import AccessKey

PATIENCE = 3.0
"""Seconds for one call: the service is on the same machine, or there is none."""

_OK = 200
_NO_TOKENS = frozenset({404, 405, 503})
"""How older metadata services answer who wants a token: they do without."""

_LARGEST_ANSWER = 64 * 1024
_TOKEN_PATH = "/meta-data/latest/api/token"  # noqa: S105 - a path
_KEY_PATH = "/openstack/latest/securitykey"
_WISH = {"X-Metadata-Token-Ttl-Seconds": "21600"}
_NO_AGENCY = "give the machine an agency, or set credentials by variables or settings"


async def fetch_key(exchange: Exchange, address: str, *, project_id: str | None = None) -> Fetched:
    """Return the machine's key as it is now.

    Args:
        exchange: makes the calls.
        address: where the metadata service is; it is plain HTTP, and never leaves the machine.
        project_id: the project that calls are said to be about, if not the one in their address.

    Raises:
        CloudError: there is none, or it could not be had just now.
    """
    url = URL(address)
    endpoint = Endpoint(base=url, path="", host=url.host or address)
    token = await _call(exchange, endpoint, "PUT", _TOKEN_PATH, _WISH)
    headers = {}
    if token.status == _OK:
        headers["X-Metadata-Token"] = token.body.decode("latin-1").strip()
    elif token.status not in _NO_TOKENS:
        raise _error(f"it answered {token.status} to the wish for a token; {_NO_AGENCY}")
    reply = await _call(exchange, endpoint, "GET", _KEY_PATH, headers)
    if reply.status != _OK:
        raise _error(f"it answered {reply.status} to the wish for a key; {_NO_AGENCY}")
    try:
        return _read(reply, project_id)
    except (ValueError, LookupError, TypeError) as error:
        raise _error(f"its answer holds no key; {_NO_AGENCY}") from error


def _read(reply: Reply, project_id: str | None) -> Fetched:
    given = json.loads(reply.body)["credential"]
    key = AccessKey(str(given["access"]), Secret(given["secret"]), Secret(given["securitytoken"]))
    now = moment_in(reply.headers, time.time())
    ends = given.get("expires_at")
    life = math.inf if ends is None else max(0.0, iso_moment(ends) - now)
    return Fetched.living(Key(key, project_id=project_id), life)


async def _call(
    exchange: Exchange, endpoint: Endpoint, method: str, path: str, headers: dict[str, str]
) -> Reply:
    url = endpoint.base.with_path(path, encoded=True)
    try:
        return await exchange.call(method, url, headers, endpoint=endpoint, most=_LARGEST_ANSWER)
    except BrokenCallError as exc:
        raise _error(str(exc)) from exc


def _error(words: str) -> CloudError:
    return CloudError(
        blot(f"asking the metadata service for a key: {words}"),
        error_class=ErrorClass.UNSENT.value,
    )
