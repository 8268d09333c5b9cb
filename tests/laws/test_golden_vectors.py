"""One list of vectors: what it holds is what docs say, what the oracle computes and what the package draws."""

import json
from pathlib import Path
from typing import Any

import pytest

from raptr_dsl.ir.plan import Plan
from raptr_dsl.laws import LAWS
from raptr_dsl.words import Words, axis_key
from tests.conftest import Golden
from tests.laws import oracle

VECTORS = json.loads((Path(__file__).parent / "golden_vectors.json").read_text("utf-8"))
DOCS = Path(__file__).parents[2] / "docs" / "sampling.md"


def plan_of(case: dict[str, Any]) -> Plan:
    stages = [stage | {"duration": str(stage["stop"] - stage["start"])} for stage in case["stages"]]
    words = {name: case[name] for name in ("seed", "shape", "steps")}
    return Plan.model_validate({"name": "", "partial": True, "stages": stages} | words)


@pytest.mark.parametrize("case", VECTORS["words"], ids=lambda case: f"{case['axis']}-{case['seed']}")
def test_rules_18_and_19_words(case: dict[str, Any]) -> None:
    seed, axis, sites, units = (case[name] for name in ("seed", "axis", "sites", "units"))
    assert axis_key(seed, axis) == oracle.key_of(seed, axis) == tuple(int(word, 16) for word in case["key"])
    for step, words in case["words"].items():
        expected = [int(word, 16) for word in words]
        row = Words(seed, axis, sites, units).rows(range(int(step), int(step) + 1))[0]
        assert row[: len(expected)].tolist() == expected
        assert oracle.words_of_step(seed, axis, sites, units, int(step))[: len(expected)] == expected


@pytest.mark.parametrize("case", VECTORS["masks"], ids=lambda case: case["title"])
def test_rules_20_to_27_masks(case: dict[str, Any]) -> None:
    plan = plan_of(case)
    for step, sites in case["masks"].items():
        mask = plan.step(int(step)).axes[case["axis"]]
        assert [mask.active(site).tolist() for site in range(len(mask.on))] == sites
        row = plan.masks(case["axis"], int(step), int(step) + 1).reshape(mask.on.shape)
        assert (row == mask.on).all()
        drawn = oracle.mask(plan, case["axis"], int(step))
        assert [[unit for unit, on in enumerate(site) if on] for site in drawn] == sites


def test_every_law_has_vectors() -> None:
    laws = {
        rule["law"]["law"] for case in VECTORS["masks"] for stage in case["stages"] for rule in stage["axes"].values()
    }
    assert laws == set(LAWS)


def tables() -> dict[str, str]:
    """The two lists of docs/sampling.md, as they follow from the vectors."""
    words = []
    for case in VECTORS["words"]:
        of = f"seed {case['seed']}, axis `{case['axis']}`, {case['sites']} × {case['units']} units"
        words.append(f"- {of}: key `{' '.join(case['key'])}`")
        words += [f"  - step {step}: `{' '.join(row[:4])}`" for step, row in case["words"].items()]
    masks = []
    for case in VECTORS["masks"]:
        of = "" if case["seed"] == 17 else f", seed {case['seed']}"
        masks.append(f"- {case['title']}{of} (`{case['axis']}`)")
        for step, sites in case["masks"].items():
            masks.append(f"  - step {step}: `{' | '.join(' '.join(map(str, site)) for site in sites)}`")
    return {"words": "\n".join(words), "masks": "\n".join(masks)}


def test_the_page_has_these_vectors(golden: Golden) -> None:
    text = DOCS.read_text("utf-8")
    for name, table in tables().items():
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        _, _, after = rest.partition(f"<!-- /{name} -->")
        text = f"{before}<!-- {name} -->\n\n{table}\n\n<!-- /{name} -->{after}"
    golden(DOCS, text)


def test_the_page_has_the_oracles_generator() -> None:
    """The Philox printed on the page is the one that the known answers were checked with."""
    code = DOCS.read_text("utf-8").split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    for counter in range(3):
        assert names["philox"]((1, 2**64 - 1), (counter, 0, 0, 0)) == oracle.philox((1, 2**64 - 1), (counter, 0, 0, 0))
