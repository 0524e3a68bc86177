"""The window: what a restart is expected to take."""

from orchestrator.window import Durations


def test_a_rolling_restart_is_expected_to_take_its_nodes_in_turn() -> None:
    """While nothing was seen of it, it takes as long as three restarts; then what was seen."""
    durations = Durations({}, usual=300.0)
    assert [durations.expected(kind) for kind in ("restart", "rolling", "rolling:ess")] == [
        300.0, 900.0, 900.0,
    ]  # fmt: skip
    durations.note("rolling", 120.0)
    assert durations.expected("rolling") == 120.0
