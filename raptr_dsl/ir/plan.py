"""The plan: everything a backend needs, a pure function of schedule, model, horizon and seed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cached_property
from operator import index as whole
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from raptr_dsl.axes import AXES, BLOCKS, Axis
from raptr_dsl.diagnostics import did_you_mean
from raptr_dsl.flops import Accounting, Case, Causal, FlopReport, Recompute, run_report
from raptr_dsl.flops.report import Loads, stage_loads
from raptr_dsl.ir import identity, storage
from raptr_dsl.ir.base import Frozen
from raptr_dsl.ir.bound import BoundStage, Growth
from raptr_dsl.ir.checks import plan_problems
from raptr_dsl.ir.identity import Difference
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.step import AxisMask, Step
from raptr_dsl.programs import count_shapes
from raptr_dsl.sampling import Sampler
from raptr_dsl.scales import SCALES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["AxisMask", "Difference", "Growth", "Plan", "Proven", "Step", "load_plan"]

_SHOWN_PROBLEMS = 10


class Proven(Frozen):
    """A requirement that holds, with the value it was found to have."""

    text: str
    value: str


class Plan(Frozen):
    """Frozen, hashable, a few kilobytes of JSON; saved with `save`, read with `load_plan`.

    Steps are numbered from 0. Masks are drawn when they are asked for, in any order, each a pure function of the plan
    and the step. Two plans are equal if all they say is equal, names included; `digest` compares what they mean.

    Attributes:
        stages: tile [0, steps) exactly.
        seed: of the masks. shape: of the model; see `ModelShape`.
        partial: whether the last step may be less than the full network.
        schedule: the identity of the schedule it was compiled from, a SHA-256; see `compiler.identity`.
    """

    format: Literal["raptr-plan-1"] = "raptr-plan-1"
    rng: Literal["philox4x64-10/raptr-mask-1"] = "philox4x64-10/raptr-mask-1"
    name: str
    doc: str | None = None
    seed: int = Field(ge=0, lt=2**64)
    shape: ModelShape
    steps: int = Field(ge=1)
    partial: bool = False
    schedule: str | None = None
    stages: tuple[BoundStage, ...]
    proven: tuple[Proven, ...] = ()

    @model_validator(mode="after")
    def _holds(self) -> Self:
        problems = list(plan_problems(self))
        if problems:
            raise ValueError("; ".join(problems[:_SHOWN_PROBLEMS]))
        return self

    # --- masks ------------------------------------------------------------------------------------------

    def step(self, index: int) -> Step:
        """What runs in one step, alone and in any order. Raises IndexError outside [0, steps)."""
        return self._sampler.step(self._in_run(index))

    def masks(self, axis: str, start: int = 0, stop: int | None = None) -> NDArray[np.bool_]:
        """What runs along one axis in steps [start, stop); `stop` is the end of the run unless given.

        Returns:
            bool[stop − start, blocks] for depth, an encoder's blocks before the decoder's; bool[stop − start, sites, n]
            for a per-block axis.
            A site in a block that is off has its mask all the same; it is not to be used.

        Raises:
            ValueError: there is no such axis. IndexError: the steps are not 0 ≤ start ≤ stop ≤ `steps`.
        """
        return self._drawn(axis, start, stop, self._sampler.fill)

    def _drawn(
        self, axis: str, start: int, stop: int | None, fill: Callable[[str, int, int, NDArray[np.bool_]], None]
    ) -> NDArray[np.bool_]:
        import numpy as np

        space = _axis(axis).space(self.shape)
        first, last = whole(start), self.steps if stop is None else whole(stop)
        if not 0 <= first <= last <= self.steps:
            raise IndexError(f"steps {first} to {last} are not within the plan's 0 to {self.steps}")
        out = np.empty((last - first, space.sites, space.units), np.bool_)
        fill(axis, first, last, out)
        return out if _axis(axis).per_block else out.reshape(last - first, space.sites * space.units)

    def trained(self, axis: str, start: int = 0, stop: int | None = None) -> NDArray[np.bool_]:
        """Which units train in steps [start, stop), if they run (rule 33); as `masks`."""
        return self._drawn(axis, start, stop, self._sampler.fill_trained)

    def export(
        self,
        path: str | Path,
        axes: Iterable[str] | None = None,
        start: int = 0,
        stop: int | None = None,
        format: str = "safetensors",
    ) -> None:
        """Writes the masks of steps [start, stop), bit-packed, for programs without this package (docs/sampling.md).

        Args:
            axes: which; those that any stage thins, or trains a part of, unless given.

        Raises:
            RaptrError: `plan-write`. ValueError, IndexError: as `masks`.
        """
        from raptr_dsl.export import export_masks

        export_masks(self, Path(path), axes, start, stop, format)

    # --- state ------------------------------------------------------------------------------------------

    def growth(self, stage: int) -> Growth | None:
        """What stage number `stage`, from 0, copies before its first step; None where nothing grows (rule 35)."""
        rule = self.stages[stage].axes.get(BLOCKS.name)
        return rule.growth if rule else None

    def grows_at(self, step: int) -> Growth | None:
        """What is to be copied before a step: `growth` of the stage that begins with it."""
        stage = self.stage_index(step)
        return self.growth(stage) if self.stages[stage].start == step else None

    def born(self, step: int) -> int:
        """How many blocks of a stack there are at a step, the first ones: what is evaluated (rule 36)."""
        rule = self.stage_at(step).axes.get(BLOCKS.name)
        return self.shape.layers if rule is None or rule.born is None else rule.born

    def evaluated(self, step: int) -> dict[str, AxisMask]:
        """The masks, unscaled, of an evaluation after a step (rule 36): none if all blocks are born."""
        import numpy as np

        born, stacks = self.born(step), self.shape.stacks
        if born == self.shape.layers:
            return {}
        on = np.broadcast_to(np.arange(self.shape.layers) < born, (stacks, self.shape.layers)).copy()
        return {BLOCKS.name: AxisMask(on, on.astype(np.float64), full=False)}

    def rate_factor(self, step: int) -> Fraction:
        """By what `rewarm` multiplies a step's learning rate: (i + 1)/r in the i-th of the first r steps, else 1."""
        stage = self.stage_at(step)
        return Fraction(min(step - stage.start + 1, stage.rewarm), stage.rewarm) if stage.rewarm else Fraction(1)

    @property
    def learns_scales(self) -> bool:
        """Whether each block has a trained factor, which begins at 1 (rule 31)."""
        return any(SCALES[rule.scale].learned for stage in self.stages for rule in stage.axes.values())

    # --- cost -------------------------------------------------------------------------------------------

    def flops(
        self,
        convention: str = "matmul",
        case: Literal["mean", "worst", "seed"] = "mean",
        causal: Causal = "full",
        recompute: Recompute = "none",
    ) -> FlopReport:
        """Training FLOPs of blocks, head and full network, in all and by stage, over whole steps.

        Args:
            convention, causal, recompute: how they are counted; see `raptr_dsl.flops.Accounting`.
            case: under random laws the exact expectation, the worst case, or what this seed draws (which is counted
                by drawing every mask); under exact laws all the same.

        Raises:
            ValueError: there is no such account, or it does not fit the model.
        """
        from raptr_dsl.tally import seed_report

        accounting = Accounting(convention, causal, recompute)
        problem = accounting.problem(self.shape)
        if problem:
            raise ValueError(problem)
        if case not in ("mean", "worst", "seed"):
            raise ValueError(f"there is no case {case!r}; known are mean, worst, seed")
        if case == "seed":
            return seed_report(self, accounting)
        if case not in self._loads:
            self._loads[case] = [stage_loads(stage, self.shape, case) for stage in self.stages]
        return run_report(self.shape, self.stages, case, accounting=accounting, loads=self._loads[case])

    @cached_property
    def shapes(self) -> int:
        """Distinct combinations of active units that an ahead-of-time compiler can meet."""
        return count_shapes(self.stages, self.shape)

    # --- time -------------------------------------------------------------------------------------------

    @property
    def boundaries(self) -> tuple[int, ...]:
        """The steps at which a new stage begins, the first stage's 0 left out."""
        return tuple(stage.start for stage in self.stages[1:])

    def stage_index(self, step: int) -> int:
        """The number of the stage that holds a step, from 0."""
        return bisect_right(self._stops, self._in_run(step))

    def stage_at(self, step: int) -> BoundStage:
        """The stage that holds a step."""
        return self.stages[self.stage_index(step)]

    def progress(self, step: int) -> Fraction:
        """The share of the run that is done before a step: 0 at the first; `steps` itself is the end, 1."""
        return Fraction(step, self.steps)

    # --- identity ---------------------------------------------------------------------------------------

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what the plan means: equal for plans that draw the same, whatever they are called (rule 41)."""
        return identity.digest(self)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of all that the saved file says."""
        return identity.hash_of(storage.content(self))

    def clip(self, step: int) -> Plan:
        """What the plan says of the steps before `step`, and nothing else: nameless, equal neighbours as one stage.

        Two plans agree on those steps if and only if these are equal (rule 42). Raises IndexError outside [1, steps].
        """
        self._in_run(step - 1)
        stages = identity.flat_stages(self.stages, self.shape, step)
        return Plan(name="", seed=self.seed, shape=self.shape, steps=step, partial=True, stages=stages)

    def first_difference(self, other: Plan, before: int | None = None) -> Difference | None:
        """The first thing in which two plans do not mean the same; of the steps before `before` alone, if given."""
        return identity.first_difference(self, other, before)

    def save(self, path: str | Path) -> None:
        """Writes the plan as JSON, whole or not at all. Raises RaptrError (`plan-write`)."""
        storage.save(self, Path(path))

    def __hash__(self) -> int:
        return hash(self.checksum)

    # What was prepared or computed goes neither into copies (which may be updated) nor into pickles.

    def __copy__(self) -> Self:
        return type(self).model_construct(self.model_fields_set, **self._fields())

    def __getstate__(self) -> dict[Any, Any]:
        return super().__getstate__() | {"__dict__": self._fields()}

    def _fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields}

    @cached_property
    def _sampler(self) -> Sampler:
        return Sampler(self.seed, self.shape, self.stages)

    @cached_property
    def _loads(self) -> dict[Case, list[Loads]]:
        """What is the same for every convention."""
        return {}

    @cached_property
    def _stops(self) -> list[int]:
        return [stage.stop for stage in self.stages]

    def _in_run(self, step: int) -> int:
        step = whole(step)
        if 0 <= step < self.steps:
            return step
        raise IndexError(f"step {step} is not one of the plan's, 0 to {self.steps - 1}")


def load_plan(path: str | Path) -> Plan:
    """Reads what `Plan.save` wrote.

    Raises:
        RaptrError: `plan-missing`, `plan-unreadable`, `plan-too-large`, `plan-truncated`, `plan-not-json`,
            `plan-not-a-plan`, `plan-version`, `plan-checksum`, `plan-unknown-field`, `plan-invalid`, `plan-digest`.
    """
    return storage.load(Path(path), Plan)


def _axis(name: str) -> Axis:
    if name in AXES:
        return AXES[name]
    guess = did_you_mean(name, AXES)
    raise ValueError(f"there is no axis {name!r}" + (f"; did you mean {guess!r}?" if guess else f": {', '.join(AXES)}"))
