"""Models that somebody else wrote: linen as MaxText scans it, nnx, plain trees; and a loop of their own by a runner."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import raptr_dsl as raptr
import raptr_jax
from raptr_dsl.ir.plan import Plan
from raptr_jax.optim import Idle, Parts
from raptr_jax.runner import Runner
from raptr_jax.scan import take
from tests.backends.drawn import refused

LAYERS, WIDTH, FFN = 4, 8, 16
X = np.random.default_rng(0).standard_normal((2, 3, WIDTH)).astype(np.float32)

PLAN = """
model layers=4 heads=2 hidden=8 ffn=16 vocab=8 seq=3 batch=2
steps 6
seed 17
stage depth=2/4 scale=sqrt idle=skip steps=3
stage steps=rest
"""


# --- linen, as MaxText lays it out: one module scanned, its parameters stacked along axis 1 ------------------------


class DecoderLayer(linen.Module):
    @linen.compact
    def __call__(self, x: Any, _: Any = None) -> Any:
        y = linen.RMSNorm(name="pre_self_attention_norm")(x)
        x = x + linen.MultiHeadDotProductAttention(2, qkv_features=WIDTH, name="self_attention")(y, y)
        y = linen.RMSNorm(name="mlp_norm")(x)
        wi, wo = linen.Dense(FFN, use_bias=False, name="wi"), linen.Dense(WIDTH, use_bias=False, name="wo")
        return x + wo(linen.silu(wi(y))), None


def scanned_decoder() -> tuple[linen.Module, Any]:
    scan = linen.scan(
        DecoderLayer, variable_axes={"params": 1}, split_rngs={"params": True}, length=LAYERS, in_axes=linen.broadcast
    )
    decoder = scan(name="layers")
    return decoder, decoder.init(jax.random.key(0), X, None)["params"]


def test_a_scanned_linen_model_as_maxtext_lays_it_out() -> None:
    decoder, scan_parameters = scanned_decoder()
    assert scan_parameters["wi"]["kernel"].shape == (WIDTH, LAYERS, FFN)

    def layer(parameters: Any, x: Any) -> Any:
        return DecoderLayer().apply({"params": parameters}, x)[0]

    stacked = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), scan_parameters)
    run = jax.jit(lambda mask: raptr_jax.scan_blocks(layer, stacked, X, mask))
    expected, _ = decoder.apply({"params": scan_parameters}, X, None)
    np.testing.assert_allclose(run(raptr_jax.BlockMask()), expected, rtol=1e-5, atol=1e-6)
    expected = X
    for number in (0, 3):
        block = raptr_jax.unstack(stacked)[number]
        expected = expected + 1.5 * (layer(block, expected) - expected)
    np.testing.assert_allclose(run(raptr_jax.block_mask([0, 3], LAYERS, 1.5)), expected, rtol=1e-5, atol=1e-6)


# --- nnx -----------------------------------------------------------------------------------------------------------


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.into, self.out_of = nnx.Linear(WIDTH, FFN, rngs=rngs), nnx.Linear(FFN, WIDTH, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return x + self.out_of(nnx.gelu(self.into(x)))


def test_blocks_of_nnx() -> None:
    blocks = [Block(nnx.Rngs(seed)) for seed in range(LAYERS)]
    graph, _ = nnx.split(blocks[0])
    stacked = raptr_jax.stack([nnx.state(block) for block in blocks])
    found = raptr_jax.scan_blocks(
        lambda parameters, x: nnx.merge(graph, parameters)(x), stacked, X, raptr_jax.block_mask([1, 2], LAYERS)
    )
    np.testing.assert_allclose(found, blocks[2](blocks[1](jnp.asarray(X))), rtol=1e-5, atol=1e-6)


# --- a loop of one's own -------------------------------------------------------------------------------------------


def plain_block(parameters: Any, x: Any) -> Any:
    return x + jnp.tanh(x @ parameters["w"])


def plain_stack() -> Any:
    random = np.random.default_rng(1)
    return raptr_jax.stack([{"w": random.normal(scale=0.1, size=(WIDTH, WIDTH)).astype(np.float32)} for _ in range(4)])


OPTIMIZER = raptr_jax.optimizer(1.0, optax.sgd(1.0), 0.1)


def train_step(forward: Callable[..., Any], parameters: Parts, state: Parts, x: Any, mask: Any, lr: Any) -> Any:
    def loss_of(running: Parts) -> Any:
        return jnp.mean(forward(running.blocks, x, mask._replace(index=None)) ** 2)

    index = mask.index
    running = parameters if index is None else parameters._replace(blocks=take(parameters.blocks, index))
    loss, gradients = jax.value_and_grad(loss_of)(running)
    parameters, state, _ = OPTIMIZER.update(gradients, state, parameters, lr, Idle(index, skips=True))
    return parameters, state, loss


def masked(blocks: Any, x: Any, mask: Any) -> Any:
    return raptr_jax.scan_blocks(plain_block, blocks, x, mask)


def attached(plan: Plan | None = None) -> tuple[Runner, Parts, Parts]:
    parameters = Parts(plain_stack(), {})
    runner = raptr_jax.attach(parameters.blocks, plan or raptr.compile_text(PLAN), OPTIMIZER)
    return runner, parameters, OPTIMIZER.init(parameters)


def test_a_loop_of_ones_own_is_kept_in_turn_and_audited() -> None:
    runner, parameters, state = attached()
    step = runner.jit(lambda *arguments: train_step(masked, *arguments), donated=2)
    losses = []
    for index in range(runner.next_step, runner.plan.steps):
        with runner.step(index) as mask:
            if not index:
                runner.prepare(step, 3, parameters, state, X, mask, np.float32(0))
            parameters, state, loss = step(parameters, state, X, mask, np.float32(OPTIMIZER.lr(index)))
        losses.append(float(loss))
    assert losses[5] < losses[3]
    assert len(step) == runner.plan.shapes == 2
    audit = runner.audit()
    assert (audit.planned, audit.executed, audit.holds) == (3 * 2 + 3 * 4, 18, True)
    one_block = 3 * 2 * X[..., 0].size * WIDTH * WIDTH  # forward, and both gradients but that of X
    assert 0 < runner.executed().flops <= 18 * one_block
    with runner.full() as mask:
        step(parameters, state, X, mask, np.float32(0))
    assert runner.audit() == audit
    with refused("step-beyond"), runner.step(6):
        pass


def test_a_step_out_of_turn_and_a_call_outside_a_step_are_refused() -> None:
    runner, parameters, state = attached()
    step = runner.jit(lambda *arguments: train_step(masked, *arguments))
    with refused("step-order", "step 1 comes too early"), runner.step(1):
        pass
    with refused("step-outside"):
        step(parameters, state, X, raptr_jax.BlockMask(), np.float32(0))
    with runner.step(0), refused("step-open"), runner.full():
        pass
    assert runner.next_step == 1
    assert not runner.audit().holds  # two blocks were planned, and nothing was called


def test_a_function_that_runs_everything_all_the_same_is_found_out() -> None:
    runner, parameters, _ = attached()
    multiplied = runner.jit(lambda blocks, mask: raptr_jax.scan_blocks(plain_block, blocks, X))
    with refused("mask-unused", "runs the same blocks whatever the mask says"), runner.step(0) as mask:
        multiplied(parameters.blocks, mask)
    assert runner.next_step == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.astype(np.float16), "is float16[2, 3, 8], and was float32[2, 3, 8] before"),
        (lambda x: x[:1], "is float32[1, 3, 8], and was float32[2, 3, 8] before"),
    ],
)
def test_what_would_retrace_is_an_error(change: Callable[[Any], Any], words: str) -> None:
    runner, parameters, _ = attached()
    forward = runner.jit(masked)
    with runner.step(0) as mask:
        forward(parameters.blocks, X, mask)
    with refused("retrace", words), runner.step(1) as mask:
        forward(parameters.blocks, change(X), mask)
    assert len(forward) == 1
    assert runner.next_step == 1


def test_what_cannot_be_attached_to_is_refused() -> None:
    plan = raptr.compile_text(PLAN)
    with refused("attach-shape", "the plan is for 4 blocks, and the stack has 3"):
        raptr_jax.attach(jax.tree.map(lambda leaf: leaf[:3], plain_stack()), plan)
    with refused("block-stack"):
        raptr_jax.attach({**plain_stack(), "b": np.zeros((3, 2))}, plan)
    with refused("attach-model", "a JAX model is a pure function"):
        raptr_jax.attach(plain_block, plan)
    with refused("attach-model", "updates a stack of blocks as one matrix"):
        raptr_jax.attach(plain_stack(), plan, optax.sgd(0.1))
    with refused("optimizer-idle-zero"):
        raptr_jax.attach(
            plain_stack(),
            raptr.compile_text(PLAN.replace("idle=skip", "idle=zero")),
            raptr_jax.optimizer(None, optax.lion(1.0), 0.1),
        )
    uneven = PLAN.replace("depth=2/4 scale=sqrt idle=skip", "heads=1/2 heads.sample=bernoulli")
    with refused("attach-uneven", "sample=bernoulli runs another number of heads in each block"):
        raptr_jax.attach(plain_stack(), raptr.compile_text(uneven))
