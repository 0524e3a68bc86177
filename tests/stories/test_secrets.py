"""Secrets that are planted wherever one may be, and looked for in every byte that is written."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from orchestrator.cli import commands
from orchestrator.errors import ExitCode
from orchestrator.simulator import invent_targets
from tests.stories.processes import QUICK, environment, simulator

AK = "AKEXAMPLE0000000001A"
PLANTED = {
    "sk": "kEyThatNobodyMaySee0123456789abcdefghijkL",
    "temporary_sk": "sEcOnDkEyThatNobodyMaySee0123456789abcdeF",
    "security": "security-token/that+nobody==may-see",
    "token": "gT-a-token-that-nobody-may-see-0123456789",
    "password": 'p"ss wörd\\that nobody may see',
    "passcode": "918273",
}
SCENARIO = f"""
[restart]
duration = "300ms"
busy_after = "20ms"
[auth]
mode = "any"
[[auth.key]]
access_key = "{AK}"
secret_key = "{PLANTED["sk"]}"
[[auth.key]]
access_key = "HST00000000000000001"
secret_key = "{PLANTED["temporary_sk"]}"
security_token = "{PLANTED["security"]}"
[[auth.token]]
value = "{PLANTED["token"]}"
[[auth.user]]
name = "ops"
password = {json.dumps(PLANTED["password"])}
totp = "{PLANTED["passcode"]}"
"""
TABLES = """
[credentials.keys]
type = "aksk"
access_key_env = "MY_AK"
secret_key_env = "MY_SK"
[credentials.temporary]
type = "aksk"
access_key_file = "secrets/ak2"
secret_key_file = "secrets/sk2"
security_token_file = "secrets/security"
[credentials.token]
type = "token"
token_env = "MY_TOKEN"
[credentials.ops]
type = "password"
user_env = "MY_USER"
password_env = "MY_PASSWORD"
domain_env = "MY_USER"
user_id_env = "MY_USER"
passcode_file = "secrets/passcode"
"""
KINDS = ("keys", "temporary", "token", "ops")

CRASH = """
import os, sys
import orchestrator.session
from orchestrator.cli import run

def fail(*_args, **_more):
    secrets = [value for name, value in os.environ.items() if name.startswith("MY_")]
    secrets += [open(f"secrets/{name}").read() for name in os.listdir("secrets")]
    raise RuntimeError(f"a bug that shows {secrets} and {' '.join(secrets)}")

orchestrator.session.write_report = fail
sys.exit(run(sys.argv[1:]))
"""


class Night:
    """A folder in which secrets are planted, and commands are run that must not show them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.planted = dict(PLANTED)
        self.targets = invent_targets(8, 4, 3)
        projects = list(dict.fromkeys(target.project_id for target in self.targets))
        self.project_of = dict(zip(KINDS, projects, strict=True))
        text = TABLES + "".join(
            f'[cloud.projects.{project}]\ncredentials = "{kind}"\n'
            for kind, project in self.project_of.items()
        )
        (folder / "orchestrator.toml").write_text(text)
        (folder / "secrets").mkdir()
        self.plant()

    def plant(self, **others: str) -> None:
        """Put the secrets where they are read from, some of them changed."""
        self.planted |= others
        for name, value in (
            ("ak2", "HST00000000000000001"),
            ("sk2", self.planted["temporary_sk"]),
            ("security", self.planted["security"]),
            ("passcode", self.planted["passcode"]),
        ):
            (self.folder / "secrets" / name).write_text(value)

    @property
    def environ(self) -> dict[str, str]:
        return environment(self.folder) | {
            "MY_AK": AK,
            "MY_SK": self.planted["sk"],
            "MY_TOKEN": self.planted["token"],
            "MY_PASSWORD": self.planted["password"],
            "MY_USER": "ops",
        }

    def run(self, *arguments: str, program: tuple[str, ...] = ("-m", "orchestrator")) -> int:
        """Run a command; what it says is kept with the rest."""
        done = subprocess.run(
            [sys.executable, *program, *arguments],
            cwd=self.folder, env=self.environ, capture_output=True, timeout=90, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        with (self.folder / "said.txt").open("ab") as said:
            said.write(done.stdout + done.stderr)
        return done.returncode

    def restart(self, url: str, *arguments: str, program: tuple[str, ...] = ()) -> int:
        return self.run(
            "restart", "all.csv", "--yes", "--endpoint", url, "--iam-endpoint", url, "--new",
            "--metadata-endpoint", url, "--journal", "j.db", "--report", "report.json",
            "--rate", "none", *QUICK, *arguments, program=program or ("-m", "orchestrator"),
        )  # fmt: skip

    def shown(self) -> set[str]:
        """Return the names of secrets that stand in anything that was written."""
        found = set()
        for file in self.folder.rglob("*"):
            is_ours = "secrets" not in file.parts and file.name != "scenario.toml"
            if is_ours and file.is_file():
                content = file.read_bytes()
                for name, value in self.planted.items():
                    spelled = (value, json.dumps(value)[1:-1], repr(value)[1:-1])
                    if any(one.encode() in content for one in spelled):
                        found.add(f"{name} in {file.name}")
        return found

    def said(self) -> str:
        return (self.folder / "said.txt").read_text()


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


LOUD = ("-v", "--log-file", "run.log", "--log-format", "json")


def test_a_night_that_goes_well(night: Night) -> None:
    """Journal, report, log at its loudest and every word on the screen are free of secrets."""
    with simulator(night.folder, night.targets, SCENARIO) as url:
        assert night.restart(url, *LOUD) == ExitCode.OK, night.said()
        assert night.restart(url, "-v") == ExitCode.OK
        assert night.run("credentials", "all.csv", "--endpoint", url, "--iam-endpoint", url) == 0
        for command in ("report", "verify", "runs"):
            assert night.run(command, "--journal", "j.db") == ExitCode.OK
    assert night.shown() == set()
    assert len((night.folder / "run.log").read_text().splitlines()) > 20


def test_a_night_on_which_nothing_is_accepted(night: Night) -> None:
    """Refusals that repeat what they were sent, of keys, tokens and logins, are free of it too."""
    wrong = {name: f"{value[::-1]}-and-wrong" for name, value in PLANTED.items()}
    night.plant(**{k: v for k, v in wrong.items() if k not in {"security", "passcode"}})
    with simulator(night.folder, night.targets, SCENARIO) as url:
        assert night.run(
            "credentials", "all.csv", "--endpoint", url, "--iam-endpoint", url, "-o", "json"
        ) == ExitCode.USAGE  # fmt: skip
        (night.folder / "orchestrator.toml").write_text(
            (night.folder / "orchestrator.toml").read_text().replace("user_id_env", "#")
            .replace("passcode_file", "#")
        )  # fmt: skip
        for output in ("json", "text"):
            assert night.run(
                "credentials", "all.csv", "--endpoint", url, "--iam-endpoint", url, "-o", output
            ) == ExitCode.SOME_FAILED  # fmt: skip
        assert night.restart(url, *LOUD) == ExitCode.STOPPED, night.said()
        assert night.restart(url, "-v") == ExitCode.STOPPED
    assert "canonicalRequest" not in night.said()
    assert "verify aksk signature fail" in night.said()
    assert "The username or password is wrong" in night.said()
    assert night.shown() == set()


def test_a_bug_of_ours(night: Night) -> None:
    """Even a traceback whose own text shows every secret comes out without them."""
    (night.folder / "crash.py").write_text(CRASH)
    with simulator(night.folder, night.targets, SCENARIO) as url:
        assert night.restart(url, program=("crash.py",)) == ExitCode.BUG, night.said()
    assert "RuntimeError: a bug that shows" in night.said()
    assert "this is a bug in orchestrator" in night.said()
    assert night.shown() == set()


@pytest.mark.parametrize(
    "text",
    [
        '[credentials.keys]\ntype = "aksk"\nsecret_key = "{sk}"\n',
        '[credentials.keys]\ntype = "token"\ntoken = "{token}"\n',
        "[credentials.keys]\nsecret_key = {sk}\n",
    ],
)
def test_secrets_in_the_wrong_place(night: Night, text: str) -> None:
    """Who writes a secret into the settings is told so without having it read out."""
    (night.folder / "secrets" / "wrong.toml").write_text(
        text.format(sk=night.planted["sk"], token=night.planted["token"])
    )
    code = night.run("credentials", "--project", "p", "--config", "secrets/wrong.toml")
    assert code == ExitCode.USAGE
    assert night.shown() == set()


def test_torn_secrets(night: Night) -> None:
    """A secret that no header can carry is not shown by whoever says so."""
    night.plant(sk=f"{PLANTED['sk']}\nX-Evil: 1", token=f"{PLANTED['token']} ö")
    with simulator(night.folder, night.targets, SCENARIO) as url:
        assert night.restart(url) == ExitCode.USAGE
    assert "credential keys" in night.said()
    assert "credential token" in night.said()
    for name in ("sk", "token"):
        night.planted[name] = PLANTED[name]
    assert night.shown() == set()


def test_no_option_takes_a_secret() -> None:
    """Arguments are seen by all users of a machine: they say where a secret is, not what it is."""
    places = ("FILE", "NAME")
    words = ("password", "secret", "token", "passcode", "key", "access")
    found = []
    for name in commands.list_commands(click.Context(commands)):
        command = commands.get_command(click.Context(commands), name)
        assert command is not None
        found += [
            f"{name} {option}"
            for parameter in command.params
            if parameter.make_metavar(click.Context(command)) not in places
            for option in parameter.opts
            if any(word in option for word in words)
        ]
    assert found == []
