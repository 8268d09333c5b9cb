"""Averaging the gradients of the blocks that ran over all ranks, one reduction a block, while backward goes on.

The blocks are reduced in one fixed order, that in which backward usually meets them, so that the collectives of all
ranks pair up whatever each rank's graph looks like; a block of which a rank has only some gradients (a mixture of
experts) waits for the step's exit. What no rank has a gradient of keeps none, as in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from raptr_dsl.diagnostics import fail
from raptr_torch.sites import Part

Active = Callable[[Part], bool]
"""Whether a parameter has a gradient in a step."""


class Reduction(Protocol):
    """Who averages the gradients."""

    def begin(self, active: Active | None) -> None:
        """A step begins that trains those parameters; None for all, with any number of micro-batches."""
        ...

    def finish(self) -> None:
        """All backward passes are done: on return gradients are averaged."""
        ...

    def abandon(self) -> None:
        """The step failed."""
        ...

    def release(self) -> None:
        """Leaves the model alone."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Bucket:
    """Parameters that are reduced together: neighbours of one block, dtype and device. `part`: the first one's."""

    part: Part
    parameters: tuple[nn.Parameter, ...]


@dataclass(frozen=True, slots=True)
class Flight:
    """A reduction under way. `buffer` holds the gradients, and for each whether any rank has one."""

    bucket: Bucket
    buffer: Tensor
    work: dist.Work


class BlockReduction:
    """The reduction of a model that nothing wraps. Parameters and buffers become rank 0's, once.

    Args:
        micro_batches: backward passes of a step; the last of them overlaps with the reductions. None: not known in
            advance, and everything is reduced at the step's exit.
    """

    def __init__(self, model: nn.Module, parts: Mapping[nn.Parameter, Part], micro_batches: int | None) -> None:
        self._micro_batches, self._size = micro_batches, dist.get_world_size()
        _broadcast(model)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._buckets = _buckets(trained, parts)
        self._bucket_of = {p: bucket for bucket in self._buckets for p in bucket.parameters}
        self._hooks = [p.register_post_accumulate_grad_hook(self._arrived) for p in trained]
        self._queue: list[Bucket] = []
        self._arrivals: dict[nn.Parameter, int] = {}
        self._missing: dict[Bucket, int] = {}
        self._flights: list[Flight] = []
        self._overlaps = False

    def begin(self, active: Active | None) -> None:
        self._queue = [bucket for bucket in self._buckets if active is None or active(bucket.part)]
        self._missing = {bucket: len(bucket.parameters) for bucket in self._queue}
        self._arrivals, self._flights = {}, []
        self._overlaps = active is not None and self._micro_batches is not None

    def finish(self) -> None:
        while self._queue:
            self._launch(self._queue.pop(0))
        for flight in self._flights:
            flight.work.wait()
            _hand_out(flight)
        self.abandon()

    def abandon(self) -> None:
        self._queue, self._flights, self._overlaps = [], [], False

    def release(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _arrived(self, parameter: Tensor) -> None:
        """A backward pass has added its gradient of a parameter."""
        if not self._overlaps:
            return
        assert isinstance(parameter, nn.Parameter) and self._micro_batches is not None
        arrivals = self._arrivals[parameter] = self._arrivals.get(parameter, 0) + 1
        if arrivals > self._micro_batches:
            raise fail(
                "ranks-micro-batches",
                f"a gradient came in a backward pass beyond the {self._micro_batches} of a step",
                help=f"declare the micro-batches of a step: runner.distribute(micro_batches={arrivals})",
            )
        if arrivals < self._micro_batches:
            return
        self._missing[self._bucket_of[parameter]] -= 1
        while self._queue and not self._missing[self._queue[0]]:
            self._launch(self._queue.pop(0))

    @torch.no_grad()
    def _launch(self, bucket: Bucket) -> None:
        gradients = [parameter.grad for parameter in bucket.parameters]
        if any(gradient is not None and gradient.is_sparse for gradient in gradients):
            raise fail(
                "ranks-sparse",
                "a gradient is sparse, which reductions of whole blocks cannot hold",
                help="make the embedding with sparse=False",
            )
        like = bucket.parameters[0]
        flat = [
            like.new_zeros(parameter.numel()) if gradient is None else gradient.flatten()
            for parameter, gradient in zip(bucket.parameters, gradients, strict=True)
        ]
        present = [gradient is not None for gradient in gradients]
        flat.append(like.new_ones(len(present)) if all(present) else like.new_tensor(present))  # no copy to a GPU
        buffer = torch.cat(flat).div_(self._size)
        work = dist.all_reduce(buffer, async_op=True)
        assert work is not None
        self._flights.append(Flight(bucket, buffer, work))


def _hand_out(flight: Flight) -> None:
    """The averages as gradients: views of the buffer."""
    parameters, buffer = flight.bucket.parameters, flight.buffer
    sizes = [parameter.numel() for parameter in parameters]
    *averages, present = buffer.split([*sizes, len(parameters)])
    for parameter, average, anywhere in zip(parameters, averages, present, strict=True):
        if (
            parameter.grad is not None or anywhere
        ):  # which is looked at, and waited for, only where a gradient is missing
            parameter.grad = average.view(parameter.shape)


def _buckets(parameters: Sequence[nn.Parameter], parts: Mapping[nn.Parameter, Part]) -> list[Bucket]:
    """Runs of neighbours, last first."""

    def kind(parameter: nn.Parameter) -> tuple[object, ...]:
        part = parts[parameter]
        return part.block, part.outside, part.is_factor, parameter.dtype, parameter.device

    runs = [tuple(run) for _, run in groupby(reversed(parameters), kind)]
    return [Bucket(parts[run[0]], run) for run in runs]


@torch.no_grad()
def _broadcast(model: nn.Module) -> None:
    """Rank 0's parameters and buffers, to the bit."""
    works = [dist.broadcast(t.detach(), src=0, async_op=True) for t in (*model.parameters(), *model.buffers())]
    for work in works:
        if work is not None:
            work.wait()
