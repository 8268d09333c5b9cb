"""The sites of a model that somebody else wrote: its blocks and linear layers, found, proven, and made to obey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from raptr_dsl.ir.plan import AxisMask, Step
from raptr_torch.blocks import BlockMeter, BlockState, ModelState, Open, Outputs, make_skippable
from raptr_torch.ledger import FlopLedger
from raptr_torch.linears import count_linear, outside_linears
from raptr_torch.meter import Meter
from raptr_torch.seeing import Inputs
from raptr_torch.sites import Part
from raptr_torch.slicing import Selection
from raptr_torch.stacks import Stack
from raptr_torch.swap import restore
from raptr_torch.units import AxisLinears, everything, install


class ModuleSites:
    """Implements `raptr_torch.sites.Sites`; made by `raptr_torch.attaching`, which refuses what cannot be.

    Args:
        units: by axis, the layers of every block, of the axes that the plan thins.
        outside: of modules outside the blocks, `embed` or `head`, where the plan freezes them.
        outputs: of every block, its output projections, where the plan makes new ones zero.
        flops: adds up what steps run.
    """

    def __init__(
        self,
        model: nn.Module,
        stacks: Sequence[Stack],
        units: Mapping[str, Sequence[AxisLinears]],
        outside: Mapping[nn.Module, str],
        outputs: Mapping[nn.Module, Sequence[nn.Module]],
        flops: FlopLedger,
    ) -> None:
        self.model, self.flops = model, flops
        self._outside, self._outputs = outside, outputs
        self.stacks = tuple(stacks)
        self.axes = frozenset({"depth", *units})
        self._units = units
        self._state = ModelState()
        self._selections = {axis: [Selection(site.units) for site in sites] for axis, sites in units.items()}
        for axis, sites in units.items():
            for site, selection in zip(sites, self._selections[axis], strict=True):
                install(site, selection)
        self._linears = outside_linears(model, stacks) if flops.formula else {}
        for path, linear in self._linears.items():
            count_linear(path, linear, self._state)
        self.blocks: Sequence[nn.Module] = [block for stack in stacks for block in stack.modules]
        index = 0
        for stack in stacks:
            returned = Outputs()
            for place, (path, block) in enumerate(stack.blocks):
                state = BlockState(index, path, self._state, returned, is_first=place == 0)
                state.selections = {axis: selections[index] for axis, selections in sorted(self._selections.items())}
                state.inputs = Inputs(block) if flops.formula else None
                make_skippable(block, state)
                index += 1

    @property
    def stacked(self) -> Sequence[Sequence[nn.Module]]:
        return [stack.modules for stack in self.stacks]

    def outputs(self, block: nn.Module) -> Sequence[nn.Module]:
        return self._outputs[block]

    @property
    def parts(self) -> dict[nn.Parameter, Part]:
        """As the parameters are now: sharding exchanges them."""
        cuts = {
            id(linear): (axis, cut)
            for axis, sites in self._units.items()
            for site in sites
            for linear, cut in (*site.inputs, (site.output, site.output_cut))
        }
        blocks = {id(module): index for index, block in enumerate(self.blocks) for module in block.modules()}
        parts = {}
        for path, module in self.model.named_modules():
            axis, cut = cuts.get(id(module), (None, None))
            for name, parameter in module.named_parameters(path, recurse=False):
                part = Part(name, blocks.get(id(module)), None, outside=self._outside.get(module))
                is_cut = cut is not None and (not cut.is_input or name.endswith("weight"))
                if cut is not None and is_cut:
                    dim = cut.dim if parameter.dim() > 1 else 0
                    part = Part(name, part.block, axis, dim, cut.sections, cut.size)
                parts[parameter] = part
        return parts

    def run(self, step: Step | None) -> Meter:
        axes = step.axes if step else {}
        thinned = {axis: mask for axis, mask in axes.items() if not mask.full}
        for axis, selections in self._selections.items():
            self._select(axis, selections, thinned.get(axis))
        meter = BlockMeter()
        self._state.open = Open(self._factors(thinned.get("depth")), meter, bool(thinned))
        return meter

    def evaluate(self, masks: Mapping[str, AxisMask]) -> None:
        self._state.born = masks["depth"].on.ravel().tolist() if masks else None

    def describe(self) -> list[str]:
        found = [
            f"{stack.path}: {len(stack.blocks)} blocks of {type(stack.modules[0]).__qualname__}"
            for stack in self.stacks
        ]
        attached = f"attached to {type(self.model).__qualname__}, {', '.join(sorted(self.axes))}"
        return [attached, *found, *self.flops.describe()]

    def refuse(self) -> None:
        self._state.open = None
        for selections in self._selections.values():
            for selection in selections:
                selection.closed = True

    def release(self) -> None:
        self._state.born = None
        for module in (*self.blocks, *self._linears.values()):
            restore(module)
        for sites in self._units.values():
            for site in sites:
                for module in site.modules:
                    restore(module)

    def _factors(self, depth: AxisMask | None) -> list[float | bool | None]:
        if depth is None:
            return [None] * len(self.blocks)
        pairs = zip(depth.on.ravel().tolist(), depth.scale.ravel().tolist(), strict=True)
        return [(None if factor == 1.0 else factor) if on else False for on, factor in pairs]

    def _select(self, axis: str, selections: Sequence[Selection], mask: AxisMask | None) -> None:
        for selection in selections:
            selection.closed = False
        if mask is None:
            for selection in selections:
                everything(selection)
            return
        counts = mask.on.sum(axis=1).tolist()
        device = next(self.model.parameters()).device
        indices = torch.from_numpy(mask.on.nonzero()[1]).to(device, non_blocking=True).split(counts)
        for number, (site, selection) in enumerate(zip(self._units[axis], selections, strict=True)):
            factors = mask.scale[number][mask.on[number]]
            if counts[number] == site.units and (factors == 1.0).all():
                everything(selection)
            else:
                site.select(selection, indices[number], _factor(factors))


def _factor(factors: Any) -> Any:
    """One number where all units have the same, None for 1."""
    if not len(factors) or (factors == factors[0]).all():
        return None if not len(factors) or factors[0] == 1.0 else float(factors[0])
    return torch.from_numpy(factors.copy())
