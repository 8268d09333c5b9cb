"""The oracle itself: its gradients against finite differences, its optimizer against torch's on plain tensors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl.backend import TrainSettings
from raptr_dsl.backend.network import parameters
from raptr_reference import BACKEND
from raptr_reference.model import loss_and_gradients
from raptr_reference.optim import Moments, adamw, clip
from tests.backends.drawn import SMALL, batch, drawn_plan, masks_of, random_values, refused, shapes

STEP = 1e-5


@settings(max_examples=15)
@given(st.data())
def test_gradients_equal_finite_differences(data: st.DataObject) -> None:
    shape = data.draw(shapes(experts=True))
    masks = data.draw(masks_of(shape))
    values, sequences = random_values(shape), batch(shape)
    _, gradients = loss_and_gradients(shape, values, sequences, masks)
    random = np.random.default_rng(0)
    for name, value in values.items():
        direction = random.standard_normal(value.shape)
        ahead, behind = (
            loss_and_gradients(shape, {**values, name: value + sign * STEP * direction}, sequences, masks)[0]
            for sign in (1, -1)
        )
        slope = float((gradients[name] * direction).sum())
        assert (ahead - behind) / (2 * STEP) == pytest.approx(slope, rel=1e-5, abs=1e-8), name


def test_every_parameter_has_a_gradient() -> None:
    values = random_values(SMALL)
    _, gradients = loss_and_gradients(SMALL, values, batch(SMALL), {})
    assert {name: gradient.shape for name, gradient in gradients.items()} == {
        parameter.name: parameter.shape for parameter in parameters(SMALL)
    }
    assert all(gradient.any() for name, gradient in gradients.items() if "key.bias" not in name)


def test_adamw_is_the_published_one() -> None:
    settings = TrainSettings(dtype="float64")
    random = np.random.default_rng(0)
    value, theirs = random.standard_normal((3, 4)), torch.nn.Parameter(torch.empty(3, 4, dtype=torch.float64))
    theirs.data = torch.from_numpy(value.copy())
    optimizer = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    moments = Moments(np.zeros_like(value), np.zeros_like(value))
    for _ in range(5):
        gradient = random.standard_normal((3, 4))
        theirs.grad = torch.from_numpy(gradient)
        optimizer.step()
        adamw(value, gradient, moments, None, lr=0.01, decay=0.1, settings=settings)
    np.testing.assert_allclose(value, theirs.detach().numpy(), rtol=1e-12)


def test_clip_scales_the_whole_tree() -> None:
    gradients = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    assert clip(gradients, 1.0) == 5.0
    np.testing.assert_allclose(gradients["b"], 4 / (5 + 1e-6))
    assert clip(gradients, 7.0) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(gradients["a"], [3 / (5 + 1e-6), 0])


def test_it_refuses_other_precisions_and_models() -> None:
    with refused("trainer-dtype", "cannot train in float32"):
        BACKEND.trainer(drawn_plan(SMALL, [{}]), TrainSettings())
    for refuse in (lambda: BACKEND.shape(object()), lambda: BACKEND.attach(object(), drawn_plan(SMALL, [{}]))):
        with refused("attach-model", "its own small transformer only"):
            refuse()
