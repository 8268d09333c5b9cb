"""The shape of a torch model, as the compiler speaks of it."""

from __future__ import annotations

from torch import nn

from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.ir.model import ModelShape
from raptr_torch.model import Transformer


def shape(model: nn.Module) -> ModelShape:
    """The shape that a `raptr_torch.model.Transformer` was built with.

    Raises:
        RaptrError: the model is of another class.
    """
    if isinstance(model, Transformer):
        return model.shape
    raise foreign(model)


def foreign(model: object) -> RaptrError:
    """The refusal of a model that raptr_torch cannot mask."""
    return fail(
        "attach-model",
        f"{type(model).__qualname__} is not a model that raptr_torch knows",
        help="raptr_torch.model.build(shape, seed) makes one that it knows",
    )
