"""The linear layers of one axis in one block: found by a layout, checked, and told which units to compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raptr_dsl.diagnostics import RaptrError, fail
from raptr_torch.layouts import UnitLinears
from raptr_torch.slicing import Cut, Selection, Sized, is_linear, is_transposed, size_module, slice_linear


@dataclass(frozen=True)
class AxisLinears:
    """The layers of one axis in one block.

    Attributes:
        inputs, output: the layers with how their weights are divided; see `UnitLinears`.
        sized: modules and those of their attributes that follow the number of active units.
    """

    axis: str
    units: int
    inputs: tuple[tuple[nn.Module, Cut], ...]
    output: nn.Module
    output_cut: Cut
    sized: tuple[tuple[nn.Module, tuple[str, ...]], ...]

    @classmethod
    def of(cls, block: nn.Module, path: str, axis: str, linears: UnitLinears, units: int) -> AxisLinears:
        """The layers of a block of that path.

        Raises:
            RaptrError: `attach-linear`: a layer is missing, is not plain, or does not divide into units.
        """
        inputs = tuple(
            _cut(block, path, name, linears.sections.get(name, 1), units, is_input=False) for name in linears.inputs
        )
        output, output_cut = _cut(block, path, linears.output, 1, units, is_input=True)
        return cls(axis, units, inputs, output, output_cut, tuple(_sized(block, path, linears.sizes)))

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """All whose class is swapped."""
        return (*(linear for linear, _ in self.inputs), self.output, *(module for module, _ in self.sized))

    def select(self, selection: Selection, on: Sequence[int] | Tensor, factor: float | Tensor | None) -> None:
        """From now on those units are computed, ascending; with none of them, one is, and counts for nothing."""
        weight: Any = self.output.weight
        selection.count = len(on)
        if not len(on):  # attention over no head at all cannot be reshaped; the bias alone is what is left
            on, factor = [0], 0.0
        index = on if isinstance(on, Tensor) else torch.tensor(on, dtype=torch.int64)
        index = index.to(weight.device, non_blocking=True)
        selection.slots = {
            cut.sections: cut.slots(index) for cut in (*(cut for _, cut in self.inputs), self.output_cut)
        }
        selection.factor = None if factor is None else torch.as_tensor(factor).to(weight.device, weight.dtype)


def install(site: AxisLinears, selection: Selection) -> None:
    """Makes the layers obey a selection."""
    for linear, cut in (*site.inputs, (site.output, site.output_cut)):
        slice_linear(linear, cut, selection)
    for module, words in site.sized:
        size_module(module, words, selection)


def everything(selection: Selection) -> None:
    """From now on all units are computed."""
    selection.count = selection.slots = selection.factor = None


def _cut(block: nn.Module, path: str, name: str, sections: int, units: int, *, is_input: bool) -> tuple[nn.Module, Cut]:
    linear = submodule(block, path, name)
    weight: Any = getattr(linear, "weight", None)
    problem = _problem(linear, weight)
    if problem:
        raise _unfit(path, name, problem)
    dim = int(is_input != is_transposed(linear))
    elements = weight.shape[dim]
    if elements % (sections * units):
        raise _unfit(path, name, f"its {elements} elements do not divide into {sections} × {units} units")
    return linear, Cut(dim, is_input, sections, units, elements // (sections * units))


def _problem(linear: nn.Module, weight: Any) -> str:
    """Why units of a layer cannot be selected; "" if nothing is against it."""
    if not is_linear(linear):
        return f"is a {type(linear).__module__}.{type(linear).__qualname__}, and only plain nn.Linear or Conv1D can be"
    if type(weight) is not nn.Parameter or not weight.is_floating_point():
        return f"has weights of {type(weight).__qualname__} and {weight.dtype}: sharded, tensor-parallel or quantised"
    if linear._forward_hooks or linear._forward_pre_hooks:
        return "has forward hooks, which would see some of its units only (tensor parallelism sets them)"
    if weight.is_meta:
        return "is on the meta device, where nothing can be tried"
    return ""


def _sized(block: nn.Module, path: str, words: Sequence[str]) -> list[tuple[nn.Module, tuple[str, ...]]]:
    by_owner: dict[nn.Module, list[str]] = {}
    for word in words:
        owner, _, attribute = word.rpartition(".")
        module = submodule(block, path, owner) if owner else block
        if not isinstance(module.__dict__.get(attribute), int) or isinstance(module, Sized):
            raise _unfit(path, word, "is no number of a module")
        by_owner.setdefault(module, []).append(attribute)
    return [(module, tuple(sorted(attributes))) for module, attributes in by_owner.items()]


def submodule(block: nn.Module, path: str, name: str) -> nn.Module:
    """A layer of a block of that path; refused by name where it is missing."""
    try:
        return block.get_submodule(name)
    except AttributeError:
        raise _unfit(path, name, f"is missing in {type(block).__qualname__}") from None


def _unfit(path: str, name: str, problem: str) -> RaptrError:
    return fail(
        "attach-linear",
        f"units of {path}.{name} cannot be selected: it {problem}",
        help="leave heads and width at full size in the schedule, or give attach a layout that fits this block",
    )
