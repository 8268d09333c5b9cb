"""The log of a run: one JSON object a line."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raptr_dsl.training.files import writing


class Journal:
    """Appends records to a file, each whole or not at all as far as a reader after a resume can tell.

    A checkpoint remembers the length of the log, and a resume cuts it back to that: lines of steps that are
    about to be repeated go, and so does a line that a kill or a full disk left half-written.
    """

    def __init__(self, path: Path) -> None:
        """Opens the log, new or old.

        Raises:
            RaptrError: it cannot be written.
        """
        self._path = path
        with writing("the log", path):
            self._file = path.open("ab", buffering=0)

    def cut(self, length: int) -> bool:
        """Drops everything after the first `length` bytes; False if there were fewer."""
        with writing("the log", self._path):
            enough = os.fstat(self._file.fileno()).st_size >= length
            if enough:
                os.ftruncate(self._file.fileno(), length)
        return enough

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends a record. Raises RaptrError where the disk is full."""
        line = memoryview(json.dumps(record, allow_nan=False, ensure_ascii=False).encode() + b"\n")
        with writing("the log", self._path):
            while line:
                line = line[self._file.write(line) :]

    def sync(self) -> int:
        """Has the log on disk, and gives its length in bytes."""
        with writing("the log", self._path):
            os.fsync(self._file.fileno())
            return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        self._file.close()


class NoJournal(Journal):
    """The log of a process that keeps none: another one does."""

    def __init__(self) -> None:
        pass

    def cut(self, length: int) -> bool:
        return True

    def write(self, record: Mapping[str, Any]) -> None:
        pass

    def sync(self) -> int:
        return 0

    def close(self) -> None:
        pass


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The records of a log; a last line that was never finished is left out."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
