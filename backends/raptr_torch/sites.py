"""How a plan's step reaches a model. The runner knows this contract only: another kind of model is one more class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raptr_dsl.backend.network import ffn_units, parameters
from raptr_dsl.ir.plan import AxisMask, Step
from raptr_torch.ledger import FlopLedger
from raptr_torch.meter import Meter
from raptr_torch.model import Block, Running, RunningBlock, Transformer, Units, running_in_full


@dataclass(frozen=True, slots=True)
class Part:
    """Where a parameter stands.

    Attributes:
        block: the number of its block, None outside the blocks.
        axis: the per-block axis whose units divide one of its dimensions, None where none does.
        outside: the part outside the blocks that it belongs to, `embed` or `head`; None where it is in a block, or
            where that is not known, because the plan does not ask.
        is_factor: whether it is the trained factor of a block (rule 31).
        dim, sections, size: that dimension, and how it is divided: `sections` times all units, of `size` elements each.
    """

    name: str
    block: int | None
    axis: str | None
    dim: int = 0
    sections: int = 1
    size: int = 1
    outside: str | None = None
    is_factor: bool = False

    def elements(self, on: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """bool[elements of `dim`] from bool[units]."""
        return np.tile(on.repeat(self.size), self.sections)


class Sites(Protocol):
    """A model seen as sites of units."""

    axes: frozenset[str]
    """Those whose units are counted where they run."""

    flops: FlopLedger
    """Adds up what steps run."""

    blocks: Sequence[nn.Module]
    """Those that can be compiled each for itself, in order; none where counting is within them."""

    @property
    def stacked(self) -> Sequence[Sequence[nn.Module]]:
        """The blocks of each stack, in order."""
        ...

    def outputs(self, block: nn.Module) -> Sequence[nn.Module]:
        """The output projections of a block, whose products are added to the residual stream."""
        ...

    def describe(self) -> list[str]:
        """What was found in the model, in lines."""
        ...

    @property
    def parts(self) -> Mapping[nn.Parameter, Part]:
        """Every parameter of the model, once."""
        ...

    @property
    def model(self) -> nn.Module: ...

    def run(self, step: Step | None) -> Meter:
        """From now on training forwards run what `step` says (None: everything), and the meter counts them."""
        ...

    def refuse(self) -> None:
        """From now on a training forward raises."""
        ...

    def evaluate(self, masks: Mapping[str, AxisMask]) -> None:
        """From now on evaluations run those blocks; all of them, where depth is missing (rule 36)."""
        ...

    def release(self) -> None:
        """Gives the model back as it was."""
        ...


class TransformerSites:
    """The sites of raptr_torch's own model: a mask is one value that the model hands down its call tree."""

    blocks: Sequence[nn.Module] = ()

    def __init__(self, model: Transformer, data: Iterable[str] = ()) -> None:
        """`data`: axes whose units are counted besides those of weights: those that the plan thins."""
        self.model, self.flops = model, FlopLedger()
        self._ffn = ffn_units(model.shape)[0]
        self.axes = frozenset({"depth", "heads", self._ffn, *data})
        tensors = dict(model.named_parameters())
        self.parts: Mapping[nn.Parameter, Part] = {
            tensors[entry.name]: Part(
                entry.name, entry.block, entry.axis, outside=entry.part, is_factor=entry.name.endswith(".factor")
            )
            for entry in parameters(model.shape, model.learned)
        }

    @property
    def stacked(self) -> Sequence[Sequence[nn.Module]]:
        return [list(self.model.blocks)]

    def outputs(self, block: nn.Module) -> Sequence[nn.Module]:
        assert isinstance(block, Block)
        return block.attention.output, block.ffn.down

    def run(self, step: Step | None) -> Meter:
        meter = Meter()
        self.model.running = self._running(step.axes if step else {}, meter)
        return meter

    def evaluate(self, masks: Mapping[str, AxisMask]) -> None:
        self.model.evaluated = self._running(masks, Meter()) if masks else self.model.everything

    def describe(self) -> list[str]:
        return [f"{len(self.model.blocks)} blocks of the small transformer"]

    def refuse(self) -> None:
        self.model.running = None

    def release(self) -> None:
        self.model.running = self.model.evaluated = self.model.everything

    def _running(self, axes: Mapping[str, AxisMask], meter: Meter) -> Running:
        full = running_in_full(self.model.shape, meter)
        if all(mask.full for mask in axes.values()):
            return full
        blocks = [block for block in full.blocks if block is not None]
        layers = len(blocks)
        depth = _thinned(axes, "depth")
        on = depth.on[0] if depth else np.ones(layers, dtype=bool)
        factors = _numbers(depth.scale[0]) if depth else [None] * layers
        is_learned = depth is not None and depth.learned
        positions = _positions(_thinned(axes, "positions"), layers, self.model.norm.weight)
        heads = _units(_thinned(axes, "heads"), [block.heads for block in blocks], self.model.norm.weight)
        ffn = _units(_thinned(axes, self._ffn), [block.ffn for block in blocks], self.model.norm.weight)
        running = (
            RunningBlock(heads[i], ffn[i], factors[i], is_learned, positions[i]) if on[i] else None
            for i in range(layers)
        )
        return Running(tuple(running), meter)


def _thinned(axes: Mapping[str, AxisMask], name: str) -> AxisMask | None:
    mask = axes.get(name)
    return None if mask is None or mask.full else mask


def _numbers(factors: np.ndarray) -> list[float | None]:
    """Factors as Python numbers, None for 1 (rule 30: nothing is multiplied then)."""
    return [None if factor == 1.0 else factor for factor in factors.tolist()]


def _positions(mask: AxisMask | None, blocks: int, like: Tensor) -> Sequence[Tensor | None]:
    """The positions that each block sees, None for all."""
    if mask is None:
        return [None] * blocks
    return [torch.from_numpy(mask.active(block)).to(like.device, non_blocking=True) for block in range(blocks)]


def _units(mask: AxisMask | None, full: list[Units], like: Tensor) -> list[Units]:
    """The units of every site, for a model whose tensors are like that one; indices in one transfer to its device."""
    if mask is None:
        return full
    units = mask.on.shape[1]
    counts = mask.on.sum(axis=1).tolist()
    indices = torch.from_numpy(mask.on.nonzero()[1]).to(like.device, non_blocking=True).split(counts)
    least = np.where(mask.on, mask.scale, np.inf).min(axis=1)
    most = np.where(mask.on, mask.scale, -np.inf).max(axis=1)
    result = []
    for site, (count, index, factor) in enumerate(zip(counts, indices, _numbers(most), strict=True)):
        if count and least[site] != most[site]:
            factor = torch.from_numpy(mask.scale[site][mask.on[site]]).to(like).view(-1, 1, 1)
        result.append(Units(count, None if count == units else index, factor))
    return result
