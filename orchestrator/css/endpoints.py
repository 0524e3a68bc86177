"""Where calls go: which addresses are taken, and the proxy on the way to each.

Rules:

- `https://` only, but for loopback, which no proxy is asked for either.
- Proxies are those of the environment, looked up once for each endpoint.
"""

import re
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import unquote

from yarl import URL

from orchestrator.css.credentials import is_loopback
from orchestrator.errors import UsageError
from orchestrator.signing import encode

_AS_IT_IS = re.compile(r"(?!\.+$)[A-Za-z0-9_.~-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where calls for a project go, and through which proxy."""

    base: URL
    path: str
    host: str
    proxy: URL | None = None
    proxy_headers: Mapping[str, str] | None = field(default=None, repr=False)

    def url(
        self,
        version: str,
        project_id: str,
        cluster_id: str | None = None,
        verb: str | None = None,
        *,
        query: str = "",
    ) -> URL:
        """Return an address just as it is sent; a signature covers these very characters."""
        path = _clusters_path(self.path, version, project_id)
        if cluster_id is not None:
            path = f"{path}/{_as_segment(cluster_id)}"
        if verb is not None:
            path = f"{path}/{verb}"
        if query:
            return URL(f"{self.base.origin()}{path}?{query}", encoded=True)
        return self.base.with_path(path, encoded=True)


@lru_cache(maxsize=1024)
def _clusters_path(base: str, version: str, project_id: str) -> str:
    return f"{base}/{version}/{_as_segment(project_id)}/clusters"


def _as_segment(text: str) -> str:
    if _AS_IT_IS.fullmatch(text):
        return text
    # Dots alone would be taken for a way up.
    return encode(text) if text.strip(".") else text.replace(".", "%2E")


def read_endpoint(text: str) -> Endpoint:
    """Return the endpoint at an address.

    Raises:
        UsageError: no call may go there.
    """
    shown = text.rpartition("@")[2]
    try:
        url = URL(text.strip())
        host, port = url.host, url.port
    except ValueError as exc:
        raise UsageError(f"the endpoint {shown!r} is not a URL; correct it") from exc
    if not host or "@" in url.authority or url.query_string or url.fragment:
        raise UsageError(
            f"the endpoint {shown!r} is not just https:// and a host (and a path); correct it"
        )
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(host)):
        raise UsageError(
            f"the endpoint {shown!r} is not https://; only a loopback one may be http://"
        )
    path = url.raw_path.rstrip("/")
    if is_loopback(host):
        return Endpoint(base=url, path=path, host=host)
    proxy, proxy_headers = _proxy_for(url.scheme, f"{host}:{port}")
    return Endpoint(base=url, path=path, host=host, proxy=proxy, proxy_headers=proxy_headers)


def _proxy_for(scheme: str, place: str) -> tuple[URL | None, Mapping[str, str] | None]:
    """Return the proxy that the environment names for `place`, and what it wants to know of us."""
    named = urllib.request.getproxies().get(scheme)
    if not named or urllib.request.proxy_bypass(place):
        return None, None
    try:
        proxy = URL(named)
    except ValueError:
        proxy = URL()
    if proxy.scheme not in {"http", "https"} or not proxy.host:
        raise UsageError(
            f"the proxy for {scheme} in the environment is not an http:// URL; correct "
            f"{scheme.upper()}_PROXY, or name {place} in NO_PROXY"
        )
    if proxy.raw_user is None:
        return proxy, None
    login = f"{unquote(proxy.raw_user)}:{unquote(proxy.raw_password or '')}".encode()
    secret = f"Basic {b64encode(login).decode()}"
    return proxy.with_user(None), MappingProxyType({"Proxy-Authorization": secret})
