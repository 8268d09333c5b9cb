"""Heads and hidden units of models that somebody else wrote, against the whole model with the others masked."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from raptr_dsl.flops import block_cost, head_cost
from raptr_torch import attach, layouts
from raptr_torch.layouts import Layout, UnitLinears, layout_of
from tests.backends.attach.models import UNITS, batch_of, make, shape_of, stacks_of
from tests.backends.attach.test_depth import snapshot
from tests.backends.drawn import drawn_plan, mask, refused

AXES = ("heads", "width")


def thinned(family: str, factor: float = 1.5) -> dict[str, Any]:
    """Other units in every block; one block with all of them, and one with none. Hidden units have unequal factors."""
    shape, masks = shape_of(family), {}
    for axis, units in (("heads", shape.kv_heads), ("width", shape.ffn // shape.width_group)):
        on = np.zeros((shape.blocks, units), bool)
        on[0, ::2], on[1, 1:], on[2] = True, True, True
        masks[axis] = mask(shape, axis, on, factor * np.linspace(1, 1.5, units) if axis == "width" else factor)
    return masks


def masked_outputs(family: str, model: nn.Module, masks: dict[str, Any]) -> None:
    """Multiplies the inputs of the output projections."""
    for stack in stacks_of(family, model):
        for index, block in enumerate(stack):
            layout = layout_of(block)
            assert layout is not None
            for axis, found in masks.items():
                linears = layout.axis(axis)
                assert linears is not None
                factors = torch.from_numpy(found.scale[index]).float()

                def hook(_: nn.Module, args: tuple[Tensor, ...], factors: Tensor = factors) -> tuple[Tensor, ...]:
                    return (args[0] * factors.repeat_interleave(args[0].shape[-1] // len(factors)), *args[1:])

                block.get_submodule(linears.output).register_forward_pre_hook(hook)


@pytest.mark.parametrize(
    ("family", "implementation"),
    [*((f, "sdpa") for f in UNITS), ("gpt2", "eager"), ("opt", "eager"), ("llama", "eager")],
)
def test_loss_and_gradients_equal_those_of_the_masked_model(family: str, implementation: str) -> None:
    model, expected, shape = make(family), make(family), shape_of(family)
    masks = thinned(family)
    for each in (model, expected):
        each.set_attn_implementation(implementation)
    masked_outputs(family, expected, masks)
    runner = attach(model, drawn_plan(shape, [masks]), torch.optim.SGD(model.parameters(), lr=0.1))
    with runner.step(0):
        loss = model(**batch_of(family)).loss
        loss.backward()
    right = expected(**batch_of(family)).loss
    right.backward()
    torch.testing.assert_close(loss, right, rtol=1e-5, atol=1e-6)
    for (name, ours), theirs in zip(model.named_parameters(), expected.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}")
    assert runner.executed().units == {"depth": 4, **{axis: int(masks[axis].on.sum()) for axis in AXES}}


@pytest.mark.parametrize("family", UNITS)
def test_nothing_is_left_behind_and_evaluation_is_full(family: str) -> None:
    plain, model = make(family), make(family)
    before = snapshot(plain)
    runner = attach(model, drawn_plan(shape_of(family), [thinned(family)]))
    assert list(model.state_dict()) == list(plain.state_dict())
    with torch.no_grad():
        assert torch.equal(model.eval()(**batch_of(family)).loss, plain.eval()(**batch_of(family)).loss)
    model.train()
    runner.detach()
    assert snapshot(model) == before


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_flops_seen_by_torch_are_those_of_the_shape(family: str) -> None:
    model, shape = make(family), shape_of(family)
    masks = thinned(family, factor=1.0)
    for found in masks.values():
        found.on[3, 0] = found.scale[3, 0] = True
    masks["depth"] = mask(shape, "depth", [1, 0, 1, 1])
    runner = attach(model, drawn_plan(shape, [masks]), torch.optim.SGD(model.parameters(), lr=0.1))
    with runner.step(0), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(**batch_of(family)).loss.backward()
    wanted = Fraction(head_cost(shape))
    for block in (0, 2, 3):
        wanted += block_cost(shape, {axis: Fraction(float(masks[axis].on[block].mean())) for axis in AXES})
    assert counter.get_total_flops() == wanted


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_recomputes_the_units_that_ran(family: str, reentrant: bool) -> None:
    found = []
    for checkpointed in (False, True):
        model, shape = make(family), shape_of(family)
        runner = attach(model, drawn_plan(shape, [thinned(family)]), torch.optim.SGD(model.parameters(), lr=0.1))
        if checkpointed:
            model.activation_checkpointing_enable({"use_reentrant": reentrant})
        with runner.step(0):
            loss = model(**batch_of(family)).loss
            loss.backward()
        found.append((loss, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
        assert runner.executed().units["depth"] == 4
    (loss, gradients), (other, recomputed) = found
    assert torch.equal(loss, other)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, recomputed[name], rtol=1e-5, atol=1e-7)


# --- what attach refuses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("family", ["bloom", "falcon", "t5", "olmo2", "phi3"])
def test_families_that_cannot_be_are_refused_by_name(family: str, axis: str) -> None:
    model, shape = make(family), shape_of(family)
    before = snapshot(model)
    on = np.zeros((shape.blocks, shape.kv_heads if axis == "heads" else 4), bool)
    on[:, 0] = True
    plan = drawn_plan(shape, [{axis: mask(shape, axis, on)}], keep=(0,))
    with refused("attach-units", type(stacks_of(family, model)[0][0]).__name__):
        attach(model, plan)
    assert snapshot(model) == before


@pytest.mark.parametrize(("family", "size"), [("opt", "self_attn.num_heads"), ("gpt2", "attn.split_size")])
def test_a_layout_that_forgets_a_size_is_refuted(family: str, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPT computes a wrong loss then, without an error."""
    model = make(family)
    name = type(stacks_of(family, model)[0][0]).__name__
    right = layouts.LAYOUTS[name].heads
    assert right is not None and right.sizes == (size,)
    monkeypatch.setitem(
        layouts.LAYOUTS,
        name,
        Layout(UnitLinears(right.inputs, right.output, right.sections), layouts.LAYOUTS[name].width),
    )
    before = snapshot(model)
    with refused("attach-proof", f"heads of {'model.decoder.layers.0' if family == 'opt' else 'transformer.h.0'}"):
        attach(model, drawn_plan(shape_of(family), [thinned(family)]))
    assert snapshot(model) == before


def test_a_layout_with_the_wrong_output_is_refuted_with_both_numbers() -> None:
    model = make("llama")
    wrong = Layout(width=UnitLinears(("mlp.gate_proj",), "mlp.down_proj"))
    masks = {"width": thinned("llama")["width"]}
    with refused("attach-proof", "width of model.layers.0"):
        attach(model, drawn_plan(shape_of("llama"), [masks]), layout=wrong)
    swapped = Layout(
        heads=UnitLinears(("self_attn.q_proj", "self_attn.v_proj", "self_attn.k_proj"), "self_attn.o_proj")
    )
    attach(make("llama"), drawn_plan(shape_of("llama"), [{"heads": thinned("llama")["heads"]}]), layout=swapped)


class Quantised(nn.Linear):
    pass


class LoraLinear(nn.Module):
    """An adapted layer: a frozen one, and the product of two small ones, as PEFT makes them."""

    def __init__(self, base_layer: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base_layer = base_layer.requires_grad_(False)
        self.lora_A = nn.Linear(base_layer.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, base_layer.out_features, bias=False)

    @property
    def weight(self) -> Tensor:
        return self.base_layer.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


def reclassed(linear: nn.Linear) -> nn.Module:
    linear.__class__ = Quantised
    return linear


def quantised(linear: nn.Linear) -> nn.Module:
    wrapped = torch.ao.quantization.quantize_dynamic(nn.Sequential(linear), {nn.Linear})  # pyright: ignore
    return wrapped[0]


def of_integers(linear: nn.Linear) -> nn.Module:
    """A plain layer of quantised weights, for a kernel that takes them."""
    linear.weight = nn.Parameter((100 * linear.weight).to(torch.int8), requires_grad=False)
    return linear


quantises = pytest.mark.filterwarnings(
    "ignore:.*torch.ao.quantization is deprecated", "ignore:torch.quantize_per_tensor"
)

LINEARS = {
    "of another class": (
        lambda linear: setattr(linear, "__class__", Quantised) or linear,
        f"is a {__name__}.Quantised,",
    ),
    "adapted": (LoraLinear, f"is a {__name__}.LoraLinear,"),
    "quantised by torch": (quantised, "is a torch.ao.nn.quantized.dynamic.modules.linear.Linear,"),
    "of integers": (of_integers, "has weights of Parameter and torch.int8: sharded, tensor-parallel or quantised"),
}


@quantises
@pytest.mark.parametrize("kind", LINEARS)
@pytest.mark.parametrize("name", ["self_attn.k_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"])
def test_linears_that_are_not_plain_are_refused_by_name(kind: str, name: str) -> None:
    change, words = LINEARS[kind]
    model = make("llama")
    parent, _, child = name.rpartition(".")
    module = model.model.layers[2].get_submodule(parent)
    setattr(module, child, change(module.get_submodule(child)))
    before = snapshot(model)
    with refused("attach-linear", f"units of model.layers.2.{name} cannot be selected: it {words}"):
        attach(model, drawn_plan(shape_of("llama"), [thinned("llama")]))
    assert snapshot(model) == before


@quantises
@pytest.mark.parametrize("kind", ["of another class", "adapted", "quantised by torch"])
def test_depth_works_on_blocks_with_any_linears(kind: str) -> None:
    change, _ = LINEARS[kind]
    model = make("llama")
    for layer in model.model.layers:
        layer.mlp.up_proj = change(layer.mlp.up_proj)
    depth = {"depth": mask(shape_of("llama"), "depth", [1, 0, 1, 1])}
    runner = attach(model, drawn_plan(shape_of("llama"), [depth]))
    flops = runner.audit().flops
    assert flops is not None and bool(flops.problem) == (kind != "of another class")  # which computes the same
    runner.detach()


# --- a model of one's own ---------------------------------------------------------------------------------------------


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(32), nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.tanh(self.up(self.norm(x))))


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.Sequential(*(Mixer() for _ in range(4)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


LAYOUT = Layout(width=UnitLinears(inputs=("up",), output="down"))


def test_a_layout_of_ones_own() -> None:
    model, x, shape = Own(), torch.randn(3, 32), shape_of("gpt2")
    masks = {"width": thinned("gpt2")["width"]}
    plan = drawn_plan(shape, [masks])
    with refused("attach-units", "blocks.0, a Mixer"):
        attach(model, plan)
    with refused("attach-example"):
        attach(model, plan, layout=LAYOUT)
    runner = attach(
        model, plan, torch.optim.SGD(model.parameters(), lr=0.1), layout=LAYOUT, example=(torch.zeros(1, 32),)
    )
    with runner.step(0):
        got = model(x)
    expected = x
    for index, block in enumerate(Own().blocks):
        factors = torch.from_numpy(masks["width"].scale[index]).float().repeat_interleave(16)
        assert isinstance(block, Mixer)
        expected = expected + block.down(factors * torch.tanh(block.up(block.norm(expected))))
    torch.testing.assert_close(got, expected)
