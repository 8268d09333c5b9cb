"""Model shapes by name, and from TOML files with the words of the `model` statement."""

import tomllib
from fractions import Fraction
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from raptr_dsl.diagnostics import did_you_mean, fail
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.wording import parse_share

MODELS: dict[str, dict[str, Any]] = {
    # Devlin et al. 2018; the head sees the 15% of positions that are masked.
    "bert-base": dict(
        layers=12, heads=12, hidden=768, ffn=3072, vocab=30522, seq=512, batch=256,
        causal=False, head_share=Fraction(15, 100),
    ),
    "bert-large": dict(
        layers=24, heads=16, hidden=1024, ffn=4096, vocab=30522, seq=512, batch=256,
        causal=False, head_share=Fraction(15, 100),
    ),
    # Radford et al. 2019.
    "gpt2-small": dict(layers=12, heads=12, hidden=768, ffn=3072, vocab=50257, seq=1024, batch=512),
    # Touvron et al. 2023, and Llama 3.2 1B.
    "llama-2-7b": dict(
        layers=32, heads=32, hidden=4096, ffn=11008, vocab=32000, seq=4096, batch=1024, gated=True, tied=False
    ),
    "llama-1b": dict(
        layers=16, heads=32, kv_heads=8, hidden=2048, ffn=8192, vocab=128256, seq=4096, batch=512, gated=True
    ),
    # A stand-in of UL2-1.6B's size: 24 blocks; its other dimensions are not on public record with certainty.
    "ul2-1.6b": dict(
        layers=24, heads=32, hidden=2048, ffn=5120, vocab=256000, seq=512, batch=512, gated=True
    ),
    # What `raptr demo` trains: small enough for two CPU cores, byte-level (256 bytes and 2 special tokens).
    "demo": dict(layers=12, heads=4, hidden=128, ffn=512, vocab=258, seq=128, batch=4),
}  # fmt: skip

MODEL_NAMES = tuple(MODELS)
MODEL_WORDS = tuple(ModelShape.model_fields)


def shape_by_name(name: str) -> ModelShape | None:
    """A built-in shape, or None."""
    words = MODELS.get(name)
    return None if words is None else ModelShape(**words)


def find_shape(name: str) -> ModelShape:
    """The shape called `name`, or described by the TOML file at that path.

    Raises:
        RaptrError: `unknown-model`, `bad-model-file`.
    """
    shape = shape_by_name(name)
    if shape is not None:
        return shape
    path = Path(name)
    if path.suffix == ".toml" or path.exists():
        return _read_shape(path)
    nearest = did_you_mean(name, MODEL_NAMES)
    help = f"did you mean {nearest}?" if nearest else f"known are {', '.join(MODEL_NAMES)}, or a .toml file"
    raise fail("unknown-model", f"there is no model called {name!r}", help=help, subject="--model")


def _read_shape(path: Path) -> ModelShape:
    try:
        # Decimals stay text until they are exact: as floats, 0.15 of 20 positions would be 2.
        words = tomllib.loads(path.read_bytes().decode("utf-8"), parse_float=str)
    except OSError as error:
        raise fail("bad-model-file", f"cannot read {path}: {error.strerror}", subject=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise fail("bad-model-file", f"{path} is not a TOML file: {error}", subject=str(path)) from None
    share = words.get("head_share")
    if isinstance(share, str):
        words["head_share"] = parse_share(share) or share
    try:
        return ModelShape(**words)
    except ValidationError as error:
        problems = "; ".join(describe_problem(problem) for problem in error.errors())
        raise fail("bad-model-file", f"{path}: {problems}", subject=str(path)) from None


def describe_problem(problem: Any) -> str:
    """One pydantic error about a model's words, in the user's words."""
    word = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{word}= is missing"
    if problem["type"] == "extra_forbidden":
        nearest = did_you_mean(word, MODEL_WORDS)
        return f"{word} is not a word of a model" + (f"; did you mean {nearest}?" if nearest else "")
    message = problem["msg"].removeprefix("Value error, ")
    return f"{word}: {message}" if word else message
