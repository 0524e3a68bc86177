"""The spine against a bare loop: 10,000 restarts, 50 at once, the same simulator.

    python -m tests.benchmarks.spine [--clusters N] [--pairs N] [--latency SPAN]

Both sides run in this process, one after the other, against a simulator in a process of its own.
The bare loop is 50 workers that post restarts with aiohttp and parse the answers for their job ids.
The spine is a whole run without waiting: plan, journal (durable intents and answers), list calls
for baselines, campaign, report on disk. Printed is the median over the pairs of the spine's
throughput divided by the bare loop's, for a service that answers at once, which is the hardest
case, and for one that takes some milliseconds, which is less than any network to a real one.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import anyio

from orchestrator.config import load_settings
from orchestrator.errors import ExitCode
from orchestrator.fleet import Fleet, Format, write_fleet
from orchestrator.model import Target
from orchestrator.session import restart_fleet
from orchestrator.simulator import invent_targets

AT_ONCE = 50
GOAL = 0.5

# Restarts that are over at once, so that the same clusters can be restarted again and again.
SCENARIO = """
[latency]
before = "{latency}"
[restart]
duration = "1ms"
busy_after = "0ms"
"""


@contextmanager
def simulator(targets: Sequence[Target], folder: Path, latency: str = "0ms") -> Iterator[str]:
    """Serve the targets from a process of its own; the value is the URL."""
    fleet = folder / "fleet.jsonl"
    fleet.write_text(write_fleet(targets, Format.JSONL))
    scenario = folder / "scenario.toml"
    scenario.write_text(SCENARIO.format(latency=latency))
    command = [
        sys.executable, "-m", "orchestrator", "simulate",
        "--fleet", str(fleet), "--scenario", str(scenario),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def bare_loop(url: str, targets: Sequence[Target]) -> float:
    """Post every restart once; return the seconds."""
    urls = iter([f"{url}/v1.0/{t.project_id}/clusters/{t.cluster_id}/restart" for t in targets])
    answered = 0

    async def worker(session: aiohttp.ClientSession) -> None:
        nonlocal answered
        for address in urls:
            async with session.post(address) as response:
                answered += "jobId" in await response.json()

    began = time.perf_counter()
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        anyio.create_task_group() as tasks,
    ):
        for _ in range(AT_ONCE):
            tasks.start_soon(worker, session)
    seconds = time.perf_counter() - began
    assert answered == len(targets), f"{answered} of {len(targets)} were accepted"
    return seconds


async def spine(url: str, targets: Sequence[Target], folder: Path) -> float:
    """Run the orchestrator over every target once; return the seconds."""
    settings = load_settings(
        options={
            "cloud.endpoint": url,
            "limits.max_concurrency": (str(AT_ONCE),),
            "limits.rate": ("none",),
            "follow.wait": False,
            "journal.url": str(folder / "journal.db"),
            "report": str(folder / "report.json"),
        },
        environ={},
        config_file=None,
        cwd=folder,
        user_config=None,
    )
    fleet = Fleet(targets=tuple(targets), source=("bench",), collapsed=0)
    began = time.perf_counter()
    result = await restart_fleet(fleet, settings, environ={})
    seconds = time.perf_counter() - began
    assert result.exit_code is ExitCode.OK, result
    return seconds


def ratio(targets: Sequence[Target], pairs: int, latency: str) -> float:
    """Run the pairs against a service of that latency; print and return the median ratio."""
    ratios = []
    print(f"service answers after {latency}:")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with simulator(targets, folder, latency) as url:
            anyio.run(bare_loop, url, targets)
            for number in range(pairs):
                bare = anyio.run(bare_loop, url, targets)
                journal = folder / str(number)
                journal.mkdir()
                full = anyio.run(spine, url, targets, journal)
                ratios.append(bare / full)
                print(
                    f"  pair {number + 1}: bare loop {bare:.2f} s "
                    f"({len(targets) / bare:,.0f}/s), spine {full:.2f} s "
                    f"({len(targets) / full:,.0f}/s), ratio {bare / full:.2f}",
                    flush=True,
                )
    median = statistics.median(ratios)
    print(f"  spine / bare loop: {median:.2f} (goal: at least {GOAL})")
    return median


def main() -> None:
    """Run the pairs for each latency; the exit code is 1 if the goal is missed in any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clusters", type=int, default=10_000)
    parser.add_argument("--projects", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--latency", action="append", metavar="SPAN")
    arguments = parser.parse_args()
    targets = invent_targets(arguments.clusters, arguments.projects, 1)
    latencies = arguments.latency or ["0ms", "5ms", "20ms"]
    medians = [ratio(targets, arguments.pairs, latency) for latency in latencies]
    sys.exit(min(medians) < GOAL)


if __name__ == "__main__":
    main()
