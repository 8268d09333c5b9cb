"""The JAX transformer against the reference: loss and gradients under every mask; what is selected and what is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl.backend.network import initial_values, parameters
from raptr_dsl.ir.model import ModelShape
from raptr_jax import BACKEND
from raptr_jax.apply import Masks, masks_of
from raptr_jax.model import Transformer, build, flat, nest
from raptr_jax.names import parts, whole
from raptr_jax.stepping import loss_of, tokens_of
from raptr_reference.model import loss_and_gradients
from tests.axes import PARTS
from tests.backends.drawn import SMALL, batch, drawn_plan, mask, random_values, refused, shapes
from tests.backends.drawn import masks_of as drawn_masks


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def masks_for(shape: ModelShape, axes: dict, idle: str = "zero") -> Masks:
    plan = drawn_plan(shape, [axes], dict.fromkeys(PARTS, idle))
    return masks_of(plan.step(0), plan.stages[0], shape.layers, np.float64)


def test_parameters_are_those_of_the_table() -> None:
    for shape in (SMALL, SMALL.model_copy(update={"gated": True, "tied": False, "kv_heads": 2})):
        values = random_values(shape)
        tree = nest(shape, values)
        _, state = nnx.split(Transformer(shape, tree, jnp.float64))
        found = flat(shape, nnx.to_pure_dict(state))
        assert {name: value.shape for name, value in found.items()} == {p.name: p.shape for p in parameters(shape)}
        for name, value in values.items():
            np.testing.assert_array_equal(found[name], value)
        assert BACKEND.shape(build(shape, 0)) == shape


def test_weights_start_as_the_core_says() -> None:
    _, state = nnx.split(build(SMALL, 3))
    for name, value in flat(SMALL, nnx.to_pure_dict(state)).items():
        np.testing.assert_array_equal(value, initial_values(SMALL, 3)[name])


def test_the_shape_of_a_model_takes_what_a_run_says() -> None:
    assert BACKEND.shape(build(SMALL, 0), batch=7, seq=3) == SMALL.model_copy(update={"batch": 7, "seq": 3})
    with refused("model-run", "seq=99 is more than the 6 positions"):
        BACKEND.shape(build(SMALL, 0), seq=99)
    with refused("attach-model", "object is not a model that raptr_jax knows"):
        BACKEND.shape(object())  # pyright: ignore[reportArgumentType]


def test_nothing_can_be_attached_to_a_function() -> None:
    with refused("attach-model", "a JAX model is a pure function"):
        BACKEND.attach(build(SMALL, 0), drawn_plan(SMALL, [{}]))


@settings(max_examples=5)
@given(st.data())
def test_loss_and_gradients_equal_the_reference(data: st.DataObject) -> None:
    shape = data.draw(shapes())
    masks = data.draw(drawn_masks(shape))
    values, sequences = random_values(shape), batch(shape)
    expected_loss, expected = loss_and_gradients(shape, values, sequences, masks)
    with jax.enable_x64(True):
        graph, state = nnx.split(Transformer(shape, nest(shape, values), jnp.float64))
        tree = parts(nnx.to_pure_dict(state))
        of_loss = jax.jit(jax.value_and_grad(lambda p, tokens, m: loss_of(graph, p, tokens, m)[0]))
        loss, gradients = of_loss(tree, tokens_of(sequences), masks_for(shape, masks))
    assert float(loss) == pytest.approx(expected_loss, rel=1e-9)
    for name, gradient in flat(shape, whole(gradients)).items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_rule_27_no_unit_on_is_the_identity_for_depth_and_the_bias_alone_elsewhere() -> None:
    shape = SMALL.model_copy(update={"layers": 1})
    values = random_values(shape)
    model = Transformer(shape, nest(shape, values), jnp.float64)
    inputs = batch(shape).inputs
    start = values["embedding.weight"][inputs] + values["position.weight"]
    biases = values["blocks.0.attention.output.bias"] + values["blocks.0.ffn.down.bias"]
    nothing = {axis: mask(shape, axis, 0) for axis in PARTS}
    for axes, hidden in ((("depth",), start), (("heads", "width"), start + biases)):
        logits = model(inputs, masks=masks_for(shape, {axis: nothing[axis] for axis in axes}))
        np.testing.assert_allclose(logits, model.norm(hidden) @ values["embedding.weight"].T, rtol=1e-12)


def primitives(masks: Masks) -> str:
    graph, state = nnx.split(build(SMALL, 0))
    tree = parts(nnx.to_pure_dict(state))
    return str(jax.make_jaxpr(lambda p, m: loss_of(graph, p, tokens_of(batch(SMALL)), m)[0])(tree, masks))


def test_a_full_step_neither_gathers_blocks_nor_rows() -> None:
    """Only the embedding is looked up, and the targets' logits."""
    everything = {axis: mask(SMALL, axis, 1) for axis in PARTS}
    assert primitives(masks_for(SMALL, everything)) == primitives(Masks())
    thinned = {"width": mask(SMALL, "width", [1, 0, 1, 0])}
    assert primitives(masks_for(SMALL, thinned)).count("gather[") > primitives(Masks()).count("gather[")


def test_masks_of_one_size_are_arguments_of_one_shape() -> None:
    """So they share a program; other sizes, and numbers of units that differ between blocks, do not."""

    def sizes(**axes) -> list:
        masks = masks_for(SMALL, {axis: mask(SMALL, axis, on, 1.3) for axis, on in axes.items()})
        return [jax.tree.structure(masks), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(masks)]]

    assert sizes(depth=[1, 0, 1], width=[1, 0, 0, 1]) == sizes(depth=[0, 1, 1], width=[0, 1, 1, 0])
    assert sizes(depth=[1, 0, 1]) != sizes(depth=[0, 1, 0])
    ragged = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
    assert sizes(width=ragged) == sizes(width=np.flip(ragged, axis=1))
    assert sizes(width=ragged) != sizes(width=[1, 1, 0, 0])


def test_units_that_run_are_counted_where_they_run() -> None:
    masks = {"depth": mask(SMALL, "depth", [1, 0, 1]), "width": mask(SMALL, "width", [[1, 0, 0, 0]] * 2 + [[1] * 4])}
    _, ran = build(SMALL, 0).run(batch(SMALL).inputs, None, masks_for(SMALL, masks))
    assert ran.tolist() == [2, 2 * 4, 1 + 4, 0, 2 * SMALL.seq]


@pytest.mark.parametrize("blocks", ["zero", "skip"])
@pytest.mark.parametrize("rows", ["zero", "skip"])
def test_rule_32_the_rows_that_the_optimizer_may_touch(blocks: str, rows: str) -> None:
    masks = {"depth": mask(SMALL, "depth", [1, 0, 1]), "width": mask(SMALL, "width", [0, 1, 1, 0])}
    plan = drawn_plan(SMALL, [masks], {"depth": blocks, "width": rows})
    found = masks_of(plan.step(0), plan.stages[0], 3, np.float32)
    assert found.skips_blocks == (blocks == "skip")
    ran, idle = [False, True, True, False], [True] * 4  # a block that is off has gradients of zeros in all its rows
    expected = {"zero": [ran, idle, ran], "skip": [ran, ran]}[blocks]
    touched = {axis: np.asarray(on).tolist() for axis, on in found.touched.items()}
    assert touched == ({"width": expected} if rows == "skip" else {})


def test_a_mask_of_another_model_is_refused() -> None:
    with refused("attach-shape", "the mask of depth is of 3 blocks, and the stack has 4"):
        plan = drawn_plan(SMALL, [{"depth": mask(SMALL, "depth", [1, 0, 1])}])
        masks_of(plan.step(0), plan.stages[0], 4, np.float32)
