"""Which parameters outside the blocks are the embeddings', and which the head's: seen from when they are called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.ir.plan import Plan
from raptr_torch.proof import evaluating
from raptr_torch.stacks import Stack


def outside_parts(model: nn.Module, plan: Plan, stacks: Sequence[Stack], example: Any) -> dict[nn.Module, str]:
    """Of each module with parameters of its own outside the blocks: `embed` if it is called before them, else `head`.

    Args:
        example: a tiny batch, which the model is known to take.

    Raises:
        RaptrError: `attach-freeze`: that cannot be told of every parameter, or one is of both and not all of it is to
            be frozen.
    """
    stack, *others = stacks
    if others:
        raise _unknown("the model has two stacks, and something of each lies between them")
    seen = _calls(model, stack, example)
    roles: dict[nn.Parameter, set[str]] = {}
    for path, module in _outside(model, stack):
        for name, parameter in module.named_parameters(path, recurse=False):
            found = seen.get(module, set())
            if len(found) != 1 or "between" in found:
                raise _unknown(f"{name} is not called before the blocks alone, nor behind them")
            roles.setdefault(parameter, set()).update(found)
    for stage in plan.stages:
        if stage.freeze and any(role & set(stage.freeze) and role - set(stage.freeze) for role in roles.values()):
            raise _unknown("embeddings and head are one matrix, and one of them alone is to be frozen")
    return {module: next(iter(found)) for module, found in seen.items() if len(found) == 1}


def _outside(model: nn.Module, stack: Stack) -> Iterator[tuple[str, nn.Module]]:
    inside = {module for block in stack.modules for module in block.modules()}
    for path, module in model.named_modules():
        if module not in inside:
            yield path, module


def _calls(model: nn.Module, stack: Stack, example: Any) -> dict[nn.Module, set[str]]:
    """When each module that holds no block is called: `embed` before the blocks, `head` behind them, else `between`."""
    first, last = stack.modules[0], stack.modules[-1]
    now = "embed"
    seen: dict[nn.Module, set[str]] = {}

    def enter(module: nn.Module, *_: Any) -> None:
        nonlocal now
        if module is first:
            now = "between"
        seen.setdefault(module, set()).add(now)

    def leave(*_: Any) -> None:
        nonlocal now
        now = "head"

    blocks = set(stack.modules)
    listened = [m for _, m in _outside(model, stack) if blocks.isdisjoint(m.modules())]
    handles = [module.register_forward_pre_hook(enter) for module in (*listened, first)]
    handles.append(last.register_forward_hook(leave))
    try:
        with evaluating(model), torch.no_grad(), torch.random.fork_rng():
            model(**example) if isinstance(example, Mapping) else model(*example)
    finally:
        for handle in handles:
            handle.remove()
    del seen[first]
    return seen


def _unknown(why: str) -> RaptrError:
    return fail(
        "attach-freeze",
        f"what freeze=[…] leaves untrained cannot be told: {why}",
        help="leave freeze= out of the schedule, and freeze on purpose: parameter.requires_grad_(False)",
    )
