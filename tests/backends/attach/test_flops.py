"""FLOPs of attached models: executed as planned, as integers, and as torch itself counts them in the very same step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from fractions import Fraction
from types import MethodType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode
from transformers import AttentionInterface, MixtralConfig, MixtralForCausalLM

from raptr_dsl import compile_text
from raptr_dsl.flops import head_cost
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.training.account import Account
from raptr_torch import attach, shape
from raptr_torch.layouts import Layout, UnitLinears
from raptr_torch.ledger import FlopAudit
from raptr_torch.runner import Runner
from tests.backends.attach.models import BITWISE, MAKE, SEQ, UNITS, VOCAB, batch_of, make, shape_of
from tests.backends.attach.test_depth import snapshot
from tests.backends.attach.test_parts_and_growth import PARTS, plan_for, untied

DEPTH = "keep depth=first\nstage depth=2/4 scale=sqrt steps=50%\nstage steps=rest"
FLAT = [name for name in MAKE if name not in ("bloom", "falcon")]
"""Families whose feed-forward part is as wide as the shape of the tests says."""


def plan_of(family: str, text: str = DEPTH, steps: int = 2, **change: Any) -> Plan:
    return compile_text(text, model=shape_of(family).model_copy(update=change), steps=steps, seed=5)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)


def flops_of(runner: Runner) -> FlopAudit:
    found = runner.audit().flops
    assert found is not None
    return found


def inputs(family: str, batch: int, seq: int, source_seq: int) -> dict[str, Tensor]:
    if family == "t5":
        given = torch.randint(2, VOCAB, (batch, source_seq))
        return {"input_ids": given, "labels": torch.randint(2, VOCAB, (batch, seq))}
    tokens = torch.randint(2, VOCAB, (batch, seq))
    return {"input_ids": tokens, "labels": tokens}


def counted(model: Any, micro_batches: Sequence[dict[str, Tensor]]) -> int:
    """Torch's own count of the forward and backward passes of a step."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        for batch in micro_batches:
            model(**batch).loss.backward()
    return counter.get_total_flops()


def train(model: Any, runner: Runner, micro_batches: Sequence[dict[str, Tensor]] | None = None) -> list[int]:
    """By step, torch's own count; one nominal batch a step unless given."""
    optimizer, found = next(iter(runner._bindings.optimizers)), []
    family = "t5" if runner.plan.shape.source_seq else ""
    for index in range(runner.next_step, runner.plan.steps):
        shape = runner.plan.shape
        given = micro_batches or [inputs(family, shape.batch, shape.seq, shape.source_seq)]
        with runner.step(index):
            found.append(counted(model, given))
        assert runner.metrics().get("raptr/flops", 0) == (0 if flops_of(runner).problem else found[-1])
        optimizer.step()
        optimizer.zero_grad()
    return found


# --- executed = planned = counted by torch ----------------------------------------------------------------------------


def stages(data: st.DataObject, family: str) -> str:
    """Stages over any axes, random sizes and laws; one unit at least, so that torch counts what is planned."""
    axes = ("heads", "width") if family in UNITS else ()
    lines = ["allow partial", "keep depth=first"]
    for steps in ("steps=50%", "steps=rest"):
        words = [data.draw(st.sampled_from(["", "depth=2/4", "depth=3/4", "depth=draw(1/4, 3/4)"]))]
        words += [data.draw(st.sampled_from(["", f"{axis}=1/2"])) for axis in axes]
        words += [data.draw(st.sampled_from(["", "scale=sqrt"])) if any(words) else ""]
        lines.append(" ".join(["stage", *filter(None, words), steps]))
    return "\n".join(lines)


def check(family: str, data: st.DataObject) -> None:
    """In micro-batches of several shapes, as padding to the longest makes them."""
    model, plan = make(family), plan_of(family, stages(data, family), steps=2)
    runner = attach(model, plan, adamw(model))
    sizes = st.tuples(st.integers(1, 3), st.integers(2, 12), st.integers(2, 12))
    micro_batches = [inputs(family, *size) for size in data.draw(st.lists(sizes, min_size=1, max_size=2))]
    found = sum(train(model, runner, micro_batches))
    audit = flops_of(runner)
    assert runner.executed().flops == audit.executed == audit.planned == found
    assert not audit.problem and runner.audit().holds


@pytest.mark.parametrize("family", BITWISE)
@settings(max_examples=2)
@given(data=st.data())
def test_executed_flops_are_those_planned_and_those_that_torch_counts(family: str, data: st.DataObject) -> None:
    check(family, data)


@pytest.mark.slow
@pytest.mark.parametrize("family", BITWISE)
@settings(max_examples=20)
@given(data=st.data())
def test_executed_flops_of_many_plans_are_those_that_torch_counts(family: str, data: st.DataObject) -> None:
    check(family, data)


@pytest.mark.parametrize("family", FLAT)
def test_at_nominal_shapes_they_are_those_of_the_plan(family: str) -> None:
    model, plan = make(family), plan_of(family)
    runner = attach(model, plan, adamw(model))
    train(model, runner)
    audit = flops_of(runner)
    assert audit.executed == audit.planned == audit.nominal == plan.flops().total
    assert audit.is_nominal and str(audit) == f"FLOPs {plan.flops().total:,} of {plan.flops().total:,}"
    assert "FLOPs: counted" in runner.summary()


@pytest.mark.parametrize("name", PARTS)
def test_backward_that_is_saved_is_not_counted(name: str) -> None:
    model, change = untied()
    plan = plan_for("gpt2", PARTS[name], **change)
    runner, account = attach(model, plan, adamw(model)), Account(plan)
    found = train(model, runner)
    for index in range(plan.steps):
        account.add(plan.step(index))
    assert sum(found) == account.flops == runner.executed().flops == flops_of(runner).nominal


class SparseHead(nn.Module):
    """BERT whose head predicts at some positions, as those of sparse prediction do."""

    def __init__(self, share: Fraction) -> None:
        super().__init__()
        self.bert, self.share = make("bert"), share
        self.config = self.bert.config

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> Any:
        hidden = self.bert.bert(input_ids).last_hidden_state
        count = int(hidden.shape[1] * self.share)
        logits = self.bert.cls(hidden[:, :count])
        logits.loss = logits.square().mean()
        return logits


def test_the_head_is_counted_at_the_positions_it_sees() -> None:
    share = Fraction(3, 10)
    plan = plan_of("bert", head_share=share)
    model = SparseHead(share)
    runner = attach(model, plan, adamw(model), stacks=["bert.bert.encoder.layer"])
    found = train(model, runner)
    assert sum(found) == runner.executed().flops == plan.flops().total and flops_of(runner).is_nominal
    whole = make("bert")
    runner = attach(whole, plan, adamw(whole))
    found = train(whole, runner)
    audit = flops_of(runner)
    more = 2 * (head_cost(shape_of("bert")) - head_cost(plan.shape))
    assert audit.executed == audit.planned == sum(found) == audit.nominal + more
    assert f"at the shapes seen ({audit.nominal:,} at the plan's)" in str(audit) and audit.holds


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputed_forwards_are_not_counted(reentrant: bool) -> None:
    model, plan = make("llama"), plan_of("llama")
    runner = attach(model, plan, adamw(model))
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    tokens = batch_of("llama")
    for index in range(plan.steps):
        with runner.step(index):
            model(**tokens).loss.backward()
        next(iter(runner._bindings.optimizers)).step()
    assert runner.executed().flops == plan.flops().total == flops_of(runner).planned


def test_evaluation_warming_up_and_training_in_full_are_not_counted() -> None:
    model, plan = make("t5"), plan_of("t5")
    runner = attach(model, plan, adamw(model))
    tokens = inputs("t5", 2, SEQ, SEQ)
    runner.warm_up(lambda: model(**tokens).loss)
    with runner.full():
        model(**tokens).loss.backward()
    with runner.step(0):
        model(**tokens).loss.backward()
        with torch.no_grad():
            model.eval()(**tokens)
        model.train()
    assert runner.executed().flops == flops_of(runner).planned == plan.flops().stages[0].total


def test_the_head_is_what_it_was_after_detaching() -> None:
    model, plain = make("bert"), make("bert")
    runner = attach(model, plan_of("bert"))
    assert type(model.cls.predictions.decoder) is not nn.Linear
    assert type(copy.deepcopy(model).cls.predictions.decoder) is nn.Linear
    runner.detach()
    assert snapshot(model) == snapshot(plain) and type(model.cls.predictions.decoder) is nn.Linear


# --- what is not as planned is found ----------------------------------------------------------------------------------


class Plain(nn.Module):
    """A decoder of one's own, and ways in which it may do other than a plan says."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        shape = shape_of("gpt2")
        self.embed = nn.Embedding(shape.vocab, shape.hidden)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.head = nn.Linear(shape.hidden, shape.vocab, bias=False)
        self.twice = self.shortened = -1
        self.fused = False
        self.reentrant: bool | None = None

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        if self.reentrant is not None:
            for module in (*self.blocks, self.head):
                x = checkpoint(module, x, use_reentrant=self.reentrant)
            return x  # pyright: ignore[reportReturnType]
        for index, block in enumerate(self.blocks):
            x = x[:, : SEQ // 2] if index == self.shortened else x
            for _ in range(1 + (index == self.twice)):
                x = block(x)
        return F.linear(x, self.head.weight) if self.fused else self.head(x)


class Block(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm, self.inner = nn.LayerNorm(shape.hidden), nn.LayerNorm(shape.hidden)
        self.qkv, self.out = nn.Linear(shape.hidden, 3 * shape.hidden), nn.Linear(shape.hidden, shape.hidden)
        self.up, self.down = nn.Linear(shape.hidden, shape.ffn), nn.Linear(shape.ffn, shape.hidden)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, -1))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.inner(x))))


EXAMPLE = (torch.arange(14).view(2, 7),)


def own(plan: Plan, model: nn.Module | None = None, **options: Any) -> tuple[Any, Runner]:
    model = model or Plain()
    return model, attach(model, plan, adamw(model), **{"example": EXAMPLE, **options})


def run(model: Any, runner: Runner) -> None:
    with runner.step(runner.next_step):
        model(torch.randint(VOCAB, (2, SEQ))).square().mean().backward()


def test_a_model_of_ones_own_is_counted() -> None:
    model, runner = own(plan_of("gpt2"))
    run(model, runner)
    assert runner.executed().flops == flops_of(runner).nominal == runner.plan.flops().stages[0].total


@pytest.mark.parametrize("reentrant", [True, False])
def test_blocks_and_head_that_a_model_recomputes_are_counted_once(reentrant: bool) -> None:
    model, runner = own(plan_of("gpt2"))
    model.reentrant = reentrant
    run(model, runner)
    assert runner.executed().flops == flops_of(runner).planned == runner.plan.flops().stages[0].total


@pytest.mark.parametrize("twice", [0, 1])
def test_a_block_that_runs_twice_is_found(twice: int) -> None:
    """The first, whose shapes are those seen, and another."""
    model, runner = own(plan_of("gpt2", "stage steps=rest"))
    model.twice = twice
    run(model, runner)
    audit = flops_of(runner)
    assert not audit.holds and not runner.audit().holds and audit.is_nominal == (twice != 0)
    assert str(runner.audit()).startswith("NOT AS PLANNED")
    assert f"FLOPs {audit.executed:,} of {audit.planned:,}" in str(runner.audit())


def test_blocks_that_see_other_shapes_are_found() -> None:
    model, runner = own(plan_of("gpt2", "stage steps=rest"))
    model.shortened = 2
    run(model, runner)
    assert not flops_of(runner).holds and not runner.audit().holds
    assert runner.audit().planned == runner.audit().executed  # of units


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ffn": 128}, "on 2 × 7 positions blocks.0 computes"),
        ({"gated": True}, "on 2 × 7 positions blocks.0 computes"),
        ({"kv_heads": 2}, "on 2 × 7 positions blocks.0 computes"),
        ({"hidden": 16, "head_dim": 8}, "on 14 positions linear layers outside the blocks compute"),
        ({"vocab": 60}, "no linear layer outside the blocks has 60 outputs"),
        ({"head_transform": True}, "on 14 positions linear layers outside the blocks compute"),
    ],
)
def test_a_lie_in_the_shape_is_found_at_attach_with_both_numbers(change: dict[str, Any], words: str) -> None:
    model, runner = own(plan_of("gpt2", **change))
    problem = flops_of(runner).problem
    assert problem.startswith(words) and f"FLOPs: not counted: {problem}" in runner.summary()
    if "FLOPs" in problem:
        assert len([word for word in problem.replace(",", "").split() if word.isdigit() and int(word) > 14]) == 2
    run(model, runner)
    assert runner.executed().flops == 0 and runner.audit().holds and "raptr/flops" not in runner.metrics()
    assert str(runner.audit()).endswith(f"FLOPs not counted: {problem}")


def test_a_block_that_computes_more_than_the_others_is_found() -> None:
    model = Plain()
    last: Any = model.blocks[3]
    last.forward = MethodType(lambda self, x: Block.forward(self, Block.forward(self, x)), last)
    _, runner = own(plan_of("gpt2"), model)
    assert flops_of(runner).problem.startswith("on 2 × 7 positions blocks.3 computes")


class Wasteful(Block):
    def forward(self, x: Tensor) -> Tensor:
        """Does for idle hidden units what leads to nothing."""
        x = super().forward(x)
        active = getattr(self.down, "_raptr_selection", None)
        if active is not None and active.slots is not None:
            x = x + 0 * (x.detach() @ x.new_zeros(32, 32))
        return x


@pytest.mark.parametrize("kind", [Block, Wasteful])
def test_half_of_the_units_has_to_cost_half(kind: type[Block]) -> None:
    model = Plain()
    for block in model.blocks:
        block.__class__ = kind
    plan = plan_of("gpt2", "stage width=1/2 steps=50%\nstage steps=rest")
    model, runner = own(plan, model, layout=Layout(width=UnitLinears(inputs=("up",), output="down")))
    problem = flops_of(runner).problem
    if kind is Block:
        run(model, runner)
        assert not problem and runner.executed().flops == plan.flops().stages[0].total
    else:
        assert problem.startswith("on 2 × 7 positions blocks.0 computes") and "with 2 of 4 units of width" in problem


# --- what cannot be proven is not counted, and is attached all the same -----------------------------------------------


@pytest.mark.parametrize(("family", "change"), [("bloom", {"ffn": 128}), ("falcon", {"ffn": 128, "kv_heads": 1})])
def test_families_that_are_not_as_the_plan_says(family: str, change: dict[str, Any]) -> None:
    """Their feed-forward part is 4 times as wide as they are, whatever the plan says."""
    model = make(family)
    runner = attach(model, plan_of(family), adamw(model))
    assert "computes" in flops_of(runner).problem
    whole = plan_of(family, **change)
    model = make(family)
    runner = attach(model, whole, adamw(model))
    assert sum(train(model, runner)) == whole.flops().total == runner.executed().flops


def test_without_a_batch() -> None:
    _, runner = own(plan_of("gpt2"), example=None)
    assert flops_of(runner).problem == "what the model takes is not known: give attach(…, example=…), a tiny batch"


@pytest.mark.parametrize("family", ["llama", "bert", "t5"])
def test_a_model_that_has_no_storage_yet_is_proven_all_the_same(family: str) -> None:
    with torch.device("meta"):
        model: Any = MAKE[family]()
    plan = plan_of(family)
    runner = attach(model, plan)
    model.to_empty(device="cpu")
    real = make(family)
    model.load_state_dict(real.state_dict())
    for buffer, value in zip(model.buffers(), real.buffers(), strict=True):  # some are in no state dict
        buffer.copy_(value)
    runner.bind(adamw(model))
    assert sum(train(model.train(), runner)) == flops_of(runner).executed == plan.flops().total


class Peeking(Block):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if float(x.detach().abs().max()) < 1e9 else x


def test_a_block_that_looks_at_values_cannot_be_tried() -> None:
    model = Plain()
    for block in model.blocks:
        block.__class__ = Peeking
    model, runner = own(plan_of("gpt2"), model)
    assert flops_of(runner).problem.startswith("blocks.0 cannot be tried on meta: ")
    run(model, runner)
    assert runner.executed().flops == 0 and runner.audit().holds


def test_post_norm_blocks_under_frozen_embeddings_cost_less_than_the_formula_says() -> None:
    """In BERT no norm of the first block stands before its first matmuls, whose input then has no gradient."""
    model = make("bert")
    plan = plan_of("bert", "stage freeze=[embed, head] steps=rest")
    problem = flops_of(attach(model, plan, adamw(model))).problem
    assert "bert.encoder.layer.0 computes" in problem


def test_what_is_frozen_by_hand_is_not_planned(caplog: pytest.LogCaptureFixture) -> None:
    for freeze, words in (
        (lambda model: model.model.layers[2], "model.layers.2 runs with no gradients of its weights"),
        (lambda model: model.model.layers[2].mlp, "model.layers.2 runs with gradients of some of its matrices"),
        (lambda model: model.lm_head, "lm_head does not train"),
    ):
        model = make("llama")
        plan = plan_of("llama", "stage steps=rest")
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
        freeze(model).requires_grad_(False)
        runner = attach(model, plan, adamw(model))
        caplog.clear()
        train(model, runner)
        assert words in flops_of(runner).problem and words in caplog.text and len(caplog.records) == 1
        assert runner.executed().flops == 0 and runner.audit().holds


@pytest.mark.parametrize("frozen", [[3], [0, 1, 2, 3]])
def test_a_block_that_is_frozen_by_hand_where_the_plan_has_another_rest(frozen: list[int]) -> None:
    """Blocks that do not train are proven, and this one was to train: the audit is not to say that it ran otherwise."""
    model, plan = make("llama"), plan_of("llama", "stage depth.train=suffix(2/4) steps=50%\nstage steps=rest")
    for place in frozen:
        model.model.layers[place].requires_grad_(False)
    runner = attach(model, plan, adamw(model))
    train(model, runner)
    assert "no gradients of its weights and gradients of its input, which the plan" in flops_of(runner).problem
    assert runner.audit().holds and runner.executed().flops == 0


def test_embeddings_that_are_frozen_by_hand_cost_nothing_anyway() -> None:
    model, change = untied()
    model.transformer.wte.requires_grad_(False)
    model.transformer.wpe.requires_grad_(False)
    plan = plan_of("gpt2", "stage steps=rest", **change)
    runner = attach(model, plan, adamw(model))
    assert sum(train(model, runner)) == runner.executed().flops == plan.flops().total


def test_a_head_that_is_not_called_is_not_counted() -> None:
    """A fused loss takes its weight."""
    model, runner = own(plan_of("gpt2"))
    model.fused = True
    run(model, runner)
    assert flops_of(runner).problem == "head is not called, as under a fused loss, so the head cannot be seen"
    assert runner.executed().flops == 0 and runner.audit().holds


def fused_attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Any:
    """As a kernel that torch cannot count, and that runs on a device only."""
    if query.is_meta:
        raise NotImplementedError
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    return F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2), None


def test_fused_attention_is_proven_in_its_plain_form() -> None:
    AttentionInterface.register("fused_for_tests", fused_attention)
    model = make("llama")
    model.set_attn_implementation("fused_for_tests")
    plan = plan_of("llama")
    runner = attach(model, plan, adamw(model))
    train(model, runner)
    assert runner.executed().flops == plan.flops().total
    assert model.config._attn_implementation == "fused_for_tests"


def test_experts_are_proven_in_a_form_that_does_not_look_where_tokens_go() -> None:
    config = MixtralConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, max_position_embeddings=16, use_cache=False,
    )  # fmt: skip
    model = MixtralForCausalLM(config)
    plan = compile_text(DEPTH, model=shape(model, batch=2), steps=2, seed=5)
    runner = attach(model, plan, adamw(model))
    for index in range(plan.steps):
        with runner.step(index):
            model(**inputs("mixtral", 2, 16, 0)).loss.backward()
        next(iter(runner._bindings.optimizers)).step()
    assert runner.executed().flops == plan.flops().total


# --- checkpoints and ranks --------------------------------------------------------------------------------------------


def test_the_account_goes_on_after_a_resume() -> None:
    plan = plan_of("llama", steps=4)
    model = make("llama")
    runner = attach(model, plan, adamw(model))
    train(model, runner)
    whole = flops_of(runner)
    model = make("llama")
    first = attach(model, plan, adamw(model))
    with first.step(0):
        model(**batch_of("llama")).loss.backward()
    state = first.state_dict()
    first.detach()
    second = attach(model, plan, adamw(model))
    assert second.state_dict().keys() == state.keys()
    second.load_state_dict(state)
    train(model, second)
    assert flops_of(second) == whole
    old = {
        word: value for word, value in state.items() if word not in ("planned_flops", "nominal_flops", "flops_problem")
    }
    third = attach(make("llama"), plan)
    third.load_state_dict(old)
    assert third.executed().flops == 0 and "begun by a version that counted none" in flops_of(third).problem


def test_ranks_share_the_plan() -> None:
    assert str(FlopAudit(50, 50, 100, ranks=2)) == "FLOPs 50 of 50"
    assert str(FlopAudit(40, 40, 100, ranks=2)) == "FLOPs 40 of 40 at the shapes seen (100 at the plan's of 2 ranks)"
