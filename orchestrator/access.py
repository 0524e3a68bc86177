"""How the service is reached: its addresses and our credentials, put together into a client."""

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import anyio

from orchestrator.config import CloudSettings
from orchestrator.css import CredentialBook, CssClient, Prompt, Surroundings
from orchestrator.css.tls import tls_for
from orchestrator.errors import CloudError

AT_ONCE = 10
"""Projects that are checked at once."""


class Access(NamedTuple):
    """The service, and who we are to it."""

    client: CssClient
    book: CredentialBook


@asynccontextmanager
async def open_access(
    settings: CloudSettings,
    regions: Mapping[str, str | None],
    now: Callable[[], float],
    *,
    environ: Mapping[str, str] | None = None,
    prompt: Prompt | None = None,
    known_by: str = "id",
) -> AsyncIterator[Access]:
    """Reach the service for some projects, with the credential of each.

    Args:
        settings: where it is, and which project uses which credential.
        regions: the projects, and the region that each one's targets name.
        now: the steady moment.
        environ: where credentials are looked for; the process's environment if not given.
        prompt: asks a person for a passcode, before anything is sent; None if nobody can be asked.
        known_by: what the projects are given by: `id`, or `name` to look for their ids.

    Raises:
        UsageError: a credential is missing or cannot be used; nothing was sent to the service.
    """
    around = _surroundings(environ)
    book = CredentialBook(settings, regions, around, now, prompt=prompt, known_by=known_by)
    async with (
        book,
        CssClient(
            settings.endpoint_for,
            book,
            now,
            request_timeout=settings.request_timeout,
            connections=settings.connections,
            tls=tls_for(settings, around.environ),
        ) as client,
    ):
        yield Access(client, book)


def _surroundings(environ: Mapping[str, str] | None) -> Surroundings:
    if environ is None:
        return Surroundings(os.environ, Path.home(), Path.cwd())
    home = environ.get("HOME")
    return Surroundings(environ, Path(home) if home else None, Path.cwd())


# -------------------------------------------------------------------------------------- checking


class Standing(StrEnum):
    """What became of the check of a credential."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """The service, or IAM, does not accept it."""
    FAILED = "failed"
    """There was no look at the project, for another reason."""
    UNCHECKED = "unchecked"
    NOT_NEEDED = "not needed"
    """The project's endpoint is on this machine, and it names no credential."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Which credential a project uses, and whether it is any good; holds no secret."""

    project_id: str
    region: str | None
    endpoint: str
    account: str | None
    """The name of the credential; None if none is needed."""
    kind: str | None
    """One of `aksk`, `token`, `password`, `ecs`."""
    where: str | None
    """The variables or files that its parts are read from."""
    standing: Standing
    error: str | None = None


async def check_credentials(
    settings: CloudSettings,
    regions: Mapping[str, str | None],
    *,
    is_sent: bool = True,
    environ: Mapping[str, str] | None = None,
    prompt: Prompt | None = None,
) -> Sequence[Finding]:
    """Return for each project which credential it uses, and what the service says of it.

    Args:
        settings: where the service is, and which project uses which credential.
        regions: the projects, and the region that each one's targets name.
        is_sent: make one small look at each project; otherwise nothing is sent.
        environ: where credentials are looked for; the process's environment if not given.
        prompt: asks a person for a passcode.

    Raises:
        UsageError: a credential is missing or cannot be used.
    """
    limiter = anyio.CapacityLimiter(AT_ONCE)
    findings: dict[str, Finding] = {}
    async with open_access(
        settings, regions, time.monotonic, environ=environ, prompt=prompt
    ) as access:

        async def check(project_id: str, region: str | None) -> None:
            async with limiter:
                standing, error = Standing.UNCHECKED, None
                if is_sent:
                    standing, error = await _look(access.client, project_id, region)
                source = access.book.source_of(project_id)
                if source is None and standing is Standing.UNCHECKED:
                    standing = Standing.NOT_NEEDED
                findings[project_id] = Finding(
                    project_id=project_id,
                    region=region,
                    endpoint=settings.endpoint_for(project_id, region),
                    account=source.account if source else None,
                    kind=source.kind if source else None,
                    where=source.where if source else None,
                    standing=standing,
                    error=error,
                )

        async with anyio.create_task_group() as tasks:
            for project_id, region in regions.items():
                tasks.start_soon(check, project_id, region)
    return [findings[project_id] for project_id in regions]


async def _look(
    client: CssClient, project_id: str, region: str | None
) -> tuple[Standing, str | None]:
    try:
        await client.probe(project_id, region)
    except CloudError as error:
        is_refused = error.error_class == "unauthorized"
        return (Standing.REFUSED if is_refused else Standing.FAILED), str(error)
    return Standing.ACCEPTED, None
