"""Schedule + model shape + horizon → bound schedule: whole steps, whole units, every rule drawable."""

from fractions import Fraction
from math import floor
from typing import Any

from raptr_dsl.axes import AXES, BLOCKS, Axis, Space
from raptr_dsl.compiler.attributes import FAILED
from raptr_dsl.compiler.backward import check_backward
from raptr_dsl.compiler.buckets import with_buckets
from raptr_dsl.compiler.growth import full_rule, with_growth
from raptr_dsl.compiler.origins import Origins, Path
from raptr_dsl.compiler.sizing import Sized, Sizer
from raptr_dsl.compiler.tiling import Tile, horizon_of, tile
from raptr_dsl.compiler.units import MAX_UNITS
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.ir.bound import BoundDraw, BoundRule, BoundSchedule, BoundStage
from raptr_dsl.ir.checks import lacks_words
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.schedule import PARTIAL, AxisRule, Schedule, Stage
from raptr_dsl.laws import Law
from raptr_dsl.occupancy import fewest_units, runs_in_full
from raptr_dsl.sampling import pools
from raptr_dsl.wording import plural

MAX_STEPS = 2**40


def bind(
    schedule: Schedule,
    shape: ModelShape,
    origins: Origins,
    diagnostics: Diagnostics,
    steps: int | None = None,
) -> BoundSchedule | None:
    """Binds a schedule; None, with every reason recorded, if it does not fit the model or the horizon.

    Args:
        steps: the horizon in optimizer steps where the caller sets one; else the file's own.
    """
    horizon = horizon_of(schedule, shape, steps, origins, diagnostics)
    if horizon is None or not _is_countable(horizon, diagnostics):
        return None
    if not _can_be_numbered(schedule, shape, horizon, origins, diagnostics):
        return None
    tiles = tile(schedule, shape, horizon, origins, diagnostics)
    if tiles is None:
        return None
    binder = _Binder(schedule, shape, origins, diagnostics)
    stages = [binder.stage(tiled) for tiled in tiles]
    bound = tuple(stage for stage in stages if stage is not None)
    if len(bound) < len(stages):
        return None
    numbers = [tiled.stage for tiled in tiles]
    grown = with_growth(schedule, bound, numbers, shape, origins, diagnostics)
    if grown is None or not check_backward(grown, numbers, shape, origins, diagnostics):
        return None
    bound = grown
    partial = PARTIAL in schedule.allow
    if not partial and not binder.ends_full(bound[-1], tiles[-1]):
        return None
    return BoundSchedule(
        doc=schedule.doc,
        shape=shape,
        steps=horizon,
        partial=partial,
        stages=bound,
        requirements=schedule.requirements,
    )


def _is_countable(horizon: int, diagnostics: Diagnostics) -> bool:
    if 1 <= horizon <= MAX_STEPS:
        return True
    diagnostics.add(
        "bad-horizon",
        f"a run of {plural(horizon, 'step')} is not between 1 step and 2^40",
        help="give --steps, or write `steps 675k`",
    )
    return False


def _draws_anew(law: Law, sized: Sized) -> bool:
    """Whether it matters how long a draw lasts."""
    return law.varies or bool(sized.choices) or len(sized.borders) > 1


def _can_be_numbered(
    schedule: Schedule, shape: ModelShape, steps: int, origins: Origins, diagnostics: Diagnostics
) -> bool:
    """Whether the stream has a word for every unit of every step (rule 19); the first stage that asks is to blame."""
    for name, axis in AXES.items():
        space = axis.space(shape)
        if not lacks_words(steps, space):
            continue
        for number, stage in enumerate(schedule.stages):
            if name in stage.axes:
                diagnostics.add(
                    "run-too-long",
                    f"{plural(steps, 'step')} of {plural(space.sites * space.units, axis.unit)} are more than the "
                    "random stream can number",
                    origins.span(("stages", number, "axes", name, "size")),
                    help="make the run shorter" + (", or width_group larger" if name == "width" else ""),
                )
                return False
    return True


class _Binder:
    """Binds the stages of one schedule to one model."""

    def __init__(self, schedule: Schedule, shape: ModelShape, origins: Origins, diagnostics: Diagnostics) -> None:
        self._schedule, self._shape, self._origins, self._diagnostics = schedule, shape, origins, diagnostics
        self._spaces: dict[str, Space] = {name: axis.space(shape) for name, axis in AXES.items()}

    def stage(self, tiled: Tile) -> BoundStage | None:
        stage = self._schedule.stages[tiled.stage]
        rules: dict[str, BoundRule] = {}
        good = True
        for name, rule in stage.axes.items():
            if not self._has_axis(tiled, AXES[name]):
                good = False
                continue
            bound = self._rule(tiled, AXES[name], rule)
            good &= bound is not None
            if bound is None:
                continue
            if not runs_in_full(bound, self._spaces[name]) and len(bound.full) < self._shape.layers:
                rules[name] = bound
            elif bound.train:
                rules[name] = full_rule(self._spaces[name].units, train=bound.train)
        rewarm = self._rewarm(tiled, stage)
        if not good or rewarm is None:
            return None
        return BoundStage(
            name=stage.name,
            start=tiled.start,
            stop=tiled.stop,
            duration=tiled.duration,
            axes=rules,
            rewarm=rewarm,
            **stage.attributes(),
        )

    def _has_axis(self, tiled: Tile, axis: Axis) -> bool:
        """Whether the model has such an axis, and the stage none beside it that says the same otherwise."""
        misfit, path = axis.misfit(self._shape), ("stages", tiled.stage, "axes", axis.name, "size")
        if misfit:
            self._say(path, "axis-not-in-model", misfit, help=f"leave {axis.name}= out")
            return False
        for other in sorted(axis.excludes & self._schedule.stages[tiled.stage].axes.keys()):
            if axis.name < other:  # said once of the two
                message = f"{axis.name} and {other} cannot be thinned in one stage"
                self._say(path, "axes-clash", message, help="thin one of them, or write two stages")
                return False
        return True

    def _rewarm(self, tiled: Tile, stage: Stage) -> int | None:
        """The steps in which the learning rate climbs: a share of the stage is rounded once, as borders are."""
        if stage.rewarm is None:
            return 0
        steps, amount = tiled.stop - tiled.start, stage.rewarm
        rewarm = amount.value if amount.is_count else floor(amount.value * steps + Fraction(1, 2))
        if rewarm <= steps:
            return int(rewarm)
        self._say(
            ("stages", tiled.stage, "rewarm"),
            "rewarm-too-long",
            f"the learning rate is to climb for {plural(rewarm, 'step')}, and the stage has {plural(steps, 'step')}",
            help="write a share of the stage, such as rewarm=10%, or fewer steps",
        )
        return None

    def _rule(self, tiled: Tile, axis: Axis, rule: AxisRule) -> BoundRule | None:
        space, path = self._spaces[axis.name], ("stages", tiled.stage, "axes", axis.name)
        if space.units > MAX_UNITS:
            self._say(
                (*path, "size"),
                "too-many-units",
                f"{axis.name} has {plural(space.units, axis.unit)} a site, more than {MAX_UNITS:,}",
                help="give the model a larger width_group" if axis.name == "width" else "",
            )
            return None
        keep = self._keep(rule, axis, space, path)
        full = self._full(rule, path)
        if keep is None or full is None:
            return None
        sized = self._sizer(tiled, axis, rule, rule.law, len(keep), (*path, "size")).bind(rule.size)
        train = self._train(tiled, axis, rule, path) if rule.train and rule.train.law else None
        if sized is None or train is FAILED:
            return None
        bound = BoundRule(
            **rule.attributes(),
            keep=keep,
            full=full,
            sizes=sized.borders,
            measure=sized.measure,
            choices=sized.choices,
            train=train,
        )
        if not self._can_draw(bound, axis, space, (*path, "law")) or not self._leaves_enough(bound, axis, path):
            return None
        return with_buckets(bound, space, tiled.stop - tiled.start, rule.buckets) if rule.buckets else bound

    def _sizer(self, tiled: Tile, axis: Axis, rule: AxisRule, law: Law, kept: int, path: Path) -> Sizer:
        steps, space = tiled.stop - tiled.start, self._spaces[axis.name]
        every = steps if rule.every is None else rule.every
        return Sizer(axis, space, law.exact, kept, steps, every, self._origins.at(path), self._diagnostics)

    def _train(self, tiled: Tile, axis: Axis, rule: AxisRule, path: Path) -> Any:
        """Which units train, None for all of them, or FAILED with what is wrong recorded."""
        space, training, place = self._spaces[axis.name], rule.train, (*path, "train")
        assert training and training.law and training.size
        sized = self._sizer(tiled, axis, rule, training.law, 0, place).bind(training.size)
        if sized is None:
            return FAILED
        draw = BoundDraw(
            law=training.law,
            every=rule.every if _draws_anew(training.law, sized) else 1,
            sizes=sized.borders,
            measure=sized.measure,
            choices=sized.choices,
        )
        if runs_in_full(draw, space):
            return None
        return draw if self._can_draw(draw, axis, space, place) else FAILED

    def _keep(self, rule: AxisRule, axis: Axis, space: Space, path: Path) -> tuple[int, ...] | None:
        return self._numbered(rule.keep, axis, space.units, (*path, "keep"), "keep-out-of-range")

    def _full(self, rule: AxisRule, path: Path) -> tuple[int, ...] | None:
        """The blocks of every stack in which all units run (rule 4)."""
        return self._numbered(rule.full, BLOCKS, self._shape.layers, (*path, "full"), "full-out-of-range")

    def _numbered(self, said: tuple[int, ...], axis: Axis, count: int, path: Path, code: str) -> tuple[int, ...] | None:
        """Numbers of units of an axis, ascending; None, with the reason recorded, where there is no such unit."""
        units = {unit + count if unit < 0 else unit for unit in said}
        outside = sorted(unit for unit in units if not 0 <= unit < count)
        if not outside:
            return tuple(sorted(units))
        self._say(
            path,
            code,
            f"{axis.name} has {plural(count, axis.unit)}, numbered from 0: there is no number {outside[0]}",
            help="write `last` for the last one",
        )
        return None

    def _can_draw(self, rule: BoundDraw, axis: Axis, space: Space, path: Path) -> bool:
        if rule.choices and rule.law.anchored:
            self._say(
                (*path[:-1], "size") if path[-1] == "law" else path,
                "drawn-size-in-rounds",
                f"{rule.law.law} deals its units in rounds of one size; a drawn size has no rounds",
                help="write sample=fixed",
            )
            return False
        problems = dict.fromkeys(problem for pool in pools(rule, space) for problem in rule.law.problems(pool))
        for problem in problems:
            self._say(path, "cannot-draw", problem)
        return not problems

    def _leaves_enough(self, rule: BoundRule, axis: Axis, path: Path) -> bool:
        """Whether every draw leaves as many units of a site as the model needs."""
        needed, left = axis.fewest(self._shape), fewest_units(rule, self._spaces[axis.name])
        if left >= needed:
            return True
        help = f"write at least {axis.name}={needed}"
        if not rule.law.exact:
            help = f"write sample=fixed, or keep {plural(needed, axis.unit)} always on"
        self._say(
            (*path, "size"),
            "too-few-for-the-model",
            f"a step can be left with {plural(left, axis.unit)} a block, fewer than the {axis.least}={needed} of this "
            "model",
            help=help,
        )
        return False

    def ends_full(self, stage: BoundStage, tiled: Tile) -> bool:
        """Rule 14: the last step runs the whole network."""
        thinned = [
            name for name, rule in stage.axes.items() if not runs_in_full(rule, self._spaces[name], stage.steps - 1)
        ]
        for name in thinned:
            self._say(
                ("stages", tiled.stage, "axes", name, "size"),
                "not-full-at-end",
                f"the run ends with {name} thinned: the last step is not the full network",
                help="end with a stage at full size, or write `allow partial`",
            )
        return not thinned

    def _say(self, path: Path, code: str, message: str, help: str = "") -> None:
        """Records what is wrong with the value at `path`, with the runs and repeats that brought it here."""
        origin = self._origins.at(path)
        self._diagnostics.add(code, message, origin.span, related=origin.chain, help=help)
