"""A thinned run beside its dense control of equal FLOPs: two tables for the terminal."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from raptr_dsl.training import RunSummary
from raptr_dsl.training.comparison import StageSpeed, whole_run


def outcome(summaries: Mapping[str, RunSummary], unit: str) -> Table:
    """What became of each run; `unit` is that of the losses."""
    table = _table("")
    for label in summaries:
        table.add_column(label, justify="right", no_wrap=True)
    runs = summaries.values()
    table.add_row(f"held-out loss ({unit})", *(f"{run.held_out_loss:.4f}" for run in runs))
    table.add_row("FLOPs executed, as planned", *(f"{run.flops:,}" for run in runs))
    table.add_row("optimizer steps", *(f"{run.steps:,}" for run in runs))
    table.add_row("wall-clock of the steps (s)", *(f"{run.seconds:.1f}" for run in runs))
    table.add_row("one step, in the mean (ms)", *(f"{1000 * run.seconds / run.steps:.1f}" for run in runs))
    return table


def speeds(stages: Sequence[StageSpeed]) -> Table:
    """The speed-up of a step over a dense one, by stage and over all steps, beside what the FLOPs allow."""
    table = _table("stage")
    for heading in ("blocks", "fastest step (ms)", "realised", "ideal", "realised ÷ ideal"):
        table.add_column(heading, justify="right", no_wrap=True)
    for stage in (*stages, whole_run(stages)):
        table.add_row(
            stage.name,
            f"{stage.blocks:g}",
            f"{1000 * stage.seconds:.1f}",
            f"{stage.realised:.2f}x",
            f"{stage.ideal:.2f}x",
            f"{stage.efficiency:.2f}",
        )
    return table


def _table(first: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column(first, no_wrap=True)
    return table
