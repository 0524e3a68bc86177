"""Accounts: one refusal is enough, for its own projects; a bad moment holds back all of them."""

from orchestrator.accounts import Accounts
from orchestrator.model import AccountRefused, Answer, ErrorInfo, Throttle, Verdict
from orchestrator.pace import Paces

REFUSED = ErrorInfo(error_class="unauthorized", message="bad key", status=401)


def of() -> tuple[Accounts, Paces]:
    paces = Paces({"p0": "old", "p1": "new", "p2": "old"})
    return Accounts(paces, ["p0", "p1", "p2"]), paces


def test_a_refused_credential_is_that_of_its_own_projects() -> None:
    """It is news once; the others go on, and a new runner believes in all of them."""
    accounts, _ = of()
    event = accounts.find_refused("p0", REFUSED, 5.0)
    assert event == AccountRefused(at=5.0, account="old", reason="bad key")
    assert not accounts.is_refused("p0")
    assert accounts.refuse(event) == ["p0", "p2"]
    assert [accounts.is_refused(f"p{n}") for n in range(3)] == [True, False, True]
    assert accounts.find_refused("p2", REFUSED, 6.0) is None
    other = accounts.find_refused("p1", None, 7.0)
    assert other is not None
    accounts.refuse(other)
    assert accounts.why_stop() == (
        "credential refused: old: bad key; new: the service did not accept it"
    )
    assert accounts.believe() == ["p0", "p1", "p2"]
    assert not accounts.is_refused("p0")


def answer(error_class: str, throttle: Throttle | None = None) -> Answer:
    error = ErrorInfo(error_class=error_class, message="later")
    return Answer(
        verdict=Verdict.THROTTLED, sent_at=1.0, answered_at=2.0, error=error,
        retry_after=10.0, throttle=throttle,
    )  # fmt: skip


def test_who_was_too_fast_holds_back_all_of_the_account() -> None:
    """Nobody of it goes before the wait is over, and then more slowly."""
    accounts, paces = of()
    pace = accounts.slow_down(
        "p0", answer("throttled", Throttle(10, 60.0)), at=2.0, asked_at=1.0, request_id="0000ab"
    )
    assert pace is paces.of("p2")
    assert pace is not paces.of("p1")
    assert not pace.has_room(11.9)
    assert pace.has_room(12.1)
    assert pace.is_slowed


def test_who_came_at_a_bad_time_waits_and_is_not_slowed() -> None:
    """An account that cannot be asked now is asked later, as fast as before."""
    accounts, _ = of()
    pace = accounts.slow_down(
        "p0", answer("unavailable"), at=2.0, asked_at=1.0, request_id="0000ab"
    )
    assert not pace.has_room(11.9)
    assert not pace.is_slowed


def test_those_that_were_throttled_together_come_back_apart() -> None:
    """The wait of each is its own, by the name of its call."""
    moments = set()
    for request_id in ("0000", "8000", "ffff"):
        accounts, _ = of()
        pace = accounts.slow_down(
            "p0", answer("throttled"), at=2.0, asked_at=1.0, request_id=request_id
        )
        moments.add(pace.frees_at(2.0))
    assert len(moments) == 3
