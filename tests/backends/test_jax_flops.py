"""Skipped means skipped: the matmuls in the program of a training step are those planned, to the integer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl.backend import TrainSettings
from raptr_dsl.ir.model import ModelShape
from raptr_jax import BACKEND, apply
from raptr_jax import model as jax_model
from raptr_jax.experts import tiling
from raptr_jax.meter import matmul_flops
from raptr_jax.stepping import tokens_of
from raptr_jax.train import JaxTrainer
from tests.backends.drawn import SMALL, batch, drawn_plan, mask, masks_of, planned, shapes

THINNED = {
    "depth": mask(SMALL, "depth", [1, 0, 1], 1.5),
    "heads": mask(SMALL, "heads", [1, 0, 1, 0], 1.5),
    "width": mask(SMALL, "width", [0, 1, 0, 0], 2.0),
}


def flops_of_the_program(shape: ModelShape, masks: dict, **settings) -> int:
    """Of a whole training step: forward, backward, clip and update; traced and not compiled."""
    trainer = BACKEND.trainer(drawn_plan(shape, [masks]), TrainSettings(**settings))
    assert isinstance(trainer, JaxTrainer)
    return trainer.programs.traced(tokens_of(batch(shape)), trainer._masks(trainer.plan.step(0)), np.float32(0)).flops


@settings(max_examples=12)
@given(st.data())
def test_flops_of_the_program_equal_planned_flops(data: st.DataObject) -> None:
    shape = data.draw(shapes(experts=True))
    masks = data.draw(masks_of(shape))
    micro_batches = data.draw(st.sampled_from([1, 2]))
    plan = drawn_plan(shape, [masks])
    padded = apply.padded_flops(plan.step(0), plan.stages[0], shape, shape.batch, micro_batches)
    assert flops_of_the_program(shape, masks, micro_batches=micro_batches) == planned(shape, masks)[1] + padded
    assert not padded or shape.has_experts


@pytest.mark.parametrize(("rows", "experts"), [(1, 5), (7, 2), (24, 3), (64, 8), (1000, 8)])
def test_tiles_are_enough_for_any_split_of_rows_and_waste_less_than_a_quarter(rows: int, experts: int) -> None:
    tiles, random = tiling(rows, experts), np.random.default_rng(0)
    splits = [random.multinomial(rows, random.dirichlet(np.full(experts, spread))) for spread in (0.1, 1, 10) * 30]
    assert all(sum(-(-int(load) // tiles.size) for load in split) <= tiles.tiles for split in splits)
    assert 4 * (tiles.rows - rows) < rows


@pytest.mark.parametrize("axis", THINNED)
def test_a_thinned_axis_costs_less_than_the_full_network(axis: str) -> None:
    assert flops_of_the_program(SMALL, {axis: THINNED[axis]}) < flops_of_the_program(SMALL, {})


# The same check must fail where masks are applied by multiplying with zero, or it would prove nothing.


def _all_rows(stacked, index):
    on = jnp.zeros(stacked.shape[0]).at[index].set(1.0)
    return stacked * on.reshape(-1, *[1] * (stacked.ndim - 1))


def _all_factors(weight, rows):
    return jnp.zeros(weight.shape[0]).at[rows.index].set(rows.factor)


@pytest.mark.parametrize("axis", ["heads", "width"])
def test_multiplying_rows_by_zero_is_noticed(axis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def project(self, x, rows):
        weight = self.weight[...]
        if rows is not None:
            weight = weight * _all_factors(weight, rows)[:, None, None]
        return jnp.einsum("btgs,gsd->btd", x, weight) + self.bias[...]

    monkeypatch.setattr(jax_model, "take", _all_rows)
    monkeypatch.setattr(jax_model.OutputProjection, "__call__", project)
    masks = {axis: THINNED[axis]}
    assert flops_of_the_program(SMALL, masks) > planned(SMALL, masks)[1]


def test_multiplying_blocks_by_zero_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def everything(index, layers, factor=None):
        on = np.isin(np.arange(layers), index)
        return apply.BlockMask(None, on.astype(np.float32))

    monkeypatch.setattr(apply, "block_mask", everything)
    masks = {"depth": THINNED["depth"]}
    assert flops_of_the_program(SMALL, masks) > planned(SMALL, masks)[1]


# --- the meter ------------------------------------------------------------------------------------------------------


def test_the_lengths_of_scans_multiply() -> None:
    def f(x):
        def outer(y, _):
            return jax.lax.scan(lambda z, _: (z @ x, None), y, None, length=3)[0], None

        return jax.lax.scan(outer, x, None, length=5)[0]

    assert matmul_flops(jax.make_jaxpr(f)(np.ones((4, 4)))) == 5 * 3 * 2 * 4**3


def test_batched_contractions_count_every_axis() -> None:
    def f(a, b):
        return jnp.einsum("xbij,bjk->xbik", a, b)

    assert matmul_flops(jax.make_jaxpr(jax.jit(f))(np.ones((7, 2, 3, 4)), np.ones((2, 4, 5)))) == 2 * 7 * 2 * 3 * 4 * 5


def test_branches_of_equal_cost_count_once_and_others_cannot_be_counted() -> None:
    def choice(right):
        return lambda x: jax.lax.cond(x[0, 0] > 0, lambda y: y @ x, right, x)

    x = np.ones((4, 4))
    assert matmul_flops(jax.make_jaxpr(choice(lambda y: x @ y))(x)) == 2 * 4**3
    with pytest.raises(ValueError, match="matmuls in a cond"):
        matmul_flops(jax.make_jaxpr(choice(lambda y: y))(x))
    with pytest.raises(ValueError, match="matmuls in a while"):
        matmul_flops(jax.make_jaxpr(lambda x: jax.lax.while_loop(lambda y: y[0, 0] < 9, lambda y: y @ y, x))(x))
