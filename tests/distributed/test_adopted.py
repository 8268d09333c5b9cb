"""A model in DistributedDataParallel: the gradients of one process, idle blocks not sent, and what is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from raptr_dsl.diagnostics import RaptrError
from tests.distributed.launch import on_ranks, values
from tests.distributed.loops import attached, loss_of, parts, plan, sent, train


def whole_run(folder: Path) -> dict[str, Any]:
    """50 steps of two micro-batches through the wrapper; before them, what the wrapper may not be."""
    refusals = refused_wrappers()
    model, optimizer, runner = attached(plan(), init=dist.get_rank())
    wrapper = DistributedDataParallel(model, find_unused_parameters=True, bucket_cap_mb=0.01)
    runner.adopt(wrapper)
    return {"refusals": refusals, "losses": train(wrapper, optimizer, runner, 2), "sent": one_step()}


def refused_wrappers() -> list[str]:
    messages = []
    for mistake in ("unused", "static", "hook", "other", "reentrant"):
        model, _, runner = attached(plan())
        wrapper = DistributedDataParallel(
            attached(plan())[0] if mistake == "other" else model,
            find_unused_parameters=mistake != "unused",
            static_graph=mistake == "static",
        )
        if mistake == "hook":
            wrapper.register_comm_hook(None, allreduce_hook)
        if mistake == "reentrant":  # as transformers marks its layers
            vars(model.blocks[1])["gradient_checkpointing"] = True
            vars(model.blocks[1])["_gradient_checkpointing_func"] = partial(checkpoint, use_reentrant=True)
        try:
            runner.adopt(wrapper)
        except RaptrError as error:
            messages.append(error.diagnostics[0].message)
    return messages


def one_step() -> dict[str, Any]:
    """What a step sends of the blocks that run, and which idle ones have a gradient."""
    model, _, runner = attached(plan())
    wrapper = DistributedDataParallel(model, find_unused_parameters=True, bucket_cap_mb=0.01)
    runner.adopt(wrapper)
    with sent() as elements, runner.step(0) as planned:
        loss_of(wrapper, next(parts(runner.plan, 0, 1, 2, dist.get_rank()))).backward()
    idle = [f"blocks.{block}." for block, on in enumerate(planned.axes["depth"].on[0]) if not on]
    named = [(any(name.startswith(block) for block in idle), p) for name, p in model.named_parameters()]
    return {
        "elements": sum(elements),
        "running": sum(p.numel() for is_idle, p in named if not is_idle),
        "idle with gradient": sum(p.grad is not None for is_idle, p in named if is_idle),
    }


@pytest.mark.slow
def test_losses_are_those_of_one_process_and_idle_blocks_are_not_sent(tmp_path: Path) -> None:
    model, optimizer, runner = attached(plan())
    expected = train(model, optimizer, runner, 2)
    for outcome in values(on_ranks(whole_run, tmp_path, limit=100)):
        np.testing.assert_allclose(outcome["losses"], expected, rtol=1e-9)
        assert outcome["sent"]["elements"] == outcome["sent"]["running"]
        assert outcome["sent"]["idle with gradient"] == 0
        words = ("find_unused_parameters=False", "static_graph=True", "allreduce_hook", "another model", "reentrant")
        assert [word in message for word, message in zip(words, outcome["refusals"], strict=True)] == [True] * 5
