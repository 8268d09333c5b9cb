"""Checkpoints: folders `step-N`, each complete or not there at all.

A checkpoint is written into a hidden folder, given a manifest with the SHA-256 of every file, brought to disk
and renamed. The latest is found by looking: the highest step whose files are what its manifest says.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from raptr_dsl.backend import Scattered, Trainer
from raptr_dsl.backend.processes import ALONE, Processes
from raptr_dsl.diagnostics import Diagnostic, RaptrError, fail
from raptr_dsl.training.errors import with_notes
from raptr_dsl.training.files import sync_file, sync_folder, writing
from raptr_dsl.training.record import Record

KEPT = 2
MANIFEST, STATE, TRAINER = "manifest.json", "state.json", "trainer"
_NAME = re.compile(r"step-(0|[1-9][0-9]*)")
_PROBE_BYTES = 1 << 20


class Interval(Record, frozen=True):
    """What has gathered since the last line of the log.

    `units`, `tokens` and `flops` are the planned ones when the interval began; see `account.Account`.
    """

    start: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    fastest: float | None = None
    units: dict[str, int] = Field(default_factory=dict)
    tokens: int = 0
    flops: int = 0


class State(Record, frozen=True):
    """Where the loop stood: everything of a run that neither the plan nor the trainer knows.

    Attributes:
        step: optimizer steps done.
        log_bytes: the length of the log.
        seconds: time spent in optimizer steps.
        held_out_loss: of the last evaluation.
    """

    step: int
    log_bytes: int
    seconds: float
    held_out_loss: float | None
    interval: Interval


class FileRecord(Record, frozen=True):
    bytes: int
    sha256: str


class Manifest(Record, frozen=True):
    """The files of a checkpoint by their path in it; `plan` is the digest of the plan that led to it."""

    format: Literal["raptr-checkpoint-1"] = "raptr-checkpoint-1"
    step: int
    plan: str
    files: dict[str, FileRecord]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint."""

    path: Path
    state: State
    plan: str

    @property
    def trainer(self) -> Path:
        """The folder that the trainer wrote."""
        return self.path / TRAINER


class Checkpoints:
    """The checkpoints of one run, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, trainer: Trainer, state: State, plan_digest: str, processes: Processes = ALONE) -> Path:
        """Writes the checkpoint of a step, then drops all but the last two; called in every process of a run.

        Where a trainer's state lies in parts, every process writes its own into the folder that process 0 has made.

        Raises:
            RaptrError: `train-disk-full`, `train-write`; then earlier checkpoints stay, and nothing else.
        """
        temporary = self.folder / f".new-step-{state.step}"
        try:
            processes.first(lambda: self._begin(temporary))
            if isinstance(trainer, Scattered):
                self._write_parts(trainer, temporary, processes)
            return processes.first(lambda: self._complete(temporary, trainer, state, plan_digest))
        finally:
            if processes.rank == 0:
                shutil.rmtree(temporary, ignore_errors=True)

    def _begin(self, temporary: Path) -> None:
        """Makes the hidden folder to write into."""
        with self._writing(temporary):
            self.folder.mkdir(exist_ok=True)
            temporary.mkdir()
            (temporary / TRAINER).mkdir()

    def _write_parts(self, trainer: Scattered, temporary: Path, processes: Processes) -> None:
        """Goes on only if every process has written its part."""
        problem: Exception | None = None
        try:
            with self._writing(temporary), _probing(temporary):
                trainer.save_part(temporary / TRAINER)
        except Exception as error:  # the others wait to hear of it
            problem = error
        failed = processes.any(problem is not None)
        if problem is not None:
            raise problem
        if failed:
            raise fail(
                "train-write", "another process could not write its part of the checkpoint", subject=str(self.folder)
            )

    def _complete(self, temporary: Path, trainer: Trainer, state: State, plan_digest: str) -> Path:
        final = self.folder / f"step-{state.step}"
        with self._writing(final):
            _write(temporary, trainer, state, plan_digest)
            if final.exists():
                self._remove(final)
            os.replace(temporary, final)
            sync_folder(self.folder)
        with writing("the folder of checkpoints", self.folder):
            for step in [step for step in self._steps() if step <= state.step][KEPT:]:
                self._remove(self.folder / f"step-{step}")
        return final

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        """Says of what fails inside which checkpoint is intact."""
        try:
            with writing("the checkpoint", path.with_name(path.name.removeprefix(".new-"))):
                yield
        except RaptrError as error:
            kept = next(iter(self._steps()), None)
            note = "no checkpoint had been written" if kept is None else f"step-{kept} is intact"
            raise with_notes(error, note) from error

    def latest(self) -> tuple[Checkpoint | None, list[Diagnostic]]:
        """The newest complete checkpoint, and a warning for each newer one that is damaged."""
        warnings = []
        for step in self._steps():
            path = self.folder / f"step-{step}"
            found = _read(path, step)
            if isinstance(found, Checkpoint):
                return found, warnings
            warnings.append(
                Diagnostic(
                    "train-checkpoint-damaged",
                    f"step-{step} is damaged and is passed over: {found}",
                    subject=str(path),
                    severity="warning",
                )
            )
        return None, warnings

    def clear_debris(self, after: int) -> None:
        """Removes what kills left behind, and sets damaged checkpoints of steps beyond `after` aside."""
        if not self.folder.is_dir():
            return
        with writing("the folder of checkpoints", self.folder):
            for entry in self.folder.glob(".*"):
                shutil.rmtree(entry)
            for step in [step for step in self._steps() if step > after]:
                aside = self.folder / f"damaged-step-{step}"
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(self.folder / f"step-{step}", aside)

    def _steps(self) -> list[int]:
        """The steps with a checkpoint, latest first."""
        if not self.folder.is_dir():
            return []
        names = (_NAME.fullmatch(entry.name) for entry in self.folder.iterdir())
        return sorted((int(name[1]) for name in names if name), reverse=True)

    def _remove(self, path: Path) -> None:
        """Hides a checkpoint before it is deleted, so that a kill in between leaves no half of one."""
        hidden = path.with_name(f".old-{path.name}")
        os.replace(path, hidden)
        shutil.rmtree(hidden)


def _write(folder: Path, trainer: Trainer, state: State, plan_digest: str) -> None:
    with _probing(folder):
        trainer.save(folder / TRAINER)
    (folder / STATE).write_bytes(state.model_dump_json().encode())
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    records = {
        path.relative_to(folder).as_posix(): FileRecord(bytes=path.stat().st_size, sha256=_sha256(path))
        for path in files
    }
    manifest = Manifest(step=state.step, plan=plan_digest, files=records)
    (folder / MANIFEST).write_bytes(manifest.model_dump_json(indent=1).encode())
    for path in [*files, folder / MANIFEST]:
        sync_file(path)
    for path in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        sync_folder(path)


@contextmanager
def _probing(folder: Path) -> Iterator[None]:
    """Frameworks write with their own code and report a full disk by an error of their own: looks itself."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        _probe(folder, error)
        raise


def _probe(folder: Path, cause: Exception) -> None:
    """Raises OSError if the folder's disk cannot take another file either."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    pieces = 1 + max(sizes, default=0) // _PROBE_BYTES
    probe = folder / ".probe"
    try:
        with probe.open("wb") as file:
            for _ in range(pieces):
                file.write(b"\1" * _PROBE_BYTES)
                file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise error from cause
    finally:
        probe.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> Checkpoint | str:
    """The checkpoint in that folder, or in words what is wrong with it."""
    name = _NAME.fullmatch(path.name)
    return _read(path, int(name[1])) if name else f"{path.name} is no checkpoint: they are called step-N"


def _read(path: Path, step: int) -> Checkpoint | str:
    try:
        manifest = Manifest.model_validate_json((path / MANIFEST).read_bytes())
        if manifest.step != step:
            return f"its manifest is of step {manifest.step}"
        for problem in _problems(path, manifest):
            return problem
        state = State.model_validate_json((path / STATE).read_bytes())
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"it cannot be read: {(error.strerror or str(error)).lower()}"
    except (ValidationError, json.JSONDecodeError):
        return f"{MANIFEST} or {STATE} is not what was written"
    return Checkpoint(path, state, manifest.plan)


def _problems(path: Path, manifest: Manifest) -> Iterator[str]:
    if STATE not in manifest.files:
        yield f"{MANIFEST} names no {STATE}"
    for name, record in manifest.files.items():
        size = (path / name).stat().st_size
        if size != record.bytes:
            yield f"{name} has {size:,} bytes instead of {record.bytes:,}"
        elif _sha256(path / name) != record.sha256:
            yield f"{name} is not what was written: its SHA-256 differs"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
