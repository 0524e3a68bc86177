"""The thread's side of one run's journal in SQLite: its lease, and one transaction a batch.

Rules:

- Every write begins with BEGIN IMMEDIATE, so what a decision sees is what it is recorded with, and
  the lease that it looks at is the lease that it is written under.
- Deciding and encoding is done on the event loop, while the thread waits with the lock: two threads
  that both want the interpreter would take it from each other at every system call.
- A batch is a handful of statements over `json_each`, however many events it has: SQLite works
  without the interpreter's lock, which a busy event loop gives back late. Moments go in as whole
  microseconds and are divided there, since SQLite's way from text to float is not exact.
- If a commit failed, the file is looked at: what is in it counts, not what SQLite said last.
- The statements mirror the rules of `store.py`, `lease.py` and `limits.py`; each says which.
"""

import contextlib
import json
import os
import socket
import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from orchestrator.errors import JournalError
from orchestrator.journal import codec, rows
from orchestrator.journal.clock import REFRESH_EVERY, Axis, SteadyClock
from orchestrator.journal.connection import JournalFile, save_axis
from orchestrator.journal.lease import RENEWALS, LeaseRecord, Succession, lease_is_lost, succeed
from orchestrator.journal.ledger import steps_of
from orchestrator.journal.runner import is_dead
from orchestrator.journal.store import (
    Decide,
    check_evidence,
    cluster_is_taken,
    no_such_run,
    start_exists,
)
from orchestrator.journal.thread import Aside
from orchestrator.limits import Start, start_of
from orchestrator.model import Event, RestartRequested
from orchestrator.orders import Order

_LOOK = """SELECT clock.boot_id, clock.axis_offset,
    (SELECT epoch FROM lease WHERE run = ?1 AND released_at IS NULL),
    (SELECT COALESCE(max(version), 0) FROM start),
    (SELECT COALESCE(max(seq), 0) FROM event WHERE run = ?1)
    FROM clock"""
_LAST_SEQ = "SELECT COALESCE(max(seq), 0) FROM event WHERE run = ?"
_RUN = "SELECT number, world, targets FROM run WHERE run_id = ?"
_ATTEMPTS = "SELECT target, max(attempt) FROM start WHERE run = ? GROUP BY target"
_EVENT = "SELECT at, kind, target, data FROM event WHERE run = ? AND seq = ?"

_INSERT_EVENTS = """INSERT INTO event (run, seq, at, kind, target, data)
    SELECT ?, ? + key, json_extract(value, '$[0]') / 1e6, json_extract(value, '$[1]'),
        json_extract(value, '$[2]'), json_extract(value, '$[3]')
    FROM json_each(?)"""
# Mirrors `limits.start_of`.
_INSERT_STARTS = """INSERT INTO start
        (run, target, attempt, world, project_id, cluster_id, region, labels, granted_at, version)
    SELECT t.run, t.target, json_extract(value, '$[1]'), ?, t.project_id, t.cluster_id, t.region,
        t.labels, json_extract(value, '$[2]') / 1e6, ?
    FROM json_each(?) CROSS JOIN target AS t
    WHERE t.run = ? AND t.target = json_extract(value, '$[0]')"""
# Mirrors `Start.after`: the first settling stays, the earliest end counts. The run depends on the
# row for show: SQLite would else walk through the whole run and look each of its starts up.
_CHANGE_STARTS = """UPDATE start SET settled_at = COALESCE(settled_at, settled),
    ended_at = COALESCE(MIN(ended_at, ended), ended_at, ended), returned = MAX(returned, back),
    version = ?
    FROM (SELECT ? + 0 * key AS run_, json_extract(value, '$[0]') AS target_,
        json_extract(value, '$[1]') AS attempt_, json_extract(value, '$[2]') / 1e6 AS settled,
        json_extract(value, '$[3]') / 1e6 AS ended, json_extract(value, '$[4]') AS back
        FROM json_each(?))
    WHERE run = run_ AND target = target_ AND attempt = attempt_"""
_CHANGED = f"""{rows.STARTS} WHERE version > ? AND world = ? AND run <> ? ORDER BY version"""
# Mirrors `store.is_live`.
_LIVE = f"""{rows.STARTS} WHERE world = ? AND project_id = ? AND cluster_id = ?
    AND ended_at IS NULL AND returned = 0"""

_TAKE_LEASE = "INSERT OR REPLACE INTO lease VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)"
_RENEW_LEASE = "UPDATE lease SET heartbeat_at = ?, expires_at = ? WHERE run = ? AND epoch = ?"
_RELEASE_LEASE = """UPDATE lease SET released_at = ?
    WHERE run = ? AND epoch = ? AND released_at IS NULL"""

_NO_RUN = 0
"""The number of no run: theirs begin with 1."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What a transaction finds as it begins."""

    version: int
    seq: int
    foreign: list[Start]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """What a transaction writes, as its statements take it."""

    events: Sequence[Event]
    text: str = "[]"
    last: codec.Row | None = None
    steps: Sequence[tuple[str | None, str | None]] = ()
    """For each step what changes and what is new; None where nothing does or is."""
    unfit: Exception | None = None
    """Why the events cannot be written, if they cannot."""


class Writing:
    """Writes one run's events and ledger for as long as the lease is ours; on the thread only."""

    def __init__(
        self,
        file: JournalFile,
        clock: SteadyClock,
        run_id: str,
        *,
        horizon: float,
        owner: str,
        ttl: float,
    ) -> None:
        """Take the run's lease.

        Raises:
            LeaseError: somebody else holds it.
            JournalError: there is no such run, or it cannot be written.
        """
        self._file = file
        self._clock = clock
        self._run_id = run_id
        self._horizon = horizon
        self._ttl = ttl
        self._seen: int | None = None
        self._counts_own = False
        """Whether the next decision gets our own starts, too."""
        self._over: str | None = None
        with file.words("write to"), file.transaction() as connection:
            self._check_axis(
                *connection.execute("SELECT boot_id, axis_offset FROM clock").fetchone()
            )
            self._run, self._world, self._latest = self._find(connection)
            self.succession = self._take(connection, owner)

    def _find(self, connection: sqlite3.Connection) -> tuple[int, str, "array[int]"]:
        row = connection.execute(_RUN, (self._run_id,)).fetchone()
        if row is None:
            raise no_such_run(self._run_id, rows.run_ids(connection))
        number, world, targets = row
        latest = array("l", bytes(array("l").itemsize * targets))
        for target, attempt in connection.execute(_ATTEMPTS, (number,)):
            latest[target] = attempt
        return number, world, latest

    # .................................................................................. the lease

    def _take(self, connection: sqlite3.Connection, owner: str) -> Succession:
        previous = rows.lease_of(connection, self._run_id)
        now, host = self._clock.now(), self._file.host
        succession = succeed(previous, now, self._is_dead, self._clock.wall_offset)
        connection.execute(
            _TAKE_LEASE,
            (
                self._run, owner, socket.gethostname(), host.boot_id(), os.getpid(),
                succession.epoch, now, now, now + self._ttl,
            ),
        )  # fmt: skip
        self._heartbeat_at = now
        return succession

    def _is_dead(self, lease: LeaseRecord) -> bool:
        return is_dead(lease, self._clock, self._file.host)

    def beat(self) -> None:
        """Renew the lease."""
        self._check_open()
        with self._file.words("write to"), self._file.transaction() as connection:
            self._look(connection)
            beaten_at = self._renew(connection)
        self._heartbeat_at = beaten_at

    def close(self) -> None:
        """Write no more, and give the lease back if that is possible; harmless when repeated."""
        if self._over is None:
            self._over = f"the journal of run {self._run_id} is closed"
            release = (self._clock.now(), self._run, self.succession.epoch)
            with (
                contextlib.suppress(JournalError),
                self._file.words("write to"),
                self._file.transaction() as connection,
            ):
                connection.execute(_RELEASE_LEASE, release)

    def _renew(self, connection: sqlite3.Connection) -> float:
        now = self._clock.now()
        connection.execute(_RENEW_LEASE, (now, now + self._ttl, self._run, self.succession.epoch))
        return now

    def _is_due(self) -> bool:
        return self._clock.now() >= self._heartbeat_at + self._ttl / RENEWALS

    # .................................................................................... writing

    def write(self, decide: Decide, aside: Aside) -> None:
        """Decide and record in one transaction; deciding and encoding are done `aside`."""
        self._check_open()
        with self._file.words("write to"):
            connection = self._file.begin()
            with self._undoing():
                look = self._look(connection)
        with self._undoing():
            batch = aside(lambda: self._batch_of(decide(look.foreign)))
        if batch.events or self._is_due():
            self._seen = self._record(connection, batch, look)
        else:
            self._file.roll_back()
            self._seen = look.version
        self._counts_own = False

    def testify(self, events: Sequence[Event]) -> None:
        """Record evidence, whoever holds the lease."""
        check_evidence(events)
        with self._file.words("write to"), self._file.transaction() as connection:
            seq = connection.execute(_LAST_SEQ, (self._run,)).fetchone()[0]
            text = codec.to_text([codec.event_to_row(event) for event in events])
            connection.execute(_INSERT_EVENTS, (self._run, seq + 1, text))

    def count_anew(self, horizon: float) -> None:
        """Have the next decision get every start that can still matter, ours among them."""
        self._horizon, self._seen, self._counts_own = horizon, None, True

    def orders(self, after: int) -> list[Order]:
        """Return the orders of the run whose numbers are greater."""
        with self._file.words("read"):
            return self._file.read(partial(rows.orders_after, run_id=self._run_id, after=after))

    def _check_open(self) -> None:
        if self._over is not None:
            raise JournalError(self._over)

    @contextmanager
    def _undoing(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._file.roll_back()
            raise

    def _look(self, connection: sqlite3.Connection) -> _Look:
        """Return where the journal stands, and what others did to it that we have not seen."""
        boot_id, offset, epoch, version, seq = connection.execute(_LOOK, (self._run,)).fetchone()
        self._check_axis(boot_id, offset)
        if epoch != self.succession.epoch:
            lease = rows.lease_of(connection, self._run_id)
            raise lease_is_lost(self._run_id, lease, self._clock.wall_offset)
        if self._seen is None:
            now = self._clock.now()
            but = _NO_RUN if self._counts_own else self._run
            found = rows.starts_that_matter(
                connection, self._world, but=but, now=now, horizon=self._horizon
            )
            return _Look(version, seq, found)
        if version == self._seen:
            return _Look(version, seq, [])
        changed = connection.execute(_CHANGED, (self._seen, self._world, self._run))
        return _Look(version, seq, [rows.start(row) for row in changed])

    def _batch_of(self, events: Sequence[Event]) -> "_Batch":
        try:
            encoded = [codec.event_to_row(event) for event in events]
            text = codec.to_text(encoded)
            steps = [
                (
                    codec.to_text(list(step.changes.values())) if step.changes else None,
                    codec.to_text(list(step.new.values())) if step.new else None,
                )
                for step in steps_of(events, self._latest)
            ]
        except (ValueError, OverflowError) as exc:
            return _Batch(events=events, unfit=exc)
        return _Batch(events=events, text=text, last=encoded[-1] if encoded else None, steps=steps)

    def _record(self, connection: sqlite3.Connection, batch: "_Batch", look: _Look) -> int:
        """Write the batch down; return the ledger's version, the old one if no row changed."""
        version, beaten_at = look.version, self._heartbeat_at
        with self._file.words("write to"):
            with self._undoing():
                if batch.unfit is not None:
                    raise batch.unfit
                if batch.events:
                    connection.execute(_INSERT_EVENTS, (self._run, look.seq + 1, batch.text))
                    version += self._keep_ledger(connection, batch, version + 1)
                if self._is_due():
                    beaten_at = self._renew(connection)
                self._refresh_axis(connection)
            try:
                self._file.commit()
            except sqlite3.Error:
                last_seq = look.seq + len(batch.events)
                if batch.last is None or not self._came_through(last_seq, batch.last):
                    raise
        self._heartbeat_at = beaten_at
        for event in batch.events:
            if isinstance(event, RestartRequested):
                self._latest[event.target] = max(event.attempt, self._latest[event.target])
        return version

    def _keep_ledger(self, connection: sqlite3.Connection, batch: "_Batch", version: int) -> bool:
        """Write what the batch means for the ledger; return whether any row changed."""
        touched = 0
        try:
            for changes, new in batch.steps:
                if changes is not None:
                    found = connection.execute(_CHANGE_STARTS, (version, self._run, changes))
                    touched += found.rowcount
                if new is not None:
                    found = connection.execute(
                        _INSERT_STARTS, (self._world, version, new, self._run)
                    )
                    touched += found.rowcount
        except sqlite3.IntegrityError as exc:
            raise self._clash(connection, batch.events) from exc
        return touched > 0

    def _clash(self, connection: sqlite3.Connection, events: Sequence[Event]) -> JournalError:
        """Return in words which start there was already; looks once the batch is undone."""
        self._file.roll_back()
        wanted = [
            start_of(event, self._run_id, rows.target_at(connection, self._run, event.target))
            for event in events
            if isinstance(event, RestartRequested)
        ]
        for start in wanted:
            key = (self._world, start.project_id, start.cluster_id)
            row = connection.execute(_LIVE, key).fetchone()
            if row is not None:
                return cluster_is_taken(start, rows.start(row))
        return start_exists(wanted[-1])

    # ................................................................................... the axis

    def _check_axis(self, boot_id: str | None, offset: float) -> None:
        if (boot_id, offset) != (self._file.axis.boot_id, self._file.axis.offset):
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

    def _came_through(self, seq: int, row: codec.Row) -> bool:
        """Look whether a commit that failed is in the file all the same.

        If nobody can tell, this journal is over: writing the batch again might record it twice.
        """
        self._file.drop_writer()
        try:
            connection = self._file.begin()
            found = connection.execute(_EVENT, (self._run, seq)).fetchone()
            is_there = found is not None and _is_kept_as(found, row)
            if is_there:
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
        return is_there


def _is_kept_as(found: tuple[Any, ...], row: codec.Row) -> bool:
    """Whether a row of the table is this event; the same thing can be written in several ways."""
    *columns, text = found
    at, kind, target, rest = row
    is_same = columns == [at / 1e6, kind, target]
    if rest is None or text is None:
        return is_same and rest is text
    return is_same and bool(json.loads(text) == json.loads(codec.to_text(rest)))
