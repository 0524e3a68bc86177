"""The campaign: one rule a test, played by hand with events and looks; no clock, no I/O."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pytest

from orchestrator.attempts import MOST_TRIES
from orchestrator.campaign import Campaign
from orchestrator.commands import AskGate, Command, Look, LookAt, Record, Restart
from orchestrator.errors import ImpossibleEventError
from orchestrator.failures import SAME_REFUSALS
from orchestrator.judgement import TAKEN_OVER
from orchestrator.limits import Concurrency, Rate, Start, StartChange, Unavailable
from orchestrator.looks import BLIND_FOR, FRESH_FOR
from orchestrator.model import (
    Answer,
    AnswerArrivedLate,
    ClusterState,
    ErrorInfo,
    Event,
    GateClosed,
    GateOpened,
    Kind,
    LimitsChanged,
    Outcome,
    RestartAnswered,
    RestartDisproved,
    RestartRequested,
    RestartWithdrawn,
    RunAborted,
    RunContinued,
    RunnerStarted,
    RunPaused,
    RunResumed,
    RunStopping,
    Target,
    TargetEnded,
    TargetRelapsed,
    TargetResolved,
    Throttle,
    Verdict,
    WaveOpened,
    WindowChanged,
)
from orchestrator.plan import FailureMode, Plan, Policy, Portion, Unhealthy, Window, make_plan
from orchestrator.ranking import Order

IDLE = ClusterState(status="200", instances=(("n1", "200"), ("n2", "200")))
BUSY = ClusterState(status="200", actions=("REBOOTING",), instances=(("n1", "200"), ("n2", "100")))
DOWN = ClusterState(
    status="303", instances=(("n1", "303"), ("n2", "200")), failed_reason="CSS.6002: failed"
)
ERROR = ErrorInfo(error_class="bad_request", message="no", status=400, code="CSS.0001")


class Play:
    """A campaign with somebody who carries out its commands at once, and a clock of its own."""

    def __init__(
        self,
        count: int = 1,
        *,
        projects: int = 1,
        canary: int = 0,
        soak: float = 0.0,
        history: Sequence[Event] = (),
        accounts: Mapping[str, str] = MappingProxyType({}),
        durations: Mapping[str, Sequence[float]] = MappingProxyType({}),
        kinds: Mapping[int, str] = MappingProxyType({}),
        same_until: Callable[[Target], float] = lambda _: -math.inf,
        order: Order = Order.LISTED,
        **policy: Any,
    ) -> None:
        targets = [
            Target(
                project_id=f"p{n % projects}",
                cluster_id=f"c{n}",
                kind=Kind.parse(kinds.get(n, "restart")),
            )
            for n in range(count)
        ]
        settings = {"limits": (Concurrency(10),), "confirm_within": 10.0, "stable_for": 4.0,
                    "healthy_deadline": 100.0, "poll_every": 2.0, **policy}  # fmt: skip
        rules = Policy(**settings)
        self.plan: Plan = make_plan(targets, rules, canary=Portion(canary), soak=soak, order=order)
        self.campaign = Campaign(
            "run", self.plan, history,
            accounts=accounts, durations=durations, same_until=same_until,
        )  # fmt: skip
        self.states = dict.fromkeys((target.cluster_id for target in targets), IDLE)
        self.now = 1000.0
        self.events: list[Event] = []
        self.asked: list[RestartRequested] = []
        self.looks = 0
        self.lists_take = self.details_take = 0.0
        self.alone: dict[str, ClusterState] = {}
        """What details show that no list does."""
        self.blinding: ErrorInfo | None = None
        """Why list calls fail, if they do."""
        self.blinded: str | None = None
        """The only project whose looks fail, if only those of one do."""
        self.gate_asked: list[float] = []
        self.gate_says: str | None = None
        self.gate_answers = True

    def turn(self) -> list[Command]:
        """Do all that is due; looks are answered at once from `states`."""
        done: list[Command] = []
        while True:
            pending: list[Look | LookAt] = []
            for command in self.campaign.due(self.now):
                done.append(command)
                match command:
                    case Record(event=event):
                        self.apply(event)
                    case Restart(event=event):
                        self.apply(event)
                        self.asked.append(event)
                    case Look() | LookAt():
                        pending.append(command)
                    case AskGate():
                        self.gate_asked.append(self.now)
                        if self.gate_answers:
                            self.campaign.hear_gate(self.gate_says, self.now, self.now)
            if not pending:
                return done
            for look in pending:
                self.look(look)

    def look(self, look: Look | LookAt) -> None:
        self.looks += 1
        if isinstance(look, Look) and self.blinding and self.blinded in {None, look.project_id}:
            self.campaign.fail_to_observe(look.project_id, self.blinding, self.now)
        elif isinstance(look, Look):
            mine = {
                target.cluster_id: self.states[target.cluster_id]
                for target in self.plan.targets
                if target.project_id == look.project_id and target.cluster_id in self.states
            }
            began_at, self.now = self.now, self.now + self.lists_take
            self.campaign.observe(look.project_id, mine, began_at, self.now)
        elif (state := self.alone.get(self.plan.targets[look.target].cluster_id)) is not None:
            began_at, self.now = self.now, self.now + self.details_take
            self.campaign.observe_one(look.target, state, began_at, self.now)
        else:
            gone = ErrorInfo(error_class="not_found", message="gone", code="CSS.0015")
            self.campaign.miss(look.target, gone)

    def apply(self, event: Event) -> None:
        self.campaign.apply(event)
        self.events.append(event)

    def answer(
        self,
        verdict: Verdict = Verdict.ACCEPTED,
        target: int = 0,
        *,
        error: ErrorInfo | None = None,
        retry_after: float | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        asked = next(event for event in reversed(self.asked) if event.target == target)
        answer = Answer(
            verdict=verdict, sent_at=asked.at, answered_at=self.now, error=error,
            job_ids=("j",) if verdict is Verdict.ACCEPTED else (), retry_after=retry_after,
            throttle=throttle,
        )  # fmt: skip
        self.apply(
            RestartAnswered(at=self.now, target=target, attempt=asked.attempt, answer=answer)
        )
        self.turn()

    def wait(self, seconds: float) -> None:
        """Let time pass, waking whenever the campaign wants to."""
        end = self.now + seconds
        while (wake := self.campaign.wake_at(self.now)) <= end:
            self.now = max(self.now, wake)
            self.turn()
        self.now = end
        self.turn()

    def see(self, state: ClusterState, target: int = 0, *, within: float = 2.0) -> None:
        self.states[f"c{target}"] = state
        self.wait(within)

    def restart(self, target: int = 0, *, end: ClusterState = IDLE) -> None:
        """Play one restart to its end."""
        self.answer(target=target)
        self.see(BUSY, target)
        self.see(end, target, within=10.0)

    def outcome(self, target: int = 0) -> Outcome | None:
        return self.campaign.outcomes.get(target)

    def is_over(self) -> bool:
        return self.campaign.finished

    def stop_reason(self) -> str | None:
        return self.campaign.stopping.reason if self.campaign.stopping else None

    def ended(self, target: int = 0) -> TargetEnded:
        return next(
            event
            for event in reversed(self.events)
            if isinstance(event, TargetEnded) and event.target == target
        )


def test_a_restart_seen_to_begin_and_to_end_is_restarted() -> None:
    """Only what was seen busy and then ready for `stable_for` counts as restarted."""
    play = Play()
    play.turn()
    assert [event.target for event in play.asked] == [0]
    assert play.asked[0].baseline == IDLE
    play.answer()
    play.see(BUSY)
    assert play.outcome() is None
    play.see(IDLE, within=3.9)
    assert play.outcome() is None
    play.wait(4.2)
    assert play.outcome() is Outcome.RESTARTED
    assert play.is_over()


def test_an_accepted_restart_that_is_never_seen_to_begin_is_unknown() -> None:
    """A 200 and a cluster that never moves are no success: nobody saw a restart."""
    play = Play()
    play.turn()
    play.answer()
    play.wait(10.5)
    assert play.outcome() is Outcome.UNKNOWN
    assert "not seen to begin within 10s" in (play.ended().reason or "")


def test_beginning_is_looked_for_more_often_than_the_end() -> None:
    """Until it is seen to begin a restart is looked at five times as often, lest it be missed."""
    play = Play()
    play.turn()
    before = play.looks
    play.answer()
    play.wait(4.0)
    assert play.looks - before >= 9
    play.see(BUSY, within=1.0)
    before = play.looks
    play.wait(10.0)
    assert play.looks - before == 5


def test_a_failed_restart_is_failed_with_the_service_s_code() -> None:
    """Down with no task running after the restart began: failed, and CSS.6002 is named."""
    play = Play(max_failures=Portion(1))
    play.turn()
    play.restart(end=DOWN)
    assert play.outcome() is Outcome.FAILED
    error = play.ended().error
    assert error is not None
    assert (error.error_class, error.code) == ("restart_failed", "CSS.6002")


def test_readiness_that_breaks_begins_anew() -> None:
    """Ready, busy again, ready: `stable_for` is counted from the second time."""
    play = Play()
    play.turn()
    play.answer()
    play.see(BUSY)
    play.see(IDLE, within=3.0)
    play.see(BUSY, within=2.0)
    play.see(IDLE, within=3.0)
    assert play.outcome() is None
    play.wait(4.0)
    assert play.outcome() is Outcome.RESTARTED


def test_settle_ignores_health_for_a_while() -> None:
    """What looks like a failure during `settle` is not judged."""
    play = Play(settle=8.0)
    play.turn()
    play.answer()
    play.see(BUSY, within=1.0)
    play.see(DOWN, within=5.0)
    assert play.outcome() is None
    play.see(IDLE, within=10.0)
    assert play.outcome() is Outcome.RESTARTED


def test_a_cluster_that_is_never_ready_fails_at_its_deadline() -> None:
    """Seen, but still busy at `healthy_deadline`: failed."""
    play = Play()
    play.turn()
    play.answer()
    play.see(BUSY, within=99.0)
    assert play.outcome() is None
    play.wait(3.0)
    assert play.outcome() is Outcome.FAILED
    assert "not ready within 1m40s" in (play.ended().reason or "")


def test_a_cluster_that_is_ready_by_turns_fails_at_its_deadline() -> None:
    """Ready at every other look is never ready: the deadline ends it, too."""
    play = Play()
    play.turn()
    play.answer()
    for _ in range(40):
        play.see(BUSY, within=2.0)
        play.see(IDLE, within=2.0)
    assert play.outcome() is Outcome.FAILED
    assert "not ready within 1m40s" in (play.ended().reason or "")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (ClusterState(status="777", instances=IDLE.instances), "status 777"),
        (
            ClusterState(status="200", instances=IDLE.instances[:1]),
            "status 200, 1 of 2 nodes gone",
        ),
        (
            ClusterState(status="200", instances=(("n1", "200"), ("n2", "777"))),
            "status 200, 1 of 2 nodes not ready",
        ),
    ],
)
def test_a_state_that_nobody_knows_is_unknown_at_its_deadline(
    state: ClusterState, words: str
) -> None:
    """Neither busy nor down nor whole again: nobody can say that the restart failed."""
    play = Play()
    play.turn()
    play.answer()
    play.see(BUSY)
    play.see(state, within=95.0)
    assert play.outcome() is None
    play.wait(5.0)
    assert play.outcome() is Outcome.UNKNOWN
    assert play.ended().reason == f"not ready within 1m40s: {words}"


def test_a_rolling_restart_has_its_deadline_for_each_node() -> None:
    """Nodes go down one after the other, so a cluster of five may take five times as long."""
    play = Play(kinds={0: "rolling"})
    five = tuple((f"n{number}", "200") for number in range(5))
    play.states["c0"] = ClusterState(status="200", instances=five)
    play.turn()
    play.answer()
    play.see(BUSY)
    play.wait(490.0)
    assert play.outcome() is None
    play.wait(20.0)
    assert play.outcome() is Outcome.FAILED
    assert "not ready within 8m20s" in (play.ended().reason or "")


def test_a_cluster_that_cannot_be_seen_is_unknown_at_its_deadline() -> None:
    """When looks stop to tell anything, the deadline makes it unknown."""
    play = Play(2, limits=(Concurrency(1),), max_failures=Portion(1))
    play.turn()
    play.answer()
    play.see(BUSY)
    del play.states["c0"]
    play.wait(150.0)
    assert play.outcome() is Outcome.UNKNOWN
    assert [event.target for event in play.asked] == [0, 1]


def test_a_settling_cluster_that_goes_out_of_sight_is_unknown_at_its_deadline() -> None:
    """Ready when last seen, then out of sight for good: the deadline ends the waiting."""
    play = Play(max_failures=Portion(1))
    play.turn()
    play.answer()
    play.see(BUSY)
    play.see(IDLE, within=2.5)
    play.states.clear()
    play.wait(200.0)
    assert play.outcome() is Outcome.UNKNOWN


def test_an_unknown_keeps_its_slot_until_its_deadline() -> None:
    """Nobody takes the slot of an unknown before its `healthy_deadline` has passed."""
    play = Play(2, limits=(Concurrency(1),), max_failures=Portion(1))
    play.turn()
    play.answer()
    answered_at = play.now
    play.wait(20.0)
    assert play.outcome() is Outcome.UNKNOWN
    assert play.ended().slot_until == answered_at + 100.0
    assert len(play.asked) == 1
    play.wait(79.0)
    assert len(play.asked) == 1
    play.wait(2.0)
    assert [event.target for event in play.asked] == [0, 1]


# ------------------------------------------------------------------------------- before a start


@pytest.mark.parametrize(
    ("state", "policy", "outcome", "reason", "asked"),
    [
        (BUSY, {}, Outcome.SKIPPED, "busy", False),
        (DOWN, {}, Outcome.SKIPPED, "unhealthy", False),
        (DOWN, {"unhealthy_asked": True}, Outcome.SKIPPED, "unhealthy", True),
    ],
)
def test_what_is_not_fit_is_skipped_and_costs_nothing(
    state: ClusterState, policy: dict[str, Any], outcome: Outcome, reason: str, *, asked: bool
) -> None:
    """A busy or unhealthy cluster is skipped without a start, and takes no place in any limit."""
    play = Play(2, limits=(Rate(1, 1000.0),), **policy)
    play.states["c0"] = state
    play.turn()
    assert (play.outcome(), play.ended().reason, play.ended().asked) == (outcome, reason, asked)
    assert [event.target for event in play.asked] == [1]


def test_the_unhealthy_are_restarted_when_told_so() -> None:
    """With `--unhealthy restart` a cluster that is down is restarted, and may come back."""
    play = Play(unhealthy=Unhealthy.RESTART)
    play.states["c0"] = DOWN
    play.turn()
    play.restart()
    assert play.outcome() is Outcome.RESTARTED


def test_a_cluster_missing_from_the_list_is_asked_for_and_refused_if_gone() -> None:
    """A cluster that neither list nor detail knows is refused with the service's code."""
    play = Play(2)
    del play.states["c0"]
    play.turn()
    assert play.outcome() is Outcome.REFUSED
    error = play.ended().error
    assert error is not None
    assert error.code == "CSS.0015"
    assert [event.target for event in play.asked] == [1]


@pytest.mark.parametrize(
    "tell",
    [
        lambda campaign, _: campaign.miss(0, ERROR),
        lambda campaign, now: campaign.observe_one(0, IDLE, now, now),
        lambda campaign, now: campaign.fail_to_observe_one(0, ERROR, now),
    ],
)
def test_a_detail_that_comes_after_the_end_changes_nothing(
    tell: Callable[[Campaign, float], None],
) -> None:
    """A target read while it was under way may have ended before the answer: it stays ended."""
    play = Play(limits=(Concurrency(2),), max_failures=Portion(1))
    play.turn()
    play.answer()
    play.see(BUSY)
    del play.states["c0"]
    play.wait(150.0)
    assert play.outcome() is Outcome.UNKNOWN
    for _ in range(MOST_TRIES):
        tell(play.campaign, play.now)
        play.turn()
    assert len(play.asked) == 1
    assert play.outcome() is Outcome.UNKNOWN
    assert play.is_over()


def test_a_detail_that_comes_twice_lets_nobody_wait_twice() -> None:
    """A target that was read while it was under way, and again while it waits, has one turn."""
    play = Play(limits=(Concurrency(2),))
    play.turn()
    play.answer(Verdict.BUSY, error=ERROR)
    del play.states["c0"]
    play.now += FRESH_FOR + 1.0
    looks = 0
    while not looks:
        for command in play.campaign.due(play.now):
            match command:
                case Look():
                    play.campaign.observe("p0", {}, play.now, play.now)
                case LookAt():
                    looks += 1
                case _:
                    pytest.fail("it cannot start without a baseline")
    play.campaign.observe("p0", {"c0": IDLE}, play.now, play.now)
    for _ in range(2):
        play.campaign.observe_one(0, IDLE, play.now, play.now)
    play.turn()
    assert [event.attempt for event in play.asked] == [1, 2]


def test_one_look_serves_all_baselines_of_a_project() -> None:
    """However many targets may start, a project is listed once for all of them."""
    play = Play(8, projects=2)
    play.turn()
    assert len(play.asked) == 8
    assert play.looks == 2


def test_a_baseline_is_never_older_than_ten_seconds() -> None:
    """When a start becomes possible long after the last look, the project is looked at again."""
    play = Play(2, limits=(Rate(1, 50.0),), wait=False)
    play.turn()
    play.answer()
    looks = play.looks
    play.wait(30.0)
    assert play.looks == looks
    play.states["c1"] = BUSY
    play.wait(30.0)
    assert play.looks > looks
    assert play.outcome(1) is Outcome.SKIPPED
    assert FRESH_FOR <= 10.0


def test_a_target_read_alone_makes_no_old_list_new() -> None:
    """The door that it opens is its own: the others are looked at again before they start."""
    play = Play(4, limits=(Rate(1, 6.0),), wait=False)
    del play.states["c1"]
    play.alone = {"c1": BUSY}
    play.turn()
    play.answer()
    play.wait(7.0)
    play.answer(target=2)
    play.states["c3"] = BUSY
    play.wait(8.0)
    assert [event.target for event in play.asked] == [0, 2]
    assert [play.outcome(1), play.outcome(3)] == [Outcome.SKIPPED] * 2


def test_where_lists_are_slow_targets_are_read_alone() -> None:
    """A list that is too old for a baseline when it comes holds nobody up for ever."""
    play = Play(3, max_failures=Portion(3))
    play.lists_take = FRESH_FOR + 2.0
    play.alone = {"c0": IDLE, "c1": BUSY, "c2": IDLE}
    play.turn()
    assert [event.target for event in play.asked] == [0, 2]
    assert play.outcome(1) is Outcome.SKIPPED
    assert all(event.baseline == IDLE for event in play.asked)


def test_who_can_only_be_read_too_slowly_is_given_up() -> None:
    """Where details are as slow as lists, a target is refused after so many tries."""
    play = Play(1)
    play.lists_take = play.details_take = FRESH_FOR + 2.0
    play.alone = {"c0": IDLE}
    play.turn()
    play.wait(600.0)
    assert play.asked == []
    assert play.outcome() is Outcome.REFUSED
    assert play.ended().reason == "cannot be read"
    error = play.ended().error
    assert error is not None
    assert error.message == "reading it took 12s, too long for a baseline"


def test_a_project_that_cannot_be_read_refuses_its_targets() -> None:
    """After a final refusal of the list its targets are refused, and nothing is sent."""
    play = Play(2)
    (look,) = [c for c in play.campaign.due(play.now) if _is_look(play, c)]
    assert isinstance(look, Look)
    denied = ErrorInfo(error_class="forbidden", message="denied", status=403, code="APIGW.0302")
    play.campaign.fail_to_observe("p0", denied, play.now)
    play.turn()
    assert play.outcome(0) is Outcome.REFUSED
    assert play.outcome(1) is Outcome.REFUSED
    assert not play.asked


def _is_look(play: Play, command: Command) -> bool:
    if isinstance(command, Record):
        play.apply(command.event)
    return isinstance(command, Look)


@pytest.mark.parametrize(
    ("status", "error_class"), [(404, "unavailable"), (400, "server_error"), (404, "lost")]
)
def test_a_look_that_may_succeed_later_gives_nobody_up(status: int, error_class: str) -> None:
    """A 4xx that says "later" is tried again, however final its status looks."""
    play = Play()
    play.blinding = ErrorInfo(error_class=error_class, message="later", status=status)
    play.turn()
    play.wait(0.5)
    assert play.looks == 1
    play.blinding = None
    play.wait(5.0)
    assert len(play.asked) == 1


def test_a_failed_look_is_repeated_and_then_given_up() -> None:
    """A list that fails for no lasting reason is tried a few times, ever more slowly."""
    play = Play()
    tries = []
    for _ in range(20):
        looks = [c for c in play.campaign.due(play.now) if _is_look(play, c)]
        if looks:
            tries.append(play.now)
            error = ErrorInfo(error_class="unavailable", message="connection refused")
            play.campaign.fail_to_observe("p0", error, play.now)
        wake = play.campaign.wake_at(play.now)
        if wake == math.inf:
            break
        play.now = max(play.now, wake)
    waits = [b - a for a, b in itertools.pairwise(tries)]
    assert waits == [1, 2, 4, 8]
    play.turn()
    assert play.outcome() is Outcome.REFUSED


# --------------------------------------------------------------------------- answers of all kinds


def test_a_refusal_gives_everything_back() -> None:
    """After a refusal the slot and the rate are free for the next target at once."""
    play = Play(2, limits=(Concurrency(1), Rate(1, 1000.0)))
    play.turn()
    play.answer(Verdict.REFUSED, error=ERROR)
    assert play.outcome() is Outcome.REFUSED
    assert play.ended().error == ERROR
    assert [event.target for event in play.asked] == [0, 1]


def test_a_throttled_call_waits_as_told_and_is_no_failure() -> None:
    """After a 429 the whole project waits as long as it was told, then the same target goes."""
    play = Play(2, limits=(Concurrency(1),))
    play.turn()
    play.answer(Verdict.THROTTLED, retry_after=20.0)
    play.wait(19.9)
    assert len(play.asked) == 1
    play.wait(2.5)
    assert [(event.target, event.attempt) for event in play.asked] == [(0, 1), (0, 2)]
    assert play.campaign.failures == 0


def test_a_throttled_account_waits_as_one_and_others_go_on() -> None:
    """A 429 holds back every project of its account, and no project of another."""
    accounts = {"p0": "slow", "p1": "slow", "p2": "quick"}
    play = Play(30, projects=3, accounts=accounts, limits=(Concurrency(3),), wait=False)
    play.turn()
    assert [event.target for event in play.asked] == [0, 1, 2]
    play.answer(Verdict.THROTTLED, retry_after=60.0, throttle=Throttle(10, 60.0))
    play.answer(target=1)
    for target in range(2, 30, 3):
        play.answer(target=target)
    assert {event.target % 3 for event in play.asked[3:]} == {2}
    assert len(play.asked) == 12
    play.wait(59.0)
    assert len(play.asked) == 12


def test_a_throttled_account_goes_on_at_the_pace_it_was_told() -> None:
    """After the wait, restarts of the account follow each other as the message allows."""
    play = Play(30, projects=2, limits=(Concurrency(30),), wait=False)
    play.turn()
    for target in range(30):
        if target < 10:
            play.answer(target=target)
        else:
            play.answer(Verdict.THROTTLED, target, retry_after=60.0, throttle=Throttle(10, 60.0))
    while len(play.asked) < 50:
        asked = len(play.asked)
        play.wait(0.1)
        if len(play.asked) > asked:
            play.answer(target=play.asked[-1].target)
    moments = [event.at for event in play.asked[30:]]
    assert all(6.0 < b - a < 7.0 for a, b in itertools.pairwise(moments))
    assert play.campaign.counts()[Outcome.ACCEPTED] == 30


def test_a_resumed_run_remembers_the_pace() -> None:
    """What 429s taught is in the journal: the next runner does not have to learn it again."""
    play = Play(5, limits=(Concurrency(1),), wait=False)
    play.turn()
    play.answer(Verdict.THROTTLED, retry_after=60.0, throttle=Throttle(10, 60.0))
    again = Campaign("run", play.plan, play.events)
    assert again.paces.of("p0").rate == play.campaign.paces.of("p0").rate < 10 / 60
    assert again.paces.of("p0").opens_at == play.campaign.paces.of("p0").opens_at


def test_nobody_looks_for_those_who_may_not_be_asked_yet() -> None:
    """While an account is held back, its projects are not listed for baselines either."""
    play = Play(4, limits=(Concurrency(1),), wait=False)
    play.turn()
    play.answer(Verdict.THROTTLED, retry_after=100.0)
    looks = play.looks
    play.wait(99.0)
    assert play.looks == looks
    play.wait(15.0)
    assert len(play.asked) == 2


def test_a_throttled_look_at_one_cluster_gives_it_up_never() -> None:
    """A detail that is throttled is read later, as often as it takes; it is no fault of anybody."""
    play = Play(1, limits=(Concurrency(1),))
    throttled = ErrorInfo(error_class="throttled", message="slow down", status=429)
    del play.states["c0"]
    for _ in range(3 * MOST_TRIES):
        for command in play.campaign.due(play.now):
            match command:
                case Record(event=event):
                    play.apply(event)
                case Look():
                    play.campaign.observe("p0", {}, play.now, play.now)
                case LookAt():
                    play.campaign.fail_to_observe_one(0, throttled, play.now, 7.0)
                case _:
                    pytest.fail("it cannot start without a baseline")
        play.now += 8.0
    assert play.outcome() is None


def test_throttling_without_a_word_backs_off() -> None:
    """Without being told how long, the waits double."""
    play = Play()
    play.turn()
    waits = []
    for _ in range(4):
        answered_at = play.now
        play.answer(Verdict.THROTTLED)
        play.wait(20.0)
        waits.append(play.asked[-1].at - answered_at)
    assert len(play.asked) == 5
    assert all(
        least <= wait <= 1.1 * least for least, wait in zip((1, 2, 4, 8), waits, strict=True)
    )


def test_a_busy_answer_is_tried_again_and_then_skipped() -> None:
    """CSS.0011 on an idle cluster is tried some times; if it stays, the target is skipped."""
    play = Play()
    play.turn()
    for _ in range(MOST_TRIES):
        assert play.outcome() is None
        play.answer(Verdict.BUSY, error=ERROR)
        play.wait(60.0)
    assert play.outcome() is Outcome.SKIPPED
    assert play.ended().reason == "busy"
    assert len(play.asked) == MOST_TRIES


def test_a_connection_never_made_is_tried_again_and_then_refused() -> None:
    """No connection means that nothing was asked: a few more tries, then refused with the error."""
    play = Play()
    play.turn()
    for _ in range(MOST_TRIES):
        play.answer(Verdict.UNSENT, error=ERROR)
        play.wait(60.0)
    assert play.outcome() is Outcome.REFUSED
    assert len(play.asked) == MOST_TRIES


def test_a_refused_credential_stops_the_run() -> None:
    """A 401 refuses the target and stops everything: no key is tried until it locks."""
    play = Play(20, limits=(Concurrency(1),))
    play.turn()
    play.answer(Verdict.UNAUTHORIZED, error=ERROR)
    assert play.outcome() is Outcome.REFUSED
    assert play.is_over()
    assert len(play.asked) == 1


def test_a_refused_credential_stops_only_its_own_targets() -> None:
    """A 401 leaves the other credential's targets going; at the end the run is stopped."""
    accounts = {"p0": "old", "p1": "new"}
    play = Play(6, projects=2, accounts=accounts, limits=(Concurrency(1),), wait=False)
    play.turn()
    play.answer(Verdict.UNAUTHORIZED, error=ERROR)
    for target in (1, 3, 5):
        play.answer(target=target)
    assert [event.target for event in play.asked] == [0, 1, 3, 5]
    assert play.is_over()
    assert play.campaign.stopping is not None
    assert play.campaign.stopping.reason == "credential refused: old: no"
    assert play.campaign.counts()[Outcome.NOT_STARTED] == 2


def test_who_is_under_way_with_a_good_credential_is_not_stopped() -> None:
    """A refused credential stops nobody else's restart that was granted, or has to come again."""
    accounts = {"p0": "old", "p1": "new"}
    play = Play(4, projects=2, accounts=accounts, limits=(Concurrency(4),), wait=False)
    play.turn()
    play.answer(Verdict.UNAUTHORIZED, target=0, error=ERROR)
    play.answer(Verdict.UNAUTHORIZED, target=2, error=ERROR)
    play.answer(target=1)
    assert play.campaign.stopping is None
    play.answer(Verdict.THROTTLED, target=3, retry_after=1.0)
    play.wait(2.0)
    play.answer(target=3)
    assert play.campaign.counts()[Outcome.ACCEPTED] == 2
    assert play.is_over()


def test_a_look_that_is_not_authorized_asks_for_nothing_with_that_credential() -> None:
    """A 401 on a look is the credential's, so nothing starts and nothing is called refused."""
    play = Play(3)
    play.blinding = ErrorInfo(error_class="unauthorized", message="bad key", status=401)
    play.turn()
    play.wait(1.0)
    assert play.looks == 1
    assert play.is_over()
    assert play.campaign.counts()[Outcome.NOT_STARTED] == 3


def test_a_new_runner_tries_every_credential_again() -> None:
    """Whoever takes up the run brings credentials of their own, so old refusals are forgotten."""
    play = Play(2, limits=(Concurrency(1),))
    play.turn()
    play.answer(Verdict.UNAUTHORIZED, error=ERROR)
    resumed = RunResumed(at=play.now, by="ana")
    again = Play(2, limits=(Concurrency(1),), history=[*play.events, resumed])
    again.now = play.now
    again.apply(
        RunnerStarted(at=play.now, owner="ana", host="h", pid=1, wall_offset=0.0, version="1")
    )
    again.turn()
    assert [event.target for event in again.asked] == [1]


def test_a_lost_answer_seen_busy_is_accepted_without_a_job() -> None:
    """No answer, but the cluster is seen to restart: it is followed like any other."""
    play = Play()
    play.turn()
    play.answer(Verdict.LOST, error=ERROR)
    play.see(BUSY)
    play.see(IDLE, within=10.0)
    assert play.outcome() is Outcome.RESTARTED
    assert len(play.asked) == 1


def test_a_lost_answer_is_repeated_only_after_all_of_confirm_within() -> None:
    """Only a cluster exactly at its baseline for all of `confirm_within` is asked again."""
    play = Play()
    play.turn()
    play.answer(Verdict.LOST, error=ERROR)
    play.wait(9.9)
    assert len(play.asked) == 1
    play.wait(1.0)
    assert [event.attempt for event in play.asked] == [1, 2]
    assert play.asked[0].request_id != play.asked[1].request_id
    play.restart()
    assert play.outcome() is Outcome.RESTARTED


def test_a_second_lost_answer_is_unknown() -> None:
    """After `max_reissues` repeats without an answer nobody knows, and says so."""
    play = Play()
    play.turn()
    for _ in range(2):
        play.answer(Verdict.LOST, error=ERROR)
        play.wait(11.0)
    assert len(play.asked) == 2
    assert play.outcome() is Outcome.UNKNOWN


def test_no_reissue_means_unknown_at_once() -> None:
    """With `max_reissues = 0` a lost answer is never followed by a second call."""
    play = Play(max_reissues=0)
    play.turn()
    play.answer(Verdict.LOST, error=ERROR)
    play.wait(11.0)
    assert play.outcome() is Outcome.UNKNOWN
    assert len(play.asked) == 1


def test_anything_that_moved_forbids_a_repeat() -> None:
    """If the cluster changed at all without a restart seen, the call is not repeated: unknown."""
    play = Play()
    play.turn()
    play.answer(Verdict.LOST, error=ERROR)
    moved = ClusterState(status="200", instances=IDLE.instances, updated="2026-11-23T01:00:00")
    play.see(moved, within=5.0)
    play.see(IDLE, within=10.0)
    assert play.outcome() is Outcome.UNKNOWN
    assert len(play.asked) == 1


def test_busy_after_a_proof_is_unknown_and_not_skipped() -> None:
    """A call proved not to have begun may still begin late: a busy cluster is unknown then."""
    play = Play()
    play.turn()
    play.answer(Verdict.LOST, error=ERROR)
    play.wait(9.9)
    play.campaign.lanes.door("p0").shut_until = play.now + 15.0
    play.wait(1.0)
    assert len(play.asked) == 1
    play.see(BUSY, within=20.0)
    assert play.outcome() is Outcome.UNKNOWN
    assert len(play.asked) == 1


def test_a_call_is_watched_while_it_is_under_way() -> None:
    """A restart that shows before its answer comes is seen, though the answer is lost later."""
    play = Play(2)
    play.turn()
    play.see(BUSY, within=3.0)
    play.see(IDLE, within=20.0)
    play.answer(Verdict.LOST, error=ERROR)
    play.wait(30.0)
    assert play.outcome() is Outcome.RESTARTED
    assert [event.target for event in play.asked].count(0) == 1


def test_a_break_in_the_watch_forbids_a_repeat() -> None:
    """If nobody looked for a while after the call, a restart may have come and gone: unknown."""
    play = Play()
    play.turn()
    play.now += 30.0
    play.answer(Verdict.LOST, error=ERROR)
    play.wait(15.0)
    assert play.outcome() is Outcome.UNKNOWN
    assert "not watched all the time" in (play.ended().reason or "")
    assert len(play.asked) == 1


def test_a_call_of_a_lost_host_is_never_repeated() -> None:
    """What another host may have asked, or may still ask, cannot be disproved from here."""
    play = Play()
    play.turn()
    error = ErrorInfo(error_class=TAKEN_OVER, message="the host was lost")
    play.answer(Verdict.LOST, error=error)
    play.wait(15.0)
    assert play.outcome() is Outcome.UNKNOWN
    assert len(play.asked) == 1


def test_a_person_can_resolve_an_unknown() -> None:
    """What a person says of an unknown is its outcome, and frees its slot."""
    play = Play(2, limits=(Concurrency(1),), max_reissues=0, max_failures=Portion(2))
    play.turn()
    play.answer(Verdict.LOST, error=ERROR)
    play.wait(12.0)
    assert play.outcome() is Outcome.UNKNOWN
    assert len(play.asked) == 1
    play.apply(
        TargetResolved(at=play.now, target=0, outcome=Outcome.RESTARTED, by="ana", reason="seen")
    )
    play.turn()
    assert play.outcome() is Outcome.RESTARTED
    assert [event.target for event in play.asked] == [0, 1]


def test_evidence_that_comes_late_changes_nothing() -> None:
    """An answer of a runner that had lost the run is evidence for the report, and no more."""
    play = Play()
    play.turn()
    play.restart()
    late = Answer(verdict=Verdict.ACCEPTED, sent_at=0, answered_at=0, job_ids=("late",))
    play.apply(AnswerArrivedLate(at=play.now, target=0, attempt=1, answer=late))
    assert play.outcome() is Outcome.RESTARTED


def test_limits_may_change_between_two_lives_of_a_run() -> None:
    """After a change of limits the new ones count, for everything that is still to start."""
    play = Play(6, limits=(Concurrency(3),))
    play.turn()
    assert len(play.asked) == 3
    change = LimitsChanged(
        at=play.now, limits=("1", "2/60s"), max_failures="50%", by="ana", is_looser=False
    )
    again = Play(6, limits=(Concurrency(3),), history=[*play.events, change])
    again.now = play.now
    again.turn()
    assert again.asked == []
    assert again.campaign.allowed == 3


def test_a_paused_run_starts_nothing_and_opens_no_wave() -> None:
    """While paused nothing starts, what runs comes to its end, and the next wave waits."""
    play = Play(3, canary=1, limits=(Concurrency(1),))
    play.turn()
    play.apply(RunPaused(at=play.now, by="ana"))
    play.restart()
    play.wait(500.0)
    assert play.outcome() is Outcome.RESTARTED
    assert [event.target for event in play.asked] == [0]
    assert not play.is_over()
    assert play.campaign.wake_at(play.now) == math.inf
    play.apply(RunContinued(at=play.now, by="ana"))
    play.turn()
    play.wait(2.0)
    assert [event.target for event in play.asked] == [0, 1]


def test_a_wave_waits_for_a_word_where_that_is_wanted() -> None:
    """Before each wave but the first the run pauses itself, once, and says how the last went."""
    play = Play(3, canary=1, soak=5.0, confirm_waves=True)
    play.turn()
    play.restart()
    play.wait(100.0)
    [paused] = [event for event in play.events if isinstance(event, RunPaused)]
    assert paused.wave == 1
    assert paused.by == "orchestrator"
    assert paused.reason == (
        "wave canary is done: 1 restarted; wave 2 of 2 (rest, 2) waits for a word"
    )
    assert [event.target for event in play.asked] == [0]
    again = Play(3, canary=1, soak=5.0, confirm_waves=True, history=play.events)
    again.now = play.now
    again.turn()
    assert again.asked == again.events == []
    again.apply(RunContinued(at=again.now, by="ana"))
    again.turn()
    assert [event.target for event in again.asked] == [1, 2]


def test_no_word_is_wanted_for_a_wave_without_targets() -> None:
    """Where everybody of the next wave has ended, there is nothing to ask."""
    play = Play(2, canary=1, confirm_waves=True)
    play.turn()
    play.apply(TargetEnded(at=play.now, target=1, outcome=Outcome.SKIPPED, reason="x", asked=True))
    play.restart()
    assert play.is_over()


def test_a_call_that_has_not_left_meets_the_pause() -> None:
    """Right before each call it is asked once more whether it may be made."""
    play = Play(1)
    play.turn()
    [asked] = play.asked
    assert play.campaign.objection(asked, play.now) is None
    play.apply(RunPaused(at=play.now, by="ana", reason="alarm"))
    assert play.campaign.objection(asked, play.now) == "paused by ana: alarm"


def test_other_limits_hold_from_the_moment_they_are_given() -> None:
    """Nothing starts until every start is counted anew; then the new limits hold for all."""
    play = Play(20, limits=(Concurrency(10),))
    play.turn()
    assert len(play.asked) == 10
    change = LimitsChanged(
        at=play.now, limits=("4", "2/60s"), max_failures="1", by="ana", is_looser=True
    )
    play.apply(change)
    for target in range(8):
        play.answer(Verdict.REFUSED if target % 2 else Verdict.BUSY, target, error=ERROR)
    assert len(play.asked) == 10
    horizons = [play.campaign.uncounted]
    own = [track.start for track in play.campaign.tracks.values()]
    play.campaign.count_anew([*own, foreign(play)], play.now)
    assert [*horizons, play.campaign.uncounted] == [60.0, None]
    assert play.campaign.allowed == 1
    [slots, rate] = play.campaign.limits.fleet_gates()
    assert (slots.taken(play.now), rate.taken(play.now)) == (3, 3)
    play.turn()
    assert len(play.asked) == 10


def test_those_who_wait_keep_their_turn_under_other_limits() -> None:
    """The order of the plan, and a wait that was told, survive a change of limits."""
    play = Play(6, limits=(Concurrency(1),))
    play.turn()
    play.answer(Verdict.BUSY, error=ERROR)
    assert [event.target for event in play.asked] == [0, 1]
    play.apply(
        LimitsChanged(at=play.now, limits=("3",), max_failures="0", by="ana", is_looser=True)
    )
    play.campaign.count_anew([track.start for track in play.campaign.tracks.values()], play.now)
    play.turn()
    assert [event.target for event in play.asked] == [0, 1, 2, 3]
    play.wait(3.0)
    play.restart(target=1)
    assert [event.target for event in play.asked][:5] == [0, 1, 2, 3, 0]


def test_another_window_holds_from_the_moment_it_is_given() -> None:
    """A window that opens later holds back who waits; one that closes earlier stops the run."""
    play = Play(3, limits=(Concurrency(1),), window=Window(cutoff=1_900.0))
    play.turn()
    play.apply(WindowChanged(at=play.now, by="ana", not_before=1_200.0, cutoff=1_900.0))
    play.restart(0)
    play.wait(200.0)
    assert [(event.target, event.at) for event in play.asked] == [(0, 1_000.0), (1, 1_200.0)]
    play.apply(WindowChanged(at=play.now, by="ana", cutoff=play.now + 1.0))
    play.restart(1)
    assert play.is_over()
    assert play.stop_reason() == "cutoff: nothing starts after 1970-01-01T00:20:13Z"


def test_a_later_deadline_takes_in_who_would_have_been_late() -> None:
    """Who was put aside because the deadline was too near waits again when it is moved."""
    play = Play(
        4, limits=(Concurrency(1),), expected_duration=60.0, kinds={1: "rolling"},
        window=Window(deadline=1_150.0),
    )  # fmt: skip
    play.turn()
    play.restart(0)
    assert [event.target for event in play.asked] == [0, 2]
    assert play.campaign.late == 1
    play.apply(WindowChanged(at=play.now, by="ana", deadline=3_000.0, is_looser=True))
    assert play.campaign.late == 0
    play.restart(2)
    assert [event.target for event in play.asked] == [0, 2, 1]
    play.restart(1)
    play.restart(3)
    assert play.is_over()
    assert play.stop_reason() is None


def limit_down(play: Play, *most: str) -> None:
    limits = tuple(map(str, play.campaign.policy.limits))
    play.apply(
        LimitsChanged(
            at=play.now, limits=limits, max_failures="0", by="ana", is_looser=False,
            max_unavailable=most,
        )
    )  # fmt: skip
    play.campaign.count_anew([track.start for track in play.campaign.tracks.values()], play.now)
    play.turn()


def test_who_may_be_down_can_be_limited_on_the_way() -> None:
    """Nothing starts before each project was looked at; then those that are down count, too."""
    play = Play(9, projects=3, limits=(Concurrency(1),))
    play.turn()
    play.answer()
    play.see(BUSY)
    play.states["c5"] = play.states["c8"] = ClusterState(status="303")
    play.wait(40.0)
    play.blinding = ErrorInfo(error_class="server_error", message="x", status=500)
    play.blinded = "p1"
    limit_down(play, "3")
    [_, down] = play.campaign.limits.fleet_gates()
    assert (down.down, down.taken(play.now)) == (5, 6)
    play.see(IDLE, within=10.0)
    assert play.outcome() is Outcome.RESTARTED
    assert [event.target for event in play.asked] == [0]
    play.blinding = None
    play.wait(12.0)
    assert [event.target for event in play.asked] == [0, 1]
    [_, down] = play.campaign.limits.fleet_gates()
    assert (down.down, down.taken(play.now)) == (2, 3)
    play.states["c7"] = ClusterState(status="303")
    play.wait(12.0)
    play.restart(1)
    assert len(play.asked) == 2
    limit_down(play)
    assert play.campaign.health is None
    assert len(play.asked) == 3


def foreign(play: Play) -> Start:
    return Start(
        run_id="other", target=0, attempt=1, project_id="p0", cluster_id="x", region=None,
        labels=(), granted_at=play.now,
    )  # fmt: skip


def test_the_rate_of_a_lost_answer_is_held_until_it_is_certain() -> None:
    """A call that may be under way occupies the rate; T counts from when it is known to be over."""
    play = Play(2, limits=(Rate(1, 30.0),), max_reissues=0, max_failures=Portion(1))
    play.turn()
    lost_at = play.now
    play.answer(Verdict.LOST, error=ERROR)
    play.wait(100.0)
    assert [event.target for event in play.asked] == [0, 1]
    assert play.asked[1].at > lost_at + 10.0 + 30.0


def test_looks_begun_before_the_call_prove_nothing() -> None:
    """A list that was asked for before the intent does not count as having seen anything."""
    play = Play()
    play.turn()
    play.answer()
    play.campaign.observe("p0", {"c0": BUSY}, play.now - 1.0, play.now)
    assert play.turn() == []


def test_without_waiting_an_answer_is_the_end() -> None:
    """With `--no-wait` an accepted call ends the target, and its slot is free at once."""
    play = Play(3, limits=(Concurrency(1),), wait=False)
    play.turn()
    for target in range(3):
        play.answer(target=target)
    assert play.campaign.counts()[Outcome.ACCEPTED] == 3
    assert play.is_over()


def test_without_waiting_a_lost_answer_is_still_looked_after() -> None:
    """Even with `--no-wait` a lost answer is confirmed by looking."""
    play = Play(wait=False)
    play.turn()
    play.answer(Verdict.LOST, error=ERROR)
    play.see(BUSY)
    assert play.outcome() is Outcome.ACCEPTED


def test_a_withdrawn_intent_gives_everything_back() -> None:
    """An intent that was not carried out leaves its target waiting, and every place free."""
    play = Play(limits=(Rate(1, 1000.0),))
    play.turn()
    play.apply(RestartWithdrawn(at=play.now, target=0, attempt=1, reason="late"))
    play.turn()
    assert [event.attempt for event in play.asked] == [1, 2]


# ------------------------------------------------------------------------------------ stopping


def test_one_failure_more_than_allowed_stops_the_run() -> None:
    """`max_failures` N allows N; the next one stops, and what runs is followed to its end."""
    play = Play(4, limits=(Concurrency(2),), max_failures=Portion(1))
    play.turn()
    play.restart(0, end=DOWN)
    assert play.stop_reason() is None
    assert {event.target for event in play.asked} == {0, 1, 2}
    play.answer(target=2)
    play.see(BUSY, 2)
    play.restart(1, end=DOWN)
    assert "2 failed, 1 allowed" in (play.stop_reason() or "")
    assert not play.is_over()
    play.see(IDLE, 2, within=10)
    assert play.outcome(2) is Outcome.RESTARTED
    assert play.is_over()
    assert play.campaign.counts()[Outcome.NOT_STARTED] == 1


def test_strict_mode_shrinks_concurrency_with_each_failure() -> None:
    """In strict mode no more are in progress than failures are left, and one."""
    play = Play(
        6, limits=(Concurrency(3),), max_failures=Portion(2), failure_mode=FailureMode.STRICT
    )
    play.turn()
    assert len(play.asked) == 3
    play.restart(0, end=DOWN)
    assert len(play.asked) == 3
    play.restart(1, end=DOWN)
    assert len(play.asked) == 3
    play.restart(2)
    assert len(play.asked) == 4


def test_a_failure_in_the_canary_stops_whatever_is_allowed() -> None:
    """The canary is there to fail alone: one failure in it stops the run."""
    play = Play(5, canary=1, max_failures=Portion(5))
    play.turn()
    play.restart(0, end=DOWN)
    assert "canary" in (play.stop_reason() or "")
    assert len(play.asked) == 1


def test_the_same_refusal_many_times_in_a_row_stops_the_run() -> None:
    """Five targets refused alike in a row mean that the fault is ours; an acceptance breaks it."""
    play = Play(20, limits=(Concurrency(1),))
    play.turn()
    for target in range(SAME_REFUSALS - 1):
        play.answer(Verdict.REFUSED, target, error=ERROR)
    play.restart(SAME_REFUSALS - 1)
    assert play.stop_reason() is None
    for target in range(SAME_REFUSALS, 2 * SAME_REFUSALS):
        play.answer(Verdict.REFUSED, target, error=ERROR)
    assert "correlated" in (play.stop_reason() or "")
    assert "CSS.0001" in (play.stop_reason() or "")


def test_a_stopped_run_starts_nothing_and_ends_when_nothing_runs() -> None:
    """After a stop nothing new starts, and no wave opens."""
    play = Play(3, limits=(Concurrency(1),))
    play.turn()
    play.apply(RunStopping(at=play.now, reason="interrupted", by="SIGINT"))
    play.restart(0)
    assert play.outcome() is Outcome.RESTARTED
    assert len(play.asked) == 1
    assert play.is_over()


def test_an_abort_follows_nothing() -> None:
    """After an abort only answers that are on their way are waited for."""
    play = Play(2)
    play.turn()
    play.answer(target=0)
    play.apply(RunAborted(at=play.now, by="SIGINT"))
    assert not play.is_over()
    play.answer(target=1)
    assert play.is_over()
    assert play.outcome(0) is None


# --------------------------------------------------------------------------------------- waves


def test_a_wave_opens_when_the_one_before_has_ended_and_soaked() -> None:
    """Nothing of the next wave starts before the soak is over, and was looked at to its end."""
    play = Play(3, canary=1, soak=30.0)
    play.turn()
    play.restart(0)
    assert play.outcome() is Outcome.RESTARTED
    soak_ends_at = play.campaign.soak_ends_at
    assert soak_ends_at is not None
    play.wait(soak_ends_at - play.now - 0.1)
    assert len(play.asked) == 1
    play.wait(0.2)
    assert {event.target for event in play.asked} == {0, 1, 2}


def test_turning_bad_in_the_soak_is_a_failure() -> None:
    """A cluster of the canary that goes down during the soak counts as failed and stops the run."""
    play = Play(3, canary=1, soak=30.0, max_failures=Portion(3))
    play.turn()
    play.restart(0)
    play.see(DOWN, within=10.0)
    assert play.outcome() is Outcome.FAILED
    assert any(isinstance(event, TargetRelapsed) for event in play.events)
    assert play.stop_reason() is not None
    assert len(play.asked) == 1


def test_a_wave_that_touched_nothing_does_not_soak() -> None:
    """If all of a wave was skipped there is nothing to watch, and the next opens at once."""
    play = Play(3, canary=1, soak=30.0)
    play.states["c0"] = BUSY
    play.turn()
    assert {event.target for event in play.asked} == {1, 2}


# ------------------------------------------------------------------------------ others, replay


def other(start: Start | None = None, **change: object) -> Start:
    row = start or Start(
        run_id="other", target=7, attempt=1, project_id="p0", cluster_id="c0", region=None,
        labels=(), granted_at=990.0,
    )  # fmt: skip
    return row.after(StartChange(**change))  # type: ignore[arg-type]


def test_starts_of_other_runs_count() -> None:
    """A rate and a slot taken by another run are taken for this one too."""
    play = Play(2, limits=(Concurrency(1),))
    elsewhere = other(Start(run_id="o", target=1, attempt=1, project_id="x", cluster_id="y",
                            region=None, labels=(), granted_at=0.0))  # fmt: skip
    play.campaign.take_note_of([elsewhere], play.now)
    play.turn()
    assert not play.asked
    play.campaign.take_note_of([other(elsewhere, settled_at=1.0, ended_at=play.now)], play.now)
    play.turn()
    assert len(play.asked) == 1


def test_a_cluster_that_another_run_restarts_is_left_alone() -> None:
    """A cluster is in at most one run: this one waits until the other has done with it."""
    play = Play(2)
    play.campaign.take_note_of([other()], play.now)
    play.wait(10.0)
    assert [event.target for event in play.asked] == [1]
    play.campaign.take_note_of([other(settled_at=1.0, ended_at=play.now)], play.now)
    play.wait(5.0)
    assert {event.target for event in play.asked} == {0, 1}


def test_a_cluster_that_another_run_never_settles_is_skipped() -> None:
    """Nobody waits for ever for a run that died: after a deadline the target is skipped."""
    play = Play(2)
    play.campaign.take_note_of([other()], play.now)
    play.turn()
    play.restart(1)
    play.wait(120.0)
    assert play.outcome(0) is Outcome.SKIPPED
    assert "run other" in (play.ended(0).reason or "")
    assert not play.ended(0).asked


def test_a_replayed_campaign_goes_on_where_it_was() -> None:
    """After every prefix of a run's events, a replay asks for nothing that was asked before."""
    play = Play(
        6, projects=2, canary=1, soak=4.0, limits=(Concurrency(2),), max_failures=Portion(3)
    )
    play.turn()
    play.restart(0)
    play.wait(20.0)
    play.answer(Verdict.LOST, 1, error=ERROR)
    play.restart(2)
    play.wait(12.0)
    history = list(play.events)
    assert len(history) > 15
    for length in range(len(history) + 1):
        kept = history[:length]
        again = Play(
            6, projects=2, canary=1, soak=4.0, limits=(Concurrency(2),), max_failures=Portion(3),
            history=kept,
        )  # fmt: skip
        again.now = play.now
        asked = {(e.target, e.attempt) for e in kept if isinstance(e, RestartRequested)}
        open_targets = {track.start.target for track in again.campaign.tracks.values()}
        again.turn()
        for event in again.asked:
            assert (event.target, event.attempt) not in asked
            proved = any(isinstance(e, RestartDisproved) for e in again.events)
            assert event.target not in open_targets or proved
        assert len(again.campaign.tracks) <= 2


def test_a_resumed_run_acknowledges_failures_and_takes_up_what_it_is_told() -> None:
    """After a stop, `resume` goes on with what was not started, and with the outcomes named."""
    play = Play(3, limits=(Concurrency(1),))
    play.turn()
    play.restart(0, end=DOWN)
    assert play.is_over()
    history = [*play.events, RunResumed(at=play.now, by="ana", again=(Outcome.FAILED,))]
    again = Play(3, limits=(Concurrency(1),), history=history)
    again.now = play.now
    again.turn()
    assert [(e.target, e.attempt) for e in again.asked] == [(0, 2)]
    again.restart(0)
    again.restart(1)
    again.restart(2)
    assert again.campaign.counts()[Outcome.RESTARTED] == 3
    assert again.is_over()


def test_what_cannot_happen_is_a_bug() -> None:
    """Events that do not fit the phase, or the state of the run, raise and change nothing."""
    play = Play()
    play.apply(WaveOpened(at=play.now, wave=0))
    with pytest.raises(ImpossibleEventError, match=r"restart\.answered cannot happen to p0/c0"):
        play.apply(
            RestartAnswered(
                at=play.now, target=0, attempt=1,
                answer=Answer(verdict=Verdict.ACCEPTED, sent_at=0, answered_at=0),
            )
        )  # fmt: skip
    with pytest.raises(ImpossibleEventError, match="before a campaign goes live"):
        play.apply(RunResumed(at=play.now, by="ana"))


def test_a_project_that_was_seen_outlasts_an_outage() -> None:
    """Where looks worked before, minutes of errors put targets off; they do not refuse them."""
    play = Play(2, limits=(Rate(1, 60.0),), wait=False)
    play.turn()
    play.answer()
    play.blinding = ErrorInfo(error_class="server_error", message="502", status=502)
    play.wait(300.0)
    assert len(play.asked) == 1
    assert not play.is_over()
    play.blinding = None
    play.wait(70.0)
    assert [event.target for event in play.asked] == [0, 1]


def test_a_project_that_cannot_be_seen_is_given_up_in_the_end() -> None:
    """Never seen: after five looks; seen before: when nothing was seen of it for ten minutes."""
    never = Play(1)
    never.blinding = ErrorInfo(error_class="server_error", message="502", status=502)
    never.turn()
    never.wait(20.0)
    assert never.outcome() is Outcome.REFUSED
    seen = Play(2, limits=(Rate(1, 60.0),), wait=False)
    seen.turn()
    seen.answer()
    seen.blinding = never.blinding
    seen.wait(BLIND_FOR + 70.0)
    assert seen.outcome(1) is Outcome.REFUSED


# ---------------------------------------------------------------------------------------- window


def started(at: float, wall_offset: float = 0.0) -> RunnerStarted:
    return RunnerStarted(at=at, owner="ana", host="h", pid=1, wall_offset=wall_offset, version="1")


def test_nothing_starts_before_its_time() -> None:
    """Before `not_before`, by the runner's wall clock, no wave opens and nobody is looked at."""
    play = Play(window=Window(not_before=5_100.0))
    play.apply(started(play.now, wall_offset=4_000.0))
    play.turn()
    assert (play.looks, play.asked) == (0, [])
    hold = play.campaign.hold(play.now)
    assert hold is not None
    assert hold.until == pytest.approx(1_100.0)
    play.wait(99.0)
    assert play.asked == []
    play.wait(1.0)
    assert [event.at for event in play.asked] == [1_100.0]


def test_nothing_starts_at_the_cutoff_and_what_runs_is_followed() -> None:
    """At the cutoff the run stops; a restart under way still comes to its end."""
    play = Play(2, limits=(Concurrency(1),), window=Window(cutoff=1_050.0))
    play.turn()
    play.answer()
    play.see(BUSY)
    play.wait(60.0)
    assert play.campaign.stopping is not None
    assert play.campaign.stopping.reason == "cutoff: nothing starts after 1970-01-01T00:17:30Z"
    assert play.campaign.stopping.at == 1_050.0
    play.see(IDLE, within=10.0)
    assert play.outcome() is Outcome.RESTARTED
    assert play.campaign.counts()[Outcome.NOT_STARTED] == 1


def test_a_cutoff_after_the_last_start_stops_nothing() -> None:
    """When nobody waits any more, the cutoff passes unnoticed."""
    play = Play(1, window=Window(cutoff=1_010.0))
    play.turn()
    play.answer()
    play.see(BUSY)
    play.wait(30.0)
    play.see(IDLE, within=10.0)
    assert play.campaign.stopping is None
    assert play.is_over()


def test_nothing_starts_that_would_not_be_done_by_the_deadline() -> None:
    """With 300 s expected, the last start is 300 s before the deadline; then the run stops."""
    play = Play(3, limits=(Rate(1, 200.0),), window=Window(deadline=1_600.0), wait=False)
    play.turn()
    play.answer()
    play.wait(201.0)
    play.answer(target=1)
    play.wait(400.0)
    assert [event.at for event in play.asked] == [1_000.0, pytest.approx(1_200.25)]
    assert play.campaign.stopping is not None
    assert play.campaign.stopping.at == pytest.approx(1_300.0)
    assert "a restart is expected to take 5m" in play.campaign.stopping.reason


def test_what_the_journal_knows_of_durations_counts() -> None:
    """The 95th percentile of finished restarts of the kind takes the place of the usual time."""
    known = {"restart": [30.0] * 19 + [900.0]}
    play = Play(2, limits=(Rate(1, 200.0),), window=Window(deadline=1_240.0), durations=known,
                wait=False)  # fmt: skip
    play.turn()
    play.answer()
    play.wait(250.0)
    assert [event.at for event in play.asked] == [1_000.0, pytest.approx(1_200.25)]


def test_a_slow_kind_is_late_while_a_quick_one_goes_on() -> None:
    """Each target is judged by its own kind; the run stops when all that waits is late."""
    kinds = {0: "rolling", 1: "restart"}
    play = Play(2, kinds=kinds, limits=(Concurrency(1),), window=Window(deadline=1_100.0),
                durations={"rolling": [500.0], "restart": [20.0]}, wait=False)  # fmt: skip
    play.turn()
    assert [event.target for event in play.asked] == [1]
    play.answer(target=1)
    assert play.is_over()
    assert play.campaign.stopping is not None
    assert play.campaign.counts()[Outcome.NOT_STARTED] == 1


def test_a_call_does_not_leave_after_the_window() -> None:
    """Right before the call the window is looked at once more, whatever the intent says."""
    play = Play(window=Window(cutoff=1_005.0))
    play.turn()
    (asked,) = play.asked
    assert play.campaign.objection(asked, 1_004.0) is None
    assert play.campaign.objection(asked, 1_005.0) == "the window was over before it was sent"


def test_a_resume_may_bring_another_window() -> None:
    """The last word on the window counts, not that of the plan."""
    play = Play(window=Window(cutoff=900.0))
    changed = WindowChanged(at=play.now, by="ana", not_before=1_010.0)
    again = Play(window=Window(cutoff=900.0), history=[changed])
    again.turn()
    again.wait(10.0)
    assert [event.at for event in again.asked] == [1_010.0]


def test_a_restart_is_looked_at_no_more_than_it_takes() -> None:
    """Its baseline, its begin and its end once each, and twice while it proves to be stable."""
    play = Play(1, same_until=lambda _: 1031.0)
    play.turn()
    play.answer()
    play.see(BUSY)
    play.wait(28.0)
    play.see(IDLE, within=40.0)
    assert play.outcome() is Outcome.RESTARTED
    assert play.looks == 5


def test_looks_that_would_show_nothing_new_can_be_spared() -> None:
    """Who knows until when a cluster stays as it is looks then, in whole steps, and when proved."""
    knowing = Play(1, same_until=lambda _: 1031.0)
    looking = Play(1)
    for play in (knowing, looking):
        play.turn()
        play.answer()
        play.see(BUSY)
        play.wait(28.0)
        play.see(IDLE, within=20.0)
        assert play.outcome() is Outcome.RESTARTED
    assert knowing.looks < looking.looks / 2
    assert abs(knowing.ended().at - looking.ended().at) <= 2.0


def test_a_cluster_that_never_changes_is_looked_at_by_its_deadline() -> None:
    """Knowing that nothing will change is no reason not to find out that it was too long."""
    play = Play(1, same_until=lambda _: math.inf, max_failures=Portion(1))
    play.turn()
    play.answer()
    play.see(BUSY)
    play.wait(110.0)
    assert play.outcome() is Outcome.FAILED


# ------------------------------------------------------------------------------------------ gate


def gated(count: int = 1, *, says: str | None = None, **options: Any) -> Play:
    play = Play(count, gates=("ask",), gate_every=10.0, gate_timeout=2.0, **options)
    play.gate_says = says
    play.turn()
    return play


def test_nothing_starts_while_the_gate_is_closed() -> None:
    """A closed gate is asked again and again; each change of its mind is recorded once."""
    play = gated(says="2 alerts")
    play.wait(25.0)
    assert play.asked == []
    assert play.gate_asked == [1000.0, 1010.0, 1020.0]
    hold = play.campaign.hold(play.now)
    assert hold is not None
    assert hold.reason == "the gate is closed: 2 alerts"
    assert hold.until == 1030.0
    play.gate_says = None
    play.wait(5.0)
    assert [event.at for event in play.asked] == [1030.0]
    changes = [event for event in play.events if isinstance(event, GateClosed | GateOpened)]
    assert [type(event) for event in changes] == [GateClosed, GateOpened]


def test_the_gate_is_asked_before_each_wave_and_while_anything_waits() -> None:
    """A barrier needs an answer of its own; in a wave the answer is renewed while targets wait."""
    play = gated(3, canary=1, limits=(Concurrency(1),), wait=False)
    play.answer()
    assert play.gate_asked == [1000.0, 1000.0]
    play.wait(25.0)
    assert play.gate_asked[2:] == [1010.0, 1020.0]
    play.answer(target=1)
    play.answer(target=2)
    play.wait(50.0)
    assert len(play.gate_asked) == 4
    assert play.is_over()


def test_nobody_wakes_for_a_gate_that_nobody_waits_for() -> None:
    """While only the last restart runs, the moment to ask the gate again is no reason to wake."""
    play = gated()
    play.turn()
    play.answer()
    play.turn()
    play.now += 30.0
    play.turn()
    assert play.gate_asked == [1000.0]
    assert play.campaign.wake_at(play.now) > play.now


def test_a_gate_that_gives_no_answer_closes_with_its_last_one() -> None:
    """What it said counts until it is asked again, and for its timeout after that, not longer."""
    play = gated(4, limits=(Rate(1, 5.0),), wait=False)
    play.gate_answers = False
    for target in range(3):
        play.answer(target=target)
        play.wait(5.5)
    assert [event.at for event in play.asked] == [1000.0, 1005.25, 1010.75]
    assert play.campaign.hold(play.now) is not None


def test_an_answer_from_before_a_barrier_says_nothing_about_the_wave_behind_it() -> None:
    """Asked while the canary ran, answered after it: the gate is asked once more."""
    play = gated(2, canary=1, wait=False)
    play.gate_answers = False
    play.answer()
    assert play.gate_asked == [1000.0, 1000.0]
    play.now += 1.0
    play.campaign.hear_gate(None, 999.0, play.now)
    play.gate_answers = True
    play.turn()
    assert play.gate_asked[2:] == [1001.0]
    assert [event.at for event in play.asked] == [1000.0, 1001.0]


def test_a_call_does_not_leave_when_the_gate_has_closed_meanwhile() -> None:
    """The gate is looked at once more right before the call."""
    play = gated()
    (asked,) = play.asked
    assert play.campaign.objection(asked, play.now) is None
    play.campaign.hear_gate("disk full", play.now, play.now)
    assert play.campaign.objection(asked, play.now) == "the gate is closed: disk full"


# ---------------------------------------------------------------------------------------- health


def test_clusters_that_are_down_already_count_as_unavailable() -> None:
    """With 2 allowed and one down, one restart at a time goes on; nothing before all was seen."""
    play = Play(6, projects=3, limits=(Concurrency(10),), max_unavailable=(Unavailable(2),))
    play.states["c5"] = DOWN
    play.turn()
    assert play.looks == 3
    assert [event.target for event in play.asked] == [0]
    play.answer()
    play.see(BUSY)
    play.states["c5"] = IDLE
    play.wait(11.0)
    assert [event.target for event in play.asked] == [0, 1]


def test_what_is_more_than_allowed_holds_everything_until_it_recovers() -> None:
    """More down than allowed: nothing starts, however long; then it goes on by itself."""
    play = Play(4, projects=2, max_unavailable=(Unavailable(1),))
    play.states["c2"] = play.states["c3"] = DOWN
    play.turn()
    play.wait(120.0)
    assert play.asked == []
    play.states["c2"] = play.states["c3"] = IDLE
    play.wait(11.0)
    assert [event.target for event in play.asked] == [0]


def test_a_percentage_is_of_the_targets_of_each_value() -> None:
    """10 % of 20 targets in a project are 2; each project has its own."""
    play = Play(40, projects=2, limits=(Concurrency(30),),
                max_unavailable=(Unavailable(10, "project", is_percent=True),))  # fmt: skip
    play.turn()
    assert [event.target for event in play.asked] == [0, 1, 2, 3]


def test_what_cannot_be_seen_counts_as_down() -> None:
    """Looks that fail for long enough leave no room, until they succeed again."""
    play = Play(8, projects=2, limits=(Rate(1, 20.0),), max_unavailable=(Unavailable(3),),
                wait=False)  # fmt: skip
    play.turn()
    play.answer()
    play.blinding = ErrorInfo(error_class="throttled", message="slow down", status=429)
    play.blinded = "p1"
    play.wait(25.0)
    play.answer(target=2)
    assert [event.target for event in play.asked] == [0, 2]
    play.wait(61.0)
    assert len(play.asked) == 2
    play.blinding = None
    play.wait(11.0)
    assert len(play.asked) == 3


def test_restarting_what_is_down_needs_no_room() -> None:
    """A cluster that is down makes nothing more unavailable by its restart."""
    play = Play(3, max_unavailable=(Unavailable(1),), unhealthy=Unhealthy.RESTART)
    play.states["c1"] = play.states["c2"] = DOWN
    play.turn()
    assert [event.target for event in play.asked] == [1, 2]


@pytest.mark.parametrize("order", Order)
def test_who_is_down_goes_first_where_that_is_asked_for(order: Order) -> None:
    """`first` looks at every project of the wave before anybody goes, then takes the bad ones."""
    play = Play(
        6, projects=3, limits=(Concurrency(1),), unhealthy=Unhealthy.FIRST, wait=False, order=order
    )
    play.states["c4"] = play.states["c3"] = DOWN
    play.turn()
    for target in sorted(play.plan.waves[0].targets, key=lambda target: target not in {3, 4}):
        assert play.asked[-1].target == target
        play.answer(target=target)
    assert play.is_over()


def test_a_project_that_cannot_be_read_does_not_hold_up_who_goes_first() -> None:
    """When its looks are given up, the wave begins with what could be seen."""
    play = Play(2, unhealthy=Unhealthy.FIRST)
    play.blinding = ErrorInfo(error_class="forbidden", message="no", status=403)
    play.turn()
    assert play.is_over()
    assert play.outcome() is Outcome.REFUSED
