"""Models with adapters of PEFT: LoRA and its kin within blocks, virtual tokens before them, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    LNTuningConfig,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
    get_peft_model_state_dict,
)
from torch import Tensor, nn

from raptr_dsl import compile_text
from raptr_dsl.ir.plan import Plan
from raptr_torch import attach, shape
from raptr_torch.adapters import without_adapters
from raptr_torch.runner import Runner
from tests.backends.attach.models import batch_of, make, shape_of, stacks_of
from tests.backends.attach.test_bad_input import left_alone
from tests.backends.attach.test_depth import snapshot
from tests.backends.drawn import drawn_plan, mask, refused

TARGETS = {"llama": ["q_proj", "up_proj"], "gpt2": ["c_attn"], "bert": ["query", "value"]}
TASKS = {"llama": TaskType.CAUSAL_LM, "gpt2": TaskType.CAUSAL_LM}
DEPTH = "keep depth=first\nstage depth=2/4 steps=50%\nstage steps=rest"
GROWING = "default sample=prefix\nstage depth=2/4 steps=50%\nstage grow=zero steps=rest"
ON = [True, False, True, True]

pytestmark = pytest.mark.filterwarnings(
    "ignore:Model has `tie_word_embeddings=True`",
    "ignore:`is_gradient_checkpointing` is deprecated",
    "ignore:Unsupported layer type",
)
"""Of PEFT: about merging, about the version of transformers, and about norms, which have no numbers of features."""


def lora(family: str, model: nn.Module | None = None, **options: Any) -> Any:
    """With adapters that are not zero, as they are at first."""
    options = {"target_modules": TARGETS[family], "task_type": TASKS.get(family), **options}
    config = LoraConfig(r=2, fan_in_fan_out=family == "gpt2", init_lora_weights=False, **options)
    torch.manual_seed(1)
    return get_peft_model(model or make(family), config).train()


def plan_of(family: str, text: str = DEPTH, steps: int = 2, **change: Any) -> Plan:
    return compile_text(text, model=shape_of(family).model_copy(update=change), steps=steps, seed=5)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)


def train(model: Any, runner: Runner, optimizer: torch.optim.Optimizer, family: str) -> list[Tensor]:
    losses = []
    for index in range(runner.next_step, runner.plan.steps):
        with runner.step(index):
            losses.append(model(**batch_of(family, index)).loss)
            losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert runner.audit().holds
    return losses


# --- LoRA -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpoints", [False, True], ids=["", "checkpointed"])
@pytest.mark.parametrize("family", TARGETS)
def test_lora_by_a_plan_is_lora_of_the_active_blocks(family: str, checkpoints: bool, tmp_path: Path) -> None:
    """To the bit, over steps of the optimizer; frozen weights stay; PEFT saves and merges what it always did."""
    model, expected = lora(family), lora(family)
    if checkpoints:
        for each in (model, expected):
            each.enable_input_require_grads()
            each.activation_checkpointing_enable({"use_reentrant": True})
    (stack,) = stacks_of(family, without_adapters(expected))
    for place in reversed(range(4)):
        if not ON[place]:
            del stack[place]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    keys, classes = list(get_peft_model_state_dict(model)), snapshot(model)
    optimizer, reference = adamw(model), adamw(expected)
    masks = {"depth": mask(shape_of(family), "depth", ON)}
    runner = attach(model, drawn_plan(shape_of(family), [masks] * 2, {"depth": "skip"}), optimizer)
    losses = train(model, runner, optimizer, family)
    for index, loss in enumerate(losses):
        right = expected(**batch_of(family, index)).loss
        assert torch.equal(loss, right)
        right.backward()
        reference.step()
        reference.zero_grad()
    after = dict(model.named_parameters())
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    idle = f"{stacks_of_path(family)}.1."
    assert moved == {name for name, p in after.items() if p.requires_grad and idle not in name}
    assert list(get_peft_model_state_dict(model)) == keys
    runner.detach()
    assert snapshot(model) == classes
    with torch.no_grad():
        found = model.eval()(**batch_of(family)).loss
        model.save_pretrained(tmp_path)
        again = PeftModel.from_pretrained(make(family), tmp_path).eval()
        assert torch.equal(again(**batch_of(family)).loss, found)
        merged = model.merge_and_unload()
        assert type(merged) is type(make(family))
        torch.testing.assert_close(merged(**batch_of(family)).loss, found)


def stacks_of_path(family: str) -> str:
    return {"gpt2": "h", "bert": "layer"}.get(family, "layers")


@pytest.mark.parametrize("saved", ["lm_head", "mlp"])
def test_modules_that_are_trained_in_copies_train(saved: str) -> None:
    model = lora("llama", modules_to_save=[saved])
    optimizer = adamw(model)
    train(model, attach(model, plan_of("llama"), optimizer), optimizer, "llama")
    copies = [p for name, p in model.named_parameters() if f"{saved}.modules_to_save" in name]
    assert copies and all(optimizer.state[p]["exp_avg"].any() for p in copies)


def test_adapters_of_some_blocks_only_make_no_block_odd() -> None:
    model = lora("llama", layers_to_transform=[1, 2])
    optimizer = adamw(model)
    text = "stage depth=2/4 steps=50%\nstage steps=rest"
    train(model, attach(model, plan_of("llama", text), optimizer), optimizer, "llama")


@pytest.mark.parametrize("family", TARGETS)
def test_units_of_adapted_layers_are_refused_by_name(family: str) -> None:
    model = lora(family)
    name = {"gpt2": "attn.c_attn", "bert": "attention.self.query"}.get(family, "self_attn.q_proj")
    with left_alone(model), refused("attach-linear", f"0.{name} cannot be selected: it is a peft.tuners.lora"):
        attach(model, plan_of(family, DEPTH.replace("depth=2/4", "heads=1/2")))


@pytest.mark.parametrize("task", [None, TaskType.CAUSAL_LM])
def test_units_of_layers_without_adapters_are_selected_in_an_adapted_block(task: TaskType | None) -> None:
    """What a PEFT model without a task takes is known of the model that it adapts."""
    model = lora("llama", target_modules=["q_proj"], task_type=task)
    optimizer = adamw(model)
    runner = attach(model, plan_of("llama", DEPTH.replace("depth=2/4", "width=1/2")), optimizer)
    train(model, runner, optimizer, "llama")
    assert runner.executed().units == {"depth": 8, "width": 4 * 2 + 4 * 4}


def test_a_plan_for_another_model_than_the_adapted_one() -> None:
    model = lora("llama")
    with left_alone(model), refused("attach-shape", "heads=8, and this one has heads=4"):
        attach(model, plan_of("llama", heads=8))
    with refused("attach-model", "has adapters, which its shape would not say"):
        shape(model)


@pytest.mark.parametrize(
    ("targets", "what"), [(["o_proj"], "is a peft.tuners.lora.layer.Linear"), (["q_proj"], "does not train")]
)
def test_projections_that_would_stay_zero_are_not_made_zero(targets: list[str], what: str) -> None:
    model = lora("llama", target_modules=targets)
    with left_alone(model), refused("attach-linear", f"self_attn.o_proj zero: it {what}, and would stay so"):
        attach(model, plan_of("llama", GROWING))
    optimizer = adamw(model)
    grown = attach(model, plan_of("llama", GROWING.replace("zero", "copy(all)")), optimizer)
    train(model, grown, optimizer, "llama")
    adapted = [layer.get_submodule(f"self_attn.{targets[0]}") for layer in model.base_model.model.model.layers]
    assert all(linear.lora_A.default.weight.any() for linear in adapted)


# --- virtual tokens ---------------------------------------------------------------------------------------------------


def test_virtual_tokens_before_the_blocks_train() -> None:
    model = get_peft_model(
        make("llama"), PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=3)
    ).train()
    optimizer = adamw(model)
    train(model, attach(model, plan_of("llama"), optimizer), optimizer, "llama")
    (tokens,) = (p for p in model.parameters() if p.requires_grad)
    assert tokens.numel() == 3 * 32 and optimizer.state[tokens]["exp_avg"].any()


@pytest.mark.parametrize("family", TASKS)
def test_virtual_keys_and_values_are_refused(family: str) -> None:
    config = PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=3)
    model = get_peft_model(make(family), config).train()
    with left_alone(model), refused("attach-option", ".0 is given keys and values of a cache, as by prefix tuning"):
        attach(model, plan_of(family))


# --- FLOPs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (LoraConfig(r=2, target_modules=["q_proj"]), "layers.0 computes 946,176 FLOPs in training, and a block of the"),
        (LoraConfig(r=2, target_modules=["lm_head"]), "outside the blocks compute 68,416 FLOPs forward, and the head"),
        (LNTuningConfig(target_modules=["input_layernorm"]), "layers.0 runs with no gradients of its weights"),
    ],
    ids=["LoRA", "LoRA of the head", "norms"],
)
def test_flops_of_adapted_models_are_not_counted_and_it_is_said_why(config: Any, words: str) -> None:
    model = get_peft_model(make("llama"), config).train()
    optimizer = adamw(model)
    runner = attach(model, plan_of("llama"), optimizer)
    train(model, runner, optimizer, "llama")
    audit = runner.audit().flops
    assert audit is not None and words in audit.problem and runner.executed().flops == 0
    assert "raptr/flops" not in runner.metrics()
