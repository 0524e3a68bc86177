"""Files that are replaced at once, and only by whole ones."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

_UNENCODABLE = "backslashreplace"
"""UTF-8 cannot encode lone surrogates only, and for these Python's escape is also JSON's."""


def write_whole(path: Path, chunks: Iterable[str]) -> None:
    """Write a text to `path`: what was there before stays until the new text is whole, on disk.

    A new file is for its owner alone. A device or a pipe is written to, never replaced.

    Raises:
        OSError: it cannot be written there.
    """
    if _is_special(path):
        with path.open("w", encoding="utf-8", errors=_UNENCODABLE) as file:
            file.writelines(chunks)
        return
    # A link stays a link: what it points to is replaced.
    path = path.resolve()
    # For its owner alone (0600), and beside its target: a rename is atomic within a folder.
    with tempfile.NamedTemporaryFile(
        "w",
        encoding="utf-8",
        errors=_UNENCODABLE,
        prefix=f".{path.name}.",
        dir=path.parent,
        delete=False,
    ) as file:
        temporary = Path(file.name)
        try:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    _sync_folder(path.parent)


def why_unwritable(path: Path) -> str | None:
    """Return why no file could be written to `path`, as far as that can be told beforehand."""
    if path.is_dir():
        return "it is a folder"
    folder = path.resolve().parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    # What is there is replaced, which takes a folder to write to; only devices are written to.
    place = path if _is_special(path) else folder
    return None if os.access(place, os.W_OK) else f"{place} cannot be written"


def _is_special(path: Path) -> bool:
    """Whether this is a device or a pipe, which must be written to and never replaced."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(mode)


def _sync_folder(folder: Path) -> None:
    # Some file systems cannot; the text is whole all the same, only a power cut could undo it.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
