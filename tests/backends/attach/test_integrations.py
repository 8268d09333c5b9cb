"""Plans in the loops of transformers and Accelerate: the same weights as in a plain loop, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from raptr_dsl import compile_text
from raptr_torch import attach
from raptr_torch.integrations import accelerate as integration
from raptr_torch.integrations.transformers import RaptrCallback
from tests.backends.attach.models import SEQ, VOCAB, make, shape_of
from tests.backends.drawn import refused

STEPS, ACCUMULATION = 6, 2
PLAN = compile_text(
    f"steps {STEPS}\nkeep depth=first\nstage depth=2/4 heads=1/2 scale=sqrt steps=50%\nstage steps=rest",
    model=shape_of("llama"),
    seed=1,
)
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*pin_memory.*no accelerator"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


class Tokens(Dataset):
    def __init__(self, size: int = STEPS * ACCUMULATION * 2) -> None:
        self.tokens = torch.randint(2, VOCAB, (size, SEQ), generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


class InOrder(Trainer):
    def _get_train_sampler(self, *_: Any) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)  # pyright: ignore


def arguments(folder: Path, **given: Any) -> TrainingArguments:
    return TrainingArguments(
        str(folder), max_steps=given.pop("max_steps", STEPS), per_device_train_batch_size=2, learning_rate=1e-2,
        gradient_accumulation_steps=ACCUMULATION, lr_scheduler_type="constant", report_to=[], use_cpu=True,
        disable_tqdm=True, **{"save_strategy": "no", "logging_steps": 1, **given},
    )  # fmt: skip


class Seen(TrainerCallback):
    """A logger that comes after."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.logs.append(dict(logs))


def trained(folder: Path, **given: Any) -> tuple[Any, RaptrCallback, InOrder, Seen]:
    resume = given.pop("resume", None)
    seen = Seen()
    trainer = InOrder(make("llama"), arguments(folder, **given), train_dataset=Tokens(), callbacks=[seen])
    callback = RaptrCallback(PLAN)
    callback.add_to(trainer)
    trainer.train(resume_from_checkpoint=resume)
    return trainer.model, callback, trainer, seen


def test_the_trainer_of_transformers_trains_by_the_plan(tmp_path: Path) -> None:
    model, _, trainer, seen = trained(tmp_path)
    assert [type(module) for module in model.modules()] == [type(module) for module in make("llama").modules()]
    active = [log["raptr/active_depth"] for log in seen.logs if "loss" in log]
    assert active == [2, 2, 2, 4, 4, 4]
    assert [log["raptr/active_heads"] for log in trainer.state.log_history if "loss" in log] == [2, 2, 2, 4, 4, 4]


def test_it_is_the_plain_loop(tmp_path: Path) -> None:
    model, *_ = trained(tmp_path, max_grad_norm=0.5)
    plain = make("llama")
    decayed = [p for n, p in plain.named_parameters() if "norm" not in n]
    others = [p for n, p in plain.named_parameters() if "norm" in n]
    optimizer = torch.optim.AdamW(
        [{"params": decayed}, {"params": others}], lr=1e-2, weight_decay=0.0, eps=1e-8, fused=True
    )
    runner, data = attach(plain, PLAN, optimizer), Tokens()
    for index in range(STEPS):
        with runner.step(index):
            for part in range(ACCUMULATION):
                first = 2 * (ACCUMULATION * index + part)
                tokens = data.tokens[first : first + 2]
                (plain(input_ids=tokens, labels=tokens).loss / ACCUMULATION).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_a_resumed_trainer_goes_on_in_the_plan(tmp_path: Path) -> None:
    whole, *_ = trained(tmp_path / "whole")
    trained(tmp_path / "half", max_steps=2, save_strategy="steps", save_steps=2)
    resumed, *_ = trained(tmp_path / "half", resume=str(tmp_path / "half" / "checkpoint-2"))
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_evaluation_between_steps_is_of_the_full_network(tmp_path: Path) -> None:
    trainer = InOrder(
        make("llama"), arguments(tmp_path, eval_strategy="steps", eval_steps=1), train_dataset=Tokens(),
        eval_dataset=Tokens(4),
    )  # fmt: skip
    RaptrCallback(PLAN).add_to(trainer)
    trainer.train()
    assert len([log for log in trainer.state.log_history if "eval_loss" in log]) == STEPS


def test_a_plan_that_is_too_short_is_refused(tmp_path: Path) -> None:
    with refused("trainer-steps", f"takes {STEPS + 1} steps, and the plan has {STEPS}"):
        trained(tmp_path, max_steps=STEPS + 1)


def accelerated(stop: int = STEPS, folder: Path | None = None, load: bool = False) -> tuple[Any, Any]:
    accelerator = Accelerator(cpu=True, gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=ACCUMULATION))
    plain = make("llama")
    model, optimizer = accelerator.prepare(plain, torch.optim.AdamW(plain.parameters(), lr=1e-2))
    steps = integration.attach(accelerator, model, PLAN, optimizer)
    if load:
        accelerator.load_state(str(folder))
    tokens = Tokens().tokens
    for part in range(steps.runner.next_step * ACCUMULATION, stop * ACCUMULATION):
        with accelerator.accumulate(model):
            with steps.micro_batch():
                batch = tokens[2 * part : 2 * part + 2]
                accelerator.backward(model(input_ids=batch, labels=batch).loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    if folder and not load:
        accelerator.save_state(str(folder))
    return plain, steps


def test_a_loop_of_accelerate_trains_by_the_plan_and_resumes(tmp_path: Path) -> None:
    plain, optimizer = make("llama"), None
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-2)
    runner, tokens = attach(plain, PLAN, optimizer), Tokens().tokens
    for index in range(STEPS):
        with runner.step(index):
            for part in range(ACCUMULATION * index, ACCUMULATION * (index + 1)):
                batch = tokens[2 * part : 2 * part + 2]
                (plain(input_ids=batch, labels=batch).loss / ACCUMULATION).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model, steps = accelerated()
    accelerated(2, tmp_path)
    resumed, _ = accelerated(folder=tmp_path, load=True)
    for ours, again, theirs in zip(model.parameters(), resumed.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(again, theirs)
    assert steps.runner.audit().holds and steps.runner.executed().units["depth"] == 3 * 2 + 3 * 4


def test_a_micro_batch_that_fails_leaves_no_step_open() -> None:
    accelerator = Accelerator(cpu=True, gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=2))
    model = make("llama")
    optimizer = torch.optim.AdamW(model.parameters())
    steps = integration.attach(accelerator, model, PLAN, optimizer)
    with pytest.raises(ZeroDivisionError), accelerator.accumulate(model), steps.micro_batch():
        raise ZeroDivisionError
    assert steps.runner.next_step == 0
    with steps.runner.step(0):
        pass
