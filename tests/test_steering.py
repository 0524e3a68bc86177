"""Steering: what becomes of an order that the run's runner does not take, or refuses."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from orchestrator.config import Settings, load_settings
from orchestrator.errors import UnavailableError, UsageError
from orchestrator.journal import RunJournal, RunRecord, open_store
from orchestrator.limits import Concurrency
from orchestrator.model import RunnerStarted, RunPaused
from orchestrator.orders import NewLimits, Order, OrderKind, Standing
from orchestrator.plan import Policy, make_plan
from orchestrator.steering import continue_if_paused
from tests.stories.night import fleet

POLICY = Policy(limits=(Concurrency(4),))
TWO = NewLimits(limits=(Concurrency(2),))


def settings_in(folder: Path) -> Settings:
    return load_settings(
        options={"journal.url": f"sqlite:///{folder / 'journal.db'}"},
        environ={}, config_file=None, cwd=folder, user_config=folder / "none.toml",
    )  # fmt: skip


@asynccontextmanager
async def paused(folder: Path) -> AsyncIterator[RunJournal]:
    """A run that is paused, and whose runner lives but has its hands full."""
    async with open_store(folder / "journal.db", create=True) as store:
        now = store.clock.now()
        record = RunRecord(
            run_id="one", plan=make_plan(fleet(6), POLICY), operator="ana@b", change=None,
            created_at=now, world="", tool_version="1", settings={},
        )  # fmt: skip
        await store.create_run(record)
        journal = await store.journal("one", horizon=0.0, owner="ana@b")
        begun = RunnerStarted(at=now, owner="a", host="b", pid=1, wall_offset=0.0, version="1")
        await journal.write(lambda _: [begun, RunPaused(at=now, by="ben")])
        yield journal
        await journal.close()


def test_nothing_goes_on_before_its_limits_were_taken(tmp_path: Path) -> None:
    """Who resumes within other limits is told to wait while the runner has not taken them."""

    async def story() -> list[OrderKind]:
        async with paused(tmp_path) as journal:
            with pytest.raises(UnavailableError, match="recorded as order 1, and its runner has"):
                await continue_if_paused(
                    settings_in(tmp_path), None, by="ana", wanted=TWO, patience=0.3
                )
            return [order.kind for order in await journal.orders(0)]

    assert anyio.run(story) == [OrderKind.LIMIT]


def test_nothing_goes_on_whose_limits_were_refused(tmp_path: Path) -> None:
    """If somebody narrowed the limits meanwhile, those of the resume are refused; it stays."""

    async def story() -> None:
        async with paused(tmp_path) as journal, anyio.create_task_group() as tasks:

            async def run() -> None:
                narrow = replace(POLICY, limits=(Concurrency(1),))
                orders: list[Order] = []
                while not orders:  # a runner asks for orders, too
                    await anyio.sleep(0.02)
                    orders = await journal.orders(0)
                events = Standing(narrow).obey_all(orders, 6, 0.0)
                await journal.write(lambda _: events)

            tasks.start_soon(run)
            with pytest.raises(UsageError, match=r"more than what holds now: 1; .*stays paused"):
                await continue_if_paused(settings_in(tmp_path), "one", by="ana", wanted=TWO)
            assert [order.kind for order in await journal.orders(0)] == [OrderKind.LIMIT]

    anyio.run(story)
