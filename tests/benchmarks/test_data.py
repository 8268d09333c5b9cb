"""What reading text costs: the standard library tokenised and written, and one batch of it."""

import itertools
import time
from pathlib import Path

import pytest

from raptr_dsl.data import open_dataset

pytestmark = pytest.mark.benchmark
ROUNDS = 7


def test_tokenising_the_standard_library_by_bytes(tmp_path: Path):
    rounds: list[float] = []
    for number in range(ROUNDS):
        start = time.perf_counter()
        data = open_dataset(["stdlib"], cache=tmp_path / str(number))
        rounds.append(time.perf_counter() - start)
    print(f"\n{data.header['corpus']['bytes'] / 1e6:.1f} MB in {min(rounds):.2f} s")


def test_drawing_a_batch(tmp_path: Path):
    data = open_dataset(["stdlib"], cache=tmp_path)
    steps, rounds = itertools.count(), []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(1000):
            data.batch(17, next(steps), 8, 128)
        rounds.append((time.perf_counter() - start) / 1000)
    print(f"\none batch of 8 × 129 tokens in {min(rounds) * 1e6:.0f} µs")
