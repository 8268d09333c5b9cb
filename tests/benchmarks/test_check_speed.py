"""What checking a long file costs, from its text to its plan or its mistakes: 10,000 stages bound to a model."""

import time

import pytest

from raptr_dsl import check_text

pytestmark = pytest.mark.benchmark
STAGES, ROUNDS = 10_000, 5


def file_of(size: str) -> str:
    lines = [f"stage s{i} depth={size.format(i % 12 + 1)} steps=100" for i in range(STAGES - 1)]
    return "\n".join(["model bert-base", f"steps {100 * STAGES}", *lines, "stage steps=rest"])


@pytest.mark.parametrize(("size", "mistakes"), [("{}/12", 0), ("13/12", STAGES - 1), ("{}/12 sacle=sqrt", STAGES - 1)])
def test_checking_10_000_stages(size: str, mistakes: int) -> None:
    text = file_of(size)
    rounds: list[float] = []
    for _ in range(ROUNDS):
        start = time.process_time()  # of this process alone: the machine may be shared
        checked = check_text(text)
        rounds.append(time.process_time() - start)
        assert len(checked.diagnostics) == mistakes
        assert mistakes or (checked.plan is not None and len(checked.plan.stages) == STAGES)
    print(f"\n{STAGES:,} stages, {mistakes:,} of them mistaken, checked in {min(rounds):.2f} s")
