"""Optimizers from elsewhere: Lion of lion-pytorch, and those that keep their state in few bits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy

import pytest
import torch
from lion_pytorch import Lion
from torch import nn
from torch.optim import Optimizer

from raptr_torch import attach
from raptr_torch.model import build
from tests.backends.drawn import SMALL, drawn_plan, mask, refused
from tests.backends.test_torch_optim import THINNED, setup, snapshot, train

LIONS: dict[str, Callable[[Iterable[nn.Parameter]], Optimizer]] = {
    "plain": lambda p: Lion(p, lr=1e-3, use_triton=False),
    "decayed": lambda p: Lion(p, lr=1e-3, weight_decay=0.1),
    "decoupled": lambda p: Lion(p, lr=1e-3, weight_decay=1e-4, decoupled_weight_decay=True),
}
BIG = SMALL.model_copy(update={"hidden": 64, "ffn": 96, "heads": 4, "width_group": 24})
"""Matrices of 4,096 elements and more, from which on state is quantised."""


@pytest.mark.parametrize("axis", ["depth", "heads", "width"])
def test_zero_is_refused_under_lion(axis: str) -> None:
    with refused("optimizer-idle-zero", f"under Lion, idle=zero would move idle parts of {axis} at full strength"):
        setup(LIONS["plain"], [{axis: THINNED[axis]}], {})


@pytest.mark.parametrize("kind", LIONS)
def test_lion_leaves_alone_what_is_skipped(kind: str) -> None:
    """Row by row it is Lion of the whole for what ran, and nothing at all, decay neither, for what did not."""
    model, optimizer, runner = setup(LIONS[kind], [{}, THINNED], dict.fromkeys(THINNED, "skip"))
    assert {word for state in optimizer.state.values() for word in state} == {"exp_avg"}
    assert set(optimizer.state) == set(model.parameters())
    train(model, optimizer, runner, 0)
    before, gradients = snapshot(model, optimizer), {}
    plain = build(SMALL, 0)
    plain.load_state_dict(model.state_dict())
    other = LIONS[kind](plain.parameters())
    other.load_state_dict(deepcopy(optimizer.state_dict()))  # or they would share it
    optimizer.register_step_pre_hook(
        lambda *_: gradients.update({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    )
    train(model, optimizer, runner, 1)
    after = snapshot(model, optimizer)
    for name, parameter in plain.named_parameters():
        parameter.grad = gradients.get(name)
    other.step()
    updated = snapshot(plain, other)
    parts = runner._sites.parts
    for name, parameter in model.named_parameters():
        part = parts[parameter]
        on = torch.ones(parameter.shape, dtype=torch.bool)
        if part.block is not None and not THINNED["depth"].on[0, part.block]:
            on &= False
        elif part.axis:
            rows = torch.from_numpy(part.elements(THINNED[part.axis].on[part.block]))
            on &= rows.view([-1 if dim == part.dim else 1 for dim in range(parameter.dim())])
        for word, value in after[name].items():
            assert torch.equal(value[on], updated[name][word][on]), (name, word)
            assert torch.equal(value[~on], before[name][word][~on]), (name, word)


class FewBits(Optimizer):
    """Momentum in whole numbers of 256ths of the largest of a block of elements, by a table that all share."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 1e-2) -> None:
        super().__init__(params, {"lr": lr})
        self.table = torch.linspace(-1, 1, 255)

    @torch.no_grad()
    def step(self, closure=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group["lr"])

    def _update(self, parameter: nn.Parameter, gradient: torch.Tensor, lr: float) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["momentum"] = torch.full(parameter.shape, 127, dtype=torch.uint8)
            if parameter.numel() >= 4096:
                state["table"], state["largest"] = self.table, torch.zeros(parameter.numel() // 64, 1)
        state["step"] += 1
        if "table" not in state:
            parameter.sub_(gradient, alpha=lr)
            return
        old = state["table"][state["momentum"].long()].view(-1, 64) * state["largest"]
        new = (0.9 * old).view(parameter.shape) + gradient
        state["largest"].copy_(new.view(-1, 64).abs().amax(dim=1, keepdim=True))
        levels = new.view(-1, 64) / state["largest"].clamp(min=1e-30)
        state["momentum"].copy_(((levels + 1) * 127).round().view(parameter.shape))
        parameter.sub_(new, alpha=lr)


def test_state_of_few_bits_begins_as_it_would_and_keeps_its_tables() -> None:
    """The table is no state: made zero, as the rest is before the first step, it would stop all training."""
    one = {"depth": mask(BIG, "depth", [1, 0, 1])}
    model, optimizer, runner = setup(FewBits, [{}, {}, one], {"depth": "skip"}, BIG)
    assert isinstance(optimizer, FewBits) and optimizer.table[-1] == 1
    plain = build(BIG, 0)
    other, unthinned = FewBits(plain.parameters()), drawn_plan(BIG, [{}] * 3)
    dense = attach(plain, unthinned, other)
    for index in range(2):
        train(model, optimizer, runner, index)
        train(plain, other, dense, index)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    before = [p.detach().clone() for p in model.blocks[1].parameters()]
    train(model, optimizer, runner, 2)
    assert all(torch.equal(a, b) for a, b in zip(before, model.blocks[1].parameters(), strict=True))


def test_rows_that_share_a_block_of_few_bits_are_refused() -> None:
    with refused("optimizer-idle-rows", "FewBits"):
        setup(FewBits, [{"width": mask(BIG, "width", [1, 0, 1, 0])}], {"width": "skip"}, BIG)


class Noting(torch.optim.SGD):
    """Notes the norm of each row: no element's update depends on it, and it is not the row's alone to keep."""

    @torch.no_grad()
    def step(self, closure=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        super().step(closure)
        for parameter in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            self.state[parameter]["norms"] = parameter.grad.flatten(1).norm(dim=1) if parameter.dim() > 1 else None


def test_rows_of_a_state_that_is_no_value_an_element_are_refused() -> None:
    with refused("optimizer-idle-rows", "Noting"):
        setup(lambda p: Noting(p, lr=0.1), [{"heads": THINNED["heads"]}], {"heads": "skip"})
