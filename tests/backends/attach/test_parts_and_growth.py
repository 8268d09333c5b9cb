"""Blocks that are copied, do not train, or are not born yet, in models that somebody else wrote."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointImpl, checkpoint_wrapper
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel

from raptr_dsl import compile_text
from raptr_dsl.ir.plan import Plan
from raptr_dsl.training.account import Account
from raptr_torch import attach
from raptr_torch.layouts import LAYOUTS
from raptr_torch.model import build
from raptr_torch.runner import Runner
from tests.backends.attach.models import HIDDEN, LAYERS, SEQ, VOCAB, batch_of, make, shape_of, stacks_of
from tests.backends.drawn import refused
from tests.backends.test_torch_optim import Lion

GROWING = "default sample=prefix\nstage depth=2/4 steps=2\nstage {words} steps=2\n"
REPEATABLE = GROWING.replace("2/4", "3/4")
"""Blocks 0, 1, 1, 2 are copied, so that to grow twice is not to grow once."""


def plan_for(family: str, text: str, **change: Any) -> Plan:
    shape = shape_of(family).model_copy(update=change)
    return compile_text(text, model=shape, steps=4, seed=3)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)


def attached(family: str, text: str) -> tuple[Any, torch.optim.Optimizer, Runner]:
    model = make(family)
    optimizer = adamw(model)
    return model, optimizer, attach(model, plan_for(family, text), optimizer)


def train(family: str, model: Any, optimizer: torch.optim.Optimizer, runner: Runner, stop: int) -> list[Tensor]:
    losses = []
    for index in range(runner.next_step, stop):
        with runner.step(index):
            loss = model(**batch_of(family, index)).loss
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return losses


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


# --- growth -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moments", ["copy", "zero"])
@pytest.mark.parametrize("family", ["gpt2", "bert", "llama"])
def test_rule_35_values_and_moments_are_those_of_copies_made_by_hand(family: str, moments: str) -> None:
    model, optimizer, runner = attached(family, GROWING.format(words=f"grow=copy(all) moments={moments}"))
    train(family, model, optimizer, runner, 2)
    expected = copy.deepcopy(model)
    other = adamw(expected)
    origin = dict(zip(expected.parameters(), model.parameters(), strict=True))
    for parameter, source in origin.items():
        other.state[parameter] = {word: value.clone() for word, value in optimizer.state[source].items()}
    (blocks,) = stacks_of(family, expected)
    for target in (2, 3):
        for ours, theirs in zip(blocks[target].parameters(), blocks[target - 2].parameters(), strict=True):
            ours.data.copy_(theirs)
            taken = other.state[theirs].items()
            other.state[ours] = {w: v.clone() if moments == "copy" else torch.zeros_like(v) for w, v in taken}
    losses = train(family, model, optimizer, runner, 4)
    for index, loss in enumerate(losses, 2):
        right = expected(**batch_of(family, index)).loss
        right.backward()
        other.step()
        other.zero_grad()
        assert torch.equal(loss, right)
    assert same(model, expected)
    assert runner.audit().holds


def test_rule_35_copies_of_one_block_have_states_of_their_own() -> None:
    model, optimizer, runner = attached("gpt2", GROWING.replace("2/4", "1/4").format(words="grow=copy(all)"))
    train("gpt2", model, optimizer, runner, 2)
    with runner.step(2):
        pass
    moments = [optimizer.state[p]["exp_avg"] for block in model.transformer.h for p in block.parameters()]
    assert len({moment.data_ptr() for moment in moments}) == len(moments)


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt", "gpt_neox"])
def test_rule_35_new_blocks_with_zero_output_projections_change_nothing(family: str) -> None:
    model, optimizer, runner = attached(family, GROWING.format(words="grow=zero"))
    train(family, model, optimizer, runner, 2)
    before = model.eval()(**batch_of(family)).loss
    model.train()
    (blocks,) = stacks_of(family, model)
    unborn = [parameter.clone() for parameter in blocks[3].parameters()]
    with runner.step(2):
        assert torch.equal(model.eval()(**batch_of(family)).loss, before)
        model.train()
    changed = [not torch.equal(now, then) for now, then in zip(blocks[3].parameters(), unborn, strict=True)]
    layout = LAYOUTS[type(blocks[3]).__name__]
    assert layout.heads and layout.width
    zeros = [p for out in (layout.heads.output, layout.width.output) for p in blocks[3].get_submodule(out).parameters()]
    assert sum(changed) == len(zeros)
    assert not any(p.any() for p in zeros)


def test_rule_36_blocks_that_are_not_born_are_neither_evaluated_nor_touched() -> None:
    model, optimizer, runner = attached("llama", GROWING.format(words="grow=copy(last)"))
    plain = make("llama")
    small = copy.deepcopy(plain).eval()
    small.model.layers = small.model.layers[:2]
    batch = batch_of("llama")
    assert torch.equal(model.eval()(**batch).loss, small(**batch).loss)
    model.train()
    train("llama", model, optimizer, runner, 2)
    assert same(model.model.layers[2:], plain.model.layers[2:])
    assert not any(optimizer.state[p]["step"] for p in model.model.layers[2:].parameters())
    runner.detach()
    full = model.eval()(**batch).loss
    assert not torch.equal(full, small(**batch).loss)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resume_before_and_after_a_growth_is_the_same_run_to_the_bit(stop: int, tmp_path: Path) -> None:
    text = REPEATABLE.format(words="grow=copy(middle) rewarm=2")
    whole = attached("gpt2", text)
    expected = train("gpt2", *whole, 4)
    model, optimizer, runner = attached("gpt2", text)
    done = train("gpt2", model, optimizer, runner, stop)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "runner": runner.state_dict()}
    torch.save(state, tmp_path / "state.pt")
    model, optimizer, runner = attached("gpt2", text)
    state = torch.load(tmp_path / "state.pt")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    runner.load_state_dict(state["runner"])
    assert done + train("gpt2", model, optimizer, runner, 4) == expected
    assert same(model, whole[0])


def test_a_growth_is_not_repeated_where_its_step_failed() -> None:
    text = REPEATABLE.format(words="grow=copy(middle)")
    whole = attached("gpt2", text)
    train("gpt2", *whole, 4)
    model, optimizer, runner = attached("gpt2", text)
    train("gpt2", model, optimizer, runner, 2)
    with pytest.raises(ZeroDivisionError), runner.step(2):
        raise ZeroDivisionError
    train("gpt2", model, optimizer, runner, 4)
    assert same(model, whole[0])


def test_blocks_that_are_not_alike_are_not_copied() -> None:
    text = "keep depth=first\ndefault sample=prefix\nstage depth={size}/4 steps=2\nstage grow=copy(last) steps=2\n"
    model = make("t5")
    with refused("attach-blocks", "encoder.block.2 is not like encoder.block.0, and so cannot be its copy"):
        attach(model, plan_for("t5", text.format(size=2)), adamw(model))
    model, optimizer, runner = attached("t5", text.format(size=3))
    train("t5", model, optimizer, runner, 2)
    sources = [[p.clone() for p in stack[2].parameters()] for stack in stacks_of("t5", model)]
    with runner.step(2):
        pass
    for stack, source in zip(stacks_of("t5", model), sources, strict=True):
        assert all(torch.equal(p, s) for p, s in zip(stack[3].parameters(), source, strict=True))


def test_zero_needs_to_know_the_output_projections() -> None:
    model = make("bloom")
    with refused("attach-units", "grow=zero makes output projections zero, and it is not known which layers"):
        attach(model, plan_for("bloom", GROWING.format(words="grow=zero")), adamw(model))


def test_state_does_not_go_from_one_optimizer_to_another() -> None:
    model = make("gpt2")
    runner = attach(model, plan_for("gpt2", GROWING.format(words="grow=copy(all)")))
    blocks = model.transformer.h
    last = set(blocks[3].parameters())
    runner.bind(torch.optim.AdamW([p for p in model.parameters() if p not in last]))
    runner.bind(torch.optim.SGD(last, lr=0.1, momentum=0.9))
    with refused("optimizer-growth", "block 3 is copied from block 1, and two optimizers hold them: SGD and AdamW"):
        runner.step(0).__enter__()


def test_blocks_that_are_not_born_need_no_momentum_that_fades() -> None:
    model = make("gpt2")
    attach(model, plan_for("gpt2", GROWING.format(words="grow=copy(all)")), Lion(model.parameters()))
    other = make("gpt2")
    with refused("optimizer-idle-start", "the state of NAdam cannot be created before its first step"):
        attach(other, plan_for("gpt2", "stage depth.train=fixed(2) steps=4"), torch.optim.NAdam(other.parameters()))


# --- what does not train ----------------------------------------------------------------------------------------------


def untied() -> tuple[Any, dict[str, Any]]:
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=SEQ, n_embd=HIDDEN, n_layer=LAYERS, n_head=4, n_inner=64, use_cache=False,
        bos_token_id=0, eos_token_id=0, tie_word_embeddings=False, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).train(), {"tied": False}


PARTS = {
    "a part": "stage depth.train=fixed(2) steps=4",
    "a part of what runs": "stage depth=3/4 depth.train=fixed(2) steps=2\nstage steps=2",
    "a suffix": "stage depth.train=suffix(2) freeze=[embed, head] steps=4",
    "the head": "stage freeze=[head] steps=4",
    "the head, later": "stage steps=2\nstage freeze=[head] steps=2",
    "the embeddings": "stage depth.train=suffix(1) freeze=[embed] steps=4",
}


@pytest.mark.parametrize("name", PARTS)
def test_rule_34_backward_is_saved_as_planned(name: str) -> None:
    model, change = untied()
    plan = plan_for("gpt2", PARTS[name], **change)
    optimizer = adamw(model)
    runner = attach(model, plan, optimizer)
    for index in range(plan.steps):
        account = Account(plan)
        account.add(plan.step(index))
        tokens = batch_of("gpt2", index)
        with runner.step(index), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(**tokens).loss.backward()
        assert counter.get_total_flops() == account.flops
        optimizer.step()
        optimizer.zero_grad()
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("set_to_none", [True, False], ids=["grads are None", "grads are zeros"])
@pytest.mark.parametrize("name", PARTS)
def test_rule_33_what_does_not_train_stays_as_it_is_to_the_bit(name: str, set_to_none: bool) -> None:
    model, change = untied()
    plan = plan_for("gpt2", PARTS[name], **change)
    optimizer = adamw(model)
    runner = attach(model, plan, optimizer)
    of_head = (*model.transformer.ln_f.parameters(), *model.lm_head.parameters())
    of_embed = (*model.transformer.wte.parameters(), *model.transformer.wpe.parameters())
    for index in range(plan.steps):
        before = {p: (p.detach().clone(), int(optimizer.state[p]["step"])) for p in model.parameters()}
        with runner.step(index) as step:
            model(**batch_of("gpt2", index)).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none)
        depth = step.axes.get("depth")
        trains = np.ones(LAYERS, bool) if depth is None or depth.trains is None else depth.trains[0]
        moves = {p: bool(trains[i]) for i, block in enumerate(model.transformer.h) for p in block.parameters()}
        moves |= dict.fromkeys(of_head, "head" not in step.frozen) | dict.fromkeys(of_embed, "embed" not in step.frozen)
        assert set(moves) == set(model.parameters())
        for parameter, (value, count) in before.items():
            assert int(optimizer.state[parameter]["step"]) == count + moves[parameter]
            assert torch.equal(parameter, value) != moves[parameter]


def test_embeddings_and_head_are_told_by_when_they_are_called() -> None:
    """OPT makes its last norm before its blocks."""
    model = make("opt")
    plan = plan_for("opt", "stage freeze=[embed, head] depth.train=suffix(2) steps=4")
    runner = attach(model, plan, adamw(model))
    outside = {part.name.split(".")[-2]: part.outside for part in runner._sites.parts.values() if part.block is None}
    matrix = {"lm_head": "head"}  # which is the embeddings' as well
    assert outside == {"embed_positions": "embed", "final_layer_norm": "head", **matrix}


def test_freezing_a_part_of_a_tied_matrix_or_of_two_stacks_is_refused() -> None:
    model = make("gpt2")
    with refused("attach-freeze", "embeddings and head are one matrix"):
        attach(model, plan_for("gpt2", "stage freeze=[head] steps=4", tied=False), adamw(model))
    model = make("t5")
    with refused("attach-freeze", "the model has two stacks"):
        attach(model, plan_for("t5", "stage freeze=[embed, head] steps=4"), adamw(model))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
def test_reentrant_checkpointing_of_a_block_whose_input_has_no_gradient_is_refused() -> None:
    model, change = untied()
    for index, block in enumerate(model.transformer.h):
        model.transformer.h[index] = checkpoint_wrapper(block, CheckpointImpl.REENTRANT)
    runner = attach(model, plan_for("gpt2", "stage freeze=[embed] steps=4", **change), adamw(model))
    with refused("attach-option", "reentrant checkpointing"), runner.step(0):
        model(**batch_of("gpt2")).loss.backward()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_blocks_need_a_graph_for_each_way_to_be_tracked() -> None:
    model, change = untied()
    text = "stage freeze=[embed] depth.train=suffix(2) steps=2\nstage depth.train=fixed(2) steps=2"
    optimizer = adamw(model)
    runner = attach(model, plan_for("gpt2", text, **change), optimizer)
    runner.compile("eager")
    runner.warm_up(lambda: model(**batch_of("gpt2")).loss)
    assert all(parameter.requires_grad for parameter in model.parameters())
    warm, expected = runner.graphs
    train("gpt2", model, optimizer, runner, 4)
    built, _ = runner.graphs
    torch.compiler.reset()
    assert warm == built <= expected == 5
    runner.detach()


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_rewarm_multiplies_the_learning_rate_of_every_group_and_gives_it_back() -> None:
    model = make("gpt2")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    runner = attach(model, plan_for("gpt2", "stage rewarm=4 steps=4"), optimizer)
    weight = model.transformer.h[0].mlp.c_fc.weight
    for index, factor in enumerate([1 / 4, 2 / 4, 3 / 4, 1]):
        with runner.step(index):
            model(**batch_of("gpt2", index)).loss.backward()
        gradient, before = weight.grad.clone(), weight.detach().clone()
        optimizer.step()
        torch.testing.assert_close(before - weight, 0.1 * factor * gradient, rtol=1e-4, atol=1e-7)
        assert optimizer.param_groups[0]["lr"] == 0.1
        optimizer.zero_grad()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stage positions=4 steps=2\nstage steps=2", "axis positions for this model"),
        ("stage seq=4 steps=2\nstage steps=2", "axis seq for this model"),
        ("stage batch=1 steps=2\nstage steps=2", "axis batch for this model"),
        ("stage depth=2 scale=learned steps=2\nstage steps=2", "scale=learned for this model"),
    ],
)
def test_what_only_the_small_transformer_can_do_is_refused_by_name(text: str, words: str) -> None:
    model = make("gpt2")
    with refused("backend-unsupported", f"the torch backend has no {words}"):
        attach(model, plan_for("gpt2", text), adamw(model))


def test_the_small_transformer_of_ones_own_loop_needs_its_factors() -> None:
    plan = plan_for("gpt2", "stage depth=2 scale=learned positions=4 steps=2\nstage steps=2")
    model = build(plan.shape, 0)
    with refused("attach-shape", "this model has none"):
        attach(model, plan, adamw(model))
    model = build(plan.shape, 0, learned=plan.learns_scales)
    attach(model, plan, adamw(model))
    with refused("backend-unsupported", "no axis seq for this model"):
        attach(build(plan.shape, 0), plan_for("gpt2", "stage seq=4 steps=2\nstage steps=2"))


def test_rule_31_factors_rest_at_full_size_though_they_have_gradients_of_zeros() -> None:
    plan = plan_for("gpt2", "stage depth=2 scale=learned steps=2\nstage steps=2")
    model = build(plan.shape, 0, learned=plan.learns_scales)
    optimizer = adamw(model)
    runner = attach(model, plan, optimizer)
    factors = [parameter for name, parameter in model.named_parameters() if name.endswith(".factor")]
    seen = []
    for index in range(plan.steps):
        with runner.step(index):
            model(batch_of("gpt2", index)["input_ids"]).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        seen.append([factor.item() for factor in factors])
    assert len(factors) == LAYERS and seen[1] == seen[2] == seen[3] != seen[0]


def test_the_summary_says_what_trains_and_what_grows() -> None:
    text = GROWING.format(words="grow=copy(last) depth.train=new")
    _, _, runner = attached("gpt2", text)
    first, second = runner.summary().splitlines()[-3:-1]
    assert first.endswith("depth 2/4 idle=zero")
    assert second.endswith("depth 4/4 idle=zero, 2 of them train, blocks are copied")
