"""The picture: it fits, it says what is so, and it costs the same for any fleet."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import pytest

from orchestrator.campaign import Campaign
from orchestrator.commands import AskGate, Look, LookAt, Record, Restart
from orchestrator.limits import Concurrency, Limit, Rate, Start
from orchestrator.model import (
    Answer,
    ClusterState,
    Event,
    LimitsChanged,
    Outcome,
    RestartAnswered,
    RestartBegan,
    RestartDisproved,
    RestartWithdrawn,
    RunAborted,
    RunnerStarted,
    RunPaused,
    RunStopping,
    Target,
    TargetEnded,
    TargetRelapsed,
    TargetResolved,
    Verdict,
)
from orchestrator.plan import FailureMode, Policy, Portion, make_plan
from orchestrator.waits import waits
from orchestrator.watch.picture import (
    Line,
    Tally,
    Tone,
    phase_words,
    picture,
    state_lines,
    summary,
    target_words,
    time_left,
)
from orchestrator.wording import cells

READY = ClusterState(status="200", instances=(("n1", "200"),))


def wall(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def fleet(count: int, projects: int = 1, name: str | None = None) -> list[Target]:
    return [
        Target(project_id=f"{i % projects:032x}", cluster_id=f"{i:08x}-cluster", name=name)
        for i in range(count)
    ]


class Hand:
    """Drives a campaign by hand, as the engine does, and tells the tally."""

    def __init__(
        self,
        targets: list[Target],
        *limits: Limit,
        soak: float = 0.0,
        canary: int = 0,
        waves: tuple[str, ...] = (),
        policy: Policy | None = None,
        expected: Sequence[float] = (),
    ) -> None:
        policy = policy or Policy(limits=limits, max_failures=Portion(3), stable_for=0.0)
        plan = make_plan(targets, policy, canary=Portion(canary), soak=soak, waves=waves)
        self.campaign = Campaign("2026-11-23-7k3f", plan, expected=expected)
        self.tally = Tally(self.campaign)
        self.looks: list[str] = []
        self.events: list[Event] = []

    def tell(self, event: Event) -> None:
        self.events.append(event)
        self.campaign.apply(event)
        self.tally.saw(event)

    def turn(self, now: float) -> None:
        for command in self.campaign.due(now):
            match command:
                case Record(event=event):
                    self.tell(event)
                case Restart(event=event):
                    self.tell(event)
                case Look(project_id=project_id):
                    self.looks.append(project_id)
                case LookAt() | AskGate():
                    pass

    def see(self, now: float, states: Mapping[str, ClusterState] | None = None) -> None:
        """Answer every look that is open, then turn."""
        looks, self.looks = self.looks, []
        for project_id in looks:
            everything = {t.cluster_id: READY for t in self.campaign.plan.targets}
            self.campaign.observe(project_id, {**everything, **(states or {})}, now, now)
        self.turn(now)

    def start(self, now: float) -> None:
        self.turn(now)
        self.see(now)

    def answer(self, target: int, at: float, verdict: Verdict = Verdict.ACCEPTED) -> None:
        attempt = self.campaign.tracks[target].start.attempt
        answer = Answer(verdict=verdict, sent_at=at, answered_at=at)
        self.tell(RestartAnswered(at=at, target=target, attempt=attempt, answer=answer))

    def end(self, target: int, at: float, outcome: Outcome = Outcome.RESTARTED) -> None:
        self.tell(TargetEnded(at=at, target=target, outcome=outcome))

    def lines(self, now: float, width: int = 80, height: int = 24) -> list[str]:
        drawn = picture(self.campaign, now, tally=self.tally, wall=wall, width=width, height=height)
        return [str(line) for line in drawn]

    def text(self, now: float, width: int = 80, height: int = 24) -> str:
        return "\n".join(self.lines(now, width, height))

    def waits(self, now: float) -> list[str]:
        return [str(wait) for wait in waits(self.campaign, now)]

    def left(self, now: float) -> float | None:
        return time_left(self.campaign, now, self.tally)


def test_a_picture_tells_the_whole_story() -> None:
    """Run, wave, clock, counts, failures, limits, who runs and why others wait stand there."""
    hand = Hand(fleet(200, 12), Concurrency(10), Rate(20, 600.0), canary=1)
    hand.tell(RunnerStarted(at=0.0, owner="ana", host="b", pid=1, wall_offset=0.0, version="1"))
    hand.start(0.0)
    hand.end(0, 60.0)
    hand.start(60.0)
    hand.answer(1, 61.0)
    text = hand.text(90.0)
    assert "run 2026-11-23-7k3f" in text
    assert "wave 2 of 2: rest" in text
    assert "00:01:30Z" in text
    assert "restarted 1  failed 0  refused 0  unknown 0  skipped 0  running 10" in text
    assert "waiting 189 of 200" in text
    assert "failures 0 of 3 allowed" in text
    assert "limit 10 at once: 10 of 10 used, next when one ends" in text
    assert "limit 20/600s: 11 of 20 used" in text
    assert "waiting: 189 for 10 at once (next when one ends)" in text
    assert "running 10, oldest first" in text
    assert "00000000…/00000001…" in text
    assert "accepted" in text
    assert "30 s" in text


def test_a_full_rate_says_when_it_frees() -> None:
    """Whoever waits for a rate reads in how many seconds the next may start, never too few."""
    hand = Hand(fleet(5), Rate(2, 600.0))
    hand.start(0.0)
    hand.answer(0, 1.0)
    hand.answer(1, 1.0)
    assert hand.waits(558.5) == ["3 for 2/600s (next in 43 s)"]
    assert "limit 2/600s: 2 of 2 used, next in 43 s" in hand.text(558.5)


def test_a_rate_without_answers_does_not_promise_a_time() -> None:
    """While a start is unanswered, nobody can know when its place is free."""
    hand = Hand(fleet(5), Rate(2, 600.0))
    hand.start(0.0)
    assert hand.waits(10.0) == ["3 for 2/600s (next after an answer)"]


def test_two_full_limits_are_both_named() -> None:
    """What waits for two limits waits for both."""
    hand = Hand(fleet(5), Concurrency(2), Rate(2, 600.0))
    hand.start(0.0)
    hand.answer(0, 0.0)
    hand.answer(1, 0.0)
    (words,) = hand.waits(100.0)
    assert words.startswith("3 for 2/600s (next in ")
    assert words.endswith(") and 2 at once (next when one ends)")


def test_narrow_limits_are_told_apart_from_the_fleets() -> None:
    """A project that is full holds up its own targets only, and the picture says so."""
    hand = Hand(fleet(12, 2), Concurrency(1, "project"), Concurrency(10))
    hand.start(0.0)
    assert hand.waits(5.0) == [
        "10 for project=1 at once (2 full, first 00000000…: next when one ends)"
    ]
    assert "project=1 at once: fullest 00000000… 1 of 1, 00000000… 1 of 1" in hand.text(5.0)


def test_a_label_that_a_target_lacks_is_named_as_missing() -> None:
    """Targets without the label are counted together, under a name that says so."""
    hand = Hand(fleet(3), Concurrency(1, "az"))
    hand.start(0.0)
    assert hand.waits(5.0) == ["2 for az=1 at once (no az: next when one ends)"]


def test_a_project_that_must_be_looked_at_first_is_named() -> None:
    """Before the first look, targets wait for it and not for a limit."""
    hand = Hand(fleet(4), Concurrency(10))
    hand.turn(0.0)
    assert hand.waits(0.0) == ["4 for a look at project 00000000…"]
    many = Hand(fleet(4, 4), Concurrency(10))
    many.turn(0.0)
    assert many.waits(0.0) == ["4 for a look at 4 projects"]


def test_a_throttled_account_says_when_it_is_asked_again() -> None:
    """After a 429 the account is held back, and the picture says until when, and how fast then."""
    hand = Hand(fleet(4), Concurrency(1))
    hand.start(0.0)
    hand.answer(0, 1.0, Verdict.THROTTLED)
    hand.turn(1.0)
    assert hand.waits(1.0) == [
        "4 for the service's limit on the credential (next in 2 s, then one every 2 s)"
    ]


def test_a_project_without_a_connection_says_when_it_is_tried_again() -> None:
    """Where no connection could be made the project is held back, and no other."""
    hand = Hand(fleet(4), Concurrency(1))
    hand.start(0.0)
    hand.answer(0, 1.0, Verdict.UNSENT)
    hand.turn(1.0)
    assert hand.waits(1.0) == ["4 for project 00000000… (next try in 5 s: no connection)"]


def test_a_busy_target_waits_for_its_next_try() -> None:
    """What was put back for a while is not said to wait for a limit."""
    hand = Hand(fleet(2), Concurrency(5))
    hand.start(0.0)
    hand.answer(0, 1.0, Verdict.BUSY)
    hand.turn(1.0)
    assert hand.waits(1.0) == ["1 for their turn or next try"]


def test_later_waves_and_looks_are_counted_apart() -> None:
    """Targets of later waves, and those being examined one by one, are not said to wait in line."""
    hand = Hand(fleet(10), Concurrency(5), waves=("2", "rest"))
    hand.turn(0.0)
    hand.campaign.observe(hand.looks.pop(), {}, 0.0, 0.0)
    hand.turn(0.0)
    assert hand.waits(0.0) == ["2 being looked at", "8 in later waves (after wave 1)"]


def test_more_lanes_than_are_looked_at_are_still_counted() -> None:
    """A fleet of thousands of projects is counted whole, if not in detail."""
    hand = Hand(fleet(5000, 5000), Concurrency(9000))
    hand.turn(0.0)
    assert hand.waits(0.0) == [
        "3000 for limits or looks of their own",
        "2000 for a look at 2000 projects",
    ]


def test_the_soak_is_shown_with_its_end() -> None:
    """During a soak the picture says of what, until when, and how long that is."""
    hand = Hand(fleet(20), Concurrency(5), canary=1, soak=60.0)
    hand.start(0.0)
    assert "one in the canary stops the run" in hand.text(0.0)
    hand.end(0, 10.0)
    hand.turn(10.0)
    assert "soak of canary until 00:01:10Z (48 s)" in hand.text(22.0)
    assert "soak of canary over; one last look at its clusters" in hand.text(71.0)


def test_stopping_says_why_and_what_ctrl_c_does() -> None:
    """Who stops a run reads that it does stop, what is followed, and how to leave at once."""
    hand = Hand(fleet(20), Concurrency(7))
    hand.start(0.0)
    hand.tell(RunStopping(at=5.0, reason="interrupted by SIGINT", by="SIGINT"))
    text = hand.text(6.0)
    assert "stopping: interrupted by SIGINT" in text
    assert "nothing new starts; following 7; press Ctrl-C again to abort" in text
    assert "not started 13 of 20" in text
    assert "waiting" not in text
    hand.tell(RunAborted(at=7.0, by="SIGINT"))
    assert "aborted: no longer following 7" in hand.text(8.0)


def test_a_stop_of_our_own_does_not_speak_of_a_second_ctrl_c() -> None:
    """Who did not press Ctrl-C yet is not told to press it again."""
    hand = Hand(fleet(20), Concurrency(7))
    hand.tell(RunStopping(at=5.0, reason="max_failures: 4 failed, 3 allowed", by="orchestrator"))
    lines = state_lines(hand.campaign, 6.0, wall)
    assert lines[1].endswith("press Ctrl-C to abort")


def test_between_waves_nothing_is_claimed() -> None:
    """Before the first wave is open, nobody is said to wait for a limit."""
    hand = Hand(fleet(3), Concurrency(7))
    assert hand.waits(0.0) == ["3 for their wave to open"]
    assert "1 wave" in hand.text(0.0)


def test_places_held_by_others_are_named() -> None:
    """Slots that other runs hold are counted, and said not to be ours."""
    hand = Hand(fleet(3), Concurrency(7))
    other = Start(
        run_id="other", target=0, attempt=1, project_id="p", cluster_id="c",
        region=None, labels=(), granted_at=0.0,
    )  # fmt: skip
    hand.campaign.take_note_of([other], 0.0)
    hand.start(0.0)
    assert "7 at once: 4 of 7 used, 1 by other runs or unknown outcomes" in hand.text(1.0)


def test_a_limit_that_shrank_says_so() -> None:
    """In strict mode the picture shows what counts now, and what was asked for."""
    policy = Policy(
        limits=(Concurrency(7),), max_failures=Portion(3), failure_mode=FailureMode.STRICT
    )
    hand = Hand(fleet(20), policy=policy)
    hand.start(0.0)
    hand.end(0, 5.0, Outcome.FAILED)
    assert "7 at once: 6 of 3 used (not 7, after failures)" in hand.text(6.0)


def test_a_lost_answer_is_called_that() -> None:
    """A restart whose answer was lost is not shown as being asked for."""
    hand = Hand(fleet(1), Concurrency(1))
    hand.start(0.0)
    assert phase_words(hand.campaign.tracks[0]) == "issuing"
    hand.answer(0, 1.0, Verdict.LOST)
    assert phase_words(hand.campaign.tracks[0]) == "no answer, looking"


@pytest.mark.parametrize("height", [1, 2, 5, 9, 12, 23, 60])
@pytest.mark.parametrize("width", [20, 80, 132])
def test_the_picture_fits(width: int, height: int) -> None:
    """Whatever the terminal's size, no line is wider and there are not more lines than it has."""
    hand = Hand(fleet(40, 3, "搜索集群" * 10), Concurrency(30), Concurrency(11, "project"))
    hand.start(0.0)
    lines = hand.lines(5.0, width, height)
    assert len(lines) <= height
    assert all(cells(line) <= width for line in lines)


def test_what_does_not_fit_is_counted() -> None:
    """Of more restarts than fit, the oldest are shown and the rest is counted."""
    hand = Hand(fleet(40), Concurrency(30))
    hand.start(0.0)
    lines = hand.lines(5.0, 80, 24)
    shown_running = [line for line in lines if "issuing" in line]
    assert lines[-1].strip() == f"… and {30 - len(shown_running)} more"
    assert len(shown_running) > 5


def test_wide_terminals_show_ids_in_full() -> None:
    """Where there is room, an id can be copied from the screen."""
    (target,) = fleet(1, name="search")
    assert target_words(target, 80) == "00000000…/00000000… search"
    assert target_words(target, 140) == f"{target.project_id}/{target.cluster_id} search"


def test_columns_are_no_wider_than_what_stands_in_them() -> None:
    """On a narrow terminal a cluster is known by its name, on a wide one nothing stands far off."""
    hand = Hand(fleet(3, name="css-logs-prod-0001"), Concurrency(3))
    hand.start(0.0)
    hand.answer(0, 1.0)
    narrow = hand.lines(9.0, width=60)[-3:]
    assert narrow[0] == "  00000000… css-logs-prod-0001  accepted     9 s"
    assert narrow[1] == "  00000001… css-logs-prod-0001  issuing      9 s"
    hand.answer(1, 1.0, Verdict.LOST)
    wide = hand.lines(4000.0, width=200)[-3:]
    ids = f"{0:032x}/00000000-cluster css-logs-prod-0001"
    assert wide[0] == f"  {ids}  accepted            1 h 6 min"
    assert wide[1].endswith("  no answer, looking  1 h 6 min")


def test_what_somebody_said_is_wrapped_and_not_cut() -> None:
    """The reason of a pause is why somebody looks here: it takes the lines that it needs."""
    hand = Hand(fleet(5), Concurrency(2))
    hand.start(0.0)
    reason = "disk alarm on three nodes of az 2, see the graphs of the storage team"
    hand.tell(RunPaused(at=1.0, by="ben@bastion-2", reason=reason))
    lines = hand.lines(2.0, width=50)
    first = next(number for number, line in enumerate(lines) if line.startswith("paused by"))
    assert lines[first : first + 2] == [
        "paused by ben@bastion-2: disk alarm on three nodes",
        "  of az 2, see the graphs of the storage team",
    ]
    drained = RunStopping(at=3.0, by="ben", reason=f"drained by ben: {reason}, and again {reason}")
    hand.tell(drained)
    drawn = summary(hand.campaign, 4.0, tally=hand.tally, wall=wall, width=50)
    assert drained.reason in " ".join(str(line).strip() for line in drawn)


def test_counts_follow_the_campaign() -> None:
    """The running totals say the same as counting everything anew, whatever happened."""
    hand = Hand(fleet(12, 3), Concurrency(9), Rate(100, 60.0), Rate(50, 60.0, "project"))
    hand.start(0.0)
    hand.answer(0, 1.0)
    hand.tell(RestartBegan(at=2.0, target=0, seen="status 100"))
    hand.end(0, 30.0)
    hand.end(1, 31.0, Outcome.FAILED)
    hand.end(2, 31.0, Outcome.UNKNOWN)
    hand.answer(3, 31.0, Verdict.REFUSED)
    hand.tell(RestartWithdrawn(at=32.0, target=4, attempt=1, reason="late"))
    hand.answer(5, 32.0, Verdict.LOST)
    hand.tell(RestartDisproved(at=33.0, target=5, attempt=1))
    hand.turn(34.0)
    hand.tell(TargetRelapsed(at=35.0, target=0, reason="down"))
    hand.end(6, 36.0, Outcome.UNKNOWN)
    hand.tell(TargetResolved(at=37.0, target=2, outcome=Outcome.RESTARTED, by="ana"))
    hand.tell(TargetResolved(at=38.0, target=6, outcome=Outcome.NOT_STARTED, by="ana"))
    counts = hand.campaign.counts()
    del counts[Outcome.NOT_STARTED]
    assert hand.tally.counts == counts
    assert hand.tally.ended == len(hand.campaign.outcomes)
    fresh = Tally(hand.campaign)
    assert fresh.left_in_wave == hand.tally.left_in_wave
    assert [c.biggest()[1] for c in fresh.crowds] == [c.biggest()[1] for c in hand.tally.crowds]
    assert hand.tally.seconds_running(40.0) == pytest.approx(
        sum(40.0 - track.start.granted_at for track in hand.campaign.tracks.values())
    )


def test_a_tally_of_a_resumed_run_starts_where_it_stands() -> None:
    """Totals made of a replayed campaign are those of one that was watched from the start."""
    hand = Hand(fleet(6, 2), Concurrency(3), Concurrency(2, "project"))
    hand.start(0.0)
    hand.end(0, 5.0)
    fresh = Tally(hand.campaign)
    assert fresh.counts == hand.tally.counts
    assert fresh.left_in_wave == hand.tally.left_in_wave
    assert fresh.running_for(1, 7.0) == hand.tally.running_for(1, 7.0) == 7.0
    assert [crowd.biggest() for crowd in fresh.crowds] == [
        crowd.biggest() for crowd in hand.tally.crowds
    ]


def test_time_left_is_not_guessed_early() -> None:
    """Until some restarts have ended, nothing is said about the end."""
    hand = Hand(fleet(30), Concurrency(3))
    hand.start(0.0)
    hand.end(0, 60.0)
    hand.end(1, 60.0)
    assert hand.left(60.0) is None
    hand.end(2, 60.0)
    assert hand.left(60.0) == pytest.approx(9 * 60.0)
    assert "about 9 min left" in hand.text(60.0)


def test_time_left_under_a_rate_is_the_rates() -> None:
    """Where the rate binds, the last start comes whole windows after one that is known."""
    hand = Hand(fleet(50), Rate(20, 600.0))
    hand.start(0.0)
    for target in range(20):
        hand.answer(target, 0.0)
    for target in range(3):
        hand.end(target, 30.0)
    assert hand.left(30.0) == pytest.approx(1200.0 - 30.0 + 30.0)


def test_time_left_counts_waves_soaks_and_narrow_limits() -> None:
    """Later waves run one after the other, soaks take time, one big project may take longest."""
    hand = Hand(fleet(23), Concurrency(10), waves=("3", "10", "rest"), soak=100.0)
    hand.start(0.0)
    for target in range(3):
        hand.end(target, 60.0)
    hand.turn(60.0)
    assert hand.left(60.0) == pytest.approx(100.0 + 60.0 + 100.0 + 60.0)
    narrow = Hand(fleet(20), Concurrency(10), Concurrency(1, "project"), Rate(3, 600.0, "project"))
    narrow.start(0.0)
    for target in range(3):
        narrow.answer(target, target * 60.0)
        narrow.end(target, target * 60.0 + 60.0)
        narrow.start(target * 60.0 + 60.0)
    assert narrow.left(180.0) == pytest.approx(max(17 * 60.0, 5 * 600.0 + 60.0))


def test_time_left_goes_by_what_is_left() -> None:
    """After the longest the others will not take as long; who was twice as slow stays so."""
    hand = Hand(fleet(7), Concurrency(3), expected=[300.0] * 3 + [100.0] * 4)
    hand.start(0.0)
    for target in range(3):
        hand.end(target, 600.0)
    assert hand.left(600.0) == pytest.approx(4 * 200.0 / 3)
    hand.start(600.0)
    for target in range(3, 6):
        hand.end(target, 800.0)
    assert hand.left(800.0) == pytest.approx(200.0)


def test_time_left_counts_the_soak_that_goes_on() -> None:
    """During a soak the rest of it is part of the estimate."""
    hand = Hand(fleet(6), Concurrency(3), waves=("3", "rest"), soak=100.0)
    hand.start(0.0)
    for target in range(3):
        hand.end(target, 60.0)
    hand.turn(60.0)
    assert hand.left(90.0) == pytest.approx(70.0 + 60.0)


def test_limits_that_were_changed_count() -> None:
    """A run that went on under other limits is judged by those, whatever its plan said."""
    before = Hand(fleet(8, 2), Concurrency(4))
    changed = LimitsChanged(
        at=0.0, limits=("2", "project=1"), max_failures="0", by="ana", is_looser=False
    )
    hand = Hand(fleet(8, 2), Concurrency(4))
    hand.campaign = Campaign("2026-11-23-7k3f", before.campaign.plan, [changed])
    hand.tally = Tally(hand.campaign)
    hand.start(0.0)
    for target in range(3):
        hand.end(target, target * 60.0 + 60.0)
        hand.start(target * 60.0 + 60.0)
    # One cluster at a time in each of two projects, four of which are left in the bigger.
    assert hand.left(180.0) is not None
    assert "limit project=1 at once: fullest" in hand.text(180.0)
    assert "limit 2 at once" in hand.text(180.0)


def test_limits_that_change_in_the_middle_count_at_once() -> None:
    """Other limits of a live run are shown, and the time left is worked out by them."""
    hand = Hand(fleet(12), Concurrency(4))
    hand.start(0.0)
    for target in range(4):
        hand.end(target, 60.0)
    hand.start(60.0)
    assert hand.left(60.0) == pytest.approx(120.0)
    hand.tell(
        LimitsChanged(at=60.0, limits=("4", "project=1"), max_failures="0", by="a", is_looser=False)
    )
    hand.campaign.count_anew([track.start for track in hand.campaign.tracks.values()], 60.0)
    assert hand.left(60.0) == pytest.approx(8 * 60.0)
    assert "limit project=1 at once: fullest 00000000… 4 of 1" in hand.text(60.0)


def test_a_paused_run_says_by_whom_and_how_it_goes_on() -> None:
    """Whoever looks at a paused run reads who paused it, why, and what lets it go on."""
    hand = Hand(fleet(20), Concurrency(7))
    hand.start(0.0)
    hand.tell(RunPaused(at=5.0, by="ana@desk", reason="disk alarm"))
    text = hand.text(6.0)
    assert "paused by ana@desk: disk alarm" in text
    assert "`orchestrator resume 2026-11-23-7k3f` lets it go on" in text
    assert "waiting: " not in text
    assert hand.left(6.0) is None


def test_time_left_of_a_stopping_run_is_that_of_what_runs() -> None:
    """Nothing new starts, so the youngest restart decides; overdue ones are not guessed at."""
    hand = Hand(fleet(30), Concurrency(3))
    hand.start(0.0)
    for target in range(3):
        hand.end(target, 60.0)
    hand.start(60.0)
    hand.tell(RunStopping(at=61.0, reason="enough", by="ana"))
    assert hand.left(80.0) == pytest.approx(40.0)
    assert hand.left(200.0) is None


@pytest.mark.parametrize("height", [2, 3, 8, 24])
@pytest.mark.parametrize("width", [60, 200])
def test_the_failures_are_always_in_sight(width: int, height: int) -> None:
    """However small the terminal, what went wrong and how much of it is allowed stands there."""
    hand = Hand(fleet(12, 12), Concurrency(4), Rate(5, 600.0, "project"))
    hand.start(0.0)
    hand.end(0, 5.0, outcome=Outcome.FAILED)
    hand.turn(5.0)
    lines = picture(hand.campaign, 6.0, tally=hand.tally, wall=wall, width=width, height=height)
    assert Line("failures 1 of 3 allowed", Tone.BAD) in lines


def test_the_summary_says_how_it_ended() -> None:
    """What stays on the screen: the run, its end, all counts, and why it stopped if it did."""
    hand = Hand(fleet(3), Concurrency(3))
    hand.tell(RunnerStarted(at=0.0, owner="ana", host="b", pid=1, wall_offset=0.0, version="1"))
    hand.start(0.0)
    for target in range(3):
        hand.end(target, 60.0)
    hand.turn(60.0)
    lines = summary(hand.campaign, 61.0, tally=hand.tally, wall=wall)
    assert lines[0] == Line("run 2026-11-23-7k3f completed at 00:01:01Z after 61 s", Tone.HEAD)
    assert "restarted 3" in lines[1].text
    assert lines[-1] == Line("failures 0 of 3 allowed", Tone.PLAIN)
    stopped = Hand(fleet(3), Concurrency(3))
    assert "left" in str(summary(stopped.campaign, 1.0, tally=stopped.tally, wall=wall)[0])
    stopped.tell(RunStopping(at=5.0, reason="deadline", by="orchestrator"))
    lines = summary(stopped.campaign, 6.0, tally=stopped.tally, wall=wall)
    assert "stopped at" in lines[0].text
    assert lines[2].text == "not started 3 of 3"
    assert lines[-1].text == "stopped: deadline"
    stopped.tell(RunAborted(at=7.0, by="SIGINT"))
    assert "aborted at" in summary(stopped.campaign, 8.0, tally=stopped.tally, wall=wall)[0].text


def _busy(targets: int) -> Hand:
    hand = Hand(fleet(targets, 20), Concurrency(500), Rate(40, 60.0, "project"))
    hand.start(0.0)
    for target in range(3):
        hand.end(target, 5.0)
    hand.start(6.0)
    assert hand.left(8.0) is not None
    return hand


def _unseen(targets: int) -> Hand:
    hand = Hand(fleet(targets, targets // 2), Concurrency(500), Rate(5, 60.0, "project"))
    hand.turn(0.0)
    return hand


@pytest.mark.parametrize(
    ("scene", "few"),
    [(_busy, 2_000), (_unseen, 5_000)],
    ids=["hundreds under way", "every project waits for a look"],
)
def test_a_picture_of_a_hundred_thousand_costs_what_one_of_few_costs(
    scene: Callable[[int], Hand], few: int
) -> None:
    """Whatever the size of the fleet, a picture costs the same: taken side by side, in one run."""
    small, large = scene(few), scene(100_000)
    assert _seconds(large) < 3 * _seconds(small)


def _seconds(hand: Hand) -> float:
    best = math.inf
    for _ in range(15):
        began_at = time.perf_counter()
        hand.lines(8.0)
        best = min(best, time.perf_counter() - began_at)
    return best
