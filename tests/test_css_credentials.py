"""What proves who we are, what is shown of it, and what never is."""

import asyncio
import copy
import pickle

import pytest
from yarl import URL

from orchestrator.css.credentials import (
    NOBODY,
    Key,
    NoCredentials,
    Token,
    TokenCredentials,
    is_loopback,
)
from orchestrator.errors import UsageError
from orchestrator.secret import Secret, blot
from orchestrator.signing import AccessKey


def test_secrets_are_not_shown() -> None:
    """A secret shows its value to nobody who does not ask for it."""
    secret = Secret("tiger")
    credentials = TokenCredentials(secret)
    shown = f"{secret} {secret!r} {secret:>10} {[secret]} {credentials} {credentials!r}"
    assert "tiger" not in shown + "%s" % secret  # noqa: UP031 - one more way to show it
    assert secret.reveal() == "tiger"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)
    assert copy.deepcopy(secret) is copy.copy(secret) is secret


def test_secrets_are_values() -> None:
    """Secrets are equal when their values are, and never to the value itself."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1
    assert not Secret("")
    assert Secret("\udcff") != Secret("a")


@pytest.mark.parametrize("token", ["", "a\nb", "a\r\nX-Evil: 1", "té"])
def test_tokens_that_no_header_can_carry(token: str) -> None:
    """A token with a line break or an umlaut is refused, and not shown."""
    with pytest.raises(UsageError) as caught:
        TokenCredentials(Secret(token))
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("css.cn-north-4.myhuaweicloud.com", False),
        ("127.0.0.1.example.com", False),
        ("localhost.example.com", False),
        ("10.0.0.1", False),
        (None, False),
    ],
)
def test_loopback(host: str | None, *, loopback: bool) -> None:
    """Only this machine is loopback, whatever a name looks like."""
    assert is_loopback(host) is loopback


def test_secrets_are_blotted_out_while_they_live() -> None:
    """Whatever holds a secret in clear comes out without it; short ones stand in too many words."""
    secret, same, short = Secret("s3cret-Value"), Secret("s3cret-Value"), Secret("tiger")
    assert blot("a s3cret-Value, and a tiger") == "a ***, and a tiger"
    del same
    assert blot("still s3cret-Value") == "still ***"
    del secret
    assert blot("s3cret-Value is nobody's now") == "s3cret-Value is nobody's now"
    assert short


KEY = AccessKey("AKEXAMPLE0000000001A", Secret("SKexample000000000000000000000000000000A"))
URL_OF_P = URL("https://css.example/v1.0/p/clusters")


def test_a_key_signs_each_call() -> None:
    """A key's headers name the project of the call, or the one that it was given for."""
    headers = Key(KEY).headers("p", "GET", URL_OF_P, b"")
    assert headers["X-Project-Id"] == "p"
    assert "SignedHeaders=content-type;host;x-project-id;x-sdk-date," in headers["Authorization"]
    assert "X-Security-Token" not in headers
    other = AccessKey(KEY.access_key, KEY.secret_key, Secret("temporary"))
    headers = Key(other, project_id="q").headers("p", "GET", URL_OF_P, b"")
    assert (headers["X-Project-Id"], headers["X-Security-Token"]) == ("q", "temporary")


def test_credentials_are_values() -> None:
    """Credentials are equal if they prove the same in the same way, and show nothing."""
    same = AccessKey("AKEXAMPLE0000000001A", Secret("SKexample000000000000000000000000000000A"))
    assert Key(KEY) == Key(same)
    assert hash(Key(KEY)) == hash(Key(same))
    assert Key(KEY) != Key(KEY, project_id="p")
    assert Key(KEY) != Token(Secret("a-token"))
    assert Token(Secret("a-token")) == Token(Secret("a-token"))
    assert Token(Secret("a-token")) != Token(Secret("b-token"))
    assert len({Token(Secret("a-token")), Token(Secret("a-token"))}) == 1
    assert "SKexample" not in repr(Key(KEY))
    assert "a-token" not in repr(Token(Secret("a-token")))


def test_nobody_has_no_account() -> None:
    """Where nothing is sent there is no account that could be refused."""
    assert NoCredentials().account_of("p") == NOBODY
    assert not asyncio.run(NoCredentials().renew("p", 0.0))
