"""Text ↔ syntax tree."""

from raptr_dsl.syntax.files import load_source
from raptr_dsl.syntax.parser import parse

__all__ = ["load_source", "parse"]
