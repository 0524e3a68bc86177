"""Who works on a run: the rules by which a lease is taken, lost and taken over.

Rules:

- A run belongs to the holder of the newest lease; each one has the next epoch. Whoever writes shows
  an epoch, and with an old one nothing is written.
- A lease is free if there was none, if it was given back, if it ran out, or if its holder is
  certainly dead: on this host its process is gone, or the host was booted since.
- A lease that ran out belongs to its holder until somebody takes it: whoever slept goes on.
- Where the previous holder's death is not certain, it may still be asking for restarts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator.errors import LeaseError

LEASE_TTL = 60.0
"""Seconds after its last heartbeat that a lease runs out."""

RENEWALS = 3
"""How many heartbeats a holder that writes leaves in a lease's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """Who worked on a run last, and until when; moments are on the steady axis."""

    run_id: str
    owner: str
    host: str
    boot_id: str | None
    pid: int
    epoch: int
    taken_at: float
    heartbeat_at: float
    expires_at: float
    released_at: float | None = None
    """When its holder gave it back; None if it did not."""

    def describe(self) -> str:
        """Name the holder: `ana@bastion-1 pid 123 on bastion-1`."""
        owner = self.owner or "somebody"
        return f"{owner} pid {self.pid} on {self.host}" if self.host else owner


@dataclass(frozen=True, slots=True, kw_only=True)
class Succession:
    """With what a new holder takes up a run."""

    epoch: int
    took_over: LeaseRecord | None = None
    """The previous holder, if it did not give the run back."""
    is_inherited: bool = False
    """Whether the previous holder may still be at work."""


IsDead = Callable[[LeaseRecord], bool]
"""Whether the holder's process is certainly gone."""


def is_held(lease: LeaseRecord | None, now: float, is_dead: IsDead) -> bool:
    """Whether somebody works on the run, as far as can be known from here."""
    return (
        lease is not None
        and lease.released_at is None
        and lease.expires_at > now
        and not is_dead(lease)
    )


def succeed(
    previous: LeaseRecord | None, now: float, is_dead: IsDead, wall_offset: float
) -> Succession:
    """Return with what a new holder takes up the run after `previous`.

    Raises:
        LeaseError: it is held.
    """
    if previous is None:
        return Succession(epoch=1)
    epoch = previous.epoch + 1
    if previous.released_at is not None:
        return Succession(epoch=epoch)
    if is_dead(previous):
        return Succession(epoch=epoch, took_over=previous)
    if previous.expires_at <= now:
        return Succession(epoch=epoch, took_over=previous, is_inherited=True)
    raise LeaseError(
        f"run {previous.run_id} cannot be taken up: {previous.describe()} works on it since "
        f"{_clock_time(previous.taken_at, wall_offset)} and was last heard of at "
        f"{_clock_time(previous.heartbeat_at, wall_offset)}; wait for it, or stop it there. "
        f"Should it not be heard of again, the run is free at "
        f"{_clock_time(previous.expires_at, wall_offset)}"
    )


def lease_is_lost(run_id: str, lease: LeaseRecord | None, wall_offset: float) -> LeaseError:
    """Return the error for a write by somebody whose lease is over; `lease` is the newest."""
    if lease is None:
        return LeaseError(
            f"run {run_id} cannot be written: its lease is gone from the journal, as if an older "
            "copy had been put in its place; nothing was written; put the right file back, then "
            "resume the run"
        )
    return LeaseError(
        f"run {run_id} cannot be written: {lease.describe()} took it over at "
        f"{_clock_time(lease.taken_at, wall_offset)}; nothing was written; it goes on there"
    )


def _clock_time(at: float, wall_offset: float) -> str:
    return f"{datetime.fromtimestamp(at + wall_offset, UTC):%Y-%m-%dT%H:%M:%SZ}"
