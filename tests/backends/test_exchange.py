"""What one backend has learned, another takes up: weights, moments, counts and the account of what ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

import raptr_dsl as raptr
from raptr_dsl.backend import Backend, Trainer, TrainSettings
from raptr_dsl.backend.network import parameters
from raptr_dsl.backend.state import Moments, TrainerState
from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.ir.plan import Plan
from raptr_dsl.registry import load_to_run
from tests.backends.drawn import SMALL, batch, drawn_plan, mask, refused

FLOAT64 = TrainSettings(dtype="float64", lr=1e-2, warmup=3)

SCHEDULE = """
model layers=4 heads=4 kv_heads=2 hidden=16 ffn=24 width_group=3 gated=true vocab=11 seq=8 batch=4
steps 12
seed 3
stage depth=2/4 scale=learned idle=skip steps=3
stage depth=3/4 heads=1/2 width=1/2 depth.scale=linear heads.scale=inverse idle=skip steps=3
stage depth=3/4 width=1/4 idle=zero steps=3
stage steps=rest
"""


def run(trainer: Trainer, plan: Plan, start: int, stop: int) -> list[float]:
    losses = [trainer.step(index, batch(plan.shape, index)).loss for index in range(start, stop)]
    return [*losses, trainer.evaluate([batch(plan.shape, 99)])]


def assert_same(one: TrainerState, other: TrainerState) -> None:
    """To the bit."""
    assert (one.next_step, one.executed.units, one.executed.flops) == (
        other.next_step,
        other.executed.units,
        other.executed.flops,
    )
    assert one.parameters.keys() == other.parameters.keys()
    for name, value in one.parameters.items():
        np.testing.assert_array_equal(value, other.parameters[name], err_msg=name)
    assert one.moments is not None and other.moments is not None
    for name, of in one.moments.items():
        same = other.moments[name]
        assert of.count == same.count, name
        np.testing.assert_array_equal(of.mean, same.mean, err_msg=name)
        np.testing.assert_array_equal(of.square, same.square, err_msg=name)


AROUND = [("jax", "reference"), ("reference", "torch"), ("torch", "jax")]
"""Each backend gives once and takes once; what is given is the same to the bit whoever has it."""
PAIRS = [
    pytest.param(*pair, marks=[] if pair in AROUND else pytest.mark.slow)
    for pair in permutations(("jax", "reference", "torch"), 2)
]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_run_begun_on_one_backend_goes_on_on_another(source: str, target: str) -> None:
    plan = raptr.compile_text(SCHEDULE)
    first, second = (load_to_run(name).trainer(plan, FLOAT64) for name in (source, target))
    run(first, plan, 0, 5)
    state = first.export_state()
    second.import_state(state)
    assert_same(second.export_state(), state)
    np.testing.assert_allclose(run(second, plan, 5, 12), run(first, plan, 5, 12), rtol=1e-11)
    assert second.executed() == first.executed()


def test_what_is_exported_is_complete_before_the_first_step_and_a_copy(backend: Backend) -> None:
    plan = drawn_plan(SMALL, [{"depth": mask(SMALL, "depth", [1, 0, 1], 1.4)}] * 3, {"depth": "skip"})
    trainer, other = (backend.trainer(plan, FLOAT64) for _ in range(2))
    state = trainer.export_state()
    table = {entry.name: entry.shape for entry in parameters(SMALL)}
    assert {name: value.shape for name, value in state.parameters.items()} == table
    assert state.moments is not None and state.moments.keys() == table.keys()
    expected = run(trainer, plan, 0, 3)
    other.import_state(state)
    assert run(other, plan, 0, 3) == expected


def test_weights_alone_begin_a_run_with_an_optimizer_that_is_new(backend: Backend) -> None:
    plan = drawn_plan(SMALL, [{}] * 4)
    learned, fresh, same = (backend.trainer(plan, FLOAT64) for _ in range(3))
    run(learned, plan, 0, 4)
    weights = TrainerState(learned.export_state().parameters)
    run(fresh, plan, 0, 2)  # of this nothing is to remain
    for trainer in (fresh, same):
        trainer.import_state(weights)
    assert fresh.evaluate([batch(SMALL, 99)]) == learned.evaluate([batch(SMALL, 99)])
    assert run(fresh, plan, 0, 4) == run(same, plan, 0, 4)
    assert fresh.executed() == same.executed()


def _without(values: Mapping, *names: str) -> dict:
    return {name: value for name, value in values.items() if name not in names}


def test_tensors_of_another_model_are_refused_and_change_nothing(backend: Backend) -> None:
    trainer = backend.trainer(drawn_plan(SMALL, [{}]), FLOAT64)
    before = trainer.export_state()
    values = before.parameters
    lacking = TrainerState(_without(values, "norm.bias", "blocks.1.ffn_norm.bias"))
    other = TrainerState(
        backend.trainer(drawn_plan(SMALL.model_copy(update={"hidden": 4}), [{}]), FLOAT64).export_state().parameters
    )
    more = TrainerState({**values, "blocks.0.router.weight": values["norm.bias"]})
    for state, code, message in (
        (lacking, "weights-tensors", "the weights lack 2 tensors of this model: blocks.1.ffn_norm.bias, norm.bias"),
        (more, "weights-tensors", "the weights hold a tensor that this model does not have: blocks.0.router.weight"),
        (
            other,
            "weights-shape",
            f"embedding.weight is [{SMALL.vocab}, 4] in the weights, and [{SMALL.vocab}, {SMALL.hidden}] in this model",
        ),
        (before.cast("longdouble"), "weights-dtype", ", and this model is float64"),
        (TrainerState({n: v.astype(int) for n, v in values.items()}), "weights-dtype", "the weights are int64"),
    ):
        with refused(code, message):
            trainer.import_state(state)
    assert_same(trainer.export_state(), before)


def test_everything_that_is_wrong_is_told_at_once(backend: Backend) -> None:
    trainer = backend.trainer(drawn_plan(SMALL, [{}]), FLOAT64)
    values = {name: value.astype(complex) for name, value in trainer.export_state().parameters.items()}
    values["position.weight"] = values["position.weight"][:1]
    with pytest.raises(RaptrError) as found:
        trainer.import_state(TrainerState(_without(values, "norm.bias")))
    assert [one.code for one in found.value.diagnostics] == ["weights-tensors", "weights-shape", "weights-dtype"]


def test_float32_widens_exactly_and_float64_is_not_rounded_unasked() -> None:
    plan = drawn_plan(SMALL, [{}] * 2)
    narrow = load_to_run("torch").trainer(plan, FLOAT64.model_copy(update={"dtype": "float32"}))
    run(narrow, plan, 0, 1)
    wide = load_to_run("jax").trainer(plan, FLOAT64)
    wide.import_state(narrow.export_state())
    assert_same(wide.export_state().cast("float32"), narrow.export_state())
    with refused("weights-dtype", "the weights are float64, and this model is float32"):
        narrow.import_state(wide.export_state())


def test_counts_that_optax_keeps_together_have_to_agree() -> None:
    plan = drawn_plan(SMALL, [{}])
    trainer = load_to_run("jax").trainer(plan, FLOAT64)
    state = trainer.export_state()
    assert state.moments is not None
    name = "blocks.1.ffn.up.bias"
    of = state.moments[name]
    odd = replace(state, moments={**state.moments, name: Moments(of.mean, of.square, 7)})
    with refused("convert-counts", "blocks.1.ffn.up.bias has had 7 updates and blocks.1.attention_norm.weight 0"):
        trainer.import_state(odd)
