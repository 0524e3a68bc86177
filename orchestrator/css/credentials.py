"""Who we are to the service: what is added to each call, and how secrets stay in memory.

Rules:

- A secret is held in a `Secret`, which shows its value to `reveal` and to nothing else.
- A provider is asked for each call, with all that a signature covers, so that it may renew or sign.
- Calls are counted by account: what is refused, locked or throttled is an account, not a project.
"""

import ipaddress
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from yarl import URL

from orchestrator.errors import UsageError
from orchestrator.secret import Secret
from orchestrator.signing import AccessKey, Signer

CONTENT_TYPE = "application/json"
"""The content type of every call, with and without a body; a signature may cover it."""

NOBODY = ""
"""The account of projects for which nothing is sent: it can be neither refused nor locked."""

_HIDDEN = "***"
_COVERED = MappingProxyType({"Content-Type": CONTENT_TYPE})


class CredentialProvider(Protocol):
    """What proves to the service who is asking."""

    async def headers(
        self, project_id: str, method: str, url: URL, body: bytes
    ) -> Mapping[str, str]:
        """Return the headers that authenticate one call, just before it leaves.

        `url` is exactly what is sent, percent-encoded; the content type is `CONTENT_TYPE`.

        Raises:
            CloudError: none could be had just now; of class `unauthorized` if they were refused.
            UsageError: there are none, and there will be none until the operator acts.
        """

    def account_of(self, project_id: str) -> str:
        """Return the name of the credential that a project uses; `NOBODY` if it needs none."""

    async def renew(self, project_id: str, given_at: float) -> bool:
        """Get others in place of what was given out at that steady moment, and was refused.

        Return whether there are any now.

        Raises:
            CloudError: it cannot be said just now.
        """


class NoCredentials:
    """Sends nothing; for loopback endpoints."""

    async def headers(
        self,
        project_id: str,  # noqa: ARG002 - the protocol's
        method: str,  # noqa: ARG002
        url: URL,  # noqa: ARG002
        body: bytes,  # noqa: ARG002
    ) -> Mapping[str, str]:
        """Return no headers."""
        return MappingProxyType({})

    def account_of(self, project_id: str) -> str:  # noqa: ARG002 - the protocol's
        """Return that nobody asks."""
        return NOBODY

    async def renew(self, project_id: str, given_at: float) -> bool:  # noqa: ARG002 - the protocol's
        """Return that there is nothing to be had."""
        return False


class Credential(Protocol):
    """Something that proves who is asking; equal to what proves the same in the same way."""

    def headers(self, project_id: str, method: str, url: URL, body: bytes) -> Mapping[str, str]:
        """Return the headers that authenticate one call."""


class Token:
    """An IAM token; the same for each call.

    Raises:
        ValueError: with words for the operator, if it cannot be a header's value.
    """

    def __init__(self, token: Secret) -> None:
        value = token.reveal()
        if not value or not value.isascii() or not value.isprintable():
            raise ValueError(
                "the token is empty, or has line breaks or other characters that no token has; "
                "set it again, without quotes around it"
            )
        self._token = token
        self._headers = MappingProxyType({"X-Auth-Token": value})

    def __repr__(self) -> str:
        return f"Token({_HIDDEN})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and self._token == other._token

    def __hash__(self) -> int:
        return hash(self._token)

    def headers(
        self,
        project_id: str,  # noqa: ARG002 - the protocol's
        method: str,  # noqa: ARG002
        url: URL,  # noqa: ARG002
        body: bytes,  # noqa: ARG002
    ) -> Mapping[str, str]:
        """Return the token's header."""
        return self._headers


class Key:
    """An access key, for good or for a while; signs each call with the present date."""

    def __init__(self, key: AccessKey, *, project_id: str | None = None) -> None:
        """Hold the key.

        Args:
            key: signs.
            project_id: the project that calls are said to be about, if not that of their address.
        """
        self._key = key
        self._project_id = project_id
        self._signer = Signer(key)

    def __repr__(self) -> str:
        return f"Key({self._key!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Key):
            return NotImplemented
        return (self._key, self._project_id) == (other._key, other._project_id)

    def __hash__(self) -> int:
        return hash((self._key, self._project_id))

    def headers(self, project_id: str, method: str, url: URL, body: bytes) -> Mapping[str, str]:
        """Return date, project and signature; an empty `project_id` is none."""
        return self._signer.headers(
            method,
            url,
            _COVERED,
            body,
            at=time.time(),
            project_id=self._project_id or project_id or None,
        )


class TokenCredentials:
    """An IAM token that somebody else obtained; it is sent as it is and never renewed.

    Raises:
        UsageError: the token cannot be a header's value.
    """

    def __init__(self, token: Secret) -> None:
        try:
            self._token = Token(token)
        except ValueError as error:
            raise UsageError(f"reading the IAM token: {error}") from error

    def __repr__(self) -> str:
        return f"TokenCredentials({_HIDDEN})"

    async def headers(
        self, project_id: str, method: str, url: URL, body: bytes
    ) -> Mapping[str, str]:
        """Return the token's header."""
        return self._token.headers(project_id, method, url, body)

    def account_of(self, project_id: str) -> str:  # noqa: ARG002 - the protocol's
        """Return what the token is called."""
        return "token"

    async def renew(self, project_id: str, given_at: float) -> bool:  # noqa: ARG002 - the protocol's
        """Return that there is no other."""
        return False


def is_loopback(host: str | None) -> bool:
    """Return whether `host` is this machine itself, by name or by address; nothing is looked up."""
    if host is None:
        return False
    bare = host.strip("[]").rstrip(".").lower()
    if bare == "localhost" or bare.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False
