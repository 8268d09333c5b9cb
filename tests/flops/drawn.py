"""Shapes with every word of a model, accounts of every kind, and plans over them."""

from __future__ import annotations

from fractions import Fraction
from typing import get_args

from hypothesis import strategies as st

from raptr_dsl.axes import AXES
from raptr_dsl.flops import CONVENTIONS, Accounting, Causal, Recompute
from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from tests.laws.drawn import rules, with_full


@st.composite
def shapes(draw: st.DrawFn, most_stacks: int = 2, has_experts: bool = True) -> ModelShape:
    kv_heads, seq = draw(st.integers(1, 3)), draw(st.integers(1, 7))
    source_seq = draw(st.integers(1, 7)) if most_stacks > 1 and draw(st.booleans()) else 0
    experts = draw(st.sampled_from([1, 1, 2, 4])) if has_experts else 1
    return ModelShape(
        layers=draw(st.integers(1, 5)),
        heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        head_dim=draw(st.integers(1, 5)),
        hidden=draw(st.integers(1, 9)),
        ffn=draw(st.sampled_from([6, 12])),
        experts=experts,
        top_k=draw(st.integers(1, min(experts, 2))),
        width_group=draw(st.sampled_from([1, 3])),
        vocab=draw(st.integers(1, 20)),
        seq=seq,
        source_seq=source_seq,
        batch=draw(st.integers(1, 3)),
        gated=draw(st.booleans()),
        tied=draw(st.booleans()),
        causal=bool(source_seq) or draw(st.booleans()),
        head_share=draw(st.sampled_from([Fraction(1), Fraction(1, seq)])),
        head_transform=draw(st.booleans()),
    )


accounts = st.builds(
    Accounting,
    convention=st.sampled_from(sorted(CONVENTIONS)),
    causal=st.sampled_from(get_args(Causal)),
    recompute=st.sampled_from(get_args(Recompute)),
)


@st.composite
def shapes_with_accounts(draw: st.DrawFn) -> tuple[ModelShape, Accounting]:
    shape = draw(shapes())
    return shape, draw(accounts.filter(lambda account: not account.problem(shape)))


def parts_of(shape: ModelShape) -> list[str]:
    """The axes whose units are weights of a model."""
    return sorted(name for name, axis in AXES.items() if axis.is_counted(shape))


@st.composite
def plans(draw: st.DrawFn, shape: ModelShape) -> Plan:
    """One to three stages of one to twelve steps, each thinning some of the axes by any law."""
    stages, start = [], 0
    for _ in range(draw(st.integers(1, 3))):
        steps = draw(st.integers(1, 12))
        names = draw(st.lists(st.sampled_from(parts_of(shape)), unique=True))
        axes = {name: draw(rules(AXES[name].space(shape), steps, fewest=AXES[name].fewest(shape))) for name in names}
        duration = steps + draw(st.sampled_from([Fraction(0), Fraction(1, 3)]))
        stage = BoundStage(start=start, stop=start + steps, duration=duration, axes=axes)
        stages.append(draw(with_full(stage, shape)))
        start += steps
    seed = draw(st.integers(0, 2**64 - 1))
    return Plan(name="drawn", seed=seed, shape=shape, steps=start, partial=True, stages=tuple(stages))
