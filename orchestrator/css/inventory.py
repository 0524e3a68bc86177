"""What a list says of each cluster besides its state: tags, nodes, zones, versions; pure.

Rules:

- It is read once, before a run: for a fleet file, or for what is checked while nothing was sent
  yet. Looks during a run stay with `model.ClusterState`, which is all that they compare.
- What an older service does not say is None, or empty; never a guess.
"""

from collections.abc import Mapping
from operator import attrgetter

import msgspec

from orchestrator.css.answers import read_entry, read_page, state_of_usual
from orchestrator.css.usual import Node, UsualEntry, usual_inventory
from orchestrator.model import ClusterState

_id_of = attrgetter("id")


class Cluster(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One cluster as the list of its project shows it."""

    id: str
    state: ClusterState
    version: str | None = None
    """The version of its datastore: `7.10.2`."""
    nodes: tuple[Node, ...] = ()
    """In the order of their ids."""
    tags: tuple[tuple[str, str], ...] = ()
    """Key and value, in the order of the keys; a value may be empty."""
    backup_available: bool | None = None
    enterprise_project_id: str | None = None

    @property
    def name(self) -> str | None:
        """What people call it."""
        return self.state.name

    @property
    def status(self) -> str:
        """The service's string; see `ClusterState.status`."""
        return self.state.status

    @property
    def datastore(self) -> str | None:
        """The lower-case type: `elasticsearch`, `opensearch` or `logstash`."""
        return self.state.datastore

    @property
    def roles(self) -> frozenset[str]:
        """The roles that its nodes have."""
        return frozenset(node.role for node in self.nodes if node.role is not None)

    @property
    def zones(self) -> frozenset[str]:
        """The availability zones that its nodes are in."""
        return frozenset(node.zone for node in self.nodes if node.zone is not None)


def read_inventory(body: bytes) -> tuple[list[tuple[str, Cluster]], int | None]:
    """Return the clusters of one page by id, and how many the service says there are in all.

    Raises:
        ValueError: it is not a page of clusters.
    """
    usual = usual_inventory(body)
    if usual is not None:
        return [(entry.id, _usual_cluster(entry)) for entry in usual.clusters], usual.total
    entries, total = read_page(body)
    found = [_cluster_in(entry) for entry in entries]
    return [(cluster.id, cluster) for cluster in found], total


def _usual_cluster(entry: UsualEntry) -> Cluster:
    """Say what `_cluster_in` says of an entry of the usual shape, several times as fast."""
    tags = {tag.key: tag.value or "" for tag in entry.tags or ()}
    return Cluster(
        id=entry.id,
        state=state_of_usual(entry),
        version=(entry.datastore and entry.datastore.version) or None,
        nodes=tuple(sorted(entry.nodes or (), key=_id_of)),
        tags=tuple(sorted(tags.items())),
        backup_available=entry.backup_available,
        enterprise_project_id=entry.enterprise_project_id or None,
    )


def _cluster_in(entry: Mapping[str, object]) -> Cluster:
    cluster_id, state = read_entry(entry)
    datastore = entry.get("datastore")
    version = datastore.get("version") if isinstance(datastore, dict) else None
    return Cluster(
        id=cluster_id,
        state=state,
        version=_text(version),
        nodes=_nodes_in(entry.get("instances")),
        tags=_tags_in(entry.get("tags")),
        backup_available=_switch(entry.get("backupAvailable")),
        enterprise_project_id=_text(
            entry.get("enterpriseProjectId", entry.get("enterprise_project_id"))
        ),
    )


def _nodes_in(value: object) -> tuple[Node, ...]:
    if not isinstance(value, list):
        return ()
    found = [
        Node(
            id=_text(item.get("id")) or _text(item.get("name")) or f"node {number}",
            status=_text(item.get("status")) or "unknown",
            role=_text(item.get("type")),
            zone=_text(item.get("azCode")),
            name=_text(item.get("name")),
        )
        for number, item in enumerate(value, 1)
        if isinstance(item, dict)
    ]
    return tuple(sorted(found, key=_id_of))


def _tags_in(value: object) -> tuple[tuple[str, str], ...]:
    """Return the tags from a list of keys with values; older services may give an object."""
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = [(item.get("key"), item.get("value")) for item in value if isinstance(item, dict)]
    else:
        return ()
    return tuple(
        sorted({key: _text(tag) or "" for key, tag in pairs if isinstance(key, str)}.items())
    )


def _text(value: object) -> str | None:
    """Return text, or a number as text; None for nothing, and for what is nested."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _switch(value: object) -> bool | None:
    """Return a truth, which older services write as text."""
    return {"true": True, "false": False}.get(str(value).lower())
