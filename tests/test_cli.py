"""The command line, run as its users run it: what it prints where, and how it ends."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from orchestrator.cli import commands
from orchestrator.config import KEYS
from orchestrator.errors import ExitCode
from orchestrator.fleet import Format, write_fleet
from orchestrator.simulator import invent_targets
from tests.schema import report_schema
from tests.stories.processes import tree

ROOT = Path(__file__).parent.parent
SCENARIO = '[restart]\nduration = "300ms"\nbusy_after = "20ms"\n'
QUICK = [
    "--poll-every", "100ms", "--stable-for", "100ms", "--soak", "100ms", "--confirm-within", "3s",
]  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a fleet of twelve and a scenario in it, and nothing else."""
    targets = invent_targets(12, 3, 1)
    (tmp_path / "fleet.csv").write_text(write_fleet(targets, Format.CSV))
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    return tmp_path


def environment(home: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),  # the tree under test, where it is named
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "xdg"),
        **tree(),
        **more,
    }


def orchestrator(
    home: Path, *arguments: str, stdin: str | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        cwd=home, env=environment(home, **more), input=stdin or "", text=True,
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip


def test_help_is_quick_and_names_every_command(home: Path) -> None:
    """`--help` loads none of the libraries that only a run needs, and lists every command."""
    code = (
        "import sys\nfrom orchestrator.cli import run\nrun(['--help'])\n"
        "heavy = {'aiohttp', 'structlog', 'rich', 'sqlite3', 'asyncio', 'anyio', 'yaml'}\n"
        "heavy |= {'msgspec'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=home, check=True
    )
    assert "LOADED []" in done.stdout
    for name in commands.list_commands(click.Context(commands)):
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize("name", commands.list_commands(click.Context(commands)))
def test_every_command_and_option_has_help(name: str) -> None:
    """A command or an option without a word of help, or unknown to the README, fails here."""
    assert re.search(rf"(orchestrator |`){name}\b", (ROOT / "README.md").read_text())
    done = CliRunner().invoke(commands, [name, "--help"])
    assert done.exit_code == 0
    command = commands.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    assert command.help
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert getattr(parameter, "help", None), parameter.name


def test_every_setting_is_an_option_of_restart() -> None:
    """Whatever can be set in the file can be set on the command line."""
    text = CliRunner().invoke(commands, ["restart", "--help"]).output
    for key in KEYS.values():
        option = "no-wait" if key.name == "follow.wait" else key.option
        assert f"--{option} " in text, key.name


def test_a_whole_run_by_command(home: Path) -> None:
    """Plan and progress go to standard error, the report to its file; the journal knows the run."""
    done = orchestrator(
        home, "restart", "fleet.csv", "--simulate", "--scenario", "scenario.toml", "--yes", *QUICK
    )
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.stdout == ""
    assert "plan " in done.stderr
    assert "12 clusters in 3 projects" in done.stderr
    assert "canary (1, soak 100ms), then rest (11)" in done.stderr
    found = re.search(r"run (\d{4}-\d\d-\d\d-\w{4}) completed: 12 restarted", done.stderr)
    assert found
    run_id = found.group(1)
    report = json.loads((home / f"restart-{run_id}.json").read_text())
    Draft202012Validator(report_schema()).validate(report)

    again = orchestrator(home, "report")
    assert json.loads(again.stdout) == report
    assert json.loads(orchestrator(home, "report", run_id).stdout) == report
    runs = json.loads(orchestrator(home, "runs", "-o", "json").stdout)
    assert [run["run_id"] for run in runs] == [run_id]
    assert runs[0]["state"] == "finished"
    assert run_id in orchestrator(home, "runs").stdout

    missing = orchestrator(home, "report", "2026-01-01-none")
    assert missing.returncode == ExitCode.UNAVAILABLE
    assert run_id in missing.stderr


def test_the_journal_and_the_report_are_private(home: Path) -> None:
    """Others on the machine can read neither journal nor report."""
    orchestrator(
        home, "restart", "fleet.csv", "--simulate", "--scenario", "scenario.toml", "--yes", *QUICK
    )
    journal = home / "state" / "orchestrator" / "journal.db"
    assert journal.stat().st_mode & 0o777 == 0o600
    assert journal.parent.stat().st_mode & 0o777 == 0o700
    (report,) = home.glob("restart-*.json")
    assert report.stat().st_mode & 0o777 == 0o600


def test_a_dry_run_sends_nothing(home: Path) -> None:
    """`--dry-run` prints the targets in order with their waves, and makes no journal."""
    done = orchestrator(home, "restart", "fleet.csv", "--dry-run")
    assert done.returncode == ExitCode.OK
    lines = done.stdout.splitlines()
    assert len(lines) == 12
    assert lines[0].startswith("canary\t")
    plan = json.loads(orchestrator(home, "restart", "fleet.csv", "--dry-run", "-o", "json").stdout)
    assert [target["wave"] for target in plan["targets"]] == ["canary"] + ["rest"] * 11
    assert plan["limits"]["rate"] == ["20/600s"]
    assert not (home / "state").exists()


def test_a_limit_on_a_label_that_nobody_has_is_doubted(home: Path) -> None:
    """A scope that tells no cluster from another is said, with the nearest that does."""
    limits = ["--rate", "projct=5/10m", "--max-concurrency", "region=2", "--max-unavailable", "q=1"]
    done = orchestrator(home, "restart", "fleet.csv", "--dry-run", *limits)
    assert done.returncode == ExitCode.OK
    said = [line for line in done.stderr.splitlines() if "no cluster of this fleet has" in line]
    assert [line.split(" counts")[0] for line in said] == [
        "warning: the limit projct=5/600s", "warning: the limit q=1",
    ]  # fmt: skip
    assert said[0].endswith("did you mean project?")
    assert said[1].endswith("correct it, or label the clusters")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give --yes, or --expect 12"),
        (["--expect", "11"], "--expect 11: the fleet has 12 clusters; nothing was sent"),
        (["--yes", "--rate", "soon"], "--rate"),
        (["--yes", "--max-concurrency", "0"], "--max-concurrency"),
        (["--yes", "--trace", "x"], "give --simulate too"),
        (["--yes", "--endpoint", "http://css.example.com"], "--endpoint"),
        (["--yes", "--deadline", "04:00"], "--deadline"),
        (["--yes", "--no-such-option"], "--no-such-option"),
        (["--yes", "--simulate", "--report", "nowhere/report.json"], "there is no folder"),
        (["--yes", "--simulate", "--report", "."], "it is a folder"),
    ],
)
def test_wrong_use_says_what_to_do(home: Path, arguments: list[str], words: str) -> None:
    """Mistakes end with exit code 2 and a sentence, before anything is sent."""
    done = orchestrator(home, "restart", "fleet.csv", *arguments)
    assert done.returncode == ExitCode.USAGE
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (home / "state").exists()


@pytest.mark.parametrize("command", [["restart", "fleet.csv", "--simulate", "--yes"],
                                     ["simulate", "--clusters", "1"]])  # fmt: skip
def test_a_trace_that_cannot_be_written(home: Path, command: list[str]) -> None:
    """It is a mistake of whoever asked for it, and says what to do."""
    done = orchestrator(home, *command, "--trace", "nowhere/trace.jsonl")
    assert done.returncode == ExitCode.USAGE
    assert "opening the trace nowhere/trace.jsonl: No such file" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("end", "more", "code"),
    [
        ("ready", [], ExitCode.SOME_FAILED),
        ("failed", ["--max-concurrency", "1"], ExitCode.STOPPED),
    ],
)
def test_a_report_that_cannot_be_written_hides_nothing(
    home: Path, end: str, more: list[str], code: ExitCode
) -> None:
    """How the run ended, and how to go on, is said all the same; all well is no success then."""
    (home / "end.toml").write_text(f'{SCENARIO}end = "{end}"\n')
    done = orchestrator(
        home, "restart", "fleet.csv", "--simulate", "--scenario", "end.toml", "--yes",
        "--report", "/dev/full", *QUICK, *more,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    lines = done.stderr.splitlines()
    assert any(line.startswith("error: writing the report of run") for line in lines)
    assert lines[-1].startswith("to go on: ") == (code is ExitCode.STOPPED)


def test_all_mistakes_of_a_fleet_at_once(home: Path) -> None:
    """Every bad line is named in one go, with file and line."""
    (home / "bad.csv").write_text("project_id,cluster_id\np,c\n,x\np,\np,a/b\n")
    done = orchestrator(home, "restart", "bad.csv", "--yes")
    assert done.returncode == ExitCode.USAGE
    for line in (3, 4, 5):
        assert f"bad.csv, line {line}" in done.stderr


def test_credentials_are_needed_but_for_loopback(home: Path) -> None:
    """Without a credential a real endpoint is refused in words, before anything is sent."""
    done = orchestrator(
        home, "restart", "fleet.csv", "--yes", "--endpoint", "https://css.example.com",
        "--metadata-endpoint", "http://127.0.0.1:9",
    )  # fmt: skip
    assert done.returncode == ExitCode.USAGE
    assert "OS_TOKEN" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["restart", "--dry-run"], ExitCode.OK),
        (["rehearse"], ExitCode.OK),
        (["restart", "--simulate", "--scenario", "scenario.toml", *QUICK, "--yes"], ExitCode.OK),
        (["restart", "--yes"], ExitCode.USAGE),
    ],
)
def test_a_region_is_needed_for_real_calls_alone(
    home: Path, arguments: list[str], code: ExitCode
) -> None:
    """A fleet without regions can be planned, rehearsed and simulated, but not restarted."""
    (home / "fleet.txt").write_text("p-1/c-1\np-1/c-2\n")
    done = orchestrator(home, *arguments, "fleet.txt")
    assert done.returncode == code, done.stderr
    is_said = "project p-1: cloud.endpoint needs a region" in done.stderr
    assert is_said == ("--dry-run" in arguments or code is ExitCode.USAGE)


def test_a_fleet_from_standard_input(home: Path) -> None:
    """`-` reads the fleet from standard input, whose content tells its format."""
    text = (home / "fleet.csv").read_text()
    done = orchestrator(home, "restart", "-", "--dry-run", stdin=text)
    assert done.returncode == ExitCode.OK
    assert len(done.stdout.splitlines()) == 12


def test_a_report_is_a_fleet(home: Path) -> None:
    """What a run left over is taken from its report with `--only`."""
    scenario = SCENARIO + '[[cluster]]\nmatch = "*-0003"\nfaults = {refused = 1.0}\n'
    (home / "scenario.toml").write_text(scenario)
    done = orchestrator(
        home, "restart", "fleet.csv", "--simulate", "--scenario", "scenario.toml", "--yes",
        "--report", "first.json", *QUICK,
    )  # fmt: skip
    assert done.returncode == ExitCode.SOME_FAILED
    again = orchestrator(
        home, "restart", "first.json", "--only", "refused", "--simulate", "--expect", "1", *QUICK
    )
    assert again.returncode == ExitCode.OK, again.stderr
    wrong = orchestrator(home, "restart", "first.json", "--only", "refsed", "--dry-run")
    assert wrong.returncode == ExitCode.USAGE
    assert "refsed" in wrong.stderr


def test_a_log_as_json(home: Path) -> None:
    """With `--log-format json` every line on standard error after the plan is a JSON object."""
    done = orchestrator(
        home, "restart", "fleet.csv", "--simulate", "--scenario", "scenario.toml", "--yes",
        "--log-format", "json", "--log-level", "debug", *QUICK,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    names = {line["event"] for line in lines}
    assert {"runner.started", "restart.requested", "target.ended", "run.finished"} <= names


def test_the_simulator_prints_its_url_first(home: Path) -> None:
    """`simulate` prints its URL, serves until it is told to stop, and a run can be sent there."""
    command = [sys.executable, "-m", "orchestrator", "simulate", "--fleet", "fleet.csv",
               "--scenario", "scenario.toml", "--trace", "trace.jsonl"]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=home, env=environment(home)
    ) as simulator:
        assert simulator.stdout is not None
        url = simulator.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        done = orchestrator(home, "restart", "fleet.csv", "--yes", "--endpoint", url, *QUICK)
        simulator.terminate()
        assert simulator.wait(10) == ExitCode.OK
    assert done.returncode == ExitCode.OK, done.stderr
    assert (home / "trace.jsonl").read_text().count('"executed"') == 12


def at_the_question(
    home: Path, react: Callable[[subprocess.Popen[bytes], int], object]
) -> tuple[int, str]:
    """Start a run on a terminal and react to its question; return how it ended and what it said."""
    ours, theirs = pty.openpty()
    command = [
        sys.executable, "-m", "orchestrator", "restart", "fleet.csv", "--simulate",
        "--scenario", "scenario.toml", "--trace", "trace.jsonl", *QUICK,
    ]  # fmt: skip
    env = environment(home, TERM="xterm", COLUMNS="100", LINES="30")
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=home, env=env
    ) as process:
        os.close(theirs)
        said = b""
        began = time.monotonic()
        while b"to go on: " not in said and time.monotonic() < began + 20:
            said += os.read(ours, 4096)
        react(process, ours)
        while True:
            try:
                said += os.read(ours, 4096)
            except OSError:
                break
        code = process.wait(30)
    os.close(ours)
    return code, said.decode()


@pytest.mark.parametrize(("typed", "code"), [("12", ExitCode.OK), ("yes", ExitCode.USAGE)])
def test_the_question_wants_the_number(home: Path, typed: str, code: ExitCode) -> None:
    """On a terminal the number of clusters has to be typed; anything else restarts nothing."""
    ended, text = at_the_question(home, lambda _, ours: os.write(ours, f"{typed}\n".encode()))
    assert ended == code
    assert "Restart 12 simulated clusters in 3 projects? Type 12 to go on: " in text
    assert ("12 restarted" in text) == (code is ExitCode.OK)


def test_the_question_can_be_left(home: Path) -> None:
    """Ctrl-C at the question leaves at once, with nothing restarted and no run in the journal."""
    code, text = at_the_question(home, lambda process, _: process.send_signal(signal.SIGINT))
    assert code == ExitCode.ABORTED
    assert "aborted" in text
    assert {call for call, _ in calls_in(home)} == {"list"}
    assert orchestrator(home, "runs", "-o", "json").stdout.strip() == "[]"


def fleet_of(*rows: str) -> str:
    """Return a fleet of lines of project, cluster, name, kind, datastore and number of nodes."""
    head = "project_id,cluster_id,name,kind,datastore,nodes,region"
    return "\n".join((head, *(f"{row},cn-north-4" for row in rows))) + "\n"


def calls_in(home: Path) -> list[tuple[str, str]]:
    records = [json.loads(line) for line in (home / "trace.jsonl").read_text().splitlines()]
    return [(one["call"], one["project_id"]) for one in records if one["what"] == "received"]


SIMULATED = ("--simulate", "--scenario", "scenario.toml", "--trace", "trace.jsonl", "--yes")


def test_the_plan_shows_how_the_clusters_were_found(home: Path) -> None:
    """Before anything starts, the plan says who is ready; one list a project is all it takes."""
    (home / "scenario.toml").write_text(
        SCENARIO + '[[cluster]]\nmatch = "busy"\nstate = {initial = "busy"}\n'
        '[[cluster]]\nmatch = "down"\nstate = {initial = "unhealthy"}\n'
        '[[cluster]]\nmatch = "lost"\nstate = {initial = "absent"}\n'
    )
    rows = [f"p{number % 2},c{number},{name},,," for number, name in
            enumerate(("ok", "busy", "fine", "down", "good", "lost"))]  # fmt: skip
    (home / "mixed.csv").write_text(fleet_of(*rows))
    done = orchestrator(home, "restart", "mixed.csv", *SIMULATED, *QUICK)
    assert done.returncode == ExitCode.SOME_FAILED, done.stderr
    assert (
        "  clusters  3 of 6 ready, 1 busy (busy), 1 unhealthy (down), 1 gone (lost)" in done.stderr
    )
    assert "3 restarted" in done.stderr
    calls = calls_in(home)
    first_restart = next(n for n, (call, _) in enumerate(calls) if call == "restart")
    before = [project for call, project in calls[:first_restart] if call == "list"]
    assert sorted(before) == ["p0", "p1"]


def test_wrong_kinds_are_named_before_anything_is_restarted(home: Path) -> None:
    """A fleet with kinds that do not fit ends with exit 2, every one named, and no restart."""
    rows = ("p,c1,pipes,restart,logstash,", "p,c2,orders,rolling,,2", "p,c3,logs,restart,,")
    (home / "wrong.csv").write_text(fleet_of(*rows))
    done = orchestrator(home, "restart", "wrong.csv", *SIMULATED, *QUICK)
    assert done.returncode == ExitCode.USAGE
    assert "p/c1 (pipes): restart is not for logstash clusters; use reboot, or auto" in done.stderr
    assert "p/c2 (orders): rolling needs 3 nodes, and it has 2; use restart" in done.stderr
    assert "p/c3" not in done.stderr
    assert calls_in(home) == [("list", "p")]
    assert orchestrator(home, "runs", "-o", "json").stdout.strip() == "[]"


def test_auto_chooses_by_the_datastore(home: Path) -> None:
    """With `--kind auto` Logstash is rebooted and the rest restarted; named kinds stay."""
    rows = ("p,c1,pipes,,logstash,", "p,c2,orders,,opensearch,", "p,c3,logs,rolling:ess,,3")
    (home / "auto.csv").write_text(fleet_of(*rows))
    scenario = SCENARIO + 'rolling_node = "100ms"\n'
    (home / "scenario.toml").write_text(scenario)
    dry = orchestrator(home, "restart", "auto.csv", "--kind", "auto", "--dry-run", "-o", "json")
    assert [one["kind"] for one in json.loads(dry.stdout)["targets"]] == [
        "auto", "auto", "rolling:ess",
    ]  # fmt: skip
    done = orchestrator(home, "restart", "auto.csv", "--kind", "auto", *SIMULATED, *QUICK)
    assert done.returncode == ExitCode.OK, done.stderr
    assert "kind      auto (2), rolling:ess (1)" in done.stderr
    assert "kind      reboot (1), restart (1), rolling:ess (1): plan " in done.stderr
    assert "1 with just 3 nodes, the least for a rolling restart: logs" in done.stderr
    asked = [call for call, _ in calls_in(home) if call not in {"list", "detail"}]
    assert sorted(asked) == ["reboot", "restart", "rolling"]
    report = json.loads(next(home.glob("restart-*.json")).read_text())
    assert [one["kind"] for one in report["targets"]] == ["reboot", "restart", "rolling:ess"]


def test_auto_says_for_whom_it_could_not_choose(home: Path) -> None:
    """Where a project could not be read, `auto` means restart, and the plan says for whom."""
    scenario = SCENARIO + "[reads]\nerror = {rate = 1.0, first = 1}\n"
    (home / "scenario.toml").write_text(scenario)
    (home / "auto.csv").write_text(fleet_of("p,c1,orders,auto,,"))
    done = orchestrator(home, "restart", "auto.csv", *SIMULATED, *QUICK)
    assert done.returncode == ExitCode.OK, done.stderr
    assert "unread    listing the clusters of project p: " in done.stderr
    assert "1 with kind auto that were not seen, so restart: orders" in done.stderr


def test_a_kind_for_those_that_name_none(home: Path) -> None:
    """`--kind` is for targets without one; what the fleet says of a target goes first."""
    (home / "some.csv").write_text(fleet_of("p,c1,,,,", "p,c2,,restart,,"))
    done = orchestrator(
        home, "restart", "some.csv", "--kind", "rolling:ess", "--dry-run", "-o", "json"
    )
    kinds = [target["kind"] for target in json.loads(done.stdout)["targets"]]
    assert kinds == ["rolling:ess", "restart"]
    wrong = orchestrator(home, "restart", "some.csv", "--kind", "gently", "--dry-run")
    assert wrong.returncode == ExitCode.USAGE
    assert "--kind: 'gently' is not a kind of restart" in wrong.stderr


def test_the_version_is_printed() -> None:
    """`--version` prints name and version."""
    done = CliRunner().invoke(commands, ["--version"])
    assert re.fullmatch(r"orchestrator \d+\.\d+\.\d+\n", done.output)


def test_the_readme_names_only_what_there_is() -> None:
    """Every command and option that the README shows exists."""
    text = (ROOT / "README.md").read_text()
    shown = [line.strip() for line in text.splitlines() if line.strip().startswith("orchestrator ")]
    assert len(shown) >= 5
    for line in shown:
        name = line.split()[1]
        command = commands.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None, line
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", line)) <= known, line
