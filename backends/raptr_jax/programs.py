"""Compiled programs of one function, one for each set of shapes of its arguments; compiled when needed or ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from raptr_jax.meter import Work, work_of


@dataclass(frozen=True, slots=True)
class Program:
    """A program that runs on arguments of its shapes and dtypes only: others are an error, and compile nothing.

    Attributes:
        work: of the matmuls of one execution, counted in the traced program.
    """

    run: Callable[..., Any]
    work: Work

    @property
    def flops(self) -> int:
        """Of a program that chooses nothing while it runs."""
        return self.work.flops()


@dataclass(frozen=True, slots=True)
class Traced:
    """A program that is traced and not yet compiled; `lower` and `work` as of `jax.stages.Traced` and `Program`."""

    lower: Callable[[], jax.stages.Lowered]
    work: Work

    @property
    def flops(self) -> int:
        """Of a program that chooses nothing while it runs."""
        return self.work.flops()


class Programs:
    """The programs of `function(*state, *arguments)`.

    Args:
        state: arguments whose shapes never change, or their shapes. The first `donated` of them may be overwritten.
        context: entered in every thread that compiles.
        results: shardings of what the function returns; None leaves them to the compiler.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        state: tuple[Any, ...],
        context: Callable[[], AbstractContextManager[Any]],
        donated: int = 0,
        results: Any = None,
    ) -> None:
        self._jitted = jax.jit(function, donate_argnums=tuple(range(donated)), out_shardings=results)
        self._state = jax.tree.map(_shape, state)
        self._context = context
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="raptr-compile")
        self._waiting: deque[tuple[Future[Program], tuple[Any, ...]]] = deque()
        self._lock = Lock()
        self._programs: dict[Hashable, Future[Program]] = {}

    def __len__(self) -> int:
        """How many programs have been asked for."""
        return len(self._programs)

    def get(self, *arguments: Any) -> Program:
        """The program for such arguments; it is waited for where it is being compiled, else compiled here and now."""
        key = _key(arguments)
        program = self._programs.get(key)
        if program is None or program.cancel():
            program = self._programs[key] = Future()
            try:
                program.set_result(self._compile(arguments))
            except BaseException:
                del self._programs[key]
                raise
        return program.result()

    def prepare(self, *arguments: Any) -> None:
        """Compiles the program for such arguments in another thread, unless it is there; `get` raises what fails."""
        key = _key(arguments)
        if key in self._programs:
            return
        self._programs[key] = program = Future()
        with self._lock:
            self._waiting.append((program, jax.tree.map(_shape, arguments)))
            if len(self._waiting) == 1:
                self._ahead.submit(self._work)

    def wait(self) -> None:
        """Returns when everything that was prepared is there."""
        for program in list(self._programs.values()):
            program.exception()

    def traced(self, *arguments: Any) -> Traced:
        """What would be compiled for such arguments."""
        with self._context():
            traced = self._jitted.trace(*self._state, *jax.tree.map(_shape, arguments))
            return Traced(traced.lower, work_of(traced.jaxpr))

    def _work(self) -> None:
        """Compiles what waits first, then submits itself again: Python waits at its exit for what was submitted."""
        program, arguments = self._waiting[0]
        if program.set_running_or_notify_cancel():
            try:
                program.set_result(self._compile(arguments))
            except BaseException as error:
                program.set_exception(error)
        with self._lock:
            self._waiting.popleft()
            if self._waiting:
                self._ahead.submit(self._work)

    def _compile(self, arguments: tuple[Any, ...]) -> Program:
        traced = self.traced(*arguments)
        with self._context():
            return Program(traced.lower().compile(), traced.work)


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None)
    return jax.ShapeDtypeStruct(
        np.shape(leaf), leaf.dtype, sharding=sharding if isinstance(sharding, NamedSharding) else None
    )


def _key(arguments: tuple[Any, ...]) -> Hashable:
    leaves, structure = jax.tree.flatten(arguments)
    return structure, tuple((np.shape(leaf), np.dtype(leaf.dtype)) for leaf in leaves)
