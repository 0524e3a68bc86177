"""What somebody at another terminal may ask of a live run, and what the run makes of it.

Rules:

- An order is in the journal before anybody obeys it, under the next number of its run.
- A runner turns each order into events of the history, in the order of their numbers, and every
  event carries the number. So an order is obeyed once, whoever dies in between: what is pending has
  a number after the last one in the history.
- Obeying never fails. What cannot be obeyed becomes `order.refused`, with the reason.
- New limits take the places of those of the same kind and scope; what is not named stays.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from orchestrator.limits import Limit, Rate
from orchestrator.model import (
    Event,
    LimitsChanged,
    OrderRefused,
    RunAborted,
    RunContinued,
    RunFinished,
    RunnerStarted,
    RunPaused,
    RunResumed,
    RunStopping,
    WindowChanged,
)
from orchestrator.plan import Policy, Portion, changed_policy, is_looser


class OrderKind(StrEnum):
    """What can be asked of a live run; most are called as the command that gives them."""

    PAUSE = "pause"
    CONTINUE = "continue"
    """Given by `resume`, which on a run that nobody works on does something else."""
    DRAIN = "drain"
    ABORT = "abort"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLimits:
    """Limits as somebody wants them from now on; only what is named changes."""

    limits: tuple[Limit, ...] = ()
    """Each takes the place of the one of its kind and scope."""
    no_rates: bool = False
    """No rate of any scope holds any more, but for those in `limits`."""
    max_failures: Portion | None = None
    loosen: bool = False
    """Whether it is meant if they allow more than those before."""

    def of(self, policy: Policy) -> Policy:
        """Return the policy with these limits in it."""
        named = {(type(limit), limit.scope): limit for limit in self.limits}
        limits = [
            named.pop((type(limit), limit.scope), limit)
            for limit in policy.limits
            if (type(limit), limit.scope) in named
            or not (self.no_rates and isinstance(limit, Rate))
        ]
        failures = policy.max_failures if self.max_failures is None else self.max_failures
        return replace(policy, limits=(*limits, *named.values()), max_failures=failures)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Something that was asked of a run from another terminal; the journal gives its number."""

    at: float
    by: str
    kind: OrderKind
    reason: str | None = None
    wanted: NewLimits | None = None
    """For `limit`."""
    number: int = 0


class Standing:
    """How a run stands with those who steer it; tell it every event of the run."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.paused: RunPaused | None = None
        self.stopping: RunStopping | None = None
        self.aborted = False
        self.is_over = False
        """Whether its runner came to the end of it, and none has taken it up again."""
        self.asked_before: int | None = None
        """The wave for which somebody's word was asked last."""
        self.last_order = 0
        """The number of the last order that the history knows."""

    @classmethod
    def after(cls, policy: Policy, history: Iterable[Event]) -> Self:
        """Return how a run stands after these events; `policy` is that of its plan."""
        standing = cls(policy)
        for event in history:
            standing.take(event)
        return standing

    def take(self, event: Event) -> None:
        """Take note of the next event."""
        match event:
            case RunPaused():
                self.paused = event
                self.asked_before = self.asked_before if event.wave is None else event.wave
            case RunContinued():
                self.paused = None
            case RunStopping():
                self.stopping = self.stopping or event
            case RunAborted():
                self.aborted = True
            case RunResumed():
                self.paused = self.stopping = None
                self.aborted = False
            case RunFinished() | RunnerStarted():
                self.is_over = isinstance(event, RunFinished)
            case LimitsChanged() | WindowChanged():
                self.policy = changed_policy(self.policy, event)
            case _:
                pass
        self.last_order = max(self.last_order, order_of(event) or 0)

    def obey_all(self, orders: Iterable[Order], targets: int, now: float) -> Sequence[Event]:
        """Return the events that orders come to one after the other, and take them."""
        events: list[Event] = []
        for order in orders:
            for event in self.obey(order, targets, now):
                self.take(event)
                events.append(event)
        return events

    def obey(self, order: Order, targets: int, now: float) -> Sequence[Event]:
        """Return the events that an order comes to, for a fleet of so many targets."""
        objection = self._objection(order, targets)
        if objection is not None:
            return [OrderRefused(at=now, by=order.by, reason=objection, order=order.number)]
        by, reason, number = order.by, order.reason, order.number
        match order.kind:
            case OrderKind.PAUSE:
                return [RunPaused(at=now, by=by, reason=reason, order=number)]
            case OrderKind.CONTINUE:
                return [RunContinued(at=now, by=by, reason=reason, order=number)]
            case OrderKind.DRAIN:
                return [_stopping("drained", order, now)]
            case OrderKind.ABORT:
                aborted = RunAborted(at=now, by=by, reason=reason, order=number)
                return [aborted] if self.stopping else [_stopping("aborted", order, now), aborted]
            case OrderKind.LIMIT:
                return [self._changed(order, targets, now)]

    def _objection(self, order: Order, targets: int) -> str | None:
        """Say why the order cannot be obeyed, if so."""
        if self.is_over or self.aborted:
            over = "the run was over before its runner took the order"
            return over if self.is_over else "the run is being aborted already"
        match order.kind:
            case OrderKind.ABORT:
                return None
            case OrderKind.CONTINUE if self.paused is None:
                return "the run is not paused"
            case OrderKind.LIMIT:
                return self._objection_to_limits(order.wanted or NewLimits(), targets)
            case _ if self.stopping is not None:
                return f"the run is stopping already: {self.stopping.reason}"
            case _:
                return None

    def _objection_to_limits(self, wanted: NewLimits, targets: int) -> str | None:
        if is_looser(wanted.of(self.policy), self.policy, targets) and not wanted.loosen:
            return (
                f"these limits allow more than those of now, {limits_words(self.policy)}; "
                "give --loosen too if that is meant, it is recorded"
            )
        return None

    def _changed(self, order: Order, targets: int, now: float) -> LimitsChanged:
        new = (order.wanted or NewLimits()).of(self.policy)
        return LimitsChanged(
            at=now,
            limits=tuple(str(limit) for limit in new.limits),
            max_failures=str(new.max_failures),
            by=order.by,
            is_looser=is_looser(new, self.policy, targets),
            reason=order.reason,
            order=order.number,
        )


def order_of(event: Event) -> int | None:
    """Return the number of the order that an event obeys, if it obeys one."""
    match event:
        case (
            RunPaused(order=number)
            | RunContinued(order=number)
            | RunStopping(order=number)
            | RunAborted(order=number)
            | LimitsChanged(order=number)
            | OrderRefused(order=number)
        ):
            return number
        case _:
            return None


def limits_words(policy: Policy) -> str:
    """Name what a policy allows: `10, 20/600s, failures 0`."""
    limits = ", ".join(str(limit) for limit in policy.limits)
    return f"{limits or 'no limit'}, failures {policy.max_failures}"


def _stopping(verb: str, order: Order, now: float) -> RunStopping:
    why = f": {order.reason}" if order.reason else ""
    reason = f"{verb} by {order.by}{why}"
    return RunStopping(at=now, reason=reason, by=order.by, order=order.number)
