"""What a run is told: what decides its numbers, and how often it reports."""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, field_serializer

from raptr_dsl.backend.settings import TrainSettings
from raptr_dsl.training.record import Record


class DataIdentity(Record, frozen=True):
    """Which tokens a run reads.

    Attributes:
        paths: where the text was found; it may lie elsewhere at a resume.
        tokenizer: as asked for, `bytes` or `bpe:8192`.
        sha256: of text, tokenizer and split: `TokenDataset.digest`.
    """

    paths: tuple[str, ...] = ()
    tokenizer: str
    sha256: str


class InitialWeights(Record, frozen=True):
    """The file of weights that a run began with; it may lie elsewhere at a resume."""

    path: str
    sha256: str


class Cadence(Record, frozen=True):
    """How often a run reports and saves, in optimizer steps; 0 is only at the end. A resume may change it.

    `peak_tflops`: what all its devices could do, in 10^12 FLOPs a second; with it the log tells the share used (MFU).
    """

    log_every: int = Field(default=10, ge=1)
    eval_every: int = Field(default=100, ge=0)
    checkpoint_every: int = Field(default=500, ge=0)
    peak_tflops: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class RunSettings(Record, frozen=True):
    """All that decides a run's numbers besides its plan; what `settings.json` holds.

    Attributes:
        data_seed: of the order of the batches.
        eval_batches: held-out batches of an evaluation.
        init: the weights to begin with, instead of those of `train.init_seed`.
        threads: CPU threads; None for the framework's choice. Another number may round sums otherwise.
    """

    format: Literal["raptr-run-1"] = "raptr-run-1"
    backend: str
    train: TrainSettings
    data: DataIdentity
    data_seed: int = Field(default=0, ge=0, lt=2**64)
    eval_batches: int = Field(default=8, ge=1)
    init: InitialWeights | None = None
    threads: int | None = Field(default=None, ge=1)
    cadence: Cadence = Cadence()

    @field_serializer("train")
    def _whole(self, train: TrainSettings) -> dict[str, Any]:
        return {name: getattr(train, name) for name in TrainSettings.model_fields}


# What may change from one resume to the next without changing what is learned.
_FREE = ("cadence.", "data.paths", "init.path", "threads", "train.shard_parameters")


def differences(before: RunSettings, now: RunSettings) -> list[tuple[str, Any, Any]]:
    """(name, before, now) of everything in which two runs differ that decides their numbers."""
    old, new = dict(_flat(before.model_dump())), dict(_flat(now.model_dump()))
    return [
        (name, old.get(name), new.get(name))
        for name in dict.fromkeys([*old, *new])
        if not name.startswith(_FREE) and old.get(name) != new.get(name)
    ]


_OWN = ("cadence.peak_tflops", "data.paths", "init.path", "threads")


def shared_settings(settings: RunSettings) -> dict[str, Any]:
    """By name, what has to be the same in all processes of a run: all but where files lie, and threads."""
    return {name: value for name, value in _flat(settings.model_dump()) if name not in _OWN}


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
