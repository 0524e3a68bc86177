"""Settings: precedence, every rule of every key, and mistakes that name their source."""

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime, time
from pathlib import Path

import pytest

from orchestrator.config import (
    CONFIG_VARIABLE,
    DEFAULT,
    FILE_NAME,
    KEYS,
    CloudSettings,
    CredentialSettings,
    JournalSettings,
    ProjectSettings,
    Settings,
    load_settings,
    user_config_file,
)
from orchestrator.errors import ConfigError, ExitCode
from orchestrator.limits import Concurrency, Rate, Unavailable
from orchestrator.model import Kind, Target
from orchestrator.plan import FailureMode, Policy, Portion, Unhealthy
from orchestrator.ranking import Order
from orchestrator.regions import Api

CONFIG = Path(__file__).parent.parent / "config"
EXAMPLE = CONFIG / "orchestrator.example.toml"
SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"

SAMPLES: Mapping[str, tuple[str, object]] = {
    "cloud.endpoint": ("https://css.example.org/", "https://css.example.org"),
    "cloud.region_endpoint": (
        "EU_DE=https://a.example/ cn-north-4=http://[::1]:8080",
        ("eu-de=https://a.example", "cn-north-4=http://[::1]:8080"),
    ),
    "cloud.iam_endpoint": ("https://iam.example.org:8443", "https://iam.example.org:8443"),
    "cloud.metadata_endpoint": ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
    "cloud.region": ("eu-west-101", "eu-west-101"),
    "cloud.request_timeout": ("100ms", 0.1),
    "cloud.ca_file": ("/etc/ca.pem", Path("/etc/ca.pem")),
    "cloud.client_cert": ("/etc/cert.pem", Path("/etc/cert.pem")),
    "cloud.client_key": ("/etc/key.pem", Path("/etc/key.pem")),
    "cloud.client_key_password_env": ("NIGHT_KEY", "NIGHT_KEY"),
    "cloud.connections": ("7", 7),
    "limits.max_concurrency": ("4, az=2", (Concurrency(4), Concurrency(2, "az"))),
    "limits.rate": ("5/1m project=2/30s", (Rate(5, 60.0), Rate(2, 30.0, "project"))),
    "limits.max_unavailable": ("project=10%", (Unavailable(10, "project", is_percent=True),)),
    "limits.max_failures": ("5%", Portion(5, is_percent=True)),
    "limits.failure_mode": ("strict", FailureMode.STRICT),
    "waves.canary": ("3", Portion(3)),
    "waves.waves": ("1,5,10%,rest", ("1", "5", "10%", "rest")),
    "waves.soak": ("0s", 0.0),
    "waves.confirm": ("yes", True),
    "waves.order": ("Spread", Order.SPREAD),
    "waves.seed": ("7", 7),
    "follow.confirm_within": ("1h30m", 5400.0),
    "follow.settle": ("5s", 5.0),
    "follow.stable_for": ("0s", 0.0),
    "follow.healthy_deadline": ("2h", 7200.0),
    "follow.expected_duration": ("3m", 180.0),
    "follow.max_reissues": ("0", 0),
    "follow.poll_every": ("500ms", 0.5),
    "follow.unhealthy": ("first", Unhealthy.FIRST),
    "follow.wait": ("no", False),
    "window.not_before": ("01:00+08:00", "01:00+08:00"),
    "window.cutoff": ("2h", "2h"),
    "window.deadline": ("04:00Z", "04:00Z"),
    "gate.command": ("./ask.sh --all, now", ("./ask.sh --all, now",)),
    "gate.every": ("1m", 60.0),
    "gate.timeout": ("5s", 5.0),
    "journal.url": ("sqlite:////srv/j.db", "sqlite:////srv/j.db"),
    "log.format": ("json", "json"),
    "log.file": ("/var/log/o.log", Path("/var/log/o.log")),
    "log.level": ("debug", "debug"),
    "kind": ("rolling:ess", Kind.parse("rolling:ess")),
    "report": ("-", "-"),
    "change": ("CHG-1", "CHG-1"),
    "operator": ("ana", "ana"),
}
"""For every key a text that is not its default, and what it means."""


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


class Desk:
    """Where a command is given: a working directory, and the user's own file beside it."""

    def __init__(self, folder: Path) -> None:
        self.cwd = folder / "here"
        self.cwd.mkdir()
        self.user_config = folder / "user" / FILE_NAME
        self.user_config.parent.mkdir()

    def write(self, text: str, name: str = FILE_NAME) -> Path:
        path = self.cwd / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def load(
        self,
        text: str | None = None,
        *,
        options: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        config_file: Path | None = None,
    ) -> Settings:
        if text is not None:
            self.write(text)
        return load_settings(
            options=options or {},
            environ=environ or {},
            config_file=config_file,
            cwd=self.cwd,
            user_config=self.user_config,
        )

    def mistakes(
        self,
        text: str | None = None,
        *,
        options: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        config_file: Path | None = None,
    ) -> tuple[str, ...]:
        with pytest.raises(ConfigError) as caught:
            self.load(text, options=options, environ=environ, config_file=config_file)
        return caught.value.mistakes

    def mistake(self, text: str) -> str:
        """Return the only mistake of a file, without the file's name."""
        (only,) = self.mistakes(text)
        return only.removeprefix(f"{self.cwd / FILE_NAME}: ")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def in_file(name: str, value: str) -> str:
    section, _, last = name.rpartition(".")
    return f"[{section}]\n{last} = {value}\n" if section else f"{last} = {value}\n"


# ------------------------------------------------------------------------------------- precedence


def test_defaults(desk: Desk, tmp_path: Path) -> None:
    """With nothing given, every value is the contract's default and says so."""
    settings = desk.load()

    assert settings.policy == Policy()
    assert settings.cloud == CloudSettings()
    assert settings.cloud.endpoint == "https://css.{region}.myhuaweicloud.com"
    assert (settings.cloud.request_timeout, settings.cloud.connections) == (30.0, 100)
    assert settings.waves.canary is None
    assert (settings.waves.waves, settings.waves.soak) == ((), 60.0)
    assert settings.journal.path == tmp_path / "state" / "orchestrator" / "journal.db"
    assert (settings.log.format, settings.log.file, settings.log.level) == ("console", None, "info")
    assert (settings.report, settings.change, settings.operator) == (None, None, None)
    assert settings.file is None
    assert settings.origins == dict.fromkeys(KEYS, DEFAULT)


def test_every_key_has_a_sample() -> None:
    """The samples below cover the table of keys, so that no key goes untested."""
    assert set(SAMPLES) == set(KEYS)


@pytest.mark.parametrize("name", SAMPLES)
def test_each_layer_sets_each_key(desk: Desk, name: str) -> None:
    """Every key can be set by file, by variable and by option, and each wins over those before."""
    text, meaning = SAMPLES[name]
    key = KEYS[name]
    path = desk.write(in_file(name, f'"{text}"'))
    by_file = desk.load()
    path.unlink()
    by_variable = desk.load(environ={key.variable: text})
    by_option = desk.load(options={name: (text,) if key.is_many else text})

    for settings, origin in (
        (by_file, f"{path}: {name}"),
        (by_variable, key.variable),
        (by_option, f"--{key.option}"),
    ):
        assert settings.origins[name] == origin
        assert [n for n, o in settings.origins.items() if o != DEFAULT] == [name]
        assert settings.value_of(name) == meaning
        assert settings.value_of(name) != key.default


def test_precedence(desk: Desk) -> None:
    """Options win over variables, variables over the file, the file over defaults, key by key."""
    text = 'operator = "file"\nchange = "file"\nreport = "file"\n'
    environ = {"ORCHESTRATOR_OPERATOR": "variable", "ORCHESTRATOR_CHANGE": "variable"}
    settings = desk.load(text, environ=environ, options={"operator": "option"})

    assert (settings.operator, settings.change, settings.report) == ("option", "variable", "file")
    assert settings.log.level == "info"


def test_what_was_not_given_sets_nothing(desk: Desk) -> None:
    """None and () among the options, and empty variables, leave the layer below standing."""
    settings = desk.load(
        'operator = "file"',
        options={"operator": None, "limits.rate": (), "follow.wait": None},
        environ={"ORCHESTRATOR_OPERATOR": " ", "ORCHESTRATOR_RATE": "", CONFIG_VARIABLE: ""},
    )

    assert settings.operator == "file"
    assert settings.policy == Policy()


def test_a_later_layer_replaces_all_limits_of_a_key(desk: Desk) -> None:
    """Limits of two layers are not mixed: what an option says about the rate is all there is."""
    settings = desk.load(
        '[limits]\nrate = ["20/10m", "project=5/10m"]\n', options={"limits.rate": ("3/1s",)}
    )

    assert settings.value_of("limits.rate") == (Rate(3, 1.0),)


def test_typed_options(desk: Desk) -> None:
    """Values that the command line has already typed are taken as they are; spans as seconds."""
    options = {
        "cloud.request_timeout": 2.5,
        "waves.soak": 0,
        "cloud.ca_file": Path("ca.pem"),
        "journal.url": Path("j.db"),
        "limits.max_concurrency": (Concurrency(2), Concurrency(1, "az")),
        "limits.rate": (Rate(3, 0.5, "az"),),
        "limits.max_failures": Portion(7, is_percent=True),
        "waves.canary": 2,
        "follow.wait": False,
        "follow.unhealthy": Unhealthy.SKIP,
    }
    settings = desk.load(options=options)

    assert settings.cloud.request_timeout == 2.5
    assert settings.cloud.ca_file == desk.cwd / "ca.pem"
    assert settings.journal.path == desk.cwd / "j.db"
    assert settings.waves.soak == 0.0
    assert settings.waves.canary == Portion(2)
    assert settings.policy == Policy(
        limits=(Concurrency(2), Concurrency(1, "az"), Rate(3, 0.5, "az")),
        max_failures=Portion(7, is_percent=True),
        wait=False,
        unhealthy_asked=True,
    )


# --------------------------------------------------------------------------------- which file


def test_which_file(desk: Desk) -> None:
    """The named file wins over the variable's, this over the one here, this over the user's."""
    desk.user_config.write_text('operator = "user"')
    assert desk.load().operator == "user"
    desk.write('operator = "here"')
    assert desk.load().operator == "here"
    desk.write('operator = "variable"', "variable.toml")
    environ = {CONFIG_VARIABLE: "variable.toml"}
    assert desk.load(environ=environ).operator == "variable"
    named = desk.write('operator = "option"', "option.toml")
    settings = desk.load(environ=environ, config_file=Path("option.toml"))
    assert settings.operator == "option"
    assert settings.file == named


def test_the_users_file_can_be_left_out(desk: Desk) -> None:
    """Without a path for the user's own file, none is looked for."""
    desk.user_config.write_text('operator = "user"')
    settings = load_settings(
        options={}, environ={}, config_file=None, cwd=desk.cwd, user_config=None
    )
    assert settings.operator is None


def test_users_file_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own file lies in the folder that the desktop's standard names."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert user_config_file() == tmp_path / "orchestrator" / "orchestrator.toml"


def test_a_named_file_must_exist(desk: Desk) -> None:
    """A file that was asked for and is not there is an error, never a silent default."""
    (by_option,) = desk.mistakes(config_file=Path("no.toml"))
    (by_variable,) = desk.mistakes(environ={CONFIG_VARIABLE: "no.toml"})

    assert by_option.startswith(f"{desk.cwd / 'no.toml'} (named by --config): cannot be read: No ")
    assert "(named by ORCHESTRATOR_CONFIG)" in by_variable


def test_a_file_here_that_cannot_be_read_is_an_error(desk: Desk) -> None:
    """A file that is in its place but cannot be read does not give way to the next one."""
    (desk.cwd / FILE_NAME).mkdir()
    (mistake,) = desk.mistakes()
    assert mistake.startswith(f"{desk.cwd / FILE_NAME}: cannot be read: ")


@pytest.mark.parametrize("content", [b"operator = ", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_broken_toml(desk: Desk, content: bytes) -> None:
    """A file that is not TOML is one mistake; options and variables are still looked at."""
    (desk.cwd / FILE_NAME).write_bytes(content)
    first, second = desk.mistakes(environ={"ORCHESTRATOR_CONNECTIONS": "x"})
    assert first.startswith(f"{desk.cwd / FILE_NAME}: is not TOML: ")
    assert second.startswith("ORCHESTRATOR_CONNECTIONS: ")


def test_relative_paths(desk: Desk) -> None:
    """Paths in a file start at its folder, those of the other layers at the working directory."""
    path = desk.write(
        'report = "r.json"\n[cloud]\nca_file = "ca.pem"\n[log]\nfile = "~/o.log"\n'
        '[journal]\nurl = "j.db"\n[credentials.a]\ntype = "token"\ntoken_file = "t"\n',
        "etc/o.toml",
    )
    by_file = desk.load(config_file=path)
    others = desk.load(
        environ={"ORCHESTRATOR_CA_FILE": "ca.pem"}, options={"journal.url": "sqlite:///j.db"}
    )

    assert by_file.cloud.ca_file == path.parent / "ca.pem"
    assert by_file.journal.path == path.parent / "j.db"
    assert by_file.log.file == Path.home() / "o.log"
    assert by_file.cloud.credentials["a"].token_file == path.parent / "t"
    assert by_file.report == "r.json"
    assert others.cloud.ca_file == desk.cwd / "ca.pem"
    assert others.journal.url == f"sqlite:///{desk.cwd / 'j.db'}"


def test_a_home_that_does_not_exist(desk: Desk) -> None:
    """A path in the home of nobody is a mistake, not a traceback."""
    assert "home folder" in desk.mistake('[log]\nfile = "~no-such-user-here/o.log"')


# ------------------------------------------------------------------------- mistakes and sources


def test_all_mistakes_at_once(desk: Desk) -> None:
    """Every mistake of every layer is told in one error, each with its own source."""
    mistakes = desk.mistakes(
        '[limits]\nrat = "1/s"\nmax_failures = "x"\n[cloud.projects.p]\nregion = 5\n',
        environ={"ORCHESTRATOR_POLL_EVERY": "0s", "ORCHESTRATOR_MAX_CONCURENCY": "5"},
        options={"waves.waves": "rest,1", "limits.rates": "1/s"},
    )
    path = desk.cwd / FILE_NAME

    assert mistakes == (
        f"{path}: cloud.projects.p.region: must be text in quotes, not a number",
        f"{path}: limits.rat: unknown key; the nearest known is limits.rate",
        (
            "ORCHESTRATOR_MAX_CONCURENCY: unknown variable; "
            "the nearest known is ORCHESTRATOR_MAX_CONCURRENCY, or unset it"
        ),
        "option for limits.rates: unknown key; the nearest known is limits.rate",
        f"{path}: limits.max_failures: 'x' is not a number of targets; write it like 3 or 10%",
        "ORCHESTRATOR_POLL_EVERY: must be longer than 0s",
        "--waves: nothing can come after rest; put it last, once",
    )


def test_the_error_is_wrong_use(desk: Desk) -> None:
    """Settings that cannot be used end as wrong use, and say that nothing was sent."""
    with pytest.raises(ConfigError, match="nothing was sent") as caught:
        desk.load("x = 1")
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("text", "wrong", "nearest"),
    [
        ('[limits]\nmax_concurency = "1"', "limits.max_concurency", "limits.max_concurrency"),
        ('rate = "1/s"', "rate", "limits.rate"),
        ('[follow]\nrate = "1/s"', "follow.rate", "limits.rate"),
        ('[limit]\nrate = "1/s"', "limit.rate", "limits.rate"),
        ('[cloud]\nend-point = "x"', "cloud.end-point", "cloud.endpoint"),
        ("[cloud.project.p]\n", "cloud.project", "cloud.projects"),
        ("[credential]\n", "credential", "credentials"),
        ('[cloud.credentials.p]\ntype = "ecs"', "cloud.credentials", "credentials"),
        ('[cloud.projects.p]\nregoin = "x"', "cloud.projects.p.regoin", "region"),
        (
            '[credentials.a]\ntype = "ecs"\nprojct_env = "X"',
            "credentials.a.projct_env",
            "project_env",
        ),
    ],
)
def test_unknown_keys_name_the_nearest(desk: Desk, text: str, wrong: str, nearest: str) -> None:
    """A key that is not known is an error that names the known one it is nearest to."""
    assert desk.mistake(text) == f"{wrong}: unknown key; the nearest known is {nearest}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cloud = 5", "cloud: is a table"),
        ("credentials = 5", "credentials: holds tables"),
        ("credentials.prod = 5", "credentials.prod: is a table"),
        ("[cloud]\nprojects = 5", "cloud.projects: holds tables"),
        ('[cloud.projects]\np = "x"', "cloud.projects.p: is a table"),
    ],
)
def test_tables_must_be_tables(desk: Desk, text: str, words: str) -> None:
    """A value where a table belongs says how the table begins."""
    assert desk.mistake(text).startswith(words)


def test_variables_of_others_are_left_alone(desk: Desk) -> None:
    """Links that a container platform sets, and what a credential names, are no mistakes."""
    environ = {
        "ORCHESTRATOR_PORT": "tcp://10.0.0.1:80",
        "ORCHESTRATOR_PORT_80_TCP_ADDR": "10.0.0.1",
        "ORCHESTRATOR_SERVICE_HOST": "10.0.0.1",
        "ORCHESTRATOR_WEB_SERVICE_PORT_HTTP": "80",
        "ORCHESTRATOR_TOKEN": SECRET,
        "PATH": "/bin",
    }
    settings = desk.load(
        '[credentials.a]\ntype = "token"\ntoken_env = "ORCHESTRATOR_TOKEN"', environ=environ
    )
    assert set(settings.origins.values()) == {DEFAULT}


# ------------------------------------------------------------------------------------- the limits


@pytest.mark.parametrize(
    ("value", "limits"),
    [
        ("5", (Concurrency(5),)),
        ('"5"', (Concurrency(5),)),
        ("{fleet = 10, project = 3}", (Concurrency(10), Concurrency(3, "project"))),
        ("[5, 'project=3']", (Concurrency(5), Concurrency(3, "project"))),
        ("'project=3, az = 1'", (Concurrency(10), Concurrency(3, "project"), Concurrency(1, "az"))),
        ("{project = 3}", (Concurrency(10), Concurrency(3, "project"))),
    ],
)
def test_concurrency(desk: Desk, value: str, limits: tuple[Concurrency, ...]) -> None:
    """Concurrency is a number, a table or words; the fleet always has one, if only the default."""
    settings = desk.load(f"[limits]\nmax_concurrency = {value}\n")
    assert settings.value_of("limits.max_concurrency") == limits
    assert settings.policy.limits == (*limits, Rate(20, 600.0))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0", "a limit must allow at least 1"),
        ("{project = 0}", "a limit must allow at least 1"),
        ("{project = '3'}", "project: must be a whole number, not text"),
        ("{project = true}", "project: must be a whole number, not true or false"),
        ("{'a b' = 3}", "'a b' is not a scope"),
        ("true", "must be text or numbers, not true or false"),
        ("1.5", "must be text or numbers, not a number"),
        ("[[1979-05-27]]", "must be text or numbers, not a date or time"),
        ("[{a = 1}]", "must be text or numbers, not a table"),
        ("'ten'", "'ten' is not a concurrency limit"),
        ("'none'", "'none' is not a concurrency limit"),
        ("-3", "'-3' is not a concurrency limit"),
        ("[5, 'fleet=6']", "limits fleet more than once"),
        ("['az=1', 'az=1']", "limits az more than once"),
        ("[]", "names no limit"),
        ("{}", "names no limit"),
    ],
)
def test_concurrency_mistakes(desk: Desk, value: str, words: str) -> None:
    """A concurrency limit that cannot hold says what is wrong with it."""
    mistake = desk.mistake(f"[limits]\nmax_concurrency = {value}\n")
    assert mistake.startswith(f"limits.max_concurrency: {words}")


@pytest.mark.parametrize(
    ("value", "limits"),
    [
        ("'5/1m'", (Rate(5, 60.0),)),
        ("['5/1m', 'project=2/10s']", (Rate(5, 60.0), Rate(2, 10.0, "project"))),
        ("'5/m,20/1h'", (Rate(5, 60.0), Rate(20, 3600.0))),
        ("'az = 3 / 100ms'", (Rate(3, 0.1, "az"),)),
        ("'None'", ()),
        ("['none']", ()),
    ],
)
def test_rates(desk: Desk, value: str, limits: tuple[Rate, ...]) -> None:
    """A rate given replaces the default one; several per scope are fine; `none` means none."""
    settings = desk.load(f"[limits]\nrate = {value}\n")
    assert settings.policy.limits == (Concurrency(10), *limits)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("20", "'20' is not a rate"),
        ("'20/10'", "'10' is not a span"),
        ("'20/0s'", "a rate's interval must be longer than 0s"),
        ("'0/10m'", "a limit must allow at least 1"),
        ("['5/60s', '6/1m']", "limits fleet per 1m more than once"),
        ("['az=5/1m', 'az=5/1m']", "limits az per 1m more than once"),
        ("['none', '5/1m']", "none means no rate at all"),
        ("[]", "names no rate"),
        ("''", "names no rate"),
        ("{fleet = '5/1m'}", "must be text or numbers, not a table"),
        (f"'5/{'9' * 320}d'", "has an interval that never ends"),
    ],
)
def test_rate_mistakes(desk: Desk, value: str, words: str) -> None:
    """A rate that cannot hold says what is wrong with it."""
    assert desk.mistake(f"[limits]\nrate = {value}\n").startswith(f"limits.rate: {words}")


@pytest.mark.parametrize(
    ("value", "portion"), [("3", Portion(3)), ("'3'", Portion(3)), ("'5%'", Portion(5, True))]
)
def test_max_failures(desk: Desk, value: str, portion: Portion) -> None:
    """Failures allowed are a number or a percentage."""
    assert desk.load(f"[limits]\nmax_failures = {value}").policy.max_failures == portion


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("limits.max_failures", "-1", "'-1' is not a number of targets"),
        ("limits.max_failures", "'101%'", "'101%' is not a number of targets"),
        ("limits.max_failures", "'1 2'", "must be one number of targets"),
        ("limits.max_failures", "true", "must be text or numbers, not true or false"),
        ("limits.failure_mode", "'loose'", "'loose' is not known; use normal or strict"),
        ("limits.failure_mode", "1", "must be text in quotes, not a number"),
        ("waves.canary", "'rest'", "'rest' is not a number of targets"),
        ("waves.waves", "'1,0,rest'", "a wave cannot have 0 targets"),
        ("waves.waves", "'1,x'", "'x' is not a number of targets"),
        ("waves.waves", "'rest,rest'", "nothing can come after rest"),
        ("waves.waves", "[]", "names no wave"),
        ("follow.unhealthy", "'kill'", "'kill' is not known; use skip, restart or first"),
        ("follow.wait", "'maybe'", "must be true or false"),
        ("follow.wait", "1", "must be true or false"),
        ("follow.max_reissues", "-1", "must be 0 or more, not -1"),
        ("follow.max_reissues", "true", "must be a whole number, 0 or more"),
        ("follow.max_reissues", "1.0", "must be a whole number, 0 or more"),
        ("cloud.connections", "0", "must be 1 or more, not 0"),
        ("cloud.connections", "'many'", "must be a whole number, 1 or more"),
        ("cloud.region", "'cn/north'", "'cn/north' is not a region"),
        ("log.format", "'xml'", "'xml' is not known; use console or json"),
        ("log.level", "'loud'", "'loud' is not known; use debug, info, warning or error"),
        ("log.file", "5", "must be text in quotes, not a number"),
        ("window.cutoff", "04:00:00", "must carry its offset from UTC"),
        ("window.cutoff", "2026-11-23T04:00:00", "must carry its offset from UTC"),
        ("window.cutoff", "5", "must be text in quotes, not a number"),
        ("operator", "' '", "must not be empty"),
        ("change", "['a']", "must be text in quotes, not a list"),
    ],
)
def test_values_out_of_range(desk: Desk, name: str, value: str, words: str) -> None:
    """A value that a key cannot take names the key, and says what it takes."""
    assert desk.mistake(in_file(name, value)).startswith(f"{name}: {words}")


def test_lists_of_waves_and_switches(desk: Desk) -> None:
    """Waves may be a list of numbers and words; a switch knows the usual words in any case."""
    settings = desk.load(
        '[waves]\nwaves = [1, "05", "10%", "Rest"]\n', environ={"ORCHESTRATOR_WAIT": "Off"}
    )
    assert settings.waves.waves == ("1", "5", "10%", "rest")
    assert settings.policy.wait is False
    assert desk.load(environ={"ORCHESTRATOR_WAIT": "YES"}).policy.wait is True


def test_moments_of_toml(desk: Desk) -> None:
    """A date and time of TOML with an offset is kept as text."""
    settings = desk.load("[window]\ndeadline = 2026-11-23T04:00:00Z\n")
    assert settings.window.deadline == datetime(2026, 11, 23, 4, tzinfo=UTC).isoformat()
    (mistake,) = desk.mistakes("", options={"window.deadline": time(4, 0)})
    assert mistake.startswith("--deadline: must carry its offset")


ABOVE_ZERO = (
    "cloud.request_timeout", "follow.confirm_within", "follow.healthy_deadline",
    "follow.poll_every", "follow.expected_duration",
)  # fmt: skip
FROM_ZERO = ("follow.settle", "follow.stable_for", "waves.soak")


@pytest.mark.parametrize("name", ABOVE_ZERO)
def test_spans_above_zero(desk: Desk, name: str) -> None:
    """A span during which something must happen cannot be zero."""
    assert desk.mistake(in_file(name, '"0s"')) == f"{name}: must be longer than 0s"


@pytest.mark.parametrize("name", FROM_ZERO)
def test_spans_from_zero(desk: Desk, name: str) -> None:
    """A span of waiting may be zero."""
    assert desk.load(in_file(name, '"0s"')).value_of(name) == 0.0


@pytest.mark.parametrize("name", [*ABOVE_ZERO, *FROM_ZERO])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("90", "90 says no unit"),
        ("'90'", "'90' is not a span"),
        ("'-5s'", "'-5s' is not a span"),
        ("true", "must be text in quotes, not true or false"),
        (f"'{'9' * 320}d'", "must be a span that ends"),
    ],
)
def test_spans_have_units(desk: Desk, name: str, value: str, words: str) -> None:
    """A span in a file or a variable carries its unit and comes to an end."""
    assert desk.mistake(in_file(name, value)).startswith(f"{name}: {words}")


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_typed_spans_are_checked_too(desk: Desk, seconds: float) -> None:
    """Seconds that the command line hands over are held to the same rules."""
    (mistake,) = desk.mistakes(options={"waves.soak": seconds})
    assert mistake.startswith("--soak: must be a span that ends")


@pytest.mark.parametrize("value", ["skip", "restart"])
def test_unhealthy_asked(desk: Desk, value: str) -> None:
    """Treatment of unhealthy clusters counts as asked for when any layer says it."""
    given = (
        desk.load(environ={"ORCHESTRATOR_UNHEALTHY": value}),
        desk.load(options={"follow.unhealthy": value}),
        desk.load(f'[follow]\nunhealthy = "{value}"\n'),
    )
    assert all(settings.policy.unhealthy_asked for settings in given)
    assert not desk.load("").policy.unhealthy_asked


def test_a_passphrase_may_stand_in_a_variable_of_ours(desk: Desk) -> None:
    """The variable that holds a passphrase is nobody's misspelling, whoever names it."""
    environ = {"ORCHESTRATOR_NIGHT": "secret"}
    name = "client_key_password_env"
    desk.load(f'[cloud]\n{name} = "ORCHESTRATOR_NIGHT"\n', environ=environ)
    desk.load("", environ=environ, options={f"cloud.{name}": "ORCHESTRATOR_NIGHT"})
    (mistake,) = desk.mistakes(environ=environ)
    assert mistake.startswith("ORCHESTRATOR_NIGHT: unknown variable")
    assert "secret" not in mistake
    variable = {"ORCHESTRATOR_CLIENT_KEY_PASSWORD_ENV": "ORCHESTRATOR_NIGHT"}
    settings = desk.load("", environ={**environ, **variable})
    assert settings.cloud.client_key_password_env == "ORCHESTRATOR_NIGHT"


# ----------------------------------------------------------------------------------- the endpoint


@pytest.mark.parametrize(
    ("endpoint", "kept"),
    [
        ("https://css.example.org", "https://css.example.org"),
        ("https://css.{region}.example.org:8443/", "https://css.{region}.example.org:8443"),
        ("HTTPS://10.1.2.3", "HTTPS://10.1.2.3"),
        ("https://[fd00::1]", "https://[fd00::1]"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.8.9.10:1", "http://127.8.9.10:1"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
    ],
)
def test_good_endpoints(desk: Desk, endpoint: str, kept: str) -> None:
    """https goes anywhere, http to this machine; a slash at the end is dropped."""
    settings = desk.load(options={"cloud.endpoint": endpoint, "cloud.iam_endpoint": endpoint})
    assert (settings.cloud.endpoint, settings.cloud.iam_endpoint) == (kept, kept)


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("http://css.example.org", "must begin with https://"),
        ("http://127.0.0.1.example.org", "must begin with https://"),
        ("http://localhost.example.org", "must begin with https://"),
        ("http://{region}:80", "must begin with https://"),
        ("http://0.0.0.0", "must begin with https://"),
        ("http://128.0.0.1", "must begin with https://"),
        ("https://css.example.org/v1.0", "must end after the host"),
        ("https://css.example.org//", "must end after the host"),
        ("https://css.example.org?x=1", "must end after the host"),
        ("https://css.example.org/#x", "must end after the host"),
        ("https://ana:secret@css.example.org", "must not carry a user or password"),
        ("http://localhost@evil.example.org", "must not carry a user or password"),
        ("css.example.org", "is not an address"),
        ("ftp://css.example.org", "is not an address"),
        ("https://", "is not an address"),
        ("https://css.example.org:port", "is not an address"),
        ("https://css.example.org:0", "is not an address"),
        ("https://css.example.org:99999", "is not an address"),
        ("https://[::1", "is not an address"),
        ("https://css .example.org", "is not an address"),
        ("https://css\n.example.org", "is not an address"),
        ("https://evil.example.org\\.css.example.org", "is not an address"),
        ("https://css.{zone}.example.org", "is not an address; {region} is the only"),
    ],
)
@pytest.mark.parametrize("variable", ["ORCHESTRATOR_ENDPOINT", "ORCHESTRATOR_IAM_ENDPOINT"])
def test_bad_endpoints(desk: Desk, variable: str, endpoint: str, words: str) -> None:
    """An address that would send calls unencrypted, elsewhere, or not at all is refused unshown."""
    (mistake,) = desk.mistakes(environ={variable: endpoint})
    assert mistake.startswith(f"{variable}: {words}")
    assert "secret" not in mistake


PROJECTS = {"p": ProjectSettings(region="eu-west-101"), "q": ProjectSettings()}


def test_region_of_a_target() -> None:
    """The target's own region wins over its project's, that over the one for all."""
    cloud = CloudSettings(region="cn-north-4", projects=PROJECTS)
    own = Target(project_id="p", cluster_id="c", region="cn-south-1")
    of_project = Target(project_id="p", cluster_id="c")
    of_all = Target(project_id="q", cluster_id="c")
    unlisted = Target(project_id="x", cluster_id="c")

    regions = [cloud.region_for(target) for target in (own, of_project, of_all, unlisted)]
    assert regions == ["cn-south-1", "eu-west-101", "cn-north-4", "cn-north-4"]
    assert CloudSettings().region_for(of_all) is None


def test_endpoint_of_a_project() -> None:
    """The region is filled into the address; two regions answer under the service's older name."""
    cloud = CloudSettings(region="cn-north-4", projects=PROJECTS)
    own = CloudSettings(endpoint="https://css.{region}.example.org", region="cn-north-1")

    assert cloud.endpoint_for("p", None) == "https://css.eu-west-101.myhuaweicloud.eu"
    assert cloud.endpoint_for("q", None) == "https://css.cn-north-4.myhuaweicloud.com"
    assert cloud.endpoint_for("p", "cn-north-1") == "https://es.cn-north-1.myhuaweicloud.com"
    assert cloud.endpoint_for("p", "cn-east-2") == "https://es.cn-east-2.myhuaweicloud.com"
    assert cloud.iam_endpoint_for("p", None) == "https://iam.eu-west-101.myhuaweicloud.eu"
    assert cloud.iam_endpoint_for("p", "cn-east-2") == "https://iam.cn-east-2.myhuaweicloud.com"
    assert own.endpoint_for("p", None) == "https://css.cn-north-1.example.org"


@pytest.mark.parametrize(
    ("region", "css", "iam"),
    [
        ("cn-north-4", "css.cn-north-4.myhuaweicloud.com", "iam.cn-north-4.myhuaweicloud.com"),
        ("cn-north-1", "es.cn-north-1.myhuaweicloud.com", "iam.cn-north-1.myhuaweicloud.com"),
        ("af-north-1", "css.af-north-1.myhuaweicloud.com", "iam.myhuaweicloud.com"),
        ("eu-west-101", "css.eu-west-101.myhuaweicloud.eu", "iam.eu-west-101.myhuaweicloud.eu"),
        ("eu-de", "css.eu-de.otc.t-systems.com", "iam.eu-de.otc.t-systems.com"),
        ("eu-nl", "css.eu-nl.otc.t-systems.com", "iam.eu-nl.otc.t-systems.com"),
        ("xx-new-1", "css.xx-new-1.myhuaweicloud.com", "iam.myhuaweicloud.com"),
    ],
)
def test_addresses_that_are_built_in(region: str, css: str, iam: str) -> None:
    """Each region has its address, also in other clouds; IAM is global where it has none there."""
    assert CloudSettings().endpoint_for("p", region) == f"https://{css}"
    assert CloudSettings().iam_endpoint_for("p", region) == f"https://{iam}"


def test_iam_without_a_region() -> None:
    """IAM can be asked without knowing a region, if its address was left to us."""
    assert CloudSettings().iam_endpoint_for("p", None) == "https://iam.myhuaweicloud.com"
    with pytest.raises(ConfigError, match="needs a region"):
        CloudSettings(iam_endpoint="https://{region}.example.org").iam_endpoint_for("p", None)


REGIONS_FILE = """
css:
  - id: cn-north-4
    endpoint: https://file.example.org
  - id: cn-south-1
    endpoints: [css.south.example.org, https://second.example.org]
  - id: eu-de
    endpoint: "https://css.{region}.example.org"
IAM:
  - {id: cn-north-4, endpoint: https://iam.file.example.org}
ecs:
  - {id: cn-north-4, endpoint: nonsense}
"""


def test_addresses_from_the_vendors_words(desk: Desk, tmp_path: Path) -> None:
    """The vendor's variables win over its file, the first of several is taken, ours win over both.

    Only an address that was set for all regions wins over them.
    """
    (tmp_path / ".huaweicloud").mkdir()
    (tmp_path / ".huaweicloud" / "regions.yaml").write_text(REGIONS_FILE)
    environ = {
        "HOME": str(tmp_path),
        "HUAWEICLOUD_SDK_REGION_CSS_CN_NORTH_4": " http://127.0.0.1:1 , https://b.example.org",
        "HUAWEICLOUD_SDK_REGION_CSS_EU_WEST_101": "",
        "HUAWEICLOUD_SDK_REGION_IAM_CN_NORTH_9": "iam.nine.example.org",
        "HUAWEICLOUD_SDK_REGION_ECS_CN_NORTH_4": "ftp://x",
    }
    cloud = desk.load(environ=environ).cloud
    assert cloud.endpoint_for("p", "cn-north-4") == "http://127.0.0.1:1"
    assert cloud.endpoint_for("p", "cn-south-1") == "https://css.south.example.org"
    assert cloud.endpoint_for("p", "eu-de") == "https://css.eu-de.example.org"
    assert cloud.endpoint_for("p", "eu-west-101") == "https://css.eu-west-101.myhuaweicloud.eu"
    assert cloud.iam_endpoint_for("p", "cn-north-4") == "https://iam.file.example.org"
    assert cloud.iam_endpoint_for("p", "cn-north-9") == "https://iam.nine.example.org"
    assert "cn-north-4=http://127.0.0.1:1" in cloud.region_endpoints

    own = {"cloud.region_endpoint": ("cn-north-4=https://own.example.org",)}
    cloud = desk.load(environ=environ, options=own).cloud
    assert cloud.endpoint_for("p", "cn-north-4") == "https://own.example.org"
    again = desk.load(options={"cloud.region_endpoint": cloud.region_endpoints}).cloud
    assert again.region_endpoints == cloud.region_endpoints

    cloud = desk.load(environ=environ, options={"cloud.endpoint": "http://localhost:5"}).cloud
    assert cloud.endpoint_for("p", "cn-north-4") == "http://localhost:5"
    environ["HUAWEICLOUD_SDK_IAM_ENDPOINT"] = "https://iam.one.example.org"
    cloud = desk.load(environ=environ).cloud
    assert cloud.iam_endpoint_for("p", "cn-north-4") == "https://iam.one.example.org"
    assert cloud.iam_endpoint_for("p", None) == "https://iam.one.example.org"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        ("css: [", "is not YAML"),
        (b"\xff", "is not UTF-8"),
        ("- css", "holds no services"),
        ("css: {}", "css: holds no list"),
        ("css: [{endpoint: x}]", "css, entry 1: has no id"),
        ("css: [{id: a, endpoints: ['', 7]}]", "css, entry 1: has no endpoint"),
        ("css: [{id: a, endpoint: 'http://evil.example'}]", "css, entry 1: must begin with https"),
    ],
)
def test_bad_files_of_regions(
    desk: Desk, tmp_path: Path, content: str | bytes | None, words: str
) -> None:
    """A file of regions that cannot be used stops those who need an address, and nobody else."""
    file = tmp_path / "regions.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    environ = {"HUAWEICLOUD_SDK_REGIONS_FILE": str(file)}
    cloud = desk.load(environ=environ).cloud
    with pytest.raises(ConfigError) as caught:
        cloud.endpoint_for("p", "cn-north-4")
    assert words in str(caught.value)
    assert str(file) in str(caught.value)
    cloud = desk.load(environ=environ, options={"cloud.endpoint": "https://css.example.org"}).cloud
    assert cloud.endpoint_for("p", "cn-north-4") == "https://css.example.org"


def test_no_file_of_regions(desk: Desk, tmp_path: Path) -> None:
    """A home without the vendor's file, or with an empty one, changes nothing."""
    environ = {"HOME": str(tmp_path)}
    assert desk.load(environ=environ).cloud.addresses == {}
    (tmp_path / ".huaweicloud").mkdir()
    (tmp_path / ".huaweicloud" / "regions.yaml").write_text("# nothing\n")
    assert desk.load(environ=environ).cloud == CloudSettings()


def test_regions_nobody_knows() -> None:
    """A guessed address is doubted, with the nearest region known; a given one never is."""
    cloud = CloudSettings(region="cn-nroth-4")
    doubt = cloud.doubt_about("p", None)
    assert doubt is not None
    for words in ("cn-nroth-4", "https://css.cn-nroth-4.myhuaweicloud.com", "cn-north-4)", "=URL"):
        assert words in doubt
    assert "(the nearest known is cn-north-4)" in str(cloud.doubt_about("p", "CN-North-4"))
    assert "nearest" not in str(cloud.doubt_about("p", "zz"))
    assert cloud.doubt_about("p", "cn-north-9") is None
    assert CloudSettings().doubt_about("p", None) is None
    assert CloudSettings(endpoint="https://css.example.org").doubt_about("p", "zz") is None
    given = CloudSettings(addresses={(Api.CSS, "zz"): "https://css.example.org"})
    assert given.doubt_about("p", "ZZ") is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("cn-north-4", "says no address for cn-north-4"),
        ("=https://a.example", "must not be empty"),
        ("a.b=https://a.example", "is not a region"),
        ("a=https://a.example,A=https://b.example", "names a more than once"),
        ("a=http://a.example", "a: must begin with https"),
        (7, "must be text in quotes"),
    ],
)
def test_bad_addresses_of_regions(desk: Desk, given: object, words: str) -> None:
    """An address of one region has a region and is one."""
    (mistake,) = desk.mistakes(options={"cloud.region_endpoint": (given,)})
    assert words in mistake


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("http://10.0.0.1", "no other machine has"),
        ("https://metadata.example", "no other machine has"),
        ("http://me:pass@169.254.169.254", "without a user"),
        ("http://169.254.169.254/path", "without a user, a path"),
        ("169.254.169.254", "is not an address"),
    ],
)
def test_bad_metadata_endpoints(desk: Desk, endpoint: str, words: str) -> None:
    """Keys in the clear come from this machine or a link-local address, and from nowhere else."""
    assert words in desk.mistake(f'[cloud]\nmetadata_endpoint = "{endpoint}"')


def test_the_metadata_endpoint_of_the_cloud(desk: Desk) -> None:
    """The link-local address that machines of the cloud ask is taken, without its last slash."""
    good = desk.load(options={"cloud.metadata_endpoint": "http://169.254.169.254/"})
    assert good.cloud.metadata_endpoint == "http://169.254.169.254"


def test_a_fixed_endpoint_needs_no_region() -> None:
    """An address without a region in it serves every project as it is."""
    cloud = CloudSettings(endpoint="http://127.0.0.1:8080")
    assert cloud.endpoint_for("p", None) == "http://127.0.0.1:8080"


def test_a_region_that_is_not_known() -> None:
    """Without a region for the address, the error names the project and the ways to give one."""
    with pytest.raises(ConfigError) as caught:
        CloudSettings().endpoint_for("q", None)
    (mistake,) = caught.value.mistakes
    for words in ("project q: cloud.endpoint", "[cloud.projects.q]", "--region", "{region}"):
        assert words in mistake


@pytest.mark.parametrize("region", ["evil.example.org/", "a@b", "a.b", "-a", "a b"])
def test_a_region_cannot_change_the_host(region: str) -> None:
    """A region of a fleet file cannot send signed calls to another host."""
    with pytest.raises(ConfigError, match="is not a region"):
        CloudSettings().endpoint_for("p", region)


# -------------------------------------------------------------------------------------- journal


def test_journals(desk: Desk) -> None:
    """A journal is a file, however it is written, or a PostgreSQL address that is kept as it is."""
    assert desk.load(environ={"ORCHESTRATOR_JOURNAL": "/j.db"}).journal == JournalSettings(
        url="sqlite:////j.db"
    )
    postgres = desk.load(options={"journal.url": f"postgresql://o:{SECRET}@db/o?x=1"})
    assert postgres.journal.url == f"postgresql://o:{SECRET}@db/o?x=1"
    assert postgres.journal.path is None
    assert SECRET not in repr(postgres)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://", "is not a journal's address"),
        ("sqlite:j.db", "is not a journal's address"),
        ("sqlite:////j.db?mode=ro", "is not a journal's address"),
        (f"mysql://o:{SECRET}@db/o", "'mysql' is not a kind of journal"),
        ("sqlite:///", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        (":memory:", "must name a file"),
        ("/var/lib/", "must name a file"),
    ],
)
def test_bad_journals(desk: Desk, url: str, words: str) -> None:
    """A journal that would not outlive the process is refused; a password in it is not shown."""
    (mistake,) = desk.mistakes(environ={"ORCHESTRATOR_JOURNAL": url})
    assert mistake.startswith(f"ORCHESTRATOR_JOURNAL: {words}")
    assert SECRET not in mistake


# ------------------------------------------------------------------------------------- credentials

PARTS = (
    "access_key", "secret_key", "security_token", "token", "user", "password", "domain", "project",
    "user_id", "passcode",
)  # fmt: skip


def credential(kind: str, *lines: str) -> str:
    return "\n".join(("[credentials.prod]", f'type = "{kind}"', *lines))


@pytest.mark.parametrize("way", ["env", "file"])
@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("aksk", ("access_key", "secret_key")),
        ("aksk", ("access_key", "secret_key", "security_token", "project")),
        ("token", ("token",)),
        ("token", ("token", "project")),
        ("password", ("user", "password", "domain", "project")),
        ("password", ("user", "password", "domain", "user_id")),
        ("password", ("user", "password", "domain", "user_id", "passcode")),
        ("ecs", ()),
        ("ecs", ("project",)),
    ],
)
def test_credentials(desk: Desk, kind: str, parts: tuple[str, ...], way: str) -> None:
    """Each type takes its parts by the names of variables or of files, and a project can use it."""
    lines = (f'{part}_{way} = "/X"' if way == "file" else f'{part}_env = "X"' for part in parts)
    settings = desk.load(credential(kind, *lines, '[cloud.projects.p]\ncredentials = "prod"'))

    given = settings.cloud.credentials["prod"]
    named = {one.name: getattr(given, one.name) for one in fields(CredentialSettings)}
    expected: object = "X" if way == "env" else Path("/X")
    assert {n: v for n, v in named.items() if v} == {
        "type": kind,
        **{f"{part}_{way}": expected for part in parts},
    }
    assert settings.cloud.projects == {"p": ProjectSettings(credentials="prod")}


@pytest.mark.parametrize("part", PARTS)
def test_no_secret_in_the_file(desk: Desk, part: str) -> None:
    """A part written out in the file is an error that says where to put it, unshown."""
    mistake = desk.mistake(credential("ecs", f'{part} = "{SECRET}"'))
    assert mistake == (
        f"credentials.prod.{part}: must not stand in the file itself; "
        f"use {part}_env or {part}_file to say where it is"
    )


@pytest.mark.parametrize(
    "text",
    [
        credential("aksk", 'access_key_env = "A"', f'secret_key_env = "{SECRET}/+="'),
        credential("aksk", f'secretkey = "{SECRET}"'),
        credential("aksk", f'secret_key = ["{SECRET}"]'),
        credential("aksk", f'secret_key_file = ["{SECRET}"]'),
        f'[credentials]\nprod = "{SECRET}"',
        f'credentials = "{SECRET}"',
        f'[cloud.projects.p]\ntoken = "{SECRET}"',
        f'[credential.prod]\ntoken = "{SECRET}"',
        f'token = "{SECRET}"',
        f'[credentials.prod]\ntoken = "{SECRET}',
    ],
)
def test_secrets_are_never_shown(desk: Desk, text: str) -> None:
    """However a secret got into the file, no error repeats it."""
    assert not [mistake for mistake in desk.mistakes(text) if SECRET in mistake]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[credentials.prod]", "credentials.prod: says no type; use aksk, token, password or ecs"),
        (credential("akks"), "credentials.prod.type: 'akks' is not known; use aksk, token"),
        (
            credential("aksk", 'access_key_env = "A"'),
            "credentials.prod: type aksk needs secret_key; name it with secret_key_env or",
        ),
        (
            credential("token", 'token_env = "A"', 'token_file = "b"'),
            "credentials.prod: has both token_env and token_file; keep one",
        ),
        (
            credential("ecs", 'token_env = "A"'),
            "credentials.prod: type ecs takes no token, only project; leave it out",
        ),
        (
            credential(
                "password", *(f'{n}_env = "A"' for n in ("user", "password", "domain", "passcode"))
            ),
            "credentials.prod: a passcode belongs to a user_id; name that with user_id_env or",
        ),
        (credential("token", "token_env = 5"), "credentials.prod.token_env: must be text"),
        (
            '[cloud.projects.p]\ncredentials = "prod"',
            "cloud.projects.p.credentials: there is no [credentials.prod]; the file names no",
        ),
        (
            credential("ecs", '[cloud.projects.p]\ncredentials = "prd"'),
            "cloud.projects.p.credentials: there is no [credentials.prd]; the nearest known is",
        ),
    ],
)
def test_credential_mistakes(desk: Desk, text: str, words: str) -> None:
    """A credential that could not log in says what it lacks or has too much."""
    assert desk.mistake(text).startswith(words)


def test_a_broken_credential_is_still_known(desk: Desk) -> None:
    """A mistake inside a credential is told once, not again for every project that uses it."""
    mistakes = desk.mistakes(credential("x", '[cloud.projects.p]\ncredentials = "prod"'))
    assert len(mistakes) == 1


# ------------------------------------------------------------------------- the table, and the files


def test_names_of_variables_and_options() -> None:
    """No two keys share an option, and a variable is its option in capitals."""
    assert len({key.option for key in KEYS.values()}) == len(KEYS)
    assert KEYS["limits.max_concurrency"].variable == "ORCHESTRATOR_MAX_CONCURRENCY"
    assert KEYS["cloud.endpoint"].variable == "ORCHESTRATOR_ENDPOINT"
    assert KEYS["journal.url"].variable == "ORCHESTRATOR_JOURNAL"
    assert KEYS["log.level"].option == "log-level"
    assert CONFIG_VARIABLE not in {key.variable for key in KEYS.values()}


def test_defaults_as_text() -> None:
    """Help shows defaults the way an operator would write them."""
    texts = {name: key.default_text for name, key in KEYS.items()}
    assert texts["limits.max_concurrency"] == "10"
    assert texts["limits.rate"] == "20/10m"
    assert texts["limits.max_failures"] == "0"
    assert texts["follow.confirm_within"] == "1m30s"
    assert texts["follow.unhealthy"] == "skip"
    assert texts["follow.wait"] == "true"
    assert texts["waves.canary"] == ""
    assert texts["waves.waves"] == ""


def test_only_keys_have_values() -> None:
    """Asking the settings for something that is no key is an error of the one who asks."""
    with pytest.raises(KeyError):
        Settings().value_of("limits.rates")


def example_lines() -> list[tuple[str, str]]:
    """Return dotted key and line of everything the example sets or could set."""
    section, lines = "", []
    for line in EXAMPLE.read_text().splitlines():
        if header := re.match(r"#?\[(.+)\]", line):
            section = header[1] + "."
        elif setting := re.match(r"#?(\w+) = ", line):
            lines.append((section + setting[1], line))
    return lines


def test_the_example_sets_only_defaults(desk: Desk) -> None:
    """The example as it stands changes nothing, and what it calls default is the default."""
    settings = desk.load(config_file=EXAMPLE)
    marked = {name for name, line in example_lines() if re.search(r"# default\b", line)}
    active = {name for name, line in example_lines() if not line.startswith("#")}

    assert active == marked
    assert {name for name, origin in settings.origins.items() if origin != DEFAULT} == active
    assert {name: settings.value_of(name) for name in KEYS} == {
        name: key.default for name, key in KEYS.items()
    }
    assert settings.policy == Policy()


def test_the_example_knows_every_key(desk: Desk) -> None:
    """With all its comments taken off, the example loads and gives every key there is."""
    uncommented = re.sub(r"^#(?=[\[\w])", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    settings = desk.load(uncommented)

    assert DEFAULT not in settings.origins.values()
    assert {one.type for one in settings.cloud.credentials.values()} == {
        "aksk", "token", "password", "ecs",
    }  # fmt: skip
    assert [one.credentials for one in settings.cloud.projects.values()] == ["prod"]


def test_the_demo(desk: Desk) -> None:
    """The demo's settings load and restart two dozen clusters in about half a minute."""
    settings = desk.load(config_file=CONFIG / "demo.toml")

    assert settings.policy == Policy(
        limits=(Concurrency(6), Concurrency(2, "project"), Rate(8, 5.0)),
        max_failures=Portion(2),
        confirm_within=10.0,
        stable_for=1.0,
        healthy_deadline=60.0,
        expected_duration=5.0,
        poll_every=0.5,
    )
    assert (settings.waves.canary, settings.waves.soak) == (Portion(1), 1.0)


def test_loading_is_light() -> None:
    """Help can afford the settings: nothing of the network or the terminal comes with them."""
    code = (
        "import sys, orchestrator.config\n"
        "heavy = {'aiohttp', 'anyio', 'asyncio', 'rich', 'structlog', 'yaml', 'sqlite3', 'ssl'}\n"
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CONFIG.parent, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
