"""The journal's file: several processes, locks that are held, disks that fail, files of others."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

import anyio
import anyio.to_thread
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import orchestrator.errors
from orchestrator.errors import JournalError, LeaseError
from orchestrator.journal import (
    LeaseRecord,
    RunRecord,
    RunState,
    SqliteJournal,
    SqliteStore,
    open_store,
)
from orchestrator.journal.clock import Host
from orchestrator.journal.codec import event_to_row
from orchestrator.journal.connection import SPARE
from orchestrator.journal.files import Spare, kind_of_filesystem, path_of, refuse_network
from orchestrator.journal.rows import events_after
from orchestrator.journal.schema import APPLICATION_ID, STEPS
from orchestrator.journal.writing import _INSERT_EVENT
from orchestrator.limits import Start
from orchestrator.model import (
    EVENTS,
    ClusterState,
    Event,
    Outcome,
    RestartRequested,
    Target,
    TargetEnded,
    WaveOpened,
)
from orchestrator.orders import Order, OrderKind
from orchestrator.plan import Plan, Policy, Wave
from tests.test_journal_codec import written

T = TypeVar("T")

PACKAGE = Path(orchestrator.errors.__file__).parents[1]
BASELINE = ClusterState(status="200")
HORIZON = 600.0


class Clocks(Host):
    """Clocks of a host that the test sets."""

    def __init__(self, boot: str | None) -> None:
        self.boot = boot
        self.slept = 0.0

    def boot_id(self) -> str | None:
        return self.boot

    def uptime(self) -> float:
        return super().uptime() + self.slept

    def wall(self) -> float:
        return super().wall() + self.slept


def a_run(run_id: str, count: int = 3, prefix: str = "c") -> RunRecord:
    targets = tuple(
        Target(project_id=f"p{number % 5}", cluster_id=f"{prefix}{number}")
        for number in range(count)
    )
    waves = (Wave(name="all", targets=tuple(range(count))),)
    return RunRecord(
        run_id=run_id,
        plan=Plan(plan_id="p", targets=targets, waves=waves, policy=Policy()),
        operator="ana",
        change=None,
        created_at=1000.0,
        world="real",
        tool_version="1",
        settings={},
    )


def requested(target: int, at: float = 1.0) -> RestartRequested:
    return RestartRequested(at=at, target=target, attempt=1, request_id="r", baseline=BASELINE)


def ended(target: int, at: float = 2.0) -> TargetEnded:
    return TargetEnded(at=at, target=target, outcome=Outcome.RESTARTED)


async def tell(journal: SqliteJournal, *happened: Event) -> list[Start]:
    seen: list[Start] = []

    def decide(foreign: Sequence[Start]) -> Sequence[Event]:
        seen.extend(foreign)
        return happened

    await journal.write(decide)
    return seen


async def a_journal(store: SqliteStore, run_id: str = "one", count: int = 3) -> SqliteJournal:
    await store.create_run(a_run(run_id, count, prefix=run_id))
    return await store.journal(run_id, horizon=HORIZON)


async def all_events(store: SqliteStore, run_id: str = "one") -> list[Event]:
    return [event async for batch in store.events(run_id) for event in batch]


def play(
    path: Path | str,
    story: Callable[[SqliteStore], Awaitable[T]],
    *,
    patience: float = 10.0,
    host: Host | None = None,
) -> T:
    async def main() -> T:
        with anyio.fail_after(60):
            async with open_store(path, patience=patience, host=host) as store:
                return await story(store)

    return anyio.run(main)


async def nothing(_: SqliteStore) -> None:
    pass


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


# ---------------------------------------------------------------------------- other processes

PREAMBLE = """
import os, sys, time, random, resource, sqlite3, anyio, socket, signal
from orchestrator.errors import JournalError
from orchestrator.journal import open_store
from orchestrator.model import *
BASELINE = ClusterState(status="200")
def requested(target, at=1.0, attempt=1):
    return RestartRequested(
        at=at, target=target, attempt=attempt, request_id="r", baseline=BASELINE)
def ended(target, at=2.0):
    return TargetEnded(at=at, target=target, outcome=Outcome.RESTARTED)
def say(*words):
    print(*words, flush=True)
path, *arguments = sys.argv[1:]
"""


def start(script: str, path: Path, *arguments: str) -> subprocess.Popen[str]:
    """Run `script` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + script, str(path), *arguments],
        env={**os.environ, "PYTHONPATH": str(PACKAGE), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def size_of(path: Path) -> int:
    return path.stat().st_size


def spare_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-spare")


def move(path: Path, to: Path) -> None:
    path.rename(to)


def remove(path: Path) -> None:
    path.unlink()


def pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def finish(process: subprocess.Popen[str]) -> str:
    """Let the process come to its end; return what it said."""
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return output


HOLD = """
connection = sqlite3.connect(path, isolation_level=None)
connection.execute(arguments[0])
if len(arguments) > 1:
    connection.execute(arguments[1]).fetchone()
say("held")
sys.stdin.readline()
connection.close()
"""


@contextmanager
def held(path: Path, *statements: str) -> Iterator[Callable[[], None]]:
    """Have another process hold a lock on the file; yields what lets it go."""
    process = start(HOLD, path, *statements)
    try:
        assert pipe(process.stdout).readline() == "held\n"

        def let_go() -> None:
            pipe(process.stdin).write("\n")
            pipe(process.stdin).flush()

        yield let_go
    finally:
        process.communicate(input="\n", timeout=60)


GRANT = """
RUN, MOST = arguments[0], 3
async def main():
    async with open_store(path) as store:
        journal = await store.journal(RUN, horizon=1e9)
        others, mine, done, waits = {}, [], 0, []
        def decide(foreign):
            nonlocal done
            for start in foreign:
                others[start.run_id, start.target] = start
            live = sum(start.ended_at is None for start in others.values()) + len(mine)
            if mine and random.random() < 0.5:
                return [ended(mine.pop(0), store.clock.now())]
            if done < 40 and live < MOST:
                mine.append(done)
                done += 1
                return [requested(done - 1, store.clock.now())]
            return []
        while done < 40 or mine:
            began = time.monotonic()
            await journal.write(decide)
            waits.append(time.monotonic() - began)
            await anyio.sleep(random.uniform(0, 0.001))
        say(max(waits))
anyio.run(main)
"""


def test_processes_share_limits(path: Path) -> None:
    """Four processes that count each other's starts never exceed the limit, and none starves."""
    runs = [f"run{number}" for number in range(4)]

    async def create(store: SqliteStore) -> None:
        for run_id in runs:
            await store.create_run(a_run(run_id, 40, prefix=run_id))

    play(path, create)
    processes = [start(GRANT, path, run_id) for run_id in runs]
    waits = [float(finish(process)) for process in processes]

    connection = sqlite3.connect(path)
    live = most = 0
    for (kind,) in connection.execute("SELECT kind FROM event ORDER BY at, kind DESC"):
        live += {"restart.requested": 1, "target.ended": -1}[kind]
        most = max(most, live)
    starts = connection.execute(
        "SELECT run_id FROM start JOIN run ON number = run WHERE ended_at NOT NULL"
    ).fetchall()
    connection.close()
    assert most == 3
    assert Counter(run_id for (run_id,) in starts) == dict.fromkeys(runs, 40)
    assert max(waits) < 5.0


OPEN_TOGETHER = """
async def main():
    async with open_store(path) as store:
        say(store.clock.now() - time.clock_gettime(time.CLOCK_BOOTTIME))
anyio.run(main)
"""


def test_processes_open_a_new_journal_together(path: Path) -> None:
    """However many make the file at once, it is made once, and all have one axis."""
    processes = [start(OPEN_TOGETHER, path) for _ in range(5)]
    offsets = [float(finish(process)) for process in processes]

    assert max(offsets) - min(offsets) < 0.01


KILLED = """
async def main():
    async with open_store(path) as store:
        journal = await store.journal("one", horizon=1e9)
        number = int(arguments[0])
        while True:
            batch = [requested(number), ended(number), WaveOpened(at=1.0, wave=number)]
            await journal.write(lambda _: batch)
            say(number)
            number += 1
anyio.run(main)
"""


def test_killed_while_writing(path: Path) -> None:
    """After kill -9 each batch is there whole or not at all; what was confirmed is there."""

    async def create(store: SqliteStore) -> None:
        await store.create_run(a_run("one", 100_000))

    play(path, create)
    count = 0
    for after in (0.0, 0.003, 0.011, 0.02):
        process = start(KILLED, path, str(count))
        said = [pipe(process.stdout).readline() for _ in range(20)]
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        confirmed = int([*said, *process.communicate(timeout=60)[0].splitlines()][-1])

        events = play(path, all_events)
        count = len(events) // 3
        assert len(events) == 3 * count
        assert count in {confirmed + 1, confirmed + 2}
        assert [event.target for event in events if isinstance(event, TargetEnded)] == [
            *range(count)
        ]


DIE_MID_COMMIT = """
connection = sqlite3.connect(path, isolation_level=None)
connection.execute("PRAGMA journal_mode = PERSIST")
connection.execute("PRAGMA cache_size = 5")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE event SET data = 'half'")
connection.executemany("INSERT INTO meta VALUES (?, ?)", [(f"k{n}", "x" * 900) for n in range(999)])
os._exit(0)
"""


def test_reading_after_a_crash_in_a_commit(path: Path) -> None:
    """Half a commit that a dead process left is undone by the next who reads, without a hitch."""

    async def story(store: SqliteStore) -> None:
        journal = await a_journal(store)
        await tell(journal, *(WaveOpened(at=1.0, wave=number) for number in range(300)))
        before = await all_events(store)
        size = size_of(path)
        finish(start(DIE_MID_COMMIT, path))
        assert size_of(path) > size  # else the crash came too early to prove anything
        assert await all_events(store) == before
        await tell(journal, WaveOpened(at=2.0, wave=0))
        assert len(await all_events(store)) == 301

    play(path, story)


# -------------------------------------------------------------------------------------- locks


def test_reading_while_another_writes(path: Path) -> None:
    """A writer that holds the lock does not keep anybody from reading."""

    async def story(store: SqliteStore) -> None:
        await tell(await a_journal(store), requested(0))
        with held(path, "BEGIN IMMEDIATE"):
            assert await all_events(store) == [requested(0)]
            assert len(await store.runs()) == 1
            assert (await store.load_run("one")).run_id == "one"

    play(path, story, patience=0.0)


def test_who_only_reads_writes_nothing(path: Path) -> None:
    """A journal opened to be read waits for no writer, changes no byte, and refuses to write."""

    async def write(store: SqliteStore) -> None:
        await tell(await a_journal(store), requested(0))

    async def read() -> None:
        async with open_store(path, create=False, read_only=True, patience=0.0) as store:
            assert await all_events(store) == [requested(0)]
            with pytest.raises(JournalError, match="opened for reading only"):
                await store.create_run(a_run("two"))
            # A process that died in the middle of a commit is in nobody's way.
            finish(start(DIE_MID_COMMIT, path))
            assert await all_events(store) == [requested(0)]
            with pytest.raises(JournalError, match="opened for reading only"):
                await store.journal("one", horizon=HORIZON)

    play(path, write)
    before = path.read_bytes()
    with held(path, "BEGIN IMMEDIATE"):

        async def look() -> None:
            async with open_store(path, create=False, read_only=True, patience=0.0) as store:
                assert len(await store.runs()) == 1

        anyio.run(look)
    assert path.read_bytes() == before
    anyio.run(read)


@pytest.mark.parametrize(
    "statements", [("BEGIN IMMEDIATE",), ("BEGIN", "SELECT * FROM run"), ("BEGIN EXCLUSIVE",)]
)
@pytest.mark.parametrize("earlier", [0, 1])
def test_waiting_for_a_lock(path: Path, statements: tuple[str, ...], earlier: int) -> None:
    """A write waits for another's lock, of a writer or of a reader; the loop goes on meanwhile.

    It does so for the first write, which has to read what others did before, and for later ones.
    """

    async def story(store: SqliteStore) -> None:
        journal = await a_journal(store)
        for position in range(earlier):
            await tell(journal, requested(position))
        ticks = 0
        with held(path, *statements) as let_go:

            async def tick() -> None:
                nonlocal ticks
                for _ in range(20):
                    await anyio.sleep(0.01)
                    ticks += 1
                let_go()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(tick)
                await tell(journal, requested(earlier))
        assert ticks == 20
        assert await all_events(store) == [requested(n) for n in range(earlier + 1)]

    play(path, story)


@pytest.mark.parametrize("statements", [("BEGIN IMMEDIATE",), ("BEGIN", "SELECT * FROM run")])
def test_a_lock_that_stays(path: Path, statements: tuple[str, ...]) -> None:
    """Patience ends in an error that says who to look for; nothing is written, and later it is."""

    async def story(store: SqliteStore) -> None:
        journal = await a_journal(store)
        with (
            held(path, *statements),
            pytest.raises(JournalError, match=r"journal\.db: another process keeps it locked"),
        ):
            await tell(journal, requested(0))
        assert await all_events(store) == []
        await tell(journal, requested(0))
        assert await all_events(store) == [requested(0)]

    play(path, story, patience=0.05)


def test_deciding_happens_on_the_loop(path: Path) -> None:
    """Decisions are taken where the state is that they are about; the store's one thread waits."""
    deciding: set[threading.Thread] = set()
    waiting: set[threading.Thread] = set()

    def decide(_: Sequence[Start]) -> Sequence[Event]:
        deciding.add(threading.current_thread())
        waiting.update(one for one in threading.enumerate() if one.name == "journal")
        return []

    async def story(store: SqliteStore) -> None:
        journals = [await a_journal(store, run_id) for run_id in ("one", "two")]
        for journal in journals:
            await journal.write(decide)

    play(path, story)
    assert deciding == {threading.current_thread()}
    [thread] = waiting
    assert thread.daemon
    assert not thread.is_alive()


def test_a_store_that_is_closed(path: Path) -> None:
    """What is used after its store was closed says so, instead of waiting for ever."""

    async def main() -> None:
        async with open_store(path) as store:
            journal = await a_journal(store)
        with pytest.raises(JournalError, match="closed"):
            await tell(journal, requested(0))
        with pytest.raises(JournalError, match="closed"):
            await store.runs()

    anyio.run(main)


# ----------------------------------------------------------------------------- disks that fail

FULL = """
async def main():
    async with open_store(path) as store:
        journal = await store.journal("one", horizon=1e9)
        await journal.write(lambda _: [requested(0)])
        small = os.path.getsize(path) + 3 * 4096
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (small, unlimited[1]))
        failed = 0
        for _ in range(3):
            batch = [requested(1), *(WaveOpened(at=float(n), wave=n) for n in range(3000))]
            try:
                await journal.write(lambda _: batch)
            except JournalError as exc:
                failed += 1
                assert path in str(exc) and "disk" in str(exc), exc
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        await journal.write(lambda _: [requested(2), ended(0)])
        say(failed)
anyio.run(main)
"""


def test_a_disk_without_room(path: Path) -> None:
    """Writes that find no room leave nothing behind; once there is room it goes on."""

    async def create(store: SqliteStore) -> None:
        await store.create_run(a_run("one"))

    play(path, create)
    assert finish(start(FULL, path)) == "3\n"
    assert play(path, all_events) == [requested(0), requested(2), ended(0)]
    with sqlite3.connect(path) as connection:
        found = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    assert found == ("ok",)


def test_sqlite_says_full(path: Path) -> None:
    """SQLite's own word for a full disk is told as such."""

    async def story(store: SqliteStore) -> None:
        journal = await a_journal(store)
        await tell(journal, requested(0))

        def make_small() -> None:
            writer = store._file._writer
            assert writer is not None
            writer.execute("PRAGMA max_page_count = 5")

        await store._worker.run(make_small)
        with pytest.raises(JournalError, match="the disk is full; make room"):
            await tell(journal, *(WaveOpened(at=1.0, wave=number) for number in range(2000)))
        await tell(journal, requested(1))
        assert await all_events(store) == [requested(0), requested(1)]

    play(path, story)


def test_room_is_kept_for_the_last_answers(path: Path) -> None:
    """A runner has it from the beginning and gives it up when there is none else; the next has it.

    Whoever only looks takes no room from anybody.
    """
    spare = spare_of(path)

    async def use_up(store: SqliteStore) -> None:
        journal = await a_journal(store)
        await tell(journal, requested(0))
        assert spare.stat().st_blocks * 512 >= SPARE
        writer = store._file._writer
        assert writer is not None
        writer.execute("PRAGMA max_page_count = 5")
        with pytest.raises(JournalError, match="make room, then resume"):
            await tell(journal, *(WaveOpened(at=1.0, wave=number) for number in range(2000)))
        assert spare.stat().st_blocks == 0
        await tell(journal, ended(0))

    async def go_on(store: SqliteStore) -> None:
        assert await all_events(store) == [requested(0), ended(0)]
        assert not spare.exists()
        await store.journal("one", horizon=HORIZON)
        assert spare.stat().st_blocks * 512 >= SPARE

    play(path, use_up)
    play(path, go_on)


def test_a_journal_at_rest_is_one_file(path: Path) -> None:
    """A runner that comes and goes leaves its room to the others; who leaves last, one file."""

    async def story(store: SqliteStore) -> None:
        await tell(await a_journal(store), requested(0))
        async with open_store(path) as other:
            await a_journal(other, "two")
        assert spare_of(path).stat().st_blocks * 512 >= SPARE

    play(path, story)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_no_room_to_keep(tmp_path: Path) -> None:
    """Where there is not even room to keep, nothing is left of the attempt."""
    nothing_kept = Spare(tmp_path / "spare", 1 << 60)
    assert (tmp_path / "spare").stat().st_blocks == 0
    nothing_kept.give_up()
    nothing_kept.close()
    nowhere = Spare(tmp_path / "no such folder" / "spare", 1)
    nowhere.give_up()
    nowhere.close()
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_gone(path: Path) -> None:
    """A deleted file is noticed at the next write, not after the last; put back, it goes on."""

    async def story(store: SqliteStore) -> None:
        journal = await a_journal(store)
        await tell(journal, requested(0))
        kept = path.with_suffix(".kept")
        move(path, kept)
        with pytest.raises(JournalError, match="gone or was replaced"):
            await tell(journal, requested(1))
        with pytest.raises(JournalError, match="gone or was replaced"):
            await tell(journal, requested(1))
        move(kept, path)
        await tell(journal, requested(1))
        assert await all_events(store) == [requested(0), requested(1)]

    play(path, story)


def test_a_file_that_was_replaced(path: Path, tmp_path: Path) -> None:
    """Another journal in the place of ours is not written to."""
    other = tmp_path / "other.db"
    play(other, nothing)

    async def story(store: SqliteStore) -> None:
        journal = await a_journal(store)
        await tell(journal, requested(0))
        move(other, path)
        with pytest.raises(JournalError, match="gone or was replaced"):
            await tell(journal, requested(1))
        with pytest.raises(JournalError, match="was replaced while in use"):
            await tell(journal, requested(1))

    play(path, story)
    play(path, partial(_expect_no_runs))


async def _expect_no_runs(store: SqliteStore) -> None:
    assert await store.runs() == []


def test_a_commit_that_cannot_be_told(path: Path) -> None:
    """If a failed commit cannot be looked at, the journal is over: nothing is written twice."""

    async def story(store: SqliteStore) -> None:
        journal = await a_journal(store)
        await tell(journal, requested(0))
        writing = journal._writing
        row = event_to_row(requested(0))
        look = partial(writing._came_through, 1, row)
        assert await store._worker.run(look)
        assert not await store._worker.run(partial(writing._came_through, 2, row))
        await tell(journal, ended(0))
        remove(path)
        assert not await store._worker.run(look)
        with pytest.raises(JournalError, match="cannot be told"):
            await tell(journal, requested(1))

    play(path, story)


def test_damaged_rows(path: Path) -> None:
    """A row that makes no sense is an error with the file's name, not a traceback."""

    async def story(store: SqliteStore) -> None:
        await tell(await a_journal(store), ended(0))
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE event SET data = '{'")
        connection.close()
        with pytest.raises(JournalError, match=r"journal\.db.*cannot handle"):
            await all_events(store)

    play(path, story)


# ------------------------------------------------------------------------ whose file, and where


def test_permissions(tmp_path: Path) -> None:
    """File and new folders are for the owner only, whatever the umask; old folders stay."""
    tmp_path.chmod(0o755)
    for number, umask in enumerate((0o000, 0o777)):
        path = tmp_path / f"new{number}" / "deep" / "journal.db"
        before = os.umask(umask)
        try:
            play(path, a_journal)
        finally:
            os.umask(before)

        modes = [oct(one.stat().st_mode & 0o777) for one in (path, path.parent, *path.parents[1:3])]
        assert modes == ["0o600", "0o700", "0o700", "0o755"]
        beside = {one.name: one.stat().st_mode & 0o077 for one in path.parent.iterdir()}
        assert beside == {"journal.db": 0}


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths and URLs name the same file; what is no such thing is refused."""
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "a b.db"
    assert path_of(here) == path_of("a b.db") == path_of("sqlite:///a%20b.db") == here
    assert path_of(f"sqlite:///{tmp_path}/a%20b.db") == here
    assert path_of("~/x.db") == Path.home().resolve() / "x.db"
    for url, words in (("postgresql://h/db", "postgresql"), ("sqlite://x", "sqlite:////absolute")):
        with pytest.raises(JournalError, match=words):
            path_of(url)


def test_names_that_need_care(tmp_path: Path) -> None:
    """A path may hold what means something in a URL."""
    path = tmp_path / "50% of #1?mode=memory" / "j&k.db"

    play(path, a_journal)

    assert path.stat().st_size > 0


def test_no_journal_to_read(path: Path) -> None:
    """Who only reads makes no file, and is told that there is none."""

    async def main() -> None:
        with pytest.raises(JournalError, match="there is no journal"):
            async with open_store(path, create=False):
                pass

    anyio.run(main)
    assert not path.exists()


def test_a_place_that_cannot_be(tmp_path: Path) -> None:
    """A folder that is a file is told with the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot be made"):
        play(tmp_path / "file" / "journal.db", nothing)


def test_files_of_others(path: Path) -> None:
    """Another program's database, and what is no database, are refused and left as they are."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="of another program"):
        play(path, nothing)
    assert path.read_bytes() == before

    path.write_text("project_id,cluster_id\n" * 100)
    with pytest.raises(JournalError, match="is not a journal"):
        play(path, nothing)
    assert path.read_text().startswith("project_id")


def test_an_older_schema(path: Path) -> None:
    """A journal of the first version can be read as it is, and learns the rest from who writes."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in STEPS[0]:
        connection.execute(statement)
    connection.execute("INSERT INTO meta VALUES ('journal_id', 'old')")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 1")
    connection.close()

    async def read() -> None:
        async with open_store(path, create=False, read_only=True) as store:
            assert await store.runs() == []

    async def write(store: SqliteStore) -> None:
        await a_journal(store)
        given = await store.give("one", Order(at=1.0, by="ana", kind=OrderKind.PAUSE))
        assert await store.orders("one", 0) == [given]

    anyio.run(read)
    play(path, write)


def test_a_newer_schema(path: Path) -> None:
    """A file of a newer version is refused with what to do."""
    play(path, nothing)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    connection.close()
    with pytest.raises(JournalError, match=r"newer version.*upgrade"):
        play(path, nothing)


def test_wal_mode_is_left(path: Path) -> None:
    """A file that somebody switched to WAL is switched back, for WAL may corrupt it."""
    play(path, a_journal)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    play(path, nothing)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() != ("wal",)
    connection.close()


READ_ONLY = """
folder = os.path.dirname(path)
os.chmod(path, 0o444)
os.chmod(folder, 0o555)
if os.geteuid() == 0:
    os.setuid(65534)
async def main():
    async with open_store(path) as store:
        [run] = await store.runs()
        events = [event async for batch in store.events(run.run_id) for event in batch]
        assert store.clock.now() > 0
        try:
            await store.journal(run.run_id, horizon=1.0)
        except JournalError as exc:
            say(len(events), "read-only" in str(exc))
anyio.run(main)
"""


def test_read_only() -> None:
    """Where nothing can be written everything can be read, and writing says why not."""
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        path = folder / "journal.db"

        async def story(store: SqliteStore) -> None:
            await tell(await a_journal(store), requested(0))

        play(path, story)
        assert finish(start(READ_ONLY, path)) == "1 True\n"
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


MOUNTS = r"""
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:40 / /home rw,relatime shared:1 - nfs4 server:/home rw,vers=4.2
31 30 0:41 / /home/ana/local\040disk rw - xfs /dev/vdb rw
32 27 0:42 / /mnt/win rw - cifs //server/share rw
33 27 0:43 / /mnt/win rw - ext4 /dev/vdc rw
34 27 0:44 / /media/far rw - fuse.sshfs ana@far:/ rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/journal.db", "ext4"),
        ("/home/ana/journal.db", "nfs4"),
        ("/home/ana/local disk/journal.db", "xfs"),
        ("/homes/journal.db", "ext4"),
        ("/mnt/win/journal.db", "ext4"),
        ("/media/far/journal.db", "fuse.sshfs"),
    ],
)
def test_kind_of_filesystem(path: str, kind: str) -> None:
    """The innermost mount counts, and of several on one point the last."""
    assert kind_of_filesystem(Path(path), MOUNTS) == kind


def test_network_file_systems_are_refused() -> None:
    """Where locks cannot be relied on no journal is opened; where nothing is known, it is."""
    for path in ("/home/ana/journal.db", "/media/far/journal.db"):
        with pytest.raises(JournalError, match="network file system"):
            refuse_network(Path(path), MOUNTS)
    refuse_network(Path("/var/lib/journal.db"), MOUNTS)
    refuse_network(Path("/var/lib/journal.db"), "")


# ---------------------------------------------------------------------------------- the clock


def test_the_clock_goes_on(path: Path) -> None:
    """Opened again in the same boot, the axis is the same to the bit."""

    async def offset(store: SqliteStore) -> tuple[float, float]:
        assert abs(store.clock.now() + store.clock.wall_offset - time.time()) < 1
        axis = store._file.axis
        assert axis is not None
        return axis.offset, store.clock.now()

    first, second = play(path, offset), play(path, offset)

    assert first[0] == second[0]
    assert first[1] < second[1] < first[1] + 30


def test_the_clock_after_a_reboot(path: Path) -> None:
    """Another boot goes on behind all that was recorded, two hours short of the wall clock."""
    first, second = Clocks("first"), Clocks("second")

    async def before(store: SqliteStore) -> float:
        journal = await a_journal(store)
        await tell(journal, WaveOpened(at=store.clock.now() + 5, wave=0))
        return store.clock.now()

    async def after(store: SqliteStore) -> float:
        return store.clock.now()

    began = play(path, before, host=first)
    assert began + 4.9 < play(path, after, host=second) < began + 10
    third = Clocks("third")
    third.slept = 24 * 3600.0
    assert play(path, after, host=third) - began == pytest.approx(22 * 3600, abs=20)


def test_two_boots_at_once(path: Path) -> None:
    """When another boot has taken up the file, whoever had it before writes no more."""

    async def story(store: SqliteStore) -> None:
        journal = await a_journal(store)
        await tell(journal, requested(0))
        async with open_store(path, host=Clocks("other")) as other:
            assert await all_events(other) == [requested(0)]
        with pytest.raises(JournalError, match="another boot or another host"):
            await tell(journal, requested(1))
        assert await all_events(store) == [requested(0)]

    play(path, story)


def test_the_mark_is_kept_fresh(path: Path) -> None:
    """With a write after half a minute the journal notes where the clocks stand."""
    host = Clocks("boot")

    async def mark(store: SqliteStore) -> float:
        def read(connection: sqlite3.Connection) -> float:
            return float(connection.execute("SELECT steady FROM clock").fetchone()[0])

        return await store._read(read)

    async def story(store: SqliteStore) -> None:
        journal = await a_journal(store)
        first = await mark(store)
        await tell(journal, requested(0))
        assert await mark(store) == first
        host.slept = 31.0
        await tell(journal, requested(1))
        assert first + 31 <= await mark(store) < first + 60

    play(path, story, host=host)


def test_without_boot_id_one_process_writes(path: Path) -> None:
    """Where the kernel tells no boot id, the second to open may read, and is told why not more."""

    async def story(store: SqliteStore) -> None:
        journal = await a_journal(store)
        await tell(journal, requested(0))
        async with open_store(path, host=Clocks(None)) as second:
            assert await all_events(second) == [requested(0)]
            with pytest.raises(JournalError, match="no boot id"):
                await second.create_run(a_run("two"))
        await tell(journal, requested(1))

    play(path, story, host=Clocks(None))
    play(path, partial(a_journal, run_id="two"), host=Clocks(None))


# --------------------------------------------------------------------------- runs and runners

RUNNER = """
from orchestrator.errors import LeaseError
async def main():
    async with open_store(path) as store:
        journal = await store.journal("one", horizon=1.0, owner="ana", ttl=float(arguments[0]))
        await journal.write(lambda _: [requested(0)])
        say(os.getpid())
        sys.stdin.readline()
        try:
            await journal.write(lambda _: [requested(1)])
            say("written")
        except LeaseError as exc:
            say(exc)
        answer = Answer(verdict=Verdict.ACCEPTED, sent_at=1.0, answered_at=2.0, job_ids=("j",))
        await journal.testify(
            [AnswerArrivedLate(at=2.0, target=0, attempt=1, answer=answer)])
        if len(arguments) > 1:
            os._exit(0)
anyio.run(main)
"""


@contextmanager
def a_runner(path: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Have another process work on run one."""

    async def create(store: SqliteStore) -> None:
        await store.create_run(a_run("one"))

    play(path, create)
    process = start(RUNNER, path, *arguments)
    try:
        assert pipe(process.stdout).readline() == f"{process.pid}\n"
        yield process
    finally:
        process.kill()
        process.communicate()


async def take(store: SqliteStore) -> SqliteJournal:
    return await store.journal("one", horizon=1.0, owner="bo")


def test_a_runner_that_died(path: Path) -> None:
    """A run is running while its process lives, as a zombie or gone it is interrupted."""

    async def states(store: SqliteStore) -> list[RunState]:
        [one] = await store.runs()
        seen = [one.state]
        for end in (become_a_zombie, process.communicate):
            end()
            [one] = await store.runs()
            seen.append(one.state)
        return seen

    def become_a_zombie() -> None:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    with a_runner(path, "60") as process:
        assert play(path, states) == [
            RunState.RUNNING,
            RunState.INTERRUPTED,
            RunState.INTERRUPTED,
        ]


def test_two_processes_want_one_run(path: Path) -> None:
    """The second is told who has it and what to do, and gets it once the first is through."""

    async def refused(store: SqliteStore) -> str:
        with pytest.raises(LeaseError) as raised:
            await take(store)
        return str(raised.value)

    async def taken(store: SqliteStore) -> tuple[int, LeaseRecord | None]:
        journal = await take(store)
        return journal.epoch, journal.took_over

    with a_runner(path, "60") as process:
        words = play(path, refused)
        assert f"ana pid {process.pid} on {socket.gethostname()} works on it since" in words
        assert process.communicate(input="\n", timeout=60)[0] == "written\n"
    assert play(path, taken) == (2, None)


def test_many_processes_want_one_run(path: Path) -> None:
    """However many ask at once, one gets it."""

    async def create(store: SqliteStore) -> None:
        await store.create_run(a_run("one"))

    play(path, create)
    processes = [start(WANT, path) for _ in range(5)]
    said = [pipe(process.stdout).readline() for process in processes]
    for process in processes:
        process.communicate(input="\n", timeout=60)
    assert Counter(said) == {"got it\n": 1, "refused\n": 4}


WANT = """
from orchestrator.errors import LeaseError
async def main():
    async with open_store(path) as store:
        try:
            await store.journal("one", horizon=1.0)
            say("got it")
        except LeaseError:
            say("refused")
        sys.stdin.readline()
anyio.run(main)
"""


def test_a_killed_holder_is_succeeded_at_once(path: Path) -> None:
    """Nobody waits for the lease of a process that is gone, and it asks for nothing more."""

    async def succeeded(store: SqliteStore) -> None:
        journal = await take(store)
        assert (journal.epoch, journal.is_inherited) == (2, False)
        assert journal.took_over is not None
        assert journal.took_over.pid == process.pid
        await tell(journal, ended(0))

    with a_runner(path, "3600") as process:
        process.kill()
        process.wait()
        play(path, succeeded)


def test_a_frozen_holder(path: Path) -> None:
    """It lives until its lease runs out; woken after that it writes nothing but its evidence."""

    async def wait_and_take(store: SqliteStore) -> None:
        with pytest.raises(LeaseError, match=f"pid {process.pid}"):
            await take(store)
        lease = await store.lease("one")
        assert lease is not None
        await anyio.sleep(lease.expires_at - store.clock.now() + 0.01)
        [run] = await store.runs()
        assert run.state is RunState.INTERRUPTED
        journal = await take(store)
        assert journal.is_inherited
        process.send_signal(signal.SIGCONT)
        pipe(process.stdin).write("\n")
        pipe(process.stdin).flush()
        with anyio.fail_after(30):
            words = await anyio.to_thread.run_sync(pipe(process.stdout).readline)
            await anyio.to_thread.run_sync(process.wait)
        assert f"bo pid {os.getpid()}" in words
        assert "nothing was written" in words
        await tell(journal, ended(0))
        kinds = [event.kind for event in await all_events(store)]
        assert kinds == ["restart.requested", "answer.late", "target.ended"]

    with a_runner(path, "1.5", "leave") as process:
        process.send_signal(signal.SIGSTOP)
        play(path, wait_and_take)


def test_another_boot_of_this_host(path: Path) -> None:
    """Whoever held a run before a reboot is gone, however young the lease."""

    async def hold(store: SqliteStore) -> None:
        journal = await a_journal(store)
        await tell(journal, requested(0))
        journal._writing._over = "pulled the plug"  # so that the store does not give it back

    async def after(store: SqliteStore) -> None:
        journal = await take(store)
        assert (journal.epoch, journal.is_inherited) == (2, False)

    play(path, hold, host=Clocks("first"))
    play(path, after, host=Clocks("second"))


async def rewrite_lease(path: Path, assignment: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE lease SET {assignment}")
    connection.close()


def test_a_holder_on_another_host(path: Path) -> None:
    """It cannot be looked at, so it may live and ask until its lease runs out."""

    async def story(store: SqliteStore) -> None:
        await a_journal(store)
        await rewrite_lease(path, "host = 'elsewhere', pid = 999999999")
        with pytest.raises(LeaseError, match=r"on elsewhere .* the run is free at \d{4}-"):
            await take(store)
        await rewrite_lease(path, "expires_at = heartbeat_at")
        journal = await take(store)
        assert journal.is_inherited
        assert journal.took_over is not None
        assert journal.took_over.host == "elsewhere"

    play(path, story)


def test_a_process_of_the_same_number(path: Path) -> None:
    """A living process that is younger than the lease does not hold it."""

    async def story(store: SqliteStore) -> None:
        await a_journal(store)
        [run] = await store.runs()
        assert run.state is RunState.RUNNING
        await rewrite_lease(path, "taken_at = taken_at - 10 * 365 * 86400")
        [run] = await store.runs()
        assert run.state is RunState.INTERRUPTED
        journal = await take(store)
        assert journal.took_over is not None

    play(path, story)


def test_a_process_of_somebody_else(path: Path) -> None:
    """A number that now is the first process's, which nobody may signal, is judged by its age."""

    async def story(store: SqliteStore) -> None:
        await a_journal(store)
        await rewrite_lease(path, "pid = 1")
        [run] = await store.runs()
        assert run.state is RunState.RUNNING
        await rewrite_lease(path, f"pid = {10**30 % 2**62}")
        [run] = await store.runs()
        assert run.state is RunState.RUNNING  # not a number of a process here: nobody can tell

    play(path, story)


def test_a_journal_without_its_lease(path: Path) -> None:
    """If the lease is gone from the file, nothing is written, and the words say what to do."""

    async def story(store: SqliteStore) -> None:
        journal = await a_journal(store)
        with sqlite3.connect(path) as connection:
            connection.execute("DELETE FROM lease")
        connection.close()
        with pytest.raises(LeaseError, match="older copy"):
            await tell(journal, requested(0))
        assert await all_events(store) == []

    play(path, story)


def test_closing_gives_back_what_it_can(path: Path) -> None:
    """A closed store leaves no run held; a file that cannot be written is no reason to fail."""

    async def hold(store: SqliteStore) -> None:
        await a_journal(store)

    async def lease(store: SqliteStore) -> LeaseRecord | None:
        return await store.lease("one")

    play(path, hold)
    released = play(path, lease)
    assert released is not None
    assert released.released_at is not None

    async def story(store: SqliteStore) -> None:
        journal = await take(store)
        with held(path, "BEGIN IMMEDIATE"):
            await journal.close()
        with anyio.CancelScope() as scope:
            journal = await store.journal("two", horizon=1.0)
            scope.cancel()
            await journal.close()
        lease = await store.lease("two")
        assert lease is not None
        assert lease.released_at is not None

    async def create(store: SqliteStore) -> None:
        await store.create_run(a_run("two", prefix="two"))

    play(path, create)
    play(path, story, patience=0.05)


# ------------------------------------------------------------------------------ exactly as told


@given(events=st.lists(st.one_of([written(cls) for cls in EVENTS.values()]), max_size=8))
@settings(max_examples=150, deadline=None)
def test_events_survive_the_file(events: list[Event]) -> None:
    """Numbers to the last bit and any text come back as they were, and can be compared as kept."""
    connection = sqlite3.connect(":memory:")
    for statement in STEPS[0]:
        connection.execute(statement)
    connection.execute(
        "INSERT INTO run VALUES (1, 'one', 1.0, 1.0, 'ana', NULL, '', '1', 1, '', '')"
    )
    rows = [event_to_row(event) for event in events]
    connection.executemany(_INSERT_EVENT, [(1, seq, *row) for seq, row in enumerate(rows, 1)])

    _, found = events_after(connection, "one", 0, 100)
    kept = connection.execute("SELECT at, kind, target, data FROM event ORDER BY seq").fetchall()
    connection.close()
    assert found == events
    assert kept == rows


def test_large_runs(path: Path) -> None:
    """A hundred thousand targets are kept and come back the same."""
    record = a_run("one", 100_000)

    async def story(store: SqliteStore) -> RunRecord:
        await store.create_run(record)
        return await store.load_run("one")

    assert play(path, story) == record
