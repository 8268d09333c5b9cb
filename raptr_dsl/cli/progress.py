"""How far a run is: bars on a terminal, plain lines elsewhere. All of it goes to standard error."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from raptr_dsl.cli.common import show_diagnostics
from raptr_dsl.diagnostics import Diagnostic
from raptr_dsl.training import Reporter

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from raptr_dsl.ir.plan import Plan

SECONDS_BETWEEN_LINES = 5.0


class Watch:
    """Makes the reporters of one or several runs that share a screen."""

    def __init__(self, progress: "Progress | None") -> None:
        self._progress = progress

    def reporter(self, plan: "Plan", label: str) -> Reporter:
        """What a run of the plan reports to; `label` tells it from others."""
        if self._progress is None:
            return PlainReporter(plan, label)
        return BarReporter(plan, label, self._progress)


@contextmanager
def watching() -> Iterator[Watch]:
    """Bars while the block lasts if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield Watch(None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}", markup=False, table_column=Column(no_wrap=True)),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True, markup=False, highlight=False, emoji=False)) as progress:
        yield Watch(progress)


class PlainReporter(Reporter):
    """Lines that read well in a file: every stage and evaluation, and in between one every few seconds."""

    def __init__(self, plan: "Plan", label: str) -> None:
        self._plan, self._label, self._last = plan, label, 0.0

    def begin(self, step: int) -> None:
        if step:
            self._say(step, "goes on from the checkpoint")

    def record(self, record: Mapping[str, Any]) -> None:
        if record["event"] == "train" and monotonic() - self._last < SECONDS_BETWEEN_LINES:
            return
        text = describe(record, self._plan)
        if text:
            self._last = monotonic()
            self._say(record["step"], text)

    def warn(self, diagnostic: Diagnostic) -> None:
        show_diagnostics([diagnostic])

    def _say(self, step: int, text: str) -> None:
        click.echo(f"{self._label} {step:,}/{self._plan.steps:,}  {text}", err=True)


class BarReporter(Reporter):
    """One bar of a shared display."""

    def __init__(self, plan: "Plan", label: str, progress: "Progress") -> None:
        self._plan, self._progress = plan, progress
        self._task: TaskID = progress.add_task(label, total=plan.steps, facts="")
        self._facts = {"train": "", "eval": ""}

    def begin(self, step: int) -> None:
        self._progress.update(self._task, completed=step)

    def step(self, step: int, loss: float) -> None:
        self._progress.update(self._task, completed=step)

    def record(self, record: Mapping[str, Any]) -> None:
        if record["event"] in self._facts:
            self._facts[record["event"]] = _brief(record, self._plan)
            self._progress.update(self._task, facts="  ".join(filter(None, self._facts.values())))

    def warn(self, diagnostic: Diagnostic) -> None:
        self._progress.console.print(f"{diagnostic.severity}: {diagnostic.message}")


def describe(record: Mapping[str, Any], plan: "Plan") -> str:
    """A record of the log in words; "" for what needs none."""
    if record["event"] == "stage":
        return f"stage {record['name'] or record['stage'] + 1}"
    if record["event"] == "train":
        return (
            f"{_sizes(record, plan)}loss {record['subnetwork_training_loss']:.3f} ({_trained(plan)})  "
            f"{record['tokens_per_second']:,.0f} tokens/s{_utilisation(record)}"
        )
    if record["event"] == "eval":
        return f"held-out loss {record['full_network_held_out_loss']:.4f} (full network)"
    return ""


def _brief(record: Mapping[str, Any], plan: "Plan") -> str:
    """The same beside a bar, where room is short."""
    if record["event"] == "eval":
        return f"held-out {record['full_network_held_out_loss']:.3f}"
    return f"{_sizes(record, plan)}{_trained(plan)} {record['subnetwork_training_loss']:.3f}"


def _utilisation(record: Mapping[str, Any]) -> str:
    return f"  MFU {record['mfu']:.1%}" if "mfu" in record else ""


def _trained(plan: "Plan") -> str:
    """Whose training loss it is: a subnetwork's is not comparable with the full network's."""
    return "subnetwork" if any(stage.axes for stage in plan.stages) else "training"


def _sizes(record: Mapping[str, Any], plan: "Plan") -> str:
    """The active sizes of the axes that the plan thins: `depth 6, width 256  `."""
    thinned = [name for name in record["active"] if any(name in stage.axes for stage in plan.stages)]
    sizes = ", ".join(f"{name} {record['active'][name]:g}" for name in thinned)
    return f"{sizes}  " if sizes else ""
