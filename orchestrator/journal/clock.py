"""The steady clock: one axis of seconds for all processes of a host, which no wall clock moves.

Rules:

- The axis is the kernel's count of seconds since boot (suspend included) plus an offset that is
  stored in the journal. Within one boot it is exact, whatever happens to the wall clock.
- It begins as wall time, so that a moment can be recognised; from then on it goes its own way.
- Across a reboot only the wall clock knows how long it was. It is believed but for two hours, so
  clocks that are wrong by up to an hour, before and after, never make a limit end early. It makes
  us wait longer instead, and a wall clock that went back adds nothing at all.
- The axis belongs to whoever wrote it last. A file that was used by another boot or another host
  since counts as a reboot, even if this host did not reboot.
- Where the kernel tells no boot id, each process counts as a boot of its own. That is safe, as long
  as one process at a time writes, which the store sees to; it costs up to two hours each time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REBOOT_DOUBT = 7200.0
"""Seconds of wall clock time that are not believed across a reboot: an hour off on either side."""

REFRESH_EVERY = 30.0
"""The mark is written anew with the first write after this many seconds."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def uptime() -> float:
    """Return the seconds since boot, time asleep included where the kernel counts it."""
    return time.clock_gettime(_BOOT_CLOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What the clocks of a host say at one instant."""

    boot_id: str | None
    """The kernel's name for this boot; None where it has none."""
    uptime: float
    wall: float


class Host:
    """The clocks of this host."""

    def boot_id(self) -> str | None:
        """Return the kernel's name for this boot, or None where it has none."""
        try:
            return _BOOT_ID.read_text(encoding="utf-8").strip() or None
        except OSError:
            return None

    def uptime(self) -> float:
        """Return the seconds since boot."""
        return time.clock_gettime(_BOOT_CLOCK)

    def wall(self) -> float:
        """Return the wall clock in seconds since 1970."""
        return time.time()

    def read(self) -> Readings:
        """Read all three."""
        return Readings(boot_id=self.boot_id(), uptime=self.uptime(), wall=self.wall())


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What a journal keeps of its clock: whose axis it is, and a mark where it met the wall clock.

    `steady` and `wall` are one instant on both; `offset` leads from the uptime to the axis.
    """

    boot_id: str | None
    offset: float
    steady: float
    wall: float


def axis_at(stored: Axis | None, latest: float, readings: Readings) -> Axis:
    """Return the axis to use now, marked anew.

    Args:
        stored: what the journal keeps, if it keeps anything yet.
        latest: the latest moment that was recorded on the axis; it never goes back behind that.
        readings: this host's clocks.
    """
    if stored is None:
        steady = readings.wall
    elif goes_on(stored, readings):
        # The offset is taken over bit by bit: two processes must not differ even by rounding.
        steady = readings.uptime + stored.offset
        return Axis(boot_id=stored.boot_id, offset=stored.offset, steady=steady, wall=readings.wall)
    else:
        steady = steady_after_boot(stored, latest, readings.wall)
    return Axis(
        boot_id=readings.boot_id,
        offset=steady - readings.uptime,
        steady=steady,
        wall=readings.wall,
    )


def steady_after_boot(stored: Axis, latest: float, wall: float) -> float:
    """Return where the axis goes on when only the wall clock can tell how long nobody watched."""
    elapsed = wall - stored.wall - REBOOT_DOUBT
    return max(latest, stored.steady, stored.steady + elapsed)


def goes_on(stored: Axis, readings: Readings) -> bool:
    """Whether this is still the boot that the axis belongs to, so that its offset holds."""
    # An uptime behind the mark is a machine put back to a snapshot: the same id, another life.
    return (
        readings.boot_id is not None
        and readings.boot_id == stored.boot_id
        and readings.uptime + stored.offset >= stored.steady
    )


class SteadyClock:
    """The axis as a clock; fits what the engine asks of one."""

    def __init__(self, axis: Axis, uptime: Callable[[], float] = uptime) -> None:
        self._offset = axis.offset
        self._wall_offset = axis.wall - axis.steady
        self._uptime = uptime

    def now(self) -> float:
        """Return the steady moment in seconds."""
        return self._uptime() + self._offset

    @property
    def wall_offset(self) -> float:
        """Return what to add to a steady moment for the wall clock, as it was when we opened."""
        return self._wall_offset
