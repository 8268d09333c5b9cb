"""Copies of modules on `meta`: they compute shapes and nothing else, on any machine, whatever the model's size.

A module that FSDP2 has sharded is copied as what it was before: plain, with parameters of their whole shape.
"""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

_COUNTED_ATTENTION = ("eager", "sdpa")
"""Those of transformers that are made of matmuls; fused kernels compute the same, and torch counts none of them."""

_NOT_COPIED = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "__composable_api_")
"""Who listens to a module, and what FSDP2 keeps of it."""


def copy_without_storage(module: nn.Module, beside: Any = None) -> tuple[nn.Module, Any]:
    """A copy in evaluation (nothing is dropped or recomputed), that nobody listens to.

    Args:
        beside: an object that refers to parts of the module; its copy refers to those of the copy.
    """
    memo: dict[int, Any] = {}
    for part in module.modules():
        tensors = (*part._parameters.values(), *part._buffers.values(), *part.__dict__.values())
        memo |= {id(tensor): without_storage(tensor) for tensor in tensors if isinstance(tensor, Tensor)}
        memo |= {id(value): OrderedDict() for name, value in part.__dict__.items() if name.startswith(_NOT_COPIED)}
    sharded = [part for part in module.modules() if is_sharded_module(part)]
    memo |= {id(part): object.__new__(type(part).__mro__[2]) for part in sharded}  # FSDP2 forbids to copy its own class
    for part in sharded:
        memo[id(part)].__dict__.update(deepcopy(part.__dict__, memo))
    copy, beside = deepcopy((module, beside), memo)
    for part in copy.modules():
        config: Any = getattr(part, "config", None)
        if getattr(config, "_attn_implementation", None) not in (None, *_COUNTED_ATTENTION):
            config._attn_implementation = "sdpa"
        if getattr(config, "_experts_implementation", None) is not None:  # the others need to know who is routed where
            config._experts_implementation = "batched_mm"
    return copy.eval(), beside


def without_storage(tensor: Tensor) -> Tensor:
    """A tensor of the same shape and dtype on `meta`; of one that is sharded, of the shape of all shards together."""
    if is_sharded(tensor):
        empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    else:
        empty = tensor.detach().to("meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


def tracing() -> FakeTensorMode:
    """Within, models of transformers do not ask what is in a tensor, as they do to spare a mask that masks nothing."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def plain(tensor: Tensor) -> Tensor:
    """What was computed while tracing, as a plain tensor on `meta`."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor."""
    return hasattr(tensor, "placements")


def is_sharded_module(module: nn.Module) -> bool:
    """Whether FSDP2's `fully_shard` was applied to it."""
    return any(cls.__name__ == "FSDPModule" and cls.__module__.startswith("torch.") for cls in type(module).__mro__)


def runs_whole(model: nn.Module) -> bool:
    """Whether its parameters are whole where they are used: not sharded, or by FSDP2 over ranks of one dimension.

    Tensor parallelism splits the matmuls themselves; on a mesh of two dimensions it may be one of the two.
    """
    gathered = {p for module in model.modules() if is_sharded_module(module) for p in module.parameters()}
    sharded: list[Any] = [p for p in model.parameters() if is_sharded(p)]
    return all(p in gathered and p.device_mesh.ndim == 1 for p in sharded)
