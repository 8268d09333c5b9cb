"""Small models of transformers and of nobody, by the name of their family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BloomConfig,
    BloomForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
    Starcoder2Config,
    Starcoder2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from raptr_dsl.ir.model import ModelShape

LAYERS, HEADS, HIDDEN, FFN, VOCAB, SEQ, BATCH = 4, 4, 32, 64, 61, 10, 2
SHAPE = ModelShape(
    layers=LAYERS, heads=HEADS, hidden=HIDDEN, ffn=FFN, vocab=VOCAB, seq=SEQ, batch=BATCH, width_group=16
)

_USUAL: dict[str, Any] = dict(
    vocab_size=VOCAB,
    hidden_size=HIDDEN,
    num_hidden_layers=LAYERS,
    num_attention_heads=HEADS,
    intermediate_size=FFN,
    max_position_embeddings=32,
    use_cache=False,
    pad_token_id=0,
)
_GROUPED: dict[str, Any] = dict(_USUAL, num_key_value_heads=2)
_SPECIAL: dict[str, Any] = dict(bos_token_id=0, eos_token_id=0)

MAKE: dict[str, Callable[[], nn.Module]] = {
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCAB,
            n_positions=32,
            n_embd=HIDDEN,
            n_layer=LAYERS,
            n_head=HEADS,
            n_inner=FFN,
            use_cache=False,
            **_SPECIAL,
        )
    ),
    "bert": lambda: BertForMaskedLM(BertConfig(**_USUAL)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**_GROUPED)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**_GROUPED)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**_GROUPED)),
    "opt": lambda: OPTForCausalLM(
        OPTConfig(
            vocab_size=VOCAB,
            hidden_size=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            ffn_dim=FFN,
            max_position_embeddings=32,
            word_embed_proj_dim=HIDDEN,
            use_cache=False,
            pad_token_id=1,
        )
    ),
    "gpt_neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**_USUAL, **_SPECIAL)),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(
            vocab_size=VOCAB,
            d_model=HIDDEN,
            d_kv=8,
            d_ff=FFN,
            num_layers=LAYERS,
            num_heads=HEADS,
            use_cache=False,
            decoder_start_token_id=0,
        )
    ),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**_GROUPED, head_dim=8)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**_GROUPED, head_dim=8, sliding_window=4)),
    "starcoder2": lambda: Starcoder2ForCausalLM(Starcoder2Config(**_GROUPED)),
    "smollm3": lambda: SmolLM3ForCausalLM(SmolLM3Config(**_GROUPED)),
    "phi": lambda: PhiForCausalLM(PhiConfig(**_GROUPED)),
    "bloom": lambda: BloomForCausalLM(
        BloomConfig(vocab_size=VOCAB, hidden_size=HIDDEN, n_layer=LAYERS, n_head=HEADS, use_cache=False)
    ),
    "falcon": lambda: FalconForCausalLM(
        FalconConfig(
            vocab_size=VOCAB,
            hidden_size=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            use_cache=False,
            alibi=True,
            **_SPECIAL,
        )
    ),
    "olmo2": lambda: Olmo2ForCausalLM(Olmo2Config(**_GROUPED)),
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(**_GROUPED, **_SPECIAL)),
}

GROUPED = {"llama", "qwen2", "mistral", "qwen3", "gemma3", "starcoder2", "smollm3", "phi", "olmo2", "phi3"}
DEPTH = tuple(MAKE)
BITWISE = ("gpt2", "bert", "llama", "qwen2", "mistral", "opt", "gpt_neox", "t5")
UNITS = (
    "gpt2", "bert", "llama", "qwen2", "mistral", "opt", "gpt_neox", "qwen3", "gemma3", "starcoder2", "smollm3", "phi",
)  # fmt: skip


def make(family: str, seed: int = 0) -> Any:
    """A model without dropout: its training is as repeatable as its evaluation."""
    torch.manual_seed(seed)
    model = MAKE[family]()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for word in ("dropout", "attention_dropout", "attn_pdrop", "layerdrop"):
            if isinstance(getattr(module, word, None), float):
                setattr(module, word, 0.0)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and gains too, so that each of them matters
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model.train()


def shape_of(family: str) -> ModelShape:
    """What a plan for the model says of it."""
    gated = {"gated": True} if family in GROUPED - {"starcoder2", "phi"} else {}
    change: dict[str, Any] = {"kv_heads": 2} if family in GROUPED else {}
    if family == "t5":
        change |= {"source_seq": SEQ}
    if family == "bert":
        change |= {"causal": False, "head_transform": True}
    return SHAPE.model_copy(update=change | gated)


def batch_of(family: str, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, VOCAB, (BATCH, SEQ), generator=generator)
    return {"input_ids": tokens, "labels": tokens}


BLOCKS = {
    "gpt2": "transformer.h",
    "bloom": "transformer.h",
    "falcon": "transformer.h",
    "bert": "bert.encoder.layer",
    "opt": "model.decoder.layers",
    "gpt_neox": "gpt_neox.layers",
}


def stacks_of(family: str, model: nn.Module) -> list[nn.ModuleList]:
    """The lists of blocks, an encoder's first."""
    paths = ["encoder.block", "decoder.block"] if family == "t5" else [BLOCKS.get(family, "model.layers")]
    return [model.get_submodule(path) for path in paths]  # pyright: ignore[reportReturnType]
