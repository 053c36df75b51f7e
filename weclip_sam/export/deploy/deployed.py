"""An exported ONNX file as a function of photos: what it is looked at with, and an example for those who write another.

``docs/deploy/use_onnx.py`` is the same in few lines without this package.
"""
from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from weclip_sam.commands import tool
from weclip_sam.export.deploy.card import FORMAT, LARGEST
from weclip_sam.export.deploy.files import KEY, require
from weclip_sam.io.images import fit_within
from weclip_sam.visualization import enlarge_labels

_ROUND: dict[str, Callable[[float], int]] = dict(nearest=round, down=math.floor, up=math.ceil)
_NEEDED = ('classes', 'read', 'resize', 'border', 'divisor', 'smallest', 'pad_value', 'checkpoint')


class Deployed:
    """A network in ONNX Runtime, on the CPU, by what its file says of itself alone.

    Args:
        source: written by ``tools/deploy.py``: a path, or the content of such a file.
        threads: of ONNX Runtime; 0 takes all cores.

    Raises:
        FileNotFoundError: no such file.
        ValueError: ``onnxruntime`` is missing, or the file is no ONNX, was exported by something else, or has a card of
            a later version.

    Attributes:
        card: see :func:`weclip_sam.export.deploy.card.network_card`.
        classes: C+1 names by label, ``background`` first.
    """

    def __init__(self, source: str | os.PathLike | bytes, threads: int = 0) -> None:
        require('onnxruntime')
        import onnxruntime
        path = 'the exported network' if isinstance(source, bytes) else os.fspath(source)
        if not isinstance(source, bytes) and not os.path.isfile(source):
            raise FileNotFoundError(f'{path}: no such file')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 4
        try:
            self.session = onnxruntime.InferenceSession(source if isinstance(source, bytes) else path, options,
                                                        providers=['CPUExecutionProvider'])
        except Exception as error:  # a class of its own for each thing that may be wrong, under no common one
            raise ValueError(f'{path}: ONNX Runtime cannot read it; expected an .onnx file of {tool("deploy")}. '
                             f'({" ".join(str(error).split())[:200]})') from None
        self.card = _card(self.session.get_modelmeta().custom_metadata_map.get(KEY), path)
        self.classes: tuple[str, ...] = tuple(self.card['classes'])

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """B 3 H W uint8 of whole patches -> labels B H W uint8 and logits B C+1 h w."""
        labels, logits = self.session.run(['labels', 'logits'], {'image': images})
        return labels, logits

    def __call__(self, picture: Image.Image) -> np.ndarray:
        """H W uint8, the label of every pixel of an RGB picture."""
        given, read = (picture.height, picture.width), resized(picture, self.card['read'])
        image, box = self._seen(read)
        logits = torch.from_numpy(self.run(image)[1])
        if self.card['border'] == 'pad':
            logits = F.interpolate(logits, image.shape[2:], mode='bilinear')[..., :box[0], :box[1]]
        drawn = max((read.height, read.width), fit_within(given, LARGEST), key=max)
        labels = F.interpolate(logits, drawn, mode='bilinear')[0].argmax(0)
        return enlarge_labels(labels.to(torch.uint8).numpy(), given)

    def prepare(self, picture: Image.Image) -> tuple[np.ndarray, tuple[int, int]]:
        """A picture as :meth:`run` takes it, 1 3 H W, and the height and width in it that are image."""
        return self._seen(resized(picture, self.card['read']))

    def _seen(self, picture: Image.Image) -> tuple[np.ndarray, tuple[int, int]]:
        for step in self.card['resize']:
            picture = resized(picture, step)
        return whole_patches(np.asarray(picture), self.card)


def whole_patches(pixels: np.ndarray, card: Mapping[str, Any]) -> tuple[np.ndarray, tuple[int, int]]:
    """1 3 H' W' of H W 3, padded below and on the right (or cut there), and the height and width in it that are image.
    """
    divisor, smallest = card['divisor'], card['smallest']
    if card['border'] == 'cut':
        height, width = (max(side // divisor * divisor, divisor) for side in pixels.shape[:2])
        pixels = pixels[:height, :width]
    sides = [max(-(-side // divisor) * divisor, smallest) for side in pixels.shape[:2]]
    padded = np.full((*sides, 3), card['pad_value'], np.uint8)
    padded[:pixels.shape[0], :pixels.shape[1]] = pixels
    return padded.transpose(2, 0, 1)[None], (pixels.shape[0], pixels.shape[1])


def resized(picture: Image.Image, step: Mapping[str, Any]) -> Image.Image:
    """A picture at the size that a step of a card gives it.

    Args:
        picture: as it comes.
        step: ``least`` and ``most`` bound the long side (``most`` may be None), the short side follows; each side is a
            whole number of ``unit``, rounded ``nearest``, ``down`` or ``up``, and at least one; ``filter`` of Pillow.

    Raises:
        ValueError: a step that is none of these, but a transform of somebody's own.
    """
    if 'type' in step:
        raise ValueError(f'the file wants images to be prepared by {step["type"]!r}, which is not known here')
    longest = max(picture.size)
    side = min(max(longest, step['least']), step['most'] or longest)
    units = (_ROUND[step['round']](each * side / longest / step['unit']) for each in picture.size)
    width, height = (max(1, each) * step['unit'] for each in units)
    return picture.resize((width, height), Image.Resampling[step['filter'].upper()])


def _card(text: str | None, path: str) -> dict[str, Any]:
    """The card in a file's metadata.

    Raises:
        ValueError: there is none, or one that is not understood.
    """
    if text is None:
        raise ValueError(f'{path}: says nothing of classes and preprocessing, so {tool("deploy")} did not write it; '
                         'export the checkpoint anew')
    try:
        card = json.loads(text)
    except ValueError:
        card = None
    if not isinstance(card, dict) or not all(key in card for key in ('format', *_NEEDED)):
        raise ValueError(f'{path}: what it says of classes and preprocessing is damaged; export the checkpoint anew')
    if card['format'] != FORMAT:
        raise ValueError(f'{path}: its description has format {card["format"]}, this version reads {FORMAT}; export '
                         'the checkpoint anew')
    return card
