"""`raptr publish --check`: whether a library is sound, and whether its version says what changed for its users."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from raptr_dsl.cli.common import Once, counted, show_diagnostics
from raptr_dsl.diagnostics import Diagnostic, fail

if TYPE_CHECKING:
    from raptr_dsl.report.compatibility import Version


@click.command(short_help="Check a library before it is published.")
@click.argument("folder", type=click.Path(path_type=Path), default=".")
@click.option("--check", is_flag=True, required=True, help="Only check; publishing is up to pip or git.")
@click.option("--against", cls=Once, metavar="ADDRESS", help="The version that users have: ./FOLDER, package:NAME, …")
@click.pass_context
def command(ctx: click.Context, folder: Path, check: bool, against: str | None) -> None:
    """Checks a library: every schedule compiles, is complete in its folder and formatted; with --against, also that
    its version number says what changed for those who use it: 2.0.0 if what they wrote comes to another plan.

    A change is found by examples: three models and horizons, each parameter at its default and its bounds. What differs
    for other models, values within the bounds, or two parameters at once is not seen.

    An address is what `raptr lib add` takes, of this machine: git+file://REPOSITORY@v1.2.0 is a tag of a clone.
    """
    from raptr_dsl.library.address import parse_address
    from raptr_dsl.library.locking import fetch
    from raptr_dsl.library.manifest import load_manifest, require_library
    from raptr_dsl.library.tree import MANIFEST, read_folder
    from raptr_dsl.report.compatibility import Version

    name = str(folder / MANIFEST)
    manifest = load_manifest(folder)
    require_library(manifest, manifest.name or "?", name)
    new = Version(manifest, folder, read_folder(folder, manifest.name))
    problems = list(_problems(new))
    show_diagnostics(problems)
    number = f"{len(manifest.exports)} {'schedule' if len(manifest.exports) == 1 else 'schedules'}"
    click.echo(f"{manifest.name} {manifest.version}: {number}, {counted(problems)}", err=True)
    if any(problem.severity == "error" for problem in problems):
        ctx.exit(1)
    if against is None:
        return
    address = parse_address(against, "--against")
    if address.kind != "package" and not address.is_local:
        raise click.UsageError("--against takes an address of this machine: this command fetches nothing.", ctx)
    tree, old_manifest, _ = fetch(Path.cwd(), manifest.name, address)
    with TemporaryDirectory() as copy:
        for path, data in tree.items():
            target = Path(copy, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        enough = _compared(Version(old_manifest, Path(copy), tree), new)
    if not enough:
        ctx.exit(1)


def _problems(library: "Version") -> list[Diagnostic]:
    """What is wrong with the schedules: those exported, and those they use."""
    from raptr_dsl.api import check_file
    from raptr_dsl.diagnostics import Diagnostics
    from raptr_dsl.source import Source
    from raptr_dsl.syntax.layout import format_text

    found: list[Diagnostic] = []
    for path in sorted(library.tree):
        if path.endswith(".raptr"):
            found += check_file(library.folder / path).diagnostics
    if any(problem.severity == "error" for problem in found):
        return found
    missing = [name for name in library.manifest.exports if f"{name}.raptr" not in library.tree]
    for name in missing:
        message = f"it exports {name}, and has no {name}.raptr"
        found += fail("library-manifest", message, subject=str(library.folder)).diagnostics
    for path, data in sorted(library.tree.items()):
        text = data.decode("utf-8", "replace")
        if path.endswith(".raptr") and format_text(Source(path, text), Diagnostics()) != text:
            subject, help = str(library.folder), f"raptr fmt {library.folder / path}"
            told = fail("library-layout", f"{path} is not formatted", subject=subject, help=help, severity="warning")
            found += told.diagnostics
    return found


def _compared(old: "Version", new: "Version") -> bool:
    from raptr_dsl.report.compatibility import Level, changes, is_enough, required_version

    found = changes(old, new)
    words = {Level.MAJOR: "breaking", Level.MINOR: "feature", Level.PATCH: "fix", Level.NONE: "unseen"}
    for change in found:
        click.echo(f"{words[change.level]:8}  {change.schedule or new.manifest.name}: {change.what}")
    level = max((change.level for change in found), default=Level.NONE)
    least = required_version(old.manifest.version, level)
    enough = is_enough(new.manifest.version, least)
    verdict = "says so" if enough else f"does not say so: make it {least} or more"
    told = "no change" if level == Level.NONE else words[level]
    click.echo(f"{old.manifest.version} → {new.manifest.version}: {told}, and the version {verdict}", err=True)
    return enough
