"""What the blocks of an attached model are made of, so that a change behind the plan's back is found.

Adapters that are added, layers that are exchanged and blocks that are replaced after attaching would run whatever the
mask says. Torch tells of every module and parameter that is registered, so that steps between which nothing was cost
nothing; what it does not tell of (`requires_grad`, classes of quantisation tools that write to a module's own
dictionaries) is looked for in a few modules a step, and in all of them before the first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from raptr_dsl.diagnostics import fail
from raptr_torch.stacks import WRAPPERS
from raptr_torch.storageless import is_sharded

MODULES_A_STEP = 32
"""Looked at in every step; the blocks of small models are seen in full, others in turn."""


@dataclass(eq=False)
class _Part:
    """A module, and what it had when the plan was attached."""

    path: str
    module: nn.Module
    modules: dict[str, nn.Module | None]
    parameters: dict[str, nn.Parameter | None]
    trained: tuple[bool, ...]

    def difference(self) -> str:
        """What has changed; "" if nothing has. Sharding exchanges parameters, and is no change."""
        modules, parameters = self.module._modules, self.module._parameters
        if modules != self.modules:
            found = self.exchanged() or _added(modules.keys(), self.modules.keys())
            if found:
                return found
        if len(parameters) > len(self.parameters):
            return _added(parameters.keys(), self.parameters.keys())
        for (name, then), trained in zip(self.parameters.items(), self.trained, strict=True):
            now = parameters.get(name)
            if now is not then and not self._is_sharding(name, now, then):
                return f"its {name} is another parameter now" if name in parameters else f"its {name} is gone"
            if now is not None and now.requires_grad is not trained:
                return f"its {name} {'does not train any more' if trained else 'trains now'}"
        return ""

    def exchanged(self) -> str:
        """Which of its modules has given way to another; a wrapper around it calls it all the same."""
        for name, then in self.modules.items():
            now = self.module._modules.get(name)
            if not _holds(now, then):
                cls = type(now)
                return (
                    f"its {name} is gone" if now is None else f"its {name} is a {cls.__module__}.{cls.__qualname__} now"
                )
        return ""

    def _is_sharding(self, name: str, now: nn.Parameter | None, then: nn.Parameter | None) -> bool:
        if now is None or then is None or now.shape != then.shape:
            return False
        if not (is_sharded(now) or is_sharded(then) or then.is_meta):
            return False
        self.parameters[name] = now
        return True


class Structure:
    """The blocks of one model, with all that is in them, and the way from the model to them.

    Attributes:
        modules: all of them.
    """

    def __init__(self, model: nn.Module, stacks: Sequence[Sequence[nn.Module]]) -> None:
        inside = {module for blocks in stacks for block in blocks for module in block.modules()}
        blocks = {block for blocks in stacks for block in blocks}
        self._parts = [_part(path, module) for path, module in model.named_modules() if module in inside]
        self._way = [
            _Part(path, module, {name: child}, {}, ())
            for path, module in model.named_modules()
            if module not in inside
            for name, child in module.named_children()
            if not blocks.isdisjoint(child.modules())
        ]
        self.modules: Collection[nn.Module] = inside | {part.module for part in self._way}
        self._is_touched = True
        self._next = 0

    def registered(self) -> None:
        """Something is being made a part of one of the modules."""
        self._is_touched = True

    def require_unchanged(self, whole: bool = False) -> None:
        """Refuses blocks that are not what they were.

        Args:
            whole: whether all of them are looked at, and not only some where nothing is known to have changed.

        Raises:
            RaptrError: `attach-changed`.
        """
        if whole or self._is_touched:
            for part in self._way:
                _require(part, part.exchanged())
            for part in self._parts:
                _require(part, part.difference())
            self._is_touched = False
            return
        start, self._next = self._next, self._next + MODULES_A_STEP
        for part in self._parts[start : self._next]:
            _require(part, part.difference())
        if self._next >= len(self._parts):
            self._next = 0


def _part(path: str, module: nn.Module) -> _Part:
    parameters = dict(module._parameters)
    trained = tuple(p is not None and p.requires_grad for p in parameters.values())
    return _Part(path, module, dict(module._modules), parameters, trained)


def _added(now: Iterable[str], then: Iterable[str]) -> str:
    return next((f"it has a {name} now" for name in now if name not in then), "")


def _holds(now: nn.Module | None, then: nn.Module | None) -> bool:
    if now is then:
        return True
    inner = (getattr(now, word, None) for word in WRAPPERS)
    return any(isinstance(module, nn.Module) and _holds(module, then) for module in inner)


def _require(part: _Part, difference: str) -> None:
    if difference:
        raise fail(
            "attach-changed",
            f"{part.path or 'the model'} was changed since the plan was attached: {difference}",
            help="give the model back, change it, and attach again: state = runner.state_dict(); runner.detach(); …; "
            "runner = attach(…); runner.load_state_dict(state)",
        )
