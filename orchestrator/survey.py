"""How the fleet looks before anything is touched, and which kinds of restart do not fit it.

Rules:

- Each project is read once, with list calls; nothing is restarted here.
- A kind that does not fit its cluster refuses the whole fleet; what is only unwise is a warning.
- A project that cannot be read is told, and stops nobody: the run deals with it.
- What an older service does not say is no reason to refuse.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import anyio

from orchestrator.css.inventory import Cluster
from orchestrator.errors import CloudError, IncompleteError, UnfitError
from orchestrator.model import LEAST_ROLLING, WHOLE, Call, ClusterState, Kind, Target

AT_ONCE = 16
"""Projects that are read at the same time."""

FEW = 3
"""Clusters that are named where there may be many."""

DATA_ROLES = frozenset({"ess", "ess-cold"})
"""The roles whose nodes hold data; a rolling restart has to take one of them."""

LOGSTASH = "logstash"


class Lister(Protocol):
    """Who reads what a project has."""

    async def take_inventory(self, project_id: str, region: str | None) -> Mapping[str, Cluster]:
        """Return all clusters of a project by id.

        Raises:
            CloudError: no complete list could be had.
        """


class Standing(StrEnum):
    """How a cluster stands before its restart."""

    READY = "ready"
    BUSY = "busy"
    UNHEALTHY = "unhealthy"
    GONE = "gone"
    """Its project was read, and has no such cluster."""
    UNREAD = "not read"
    """Its project could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """One project as it was found by a list call that was sent at `began_at`."""

    began_at: float
    clusters: Mapping[str, Cluster]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One project as a look sees it that was sent at `began_at`."""

    began_at: float
    states: Mapping[str, ClusterState]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Every project of a fleet, by id: how it was found, or why it could not be read."""

    listings: Mapping[str, Listing]
    unread: Mapping[str, str]

    def sights(self) -> Mapping[str, Sight]:
        """Return what looks at the projects would have shown; much less than all that was found."""
        return {
            project_id: Sight(
                began_at=listing.began_at,
                states={key: cluster.state for key, cluster in listing.clusters.items()},
            )
            for project_id, listing in self.listings.items()
        }

    def cluster_of(self, target: Target) -> Cluster | None:
        """Return the target's cluster, if it was seen."""
        listing = self.listings.get(target.project_id)
        return None if listing is None else listing.clusters.get(target.cluster_id)

    def standing_of(self, target: Target) -> Standing:
        """Return how a target stands."""
        if target.project_id not in self.listings:
            return Standing.UNREAD
        cluster = self.cluster_of(target)
        if cluster is None:
            return Standing.GONE
        if cluster.state.is_busy:
            return Standing.BUSY
        return Standing.READY if cluster.state.is_ready else Standing.UNHEALTHY


async def survey_fleet(
    targets: Iterable[Target], lister: Lister, now: Callable[[], float], *, at_once: int = AT_ONCE
) -> Survey:
    """Read every project of the fleet once; a list that has all of its targets is enough."""
    regions: dict[str, str | None] = {}
    wanted: dict[str, list[str]] = {}
    for target in targets:
        regions.setdefault(target.project_id, target.region)
        wanted.setdefault(target.project_id, []).append(target.cluster_id)
    left = iter(regions.items())
    listings: dict[str, Listing] = {}
    unread: dict[str, str] = {}

    async def read_on() -> None:
        for project_id, region in left:
            began_at = now()
            try:
                clusters = await lister.take_inventory(project_id, region)
            except CloudError as error:
                if not isinstance(error, IncompleteError) or error.lacks(wanted[project_id]):
                    unread[project_id] = str(error)
                    continue
                clusters = error.seen
            listings[project_id] = Listing(began_at=began_at, clusters=clusters)

    async with anyio.create_task_group() as tasks:
        for _ in range(min(at_once, len(regions))):
            tasks.start_soon(read_on)
    return Survey(
        listings=listings,
        unread={project: unread[project] for project in regions if project in unread},
    )


# ------------------------------------------------------------------------------ what fits, or not


def fitted(targets: Sequence[Target], survey: Survey) -> tuple[Target, ...]:
    """Return the targets with every kind that was left to us chosen.

    Raises:
        UnfitError: kinds that do not fit their clusters; names every one.
    """
    found = tuple(
        replace(target, kind=_choice(survey.cluster_of(target))) if target.kind.is_auto else target
        for target in targets
    )
    mistakes = [
        f"{target}{f' ({target.name})' if target.name else ''}: {mistake}"
        for target in found
        if (cluster := survey.cluster_of(target)) is not None
        for mistake in _misfits(target.kind, cluster)
    ]
    if mistakes:
        count = len(mistakes)
        raise UnfitError(
            f"{count} kind{'s' if count > 1 else ''} of restart cannot be had as asked; the "
            "projects were listed, and nothing was restarted",
            mistakes,
        )
    return found


def _choice(cluster: Cluster | None) -> Kind:
    """Return how a whole cluster is restarted; the usual way if nobody knows what it is."""
    is_logstash = cluster is not None and cluster.datastore == LOGSTASH
    return Kind(Call.REBOOT) if is_logstash else WHOLE


def _misfits(kind: Kind, cluster: Cluster) -> Iterator[str]:
    """Say why a cluster cannot be restarted like this."""
    is_logstash = cluster.datastore == LOGSTASH
    if cluster.datastore is not None and is_logstash != (kind.call is Call.REBOOT):
        other = "reboot" if is_logstash else "restart"
        yield f"{kind} is not for {cluster.datastore} clusters; use {other}, or auto"
        return
    missing = [role for role in kind.roles if role != "all" and role not in cluster.roles]
    if missing and cluster.roles:
        there = ", ".join(sorted(cluster.roles))
        yield f"{kind} names {', '.join(missing)}, and it has only {there}; name those"
    if (
        kind.node is not None
        and cluster.nodes
        and all(node.id != kind.node for node in cluster.nodes)
    ):
        yield f"it has no node {kind.node}; take an id from its list of instances"
    if kind.call is Call.ROLLING:
        yield from _misfits_of_rolling(kind, cluster)


def _misfits_of_rolling(kind: Kind, cluster: Cluster) -> Iterator[str]:
    if 0 < len(cluster.nodes) < LEAST_ROLLING:
        yield f"{kind} needs {LEAST_ROLLING} nodes, and it has {len(cluster.nodes)}; use restart"
    if kind.roles and not DATA_ROLES.union({"all"}) & set(kind.roles):
        yield f"{kind} names no node that holds data; add ess or ess-cold"


# ----------------------------------------------------------------------------------- what to know


def warnings(targets: Iterable[Target], survey: Survey) -> Mapping[str, list[str]]:
    """Return what is unwise, and the clusters of which it is true, by name."""
    found: dict[str, list[str]] = {}
    for target in targets:
        cluster = survey.cluster_of(target)
        if cluster is not None:
            for words in _doubts(target, cluster):
                found.setdefault(words, []).append(called(target, cluster))
    return found


def _doubts(target: Target, cluster: Cluster) -> Iterator[str]:
    data = [node for node in cluster.nodes if node.role in DATA_ROLES]
    if target.kind.call is Call.ROLLING and len(cluster.nodes) == LEAST_ROLLING:
        yield f"just {LEAST_ROLLING} nodes, the least for a rolling restart"
    if len(data) == 1:
        yield "a single data node, so any restart is an outage"
    elif len(cluster.zones) == 1 and cluster.nodes:
        yield "all nodes in one availability zone"
    if cluster.backup_available is False:
        yield "no backups"
    if cluster.state.failed_reason is not None:
        yield "an earlier failure that is still shown"
    if target.name is not None and cluster.name is not None and target.name != cluster.name:
        yield "another name at the service than in the fleet"


def called(target: Target, cluster: Cluster | None = None) -> str:
    """Return what people call a target."""
    return target.name or (cluster is not None and cluster.name) or target.cluster_id


def counts(targets: Iterable[Target], survey: Survey) -> Mapping[Standing, list[str]]:
    """Return the names of the clusters that stand like this."""
    found: dict[Standing, list[str]] = {standing: [] for standing in Standing}
    for target in targets:
        found[survey.standing_of(target)].append(called(target, survey.cluster_of(target)))
    return found


def survey_lines(targets: Sequence[Target], survey: Survey) -> list[str]:
    """Say how a fleet was found: how many stand how, what is unwise, what could not be read."""
    words = []
    for standing, names in counts(targets, survey).items():
        if standing is Standing.READY:
            words.append(f"{len(names)} of {len(targets)} ready")
        elif names:
            words.append(f"{len(names)} {standing} ({few(names)})")
    lines = [f"clusters  {', '.join(words)}"]
    lines += [f"warning   {len(names)} with {what}: {few(names)}"
              for what, names in warnings(targets, survey).items()]  # fmt: skip
    return lines + [f"unread    {what}" for what in _unread_words(survey.unread)]


def _unread_words(unread: Mapping[str, str]) -> Iterator[str]:
    """Say why projects could not be read; what is wrong with many of them once."""
    alike: dict[str, list[str]] = {}
    for project_id, reason in unread.items():
        shared = re.sub(rf"\b{re.escape(project_id)}\b", "…", reason)
        alike.setdefault(shared, []).append(reason)
    for shared, reasons in alike.items():
        yield reasons[0] if len(reasons) == 1 else f"{len(reasons)} projects: {shared}"


def few(names: Sequence[str]) -> str:
    """Name the first few: `a, b, c and 9 more`."""
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return f"{', '.join(names[:FEW])}{more}"
