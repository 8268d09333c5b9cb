"""No token is both trained on and held out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl.data.split import CHUNKS_PER_GROUP, default_chunk, split

streams = st.integers(1, 300).flatmap(
    lambda chunk: st.tuples(st.integers(2 * chunk, max(2 * chunk, 150 * chunk)), st.just(chunk))
)


@settings(max_examples=100)
@given(streams)
def test_the_two_texts_tile_the_stream(stream):
    tokens, chunk = stream
    training, held_out = split(tokens, chunk)
    seen = np.zeros(tokens, int)
    for text, value in ((training, 1), (held_out, 2)):
        for start, end in zip(text.starts, text.ends, strict=True):
            assert start < end
            seen[start:end] += value
    assert set(seen.tolist()) == {1, 2}
    assert training.tokens + held_out.tokens == tokens


@settings(max_examples=100)
@given(streams)
def test_each_group_of_chunks_gives_exactly_one(stream):
    tokens, chunk = stream
    held_out = split(tokens, chunk)[1]
    chunks = tokens // chunk
    assert (held_out.starts // (chunk * CHUNKS_PER_GROUP)).tolist() == list(range(-(-chunks // CHUNKS_PER_GROUP)))
    assert (held_out.starts % chunk == 0).all()
    whole = held_out.ends - held_out.starts
    assert (whole[:-1] == chunk).all()
    assert chunk <= whole[-1] < 2 * chunk


def test_the_drawn_chunks_are_not_always_the_same_of_their_group():
    held_out = split(64 * 100, 1)[1]
    assert len(set((held_out.starts % 64).tolist())) > 40


def test_the_split_stays_what_it_is():
    starts = split(64 * 8 * 32, 32)[1].starts.tolist()
    assert starts == [896, 3136, 5408, 6624, 10016, 11008, 14144, 15328]


@given(st.integers(1, 10**12))
def test_the_default_chunk_fits_the_text(tokens):
    chunk = default_chunk(tokens)
    assert 32 <= chunk <= 8192
    assert chunk & (chunk - 1) == 0
    assert chunk in (32, 8192) or 16 * chunk <= tokens < 32 * chunk
    assert chunk == 32 or tokens // chunk >= 16


@pytest.mark.parametrize(("tokens", "chunk"), [(1, 1), (63, 32), (0, 5)])
def test_less_than_two_chunks_cannot_be_split(refused, tokens, chunk):
    with refused("data-too-short") as found:
        split(tokens, chunk)
    assert str(2 * chunk) in found[0].message


def test_a_chunk_has_a_token():
    with pytest.raises(ValueError, match="at least one"):
        split(100, 0)
