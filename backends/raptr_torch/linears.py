"""Linear layers outside the blocks, the vocabulary's head above all: what they run is seen where they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from raptr_torch.blocks import ModelState, is_recomputation
from raptr_torch.flops import LinearForward
from raptr_torch.slicing import is_transposed
from raptr_torch.stacks import Stack
from raptr_torch.swap import Swapped, swap


class CountedLinear(Swapped):
    """A layer whose training forwards in a step are counted. Its call is overridden: no graph holds that."""

    _raptr_path: str
    _raptr_model: ModelState
    training: bool

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = cast(Any, super()).__call__(*args, **kwargs)
        now = self._raptr_model.open
        if self.training and not torch.compiler.is_compiling() and now is not None and not is_recomputation():
            now.meter.outside[forward_of(self._raptr_path, cast(Any, self), args, kwargs)] += 1
        return output


def count_linear(path: str, linear: nn.Module, model: ModelState) -> None:
    """Makes a layer tell the open step's meter what it runs."""
    swap(linear, CountedLinear, _raptr_path=path, _raptr_model=model)


def outside_linears(model: nn.Module, stacks: Sequence[Stack]) -> dict[str, nn.Module]:
    """The linear layers of a model that are in no block, by their paths."""
    inside = {module for stack in stacks for block in stack.modules for module in block.modules()}
    return {path: module for path, module in model.named_modules() if _is_linear(module) and module not in inside}


@contextmanager
def listening(linears: dict[str, nn.Module]) -> Iterator[list[LinearForward]]:
    """What those layers run meanwhile, in order."""
    found: list[LinearForward] = []

    def listen(path: str) -> Callable[..., None]:
        def hook(linear: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found.append(forward_of(path, linear, args, kwargs))

        return hook

    handles = [linear.register_forward_pre_hook(listen(path), with_kwargs=True) for path, linear in linears.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def forward_of(path: str, linear: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> LinearForward:
    """One forward of a layer."""
    given: Tensor = args[0] if args else next(iter(kwargs.values()))
    inputs, outputs = linear.weight.shape if is_transposed(linear) else reversed(linear.weight.shape)
    rows = given.numel() // given.shape[-1]
    return LinearForward(path, rows, inputs, outputs, linear.weight.requires_grad, given.requires_grad)


def _is_linear(module: nn.Module) -> bool:
    """Those that derive from `nn.Linear` as well: what they compute besides is found by the proof."""
    return isinstance(module, nn.Linear) or (
        type(module).__name__ == "Conv1D" and type(module).__module__.startswith("transformers.")
    )
