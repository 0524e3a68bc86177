"""What the operator sees while a run goes on: a live picture on a terminal, plain lines elsewhere.

Rules:

- Neither has a thread or a timer: they are drawn when the engine has turned, so the engine's `beat`
  should be about a second (`BEAT`) for seconds to count down.
- A screen that cannot be written, because the terminal is gone or the pipe was closed, never stops
  a run: what would have been shown is dropped.
- What names and messages carry is shown as letters, never obeyed: neither by the terminal nor as
  the markup of a library.
"""

import contextlib
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO, cast

from orchestrator.campaign import Campaign
from orchestrator.model import (
    AccountRefused,
    Answer,
    Event,
    GateClosed,
    GateOpened,
    LimitsChanged,
    OrderRefused,
    Outcome,
    RestartAnswered,
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
from orchestrator.orders import change_words
from orchestrator.plan import window_of
from orchestrator.waits import limit_words, pace_words
from orchestrator.watch.picture import (
    Line,
    Tally,
    Tone,
    count_words,
    failure_words,
    how_to_go_on,
    phase_words,
    picture,
    state_lines,
    summary,
    time_left,
)
from orchestrator.wording import about, clock, counted, shown, spell

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

BEAT = 1.0
"""Seconds; how often the engine should let its watchers look."""

DRAWN_EVERY = 0.25
"""Seconds between two pictures, at least."""

_DRAWING_SHARE = 100
"""Between two pictures passes so many times as long as the last one took to draw: 1 % of a core."""

_LONGEST_PAUSE = 2.0

STOPPED = (
    "stopped by Ctrl-Z: nothing starts and nothing is followed until `fg`; a run that is left for "
    "long may be taken over from another terminal"
)
"""What is said before the process is stopped."""

HEARTBEAT_EVERY = 60.0
"""Seconds of silence after which plain progress says what goes on."""

SAME_TROUBLE = 150.0
"""Seconds after which a failed look like the last one is news again; looks are a minute apart."""

ALIKE = 3
"""So many of those who have the same trouble are named: an outage may be that of sixty projects."""

_UNIQUE = re.compile(r"[0-9a-fA-F-]{16,}")
"""Ids of requests make two messages differ that say the same."""


class Clock(Protocol):
    """The run's clock, as far as a screen needs it."""

    def now(self) -> float:
        """Return the steady moment."""

    @property
    def wall_offset(self) -> float:
        """Return what to add to a steady moment to print it as wall clock time."""


def progress_for(
    stream: TextIO,
    environ: Mapping[str, str],
    *,
    campaign: Campaign,
    clock_: Clock,
    asks: bool = False,
) -> "TerminalProgress | PlainProgress":
    """Return the progress that suits `stream`: a live picture only where there is a terminal.

    `asks` says that a key lets the next wave begin.
    """
    if not takes_pictures(stream, environ):
        return PlainProgress(stream, campaign=campaign, clock_=clock_, asks=asks)
    # Rich takes 50 ms to load, which only a terminal is worth.
    from rich.console import Console  # noqa: PLC0415 - see above

    console = Console(file=unbreakable(stream), force_terminal=True, legacy_windows=False)
    return TerminalProgress(console, campaign=campaign, clock_=clock_, asks=asks)


def takes_pictures(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether `stream` is a terminal that wants more than plain lines; `NO_COLOR` says it does not.

    Whoever asks for no colour often reads with other eyes, or keeps what the terminal showed.
    """
    is_plain = environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
    return stream.isatty() and not is_plain


def unbreakable(stream: TextIO) -> TextIO:
    """Return a stream that drops what `stream` cannot take: nobody reads it any more."""
    return cast("TextIO", _Unbreakable(stream))


class _Unbreakable:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        # A character that the terminal has no code for is an annoyance, not an error.
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


# ---------------------------------------------------------------------------- what is worth a line


class _Headlines:
    """Turns events and notices into lines for people, and keeps the totals on the way."""

    def __init__(self, campaign: Campaign, clock_: Clock, *, asks: bool) -> None:
        self._asks = asks
        self.tally = Tally(campaign)
        self._campaign = campaign
        self._clock = clock_
        self._is_resumed = bool(self.tally.ended or campaign.tracks)
        self._troubles: dict[str, tuple[float, str]] = {}
        self._alike: dict[tuple[str, str], tuple[float, int]] = {}
        """By trouble, since when and how many have it."""
        self._throttled_until: dict[str, float] = {}

    def wall(self, at: float) -> datetime:
        """Return the wall clock time of a steady moment."""
        return datetime.fromtimestamp(at + self._clock.wall_offset, UTC)

    def of_event(self, event: Event) -> Line | None:
        """Take note of an event, and return the line it is worth."""
        seconds = None
        if isinstance(event, TargetEnded):
            seconds = self.tally.running_for(event.target, event.at)
        self.tally.saw(event)
        line: Line | None
        match event:
            case TargetEnded():
                line = self._outcome(event, seconds)
            case TargetRelapsed():
                name = self._name(event.target)
                why = f"{shown(event.reason)}{self._failures()}"
                line = Line(f"failed after all {name}: {why}", Tone.BAD)
            case TargetResolved():
                by = f"resolved by {shown(event.by)}"
                line = Line(f"{event.outcome.value} {self._name(event.target)}: {by}")
            case RestartAnswered(answer=Answer(verdict=Verdict.THROTTLED)):
                line = self._throttled(event)
            case TargetEvent():
                line = None
            case _:
                line = self._of_run(event)
        return None if line is None else self._stamped(line, event.at)

    def of_notice(self, notice: str, facts: Mapping[str, object]) -> Line | None:
        """Return the line that a notice is worth; the same trouble is news only once."""
        what = ", ".join(f"{k} {shown(str(v))}" for k, v in facts.items() if k != "error")
        error = shown(str(facts.get("error", "")))
        line = Line(": ".join(filter(None, (f"{notice} {what}".strip(), error))), Tone.WARN)
        now = self._clock.now()
        key, same = f"{notice} {what}", _UNIQUE.sub("", error)
        at, before = self._troubles.get(key, (-math.inf, ""))
        self._troubles[key] = (now, same)
        if same == before and now < at + SAME_TROUBLE:
            return None
        return self._of_many(notice, same, line, now)

    def _of_many(self, notice: str, same: str, line: Line, now: float) -> Line | None:
        """Return the line for the first few of those who have the same trouble, and one for all."""
        since, count = self._alike.get((notice, same), (-math.inf, 0))
        if now >= since + SAME_TROUBLE:
            since, count = now, 0
        self._alike[notice, same] = (since, count + 1)
        if count > ALIKE:
            return None
        if count == ALIKE:
            line = Line(f"{notice}: others have the same trouble; the log names each", Tone.WARN)
        return self._stamped(line, now)

    def now_going_on(self, now: float) -> Line:
        """Say what runs and why others wait."""
        campaign, tally = self._campaign, self.tally
        parts = [" ".join(count_words(campaign, tally)[-2:]), failure_words(campaign)]
        oldest = next(iter(campaign.tracks.values()), None)
        if oldest is not None:
            name = self._name(oldest.start.target)
            parts.append(
                f"oldest {name} {phase_words(oldest)} for {spell(now - oldest.start.granted_at)}"
            )
        parts += state_lines(campaign, now, self.wall, asks=self._asks)
        left = time_left(campaign, now, tally)
        if left is not None:
            parts.append(f"{about(left)} left")
        return self._stamped(Line("; ".join(parts), Tone.FAINT), now)

    def _throttled(self, event: RestartAnswered) -> Line | None:
        """Say that an account is held back; of many calls that are, once for all."""
        project_id = self._campaign.plan.targets[event.target].project_id
        pace = self._campaign.paces.of(project_id)
        if event.at < self._throttled_until.get(pace.name, -math.inf):
            return None
        self._throttled_until[pace.name] = max(pace.opens_at, event.at + HEARTBEAT_EVERY)
        error = event.answer.error
        why = f": {shown(error.message)}" if error is not None else ""
        when = pace_words(pace, event.at)
        return Line(f"throttled with {shown(pace.name)}{why}; {when}", Tone.WARN)

    def _outcome(self, event: TargetEnded, seconds: float | None) -> Line:
        words = [event.outcome.value, self._name(event.target)]
        if seconds is not None:
            words.append(f"in {spell(seconds)}")
        reason = event.reason or (event.error.message if event.error is not None else None)
        why = f": {shown(reason)}" if reason else ""
        stand = f"{self.tally.ended}/{self.tally.total}{self._failures()}"
        text = f"{' '.join(words)}{why}  [{stand}]"
        return Line(text, _TONES.get(event.outcome, Tone.PLAIN))

    def _failures(self) -> str:
        """Return what a line says of failures from the first one on."""
        return f", {failure_words(self._campaign)}" if self._campaign.failures else ""

    def _of_run(self, event: Event) -> Line:
        tone = Tone.PLAIN
        match event:
            case RunnerStarted():
                text, tone = self._beginning(event), Tone.HEAD
            case RunResumed() | RunPaused() | RunContinued() | LimitsChanged() | OrderRefused():
                text = self._steered(event)
                tone = Tone.WARN if isinstance(event, RunPaused | OrderRefused) else Tone.PLAIN
            case WaveOpened() | WaveSoaking() | WaveFinished():
                text = self._wave(event)
            case RunStopping():
                running = len(self._campaign.tracks)
                text = f"stopping: {shown(event.reason)}; nothing new starts, following {running}"
                tone = Tone.WARN
            case RunAborted():
                why = f" ({shown(event.reason)})" if event.reason else ""
                text = f"aborted by {shown(event.by)}{why}: no longer following"
                tone = Tone.BAD
            case RunFinished():
                words = [*count_words(self._campaign, self.tally), failure_words(self._campaign)]
                counts = ", ".join(words)
                text = f"run {event.outcome}, exit code {event.exit_code}: {counts}"
                tone = Tone.HEAD
            case _:
                return self._of_leave(event)
        return Line(text, tone)

    def _of_leave(self, event: Event) -> Line:
        """Say what happened to the leave to start anything."""
        match event:
            case GateClosed():
                return Line(f"the gate is closed: {shown(event.reason)}", Tone.WARN)
            case GateOpened():
                return Line("the gate is open")
            case WindowChanged():
                by, why = shown(event.by), _because(event.reason)
                return Line(f"window changed by {by}{why}: {window_of(event)}{_wider(event)}")
            case AccountRefused():
                what = f"{shown(event.account)} was refused: {shown(event.reason)}"
                return Line(f"{what}; its clusters do not start, others go on", Tone.WARN)
            case _:
                return Line(event.kind)

    def _steered(
        self, event: RunResumed | RunPaused | RunContinued | LimitsChanged | OrderRefused
    ) -> str:
        """Say what somebody asked of the run, and what became of it."""
        by = shown(event.by)
        match event:
            case RunResumed():
                return f"resumed by {by}"
            case RunPaused():
                running = len(self._campaign.tracks)
                go_on = how_to_go_on(self._campaign, asks=self._asks)
                following = f"nothing new starts, following {running}; {go_on}"
                return f"{shown(event.describe())}; {following}"
            case RunContinued():
                return f"continued by {by}{_because(event.reason)}"
            case LimitsChanged():
                why = _because(event.reason)
                return f"limits changed by {by}{why}: {change_words(event)}{_wider(event)}"
            case OrderRefused():
                return f"order of {by} refused: {shown(event.reason)}"

    def _beginning(self, event: RunnerStarted) -> str:
        plan, tally = self._campaign.plan, self.tally
        verb = "taken up again" if self._is_resumed else "started"
        limits = ", ".join(limit_words(limit) for limit in self._campaign.policy.limits)
        projects = len({target.project_id for target in plan.targets})
        return (
            f"run {shown(self._campaign.run_id)} {verb} by {shown(event.owner)}: "
            f"{counted(tally.total, 'cluster')}, {counted(projects, 'project')}, "
            f"{counted(len(plan.waves), 'wave')}; "
            f"limits {limits or 'none'}; failures allowed {self._campaign.allowed}"
        )

    def _wave(self, event: WaveOpened | WaveSoaking | WaveFinished) -> str:
        waves = self._campaign.plan.waves
        wave = waves[event.wave]
        place, name = f"wave {event.wave + 1}", shown(wave.name)
        head = f"{place} of {len(waves)}" + ("" if name == place else f" ({name})")
        match event:
            case WaveOpened():
                return f"{head} opened: {counted(len(wave.targets), 'cluster')}"
            case WaveSoaking():
                until = clock(self.wall(event.at + wave.soak))
                return f"{head} soaks until {until} ({spell(wave.soak)})"
            case WaveFinished():
                return f"{head} finished"

    def _name(self, position: int) -> str:
        target = self._campaign.plan.targets[position]
        ids = shown(str(target))
        return f"{ids} ({shown(target.name)})" if target.name else ids

    def _stamped(self, line: Line, at: float) -> Line:
        return Line(f"{clock(self.wall(at))} {line.text}", line.tone)


def _wider(event: LimitsChanged | WindowChanged) -> str:
    return "; wider than before" if event.is_looser else ""


def _because(reason: str | None) -> str:
    return f" ({shown(reason)})" if reason else ""


_TONES = {
    Outcome.RESTARTED: Tone.GOOD,
    Outcome.ACCEPTED: Tone.GOOD,
    Outcome.FAILED: Tone.BAD,
    Outcome.UNKNOWN: Tone.BAD,
    Outcome.REFUSED: Tone.WARN,
    Outcome.SKIPPED: Tone.WARN,
}


# ------------------------------------------------------------------------------------ plain lines


class PlainProgress:
    """One plain line for each outcome and each event of the run, with its UTC time.

    Where nothing happened for `HEARTBEAT_EVERY`, a line says what runs and why others wait.
    """

    def __init__(
        self, stream: TextIO, *, campaign: Campaign, clock_: Clock, asks: bool = False
    ) -> None:
        """Write to `stream`; made before the events it is told."""
        self.above = unbreakable(stream)
        """Where others may write lines."""
        self._headlines = _Headlines(campaign, clock_, asks=asks)
        self._silent_since: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.above.flush()

    def saw(self, event: Event) -> None:
        """Write the event's line, if it is worth one."""
        self._write(self._headlines.of_event(event), event.at)

    def noticed(self, notice: str, facts: Mapping[str, object]) -> None:
        """Write the notice's line, if it is news."""
        self._write(self._headlines.of_notice(notice, facts), self._silent_since)

    def turned(self, campaign: Campaign, now: float) -> None:  # noqa: ARG002 - it has the campaign
        """Break a long silence."""
        if self._silent_since is None:
            self._silent_since = now
        elif now >= self._silent_since + HEARTBEAT_EVERY:
            self._write(self._headlines.now_going_on(now), now)

    def _write(self, line: Line | None, now: float | None) -> None:
        if line is not None:
            self._silent_since = now
            self.above.write(f"{line.text}\n")
            self.above.flush()


# ------------------------------------------------------------------------------- the live picture


class TerminalProgress:
    """A picture that is drawn anew in place; what went wrong stays readable above it.

    Use it as a context manager: on leaving, a summary stays, and the cursor is back.
    """

    def __init__(
        self,
        console: "Console",
        *,
        campaign: Campaign,
        clock_: Clock,
        timer: Callable[[], float] = time.perf_counter,
        asks: bool = False,
    ) -> None:
        """Draw on `console`; made before the events it is told.

        Args:
            console: a terminal.
            campaign: the run.
            clock_: its clock.
            timer: real seconds, for how often to draw.
            asks: whether a key lets the next wave begin.
        """
        self.above = cast("TextIO", _Above(self))
        """Where others may write lines while the picture stands; they appear above it."""
        self._console = console
        self._campaign = campaign
        self._clock = clock_
        self._headlines = _Headlines(campaign, clock_, asks=asks)
        self._asks = asks
        self._timer = timer
        self._live: Live | None = None
        self._lines_above: list[Line] = []
        self._drawn_at = -math.inf
        self._draw_from = -math.inf

    def __enter__(self) -> Self:
        self.come_back()
        return self

    def step_aside(self) -> None:
        """Leave the picture where it is, and the terminal to whoever stops us."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()
            self.say(Line(STOPPED, Tone.WARN))

    def come_back(self) -> None:
        """Draw anew, below whatever was written meanwhile."""
        from rich.live import Live  # noqa: PLC0415 - it takes 50 ms to load

        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._live.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        live = self._live
        if live is None:
            return
        try:
            now, tally, wall = self._clock.now(), self._headlines.tally, self._headlines.wall
            width = self._console.width
            self._draw(summary(self._campaign, now, tally=tally, wall=wall, width=width))
        finally:
            self._live = None
            live.stop()

    def saw(self, event: Event) -> None:
        """Take note of an event; what went wrong, and what the run as a whole does, gets a line."""
        line = self._headlines.of_event(event)
        # Good outcomes are counted in the picture, and the end of the run is the summary's.
        if line is None or line.tone is Tone.GOOD or isinstance(event, RunFinished):
            return
        self.say(line)

    def noticed(self, notice: str, facts: Mapping[str, object]) -> None:
        """Show a notice above the picture, if it is news."""
        line = self._headlines.of_notice(notice, facts)
        if line is not None:
            self.say(line)

    def say(self, line: Line) -> None:
        """Show a line above the picture, with the next picture or at once if there is none."""
        self._lines_above.append(line)
        self._draw_from = min(self._draw_from, self._drawn_at + DRAWN_EVERY)
        if self._live is None:
            self._print_above()

    def turned(self, campaign: Campaign, now: float) -> None:
        """Draw the picture, if the last one is old enough."""
        began_at = self._timer()
        if self._live is None or began_at < self._draw_from:
            return
        width, height = self._console.size
        self._draw(
            picture(
                campaign,
                now,
                tally=self._headlines.tally,
                wall=self._headlines.wall,
                width=width,
                # The last line is the cursor's.
                height=height - 1,
                asks=self._asks,
            )
        )
        pause = _DRAWING_SHARE * (self._timer() - began_at)
        self._drawn_at = began_at
        self._draw_from = began_at + min(max(DRAWN_EVERY, pause), _LONGEST_PAUSE)

    def _draw(self, lines: Sequence[Line]) -> None:
        with self._console:
            self._print_above()
            if self._live is not None:
                self._live.update(text_of(lines, fold=False), refresh=True)

    def _print_above(self) -> None:
        if self._lines_above:
            lines, self._lines_above = self._lines_above, []
            self._console.print(text_of(lines, fold=True))


class _Above:
    """The stream of lines above the picture."""

    encoding = "utf-8"

    def __init__(self, progress: TerminalProgress) -> None:
        self._progress = progress
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._progress.say(Line(shown(line)))
        return len(text)

    def flush(self) -> None:
        """Wait for the end of the line."""

    def isatty(self) -> bool:
        return False


_STYLES = {
    Tone.PLAIN: "",
    Tone.HEAD: "bold",
    Tone.FAINT: "dim",
    Tone.GOOD: "green",
    Tone.BAD: "bold red",
    Tone.WARN: "yellow",
}


def text_of(lines: Sequence[Line], *, fold: bool) -> "Text":
    """Return lines with their colours, for a console."""
    from rich.text import Text  # noqa: PLC0415 - it takes 50 ms to load

    # Appended text is never read as markup.
    text = Text(no_wrap=not fold, overflow="fold" if fold else "crop", end="\n" if fold else "")
    for number, line in enumerate(lines):
        text.append("\n" if number else "")
        text.append(line.text, _STYLES[line.tone])
    return text
