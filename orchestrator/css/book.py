"""Which credential each project uses, for a whole run: what it sends, and how it is renewed.

Rules:

- Projects of one account share what can be shared: a key, a token, the logins of one user.
- What is fixed is read once. Files are read again now and then, and when they were refused, for an
  agent may replace what they hold; tokens and the keys of an agency are renewed before they end.
- What can be known to be wrong is told when the book is opened, all of it at once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import MappingProxyType, TracebackType
from typing import NamedTuple, Self

import anyio
from yarl import URL

from orchestrator.config import CloudSettings
from orchestrator.css import agency, iam
from orchestrator.css.codes import ErrorClass
from orchestrator.css.credentials import NOBODY, Credential, Key, Token
from orchestrator.css.endpoints import read_endpoint
from orchestrator.css.exchange import Exchange
from orchestrator.css.renewal import Fetched, Renewal
from orchestrator.css.sources import LAST_RESORT, MistakeError, Source, Sources, Surroundings
from orchestrator.css.tls import USUAL, tls_for
from orchestrator.errors import CloudError, ConfigError, MistakesError, UsageError
from orchestrator.secret import Secret
from orchestrator.signing import AccessKey

FILE_LIFE = 60.0
"""Seconds after which a file is read again, in case an agent replaced what it holds."""

_HEADING = "some credentials cannot be used; nothing was sent:"
_NOT_FOUND = 404
_ASIDE = 4
"""Connections open at once to IAM or to the metadata service."""


class Page(NamedTuple):
    """What the book says of a project."""

    source: Source
    renewal: Renewal


class CredentialBook:
    """The credentials of some projects; fits `CredentialProvider` for as long as the context lasts.

    Args:
        settings: which project uses which credential, and where IAM is.
        regions: the projects, and the region that each one's targets name.
        around: where credentials are looked for that no setting names.
        now: the steady moment.
        prompt: asks a person for a passcode; None if there is nobody to ask.
        known_by: what the projects are given by, `id` or `name`.
    """

    def __init__(
        self,
        settings: CloudSettings,
        regions: Mapping[str, str | None],
        around: Surroundings,
        now: Callable[[], float],
        *,
        prompt: iam.Prompt | None = None,
        known_by: str = "id",
    ) -> None:
        self._settings = settings
        self._regions = regions
        self._now = now
        self._prompt = prompt
        self._known_by = known_by
        self._sources = Sources(settings, around)
        self._iam = Exchange(
            patience=min(settings.request_timeout, iam.PATIENCE),
            connections=_ASIDE,
            tls=tls_for(settings, around.environ),
        )
        self._metadata = Exchange(patience=agency.PATIENCE, connections=_ASIDE, tls=USUAL)
        self._pages: dict[str, Page | None] = {}
        self._logins: dict[str, iam.Logins] = {}
        self._renewals: dict[tuple[str, str | None], Renewal] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Find a credential for every project; log in where a passcode has to be asked for.

        Raises:
            ConfigError: some projects have none, or one that cannot be used; names each.
            UsageError: this machine has no agency, or a login with a passcode was refused.
        """
        async with AsyncExitStack() as stack:
            mistakes = list(self._mistakes())
            if mistakes:
                raise ConfigError(_HEADING, mistakes)
            await stack.enter_async_context(self._iam)
            await stack.enter_async_context(self._metadata)
            for project_id in self._regions:
                await self._prove(project_id)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @property
    def accounts(self) -> Mapping[str, str]:
        """Return the account of each project that has one."""
        found = {project_id: self.account_of(project_id) for project_id in self._regions}
        return MappingProxyType({p: account for p, account in found.items() if account != NOBODY})

    def account_of(self, project_id: str) -> str:
        """Return the name of the credential that a project uses; `NOBODY` if it needs none."""
        page = self._page(project_id)
        return NOBODY if page is None else page.source.account

    def source_of(self, project_id: str) -> Source | None:
        """Return where a project's credential comes from; None if it needs none."""
        page = self._page(project_id)
        return None if page is None else page.source

    async def headers(
        self, project_id: str, method: str, url: URL, body: bytes
    ) -> Mapping[str, str]:
        """Return the headers that authenticate one call; see `CredentialProvider`."""
        page = self._page(project_id)
        if page is None:
            return MappingProxyType({})
        credential = await page.renewal.current()
        return credential.headers(project_id, method, url, body)

    async def renew(self, project_id: str, given_at: float) -> bool:
        """Return whether there are other credentials now; see `CredentialProvider`."""
        page = self._page(project_id)
        return page is not None and await page.renewal.renew(given_at)

    async def projects_named(self, name: str) -> Sequence[str]:
        """Return the ids of the projects that IAM knows under a name, which is one of ours.

        The projects of this book must be given by name.

        Raises:
            CloudError: IAM gave no usable answer.
            UsageError: there are no credentials for it, or no address of IAM.
        """
        page, region = self._page(name), self._regions.get(name)
        address = self._settings.iam_endpoint_for(name, region)
        headers: Mapping[str, str] = {}
        if page is not None:
            address = self._iam_address(page.source, name, region)
        endpoint = read_endpoint(address)
        url = iam.projects_url(endpoint, name)
        if page is not None:
            try:
                credential = await page.renewal.current()
            except CloudError as error:
                if error.status == _NOT_FOUND:  # nobody can log in for a project that is not there
                    return ()
                raise
            # It is no call about a project: that is what we do not know yet.
            headers = credential.headers("", "GET", url, b"")
        return await iam.find_projects(self._iam, endpoint, url, headers, name)

    # ---------------------------------------------------------------------------------- opening

    def _mistakes(self) -> Iterator[str]:
        """Say what is wrong with the credentials of all projects, each once."""
        seen: dict[str, None] = {}
        for project_id in self._regions:
            try:
                page = self._page(project_id)
            except MistakesError as error:
                seen.update(dict.fromkeys(error.mistakes))
            except UsageError as error:
                seen[str(error)] = None
            else:
                if page is not None:
                    known = project_id if self._known_by == "id" else None
                    seen.update(dict.fromkeys(_mistakes_in(page.source, known)))
        yield from seen

    async def _prove(self, project_id: str) -> None:
        """Have the credential at hand, if it may turn out now that there is none."""
        page = self._page(project_id)
        if page is None or not (page.source.kind == "ecs" or "user_id" in page.source.parts):
            return
        logins = self._logins.get(page.source.account)
        if logins is not None:
            logins.prompt = self._prompt
        try:
            await page.renewal.current()
        except CloudError as error:
            if page.source is LAST_RESORT:
                raise _none_found(error) from error
            raise UsageError(f"{error}; nothing was sent") from error
        finally:
            if logins is not None:
                logins.prompt = None

    # ------------------------------------------------------------------------------------ pages

    def _page(self, project_id: str) -> Page | None:
        """Return a project's page.

        Raises:
            MistakeError: its credential is not whole.
            ConfigError: an address is not known.
        """
        try:
            return self._pages[project_id]
        except KeyError:
            page = self._pages[project_id] = self._new_page(project_id)
            return page

    def _new_page(self, project_id: str) -> Page | None:
        region = self._regions.get(project_id)
        source = self._sources.source_for(project_id, region)
        if source is None:
            return None
        is_apart = source.kind == "password" and "project" not in source.parts
        key = (source.account, project_id if is_apart else None)
        if key not in self._renewals:
            self._renewals[key] = self._new_renewal(source, project_id, region)
        return Page(source, self._renewals[key])

    def _new_renewal(self, source: Source, project_id: str, region: str | None) -> Renewal:
        match source.kind:
            case "password":
                endpoint = read_endpoint(self._iam_address(source, project_id, region))
                logins = self._logins.get(source.account)
                if logins is None:
                    logins = iam.Logins(source, self._iam, known_by=self._known_by)
                    self._logins[source.account] = logins
                fetch = partial(logins.token_for, project_id, endpoint)
                return Renewal(fetch, self._now)
            case "ecs":
                return Renewal(partial(self._ask_agency, source), self._now)
            case _:
                return Renewal(partial(_read, source), self._now)

    def _iam_address(self, source: Source, project_id: str, region: str | None) -> str:
        """Return where to log in: as set, else as the credential says, else as is usual."""
        is_set = self._settings.iam_endpoint != CloudSettings().iam_endpoint
        if source.iam_url is not None and not is_set:
            return source.iam_url.rstrip("/").removesuffix("/v3")
        return self._settings.iam_endpoint_for(project_id, region)

    async def _ask_agency(self, source: Source) -> Fetched:
        address = self._settings.metadata_endpoint
        return await agency.fetch_key(self._metadata, address, project_id=source.read("project"))


async def _read(source: Source) -> Fetched:
    """Read a key or a token from where it stands."""
    try:
        if source.is_fixed:
            return Fetched(credential=_credential_in(source))
        credential = await anyio.to_thread.run_sync(_credential_in, source)
    except MistakeError as error:
        raise CloudError(str(error), error_class=ErrorClass.UNSENT.value) from error
    return Fetched(credential=credential, renew_after=FILE_LIFE)


def _credential_in(source: Source) -> Credential:
    try:
        if source.kind == "token":
            return Token(Secret(source.read("token") or ""))
        token = source.read("security_token")
        key = AccessKey(
            source.read("access_key") or "",
            Secret(source.read("secret_key") or ""),
            None if token is None else Secret(token),
        )
        return Key(key, project_id=source.read("project"))
    except MistakeError as error:
        raise MistakeError(f"credential {source.account}: {error}") from error
    except ValueError as error:
        raise MistakeError(f"credential {source.account} ({source.where}): {error}") from error


def _mistakes_in(source: Source, project_id: str | None) -> Iterator[str]:
    """Say what is wrong with a credential for a project, as far as reading it tells."""
    try:
        source.check()
        if source.kind in {"aksk", "token"}:
            _credential_in(source)
    except MistakesError as error:
        yield from error.mistakes
    except MistakeError as error:
        yield str(error)
    else:
        made_for = source.read("project") if source.kind == "token" else None
        if project_id is not None and made_for not in {None, project_id}:
            yield (
                f"credential {source.account}: the token is for project {made_for}, not for "
                f"{project_id}; give that one a credential of its own"
            )


def _none_found(error: CloudError) -> UsageError:
    return UsageError(
        "looking for credentials: none are set (HUAWEICLOUD_SDK_AK and _SK, HW_*, OS_*, "
        "clouds.yaml, ~/.huaweicloud/credentials, OS_TOKEN), and this machine has no agency "
        f"({error}); set one of them, or write [credentials.NAME] in the settings"
    )
