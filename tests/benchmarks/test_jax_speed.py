"""Realised ÷ ideal speed-up of whole training steps on JAX, and the temporary memory of their programs.

As in test_torch_speed.py: head, clipping and optimizer included in the time; the ideal is what the FLOPs allow. Beside
it, in the same rounds, what is written where blocks are not gathered: a mask that multiplies, and `lax.cond`, in the
scan and unrolled. Times are reported, not asserted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from raptr_dsl.backend import Batch, TrainSettings
from raptr_dsl.ir.plan import AxisMask
from raptr_jax import BACKEND
from raptr_jax import model as jax_model
from raptr_jax.apply import PER_BLOCK
from raptr_jax.meter import Work
from raptr_jax.stepping import tokens_of
from raptr_jax.train import JaxTrainer
from tests.backends.drawn import batch, drawn_plan, planned
from tests.benchmarks.test_torch_speed import LAYERS, SHAPE, Case, draw, seconds

pytestmark = pytest.mark.benchmark

PEERS = ("multiply", "cond", "cond, unrolled")
ROUNDS = int(os.environ.get("RAPTR_BENCH_ROUNDS", "9"))
CASES = (
    *(Case(f"depth {k}/12, {idle}", ("depth",), k / 12, 0.95, idle) for idle in ("skip", "zero") for k in (3, 6, 9)),
    Case("heads + width 1/2", ("heads", "width"), 1 / 2, 0.95),
    Case("heads + width 1/2, skip", ("heads", "width"), 1 / 2, 0.95, "skip"),
)


def trainer_of(masks: list[Mapping[str, AxisMask]], idle: Mapping[str, str]) -> JaxTrainer:
    trainer = BACKEND.trainer(drawn_plan(SHAPE, masks, idle), TrainSettings(lr=1e-4))
    assert isinstance(trainer, JaxTrainer)
    return trainer


class Peer:
    """The same step with blocks left out in another way; which, the program learns while it runs."""

    def __init__(self, kind: str, k: int) -> None:
        def scan_blocks(block: Any, stacked: Any, x: Any, mask: Any, *, has_aux: bool) -> Any:
            on = (jnp.arange(LAYERS) < k) & (x.ravel()[0] < jnp.inf)  # no constant for the compiler to fold
            nothing = jnp.zeros(2 + len(PER_BLOCK), jnp.int32)
            everything = [None] * (len(PER_BLOCK) + 1)

            def body(y: Any, here: Any) -> Any:
                parameters, runs = here
                if kind == "multiply":
                    after, counts = block(parameters, y, *everything)
                    return y + runs.astype(y.dtype) * (after - y), counts
                return jax.lax.cond(runs, lambda: block(parameters, y, *everything), lambda: (y, nothing))

            if kind != "cond, unrolled":
                return jax.lax.scan(body, x, (stacked, on))
            counted = []
            for index in range(LAYERS):
                x, counts = body(x, (jax.tree.map(lambda leaf, index=index: leaf[index], stacked), on[index]))
                counted.append(counts)
            return x, jnp.stack(counted)

        self.trainer = trainer_of([{}], {})
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(jax_model, "scan_blocks", scan_blocks)
            patched.setattr("raptr_jax.programs.work_of", lambda _: Work(0))  # branches of unequal cost
            self.program = self.trainer.programs.get(*arguments(self.trainer, batch(SHAPE)))

    def step(self, index: int, sequences: Batch) -> None:
        trainer = self.trainer
        taken = arguments(trainer, sequences)
        trainer.parameters, trainer.state, seen = self.program.run(trainer.parameters, trainer.state, *taken)
        float(seen["loss"])


def arguments(trainer: JaxTrainer, sequences: Batch) -> tuple[Any, ...]:
    """What a program of a step is given, but for the state."""
    return trainer._places.batch(tokens_of(sequences)), trainer._masks(trainer.plan.step(0)), np.float32(1e-4)


@pytest.mark.timeout(1800)
def test_realised_over_ideal() -> None:
    generator = np.random.default_rng(17)
    masks = {case.name: [draw(SHAPE, case, generator) for _ in range(ROUNDS + 1)] for case in CASES}
    sequences = [batch(SHAPE, index) for index in range(ROUNDS + 1)]
    runs: dict[str, Any] = {"full": trainer_of([{}] * (ROUNDS + 1), {})}
    for case in CASES:
        runs[case.name] = trainer_of(masks[case.name], dict.fromkeys(case.thinned, case.idle))
    for trainer in runs.values():
        trainer.programs.get(*arguments(trainer, sequences[0]))
    runs |= {f"{kind} {k}": Peer(kind, k) for kind in PEERS for k in (3, 6, 9)}
    steps = {name: lambda index, t=trainer: t.step(index, sequences[index]) for name, trainer in runs.items()}
    best = seconds(steps, ROUNDS)

    full = planned(SHAPE, {})[1]
    print(f"\n{LAYERS} blocks, hidden {SHAPE.hidden}, vocab {SHAPE.vocab}, {SHAPE.batch} × {SHAPE.seq} tokens, float32")
    print(f"least of {ROUNDS} rounds; full step {best['full'] * 1e3:.0f} ms")
    print(f"{'case':26} {'ms':>7} {'ideal':>6} {'real':>6} {'r/i':>5} {'target':>6} {'  '.join(PEERS)}")
    for case in CASES:
        ideal = full / planned(SHAPE, masks[case.name][0])[1]
        realised = best["full"] / best[case.name]
        k = round(case.share * 12)
        beside = [best["full"] / best[f"{kind} {k}"] / ideal for kind in PEERS] if len(case.thinned) < 2 else []
        print(
            f"{case.name:26} {best[case.name] * 1e3:7.0f} {ideal:6.2f} {realised:6.2f} {realised / ideal:5.2f} "
            f"{case.target:6.2f} {'  '.join(f'{ratio:7.2f}' for ratio in beside)}"
        )


@pytest.mark.timeout(600)
def test_temporary_memory_falls_with_the_blocks_that_run() -> None:
    generator = np.random.default_rng(17)
    sizes = {}
    for k in (3, 6, 9, 12):
        masks = draw(SHAPE, Case("", ("depth",), k / 12, 0.95), generator) if k < 12 else {}
        trainer = trainer_of([masks], {"depth": "skip"})
        program = trainer.programs.traced(*arguments(trainer, batch(SHAPE))).lower().compile()
        sizes[k] = program.memory_analysis().temp_size_in_bytes
    print("\nXLA temporary memory, MB: " + ", ".join(f"{k}/12 {size / 1e6:.0f}" for k, size in sizes.items()))
    print(", ".join(f"{k}/12 is {size / sizes[12]:.2f} of full" for k, size in sizes.items()))
    assert sizes[3] < sizes[12] / 2
