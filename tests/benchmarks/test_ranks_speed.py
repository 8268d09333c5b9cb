"""Realised ÷ ideal speed-up on two ranks: our reduction, an adopted DDP and FSDP2, beside DDP with nothing but
`find_unused_parameters`. Whole steps, compared with the full network in plain DDP, of FSDP2 in plain FSDP2. Reported,
not asserted.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from raptr_dsl import compile_text
from raptr_dsl.ir.plan import Plan
from raptr_torch import attach
from raptr_torch.model import build
from raptr_torch.sites import TransformerSites
from tests.distributed.launch import on_ranks, values
from tests.distributed.loops import loss_of, parts

pytestmark = pytest.mark.benchmark

ROUNDS = int(os.environ.get("RAPTR_BENCH_ROUNDS", "9"))
BLOCKS = (2, 4, 8)
TEXT = """
model layers=8 heads=4 hidden=256 ffn=1024 vocab=1024 seq=128 batch=16
steps {steps}
{first}stage full steps=rest
"""
Take = Callable[[int], None]


def plan(blocks: int) -> Plan:
    first = f"stage some depth={blocks}/8 scale=sqrt steps={ROUNDS + 1}\n" if blocks < 8 else ""
    return compile_text(TEXT.format(steps=ROUNDS + 2, first=first), seed=17)


def step_of(path: str, blocks: int) -> Take:
    """Takes step n of a plan in one of the ways."""
    bound = plan(blocks)
    model = build(bound.shape, 0)
    if path in SHARDED:
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        for block in model.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), fused=path not in SHARDED)
    called: nn.Module = model
    if path in ("DDP, adopted", "DDP, find_unused_parameters", "DDP, plain"):
        called = DistributedDataParallel(model, find_unused_parameters=path != "DDP, plain")

    def update() -> None:
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    def forward(index: int) -> None:
        loss_of(called, next(parts(bound, index, 1, dist.get_world_size(), dist.get_rank()))).backward()

    if path in ("DDP, find_unused_parameters", "DDP, plain", "FSDP2, plain"):
        sites = TransformerSites(model)

        def plain(index: int) -> None:
            sites.run(bound.step(index))
            forward(index)
            update()

        return plain
    runner = attach(model, bound, optimizer)
    if isinstance(called, DistributedDataParallel):
        runner.adopt(called)
    else:
        runner.distribute()

    def planned(index: int) -> None:
        with runner.step(index):
            forward(index)
        update()

    return planned


SHARDED = ("FSDP2", "FSDP2, plain")
PATHS = ("our reduction", "DDP, adopted", "FSDP2", "DDP, find_unused_parameters")


def measure(folder: Path) -> dict[str, float]:
    """The least seconds of a step, by path and blocks."""
    steps = {f"{path} {blocks}": step_of(path, blocks) for path in PATHS for blocks in BLOCKS}
    steps |= {path: step_of(path, 8) for path in ("DDP, plain", "FSDP2, plain")}
    best = dict.fromkeys(steps, float("inf"))
    for index in range(ROUNDS + 1):
        names = list(steps)
        random.Random(index).shuffle(names)
        for name in names:
            dist.barrier()
            started = time.perf_counter()
            steps[name](index)
            dist.barrier()
            if index:  # the first round warms up
                best[name] = min(best[name], time.perf_counter() - started)
    return best


@pytest.mark.timeout(1200)
def test_realised_over_ideal_on_two_ranks(tmp_path: Path) -> None:
    best = values(on_ranks(measure, tmp_path, limit=900))[0]
    full = plan(8).flops().total / plan(8).steps
    print(f"\n{'realised ÷ ideal, two ranks':32}" + "".join(f"{f'{blocks}/8':>8}" for blocks in BLOCKS))
    for path in PATHS:
        ratios = []
        for blocks in BLOCKS:
            ideal = full / (plan(blocks).flops().stages[0].total / plan(blocks).stages[0].steps)
            plain = best["FSDP2, plain" if path in SHARDED else "DDP, plain"]
            ratios.append(plain / best[f"{path} {blocks}"] / float(ideal))
        print(f"{path:32}" + "".join(f"{ratio:8.2f}" for ratio in ratios))
    print(", ".join(f"full network in {path}: {best[path] * 1e3:.0f} ms" for path in ("DDP, plain", "FSDP2, plain")))
