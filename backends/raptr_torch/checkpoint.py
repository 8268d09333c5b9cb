"""Everything that the next step depends on, written to a folder and read back to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from raptr_dsl.backend.checks import unreadable_checkpoint
from raptr_dsl.backend.randomness import random_states, restore_random_states
from raptr_torch.runner import Runner

TENSORS = "trainer.pt"
COUNTS = "counts.json"


def save(folder: Path, model: nn.Module, optimizer: Optimizer, runner: Runner) -> None:
    """Writes weights, optimizer state, counts and random states; whatever fails is raised as it comes."""
    tensors = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    counts = {**runner.state_dict(), **random_states()}
    torch.save(tensors, folder / TENSORS)
    (folder / COUNTS).write_text(json.dumps(counts), encoding="utf-8")


def load(folder: Path, model: nn.Module, optimizer: Optimizer, runner: Runner) -> None:
    """Restores what `save` wrote; nothing is changed where a file is damaged.

    Raises:
        RaptrError: `trainer-checkpoint`.
    """
    try:
        tensors = torch.load(folder / TENSORS, map_location="cpu", weights_only=True)
        counts = json.loads((folder / COUNTS).read_text(encoding="utf-8"))
        _require_same(tensors["model"], model)
    except Exception as error:  # a damaged file can fail in any way
        raise unreadable_checkpoint(folder, error) from error
    model.load_state_dict(tensors["model"])
    optimizer.load_state_dict(tensors["optimizer"])
    torch.set_rng_state(tensors["torch"])
    if tensors["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(tensors["cuda"])
    restore_random_states(counts)
    runner.load_state_dict(counts)


def _require_same(saved: dict[str, torch.Tensor], model: nn.Module) -> None:
    """Refuses tensors of another model."""
    here = model.state_dict()
    if saved.keys() != here.keys():
        raise ValueError(f"it holds other tensors, such as {min(saved.keys() ^ here.keys())}")
    for name, tensor in here.items():
        there, here_too = _kind(saved[name]), _kind(tensor)
        if there != here_too:
            raise ValueError(f"{name} is {there} there and {here_too} here")


def _kind(tensor: torch.Tensor) -> str:
    return f"{tensor.dtype}{list(tensor.shape)}"
