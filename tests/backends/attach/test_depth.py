"""Depth on models that somebody else wrote: equal to a model built of the active blocks only, to the bit."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import FSDPModule
from torch.utils.checkpoint import checkpoint

from raptr_torch import attach
from raptr_torch.runner import Runner
from raptr_torch.swap import restore, swapped_class
from tests.backends.attach.models import BITWISE, DEPTH, LAYERS, batch_of, make, shape_of, stacks_of
from tests.backends.drawn import drawn_plan, mask, refused


class Scaled(nn.Module):
    """A block whose update of the hidden states is multiplied; written here to be compared with."""

    def __init__(self, block: nn.Module, factor: float) -> None:
        super().__init__()
        self.block, self.factor = block, factor

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        output = self.block(hidden, *args, **kwargs)
        if isinstance(output, Tensor):
            return torch.add(hidden, output - hidden, alpha=self.factor)
        return (torch.add(hidden, output[0] - hidden, alpha=self.factor), *output[1:])


def hand_built(family: str, model: nn.Module, on: np.ndarray, scale: np.ndarray) -> Any:
    """A copy in which each stack is a list of the active blocks."""
    built = copy.deepcopy(model)
    for stack, active, factors in zip(stacks_of(family, built), on, scale, strict=True):
        blocks = [block if a == 1 else Scaled(block, a) for block, a in zip(stack, factors.tolist(), strict=True)]
        stack._modules = {
            str(i): block for i, block in enumerate(b for b, keep in zip(blocks, active, strict=True) if keep)
        }
    return built


def attached(family: str, on: Any, scale: Any = 1.0, steps: int = 1) -> tuple[Any, Runner]:
    model, shape = make(family), shape_of(family)
    plan = drawn_plan(shape, [{"depth": mask(shape, "depth", on, scale)}] * steps, keep=(0,))
    return model, attach(model, plan, torch.optim.SGD(model.parameters(), lr=0.1))


def by_block(family: str, model: Any, on: np.ndarray) -> list[list[Tensor | None]]:
    """The gradients of the active blocks of a stack, in order, then those of everything else."""
    blocks, inside = [], set()
    for stack, active in zip(stacks_of(family, model), on, strict=True):
        kept = [b for b, keep in zip(stack, active, strict=True) if keep] if len(stack) == len(active) else list(stack)
        for block in stack:
            inside.update(block.parameters())
        blocks.extend([p.grad for p in block.parameters()] for block in kept)
    return [*blocks, [p.grad for p in model.parameters() if p not in inside]]


@pytest.mark.parametrize("family", BITWISE)
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_loss_and_gradients_equal_those_of_a_model_of_the_active_blocks(family: str, data: st.DataObject) -> None:
    sites = shape_of(family).stacks
    drawn = data.draw(st.lists(st.booleans(), min_size=sites * (LAYERS - 1), max_size=sites * (LAYERS - 1)))
    on = np.concatenate([np.ones((sites, 1), bool), np.reshape(drawn, (sites, LAYERS - 1))], axis=1)
    scale = np.where(np.arange(LAYERS) == 1, 1.25, data.draw(st.sampled_from([1.0, 1.5]))) * np.ones((sites, 1))
    model, runner = attached(family, on, scale)
    expected = hand_built(family, make(family), on, np.broadcast_to(scale, on.shape))
    batch = batch_of(family)
    with runner.step(0):
        loss = model(**batch).loss
        loss.backward()
    right = expected(**batch).loss
    right.backward()
    assert torch.equal(loss, right)
    for ours, theirs in zip(by_block(family, model, on), by_block(family, expected, on), strict=True):
        for got, wanted in zip(ours, theirs, strict=True):
            assert (got is None) == (wanted is None)
            assert got is None or torch.equal(got, wanted)
    blocks = [block for stack in stacks_of(family, model) for block in stack]
    idle = [block for block, keep in zip(blocks, on.ravel(), strict=True) if not keep]
    assert all(p.grad is None for block in idle for p in block.parameters())
    assert runner.executed().units == {"depth": int(on.sum())}


@pytest.mark.parametrize("family", DEPTH)
def test_every_family_trains_evaluates_and_is_given_back(family: str) -> None:
    plain = make(family)
    before = snapshot(plain)
    model, runner = attached(family, [1, 0, 0, 1])
    assert list(model.state_dict()) == list(plain.state_dict())
    batch = batch_of(family)
    with runner.step(0):
        model(**batch).loss.backward()
        assert runner._sites is not None
        model.eval()
        with torch.no_grad():
            full = model(**batch).loss
        model.train()
    assert torch.equal(full, plain.eval()(**batch).loss)
    runner.detach()
    plain.train()
    assert snapshot(model) == before == snapshot(plain)


def snapshot(model: nn.Module) -> list[Any]:
    """All that attaching could leave behind: names, classes, hooks, modes, attributes."""
    return [
        (name, type(m), m.training, sorted(m.__dict__), len(m._forward_hooks), len(m._forward_pre_hooks))
        for name, m in model.named_modules()
    ] + list(model.state_dict())


def test_class_names_are_what_they_were() -> None:
    model, _ = attached("llama", [1, 0, 0, 1])
    block = model.model.layers[1]
    plain = type(make("llama").model.layers[1])
    assert type(block) is not plain and isinstance(block, plain)
    for word in ("__name__", "__qualname__", "__module__"):
        assert getattr(type(block), word) == getattr(plain, word)
    assert type(block) is type(model.model.layers[2]) is swapped_class(plain, type(block).__bases__[0])


@pytest.mark.parametrize("family", ["llama", "t5"])
@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save"])
def test_a_copy_is_the_plain_full_model(family: str, way: str) -> None:
    model, _ = attached(family, [1, 0, 0, 1])
    if way == "deepcopy":
        clone = copy.deepcopy(model)
    elif way == "pickle":
        clone = pickle.loads(pickle.dumps(model))
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        clone = torch.load(file, weights_only=False)
    assert snapshot(clone) == snapshot(make(family))
    batch = batch_of(family)
    assert torch.equal(clone(**batch).loss, make(family)(**batch).loss)  # in training, outside any step


def test_save_pretrained_writes_what_it_always_did(tmp_path: Any) -> None:
    model, _ = attached("llama", [1, 0, 0, 1])
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert again.config.architectures == ["LlamaForCausalLM"]
    for (name, ours), (other, theirs) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert name == other and torch.equal(ours, theirs)


def test_detach_keeps_a_class_that_was_made_on_top_of_ours() -> None:
    """As `fully_shard` does: (FSDPModule, block) after detaching, or sharding would be lost silently."""
    model, runner = attached("llama", [1, 0, 0, 1])
    plain = type(make("llama").model.layers[0])
    sharded = {
        cls: type(f"FSDP{cls.__name__}", (FSDPModule, cls), {"__deepcopy__": None})
        for cls in {type(block) for block in model.model.layers}
    }
    for block in model.model.layers:
        block.__class__ = sharded[type(block)]
    runner.detach()
    classes = {type(block) for block in model.model.layers}
    assert len(classes) == 1
    assert classes.pop().__bases__ == (FSDPModule, plain)


def test_restore_of_a_plain_module_changes_nothing() -> None:
    linear = nn.Linear(2, 2)
    restore(linear)
    assert type(linear) is nn.Linear


def test_a_training_forward_outside_a_step_is_refused_and_full_trains_everything() -> None:
    model, runner = attached("gpt2", [1, 0, 0, 1])
    batch = batch_of("gpt2")
    with refused("step-outside"):
        model(**batch)
    expected = make("gpt2")(**batch).loss
    with runner.full():
        assert torch.equal(model(**batch).loss, expected)
    with refused("step-outside"):
        model(**batch)
    assert not runner.executed().units


def test_one_mask_lasts_all_micro_batches_of_a_step() -> None:
    model, runner = attached("llama", [1, 0, 1, 1])
    expected = hand_built("llama", make("llama"), np.array([[1, 0, 1, 1]]), np.ones((1, 4)))
    for seed in range(3):
        (expected(**batch_of("llama", seed)).loss / 3).backward()
    with runner.step(0):
        for seed in range(3):
            (model(**batch_of("llama", seed)).loss / 3).backward()
    on = np.array([[1, 0, 1, 1]])
    for ours, theirs in zip(by_block("llama", model, on), by_block("llama", expected, on), strict=True):
        assert all(torch.equal(got, wanted) for got, wanted in zip(ours, theirs, strict=True))
    assert runner.executed().units == {"depth": 3}


def test_micro_batches_are_forwards_of_the_block_that_ran_most_often() -> None:
    """One that a model itself left out of a micro-batch is missed in the account."""
    model, runner = attached("llama", [1, 0, 1, 1])
    hidden = torch.randn(2, 5, 32)
    rotary = model.model.rotary_emb(hidden, torch.arange(5)[None])
    with runner.step(0):
        for number in (0, 0, 2):
            model.model.layers[number](hidden, position_embeddings=rotary)
    assert runner.executed().units == {"depth": 1}


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("family", ["llama", "gpt2", "t5"])
def test_activation_checkpointing_is_that_of_the_active_blocks(family: str, reentrant: bool) -> None:
    """Compared with a checkpointed model: reentrant checkpointing sums gradients in another order by itself."""
    on = np.array([[1, 0, 1, 1]] * shape_of(family).stacks)
    expected = hand_built(family, make(family), on, on * 1.5)
    model, runner = attached(family, on, 1.5)
    for checkpointed in (model, expected):
        checkpointed.activation_checkpointing_enable({"use_reentrant": reentrant})
    with runner.step(0):
        loss = model(**batch_of(family)).loss
        loss.backward()
    right = expected(**batch_of(family)).loss
    right.backward()
    assert torch.equal(loss, right)
    for ours, theirs in zip(by_block(family, model, on), by_block(family, expected, on), strict=True):
        assert all(got is wanted or torch.equal(got, wanted) for got, wanted in zip(ours, theirs, strict=True))
    assert runner.executed().units == {"depth": int(on.sum())}


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_outside_of_blocks_recompute_what_ran(reentrant: bool) -> None:
    """The loop around the blocks is checkpointed: recomputation calls them again, and is not counted."""
    model, runner = attached("llama", [1, 0, 1, 1])
    for block in model.model.layers:
        block.self_attn.register_forward_hook(lambda *_: calls.append(1))
    calls: list[int] = []
    block, hidden = model.model.layers[2], torch.randn(2, 5, 32, requires_grad=True)
    rotary = model.model.rotary_emb(hidden, torch.arange(5)[None])

    def run(x: Tensor) -> Tensor:
        return block(x, position_embeddings=rotary)

    with runner.step(0):
        out = checkpoint(run, hidden, use_reentrant=reentrant)
        model.model.layers[3](out, position_embeddings=rotary).sum().backward()
    assert len(calls) == 3
    assert runner.executed().units == {"depth": 2}


def test_a_backward_after_its_step_recomputes_nothing_under_another_mask() -> None:
    model, shape = make("llama"), shape_of("llama")
    masks = [{"depth": mask(shape, "depth", on)} for on in ([1, 0, 1, 1], [1, 1, 0, 1])]
    runner = attach(model, drawn_plan(shape, masks), torch.optim.SGD(model.parameters(), lr=0.1))
    rotary = model.model.rotary_emb(torch.zeros(1), torch.arange(5)[None])
    hidden = torch.randn(2, 5, 32, requires_grad=True)
    with runner.step(0):
        out = checkpoint(lambda x: model.model.layers[3](x, position_embeddings=rotary), hidden, use_reentrant=False)
    assert isinstance(out, Tensor)
    with refused("step-outside"):
        out.sum().backward(retain_graph=True)
    with refused("step-outside"), runner.step(1):
        out.sum().backward()


def test_blocks_in_checkpoint_wrappers() -> None:
    model, expected = make("llama"), hand_built("llama", make("llama"), np.array([[1, 0, 1, 1]]), np.ones((1, 4)))
    for index, block in enumerate(model.model.layers):
        model.model.layers[index] = checkpoint_wrapper(block)
    shape = shape_of("llama")
    thinned = {"depth": mask(shape, "depth", [1, 0, 1, 1])}
    runner = attach(model, drawn_plan(shape, [thinned]), torch.optim.SGD(model.parameters(), lr=0.1))
    with runner.step(0):
        loss = model(**batch_of("llama")).loss
        loss.backward()
    assert torch.equal(loss, expected(**batch_of("llama")).loss)
    assert runner.executed().units == {"depth": 3}


# --- models of nobody's -----------------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(size), nn.Linear(size, 2 * size), nn.Linear(2 * size, size)

    def forward(self, scale: float, hidden_states: Tensor, note: Tensor | None = None) -> Any:
        update = self.down(torch.relu(self.up(self.norm(hidden_states))))
        return hidden_states + scale * update, note, update


class Own(nn.Module):
    """Blocks in a ModuleDict, called by keyword, that return tuples and hand a note on."""

    def __init__(self, layers: int = LAYERS) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(11, 8)
        self.tower = nn.ModuleDict({f"block{i}": Residual(8) for i in range(layers)})
        self.head = nn.Linear(8, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden, note = self.embed(tokens), torch.ones(3)
        for block in self.tower.values():
            hidden, note, _ = block(0.5, hidden_states=hidden, note=note)
            assert note is not None
        return self.head(hidden)


def test_a_module_dict_of_blocks_that_return_tuples_and_take_keywords() -> None:
    model, expected = Own(), Own()
    shape = shape_of("gpt2")
    runner = attach(
        model,
        drawn_plan(shape, [{"depth": mask(shape, "depth", [0, 0, 1, 0], 2.0)}]),
        torch.optim.SGD(model.parameters(), lr=0.1),
    )
    tokens = torch.randint(11, (2, 5))
    with runner.step(0):
        got = model(tokens)
    hidden = expected.embed(tokens)
    output = expected.tower["block2"](0.5, hidden_states=hidden)[0]
    assert torch.equal(got, expected.head(torch.add(hidden, output - hidden, alpha=2.0)))
    assert runner.executed().units == {"depth": 1}


def test_the_look_at_what_an_idle_block_returns_draws_no_random_numbers() -> None:
    """A run that is resumed looks again, and has to draw what the unbroken one did."""
    model, shape = Own(), shape_of("gpt2")
    for block in model.tower.values():
        block.down = nn.Sequential(block.down, nn.Dropout(0.5))
    plan = drawn_plan(shape, [{"depth": mask(shape, "depth", [0, 0, 0, 0])}])
    runner = attach(model, plan, torch.optim.SGD(model.parameters(), lr=0.1))
    before = torch.get_rng_state()
    with runner.step(0):
        model(torch.zeros(2, 5, dtype=torch.int64))
    assert torch.equal(torch.get_rng_state(), before)


def test_torchs_own_encoder() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
    shape = shape_of("gpt2")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    runner = attach(model, drawn_plan(shape, [{"depth": mask(shape, "depth", [0, 0, 1, 0])}]), optimizer)
    x = torch.randn(2, 3, 8)
    with runner.step(0):
        got = model(x)
    assert torch.equal(got, copy.deepcopy(model).layers[2](x))
