"""What a calibration measured, and what a plan takes by it: two tables for the terminal."""

from rich.table import Table

from raptr_dsl.axes import AXES
from raptr_dsl.ir.plan import Plan
from raptr_dsl.report.layout import stage_label
from raptr_dsl.report.summary import MOST_STAGES, shown_stages
from raptr_dsl.training.calibration import Calibration, SizeTime
from raptr_dsl.training.estimate import TimeEstimate


def calibration_table(calibration: Calibration) -> Table:
    """By size: the fastest step, and its speed-up over the full network beside what FLOPs allow."""
    table = _table("size", "FLOPs of a step", "fastest step (ms)", "realised", "ideal", "realised ÷ ideal")
    for size in calibration.sizes:
        realised, ideal = calibration.realised(size), calibration.ideal(size)
        table.add_row(
            _size_text(calibration, size),
            f"{size.flops:,}",
            f"{1000 * size.seconds:.2f}",
            f"{realised:.2f}x",
            f"{ideal:.2f}x",
            f"{realised / ideal:.2f}",
        )
    return table


def _size_text(calibration: Calibration, size: SizeTime) -> str:
    """In elements: `depth 6/12, width 1536/3072`."""
    texts = []
    for axis, units in size.active.items():
        space = AXES[axis].space(calibration.shape)
        texts.append(f"{axis} {units * space.group}/{space.units * space.group}")
    return ", ".join(texts) or "full"


def time_table(plan: Plan, times: TimeEstimate) -> Table:
    """By stage: the time of its steps beside that of as many full ones."""
    table = _table("time by calibration", "steps", "planned", "full", "speed-up", "sizes")
    for index in shown_stages(len(plan.stages)):
        if index is None:
            table.add_row("…", f"{len(plan.stages) - MOST_STAGES:,} more")
            continue
        stage = times.stages[index]
        told = "measured" if stage.measured else "interpolated"
        row = (*_pair(stage.seconds, stage.dense_seconds), told)
        table.add_row(stage_label(plan, index), f"{stage.steps:,}", *row)
    all_measured = all(stage.measured for stage in times.stages)
    row = (*_pair(times.seconds, times.dense_seconds), "measured" if all_measured else "partly interpolated")
    table.add_row("run", f"{plan.steps:,}", *row)
    return table


def _pair(seconds: float, dense: float) -> tuple[str, str, str]:
    return duration_text(seconds), duration_text(dense), f"{dense / seconds:.2f}x"


def duration_text(seconds: float) -> str:
    """`3.21 s`, `14.5 min`, `7.25 h`, `12.3 days`."""
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _table(first: str, *headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table
