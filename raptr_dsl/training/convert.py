"""What a run has learned, carried on: its weights as a file, or the run itself to be resumed on another backend."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from raptr_dsl.backend import Backend
from raptr_dsl.backend.checks import require_settings
from raptr_dsl.backend.state import TrainerState
from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.plan import Plan
from raptr_dsl.training.checkpoints import Checkpoint, Checkpoints, read_checkpoint
from raptr_dsl.training.files import writing
from raptr_dsl.training.folder import RunFolder, open_folder
from raptr_dsl.training.journal import Journal
from raptr_dsl.training.settings import RunSettings
from raptr_dsl.training.weights import write_weights

FOLDER_OF_CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint of a run, and what the run was told."""

    folder: RunFolder
    checkpoint: Checkpoint
    plan: Plan
    settings: RunSettings

    def state(self, backend: Backend) -> TrainerState:
        """What the trainer had learned; of the backend that the run was trained on.

        Raises:
            RaptrError: `trainer-checkpoint`.
        """
        trainer = backend.trainer(self.plan, self.settings.train)
        trainer.load(self.checkpoint.trainer)
        return trainer.export_state()


def open_source(path: Path) -> Source:
    """The latest complete checkpoint of a run, or the one whose folder is named.

    Raises:
        RaptrError: `convert-run`, `convert-checkpoint`, `train-run-damaged`.
    """
    path = path.absolute()
    named = path.parent.name == FOLDER_OF_CHECKPOINTS
    folder = RunFolder(path.parent.parent if named else path)
    if not folder.begun:
        raise fail(
            "convert-run",
            f"there is no run in {folder.path}: it has no plan.json",
            subject=str(path),
            help="name the folder that raptr train --out wrote, or one of its checkpoints",
        )
    plan, settings = folder.plan(), folder.settings()
    found = read_checkpoint(path) if named else _latest(folder)
    if isinstance(found, str):
        raise fail("convert-checkpoint", found, subject=str(path), help="train on, or name another checkpoint")
    return Source(folder, found, plan, settings)


def _latest(folder: RunFolder) -> Checkpoint | str:
    checkpoint, warnings = Checkpoints(folder.checkpoints).latest()
    if checkpoint is not None:
        return checkpoint
    return "every checkpoint of the run is damaged" if warnings else "the run has no checkpoint yet"


def convert_weights(source: Source, backend: Backend, path: Path, dtype: str | None = None) -> None:
    """Writes the weights of a checkpoint as a safetensors file, which `raptr train --init` takes on any backend.

    Args:
        backend: that of the run. dtype: `float32` or `float64`, if not as they are.

    Raises:
        RaptrError: `trainer-checkpoint`, `train-write`, `train-disk-full`.
    """
    state = source.state(backend)
    state = state.cast(dtype) if dtype else state
    step, plan = str(source.checkpoint.state.step), source.checkpoint.plan
    write_weights(path, state.parameters, step=step, plan=plan, backend=backend.name)


def convert_run(source: Source, backend: Backend, target: Backend, path: Path, dtype: str | None = None) -> RunSettings:
    """Makes a folder from which `raptr train --resume` goes on where the checkpoint is, on another backend.

    It has the same plan, data and settings, the log so far, and one checkpoint: weights, moments, counts and account.

    Args:
        backend: that of the run. dtype: in which to go on; wider holds the same values, narrower rounds them.

    Returns:
        What the new run is told.

    Raises:
        RaptrError: what the target refuses; `weights-dtype`, `convert-counts`, `train-out-occupied`, `train-write`.
    """
    train = source.settings.train.model_copy(update={"dtype": dtype} if dtype else {})
    settings = source.settings.model_copy(update={"backend": target.name, "train": train})
    require_settings(train, target.name, target.capabilities)
    with open_folder(path, resume=False) as folder:
        try:
            trainer = target.trainer(source.plan, train)
            state = source.state(backend)
            trainer.import_state(state.cast(_stored(dtype)) if dtype else state)
            log_bytes = _carry_log(source, folder, backend, target)
            kept = source.checkpoint.state.model_copy(update={"log_bytes": log_bytes})
            Checkpoints(folder.checkpoints).save(trainer, kept, source.checkpoint.plan)
            folder.begin(source.plan, settings)
        except BaseException:
            shutil.rmtree(folder.checkpoints, ignore_errors=True)
            folder.log_file.unlink(missing_ok=True)
            raise
    return settings


def _stored(dtype: str) -> str:
    """The dtype of weights and moments: bfloat16 is mixed precision."""
    return "float64" if dtype == "float64" else "float32"


def _carry_log(source: Source, folder: RunFolder, backend: Backend, target: Backend) -> int:
    """Copies the log up to the checkpoint, and notes where the run comes from; its length."""
    kept = source.checkpoint.state
    with writing("the log", folder.log_file):
        folder.log_file.write_bytes(source.folder.log_file.read_bytes()[: kept.log_bytes])
    journal = Journal(folder.log_file)
    try:
        journal.write({"event": "convert", "step": kept.step, "from": backend.name, "to": target.name})
        return journal.sync()
    finally:
        journal.close()
