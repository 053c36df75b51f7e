"""The inference path of a trained model as one network: bytes of images in, labels out, for images of any size.

One scale, as the network sees an image; no CRF, no SAM's masks. What normalises, resizes inside an encoder or stretches
position embeddings is part of the network. What brings a photo to whole patches is not: the card says it (``card.py``).
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.exc import UserError
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

MOST_CLASSES = 256  # labels are bytes


class InferenceNetwork(nn.Module):
    """Labels and logits of a batch of images.

    Args:
        model: built by :func:`weclip_sam.engine.start.restore.restore_model`; it is used as it is, on its device.

    Raises:
        ValueError: a model that does not label pixels, or that knows more classes than a byte has values.

    Attributes:
        divisor: sides of images must be divisible by it.
        smallest: and at least this long.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        if not hasattr(model, 'test_cfg'):
            raise ValueError(f'a {type(model).__name__} predicts no label for every pixel, so there is nothing to '
                             'export; give the checkpoint of a segmentation model (WeClip, Segmentor)')
        self.model = model.eval()
        if len(model.classes) >= MOST_CLASSES:
            raise ValueError(f'{len(model.classes)} classes and the background: the network answers with bytes, '
                             f'which tell {MOST_CLASSES} apart')
        self.divisor: int = model.data_preprocessor.divisor
        cells: list[int] = [self.divisor, *(network.patch_size for _, network in read_encoders(model)),
                 getattr(getattr(model, 'backbone', None), 'stride', 1)]
        # Two cells a side: of a side with one, a graph cannot say whether it is one by accident or always.
        self.smallest: int = -(-2 * max(cells) // self.divisor) * self.divisor

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """See images.

        Args:
            image: B 3 H W uint8, RGB; H and W divisible by :attr:`divisor` and at least :attr:`smallest`.

        Returns:
            labels B H W uint8 (0 background, 1..C), and the logits B C+1 h w that they are made of, on the grid that
            the decoder answers on: enlarged to H W (bilinear, align_corners=False), the largest is the label.
        """
        rgb = image.float()
        logits = self.model.tensor(rgb).float()
        enlarged = F.interpolate(logits, size=rgb.shape[-2:], mode='bilinear', align_corners=False)
        return enlarged.argmax(1).to(torch.uint8), logits


def read_encoders(model: Any) -> Iterator[tuple[str, Any]]:
    """Names and networks of the frozen encoders that predictions read."""
    for name in sorted(getattr(model, 'decoder_wants', ())):
        yield name, model.encoders[name]


def export_network(network: InferenceNetwork) -> torch.export.ExportedProgram:
    """One graph for images of any number and size, to be saved or translated.

    Raises:
        ValueError: a part of the model asks how large an image is, and cannot be traced.
    """
    unit, least = network.divisor, network.smallest // network.divisor
    height, width = (torch.export.Dim(name, min=least) for name in ('height', 'width'))
    # Longer than the least, so that no side is taken for a constant, and different.
    rows, columns = (unit * (least + -(-more // unit)) for more in (16, 32))
    example = torch.zeros(2, 3, rows, columns, dtype=torch.uint8)
    try:
        with torch.no_grad():
            network(example)  # what is made once and kept (SAM's position tables) is made before anybody traces it
            program = torch.export.export(network, (example,), strict=False, dynamic_shapes=(
                {0: torch.export.Dim('batch'), 2: unit * height, 3: unit * width},))
    except (UserError, GuardOnDataDependentSymNode) as error:
        raise ValueError(_asks(network, str(error))) from error
    if wrong := broken_condition(getattr(program, '_guards_code', ()), unit, least):
        raise ValueError(_asks(network, wrong))
    return program


def _asks(network: InferenceNetwork, told: str) -> str:
    return (f'this {type(network.model).__name__} cannot be exported for images of any size: a part of it asks how '
            'large an image is, or how many there are; see making_graph in weclip_sam/foundation/graph.py. It was: '
            f'{" ".join(told.split())[:300]}')


def broken_condition(conditions: Sequence[str], unit: int, least: int) -> str | None:
    """The first condition, of those under which torch's graph is right, that some size does not meet; None if all do.

    Where code asks whether a side has 14 patches, torch only notes that the graph is for those that have not, and what
    an ONNX file is made of knows no conditions. All sizes up to 64 units a side are tried.

    Args:
        conditions: of an exported program with the input ``image``.
        unit: what divides the sides.
        least: the smallest number of units.
    """
    compiled = [(text, compile(text, text, 'eval')) for text in conditions]
    sides = range(least, max(64, 2 * least))
    for batch, rows, columns in itertools.chain(itertools.product((1, 4), sides, sides), ((64, least, least),)):
        shape = torch.Size((batch, 3, unit * rows, unit * columns))
        known = dict(L=dict(image=_Shaped(shape)), torch=torch, math=math)
        for text, code in compiled:
            if not eval(code, known):  # what torch itself wrote down, and runs before the program
                return f'{text} (not met by images of {shape[2]} x {shape[3]} in a batch of {batch})'
    return None


class _Shaped(NamedTuple):
    """As much of an image as conditions are about."""

    shape: torch.Size

    def size(self) -> torch.Size:
        return self.shape
