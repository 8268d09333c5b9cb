"""Runs a function of a file on several ranks under torchrun, and never waits longer than it was told to.

The worker writes what it returns, or the RaptrError it raises, as one JSON file a rank, so that nothing depends on
whether torchrun had ended a rank before its last words were printed.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import util
from pathlib import Path
from time import monotonic
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # a worker is run as a file

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
    """The outcome of a function on each rank; it is called with `folder` and those arguments, which JSON can hold.

    A rank that died without a word has code `died`.
    """
    folder.mkdir(exist_ok=True)
    for old in folder.glob("outcome-*.json"):
        old.unlink()
    file = function.__code__.co_filename
    (folder / "call.json").write_text(json.dumps([file, function.__name__, arguments, limit]))
    _, written = torchrun(ranks, [__file__, str(folder)], limit)
    outcomes = []
    for rank in range(ranks):
        path = folder / f"outcome-{rank}.json"
        if not path.exists():
            outcomes.append(Outcome(code="died", message=written))
            continue
        told = json.loads(path.read_text())
        assert "trace" not in told, told["trace"]
        outcomes.append(Outcome(**{**told, "notes": tuple(told.get("notes", ()))}))
    return outcomes


def _work(folder: Path) -> None:
    """One rank."""
    import traceback

    import torch.distributed as dist

    from raptr_dsl.diagnostics import RaptrError

    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun ends the others where one fails: first let them tell
    file, name, arguments, limit = json.loads((folder / "call.json").read_text())
    faulthandler.dump_traceback_later(0.9 * limit)
    spec = util.spec_from_file_location("worker", file)
    assert spec and spec.loader
    module = util.module_from_spec(spec)
    sys.modules["worker"] = module
    spec.loader.exec_module(module)
    dist.init_process_group("gloo")
    rank, begun = dist.get_rank(), monotonic()
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
    unfinished = folder / f".outcome-{rank}"
    unfinished.write_text(json.dumps(told))
    unfinished.rename(folder / f"outcome-{rank}.json")
    sys.stdout.flush()
    os._exit("value" not in told)  # groups that lost a rank are not to be waited for


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
