"""The gateway before the service: who may pass, and what is said to those who may not.

Pure: no clock, no I/O. Moments are those of the gateway's wall clock, in seconds since 1970.

Rules:

- A signature covers what it names, and nothing else is looked at; it must name host and x-sdk-date.
- A key that failed `lock_after` times in a row is locked for `lock_for`, right or wrong.
- A key or a token that is good, but for another project, is not refused as such: that is a 403.
- Refusals hold the fragments by which those of the real gateway are known, and a wrong signature is
  answered with the request as it was understood here.
"""

import hmac
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from orchestrator import signing
from orchestrator.secret import Secret
from orchestrator.simulator import replies
from orchestrator.simulator.auth import Auth, Mode
from orchestrator.simulator.replies import Reply

MUST_BE_SIGNED = ("host", "x-sdk-date")
"""Headers without which a signature says nothing of where to and when."""

_AUTHORIZATION = re.compile(
    rf"{signing.ALGORITHM} Access=([^,\s]+), *SignedHeaders=([^,\s]+), *Signature=([0-9a-f]{{64}})"
)
_UNSIGNED = "UNSIGNED-PAYLOAD"
_SIGNATURE_FAILS = "verify aksk signature fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it arrived, with all that a signature may cover."""

    method: str
    path: str
    """Percent-encoded, as it was sent."""
    query: str
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes
    request_id: str


class Admission(NamedTuple):
    """Who asks, as far as that is known, and the refusal if they may not."""

    credential: str
    refusal: Reply | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldKey:
    """An access key that is known here."""

    secret_key: Secret
    security_token: Secret | None = None
    expires_at: float = math.inf
    projects: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldToken:
    """A token that is known here; `name` tells it from others without showing it."""

    name: str
    expires_at: float = math.inf
    projects: frozenset[str] = frozenset()


class _RefusedError(Exception):
    """A request may not pass; its words are the gateway's."""

    def __init__(
        self, credential: str, words: str, *, code: str = "APIGW.0301", status: int = 401
    ) -> None:
        super().__init__(words)
        self.credential = credential
        self.code = code
        self.status = status


class Locks:
    """Who failed how often in a row, and is locked for it."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._failures: dict[str, int] = {}
        self._locked_at: dict[str, float] = {}

    def is_locked(self, name: str, at: float) -> bool:
        """Whether nobody is let in under that name now."""
        locked_at = self._locked_at.get(name)
        if locked_at is None or at < locked_at + self._auth.lock_for:
            return locked_at is not None
        self.passed(name)
        return False

    def failed(self, name: str, at: float) -> None:
        """Count a failure; enough in a row lock the name."""
        self._failures[name] = self._failures.get(name, 0) + 1
        if self._failures[name] >= self._auth.lock_after:
            self._locked_at[name] = at

    def passed(self, name: str) -> None:
        """Forget the failures of a name."""
        self._failures.pop(name, None)
        self._locked_at.pop(name, None)


class Gate:
    """Knows the keys and tokens that are good, and lets requests pass, or not."""

    def __init__(self, auth: Auth) -> None:
        self.is_open = auth.mode is Mode.OFF
        """Whether all pass, whoever they are."""
        self._auth = auth
        self._locks = Locks(auth)
        self._keys = {
            key.access_key: HeldKey(
                secret_key=key.secret_key,
                security_token=key.security_token,
                projects=key.projects,
            )
            for key in auth.keys
        }
        self._tokens = {
            token.value.reveal(): HeldToken(name=f"token#{number}", projects=token.projects)
            for number, token in enumerate(auth.tokens, 1)
        }

    def take_key(self, access_key: str, held: HeldKey) -> None:
        """Let a key pass from now on."""
        self._keys[access_key] = held

    def take_token(self, token: str, held: HeldToken) -> None:
        """Let a token pass from now on."""
        self._tokens[token] = held

    def admit(self, request: Request, at: float, project_id: str | None = None) -> Admission:
        """Say who asks, and whether they may; `project_id` is what the request is about."""
        if self.is_open:
            return Admission("")
        try:
            credential, projects = self._identify(request, at)
            if project_id is not None:
                _check_project(request, project_id, credential, projects)
        except _RefusedError as refused:
            words = f"Incorrect IAM authentication information: {refused}"
            refusal = replies.gateway_error(refused.status, refused.code, words, request.request_id)
            return Admission(refused.credential, refusal)
        return Admission(credential)

    def _identify(self, request: Request, at: float) -> tuple[str, frozenset[str]]:
        """Return who signed a request or sent its token, and the projects they may touch."""
        mode = self._auth.mode
        token = request.headers.get("x-auth-token")
        if token is not None and mode is not Mode.SIGNATURE:
            return self._by_token(token, at)
        authorization = request.headers.get("authorization")
        if authorization is not None and mode is not Mode.TOKEN:
            return self._by_signature(request, authorization, at)
        raise _RefusedError("nobody", "x-auth-token not found")

    # ------------------------------------------------------------------------------------ tokens

    def _by_token(self, token: str, at: float) -> tuple[str, frozenset[str]]:
        held = self._tokens.get(token)
        if held is None:
            raise _RefusedError("an unknown token", "decrypt token fail")
        self._check_life(held.name, held.expires_at, at)
        return held.name, held.projects

    def _check_life(self, credential: str, expires_at: float, at: float) -> None:
        if at >= expires_at:
            words = f"token expires, expires_at:{timestamp(expires_at)}"
            raise _RefusedError(credential, words, code=self._auth.expired_code.value)

    # -------------------------------------------------------------------------------- signatures

    def _by_signature(
        self, request: Request, authorization: str, at: float
    ) -> tuple[str, frozenset[str]]:
        found = _AUTHORIZATION.fullmatch(authorization)
        if found is None:
            dialect = authorization.split(" ", 1)[0]
            words = f"{_SIGNATURE_FAILS}, {dialect} is not {signing.ALGORITHM} as it is known here"
            raise _RefusedError("another dialect", words)
        access_key, names, signature = found.groups()
        held = self._keys.get(access_key)
        if held is None:
            words = f"Get secretKey failed,ak:{access_key},err:ak not exist"
            raise _RefusedError(access_key, words)
        if self._locks.is_locked(access_key, at):
            words = f"AK access failed to reach the limit,forbidden,ak:{access_key}"
            raise _RefusedError(access_key, words)
        mistake = self._mistake(request, held, names.split(";"), signature, at)
        if mistake is not None:
            self._locks.failed(access_key, at)
            raise _RefusedError(access_key, mistake)
        self._locks.passed(access_key)
        self._check_life(access_key, held.expires_at, at)
        return access_key, held.projects

    def _mistake(
        self, request: Request, held: HeldKey, names: list[str], signature: str, at: float
    ) -> str | None:
        """Return what is wrong with a signature of a key that is known, if anything is."""
        headers = request.headers
        for name in (*MUST_BE_SIGNED, *names):
            if name not in names or name not in headers:
                return f"{_SIGNATURE_FAILS}, header {name} is not signed, or not sent"
        date = headers["x-sdk-date"]
        if not _is_near(date, at, self._auth.skew):
            return f"{_SIGNATURE_FAILS}, signature expired, x-sdk-date:{date}"
        if held.security_token is not None:
            token = Secret(headers.get("x-security-token", ""))
            if token != held.security_token:
                return f"{_SIGNATURE_FAILS}, x-security-token is not the key's"
        canonical = signing.canonical_request(
            request.method,
            request.path,
            request.query,
            signing.header_block([(name, headers[name].strip()) for name in names]),
            signing.body_hash(request.body, _stated(headers, names)),
        )
        if hmac.compare_digest(signing.signature(held.secret_key, date, canonical), signature):
            return None
        return f"{_SIGNATURE_FAILS}, canonicalRequest:{canonical.replace(chr(10), '|')}"


def timestamp(at: float) -> str:
    """Write a moment as IAM does: `2026-08-01T01:30:00.123000Z`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _check_project(
    request: Request, project_id: str, credential: str, projects: frozenset[str]
) -> None:
    named = request.headers.get("x-project-id", project_id)
    if named != project_id or (projects and project_id not in projects):
        words = f"project {project_id} is not one that {credential} may touch"
        raise _RefusedError(credential, words, code="APIGW.0302", status=403)


def _is_near(date: str, at: float, skew: float) -> bool:
    moment = _moment(date)
    return moment is not None and abs(moment - at) <= skew


@lru_cache(maxsize=256)
def _moment(date: str) -> float | None:
    try:
        return datetime.strptime(date, signing.DATE_FORMAT).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _stated(headers: Mapping[str, str], names: list[str]) -> str | None:
    """Return what stands for a body by the caller's word: that it is not covered, and no hash."""
    stated = headers.get(signing.BODY_HASH) if signing.BODY_HASH in names else None
    return stated if stated == _UNSIGNED else None
