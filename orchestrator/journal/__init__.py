"""What happened, in order, for good: events of runs, and the ledger of starts that runs share."""

from orchestrator.journal.clock import SteadyClock
from orchestrator.journal.lease import LEASE_TTL, LeaseRecord
from orchestrator.journal.memory import MemoryJournal, MemoryStore
from orchestrator.journal.sqlite import SqliteJournal, SqliteStore, open_store
from orchestrator.journal.store import (
    Clock,
    Decide,
    Lasted,
    RunJournal,
    RunRecord,
    RunState,
    RunSummary,
    Store,
    is_unfinished,
)

__all__ = [
    "LEASE_TTL",
    "Clock",
    "Decide",
    "Lasted",
    "LeaseRecord",
    "MemoryJournal",
    "MemoryStore",
    "RunJournal",
    "RunRecord",
    "RunState",
    "RunSummary",
    "SqliteJournal",
    "SqliteStore",
    "SteadyClock",
    "Store",
    "is_unfinished",
    "open_store",
]
