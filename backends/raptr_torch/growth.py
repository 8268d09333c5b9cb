"""Blocks copied at a stage's start, with their optimizer state (rule 35)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.plan import Growth
from raptr_torch.examine import forget

Outputs = Callable[[nn.Module], Iterable[nn.Module]]


def copies(growth: Growth, blocks: Sequence[nn.Module]) -> Iterator[tuple[nn.Module, nn.Module | None]]:
    """The blocks of a stack that change, each with its source; None for the values with which the model began.

    Such a block has them still: blocks that are not born are not touched.
    """
    for unit, source in enumerate(growth.sources):
        if source != unit:
            yield blocks[unit], None if source < 0 else blocks[source]


@torch.no_grad()
def grow(
    growth: Growth,
    stacks: Iterable[Sequence[nn.Module]],
    outputs: Outputs,
    optimizers: Mapping[Optimizer, Collection[str]],
) -> None:
    """Gives every block that is born the values and the optimizer state of its source, as they were before.

    Args:
        outputs: of a block, its output projections, which are zero in new blocks without a source.
        optimizers: with the words of their state that are tables (see `raptr_torch.examine.Facts`).
    """
    for blocks in stacks:
        changed = list(copies(growth, blocks))
        new = {blocks[unit] for unit in growth.new} if growth.moments == "zero" else set()
        held = {block: tensors(block) for pair in changed for block in pair if block is not None}
        for target, source in changed:
            if source is None:
                _zero(outputs(target))
        _copy_values(changed, held)
        for optimizer, tables in optimizers.items():
            _copy_states(changed, held, new, optimizer, tables)


def require_one_optimizer(
    growths: Iterable[Growth], stacks: Sequence[Sequence[nn.Module]], optimizers: Sequence[Optimizer]
) -> None:
    """Refuses optimizers that hold a block's tensor without that of its source: state cannot go from one to another.

    Raises:
        RaptrError: `optimizer-growth`.
    """
    owners = {p: o for o in optimizers for group in o.param_groups for p in group["params"]}
    for growth in growths:
        for blocks in stacks:
            for target, source in copies(growth, blocks):
                if source is not None:
                    _require_one_owner(blocks, target, source, owners)


def _require_one_owner(
    blocks: Sequence[nn.Module], target: nn.Module, source: nn.Module, owners: Mapping[Any, Optimizer]
) -> None:
    origins = dict(source.named_parameters())
    for name, parameter in target.named_parameters():
        ours, theirs = owners.get(parameter), owners.get(origins[name])
        if ours is not theirs and ours is not None and theirs is not None:
            raise fail(
                "optimizer-growth",
                f"{name} of block {blocks.index(target)} is copied from block {blocks.index(source)}, and two "
                f"optimizers hold them: {type(ours).__qualname__} and {type(theirs).__qualname__}",
                help="give one optimizer the same tensor of every block",
            )


def tensors(block: nn.Module) -> dict[str, Tensor]:
    """What makes a block what it is, by name: its parameters, and the buffers that are saved with it."""
    saved = block.state_dict(keep_vars=True).keys()  # under FSDP2 this gives back what an evaluation left gathered
    buffers = {name: buffer for name, buffer in block.named_buffers() if name in saved}
    return {**dict(block.named_parameters()), **buffers}


def _copy_values(
    changed: Sequence[tuple[nn.Module, nn.Module | None]], held: Mapping[nn.Module, Mapping[str, Tensor]]
) -> None:
    """Name by name, so that one tensor of each block is held twice at a time."""
    for name in {name: None for block in held.values() for name in block}:
        pairs = [(held[t][name], held[source][name]) for t, source in changed if source and name in held[t]]
        old = {id(value): value.clone() for _, value in pairs}
        for target, value in pairs:
            target.copy_(old[id(value)])


def _copy_states(
    changed: Sequence[tuple[nn.Module, nn.Module | None]],
    held: Mapping[nn.Module, Mapping[str, Tensor]],
    new: set[nn.Module],
    optimizer: Optimizer,
    tables: Collection[str],
) -> None:
    own = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    for name in {name: None for block in held.values() for name in block}:
        named = {block: tensors[name] for block, tensors in held.items() if tensors.get(name) in own}
        old = {block: _cloned(optimizer.state.get(tensor, {})) for block, tensor in named.items()}
        for target, source in changed:
            if target not in named:
                continue
            parameter = named[target]
            if source is None or target in new or source not in named:
                forget(optimizer.state[parameter], tables)
            elif old[source]:
                optimizer.state[parameter] = _cloned(old[source])
            else:
                optimizer.state.pop(parameter, None)


def _cloned(state: Mapping[str, Any]) -> dict[str, Any]:
    return {word: value.clone() if isinstance(value, Tensor) else copy(value) for word, value in state.items()}


def _zero(projections: Iterable[nn.Module]) -> None:
    for projection in projections:
        for parameter in projection.parameters():
            parameter.zero_()
