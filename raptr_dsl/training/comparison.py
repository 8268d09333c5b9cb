"""Two runs side by side: training that takes turns, and what their logs say of speed."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from raptr_dsl.ir.plan import Plan
from raptr_dsl.training.loop import Run
from raptr_dsl.training.record import Record
from raptr_dsl.training.stop import Stop


def take_turns(runs: Sequence[Run], stop: Stop) -> None:
    """Trains all runs to their ends, always the one that has spent the fewest FLOPs, up to its next evaluation.

    A machine has slow minutes and fast ones; turns of seconds let every run have its share of both.
    """
    while not stop.requested:
        unfinished = [run for run in runs if not run.is_done]
        if not unfinished:
            return
        run = min(unfinished, key=lambda run: run.planned_flops)
        every = run.settings.cadence.eval_every or run.plan.steps
        run.advance(min((run.step // every + 1) * every, run.plan.steps), stop)


class StageSpeed(Record, frozen=True):
    """How fast the steps of a stage were, beside full steps of a dense run.

    Attributes:
        name: of the stage. blocks: that ran, in the mean.
        flops: of a step, blocks and head, exactly or in expectation.
        seconds: of the fastest step: what the machine can do when nothing disturbs it.
        dense_seconds: of the fastest dense step of that time. realised: the speed-up. ideal: what the FLOPs allow.
    """

    name: str
    blocks: float
    steps: int
    flops: float
    seconds: float
    dense_seconds: float
    ideal: float

    @property
    def realised(self) -> float:
        return self.dense_seconds / self.seconds

    @property
    def efficiency(self) -> float:
        return self.realised / self.ideal


def stage_speeds(
    plan: Plan, log: Sequence[Mapping[str, Any]], dense: Plan, dense_log: Sequence[Mapping[str, Any]]
) -> list[StageSpeed]:
    """The speed of every stage of a run, against a run that trains the full network in every step.

    The runs took turns at equal FLOPs: the dense steps of about the same FLOPs are those of about the same time.
    """
    full_flops = dense.flops().total / dense.steps
    speeds, spent = [], 0
    for index, (stage, cost) in enumerate(zip(plan.stages, plan.flops().stages, strict=True)):
        lines = [line for line in _training(log) if line["stage"] == index]
        until = lines[-1]["flops"]["executed"]
        meanwhile = [line for line in _training(dense_log) if spent < line["flops"]["executed"] <= until]
        spent, flops = until, cost.total / stage.steps
        speeds.append(
            StageSpeed(
                name=stage.name or str(index + 1),
                blocks=lines[-1]["active"]["depth"],
                steps=stage.steps,
                flops=float(flops),
                seconds=_fastest(lines),
                dense_seconds=_fastest(meanwhile or _training(dense_log)),
                ideal=float(Fraction(full_flops) / flops),
            )
        )
    return speeds


def whole_run(stages: Sequence[StageSpeed]) -> StageSpeed:
    """All stages as one: the mean step, weighted by the stages' steps."""
    steps = sum(stage.steps for stage in stages)

    def mean(values: Iterable[float]) -> float:
        return sum(value * stage.steps for value, stage in zip(values, stages, strict=True)) / steps

    return StageSpeed(
        name="whole run",
        blocks=mean(stage.blocks for stage in stages),
        steps=steps,
        flops=mean(stage.flops for stage in stages),
        seconds=mean(stage.seconds for stage in stages),
        dense_seconds=mean(stage.dense_seconds for stage in stages),
        ideal=1 / mean(1 / stage.ideal for stage in stages),
    )


def held_out(log: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[float]]:
    """FLOPs executed and held-out loss of the full network at every evaluation."""
    lines = [line for line in log if line["event"] == "eval"]
    return [line["flops"]["executed"] for line in lines], [line["full_network_held_out_loss"] for line in lines]


def switches(log: Sequence[Mapping[str, Any]]) -> list[int]:
    """FLOPs executed when each stage began."""
    spent, starts = 0, []
    for line in log:
        if line["event"] == "stage":
            starts.append(spent)
        elif line["event"] == "train":
            spent = line["flops"]["executed"]
    return starts


def _fastest(lines: Sequence[Mapping[str, Any]]) -> float:
    return min(line["fastest_step_seconds"] for line in lines)


def _training(log: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [line for line in log if line["event"] == "train"]
