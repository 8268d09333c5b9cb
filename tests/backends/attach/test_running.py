"""Attached models while they train: compiled, audited, and what the optimizer does to what idles."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo.exc import FailOnRecompileLimitHit

from raptr_dsl import compile_text
from raptr_dsl.ir.plan import Plan
from raptr_torch import attach
from raptr_torch.model import build
from raptr_torch.runner import Runner
from tests.backends.attach.models import batch_of, make, shape_of
from tests.backends.attach.test_depth import snapshot
from tests.backends.attach.test_units import LAYOUT, Own, masked_outputs, thinned
from tests.backends.drawn import SMALL, drawn_plan, mask, refused

DEPTH = """
steps 4
keep depth=first
stage depth=2/4 scale=sqrt steps=50%
stage steps=rest
"""
UNITS = """
steps 8
keep depth=first
default scale=sqrt
stage depth=2/4 heads=1/2 width=1/2 steps=25%
stage depth=3/4 heads=1/2 width=1/2 steps=25%
stage depth=3/4 width=1/2 steps=25%
stage steps=rest
"""


def planned(family: str, text: str) -> Plan:
    return compile_text(text, model=shape_of(family), seed=1)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-2)


def train(family: str, model: Any, runner: Runner, optimizer: torch.optim.Optimizer) -> list[float]:
    losses = []
    for index in range(runner.next_step, runner.plan.steps):
        with runner.step(index):
            loss = model(**batch_of(family, index)).loss
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


# --- compiled ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh_compiler() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(
    ("family", "text", "kinds"),
    [
        pytest.param("llama", UNITS, 1, id="llama"),
        pytest.param("gpt2", UNITS, 1, id="gpt2", marks=pytest.mark.slow),
        pytest.param("t5", DEPTH, 4, id="t5", marks=pytest.mark.slow),
        pytest.param("opt", DEPTH, 1, id="opt", marks=pytest.mark.slow),
    ],
)
def test_graphs_are_as_many_as_the_plan_says_and_all_are_built_by_the_warm_up(
    family: str, text: str, kinds: int
) -> None:
    """kinds of blocks · (sizes of heads and width + 1 for evaluation); a stack of T5 has two kinds."""
    model, plan = make(family), planned(family, text)
    without_depth = {UNITS: 3, DEPTH: 1}[text]
    optimizer = adamw(model)
    runner = attach(model, plan, optimizer)
    runner.compile(backend="aot_eager" if family == "gpt2" else "eager")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    runner.warm_up(lambda: model(**batch_of(family)).loss)
    assert runner.graphs == (kinds * (without_depth + 1),) * 2
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and model.training and not runner.executed().units
    losses = train(family, model, runner, optimizer)
    with torch.no_grad():
        model.eval()(**batch_of(family))
    assert runner.graphs == (kinds * (without_depth + 1),) * 2
    assert runner.audit().holds and runner.executed().flops == plan.flops().total
    eager = make(family)
    optimizer = adamw(eager)
    assert losses == pytest.approx(train(family, eager, attach(eager, plan, optimizer), optimizer), rel=1e-4)
    runner.detach()
    assert snapshot(model.train()) == snapshot(make(family))


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@torch._dynamo.config.patch(recompile_limit=1)
def test_more_graphs_than_planned_are_an_error_not_a_fall_to_eager() -> None:
    model, plan = make("llama"), planned("llama", DEPTH)
    optimizer = adamw(model)
    runner = attach(model, plan, optimizer)
    runner.compile(backend="eager")
    assert torch._dynamo.config.recompile_limit == 2

    def of_other_lengths() -> None:  # each needs a graph of its own
        for length in (4, 5, 6, 7):
            model(input_ids=torch.ones(1, length, dtype=torch.int64))

    with runner.step(0), pytest.raises(FailOnRecompileLimitHit):
        of_other_lengths()
    runner.detach()
    assert torch._dynamo.config.recompile_limit == 1


def test_blocks_are_compiled_once_and_not_those_of_the_small_transformer() -> None:
    runner = attach(make("llama"), planned("llama", DEPTH))
    runner.compile(backend="eager")
    with refused("compile-blocks", "already"):
        runner.compile(backend="eager")
    runner.detach()
    with refused("compile-blocks", "small transformer"):
        attach(build(SMALL, 0), drawn_plan(SMALL, [{}])).compile()


# --- is it on? --------------------------------------------------------------------------------------------------------


def test_the_audit_holds_and_the_metrics_say_what_ran(caplog: pytest.LogCaptureFixture) -> None:
    model, plan = make("llama"), planned("llama", UNITS)
    optimizer = adamw(model)
    runner = attach(model, plan, optimizer)
    assert runner.metrics() == {}
    with caplog.at_level("INFO", "raptr_torch"), runner.step(0):
        model(**batch_of("llama")).loss.backward()
    optimizer.step()
    assert runner.metrics() == {
        "raptr/step": 0,
        "raptr/stage": 0,
        "raptr/active_depth": 2,
        "raptr/active_heads": 2,
        "raptr/active_width": 32,
        "raptr/flops": runner.executed().flops,
    }
    (record,) = caplog.records
    for words in ("model.layers: 4 blocks of LlamaDecoderLayer", "depth 2/4", "heads 2/4", "optimizer: AdamW"):
        assert words in record.getMessage()
    train("llama", model, runner, optimizer)
    assert runner.audit().holds
    assert runner.audit().planned == {"depth": 2 * (2 + 3 + 3 + 4), "heads": 2 * (2 + 3 + 6 + 8), "width": 64}
    assert str(runner.audit()).startswith("as planned: depth 24 of 24")


def test_the_audit_notices_blocks_that_the_model_itself_drops() -> None:
    model, plan = make("opt"), planned("opt", DEPTH)
    optimizer = adamw(model)
    runner = attach(model, plan, optimizer)
    model.model.decoder.layerdrop = 0.5
    torch.manual_seed(0)
    train("opt", model, runner, optimizer)
    assert not runner.audit().holds
    assert str(runner.audit()).startswith("NOT AS PLANNED")


def test_the_account_survives_a_resume() -> None:
    model, plan = make("llama"), planned("llama", DEPTH)
    optimizer = adamw(model)
    runner = attach(model, plan, optimizer)
    train("llama", model, runner, optimizer)
    again = attach(make("llama"), plan)
    again.load_state_dict(runner.state_dict())
    assert again.audit() == runner.audit() and again.next_step == plan.steps


# --- what idles -------------------------------------------------------------------------------------------------------


def rows(family: str) -> dict[str, Any]:
    found = thinned(family)
    found["depth"] = mask(shape_of(family), "depth", [1, 1, 1, 0])
    return found


@pytest.mark.parametrize(
    ("family", "make_optimizer"),
    [
        ("llama", lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True)),
        ("gpt2", lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=True)),
        ("gpt_neox", lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=0.1)),
    ],
    ids=["fused", "foreach", "sgd"],
)
def test_skip_touches_no_element_of_what_did_not_run(family: str, make_optimizer: Any) -> None:
    """Compared, element by element, with the same update of all: what ran is as there, the rest as before."""
    shape, masks = shape_of(family), rows(family)
    models = [make(family) for _ in range(2)]
    optimizers = [make_optimizer(model.parameters()) for model in models]
    runners = [
        attach(model, drawn_plan(shape, [{}, masks], dict.fromkeys(masks, idle)), optimizer)
        for model, optimizer, idle in zip(models, optimizers, ("skip", "zero"), strict=True)
    ]
    for model, runner, optimizer in zip(models, runners, optimizers, strict=True):
        with runner.step(0):
            model(**batch_of(family)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    before = [p.detach().clone() for p in models[0].parameters()]
    for model, runner, optimizer in zip(models, runners, optimizers, strict=True):
        with runner.step(1):
            model(**batch_of(family, 1)).loss.backward()
        optimizer.step()
    parts = runners[0]._sites.parts
    idle_elements = 0
    for skipped, zeroed, old in zip(models[0].parameters(), models[1].parameters(), before, strict=True):
        ran = _ran(parts[skipped], masks, skipped)
        idle_elements += int((~ran).sum())
        assert torch.equal(skipped[~ran], old[~ran])
        assert torch.equal(skipped[ran], zeroed[ran])
        assert ran.all() or not torch.equal(zeroed[~ran], old[~ran])
    assert idle_elements


def _ran(part: Any, masks: dict[str, Any], parameter: Tensor) -> Tensor:
    ran = torch.ones(parameter.shape, dtype=torch.bool)
    if part.block is None:
        return ran
    if not masks["depth"].on[0, part.block]:
        return ~ran
    if part.axis:
        on = torch.from_numpy(part.elements(masks[part.axis].on[part.block]))
        ran &= on if parameter.dim() == 1 or part.dim == 1 else on[:, None]
    return ran


def test_parts_are_the_units_that_a_gradient_reaches() -> None:
    """Where no gradient comes, the unit is idle; so the parts, which say so to the optimizer, are right."""
    for family in ("gpt2", "gpt_neox", "opt", "bert", "phi"):
        model, shape = make(family), shape_of(family)
        masks = rows(family)
        runner = attach(model, drawn_plan(shape, [masks]), torch.optim.SGD(model.parameters(), lr=0.1))
        with runner.step(0):
            model(**batch_of(family)).loss.backward()
        for parameter, part in runner._sites.parts.items():
            if parameter.grad is not None:
                assert not parameter.grad[~_ran(part, masks, parameter)].any(), part.name


def test_muon_trains_whole_blocks_under_skip() -> None:
    model, shape = Own(), shape_of("gpt2")
    plan = drawn_plan(shape, [{"depth": mask(shape, "depth", [1, 0, 1, 1])}], {"depth": "skip"})
    matrices = [p for p in model.parameters() if p.dim() == 2]
    runner = attach(model, plan, torch.optim.Muon(matrices, lr=0.1))
    runner.bind(torch.optim.SGD([p for p in model.parameters() if p.dim() != 2], lr=0.1))
    before = copy.deepcopy(model.blocks[1].state_dict())
    with runner.step(0):
        model(torch.randn(3, 32)).square().mean().backward()
    for optimizer in runner._bindings.optimizers:
        optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.blocks[1].state_dict().items())


@pytest.mark.parametrize(
    ("optimizer", "idle", "code"),
    [(torch.optim.Muon, "zero", "optimizer-idle-zero"), (torch.optim.Muon, "skip", "optimizer-idle-rows"),
     (torch.optim.Adafactor, "skip", "optimizer-idle-rows")],
)  # fmt: skip
def test_optimizers_that_cannot_leave_out_columns_are_refused(optimizer: Any, idle: str, code: str) -> None:
    model, shape = Own(), shape_of("gpt2")
    on = np.tile([True, False], (4, 2))
    plan = drawn_plan(shape, [{"width": mask(shape, "width", on)}], {"width": idle})
    matrices = [p for p in model.parameters() if p.dim() == 2]
    with refused(code):
        attach(model, plan, optimizer(matrices), layout=LAYOUT, example=(torch.zeros(1, 32),))
    assert snapshot(model) == snapshot(Own())


# --- mixed precision --------------------------------------------------------------------------------------------------


def test_mixed_precision_gradient_scaler_accumulation_and_clipping() -> None:
    """Equal to the same loop over a model whose masked units are multiplied by zero, at bfloat16's precision."""
    family, found = "llama", []
    masks = thinned(family)
    for is_attached in (True, False):
        model, shape = make(family), shape_of(family)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        runner = attach(model, drawn_plan(shape, [masks] * 3), optimizer) if is_attached else None
        if not is_attached:
            masked_outputs(family, model, masks)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        for index in range(3):
            with runner.step(index) if runner else nullcontext():
                for part in range(2):
                    with torch.autocast("cpu", torch.bfloat16):
                        loss = model(**batch_of(family, 2 * index + part)).loss / 2
                    scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        found.append([p.detach().clone() for p in model.parameters()])
    moved = [(theirs - old).abs().max() for theirs, old in zip(found[1], make(family).parameters(), strict=True)]
    assert sum(bool(distance) for distance in moved) >= 30
    for ours, theirs, distance in zip(*found, moved, strict=True):
        assert (ours - theirs).abs().max() <= 0.1 * distance


def test_a_model_in_bfloat16() -> None:
    model, shape = make("llama").to(torch.bfloat16), shape_of("llama")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    runner = attach(model, drawn_plan(shape, [rows("llama")]), optimizer)
    with runner.step(0):
        loss = model(**batch_of("llama")).loss
        loss.backward()
    assert loss.isfinite() and model.model.layers[0].mlp.up_proj.weight.grad.dtype == torch.bfloat16
