"""Linear layers of other people's models that compute some of their units only.

The layer's class is swapped for a subclass that selects rows or columns of the weight by an index, which is a plain
attribute: not a buffer (DDP would broadcast it), and the weight itself is never exchanged (recomputation under
checkpointing would see another one). Without an index the layer is what it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from raptr_dsl.diagnostics import RaptrError, fail
from raptr_torch.swap import Swapped, swap


@dataclass(frozen=True, slots=True)
class Cut:
    """How one dimension of a weight is divided among units: `sections` times `units` runs of `size` elements.

    Attributes:
        dim: of the weight. is_input: whether it is the layer's input (its bias is whole then).
    """

    dim: int
    is_input: bool
    sections: int
    units: int
    size: int

    def slots(self, index: Tensor) -> Tensor:
        """The runs that belong to some units, ascending: int64[sections · count]."""
        if self.sections == 1:
            return index
        starts = index.new_tensor(range(0, self.sections * self.units, self.units))
        return (starts.unsqueeze(1) + index).flatten()

    def select(self, tensor: Tensor, slots: Tensor, dim: int) -> Tensor:
        """Those runs of a dimension; runs are copied whole, which is faster than one element at a time."""
        runs = tensor.unflatten(dim, (self.sections * self.units, self.size))
        return runs.index_select(dim, slots).flatten(dim, dim + 1)


@dataclass(eq=False)
class Selection:
    """What a layer computes now; one object for all layers of an axis in a block.

    Attributes:
        closed: no step is open: a training forward is refused.
        always: also in evaluation, where everything runs otherwise (for proofs, without dropout).
        count: active units; None for all of them.
        slots: of them, by the number of sections; factor: of their outputs, 0-d or [count], None for 1.
    """

    units: int
    closed: bool = False
    always: bool = False
    count: int | None = None
    slots: dict[int, Tensor] | None = None
    factor: Tensor | None = None

    @property
    def active(self) -> int:
        """Units at work."""
        return self.units if self.count is None else self.count


class SlicedLinear(Swapped):
    """`nn.Linear` or `Conv1D` of some units."""

    _raptr_cut: Cut
    _raptr_selection: Selection
    weight: nn.Parameter
    bias: nn.Parameter | None
    training: bool

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        selection, cut = self._raptr_selection, self._raptr_cut
        if not (self.training or selection.always):
            return cast(Any, super()).forward(*args, **kwargs)
        if selection.closed:
            raise outside()
        slots = selection.slots
        if slots is None:
            return cast(Any, super()).forward(*args, **kwargs)
        x: Tensor = args[0] if args else next(iter(kwargs.values()))
        weight = cut.select(self.weight, slots[cut.sections], cut.dim)
        bias = self.bias
        if cut.is_input:
            if selection.factor is not None:
                weight = self._scaled(weight, selection.factor)
        elif bias is not None:
            bias = cut.select(bias, slots[cut.sections], 0)
        return F.linear(x, weight.t() if is_transposed(self) else weight, bias)

    def _scaled(self, weight: Tensor, factor: Tensor) -> Tensor:
        """The factor belongs to the layer's input; in any real run the weight is the smaller tensor."""
        if factor.dim():
            factor = factor.repeat_interleave(self._raptr_cut.size)
        if factor.dim() and self._raptr_cut.dim == 0:
            factor = factor.unsqueeze(1)
        return weight * factor


class Sized(Swapped):
    """A module with attributes that hold a number proportional to the units at work."""

    _raptr_selection: Selection
    training: bool


def slice_linear(linear: nn.Module, cut: Cut, selection: Selection) -> None:
    """Makes a linear layer compute what `selection` says."""
    swap(linear, SlicedLinear, _raptr_cut=cut, _raptr_selection=selection)


def size_module(module: nn.Module, words: tuple[str, ...], selection: Selection) -> None:
    """Makes those attributes of a module follow `selection`."""
    swap(module, sized_by(words), _raptr_selection=selection)


@cache
def sized_by(words: tuple[str, ...]) -> type[Sized]:
    """The mixin for some attributes."""
    return type("Sized", (Sized,), {word: _proportional(word) for word in words})


def _proportional(word: str) -> property:
    def read(self: Any) -> int:
        full, selection = self.__dict__[word], self._raptr_selection
        if selection.slots is None or not (self.training or selection.always):
            return full
        return full * max(selection.count, 1) // selection.units

    def write(self: Any, value: int) -> None:
        self.__dict__[word] = value

    return property(read, write)


def is_linear(module: nn.Module) -> bool:
    """Exactly `nn.Linear` or GPT-2's `Conv1D`: of what derives from them nobody knows what it computes."""
    cls = type(module)
    return cls is nn.Linear or (cls.__name__ == "Conv1D" and cls.__module__.startswith("transformers."))


def is_transposed(module: Any) -> bool:
    """Whether the weight is [inputs, outputs] (`Conv1D`)."""
    return not isinstance(module, nn.Linear)


def outside() -> RaptrError:
    """The refusal of a training forward outside a step."""
    return fail(
        "step-outside",
        "the model was trained outside a step of its plan",
        help="put the forward pass and backward() under `with runner.step(n):`, or under `with runner.full():` to "
        "train everything on purpose",
    )
