"""Everything that goes wrong on purpose, and the exit code it ends in.

    OrchestratorError                 1   base; says what was done, what was found, what to do
    ├── UsageError                    2   wrong use; nothing was sent
    │   ├── FleetError                2   mistakes in fleet files, all of them at once
    │   ├── ConfigError               2   mistakes in settings, all of them at once
    │   ├── UnfitError                2   kinds of restart that do not fit, all of them at once
    │   └── PlanError                 2   a plan that cannot be run as asked
    ├── UnavailableError              4   not possible now; nothing was lost
    │   ├── JournalError              4   the journal cannot be read or written
    │   └── LeaseError                4   another runner works on this run
    ├── HeldBackError                 1   a restart was kept from leaving at the last moment
    ├── CloudError                    1   a look at the service did not succeed
    │   ├── GoneError                 1   the service does not know the cluster, or not for us
    │   └── IncompleteError           1   a list lacks clusters that the service counts
    ├── NothingFoundError             1   what was looked for is not there; nothing was written
    └── ImpossibleEventError         70   a bug of ours: an event that the rules do not allow

A restart that is refused or lost is not an exception: it is an answer (`model.Answer`).
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """What the process tells the shell; the meaning of each is a contract with scripts."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    STOPPED = 3
    UNAVAILABLE = 4
    BUG = 70
    ABORTED = 130


class OrchestratorError(Exception):
    """Base of all errors raised on purpose; its text is meant for the operator."""

    exit_code = ExitCode.SOME_FAILED


class UsageError(OrchestratorError):
    """The command cannot be understood or carried out as it was given; nothing was sent."""

    exit_code = ExitCode.USAGE


class MistakesError(UsageError):
    """Several mistakes found in one go; each is one line that says where, what and what to do."""

    def __init__(self, heading: str, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join((heading, *(f"  {mistake}" for mistake in self.mistakes))))


class FleetError(MistakesError):
    """The fleet cannot be read whole; names file, line and field of every mistake."""


class ConfigError(MistakesError):
    """Settings that are unknown, unreadable or out of range; names each with its source."""


class UnfitError(MistakesError):
    """Kinds of restart that do not fit their clusters; names each. Nothing was restarted."""


class PlanError(UsageError):
    """The fleet and the policy do not make a plan that could be run."""


class UnavailableError(OrchestratorError):
    """Not possible now: somebody or something is in the way; nothing was lost."""

    exit_code = ExitCode.UNAVAILABLE


class JournalError(UnavailableError):
    """The journal cannot be opened, read or written; nothing new may start without it."""


class LeaseError(UnavailableError):
    """Another runner works on this run, or took it over."""


class HeldBackError(OrchestratorError):
    """A restart was not sent, because right before it left it was not allowed any more."""


class CloudError(OrchestratorError):
    """A look at the service gave no usable answer; looking again later may.

    Args:
        message: what was being done and what came back, without headers or tokens.
        status: the HTTP status, where there was an answer.
        code: the service's own error code, where it gave one.
        request_id: the service's name for the call, to quote in a support ticket.
        retry_after: seconds that the service asked us to wait, where it did.
        error_class: our name for what can be done about it, as in `model.ErrorInfo`.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        error_class: str = "unavailable",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after
        self.error_class = error_class


class GoneError(CloudError):
    """The service says that there is no such cluster, or none that we may see."""


class IncompleteError(CloudError):
    """A list stayed shorter than the service says it is; `seen` is all that was in it, by id.

    Its total may count clusters that we may not see. Whoever asks for certain clusters and finds
    each of them in `seen` lacks nothing.
    """

    def __init__(self, message: str, seen: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.seen = seen

    def lacks(self, cluster_ids: Iterable[str]) -> bool:
        """Return whether any of these clusters was not in the list."""
        return any(cluster_id not in self.seen for cluster_id in cluster_ids)


class NothingFoundError(OrchestratorError):
    """There is nothing of what was asked for, so nothing was written."""


class ImpossibleEventError(OrchestratorError):
    """An event came in a phase that does not allow it: a bug of ours, never the operator's."""

    exit_code = ExitCode.BUG
