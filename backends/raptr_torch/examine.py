"""What an optimizer does to parameters that did not run: found by experiment on a small matrix, not by its name.

An optimizer is rebuilt from its class and the options of a parameter group, so that one from any library can be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from raptr_dsl.diagnostics import fail

IDLE_STEPS = 60
"""Zero gradients after which momentum must have faded: β₁=0.99 still leaves half of the movement, a sign all of it."""
FADED = 0.9
TRIAL = (64, 128)
"""Of the small matrix: optimizers that quantise their state (bitsandbytes, torchao) do so from 4,096 elements on."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What holds of an optimizer.

    Attributes:
        is_elementwise: an element's update depends on that element alone, so rows can be updated by themselves.
        fades: under zero gradients the movement dies away (not under sign- and matrix-normalised optimizers).
        primes: a step of zero gradients at learning rate 0 leaves it as if it had just been made.
        spares_gradients: it does not write to the gradients it is given, so that one buffer of zeros can be shared.
        tables: words of its state that no step changes, such as the levels of quantised state.
    """

    is_elementwise: bool
    fades: bool
    primes: bool
    spares_gradients: bool
    tables: frozenset[str]


Make = Callable[..., Optimizer]


def examine(optimizer: Optimizer, group: dict[str, Any]) -> Facts:
    """The facts of an optimizer under the options of one of its parameter groups.

    Raises:
        RaptrError: it cannot be rebuilt from its options.
    """
    accepted = signature(type(optimizer).__init__).parameters
    options = {word: value for word, value in group.items() if word in accepted and word != "params"}
    arguments = type(optimizer), tuple(options.items()), group["params"][0].device
    try:
        is_known = isinstance(hash(arguments), int) and not any(isinstance(v, Tensor) for v in options.values())
    except TypeError:  # an option that is a list
        is_known = False
    return _remembered(*arguments) if is_known else _examined(*arguments)


def _examined(cls: type[Optimizer], options: Sequence[tuple[str, Any]], device: torch.device) -> Facts:
    accepted = signature(cls.__init__).parameters

    def make(parameters: list[nn.Parameter], **changes: float) -> Optimizer:
        return cls(parameters, **{**dict(options), **{w: v for w, v in changes.items() if w in accepted}})

    try:
        tables = _tables(make, device)
        return Facts(
            _is_elementwise(make, device, tables),
            _fades(make, device),
            _primes(make, device, tables),
            _spares_gradients(make, device),
            tables,
        )
    except Exception as error:  # whatever a foreign constructor or step may raise
        raise fail(
            "optimizer-opaque",
            f"{cls.__qualname__} could not be examined: {type(error).__name__}: {error}",
            help="bind an optimizer whose constructor takes the options of its parameter groups",
        ) from error


_remembered = lru_cache(maxsize=64)(_examined)


def prime(optimizer: Optimizer, parameters: Sequence[nn.Parameter], tables: Collection[str]) -> None:
    """Creates the state of those parameters that have none, as before the first step; weights stay as they are."""
    groups = optimizer.param_groups
    wanted = set(parameters)
    try:
        for group in groups:
            for parameter in group["params"]:
                if parameter in wanted and not optimizer.state.get(parameter):
                    optimizer.param_groups = [{**group, "params": [parameter], "lr": group["lr"] * 0}]
                    _prime_one(optimizer, parameter, tables)
    finally:
        optimizer.param_groups = groups


@torch.no_grad()
def _prime_one(optimizer: Optimizer, parameter: nn.Parameter, tables: Collection[str]) -> None:
    weights, gradient = parameter.detach().clone(), parameter.grad
    parameter.grad = torch.zeros_like(parameter)
    try:
        optimizer.step()
    finally:
        parameter.copy_(weights)  # some decay or project whatever the learning rate is
        parameter.grad = gradient
    forget(optimizer.state[parameter], tables)


def forget(state: dict[str, Any], tables: Collection[str]) -> None:
    """Makes the state of a parameter what it was before the first step, in place; of an optimizer that primes."""
    for word, value in state.items():
        if word in tables:
            continue
        if isinstance(value, Tensor):
            value.zero_()
        elif isinstance(value, int | float) and not isinstance(value, bool):
            state[word] = type(value)(0)


def _tables(make: Make, device: torch.device) -> frozenset[str]:
    """The words of its state that stay as the first step has made them."""
    parameter = _matrix(device)
    optimizer = make([parameter], lr=1e-3)
    _move(optimizer, parameter, _normal(device, 0))
    first = {word: _copied(value) for word, value in optimizer.state[parameter].items() if value is not None}
    for seed in range(1, 20):
        _move(optimizer, parameter, _normal(device, seed))
    last = optimizer.state[parameter]
    return frozenset(word for word, value in first.items() if torch.equal(value, _copied(last[word])))


def _copied(value: Any) -> Tensor:
    return torch.as_tensor(value).detach().clone()


def _is_elementwise(make: Make, device: torch.device, tables: Collection[str]) -> bool:
    """Whether rows by themselves go as they do in their matrix; then its state has a value an element, and counts."""
    whole, rows = _matrix(device), slice(2, 5)
    part = nn.Parameter(whole.detach()[rows].clone())
    optimizers = make([whole], lr=1e-3), make([part], lr=1e-3)
    for seed in range(3):
        gradient = _normal(device, seed)
        whole.grad, part.grad = gradient, gradient[rows].clone()
        for optimizer in optimizers:
            optimizer.step()
    state = {word: value for word, value in optimizers[0].state[whole].items() if word not in tables}
    if any(isinstance(value, Tensor) and value.numel() > 1 and value.shape != whole.shape for value in state.values()):
        return False
    return torch.allclose(whole.detach()[rows], part.detach(), rtol=1e-5, atol=1e-7)


def _fades(make: Make, device: torch.device) -> bool:
    parameter = _matrix(device)
    optimizer = make([parameter], lr=1e-3, weight_decay=0.0)
    for seed in range(20):
        _move(optimizer, parameter, _normal(device, seed))
    first = _move(optimizer, parameter, torch.zeros_like(parameter))
    last = first
    for _ in range(IDLE_STEPS):
        last = _move(optimizer, parameter, torch.zeros_like(parameter))
    return last <= FADED * first


def _primes(make: Make, device: torch.device, tables: Collection[str]) -> bool:
    primed, plain = _matrix(device), _matrix(device)
    optimizers = make([primed], lr=1e-3), make([plain], lr=1e-3)
    prime(optimizers[0], [primed], tables)
    for seed in range(3):
        primed.grad, plain.grad = _normal(device, seed), _normal(device, seed)
        for optimizer in optimizers:
            optimizer.step()
    return torch.equal(primed, plain)


def _spares_gradients(make: Make, device: torch.device) -> bool:
    parameter = _matrix(device)
    optimizer = make([parameter], lr=1e-3)
    for seed in range(3):
        _move(optimizer, parameter, _normal(device, seed))
    zero = torch.zeros_like(parameter)
    _move(optimizer, parameter, zero)
    return not zero.any()


@torch.no_grad()
def _move(optimizer: Optimizer, parameter: nn.Parameter, gradient: Tensor) -> float:
    """The distance that one step moves the parameter."""
    before = parameter.detach().clone()
    parameter.grad = gradient
    optimizer.step()
    return float((parameter - before).norm())


def _matrix(device: torch.device) -> nn.Parameter:
    return nn.Parameter(_normal(device, 99))


def _normal(device: torch.device, seed: int) -> Tensor:
    return torch.randn(*TRIAL, generator=torch.Generator().manual_seed(seed)).to(device)
