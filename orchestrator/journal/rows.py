"""Rows of a journal in SQLite ↔ the values they stand for; reads only."""

import json
import sqlite3
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from orchestrator.journal import codec
from orchestrator.journal.lease import LeaseRecord
from orchestrator.journal.store import MARGIN, Lasted, RunRecord, no_such_run, spans_of
from orchestrator.limits import Start
from orchestrator.model import WHOLE, Event, Target
from orchestrator.orders import Order, OrderKind

STARTS = """SELECT (SELECT run_id FROM run WHERE number = start.run), target, attempt, project_id,
    cluster_id, region, labels, granted_at, settled_at, ended_at, returned FROM start"""
"""What `start` reads; a condition follows."""

# Mirrors `store.still_matters`.
_MATTERS = f"""{STARTS} WHERE world = ? AND run <> ? AND returned = 0
    AND (settled_at IS NULL OR ended_at IS NULL OR ended_at > ? OR settled_at > ?)
    ORDER BY version"""
_STARTS_OF_WORLD = f"{STARTS} WHERE world = ? ORDER BY granted_at, run, target, attempt"
_LEASES = """SELECT run_id, owner, host, boot_id, pid, epoch, taken_at, heartbeat_at, expires_at,
    released_at FROM lease JOIN run ON number = run"""
_LEASE = f"{_LEASES} WHERE run_id = ?"
_RUN = """SELECT number, plan, operator, change, created_at, world, tool_version, settings
    FROM run WHERE run_id = ?"""
_TARGETS = """SELECT project_id, cluster_id, region, labels, data FROM target
    WHERE run = ? ORDER BY target"""
_TARGET = """SELECT project_id, cluster_id, region, labels, data FROM target
    WHERE run = ? AND target = ?"""
_EVENTS = """SELECT seq, at, kind, target, data FROM event
    WHERE run = (SELECT number FROM run WHERE run_id = ?) AND seq > ? ORDER BY seq LIMIT ?"""
_RUNS = """SELECT run_id, created_at, wall_created_at, operator, change, targets, world,
    plan ->> 'plan_id', number,
    (SELECT max(seq) FROM event WHERE run = number AND target IS NULL
        AND kind IN ('runner.started', 'run.finished'))
    FROM run WHERE ?1 IS NULL OR world = ?1 ORDER BY created_at DESC, number DESC"""
_RESTARTED_SINCE = """SELECT DISTINCT project_id, cluster_id
    FROM run JOIN event ON event.run = number
        JOIN target ON target.run = number AND target.target = event.target
    WHERE world = ?1 AND event.kind = 'target.ended' AND event.at > ?2
        AND event.data ->> 'outcome' = 'restarted'
        AND NOT EXISTS (SELECT 1 FROM event AS later
            WHERE later.run = event.run AND later.target = event.target AND later.seq > event.seq
                AND later.kind = 'target.relapsed')"""
_NUMBERS = "SELECT number FROM run WHERE world = ? ORDER BY created_at DESC, number DESC"
_MOMENTS = """SELECT kind, at, target, CASE kind WHEN 'target.ended' THEN data ->> 'outcome' END
    FROM event WHERE run = ? AND kind IN ('runner.started', 'restart.requested',
        'restart.settling', 'restart.unsettled', 'target.ended') ORDER BY seq"""
_KINDS = """SELECT target, project_id, cluster_id, data ->> 'kind' FROM target WHERE run = ?"""
_ORDERS = """SELECT number, at, kind, given_by, reason, wanted FROM run_order
    WHERE run = (SELECT number FROM run WHERE run_id = ?) AND number > ? ORDER BY number"""
_RUN_EVENTS = """SELECT at, kind, target, data FROM event
    WHERE run = (SELECT number FROM run WHERE run_id = ?) AND target IS NULL ORDER BY seq"""
_RUN_EVENT = "SELECT at, kind, target, data FROM event WHERE run = ? AND seq = ?"


# ---------------------------------------------------------------------------------------- starts


def start(row: tuple[Any, ...]) -> Start:
    """Return the start that a row of `STARTS` stands for."""
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


def starts_that_matter(
    connection: sqlite3.Connection, world: str, *, but: int, now: float, horizon: float
) -> list[Start]:
    """Return what rates of up to so many seconds may still have to count, but for one run's."""
    found = connection.execute(_MATTERS, (world, but, now, now - horizon - MARGIN))
    return [start(row) for row in found]


def starts_of(connection: sqlite3.Connection, world: str) -> list[Start]:
    """Return the ledger of a world in the order of grants."""
    return [start(row) for row in connection.execute(_STARTS_OF_WORLD, (world,))]


def restarted_since(
    connection: sqlite3.Connection, world: str, at: float
) -> frozenset[tuple[str, str]]:
    """Return project and cluster of what was seen to end well after `at`, and stayed so."""
    return frozenset(connection.execute(_RESTARTED_SINCE, (world, at)).fetchall())


def lasted(connection: sqlite3.Connection, world: str, most: int) -> list[Lasted]:
    """Return how long restarts of the newest runs lasted, until there are `most` or no more."""
    found: list[Lasted] = []
    for run in connection.execute(_NUMBERS, (world,)).fetchall():
        if len(found) >= most:
            break
        spans = list(spans_of(connection.execute(_MOMENTS, run)))
        asked = {target: one for target, *one in connection.execute(_KINDS, run)} if spans else {}
        for target, ready, whole in spans:
            project_id, cluster_id, kind = asked[target]
            found.append(
                Lasted(
                    project_id=project_id,
                    cluster_id=cluster_id,
                    kind=kind or str(WHOLE),
                    ready=ready,
                    whole=whole,
                )
            )
    return found


@lru_cache(maxsize=4096)
def _labels(text: str | None) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in json.loads(text)) if text else ()


@lru_cache(maxsize=4096)
def _labels_text(labels: tuple[tuple[str, str], ...]) -> str | None:
    return codec.to_text(labels) if labels else None


# ---------------------------------------------------------------------------------------- leases


def lease_of(connection: sqlite3.Connection, run_id: str) -> LeaseRecord | None:
    """Return the run's newest lease, or None if nobody ever worked on it."""
    row = connection.execute(_LEASE, (run_id,)).fetchone()
    return None if row is None else _lease(row)


def leases(connection: sqlite3.Connection) -> dict[str, LeaseRecord]:
    """Return the newest lease of every run that has one."""
    return {row[0]: _lease(row) for row in connection.execute(_LEASES)}


def _lease(row: tuple[Any, ...]) -> LeaseRecord:
    return LeaseRecord(
        run_id=row[0],
        owner=row[1],
        host=row[2],
        boot_id=row[3],
        pid=row[4],
        epoch=row[5],
        taken_at=row[6],
        heartbeat_at=row[7],
        expires_at=row[8],
        released_at=row[9],
    )


# ------------------------------------------------------------------------------------------ runs


def run_ids(connection: sqlite3.Connection) -> list[str]:
    """Return the ids of all runs, newest first."""
    return [row[0] for row in connection.execute("SELECT run_id FROM run ORDER BY number DESC")]


def run_number(connection: sqlite3.Connection, run_id: str) -> int:
    """Return the number that stands for a run in the other tables.

    Raises:
        JournalError: there is none of that id.
    """
    row = connection.execute("SELECT number FROM run WHERE run_id = ?", (run_id,)).fetchone()
    if row is None:
        raise no_such_run(run_id, run_ids(connection))
    return int(row[0])


def run_row(record: RunRecord, wall: float) -> tuple[Any, ...]:
    """Return the columns of a run but for its number."""
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


def load_run(connection: sqlite3.Connection, run_id: str) -> RunRecord:
    """Return a run as it was created.

    Raises:
        JournalError: there is none of that id.
    """
    row = connection.execute(_RUN, (run_id,)).fetchone()
    if row is None:
        raise no_such_run(run_id, run_ids(connection))
    targets = tuple(_target(*one) for one in connection.execute(_TARGETS, row[:1]))
    return RunRecord(
        run_id=run_id,
        plan=codec.plan_with_targets(json.loads(row[1]), targets),
        operator=row[2],
        change=row[3],
        created_at=row[4],
        world=row[5],
        tool_version=row[6],
        settings=json.loads(row[7]),
    )


def run_lines(
    connection: sqlite3.Connection, world: str | None
) -> list[tuple[tuple[Any, ...], Event | None, LeaseRecord | None]]:
    """Return each run's columns for a summary, the last word of its runner, and its lease."""
    lines = connection.execute(_RUNS, (world,)).fetchall()
    held = leases(connection)
    return [(line[:-2], _run_event(connection, *line[-2:]), held.get(line[0])) for line in lines]


def _run_event(connection: sqlite3.Connection, run: int, seq: int | None) -> Event | None:
    row = connection.execute(_RUN_EVENT, (run, seq)).fetchone()
    return None if row is None else codec.event_from_row(*row)


# --------------------------------------------------------------------------------------- targets


def target_rows(run: int, record: RunRecord) -> Iterator[tuple[Any, ...]]:
    """Yield the row of each target of a run."""
    for position, target in enumerate(record.plan.targets):
        rest = codec.target_rest(target)
        yield (
            run,
            position,
            target.project_id,
            target.cluster_id,
            target.region,
            _labels_text(target.labels),
            codec.to_text(rest) if rest else None,
        )


def target_at(connection: sqlite3.Connection, run: int, position: int) -> Target:
    """Return one target of a run."""
    return _target(*connection.execute(_TARGET, (run, position)).fetchone())


def _target(
    project_id: str, cluster_id: str, region: str | None, labels: str | None, rest: str | None
) -> Target:
    data = {"project_id": project_id, "cluster_id": cluster_id, "region": region}
    return codec.target_from_dict(
        {**data, "labels": _labels(labels), **(json.loads(rest) if rest else {})}
    )


# ---------------------------------------------------------------------------------------- events


def events_after(
    connection: sqlite3.Connection, run_id: str, seen: int, most: int
) -> tuple[int, list[Event]]:
    """Return the next events of a run, at most so many, and the number of the last."""
    found = connection.execute(_EVENTS, (run_id, seen, most)).fetchall()
    return found[-1][0] if found else seen, [codec.event_from_row(*row[1:]) for row in found]


def run_events(connection: sqlite3.Connection, run_id: str) -> list[Event]:
    """Return those of a run's events that concern no single target, in the order of writing."""
    return [codec.event_from_row(*row) for row in connection.execute(_RUN_EVENTS, (run_id,))]


# ---------------------------------------------------------------------------------------- orders


def order_row(order: Order) -> tuple[Any, ...]:
    """Return the columns of an order but for its run."""
    wanted = codec.wanted_to_dict(order.wanted) if order.wanted is not None else None
    text = None if wanted is None else codec.to_text(wanted)
    return order.number, order.at, order.kind.value, order.by, order.reason, text


def orders_after(connection: sqlite3.Connection, run_id: str, after: int) -> list[Order]:
    """Return the orders of a run whose numbers are greater."""
    return [
        Order(
            number=number,
            at=at,
            kind=OrderKind(kind),
            by=by,
            reason=reason,
            wanted=None if wanted is None else codec.wanted_from_dict(json.loads(wanted)),
        )
        for number, at, kind, by, reason, wanted in connection.execute(_ORDERS, (run_id, after))
    ]
