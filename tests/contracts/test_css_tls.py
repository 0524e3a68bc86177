"""The way to the service: certificates of both ends, proxies, and every way not to get there.

What failed before anything was sent is `unsent`, each with words of its own; a connection that
breaks after that is `lost`.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from orchestrator.config import CloudSettings
from orchestrator.css import CssClient, NoCredentials, Secret, TokenCredentials
from orchestrator.css.tls import USUAL, Tls, tls_for
from orchestrator.errors import CloudError, UsageError
from orchestrator.model import Answer, Verdict
from tests.contracts.test_css_client import (
    TARGET,
    TOKEN,
    RawServer,
    answers,
    run,
    said,
    serving,
)

HOST = "css.example"
PASSPHRASE = "correct horse battery"
NOW = datetime.now(UTC)


@dataclass
class Pki:
    """An authority that no system trusts, and what it signed."""

    folder: Path
    authority: trustme.CA = field(default_factory=trustme.CA)

    @property
    def trusted(self) -> Tls:
        """Trust in the authority, and nothing to show."""
        return Tls(ca_file=self.file("ca.pem", self.authority.cert_pem.bytes()))

    def file(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def server(
        self,
        host: str,
        *,
        begins: datetime | None = None,
        ends: datetime | None = None,
        asks: bool = False,
        most: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> ssl.SSLContext:
        """Return what a server of this name uses; `asks` is whether it wants a certificate, too."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = most
        cert = self.authority.issue_cert(host, not_before=begins, not_after=ends)
        cert.configure_cert(context)
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
            self.authority.configure_trust(context)
        return context

    def client(self, *, passphrase: str | None = None) -> tuple[Path, Path]:
        """Return the files of a certificate and its key for us."""
        issued = self.authority.issue_cert("ops@bastion.example")
        key = issued.private_key_pem.bytes()
        if passphrase is not None:
            key = serialization.load_pem_private_key(key, None).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(passphrase.encode()),
            )
        cert = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        return self.file("client.pem", cert), self.file("client.key", key)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


async def restart_at(endpoint: str, tls: Tls = USUAL, *, timeout: float = 5.0) -> Answer:  # noqa: ASYNC109
    """Ask for one restart there."""
    async with CssClient(
        lambda *_: endpoint,
        TokenCredentials(Secret(TOKEN)),
        time.monotonic,
        request_timeout=timeout,
        tls=tls,
    ) as css:
        return await css.restart(TARGET, "r-1")


# --------------------------------------------------------------------------- their certificate


@pytest.mark.parametrize(
    ("host", "begins", "ends", "words"),
    [
        ("elsewhere.example", None, None, "its certificate is for another host"),
        ("127.0.0.1", NOW - timedelta(9), NOW - timedelta(2), "its certificate has expired"),
        ("127.0.0.1", NOW + timedelta(2), NOW + timedelta(9), "its certificate is not valid yet"),
    ],
)
def test_certificates_that_are_no_good(
    pki: Pki, host: str, begins: datetime | None, ends: datetime | None, words: str
) -> None:
    """A certificate for another host, or another time, leaves the restart unsent and says so."""

    async def story() -> None:
        async with serving(answers, pki.server(host, begins=begins, ends=ends)) as server:
            answer = await restart_at(f"https://127.0.0.1:{server.port}", pki.trusted)
            assert answer.verdict is Verdict.UNSENT
            assert words in said(answer)
            assert not server.requests

    run(story())


def test_an_authority_nobody_knows(pki: Pki) -> None:
    """An unknown authority leaves the restart unsent; with `ca_file` it is trusted."""

    async def story() -> None:
        async with serving(answers, pki.server("127.0.0.1")) as server:
            endpoint = f"https://127.0.0.1:{server.port}"
            answer = await restart_at(endpoint)
            assert answer.verdict is Verdict.UNSENT
            assert "its certificate is not trusted (" in said(answer)
            assert "--ca-file" in said(answer)
            assert not server.requests
            answer = await restart_at(endpoint, pki.trusted)
            assert answer.verdict is Verdict.ACCEPTED

    run(story())


async def _closes(server: RawServer, reader: asyncio.StreamReader, _writer: object) -> None:
    await server.read(reader)


def test_lost_after_the_handshake(pki: Pki) -> None:
    """A connection that ends after the request was sent may have delivered it."""

    async def story() -> None:
        async with serving(_closes, pki.server("127.0.0.1")) as server:
            answer = await restart_at(f"https://127.0.0.1:{server.port}", pki.trusted)
            assert answer.verdict is Verdict.LOST
            assert "it may have begun" in said(answer)
            assert len(server.requests) == 1

    run(story())


async def _speaks_plainly(_: RawServer, reader: asyncio.StreamReader, writer: object) -> None:
    assert isinstance(writer, asyncio.StreamWriter)
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_no_tls_at_the_other_end() -> None:
    """A port that does not speak TLS is told as that."""

    async def story() -> None:
        async with serving(_speaks_plainly) as server:
            answer = await restart_at(f"https://127.0.0.1:{server.port}")
            assert answer.verdict is Verdict.UNSENT
            assert "TLS failed (" in said(answer)

    run(story())


def test_a_name_without_an_address() -> None:
    """A name that DNS does not know is told as that, and nothing was sent."""
    found: list[Answer] = []

    async def story() -> None:
        found.append(await restart_at("https://css.nowhere.invalid", timeout=15))

    run(story())
    assert found[0].verdict is Verdict.UNSENT
    assert "no connection to css.nowhere.invalid could be had: its name has no address" in said(
        found[0]
    )
    assert "DNS" in said(found[0])


# ------------------------------------------------------------------------------ our certificate


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_asks_who_we_are(pki: Pki, version: ssl.TLSVersion) -> None:
    """With our certificate we are let in; without, nothing was accepted, and that is told."""
    cert, key = pki.client()
    both = pki.file("both.pem", cert.read_bytes() + key.read_bytes())

    async def story() -> None:
        context = pki.server("127.0.0.1", asks=True, most=version)
        async with serving(answers, context) as server:
            endpoint, ca = f"https://127.0.0.1:{server.port}", pki.trusted.ca_file
            for tls in (
                Tls(ca_file=ca, client_cert=cert, client_key=key),
                Tls(ca_file=ca, client_cert=both),
            ):
                assert (await restart_at(endpoint, tls)).verdict is Verdict.ACCEPTED
            answer = await restart_at(endpoint, pki.trusted)
            # In the newer protocol we hear of it only after we have spoken.
            late = version is ssl.TLSVersion.TLSv1_3
            assert answer.verdict is (Verdict.LOST if late else Verdict.UNSENT)
            assert ("was closed" if late else "closed it while it was made") in said(answer)
            assert len(server.requests) == 2

    run(story())


def test_keys_that_are_encrypted(pki: Pki) -> None:
    """An encrypted key is opened with the passphrase of a variable, and nobody is asked for it."""
    cert, key = pki.client(passphrase=PASSPHRASE)
    settings = CloudSettings(
        ca_file=pki.trusted.ca_file, client_cert=cert, client_key=key, client_key_password_env="PW"
    )

    async def story() -> None:
        async with serving(answers, pki.server("127.0.0.1", asks=True)) as server:
            tls = tls_for(settings, {"PW": PASSPHRASE})
            assert PASSPHRASE not in repr(tls)
            answer = await restart_at(f"https://127.0.0.1:{server.port}", tls)
            assert answer.verdict is Verdict.ACCEPTED

    run(story())
    with pytest.raises(UsageError, match="belongs to a certificate"):
        tls_for(CloudSettings(client_key=key), {})
    assert tls_for(CloudSettings(client_key_password_env="PW"), {}) == USUAL
    with pytest.raises(UsageError, match="PW is not set"):
        tls_for(settings, {"PW": ""})
    with pytest.raises(UsageError, match="and the passphrase") as caught:
        tls_for(settings, {"PW": "wrong horse"}).context()
    assert "wrong horse" not in str(caught.value)
    with pytest.raises(UsageError, match="it is encrypted; name the variable"):
        Tls(client_cert=cert, client_key=key).context()


def test_certificates_of_ours_that_are_no_good(pki: Pki, tmp_path: Path) -> None:
    """Files that cannot be read, are no certificates, or do not belong together are named."""
    cert, _ = pki.client()
    other = pki.file("other.key", pki.authority.issue_cert("x.example").private_key_pem.bytes())
    text = tmp_path / "text.pem"
    text.write_text("hello\n")
    for tls, words in (
        (Tls(client_cert=cert, client_key=other), "do not belong together"),
        (Tls(client_cert=text), "check that both are PEM files"),
        (Tls(client_cert=tmp_path / "none.pem"), "No such file"),
        (Tls(client_cert=cert, client_key=tmp_path / "none.key"), "No such file"),
        (Tls(ca_file=text), "reading the CA file"),
        (Tls(ca_file=tmp_path / "none.pem"), "reading the CA file"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            tls.context()
        assert str(tmp_path) in str(caught.value) or str(cert) in str(caught.value)


def test_what_is_wrong_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    """A client with unusable certificates does not open."""

    async def story() -> None:
        tls = Tls(ca_file=tmp_path / "none.pem")
        async with CssClient(lambda *_: "", NoCredentials(), time.monotonic, tls=tls):
            raise AssertionError

    with pytest.raises(UsageError, match="reading the CA file"):
        run(story())


# ------------------------------------------------------------------------------------- proxies


@dataclass
class Proxy:
    """A proxy that connects whoever asks to one port, whatever name was asked for."""

    leads_to: int
    answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"
    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    carried: bytearray = field(default_factory=bytearray)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.answer)
        if b" 200 " in self.answer:
            there, away = await asyncio.open_connection("127.0.0.1", self.leads_to)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._carry(reader, away))
                tasks.create_task(self._carry(there, writer))
        writer.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                self.carried += data
                sink.write(data)
        sink.close()


@asynccontextmanager
async def proxying(
    monkeypatch: pytest.MonkeyPatch, leads_to: int, answer: bytes | None = None
) -> AsyncIterator[Proxy]:
    """Serve a proxy, and name it in the environment."""
    proxy = Proxy(leads_to)
    if answer is not None:
        proxy.answer = answer
    listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = listening.sockets[0].getsockname()[1]
    for name in ("no_proxy", "NO_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://ops:secret-7@127.0.0.1:{proxy.port}")
    async with listening:
        yield proxy


def test_through_a_proxy(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy is asked to connect and then carries what it cannot read; TLS is with the service."""

    async def story() -> None:
        async with (
            serving(answers, pki.server(HOST)) as server,
            proxying(monkeypatch, server.port) as proxy,
        ):
            answer = await restart_at(f"https://{HOST}", pki.trusted)
            assert answer.verdict is Verdict.ACCEPTED
            (request,) = server.requests
            assert TOKEN.encode() in request
            assert b"Proxy-Authorization" not in request
            (head,) = proxy.heads
            assert head.startswith(b"CONNECT css.example:443 HTTP/1.1\r\n")
            assert b"Proxy-Authorization: Basic b3BzOnNlY3JldC03" in head
            assert TOKEN.encode() not in head + proxy.carried
            assert b"clusters" not in proxy.carried

    run(story())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
            "wants a login",
        ),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "refused to connect us (403)"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "refused to connect us (502)"),
    ],
)
def test_proxies_that_refuse(monkeypatch: pytest.MonkeyPatch, answer: bytes, words: str) -> None:
    """A proxy that says no is told as that, and nothing was sent."""

    async def story() -> None:
        async with proxying(monkeypatch, 9, answer):
            found = await restart_at(f"https://{HOST}")
            assert found.verdict is Verdict.UNSENT
            assert f"no connection to {HOST} through proxy 127.0.0.1 could be had" in said(found)
            assert words in said(found)
            assert "secret-7" not in repr(found)

    run(story())


def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that nobody serves is not mistaken for the service."""

    async def story() -> None:
        async with proxying(monkeypatch, 9) as proxy:
            pass
        found = await restart_at(f"https://{HOST}")
        assert found.verdict is Verdict.UNSENT
        assert "the proxy cannot be reached (Connection refused)" in said(found)
        assert "HTTPS_PROXY" in said(found)
        assert proxy.heads == []

    run(story())


def test_bad_certificates_behind_a_proxy(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that leads elsewhere, or breaks TLS open, is found out before anything is sent."""

    async def story() -> None:
        async with (
            serving(answers, pki.server("elsewhere.example")) as server,
            proxying(monkeypatch, server.port),
        ):
            found = await restart_at(f"https://{HOST}", pki.trusted)
            assert found.verdict is Verdict.UNSENT
            assert "its certificate is for another host" in said(found)
            found = await restart_at(f"https://{HOST}")
            assert found.verdict is Verdict.UNSENT
            assert "its certificate is not trusted" in said(found)
            assert not server.requests

    run(story())


def test_lost_behind_a_proxy(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    """What went into the tunnel and was not answered may have arrived."""

    async def story() -> None:
        async with (
            serving(_closes, pki.server(HOST)) as server,
            proxying(monkeypatch, server.port),
        ):
            found = await restart_at(f"https://{HOST}", pki.trusted)
            assert found.verdict is Verdict.LOST
            assert len(server.requests) == 1

    run(story())


def test_looks_say_the_same(pki: Pki) -> None:
    """A look that fails on its way has the words that a restart would have."""

    async def story() -> None:
        async with serving(answers, pki.server("127.0.0.1")) as server:
            async with CssClient(
                lambda *_: f"https://127.0.0.1:{server.port}", NoCredentials(), time.monotonic
            ) as css:
                with pytest.raises(CloudError, match="its certificate is not trusted") as caught:
                    await css.list_clusters("p", None)
            assert caught.value.error_class == "unsent"

    run(story())
