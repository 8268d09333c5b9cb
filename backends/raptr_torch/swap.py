"""Giving an object of somebody else's class behaviour of ours, and taking it back.

`module.__class__` becomes a cached subclass that looks like its base (name, qualified name, module), so that wrap
policies, `isinstance` and state dicts notice nothing. Copies and pickles are of the base class: they are plain.
"""

from __future__ import annotations

from functools import cache
from types import new_class
from typing import Any

from torch import nn

PREFIX = "_raptr"
"""Of the instance attributes that belong to a swapped class."""

_LOOKS = ("__module__", "__qualname__", "__doc__")


class Swapped:
    """Base of the mixins whose behaviour is given to modules."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        plain = object.__new__(plain_class(type(self)))
        plain.__dict__.update({word: value for word, value in self.__dict__.items() if not word.startswith(PREFIX)})
        return plain.__reduce_ex__(min(protocol, 1))  # later ones insist that a class made for an object is its own


def swap(module: nn.Module, mixin: type[Swapped], **attributes: Any) -> None:
    """Gives a module the behaviour of a mixin; `attributes` are set on it."""
    module.__dict__.update(attributes)
    module.__class__ = swapped_class(type(module), mixin)


def restore(module: nn.Module) -> None:
    """Takes the behaviour back, also where another class was made on top of ours meanwhile (FSDP2's)."""
    module.__class__ = plain_class(type(module))
    for word in [word for word in module.__dict__ if word.startswith(PREFIX)]:
        del module.__dict__[word]


@cache
def swapped_class(base: type, mixin: type[Swapped]) -> type:
    """The subclass of `base` that behaves like `mixin`."""
    return new_class(
        base.__name__, (mixin, base), exec_body=lambda body: body.update({w: getattr(base, w) for w in _LOOKS})
    )


@cache
def plain_class(cls: type) -> type:
    """The class without our mixins. Under FSDP2 a class (FSDPModule, ours) becomes (FSDPModule, plain)."""
    if not issubclass(cls, Swapped):
        return cls
    if issubclass(cls.__bases__[0], Swapped) and _is_mixin(cls.__bases__[0]):
        return plain_class(cls.__bases__[1])
    bases = tuple(plain_class(base) for base in cls.__bases__)
    known = _sharded_class(bases)
    if known is not None:
        return known
    kept = {word: cls.__dict__[word] for word in (*_LOOKS, "__deepcopy__") if word in cls.__dict__}
    return new_class(cls.__name__, bases, exec_body=lambda body: body.update(kept))


def _is_mixin(cls: type) -> bool:
    return not issubclass(cls, nn.Module)


def _sharded_class(bases: tuple[type, ...]) -> type | None:
    """FSDP2's own class over a plain one, where it has made it: one class must not have two shards of itself."""
    try:
        from torch.distributed.fsdp._fully_shard._fully_shard import get_cls_to_fsdp_cls
    except ImportError:  # torch without distributed, or another place for it: a class of our own does as well
        return None
    made = get_cls_to_fsdp_cls().get(bases[-1])
    return made if made is not None and made.__bases__ == bases else None
