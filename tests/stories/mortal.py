"""A run in a process that kills itself, with SIGKILL, at one chosen point of its life.

    python -m tests.stories.mortal RUN URL JOURNAL POINT

takes up the run and dies at that point: before or after a write of the journal, before a restart
call leaves, while it is under way, or when its answer is there and not yet written down. If it
lives to the end it prints how many points it passed. The parts are the real ones.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import anyio

from orchestrator.config import load_settings
from orchestrator.css import CssClient, NoCredentials
from orchestrator.engine import Cloud
from orchestrator.journal import RunJournal, SqliteStore, open_store
from orchestrator.limits import Start
from orchestrator.model import (
    Answer,
    ClusterState,
    Event,
    Leave,
    Target,
    leave_at_once,
)
from orchestrator.session import carry_out

IN_FLIGHT = 0.03
"""Seconds after which a call is certainly at the service and, by the scenario, not answered yet."""


def be_killed() -> None:
    """Die as a process does: no clean-up, no last word."""
    os.kill(os.getpid(), signal.SIGKILL)


class Fate:
    """Counts the points that are passed, and dies at the chosen one."""

    def __init__(self, at: int, die: Callable[[], None] = be_killed) -> None:
        self.at = at
        self.passed = 0
        self._die = die

    def point(self) -> None:
        """Live on, or die."""
        self.passed += 1
        if self.passed == self.at:
            self._die()


class MortalJournal:
    """A journal whose process may die around each write."""

    def __init__(self, journal: RunJournal, fate: Fate) -> None:
        self._journal = journal
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def write(self, decide: Callable[[Sequence[Start]], Sequence[Event]]) -> None:
        wrote = False

        def deciding(starts: Sequence[Start]) -> Sequence[Event]:
            nonlocal wrote
            events = decide(starts)
            wrote = bool(events)
            if wrote:
                self._fate.point()
            return events

        await self._journal.write(deciding)
        if wrote:
            self._fate.point()


class MortalStore:
    """A store that gives out mortal journals."""

    def __init__(self, store: SqliteStore, fate: Fate) -> None:
        self._store = store
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def journal(self, run_id: str, **options: Any) -> Any:
        return MortalJournal(await self._store.journal(run_id, **options), self._fate)


class MortalCloud:
    """A client whose process may die around, and during, each restart call."""

    def __init__(self, cloud: Cloud, fate: Fate) -> None:
        self._cloud = cloud
        self._fate = fate

    async def restart(
        self, target: Target, request_id: str, leave: Leave = leave_at_once
    ) -> Answer:
        self._fate.point()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._die_meanwhile)
            answer = await self._cloud.restart(target, request_id, leave)
            tasks.cancel_scope.cancel()
        self._fate.point()
        return answer

    async def _die_meanwhile(self) -> None:
        await anyio.sleep(IN_FLIGHT)
        self._fate.point()

    async def list_clusters(
        self, project_id: str, region: str | None
    ) -> Mapping[str, ClusterState]:
        return await self._cloud.list_clusters(project_id, region)

    async def show_cluster(self, target: Target) -> ClusterState:
        return await self._cloud.show_cluster(target)

    async def __aenter__(self) -> Self:
        return self


async def main(run_id: str, url: str, journal: str, point: int) -> int:
    """Take up the run; return how many points were passed."""
    fate = Fate(point)
    settings = load_settings(
        options={"journal.url": journal, "report": "report.json", "cloud.endpoint": url},
        environ={},
        config_file=None,
        cwd=Path.cwd(),
        user_config=None,
    )
    async with open_store(journal) as store:
        record = await store.load_run(run_id)
        client = CssClient(lambda _project, _region: url, NoCredentials(), store.clock.now,
                           request_timeout=3.0)  # fmt: skip
        async with client:
            mortal: Any = MortalStore(store, fate)
            await carry_out(mortal, record, MortalCloud(client, fate), settings)
    return fate.passed


if __name__ == "__main__":
    print(anyio.run(main, sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
