"""The folder of a demo: what it holds, whether it may be continued, what may be thrown away."""

import shutil
from pathlib import Path

import click
from pydantic import ValidationError

from raptr_dsl.diagnostics import fail
from raptr_dsl.files import replacing
from raptr_dsl.training import RunSettings, RunSummary
from raptr_dsl.training.comparison import StageSpeed
from raptr_dsl.training.files import writing
from raptr_dsl.training.record import Record

RUNS = {"raptr": "RaPTr", "dense": "dense"}
RECORD, PICTURES = "demo.json", ("demo.png", "demo.svg")


class Result(Record, frozen=True):
    """What a finished demo found; `summaries` by the folder of the run."""

    summaries: dict[str, RunSummary]
    speeds: tuple[StageSpeed, ...]


class Demo(Record, frozen=True):
    """What `demo.json` holds: by its presence, that the folder is a demo's; what it trains; what came of it."""

    plans: dict[str, str]
    settings: dict[str, RunSettings]
    result: Result | None = None


def require_ours(path: Path) -> None:
    """Refuses a folder with anything in it that is not a demo's."""
    if not path.is_dir() or (path / RECORD).exists():
        return
    if {entry.name for entry in path.iterdir()} - {".lock", f".{RECORD}.new"}:
        raise fail(
            "demo-out-foreign",
            f"{path} is not empty, and holds no demo",
            subject="--out",
            help="name another folder by --out",
        )


def prepare(path: Path, demo: Demo, fresh: bool) -> Result | None:
    """Makes the folder ready to train into; the result if it holds one already."""
    before = _read(path)
    if before is not None and fresh:
        _clear(path)
    elif before is not None and before.model_copy(update={"result": None}) == demo:
        click.echo(f"{path}: {'shown again' if before.result else 'an unfinished demo, which goes on'}", err=True)
        return before.result
    elif before is not None:
        raise fail(
            "demo-out-other",
            f"{path} holds a demo with other options, another version or other data",
            subject="--out",
            help="throw it away by --fresh, or name another folder by --out",
        )
    write(path, demo)
    return None


def _read(path: Path) -> Demo | None:
    try:
        return Demo.model_validate_json((path / RECORD).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        return Demo(plans={}, settings={})


def _clear(path: Path) -> None:
    """Removes what a demo wrote, its record last: until then the folder stays a demo's."""
    with writing("the folder of the demo", path):
        for name in RUNS:
            shutil.rmtree(path / name, ignore_errors=True)
        for name in (*PICTURES, RECORD):
            (path / name).unlink(missing_ok=True)


def write(path: Path, demo: Demo) -> None:
    with writing("the record of the demo", path / RECORD), replacing(path / RECORD) as file:
        file.write(demo.model_dump_json(indent=1).encode() + b"\n")
