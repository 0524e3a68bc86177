"""How much went wrong, how much may, and when that stops the run.

Rules:

- A failure is a cluster that was harmed or may be; `max_failures` are allowed, one more stops.
- A failure in the canary always stops.
- A refusal harmed nobody; `SAME_REFUSALS` in a row that are alike mean that the fault is ours. Of a
  credential one is enough, which has its own rule.
- In strict mode never more is in progress than failures are still allowed, and one.
- Who lets a stopped run go on has acknowledged what was known until then.
"""

from orchestrator.limits import Concurrency, Limits
from orchestrator.model import UNAUTHORIZED, ErrorInfo
from orchestrator.plan import FailureMode, Policy

SAME_REFUSALS = 5
"""So many different targets refused in a row in the same way mean that the fault is ours."""


class Failures:
    """What went wrong in a run of so many targets since it was last let go on."""

    def __init__(self, policy: Policy, targets: int) -> None:
        self._is_strict = policy.failure_mode is FailureMode.STRICT
        self._targets = targets
        self.allowed = policy.max_failures.of(targets)
        self.count = 0
        self._is_canary_harmed = False
        self._refusal: tuple[str, str | None] = ("", None)
        """Class and code of the last refusal."""
        self._refusals = 0
        """How many like it there were in a row."""

    def allow(self, policy: Policy) -> None:
        """Allow what the policy says now."""
        self.allowed = policy.max_failures.of(self._targets)

    def note(self, *, is_in_canary: bool) -> None:
        """Count a cluster that was harmed, or may have been."""
        self.count += 1
        self._is_canary_harmed |= is_in_canary

    def refuse(self, error: ErrorInfo | None) -> None:
        """Take note of a target that was refused."""
        if error is None or error.error_class == UNAUTHORIZED:
            return
        refusal = (error.error_class, error.code)
        self._refusals = self._refusals + 1 if refusal == self._refusal else 1
        self._refusal = refusal

    def accept(self) -> None:
        """Take note of a call that was taken: refusals are not in a row any more."""
        self._refusal = ("", None)
        self._refusals = 0

    def forgive(self) -> None:
        """Begin to count anew."""
        self.count = 0
        self._is_canary_harmed = False
        self.accept()

    def why_stop(self) -> str | None:
        """Say why the run has to stop, if it has to."""
        if self._is_canary_harmed:
            return "a failure in the canary"
        if self.count > self.allowed:
            return f"max_failures: {self.count} failed, {self.allowed} allowed"
        if self._refusals >= SAME_REFUSALS:
            error_class, code = self._refusal
            return f"correlated: {self._refusals} refusals in a row, all {code or error_class}"
        return None

    def shrink(self, limits: Limits) -> None:
        """Lower what may be in progress at once as failures come near the number allowed."""
        if self._is_strict:
            for gate in limits.fleet_gates():
                if type(gate.limit) is Concurrency:
                    left = self.allowed + 1 - self.count
                    gate.most = max(1, min(gate.limit.most, left))
