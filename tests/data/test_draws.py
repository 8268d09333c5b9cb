"""The words are those of the definition, by an independent implementation."""

import hashlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raptr_dsl.data.draws import below, words

UNSIGNED = st.integers(0, (1 << 64) - 1)
fixtures_are_pure = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_the_oracle_has_the_published_answer(philox):
    assert philox((0, 0), (0, 0, 0, 0)) == (
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    )


@fixtures_are_pure
@given(seed=UNSIGNED, step=UNSIGNED, first=st.integers(0, 1 << 40), count=st.integers(1, 9))
def test_words_are_those_of_the_definition(philox, seed, step, first, count):
    digest = hashlib.sha256(b"raptr-data-1\0" + seed.to_bytes(8, "little") + b"train").digest()
    key = (int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little"))
    expected = [philox(key, (i // 4 + 1, step, 0, 0))[i % 4] for i in range(first, first + count)]
    assert words("train", seed, step, first, count).tolist() == expected


def test_golden_words():
    assert [hex(word) for word in words("train", 17, 417, 0, 4).tolist()] == [
        "0x6c556e530658e4cc",
        "0x99efdeb8fb09fc0",
        "0xd3e534edabf34b20",
        "0xf59195a504d5bd3b",
    ]


@given(word=UNSIGNED, bound=st.integers(1, 1 << 70))
def test_below_covers_its_range_and_no_more(word, bound):
    assert 0 <= below(word, bound) < bound
    assert below(0, bound) == 0
    assert below((1 << 64) - 1, min(bound, 1 << 64)) == min(bound, 1 << 64) - 1


@pytest.mark.parametrize(("seed", "step"), [(-1, 0), (1 << 64, 0), (0, -1), (0, 1 << 64)])
def test_seed_and_step_are_unsigned_64_bit(seed, step):
    with pytest.raises(ValueError, match="0 to 2"):
        words("train", seed, step, 0, 1)
