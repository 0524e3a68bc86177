"""The tables of a journal in SQLite, the steps that lead to them, and whose file it is.

A step, once released, never changes; a new version adds one at the end of `STEPS`. The number of
steps that a file has taken is its schema version.
"""

import sqlite3
from pathlib import Path

from orchestrator.errors import JournalError

APPLICATION_ID = 0x464C5254
"""Marks our files for SQLite and for `file`: the letters FLRT."""

_FIRST = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    # One row: the steady axis, see clock.py.
    """CREATE TABLE clock (
        id INTEGER PRIMARY KEY CHECK (id = 1), boot_id TEXT,
        axis_offset REAL NOT NULL, steady REAL NOT NULL, wall REAL NOT NULL)""",
    """CREATE TABLE run (
        number INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, created_at REAL NOT NULL,
        wall_created_at REAL NOT NULL, operator TEXT NOT NULL, change TEXT, world TEXT NOT NULL,
        tool_version TEXT NOT NULL, targets INTEGER NOT NULL, plan TEXT NOT NULL,
        settings TEXT NOT NULL)""",
    """CREATE TABLE target (
        run INTEGER NOT NULL, target INTEGER NOT NULL, project_id TEXT NOT NULL,
        cluster_id TEXT NOT NULL, region TEXT, labels TEXT, data TEXT,
        PRIMARY KEY (run, target)) WITHOUT ROWID""",
    # Who works on a run, or did last: see lease.py.
    """CREATE TABLE lease (
        run INTEGER PRIMARY KEY, owner TEXT NOT NULL, host TEXT NOT NULL, boot_id TEXT,
        pid INTEGER NOT NULL, epoch INTEGER NOT NULL, taken_at REAL NOT NULL,
        heartbeat_at REAL NOT NULL, expires_at REAL NOT NULL, released_at REAL)""",
    # In the order of writing within a run, with no index beside the rows themselves.
    """CREATE TABLE event (
        run INTEGER NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL,
        target INTEGER, data TEXT, PRIMARY KEY (run, seq)) WITHOUT ROWID""",
    "CREATE INDEX event_of_runner ON event (run) WHERE target IS NULL",
    """CREATE TABLE start (
        run INTEGER NOT NULL, target INTEGER NOT NULL, attempt INTEGER NOT NULL,
        world TEXT NOT NULL, project_id TEXT NOT NULL, cluster_id TEXT NOT NULL, region TEXT,
        labels TEXT, granted_at REAL NOT NULL, settled_at REAL, ended_at REAL,
        returned INTEGER NOT NULL DEFAULT 0, version INTEGER NOT NULL,
        PRIMARY KEY (run, target, attempt)) WITHOUT ROWID""",
    "CREATE INDEX start_by_version ON start (version)",
    # One cluster has at most one live start, whoever decided so: the last guard against twice.
    """CREATE UNIQUE INDEX start_live ON start (world, project_id, cluster_id)
        WHERE ended_at IS NULL AND returned = 0""",
)

_ORDERS = (
    # What other terminals ask of a run, never changed: see orders.py.
    """CREATE TABLE run_order (
        run INTEGER NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL,
        given_by TEXT NOT NULL, reason TEXT, wanted TEXT,
        PRIMARY KEY (run, number)) WITHOUT ROWID""",
)

STEPS: tuple[tuple[str, ...], ...] = (_FIRST, _ORDERS)
"""Each step leads from one schema version to the next."""


def prepare(connection: sqlite3.Connection, path: Path, journal_id: str) -> None:
    """Bring the file to the newest schema, inside the transaction that is open.

    Raises:
        JournalError: the file is not ours, or from a newer version.
    """
    if _is_blank(connection):
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        version = 0
    else:
        version = check(connection, path)
    for step in STEPS[version:]:
        for statement in step:
            connection.execute(statement)
    if version < len(STEPS):
        connection.execute(f"PRAGMA user_version = {len(STEPS)}")
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('journal_id', ?)", (journal_id,))


def check(connection: sqlite3.Connection, path: Path) -> int:
    """Return the file's schema version, if it is ours and not newer than we are.

    Raises:
        JournalError: it is not.
    """
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise JournalError(
            f"{path} is a database of another program, not a journal; "
            "nothing was changed in it; choose another path for the journal"
        )
    version = _pragma(connection, "user_version")
    if version > len(STEPS):
        raise JournalError(
            f"the journal {path} was written by a newer version of this program "
            f"(its schema is {version}, this one knows up to {len(STEPS)}); upgrade, then go on"
        )
    return version


def identity(connection: sqlite3.Connection) -> str | None:
    """Return the name that the journal got when it was made, or None if it has none."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'journal_id'").fetchone()
    return None if row is None else str(row[0])


def _is_blank(connection: sqlite3.Connection) -> bool:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    marks = (_pragma(connection, "application_id"), _pragma(connection, "user_version"))
    return not tables and marks == (0, 0)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
