"""The credentials of a run: which of them were refused, and what their answers teach.

Rules:

- One refusal is enough: nothing starts with that credential any more, lest it be locked; the others
  go on. Who takes up the run brings credentials of their own, so that all are believed again.
- Who was too fast, or came at a bad time, holds back everybody of the same account.
"""

from collections.abc import Collection, Container, Iterator

from orchestrator.model import UNAVAILABLE, AccountRefused, Answer, ErrorInfo
from orchestrator.pace import Pace, Paces


class Accounts:
    """The accounts that the projects of a run belong to.

    Args:
        paces: how fast each may be asked, and which project belongs to which.
        projects: all projects of the run.
    """

    def __init__(self, paces: Paces, projects: Collection[str]) -> None:
        self._paces = paces
        self._projects = projects
        self._refused: dict[str, str] = {}
        """Why each credential was refused that was."""

    def is_refused(self, project_id: str) -> bool:
        """Whether the credential of a project was refused."""
        return bool(self._refused) and self._paces.account_of(project_id) in self._refused

    def refused_projects(self) -> Iterator[str]:
        """Yield the projects whose credential was refused."""
        return self._projects_of(self._refused)

    def find_refused(
        self, project_id: str, error: ErrorInfo | None, at: float
    ) -> AccountRefused | None:
        """Return what has to be recorded of a credential that was not accepted, if it is news."""
        account = self._paces.account_of(project_id)
        if account in self._refused:
            return None
        reason = error.message if error is not None else "the service did not accept it"
        return AccountRefused(at=at, account=account, reason=reason)

    def refuse(self, event: AccountRefused) -> Collection[str]:
        """Use a credential no more; return its projects."""
        self._refused[event.account] = event.reason
        return list(self._projects_of((event.account,)))

    def believe(self) -> Collection[str]:
        """Believe in every credential again; return the projects of those that were refused."""
        projects = list(self.refused_projects())
        self._refused.clear()
        return projects

    def why_stop(self) -> str:
        """Say which credentials were refused, for a run that nobody else is left in."""
        return f"credential refused: {'; '.join(f'{n}: {why}' for n, why in self._refused.items())}"

    def slow_down(
        self, project_id: str, answer: Answer, *, at: float, asked_at: float, request_id: str
    ) -> Pace:
        """Hold back everybody of an account that was too fast, or that cannot be asked now."""
        # Callers that were throttled together must not come back together.
        jitter = int(request_id[:4], 16) / 0xFFFF
        pace, wait = self._paces.of(project_id), answer.retry_after
        if answer.error is not None and answer.error.error_class == UNAVAILABLE:
            pace.pause(at, asked_at=asked_at, wait=wait, jitter=jitter)
        else:
            pace.slow_down(at, asked_at=asked_at, wait=wait, named=answer.throttle, jitter=jitter)
        return pace

    def _projects_of(self, accounts: Container[str]) -> Iterator[str]:
        for project_id in self._projects:
            if self._paces.account_of(project_id) in accounts:
                yield project_id
