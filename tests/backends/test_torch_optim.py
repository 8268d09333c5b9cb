"""`idle`: what optimizers do to what did not run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Optimizer

from raptr_dsl.axes import AXES
from raptr_dsl.backend import TrainSettings
from raptr_dsl.backend.network import parameters
from raptr_dsl.ir.model import ModelShape
from raptr_reference import BACKEND as REFERENCE
from raptr_torch import BACKEND, attach
from raptr_torch.model import Transformer, build
from raptr_torch.rows import MOST_VIEWS
from raptr_torch.runner import Runner
from tests.axes import PARTS
from tests.backends.drawn import SMALL, batch, drawn_plan, mask, masks_of, parts_of, refused, shapes

SKIP = dict.fromkeys(PARTS, "skip")
THINNED = {
    "depth": mask(SMALL, "depth", [1, 0, 1], 1.4),
    "heads": mask(SMALL, "heads", [1, 0, 1, 0], 1.4),
    "width": mask(SMALL, "width", [0, 1, 1, 0]),
}
WIDE = SMALL.model_copy(update={"ffn": 8 * MOST_VIEWS, "width_group": 1})
"""So many units that active ones are gathered instead of viewed."""
INPUTS = torch.from_numpy(batch(SMALL).inputs)

ELEMENTWISE: dict[str, Callable[[Iterable[nn.Parameter]], Optimizer]] = {
    "AdamW fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
    "AdamW foreach": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=True),
    "AdamW loop": lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=False),
    "AdamW amsgrad": lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.1),
    "SGD momentum": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
    "SGD nesterov foreach": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, nesterov=True, foreach=True),
    "SGD plain": lambda p: torch.optim.SGD(p, lr=1e-2, weight_decay=0.1),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
}


class Lion(Optimizer):
    """Chen and others, arXiv 2302.06675: the sign of the momentum."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 1e-3, beta: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                parameter.sub_(momentum.lerp(parameter.grad, 1 - group["beta"]).sign(), alpha=group["lr"])
                momentum.lerp_(parameter.grad, 0.01)


class Replacing(Lion):
    """The same, making its state anew instead of writing to it."""

    def step(self, closure=None):
        for state in self.state.values():
            state["momentum"] = state["momentum"].clone()
        super().step(closure)


class Normalised(Optimizer):
    """As Muon and LAMB do: each matrix moves by a fixed distance."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                momentum.mul_(0.9).add_(parameter.grad)
                parameter.sub_(momentum / (momentum.norm() + 1e-30), alpha=group["lr"])


def setup(
    make: Callable[[Iterable[nn.Parameter]], Optimizer],
    masks: list,
    idle: dict[str, str],
    shape: ModelShape = SMALL,
) -> tuple[Transformer, Optimizer, Runner]:
    model = build(shape, 0)
    optimizer = make(model.parameters())
    return model, optimizer, attach(model, drawn_plan(shape, masks, idle), optimizer)


def train(model: nn.Module, optimizer: Optimizer, runner: Runner, index: int, set_to_none: bool = True) -> None:
    with runner.step(index):
        model(INPUTS).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=set_to_none)


def snapshot(model: nn.Module, optimizer: Optimizer) -> dict[str, dict[str, Tensor]]:
    """Per parameter its value and all of its state, copied."""
    return {
        name: {"value": parameter.detach().clone()}
        | {
            word: torch.as_tensor(value).clone()
            for word, value in optimizer.state[parameter].items()
            if value is not None
        }
        for name, parameter in model.named_parameters()
    }


# --- both rules mean what the reference says ---------------------------------------------------------------------


@settings(max_examples=15)
@given(st.data())
def test_trajectories_equal_the_reference_over_20_steps(data: st.DataObject) -> None:
    shape = data.draw(shapes(experts=True))
    masks = [data.draw(masks_of(shape)) for _ in range(4)] * 5
    idle = {axis: data.draw(st.sampled_from(["zero", "skip"])) for axis in parts_of(shape)}
    plan = drawn_plan(shape, masks, idle)
    run = TrainSettings(dtype="float64", lr=1e-3, warmup=5)
    ours, theirs = BACKEND.trainer(plan, run), REFERENCE.trainer(plan, run)
    for index in range(20):
        mine, other = (trainer.step(index, batch(shape, index)) for trainer in (ours, theirs))
        assert mine.loss == pytest.approx(other.loss, rel=1e-9)
        assert mine.grad_norm == pytest.approx(other.grad_norm, rel=1e-9)
    for name, parameter in ours.model.named_parameters():
        if "key.bias" in name:
            continue  # its gradient is zero but for rounding
        np.testing.assert_allclose(parameter.detach().numpy(), theirs.values[name], atol=1e-9, err_msg=name)
        state = ours.optimizer.state[parameter]
        np.testing.assert_allclose(state["exp_avg"].numpy(), theirs.moments[name].mean, atol=1e-9)
        assert int(state["step"]) == theirs.moments[name].count, name


# --- skip ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("set_to_none", [True, False], ids=["grads are None", "grads are zeros"])
@pytest.mark.parametrize("make", ELEMENTWISE.values(), ids=ELEMENTWISE)
def test_rule_32_skip_leaves_what_did_not_run_untouched_to_the_bit(make: Callable, set_to_none: bool) -> None:
    model, optimizer, runner = setup(make, [{}, {}, THINNED], SKIP)
    for index in range(2):
        train(model, optimizer, runner, index, set_to_none)
    before = snapshot(model, optimizer)
    train(model, optimizer, runner, 2, set_to_none)
    after = snapshot(model, optimizer)
    for entry in parameters(SMALL):
        now, then = after[entry.name], before[entry.name]
        if entry.block == 1:
            assert all(torch.equal(now[word], then[word]) for word in then), entry.name
            continue
        moved = ~torch.eq(now["value"], then["value"]).reshape(*now["value"].shape, 1).flatten(1).all(dim=1)
        if entry.axis is None or entry.block is None:
            assert moved.any(), entry.name
            continue
        on = torch.from_numpy(THINNED[entry.axis].on[entry.block])
        if "key.bias" not in entry.name:
            assert torch.equal(moved, on), entry.name
        for word in then:
            if then[word].shape == then["value"].shape:
                assert torch.equal(now[word][~on], then[word][~on]), (entry.name, word)
        if "step" in then:
            assert now["step"] == then["step"] + 1


def test_gradients_of_what_is_skipped_are_there_again_after_the_update() -> None:
    model, optimizer, runner = setup(ELEMENTWISE["AdamW fused"], [{}, THINNED], SKIP)
    train(model, optimizer, runner, 0, set_to_none=False)
    with runner.step(1):
        model(INPUTS).square().mean().backward()
    before = {parameter: parameter.grad for parameter in model.parameters()}
    optimizer.step()
    assert all(parameter.grad is gradient is not None for parameter, gradient in before.items())


def test_counts_of_bias_correction_belong_to_tensors_and_advance_when_their_block_runs() -> None:
    nothing = {"width": mask(SMALL, "width", [0, 0, 0, 0]), "depth": mask(SMALL, "depth", [1, 0, 1])}
    model, optimizer, runner = setup(ELEMENTWISE["AdamW fused"], [THINNED, nothing, {}], SKIP)
    for index in range(3):
        train(model, optimizer, runner, index)
    counts = {name: int(optimizer.state[p]["step"]) for name, p in model.named_parameters()}
    assert {count for name, count in counts.items() if name.startswith("blocks.1.")} == {1}
    assert {count for name, count in counts.items() if not name.startswith("blocks.1.")} == {3}


@pytest.mark.parametrize("name", ["AdamW fused", "AdamW foreach", "SGD momentum"])
def test_skip_is_exact_where_rows_are_gathered(name: str) -> None:
    on = np.arange(WIDE.ffn) % 2 == 0
    thinned = {"width": mask(WIDE, "width", on)}
    results = []
    for masks in ([{}, thinned], [{}, {"width": mask(WIDE, "width", ~on)}]):
        model, optimizer, runner = setup(ELEMENTWISE[name], masks, SKIP, WIDE)
        train(model, optimizer, runner, 0)
        before = snapshot(model, optimizer)
        train(model, optimizer, runner, 1)
        after, active = snapshot(model, optimizer), torch.from_numpy(masks[1]["width"].on[0])
        for word, value in before["blocks.0.ffn.up.weight"].items():
            now = after["blocks.0.ffn.up.weight"][word]
            if value.dim() == 0:
                assert now == value + 1
                continue
            assert torch.equal(now[~active], value[~active])
            assert not torch.eq(now[active], value[active]).flatten(1).all(dim=1).any()
        results.append(after)
    assert set(optimizer.state) == set(model.parameters())


@pytest.mark.parametrize("shape", [SMALL, WIDE], ids=["viewed", "gathered"])
def test_state_that_the_optimizer_replaces_reaches_the_parameter(shape: ModelShape) -> None:
    thinned = {"width": mask(shape, "width", np.arange(AXES["width"].space(shape).units) % 2 == 0)}
    seen = []
    for make in (Lion, Replacing):
        model, optimizer, runner = setup(make, [{}, thinned, {}], {"width": "skip"}, shape)
        for index in range(3):
            train(model, optimizer, runner, index)
        seen.append(snapshot(model, optimizer))
    for name, words in seen[0].items():
        for word, value in words.items():
            assert torch.equal(seen[1][name][word], value), (name, word)


def test_gathered_and_viewed_rows_are_updated_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for limit in (MOST_VIEWS, 0):
        monkeypatch.setattr("raptr_torch.rows.MOST_VIEWS", limit)
        model, optimizer, runner = setup(ELEMENTWISE["AdamW loop"], [THINNED] * 3, SKIP)
        for index in range(3):
            train(model, optimizer, runner, index)
        seen.append(snapshot(model, optimizer))
    for name, words in seen[0].items():
        for word, value in words.items():
            torch.testing.assert_close(seen[1][name][word], value, rtol=1e-6, atol=1e-7)


def test_an_update_that_raised_leaves_no_traces() -> None:
    model, optimizer, runner = setup(ELEMENTWISE["AdamW fused"], [THINNED] * 2, {"depth": "zero", "heads": "skip"})

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    hook = optimizer.register_step_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(model, optimizer, runner, 0)
    hook.remove()
    optimizer.zero_grad()
    train(model, optimizer, runner, 1)
    assert optimizer.param_groups[0]["params"] == list(model.parameters())
    assert set(optimizer.state) == set(model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_frozen_parameters_are_left_alone() -> None:
    model = build(SMALL, 0)
    frozen = model.blocks[1].ffn.up.weight.requires_grad_(False)
    optimizer = ELEMENTWISE["AdamW fused"](model.parameters())
    runner = attach(model, drawn_plan(SMALL, [THINNED] * 2), optimizer)
    before = frozen.detach().clone()
    for index in range(2):
        train(model, optimizer, runner, index)
    assert torch.equal(frozen, before)


# --- zero ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ELEMENTWISE.values(), ids=ELEMENTWISE)
def test_rule_32_zero_is_a_zero_gradient(make: Callable) -> None:
    masks = [{}, THINNED, THINNED, {"width": mask(SMALL, "width", [0, 0, 0, 0])}, {}]
    model, optimizer, runner = setup(make, masks, {})
    plain = build(SMALL, 0)
    expected = make(plain.parameters())
    for index in range(len(masks)):
        with runner.step(index):
            model(INPUTS).square().mean().backward()
        for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
            theirs.grad = torch.zeros_like(theirs) if ours.grad is None else ours.grad.clone()
        for stepped in (optimizer, expected):
            stepped.step()
            stepped.zero_grad()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_lent_zeros_are_shared_and_taken_back() -> None:
    model, optimizer, runner = setup(ELEMENTWISE["AdamW fused"], [THINNED], {})
    lent = []
    optimizer.register_step_pre_hook(lambda *_: lent.append([p.grad for p in model.blocks[1].parameters()]))
    with runner.step(0):
        model(INPUTS).square().mean().backward()
    optimizer.step()
    (gradients,) = lent
    assert len({gradient.data_ptr() for gradient in gradients}) < len(gradients)
    assert not any(gradient.any() for gradient in gradients)
    assert all(parameter.grad is None for parameter in model.blocks[1].parameters())


# --- priming ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ELEMENTWISE.values(), ids=ELEMENTWISE)
def test_binding_makes_the_state_and_leaves_the_weights(make: Callable) -> None:
    model = build(SMALL, 0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = make(model.parameters())
    attach(model, drawn_plan(SMALL, [THINNED], SKIP), optimizer)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name
        assert parameter.grad is None
        for word, value in optimizer.state[parameter].items():
            assert value is None or not torch.as_tensor(value).any(), (name, word)
    used = make(nn.Linear(2, 2).parameters())
    for parameter in used.param_groups[0]["params"]:
        parameter.grad = torch.ones_like(parameter)
    used.step()
    expected = {word for state in used.state.values() for word in state}
    assert {word for state in optimizer.state.values() for word in state} == expected


def test_weights_stay_even_where_an_update_moves_them_at_learning_rate_0() -> None:
    class Shrinking(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.mul_(0.99)
            return super().step(closure)

    model, plain = build(SMALL, 0), build(SMALL, 0)
    attach(model, drawn_plan(SMALL, [THINNED], SKIP), Shrinking(model.parameters(), lr=0.1))
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_state_that_exists_is_kept() -> None:
    model = build(SMALL, 0)
    optimizer = torch.optim.AdamW(model.parameters())
    model(INPUTS).square().mean().backward()
    optimizer.step()
    before = snapshot(model, optimizer)
    attach(model, drawn_plan(SMALL, [THINNED], SKIP), optimizer)
    for name, words in snapshot(model, optimizer).items():
        assert all(torch.equal(value, before[name][word]) for word, value in words.items())


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Lion, Normalised], ids=["sign", "matrix-normalised"])
@pytest.mark.parametrize("axis", ["depth", "heads"])
def test_rule_32_zero_is_refused_where_momentum_does_not_fade(make: Callable, axis: str) -> None:
    with refused("optimizer-idle-zero", f"under {make.__name__}, idle=zero"):
        setup(make, [{axis: THINNED[axis]}], {})
    setup(make, [{"depth": THINNED["depth"]}], {"depth": "skip"})


def test_zero_is_refused_under_torchs_muon() -> None:
    muon = getattr(torch.optim, "Muon", None)
    if muon is None:
        pytest.skip("this torch has no Muon")
    model = build(SMALL, 0)
    vectors = [p for p in model.parameters() if p.dim() < 2]
    with refused("optimizer-idle-zero", "Muon"):
        flat = [p for p in model.parameters() if p.dim() == 2]
        attach(model, drawn_plan(SMALL, [{"depth": THINNED["depth"]}]), muon(flat))
    assert vectors


def test_rule_32_skip_of_rows_is_refused_where_elements_are_not_alone() -> None:
    with refused("optimizer-idle-rows", "Normalised updates a matrix as a whole"):
        setup(Normalised, [{"heads": THINNED["heads"]}], {"heads": "skip"})
    with refused("optimizer-idle-rows", "Adafactor"):
        setup(torch.optim.Adafactor, [{"width": THINNED["width"]}], {"width": "skip"})
    setup(Lion, [{"heads": THINNED["heads"]}], {"heads": "skip"})


def test_skip_is_refused_where_state_cannot_be_made_beforehand() -> None:
    with refused("optimizer-idle-start", "NAdam"):
        setup(torch.optim.NAdam, [{"depth": THINNED["depth"]}], {"depth": "skip"})
    model, optimizer, runner = setup(torch.optim.NAdam, [{"depth": THINNED["depth"]}], {})
    train(model, optimizer, runner, 0)


def test_an_optimizer_that_needs_a_closure_is_refused() -> None:
    with refused("optimizer-opaque", "LBFGS"):
        setup(torch.optim.LBFGS, [{"depth": THINNED["depth"]}], {})


def test_a_dense_plan_takes_any_optimizer() -> None:
    setup(Lion, [{}], {})
    setup(Normalised, [{}], {})
