"""A plan, a feed and a trainer so small that a whole run takes milliseconds, and every number can be followed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np

from raptr_dsl.backend import Backend, Batch, Executed, StepResult, TrainSettings
from raptr_dsl.ir.bound import Border, BoundRule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.laws.fixed import Fixed
from raptr_dsl.training import Cadence, DataIdentity, Reporter, RunSettings
from raptr_dsl.training.account import Account

SHAPE = ModelShape(layers=4, heads=2, hidden=8, ffn=8, vocab=16, seq=4, batch=2, width_group=4)


def depth_rule(blocks: int, keep: tuple[int, ...] = (0, 3)) -> BoundRule:
    return BoundRule(law=Fixed(), keep=keep, sizes=(Border(offset=0, value=Fraction(blocks)),), scale="sqrt")


def toy_plan(*stages: tuple[int, int], seed: int = 17, shape: ModelShape = SHAPE, names: Sequence[str] = ()) -> Plan:
    """Stages of (steps, blocks); by default 4 steps of 2, 3 and 4 blocks each."""
    stages = stages or ((4, 2), (4, 3), (4, 4))
    bound, start = [], 0
    for index, (steps, blocks) in enumerate(stages):
        axes = {} if blocks == shape.layers else {"depth": depth_rule(blocks)}
        name = names[index] if index < len(names) else None
        bound.append(BoundStage(name=name, start=start, stop=start + steps, duration=Fraction(steps), axes=axes))
        start += steps
    return Plan(name="toy", seed=seed, shape=shape, steps=start, partial=True, stages=tuple(bound))


class ToyFeed:
    """A batch that tells which step it is of."""

    def batch(self, step: int) -> Batch:
        tokens = np.full((SHAPE.batch, SHAPE.seq), step % SHAPE.vocab, dtype=np.int64)
        return Batch(tokens, tokens)

    def held_out(self) -> Sequence[Batch]:
        return [self.batch(step) for step in range(2)]


@dataclass
class ToyTrainer:
    """One weight that mixes in everything it is shown, so that no two histories end in the same bits.

    `faults` by step: a function that is called with the trainer before the step, and may raise or return a result.
    """

    plan: Plan
    settings: TrainSettings
    backend: ToyBackend
    weight: float = 1.0
    units: dict[str, int] = field(default_factory=dict)
    flops: int = 0

    def step(self, index: int, batch: Batch) -> StepResult:
        fault = self.backend.faults.get(index)
        result = fault(self) if fault else None
        step = self.plan.step(index)
        account = Account(self.plan)
        account.add(step)
        for axis, count in account.units.items():
            self.units[axis] = self.units.get(axis, 0) + count
        self.flops += account.flops
        seen = float(batch.inputs.sum()) + (float(step.axes["depth"].scale.sum()) if step.axes else 4.0)
        rate = self.settings.learning_rate(index, self.plan.steps)
        self.weight = (self.weight * 1.0009765625 + rate * np.sin(seen)) % 3.0
        self.backend.steps.append(index)
        return result or StepResult(loss=abs(self.weight), grad_norm=1.0 + self.weight)

    def evaluate(self, batches: Sequence[Batch]) -> float:
        return self.weight + float(sum(batch.inputs.sum() for batch in batches))

    def executed(self) -> Executed:
        return Executed(self.units, self.flops)

    def save(self, folder: Path) -> None:
        if self.backend.save_fault:
            self.backend.save_fault(folder)
        state = {"weight": self.weight.hex(), "units": self.units, "flops": self.flops}
        (folder / "toy.json").write_text(json.dumps(state))

    def load(self, folder: Path) -> None:
        state = json.loads((folder / "toy.json").read_text())
        self.weight, self.units, self.flops = float.fromhex(state["weight"]), state["units"], state["flops"]


@dataclass
class ToyBackend:
    """Makes toy trainers, and remembers the steps they did."""

    faults: dict[int, Any] = field(default_factory=dict)
    save_fault: Any = None
    steps: list[int] = field(default_factory=list)
    trainers: list[ToyTrainer] = field(default_factory=list)

    def trainer(self, plan: Plan, settings: TrainSettings) -> ToyTrainer:
        self.trainers.append(ToyTrainer(plan, settings, self))
        return self.trainers[-1]

    @property
    def as_backend(self) -> Backend:
        return cast(Backend, self)


def toy_settings(
    log_every: int = 2,
    eval_every: int = 4,
    checkpoint_every: int = 3,
    peak_tflops: float | None = None,
    sha256: str = "5ha",
    **train: Any,
) -> RunSettings:
    cadence = {"log_every": log_every, "eval_every": eval_every, "checkpoint_every": checkpoint_every}
    return RunSettings(
        backend="toy",
        train=TrainSettings(**{"lr": 0.1, **train}),
        data=DataIdentity(paths=("text",), tokenizer="bytes", sha256=sha256),
        cadence=Cadence(**cadence, peak_tflops=peak_tflops),
    )


class Recorder(Reporter):
    """Keeps all it is told."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.records: list[dict[str, Any]] = []
        self.warnings: list[str] = []

    def begin(self, step: int) -> None:
        self.begun.append(step)

    def record(self, record: Any) -> None:
        self.records.append(dict(record))

    def warn(self, diagnostic: Any) -> None:
        self.warnings.append(diagnostic.message)


TIMES = ("seconds", "tokens_per_second", "fastest_step_seconds")


def without_times(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What two logs of the same run have in common."""
    return [{name: value for name, value in record.items() if name not in TIMES} for record in records]


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
