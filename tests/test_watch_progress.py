"""Progress: a live picture where there is a terminal, plain lines elsewhere, and never a crash."""

import io
import re
import subprocess
import sys
import time
from collections.abc import Mapping

import pytest
from rich.console import Console

from orchestrator.limits import Concurrency, Limit, Rate
from orchestrator.model import (
    ErrorInfo,
    Event,
    LimitsChanged,
    Outcome,
    RestartBegan,
    RunAborted,
    RunFinished,
    RunnerStarted,
    RunResumed,
    RunStopping,
    Target,
    TargetEnded,
    TargetRelapsed,
    TargetResolved,
    Verdict,
)
from orchestrator.watch.progress import (
    HEARTBEAT_EVERY,
    SAME_TROUBLE,
    PlainProgress,
    TerminalProgress,
    progress_for,
)
from tests.test_watch_picture import Hand, fleet

STARTED = RunnerStarted(at=0.0, owner="ana", host="b", pid=1, wall_offset=0.0, version="1")
SHOW_CURSOR = "\x1b[?25h"
HIDE_CURSOR = "\x1b[?25l"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Wound:
    """A clock that is moved by hand; the wall clock runs an hour ahead."""

    def __init__(self) -> None:
        self.at = 0.0
        self.wall_offset = 3600.0

    def now(self) -> float:
        return self.at


class Stage(Hand):
    """A campaign driven by hand, with a progress that is told."""

    def __init__(
        self,
        targets: list[Target],
        *limits: Limit,
        stream: io.StringIO | None = None,
        soak: float = 0.0,
        canary: int = 0,
    ) -> None:
        super().__init__(targets, *limits, soak=soak, canary=canary)
        self.clock = Wound()
        self.stream = stream or io.StringIO()
        self.timer = 0.0
        self.console = Console(file=self.stream, force_terminal=True, width=80, height=24)
        self.progress: PlainProgress | TerminalProgress

    def plain(self) -> PlainProgress:
        self.progress = PlainProgress(self.stream, campaign=self.campaign, clock_=self.clock)
        return self.progress

    def terminal(self) -> TerminalProgress:
        self.progress = TerminalProgress(
            self.console, campaign=self.campaign, clock_=self.clock, timer=lambda: self.timer
        )
        return self.progress

    def tell(self, event: Event) -> None:
        super().tell(event)
        self.clock.at = event.at
        self.progress.saw(event)

    def notice(self, at: float, **facts: object) -> None:
        self.clock.at = at
        self.progress.noticed("look.failed", facts)

    def turned(self, at: float) -> None:
        self.clock.at = self.timer = at
        self.progress.turned(self.campaign, at)

    def new(self) -> str:
        """Return what was written since the last time."""
        text = self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        return text


def screen_after(output: str) -> list[str]:
    """Return the lines that a terminal shows once it has obeyed `output`."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", output):
        match part:
            case "\r":
                column = 0
            case "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            case "\x1b[2K":
                lines[row] = ""
            case "\x1b[1A":
                row -= 1
            case str() if not part.startswith("\x1b"):
                lines[row] = lines[row][:column].ljust(column) + part
                column += len(part)
            case _:
                pass
    return lines


# ------------------------------------------------------------------------------------ plain lines


def test_an_outcome_is_one_plain_line() -> None:
    """Time, outcome, ids in full, name, how long it took and how far the run is."""
    stage = Stage(fleet(3, name="search"), Concurrency(2))
    stage.plain()
    stage.start(0.0)
    stage.new()
    stage.end(0, 61.0)
    target = stage.campaign.plan.targets[0]
    assert stage.new() == f"01:01:01Z restarted {target} (search) in 61 s  [1/3]\n"


def test_an_outcome_without_a_restart_says_why() -> None:
    """What was never started has no duration, but a reason: the run's, or else the service's."""
    stage = Stage(fleet(3), Concurrency(2))
    stage.plain()
    stage.tell(TargetEnded(at=0.0, target=0, outcome=Outcome.SKIPPED, reason="busy"))
    assert stage.new().endswith(f"skipped {stage.campaign.plan.targets[0]}: busy  [1/3]\n")
    error = ErrorInfo(error_class="gone", message="CSS.0015 no such cluster")
    stage.tell(TargetEnded(at=0.0, target=1, outcome=Outcome.REFUSED, error=error))
    assert "CSS.0015 no such cluster  [2/3]" in stage.new()


def test_what_the_run_does_is_told() -> None:
    """Start, waves, soak, stop, abort, end: each is one line that says what an operator asks."""
    stage = Stage(fleet(20, 4), Concurrency(7), Rate(20, 600.0), soak=60.0, canary=1)
    stage.plain()
    stage.tell(STARTED)
    assert stage.new() == (
        "01:00:00Z run 2026-11-23-7k3f started by ana: 20 clusters, 4 projects, 2 waves; "
        "limits 7 at once, 20/600s; failures allowed 3\n"
    )
    stage.start(0.0)
    assert stage.new() == "01:00:00Z wave 1 of 2 (canary) opened: 1 cluster\n"
    stage.end(0, 10.0)
    stage.turn(10.0)
    assert "01:00:10Z wave 1 of 2 (canary) soaks until 01:01:10Z (60 s)" in stage.new()
    stage.start(71.0)
    assert "wave 1 of 2 (canary) finished\n" in stage.new()
    stage.start(71.0)
    stage.new()
    stage.tell(RunStopping(at=80.0, reason="deadline", by="orchestrator"))
    assert stage.new() == "01:01:20Z stopping: deadline; nothing new starts, following 7\n"
    stage.tell(RunAborted(at=81.0, by="SIGINT"))
    assert stage.new() == "01:01:21Z aborted by SIGINT: no longer following\n"
    stage.tell(RunFinished(at=82.0, outcome="aborted", exit_code=130))
    assert "run aborted, exit code 130: restarted 1, failed 0" in stage.new()


def test_second_thoughts_are_told() -> None:
    """A relapse during the soak, a person's word and a resume each have their line."""
    stage = Stage(fleet(3), Concurrency(3))
    progress = stage.plain()
    stage.start(0.0)
    stage.end(0, 10.0)
    stage.end(1, 10.0, Outcome.UNKNOWN)
    stage.new()
    stage.tell(TargetRelapsed(at=20.0, target=0, reason="status 303"))
    assert "failed after all" in stage.new()
    stage.tell(TargetResolved(at=30.0, target=1, outcome=Outcome.RESTARTED, by="ana"))
    assert stage.new().endswith(": resolved by ana\n")
    progress.saw(RunResumed(at=40.0, by="ana"))
    assert stage.new() == "01:00:40Z resumed by ana\n"
    progress.saw(
        LimitsChanged(at=41.0, limits=("1", "5/600s"), max_failures="2", by="ana", is_looser=False)
    )
    assert "limits changed by ana: 1, 5/600s; failures allowed 2\n" in stage.new()
    again = Stage(fleet(3), Concurrency(3))
    again.campaign, again.tally = stage.campaign, stage.tally
    again.plain().saw(STARTED)
    assert "taken up again by ana" in again.new()


def test_failures_are_counted_on_every_line_from_the_first_on() -> None:
    """After a failure each outcome says how many there were and are allowed, to the last line."""
    stage = Stage(fleet(5), Concurrency(5))
    stage.plain()
    stage.start(0.0)
    stage.end(0, 10.0)
    assert stage.new().endswith("[1/5]\n")
    stage.end(1, 11.0, Outcome.FAILED)
    assert stage.new().endswith("[2/5, failures 1 of 3 allowed]\n")
    stage.end(2, 12.0)
    assert stage.new().endswith("[3/5, failures 1 of 3 allowed]\n")
    stage.end(3, 13.0, Outcome.REFUSED)
    assert stage.new().endswith("[4/5, failures 1 of 3 allowed]\n")
    stage.tell(TargetRelapsed(at=14.0, target=0, reason="status 303"))
    assert stage.new().endswith(": status 303, failures 2 of 3 allowed\n")
    stage.tell(RunFinished(at=15.0, outcome="completed", exit_code=1))
    assert stage.new().endswith(", failures 2 of 3 allowed\n")


def test_a_throttled_account_is_told_once() -> None:
    """Of many calls that met the limit one line tells, with the wait and the pace after it."""
    stage = Stage(fleet(12), Concurrency(4))
    stage.plain()
    stage.start(0.0)
    stage.new()
    for target in range(4):
        stage.answer(target, 1.0, Verdict.THROTTLED)
    assert stage.new() == (
        "01:00:01Z throttled with the credential; next in 2 s, then one every 0.5 s\n"
    )
    for at, is_told in ((10.0, False), (80.0, True)):
        stage.start(at)
        stage.answer(next(iter(stage.campaign.tracks)), at + 1.0, Verdict.THROTTLED)
        assert ("throttled with the credential" in stage.new()) == is_told


def test_small_steps_are_not_told() -> None:
    """Between its intent and its outcome a target is not worth a line."""
    stage = Stage(fleet(1), Concurrency(3))
    stage.plain()
    stage.start(0.0)
    stage.new()
    stage.answer(0, 1.0)
    stage.tell(RestartBegan(at=2.0, target=0, seen="status 100"))
    assert stage.new() == ""


def test_a_failed_look_is_told_once_until_it_changes() -> None:
    """The same trouble with another request id is no news, until it was quiet for a while."""
    stage = Stage(fleet(1), Concurrency(3))
    stage.plain()
    stage.notice(1.0, project="p1", error="503 request 0123456789abcdef0123456789abcdef")
    assert stage.new().startswith("01:00:01Z look.failed project p1: 503")
    stage.notice(2.0, project="p1", error="503 request ffff456789abcdef0123456789abcdef")
    assert stage.new() == ""
    stage.notice(3.0, project="p2", error="503")
    assert "project p2" in stage.new()
    stage.notice(4.0, project="p1", error="502")
    assert "502" in stage.new()
    stage.notice(5.0 + SAME_TROUBLE, project="p1", error="502")
    assert "502" in stage.new()


def test_a_trouble_of_many_is_told_once_for_all() -> None:
    """Of sixty projects that cannot be read for the same reason three are named, now and then."""
    stage = Stage(fleet(3), Concurrency(3))
    stage.plain()
    for begin in (0.0, SAME_TROUBLE):
        for number in range(60):
            project = f"{number:032x}"
            error = f"listing the clusters of project {project}: 503 ({number + 7:032x})"
            stage.notice(begin + number, project=project, error=error)
        told = stage.new().splitlines()
        assert [f"project {n:032x}" in line for n, line in enumerate(told[:3])] == [True] * 3
        assert told[3].endswith("look.failed: others have the same trouble; the log names each")
        assert len(told) == 4


def test_a_long_silence_is_broken() -> None:
    """After a minute without a line, one says what runs and why others wait; not before."""
    stage = Stage(fleet(12), Concurrency(2))
    stage.plain()
    stage.turned(0.0)
    stage.start(0.0)
    stage.new()
    stage.turned(HEARTBEAT_EVERY - 1)
    assert stage.new() == ""
    stage.turned(HEARTBEAT_EVERY)
    line = stage.new()
    oldest = stage.campaign.plan.targets[0]
    assert line.startswith("01:01:00Z running 2 waiting 10 of 12; failures 0 of 3 allowed; ")
    assert f"oldest {oldest} issuing for 60 s" in line
    assert "waiting: 10 for 2 at once (next when one ends)" in line
    stage.turned(HEARTBEAT_EVERY + 1)
    assert stage.new() == ""
    stage.end(0, HEARTBEAT_EVERY + 30)
    stage.new()
    stage.turned(2 * HEARTBEAT_EVERY + 1)
    assert stage.new() == ""


def test_the_heartbeat_says_how_long_it_will_take() -> None:
    """Once enough restarts have ended the line has an estimate; no oldest when nothing runs."""
    stage = Stage(fleet(12), Rate(3, 600.0))
    stage.plain()
    stage.turned(0.0)
    stage.start(0.0)
    for target in range(3):
        stage.answer(target, 1.0)
        stage.end(target, 30.0)
    stage.new()
    stage.turned(120.0)
    line = stage.new()
    assert "oldest" not in line
    assert "about 29 min left" in line


def test_names_cannot_steer_the_screen() -> None:
    """Escape sequences in names and messages are taken out, in plain lines and on terminals."""
    evil = "\x1b[2Jwipe\x1b]0;title\x07\nnew [bold red]line[/]"
    for is_plain in (True, False):
        stage = Stage(fleet(2, name=evil), Concurrency(2))
        with stage.plain() if is_plain else stage.terminal():
            stage.start(0.0)
            stage.turned(1.0)
            stage.tell(TargetEnded(at=2.0, target=0, outcome=Outcome.FAILED, reason=f"bad {evil}"))
            stage.notice(3.0, project=evil, error=evil)
            stage.turned(4.0)
        text = stage.new()
        assert "\x1b[2J" not in text
        assert "title" not in text
        assert "wipe new [bold red]line[/]" in CONTROL.sub("", text)


# ------------------------------------------------------------------------------- the live picture


def test_the_picture_is_drawn_and_a_summary_stays() -> None:
    """A picture without a cursor while it lasts; then a summary, and the cursor is back."""
    stage = Stage(fleet(5), Concurrency(2))
    with stage.terminal():
        everything = stage.new()
        assert everything.endswith(HIDE_CURSOR)
        stage.tell(STARTED)
        stage.start(0.0)
        stage.turned(1.0)
        everything += stage.new()
        assert "running 2, oldest first" in everything
        assert "waiting: 3 for 2 at once" in everything
        stage.tell(RunStopping(at=2.0, reason="interrupted by SIGINT", by="SIGINT"))
        stage.end(0, 3.0)
        stage.end(1, 3.0)
        stage.tell(RunFinished(at=4.0, outcome="stopped", exit_code=3))
        everything += stage.new()
    everything += stage.new()
    assert everything.endswith(SHOW_CURSOR)
    screen = screen_after(everything)
    assert "\n".join(screen).startswith("01:00:00Z run 2026-11-23-7k3f started by ana")
    assert not any("oldest first" in line for line in screen)
    summary = next(n for n, line in enumerate(screen) if "stopped at 01:00:04Z after 4 s" in line)
    assert [line for line in screen[summary + 1 :] if line] == [
        "restarted 2  failed 0  refused 0  unknown 0  skipped 0  running 0",
        "not started 3 of 5",
        "failures 0 of 3 allowed",
        "stopped: interrupted by SIGINT",
    ]


def test_the_cursor_comes_back_from_an_exception() -> None:
    """Whatever ends the run, the terminal is as it was."""
    stage = Stage(fleet(5), Concurrency(2))

    stage.terminal()
    stage.start(0.0)
    with pytest.raises(ZeroDivisionError), stage.terminal():
        stage.turned(1 / 0)
    assert stage.new().endswith(SHOW_CURSOR)


def test_it_draws_at_most_four_times_a_second() -> None:
    """Between two pictures pass 250 ms, however often the engine turns."""
    stage = Stage(fleet(5), Concurrency(2))
    with stage.terminal():
        stage.start(0.0)
        drawn = 0
        for tick in range(100):
            stage.new()
            stage.turned(1.0 + tick * 0.02)
            drawn += bool(stage.new())
        assert drawn == 8


def test_news_does_not_wait_for_a_slow_terminal() -> None:
    """A picture that took long to draw is drawn less often, but news comes within a quarter."""
    stage = Stage(fleet(5), Concurrency(2))
    times = iter([1.0, 1.1, 1.5, 1.5, 1.6])
    stage.progress = TerminalProgress(
        stage.console, campaign=stage.campaign, clock_=stage.clock, timer=lambda: next(times)
    )
    with stage.progress:
        stage.progress.turned(stage.campaign, 0.0)
        stage.new()
        stage.progress.turned(stage.campaign, 0.4)
        assert stage.new() == ""
        stage.tell(RunStopping(at=0.5, reason="interrupted by SIGINT", by="SIGINT"))
        stage.progress.turned(stage.campaign, 0.5)
        assert "press Ctrl-C again to abort" in stage.new()


def test_what_went_wrong_stays_above() -> None:
    """Bad outcomes and other people's lines are printed once, above; good ones only counted."""
    stage = Stage(fleet(5, name="search"), Concurrency(4))
    with stage.terminal() as progress:
        stage.start(0.0)
        stage.end(0, 1.0)
        stage.tell(TargetEnded(at=2.0, target=1, outcome=Outcome.FAILED, reason="status 303"))
        progress.above.write("a line of ")
        progress.above.write("the log\nand the next\n")
        progress.above.flush()
        assert not progress.above.isatty()
        stage.turned(3.0)
        first = CONTROL.sub("", stage.new())
        stage.turned(4.0)
        second = CONTROL.sub("", stage.new())
    assert "failed 0000" in first
    assert "a line of the log\nand the next\n" in first
    assert first.index("the next") < first.index("oldest first")
    assert "restarted 0000" not in first
    assert "the log" not in second
    stage.new()
    progress.above.write("after the end\n")
    assert stage.new() == "after the end\n"


def test_nothing_is_drawn_outside_of_its_context() -> None:
    """Before it is entered, and when it is left twice, the terminal is left alone."""
    stage = Stage(fleet(5), Concurrency(4))
    progress = stage.terminal()
    stage.turned(1.0)
    progress.__exit__(None, None, None)
    assert stage.new() == ""


# ---------------------------------------------------------------------------------------- choices


class Terminal(io.StringIO):
    encoding = "ascii"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "chosen"),
    [
        (io.StringIO(), {"TERM": "xterm"}, PlainProgress),
        (Terminal(), {"TERM": "dumb"}, PlainProgress),
        (Terminal(), {"TERM": "xterm"}, TerminalProgress),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, PlainProgress),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, TerminalProgress),
    ],
)
def test_the_picture_needs_a_terminal(
    stream: io.StringIO, environ: Mapping[str, str], chosen: type
) -> None:
    """Only a terminal that can move its cursor, and may show colours, gets the picture."""
    hand = Hand(fleet(2), Concurrency(1))
    progress = progress_for(stream, environ, campaign=hand.campaign, clock_=Wound())
    assert isinstance(progress, chosen)


def test_ascii_terminals_get_the_picture_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they cannot show is replaced; the colours stay."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    hand = Hand(fleet(2, name="größe"), Concurrency(2))
    stream, environ = Terminal(), {"TERM": "xterm-256color"}
    hand.start(0.0)
    with progress_for(stream, environ, campaign=hand.campaign, clock_=Wound()) as progress:
        progress.saw(TargetEnded(at=2.0, target=0, outcome=Outcome.FAILED))
        progress.turned(hand.campaign, 3.0)
    text = stream.getvalue()
    assert text.isascii()
    assert "gr??e" in text or "gr?" in text
    assert HIDE_CURSOR in text
    assert "\x1b[1;31m" in text or "\x1b[31m" in text


def test_no_color_gets_plain_lines() -> None:
    """With NO_COLOR nothing is painted: no escape at all reaches the terminal."""
    hand = Hand(fleet(2), Concurrency(2))
    stream, environ = Terminal(), {"TERM": "xterm-256color", "NO_COLOR": "1"}
    hand.start(0.0)
    with progress_for(stream, environ, campaign=hand.campaign, clock_=Wound()) as progress:
        progress.saw(TargetEnded(at=2.0, target=0, outcome=Outcome.FAILED))
        progress.turned(hand.campaign, 3.0)
    assert "failed" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


class Gone(Terminal):
    """A terminal whose window was closed."""

    def write(self, _text: str) -> int:
        raise OSError(5, "Input/output error")

    def flush(self) -> None:
        raise BrokenPipeError


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_terminal_that_is_gone_stops_nothing(term: str) -> None:
    """Nobody reads any more: the run does not notice."""
    hand = Hand(fleet(2), Concurrency(2))
    stream, environ = Gone(), {"TERM": term}
    hand.start(0.0)
    with progress_for(stream, environ, campaign=hand.campaign, clock_=Wound()) as progress:
        progress.saw(STARTED)
        progress.turned(hand.campaign, 1.0)
        progress.turned(hand.campaign, 100.0)


def test_plain_progress_does_not_load_what_it_does_not_need() -> None:
    """Without a terminal neither rich nor structlog is loaded."""
    program = (
        "import sys\n"
        "import orchestrator.watch.progress\n"
        "print(sorted({'rich', 'structlog'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_a_refresh_costs_little() -> None:
    """Drawing a full screen takes some milliseconds with 100,000 targets; tenfold is a bug."""
    stage = Stage(fleet(100_000, 20), Concurrency(500), Rate(40, 60.0, "project"))
    with stage.terminal():
        stage.start(0.0)
        costs = []
        for tick in range(10):
            began_at = time.perf_counter()
            stage.turned(10.0 + tick)
            costs.append(time.perf_counter() - began_at)
    assert min(costs) < 0.1
