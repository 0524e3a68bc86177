"""The journal in one SQLite file, shared by the processes of one host: the store, and reading.

All work on the file that may take long is done on the store's one thread, one after another;
`writing.py` is what a run writes there.
"""

import asyncio
import os
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from orchestrator.errors import JournalError
from orchestrator.journal import files, rows
from orchestrator.journal.clock import Host, SteadyClock
from orchestrator.journal.connection import PATIENCE, JournalFile
from orchestrator.journal.lease import LEASE_TTL, LeaseRecord, is_held
from orchestrator.journal.runner import is_dead
from orchestrator.journal.store import (
    ALPHABET,
    RECENT,
    Clock,
    Decide,
    Lasted,
    RunRecord,
    RunSummary,
    refuse_second,
    run_exists,
    run_id_at,
    state_of,
)
from orchestrator.journal.thread import Worker, on_loop
from orchestrator.journal.writing import Writing
from orchestrator.limits import Start
from orchestrator.model import Event
from orchestrator.orders import Order

T = TypeVar("T")

BATCH = 2000
"""Events that are read at a time."""

_INSERT_TARGET = "INSERT INTO target VALUES (?, ?, ?, ?, ?, ?, ?)"
_INSERT_RUN = """INSERT INTO run (run_id, created_at, wall_created_at, operator, change, world,
    tool_version, targets, plan, settings) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_NEXT_ORDER = "SELECT COALESCE(max(number), 0) + 1 FROM run_order WHERE run = ?"
_INSERT_ORDER = "INSERT INTO run_order VALUES (?, ?, ?, ?, ?, ?, ?)"


# -------------------------------------------------------------------------------------- the store


@asynccontextmanager
async def open_store(
    where: str | os.PathLike[str],
    *,
    create: bool = True,
    read_only: bool = False,
    patience: float = PATIENCE,
    host: Host | None = None,
) -> AsyncIterator["SqliteStore"]:
    """Open the journal at a path or `sqlite:///…` URL, for as long as the block lasts.

    Where the file or its folder is read-only everything that only reads still works.

    Args:
        where: the file.
        create: make the file if there is none; those who only read say False.
        read_only: never write, so that nobody who does is ever waited for, or waits.
        patience: seconds to try for a lock that other processes hold.
        host: the clocks of this host, unless others are to be believed.

    Raises:
        JournalError: it cannot be opened, is not a journal, or lies on a network file system.
    """
    worker = Worker("journal")
    last: Callable[[], None] = _nothing
    try:
        file = await worker.run(
            partial(
                _open_file, where,
                create=create, read_only=read_only, patience=patience, host=host or Host(),
            )
        )  # fmt: skip
        last = file.close
        store = SqliteStore(file, worker)
        last = store.close
        yield store
    finally:
        await worker.close(last)


def _open_file(
    where: str | os.PathLike[str], *, create: bool, read_only: bool, patience: float, host: Host
) -> JournalFile:
    path = files.path_of(where)
    files.refuse_network(path)
    if create:
        files.make_file(path)
    elif not path.exists():
        raise JournalError(f"there is no journal {path}; a first `restart` makes it")
    file = JournalFile(path, host, patience, is_for_reading=read_only)
    try:
        file.open()
    except BaseException:
        file.close()
        raise
    return file


def _nothing() -> None:
    pass


class SqliteStore:
    """All runs of one journal file; made by `open_store`."""

    def __init__(self, file: JournalFile, worker: Worker) -> None:
        self._file = file
        self._worker = worker
        self._clock = SteadyClock(file.axis, file.host.uptime)
        self._writings: list[Writing] = []

    def close(self) -> None:
        """Close every journal and the file; for the store's thread, as its last work."""
        for writing in self._writings:
            writing.close()
        self._file.close()

    @property
    def clock(self) -> Clock:
        """The steady axis that all processes of this host share."""
        return self._clock

    async def new_run_id(self) -> str:
        """Return an id that no run here has."""
        taken = await self._read(rows.run_ids)
        letters = random.SystemRandom()
        while True:
            run_id = run_id_at(self._file.host.wall(), "".join(letters.choices(ALPHABET, k=4)))
            if run_id not in taken:
                return run_id

    async def create_run(self, record: RunRecord, *, alone: bool = False) -> None:
        """Keep the run, durably; if it has to be alone, no other of its plan may be unfinished."""
        await self._worker.run(partial(self._create, record, alone))

    async def runs(self, world: str | None = None) -> list[RunSummary]:
        """Return all runs (of one world), newest first."""
        lines = await self._read(partial(rows.run_lines, world=world))
        return [self._summary(*line) for line in lines]

    async def load_run(self, run_id: str) -> RunRecord:
        """Return a run as it was created."""
        return await self._read(partial(rows.load_run, run_id=run_id))

    async def events(self, run_id: str, *, after: int = 0) -> AsyncIterator[list[Event]]:
        """Yield the run's events in the order of writing, in batches, up to those of now."""
        seen = after
        while True:
            seen, batch = await self._read(
                partial(rows.events_after, run_id=run_id, seen=seen, most=BATCH)
            )
            if batch:
                yield batch
            if len(batch) < BATCH:
                return

    async def run_events(self, run_id: str) -> list[Event]:
        """Return those of a run's events that concern no single target."""
        return await self._read(partial(rows.run_events, run_id=run_id))

    async def starts(self, world: str) -> list[Start]:
        """Return the whole ledger of a world, in the order of grants."""
        return await self._read(partial(rows.starts_of, world=world))

    async def counting(self, world: str, horizon: float) -> list[Start]:
        """Return the starts of a world that rates of so many seconds may still have to count."""
        now = self._clock.now()
        return await self._read(
            partial(rows.starts_that_matter, world=world, but=0, now=now, horizon=horizon)
        )

    async def restarted_since(self, at: float, world: str) -> frozenset[tuple[str, str]]:
        """Return project and cluster of what was restarted well after a steady moment."""
        return await self._read(partial(rows.restarted_since, world=world, at=at))

    async def lasted(self, world: str, *, most: int = RECENT) -> list[Lasted]:
        """Return how long restarts of the newest runs lasted."""
        return await self._read(partial(rows.lasted, world=world, most=most))

    async def lease(self, run_id: str) -> LeaseRecord | None:
        """Return who works on a run or did last."""
        return await self._read(partial(rows.lease_of, run_id=run_id))

    async def give(self, run_id: str, order: Order) -> Order:
        """Keep an order to a run, durably; return it with its number."""
        return await self._worker.run(partial(self._give, run_id, order))

    async def orders(self, run_id: str, after: int) -> list[Order]:
        """Return the orders of a run whose numbers are greater."""
        return await self._read(partial(rows.orders_after, run_id=run_id, after=after))

    async def journal(
        self, run_id: str, *, horizon: float, owner: str = "", ttl: float = LEASE_TTL
    ) -> "SqliteJournal":
        """Take a run's lease and open it for writing."""

        def take() -> Writing:
            writing = Writing(
                self._file, self._clock, run_id, horizon=horizon, owner=owner, ttl=ttl
            )
            self._writings.append(writing)
            return writing

        return SqliteJournal(await self._worker.run(take), self._worker)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def job() -> T:
            with self._file.words("read"):
                return self._file.read(work)

        return await self._worker.run(job)

    def _create(self, record: RunRecord, alone: bool) -> None:  # noqa: FBT001 - a thread's job
        wall = record.created_at + self._clock.wall_offset
        with self._file.words("write to"), self._file.transaction() as connection:
            if record.run_id in rows.run_ids(connection):
                raise run_exists(record.run_id)
            if alone:
                lines = rows.run_lines(connection, record.world)
                refuse_second(record, [self._summary(*line) for line in lines])
            connection.execute(_INSERT_RUN, rows.run_row(record, wall))
            [number] = connection.execute("SELECT last_insert_rowid()").fetchone()
            connection.executemany(_INSERT_TARGET, rows.target_rows(number, record))

    def _give(self, run_id: str, order: Order) -> Order:
        with self._file.words("write to"), self._file.transaction() as connection:
            run = rows.run_number(connection, run_id)
            [number] = connection.execute(_NEXT_ORDER, (run,)).fetchone()
            given = replace(order, number=number)
            connection.execute(_INSERT_ORDER, (run, *rows.order_row(given)))
        return given

    def _summary(
        self, line: tuple[Any, ...], last: Event | None, lease: LeaseRecord | None
    ) -> RunSummary:
        run_id, created_at, wall_created_at, operator, change, targets, world, plan_id = line
        held = is_held(lease, self._clock.now(), self._is_dead)
        state, outcome, exit_code = state_of(last, is_held=held)
        return RunSummary(
            run_id=run_id,
            created_at=created_at,
            wall_created_at=wall_created_at,
            operator=operator,
            change=change,
            targets=targets,
            state=state,
            outcome=outcome,
            exit_code=exit_code,
            world=world,
            plan_id=plan_id,
            owner=lease.describe() if held and lease is not None else None,
        )

    def _is_dead(self, lease: LeaseRecord) -> bool:
        return is_dead(lease, self._clock, self._file.host)


# ----------------------------------------------------------------------------- writing of one run


class SqliteJournal:
    """Where one run of a `SqliteStore` writes."""

    def __init__(self, writing: Writing, worker: Worker) -> None:
        self._writing = writing
        self._worker = worker

    @property
    def epoch(self) -> int:
        """The number of our lease."""
        return self._writing.succession.epoch

    @property
    def took_over(self) -> LeaseRecord | None:
        """The previous holder, if it did not give the run back."""
        return self._writing.succession.took_over

    @property
    def is_inherited(self) -> bool:
        """Whether the previous holder may still be at work."""
        return self._writing.succession.is_inherited

    async def write(self, decide: Decide) -> None:
        """Decide and record in one durable transaction; the thread does one after another."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        look = self._writing.glance() if self._worker.is_idle else None
        if look is not None:
            self._writing.settle(decide, look)
            await self._worker.finish(self._writing.commit)
        else:
            loop = asyncio.get_running_loop()
            await self._worker.run(partial(self._write_patiently, decide, loop))

    def _write_patiently(self, decide: Decide, loop: asyncio.AbstractEventLoop) -> None:
        look = self._writing.begin()
        on_loop(loop, partial(self._writing.settle, decide, look))
        self._writing.commit()

    async def count_anew(self, horizon: float) -> None:
        """Have the next decision get every start that can still matter, ours among them."""
        await self._worker.run(partial(self._writing.count_anew, horizon))

    async def orders(self, after: int) -> list[Order]:
        """Return the orders of the run whose numbers are greater."""
        return await self._worker.run(partial(self._writing.orders, after))

    async def beat(self) -> None:
        """Renew the lease."""
        await self._worker.run(self._writing.beat)

    async def testify(self, events: Sequence[Event]) -> None:
        """Record evidence, lease or not."""
        await self._worker.run(partial(self._writing.testify, events))

    async def close(self) -> None:
        """Write no more and give the lease back; the store stays open."""
        # Whoever is cancelled should not leave a run behind that looks as if it were worked on.
        with anyio.CancelScope(shield=True), suppress(JournalError):
            await self._worker.run(self._writing.close)
