"""The reference says what the registries say: its tables have their names, all of them and no others."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from raptr_dsl.axes import AXES
from raptr_dsl.compiler.attributes import ATTRIBUTES, STAGE_ATTRIBUTES
from raptr_dsl.compiler.metrics import METRICS
from raptr_dsl.compiler.types import TYPES
from raptr_dsl.curves import CURVES
from raptr_dsl.flops import CONVENTIONS
from raptr_dsl.laws import LAWS
from raptr_dsl.models import MODEL_NAMES, MODEL_WORDS
from raptr_dsl.scales import SCALES

ROOT = Path(__file__).parents[2]
LANGUAGE = ROOT / "docs" / "language.md"
FLOPS = ROOT / "docs" / "flops.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))

TABLES = [
    (LANGUAGE, "AXES", AXES),
    (LANGUAGE, "ATTRIBUTES", [*ATTRIBUTES, *STAGE_ATTRIBUTES]),
    (LANGUAGE, "CURVES", CURVES),
    (LANGUAGE, "LAWS", LAWS),
    (LANGUAGE, "METRICS", METRICS),
    (LANGUAGE, "MODELS", MODEL_NAMES),
    (LANGUAGE, "MODEL_WORDS", MODEL_WORDS),
    (LANGUAGE, "SCALES", SCALES),
    (LANGUAGE, "TYPES", [*TYPES, "choice(a, b)"]),
    (FLOPS, "CONVENTIONS", CONVENTIONS),
]


def table(page: Path, name: str) -> list[list[str]]:
    """The rows of the table under `<!-- table: NAME -->`, each a list of cells."""
    text = page.read_text("utf-8")
    found = re.search(rf"<!-- table: {name} -->\n\n((?:\|.*\n)+)", text)
    assert found, f"{page.name} has no table {name}"
    lines = found[1].replace(r"\|", "&#124;").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize(("page", "name", "registry"), TABLES, ids=[name for _, name, _ in TABLES])
def test_a_table_has_the_names_of_its_registry_and_no_others(page: Path, name: str, registry: Iterable[str]) -> None:
    cells = [row[0] for row in table(page, name)]
    named = [match[1] if (match := re.match(r"`([^`]+)`", cell)) else cell for cell in cells]
    assert sorted(named) == sorted(registry)


def test_metrics_compare_with_what_the_table_says() -> None:
    for row in table(LANGUAGE, "METRICS"):
        metric = METRICS[row[0].strip("`")]
        assert row[2].split(", ") == [word for word in ("share", "count") if getattr(metric, f"{word}s")]


def test_every_rule_from_1_to_42_stands_there_once() -> None:
    rules = LANGUAGE.read_text("utf-8").partition("\n## The rules\n")[2].partition("\n## Limits\n")[0]
    assert [int(number) for number in re.findall(r"^(\d+)\. ", rules, re.MULTILINE)] == list(range(1, 43))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))):
        if "://" in target:
            continue
        file = (page.parent / target) if target else page
        assert file.exists(), f"{page.name} links {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} links {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
