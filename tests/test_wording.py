"""Words for people: nothing in them steers a terminal, and they fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.wording import about, cells, cut, pad, short, shown, spell, wrap


@given(text=st.text(st.characters(), max_size=40))
def test_nothing_shown_steers_a_terminal(text: str) -> None:
    """Whatever a name holds, what is shown is printable and on one line."""
    assert shown(text).isprintable()


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07name", "name"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("two\nlines\r\x9b2Jhere", "two lines here"),
        ("\u202egnp.exe", "gnp.exe"),
        ("[bold]kept[/bold]", "[bold]kept[/bold]"),
    ],
)
def test_sequences_are_taken_out_whole(name: str, letters: str) -> None:
    """An escape sequence leaves nothing behind; what only looks like markup stays as it is."""
    assert shown(name) == letters


@given(text=st.text(max_size=30), width=st.integers(1, 20))
def test_padding_is_exact(text: str, width: int) -> None:
    """A padded text takes exactly its columns, whatever letters it has."""
    assert cells(pad(shown(text), width)) == width
    assert cells(cut(shown(text), width)) <= width


def test_spans_are_words() -> None:
    """Spans read as people say them, estimates no finer than they are."""
    assert [spell(s) for s in (0.2, 61, 123, 6000)] == ["0 s", "61 s", "2 min 3 s", "1 h 40 min"]
    assert [about(s) for s in (5, 700, 9000)] == [
        "about a minute",
        "about 12 min",
        "about 2 h 30 min",
    ]
    assert short("search-prod") == "search-prod"


@pytest.mark.parametrize(
    ("text", "width", "most", "lines"),
    [
        ("", 10, 3, [""]),
        ("to the end", 10, 3, ["to the end"]),
        ("to the very end", 10, 3, ["to the", "  very end"]),
        ("to the very end of it", 10, 2, ["to the", "  very en…"]),
        ("https://example.net/a", 10, 3, ["https://e…"]),
        ("東京 東京 東京", 10, 3, ["東京 東京", "  東京"]),
    ],
)
def test_a_sentence_is_wrapped_between_words(
    text: str, width: int, most: int, lines: list[str]
) -> None:
    """Later lines are indented, and what has no room at all is cut with a sign."""
    assert wrap(text, width, most) == lines
