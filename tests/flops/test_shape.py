"""What `raptr_torch.shape` refuses, and what the caller has to say."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import nn

import raptr_torch
from raptr_dsl.ir.model import ModelShape
from raptr_torch.model import build
from tests.backends.drawn import SMALL, refused
from tests.flops.families import leave_blocks, model_of
from tests.flops.test_hugging_face import EXAMPLE

pytest.importorskip("transformers")


def test_it_is_a_function_also_once_it_has_been_called() -> None:
    """A module of the same name would take its place at its first import."""
    for _ in range(2):
        assert raptr_torch.shape(build(SMALL, 0)) == SMALL


def test_the_caller_says_how_it_is_trained() -> None:
    model = model_of("GPT2LMHeadModel", EXAMPLE)
    assert raptr_torch.shape(model).seq == 16 and raptr_torch.shape(model).batch == 1
    found = raptr_torch.shape(model, seq=8, batch=3, head_share=Fraction(1, 4))
    assert (found.seq, found.batch, found.head_share) == (8, 3, Fraction(1, 4))
    assert raptr_torch.shape(build(SMALL, 0), batch=7) == SMALL.model_copy(update={"batch": 7})


def test_learned_positions_are_a_bound_and_rotary_ones_are_not() -> None:
    with refused("model-run", "more than the 16 positions"):
        raptr_torch.shape(model_of("OPTForCausalLM", EXAMPLE), seq=17)
    assert raptr_torch.shape(model_of("GPTNeoXForCausalLM", EXAMPLE), seq=17).seq == 17


def test_an_encoder_decoder_does_not_say_its_lengths() -> None:
    t5 = model_of("T5ForConditionalGeneration", EXAMPLE)
    for given, missing in (({}, "seq and source_seq"), ({"seq": 4}, "source_seq"), ({"source_seq": 4}, "seq")):
        with refused("model-run", f"does not say {missing}"):
            raptr_torch.shape(t5, **given)
    with refused("model-run", "it has none"):
        raptr_torch.shape(model_of("GPT2LMHeadModel", EXAMPLE), source_seq=4)


@pytest.mark.parametrize(
    "given", [{"seq": 0}, {"seq": -4}, {"batch": 2.5}, {"head_share": Fraction(3, 2)}, {"seq": "many"}], ids=str
)
def test_arguments_that_are_no_words_of_a_shape(given: dict[str, Any]) -> None:
    with refused("model-run", "GPTNeoXForCausalLM"):
        raptr_torch.shape(model_of("GPTNeoXForCausalLM", EXAMPLE), **given)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("GPT2LMHeadModel", {"add_cross_attention": True}, "cross-attention"),
        ("BertForMaskedLM", {"is_decoder": True}, "looks back only"),
        ("OPTForCausalLM", {"word_embed_proj_dim": 12}, "embeddings of another size"),
        ("T5ForConditionalGeneration", {"num_decoder_layers": 1}, "different depths"),
    ],
)
def test_configs_that_are_not_as_shapes_are(name: str, changes: dict[str, Any], words: str) -> None:
    with refused("attach-model", words):
        raptr_torch.shape(model_of(name, EXAMPLE, **changes), seq=4)


def test_models_of_other_classes_are_refused_by_name() -> None:
    gpt2 = model_of("GPT2LMHeadModel", EXAMPLE)
    for model, name in ((gpt2.transformer, "GPT2Model"), (nn.Linear(2, 2), "Linear"), (nn.Sequential(gpt2), "Sequ")):
        with refused("attach-model", name):
            raptr_torch.shape(model)  # pyright: ignore[reportArgumentType]


def test_a_class_that_only_has_the_name_is_none_of_the_family() -> None:
    stranger = type("GPT2LMHeadModel", (nn.Module,), {})
    with refused("attach-model", "is not a model"):
        raptr_torch.shape(stranger())


def test_a_subclass_is_of_the_family() -> None:
    model = model_of("LlamaForCausalLM", EXAMPLE)
    plain = raptr_torch.shape(model)
    model.__class__ = type("MyLlama", (type(model),), {})
    assert raptr_torch.shape(model) == plain


def _fewer_blocks(model: Any) -> None:
    leave_blocks(model, [[0, 2]])


def _another_head(model: Any) -> None:
    model.score = nn.Linear(16, 3)


def _adapter(model: Any) -> None:
    model.model.layers[1].mlp.adapter = nn.Sequential(nn.Linear(16, 2), nn.Linear(2, 16))


@pytest.mark.parametrize("change", [_fewer_blocks, _another_head, _adapter], ids=lambda change: change.__name__)
def test_a_model_that_is_not_as_its_config_says(change: Any) -> None:
    model = model_of("LlamaForCausalLM", EXAMPLE)
    raptr_torch.shape(model)
    change(model)
    with refused("attach-model", "not as its config says"):
        raptr_torch.shape(model)


def test_models_on_the_meta_device_have_shapes() -> None:
    with torch.device("meta"):
        model = model_of("MistralForCausalLM", EXAMPLE)
    assert isinstance(raptr_torch.shape(model), ModelShape)
