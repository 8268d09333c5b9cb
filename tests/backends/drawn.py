"""Small models, batches and plans with any masks at all: what a backend has to run does not depend on the sampling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import strategies as st

from raptr_dsl.axes import AXES
from raptr_dsl.backend import Batch
from raptr_dsl.backend.network import parameters
from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.flops import block_cost, head_cost
from raptr_dsl.ir.bound import BoundRule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import AxisMask, Plan, Step
from raptr_dsl.laws.fixed import Fixed

SMALL = ModelShape(layers=3, heads=4, hidden=8, ffn=12, vocab=11, seq=6, batch=4, width_group=3)


MIXTURE = ModelShape(layers=3, heads=4, hidden=8, ffn=6, experts=5, top_k=2, vocab=11, seq=6, batch=4)


def parts_of(shape: ModelShape) -> tuple[str, ...]:
    """The axes whose units are weights of a model, depth first."""
    return tuple(name for name, axis in AXES.items() if axis.is_counted(shape))


@dataclass(frozen=True)
class DrawnPlan:
    """Stands in for a plan whose masks are given one by one; one stage with one `idle` an axis."""

    shape: ModelShape
    masks: Sequence[Mapping[str, AxisMask]]
    idle: Mapping[str, str] = field(default_factory=dict)
    scale: str = "none"
    keep: tuple[int, ...] = ()
    frozen: Sequence[frozenset[str]] = ()
    learns_scales: bool = False

    @property
    def steps(self) -> int:
        return len(self.masks)

    @property
    def stages(self) -> tuple[BoundStage, ...]:
        axes = {
            axis: BoundRule(law=Fixed(), keep=self.keep, scale=self.scale, idle=cast(Any, self.idle.get(axis, "zero")))
            for axis in sorted({axis for masks in self.masks for axis in masks} | set(self.idle))
        }
        return (BoundStage(start=0, stop=self.steps, duration=Fraction(self.steps), axes=axes),)

    def step(self, index: int) -> Step:
        return Step(index, 0, self.masks[index], self.frozen[index] if self.frozen else frozenset())

    def grows_at(self, step: int) -> None:
        """Nothing grows."""

    def evaluated(self, step: int) -> dict[str, AxisMask]:
        return {}

    def rate_factor(self, step: int) -> Fraction:
        return Fraction(1)


def drawn_plan(
    shape: ModelShape,
    masks: Sequence[Mapping[str, AxisMask]],
    idle: Mapping[str, str] | None = None,
    scale: str = "none",
    keep: tuple[int, ...] = (),
) -> Plan:
    return cast(Plan, DrawnPlan(shape, masks, idle or {}, scale, keep))


def mask(shape: ModelShape, axis: str, on: Any, scale: Any = 1.0) -> AxisMask:
    """A mask of one axis; `on` is broadcast over sites, `scale` over sites and units."""
    space = AXES[axis].space(shape)
    switched = np.broadcast_to(np.asarray(on, dtype=bool), (space.sites, space.units)).copy()
    factors = np.broadcast_to(np.asarray(scale, dtype=np.float64), switched.shape) * switched
    return AxisMask(switched, factors, full=bool((factors == 1).all()))


def planned(shape: ModelShape, masks: Mapping[str, AxisMask]) -> tuple[dict[str, int], int]:
    """Units and FLOPs of one step, by the core's account."""
    units: dict[str, int] = dict.fromkeys(parts_of(shape), 0)
    flops = Fraction(head_cost(shape))
    for block in range(shape.layers):
        if "depth" in masks and not masks["depth"].on[0, block]:
            continue
        units["depth"] += 1
        shares = {}
        for axis in parts_of(shape)[1:]:
            n = AXES[axis].space(shape).units
            k = int(masks[axis].on[block].sum()) if axis in masks else n
            units[axis] += k
            shares[axis] = Fraction(k, n)
        flops += block_cost(shape, shares)
    assert flops.denominator == 1
    return units, int(flops)


def batch(shape: ModelShape, seed: int = 0) -> Batch:
    """Random tokens; the head predicts everywhere, or at `head_share` of the positions of each row."""
    random = np.random.default_rng(seed)
    inputs = random.integers(0, shape.vocab, (shape.batch, shape.seq))
    if shape.head_share == 1:
        return Batch(inputs, random.integers(0, shape.vocab, inputs.shape))
    count = shape.head_positions // shape.batch
    positions = np.sort(random.permuted(np.tile(np.arange(shape.seq), (shape.batch, 1)), axis=1)[:, :count])
    return Batch(inputs, random.integers(0, shape.vocab, positions.shape), positions)


@contextmanager
def refused(code: str, words: str = "") -> Iterator[None]:
    """The block raises one diagnostic of that code, with those words in its message."""
    with pytest.raises(RaptrError) as caught:
        yield
    assert [item.code for item in caught.value.diagnostics] == [code]
    assert words in caught.value.diagnostics[0].message


@st.composite
def shapes(draw: st.DrawFn, experts: bool = False) -> ModelShape:
    """Decoders and encoders, gated or not, grouped queries or not, tied or not, the head on some positions or all.

    Args:
        experts: whether some are mixtures of experts.
    """
    group = draw(st.sampled_from([1, 2]))
    kv_heads = draw(st.integers(1, 3))
    seq = draw(st.integers(2, 5))
    count = draw(st.sampled_from([2, 5, 1])) if experts else 1
    return ModelShape(
        layers=draw(st.integers(1, 4)),
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=draw(st.sampled_from([2, 3])),
        hidden=draw(st.sampled_from([4, 6])),
        ffn=12,
        experts=count,
        top_k=draw(st.sampled_from([k for k in (2, 1, 3) if k <= count])),  # with one, the router has no say
        width_group=draw(st.sampled_from([1, 3, 4])),
        vocab=7,
        seq=seq,
        batch=2,
        gated=draw(st.booleans()),
        tied=draw(st.booleans()),
        causal=draw(st.booleans()),
        head_share=draw(st.sampled_from([Fraction(1), Fraction(1, seq)])),
    )


@st.composite
def masks_of(draw: st.DrawFn, shape: ModelShape) -> dict[str, AxisMask]:
    """Any subset of the axes; any units of each site, none and all included; equal or unequal factors.

    Of experts, which are not scaled, there are as many as a token is sent to.
    """
    result = {}
    for axis in parts_of(shape):
        if not draw(st.booleans()):
            continue
        space = AXES[axis].space(shape)
        if axis == "experts":
            counts = [draw(st.integers(shape.top_k, space.units)) for _ in range(space.sites)]
            on = [draw(st.permutations([unit < count for unit in range(space.units)])) for count in counts]
            result[axis] = mask(shape, axis, on)
            continue
        on = draw(st.lists(st.booleans(), min_size=space.sites * space.units, max_size=space.sites * space.units))
        seed = draw(st.integers(0, 3))
        scale = 1.0 if seed == 0 else np.random.default_rng(seed).uniform(0.5, 2.0, (space.sites, space.units))
        if seed == 3:
            scale = np.broadcast_to(np.asarray(scale)[:, :1], (space.sites, space.units))
        result[axis] = mask(shape, axis, np.reshape(on, (space.sites, space.units)), scale)
    return result


@st.composite
def plans(draw: st.DrawFn, steps: int = 3, experts: bool = False) -> Plan:
    """As `masks_of`, with parts that are not trained, learned factors, and thinned data in each step."""
    shape = draw(shapes(experts))
    learned = draw(st.booleans())
    parts = [{"embed", "head"}] if shape.tied else [{"embed"}, {"head"}, {"embed", "head"}]
    data = [axis for axis in ("positions", "seq", "batch") if axis != "seq" or shape.head_share == 1]
    chosen = draw(st.sets(st.sampled_from(data))) - draw(st.sampled_from([{"positions"}, {"seq"}]))
    masks, frozen = [], []
    for _ in range(steps):
        step = draw(masks_of(shape))
        frozen.append(frozenset(draw(st.sampled_from([set(), *parts]))))
        step.setdefault("depth", mask(shape, "depth", True))
        trains = np.array([draw(st.lists(st.booleans(), min_size=shape.layers, max_size=shape.layers))])
        if frozen[-1] == {"embed", "head"}:  # else there might be nothing at all to train
            trains |= True
            step["depth"] = mask(shape, "depth", True) if not step["depth"].on.any() else step["depth"]
        is_learned = learned and not step["depth"].full
        step["depth"] = replace(step["depth"], trains=trains if draw(st.booleans()) else None, learned=is_learned)
        for axis in sorted(chosen):
            space = AXES[axis].space(shape)
            count = draw(st.integers(1, space.units))
            on = np.arange(space.units) < count
            if axis == "positions":
                on = np.random.default_rng(count).permuted(np.tile(on, (space.sites, 1)), axis=1)
                on[draw(st.sets(st.integers(0, space.sites - 1)).map(sorted))] = True
            step[axis] = mask(shape, axis, on)
        masks.append(step)
    idle = {axis: draw(st.sampled_from(["zero", "skip"])) for axis in parts_of(shape)}
    return cast(Plan, DrawnPlan(shape, masks, idle, frozen=frozen, learns_scales=learned))


def random_values(shape: ModelShape, seed: int = 1) -> dict[str, np.ndarray]:
    """float64 values for every parameter, biases and gains too, so that each of them matters."""
    random = np.random.default_rng(seed)
    return {entry.name: random.standard_normal(entry.shape) * 0.5 for entry in parameters(shape)}
