"""`scan_blocks` on plain trees: what runs, what it is scaled by, and what is refused before it would run wrongly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import raptr_jax
from raptr_jax.scan import depth, put, take
from tests.backends.drawn import refused

LAYERS, WIDTH = 5, 3
RANDOM = np.random.default_rng(0)
BLOCKS = [
    {
        "w": RANDOM.standard_normal((WIDTH, WIDTH)).astype(np.float32),
        "b": RANDOM.standard_normal(WIDTH).astype(np.float32),
    }
    for _ in range(LAYERS)
]
STACKED = raptr_jax.stack(BLOCKS)
X = RANDOM.standard_normal((2, WIDTH)).astype(np.float32)


def block(parameters, x):
    return x + jnp.tanh(x @ parameters["w"] + parameters["b"])


def by_hand(index, factors):
    x = X
    for number, factor in zip(index, factors, strict=True):
        x = x + factor * (block(BLOCKS[number], x) - x)
    return x


run = jax.jit(lambda stacked, mask: raptr_jax.scan_blocks(block, stacked, X, mask))


@settings(max_examples=20)
@given(st.sets(st.integers(0, LAYERS - 1)), st.sampled_from([None, 2.0, "each"]))
def test_the_blocks_of_a_mask_run_in_order(index: set[int], factor) -> None:
    chosen = sorted(index)
    factors = np.linspace(0.5, 2, len(chosen)) if factor == "each" else factor
    mask = raptr_jax.block_mask(chosen, LAYERS, factors)
    expected = by_hand(chosen, np.broadcast_to(1.0 if factors is None else factors, len(chosen)))
    np.testing.assert_allclose(run(STACKED, mask), expected, rtol=1e-5, atol=1e-5)


def test_one_program_serves_all_masks_of_a_size() -> None:
    runs = jax.jit(lambda stacked, mask: raptr_jax.scan_blocks(block, stacked, X, mask))
    for index in ([0, 1], [0, 4], [2, 3]):
        for factor in (1.5, 2.5):
            runs(STACKED, raptr_jax.block_mask(index, LAYERS, factor))
    assert runs._cache_size() == 1
    runs(STACKED, raptr_jax.block_mask([0, 1, 2], LAYERS, 1.5))
    assert runs._cache_size() == 2


def test_everything_needs_no_gather_and_no_scale() -> None:
    def program(mask) -> str:
        return str(jax.make_jaxpr(lambda stacked: raptr_jax.scan_blocks(block, stacked, X, mask))(STACKED))

    everything = program(raptr_jax.block_mask(range(LAYERS), LAYERS))
    assert everything == program(None)
    assert "gather" not in everything
    assert "gather" in program(raptr_jax.block_mask([1, 3], LAYERS))


def test_a_block_may_return_more_and_take_more() -> None:
    mask = raptr_jax.block_mask([1, 3], LAYERS)._replace(units=(np.array([[10.0], [20.0]], np.float32),))
    x, aux = raptr_jax.scan_blocks(lambda p, x, unit: (x + unit, unit[0]), STACKED, X, mask, has_aux=True)
    np.testing.assert_allclose(x, X + 30, rtol=1e-6)
    assert aux.tolist() == [10, 20]


def test_gradients_of_blocks_that_are_off_are_zero() -> None:
    mask = raptr_jax.block_mask([1, 3], LAYERS)
    gradient = jax.grad(lambda stacked: raptr_jax.scan_blocks(block, stacked, X, mask).sum())(STACKED)
    ran = np.abs(gradient["w"]).sum(axis=(1, 2)) > 0
    assert ran.tolist() == [False, True, False, True, False]


def test_stack_and_unstack_are_inverse() -> None:
    for original, again in zip(BLOCKS, raptr_jax.unstack(STACKED), strict=True):
        assert original.keys() == again.keys()
        assert all(np.array_equal(original[name], again[name]) for name in original)
    assert depth(STACKED) == LAYERS


def test_take_and_put_are_inverse() -> None:
    index = np.array([0, 3], np.int32)
    part = take(STACKED, index)
    changed = put(STACKED, index, jax.tree.map(lambda leaf: leaf + 1, part))
    for name, leaf in changed.items():
        moved = np.asarray(leaf - STACKED[name]).reshape(LAYERS, -1).mean(axis=1)
        np.testing.assert_allclose(moved, [1, 0, 0, 1, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ([0, 5], "block 5 is not one of 5 blocks, 0 to 4"),
        ([-1, 2], "block -1 is not one of 5 blocks"),
        ([2, 1], "the blocks [2, 1] are not ascending"),
        ([1, 1], "the blocks [1, 1] are not ascending"),
    ],
)
def test_an_index_that_jax_would_clamp_is_refused_on_the_host(index: list[int], words: str) -> None:
    with refused("block-index", words):
        raptr_jax.block_mask(index, LAYERS)


def test_a_stack_whose_leading_axes_differ_is_refused() -> None:
    with refused("block-stack", "same leading axis: ['b'] 4, ['w'] 5"):
        raptr_jax.scan_blocks(block, {**STACKED, "b": STACKED["b"][:4]}, X)
    with refused("block-stack", "['s'] none"):
        raptr_jax.unstack({"s": jnp.zeros(())})
    with refused("block-stack", "holds no parameter"):
        depth({})


def test_blocks_that_are_not_alike_are_refused() -> None:
    with refused("block-stack", "block 1 is not like block 0: ['b'] is float32[4] there and float32[3] in block 0"):
        raptr_jax.stack([BLOCKS[0], {**BLOCKS[1], "b": np.zeros(4, np.float32)}])
    with refused("block-stack", "['g'] is float32[1] there and missing in block 0"):
        raptr_jax.stack([BLOCKS[0], {**BLOCKS[1], "g": np.zeros(1, np.float32)}])
    with refused("block-stack", "no block"):
        raptr_jax.stack([])
