"""FSDP2 by block: the losses of one process, all-gathers that shrink with k, checkpoints for any number of ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.debug import CommDebugMode

from raptr_dsl.diagnostics import RaptrError
from raptr_torch import attach
from raptr_torch.model import Transformer, build
from raptr_torch.runner import Runner
from tests.distributed.launch import on_ranks, values
from tests.distributed.loops import SCHEDULE, adamw, attached, loss_of, parts, plan, train

ZERO = SCHEDULE.replace("width=2/4 idle=skip", "width=2/4 idle=zero")


def sharded(text: str = ZERO) -> tuple[Transformer, torch.optim.Optimizer, Runner]:
    bound = plan(text=text)
    model = build(bound.shape, 0, torch.float64)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = adamw(model)
    return model, optimizer, attach(model, bound, optimizer)


def save(folder: Path, model: Any, optimizer: Any, runner: Runner) -> None:
    weights, state = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": state, "runner": runner}, checkpoint_id=folder / "checkpoint")


def load(folder: Path, model: Any, optimizer: Any, runner: Runner) -> None:
    weights, state = get_state_dict(model, optimizer)
    dcp.load({"model": weights, "optimizer": state, "runner": runner}, checkpoint_id=folder / "checkpoint")
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=state)


def whole_run(folder: Path, micro_batches: int) -> dict[str, Any]:
    """50 steps, with a checkpoint after 20; before them, what is refused."""
    try:
        sharded(SCHEDULE)[2].distribute()
        refusal = ""
    except RaptrError as error:
        refusal = error.diagnostics[0].code
    model, optimizer, runner = sharded()
    runner.distribute(micro_batches=micro_batches)
    losses = train(model, optimizer, runner, micro_batches, until=20)
    save(folder, model, optimizer, runner)
    losses += train(model, optimizer, runner, micro_batches)
    return {"losses": losses, "gathers": gathers(), "refusal": refusal, "executed": runner.executed().flops}


def gathers() -> list[tuple[int, int]]:
    """Blocks that ran and all-gathers, of a step of 2, 3 and 6 blocks each."""
    model, optimizer, runner = sharded()
    runner.distribute()
    counted = []
    for step in (0, 15, 45):
        runner.next_step = step
        with CommDebugMode() as communication, runner.step(step) as planned:
            loss_of(model, next(parts(runner.plan, step, 1, 2, dist.get_rank()))).backward()
        depth = planned.axes.get("depth")
        ran = len(model.blocks) if depth is None else int(depth.on.sum())
        names = {str(op): count for op, count in communication.get_comm_counts().items()}
        counted.append(
            (ran, sum(count for name, count in names.items() if "all_gather" in name or "allgather" in name))
        )
        optimizer.zero_grad()
    return counted


def resumed(folder: Path) -> dict[str, Any]:
    model, optimizer, runner = sharded()
    load(folder, model, optimizer, runner)
    runner.distribute(micro_batches=1)
    return {"losses": train(model, optimizer, runner, 1), "executed": runner.executed().flops}


def test_losses_are_those_of_one_process_and_gathers_shrink_with_the_blocks(tmp_path: Path) -> None:
    model, optimizer, runner = attached(plan(text=ZERO))
    expected = train(model, optimizer, runner, 2)
    units = runner.executed().units
    for outcome in values(on_ranks(whole_run, tmp_path, micro_batches=2, limit=100)):
        np.testing.assert_allclose(outcome["losses"], expected, rtol=1e-9)
        assert outcome["refusal"] == "ranks-sharded-rows"
        assert [ran for ran, _ in outcome["gathers"]] == [2, 3, 6]
        assert [count for _, count in outcome["gathers"]] == [2 * ran + 1 for ran in (2, 3, 6)]
        assert 2 * outcome["executed"] == runner.executed().flops
    model, optimizer, runner = attached(plan(text=ZERO))  # another number of ranks: none at all
    with pytest.warns(UserWarning, match="single process"):
        load(tmp_path, model, optimizer, runner)
    assert runner.next_step == 20
    np.testing.assert_allclose(train(model, optimizer, runner, 2), expected[20:], rtol=1e-9)
    assert runner.executed().units == units


@pytest.mark.slow
def test_a_checkpoint_of_two_ranks_is_resumed_on_four(tmp_path: Path) -> None:
    first = values(on_ranks(whole_run, tmp_path, micro_batches=1, limit=100))[0]
    for outcome in values(on_ranks(resumed, tmp_path, ranks=4, limit=100)):
        np.testing.assert_allclose(outcome["losses"], first["losses"][20:], rtol=1e-9)
