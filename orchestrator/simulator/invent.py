"""Fleets that exist nowhere, for demonstrations and game days; the same seed, the same fleet."""

from orchestrator.model import Target
from orchestrator.simulator.draws import draw, hexadecimal, identity

_SUBJECTS = ("orders", "logs", "search", "catalog", "billing", "audit", "metrics", "users")
_STAGES = ("prod", "test", "dev")
_ZONES = ("a", "b", "c")
_REGION = "cn-north-4"


def invent_targets(clusters: int, projects: int = 1, seed: int = 0) -> tuple[Target, ...]:
    """Make up a fleet, spread evenly over projects, with labels `env` and `az`.

    Raises:
        ValueError: with words for the operator, if there would be no cluster or no project.
    """
    if clusters < 1 or projects < 1:
        raise ValueError(
            f"cannot invent {clusters} clusters in {projects} projects; ask for at least 1 of each"
        )
    ids = [hexadecimal("project", seed, number) for number in range(projects)]
    return tuple(_target(ids[number % projects], number, seed) for number in range(clusters))


def _target(project_id: str, number: int, seed: int) -> Target:
    drawn = draw("target", seed, number)
    subject = _SUBJECTS[int(drawn[0] * len(_SUBJECTS))]
    stage = _STAGES[int(drawn[1] * len(_STAGES))]
    zone = _ZONES[int(drawn[2] * len(_ZONES))]
    return Target(
        project_id=project_id,
        cluster_id=identity("cluster", seed, number),
        name=f"css-{subject}-{stage}-{number + 1:04}",
        region=_REGION,
        labels=(("env", stage), ("az", f"{_REGION}{zone}")),
    )
