"""Text ↔ syntax tree."""

from raptr_dsl.syntax.files import load_source
from raptr_dsl.syntax.format import format_file, format_value
from raptr_dsl.syntax.parser import parse

__all__ = ["format_file", "format_value", "load_source", "parse"]
