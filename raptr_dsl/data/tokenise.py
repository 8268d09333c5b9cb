"""A corpus as one stream of tokens, a few megabytes at a time."""

from collections.abc import Callable, Iterator

import numpy as np

from raptr_dsl.data.corpus import Corpus, Document
from raptr_dsl.data.tokenizer import BpeTokenizer, ByteTokenizer, Tokenizer

Progress = Callable[[int, int], None]
_BATCH_BYTES = 1 << 22


class Counter:
    """Tells the caller how many bytes of how many are done."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add(self, size: int) -> None:
        self._done += size
        if self._progress:
            self._progress(self._done, self._total)


def passes(kind: str) -> int:
    """How often a tokenizer of that kind goes over the corpus: to learn from it, and to encode it."""
    return 2 if kind == BpeTokenizer.kind else 1


def learn(corpus: Corpus, kind: str, vocab_size: int, counter: Counter) -> Tokenizer:
    """The tokenizer of that kind for the corpus."""
    if kind == ByteTokenizer.kind:
        return ByteTokenizer()
    return BpeTokenizer.train(_texts(corpus, counter), vocab_size)


def encode(corpus: Corpus, tokenizer: Tokenizer, counter: Counter) -> Iterator[np.ndarray]:
    """The stream in parts: each document, followed by the end of text."""
    end_of_text = np.array([tokenizer.end_of_text], tokenizer.dtype)
    for batch in _batches(corpus.documents):
        texts = [piece for piece in batch if piece is not None]
        encoded = iter(tokenizer.encode(texts))
        yield np.concatenate([end_of_text if piece is None else next(encoded) for piece in batch])
        counter.add(sum(map(len, texts)))


def _texts(corpus: Corpus, counter: Counter) -> Iterator[str]:
    for document in corpus.documents:
        for piece in document.pieces():
            yield piece.decode("utf-8", "replace")
        counter.add(document.size)


def _batches(documents: tuple[Document, ...]) -> Iterator[list[bytes | None]]:
    """Pieces of documents, with None where a document ends."""
    batch: list[bytes | None] = []
    size = 0
    for document in documents:
        for piece in document.pieces():
            batch.append(piece)
            size += len(piece)
            if size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
        batch.append(None)
    yield batch
