"""Every backend that declares it: what trains, what grows, learned factors, climbing rates and thinned data.

The schedules are those by which the reference is tested by hand; the other backends are held to the reference.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optax
import pytest
from hypothesis import given, settings

from raptr_dsl.backend import Backend, Trainer, TrainSettings
from raptr_dsl.backend.network import parameters
from raptr_dsl.backend.support import unsupported
from raptr_dsl.ir.plan import Plan
from raptr_dsl.registry import load_to_run
from raptr_dsl.training.account import Account, mismatches
from raptr_jax.model import flat
from raptr_jax.names import whole
from raptr_jax.optim import Parts
from raptr_jax.train import JaxTrainer
from raptr_reference import BACKEND as REFERENCE
from raptr_reference.train import ReferenceTrainer
from raptr_torch.train import TorchTrainer
from tests.backends.conftest import BACKENDS
from tests.backends.drawn import batch, plans
from tests.backends.test_reference_training import SCHEDULES, plan_of

SETTINGS = TrainSettings(dtype="float64", lr=0.01, micro_batches=2)
# JAX compiles a program for each size.
OTHERS = [
    pytest.param(name, marks=pytest.mark.slow) if name == "jax" else name for name in BACKENDS if name != "reference"
]


@pytest.fixture(params=OTHERS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return load_to_run(request.param)


def trainer_of(backend: Backend, plan: Plan, settings: TrainSettings = SETTINGS) -> Trainer:
    if unsupported(plan, backend):
        pytest.skip(f"{backend.name} refuses it by name")
    return backend.trainer(plan, settings)


def run(trainer: Trainer, plan: Plan, start: int, stop: int) -> list[tuple[float, float]]:
    results = (trainer.step(step, batch(plan.shape, step)) for step in range(start, stop))
    return [(result.loss, result.grad_norm) for result in results]


def state_of(trainer: Trainer) -> Mapping[str, tuple[np.ndarray, np.ndarray, int]]:
    """Value, first moment and count of every tensor; of the backends whose trainers are known here."""
    if isinstance(trainer, TorchTrainer):
        found = {}
        for name, parameter in trainer.model.named_parameters():
            state = trainer.optimizer.state[parameter]
            found[name] = parameter.detach().numpy(), state["exp_avg"].numpy(), int(state["step"])
        return found
    if isinstance(trainer, ReferenceTrainer):
        return {n: (v, trainer.moments[n].mean, trainer.moments[n].count) for n, v in trainer.values.items()}
    if isinstance(trainer, JaxTrainer):
        return jax_state_of(trainer)
    pytest.skip("its own tests look into its state")


def jax_state_of(trainer: JaxTrainer) -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    shape, values, state = trainer.plan.shape, trainer.parameters, trainer.state
    means = Parts(
        optax.tree.get(state.blocks, "mu"), {name: optax.tree.get(state.rest[name], "mu")[name] for name in state.rest}
    )
    found = {}
    for name, value in flat(shape, whole(values)).items():
        _, _, rest = name.partition("blocks.")
        counted, row = (state.blocks, int(rest.split(".")[0])) if rest else (state.rest[name.split(".")[0]], ...)
        count = np.asarray(optax.tree.get(counted, "count"))[row]
        found[name] = value, flat(shape, whole(means))[name], int(count)
    if values.factor is not None:
        factors, mean, count = (np.asarray(part) for part in (values.factor, *_of_factors(state.factor)))
        found |= {f"blocks.{n}.factor": (factors[n], mean[n], int(count[n])) for n in range(shape.layers)}
    return found


def _of_factors(state: Any) -> tuple[Any, Any]:
    return optax.tree.get(state, "mu"), optax.tree.get(state, "count")


def compare(backend: Backend, plan: Plan, evaluates: bool = True) -> None:
    trainer, reference = trainer_of(backend, plan), REFERENCE.trainer(plan, SETTINGS)
    found, expected = (run(each, plan, 0, plan.steps) for each in (trainer, reference))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    held_out = [batch(plan.shape, 99)]
    if evaluates:
        assert trainer.evaluate(held_out) == pytest.approx(reference.evaluate(held_out), rel=1e-9)
    account = Account(plan)
    for step in range(plan.steps):
        account.add(plan.step(step))
    assert mismatches(account, trainer.executed()) == []
    ours, theirs = state_of(trainer), state_of(reference)
    assert ours.keys() == theirs.keys()
    for tensor, (value, mean, count) in theirs.items():
        if "key.bias" in tensor:  # its gradient is zero but for rounding
            continue
        np.testing.assert_allclose(ours[tensor][0], value, rtol=1e-9, atol=1e-9, err_msg=tensor)
        np.testing.assert_allclose(ours[tensor][1], mean, rtol=1e-9, atol=1e-9, err_msg=tensor)
        assert ours[tensor][2] == count, tensor


@pytest.mark.parametrize("name", SCHEDULES)
def test_losses_norms_weights_and_moments_equal_the_reference(backend: Backend, name: str) -> None:
    compare(backend, plan_of(SCHEDULES[name]))


def test_any_parts_that_train_and_any_data_equal_the_reference(backend: Backend) -> None:
    examples = 3 if backend.name == "jax" else 25
    settings(max_examples=examples)(given(plan=plans())(lambda plan: compare(backend, plan)))()


STATEFUL = ("a drawn part", "freezing out", "middle", "zero", "new layers", "learned", "shorter sequences")


@pytest.mark.parametrize("name", STATEFUL)
def test_a_resume_at_any_border_is_the_same_run_to_the_bit(backend: Backend, name: str, tmp_path: Path) -> None:
    plan = plan_of(SCHEDULES[name])
    whole = trainer_of(backend, plan)
    expected, held_out = run(whole, plan, 0, plan.steps), [batch(plan.shape, 99)]
    for stop in {*plan.boundaries[:1], 5}:
        first, second = backend.trainer(plan, SETTINGS), backend.trainer(plan, SETTINGS)
        done = run(first, plan, 0, stop)
        seen = first.evaluate(held_out)
        folder = tmp_path / str(stop)
        folder.mkdir()
        first.save(folder)
        second.load(folder)
        assert second.evaluate(held_out) == seen
        assert done + run(second, plan, stop, plan.steps) == expected
        assert second.evaluate(held_out) == whole.evaluate(held_out)
        assert second.executed() == whole.executed()


@pytest.mark.parametrize("name", ["skip", "freezing out", "frozen parts", "new layers", "learned"])
def test_rule_33_what_does_not_train_stays_as_it_is_to_the_bit(backend: Backend, name: str) -> None:
    plan = plan_of(SCHEDULES[name])
    trainer = trainer_of(backend, plan)
    after = {tensor: (value.copy(), mean.copy(), count) for tensor, (value, mean, count) in state_of(trainer).items()}
    for index in range(plan.steps):
        before = after
        trainer.step(index, batch(plan.shape, index))
        after = {t: (value.copy(), mean.copy(), count) for t, (value, mean, count) in state_of(trainer).items()}
        if plan.grows_at(index):
            continue
        step = plan.step(index)
        depth = step.axes.get("depth")
        trains = np.ones(plan.shape.layers, bool) if depth is None or depth.trains is None else depth.trains[0]
        for parameter in parameters(plan.shape, plan.learns_scales):
            (value, mean, count), (value_then, mean_then, count_then) = after[parameter.name], before[parameter.name]
            rests = not trains[parameter.block] if parameter.block is not None else parameter.part in step.frozen
            if rests:
                assert (value == value_then).all() and (mean == mean_then).all() and count == count_then
            elif parameter.part:
                assert (value != value_then).any() and count == count_then + 1


def test_a_growth_is_not_repeated_where_its_step_failed(backend: Backend, tmp_path: Path) -> None:
    plan = plan_of(SCHEDULES["middle"])
    whole, failing = trainer_of(backend, plan), trainer_of(backend, plan)
    if not isinstance(failing, TorchTrainer):
        pytest.skip("how a step of it fails is known of torch only")
    start = plan.boundaries[1]  # from 4 blocks to 6: to grow twice is not to grow once
    expected = run(whole, plan, 0, plan.steps)
    done = run(failing, plan, 0, start)
    hook = failing.model.norm.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing.step(start, batch(plan.shape, start))
    hook.remove()
    failing.save(tmp_path)
    again = backend.trainer(plan, SETTINGS)
    again.load(tmp_path)
    for trainer in (failing, again):
        assert done + run(trainer, plan, start, plan.steps) == expected
