"""The oracle where a part trains, parts are frozen, blocks grow, factors are learned, the rate climbs again."""

from pathlib import Path

import numpy as np
import pytest

from raptr_dsl import compile_text
from raptr_dsl.axes import AXES
from raptr_dsl.backend import Batch, TrainSettings
from raptr_dsl.backend.network import parameters
from raptr_dsl.ir.plan import AxisMask, Plan
from raptr_dsl.training.account import Account, mismatches
from raptr_reference import BACKEND
from raptr_reference.model import loss_and_gradients
from raptr_reference.train import ReferenceTrainer
from tests.backends.drawn import SMALL, batch, mask, random_values, refused

MODEL = (
    "model layers=6 heads=2 hidden=8 ffn=12 vocab=11 seq=5 batch=2 width_group=3 tied=false\nsteps 12\nallow partial\n"
)
SETTINGS = TrainSettings(dtype="float64", lr=0.01)

SCHEDULES = {
    "a drawn part": "stage depth.train=fixed(2) every=3 steps=rest",
    "a part of what runs": "stage depth=4 heads=1/2 width=1/2 depth.train=fixed(3) scale=sqrt steps=rest",
    "skip": "stage depth=4 depth.train=fixed(3) idle=skip steps=50%\nstage steps=rest",
    "freezing out": "stage depth.train=suffix(6/6..1/6) freeze=[embed, head] steps=rest",
    "frozen parts": "stage depth=3 freeze=[head] steps=50%\nstage freeze=[embed] steps=rest",
    "whole stack": "default sample=prefix grow=copy(all)\nstage depth=3 steps=50%\nstage steps=rest",
    "middle": "default sample=prefix grow=copy(middle) rewarm=2\nramp stages=3 depth=2/6..6/6 steps=rest",
    "zero": "default sample=prefix grow=zero\nstage depth=2 steps=25%\nstage depth=4 steps=25%\nstage steps=rest",
    "new layers": "default sample=prefix grow=copy(last) depth.train=new moments=zero\n"
    "ramp stages=3 depth=2/6..6/6 steps=75%\nstage depth.train=all steps=rest",
    "learned": "stage depth=3 scale=learned steps=50%\nstage steps=rest",
    "drawn sizes": "default sample=prefix\nstage width=draw(1/4, 1/2) steps=50%\nstage depth=draw(2..6) steps=rest",
    "random-LTD": "keep positions=[first]\nkeep depth=[first, last]\n"
    "stage positions=2..5 depth=4 heads=1/2 full=[first, last] scale=sqrt steps=50%\nstage steps=rest",
    "shorter sequences": "stage seq=2..5 depth=4 depth.scale=sqrt steps=50%\n"
    "stage seq=draw(2, 5) every=2 depth.train=fixed(2) steps=rest",
    "smaller batches": "stage batch=1 positions=3 sample=window steps=50%\nstage freeze=[head] steps=rest",
    "profile": "stage depth=4/6 sample=bernoulli profile=[1, 2, 1/2, 1, 1, 1/2] scale=inverse steps=rest",
}


def plan_of(text: str) -> Plan:
    return compile_text(f"{MODEL}{text}\n")


def trainer_of(plan: Plan) -> ReferenceTrainer:
    trainer = BACKEND.trainer(plan, SETTINGS)
    assert isinstance(trainer, ReferenceTrainer)
    return trainer


def run(trainer: ReferenceTrainer, start: int, stop: int) -> None:
    for step in range(start, stop):
        trainer.step(step, batch(trainer.plan.shape, step))


@pytest.mark.parametrize("name", SCHEDULES)
def test_what_is_executed_is_what_was_planned(name: str) -> None:
    plan = plan_of(SCHEDULES[name])
    trainer, account = trainer_of(plan), Account(plan)
    for step in range(plan.steps):
        trainer.step(step, batch(plan.shape, step))
        account.add(plan.step(step))
    assert mismatches(account, trainer.executed()) == []
    assert trainer.executed().flops == plan.flops(case="seed").total


@pytest.mark.parametrize("name", SCHEDULES)
def test_what_does_not_train_stays_as_it_is_to_the_bit(name: str) -> None:
    plan = plan_of(SCHEDULES[name])
    trainer = trainer_of(plan)
    for index in range(plan.steps):
        before = {name: value.copy() for name, value in trainer.values.items()}
        counts = {name: moments.count for name, moments in trainer.moments.items()}
        trainer.step(index, batch(plan.shape, index))
        if plan.grows_at(index):
            continue
        step = plan.step(index)
        depth = step.axes.get("depth")
        trains = depth.trains[0] if depth and depth.trains is not None else np.ones(6, bool)
        for parameter in trainer.table:
            untouched = (before[parameter.name] == trainer.values[parameter.name]).all()
            if parameter.block is not None and not trains[parameter.block]:
                assert untouched and trainer.moments[parameter.name].count == counts[parameter.name]
            if parameter.part in step.frozen:
                assert untouched
            elif parameter.part:
                assert not untouched


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_resume_at_any_step_is_the_same_run(name: str, tmp_path: Path) -> None:
    plan = plan_of(SCHEDULES[name])
    whole = trainer_of(plan)
    run(whole, 0, plan.steps)
    for stop in {*plan.boundaries, 5}:
        first, second = trainer_of(plan), trainer_of(plan)
        run(first, 0, stop)
        folder = tmp_path / str(stop)
        folder.mkdir()
        first.save(folder)
        second.load(folder)
        run(second, stop, plan.steps)
        assert all((whole.values[name] == second.values[name]).all() for name in whole.values)
        assert whole.executed() == second.executed()


def test_the_gradient_norm_counts_what_trains_only() -> None:
    """Of the plain gradient of all parameters, those of the blocks that train and of what is not frozen."""
    plan = plan_of("stage depth.train=suffix(2) freeze=[embed] steps=rest")
    trainer = trainer_of(plan)
    _, gradients = loss_and_gradients(plan.shape, trainer.values, batch(plan.shape), {})
    trained = [gradients[p.name] for p in trainer.table if p.part == "head" or (p.block or 0) >= 4]
    norm = np.sqrt(sum((gradient**2).sum() for gradient in trained))
    assert trainer.step(0, batch(plan.shape)).grad_norm == pytest.approx(float(norm), rel=1e-12)


def test_rule_31_gradients_of_learned_factors_equal_finite_differences() -> None:
    gaps = np.sqrt(np.array([[2.0, 0.0, 1.0]]))
    masks = {"depth": AxisMask(gaps > 0, gaps, full=False, learned=True)}
    values = random_values(SMALL) | {f"blocks.{block}.factor": np.array(0.7 + block) for block in range(3)}
    _, gradients = loss_and_gradients(SMALL, values, batch(SMALL), masks)
    assert gradients["blocks.1.factor"] == 0 != gradients["blocks.0.factor"]
    for name, value in values.items():
        direction = np.random.default_rng(0).standard_normal(value.shape)
        ahead, behind = (
            loss_and_gradients(SMALL, {**values, name: value + sign * 1e-5 * direction}, batch(SMALL), masks)[0]
            for sign in (1, -1)
        )
        slope = float((gradients[name] * direction).sum())
        assert (ahead - behind) / 2e-5 == pytest.approx(slope, rel=1e-5, abs=1e-8), name


def test_rule_31_learned_factors_begin_as_sqrt_are_not_decayed_and_rest_at_full_size() -> None:
    plan = plan_of(SCHEDULES["learned"])
    like = plan_of("stage depth=3 scale=sqrt steps=50%\nstage steps=rest")
    trainer = trainer_of(plan)
    assert trainer.step(0, batch(plan.shape)).loss == trainer_of(like).step(0, batch(plan.shape)).loss
    run(trainer, 1, 6)
    factors = [trainer.values[f"blocks.{block}.factor"].item() for block in range(6)]
    assert len(set(factors)) == 6 and 1 not in factors
    run(trainer, 6, 12)
    assert [trainer.values[f"blocks.{block}.factor"].item() for block in range(6)] == factors
    assert not any(parameter.decay for parameter in trainer.table if parameter.name.endswith("factor"))


@pytest.mark.parametrize("moments", ["copy", "zero"])
@pytest.mark.parametrize("grow", ["copy(last)", "copy(middle)", "copy(all)", "zero"])
def test_rule_35_growth_is_the_first_act_of_its_step(grow: str, moments: str) -> None:
    words = f"grow={grow}" + ("" if grow == "zero" else f" moments={moments}")
    plan = plan_of(f"stage depth=4 sample=prefix steps=50%\nstage {words} steps=rest")
    trainer, plain = trainer_of(plan), trainer_of(plan_of("stage steps=rest"))
    run(trainer, 0, 6)
    growth = plan.grows_at(6)
    assert growth is not None
    for parameter in parameters(plan.shape):
        name, source = parameter.name, None if parameter.block is None else growth.sources[parameter.block]
        origin = name if source is None else parameter.in_block(source)
        source = 0 if source is None else source
        if source >= 0:
            plain.values[name] = trainer.values[origin].copy()
        elif parameter.is_output:
            plain.values[name] *= 0
        if source >= 0 and not (moments == "zero" and parameter.block in growth.new):
            state = trainer.moments[origin]
            plain.moments[name] = type(state)(state.mean.copy(), state.square.copy(), state.count)
    plain._next_step = 6
    run(plain, 6, 12)
    run(trainer, 6, 12)
    assert all((plain.values[name] == trainer.values[name]).all() for name in plain.values)


def test_rule_35_zero_blocks_leave_the_function_as_it_was() -> None:
    plan = plan_of("stage depth=4 sample=prefix steps=50%\nstage grow=zero steps=rest")
    trainer = trainer_of(plan)
    run(trainer, 0, 6)
    small = trainer.evaluate([batch(plan.shape)])
    assert trainer.step(6, batch(plan.shape)).loss == pytest.approx(small, rel=1e-12)


def test_rule_36_evaluation_is_of_the_blocks_that_are_born() -> None:
    plan = plan_of("stage depth=2 sample=prefix steps=50%\nstage grow=copy(all) steps=rest")
    trainer = trainer_of(plan)
    run(trainer, 0, 3)
    small = compile_text("model layers=2 heads=2 hidden=8 ffn=12 vocab=11 seq=5 batch=2 width_group=3 tied=false\n"
                         "steps 12\nstage steps=rest\n").shape  # fmt: skip
    values = {parameter.name: trainer.values[parameter.name] for parameter in parameters(small)}
    expected = loss_and_gradients(small, values, batch(small), {})[0]
    assert trainer.evaluate([batch(small)]) == pytest.approx(expected, rel=1e-12)
    run(trainer, 3, 7)
    full = loss_and_gradients(plan.shape, trainer.values, batch(small), {})[0]
    assert trainer.evaluate([batch(small)]) == full


def test_rewarm_multiplies_the_learning_rate() -> None:
    """Without momentum, clipping or decay a step of AdamW is proportional to its learning rate."""
    settings = TrainSettings(dtype="float64", lr=0.01, beta1=0, weight_decay=0, lr_schedule="constant")
    plans = [plan_of(f"stage {words} steps=rest") for words in ("", "rewarm=4")]
    for step, factor in enumerate([1 / 4, 2 / 4, 3 / 4, 1]):
        moved = []
        for plan in plans:
            trainer = BACKEND.trainer(plan, settings)
            assert isinstance(trainer, ReferenceTrainer)
            trainer._next_step = step
            before = trainer.values["head.weight"].copy()
            trainer.step(step, batch(plan.shape))
            moved.append(trainer.values["head.weight"] - before)
        np.testing.assert_allclose(moved[1], moved[0] * factor, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("stage depth.train=fixed(2) steps=rest", "depth.train"),
        ("stage freeze=[head] steps=rest", "freeze"),
        ("stage rewarm=2 steps=rest", "rewarm"),
        ("stage depth=3 sample=prefix steps=50%\nstage grow=zero steps=rest", "depth.grow"),
        ("stage depth=3 scale=learned steps=rest", "scale=learned"),
    ],
)
def test_a_backend_that_does_not_declare_it_refuses_it_by_name(text: str, word: str, monkeypatch) -> None:
    less = type(BACKEND.capabilities)(
        axes=BACKEND.capabilities.axes,
        scales=BACKEND.capabilities.scales - {"learned"},
        idle=BACKEND.capabilities.idle,
        dtypes=BACKEND.capabilities.dtypes,
    )
    monkeypatch.setattr(type(BACKEND), "capabilities", less)
    with refused("backend-unsupported", f"the reference backend has no {word}"):
        BACKEND.trainer(plan_of(text), SETTINGS)


@pytest.mark.parametrize("axis", ["positions", "seq", "batch"])
def test_gradients_along_the_axes_of_the_data_equal_finite_differences(axis: str) -> None:
    values, sequences = random_values(SMALL), batch(SMALL)
    random = np.random.default_rng(3)
    space = AXES[axis].space(SMALL)
    on = random.permuted(np.tile(np.arange(space.units) < space.units // 2, (space.sites, 1)), axis=1)
    masks = {axis: mask(SMALL, axis, on), "depth": mask(SMALL, "depth", [[True, False, True]], 1.5)}
    _, gradients = loss_and_gradients(SMALL, values, sequences, masks)
    for name, value in values.items():
        direction = random.standard_normal(value.shape)
        ahead, behind = (
            loss_and_gradients(SMALL, {**values, name: value + sign * 1e-5 * direction}, sequences, masks)[0]
            for sign in (1, -1)
        )
        slope = float((gradients[name] * direction).sum())
        assert (ahead - behind) / 2e-5 == pytest.approx(slope, rel=1e-5, abs=1e-8), name


def test_a_shorter_sequence_is_a_batch_of_shorter_sequences() -> None:
    values, sequences = random_values(SMALL), batch(SMALL)
    masks = {"seq": mask(SMALL, "seq", np.arange(6) < 4), "batch": mask(SMALL, "batch", np.arange(4) < 3)}
    cut = Batch(sequences.inputs[:3, :4], sequences.targets[:3, :4])
    assert loss_and_gradients(SMALL, values, sequences, masks)[0] == loss_and_gradients(SMALL, values, cut, {})[0]


def test_positions_that_a_block_does_not_see_pass_it_by() -> None:
    """With one block that sees the first half, causal attention leaves the first half's loss as it was."""
    shape = SMALL.model_copy(update={"layers": 1})
    values, sequences = random_values(shape), batch(shape)
    first = np.tile(np.arange(3), (4, 1))
    half = Batch(sequences.inputs, sequences.targets[:, :3], first)
    masks = {"positions": mask(shape, "positions", np.arange(6) < 3)}
    full, thinned = (loss_and_gradients(shape, values, half, which)[0] for which in ({}, masks))
    assert full == pytest.approx(thinned, rel=1e-12)
    rest = Batch(sequences.inputs, sequences.targets[:, 3:], first + 3)
    nothing = {"depth": mask(shape, "depth", False)}
    passed, thinned = (loss_and_gradients(shape, values, rest, which)[0] for which in (nothing, masks))
    assert passed == pytest.approx(thinned, rel=1e-12)


def test_shorter_sequences_need_a_head_that_sees_every_position() -> None:
    plan = compile_text(MODEL.replace("tied", "head_share=20% tied") + "stage seq=3 steps=rest\n")
    with refused("backend-unsupported", "shortens no sequences"):
        BACKEND.trainer(plan, SETTINGS)
