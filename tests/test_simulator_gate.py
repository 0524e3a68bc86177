"""The pretend gateway and IAM: who may pass, what is said to those who may not, what is given."""

import base64
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from yarl import URL

from orchestrator.errors import ConfigError
from orchestrator.model import Target
from orchestrator.secret import Secret
from orchestrator.signing import AccessKey, Signer
from orchestrator.simulator import Scenario, Service, parse_scenario
from orchestrator.simulator.gate import Admission, Request, timestamp
from orchestrator.simulator.iam import Given

KEY = AccessKey("AKEXAMPLE0000000001A", Secret("SKexample000000000000000000000000000000A"))
WRONG = AccessKey(KEY.access_key, Secret("SKexample000000000000000000000000000000B"))
AT = 1785547800.0
URL_OF_LIST = URL("http://127.0.0.1:8080/v1.0/p1/clusters?limit=10&start=1", encoded=True)
SCENARIO = """
[auth]
mode = "any"
[[auth.key]]
access_key = "AKEXAMPLE0000000001A"
secret_key = "SKexample000000000000000000000000000000A"
[[auth.key]]
access_key = "AKTEMPORARY"
secret_key = "tiger"
security_token = "lily"
projects = ["p1"]
[[auth.user]]
name = "ops"
password = "tiger"
domain = "ACME"
[[auth.user]]
name = "careful"
password = "tiger"
totp = "123456"
projects = ["p1"]
[[auth.token]]
value = "gAAAA"
[auth.projects]
p3 = "cn-north-4_search"
"""


class World:
    """A service with a gate, and requests to it."""

    def __init__(self, settings: str = "", scenario: str = SCENARIO) -> None:
        text = scenario.replace("[auth]", f"[auth]\n{settings}", 1)
        targets = (
            Target(project_id="p1", cluster_id="c1", region="cn-north-4"),
            Target(project_id="p2", cluster_id="c2", region="cn-north-4"),
        )
        self.service = Service(targets, parse_scenario(text))

    def admit(
        self, headers: Mapping[str, str], at: float = AT, project_id: str = "p1", body: bytes = b""
    ) -> Admission:
        return self.service.gate.admit(request("GET", URL_OF_LIST, headers, body), at, project_id)

    def sign(self, key: AccessKey = KEY, at: float = AT, now: float | None = None) -> Admission:
        return self.admit(signed(key, at), at if now is None else now)

    def ask(
        self, method: str, path: str, at: float = AT, body: Any = None, **headers: str
    ) -> Given:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        url = URL(f"http://127.0.0.1:8080{path}", encoded=True)
        given = self.service.iam.answer(request(method, url, sent, encoded(body)), at)
        assert given is not None
        return given

    def login(
        self, name: str = "ops", password: str = "tiger", at: float = AT, **more: Any
    ) -> Given:
        return self.ask("POST", "/v3/auth/tokens?nocatalog=true", at, login(name, password, **more))


def request(method: str, url: URL, headers: Mapping[str, str], body: bytes) -> Request:
    return Request(
        method=method,
        path=url.raw_path,
        query=url.raw_query_string,
        headers={"host": url.host_port_subcomponent or ""}
        | {name.lower(): value for name, value in headers.items()},
        body=body,
        request_id="r" * 32,
    )


def signed(
    key: AccessKey = KEY,
    at: float = AT,
    body: bytes = b"",
    more: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    sent = {"Content-Type": "application/json", **more}
    return sent | Signer(key).headers("GET", URL_OF_LIST, sent, body, at=at, project_id="p1")


def encoded(body: Any) -> bytes:
    return b"" if body is None else json.dumps(body).encode()


def login(
    name: str,
    password: str,
    *,
    domain: str = "ACME",
    project: Mapping[str, str] | None = None,
    passcode: str | None = None,
) -> dict[str, Any]:
    identity: dict[str, Any] = {
        "methods": ["password"],
        "password": {"user": {"name": name, "password": password, "domain": {"name": domain}}},
    }
    if passcode is not None:
        identity["methods"].append("totp")
        identity["totp"] = {"user": {"id": "u1", "passcode": passcode}}
    scope = {"name": "cn-north-4"} if project is None else project
    return {"auth": {"identity": identity, "scope": {"project": scope}}}


def words(admission: Admission) -> tuple[int, str, str]:
    assert admission.refusal is not None
    content = json.loads(admission.refusal.body)
    assert content["request_id"] == "r" * 32
    return admission.refusal.status, content["error_code"], content["error_msg"]


def token_of(given: Given) -> str:
    assert given.reply.status == 201
    return dict(given.reply.headers)["X-Subject-Token"]


# ------------------------------------------------------------------------------------ signatures


def test_without_settings_everybody_passes() -> None:
    """A scenario that says nothing of credentials asks for none."""
    world = World(scenario="[auth]")
    assert world.admit({}) == Admission("")
    assert world.admit({"Authorization": "nonsense", "X-Auth-Token": "x"}) == Admission("")


def test_a_right_signature_passes() -> None:
    """What our signer adds is what the gate wants, and tells who asked."""
    assert World().sign() == Admission(KEY.access_key)
    temporary = AccessKey("AKTEMPORARY", Secret("tiger"), Secret("lily"))
    assert World().sign(temporary) == Admission("AKTEMPORARY")


def test_a_wrong_signature_is_answered_with_what_was_understood() -> None:
    """The request comes back in its canonical form, with bars for line breaks."""
    world = World()
    status, code, text = words(world.sign(WRONG))
    assert (status, code) == (401, "APIGW.0301")
    assert text == (
        "Incorrect IAM authentication information: verify aksk signature fail, canonicalRequest:"
        "GET|/v1.0/p1/clusters/|limit=10&start=1|content-type:application/json|"
        "host:127.0.0.1:8080|x-project-id:p1|x-sdk-date:20260801T013000Z||"
        "content-type;host;x-project-id;x-sdk-date|"
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    assert world.sign(WRONG).credential == KEY.access_key


@pytest.mark.parametrize("name", ["X-Project-Id", "Content-Type", "X-Sdk-Date", "Host"])
def test_what_is_covered_cannot_be_changed(name: str) -> None:
    """A signature is void when a header that it names has another value, or is gone."""
    changed = signed() | {name: {"X-Sdk-Date": "20260801T013001Z"}.get(name, "p9")}
    assert words(World().admit(changed))[:2] == (401, "APIGW.0301")
    without = {key: value for key, value in signed().items() if key != name}
    if name != "Host":
        text = f"header {name.lower()} is not signed, or not sent"
        assert text in words(World().admit(without))[2]


def test_what_is_not_covered_may_change() -> None:
    """Only `SignedHeaders` counts: proxies add and change others as they like."""
    extra = {"X-Forwarded-For": "10.0.0.1", "X-Request-Id": "1" * 32, "x_odd": "\udcff"}
    assert World().admit(signed() | extra).refusal is None
    assert World().admit(signed(more={"X-Odd": "  padded "})).refusal is None
    assert words(World().admit(signed(more={"X-Odd": "é"}) | {"X-Odd": "\udcff"}))[0] == 401


def test_a_body_is_covered_unless_its_sender_says_so() -> None:
    """A changed body voids the signature; a stated hash is believed only if it states none."""
    assert World().admit(signed(body=b"{}"), body=b"{}").refusal is None
    assert World().admit(signed(body=b"{}"), body=b"[]").refusal is not None
    open_to_all = {"X-Sdk-Content-Sha256": "UNSIGNED-PAYLOAD"}
    assert World().admit(signed(body=b"{}", more=open_to_all), body=b"[]").refusal is None
    lying = {"X-Sdk-Content-Sha256": "0" * 64}
    assert World().admit(signed(body=b"{}", more=lying), body=b"{}").refusal is not None


@pytest.mark.parametrize("missing", ["host", "x-sdk-date"])
def test_host_and_date_must_be_covered(missing: str) -> None:
    """A signature that would be good anywhere, or for ever, is none."""
    headers = signed()
    headers["Authorization"] = headers["Authorization"].replace(missing, "content-type")
    assert f"header {missing} is not signed" in words(World().admit(headers))[2]


@pytest.mark.parametrize("seconds", [-901.0, 901.0, 86400.0])
def test_a_signature_is_good_for_a_quarter_of_an_hour(seconds: float) -> None:
    """A date more than fifteen minutes off, either way, is refused like a wrong signature."""
    assert World().sign(now=AT - 900).refusal is None
    assert World().sign(now=AT + 900).refusal is None
    status, code, text = words(World().sign(now=AT + seconds))
    assert (status, code) == (401, "APIGW.0301")
    assert "signature expired" in text
    headers = signed() | {"X-Sdk-Date": "yesterday"}
    assert "signature expired" in words(World().admit(headers))[2]


@pytest.mark.parametrize(
    ("headers", "fragment"),
    [
        ({}, "x-auth-token not found"),
        ({"X-Auth-Token": "made up"}, "decrypt token fail"),
        ({"Authorization": "Basic dGlnZXI="}, "Basic is not SDK-HMAC-SHA256"),
        (
            {
                "Authorization": "V11-HMAC-SHA256 Credential=AK/20260801/cn-north-4/css, "
                f"SignedHeaders=host;x-sdk-date, Signature={'0' * 64}"
            },
            "V11-HMAC-SHA256 is not SDK-HMAC-SHA256",
        ),
        (
            {
                "Authorization": "SDK-HMAC-SHA256 Credential=AK/20260801/eu-de/css/sdk_request, "
                f"SignedHeaders=host;x-sdk-date, Signature={'0' * 64}"
            },
            "SDK-HMAC-SHA256 is not SDK-HMAC-SHA256 as it is known here",
        ),
        (
            {
                "Authorization": "SDK-HMAC-SHA256 Access=AKNOBODY, "
                f"SignedHeaders=host;x-sdk-date, Signature={'0' * 64}"
            },
            "Get secretKey failed,ak:AKNOBODY,err:ak not exist",
        ),
    ],
)
def test_refusals_have_the_fragments_of_the_real_ones(
    headers: dict[str, str], fragment: str
) -> None:
    """No credentials, unknown ones and other dialects are told apart by words, not by code."""
    status, code, text = words(World().admit(headers))
    assert (status, code) == (401, "APIGW.0301")
    assert fragment in text


def test_a_temporary_key_needs_its_token() -> None:
    """Without the security token, or with another, a temporary key is refused."""
    for token in (None, Secret("rose")):
        key = AccessKey("AKTEMPORARY", Secret("tiger"), token)
        assert "x-security-token is not the key's" in words(World().sign(key))[2]


def test_five_failures_in_a_row_lock_a_key() -> None:
    """A locked key is refused, right or wrong, until its time is over; others are not."""
    world = World('lock_for = "5m"')
    for _ in range(5):
        assert "canonicalRequest" in words(world.sign(WRONG))[2]
    for late in (0.0, 299.0):
        assert "AK access failed to reach the limit,forbidden" in words(world.sign(at=AT + late))[2]
    temporary = AccessKey("AKTEMPORARY", Secret("tiger"), Secret("lily"))
    assert world.sign(temporary).refusal is None
    assert world.sign(at=AT + 300).refusal is None
    assert "canonicalRequest" in words(world.sign(WRONG, AT + 300))[2]


def test_a_success_forgives_failures() -> None:
    """Only failures in a row count."""
    world = World()
    for _ in range(3):
        for _ in range(4):
            assert "canonicalRequest" in words(world.sign(WRONG))[2]
        assert world.sign().refusal is None


@pytest.mark.parametrize(("mode", "refused"), [("token", "signature"), ("signature", "token")])
def test_a_gateway_may_want_one_kind_only(mode: str, refused: str) -> None:
    """With one mode the other kind of credentials counts as none."""
    world = World(scenario=SCENARIO.replace('"any"', f'"{mode}"'))
    admissions = {"signature": world.sign(), "token": world.admit({"X-Auth-Token": "gAAAA"})}
    assert admissions[mode].refusal is None
    assert "x-auth-token not found" in words(admissions[refused])[2]


def test_another_projects_key_is_no_wrong_key() -> None:
    """What is right, but for other projects, is a 403: the key itself is not to blame."""
    temporary = AccessKey("AKTEMPORARY", Secret("tiger"), Secret("lily"))
    world = World()
    elsewhere = signed(temporary)
    elsewhere["X-Project-Id"] = "p2"
    headers = Signer(temporary).headers("GET", URL_OF_LIST, {}, b"", at=AT)
    assert words(world.admit(headers, project_id="p2"))[:2] == (403, "APIGW.0302")
    assert words(world.admit(signed(), project_id="p2"))[:2] == (403, "APIGW.0302")
    assert world.admit(headers).refusal is None


# ---------------------------------------------------------------------------------------- tokens


def test_a_token_is_given_for_a_password_and_passes() -> None:
    """201, the token in its header, and all of what a client may want to know in the body."""
    world = World("token_size = 20000")
    given = world.login()
    token = token_of(given)
    assert len(token) == 20000
    content = json.loads(given.reply.body)["token"]
    assert content["issued_at"] == "2026-08-01T01:30:00.000000Z"
    assert content["expires_at"] == "2026-08-02T01:30:00.000000Z"
    assert content["project"]["id"] == "p1"
    assert content["user"]["name"] == "ops"
    assert (given.call, given.credential) == ("token", "ops")
    assert world.admit({"X-Auth-Token": token}) == Admission("ops#1")
    assert token_of(world.login()) != token
    assert world.admit({"X-Auth-Token": token}) == Admission("ops#1")


@pytest.mark.parametrize("code", ["APIGW.0301", "APIGW.0307"])
def test_a_token_dies(code: str) -> None:
    """After its life a token is refused, whatever life was promised with it."""
    world = World(f'token_life = "3s"\ntoken_claims = "1h"\nexpired_code = "{code}"')
    given = world.login()
    assert json.loads(given.reply.body)["token"]["expires_at"] == timestamp(AT + 3600)
    headers = {"X-Auth-Token": token_of(given)}
    assert world.admit(headers, AT + 2.9).refusal is None
    status, told, text = words(world.admit(headers, AT + 3))
    assert (status, told) == (401, code)
    assert "token expires, expires_at:2026-08-01T01:30:03.000000Z" in text


@pytest.mark.parametrize(
    ("scope", "project"),
    [
        ({"id": "p2"}, "p2"),
        ({"name": "cn-north-4"}, "p1"),
        ({"name": "cn-north-4_2"}, "p2"),
        ({"name": "cn-north-4_search"}, "p3"),
    ],
)
def test_a_token_is_good_for_one_project(scope: dict[str, str], project: str) -> None:
    """The scope names the project by id or by name; elsewhere the token is a 403."""
    world = World()
    headers = {"X-Auth-Token": token_of(world.login(project=scope))}
    for one in ("p1", "p2", "p3"):
        refusal = world.admit(headers, project_id=one).refusal
        assert (refusal is None) == (one == project)
        assert refusal is None or refusal.status == 403


def test_a_token_without_a_project_is_good_for_none() -> None:
    """Who names no scope gets a token of the account, which no cluster's project takes."""
    world = World()
    body = login("ops", "tiger")
    del body["auth"]["scope"]
    given = world.ask("POST", "/v3/auth/tokens", body=body)
    assert "project" not in json.loads(given.reply.body)["token"]
    headers = {"X-Auth-Token": token_of(given)}
    assert words(world.admit(headers))[0] == 403
    assert world.ask("GET", "/v3/projects", X_Auth_Token=token_of(given)).reply.status == 200


@pytest.mark.parametrize(
    ("name", "password", "more", "status"),
    [
        ("ops", "lily", {}, 401),
        ("nobody", "tiger", {}, 401),
        ("ops", "tiger", {"domain": "OTHER"}, 401),
        ("ops", "tiger", {"project": {"name": "mars"}}, 404),
        ("careful", "tiger", {}, 401),
        ("careful", "tiger", {"passcode": "000000"}, 401),
        ("careful", "tiger", {"passcode": "123456"}, 201),
        ("careful", "tiger", {"passcode": "123456", "project": {"id": "p2"}}, 403),
    ],
)
def test_iam_looks_closely(name: str, password: str, more: dict[str, Any], status: int) -> None:
    """Password, account, passcode and project must all be right; refusals are in IAM's shape."""
    given = World().login(name, password, **more)
    assert given.reply.status == status
    assert given.credential == name
    content = json.loads(given.reply.body)
    if status != 201:
        assert content["error"]["code"] == status
        assert set(content["error"]) == {"code", "message", "title"}


def test_a_passcode_that_is_promised_must_come() -> None:
    """A login that names the method without its part has shown no passcode."""
    body = login("careful", "tiger", passcode="123456")
    body["auth"]["identity"]["totp"] = {"user": {"passcode": "123456"}}
    assert World().ask("POST", "/v3/auth/tokens", body=body).reply.status == 401


def test_a_user_may_come_by_id() -> None:
    """The id that a token tells names its user too, without the account."""
    world = World()
    user = json.loads(world.login().reply.body)["token"]["user"]
    body = login("", "tiger")
    body["auth"]["identity"]["password"]["user"] = {"id": user["id"], "password": "tiger"}
    given = world.ask("POST", "/v3/auth/tokens", body=body)
    assert (given.reply.status, given.credential) == (201, "ops")
    body["auth"]["identity"]["password"]["user"] = {
        "name": "ops", "domain": {"id": "d"}, "password": "tiger"
    }  # fmt: skip
    assert world.ask("POST", "/v3/auth/tokens", body=body).reply.status == 201


def test_failed_logins_lock_a_user() -> None:
    """After too many wrong passwords the right one does not help either, for a while."""
    world = World('lock_after = 3\nlock_for = "15m"')
    for _ in range(3):
        assert b"wrong" in world.login(password="lily").reply.body
    assert b"locked" in world.login().reply.body
    assert world.login(at=AT + 900).reply.status == 201


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {"auth": {}},
        {"auth": {"identity": {"methods": ["token"], "token": {"id": "x"}}}},
        {"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "ops"}}}}},
        {
            "auth": {
                "identity": {
                    "methods": ["password"],
                    "password": {"user": {"name": "ops", "password": "tiger"}},
                }
            }
        },
    ],
)
def test_what_is_no_login_is_a_bad_request(body: Any) -> None:
    """A body that IAM cannot read is a 400, and locks nobody."""
    assert World().ask("POST", "/v3/auth/tokens", body=body).reply.status == 400


def test_an_open_gateway_takes_any_password() -> None:
    """Without settings a login always works, so that clients can be tried out."""
    given = World(scenario="[auth]").login("anybody", "anything")
    assert given.reply.status == 201


def test_iam_may_be_unavailable_at_first() -> None:
    """The first calls get a 503 in IAM's shape, the metadata is not concerned."""
    world = World("unavailable = 2")
    assert world.ask("GET", "/openstack/latest/securitykey").reply.status == 401
    assert [world.login().reply.status for _ in range(3)] == [503, 503, 201]


# -------------------------------------------------------------------------------------- projects


def test_projects_are_found_by_name() -> None:
    """Who signs, or has a token, may ask for the ids of a name; a token is asked for no project."""
    world = World()
    url = URL("http://127.0.0.1:8080/v3/projects?name=cn-north-4_2", encoded=True)
    given = world.service.iam.answer(
        request("GET", url, Signer(KEY).headers("GET", url, {}, b"", at=AT), b""), AT
    )
    assert given is not None
    assert given.credential == KEY.access_key
    (found,) = json.loads(given.reply.body)["projects"]
    assert (found["id"], found["name"], found["enabled"]) == ("p2", "cn-north-4_2", True)
    token = token_of(world.login())
    every = world.ask("GET", "/v3/projects", X_Auth_Token=token)
    assert [one["id"] for one in json.loads(every.reply.body)["projects"]] == ["p1", "p2", "p3"]
    none = world.ask("GET", "/v3/projects?name=mars", X_Auth_Token=token)
    assert json.loads(none.reply.body)["projects"] == []
    assert world.ask("GET", "/v3/projects").reply.status == 401


# -------------------------------------------------------------------------------------- metadata


def metadata_token(world: World, seconds: str = "60", at: float = AT) -> str:
    path = "/meta-data/latest/api/token"
    given = world.ask("PUT", path, at, X_Metadata_Token_Ttl_Seconds=seconds)
    assert given.reply.status == 200
    return given.reply.body.decode()


def key_of(world: World, token: str, at: float = AT) -> tuple[AccessKey, str]:
    given = world.ask("GET", "/openstack/latest/securitykey", at, X_Metadata_Token=token)
    assert given.reply.status == 200
    content = json.loads(given.reply.body)["credential"]
    key = AccessKey(content["access"], Secret(content["secret"]), Secret(content["securitytoken"]))
    return key, content["expires_at"]


def test_the_metadata_gives_keys_that_pass_until_they_expire() -> None:
    """Keys of an agency are temporary; the next ones come before their end, and both pass."""
    world = World('key_life = "1h"\nkey_overlap = "10m"')
    token = metadata_token(world, "21600")
    first, expires_at = key_of(world, token)
    assert expires_at == "2026-08-01T02:30:00.000000Z"
    assert world.sign(first).refusal is None
    assert key_of(world, token, AT + 2999)[0] == first
    second, _ = key_of(world, token, AT + 3000)
    assert second != first
    assert world.sign(first, AT + 3599).refusal is None
    assert world.sign(second, AT + 3599).refusal is None
    assert "token expires" in words(world.sign(first, AT + 3600))[2]


def test_the_metadata_wants_its_own_token() -> None:
    """A token of the metadata has a life that its asker chose, within bounds."""
    world = World()
    path = "/openstack/latest/securitykey"
    token = metadata_token(world, "60")
    assert world.ask("GET", path, AT + 59, X_Metadata_Token=token).reply.status == 200
    assert world.ask("GET", path, AT + 60, X_Metadata_Token=token).reply.status == 401
    assert world.ask("GET", path).reply.status == 401
    for wished in ("0", "21601", "soon", "-1"):
        given = world.ask("PUT", "/meta-data/latest/api/token", X_Metadata_Token_Ttl_Seconds=wished)
        assert given.reply.status == 400


def test_an_ecs_without_an_agency_has_no_keys() -> None:
    """Its metadata says what is missing, to whoever has its token."""
    world = World('metadata = "no_agency"')
    token = metadata_token(world)
    given = world.ask("GET", "/openstack/latest/securitykey", X_Metadata_Token=token)
    assert given.reply.status == 401
    assert b"Please configure Cloud Service Agency first" in given.reply.body


@pytest.mark.parametrize(("kind", "status"), [("plain", 200), ("none", 404)])
def test_older_metadata_has_no_tokens(kind: str, status: int) -> None:
    """An older one gives keys to whoever asks; another machine has no metadata at all."""
    world = World(f'metadata = "{kind}"')
    put = world.ask("PUT", "/meta-data/latest/api/token", X_Metadata_Token_Ttl_Seconds="60")
    assert put.reply.status == 404
    assert world.ask("GET", "/openstack/latest/securitykey").reply.status == status


def test_other_paths_are_nobodys() -> None:
    """IAM answers its own calls only."""
    url = URL("http://127.0.0.1:8080/v3/users")
    assert World().service.iam.answer(request("GET", url, {}, b""), AT) is None


# ------------------------------------------------------------------------------------- scenarios


def test_every_mistake_in_auth_is_named() -> None:
    """Wrong values, unknown keys and missing parts come in one error, each with its place."""
    with pytest.raises(ConfigError) as caught:
        parse_scenario(
            """
            [auth]
            mode = "sometimes"
            lock_after = 0
            unavailable = -1
            token_claims = "more"
            expired_code = "APIGW.0308"
            metdata = "none"
            token = "gAAAA"
            projects = ["p1"]
            [[auth.key]]
            access_key = "AK"
            [[auth.key]]
            access_key = 1
            secret_key = ""
            projects = "p1"
            [[auth.user]]
            name = "ops"
            """
        )
    assert sorted(caught.value.mistakes) == sorted(
        (
            "[auth] mode: 'sometimes' is not known; use off, signature, token or any",
            "[auth] lock_after: 0 is not a whole number, at least 1",
            "[auth] unavailable: -1 is not a whole number, at least 1",
            "[auth] token_claims: 'more' is not a span of time; write it like 90s, 10m, 1h30m or 100ms",  # noqa: E501
            "[auth] expired_code: 'APIGW.0308' is not known; use APIGW.0301 or APIGW.0307",
            "[auth] metdata: unknown; did you mean metadata?",
            "[[auth.key]] 1 secret_key: missing",
            "[[auth.key]] 2 access_key: 1 is not text; put it in quotes",
            "[[auth.key]] 2 secret_key: empty; give it a value",
            "[[auth.key]] 2 projects: 'p1' is no list of project ids",
            "[[auth.user]] 1 password: missing",
            "auth.token: write it as [[auth.token]], once for each",
            "[auth.projects]: must be a section of ids and names",
        )
    )
    with pytest.raises(ConfigError, match="auth: must be a section"):
        parse_scenario("auth = 1")


def test_secrets_of_a_scenario_are_not_shown() -> None:
    """Pretend secrets are handled like real ones."""
    shown = repr(parse_scenario(SCENARIO))
    assert KEY.access_key in shown
    for secret in ("tiger", "lily", "gAAAA", "123456", KEY.secret_key.reveal()):
        assert secret not in shown


def test_same_seed_same_tokens() -> None:
    """What is given can be repeated, like all that a scenario does; it looks like base64."""
    one, other = (token_of(World().login()) for _ in range(2))
    assert one == other
    assert base64.urlsafe_b64decode(one)
    assert parse_scenario("") == Scenario()
