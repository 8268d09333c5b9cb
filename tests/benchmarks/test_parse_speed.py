"""What parsing costs: 10,000 stage statements into the tree, and a file far beyond the limits into its one error."""

import time

import pytest

from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.garbage import garbage_collection_paused
from raptr_dsl.source import Source
from raptr_dsl.syntax import parse

pytestmark = pytest.mark.benchmark
STAGES, ROUNDS = 10_000, 7


def least_time(source: Source, problems: int) -> float:
    """The processor time of one parse, the least of several."""
    rounds: list[float] = []
    for _ in range(ROUNDS):
        diagnostics = Diagnostics()
        start = time.process_time()  # of this process alone: the machine may be shared
        parse(source, diagnostics)
        rounds.append(time.process_time() - start)
        assert len(diagnostics) == problems
    return min(rounds)


@garbage_collection_paused()  # as where a file is compiled
def test_parsing_10_000_stages() -> None:
    lines = [
        f"stage s{i} depth={6 + i % 6}/12 steps=1/{STAGES} scale=sqrt depth.sample=balanced" for i in range(STAGES)
    ]
    least = least_time(Source("long.raptr", "\n".join(lines)), 0)
    print(f"\n{STAGES:,} stages of four attributes parsed in {least:.2f} s")


@garbage_collection_paused()
def test_refusing_100_000_statements() -> None:
    least = least_time(Source("long.raptr", "stage a depth=6/12 steps=1/100\n" * 100_000), 1)
    print(f"\n100,000 statements refused in {least:.2f} s")
