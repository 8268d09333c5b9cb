"""The shape of a torch model, as the compiler speaks of it: of this package's own and, by their config, Hugging Face's.

What the config says is compared with the matrices that the model holds, so that a model which was changed (adapters, a
second head, blocks taken out) is refused and not described as what it no longer is.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from pydantic import ValidationError
from torch import nn

from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.ir.model import ModelShape
from raptr_torch.adapters import has_adapters
from raptr_torch.families import FAMILIES, Family
from raptr_torch.model import Transformer

RUN_WORDS = ("seq", "source_seq", "batch", "head_share")
"""What a model may leave open."""


def shape(
    model: nn.Module,
    *,
    seq: int | None = None,
    source_seq: int | None = None,
    batch: int | None = None,
    head_share: Fraction | None = None,
) -> ModelShape:
    """The shape of a model; the arguments are the words of `ModelShape` that say how it is trained.

    Args:
        seq: positions of a sequence; the most that the model has unless given.
        source_seq: positions of the encoder's sequence, of an encoder–decoder only.
        batch: sequences of one optimizer step, 1 unless given.
        head_share: the share of positions that the head sees in training, all unless given.

    Raises:
        RaptrError: `attach-model`: the model is of no known class, or not as its config says; `model-run`: an argument
            is missing or does not fit the model.
    """
    given = {
        word: value
        for word, value in zip(RUN_WORDS, (seq, source_seq, batch, head_share), strict=True)
        if value is not None
    }
    if isinstance(model, Transformer):
        return _checked(model, {**{word: getattr(model.shape, word) for word in ModelShape.model_fields}, **given})
    family = next((FAMILIES[cls.__name__] for cls in type(model).__mro__ if _is_known(cls)), None)
    if has_adapters(model):
        raise fail(
            "attach-model",
            f"{type(model).__qualname__} has adapters, which its shape would not say",
            help="take the shape before they are added: shape(model), then get_peft_model(model, …)",
        )
    if family is None:
        raise foreign(model)
    found = _checked(model, _words(model, family, given))
    _require_same_matrices(model, found)
    return found


def _is_known(cls: type) -> bool:
    return cls.__name__ in FAMILIES and cls.__module__.startswith("transformers.")


def foreign(model: object) -> RaptrError:
    """The refusal of a model that raptr_torch does not know."""
    return fail(
        "attach-model",
        f"{type(model).__qualname__} is not a model that raptr_torch knows",
        help=f"it knows {', '.join(FAMILIES)} of transformers, unwrapped, and what raptr_torch.model.build makes; "
        "of another model, write the shape yourself: raptr_dsl.ir.model.ModelShape(layers=…, heads=…, …)",
    )


def _words(model: Any, family: Family, given: dict[str, Any]) -> dict[str, Any]:
    """The words of the shape: the family's, the config's, and those given."""
    config: Any = model.config
    problem = family.problem(config)
    if problem:
        raise fail("attach-model", f"this {type(model).__qualname__} has {problem}", help="write its shape yourself")
    words = {**family.constants, **{word: read(config) for word, read in family.words.items()}}
    words["tied"] = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    if family.positions is not None:
        words["seq"] = family.positions(config)
        if family.has_position_table and given.get("seq", 0) > words["seq"]:
            raise _unfit(
                model,
                f"seq={given['seq']} is more than the {words['seq']} positions it has a table for",
                f"write seq={words['seq']} or less",
            )
    if "source_seq" in given and not family.has_encoder:
        fact = f"source_seq={given['source_seq']} is of an encoder beside a decoder, and it has none"
        raise _unfit(model, fact, "leave it out")
    words = {word: value for word, value in {**words, **given}.items() if value is not None}
    wanted = ("seq", "source_seq") if family.has_encoder else ("seq",)
    missing = [word for word in wanted if word not in words]
    if missing:
        example = ", ".join(f"{word}=512" for word in missing)
        raise _unfit(model, f"it does not say {' and '.join(missing)}", f"write shape(model, {example}, …)")
    return words


def _unfit(model: nn.Module, fact: str, help: str = "") -> RaptrError:
    return fail("model-run", f"{type(model).__qualname__}: {fact}", help=help)


def _checked(model: nn.Module, words: dict[str, Any]) -> ModelShape:
    try:
        return ModelShape(**words)
    except ValidationError as error:
        facts = (problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise _unfit(model, "; ".join(facts)) from None


def _require_same_matrices(model: nn.Module, found: ModelShape) -> None:
    """Refuses a model whose matrices hold more or fewer weights than its shape does."""
    described = matrix_elements(found)
    held = sum(matrix.numel() for matrix in {matrix for module in model.modules() for matrix in _matrices(module)})
    if held != described:
        raise fail(
            "attach-model",
            f"this {type(model).__qualname__} is not as its config says: its matrices hold {held:,} weights, and "
            f"{found.blocks} blocks and the head of its config {described:,}",
            help="give the model as transformers makes it, or write its shape yourself",
        )


def _matrices(module: nn.Module) -> Iterator[nn.Parameter]:
    """Those of linear layers, of GPT-2's `Conv1D`, of a router and of experts; an embedding's are looked up."""
    if isinstance(module, nn.Embedding):
        return
    yield from (parameter for parameter in module.parameters(recurse=False) if parameter.dim() > 1)


def matrix_elements(shape: ModelShape) -> int:
    """Weights of all matrices of blocks and head; the embedding's are the head's or no matmul."""
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = shape.hidden * (2 * queries + 2 * keys)
    router = shape.hidden * shape.experts if shape.has_experts else 0
    block = attention + router + shape.experts * (3 if shape.gated else 2) * shape.hidden * shape.ffn
    across = shape.layers * attention if shape.source_seq else 0
    head = shape.hidden * (shape.vocab + (shape.hidden if shape.head_transform else 0))
    return shape.blocks * block + across + head
