"""Paths as messages show them, and writing so that a crash leaves the old file or the new one, never half of one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


def shortest(path: Path) -> str:
    """A path that opens the file from the working directory: relative to it where that is shorter."""
    whole = os.path.abspath(path)
    try:
        relative = os.path.relpath(whole)
    except (OSError, ValueError):  # the working directory is gone, or on another drive
        return whole
    return min(relative, whole, key=len)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path`, on disk, when the block ends well, and is gone if not.

    Raises:
        OSError: it could not be written; `path` is as it was.
    """
    unfinished = path.with_name(f".{path.name}.new")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Has the renaming on disk, where a folder can be opened at all."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
