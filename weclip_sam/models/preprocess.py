"""From a list of images of any size to one batch whose sides the patch size divides, on the model's device."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import BaseDataElement
from torch import Tensor

from weclip_sam.registry import MODELS
from weclip_sam.structures import MaskSet, to_device

# What later steps count and index with: on a device, every such step would wait for it.
ON_HOST = ('image_labels',)
ALIGNMENT = 16  # bytes; where each tensor of a batch begins in the one block that is copied


@MODELS.register_module()
class SegDataPreprocessor(BaseDataPreprocessor):
    """Pad a batch below and on the right, stack it, and move it to the model's device.

    Values stay RGB in 0..255 (float); the frozen encoder normalises. Each sample's ``img_shape`` says what to cut
    back to. ``image_labels`` stay on the host; all that is moved goes in one copy that the host does not wait for.

    Args:
        divisor: the patch size of the encoder.
        fill: value of the padding, 0..255, near CLIP's mean so that it looks like nothing.
    """

    def __init__(self, divisor: int = 16, fill: float = 114.0) -> None:
        super().__init__(non_blocking=True)
        if divisor < 1:
            raise ValueError(f'SegDataPreprocessor.divisor: expected a patch size of at least 1, got {divisor}')
        if not 0 <= fill <= 255:
            raise ValueError(f'SegDataPreprocessor.fill: expected a value in 0..255, got {fill}')
        self.divisor, self.fill = divisor, fill

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """``inputs``: list of 3 H W uint8 (or B 3 H W) becomes B 3 H' W' float; the rest see :meth:`cast_data`."""
        data = self.cast_data(dict(data, inputs=self._stack(list(data['inputs']))))
        return dict(data, inputs=data['inputs'].float())

    def _stack(self, images: Sequence[Tensor]) -> Tensor:
        """B C H' W': as bytes where they are moved and can hold the padding, else as numbers at once."""
        height = -(-max(i.shape[-2] for i in images) // self.divisor) * self.divisor
        width = -(-max(i.shape[-1] for i in images) // self.divisor) * self.divisor
        as_bytes = self.fill == int(self.fill) and all(i.dtype == torch.uint8 for i in images)
        kind = torch.uint8 if as_bytes and torch.device(self.device).type != 'cpu' else torch.float32
        stacked = images[0].new_empty(len(images), images[0].shape[0], height, width, dtype=kind)
        if any(tuple(image.shape[-2:]) != (height, width) for image in images):
            stacked.fill_(self.fill)
        for own, image in zip(stacked, images, strict=True):
            own[:, :image.shape[-2], :image.shape[-1]] = image
        return stacked

    def cast_data(self, data: Any) -> Any:
        """Copy everything that has a device to the model's, except the ``image_labels`` of samples.

        What is there already stays as it is; the samples themselves are new ones.
        """
        tensors: list[Tensor] = []

        def collect(tensor: Tensor) -> Tensor:
            tensors.append(tensor)
            return tensor
        _each_tensor(data, collect)
        moved = iter(move_together(tensors, self.device))
        return _each_tensor(data, lambda _: next(moved))


def move_together(tensors: Sequence[Tensor], device: torch.device | str | int | None) -> list[Tensor]:
    """Copy tensors to a device as one block, for each copy has its price, and small ones nothing else.

    Args:
        tensors: of any types; those that are on a device already are moved one by one, or stay.
        device: where to; in front of the host's own nothing is copied.

    Returns:
        The tensors on the device, in order: parts of one block.
    """
    target = torch.device('cpu' if device is None else device)
    waiting = [tensor for tensor in tensors if tensor.device.type == 'cpu']
    if target.type == 'cpu' or not waiting:
        return [to_device(tensor, target) for tensor in tensors]
    block = pack(waiting, pinned=target.type == 'cuda').to(target, non_blocking=True)
    parts = iter(unpack(block, waiting))
    return [next(parts) if tensor.device.type == 'cpu' else to_device(tensor, target) for tensor in tensors]


def pack(tensors: Sequence[Tensor], pinned: bool = False) -> Tensor:
    """One block of bytes that holds the tensors; ``pinned`` in page-locked memory, from where a GPU fetches it while
    the host goes on."""
    block = torch.empty(sum(map(_room, tensors)), dtype=torch.uint8, pin_memory=pinned)
    for part, tensor in zip(unpack(block, tensors), tensors, strict=True):
        part.copy_(tensor)
    return block


def unpack(block: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The parts of a block that :func:`pack` made, or of its copy on a device; views, in order.

    Args:
        block: bytes.
        like: the tensors that were packed, for their types and shapes.
    """
    parts, end = [], 0
    for tensor in like:
        parts.append(block[end:end + tensor.nbytes].view(tensor.dtype).view(tensor.shape))
        end += _room(tensor)
    return parts


def _room(tensor: Tensor) -> int:
    return -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT


def _each_tensor(data: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with every tensor that moves replaced by ``change(tensor)``, always in the same order."""
    if isinstance(data, Tensor):
        return change(data)
    if isinstance(data, MaskSet):
        return data._each(change)
    if isinstance(data, BaseDataElement):
        moved = data.new()
        moved.set_data({name: _each_tensor(value, change) for name, value in data.items() if name not in ON_HOST})
        return moved
    if isinstance(data, Mapping):
        return {name: _each_tensor(value, change) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        parts = [_each_tensor(value, change) for value in data]
        return type(data)(*parts) if hasattr(data, '_fields') else type(data)(parts)
    return data
