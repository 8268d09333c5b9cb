"""Where a model has its residual blocks: `ModuleList`, `ModuleDict` or `Sequential` of blocks of one class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.ir.model import ModelShape

CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
WRAPPERS = ("_checkpoint_wrapped_module", "_orig_mod")
"""Attributes under which wrappers of one block (checkpointing, compilation) keep it."""


@dataclass(frozen=True, slots=True)
class Stack:
    """One residual stack: its path in the model, and its blocks in order with their own paths."""

    path: str
    blocks: tuple[tuple[str, nn.Module], ...]

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        return tuple(block for _, block in self.blocks)


def find_stacks(model: nn.Module, shape: ModelShape, paths: Sequence[str] | None = None) -> tuple[Stack, ...]:
    """The stacks that a plan for this shape speaks of, an encoder's before the decoder's.

    Args:
        paths: where they are, if that cannot be seen.

    Raises:
        RaptrError: `attach-stack`, `attach-shape`, `attach-blocks`: there are none, or others than planned.
    """
    stacks = [_named(model, path) for path in paths] if paths is not None else list(_candidates(model))
    if not stacks:
        raise fail(
            "attach-stack",
            f"{type(model).__qualname__} has no residual stack: no ModuleList or ModuleDict of blocks",
            help='name it, if there is one: attach(…, stacks=["model.layers"])',
        )
    fitting = [stack for stack in stacks if len(stack.blocks) == shape.layers]
    if (paths is not None and len(fitting) != len(stacks)) or not fitting:
        raise _other_depth(stacks, shape)
    uniform = [stack for stack in fitting if len({type(block) for block in stack.modules}) == 1]
    if (paths is not None and len(uniform) != len(fitting)) or not uniform:
        raise _mixed(next(stack for stack in fitting if stack not in uniform))
    if len(uniform) != shape.stacks:
        found = ", ".join(stack.path for stack in uniform)
        raise fail(
            "attach-stack",
            f"the plan is for {shape.stacks} stack(s) of {shape.layers} blocks, and there are {len(uniform)}: {found}",
            help=f"name those meant: attach(…, stacks=[{', '.join(repr(s.path) for s in uniform[: shape.stacks])}])",
        )
    return tuple(uniform)


def unwrapped(block: nn.Module) -> nn.Module:
    """The block itself, without wrappers that only change how it is run."""
    for word in WRAPPERS:
        inner = getattr(block, word, None)
        if isinstance(inner, nn.Module):
            return unwrapped(inner)
    return block


def _candidates(model: nn.Module) -> Iterator[Stack]:
    """Outermost containers of two or more modules with parameters that look like blocks."""
    inside: list[str] = []
    for path, module in model.named_modules():
        if any(path.startswith(outer) for outer in inside) or not isinstance(module, CONTAINERS):
            continue
        stack = _stack(path, module)
        if len(stack.blocks) > 1 and all(_is_block(block) for block in stack.modules):
            inside.append(f"{path}.")
            yield stack


def _is_block(module: nn.Module) -> bool:
    """Whether it has submodules with parameters; a single linear layer is no block."""
    return any(True for child in module.children() for _ in child.parameters())


def _named(model: nn.Module, path: str) -> Stack:
    try:
        module = model.get_submodule(path)
    except AttributeError:
        module = None
    if not isinstance(module, CONTAINERS):
        raise fail(
            "attach-stack",
            f"{path!r} is no ModuleList, ModuleDict or Sequential of this {type(model).__qualname__}",
            help=f"it has {', '.join(stack.path for stack in _candidates(model)) or 'none'}",
        )
    return _stack(path, module)


def _stack(path: str, module: nn.Module) -> Stack:
    """All entries, also where one block stands in several places (which is refused as tied)."""
    named: Any = module.items() if isinstance(module, nn.ModuleDict) else enumerate(cast(Any, module))
    return Stack(path, tuple((f"{path}.{name}" if path else str(name), child) for name, child in named))


def _other_depth(stacks: Sequence[Stack], shape: ModelShape) -> RaptrError:
    longest = max(stacks, key=lambda stack: len(stack.blocks))
    return fail(
        "attach-shape",
        f"the plan is for a model of layers={shape.layers}, and this one has {len(longest.blocks)} blocks in "
        f"{longest.path}",
        notes=tuple(f"{stack.path}: {len(stack.blocks)} blocks" for stack in stacks if stack is not longest),
        help="compile the schedule for this model's shape",
    )


def _mixed(stack: Stack) -> RaptrError:
    counts = Counter(type(block).__qualname__ for block in stack.modules)
    common, _ = counts.most_common(1)[0]
    others = [(path, type(block).__qualname__) for path, block in stack.blocks if type(block).__qualname__ != common]
    path, name = others[0] if others else stack.blocks[0]
    return fail(
        "attach-blocks",
        f"the blocks of {stack.path} are not of one class: most are {common}, {path} is {name}",
        help="blocks of one plan have to be alike, because each can stand in for another",
    )
