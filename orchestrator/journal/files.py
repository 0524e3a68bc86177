"""Where a journal's file may lie, and how it comes into being: ours alone, and on this host's disk.

Rules:

- A new file is readable and writable by its owner only, and so are the folders made for it; what
  was there before keeps its permissions. The umask has no say.
- A file that exists is never opened here: closing it would drop the locks that SQLite holds.
- Network file systems are refused: their locks and their syncs are not to be trusted with promises.
"""

import contextlib
import fcntl
import os
import sys
from pathlib import Path
from urllib.parse import unquote

from orchestrator.errors import JournalError

NETWORK = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "9p", "ceph", "glusterfs",
    "lustre", "gpfs", "beegfs", "orangefs", "pvfs2", "ocfs2", "gfs2", "davfs", "vboxsf", "prl_fs",
    "virtiofs", "fuse.sshfs", "fuse.ceph", "fuse.glusterfs", "fuse.davfs2", "fuse.s3fs",
    "fuse.gcsfuse", "fuse.goofys", "fuse.rclone", "fuse.mount-s3", "fuse.juicefs", "fuse.obsfs",
    "fuse.curlftpfs", "fuse.afp", "fuse.smbnetfs", "fuse.vmhgfs-fuse", "fuse.gvfsd-fuse",
})  # fmt: skip
"""Types of file systems that other machines may write to behind the kernel's back."""

_MOUNTS = Path("/proc/self/mountinfo")


def path_of(where: str | os.PathLike[str]) -> Path:
    """Return the file that a path or a `sqlite:///…` URL names, absolute and without links.

    Raises:
        JournalError: it is a URL of another kind.
    """
    text = os.fspath(where)
    if text.startswith("sqlite:"):
        if not text.startswith("sqlite:///") or not text.removeprefix("sqlite:///"):
            raise JournalError(
                f"{text!r} is no journal; write sqlite:///relative/path or sqlite:////absolute/path"
            )
        text = unquote(text.removeprefix("sqlite:///"))
    elif "://" in text:
        scheme = text.partition("://")[0]
        raise JournalError(
            f"a journal of kind {scheme!r} is not known; use a path or sqlite:////absolute/path"
        )
    try:
        return Path(text).expanduser().resolve()
    except (RuntimeError, OSError, ValueError) as exc:
        raise JournalError(f"the journal's path {text!r} leads nowhere: {exc}") from exc


def make_file(path: Path) -> None:
    """Make an empty file and the folders it needs, for our eyes only; leave alone what is there.

    Raises:
        JournalError: it cannot be made.
    """
    try:
        _make_folders(path.parent)
        with contextlib.suppress(FileExistsError):
            made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.fchmod(made, 0o600)
                os.fsync(made)
            finally:
                os.close(made)
            _sync_folder(path.parent)
    except OSError as exc:
        raise JournalError(
            f"the journal {path} cannot be made: {exc.strerror}; "
            "choose a place on this host that you may write to"
        ) from exc


def _make_folders(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(0o700)
        folder.chmod(0o700)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    # A file that is safe in a folder that is not would be gone after a power cut.
    with contextlib.suppress(PermissionError):  # not ours to read, so not ours to have changed
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def why_not_writable(path: Path) -> str | None:
    """Return in words why the journal can only be read, or None if it may be written."""
    if not os.access(path, os.W_OK):
        return f"{path} is read-only here"
    if not os.access(path.parent, os.W_OK):
        return f"the folder of {path} is read-only here, and a journal needs to write beside it"
    return None


def refuse_network(path: Path, mounts: str | None = None) -> None:
    """Refuse a journal on a network file system, where the kernel tells (Linux).

    Raises:
        JournalError: it lies on one.
    """
    if mounts is None:
        mounts = _read_mounts()
    kind = kind_of_filesystem(path, mounts)
    if kind in NETWORK:
        raise JournalError(
            f"the journal {path} lies on a network file system ({kind}), where locks and syncs "
            "cannot be relied on; choose a path on a local disk"
        )


def _read_mounts() -> str:
    if sys.platform != "linux":
        return ""
    try:
        return _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def kind_of_filesystem(path: Path, mounts: str) -> str | None:
    """Return the type of the file system that holds `path`, from the text of a mountinfo."""
    best, found = -1, None
    for line in mounts.splitlines():
        before, dash, after = line.partition(" - ")
        columns = before.split(" ")
        if not dash or len(columns) < 5:  # noqa: PLR2004  the mount point is the fifth column
            continue
        point = Path(_unescape(columns[4]))
        # A later mount on the same point hides the earlier one.
        if len(point.parts) >= best and path.is_relative_to(point):
            best, found = len(point.parts), after.split(" ")[0]
    return found


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def lock_alone(path: Path) -> int | None:
    """Take the file beside the journal that only one process can hold; None if another does.

    The descriptor holds the lock until it is closed or the process dies.

    Raises:
        JournalError: the lock file cannot be made.
    """
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise JournalError(
            f"the lock beside the journal {path} cannot be made: {exc.strerror}"
        ) from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


class Spare:
    """Room on the disk, kept in a file until it is needed, together with all who keep it there."""

    def __init__(self, path: Path, size: int) -> None:
        """Keep so many bytes; none where there is no room for them."""
        self._path = path
        self._descriptor: int | None = None
        with contextlib.suppress(OSError):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.fchmod(self._descriptor, 0o600)
            # As long as anybody keeps it, nobody takes the file away.
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
            _allocate(self._descriptor, size)

    def give_up(self) -> None:
        """Let others have the room."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)

    def close(self) -> None:
        """Keep it no longer; the last one who does takes the file away."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._path.unlink()
        os.close(descriptor)


def _allocate(descriptor: int, size: int) -> None:
    """Make a file so long, with room on the disk for all of it, or leave nothing in it."""
    try:
        if sys.platform == "linux":
            os.posix_fallocate(descriptor, 0, size)
        elif os.fstat(descriptor).st_size < size:  # pragma: no cover - not where this is tested
            os.write(descriptor, bytes(size))
    except OSError:
        os.ftruncate(descriptor, 0)
