"""Writing so that a crash, a kill or a full disk leaves the old file or the new one, never half of one."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raptr_dsl.diagnostics import RaptrError, fail

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def writing(what: str, path: Path) -> Iterator[None]:
    """Turns an `OSError` inside into a diagnostic: `train-disk-full` or `train-write`."""
    try:
        yield
    except OSError as error:
        raise write_failure(what, path, error) from error


def write_failure(what: str, path: Path, error: OSError, notes: tuple[str, ...] = ()) -> RaptrError:
    """The diagnostic of a failed write; `what` is a noun phrase such as "the log"."""
    full = error.errno in FULL
    return fail(
        "train-disk-full" if full else "train-write",
        f"{what} cannot be written: {(error.strerror or str(error)).lower()}",
        subject=str(path),
        help="make room" if full else "see to it that the folder can be written",
        notes=notes,
    )


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file's content at once, and has it on disk when it returns.

    Raises:
        OSError: it could not be written; the file is as it was.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Has a folder's entries (new names, renamings) on disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
