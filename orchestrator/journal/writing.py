"""One run's journal in SQLite, from the side of the file: its lease, and one transaction a batch.

Rules:

- Every write begins with BEGIN IMMEDIATE, so what a decision sees is what it is recorded with, and
  the lease that it looks at is the lease that it is written under.
- Deciding and writing down is done on the event loop; the thread has what may take long: waiting
  for the lock, much to read, and the commit. Two threads that both want the interpreter would take
  it from each other at every statement.
- If a commit failed, the file is looked at: what is in it counts, not what SQLite said last.
- The statements mirror the rules of `store.py`, `lease.py` and `limits.py`; each says which.
"""

import contextlib
import os
import socket
import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

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

_INSERT_EVENT = "INSERT INTO event (run, seq, at, kind, target, data) VALUES (?, ?, ?, ?, ?, ?)"
# Mirrors `limits.start_of`.
_INSERT_START = """INSERT INTO start
        (run, target, attempt, world, project_id, cluster_id, region, labels, granted_at, version)
    SELECT run, target, ?2, ?5, project_id, cluster_id, region, labels, ?3, ?6
    FROM target WHERE run = ?4 AND target = ?1"""
# Mirrors `Start.after`: the first settling stays, the earliest end counts.
_CHANGE_START = """UPDATE start SET settled_at = COALESCE(settled_at, ?3),
    ended_at = COALESCE(MIN(ended_at, ?4), ended_at, ?4), returned = MAX(returned, ?5), version = ?7
    WHERE run = ?6 AND target = ?1 AND attempt = ?2"""
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

    connection: sqlite3.Connection
    version: int
    seq: int
    foreign: list[Start]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """What is in the transaction that is open."""

    events: Sequence[Event]
    last: tuple[int, codec.Row] | None
    """The last event's number and row; None if there is no event."""
    version: int
    """The ledger's, the old one if no row changed."""
    beaten_at: float | None
    """When the lease was renewed, if it was."""


class Writing:
    """Writes one run's events and ledger for as long as the lease is ours."""

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
        self._written: _Written
        self._over: str | None = None
        with file.words("write to"), file.transaction() as connection:
            self._check_axis(
                *connection.execute("SELECT boot_id, axis_offset FROM clock").fetchone()
            )
            self._run, self._world, self._latest = self._find(connection)
            self.succession = self._take(connection, owner)
        file.keep_room()

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

    def glance(self) -> _Look | None:
        """Begin to write if that takes no time: nobody has the lock, and there is little to read.

        Returns:
            what `settle` has to know, or None: `begin` may have to wait, or to read much.
        """
        self._check_open()
        if self._seen is None:
            return None
        with self._file.words("write to"):
            connection = self._file.begin_at_once()
            if connection is None:
                return None
            with self._undoing():
                return self._look(connection)

    def begin(self) -> _Look:
        """Begin to write, however long that takes; return what `settle` has to know."""
        self._check_open()
        with self._file.words("write to"):
            connection = self._file.begin()
            with self._undoing():
                return self._look(connection)

    def settle(self, decide: Decide, look: _Look) -> None:
        """Decide, and write down what was decided; `commit` makes it durable."""
        with self._undoing():
            events = decide(look.foreign)
            with self._file.words("write to"):
                self._written = self._put_down(events, look)

    def commit(self) -> None:
        """Make durable what was settled."""
        written = self._written
        if written.events or written.beaten_at is not None:
            self._make_durable(written)
        else:
            self._file.roll_back()
        self._seen = written.version
        self._counts_own = False

    def testify(self, events: Sequence[Event]) -> None:
        """Record evidence, whoever holds the lease."""
        check_evidence(events)
        with self._file.words("write to"), self._file.transaction() as connection:
            seq = connection.execute(_LAST_SEQ, (self._run,)).fetchone()[0]
            self._insert_events(connection, [codec.event_to_row(event) for event in events], seq)

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
            return _Look(connection, version, seq, found)
        if version == self._seen:
            return _Look(connection, version, seq, [])
        changed = connection.execute(_CHANGED, (self._seen, self._world, self._run))
        return _Look(connection, version, seq, [rows.start(row) for row in changed])

    def _put_down(self, events: Sequence[Event], look: _Look) -> _Written:
        """Write down the events, what they mean for the ledger, and what is due."""
        connection, version = look.connection, look.version
        last = beaten_at = None
        if events:
            kept = [codec.event_to_row(event) for event in events]
            self._insert_events(connection, kept, look.seq)
            version += self._keep_ledger(connection, events, version + 1)
            last = look.seq + len(kept), kept[-1]
        if self._is_due():
            beaten_at = self._renew(connection)
        if events or beaten_at is not None:
            self._refresh_axis(connection)
        return _Written(events=events, last=last, version=version, beaten_at=beaten_at)

    def _make_durable(self, written: _Written) -> None:
        with self._file.words("write to"):
            try:
                self._file.commit()
            except sqlite3.Error:
                if written.last is None or not self._came_through(*written.last):
                    raise
        if written.beaten_at is not None:
            self._heartbeat_at = written.beaten_at
        for event in written.events:
            if isinstance(event, RestartRequested):
                self._latest[event.target] = max(event.attempt, self._latest[event.target])

    def _insert_events(
        self, connection: sqlite3.Connection, events: Sequence[codec.Row], seq: int
    ) -> None:
        connection.executemany(
            _INSERT_EVENT, [(self._run, seq, *row) for seq, row in enumerate(events, seq + 1)]
        )

    def _keep_ledger(
        self, connection: sqlite3.Connection, events: Sequence[Event], version: int
    ) -> bool:
        """Write what the events mean for the ledger; return whether any row changed."""
        run, world, touched = self._run, self._world, 0
        try:
            for step in steps_of(events, self._latest):
                changes = [(*change, run, version) for change in step.changes.values()]
                new = [(*start, run, world, version) for start in step.new.values()]
                touched += connection.executemany(_CHANGE_START, changes).rowcount
                touched += connection.executemany(_INSERT_START, new).rowcount
        except sqlite3.IntegrityError as exc:
            raise self._clash(connection, events) from exc
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
            is_there: bool = found == row
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
