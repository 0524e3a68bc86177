"""Requests signed with an access key (SDK-HMAC-SHA256); shared by who signs and who verifies.

Pure: no clock, no I/O. Rules:

- The canonical form is made from what is sent, percent-encoded as it is, and from nothing else.
- A path is decoded and encoded again, with a slash at its end; a query is sorted by name and value.
- What this module encodes is canonical already: sent so, it is read alike by every gateway.
- A signature covers the headers that it names; those with `_` in their names, and itself, never.
- The secret key is the key of the HMAC, directly; nothing is derived from it.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple, Protocol
from urllib.parse import parse_qsl, quote, unquote

from orchestrator.secret import Secret

ALGORITHM = "SDK-HMAC-SHA256"
DATE_FORMAT = "%Y%m%dT%H%M%SZ"
"""How `X-Sdk-Date` is written, in UTC."""

BODY_HASH = "x-sdk-content-sha256"
"""The header whose value stands for a body's hash; in lower case, as all names are signed."""

_DATE, _PROJECT, _TOKEN = "X-Sdk-Date", "X-Project-Id", "X-Security-Token"
_HOLE = "\0"
_LAYOUTS = 1024
_AS_IT_IS = re.compile(r"[A-Za-z0-9/_.~-]*")
_IN_A_LIST = re.compile(r"[!-+\--~]+")
_IN_A_HEADER = re.compile(r"[!-~]+")
_NO_BODY = hashlib.sha256(b"").hexdigest()


class Address(Protocol):
    """A URL just as it is sent, percent-encoded; yarl's fits."""

    @property
    def host_port_subcomponent(self) -> str | None:
        """The host, with its port unless that is the scheme's own: the header `Host`."""

    @property
    def raw_path(self) -> str:
        """The path."""

    @property
    def raw_query_string(self) -> str:
        """The query without its question mark; may be empty."""


@dataclass(frozen=True, slots=True)
class AccessKey:
    """Who signs; temporary ones come with a security token, which is sent and signed too.

    Raises:
        ValueError: with words for the operator, if a part of it cannot be one.
    """

    access_key: str
    secret_key: Secret
    security_token: Secret | None = None

    def __post_init__(self) -> None:
        if not _IN_A_LIST.fullmatch(self.access_key):
            raise ValueError(_unfit("access key"))
        if not _IN_A_HEADER.fullmatch(self.secret_key.reveal()):
            raise ValueError(_unfit("secret key"))
        token = self.security_token
        if token is not None and not _IN_A_HEADER.fullmatch(token.reveal()):
            raise ValueError(_unfit("security token"))


class _Layout(NamedTuple):
    """The headers of a signature, around the date: what is the same for call after call."""

    before: str
    after: str
    authorization: str
    """The header's value but for the signature at its end."""
    stated: str | None
    """What the headers state of the body's hash."""


class Signer:
    """Signs requests with one access key; what does not change between them is made once."""

    def __init__(self, key: AccessKey) -> None:
        self._key = key
        self._blank = _keyed(key.secret_key)
        self._layout = lru_cache(maxsize=_LAYOUTS)(self._make_layout)

    def __repr__(self) -> str:
        return f"Signer({self._key!r})"

    def headers(
        self,
        method: str,
        url: Address,
        headers: Mapping[str, str],
        body: bytes,
        *,
        at: float,
        project_id: str | None = None,
    ) -> dict[str, str]:
        """Return what to add to a request's headers, so that the service knows who is asking.

        Args:
            method: as it is sent.
            url: as it is sent.
            headers: what else is sent and shall be covered; a `Host` only if one is set by hand.
            body: as it is sent.
            at: the moment of the wall clock, in seconds since 1970; the service takes 15 minutes
                either way.
            project_id: the project that the request is about, if it is about one.
        """
        date = _date(int(at))
        layout = self._layout(url.host_port_subcomponent, project_id, *headers.items())
        request = canonical_request(
            method,
            url.raw_path,
            url.raw_query_string,
            f"{layout.before}{date}{layout.after}",
            body_hash(body, layout.stated),
        )
        mac = self._blank.copy()
        mac.update(_string_to_sign(date, request))
        added = {_DATE: date}
        if project_id is not None:
            added[_PROJECT] = project_id
        if self._key.security_token is not None:
            added[_TOKEN] = self._key.security_token.reveal()
        added["Authorization"] = layout.authorization + mac.hexdigest()
        return added

    def _make_layout(
        self, host: str | None, project_id: str | None, *headers: tuple[str, str]
    ) -> _Layout:
        """Lay out what is signed of the headers, with a hole where the date goes."""
        covered = {"host": host or ""}
        covered |= {name.lower(): value.strip() for name, value in headers}
        covered[_DATE.lower()] = _HOLE
        if project_id is not None:
            covered[_PROJECT.lower()] = project_id
        if self._key.security_token is not None:
            covered[_TOKEN.lower()] = self._key.security_token.reveal()
        signed = sorted(item for item in covered.items() if "_" not in item[0])
        before, _, after = header_block(signed).partition(_HOLE)
        names = ";".join(name for name, _ in signed)
        return _Layout(
            before,
            after,
            f"{ALGORITHM} Access={self._key.access_key}, SignedHeaders={names}, Signature=",
            covered.get(BODY_HASH),
        )


def signature(secret_key: Secret, date: str, request: str) -> str:
    """Return the signature of a canonical request, as hex digits."""
    mac = _keyed(secret_key)
    mac.update(_string_to_sign(date, request))
    return mac.hexdigest()


def _string_to_sign(date: str, request: str) -> bytes:
    """Return what the HMAC is made of, for the `X-Sdk-Date` and a canonical request."""
    # Bytes of a header that are no text, as a server hands them over, are what they were.
    digest = hashlib.sha256(request.encode(errors="surrogateescape")).hexdigest()
    return f"{ALGORITHM}\n{date}\n{digest}".encode()


def canonical_request(method: str, path: str, query: str, headers: str, body: str) -> str:
    """Return the one text for all spellings of a request.

    Args:
        method: in any case.
        path: as it is sent.
        query: as it is sent, without its question mark.
        headers: their `header_block`.
        body: its `body_hash`.
    """
    path, query = canonical_path(path), canonical_query(query)
    return f"{method.upper()}\n{path}\n{query}\n{headers}\n{body}"


def header_block(signed: Sequence[tuple[str, str]]) -> str:
    """Return what stands for headers: their names in lower case, in order, with trimmed values."""
    lines = "".join(f"{name}:{value}\n" for name, value in signed)
    return f"{lines}\n{';'.join(name for name, _ in signed)}"


def canonical_path(path: str) -> str:
    """Return a path that was sent, in the one spelling that is signed."""
    if not _AS_IT_IS.fullmatch(path):
        path = encode_path(unquote(path))
    return path if path.endswith("/") else f"{path}/"


def canonical_query(query: str) -> str:
    """Return a query that was sent, in the one spelling that is signed; `+` stands for a space."""
    return encode_query(parse_qsl(query, keep_blank_values=True)) if query else ""


def encode_path(path: str) -> str:
    """Return a path as it is to be sent; its slashes stay."""
    return quote(path, safe="/~")


def encode(text: str) -> str:
    """Return a text as it is to be sent within a path or a query."""
    return quote(text, safe="~")


def encode_query(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a query as it is to be sent, without its question mark."""
    return "&".join(f"{encode(name)}={encode(value)}" for name, value in sorted(pairs))


def body_hash(body: bytes, stated: str | None = None) -> str:
    """Return what stands for a body: its SHA-256, or what `x-sdk-content-sha256` states of it."""
    if not body:
        return _NO_BODY
    return stated or hashlib.sha256(body).hexdigest()


def _keyed(secret_key: Secret) -> hmac.HMAC:
    return hmac.new(secret_key.reveal().encode(), digestmod=hashlib.sha256)


@lru_cache(maxsize=8)
def _date(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime(DATE_FORMAT)


def _unfit(part: str) -> str:
    return (
        f"the {part} is empty, or has spaces, line breaks or other characters that none has; "
        "set it again, without quotes around it"
    )
