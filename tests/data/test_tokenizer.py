"""Text → tokens → text."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl.data import BpeTokenizer, ByteTokenizer
from raptr_dsl.data.tokenizer import restore, vocabulary

TEXTS = ["def training(plan):\n    return plan\n" * 20, "training the plan – 速い\n" * 20]
BPE = BpeTokenizer.train(TEXTS, 280)


@given(st.text())
def test_text_survives_the_bytes(text):
    (tokens,) = ByteTokenizer().encode([text.encode()])
    assert tokens.dtype == np.dtype("<u2")
    assert tokens.tolist() == list(text.encode())
    assert ByteTokenizer().decode(tokens) == text


@settings(max_examples=100)
@given(st.lists(st.text() | st.sampled_from(["plan training", "<|endoftext|>", " \n\t  x"]), min_size=1, max_size=4))
def test_text_survives_bpe(texts):
    encoded = BPE.encode([text.encode() for text in texts])
    assert [BPE.decode(tokens) for tokens in encoded] == texts
    assert all((tokens < BPE.text_tokens).all() for tokens in encoded)


def test_bpe_shortens_what_it_learned():
    (tokens,) = BPE.encode([TEXTS[0].encode()])
    assert len(tokens) < len(TEXTS[0]) / 2


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), BPE], ids=["bytes", "bpe"])
def test_special_tokens_follow_those_of_text(tokenizer):
    assert tokenizer.end_of_text == tokenizer.text_tokens
    assert tokenizer.mask == tokenizer.text_tokens + 1
    assert tokenizer.vocab_size == tokenizer.text_tokens + 2
    assert tokenizer.decode([tokenizer.end_of_text, tokenizer.mask]) == ""


def test_the_vocabularies_have_their_documented_sizes():
    assert ByteTokenizer().vocab_size == 258
    assert BPE.vocab_size == 280
    assert BpeTokenizer.train(["ab"], 10_000).vocab_size == 258  # nothing repeats: nothing to learn


def test_bpe_learns_the_same_again_and_from_its_json():
    assert BpeTokenizer.train(TEXTS, 280).identity == BPE.identity
    assert restore("bpe", BPE.saved()).identity == BPE.identity
    assert BpeTokenizer.train(TEXTS[:1], 280).identity != BPE.identity
    assert restore("bytes", ByteTokenizer().saved()).identity == ByteTokenizer().identity


def test_a_large_vocabulary_needs_wider_tokens():
    wide = ByteTokenizer()
    wide.text_tokens = (1 << 16) - 2
    assert wide.dtype == np.dtype("<u2")
    wide.text_tokens += 1
    assert wide.dtype == np.dtype("<u4")


@pytest.mark.parametrize(("kind", "saved"), [("bpe", "{}"), ("bpe", ""), ("bytes", "{}")])
def test_what_is_no_tokenizer_cannot_be_restored(kind, saved):
    with pytest.raises(ValueError, match="not the JSON"):
        restore(kind, saved)


@pytest.mark.parametrize(
    ("kind", "asked", "size"),
    [("bytes", None, 258), ("bytes", 258, 258), ("bpe", None, 8192), ("bpe", 258, 258)],
)
def test_sizes_that_can_be_had(kind, asked, size):
    assert vocabulary(kind, asked) == size


@pytest.mark.parametrize(
    ("kind", "asked", "code", "help"),
    [
        ("bytes", 300, "data-vocabulary", "`bpe`"),
        ("bpe", 257, "data-vocabulary", "258"),
        ("bpe", 10**30, "data-vocabulary", "1000000"),
        ("bpa", None, "data-tokenizer", "`bpe`"),
        ("words", None, "data-tokenizer", "`bytes` and `bpe`"),
    ],
)
def test_sizes_and_kinds_that_cannot(refused, kind, asked, code, help):
    with refused(code) as found:
        vocabulary(kind, asked)
    assert help in found[0].help


def test_a_missing_library_names_the_extra(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with refused("data-tokenizer") as found:
        BpeTokenizer.train(TEXTS, 280)
    assert "[train]" in found[0].help
