"""`raptr train --calibrate`: the time of a step at each size of a plan, for `raptr cost --calibration`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raptr_dsl.cli.common import output_console, print_trimmed
from raptr_dsl.cli.output import require_replaceable, require_writable_folder, write_text

if TYPE_CHECKING:
    from raptr_dsl.backend import Backend
    from raptr_dsl.ir.plan import Plan
    from raptr_dsl.training import RunSettings

CALIBRATION = re.compile(rb'\s*\{\s*"format":\s*"raptr-calibration-')


def measure(plan: "Plan", backend: "Backend", settings: "RunSettings", rounds: int, out: Path) -> None:
    """Measures, prints a table, and writes the calibration as a whole. Raises RaptrError."""
    from raptr_dsl.cli.progress import watching
    from raptr_dsl.report.calibration import calibration_table
    from raptr_dsl.training.calibrate import calibrate, measuring_plan, sizes_of

    require_replaceable(out, CALIBRATION, "a calibration", force=None)
    require_writable_folder(out)
    sizes = sizes_of(plan)
    steps = measuring_plan(plan, sizes, rounds)
    click.echo(
        f"measuring {len(sizes)} sizes in {rounds} {'round' if rounds == 1 else 'rounds'}: {steps.steps:,} steps",
        err=True,
    )
    with watching() as watch:
        reporter = watch.reporter(steps, plan.name)
        found = calibrate(plan, backend, settings.train, rounds=rounds, threads=settings.threads, reporter=reporter)
    write_text(out, found.model_dump_json(indent=2) + "\n")
    print_trimmed(output_console(), calibration_table(found))
    click.echo(f"calibration: {out}")
