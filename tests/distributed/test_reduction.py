"""Our own reduction: the gradients of one process, nothing sent for what idles, and no rank that waits for another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from raptr_torch.reduction import BlockReduction
from raptr_torch.sites import Part
from tests.backends.drawn import refused
from tests.distributed.launch import on_ranks, values
from tests.distributed.loops import SCHEDULE, attached, loss_of, parts, plan, sent, train


def whole_run(folder: Path, micro_batches: int, declared: int | None) -> dict[str, Any]:
    """50 steps; a rank begins with weights of its own."""
    model, optimizer, runner = attached(plan(), init=dist.get_rank())
    runner.distribute(micro_batches=declared)
    losses = train(model, optimizer, runner, micro_batches)
    torch.save(model.state_dict(), folder / f"weights-{dist.get_rank()}.pt")
    return {"losses": losses, "flops": runner.executed().flops}


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("micro_batches", "declared"),
    [(2, 2), pytest.param(2, None, marks=pytest.mark.slow), pytest.param(1, 1, marks=pytest.mark.slow)],
)
def test_losses_are_those_of_one_process(tmp_path: Path, ranks: int, micro_batches: int, declared: int | None) -> None:
    model, optimizer, runner = attached(plan())
    expected = train(model, optimizer, runner, micro_batches)
    outcomes = values(
        on_ranks(whole_run, tmp_path, ranks=ranks, micro_batches=micro_batches, declared=declared, limit=90)
    )
    for rank, outcome in enumerate(outcomes):
        np.testing.assert_allclose(outcome["losses"], expected, rtol=1e-9)
        weights = torch.load(tmp_path / f"weights-{rank}.pt")
        assert all(torch.equal(weights[name], tensor) for name, tensor in torch.load(tmp_path / "weights-0.pt").items())
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(weights[name], tensor, rtol=1e-6, atol=1e-9)
    assert sum(outcome["flops"] for outcome in outcomes) == runner.executed().flops


TRAINING = SCHEDULE[: SCHEDULE.index("keep")] + "stage depth.train=fixed(2) steps=rest"


def idle_blocks(folder: Path, text: str = SCHEDULE) -> list[dict[str, Any]]:
    """What steps of two micro-batches send, and which blocks that idle or do not train have gradients then."""
    model, optimizer, runner = attached(plan(text=text))
    runner.distribute(micro_batches=2)
    found = []
    for step in range(3):
        with sent() as elements, runner.step(step) as planned:
            for tokens in parts(runner.plan, step, 2, dist.get_world_size(), dist.get_rank()):
                (loss_of(model, tokens) / 2).backward()
        depth = planned.axes["depth"]
        active = depth.on[0] if depth.trains is None else depth.trains[0]
        idle = [block for block, runs in enumerate(active) if not runs]
        missing = [all(p.grad is None for p in model.blocks[block].parameters()) for block in idle]
        running = [p for name, p in model.named_parameters() if not any(f"blocks.{b}." in name for b in idle)]
        marks = len(running)  # one a parameter: whether any rank has a gradient of it
        found.append({"sent": sum(elements), "running": sum(p.numel() for p in running) + marks, "idle": missing})
        optimizer.step()
        optimizer.zero_grad()
    return found


def experts(folder: Path) -> dict[str, Any]:
    """Rank 0 uses one expert and rank 1 another, nobody the third, in each of two blocks."""
    rank = dist.get_rank()
    model: Any = nn.ModuleList(nn.ParameterList([torch.ones(2) for _ in range(3)]) for _ in range(2))
    model.register_buffer("count", torch.tensor(rank + 1))
    reduction = BlockReduction(model, parts_of(model), micro_batches=1)
    reduction.begin(lambda part: part.block in (None, 0, 1))
    torch.stack([block[rank].sum() for block in model]).sum().backward()
    reduction.finish()
    gradients = {name: p.grad if p.grad is None else p.grad.tolist() for name, p in model.named_parameters()}
    return {"gradients": gradients, "buffer": int(model.count)}


def both(folder: Path) -> dict[str, Any]:
    return {"steps": idle_blocks(folder) + idle_blocks(folder, TRAINING), "experts": experts(folder)}


def test_idle_blocks_send_nothing_and_a_missing_gradient_is_zeros(tmp_path: Path) -> None:
    for outcome in values(on_ranks(both, tmp_path)):
        for step in outcome["steps"]:
            assert step["idle"] == [True] * 4
            assert step["sent"] == step["running"]
        half = [0.5, 0.5]
        experts = {f"{block}.{n}": [half, half, None][n] for block in range(2) for n in range(3)}
        assert outcome["experts"] == {"gradients": experts, "buffer": 1}


# --- when it is sent: one rank is enough ---------------------------------------------------------------------------


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def parts_of(model: nn.Module) -> dict[nn.Parameter, Part]:
    return {p: Part(name, int(name[0]), None) for name, p in model.named_parameters()}


@pytest.mark.usefixtures("alone")
def test_blocks_are_sent_in_the_last_backward_pass_while_it_goes_on() -> None:
    model: Any = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    reduction = BlockReduction(model, parts_of(model), micro_batches=2)
    seen: list[int] = []
    with sent() as elements:
        reduction.begin(lambda part: part.block != 1)
        for _ in range(2):
            between = model[0](torch.ones(1, 2))
            between.register_hook(lambda _: seen.append(len(elements)))
            model[2](between).sum().backward()
            seen.append(len(elements))
        gradient = model[0].weight.grad.clone()
        reduction.finish()
    assert seen == [0, 0, 1, 2]  # of each pass: between the blocks, and behind it
    assert elements == [6 + 2] * 2
    assert torch.equal(model[0].weight.grad, gradient)
    assert model[1].weight.grad is None


@pytest.mark.usefixtures("alone")
def test_a_backward_pass_too_many_and_a_sparse_gradient_are_refused() -> None:
    model = nn.ModuleList([nn.Embedding(3, 2, sparse=sparse) for sparse in (False, True)])
    reduction = BlockReduction(model, parts_of(model), micro_batches=1)
    reduction.begin(lambda part: part.block == 0)
    model[0](torch.tensor([1])).sum().backward()
    with refused("ranks-micro-batches", "beyond the 1 of a step"):
        model[0](torch.tensor([1])).sum().backward()
    reduction.abandon()
    reduction.begin(None)
    model[1](torch.tensor([1])).sum().backward()
    with refused("ranks-sparse"):
        reduction.finish()
