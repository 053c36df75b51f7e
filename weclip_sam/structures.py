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

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

Movable = TypeVar('Movable', Tensor, 'MaskSet', 'Tensor | MaskSet')
# None that a type checker does not see: what a step reads of this is checked before the step runs (its ``needs``).
_NOT_YET: Any = None
IGNORE_LABEL = 255
BACKGROUND_LABEL = 0


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
        padding_mask: H W bool, True where the transformed image is padding.
        seg_logits: C+1 H W float at the original size (after ``predict``).
        prediction: H W int64 at the original size (after ``predict``).
    Meta fields: ``image_id`` (str), ``image_path``, ``ori_shape`` (H, W) of the file, ``img_shape`` (H, W) of the
    inputs, ``content_box`` (top, left, bottom, right) of the part of the inputs that is no padding, ``flip`` (bool).
    """


@dataclass(frozen=True)
class ClipFeatures:
    """What the frozen image encoder saw.

    Attributes:
        tokens: L B 1+P D, the output of every block.
        attentions: L B 1+P 1+P, softmax attention averaged over heads, rows sum to one.
        grid: (h, w), so that P = h * w.
        padding: B P bool, patches that nobody attended to because they are padding, or None.
    """

    tokens: Tensor
    attentions: Tensor
    grid: tuple[int, int]
    padding: Tensor | None = None

    @property
    def last_block_input(self) -> Tensor:
        """B 1+P D: what enters the last block."""
        return self.tokens[-2]

    def patch_attentions(self) -> Tensor:
        """L B P P: attention between patches; the class token's row and column dropped, rows not renormalised."""
        return self.attentions[:, :, 1:, 1:]


@dataclass(frozen=True)
class TokenFeatures:
    """What a frozen encoder other than CLIP saw.

    Attributes:
        tokens: L B 1+P D, the output of every block; the class token comes first.
        grid: (h, w), so that P = h * w.
    """

    tokens: Tensor
    grid: tuple[int, int]


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

    Attributes:
        masks: M H W bool.
        level: M int64, SAM's output the mask came from: 0 sub-part, 1 part, 2 whole.
        predicted_iou: M float.
        stability: M float.
        sample_index: M int64, the image of each mask, ascending.
    """

    masks: Tensor
    level: Tensor
    predicted_iou: Tensor
    stability: Tensor
    sample_index: Tensor

    def __len__(self) -> int:
        return self.masks.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the masks are."""
        return self.masks.device

    @property
    def area(self) -> Tensor:
        """M int64, in pixels of the current frame."""
        return self.masks.flatten(1).sum(1)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the masks."""
        return self.masks.shape[1], self.masks.shape[2]

    @classmethod
    def empty(cls, height: int, width: int, device: torch.device | str = 'cpu') -> MaskSet:
        """No masks, of an image of this size."""
        none = torch.zeros(0, device=device)
        return cls(torch.zeros(0, height, width, dtype=torch.bool, device=device), none.long(), none, none, none.long())

    @classmethod
    def stack(cls, sets: list[MaskSet]) -> MaskSet:
        """One flat set for a batch; the i-th set's masks get ``sample_index`` i. All sets share H and W."""
        sizes = {s.size for s in sets}
        if len(sizes) != 1:
            raise ValueError(f'masks of a batch must share one size, got {sorted(sizes)}')
        # How many masks an image has is known on the host: one copy instead of a fill for every image.
        index = torch.arange(len(sets)).repeat_interleave(torch.tensor([len(s) for s in sets]))
        return cls(torch.cat([s.masks for s in sets]), torch.cat([s.level for s in sets]),
                   torch.cat([s.predicted_iou for s in sets]), torch.cat([s.stability for s in sets]),
                   to_device(index, sets[0].device))

    def select(self, index: Tensor) -> MaskSet:
        """The masks at ``index`` (int64 positions or a bool of length M)."""
        return MaskSet(self.masks[index], self.level[index], self.predicted_iou[index], self.stability[index],
                       self.sample_index[index])

    def with_masks(self, masks: Tensor) -> MaskSet:
        """The same masks seen in another frame (M H' W' bool)."""
        return replace(self, masks=masks)

    def to(self, *args: Any, **kwargs: Any) -> MaskSet:
        """Move every tensor (device only: dtypes are part of the contract)."""
        kwargs.pop('dtype', None)
        args = tuple(a for a in args if not isinstance(a, torch.dtype))
        return self._each(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> MaskSet:
        """The same masks in page-locked memory, from where a GPU fetches them while the host goes on."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> MaskSet:
        return MaskSet(*(change(getattr(self, f.name)) for f in fields(self)))


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
    Made on the way:
        maps: current :class:`ClassMaps`.
        history: the maps after each named step, for pictures and tables.
        background: B H W or B h w background score that belongs to ``maps`` (same size), or None while it is still the
            plain ``(1 - max) ** q`` of the maps. A step that replaces ``maps`` resets it (see :meth:`with_maps`).
        affinity: B P P, as propagated.
        pixel_labels: B H W int64, 0 background, 1..C, 255 ignore.
        confidence: B H W float in [0, 1], winning score of ``pixel_labels``.
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
    maps: ClassMaps = _NOT_YET
    background: Tensor | None = None
    history: dict[str, Any] = field(default_factory=dict)
    affinity: Tensor | None = None
    pixel_labels: Tensor = _NOT_YET
    confidence: Tensor | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)

    def with_maps(self, step: str, maps: ClassMaps, background: Tensor | None = None, **changes: Any) -> SeedState:
        """A copy with new maps, remembered in ``history`` under the step's name, and other ``changes``."""
        return replace(self, maps=maps, background=background, history={**self.history, step: maps}, **changes)
