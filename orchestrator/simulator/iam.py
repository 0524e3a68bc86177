"""Those who give credentials: IAM, and the metadata of an ECS.

    POST /v3/auth/tokens                     a token, for a password (and a passcode), for a project
    GET  /v3/projects?name=…                 the id of a project, for who signs or has a token
    PUT  /meta-data/latest/api/token         a token of the metadata, good for so many seconds
    GET  /openstack/latest/securitykey       temporary keys, against that token

What they give, the gate lets pass. Pure: moments are those of the gate's, seconds since 1970.
"""

import base64
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias
from urllib.parse import parse_qsl

from orchestrator.secret import Secret
from orchestrator.simulator import replies
from orchestrator.simulator.auth import Auth, Metadata, User
from orchestrator.simulator.draws import hexadecimal
from orchestrator.simulator.gate import Gate, HeldKey, HeldToken, Locks, Request, timestamp
from orchestrator.simulator.replies import Reply

LONGEST_METADATA_TOKEN = 21600
"""Seconds that a token of the metadata can be good for, at most."""

_USUAL_NAME = "cn-north-4"
_ACCOUNT = "ACCOUNT"


class Given(NamedTuple):
    """What became of a call for credentials: what was asked, by whom, and the answer."""

    call: str
    credential: str
    reply: Reply


@dataclass(frozen=True, slots=True)
class _Login:
    """What somebody shows of themselves to get a token."""

    name: str
    domain: str
    password: Secret
    passcode: Secret | None
    methods: tuple[str, ...]
    project: Mapping[str, object]


_Call: TypeAlias = Callable[[Request, float], tuple[str, Reply]]


class Iam:
    """Gives tokens and temporary keys, and tells the gate of each.

    Args:
        auth: who may ask, and what they get.
        gate: who is to let pass what is given.
        regions: the projects that there are, each with its region.
        seed: same seed, same tokens and keys.
    """

    def __init__(
        self, auth: Auth, gate: Gate, regions: Mapping[str, str | None], seed: int = 0
    ) -> None:
        self.latency = auth.latency
        """Seconds that an answer takes."""
        self._auth = auth
        self._gate = gate
        self._seed = seed
        self._locks = Locks(auth)
        self._users = {user.name: user for user in auth.users}
        self._names = {_user_id(name): name for name in self._users}
        self._projects = _named_projects(regions) | dict(auth.projects)
        self._given: dict[str, int] = {}
        self._unavailable = auth.unavailable
        self._metadata_tokens: dict[str, float] = {}
        self._securitykey: tuple[bytes, float] = (b"", -math.inf)
        self._calls: Mapping[tuple[str, str], tuple[str, _Call]] = {
            ("POST", "/v3/auth/tokens"): ("token", self._give_token),
            ("GET", "/v3/projects"): ("projects", self._list_projects),
            ("PUT", "/meta-data/latest/api/token"): ("metadata_token", self._give_metadata_token),
            ("GET", "/openstack/latest/securitykey"): ("securitykey", self._give_key),
        }

    def answer(self, request: Request, at: float) -> Given | None:
        """Answer a call for credentials; None if it is none."""
        found = self._calls.get((request.method, request.path.removesuffix("/")))
        if found is None:
            return None
        name, call = found
        if self._unavailable and request.path.startswith("/v3/"):
            self._unavailable -= 1
            return Given(name, "", replies.iam_error(503, "The service is unavailable."))
        return Given(name, *call(request, at))

    # ------------------------------------------------------------------------------------ tokens

    def _give_token(self, request: Request, at: float) -> tuple[str, Reply]:
        login = _login(request.body, self._names)
        if login is None:
            return "", replies.iam_error(400, "The request body is invalid.")
        user = self._user(login)
        if self._locks.is_locked(login.name, at):
            return login.name, replies.iam_error(401, "The user is locked: too many failed logins.")
        if user is None or not _is_right(login, user):
            self._locks.failed(login.name, at)
            return login.name, replies.iam_error(401, "The username or password is wrong.")
        self._locks.passed(login.name)
        project = self._project(login.project)
        if login.project and project is None:
            return login.name, replies.iam_error(404, "The project of the scope is not found.")
        if project is not None and user.projects and project not in user.projects:
            return login.name, replies.iam_error(403, "The project of the scope is not yours.")
        return login.name, self._token_for(login, project, at)

    def _user(self, login: _Login) -> User | None:
        if self._gate.is_open and login.name not in self._users:
            return User(name=login.name, password=login.password)
        return self._users.get(login.name)

    def _project(self, scope: Mapping[str, object]) -> str | None:
        """Return the id of the project that a scope means."""
        if scope.get("id") in self._projects:
            return str(scope["id"])
        return next(
            (one for one, name in self._projects.items() if name == scope.get("name")), None
        )

    def _token_for(self, login: _Login, project: str | None, at: float) -> Reply:
        token, number = self._fresh("token", login.name)
        # Without a project a token is good for IAM only: no project has an empty id.
        projects = frozenset({project or ""})
        expires_at = at + self._auth.token_life
        held = HeldToken(name=f"{login.name}#{number}", expires_at=expires_at, projects=projects)
        self._gate.take_token(token, held)
        domain = {"id": hexadecimal("domain", self._seed), "name": login.domain or _ACCOUNT}
        content: dict[str, object] = {
            "methods": login.methods,
            "issued_at": timestamp(at),
            "expires_at": timestamp(at + (self._auth.token_claims or self._auth.token_life)),
            "user": {
                "id": _user_id(login.name),
                "name": login.name,
                "domain": domain,
                "password_expires_at": "",
            },
            "roles": [{"id": "0", "name": "te_admin"}],
            "catalog": [],
        }
        if project is None:
            content["domain"] = domain
        else:
            content["project"] = {"id": project, "name": self._projects[project], "domain": domain}
        trace = ("X-IAM-Trace-Id", f"token_{hexadecimal('trace', self._seed, number)}")
        return Reply(
            status=201,
            body=json.dumps({"token": content}).encode(),
            headers=(("X-Subject-Token", token), trace),
        )

    # ---------------------------------------------------------------------------------- projects

    def _list_projects(self, request: Request, at: float) -> tuple[str, Reply]:
        credential, refusal = self._gate.admit(request, at)
        if refusal is not None:
            return credential, refusal
        wanted = dict(parse_qsl(request.query, keep_blank_values=True)).get("name")
        domain = hexadecimal("domain", self._seed)
        found = [
            {
                "id": one,
                "name": name,
                "domain_id": domain,
                "parent_id": domain,
                "enabled": True,
                "is_domain": False,
                "description": "",
                "links": {"self": f"/v3/projects/{one}"},
            }
            for one, name in self._projects.items()
            if wanted is None or name == wanted
        ]
        links = {"self": "/v3/projects", "next": None, "previous": None}
        return credential, replies.document(
            json.dumps({"projects": found, "links": links}).encode()
        )

    # ---------------------------------------------------------------------------------- metadata

    def _give_metadata_token(self, request: Request, at: float) -> tuple[str, Reply]:
        if self._auth.metadata in {Metadata.PLAIN, Metadata.NONE}:
            return "", replies.page(404, "Not Found")
        wished = request.headers.get("x-metadata-token-ttl-seconds", "")
        if not wished.isdecimal() or not 1 <= int(wished) <= LONGEST_METADATA_TOKEN:
            return "", replies.page(400, "Bad Request")
        token = hexadecimal("metadata token", self._seed, len(self._metadata_tokens))
        self._metadata_tokens[token] = at + int(wished)
        return "", Reply(status=200, body=token.encode(), content_type=replies.TEXT)

    def _give_key(self, request: Request, at: float) -> tuple[str, Reply]:
        if self._auth.metadata is Metadata.NONE:
            return "", replies.page(404, "Not Found")
        shown = request.headers.get("x-metadata-token", "")
        is_plain = self._auth.metadata is Metadata.PLAIN
        if not is_plain and at >= self._metadata_tokens.get(shown, -math.inf):
            return "", replies.page(401, "Unauthorized")
        if self._auth.metadata is Metadata.NO_AGENCY:
            return "", replies.page(401, "Please configure Cloud Service Agency first")
        body, expires_at = self._securitykey
        if at >= expires_at - self._auth.key_overlap:
            body = self._fresh_key(at)
        return "", Reply(status=200, body=body)

    def _fresh_key(self, at: float) -> bytes:
        token, number = self._fresh("security token", "ecs")
        digits = hashlib.sha256(f"{self._seed}/{number}".encode()).hexdigest()
        access_key, secret_key = f"HST{digits[:17].upper()}", digits[17:57]
        expires_at = at + self._auth.key_life
        self._gate.take_key(
            access_key,
            HeldKey(
                secret_key=Secret(secret_key), security_token=Secret(token), expires_at=expires_at
            ),
        )
        credential = {
            "access": access_key,
            "secret": secret_key,
            "securitytoken": token,
            "expires_at": timestamp(expires_at),
        }
        body = json.dumps({"credential": credential}).encode()
        self._securitykey = body, expires_at
        return body

    def _fresh(self, what: str, whose: str) -> tuple[str, int]:
        """Return a token that was never given before, and how many they were given with it."""
        number = self._given[whose] = self._given.get(whose, 0) + 1
        size = self._auth.token_size
        noise = hashlib.shake_256(f"{what}/{self._seed}/{whose}/{number}".encode()).digest(size)
        return base64.urlsafe_b64encode(noise).decode()[:size], number


def _login(body: bytes, names: Mapping[str, str]) -> _Login | None:
    """Read who wants a token for what, None if the body does not say; `names` are those of ids."""
    try:
        content = json.loads(body)
    except ValueError:
        return None
    match content:
        case {
            "auth": {
                "identity": {
                    "methods": [*methods],
                    "password": {"user": {"password": str() as password, **user}},
                    **more,
                },
                **rest,
            }
        } if "password" in methods:
            pass
        case _:
            return None
    match user:
        case {"name": str() as name, "domain": {"name": str() as domain}}:
            pass
        case {"name": str() as name, "domain": {"id": str()}}:
            domain = ""
        case {"id": str() as user_id}:
            name, domain = names.get(user_id, user_id), ""
        case _:
            return None
    match rest:
        case {"scope": {"project": dict() as project}}:
            pass
        case _:
            project = {}
    return _Login(
        name=name,
        domain=domain,
        password=Secret(password),
        passcode=_passcode(more.get("totp")) if "totp" in methods else None,
        methods=tuple(map(str, methods)),
        project=project,
    )


def _passcode(totp: object) -> Secret | None:
    match totp:
        case {"user": {"id": str(), "passcode": str() as passcode}}:
            return Secret(passcode)
        case _:
            return None


def _is_right(login: _Login, user: User) -> bool:
    return (
        login.password == user.password
        and (not user.domain or not login.domain or login.domain == user.domain)
        and (user.totp is None or login.passcode == user.totp)
    )


def _user_id(name: str) -> str:
    return hexadecimal("user", name)


def _named_projects(regions: Mapping[str, str | None]) -> dict[str, str]:
    """Call the first project of a region like it, the next ones `region_2`, `region_3` …."""
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    for project_id, region in regions.items():
        name = region or _USUAL_NAME
        counts[name] = counts.get(name, 0) + 1
        names[project_id] = name if counts[name] == 1 else f"{name}_{counts[name]}"
    return names
