"""Looks: one list for all who need it, no sooner than they do, and what a failed one means."""

import math
from collections.abc import Callable, Sequence

import pytest

from orchestrator.commands import Look, LookAt
from orchestrator.judgement import Judge, Track
from orchestrator.limits import Start
from orchestrator.looks import BLIND_FOR, BLIND_LOOKS, FRESH_FOR, Looks
from orchestrator.model import (
    Answer,
    ClusterState,
    ErrorInfo,
    Outcome,
    Phase,
    RestartBegan,
    Target,
    TargetRelapsed,
    Verdict,
)
from orchestrator.plan import Policy, make_plan

IDLE = ClusterState(status="200", instances=(("n1", "200"),))
BUSY = ClusterState(status="200", actions=("REBOOTING",), instances=(("n1", "100"),))
DOWN = ClusterState(status="303", instances=(("n1", "303"),))
OUTAGE = ErrorInfo(error_class="server_error", message="502", status=502)


class Room:
    """Looks at four clusters in two projects, and what is under way there."""

    def __init__(self, same_until: Callable[[Target], float] = lambda _: -math.inf) -> None:
        targets = [Target(project_id=f"p{n % 2}", cluster_id=f"c{n}") for n in range(4)]
        policy = Policy(poll_every=5.0, confirm_within=60.0, stable_for=20.0, healthy_deadline=600)
        plan = make_plan(targets, policy)
        self.targets = targets
        self.tracks: dict[int, Track] = {}
        self.looks = Looks(plan, Judge(plan), self.tracks, same_until)

    def begin(self, position: int, at: float) -> Track:
        target = self.targets[position]
        start = Start(
            run_id="r", target=position, attempt=1, project_id=target.project_id,
            cluster_id=target.cluster_id, region=None, labels=(), granted_at=at,
        )  # fmt: skip
        track = self.tracks[position] = Track(start=start, baseline=IDLE, watched_until=at)
        self.looks.begin(track, at)
        return track

    def accept(self, position: int, at: float) -> Track:
        track = self.tracks[position]
        track.answer = Answer(verdict=Verdict.ACCEPTED, sent_at=at, answered_at=at)
        track.phase = Phase.ACCEPTED
        self.looks.follow(track, at)
        return track

    def due(self, now: float, wanted: Sequence[str] = ()) -> list[str]:
        """Return the projects that are to be listed now, and the clusters to be read."""
        names, waiting = [], set(wanted)
        while (look := self.looks.next(now, waiting)) is not None:
            names.append(look.project_id if isinstance(look, Look) else f"c{look.target}")
        return names

    def fail(self, error: ErrorInfo, now: float, retry_after: float | None = None) -> bool:
        """Have a list of p0 fail that targets wait for; return whether it is given up."""
        assert self.due(now, ["p0"]) == ["p0"]
        is_given_up = self.looks.missed("p0", error, now, retry_after)
        self.looks.again(self.looks.at("p0"), now)
        self.looks.by(self.looks.at("p0"), now)
        return is_given_up


def test_nobody_looks_where_nobody_needs_it() -> None:
    """Without anybody under way or waiting there is no look, and no moment for one."""
    room = Room()
    assert room.due(0.0) == []
    assert room.looks.wake_at(0.0) == math.inf
    room.begin(0, 0.0)
    room.looks.leave(0)
    assert room.due(100.0) == []
    assert room.looks.wake_at(100.0) == math.inf


def test_one_list_serves_all_of_a_project() -> None:
    """However many are under way or wait there, a project is listed once, and not meanwhile."""
    room = Room()
    for position in (0, 1, 2):
        room.begin(position, 0.0)
    assert room.due(4.9) == []
    assert room.due(5.0, ["p0"]) == ["p0", "p1"]
    assert room.due(60.0) == []


def test_beginnings_are_looked_for_more_often() -> None:
    """Five times as often as told until it was seen to begin; as told from then on."""
    room = Room()
    room.begin(0, 0.0)
    room.accept(0, 1.0)
    assert room.looks.wake_at(1.0) == 2.0
    assert room.due(2.0) == ["p0"]
    [event] = room.looks.saw("p0", {"c0": BUSY, "c2": IDLE}, 2.0, 2.1)
    assert isinstance(event, RestartBegan)
    room.looks.again(room.looks.at("p0"), 2.1, {0})
    assert room.looks.wake_at(2.1) == 1.0 + 600.0 + 15.0
    room.tracks[0].phase = Phase.RESTARTING
    room.looks.look_soon(room.tracks[0], 2.1)
    assert room.looks.wake_at(2.1) == 7.1


def test_looks_that_are_known_to_show_nothing_new_are_left_out() -> None:
    """The next look is the first of the regular ones that can show something."""
    room = Room(lambda _: 23.0)
    track = room.begin(0, 0.0)
    room.accept(0, 1.0)
    track.phase = Phase.RESTARTING
    room.looks.again(room.looks.at("p0"), 2.0)
    assert room.looks.wake_at(2.0) == 27.0


def test_a_look_from_before_the_call_says_nothing() -> None:
    """What was sent before the intent cannot tell of the restart, whatever it shows."""
    room = Room()
    room.begin(0, 10.0)
    room.accept(0, 11.0)
    assert room.looks.saw("p0", {"c0": BUSY}, 9.9, 12.0) == []
    assert [event.target for event in room.looks.saw("p0", {"c0": BUSY}, 12.0, 12.1)] == [0]


def test_what_a_list_does_not_show_is_read_alone() -> None:
    """Who was under way is read, and comes back to no line; who waits does, once."""
    room = Room()
    room.begin(0, 0.0)
    assert room.due(5.0) == ["p0"]
    assert room.looks.saw("p0", {"c2": IDLE}, 5.0, 5.1) == []
    assert room.looks.wake_at(5.1) == 5.1
    assert room.looks.next(5.1, set()) == LookAt(0)
    assert not room.looks.comes_back(0)
    assert room.looks.baseline(1, 6.0) is None
    room.looks.examine(1, is_out_of_line=True)
    assert room.due(6.0) == ["c1"]
    assert room.looks.comes_back(1)
    assert not room.looks.comes_back(1)


def test_a_detail_is_a_baseline_while_it_is_fresh() -> None:
    """For `FRESH_FOR` and for one call; then the list counts again, and it shows nothing."""
    room = Room()
    room.looks.saw_one(1, DOWN, 10.0)
    assert room.looks.baseline(1, 10.0 + FRESH_FOR) == DOWN
    assert room.looks.baseline(1, 10.1 + FRESH_FOR) is None
    room.looks.saw_one(1, IDLE, 30.0)
    room.begin(1, 31.0)
    assert room.looks.baseline(1, 31.0) is None


def test_a_look_that_failed_is_repeated_ever_more_slowly() -> None:
    """The waits double; who is told how long to wait waits so long, and that is no failure."""
    room = Room()
    at = 0.0
    for wait in (1.0, 2.0, 4.0):
        assert not room.fail(OUTAGE, at)
        assert room.looks.wake_at(at) == at + wait
        at += wait
    throttled = ErrorInfo(error_class="throttled", message="slow down", status=429)
    assert not room.fail(throttled, at, 33.0)
    assert room.looks.wake_at(at) == at + 33.0
    assert room.looks.at("p0").failed == 3


def test_a_project_is_given_up_when_there_is_no_hope() -> None:
    """Never seen: after some failures; seen before: after minutes; refused: at once."""
    never, at = Room(), 0.0
    for _ in range(BLIND_LOOKS - 1):
        assert not never.fail(OUTAGE, at)
        at = never.looks.wake_at(at)
    assert never.fail(OUTAGE, at)
    assert never.looks.of(2).blind == OUTAGE
    seen, at = Room(), 0.0
    seen.looks.saw("p0", {}, 0.0, 0.0)
    while not seen.fail(OUTAGE, at):
        at = seen.looks.wake_at(at)
    assert at > BLIND_FOR
    refused = ErrorInfo(error_class="forbidden", message="no", status=403)
    assert Room().fail(refused, 0.0)
    # A project that shows again has hope again.
    seen.looks.saw("p0", {"c0": IDLE}, at, at)
    assert seen.looks.of(0).blind is None


def test_who_is_out_of_sight_at_the_deadline_is_unknown() -> None:
    """Not ready in time and not seen of late: unknown; what ended before is forgotten."""
    room = Room()
    for position in (0, 1):
        room.begin(position, 0.0)
        room.accept(position, 1.0)
    del room.tracks[1]
    assert room.looks.given_up(615.9) is None
    ended = room.looks.given_up(616.0)
    assert ended is not None
    assert (ended.target, ended.at, ended.outcome) == (0, 616.0, Outcome.UNKNOWN)
    assert ended.reason == "not seen ready within 10m"
    assert room.looks.given_up(616.0) is None


def test_who_settles_in_sight_has_time_to() -> None:
    """Ready at the deadline and looked at: it has `stable_for` to stay so, and a look more."""
    room = Room()
    track = room.begin(0, 0.0)
    room.accept(0, 1.0)
    track.phase = Phase.SETTLING
    track.watched_until = 610.0
    assert room.looks.given_up(616.0) is None
    assert room.looks.given_up(640.9) is None
    assert room.looks.given_up(641.0) is not None


def test_a_soak_ends_with_a_look_after_it() -> None:
    """Its clusters are looked at to its end and once more; one that is down relapses."""
    room = Room()
    room.looks.begin_soak([0, 2], 0.0, 12.0)
    assert room.looks.wake_at(0.0) == 5.0
    states = {"c0": IDLE, "c2": IDLE}
    for at in (5.0, 10.0):
        assert room.due(at) == ["p0"]
        assert room.looks.saw("p0", states, at, at) == []
        room.looks.again(room.looks.at("p0"), at)
        assert room.looks.soaked_at() == math.inf
    assert room.due(12.0) == ["p0"]
    [event] = room.looks.saw("p0", {**states, "c2": DOWN}, 12.0, 12.0)
    assert isinstance(event, TargetRelapsed)
    assert event.target == 2
    assert room.looks.soaked_at() == 12.0
    room.looks.leave_soak(2)
    assert room.looks.saw("p0", {**states, "c2": DOWN}, 13.0, 13.0) == []
    room.looks.end_soak()
    room.looks.again(room.looks.at("p0"), 13.0)
    assert room.due(100.0) == []


@pytest.mark.parametrize(("state", "is_down"), [(IDLE, False), (BUSY, False), (DOWN, True)])
def test_down_is_who_is_not_ready_with_nobody_at_work(
    state: ClusterState, *, is_down: bool
) -> None:
    """A cluster that is busy is not down, nor one that was never seen."""
    room = Room()
    assert not room.looks.looks_down(0)
    room.looks.saw("p0", {"c0": state}, 0.0, 0.0)
    assert room.looks.looks_down(0) is is_down
