"""Each convention is its published formula, written down here once more from its source, on published models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import pytest
from hypothesis import given

from raptr_dsl.axes import AXES
from raptr_dsl.flops import CONVENTIONS, Accounting, Exact, Recompute
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.models import find_shape
from tests.flops.drawn import shapes, shapes_with_accounts


@dataclass(frozen=True)
class Published:
    """A model in the letters of the papers: layers L, hidden h, heads a of size q, feed-forward f, vocabulary V."""

    L: int
    h: int
    a: int
    q: int
    f: int
    V: int
    s: int
    B: int
    gated: bool = False
    tied: bool = True

    @property
    def shape(self) -> ModelShape:
        return ModelShape(
            layers=self.L, hidden=self.h, heads=self.a, head_dim=self.q, ffn=self.f, vocab=self.V, seq=self.s,
            batch=self.B, gated=self.gated, tied=self.tied,
        )  # fmt: skip

    @property
    def block_matrices(self) -> int:
        """Parameters of the matrices of all blocks."""
        return self.L * (4 * self.h * self.a * self.q + (3 if self.gated else 2) * self.h * self.f)


GPT3 = Published(L=96, h=12288, a=96, q=128, f=49152, V=50257, s=2048, B=1536)
"""Brown et al. 2020, table 2.1; the batch of 3.2M tokens is 1,562.5 sequences, that of Narayanan et al. 1,536."""

BERT = Published(L=12, h=768, a=12, q=64, f=3072, V=30522, s=512, B=256)
"""Devlin et al. 2018, section 3 and appendix A.2."""

LLAMA = Published(L=32, h=4096, a=32, q=128, f=11008, V=32000, s=4096, B=1024, gated=True, tied=False)
"""Touvron et al. 2023 (Llama 2), section 2.2, and the released weights."""

MODELS = pytest.mark.parametrize("model", [GPT3, BERT, LLAMA], ids=["gpt3-175b", "bert-base", "llama-2-7b"])


def total(shape: ModelShape, convention: str, recompute: Recompute = "none") -> Exact:
    costs = Accounting(convention, recompute=recompute).costs(shape)
    return shape.layers * sum(costs.blocks) + costs.head


@MODELS
def test_matmul_is_two_flops_for_each_multiplication_of_each_matmul(model: Published) -> None:
    tokens, heads = model.B * model.s, model.a * model.q
    matmuls = [(tokens, model.h, heads)] * 3 + [(tokens, heads, model.h)]
    matmuls += [(model.s, model.q, model.s), (model.s, model.s, model.q)] * (model.B * model.a)
    matmuls += [(tokens, model.h, model.f)] * (2 if model.gated else 1) + [(tokens, model.f, model.h)]
    block = sum(2 * m * k * n for m, k, n in matmuls)
    assert total(model.shape, "matmul") == 3 * (model.L * block + 2 * tokens * model.h * model.V)


@pytest.mark.parametrize("model", [GPT3, BERT], ids=["gpt3-175b", "bert-base"])
def test_megatron_is_equation_3(model: Published) -> None:
    """Narayanan et al. 2021, eq. 3: 96·B·s·l·h²·(1 + s/6h + V/16lh), with the blocks' forward run twice."""
    B, s, h, L, V = model.B, model.s, model.h, model.L, model.V
    bracket = 1 + Fraction(s, 6 * h) + Fraction(V, 16 * L * h)
    assert total(model.shape, "megatron", "full") == 96 * B * s * L * h**2 * bracket
    bracket = 1 + Fraction(s, 6 * h) + Fraction(V, 12 * L * h)
    assert total(model.shape, "megatron") == 72 * B * s * L * h**2 * bracket


@MODELS
def test_megatron_with_any_heads_and_gated_parts(model: Published) -> None:
    """Megatron-LM's `num_floating_point_operations` of 2024, of which eq. 3 without recomputation is a case."""
    B, s, h, L, V = model.B, model.s, model.h, model.L, model.V
    attention = (1 + Fraction(model.a, model.a) + Fraction(s, h)) * Fraction(model.a * model.q, h)
    ffn = Fraction(model.f, h) * (Fraction(3, 2) if model.gated else 1)
    assert total(model.shape, "megatron") == 12 * B * s * L * h**2 * (attention + ffn + Fraction(V, 2 * L * h))


@MODELS
def test_palm_is_6n_and_12lhqt(model: Published) -> None:
    """Chowdhery et al. 2022, appendix B, with N as far as a shape tells it: all matrices."""
    N = model.block_matrices + model.V * model.h * (1 if model.tied else 2)
    per_token = 6 * N + 12 * model.L * model.a * model.q * model.s
    assert total(model.shape, "palm") == per_token * model.B * model.s


def test_the_parameters_that_palm_counts_are_those_of_the_released_llama() -> None:
    """6,738,415,616 in all, less the gains of 65 norms: what is left are the matrices."""
    assert LLAMA.block_matrices + 2 * LLAMA.V * LLAMA.h == 6_738_415_616 - 65 * 4096


@MODELS
def test_chinchilla_is_appendix_f(model: Published) -> None:
    """Hoffmann et al. 2022, appendix F, line by line; a gated part has a third matrix."""
    seq_len, d_model, key_size, num_heads = model.s, model.h, model.q, model.a
    embeddings = 2 * seq_len * model.V * d_model
    attention = 2 * 3 * seq_len * d_model * (key_size * num_heads)  # key, query and value projections
    attention += 2 * seq_len * seq_len * (key_size * num_heads)  # key @ query logits
    attention += 3 * num_heads * seq_len * seq_len  # softmax
    attention += 2 * seq_len * seq_len * (key_size * num_heads)  # softmax @ query reductions
    attention += 2 * seq_len * (key_size * num_heads) * d_model  # final linear
    dense = 2 * seq_len * (d_model * model.f + d_model * model.f)
    dense += 2 * seq_len * d_model * model.f if model.gated else 0
    final_logits = 2 * seq_len * d_model * model.V
    forward = embeddings + model.L * (attention + dense) + final_logits
    assert total(model.shape, "chinchilla") == model.B * (forward + 2 * forward)


@MODELS
def test_6nd_is_6nd(model: Published) -> None:
    """Kaplan et al. 2020, section 2.1: N without embeddings."""
    assert total(model.shape, "6nd") == 6 * model.block_matrices * model.B * model.s


def test_6nd_of_gpt3_is_its_published_compute() -> None:
    """Brown et al. 2020, table D.1: 3.14e23 for 300B tokens, with the embeddings' 0.6B among its 174.6B parameters."""
    compute = Fraction(300 * 10**9, GPT3.B * GPT3.s) * total(GPT3.shape, "6nd")
    assert 0.995 < float(compute) / 3.14e23 < 1


def test_bert_base_has_85_million_parameters_in_its_blocks() -> None:
    shape = find_shape("bert-base")
    assert total(shape, "6nd") == 6 * 84_934_656 * 256 * 512


@MODELS
def test_6nd_is_lower_by_what_it_leaves_out(model: Published) -> None:
    ratio = Fraction(total(model.shape, "6nd")) / total(model.shape, "megatron")
    assert Fraction(1, 2) < ratio < 1


@given(shapes(most_stacks=1, has_experts=False))
def test_the_conventions_beside_each_other(shape: ModelShape) -> None:
    """In what two conventions differ is in what they say they count."""
    matrix = 3 * 2 * shape.tokens * shape.hidden * shape.vocab
    extra = 3 * 2 * shape.tokens * shape.hidden**2 if shape.head_transform else 0
    entries = 3 * 3 * shape.layers * shape.batch * shape.heads * shape.seq**2
    megatron = total(shape, "megatron")
    assert total(shape, "palm") == megatron + extra + (0 if shape.tied else matrix)
    assert total(shape, "chinchilla") == megatron + matrix + entries
    scores = 12 * shape.layers * shape.batch * shape.seq**2 * shape.heads * shape.head_dim
    assert total(shape, "6nd") == megatron + extra - scores - matrix
    everywhere = shape.model_copy(update={"head_share": Fraction(1), "head_transform": False})
    assert total(everywhere, "matmul") == megatron


@given(shapes_with_accounts())
def test_recomputation_runs_the_blocks_once_more_and_nothing_else(drawn: tuple[ModelShape, Accounting]) -> None:
    shape, account = drawn
    none, early, full = (
        Accounting(account.convention, account.causal, recompute).costs(shape)
        for recompute in ("none", "early_stop", "full")
    )
    assert none.head == early.head == full.head
    for stack in range(shape.stacks):
        for part, flops in none.stacks[stack].items():
            again = Fraction(flops) / 3
            assert full.stacks[stack][part] == flops + again
            assert early.stacks[stack][part] == (
                flops if part == "ffn.output" and not shape.has_experts else flops + again
            )


@given(shapes_with_accounts())
def test_half_of_the_scores_of_attention_that_looks_back(drawn: tuple[ModelShape, Accounting]) -> None:
    shape, account = drawn
    if not shape.causal or not CONVENTIONS[account.convention].scores:
        return
    every, half = (
        Accounting(account.convention, causal, account.recompute).costs(shape) for causal in ("full", "half")
    )
    assert half.head == every.head and half.stacks[:-1] == every.stacks[:-1]
    for part, flops in every.stacks[-1].items():
        assert half.stacks[-1][part] == (Fraction(flops) / 2 if part == "attention.scores" else flops)


@given(shapes_with_accounts())
def test_whole_numbers_are_integers(drawn: tuple[ModelShape, Accounting]) -> None:
    shape, account = drawn
    for stack in account.costs(shape).stacks:
        for flops in stack.values():
            assert isinstance(flops, int) or (flops.denominator == 2 and account.causal == "half")


@given(shapes_with_accounts())
def test_every_part_of_a_block_is_one_that_depth_thins(drawn: tuple[ModelShape, Accounting]) -> None:
    shape, account = drawn
    parts = {part for stack in account.costs(shape).stacks for part in stack}
    assert parts <= AXES["depth"].powers.keys()
    assert parts <= {part for name in ("heads", "width", "experts") for part in AXES[name].powers}


@pytest.mark.parametrize(
    ("account", "words", "problem"),
    [
        (Accounting("megatrom"), {}, "did you mean megatron?"),
        (Accounting("flops"), {}, "known are matmul, megatron, palm, chinchilla, 6nd"),
        (Accounting(causal="quarter"), {}, "no FLOP causal 'quarter'"),  # pyright: ignore[reportArgumentType]
        (Accounting(recompute="some"), {}, "no FLOP recompute 'some'"),  # pyright: ignore[reportArgumentType]
        (Accounting("palm"), {"source_seq": 4}, "knows no encoder beside a decoder"),
        (Accounting("chinchilla"), {"source_seq": 4}, "these count both: matmul, megatron, 6nd"),
        (Accounting("6nd", "half"), {}, "counts no scores"),
        (Accounting("palm", "half"), {"causal": False}, "looks both ways"),
    ],
)
def test_accounts_that_do_not_fit(account: Accounting, words: dict, problem: str) -> None:
    shape = ModelShape(layers=2, heads=2, hidden=4, ffn=4, vocab=5, seq=4, **words)
    assert problem in account.problem(shape)
    with pytest.raises(ValueError, match=account.problem(shape)[:20]):
        account.costs(shape)


def test_an_encoder_decoder_by_hand() -> None:
    """Two stacks of one block: an encoder of 3 positions, a decoder of 2 that looks at it."""
    shape = ModelShape(layers=1, heads=2, kv_heads=1, head_dim=5, hidden=4, ffn=7, vocab=11, seq=2, source_seq=3)
    encoder, decoder = Accounting().costs(shape).stacks
    assert encoder == {
        "attention.query": 3 * 2 * 3 * 4 * 10,
        "attention.key_value": 3 * 2 * 2 * 3 * 4 * 5,
        "attention.scores": 3 * 2 * 2 * 2 * 3 * 3 * 5,
        "attention.output": 3 * 2 * 3 * 10 * 4,
        "ffn.input": 3 * 2 * 3 * 4 * 7,
        "ffn.output": 3 * 2 * 3 * 7 * 4,
    }
    assert decoder["cross_attention.query"] == decoder["attention.query"] == 3 * 2 * 2 * 4 * 10
    assert decoder["cross_attention.key_value"] == 3 * 2 * 2 * 3 * 4 * 5  # of the encoder's 3 positions
    assert decoder["cross_attention.scores"] == 3 * 2 * 2 * 2 * 2 * 3 * 5
    assert decoder["ffn.output"] == 3 * 2 * 2 * 7 * 4


@given(shapes_with_accounts())
def test_a_mixture_costs_the_experts_of_a_token_and_a_router_that_sees_all(
    drawn: tuple[ModelShape, Accounting],
) -> None:
    """As one part of `top_k` times as many hidden units, but for the router, and for what `early_stop` leaves out."""
    shape, account = drawn
    account = replace(account, recompute="none")
    wide = {"experts": 1, "top_k": 1, "ffn": shape.top_k * shape.ffn}
    mixture, dense = (account.costs(one) for one in (shape, shape.model_copy(update=wide)))
    assert mixture.outside == dense.outside
    for stack, (parts, alike) in enumerate(zip(mixture.forward, dense.forward, strict=True)):
        positions = shape.batch * (shape.source_seq if shape.source_seq and not stack else shape.seq)
        router = {"ffn.router": 2 * positions * shape.hidden * shape.experts} if shape.experts > 1 else {}
        assert parts == {**alike, **router}
