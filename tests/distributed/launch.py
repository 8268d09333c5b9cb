"""Runs a function of a file on several ranks of torch, or a program under torchrun, and never waits too long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist

from tests.distributed.forked import free_port, outcomes
from tests.distributed.outcome import Outcome, values

__all__ = ["Outcome", "on_ranks", "torchrun", "values"]

LIMIT = 60


def torchrun(ranks: int, arguments: list[str], limit: float = LIMIT, **environment: str) -> tuple[int, str]:
    """Exit code of torchrun and all that was written; after `limit` seconds everything is killed: an AssertionError."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(ranks),
        *arguments,
    ]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        written, _ = process.communicate(timeout=limit)
    except BaseException as error:  # the time limit of the test itself, too
        for worker in _children(process.pid):
            os.kill(worker, signal.SIGKILL)
        process.kill()
        written, _ = process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise AssertionError(f"not done after {limit} s:\n{written}") from None
        raise
    return process.returncode, written


def _children(pid: int) -> list[int]:
    """torchrun gives each worker a session of its own, so they are no group."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def on_ranks(
    function: Callable[..., Any], folder: Path, *, ranks: int = 2, limit: float = LIMIT, **arguments: Any
) -> list[Outcome]:
    """The outcome of a function on each rank, called with `folder` and the arguments, under the variables of torchrun.

    A rank that died without a word has code `died`.
    """
    shared = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    shared |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
    variables = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
    return outcomes(function, folder, variables, limit, arguments, _begin)


def _begin() -> None:
    dist.init_process_group("gloo")
