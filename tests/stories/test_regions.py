"""Runs over several regions: each project is restarted where its region is, and nowhere else."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import ExitCode
from orchestrator.fleet import Format, write_fleet
from orchestrator.model import Target
from orchestrator.simulator import invent_targets, read_trace
from tests.stories.processes import QUICK, environment, simulator

SCENARIO = '[restart]\nduration = "300ms"\nbusy_after = "50ms"\n'
NORTH, SOUTH = "cn-north-4", "ap-southeast-3"


@contextmanager
def two_regions(folder: Path, fleets: Mapping[str, Sequence[Target]]) -> Iterator[dict[str, str]]:
    """Serve each region's clusters from a simulator of its own; the value is where they are."""
    with ExitStack() as stack:
        variables = {}
        for region, targets in fleets.items():
            place = folder / region
            place.mkdir()
            url = stack.enter_context(simulator(place, targets, SCENARIO))
            name = f"HUAWEICLOUD_SDK_REGION_CSS_{region.upper().replace('-', '_')}"
            variables[name] = f"{url},https://never-asked.example"
        yield variables


def orchestrator(
    folder: Path, *arguments: str, stdin: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        cwd=folder, env={**environment(folder), **variables},
        capture_output=True, text=True, timeout=60, check=False, input=stdin,
    )  # fmt: skip


def write_settings(folder: Path, fleets: Mapping[str, Sequence[Target]]) -> None:
    """Say in the settings which project is in which region."""
    settings = "".join(
        f'[cloud.projects.{targets[0].project_id}]\nregion = "{region}"\n'
        for region, targets in fleets.items()
    )
    (folder / "orchestrator.toml").write_text(settings)


def executed(folder: Path, region: str) -> set[str]:
    records = read_trace(folder / region / "trace.jsonl")
    return {record.cluster_id for record in records if record.what == "executed"}


@pytest.fixture
def fleets() -> dict[str, Sequence[Target]]:
    """Two projects in two regions, three clusters each; the fleet does not name the regions."""
    targets = [replace(target, region=None) for target in invent_targets(6, 2, 4)]
    projects = list(dict.fromkeys(target.project_id for target in targets))
    return {
        region: [target for target in targets if target.project_id == project]
        for region, project in zip((NORTH, SOUTH), projects, strict=True)
    }


def test_projects_in_two_regions(tmp_path: Path, fleets: Mapping[str, Sequence[Target]]) -> None:
    """Projects are restarted in the region their settings name, at the address it has there."""
    everyone = [target for targets in fleets.values() for target in targets]
    (tmp_path / "fleet.csv").write_text(write_fleet(everyone, Format.CSV))
    write_settings(tmp_path, fleets)
    with two_regions(tmp_path, fleets) as variables:
        done = orchestrator(
            tmp_path, "restart", "fleet.csv", "--yes", "--report", "report.json", *QUICK,
            **variables,
        )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stderr
    assert "known here" not in done.stderr
    report: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
    assert report["counts"]["restarted"] == 6
    assert {(t["cluster_id"], t["region"]) for t in report["targets"]} == {
        (target.cluster_id, region) for region, targets in fleets.items() for target in targets
    }
    for region, targets in fleets.items():
        assert executed(tmp_path, region) == {target.cluster_id for target in targets}


def test_what_is_discovered_in_two_regions(
    tmp_path: Path, fleets: Mapping[str, Sequence[Target]]
) -> None:
    """The projects of the settings are listed where they are; the fleet says so, piped or not."""
    write_settings(tmp_path, fleets)
    with two_regions(tmp_path, fleets) as variables:
        found = orchestrator(tmp_path, "discover", **variables)
        assert found.returncode == ExitCode.OK, found.stderr
        (tmp_path / "orchestrator.toml").unlink()
        done = orchestrator(
            tmp_path, "restart", "-", "--expect", "6", *QUICK, stdin=found.stdout, **variables
        )
    assert "6 of 6 clusters in 2 projects" in found.stderr
    assert done.returncode == ExitCode.OK, done.stderr
    for region, targets in fleets.items():
        assert executed(tmp_path, region) == {target.cluster_id for target in targets}


def test_a_resumed_run_keeps_its_addresses(
    tmp_path: Path, fleets: Mapping[str, Sequence[Target]]
) -> None:
    """A run goes on at the addresses it began with, whatever the next terminal has set."""
    everyone = [replace(t, region=region) for region, targets in fleets.items() for t in targets]
    (tmp_path / "fleet.csv").write_text(write_fleet(everyone, Format.CSV))
    with two_regions(tmp_path, fleets) as variables:
        begun = orchestrator(
            tmp_path, "restart", "fleet.csv", "--yes", "--cutoff", "1s", "--rate", "2/2s",
            *QUICK, **variables,
        )  # fmt: skip
        assert begun.returncode == ExitCode.STOPPED, begun.stderr
        done = orchestrator(tmp_path, "resume", "--cutoff", "none")
    assert done.returncode == ExitCode.OK, done.stderr
    for region, targets in fleets.items():
        assert executed(tmp_path, region) == {target.cluster_id for target in targets}


def test_a_region_nobody_knows_is_warned_of(tmp_path: Path) -> None:
    """A region that looks misspelt gets a warning with the plan, and does not stop it."""
    targets = [replace(target, region="cn-norht-4") for target in invent_targets(2, 1, 4)]
    (tmp_path / "fleet.csv").write_text(write_fleet(targets, Format.CSV))
    done = orchestrator(tmp_path, "restart", "fleet.csv", "--dry-run")
    assert done.returncode == ExitCode.OK
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert "cn-norht-4" in warning
    assert "cn-north-4" in warning
