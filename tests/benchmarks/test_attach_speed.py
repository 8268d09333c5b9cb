"""Realised ÷ ideal of attached Hugging Face models, with what people use today beside them in the same run.

Reported, not asserted. The ideal is what the FLOPs allow (head included); a time is the least of interleaved, shuffled
rounds of whole steps: forward, backward, clipping, update. Peers, at half of the blocks in expectation or exactly:

- `layerdrop` of OPT in transformers, whose blocks are drawn by a coin each;
- a multiplication of what each block adds by 0, as DropPath in timm and its kin.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from raptr_dsl.flops import block_cost, head_cost
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import AxisMask
from raptr_torch import attach
from tests.backends.drawn import drawn_plan, mask, planned
from tests.benchmarks.test_torch_speed import seconds

pytestmark = pytest.mark.benchmark

ROUNDS = int(os.environ.get("RAPTR_BENCH_ROUNDS", "7"))
SEQ = 128
LLAMA = ModelShape(layers=12, heads=8, hidden=384, ffn=1536, vocab=4096, seq=SEQ, batch=8, gated=True, tied=False)
LONGER = ModelShape(layers=12, heads=8, hidden=384, ffn=1536, vocab=4096, seq=SEQ, batch=16, gated=True, tied=False)
OPT = ModelShape(layers=12, heads=6, hidden=384, ffn=1536, vocab=4096, seq=SEQ, batch=8)


def llama(**_: Any) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=4096, hidden_size=384, intermediate_size=1536, num_hidden_layers=12, num_attention_heads=8,
            max_position_embeddings=SEQ, use_cache=False,
        )
    )  # fmt: skip


def opt(layerdrop: float = 0.0) -> nn.Module:
    from transformers import OPTConfig, OPTForCausalLM

    return OPTForCausalLM(
        OPTConfig(
            vocab_size=4096, hidden_size=384, ffn_dim=1536, num_hidden_layers=12, num_attention_heads=6, dropout=0.0,
            max_position_embeddings=SEQ, word_embed_proj_dim=384, use_cache=False, layerdrop=layerdrop,
        )
    )  # fmt: skip


CASES: dict[str, tuple[tuple[str, ...], float, str]] = {
    "depth 3/12": (("depth",), 1 / 4, "zero"),
    "depth 6/12": (("depth",), 1 / 2, "zero"),
    "depth 9/12": (("depth",), 3 / 4, "zero"),
    "depth 6/12, skip": (("depth",), 1 / 2, "skip"),
    "heads + width 1/2": (("heads", "width"), 1 / 2, "zero"),
    "heads + width 1/2, skip": (("heads", "width"), 1 / 2, "skip"),
}
TWICE_THE_TOKENS: dict[str, tuple[tuple[str, ...], float, str]] = {
    f"heads + width {text}{comma}{idle}": (("heads", "width"), share, idle or "zero")
    for text, share in (("1/2", 1 / 2), ("1/4", 1 / 4))
    for comma, idle in (("", ""), (", ", "skip"))
}


def draw(shape: ModelShape, axes: tuple[str, ...], share: float, random: np.random.Generator) -> dict[str, AxisMask]:
    found = {}
    for axis in axes:
        sites, units = {
            "depth": (1, shape.layers),
            "heads": (shape.layers, shape.kv_heads),
            "width": (shape.layers, shape.ffn // shape.width_group),
        }[axis]
        on = np.zeros((sites, units), bool)
        for site in on:
            site[random.permutation(units)[: round(share * units)]] = True
        found[axis] = mask(shape, axis, on, share**-0.5)
    return found


def batches(shape: ModelShape) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(shape.vocab, (shape.batch, SEQ), generator=generator) for _ in range(ROUNDS + 1)]


def stepping(model: nn.Module, optimizer: torch.optim.Optimizer, tokens: list[torch.Tensor]) -> Callable[[int], None]:
    def step(index: int) -> None:
        model(input_ids=tokens[index], labels=tokens[index]).loss.backward()
        update(model, optimizer)

    return step


def update(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "make", "shape", "cases"),
    [("llama", llama, LLAMA, CASES), ("llama", llama, LONGER, TWICE_THE_TOKENS), ("opt", opt, OPT, CASES)],
)
def test_realised_over_ideal_of_attached_models(
    name: str, make: Callable[..., Any], shape: ModelShape, cases: Mapping[str, tuple[tuple[str, ...], float, str]]
) -> None:
    generator, tokens = np.random.default_rng(17), batches(shape)
    plain = make()
    runs: dict[str, Callable[[int], None]] = {"full": stepping(plain, adamw(plain), tokens)}
    masks: dict[str, list[Mapping[str, AxisMask]]] = {}
    for case, (axes, share, idle) in cases.items():
        model = make()
        optimizer = adamw(model)
        masks[case] = [draw(shape, axes, share, generator) for _ in range(ROUNDS + 1)]
        runner = attach(model, drawn_plan(shape, masks[case], dict.fromkeys(axes, idle)), optimizer)

        def step(index: int, model: Any = model, optimizer: Any = optimizer, runner: Any = runner) -> None:
            with runner.step(index):
                model(input_ids=tokens[index], labels=tokens[index]).loss.backward()
            update(model, optimizer)

        runs[case] = step
    if "depth 6/12" in cases:
        runs["DropPath-style multiplication, 6/12"] = multiplying(name, make(), masks["depth 6/12"][0]["depth"], tokens)
    if name == "opt":
        runs["layerdrop of transformers, 1/2"] = layerdrop(tokens)
    best = seconds(runs, ROUNDS)

    full = planned(shape, {})[1]
    print(
        f"\n{name}: 12 blocks, hidden 384, vocab 4096, {shape.batch} × {SEQ} tokens, float32, "
        f"{torch.get_num_threads()} thread(s)"
    )
    print(f"least of {ROUNDS} rounds; full step {best['full'] * 1e3:.0f} ms")
    print(f"{'case':38} {'ms':>6} {'ideal':>6} {'real':>6} {'r/i':>5}")
    half = full / (head_cost(shape) + 6 * int(block_cost(shape, {})))
    for case, time in best.items():
        if case == "full":
            continue
        ideal = full / planned(shape, masks[case][0])[1] if case in masks else half
        realised = best["full"] / time
        print(f"{case:38} {time * 1e3:6.0f} {ideal:6.2f} {realised:6.2f} {realised / ideal:5.2f}")


def multiplying(name: str, model: Any, mask: AxisMask, tokens: list[torch.Tensor]) -> Callable[[int], None]:
    """What each block adds is multiplied by its factor, 0 where it is off."""
    for index, block in enumerate(model.model.decoder.layers if name == "opt" else model.model.layers):
        block.register_forward_hook(
            lambda _, args, y, index=index: args[0] + float(mask.scale[0, index]) * (y - args[0])
        )
    return stepping(model, adamw(model), tokens)


def layerdrop(tokens: list[torch.Tensor]) -> Callable[[int], None]:
    """Exactly six blocks a step, for its time to be comparable: the coins are drawn until they fall so."""
    model: Any = opt(layerdrop=0.5)
    optimizer = adamw(model)
    generator = torch.Generator().manual_seed(5)

    def step(index: int) -> None:
        while True:
            state = int(torch.randint(2**31, (), generator=generator))
            torch.manual_seed(state)
            if sum(bool(torch.rand([]) >= 0.5) for _ in range(12)) == 6:
                break
        torch.manual_seed(state)
        model(input_ids=tokens[index], labels=tokens[index]).loss.backward()
        update(model, optimizer)

    return step
