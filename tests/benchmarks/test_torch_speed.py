"""Realised ÷ ideal speed-up of whole training steps: head, clipping and optimizer included in the time.

The ideal is what the FLOPs allow (convention `matmul`, vocabulary head included): 1.00 is perfect. Times are minima
over interleaved, shuffled rounds, because machines have slow phases of seconds in which medians lie.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from raptr_dsl.backend import TrainSettings
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import AxisMask
from raptr_torch import BACKEND
from raptr_torch.train import TorchTrainer
from tests.backends.drawn import batch, drawn_plan, mask, planned

pytestmark = pytest.mark.benchmark

ROUNDS = int(os.environ.get("RAPTR_BENCH_ROUNDS", "9"))
SHAPE = ModelShape(layers=12, heads=6, hidden=384, ffn=1536, vocab=4096, seq=128, batch=8)
LAYERS, HEADS, GROUPS = SHAPE.layers, SHAPE.kv_heads, SHAPE.ffn // SHAPE.width_group


@dataclass(frozen=True)
class Case:
    name: str
    thinned: tuple[str, ...]
    share: float
    target: float
    idle: str = "zero"


CASES = (
    Case("depth 3/12", ("depth",), 1 / 4, 0.95),
    Case("depth 6/12", ("depth",), 1 / 2, 0.95),
    Case("depth 9/12", ("depth",), 3 / 4, 0.95),
    Case("depth 6/12, skip", ("depth",), 1 / 2, 0.95, "skip"),
    Case("heads + width 1/2", ("heads", "width"), 1 / 2, 0.93),
    Case("heads + width 1/2, skip", ("heads", "width"), 1 / 2, 0.93, "skip"),
)


def draw(shape: ModelShape, case: Case, random: np.random.Generator) -> dict[str, AxisMask]:
    """Exactly that share of the units of every site, scaled by the square root rule."""
    masks = {}
    for axis in case.thinned:
        sites, units = {"depth": (1, LAYERS), "heads": (LAYERS, HEADS), "width": (LAYERS, GROUPS)}[axis]
        on = np.zeros((sites, units), dtype=bool)
        for site in on:
            site[random.permutation(units)[: round(case.share * units)]] = True
        masks[axis] = mask(shape, axis, on, case.share**-0.5)
    return masks


def trainer_of(shape: ModelShape, masks: list[Mapping[str, AxisMask]], idle: Mapping[str, str]) -> TorchTrainer:
    trainer = BACKEND.trainer(drawn_plan(shape, masks, idle), TrainSettings(lr=1e-4))
    assert isinstance(trainer, TorchTrainer)
    return trainer


class Naive:
    """The same step with masks applied by multiplication with zero: what it costs not to skip."""

    def __init__(self, shape: ModelShape, masks: list[Mapping[str, AxisMask]]) -> None:
        self.trainer = trainer_of(shape, [{}] * len(masks), {})
        self.masks = masks
        model = self.trainer.model
        for index, block in enumerate(model.blocks):
            block.register_forward_hook(lambda _, args, y, index=index: self._depth(index, args[0], y))
            for part, axis, size in (
                (block.attention.output, "heads", SHAPE.head_dim),
                (block.ffn.down, "width", SHAPE.width_group),
            ):
                part.register_forward_pre_hook(
                    lambda _, args, axis=axis, size=size, index=index: self._units(axis, size, index, args)
                )

    def _depth(self, index: int, y: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        mask = self.masks[self.trainer.runner.next_step].get("depth")
        return output if mask is None else y + float(mask.scale[0, index]) * (output - y)

    def _units(self, axis: str, size: int, index: int, args: tuple) -> tuple:
        mask = self.masks[self.trainer.runner.next_step].get(axis)
        if mask is None:
            return args
        factors = torch.from_numpy(mask.scale[index]).float().repeat_interleave(size)
        return (args[0] * factors, *args[1:])

    def step(self, index: int) -> None:
        self.trainer.step(index, batch(SHAPE, index))


def seconds(steps: Mapping[str, list], rounds: int) -> dict[str, float]:
    """The least time of each named callable of an index, over interleaved rounds in random order."""
    best = dict.fromkeys(steps, float("inf"))
    for index in range(rounds + 1):
        names = list(steps)
        random.Random(index).shuffle(names)
        for name in names:
            started = time.perf_counter()
            steps[name](index)
            if index:  # the first round warms up
                best[name] = min(best[name], time.perf_counter() - started)
    return best


@pytest.mark.timeout(1200)
def test_realised_over_ideal() -> None:
    generator = np.random.default_rng(17)
    masks = {case.name: [draw(SHAPE, case, generator) for _ in range(ROUNDS + 1)] for case in CASES}
    sequences = [batch(SHAPE, index) for index in range(ROUNDS + 1)]
    runs = {"full": trainer_of(SHAPE, [{}] * (ROUNDS + 1), {})}
    for case in CASES:
        runs[case.name] = trainer_of(SHAPE, masks[case.name], dict.fromkeys(case.thinned, case.idle))
    steps = {name: lambda index, t=trainer: t.step(index, sequences[index]) for name, trainer in runs.items()}
    naive = {case.name: Naive(SHAPE, masks[case.name]) for case in CASES if case.idle == "zero"}
    steps |= {f"{name}, naive": run.step for name, run in naive.items()}
    best = seconds(steps, ROUNDS)

    full = planned(SHAPE, {})[1]
    tokens = SHAPE.tokens
    print(f"\n{LAYERS} blocks, hidden {SHAPE.hidden}, vocab {SHAPE.vocab}, {SHAPE.batch} × {SHAPE.seq} tokens, float32")
    print(f"{torch.get_num_threads()} threads, least of {ROUNDS} rounds; full step {best['full'] * 1e3:.0f} ms")
    print(f"{'case':26} {'ms':>7} {'ideal':>6} {'real':>6} {'r/i':>5} {'target':>6} {'naive r/i':>9} {'tokens/s':>8}")
    for case in CASES:
        flops = planned(SHAPE, masks[case.name][0])[1]
        ideal, realised = full / flops, best["full"] / best[case.name]
        ratio = realised / ideal
        slow = best.get(f"{case.name}, naive")
        beside = f"{best['full'] / slow / ideal:9.2f}" if slow else " " * 9
        print(
            f"{case.name:26} {best[case.name] * 1e3:7.0f} {ideal:6.2f} {realised:6.2f} {ratio:5.2f} {case.target:6.2f} "
            f"{beside} {tokens / best[case.name]:8.0f}"
        )
