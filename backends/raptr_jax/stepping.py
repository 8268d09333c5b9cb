"""The functions that the trainer compiles: one optimizer step, and one evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from raptr_dsl.backend import Batch, TrainSettings
from raptr_dsl.ir.model import ModelShape
from raptr_jax.apply import Masks
from raptr_jax.model import Transformer
from raptr_jax.names import by_path, whole
from raptr_jax.optim import Idle, Optimizer, Parts
from raptr_jax.places import Places
from raptr_jax.scan import take

Tokens = tuple[Any, Any, Any]
"""Inputs, targets, and positions or None."""


def tokens_of(batch: Batch) -> Tokens:
    """int32, so that programs are the same whatever `jax_enable_x64` says."""
    positions = None if batch.positions is None else batch.positions.astype(np.int32)
    return batch.inputs.astype(np.int32), batch.targets.astype(np.int32), positions


def micro_batches_of(rows: int, shape: ModelShape, settings: TrainSettings) -> int:
    """In how many micro-batches a step of so many sequences is run: equal ones, none larger than in a full step."""
    most = shape.batch // settings.micro_batches
    return next(parts for parts in range(1, rows + 1) if rows % parts == 0 and rows <= parts * most)


def training_step(
    graph: nnx.GraphDef[Transformer], shape: ModelShape, optimizer: Optimizer, settings: TrainSettings, places: Places
) -> Callable[..., tuple[Parts, Parts, dict[str, Any]]]:
    axes = {path: entry.axis for path, entry in by_path(shape) if entry.block is not None}
    homes = {path[0]: entry.part for path, entry in by_path(shape) if entry.block is None}

    def frozen(masks: Masks) -> frozenset[str]:
        """The names, outside the blocks, of what is not trained."""
        return frozenset(name for name, part in homes.items() if part in masks.frozen)

    def loss_of_trained(trained: Parts, taken: Array | None, tokens: Tokens, masks: Masks) -> tuple[Array, Array]:
        stopped = {name: jax.lax.stop_gradient(trained.rest[name]) for name in frozen(masks)}
        trained = trained._replace(rest={**trained.rest, **stopped})
        return loss_of(graph, trained, tokens, replace(masks, taken=taken))

    def gradients_of(trained: Parts, tokens: Tokens, masks: Masks) -> Any:
        taken = None if masks.trains is None else jnp.zeros(masks.trains.shape, jnp.float32)
        result, (gradients, taken) = jax.value_and_grad(loss_of_trained, (0, 1), has_aux=True)(
            trained, taken, tokens, masks
        )
        return result, places.constrained(gradients), () if taken is None else masks.taken_by_span(taken)

    def accumulated(trained: Parts, tokens: Tokens, masks: Masks) -> Any:
        """The step's mean loss and the units that ran, its gradients, and the blocks that had gradients, by span."""
        micro_batches = micro_batches_of(tokens[0].shape[0], shape, settings)
        if micro_batches == 1:
            return gradients_of(trained, tokens, masks)
        split = places.in_parts(tokens, micro_batches)
        start = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), jax.eval_shape(
            gradients_of, trained, jax.tree.map(lambda array: array[0], split), masks
        ))  # fmt: skip

        def add(total: Any, part: Tokens) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, gradients_of(trained, part, masks)), None

        (loss, ran), gradients, taken = jax.lax.scan(add, start, split)[0]
        mean = jax.tree.map(lambda total: total / micro_batches, (loss, gradients))
        return (mean[0], ran), mean[1], taken

    def step(
        parameters: Parts, state: Parts, tokens: Tokens, masks: Masks, lr: Array
    ) -> tuple[Parts, Parts, dict[str, Any]]:
        blocks, factor = take((parameters.blocks, parameters.factor if masks.learned else None), masks.index)
        running = Parts(blocks, parameters.rest, factor)
        (loss, ran), gradients, taken = accumulated(running, tokens, masks.without_index())
        touched = jax.tree_util.tree_map_with_path(
            lambda path, _: masks.touched.get(axes[tuple(part.key for part in path)] or ""), blocks
        )
        idle = Idle(
            masks.index,
            masks.skips_blocks,
            touched if masks.touched else None,
            masks.trained,
            frozen(masks),
            masks.learned,
        )
        parameters, state, norm = optimizer.update(gradients, state, parameters, lr, idle, jnp.isfinite(loss))
        return parameters, state, {"loss": loss, "norm": norm, "ran": ran, "taken": taken}

    return step


def evaluation(graph: nnx.GraphDef[Transformer]) -> Callable[[Parts, Tokens, Masks], Array]:
    return lambda parameters, tokens, masks: loss_of(graph, parameters, tokens, masks)[0]


def loss_of(graph: nnx.GraphDef[Transformer], trained: Parts, tokens: Tokens, masks: Masks) -> tuple[Array, Array]:
    """The mean cross-entropy over all targets, and the units that ran."""
    inputs, targets, positions = tokens
    if masks.learned:
        assert masks.factor is not None
        masks = replace(masks, factor=masks.factor * _where_trained(trained.factor, masks.trains))
    logits, ran = nnx.merge(graph, whole(trained)).run(inputs, positions, masks)
    if logits.dtype == jnp.bfloat16:
        logits = logits.astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean(), ran


def _where_trained(factor: Array, trains: Any) -> Array:
    """The same, with gradients where blocks train."""
    return factor if trains is None else jnp.where(trains, factor, jax.lax.stop_gradient(factor))
