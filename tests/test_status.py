"""Status: a run seen from outside, by what the journal knows of it."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any, TypeVar

import anyio
import pytest

from orchestrator.campaign import Campaign
from orchestrator.cli.status import _screen
from orchestrator.journal import MemoryStore, RunJournal, RunRecord
from orchestrator.limits import Concurrency, Rate, Unavailable
from orchestrator.model import (
    Answer,
    ClusterState,
    Event,
    Outcome,
    RestartAnswered,
    RestartRequested,
    RunFinished,
    RunnerStarted,
    RunPaused,
    RunStopping,
    TargetEnded,
    Verdict,
    WaveOpened,
)
from orchestrator.plan import Policy, Window, make_plan
from orchestrator.simulator.clock import JumpingClock, run_in_virtual_time
from orchestrator.status import Lookout, RunNow, Status, run_now
from orchestrator.waits import waits
from tests.stories.night import fleet

T = TypeVar("T")
READY = ClusterState(status="200")


class Scene:
    """Two runs of one journal: ours, and another that takes places in our limits."""

    def __init__(self) -> None:
        self.clock = JumpingClock()
        self.store = MemoryStore(self.clock, random=Random(0))
        self.policy = Policy(limits=(Concurrency(3), Rate(4, 600.0)))
        self.journals: dict[str, RunJournal] = {}

    async def begin(self, run_id: str, count: int, seed: int) -> None:
        plan = make_plan(fleet(count, 1, seed), self.policy)
        record = RunRecord(
            run_id=run_id, plan=plan, operator="ana@b", change="CHG-1",
            created_at=self.clock.now(), world="", tool_version="1", settings={},
        )  # fmt: skip
        await self.store.create_run(record)
        self.journals[run_id] = await self.store.journal(run_id, horizon=600.0, owner="ana@b")
        started = RunnerStarted(
            at=self.clock.now(), owner="ana@b", host="b", pid=7, wall_offset=0.0, version="1"
        )
        await self.tell(run_id, started, WaveOpened(at=self.clock.now(), wave=0))

    async def tell(self, run_id: str, *events: Event) -> None:
        await self.journals[run_id].write(lambda _: events)

    async def start(self, run_id: str, *targets: int) -> None:
        now = self.clock.now()
        for target in targets:
            answer = Answer(
                verdict=Verdict.ACCEPTED, sent_at=now, answered_at=now, job_ids=(f"j{target}",)
            )
            await self.tell(
                run_id,
                RestartRequested(at=now, target=target, attempt=1, request_id="r", baseline=READY),
                RestartAnswered(at=now, target=target, attempt=1, answer=answer),
            )

    async def end(self, run_id: str, target: int) -> None:
        ended = TargetEnded(at=self.clock.now(), target=target, outcome=Outcome.RESTARTED)
        await self.tell(run_id, ended)

    async def look(self, run_id: str) -> Status:
        return await Lookout(self.store, await self.store.load_run(run_id)).look()


def play(story: Callable[[Scene], Awaitable[T]]) -> T:
    async def main() -> T:
        return await story(Scene())

    return run_in_virtual_time(main)


def test_starts_of_other_runs_are_counted() -> None:
    """Who waits for a limit that another run fills reads so, with the moment it has room."""

    async def story(scene: Scene) -> Status:
        await scene.begin("one", 10, 1)
        await scene.begin("two", 10, 2)
        await scene.start("two", 0, 1, 2)
        await anyio.sleep(10)
        await scene.start("one", 0)
        for target in (0, 1, 2):
            await scene.end("two", target)
        await anyio.sleep(10)
        return await scene.look("one")

    status = play(story)
    document: dict[str, Any] = json.loads(json.dumps(status.as_dict()))
    [wait] = document["waits"]
    assert (wait["count"], wait["cause"]) == (9, "limit")
    assert wait["reason"].startswith("for 4/600s (next in ")
    slots, rate = document["limits"]
    assert (slots["used"], slots["frees_at"]) == (1, None)
    assert (rate["used"], rate["allowed"], rate["frees_at"]) == (4, 4, wait["until"])
    [running] = document["running"]
    assert (running["phase"], running["for_s"], running["job_ids"]) == ("accepted", 10.0, ["j0"])
    assert document["counts"]["waiting"] == 9
    assert document["runner"]["owner"] == "ana@b"
    text = "\n".join(map(str, status.lines(100, 50)))
    assert "waiting: 9 for 4/600s (next in 580 s, at " in text.replace("9 min 41 s", "580 s")
    assert "carried out by ana@b" in text


def test_what_only_the_runner_sees_is_not_made_up() -> None:
    """Who is down is in no journal: a status of a limit on that says what it counts."""

    async def story(scene: Scene) -> Status:
        scene.policy = replace(scene.policy, max_unavailable=(Unavailable(2),))
        await scene.begin("one", 5, 1)
        await scene.start("one", 0)
        return await scene.look("one")

    text = "\n".join(map(str, play(story).lines(100, 50)))
    assert "limit 2 unavailable: 1 of 2 used\n" in text
    assert "\nof clusters down only restarts are counted here; the run's own terminal" in text


def test_a_run_that_nobody_works_on_says_what_to_do() -> None:
    """A run whose runner is gone names what it holds, and how to go on."""

    async def story(scene: Scene) -> Status:
        await scene.begin("one", 5, 1)
        await scene.start("one", 0, 1)
        await scene.journals["one"].close()
        return await scene.look("one")

    status = play(story)
    text = "\n".join(map(str, status.lines(100, 50)))
    assert "interrupted: `orchestrator resume one` goes on with it; 2 under way keep" in text
    assert status.as_dict()["runner"] is None
    assert status.as_dict()["state"] == "interrupted"


def test_a_run_that_is_over_tells_how_it_ended() -> None:
    """Status works for finished runs too, and tells when they ended, not when it is asked."""

    async def story(scene: Scene) -> Status:
        await scene.begin("one", 1, 1)
        await scene.start("one", 0)
        await anyio.sleep(30)
        await scene.end("one", 0)
        at = scene.clock.now()
        await scene.tell("one", RunFinished(at=at, outcome="completed", exit_code=0))
        await scene.journals["one"].close()
        await anyio.sleep(3600)
        return await scene.look("one")

    status = play(story)
    lines = list(map(str, status.lines(100, 50)))
    assert "after 30 s" in lines[0]
    assert "restarted 1" in lines[1]
    assert "exit code 0" in lines[-1]
    document = status.as_dict()
    assert (document["state"], document["outcome"]) == ("finished", "completed")
    assert document["waits"] == []
    assert document["ended_at"] is not None


def test_it_looks_again_at_what_is_new() -> None:
    """A second look knows what happened since the first, and explains as the runner would."""

    async def story(scene: Scene) -> None:
        await scene.begin("one", 6, 1)
        look = Lookout(scene.store, await scene.store.load_run("one"))
        assert (await look.look()).campaign.waiting == 6
        await scene.start("one", 0, 1, 2)
        status = await look.look()
        assert [str(wait) for wait in waits(status.campaign, status.now)] == [
            "3 for 3 at once (next when one ends)"
        ]
        await scene.tell("one", RunPaused(at=scene.clock.now(), by="ben", reason="alarm", order=1))
        status = await look.look()
        assert status.as_dict()["paused"] == {
            "by": "ben", "reason": "alarm", "at": status.as_dict()["at"],
        }  # fmt: skip
        history = [event async for batch in scene.store.events("one") for event in batch]
        replayed = Campaign("one", status.record.plan, history)
        assert replayed.counts() == status.campaign.counts()

    play(story)


def test_all_runs_say_what_keeps_them_back() -> None:
    """A live run is running, waiting, paused or stopping, and says since when, by whom, and why."""

    async def story(scene: Scene) -> list[tuple[str, str | None]]:
        found: list[tuple[str, str | None]] = []

        async def look() -> RunNow:
            [run] = await scene.store.runs()
            now = await run_now(scene.store, run)
            found.append((now.word, now.why))
            return now

        opens_at = scene.clock.now() + 10.0
        scene.policy = replace(scene.policy, window=Window(not_before=opens_at))
        await scene.begin("one", 5, 1)
        waiting = await look()
        assert waiting.as_dict()["opens_at"] == "2023-11-14T22:13:30.000Z"
        await anyio.sleep(10)
        await look()
        paused = RunPaused(at=scene.clock.now(), by="ben", reason="disk\x1b[2J alarm", order=1)
        await scene.tell("one", paused)
        line = await look()
        assert str(line) == (
            "one  2023-11-14T22:13:20Z  paused            5 targets  ana@b  CHG-1  "
            "by ben: disk alarm (since 2023-11-14T22:13:30Z)"
        )
        document = line.as_dict()
        assert (document["state"], document["doing"]) == ("running", "paused")
        assert document["paused"] == {
            "by": "ben", "reason": "disk\x1b[2J alarm", "at": "2023-11-14T22:13:30.000Z",
        }  # fmt: skip
        await scene.journals["one"].close()
        await look()
        scene.journals["one"] = await scene.store.journal("one", horizon=600.0, owner="ana@b")
        stopping = RunStopping(at=scene.clock.now(), reason="drained by ben", by="ben", order=2)
        await scene.tell("one", stopping)
        await look()
        over = RunFinished(at=scene.clock.now(), outcome="stopped", exit_code=3)
        await scene.tell("one", over)
        await scene.journals["one"].close()
        assert (await look()).as_dict()["stopping"] is not None
        return found

    since = "by ben: disk\x1b[2J alarm (since 2023-11-14T22:13:30Z)"
    assert play(story) == [
        ("waiting", "not before 2023-11-14T22:13:30Z"),
        ("running", None),
        ("paused", since),
        ("interrupted", f"paused {since}"),
        ("stopping", "drained by ben"),
        ("stopped", "drained by ben"),
    ]


def test_only_news_is_printed_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no terminal, a look that shows what the last one did is kept to itself."""

    async def story(scene: Scene) -> list[int]:
        screen = _screen("text", is_watching=True)
        await scene.begin("one", 6, 1)
        printed: list[int] = []

        async def look(after: float) -> None:
            await anyio.sleep(after)
            await scene.journals["one"].beat()
            screen.show(await scene.look("one"))
            printed.append(capsys.readouterr().out.count("run one"))

        await look(0.0)
        await look(1.0)
        await scene.start("one", 0)
        await look(1.0)
        await look(1.0)
        for _ in range(6):
            await look(10.0)
        return printed

    assert play(story) == [1, 0, 1, 0, 0, 0, 0, 0, 0, 1]
