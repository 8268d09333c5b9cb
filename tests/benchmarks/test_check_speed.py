"""What checking a long file costs, from its text to its plan: 10,000 stages bound to a model."""

import time

import pytest

from raptr_dsl import check_text

pytestmark = pytest.mark.benchmark
STAGES, ROUNDS = 10_000, 5


def test_checking_10_000_stages() -> None:
    lines = [f"stage s{i} depth={i % 12 + 1}/12 steps=100" for i in range(STAGES - 1)]
    text = "\n".join(["model bert-base", f"steps {100 * STAGES}", *lines, "stage steps=rest"])
    rounds: list[float] = []
    for _ in range(ROUNDS):
        start = time.process_time()  # of this process alone: the machine may be shared
        checked = check_text(text)
        rounds.append(time.process_time() - start)
        assert checked.ok
        assert checked.plan is not None
        assert len(checked.plan.stages) == STAGES
    print(f"\n{STAGES:,} stages checked in {min(rounds):.2f} s")
