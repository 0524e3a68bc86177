"""What can be known before anything is touched: whether this fleet can be restarted as asked."""

import difflib
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from orchestrator.config import NO_MOMENT, Settings, WindowSettings
from orchestrator.errors import ConfigError
from orchestrator.experience import Durations
from orchestrator.fleet import Fleet
from orchestrator.limits import SCOPES
from orchestrator.model import Target
from orchestrator.plan import Plan, Window, make_plan
from orchestrator.span import format_moment, parse_moment


def prepare(
    fleet: Fleet,
    settings: Settings,
    now: float | None = None,
    *,
    known: Mapping[str, Durations] = MappingProxyType({}),
) -> Plan:
    """Make the plan for a fleet, with the region of every target as far as it is known.

    Args:
        fleet: what to restart.
        settings: how.
        now: the moment of the wall clock from which spans count; this one if not given.
        known: how long restarts of each kind lasted before, if the order goes by that.

    Raises:
        ConfigError: a window that cannot be kept.
        PlanError: the fleet and the policy do not make a plan.
    """
    window = window_at(settings.window, time.time() if now is None else now)
    targets = tuple(_with_region(target, settings) for target in fleet.targets)
    return make_plan(
        targets,
        replace(settings.policy, window=window),
        canary=settings.waves.canary,
        waves=settings.waves.waves,
        soak=settings.waves.soak,
        order=settings.waves.order,
        seed=settings.waves.seed,
        known=known,
        source=fleet.source,
    )


def check_endpoints(targets: Iterable[Target], settings: Settings) -> None:
    """Make sure that calls for these targets have somewhere to go; a simulator needs no such place.

    Raises:
        ConfigError: targets without a region or an endpoint, names every project.
    """
    mistakes: list[str] = []
    for project_id, region in _places(targets):
        try:
            settings.cloud.endpoint_for(project_id, region)
        except ConfigError as error:
            mistakes.extend(error.mistakes)
    if mistakes:
        mistakes = list(dict.fromkeys(mistakes))
        raise ConfigError("planning the run: some projects have no endpoint", mistakes)


def doubts_about(targets: Iterable[Target], settings: Settings) -> Sequence[str]:
    """Return what is doubtful about the places that calls for these targets go to, each once."""
    said = (settings.cloud.doubt_about(*place) for place in _places(targets))
    return list(dict.fromkeys(doubt for doubt in said if doubt is not None))


def doubts_about_scopes(plan: Plan) -> Sequence[str]:
    """Return which limits count by a label that no target has: all would count as one."""
    policy = plan.policy
    labels = {name for target in plan.targets for name, _ in target.labels}
    scopes = {*SCOPES, *labels}
    doubts = []
    for limit in (*policy.limits, *policy.max_unavailable):
        if limit.scope not in scopes:
            near = difflib.get_close_matches(limit.scope, sorted(scopes), 1)
            doubts.append(
                f"the limit {limit} counts by the label {limit.scope}, which no cluster of this "
                "fleet has, so that all count as one"
                + (f"; did you mean {near[0]}?" if near else "; correct it, or label the clusters")
            )
    return doubts


def window_at(settings: WindowSettings, now: float) -> Window:
    """Return the window that the settings mean for a run that is planned at `now`.

    Raises:
        ConfigError: a moment means nothing, has passed, or comes before the window opens.
    """
    mistakes: list[str] = []
    moments: dict[str, float] = {}
    for name in ("not_before", "cutoff", "deadline"):
        text = getattr(settings, name)
        if text not in {None, NO_MOMENT}:
            try:
                moments[name] = parse_moment(text, now=now)
            except ValueError as error:
                mistakes.append(f"{_option(name)}: {error}")
    opens_at = moments.get("not_before", now)
    for name in ("cutoff", "deadline"):
        if moments.get(name, math.inf) <= now:
            text = getattr(settings, name)
            mistakes.append(f"{_option(name)}: {text} has passed; name one to come")
        elif moments.get(name, math.inf) <= opens_at:
            mistakes.append(
                f"{_option(name)}: {format_moment(moments[name])} is not after --not-before "
                f"{format_moment(opens_at)}; nothing could start in between"
            )
    if mistakes:
        raise ConfigError("planning the run: its window cannot be kept", mistakes)
    return Window(**moments)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _with_region(target: Target, settings: Settings) -> Target:
    region = settings.cloud.region_for(target)
    return target if region == target.region else replace(target, region=region)


def _places(targets: Iterable[Target]) -> Iterable[tuple[str, str | None]]:
    return dict.fromkeys((target.project_id, target.region) for target in targets)
