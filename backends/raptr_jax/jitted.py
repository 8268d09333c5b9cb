"""A function of somebody's own, compiled once a size of mask; what its programs really run is read from them.

Matmuls with the mask at hand, with a mask of no block and with one of one block tell how many blocks a program runs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from raptr_dsl.diagnostics import fail
from raptr_jax.meter import matmul_flops
from raptr_jax.programs import Program, Programs
from raptr_jax.scan import BlockMask


@dataclass(frozen=True, slots=True)
class Ran:
    """What one execution of a program runs: blocks, and FLOPs of all its matmuls."""

    blocks: int
    flops: int


class Jitted:
    """What `Runner.jit` returns."""

    def __init__(
        self, function: Callable[..., Any], donated: int, require_open: Callable[[], None], note: Callable[[Ran], None]
    ) -> None:
        self._function, self._require_open, self._note = function, require_open, note
        self._programs = Programs(function, (), nullcontext, donated)
        self._ran: dict[Program, Ran] = {}
        self._kinds: Any = None

    def __len__(self) -> int:
        """How many programs have been asked for."""
        return len(self._programs)

    def __call__(self, *arguments: Any) -> Any:
        self._require_open()
        arguments = jax.tree.map(_as_array, arguments)
        self._require_same(arguments)
        program = self._programs.get(*arguments)
        if program not in self._ran:
            self._ran[program] = self._measure(program.flops, arguments)
        result = program.run(*arguments)
        self._note(self._ran[program])
        return result

    def prepare(self, mask: BlockMask, arguments: tuple[Any, ...]) -> None:
        arguments = jax.tree.map(_as_array, arguments)
        self._programs.prepare(*_with_mask(arguments, lambda _: mask))

    def _measure(self, flops: int, arguments: tuple[Any, ...]) -> Ran:
        none, one = (
            self._flops(_with_mask(arguments, lambda mask, count=count: _first(mask, count))) for count in (0, 1)
        )
        if one <= none:
            raise fail(
                "mask-unused",
                "the function runs the same blocks whatever the mask says",
                help="hand the mask on: raptr_jax.scan_blocks(block, stacked, x, mask)",
            )
        return Ran((flops - none) // (one - none), flops)

    def _flops(self, arguments: tuple[Any, ...]) -> int:
        return matmul_flops(jax.make_jaxpr(self._function)(*arguments))

    def _require_same(self, arguments: tuple[Any, ...]) -> None:
        """Everything but the mask keeps its shapes and dtypes, or each step would be compiled anew."""
        kinds = _kinds(_with_mask(arguments, lambda _: None))
        self._kinds = kinds if self._kinds is None else self._kinds
        changed = sorted(path for path in kinds.keys() | self._kinds.keys() if kinds.get(path) != self._kinds.get(path))
        if not changed:
            return
        path = changed[0]
        raise fail(
            "retrace",
            f"argument {path} is {kinds.get(path, 'missing')}, and was {self._kinds.get(path, 'missing')} before",
            help="keep shapes and dtypes from step to step, as by `jnp.asarray(x, dtype)`; another batch size needs "
            "a function of its own",
            notes=tuple(f"{path} changed as well" for path in changed[1:5]),
        )


def _kinds(arguments: Any) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(arguments)
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def _with_mask(arguments: tuple[Any, ...], change: Callable[[BlockMask], Any]) -> tuple[Any, ...]:
    return jax.tree.map(
        lambda node: change(node) if isinstance(node, BlockMask) else node,
        arguments,
        is_leaf=lambda node: isinstance(node, BlockMask),
    )


def _first(mask: BlockMask, count: int) -> BlockMask:
    """The mask of the first `count` of its blocks; it is of shapes only, so which they are does not matter."""
    first = jax.tree.map(lambda leaf: np.zeros((count, *np.shape(leaf)[1:]), leaf.dtype), mask)
    return first._replace(index=np.arange(count, dtype=np.int32))


def _as_array(leaf: Any) -> Any:
    """Python numbers become arrays of one dtype, so that their values are no part of a program."""
    return leaf if hasattr(leaf, "dtype") else np.asarray(leaf, np.float32 if isinstance(leaf, float) else None)
