"""Events and plans survive being written down, exactly."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.journal.codec import (
    event_from_dict,
    event_from_row,
    event_to_dict,
    event_to_row,
    plan_from_dict,
    plan_to_dict,
    target_from_dict,
    target_to_dict,
    to_text,
)
from orchestrator.limits import Concurrency, Limit, Rate
from orchestrator.model import (
    EVENTS,
    Call,
    ClusterState,
    ErrorInfo,
    Event,
    Kind,
    Outcome,
    RestartRequested,
    RestartSettling,
    Target,
    TargetEnded,
    TargetRelapsed,
)
from orchestrator.plan import FailureMode, Plan, Policy, Portion, Unhealthy, Wave

# SQLite has no whole numbers beyond these, and no run has so many targets.
st.register_type_strategy(int, st.integers(-(2**63), 2**63 - 1))

MOMENTS = st.floats(0.0, 4e9)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SPANS = st.floats(min_value=0.0, max_value=1e6)
KINDS = st.sampled_from(
    [
        Kind(),
        Kind(Call.REBOOT),
        Kind(Call.ROLLING),
        Kind(Call.ROLLING, ("all",)),
        Kind(Call.RESTART_PART, ("ess", "ess-master")),
        Kind(Call.RESTART_PART, node="5a0d9e8e-0f6b"),
    ]
)
LIMITS: st.SearchStrategy[Limit] = st.one_of(
    st.builds(Concurrency, st.integers(1, 99), st.sampled_from(["fleet", "project", "az"])),
    st.builds(Rate, st.integers(1, 99), st.floats(0.1, 1e6), st.sampled_from(["fleet", "az"])),
)
TARGETS = st.builds(
    Target,
    project_id=st.text(min_size=1),
    cluster_id=st.text(min_size=1),
    name=st.none() | st.text(),
    region=st.none() | st.text(),
    kind=KINDS,
    wave=st.none() | st.text(),
    labels=st.lists(st.tuples(st.text(), st.text()), max_size=3).map(tuple),
)
POLICIES = st.builds(
    Policy,
    limits=st.lists(LIMITS, max_size=3).map(tuple),
    max_failures=st.builds(Portion, st.integers(0, 99), st.booleans()),
    failure_mode=st.sampled_from(FailureMode),
    unhealthy=st.sampled_from(Unhealthy),
    wait=st.booleans(),
    confirm_within=SPANS,
)
PLANS = st.builds(
    Plan,
    plan_id=st.text(),
    targets=st.lists(TARGETS, max_size=4).map(tuple),
    waves=st.lists(
        st.builds(
            Wave,
            name=st.text(),
            targets=st.lists(st.integers(0, 9)).map(tuple),
            soak=SPANS,
        ),
        max_size=3,
    ).map(tuple),
    policy=POLICIES,
    source=st.lists(st.text(), max_size=2).map(tuple),
    ordered=st.sampled_from(["", "spread", "shuffle 7"]),
)

st.register_type_strategy(float, FLOATS)


def written(cls: type[Event]) -> st.SearchStrategy[Event]:
    """Events of this kind, at moments as journals keep them."""
    return st.builds(replace, st.from_type(cls), at=MOMENTS)


events = st.one_of([written(cls) for cls in EVENTS.values()])


def through_json(value: Any) -> Any:
    return json.loads(to_text(value))


@pytest.mark.parametrize("cls", EVENTS.values(), ids=EVENTS.keys())
def test_every_event_as_a_dict(cls: type[Event]) -> None:
    """Whatever an event holds, its dict goes through JSON and gives the same event."""

    @given(event=st.from_type(cls))
    def check(event: Event) -> None:
        assert event_from_dict(through_json(event_to_dict(event))) == event

    check()


@given(event=events)
def test_every_event_as_a_row(event: Event) -> None:
    """A journal's row goes through JSON, in plain ASCII, and gives the same event."""
    row = event_to_row(event)

    assert row[3] is None or row[3].isascii()
    assert event_from_row(*row) == event


@pytest.mark.parametrize("cls", EVENTS.values(), ids=EVENTS.keys())
def test_rows_say_what_dicts_say(cls: type[Event]) -> None:
    """Rows that are written by hand leave nothing out and add nothing, but for the baseline."""

    @given(event=written(cls))
    def check(event: Event) -> None:
        at, kind, target, text = event_to_row(event)
        data = {**json.loads(text or "{}"), "kind": kind, "at": at}
        whole = through_json(event_to_dict(event))
        if target is not None:
            data["target"] = target
        if isinstance(event, RestartRequested):
            assert len(data.pop("baseline")) == len(msgspec.structs.fields(ClusterState))
            del whole["baseline"]
        assert data == whole

    check()


@given(plan=PLANS)
def test_plan(plan: Plan) -> None:
    """Targets, waves, limits and policy come back as they were."""
    assert plan_from_dict(through_json(plan_to_dict(plan))) == plan


def test_a_plan_of_an_older_version_is_as_listed() -> None:
    """A run from before plans said how they were ordered is resumed all the same."""
    data = plan_to_dict(Plan(plan_id="p", targets=(), waves=(), policy=Policy(), ordered="spread"))
    del data["ordered"]
    assert plan_from_dict(data).ordered == ""


@given(target=TARGETS)
def test_target(target: Target) -> None:
    """A target comes back as it was."""
    assert target_from_dict(through_json(target_to_dict(target))) == target


def test_defaults_take_no_room() -> None:
    """What has its default is not written; an event with nothing to say has no text at all."""
    ended = TargetEnded(at=5.0, target=3, outcome=Outcome.RESTARTED)

    assert event_to_row(ended) == (5.0, "target.ended", 3, '{"outcome":"restarted"}')
    assert event_to_row(RestartSettling(at=5.0, target=3))[3] is None


def test_policy_is_written_whole() -> None:
    """A policy is frozen with its run: a later change of defaults must not reach it."""
    plan = Plan(plan_id="p", targets=(), waves=(), policy=Policy())

    assert set(plan_to_dict(plan)["policy"]) == set(Policy.__dataclass_fields__)


def test_event_by_hand() -> None:
    """The dict reads as one would say it: names of fields, values of enums."""
    event = TargetRelapsed(
        at=1.5, target=0, reason="bad", error=ErrorInfo(error_class="down", message="m", status=3)
    )

    assert event_to_dict(event) == {
        "kind": "target.relapsed",
        "at": 1.5,
        "target": 0,
        "reason": "bad",
        "error": {"error_class": "down", "message": "m", "status": 3},
    }


def test_unknown_keys_are_passed_over() -> None:
    """What a newer version added, in the event or deep inside it, does not keep us from reading."""
    event = RestartRequested(
        at=1.0, target=2, attempt=1, request_id="r", baseline=ClusterState(status="200")
    )
    data = event_to_dict(event)
    data["weather"] = "fine"
    data["baseline"]["colour"] = "green"

    assert event_from_dict(data) == event


def test_text_that_utf8_cannot_carry() -> None:
    """Half a surrogate pair in a service's message is kept, not fatal."""
    event = TargetEnded(at=1.0, target=0, outcome=Outcome.FAILED, reason="\ud800 \x00")
    row = event_to_row(event)

    assert row[3] is not None
    assert row[3].isascii()
    assert event_from_row(*row) == event


def test_a_row_of_a_newer_version() -> None:
    """A baseline with more fields than this version knows is read as far as it goes."""
    event = RestartRequested(
        at=1.0, target=2, attempt=1, request_id="r", baseline=ClusterState(status="200")
    )
    at, kind, target, text = event_to_row(event)
    data = json.loads(text or "{}")
    data["baseline"].append("green")

    assert event_from_row(at, kind, target, to_text(data)) == event


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"at": 1.0}, "without 'kind'"),
        ({"kind": "moon.landed", "at": 1.0}, "moon.landed"),
        ({"kind": "wave.opened", "at": 1.0}, "not whole"),
        ({"kind": "target.ended", "at": 1.0, "target": 0, "outcome": "eaten"}, "eaten"),
    ],
)
def test_what_is_no_event(data: dict[str, Any], words: str) -> None:
    """What this version cannot understand is refused with the reason."""
    with pytest.raises(ValueError, match=words):
        event_from_dict(data)


def test_what_is_no_plan() -> None:
    """A plan that lacks a part is refused with its name."""
    with pytest.raises(ValueError, match="without 'plan_id'"):
        plan_from_dict({"targets": []})
