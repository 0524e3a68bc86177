"""What can be known before anything is touched: whether this fleet can be restarted as asked."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from orchestrator.config import Settings
from orchestrator.errors import ConfigError, PlanError
from orchestrator.fleet import Fleet
from orchestrator.model import Target
from orchestrator.plan import Plan, make_plan


def prepare(fleet: Fleet, settings: Settings) -> Plan:
    """Make the plan for a fleet, with every target's region known and its endpoint checked.

    Raises:
        ConfigError: targets without a region or an endpoint; names every project.
        PlanError: the fleet and the policy do not make a plan.
    """
    _refuse_unkept(settings)
    targets = tuple(_with_region(target, settings) for target in fleet.targets)
    _check_endpoints(targets, settings)
    return make_plan(
        targets,
        settings.policy,
        canary=settings.waves.canary,
        waves=settings.waves.waves,
        soak=settings.waves.soak,
        source=fleet.source,
    )


def _refuse_unkept(settings: Settings) -> None:
    """Refuse what would be promised and not kept; silence would be worse than an error."""
    window = settings.window
    for name in ("not_before", "cutoff", "deadline"):
        if getattr(window, name) is not None:
            raise PlanError(
                f"planning the run: {name.replace('_', '-')} is not kept by this version; "
                "take it out, and stop the run by hand with Ctrl-C when its time has come"
            )


def _with_region(target: Target, settings: Settings) -> Target:
    region = settings.cloud.region_for(target)
    return target if region == target.region else replace(target, region=region)


def _check_endpoints(targets: Sequence[Target], settings: Settings) -> None:
    mistakes: list[str] = []
    for project_id, region in _places(targets):
        try:
            settings.cloud.endpoint_for(project_id, region)
        except ConfigError as error:
            mistakes.extend(error.mistakes)
    if mistakes:
        raise ConfigError("planning the run: some projects have no endpoint", mistakes)


def _places(targets: Iterable[Target]) -> Iterable[tuple[str, str | None]]:
    return dict.fromkeys((target.project_id, target.region) for target in targets)
