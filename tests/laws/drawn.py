"""Hypothesis strategies: small plans over every law, axis, kind of size and duration of a draw."""

from fractions import Fraction

from hypothesis import strategies as st

from raptr_dsl.axes import AXES, Axis, Space
from raptr_dsl.curves import CURVES, Curve
from raptr_dsl.flops.backward import marginals
from raptr_dsl.ir.bound import Border, BoundRule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.ir.schedule import UNIFORM, Profile
from raptr_dsl.laws import LAWS, Law, Pool
from raptr_dsl.occupancy import fewest_units, segments
from raptr_dsl.sampling import pools
from raptr_dsl.scales import SCALES
from raptr_dsl.staircases import staircase

EXACT = sorted(name for name, law in LAWS.items() if law.exact)
RANDOM = sorted(name for name, law in LAWS.items() if not law.exact)
RULES = {  # of the laws, for the names of tests
    "fixed": 22, "prefix": 22, "suffix": 22, "ranked": 22, "window": 22, "balanced": 23, "rotate": 24,
    "stratified": 25, "bernoulli": 26, "systematic": 26,
}  # fmt: skip

shapes = st.builds(
    lambda layers, heads, units, source_seq: ModelShape(
        layers=layers,
        heads=heads,
        hidden=4 * heads,
        ffn=units,
        width_group=1,
        vocab=11,
        seq=4,
        source_seq=source_seq,
    ),
    layers=st.integers(1, 9),
    heads=st.integers(1, 6),
    units=st.integers(1, 12),
    source_seq=st.sampled_from([0, 0, 4]),  # an encoder beside the decoder: depth has two sites
)


@st.composite
def curves(draw: st.DrawFn) -> Curve:
    cls = CURVES[draw(st.sampled_from(sorted(CURVES)))]
    if cls.parameter == "rate":
        return cls(rate=draw(st.fractions(Fraction(1, 10), 200, max_denominator=10)))  # pyright: ignore[reportCallIssue]
    if cls.parameter == "begin":
        return cls(begin=draw(st.fractions(0, Fraction(9, 10), max_denominator=10)))  # pyright: ignore[reportCallIssue]
    if cls.parameter == "n":
        return cls(n=draw(st.fractions(Fraction(1, 5), 5, max_denominator=5)))  # pyright: ignore[reportCallIssue]
    return cls()  # pyright: ignore[reportCallIssue]


@st.composite
def profiles(draw: st.DrawFn, n: int) -> Profile:
    kind = draw(st.sampled_from(["uniform", "uniform", "linear", "list", "curve"]))
    if kind == "list":
        weights = draw(st.lists(st.fractions(Fraction(1, 3), 1, max_denominator=7), min_size=n, max_size=n))
        return Profile(kind="list", weights=tuple(weights))
    if kind == "curve":
        return Profile(kind="curve", curve=draw(curves()), start=Fraction(1, 4), stop=Fraction(1))
    return Profile(kind=kind)


def law_named(draw: st.DrawFn, name: str, n: int) -> Law:
    if name == "ranked":
        return LAWS[name](order=tuple(draw(st.permutations(range(n)))))  # pyright: ignore[reportCallIssue]
    if name == "stratified":
        groups = draw(st.sampled_from([g for g in range(1, n + 1) if n % g == 0]))
        return LAWS[name](groups=groups)  # pyright: ignore[reportCallIssue]
    return LAWS[name]()  # pyright: ignore[reportCallIssue]


@st.composite
def rules(draw: st.DrawFn, space: Space, steps: int, law: str | None = None, fewest: int = 0) -> BoundRule:
    """A rule that can be drawn from, with `fewest` units or more: what its law refuses is not drawn."""
    rule = draw(_rules(space, steps, law))
    if fewest_units(rule, space) >= fewest:
        return rule
    full = (Border(offset=0, value=Fraction(space.units)),)
    return rule.model_copy(update={"sizes": full, "choices": (), "measure": "units"})


@st.composite
def _rules(draw: st.DrawFn, space: Space, steps: int, law: str | None) -> BoundRule:
    n = space.units
    chosen = law_named(draw, law or draw(st.sampled_from(EXACT + RANDOM)), n)
    keep = tuple(sorted(draw(st.sets(st.integers(0, n - 1), max_size=min(3, n)))))
    every = draw(st.sampled_from([1, 1, 2, 3, 7, None]))
    profile = UNIFORM if chosen.exact else draw(profiles(n))
    common = {"law": chosen, "keep": keep, "every": every, "profile": profile}
    common["scale"] = draw(st.sampled_from(sorted(SCALES)))
    least = max(1, len(keep))
    whole = st.integers(least, n)
    if chosen.exact:
        good = [size for size in range(least, n + 1) if not chosen.problems(Pool(n, keep, Fraction(size)))] or [n]
        whole = st.sampled_from(good)
    kind = draw(st.sampled_from(["one", "one", "curve", "drawn"]))
    if kind == "drawn" and not chosen.anchored and (chosen.exact or profile is UNIFORM):
        return BoundRule(choices=tuple(draw(st.lists(whole, min_size=1, max_size=4))), **common)
    if not chosen.exact and draw(st.booleans()):
        value = draw(st.fractions(0, 1, max_denominator=9))
        return BoundRule(sizes=(Border(offset=0, value=value),), measure="probability", **common)
    rule = BoundRule(sizes=(Border(offset=0, value=Fraction(draw(whole))),), **common)
    if kind == "curve" and not isinstance(chosen, LAWS["stratified"]) and profile is UNIFORM:
        levels = staircase(
            draw(curves()), Fraction(draw(whole)), Fraction(draw(whole)), steps, min(every or steps, steps)
        )
        rule = BoundRule(sizes=tuple(Border(offset=t, value=Fraction(level)) for t, level in levels), **common)
    if any(chosen.problems(pool) for pool in pools(rule, space)):
        return BoundRule(sizes=(Border(offset=0, value=Fraction(n)),), **common)
    return rule


@st.composite
def with_full(draw: st.DrawFn, stage: BoundStage, shape: ModelShape) -> BoundStage:
    """The stage, some of whose axes run in full in some of the blocks that are certain to run (rule 4)."""
    chances = [marginals(part.axes.get("depth"), shape.layers) for part in segments(stage, shape)]
    sure = [block for block in range(shape.layers) if all(chance[block] == 1 for chance in chances)]
    axes = dict(stage.axes)
    for name in sorted(name for name in axes if AXES[name].per_block and sure and shape.layers > 1):
        full = draw(st.just(set()) | st.sets(st.sampled_from(sure), max_size=shape.layers - 1))
        axes[name] = axes[name].model_copy(update={"full": tuple(sorted(full))})
    return stage.model_copy(update={"axes": axes})


def laws_of(axis: Axis) -> list[str | None]:
    """The laws of an axis, and None for any of them."""
    return [None, *(EXACT + RANDOM if axis.laws is None else axis.laws)]


@st.composite
def plans(draw: st.DrawFn, law: str | None = None, axes: tuple[str, ...] | None = None) -> Plan:
    """One to four stages of one to forty steps, each thinning some of the axes."""
    shape = draw(shapes)
    stages, start = [], draw(st.just(0))
    for _ in range(draw(st.integers(1, 4))):
        steps = draw(st.integers(1, 40))
        fitting = [name for name, axis in sorted(AXES.items()) if law in laws_of(axis) and not axis.misfit(shape)]
        names = axes or draw(st.lists(st.sampled_from(fitting), unique=True, max_size=3))
        thinned = {
            name: draw(rules(AXES[name].space(shape), steps, law or draw(st.sampled_from(laws_of(AXES[name])[1:]))))
            for name in names
        }
        stage = BoundStage(start=start, stop=start + steps, duration=Fraction(steps), axes=thinned)
        stages.append(draw(with_full(stage, shape)))
        start += steps
    seed = draw(st.integers(0, 2**64 - 1))
    return Plan(name="drawn", seed=seed, shape=shape, steps=start, partial=True, stages=tuple(stages))
