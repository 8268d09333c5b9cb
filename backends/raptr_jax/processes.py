"""Several processes under `jax.distributed`: their words to each other go host side, by the coordination service.

The service is a key-value store in process 0. What all have to know is gathered there and published as a whole, so that
each process reads one value, however many there are.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any, TypeVar

import jax
from jax import distributed

from raptr_dsl.backend.claims import Claim, Claims, disagreement, spoken, word
from raptr_dsl.backend.processes import ALONE, Processes
from raptr_dsl.diagnostics import RaptrError, fail
from raptr_jax import last_word

T = TypeVar("T")

TIMEOUT = 600.0
"""Seconds that processes wait for each other between two steps: saves, evaluations and compilations happen there."""
GRACE = 5.0
"""Seconds beyond, in which process 0 tells the others whom it has waited for in vain, or why all end."""
LAUNCHERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
"""Variables in which launchers that JAX knows by itself tell how many processes they have started."""

_numbers = count()


def launched() -> Processes:
    """The processes of this launch; `jax.distributed` is begun where there are several and nobody has begun it."""
    if not distributed.is_initialized() and not _begin(os.environ):
        return ALONE
    return JaxProcesses() if jax.process_count() > 1 else ALONE


def _begin(environment: Mapping[str, str]) -> bool:
    """Whether several processes were launched; JAX's own heartbeat, which ends a process, comes after our timeout."""
    address, number = environment.get("JAX_COORDINATOR_ADDRESS"), environment.get("JAX_NUM_PROCESSES")
    if address and number:
        try:
            told: dict[str, Any] = {"num_processes": int(number), "process_id": int(environment["JAX_PROCESS_ID"])}
        except (KeyError, ValueError):
            raise fail(
                "ranks-launch",
                f"JAX_NUM_PROCESSES is {number!r} and JAX_PROCESS_ID {environment.get('JAX_PROCESS_ID')!r}",
                help="set JAX_COORDINATOR_ADDRESS=HOST:PORT, JAX_NUM_PROCESSES=2, and JAX_PROCESS_ID=0 and 1",
            ) from None
    elif any(environment.get(name, "1") not in ("", "1") for name in LAUNCHERS):
        told = {}
    else:
        return False
    try:
        distributed.initialize(heartbeat_timeout_seconds=int(2 * TIMEOUT), shutdown_timeout_seconds=30, **told)
    except (RuntimeError, ValueError) as error:
        raise fail("ranks-launch", f"the processes did not find each other: {_brief(error)}") from error
    if jax.process_index():
        last_word.leave(str(_ended(jax.process_index())))
    return True


def _ended(rank: int) -> RaptrError:
    """What is to be said if this process can say nothing itself."""
    return fail(
        "ranks-lost",
        f"rank {rank} was ended from without",
        help="see what rank 0 wrote; then start all of them again from the last checkpoint",
        notes=("JAX ends every process at once when rank 0 dies, which holds what they know of each other",),
    )


class JaxProcesses(Processes):
    """Implements `Processes` and the agreement on steps; all processes make and call it in the same order.

    Raises:
        RaptrError: `ranks-lost`, from every method: a process did not answer within `timeout` seconds. When process 0
            dies, which holds the store, JAX itself ends the others at once: see `last_word`.
    """

    def __init__(self, timeout: float = TIMEOUT) -> None:
        from jax._src.distributed import global_state  # nothing public gives the store

        assert global_state.client is not None
        self.rank, self.size, self.timeout = jax.process_index(), jax.process_count(), timeout
        self._store: Any = global_state.client
        number = next(_numbers)
        self._words, self._steps = _Sequence(f"raptr/{number}/words"), _Sequence(f"raptr/{number}/steps")
        self._pending: str | None = None

    def first(self, work: Callable[[], T]) -> T:
        key = self._words.next()
        if self.rank == 0:
            self._write(f"{key}/all", _outcome(work))
        return self._result(key)

    def any(self, flag: bool) -> bool:
        return any(self.gather(flag))

    def gather(self, value: T) -> list[T]:
        key = self._words.next()
        self._write(f"{key}/{self.rank}", value)
        return self._collect(key, self._words)

    def announce(self, claim: Claim) -> None:
        """Says what this process runs next, and does not wait."""
        assert self._pending is None
        self._pending = self._steps.next()
        self._write(f"{self._pending}/{self.rank}", claim)

    def settle(self, claim: Claim) -> None:
        """Waits until every process has announced its claim, which is this one and is announced now if it was not.

        Raises:
            RaptrError: `ranks-disagree`, with the values of every process, on every process.
        """
        if self._pending is None:
            self.announce(claim)
        assert self._pending is not None
        key, self._pending = self._pending, None
        claims = self._collect(key, self._steps)
        if len(set(claims)) > 1:
            self._part(key)
            raise disagreement({rank: str(claim) for rank, claim in enumerate(claims)})

    def withdraw(self) -> None:
        """Forgets what was announced, as all processes do where they go on from another step."""
        self._pending = None

    def _collect(self, key: str, sequence: _Sequence) -> list[Any]:
        """All values under a key: gathered by process 0, published as a whole, and read by the others."""
        if self.rank == 0:
            self._write(
                f"{key}/all", _outcome(lambda: [self._read(f"{key}/{rank}", rank) for rank in range(self.size)])
            )
            for old in sequence.passed():  # all have answered this one, so all have read those before
                self._call(self._store.key_value_delete, old)
        return self._result(key)

    def _result(self, key: str) -> Any:
        """What is published under a key; an error is raised on every process."""
        value, error = self._read(f"{key}/all")
        if error is None:
            return value
        self._part(key)
        raise error

    def _part(self, key: str) -> None:
        """Keeps process 0, and the store with it, until the others have read why all of them end."""
        with suppress(jax.errors.JaxRuntimeError):  # what is to be told is the reason, not this
            if self.rank:
                self._store.key_value_set_bytes(f"{key}/{self.rank}/read", b"")
                return
            for rank in range(1, self.size):
                self._store.blocking_key_value_get_bytes(f"{key}/{rank}/read", int(1000 * GRACE))

    def _write(self, key: str, value: Any) -> None:
        self._call(self._store.key_value_set_bytes, key, pickle.dumps(value))

    def _read(self, key: str, rank: int = 0) -> Any:
        """A value once it is there. The others wait longer than process 0, which may be waiting itself."""
        seconds = self.timeout if self.rank == 0 else self.timeout + GRACE
        get = self._store.blocking_key_value_get_bytes
        return pickle.loads(self._call(get, key, int(1000 * seconds), whose=f"rank {rank}"))

    def _call(self, method: Callable[..., Any], *arguments: Any, whose: str = "a rank") -> Any:
        try:
            return method(*arguments)
        except jax.errors.JaxRuntimeError as error:
            raise lost(error, whose, self.timeout) from error


class _Sequence:
    """Keys in order."""

    def __init__(self, name: str) -> None:
        self._name, self._number, self._forgotten = name, 0, 0

    def next(self) -> str:
        self._number += 1
        return f"{self._name}/{self._number}"

    def passed(self) -> list[str]:
        """Those before the last one, each once."""
        old = [f"{self._name}/{number}" for number in range(self._forgotten + 1, self._number)]
        self._forgotten = max(self._forgotten, self._number - 1)
        return old


def agree_on(processes: Processes, claims: Claims, step: int) -> None:
    """Returns when all processes have said that they run this step, and the same of it.

    Raises:
        RaptrError: `ranks-disagree`, `ranks-lost`.
    """
    if isinstance(processes, JaxProcesses):
        processes.settle(claims.of(claims.plan.step(step)))


def announce(processes: Processes, claims: Claims, step: int) -> None:
    """Says ahead what this process will run, if the plan has that step."""
    if isinstance(processes, JaxProcesses) and step < claims.plan.steps:
        processes.announce(claims.of(claims.plan.step(step)))


def withdraw(processes: Processes) -> None:
    """Takes back what was announced."""
    if isinstance(processes, JaxProcesses):
        processes.withdraw()


def layout(tree: Any) -> int:
    """A digest of the paths, shapes and dtypes of a tree of arrays."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return word(*(f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}".encode() for path, leaf in leaves))


@contextmanager
def naming_the_lost() -> Iterator[None]:
    """Tells of a program that broke because another process is gone as what it is: `ranks-lost`."""
    try:
        yield
    except Exception as error:
        if jax.process_count() > 1 and is_collective_failure(error):
            raise lost(error) from error
        raise


def is_collective_failure(error: BaseException) -> bool:
    """Whether a program broke because a process is gone; the errors have no class of their own for that."""
    told = str(error).lower()
    return isinstance(error, RuntimeError | ValueError) and any(
        word in told for word in ("gloo", "nccl", "coordination", "peer", "distributed service")
    )


def lost(error: BaseException, whose: str = "a rank", timeout: float = TIMEOUT) -> RaptrError:
    """The refusal to go on without a process."""
    return fail(
        "ranks-lost",
        f"{whose} died, or did not answer within {spoken(timeout)}",
        help="see what the ranks that ended wrote; then start all of them again from the last checkpoint",
        notes=(_brief(error),),
    )


def _outcome(work: Callable[[], T]) -> tuple[T | None, RaptrError | None]:
    try:
        return work(), None
    except RaptrError as error:
        return None, error


def _brief(error: BaseException) -> str:
    return str(error).partition("\n")[0].partition(" [type.googleapis")[0]
