"""What is peculiar to the JAX trainer: one program a size of step, compiled ahead, and masks that cost no retrace."""

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import raptr_dsl as raptr
from raptr_dsl.backend import TrainSettings
from raptr_dsl.ir.plan import Plan
from raptr_jax import BACKEND
from raptr_jax.optim import Parts
from raptr_jax.train import JaxTrainer, adamw
from tests.backends.drawn import SMALL, batch, drawn_plan, mask, refused
from tests.distributed.jax_launch import on_processes
from tests.distributed.outcome import values

COMPILED = "/jax/core/compile/backend_compile_duration"

SCHEDULE = """
model layers=4 heads=4 hidden=8 ffn=12 width_group=3 vocab=11 seq=6 batch=4
steps 12
seed 3
stage depth=2/4 scale=sqrt steps=4
stage depth=3/4 heads=1/2 width=1/2 scale=sqrt idle=skip steps=4
stage steps=rest
"""


def trainer_of(plan: Plan, **settings) -> JaxTrainer:
    trainer = BACKEND.trainer(plan, TrainSettings(**settings))
    assert isinstance(trainer, JaxTrainer)
    return trainer


@contextmanager
def compiled() -> Iterator[list[tuple[str, str]]]:
    """(thread, function) of every compilation inside."""
    found: list[tuple[str, str]] = []

    def listen(event: str, duration: float, **about) -> None:
        if event == COMPILED:
            found.append((threading.current_thread().name, str(about.get("fun_name"))))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_one_program_a_size_and_one_evaluation_each_stage_compiled_ahead() -> None:
    plan = raptr.compile_text(SCHEDULE)
    trainer = trainer_of(plan)
    held_out = [batch(plan.shape, 99)]
    with compiled() as everything:
        for index in range(plan.steps):
            trainer.programs.wait()  # a real stage takes longer than the next one's compilation
            with compiled() as here:
                trainer.step(index, batch(plan.shape, index))
            if index:
                assert not [thread for thread, _ in here if not thread.startswith("raptr-compile")], index
            if index in plan.boundaries:
                assert not here, "the first step of a stage compiles nothing, in no thread"
        for _ in range(2):
            trainer.evaluate(held_out)
    assert len(everything) == plan.shapes + 1 == 4
    assert (len(trainer.programs), len(trainer.evaluations)) == (plan.shapes, 1)


def test_a_step_writes_over_the_weights_and_the_state_it_is_given() -> None:
    """Else there are two copies of both while it runs."""
    trainer = trainer_of(drawn_plan(SMALL, [{}]))
    given = jax.tree.leaves((trainer.parameters, trainer.state))
    trainer.step(0, batch(SMALL))
    assert [leaf.is_deleted() for leaf in given] == [True] * len(given)


def test_a_program_that_is_still_being_compiled_is_waited_for() -> None:
    plan = raptr.compile_text(SCHEDULE)
    trainer = trainer_of(plan)
    with compiled() as everything:
        for index in range(plan.steps):
            trainer.step(index, batch(plan.shape, index))
    assert len(everything) == plan.shapes


def test_a_resumed_run_compiles_what_is_left_only(tmp_path: Path) -> None:
    plan = raptr.compile_text(SCHEDULE)
    first, second = trainer_of(plan), trainer_of(plan)
    for index in range(9):
        first.step(index, batch(plan.shape, index))
    first.save(tmp_path)
    second.load(tmp_path)
    for index in range(9, 12):
        second.step(index, batch(plan.shape, index))
    assert len(second.programs) == 1


def test_arguments_of_another_dtype_are_an_error_and_compile_nothing() -> None:
    trainer = trainer_of(drawn_plan(SMALL, [{}, {}]))
    trainer.step(0, batch(SMALL))
    trainer.parameters = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), trainer.parameters)
    with compiled() as found, pytest.raises(TypeError, match="bfloat16"):
        trainer.step(1, batch(SMALL))
    assert found == []


LEAVING = """
from contextlib import nullcontext
import numpy as np
from raptr_jax.programs import Programs
def traced(x):
    print("traced", flush=True)
    return x + 1
programs = Programs(traced, (), nullcontext)
for size in range(1, 50):
    programs.prepare(np.zeros(size))
"""


def test_a_process_that_ends_does_not_wait_for_programs_that_nobody_will_run() -> None:
    said = subprocess.check_output([sys.executable, "-c", LEAVING], text=True)
    assert said.count("traced") < 25


def cached(folder: Path) -> dict[str, int]:
    """What the persistent cache was asked in a run of two programs."""
    plan = raptr.compile_text("model layers=2 heads=1 hidden=2 ffn=2 vocab=3 seq=2 batch=1; steps 2; " + TWO)
    found = {"hits": 0, "misses": 0}

    def listen(event: str, **_: object) -> None:
        for word in found:
            found[word] += event == f"/jax/compilation_cache/cache_{word}"

    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    trainer = trainer_of(plan)
    jax.monitoring.register_event_listener(listen)
    trainer.step(0, batch(plan.shape))
    trainer.programs.wait()
    return found


TWO = "allow partial; stage depth=1/2 steps=1; stage steps=rest"


def test_the_persistent_compilation_cache_is_honoured(tmp_path: Path) -> None:
    counts = [values(on_processes(cached, tmp_path))[0] for _ in range(2)]
    assert counts == [{"hits": 0, "misses": 2}, {"hits": 2, "misses": 0}]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_every_dtype_trains(dtype: str) -> None:
    masks = {"depth": mask(SMALL, "depth", [1, 0, 1], 1.5), "width": mask(SMALL, "width", [1, 0, 1, 1], [1, 1, 2, 3])}
    trainer = trainer_of(drawn_plan(SMALL, [masks] * 15, {"width": "skip"}), dtype=dtype, lr=1e-2, micro_batches=2)
    first, *_, last = [trainer.step(index, batch(SMALL)).loss for index in range(15)]
    assert last < first - 0.1
    expected = np.dtype("float64" if dtype == "float64" else "float32")
    assert {leaf.dtype for leaf in jax.tree.leaves(trainer.parameters)} == {expected}
    assert jnp.zeros(1).dtype == np.float32  # and nothing outside has changed


def test_decay_is_for_matrices_only() -> None:
    trainer = trainer_of(drawn_plan(SMALL, [{}]))
    zero = jax.tree.map(jnp.zeros_like, trainer.parameters)
    ones = jax.tree.map(jnp.ones_like, trainer.parameters)
    optimizer = adamw(trainer.plan, TrainSettings(weight_decay=0.5))
    decayed, _, _ = optimizer.update(zero, optimizer.init(ones), ones, jnp.float32(1))
    for part in (decayed.blocks, decayed.rest):
        for path, leaf in jax.tree_util.tree_leaves_with_path(part):
            name = jax.tree_util.keystr(path)
            is_matrix = name.endswith("['weight']") and "norm" not in name
            assert np.allclose(leaf, 0.5 if is_matrix else 1.0), name


def test_random_states_are_part_of_a_checkpoint(tmp_path: Path) -> None:
    def drawn() -> tuple:
        return random.random(), float(np.random.standard_normal())

    trainer = trainer_of(drawn_plan(SMALL, [{}]))
    drawn()
    trainer.save(tmp_path)
    expected = [drawn() for _ in range(3)]
    trainer.load(tmp_path)
    assert [drawn() for _ in range(3)] == expected


def test_weights_and_counts_are_untouched_by_a_step_that_failed() -> None:
    trainer = trainer_of(drawn_plan(SMALL, [{}, {}]))
    before = jax.tree.map(np.array, (trainer.parameters, trainer.state))
    bias = trainer.parameters.rest["norm"]["bias"]
    rest = trainer.parameters.rest
    spoiled = {**rest, "norm": {**rest["norm"], "bias": jnp.full_like(bias, jnp.nan)}}
    trainer.parameters = Parts(trainer.parameters.blocks, spoiled)
    with refused("trainer-not-finite", "the loss of step 0 is nan"):
        trainer.step(0, batch(SMALL))
    assert trainer.executed().flops == 0
    rest = trainer.parameters.rest
    trainer.parameters = Parts(
        trainer.parameters.blocks, {**rest, "norm": {**rest["norm"], "bias": jnp.zeros_like(bias)}}
    )
    for found, expected in zip(
        jax.tree.leaves((trainer.parameters, trainer.state)), jax.tree.leaves(before), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    trainer.step(0, batch(SMALL))


def test_importing_the_package_imports_no_framework() -> None:
    code = "import raptr_jax, sys; print(*sorted({'jax', 'flax', 'optax', 'orbax'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == ""
