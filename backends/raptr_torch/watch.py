"""Hooks on all optimizers and modules of the process, that ask or tell what belongs to living runners.

A hook for each runner would have to be removed when the runner is collected, which can happen while an optimizer goes
through its hooks.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet, ref

from torch import nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle


class Bound(Protocol):
    """Whoever has a say in whether an optimizer may step."""

    def require_bound(self, optimizer: Optimizer) -> None: ...


class Told(Protocol):
    """Whoever is to know what becomes of some modules."""

    modules: Collection[nn.Module]

    def registered(self) -> None:
        """Something is being made a part of one of them."""
        ...


_ASKED: WeakSet[Bound] = WeakSet()
_TOLD: WeakKeyDictionary[nn.Module, ref[Told]] = WeakKeyDictionary()


def watch(bound: Bound, told: Told) -> None:
    """Asks the one and tells the other from now on, for as long as they live."""
    _hooks()
    _ASKED.add(bound)
    _TOLD.update(dict.fromkeys(told.modules, ref(told)))


def leave(bound: Bound) -> None:
    """Asks it no longer."""
    _ASKED.discard(bound)


@cache
def _hooks() -> list[RemovableHandle]:
    def before(optimizer: Optimizer, *_: object) -> None:
        for bound in list(_ASKED):
            bound.require_bound(optimizer)

    def registered(module: nn.Module, *_: Any) -> None:
        told = _TOLD[module]() if module in _TOLD else None
        if told is not None:
            told.registered()

    return [
        register_optimizer_step_pre_hook(before),
        register_module_module_registration_hook(registered),
        register_module_parameter_registration_hook(registered),
    ]
