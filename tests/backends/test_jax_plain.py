"""A plan that runs everything trains as the same model does without it: a loop of flax and optax alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from raptr_dsl import compile_text
from raptr_dsl.backend import TrainSettings
from raptr_dsl.backend.network import parameters
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_jax import BACKEND
from raptr_jax.model import build, flat
from tests.backends.drawn import batch

MODEL = (
    "model layers=4 heads=4 kv_heads=2 hidden=16 ffn=24 gated=true tied=false vocab=11 seq=8 batch=4; steps 8; seed 3;"
)
SETTINGS = TrainSettings(lr=1e-2, warmup=2, clip=1e9)


def plain(plan: Plan, settings: TrainSettings) -> tuple[list[float], dict[str, np.ndarray]]:
    """Losses and final weights of a loop that knows nothing of plans: `lax.scan` over stacked blocks, `optax.adamw`."""
    shape, x64 = plan.shape, settings.dtype == "float64"
    with jax.enable_x64(x64):
        graph, weights = nnx.split(build(shape, settings.init_seed, jnp.dtype(settings.dtype)))
        weights = nnx.to_pure_dict(weights)
        optimizer = optax.adamw(
            1.0, settings.beta1, settings.beta2, settings.eps, weight_decay=settings.weight_decay, mask=decayed(shape)
        )
        state = optimizer.init(weights)

        def loss_of(weights: Any, inputs: Any, targets: Any) -> Any:
            model = nnx.merge(graph, weights)
            block_graph, stacked = nnx.split(model.blocks)

            def block(y: Any, of_block: Any) -> tuple[Any, None]:
                parts = nnx.merge(block_graph, of_block)
                y += parts.attention(parts.attention_norm(y), None)
                return y + parts.ffn(parts.ffn_norm(y), None), None

            y = model.embedding.weight[...][inputs] + model.position.weight[...]
            y, _ = jax.lax.scan(block, y, stacked)
            assert model.head is not None
            logits = jnp.einsum("btd,vd->btv", model.norm(y), model.head.weight[...])
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

        @jax.jit
        def step(weights: Any, state: Any, inputs: Any, targets: Any, lr: Any) -> Any:
            loss, gradients = jax.value_and_grad(loss_of)(weights, inputs, targets)
            updates, state = optimizer.update(gradients, state, weights)
            return optax.apply_updates(weights, optax.tree.scale(lr, updates)), state, loss

        losses = []
        for index in range(plan.steps):
            tokens = batch(shape, index)
            lr = np.dtype(settings.dtype).type(settings.learning_rate(index, plan.steps))
            inputs, targets = tokens.inputs.astype(np.int32), tokens.targets.astype(np.int32)
            weights, state, loss = step(weights, state, inputs, targets, lr)
            losses.append(float(loss))
        return losses, flat(shape, weights)


def decayed(shape: ModelShape) -> Any:
    """A tree like the weights: which are decayed."""
    tree: dict[str, Any] = {}
    for entry in parameters(shape):
        words = entry.name.split(".")
        *path, last = words if entry.block is None else ["blocks", *words[2:]]
        node = tree
        for word in path:
            node = node.setdefault(word, {})
        node[last] = entry.decay
    return tree


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_full_steps_are_plain_training(dtype: str) -> None:
    """The first losses to the bit; weights to the last digits, for XLA fuses another program's update otherwise."""
    plan = compile_text(f"{MODEL} stage steps=rest")
    settings = SETTINGS.model_copy(update={"dtype": dtype})
    trainer = BACKEND.trainer(plan, settings)
    losses = [trainer.step(index, batch(plan.shape, index)).loss for index in range(plan.steps)]
    expected, weights = plain(plan, settings)
    assert losses[:2] == expected[:2]
    digits = np.finfo(dtype).eps
    np.testing.assert_allclose(losses, expected, rtol=10 * digits)
    for name, value in trainer.export_state().parameters.items():
        if name.endswith("key.bias"):  # its gradient is zero but for rounding, which Adam scales up
            continue
        assert np.abs(value - weights[name]).max() <= 100 * digits * np.abs(value).max(), name
