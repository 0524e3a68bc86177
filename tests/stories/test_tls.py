"""Whole runs the long way: a proxy that tunnels, TLS that wants our certificate, the simulator."""

import asyncio
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from orchestrator.errors import ExitCode
from orchestrator.fleet import Format, write_fleet
from orchestrator.simulator import invent_targets, read_trace
from tests.contracts.test_css_tls import HOST, PASSPHRASE, Pki, Proxy
from tests.stories.processes import QUICK, environment, simulator

SCENARIO = '[restart]\nduration = "200ms"\nbusy_after = "20ms"\n'
TARGETS = invent_targets(4, 2, 6)


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.close()


@contextmanager
def the_long_way(port: int, tls: ssl.SSLContext) -> Iterator[Proxy]:
    """Serve a proxy that leads to TLS before the service at `port`, from a thread of its own."""
    proxy = Proxy(leads_to=0)
    ready, over = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def unwrap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, away = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_carry(reader, away), _carry(there, writer))

    async def serve() -> None:
        before = await asyncio.start_server(unwrap, "127.0.0.1", 0, ssl=tls)
        proxy.leads_to = before.sockets[0].getsockname()[1]
        listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        proxy.port = listening.sockets[0].getsockname()[1]
        ready.set()
        async with before, listening:
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(5)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(5)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def orchestrator(folder: Path, proxy: Proxy, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments, "--endpoint", f"https://{HOST}"],
        cwd=folder,
        env={
            **environment(folder), "HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}",
            "NIGHT_KEY": PASSPHRASE, "OS_TOKEN": "gAAAA-any-token-will-do",
        },
        capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_the_long_way(tmp_path: Path) -> None:
    """A run gets through proxy and TLS by what its options name; without trust nothing is sent."""
    (tmp_path / "fleet.csv").write_text(write_fleet(TARGETS, Format.CSV))
    pki = Pki(tmp_path)
    cert, key = pki.client(passphrase=PASSPHRASE)
    shown = ("--client-cert", cert.name, "--client-key", key.name,
             "--client-key-password-env", "NIGHT_KEY")  # fmt: skip
    trusted = ("--ca-file", str(pki.trusted.ca_file))
    listing = ("discover", "--project", TARGETS[0].project_id)
    with (
        simulator(tmp_path, TARGETS, SCENARIO) as url,
        the_long_way(int(url.rpartition(":")[2]), pki.server(HOST, asks=True)) as proxy,
    ):
        blind = orchestrator(tmp_path, proxy, *listing, *shown)
        assert (tmp_path / "trace.jsonl").read_text() == ""
        found = orchestrator(tmp_path, proxy, *listing, *shown, *trusted)
        done = orchestrator(
            tmp_path, proxy, "restart", "fleet.csv", "--yes", "--report", "report.json",
            *shown, *trusted, *QUICK,
        )  # fmt: skip
    assert blind.returncode == ExitCode.SOME_FAILED
    assert "through proxy 127.0.0.1 could be had: its certificate is not trusted" in blind.stderr
    assert found.returncode == ExitCode.OK, found.stderr
    assert done.returncode == ExitCode.OK, done.stderr
    report: Mapping[str, Any] = json.loads((tmp_path / "report.json").read_text())
    executed = [one for one in read_trace(tmp_path / "trace.jsonl") if one.what == "executed"]
    assert report["counts"]["restarted"] == len(executed) == len(TARGETS)
    assert all(head.startswith(b"CONNECT css.example:443 ") for head in proxy.heads)
