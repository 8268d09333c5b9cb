"""`raptr lib`: libraries of schedules. The only commands that fetch, and the only ones that write `raptr.lock`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from raptr_dsl.cli.common import counted, show_diagnostics

if TYPE_CHECKING:
    from raptr_dsl.library.lock import Lock
    from raptr_dsl.library.project import Project


@click.group(short_help="Add, lock, verify and make libraries of schedules.")
def command() -> None:
    """Libraries of schedules: `use acme/bert` in a file speaks of the schedule bert of the library acme.

    Which libraries a project uses stands in raptr.toml, which version of each in raptr.lock: commit both. Checking,
    compiling and training read the lock, verify every file, and never touch a network.
    """


@command.command()
@click.argument("name")
@click.argument("address")
def add(name: str, address: str) -> None:
    """Makes a library a dependency of this project and locks it.

    ADDRESS is ./FOLDER, package:NAME (an installed Python package), git+https://HOST/REPOSITORY@COMMIT#FOLDER, or
    an fsspec address such as s3://BUCKET/FOLDER.
    """
    project = _project()
    _told(project.add(name, address), project)


@command.command(short_help="Writes raptr.lock from raptr.toml.")
def lock() -> None:
    """Writes raptr.lock: pins what is new in raptr.toml, drops what is gone, keeps the rest as it is."""
    project = _project()
    _told(project.update(), project)


@command.command()
@click.argument("names", nargs=-1)
def update(names: tuple[str, ...]) -> None:
    """Pins libraries anew, as they are now: those named, or all."""
    project = _project()
    _told(project.update(names, everything=not names), project)


@command.command(short_help="Copies the locked libraries into the project.")
def vendor() -> None:
    """Copies the locked libraries into raptr_libraries, to be committed with the project."""
    folder = _project().vendor()
    click.echo(f"wrote {_relative(folder)}", err=True)


@command.command()
@click.pass_context
def verify(ctx: click.Context) -> None:
    """Compares every file of every locked library with its digest."""
    project = _project()
    problems = list(project.verify())
    show_diagnostics(problems)
    lock = project.lock()
    files = sum(len(pin.files) for pin in lock.values()) + (len(lock.standard.files) if lock.standard else 0)
    click.echo(f"{files} files of {_libraries(lock)}, {counted(problems)}", err=True)
    if problems:
        ctx.exit(1)


@command.command(name="list", short_help="Lists the locked libraries and their schedules.")
def list_() -> None:
    """Lists the locked libraries: version, licence, source, and the schedules each exports, with what they are."""
    from raptr_dsl.cli.new import list_schedules
    from raptr_dsl.library import Libraries
    from raptr_dsl.library.libraries import standard

    libraries = Libraries(Path.cwd())
    std, locked = standard(), libraries.lock.standard
    differs = f"; {locked.version} is locked" if locked and locked.version != std.version else ""
    click.echo(f"std {std.version}  comes with raptr{differs}")
    list_schedules(std, indent=2)
    for pin in libraries.lock.values():
        commit = f" at {pin.commit[:12]}" if pin.commit else ""
        click.echo(f"\n{pin.name} {pin.version}  {pin.licence}  {pin.source}{commit}")
        list_schedules(libraries.find(pin.name, None), indent=2)


@command.command(short_help="Makes a library with a first schedule.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", help="The name of the library; that of the folder unless given.")
@click.option("--licence", default="Apache-2.0", show_default=True)
def new(folder: Path, name: str | None, licence: str) -> None:
    """Makes a library: a folder with a manifest, a first schedule and what a Python package needs."""
    from raptr_dsl.library.scaffold import make_library

    for path in make_library(folder, name or folder.resolve().name, licence):
        click.echo(f"wrote {path}", err=True)


def _project() -> "Project":
    from raptr_dsl.library.project import Project

    return Project.around(Path.cwd())


def _told(lock: "Lock", project: "Project") -> None:
    for pin in lock.values():
        commit = f" at {pin.commit[:12]}" if pin.commit else ""
        click.echo(f"{pin.name} {pin.version} from {pin.source}{commit}, {len(pin.files)} files", err=True)
    click.echo(f"locked {_libraries(lock)} in {_relative(project.root)}", err=True)


def _libraries(lock: "Lock") -> str:
    """`1 library and std 0.1.0`."""
    number = "1 library" if len(lock) == 1 else f"{len(lock)} libraries"
    return f"{number} and std {lock.standard.version}" if lock.standard else number


def _relative(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
