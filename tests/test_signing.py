"""Signatures: published vectors, and what may be an access key."""

import hashlib
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from orchestrator.secret import Secret
from orchestrator.signing import (
    AccessKey,
    Signer,
    body_hash,
    canonical_path,
    canonical_query,
    canonical_request,
    encode_path,
    encode_query,
    header_block,
    signature,
)

KEY = AccessKey("AKEXAMPLE0000000001A", Secret("SKexample000000000000000000000000000000A"))
TEMPORARY = AccessKey(KEY.access_key, KEY.secret_key, Secret("gAAAAABexampleTOKEN+/=="))
PROJECT = "0123456789abcdef0123456789abcdef"
HOST = "css.cn-north-4.myhuaweicloud.com"
CLUSTERS = f"/v1.0/{PROJECT}/clusters"
RESTART = f"{CLUSTERS}/4f3deec3-efa8-4598-bf91-560aad1377a3/restart"
ROLLING = RESTART.replace("v1.0", "v2.0").replace("restart", "rolling-restart")
AT = 1785547800.0
"""2026-08-01 01:30:00 UTC."""


@dataclass(frozen=True, kw_only=True)
class Vector:
    """One request, and what the vendor's own signer makes of it."""

    method: str
    url: str
    canonical: str
    signature: str
    names: str = "content-type;host;x-project-id;x-sdk-date"
    key: AccessKey = KEY
    project_id: str | None = PROJECT
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    at: float = AT


VECTORS = {
    "the vendor's published example": Vector(
        method="GET",
        url="https://service.region.example.com/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs"
        "?limit=2&marker=13551d6b-755d-4757-b956-536f674975c0",
        key=AccessKey("QTWAOYTTINDUT2QVKYUC", Secret("MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc")),
        project_id=None,
        at=1573789015.0,
        names="content-type;host;x-sdk-date",
        canonical="b25362e603ee30f4f25e7858e8a7160fd36e803bb2dfe206278659d71a9bcd7a",
        signature="7be6668032f70418fcc22abc52071e57aff61b84a1d2381bb430d6870f4f6ebe",
    ),
    "a restart without a body": Vector(
        method="POST",
        url=f"https://{HOST}{RESTART}",
        canonical="821fd48f6df408ebd68a62c9c036f68b87c5df2f0a86ccd4b07518c856922b4e",
        signature="eb33bf09c562006c33cd1a8d153d2b6d4302aff70774e70d631f33001650cb64",
    ),
    "a list, its query in any order": Vector(
        method="GET",
        url=f"https://{HOST}{CLUSTERS}?offset=1&limit=50",
        canonical="7dd853f14fa9def6ed9b245ee129ab613571be6ad48120d0d1c3d9bd21b633d6",
        signature="4bed7b1ec4d62abbdc457f44d7acc71271928ecbc6ad5027a027588fe806025e",
    ),
    "a rolling restart with a body": Vector(
        method="POST",
        url=f"https://{HOST}{ROLLING}",
        body=b'{"type": "role", "value": "ess,ess-master"}',
        canonical="a3eb92abf124d58c8d3d0d93b3b7a470a8c2fbbf2d5c36d9b4c35babae8c9d3a",
        signature="1476d54a768e3a98c099e9a223d3a1a932e59344f9b5d8b34bca42d359755682",
    ),
    "temporary keys, their token signed": Vector(
        method="POST",
        url=f"https://{HOST}{RESTART}",
        key=TEMPORARY,
        names="content-type;host;x-project-id;x-sdk-date;x-security-token",
        canonical="562cdb4ebcce341407f88343d8f0e4b6ef1df570973c9176e1e07c055568c738",
        signature="33c9da2045c11158d3df50ada5f6bcbd0bb347e4ec5f2c1d46db170072be903f",
    ),
    "odd characters, repeats, blanks and padding": Vector(
        method="GET",
        url=f"https://{HOST}{CLUSTERS}/a%20b~c%2Fd?k=x%20y%2F%2B%2A%27%C3%A9~&b=true&k=A&empty=",
        headers={"X-Extra": "  pad  "},
        names="content-type;host;x-extra;x-project-id;x-sdk-date",
        canonical="f75da15e2ae1c893db118e6d1a03e28cded782f210ae6edd263e4b12ddeac6f9",
        signature="f60c3eb3fc14f77e6cdfad8a618fddee347377d4b115a1a16c780d23f03253af",
    ),
}


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
def test_vectors_of_the_vendors_signer(vector: Vector) -> None:
    """The headers are those of the vendor's signer, to the last digit."""
    sent = {"Content-Type": "application/json", **vector.headers}
    url = URL(vector.url, encoded=True)
    added = Signer(vector.key).headers(
        vector.method, url, sent, vector.body, at=vector.at, project_id=vector.project_id
    )
    assert added.pop("Authorization") == (
        f"SDK-HMAC-SHA256 Access={vector.key.access_key}, SignedHeaders={vector.names}, "
        f"Signature={vector.signature}"
    )
    lower = {name.lower(): value for name, value in ({"Host": url.host or ""} | sent).items()}
    lower |= {name.lower(): value for name, value in added.items()}
    request = canonical_request(
        vector.method,
        url.raw_path,
        url.raw_query_string,
        header_block([(name, lower[name].strip()) for name in vector.names.split(";")]),
        body_hash(vector.body),
    )
    assert hashlib.sha256(request.encode()).hexdigest() == vector.canonical
    assert signature(vector.key.secret_key, added["X-Sdk-Date"], request) == vector.signature


def test_what_a_canonical_request_looks_like() -> None:
    """Six parts, a line each; the block of headers ends with a blank line."""
    signed = [("host", HOST), ("x-sdk-date", "20260801T013000Z")]
    query = "k=x%20y%2F%2B%2A%27%C3%A9~&b=true&k=A&empty="
    lines = canonical_request(
        "get", f"{CLUSTERS}/a%20b~c%2Fd", query, header_block(signed), body_hash(b"")
    ).split("\n")
    assert lines == [
        "GET",
        f"{CLUSTERS}/a%20b~c/d/",
        "b=true&empty=&k=A&k=x%20y%2F%2B%2A%27%C3%A9~",
        f"host:{HOST}",
        "x-sdk-date:20260801T013000Z",
        "",
        "host;x-sdk-date",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ]


def test_all_that_identifies_a_caller_is_added() -> None:
    """Date, project, security token and signature; and what is signed is not what is secret."""
    added = Signer(TEMPORARY).headers(
        "GET", URL(f"https://{HOST}:8443/"), {}, b"", at=AT, project_id=PROJECT
    )
    assert list(added) == ["X-Sdk-Date", "X-Project-Id", "X-Security-Token", "Authorization"]
    assert added["X-Sdk-Date"] == "20260801T013000Z"
    assert added["X-Security-Token"] == "gAAAAABexampleTOKEN+/=="
    assert KEY.secret_key.reveal() not in str(added)


def test_headers_with_an_underscore_are_sent_but_not_signed() -> None:
    """Gateways drop such names, so that a signature over one would never be right."""
    plain = {"Content-Type": "application/json"}
    url = URL(f"https://{HOST}{RESTART}")
    with_one = Signer(KEY).headers("POST", url, plain | {"x_trace": "1"}, b"", at=AT)
    assert with_one == Signer(KEY).headers("POST", url, plain, b"", at=AT)


def test_a_stated_hash_stands_for_the_body() -> None:
    """What is sent as the hash of a body is what is signed, if there is a body."""
    assert body_hash(b"{}", "UNSIGNED-PAYLOAD") == "UNSIGNED-PAYLOAD"
    assert body_hash(b"", "UNSIGNED-PAYLOAD") == body_hash(b"")
    assert body_hash(b"{}") == hashlib.sha256(b"{}").hexdigest()
    sent = {"X-Sdk-Content-Sha256": "UNSIGNED-PAYLOAD"}
    url = URL(f"https://{HOST}{RESTART}")
    one, other = (Signer(KEY).headers("POST", url, sent, body, at=AT) for body in (b"a", b"b"))
    assert one == other


@given(st.lists(st.tuples(st.text(), st.text(min_size=1))))
def test_what_is_encoded_here_is_canonical_already(pairs: list[tuple[str, str]]) -> None:
    """Encoding for the wire and for the signature are one: doing it again changes nothing."""
    query = encode_query(pairs)
    assert canonical_query(query) == query
    assert URL(f"https://{HOST}/?{query}", encoded=True).raw_query_string == query


@given(st.text())
def test_a_path_may_be_sent_in_any_spelling(path: str) -> None:
    """However a path was encoded, one spelling is signed, and it ends with a slash."""
    once = canonical_path(encode_path(path))
    assert once.endswith("/")
    assert canonical_path(once) == once


@pytest.mark.parametrize(
    ("access_key", "secret_key", "token", "part"),
    [
        ("", "s", None, "access key"),
        ("A, B", "s", None, "access key"),
        ("A,B", "s", None, "access key"),
        ("A", "", None, "secret key"),
        ("A", "tiger\n", None, "secret key"),
        ("A", "s", "", "security token"),
        ("A", "s", "tiger lily", "security token"),
    ],
)
def test_what_cannot_be_a_key(
    access_key: str, secret_key: str, token: str | None, part: str
) -> None:
    """A part that no header could carry is named, and not shown."""
    with pytest.raises(ValueError, match=f"the {part} is empty, or has spaces") as caught:
        AccessKey(access_key, Secret(secret_key), None if token is None else Secret(token))
    assert "tiger" not in str(caught.value)


def test_secrets_are_not_shown() -> None:
    """A key and its signer show who they are, and nothing that is secret."""
    shown = f"{TEMPORARY} {TEMPORARY!r} {Signer(TEMPORARY)!r}"
    assert TEMPORARY.access_key in shown
    assert "SKexample" not in shown
    assert "gAAAA" not in shown
