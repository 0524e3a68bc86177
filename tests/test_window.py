"""The window: what a restart is expected to take."""

import pytest

from orchestrator.window import Durations, expected_of


def test_a_rolling_restart_is_expected_to_take_its_nodes_in_turn() -> None:
    """While nothing was seen of it, it takes as long as three restarts; then what was seen."""
    durations = Durations({}, usual=300.0)
    assert [durations.expected(kind) for kind in ("restart", "rolling", "rolling:ess")] == [
        300.0, 900.0, 900.0,
    ]  # fmt: skip
    durations.note("rolling", 120.0)
    assert durations.expected("rolling") == 120.0


@pytest.mark.parametrize(("count", "expected"), [(1, 1.0), (19, 19.0), (20, 19.0), (100, 95.0)])
def test_the_expected_duration_is_the_95th_percentile(count: int, expected: float) -> None:
    """At least 95 of 100 restarts last no longer; of fewer than twenty none does."""
    assert expected_of([float(second) for second in range(1, count + 1)]) == expected
