"""Where credentials stand: which is found first, what half of one is, and what is shown of it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from orchestrator.config import CloudSettings, CredentialSettings, ProjectSettings
from orchestrator.css.sources import (
    LARGEST_FILE,
    LAST_RESORT,
    MistakeError,
    Source,
    Sources,
    Surroundings,
    search,
)
from orchestrator.errors import MistakesError

HIDDEN = "s3cret-Value"
ENDPOINT = "https://css.example"

SDK = {"HUAWEICLOUD_SDK_AK": "sdk", "HUAWEICLOUD_SDK_SK": HIDDEN}
HW_TOKEN = {"HW_AUTH_TOKEN": HIDDEN}
HW_KEYS = {"HW_ACCESS_KEY": "hw", "HW_SECRET_KEY": HIDDEN}
HW_USER = {"HW_USER_NAME": "u", "HW_USER_PASSWORD": HIDDEN, "HW_DOMAIN_NAME": "d"}
OS_KEYS = {"OS_ACCESS_KEY": "os", "OS_SECRET_KEY": HIDDEN}
OS_USER = {"OS_USERNAME": "u", "OS_PASSWORD": HIDDEN, "OS_DOMAIN_NAME": "d"}
OS_CLOUD = {"OS_CLOUD": "otc"}
OS_TOKEN = {"OS_TOKEN": HIDDEN}

CLOUDS = "clouds:\n  otc:\n    auth: {ak: yaml, auth_url: 'https://iam.example/v3'}\n"
SECURE = f"clouds:\n  otc:\n    auth: {{sk: {HIDDEN}}}\n"
BASIC = f"[basic]\nak = ini\nsk = {HIDDEN}\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home in which the vendor's file and a cloud of OpenStack are."""
    (tmp_path / ".huaweicloud").mkdir()
    (tmp_path / ".huaweicloud" / "credentials").write_text(BASIC)
    (tmp_path / ".config" / "openstack").mkdir(parents=True)
    (tmp_path / ".config" / "openstack" / "clouds.yaml").write_text(CLOUDS)
    (tmp_path / ".config" / "openstack" / "secure.yaml").write_text(SECURE)
    return tmp_path


def around(environ: Mapping[str, str], home: Path | None = None) -> Surroundings:
    return Surroundings(environ, home, Path("/nowhere"))


def read(source: Source) -> dict[str, str | None]:
    return {part: source.read(part) for part in source.parts}


ORDER: list[tuple[Mapping[str, str], str, str, dict[str, str]]] = [
    (SDK, "aksk", "HUAWEICLOUD_SDK_AK", {"access_key": "sdk", "secret_key": HIDDEN}),
    (HW_TOKEN, "token", "HW_AUTH_TOKEN", {"token": HIDDEN}),
    (HW_KEYS, "aksk", "HW_ACCESS_KEY", {"access_key": "hw", "secret_key": HIDDEN}),
    (HW_USER, "password", "HW_USER_NAME", {"user": "u", "password": HIDDEN, "domain": "d"}),
    (OS_KEYS, "aksk", "OS_ACCESS_KEY", {"access_key": "os", "secret_key": HIDDEN}),
    (OS_USER, "password", "OS_USERNAME", {"user": "u", "password": HIDDEN, "domain": "d"}),
    (OS_CLOUD, "aksk", "clouds.yaml: otc", {"access_key": "yaml", "secret_key": HIDDEN}),
    ({}, "aksk", ".huaweicloud/credentials", {"access_key": "ini", "secret_key": HIDDEN}),
]
"""What is set, from the one that wins over all below it to the one that all others win over."""


@pytest.mark.parametrize("number", range(len(ORDER)))
def test_the_order_in_which_credentials_are_found(number: int, home: Path) -> None:
    """With this one and all after it set, this one is found, whole, by its name."""
    _, kind, account, parts = ORDER[number]
    environ = {k: v for given, *_ in ORDER[number:] for k, v in given.items()} | OS_TOKEN
    found = search(around(environ, home))
    assert (found.kind, read(found)) == (kind, parts)
    assert found.account.endswith(account)
    assert HIDDEN not in repr(found) + found.where


def test_the_last_resorts() -> None:
    """Without variables and files a token is taken, and without that the machine's own agency."""
    found = search(around({**OS_TOKEN, "OS_AUTH_TOKEN": "other"}))
    assert (found.kind, found.account, read(found)) == ("token", "OS_TOKEN", {"token": HIDDEN})
    found = search(around({"OS_TOKEN": " ", "OS_AUTH_TOKEN": f" {HIDDEN}\n"}))
    assert (found.account, read(found)) == ("OS_AUTH_TOKEN", {"token": HIDDEN})
    assert search(around({})) is LAST_RESORT


def test_temporary_keys() -> None:
    """A security token belongs to the key of its own family, and to no other."""
    for prefix, family in (("HUAWEICLOUD_SDK", SDK), ("HW", HW_KEYS), ("OS", OS_KEYS)):
        found = search(around({**family, f"{prefix}_SECURITY_TOKEN": "temporary"}))
        assert found.read("security_token") == "temporary"
    assert search(around({**SDK, "HW_SECURITY_TOKEN": "x"})).read("security_token") is None


def test_where_to_log_in_comes_with_the_user() -> None:
    """The address of IAM that stands beside a user is that user's."""
    assert search(around(OS_USER)).iam_url is None
    url = "https://iam.eu-de.otc.t-systems.com/v3"
    assert search(around({**OS_USER, "OS_AUTH_URL": url})).iam_url == url
    assert search(around({**HW_USER, "HW_AUTH_URL": url})).iam_url == url


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        (
            {"HUAWEICLOUD_SDK_AK": "x"},
            "HUAWEICLOUD_SDK_AK is set, but HUAWEICLOUD_SDK_SK is not",
        ),
        ({"HW_SECRET_KEY": HIDDEN}, "HW_SECRET_KEY is set, but HW_ACCESS_KEY is not"),
        (
            {"OS_PASSWORD": HIDDEN},
            (
                "OS_PASSWORD is set, but OS_USERNAME or OS_USER_NAME and OS_USER_DOMAIN_NAME or "
                "OS_DOMAIN_NAME is not"
            ),
        ),
        ({"OS_CLOUD": "otc"}, "there is no clouds.yaml"),
        ({"HUAWEICLOUD_SDK_CREDENTIALS_FILE": "/none"}, "/none cannot be read: No such file"),
    ],
)
def test_half_a_credential_is_a_mistake(environ: Mapping[str, str], words: str) -> None:
    """What is begun and not whole is told; nobody goes on with another account unseen."""
    with pytest.raises(MistakeError) as caught:
        search(around({**environ, **OS_TOKEN}))
    assert words in str(caught.value)
    assert HIDDEN not in str(caught.value)


def test_a_user_without_a_password_is_no_credential() -> None:
    """Who only said their name, as the files of OpenStack do, may still bring a token."""
    environ = {"OS_USERNAME": "u", "OS_DOMAIN_NAME": "d", **OS_TOKEN}
    assert search(around(environ)).account == "OS_TOKEN"


@pytest.mark.parametrize(
    ("auth", "kind"),
    [
        (f"{{token: {HIDDEN}}}", "token"),
        (f"{{ak: a, sk: {HIDDEN}, security_token: t}}", "aksk"),
        (f"{{username: u, password: {HIDDEN}, user_domain_name: d}}", "password"),
    ],
)
def test_clouds_of_each_kind(tmp_path: Path, auth: str, kind: str) -> None:
    """A cloud has a token, a key or a user; it is read from the file that is named, or here."""
    file = tmp_path / "clouds.yaml"
    file.write_text(f"clouds:\n  otc:\n    auth: {auth}\n")
    here = Surroundings(OS_CLOUD, None, tmp_path)
    named = around({**OS_CLOUD, "OS_CLIENT_CONFIG_FILE": str(file)})
    for surroundings in (here, named):
        found = search(surroundings)
        assert found.kind == kind
        assert HIDDEN in read(found).values()
        assert HIDDEN not in found.where


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clouds:\n  other: {}\n", "there is no cloud 'otc'"),
        ("clouds:\n  otc:\n    auth: {username: u}\n", "has no token, no ak and sk"),
        (f"clouds: [{HIDDEN}", "is not YAML"),
        ("[]", "there is no cloud 'otc'"),
    ],
)
def test_clouds_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    """A cloud that was named and is not there, or not whole, is told without showing the file."""
    (tmp_path / "clouds.yaml").write_text(text)
    with pytest.raises(MistakeError) as caught:
        search(Surroundings(OS_CLOUD, None, tmp_path))
    assert words in str(caught.value)
    assert HIDDEN not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[basic]\nak = a\n", "[basic] has no sk"),
        ("[global]\nak = a\n", "[basic] has no ak"),
        (f"{HIDDEN}\n", "is not an INI file"),
    ],
)
def test_vendor_files_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    """A file that was named has a whole key in it, or the mistake is told."""
    (tmp_path / "keys").write_text(text)
    with pytest.raises(MistakeError) as caught:
        search(around({"HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(tmp_path / "keys")}))
    assert words in str(caught.value)
    assert HIDDEN not in str(caught.value)


def test_a_vendor_file_without_a_key_is_passed_over(home: Path) -> None:
    """The vendor's usual file may be there for other things."""
    (home / ".huaweicloud" / "credentials").write_text("[global]\nak = x\n")
    assert search(around(OS_TOKEN, home)).account == "OS_TOKEN"


def test_files_are_read_as_they_are_now(home: Path) -> None:
    """What an agent puts into a file later is what is read later; variables stay as they were."""
    by_ini, by_yaml = search(around({}, home)), search(around(OS_CLOUD, home))
    (home / ".huaweicloud" / "credentials").write_text("[basic]\nak = new\nsk = new\n")
    (home / ".config" / "openstack" / "secure.yaml").write_text(SECURE.replace(HIDDEN, "new"))
    assert by_ini.read("access_key") == "new"
    assert by_yaml.read("secret_key") == "new"
    assert not by_ini.is_fixed
    assert search(around(SDK)).is_fixed


# --------------------------------------------------------------------------------------- settings


def sources(
    environ: Mapping[str, str],
    credentials: Mapping[str, CredentialSettings],
    projects: Mapping[str, str],
    *,
    endpoint: str = ENDPOINT,
) -> Sources:
    settings = CloudSettings(
        endpoint=endpoint,
        credentials=credentials,
        projects={p: ProjectSettings(credentials=name) for p, name in projects.items()},
    )
    return Sources(settings, around(environ))


PROD = CredentialSettings(type="aksk", access_key_env="AK", secret_key_env="SK")
NIGHT = CredentialSettings(type="token", token_env="NIGHT")
ENVIRON = {"AK": "a", "SK": HIDDEN, "NIGHT": "t", **OS_TOKEN}


def accounts(found: Sources, *projects: str) -> list[str | None]:
    by_project = (found.source_for(project, None) for project in projects)
    return [None if source is None else source.account for source in by_project]


def test_each_project_has_its_own() -> None:
    """A project uses the table that it names; without one, what is found by the usual search."""
    found = sources(ENVIRON, {"prod": PROD, "night": NIGHT}, {"p": "prod", "q": "night"})
    assert accounts(found, "p", "q", "r") == ["prod", "night", "OS_TOKEN"]
    source = found.source_for("p", None)
    assert source is not None
    assert (source.where, read(source)) == ("AK, SK", {"access_key": "a", "secret_key": HIDDEN})


def test_a_default_for_all_projects() -> None:
    """A table named default serves the projects that name none, and nothing is searched."""
    found = sources(ENVIRON, {"prod": PROD, "default": NIGHT}, {"p": "prod"})
    assert accounts(found, "p", "q", "r") == ["prod", "default", "default"]


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:8080", "https://localhost"])
def test_nothing_of_the_environment_goes_to_this_machine(endpoint: str) -> None:
    """A loopback endpoint gets what its project names in the settings, and nothing else."""
    found = sources({**ENVIRON, **SDK}, {"prod": PROD}, {"p": "prod"}, endpoint=endpoint)
    assert accounts(found, "p", "q") == ["prod", None]
    assert accounts(sources({}, {"default": NIGHT}, {}, endpoint=endpoint), "p") == ["default"]


def test_parts_that_are_not_there(tmp_path: Path) -> None:
    """Each part that cannot be read is named with its place, all of them at once."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "long").write_bytes(b"x" * (LARGEST_FILE + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    given = CredentialSettings(
        type="password",
        user_file=tmp_path / "empty",
        password_file=tmp_path / "long",
        domain_file=tmp_path / "binary",
        project_file=tmp_path / "none",
        user_id_env="MISSING",
    )
    source = sources({}, {"ops": given}, {"p": "ops"}).source_for("p", None)
    assert source is not None
    with pytest.raises(MistakesError) as caught:
        source.check()
    assert [line.removeprefix("credential ops: ") for line in caught.value.mistakes] == [
        f"{tmp_path}/empty is empty; put the value there",
        f"{tmp_path}/long is too long for what it should hold; name another file",
        f"{tmp_path}/binary is not text; name another file",
        (
            f"{tmp_path}/none cannot be read: No such file or directory; correct its path or its "
            "permissions"
        ),
        "the environment variable MISSING is not set; export it",
    ]
