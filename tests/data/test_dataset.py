"""Batches are pure functions of (seed, step); evaluation is the same for all."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raptr_dsl.data import ByteTokenizer, TokenDataset, open_dataset
from raptr_dsl.data.draws import words

pure = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, (1 << 64) - 1)


@pure
@given(
    tokens=st.integers(400, 20_000),
    chunk=st.none() | st.integers(20, 200),
    seed=seeds,
    step=seeds,
    seq_len=st.integers(1, 19),
)
def test_no_window_overlaps_both_texts(positions, tokens, chunk, seed, step, seq_len):
    data = positions(tokens, chunk)
    held_out = {at for s, e in zip(data.held_out.starts, data.held_out.ends, strict=True) for at in range(s, e)}
    batch = data.batch(seed, step, 64, seq_len)
    assert batch.shape == (64, seq_len + 1)
    assert batch.dtype == np.int64
    assert (np.diff(batch) == 1).all()  # contiguous
    assert held_out.isdisjoint(batch.ravel().tolist())
    for evaluated in data.eval_batches(1, seq_len, 1000):
        assert (np.diff(evaluated) == 1).all()
        assert held_out.issuperset(evaluated.ravel().tolist())


@pure
@given(tokens=st.integers(200, 3000), seed=seeds, step=seeds, rows=st.integers(1, 20))
def test_batches_are_those_of_the_definition(positions, tokens, seed, step, rows):
    data, seq_len = positions(tokens, 17), 9
    starts = [
        at
        for s, e in zip(data.training.starts.tolist(), data.training.ends.tolist(), strict=True)
        for at in range(s, e - seq_len)
    ]
    drawn = [starts[word * len(starts) >> 64] for word in words("train", seed, step, 0, rows).tolist()]
    assert data.batch(seed, step, rows, seq_len)[:, 0].tolist() == drawn


def test_every_window_can_be_drawn(positions):
    data = positions(400, 32)
    seen = set(data.batch(1, 0, 5000, 7)[:, 0].tolist())
    expected = {
        at
        for s, e in zip(data.training.starts.tolist(), data.training.ends.tolist(), strict=True)
        for at in range(s, e - 7)
    }
    assert seen == expected


@pure
@given(seed=seeds, steps=st.lists(st.integers(0, 10_000), min_size=1, max_size=8), data=st.data())
def test_a_step_is_the_same_in_whatever_order_steps_are_asked(positions, seed, steps, data):
    dataset = positions(5000)
    first = {step: dataset.batch(seed, step, 4, 16) for step in steps}
    again = positions(5000)  # a resumed run: nothing is carried over
    for step in data.draw(st.permutations(steps)):
        again.batch(seed, step, 3, 5)
        assert (again.batch(seed, step, 4, 16) == first[step]).all()


@pure
@given(seed=seeds, step=seeds, sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_micro_batches_are_rows_of_the_batch(positions, seed, step, sizes):
    data = positions(3000)
    whole = data.batch(seed, step, sum(sizes), 12)
    firsts = np.cumsum([0, *sizes[:-1]]).tolist()
    parts = [data.batch(seed, step, size, 12, first_row=first) for size, first in zip(sizes, firsts, strict=True)]
    assert (np.concatenate(parts) == whole).all()


def test_seeds_steps_and_rows_differ(positions):
    data = positions(1_000_000)
    starts = [data.batch(seed, step, 16, 8)[:, 0].tolist() for seed in (1, 2) for step in (0, 1)]
    assert len({start for batch in starts for start in batch}) == 64


@pure
@given(
    tokens=st.integers(5000, 30_000),
    batch_size=st.integers(1, 5),
    seq_len=st.integers(1, 24),
    count=st.integers(1, 9),
)
def test_evaluation_never_asks_for_a_target_twice(positions, tokens, batch_size, seq_len, count):
    batches = positions(tokens).eval_batches(batch_size, seq_len, count)
    assert 1 <= len(batches) <= count
    assert all(batch.shape == (batch_size, seq_len + 1) for batch in batches)
    targets = np.concatenate(batches)[:, 1:].ravel()
    assert len(set(targets.tolist())) == targets.size


def test_evaluation_reaches_every_held_out_chunk(positions):
    data = positions(8192 * 64 * 5)
    starts = np.concatenate(data.eval_batches(1, 128, 5))[:, 0]
    assert set((starts // (8192 * 64)).tolist()) == set(range(5))


def test_evaluation_gives_as_many_full_batches_as_there_are(positions):
    data = positions(64 * 64, 64)  # one chunk of 64 tokens: 7 windows of 9 tokens that share one with the next
    assert len(data.eval_batches(2, 8, 100)) == 3
    assert len(data.eval_batches(7, 8, 100)) == 1


def test_too_little_held_out_text_for_a_batch(positions, refused):
    with refused("data-too-short") as found:
        positions(64 * 64, 64).eval_batches(8, 8, 1)
    assert "7 windows" in found[0].message


@pytest.mark.parametrize("ask", ["batch", "eval"])
def test_windows_longer_than_any_stretch(positions, refused, ask):
    data = positions(100, 50)
    with refused("data-too-short") as found:
        data.batch(0, 0, 1, 50) if ask == "batch" else data.eval_batches(1, 50, 1)
    assert "51 tokens" in found[0].message
    assert "at most 49" in found[0].help
    assert data.batch(0, 0, 1, 49).shape == data.eval_batches(1, 49, 1)[0].shape == (1, 50)


@pytest.mark.parametrize(("batch_size", "seq_len", "first_row"), [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_impossible_sizes(positions, batch_size, seq_len, first_row):
    with pytest.raises(ValueError, match="cannot be"):
        positions(1000).batch(0, 0, batch_size, seq_len, first_row)


def test_no_batches_cannot_be_evaluated(positions):
    with pytest.raises(ValueError, match="at least one batch"):
        positions(1000).eval_batches(1, 1, 0)


def test_the_digest_tells_splits_and_texts_apart():
    tokens = np.zeros(1000, "<u2")
    digests = {
        TokenDataset(tokens, ByteTokenizer(), header, chunk_tokens=chunk).digest
        for header in ({"corpus": "a"}, {"corpus": "b"})
        for chunk in (None, 100)
    }
    assert len(digests) == 4


PRINT_BATCHES = """
import hashlib, sys
from raptr_dsl.data import open_dataset
path, cache, tokenizer, vocab_size = sys.argv[1:]
data = open_dataset([path], cache=cache, tokenizer=tokenizer, vocab_size=int(vocab_size) or None)
seen = hashlib.sha256(data.digest.encode())
for step in (417, 0, 3):
    seen.update(data.batch(17, step, 8, 32).tobytes())
for batch in data.eval_batches(2, 32, 3):
    seen.update(batch.tobytes())
seen.update(b"".join(part.tobytes() for part in data.mlm(data.batch(17, 1, 8, 31), 17, 1)))
print(seen.hexdigest())
"""


def seen_by_another_process(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PRINT_BATCHES, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(("tokenizer", "vocab_size"), [("bytes", 0), ("bpe", 300)])
def test_two_processes_that_share_nothing_see_the_same(texts, tmp_path, tokenizer, vocab_size):
    arguments = (tokenizer, str(vocab_size))
    one = seen_by_another_process(str(texts), str(tmp_path / "1"), *arguments, PYTHONHASHSEED="1", LC_ALL="C")
    other = seen_by_another_process(
        str(texts),
        str(tmp_path / "2"),
        *arguments,
        PYTHONHASHSEED="2",
        RAYON_NUM_THREADS="1",
        LC_ALL="C.UTF-8",
    )
    assert one == other != ""


def test_golden_batch(tmp_path):
    """Another machine, another year: these are the batches of this text."""
    text = tmp_path / "numbers.txt"
    text.write_text("".join(f"{n} squared is {n * n}.\n" for n in range(2000)))
    data = open_dataset([text], cache=tmp_path / "cache")
    batch = data.batch(17, 417, 2, 24)
    assert [data.tokenizer.decode(row) for row in batch] == [
        "\n859 squared is 737881.\n8",
        "\n88 squared is 7744.\n89 s",
    ]
    assert data.digest.startswith("63cc8ce6f61346e7")
