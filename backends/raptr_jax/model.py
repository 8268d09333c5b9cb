"""The small transformer of `raptr_dsl.backend.network` in flax nnx, its blocks stacked along a leading axis.

Under `jit` the shapes of the masks say what is compiled and their values what runs: blocks by a gather and a scan,
heads and hidden units by rows of their unit-major weights inside the scan. Where everything runs, nothing is selected
and nothing multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from numpy.typing import NDArray

from raptr_dsl.backend.network import NORM_EPS, ffn_units, initial_values, parameters
from raptr_dsl.ir.model import ModelShape
from raptr_jax.activation import activation
from raptr_jax.apply import PER_BLOCK, Masks, Rows
from raptr_jax.experts import Weights, mixture
from raptr_jax.mesh import by_batch, regathering, replicate
from raptr_jax.scan import scan_blocks, take

Values = Mapping[str, Any]
"""Nested by the parts of a parameter's name; below `blocks` the leaves of all blocks are stacked."""


class Norm(nnx.Module):
    """(x − mean) / √(variance + eps) · weight + bias over the last axis; `dtype` is that of what it returns."""

    def __init__(self, values: Values, dtype: Any) -> None:
        self.weight, self.bias = nnx.Param(values["weight"]), nnx.Param(values["bias"])
        self.dtype = dtype

    def __call__(self, x: Array) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        inverse = jax.lax.rsqrt((centred**2).mean(axis=-1, keepdims=True) + NORM_EPS)
        return (centred * inverse * self.weight[...] + self.bias[...]).astype(self.dtype)


class InputProjection(nnx.Module):
    """Hidden vectors into units, `x @ Wᵀ + b`: weight `[units, size, hidden]`, bias `[units, size]`."""

    def __init__(self, values: Values) -> None:
        self.weight, self.bias = nnx.Param(values["weight"]), nnx.Param(values["bias"])

    def __call__(self, x: Array, rows: Rows | None) -> Array:
        """[batch, seq, hidden] → [batch, seq, count, size]."""
        weight, bias = self.weight[...], self.bias[...]
        if rows is not None:
            weight, bias = take(weight, rows.index), take(bias, rows.index)
        weight, bias = replicate((weight.astype(x.dtype), bias.astype(x.dtype)))
        return jnp.einsum("btd,gsd->btgs", x, weight) + bias


class OutputProjection(nnx.Module):
    """Units back into hidden vectors, `(factor · x) @ W + b`: weight `[units, size, hidden]`, bias `[hidden]`."""

    def __init__(self, values: Values) -> None:
        self.weight, self.bias = nnx.Param(values["weight"]), nnx.Param(values["bias"])

    def __call__(self, x: Array, rows: Rows | None) -> Array:
        """[batch, seq, count, size] → [batch, seq, hidden]."""
        weight = self.weight[...]
        if rows is not None:  # in any real run the weight is a smaller tensor than x
            weight = take(weight, rows.index) * rows.factor[:, None, None]
        return jnp.einsum("btgs,gsd->btd", x, replicate(weight.astype(x.dtype))) + self.bias[...].astype(x.dtype)


class Attention(nnx.Module):
    """Attention whose units are key/value heads with the query heads they serve."""

    def __init__(self, values: Values, shape: ModelShape) -> None:
        self.head_dim, self.causal = shape.head_dim, shape.causal
        self.query, self.key = InputProjection(values["query"]), InputProjection(values["key"])
        self.value, self.output = InputProjection(values["value"]), OutputProjection(values["output"])

    def __call__(self, x: Array, rows: Rows | None) -> Array:
        """[batch, seq, hidden] → [batch, seq, hidden]."""
        query, key, value = self.query(x, rows), self.key(x, rows), self.value(x, rows)
        query = query.reshape(*query.shape[:3], -1, self.head_dim)
        scores = jnp.einsum("btgqs,bugs->bgqtu", query, key) / np.sqrt(self.head_dim).astype(x.dtype)
        if x.dtype == jnp.bfloat16:
            scores = scores.astype(jnp.float32)
        if self.causal:
            scores = jnp.where(jnp.tri(scores.shape[-1], dtype=bool), scores, -jnp.inf)
        weights = jax.nn.softmax(scores, axis=-1).astype(x.dtype)
        mixed = jnp.einsum("bgqtu,bugs->btgqs", weights, value)
        return self.output(mixed.reshape(*mixed.shape[:3], -1), rows)


class FeedForward(nnx.Module):
    """GELU between two projections, or SiLU on the gate times a third one."""

    def __init__(self, values: Values) -> None:
        self.gate = InputProjection(values["gate"]) if "gate" in values else None
        self.up, self.down = InputProjection(values["up"]), OutputProjection(values["down"])

    def __call__(self, x: Array, rows: Rows | None) -> Array:
        """[batch, seq, hidden] → [batch, seq, hidden]."""
        up = self.up(x, rows)
        return self.down(activation(up, None if self.gate is None else self.gate(x, rows)), rows)


class Experts(nnx.Module):
    """Feed-forward parts of which each token is computed by `top_k`, those that a router scores highest."""

    def __init__(self, values: Values, shape: ModelShape) -> None:
        self.top_k = shape.top_k
        self.router = Router(values["router"])
        self.gate = InputProjection(values["gate"]) if "gate" in values else None
        self.up, self.down = InputProjection(values["up"]), OutputProjection(values["down"])

    def __call__(self, x: Array, rows: Rows | None) -> Array:
        """[batch, seq, hidden] → [batch, seq, hidden]."""
        gate = (None, None) if self.gate is None else (self.gate.weight[...], self.gate.bias[...])
        weights = replicate(Weights(self.up.weight[...], self.up.bias[...], self.down.weight[...], *gate))
        tokens, index = x.reshape(-1, x.shape[-1]), None if rows is None else rows.index
        mixed = mixture(tokens, self.router(tokens, rows), weights, index, self.top_k)
        return mixed.reshape(x.shape) + self.down.bias[...].astype(x.dtype)


class Router(nnx.Module):
    """Scores of experts, `x @ Wᵀ`: weight `[experts, hidden]`."""

    def __init__(self, values: Values) -> None:
        self.weight = nnx.Param(values["weight"])

    def __call__(self, tokens: Array, rows: Rows | None) -> Array:
        """[tokens, hidden] → [tokens, count]."""
        weight = self.weight[...] if rows is None else take(self.weight[...], rows.index)
        return jnp.einsum("nd,ed->ne", tokens, replicate(weight.astype(tokens.dtype)))


class Block(nnx.Module):
    """Attention, then feed-forward, each behind its norm."""

    def __init__(self, values: Values, shape: ModelShape, dtype: Any) -> None:
        self.attention_norm, self.attention = (
            Norm(values["attention_norm"], dtype),
            Attention(values["attention"], shape),
        )
        self.ffn_norm, self.ffn = Norm(values["ffn_norm"], dtype), FeedForward(values["ffn"])
        if shape.has_experts:
            self.ffn = Experts(values["ffn"], shape)
        self.ffn_axis = ffn_units(shape)[0]

    def __call__(self, y: Array, *units: Rows | None) -> tuple[Array, Array]:
        """A part without any unit on is its output bias alone.

        Args:
            y: [batch, seq, hidden]. units: those that run, by `PER_BLOCK`.

        Returns:
            y, and int32[2 + axes] that ran: blocks, units by `PER_BLOCK`, positions.
        """
        rows: dict[str, Rows | None] = dict(zip(PER_BLOCK, units, strict=True))
        heads, ffn = rows["heads"], rows[self.ffn_axis]
        counts = {"heads": _count(heads, self.attention.key), self.ffn_axis: _count(ffn, self.ffn.up)}
        ran = 1, *(counts.get(axis, 0) for axis in PER_BLOCK), y.shape[1]
        y += self.attention(self.attention_norm(y), heads) if counts["heads"] else self.attention.output.bias[...]
        y += self.ffn(self.ffn_norm(y), ffn) if counts[self.ffn_axis] else self.ffn.down.bias[...]
        return y, jnp.array(ran, dtype=jnp.int32)


class Transformer(nnx.Module):
    """A decoder (`shape.causal`) or an encoder; see `raptr_dsl.backend.network` for its parameters."""

    def __init__(self, shape: ModelShape, values: Values, dtype: Any = jnp.float32) -> None:
        """`dtype` is that of the matmuls: bfloat16 leaves weights and the residual stream in float32."""
        self.shape, self.dtype = shape, dtype
        self.embedding, self.position = Table(values["embedding"]), Table(values["position"])
        self.blocks = Block(values["blocks"], shape, dtype)
        self.norm = Norm(values["norm"], dtype)
        self.head = None if shape.tied else Table(values["head"])

    def __call__(self, inputs: Array, positions: Array | None = None, masks: Masks | None = None) -> Array:
        """Logits; see `run`."""
        return self.run(inputs, positions, masks)[0]

    def run(self, inputs: Array, positions: Array | None, masks: Masks | None) -> tuple[Array, Array]:
        """Logits, and the units that ran.

        Args:
            inputs: int[batch, seq] tokens.
            positions: int[batch, p], where the head predicts; None for everywhere.
            masks: what runs; None for everything.

        Returns:
            [batch, p, vocab] (or [batch, seq, vocab]), and int32[2 + axes]: blocks, units by `PER_BLOCK`, positions.
        """
        tokens, places = replicate((self.embedding.weight[...], self.position.weight[...]))
        y = tokens[inputs] + places[: inputs.shape[1]]
        y, ran = self._through(y, masks or Masks())
        if positions is not None:
            y = jnp.take_along_axis(y, positions[..., None], axis=1)
        head = tokens if self.head is None else replicate(self.head.weight[...])
        return jnp.einsum("btd,vd->btv", self.norm(y), head.astype(self.dtype)), ran

    def _through(self, y: Array, masks: Masks) -> tuple[Array, Array]:
        """Blocks that run, a scan for each span of equal numbers of units: one, but under laws of random counts."""
        graph, stacked = nnx.split(self.blocks)

        def block(parameters: nnx.State, y: Array, *units_and_positions: Any) -> tuple[Array, Array]:
            *units, positions = units_and_positions
            seen = y if positions is None else y[:, positions]
            after, ran = nnx.merge(graph, parameters)(by_batch(seen), *units)
            return after if positions is None else y.at[:, positions].set(after), ran

        if masks.index is not None:
            stacked = take(stacked, masks.index)
        ran = jnp.zeros(2 + len(PER_BLOCK), dtype=jnp.int32)
        for part, span, flows in masks.spans_of(stacked):
            if not flows:
                part, y, span = jax.lax.stop_gradient((part, y, span))
            y, counts = scan_blocks(regathering(block), part, y, span, has_aux=True)
            if span.on is not None:
                counts *= span.on[:, None]
            ran += counts.sum(axis=0, dtype=jnp.int32)
        return y, ran


class Table(nnx.Module):
    """Vectors by their number: weight `[count, hidden]`."""

    def __init__(self, values: Values) -> None:
        self.weight = nnx.Param(values["weight"])


def build(shape: ModelShape, seed: int, dtype: Any = jnp.float32) -> Transformer:
    """The transformer with the initial weights that every backend has for that seed; see `Transformer` for `dtype`."""
    stored = np.float64 if dtype == jnp.float64 else np.float32
    values = {name: value.astype(stored) for name, value in initial_values(shape, seed).items()}
    return Transformer(shape, nest(shape, values), dtype)


def nest(shape: ModelShape, values: Mapping[str, NDArray]) -> dict[str, Any]:
    """Values by the names of the core's table → the model's tree, blocks stacked. `flat` is its inverse."""
    tree: dict[str, Any] = {}
    per_block: list[dict[str, Any]] = [{} for _ in range(shape.layers)]
    for entry in parameters(shape):
        if entry.block is None:
            _set(tree, entry.name.split("."), values[entry.name])
        else:
            _set(per_block[entry.block], entry.name.split(".")[2:], values[entry.name])
    return {**tree, "blocks": jax.tree.map(lambda *leaves: np.stack(leaves), *per_block)}


def flat(shape: ModelShape, tree: Values) -> dict[str, NDArray]:
    """The model's tree → copies of its values by the names of the core's table. `nest` is its inverse."""
    values = {}
    for entry in parameters(shape):
        words = entry.name.split(".")
        leaf = _get(tree, words if entry.block is None else ["blocks", *words[2:]])
        values[entry.name] = np.array(leaf if entry.block is None else leaf[entry.block])
    return values


def _count(rows: Rows | None, projection: InputProjection) -> int:
    return projection.weight.shape[0] if rows is None else rows.index.shape[0]


def _set(tree: dict[str, Any], words: list[str], value: Any) -> None:
    for word in words[:-1]:
        tree = tree.setdefault(word, {})
    tree[words[-1]] = value


def _get(tree: Any, words: list[str]) -> Any:
    for word in words:
        tree = tree[word]
    return tree
