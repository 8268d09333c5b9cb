"""Calibration: what is measured, in which turns, and what is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings

from raptr_dsl import compile_text
from raptr_dsl.backend import Backend, Batch, StepResult, TrainSettings
from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.training import calibrate as module
from raptr_dsl.training.calibrate import STEPS_A_VISIT, calibrate, sizes_of
from raptr_dsl.training.calibration import Calibration, SizeTime, load_calibration
from raptr_dsl.training.estimate import estimate
from raptr_dsl.training.reporter import Reporter
from tests.laws.drawn import plans

HEAD = "model layers=4 heads=2 hidden=8 ffn=8 vocab=16 seq=4 batch=2 width_group=4\nsteps 100\nallow partial\n"


@dataclass
class Machine:
    """A backend whose steps take 3 + 2·blocks seconds of its own clock, and more in all but one round."""

    now: float = 0.0
    disturbed: float = 0.0
    calm_round: int = 3
    name: str = "machine"
    plans: list[Plan] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    sizes: int = 0

    def trainer(self, plan: Plan, settings: TrainSettings) -> Machine:
        self.plans.append(plan)
        return self

    def step(self, index: int, batch: Batch) -> StepResult:
        self.batches.append(batch)
        step = self.plans[-1].step(index)
        blocks = int(step.axes["depth"].on.sum()) if "depth" in step.axes else 4
        round_ = index // STEPS_A_VISIT // self.sizes
        self.now += 3 + 2 * blocks + (0 if round_ in (0, self.calm_round) else self.disturbed)
        if round_ == 0:
            self.now -= 2  # a first round that were counted would be the fastest
        return StepResult(loss=1.0, grad_norm=1.0)


def measured(plan: Plan, monkeypatch: pytest.MonkeyPatch, machine: Machine, **words: Any) -> Calibration:
    monkeypatch.setattr(module, "perf_counter", lambda: machine.now)
    machine.sizes = len(sizes_of(plan, words.get("most", module.MOST_SIZES)))
    return calibrate(plan, cast(Backend, machine), TrainSettings(), **words)


STAGES = (
    "keep depth=[0]\nstage depth=2/4 scale=sqrt steps=50%\nstage depth=3/4 sample=prefix steps=25%\nstage steps=rest"
)


def test_of_each_size_the_fastest_step_counts_and_the_first_round_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = compile_text(HEAD + STAGES)
    found = measured(plan, monkeypatch, machine := Machine(disturbed=50.0), rounds=4)
    assert [(size.active, size.seconds) for size in found.sizes] == [({"depth": 2}, 7), ({"depth": 3}, 9), ({}, 11)]
    assert found.realised(found.sizes[0]) == 11 / 7
    report = plan.flops()
    assert [size.flops for size in found.sizes] == [
        stage.total / steps for stage, steps in zip(report.stages, (50, 25, 25), strict=True)
    ]
    assert found.ideal(found.sizes[0]) == float(report.stages[2].total * 2 / Fraction(report.stages[0].total))
    (measuring,) = machine.plans
    assert measuring.steps == 3 * 5 * STEPS_A_VISIT
    law = measuring.stages[1].axes["depth"].law.law, measuring.stages[0].axes["depth"].law.law
    assert law == ("prefix", "fixed") and measuring.stages[0].axes["depth"].keep == (0,)


def test_sizes_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(compile_text(HEAD + STAGES), monkeypatch, machine := Machine(), rounds=2)
    order = [len(stage.axes) and int(stage.axes["depth"].sizes[0].value) for stage in machine.plans[0].stages]
    assert order == [2, 3, 0] * 3


def test_batches_are_what_the_shape_says(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(compile_text(HEAD + STAGES), monkeypatch, machine := Machine(), rounds=1)
    batch = machine.batches[0]
    assert batch.inputs.shape == batch.targets.shape == (2, 4) and batch.positions is None
    masked = HEAD.replace("seq=4", "seq=4 head_share=1/2 causal=false")
    measured(compile_text(masked + STAGES), monkeypatch, machine := Machine(), rounds=1)
    batch = machine.batches[0]
    assert batch.positions is not None
    assert batch.positions.shape == batch.targets.shape == (2, 2)
    assert (batch.positions[:, 0] < batch.positions[:, 1]).all()


def test_every_step_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Watcher(Reporter):
        def step(self, step: int, loss: float) -> None:
            seen.append(step)

    measured(compile_text(HEAD + STAGES), monkeypatch, machine := Machine(), rounds=1, reporter=Watcher())
    assert seen == list(range(1, machine.plans[0].steps + 1))


@settings(max_examples=30, deadline=None)
@given(plans())
def test_sizes_are_few_whole_and_end_with_the_full_network(plan: Plan) -> None:
    sizes = sizes_of(plan, 5)
    assert 1 <= len(sizes) <= 5 and not sizes[-1].rules
    assert [size.flops for size in sizes] == sorted(size.flops for size in sizes)
    module.measuring_plan(plan, sizes, 2)  # which checks that every rule can be drawn from


@pytest.mark.parametrize(
    ("stage", "smallest"),
    [
        ("stage depth=1/64..64/64 steps=100%", {"depth": 1}),
        # Blocks that are full cost more than any that were measured at these sizes.
        ("keep depth=[3]; stage depth=1/64..64/64 heads=1/2 heads.full=[3] steps=100%", {"depth": 1, "heads": 1}),
    ],
)
def test_of_many_sizes_some_are_measured_and_the_rest_lies_between(stage: str, smallest: dict[str, int]) -> None:
    plan = compile_text(HEAD.replace("layers=4", "layers=64") + stage)
    sizes = sizes_of(plan)
    assert len(sizes) == module.MOST_SIZES
    assert sizes[0].active == smallest and sizes[-1].active == {}
    times = tuple(SizeTime(active=size.active, flops=size.flops, seconds=size.flops * 1e-6) for size in sizes)
    shape = plan.shape
    found = Calibration(backend="b", dtype="float32", micro_batches=1, rounds=1, shape=shape, sizes=times)
    told = estimate(plan, found)
    assert told.seconds == pytest.approx(float(plan.flops().total) * 1e-6)
    assert told.dense_seconds == pytest.approx(float(plan.flops().full_total) * 1e-6)
    assert [stage.measured for stage in told.stages] == [False]


def calibration(shape: ModelShape, sizes: Sequence[SizeTime]) -> Calibration:
    return Calibration(backend="b", dtype="float32", micro_batches=1, rounds=1, shape=shape, sizes=tuple(sizes))


def test_measured_sizes_are_taken_as_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = compile_text(HEAD + STAGES)
    told = estimate(plan, measured(plan, monkeypatch, Machine(), rounds=3))
    assert [(stage.seconds, stage.measured) for stage in told.stages] == [(350, True), (225, True), (275, True)]
    assert (told.seconds, told.dense_seconds) == (850, 1100)


def test_random_sizes_are_taken_at_their_expected_flops(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = compile_text(HEAD + "stage depth=5/8 sample=bernoulli steps=100%")
    found = measured(plan, monkeypatch, Machine(), rounds=3)
    assert [size.active for size in found.sizes] == [{"depth": 3}, {}]
    told = estimate(plan, found)
    assert not told.stages[0].measured
    # 2.5 blocks are fewer than any that were measured: as at that end, not below it.
    assert told.seconds == 100 * 9


def test_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured(compile_text(HEAD + STAGES), monkeypatch, Machine(), rounds=1)
    with pytest.raises(RaptrError, match="batch is 2 there, and 8 in the plan"):
        estimate(compile_text(HEAD.replace("batch=2", "batch=8") + STAGES), found)


@pytest.mark.parametrize("text", ["", "{}", '{"format": "raptr-calibration-2"}', "\x00", "[]"])
def test_what_is_no_calibration_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(RaptrError, match="calibration-unreadable"):
        load_calibration(tmp_path / "c.json")


def test_what_is_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured(compile_text(HEAD + STAGES), monkeypatch, Machine(), rounds=1)
    (tmp_path / "c.json").write_text(found.model_dump_json())
    assert load_calibration(tmp_path / "c.json") == found
    partial = found.model_copy(update={"sizes": found.sizes[:1]})
    (tmp_path / "c.json").write_text(partial.model_dump_json())
    with pytest.raises(RaptrError, match="full network was not measured"):
        load_calibration(tmp_path / "c.json")
    with pytest.raises(RaptrError, match="no such file"):
        load_calibration(tmp_path / "nothing.json")
