"""Batches as pure functions of (seed, step), and the fixed batches on which every run is evaluated."""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from raptr_dsl.data.draws import below, words
from raptr_dsl.data.errors import data_error
from raptr_dsl.data.masking import RATE, Masked, mask_tokens
from raptr_dsl.data.split import Stretches, default_chunk, split
from raptr_dsl.data.tokenizer import Tokenizer


class TokenDataset:
    """A stream of tokens, cut into a training text and a held-out text that no window has in common.

    Nothing is shuffled or counted up: any row of any step can be had at any time, so a resumed run, another
    rank and another backend see the same batches without being told anything but (seed, step).

    Attributes:
        tokens: the stream, uint16 or uint32 [n], memory-mapped and read-only.
        tokenizer: what made it.
        header: what the tokens were made from, as kept beside them.
        notes: what the user ought to know about the data, in words.
        digest: SHA-256 of header and chunk size; two datasets of one digest give the same batches.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        tokenizer: Tokenizer,
        header: Mapping[str, Any],
        *,
        chunk_tokens: int | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        """`chunk_tokens` is the length of a held-out chunk, by default 8192, less in a small text.

        Raises:
            DataError: there is too little text to hold some of it out.
        """
        self.tokens = tokens
        self.tokenizer = tokenizer
        self.header = header
        self.notes = notes
        self.chunk_tokens = default_chunk(len(tokens)) if chunk_tokens is None else chunk_tokens
        self.training, self.held_out = split(len(tokens), self.chunk_tokens)
        identity = json.dumps({"chunk_tokens": self.chunk_tokens, **header}, sort_keys=True)
        self.digest = hashlib.sha256(identity.encode()).hexdigest()
        self._windows: dict[int, _Windows] = {}

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.vocab_size

    def batch(self, seed: int, step: int, batch_size: int, seq_len: int, first_row: int = 0) -> np.ndarray:
        """Windows of the training text, int64 [batch_size, seq_len + 1]: inputs `[:, :-1]`, targets the rest.

        They are rows first_row … first_row + batch_size − 1 of the step. Row r starts where word r of the
        stream `train` draws, uniformly among all starts, so it depends on (seed, step, r, seq_len) alone:
        micro-batches and ranks ask for their own rows, and together they have what one large batch has.

        Raises:
            DataError: no stretch of the training text is as long as a window.
            ValueError: a size or a row is out of range, or seed or step is no unsigned 64-bit integer.
        """
        _require_sizes(batch_size, seq_len, first_row)
        windows = self._windows.get(seq_len) or self._windows.setdefault(seq_len, self._windows_of(seq_len))
        drawn = words("train", seed, step, first_row, batch_size).tolist()
        return windows.views[[windows.start(below(word, windows.total)) for word in drawn]].astype(np.int64)

    def eval_batches(self, batch_size: int, seq_len: int, count: int) -> list[np.ndarray]:
        """At most `count` full batches of the held-out text, int64 [batch_size, seq_len + 1] each.

        Windows follow one another within each held-out chunk, sharing one token, so that no target is asked
        twice; those returned are spread evenly over all. No seed enters: the list is the same in every run.

        Raises:
            DataError: the held-out text has not even one batch of windows.
            ValueError: a size is out of range.
        """
        _require_sizes(batch_size, seq_len, 0)
        if count < 1:
            raise ValueError(f"at least one batch is needed, not {count}")
        _require_window(self.held_out, seq_len, "held-out")
        pairs = zip(self.held_out.starts.tolist(), self.held_out.ends.tolist(), strict=True)
        starts = [at for start, end in pairs for at in range(start, end - seq_len, seq_len)]
        if len(starts) < batch_size:
            raise data_error(
                "data-too-short",
                f"the held-out text has {len(starts)} windows of {seq_len + 1} tokens, less than a batch of "
                f"{batch_size}",
                help="give more text, or evaluate with a smaller batch or shorter sequences",
            )
        wanted = min(count, len(starts) // batch_size) * batch_size
        chosen = np.array([starts[i * len(starts) // wanted] for i in range(wanted)]).reshape(-1, batch_size)
        views = self._views(seq_len)
        return [views[row].astype(np.int64) for row in chosen]

    def mlm(self, tokens: np.ndarray, seed: int, step: int, rate: Fraction | str = RATE, first_row: int = 0) -> Masked:
        """Hides exactly ⌊rate·seq + ½⌋ tokens of each row of [batch, seq], rows first_row … of the step.

        Raises:
            ValueError: that is no token at all, or more than there are.
        """
        return mask_tokens(
            tokens,
            seed,
            step,
            text_tokens=self.tokenizer.text_tokens,
            mask=self.tokenizer.mask,
            rate=rate,
            first_row=first_row,
        )

    def _views(self, seq_len: int) -> np.ndarray:
        return np.lib.stride_tricks.sliding_window_view(self.tokens, seq_len + 1)

    def _windows_of(self, seq_len: int) -> "_Windows":
        _require_window(self.training, seq_len, "training")
        lengths = self.training.ends - self.training.starts
        counts = np.maximum(lengths - seq_len, 0)
        after = np.cumsum(counts)
        offsets = self.training.starts - (after - counts)
        return _Windows(self._views(seq_len), int(after[-1]), after.tolist(), offsets.tolist())


class _Windows(NamedTuple):
    """Every window of a length in the training text, numbered through its stretches."""

    views: np.ndarray  # [tokens - seq_len, seq_len + 1], no copy
    total: int
    after: list[int]  # how many there are up to the end of each stretch
    offsets: list[int]  # what turns a number into a start, by stretch

    def start(self, number: int) -> int:
        return number + self.offsets[bisect_right(self.after, number)]


def _require_sizes(batch_size: int, seq_len: int, first_row: int) -> None:
    if batch_size < 1 or seq_len < 1 or first_row < 0:
        raise ValueError(f"batch {batch_size}, sequence {seq_len} and first row {first_row} cannot be")


def _require_window(text: Stretches, seq_len: int, name: str) -> None:
    if text.longest > seq_len:
        return
    raise data_error(
        "data-too-short",
        f"the {name} text has no {seq_len + 1} tokens in one stretch, only {text.longest}",
        help=f"give more text, or train on sequences of at most {text.longest - 1}",
    )
