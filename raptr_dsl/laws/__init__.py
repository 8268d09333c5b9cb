"""Sampling laws, one file each; every `Law` defined in a file of this folder is known to the language."""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from raptr_dsl.laws.base import Draws, Law, Pool, Weights

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

LAWS: dict[str, type[Law]] = {cls.model_fields["law"].default: cls for cls in Law.__subclasses__()}

if TYPE_CHECKING:
    AnyLaw = Law
else:
    AnyLaw = Annotated[Union[tuple(LAWS.values())], Field(discriminator="law")]  # noqa: UP007 - a computed one

__all__ = ["LAWS", "AnyLaw", "Draws", "Law", "Pool", "Weights"]
