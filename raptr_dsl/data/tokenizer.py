"""From bytes to tokens and back.

Both vocabularies have one layout: the tokens of text first, then the end of text, then the mask. The last two
are no text to either tokenizer, so nothing written in a file can turn into one of them.

    bytes   0–255 the bytes          256 end of text   257 mask       258 in all
    bpe     0–(n−1) bytes and merges   n end of text   n+1 mask       n+2 in all
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, final

import numpy as np

from raptr_dsl.data.errors import data_error
from raptr_dsl.diagnostics import did_you_mean

TOKENIZERS = ("bytes", "bpe")
DEFAULT_BPE_VOCABULARY = 8192
_SPECIAL_TOKENS = 2
_SMALLEST, _LARGEST = 256 + _SPECIAL_TOKENS, 1_000_000


class Tokenizer(ABC):
    """A vocabulary of `text_tokens` tokens of text and two special ones."""

    kind: str
    text_tokens: int

    @property
    def end_of_text(self) -> int:
        """Follows every document."""
        return self.text_tokens

    @property
    def mask(self) -> int:
        """Stands where a masked language model has to fill in."""
        return self.text_tokens + 1

    @property
    def vocab_size(self) -> int:
        return self.text_tokens + _SPECIAL_TOKENS

    @property
    def dtype(self) -> np.dtype:
        """Little-endian uint16 while every token fits, else uint32."""
        return np.dtype("<u2" if self.vocab_size <= 1 << 16 else "<u4")

    @property
    def identity(self) -> dict[str, str | int]:
        """What two tokenizers share if and only if they make the same tokens of the same text."""
        return {"kind": self.kind, "vocab_size": self.vocab_size}

    @abstractmethod
    def encode(self, pieces: Sequence[bytes]) -> list[np.ndarray]:
        """The tokens of each piece of text, `dtype` [n]. UTF-8 is required of the pieces by `bpe` only."""

    @abstractmethod
    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens, special ones left out and what is no UTF-8 replaced by U+FFFD."""

    @abstractmethod
    def saved(self) -> str:
        """JSON from which `restore` makes the tokenizer again."""


@final
class ByteTokenizer(Tokenizer):
    """Every byte is a token. Needs no library and reads any file."""

    kind = "bytes"
    text_tokens = 256

    def encode(self, pieces: Sequence[bytes]) -> list[np.ndarray]:
        return [np.frombuffer(piece, np.uint8).astype(self.dtype) for piece in pieces]

    def decode(self, tokens: Iterable[int]) -> str:
        return bytes(token for token in tokens if token < self.text_tokens).decode("utf-8", "replace")

    def saved(self) -> str:
        return '{"kind": "bytes"}'


@final
class BpeTokenizer(Tokenizer):
    """Byte-level byte-pair encoding within GPT-2's words, learned from the data itself."""

    kind = "bpe"

    def __init__(self, json: str) -> None:
        """From the JSON of the package `tokenizers`.

        Raises:
            DataError: the package is not installed.
            ValueError: the text is not the JSON of a tokenizer.
        """
        library = _library()
        self._json = json
        try:
            self._model: Any = library.Tokenizer.from_str(json)
        except Exception as error:  # the package raises bare Exception
            raise ValueError(f"not the JSON of a tokenizer: {error}") from error
        self.text_tokens = self._model.get_vocab_size()

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "BpeTokenizer":
        """Learns `vocab_size` tokens, the special ones included, or fewer where the texts repeat too little.

        The same texts give the same tokenizer, on any number of threads.

        Raises:
            DataError: the package is not installed.
        """
        library = _library()
        model = library.Tokenizer(library.models.BPE())
        model.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocab_size - _SPECIAL_TOKENS,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        )
        model.train_from_iterator(texts, trainer)
        return cls(model.to_str())

    @property
    def identity(self) -> dict[str, str | int]:
        return super().identity | {"sha256": hashlib.sha256(self._json.encode()).hexdigest()}

    def encode(self, pieces: Sequence[bytes]) -> list[np.ndarray]:
        texts = [piece.decode("utf-8", "replace") for piece in pieces]
        return [np.array(encoding.ids, self.dtype) for encoding in self._model.encode_batch_fast(texts)]

    def decode(self, tokens: Iterable[int]) -> str:
        return self._model.decode([int(token) for token in tokens if token < self.text_tokens])

    def saved(self) -> str:
        return self._json


def vocabulary(kind: str, asked: int | None) -> int:
    """The most tokens a tokenizer of that kind is to have, special ones included.

    Raises:
        DataError: there is no such kind, or it cannot have that many.
    """
    if kind not in TOKENIZERS:
        nearest = did_you_mean(kind, TOKENIZERS)
        raise data_error(
            "data-tokenizer",
            f"there is no tokenizer `{kind}`",
            help=f"did you mean `{nearest}`?" if nearest else "there are `bytes` and `bpe`",
        )
    if kind == ByteTokenizer.kind and asked not in (None, _SMALLEST):
        raise data_error(
            "data-vocabulary",
            f"the tokenizer `bytes` has {_SMALLEST} tokens, not {asked}",
            help="leave the size of the vocabulary out, or use the `bpe` tokenizer",
        )
    if kind == ByteTokenizer.kind:
        return _SMALLEST
    if asked is not None and not _SMALLEST <= asked <= _LARGEST:
        raise data_error(
            "data-vocabulary",
            f"the tokenizer `bpe` cannot have {asked} tokens",
            help=f"ask for {_SMALLEST} to {_LARGEST}",
        )
    return DEFAULT_BPE_VOCABULARY if asked is None else asked


def restore(kind: str, saved: str) -> Tokenizer:
    """The tokenizer whose `saved()` this is.

    Raises:
        DataError: the package `tokenizers` is needed and not installed.
        ValueError: it is not.
    """
    if kind == BpeTokenizer.kind:
        return BpeTokenizer(saved)
    if saved != ByteTokenizer().saved():
        raise ValueError("not the JSON of the byte tokenizer")
    return ByteTokenizer()


def _library() -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise data_error(
            "data-tokenizer",
            "the tokenizer `bpe` needs the package tokenizers, which is not installed",
            help='pip install "raptr-dsl[train]", or use the `bytes` tokenizer',
        ) from error
    return tokenizers
