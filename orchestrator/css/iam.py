"""Tokens from IAM: one user's logins, a project each; and the ids of projects by name.

Rules:

- A login that was refused is not repeated: a few refusals lock the user, for everybody.
- Until one succeeded, logins of a user are made one after the other, so that a wrong password is
  refused once; after that a few at a time, for a password may be changed meanwhile.
- A passcode is sent once.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import anyio
from yarl import URL

from orchestrator.css.answers import iso_moment, moment_in, read_refusal, words_in
from orchestrator.css.codes import ErrorClass, meaning_of
from orchestrator.css.credentials import Token
from orchestrator.css.endpoints import Endpoint
from orchestrator.css.exchange import BrokenCallError, Exchange, Reply
from orchestrator.css.renewal import Fetched
from orchestrator.css.sources import MistakeError, Source, is_project_id
from orchestrator.errors import CloudError
from orchestrator.secret import Secret, blot
from orchestrator.signing import encode_query

MOST_REFUSALS = 2
"""Refused logins of a user, over all projects, after which nothing more is asked for."""

AT_ONCE = 3
"""Logins of a user under way at once, when one has succeeded."""

PATIENCE = 10.0
"""Seconds for one login at the most, however patient calls of the service are."""

QUEUE_PATIENCE = 30.0
"""Seconds that a login waits for others of its user."""

LARGEST_ANSWER = 1024 * 1024
"""Bytes of an answer of IAM; more is not read."""

_OK = 200
_CREATED = 201
_UNAUTHORIZED = 401
_FINAL = frozenset({400, 403, 404})
_HEADERS = {"Content-Type": "application/json;charset=utf8"}
_PATH = "/v3/auth/tokens?nocatalog=true"

Prompt = Callable[[str], str]
"""Asks a person for a passcode and returns it; called before anything else goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who logs in."""

    name: str
    password: Secret
    domain: str
    id: str | None = None
    """The user's id, if they have to give a passcode too."""


def login_body(user: User, scope: Mapping[str, str], passcode: Secret | None) -> bytes:
    """Return what is sent to log in."""
    identity: dict[str, object] = {
        "methods": ["password"],
        "password": {
            "user": {
                "name": user.name,
                "password": user.password.reveal(),
                "domain": {"name": user.domain},
            }
        },
    }
    if passcode is not None:
        identity["methods"] = ["password", "totp"]
        identity["totp"] = {"user": {"id": user.id, "passcode": passcode.reveal()}}
    return json.dumps({"auth": {"identity": identity, "scope": {"project": scope}}}).encode()


def read_token(reply: Reply) -> Fetched:
    """Return the token of an answer to a login, and how long it lives.

    Raises:
        ValueError: there is none in it.
    """
    value = next((v for k, v in reply.headers.items() if k.lower() == "x-subject-token"), None)
    if value is None:
        raise ValueError("it has no X-Subject-Token")
    return Fetched.living(Token(Secret(value)), _life_in(reply))


def projects_url(endpoint: Endpoint, name: str) -> URL:
    """Return where IAM lists the projects of a name."""
    query = encode_query([("name", name)])
    return URL(f"{endpoint.base.origin()}{endpoint.path}/v3/projects?{query}", encoded=True)


async def find_projects(
    exchange: Exchange, endpoint: Endpoint, url: URL, headers: Mapping[str, str], name: str
) -> Sequence[str]:
    """Return the ids of all projects with just this name; `url` is from `projects_url`.

    Raises:
        CloudError: IAM gave no usable answer.
    """
    doing = f"looking for project {name} at IAM"
    try:
        reply = await exchange.call("GET", url, headers, endpoint=endpoint, most=LARGEST_ANSWER)
    except BrokenCallError as error:
        raise CloudError(
            f"{doing}: {error}; try again later", error_class=ErrorClass.UNSENT.value
        ) from error
    if reply.status != _OK:
        raise CloudError(
            blot(
                f"{doing}: IAM answered {reply.status}: {words_in(*reply)}; check the credential, "
                "or give the project's id instead of its name"
            ),
            status=reply.status,
            error_class=meaning_of(reply.status, None).error_class.value,
        )
    try:
        projects = json.loads(reply.body)["projects"]
        return [str(one["id"]) for one in projects if one["name"] == name]
    except (ValueError, LookupError, TypeError) as error:
        raise CloudError(
            f"{doing}: the answer has no list of projects; check that iam_endpoint is IAM's",
            status=reply.status,
        ) from error


def _life_in(reply: Reply) -> float:
    """Return how long a token lives, by the clock of those who made it."""
    try:
        token = json.loads(reply.body)["token"]
        ends = iso_moment(token["expires_at"])
    except (ValueError, LookupError, TypeError):
        return math.inf
    try:
        began = iso_moment(token["issued_at"])
    except (ValueError, LookupError, TypeError):
        began = moment_in(reply.headers, time.time())
    return max(0.0, ends - began)


class Logins:
    """The logins of one user.

    Args:
        source: where name, password and the rest stand.
        exchange: makes the calls.
        known_by: what our projects are given by, `id` or `name`.
    """

    def __init__(self, source: Source, exchange: Exchange, *, known_by: str = "id") -> None:
        self._source = source
        self._known_by = known_by
        self._exchange = exchange
        self._limiter = anyio.CapacityLimiter(1)
        self._refusals = 0
        self._refusal: CloudError | None = None
        self._final: dict[str, CloudError] = {}
        self._known: set[str] = set()
        """Projects for which a login succeeded."""
        self._spent: Secret | None = None
        self._user: User | None = None
        """Who logged in last: as long as the password is known, it can be blotted out."""
        self.prompt: Prompt | None = None
        """Asks for passcodes; only there while nobody minds being asked."""

    async def token_for(self, project_id: str, endpoint: Endpoint) -> Fetched:
        """Log in for a project.

        Raises:
            CloudError: there is no token just now; of class `unauthorized` if there will be none
                for anybody, `forbidden` if there will be none for this project.
        """
        with anyio.move_on_after(QUEUE_PATIENCE) as waiting:
            await self._limiter.acquire()
        if waiting.cancelled_caught:
            words = "logins before it take too long; try again later"
            raise self._error(project_id, words, ErrorClass.UNSENT)
        try:
            return await self._log_in(project_id, endpoint)
        finally:
            self._limiter.release()

    async def _log_in(self, project_id: str, endpoint: Endpoint) -> Fetched:
        # What was refused is known by now, and not asked for again.
        if self._refusal is not None:
            raise self._refusal
        if project_id in self._final:
            raise self._final[project_id]
        try:
            user, scope = await anyio.to_thread.run_sync(self._read, project_id)
            # Not in a thread: nothing else goes on before a run begins, and Ctrl-C reaches it here.
            passcode = self._passcode(user, project_id)
        except MistakeError as error:
            raise self._error(project_id, str(error), ErrorClass.UNAUTHORIZED) from error
        self._user = user
        reply = await self._ask(project_id, endpoint, login_body(user, scope, passcode))
        self._spent = passcode or self._spent
        return self._read_reply(project_id, reply)

    def _read(self, project_id: str) -> tuple[User, Mapping[str, str]]:
        read = self._source.read
        user = User(
            name=read("user") or "",
            password=Secret(read("password") or ""),
            domain=read("domain") or "",
            id=read("user_id"),
        )
        project = read("project")
        if project is None:
            return user, {self._known_by: project_id}
        return user, {"id" if is_project_id(project) else "name": project}

    def _passcode(self, user: User, project_id: str) -> Secret | None:
        if user.id is None:
            return None
        read = self._source.read("passcode")
        if read is None and self.prompt is not None:
            words = f"Passcode of credential {self._source.account} for project {project_id}: "
            read = self.prompt(words).strip()
        if not read:
            raise MistakeError(
                "a passcode is needed, and there is nobody to ask; name one with passcode_file, or "
                "run the command on a terminal"
            )
        passcode = Secret(read)
        if passcode == self._spent:
            raise MistakeError("the passcode was used before; wait for the next one")
        return passcode

    async def _ask(self, project_id: str, endpoint: Endpoint, body: bytes) -> Reply:
        url = URL(f"{endpoint.base.origin()}{endpoint.path}{_PATH}", encoded=True)
        try:
            return await self._exchange.call(
                "POST", url, _HEADERS, endpoint=endpoint, body=body, most=LARGEST_ANSWER
            )
        except BrokenCallError as exc:
            raise self._error(project_id, f"{exc}; try again later", ErrorClass.UNSENT) from exc

    def _read_reply(self, project_id: str, reply: Reply) -> Fetched:
        if reply.status == _CREATED:
            try:
                fetched = read_token(reply)
            except ValueError as error:
                words = f"the answer has no token: {error}; check that iam_endpoint is IAM's"
                raise self._error(project_id, words, ErrorClass.UNAVAILABLE) from error
            self._known.add(project_id)
            self._limiter.total_tokens = AT_ONCE
            return fetched
        said = f"IAM answered {reply.status}: {words_in(*reply, now_wall=time.time())}"
        if reply.status == _UNAUTHORIZED:
            raise self._refused(project_id, said)
        if reply.status in _FINAL:
            self._final[project_id] = self._error(
                project_id,
                f"{said}; check user, domain and project, and what the user may do there",
                ErrorClass.FORBIDDEN,
                status=reply.status,
            )
            raise self._final[project_id]
        raise self._error(
            project_id,
            f"{said}; try again later",
            ErrorClass.UNAVAILABLE,
            status=reply.status,
            retry_after=read_refusal(*reply, "logging in", now_wall=time.time()).retry_after,
        )

    def _refused(self, project_id: str, said: str) -> CloudError:
        """Return the error of a refused login, and remember it.

        A password that was good for another project a moment ago is good: what is missing then is
        a right in this one. But who is refused twice is not believed.
        """
        self._refusals += 1
        others = self._known - {project_id}
        if others and project_id not in self._known and self._refusals < MOST_REFUSALS:
            self._final[project_id] = self._error(
                project_id,
                f"{said}; the password is good for other projects, so check what the user may do "
                "in this one",
                ErrorClass.FORBIDDEN,
                status=403,
            )
            return self._final[project_id]
        places = ", ".join(f"{name} ({part.where})" for name, part in self._source.parts.items())
        self._refusal = self._error(
            project_id,
            f"{said}; check {places}; it is not tried again, lest the user be locked",
            ErrorClass.UNAUTHORIZED,
            status=_UNAUTHORIZED,
        )
        return self._refusal

    def _error(
        self,
        project_id: str,
        words: str,
        error_class: ErrorClass,
        *,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> CloudError:
        doing = f"logging in with credential {self._source.account} for project {project_id}"
        return CloudError(
            blot(f"{doing}: {words}"),
            status=status,
            retry_after=retry_after,
            error_class=error_class.value,
        )
