"""Attaching, the order of steps, and every way to get it wrong."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import _global_optimizer_pre_hooks

from raptr_dsl.ir.plan import Plan
from raptr_torch import BACKEND, attach
from raptr_torch.model import Transformer, build
from raptr_torch.runner import Runner
from tests.backends.drawn import SMALL, batch, drawn_plan, mask, planned, refused

HALF = {"depth": mask(SMALL, "depth", [1, 0, 1], 1.4), "heads": mask(SMALL, "heads", [1, 0, 0, 1])}
INPUTS = torch.from_numpy(batch(SMALL).inputs)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def attached(plan: Plan | None = None) -> tuple[Transformer, torch.optim.Optimizer, Runner]:
    model = build(SMALL, 0)
    optimizer = sgd(model)
    return model, optimizer, attach(model, plan or drawn_plan(SMALL, [HALF, {}, HALF]), optimizer)


def loss_of(model: nn.Module) -> Tensor:
    return model(INPUTS).square().mean()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, runner: Runner, index: int) -> None:
    with runner.step(index):
        loss_of(model).backward()
    optimizer.step()
    optimizer.zero_grad()


def test_the_loop_of_the_documentation_runs_the_plan() -> None:
    model, optimizer, runner = attached()
    for index in range(runner.next_step, runner.plan.steps):
        train(model, optimizer, runner, index)
    units, flops = {"depth": 0, "heads": 0, "width": 0}, 0
    for masks in (HALF, {}, HALF):
        step_units, step_flops = planned(SMALL, masks)
        units = {axis: units[axis] + step_units[axis] for axis in units}
        flops += step_flops
    assert runner.executed().units == units
    assert runner.executed().flops == flops
    assert runner.next_step == 3


# --- training outside a step ------------------------------------------------------------------------------------


def test_a_training_forward_outside_a_step_is_refused() -> None:
    model, optimizer, runner = attached()
    with refused("step-outside"):
        model(INPUTS)
    train(model, optimizer, runner, 0)
    with refused("step-outside"):
        model(INPUTS)


def test_evaluation_needs_no_step_and_is_full() -> None:
    model, _, runner = attached()
    expected = build(SMALL, 0)(INPUTS)
    model.eval()
    assert torch.equal(model(INPUTS), expected)
    with runner.step(0):
        assert torch.equal(model(INPUTS), expected)
    assert runner.executed().flops == 0


def test_full_trains_everything_on_purpose_and_is_not_counted() -> None:
    model, optimizer, runner = attached()
    expected = build(SMALL, 0)
    reference = sgd(expected)
    for _ in range(2):
        with runner.full():
            loss_of(model).backward()
        loss_of(expected).backward()
        for updated in (optimizer, reference):
            updated.step()
            updated.zero_grad()
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert runner.executed().flops == 0
    assert runner.next_step == 0


# --- the order of steps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("index", "code"), [(0, "step-order"), (2, "step-order"), (3, "step-beyond")])
def test_only_the_next_step_can_be_taken(index: int, code: str) -> None:
    model, optimizer, runner = attached()
    train(model, optimizer, runner, 0)
    with refused(code), runner.step(index):
        pass
    train(model, optimizer, runner, 1)


def test_a_step_within_a_step_is_refused() -> None:
    _, _, runner = attached()
    with runner.step(0):
        for nested in (runner.step(1), runner.full()):
            with refused("step-open"), nested:
                pass
        with refused("step-open"):
            runner.detach()


def test_a_step_that_failed_can_be_taken_again_and_is_not_counted() -> None:
    model, optimizer, runner = attached()

    def interrupted() -> None:
        with runner.step(0):
            loss_of(model).backward()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with refused("optimizer-extra-update", "outside a step"):
        optimizer.step()
    optimizer.zero_grad()
    train(model, optimizer, runner, 0)
    assert runner.executed().flops == planned(SMALL, HALF)[1]


def test_a_resumed_run_goes_on_where_it_was() -> None:
    model, optimizer, runner = attached()
    train(model, optimizer, runner, 0)
    state = runner.state_dict()
    model, optimizer, runner = attached()
    runner.load_state_dict(state)
    train(model, optimizer, runner, runner.next_step)
    assert runner.executed().flops == planned(SMALL, HALF)[1] + planned(SMALL, {})[1]


# --- optimizers -------------------------------------------------------------------------------------------------


def test_a_step_without_an_optimizer_is_refused() -> None:
    runner = attach(build(SMALL, 0), drawn_plan(SMALL, [HALF]))
    with refused("optimizer-unbound"), runner.step(0):
        pass


def test_an_optimizer_that_was_never_bound_is_refused_when_it_steps() -> None:
    model, optimizer, runner = attached()
    stranger = sgd(model)
    with runner.step(0):
        loss_of(model).backward()
    with refused("optimizer-unbound", "SGD steps"):
        stranger.step()
    optimizer.step()
    other = nn.Linear(2, 2)
    torch.optim.SGD(other.parameters(), lr=0.1).step()  # not ours
    runner.detach()
    stranger.step()


def test_an_optimizer_can_be_bound_later_and_once() -> None:
    model = build(SMALL, 0)
    runner = BACKEND.attach(model, drawn_plan(SMALL, [HALF]))
    optimizer = sgd(model)
    runner.bind(optimizer)
    train(model, optimizer, runner, 0)
    with refused("optimizer-bound-twice"):
        runner.bind(optimizer)


def test_several_optimizers_share_one_plan() -> None:
    model = build(SMALL, 0)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    optimizers = [torch.optim.AdamW(matrices), torch.optim.SGD(others, lr=0.1)]
    runner = attach(model, drawn_plan(SMALL, [HALF, HALF]), optimizers[0])
    runner.bind(optimizers[1])
    for index in range(2):
        with runner.step(index):
            loss_of(model).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def test_two_updates_in_one_step_are_refused() -> None:
    model, optimizer, runner = attached()
    with refused("optimizer-extra-update", "outside a step"):
        optimizer.step()
    train(model, optimizer, runner, 0)
    with refused("optimizer-extra-update", "a second time for step 0"):
        optimizer.step()
    train(model, optimizer, runner, 1)


def test_an_update_that_a_gradient_scaler_leaves_out_is_no_error() -> None:
    model, optimizer, runner = attached()
    with runner.step(0):
        loss_of(model).backward()
    optimizer.zero_grad()
    train(model, optimizer, runner, 1)


# --- attaching and detaching ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [{"layers": 2}, {"ffn": 24}, {"kv_heads": 2}, {"gated": True}, {"tied": False}, {"causal": False}]
)
def test_a_plan_of_another_shape_is_refused_and_the_model_left_as_it_was(change: dict) -> None:
    model = build(SMALL, 0)
    optimizer = sgd(model)
    other = SMALL.model_copy(update=change)
    with refused("attach-shape", f"{next(iter(change))}="):
        attach(model, drawn_plan(other, [{}]), optimizer)
    assert not model.is_attached
    assert not optimizer.state
    loss_of(model).backward()
    optimizer.step()


def test_batch_size_and_head_share_are_no_part_of_a_model() -> None:
    attach(build(SMALL, 0), drawn_plan(SMALL.model_copy(update={"batch": 64}), [{}]))


def test_an_attached_model_is_refused() -> None:
    model, _, _ = attached()
    with refused("attach-twice"):
        attach(model, drawn_plan(SMALL, [{}]))


def test_a_foreign_model_is_refused() -> None:
    with refused("attach-stack", "Linear"):
        attach(nn.Linear(2, 2), drawn_plan(SMALL, [{}]))
    with refused("attach-model", "Linear"):
        BACKEND.shape(nn.Linear(2, 2))


def test_detach_gives_the_model_and_the_optimizer_back() -> None:
    model, optimizer, runner = attached()
    train(model, optimizer, runner, 0)
    assert runner.detach() is model
    loss_of(model).backward()
    for _ in range(2):
        optimizer.step()
    assert not model.is_attached
    for use in (runner.detach, lambda: runner.bind(optimizer), lambda: runner.step(1).__enter__()):
        with refused("attach-detached"):
            use()
    attach(model, drawn_plan(SMALL, [HALF]), optimizer)


def test_a_refused_optimizer_leaves_the_model_unattached() -> None:
    model = build(SMALL, 0)

    class Opaque(torch.optim.SGD):
        def step(self, closure=None):
            raise ValueError("not today")

    with refused("optimizer-opaque", "not today"):
        attach(model, drawn_plan(SMALL, [HALF]), Opaque(model.parameters(), lr=0.1))
    assert not model.is_attached
    sgd(model).step()


def test_a_runner_that_is_gone_watches_no_optimizer() -> None:
    model, _, runner = attached()
    stranger = sgd(model)
    with refused("optimizer-unbound"):
        stranger.step()
    hooks = len(_global_optimizer_pre_hooks)
    del runner, _
    gc.collect()
    stranger.step()
    attached()
    assert len(_global_optimizer_pre_hooks) == hooks  # one for all: removing one while it is called is an error
