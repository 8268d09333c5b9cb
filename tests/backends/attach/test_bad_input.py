"""Every way to get attaching wrong: a clear error, and the model as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from raptr_dsl.ir.plan import Plan
from raptr_torch import attach
from raptr_torch.runner import Runner
from tests.backends.attach.models import batch_of, make, shape_of
from tests.backends.attach.test_depth import Own, Residual, snapshot
from tests.backends.drawn import drawn_plan, mask, refused


def half(family: str = "llama", steps: int = 1, **change: Any) -> Plan:
    shape = shape_of(family).model_copy(update=change)
    on = [True] * (shape.layers // 2) + [False] * (shape.layers - shape.layers // 2)
    return drawn_plan(shape, [{"depth": mask(shape, "depth", on)}] * steps)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


@contextmanager
def left_alone(model: nn.Module) -> Iterator[None]:
    before, weights = snapshot(model), [p.detach().clone() for p in model.parameters()]
    yield
    assert snapshot(model) == before
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), weights, strict=True))


# --- the model --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [({"layers": 6}, "layers=6"), ({"heads": 8}, "heads=8"), ({"ffn": 96}, "ffn=96"), ({"vocab": 7}, "vocab=7")],
)
def test_a_plan_for_another_model(change: dict[str, int], words: str) -> None:
    model = make("llama")
    with left_alone(model), refused("attach-shape", words):
        attach(model, half(**change), sgd(model))


def test_a_plan_for_more_blocks_than_an_unknown_model_has() -> None:
    model = Own(layers=10)
    with left_alone(model), refused("attach-shape", "layers=12, and this one has 10 blocks in tower"):
        attach(model, half("gpt2", layers=12), sgd(model))


def test_a_model_without_a_residual_stack() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    with left_alone(model), refused("attach-stack", "Sequential has no residual stack"):
        attach(model, half(), sgd(model))


class Blocks(nn.Module):
    def __init__(self, *stacks: list[nn.Module]) -> None:
        super().__init__()
        for index, stack in enumerate(stacks):
            self.add_module(f"stack{index}", nn.ModuleList(stack))

    def forward(self, x: Tensor) -> Tensor:
        for name, stack in self.named_children():
            assert name.startswith("stack") and isinstance(stack, nn.ModuleList)
            for block in stack:
                x = block(x)
        return x


class Other(nn.Module):
    def __init__(self, size: int = 4, out: int | None = None) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(size, out or size))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x) if self.inner[0].out_features == x.shape[-1] else self.inner(x)


def test_blocks_of_differing_classes() -> None:
    model = Blocks([Other(), Other(), Residual(4), Other()])
    with left_alone(model), refused("attach-blocks", "most are Other, stack0.2 is Residual"):
        attach(model, half("gpt2"), sgd(model))


def test_blocks_of_differing_parameters_have_to_be_kept() -> None:
    model = make("t5")
    with left_alone(model), refused("attach-blocks", "encoder.block.0 is not like the other blocks"):
        attach(model, half("t5"), sgd(model))


def test_tied_blocks() -> None:
    block = Other()
    for model in (Blocks([block, Other(), block, Other()]), Blocks([Other() for _ in range(4)])):
        if model.stack0[0] is not block:
            model.stack0[3].inner = model.stack0[1].inner
        optimizer = torch.optim.SGD(list(set(model.parameters())), lr=0.1)
        with left_alone(model), refused("attach-tied"):
            attach(model, half("gpt2"), optimizer)


def test_a_block_tied_to_something_else() -> None:
    model = Blocks([Other() for _ in range(4)])
    model.head = nn.Linear(4, 4)
    model.head.weight = model.stack0[2].inner[0].weight
    with left_alone(model), refused("attach-tied", "head.weight is also a parameter of stack0.2"):
        attach(model, half("gpt2"), sgd(model))


def test_more_stacks_than_planned_have_to_be_named() -> None:
    model = Blocks([Other() for _ in range(4)], [Other() for _ in range(4)])
    with left_alone(model), refused("attach-stack", "there are 2: stack0, stack1"):
        attach(model, half("gpt2"), sgd(model))
    with left_alone(model), refused("attach-stack", "'stack7' is no ModuleList"):
        attach(model, half("gpt2"), sgd(model), stacks=["stack7"])
    runner = attach(model, half("gpt2"), sgd(model), stacks=["stack1"])
    with runner.step(0):
        model(torch.zeros(1, 4))
    assert runner.executed().units == {"depth": 2}


def test_a_block_that_is_no_residual_block() -> None:
    model = Blocks([Other(4, 4), Other(4, 5), Other(5, 4), Other(4, 4)])
    shape = shape_of("gpt2")
    plan = drawn_plan(shape, [{"depth": mask(shape, "depth", [1, 1, 0, 0])}], keep=(1, 2))
    runner = attach(model, plan, sgd(model))
    with refused("attach-blocks", "stack0.1 is no residual block"), runner.step(0):
        model(torch.zeros(1, 4))


def test_a_model_already_attached() -> None:
    model = make("llama")
    runner = attach(model, half(), sgd(model))
    with left_alone(model), refused("attach-twice"):
        attach(model, half(), sgd(model))
    runner.detach()
    attach(model, half(), sgd(model))


@pytest.mark.parametrize(
    "way", [lambda model: torch.compile(model, backend="eager"), lambda model: model.compile(backend="eager") or model]
)
def test_whole_model_compilation(way: Callable[[nn.Module], Any]) -> None:
    model = way(make("llama"))
    with left_alone(model), refused("attach-compiled"):
        attach(model, half(), sgd(model))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_whole_model_compilation_after_attaching() -> None:
    model = make("llama")
    runner = attach(model, half(), sgd(model))
    compiled = torch.compile(model, backend="eager")
    with refused("attach-compiled", "model.layers.0 is called within a graph"), runner.step(0):
        compiled(**batch_of("llama"))


def test_a_wrapped_model() -> None:
    model = nn.DataParallel(make("llama"))
    with left_alone(model), refused("attach-model", "DataParallel"):
        attach(model, half(), sgd(model))


# --- options of the model ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2", "t5", "opt"])
def test_use_cache_in_the_config(family: str) -> None:
    model = make(family)
    model.config.use_cache = True
    if family == "t5":
        model.decoder.config.use_cache = True
    shape = shape_of(family)
    plan = drawn_plan(shape, [{"depth": mask(shape, "depth", [1, 1, 0, 0])}], keep=(0,))
    with left_alone(model), refused("attach-option", "use_cache=True"):
        attach(model, plan, sgd(model))


def test_output_hidden_states_in_the_config() -> None:
    model = make("llama")
    model.config.output_hidden_states = True
    with left_alone(model), refused("attach-option", "output_hidden_states=True"):
        attach(model, half(), sgd(model))


@pytest.mark.parametrize("option", ["use_cache", "output_hidden_states"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "opt", "gpt_neox"])
def test_options_of_one_call(family: str, option: str) -> None:
    if (family, option) == ("bert", "use_cache"):
        pytest.skip("an encoder has no cache")
    model = make(family)
    runner = attach(model, half(family), sgd(model))
    with refused("attach-option", f"{option}=True"), runner.step(0):
        model(**batch_of(family), **{option: True})
    with torch.no_grad():
        model.eval()(**batch_of(family), **{option: True})


def test_a_cache_that_is_given_although_none_is_asked_for() -> None:
    model = make("llama")
    runner = attach(model, half(), sgd(model))
    cache = DynamicCache(config=model.config)
    with refused("attach-option", "use_cache=True"), runner.step(0):
        model(**batch_of("llama"), past_key_values=cache, use_cache=False)


# --- the optimizer and the steps --------------------------------------------------------------------------------------


def test_an_optimizer_of_another_model() -> None:
    model = make("llama")
    with left_alone(model), refused("optimizer-foreign", "parameters of SGD are not the model's"):
        attach(model, half(), sgd(make("llama")))


def test_an_optimizer_without_some_of_the_parameters() -> None:
    model = make("llama")
    optimizer = torch.optim.SGD([p for n, p in model.named_parameters() if "layers.3" not in n], lr=0.1)
    runner = attach(model, half(), optimizer)
    with refused("optimizer-incomplete", "holds model.layers.3"), runner.step(0):
        pass
    runner.bind(torch.optim.SGD(model.model.layers[3].parameters(), lr=0.1))
    with runner.step(0):
        pass


def test_frozen_parameters_need_no_optimizer() -> None:
    model = make("llama")
    model.model.embed_tokens.requires_grad_(False)
    runner = attach(model, half(), torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1))
    with runner.step(0):
        model(**batch_of("llama")).loss.backward()


def test_a_refused_optimizer_leaves_the_model_alone() -> None:
    model = make("llama")
    with left_alone(model), refused("optimizer-idle-zero"):
        attach(model, half(), torch.optim.Muon([p for p in model.parameters() if p.dim() == 2]))


@pytest.mark.parametrize(("index", "code"), [(0, "step-order"), (2, "step-order"), (3, "step-beyond")])
def test_steps_out_of_order(index: int, code: str) -> None:
    model = make("llama")
    optimizer = sgd(model)
    runner: Runner = attach(model, half(steps=3), optimizer)
    with runner.step(0):
        model(**batch_of("llama")).loss.backward()
    optimizer.step()
    with refused(code), runner.step(index):
        pass
