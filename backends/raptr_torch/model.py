"""The small transformer of `raptr_dsl.backend.network` as torch modules; `state_dict()` has the names of its table.

What runs in a training step is one immutable value, `Running`, that the model hands down its call tree: a block that
is off is not called, and heads and hidden units that are off are left out of the weights, so that the matmuls shrink.
Where everything runs, nothing is selected and nothing multiplied: a full stage is ordinary training, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from raptr_dsl.backend.network import GELU, NORM_EPS, ffn_units, initial_values
from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.model import ModelShape
from raptr_torch.meter import Meter


@dataclass(frozen=True, slots=True)
class Units:
    """The units of one site that run.

    Attributes:
        count: how many. index: int64[count] ascending rows of the unit-major tensors, or None for all of them.
        factor: of the units' outputs: one number, [count, 1, 1] where units differ, or None for 1.
    """

    count: int
    index: Tensor | None = None
    factor: float | Tensor | None = None

    def select(self, parameter: Tensor) -> Tensor:
        """[units, …] → [count, …], contiguous."""
        return parameter if self.index is None else parameter.index_select(0, self.index)


@dataclass(frozen=True, slots=True)
class RunningBlock:
    """One block that runs.

    Attributes:
        heads, ffn: the units of its two halves; those of the second are groups of hidden units, or experts.
        factor: of its update, None for 1; with `is_learned`, times the block's own.
        positions: int64[count] ascending positions that it sees, None for all; the others pass it by.
    """

    heads: Units
    ffn: Units
    factor: float | None = None
    is_learned: bool = False
    positions: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """What runs in a forward pass: per block its units, or None where it is off; the meter that counts it."""

    blocks: tuple[RunningBlock | None, ...]
    meter: Meter = field(default_factory=Meter)


class InputProjection(nn.Module):
    """Hidden vectors into units, `x @ Wᵀ + b`: weight `[units, size, hidden]`, bias `[units, size]`."""

    def __init__(self, units: int, size: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(units, size, hidden))
        self.bias = nn.Parameter(torch.empty(units, size))

    def forward(self, x: Tensor, units: Units, meter: Meter) -> Tensor:
        """[batch, seq, hidden] → [batch, seq, count·size]."""
        weight, bias = units.select(self.weight), units.select(self.bias)
        product = F.linear(x, weight.flatten(0, 1), bias.flatten())
        meter.matmul(x, weight, product)
        return product


class OutputProjection(nn.Module):
    """Units back into hidden vectors, `(factor · x) @ W + b`: weight `[units, size, hidden]`, bias `[hidden]`."""

    def __init__(self, units: int, size: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(units, size, hidden))
        self.bias = nn.Parameter(torch.empty(hidden))

    def forward(self, x: Tensor, units: Units, meter: Meter) -> Tensor:
        """[batch, seq, count·size] → [batch, seq, hidden]."""
        weight = units.select(self.weight)
        if units.factor is not None:
            weight = weight * units.factor  # in any real run a smaller tensor than x
        product = torch.addmm(self.bias, x.flatten(0, 1), weight.flatten(0, 1))
        meter.matmul(x, weight, product)
        return product.view(*x.shape[:2], -1)


class Attention(nn.Module):
    """Attention whose units are key/value heads with the query heads they serve."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        group = shape.heads // shape.kv_heads
        self.head_dim, self.group, self.causal = shape.head_dim, group, shape.causal
        self.query = InputProjection(shape.kv_heads, group * shape.head_dim, shape.hidden)
        self.key = InputProjection(shape.kv_heads, shape.head_dim, shape.hidden)
        self.value = InputProjection(shape.kv_heads, shape.head_dim, shape.hidden)
        self.output = OutputProjection(shape.kv_heads, group * shape.head_dim, shape.hidden)

    def forward(self, x: Tensor, units: Units, meter: Meter) -> Tensor:
        """The update [batch, seq, hidden]; without any unit the bias alone, [hidden]."""
        if not units.count:
            return self.output.bias
        query, key, value = (
            part(x, units, meter).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        meter.attention(query, key)
        meter.units["heads"] += units.count
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal, enable_gqa=self.group > 1)
        return self.output(mixed.transpose(1, 2).flatten(2), units, meter)


class FeedForward(nn.Module):
    """GELU between two projections, or SiLU on the gate times a third one."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        units, size = shape.ffn // shape.width_group, shape.width_group
        self.gate = InputProjection(units, size, shape.hidden) if shape.gated else None
        self.up = InputProjection(units, size, shape.hidden)
        self.down = OutputProjection(units, size, shape.hidden)

    def forward(self, x: Tensor, units: Units, meter: Meter) -> Tensor:
        """The update [batch, seq, hidden]; without any unit the bias alone, [hidden]."""
        if not units.count:
            return self.down.bias
        meter.units["width"] += units.count
        up = self.up(x, units, meter)
        if self.gate is None:
            return self.down(F.gelu(up, approximate=GELU), units, meter)
        return self.down(F.silu(self.gate(x, units, meter)) * up, units, meter)


class Experts(nn.Module):
    """Feed-forward parts of which each token is computed by `top_k`, those that a router scores highest.

    Tokens are sorted by expert, and each expert that has tokens runs once: the matmuls are those of the tokens sent,
    none is dropped and none is padded. How many go where is read back from the device.
    """

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.top_k = shape.top_k
        self.router = Router(shape.experts, shape.hidden)
        self.gate = InputProjection(shape.experts, shape.ffn, shape.hidden) if shape.gated else None
        self.up = InputProjection(shape.experts, shape.ffn, shape.hidden)
        self.down = OutputProjection(shape.experts, shape.ffn, shape.hidden)

    def forward(self, x: Tensor, units: Units, meter: Meter) -> Tensor:
        """The update [batch, seq, hidden]."""
        meter.units["experts"] += units.count
        tokens = x.flatten(0, 1)
        logits, chosen = self.router(tokens, units, meter).topk(self.top_k, dim=-1)
        order = chosen.flatten().argsort(stable=True)
        counts = chosen.flatten().bincount(minlength=units.count).tolist()
        # repeated first, so that the gradient of a token is a sum in a fixed order
        sent = tokens.repeat_interleave(self.top_k, 0).index_select(0, order).split(counts)
        experts = range(units.count) if units.index is None else units.index.tolist()
        weights = zip(*(tensor.unbind() for tensor in self._unit_major()), strict=True)  # one gradient for all experts
        each = list(weights)
        computed = [
            self._expert(rows, meter, *each[expert]) for rows, expert in zip(sent, experts, strict=True) if len(rows)
        ]
        by_token = torch.cat(computed).index_select(0, order.argsort()).view(*chosen.shape, -1)
        mixed = (by_token * F.softmax(logits, dim=-1).unsqueeze(-1)).sum(1)
        return (mixed + self.down.bias).view(x.shape)

    def _unit_major(self) -> list[Tensor]:
        into = [part for part in (self.up, self.gate) if part is not None]
        return [self.down.weight, *(tensor for part in into for tensor in (part.weight, part.bias))]

    def _expert(self, rows: Tensor, meter: Meter, down: Tensor, up: Tensor, up_bias: Tensor, *gate: Tensor) -> Tensor:
        """[rows, hidden] → the same, through one expert."""

        def into(weight: Tensor, bias: Tensor) -> Tensor:
            product = F.linear(rows, weight, bias)
            meter.matmul(rows, weight, product)
            return product

        inner = into(up, up_bias)
        inner = F.silu(into(*gate)) * inner if gate else F.gelu(inner, approximate=GELU)
        product = inner @ down
        meter.matmul(inner, down, product)
        return product


class Router(nn.Module):
    """Scores of experts, `x @ Wᵀ`: weight `[experts, hidden]`."""

    def __init__(self, experts: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, hidden))

    def forward(self, tokens: Tensor, units: Units, meter: Meter) -> Tensor:
        """[tokens, hidden] → [tokens, count]: those of the experts that run."""
        weight = units.select(self.weight)
        product = F.linear(tokens, weight)
        meter.matmul(tokens, weight, product)
        return product


class Block(nn.Module):
    """Attention, then feed-forward, each behind its norm; both updates of the residual stream carry the factor.

    Attributes:
        factor: the trained factor (rule 31), where the model has them.
    """

    def __init__(self, shape: ModelShape, learned: bool = False) -> None:
        super().__init__()
        self.seq = shape.seq
        self.attention_norm = nn.LayerNorm(shape.hidden, NORM_EPS)
        self.attention = Attention(shape)
        self.ffn_norm = nn.LayerNorm(shape.hidden, NORM_EPS)
        self.ffn = Experts(shape) if shape.has_experts else FeedForward(shape)
        self.factor = nn.Parameter(torch.empty(())) if learned else None

    def forward(self, y: Tensor, running: RunningBlock, meter: Meter) -> Tensor:
        """y + factor · f(y), with f(y) what the block adds to y at factor 1; [batch, seq, hidden]."""
        meter.units["depth"] += 1
        if running.positions is None:
            meter.units["positions"] += self.seq
            return self._run(y, running, meter)
        meter.units["positions"] += len(running.positions)
        seen = self._run(y.index_select(1, running.positions), running, meter)
        return y.index_copy(1, running.positions, seen)

    def _run(self, y: Tensor, running: RunningBlock, meter: Meter) -> Tensor:
        attended = self.attention(self._attention_input(y, running), running.heads, meter)
        inner = y + attended
        update = self.ffn(self._ffn_input(inner, running), running.ffn, meter)
        if running.is_learned and self.factor is not None:
            factor = self.factor if running.factor is None else self.factor * running.factor
            return y + factor * (attended + update)
        if running.factor is None:
            return inner + update
        return torch.add(y, attended + update, alpha=running.factor)

    def _attention_input(self, y: Tensor, running: RunningBlock) -> Tensor:
        return self.attention_norm(y) if running.heads.count else y

    def _ffn_input(self, y: Tensor, running: RunningBlock) -> Tensor:
        return self.ffn_norm(y) if running.ffn.count else y


class Transformer(nn.Module):
    """A decoder (`shape.causal`) or an encoder; see `raptr_dsl.backend.network` for its parameters.

    Attributes:
        running: what a training forward runs: everything unless a runner says otherwise. None: a runner is attached
            and no step is open, so that a training forward is refused.
        evaluated: what an evaluation runs: everything, unless a runner says that some blocks are not born yet.
        learned: whether each block has a trained factor.
    """

    running: Running | None

    def __init__(self, shape: ModelShape, learned: bool = False) -> None:
        super().__init__()
        self.shape, self.learned = shape, learned
        self.embedding = nn.Embedding(shape.vocab, shape.hidden)
        self.position = nn.Embedding(shape.seq, shape.hidden)
        self.blocks = nn.ModuleList(Block(shape, learned) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.hidden, NORM_EPS)
        self.head = None if shape.tied else nn.Linear(shape.hidden, shape.vocab, bias=False)
        self.everything = running_in_full(shape)
        self.running = self.evaluated = self.everything

    def forward(self, inputs: Tensor, positions: Tensor | None = None) -> Tensor:
        """Logits.

        Args:
            inputs: int64[batch, seq] tokens.
            positions: int64[batch, p], where the head predicts; None for everywhere.

        Returns:
            [batch, p, vocab], or [batch, seq, vocab].
        """
        running = self.running if self.training else self.evaluated
        if running is None:
            raise fail(
                "step-outside",
                "the model was trained outside a step of its plan",
                help="put the forward pass under `with runner.step(n):`, or under `with runner.full():` to train "
                "everything on purpose",
            )
        meter = running.meter
        meter.passes += 1
        meter.rows += inputs.shape[0]
        meter.units["seq"] += inputs.shape[1]
        y = self.embedding(inputs) + self.position.weight[: inputs.shape[1]]
        for block, parts in zip(self.blocks, running.blocks, strict=True):
            if parts is not None:
                y = block(y, parts, meter)
        if positions is not None:
            y = y.flatten(0, 1).index_select(0, _flat(positions, inputs.shape[1])).view(*positions.shape, -1)
        y = self.norm(y)
        weight = self.embedding.weight if self.head is None else self.head.weight
        logits = F.linear(y, weight)
        meter.matmul(y, weight, logits)
        return logits

    @property
    def is_attached(self) -> bool:
        """Whether a runner decides what runs."""
        return self.running is not self.everything

    def __getstate__(self) -> dict[str, object]:
        """A copy (an average of weights, a pickle) belongs to no runner."""
        return {**self.__dict__, "running": self.everything, "evaluated": self.everything}


def running_in_full(shape: ModelShape, meter: Meter | None = None) -> Running:
    """Everything runs, unscaled."""
    block = RunningBlock(heads=Units(shape.kv_heads), ffn=Units(ffn_units(shape)[1]))
    return Running((block,) * shape.layers, meter or Meter())


def build(shape: ModelShape, seed: int, dtype: torch.dtype = torch.float32, *, learned: bool = False) -> Transformer:
    """The transformer with the initial weights that every backend has for that seed.

    Args:
        learned: whether each block has a trained factor, as plans with `scale=learned` need: `plan.learns_scales`.
    """
    with torch.device("meta"):
        model = Transformer(shape, learned)
    model.to_empty(device="cpu")
    load_values(model, initial_values(shape, seed, learned))
    return model.to(dtype)


def load_values(model: Transformer, values: Mapping[str, NDArray[np.floating]]) -> None:
    """Sets all weights, by the names of the table."""
    model.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})


def _flat(positions: Tensor, seq: int) -> Tensor:
    """Positions within each row as positions within the whole flattened batch."""
    starts = torch.arange(positions.shape[0], device=positions.device).unsqueeze(1) * seq
    return (positions + starts).flatten()
