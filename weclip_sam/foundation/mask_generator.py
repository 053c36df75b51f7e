"""The automatic mask generator: a grid of points, three masks per point, only the sure, stable and distinct ones kept.

Its rules are those of segment_anything's ``SamAutomaticMaskGenerator`` with the level bonuses of FMA-WSSS. It keeps
what that one throws away: which of SAM's three outputs a mask came from.
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from segment_anything.utils.amg import batched_mask_to_box, build_point_grid, is_box_near_crop_edge
from torch import Tensor
from torchvision.ops import nms

from weclip_sam.foundation.mask_filters import (
    Box,
    boxes_above,
    clean_regions,
    crop_boxes,
    mask_nms,
    stability_score,
)
from weclip_sam.foundation.sam import FrozenSam
from weclip_sam.foundation.sam_decoder import ImageSide
from weclip_sam.registry import MODELS
from weclip_sam.structures import MaskSet

__all__ = ['MaskGenerator']

# Of what is worked on at once: what fits a core's cache, and what fills a GPU.
_CPU_BYTES, _GPU_BYTES = 3 * 2 ** 20, 2 ** 29
# Raise it whenever the same settings and weights would give other masks: it invalidates mask banks.
ALGORITHM_VERSION = 1


@dataclass(frozen=True)
class _Candidates:
    """Masks on their way through the filters: MaskSet's fields, boxes M 4 and the area of the crop they came from.

    ``masks`` are SAM's small logits (M 4h 4w) until most have gone, then bool at the image's size.
    """

    masks: Tensor
    level: Tensor
    predicted_iou: Tensor
    stability: Tensor
    boxes: Tensor
    crop_area: Tensor

    def select(self, index: Tensor) -> _Candidates:
        return _Candidates(*(value[index] for value in vars(self).values()))

    @classmethod
    def cat(cls, parts: list[_Candidates]) -> _Candidates:
        return cls(*(torch.cat(values) for values in zip(*(vars(p).values() for p in parts), strict=True)))


@MODELS.register_module()
class MaskGenerator:
    """All masks of an image, each with area, predicted IoU, stability and SAM's level (0 sub-part, 1 part, 2 whole).

    Args:
        sam: a :class:`FrozenSam` or its config.
        points_per_side: points of the square grid along each side of the image.
        crop_n_layers: layers of overlapping crops that are searched besides the image; layer i has 4**i of them.
        crop_points_downscale: each layer divides ``points_per_side`` by it.
        crop_overlap: overlap of the first layer's crops, in units of the image's short side.
        crop_nms_thresh: box IoU above which the mask of the larger crop goes.
        pred_iou_thresh: a mask stays if its predicted IoU + ``level_iou_bonus[level]`` exceeds it.
        stability_thresh: a mask stays if its stability reaches it.
        stability_offset: in logits, see :func:`stability_score`.
        nms_thresh: IoU above which the lower ranked of two masks goes; the rank is predicted IoU +
            ``level_nms_bonus[level]``.
        nms_type: ``box`` compares bounding boxes (as published), ``mask`` the masks themselves, so that a part whose
            box fills that of the whole survives.
        min_region_area: holes and islands smaller than this many image pixels are removed; 0 leaves masks as they are.
        level_iou_bonus, level_nms_bonus: for levels 0, 1, 2.
        points_per_chunk: prompts decoded together; only speed and memory depend on it. None: as many as fit the cache
            of a CPU, or a share of what memory is free on a GPU.
        encode_batch: images that :meth:`generate_batch` encodes together. With more than one, rounding may depend
            on which images share a batch: keep 1 where runs have to be equal bit for bit.

    Raises:
        ValueError: a setting out of range, by name.
    """

    def __init__(self, sam: FrozenSam | Mapping[str, Any], points_per_side: int = 32, crop_n_layers: int = 0,
                 crop_points_downscale: int = 2, pred_iou_thresh: float = 0.86, stability_thresh: float = 0.92,
                 stability_offset: float = 1.0, nms_thresh: float = 0.7, min_region_area: int = 100,
                 level_iou_bonus: Sequence[float] = (0.0, 0.0, 0.1), level_nms_bonus: Sequence[float] = (0.0, 0.0, 1.0),
                 crop_overlap: float = 512 / 1500, crop_nms_thresh: float = 0.7, nms_type: str = 'box',
                 points_per_chunk: int | None = None, encode_batch: int = 1) -> None:
        self.settings: dict[str, Any] = dict(
            points_per_side=int(points_per_side), crop_n_layers=int(crop_n_layers),
            crop_points_downscale=int(crop_points_downscale), pred_iou_thresh=float(pred_iou_thresh),
            stability_thresh=float(stability_thresh), stability_offset=float(stability_offset),
            nms_thresh=float(nms_thresh), nms_type=nms_type, min_region_area=int(min_region_area),
            level_iou_bonus=[float(b) for b in level_iou_bonus], level_nms_bonus=[float(b) for b in level_nms_bonus],
            crop_overlap=float(crop_overlap), crop_nms_thresh=float(crop_nms_thresh))
        _check_settings(self.settings, points_per_chunk, encode_batch)
        self.sam: FrozenSam = MODELS.build(dict(sam)) if isinstance(sam, Mapping) else sam
        self.points_per_chunk, self.encode_batch = points_per_chunk, encode_batch

    def to(self, device: torch.device | str) -> MaskGenerator:
        """Move the model; where it is there already, what it keeps ready (weights cast once) is left as it is."""
        if self.sam.device != torch.empty(0, device=device).device:  # 'cuda' is the current one, 'cuda:0'
            self.sam.to(device)
        return self

    def fingerprint(self) -> str:
        """Hash of everything that decides the masks: settings, weights, version of the rules. Names a mask bank.

        Another precision than fp32 follows as a word, ``... bf16``.
        """
        what = json.dumps([ALGORITHM_VERSION, self.settings, self.sam.fingerprint()], sort_keys=True)
        name = hashlib.sha256(what.encode()).hexdigest()[:32]
        return name if self.sam.precision in (None, 'fp32') else f'{name} {self.sam.precision}'

    def generate(self, rgb: np.ndarray | Tensor) -> MaskSet:
        """All masks of one image.

        Args:
            rgb: H W 3 uint8, RGB.

        Returns:
            Masks at H W on the model's device, ordered by level, then descending predicted IoU; ties keep the order
            of the grid. ``sample_index`` is 0. The same input gives the same masks in the same order.

        Raises:
            ValueError: not an H W 3 uint8 image.
        """
        return self.generate_batch([rgb])[0]

    def generate_batch(self, images: Sequence[np.ndarray | Tensor],
                       pulse: Callable[[float], None] = lambda share: None) -> list[MaskSet]:
        """All masks of several images of any sizes, ``encode_batch`` of them (or of their crops) encoded together.

        Args:
            images: each H W 3 uint8, RGB.
            pulse: told often, with the share in [0, 1] of this call's work that is done: where SAM takes minutes an
                image, somebody wants to know that it lives.

        Returns:
            One :class:`MaskSet` per image, as :meth:`generate` gives it.
        """
        return [self.finish(found) for found in self.search(images, pulse)]

    @torch.no_grad()
    def search(self, images: Sequence[np.ndarray | Tensor], pulse: Callable[[float], None] = lambda share: None,
               keep: tuple[int, Callable[[int, Tensor], None]] | None = None) -> list[list[_Candidates]]:
        """The model's part of :meth:`generate_batch`: for each image what :meth:`finish` makes a mask set of.

        Args:
            images, pulse: see there.
            keep: a block of the encoder, and who is given, of every image as a whole, its index and the block's tokens
                (h w D of the square input): the pass serves masks and features.
        """
        pictures = [_as_chw(image, f'images[{i}]') for i, image in enumerate(images)]
        jobs = [(i, layer, box) for i, picture in enumerate(pictures)
                for layer, box in crop_boxes(picture.shape[1], picture.shape[2], self.settings['crop_n_layers'],
                                             self.settings['crop_overlap'])]
        found: list[list[_Candidates]] = [[] for _ in pictures]
        for start in range(0, len(jobs), self.encode_batch):
            group = jobs[start:start + self.encode_batch]
            pulse(start / len(jobs))
            inputs = [self.sam.preprocess(pictures[i][:, y0:y1, x0:x1]) for i, _, (x0, y0, x1, y1) in group]
            embeddings, tokens = self.sam.see(torch.stack(inputs), () if keep is None else keep[:1])
            for place, (i, layer, _) in enumerate(group):
                if keep is not None and layer == 0:
                    keep[1](i, tokens[keep[0]][place])
            for done, (embedding, (i, layer, box)) in enumerate(zip(embeddings, group, strict=True), start):
                def within(share: float, done: int = done) -> None:
                    pulse((done + share) / len(jobs))
                found[i].append(self._search_crop(embedding[None], layer, box, pictures[i].shape[1:], within))
        return found

    def _search_crop(self, embedding: Tensor, layer: int, box: Box, size: Sequence[int],
                     pulse: Callable[[float], None]) -> _Candidates:
        """Distinct masks of one crop (or the image), placed in the image."""
        per_side = max(1, self.settings['points_per_side'] // self.settings['crop_points_downscale'] ** layer)
        x0, y0, x1, y1 = box
        height, width = self.sam.input_shape(y1 - y0, x1 - x0)
        points = torch.from_numpy(build_point_grid(per_side) * [width, height]).float().to(embedding.device)
        image = self.sam.look(embedding)
        chunks, parts = points.split(self._chunk(image)), []
        for done, chunk in enumerate(chunks):
            pulse(done / len(chunks))
            parts.append(self._search_points(image, chunk, box, size))
        found = _Candidates.cat(parts)
        bonus = torch.tensor(self.settings['level_nms_bonus'], device=embedding.device)
        score = found.predicted_iou + bonus[found.level]
        if self.settings['nms_type'] == 'mask':  # needs the masks themselves
            found = replace(found, masks=self._enlarge(found.masks, (y1 - y0, x1 - x0)))
            found = found.select(self._suppress(found, score, self.settings['nms_thresh']))
        else:
            found = found.select(self._suppress(found, score, self.settings['nms_thresh']))
            found = replace(found, masks=self._enlarge(found.masks, (y1 - y0, x1 - x0)))
        pad = (x0, size[1] - x1, y0, size[0] - y1)
        return replace(found, masks=torch.nn.functional.pad(found.masks, pad),
                       boxes=found.boxes + torch.tensor([x0, y0, x0, y0], device=embedding.device))

    def _search_points(self, image: ImageSide, points: Tensor, box: Box, size: Sequence[int]) -> _Candidates:
        """Masks of a chunk of points that pass the thresholds: small logits, boxes in the crop's frame."""
        x0, y0, x1, y1 = box
        answers = self.sam.ask(image, points)
        bonus = torch.tensor(self.settings['level_iou_bonus'], device=points.device)
        # The sure ones first: only they are worth scaling up.
        sure = (answers.iou + bonus > self.settings['pred_iou_thresh']).flatten().nonzero()[:, 0]
        logits, iou, level = answers.logits(sure), answers.iou.flatten()[sure], sure % 3
        seen = [self._look_at(self.sam.upscale(block[:, None], (y1 - y0, x1 - x0))[:, 0])
                for block in logits.split(self._block((y1 - y0, x1 - x0)))]
        stability, boxes, keep = (torch.cat(values) for values in zip(*seen, strict=True))
        if (y1 - y0, x1 - x0) != tuple(size):
            # The crop may have cut what ends at its edge, unless that is the image's own.
            keep &= ~is_box_near_crop_edge(boxes, box, [0, 0, size[1], size[0]])
        area = torch.full_like(iou, (x1 - x0) * (y1 - y0))
        return _Candidates(logits, level, iou, stability, boxes, area).select(keep)

    def _look_at(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Stability, boxes and whether they are to be kept, of masks M H W at full size."""
        stability = stability_score(logits, self.sam.mask_threshold, self.settings['stability_offset'])
        boxes, any_pixel = boxes_above(logits, self.sam.mask_threshold)
        return stability, boxes, (stability >= self.settings['stability_thresh']) & any_pixel

    def _enlarge(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Small logits M 4h 4w to masks M H W bool, in blocks: full-size logits take 32 times the memory of bits."""
        masks = torch.empty(len(logits), *size, dtype=torch.bool, device=logits.device)
        for part, block in zip(masks.split(self._block(size)), logits.split(self._block(size)), strict=True):
            torch.gt(self.sam.upscale(block[:, None], size)[:, 0], self.sam.mask_threshold, out=part)
        return masks

    def _block(self, size: tuple[int, int]) -> int:
        """Masks of this size whose logits are enlarged together."""
        largest = max(size[0] * size[1], self.sam.image_size ** 2)
        budget = _GPU_BYTES if self.sam.device.type == 'cuda' else _CPU_BYTES
        return max(16, budget // (4 * largest))

    def _chunk(self, image: ImageSide) -> int:
        """Points that are asked together."""
        if self.points_per_chunk is not None:
            return self.points_per_chunk
        device, per_point = image.tokens.device, image.tokens.numel() * image.tokens.element_size()
        if device.type == 'cuda':  # a point whose masks are all enlarged takes 8 times as much
            return max(16, torch.cuda.mem_get_info(device)[0] // 16 // per_point)
        return max(4, _CPU_BYTES // 2 // per_point)

    def _suppress(self, found: _Candidates, score: Tensor, threshold: float) -> Tensor:
        """Positions that survive NMS, best first; equal scores keep their order."""
        if self.settings['nms_type'] == 'mask':
            return mask_nms(found.masks, score, threshold)
        return nms(found.boxes.float(), score, threshold)

    @torch.no_grad()
    def finish(self, parts: list[_Candidates]) -> MaskSet:
        """The rest, which needs no model and may be done in another thread: join crops, clean masks, put them in order.
        """
        found = _Candidates.cat(parts)
        if len(parts) > 1:
            # A smaller crop saw the object larger.
            found = found.select(self._suppress(found, 1 / found.crop_area, self.settings['crop_nms_thresh']))
        if self.settings['min_region_area'] > 0 and len(found.masks):
            found = self._clean(found)
        order = torch.sort(found.predicted_iou, descending=True, stable=True).indices
        order = order[torch.sort(found.level[order], stable=True).indices]
        found = found.select(order)
        return MaskSet(found.masks, found.level, found.predicted_iou, found.stability, torch.zeros_like(found.level))

    def _clean(self, found: _Candidates) -> _Candidates:
        """Remove small regions; of masks that became alike, the untouched one stays."""
        cleaned, changed = clean_regions(found.masks.cpu().numpy(), self.settings['min_region_area'])
        masks = torch.from_numpy(cleaned).to(found.masks.device)
        untouched = 1.0 - torch.from_numpy(changed).to(masks.device, torch.float)
        where = torch.from_numpy(np.flatnonzero(changed)).to(masks.device)
        boxes = found.boxes.clone()
        boxes[where] = batched_mask_to_box(masks[where]).long()  # of no mask at all it makes floats
        found = replace(found, masks=masks, boxes=boxes)
        threshold = max(self.settings['nms_thresh'], self.settings['crop_nms_thresh'])
        return found.select(self._suppress(found, untouched, threshold))


def _as_chw(image: np.ndarray | Tensor, name: str) -> Tensor:
    if not isinstance(image, (np.ndarray, Tensor)) or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        got = tuple(image.shape) if hasattr(image, 'shape') else type(image).__name__
        raise ValueError(f'{name}: expected an RGB image H W 3, got {got}')
    tensor = torch.from_numpy(np.ascontiguousarray(image)) if isinstance(image, np.ndarray) else image
    if tensor.dtype != torch.uint8:
        raise ValueError(f'{name}: expected uint8 pixels in 0..255, got {tensor.dtype}')
    return tensor.permute(2, 0, 1)


def _check_settings(settings: Mapping[str, Any], points_per_chunk: int | None, encode_batch: int) -> None:
    least = dict(points_per_side=1, crop_n_layers=0, crop_points_downscale=1, min_region_area=0)
    for name, low in least.items():
        if settings[name] < low:
            raise ValueError(f'MaskGenerator: {name} must be at least {low}, got {settings[name]}')
    for name, value in (('points_per_chunk', points_per_chunk), ('encode_batch', encode_batch)):
        if value is not None and value < 1:
            raise ValueError(f'MaskGenerator: {name} must be at least 1, got {value}')
    for name in ('nms_thresh', 'crop_nms_thresh', 'stability_thresh'):
        if not 0 <= settings[name] <= 1:
            raise ValueError(f'MaskGenerator: {name} must lie in [0, 1], got {settings[name]}')
    for name in ('level_iou_bonus', 'level_nms_bonus'):
        if len(settings[name]) != 3:
            raise ValueError(f'MaskGenerator: {name} needs three numbers, for sub-part, part and whole, '
                             f'got {settings[name]}')
    if settings['nms_type'] not in ('box', 'mask'):
        raise ValueError(f"MaskGenerator: nms_type must be 'box' or 'mask', got {settings['nms_type']!r}")
