"""Runs a function of a file in JAX processes with virtual CPU devices, and never waits longer than it was told to."""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib import util
from pathlib import Path
from time import monotonic
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # a worker is run as a file

from tests.distributed.outcome import Outcome  # noqa: E402

LIMIT = 60


def together(
    commands: list[list[str]], devices: int, limit: float = LIMIT, **variables: str
) -> list[subprocess.CompletedProcess[str]]:
    """What came of commands, each a process of one JAX launch; after `limit` seconds all are killed: AssertionError."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu", **variables}
    environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    if len(commands) > 1:
        environment |= {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(len(commands))}
    running = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment | ({"JAX_PROCESS_ID": str(number)} if len(commands) > 1 else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number, command in enumerate(commands)
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
    """The outcome of a function in each process; it is called with `folder` and those arguments, which JSON can hold.

    A process that died without a word has code `died`.
    """
    folder.mkdir(exist_ok=True)
    for old in folder.glob("outcome-*.json"):
        old.unlink()
    call = [function.__code__.co_filename, function.__name__, arguments, limit]
    (folder / "call.json").write_text(json.dumps(call))
    command = [sys.executable, __file__, str(folder)]
    done = together([[*command, str(number)] for number in range(processes)], devices, limit)
    return [_outcome(folder / f"outcome-{number}.json", result.stdout) for number, result in enumerate(done)]


def _outcome(path: Path, written: str) -> Outcome:
    if not path.exists():
        return Outcome(code="died", message=written)
    told = json.loads(path.read_text())
    assert "trace" not in told, told["trace"]
    return Outcome(**{**told, "notes": tuple(told.get("notes", ()))})


def _work(folder: Path, number: int) -> None:
    """One process."""
    import traceback

    from raptr_dsl.diagnostics import RaptrError

    file, name, arguments, limit = json.loads((folder / "call.json").read_text())
    faulthandler.dump_traceback_later(0.9 * limit)
    spec = util.spec_from_file_location("worker", file)
    assert spec and spec.loader
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    begun = monotonic()
    try:
        told: dict[str, Any] = {"value": getattr(module, name)(folder, **arguments)}
    except RaptrError as error:
        first = error.diagnostics[0]
        told = {"code": first.code, "message": first.message, "notes": first.notes}
    except BaseException:
        told = {"trace": traceback.format_exc()}
    told["seconds"] = monotonic() - begun
    unfinished = folder / f".outcome-{number}"
    unfinished.write_text(json.dumps(told))
    unfinished.rename(folder / f"outcome-{number}.json")
    sys.stdout.flush()
    os._exit("value" not in told)  # processes that lost another are not to wait for it


if __name__ == "__main__":
    _work(Path(sys.argv[1]), int(sys.argv[2]))
