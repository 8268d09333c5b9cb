"""A model that DistributedDataParallel wraps already: its buckets are reduced without what idles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import GradBucket  # pyright: ignore[reportPrivateImportUsage]
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from raptr_dsl.diagnostics import fail
from raptr_torch.reduction import Active
from raptr_torch.sites import Part


class DDPReduction:
    """Implements `reduction.Reduction` by a public communication hook; the wrapper does the rest.

    Raises:
        RaptrError: `ranks-adopt`: the wrapper was made in a way in which masks cannot work.
    """

    def __init__(self, wrapper: DistributedDataParallel, model: nn.Module, parts: Mapping[nn.Parameter, Part]) -> None:
        for fact, help in _obstacles(wrapper, model):
            raise fail("ranks-adopt", f"this DistributedDataParallel {fact}", help=help)
        self._active: Active | None = None
        assert wrapper.process_group is not None
        self._group, self._parts = wrapper.process_group, parts
        wrapper.register_comm_hook(self, _reduce)

    def begin(self, active: Active | None) -> None:
        self._active = active

    def finish(self) -> None:
        self._active = None

    abandon = release = finish  # a hook cannot be removed: without a step it reduces whole buckets, as DDP does

    def average(self, bucket: GradBucket) -> Future[Tensor]:
        """The bucket's buffer, once what is active in it is averaged."""
        buffer, gradients = bucket.buffer(), bucket.gradients()
        active = [g for p, g in zip(bucket.parameters(), gradients, strict=True) if self._runs(p)]
        if not active:
            return _done(buffer)
        if len(active) == len(gradients):
            return self._sum(buffer.div_(self._group.size())).then(lambda future: future.value()[0])
        flat = torch.cat([gradient.flatten() for gradient in active]).div_(self._group.size())

        def spread(future: Future[list[Tensor]]) -> Tensor:
            averages = future.value()[0].split([gradient.numel() for gradient in active])
            for gradient, average in zip(active, averages, strict=True):
                gradient.copy_(average.view_as(gradient))
            return buffer

        return self._sum(flat).then(spread)

    def _runs(self, parameter: Tensor) -> bool:
        assert isinstance(parameter, nn.Parameter)
        return self._active is None or self._active(self._parts[parameter])

    def _sum(self, flat: Tensor) -> Future[list[Tensor]]:
        work = dist.all_reduce(flat, group=self._group, async_op=True)
        assert work is not None
        return work.get_future()


def _reduce(state: DDPReduction, bucket: GradBucket) -> torch.futures.Future[torch.Tensor]:
    return state.average(bucket)


# DDP compares the annotations with these classes themselves, and annotations are strings here.
_reduce.__annotations__ = {"bucket": GradBucket, "return": torch.futures.Future[torch.Tensor]}


def _done(buffer: Tensor) -> Future[Tensor]:
    future: Future[Tensor] = Future(devices=[buffer.device] if buffer.is_cuda else None)
    future.set_result(buffer)
    return future


def _obstacles(wrapper: DistributedDataParallel, model: nn.Module) -> Iterator[tuple[str, str]]:
    """What is wrong with a wrapper, and what to do about it."""
    if wrapper.module is not model:
        yield "wraps another model", "attach the plan to the model, then adopt the wrapper of that model"
    if not wrapper.find_unused_parameters:
        yield (
            "was made with find_unused_parameters=False, so it would wait for the gradients of idle blocks",
            "make it with find_unused_parameters=True, or leave it out and call runner.distribute()",
        )
    if wrapper.static_graph:
        yield (
            "was made with static_graph=True, and the graph of a masked model changes from step to step",
            "make it with static_graph=False",
        )
    if wrapper._comm_hooks:
        hook = getattr(wrapper._comm_hooks[0][0], "__qualname__", "unnamed")
        yield (
            f"has a communication hook already ({hook}), which reduces whole buckets",
            "leave the hook out, or leave DistributedDataParallel out and call runner.distribute()",
        )
    for name, module in model.named_modules():
        if _is_reentrant(module):
            yield (
                f"meets reentrant activation checkpointing in {name or type(module).__qualname__}, whose gradients it "
                "cannot tell from missing ones",
                "checkpoint with use_reentrant=False",
            )


def _is_reentrant(module: Any) -> bool:
    """Whether torch's CheckpointWrapper or transformers recompute a module by the reentrant kind."""
    impl = getattr(module, "checkpoint_impl", None)
    if impl is not None:
        return getattr(impl, "name", "") == "REENTRANT"
    recompute = getattr(module, "_gradient_checkpointing_func", None)
    asked = getattr(module, "gradient_checkpointing", False) and recompute is not None
    return bool(asked and getattr(recompute, "keywords", {}).get("use_reentrant", False))
