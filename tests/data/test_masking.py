"""Masked positions: exact in number, pure functions of (seed, step, row)."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raptr_dsl.data import mask_tokens, masked_count
from raptr_dsl.data.draws import words

pure = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, (1 << 64) - 1)
TEXT, MASK = 256, 257


def some_tokens(rows: int, seq_len: int) -> np.ndarray:
    return (np.arange(rows * seq_len) * 7919 % 257).reshape(rows, seq_len)


@pure
@given(rows=st.integers(1, 6), seq_len=st.integers(1, 70), seed=seeds, step=seeds, twentieths=st.integers(1, 20))
def test_exactly_as_many_positions_as_the_rate_says(rows, seq_len, seed, step, twentieths):
    rate, tokens = Fraction(twentieths, 20), some_tokens(rows, seq_len)
    count = (2 * seq_len * twentieths + 20) // 40
    if not count:
        with pytest.raises(ValueError, match="positions"):
            mask_tokens(tokens, seed, step, text_tokens=TEXT, mask=MASK, rate=rate)
        return
    inputs, targets, positions = mask_tokens(tokens, seed, step, text_tokens=TEXT, mask=MASK, rate=rate)
    assert count == masked_count(seq_len, rate)
    assert targets.shape == positions.shape == (rows, count)
    assert inputs.shape == tokens.shape
    assert inputs.dtype == targets.dtype == positions.dtype == np.int64
    assert (np.diff(positions) > 0).all()
    assert positions.min() >= 0
    assert positions.max() < seq_len
    assert (np.take_along_axis(tokens, positions, 1) == targets).all()
    hidden = np.zeros(tokens.shape, bool)
    np.put_along_axis(hidden, positions, True, 1)
    assert (inputs[~hidden] == tokens[~hidden]).all()
    shown = inputs[hidden]
    assert ((shown == MASK) | (shown < TEXT) | (shown == tokens[hidden])).all()


@pure
@given(seed=seeds, step=seeds, rows=st.integers(1, 4), seq_len=st.integers(4, 30))
def test_the_masks_are_those_of_the_definition(seed, step, rows, seq_len):
    tokens, count = some_tokens(rows, seq_len), masked_count(seq_len, "1/4")
    masked = mask_tokens(tokens, seed, step, text_tokens=TEXT, mask=MASK, rate="1/4")
    a, f = (seq_len + 3) // 4 * 4, (2 * count + 3) // 4 * 4
    place = words("mlm-place", seed, step, 0, rows * a).tolist()
    fill = words("mlm-fill", seed, step, 0, rows * f).tolist()
    for row in range(rows):
        ranks = sorted((place[row * a + p] >> 16, p) for p in range(seq_len))
        positions = sorted(p for _, p in ranks[:count])
        assert masked.positions[row].tolist() == positions
        for j, p in enumerate(positions):
            kind = (fill[row * f + 2 * j] >> 32) * 10 >> 32
            random = (fill[row * f + 2 * j + 1] >> 32) * TEXT >> 32
            expected = MASK if kind < 8 else random if kind == 8 else tokens[row, p]
            assert masked.inputs[row, p] == expected


@pure
@given(seed=seeds, step=seeds, first=st.integers(0, 5), rows=st.integers(1, 5))
def test_micro_batches_have_the_masks_of_their_rows(seed, step, first, rows):
    tokens = some_tokens(first + rows, 33)
    whole = mask_tokens(tokens, seed, step, text_tokens=TEXT, mask=MASK)
    part = mask_tokens(tokens[first:], seed, step, text_tokens=TEXT, mask=MASK, first_row=first)
    assert all((a[first:] == b).all() for a, b in zip(whole, part, strict=True))


def test_eight_in_ten_show_the_mask_and_one_is_random():
    tokens = np.full((400, 200), 256)  # the end of text, which no random token is
    inputs, _, positions = mask_tokens(tokens, 1, 0, text_tokens=TEXT, mask=MASK)
    shown = np.take_along_axis(inputs, positions, 1)
    assert (shown == MASK).mean() == pytest.approx(0.8, abs=0.02)
    assert (shown < TEXT).mean() == pytest.approx(0.1, abs=0.02)
    assert (shown == 256).mean() == pytest.approx(0.1, abs=0.02)
    assert len(np.unique(shown[shown < TEXT])) > 200


def test_all_positions_are_hidden_equally_often():
    positions = mask_tokens(some_tokens(4000, 20), 3, 0, text_tokens=TEXT, mask=MASK).positions
    assert np.bincount(positions.ravel(), minlength=20) == pytest.approx(np.full(20, 600), rel=0.15)


def test_more_positions_than_sixteen_bits_count():
    seq_len = (1 << 16) + 1000
    positions = mask_tokens(some_tokens(1, seq_len), 1, 0, text_tokens=TEXT, mask=MASK, rate="1").positions
    assert positions[0].tolist() == list(range(seq_len))


def test_the_batch_itself_is_left_as_it_is(positions):
    data = positions(1000)
    tokens = data.batch(1, 2, 4, 30)
    before = tokens.copy()
    data.mlm(tokens, 1, 2)
    assert (tokens == before).all()


@pytest.mark.parametrize(("seq_len", "rate"), [(3, "15%"), (10, "0"), (10, "2"), (10, "-1/2")])
def test_rates_that_hide_nothing_or_too_much(seq_len, rate):
    with pytest.raises(ValueError, match=r"positions|literal"):
        masked_count(seq_len, rate)
