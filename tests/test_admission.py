"""Admission: in the plan's order, those who are down first; but nobody before others were seen."""

from typing import Any

from orchestrator.accounts import Accounts
from orchestrator.admission import Admission
from orchestrator.judgement import Judge
from orchestrator.limits import Concurrency, Unavailable
from orchestrator.looks import Looks
from orchestrator.model import AccountRefused, ClusterState, ErrorInfo, Outcome, Target, TargetEnded
from orchestrator.pace import Paces
from orchestrator.plan import Policy, Unhealthy, make_plan
from orchestrator.progress import Progress
from orchestrator.starts import Starts
from orchestrator.waves import Waves

IDLE = ClusterState(status="200")
DOWN = ClusterState(status="303")


class Room:
    """Two waves, of three clusters and of one, in two projects of an account each."""

    def __init__(self, **policy: Any) -> None:
        targets = [Target(project_id=f"p{n % 2}", cluster_id=f"c{n}") for n in range(4)]
        rules = Policy(**{"limits": (Concurrency(9),), **policy})
        plan = make_plan(targets, rules, waves=["3", "rest"])
        paces = Paces({"p0": "one", "p1": "other"})
        self.settled: set[int | str] = set()
        self.waves, self.progress = Waves(plan), Progress(targets)
        self.looks = Looks(plan, Judge(plan), self.progress.tracks)
        self.accounts = Accounts(paces, self.looks.projects)
        self.starts = Starts("run", plan, rules, paces)
        self.admission = Admission(
            plan, waves=self.waves, progress=self.progress, looks=self.looks,
            accounts=self.accounts, starts=self.starts, settled=self.settled,
        )  # fmt: skip
        self.waves.open()

    def see(self, project_id: str, now: float, **states: ClusterState) -> None:
        self.looks.saw(project_id, states, now, now)
        self.starts.open_door(project_id, now + 100.0, now)
        self.admission.note_health(project_id, now, now)
        self.admission.have_seen([project_id])

    def in_line(self, now: float) -> list[int]:
        taken = []
        while (position := self.starts.lanes.next(now)) is not None:
            taken.append(position)
        return taken


def test_a_wave_gets_in_line_as_planned() -> None:
    """Those of it who wait: nobody of another wave, who has ended, or whose end was found."""
    room = Room()
    room.progress.end(TargetEnded(at=0.0, target=0, outcome=Outcome.SKIPPED))
    room.settled.add(1)
    room.admission.let_in(1.0)
    assert len(room.starts.lanes) == 1
    for project_id in ("p0", "p1"):
        room.see(project_id, 2.0)
    assert room.in_line(2.0) == [2]


def test_who_is_down_goes_first_once_all_of_the_wave_were_seen() -> None:
    """Looks at its projects are wanted at once; the last of them lets all in."""
    room = Room(unhealthy=Unhealthy.FIRST)
    room.admission.let_in(1.0)
    assert len(room.starts.lanes) == 0
    assert room.looks.wake_at(1.0) == 1.0
    room.see("p0", 1.0, c0=IDLE, c2=DOWN)
    assert len(room.starts.lanes) == 0
    room.see("p1", 2.0, c1=IDLE)
    assert room.in_line(2.0) == [2, 0, 1]


def test_nobody_waits_for_a_project_whose_credential_was_refused() -> None:
    """It will not be seen, and none of it starts."""
    room = Room(unhealthy=Unhealthy.FIRST)
    room.accounts.refuse(AccountRefused(at=0.0, account="other", reason="no"))
    room.admission.let_in(1.0)
    assert room.waves.unseen == {"p0"}


def test_where_who_is_down_counts_all_projects_are_seen_first() -> None:
    """Those of later waves, too; and who is down passes the limit on that."""
    room = Room(max_unavailable=(Unavailable(1),), unhealthy=Unhealthy.RESTART)
    room.waves.finish(0)
    room.waves.open()
    room.admission.let_in(1.0)
    assert room.waves.unseen == {"p0", "p1"}
    room.see("p0", 1.0, c0=DOWN, c2=IDLE)
    room.see("p1", 1.0, c1=IDLE, c3=DOWN)
    [_, down] = room.starts.limits.fleet_gates()
    assert down.taken(1.0) == 2
    assert room.in_line(1.0) == [3]


def test_a_survey_looks_at_all_and_believes_nobody_until_then() -> None:
    """Who was not seen lately may be down; a project that is given up counts no more."""
    room = Room(max_unavailable=(Unavailable(1),))
    room.see("p0", 0.0, c0=IDLE, c2=IDLE)
    refused = ErrorInfo(error_class="forbidden", message="no", status=403)
    assert room.looks.missed("p1", refused, 0.0, None)
    room.admission.survey(100.0)
    [_, down] = room.starts.limits.fleet_gates()
    assert down.taken(100.0) == 2
    assert room.looks.wake_at(100.0) == 100.0
    room.see("p0", 100.0, c0=IDLE, c2=DOWN)
    assert down.taken(100.0) == 1
