"""Mixtures of experts: what every backend that declares the axis does, held to the reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import raptr_dsl as raptr
from raptr_dsl.backend import Backend
from raptr_dsl.backend.network import parameters
from raptr_dsl.ir.plan import Plan
from raptr_dsl.registry import load_to_run
from raptr_reference import BACKEND as REFERENCE
from raptr_reference.model import loss_and_gradients
from raptr_torch import BACKEND as TORCH
from raptr_torch.model import build
from tests.backends.drawn import MIXTURE, batch, drawn_plan, mask, plans, random_values, refused
from tests.backends.test_parts_and_growth import OTHERS, SETTINGS, compare, run, state_of, trainer_of

MODEL = "model layers=4 heads=4 kv_heads=2 hidden=8 ffn=6 experts=4 top_k=2 gated=true vocab=11 seq=6 batch=4; "
PLANS = {
    "fewer experts, skipped": "stage experts=3/4 idle=skip steps=50%",
    "as few as a token needs": "stage experts=2/4 steps=50%",
    "all axes at once": "keep depth=[first, last]; "
    "stage experts=2/4..4/4 depth=3/4 heads=1/2 scale=sqrt experts.full=[last] experts.idle=skip steps=70%",
    "random counts beside kept ones": "keep experts=[first, last]; stage experts=3 sample=bernoulli steps=60%",
    "growth": "default depth.sample=prefix grow=copy(all); stage depth=2/4 experts=1/2 steps=50%",
    "new blocks": "default depth.sample=prefix grow=zero; stage depth=3/4 experts=3/4 steps=50%",
    "a part that trains": "stage depth.train=suffix(4/4..1/4) freeze=[embed, head] experts=1/2 steps=80%",
    "some positions": "stage positions=2..6 experts=3/4 steps=80%",
    "shorter sequences": "stage seq=2..6 experts=3/4 steps=80%",
    "learned factors": "stage depth=3/4 depth.scale=learned experts=3/4 steps=80%",
}


def plan_of(name: str) -> Plan:
    return raptr.compile_text(f"{MODEL} steps 10; seed 5; {PLANS[name]}; stage steps=rest")


@pytest.fixture(params=OTHERS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return load_to_run(request.param)


@pytest.mark.parametrize("name", PLANS)
def test_losses_weights_moments_units_and_flops_equal_the_reference(backend: Backend, name: str) -> None:
    compare(backend, plan_of(name))


def test_two_steps_on_jax_equal_the_reference() -> None:
    """One program, which is cheap enough for every change: a block of all experts, and one that skips an expert."""
    model = "model layers=2 heads=1 hidden=4 ffn=3 experts=3 top_k=2 vocab=5 seq=3 batch=2"
    stage = "stage experts=2/3 experts.idle=skip experts.full=[first] steps=100%"
    plan = raptr.compile_text(f"{model}; steps 2; seed 5; allow partial; {stage}")
    assert plan.masks("experts").sum(2).tolist() == [[3, 2]] * 2
    compare(load_to_run("jax"), plan, evaluates=False)


def test_any_plan_equals_the_reference(backend: Backend) -> None:
    examples = 3 if backend.name == "jax" else 25
    settings(max_examples=examples)(given(plan=plans(experts=True))(lambda plan: compare(backend, plan)))()


@pytest.mark.parametrize("name", ["fewer experts, skipped", "all axes at once", "growth"])
def test_a_resume_is_the_same_run_to_the_bit(backend: Backend, name: str, tmp_path: Path) -> None:
    plan = plan_of(name)
    whole = trainer_of(backend, plan)
    expected = run(whole, plan, 0, plan.steps)
    first, second = backend.trainer(plan, SETTINGS), backend.trainer(plan, SETTINGS)
    done = run(first, plan, 0, 4)
    first.save(tmp_path)
    second.load(tmp_path)
    assert done + run(second, plan, 4, plan.steps) == expected
    assert second.executed() == whole.executed()


def test_rule_32_idle_experts_and_their_rows_of_the_router_stay_as_they_are(backend: Backend) -> None:
    on = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=bool)
    plan = drawn_plan(MIXTURE, [{"experts": mask(MIXTURE, "experts", on)}], {"experts": "skip"})
    trainer = trainer_of(backend, plan)
    before = {name: value.copy() for name, (value, _, _) in state_of(trainer).items()}
    trainer.step(0, batch(MIXTURE))
    for entry in parameters(MIXTURE):
        if entry.axis == "experts" and entry.block is not None:
            moved = (state_of(trainer)[entry.name][0] != before[entry.name]).reshape(len(on[0]), -1).any(axis=1)
            assert not moved[~on[entry.block]].any(), entry.name
            assert moved.any(), entry.name


def test_with_one_expert_for_each_token_the_layer_is_that_expert(backend: Backend) -> None:
    """Top-1 of one expert that runs: whatever the router says, its weight is one."""
    shape = MIXTURE.model_copy(update={"top_k": 1})
    trainer = trainer_of(backend, drawn_plan(shape, [{"experts": mask(shape, "experts", [0, 0, 1, 0, 0])}]))
    dense = shape.model_copy(update={"experts": 1, "width_group": shape.ffn})
    values = {entry.name: state_of(trainer)[entry.name][0] for entry in parameters(shape)}
    one = {n: v[2:3] if ".ffn.up" in n or n.endswith("ffn.down.weight") else v for n, v in values.items()}
    expected, _ = loss_and_gradients(dense, one, batch(shape), {})
    assert trainer.step(0, batch(shape)).loss == pytest.approx(expected, rel=1e-9)


# --- the reference, by an independent statement of the rule -------------------------------------------------------


@settings(max_examples=10)
@given(st.permutations([1, 1, 1, 0, 0]), st.integers(0, 9))
def test_the_reference_routes_as_mixtral_does(on: list[int], seed: int) -> None:
    """Softmax over all experts that run, the largest top_k of it, renormalised (transformers' order of the words)."""
    random = np.random.default_rng(seed)
    values = {name.removeprefix("blocks.0.ffn."): value for name, value in random_values(MIXTURE, seed).items()}
    x = random.standard_normal((2, 3, MIXTURE.hidden))
    from raptr_reference.model import gelu, mixture

    found, _ = mixture(x, values, np.array(on, dtype=bool), MIXTURE.top_k)
    for place in np.ndindex(2, 3):
        token = x[place]
        logits = {e: float(values["router.weight"][e] @ token) for e in range(5) if on[e]}
        total = sum(np.exp(logit) for logit in logits.values())
        chances = {e: np.exp(logit) / total for e, logit in logits.items()}
        best = sorted(chances, key=lambda e: -chances[e])[: MIXTURE.top_k]
        expected = values["down.bias"].copy()
        for e in best:
            inner = gelu(values["up.weight"][e] @ token + values["up.bias"][e])
            expected += chances[e] / sum(chances[b] for b in best) * (inner @ values["down.weight"][e])
        np.testing.assert_allclose(found[place], expected, rtol=1e-9)


def test_the_router_has_a_gradient_from_the_second_expert_on() -> None:
    """With one expert a token its weight is one, whatever the router says; docs/language.md warns of it."""
    for top_k, trains in ((1, False), (2, True)):
        shape = MIXTURE.model_copy(update={"top_k": top_k})
        _, gradients = loss_and_gradients(shape, random_values(shape), batch(shape), {})
        assert bool(np.abs(gradients["blocks.1.ffn.router.weight"]).max() > 1e-12) == trains


# --- what is refused ----------------------------------------------------------------------------------------------


def test_a_backend_without_the_axis_refuses_it_by_name() -> None:
    from raptr_torch.apply import capabilities_of

    lacking = replace(TORCH.capabilities, axes=TORCH.capabilities.axes - {"experts"})
    assert "experts" not in capabilities_of(TORCH.capabilities, is_own=False).axes
    from raptr_dsl.backend.support import unsupported

    (problem,) = unsupported(plan_of("growth"), TORCH, lacking)
    assert "no axis experts" in problem.message


def test_a_dense_model_is_not_the_one_that_the_plan_is_for() -> None:
    with refused("attach-shape", "experts=4"):
        TORCH.attach(build(plan_of("growth").shape.model_copy(update={"experts": 1, "top_k": 1}), 0), plan_of("growth"))


def test_reference_declares_it() -> None:
    assert "experts" in REFERENCE.capabilities.axes
