"""One hook on all optimizers of the process, that asks every living runner before a step.

A hook for each runner would have to be removed when the runner is collected, which can happen while an optimizer goes
through its hooks.
"""

from __future__ import annotations

from functools import cache
from typing import Protocol
from weakref import WeakSet

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle


class Watching(Protocol):
    """Whoever has a say in whether an optimizer may step."""

    def require_bound(self, optimizer: Optimizer) -> None: ...


_WATCHING: WeakSet[Watching] = WeakSet()


def watch(runner: Watching) -> None:
    """Asks the runner from now on, for as long as it lives."""
    _hook()
    _WATCHING.add(runner)


def leave(runner: Watching) -> None:
    """Asks it no longer."""
    _WATCHING.discard(runner)


@cache
def _hook() -> RemovableHandle:
    def before(optimizer: Optimizer, *_: object) -> None:
        for runner in list(_WATCHING):
            runner.require_bound(optimizer)

    return register_optimizer_step_pre_hook(before)
