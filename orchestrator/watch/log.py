"""Events → log lines: one full line for each thing that happened, under the event's own name.

Rules:

- The name of a line is the event's `kind`, a constant; every value stands in a key of its own.
- `info` is for operators, `debug` for us. What harmed a cluster, or may have, is a warning.
- A log that cannot be written never stops a run: lines are lost, and the next line that can be
  written says how many.
- Secrets never come here. Should one do, what the process holds as a secret is blotted out, and
  keys with such a name and values of such a look are struck out; that is the second line of
  defence, not the first.
"""

import json
import logging
import os
import re
import weakref
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from orchestrator.campaign import Campaign
from orchestrator.errors import UsageError
from orchestrator.model import (
    AccountRefused,
    Answer,
    AnswerArrivedLate,
    ErrorInfo,
    Event,
    GateClosed,
    LimitsChanged,
    OrderRefused,
    Outcome,
    RestartAnswered,
    RestartBegan,
    RestartDisproved,
    RestartRequested,
    RestartUnsettled,
    RestartWithdrawn,
    RunAborted,
    RunContinued,
    RunFinished,
    RunnerStarted,
    RunPaused,
    RunResumed,
    RunStopping,
    TargetEnded,
    TargetEvent,
    TargetRelapsed,
    TargetResolved,
    Verdict,
    WaveFinished,
    WaveOpened,
    WaveSoaking,
    WindowChanged,
)
from orchestrator.plan import Plan
from orchestrator.secret import blot
from orchestrator.span import format_seconds

LEVELS = ("debug", "info", "warning", "error")
"""What `open_log` takes as a level, from everything to hardly anything."""

STRUCK_OUT = "[struck out]"
"""What stands in place of a secret."""

Facts = dict[str, Any]


# --------------------------------------------------------------------------------- opening a log


def open_log(
    *,
    format_: Literal["console", "json"],
    file: Path | None,
    level: str,
    stream: TextIO,
) -> FilteringBoundLogger:
    """Return a logger with processors of its own; nothing global is configured.

    Args:
        format_: lines for people, or one JSON object a line.
        file: where lines are appended; None means to `stream`.
        level: the least level that is written, one of `LEVELS`.
        stream: takes the lines when there is no file.

    Raises:
        UsageError: the level is not known, or the file cannot be opened.
    """
    if level not in LEVELS:
        raise UsageError(f"opening the log: {level!r} is no level; use one of {', '.join(LEVELS)}")
    out: _Lines = _StreamLines(stream) if file is None else _FileLines(_open(file))
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        out.own_up,
        _Render(_renderer(format_, stream if file is None else None)),
    ]
    logger = structlog.wrap_logger(
        out,
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    # A bound logger is made once and kept; the proxy would make one for each line.
    bound: FilteringBoundLogger = logger.bind()
    return bound


def _open(file: Path) -> int:
    try:
        return os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise UsageError(
            f"opening the log {file}: {error.strerror}; name a file in a folder that can be written"
        ) from error


def _wants_colours(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class _Lines:
    """Takes finished lines; what it cannot write it counts."""

    def __init__(self) -> None:
        self._lost = 0

    def msg(self, line: str) -> None:
        """Write one line; never raises."""
        try:
            self.write(line + "\n")
        except (OSError, ValueError):
            # The disk is full, the terminal is gone, the stream is closed: the run goes on.
            self._lost += 1
        else:
            self._lost = 0

    debug = info = warning = error = critical = exception = msg

    def own_up(
        self, _logger: Any, _method: str, facts: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Say in the next line how many were lost before it."""
        if self._lost:
            facts["lines_lost_before"] = self._lost
        return facts

    def write(self, text: str) -> None:
        """Write `text` whole, or raise OSError or ValueError."""
        raise NotImplementedError


class _StreamLines(_Lines):
    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            self._stream.write(text.encode("ascii", "backslashreplace").decode("ascii"))
        self._stream.flush()


class _FileLines(_Lines):
    """Appends each line with one system call, so that several runs may share a file."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._is_torn = False
        weakref.finalize(self, os.close, descriptor)

    def write(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        if self._is_torn:
            data = b"\n" + data
        written = os.write(self._descriptor, data)
        self._is_torn = written < len(data)
        if self._is_torn:
            raise OSError("the line was written in part only")


# -------------------------------------------------------------------------------------- rendering


class _Renderer(Protocol):
    def __call__(self, logger: Any, method: str, facts: MutableMapping[str, Any], /) -> str: ...


class _Render:
    """Makes the line; if it looks as if it held a secret, makes it again without.

    Looking for hints in the finished line is cheap, looking closely at each value is not.
    """

    def __init__(self, renderer: _Renderer) -> None:
        self._renderer = renderer

    def __call__(self, logger: Any, method: str, facts: MutableMapping[str, Any]) -> str:
        if not any(_may_be_secret(key, value) for key, value in facts.items()):
            line = self._renderer(logger, method, dict(facts))
            lowered = line.lower()
            if not any(map(lowered.__contains__, _HINTS)):
                return blot(line)
        return blot(self._renderer(logger, method, _strike_out(facts)))


def _renderer(format_: str, stream: TextIO | None) -> _Renderer:
    if format_ == "json":
        return _json_line
    return _coloured_line if stream is not None and _wants_colours(stream) else _console_line


_ENCODE = json.JSONEncoder(default=str, allow_nan=False, separators=(",", ":")).encode


def _json_line(_logger: Any, _method: str, facts: MutableMapping[str, Any]) -> str:
    try:
        return _ENCODE(facts)
    except (TypeError, ValueError):
        # A key that is no text, infinity, a loop: JSON has no word for it, a log line must.
        return _ENCODE({key: repr(value) for key, value in facts.items()})


def _console_line(_logger: Any, _method: str, facts: MutableMapping[str, Any]) -> str:
    """Write a line for people: when, how grave, what, and the facts in the order they came."""
    exception = facts.pop("exception", None)
    head = f"{facts.pop('timestamp')} [{facts.pop('level'):7}] {facts.pop('event'):18}"
    line = " ".join([head, *(f"{key}={_value(value)}" for key, value in facts.items())])
    if exception is None:
        return line
    return "\n".join([line, *(_escaped(part) for part in str(exception).split("\n"))])


def _coloured_line(logger: Any, method: str, facts: MutableMapping[str, Any]) -> str:
    colour = _COLOURS.get(facts["level"], "")
    return f"{colour}{_console_line(logger, method, facts)}\x1b[0m"


_COLOURS = {"debug": "\x1b[2m", "warning": "\x1b[33m", "error": "\x1b[31m"}


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    if not text.isprintable():
        text = _escaped(text)
    is_bare = not isinstance(value, str) or (text and " " not in text and '"' not in text)
    return text if is_bare else '"' + text.replace('"', '\\"') + '"'


def _escaped(text: str) -> str:
    """Write what would steer a terminal as a backslash sequence."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


# ----------------------------------------------------------------------------------- second line

_SECRET_KEY = re.compile(
    r"token|secret|passw|authorization|credential|cookie|signature|access_?key|^(ak|sk)$",
    re.IGNORECASE,
)

_HINTS = (
    "hmac-sha256", "signature=", "bearer ", "authorization", "token", "secret", "passw",
    "accesskey", "access_key", "eyj", "gaaaa", "mii", "@",
)  # fmt: skip
"""What a line has in it, in lower case, if any of `_SECRET_VALUES` but the last is in it."""

_SECRET_VALUES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(SDK-HMAC-SHA256\s).+",
        r"(\bauthorization[\"']?\s*[:=]\s*).+",
        r"(\bsignature=)\w+",
        r"(\bbearer\s+)\S+",
        r"([\w-]*(?:token|secret|passw|access_?key)[\w-]*[\"']?\s*[:=]\s*[\"']?)[^\s\"',;&}]+",
        r"(://[^\s/:@]*:)[^\s/@]+(?=@)",
        r"()\beyJ[\w-]{10,}\.[\w.-]+",
        r"()\bgAAAA[\w=-]{20,}",
        r"()\bMII[\w+/=-]{40,}",
    )
)
"""Signatures, headers and fields by name, passwords in addresses, tokens by their first letters."""

_KEY_SHAPE = re.compile(
    r"(?<![A-Za-z0-9])(?=[a-z0-9]*[A-Z])(?=[A-Z0-9]*[a-z])[A-Za-z0-9]{40}(?![A-Za-z0-9])"
)
_KEY_LENGTH = 40
"""A secret key: forty letters and digits of both cases. Ids of the service have one case only."""


def _may_be_secret(key: str, value: Any) -> bool:
    """Return whether to look closer at a value; most are told at once by their key and length."""
    if _is_secret_key(key):
        return True
    if type(value) is str:
        return len(value) >= _KEY_LENGTH and _KEY_SHAPE.search(value) is not None
    if type(value) is list:
        return any(_may_be_secret(key, inner) for inner in value)
    return not (value is None or isinstance(value, int | float))


@lru_cache(maxsize=1024)
def _is_secret_key(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _strike_out(facts: Mapping[Any, Any]) -> Facts:
    return {
        key: STRUCK_OUT if _is_secret_key(str(key)) else _strike_out_value(value)
        for key, value in facts.items()
    }


def _strike_out_value(value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            return _strike_out(value)
        case list() | tuple() | set() | frozenset():
            return [_strike_out_value(inner) for inner in value]
        case _:
            return _strike_out_text(str(value))


def _strike_out_text(text: str) -> str:
    for pattern in _SECRET_VALUES:
        text = pattern.sub(rf"\g<1>{STRUCK_OUT}", text)
    return _KEY_SHAPE.sub(STRUCK_OUT, text)


# ------------------------------------------------------------------------------------ the watcher


@dataclass(slots=True)
class _Story:
    """What this runner saw of one target, for the one full line at its end."""

    granted_at: float
    request_id: str
    job_ids: list[str] = field(default_factory=list)


class LogWatcher:
    """Writes one line for each event and notice of one run; every line carries `run`."""

    def __init__(self, log: FilteringBoundLogger, *, run_id: str, plan: Plan) -> None:
        """Bind the run.

        Args:
            log: where to write.
            run_id: the run's id.
            plan: says which target and wave an event means.
        """
        self._log: FilteringBoundLogger = log.bind(run=run_id)
        self._plan = plan
        self._stories: dict[int, _Story] = {}

    def saw(self, event: Event) -> None:
        """Write the line of an event."""
        # The facts are taken in any case: the line at a target's end tells of its earlier events.
        facts = self._facts(event)
        match _level(event):
            case "debug":
                self._log.debug(event.kind, **facts)
            case "info":
                self._log.info(event.kind, **facts)
            case _:
                self._log.warning(event.kind, **facts)

    def noticed(self, notice: str, facts: Mapping[str, object]) -> None:
        """Write the line of something that is no part of the run's history."""
        # The line's own name, and its level, are not a notice's to give.
        safe = {f"{k}_" if k in {"event", "level"} else k: v for k, v in facts.items()}
        match notice:
            case "journal.lost":
                self._log.error(notice, **safe)
            case "look.failed" | "watcher.failed":
                self._log.warning(notice, **safe)
            case _:
                self._log.info(notice, **safe)

    def turned(self, campaign: Campaign, now: float) -> None:
        """Have nothing to say about a turn: what matters was an event."""

    def _facts(self, event: Event) -> Facts:
        match event:
            case TargetEvent():
                return self._target_facts(event) | self._told(event)
            case WaveOpened() | WaveSoaking() | WaveFinished():
                wave = self._plan.waves[event.wave]
                facts: Facts = {"wave": wave.name, "wave_number": event.wave + 1}
                facts["wave_targets"] = len(wave.targets)
                return facts | ({"soak_s": wave.soak} if isinstance(event, WaveSoaking) else {})
            case _:
                return _run_facts(event)

    def _target_facts(self, event: TargetEvent) -> Facts:
        target = self._plan.targets[event.target]
        facts: Facts = {"project": target.project_id, "cluster": target.cluster_id}
        if target.name is not None:
            facts["name"] = target.name
        return facts

    def _told(self, event: TargetEvent) -> Facts:
        story = self._stories.get(event.target)
        match event:
            case RestartRequested():
                job_ids = story.job_ids if story is not None else []
                self._stories[event.target] = _Story(event.at, event.request_id, job_ids)
                return {
                    "attempt": event.attempt,
                    "request_id": event.request_id,
                    "baseline": event.baseline.describe(),
                }
            case RestartAnswered() | AnswerArrivedLate():
                if story is not None:
                    story.job_ids.extend(event.answer.job_ids)
                return {"attempt": event.attempt, **_answer_facts(event.answer)}
            case TargetEnded():
                self._stories.pop(event.target, None)
                return _end_facts(event, story)
            case TargetRelapsed():
                return {"reason": event.reason, **_error_facts(event.error)}
            case _:
                return _small_facts(event)


_ANSWER_LEVELS = {
    Verdict.ACCEPTED: "debug",
    Verdict.REFUSED: "warning",
    Verdict.UNAUTHORIZED: "warning",
}
_OUTCOME_LEVELS = {
    Outcome.FAILED: "warning",
    Outcome.UNKNOWN: "warning",
    Outcome.REFUSED: "warning",
}


def _level(event: Event) -> str:
    match event:
        case TargetRelapsed() | AccountRefused() | GateClosed() | OrderRefused():
            return "warning"
        case TargetEnded():
            return _OUTCOME_LEVELS.get(event.outcome, "info")
        case TargetResolved() | AnswerArrivedLate():
            return "info"
        case RestartAnswered():
            return _ANSWER_LEVELS.get(event.answer.verdict, "info")
        case TargetEvent():
            return "debug"
        case _:
            return "info"


def _run_facts(event: Event) -> Facts:
    names = _RUN_FACTS.get(type(event), ())
    return {name: _plain(getattr(event, name)) for name in names}


_RUN_FACTS: Mapping[type[Event], Sequence[str]] = {
    RunnerStarted: ("owner", "host", "pid", "version"),
    RunResumed: ("by", "again"),
    LimitsChanged: ("limits", "max_unavailable", "max_failures", "by", "is_looser", "reason"),
    RunPaused: ("by", "reason"),
    RunContinued: ("by", "reason"),
    OrderRefused: ("by", "reason"),
    RunStopping: ("reason", "by"),
    RunAborted: ("by", "reason"),
    RunFinished: ("outcome", "exit_code"),
    AccountRefused: ("account", "reason"),
    GateClosed: ("reason",),
    WindowChanged: ("not_before", "cutoff", "deadline", "by", "is_looser", "reason"),
}


def _plain(value: Any) -> Any:
    return [str(inner) for inner in value] if isinstance(value, tuple) else value


def _small_facts(event: TargetEvent) -> Facts:
    match event:
        case RestartWithdrawn():
            return {"attempt": event.attempt, "reason": event.reason}
        case RestartDisproved():
            return {"attempt": event.attempt}
        case RestartBegan() | RestartUnsettled():
            return {"seen": event.seen}
        case TargetResolved():
            return {"outcome": event.outcome.value, "by": event.by, "reason": event.reason}
        case _:
            return {}


def _answer_facts(answer: Answer) -> Facts:
    facts: Facts = {"verdict": answer.verdict.value, "job_ids": list(answer.job_ids)}
    facts["took_s"] = round(answer.answered_at - answer.sent_at, 3)
    if answer.retry_after is not None:
        facts["retry_after_s"] = answer.retry_after
    if answer.throttle is not None:
        facts["limit"] = f"{answer.throttle.calls}/{format_seconds(answer.throttle.per)}"
    facts |= _error_facts(answer.error)
    if answer.status is not None:
        facts["status"] = answer.status
    if answer.request_id is not None:
        facts["request_id"] = answer.request_id
    return facts


def _end_facts(event: TargetEnded, story: _Story | None) -> Facts:
    facts: Facts = {"outcome": event.outcome.value, "reason": event.reason}
    if story is not None:
        facts["took_s"] = round(event.at - story.granted_at, 3)
        facts["job_ids"] = story.job_ids
        facts["request_id"] = story.request_id
    facts |= _error_facts(event.error)
    if event.slot_until is not None:
        facts["slot_kept_s"] = round(event.slot_until - event.at, 3)
    if event.asked:
        facts["asked"] = True
    return facts


def _error_facts(error: ErrorInfo | None) -> Facts:
    if error is None:
        return {}
    facts: Facts = {
        "error_class": error.error_class,
        "error_code": error.code,
        "error": error.message,
        "status": error.status,
        "request_id": error.request_id,
    }
    return {key: value for key, value in facts.items() if value is not None}
