"""Who may call the pretend service: the settings of a scenario's `[auth]`.

Rules:

- Without it any credentials pass, and IAM takes any password.
- `projects` of a key, a user or a token are those that it may touch; without it, all.
- A project is called like its region, further ones of a region `region_2`, `region_3` …, unless
  `[auth.projects]` says otherwise.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

from orchestrator.secret import Secret
from orchestrator.simulator import reading


class Mode(StrEnum):
    """What the gateway asks of a call."""

    OFF = "off"
    SIGNATURE = "signature"
    TOKEN = "token"  # noqa: S105  # a mode
    ANY = "any"


class Metadata(StrEnum):
    """How the metadata of an ECS gives keys.

    Against a token of its own; to whoever asks, as it once did; to nobody, for want of an agency;
    or there is none, as on any other machine.
    """

    TOKEN = "token"  # noqa: S105  # a way
    PLAIN = "plain"
    NO_AGENCY = "no_agency"
    NONE = "none"


class Expiry(StrEnum):
    """The two codes that a token may meet when its time is over."""

    EXPIRED = "APIGW.0301"
    RENEW = "APIGW.0307"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An access key that the gateway knows; with a security token it is a temporary one."""

    access_key: str
    secret_key: Secret
    security_token: Secret | None = None
    projects: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody who may ask IAM for tokens."""

    name: str
    password: Secret
    domain: str = ""
    """The account's name; empty: any."""
    totp: Secret | None = None
    """The passcode that is asked for besides the password."""
    projects: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token that is there from the start and does not expire."""

    value: Secret
    projects: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """Who may call, and what IAM and the metadata of an ECS give. Spans are seconds."""

    mode: Mode = Mode.OFF
    skew: float = 900.0
    """How far `X-Sdk-Date` may be off the gateway's clock, either way."""
    clock_ahead: float = 0.0
    """How far the gateway's clock runs ahead of ours."""
    lock_after: int = 5
    """Failures in a row after which a key or a user is locked."""
    lock_for: float = 300.0
    token_life: float = 86400.0
    token_claims: float | None = None
    """The life that IAM promises with a token; None: the one it has."""
    token_size: int = 2048
    """Characters of a token, and of the security token of a temporary key."""
    expired_code: Expiry = Expiry.EXPIRED
    metadata: Metadata = Metadata.TOKEN
    key_life: float = 3600.0
    """How long a temporary key of the metadata is good."""
    key_overlap: float = 600.0
    """How long before a key's end the metadata gives the next one."""
    latency: float = 0.0
    """How long IAM and the metadata take to answer."""
    unavailable: int = 0
    """How many of the first calls to IAM get 503."""
    keys: tuple[Key, ...] = ()
    users: tuple[User, ...] = ()
    tokens: tuple[Token, ...] = ()
    projects: tuple[tuple[str, str], ...] = ()
    """Names of projects: id and name."""


def read_auth(table: object, walk: reading.Walk) -> Auth:
    """Return what `[auth]` says; what is wrong with it is told to `walk`."""
    if not isinstance(table, dict):
        walk.mistakes.append("auth: must be a section, [auth]")
        return Auth()
    changes: dict[str, Any] = {}
    known = len(walk.mistakes)
    walk.section(table, _KEYS, "[auth] ", changes, also=(*_LISTS, "projects"))
    for name, (field, kind, keys) in _LISTS.items():
        changes[field] = _many(table.get(name, []), name, kind, keys, walk)
    changes["projects"] = walk.attempt(_names, table.get("projects", {}), "[auth.projects]")
    return Auth() if len(walk.mistakes) > known else dataclasses.replace(Auth(), **changes)


# --------------------------------------------------------------------------------------- reading

_SettingT = TypeVar("_SettingT", Key, User, Token)


def _many(
    tables: object, name: str, kind: type[_SettingT], keys: reading.Keys, walk: reading.Walk
) -> tuple[_SettingT, ...]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        walk.mistakes.append(f"auth.{name}: write it as [[auth.{name}]], once for each")
        return ()
    found = []
    for number, table in enumerate(tables, 1):
        where = f"[[auth.{name}]] {number} "
        changes: dict[str, Any] = {}
        known = len(walk.mistakes)
        walk.section(table, keys, where, changes)
        required = (one.name for one in dataclasses.fields(kind) if _is_required(one))
        walk.mistakes += [f"{where}{one}: missing" for one in required if one not in table]
        if len(walk.mistakes) == known:
            found.append(kind(**changes))
    return tuple(found)


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING


def _secret(value: object) -> Secret:
    text = reading.text(value)
    if not text:
        raise ValueError("empty; give it a value")
    return Secret(text)


def _ids(value: object) -> frozenset[str]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is no list of project ids")  # noqa: TRY004  # one kind
    return frozenset(reading.text(one) for one in value)


def _names(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise ValueError("must be a section of ids and names")  # noqa: TRY004  # as above
    return tuple((key, reading.text(name)) for key, name in value.items())


def _claims(value: object) -> float | None:
    return None if value == "the same" else reading.span(value)


def _none_or_more(value: object) -> int:
    return 0 if value == 0 and value is not False else reading.count(value)


_KEYS: reading.Keys = {
    "mode": ("mode", partial(reading.named, Mode)),
    "skew": ("skew", reading.span),
    "clock_ahead": ("clock_ahead", reading.span),
    "lock_after": ("lock_after", reading.count),
    "lock_for": ("lock_for", reading.span),
    "token_life": ("token_life", reading.span),
    "token_claims": ("token_claims", _claims),
    "token_size": ("token_size", reading.count),
    "expired_code": ("expired_code", partial(reading.named, Expiry)),
    "metadata": ("metadata", partial(reading.named, Metadata)),
    "key_life": ("key_life", reading.span),
    "key_overlap": ("key_overlap", reading.span),
    "latency": ("latency", reading.span),
    "unavailable": ("unavailable", _none_or_more),
}

_LISTS: Mapping[str, tuple[str, type[Any], reading.Keys]] = {
    "key": (
        "keys",
        Key,
        {
            "access_key": ("access_key", reading.text),
            "secret_key": ("secret_key", _secret),
            "security_token": ("security_token", _secret),
            "projects": ("projects", _ids),
        },
    ),
    "user": (
        "users",
        User,
        {
            "name": ("name", reading.text),
            "password": ("password", _secret),
            "domain": ("domain", reading.text),
            "totp": ("totp", _secret),
            "projects": ("projects", _ids),
        },
    ),
    "token": (
        "tokens",
        Token,
        {"value": ("value", _secret), "projects": ("projects", _ids)},
    ),
}
