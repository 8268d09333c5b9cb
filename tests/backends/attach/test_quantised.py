"""Quantised weights, on which depth is right and units are refused by name; and optimizers that quantise their state.

bitsandbytes is large, and no dependency of the tests: `pip install -c constraints.txt bitsandbytes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from raptr_dsl import compile_text
from raptr_dsl.ir.plan import Plan
from raptr_torch import attach, shape
from tests.backends.attach.models import batch_of, make, shape_of
from tests.backends.attach.test_bad_input import left_alone
from tests.backends.attach.test_units import quantised, quantises
from tests.backends.drawn import drawn_plan, mask, refused

GROWING = "default sample=prefix\nstage depth=2/4 steps=50%\nstage grow=copy(all) steps=rest"


def planned(text: str) -> Plan:
    return compile_text(text, model=shape_of("llama"), steps=2, seed=5)


@quantises
def test_quantised_blocks_are_not_copied() -> None:
    model = make("llama")
    for layer in model.model.layers:
        layer.mlp.up_proj = quantised(layer.mlp.up_proj)
    with left_alone(model), refused("attach-blocks", "mlp.up_proj.scale is no parameter and no buffer"):
        attach(model, planned(GROWING))


def of_8_bits(bnb: Any, linear: nn.Linear) -> nn.Module:
    made = bnb.nn.Linear8bitLt(linear.in_features, linear.out_features, bias=False, has_fp16_weights=False)
    made.load_state_dict({"weight": linear.weight.data})
    return made.to("cpu")


def of_4_bits(bnb: Any, linear: nn.Linear) -> nn.Module:
    made = bnb.nn.Linear4bit(linear.in_features, linear.out_features, bias=False, compute_dtype=torch.float32)
    made.weight = bnb.nn.Params4bit(linear.weight.data, requires_grad=False)
    return made.to("cpu")


def quantised_llama(change: Callable[[Any, nn.Linear], nn.Module]) -> Any:
    bnb = pytest.importorskip("bitsandbytes")
    model = make("llama")
    for layer in model.model.layers:
        for parent in (layer.self_attn, layer.mlp):
            for name, linear in list(parent.named_children()):
                if isinstance(linear, nn.Linear):
                    setattr(parent, name, change(bnb, linear))
    return model


def adapted(model: nn.Module) -> Any:
    config = LoraConfig(
        r=2, target_modules=["q_proj", "up_proj"], task_type=TaskType.CAUSAL_LM, init_lora_weights=False
    )
    torch.manual_seed(1)
    return get_peft_model(model, config).train()


pytestmark = pytest.mark.filterwarnings("ignore:MatMul8bitLt", "ignore:`is_gradient_checkpointing` is deprecated")


@pytest.mark.slow
@pytest.mark.parametrize("change", [of_8_bits, of_4_bits])
def test_adapters_of_quantised_blocks_train_as_those_of_the_active_blocks(change: Any) -> None:
    model, expected = adapted(quantised_llama(change)), adapted(quantised_llama(change))
    del expected.base_model.model.model.layers[1]
    on = {"depth": mask(shape_of("llama"), "depth", [1, 0, 1, 1])}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    reference = torch.optim.AdamW([p for p in expected.parameters() if p.requires_grad], lr=1e-2)
    runner = attach(model, drawn_plan(shape_of("llama"), [on] * 3), optimizer)
    for index in range(3):
        right = expected(**batch_of("llama", index)).loss
        with runner.step(index):
            loss = model(**batch_of("llama", index)).loss
            loss.backward()
        assert torch.equal(loss, right)
        right.backward()
        for each in (optimizer, reference):
            each.step()
            each.zero_grad()
    audit = runner.audit()
    assert audit.holds and audit.flops is not None and "quantised" in audit.flops.problem


@pytest.mark.slow
@pytest.mark.parametrize("change", [of_8_bits, of_4_bits])
def test_units_of_layers_of_bitsandbytes_are_refused_by_name(change: Any) -> None:
    model = quantised_llama(change)
    with left_alone(model), refused("attach-linear", "self_attn.q_proj cannot be selected: it is a bitsandbytes.nn"):
        attach(model, planned("stage heads=1/2 steps=50%\nstage steps=rest"))
    with left_alone(model), refused("attach-blocks", "cannot be copied to another block"):
        attach(model, planned(GROWING))


# --- optimizers that quantise their state -----------------------------------------------------------------------------


def large() -> Any:
    """With matrices of 4,096 elements and more; smaller ones have states of 32 bits."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        use_cache=False,
        max_position_embeddings=16,
    )
    return LlamaForCausalLM(config).train()


def step(model: Any, optimizer: torch.optim.Optimizer, index: int) -> None:
    model(**batch_of("llama", index)).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Adam8bit", "AdamW8bit", "Lion8bit"])
def test_optimizers_of_8_bits_leave_alone_what_is_skipped(kind: str) -> None:
    bnb = pytest.importorskip("bitsandbytes")
    model, plain = large(), large()
    optimizer, other = (getattr(bnb.optim, kind)(each.parameters(), lr=1e-2) for each in (model, plain))
    text = "allow partial\nkeep depth=first\nstage steps=2\nstage depth=2/4 idle=skip steps=1"
    runner = attach(model, compile_text(text, model=shape(model), steps=3, seed=5), optimizer)
    for index in range(2):
        with runner.step(index):
            model(**batch_of("llama", index)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        step(plain, other, index)
    before = [p.detach().clone() for p in plain.parameters()]
    assert all(map(torch.equal, model.parameters(), before))
    with runner.step(2):
        model(**batch_of("llama", 2)).loss.backward()
    ran = {parameter for parameter in model.parameters() if parameter.grad is not None}
    optimizer.step()
    for now, then in zip(model.parameters(), before, strict=True):
        assert torch.equal(now, then) != (now in ran)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Adam8bit", "Lion8bit"])
def test_rows_are_not_left_out_of_states_of_8_bits(kind: str) -> None:
    """Elements of several rows share one scale."""
    bnb = pytest.importorskip("bitsandbytes")
    model = large()
    plan = compile_text("stage heads=1/2 idle=skip steps=50%\nstage steps=rest", model=shape(model), steps=2, seed=5)
    with left_alone(model), refused("optimizer-idle-rows", kind):
        attach(model, plan, getattr(bnb.optim, kind)(model.parameters(), lr=1e-2))
