"""What lowering costs: 10,000 stage statements, each its own."""

import time

import pytest

from raptr_dsl.compiler.lower import lower
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.garbage import garbage_collection_paused
from raptr_dsl.source import Source
from raptr_dsl.syntax.parser import parse

pytestmark = pytest.mark.benchmark
STAGES, ROUNDS = 10_000, 7


@garbage_collection_paused()  # as where a file is compiled
def test_lowering_10_000_stages() -> None:
    lines = [f"stage s{i} depth={6 + i % 6}/12 steps=1/{STAGES}" for i in range(STAGES - 1)]
    source = Source("long.raptr", "\n".join(["default scale=sqrt", *lines, "stage steps=rest"]))
    file = parse(source, Diagnostics())
    rounds: list[float] = []
    for _ in range(ROUNDS):
        start = time.process_time()  # of this process alone: the machine may be shared
        schedule, _ = lower(file, Diagnostics())
        rounds.append(time.process_time() - start)
        assert schedule is not None
        assert len(schedule.stages) == STAGES
    print(f"\n{STAGES:,} stages lowered in {min(rounds):.2f} s")
