"""Accounts that the service throttles, over real HTTP; the service's own trace counts the 429s."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import anyio

from orchestrator import load_settings
from orchestrator.config import Settings
from orchestrator.errors import ExitCode
from orchestrator.fleet import Fleet
from orchestrator.limits import Concurrency
from orchestrator.model import Outcome
from orchestrator.session import Result, Simulation, restart_fleet, serve_simulator
from orchestrator.simulator import Record, invent_targets, judge, read_trace
from tests.stories.night import Night, fleet
from tests.stories.test_http import QUICK, report_of

CLUSTERS = 24

SCENARIO = """
[latency]
before = "5ms"
after = "5ms"
[restart]
duration = "{duration}"
busy_after = "20ms"
[[throttle.account]]
match = "{project}"
{limit}
"""


def settings_for(folder: Path, url: str, slow: str, quick: str) -> Settings:
    """Return settings under which two projects use two credentials."""
    file = folder / "orchestrator.toml"
    file.write_text(f"""
[cloud.projects.{slow}]
credentials = "slow"
[cloud.projects.{quick}]
credentials = "quick"
[credentials.slow]
type = "token"
token_env = "SLOW_TOKEN"
[credentials.quick]
type = "token"
token_env = "QUICK_TOKEN"
""")
    return load_settings(
        options={
            **QUICK,
            "cloud.endpoint": url,
            "limits.max_concurrency": ("12", "project=6"),
            "limits.rate": ("none",),
            "waves.canary": "0",
            "journal.url": str(folder / "journal.db"),
            "report": str(folder / "report.json"),
        },
        environ={},
        config_file=file,
        cwd=folder,
        user_config=None,
    )


def run(folder: Path, limit: str, duration: str) -> tuple[Result, str, Sequence[Record]]:
    """Restart two projects of two accounts, of which one is limited; return what was seen of it."""
    targets = invent_targets(2 * CLUSTERS, 2, 3)
    slow, quick = dict.fromkeys(target.project_id for target in targets)
    scenario = folder / "scenario.toml"
    scenario.write_text(SCENARIO.format(project=slow, limit=limit, duration=duration))
    simulation = Simulation.load(scenario, seed=3, trace=folder / "trace.jsonl")

    async def main() -> Result:
        async with serve_simulator(targets, simulation) as url:
            return await restart_fleet(
                Fleet(targets=targets, source=("invented",), collapsed=0),
                settings_for(folder, url, slow, quick),
                environ={"SLOW_TOKEN": "one", "QUICK_TOKEN": "two"},
            )

    result = anyio.run(main)
    return result, slow, list(read_trace(folder / "trace.jsonl"))


def kept_promises(folder: Path, records: Sequence[Record]) -> bool:
    """Whether nothing was restarted twice, and nothing that was answered is missing."""
    return not judge(records, reported_job_ids=report_of(folder)["job_ids"]).broken


def test_a_throttled_account_is_not_hammered_and_others_do_not_wait(tmp_path: Path) -> None:
    """Ten writes in three seconds: a few 429s teach it, and the other account is done meanwhile."""
    result, slow, records = run(tmp_path, 'writes = "10/3s"', "300ms")
    assert result.exit_code is ExitCode.OK
    counts = report_of(tmp_path)["counts"]
    assert (counts["restarted"], counts["failed"], counts["unknown"]) == (2 * CLUSTERS, 0, 0)
    assert kept_promises(tmp_path, records)

    refused = [one.at for one in records if one.what == "refused" and one.status == 429]
    executed = {
        is_slow: [one.at for one in records
                  if one.what == "executed" and (one.project_id == slow) == is_slow]
        for is_slow in (True, False)
    }  # fmt: skip
    assert len(executed[True]) == len(executed[False]) == CLUSTERS
    # As many as were under way when the limit was reached, and hardly one later.
    assert 1 <= len(refused) <= 6 + 2
    # It waited as the message said, and then kept to the pace.
    later = [at for at in executed[True] if at > refused[0] + 2.9]
    assert len(later) == CLUSTERS - 10
    assert min(later) >= refused[0] + 3.0
    assert all(b - a > 0.2 for a, b in pairwise(later))
    assert max(executed[False]) < min(later)
    # Each call is told in the report: those that were throttled, then the one that was taken.
    told = [[call["status"] for call in one["calls"]] for one in report_of(tmp_path)["targets"]]
    assert all(set(statuses[:-1]) <= {429} and statuses[-1] == 200 for statuses in told)
    assert sum(statuses.count(429) for statuses in told) == len(refused)


def test_throttled_looks_slow_down_and_harm_nobody(tmp_path: Path) -> None:
    """With few looks allowed, every restart is still followed to its end, and few meet a 429."""
    result, slow, records = run(tmp_path, 'reads = "4/1s"', "2500ms")
    assert result.exit_code is ExitCode.OK
    assert report_of(tmp_path)["counts"]["restarted"] == 2 * CLUSTERS
    assert kept_promises(tmp_path, records)
    looks = [one for one in records if one.what == "answered" and one.call in {"list", "detail"}]
    mine = [one for one in looks if one.project_id == slow]
    throttled = [one for one in mine if one.status == 429]
    assert 1 <= len(throttled) <= max(3, len(mine) // 5)
    assert all(one.status == 200 for one in looks if one.project_id != slow)


def test_a_limit_that_is_told_costs_hardly_more_than_it_has_to() -> None:
    """A hundred restarts under ten a minute: few 429s, and a twelfth more time than is needed."""
    morning = Night(
        targets=fleet(100, 4),
        scenario='[throttle]\nwrites = "10/1m"\n[restart]\nduration = "10s"\n',
        policy={"limits": (Concurrency(10),), "stable_for": 5.0},
    ).run()
    assert morning.outcomes() == {Outcome.RESTARTED: 100}
    assert morning.judged().broken == ()
    refused = sum(one.what == "refused" for one in morning.trace)
    assert 1 <= refused <= 10
    least = 90 / 10 * 60
    starts = [one.at for one in morning.trace if one.what == "executed"]
    assert max(starts) - min(starts) < least * 13 / 12 + 60


def test_a_429_now_and_then_besides_a_limit_does_no_harm() -> None:
    """Refusals by chance on top of a limit slow the run down a little, and are few in all."""
    morning = Night(
        targets=fleet(100, 4),
        scenario="""
            [throttle]
            writes = "5/1m"
            [faults]
            throttled = 0.02
            [restart]
            duration = "40s"
        """,
        policy={"limits": (Concurrency(10),)},
    ).run()
    assert morning.outcomes() == {Outcome.RESTARTED: 100}
    assert sum(one.what == "refused" for one in morning.trace) <= 25
