"""Models of others on two ranks: transformers' llama by our own reduction, and in torchtitan's order under FSDP2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

import raptr_torch
from raptr_dsl import compile_text
from tests.distributed.launch import on_ranks, values

SCHEDULE = """
steps 12
keep depth=first
stage depth=2/4 scale=sqrt steps=4
stage depth=3/4 {parts}idle=skip steps=4
stage steps=rest
"""


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, hidden_size=16, intermediate_size=32,
        vocab_size=40, max_position_embeddings=16, use_cache=False,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def train(model: Any, parts: str, *, shard: bool = False, ranks: int = 1, rank: int = 0) -> list[float]:
    """12 steps over three stages; the order of torchtitan: wrap, compile, shard, attach."""
    plan = compile_text(SCHEDULE.format(parts=parts), model=raptr_torch.shape(model, seq=8, batch=4), seed=17)
    if shard:
        layers: nn.ModuleList = model.model.layers
        for index, layer in enumerate(layers):
            layers[index] = checkpoint_wrapper(layer)
            layers[index].compile(backend="aot_eager")
            fully_shard(layers[index], mesh=init_device_mesh("cpu", (ranks,)))
        fully_shard(model, mesh=init_device_mesh("cpu", (ranks,)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    runner = raptr_torch.attach(model, plan, optimizer)
    runner.distribute()
    losses = []
    for step in range(runner.next_step, plan.steps):
        tokens = torch.randint(40, (4, 8), generator=torch.Generator().manual_seed(step)).chunk(ranks)[rank]
        with runner.step(step):
            loss = model(input_ids=tokens, labels=tokens).loss
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        total = loss.detach().clone()
        if ranks > 1:
            dist.all_reduce(total)
        losses.append(float(total) / ranks)
    audit = runner.audit()
    assert audit.holds and audit.flops is not None
    assert audit.flops.is_nominal and bool(audit.flops.problem) == shard
    assert runner.executed().flops * ranks == (0 if shard else plan.flops().total)
    runner.detach()
    assert not shard or all(isinstance(layer, FSDPModule) for layer in model.model.layers)
    return losses


def together(folder: Path, parts: str, shard: bool) -> list[float]:
    return train(llama(), parts, shard=shard, ranks=dist.get_world_size(), rank=dist.get_rank())


@pytest.mark.slow
@pytest.mark.parametrize(("parts", "shard"), [("heads=1/2 width=1/2 ", False), ("", True)])
def test_losses_are_those_of_one_process(tmp_path: Path, parts: str, shard: bool) -> None:
    expected = train(llama(), parts)
    for losses in values(on_ranks(together, tmp_path, parts=parts, shard=shard, limit=110)):
        np.testing.assert_allclose(losses, expected, rtol=2e-5)
