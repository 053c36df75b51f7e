"""The two-stage systems' second stage: an ordinary segmentation network, taught by labels made offline."""
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from weclip_sam.commands import tool
from weclip_sam.models.base import Segments, TrainedModel
from weclip_sam.models.losses import pixel_cross_entropy
from weclip_sam.models.offline import offline_labels
from weclip_sam.models.predict import predicted_labels
from weclip_sam.registry import MODELS
from weclip_sam.structures import SegSample


@MODELS.register_module()
class Segmentor(Segments, TrainedModel):
    """A backbone, a head, cross-entropy.

    Samples bring ``pixel_labels``: the data set's ``pixel_labels='folder'`` for pseudo labels; for fully supervised
    training ``pixel_labels=dict(type='UseGroundTruth')`` with ``with_masks=True``. Pixels that are 255 teach nothing:
    CLIP-ES's confidence-guided loss, when the labels were cut off by confidence.

    Args:
        backbone: config of a :class:`TimmBackbone`, or of a module with ``channels``, ``divisor``, ``mean``, ``std``.
        head: config of a head; the sizes that follow from backbone and vocabulary are filled in.
        vocabulary: ``classes`` and what else there is; ``tools/train.py`` takes it from the data set.
        test: scales, flip and refinement of predictions, see :func:`weclip_sam.models.predict.predict_samples`.
        data_preprocessor: see :class:`SegDataPreprocessor`; by default it pads to the backbone's divisor.

    Raises:
        ValueError: no vocabulary.
    """

    def __init__(self, backbone: dict, head: dict, vocabulary: dict | None = None, test: dict | None = None,
                 data_preprocessor: dict | None = None) -> None:
        if not vocabulary:
            raise ValueError('Segmentor: vocabulary is missing; give dict(classes=...) or start through '
                             f'{tool("train")}, which takes it from the data set')
        built = MODELS.build(backbone)
        super().__init__(data_preprocessor or dict(type='SegDataPreprocessor', divisor=built.divisor))
        self.classes = tuple(vocabulary['classes'])
        self.backbone = built
        self.head = MODELS.build(dict(in_channels=built.channels, num_classes=len(self.classes)) | dict(head))
        self.register_buffer('mean', 255 * torch.tensor(built.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', 255 * torch.tensor(built.std).view(1, 3, 1, 1), persistent=False)
        self.set_test(test, built.divisor)

    def tensor(self, inputs: Tensor, data_samples: list[SegSample] | None = None) -> Tensor:
        """B 3 H W, RGB in 0..255 -> logits B C+1 h w."""
        return self.head(self.backbone((inputs - self.mean) / self.std))

    def loss(self, inputs: Tensor, data_samples: list[SegSample]) -> dict[str, Tensor]:
        """Cross-entropy of the upsampled logits over all pixels with a label."""
        return dict(loss_seg=pixel_cross_entropy(self.tensor(inputs), offline_labels(data_samples, inputs)))

    @torch.no_grad()
    def explain(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """``prediction`` (H W int64) for the first image of a collated batch, at its original size."""
        data = self.data_preprocessor(dict(inputs=batch['inputs'][:1], data_samples=batch['data_samples'][:1]))
        inputs, (sample,) = data['inputs'], data['data_samples']
        return dict(prediction=predicted_labels(self.tensor(inputs)[0], inputs.shape[-2:], sample))
