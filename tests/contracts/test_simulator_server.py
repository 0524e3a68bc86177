"""The pretend service behind real HTTP: what a client on loopback sees, and what is recorded."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import anyio
import pytest
from yarl import URL

from orchestrator.css.endpoints import read_endpoint
from orchestrator.model import Target
from orchestrator.secret import Secret
from orchestrator.signing import AccessKey, Signer, encode_query
from orchestrator.simulator import Record, Service, invent_targets, parse_scenario
from orchestrator.simulator.server import Server, serve
from orchestrator.simulator.trace import What

QUICK = """
[restart]
duration = "100ms"
busy_after = "10ms"
"""


class Visit:
    """A client, the server it visits, and what the server recorded."""

    def __init__(
        self, server: Server, http: aiohttp.ClientSession, targets: tuple[Target, ...]
    ) -> None:
        self.server = server
        self.http = http
        self.targets = targets
        self.trace: list[Record] = []

    def url(self, action: str = "/restart", version: str = "v1.0", number: int = 0) -> str:
        one = self.targets[number]
        path = f"{version}/{one.project_id}/clusters/{one.cluster_id}{action}"
        return f"{self.server.url}/{path}"

    def whats(self) -> list[What]:
        return [record.what for record in self.trace]

    async def until(self, what: What) -> None:
        with anyio.fail_after(5):
            while what not in self.whats():  # noqa: ASYNC110  # the server tells a list
                await anyio.sleep(0.005)


@asynccontextmanager
async def visit(scenario: str = "", clusters: int = 3) -> AsyncIterator[Visit]:
    targets = invent_targets(clusters, 1, 3)
    trace: list[Record] = []
    service = Service(targets, parse_scenario(QUICK + scenario))
    async with (
        serve(service, trace=trace.append) as server,
        aiohttp.ClientSession() as http,
    ):
        visiting = Visit(server, http, targets)
        visiting.trace = trace
        yield visiting


async def read_answer(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """Return the status line, the headers and the body of one answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    start, *lines = head.decode().split("\r\n")[:-2]
    headers = dict(line.split(": ", 1) for line in lines)
    return start, headers, await reader.readexactly(int(headers["Content-Length"]))


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with anyio.fail_after(20):
            await story()

    anyio.run(bounded)


def test_a_restart_over_http_is_answered_and_seen() -> None:
    """A restart gives a job id and our request id back, then shows in detail and list."""

    async def story() -> None:
        async with visit() as guest:
            headers = {"X-Request-Id": "ab" * 16, "X-Auth-Token": "t" * 32768}
            async with guest.http.post(guest.url(), headers=headers) as answer:
                assert answer.status == 200
                assert answer.headers["X-Request-Id"] == "ab" * 16
                (job_id,) = (await answer.json())["jobId"]
            await anyio.sleep(0.03)
            async with guest.http.get(guest.url("")) as answer:
                assert (await answer.json())["actions"] == ["REBOOTING"]
            project = guest.targets[0].project_id
            path = f"{guest.server.url}/v1.0/{project}/clusters?start=1&offset=1&limit=1000"
            async with guest.http.get(path) as answer:
                assert len(answer.headers["X-Request-Id"]) == 32
                listed = await answer.json()
            assert listed["totalSize"] == 3
            assert [one["status"] for one in listed["clusters"]] == ["200", "200", "100"]
            assert guest.whats()[:3] == [What.RECEIVED, What.EXECUTED, What.ANSWERED]
            record = guest.trace[2]
            assert record.job_ids == (job_id,)
            assert record.request_id == "ab" * 16
            assert record.region == "cn-north-4"

    run(story)


@pytest.mark.parametrize("spelling", ["/rolling-restart", "/rolling_restart"])
def test_both_spellings_of_rolling_are_known(spelling: str) -> None:
    """The v2.0 calls read their body, and answer with none."""

    async def story() -> None:
        async with visit() as guest:
            body = {"type": "role", "value": "all"}
            async with guest.http.post(guest.url(spelling, "v2.0"), json=body) as answer:
                assert (answer.status, await answer.read()) == (200, b"")
            async with guest.http.post(guest.url("/restart", "v2.0", 1), json=body) as answer:
                assert answer.status == 400

    run(story)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("POST", "/v1.0/p/clusters"),
        ("POST", "/v1.0/p/clusters/c/rolling-restart"),
        ("POST", "/v2.0/p/clusters/c/reboot"),
        ("GET", "/v2.0/p/clusters/c"),
        ("GET", "/v1.0/p/clusters/c/restart"),
        ("DELETE", "/v1.0/p/clusters/c"),
    ],
)
def test_other_paths_are_the_gateways_404(method: str, path: str) -> None:
    """What is no API of the service gets APIGW.0101 in the gateway's own shape."""

    async def story() -> None:
        async with (
            visit() as guest,
            guest.http.request(method, guest.server.url + path) as answer,
        ):
            content = await answer.json()
            assert (answer.status, content["error_code"]) == (404, "APIGW.0101")
            assert content["request_id"] == answer.headers["X-Request-Id"]

    run(story)


@pytest.mark.parametrize(
    ("fault", "ending"),
    [
        ("reset_before", What.REFUSED),
        ("reset_after", What.EXECUTED),
        ("cut_body", What.EXECUTED),
    ],
)
def test_a_reset_is_a_reset_for_the_client(fault: str, ending: What) -> None:
    """A severed connection is an error in the client, and the record says what was executed."""

    async def story() -> None:
        async with visit(f"[faults]\n{fault} = 1.0\n") as guest:
            with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
                async with guest.http.post(guest.url()) as answer:
                    await answer.read()
            await guest.until(What.SEVERED)
            assert guest.whats() == [What.RECEIVED, ending, What.SEVERED]

    run(story)


def test_a_reset_arrives_as_rst() -> None:
    """On the bare socket a reset is ECONNRESET, not an orderly end."""

    async def story() -> None:
        async with visit("[faults]\nreset_before = 1.0\n") as guest:
            reader, writer = await asyncio.open_connection("127.0.0.1", guest.server.port)
            path = guest.url().removeprefix(guest.server.url)
            writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    run(story)


@pytest.mark.parametrize(
    ("version", "asked", "said", "goes_on"),
    [
        ("1.1", "", None, True),
        ("1.1", "Connection: close\r\n", "close", False),
        ("1.0", "", None, False),
        ("1.0", "Connection: keep-alive\r\n", "keep-alive", True),
    ],
)
@pytest.mark.parametrize("path", ["/v1.0/p/clusters", "/nowhere"])
def test_a_connection_stays_as_its_client_asks(
    path: str, version: str, asked: str, said: str | None, *, goes_on: bool
) -> None:
    """It is closed or kept as the version of HTTP and the caller say, and the answer tells."""

    async def story() -> None:
        async with visit() as guest:
            reader, writer = await asyncio.open_connection("127.0.0.1", guest.server.port)
            call = f"GET {path} HTTP/{version}\r\nHost: x\r\n{asked}\r\n".encode()
            writer.write(call)
            start, headers, body = await read_answer(reader)
            assert start.startswith(f"HTTP/{version} ")
            assert headers.get("Connection") == said
            assert {"X-Request-Id", "Content-Type", "Content-Length", "Date", "Server"} <= set(
                headers
            )
            assert json.loads(body)
            if goes_on:
                writer.write(call)
                assert (await read_answer(reader))[0] == start
            else:
                assert await reader.read() == b""
            writer.close()

    run(story)


def test_head_is_answered_without_a_body() -> None:
    """Of what is no API of the service, HEAD gets the headers alone."""

    async def story() -> None:
        async with visit() as guest:
            reader, writer = await asyncio.open_connection("127.0.0.1", guest.server.port)
            call = "{} /nowhere HTTP/1.1\r\nHost: x\r\nConnection: {}\r\n\r\n"
            writer.write(call.format("HEAD", "keep-alive").encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"\r\nContent-Length: 162\r\n" in head
            writer.write(call.format("GET", "close").encode())
            assert (await reader.read()).startswith(b"HTTP/1.1 404 Not Found\r\n")
            writer.close()

    run(story)


def test_what_hangs_hangs_until_the_client_leaves() -> None:
    """A call without an answer is held; it was executed all the same, and the server goes on."""

    async def story() -> None:
        async with visit("[faults]\nhang_after = {rate = 1.0, first = 1}\n") as guest:
            patience = aiohttp.ClientTimeout(total=0.05)
            with pytest.raises(TimeoutError):
                await guest.http.post(guest.url(), timeout=patience)
            assert guest.whats() == [What.RECEIVED, What.EXECUTED, What.HUNG]
            async with guest.http.post(guest.url()) as answer:
                assert answer.status == 409

    run(story)


def test_a_call_is_executed_though_its_client_left() -> None:
    """A client that gives up before the execution does not stop it: the cluster restarts late."""

    async def story() -> None:
        async with visit('[latency]\nbefore = "100ms"\n') as guest:
            patience = aiohttp.ClientTimeout(total=0.02)
            with pytest.raises(TimeoutError):
                await guest.http.post(guest.url(), timeout=patience)
            assert guest.whats() == [What.RECEIVED]
            await guest.until(What.LEFT)
            assert guest.whats() == [What.RECEIVED, What.EXECUTED, What.LEFT]
            assert guest.trace[1].at - guest.trace[0].at >= 0.1

    run(story)


def test_the_server_ends_though_a_client_hangs() -> None:
    """Leaving the context does not wait for calls that are never answered."""

    async def story() -> None:
        async with visit("[faults]\nhang_before = 1.0\n") as guest:
            _, writer = await asyncio.open_connection("127.0.0.1", guest.server.port)
            path = guest.url().removeprefix(guest.server.url)
            writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await guest.until(What.HUNG)
            begin = anyio.current_time()
        assert anyio.current_time() - begin < 2
        writer.close()

    run(story)


def test_a_slow_body_arrives_whole_in_its_time() -> None:
    """A slow body takes as long as the scenario says, and is complete."""

    async def story() -> None:
        async with visit('[faults]\nslow_body = 1.0\nslow_over = "100ms"\n') as guest:
            begin = anyio.current_time()
            async with guest.http.post(guest.url()) as answer:
                content = json.loads(await answer.read())
            assert anyio.current_time() - begin >= 0.09
            assert len(content["jobId"]) == 1
            await guest.until(What.ANSWERED)

    run(story)


def test_refusals_come_with_their_headers_and_shapes() -> None:
    """A 429 carries Retry-After in the gateway's shape, an HTML 500 is a page."""

    async def story() -> None:
        async with visit('[faults]\nthrottled = 1.0\nretry_after = "3s"\n') as guest:
            async with guest.http.post(guest.url()) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (429, "3")
                assert (await answer.json())["error_code"] == "APIGW.0308"
            assert guest.whats()[1] is What.REFUSED
        async with (
            visit("[faults]\nerror_500_after = 1.0\n") as guest,
            guest.http.post(guest.url()) as answer,
        ):
            assert (answer.status, answer.content_type) == (500, "text/html")
            assert guest.whats()[1] is What.EXECUTED

    run(story)


def test_latency_stands_before_and_after_the_execution() -> None:
    """The call is executed after the first wait and answered after the second."""

    async def story() -> None:
        async with visit('[latency]\nbefore = "40ms"\nafter = "60ms"\nread = "30ms"\n') as guest:
            async with guest.http.post(guest.url()):
                pass
            received, executed, answered = (record.at for record in guest.trace)
            assert executed - received >= 0.04
            assert answered - executed >= 0.06
            begin = anyio.current_time()
            async with guest.http.get(guest.url("")):
                pass
            assert anyio.current_time() - begin >= 0.03

    run(story)


def test_many_restarts_use_one_connection() -> None:
    """Connections are kept alive, and a large fleet is listed in whole pages."""

    async def story() -> None:
        async with visit(clusters=1200) as guest:
            peers = set()
            for number in range(20):
                async with guest.http.post(guest.url(number=number)) as answer:
                    assert answer.connection is None or answer.connection.transport is not None
                    peers.add(id(answer.connection and answer.connection.transport))
                    await answer.read()
            project = guest.targets[0].project_id
            path = f"{guest.server.url}/v1.0/{project}/clusters?limit=1000&start="
            ids = []
            for start in (1, 1001):
                async with guest.http.get(path + str(start)) as answer:
                    ids += [one["id"] for one in (await answer.json())["clusters"]]
            assert len(set(ids)) == 1200

    run(story)


ODD = "aZ09-_.~ %+*'\"\\?&=#:;,@!$()[]{}<>|^`éß中𝄞"
GUARDED = """
[auth]
mode = "any"
lock_after = 2
token_size = 30000
[[auth.key]]
access_key = "AKEXAMPLE0000000001A"
secret_key = "SKexample000000000000000000000000000000A"
[[auth.user]]
name = "ops"
password = "tiger"
"""


def _signed(
    url: str, secret_key: str = "SKexample000000000000000000000000000000A"
) -> dict[str, str]:
    signer = Signer(AccessKey("AKEXAMPLE0000000001A", Secret(secret_key)))
    return signer.headers("POST", URL(url, encoded=True), {}, b"", at=time.time())


def test_a_guarded_service_lets_signatures_pass() -> None:
    """What our signer adds to what is really sent is right; a wrong key never reaches a cluster."""

    async def story() -> None:
        async with visit(GUARDED) as guest:
            url = guest.url().replace(guest.targets[0].cluster_id, "a%20b~c%3Bd%C3%A9") + "?k=%2B"
            async with guest.http.post(URL(url, encoded=True), headers=_signed(url)) as answer:
                assert (answer.status, (await answer.json())["errCode"]) == (403, "CSS.0015")
            url = guest.url()
            async with guest.http.post(url, headers=_signed(url)) as answer:
                assert answer.status == 200
            for fragment in ("canonicalRequest:POST|", "canonicalRequest:POST|", "reach the limit"):
                async with guest.http.post(url, headers=_signed(url, "wrong")) as answer:
                    content = await answer.json()
                    assert (answer.status, content["error_code"]) == (401, "APIGW.0301")
                    assert fragment in content["error_msg"]
                    assert content["request_id"] == answer.headers["X-Request-Id"]
            assert guest.whats()[-3:] == [What.DENIED] * 3
            assert {record.credential for record in guest.trace[-3:]} == {"AKEXAMPLE0000000001A"}
            assert guest.whats().count(What.RECEIVED) == 2
            assert guest.whats().count(What.EXECUTED) == 1

    run(story)


def test_a_guarded_service_needs_no_record() -> None:
    """Nobody has to listen: refusals and tokens are the same without a trace."""

    async def story() -> None:
        service = Service(invent_targets(1), parse_scenario(GUARDED))
        async with serve(service) as server, aiohttp.ClientSession() as http:
            async with http.get(f"{server.url}/v1.0/p/clusters") as answer:
                assert answer.status == 401
            async with http.put(f"{server.url}/meta-data/latest/api/token") as answer:
                assert answer.status == 400

    run(story)


def test_whatever_we_can_address_we_can_sign() -> None:
    """An id of any characters is signed just as it is sent: nothing on the way spells it anew."""

    async def story() -> None:
        luck = random.Random(7)
        key = AccessKey("AKEXAMPLE0000000001A", Secret("SKexample000000000000000000000000000000A"))
        signer = Signer(key)
        async with visit(GUARDED) as guest:
            endpoint = read_endpoint(guest.server.url)
            project = guest.targets[0].project_id
            for _ in range(150):
                odd = "".join(luck.choice(ODD) for _ in range(luck.randint(1, 9)))
                query = encode_query([("limit", "1"), ("datastoreType", odd), (odd, "")])
                detail = endpoint.url("v1.0", project, odd)
                listed = endpoint.url("v1.0", project, query=query)
                for url, status in ((detail, 403), (listed, 400)):
                    headers = signer.headers("GET", url, {}, b"", at=time.time())
                    async with guest.http.get(url, headers=headers) as answer:
                        assert answer.status == status, (odd, await answer.text())

    run(story)


def test_iam_and_the_service_share_an_endpoint() -> None:
    """A token of IAM, many KB long, is a header of the service's calls; both are recorded."""

    async def story() -> None:
        async with visit(GUARDED) as guest:
            body = {
                "auth": {
                    "identity": {
                        "methods": ["password"],
                        "password": {
                            "user": {"name": "ops", "password": "tiger", "domain": {"name": "A"}}
                        },
                    },
                    "scope": {"project": {"id": guest.targets[0].project_id}},
                }
            }
            async with guest.http.post(
                f"{guest.server.url}/v3/auth/tokens?nocatalog=true",
                json=body,
                max_field_size=65536,
            ) as answer:
                assert answer.status == 201
                token = answer.headers["X-Subject-Token"]
            async with guest.http.post(guest.url(), headers={"X-Auth-Token": token}) as answer:
                assert answer.status == 200
            async with guest.http.get(f"{guest.server.url}/v3/projects?name=cn-north-4") as answer:
                assert answer.status == 401
            async with guest.http.put(f"{guest.server.url}/meta-data/latest/api/token") as answer:
                assert answer.status == 400
            assert [(record.what, record.call, record.credential) for record in guest.trace] == [
                (What.ANSWERED, "token", "ops"),
                (What.RECEIVED, "restart", "ops#1"),
                (What.EXECUTED, "restart", None),
                (What.ANSWERED, "restart", None),
                (What.DENIED, "projects", "nobody"),
                (What.ANSWERED, "metadata_token", None),
            ]
            assert all(token not in record.line() for record in guest.trace)
            assert [Record.parse(record.line()) for record in guest.trace] == guest.trace

    run(story)


def test_a_gateways_clock_may_be_ahead() -> None:
    """A client whose clock is right is refused when the gateway's is far off."""

    async def story() -> None:
        scenario = GUARDED.replace("[auth]", '[auth]\nclock_ahead = "16m"')
        async with (
            visit(scenario) as guest,
            guest.http.post(guest.url(), headers=_signed(guest.url())) as answer,
        ):
            assert answer.status == 401
            assert "signature expired" in (await answer.json())["error_msg"]

    run(story)


def test_a_taken_port_is_an_error() -> None:
    """A port that somebody has cannot be served; the error is the system's."""

    async def story() -> None:
        async with visit() as guest:
            with pytest.raises(OSError, match="address"):
                async with serve(Service((), parse_scenario("")), port=guest.server.port):
                    pass

    run(story)
