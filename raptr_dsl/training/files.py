"""What a failed write becomes, and what has to be on disk before a checkpoint counts."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raptr_dsl.diagnostics import RaptrError, fail

IN_THE_WAY = frozenset({errno.EEXIST, errno.ENOTDIR})
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
    help = "make room, then go on with --resume" if full else "see to it that the folder can be written"
    if error.errno in IN_THE_WAY:
        help = "there is a file of this name: name another folder"
    return fail(
        "train-disk-full" if full else "train-write",
        f"{what} cannot be written: {(error.strerror or str(error)).lower()}",
        subject=str(path),
        help=help,
        notes=notes,
    )


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
