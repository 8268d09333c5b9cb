"""Small unmodified Hugging Face models of every family that `raptr_torch.shape` knows, of any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn

from raptr_torch.families import FAMILIES


@dataclass(frozen=True)
class Sizes:
    """What a config is made from; `seq` and `source_seq` are of the batch, not of the config."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    ffn: int
    vocab: int
    tied: bool
    gated: bool
    seq: int
    source_seq: int
    batch: int
    experts: int = 5
    top_k: int = 2


@st.composite
def sizes(draw: st.DrawFn) -> Sizes:
    """`hidden` is `heads × head_dim` times 1 to 3, so that it is not always the size of all heads together."""
    kv_heads, group, head_dim = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.sampled_from([2, 4, 6]))
    heads = kv_heads * group
    return Sizes(
        layers=draw(st.integers(1, 4)),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        hidden=heads * head_dim * draw(st.integers(1, 3)),
        ffn=draw(st.integers(2, 24)),
        vocab=draw(st.integers(9, 40)),
        tied=draw(st.booleans()),
        gated=draw(st.booleans()),
        seq=draw(st.integers(2, 9)),
        source_seq=draw(st.integers(2, 9)),
        batch=draw(st.integers(1, 3)),
        experts=draw(st.integers(2, 5)),
        top_k=draw(st.integers(1, 2)),
    )


def _llama(size: Sizes) -> dict[str, Any]:
    return _usual(size) | {"num_key_value_heads": size.kv_heads, "head_dim": size.head_dim}


def _usual(size: Sizes) -> dict[str, Any]:
    return {
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "hidden_size": size.hidden,
        "intermediate_size": size.ffn,
        "max_position_embeddings": 16,
    }


CONFIGS: dict[str, Callable[[Sizes], dict[str, Any]]] = {
    "GPT2LMHeadModel": lambda size: {
        "n_layer": size.layers,
        "n_head": size.heads,
        "n_embd": size.hidden,
        "n_inner": size.ffn if size.gated else None,
        "n_positions": 16,
    },
    "BertForMaskedLM": _usual,
    "LlamaForCausalLM": _llama,
    "MistralForCausalLM": _llama,
    "MixtralForCausalLM": lambda size: (
        _llama(size) | {"num_local_experts": size.experts, "num_experts_per_tok": size.top_k}
    ),
    "Qwen2ForCausalLM": lambda size: _usual(size) | {"num_key_value_heads": size.kv_heads},
    "Qwen3ForCausalLM": _llama,
    "OPTForCausalLM": lambda size: _usual(size) | {"ffn_dim": size.ffn, "word_embed_proj_dim": size.hidden},
    "GPTNeoXForCausalLM": _usual,
    "T5ForConditionalGeneration": lambda size: {
        "num_layers": size.layers,
        "num_decoder_layers": size.layers,
        "num_heads": size.heads,
        "d_kv": size.head_dim,
        "d_model": size.hidden,
        "d_ff": size.ffn,
        "feed_forward_proj": "gated-gelu" if size.gated else "relu",
        "decoder_start_token_id": 0,
    },
}

BLOCKS = {
    "GPT2LMHeadModel": ["transformer.h"],
    "BertForMaskedLM": ["bert.encoder.layer"],
    "OPTForCausalLM": ["model.decoder.layers"],
    "GPTNeoXForCausalLM": ["gpt_neox.layers"],
    "T5ForConditionalGeneration": ["encoder.block", "decoder.block"],
}
"""Where the blocks of each stack are; `model.layers` unless said."""


def is_encoder_decoder(name: str) -> bool:
    return FAMILIES[name].has_encoder


def model_of(name: str, size: Sizes, **changes: Any) -> nn.Module:
    """A model with random weights, ready to train, without dropout: torch's recomputation would run further for it."""
    import transformers

    cls = getattr(transformers, name)
    words = {"vocab_size": size.vocab, "tie_word_embeddings": size.tied, "use_cache": False, "pad_token_id": 0}
    words |= {"bos_token_id": 1, "eos_token_id": 2, **CONFIGS[name](size), **changes}
    config = cls.config_class(**words)
    for drop in [word for word in vars(config) if "drop" in word]:
        setattr(config, drop, 0.0)
    model = cls(config).train()
    if "num_local_experts" in words:  # torch does not count what it uses unless asked, a grouped product
        model.set_experts_implementation("eager")
    return model


def stacks(model: nn.Module) -> list[nn.ModuleList]:
    """The blocks, by stack."""
    paths = BLOCKS.get(type(model).__name__, ["model.layers"])
    return [model.get_submodule(path) for path in paths]  # pyright: ignore[reportReturnType]


def leave_blocks(model: nn.Module, left: list[list[int]]) -> None:
    """Takes all blocks out of each stack but those."""
    for blocks, stay in zip(stacks(model), left, strict=True):
        for index in sorted(set(range(len(blocks))) - set(stay), reverse=True):
            del blocks[index]


def train_once(model: nn.Module, size: Sizes, device: str = "cpu") -> None:
    """One forward and backward pass; the head predicts at every position."""
    labels = torch.ones(size.batch, size.seq, dtype=torch.long, device=device)
    inputs = labels
    if is_encoder_decoder(type(model).__name__):
        inputs = torch.ones(size.batch, size.source_seq, dtype=torch.long, device=device)
    model(input_ids=inputs, labels=labels).loss.backward()
