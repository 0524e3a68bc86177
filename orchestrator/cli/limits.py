"""Limits and window of a run as `limit` and `resume` take them: one way to say it, one rule."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from orchestrator.cli.options import SettingOption
from orchestrator.config import NO_MOMENT, WindowSettings
from orchestrator.errors import ConfigError
from orchestrator.limits import Concurrency, Rate, Unavailable
from orchestrator.orders import Bound, NewBound, NewLimits, name_of
from orchestrator.plan import Portion
from orchestrator.preflight import window_at

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
T = TypeVar("T")

ONE_RULE = (
    "Only what is named changes: a limit takes the place of the one of its kind and scope, a rate "
    "of the one of its scope and interval. A rate of a new interval takes the place of those of "
    "its scope that are not named beside it. Whatever allows more than before needs --loosen."
)
"""What the help of every command that takes new limits says."""

_OPTIONS = (
    ("max-concurrency", "limits", "[SCOPE=]N", True, "So many at once from now on."),
    ("rate", "limits", "[SCOPE=]N/SPAN|none", True,
     "So many begun in any interval from now on; none: no rate but those given beside it."),
    ("max-unavailable", "limits", "[SCOPE=]N|N%|none", True,
     "So many clusters down at once from now on; none: any number, but for those given beside it."),
    ("max-failures", "limits", "N|N%", False, "So many failures are allowed from now on."),
    ("not-before", "window", "TIME|SPAN|none", False, "Nothing starts before this."),
    ("cutoff", "window", "TIME|SPAN|none", False, "Nothing starts after this."),
    ("deadline", "window", "TIME|SPAN|none", False,
     "Nothing starts that is expected to last beyond this."),
)  # fmt: skip


def limit_options(command: CommandT) -> CommandT:
    """Give a command an option for everything that can be changed in the middle of a run."""
    for name, section, metavar, is_many, words in reversed(_OPTIONS):
        command = click.option(
            f"--{name}", cls=SettingOption, section=section, metavar=metavar, multiple=is_many,
            default=None, help=words + (" May be given several times." if is_many else ""),
        )(command)  # fmt: skip
    return click.option("--loosen", is_flag=True, help="Allow what is wider than before.")(command)


def limits_in(given: dict[str, Any]) -> NewLimits:
    """Take what `limit_options` gave out of `given`, and read it.

    Raises:
        ConfigError: every mistake in it.
    """
    said = {name: given.pop(name.replace("-", "_")) for name, *_ in _OPTIONS}
    mistakes: list[str] = []

    def read(name: str, parse: Callable[[str], T], texts: Iterable[str]) -> tuple[T, ...]:
        found: list[T] = []
        for text in texts:
            try:
                found.append(parse(text))
            except ValueError as error:
                mistakes.append(f"--{name}: {error}")
        return tuple(found)

    rates, no_rates = _without_none(said["rate"])
    down, no_unavailable = _without_none(said["max-unavailable"])
    failures = said["max-failures"]
    wanted = NewLimits(
        limits=(
            *read("max-concurrency", Concurrency.parse, said["max-concurrency"]),
            *read("rate", _rate, rates),
        ),
        no_rates=no_rates,
        max_unavailable=read("max-unavailable", Unavailable.parse, down),
        no_unavailable=no_unavailable,
        max_failures=next(
            iter(read("max-failures", Portion.parse, [failures] if failures else [])), None
        ),
        window=_window_in({bound: said[bound.replace("_", "-")] for bound in Bound}, mistakes),
        loosen=given.pop("loosen"),
    )
    mistakes += _said_twice(wanted)
    if mistakes:
        raise ConfigError("changing limits", mistakes)
    return wanted


def _rate(text: str) -> Rate:
    rate = Rate.parse(text)
    if not math.isfinite(rate.per):
        raise ValueError(f"{text!r} has an interval that never ends; write it like 20/10m")
    return rate


def _without_none(texts: Sequence[str]) -> tuple[list[str], bool]:
    kept = [text for text in texts if text.strip().lower() != NO_MOMENT]
    return kept, len(kept) < len(texts)


def _window_in(said: dict[Bound, str | None], mistakes: list[str]) -> tuple[NewBound, ...]:
    """Read bounds of the window; spans count from now."""
    texts = {
        bound: NO_MOMENT if text and text.lower() == NO_MOMENT else text
        for bound, text in said.items()
    }
    try:
        window = window_at(WindowSettings(**texts), time.time())
    except ConfigError as error:
        mistakes += error.mistakes
        return ()
    named = [bound for bound, text in said.items() if text is not None]
    return tuple(NewBound(bound=bound, at=getattr(window, bound)) for bound in named)


def _said_twice(wanted: NewLimits) -> list[str]:
    """Name what is limited more than once in the same way: only one of the two could hold."""
    options = {
        Concurrency: "max-concurrency", Rate: "rate", Unavailable: "max-unavailable",
    }  # fmt: skip
    seen: dict[tuple[object, ...], str] = {}
    mistakes = []
    for limit in (*wanted.limits, *wanted.max_unavailable):
        name = name_of(limit)
        if name in seen:
            option = options[type(limit)]
            mistakes.append(f"--{option}: {seen[name]} and {limit} limit the same; say one")
        seen[name] = str(limit)
    return mistakes
