"""Prompts of every kind on one image: points, boxes and rough masks, answered by segment_anything's own decoder.

A mask generator asks thousands of single points, for which :mod:`weclip_sam.foundation.sam_decoder` leaves out what
does not depend on the point. Here a few prompts are asked that say more.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import check_shape
from weclip_sam.foundation.sam import FrozenSam

OUTSIDE = -10.0  # the logit of a rough mask where there is no image


class PromptedImage:
    """An image that a SAM answers prompts on. It is looked at when the first prompt comes.

    Args:
        sam: the model.
        rgb: 3 H W uint8.

    Attributes:
        size: (H, W).
        frame: (rows, columns) of a rough mask over the image, at the size of SAM's own small masks.
        prompts: the kinds that the model has learnt from, see :class:`FrozenSam`.
    """

    def __init__(self, sam: FrozenSam, rgb: Tensor) -> None:
        check_shape('rgb: 3 H W', rgb=rgb)
        self._sam, self._rgb, self.prompts = sam, rgb, sam.prompts
        self._embedding: Tensor | None = None
        self.size = int(rgb.shape[1]), int(rgb.shape[2])
        self._input = sam.input_shape(*self.size)
        self._square = sam.sam.prompt_encoder.mask_input_size
        rows, columns = (-(-side * own // sam.image_size) for side, own in zip(self._input, self._square, strict=True))
        self.frame = rows, columns

    @torch.no_grad()
    def ask(self, points: Tensor | None = None, boxes: Tensor | None = None, rough: Tensor | None = None) -> Tensor:
        """Four answers to each of N prompts; what is given is asked together.

        Args:
            points: N k 2 float, (x, y) in pixels of the image, all of the object.
            boxes: N 4 float, (left, top, right, bottom) in pixels of the image.
            rough: N rows columns float, logits of a rough mask over the image, see ``frame``.

        Returns:
            Logits N 4 h w of the small masks, for :meth:`enlarge`: SAM's answer to prompts without doubt, and its
            three levels (sub-part, part, whole).

        Raises:
            ValueError: no prompt, or a rough mask of another size.
        """
        if points is None and boxes is None and rough is None:
            raise ValueError('PromptedImage.ask: give points, boxes or rough masks')
        sam, device = self._sam.sam, self._sam.device
        scale = torch.tensor([side / own for side, own in zip(self._input[::-1], self.size[::-1], strict=True)],
                             device=device)
        asked: dict[str, object] = dict(points=None, boxes=None, masks=None)
        if points is not None:
            check_shape('points: N k 2', points=points)
            coords = points.to(device).float() * scale
            asked['points'] = coords, torch.ones(coords.shape[:2], dtype=torch.int, device=device)
        if boxes is not None:
            check_shape('boxes: N 4', boxes=boxes)
            asked['boxes'] = boxes.to(device).float() * scale.repeat(2)
        if rough is not None:
            asked['masks'] = self._padded(rough.to(device).float())
        with torch.autocast(device.type, enabled=False):
            sparse, dense = sam.prompt_encoder(**asked)
            logits, _ = sam.mask_decoder.predict_masks(
                image_embeddings=self._look(), image_pe=sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense)
        return logits

    def enlarge(self, logits: Tensor) -> Tensor:
        """M h w small logits to masks M H W bool."""
        return self._sam.upscale(logits[:, None], self.size)[:, 0] > self._sam.mask_threshold

    def _look(self) -> Tensor:
        if self._embedding is None:
            self._embedding = self._sam.embed(self._sam.preprocess(self._rgb)[None])
        return self._embedding

    def _padded(self, rough: Tensor) -> Tensor:
        """N rows columns to N 1 h w of the whole square."""
        if tuple(rough.shape[1:]) != self.frame:
            raise ValueError(f'PromptedImage.ask: rough masks over this image are {self.frame}, got '
                             f'{tuple(rough.shape[1:])}')
        below, right = (most - side for most, side in zip(self._square, self.frame, strict=True))
        return F.pad(rough, (0, right, 0, below), value=OUTSIDE)[:, None]
