"""On JAX: what does not train has no backward pass, in one program a size; growth is one gather, exact to the bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

from raptr_dsl.backend import TrainSettings
from raptr_dsl.backend.batches import shortened
from raptr_dsl.backend.network import parameters
from raptr_dsl.ir.plan import Plan
from raptr_dsl.training.account import Account
from raptr_jax import BACKEND, choice
from raptr_jax.apply import masks_of
from raptr_jax.model import Block, flat
from raptr_jax.names import whole
from raptr_jax.optim import Parts
from raptr_jax.stepping import tokens_of
from raptr_jax.train import JaxTrainer
from tests.backends.drawn import SMALL, batch, drawn_plan, mask, refused
from tests.backends.test_reference_training import SCHEDULES, plan_of

SETTINGS = TrainSettings(dtype="float64", lr=0.01)


def trainer_of(plan: Plan, settings: TrainSettings = SETTINGS) -> JaxTrainer:
    trainer = BACKEND.trainer(plan, settings)
    assert isinstance(trainer, JaxTrainer)
    return trainer


def run(trainer: JaxTrainer, start: int, stop: int) -> list[float]:
    return [trainer.step(index, batch(trainer.plan.shape, index)).loss for index in range(start, stop)]


def leaves_of(trainer: JaxTrainer) -> list[np.ndarray]:
    return [np.array(leaf) for leaf in jax.tree.leaves((trainer.parameters, trainer.state))]


# --- what is computed: traced, and not compiled ---------------------------------------------------------------------


def traced_flops(trainer: JaxTrainer, index: int) -> int:
    """Of the program of a step with the blocks that train in it."""
    step = trainer.plan.step(index)
    masks = trainer._masks(step)
    with jax.enable_x64(True):
        tokens = tokens_of(shortened(batch(trainer.plan.shape), step.axes))
        work = trainer.programs.traced(tokens, masks, np.float64(0)).work
    trains = () if masks.trains is None else masks.taken_by_span(masks.trains.astype(int))
    return work.flops([int(number) * trainer.settings.micro_batches for number in trains])


def planned_flops(plan: Plan, index: int) -> int:
    account = Account(plan)
    account.add(plan.step(index))
    return int(account.flops)


TRACED = ("a part of what runs", "frozen parts", "new layers", "random-LTD", "smaller batches")


@pytest.mark.parametrize("name", TRACED)
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_flops_of_the_program_equal_planned_flops(name: str, micro_batches: int) -> None:
    plan = plan_of(SCHEDULES[name])
    trainer = trainer_of(plan, SETTINGS.model_copy(update={"micro_batches": micro_batches}))
    for index in {0, *plan.boundaries}:
        assert traced_flops(trainer, index) == planned_flops(plan, index)


@pytest.mark.parametrize("trained", [0, 1, 2])
def test_blocks_of_unequal_sizes_are_counted_where_they_train(trained: int) -> None:
    trains = np.arange(SMALL.layers)[None] == trained
    heads = mask(SMALL, "heads", [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]])
    plan = drawn_plan(SMALL, [{"depth": replace(mask(SMALL, "depth", True), trains=trains), "heads": heads}])
    assert traced_flops(trainer_of(plan), 0) == planned_flops(plan, 0)


@pytest.mark.parametrize("trained", [6, 4, 1])
def test_below_the_lowest_block_that_trains_nothing_is_differentiated(trained: int) -> None:
    plan = plan_of(f"stage depth.train=suffix({trained}) freeze=[embed, head] steps=rest")
    masks = masks_of(plan.step(0), plan.stages[0], 6, np.float64)
    assert (masks.still, masks.trains) == (6 - trained, None)
    assert traced_flops(trainer_of(plan), 0) == planned_flops(plan, 0)


def test_gradients_that_are_computed_and_set_to_zero_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(SCHEDULES["a drawn part"])
    assert traced_flops(trainer_of(plan), 0) == planned_flops(plan, 0)

    def multiplying(block: Any) -> Any:
        def always(running: Any, x: Any, units: Any, trains: Any, taken: Any) -> Any:
            stopped = jax.lax.stop_gradient(running)
            kept = jax.tree.map(lambda value, other: jax.numpy.where(trains, value, other), running, stopped)
            return block(kept, x, units)

        return always

    monkeypatch.setattr("raptr_jax.scan.choosing", multiplying)
    trainer = trainer_of(plan)
    work = trainer.programs.traced(tokens_of(batch(plan.shape)), trainer._masks(plan.step(0)), np.float64(0)).work
    assert work.by_choice == () and work.always > planned_flops(plan, 0)


def test_the_compiled_branch_of_a_block_that_does_not_train_has_no_matmul_for_weights() -> None:
    """XLA drops what that branch computes in vain."""
    width, inner = 4, 8

    def block(weights: dict, x: jax.Array, units: tuple) -> tuple[jax.Array, None]:
        return x + jax.numpy.tanh(x @ weights["into"]) @ weights["out"], None

    def loss(weights: dict, x: jax.Array, trains: Any) -> jax.Array:
        return (choice.choosing(block)(weights, x, (), trains, np.float32(0))[0] ** 2).sum()

    weights = {"into": np.ones((width, inner), np.float32), "out": np.ones((inner, width), np.float32)}
    arguments = weights, np.ones((3, width), np.float32), np.bool_(False)
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(*arguments).compile()
    dots = [line for line in str(compiled.as_text()).splitlines() if " dot(" in line]
    assert [sum(f"branch_{branch}_fun" in line for line in dots) for branch in (0, 1)] == [2, 4]
    of_weights, of_x = compiled(*arguments)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(of_weights)) and np.asarray(of_x).any()


def test_data_that_is_thinned_is_smaller_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    run_block = Block.__call__

    def noted(self: Any, y: Any, *units: Any) -> Any:
        shapes.append(y.shape)
        return run_block(self, y, *units)

    monkeypatch.setattr("raptr_jax.model.Block.__call__", noted)
    for words, expected in (("seq=3", (2, 3, 8)), ("batch=1", (1, 5, 8)), ("positions=2", (2, 2, 8))):
        shapes.clear()
        traced_flops(trainer_of(plan_of(f"stage {words} steps=rest")), 0)
        assert set(shapes) == {expected}


# --- growth -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moments", ["copy", "zero"])
@pytest.mark.parametrize("grow", ["copy(middle)", "copy(all)", "zero"])
def test_rule_35_growth_copies_values_moments_and_counts_to_the_bit(grow: str, moments: str) -> None:
    words = f"grow={grow}" + ("" if grow == "zero" else f" moments={moments}")
    plan = plan_of(f"stage depth=4 sample=prefix steps=50%\nstage {words} steps=rest")
    growth, trainer = plan.grows_at(6), trainer_of(plan)
    assert growth is not None
    noise = np.random.default_rng(0)

    def random(leaf: Any) -> Any:
        if leaf.dtype == np.int32:
            return noise.integers(1, 99, leaf.shape).astype(np.int32)
        return noise.standard_normal(leaf.shape)

    start = {name: value.copy() for name, value in flat(plan.shape, whole(trainer.parameters)).items()}
    before: tuple[Parts, Parts] = jax.tree.map(random, (trainer.parameters, trainer.state))
    with jax.enable_x64(True):
        trainer.parameters, trainer.state = jax.device_put(before)
        trainer._grow(6)
    values, old = flat(plan.shape, whole(trainer.parameters)), flat(plan.shape, whole(before[0]))
    for parameter in parameters(plan.shape):
        source = None if parameter.block is None else growth.sources[parameter.block]
        if source is None:
            expected = old[parameter.name]
        elif source < 0:
            expected = start[parameter.name] * (not parameter.is_output)
        else:
            expected = old[parameter.in_block(source)]
        np.testing.assert_array_equal(values[parameter.name], expected)
    for found, was in zip(jax.tree.leaves(trainer.state.blocks), jax.tree.leaves(before[1].blocks), strict=True):
        for block, source in enumerate(growth.sources):
            begins = source < 0 or (moments == "zero" and block in growth.new)
            np.testing.assert_array_equal(found[block], 0 if begins else was[source])
    assert optax.tree.get(trainer.state.blocks, "count").shape == (6,)


def test_growth_in_a_run_and_across_a_resume_is_the_same_to_the_bit(tmp_path: Path) -> None:
    plan = plan_of("default sample=prefix grow=copy(middle)\nstage depth=2 steps=6\nstage depth=3 steps=rest")
    unbroken, expected = trainer_of(plan), []
    for start, stop in ((0, 6), (6, 7)):  # saved before the growth, and after it
        expected += run(unbroken, start, stop)
        (tmp_path / str(stop)).mkdir()
        unbroken.save(tmp_path / str(stop))
    expected += run(unbroken, 7, 9)
    for stop in (6, 7):
        second = trainer_of(plan)
        second.load(tmp_path / str(stop))
        assert run(second, stop, 9) == expected[stop:]
        for found, unbroken_leaf in zip(leaves_of(second), leaves_of(unbroken), strict=True):
            np.testing.assert_array_equal(found, unbroken_leaf)
    assert (len(unbroken.programs), len(unbroken.growths)) == (plan.shapes, 1)


def test_a_growth_is_not_repeated_where_its_step_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plan = plan_of("default sample=prefix grow=copy(middle)\nstage depth=2 steps=6\nstage depth=3 steps=rest")
    trainer, resumed = trainer_of(plan), trainer_of(plan)
    run(trainer, 0, 6)
    monkeypatch.setattr(trainer.programs, "get", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(trainer, 6, 7)
    trainer.save(tmp_path)
    grown = leaves_of(trainer)
    resumed.load(tmp_path)
    with jax.enable_x64(True):
        resumed._grow(6)
    for one, other in zip(grown, leaves_of(resumed), strict=True):
        np.testing.assert_array_equal(one, other)


# --- what the rest means ---------------------------------------------------------------------------------------------


def test_rewarm_multiplies_the_learning_rate() -> None:
    plan = plan_of("stage steps=4\nstage rewarm=4 steps=rest")
    lr = trainer_of(plan).optimizer.lr
    factors = [lr(index) / SETTINGS.learning_rate(index, plan.steps) for index in range(plan.steps)]
    assert factors == [1, 1, 1, 1, 1 / 4, 2 / 4, 3 / 4, 1, 1, 1, 1, 1]


def test_rule_33_what_does_not_train_stays_as_it_is_to_the_bit() -> None:
    """Values, moments and counts, while weight decay and momentum would move them; in one program for all draws."""
    plan = plan_of("stage depth=4 depth.train=fixed(3) freeze=[head] steps=rest")
    trainer = trainer_of(plan)
    for index in range(6):
        before = jax.tree.map(np.array, (trainer.parameters, trainer.state))
        trainer.step(index, batch(plan.shape, index))
        after = jax.tree.map(np.array, (trainer.parameters, trainer.state))
        rests = ~plan.trained("depth", index, index + 1)[0]
        assert rests.sum() == 3
        old, new = (jax.tree.leaves([part.blocks for part in parts]) for parts in (before, after))
        for one, other in zip(old, new, strict=True):
            np.testing.assert_array_equal(one[rests], other[rests])
        old, new = (jax.tree.leaves([[part.rest[n] for n in ("norm", "head")] for part in p]) for p in (before, after))
        for one, other in zip(old, new, strict=True):
            np.testing.assert_array_equal(one, other)
        counts = [optax.tree.get(state.blocks, "count") for _, state in (before, after)]
        np.testing.assert_array_equal(counts[1] - counts[0], ~rests)
        assert (before[0].rest["position"]["weight"] != after[0].rest["position"]["weight"]).all()
    assert len(trainer.programs) == plan.shapes == 1


@pytest.mark.parametrize(
    ("words", "word"),
    [
        ("depth.train=fixed(2)", "depth.train"),
        ("freeze=[head]", "freeze"),
        ("depth=3 scale=learned", "scale=learned"),
        ("positions=2", "axis positions"),
        ("seq=2", "axis seq"),
    ],
)
def test_a_loop_of_ones_own_is_refused_what_a_mask_cannot_say(words: str, word: str) -> None:
    plan = plan_of(f"stage {words} steps=rest")
    with refused("backend-unsupported", f"the jax backend has no {word}"):
        BACKEND.attach({"weight": np.zeros((6, 2, 2))}, plan)
