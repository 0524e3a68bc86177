"""`orchestrator simulate`: the pretend service, for curl, other clients, or a game day."""

import signal
import sys
from pathlib import Path

import anyio
import click

from orchestrator.cli import completion
from orchestrator.errors import ExitCode, UnavailableError, UsageError
from orchestrator.fleet import read_fleet
from orchestrator.session import Simulation, serve_simulator
from orchestrator.simulator import invent_targets


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 takes any free one.  [0]")
@click.option(
    "--fleet",
    multiple=True,
    metavar="FLEET",
    help="The clusters that there are.",
    shell_complete=completion.files,
)
@click.option("--clusters", type=click.IntRange(1), metavar="N", help="Make up so many clusters.")
@click.option("--projects", type=click.IntRange(1), default=1, metavar="N", help="In so many.  [1]")
@click.option(
    "--scenario", type=click.Path(path_type=Path), metavar="FILE", help="How the service behaves."
)
@click.option("--seed", type=int, default=0, metavar="N", help="Same seed, same behaviour.  [0]")
@click.option(
    "--trace", type=click.Path(path_type=Path), metavar="FILE",
    help="Write down every call and every restart, one JSON object a line.",
)  # fmt: skip
def simulate(
    *,
    port: int,
    fleet: tuple[str, ...],
    clusters: int | None,
    projects: int,
    scenario: Path | None,
    seed: int,
    trace: Path | None,
) -> int:
    """Serve a pretend service on loopback until interrupted; its URL is the first line printed."""
    if bool(fleet) == (clusters is not None):
        raise UsageError("simulate: give either --fleet FLEET or --clusters N")
    if clusters is not None:
        targets = invent_targets(clusters, projects, seed)
    else:
        targets = read_fleet(fleet, stdin=sys.stdin.buffer).targets
    simulation = Simulation.load(scenario, seed=seed, trace=trace)

    async def serve() -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with serve_simulator(targets, simulation, port=port) as url:
                click.echo(url)
                sys.stdout.flush()
                async for _ in signals:
                    return

    try:
        anyio.run(serve)
    except OSError as error:
        raise UnavailableError(
            f"serving the simulator on port {port}: {error.strerror or error}; "
            "use another port, or 0 for any free one"
        ) from error
    return ExitCode.OK
