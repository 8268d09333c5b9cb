"""`use`: the files that a file imports, each read and parsed once, cycles and depth refused."""

import os
import posixpath
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING

from raptr_dsl.diagnostics import Diagnostic, Diagnostics, Label, RaptrError
from raptr_dsl.source import Source, Span
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.parser import parse

if TYPE_CHECKING:
    from raptr_dsl.library import Libraries, Library

MAX_IMPORTS = 32

Loader = Callable[[str, Diagnostics], Source | None]
"""The text at a path; None, with the reason recorded, where there is none."""


@dataclass(slots=True)
class Unit:
    """A file and what it imports.

    Attributes:
        uses: alias → file; None where the import failed, which is reported already.
        aliases: where each alias is given.
        lossy: whether statements were lost to syntax errors.
        library: the library whose file it is; None for a file of the project.
        path: of the file in its library.
    """

    file: ast.File
    lossy: bool
    library: "Library | None" = None
    path: str = ""
    uses: "dict[str, Unit | None]" = field(default_factory=dict)
    aliases: dict[str, Span] = field(default_factory=dict)


def resolve(file: ast.File, lossy: bool, loader: Loader, diagnostics: Diagnostics) -> Unit:
    """A parsed file with everything it imports."""
    name = file.span.source.name
    return _Resolver(os.path.dirname(name), loader, diagnostics).unit(Unit(file, lossy), _identity(name))


@dataclass(frozen=True, slots=True)
class _Target:
    """A file to import: by its path in a library, or by its path."""

    path: str
    library: "Library | None"

    @property
    def key(self) -> str:
        """One name for one file, however its path is written."""
        return f"{self.library.name}/{self.path}" if self.library else _identity(self.path)


class _Resolver:
    def __init__(self, folder: str, loader: Loader, diagnostics: Diagnostics) -> None:
        self.folder, self.loader, self.diagnostics = folder, loader, diagnostics
        self.done: dict[str, Unit | None] = {}
        self.open: dict[str, Span | None] = {}  # the files that wait for their imports, each with the `use` of the next

    @cached_property
    def libraries(self) -> "Libraries":
        from raptr_dsl.library import Libraries  # most schedules use none

        return Libraries(Path(self.folder or "."))

    def unit(self, unit: Unit, key: str) -> Unit:
        for statement in unit.file.statements:
            if isinstance(statement, ast.Use):
                self.open[key] = statement.path.span
                self.use(statement, unit)
        self.open.pop(key, None)
        return unit

    def use(self, statement: ast.Use, unit: Unit) -> None:
        alias = self.alias(statement)
        if alias is None:
            return
        if alias.text in unit.uses:
            self.diagnostics.add(
                "name-taken",
                f"`{alias.text}` is imported twice",
                alias.span,
                label="again here",
                related=[Label(unit.aliases[alias.text], "first imported here")],
                help="give one of them another name: use … as name",
            )
            return
        unit.aliases[alias.text] = alias.span
        unit.uses[alias.text] = self.imported(statement.path, unit)

    def alias(self, statement: ast.Use) -> ast.Name | None:
        """The name that the import has in the file: the one it is given, or the stem of its path."""
        if statement.alias is not None:
            return statement.alias
        path = statement.path
        stem = PurePosixPath(path.value if isinstance(path, ast.String) else path.text).stem
        if stem.isidentifier() and stem.isascii():
            return ast.Name(path.span, stem)
        self.diagnostics.add(
            "import-without-name",
            f"`{stem}` cannot be a name in this file",
            path.span,
            help=f"give it one: use {path.span.text} as warmup",
        )
        return None

    def imported(self, path: ast.String | ast.Name, unit: Unit) -> Unit | None:
        target = self.exported(path, unit) if isinstance(path, ast.Name) else self.relative(path, unit)
        if target is None:
            return None
        if target.key in self.open:
            self.refuse_cycle(target.key, path)
            return None
        if target.key not in self.done:
            self.done[target.key] = self.load(target, path)
        return self.done[target.key]

    def exported(self, path: ast.Name, unit: Unit) -> "_Target | None":
        """What `use acme/bert` speaks of: an exported schedule of a library."""
        name, _, schedule = path.text.partition("/")
        try:
            library = self.libraries.find(name, unit.library)
            return _Target(library.export(schedule), library)
        except RaptrError as error:
            self.refuse(error.diagnostics, path)
            return None

    def relative(self, path: ast.String, unit: Unit) -> "_Target | None":
        """What `use "./warm.raptr"` speaks of: a file of the project, or of the library that says so."""
        if os.path.isabs(path.value) or not path.value:
            self.diagnostics.add(
                "import-path",
                "an import names a file by its path from the file that imports it",
                path.span,
                help='write a relative path, such as "./warmup.raptr"',
            )
            return None
        if unit.library is None:
            folder = os.path.dirname(unit.file.span.source.name)
            return _Target(os.path.normpath(os.path.join(folder, path.value)), None)
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(unit.path), PurePath(path.value).as_posix()))
        if inside.split("/")[0] not in ("..", "."):
            return _Target(inside, unit.library)
        self.diagnostics.add(
            "library-path",
            f"this path leaves the library `{unit.library.name}`",
            path.span,
            help="a library is complete in its folder: depend on the other library and `use` it by its name",
        )
        return None

    def load(self, target: "_Target", path: ast.String | ast.Name) -> Unit | None:
        if len(self.open) > MAX_IMPORTS:
            self.diagnostics.add(
                "limit-imports", f"imports are more than {MAX_IMPORTS} deep", path.span, related=self.chain()
            )
            return None
        source = self.source(target, path)
        if source is None:
            return None
        problems = Diagnostics()
        file = parse(source, problems)
        self.diagnostics.extend(problems)
        return self.unit(Unit(file, problems.has_errors, target.library, target.path), target.key)

    def source(self, target: "_Target", path: ast.String | ast.Name) -> Source | None:
        if target.library is None:
            problems = Diagnostics()
            source = self.loader(target.path, problems)
            if source is None:
                self.refuse(problems, path, f"{target.path}: ")
            return source
        try:
            return target.library.source(target.path)
        except RaptrError as error:
            self.refuse(error.diagnostics, path)
            return None

    def refuse(self, problems: Iterable[Diagnostic], path: ast.String | ast.Name, title: str = "") -> None:
        """Says what is wrong with a file where it is imported."""
        for problem in problems:
            notes = problem.notes if title or not problem.subject else (*problem.notes, f"in {problem.subject}")
            told = replace(problem, span=problem.span or path.span, message=f"{title}{problem.message}", subject="")
            self.diagnostics.extend([replace(told, notes=notes, related=(*problem.related, *self.chain()))])

    def refuse_cycle(self, key: str, path: ast.String | ast.Name) -> None:
        names = list(self.open)
        circle = names[names.index(key) :]
        shown = " → ".join(os.path.basename(name) if os.path.isabs(name) else name for name in (*circle, key))
        self.diagnostics.add(
            "import-cycle",
            f"these files import each other in a circle: {shown}",
            path.span,
            related=self.chain(circle[:-1]),
            help="take out one of these imports",
        )

    def chain(self, names: list[str] | None = None) -> list[Label]:
        """The imports that led here, outermost first."""
        spans = [self.open[name] for name in (list(self.open)[:-1] if names is None else names)]
        return [Label(span, "imported here") for span in spans[:8] if span is not None]


def _identity(path: str) -> str:
    """One name for one file, however its path is written."""
    return os.path.realpath(path)
