"""Rehearsals: the same engine in virtual time, and what the command says of it."""

import json
import random
import shlex
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator import cli, stage
from orchestrator.experience import Durations, learn
from orchestrator.journal import Lasted, open_store
from orchestrator.limits import Concurrency, Limit, Rate, Unavailable
from orchestrator.model import Kind, Outcome
from orchestrator.plan import Plan, Policy, Portion, Window, make_plan
from orchestrator.rehearsal import Rehearsal
from orchestrator.simulator import parse_scenario
from orchestrator.stage import Model, TakesTooLongError, model_of, rehearse_plan, seeds_for
from tests.stories.night import HOUR, fleet

AT = 1_800_000_000.0


def a_plan(count: int, *limits: Limit, projects: int = 3, **policy: Any) -> Plan:
    rules = Policy(limits=limits or (Concurrency(5),), **policy)
    return make_plan(fleet(count, projects), rules, canary=Portion(1), soak=60.0)


def play(
    plan: Plan,
    *,
    seeds: int = 2,
    known: Mapping[str, Durations] | None = None,
    model: Model | None = None,
) -> Rehearsal:
    known = known or {}
    return rehearse_plan(
        plan, model or model_of(plan, known), known=known, seeds=range(seeds), at=AT
    )


def seen(*seconds: float) -> Durations:
    return Durations(ready=seconds, whole=seconds)


def test_the_same_seed_plays_the_same_run() -> None:
    """Two rehearsals of one seed agree in everything; another seed has other durations."""
    plan = a_plan(30, Concurrency(5), Rate(10, 600.0))
    rehearsal = play(plan)
    assert play(plan) == rehearsal
    first, second = rehearsal.runs
    assert first.took != second.took


def test_restarts_last_as_the_journal_saw() -> None:
    """With durations known, one slot and no rate, the run lasts as long as they do together."""
    plan = a_plan(10, Concurrency(1), stable_for=0.0, poll_every=1.0)
    [run] = play(plan, seeds=1, known={"restart": seen(100.0, 100.0, 100.0)}).runs
    # The soak of the canary besides, and a look for each begin and each end.
    assert 1000 + 60 <= run.took <= 1000 + 60 + 10 * 3
    assert run.counts[Outcome.RESTARTED] == 10
    assert run.most_at_once == 1


def learnt(plan: Plan, seconds: Sequence[float], times: int = 3) -> Mapping[str, Durations]:
    """What a journal knows after each of the first targets lasted so long, so many times."""
    return learn(
        Lasted(
            project_id=target.project_id,
            cluster_id=target.cluster_id,
            kind=str(target.kind),
            ready=span,
            whole=span,
        )
        for target, span in zip(plan.targets, seconds, strict=False)
        for span in [span * (0.95 + 0.05 * number) for number in range(times)]
    )


def test_a_cluster_lasts_as_it_did_before() -> None:
    """Around its own past, not that of its kind; who has none lasts as any of the kind may."""
    plan = a_plan(20, Concurrency(20), stable_for=0.0, poll_every=1.0)
    known = learnt(plan, [100.0] * 8 + [1000.0] * 8)
    model = model_of(plan, known)
    assert [(one.targets, one.seen, one.own) for one in model.kinds] == [(20, 48, 16)]
    for run in play(plan, seeds=5, known=known).runs:
        assert all(85.0 <= run.held[position] <= 125.0 for position in range(8))
        assert all(850.0 <= run.held[position] <= 1060.0 for position in range(8, 16))
        assert all(85.0 <= run.held[position] <= 1060.0 for position in range(16, 20))
    assert play(plan, known=known) == play(plan, known=known)


def test_all_together_they_last_as_their_kind() -> None:
    """A past that is known of each cluster makes the sum of all no other than it was."""
    luck = random.Random(1)
    plan = a_plan(300, Concurrency(300), stable_for=0.0, poll_every=1.0)
    known = learnt(plan, [luck.lognormvariate(5.5, 0.5) for _ in plan.targets], times=1)
    strangers = {kind: replace(one, ready_of={}) for kind, one in known.items()}
    own, kind = (
        sum(sum(run.held.values()) for run in play(plan, known=past).runs)
        for past in (known, strangers)
    )
    assert own == pytest.approx(kind, rel=0.03)


def test_a_rolling_restart_lasts_as_a_whole_what_was_seen() -> None:
    """However many nodes go one after the other."""
    targets = [replace(one, kind=Kind.parse("rolling:ess")) for one in fleet(4, 1)]
    plan = make_plan(targets, Policy(limits=(Concurrency(1),), stable_for=0.0, poll_every=1.0))
    [run] = play(plan, seeds=1, known={"rolling:ess": seen(300.0)}).runs
    assert 4 * 300 <= run.took <= 4 * 303


def test_looks_that_are_left_out_change_nothing() -> None:
    """Who looks every five seconds comes to the same end as who knows when to look."""
    plan = a_plan(60, Concurrency(6), Rate(20, 600.0))
    model = model_of(plan, {})
    [knowing] = play(plan, seeds=1, model=model).runs
    [looking] = play(
        plan, seeds=1, model=Model(scenario=model.scenario, kinds=(), is_known=False)
    ).runs
    assert knowing.took == pytest.approx(looking.took, rel=0.01)
    assert knowing.counts == looking.counts


@pytest.mark.parametrize("step", [5.0, 10.0])
def test_steps_of_time_change_next_to_nothing(monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    """A large fleet, played in steps of a look or two, ends when it would to the instant."""
    plan = a_plan(150, Concurrency(10), Rate(40, 600.0))
    [exact] = play(plan, seeds=1).runs
    monkeypatch.setattr(stage, "EXACT", 100)
    monkeypatch.setattr(stage, "HUGE", 100 if step > 5 else 1000)
    [stepped] = play(plan, seeds=1).runs
    assert stepped.took == pytest.approx(exact.took, rel=0.015)
    assert stepped.took != exact.took


def test_a_restart_that_steps_would_miss_is_played_to_the_instant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Restarts of some seconds begin and end between two steps; all of them are seen."""
    monkeypatch.setattr(stage, "EXACT", 10)
    [run] = play(a_plan(20), seeds=1, known={"restart": seen(3.0, 4.0, 200.0)}).runs
    assert run.counts[Outcome.RESTARTED] == 20


def test_a_deadline_leaves_what_would_not_be_done() -> None:
    """Nothing starts that would pass the deadline: some is left, and the chance is none."""
    plan = a_plan(60, Concurrency(3), window=Window(deadline=AT + HOUR))
    rehearsal = play(plan, known={"restart": seen(*([240.0] * 20))})
    assert rehearsal.made_by(AT + HOUR) == 0
    assert 0 < rehearsal.left(0.5) < 60
    assert all(run.took <= HOUR for run in rehearsal.runs)
    assert any("deadline" in reason for reason in rehearsal.stop_reasons)


def test_a_scenario_may_say_that_restarts_fail() -> None:
    """Faults of a scenario are rehearsed as well: the run stops at the first failure."""
    scenario = parse_scenario('[restart]\nend = "failed"\nduration = "1m"\n')
    plan = a_plan(20, Concurrency(1))
    rehearsal = play(plan, seeds=1, model=model_of(plan, {}, scenario))
    assert rehearsal.left(1.0) == 19
    assert rehearsal.stop_reasons == {"a failure in the canary": 1}


def test_what_may_be_unavailable_is_kept() -> None:
    """A percentage of each project is a limit like others, and cheap where nothing goes down."""
    plan = a_plan(
        40,
        Concurrency(20),
        projects=2,
        max_unavailable=(Unavailable(10, "project", is_percent=True),),
    )
    [run] = play(plan, seeds=1).runs
    slots, unavailable = run.limits
    assert (unavailable.most, unavailable.allowed) == (2, 2)
    assert slots.most <= 4
    assert unavailable.bound > 0.5 * run.took


def test_gates_are_not_run(tmp_path: Path) -> None:
    """A rehearsal touches nothing: the operator's own commands least of all."""
    trace = tmp_path / "asked"
    plan = a_plan(3, gates=(f"touch {trace}; exit 1",))
    [run] = play(plan, seeds=1).runs
    assert run.left == 0
    assert not trace.exists()


def test_who_has_no_time_is_told() -> None:
    """A rehearsal that takes longer than it may is given up, and nothing of it is believed."""
    plan = a_plan(30)
    with pytest.raises(TakesTooLongError, match="did not come to an end"):
        rehearse_plan(plan, model_of(plan, {}), known={}, seeds=[0], at=AT, patience=-1.0)


def test_many_runs_for_small_fleets_and_few_for_large_ones() -> None:
    """The number of runs goes by the size of the fleet."""
    counts = [seeds_for(size) for size in (1, 100, 1000, 10_000, 1_000_000)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 20
    assert counts[-1] == 1


# ------------------------------------------------------------------------------- the command


def write_fleet(folder: Path, count: int) -> Path:
    path = folder / "fleet.txt"
    path.write_text("".join(f"p{n % 2}/c{n}\n" for n in range(count)))
    return path


def command(*arguments: object) -> list[str]:
    return ["rehearse", *map(str, arguments), "--region", "cn-north-4"]


def test_the_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything is in it, it is the same when asked again, and nothing is left behind."""
    path, journal = write_fleet(tmp_path, 24), tmp_path / "none.db"
    asked = command(
        path, "--journal", journal, "-o", "json", "--seeds", 3, "--at", "2026-12-01T01:00Z",
        "--deadline", "2026-12-01T04:00Z", "--max-concurrency", "4", "--rate", "project=6/10m",
    )  # fmt: skip
    assert cli.run(asked) == 0
    printed = capsys.readouterr().out
    document = json.loads(printed)
    assert document["begins_at"] == "2026-12-01T01:00:00Z"
    assert document["runs"] == 3
    assert document["deadline"] == {"at": "2026-12-01T04:00:00Z", "chance": 1.0}
    end = document["end"]
    assert end["p10"]["after_s"] <= end["p50"]["after_s"] <= end["p90"]["after_s"]
    assert end["p50"]["at"].startswith("2026-12-01T01:")
    assert [wave["name"] for wave in document["waves"]] == ["canary", "rest"]
    assert [limit["limit"] for limit in document["limits"]] == ["4", "project=6/600s"]
    assert all(limit["most"] <= limit["allowed"] for limit in document["limits"])
    shares = sum(limit["binds"] for limit in document["limits"]) + sum(document["waits"].values())
    assert shares == pytest.approx(1.0, abs=0.01)
    assert document["when"][0]["from_s"] == 0.0
    assert document["when"][-1]["what"] == "last_restarts"
    assert document["most_in_progress"] == 4
    assert document["left"] == {"p50": 0, "most": 0}
    assert 0.5 < document["efficiency"] <= 1.0
    assert document["assumed"] == [
        {"kind": "restart", "targets": 24, "seen": 0, "own": 0, "p50_s": 244.893, "p95_s": 557.38}
    ]
    assert cli.run(asked) == 0
    assert capsys.readouterr().out == printed
    assert not journal.exists()


def test_the_command_speaks_to_operators(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words: when it ends, what holds it up, and what was assumed."""
    path = write_fleet(tmp_path, 30)
    asked = command(
        path, "--journal", tmp_path / "none.db", "--seeds", 2, "--at", "2026-12-01T01:00Z",
        "--cutoff", "2026-12-01T01:20Z", "--max-concurrency", 2,
    )  # fmt: skip
    assert cli.run(asked) == 0
    printed = capsys.readouterr().out
    assert "rehearsed 2 times, beginning 2026-12-01T01:00:00Z" in printed
    assert "--max-concurrency 2" in printed
    assert "  when      01:00Z to 01:0" in printed
    assert "not started in the median run" in printed
    assert "cutoff: nothing starts after 2026-12-01T01:20:00Z" in printed
    assert "a guess by --expected-duration" in printed
    assert "all 2 runs end between 01:" in printed


def test_the_command_takes_a_scenario(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a scenario nothing is assumed but what it says; what goes wrong in it is told."""
    path, scenario = write_fleet(tmp_path, 12), tmp_path / "bad.toml"
    scenario.write_text('[state]\ninitial = "absent"\n')
    asked = command(path, "--journal", tmp_path / "none.db", "--scenario", scenario, "--seeds", 12)
    assert cli.run(asked) == 0
    printed = capsys.readouterr().out
    assert f"  assumed   restarts and faults as in {scenario}" in printed
    assert "every restart ends well" not in printed
    assert "8 of 10 runs end between" in printed
    assert "  stopped   in 12 of 12 runs: correlated" in printed
    assert "of the fastest" not in printed


def test_the_command_learns_from_the_journal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a real run its durations are those that are rehearsed with."""
    path, journal = write_fleet(tmp_path, 6), tmp_path / "journal.db"
    quick = (
        "--journal", journal, "--report", tmp_path / "report.json", "--yes",
        "--stable-for", "100ms", "--poll-every", "100ms", "--region", "cn-north-4",
    )  # fmt: skip
    scenario = tmp_path / "scenario.toml"
    scenario.write_text('[restart]\nduration = "300ms"\nbusy_after = "0ms"\n')
    simulated = ["restart", path, "--simulate", "--scenario", scenario, *quick]
    assert cli.run(list(map(str, simulated))) == 0
    # As if the simulator had been the real service.
    with sqlite3.connect(journal) as connection:
        connection.execute("UPDATE run SET world = ''")
    capsys.readouterr()
    assert cli.run(command(path, "--journal", journal, "-o", "json", "--seeds", 1)) == 0
    [kind] = json.loads(capsys.readouterr().out)["assumed"]
    assert (kind["seen"], kind["own"]) == (6, 6)
    assert 0.3 <= kind["p50_s"] < 5
    assert cli.run(command(path, "--journal", journal, "--seeds", 1, "--order", "spread")) == 0
    printed = capsys.readouterr()
    assert "(as 6 times in this journal; 6 of 6 each around its own past)" in printed.out
    assert "order     spread; by how long they lasted before: 6 of 6 clusters" in printed.err


@pytest.mark.parametrize("order", ["listed", "spread"])
def test_a_journal_is_only_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], order: str
) -> None:
    """Planning and rehearsing leave a journal as it is, even one that is empty yet."""
    path, journal = write_fleet(tmp_path, 3), tmp_path / "journal.db"
    options = ("--journal", journal, "--order", order)
    journal.touch()
    assert cli.run(command(path, *options, "--seeds", 1)) == 0
    assert cli.run(dry_run(path, journal, "--order", order)) == 0
    assert journal.read_bytes() == b""
    anyio.run(make_journal, journal)
    before = journal.read_bytes()
    assert cli.run(command(path, *options, "--seeds", 1)) == 0
    assert cli.run(dry_run(path, journal, "--order", order)) == 0
    assert journal.read_bytes() == before
    assert "guess" in capsys.readouterr().out


async def make_journal(path: Path) -> None:
    async with open_store(path):
        pass


def test_the_command_of_the_readme(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the README says can be copied, in the repository, without an account."""
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    lines = (root / "README.md").read_text().splitlines()
    [line] = [one.strip() for one in lines if one.startswith("    orchestrator rehearse config")]
    asked = [*shlex.split(line)[1:], "--seeds", "1", "--journal", str(tmp_path / "none.db")]
    assert cli.run(asked) == 0
    assert "in 1 of 1 runs (100%)" in capsys.readouterr().out


def test_a_moment_that_means_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong use is said in one line, with exit code 2."""
    path = write_fleet(tmp_path, 1)
    assert cli.run(command(path, "--at", "noon")) == 2
    assert "--at: 'noon' is no moment" in capsys.readouterr().err


# ------------------------------------------------------------------- above the question of restart


def dry_run(path: Path, journal: Path, *options: str) -> list[str]:
    asked = ["restart", str(path), "--dry-run", "--journal", str(journal)]
    return [*asked, "--region", "cn-north-4", *options]


def test_a_dry_run_says_what_it_would_come_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In two lines on standard error: the most at once and in an hour, the end, the deadline."""
    path = write_fleet(tmp_path, 40)
    assert cli.run(dry_run(path, tmp_path / "none.db", "--deadline", "10m")) == 0
    printed = capsys.readouterr()
    most, end = printed.err.splitlines()[-2:]
    assert most.startswith("  rehearsal at most 10 at once, ")
    assert most.endswith(" begun in the worst hour")
    assert end.startswith("  end       about ")
    assert " not started; deadline made in 0 of 5" in end
    assert len(printed.out.splitlines()) == 40


def test_a_rehearsal_that_fails_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a journal that cannot be read the plan is printed all the same, and says what failed."""
    path, journal = write_fleet(tmp_path, 3), tmp_path / "journal.db"
    journal.write_text("this is no journal")
    assert cli.run(dry_run(path, journal)) == 0
    printed = capsys.readouterr()
    assert "  rehearsal left out: " in printed.err
    assert len(printed.out.splitlines()) == 3


def test_a_huge_fleet_is_not_rehearsed_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody is kept waiting: it says so, and how to have it."""
    path = write_fleet(tmp_path, 1001)
    assert cli.run(dry_run(path, tmp_path / "none.db")) == 0
    assert (
        "left out: 1001 clusters take a while; `orchestrator rehearse`" in capsys.readouterr().err
    )
