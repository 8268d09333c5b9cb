"""The stream of words (rules 18–21)."""

import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raptr_dsl.words import Words, axis_key, below
from tests.laws import oracle

seeds = st.integers(0, 2**64 - 1)


def test_rule_18_key_of_seed_17_on_depth() -> None:
    assert axis_key(17, "depth") == (0x771D04FC9B6D21A1, 0x3309BA50D320D414)


@given(seeds, st.sampled_from(["depth", "heads", "width", "depth.train"]))
def test_rule_18_key_is_the_hash(seed: int, axis: str) -> None:
    assert axis_key(seed, axis) == oracle.key_of(seed, axis)


def test_rule_19_philox_of_the_reference_implementation() -> None:
    """Known answers of Random123, kat_vectors: philox4x64 10 rounds."""
    everything = 2**64 - 1
    assert oracle.philox((0, 0), (0, 0, 0, 0)) == (
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    )
    assert oracle.philox((everything,) * 2, (everything,) * 4) == (  # pyright: ignore[reportArgumentType]
        0x87B092C3013FE90B,
        0x438C3C67BE8D0224,
        0x9CC7D7C69CD777B6,
        0xA09CAEBF594F0BA0,
    )


@given(seeds, st.integers(1, 4), st.integers(1, 9), st.integers(0, 2**40), st.integers(1, 5), st.integers(1, 400))
def test_rule_19_words_of_any_step(seed: int, sites: int, units: int, first: int, count: int, every: int) -> None:
    words = Words(seed, "width", sites, units)
    steps = range(first, first + count * every, every)
    rows = words.rows(steps)
    for row, step in zip(rows, steps, strict=True):
        expected = oracle.words_of_step(seed, "width", sites, units, step)
        assert row[: sites * units + 1].tolist() == expected
    assert words.of_units(rows).shape == (count, sites, units)
    assert words.of_units(rows)[-1].ravel().tolist() == expected[:-1]
    assert words.reserved(rows)[-1] == expected[-1]


@given(st.integers(1, 2**32), st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_rule_21_an_integer_below_m(bound: int, words: list[int]) -> None:
    assert below(bound, np.array(words, np.uint64)).tolist() == [word * bound // 2**64 for word in words]


def test_rule_19_threads_do_not_disturb_each_other() -> None:
    words, wrong = [Words(seed, "depth", 1, 12) for seed in range(4)], []

    def read(mine: Words) -> None:
        expected = mine.rows(range(5, 6))
        for _ in range(300):
            wrong.extend([mine] if (mine.rows(range(5, 6)) != expected).any() else [])

    threads = [threading.Thread(target=read, args=(mine,)) for mine in words]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert [hex(int(w.rows(range(5, 6))[0, 0])) for w in words] == [
        hex(oracle.words_of_step(seed, "depth", 1, 12, 5)[0]) for seed in range(4)
    ]
