"""Unmodified Hugging Face models: what torch counts of a step is what we count of its shape, as integers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import set_checkpoint_early_stop
from torch.utils.flop_counter import FlopCounterMode

from raptr_dsl.flops import Accounting, Recompute, block_cost, full_blocks_cost, head_cost
from raptr_dsl.ir.model import ModelShape
from raptr_torch import BACKEND
from raptr_torch.families import FAMILIES
from tests.flops.families import (
    CONFIGS,
    Sizes,
    is_encoder_decoder,
    leave_blocks,
    model_of,
    sizes,
    train_once,
)

pytest.importorskip("transformers")

FEW = settings(max_examples=6)
MANY = settings(max_examples=60)

EXAMPLE = Sizes(
    layers=3, heads=4, kv_heads=2, head_dim=4, hidden=16, ffn=20, vocab=23, tied=False, gated=True,
    seq=5, source_seq=7, batch=2,
)  # fmt: skip


def counted(model: nn.Module, size: Sizes) -> int:
    """FLOPs of one training step by torch; it counts attention on the CPU under the MATH backend only."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        train_once(model, size)
    return counter.get_total_flops()


def shape_of(model: nn.Module, size: Sizes) -> ModelShape:
    source_seq = size.source_seq if is_encoder_decoder(type(model).__name__) else None
    return BACKEND.shape(model, seq=size.seq, source_seq=source_seq, batch=size.batch)


def planned(shape: ModelShape, left: list[list[int]], recompute: Recompute = "none") -> int:
    accounting = Accounting(recompute=recompute)
    blocks = sum(len(stay) * block_cost(shape, {}, accounting, stack) for stack, stay in enumerate(left))
    return int(blocks) + head_cost(shape, accounting)


def subset(data: st.DataObject, name: str, layers: int) -> list[list[int]]:
    """Which blocks of each stack run. The first of T5's make the position bias for all others."""
    least = {0} if is_encoder_decoder(name) else set()
    stacks = range(2 if is_encoder_decoder(name) else 1)
    return [sorted(least | data.draw(st.sets(st.integers(0, layers - 1)))) for _ in stacks]


def check(name: str, size: Sizes, data: st.DataObject) -> None:
    """In full, and with some blocks only: the difference is that of the blocks, so both parts are as planned."""
    model = model_of(name, size)
    shape = shape_of(model, size)
    everything = [list(range(size.layers))] * shape.stacks
    assert counted(model, size) == planned(shape, everything) == full_blocks_cost(shape) + head_cost(shape)
    left = subset(data, name, size.layers)
    leave_blocks(model, left)
    assert counted(model, size) == planned(shape, left)


@pytest.mark.parametrize("name", CONFIGS)
@FEW
@given(size=sizes(), data=st.data())
def test_torch_counts_what_the_shape_costs(name: str, size: Sizes, data: st.DataObject) -> None:
    check(name, size, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
@MANY
@given(size=sizes(), data=st.data())
def test_torch_counts_what_many_shapes_cost(name: str, size: Sizes, data: st.DataObject) -> None:
    check(name, size, data)


@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=2)
@given(size=sizes(), data=st.data())
def test_recomputation_under_torchs_checkpoint(name: str, size: Sizes, data: st.DataObject) -> None:
    """`early_stop` is torch's default; without it, or where a norm comes last (BERT's), the whole block runs again."""
    model = model_of(name, size)
    shape = shape_of(model, size)
    left = subset(data, name, size.layers)
    leave_blocks(model, left)
    model.activation_checkpointing_enable({"use_reentrant": False})  # pyright: ignore[reportCallIssue]
    assert counted(model, size) == planned(shape, left, "full" if name == "BertForMaskedLM" else "early_stop")
    with set_checkpoint_early_stop(False):
        assert counted(model, size) == planned(shape, left, "full")


def test_every_family_is_tested() -> None:
    assert CONFIGS.keys() == FAMILIES.keys()


def test_the_count_of_blocks_and_head_apart() -> None:
    """Without any block only the head is left."""
    model = model_of("LlamaForCausalLM", EXAMPLE)
    shape = shape_of(model, EXAMPLE)
    leave_blocks(model, [[]])
    assert counted(model, EXAMPLE) == head_cost(shape)


def test_a_published_model_at_its_own_size() -> None:
    """Llama-2-7B as transformers describes it, on the meta device: nothing is computed, all of it is counted."""
    import transformers

    config = transformers.LlamaConfig(
        num_hidden_layers=32, num_attention_heads=32, hidden_size=4096, intermediate_size=11008, vocab_size=32000,
        max_position_embeddings=4096, tie_word_embeddings=False, use_cache=False,
    )  # fmt: skip
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
        tokens = torch.ones(1, 4096, dtype=torch.long)
        mask = torch.zeros(1, 1, 4096, 4096)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(input_ids=tokens, labels=tokens, attention_mask=mask).loss.backward()
    shape = BACKEND.shape(model)
    assert shape == ModelShape(
        layers=32, heads=32, hidden=4096, ffn=11008, vocab=32000, seq=4096, gated=True, tied=False
    )
    assert counter.get_total_flops() == full_blocks_cost(shape) + head_cost(shape)


def test_mixtral_at_its_own_size() -> None:
    """8x7B on the meta device: torch counts what is sent to two experts of eight, and the router."""
    import transformers

    config = transformers.MixtralConfig(num_hidden_layers=32, max_position_embeddings=512, use_cache=False)
    with torch.device("meta"):
        model = transformers.MixtralForCausalLM(config)
        model.set_experts_implementation("batched_mm")
        tokens, mask = torch.ones(1, 512, dtype=torch.long), torch.zeros(1, 1, 512, 512)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(input_ids=tokens, labels=tokens, attention_mask=mask).loss.backward()
    shape = BACKEND.shape(model)
    assert (shape.experts, shape.top_k, shape.ffn) == (8, 2, 14336)
    assert counter.get_total_flops() == full_blocks_cost(shape) + head_cost(shape)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_becomes_a_shape(name: str) -> None:
    found = shape_of(model_of(name, EXAMPLE), EXAMPLE)
    grouped = name in (
        "LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM",
    )  # fmt: skip
    gated = grouped or name == "T5ForConditionalGeneration"
    assert found == ModelShape(
        layers=3,
        heads=4,
        kv_heads=2 if grouped else 4,
        head_dim=4,
        hidden=16,
        ffn=20,
        experts=5 if name == "MixtralForCausalLM" else 1,
        top_k=2 if name == "MixtralForCausalLM" else 1,
        vocab=23,
        tied=name == "T5ForConditionalGeneration",  # transformers 5 ties T5's, whatever its config says
        gated=gated,
        causal=name != "BertForMaskedLM",
        head_transform=name == "BertForMaskedLM",
        seq=5,
        source_seq=7 if name == "T5ForConditionalGeneration" else 0,
        batch=2,
    )
