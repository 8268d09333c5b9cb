"""What a schedule is, whatever it looks like: the SHA-256 of its normal form.

The normal form is the canonical text of its tree, without `doc`, in which an import is named by the identity of what
it imports. So comments, layout, the spelling of numbers, file names and places do not enter, and an edit of an
imported schedule does. It is the identity of what was written; `Plan.digest` is that of what it comes to.
"""

from hashlib import sha256

from raptr_dsl.compiler.resolve import Unit
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.format import format_file

_FORM = "raptr-schedule-1\0"


def identity_of(unit: Unit) -> str:
    """The identity of a file with its imports, as hexadecimal; a file without mistakes is meant."""
    return _identity(unit, {})


def _identity(unit: Unit, known: dict[int, str]) -> str:
    if id(unit) not in known:
        statements = [statement for statement in unit.file.statements if not isinstance(statement, ast.Use | ast.Doc)]
        imports = sorted((alias, _identity(used, known) if used else "") for alias, used in unit.uses.items())
        text = "".join(f"use {digest} as {alias}\n" for alias, digest in imports)
        text += format_file(ast.File(unit.file.span, tuple(statements)))
        known[id(unit)] = sha256(f"{_FORM}{text}".encode()).hexdigest()
    return known[id(unit)]
