"""The options of a training run, and the settings that follow from them and from what a run began with."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raptr_dsl.backend.settings import TrainSettings
from raptr_dsl.cli.common import Count, Once
from raptr_dsl.diagnostics import did_you_mean

if TYPE_CHECKING:
    from raptr_dsl.data import TokenDataset
    from raptr_dsl.training import RunSettings

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")
"""What NumPy and the frameworks ask for the number of threads, once, when they are imported; NPROC is XLA's."""


class TokenizerName(click.ParamType[str]):
    """`bytes`, or `bpe:8192` with the size of its vocabulary."""

    name = "tokenizer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        kind, colon, size = value.partition(":")
        if kind == "bytes" and not colon:
            return value
        if kind == "bpe" and (not colon or (size.isascii() and size.isdigit())):
            return value
        nearest = did_you_mean(kind, ("bytes", "bpe"))
        hint = f"; did you mean {nearest}?" if nearest and nearest != kind else ""
        self.fail(f"{value!r} is neither bytes nor bpe:VOCABULARY{hint}", param, ctx)


# The fields of `TrainSettings` that can be given: option, type, help.
_OPTIMIZER = (
    ("lr", float, "Peak learning rate."),
    ("warmup", Count(), "Steps of linear warm-up."),
    ("lr-schedule", click.Choice(["cosine", "constant"]), "Learning rate after the warm-up."),
    ("lr-floor", float, "Where the cosine ends, as a share of the peak."),
    ("weight-decay", float, "Decoupled weight decay, of matrices."),
    ("beta1", float, "Of AdamW."),
    ("beta2", float, "Of AdamW."),
    ("clip", float, "Bound on the norm of the gradient."),
    ("micro-batches", Count(1), "Parts in which a batch is computed."),
    ("dtype", click.Choice(["float32", "bfloat16", "float64"]), "Precision."),
    ("init-seed", Count(), "Seed of the initial weights."),
)
# Further ones, with their defaults: those of `RunSettings` and `Cadence`.
_OTHERS = (
    ("tokenizer", TokenizerName(), "bytes, or bpe:VOCABULARY.", "bytes"),
    ("backend", str, "What trains.", "torch"),
    ("data-seed", Count(), "Seed of the order of the batches.", 0),
    ("eval-every", Count(), "Steps between held-out losses; 0 for one at the end.", 100),
    ("eval-batches", Count(1), "Batches of an evaluation.", 8),
    ("checkpoint-every", Count(), "Steps between checkpoints; 0 for one at the end.", 500),
    ("log-every", Count(1), "Steps between lines of the log.", 10),
    ("peak-tflops", float, "What the devices could do, for MFU in the log.", "no MFU"),
    ("threads", Count(1), "CPU threads.", "the framework's choice"),
)


def run_options(command: Any) -> Any:
    """Adds every option above; None where it is not given, so that a resume can tell."""
    defaults = TrainSettings.model_fields
    rows = [(*row, defaults[row[0].replace("-", "_")].default) for row in _OPTIMIZER]
    for name, kind, help, default in reversed([*_OTHERS, *rows]):
        metavar = None if isinstance(kind, click.Choice) else "N" if isinstance(kind, Count) else "X"
        command = click.option(f"--{name}", cls=Once, type=kind, metavar=metavar, help=f"{help} [{default}]")(command)
    for option in (
        click.option(
            "--init", cls=Once, type=click.Path(), metavar="FILE", help="Begin with its weights (safetensors)."
        ),
        click.option(
            "--shard-parameters/--whole-parameters", default=None, help="Split parameters over devices. [whole]"
        ),
    ):
        command = option(command)
    return command


def set_threads(threads: int | None) -> None:
    """Has to come before NumPy or a framework is imported."""
    if threads is not None:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))


def run_settings(
    ctx: click.Context, data: tuple[str, ...], given: Mapping[str, Any], before: "RunSettings | None"
) -> "RunSettings":
    """What a run is told: what is given, else what it began with, else the defaults; the data are yet to be read.

    Raises:
        UsageError: no data are named, or a value is out of its range.
        RaptrError: `weights-file`.
    """
    from pydantic import ValidationError

    from raptr_dsl.data import STDLIB
    from raptr_dsl.training import Cadence, RunSettings
    from raptr_dsl.training.weights import initial_weights

    def told(kind: Any) -> dict[str, Any]:
        return {name: given[name] for name in kind.model_fields if name in given}

    paths = tuple(path if path == STDLIB else str(Path(path).absolute()) for path in data)
    values = before.model_dump() if before else {"backend": "torch", "train": {}, "cadence": {}, "data": {}}
    values |= told(RunSettings)
    if "init" in given:
        values["init"] = initial_weights(Path(given["init"]))
    values["train"] |= told(TrainSettings)
    if before is None:
        values["train"].setdefault("dtype", _usual_dtype(values["backend"]))
    values["cadence"] |= told(Cadence)
    values["data"] = {"tokenizer": "bytes", "sha256": "", **values["data"]}
    values["data"] |= {"paths": paths} if paths else {}
    values["data"] |= {"tokenizer": given["tokenizer"]} if "tokenizer" in given else {}
    if not values["data"].get("paths"):
        raise click.UsageError(f"--data is missing: name text files or folders, or {STDLIB}", ctx)
    try:
        return RunSettings(**values)
    except ValidationError as error:
        problems = (
            f"--{str(item['loc'][-1]).replace('_', '-')} {item['input']}: {item['msg'].lower()}"
            for item in error.errors()
        )
        raise click.UsageError("; ".join(problems), ctx) from None


def _usual_dtype(backend: str) -> str:
    """The usual precision, where that backend has it. Raises RaptrError where the backend cannot be had."""
    from raptr_dsl import registry

    dtypes, usual = registry.load(backend).capabilities.dtypes, TrainSettings.model_fields["dtype"].default
    return usual if usual in dtypes or not dtypes else min(dtypes)


def open_data(settings: "RunSettings") -> "tuple[TokenDataset, RunSettings]":
    """The data of a run, and its settings with their identity. Raises RaptrError where they cannot be had."""
    from raptr_dsl.data import open_dataset

    kind, _, size = settings.data.tokenizer.partition(":")
    dataset = open_dataset(settings.data.paths, tokenizer=kind, vocab_size=int(size) if size else None)
    identity = settings.data.model_copy(update={"sha256": dataset.digest})
    return dataset, settings.model_copy(update={"data": identity})
