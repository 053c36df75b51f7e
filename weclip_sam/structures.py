"""The values that flow through the package.

Shape legend, used by every docstring of the package:

====  =================================================================
B     images of a batch
C     foreground classes of the data set (labels 1..C; 0 is background)
G     background nouns
K     present (image, class) pairs of the whole batch, flattened
L     blocks of the CLIP image encoder
P     patches, P = h * w; the class token comes first in ``1+P``
D, E  width of the image encoder; size of the joint embedding
M     SAM masks
H, W  pixels; h, w patches
====  =================================================================
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement
from torch import Tensor

from weclip_sam.bits import pack_bits, unpack_bits
from weclip_sam.features import ClipFeatures as ClipFeatures  # one of the values that flow

Movable = TypeVar('Movable', Tensor, 'MaskSet', 'Tensor | MaskSet')
# None that a type checker does not see: what a step reads of this is checked before the step runs (its ``needs``).
_NOT_YET: Any = None
IGNORE_LABEL = 255
BACKGROUND_LABEL = 0
PART_PIXELS = 1 << 24  # of masks that are unpacked at a time


def foreground_label(class_index: Tensor) -> Tensor:
    """Pixel label of 0-based foreground classes: one more, as 0 is the background. The only place of this shift."""
    return class_index + 1


def to_device(value: Movable, device: torch.device | str) -> Movable:
    """Copy a tensor or a :class:`MaskSet` to a device while the host goes on.

    A copy to a GPU goes on by itself from page-locked memory alone, so that is where it starts. A copy to the host is
    complete when this returns, and therefore waits.
    """
    target = torch.device(device).type
    if target == 'cuda' and value.device.type == 'cpu':
        value = value.pin_memory()
    return value.to(device, non_blocking=target != 'cpu')


class SegSample(BaseDataElement):
    """Everything known about one image besides its pixels.

    Data fields:
        image_labels: C bool, the classes named for the image; always on the host.
        mask_set: :class:`MaskSet` of the image, in the frame of the transformed image (training with SAM masks).
        ground_truth: H W int64 at the original size; evaluation data sets only, never in training.
        pixel_labels: H W int64, labels made offline (0 background, 1..C, 255 ignore), in the frame of the image;
            only where a pipeline asks for them (second-stage training).
        banked: :class:`~weclip_sam.features.BankedTokens` by name of the encoder, in the frame of the image; only where
            the data set has a bank of features.
        padding_mask: H W bool, True where the transformed image is padding.
        seg_logits: C+1 H W float at the original size (after ``predict``).
        prediction: H W int64 at the original size (after ``predict``).
        original: 3 H W uint8, the image before any transform, and original_masks: its :class:`MaskSet` (prediction
            with SAM; in seed making ``mask_set`` and ``pixel_labels`` themselves have that size).
        sam: what SAM had to do with the prediction (:class:`~weclip_sam.models.refine.SamUse`; after ``predict``).
    Meta fields: ``image_id`` (str), ``image_path``, ``ori_shape`` (H, W) of the file, ``img_shape`` (H, W) of the
    inputs, ``content_box`` (top, left, bottom, right) of the part of the inputs that is no padding, ``flip`` (bool).
    """


@dataclass(frozen=True)
class ClassMaps:
    """One score map for every present (image, class) pair of a batch, flat.

    Attributes:
        scores: K h w.
        sample_index: K int64, the image of each pair, ascending.
        class_index: K int64, the foreground class of each pair (0-based; label = class_index + 1).
    """

    scores: Tensor
    sample_index: Tensor
    class_index: Tensor

    def with_scores(self, scores: Tensor) -> ClassMaps:
        """The same pairs with other scores."""
        return replace(self, scores=scores)


@dataclass(frozen=True)
class MaskSet:
    """SAM masks of one image, or of a batch of equally sized images when ``sample_index`` tells them apart.

    They are made of M H W bool and may be held as bits, an eighth of that (:meth:`packed`): 300 masks of 16 megapixels
    are 600 MB then. ``masks`` gives M H W bool of either, which for bits is a new tensor each time: work that may meet
    many megapixels takes a few rows at once from :meth:`bits`.

    Attributes:
        held: M H W bool, or bits: M H ceil(W / 8) uint8 as :mod:`weclip_sam.bits` packs them.
        level: M int64, SAM's output the mask came from: 0 sub-part, 1 part, 2 whole.
        predicted_iou: M float.
        stability: M float.
        sample_index: M int64, the image of each mask, ascending.
        width: W of bits; None for bool.
        counts: how many masks each image of a batch has, where the host knows (after :meth:`stack`), or None.
    """

    held: Tensor
    level: Tensor
    predicted_iou: Tensor
    stability: Tensor
    sample_index: Tensor
    width: int | None = None
    counts: tuple[int, ...] | None = field(default=None, init=False, repr=False)  # lost where anything is replaced

    def __len__(self) -> int:
        return self.held.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the masks are."""
        return self.held.device

    @property
    def masks(self) -> Tensor:
        """M H W bool."""
        return self.held if self.width is None else unpack_bits(self.held, self.width)

    @property
    def area(self) -> Tensor:
        """M int64, in pixels of the current frame."""
        return torch.cat([part.flatten(1).sum(1) for part in self.parts()] or [self.level[:0]])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the masks."""
        return self.held.shape[1], self.held.shape[2] if self.width is None else self.width

    @classmethod
    def empty(cls, height: int, width: int, device: torch.device | str = 'cpu') -> MaskSet:
        """No masks, of an image of this size."""
        none = torch.zeros(0, device=device)
        return cls(torch.zeros(0, height, width, dtype=torch.bool, device=device), none.long(), none, none, none.long())

    @classmethod
    def stack(cls, sets: Sequence[MaskSet]) -> MaskSet:
        """One flat set for a batch; the i-th set's masks get ``sample_index`` i. All sets share H and W."""
        sizes = {s.size for s in sets}
        if len(sizes) != 1:
            raise ValueError(f'masks of a batch must share one size, got {sorted(sizes)}')
        if any(s.width is not None for s in sets):
            sets = [s.packed() for s in sets]
        # How many masks an image has is known on the host: one copy instead of a fill for every image.
        counts = [len(s) for s in sets]
        index = to_device(torch.arange(len(sets)).repeat_interleave(torch.tensor(counts)), sets[0].device)
        held, level, predicted_iou, stability = (
            torch.cat([getattr(s, name) for s in sets]) if len(sets) > 1 else getattr(sets[0], name)
            for name in ('held', 'level', 'predicted_iou', 'stability'))
        return cls(held, level, predicted_iou, stability, index, sets[0].width)._counted(counts)

    def packed(self) -> MaskSet:
        """The same masks as bits; this set where it is packed."""
        if self.width is not None:
            return self
        return self._keep_counts(replace(self, held=pack_bits(self.held), width=self.held.shape[2]))

    def parts(self) -> Iterator[Tensor]:
        """The masks as M' H W bool, a few at a time."""
        few = max(1, PART_PIXELS // max(1, self.size[0] * self.size[1]))
        for part in self.held.split(few) if len(self) else ():
            yield part if self.width is None else unpack_bits(part, self.width)

    def bits(self, top: int = 0, bottom: int | None = None) -> Tensor:
        """M h ceil(W / 8) uint8: some rows as bits, however the masks are held."""
        rows = self.held[:, top:bottom]
        return rows if self.width is not None else pack_bits(rows)

    def select(self, index: Tensor) -> MaskSet:
        """The masks at ``index`` (int64 positions or a bool of length M)."""
        if index.dtype == torch.bool:
            index = index.nonzero()[:, 0]
        # index_select copies whole masks, where self.held[index] takes one number after the other.
        return MaskSet(self.held.index_select(0, index), self.level[index], self.predicted_iou[index],
                       self.stability[index], self.sample_index[index], self.width)

    def emptied(self, kept: Tensor) -> MaskSet:
        """As many masks, those without ``kept`` (M bool) empty; nothing waits for the host."""
        if self.device.type == 'cpu':  # what np.zeros gives takes no memory before it is written to
            source = self.held.numpy()
            target = np.zeros(source.shape, source.dtype)
            for place in np.flatnonzero(kept.numpy()):
                target[place] = source[place]
            held = torch.from_numpy(target)
        else:
            held = self.held * kept[:, None, None]
        return self._keep_counts(replace(self, held=held))

    def padded(self, size: Sequence[int]) -> MaskSet:
        """The same masks in a frame with more rows below and columns on the right; this set where it fits.

        Raises:
            ValueError: the frame is smaller: nothing is cut off unseen.
        """
        height, width = size
        if (height, width) == self.size:
            return self
        if height < self.size[0] or width < self.size[1]:
            raise ValueError(f'masks are {self.size}, which the image {(height, width)} (height, width) does not hold: '
                             'they are of another image, or of another size of this one')
        columns = width if self.width is None else -(-width // 8)
        held = F.pad(self.held, (0, columns - self.held.shape[2], 0, height - self.held.shape[1]))
        return self._keep_counts(replace(self, held=held, width=None if self.width is None else width))

    def with_masks(self, masks: Tensor) -> MaskSet:
        """The same masks seen in another frame (M H' W' bool)."""
        return self._keep_counts(replace(self, held=masks, width=None))

    def with_bits(self, bits: Tensor, width: int) -> MaskSet:
        """The same masks seen in another frame (M H' ceil(W' / 8) uint8)."""
        return self._keep_counts(replace(self, held=bits, width=width))

    def to(self, *args: Any, **kwargs: Any) -> MaskSet:
        """Move every tensor (device only: dtypes are part of the contract)."""
        kwargs.pop('dtype', None)
        args = tuple(a for a in args if not isinstance(a, torch.dtype))
        return self._each(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> MaskSet:
        """The same masks in page-locked memory, from where a GPU fetches them while the host goes on."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> MaskSet:
        tensors: dict[str, Any] = {name: change(value) for name, value in vars(self).items()
                                   if isinstance(value, Tensor)}
        return self._keep_counts(replace(self, **tensors))

    def _keep_counts(self, other: MaskSet) -> MaskSet:
        return other._counted(self.counts)

    def _counted(self, counts: Sequence[int] | None) -> MaskSet:
        object.__setattr__(self, 'counts', None if counts is None else tuple(counts))
        return self


@dataclass
class SeedState:
    """What a seed pipeline reads and writes; every step returns an updated copy (``dataclasses.replace``).

    Inputs, set by the caller:
        images: B 3 H W float, normalised as CLIP wants them.
        image_labels: B C bool, on the host; see :func:`to_device` for steps that compute with them.
        features: what each frozen encoder saw, by its name: ``clip`` and whatever else the model holds.
        encoders: the frozen encoders themselves by name, for steps that run a part of one (GradCAM the last block).
        text_features: C+G E, unit norm: classes first, background nouns after; None without CLIP.
        masks: flat :class:`MaskSet` of the batch at H W, or None.
        seg_affinity: B P P in [0, 1], the decoder's own affinity (detached), or None before there is a decoder.
        seg_logits: B C+1 h w, what the decoder predicts itself (detached), or None.
        decoder_heard: whether steps may listen to the decoder already (the curriculum).
        rgb: B 3 H W float in 0..255, for steps that look at colours as people see them (CRF), or None.
        padding: B H W bool, where ``rgb`` is padding, or None where nothing is.
        prompter: a SAM that answers prompts on ``rgb`` (:class:`weclip_sam.seeds.prompted_sam.Prompter`), or None.
        owned: whether steps may write over ``maps`` and ``background``, and no history is kept: of a large photo's
            prediction there is to be one copy.
        keep_scores: whether steps that draw labels leave what they chose by, too: ``chosen_by``. Training has no use
            for it; the labels are the same.
    Made on the way:
        maps: current :class:`ClassMaps`.
        history: the maps after each named step, for pictures and tables.
        background: B H W or B h w background score that belongs to ``maps`` (same size), or None while it is still the
            plain ``(1 - max) ** q`` of the maps. A step that replaces ``maps`` resets it (see :meth:`with_maps`).
        affinity: B P P, as propagated.
        pixel_labels: B H W int64, 0 background, 1..C, 255 ignore.
        confidence: B H W float in [0, 1], winning score of ``pixel_labels``.
        chosen_by: with ``keep_scores``, what ``pixel_labels`` were chosen by: class maps and the background's score
            B H W, of their size. What later steps read as ``maps`` and ``background`` stays as it is.
        losses: scalars by name that a step with parameters wants to be trained on.
    """

    images: Tensor
    image_labels: Tensor
    features: Mapping[str, Any] = field(default_factory=dict)
    encoders: Any = field(default_factory=dict)
    text_features: Tensor = _NOT_YET
    masks: MaskSet = _NOT_YET
    seg_affinity: Tensor | None = None
    seg_logits: Tensor | None = None
    decoder_heard: bool = False
    rgb: Tensor = _NOT_YET
    padding: Tensor | None = None
    prompter: Any = None
    owned: bool = False
    keep_scores: bool = False
    maps: ClassMaps = _NOT_YET
    background: Tensor | None = None
    history: dict[str, Any] = field(default_factory=dict)
    affinity: Tensor | None = None
    pixel_labels: Tensor = _NOT_YET
    confidence: Tensor | None = None
    chosen_by: tuple[ClassMaps, Tensor] | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)

    def with_maps(self, step: str, maps: ClassMaps, background: Tensor | None = None, **changes: Any) -> SeedState:
        """A copy with new maps, remembered in ``history`` under the step's name, and other ``changes``."""
        history = self.history if self.owned else {**self.history, step: maps}
        return replace(self, maps=maps, background=background, history=history, **changes)
