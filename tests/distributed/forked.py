"""Runs a function in several processes, forked from one that has imported the frameworks: each begins at once.

Importing torch and JAX anew in every process would take longer than most tests do. What came of each process is one
JSON file, so that nothing depends on whether it lived to print its last words.
"""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import util
from multiprocessing import forkserver
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from raptr_dsl.diagnostics import RaptrError
from tests.distributed.outcome import Outcome

ROOT = Path(__file__).parents[2]
IMPORTED = ["pytest", "raptr_jax.train", "tests.backends.drawn", "tests.distributed.loops"]
"""Only modules that start no threads: these would not be there after a fork."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def outcomes(
    function: Callable[..., Any],
    folder: Path,
    variables: Sequence[Mapping[str, str]],
    limit: float,
    arguments: Mapping[str, Any],
    begin: Callable[[], object] | None = None,
) -> list[Outcome]:
    """The outcome of `function(folder, **arguments)` in as many processes as there are sets of environment variables.

    `begin`, if any, is called before it. A process that died without a word has code `died`; after `limit` seconds all
    are killed: an AssertionError.
    """
    folder.mkdir(exist_ok=True)
    for old in folder.glob("outcome-*.json"):
        old.unlink()
    where = (function.__code__.co_filename, function.__name__)
    context = _context()
    running = [
        context.Process(target=_work, args=(where, folder, number, dict(own), limit, dict(arguments), begin))
        for number, own in enumerate(variables)
    ]
    begun = monotonic()
    try:
        for process in running:
            process.start()
        for process in running:
            process.join(max(0.0, limit - (monotonic() - begun)))
        late = [process for process in running if process.is_alive()]
    finally:  # the time limit of the test itself, too
        for process in running:
            if process.is_alive():
                process.kill()
                process.join()
    said = [(folder / f"said-{number}.txt").read_text(errors="replace") for number in range(len(running))]
    assert not late, f"not done after {limit} s:\n" + "\n".join(said)
    return [_outcome(folder / f"outcome-{number}.json", written) for number, written in enumerate(said)]


@cache
def _context() -> multiprocessing.context.ForkServerContext:
    """One server a test process, which ends with it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        environment.setenv("OMP_NUM_THREADS", "1")
        environment.setenv("JAX_PLATFORMS", "cpu")
        forkserver.ensure_running()
    return context


def _outcome(path: Path, written: str) -> Outcome:
    if not path.exists():
        return Outcome(code="died", message=written)
    told = json.loads(path.read_text())
    assert "trace" not in told, told["trace"]
    return Outcome(**{**told, "notes": tuple(told.get("notes", ()))})


def _work(
    where: tuple[str, str],
    folder: Path,
    number: int,
    variables: dict[str, str],
    limit: float,
    arguments: dict[str, Any],
    begin: Callable[[], object] | None,
) -> None:
    """One process."""
    os.environ.update(variables)
    said = os.open(folder / f"said-{number}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(said, stream)
    faulthandler.dump_traceback_later(0.9 * limit, file=2)
    file, name = where
    spec = util.spec_from_file_location("worker", file)
    assert spec and spec.loader
    module = util.module_from_spec(spec)
    sys.modules["worker"] = module
    spec.loader.exec_module(module)
    if begin is not None:
        begin()
    begun = monotonic()
    try:
        told: dict[str, Any] = {"value": getattr(module, name)(folder, **arguments)}
    except RaptrError as error:
        first = error.diagnostics[0]
        told = {"code": first.code, "message": first.message, "notes": first.notes}
    except OSError as error:
        told = {"code": type(error).__name__, "message": str(error)}
    except BaseException:
        told = {"trace": traceback.format_exc()}
    told["seconds"] = monotonic() - begun
    unfinished = folder / f".outcome-{number}"
    unfinished.write_text(json.dumps(told))
    unfinished.rename(folder / f"outcome-{number}.json")
    sys.stdout.flush()
    os._exit("value" not in told)  # groups that lost a process are not to be waited for
