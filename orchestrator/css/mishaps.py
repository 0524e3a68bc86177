"""Why a call broke, in words, and what can be done about it; pure.

Rules:

- Each way to fail before anything was sent has its own words: a name without an address, a port
  that refuses, a certificate that is not trusted, a proxy that says no.
- A reason never quotes what could hold a header.
"""

import errno
import os
import ssl
from typing import NamedTuple

import aiohttp
from aiohttp.http import HttpProcessingError

from orchestrator.span import format_span

# As openssl numbers them (x509_vfy.h).
_NOT_YET_VALID, _EXPIRED, _REVOKED = 9, 10, 23
_OTHER_NAME = frozenset({62, 64})
_NOT_VOUCHED_FOR = frozenset({2, 18, 19, 20, 21})

_PROXY_LOGIN = 407
_ABOUT_US = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA", "CERTIFICATE_EXPIRED")
"""Parts of the alerts by which the other end refuses what we show, or that we show nothing."""

_LATER = (
    (aiohttp.ServerDisconnectedError, "the connection was closed"),
    (aiohttp.ClientPayloadError, "the answer broke off"),
    (HttpProcessingError, "the answer is not HTTP"),
)


class Mishap(NamedTuple):
    """What happened, and what to look at."""

    reason: str
    advice: str = "check endpoint, network and firewalls"


def mishap_of(error: BaseException, patience: float) -> Mishap:
    """Return what an error of the connection means; `patience` is that of the call, in seconds."""
    if isinstance(error, TimeoutError):
        return Mishap(f"nothing within {format_span(patience)}")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _proxy_that_refuses(error.status)
    if isinstance(error, ssl.SSLError | aiohttp.ClientConnectorCertificateError):
        return _of_tls(error)
    if isinstance(error, OSError):
        return _of_network(error)
    known = (words for kind, words in _LATER if isinstance(error, kind))
    return Mishap(next(known, type(error).__name__))


def _of_network(error: OSError) -> Mishap:
    words = _words_of(error)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Mishap(f"its name has no address ({words})", "check endpoint and region, and DNS")
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return Mishap(
            f"the proxy cannot be reached ({words})",
            "check HTTPS_PROXY in the environment, or name the host in NO_PROXY",
        )
    if isinstance(error, aiohttp.ClientConnectorError) and not error.errno:
        return Mishap(
            "the other end closed it while it was made",
            "check endpoint and port, and whether our certificate is asked for (--client-cert)",
        )
    return Mishap(words)


def _proxy_that_refuses(status: int) -> Mishap:
    reason = f"the proxy refused to connect us ({status})"
    if status == _PROXY_LOGIN:
        return Mishap(reason, "it wants a login: put user and password into HTTPS_PROXY")
    return Mishap(reason, "ask who runs it to let this host and port through")


def _of_tls(error: ssl.SSLError | aiohttp.ClientConnectorCertificateError) -> Mishap:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _bad_certificate(error.certificate_error)
    return _failed_handshake(error)


def _bad_certificate(error: Exception) -> Mishap:
    code = getattr(error, "verify_code", 0)
    words = getattr(error, "verify_message", "") or type(error).__name__
    if code in _OTHER_NAME:
        return Mishap(
            f"its certificate is for another host ({words.rstrip('.')})",
            "check the endpoint, and any proxy in between",
        )
    if code in {_EXPIRED, _NOT_YET_VALID}:
        when = "has expired" if code == _EXPIRED else "is not valid yet"
        return Mishap(
            f"its certificate {when}", "check the clock of this machine, and the endpoint"
        )
    if code == _REVOKED:
        return Mishap("its certificate was revoked", "check the endpoint")
    advice = "check endpoint, network and certificates"
    if code in _NOT_VOUCHED_FOR:
        advice = (
            "if you know the authority that signed it, name its certificate with --ca-file; "
            "else somebody in between may read along"
        )
    return Mishap(f"its certificate is not trusted ({words})", advice)


def _failed_handshake(error: ssl.SSLError) -> Mishap:
    # What aiohttp makes of it is an SSLError without a reason, and has the other one inside.
    name = getattr(getattr(error, "os_error", error), "reason", None) or "it broke off"
    if any(part in name for part in _ABOUT_US):
        return Mishap(
            f"it does not accept our certificate ({name})",
            "check --client-cert and --client-key, and that its authority is known there",
        )
    return Mishap(
        f"TLS failed ({name})", "check that endpoint and port are those of an https:// one"
    )


def _words_of(error: OSError) -> str:
    # asyncio's own words for a failed connection hide the reason, which is in the number.
    number = error.errno or 0
    said = os.strerror(number) if number in errno.errorcode else error.strerror
    return said or type(error).__name__
