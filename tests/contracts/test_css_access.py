"""Every kind of credential against a service that asks who calls, over real HTTP."""

import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web
from yarl import URL

from orchestrator.access import Access, Standing, check_credentials, open_access
from orchestrator.config import CloudSettings, CredentialSettings, ProjectSettings
from orchestrator.css import Prompt
from orchestrator.css.exchange import Reply
from orchestrator.css.iam import read_token
from orchestrator.errors import CloudError, ConfigError, UsageError
from orchestrator.model import Target, Verdict
from orchestrator.simulator import Record, Service, invent_targets, parse_scenario
from orchestrator.simulator.server import serve
from orchestrator.simulator.trace import What
from tests.contracts.test_css_client import web_serving

AK, SK = "AKEXAMPLE0000000001A", "SKexample000000000000000000000000000000A"
PASSWORD = "correct-horse"
WRONG = "wr0ng-Value-that-nobody-may-see"
KNOWN = f"""
[auth]
mode = "any"
[[auth.key]]
access_key = "{AK}"
secret_key = "{SK}"
[[auth.key]]
access_key = "HST00000000000000001"
secret_key = "{SK}"
security_token = "temporary-token"
[[auth.user]]
name = "ops"
password = "{PASSWORD}"
domain = "ACCOUNT"
[[auth.token]]
value = "a-token-of-somebody"
"""
KEYS = CredentialSettings(type="aksk", access_key_env="AK", secret_key_env="SK")
OPS = CredentialSettings(
    type="password", user_env="USER_NAME", password_env="PASSWORD", domain_env="DOMAIN"
)
ENVIRON = {
    "AK": AK, "SK": SK, "USER_NAME": "ops", "PASSWORD": PASSWORD, "DOMAIN": "ACCOUNT",
    "AK2": "HST00000000000000001", "SECURITY": "temporary-token", "TOKEN": "a-token-of-somebody",
    "CODE": "123456", "ID": "user-id", "MINE": "",
}  # fmt: skip


@dataclass
class Desk:
    """A guarded service, and all that it wrote down."""

    settings: CloudSettings
    targets: tuple[Target, ...]
    trace: list[Record] = field(default_factory=list)

    @property
    def regions(self) -> Mapping[str, str | None]:
        return {target.project_id: target.region for target in self.targets}

    @property
    def projects(self) -> list[str]:
        return list(self.regions)

    def open(self, environ: Mapping[str, str] = ENVIRON, prompt: Prompt | None = None) -> Any:
        return open_access(
            self.settings, self.regions, time.monotonic, environ=environ, prompt=prompt
        )

    def calls(self, call: str, what: What) -> list[Record]:
        return [one for one in self.trace if (one.call, one.what) == (call, what)]


@asynccontextmanager
async def guarded(
    credential: CredentialSettings | None, scenario: str = "", *, projects: int = 3, **auth: str
) -> AsyncIterator[Desk]:
    """Serve a few clusters to those who are known, and give their projects this credential."""
    changes = "".join(f"{name} = {value}\n" for name, value in ({"mode": '"any"'} | auth).items())
    text = KNOWN.replace('mode = "any"\n', changes) + scenario
    targets = invent_targets(projects * 2, projects, 3)
    trace: list[Record] = []
    service = Service(targets, parse_scenario(text))
    async with serve(service, trace=trace.append) as server:
        settings = CloudSettings(
            endpoint=server.url,
            iam_endpoint=server.url,
            metadata_endpoint=server.url,
            request_timeout=5.0,
            credentials={} if credential is None else {"prod": credential},
            projects={}
            if credential is None
            else {t.project_id: ProjectSettings(credentials="prod") for t in targets},
        )
        yield Desk(settings, targets, trace)


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with anyio.fail_after(30):
            await story()

    anyio.run(bounded)


async def look_everywhere(desk: Desk, access: Access, times: int = 1) -> list[CloudError]:
    """List all projects at once, so many times; return what went wrong."""
    errors: list[CloudError] = []

    async def look(project_id: str) -> None:
        try:
            found = await access.client.list_clusters(project_id, None)
            assert len(found) == 2
        except CloudError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        for project_id in desk.projects * times:
            tasks.start_soon(look, project_id)
    return errors


@pytest.mark.parametrize(
    "credential",
    [
        KEYS,
        replace(KEYS, access_key_env="AK2", security_token_env="SECURITY"),
        CredentialSettings(type="token", token_env="TOKEN"),
        OPS,
        CredentialSettings(type="ecs"),
    ],
    ids=lambda one: f"{one.type}{'' if one.security_token_env is None else ', temporary'}",
)
def test_every_kind_is_accepted(credential: CredentialSettings) -> None:
    """With each kind of credential projects are listed and clusters restarted."""

    async def story() -> None:
        async with guarded(credential, token_size="30000") as desk, desk.open() as access:
            assert await look_everywhere(desk, access) == []
            answer = await access.client.restart(desk.targets[0], "r-1")
            assert answer.verdict is Verdict.ACCEPTED
            assert set(access.book.accounts.values()) == {"prod"}
            assert access.book.account_of(desk.projects[0]) == "prod"
            assert [one for one in desk.trace if one.what is What.DENIED] == []

    run(story)


def test_nothing_of_the_environment_goes_to_this_machine() -> None:
    """A loopback endpoint sees no credential that no setting gives its project."""
    environ = {"HUAWEICLOUD_SDK_AK": AK, "HUAWEICLOUD_SDK_SK": SK, "OS_TOKEN": "x"}

    async def story() -> None:
        async with guarded(None) as desk, desk.open(environ) as access:
            assert access.book.accounts == {}
            errors = await look_everywhere(desk, access)
            assert {error.error_class for error in errors} == {"unauthorized"}
            denied = [one for one in desk.trace if one.what is What.DENIED]
            assert {one.credential for one in denied} == {"nobody"}

    run(story)


# ----------------------------------------------------------------------------------- wrong keys


def test_a_wrong_key_is_shown_once() -> None:
    """Of a hundred calls in twenty projects one leaves; all others say why they did not."""

    async def story() -> None:
        async with (
            guarded(KEYS, projects=20) as desk,
            desk.open({**ENVIRON, "SK": WRONG}) as access,
        ):
            errors = await look_everywhere(desk, access, times=5)
            answer = await access.client.restart(desk.targets[0], "r-1")
            assert len(errors) == 100
            assert {error.error_class for error in errors} == {"unauthorized"}
            assert answer.verdict is Verdict.UNAUTHORIZED
            assert len(desk.trace) == 1
            said = [str(error) for error in errors]
            assert sum("lest it be locked" in words for words in said) == 99
            assert all("verify aksk signature fail" in words for words in said)
            assert WRONG not in repr(said) + repr(answer)

    run(story)


def test_a_key_that_is_mended_in_its_file(tmp_path: Path) -> None:
    """Refused, nothing more is sent; with another key in the file the calls go on by themselves."""
    (tmp_path / "sk").write_text(WRONG)
    keys = replace(KEYS, secret_key_env=None, secret_key_file=tmp_path / "sk")

    async def story() -> None:
        async with guarded(keys) as desk, desk.open() as access:
            assert len(await look_everywhere(desk, access)) == 3
            assert len(desk.calls("list", What.DENIED)) == 1
            (tmp_path / "sk").write_text(f"{SK}\n")
            assert await look_everywhere(desk, access) == []
            assert len(desk.calls("list", What.DENIED)) == 1

    run(story)


def test_a_clock_that_is_off() -> None:
    """A signature that is refused for its date says by how much our clock is off."""

    async def story() -> None:
        async with guarded(KEYS, clock_ahead='"17m"') as desk, desk.open() as access:
            for error in await look_everywhere(desk, access):
                assert "this machine's clock is 17m behind the service's" in str(error)
            assert len(desk.trace) == 1

    run(story)


def test_a_file_that_an_agent_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is read again now and then; while it is away, what it held serves on."""
    monkeypatch.setattr("orchestrator.css.book.FILE_LIFE", 0.05)
    token = tmp_path / "token"
    token.write_text("a-token-of-somebody")
    credential = CredentialSettings(type="token", token_file=token)
    other = '[[auth.token]]\nvalue = "another-token"\n'

    async def story() -> None:
        async with guarded(credential, other, projects=1) as desk, desk.open() as access:
            assert await look_everywhere(desk, access) == []
            token.write_text("another-token")
            await anyio.sleep(0.1)
            assert await look_everywhere(desk, access) == []
            token.unlink()
            await anyio.sleep(0.1)
            assert await look_everywhere(desk, access) == []
            with pytest.raises(CloudError, match="cannot be read: No such file"):
                await access.book.renew(desk.projects[0], time.monotonic())
            names = [one.credential for one in desk.calls("list", What.RECEIVED)]
            assert names == ["token#1", "token#2", "token#2"]

    run(story)


# --------------------------------------------------------------------------------------- tokens


def test_one_login_for_many_calls() -> None:
    """Calls that wait for a token wait for one login of their project."""

    async def story() -> None:
        async with guarded(OPS, latency='"50ms"') as desk, desk.open() as access:
            assert await look_everywhere(desk, access, times=20) == []
            assert len(desk.calls("token", What.ANSWERED)) == 3
            assert len(desk.calls("list", What.ANSWERED)) == 60

    run(story)


def test_one_login_if_the_project_is_given() -> None:
    """A credential made for one project, by id or name, logs in for that one only."""
    for name in ("cn-north-4", None):

        async def story(name: str | None = name) -> None:
            credential = replace(OPS, project_env="MINE")
            async with guarded(credential, projects=1) as desk:
                environ = {**ENVIRON, "MINE": name or desk.projects[0]}
                async with desk.open(environ) as access:
                    assert await look_everywhere(desk, access, times=3) == []
                    assert len(desk.calls("token", What.ANSWERED)) == 1

        run(story)


def test_tokens_are_renewed_before_they_end() -> None:
    """Over several lives of a token no call meets one that is over."""

    async def story() -> None:
        async with guarded(OPS, projects=1, token_life='"2s"') as desk, desk.open() as access:
            until = time.monotonic() + 5.0
            while time.monotonic() < until:
                assert await look_everywhere(desk, access) == []
                await anyio.sleep(0.02)
            assert desk.calls("list", What.DENIED) == []
            assert 3 <= len(desk.calls("token", What.ANSWERED)) <= 4

    run(story)


@pytest.mark.parametrize("code", ["APIGW.0301", "APIGW.0307"])
def test_a_token_that_ends_early_is_renewed_once(code: str) -> None:
    """A restart turned away for a stale token is made once more, as the same call."""

    async def story() -> None:
        async with (
            guarded(
                OPS, projects=1, token_life='"200ms"', token_claims='"24h"',
                expired_code=f'"{code}"',
            ) as desk,
            desk.open() as access,
        ):  # fmt: skip
            assert await look_everywhere(desk, access) == []
            await anyio.sleep(0.25)
            answer = await access.client.restart(desk.targets[0], "r-1")
            assert (answer.verdict, answer.request_id) == (Verdict.ACCEPTED, "r-1")
            restarts = [one for one in desk.trace if one.call == "restart"]
            assert [one.what for one in restarts] == [
                What.DENIED, What.RECEIVED, What.EXECUTED, What.ANSWERED,
            ]  # fmt: skip
            assert {one.request_id for one in restarts} == {"r-1"}
            assert len(desk.calls("token", What.ANSWERED)) == 2

    run(story)


def test_many_calls_with_a_stale_token_log_in_once() -> None:
    """However many calls are turned away at once, one login serves them all."""

    async def story() -> None:
        async with (
            guarded(OPS, projects=1, token_life='"300ms"', token_claims='"24h"') as desk,
            desk.open() as access,
        ):
            assert await look_everywhere(desk, access) == []
            await anyio.sleep(0.35)
            assert await look_everywhere(desk, access, times=30) == []
            assert len(desk.calls("token", What.ANSWERED)) == 2

    run(story)


def test_a_wrong_password_is_shown_once() -> None:
    """A refused login is not repeated, for no project, and nothing is sent to the service."""

    async def story() -> None:
        async with (
            guarded(OPS, projects=20) as desk,
            desk.open({**ENVIRON, "PASSWORD": WRONG}) as access,
        ):
            errors = await look_everywhere(desk, access, times=3)
            assert len(errors) == 60
            assert {(e.status, e.error_class) for e in errors} == {(401, "unauthorized")}
            assert [(one.call, one.what) for one in desk.trace] == [("token", What.DENIED)]
            words = str(errors[0])
            assert "IAM answered 401: The username or password is wrong" in words
            assert "check user (USER_NAME), password (PASSWORD), domain (DOMAIN)" in words
            assert WRONG not in words

    run(story)


def test_a_fresh_token_that_is_refused_as_well() -> None:
    """Where no token is accepted two are tried; then nothing more is sent to anybody."""

    async def story() -> None:
        async with guarded(OPS, mode='"signature"') as desk, desk.open() as access:
            for _ in range(5):
                errors = await look_everywhere(desk, access)
                assert {e.error_class for e in errors} == {"unauthorized"}
                assert len(errors) == 3
            assert len(desk.calls("list", What.DENIED)) == 2
            assert len(desk.calls("token", What.ANSWERED)) == 2

    run(story)


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (None, {}, "Connection refused"),
        (201, {}, "the answer has no token: it has no X-Subject-Token"),
        (429, {"Retry-After": "7"}, "IAM answered 429"),
        (302, {}, "redirects are never followed"),
        (502, {}, "IAM answered 502: Bad Gateway"),
    ],
)
def test_logins_that_lead_nowhere(
    status: int | None, headers: Mapping[str, str], words: str
) -> None:
    """Whatever else answers at IAM's address is told in words, and may be over later."""

    async def handler(request: web.Request) -> web.Response:
        assert request.path == "/v3/auth/tokens"
        text = "<html><title>Bad Gateway</title></html>"
        return web.Response(status=status or 0, text=text, headers=headers)

    async def story() -> None:
        async with web_serving(handler) as port:
            url = f"http://127.0.0.1:{9 if status is None else port}"
            settings = CloudSettings(endpoint=url, iam_endpoint=url, credentials={"default": OPS})
            async with open_access(
                settings, {"p": None}, time.monotonic, environ=ENVIRON
            ) as access:
                with pytest.raises(CloudError, match=words) as caught:
                    await access.client.probe("p", None)
                assert caught.value.error_class not in {"unauthorized", "forbidden"}
                assert "credential default for project p" in str(caught.value)
                assert caught.value.retry_after == (7.0 if headers else None)

    run(story)


@pytest.mark.parametrize(
    ("content", "life"),
    [
        ({"expires_at": "2026-08-01T01:30:03.000000Z", "issued_at": "2026-08-01T01:30:00Z"}, 3.0),
        ({"expires_at": "2026-08-01T01:30:03", "issued_at": "2026-08-01T01:30:00"}, 3.0),
        ({"expires_at": "2026-08-01T01:30:03.000000Z"}, 2.0),
        ({"expires_at": "2020-01-01T00:00:00Z"}, 0.0),
        ({"expires_at": "soon"}, math.inf),
        ({}, math.inf),
    ],
)
def test_how_long_a_token_lives(content: dict[str, str], life: float) -> None:
    """A token's life is counted by the clock of those who made it."""
    headers = {"X-Subject-Token": "t", "Date": "Sat, 01 Aug 2026 01:30:00 GMT"}
    reply = Reply(201, headers, json.dumps({"token": content}).encode())
    assert read_token(reply).ends_after == life


def test_logins_that_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login that waits too long for those before it is put off, and nothing is sent for it."""
    monkeypatch.setattr("orchestrator.css.iam.QUEUE_PATIENCE", 0.05)

    async def story() -> None:
        async with guarded(OPS, latency='"300ms"') as desk, desk.open() as access:
            errors = []

            async def log_in(project_id: str) -> None:
                try:
                    await access.book.headers(project_id, "GET", URL(desk.settings.endpoint), b"")
                except CloudError as error:
                    errors.append(error)

            async with anyio.create_task_group() as tasks:
                for project_id in desk.projects:
                    tasks.start_soon(log_in, project_id)
            assert len(errors) == 2
            assert all("take too long; try again later" in str(error) for error in errors)
            assert len(desk.calls("token", What.ANSWERED)) == 1

    run(story)


def test_iam_that_is_away_for_a_while() -> None:
    """Without IAM there is no token just now; a moment later there is."""

    async def story() -> None:
        async with guarded(OPS, projects=1, unavailable="1") as desk, desk.open() as access:
            answer = await access.client.restart(desk.targets[0], "r")
            assert answer.verdict is Verdict.UNSENT
            assert answer.error is not None
            assert "IAM answered 503" in answer.error.message
            assert await look_everywhere(desk, access) == []

    run(story)


def test_a_project_that_the_user_may_not_touch() -> None:
    """A right that is missing in one project is that project's trouble alone, and asked once."""
    user = f'[[auth.user]]\nname = "guest"\npassword = "{PASSWORD}"\nprojects = ["%s"]\n'
    first = invent_targets(6, 3, 3)[0].project_id

    async def story() -> None:
        async with (
            guarded(OPS, user % first) as desk,
            desk.open({**ENVIRON, "USER_NAME": "guest"}) as access,
        ):
            for _ in range(3):
                errors = await look_everywhere(desk, access)
                assert {(e.status, e.error_class) for e in errors} == {(403, "forbidden")}
                assert len(errors) == 2
            other = next(t for t in desk.targets if t.project_id != first)
            answer = await access.client.restart(other, "r")
            assert answer.verdict is Verdict.REFUSED
            assert len(desk.calls("token", What.DENIED)) == 2

    run(story)


class Keystone:
    """An IAM that refuses what a test says, with a 401 as the older ones do."""

    def __init__(self, refused: set[str]) -> None:
        self.refused = refused
        self.logins: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        if not request.path.startswith("/v3/auth/tokens"):
            return web.json_response({"clusters": [], "totalSize": 0})
        assert request.query_string == "nocatalog=true"
        assert request.headers["Content-Type"] == "application/json;charset=utf8"
        sent = await request.json()
        project = sent["auth"]["scope"]["project"]["id"]
        self.logins.append(project)
        if project in self.refused:
            error = {"code": 401, "message": f"no, {PASSWORD}!", "title": "Unauthorized"}
            return web.json_response({"error": error}, status=401)
        return web.json_response({}, status=201, headers={"X-Subject-Token": f"t-{project}"})


@asynccontextmanager
async def keystone(refused: set[str], projects: int) -> AsyncIterator[tuple[Keystone, Access]]:
    stone = Keystone(refused)
    regions = {f"p{number}": None for number in range(projects)}
    async with web_serving(stone.answer) as port:
        url = f"http://127.0.0.1:{port}"
        settings = CloudSettings(endpoint=url, iam_endpoint=url, credentials={"default": OPS})
        async with open_access(settings, regions, time.monotonic, environ=ENVIRON) as access:
            yield stone, access


def test_a_password_that_is_good_elsewhere() -> None:
    """A 401 for one project of a user that is known good is about the project; two are too many."""

    async def story() -> None:
        async with keystone({"p1", "p3"}, 5) as (stone, access):
            await access.client.probe("p0", None)
            for _ in range(2):
                with pytest.raises(CloudError, match="good for other projects") as caught:
                    await access.client.probe("p1", None)
                assert caught.value.error_class == "forbidden"
                assert PASSWORD not in str(caught.value)
            await access.client.probe("p2", None)
            for project_id in ("p3", "p4"):
                with pytest.raises(CloudError, match="not tried again") as caught:
                    await access.client.probe(project_id, None)
                assert caught.value.error_class == "unauthorized"
            # Tokens that are there serve on: what runs can be followed to its end.
            await access.client.probe("p0", None)
            assert stone.logins == ["p0", "p1", "p2", "p3"]

    run(story)


# ------------------------------------------------------------------------------------- passcodes

GUARD = f'[[auth.user]]\nname = "mfa"\npassword = "{PASSWORD}"\ntotp = "123456"\n'
MFA = replace(OPS, user_id_env="ID")


def test_a_passcode_is_asked_for_before_anything_else() -> None:
    """Who has a device is asked for its code when the run begins, and not after that."""
    asked: list[str] = []

    def prompt(words: str) -> str:
        asked.append(words)
        return " 123456\n"

    async def story() -> None:
        async with (
            guarded(MFA, GUARD, projects=1) as desk,
            desk.open({**ENVIRON, "USER_NAME": "mfa"}, prompt) as access,
        ):
            assert asked == [f"Passcode of credential prod for project {desk.projects[0]}: "]
            assert await look_everywhere(desk, access) == []
            assert not await access.book.renew(desk.projects[0], time.monotonic())

    with pytest.raises(CloudError, match="there is nobody to ask"):
        run(story)
    assert len(asked) == 1


def test_a_passcode_from_elsewhere() -> None:
    """A code may stand in a variable or a file; without one, and nobody to ask, none is sent."""

    async def story() -> None:
        environ = {**ENVIRON, "USER_NAME": "mfa"}
        async with guarded(replace(MFA, passcode_env="CODE"), GUARD, projects=1) as desk:
            async with desk.open(environ) as access:
                assert await look_everywhere(desk, access) == []
            with pytest.raises(UsageError, match="wrong"):
                async with desk.open({**environ, "CODE": "654321"}):
                    raise AssertionError
        async with guarded(MFA, GUARD, projects=1) as desk:
            with pytest.raises(UsageError, match="there is nobody to ask"):
                async with desk.open(environ):
                    raise AssertionError

    run(story)


def test_a_passcode_is_sent_once() -> None:
    """The same code is not shown twice: for a second project the next one is needed."""

    async def story() -> None:
        async with guarded(replace(MFA, passcode_env="CODE"), GUARD, projects=2) as desk:
            with pytest.raises(UsageError, match="was used before"):
                async with desk.open({**ENVIRON, "USER_NAME": "mfa"}):
                    raise AssertionError
            assert len(desk.trace) == 1

    run(story)


# --------------------------------------------------------------------------------------- agencies

ECS = CredentialSettings(type="ecs")


@pytest.mark.parametrize("way", ["token", "plain"])
def test_the_key_of_an_agency_is_renewed_in_time(way: str) -> None:
    """Keys of the metadata are taken anew before they end, from new and old services."""

    async def story() -> None:
        async with (
            guarded(
                ECS, projects=1, metadata=f'"{way}"', key_life='"2s"', key_overlap='"1s"'
            ) as desk,
            desk.open() as access,
        ):
            until = time.monotonic() + 3.5
            while time.monotonic() < until:
                assert await look_everywhere(desk, access) == []
                await anyio.sleep(0.02)
            assert desk.calls("list", What.DENIED) == []
            assert 2 <= len(desk.calls("securitykey", What.ANSWERED)) <= 12

    run(story)


def test_a_machine_without_an_agency() -> None:
    """No agency is a mistake in words before anything is sent, named or as the last resort."""

    async def story() -> None:
        async with guarded(ECS, metadata='"none"') as desk:
            with pytest.raises(UsageError, match="give the machine an agency"):
                async with desk.open():
                    raise AssertionError
            settings = replace(
                desk.settings, endpoint="https://css.example", projects={}, credentials={}
            )
            nobody = replace(settings, metadata_endpoint="http://127.0.0.1:9")
            with pytest.raises(UsageError, match="refused"):
                async with open_access(nobody, {"p": None}, time.monotonic, environ={}):
                    raise AssertionError
            with pytest.raises(UsageError, match=r"none are set .*OS_TOKEN.* has no agency"):
                async with open_access(settings, {"p": None}, time.monotonic, environ={}):
                    raise AssertionError

    run(story)


@pytest.mark.parametrize(
    ("first", "status", "body"),
    [
        (405, 200, b"{}"),
        (404, 200, b"x"),
        (503, 200, b'{"credential": {}}'),
        (405, 500, b""),
        (403, 200, b""),
    ],
)
def test_metadata_that_makes_no_sense(first: int, status: int, body: bytes) -> None:
    """Whatever else stands at the metadata's address is told, and not shown."""

    async def handler(request: web.Request) -> web.Response:
        if request.method == "PUT":
            return web.Response(status=first)
        return web.Response(status=status, body=body)

    async def story() -> None:
        async with web_serving(handler) as port:
            url = f"http://127.0.0.1:{port}"
            settings = CloudSettings(
                endpoint=url, metadata_endpoint=url, credentials={"default": ECS}
            )
            with pytest.raises(UsageError, match="asking the metadata service for a key: it"):
                async with open_access(settings, {"p": None}, time.monotonic, environ={}):
                    raise AssertionError

    run(story)


# ------------------------------------------------------------------------------------- the command


def test_mistakes_are_told_all_at_once(tmp_path: Path) -> None:
    """Every credential that cannot be used is named, with its parts, before anything is sent."""
    (tmp_path / "sk").write_text("two\nlines of a secret")
    given = {
        "lost": CredentialSettings(type="token", token_env="NOT_SET"),
        "torn": replace(KEYS, secret_key_env=None, secret_key_file=tmp_path / "sk"),
        "other": CredentialSettings(type="token", token_env="TOKEN", project_env="MINE"),
        "umlaut": CredentialSettings(type="token", token_env="ODD"),
    }
    settings = CloudSettings(
        endpoint="https://css.example",
        credentials=given,
        projects={name: ProjectSettings(credentials=name) for name in given},
    )
    environ = {**ENVIRON, "MINE": "another", "ODD": "tökén-of-mine"}

    async def story() -> None:
        with pytest.raises(ConfigError) as caught:
            async with open_access(settings, dict.fromkeys(given), time.monotonic, environ=environ):
                raise AssertionError
        words = caught.value.mistakes
        assert len(words) == 4
        for one, part in zip(words, ("NOT_SET", "secret key", "another", "ODD"), strict=True):
            assert part in one
        for secret in ("lines of a secret", "tökén-of-mine", "a-token-of-somebody"):
            assert secret not in str(caught.value)

    run(story)


def test_findings_of_a_check() -> None:
    """A check says for each project whose credential it uses and whether it was accepted."""

    async def story() -> None:
        async with guarded(KEYS) as desk:
            mine, yours, ours = desk.projects
            settings = replace(
                desk.settings,
                credentials={"good": KEYS, "bad": replace(KEYS, secret_key_env="DOMAIN")},
                projects={
                    mine: ProjectSettings(credentials="good"),
                    yours: ProjectSettings(credentials="bad"),
                },
            )
            found = await check_credentials(settings, desk.regions, environ=ENVIRON)
            assert [(f.project_id, f.account, f.standing) for f in found] == [
                (mine, "good", Standing.ACCEPTED),
                (yours, "bad", Standing.REFUSED),
                (ours, None, Standing.REFUSED),
            ]
            assert found[0].where == "AK, SK"
            assert "signature fail" in (found[1].error or "")
            sent = len(desk.trace)
            found = await check_credentials(settings, desk.regions, environ=ENVIRON, is_sent=False)
            assert [one.standing for one in found] == [
                Standing.UNCHECKED, Standing.UNCHECKED, Standing.NOT_NEEDED,
            ]  # fmt: skip
            assert len(desk.trace) == sent

    run(story)


def test_a_check_of_nobody_there() -> None:
    """A service that does not answer is no refusal."""

    async def story() -> None:
        settings = CloudSettings(endpoint="http://127.0.0.1:9", credentials={"default": KEYS})
        (found,) = await check_credentials(settings, {"p": None}, environ=ENVIRON)
        assert found.standing is Standing.FAILED

    run(story)
