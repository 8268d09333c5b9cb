"""A mixture of experts in static shapes: tokens sorted by expert, in tiles of equally many rows, each of one expert.

How many tokens an expert gets is data, and a program has one shape. So there are as many tiles as any split of the
tokens can need; the rows that fill them up are zeros, are computed, and are discarded. (Gale et al. 2022, MegaBlocks,
arXiv 2211.15841, has tiles of blocks on the GPU. `jax.lax.ragged_dot` is written for this, and on a CPU multiplies
every token with every expert.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from raptr_jax.activation import activation

TILES_EACH = 4
"""Tiles that an expert fills where tokens fall evenly: more are fewer rows of zeros, and more copies of weights."""


class Weights(NamedTuple):
    """Of all experts, whether they run or not: [experts, ffn, hidden], biases [experts, ffn]."""

    up: Array
    up_bias: Array
    down: Array
    gate: Array | None = None
    gate_bias: Array | None = None


@dataclass(frozen=True, slots=True)
class Tiling:
    """Tiles of `size` rows, enough for rows that are split among experts in any way."""

    tiles: int
    size: int

    @property
    def rows(self) -> int:
        return self.tiles * self.size


def tiling(rows: int, experts: int) -> Tiling:
    """The tiles for so many rows: one expert's last tile may be nearly empty, and so may each other's."""
    size = -(-rows // (TILES_EACH * experts))
    busy = min(rows, experts)
    return Tiling(busy + (rows - busy) // size, size)


def mixture(x: Array, logits: Array, weights: Weights, index: Any, top_k: int) -> Array:
    """Each token through the `top_k` experts that it scores highest, weighted by the softmax of those scores.

    Args:
        x: [tokens, hidden]. logits: [tokens, count], of the experts that run.
        index: int32[count] of these experts, or None where all run.

    Returns:
        [tokens, hidden]
    """
    scores, chosen = lax.top_k(logits, top_k)
    rows, count = chosen.size, logits.shape[1]
    tiles = tiling(rows, count)
    expert = chosen.reshape(-1)  # of each row: token and place among its experts
    order = jnp.argsort(expert, stable=True)
    load = jnp.zeros(count, jnp.int32).at[expert].add(1)
    filled = -(-load // tiles.size)
    last = jnp.cumsum(filled, dtype=jnp.int32)
    of_tile = jnp.minimum(jnp.searchsorted(last, jnp.arange(tiles.tiles), side="right"), count - 1)
    sorted_expert = expert[order]
    number = jnp.arange(rows, dtype=jnp.int32)
    within = number - (jnp.cumsum(load, dtype=jnp.int32) - load)[sorted_expert]
    slot = jnp.zeros(rows, jnp.int32).at[order].set((last - filled)[sorted_expert] * tiles.size + within)
    source = jnp.full(tiles.rows, len(x), jnp.int32).at[slot].set(number // top_k)
    which = of_tile if index is None else jnp.asarray(index)[of_tile]
    # what is gathered is as large as several copies of the weights: again in the backward pass, instead of kept
    run = jax.checkpoint(_tiles, policy=_is_not_gathered, prevent_cse=False, static_argnums=(4,))
    computed = run(weights, x, source, which, tiles.size)
    shares = jax.nn.softmax(scores.astype(jnp.promote_types(scores.dtype, jnp.float32)), axis=-1).astype(x.dtype)
    return (computed[slot].reshape(*chosen.shape, -1) * shares[..., None]).sum(axis=1)


def _tiles(weights: Weights, x: Array, source: Array, which: Array, size: int) -> Array:
    """Rows of tokens (the one behind the last is zero) through the expert of their tile: [rows, hidden]."""
    rows = jnp.concatenate([x, jnp.zeros_like(x[:1])])[source].reshape(-1, size, x.shape[1])
    up, up_bias, down, gate, gate_bias = jax.tree.map(lambda leaf: leaf.astype(x.dtype)[which], weights)

    def into(weight: Array, bias: Array) -> Array:
        return jnp.einsum("tsd,tfd->tsf", rows, weight) + bias[:, None]

    inner = activation(into(up, up_bias), None if gate is None else into(gate, gate_bias))
    return jnp.einsum("tsf,tfd->tsd", inner, down).reshape(-1, x.shape[1])


def _is_not_gathered(primitive: Any, *_: Any, **parameters: Any) -> bool:
    """A policy of `jax.checkpoint`: everything is kept but what was gathered, which is gathered again."""
    return primitive.name != "gather"
