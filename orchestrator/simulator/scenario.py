"""How the pretend service behaves: TOML → frozen settings, every mistake named in one go.

Rules:

- Without a scenario everything goes well, and a restart takes 10 to 30 seconds.
- Spans are written like `200ms`; a pair `["2s", "6s"]` is drawn uniformly, anew for every use.
- A choice is one name, or a table of shares (`{failed = 0.02}`); what is left goes to the default.
- `[[cluster]]` overrides any of it for the clusters that its `match` names; later ones win.
"""

import dataclasses
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Generic, TypeVar

from orchestrator.errors import ConfigError
from orchestrator.limits import FLEET, Rate
from orchestrator.model import Target
from orchestrator.simulator import reading
from orchestrator.simulator.auth import Auth, read_auth
from orchestrator.simulator.reading import is_count, named
from orchestrator.simulator.spans import Span, Uniform
from orchestrator.span import parse_span


class AnswerForm(StrEnum):
    """What the body of an accepted v1.0 restart looks like; all four have been documented."""

    LIST = "list"
    STRING = "string"
    EMPTY = "empty"
    OBJECT = "object"


class Signs(StrEnum):
    """What of a cluster shows that it restarts."""

    ALL = "all"
    STATUS = "status"
    ACTIONS = "actions"
    INSTANCES = "instances"


class End(StrEnum):
    """How a restart ends: ready, unavailable with a reason, busy for ever, or gone."""

    READY = "ready"
    FAILED = "failed"
    STUCK = "stuck"
    VANISHED = "vanished"


class Rest(StrEnum):
    """How a cluster is while nobody restarts it; `busy` is some other task that does not end."""

    IDLE = "idle"
    BUSY = "busy"
    UNHEALTHY = "unhealthy"
    ABSENT = "absent"


class Fault(StrEnum):
    """What may go wrong with one restart call; `before` and `after` are seen from its execution."""

    REFUSED = "refused"
    THROTTLED = "throttled"
    BUSY = "busy"
    UNAUTHORIZED = "unauthorized"
    ERROR_500_BEFORE = "error_500_before"
    ERROR_500_AFTER = "error_500_after"
    ERROR_502_BEFORE = "error_502_before"
    ERROR_502_AFTER = "error_502_after"
    ERROR_503_BEFORE = "error_503_before"
    ERROR_503_AFTER = "error_503_after"
    ERROR_504_BEFORE = "error_504_before"
    ERROR_504_AFTER = "error_504_after"
    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"
    HANG_BEFORE = "hang_before"
    HANG_AFTER = "hang_after"
    CUT_BODY = "cut_body"
    SLOW_BODY = "slow_body"

    @property
    def executes(self) -> bool:
        """Whether the call is carried out all the same, if the cluster allows it."""
        return self.value.endswith(("_after", "_body"))


class ReadFault(StrEnum):
    """What may go wrong with one look, be it a list or a detail."""

    THROTTLED = "throttled"
    ERROR = "error"
    RESET = "reset"


ChoiceT = TypeVar("ChoiceT", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Choice(Generic[ChoiceT]):
    """One of several, each with its share; what the shares leave over goes to the default."""

    default: ChoiceT
    shares: tuple[tuple[ChoiceT, float], ...] = ()

    def pick(self, drawn: float) -> ChoiceT:
        """Return what a draw in [0, 1) stands for."""
        for value, share in self.shares:
            drawn -= share
            if drawn < 0:
                return value
        return self.default


FaultT = TypeVar("FaultT", Fault, ReadFault)


@dataclass(frozen=True, slots=True)
class FaultRate(Generic[FaultT]):
    """How often a fault strikes, and for how many of a cluster's calls it may at all."""

    fault: FaultT
    rate: float
    first: int | None = None
    """Only the first so many calls can meet it; None: all of them."""


def strike(faults: Iterable[FaultRate[FaultT]], call_number: int, drawn: float) -> FaultT | None:
    """Return which fault a call meets: one draw, shares in order; `call_number` counts from 1.

    The order is that of `Behaviour`: the likeliest first, so that a rate of 1 always strikes.
    """
    for rate in faults:
        if rate.first is None or call_number <= rate.first:
            drawn -= rate.rate
            if drawn < 0:
                return rate.fault
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How one cluster, and the calls to it, behave. Spans are seconds."""

    before: Uniform = Uniform(0.0, 0.0)
    """Latency of a restart call before it is executed."""
    after: Uniform = Uniform(0.0, 0.0)
    """Latency between executing a restart call and answering it."""
    read: Uniform = Uniform(0.0, 0.0)
    """Latency of a list or a detail."""
    duration: Span = Uniform(10.0, 30.0)
    """How long a restart shows as busy."""
    rolling_node: Span = Uniform(10.0, 30.0)
    """How long each node of a rolling restart takes."""
    rolling: Span | None = None
    """How long all nodes of a rolling restart take; None: each as `rolling_node` says."""
    busy_after: Uniform = Uniform(0.2, 1.0)
    """How long after its execution a restart begins to show."""
    signs: Choice[Signs] = Choice(Signs.ALL)
    end: Choice[End] = Choice(End.READY)
    answer: Choice[AnswerForm] = Choice(AnswerForm.LIST)
    busy_status: int = 409
    """The HTTP status of CSS.0011; the service's documents say 202, its users have seen 409."""
    initial: Choice[Rest] = Choice(Rest.IDLE)
    legacy: bool = False
    """Older spellings: failed_reasons, enterprise_project_id, period as text, no totalSize."""
    faults: tuple[FaultRate[Fault], ...] = ()
    refused_code: str = "CSS.0001"
    retry_after: float | None = None
    """Seconds in the Retry-After of a 429; None: no such header."""
    throttled_limit: str = "limit:10,time:1 minute"
    """What the message of a 429 says about the limit; may be empty."""
    slow_over: Uniform = Uniform(1.0, 3.0)
    """How long a slow body takes."""
    read_faults: tuple[FaultRate[ReadFault], ...] = ()


@dataclass(frozen=True, slots=True)
class Override:
    """What is different for the clusters that `match` names."""

    match: str
    changes: Mapping[str, Any]

    def names(self, target: Target) -> bool:
        """Whether the cluster is meant: by its id, or by a glob of project/cluster or its name."""
        return (
            self.match == target.cluster_id
            or fnmatchcase(str(target), self.match)
            or (target.name is not None and fnmatchcase(target.name, self.match))
        )


@dataclass(frozen=True, slots=True)
class OfKind:
    """What is different for the clusters that are restarted in this way."""

    kind: str
    """As kinds are printed."""
    changes: Mapping[str, Any]

    def names(self, target: Target) -> bool:
        """Whether the cluster is meant."""
        return str(target.kind) == self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What the calls for some projects may be together before they get 429."""

    match: str = "*"
    """Which projects, as a glob of their ids."""
    writes: Rate | None = None
    """Restart calls; None: as many as you like."""
    reads: Rate | None = None
    """Lists and details."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """How the whole service behaves; the default is a good day."""

    base: Behaviour = Behaviour()
    overrides: tuple[Override | OfKind, ...] = ()
    accounts: tuple[Account, ...] = (Account(),)
    """Whose calls are counted together: a project belongs to the first that matches it."""
    auth: Auth = dataclasses.field(default_factory=Auth)
    """Who may call."""
    lasting: Mapping[tuple[str, str], Span] = dataclasses.field(default_factory=dict)
    """How long restarts of single clusters take, of whatever kind, by project and cluster."""

    def matching(self, target: Target) -> tuple[int, ...]:
        """Return the positions of the overrides that name the cluster."""
        return tuple(
            position for position, override in enumerate(self.overrides) if override.names(target)
        )

    def behaviour(self, matching: Iterable[int]) -> Behaviour:
        """Return the behaviour of clusters that are named by just these overrides."""
        found = self.base
        for position in matching:
            found = _changed(found, self.overrides[position].changes)
        return found


def parse_scenario(text: str, source: str = "scenario") -> Scenario:
    """Read a scenario from TOML.

    Raises:
        ConfigError: names every mistake, with its section and key.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"cannot read the scenario {source}", [f"not TOML: {exc}"]) from exc
    walk = _Reading()
    scenario = walk.scenario(document)
    if walk.mistakes:
        raise ConfigError(f"mistakes in the scenario {source}; nothing started", walk.mistakes)
    return scenario


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        ConfigError: the file cannot be read, or names every mistake in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"cannot read the scenario {path}", [f"{exc}; give the path of a TOML file"]
        ) from exc
    return parse_scenario(text, str(path))


# --------------------------------------------------------------------------------------- reading


def _uniform(value: object) -> Uniform:
    match value:
        case str():
            span = parse_span(value)
            return Uniform(span, span)
        case [str() as low, str() as high]:
            found = Uniform(parse_span(low), parse_span(high))
            if found.low > found.high:
                raise ValueError(f"{low} is longer than {high}; put the shorter first")
            return found
        case _:
            raise ValueError('not a span of time; write "2s", or ["2s", "6s"] for a range')


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{value!r} is not a rate; use a number from 0 to 1")
    return float(value)


def _choice(kind: type[ChoiceT]) -> Callable[[object], Choice[ChoiceT]]:
    def read(value: object) -> Choice[ChoiceT]:
        if not isinstance(value, dict):
            return Choice(named(kind, value))
        shares = tuple((named(kind, name), _share(share)) for name, share in value.items())
        _check_sum(share for _, share in shares)
        return Choice(next(iter(kind)), shares)

    return read


def _fault(kind: type[FaultT], name: str) -> Callable[[object], FaultRate[FaultT]]:
    fault = kind(name)

    def read(value: object) -> FaultRate[FaultT]:
        if not isinstance(value, dict):
            return FaultRate(fault, _share(value))
        unknown = sorted(set(value) - {"rate", "first"})
        first = value.get("first")
        if unknown or "rate" not in value:
            raise ValueError("a fault is a rate, or a table like {rate = 1.0, first = 2}")
        if first is not None and not is_count(first):
            raise ValueError(f"first = {first!r} must be a whole number of calls, at least 1")
        return FaultRate(fault, _share(value["rate"]), first)

    return read


def _busy_status(value: object) -> int:
    if value not in (202, 409):
        raise ValueError(f"{value!r} is not a status for a busy cluster; use 202 or 409")
    return int(value)


def _rate(value: object) -> Rate:
    rate = Rate.parse(reading.text(value))
    if rate.scope != FLEET:
        raise ValueError(f"{value!r} has a scope; write it like 10/6s, in a [[throttle.account]]")
    return rate


def _check_sum(shares: Iterable[float]) -> None:
    total = sum(shares)
    if total > 1 + 1e-9:
        raise ValueError(f"the rates add up to {total:g}; together they can be 1 at most")


_SECTIONS: Mapping[str, reading.Keys] = {
    "latency": {
        "before": ("before", _uniform),
        "after": ("after", _uniform),
        "read": ("read", _uniform),
    },
    "restart": {
        "duration": ("duration", _uniform),
        "rolling_node": ("rolling_node", _uniform),
        "busy_after": ("busy_after", _uniform),
        "signs": ("signs", _choice(Signs)),
        "end": ("end", _choice(End)),
        "answer": ("answer", _choice(AnswerForm)),
        "busy_status": ("busy_status", _busy_status),
    },
    "state": {
        "initial": ("initial", _choice(Rest)),
        "legacy": ("legacy", reading.flag),
    },
    "faults": {
        **{fault.value: ("faults", _fault(Fault, fault.value)) for fault in Fault},
        "refused_code": ("refused_code", reading.text),
        "retry_after": ("retry_after", reading.span_or_none),
        "throttled_limit": ("throttled_limit", reading.text),
        "slow_over": ("slow_over", _uniform),
    },
    "reads": {fault.value: ("read_faults", _fault(ReadFault, fault.value)) for fault in ReadFault},
}
"""Section → key → the field of `Behaviour` it sets, and who reads it."""

_MANY = ("faults", "read_faults")
"""Fields that many keys fill together."""


class _Reading(reading.Walk):
    """The walk over a scenario."""

    def scenario(self, document: Mapping[str, object]) -> Scenario:
        self.check_names(document, (*_SECTIONS, "throttle", "auth", "cluster"), "")
        base = _changed(Behaviour(), self._changes(document, ""))
        return Scenario(
            base=base,
            overrides=self._overrides(document.get("cluster", [])),
            accounts=self._throttle(document.get("throttle", {})),
            auth=read_auth(document.get("auth", {}), self),
        )

    def _throttle(self, table: object) -> tuple[Account, ...]:
        """Read what each account may do; the last one is for all other projects."""
        if not isinstance(table, dict):
            self.mistakes.append("throttle: must be a section, [throttle]")
            return ()
        where = "[throttle] "
        self.check_names(table, ("writes", "writes_per_minute", "reads", "account"), where)
        several = table.get("account", [])
        if not isinstance(several, list) or not all(isinstance(one, dict) for one in several):
            self.mistakes.append(f"{where}account: write it as [[throttle.account]], once for each")
            several = []
        accounts = [self._account(one, number) for number, one in enumerate(several, 1)]
        writes = self._rate(table, "writes", where)
        per_minute = table.get("writes_per_minute")
        if per_minute is not None:
            if not is_count(per_minute) or writes is not None:
                self.mistakes.append(
                    f"{where}writes_per_minute: {per_minute!r} is not a number of calls, at least "
                    '1, or there is writes = "10/1m" too; leave it out for no limit'
                )
            else:
                writes = Rate(per_minute, 60.0)
        rest = Account(writes=writes, reads=self._rate(table, "reads", where))
        return (*accounts, rest)

    def _account(self, table: Mapping[str, object], number: int) -> Account:
        where = f"[[throttle.account]] {number} "
        self.check_names(table, ("match", "writes", "reads"), where)
        match = table.get("match")
        if not isinstance(match, str) or not match:
            self.mistakes.append(f"{where}match: missing; give a project, or a glob of projects")
        return Account(
            match=str(match),
            writes=self._rate(table, "writes", where),
            reads=self._rate(table, "reads", where),
        )

    def _rate(self, table: Mapping[str, object], key: str, where: str) -> Rate | None:
        value = table.get(key)
        return None if value is None else self.attempt(_rate, value, where + key)

    def _overrides(self, tables: object) -> tuple[Override, ...]:
        if not isinstance(tables, list):
            self.mistakes.append("cluster: write it as [[cluster]], once for every match")
            return ()
        found = []
        for number, table in enumerate(tables, 1):
            where = f"[[cluster]] {number} "
            if not isinstance(table, dict):
                self.mistakes.append(f"{where}: must be a table with match and sections")
                continue
            self.check_names(table, (*_SECTIONS, "match"), where)
            match = table.get("match")
            if not isinstance(match, str) or not match:
                self.mistakes.append(
                    f"{where}match: missing; give an id, or a glob of project/cluster or name"
                )
                continue
            found.append(Override(match, self._changes(table, where)))
        return tuple(found)

    def _changes(self, table: Mapping[str, object], where: str) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        for section, keys in _SECTIONS.items():
            values = table.get(section, {})
            if isinstance(values, dict):
                self.section(values, keys, f"{where}[{section}] ", changes, many=_MANY)
            else:
                self.mistakes.append(f"{where}{section}: must be a section, [{section}]")
        for field in _MANY:
            rates = changes.get(field)
            if rates:
                self.attempt(_check_sum, [rate.rate for rate in rates], where + field)
        return changes


def _changed(behaviour: Behaviour, changes: Mapping[str, Any]) -> Behaviour:
    """Return `behaviour` with `changes`; faults are replaced one by one, the likeliest first."""
    merged = dict(changes)
    for field in _MANY:
        if field in merged:
            rates = {rate.fault: rate for rate in getattr(behaviour, field)}
            rates |= {rate.fault: rate for rate in merged[field]}
            ordered = sorted(rates.values(), key=lambda rate: -rate.rate)
            merged[field] = tuple(rate for rate in ordered if rate.rate)
    return dataclasses.replace(behaviour, **merged)
