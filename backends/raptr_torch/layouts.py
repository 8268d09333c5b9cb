"""Where the blocks of other people's models have their heads and hidden units.

A family is one more entry of `LAYOUTS`; of a model of one's own, a `Layout` is given to `attach`. What an entry says is
not believed: `attach` proves it on a block (see `raptr_torch.proof`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn


@dataclass(frozen=True, slots=True)
class UnitLinears:
    """The linear layers of one axis within a block, by their paths there.

    Attributes:
        inputs: layers whose outputs are the units'; row (of `nn.Linear`) or column (of `Conv1D`) i belongs to unit
            i // size, where size is rows / units.
        output: the layer whose inputs are the units'.
        sections: of layers that compute several things side by side, each divided among the units, how many: 3 for
            GPT-2's queries, keys and values. (Layers in which they alternate unit by unit have one section.)
        sizes: attributes of the block's modules that hold a number proportional to the units at work, by which the
            code around the layers reshapes.
    """

    inputs: tuple[str, ...]
    output: str
    sections: Mapping[str, int] = field(default_factory=dict)
    sizes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """The heads and hidden units of one class of blocks; None: that axis always runs in full.

    Attributes:
        heads: a unit is a key/value head with the query heads it serves.
        width: a unit is a group of hidden units of the feed-forward part.
    """

    heads: UnitLinears | None = None
    width: UnitLinears | None = None

    def axis(self, name: str) -> UnitLinears | None:
        return {"heads": self.heads, "width": self.width}.get(name)


_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_GATED = UnitLinears(("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj")
_LLAMA = Layout(UnitLinears(_QKV, "self_attn.o_proj"), _GATED)

LAYOUTS: dict[str, Layout] = {
    **dict.fromkeys(
        (
            "LlamaDecoderLayer",
            "MistralDecoderLayer",
            "Qwen2DecoderLayer",
            "Qwen3DecoderLayer",
            "Gemma3DecoderLayer",
            "SmolLM3DecoderLayer",
        ),
        _LLAMA,
    ),
    "Starcoder2DecoderLayer": Layout(
        UnitLinears(_QKV, "self_attn.o_proj"),
        UnitLinears(("mlp.c_fc",), "mlp.c_proj"),
    ),
    "PhiDecoderLayer": Layout(
        UnitLinears(_QKV, "self_attn.dense"),
        UnitLinears(("mlp.fc1",), "mlp.fc2"),
    ),
    "OPTDecoderLayer": Layout(
        UnitLinears(_QKV, "self_attn.out_proj", sizes=("self_attn.num_heads",)),
        UnitLinears(("fc1",), "fc2"),
    ),
    "GPT2Block": Layout(
        UnitLinears(("attn.c_attn",), "attn.c_proj", sections={"attn.c_attn": 3}, sizes=("attn.split_size",)),
        UnitLinears(("mlp.c_fc",), "mlp.c_proj"),
    ),
    "GPTNeoXLayer": Layout(
        UnitLinears(("attention.query_key_value",), "attention.dense"),
        UnitLinears(("mlp.dense_h_to_4h",), "mlp.dense_4h_to_h"),
    ),
    "BertLayer": Layout(
        UnitLinears(("attention.self.query", "attention.self.key", "attention.self.value"), "attention.output.dense"),
        UnitLinears(("intermediate.dense",), "output.dense"),
    ),
}
"""By the class of the block in transformers."""

REFUSED: dict[str, str] = {
    "BloomBlock": "its attention has one position bias (ALiBi) a head",
    "FalconDecoderLayer": "its attention may have one position bias (ALiBi) a head, and shares fused projections",
    "T5Block": "its attention has one learned position bias a head",
    "Olmo2DecoderLayer": "its attention normalises queries and keys across heads",
    "Phi3DecoderLayer": "its projections are fused, and split by sizes of the config that all blocks share",
}
"""Blocks whose heads and hidden units cannot be selected, and why."""


def layout_of(block: nn.Module) -> Layout | None:
    """The layout of a block of transformers, None of another."""
    known = (LAYOUTS.get(cls.__name__) for cls in _of_transformers(block))
    return next((layout for layout in known if layout is not None), None)


def refusal_of(block: nn.Module) -> str:
    """Why the units of a block of transformers cannot be selected; "" where nothing is known against it."""
    known = (REFUSED.get(cls.__name__, "") for cls in _of_transformers(block))
    return next((reason for reason in known if reason), "")


def _of_transformers(block: nn.Module) -> list[type]:
    return [cls for cls in type(block).__mro__ if cls.__module__.startswith("transformers.")]
