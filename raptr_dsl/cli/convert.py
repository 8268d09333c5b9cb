"""`raptr convert`: what a run has learned, for another backend or another run."""

from pathlib import Path

import click

from raptr_dsl.cli.common import Once
from raptr_dsl.cli.output import require_writable_folder


@click.command(short_help="Carry a run, or its weights, to another backend.")
@click.argument("source", type=click.Path(), metavar="RUN|CHECKPOINT")
@click.option("--to", cls=Once, metavar="BACKEND", help="Write a run that goes on there: reference, torch or jax.")
@click.option(
    "-o", "--out", cls=Once, type=click.Path(), metavar="PATH", required=True, help="A .safetensors file; or RUN."
)
@click.option(
    "--dtype", cls=Once, type=click.Choice(["float32", "bfloat16", "float64"]), help="Go on in it. [as it was]"
)
def command(source: str, to: str | None, out: str, dtype: str | None) -> None:
    """Carries what a run has learned: the latest checkpoint of RUN, or the CHECKPOINT named.

    With --to it writes a run that `raptr train --resume --out PATH` goes on with on another backend: weights, AdamW's
    moments, counts, log and account. Without it, the weights as a safetensors file for `raptr train --init`.
    """
    from raptr_dsl.registry import load_to_run
    from raptr_dsl.training.convert import convert_run, convert_weights, open_source

    path = Path(out)
    if to is None and path.suffix != ".safetensors":
        raise click.UsageError(f"--out {out} is to be a .safetensors file; to write a run, say --to BACKEND")
    opened = open_source(Path(source))
    backend = load_to_run(opened.settings.backend)
    step = f"step {opened.checkpoint.state.step:,}"
    if to is None:
        require_writable_folder(path)
        convert_weights(opened, backend, path, dtype and dtype.replace("bfloat16", "float32"))
        click.echo(f"weights of {step}: {out}")
        return
    settings = convert_run(opened, backend, load_to_run(to), path, dtype)
    click.echo(f"run at {step}, to go on in {settings.train.dtype} on {to}: raptr train --resume --out {out}")
