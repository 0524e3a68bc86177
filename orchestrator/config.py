"""Options, environment and one TOML file → settings, checked before anything is sent.

Rules:

- Options win over `ORCHESTRATOR_*`, these over the file, the file over the defaults. One file is
  read: the one that was named, else `orchestrator.toml` here, else the user's. A key is taken whole
  from the first layer that has it.
- `KEYS` is the only description of a key; a default stands once, in the dataclass that has it.
- Every mistake of every layer is found in one go, and each names its source. What is not known is
  an error, never ignored: a misspelt limit must not become the default unseen.
- Secrets are named, never held: a credential says which variable or file has them. No error shows
  the value of a credential, or an address that may have a password in it.
- Relative paths in a file start at its folder, all others at the working directory. `report` is
  kept as it was written, since it may also be `-`.
"""

import ipaddress
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from difflib import SequenceMatcher
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

import platformdirs

from orchestrator.errors import ConfigError
from orchestrator.limits import FLEET, Concurrency, Rate, Unavailable
from orchestrator.model import WHOLE, Kind, Target
from orchestrator.plan import FailureMode, Policy, Portion, Unhealthy
from orchestrator.ranking import Order
from orchestrator.regions import (
    EVERYWHERE,
    GLOBAL_IAM,
    TEMPLATES,
    Api,
    Told,
    is_known,
    nearest_known,
    plain,
    told_by_file,
    told_by_variables,
    usual_address,
)
from orchestrator.regions import FILE_NAME as REGIONS_FILE
from orchestrator.regions import FILE_VARIABLE as REGIONS_VARIABLE
from orchestrator.span import format_span, parse_moment, parse_span

APP = "orchestrator"
"""The name of our folders under the user's configuration and state."""

FILE_NAME = "orchestrator.toml"
"""The file that is looked for when none is named."""

PREFIX = "ORCHESTRATOR_"
"""How the names of our environment variables begin; all of them belong to us."""

CONFIG_VARIABLE = "ORCHESTRATOR_CONFIG"
"""The environment variable that names the file."""

DEFAULT = "default"
"""The origin of a value that nobody gave."""

NO_MOMENT = "none"
"""What is written for a bound of the window that does not hold, whatever a file says."""

_ANY_MOMENT = 1_767_225_600.0

REST = "rest"
"""The wave that takes all targets that are left."""

_HEADING = "the settings cannot be used; nothing was sent:"
_NO_ADDRESS = "the service's address is not known:"
_REGION_FIELD = "{region}"
_REGION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_PRINTABLE = re.compile(r"[!-\[\]-~]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A container platform sets these for any service whose name begins like ours.
_SERVICE_LINK = re.compile(
    r"ORCHESTRATOR_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT\w*|PORT(?:_\d+_\w+)?)"
)
_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


# ---------------------------------------------------------------------------- what settings are


def _nothing() -> MappingProxyType[str, Any]:
    return MappingProxyType({})


def _no_addresses() -> Mapping[tuple[Api, str], str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSettings:
    """What is special about one project."""

    region: str | None = None
    credentials: str | None = None
    """The name of its `[credentials.NAME]`; None leaves it to `[credentials.default]`, if there is
    one, or else to the usual search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialSettings:
    """Where to read the parts of one credential: names of variables, or files; no secrets."""

    type: str
    """One of `aksk`, `token`, `password`, `ecs`."""
    access_key_env: str | None = None
    access_key_file: Path | None = None
    secret_key_env: str | None = None
    secret_key_file: Path | None = None
    security_token_env: str | None = None
    security_token_file: Path | None = None
    token_env: str | None = None
    token_file: Path | None = None
    user_env: str | None = None
    user_file: Path | None = None
    password_env: str | None = None
    password_file: Path | None = None
    domain_env: str | None = None
    domain_file: Path | None = None
    project_env: str | None = None
    project_file: Path | None = None
    user_id_env: str | None = None
    user_id_file: Path | None = None
    passcode_env: str | None = None
    passcode_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSettings:
    """Where the service is, and how it is spoken to."""

    endpoint: str = TEMPLATES[Api.CSS]
    """An address for all regions; `{region}` in it stands for the region of the target. The default
    leaves it to the addresses of single regions, given or built in."""
    region_endpoint: tuple[str, ...] = ()
    """Addresses of single regions: `cn-north-4=https://…`."""
    iam_endpoint: str = TEMPLATES[Api.IAM]
    metadata_endpoint: str = "http://169.254.169.254"
    """Where a machine of the cloud learns the key of its agency; the address is its own."""
    region: str | None = None
    """For targets and projects that name none."""
    request_timeout: float = 30.0
    """Seconds that one call may take."""
    ca_file: Path | None = None
    """A certificate authority to trust besides the usual ones."""
    client_cert: Path | None = None
    """Our own certificate, for endpoints and proxies in between that ask for one."""
    client_key: Path | None = None
    """Its key; None if that stands in the file of the certificate."""
    client_key_password_env: str | None = None
    """The variable that holds what the key is encrypted with."""
    connections: int = 100
    """Most connections open at once, over all projects."""
    projects: Mapping[str, ProjectSettings] = field(default_factory=_nothing)
    credentials: Mapping[str, CredentialSettings] = field(default_factory=_nothing)
    addresses: Mapping[tuple[Api, str], str] = field(default_factory=_no_addresses)
    """API and region → its address, from `region_endpoint` and from the vendor's variables and
    file; they hold where the address for all regions is the default."""
    mistakes: tuple[str, ...] = ()
    """What is wrong with the vendor's variables and file: told to those who need an address, for
    others may use them for other things."""

    def region_for(self, target: Target) -> str | None:
        """Return the region of `target`: its own, else its project's, else the one for all."""
        return self.region_of(target.project_id, target.region)

    def region_of(self, project_id: str, region: str | None = None) -> str | None:
        """Return `region`, else that of the project's settings, else the one for all."""
        return region or self.projects.get(project_id, ProjectSettings()).region or self.region

    def endpoint_for(self, project_id: str, region: str | None) -> str:
        """Return the service's address for a target of `project_id` that names `region`, or none.

        Raises:
            ConfigError: the address needs a region and none is known, or it is none.
        """
        return self._address(Api.CSS, self.endpoint, project_id, region)

    def iam_endpoint_for(self, project_id: str, region: str | None) -> str:
        """Return the address that gives tokens for `project_id`.

        Raises:
            ConfigError: as `endpoint_for`; but without a region the default is the global one.
        """
        return self._address(Api.IAM, self.iam_endpoint, project_id, region)

    @property
    def region_endpoints(self) -> tuple[str, ...]:
        """Return the service's addresses in single regions, wherever they were given."""
        return tuple(
            f"{region}={address}"
            for (api, region), address in self.addresses.items()
            if api is Api.CSS
        )

    def doubt_about(self, project_id: str, region: str | None) -> str | None:
        """Return what is doubtful about where calls for a project would go, if anything is."""
        known = self.region_of(project_id, region)
        is_given = self.endpoint != TEMPLATES[Api.CSS] or self._told(Api.CSS, known)
        if known is None or is_given or is_known(known):
            return None
        near = nearest_known(known)
        return (
            f"{known} is no region that is known here; its address is guessed to be "
            f"{usual_address(Api.CSS, known)}. Check the name"
            + (f" (the nearest known is {near})" if near else "")
            + f", or say the address: --region-endpoint {known}=URL"
        )

    def _address(self, api: Api, endpoint: str, project_id: str, region: str | None) -> str:
        known = self.region_of(project_id, region)
        if endpoint == TEMPLATES[api]:
            if self.mistakes:
                raise ConfigError(_NO_ADDRESS, self.mistakes)
            told = self._told(api, known)
            if told is None and known is None and api is Api.IAM:
                return GLOBAL_IAM
            if told is None and known is not None and _REGION.fullmatch(known):
                return usual_address(api, known)
            endpoint = told or endpoint
        return _filled(endpoint, key=f"cloud.{_KEY_OF[api]}", project_id=project_id, region=known)

    def _told(self, api: Api, region: str | None) -> str | None:
        """Return the address that was given for a region, or for all by the vendor's variable."""
        of_all = self.addresses.get((api, EVERYWHERE))
        return of_all or (self.addresses.get((api, plain(region))) if region else None)


_KEY_OF = {Api.CSS: "endpoint", Api.IAM: "iam_endpoint"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveSettings:
    """How the fleet is cut into waves."""

    canary: Portion | None = None
    """The size of the first wave; None means 1 for fleets over 10, else no canary."""
    waves: tuple[str, ...] = ()
    """Sizes of waves in order, such as `("1", "10%", "rest")`; each is a `Portion` or `rest`."""
    soak: float = 60.0
    """Seconds after a wave in which its clusters must stay healthy."""
    confirm: bool = False
    """Whether each wave but the first waits for somebody's word."""
    order: Order = Order.LISTED
    """In which order the targets of a wave start."""
    seed: int = 0
    """Chooses among all orders, where they are shuffled; simulations and rehearsals, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSettings:
    """When restarts may start; kept as written, since a span counts from the start of the run."""

    not_before: str | None = None
    cutoff: str | None = None
    """Nothing starts after this."""
    deadline: str | None = None
    """Nothing starts that is expected to last beyond this."""


def _default_journal() -> str:
    folder = platformdirs.user_state_path(APP, appauthor=False)
    return f"{_SQLITE}{(folder / 'journal.db').absolute()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSettings:
    """Where runs and the shared ledger are kept."""

    # An address of PostgreSQL may carry a password, so it is not printed with the settings.
    url: str = field(default_factory=_default_journal, repr=False)
    """`sqlite:///` and an absolute path, or `postgresql://…` as it was given."""

    @property
    def path(self) -> Path | None:
        """Return the journal's file; None when it is not a file of SQLite."""
        is_file = self.url.startswith(_SQLITE)
        return Path(self.url.removeprefix(_SQLITE)) if is_file else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is written about a run while it goes on."""

    format: Literal["console", "json"] = "console"
    """`console` for people, `json` for machines."""
    file: Path | None = None
    """None writes to standard error."""
    level: str = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set, checked; made by `load_settings`."""

    cloud: CloudSettings = field(default_factory=CloudSettings)
    policy: Policy = field(default_factory=Policy)
    waves: WaveSettings = field(default_factory=WaveSettings)
    window: WindowSettings = field(default_factory=WindowSettings)
    journal: JournalSettings = field(default_factory=JournalSettings)
    log: LogSettings = field(default_factory=LogSettings)
    kind: Kind = WHOLE
    """The kind of restart for targets of a fleet file that name none."""
    report: str | None = None
    """Where the report goes; `-` is standard output, None leaves the name to the run."""
    change: str | None = None
    """The number of the change or ticket that this run belongs to."""
    operator: str | None = None
    """Who answers for the run; None means the user of this machine."""
    file: Path | None = None
    """The file that was read, if any."""
    origins: Mapping[str, str] = field(default_factory=_nothing)
    """Dotted key → where its value came from: option, variable, file and key, or `default`."""

    def value_of(self, name: str) -> object:
        """Return the value of a key of `KEYS` by its dotted name.

        Raises:
            KeyError: there is no such key.
        """
        if name not in KEYS:
            raise KeyError(name)
        section, _, last = name.rpartition(".")
        if name == "limits.max_concurrency":
            return _concurrencies_of(self.policy)
        if name == "limits.rate":
            return _rates_of(self.policy)
        if section == "gate":
            return getattr(self.policy, _GATE_FIELDS[last])
        holder = {"": self, "limits": self.policy, "follow": self.policy}.get(section)
        return getattr(getattr(self, section) if holder is None else holder, last)


_GATE_FIELDS = {"command": "gates", "every": "gate_every", "timeout": "gate_timeout"}
"""Key of `[gate]` → the field of the policy that has it."""


def user_config_file() -> Path:
    """Return the path of the user's own file, which need not exist."""
    return platformdirs.user_config_path(APP, appauthor=False) / FILE_NAME


def _filled(template: str, *, key: str, project_id: str, region: str | None) -> str:
    if _REGION_FIELD not in template:
        return template
    if region is None:
        what = (
            f"project {project_id}: {key} needs a region and none is known; name one in the "
            f"fleet, in [cloud.projects.{project_id}] or with --region, "
            "or give an address without {region}"
        )
    elif not _REGION.fullmatch(region):
        what = f"project {project_id}: {region!r} is not a region; write it like cn-north-4"
    else:
        return template.replace(_REGION_FIELD, region)
    raise ConfigError(_NO_ADDRESS, [what])


def _concurrencies_of(policy: Policy) -> tuple[Concurrency, ...]:
    return tuple(limit for limit in policy.limits if isinstance(limit, Concurrency))


def _rates_of(policy: Policy) -> tuple[Rate, ...]:
    return tuple(limit for limit in policy.limits if isinstance(limit, Rate))


# ------------------------------------------------------------------------ how values are written


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a value was found.

    `source` is how mistakes name it, `base` is where relative paths start. `is_typed` is true for
    values that the command line already made into numbers: only there a bare number is seconds.
    """

    source: str
    base: Path
    is_typed: bool = False


Parser = Callable[[object, Place], object]
"""Makes a value of what TOML, the environment or an option gave; raises ValueError with words."""


def _called(value: object) -> str:
    """Name the sort of `value` without showing it."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    return "text" if isinstance(value, str) else "a date or time"


def _unfit(wanted: str, value: object) -> ValueError:
    return ValueError(f"must be {wanted}, not {_called(value)}")


def _parse_text(value: object, _place: Place) -> str:
    if not isinstance(value, str):
        raise _unfit("text in quotes", value)
    if not value.strip():
        raise ValueError("must not be empty")
    return value.strip()


def _parse_moment(value: object, place: Place) -> str:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.isoformat()
    if _called(value) == "a date or time":
        raise ValueError("must carry its offset from UTC; write it like '04:00+08:00'")
    text = _parse_text(value, place)
    if text.lower() == NO_MOMENT:
        return NO_MOMENT
    parse_moment(text, now=_ANY_MOMENT)
    return text


def _parse_commands(value: object, place: Place) -> tuple[str, ...]:
    """Take commands as they are: what is in them is the shell's to split."""
    commands = value if isinstance(value, list | tuple) else (value,)
    return tuple(_parse_text(command, place) for command in commands)


def _parse_kind(value: object, place: Place) -> Kind:
    return Kind.parse(_parse_text(value, place))


def _parse_region(value: object, place: Place) -> str:
    text = _parse_text(value, place)
    if not _REGION.fullmatch(text):
        raise ValueError(f"{text!r} is not a region; write it like cn-north-4")
    return text


def _parse_path(value: object, place: Place) -> Path:
    text = str(value) if isinstance(value, Path) else _parse_text(value, place)
    try:
        return place.base / Path(text).expanduser()
    except RuntimeError:
        raise ValueError("names a home folder that cannot be found; write the whole path") from None


def _parse_variable(value: object, place: Place) -> str:
    text = _parse_text(value, place)
    if not _VARIABLE.fullmatch(text):
        raise ValueError("must be the name of an environment variable, not what it holds")
    return text


def _parse_zero_or_span(value: object, place: Place) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and not place.is_typed:
        raise ValueError(f"{value} says no unit; write a span like '90s', '10m' or '1h30m'")
    seconds = float(str(value)) if is_number else parse_span(_parse_text(value, place))
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError("must be a span that ends; write it like 90s, 10m or 1h30m")
    return seconds


def _parse_span(value: object, place: Place) -> float:
    seconds = _parse_zero_or_span(value, place)
    if not seconds:
        raise ValueError("must be longer than 0s")
    return seconds


def _at_least(least: int) -> Parser:
    def parse(value: object, _place: Place) -> int:
        number = _whole(value)
        if number is None:
            raise ValueError(f"must be a whole number, {least} or more")
        if number < least:
            raise ValueError(f"must be {least} or more, not {number}")
        return number

    return parse


def _whole(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,18}\s*", value):
        return int(value)
    return None


def _one_of(*words: str) -> Parser:
    def parse(value: object, place: Place) -> str:
        text = _parse_text(value, place).lower()
        if text not in words:
            raise ValueError(f"{text!r} is not known; use {_either(words)}")
        return text

    return parse


def _parse_failure_mode(value: object, place: Place) -> FailureMode:
    return FailureMode(str(_one_of(*FailureMode)(value, place)))


def _parse_unhealthy(value: object, place: Place) -> Unhealthy:
    return Unhealthy(str(_one_of(*Unhealthy)(value, place)))


def _parse_switch(value: object, _place: Place) -> bool:
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else None
    if word not in _TRUE | _FALSE:
        raise ValueError("must be true or false")
    return word in _TRUE


def _words(value: object) -> list[str]:
    """Return the single words of a value that may be one or several, in a list or in one text."""
    if isinstance(value, list | tuple):
        return [word for item in value for word in _words(item)]
    if isinstance(value, bool) or not isinstance(value, str | int | Portion | Concurrency | Rate):
        raise _unfit("text or numbers", value)
    joined = re.sub(r"\s*([=/])\s*", r"\1", str(value))
    return [word for word in re.split(r"[\s,]+", joined) if word]


def _parse_portion(value: object, _place: Place) -> Portion:
    words = _words(value)
    if len(words) != 1:
        raise ValueError("must be one number of targets; write it like 3 or 10%")
    return Portion.parse(words[0])


def _parse_order(value: object, place: Place) -> Order:
    return Order(str(_one_of(*Order)(value, place)))


def _parse_waves(value: object, _place: Place) -> tuple[str, ...]:
    words = tuple(word.lower() for word in _words(value))
    if not words:
        raise ValueError("names no wave; write it like 1,5,10%,rest")
    if REST in words[:-1]:
        raise ValueError("nothing can come after rest; put it last, once")
    for word in words:
        if word != REST and not Portion.parse(word).number:
            raise ValueError(f"a wave cannot have {word} targets; leave it out")
    return tuple(word if word == REST else str(Portion.parse(word)) for word in words)


def _parse_concurrency(value: object, _place: Place) -> tuple[Concurrency, ...]:
    if isinstance(value, Mapping):
        given = tuple(_scoped(scope, number) for scope, number in value.items())
    else:
        given = tuple(Concurrency.parse(word) for word in _words(value))
    if not given:
        raise ValueError("names no limit; write it like 10 or project=2")
    twice = _first_twice(limit.scope for limit in given)
    if twice is not None:
        raise ValueError(f"limits {twice} more than once; say it once")
    # A limit on a narrower scope alone would leave the fleet as a whole without any.
    missing = () if any(limit.scope == FLEET for limit in given) else _concurrencies_of(Policy())
    return (*missing, *given)


def _parse_unavailable(value: object, _place: Place) -> tuple[Unavailable, ...]:
    if isinstance(value, Mapping):
        value = [f"{scope}={number}" for scope, number in value.items()]
    given = tuple(Unavailable.parse(word) for word in _words(value))
    twice = _first_twice(limit.scope for limit in given)
    if twice is not None:
        raise ValueError(f"limits {twice} more than once; say it once")
    return given


def _scoped(scope: str, number: object) -> Concurrency:
    most = number if isinstance(number, int) and not isinstance(number, bool) else None
    if most is None:
        raise ValueError(f"{scope}: {_unfit('a whole number', number)}")
    return Concurrency(most, scope)


def _parse_rates(value: object, _place: Place) -> tuple[Rate, ...]:
    words = _words(value)
    if [word.lower() for word in words] == ["none"]:
        return ()
    if any(word.lower() == "none" for word in words):
        raise ValueError("none means no rate at all; it cannot stand beside a rate")
    if not words:
        raise ValueError("names no rate; write it like 20/10m, or none for no rate limit")
    given = tuple(Rate.parse(word) for word in words)
    if not all(math.isfinite(rate.per) for rate in given):
        raise ValueError("has an interval that never ends; write it like 20/10m")
    twice = _first_twice(f"{rate.scope} per {format_span(rate.per)}" for rate in given)
    if twice is not None:
        raise ValueError(f"limits {twice} more than once; say it once")
    return given


def _first_twice(words: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for word in words:
        if word in seen:
            return word
        seen.add(word)
    return None


def _parse_journal(value: object, place: Place) -> str:
    text = str(value) if isinstance(value, Path) else _parse_text(value, place)
    if text.startswith(_POSTGRES):
        return text
    scheme, colon, _ = text.partition(":")
    if colon and scheme == "sqlite" and (not text.startswith(_SQLITE) or "?" in text):
        raise ValueError("is not a journal's address; write it like sqlite:////var/lib/journal.db")
    if "://" in text and scheme != "sqlite":
        raise ValueError(f"{scheme!r} is not a kind of journal; use a path, sqlite or postgresql")
    path = text.removeprefix(_SQLITE)
    if not path or path.endswith("/") or path == ":memory:":
        raise ValueError("must name a file: a journal has to outlive the process")
    return f"{_SQLITE}{_parse_path(path, place)}"


# ------------------------------------------------------------------------------------- addresses


def _parse_endpoint(value: object, place: Place) -> str:
    """Take an address that calls may be sent to; mistakes are told without showing it."""
    text = _parse_text(value, place)
    example = text.replace(_REGION_FIELD, "region")
    if not _PRINTABLE.fullmatch(example) or "{" in example or "}" in example:
        raise ValueError("is not an address; {region} is the only thing that is filled in")
    parts = _split_address(example)
    if "@" in parts.netloc:
        raise ValueError("must not carry a user or password; credentials have their own settings")
    if parts.path not in {"", "/"} or "?" in example or "#" in example:
        raise ValueError("must end after the host and port; leave out path and query")
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ValueError("must begin with https://; http:// is for this machine only (127.0.0.1)")
    return text.rstrip("/")


def _parse_region_endpoints(value: object, place: Place) -> tuple[str, ...]:
    """Take addresses of single regions: a table, or words like `cn-north-4=https://…`."""
    if isinstance(value, Mapping):
        pairs = [(str(region), address) for region, address in value.items()]
    else:
        texts = value if isinstance(value, list | tuple) else (value,)
        words = [word for text in texts for word in re.split(r"[\s,]+", _parse_text(text, place))]
        pairs = [(word.partition("=")[0], word.partition("=")[2]) for word in words if word]
    given: dict[str, str] = {}
    for region, address in pairs:
        name = _parse_region(plain(region), place)
        if not address:
            raise ValueError(f"says no address for {name}; write it like {name}=https://…")
        if name in given:
            raise ValueError(f"names {name} more than once; say it once")
        try:
            given[name] = _parse_endpoint(address, place)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return tuple(f"{name}={address}" for name, address in given.items())


def _parse_metadata_endpoint(value: object, place: Place) -> str:
    """Take the address of a metadata service: keys come from there in the clear."""
    text = _parse_text(value, place).rstrip("/")
    parts = _split_address(text)
    host = parts.hostname or ""
    if not _PRINTABLE.fullmatch(text) or "@" in parts.netloc or parts.path or "?" in text:
        raise ValueError("must be http:// and an address, without a user, a path or a query")
    if not (_is_loopback(host) or _is_link_local(host)):
        raise ValueError("must be an address that no other machine has, like 169.254.169.254")
    return text


def _split_address(text: str) -> SplitResult:
    wrong = "is not an address; write it like https://css.{region}.myhuaweicloud.com"
    try:
        parts = urlsplit(text)
        is_bad = parts.port == 0
    except ValueError:
        raise ValueError(wrong) from None
    host = parts.hostname or ""
    if (
        is_bad
        or parts.scheme not in {"http", "https"}
        or not (_HOST.fullmatch(host) or ":" in host)
    ):
        raise ValueError(wrong)
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_link_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_link_local
    except ValueError:
        return False


# ------------------------------------------------------------------------------ the table of keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One thing that can be set: in the file, by a variable, and by an option."""

    name: str
    """Dotted, as in the file: `limits.rate`."""
    parse: Parser
    help: str
    """One line for `--help`, without a full stop."""
    metavar: str
    option: str
    """The option without its dashes: `max-concurrency`."""
    is_many: bool = False
    """Whether the option may be given several times."""

    @property
    def variable(self) -> str:
        """Return the name of its environment variable."""
        return PREFIX + self.option.replace("-", "_").upper()

    @property
    def default(self) -> object:
        """Return its value when nobody sets it."""
        return Settings().value_of(self.name)

    @property
    def default_text(self) -> str:
        """Return the default as an operator would write it; empty when there is none."""
        default = self.default
        match default:
            case None | ():
                return ""
            case bool():
                return str(default).lower()
            case float():
                return format_span(default)
            case tuple():
                return ", ".join(_written(item) for item in default)
            case _:
                return _written(default)


def _written(value: object) -> str:
    """Write one default; all default limits are the fleet's, so no scope has to be said."""
    return f"{value.most}/{format_span(value.per)}" if isinstance(value, Rate) else str(value)


def _key(
    name: str,
    parse: Parser,
    metavar: str,
    words: str,
    *,
    option: str | None = None,
    is_many: bool = False,
) -> Key:
    last = name.rpartition(".")[2].replace("_", "-")
    return Key(
        name=name, parse=parse, metavar=metavar, help=words, option=option or last, is_many=is_many
    )


KEYS: Mapping[str, Key] = MappingProxyType({
    key.name: key
    for key in (
        _key("cloud.endpoint", _parse_endpoint, "URL",
             "the service's address; {region} in it stands for the region of the target"),
        _key("cloud.region_endpoint", _parse_region_endpoints, "REGION=URL",
             "the service's address in one region, where no address for all is given",
             is_many=True),
        _key("cloud.iam_endpoint", _parse_endpoint, "URL",
             "the address that gives tokens; may hold {region} too"),
        _key("cloud.metadata_endpoint", _parse_metadata_endpoint, "URL",
             "the address where a machine of the cloud learns the key of its agency"),
        _key("cloud.region", _parse_region, "REGION",
             "the region of targets and projects that name none"),
        _key("cloud.request_timeout", _parse_span, "SPAN",
             "how long one call may take"),
        _key("cloud.ca_file", _parse_path, "FILE",
             "a certificate authority to trust besides the usual ones"),
        _key("cloud.client_cert", _parse_path, "FILE",
             "our own certificate, where the other end asks for one"),
        _key("cloud.client_key", _parse_path, "FILE",
             "the key of that certificate, if it stands in a file of its own"),
        _key("cloud.client_key_password_env", _parse_variable, "NAME",
             "the variable that holds the passphrase of that key"),
        _key("cloud.connections", _at_least(1), "N",
             "most connections open at once"),
        _key("limits.max_concurrency", _parse_concurrency, "N|SCOPE=N",
             "at most so many restarts in progress, in the fleet or each project, region or label",
             is_many=True),
        _key("limits.rate", _parse_rates, "N/SPAN|SCOPE=N/SPAN|none",
             "at most so many restarts begun in any interval of this length",
             is_many=True),
        _key("limits.max_unavailable", _parse_unavailable, "N|N%|SCOPE=N|SCOPE=N%",
             "at most so many clusters down at once, those that are down already included",
             is_many=True),
        _key("limits.max_failures", _parse_portion, "N|N%",
             "failures allowed; one more stops the run"),
        _key("limits.failure_mode", _parse_failure_mode, "normal|strict",
             "strict also lowers the concurrency as failures come near the number allowed"),
        _key("waves.canary", _parse_portion, "N|N%",
             "size of the first wave, where any failure stops the run (1 for fleets over 10)"),
        _key("waves.waves", _parse_waves, "SIZES",
             "sizes of the waves in order, such as 1,5,10%,rest"),
        _key("waves.soak", _parse_zero_or_span, "SPAN",
             "wait after a wave in which its clusters must stay healthy"),
        _key("waves.confirm", _parse_switch, "BOOL",
             "pause before each wave but the first until somebody gives the word",
             option="confirm-waves"),
        _key("waves.order", _parse_order, "ORDER",
             "in which order a wave starts: listed, spread (narrow limits kept busy), shuffle"),
        _key("waves.seed", _at_least(0), "N",
             "seed of what is shuffled, simulated or rehearsed"),
        _key("follow.confirm_within", _parse_span, "SPAN",
             "a restart must be seen to begin within this long"),
        _key("follow.settle", _parse_zero_or_span, "SPAN",
             "ignore health this long after the answer"),
        _key("follow.stable_for", _parse_zero_or_span, "SPAN",
             "a cluster must be ready this long without a break"),
        _key("follow.healthy_deadline", _parse_span, "SPAN",
             "a cluster must be ready by this long after its call"),
        _key("follow.expected_duration", _parse_span, "SPAN",
             "how long a restart is expected to take while the journal knows no better"),
        _key("follow.max_reissues", _at_least(0), "N",
             "how often to repeat a call whose answer was lost and that proved not to have begun"),
        _key("follow.poll_every", _parse_span, "SPAN",
             "how often what runs is looked at"),
        _key("follow.unhealthy", _parse_unhealthy, "skip|restart|first",
             "what to do with clusters that are not ready before their restart"),
        _key("follow.wait", _parse_switch, "BOOL",
             "follow each restart to its end"),
        _key("window.not_before", _parse_moment, "TIME|SPAN",
             "nothing starts before this"),
        _key("window.cutoff", _parse_moment, "TIME|SPAN",
             "nothing starts after this"),
        _key("window.deadline", _parse_moment, "TIME|SPAN",
             "nothing starts that is expected to last beyond this"),
        _key("gate.command", _parse_commands, "COMMAND",
             "a command that has to say go, by exit code 0, before anything starts",
             option="gate", is_many=True),
        _key("gate.every", _parse_span, "SPAN",
             "how often the gate is asked while anything waits; before each wave in any case",
             option="gate-every"),
        _key("gate.timeout", _parse_span, "SPAN",
             "how long the gate may take to answer; none is no", option="gate-timeout"),
        _key("journal.url", _parse_journal, "FILE|URL",
             "where runs are kept: a file, sqlite:////… or postgresql://…", option="journal"),
        _key("log.format", _one_of("console", "json"), "console|json",
             "how the log is written", option="log-format"),
        _key("log.file", _parse_path, "FILE",
             "where the log is written instead of standard error", option="log-file"),
        _key("log.level", _one_of("debug", "info", "warning", "error"), "LEVEL",
             "what is worth a line: debug, info, warning or error", option="log-level"),
        _key("kind", _parse_kind, "KIND|auto",
             "the kind of restart for targets that name none; auto takes the one that fits"),
        _key("report", _parse_text, "FILE|-",
             "where the report is written; - is standard output"),
        _key("change", _parse_text, "ID",
             "the number of the change or ticket this run belongs to"),
        _key("operator", _parse_text, "NAME",
             "who answers for the run"),
    )
})  # fmt: skip
"""Every key by its dotted name; options, variables and the file are all read by this table."""

_PROJECTS = "cloud.projects"
_CREDENTIALS = "credentials"
_OPEN_TABLES = (_PROJECTS, _CREDENTIALS)
_SECTIONS = tuple(dict.fromkeys(name.partition(".")[0] for name in KEYS if "." in name))


# -------------------------------------------------------------------------------------- loading


def load_settings(
    *,
    options: Mapping[str, object],
    environ: Mapping[str, str],
    config_file: Path | None,
    cwd: Path,
    user_config: Path | None,
) -> Settings:
    """Read all layers and return what holds.

    Args:
        options: dotted key → text or an already typed value; None and () mean not given.
        environ: the environment; empty variables count as not given.
        config_file: the file that was named by an option; it must exist.
        cwd: where relative paths of options and variables start, and where a file is looked for.
        user_config: the user's own file (see `user_config_file`), or None to leave it out.

    Raises:
        ConfigError: with every mistake of every layer, each with its source.
    """
    here = cwd.absolute()
    mistakes: list[str] = []
    read = _read_file(_candidates(config_file, environ, here, user_config), mistakes)
    credentials = _read_credentials(read, mistakes)
    projects = _read_projects(read, credentials, mistakes)
    own_names = {name for one in credentials.values() for name in _variables_of(one)}
    own_names |= _passphrase_names(options, environ, read)
    found = [
        *_from_file(read, mistakes),
        *_from_environ(environ, here, own_names, mistakes),
        *_from_options(options, here, mistakes),
    ]
    values: dict[str, Any] = {}
    origins = dict.fromkeys(KEYS, DEFAULT)
    for one in found:
        try:
            values[one.key.name] = one.key.parse(one.value, one.place)
            origins[one.key.name] = one.place.source
        except ValueError as error:
            mistakes.append(f"{one.place.source}: {error}")
    if mistakes:
        raise ConfigError(_HEADING, mistakes)
    doubtful: list[str] = []
    cloud = CloudSettings(
        **_section(values, "cloud"),
        addresses=MappingProxyType(_addresses(values, environ, here, doubtful)),
        mistakes=tuple(doubtful),
        projects=MappingProxyType(projects),
        credentials=MappingProxyType({n: c for n, c in credentials.items() if c is not None}),
    )
    return Settings(
        cloud=cloud,
        policy=_policy(values, origins),
        waves=WaveSettings(**_section(values, "waves")),
        window=WindowSettings(**_section(values, "window")),
        journal=JournalSettings(**_section(values, "journal")),
        log=LogSettings(**_section(values, "log")),
        **{name: value for name, value in values.items() if "." not in name},
        file=read.path,
        origins=MappingProxyType(origins),
    )


def _policy(values: Mapping[str, Any], origins: Mapping[str, str]) -> Policy:
    given = _section(values, "limits") | _section(values, "follow")
    given |= {_GATE_FIELDS[name]: value for name, value in _section(values, "gate").items()}
    concurrency = given.pop("max_concurrency", _concurrencies_of(Policy()))
    rates = given.pop("rate", _rates_of(Policy()))
    asked = origins["follow.unhealthy"] != DEFAULT
    return Policy(
        **given,
        limits=(*concurrency, *rates),
        unhealthy_asked=asked,
        confirm_waves=values.get("waves.confirm", False),
    )


def _section(values: Mapping[str, Any], section: str) -> dict[str, Any]:
    dotted = f"{section}."
    return {
        name.removeprefix(dotted): value
        for name, value in values.items()
        if name.startswith(dotted)
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A value that some layer gives for a key, not yet looked at."""

    key: Key
    value: object
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What stands in the file; empty when there is none."""

    path: Path | None = None
    content: Mapping[str, object] = field(default_factory=_nothing)

    def place(self, name: str) -> Place:
        path = self.path or Path()
        return Place(source=f"{path}: {name}", base=path.parent)


# ------------------------------------------------------------------------------- options, environ


def _from_options(
    options: Mapping[str, object], cwd: Path, mistakes: list[str]
) -> Iterator[_Found]:
    for name, value in options.items():
        if value is None or value == ():
            continue
        if name not in KEYS:
            mistakes.append(f"option for {name}: unknown key; {_nearest(name, KEYS)}")
            continue
        place = Place(source=f"--{KEYS[name].option}", base=cwd, is_typed=True)
        yield _Found(key=KEYS[name], value=value, place=place)


def _passphrase_names(
    options: Mapping[str, object], environ: Mapping[str, str], read: _Read
) -> set[str]:
    """Return the variables that some layer says to hold a passphrase."""
    key = KEYS["cloud.client_key_password_env"]
    cloud = read.content.get("cloud")
    in_file = cloud.get(key.name.partition(".")[2]) if isinstance(cloud, Mapping) else None
    named = (options.get(key.name), environ.get(key.variable), in_file)
    return {name.strip() for name in named if isinstance(name, str)}


def _from_environ(
    environ: Mapping[str, str], cwd: Path, own_names: set[str], mistakes: list[str]
) -> Iterator[_Found]:
    by_variable = {key.variable: key for key in KEYS.values()}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name == CONFIG_VARIABLE or name in own_names:
            continue
        key = by_variable.get(name)
        if key is None:
            if not _SERVICE_LINK.fullmatch(name):
                known = (*by_variable, CONFIG_VARIABLE)
                mistakes.append(f"{name}: unknown variable; {_nearest(name, known)}, or unset it")
        elif environ[name].strip():
            yield _Found(key=key, value=environ[name], place=Place(source=name, base=cwd))


def _nearest(name: str, known: Iterable[str]) -> str:
    """Say which of `known` comes nearest, by the whole name and by its last part alone."""

    def likeness(other: str) -> float:
        pairs = ((name, other), (name.rpartition(".")[2], other.rpartition(".")[2]))
        return sum(SequenceMatcher(None, *pair).ratio() for pair in pairs)

    return f"the nearest known is {max(known, key=likeness)}"


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


# --------------------------------------------------------------------------------------- the file


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A file that may be the one; `named_by` says who insists on it, if anybody does."""

    path: Path
    named_by: str | None = None


def _candidates(
    config_file: Path | None, environ: Mapping[str, str], cwd: Path, user_config: Path | None
) -> Iterator[_Candidate]:
    named = environ.get(CONFIG_VARIABLE, "").strip()
    if config_file is not None:
        yield _Candidate(path=cwd / config_file, named_by="--config")
    elif named:
        yield _Candidate(path=cwd / named, named_by=CONFIG_VARIABLE)
    else:
        yield _Candidate(path=cwd / FILE_NAME)
        if user_config is not None:
            yield _Candidate(path=cwd / user_config)


def _read_file(candidates: Iterable[_Candidate], mistakes: list[str]) -> _Read:
    """Return the first file that exists; one that was named must."""
    for candidate in candidates:
        named = f" (named by {candidate.named_by})" if candidate.named_by else ""
        try:
            text = candidate.path.read_bytes().decode()
            return _Read(path=candidate.path, content=tomllib.loads(text))
        except OSError as error:
            is_absent = isinstance(error, FileNotFoundError | NotADirectoryError)
            if is_absent and not candidate.named_by:
                continue
            mistakes.append(f"{candidate.path}{named}: cannot be read: {error.strerror}")
        except ValueError as error:
            mistakes.append(f"{candidate.path}{named}: is not TOML: {error}")
        break
    return _Read()


def _from_file(read: _Read, mistakes: list[str]) -> Iterator[_Found]:
    for name, value in _flat(read, mistakes):
        if name in KEYS:
            yield _Found(key=KEYS[name], value=value, place=read.place(name))
        elif name not in _OPEN_TABLES:
            known = (*KEYS, *_OPEN_TABLES)
            mistakes.append(f"{read.place(name).source}: unknown key; {_nearest(name, known)}")


def _flat(read: _Read, mistakes: list[str]) -> Iterator[tuple[str, object]]:
    """Yield the file's values by dotted name; what stands in an open table is left in one piece."""
    for name, value in read.content.items():
        if name in _SECTIONS and not isinstance(value, Mapping):
            what = f"is a table; begin it with a line [{name}]"
            mistakes.append(f"{read.place(name).source}: {what}")
        elif isinstance(value, Mapping) and name != _CREDENTIALS and (value or name in _SECTIONS):
            yield from ((f"{name}.{last}", inner) for last, inner in value.items())
        else:
            yield name, value


# ------------------------------------------------------------------------- addresses of regions


def _addresses(
    values: Mapping[str, Any], environ: Mapping[str, str], cwd: Path, mistakes: list[str]
) -> dict[tuple[Api, str], str]:
    """Return the addresses of single regions; those that nobody would ask for are not looked at."""
    found: dict[tuple[Api, str], str] = {}
    needed = {
        api for api in Api if values.get(f"cloud.{_KEY_OF[api]}", TEMPLATES[api]) == TEMPLATES[api]
    }
    told = [*_told_by_file(environ, cwd, mistakes), *told_by_variables(environ)] if needed else []
    for one in told:
        if one.api in needed:
            place = Place(source=one.source, base=cwd)
            try:
                found[one.api, one.region] = str(_parse_endpoint(one.address, place))
            except ValueError as error:
                mistakes.append(f"{one.source}: {error}")
    for word in values.get("cloud.region_endpoint", ()):
        region, _, address = word.partition("=")
        found[Api.CSS, region] = address
    return found


def _told_by_file(environ: Mapping[str, str], cwd: Path, mistakes: list[str]) -> Iterator[Told]:
    """Yield what the vendor's file says; one that was named must be there."""
    named, home = environ.get(REGIONS_VARIABLE, "").strip(), environ.get("HOME", "").strip()
    if not named and not home:
        return
    path = cwd / named if named else cwd / home / REGIONS_FILE
    where = f"{path} (named by {REGIONS_VARIABLE})" if named else str(path)
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        if named or not isinstance(error, FileNotFoundError | NotADirectoryError):
            mistakes.append(f"{where}: cannot be read: {error.strerror}")
        return
    except ValueError:
        mistakes.append(f"{where}: is not UTF-8; save it so")
        return
    import yaml  # noqa: PLC0415 - only who has such a file pays for it

    try:
        for one in told_by_file(yaml.safe_load(text)):
            yield one._replace(source=f"{where}: {one.source}")
    except yaml.YAMLError as error:
        mistakes.append(f"{where}: is not YAML: {' '.join(str(error).split())}")
    except ValueError as error:
        mistakes.append(f"{where}: {error}")


# ----------------------------------------------------------------------- projects and credentials

_TAKES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "aksk": (("access_key", "secret_key"), ("security_token", "project")),
    "token": (("token",), ("project",)),
    "password": (("user", "password", "domain"), ("project", "user_id", "passcode")),
    "ecs": ((), ("project",)),
}
"""Type of credential → the parts that it must have, and those that it may have."""

_CREDENTIAL_FIELDS = tuple(one.name for one in fields(CredentialSettings))
_PARTS = tuple(
    dict.fromkeys(re.sub("_(env|file)$", "", name) for name in _CREDENTIAL_FIELDS if name != "type")
)
_PROJECT_PARSERS: Mapping[str, Parser] = {"region": _parse_region, "credentials": _parse_text}


def _tables(
    read: _Read, name: str, mistakes: list[str]
) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield the tables that the operator named, such as `[credentials.prod]`."""
    where: object = read.content
    for part in name.split("."):
        where = where.get(part, {}) if isinstance(where, Mapping) else {}
    if not isinstance(where, Mapping):
        mistakes.append(f"{read.place(name).source}: holds tables; write [{name}.NAME]")
        return
    for title, table in where.items():
        if isinstance(table, Mapping):
            yield title, table
        else:
            source = read.place(f"{name}.{title}").source
            mistakes.append(f"{source}: is a table; begin it with a line [{name}.{title}]")


def _read_projects(
    read: _Read, credentials: Mapping[str, CredentialSettings | None], mistakes: list[str]
) -> dict[str, ProjectSettings]:
    projects = {}
    for project_id, table in _tables(read, _PROJECTS, mistakes):
        prefix = f"{_PROJECTS}.{project_id}"
        values = _parsed(read, prefix, table, _PROJECT_PARSERS, mistakes)
        wanted = values.get("credentials")
        if wanted is not None and wanted not in credentials:
            source = read.place(f"{prefix}.credentials").source
            hint = _nearest(wanted, credentials) if credentials else "the file names no credentials"
            mistakes.append(f"{source}: there is no [credentials.{wanted}]; {hint}")
        projects[project_id] = ProjectSettings(**values)
    return projects


def _read_credentials(read: _Read, mistakes: list[str]) -> dict[str, CredentialSettings | None]:
    """Return the credentials by name; None for one with mistakes, which is still known by name."""
    found: dict[str, CredentialSettings | None] = {}
    for name, table in _tables(read, _CREDENTIALS, mistakes):
        prefix = f"{_CREDENTIALS}.{name}"
        before = len(mistakes)
        values = _parsed(read, prefix, table, _CREDENTIAL_PARSERS, mistakes)
        if "type" not in table:
            source = read.place(prefix).source
            mistakes.append(f"{source}: says no type; use {_either(tuple(_TAKES))}")
        elif "type" in values:
            what = _wrong_parts(values["type"], set(table))
            mistakes.extend(f"{read.place(prefix).source}: {one}" for one in what)
        is_good = len(mistakes) == before
        found[name] = CredentialSettings(**values) if is_good else None
    return found


def _wrong_parts(kind: str, given: set[str]) -> Iterator[str]:
    """Say which parts of a credential are missing, given twice, or belong to another type."""
    needed, welcome = _TAKES[kind]
    for part in _PARTS:
        ways = {f"{part}_env", f"{part}_file"} & given
        if part in needed and not ways and part not in given:
            yield f"type {kind} needs {part}; name it with {part}_env or {part}_file"
        if part == "passcode" and ways and not {"user_id_env", "user_id_file"} & given:
            yield "a passcode belongs to a user_id; name that with user_id_env or user_id_file"
        if len(ways) > 1:
            yield f"has both {part}_env and {part}_file; keep one"
        if ways and part not in needed + welcome:
            takes = ", ".join(needed + welcome)
            yield f"type {kind} takes no {part}, only {takes}; leave it out or change the type"


def _parsed(
    read: _Read,
    prefix: str,
    table: Mapping[str, object],
    parsers: Mapping[str, Parser],
    mistakes: list[str],
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in table.items():
        place = read.place(f"{prefix}.{name}")
        parse = parsers.get(name)
        if parse is None:
            mistakes.append(f"{place.source}: unknown key; {_nearest(name, parsers)}")
            continue
        try:
            values[name] = parse(value, place)
        except ValueError as error:
            mistakes.append(f"{place.source}: {error}")
    return values


def _refuse(part: str) -> Parser:
    def parse(_value: object, _place: Place) -> object:
        raise ValueError(
            f"must not stand in the file itself; use {part}_env or {part}_file to say where it is"
        )

    return parse


_CREDENTIAL_PARSERS: Mapping[str, Parser] = {
    "type": _one_of(*_TAKES),
    **{name: _parse_variable for name in _CREDENTIAL_FIELDS if name.endswith("_env")},
    **{name: _parse_path for name in _CREDENTIAL_FIELDS if name.endswith("_file")},
    **{part: _refuse(part) for part in _PARTS},
}


def _variables_of(credential: CredentialSettings | None) -> Iterator[str]:
    """Yield the environment variables that `credential` reads."""
    if credential is not None:
        for name in _CREDENTIAL_FIELDS:
            value = getattr(credential, name)
            if name.endswith("_env") and value is not None:
                yield value
