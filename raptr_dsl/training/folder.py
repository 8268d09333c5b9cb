"""The folder of a run, and the lock that keeps a second process out of it.

plan.json       the plan; its presence says that the run has begun
settings.json   all else that decides the run's numbers, and the identity of its data
log.jsonl       see `journal`
checkpoints/    see `checkpoints`
summary.json    what came of it, once it is finished
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from raptr_dsl.diagnostics import fail
from raptr_dsl.files import replacing
from raptr_dsl.ir.plan import Plan, load_plan
from raptr_dsl.training.files import writing
from raptr_dsl.training.record import Record
from raptr_dsl.training.settings import RunSettings

LOCK = ".lock"
_BEFORE_BEGUN = frozenset({LOCK, "settings.json", ".settings.json.new", ".plan.json.new"})


class RunFolder:
    """Where a run keeps everything; held by this process alone while it is open (see `open_folder`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan_file = path / "plan.json"
        self.settings_file = path / "settings.json"
        self.log_file = path / "log.jsonl"
        self.checkpoints = path / "checkpoints"
        self.summary_file = path / "summary.json"

    @property
    def begun(self) -> bool:
        return self.plan_file.exists()

    def begin(self, plan: Plan, settings: RunSettings) -> None:
        """Makes the folder one of a run. Raises RaptrError where it cannot be written."""
        self.write_settings(settings)
        self.write_plan(plan)

    def write_plan(self, plan: Plan) -> None:
        with writing("the plan", self.plan_file):
            plan.save(self.plan_file)

    def write_settings(self, settings: RunSettings) -> None:
        self._write("the settings", self.settings_file, settings)

    def write_summary(self, summary: Record) -> None:
        self._write("the summary", self.summary_file, summary)

    def _write(self, what: str, path: Path, value: Record) -> None:
        with writing(what, path), replacing(path) as file:
            file.write(value.model_dump_json(indent=2).encode() + b"\n")

    def plan(self) -> Plan:
        """The plan of the run. Raises RaptrError where the file is damaged."""
        return load_plan(self.plan_file)

    def settings(self) -> RunSettings:
        """The settings of the run. Raises RaptrError where the file is missing or damaged."""
        try:
            return RunSettings.model_validate_json(self.settings_file.read_bytes())
        except OSError as error:
            problem = (error.strerror or str(error)).lower()
        except ValidationError as error:
            problem = f"{error.error_count()} of its entries are not what raptr writes"
        raise fail(
            "train-run-damaged",
            f"the settings of the run cannot be read: {problem}",
            subject=str(self.settings_file),
            help="train into another folder",
        )


@contextmanager
def open_folder(path: Path, *, resume: bool) -> Iterator[RunFolder]:
    """The folder of a run that may begin, or with `resume` go on; if none begins after all, no trace is left.

    Raises:
        RaptrError: `train-out-occupied`, `train-out-foreign`, `train-locked`, `train-write`.
    """
    folder, is_new = RunFolder(path), not path.exists()
    with locked(path):
        try:
            require_usable(path, resume)
            yield folder
        finally:
            if not folder.begun:
                _leave_no_trace(folder, remove_folder=is_new)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """A folder, made if need be, that no other process can have by this function while the block lasts.

    Raises:
        RaptrError: `train-locked`, `train-write`.
    """
    with writing("the folder", path):
        path.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
    try:
        yield
    finally:
        os.close(lock)


def _leave_no_trace(folder: RunFolder, remove_folder: bool) -> None:
    with suppress(OSError):
        if _is_blank(folder.path):
            folder.settings_file.unlink(missing_ok=True)
        (folder.path / LOCK).unlink()
        if remove_folder:
            folder.path.rmdir()


def _is_blank(path: Path) -> bool:
    """Whether there is nothing but what a start leaves that was killed before the run began."""
    return {entry.name for entry in path.iterdir()} <= _BEFORE_BEGUN


def require_usable(path: Path, resume: bool) -> None:
    """Raises RaptrError (`train-out-occupied`, `train-out-foreign`) where no run can begin, or with `resume` go on."""
    folder = RunFolder(path)
    if not path.is_dir():
        return
    if folder.begun:
        if resume:
            return
        raise fail(
            "train-out-occupied",
            f"there is a run in {folder.path} already",
            subject="--out",
            help="go on with it by --resume, or name another folder",
        )
    if _is_blank(folder.path):
        return
    if resume:
        raise fail(
            "train-out-foreign",
            f"{folder.path} is not empty, and holds no run to go on with: it has no plan.json",
            subject="--out",
            help="name the folder of a run",
        )
    raise fail(
        "train-out-occupied",
        f"{folder.path} is not empty",
        subject="--out",
        help="name a new folder or an empty one",
    )


def _lock(path: Path) -> int:
    """A handle whose lock the system drops when the process ends, however it ends."""
    while True:
        handle = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(handle, 32).decode("ascii", "replace").strip()
            os.close(handle)
            raise fail(
                "train-locked",
                f"another process trains into {path}" + (f": process {owner}" if owner else ""),
                subject="--out",
                help="wait until it has ended, or name another folder",
            ) from None
        except OSError:
            os.close(handle)
            raise
        if _is_current(handle, path / LOCK):
            os.ftruncate(handle, 0)
            os.write(handle, f"{os.getpid()}\n".encode())
            return handle
        os.close(handle)  # its holder removed the file between our opening and our locking it


def _is_current(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
