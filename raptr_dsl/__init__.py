"""raptr_dsl: a language for stagewise pretraining, and its compiler.

    import raptr_dsl as raptr

    plan = raptr.compile_file("bert.raptr", model="bert-base", steps=675_000, seed=17)

The names below are loaded when they are first used, so that a small command imports only what it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Compilation": "raptr_dsl.api",
    "Diagnostic": "raptr_dsl.diagnostics",
    "ModelShape": "raptr_dsl.ir.model",
    "Options": "raptr_dsl.api",
    "Plan": "raptr_dsl.ir.plan",
    "RaptrError": "raptr_dsl.diagnostics",
    "check_file": "raptr_dsl.api",
    "check_text": "raptr_dsl.api",
    "compile_file": "raptr_dsl.api",
    "compile_text": "raptr_dsl.api",
    "load_plan": "raptr_dsl.ir.plan",
}

__all__ = [
    "Compilation",
    "Diagnostic",
    "ModelShape",
    "Options",
    "Plan",
    "RaptrError",
    "__version__",
    "check_file",
    "check_text",
    "compile_file",
    "compile_text",
    "load_plan",
]

if TYPE_CHECKING:
    from raptr_dsl.api import Compilation, Options, check_file, check_text, compile_file, compile_text
    from raptr_dsl.diagnostics import Diagnostic, RaptrError
    from raptr_dsl.ir.model import ModelShape
    from raptr_dsl.ir.plan import Plan, load_plan


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
