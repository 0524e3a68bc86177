"""Failures: so many are allowed, one more stops; and refusals that are all alike."""

from typing import Any

import pytest

from orchestrator.failures import SAME_REFUSALS, Failures
from orchestrator.limits import Concurrency, Limits, Rate
from orchestrator.model import ErrorInfo
from orchestrator.plan import FailureMode, Policy, Portion


def of(count: int = 10, **policy: Any) -> Failures:
    return Failures(Policy(**policy), count)


def refusal(code: str, error_class: str = "bad_request") -> ErrorInfo:
    return ErrorInfo(error_class=error_class, message="no", code=code)


@pytest.mark.parametrize(("allowed", "most"), [("0", 0), ("2", 2), ("25%", 2)])
def test_one_more_than_allowed_stops(allowed: str, most: int) -> None:
    """`max_failures` is how many are allowed; a percentage is rounded down."""
    failures = of(max_failures=Portion.parse(allowed))
    for _ in range(most):
        failures.note(is_in_canary=False)
    assert failures.why_stop() is None
    failures.note(is_in_canary=False)
    assert failures.why_stop() == f"max_failures: {most + 1} failed, {most} allowed"
    failures.allow(Policy(max_failures=Portion(9)))
    assert failures.why_stop() is None


def test_a_failure_in_the_canary_always_stops() -> None:
    """However many are allowed; until somebody lets the run go on, who knows of it."""
    failures = of(max_failures=Portion(5))
    failures.note(is_in_canary=True)
    assert failures.why_stop() == "a failure in the canary"
    failures.forgive()
    assert (failures.why_stop(), failures.count) == (None, 0)


def test_refusals_that_are_alike_stop_when_they_come_in_a_row() -> None:
    """One call that is taken, or refused in another way, begins the row anew."""
    failures = of()
    for _ in range(SAME_REFUSALS - 1):
        failures.refuse(refusal("CSS.0001"))
    failures.accept()
    failures.refuse(refusal("CSS.0001"))
    failures.refuse(refusal("CSS.0004"))
    assert failures.why_stop() is None
    for _ in range(SAME_REFUSALS - 1):
        failures.refuse(refusal("CSS.0004"))
    assert failures.why_stop() == "correlated: 5 refusals in a row, all CSS.0004"


def test_refused_credentials_are_no_row() -> None:
    """A credential is refused once and for all, and that has its own rule."""
    failures = of()
    for _ in range(SAME_REFUSALS):
        failures.refuse(refusal("APIGW.0301", "unauthorized"))
        failures.refuse(None)
    assert failures.why_stop() is None


def test_strict_lowers_the_concurrency_as_failures_come_near() -> None:
    """Never more in progress than failures still allowed and one, and never none; rates stay."""
    failures = of(max_failures=Portion(3), failure_mode=FailureMode.STRICT)
    limits = Limits([Concurrency(10), Rate(20, 600.0)])
    most = []
    for _ in range(5):
        failures.shrink(limits)
        most.append([gate.most for gate in limits.fleet_gates()])
        failures.note(is_in_canary=False)
    assert most == [[4, 20], [3, 20], [2, 20], [1, 20], [1, 20]]
    normal = Limits([Concurrency(10)])
    of().shrink(normal)
    assert [gate.most for gate in normal.fleet_gates()] == [10]
