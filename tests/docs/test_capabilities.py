"""The table of what this distribution's backends declare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from raptr_dsl.backend.protocol import FEATURES, Capabilities
from raptr_dsl.registry import load
from raptr_torch.apply import capabilities_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "backends.md"


def test_the_table_of_capabilities_is_what_the_backends_declare() -> None:
    heading, _, *rows = PAGE.read_text("utf-8").partition("<!-- table: CAPABILITIES -->")[2].lstrip().splitlines()
    names = [cell.strip() for cell in heading.split("|")[2:-1]]
    said = {}
    for row in rows[: rows.index("")]:
        word, *cells = [cell.strip() for cell in row.split("|")[1:-1]]
        said[word.strip("`")] = dict(zip(names, [cell == "yes" for cell in cells], strict=True))
    for name in names:
        own = load(name.partition(",")[0]).capabilities
        declared = words(capabilities_of(own, is_own=False) if "," in name else own)
        assert {word for word, cells in said.items() if cells[name]} == declared
    assert said.keys() >= words(load("reference").capabilities)


def words(capabilities: Capabilities) -> frozenset[str]:
    own = replace(capabilities, scales=capabilities.scales & {"learned"})
    return own.axes | {f"scale={scale}" for scale in own.scales} | (own.attributes & FEATURES)
