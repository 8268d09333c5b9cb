"""One process under FSDP2: attached before or after sharding, and given back sharded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from raptr_dsl import compile_text
from raptr_torch import attach
from raptr_torch.swap import Swapped
from tests.backends.attach.models import batch_of, make, shape_of
from tests.backends.attach.test_depth import hand_built
from tests.backends.attach.test_units import thinned
from tests.backends.drawn import drawn_plan, mask, refused

ON = np.array([[1, 0, 1, 1]])


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder: Path = tmp_path_factory.mktemp("store")
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def shard(model: Any, mesh: Any) -> None:
    for block in model.model.layers:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


@pytest.mark.parametrize("order", ["attach, shard", "shard, attach"])
def test_growth_under_fsdp2_is_that_of_the_plain_model(order: str, mesh: Any) -> None:
    """The whole model in one group: an evaluation leaves it gathered, and its shards are what is copied."""
    text = "default sample=prefix\nstage depth=2/4 steps=2\nstage grow=copy(all) steps=2\n"
    plan = compile_text(text, model=shape_of("llama"), steps=4, seed=3)
    plain, model = make("llama"), make("llama")
    runners, optimizers = [], []
    for each in (plain, model):
        if each is model and order == "shard, attach":
            fully_shard(model, mesh=mesh)
        runner = attach(each, plan)
        if each is model and order == "attach, shard":
            fully_shard(model, mesh=mesh)
        optimizers.append(torch.optim.AdamW(each.parameters(), lr=1e-2))
        runner.bind(optimizers[-1])
        runners.append(runner)
    for index in range(4):
        losses = []
        for each, runner, optimizer in zip((plain, model), runners, optimizers, strict=True):
            with runner.step(index):
                losses.append(each.train()(**batch_of("llama", index)).loss)
                losses[-1].backward()
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                each.eval()(**batch_of("llama", index))
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-6)
    assert runners[1].audit().holds
    assert runners[1].executed().flops == runners[0].executed().flops > 0


@pytest.mark.parametrize("order", ["attach, shard", "shard, attach"])
def test_depth_under_fsdp2_and_back(order: str, mesh: Any) -> None:
    model, shape = make("llama"), shape_of("llama")
    plain = type(model.model.layers[0])
    plan = drawn_plan(shape, [{"depth": mask(shape, "depth", ON[0])}] * 2)
    if order == "attach, shard":
        runner = attach(model, plan)
        shard(model, mesh)
    else:
        shard(model, mesh)
        runner = attach(model, plan)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    runner.bind(optimizer)
    expected = hand_built("llama", make("llama"), ON, ON * 1.0)
    reference = torch.optim.AdamW(expected.parameters(), lr=1e-2)
    for index in range(2):
        with runner.step(index):
            loss = model(**batch_of("llama", index)).loss
            loss.backward()
        right = expected(**batch_of("llama", index)).loss
        right.backward()
        torch.testing.assert_close(loss, right)
        for each in (optimizer, reference):
            each.step()
            each.zero_grad()
    assert runner.audit().holds
    runner.detach()
    classes = {type(block) for block in model.model.layers}
    assert len(classes) == 1
    (cls,) = classes
    assert cls.__bases__ == (FSDPModule, plain) and cls.__name__ == f"FSDP{plain.__name__}"
    assert not any(isinstance(module, Swapped) for module in model.modules())
    model(**batch_of("llama")).loss.backward()


@pytest.mark.parametrize(
    ("stage", "code"),
    [
        ("depth.train=fixed(2)", "ranks-sharded-train"),
        ("depth=2/4 heads=1/2 idle=skip", "ranks-sharded-rows"),
        ("depth=2/4 heads=1/2 depth.idle=skip", ""),
    ],
)
def test_what_shards_cannot_do_is_refused_before_anybody_is_waited_for(
    stage: str, code: str, mesh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make("llama")
    plan = compile_text(f"stage {stage} steps=2\nstage steps=2\n", model=shape_of("llama"), steps=4, seed=3)
    runner = attach(model, plan)
    shard(model, mesh)
    monkeypatch.setattr("raptr_torch.ranks.size", lambda: 2)
    monkeypatch.setattr("raptr_torch.ranks._meet", _met)
    with refused(code) if code else pytest.raises(LookupError):
        runner.distribute()


def _met(*_: Any) -> None:
    raise LookupError


def test_units_are_selected_before_sharding_and_not_after(mesh: Any) -> None:
    model, expected, shape = make("llama"), make("llama"), shape_of("llama")
    plan = drawn_plan(shape, [thinned("llama")])
    runner = attach(model, plan)
    shard(model, mesh)
    runner.bind(torch.optim.AdamW(model.parameters()))
    with runner.step(0):
        loss = model(**batch_of("llama")).loss
        loss.backward()
    optimizer = torch.optim.AdamW(expected.parameters())
    reference = attach(expected, plan, optimizer)
    with reference.step(0):
        right = expected(**batch_of("llama")).loss
    torch.testing.assert_close(loss, right)
    later = make("llama")
    shard(later, mesh)
    with refused("attach-linear", "model.layers.0.self_attn.q_proj"):
        attach(later, plan)
