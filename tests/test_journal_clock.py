"""The steady clock: exact within a boot, and never ahead of the truth across one."""

import math
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from pytest import approx  # noqa: PT013  reads as words

from orchestrator.journal.clock import (
    REBOOT_DOUBT,
    Axis,
    Host,
    Readings,
    SteadyClock,
    axis_at,
    steady_after_boot,
)

HOUR = 3600.0
TODAY = 1_795_000_000.0
ROUNDING = 1e-5


@dataclass
class World:
    """The truth, and clocks that show it more or less."""

    boot_id: str | None = "first"
    truth: float = TODAY
    booted: float = TODAY - 500.0
    error: float = 0.0

    def read(self) -> Readings:
        return Readings(
            boot_id=self.boot_id,
            uptime=self.truth - self.booted,
            wall=self.truth + self.error,
        )

    def reboot(self, boot_id: str) -> None:
        self.boot_id = boot_id
        self.booted = self.truth - 20.0


def test_begins_as_wall_time() -> None:
    """In a new journal a moment looks like the wall clock's."""
    axis = axis_at(None, -math.inf, World().read())

    assert axis.steady == TODAY
    assert axis.offset == TODAY - 500.0


@given(elapsed=st.floats(0, 30 * 24 * HOUR), error=st.floats(-1e9, 1e9))
def test_exact_within_a_boot(elapsed: float, error: float) -> None:
    """However the wall clock is set, the axis advances by exactly what has passed."""
    world = World()
    before = axis_at(None, -math.inf, world.read())
    world.truth += elapsed
    world.error = error
    after = axis_at(before, -math.inf, world.read())

    assert after.offset == before.offset
    assert after.steady - before.steady == approx(elapsed, abs=ROUNDING)


ERRORS = st.floats(-HOUR, HOUR)


@given(
    steps=st.lists(st.tuples(st.floats(0, 40 * HOUR), st.booleans(), ERRORS), min_size=1),
    error=ERRORS,
)
def test_never_ahead_of_the_truth(steps: list[tuple[float, bool, float]], error: float) -> None:
    """Over any reboots, with a wall clock within an hour, the axis never advances beyond the truth.

    Nor does it ever go back.
    """
    world = World(error=error)
    axis = first = axis_at(None, -math.inf, world.read())
    for number, (elapsed, reboots, wrong) in enumerate(steps):
        world.truth += elapsed
        world.error = wrong
        if reboots:
            world.reboot(f"boot {number}")
        before, axis = axis, axis_at(axis, -math.inf, world.read())

        assert axis.steady >= before.steady - ROUNDING
        assert axis.steady - first.steady <= world.truth - TODAY + ROUNDING


@given(latest=st.floats(0, 1000), elapsed=st.floats(-1e6, 1e6))
def test_never_behind_what_is_recorded(latest: float, elapsed: float) -> None:
    """After a reboot the axis goes on at or after every moment in the journal."""
    stored = Axis(boot_id="first", offset=0.0, steady=TODAY, wall=TODAY)

    steady = steady_after_boot(stored, TODAY + latest, TODAY + elapsed)

    assert steady >= TODAY + latest


def test_two_hours_are_not_believed() -> None:
    """A day's outage counts as a day less two hours."""
    world = World()
    before = axis_at(None, -math.inf, world.read())
    world.truth += 24 * HOUR
    world.reboot("second")
    after = axis_at(before, -math.inf, world.read())

    assert after.steady - before.steady == approx(24 * HOUR - REBOOT_DOUBT)
    assert after.boot_id == "second"


def test_wall_clock_that_went_back_adds_nothing() -> None:
    """After a reboot into the past the axis stands where it was last seen."""
    world = World()
    before = axis_at(None, -math.inf, world.read())
    world.truth += 24 * HOUR
    world.error = -1e8
    world.reboot("second")

    assert axis_at(before, before.steady + 9, world.read()).steady == before.steady + 9


def test_coming_back_counts_as_a_reboot() -> None:
    """A file that another host used since does not get its old offset back here."""
    here, there = World(), World(boot_id="elsewhere", booted=TODAY - 9e6)
    first = axis_at(None, -math.inf, here.read())
    there.truth += HOUR
    second = axis_at(first, -math.inf, there.read())
    here.truth += 2 * HOUR
    third = axis_at(second, -math.inf, here.read())

    assert second.steady == first.steady
    assert third.steady == second.steady


def test_snapshot_counts_as_a_reboot() -> None:
    """A machine put back to an earlier state has the same boot id, but not the same time."""
    world = World()
    stored = axis_at(None, -math.inf, world.read())
    world.booted += 100.0
    again = axis_at(stored, -math.inf, world.read())

    assert again.steady >= stored.steady


def test_without_boot_id_each_open_counts_as_a_reboot() -> None:
    """Where the kernel does not tell, an offset is never taken over."""
    world = World(boot_id=None)
    before = axis_at(None, -math.inf, world.read())
    world.truth += HOUR

    assert axis_at(before, -math.inf, world.read()).steady == before.steady


def test_clock_follows_the_uptime() -> None:
    """The clock is the axis, going on; its way to the wall is that of the opening."""
    moments = iter([500.0, 507.5])
    axis = Axis(boot_id="first", offset=1000.0, steady=1500.0, wall=1800.0)
    clock = SteadyClock(axis, lambda: next(moments))

    assert clock.now() == 1500.0
    assert clock.now() == 1507.5
    assert clock.wall_offset == 300.0


def test_this_host() -> None:
    """The real clocks can be read, and do not go back."""
    host = Host()
    first, second = host.read(), host.read()

    assert first.boot_id == second.boot_id
    assert 0 < first.uptime <= second.uptime
    assert second.wall > TODAY - 10 * 365 * 24 * HOUR
