"""The catalogue of diagnostic codes: one TOML file a topic, read only when somebody asks.

`raptr explain CODE` and docs/errors.md are made from it; a test fails where a code is unused or undocumented.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Code:
    """What a code means, with a small file that shows it and the same file mended."""

    title: str
    explanation: str
    bad: str = ""
    good: str = ""


@cache
def catalogue() -> dict[str, Code]:
    """Every code, by name."""
    codes: dict[str, Code] = {}
    for topic in sorted(files(__name__).iterdir(), key=lambda entry: entry.name):
        if topic.name.endswith(".toml"):
            entries = tomllib.loads(topic.read_text("utf-8"))
            codes |= {name: Code(**entry) for name, entry in entries.items()}
    return codes
