"""The bodies that the service usually sends, decoded straight into what we want of them; pure.

Rules:

- What is not exactly of the usual shape is None here, and `answers` reads it, in any shape known.
  Where both can read a body they say the same.
- What nobody asks for is passed over without making anything of it: a page of 1000 clusters is
  over a megabyte, and most of it is addresses, volumes and tags.
"""

from typing import Annotated, Any

import msgspec

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Node(msgspec.Struct, gc=False):
    id: _Text
    status: str


class _Datastore(msgspec.Struct, gc=False):
    type: str


class UsualCluster(msgspec.Struct, gc=False, kw_only=True):
    """A cluster of a list; why it failed is left as it came, in any of its spellings."""

    id: _Text
    status: _Text
    actions: list[str] | None = None
    progress: dict[str, str] | None = msgspec.field(default=None, name="actionProgress")
    nodes: list[_Node] | None = msgspec.field(default=None, name="instances")
    updated: str | None = None
    datastore: _Datastore | None = None
    name: str | None = None
    failedReason: Any = None  # noqa: N815 - the service's spelling
    failedReasons: Any = None  # noqa: N815
    failed_reason: Any = None
    failed_reasons: Any = None


class UsualPage(msgspec.Struct, gc=False):
    """A page of a list in which every cluster is a usual one."""

    clusters: list[UsualCluster]
    total: _Count | None = msgspec.field(default=None, name="totalSize")


class _Accepted(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    job_id: list[str] | str = msgspec.field(name="jobId")


# What msgspec finds wrong with a body, text that is not UTF-8, and nesting that nobody can follow.
_UNUSUAL = (msgspec.MsgspecError, ValueError, RecursionError)

_page = msgspec.json.Decoder(UsualPage)
_accepted = msgspec.json.Decoder(_Accepted)


def usual_page(body: bytes) -> UsualPage | None:
    """Return the page of a list, if nothing about it is unusual."""
    try:
        return _page.decode(body)
    except _UNUSUAL:
        return None


def usual_job_ids(body: bytes) -> list[str] | None:
    """Return the job ids of a restart that was taken, if these and nothing else are the answer."""
    try:
        job_id = _accepted.decode(body).job_id
    except _UNUSUAL:
        return None
    return [job_id] if isinstance(job_id, str) else job_id
