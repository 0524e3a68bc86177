"""One journal file and the connections to it: locks, transactions, errors, and its clock's axis.

Rules:

- A rollback journal, not WAL: several processes write, and before 3.51.3 SQLite could corrupt a
  WAL file in exactly that case. Of its kinds PERSIST is the quickest that is durable: DELETE does
  not sync the folder after the commit (that takes EXTRA), TRUNCATE costs two more changes of size.
- `synchronous=FULL`: what was committed survives a power cut.
- Room for the last answers is kept in a file beside it, and given up when the disk is full: what
  became of restarts under way can still be written down, or they might be asked for again.
- Nobody waits in SQLite: a lock that is taken is tried again after a short sleep of random length,
  so that no process is always second.
- Reading needs a connection of its own, read-only, and leaves no lock behind between batches.
- After an error the writing connection is thrown away, which undoes its transaction.
- All of this is for one thread at a time: the store's, or the event loop's while that one has
  nothing to do.
"""

import contextlib
import math
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote
from uuid import uuid4

from orchestrator.errors import JournalError
from orchestrator.journal import files, schema
from orchestrator.journal.clock import Axis, Host, axis_at, goes_on

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that we try to get a lock that other processes hold."""

SPARE = 4 * 1024 * 1024
"""Bytes that are kept for the last answers: those of some hundred calls at least."""

_NAP = (0.0005, 0.008)
"""Shortest and longest sleep before a lock is tried again, in seconds."""

_SAVE_AXIS = "INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?, ?)"


class JournalFile:
    """One journal file and the connections to it, for one thread at a time."""

    def __init__(
        self, path: Path, host: Host, patience: float, *, is_for_reading: bool = False
    ) -> None:
        self.path = path
        self._is_for_reading = is_for_reading
        self.host = host
        self._patience = patience
        self.read_only: str | None = None
        """In words, why this process may only read."""
        self.axis: Axis
        """The axis of the file's clock, once it is open."""
        self._alone: int | None = None
        self._identity: str | None = None
        self._spare: files.Spare | None = None
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None

    # ............................................................................ open and close

    def open(self) -> None:
        """Make sure that this is a journal of ours, and find the axis of its clock.

        Raises:
            JournalError: it is not, or cannot be had.
        """
        self.read_only = files.why_not_writable(self.path)
        if self.read_only is None and self._is_for_reading:
            self.read_only = f"{self.path} was opened for reading only"
        if self.read_only is None and self.host.boot_id() is None:
            self._be_alone()
        with self.words("open"):
            if self.read_only is None:
                with self.transaction() as connection:
                    schema.prepare(connection, self.path, uuid4().hex)
                    self._identity = schema.identity(connection)
                    self.axis = _find_axis(connection, self.host)
                    save_axis(connection, self.axis)
            else:
                self.axis = self.read(partial(_find_axis, host=self.host))

    def keep_room(self) -> None:
        """Keep room for the last answers from now on; for whoever will have some."""
        if self._spare is None:
            self._spare = files.Spare(self.path.with_name(f"{self.path.name}-spare"), SPARE)

    def close(self) -> None:
        """Let go of the file, and leave it alone in its folder if nobody else is at it."""
        if self._writer is not None:
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("PRAGMA journal_mode = DELETE")
        self.drop_writer()
        self._drop_reader()
        if self._spare is not None:
            self._spare.close()
        if self._alone is not None:
            os.close(self._alone)
            self._alone = None

    def _be_alone(self) -> None:
        # Without a boot id two processes have no common axis, and limits none either.
        self._alone = files.lock_alone(self.path)
        if self._alone is None:
            self.read_only = (
                f"{self.path} is in use by another process, and this system has no boot id, "
                "without which only one process at a time may write"
            )

    # ..................................................................................... errors

    @contextmanager
    def words(self, doing: str) -> Iterator[None]:
        """Turn what SQLite raises into words for the operator, and undo what was begun."""
        try:
            yield
        except sqlite3.Error as exc:
            self.drop_writer()
            if self._spare is not None and _name(exc).startswith(_WITHOUT_ROOM):
                self._spare.give_up()
            raise _explained(exc, doing, self.path) from exc
        except (ValueError, OverflowError) as exc:
            self.drop_writer()
            raise JournalError(
                f"cannot {doing} the journal {self.path}: it holds, or was given, what this "
                f"version cannot handle ({exc})"
            ) from exc

    # ................................................................................... writing

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Begin to write; commit at the end, undo on any error."""
        connection = self.begin()
        try:
            yield connection
        except BaseException:
            self.roll_back()
            raise
        self.commit()

    def begin(self) -> sqlite3.Connection:
        """Return the connection for writing with the lock taken.

        Raises:
            JournalError: this process may only read, or the file is not the same any more.
        """
        if self.read_only is not None:
            raise JournalError(f"nothing can be written: {self.read_only}")
        if self._writer is None:
            self._writer = self._connect_writer()
        self._patiently(partial(self._writer.execute, "BEGIN IMMEDIATE"))
        return self._writer

    def begin_at_once(self) -> sqlite3.Connection | None:
        """Return the connection for writing with the lock taken, or None if that takes time."""
        if self._writer is None:
            return None
        try:
            self._writer.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as exc:
            if not _is_busy(exc):
                raise
            return None
        return self._writer

    def commit(self) -> None:
        """Make what was written durable."""
        if self._writer is not None:
            # A reader of another process may be at it still; the transaction stays and waits.
            self._patiently(partial(self._writer.execute, "COMMIT"))

    def roll_back(self) -> None:
        """Undo what was begun."""
        try:
            if self._writer is not None and self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.Error:
            self.drop_writer()

    def drop_writer(self) -> None:
        """Throw the connection away, and with it what was begun."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(sqlite3.Error):
                writer.close()

    def _connect_writer(self) -> sqlite3.Connection:
        connection = _connect(self.path, "rw")
        try:
            self._set_up(connection)
            if self._identity is not None:
                self._check_same(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        ask = connection.execute
        mode = self._patiently(lambda: ask("PRAGMA journal_mode = PERSIST").fetchone()[0])
        if mode != "persist":
            raise JournalError(
                f"the journal {self.path} is in {mode} mode, which another program set and "
                "still uses; close that program, then try again"
            )
        ask("PRAGMA synchronous = FULL")
        ask("PRAGMA fullfsync = ON")
        # Spilling would lock out readers in the middle of a large transaction.
        ask("PRAGMA cache_spill = OFF")

    def _check_same(self, connection: sqlite3.Connection) -> None:
        if self._patiently(partial(schema.identity, connection)) != self._identity:
            raise JournalError(
                f"{self.path} is not the journal any more that it was: it was replaced while in "
                "use; put the right file back, then resume"
            )

    def _patiently(self, work: Callable[[], T]) -> T:
        """Do it, and again as long as another process holds the lock it needs."""
        give_up_at = time.monotonic() + self._patience
        while True:
            try:
                return work()
            except sqlite3.OperationalError as exc:
                if not _is_busy(exc) or time.monotonic() > give_up_at:
                    raise
            time.sleep(random.uniform(*_NAP))

    # ................................................................................... reading

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `work` reads; it must fetch all it wants, for it may be tried again."""
        try:
            return self._patiently(lambda: work(self._connect_reader()))
        except sqlite3.Error as exc:
            self._drop_reader()
            # A process died in the middle of a commit, and only who may write can undo it.
            reason = files.why_not_writable(self.path) if self._is_for_reading else self.read_only
            if _name(exc) != "SQLITE_READONLY_ROLLBACK" or reason is not None:
                raise
        self._undo_what_was_left()
        return self._patiently(lambda: work(self._connect_reader()))

    def _undo_what_was_left(self) -> None:
        """Open the file for writing once, which undoes a commit that nobody lived to finish."""
        kept, self.read_only = self.read_only, None
        try:
            with self.transaction():
                pass
        finally:
            self.read_only = kept
            if kept is not None:
                self.drop_writer()

    def _connect_reader(self) -> sqlite3.Connection:
        if self._reader is None:
            connection = _connect(self.path, "ro")
            try:
                schema.check(connection, self.path)
            except BaseException:
                connection.close()
                raise
            self._reader = connection
        return self._reader

    def _drop_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            with contextlib.suppress(sqlite3.Error):
                reader.close()


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(os.fspath(path))}?mode={mode}",
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
    )


def _name(exc: sqlite3.Error) -> str:
    return getattr(exc, "sqlite_errorname", None) or ""


def _is_busy(exc: sqlite3.Error) -> bool:
    """Return whether another process holds the lock that is needed."""
    return _name(exc).startswith("SQLITE_BUSY")


_WITHOUT_ROOM = ("SQLITE_FULL", "SQLITE_IOERR")
"""What SQLite says where there is no room, or not for this user."""

_ADVICE = {
    "SQLITE_FULL": "the disk is full; make room, then resume",
    "SQLITE_READONLY_DBMOVED": "the file is gone or was replaced; put it back, then resume",
    "SQLITE_READONLY_ROLLBACK": (
        "a process died while writing, which cannot be undone where the file is read-only; "
        "open it once with the right to write"
    ),
    "SQLITE_READONLY": "it is read-only; give this user the right to write it and its folder",
    "SQLITE_BUSY": (
        "another process keeps it locked; find out which (`fuser` or `lsof` on the file), "
        "end it, then resume"
    ),
    "SQLITE_CANTOPEN": "it cannot be opened; see that file and folder exist and may be used",
    "SQLITE_PERM": "this user may not use it; ask its owner",
    "SQLITE_NOTADB": "it is not a journal; nothing was changed in it; choose another path",
    "SQLITE_CORRUPT": "it is damaged; keep it, work with a copy of a backup, and check the disk",
    "SQLITE_IOERR": "the disk cannot be read or written; look at its health, then resume",
}


def _explained(exc: sqlite3.Error, doing: str, path: Path) -> JournalError:
    name = _name(exc)
    advice = next((text for code, text in _ADVICE.items() if name.startswith(code)), "try again")
    if not path.exists():
        advice = _ADVICE["SQLITE_READONLY_DBMOVED"]
    found = f"{exc} ({name})" if name else str(exc)
    return JournalError(f"cannot {doing} the journal {path}: {advice}; {found}")


# -------------------------------------------------------------------------------------- the clock


def _find_axis(connection: sqlite3.Connection, host: Host) -> Axis:
    row = connection.execute("SELECT boot_id, axis_offset, steady, wall FROM clock").fetchone()
    # Not before: a mark that another process left a moment ago must not lie ahead of us.
    readings = host.read()
    if row is None:
        return axis_at(None, -math.inf, readings)
    stored = Axis(boot_id=row[0], offset=row[1], steady=row[2], wall=row[3])
    latest = -math.inf if goes_on(stored, readings) else _latest(connection)
    return axis_at(stored, latest, readings)


def _latest(connection: sqlite3.Connection) -> float:
    """Return the latest moment on the axis that anything was recorded at."""
    moments = connection.execute(
        """SELECT max(created_at) FROM run UNION SELECT max(at) FROM event
            UNION SELECT max(heartbeat_at) FROM lease"""
    )
    return max((moment for (moment,) in moments if moment is not None), default=-math.inf)


def save_axis(connection: sqlite3.Connection, axis: Axis) -> None:
    """Keep the axis with its mark, inside the transaction that is open."""
    connection.execute(_SAVE_AXIS, (axis.boot_id, axis.offset, axis.steady, axis.wall))
