"""Text for training: files → tokens, kept once → batches that are pure functions of (seed, step).

    data = open_dataset(["stdlib"])
    tokens = data.batch(seed=17, step=417, batch_size=8, seq_len=128)      # int64 [8, 129]
    held_out = data.eval_batches(batch_size=8, seq_len=128, count=20)      # the same list in every run

NumPy arrays only; no framework is imported, and `tokenizers` only for the `bpe` tokenizer.
"""

from raptr_dsl.data.corpus import Corpus, Document
from raptr_dsl.data.dataset import TokenDataset
from raptr_dsl.data.errors import DataError
from raptr_dsl.data.masking import Masked, mask_tokens, masked_count
from raptr_dsl.data.sources import STDLIB, collect
from raptr_dsl.data.store import cache_folder, open_dataset
from raptr_dsl.data.tokenizer import TOKENIZERS, BpeTokenizer, ByteTokenizer, Tokenizer

__all__ = [
    "STDLIB",
    "TOKENIZERS",
    "BpeTokenizer",
    "ByteTokenizer",
    "Corpus",
    "DataError",
    "Document",
    "Masked",
    "TokenDataset",
    "Tokenizer",
    "cache_folder",
    "collect",
    "mask_tokens",
    "masked_count",
    "open_dataset",
]
