"""Which layers answer class by class: their rows belong to names, not to numbers."""
from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from torch import nn

Layer = TypeVar('Layer', bound=nn.Module)


def by_class(layer: Layer) -> Layer:
    """Say of a layer that its parameters have a row (of their first dimension) for the background and for each class.

    A training that starts from a checkpoint of other classes gives each row to the class of the same name.
    """
    layer.rows_by_class = True  # type: ignore[assignment]  # a module takes any attribute
    return layer


def rows_by_class(model: nn.Module) -> Iterator[str]:
    """Names of the parameters of these layers."""
    for name, module in model.named_modules():
        if getattr(module, 'rows_by_class', False):
            for parameter, _ in module.named_parameters(recurse=False):
                yield f'{name}.{parameter}' if name else parameter
