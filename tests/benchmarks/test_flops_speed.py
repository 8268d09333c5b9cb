"""How long the account and the proofs of a large plan take; printed, not asserted: `make bench`.

Aims, for a million steps of 96 blocks: all conventions together in 0.3 s, coverage and gap of one seed in 2 s.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raptr_dsl import compile_text
from raptr_dsl.flops import CONVENTIONS
from raptr_dsl.guarantees import guarantee
from raptr_dsl.laws import LAWS
from raptr_dsl.tally import largest_imbalance, trained_steps
from tests.benchmarks.test_plan_speed import plan

pytestmark = pytest.mark.benchmark

MODEL = """\
model layers=96 heads=96 hidden=12288 ffn=49152 vocab=50257 seq=2048 batch=1536 width_group=1024
steps 1M
"""
TEXTS = {
    "4 stages": "".join(f"stage depth={k}/12 heads={k}/12 width={k}/12 steps=25%\n" for k in (6, 8, 10, 12)),
    "curves of whole units": (
        "stage depth=48/96..96/96 heads=32/96..96/96 width=24/48..48/48 steps=60%\nstage steps=rest\n"
    ),
    "curves of probabilities": (
        "allow partial\ndefault sample=bernoulli\n"
        "stage depth=prob(50%..100%) heads=prob(linear(30%, 100%)) width=prob(cosine(20%, 100%)) steps=50%\n"
        "stage depth=prob(exp(100%, 50%, rate=5)) heads=prob(linear(30%, 1)) width=prob(cosine(20%, 1)) steps=rest\n"
    ),
    "1,000 stages": (
        "repeat 250 {\n"
        + "".join(f"stage depth={k}/12 heads={k}/12 width={k}/12 steps=1/1000\n" for k in (6, 8, 10, 12))
        + "}\n"
    ),
}


def least(work: Callable[[], object], rounds: int = 7) -> float:
    """Seconds, the least of several rounds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


@pytest.mark.parametrize("name", TEXTS)
def test_all_conventions(name: str) -> None:
    made = compile_text(MODEL + TEXTS[name])

    def account() -> None:
        fresh = made.model_copy()  # which has computed nothing yet
        for convention in CONVENTIONS:
            fresh.flops(convention)

    print(f"\n{name}: all {len(CONVENTIONS)} conventions in {least(account) * 1e3:.1f} ms")


def test_proofs_of_a_million_steps() -> None:
    print(f"\n{'1M × 96, s':<16}{'masks':>8}{'trained':>8}{'balance':>8}{'theorem':>9}")
    for law in sorted(LAWS):
        made = plan(law)
        times = (
            least(lambda made=made: made.masks("depth"), 5),
            least(lambda made=made: trained_steps(made, "depth"), 5),
            least(lambda made=made: largest_imbalance(made, "depth", 4), 5),
        )
        theorem = least(lambda made=made: guarantee(made.shape, made.stages, "depth"))
        print(f"{law:<16}" + "".join(f"{seconds:>8.2f}" for seconds in times) + f"{theorem:>9.5f}")


@pytest.mark.parametrize("name", TEXTS)
def test_cost_as_a_process(name: str, tmp_path: Path) -> None:
    """All that `raptr cost` does, from the start of the interpreter on; the aim is 1 s."""
    (tmp_path / "s.raptr").write_text(MODEL + TEXTS[name])
    command = [Path(sys.executable).parent / "raptr", "cost", "s.raptr"]
    seconds = least(lambda: subprocess.run(command, cwd=tmp_path, check=True, capture_output=True))
    print(f"\n{name}: raptr cost in {seconds:.2f} s")
