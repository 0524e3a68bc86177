"""From the clusters that there are to a run over them: discover, look, restart."""

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from aiohttp import web

from orchestrator.config import CloudSettings
from orchestrator.discovery import Choice, Discovery, discover_fleet
from orchestrator.errors import CloudError, ExitCode
from orchestrator.fleet import read_fleet
from orchestrator.model import Kind, Target
from orchestrator.simulator import invent_targets
from tests.stories.processes import QUICK, environment, simulator

KEY, SECRET = "AKEXAMPLE0000000001A", "SKexample000000000000000000000000000000A"
SCENARIO = f"""
[restart]
duration = "200ms"
busy_after = "20ms"
[auth]
mode = "any"
[[auth.key]]
access_key = "{KEY}"
secret_key = "{SECRET}"
[[auth.token]]
value = "a-token-for-the-shop-alone"
projects = ["p-shop"]
[[auth.user]]
name = "ops"
password = "night-shift-7"
domain = "ACCOUNT"
[auth.projects]
p-shop = "cn-north-4_shop"
p-pay = "cn-north-4_twice"
p-old = "cn-north-4_twice"
"""
SETTINGS = """
[cloud]
endpoint = "URL"
iam_endpoint = "URL"
[credentials.default]
type = "TYPE"
"""
KEYS = 'access_key_env = "AK"\nsecret_key_env = "SK"\n'
TOKEN = 'token_env = "TOKEN"\nproject_env = "TOKEN_OF"\n'
LOGIN = 'user_env = "OPS"\npassword_env = "PW"\ndomain_env = "DOMAIN"\n'


def clusters() -> Sequence[Target]:
    """Return twelve clusters in three projects, one of them of Logstash, with tags."""
    invented = invent_targets(12, 3, 4)
    ids = list(dict.fromkeys(target.project_id for target in invented))
    names = dict(zip(ids, ("p-shop", "p-pay", "p-old"), strict=True))
    made = [
        replace(target, project_id=names[target.project_id], region="cn-north-4")
        for target in invented
    ]
    return [replace(made[0], kind=Kind.parse("reboot")), *made[1:]]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose settings lead to a simulator that knows one key and one user."""
    folder = tmp_path_factory.mktemp("desk")
    with simulator(folder, clusters(), SCENARIO) as url:
        settings = SETTINGS.replace("URL", url)
        (folder / "orchestrator.toml").write_text(settings.replace("TYPE", "aksk") + KEYS)
        (folder / "login.toml").write_text(settings.replace("TYPE", "password") + LOGIN)
        (folder / "token.toml").write_text(settings.replace("TYPE", "token") + TOKEN)
        yield folder


def orchestrator(
    folder: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    known = {
        "TOKEN": "a-token-for-the-shop-alone",
        "TOKEN_OF": "p-shop",
        "AK": KEY,
        "SK": SECRET,
        "OPS": "ops",
        "PW": "night-shift-7",
        "DOMAIN": "ACCOUNT",
    }
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        cwd=folder, env={**environment(folder), **known, **variables},
        capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def ids_in(text: str) -> list[str]:
    return [json.loads(line)["cluster_id"] for line in text.splitlines()]


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "yaml"])
def test_a_fleet_file_of_what_there_is(desk: Path, suffix: str) -> None:
    """What is discovered is what a restart reads: the same clusters, places, kinds and tags."""
    name = f"found.{suffix}"
    done = orchestrator(
        desk, "discover", "--project", "p-shop", "--project", "p-pay", "--region", "cn-north-4",
        "--output", name,
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "project p-shop (cn-north-4): 4 of 4",
        "project p-pay (cn-north-4): 4 of 4",
        "8 of 8 clusters in 2 projects",
    ]
    read = read_fleet([str(desk / name)], stdin=sys.stdin)
    wanted = sorted(
        (target for target in clusters() if target.project_id != "p-old"),
        key=lambda target: (target.project_id, target.name or ""),
    )
    facts = {"reboot": ("logstash", "7.10.0"), "restart": ("elasticsearch", "7.10.2")}
    assert read.targets == tuple(
        replace(
            target,
            labels=tuple(
                sorted(
                    {
                        **dict(target.labels),
                        "datastore": facts[str(target.kind)][0],
                        "version": facts[str(target.kind)][1],
                    }.items()
                )
            ),
        )
        for target in wanted
    )
    assert (desk / name).stat().st_mode & 0o777 == 0o600


def test_what_is_discovered_is_restarted(desk: Path) -> None:
    """A chosen part of a project, piped from one command into the next, is restarted, no more."""
    found = orchestrator(
        desk, "discover", "--project", "p-shop", "--where", "datastore!=logstash",
        "--where", "name=css-*", "--status", "200,303", "--type", "Elasticsearch",
        "--format", "jsonl",
    )  # fmt: skip
    assert found.returncode == ExitCode.OK, found.stderr
    assert len(ids_in(found.stdout)) == 3
    (desk / "chosen.jsonl").write_text(found.stdout)
    done = orchestrator(
        desk, "restart", "chosen.jsonl", "--expect", "3", "--report", "report.json", *QUICK,
        "--region", "cn-north-4",
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stderr
    report = json.loads((desk / "report.json").read_text())
    assert [one["cluster_id"] for one in report["targets"]] == ids_in(found.stdout)


@pytest.mark.parametrize("config", ["orchestrator.toml", "login.toml", "token.toml"])
def test_a_project_by_its_name(desk: Path, config: str) -> None:
    """IAM knows the id of a project by its name, and the name says the region."""
    done = orchestrator(
        desk, "discover", "--project-name", "cn-north-4_shop", "--format", "csv",
        "--config", config,
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stderr
    assert "project p-shop (cn-north-4): 4 of 4" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("project_id,cluster_id,name,region,kind,wave,")
    assert len(lines) == 5
    assert all(line.split(",")[3] == "cn-north-4" for line in lines[1:])


def test_names_of_no_project_and_of_several(desk: Path) -> None:
    """A name that means no project, or more than one, is told with what to do; all at once."""
    by_login = orchestrator(
        desk, "discover", "--project-name", "cn-north-4_shp", "--config", "login.toml"
    )
    assert by_login.returncode == ExitCode.USAGE
    assert "IAM knows no such project" in by_login.stderr
    done = orchestrator(
        desk, "discover", "--project-name", "cn-north-4_twice", "--project-name", "cn-north-4_shp",
        "--project", "p-shop", "--output", "never.csv",
    )  # fmt: skip
    assert done.returncode == ExitCode.USAGE
    twice, none = done.stderr.splitlines()[1:]
    assert "cn-north-4_twice: 2 projects have this name" in twice
    assert "p-pay, p-old" in twice
    assert "cn-north-4_shp: IAM knows no such project" in none
    assert not (desk / "never.csv").exists()


def test_nothing_found_is_an_error(desk: Path) -> None:
    """Without a single cluster nothing is written, and each condition says what there is."""
    (desk / "kept.csv").write_text("what was there before\n")
    done = orchestrator(
        desk, "discover", "--project", "p-shop", "--where", "env=prdo", "--output", "kept.csv"
    )
    assert done.returncode == ExitCode.SOME_FAILED
    assert "none is left; nothing was written" in done.stderr
    assert "--where env=prdo: 0 of 4 fit; there is dev, test" in done.stderr
    assert (desk / "kept.csv").read_text() == "what was there before\n"
    done = orchestrator(desk, "discover", "--project", "p-none")
    assert done.returncode == ExitCode.SOME_FAILED
    assert "there is none in these projects" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name one with --project"),
        (["--project", "p", "--where", "env"], "label=value"),
        (["--project", "p", "--output", "x.xls"], "names no format"),
        (["--project", "p", "--type", "solr"], "'solr' is not one of"),
        (["--project", "p-shop", "--format", "txt"], "Logstash clusters are rebooted"),
    ],
)
def test_wrong_use_of_discover(desk: Path, arguments: list[str], words: str) -> None:
    """What cannot be done is told before anything is written."""
    done = orchestrator(desk, "discover", *arguments)
    assert done.returncode == ExitCode.USAGE
    assert words in done.stderr
    assert done.stdout == ""


def test_a_refused_key_discovers_nothing(desk: Path) -> None:
    """A key that is refused is sent once, whatever the number of projects, and is told."""
    done = orchestrator(
        desk, "discover", *(f"--project=p{number}" for number in range(12)), SK=SECRET[::-1]
    )
    assert done.returncode == ExitCode.SOME_FAILED
    assert "12 of 12 projects could not be listed whole; nothing was written" in done.stderr
    records = [json.loads(line) for line in (desk / "trace.jsonl").read_text().splitlines()]
    refused = [one for one in records if one.get("status") == 401]
    assert len(refused) <= 2
    assert SECRET[::-1] not in done.stderr


def test_a_folder_that_is_not_there(desk: Path) -> None:
    """A file that cannot be written is told in a sentence."""
    done = orchestrator(desk, "discover", "--project", "p-shop", "--output", "no/folder/f.csv")
    assert done.returncode == ExitCode.SOME_FAILED
    assert "writing the fleet to 'no/folder/f.csv': No such file" in done.stderr


# ----------------------------------------------------------------------------- awkward services


def serve(
    answer: Callable[[web.Request], Awaitable[web.Response]],
    story: Callable[[int], Awaitable[None]],
) -> None:
    """Tell a story with a service on loopback that answers each call so."""

    async def whole() -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            await story(runner.addresses[0][1])
        finally:
            await runner.cleanup()

    anyio.run(whole)


def found_in(projects: Sequence[str], bad: str | None = None) -> Discovery:
    """Discover projects of a service that lists 2,500 clusters each, but for a bad project."""
    found: list[Discovery] = []

    async def page(request: web.Request) -> web.Response:
        project_id = request.path.split("/")[2]
        if project_id == bad:
            body = {"errCode": "CSS.0010", "externalMessage": "no permission"}
            return web.json_response(body, status=403)
        start, limit = int(request.query["start"]), min(1000, int(request.query["limit"]))
        places = range(start, min(start + limit, 2501))
        entries = [{"id": f"{project_id}-{n:04}", "status": "200"} for n in places]
        return web.json_response({"totalSize": 2500, "clusters": entries})

    async def story(port: int) -> None:
        settings = CloudSettings(endpoint=f"http://127.0.0.1:{port}")
        found.append(await discover_fleet(settings, Choice(), projects=projects, environ={}))

    serve(page, story)
    return found[0]


def test_all_pages_of_all_projects() -> None:
    """Every cluster of every page is there, in order."""
    found = found_in(["b", "a"])
    assert found.seen == {"a": 2500, "b": 2500}
    assert [target.cluster_id for target in found.targets] == [
        f"{project_id}-{number:04}" for project_id in "ab" for number in range(1, 2501)
    ]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, "{}", "the answer has no list of projects"),
        (200, "<html>", "the answer has no list of projects"),
        (403, '{"error":{"code":403,"message":"no right"}}', "IAM answered 403: no right; check"),
        (None, "", "Connection refused"),
    ],
)
def test_iam_that_does_not_help(status: int | None, body: str, words: str) -> None:
    """What IAM says instead of projects is told, and no list is asked for."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status or 200, text=body)

    async def story(port: int) -> None:
        url = f"http://127.0.0.1:{9 if status is None else port}"
        settings = CloudSettings(endpoint="http://127.0.0.1:9", iam_endpoint=url)
        await discover_fleet(settings, Choice(), names=["cn-north-4"], environ={})

    with pytest.raises(CloudError) as caught:
        serve(answer, story)
    assert str(caught.value).startswith("looking for project cn-north-4 at IAM: ")
    assert words in str(caught.value)


def test_a_project_that_cannot_be_listed() -> None:
    """With a project missing there is no fleet: nobody would see what is not restarted."""
    with pytest.raises(CloudError) as caught:
        found_in(["a", "b"], bad="b")
    assert "1 of 2 projects could not be listed whole" in str(caught.value)
    assert "listing the clusters of project b: the service answered 403" in str(caught.value)
    assert "project a" not in str(caught.value)


@pytest.mark.parametrize(("failures", "is_found"), [(3, True), (4, False)])
def test_a_list_that_cannot_be_had_just_now(*, failures: int, is_found: bool) -> None:
    """A throttled list is asked for again when the service said, a few times, and that is told."""
    calls: list[str] = []
    told: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        calls.append(request.path)
        if len(calls) <= failures:
            body = {"error_code": "APIGW.0308", "error_msg": "too often"}
            return web.json_response(body, status=429, headers={"Retry-After": "0"})
        return web.json_response({"clusters": [{"id": "c", "status": "200"}]})

    async def story(port: int) -> None:
        settings = CloudSettings(endpoint=f"http://127.0.0.1:{port}")
        found = await discover_fleet(
            settings, Choice(), projects=["p"], environ={}, say=told.append
        )
        assert found.seen == {"p": 1}

    if is_found:
        serve(answer, story)
    else:
        with pytest.raises(CloudError, match="too often"):
            serve(answer, story)
    assert len(calls) == 4
    assert len(told) == 3
    assert told[0].endswith("trying again in 0s")
