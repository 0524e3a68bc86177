"""Who we are to the service: what is added to each call, and how secrets stay in memory.

Rules:

- A secret is held in a `Secret`, which shows its value to `reveal` and to nothing else.
- Nothing is sent to a loopback endpoint: a simulator needs no secret, and must not see one.
- A provider is asked for each call, with all that a signature covers, so that it may renew or sign.
"""

import ipaddress
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from yarl import URL

from orchestrator.errors import UsageError
from orchestrator.secret import Secret

CONTENT_TYPE = "application/json"
"""The content type of every call, with and without a body; a signature may cover it."""

_HIDDEN = "***"
_TOKEN_NAMES = ("OS_TOKEN", "OS_AUTH_TOKEN")


class CredentialProvider(Protocol):
    """What proves to the service who is asking."""

    async def headers(
        self, project_id: str, method: str, url: URL, body: bytes
    ) -> Mapping[str, str]:
        """Return the headers that authenticate one call, just before it leaves.

        `url` is exactly what is sent, percent-encoded; the content type is `CONTENT_TYPE`.

        Raises:
            CloudError: none could be had just now; status 401 if they were refused.
            UsageError: there are none, and there will be none until the operator acts.
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


class TokenCredentials:
    """An IAM token that somebody else obtained; it is sent as it is and never renewed.

    Raises:
        UsageError: the token cannot be a header's value.
    """

    def __init__(self, token: Secret) -> None:
        value = token.reveal()
        if not value or not value.isascii() or not value.isprintable():
            raise UsageError(
                "reading the IAM token: it is empty, or has line breaks or other characters that "
                "no token has; set it again, without quotes around it"
            )
        self._headers = MappingProxyType({"X-Auth-Token": value})

    def __repr__(self) -> str:
        return f"TokenCredentials({_HIDDEN})"

    async def headers(
        self,
        project_id: str,  # noqa: ARG002 - a token is the same for each call
        method: str,  # noqa: ARG002
        url: URL,  # noqa: ARG002
        body: bytes,  # noqa: ARG002
    ) -> Mapping[str, str]:
        """Return the token's header."""
        return self._headers


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


def credentials_from_environment(environ: Mapping[str, str], endpoint: str) -> CredentialProvider:
    """Return what the environment offers for `endpoint`; nothing is needed for a loopback one.

    Raises:
        UsageError: nothing usable is set; says what to set.
    """
    if is_loopback(URL(endpoint).host):
        return NoCredentials()
    for name in _TOKEN_NAMES:
        token = environ.get(name, "").strip()
        if token:
            return TokenCredentials(Secret(token))
    raise UsageError(
        f"looking for credentials for {URL(endpoint).host}: neither {' nor '.join(_TOKEN_NAMES)} "
        "is set; obtain an IAM token scoped to the project and export it as OS_TOKEN"
    )
