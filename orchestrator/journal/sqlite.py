"""The journal in one SQLite file, shared by the processes of one host.

Rules:

- Every write begins with BEGIN IMMEDIATE, so what a decision sees is what it is recorded with.
- If a commit failed, the file is looked at: what is in it counts, not what SQLite said last.
- The statements mirror the rules of `store.py` and `limits.py`; each says which.
- All of this runs on the store's one thread.
"""

import itertools
import json
import os
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from typing import Any, TypeVar

from orchestrator.errors import JournalError
from orchestrator.journal import codec, files
from orchestrator.journal.clock import REFRESH_EVERY, Axis, Host, SteadyClock
from orchestrator.journal.connection import PATIENCE, JournalFile, save_axis
from orchestrator.journal.runner import may_live
from orchestrator.journal.store import (
    ALPHABET,
    MARGIN,
    Clock,
    Decide,
    RunRecord,
    RunSummary,
    cluster_is_taken,
    no_such_run,
    run_exists,
    run_id_at,
    start_exists,
    start_of,
    state_of,
)
from orchestrator.journal.thread import Worker
from orchestrator.limits import Start, change_of
from orchestrator.model import Event, RestartRequested, RunnerStarted, Target, TargetEvent

T = TypeVar("T")

BATCH = 2000
"""Events that are read at a time."""

_INSERT_EVENT = "INSERT INTO event (run_id, at, kind, target, data) VALUES (?, ?, ?, ?, ?)"
_INSERT_TARGET = "INSERT INTO target VALUES (?, ?, ?, ?, ?, ?, ?)"
_INSERT_RUN = """INSERT INTO run (run_id, created_at, wall_created_at, operator, change, world,
    tool_version, targets, plan, settings) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_INSERT_START = """INSERT INTO start (run_id, target, attempt, world, project_id, cluster_id,
    region, labels, granted_at, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
# Mirrors `Start.after`, for the latest start of a target.
_CHANGE_START = """UPDATE start SET settled_at = COALESCE(settled_at, ?),
    ended_at = COALESCE(ended_at, ?), returned = MAX(returned, ?), version = ?
    WHERE run_id = ? AND target = ?
    AND attempt = (SELECT max(attempt) FROM start WHERE run_id = ? AND target = ?)"""
_START_COLUMNS = """run_id, target, attempt, project_id, cluster_id, region, labels, granted_at,
    settled_at, ended_at, returned"""
_CHANGED = f"""SELECT {_START_COLUMNS} FROM start
    WHERE version > ? AND world = ? AND run_id <> ? ORDER BY version"""  # noqa: S608  constant
# Mirrors `store.still_matters`.
_MATTERS = f"""SELECT {_START_COLUMNS} FROM start
    WHERE world = ? AND run_id <> ? AND returned = 0
    AND (settled_at IS NULL OR ended_at IS NULL OR ended_at > ? OR settled_at > ?)
    ORDER BY version"""  # noqa: S608  constant
# Mirrors `store.is_live`.
_LIVE = f"""SELECT {_START_COLUMNS} FROM start
    WHERE world = ? AND project_id = ? AND cluster_id = ?
    AND ended_at IS NULL AND returned = 0"""  # noqa: S608  constant
_LAST = "SELECT (SELECT max(seq) FROM event), (SELECT COALESCE(max(version), 0) FROM start)"
_EVENTS = """SELECT seq, at, kind, target, data FROM event
    WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?"""
_RUNS = """SELECT run_id, created_at, wall_created_at, operator, change, targets, world,
    (SELECT max(seq) FROM event WHERE event.run_id = run.run_id AND target IS NULL
        AND kind IN ('runner.started', 'run.finished'))
    FROM run WHERE ? IS NULL OR world = ? ORDER BY created_at DESC, number DESC"""


# -------------------------------------------------------------------------------------- the store


@asynccontextmanager
async def open_store(
    where: str | os.PathLike[str],
    *,
    create: bool = True,
    patience: float = PATIENCE,
    host: Host | None = None,
) -> AsyncIterator["SqliteStore"]:
    """Open the journal at a path or `sqlite:///…` URL, for as long as the block lasts.

    Where the file or its folder is read-only everything that only reads still works.

    Args:
        where: the file.
        create: make the file if there is none; those who only read say False.
        patience: seconds to try for a lock that other processes hold.
        host: the clocks of this host, unless others are to be believed.

    Raises:
        JournalError: it cannot be opened, is not a journal, or lies on a network file system.
    """
    worker = Worker("journal")
    file: JournalFile | None = None
    try:
        file = await worker.run(
            partial(_open_file, where, create=create, patience=patience, host=host or Host())
        )
        yield SqliteStore(file, worker)
    finally:
        await worker.close(file.close if file is not None else _nothing)


def _open_file(
    where: str | os.PathLike[str], *, create: bool, patience: float, host: Host
) -> JournalFile:
    path = files.path_of(where)
    files.refuse_network(path)
    if create:
        files.make_file(path)
    elif not path.exists():
        raise JournalError(f"there is no journal {path}; a first `restart` makes it")
    file = JournalFile(path, host, patience)
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

    @property
    def clock(self) -> Clock:
        """The steady axis that all processes of this host share."""
        return self._clock

    async def new_run_id(self) -> str:
        """Return an id that no run here has."""
        taken = await self._read(_run_ids)
        letters = random.SystemRandom()
        while True:
            run_id = run_id_at(self._file.host.wall(), "".join(letters.choices(ALPHABET, k=4)))
            if run_id not in taken:
                return run_id

    async def create_run(self, record: RunRecord) -> None:
        """Keep the run, durably."""
        await self._worker.run(partial(self._create, record))

    async def runs(self, world: str | None = None) -> list[RunSummary]:
        """Return all runs (of one world), newest first."""
        rows = await self._read(partial(_summary_rows, world=world))
        return [self._summary(row, last) for row, last in rows]

    async def load_run(self, run_id: str) -> RunRecord:
        """Return a run as it was created."""
        return await self._read(partial(_load, run_id=run_id))

    async def events(self, run_id: str) -> AsyncIterator[list[Event]]:
        """Yield the run's events in the order of writing, in batches, up to those of now."""
        seen = 0
        while True:
            seen, batch = await self._read(partial(_events_after, run_id=run_id, seen=seen))
            if batch:
                yield batch
            if len(batch) < BATCH:
                return

    async def journal(self, run_id: str, *, horizon: float) -> "SqliteJournal":
        """Open a run for writing."""
        record = await self.load_run(run_id)
        return SqliteJournal(_Writing(self._file, record, self._clock, horizon), self._worker)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def job() -> T:
            with self._file.words("read"):
                return self._file.read(work)

        return await self._worker.run(job)

    def _create(self, record: RunRecord) -> None:
        wall = record.created_at + self._clock.wall_offset
        with self._file.words("write to"), self._file.transaction() as connection:
            if _exists(connection, record.run_id):
                raise run_exists(record.run_id)
            connection.execute(_INSERT_RUN, _run_row(record, wall))
            connection.executemany(_INSERT_TARGET, _target_rows(record))

    def _summary(self, row: tuple[Any, ...], last: Event | None) -> RunSummary:
        run_id, created_at, wall_created_at, operator, change, targets, world, _ = row
        state, outcome, exit_code = state_of(last, self._may_live)
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
        )

    def _may_live(self, runner: RunnerStarted) -> bool:
        return may_live(runner, self._clock)


# ----------------------------------------------------------------------------- writing of one run


class SqliteJournal:
    """Where one run of a `SqliteStore` writes."""

    def __init__(self, writing: "_Writing", worker: Worker) -> None:
        self._writing = writing
        self._worker = worker

    async def write(self, decide: Decide) -> None:
        """Decide and record in one durable transaction; the thread does one after another."""
        await self._worker.run(partial(self._writing.write, decide))

    async def close(self) -> None:
        """Write no more; the store stays open."""
        self._writing.close()


class _Writing:
    """The thread's side of one run's journal."""

    def __init__(
        self, file: JournalFile, record: RunRecord, clock: SteadyClock, horizon: float
    ) -> None:
        self._file = file
        self._run_id = record.run_id
        self._world = record.world
        self._targets = record.plan.targets
        self._clock = clock
        self._horizon = horizon
        self._seen: int | None = None
        self._over: str | None = None

    def close(self) -> None:
        self._over = f"the journal of run {self._run_id} is closed"

    def write(self, decide: Decide) -> None:
        """Decide and record in one transaction."""
        if self._over is not None:
            raise JournalError(self._over)
        with self._file.words("write to"):
            connection = self._file.begin()
            try:
                version, foreign = self._look(connection)
            except BaseException:
                self._file.roll_back()
                raise
        try:
            events = decide(foreign)
        except BaseException:
            self._file.roll_back()
            raise
        if events:
            version = self._record(connection, events, version + 1)
        else:
            self._file.roll_back()
        self._seen = version

    def _look(self, connection: sqlite3.Connection) -> tuple[int, list[Start]]:
        """Return the ledger's version, and what others did to it that we have not seen."""
        self._check_axis(connection)
        version = connection.execute(_LAST).fetchone()[1]
        if self._seen is None:
            now = self._clock.now()
            rows = connection.execute(
                _MATTERS, (self._world, self._run_id, now, now - self._horizon - MARGIN)
            )
        elif version == self._seen:
            return version, []
        else:
            rows = connection.execute(_CHANGED, (self._seen, self._world, self._run_id))
        return version, [_start(row) for row in rows]

    def _record(self, connection: sqlite3.Connection, events: Sequence[Event], version: int) -> int:
        """Write the batch down; return the ledger's version, the old one if no row changed."""
        with self._file.words("write to"):
            try:
                rows = [(self._run_id, *codec.event_to_row(event)) for event in events]
                connection.executemany(_INSERT_EVENT, rows)
                self._keep_ledger(connection, events, version)
                self._refresh_axis(connection)
                last, version = connection.execute(_LAST).fetchone()
            except BaseException:
                self._file.roll_back()
                raise
            try:
                self._file.commit()
            except sqlite3.Error:
                if not self._came_through(last, rows[-1]):
                    raise
        return version

    def _keep_ledger(
        self, connection: sqlite3.Connection, events: Sequence[Event], version: int
    ) -> None:
        changes = [change for event in events for change in self._ledger_row(event, version)]
        try:
            for statement, group in itertools.groupby(changes, key=_statement):
                connection.executemany(statement, [values for _, values in group])
        except sqlite3.IntegrityError as exc:
            raise self._clash(connection, events) from exc

    def _ledger_row(self, event: Event, version: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
        if isinstance(event, RestartRequested):
            target = self._targets[event.target]
            yield (
                _INSERT_START,
                (
                    self._run_id, event.target, event.attempt, self._world, target.project_id,
                    target.cluster_id, target.region, _labels_text(target.labels), event.at,
                    version,
                ),
            )  # fmt: skip
        elif isinstance(event, TargetEvent) and (change := change_of(event)) is not None:
            yield (
                _CHANGE_START,
                (
                    change.settled_at, change.ended_at, change.returned, version,
                    self._run_id, event.target, self._run_id, event.target,
                ),
            )  # fmt: skip

    def _clash(self, connection: sqlite3.Connection, events: Sequence[Event]) -> JournalError:
        """Return in words which start there was already; looks once the batch is undone."""
        self._file.roll_back()
        wanted = [
            start_of(event, self._run_id, self._targets[event.target])
            for event in events
            if isinstance(event, RestartRequested)
        ]
        for start in wanted:
            key = (self._world, start.project_id, start.cluster_id)
            row = connection.execute(_LIVE, key).fetchone()
            if row is not None:
                return cluster_is_taken(start, _start(row))
        return start_exists(wanted[-1])

    # ................................................................................... the axis

    def _check_axis(self, connection: sqlite3.Connection) -> None:
        axis = self._file.axis
        row = connection.execute("SELECT boot_id, axis_offset FROM clock").fetchone()
        if row != (axis.boot_id, axis.offset):
            raise JournalError(
                f"the journal {self._file.path} was taken up by another boot or another host, "
                "whose clock is not ours; stop here, and resume there"
            )

    def _refresh_axis(self, connection: sqlite3.Connection) -> None:
        axis = self._file.axis
        if self._clock.now() >= axis.steady + REFRESH_EVERY:
            self._file.axis = Axis(
                boot_id=axis.boot_id,
                offset=axis.offset,
                steady=self._clock.now(),
                wall=self._file.host.wall(),
            )
            save_axis(connection, self._file.axis)

    # ....................................................................... a commit that failed

    def _came_through(self, seq: int, row: tuple[Any, ...]) -> bool:
        """Look whether a commit that failed is in the file all the same.

        If nobody can tell, this journal is over: writing the batch again might record it twice.
        """
        self._file.drop_writer()
        try:
            connection = self._file.begin()
            found = connection.execute(
                "SELECT run_id, at, kind, target, data FROM event WHERE seq = ?", (seq,)
            ).fetchone()
            if found == row:
                # Only a commit that succeeds tells that the disk works again.
                save_axis(connection, self._file.axis)
                self._file.commit()
            else:
                self._file.roll_back()
        except (sqlite3.Error, JournalError):
            self._over = (
                f"whether the last commit of run {self._run_id} is in the journal "
                f"{self._file.path} cannot be told; stop, mend the disk, then resume"
            )
            return False
        return bool(found == row)


# ---------------------------------------------------------------------------------------- rows


def _statement(change: tuple[str, tuple[Any, ...]]) -> str:
    return change[0]


def _start(row: tuple[Any, ...]) -> Start:
    return Start(
        run_id=row[0],
        target=row[1],
        attempt=row[2],
        project_id=row[3],
        cluster_id=row[4],
        region=row[5],
        labels=_labels(row[6]),
        granted_at=row[7],
        settled_at=row[8],
        ended_at=row[9],
        returned=bool(row[10]),
    )


@lru_cache(maxsize=4096)
def _labels(text: str | None) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in json.loads(text)) if text else ()


@lru_cache(maxsize=4096)
def _labels_text(labels: tuple[tuple[str, str], ...]) -> str | None:
    return codec.to_text(labels) if labels else None


def _run_ids(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT run_id FROM run ORDER BY number DESC")]


def _exists(connection: sqlite3.Connection, run_id: str) -> bool:
    found = connection.execute("SELECT 1 FROM run WHERE run_id = ?", (run_id,))
    return found.fetchone() is not None


def _run_row(record: RunRecord, wall: float) -> tuple[Any, ...]:
    return (
        record.run_id,
        record.created_at,
        wall,
        record.operator,
        record.change,
        record.world,
        record.tool_version,
        len(record.plan.targets),
        codec.to_text(codec.plan_without_targets(record.plan)),
        codec.to_text(dict(record.settings)),
    )


_IN_COLUMNS = ("project_id", "cluster_id", "region", "labels")


def _target_rows(record: RunRecord) -> Iterator[tuple[Any, ...]]:
    for position, target in enumerate(record.plan.targets):
        data = codec.target_to_dict(target)
        rest = {name: value for name, value in data.items() if name not in _IN_COLUMNS}
        yield (
            record.run_id,
            position,
            target.project_id,
            target.cluster_id,
            target.region,
            _labels_text(target.labels),
            codec.to_text(rest) if rest else None,
        )


def _load(connection: sqlite3.Connection, run_id: str) -> RunRecord:
    row = connection.execute(
        """SELECT plan, operator, change, created_at, world, tool_version, settings
            FROM run WHERE run_id = ?""",
        (run_id,),
    ).fetchone()
    if row is None:
        raise no_such_run(run_id, _run_ids(connection))
    return RunRecord(
        run_id=run_id,
        plan=codec.plan_with_targets(json.loads(row[0]), _load_targets(connection, run_id)),
        operator=row[1],
        change=row[2],
        created_at=row[3],
        world=row[4],
        tool_version=row[5],
        settings=json.loads(row[6]),
    )


def _load_targets(connection: sqlite3.Connection, run_id: str) -> tuple[Target, ...]:
    rows = connection.execute(
        """SELECT project_id, cluster_id, region, labels, data FROM target
            WHERE run_id = ? ORDER BY target""",
        (run_id,),
    )
    return tuple(_target(*row) for row in rows)


def _target(
    project_id: str, cluster_id: str, region: str | None, labels: str | None, rest: str | None
) -> Target:
    data = {"project_id": project_id, "cluster_id": cluster_id, "region": region}
    return codec.target_from_dict(
        {**data, "labels": _labels(labels), **(json.loads(rest) if rest else {})}
    )


def _events_after(
    connection: sqlite3.Connection, run_id: str, seen: int
) -> tuple[int, list[Event]]:
    rows = connection.execute(_EVENTS, (run_id, seen, BATCH)).fetchall()
    return rows[-1][0] if rows else seen, [codec.event_from_row(*row[1:]) for row in rows]


def _summary_rows(
    connection: sqlite3.Connection, world: str | None
) -> list[tuple[tuple[Any, ...], Event | None]]:
    rows = connection.execute(_RUNS, (world, world)).fetchall()
    return [(row, _event_at(connection, row[-1])) for row in rows]


def _event_at(connection: sqlite3.Connection, seq: int | None) -> Event | None:
    found = connection.execute("SELECT at, kind, target, data FROM event WHERE seq = ?", (seq,))
    row = found.fetchone()
    return None if row is None else codec.event_from_row(*row)
