"""The Trainer of transformers and Accelerate, each of which wraps the model itself, on two ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch.nn.parallel import DistributedDataParallel

from raptr_torch.integrations import accelerate as integration
from raptr_torch.integrations.transformers import RaptrCallback
from tests.backends.attach.models import make
from tests.backends.attach.test_integrations import ACCUMULATION, PLAN, STEPS, InOrder, Tokens, arguments
from tests.distributed.launch import on_ranks, values

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*pin_memory.*no accelerator"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def by_trainer(folder: Path, batch: int, file: str = "trainer") -> None:
    told = arguments(folder, max_grad_norm=0.5)
    told.per_device_train_batch_size = batch
    trainer = InOrder(make("llama"), told, train_dataset=Tokens())
    RaptrCallback(PLAN).add_to(trainer)
    trainer.train()
    if dist.is_initialized():
        assert isinstance(trainer.model_wrapped, DistributedDataParallel)
        file += str(dist.get_rank())
    torch.save([p.detach() for p in trainer.model.parameters()], folder / f"{file}.pt")


def by_accelerate(folder: Path, batch: int, file: str = "accelerate") -> None:
    accelerator = Accelerator(
        cpu=True,
        gradient_accumulation_steps=ACCUMULATION,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    plain: Any = make("llama")
    optimizer: Any = torch.optim.AdamW(plain.parameters(), lr=1e-2)
    runner = integration.attach(accelerator, plain, PLAN, optimizer)
    loader: Any = torch.utils.data.DataLoader(Tokens(), batch_size=batch)
    model, optimizer, loader = accelerator.prepare(plain, optimizer, loader)
    for tokens in loader:
        with accelerator.accumulate(model):
            with runner.micro_batch():
                accelerator.backward(model(**tokens).loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
    assert runner.runner.next_step == STEPS
    if dist.is_initialized():
        assert isinstance(model, DistributedDataParallel)
        file += str(dist.get_rank())
    torch.save([p.detach() for p in plain.parameters()], folder / f"{file}.pt")


def both(folder: Path) -> None:
    by_trainer(folder, 1)
    by_accelerate(folder, 1)


def test_their_weights_are_those_of_one_process_with_the_whole_batch(tmp_path: Path) -> None:
    values(on_ranks(both, tmp_path, limit=110))
    for train, file in ((by_trainer, "trainer"), (by_accelerate, "accelerate")):
        train(tmp_path, 2)
        expected, first, second = (torch.load(tmp_path / f"{file}{rank}.pt") for rank in ("", 0, 1))
        for ours, theirs, one in zip(first, second, expected, strict=True):
            assert torch.equal(ours, theirs)
            torch.testing.assert_close(ours, one, rtol=1e-3, atol=2e-4)
