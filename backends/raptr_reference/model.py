"""The small transformer in plain NumPy, forward and backward by hand: the definition that other backends are held to.

Nothing is skipped here. A mask is a multiplication by its factors, which are zero where a unit is off, so that the
meaning of a masked step is plain to see and owes nothing to how the fast backends leave work out.

Each function `f` returns its output and what its derivative needs; `f_grad` takes that and the derivative of the loss
by the output, and returns the derivatives by the inputs. Shapes: B rows, T positions, D hidden, G units of S elements.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raptr_dsl.backend import Batch
from raptr_dsl.backend.batches import shortened
from raptr_dsl.backend.network import NORM_EPS, ffn_units
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import AxisMask

Array = NDArray[np.float64]
Values = Mapping[str, Array]
Gradients = dict[str, Array]


def loss_and_gradients(
    shape: ModelShape, values: Values, batch: Batch, masks: Mapping[str, AxisMask]
) -> tuple[float, Gradients]:
    """The mean cross-entropy over all targets of a batch, and its derivative by every parameter."""
    batch = shortened(batch, masks)
    depth, heads, ffn = _factors(shape, masks)
    learned = "depth" in masks and masks["depth"].learned
    gaps = depth
    if learned:
        depth = gaps * np.array([values[f"blocks.{index}.factor"] for index in range(shape.layers)])
    rows = np.arange(batch.inputs.shape[0])[:, None]
    positions = np.arange(batch.inputs.shape[1])[None] if batch.positions is None else batch.positions
    head = values["embedding.weight" if shape.tied else "head.weight"]

    y = values["embedding.weight"][batch.inputs] + values["position.weight"][: batch.inputs.shape[1]]
    saved = []
    for index in range(shape.layers):
        seen = slice(None) if "positions" not in masks else masks["positions"].active(index)
        update = np.zeros_like(y)  # positions that a block does not see pass it by
        update[:, seen], kept = block(y[:, seen], _of(values, f"blocks.{index}"), heads[index], ffn[index], shape)
        y = y + depth[index] * update
        saved.append((seen, update, kept))
    seen, norm_saved = layer_norm(y[rows, positions], _of(values, "norm"))
    loss, d_logits = cross_entropy(seen @ head.T, batch.targets)

    gradients = {name: np.zeros_like(value) for name, value in values.items()}
    gradients["embedding.weight" if shape.tied else "head.weight"] += _outer(d_logits, seen)
    d_seen, norm_gradients = layer_norm_grad(d_logits @ head, norm_saved)
    _add(gradients, "norm", norm_gradients)
    d_y = np.zeros_like(y)
    np.add.at(d_y, (rows, positions), d_seen)
    for index in reversed(range(shape.layers)):
        looked, update, kept = saved[index]
        if learned:
            gradients[f"blocks.{index}.factor"] += gaps[index] * (d_y * update).sum()
        d_input, block_gradients = block_grad(depth[index] * d_y[:, looked], kept)
        d_y[:, looked] = d_y[:, looked] + d_input
        _add(gradients, f"blocks.{index}", block_gradients)
    np.add.at(gradients["embedding.weight"], batch.inputs, d_y)
    gradients["position.weight"][: d_y.shape[1]] += d_y.sum(axis=0)
    return loss, gradients


def block(y: Array, values: Values, heads: Array, ffn: Array, shape: ModelShape) -> tuple[Array, tuple[Any, ...]]:
    """What a block adds to y[B, T, D]: its attention's update, and its feed-forward part's on top of that."""
    normed, norm1 = layer_norm(y, _of(values, "attention_norm"))
    attended, saved1 = attention(normed, _of(values, "attention"), heads, shape)
    normed, norm2 = layer_norm(y + attended, _of(values, "ffn_norm"))
    if shape.has_experts:
        fed, saved2 = mixture(normed, _of(values, "ffn"), ffn != 0, shape.top_k)
    else:
        fed, saved2 = feed_forward(normed, _of(values, "ffn"), ffn)
    return attended + fed, (norm1, saved1, norm2, saved2, mixture_grad if shape.has_experts else feed_forward_grad)


def block_grad(d_update: Array, saved: tuple[Any, ...]) -> tuple[Array, Gradients]:
    norm1, saved1, norm2, saved2, fed_grad = saved
    gradients: Gradients = {}
    d_normed, part = fed_grad(d_update, saved2)
    _add(gradients, "ffn", part)
    d_inner, part = layer_norm_grad(d_normed, norm2)  # by y + attended
    _add(gradients, "ffn_norm", part)
    d_normed, part = attention_grad(d_update + d_inner, saved1)
    _add(gradients, "attention", part)
    d_y, part = layer_norm_grad(d_normed, norm1)
    _add(gradients, "attention_norm", part)
    return d_y + d_inner, gradients


def attention(x: Array, values: Values, factors: Array, shape: ModelShape) -> tuple[Array, tuple[Any, ...]]:
    """Attention over x[B, T, D] by G key/value heads that each serve Q query heads; factors[G] scale their outputs."""
    units, size = shape.kv_heads, shape.head_dim
    query = _project(x, values, "query").reshape(*x.shape[:2], units, -1, size)  # [B, T, G, Q, S]
    key = _project(x, values, "key")  # [B, T, G, S]
    value = _project(x, values, "value")
    scores = np.einsum("btgqs,bugs->bgqtu", query, key) / np.sqrt(size)
    if shape.causal:
        scores = np.where(np.tri(x.shape[1], dtype=bool), scores, -np.inf)
    weights = softmax(scores)
    mixed = np.einsum("bgqtu,bugs->btgqs", weights, value)
    scaled = mixed.reshape(*x.shape[:2], units, -1) * factors[:, None]
    output = np.einsum("btgs,gsd->btd", scaled, values["output.weight"]) + values["output.bias"]
    return output, (x, values, factors, query, key, value, weights, scaled)


def attention_grad(d_output: Array, saved: tuple[Any, ...]) -> tuple[Array, Gradients]:
    x, values, factors, query, key, value, weights, scaled = saved
    gradients = {
        "output.weight": np.einsum("btgs,btd->gsd", scaled, d_output),
        "output.bias": d_output.sum(axis=(0, 1)),
    }
    d_scaled = np.einsum("btd,gsd->btgs", d_output, values["output.weight"])
    d_mixed = (d_scaled * factors[:, None]).reshape(query.shape)
    d_weights = np.einsum("btgqs,bugs->bgqtu", d_mixed, value)
    d_value = np.einsum("bgqtu,btgqs->bugs", weights, d_mixed)
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    d_scores = d_scores / np.sqrt(query.shape[-1])
    d_query = np.einsum("bgqtu,bugs->btgqs", d_scores, key).reshape(scaled.shape)
    d_key = np.einsum("bgqtu,btgqs->bugs", d_scores, query)
    d_x = np.zeros_like(x)
    for name, d_product in (("query", d_query), ("key", d_key), ("value", d_value)):
        d_x += _project_grad(d_product, x, values, name, gradients)
    return d_x, gradients


def feed_forward(x: Array, values: Values, factors: Array) -> tuple[Array, tuple[Any, ...]]:
    """GELU of the up-projection of x[B, T, D], or SiLU of the gate times it; factors[G], or [B, T, G] where positions
    differ, scale the groups of units.
    """
    up = _project(x, values, "up")  # [B, T, G, S]
    gate = _project(x, values, "gate") if "gate.weight" in values else None
    activated = gelu(up) if gate is None else silu(gate) * up
    scaled = activated * factors[..., None]
    output = np.einsum("btgs,gsd->btd", scaled, values["down.weight"]) + values["down.bias"]
    return output, (x, values, factors, up, gate, scaled)


def feed_forward_grad(d_output: Array, saved: tuple[Any, ...]) -> tuple[Array, Gradients]:
    x, values, factors, up, gate, scaled = saved
    gradients = {
        "down.weight": np.einsum("btgs,btd->gsd", scaled, d_output),
        "down.bias": d_output.sum(axis=(0, 1)),
    }
    d_activated = np.einsum("btd,gsd->btgs", d_output, values["down.weight"]) * factors[..., None]
    if gate is None:
        return _project_grad(d_activated * gelu_slope(up), x, values, "up", gradients), gradients
    d_x = _project_grad(d_activated * silu(gate), x, values, "up", gradients)
    return d_x + _project_grad(d_activated * up * silu_slope(gate), x, values, "gate", gradients), gradients


def mixture(x: Array, values: Values, on: NDArray[np.bool_], top_k: int) -> tuple[Array, tuple[Any, ...]]:
    """A mixture of experts over x[B, T, D]: each expert is a group of units, whose factor is a token's weight for it.

    The weights are the softmax over the `top_k` largest logits of the router among the experts that are on, bool[E].
    """
    logits = np.where(on, np.einsum("btd,ed->bte", x, values["router.weight"]), -np.inf)
    chosen = np.zeros(logits.shape, dtype=bool)
    np.put_along_axis(chosen, np.argsort(-logits, axis=-1, kind="stable")[..., :top_k], True, axis=-1)
    weights = softmax(np.where(chosen, logits, -np.inf))
    output, saved = feed_forward(x, values, weights)
    return output, saved


def mixture_grad(d_output: Array, saved: tuple[Any, ...]) -> tuple[Array, Gradients]:
    x, values, weights, up, gate, _ = saved
    d_x, gradients = feed_forward_grad(d_output, saved)
    activated = gelu(up) if gate is None else silu(gate) * up
    d_weights = np.einsum("btes,btd,esd->bte", activated, d_output, values["down.weight"], optimize=True)
    d_logits = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    gradients["router.weight"] = np.einsum("bte,btd->ed", d_logits, x)
    return d_x + np.einsum("bte,ed->btd", d_logits, values["router.weight"]), gradients


def layer_norm(x: Array, values: Values) -> tuple[Array, tuple[Any, ...]]:
    """(x − mean) / √(variance + eps) · weight + bias over the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True)
    inverse = 1 / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + NORM_EPS)
    unit = centred * inverse
    return unit * values["weight"] + values["bias"], (unit, inverse, values["weight"])


def layer_norm_grad(d_output: Array, saved: tuple[Any, ...]) -> tuple[Array, Gradients]:
    unit, inverse, weight = saved
    over = tuple(range(d_output.ndim - 1))
    gradients = {"weight": (d_output * unit).sum(axis=over), "bias": d_output.sum(axis=over)}
    d_unit = d_output * weight
    along_mean = d_unit.mean(axis=-1, keepdims=True)
    along_unit = unit * (d_unit * unit).mean(axis=-1, keepdims=True)
    return inverse * (d_unit - along_mean - along_unit), gradients


def cross_entropy(logits: Array, targets: NDArray[np.int64]) -> tuple[float, Array]:
    """The mean over all targets, and its derivative by logits[B, P, V]."""
    probabilities = softmax(logits)
    chosen = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    most = logits.max(axis=-1)
    log_sum = most + np.log(np.exp(logits - most[..., None]).sum(axis=-1))
    hot = np.zeros_like(logits)
    np.put_along_axis(hot, targets[..., None], 1.0, axis=-1)
    return float((log_sum - chosen).mean()), (probabilities - hot) / targets.size


def softmax(x: Array) -> Array:
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def gelu(x: Array) -> Array:
    """½x(1 + tanh(√(2/π)(x + 0.044715x³))) (Hendrycks and Gimpel, arXiv 1606.08415)."""
    return x * (1 + _gelu_tanh(x)) / 2


def gelu_slope(x: Array) -> Array:
    tanh = _gelu_tanh(x)
    inner_slope = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)
    return (1 + tanh) / 2 + x * (1 - tanh**2) * inner_slope / 2


def _gelu_tanh(x: Array) -> Array:
    return np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))


def silu(x: Array) -> Array:
    return x * _sigmoid(x)


def silu_slope(x: Array) -> Array:
    sigmoid = _sigmoid(x)
    return sigmoid * (1 + x * (1 - sigmoid))


def _sigmoid(x: Array) -> Array:
    return (1 + np.tanh(x / 2)) / 2  # no overflow for any x


def _project(x: Array, values: Values, name: str) -> Array:
    """x[B, T, D] through weight[G, S, D] and bias[G, S] → [B, T, G, S]."""
    return np.einsum("btd,gsd->btgs", x, values[f"{name}.weight"]) + values[f"{name}.bias"]


def _project_grad(d_product: Array, x: Array, values: Values, name: str, gradients: Gradients) -> Array:
    """Notes the derivatives of a projection's parameters, and returns the one by x."""
    gradients[f"{name}.weight"] = np.einsum("btgs,btd->gsd", d_product, x)
    gradients[f"{name}.bias"] = d_product.sum(axis=(0, 1))
    return np.einsum("btgs,gsd->btd", d_product, values[f"{name}.weight"])


def _factors(shape: ModelShape, masks: Mapping[str, AxisMask]) -> tuple[Array, Array, Array]:
    """depth[L], heads[L, G], and [L, G] of the feed-forward part: what outputs are multiplied by; 0 where a unit is
    off. Experts that are on have 1.
    """
    ffn, units, _ = ffn_units(shape)
    everything = {
        "depth": np.ones((1, shape.layers)),
        "heads": np.ones((shape.layers, shape.kv_heads)),
        ffn: np.ones((shape.layers, units)),
    }
    for axis in everything.keys() & masks.keys():
        everything[axis] = masks[axis].on * masks[axis].scale
    return everything["depth"][0], everything["heads"], everything[ffn]


def _of(values: Values, prefix: str) -> Values:
    """The values below a dotted prefix, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in values.items() if name.startswith(start)}


def _add(gradients: Gradients, prefix: str, part: Gradients) -> None:
    for name, gradient in part.items():
        gradients[f"{prefix}.{name}"] = gradients.get(f"{prefix}.{name}", 0.0) + gradient


def _outer(d_logits: Array, seen: Array) -> Array:
    return np.einsum("bpv,bpd->vd", d_logits, seen)
