"""A model that is changed after a plan was attached is found before its next step, and can be attached anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations

from raptr_dsl.ir.plan import Plan
from raptr_torch import attach
from raptr_torch.model import build
from raptr_torch.runner import Runner
from raptr_torch.structure import MODULES_A_STEP
from tests.backends.attach.models import batch_of, make, shape_of
from tests.backends.attach.test_units import quantised, quantises
from tests.backends.drawn import SMALL, drawn_plan, mask, refused

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
"""PEFT asks a model of transformers by its old name."""


def plan(steps: int = 6) -> Plan:
    return drawn_plan(shape_of("llama"), [{"depth": mask(shape_of("llama"), "depth", [1, 0, 1, 1])}] * steps)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)


def train(model: Any, runner: Runner, optimizer: torch.optim.Optimizer) -> None:
    with runner.step(runner.next_step):
        model(**batch_of("llama")).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def adapt(model: Any) -> Any:
    return get_peft_model(model, LoraConfig(r=2, target_modules=["v_proj"]))


def exchange(model: Any) -> None:
    model.model.layers[2].mlp.up_proj = nn.Linear(32, 64, bias=False)


def replace(model: Any) -> None:
    model.model.layers[1] = make("llama", seed=3).model.layers[1]


def replace_all(model: Any) -> None:
    model.model.layers = make("llama", seed=3).model.layers


def reweigh(model: Any) -> None:
    norm = model.model.layers[3].input_layernorm
    norm.weight = nn.Parameter(norm.weight.detach().clone())


def normalise(model: Any) -> None:
    parametrizations.weight_norm(model.model.layers[0].mlp.up_proj)


def extend(model: Any) -> None:
    model.model.layers[0].gate = nn.Parameter(torch.ones(1))


def quantise(model: Any) -> None:
    """As torch's own tools do: into the module's dictionary, which registers nothing."""
    mlp = model.model.layers[3].mlp
    mlp._modules["down_proj"] = quantised(mlp.down_proj)


def freeze(model: Any) -> None:
    model.model.layers[2].self_attn.requires_grad_(False)


CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "adapters": (adapt, "layers.0.self_attn was changed since the plan was attached: its v_proj is a peft.tuners.lora"),
    "another layer": (exchange, "layers.2.mlp was changed since the plan was attached: its up_proj is a torch.nn."),
    "another block": (replace, "model.layers was changed since the plan was attached: its 1 is a transformers."),
    "other blocks": (replace_all, "model was changed since the plan was attached: its layers is a torch.nn."),
    "another parameter": (
        reweigh,
        "layers.3.input_layernorm was changed since the plan was attached: its weight is an",
    ),
    "parametrised": (normalise, "mlp.up_proj was changed since the plan was attached: it has a parametrizations now"),
    "one more": (extend, "layers.0 was changed since the plan was attached: it has a gate now"),
    "quantised": (quantise, "layers.3.mlp was changed since the plan was attached: its down_proj is a torch.ao."),
    "frozen": (freeze, "layers.2.self_attn.q_proj was changed since the plan was attached: its weight does not train"),
}
UNTOLD = ("quantised", "frozen")
"""Changes that torch tells nobody of: after the first step they are looked for in some modules a step."""


@quantises
@pytest.mark.parametrize("kind", ["adapters", *UNTOLD])
def test_a_change_before_the_first_step(kind: str) -> None:
    change, words = CHANGES[kind]
    model = make("llama")
    runner = attach(model, plan(), adamw(model))
    change(model)
    with refused("attach-changed", words), runner.step(0):
        pass
    with refused("attach-changed", words):
        runner.bind(adamw(model))


@quantises
@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_between_steps(kind: str) -> None:
    change, words = CHANGES[kind]
    model = make("llama")
    optimizer = adamw(model)
    runner = attach(model, plan(), optimizer)
    train(model, runner, optimizer)
    assert len(list(model.model.layers.modules())) < 2 * MODULES_A_STEP
    change(model)
    weights = [p.detach().clone() for p in model.parameters()]
    with refused("attach-changed", words):
        for _ in range(2 if kind in UNTOLD else 1):
            with runner.step(runner.next_step):
                pass
            optimizer.step()
    if kind not in UNTOLD:
        assert all(map(torch.equal, model.parameters(), weights))
        with refused("attach-changed", words), runner.full():
            pass


def test_a_changed_model_is_given_back_and_goes_on_when_it_is_attached_anew() -> None:
    model = make("llama")
    optimizer = adamw(model)
    runner = attach(model, plan(), optimizer)
    train(model, runner, optimizer)
    adapted: Any = adapt(model).train()
    with refused("attach-changed"):
        train(adapted, runner, optimizer)
    state = runner.state_dict()
    runner.detach()
    plain = adapted(**batch_of("llama")).loss
    optimizer = adamw(adapted)
    runner = attach(adapted, plan(), optimizer)
    runner.load_state_dict(state)
    assert runner.next_step == 1
    for _ in range(5):
        train(adapted, runner, optimizer)
    audit = runner.audit()
    assert audit.holds and audit.planned == {"depth": 3 * 6}
    assert runner.executed().flops == 0 and "not counted" in str(audit)  # adapters: though the first step was
    runner.detach()
    assert not torch.equal(adapted(**batch_of("llama")).loss, plain)


def test_what_only_wraps_a_block_changes_nothing() -> None:
    model = make("llama")
    optimizer = adamw(model)
    runner = attach(model, plan(), optimizer)
    for index, layer in enumerate(model.model.layers):
        model.model.layers[index] = checkpoint_wrapper(layer)
    model.extra = nn.Linear(2, 2).requires_grad_(False)
    for _ in range(3):
        train(model, runner, optimizer)
    assert runner.audit().holds
    runner.detach()


def test_what_is_frozen_and_trains_again_within_a_step_is_no_change() -> None:
    """As PEFT's own `disable_adapter` does."""
    model: Any = adapt(make("llama")).train()
    optimizer = adamw(model)
    runner = attach(model, plan(), optimizer)
    for _ in range(3):
        with runner.step(runner.next_step):
            with model.disable_adapter(), torch.no_grad():
                model.eval()(**batch_of("llama"))
            model.train()(**batch_of("llama")).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert runner.audit().holds


def test_a_model_on_meta_gets_its_storage_after_attaching() -> None:
    with torch.device("meta"):
        model = make("llama")
    runner = attach(model, plan())
    model.to_empty(device="cpu")
    model.load_state_dict({**model.state_dict(), **make("llama").state_dict()})
    runner.bind(adamw(model))


def test_the_small_transformer_is_watched_as_well() -> None:
    model = build(SMALL, 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    runner = attach(model, drawn_plan(SMALL, [{}]), optimizer)
    down: Any = model.blocks[1].get_submodule("ffn.down")
    down.weight = nn.Parameter(down.weight.detach().clone())
    with refused("attach-changed", "blocks.1.ffn.down was changed"), runner.step(0):
        pass
