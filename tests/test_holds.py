"""Holds: who steers comes first, then the window, then the gate; and all of it before a call."""

from orchestrator.gatekeeper import Gatekeeper
from orchestrator.holds import STALE_INTENT, Holds
from orchestrator.model import Cause, RunContinued, RunPaused, RunStopping
from orchestrator.orders import Standing
from orchestrator.plan import Policy, Window
from orchestrator.window import Durations, Opening


class Room:
    """Everything that may hold a run, at its beginning."""

    def __init__(self, window: Window = Window(), gates: tuple[str, ...] = ()) -> None:  # noqa: B008 - a value
        self.standing = Standing(Policy())
        self.gatekeeper = Gatekeeper(gates, 10.0, 5.0)
        opening = Opening(window, Durations({}, 30.0), ["restart"])
        self.holds = Holds(self.standing, opening, self.gatekeeper)

    def cause(self, now: float, *, is_counting: bool = False) -> Cause | None:
        hold = self.holds.hold(now, is_counting=is_counting)
        return hold.cause if hold is not None else None

    def objection(self, now: float) -> str | None:
        return self.holds.objection("restart", 100.0, now, is_counting=False)


def test_the_first_of_many_holds_is_told() -> None:
    """As each is gone the next is there; with none left anything may start."""
    room = Room(Window(not_before=50.0), ("ask.sh",))
    room.standing.take(RunPaused(at=1.0, by="ana"))
    assert room.cause(2.0, is_counting=True) is Cause.PAUSED
    room.standing.take(RunContinued(at=3.0, by="ana"))
    assert room.cause(3.0, is_counting=True) is Cause.COUNTING
    hold = room.holds.hold(4.0, is_counting=False)
    assert hold is not None
    assert (hold.cause, hold.until) == (Cause.WINDOW, 50.0)
    assert room.cause(50.0) is Cause.GATE
    room.gatekeeper.answer(None, 50.0, 51.0)
    assert room.cause(51.0) is None


def test_the_gate_is_asked_when_nothing_else_holds() -> None:
    """Once; again when its answer is old. Nobody asks it in a pause, or before the window opens."""
    room = Room(Window(not_before=50.0), ("ask.sh",))
    assert not room.holds.asks_gate(49.0)
    room.standing.take(RunPaused(at=50.0, by="ana"))
    assert not room.holds.asks_gate(51.0)
    room.standing.take(RunContinued(at=52.0, by="ana"))
    assert room.holds.asks_gate(52.0)
    assert not room.holds.asks_gate(99.0)
    room.gatekeeper.answer(None, 52.0, 53.0)
    assert not room.holds.asks_gate(61.0)
    assert room.holds.asks_gate(62.0)
    assert not Room().holds.asks_gate(1e9)


def test_a_call_does_not_leave_against_an_objection() -> None:
    """What changed since its intent, or simply the time that passed, keeps it back."""
    room = Room(Window(cutoff=108.0), ("ask.sh",))
    room.gatekeeper.answer(None, 100.0, 100.0)
    assert room.objection(101.0) is None
    assert room.objection(108.0) == "the window was over before it was sent"
    assert room.objection(100.1 + STALE_INTENT) == "it could not be sent in time"
    room.gatekeeper.answer("2 alerts", 102.0, 102.0)
    assert room.objection(103.0) == "the gate is closed: 2 alerts"
    room.standing.take(RunStopping(at=104.0, reason="drained", by="ana"))
    assert room.objection(105.0) == "stopped before it was sent: drained"
