"""The client against real servers on loopback: what it sends, and what it makes of every mishap."""

import asyncio
import gzip
import json
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from yarl import URL

from orchestrator.css import (
    CredentialProvider,
    CssClient,
    NoCredentials,
    Secret,
    TokenCredentials,
)
from orchestrator.css.client import SMALL_BODY
from orchestrator.css.connections import Connections
from orchestrator.css.endpoints import read_endpoint
from orchestrator.css.tls import Tls
from orchestrator.engine import Cloud
from orchestrator.errors import CloudError, GoneError, HeldBackError, IncompleteError, UsageError
from orchestrator.model import Answer, ClusterState, Kind, Target, Verdict

PROJECT = "0123456789abcdef0123456789abcdef"
CLUSTER = "4f3deec3-efa8-4598-bf91-560aad1377a3"
TARGET = Target(project_id=PROJECT, cluster_id=CLUSTER)
JOB = "ff8080815fa0fa5e015fa365b6300007"
OK = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 46\r\n\r\n"
    b'{"jobId":["ff8080815fa0fa5e015fa365b6300007"]}'
)
TOKEN = "gAAAAAB-a-token-that-nobody-may-see"

Handler = Callable[[web.Request], Awaitable[web.Response]]
Script = Callable[["RawServer", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class RawServer:
    """A server that follows a script for each connection, and keeps what it was sent."""

    port: int = 0
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    resets: int = 0

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        """Return the next request, head and body."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        request = head + await reader.readexactly(length)
        self.requests.append(request)
        return request


async def answers(server: RawServer, reader: asyncio.StreamReader, writer: object) -> None:
    """Answer every request of a connection with a job id."""
    assert isinstance(writer, asyncio.StreamWriter)
    while True:
        await server.read(reader)
        writer.write(OK)


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Run a raw server for as long as the context lasts."""
    server = RawServer()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        try:
            await script(server, reader, writer)
        except ConnectionError:
            server.resets += 1
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield server


def client(
    port: int,
    credentials: CredentialProvider | None = None,
    *,
    scheme: str = "http",
    timeout: float = 5.0,
    connections: int = 100,
    ca_file: Path | None = None,
) -> CssClient:
    return CssClient(
        lambda _project, _region: f"{scheme}://127.0.0.1:{port}",
        credentials or NoCredentials(),
        time.monotonic,
        request_timeout=timeout,
        connections=connections,
        tls=Tls(ca_file=ca_file),
    )


def run(story: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 20))


def said(answer: Answer) -> str:
    assert answer.error is not None
    return answer.error.message


def ask(
    script: Script,
    verdict: Verdict,
    *,
    requests: int,
    timeout: float = 5.0,
    scheme: str = "http",
) -> Answer:
    """Ask for one restart of a server with this script; check what is sent and concluded."""
    found: list[Answer] = []

    async def story() -> None:
        async with serving(script) as server:
            async with client(server.port, timeout=timeout, scheme=scheme) as css:
                found.append(await css.restart(TARGET, "r-1"))
            assert len(server.requests) == requests

    run(story())
    answer = found[0]
    assert answer.verdict is verdict, answer
    assert answer.request_id == "r-1"
    assert answer.sent_at <= answer.answered_at
    return answer


# ----------------------------------------------------------------------------------- what is sent


@pytest.mark.parametrize(
    ("kind", "path", "body"),
    [
        ("restart", "v1.0/{p}/clusters/{c}/restart", None),
        ("reboot", "v1.0/{p}/clusters/{c}/reboot", None),
        (
            "restart:ess,ess-master",
            "v2.0/{p}/clusters/{c}/restart",
            {"type": "role", "value": "ess,ess-master"},
        ),
        (
            "restart:node=n-1",
            "v2.0/{p}/clusters/{c}/restart",
            {"type": "node", "value": "n-1"},
        ),
        ("rolling", "v2.0/{p}/clusters/{c}/rolling-restart", {"type": "role", "value": "all"}),
        ("rolling:ess", "v2.0/{p}/clusters/{c}/rolling-restart", {"type": "role", "value": "ess"}),
    ],
)
def test_bytes_of_a_restart(kind: str, path: str, body: object) -> None:
    """Each kind of restart is one POST to its path, with its body, ids and our name."""
    target = Target(project_id=PROJECT, cluster_id=CLUSTER, kind=Kind.parse(kind))

    async def story() -> None:
        async with serving(answers) as server:
            async with client(server.port, TokenCredentials(Secret(TOKEN))) as css:
                answer = await css.restart(target, "r-1")
            assert answer.verdict is Verdict.ACCEPTED
            assert answer.job_ids == (JOB,)
            (request,) = server.requests
            head, _, sent = request.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            assert first == f"POST /{path.format(p=PROJECT, c=CLUSTER)} HTTP/1.1"
            assert headers.pop("User-Agent").startswith("orchestrator/")
            assert headers == {
                "Host": f"127.0.0.1:{server.port}",
                "Content-Type": "application/json",
                "Content-Length": str(len(sent)),
                "X-Auth-Token": TOKEN,
                "X-Request-Id": "r-1",
            }
            assert (json.loads(sent) if sent else None) == body

    run(story())


def test_odd_ids_stay_one_segment() -> None:
    """An id cannot reach another path, whatever is in it."""

    async def story() -> None:
        async with serving(answers) as server, client(server.port) as css:
            for odd in ("a/b?c#d", "..", "ü %2F", "v1.0"):
                await css.restart(Target(project_id="p", cluster_id=odd), "r")
        paths = [request.split()[1] for request in server.requests]
        assert paths == [
            b"/v1.0/p/clusters/a%2Fb%3Fc%23d/restart",
            b"/v1.0/p/clusters/%2E%2E/restart",
            b"/v1.0/p/clusters/%C3%BC%20%252F/restart",
            b"/v1.0/p/clusters/v1.0/restart",
        ]

    run(story())


def test_credentials_see_what_is_sent() -> None:
    """A provider is asked for each call, with the very address and body that are sent."""
    seen: list[tuple[str, str, str, bytes]] = []

    class Signing:
        async def headers(
            self, project_id: str, method: str, url: URL, body: bytes
        ) -> Mapping[str, str]:
            seen.append((project_id, method, url.raw_path_qs, body))
            return {"Authorization": f"call {len(seen)}"}

        def account_of(self, project_id: str) -> str:
            return f"account of {project_id}"

        async def renew(self, project_id: str, given_at: float) -> bool:  # noqa: ARG002
            return False

    async def story() -> None:
        async with serving(answers) as server, client(server.port, Signing()) as css:
            target = Target(project_id="p", cluster_id="c", kind=Kind.parse("rolling"))
            await css.restart(target, "r")
            with pytest.raises(CloudError):
                await css.list_clusters("p", None)
        for number, (request, call) in enumerate(zip(server.requests, seen, strict=True), 1):
            assert request.split()[:2] == [call[1].encode(), call[2].encode()]
            assert f"Authorization: call {number}".encode() in request
            assert request.endswith(call[3])
        assert seen[1][2] == "/v1.0/p/clusters?limit=1000&offset=1&start=1"

    run(story())


def test_endpoint_with_a_path_and_region() -> None:
    """The endpoint is asked for with project and region, and may have a path."""
    asked: list[tuple[str, str | None]] = []

    async def story() -> None:
        async with serving(answers) as server:

            def endpoint_for(project_id: str, region: str | None) -> str:
                asked.append((project_id, region))
                return f"http://127.0.0.1:{server.port}/css/"

            cloud: Cloud
            async with CssClient(endpoint_for, NoCredentials(), time.monotonic) as cloud:
                target = Target(project_id="p", cluster_id="c", region="eu-de")
                await cloud.restart(target, "r")
                await cloud.restart(target, "r")
            assert server.requests[0].split()[1] == b"/css/v1.0/p/clusters/c/restart"
        assert asked == [("p", "eu-de")]

    run(story())


# ---------------------------------------------------------------------------- what never left


def test_connection_refused() -> None:
    """A refused connection carried nothing."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound but not listening: refused, and nobody else's

        async def story() -> None:
            async with client(bound.getsockname()[1]) as css:
                answer = await css.restart(TARGET, "r-1")
                assert answer.verdict is Verdict.UNSENT
                assert answer.error is not None
                assert answer.error.error_class == "unsent"
                assert "check endpoint" in said(answer)
                with pytest.raises(CloudError, match=r"looking at cluster .* could be had"):
                    await css.show_cluster(TARGET)

        run(story())


def test_name_that_does_not_exist() -> None:
    """A name without an address leaves nothing sent."""

    async def story() -> None:
        endpoint = "http://nowhere.localhost:9"
        async with CssClient(lambda *_: endpoint, NoCredentials(), time.monotonic) as css:
            assert (await css.restart(TARGET, "r")).verdict is Verdict.UNSENT

    run(story())


async def _plain(server: RawServer, reader: asyncio.StreamReader, writer: object) -> None:
    assert isinstance(writer, asyncio.StreamWriter)
    server.requests.clear()
    await reader.read(1)
    writer.write(OK)


async def _silent(_server: RawServer, reader: asyncio.StreamReader, _writer: object) -> None:
    await reader.read()


def test_no_tls_at_the_other_end() -> None:
    """A failed handshake carried nothing of the request."""
    ask(_plain, Verdict.UNSENT, requests=0, scheme="https")


def test_handshake_that_never_ends() -> None:
    """Patience that ends during the handshake ends before anything was sent."""
    answer = ask(_silent, Verdict.UNSENT, requests=0, scheme="https", timeout=0.2)
    assert "nothing within 200ms" in said(answer)


def test_waiting_for_a_connection() -> None:
    """Who waits in vain for one of the allowed connections has sent nothing."""

    async def story() -> None:
        async with (
            serving(_never_answers) as server,
            client(server.port, timeout=0.3, connections=1) as css,
            asyncio.TaskGroup() as tasks,
        ):
            held = [tasks.create_task(css.restart(TARGET, f"r-{n}")) for n in range(3)]
        answers_given = [task.result() for task in held]
        sent = [answer for answer in answers_given if answer.verdict is Verdict.LOST]
        # One that waited may still be handed the connection in its last moment.
        assert 1 <= len(sent) == len(server.requests) < 3
        assert all(a.verdict is Verdict.UNSENT for a in answers_given if a not in sent)

    run(story())


def test_who_waited_for_a_connection_is_asked_again() -> None:
    """Who may not leave any more when there is a connection for it at last does not."""
    objections: list[str] = []

    def leave() -> None:
        for objection in objections:
            raise HeldBackError(objection)

    async def story() -> None:
        async with serving(answers) as server, client(server.port, connections=1) as css:
            assert (await css.restart(TARGET, "r-1", leave)).verdict is Verdict.ACCEPTED
            objections.append("paused by ana")
            with pytest.raises(HeldBackError, match="paused by ana"):
                await css.restart(TARGET, "r-2", leave)
            objections.clear()
            # The connection that it did not use serves the next.
            assert (await css.restart(TARGET, "r-3")).verdict is Verdict.ACCEPTED
            assert len(server.requests) == 2
        async with serving(_answers_late) as server, client(server.port, connections=1) as css:
            async with asyncio.TaskGroup() as tasks:
                first = tasks.create_task(css.restart(TARGET, "r-1"))
                await asyncio.sleep(0.05)
                held = tasks.create_task(_held(css.restart(TARGET, "r-2", leave)))
                await asyncio.sleep(0.05)
                objections.append("drained by ana")
            assert first.result().verdict is Verdict.ACCEPTED
            assert held.result() == "drained by ana"
            assert len(server.requests) == 1

    run(story())


async def _held(restart: Coroutine[object, object, Answer]) -> str:
    with pytest.raises(HeldBackError) as held:
        await restart
    return str(held.value)


async def _answers_late(server: RawServer, reader: asyncio.StreamReader, writer: object) -> None:
    assert isinstance(writer, asyncio.StreamWriter)
    await server.read(reader)
    await asyncio.sleep(0.3)
    writer.write(OK)
    await reader.read()


async def _never_answers(server: RawServer, reader: asyncio.StreamReader, _writer: object) -> None:
    await server.read(reader)
    await reader.read()


@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_an_answer_that_nobody_asked_for(pause: float) -> None:
    """What a connection says unasked is never the answer to a later call, read or not yet read."""

    async def script(server: RawServer, reader: asyncio.StreamReader, writer: object) -> None:
        assert isinstance(writer, asyncio.StreamWriter)
        await server.read(reader)
        writer.write(OK)
        await asyncio.sleep(pause)
        writer.write(OK.replace(b"ff8080815fa0fa5e", b"eeeeeeeeeeeeeeee"))
        await reader.read()

    async def story() -> None:
        async with serving(script) as server, client(server.port) as css:
            for _ in range(2):
                answer = await css.restart(TARGET, "r")
                assert answer.job_ids == (JOB,)
                await asyncio.sleep(0.1)
            assert server.connections == 2

    run(story())


def test_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy gets its login and only the wish to connect; if it refuses, nothing was sent."""

    async def script(server: RawServer, reader: asyncio.StreamReader, writer: object) -> None:
        assert isinstance(writer, asyncio.StreamWriter)
        await server.read(reader)
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    async def story() -> None:
        async with serving(script) as server:
            monkeypatch.setenv("HTTPS_PROXY", f"http://me:p%40ss@127.0.0.1:{server.port}")
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.delenv("no_proxy", raising=False)
            credentials = TokenCredentials(Secret(TOKEN))
            async with CssClient(
                lambda *_: "https://css.example", credentials, time.monotonic
            ) as css:
                answer = await css.restart(TARGET, "r")
            assert answer.verdict is Verdict.UNSENT
            assert "through proxy 127.0.0.1" in said(answer)
            assert "p@ss" not in repr(answer)
            (request,) = server.requests
            assert request.startswith(b"CONNECT css.example:443 ")
            assert b"Proxy-Authorization: Basic bWU6cEBzcw==" in request
            assert TOKEN.encode() not in request
            # loopback is never asked for through a proxy
            async with client(server.port) as css:
                assert (await css.restart(TARGET, "r")).status == 403
            assert server.requests[1].startswith(b"POST /v1.0/")

    run(story())


class Failing:
    """Credentials that cannot be had."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def headers(
        self,
        project_id: str,  # noqa: ARG002 - the protocol's
        method: str,  # noqa: ARG002
        url: URL,  # noqa: ARG002
        body: bytes,  # noqa: ARG002
    ) -> Mapping[str, str]:
        raise self._error

    def account_of(self, project_id: str) -> str:  # noqa: ARG002 - the protocol's
        return "none"

    async def renew(self, project_id: str, given_at: float) -> bool:  # noqa: ARG002
        raise self._error


@pytest.mark.parametrize(
    ("error", "verdict", "error_class"),
    [
        (CloudError("asking IAM: 503", status=503, retry_after=2.0), Verdict.UNSENT, "unsent"),
        (
            CloudError("asking IAM: 401", error_class="unauthorized"),
            Verdict.UNAUTHORIZED,
            "unauthorized",
        ),
        (CloudError("asking IAM: 403", error_class="forbidden"), Verdict.REFUSED, "forbidden"),
        (UsageError("no key; set one"), Verdict.REFUSED, "bad_request"),
    ],
)
def test_no_credentials(error: Exception, verdict: Verdict, error_class: str) -> None:
    """Without credentials nothing is sent, and the answer says whether to try again."""

    async def story() -> None:
        async with serving(answers) as server, client(server.port, Failing(error)) as css:
            answer = await css.restart(TARGET, "r")
            assert answer.verdict is verdict
            assert answer.error is not None
            assert answer.error.error_class == error_class
            assert said(answer) == str(error)
            assert answer.retry_after == getattr(error, "retry_after", None)
            with pytest.raises(CloudError, match=str(error)):
                await css.show_cluster(TARGET)
            assert not server.connections

    run(story())


class Slow:
    """Credentials that take their time, by a clock that only they move."""

    def __init__(self, takes: float) -> None:
        self.now = 0.0
        self._takes = takes

    async def headers(
        self,
        project_id: str,  # noqa: ARG002 - the protocol's
        method: str,  # noqa: ARG002
        url: URL,  # noqa: ARG002
        body: bytes,  # noqa: ARG002
    ) -> Mapping[str, str]:
        self.now += self._takes
        return {}

    def account_of(self, project_id: str) -> str:  # noqa: ARG002 - the protocol's
        return "slow"

    async def renew(self, project_id: str, given_at: float) -> bool:  # noqa: ARG002
        return True


@pytest.mark.parametrize(("takes", "requests"), [(11.0, 0), (6.0, 1), (1.0, 2)])
def test_a_restart_does_not_leave_late(takes: float, requests: int) -> None:
    """Who waits too long for a credential, a first or a second one, is not sent, and may be."""

    async def script(server: RawServer, reader: asyncio.StreamReader, writer: object) -> None:
        assert isinstance(writer, asyncio.StreamWriter)
        while True:
            await server.read(reader)
            refused = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
            writer.write(refused if len(server.requests) == 1 else OK)

    async def story() -> None:
        credentials = Slow(takes)
        async with serving(script) as server:
            endpoint = f"http://127.0.0.1:{server.port}"
            async with CssClient(lambda *_: endpoint, credentials, lambda: credentials.now) as css:
                answer = await css.restart(TARGET, "r")
                assert len(server.requests) == requests
                if requests == 2:
                    assert answer.verdict is Verdict.ACCEPTED
                else:
                    assert answer.verdict is Verdict.UNSENT
                    assert "not to be had within 10s" in said(answer)

    run(story())


@pytest.mark.parametrize(
    "endpoint",
    [
        "css.example",
        "http://css.example",
        "ftp://127.0.0.1",
        "https://me:secret@css.example",
        "https://css.example?x=1",
        "https://[bad",
        "https://x:notaport",
        "",
    ],
)
def test_endpoints_that_are_not_used(endpoint: str) -> None:
    """Plain HTTP beyond loopback, passwords and rubbish are refused, and passwords not shown."""

    async def story() -> None:
        async with CssClient(lambda *_: endpoint, NoCredentials(), time.monotonic) as css:
            answer = await css.restart(TARGET, "r")
            assert answer.verdict is Verdict.REFUSED
            assert "correct it" in said(answer) or "may be http" in said(answer)
            assert "secret" not in said(answer)
            with pytest.raises(CloudError):
                await css.show_cluster(TARGET)

    run(story())


def test_proxies_that_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_PROXY is obeyed, and a proxy that cannot be used is told."""
    for name in ("HTTPS_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert read_endpoint("https://css.example").proxy == URL("http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "css.example")
    assert read_endpoint("https://css.example").proxy is None
    for bad in ("socks5://proxy.example", "http://[bad"):
        monkeypatch.setenv("https_proxy", bad)
        with pytest.raises(UsageError, match="correct HTTPS_PROXY"):
            read_endpoint("https://other.example")


def test_client_that_is_not_open() -> None:
    """Outside its context a client sends nothing."""

    async def story() -> None:
        assert (await client(1).restart(TARGET, "r")).verdict is Verdict.UNSENT

    run(story())


# ------------------------------------------------------------------------------- what may have left


async def _closes_at_once(_server: RawServer, _reader: object, _writer: object) -> None:
    return


def test_closed_before_it_is_read() -> None:
    """A connection that was made and then closed may have carried the restart."""
    ask(_closes_at_once, Verdict.LOST, requests=0)


async def _closes_after_reading(
    server: RawServer, reader: asyncio.StreamReader, _writer: object
) -> None:
    await server.read(reader)


def test_closed_after_it_was_read() -> None:
    """A restart that was read and not answered is lost, and asked for once only."""
    answer = ask(_closes_after_reading, Verdict.LOST, requests=1)
    assert "the connection was closed" in said(answer)
    assert "look at the cluster" in said(answer)


def test_reset_after_it_was_read() -> None:
    """A reset says nothing of what happened before it."""

    async def script(server: RawServer, reader: asyncio.StreamReader, writer: object) -> None:
        assert isinstance(writer, asyncio.StreamWriter)
        await server.read(reader)
        writer.transport.abort()

    ask(script, Verdict.LOST, requests=1)


@pytest.mark.parametrize(
    ("part", "status"),
    [
        (OK[:20], None),
        (OK[:-10], 200),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}", 200),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 200),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", 200),
        (b"SSH-2.0-OpenSSH_9.2\r\n", None),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", None),
    ],
)
def test_answers_that_break_off(part: bytes, status: int | None) -> None:
    """Half an answer, or none in HTTP, is no answer; its status is kept where it came."""

    async def script(server: RawServer, reader: asyncio.StreamReader, writer: object) -> None:
        assert isinstance(writer, asyncio.StreamWriter)
        await server.read(reader)
        writer.write(part)
        await writer.drain()

    answer = ask(script, Verdict.LOST, requests=1)
    assert answer.status in {status, None} if status else answer.status is None


@pytest.mark.parametrize("start", [b"", OK[:-5]])
def test_no_answer_in_time(start: bytes) -> None:
    """After our patience the restart is lost, and its connection is dropped at once."""

    async def script(server: RawServer, reader: asyncio.StreamReader, writer: object) -> None:
        assert isinstance(writer, asyncio.StreamWriter)
        await server.read(reader)
        writer.write(start)
        await reader.read()

    async def story() -> None:
        async with serving(script) as server:
            async with client(server.port, timeout=0.2) as css:
                before = time.monotonic()
                answer = await css.restart(TARGET, "r")
                assert 0.15 < time.monotonic() - before < 1
                assert answer.verdict is Verdict.LOST
                assert "nothing within 200ms" in said(answer)
                await asyncio.sleep(0.05)
                assert server.resets == 1
            assert len(server.requests) == 1

    run(story())


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: %d\r\n\r\n" % (SMALL_BODY + 1),
        b"Transfer-Encoding: chunked\r\n\r\n200001\r\n",
        b"\r\n",
    ],
)
def test_endless_answers(head: bytes) -> None:
    """An answer longer than any of the service's is not read, however it is framed."""

    async def script(server: RawServer, reader: asyncio.StreamReader, writer: object) -> None:
        assert isinstance(writer, asyncio.StreamWriter)
        await server.read(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b" " * (SMALL_BODY + 1))
        await writer.drain()
        await reader.read()

    answer = ask(script, Verdict.LOST, requests=1)
    assert "longer than" in said(answer)


def test_compressed_bombs() -> None:
    """A small answer that unpacks to a long one is not unpacked to its end."""
    bomb = gzip.compress(b" " * (SMALL_BODY * 4))

    async def script(server: RawServer, reader: asyncio.StreamReader, writer: object) -> None:
        assert isinstance(writer, asyncio.StreamWriter)
        await server.read(reader)
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % len(bomb) + bomb)
        await reader.read()

    assert "longer than" in said(ask(script, Verdict.LOST, requests=1))


def test_kept_connection_that_closes_on_us() -> None:
    """A POST on a kept connection that is closed instead of answered is not repeated."""

    async def script(server: RawServer, reader: asyncio.StreamReader, writer: object) -> None:
        assert isinstance(writer, asyncio.StreamWriter)
        await server.read(reader)
        writer.write(OK)
        await server.read(reader)

    async def story() -> None:
        async with serving(script) as server, client(server.port) as css:
            assert (await css.restart(TARGET, "r-1")).verdict is Verdict.ACCEPTED
            assert (await css.restart(TARGET, "r-2")).verdict is Verdict.LOST
            assert len(server.requests) == 2
            assert server.connections == 1

    run(story())


@contextmanager
def closing_server() -> Iterator[tuple[int, list[bytes]]]:
    """Serve from a thread: answer one request a connection, close it, and say nothing of it."""
    requests: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    requests.append(connection.recv(65536))
                    connection.sendall(OK)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1], requests
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)


@pytest.mark.parametrize("busy", [True, False])
def test_kept_connection_that_was_closed(*, busy: bool) -> None:
    """A connection closed while idle is not used, even if the loop was too busy to hear of it."""

    async def story(port: int) -> None:
        async with client(port) as css:
            for _ in range(3):
                assert (await css.restart(TARGET, "r")).verdict is Verdict.ACCEPTED
                if busy:
                    time.sleep(0.05)  # noqa: ASYNC251 - the point: the loop hears of nothing
                else:
                    await asyncio.sleep(0.05)

    with closing_server() as (port, requests):
        run(story(port))
    assert len(requests) == 3


def test_cancellation() -> None:
    """A cancelled call is cancelled, and its connection dropped at once."""
    read = asyncio.Event()
    ended = asyncio.Event()

    async def script(server: RawServer, reader: asyncio.StreamReader, _writer: object) -> None:
        await server.read(reader)
        read.set()
        try:
            await reader.read()
        finally:
            ended.set()

    async def story() -> None:
        async with serving(script) as server, client(server.port) as css:
            task = asyncio.create_task(css.restart(TARGET, "r"))
            await read.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await ended.wait()
            await asyncio.sleep(0)
            assert server.resets == 1

    run(story())


def test_sockets_cannot_deliver_late() -> None:
    """What was not delivered dies with our patience, or with the socket."""

    async def story() -> None:
        connections = Connections(most=1, patience=1.5, tls=Tls())
        with connections._new_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("", 0))) as made:
            linger = made.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
            assert linger == b"\1\0\0\0\0\0\0\0"
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1500
        await connections.close()

    run(story())


# --------------------------------------------------------------------------------------- answers


def test_answers_are_read() -> None:
    """Status, headers and body of an answer reach its verdict."""

    async def script(server: RawServer, reader: asyncio.StreamReader, writer: object) -> None:
        assert isinstance(writer, asyncio.StreamWriter)
        await server.read(reader)
        body = b'{"error_code":"APIGW.0308","error_msg":"slow down"}'
        writer.write(
            b"HTTP/1.1 429 Too Many Requests\r\nX-Request-Id: gw-1\r\nRetry-After: 7\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )

    async def story() -> None:
        async with serving(script) as server, client(server.port) as css:
            answer = await css.restart(TARGET, "r")
            assert answer.verdict is Verdict.THROTTLED
            assert (answer.status, answer.request_id, answer.retry_after) == (429, "gw-1", 7.0)

    run(story())


def test_redirects_and_cookies() -> None:
    """A redirect is not followed, and a cookie is not kept."""

    async def script(server: RawServer, reader: asyncio.StreamReader, writer: object) -> None:
        assert isinstance(writer, asyncio.StreamWriter)
        while True:
            await server.read(reader)
            writer.write(
                b"HTTP/1.1 307 Temporary Redirect\r\nSet-Cookie: a=b; Path=/\r\n"
                b"Location: /elsewhere\r\nContent-Length: 0\r\n\r\n"
            )

    async def story() -> None:
        async with serving(script) as server, client(server.port) as css:
            for _ in range(2):
                answer = await css.restart(TARGET, "r")
                assert answer.verdict is Verdict.REFUSED
                assert "redirects are never followed" in said(answer)
            assert len(server.requests) == 2
            assert b"Cookie" not in server.requests[1]

    run(story())


def spelling(known: bytes, refusal: bytes) -> Script:
    """Return the script of a gateway that knows one path of a rolling restart, and refuses all."""

    async def script(server: RawServer, reader: asyncio.StreamReader, writer: object) -> None:
        assert isinstance(writer, asyncio.StreamWriter)
        while True:
            path = (await server.read(reader)).split()[1]
            if path.endswith(known):
                writer.write(OK)
                continue
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(refusal))
            writer.write(refusal)

    return script


def verbs(server: RawServer) -> list[bytes]:
    return [request.split()[1].rpartition(b"/")[2] for request in server.requests]


@pytest.mark.parametrize("prefix", ["APIGW", "APIG"])
def test_rolling_has_an_older_spelling(prefix: str) -> None:
    """Where the gateway does not know the call, its older spelling is tried, and remembered."""
    target = Target(project_id=PROJECT, cluster_id=CLUSTER, kind=Kind.parse("rolling:ess"))
    refusal = json.dumps({"error_code": f"{prefix}.0101", "error_msg": "no such API"}).encode()

    async def story() -> None:
        script = spelling(b"rolling_restart", refusal)
        async with serving(script) as server, client(server.port) as css:
            for number in range(3):
                answer = await css.restart(target, f"r-{number}")
                assert (answer.verdict, answer.job_ids) == (Verdict.ACCEPTED, (JOB,))
        assert verbs(server) == [b"rolling-restart", *[b"rolling_restart"] * 3]
        bodies = {request.partition(b"\r\n\r\n")[2] for request in server.requests}
        assert bodies == {b'{"type": "role", "value": "ess"}'}
        assert all(b"X-Request-Id: r-0" in request for request in server.requests[:2])

    run(story())


@pytest.mark.parametrize(
    ("kind", "code", "asked"),
    [
        ("rolling", "APIGW.0101", [b"rolling-restart", b"rolling_restart"] * 2),
        ("rolling", "APIGW.0103", [b"rolling-restart"] * 2),
        ("rolling", "CSS.0002", [b"rolling-restart"] * 2),
        ("restart", "APIGW.0101", [b"restart"] * 2),
        ("restart:ess", "APIGW.0101", [b"restart"] * 2),
    ],
)
def test_nothing_else_is_spelled_anew(kind: str, code: str, asked: list[bytes]) -> None:
    """Only a rolling restart that certainly got nowhere is asked for in another spelling."""
    target = Target(project_id=PROJECT, cluster_id=CLUSTER, kind=Kind.parse(kind))
    refusal = json.dumps({"error_code": code, "error_msg": "no"}).encode()

    async def story() -> None:
        async with serving(spelling(b"nothing", refusal)) as server, client(server.port) as css:
            for _ in range(2):
                answer = await css.restart(target, "r")
                assert answer.error is not None
                assert answer.error.code == code
        assert verbs(server) == asked

    run(story())


def test_echoed_tokens_are_blotted_out() -> None:
    """A token that comes back in an answer is kept nowhere."""

    async def script(server: RawServer, reader: asyncio.StreamReader, writer: object) -> None:
        assert isinstance(writer, asyncio.StreamWriter)
        while True:
            await server.read(reader)
            body = json.dumps({"errCode": "CSS.0045", "externalMessage": f"<{TOKEN}>"}).encode()
            head = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(body)
            writer.write(head + body)

    async def story() -> None:
        credentials = TokenCredentials(Secret(TOKEN))
        async with serving(script) as server, client(server.port, credentials) as css:
            answer = await css.restart(TARGET, "r")
            assert answer.verdict is Verdict.UNAUTHORIZED
            assert said(answer) == "<***>"
            with pytest.raises(CloudError) as caught:
                await css.show_cluster(TARGET)
            assert "<***>" in str(caught.value)
            assert TOKEN not in repr(answer) + repr(caught.value)

    run(story())


# ----------------------------------------------------------------------------------------- looks


@dataclass
class Fleet:
    """A project's list as the service serves it: 1-based places, newest first."""

    ids: list[str]
    knows_total: bool = True
    most: int = 1000
    refuses_above: int = 1000
    refuses_past_the_end: bool = False
    hides: frozenset[str] = frozenset()
    ignores_start: bool = False
    after_page: Callable[["Fleet"], None] = lambda _fleet: None
    queries: list[tuple[int, int]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """Serve one page."""
        limit, start = int(request.query["limit"]), int(request.query["start"])
        assert request.query["offset"] == request.query["start"]
        self.queries.append((start, limit))
        start = 1 if self.ignores_start else start
        if limit > self.refuses_above or (self.refuses_past_the_end and start > len(self.ids)):
            return web.json_response({"errCode": "CSS.5038"}, status=400)
        page = self.ids[start - 1 : start - 1 + min(limit, self.most)]
        body: dict[str, object] = {
            "clusters": [
                {"id": name, "status": "200", "actions": []}
                for name in page
                if name not in self.hides
            ]
        }
        if self.knows_total:
            body["totalSize"] = len(self.ids)
        self.after_page(self)
        return web.json_response(body)


@asynccontextmanager
async def web_serving(handler: Handler) -> AsyncIterator[int]:
    """Serve all paths with one handler; yields the port."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def list_of(fleet: Fleet, times: int = 1) -> Mapping[str, ClusterState]:
    found: list[Mapping[str, ClusterState]] = []

    async def story() -> None:
        async with web_serving(fleet.answer) as port, client(port) as css:
            found.extend([await css.list_clusters(PROJECT, None) for _ in range(times)])

    run(story())
    return found[-1]


def names(count: int) -> list[str]:
    return [f"c-{number}" for number in range(count)]


def test_list() -> None:
    """All pages are read, and no more than those that have something."""
    fleet = Fleet(names(2500))
    found = list_of(fleet)
    assert list(found) == fleet.ids
    assert found["c-0"] == ClusterState(status="200")
    assert fleet.queries == [(1, 1000), (1001, 1000), (2001, 1000)]


def test_inventory() -> None:
    """An inventory reads all pages as a list does, and keeps what is said of each cluster."""

    async def answer(request: web.Request) -> web.Response:
        start = int(request.query["start"])
        entry = {"id": f"c-{start}", "status": "200", "tags": [{"key": "env", "value": f"{start}"}]}
        return web.json_response({"clusters": [entry] if start <= 3 else [], "totalSize": 3})

    async def story() -> None:
        async with web_serving(answer) as port, client(port) as css:
            found = await css.take_inventory(PROJECT, None)
            assert {name: cluster.tags for name, cluster in found.items()} == {
                f"c-{number}": (("env", f"{number}"),) for number in (1, 2, 3)
            }
            assert found["c-1"].state == ClusterState(status="200")

    run(story())


def test_empty_list() -> None:
    """A project without clusters has an empty list, after one call."""
    for knows_total in (True, False):
        fleet = Fleet([], knows_total=knows_total)
        assert list_of(fleet) == {}
        assert len(fleet.queries) == 1


def test_list_that_refuses_large_pages() -> None:
    """A refused page size is made smaller once, and that is remembered."""
    fleet = Fleet(names(120), refuses_above=100)
    assert len(list_of(fleet, times=2)) == 120
    assert fleet.queries == [(1, 1000), (1, 100), (101, 100), (1, 100), (101, 100)]
    fleet = Fleet(names(12), refuses_above=10)
    assert len(list_of(fleet)) == 12
    assert fleet.queries == [(1, 1000), (1, 100), (1, 10), (11, 10)]


def test_list_that_refuses_all_pages() -> None:
    """A list that refuses every page size is an error with the service's code."""
    with pytest.raises(CloudError, match=r"CSS\.5038") as caught:
        list_of(Fleet(names(12), refuses_above=1))
    assert (caught.value.status, caught.value.code) == (400, "CSS.5038")


def test_list_with_smaller_pages_than_asked() -> None:
    """A service that gives fewer at a time than asked for is read to the end."""
    for knows_total in (True, False):
        fleet = Fleet(names(250), most=100, knows_total=knows_total)
        assert len(list_of(fleet)) == 250


@pytest.mark.parametrize("refuses", [True, False])
def test_list_without_a_total(*, refuses: bool) -> None:
    """Without a total the list ends at a short or empty page, or where more is refused."""
    for count in (5, 10, 1000, 1001):
        fleet = Fleet(names(count), knows_total=False, refuses_past_the_end=refuses)
        assert len(list_of(fleet)) == count


def test_list_that_shifts() -> None:
    """A cluster that slips to a page already read, as another goes, is found by reading again."""
    fleet = Fleet(names(25), refuses_above=10)

    def delete_one(fleet: Fleet) -> None:
        if len(fleet.queries) == 4:
            fleet.ids.remove("c-3")

    fleet.after_page = delete_one
    found = list_of(fleet)
    assert sorted(found) == sorted(fleet.ids)
    assert "c-3" not in found
    assert "c-10" in found


def test_list_that_grows() -> None:
    """Clusters made meanwhile shift the pages; none is missing, none is there twice."""
    fleet = Fleet(names(25), refuses_above=10)

    def add_one(fleet: Fleet) -> None:
        if len(fleet.queries) in {3, 4, 5}:
            fleet.ids.insert(0, f"new-{len(fleet.queries)}")

    fleet.after_page = add_one
    assert sorted(list_of(fleet)) == sorted(fleet.ids)


def test_list_with_clusters_missing() -> None:
    """A list that stays short of its total is an error that says by how much."""
    fleet = Fleet(names(25), hides=frozenset({"c-3", "c-4"}))
    words = r"2 of 25 clusters are missing after reading .* 3 times"
    with pytest.raises(IncompleteError, match=words) as caught:
        list_of(fleet)
    assert not caught.value.lacks(name for name in names(25) if name not in fleet.hides)
    assert caught.value.lacks(["c-3"])


def test_list_whose_parts_are_missing_in_turn() -> None:
    """What one reading lacks, another may have: together they are the list."""
    fleet = Fleet(names(25), hides=frozenset({"c-3"}))

    def hide_another(fleet: Fleet) -> None:
        fleet.hides = frozenset({"c-4"} if len(fleet.queries) > 1 else {"c-3"})

    fleet.after_page = hide_another
    assert len(list_of(fleet)) == 25


def test_list_that_goes_in_circles() -> None:
    """A service that ignores where to start is not believed, and not read for ever."""
    fleet = Fleet(names(2000), ignores_start=True, knows_total=False)
    with pytest.raises(CloudError, match="did not hold still"):
        list_of(fleet)
    fleet = Fleet(names(2000), ignores_start=True)
    with pytest.raises(CloudError, match="1000 of 2000 clusters are missing"):
        list_of(fleet)
    assert len(fleet.queries) <= 9


def test_list_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that goes on for ever is given up."""
    monkeypatch.setattr("orchestrator.css.client.MOST_PAGES", 3)
    with pytest.raises(CloudError, match="did not end after 3 pages of 10"):
        list_of(Fleet(names(50), refuses_above=10))


def look(status: int, body: object, headers: Mapping[str, str] | None = None) -> ClusterState:
    """Show a cluster whose detail is answered with this."""
    found: list[ClusterState] = []

    async def handler(request: web.Request) -> web.Response:
        assert request.method == "GET"
        assert request.raw_path == f"/v1.0/{PROJECT}/clusters/{CLUSTER}"
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=raw, headers=headers)

    async def story() -> None:
        async with web_serving(handler) as port, client(port) as css:
            found.append(await css.show_cluster(TARGET))

    run(story())
    return found[0]


def test_show() -> None:
    """One cluster is shown as it is."""
    body = {"id": CLUSTER, "status": "303", "failed_reasons": {"error_code": "CSS.6002"}}
    assert look(200, body) == ClusterState(status="303", failed_reason="CSS.6002")


@pytest.mark.parametrize(
    ("status", "code"), [(403, "CSS.0015"), (404, "CSS.0002"), (400, "CSS.0047")]
)
def test_show_what_is_gone(status: int, code: str) -> None:
    """A cluster that the service says is not there, is not there."""
    with pytest.raises(GoneError, match=f"{code}: gone") as caught:
        look(status, {"errCode": code, "externalMessage": "gone"})
    assert (caught.value.status, caught.value.code) == (status, code)


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        (404, {"error_code": "APIGW.0101", "error_msg": "no API"}, "check endpoint and region"),
        (404, b"<html><title>Not Found</title></html>", "Not Found"),
        (403, {"errCode": "CSS.0010"}, "css:cluster:get"),
        (401, {"error_code": "APIGW.0301"}, "credential"),
        (429, {"error_code": "APIGW.0308"}, "look less often"),
        (500, b"<html>Tomcat</html>", "Tomcat"),
        (302, b"", "redirects are never followed"),
        (202, b"{}", "202"),
        (200, b"", "not a JSON object"),
        (200, b"<html>", "not a JSON object"),
        (200, {"errCode": "CSS.0011", "externalMessage": "busy"}, r"CSS.0011 \(busy\)"),
        (200, {"id": CLUSTER}, "no status"),
        (200, {"id": "another", "status": "200"}, "another cluster"),
        (200, b" " * (SMALL_BODY + 1), "longer than"),
    ],
)
def test_show_without_a_usable_answer(status: int, body: object, found: str) -> None:
    """Whatever else comes back is an error that says what was found."""
    with pytest.raises(CloudError, match=found) as caught:
        look(status, body)
    assert not isinstance(caught.value, GoneError)
    assert caught.value.status == (None if found == "longer than" else status)
    assert f"looking at cluster {TARGET}" in str(caught.value)


def test_refused_look_says_when() -> None:
    """A throttled look carries the wait that was asked for, and the gateway's name for it."""
    with pytest.raises(CloudError) as caught:
        look(429, {"error_code": "APIGW.0308"}, {"Retry-After": "3", "X-Request-Id": "gw"})
    assert (caught.value.retry_after, caught.value.request_id) == (3.0, "gw")


def test_list_that_is_refused_or_unreadable() -> None:
    """A list that cannot be had says why."""

    async def story() -> None:
        replies = [web.Response(status=503, text="away"), web.json_response({"clusters": None})]

        async def handler(_request: web.Request) -> web.Response:
            return replies.pop(0)

        async with web_serving(handler) as port, client(port) as css:
            with pytest.raises(CloudError, match="answered 503: away"):
                await css.list_clusters(PROJECT, None)
            with pytest.raises(CloudError, match="no list of clusters"):
                await css.list_clusters(PROJECT, None)

    run(story())


def test_compressed_lists() -> None:
    """Looks may come compressed."""
    fleet = Fleet(names(1500))

    async def handler(request: web.Request) -> web.Response:
        answer = await fleet.answer(request)
        answer.enable_compression()
        return answer

    async def story() -> None:
        async with web_serving(handler) as port, client(port) as css:
            assert len(await css.list_clusters(PROJECT, None)) == 1500

    run(story())


def test_many_at_once() -> None:
    """A thousand restarts in flight of fifty share few connections, and each is made once."""
    counted: dict[str, int] = {}

    async def handler(request: web.Request) -> web.Response:
        counted[request.path] = counted.get(request.path, 0) + 1
        return web.json_response({"jobId": [request.path.split("/")[4]]})

    async def story() -> None:
        async with web_serving(handler) as port, client(port, connections=20) as css:
            waiting = iter(names(1000))

            async def work() -> None:
                for name in waiting:
                    answer = await css.restart(Target(project_id="p", cluster_id=name), name)
                    assert answer.job_ids == (name,)

            async with asyncio.TaskGroup() as tasks:
                for _ in range(50):
                    tasks.create_task(work())

    run(story())
    assert len(counted) == 1000
    assert set(counted.values()) == {1}


# ---------------------------------------------------------------------------------------- pacing


class Accounts(NoCredentials):
    """Nothing is sent, but each project has an account of its own: the word before its dash."""

    def account_of(self, project_id: str) -> str:
        return project_id.partition("-")[0]


def test_throttled_looks_hold_back_their_account_and_no_restart() -> None:
    """After a 429 on a list the account's looks are put off without a call; restarts leave."""
    asked: list[tuple[str, str]] = []

    async def handler(request: web.Request) -> web.Response:
        project = request.path.split("/")[2]
        asked.append((request.method, project))
        if request.method == "POST":
            return web.json_response({"jobId": [JOB]})
        if project.startswith("slow"):
            text = "policy user over ratelimit,limit:10,time:1 minute"
            body = {"error_code": "APIGW.0308", "error_msg": text}
            return web.json_response(body, status=429)
        return web.json_response({"totalSize": 0, "clusters": []})

    async def story() -> None:
        async with web_serving(handler) as port, client(port, Accounts()) as css:
            with pytest.raises(CloudError) as caught:
                await css.list_clusters("slow-1", None)
            assert caught.value.retry_after == pytest.approx(60.0, abs=1.0)
            for project in ("slow-1", "slow-2", "slow-2"):
                with pytest.raises(CloudError, match="put off") as caught:
                    await css.list_clusters(project, None)
                assert caught.value.error_class == "throttled"
                assert caught.value.retry_after is not None
                assert caught.value.retry_after > 55.0
            target = Target(project_id="slow-1", cluster_id=CLUSTER)
            assert (await css.restart(target, "r")).verdict is Verdict.ACCEPTED
            assert not await css.list_clusters("quick-1", None)
        assert asked == [("GET", "slow-1"), ("POST", "slow-1"), ("GET", "quick-1")]

    run(story())


def test_looks_leave_connections_for_restarts() -> None:
    """However many looks hang, a restart finds a connection at once."""

    async def handler(request: web.Request) -> web.Response:
        if request.method == "POST":
            return web.json_response({"jobId": [JOB]})
        await asyncio.sleep(1.0)
        return web.json_response({"totalSize": 0, "clusters": []})

    async def story() -> None:
        async with web_serving(handler) as port, client(port, connections=4) as css:
            looks = [
                asyncio.ensure_future(css.list_clusters(f"p{number}", None)) for number in range(6)
            ]
            await asyncio.sleep(0.2)
            began_at = time.monotonic()
            assert (await css.restart(TARGET, "r")).verdict is Verdict.ACCEPTED
            assert time.monotonic() - began_at < 0.5
            assert await asyncio.gather(*looks) == [{}] * 6

    run(story())
