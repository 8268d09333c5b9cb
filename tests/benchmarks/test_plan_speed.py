"""How long masks take; printed, not asserted: `make bench`, alone on the machine.

Aims: 1M steps of 96 blocks in 1.2 s and 300 MB; one step in 25 µs; a staircase in a few ms, whatever the steps.
"""

import subprocess
import sys
import time
import timeit
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from raptr_dsl.curves import Cosine, Curve, Exp, Exp2, Linear, Poly, Root
from raptr_dsl.ir.bound import Border, BoundRule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan, load_plan
from raptr_dsl.laws import LAWS
from raptr_dsl.staircases import staircase

pytestmark = pytest.mark.benchmark

STEPS = 1_000_000
CURVES = (
    Linear(), Cosine(), Exp(rate=Fraction(5)), Exp2(), Poly(n=Fraction(3)), Root(n=Fraction(2))
)  # fmt: skip


def plan(law: str, scale: str = "sqrt") -> Plan:
    """48 of 96 blocks, the first and the last kept, for a million steps."""
    shape = ModelShape(layers=96, heads=12, hidden=768, ffn=3072, vocab=30522, seq=512)
    arguments = {"groups": 4} if law == "stratified" else {"order": range(96)} if law == "ranked" else {}
    rule = BoundRule(
        law=LAWS[law](**arguments),  # pyright: ignore[reportCallIssue]
        keep=(0, 95),
        sizes=(Border(offset=0, value=Fraction(48)),),
        scale=scale,
    )
    stage = BoundStage(start=0, stop=STEPS, duration=Fraction(STEPS), axes={"depth": rule})
    return Plan(name=law, seed=17, shape=shape, steps=STEPS, partial=True, stages=(stage,))


def least(work: Callable[[], object], number: int, repeat: int) -> float:
    """Seconds of one call: the least of many rounds, for the machine is not ours alone."""
    return min(timeit.repeat(work, number=number, repeat=repeat)) / number


def test_one_step_alone() -> None:
    print(f"\n{'one step, µs':<16}{'none':>8}{'sqrt':>8}{'inverse':>8}")
    for law in sorted(LAWS):
        row = f"{law:<16}"
        for scale in ("none", "sqrt", "inverse"):
            made = plan(law, scale)
            made.step(0)
            row += f"{least(lambda made=made: made.step(417_017), 10, 1000) * 1e6:>8.1f}"
        print(row)


def test_masks_of_a_million_steps() -> None:
    print(f"\n{'1M × 96 masks':<16}{'wall s':>8}{'CPU s':>8}")
    for law in sorted(LAWS):
        made, best = plan(law), (99.0, 99.0)
        for _ in range(7 if law == "fixed" else 3):
            wall, cpu = time.perf_counter(), time.process_time()
            made.masks("depth")
            best = min(best, (time.perf_counter() - wall, time.process_time() - cpu))
        print(f"{law:<16}{best[0]:>8.2f}{best[1]:>8.2f}")


def test_memory_of_a_million_steps() -> None:
    """In a process of its own: the peak with the masks, and before them."""
    code = (
        "import resource, numpy\n"
        "from tests.benchmarks.test_plan_speed import plan, peak\n"
        "before = peak(); made = plan('fixed').masks('depth')\n"
        "print(f'{before:.0f} MB before, {peak():.0f} MB at the peak, {made.nbytes / 1e6:.0f} MB of masks')"
    )
    root = Path(__file__).parents[2]
    print("\n" + subprocess.check_output([sys.executable, "-c", code], cwd=root, text=True).strip())


def peak() -> float:
    """The greatest resident size of this process since it began its program, in MB; as Linux tells it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.curve)
def test_staircase_of_a_million_steps(curve: Curve) -> None:
    units = least(lambda: staircase(curve, Fraction(1), Fraction(96), STEPS), 1, 20)
    fine = least(lambda: staircase(curve, Fraction(0), Fraction(1024), STEPS), 1, 3)
    print(f"\n{curve.curve}: {units * 1e3:.1f} ms to 96 units, {fine * 1e3:.1f} ms to 1024 levels")


def test_files(tmp_path: Path) -> None:
    """A plan of ten stages that all follow a curve."""
    stages = []
    for place in range(10):
        sizes = tuple(
            Border(offset=offset, value=Fraction(level))
            for offset, level in staircase(Linear(), Fraction(48), Fraction(96), STEPS)
        )
        rule = BoundRule(law=LAWS["fixed"](), sizes=sizes)  # pyright: ignore[reportCallIssue]
        stop = (place + 1) * STEPS
        stages.append(BoundStage(start=place * STEPS, stop=stop, duration=Fraction(STEPS), axes={"depth": rule}))
    made = Plan(name="ten", seed=1, shape=plan("fixed").shape, steps=10 * STEPS, stages=tuple(stages))
    path = tmp_path / "ten.plan.json"
    save = least(lambda: made.save(path), 1, 10)
    load = least(lambda: load_plan(path), 1, 10)
    check = least(lambda: Plan.model_validate(made.model_dump()), 1, 10)
    print(
        f"\n{path.stat().st_size / 1000:.1f} kB; checked in {check * 1e3:.1f} ms, saved in {save * 1e3:.1f} ms, "
        f"loaded in {load * 1e3:.1f} ms"
    )
