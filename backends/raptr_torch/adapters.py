"""Models and blocks with adapters (PEFT): what they were made of, which is what a plan speaks of.

Known by what the classes of PEFT have, so that it need not be installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn


def without_adapters(model: nn.Module) -> Any:
    """The model that adapters were added to; a model without any is that itself."""
    return model.get_base_model() if has_adapters(model) else model  # pyright: ignore[reportCallIssue]


def has_adapters(model: nn.Module) -> bool:
    """Whether it is a PEFT model."""
    return _is_of_peft(model) and callable(getattr(model, "get_base_model", None))


def own_parameters(block: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of a block without those of its adapters, by the names that they had before."""
    adapted = [path for path, module in block.named_modules() if _is_adapted(module)]
    for name, parameter in block.named_parameters():
        path = next((path for path in adapted if name.startswith(f"{path}.")), None)
        if path is None:
            yield name, parameter
        elif name.startswith(f"{path}.base_layer."):
            yield path + name.removeprefix(f"{path}.base_layer"), parameter


def _is_adapted(module: nn.Module) -> bool:
    return _is_of_peft(module) and isinstance(getattr(module, "base_layer", None), nn.Module)


def _is_of_peft(module: nn.Module) -> bool:
    return any(cls.__module__.split(".")[0] == "peft" for cls in type(module).__mro__)
