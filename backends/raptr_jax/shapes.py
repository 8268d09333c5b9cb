"""The shape of this package's models, as the compiler speaks of it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from pydantic import ValidationError

from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.model import ModelShape
from raptr_jax.model import Transformer


def shape(
    model: Any,
    *,
    seq: int | None = None,
    source_seq: int | None = None,
    batch: int | None = None,
    head_share: Fraction | None = None,
) -> ModelShape:
    """The shape of a `raptr_jax.model.Transformer`; the arguments are what it was built with unless given.

    Raises:
        RaptrError: `attach-model`: it is another model. `model-run`: an argument does not fit the model.
    """
    if not isinstance(model, Transformer):
        raise fail(
            "attach-model",
            f"{type(model).__qualname__} is not a model that raptr_jax knows",
            help="of a model of your own, write the shape yourself: ModelShape(layers=…, heads=…, …)",
        )
    words = {"seq": seq, "source_seq": source_seq, "batch": batch, "head_share": head_share}
    given = {word: value for word, value in words.items() if value is not None}
    if given.get("seq", 0) > model.shape.seq:
        raise fail(
            "model-run",
            f"seq={seq} is more than the {model.shape.seq} positions it has a table for",
            help=f"write seq={model.shape.seq} or less",
        )
    try:
        return ModelShape(**{word: getattr(model.shape, word) for word in ModelShape.model_fields} | given)
    except ValidationError as error:
        facts = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise fail("model-run", facts) from None
