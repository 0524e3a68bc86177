"""Words for what no server on loopback can be made to do."""

import socket
import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from orchestrator.css.mishaps import mishap_of

KEY = ConnectionKey("css.example", 443, True, True, None, None, None)  # type: ignore[call-arg,unused-ignore]


def alert(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


def certificate(code: int, message: str) -> aiohttp.ClientConnectorCertificateError:
    inner = ssl.SSLCertVerificationError(1, message)
    inner.verify_code, inner.verify_message = code, message
    return aiohttp.ClientConnectorCertificateError(KEY, inner)


@pytest.mark.parametrize(
    ("error", "reason", "advice"),
    [
        (TimeoutError(), "nothing within 1m30s", "network"),
        (alert("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "does not accept our certificate", "--client"),
        (alert("TLSV1_ALERT_UNKNOWN_CA"), "does not accept our certificate", "--client-cert"),
        (alert("WRONG_VERSION_NUMBER"), "TLS failed (WRONG_VERSION_NUMBER)", "https://"),
        (alert(""), "TLS failed (it broke off)", "https://"),
        (certificate(23, "certificate revoked"), "was revoked", "endpoint"),
        (certificate(62, "Hostname mismatch, it is not for x."), "for another host", "endpoint"),
        (certificate(19, "self-signed certificate in chain"), "not trusted (self-s", "--ca-file"),
        (certificate(66, "EE key too small"), "not trusted (EE key too small)", "certificates"),
        (
            aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-3, "Temporary failure")),
            "its name has no address (Temporary failure)",
            "DNS",
        ),
        (ConnectionResetError(104, "x"), "Connection reset by peer", "endpoint"),
        (
            aiohttp.ClientConnectorError(KEY, ConnectionResetError()),
            "closed it while it was made",
            "--client-cert",
        ),
        (OSError("x"), "OSError", "endpoint"),
        (aiohttp.ClientPayloadError(), "the answer broke off", ""),
        (RuntimeError("token"), "RuntimeError", ""),
    ],
)
def test_words(error: BaseException, reason: str, advice: str) -> None:
    """Each mishap has a reason and an advice, and quotes nothing that could be a header."""
    mishap = mishap_of(error, 90.0)
    assert reason in mishap.reason
    assert advice in mishap.advice
