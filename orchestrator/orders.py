"""What somebody at another terminal may ask of a live run, and what the run makes of it.

Rules:

- An order is in the journal before anybody obeys it, under the next number of its run.
- A runner turns each order into events of the history, in the order of their numbers, and every
  event carries the number. So an order is obeyed once, whoever dies in between: what is pending has
  a number after the last one in the history.
- Obeying never fails. What cannot be obeyed becomes `order.refused`, with the reason.
- New limits take the places of those of the same name: their kind and scope, and for a rate its
  interval. A rate whose interval is new takes the place of those of its scope that are not named.
  Whatever is not named stays. This holds for `limit` and for `resume`.
- What allows more than before has to be meant. A window that was over, or whose run has stopped,
  holds nobody any more: another one is no wider.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Self, TypeVar

from orchestrator.limits import Limit, Rate, Unavailable
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
from orchestrator.plan import Policy, Portion, Window, changed_policy, loosened, window_of


class OrderKind(StrEnum):
    """What can be asked of a live run; most are called as the command that gives them."""

    PAUSE = "pause"
    CONTINUE = "continue"
    """Given by `resume`, which on a run that nobody works on does something else."""
    DRAIN = "drain"
    ABORT = "abort"
    LIMIT = "limit"

    @property
    def verb(self) -> str:
        """The command that gives it."""
        return "resume" if self is OrderKind.CONTINUE else self.value


class Bound(StrEnum):
    """A bound of the window, by the name of its field."""

    NOT_BEFORE = "not_before"
    CUTOFF = "cutoff"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBound:
    """Where a bound of the window is from now on."""

    bound: Bound
    at: float | None = None
    """Seconds of the wall clock since 1970; None for no such bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLimits:
    """Limits as somebody wants them from now on; only what is named changes."""

    limits: tuple[Limit, ...] = ()
    """Each takes the place of what has its name."""
    no_rates: bool = False
    """No rate of any scope holds any more, but for those in `limits`."""
    max_failures: Portion | None = None
    max_unavailable: tuple[Unavailable, ...] = ()
    no_unavailable: bool = False
    """As many may be down as are, but for what `max_unavailable` says."""
    window: tuple[NewBound, ...] = ()
    loosen: bool = False
    """Whether it is meant if they allow more than those before."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        return self == NewLimits(loosen=self.loosen)

    @property
    def is_of_window_only(self) -> bool:
        """Whether nothing but the window changes."""
        return bool(self.window) and replace(self, window=()).is_empty

    def of(self, policy: Policy) -> Policy:
        """Return the policy with these limits in it."""
        kept = [one for one in policy.limits if not (self.no_rates and isinstance(one, Rate))]
        down = () if self.no_unavailable else policy.max_unavailable
        moved = {bound.bound.value: bound.at for bound in self.window}
        return replace(
            policy,
            limits=_in_their_places(kept, self.limits),
            max_unavailable=_in_their_places(down, self.max_unavailable),
            max_failures=policy.max_failures if self.max_failures is None else self.max_failures,
            window=replace(policy.window, **moved),
        )


LimitT = TypeVar("LimitT", bound=Limit)


def _in_their_places(limits: Sequence[LimitT], named: Sequence[LimitT]) -> tuple[LimitT, ...]:
    """Return the limits with those that are named in the places of what they replace."""
    known = {name_of(limit) for limit in limits}
    heirs = {name_of(limit): [limit] for limit in named}
    strangers = [limit for limit in named if name_of(limit) not in known]
    found: list[LimitT] = []
    for limit in limits:
        kind = (type(limit), limit.scope)
        found += (
            heirs.get(name_of(limit))
            or [one for one in strangers if (type(one), one.scope) == kind]
            or [limit]
        )
    return tuple(dict.fromkeys((*found, *named)))


def name_of(limit: Limit) -> tuple[object, ...]:
    """Return what a limit is known by: of those with the same name only one can hold."""
    per = limit.per if isinstance(limit, Rate) else None
    return type(limit), limit.scope, per


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
        self.wall_offset = 0.0
        """What to add to a steady moment to get the wall clock of whoever runs, or ran last."""
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
            case RunnerStarted():
                self.is_over = False
                self.wall_offset = event.wall_offset
            case RunFinished():
                self.is_over = True
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
        objection = self._objection(order, targets, now)
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
                wanted = order.wanted or NewLimits()
                return self.changes(wanted, targets, at=now, by=by, reason=reason, order=number)

    def _objection(self, order: Order, targets: int, now: float) -> str | None:
        """Say why the order cannot be obeyed, if so."""
        if self.is_over or self.aborted:
            over = "the run was over before its runner took the order"
            return over if self.is_over else "the run is being aborted already"
        match order.kind:
            case OrderKind.ABORT:
                return None
            case OrderKind.CONTINUE if self.paused is None:
                return "the run is not paused, and goes on already"
            case _ if self.stopping is not None:
                after = (
                    "; nothing more starts, and `orchestrator resume` takes other limits once it "
                    "has ended"
                )
                more = after if order.kind is OrderKind.LIMIT else ""
                return f"the run is stopping already: {self.stopping.reason}{more}"
            case OrderKind.LIMIT:
                wanted = order.wanted or NewLimits()
                return self.objection_to(wanted, targets, now)
            case _:
                return None

    def objection_to(self, wanted: NewLimits, targets: int, now: float) -> str | None:
        """Say why the run does not get these limits, if so."""
        new = wanted.of(self.policy)
        looser = loosened(new, self._held_at(now), targets)
        if looser and not wanted.loosen:
            return (
                f"that allows more than what holds now: {', '.join(looser)}; "
                "give --loosen too if it is meant, it is recorded"
            )
        opens_at, ends = new.window.not_before, (new.window.cutoff, new.window.deadline)
        if wanted.window and any((at or math.inf) <= (opens_at or -math.inf) for at in ends):
            return f"nothing could start in this window: {new.window}"
        return None

    def _held_at(self, now: float) -> Policy:
        """Return what may be loosened only on purpose: all but a window that is over."""
        if self.stopping is not None or self.is_over:
            return replace(self.policy, window=Window())
        bounds, wall = asdict(self.policy.window), now + self.wall_offset
        ahead = {name: at for name, at in bounds.items() if at is not None and at > wall}
        return replace(self.policy, window=Window(**ahead))

    def changes(
        self,
        wanted: NewLimits,
        targets: int,
        *,
        at: float,
        by: str,
        reason: str | None = None,
        order: int | None = None,
    ) -> list[Event]:
        """Return the events that give the run these limits."""
        old, new = self._held_at(at), wanted.of(self.policy)
        events: list[Event] = []
        if not wanted.is_of_window_only:
            changed = LimitsChanged(
                at=at,
                limits=tuple(map(str, new.limits)),
                max_failures=str(new.max_failures),
                by=by,
                is_looser=bool(loosened(replace(new, window=old.window), old, targets)),
                reason=reason,
                order=order,
                max_unavailable=_said_anew(new.max_unavailable, old.max_unavailable),
            )
            events.append(changed)
        if wanted.window:
            is_looser = bool(loosened(new, replace(new, window=old.window), targets))
            events.append(
                WindowChanged(
                    at=at, by=by, reason=reason, order=order, is_looser=is_looser,
                    **asdict(new.window),
                )
            )  # fmt: skip
        return events


def _said_anew(new: Sequence[Limit], old: Sequence[Limit]) -> tuple[str, ...] | None:
    return None if new == old else tuple(map(str, new))


def order_of(event: Event) -> int | None:
    """Return the number of the order that an event obeys, if it obeys one."""
    match event:
        case (
            RunPaused(order=number)
            | RunContinued(order=number)
            | RunStopping(order=number)
            | RunAborted(order=number)
            | LimitsChanged(order=number)
            | WindowChanged(order=number)
            | OrderRefused(order=number)
        ):
            return number
        case _:
            return None


def change_words(event: Event) -> str | None:
    """Name all that an event gives a run: `10, 20/600s; failures allowed 0`, or the window."""
    match event:
        case LimitsChanged():
            down = event.max_unavailable
            parts = [
                ", ".join(event.limits) or "no limit",
                f"failures allowed {event.max_failures}",
            ]
            if down is not None:
                parts.insert(1, f"{', '.join(down) or 'any number'} unavailable")
            return "; ".join(parts)
        case WindowChanged():
            return f"window {window_of(event)}"
        case _:
            return None


def _stopping(verb: str, order: Order, now: float) -> RunStopping:
    why = f": {order.reason}" if order.reason else ""
    reason = f"{verb} by {order.by}{why}"
    return RunStopping(at=now, reason=reason, by=order.by, order=order.number)
