"""The processes that train one model together: what the training loop asks of a backend that can use several."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

from raptr_dsl.backend.protocol import Backend

T = TypeVar("T")


class Processes:
    """One process, which does everything itself; a backend for several overrides every member.

    All processes call the methods in the same order.

    Attributes:
        rank: the number of this process; process 0 writes files and speaks to the user. size: how many there are.
    """

    rank = 0
    size = 1

    def first(self, work: Callable[[], T]) -> T:
        """What process 0 gets by doing some work; a `RaptrError` of it is raised in every process."""
        return work()

    def any(self, flag: bool) -> bool:
        """Whether it is true in any process."""
        return flag

    def gather(self, value: T) -> list[T]:
        """What every process gives, by rank."""
        return [value]

    def close(self) -> None:
        """Ends what was begun for working together."""


ALONE = Processes()


@runtime_checkable
class Parallel(Protocol):
    """A backend that can train in several processes."""

    def processes(self) -> Processes:
        """Those that this process was launched with; the first call waits for all of them."""
        ...


def processes_of(backend: Backend) -> Processes:
    """The processes of a run: those of the launch where the backend can use them."""
    return backend.processes() if isinstance(backend, Parallel) else ALONE


RANK_VARIABLES = ("RANK", "JAX_PROCESS_ID", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")
"""Where torchrun, whoever starts JAX by hand, Open MPI and Slurm tell a process its number."""


def launch_rank() -> int:
    """This process's number as launchers tell it; 0 where none does."""
    told = (os.environ.get(name, "") for name in RANK_VARIABLES)
    return next((int(rank) for rank in told if rank.isascii() and rank.isdigit()), 0)
