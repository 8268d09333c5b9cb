"""The vmapped optimizer against optax on each block by itself, under both meanings of `idle`; what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import raptr_jax
from raptr_jax.examine import examine
from raptr_jax.optim import Idle, Optimizer, Parts, require_idle
from tests.backends.drawn import refused

LAYERS = 4
TRANSFORMS = {
    "adamw": optax.adamw(1.0, weight_decay=0.1),
    "sgd": optax.sgd(1.0, momentum=0.9),
    "lion": optax.lion(1.0),
    "rmsprop": optax.rmsprop(1.0),
    "adafactor": optax.adafactor(1.0, min_dim_size_to_factor=2),
    "lamb": optax.lamb(1.0),
    "muon": optax.contrib.muon(1.0),
}


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def tree(seed: int, *leading: int) -> dict[str, jax.Array]:
    return {"w": normal(seed, *leading, 6, 8), "b": normal(seed + 1, *leading, 6)}


ACTIVE = [[0, 2], [1, 2], [0, 3]]  # of one size: one program a transform


@pytest.mark.parametrize(("name", "skips"), [("adamw", False), ("muon", False), *((name, True) for name in TRANSFORMS)])
def test_every_block_is_updated_as_by_itself(name: str, skips: bool) -> None:
    transform = TRANSFORMS[name]
    optimizer = Optimizer(None, transform, lambda _: 0.01)
    stacked, rest = tree(0, LAYERS), {"e": normal(7, 5, 6)}
    blocks = raptr_jax.unstack(stacked)
    states = [transform.init(block) for block in blocks]
    parameters = Parts(stacked, rest)
    state = optimizer.init(parameters)
    update, alone = jax.jit(optimizer.update), jax.jit(transform.update)
    for step, active in enumerate(ACTIVE):
        index = np.array(active, np.int32)
        gradients = tree(10 * step + 20, len(active))
        of_block = dict(zip(active, raptr_jax.unstack(gradients), strict=True))
        for number in range(LAYERS):
            if skips and number not in of_block:
                continue
            gradient = of_block.get(number, jax.tree.map(jnp.zeros_like, blocks[number]))
            updates, states[number] = alone(gradient, states[number], blocks[number])
            blocks[number] = jax.tree.map(lambda p, u: p + 0.01 * u, blocks[number], updates)
        idle = Idle(None if len(active) == LAYERS else index, skips)
        grads = Parts(gradients, {"e": normal(step, 5, 6)})
        parameters, state, _ = update(grads, state, parameters, np.float32(0.01), idle)
    for found, expected in zip(raptr_jax.unstack(parameters.blocks), blocks, strict=True):
        for leaf in expected:
            np.testing.assert_allclose(found[leaf], expected[leaf], rtol=1e-5, atol=2e-6)
    for found, expected in zip(raptr_jax.unstack(state.blocks), states, strict=True):
        assert jax.tree.structure(found) == jax.tree.structure(expected)


def updated(optimizer: Optimizer, gradients: Parts, idle: Idle | None = None, **rest) -> tuple[Parts, Parts, jax.Array]:
    parameters = Parts(jax.tree.map(jnp.ones_like, gradients.blocks), jax.tree.map(jnp.ones_like, gradients.rest))
    return optimizer.update(gradients, optimizer.init(parameters), parameters, jnp.float32(1), idle, **rest)


def test_the_gradient_is_clipped_once_over_the_whole_tree() -> None:
    optimizer = raptr_jax.optimizer(1.0, optax.sgd(1.0), lr=1.0)
    gradients = Parts({"w": jnp.full((2, 2), 1.5)}, {"e": jnp.full(4, 2.0)})  # norms 3 and 4
    parameters, _, norm = updated(optimizer, gradients)
    assert float(norm) == 5
    np.testing.assert_allclose(1 - parameters.blocks["w"], 1.5 / (5 + 1e-6), rtol=1e-6)
    np.testing.assert_allclose(1 - parameters.rest["e"], 2.0 / (5 + 1e-6), rtol=1e-6)
    small = jax.tree.map(lambda leaf: leaf / 100, gradients)
    np.testing.assert_allclose(1 - updated(optimizer, small)[0].rest["e"], 0.02, rtol=1e-5)


@pytest.mark.parametrize("skips", [False, True], ids=["blocks updated", "blocks skipped"])
def test_rows_that_are_not_touched_stay_to_the_bit_and_counts_advance(skips: bool) -> None:
    optimizer = Optimizer(None, optax.adamw(1.0, weight_decay=0.1), lambda _: 1.0)
    index = np.array([0, 2], np.int32)
    on = np.array([[1, 0, 1], [0, 1, 1]], bool)
    touched = on if skips else np.array([on[0], [1, 1, 1], on[1]], dtype=bool)
    gradients = Parts({"w": jnp.ones((2, 3, 4)), "n": jnp.ones((2, 4))}, {})
    parameters = Parts({"w": jnp.ones((3, 3, 4)), "n": jnp.ones((3, 4))}, {})
    state = optimizer.init(parameters)
    idle = Idle(index, skips, {"w": touched, "n": None})
    parameters, state, _ = optimizer.update(gradients, state, parameters, jnp.float32(0.1), idle)
    idles = np.array([on[0], np.full(3, not skips), on[1]])
    assert (np.asarray(parameters.blocks["w"] != 1) == idles[:, :, None]).all()
    assert (np.asarray(parameters.blocks["n"] != 1) == np.array([[1], [not skips], [1]])).all()
    adam = state.blocks[0]
    assert adam.count.tolist() == [1, int(not skips), 1]
    assert (np.asarray(adam.mu["w"] != 0) == np.array([on[0], [0] * 3, on[1]])[:, :, None]).all()


@pytest.mark.parametrize("bad", ["gradient", "loss"])
def test_nothing_changes_where_a_number_is_not_finite(bad: str) -> None:
    optimizer = Optimizer(1.0, optax.adamw(1.0), lambda _: 1.0)
    gradients = Parts({"w": jnp.ones((2, 3))}, {"e": jnp.full(4, jnp.nan if bad == "gradient" else 1.0)})
    parameters, state, _ = updated(optimizer, gradients, accept=bad == "gradient")
    assert (parameters.blocks["w"] == 1).all()
    assert (parameters.rest["e"] == 1).all()
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(state))


def test_the_learning_rate_is_of_the_step_of_the_run() -> None:
    schedule = optax.linear_schedule(1.0, 0.0, 10)
    optimizer = raptr_jax.optimizer(None, optax.sgd(1.0), lr=schedule)
    assert [float(optimizer.lr(step)) for step in (0, 5, 10)] == [1.0, 0.5, 0.0]
    assert raptr_jax.optimizer(None, optax.sgd(1.0), lr=0.25).lr(3) == 0.25


@pytest.mark.parametrize(
    ("transform", "code"),
    [
        (optax.adamw(optax.constant_schedule(1.0)), "optim-schedule"),
        (optax.inject_hyperparams(optax.adamw)(1.0), "optim-schedule"),
        (optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1.0)), "optim-coupled"),
        (optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(1.0)), "optim-coupled"),
        (optax.scale_by_adam(), "optim-ascends"),
    ],
)
def test_what_would_not_mean_what_it_says_is_refused(transform: optax.GradientTransformation, code: str) -> None:
    with refused(code):
        raptr_jax.optimizer(1.0, transform, lr=1e-3)


FACTS = {  # whether elements are updated by themselves, and whether movement dies away under zero gradients
    "adamw": (True, True),
    "sgd": (True, True),
    "lion": (True, False),
    "rmsprop": (True, True),
    "adafactor": (False, True),
    "lamb": (False, False),
    "muon": (False, False),
}


@pytest.mark.parametrize("name", FACTS)
def test_idle_rules_that_a_transform_cannot_keep_are_refused(name: str) -> None:
    facts = examine(TRANSFORMS[name])
    assert (facts.is_elementwise, facts.fades) == FACTS[name]
    assert not (facts.is_coupled or facts.has_schedule or facts.ascends)
    require_idle(facts, [("depth", "skip")], ["heads", "width"])
    if not facts.is_elementwise:
        with refused("optimizer-idle-rows", "cannot leave out rows of it along width"):
            require_idle(facts, [("width", "skip")], ["heads", "width"])
    if not facts.fades:
        with refused("optimizer-idle-zero", "move idle parts of depth at full strength"):
            require_idle(facts, [("depth", "zero")], ["heads", "width"])
