"""What the ranks of these tests train: a small transformer, every axis thinned, three switches of stage in 50 steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from raptr_dsl import compile_text
from raptr_dsl.ir.plan import Plan
from raptr_torch import attach
from raptr_torch.model import Transformer, build
from raptr_torch.runner import Runner

SCHEDULE = """
model layers=6 heads=2 hidden=16 ffn=32 width_group=8 vocab=40 seq=8 batch=8
steps 50
keep depth=first
stage depth=2/6 scale=sqrt steps=15
stage depth=3/6 heads=1/2 width=2/4 idle=skip steps=15
stage depth=4/6 depth.sample=bernoulli idle=skip steps=15
stage steps=rest
"""


def plan(seed: int = 17, text: str = SCHEDULE) -> Plan:
    return compile_text(text, seed=seed)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-3)


def attached(plan: Plan, init: int = 0) -> tuple[Transformer, torch.optim.Optimizer, Runner]:
    model = build(plan.shape, init, torch.float64)
    optimizer = adamw(model)
    return model, optimizer, attach(model, plan, optimizer)


def parts(plan: Plan, step: int, micro_batches: int, ranks: int = 1, rank: int = 0) -> Iterator[Tensor]:
    """A rank's share of the step's tokens, in micro-batches."""
    random = torch.Generator().manual_seed(step)
    tokens = torch.randint(plan.shape.vocab, (plan.shape.batch, plan.shape.seq + 1), generator=random)
    yield from tokens.chunk(ranks)[rank].chunk(micro_batches)


def loss_of(model: nn.Module, tokens: Tensor) -> Tensor:
    return cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def _silent(model: nn.Module, more: bool) -> AbstractContextManager[Any]:
    """DDP averages in every backward pass unless it is told that more follow."""
    return model.no_sync() if more and isinstance(model, DistributedDataParallel) else nullcontext()


def train(
    model: nn.Module, optimizer: Any, runner: Runner, micro_batches: int, until: int | None = None, clip: float = 0.5
) -> list[float]:
    """The loop of the documentation; the mean loss of each step over the ranks there are."""
    ranks, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
    losses = []
    for step in range(runner.next_step, runner.plan.steps if until is None else until):
        total = torch.zeros((), dtype=torch.float64)
        with runner.step(step):
            for part, tokens in enumerate(parts(runner.plan, step, micro_batches, ranks, rank), 1):
                with _silent(model, part < micro_batches):
                    loss = loss_of(model, tokens) / micro_batches
                    loss.backward()
                total += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        if ranks > 1:
            dist.all_reduce(total)
        losses.append(float(total) / ranks)
    return losses


@contextmanager
def sent() -> Iterator[list[int]]:
    """The elements of every sum over ranks that is asked for meanwhile."""
    elements: list[int] = []
    original: Callable[..., Any] = dist.all_reduce

    def counting(tensor: Tensor, op: Any = dist.ReduceOp.SUM, *args: Any, **options: Any) -> Any:
        if tensor.is_floating_point() and tensor.dim():
            elements.append(tensor.numel())
        return original(tensor, op, *args, **options)

    dist.all_reduce = counting
    try:
        yield elements
    finally:
        dist.all_reduce = original
