"""Batches as the model's shape wants them, each a pure function of the step."""

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pytest

from raptr_dsl.backend import Batch
from raptr_dsl.data import TokenDataset, open_dataset
from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.training import TokenFeed

WORDS = dict(layers=1, heads=1, hidden=4, ffn=4, vocab=258, seq=16, batch=3)


def shape(**words) -> ModelShape:
    return ModelShape(**{**WORDS, **words})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TokenDataset:
    path = tmp_path_factory.mktemp("data")
    (path / "text.txt").write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(1000)))
    return open_dataset([path / "text.txt"], cache=path / "cache")


def arrays(batch: Batch) -> Mapping[str, list]:
    positions = None if batch.positions is None else batch.positions.tolist()
    return {"inputs": batch.inputs.tolist(), "targets": batch.targets.tolist(), "positions": positions}


@pytest.mark.parametrize("words", [{}, {"head_share": Fraction(1, 4)}, {"causal": False, "head_share": Fraction(1, 4)}])
def test_a_batch_is_a_pure_function_of_seed_and_step(data: TokenDataset, words: dict) -> None:
    one, other, another = (TokenFeed(data, shape(**words), seed, 2) for seed in (5, 5, 6))
    backwards = {step: arrays(other.batch(step)) for step in reversed(range(4))}
    assert {step: arrays(one.batch(step)) for step in range(4)} == backwards
    assert arrays(one.batch(0)) != arrays(one.batch(1))
    assert arrays(one.batch(0)) != arrays(another.batch(0))
    assert [arrays(batch) for batch in one.held_out()] == [arrays(batch) for batch in another.held_out()]


def test_a_causal_model_predicts_the_next_token_everywhere(data: TokenDataset) -> None:
    batch = TokenFeed(data, shape(), 0, 2).batch(7)
    assert batch.positions is None
    assert batch.inputs.shape == batch.targets.shape == (3, 16)
    assert np.array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])


def test_a_causal_head_on_a_share_predicts_the_next_token_there(data: TokenDataset) -> None:
    whole = TokenFeed(data, shape(), 0, 2).batch(7)
    batch = TokenFeed(data, shape(head_share=Fraction(1, 4)), 0, 2).batch(7)
    assert batch.positions is not None
    assert np.array_equal(batch.inputs, whole.inputs)
    assert np.array_equal(batch.targets, np.take_along_axis(whole.targets, batch.positions, 1))
    assert batch.positions.shape == (3, 4)


@pytest.mark.parametrize("share", ["15/100", "1/4", "1/6"])
def test_a_masked_model_predicts_as_many_positions_as_its_head_is_counted_for(data: TokenDataset, share: str) -> None:
    masked = shape(causal=False, head_share=Fraction(share))
    feed = TokenFeed(data, masked, 0, 2)
    for batch in (feed.batch(3), *feed.held_out()):
        assert batch.positions is not None
        assert batch.positions.size == batch.targets.size == masked.head_positions
        assert batch.inputs.shape == (3, 16)
        assert (batch.targets < 256).all()


def test_held_out_batches_are_made_once_and_never_trained_on(data: TokenDataset) -> None:
    feed = TokenFeed(data, shape(), 0, 2)
    assert feed.held_out() is feed.held_out()
    assert len(feed.held_out()) == 2


def test_what_does_not_fit_is_refused_with_the_edit(data: TokenDataset) -> None:
    for words, code, edit in (
        ({"vocab": 257}, "train-vocabulary", "vocab=258"),
        ({"head_share": Fraction(1, 17)}, "train-no-positions", "1/16"),
    ):
        with pytest.raises(RaptrError) as caught:
            TokenFeed(data, shape(**words), 0, 2)
        (diagnostic,) = caught.value.diagnostics
        assert diagnostic.code == code
        assert edit in diagnostic.help
