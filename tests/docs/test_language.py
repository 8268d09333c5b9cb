"""docs/language.md names everything that the language knows, and the documents' links lead somewhere."""

import re
from pathlib import Path

import pytest

from raptr_dsl.axes import AXES
from raptr_dsl.compiler.attributes import ATTRIBUTES
from raptr_dsl.compiler.metrics import METRICS
from raptr_dsl.curves import CURVES
from raptr_dsl.flops import CONVENTIONS
from raptr_dsl.laws import LAWS

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
KNOWN = {
    "axis": AXES,
    "attribute": ATTRIBUTES,
    "metric": METRICS,
    "curve": CURVES,
    "convention": CONVENTIONS,
    "law": LAWS,
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in KNOWN.items() for name in names])
def test_the_reference_names(kind: str, name: str) -> None:
    text = (ROOT / "docs" / "language.md").read_text("utf-8")
    assert re.search(rf"`[^`\n]*\b{re.escape(name)}\b[^`\n]*`", text), (
        f"docs/language.md says nothing of the {kind} {name}"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links {target}"
