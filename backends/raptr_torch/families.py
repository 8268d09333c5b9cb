"""Where the configs of Hugging Face's models say what `ModelShape` asks. A family is one more entry of `FAMILIES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

Read = Callable[[Any], Any]
"""From a config to a value; None where the config leaves it open."""


@dataclass(frozen=True, slots=True)
class Family:
    """Models of one class.

    Attributes:
        words: words of `ModelShape` and where the config has them.
        constants: words that the class itself decides.
        positions: the most positions of a sequence, None where the config names none.
        has_position_table: whether it cannot take more than those (learned positions).
        has_encoder: whether there is an encoder beside the decoder.
        unlike: what a config may ask for that makes its blocks others than `ModelShape` describes: how to find out,
            and what it is, in words.
    """

    words: Mapping[str, Read]
    constants: Mapping[str, Any] = field(default_factory=dict)
    positions: Read | None = attrgetter("max_position_embeddings")
    has_position_table: bool = False
    has_encoder: bool = False
    unlike: tuple[tuple[Read, str], ...] = ()

    def problem(self, config: Any) -> str:
        """What about a config is not as `ModelShape` describes models; "" if nothing."""
        return next((what for asks, what in self.unlike if asks(config)), "")


def _or(name: str, default: Read) -> Read:
    """An attribute that a config may lack, or leave at None."""

    def read(config: Any) -> Any:
        value = getattr(config, name, None)
        return default(config) if value is None else value

    return read


_USUAL: Mapping[str, Read] = {
    "layers": attrgetter("num_hidden_layers"),
    "heads": attrgetter("num_attention_heads"),
    "hidden": attrgetter("hidden_size"),
    "ffn": attrgetter("intermediate_size"),
    "vocab": attrgetter("vocab_size"),
}

_LLAMA = Family(
    words={
        **_USUAL,
        "kv_heads": attrgetter("num_key_value_heads"),
        "head_dim": _or("head_dim", lambda config: config.hidden_size // config.num_attention_heads),
    },
    constants={"gated": True},
)
"""Grouped queries, a gated feed-forward part, rotary positions."""

_MIXTRAL = Family(
    words={
        **_LLAMA.words,
        "experts": attrgetter("num_local_experts"),
        "top_k": attrgetter("num_experts_per_tok"),
    },
    constants=_LLAMA.constants,
)
"""The same with experts; `ffn` is that of one."""

_CROSS = (lambda config: getattr(config, "add_cross_attention", False), "cross-attention (add_cross_attention)")

FAMILIES: dict[str, Family] = {
    "GPT2LMHeadModel": Family(
        words={
            "layers": attrgetter("n_layer"),
            "heads": attrgetter("n_head"),
            "hidden": attrgetter("n_embd"),
            "ffn": _or("n_inner", lambda config: 4 * config.n_embd),
            "vocab": attrgetter("vocab_size"),
        },
        positions=attrgetter("n_positions"),
        has_position_table=True,
        unlike=(_CROSS,),
    ),
    "BertForMaskedLM": Family(
        words=_USUAL,
        constants={"causal": False, "head_transform": True},
        has_position_table=True,
        unlike=(_CROSS, (lambda config: config.is_decoder, "attention that looks back only (is_decoder)")),
    ),
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "MixtralForCausalLM": _MIXTRAL,
    "Qwen2ForCausalLM": _LLAMA,
    "Qwen3ForCausalLM": _LLAMA,
    "OPTForCausalLM": Family(
        words={**_USUAL, "ffn": attrgetter("ffn_dim")},
        has_position_table=True,
        unlike=(
            (
                lambda config: config.word_embed_proj_dim != config.hidden_size,
                "embeddings of another size than its blocks (word_embed_proj_dim)",
            ),
        ),
    ),
    "GPTNeoXForCausalLM": Family(words=_USUAL),
    "T5ForConditionalGeneration": Family(
        words={
            "layers": attrgetter("num_layers"),
            "heads": attrgetter("num_heads"),
            "head_dim": attrgetter("d_kv"),
            "hidden": attrgetter("d_model"),
            "ffn": attrgetter("d_ff"),
            "gated": attrgetter("is_gated_act"),
            "vocab": attrgetter("vocab_size"),
        },
        positions=None,
        has_encoder=True,
        unlike=(
            (
                lambda config: config.num_decoder_layers != config.num_layers,
                "stacks of different depths (num_layers, num_decoder_layers)",
            ),
        ),
    ),
}
"""By the name of the class in transformers."""
