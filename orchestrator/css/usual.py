"""The bodies that the service usually sends, decoded straight into what we want of them; pure.

Rules:

- What is not exactly of the usual shape is None here, and `answers` reads it, in any shape known.
  Where both can read a body they say the same.
- What nobody asks for is passed over without making anything of it: a page of 1000 clusters is
  over a megabyte, and most of it is addresses, volumes and tags.
"""

from typing import Annotated, Any, Generic, TypeVar

import msgspec

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class Node(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, rename={"role": "type", "zone": "azCode"}
):
    """One machine of a cluster; what is not known of it is None, never empty."""

    id: _Text
    status: _Text
    role: _Text | None = None
    """`ess`, `ess-master`, `ess-client`, `ess-cold`, or `lgs` for Logstash; an open set."""
    zone: _Text | None = None
    name: _Text | None = None


class _NodeStatus(msgspec.Struct, gc=False):
    id: _Text
    status: str


class _Datastore(msgspec.Struct, gc=False):
    type: str
    version: str | None = None


class _Tag(msgspec.Struct, gc=False):
    key: str
    value: str | None = None


class UsualCluster(msgspec.Struct, gc=False, kw_only=True):
    """A cluster of a list; why it failed is left as it came, in any of its spellings."""

    id: _Text
    status: _Text
    actions: list[str] | None = None
    progress: dict[str, str] | None = msgspec.field(default=None, name="actionProgress")
    nodes: list[_NodeStatus] | None = msgspec.field(default=None, name="instances")
    updated: str | None = None
    datastore: _Datastore | None = None
    name: str | None = None
    failedReason: Any = None  # noqa: N815 - the service's spelling
    failedReasons: Any = None  # noqa: N815
    failed_reason: Any = None
    failed_reasons: Any = None


class UsualEntry(UsualCluster, gc=False, kw_only=True):
    """A cluster of a list with all that is to be known of it before a run."""

    nodes: list[Node] | None = msgspec.field(default=None, name="instances")  # type: ignore[assignment]
    tags: list[_Tag] | None = None
    backup_available: bool | None = msgspec.field(default=None, name="backupAvailable")
    enterprise_project_id: str | None = msgspec.field(default=None, name="enterpriseProjectId")
    # An older spelling of the same: whoever uses it is not usual.
    old_enterprise_project_id: None = msgspec.field(default=None, name="enterprise_project_id")


C = TypeVar("C", bound=UsualCluster)


class UsualPage(msgspec.Struct, Generic[C], gc=False):
    """A page of a list in which every cluster is a usual one."""

    clusters: list[C]
    total: _Count | None = msgspec.field(default=None, name="totalSize")


class _Accepted(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    job_id: list[str] | str = msgspec.field(name="jobId")


# What msgspec finds wrong with a body, text that is not UTF-8, and nesting that nobody can follow.
_UNUSUAL = (msgspec.MsgspecError, ValueError, RecursionError)

_page = msgspec.json.Decoder(UsualPage[UsualCluster])
_inventory = msgspec.json.Decoder(UsualPage[UsualEntry])
_accepted = msgspec.json.Decoder(_Accepted)


def usual_page(body: bytes) -> UsualPage[UsualCluster] | None:
    """Return the page of a list, if nothing about it is unusual."""
    try:
        return _page.decode(body)
    except _UNUSUAL:
        return None


def usual_inventory(body: bytes) -> UsualPage[UsualEntry] | None:
    """Return the page of a list with everything in it, if nothing about it is unusual."""
    try:
        return _inventory.decode(body)
    except _UNUSUAL:
        return None


def usual_job_ids(body: bytes) -> list[str] | None:
    """Return the job ids of a restart that was taken, if these and nothing else are the answer."""
    try:
        job_id = _accepted.decode(body).job_id
    except _UNUSUAL:
        return None
    return [job_id] if isinstance(job_id, str) else job_id
