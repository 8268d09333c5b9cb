"""Runs a function of a file in JAX processes with virtual CPU devices, and never waits longer than it was told to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from tests.distributed.forked import ROOT, free_port, outcomes
from tests.distributed.outcome import Outcome

LIMIT = 60


def _variables(processes: int, devices: int) -> list[dict[str, str]]:
    """Of each process of one launch."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    shared = {"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    if processes == 1:
        return [shared]
    shared |= {"JAX_COORDINATOR_ADDRESS": f"localhost:{free_port()}", "JAX_NUM_PROCESSES": str(processes)}
    return [shared | {"JAX_PROCESS_ID": str(number)} for number in range(processes)]


def together(
    commands: list[list[str]], devices: int, limit: float = LIMIT, **variables: str
) -> list[subprocess.CompletedProcess[str]]:
    """What came of commands, each a process of one JAX launch; after `limit` seconds all are killed: AssertionError."""
    running = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **own, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command, own in zip(commands, _variables(len(commands), devices), strict=True)
    ]
    begun, done = monotonic(), []
    try:
        for process in running:
            written, _ = process.communicate(timeout=max(1.0, limit - (monotonic() - begun)))
            done.append(subprocess.CompletedProcess(process.args, process.returncode, written))
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"not done after {limit} s:\n{error.output}") from None
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()
    return done


def on_processes(
    function: Callable[..., Any],
    folder: Path,
    *,
    processes: int = 1,
    devices: int = 1,
    limit: float = LIMIT,
    **arguments: Any,
) -> list[Outcome]:
    """The outcome of a function in each process; it is called with `folder` and the arguments.

    A process that died without a word has code `died`.
    """
    return outcomes(function, folder, _variables(processes, devices), limit, arguments)
