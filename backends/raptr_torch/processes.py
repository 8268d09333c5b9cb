"""The processes of a launch by torchrun, for `raptr train`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from raptr_dsl.backend.processes import ALONE, Processes
from raptr_dsl.diagnostics import RaptrError
from raptr_torch.agreement import TIMEOUT, is_collective_failure, lost

T = TypeVar("T")


def device() -> torch.device:
    """Where this process computes: a GPU of its own, if there are any."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def launched() -> Processes:
    """The processes of the default group, which is made where torchrun has started several."""
    if dist.is_initialized():
        return TorchProcesses(owns_group=False) if dist.get_world_size() > 1 else ALONE
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    if device().type == "cuda":
        torch.cuda.set_device(device())
    dist.init_process_group("nccl" if device().type == "cuda" else "gloo", timeout=TIMEOUT)
    return TorchProcesses(owns_group=True)


class TorchProcesses(Processes):
    """Implements `Processes` by a gloo group of its own, which needs no GPU.

    Raises:
        RaptrError: `ranks-lost`, from every method.
    """

    def __init__(self, owns_group: bool) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._owns_group = owns_group
        group = dist.new_group(backend="gloo", timeout=TIMEOUT)
        assert isinstance(group, dist.ProcessGroup)
        self._group = group

    def first(self, work: Callable[[], T]) -> T:
        outcome = _outcome(work) if self.rank == 0 else None
        box = [outcome]
        self._try(lambda: dist.broadcast_object_list(box, src=0, group=self._group))
        value, error = box[0] or (None, None)
        if error is not None:
            raise error
        return value  # pyright: ignore[reportReturnType]  # what `work` returned in process 0

    def any(self, flag: bool) -> bool:
        raised = torch.tensor(int(flag))
        self._try(lambda: dist.all_reduce(raised, dist.ReduceOp.MAX, self._group))
        return bool(raised)

    def gather(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.size
        self._try(lambda: dist.all_gather_object(values, value, group=self._group))
        return values

    def close(self) -> None:
        if self._owns_group:
            dist.destroy_process_group()

    def _try(self, collective: Callable[[], object]) -> None:
        try:
            collective()
        except RuntimeError as error:
            if is_collective_failure(error):
                raise lost(error, TIMEOUT) from error
            raise


def mean(value: float, on: torch.device) -> float:
    """The mean over the processes of the default group, or the value where there is none."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=on)
    dist.all_reduce(total)
    return float(total) / dist.get_world_size()


def _outcome(work: Callable[[], T]) -> tuple[T | None, RaptrError | None]:
    try:
        return work(), None
    except RaptrError as error:
        return None, error
