"""The word for the next wave: asked for at a terminal, heard as one key, and never overheard."""

import os
import termios
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TextIO

import anyio
import pytest

from orchestrator.model import RunContinued, RunPaused
from orchestrator.watch.word import WordForWave, can_be_asked

BEFORE_A_WAVE = RunPaused(at=1.0, by="orchestrator", reason="wave 1 is done", wave=1)


class Desk:
    """A terminal, and somebody who types at its other end."""

    def __init__(self, ours: int, terminal: TextIO) -> None:
        self.ours = ours
        self.terminal = terminal
        self.words = 0

    def type(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def given(self) -> None:
        self.words += 1

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.terminal.fileno())[3] & termios.ECHO)


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A terminal of its own."""
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "r") as terminal:
        yield Desk(ours, terminal)
    os.close(ours)


def play(desk: Desk, act: Callable[[WordForWave], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        word = WordForWave(desk.terminal)
        word.answer_with(desk.given)
        with word.asking():
            await act(word)

    anyio.run(main)


def test_one_key_gives_the_word(desk: Desk) -> None:
    """While it is asked for nothing is echoed; y gives the word once, and all is as before."""

    async def act(word: WordForWave) -> None:
        word.saw(BEFORE_A_WAVE)
        word.saw(BEFORE_A_WAVE)
        assert not desk.echoes()
        desk.type(b"nq ")
        await anyio.sleep(0.05)
        assert desk.words == 0
        desk.type(b"yes\n")
        await anyio.sleep(0.05)
        assert desk.words == 1
        assert desk.echoes()

    play(desk, act)


def test_what_was_typed_before_the_question_is_no_word(desk: Desk) -> None:
    """A word is given by whoever has read the question."""

    async def act(word: WordForWave) -> None:
        desk.type(b"yyy\ny")
        await anyio.sleep(0.05)
        word.saw(BEFORE_A_WAVE)
        await anyio.sleep(0.05)
        assert desk.words == 0

    play(desk, act)
    assert desk.echoes()


def test_nobody_is_asked_about_the_pause_of_somebody_else(desk: Desk) -> None:
    """Only a pause before a wave is asked about; a word that is given elsewhere ends the asking."""

    async def act(word: WordForWave) -> None:
        word.saw(RunPaused(at=1.0, by="ana", reason="alarm"))
        assert desk.echoes()
        word.saw(BEFORE_A_WAVE)
        word.saw(RunContinued(at=2.0, by="ana"))
        assert desk.echoes()
        desk.type(b"y")
        await anyio.sleep(0.05)
        assert desk.words == 0

    play(desk, act)


def test_a_terminal_that_goes_away_gives_no_word(desk: Desk) -> None:
    """Without anybody at the terminal the question is gone, and the run goes on waiting."""

    async def act(word: WordForWave) -> None:
        word.saw(BEFORE_A_WAVE)
        os.close(desk.ours)
        await anyio.sleep(0.05)
        assert desk.words == 0
        word.saw(BEFORE_A_WAVE)

    play(desk, act)
    desk.ours = os.open(os.devnull, os.O_RDONLY)


def test_only_a_terminal_can_be_asked(desk: Desk, tmp_path: Path) -> None:
    """Neither a file, nor a stream that is closed or has no descriptor, can give a word."""
    assert can_be_asked(desk.terminal)
    path = tmp_path / "file"
    path.touch()
    with path.open() as file:
        assert not can_be_asked(file)
    assert not can_be_asked(file)
