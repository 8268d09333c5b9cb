"""Skipped means skipped: what torch itself counts is what was planned, to the integer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from raptr_dsl.backend import Trainer, TrainSettings
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.training.account import Account, mismatches
from raptr_torch import BACKEND
from raptr_torch.model import Block, RunningBlock, Transformer, Units
from tests.backends.drawn import SMALL, batch, drawn_plan, mask, masks_of, planned, plans, shapes

THINNED = {
    "depth": mask(SMALL, "depth", [1, 0, 1], 1.5),
    "heads": mask(SMALL, "heads", [1, 0, 1, 0], 1.5),
    "width": mask(SMALL, "width", [0, 1, 0, 0], 2.0),
}


def flops_seen_by_torch(trainer: Trainer, shape: ModelShape) -> int:
    """Of step 0; torch counts attention on the CPU under the MATH backend only."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        trainer.step(0, batch(shape))
    return counter.get_total_flops()


@settings(max_examples=30)
@given(st.data())
def test_executed_flops_equal_planned_flops_and_torchs_own_count(data: st.DataObject) -> None:
    shape = data.draw(shapes(experts=True))
    masks = data.draw(masks_of(shape))
    micro_batches = data.draw(st.sampled_from([1, 2]))
    trainer = BACKEND.trainer(drawn_plan(shape, [masks]), TrainSettings(micro_batches=micro_batches))
    _, flops = planned(shape, masks)
    assert flops_seen_by_torch(trainer, shape) == flops
    assert trainer.executed().flops == flops


@settings(max_examples=30)
@given(plans(steps=1, experts=True), st.sampled_from([1, 2]))
def test_backward_is_saved_where_nothing_trains_and_data_are_really_cut(plan: Plan, micro_batches: int) -> None:
    trainer, account = BACKEND.trainer(plan, TrainSettings(micro_batches=micro_batches)), Account(plan)
    account.add(plan.step(0))
    assert flops_seen_by_torch(trainer, plan.shape) == account.flops
    assert mismatches(account, trainer.executed()) == []


@pytest.mark.parametrize("axis", THINNED)
def test_a_thinned_axis_costs_less_than_the_full_network(axis: str) -> None:
    thin, full = (BACKEND.trainer(drawn_plan(SMALL, [m]), TrainSettings()) for m in ({axis: THINNED[axis]}, {}))
    assert flops_seen_by_torch(thin, SMALL) < flops_seen_by_torch(full, SMALL)


# The same check must fail where masks are applied by multiplying with zero, or it would prove nothing.


def _all_rows(self: Units, parameter: Tensor) -> Tensor:
    if self.index is None:
        return parameter
    on = torch.zeros(parameter.shape[0]).index_fill(0, self.index, 1.0)
    return parameter * on.view(-1, *[1] * (parameter.dim() - 1))


def _every_block(self: Transformer, inputs: Tensor, positions: Tensor | None = None) -> Tensor:
    running = self.running
    assert running is not None
    y = self.embedding(inputs) + self.position.weight[: inputs.shape[1]]
    everything = self.everything.blocks[0]
    for block, parts in zip(self.blocks, running.blocks, strict=True):
        assert isinstance(block, Block)
        assert isinstance(everything, RunningBlock)
        ran = block(y, parts or everything, running.meter)
        y = ran if parts else y + 0.0 * (ran - y)
    running.meter.passes += 1
    logits = self.norm(y) @ self.embedding.weight.T
    running.meter.matmul(y, self.embedding.weight, logits)
    return logits


@pytest.mark.parametrize(
    ("axis", "owner", "name", "broken"),
    [
        ("heads", Units, "select", _all_rows),
        ("width", Units, "select", _all_rows),
        ("depth", Transformer, "forward", _every_block),
    ],
)
def test_multiplying_by_zero_is_noticed(
    axis: str, owner: type, name: str, broken: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, broken)
    masks = {axis: THINNED[axis]}
    trainer = BACKEND.trainer(drawn_plan(SMALL, [masks]), TrainSettings())
    _, flops = planned(SMALL, masks)
    assert flops_seen_by_torch(trainer, SMALL) > flops
    assert trainer.executed().flops > flops
