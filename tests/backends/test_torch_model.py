"""raptr_torch's model against the reference, and against torch code that knows nothing of masks."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from raptr_dsl.backend import Batch, TrainSettings
from raptr_dsl.backend.network import initial_values, parameters
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Step
from raptr_reference.model import loss_and_gradients
from raptr_torch import BACKEND
from raptr_torch.model import Transformer, build, load_values
from raptr_torch.sites import TransformerSites
from tests.axes import PARTS
from tests.backends.drawn import SMALL, batch, drawn_plan, mask, masks_of, random_values, shapes


def loss_of(model: Transformer, sequences: Batch) -> Tensor:
    positions = None if sequences.positions is None else torch.from_numpy(sequences.positions)
    logits = model(torch.from_numpy(sequences.inputs), positions)
    return F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(sequences.targets).flatten())


def test_parameters_are_those_of_the_table() -> None:
    for shape in (SMALL, SMALL.model_copy(update={"gated": True, "tied": False, "kv_heads": 2})):
        found = {name: tuple(tensor.shape) for name, tensor in build(shape, 0).state_dict().items()}
        assert found == {parameter.name: parameter.shape for parameter in parameters(shape)}
        assert BACKEND.shape(build(shape, 0)) == shape


def test_weights_start_as_the_core_says() -> None:
    model = build(SMALL, 3, torch.float64)
    for name, value in initial_values(SMALL, 3).items():
        np.testing.assert_array_equal(model.state_dict()[name].numpy(), value.astype(np.float64))


@settings(max_examples=100)
@given(st.data())
def test_loss_and_gradients_equal_the_reference(data: st.DataObject) -> None:
    shape = data.draw(shapes(experts=True))
    masks = data.draw(masks_of(shape))
    values, sequences = random_values(shape), batch(shape)
    model = build(shape, 0, torch.float64)
    load_values(model, values)
    TransformerSites(model).run(Step(0, 0, masks))
    loss = loss_of(model, sequences)
    loss.backward()
    expected_loss, expected = loss_and_gradients(shape, values, sequences, masks)
    assert loss.item() == pytest.approx(expected_loss, rel=1e-9)
    for name, parameter in model.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        np.testing.assert_allclose(gradient.numpy(), expected[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_rule_27_no_unit_on_is_the_identity_for_depth_and_the_bias_alone_elsewhere() -> None:
    shape = SMALL.model_copy(update={"layers": 1})
    model = build(shape, 0, torch.float64)
    load_values(model, random_values(shape))
    inputs = torch.from_numpy(batch(shape).inputs)
    start = model.embedding(inputs) + model.position.weight
    block = model.blocks[0]
    nothing = {axis: mask(shape, axis, 0) for axis in PARTS}
    expected = {
        ("depth",): start,
        ("heads", "width"): start + block.attention.output.bias + block.ffn.down.bias,
    }
    for axes, hidden in expected.items():
        TransformerSites(model).run(Step(0, 0, {axis: nothing[axis] for axis in axes}))
        torch.testing.assert_close(model(inputs), F.linear(model.norm(hidden), model.embedding.weight))


def test_rule_30_a_factor_of_1_multiplies_nothing() -> None:
    model = build(SMALL, 0)
    on = {"depth": [1, 0, 1], "heads": [1, 0, 1, 0], "width": [1, 1, 0, 1]}
    TransformerSites(model).run(Step(0, 0, {axis: mask(SMALL, axis, on[axis]) for axis in PARTS}))
    assert model.running is not None
    for block in model.running.blocks:
        assert block is None or (block.factor, block.heads.factor, block.ffn.factor) == (None, None, None)


def test_a_block_that_is_off_is_not_called_and_has_no_gradient() -> None:
    model = build(SMALL, 0)
    called = []
    for index, block in enumerate(model.blocks):
        block.register_forward_hook(lambda *_, index=index: called.append(index))
    TransformerSites(model).run(Step(0, 0, {"depth": mask(SMALL, "depth", [1, 0, 1])}))
    loss_of(model, batch(SMALL)).backward()
    assert called == [0, 2]
    assert all(parameter.grad is None for parameter in model.blocks[1].parameters())


def test_evaluation_runs_everything_whatever_the_mask() -> None:
    model = build(SMALL, 0).eval()
    inputs = torch.from_numpy(batch(SMALL).inputs)
    expected = model(inputs)
    TransformerSites(model).run(Step(0, 0, {"depth": mask(SMALL, "depth", [1, 0, 1])}))
    assert torch.equal(model(inputs), expected)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_is_plain_and_full(copied) -> None:
    model = build(SMALL, 0)
    expected = loss_of(model, batch(SMALL))
    BACKEND.attach(model, drawn_plan(SMALL, [{"depth": mask(SMALL, "depth", [1, 0, 1])}]))
    twin = copied(model)
    assert not twin.is_attached
    assert torch.equal(loss_of(twin, batch(SMALL)), expected)
    assert model.is_attached


# --- full stages are ordinary training ------------------------------------------------------------------------


def plain_loss(weights: dict[str, Tensor], shape: ModelShape, inputs: Tensor, targets: Tensor) -> Tensor:
    """A pre-norm transformer as anybody would write it."""

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (shape.hidden,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)

    def into(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"].reshape(-1, shape.hidden), weights[f"{name}.bias"].reshape(-1))

    def out_of(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"].reshape(-1, shape.hidden).T, weights[f"{name}.bias"])

    def heads(x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], -1, shape.head_dim).transpose(1, 2)

    y = F.embedding(inputs, weights["embedding.weight"]) + weights["position.weight"][: inputs.shape[1]]
    for index in range(shape.layers):
        name = f"blocks.{index}"
        x = norm(y, f"{name}.attention_norm")
        query, key, value = (heads(into(x, f"{name}.attention.{part}")) for part in ("query", "key", "value"))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=shape.causal)
        y = y + out_of(mixed.transpose(1, 2).flatten(2), f"{name}.attention.output")
        x = norm(y, f"{name}.ffn_norm")
        y = y + out_of(F.gelu(into(x, f"{name}.ffn.up"), approximate="tanh"), f"{name}.ffn.down")
    logits = F.linear(norm(y, "norm"), weights["embedding.weight"])
    return F.cross_entropy(logits.view(-1, shape.vocab), targets.reshape(-1))


FULL = {
    "no axis is thinned": {},
    "every axis is full": {
        axis: mask(SMALL, axis, on) for axis, on in (("depth", [1] * 3), ("heads", [1] * 4), ("width", [1] * 4))
    },
}


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("masks", FULL.values(), ids=FULL)
def test_a_full_stage_is_bitwise_plain_training(masks: dict, accumulation: int) -> None:
    settings = TrainSettings(micro_batches=accumulation, lr=1e-2, warmup=2)
    trainer = BACKEND.trainer(drawn_plan(SMALL, [masks] * 5, {"depth": "skip", "width": "skip"}), settings)
    weights = {name: torch.nn.Parameter(torch.from_numpy(value)) for name, value in initial_values(SMALL, 0).items()}
    decayed = [weight for name, weight in weights.items() if name.endswith("weight") and "norm" not in name]
    others = [weight for name, weight in weights.items() if not (name.endswith("weight") and "norm" not in name)]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True)
    for step in range(5):
        sequences = batch(SMALL, step)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate(step, 5)
        rows = SMALL.batch // accumulation
        for part in range(accumulation):
            inputs, targets = (
                torch.from_numpy(array[part * rows : (part + 1) * rows])
                for array in (sequences.inputs, sequences.targets)
            )
            (plain_loss(weights, SMALL, inputs, targets) / accumulation).backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        trainer.step(step, sequences)
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, weights[name]), name
