"""One file's statements, in order: definitions, settings, and the parts that take time (rules 9–12)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from raptr_dsl.compiler.durations import spec_of
from raptr_dsl.compiler.evaluate import count_of, evaluate
from raptr_dsl.compiler.expand import MAX_STAGES
from raptr_dsl.compiler.gather import DURATIONS, REPEAT, RUN, gather
from raptr_dsl.compiler.header import Header
from raptr_dsl.compiler.levels import Group, Part
from raptr_dsl.compiler.origins import Link
from raptr_dsl.compiler.params import Argument, bind_param, check_names
from raptr_dsl.compiler.ramps import ramp_of
from raptr_dsl.compiler.resolve import Unit
from raptr_dsl.compiler.scope import Meaning, Scope
from raptr_dsl.compiler.settings import NO_SETTINGS, Settings, with_default, with_keep
from raptr_dsl.compiler.stages import stage_of
from raptr_dsl.diagnostics import Diagnostics, Label, did_you_mean
from raptr_dsl.syntax import ast

MAX_DEPTH = 64
MAX_STATEMENTS = 100_000

TAKES_TIME = (ast.Stage, ast.Ramp, ast.Repeat, ast.Run)


@dataclass(slots=True)
class Effort:
    """How much was expanded already; runs of runs can ask for more than any machine has."""

    statements: int = 0
    exhausted: bool = False


@dataclass(slots=True)
class Block:
    """The statements between two braces, or of a file, as far as they were read."""

    scope: Scope
    settings: Settings
    parts: list[Part] = field(default_factory=list)


class Walk:
    """Reads the statements of one file for one use of it: as the root, or as what a `run` runs.

    Args:
        header: of the root file; None in a `run`, whose file says nothing of the run as a whole.
        link: what runs the file.
        depth: how many blocks and runs enclose it.
    """

    def __init__(
        self,
        unit: Unit,
        diagnostics: Diagnostics,
        header: Header | None = None,
        link: Link | None = None,
        depth: int = 0,
        effort: Effort | None = None,
    ) -> None:
        self.unit, self.diagnostics, self.header = unit, diagnostics, header
        self.link, self.depth, self.effort = link, depth, effort or Effort()
        self.arguments: Mapping[str, Argument] = {}
        self.has_all_arguments = True

    def file(
        self, arguments: Mapping[str, Argument], title: str = "this schedule", is_complete: bool = True
    ) -> list[Part]:
        """The parts that the file expands to; what is wrong is recorded, and left out.

        Args:
            is_complete: whether all arguments that were given are in `arguments`.
        """
        statements = self.unit.file.statements
        scope = Scope(self.diagnostics, statements, self.link, self.unit.lossy)
        self.arguments = arguments
        is_known = self.unit.lossy or check_names(arguments, statements, title, scope)
        self.has_all_arguments = is_known and is_complete
        if not self.unit.lossy and not any(isinstance(statement, TAKES_TIME) for statement in statements):
            self.diagnostics.add(
                "no-stages",
                f"{title} has no stages" if statements else f"{title} is empty",
                self.link.label.span if self.link else None,
                help="the least there can be is: stage steps=rest",
                subject=self.unit.file.span.source.name,
            )
        block = Block(scope, NO_SETTINGS)
        self.read(statements, block)
        return block.parts

    def read(self, statements: Sequence[ast.Statement], block: Block, is_file: bool = True) -> None:
        for statement in statements:
            self.effort.statements += 1
            if self.effort.statements > MAX_STATEMENTS:
                self.refuse_effort(statement)
                return
            match statement:
                case ast.Stage():
                    block.parts.append(stage_of(statement, block.settings, block.scope))
                case ast.Ramp():
                    ramp = ramp_of(statement, block.settings, block.scope)
                    self.effort.statements += len(ramp.parts)
                    block.parts.append(ramp)
                case ast.Repeat():
                    self.repeat(statement, block)
                case ast.Run():
                    self.run(statement, block)
                case ast.Let():
                    block.scope.define(statement.name, _meaning(statement.value, block.scope))
                case ast.Default():
                    block.settings = with_default(block.settings, statement, block.scope)
                case ast.Keep():
                    block.settings = with_keep(block.settings, statement, block.scope)
                case _ if not is_file:
                    self.refuse_place(statement)
                case ast.Param():
                    argument = self.arguments.get(statement.name.text)
                    bind_param(statement, argument, self.has_all_arguments, block.scope)
                case _ if self.header is not None:
                    self.header.read(statement, block.scope)
                case ast.Require():
                    self.warn_of_requirement(statement)

    def warn_of_requirement(self, statement: ast.Require) -> None:
        """Rule 11: a part's requirements do not count in the whole. What is not proven must not look as if it were.

        Those of a library are its authors' own assertions of what it says by itself.
        """
        if self.unit.library is not None:
            return
        self.diagnostics.add(
            "requirement-of-a-part",
            "this requirement is not proven: its file is run as a part of another",
            statement.span,
            related=[self.link.label] if self.link else (),
            help="require it in the file that runs this one; `raptr check` of this file by itself proves it",
            severity="warning",
        )

    def repeat(self, statement: ast.Repeat, block: Block) -> None:
        """Reads the body once: every pass of it is the same."""
        given = gather(statement.attributes, REPEAT, self.diagnostics)
        times = count_of(statement.times, block.scope, "the number of passes", least=1, most=MAX_STAGES)
        is_level = any(unit in given.words for unit in DURATIONS)
        spec = spec_of(given, statement, "repeat", block.scope) if is_level else None
        if not any(isinstance(inner, TAKES_TIME) for inner in statement.body) and not self.unit.lossy:
            self.diagnostics.add(
                "no-stages",
                "this repeat has no stages",
                statement.keyword,
                help="put a stage between its braces",
            )
        inside = Block(block.scope.inside(statement.body), block.settings)
        if self.go_deeper(statement):
            self.read(statement.body, inside, is_file=False)
            self.depth -= 1
        block.parts.append(
            Group(
                inside.parts,
                statement.keyword,
                "repeat",
                "a pass of this repeat",
                is_level=is_level,
                spec=spec,
                times=times or 1,
                lossy=self.unit.lossy,
            )
        )

    def run(self, statement: ast.Run, block: Block) -> None:
        given = gather(statement.attributes, RUN, self.diagnostics)
        spec = spec_of(given, statement, "run", block.scope)
        arguments = self.arguments_of(statement, block.scope)
        name = statement.target.text
        parts: list[Part] = []
        unit = self.unit.uses.get(name)
        if name not in self.unit.uses:
            self.refuse_target(statement.target)
        if unit is not None and self.go_deeper(statement):
            link = Link(Label(statement.span, "run from here"), self.link)
            walk = Walk(unit, self.diagnostics, None, link, self.depth, self.effort)
            parts = walk.file(arguments, f"`{name}`", is_complete=len(arguments) == len(statement.args))
            self.depth -= 1
        lossy = self.unit.lossy or (unit is not None and unit.lossy)
        block.parts.append(Group(parts, statement.span, "run", f"the run of `{name}`", spec=spec, lossy=lossy))

    def arguments_of(self, statement: ast.Run, scope: Scope) -> dict[str, Argument]:
        arguments: dict[str, Argument] = {}
        for argument in statement.args:
            if argument.name is None:
                self.diagnostics.add(
                    "argument-without-name",
                    "the arguments of a run have names",
                    argument.span,
                    help=f"write run {statement.target.text}(start={argument.span.text}), for `start`",
                )
            elif argument.name.text in arguments:
                self.diagnostics.add(
                    "duplicate-argument",
                    f"{argument.name.text}= is given twice",
                    argument.span,
                    related=[Label(arguments[argument.name.text].span, "first given here")],
                    help="remove one of the two",
                )
            else:
                name = argument.name.text
                arguments[name] = Argument(name, argument.value, scope, argument.span)
        return arguments

    def go_deeper(self, statement: ast.Statement) -> bool:
        """Whether one more block or run may open here."""
        if self.depth < MAX_DEPTH:
            self.depth += 1
            return True
        self.diagnostics.add(
            "limit-nesting",
            f"repeats and runs are more than {MAX_DEPTH} deep",
            statement.span,
            help="expand some of them by hand",
        )
        return False

    def refuse_effort(self, statement: ast.Statement) -> None:
        if not self.effort.exhausted:
            self.effort.exhausted = True
            self.diagnostics.add(
                "limit-stages",
                f"the file expands to more than {MAX_STATEMENTS:,} statements",
                statement.span,
                related=[self.link.label] if self.link else (),
                help="run fewer schedules, or ramp in fewer stages",
            )

    def refuse_place(self, statement: ast.Statement) -> None:
        word = statement.span.text.split(maxsplit=1)[0]
        self.diagnostics.add(
            "misplaced-statement",
            f"`{word}` stands inside a repeat",
            statement.span,
            help="move it out of the braces, to the top level of the file",
        )

    def refuse_target(self, target: ast.Name) -> None:
        if self.unit.lossy:
            return
        nearest = did_you_mean(target.text, self.unit.uses)
        self.diagnostics.add(
            "unknown-schedule",
            f"no schedule is imported as `{target.text}`",
            target.span,
            help=f"did you mean `{nearest}`?" if nearest else self._imports(target.text),
        )

    def _imports(self, name: str) -> str:
        how = f'import it: use "./{name}.raptr", or use LIBRARY/{name}'
        if not self.unit.uses:
            return how
        there = ", ".join(f"`{known}`" for known in self.unit.uses)
        return f"this file imports {there}; or {how}"


def _meaning(node: ast.Value, scope: Scope) -> Meaning:
    """What `let` gives a name: a number, a list, a range, or the word of another name."""
    if isinstance(node, ast.List):
        return node
    if isinstance(node, ast.Range):
        ends = (evaluate(node.start, scope), evaluate(node.stop, scope))
        return None if None in ends else node
    if isinstance(node, ast.Name):
        definition = scope.lookup(node)
        return definition.meaning if definition else None
    return evaluate(node, scope)
