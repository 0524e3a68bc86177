"""Where credentials stand: settings, environment and files → one source for each project.

Rules:

- A project's own `[credentials.NAME]` first, then `[credentials.default]`. Without one, `SEARCH` is
  gone through from its top, and the first that has something serves all such projects. A source is
  taken whole, never mixed with another.
- Half of one is a mistake, not a reason to go on with another account.
- To a loopback endpoint only a `[credentials.NAME]` of the settings is sent: what the environment
  has is for the real service, and a simulator needs none of it.
- Variables are those that the process was started with; a file may be read again and again, for an
  agent may replace what it holds. No error shows what a variable or a file holds.
"""

import configparser
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml
from yarl import URL

from orchestrator.config import CloudSettings, CredentialSettings
from orchestrator.css.credentials import is_loopback
from orchestrator.errors import MistakesError, UsageError

DEFAULT = "default"
"""The `[credentials.NAME]` of projects that name none."""

LARGEST_FILE = 256 * 1024
"""Bytes of a file with a secret in it; what is longer is something else."""


_ID = re.compile(r"[0-9a-f]{32}")


class MistakeError(UsageError):
    """A source that cannot be used; says what is wrong with it, and shows nothing of it."""


# ------------------------------------------------------------------------------------------ parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a credential: where it stands, and how it is read."""

    where: str
    is_fixed: bool
    """Whether it stays the same for as long as the process lives."""
    _text: Callable[[], str] = field(repr=False, compare=False)

    def read(self) -> str:
        """Return the part as it is now, which may be a secret.

        Raises:
            MistakeError: it is not there, or empty.
        """
        text = self._text().strip()
        if not text:
            raise MistakeError(f"{self.where} is empty; put the value there")
        return text


def _in_variable(environ: Mapping[str, str], name: str) -> Part:
    def text() -> str:
        if name not in environ:
            raise MistakeError(f"the environment variable {name} is not set; export it")
        return environ[name]

    return Part(where=name, is_fixed=True, _text=text)


def _in_file(path: Path) -> Part:
    return Part(where=str(path), is_fixed=False, _text=partial(_content, path))


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise MistakeError(f"{path} is too long for what it should hold; name another file")
        return content.decode()
    except OSError as error:
        raise MistakeError(
            f"{path} cannot be read: {error.strerror}; correct its path or its permissions"
        ) from error
    except UnicodeDecodeError:
        raise MistakeError(f"{path} is not text; name another file") from None


# ---------------------------------------------------------------------------------------- sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where one credential comes from; holds no secret."""

    account: str
    """How it is called: the NAME of its `[credentials.NAME]`, or where it was found."""
    kind: str
    """One of `aksk`, `token`, `password`, `ecs`."""
    parts: Mapping[str, Part] = field(default_factory=lambda: MappingProxyType({}))
    iam_url: str | None = None
    """The address that gives tokens, if it came with the credential."""

    @property
    def is_fixed(self) -> bool:
        """Return whether it stays the same for as long as the process lives."""
        return all(part.is_fixed for part in self.parts.values())

    @property
    def where(self) -> str:
        """Return the places of its parts in words."""
        return ", ".join(part.where for part in self.parts.values()) or "the metadata service"

    def read(self, name: str) -> str | None:
        """Return a part as it is now, or None if the source has no such part.

        Raises:
            MistakeError: it is not there any more.
        """
        part = self.parts.get(name)
        return None if part is None else part.read()

    def check(self) -> None:
        """Read every part.

        Raises:
            MistakesError: some are not there; names each.
        """
        mistakes = []
        for part in self.parts.values():
            try:
                part.read()
            except MistakeError as error:
                mistakes.append(f"credential {self.account}: {error}")
        if mistakes:
            raise MistakesError("some parts of a credential are not there:", mistakes)


class Surroundings(NamedTuple):
    """Where credentials are looked for that nobody named."""

    environ: Mapping[str, str]
    home: Path | None
    cwd: Path


def source_in(name: str, given: CredentialSettings, environ: Mapping[str, str]) -> Source:
    """Return the source that a `[credentials.NAME]` describes."""
    parts: dict[str, Part] = {}
    for part in PARTS:
        variable, file = getattr(given, f"{part}_env"), getattr(given, f"{part}_file")
        if variable is not None:
            parts[part] = _in_variable(environ, variable)
        elif file is not None:
            parts[part] = _in_file(file)
    return Source(account=name, kind=given.type, parts=MappingProxyType(parts))


PARTS = (
    "access_key", "secret_key", "security_token", "token", "user", "password", "domain",
    "project", "user_id", "passcode",
)  # fmt: skip
"""Everything that credentials are made of."""


# ----------------------------------------------------------------------------------------- search


class Variables(NamedTuple):
    """A credential that stands in variables; for each part the names it may have, best first."""

    kind: str
    parts: Mapping[str, Sequence[str]]
    begins_with: Sequence[str]
    """The parts of which one is enough to say that this credential is meant."""
    optional: Sequence[str] = ()
    iam_url: str | None = None


_SDK = Variables(
    "aksk",
    {
        "access_key": ("HUAWEICLOUD_SDK_AK",),
        "secret_key": ("HUAWEICLOUD_SDK_SK",),
        "security_token": ("HUAWEICLOUD_SDK_SECURITY_TOKEN",),
    },
    begins_with=("access_key", "secret_key"),
    optional=("security_token",),
)
_HW_TOKEN = Variables("token", {"token": ("HW_AUTH_TOKEN",)}, begins_with=("token",))
_HW_KEYS = Variables(
    "aksk",
    {
        "access_key": ("HW_ACCESS_KEY",),
        "secret_key": ("HW_SECRET_KEY",),
        "security_token": ("HW_SECURITY_TOKEN",),
    },
    begins_with=("access_key", "secret_key"),
    optional=("security_token",),
)
_HW_USER = Variables(
    "password",
    {
        "user": ("HW_USER_NAME",),
        "password": ("HW_USER_PASSWORD",),
        "domain": ("HW_DOMAIN_NAME",),
    },
    begins_with=("password",),
    iam_url="HW_AUTH_URL",
)
_OS_KEYS = Variables(
    "aksk",
    {
        "access_key": ("OS_ACCESS_KEY",),
        "secret_key": ("OS_SECRET_KEY",),
        "security_token": ("OS_SECURITY_TOKEN",),
    },
    begins_with=("access_key", "secret_key"),
    optional=("security_token",),
)
_OS_USER = Variables(
    "password",
    {
        "user": ("OS_USERNAME", "OS_USER_NAME"),
        "password": ("OS_PASSWORD",),
        "domain": ("OS_USER_DOMAIN_NAME", "OS_DOMAIN_NAME"),
    },
    begins_with=("password",),
    iam_url="OS_AUTH_URL",
)
_OS_TOKEN = Variables("token", {"token": ("OS_TOKEN", "OS_AUTH_TOKEN")}, begins_with=("token",))


def _variables(wanted: Variables, around: Surroundings) -> Source | None:
    """Return the credential that stands in these variables, if any of it does."""
    environ = around.environ
    found: dict[str, Part] = {}
    for part, names in wanted.parts.items():
        name = next((name for name in names if environ.get(name, "").strip()), None)
        if name is not None:
            found[part] = _in_variable(environ, name)
    if not any(part in found for part in wanted.begins_with):
        return None
    missing = [p for p in wanted.parts if p not in found and p not in wanted.optional]
    if missing:
        names = " and ".join(" or ".join(wanted.parts[part]) for part in missing)
        there = found[next(part for part in wanted.begins_with if part in found)].where
        raise MistakeError(
            f"{there} is set, but {names} is not; set that too, or unset {there} to have "
            "credentials looked for elsewhere"
        )
    iam_url = environ.get(wanted.iam_url, "").strip() if wanted.iam_url else ""
    account = found[next(iter(wanted.parts))].where
    return Source(
        account=account, kind=wanted.kind, parts=MappingProxyType(found), iam_url=iam_url or None
    )


_SDK_FILE = "HUAWEICLOUD_SDK_CREDENTIALS_FILE"
_SDK_KEYS = {"access_key": "ak", "secret_key": "sk", "security_token": "security_token"}


def _sdk_file(around: Surroundings) -> Source | None:
    """Return the credential of the vendor's own file, `[basic]` in `~/.huaweicloud/credentials`."""
    named = around.environ.get(_SDK_FILE, "").strip()
    usual = around.home / ".huaweicloud" / "credentials" if around.home is not None else None
    path = around.cwd / named if named else usual
    if path is None or (not named and not path.is_file()):
        return None
    section = _basic_section(path)
    keys = {part: key for part, key in _SDK_KEYS.items() if section.get(key, "").strip()}
    if not keys and not named:
        return None
    for part in ("access_key", "secret_key"):
        if part not in keys:
            raise MistakeError(
                f"{path}: [basic] has no {_SDK_KEYS[part]}; write it there, or take the file away"
            )
    parts = {
        part: Part(
            where=f"{path}: {key}",
            is_fixed=False,
            _text=lambda key=key: _basic_section(path).get(key, ""),  # type: ignore[misc]
        )
        for part, key in keys.items()
    }
    return Source(account=str(path), kind="aksk", parts=MappingProxyType(parts))


def _basic_section(path: Path) -> Mapping[str, str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(_content(path))
    except configparser.Error:
        # Its words would quote the line.
        raise MistakeError(f"{path} is not an INI file; write [basic], ak = … and sk = …") from None
    return dict(parser["basic"]) if parser.has_section("basic") else {}


# ------------------------------------------------------------------------------------ clouds.yaml

_CLOUD_KINDS: Sequence[tuple[str, Mapping[str, Sequence[str]], Sequence[str]]] = (
    ("token", {"token": ("token",)}, ()),
    (
        "aksk",
        {
            "access_key": ("ak", "access_key"),
            "secret_key": ("sk", "secret_key"),
            "security_token": ("security_token",),
        },
        ("security_token",),
    ),
    (
        "password",
        {
            "user": ("username",),
            "password": ("password",),
            "domain": ("user_domain_name", "domain_name"),
        },
        (),
    ),
)


def _clouds_yaml(around: Surroundings) -> Source | None:
    """Return the credential of the cloud that `OS_CLOUD` names in `clouds.yaml`."""
    cloud = around.environ.get("OS_CLOUD", "").strip()
    if not cloud:
        return None
    path = _cloud_file(around, "clouds", around.environ.get("OS_CLIENT_CONFIG_FILE", "").strip())
    if path is None:
        raise MistakeError(
            f"OS_CLOUD names {cloud!r}, but there is no clouds.yaml here, in ~/.config/openstack "
            "or in /etc/openstack; write one, name it in OS_CLIENT_CONFIG_FILE, or unset OS_CLOUD"
        )
    secure = _cloud_file(around, "secure", around.environ.get("OS_CLIENT_SECURE_FILE", "").strip())
    auth = _auth_of(path, secure, cloud)
    for kind, parts, optional in _CLOUD_KINDS:
        keys = {
            part: next((name for name in names if auth.get(name)), None)
            for part, names in parts.items()
        }
        if all(keys[part] for part in parts if part not in optional):
            found = {
                part: Part(
                    where=f"{path}: clouds.{cloud}.auth.{key}",
                    is_fixed=False,
                    _text=lambda key=key: _auth_of(path, secure, cloud).get(key, ""),  # type: ignore[misc]
                )
                for part, key in keys.items()
                if key is not None
            }
            return Source(
                account=f"{path}: {cloud}",
                kind=kind,
                parts=MappingProxyType(found),
                iam_url=auth.get("auth_url"),
            )
    raise MistakeError(
        f"{path}: clouds.{cloud}.auth has no token, no ak and sk, and no username with password "
        "and user_domain_name; write one of them there or in secure.yaml"
    )


def _cloud_file(around: Surroundings, stem: str, named: str) -> Path | None:
    if named:
        return around.cwd / named
    own = () if around.home is None else (around.home / ".config" / "openstack",)
    folders = (around.cwd, *own, Path("/etc/openstack"))
    places = (f / f"{stem}{suffix}" for f in folders for suffix in (".yaml", ".yml", ".json"))
    return next((place for place in places if place.is_file()), None)


def _auth_of(path: Path, secure: Path | None, cloud: str) -> Mapping[str, str]:
    """Return `auth` of one cloud, with what `secure.yaml` says of it over it."""
    mine = _cloud_in(path, cloud)
    if mine is None:
        raise MistakeError(f"{path}: there is no cloud {cloud!r}; correct OS_CLOUD")
    auth = _table(mine.get("auth")) | (
        {} if secure is None else _table(_table(_cloud_in(secure, cloud)).get("auth"))
    )
    return {str(key): str(value) for key, value in auth.items() if value is not None}


def _cloud_in(path: Path, cloud: str) -> dict[str, Any] | None:
    try:
        document = yaml.safe_load(_content(path))
    except yaml.YAMLError:
        # Its words would quote the line.
        raise MistakeError(f"{path} is not YAML; correct it") from None
    found = _table(_table(document).get("clouds")).get(cloud)
    return None if found is None else _table(found)


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


# ------------------------------------------------------------------------------------- the search


LAST_RESORT = Source(account="ECS metadata", kind="ecs")
"""The agency of this machine, if it is one of the cloud; only asking it tells."""


SEARCH: Sequence[Callable[[Surroundings], Source | None]] = (
    partial(_variables, _SDK),
    partial(_variables, _HW_TOKEN),
    partial(_variables, _HW_KEYS),
    partial(_variables, _HW_USER),
    partial(_variables, _OS_KEYS),
    partial(_variables, _OS_USER),
    _clouds_yaml,
    _sdk_file,
    partial(_variables, _OS_TOKEN),
    lambda _around: LAST_RESORT,
)
"""Where a credential is looked for that no setting names; the first that has one has it."""


def search(around: Surroundings) -> Source:
    """Return the first credential that is found; the last resort is the machine's own agency.

    Raises:
        MistakeError: one was found, but not all of it.
    """
    return next(source for look in SEARCH if (source := look(around)) is not None)


class Sources:
    """Which source each project uses, as settings and surroundings have it."""

    def __init__(self, settings: CloudSettings, around: Surroundings) -> None:
        self._settings = settings
        self._around = around
        self._named = {
            name: source_in(name, given, around.environ)
            for name, given in settings.credentials.items()
        }
        self._found: Source | None = None

    def source_for(self, project_id: str, region: str | None) -> Source | None:
        """Return where a project's credential comes from; None if it needs none.

        Raises:
            MistakeError: the credential that was found is not whole.
            ConfigError: the project has no endpoint.
        """
        project = self._settings.projects.get(project_id)
        name = (project.credentials if project is not None else None) or DEFAULT
        if name in self._named:
            return self._named[name]
        if is_loopback(URL(self._settings.endpoint_for(project_id, region)).host):
            return None
        if self._found is None:
            self._found = search(self._around)
        return self._found


def is_project_id(text: str) -> bool:
    """Return whether a text is the id of a project, rather than its name."""
    return _ID.fullmatch(text) is not None
