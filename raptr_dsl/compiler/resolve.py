"""`use`: the files that a file imports, each read and parsed once, cycles and depth refused."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from raptr_dsl.compiler.evaluate import not_yet
from raptr_dsl.compiler.scope import Scope
from raptr_dsl.diagnostics import Diagnostics, Label
from raptr_dsl.source import Source, Span
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.parser import parse

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
    """

    file: ast.File
    lossy: bool
    uses: "dict[str, Unit | None]" = field(default_factory=dict)
    aliases: dict[str, Span] = field(default_factory=dict)


def resolve(file: ast.File, lossy: bool, loader: Loader, diagnostics: Diagnostics) -> Unit:
    """A parsed file with everything it imports."""
    return _Resolver(loader, diagnostics).unit(file, lossy)


class _Resolver:
    def __init__(self, loader: Loader, diagnostics: Diagnostics) -> None:
        self.loader, self.diagnostics = loader, diagnostics
        self.scope = Scope(diagnostics)
        self.done: dict[str, Unit | None] = {}
        self.open: dict[str, Span | None] = {}  # the files that wait for their imports, each with the `use` of the next

    def unit(self, file: ast.File, lossy: bool) -> Unit:
        unit = Unit(file, lossy)
        path = _identity(file.span.source.name)
        for statement in file.statements:
            if isinstance(statement, ast.Use):
                self.open[path] = statement.path.span
                self.use(statement, unit)
        self.open.pop(path, None)
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
        if isinstance(path, ast.Name):
            not_yet(self.scope, path.span, f"`use {path.text}`, a library of schedules,")
            return None
        if os.path.isabs(path.value) or not path.value:
            self.diagnostics.add(
                "import-path",
                "an import names a file by its path from the file that imports it",
                path.span,
                help='write a relative path, such as "./warmup.raptr"',
            )
            return None
        folder = os.path.dirname(unit.file.span.source.name)
        target = os.path.normpath(os.path.join(folder, path.value))
        key = _identity(target)
        if key in self.open:
            self.refuse_cycle(key, path)
            return None
        if key not in self.done:
            self.done[key] = self.load(target, path)
        return self.done[key]

    def load(self, target: str, path: ast.String) -> Unit | None:
        if len(self.open) > MAX_IMPORTS:
            self.diagnostics.add(
                "limit-imports", f"imports are more than {MAX_IMPORTS} deep", path.span, related=self.chain()
            )
            return None
        problems = Diagnostics()
        source = self.loader(target, problems)
        if source is None:
            self.diagnostics.extend(
                replace(
                    problem,
                    span=problem.span or path.span,
                    message=f"{target}: {problem.message}",
                    subject="",
                )
                for problem in problems
            )
            return None
        problems = Diagnostics()
        file = parse(source, problems)
        self.diagnostics.extend(problems)
        return self.unit(file, problems.has_errors)

    def refuse_cycle(self, key: str, path: ast.String) -> None:
        names = list(self.open)
        circle = names[names.index(key) :]
        shown = " → ".join(os.path.basename(name) for name in (*circle, key))
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
