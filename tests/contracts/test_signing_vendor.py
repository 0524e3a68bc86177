"""The vendor's own signer, against ours and against the simulator's gate, over random requests.

A request's number is the seed of its luck, so that one that differs can be made again alone.
"""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from yarl import URL

from orchestrator.secret import Secret
from orchestrator.signing import AccessKey, Signer, encode_query
from orchestrator.simulator.auth import Auth, Key, Mode
from orchestrator.simulator.gate import Gate
from orchestrator.simulator.gate import Request as Arrived

pytest.importorskip("huaweicloudsdkcore", reason="the vendor's client is not installed")

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest

REQUESTS = 6000
HOSTS = ("css.cn-north-4.myhuaweicloud.com", "127.0.0.1:8080", "[::1]:8443", "css.example.com:443")
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
CONTENT_TYPES = (
    "application/json",
    "application/json;charset=utf8",
    "application/bson",
    "text/xml",
)
HEADERS = ("X-Request-Id", "x-language", "ACCEPT", "User-Agent", "X-Apig-Mode", "x_trace", "Z", "0")
ALPHABET = "abzAZ09-_.~ %+*'\"/\\?&=#:;,@!$()[]{}<>|^`\téß中𝄞"
HEADER_ALPHABET = "abz09 ,;=/+\"'é中"
BODIES = (b"", b"", b"{}", b'{"type": "role", "value": "all"}', b"\x00\xff", b"a" * 5000)
SLOPPY = ("", "!*'()", "/:@", "~")
"""Characters that a client may leave as they are, though the canonical form encodes them."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request as it is sent; the pairs of its query as they are meant."""

    method: str
    host: str
    path: str
    query: str
    pairs: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes
    key: AccessKey
    project_id: str | None
    at: float


def _text(luck: random.Random, alphabet: str, most: int) -> str:
    return "".join(luck.choice(alphabet) for _ in range(luck.randint(0, most)))


def _path(luck: random.Random) -> str:
    if luck.random() < 0.2:
        return f"/v1.0/{luck.randbytes(16).hex()}/clusters"
    safe = "/" + luck.choice(SLOPPY)
    parts = (quote(_text(luck, ALPHABET, 8), safe=safe) for _ in range(luck.randint(0, 5)))
    path = "/" + "/".join(parts)
    return path if luck.random() < 0.5 else _lower_hex(path)


def _lower_hex(path: str) -> str:
    return "%".join(
        piece if not number else piece[:2].lower() + piece[2:]
        for number, piece in enumerate(path.split("%"))
    )


def _query(luck: random.Random) -> tuple[str, list[tuple[str, str]]]:
    """Return a query in a spelling that nobody chose, and what it means."""
    names = [_text(luck, ALPHABET, 5) or "k" for _ in range(luck.randint(0, 4))]
    pairs = [(name, _text(luck, ALPHABET, 6)) for name in names for _ in range(luck.randint(1, 3))]
    luck.shuffle(pairs)
    safe = luck.choice(SLOPPY)
    written = [f"{quote(name, safe=safe)}={quote(value, safe=safe)}" for name, value in pairs]
    if luck.random() < 0.3:
        written = [one.replace("%20", "+") for one in written]
    if luck.random() < 0.3:
        written = [one.removesuffix("=") for one in written]
    return "&".join(written), pairs


def _headers(luck: random.Random) -> dict[str, str]:
    content_type = luck.choice(CONTENT_TYPES)
    headers = {"Content-Type": content_type}
    if content_type == "text/xml":
        # The vendor's client states this by itself; ours sends no such bodies.
        headers["X-Sdk-Content-Sha256"] = "UNSIGNED-PAYLOAD"
    for name in luck.sample(HEADERS, luck.randint(0, 4)):
        padding = " " * luck.randint(0, 2)
        headers[name] = f"{padding}{_text(luck, HEADER_ALPHABET, 12)}{padding}"
    return headers


def _make(number: int) -> Request:
    luck = random.Random(number)
    query, pairs = _query(luck)
    token = Secret(luck.randbytes(luck.choice((1, 30, 3000))).hex())
    return Request(
        method=luck.choice(METHODS),
        host=luck.choice(HOSTS),
        path=_path(luck),
        query=query,
        pairs=pairs,
        headers=_headers(luck),
        body=luck.choice(BODIES),
        key=AccessKey(
            f"AK{luck.randbytes(9).hex().upper()}",
            Secret(luck.randbytes(20).hex()),
            token if luck.random() < 0.4 else None,
        ),
        project_id=luck.randbytes(16).hex() if luck.random() < 0.8 else None,
        at=luck.uniform(0, 4e9),
    )


def _theirs(one: Request) -> SdkRequest:
    token = one.key.security_token
    credentials = BasicCredentials(one.key.access_key, one.key.secret_key.reveal(), one.project_id)
    if token is not None:
        credentials.with_security_token(token.reveal())
    date = datetime.fromtimestamp(one.at, UTC).strftime("%Y%m%dT%H%M%SZ")
    return credentials.sign_request(
        SdkRequest(
            method=one.method,
            schema="https",
            host=one.host.removesuffix(":443"),
            resource_path=one.path,
            query_params=list(one.pairs),
            header_params=one.headers | {"X-Sdk-Date": date},
            body=one.body,
        )
    )


def test_our_signatures_are_the_vendors() -> None:
    """Whatever is asked and however it is spelled, we add just the headers that its signer adds."""
    for number in range(REQUESTS):
        one = _make(number)
        question = "?" if one.query else ""
        url = URL(f"https://{one.host}{one.path}{question}{one.query}", encoded=True)
        ours = Signer(one.key).headers(
            one.method, url, one.headers, one.body, at=one.at, project_id=one.project_id
        )
        theirs = _theirs(one)
        expected = {
            name: value for name, value in theirs.header_params.items() if name not in one.headers
        }
        assert ours | {"Host": url.host_port_subcomponent} == expected, (number, one)
        wanted = f"{one.path}?{encode_query(one.pairs)}" if one.pairs else one.path
        assert theirs.uri == wanted, (number, one)


def _arrived(one: Request, theirs: SdkRequest) -> Arrived:
    """Return what a server sees of a request that the vendor's client sends."""
    path, _, query = theirs.uri.partition("?")
    headers = {
        # Its client hands its HTTP library the bytes of UTF-8 as if they were Latin-1.
        name.lower(): value.encode("latin-1").decode()
        for name, value in theirs.header_params.items()
    }
    return Arrived(
        method=one.method,
        path=path,
        query=query,
        headers=headers,
        body=one.body,
        request_id="",
    )


def test_the_gate_lets_the_vendors_signatures_pass() -> None:
    """What the vendor's client signs is right to the simulator, and wrong if the key is another."""
    for number in range(REQUESTS, REQUESTS + REQUESTS // 6):
        one = _make(number)
        arrived = _arrived(one, _theirs(one))
        for secret, refused in ((one.key.secret_key, False), (Secret("another"), True)):
            key = Key(
                access_key=one.key.access_key,
                secret_key=secret,
                security_token=one.key.security_token,
            )
            gate = Gate(Auth(mode=Mode.SIGNATURE, keys=(key,)))
            admission = gate.admit(arrived, one.at)
            assert (admission.refusal is not None) == refused, (number, one)
