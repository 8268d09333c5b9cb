"""Schedule + model shape + horizon → bound schedule: whole steps, whole units, every rule drawable."""

from raptr_dsl.axes import AXES, Axis, Space
from raptr_dsl.compiler.origins import Origins, Path
from raptr_dsl.compiler.sizing import Sizer
from raptr_dsl.compiler.tiling import Tile, horizon_of, tile
from raptr_dsl.compiler.units import MAX_UNITS
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.ir.bound import BoundRule, BoundSchedule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.schedule import PARTIAL, AxisRule, Schedule
from raptr_dsl.occupancy import runs_in_full
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
    tiles = tile(schedule, shape, horizon, origins, diagnostics)
    if tiles is None:
        return None
    binder = _Binder(schedule, shape, origins, diagnostics)
    stages = [binder.stage(tiled) for tiled in tiles]
    bound = tuple(stage for stage in stages if stage is not None)
    if len(bound) < len(stages):
        return None
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
            bound = self._rule(tiled, AXES[name], rule)
            good &= bound is not None
            if bound is not None and not runs_in_full(bound, self._spaces[name]):
                rules[name] = bound
        if not good:
            return None
        return BoundStage(name=stage.name, start=tiled.start, stop=tiled.stop, duration=tiled.duration, axes=rules)

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
        if keep is None:
            return None
        steps = tiled.stop - tiled.start
        every = steps if rule.every is None else rule.every
        sizer = Sizer(
            axis,
            space,
            rule.law.exact,
            len(keep),
            steps,
            every,
            self._origins.at((*path, "size")),
            self._diagnostics,
        )
        sized = sizer.bind(rule.size)
        if sized is None:
            return None
        bound = BoundRule(
            **rule.attributes(), keep=keep, sizes=sized.borders, measure=sized.measure, choices=sized.choices
        )
        return bound if self._can_draw(bound, axis, space, path) else None

    def _keep(self, rule: AxisRule, axis: Axis, space: Space, path: Path) -> tuple[int, ...] | None:
        units = {unit + space.units if unit < 0 else unit for unit in rule.keep}
        outside = [unit for unit in units if not 0 <= unit < space.units]
        if not outside:
            return tuple(sorted(units))
        self._say(
            (*path, "keep"),
            "keep-out-of-range",
            f"{axis.name} has {plural(space.units, axis.unit)}, numbered from 0: there is no number {outside[0]}",
            help="write `last` for the last one",
        )
        return None

    def _can_draw(self, rule: BoundRule, axis: Axis, space: Space, path: Path) -> bool:
        if rule.choices and rule.law.anchored:
            self._say(
                (*path, "size"),
                "drawn-size-in-rounds",
                f"{rule.law.law} deals its units in rounds of one size; a drawn size has no rounds",
                help="write sample=fixed",
            )
            return False
        problems = dict.fromkeys(problem for pool in pools(rule, space) for problem in rule.law.problems(pool))
        for problem in problems:
            self._say((*path, "law"), "cannot-draw", problem)
        return not problems

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
