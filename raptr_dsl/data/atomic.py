"""A folder that is there as a whole or not at all."""

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_ABANDONED_SECONDS = 3600


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder to fill, which is renamed to `folder` when the block ends and is gone if it fails.

    If `folder` has come to be in the meantime it stays as it is: another process was quicker.

    Raises:
        OSError: it cannot be made, written through to the disk, or renamed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    unfinished = _temporary(folder)
    unfinished.mkdir()
    try:
        yield unfinished
        _sync(unfinished)
        try:
            os.replace(unfinished, folder)
        except OSError:
            if not folder.exists():
                raise
        _sync(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)  # gone already if all went well


@contextmanager
def synced(path: Path) -> Iterator[BinaryIO]:
    """A new file whose content is on the disk when the block ends."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def discard(path: Path) -> None:
    """Takes a folder, or a file in its place, away in one step, so that nobody meets half of it."""
    aside = _temporary(path)
    os.replace(path, aside)
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink()


def _temporary(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.tmp")


def _sweep(parent: Path) -> None:
    """Removes what killed processes left, once nothing can be writing it any more."""
    for left in parent.glob(".tokens-*.tmp"):
        try:
            newest = max(path.stat().st_mtime for path in (left, *left.iterdir()))
        except OSError:
            continue  # its process has just finished with it
        if time.time() - newest > _ABANDONED_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _sync(folder: Path) -> None:
    if os.name != "posix":
        return  # only there can a folder be opened
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
