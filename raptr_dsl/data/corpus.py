"""Documents in order: what was hashed is what is read."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from raptr_dsl.data.errors import DataError, data_error, shown, unreadable

PIECE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Document:
    """One file: its name within the corpus, and its size in bytes and content when it was hashed."""

    name: str
    path: Path
    size: int
    sha256: bytes
    is_utf8: bool

    def pieces(self) -> Iterator[bytes]:
        """The content in pieces of at most 128 KiB, cut after a line or, without one, after a character.

        Raises:
            DataError: the file cannot be read any more, or is not what was hashed.
        """
        seen = hashlib.sha256()
        try:
            with self.path.open("rb") as file:
                for piece in _pieces(file):
                    seen.update(piece)
                    yield piece
        except OSError as error:
            raise DataError([unreadable(self.path, error)]) from error
        if seen.digest() != self.sha256:
            raise data_error(
                "data-changed",
                f"{shown(self.path)} changed while it was being read",
                subject=shown(self.path),
                help="run the command again once nothing writes to it",
            )


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents in order, `notes` in words for the user, and the hash of names and contents."""

    documents: tuple[Document, ...]
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(document.size for document in self.documents)

    @property
    def sha256(self) -> str:
        """SHA-256 over name ‖ 0 ‖ SHA-256(content) of each document in order, in hex."""
        total = hashlib.sha256()
        for document in self.documents:
            total.update(os.fsencode(document.name) + b"\0" + document.sha256)
        return total.hexdigest()

    def only_utf8(self) -> "Corpus":
        """The documents that are UTF-8, with a note on those that are not.

        Raises:
            DataError: none is.
        """
        kept = tuple(document for document in self.documents if document.is_utf8)
        left_out = [shown(document.path) for document in self.documents if not document.is_utf8]
        if not left_out:
            return self
        if not kept:
            raise data_error("data-empty", "no file of the data is UTF-8 text", help="use the `bytes` tokenizer")
        named = ", ".join(left_out[:3]) + (", …" if len(left_out) > 3 else "")
        note = f"left out, not UTF-8: {len(left_out)} of {len(self.documents)} files ({named})"
        return Corpus(kept, (*self.notes, note))


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    block = file.read(PIECE_BYTES)
    while following := file.read(PIECE_BYTES):
        cut = block.rfind(b"\n") + 1 or _last_character(block)
        yield block[:cut]
        block = block[cut:] + following
    if block:
        yield block


def _last_character(block: bytes) -> int:
    """Where the last UTF-8 character begins; the end, if the last bytes are no UTF-8 at all."""
    end = len(block)
    return next((i for i in range(end - 1, end - 5, -1) if block[i] & 0xC0 != 0x80), end)
