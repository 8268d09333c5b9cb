"""Several devices: one block is gathered an iteration and one reduced; the losses are those of one device."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import raptr_dsl as raptr
import raptr_jax
from raptr_dsl.backend import TrainSettings
from raptr_jax.train import JaxTrainer
from tests.backends.drawn import batch, refused
from tests.distributed.jax_launch import on_processes
from tests.distributed.outcome import values

WIDTH, FFN, LAYERS, RUN = 8, 16, 6, 3

SCHEDULE = """
model layers=4 heads=4 hidden=8 ffn=12 width_group=3 vocab=12 seq=6 batch=8
steps 9
seed 3
stage depth=2/4 scale=sqrt steps=3
stage depth=3/4 heads=1/2 width=1/2 scale=sqrt idle=skip steps=3
stage steps=rest
"""


# --- what is moved, read from the compiled program -----------------------------------------------------------------


def block(parameters: Any, x: Any) -> Any:
    return x + jnp.tanh(x @ parameters["into"]) @ parameters["out_of"]


def collectives(program: str) -> dict[str, list[list[int]]]:
    """Shapes of what is gathered and reduced, by where: `loop` and `outside`."""
    found: dict[str, list[list[int]]] = {}
    place = ""
    for line in program.splitlines():
        if re.match(r"(ENTRY|%)", line):
            place = "outside" if line.startswith("ENTRY") else "loop"
        operation = re.search(r" = (.*) (all-gather|all-reduce|all-to-all|reduce-scatter)\(", line)
        if operation is None:
            continue
        for shape in re.findall(r"f32\[([\d,]*)\]", operation[1]):
            found.setdefault(f"{operation[2]} {place}", []).append([int(n) for n in shape.split(",") if n])
    return found


def moved(folder: Path) -> dict[str, Any]:
    mesh = raptr_jax.data_mesh()
    stacked = {"into": np.ones((LAYERS, WIDTH, FFN), np.float32), "out_of": np.ones((LAYERS, FFN, WIDTH), np.float32)}
    where = raptr_jax.shardings(stacked, mesh)
    stacked = raptr_jax.place(stacked, where)
    x = raptr_jax.place(np.ones((8, WIDTH), np.float32), NamedSharding(mesh, PartitionSpec("data")))
    mask = raptr_jax.block_mask([0, 2, 5], LAYERS)

    def program(block: Any) -> dict[str, Any]:
        def loss(stacked: Any) -> Any:
            return (raptr_jax.scan_blocks(block, stacked, x, mask) ** 2).mean()

        with jax.set_mesh(mesh):
            compiled = jax.jit(jax.grad(loss), out_shardings=where).lower(stacked).compile()
        return collectives(compiled.as_text() or "")

    with refused("mesh-batch", "a mesh of 4 devices along data does not divide a batch of 6 sequences"):
        raptr_jax.BACKEND.trainer(raptr.compile_text(SCHEDULE.replace("batch=8", "batch=6")), TrainSettings())
    return {"gathered": program(raptr_jax.gathered(block)), "plain": program(block)}


def test_one_block_is_gathered_an_iteration_and_one_reduced(tmp_path: Path) -> None:
    (found,) = values(on_processes(moved, tmp_path, devices=4, limit=100))
    one_block = 2 * WIDTH * FFN
    constrained = found["gathered"]
    # Forward and backward, each as many times as blocks run: the loop is one of RUN iterations.
    assert sum(map(prod, constrained["all-gather loop"])) == 2 * one_block
    assert sum(map(prod, constrained["all-reduce loop"])) == one_block
    assert not {name for name in constrained if name.endswith("outside") and name != "all-reduce outside"}
    assert all(prod(shape) == 1 for shape in constrained.get("all-reduce outside", []))
    assert found["plain"] != constrained


# --- the trainer ---------------------------------------------------------------------------------------------------


def trainer(devices: int, splits: bool = False, micro_batches: int = 1, dtype: str = "float64") -> JaxTrainer:
    backend = raptr_jax.JaxBackend(raptr_jax.data_mesh(jax.devices()[:devices]))
    settings = TrainSettings(dtype=dtype, lr=1e-2, micro_batches=micro_batches, shard_parameters=splits)  # pyright: ignore
    made = backend.trainer(raptr.compile_text(SCHEDULE), settings)
    assert isinstance(made, JaxTrainer)
    return made


def run(trainer: JaxTrainer, start: int = 0, stop: int = 9) -> list[float]:
    plan = trainer.plan
    losses = [trainer.step(index, batch(plan.shape, index)).loss for index in range(start, stop)]
    return [*losses, trainer.evaluate([batch(plan.shape, 99)])]


def losses(folder: Path) -> dict[str, Any]:
    """Of one device and of four; and of four that go on where one left off, and the other way round."""
    kinds = {"one": (1, False, 2), "data": (4, False, 2), "split": (4, True, 2)}
    found: dict[str, Any] = {}
    for name, (devices, splits, micro_batches) in kinds.items():
        made = trainer(devices, splits, micro_batches)
        found[name] = run(made)
        executed, planned = made.executed(), made.plan.flops(case="seed").total
        assert executed.flops == planned
        assert len(made.programs) == made.plan.shapes
    for name, before, after in (("fewer", (4, True), (1, False)), ("more", (1, False), (4, True))):
        first, second = trainer(*before), trainer(*after)
        (folder / name).mkdir()
        run(first, 0, 4)
        first.save(folder / name)
        second.load(folder / name)
        found[name] = run(second, 4)
    spread = jax.tree.leaves(trainer(4, splits=True).parameters.blocks)
    found["split over"] = sorted({leaf.sharding.shard_shape(leaf.shape)[-1] / leaf.shape[-1] for leaf in spread})
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_losses_are_those_of_one_device_and_runs_go_on_on_another_number(tmp_path: Path) -> None:
    (found,) = values(on_processes(losses, tmp_path, devices=4, limit=800))
    for name in ("data", "split"):
        np.testing.assert_allclose(found[name], found["one"], rtol=1e-12, err_msg=name)
    for name in ("fewer", "more"):
        np.testing.assert_allclose(found[name], found["one"][4:], rtol=1e-12, err_msg=name)
    assert found["split over"] == [0.25, 1.0]
