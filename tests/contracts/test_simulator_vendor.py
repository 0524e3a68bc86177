"""The vendor's own client, unmodified, against our simulator, which verifies each signature."""

import importlib.util
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from orchestrator.model import Kind, Target
from orchestrator.simulator import Record, Service, parse_scenario
from orchestrator.simulator.server import serve
from orchestrator.simulator.trace import What

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("huaweicloudsdkcss") is None,
    reason="the vendor's client is not installed",
)

ROOT = Path(__file__).parent.parent.parent
PROJECT = "0123456789abcdef0123456789abcdef"
KEY = {
    "access_key": "AKEXAMPLE0000000001A",
    "secret_key": "SKexample000000000000000000000000000000A",
    "security_token": None,
    "project_id": PROJECT,
    "metadata": False,
}
TEMPORARY = KEY | {"access_key": "AKTEMPORARY", "security_token": "gAAAAABexampleTOKEN+/=="}
WRONG = KEY | {"secret_key": "SKexample000000000000000000000000000000B"}
FLEET = {
    "search": ("restart", ("env", "prod")),
    "masters": ("restart:ess,ess-master", ("nodes", "3")),
    "small": ("rolling", ("nodes", "2")),
    "pipes": ("reboot", ("env", "prod")),
}
SCENARIO = """
[restart]
duration = "10s"
busy_after = "0s"
rolling_node = "10s"
[[cluster]]
match = "small"
restart = {end = "failed", answer = "string"}
[auth]
mode = "signature"
[[auth.key]]
access_key = "AKEXAMPLE0000000001A"
secret_key = "SKexample000000000000000000000000000000A"
[[auth.key]]
access_key = "AKTEMPORARY"
secret_key = "SKexample000000000000000000000000000000A"
security_token = "gAAAAABexampleTOKEN+/=="
"""


class Visit:
    """One client of the vendor's, the service it talks to, and what that recorded."""

    def __init__(self, process: Process, trace: list[Record]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in = process.stdin
        self._out = BufferedByteReceiveStream(process.stdout)
        self.trace = trace
        self.now = 0.0
        """What the service takes for the time, as far as clusters are concerned."""

    async def tell(self, content: Mapping[str, Any]) -> None:
        await self._in.send(json.dumps(content).encode() + b"\n")

    async def call(self, call: str, **arguments: Any) -> dict[str, Any]:
        await self.tell({"call": call, **arguments})
        answer: dict[str, Any] = json.loads(await self._out.receive_until(b"\n", 1_000_000))
        return answer

    async def busy(self, cluster: str) -> tuple[str, list[str], list[str]]:
        """Return status, actions, and which nodes are restarting, as the vendor's models say."""
        body = (await self.call("detail", cluster_id=cluster))["body"]
        nodes = [node["name"] for node in body["instances"] if node["status"] == "100"]
        return body["status"], body["actions"], nodes

    def executed(self) -> int:
        return sum(record.what is What.EXECUTED for record in self.trace)


@asynccontextmanager
async def visit(
    home: Path, who: Mapping[str, Any], scenario: str = SCENARIO
) -> AsyncIterator[Visit]:
    targets = [
        Target(
            project_id=PROJECT, cluster_id=name, region="cn-north-4",
            kind=Kind.parse(kind), labels=(label,),
        )
        for name, (kind, label) in FLEET.items()
    ]  # fmt: skip
    trace: list[Record] = []
    visits: list[Visit] = []
    # Its client keeps an id of this machine in the home folder; proxies are none of its business.
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT), "NO_PROXY": "*",
        "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    service = Service(targets, parse_scenario(scenario))
    command = [sys.executable, "-m", "tests.contracts.vendor"]
    async with (
        serve(service, trace=trace.append, clock=lambda: visits[0].now) as server,
        await anyio.open_process(command, env=environ, stderr=None) as process,
    ):
        visits.append(Visit(process, trace))
        await visits[0].tell({"url": server.url, **who})
        yield visits[0]
        await visits[0]._in.aclose()


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with anyio.fail_after(60):
            await story()

    anyio.run(bounded)


def test_its_client_restarts_looks_and_lists(tmp_path: Path) -> None:
    """Every call of the service that we make works for the vendor's client too."""

    async def story() -> None:
        async with visit(tmp_path, KEY) as guest:
            answer = await guest.call("restart", cluster_id="search")
            assert answer["status"] == 200
            assert len(json.loads(answer["raw"])["jobId"]) == 1
            status, actions, nodes = await guest.busy("search")
            assert (status, actions, len(nodes)) == ("100", ["REBOOTING"], 3)
            guest.now = 11.0
            assert await guest.busy("search") == ("200", [], [])

            part = {"type": "role", "value": "ess-master"}
            answer = await guest.call("restart_part", cluster_id="masters", **part)
            assert (answer["status"], answer["raw"]) == (200, "")
            _, _, nodes = await guest.busy("masters")
            assert [name.split("-")[-4:-2] for name in nodes] == [["master", "esn"]] * 3

            listed = (await guest.call("list", offset=2, limit=2))["body"]
            assert listed["total_size"] == 4
            assert [one["id"] for one in listed["clusters"]] == ["small", "masters"]
            assert [one["status"] for one in listed["clusters"]] == ["200", "100"]
            pipes = (await guest.call("list", offset=1, limit=10, datastore_type="logstash"))[
                "body"
            ]
            assert [one["id"] for one in pipes["clusters"]] == ["pipes"]

            answer = await guest.call("reboot", cluster_id="pipes")
            assert (answer["status"], answer["raw"]) == (200, "")
            assert (await guest.busy("pipes"))[:2] == ("100", ["REBOOTING"])

            first = (await guest.call("detail", cluster_id="search"))["body"]["instances"][1]
            node = {"type": "node", "value": first["id"]}
            assert (await guest.call("restart_part", cluster_id="search", **node))["status"] == 200
            assert (await guest.busy("search"))[2] == [first["name"]]
            assert guest.executed() == 4
            credentials = {record.credential for record in guest.trace if record.credential}
            assert credentials == {KEY["access_key"]}

    run(story)


def test_its_client_sees_a_rolling_restart_node_by_node(tmp_path: Path) -> None:
    """At each moment the node in turn is busy and no other, until all had their turn."""

    async def story() -> None:
        async with visit(tmp_path, KEY) as guest:
            everything = {"type": "role", "value": "all"}
            answer = await guest.call("rolling", cluster_id="masters", **everything)
            assert (answer["status"], answer["raw"]) == (200, "")
            seen = []
            for turn in range(6):
                guest.now = 10.0 * turn + 5.0
                status, actions, nodes = await guest.busy("masters")
                assert (status, actions, len(nodes)) == ("100", ["REBOOTING"], 1)
                seen += nodes
            assert len(set(seen)) == 6
            guest.now = 61.0
            assert await guest.busy("masters") == ("200", [], [])

    run(story)


def test_its_client_understands_a_failure(tmp_path: Path) -> None:
    """A restart that fails shows its reason where the vendor's models look for it."""

    async def story() -> None:
        async with visit(tmp_path, KEY) as guest:
            answer = await guest.call("restart", cluster_id="small")
            assert isinstance(json.loads(answer["raw"])["jobId"], str)
            guest.now = 11.0
            body = (await guest.call("detail", cluster_id="small"))["body"]
            assert body["status"] == "303"
            assert body["failed_reason"]["error_code"] == "CSS.6002"
            assert sorted(node["status"] for node in body["instances"]) == ["200", "303"]

    run(story)


REFUSALS: tuple[tuple[str, str, dict[str, str], int, str], ...] = (
    ("restart", "nowhere", {}, 403, "CSS.0015"),
    ("restart", "pipes", {}, 415, "CSS.0004"),
    ("reboot", "search", {}, 400, "CSS.5106"),
    ("rolling", "small", {"type": "role", "value": "all"}, 400, "CSS.0074"),
    ("rolling", "masters", {"type": "role", "value": "ess-master"}, 400, "CSS.5167"),
    ("rolling", "search", {"type": "node", "value": "n"}, 400, "CSS.0001"),
    ("restart_part", "search", {"type": "role", "value": "ess-cold"}, 400, "CSS.0076"),
)


def test_its_client_is_refused_as_the_service_would(tmp_path: Path) -> None:
    """Calls that do not fit their cluster are refused with a code; nothing begins."""

    async def story() -> None:
        async with visit(tmp_path, KEY) as guest:
            for call, cluster_id, part, status, code in REFUSALS:
                answer = await guest.call(call, cluster_id=cluster_id, **part)
                # It knows nothing of the service's own error shape, and hands it over as text.
                assert (answer["status"], answer["code"]) == (status, str(status))
                assert json.loads(answer["text"])["errCode"] == code
                assert len(answer["request_id"]) == 32
            assert guest.executed() == 0

    run(story)


def test_its_client_is_locked_out_after_five_wrong_signatures(tmp_path: Path) -> None:
    """A wrong key is refused with the request as it was understood, then not heard at all."""

    async def story() -> None:
        async with visit(tmp_path, WRONG) as guest:
            for _ in range(5):
                answer = await guest.call("restart", cluster_id="search")
                assert (answer["status"], answer["code"]) == (401, "APIGW.0301")
                assert f"canonicalRequest:POST|/v1.0/{PROJECT}/" in answer["text"]
                assert "|content-type;host;user-agent;x-project-id;x-sdk-date|" in answer["text"]
            answer = await guest.call("detail", cluster_id="search")
            assert (answer["status"], answer["code"]) == (401, "APIGW.0301")
            assert "AK access failed to reach the limit,forbidden" in answer["text"]
            assert [record.what for record in guest.trace] == [What.DENIED] * 6
            assert {record.credential for record in guest.trace} == {WRONG["access_key"]}

    run(story)


def test_its_client_may_have_temporary_keys(tmp_path: Path) -> None:
    """A security token is signed and sent by it, and wanted by us."""

    async def story() -> None:
        async with visit(tmp_path, TEMPORARY) as guest:
            assert (await guest.call("restart", cluster_id="search"))["status"] == 200
        async with visit(tmp_path, TEMPORARY | {"security_token": "another"}) as guest:
            answer = await guest.call("restart", cluster_id="search")
            assert (answer["status"], answer["code"]) == (401, "APIGW.0301")

    run(story)


def test_its_client_finds_project_and_keys_by_itself(tmp_path: Path) -> None:
    """It asks our IAM for its region's project, and our metadata for the keys of an ECS."""

    async def story() -> None:
        async with visit(tmp_path, KEY | {"project_id": None, "metadata": True}) as guest:
            assert (await guest.call("restart", cluster_id="search"))["status"] == 200
            calls = [record.call for record in guest.trace if record.what is What.ANSWERED]
            assert calls[:3] == ["metadata_token", "securitykey", "projects"]
            assert not any(record.what is What.DENIED for record in guest.trace)
            (received,) = (record for record in guest.trace if record.what is What.RECEIVED)
            assert (received.credential or "").startswith("HST")
            assert received.project_id == PROJECT

    run(story)
