"""Events and plans ↔ what JSON can say, both ways and exactly.

Rules:

- An enum is its value, a tuple a list, a nested value an object with the names of its fields.
- A field that has its default is left out; only a policy is written whole, since it is frozen with
  its run while defaults may change with the next version.
- In a journal's row a baseline is the list of its fields in their order: it is most of what is
  written. Rows of the frequent events are written by hand, for speed.
- Keys that this version does not know are passed over: a newer one may have added them.
- Text is plain ASCII with escapes: a service may answer with text that UTF-8 cannot carry.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache, partial
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from orchestrator.limits import Concurrency, Rate
from orchestrator.model import (
    EVENTS,
    AnswerArrivedLate,
    ClusterState,
    Event,
    Kind,
    RestartAnswered,
    RestartBegan,
    RestartRequested,
    RestartSettling,
    Target,
    TargetEnded,
    TargetEvent,
)
from orchestrator.orders import NewLimits
from orchestrator.plan import Plan, Policy, Wave

T = TypeVar("T")

Row = tuple[float, str, int | None, str | None]
"""An event as a journal keeps it: its moment, kind, target, and the rest as JSON text."""

_encode = msgspec.json.Encoder().encode
_escape = json.JSONEncoder(separators=(",", ":")).encode

_Convert = Callable[[Any], Any]
_NEVER = object()
_COLUMNS = ("at", "target")
_TARGET_COLUMNS = ("project_id", "cluster_id", "region", "labels")


def to_text(value: object) -> str:
    """Write a JSON-able value in its shortest form."""
    try:
        text = _encode(value)
    except UnicodeEncodeError:
        pass
    else:
        if text.isascii():
            return text.decode("ascii")
    return _escape(msgspec.to_builtins(value))


# ---------------------------------------------------------------------------------------- events


def event_to_dict(event: Event) -> dict[str, Any]:
    """Return the event as a JSON-able dict with `kind`, `at`, its target if any, and the rest."""
    data: dict[str, Any] = {"kind": event.kind, "at": event.at}
    if isinstance(event, TargetEvent):
        data["target"] = event.target
    cls: Any = type(event)
    return data | _write(event, _rest_of(cls, _COLUMNS))


def event_from_dict(data: Mapping[str, Any]) -> Event:
    """Return the event that `event_to_dict` wrote.

    Raises:
        ValueError: it is not an event that this version knows.
    """
    try:
        return _event(data["kind"], data["at"], data.get("target"), data)
    except KeyError as exc:
        raise ValueError(f"an event without {exc}") from exc


def event_to_row(event: Event) -> Row:
    """Return the event as a journal's row; the rest is None where there is nothing to say."""
    cls: Any = type(event)
    rest = _BY_HAND[cls](event) if cls in _BY_HAND else _write(event, _rest_of(cls, _COLUMNS))
    target = event.target if isinstance(event, TargetEvent) else None
    return event.at, cls.kind, target, to_text(rest) if rest else None


def event_from_row(at: float, kind: str, target: int | None, text: str | None) -> Event:
    """Return the event from the columns of its row.

    Raises:
        ValueError: it is damaged, or not an event that this version knows.
    """
    return _event(kind, at, target, json.loads(text) if text else {})


def _event(kind: str, at: float, target: int | None, data: Mapping[str, Any]) -> Event:
    cls: Any = EVENTS.get(kind)
    if cls is None:
        raise ValueError(f"an event {kind!r} that this version does not know")
    known = _read_fields(data, _reading(cls))
    known["at"] = at
    if target is not None:
        known["target"] = target
    event: Event = _make(cls, known)
    return event


# ------------------------------------------------------------------------- rows written by hand


def _requested(event: RestartRequested) -> dict[str, Any]:
    seen = event.baseline
    return {
        "attempt": event.attempt,
        "request_id": event.request_id,
        "baseline": (
            seen.status,
            seen.actions,
            seen.progress,
            seen.instances,
            seen.failed_reason,
            seen.updated,
            seen.datastore,
            seen.name,
        ),
    }


def _answered(event: RestartAnswered | AnswerArrivedLate) -> dict[str, Any]:
    return {"attempt": event.attempt, "answer": event.answer}


def _began(event: RestartBegan) -> dict[str, Any]:
    return {"seen": event.seen}


def _settling(_: RestartSettling) -> dict[str, Any]:
    return {}


def _ended(event: TargetEnded) -> dict[str, Any]:
    data: dict[str, Any] = {"outcome": event.outcome}
    if event.reason is not None:
        data["reason"] = event.reason
    if event.error is not None:
        data["error"] = event.error
    if event.slot_until is not None:
        data["slot_until"] = event.slot_until
    if event.asked:
        data["asked"] = True
    return data


_BY_HAND: Mapping[type[Event], Callable[[Any], dict[str, Any]]] = {
    RestartRequested: _requested,
    RestartAnswered: _answered,
    AnswerArrivedLate: _answered,
    RestartBegan: _began,
    RestartSettling: _settling,
    TargetEnded: _ended,
}


# ---------------------------------------------------------------------------------------- orders


def wanted_to_dict(wanted: NewLimits) -> dict[str, Any]:
    """Return the limits of an order as a JSON-able dict."""
    return _write(wanted, _writing(NewLimits))


def wanted_from_dict(data: Mapping[str, Any]) -> NewLimits:
    """Return the limits that `wanted_to_dict` wrote."""
    return _read(NewLimits, data)


# ------------------------------------------------------------------------------------------ plan


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """Return the whole plan as a JSON-able dict."""
    return {
        **plan_without_targets(plan),
        "targets": [target_to_dict(target) for target in plan.targets],
    }


def plan_from_dict(data: Mapping[str, Any]) -> Plan:
    """Return the plan that `plan_to_dict` wrote.

    Raises:
        ValueError: it is damaged, or not a plan that this version knows.
    """
    return plan_with_targets(data, tuple(target_from_dict(one) for one in data["targets"]))


def plan_without_targets(plan: Plan) -> dict[str, Any]:
    """Return all of the plan but its targets, which a store keeps one a row."""
    return {
        "plan_id": plan.plan_id,
        "source": list(plan.source),
        "policy": _write(plan.policy, _whole(Policy)),
        "waves": [_write(wave, _writing(Wave)) for wave in plan.waves],
        "ordered": plan.ordered,
    }


def plan_with_targets(data: Mapping[str, Any], targets: tuple[Target, ...]) -> Plan:
    """Return the plan from what `plan_without_targets` wrote, and its targets."""
    try:
        return Plan(
            plan_id=data["plan_id"],
            targets=targets,
            waves=tuple(_read(Wave, wave) for wave in data["waves"]),
            policy=_read(Policy, data["policy"]),
            source=tuple(data["source"]),
            ordered=data.get("ordered", ""),
        )
    except KeyError as exc:
        raise ValueError(f"a plan without {exc}") from exc


def target_to_dict(target: Target) -> dict[str, Any]:
    """Return the target as a JSON-able dict."""
    return _write(target, _writing(Target))


def target_rest(target: Target) -> dict[str, Any]:
    """Return what of the target has no column of its own in a journal, JSON-able."""
    return _write(target, _rest_of(Target, _TARGET_COLUMNS))


def target_from_dict(data: Mapping[str, Any]) -> Target:
    """Return the target that `target_to_dict` wrote."""
    return _read(Target, data)


# --------------------------------------------------------------------------------- how it is done


def _write(
    value: object, writing: tuple[tuple[str, object, _Convert | None], ...]
) -> dict[str, Any]:
    data = {}
    for name, default, convert in writing:
        field = getattr(value, name)
        if field is default or field == default:
            continue
        data[name] = field if convert is None or field is None else convert(field)
    return data


@cache
def _writing(cls: Any) -> tuple[tuple[str, object, _Convert | None], ...]:
    """Return name, default and converter of each field; resolved once a class, for speed."""
    hints = get_type_hints(cls)
    return tuple((name, default, _writer(hints[name])) for name, default in _fields_of(cls))


def _is_value(kind: Any) -> bool:
    return is_dataclass(kind) or issubclass(kind, msgspec.Struct)


def _fields_of(cls: Any) -> list[tuple[str, object]]:
    """Return name and default of each field, in their order."""
    if is_dataclass(cls):
        return [
            (one.name, _NEVER if one.default is MISSING else one.default) for one in fields(cls)
        ]
    return [
        (one.name, _NEVER if one.default is msgspec.NODEFAULT else one.default)
        for one in msgspec.structs.fields(cls)
    ]


@cache
def _whole(cls: Any) -> tuple[tuple[str, object, _Convert | None], ...]:
    return tuple((name, _NEVER, convert) for name, _, convert in _writing(cls))


@cache
def _rest_of(cls: Any, columns: tuple[str, ...]) -> tuple[tuple[str, object, _Convert | None], ...]:
    return tuple(field for field in _writing(cls) if field[0] not in columns)


@cache
def _reading(cls: Any) -> Mapping[str, _Convert | None]:
    hints = get_type_hints(cls)
    return {name: _reader(hints[name]) for name, _ in _fields_of(cls)}


def _read(cls: type[T], data: Mapping[str, Any]) -> T:
    value: T = _read_any(cls, data)
    return value


def _read_any(cls: Any, data: Mapping[str, Any]) -> Any:
    return _make(cls, _read_fields(data, _reading(cls)))


def _read_fields(data: Mapping[str, Any], reading: Mapping[str, _Convert | None]) -> dict[str, Any]:
    known = {}
    for name, field in data.items():
        if name in reading:
            convert = reading[name]
            known[name] = field if convert is None or field is None else convert(field)
    return known


def _make(cls: Any, known: dict[str, Any]) -> Any:
    try:
        return cls(**known)
    except TypeError as exc:
        raise ValueError(f"a {cls.__name__} that is not whole: {exc}") from exc


def _writer(hint: Any) -> _Convert | None:
    """Return what makes a value of this type JSON-able, or None if it is already."""
    kinds = _members(hint)
    if kinds == (Kind,):
        return str
    if len(kinds) > 1 or _is_value(kinds[0]):
        return _write_value
    if get_origin(kinds[0]) is tuple:
        inner = _writer(get_args(kinds[0])[0])
        return list if inner is None else partial(_write_all, inner)
    if issubclass(kinds[0], Enum):
        return _value_of
    return None


def _reader(hint: Any) -> _Convert | None:
    """Return what makes a value of this type from JSON, or None if it is one already."""
    kinds = _members(hint)
    kind: Any = kinds[0]
    if kind is Kind:
        return Kind.parse
    if set(kinds) == {Concurrency, Rate}:
        return _read_limit
    if get_origin(kind) is tuple:
        inner = _reader(get_args(kind)[0])
        return tuple if inner is None else partial(_read_all, inner)
    if kind is ClusterState:
        return _read_state
    if _is_value(kind):
        return partial(_read_any, kind)
    is_enum = issubclass(kind, Enum)
    return partial(kind) if is_enum else None


def _members(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) in {Union, UnionType}:
        return tuple(member for member in get_args(hint) if member is not NoneType)
    return (hint,)


def _write_value(value: Any) -> dict[str, Any]:
    cls: Any = type(value)
    return _write(value, _writing(cls))


def _write_all(convert: _Convert, values: tuple[Any, ...]) -> list[Any]:
    return [convert(value) for value in values]


def _read_all(convert: _Convert, values: list[Any]) -> tuple[Any, ...]:
    return tuple(convert(value) for value in values)


def _value_of(value: Enum) -> Any:
    return value.value


def _read_state(data: Mapping[str, Any] | list[Any]) -> ClusterState:
    if isinstance(data, list):
        data = dict(zip(_reading(ClusterState), data, strict=False))
    return _read(ClusterState, data)


def _read_limit(data: Mapping[str, Any]) -> Concurrency | Rate:
    return _read(Rate, data) if "per" in data else _read(Concurrency, data)
