"""What a run costs its journal, in commits: a figure that no other load on the machine moves."""

import struct
from pathlib import Path

import anyio

from orchestrator.config import load_settings
from orchestrator.errors import ExitCode
from orchestrator.fleet import Fleet
from orchestrator.session import Simulation, restart_fleet
from orchestrator.simulator import invent_targets, parse_scenario

CLUSTERS = 1000

SCENARIO = """
[restart]
duration = "1ms"
busy_after = "0ms"
"""


def commits(journal: Path) -> int:
    """Return how often a SQLite file was changed; a rollback journal counts every commit."""
    with journal.open("rb") as file:
        (changes,) = struct.unpack_from(">I", file.read(28), 24)
    return int(changes)


def test_a_commit_carries_many_restarts(tmp_path: Path) -> None:
    """Without waiting, 50 at once, a commit holds the answers and the intents of ten or more."""
    journal = tmp_path / "journal.db"
    settings = load_settings(
        options={
            "limits.max_concurrency": ("50",),
            "limits.rate": ("none",),
            "follow.wait": False,
            "journal.url": str(journal),
            "report": str(tmp_path / "report.json"),
        },
        environ={},
        config_file=None,
        cwd=tmp_path,
        user_config=None,
    )
    fleet = Fleet(targets=invent_targets(CLUSTERS, 5, 1), source=("economy",), collapsed=0)
    simulation = Simulation(scenario=parse_scenario(SCENARIO))

    async def story() -> ExitCode:
        result = await restart_fleet(fleet, settings, simulation=simulation, environ={})
        return result.exit_code

    assert anyio.run(story) is ExitCode.OK
    assert CLUSTERS / 50 < commits(journal) <= CLUSTERS / 10
