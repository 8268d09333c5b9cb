"""Tokens on disk: made once, proven on every opening.

    <cache>/tokens-<key>/tokens.bin       the stream, little-endian, nothing else
                         tokenizer.json   what made it
                         header.json      hashes and counts of text, tokenizer and tokens

The key names text and tokenizer. A folder appears when it is complete, and is made again if it disagrees with
its header.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from raptr_dsl.data.atomic import appearing, discard, synced
from raptr_dsl.data.corpus import Corpus
from raptr_dsl.data.dataset import TokenDataset
from raptr_dsl.data.errors import DataError, data_error, reason, shown
from raptr_dsl.data.sources import collect
from raptr_dsl.data.tokenise import Counter, Progress, encode, learn, passes
from raptr_dsl.data.tokenizer import BpeTokenizer, ByteTokenizer, Tokenizer, restore, vocabulary

FORMAT = "raptr-tokens-1"
_ATTEMPTS = 3  # another process may take away what it found wanting, just when we read it


class Stale(Exception):
    """What is in the cache cannot be used; the message says why."""


def open_dataset(
    paths: Iterable[str | os.PathLike[str]],
    *,
    tokenizer: str = ByteTokenizer.kind,
    vocab_size: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    chunk_tokens: int | None = None,
    progress: Progress | None = None,
) -> TokenDataset:
    """The tokens of text files, from the cache if they are there.

    Args:
        paths: files and folders, or the text `stdlib`; see `collect`.
        tokenizer: `bytes`, or `bpe`, which learns its vocabulary from these files.
        vocab_size: the most tokens `bpe` may learn, special ones included; 8192 if not given.
        cache: the folder to keep tokens in; see `cache_folder`.
        chunk_tokens: the length of a held-out chunk; see `TokenDataset`.
        progress: called with (bytes done, bytes in all) while text is tokenised, never if it was before.

    Raises:
        DataError: the text, the tokenizer or the cache cannot be had, or there is too little text.
        ValueError: `chunk_tokens` is not positive.
    """
    size = vocabulary(tokenizer, vocab_size)
    corpus = collect(paths)
    if tokenizer == BpeTokenizer.kind:
        corpus = corpus.only_utf8()
    asked = {"format": FORMAT, "corpus": _described(corpus), "tokenizer": tokenizer, "vocab_size": size}
    home = cache_folder() if cache is None else Path(cache)
    folder = home / f"tokens-{hashlib.sha256(_json(asked).encode()).hexdigest()[:32]}"
    notes = corpus.notes
    for _ in range(_ATTEMPTS):
        try:
            if not os.path.lexists(folder):
                counter = Counter(progress, passes(tokenizer) * corpus.size)
                _write(folder, corpus, learn(corpus, tokenizer, size, counter), counter)
            return TokenDataset(*_read(folder, corpus, tokenizer), chunk_tokens=chunk_tokens, notes=notes)
        except Stale as stale:
            notes = (*notes, f"the tokens in {shown(folder)} were made again: {stale}")
            _discard(folder)
    raise _cannot_keep(folder, "what was written cannot be read back")


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/raptr_dsl, else ~/.cache/raptr_dsl.

    Raises:
        DataError: this user has no home.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "raptr_dsl"
    except RuntimeError as error:
        raise data_error(
            "data-write", "there is no home folder to keep tokens in", help="name a folder for the cache"
        ) from error


def _write(folder: Path, corpus: Corpus, tokenizer: Tokenizer, counter: Counter) -> None:
    sha256, tokens = hashlib.sha256(), 0
    try:
        with appearing(folder) as unfinished:
            with synced(unfinished / "tokens.bin") as file:
                for part in encode(corpus, tokenizer, counter):
                    file.write(part.data)
                    sha256.update(part.data)
                    tokens += len(part)
            with synced(unfinished / "tokenizer.json") as file:
                file.write(tokenizer.saved().encode())
            with synced(unfinished / "header.json") as file:
                file.write(_json(_header(corpus, tokenizer, tokens, sha256.hexdigest())).encode())
    except OSError as error:
        raise _cannot_keep(folder, reason(error)) from error


def _read(folder: Path, corpus: Corpus, kind: str) -> tuple[np.ndarray, Tokenizer, dict[str, Any]]:
    """Maps the tokens and proves that text, tokenizer, tokens and header agree.

    Raises:
        Stale: they do not.
    """
    try:
        tokenizer = restore(kind, (folder / "tokenizer.json").read_text("utf-8"))
        mapped = np.memmap(folder / "tokens.bin", tokenizer.dtype, "r")
        kept = json.loads((folder / "header.json").read_text("utf-8"))
    except OSError as error:
        raise Stale(f"{Path(error.filename or folder).name}: {reason(error)}") from error
    except (ValueError, RecursionError) as error:  # no JSON, no tokenizer, or no whole number of tokens
        raise Stale(str(error)) from error
    # What is hashed is what stays mapped, whatever another process puts into the folder later.
    header = _header(corpus, tokenizer, len(mapped), hashlib.sha256(mapped.data).hexdigest())
    if kept != header:
        raise Stale("they did not agree with their header")
    return np.asarray(mapped), tokenizer, header


def _discard(folder: Path) -> None:
    try:
        discard(folder)
    except OSError as error:
        raise _cannot_keep(folder, reason(error)) from error


def _cannot_keep(folder: Path, why: str) -> DataError:
    home = shown(folder.parent)
    return data_error(
        "data-write",
        f"the tokens of the data cannot be kept in {home}: {why}",
        subject=home,
        help="make room there, or name another folder for the cache: XDG_CACHE_HOME=FOLDER",
    )


def _header(corpus: Corpus, tokenizer: Tokenizer, tokens: int, sha256: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "corpus": _described(corpus),
        "tokenizer": tokenizer.identity,
        "tokens": {"count": tokens, "dtype": tokenizer.dtype.str, "sha256": sha256},
    }


def _described(corpus: Corpus) -> dict[str, Any]:
    return {"sha256": corpus.sha256, "documents": len(corpus.documents), "bytes": corpus.size}


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
