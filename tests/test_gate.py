"""The operator's gate as real commands: what is go, and what is not."""

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from aiohttp import web

from orchestrator.gate import CommandGate


def ask(*commands: str, timeout: float = 10.0, **facts: str) -> str | None:
    async def main() -> str | None:
        return await CommandGate(commands, timeout=timeout).ask(facts)

    return anyio.run(main)


def test_exit_code_0_means_go() -> None:
    """Whatever a command prints, only its exit code counts; all commands have to say go."""
    assert ask("echo all is well; exit 0") is None
    assert ask("true", "true") is None
    assert ask("true", "echo no >&2; exit 3", "true") == "no"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("echo first; echo 'lag 40 s' >&2; exit 1", "lag 40 s"),
        ("exit 7", "exit 7: exit code 7"),
        ("kill -TERM $$", "kill -TERM $$: signal 15"),
        ("./no-such-command 2>/dev/null", "./no-such-command 2>/dev/null: it was not found"),
        ("printf 'a\\033[31mb\\n'; exit 1", "a[31mb"),
        ("printf '%0500d' 1; exit 1", "0" * 200),
    ],
)
def test_anything_else_is_no_and_says_why(command: str, reason: str) -> None:
    """The last line printed is the reason, short and printable; without one, how it ended."""
    assert ask(command) == reason


def test_no_answer_in_time_is_no_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """A command that takes too long is ended with its children, and soon."""
    mark = tmp_path / "mark"
    began = time.monotonic()
    reason = ask(f"(sleep 1; touch {mark}) & sleep 60", timeout=0.2)
    assert time.monotonic() - began < 5
    assert reason is not None
    assert reason.endswith("no answer within 200ms")
    time.sleep(1.2)
    assert not mark.exists()


def test_the_command_is_told_which_run_and_wave() -> None:
    """Facts of the run stand in the command's environment, and nothing is read from a terminal."""
    assert ask('test "$FLEET_WAVE" = canary && ! read line', FLEET_WAVE="canary") is None


# ------------------------------------------------------------------------- the example in config/

EXAMPLE = f"{sys.executable} {Path(__file__).parents[1] / 'config' / 'gate-prometheus.py'}"


@asynccontextmanager
async def monitoring(alerts: list[str], value: str | None) -> AsyncIterator[str]:
    """Serve what Alertmanager and Prometheus would; the value is the URL of both."""

    async def answer(request: web.BaseRequest) -> web.Response:
        if request.path == "/api/v2/alerts":
            assert request.query["filter"] == 'severity="critical"'
            return web.json_response([{"labels": {"alertname": name}} for name in alerts])
        result = [] if value is None else [{"metric": {}, "value": [0, value]}]
        return web.json_response({"data": {"resultType": "vector", "result": result}})

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("alerts", "value", "reason"),
    [
        ([], "0.2", None),
        (["SearchDown", "DiskFull"], "0.2", "alert SearchDown fires; alert DiskFull fires"),
        ([], "0.7", "max(p99) is 0.7, not below 0.5"),
        ([], "NaN", "max(p99) is NaN, not below 0.5"),
        ([], None, "max(p99) has no value"),
    ],
)
def test_the_example_asks_prometheus_and_alertmanager(
    alerts: list[str], value: str | None, reason: str | None
) -> None:
    """No alert and a good value mean go; an alert, a bad value or none at all do not."""

    async def main() -> str | None:
        async with monitoring(alerts, value) as url:
            command = (
                f"{EXAMPLE} --alertmanager {url} --label severity=critical "
                f"--prometheus {url} --query 'max(p99)' --below 0.5"
            )
            return await CommandGate((command,), timeout=20.0).ask({})

    assert anyio.run(main) == reason


def test_the_example_fails_closed() -> None:
    """Nobody at the address, or wrong use, is no."""
    nobody = ask(f"{EXAMPLE} --alertmanager http://127.0.0.1:1")
    assert nobody is not None
    assert nobody.startswith("cannot be asked: ")
    assert ask(EXAMPLE) is not None
