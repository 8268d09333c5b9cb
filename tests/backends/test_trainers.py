"""What every backend's trainer does, whatever it is made of."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl.backend import Backend, Batch, Trainer, TrainSettings
from tests.axes import PARTS
from tests.backends.drawn import SMALL, batch, drawn_plan, mask, masks_of, parts_of, planned, refused, shapes

FLOAT64 = TrainSettings(dtype="float64", lr=1e-3, warmup=3)

MIXED = [
    {"depth": mask(SMALL, "depth", [1, 0, 1], 1.4)},
    {"heads": mask(SMALL, "heads", [1, 0, 1, 0], 1.4), "width": mask(SMALL, "width", [0, 1, 1, 0])},
    {"depth": mask(SMALL, "depth", [0, 1, 1]), "width": mask(SMALL, "width", [1, 0, 0, 0], 2.0)},
    {},
    {"depth": mask(SMALL, "depth", [0, 0, 0]), "heads": mask(SMALL, "heads", [0, 0, 0, 1])},
]


def losses(trainer: Trainer, steps: range) -> list[float]:
    return [trainer.step(index, batch(SMALL, index)).loss for index in steps]


EXAMPLES = {"jax": 3}  # two programs to compile in each; test_jax_flops.py draws more and compiles none


def test_executed_equals_planned(backend: Backend) -> None:
    settings(max_examples=EXAMPLES.get(backend.name, 25))(given(data=st.data())(executed_equals_planned))(backend)


def executed_equals_planned(backend: Backend, data: st.DataObject) -> None:
    shape = data.draw(shapes(experts="experts" in backend.capabilities.axes))
    masks = [data.draw(masks_of(shape)) for _ in range(2)]
    trainer = backend.trainer(
        drawn_plan(shape, masks), FLOAT64.model_copy(update={"micro_batches": data.draw(st.sampled_from([1, 2]))})
    )
    units, flops = dict.fromkeys(parts_of(shape), 0), 0
    for index, step in enumerate(masks):
        trainer.step(index, batch(shape, index))
        step_units, step_flops = planned(shape, step)
        units = {axis: count + step_units[axis] for axis, count in units.items()}
        flops += step_flops
    executed = trainer.executed()
    assert {axis: executed.units.get(axis, 0) for axis in parts_of(shape)} == units
    assert executed.flops == flops


def test_rule_36_evaluation_is_of_the_full_network_and_is_not_counted(backend: Backend) -> None:
    thinned = backend.trainer(drawn_plan(SMALL, MIXED), FLOAT64)
    full = backend.trainer(drawn_plan(SMALL, [{}]), FLOAT64)
    held_out = [batch(SMALL, 7), batch(SMALL, 8)]
    assert thinned.evaluate(held_out) == full.evaluate(held_out)
    losses(thinned, range(2))
    before = thinned.executed()
    thinned.evaluate(held_out)
    assert thinned.executed() == before


def test_evaluation_weighs_every_target_alike(backend: Backend) -> None:
    trainer = backend.trainer(drawn_plan(SMALL, [{}]), FLOAT64)
    whole = batch(SMALL)
    parts = [Batch(whole.inputs[:1], whole.targets[:1]), Batch(whole.inputs[1:], whole.targets[1:])]
    assert trainer.evaluate(parts) == pytest.approx(trainer.evaluate([whole]), rel=1e-12)


def test_micro_batches_do_not_change_the_mean(backend: Backend) -> None:
    one, four = (
        backend.trainer(drawn_plan(SMALL, MIXED[2:4] * 2), FLOAT64.model_copy(update={"micro_batches": count}))
        for count in (1, 4)
    )
    np.testing.assert_allclose(losses(one, range(4)), losses(four, range(4)), rtol=1e-12)
    assert one.executed() == four.executed()


@pytest.mark.parametrize("idle", ["zero", "skip"])
def test_a_resumed_run_equals_an_unbroken_one_to_the_bit(backend: Backend, idle: str, tmp_path: Path) -> None:
    kinds = MIXED[::2] if backend.name == "jax" else MIXED  # a program each, in each of three trainers
    plan = drawn_plan(SMALL, kinds * 2, dict.fromkeys(PARTS, idle))
    unbroken, first, second = (backend.trainer(plan, FLOAT64) for _ in range(3))
    expected = losses(unbroken, range(plan.steps))
    seen = losses(first, range(2))
    first.save(tmp_path)
    second.load(tmp_path)
    assert seen + losses(second, range(2, plan.steps)) == expected
    assert second.executed() == unbroken.executed()
    held_out = [batch(SMALL, 99)]
    assert second.evaluate(held_out) == unbroken.evaluate(held_out)


def test_a_checkpoint_from_before_the_first_step_is_complete(backend: Backend, tmp_path: Path) -> None:
    plan = drawn_plan(SMALL, MIXED[1:2] * 3, dict.fromkeys(PARTS, "skip"))
    first, second = (backend.trainer(plan, FLOAT64) for _ in range(2))
    first.save(tmp_path)
    second.load(tmp_path)
    assert losses(second, range(3)) == losses(first, range(3))


def test_damaged_and_foreign_checkpoints_are_refused_and_change_nothing(backend: Backend, tmp_path: Path) -> None:
    trainer = backend.trainer(drawn_plan(SMALL, MIXED), FLOAT64)
    expected = trainer.evaluate([batch(SMALL)])
    other = SMALL.model_copy(update={"hidden": 4})
    foreign, damaged = tmp_path / "foreign", tmp_path / "damaged"
    foreign.mkdir()
    damaged.mkdir()
    backend.trainer(drawn_plan(other, [{}]), FLOAT64).save(foreign)
    backend.trainer(drawn_plan(SMALL, [{}]), FLOAT64).save(damaged)
    largest = max(damaged.iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-200])
    for folder in (foreign, damaged, tmp_path / "missing"):
        with refused("trainer-checkpoint"):
            trainer.load(folder)
    assert trainer.evaluate([batch(SMALL)]) == expected


def test_a_loss_that_is_not_finite_stops_before_the_update(backend: Backend) -> None:
    settings = FLOAT64.model_copy(update={"lr": 1e200, "warmup": 0, "weight_decay": 1e200})
    trainer = backend.trainer(drawn_plan(SMALL, [{}] * 5), settings)
    with np.errstate(all="ignore"), refused("trainer-not-finite"):
        losses(trainer, range(5))


@pytest.mark.parametrize(("index", "code"), [(1, "step-order"), (9, "step-beyond")])
def test_steps_are_taken_in_order(backend: Backend, index: int, code: str) -> None:
    trainer = backend.trainer(drawn_plan(SMALL, [{}] * 3), FLOAT64)
    with refused(code):
        trainer.step(index, batch(SMALL))
    trainer.step(0, batch(SMALL))
    with refused("step-order"):
        trainer.step(0, batch(SMALL))


def _spoiled(change: str) -> Batch:
    good = batch(SMALL)
    if change == "vocabulary":
        return Batch(good.inputs + SMALL.vocab, good.targets)
    if change == "negative":
        return Batch(good.inputs, good.targets - SMALL.vocab)
    if change == "length":
        return Batch(np.tile(good.inputs, 2), np.tile(good.targets, 2))
    if change == "positions":
        return Batch(good.inputs, good.targets[:, :1], np.full((SMALL.batch, 1), SMALL.seq))
    if change == "empty":
        return Batch(good.inputs[:0], good.targets[:0])
    return Batch(good.inputs, good.targets[:, :1])


def test_an_evaluation_of_nothing_is_refused(backend: Backend) -> None:
    with refused("trainer-batch", "no batch to evaluate"):
        backend.trainer(drawn_plan(SMALL, [{}]), FLOAT64).evaluate([])


@pytest.mark.parametrize("change", ["vocabulary", "negative", "length", "positions", "empty", "targets"])
def test_a_batch_that_does_not_fit_is_refused(backend: Backend, change: str) -> None:
    trainer = backend.trainer(drawn_plan(SMALL, [{}]), FLOAT64)
    with refused("trainer-batch"):
        trainer.step(0, _spoiled(change))
    with refused("trainer-batch"):
        trainer.evaluate([_spoiled(change)])


@pytest.mark.parametrize("axis", ["positions", "seq", "batch"])
def test_a_plan_that_thins_data_takes_whole_batches(backend: Backend, axis: str) -> None:
    """Its masks say which of so many to take: of fewer, some would be left out, or there would be no such index."""
    units = {"positions": SMALL.seq, "seq": SMALL.seq, "batch": SMALL.batch}[axis]
    sites = SMALL.layers if axis == "positions" else 1
    thinned = {axis: mask(SMALL, axis, [[unit < units - 1 for unit in range(units)]] * sites)}
    trainer, full = (backend.trainer(drawn_plan(SMALL, [masks]), FLOAT64) for masks in (thinned, {}))
    good = batch(SMALL)
    short = Batch(good.inputs[:, :-1], good.targets[:, :-1])
    few = Batch(good.inputs[:-1], good.targets[:-1])
    with refused("trainer-batch", f"the plan thins {axis} of batches that have {units}"):
        trainer.step(0, few if axis == "batch" else short)
    trainer.evaluate([few, short])
    if backend.name != "jax":  # two programs
        full.step(0, short)
        trainer.step(0, good)


def test_micro_batches_that_do_not_divide_the_batch_are_refused(backend: Backend) -> None:
    with refused("trainer-micro-batches", "3 micro-batches do not divide"):
        backend.trainer(drawn_plan(SMALL, [{}]), FLOAT64.model_copy(update={"micro_batches": 3}))


def test_what_a_backend_does_not_declare_is_refused(backend: Backend) -> None:
    plan = drawn_plan(SMALL, [{}], {"depth": "zero"}, scale="cubed")
    with refused("backend-unsupported"):
        backend.trainer(plan, FLOAT64)


@pytest.mark.parametrize("word", [{"source_seq": 4}, {"head_transform": True}], ids=lambda word: next(iter(word)))
def test_shapes_that_the_small_transformer_cannot_have_are_refused(backend: Backend, word: dict) -> None:
    shape = SMALL.model_copy(update=word)
    with refused("network-shape"):
        backend.trainer(drawn_plan(shape, [{}]), FLOAT64)
