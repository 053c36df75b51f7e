"""Prompt tuning of FMA-WSSS (https://arxiv.org/abs/2312.03585): CLIP is frozen, prompts are trained."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.checks import suggest_name
from weclip_sam.commands import tool
from weclip_sam.features import ClipFeatures, Wanted
from weclip_sam.models.fma_losses import cam_activation_loss, multi_label_contrastive_loss
from weclip_sam.models.frozen import WithFrozen
from weclip_sam.models.offline import offline_labels, pad_to
from weclip_sam.models.prompts import PromptLearner, read_prompts, save_prompts, start_from
from weclip_sam.registry import MODELS
from weclip_sam.seeds.gradcam import gradcam, localisation_logits
from weclip_sam.structures import SegSample, to_device

TASKS = ('classification', 'segmentation')
BACKGROUNDS = ('nouns', 'empty')


@MODELS.register_module()
class PromptTuner(WithFrozen):
    """Learn prompts from image labels (classification, then coarse seeds) or from coarse seeds (segmentation, then fine
    seeds).

    Classification: multi-label contrastive loss over the foreground logits. Segmentation: CAM activation loss on the
    signed GradCAM of every present class against ``pixel_labels`` (put ``LoadPixelLabels`` with the folder of coarse
    seeds into the training pipeline), with gradients of second order, plus a small multi-label soft margin loss on the
    logits as in the authors' configs.

    The published hyper-parameters are the defaults of each task: 16 context vectors, shared and with the name at the
    end (classification) or one set per class and the name in front (segmentation), background nouns or empty names.

    Args:
        clip: config of a :class:`FrozenClip`.
        task: ``classification`` or ``segmentation``.
        vocabulary: ``classes``, ``prompt_names``, ``background_nouns``; ``tools/train.py`` takes it from the data set.
        start: file of learnt prompts whose context vectors are where learning begins (a shared set is given to every
            name); None begins at random or at ``ctx_init``, as published. Text towers with few tokens need it: from
            random vectors they forget the classes before they learn their outlines.
        n_ctx, position, context, ctx_init, init_std: of :class:`PromptLearner`; None takes the task's published value.
        background: ``nouns``, or as many ``empty`` names; None takes the task's published value.
        softmax: ``fma`` or ``exact``, see :func:`weclip_sam.seeds.scores.masked_softmax`. The published training used
            the former; with CLIP's logits the two hardly differ unless an absent class leads by more than 11.
        contrast, activation: keyword arguments of the two losses.
        activation_weight, soft_margin_weight: of the two losses of the segmentation task. Signed maps are small numbers
            when the logit scale is: a weight above 1 then speeds learning up.
        seed: of the random contexts; None takes the run's.
        data_preprocessor: see :class:`SegDataPreprocessor`.

    Raises:
        ValueError: unknown task or background, no vocabulary, ``start`` with contexts of another shape.
        FileNotFoundError: no file ``start``.
    """

    def __init__(self, clip: dict, task: str = 'classification', vocabulary: dict | None = None, n_ctx: int = 16,
                 position: str | None = None, context: str | Sequence[int] | None = None, ctx_init: str | None = None,
                 init_std: float = 0.015, background: str | None = None, softmax: str = 'fma',
                 contrast: dict | None = None, activation: dict | None = None, activation_weight: float = 1.0,
                 soft_margin_weight: float = 0.1, seed: int | None = None, data_preprocessor: dict | None = None,
                 start: str | None = None) -> None:
        if task not in TASKS:
            raise ValueError(f'PromptTuner task: expected one of {TASKS}, got {task!r}.{suggest_name(task, TASKS)}')
        fine = task == 'segmentation'
        background = background or ('empty' if fine else 'nouns')
        if background not in BACKGROUNDS:
            raise ValueError(f'PromptTuner background: expected one of {BACKGROUNDS}, got {background!r}.'
                             f'{suggest_name(background, BACKGROUNDS)}')
        if not vocabulary:
            raise ValueError('PromptTuner: vocabulary is missing; give dict(classes=..., prompt_names=..., '
                             f'background_nouns=...) or start through {tool("train")}, which takes it from the data '
                             'set')
        frozen = MODELS.build(clip)
        super().__init__(data_preprocessor=data_preprocessor or dict(type='SegDataPreprocessor',
                                                                     divisor=frozen.patch_size))
        self.hold('clip', frozen)
        self.task, self.softmax = task, softmax
        self.activation_weight, self.soft_margin_weight = activation_weight, soft_margin_weight
        self.contrast, self.activation = dict(contrast or {}), dict(activation or {})
        self.classes = tuple(vocabulary['classes'])
        nouns = list(vocabulary['background_nouns'])
        self.prompts = PromptLearner(
            frozen, [*vocabulary['prompt_names'], *(nouns if background == 'nouns' else [''] * len(nouns))],
            n_ctx=n_ctx, position=position or ('front' if fine else 'end'),
            context=context if context is not None else ('per_class' if fine else 'shared'), ctx_init=ctx_init,
            init_std=init_std,
            generator=torch.Generator().manual_seed(torch.initial_seed() if seed is None else seed))
        if start is not None:
            start_from(self.prompts, read_prompts(start, frozen), start)

    def tensor(self, inputs: Tensor, data_samples: list[SegSample] | None = None) -> Tensor:
        """B 3 H W, RGB in 0..255 -> logits B C+G."""
        features = self._see(inputs, data_samples)
        return self.logits(features, self.prompts.text_features(self.clip))

    def _see(self, inputs: Tensor, data_samples: list[SegSample] | None) -> ClipFeatures:
        """Of the encoder nothing but the input of its last block is read."""
        return self.clip(inputs, self._padding(data_samples, inputs), Wanted.last_block_input(self.clip.layers))

    def logits(self, features: ClipFeatures, text_features: Tensor) -> Tensor:
        """B C+G: scaled cosines of the mean patch token with the prompts, in float32."""
        with torch.autocast(text_features.device.type, enabled=False):
            return localisation_logits(self.clip, features.last_block_input.float(), text_features,
                                       padding=features.padding)

    def loss(self, inputs: Tensor, data_samples: list[SegSample]) -> dict[str, Tensor]:
        """Losses of one batch.

        Args:
            inputs: B 3 H W float, RGB in 0..255.
            data_samples: image labels; for the segmentation task also ``pixel_labels``.
        """
        features = self._see(inputs, data_samples)
        text_features = self.prompts.text_features(self.clip)
        image_labels = torch.stack([s.image_labels for s in data_samples])
        logits = self.logits(features, text_features)[:, :len(self.classes)]
        if self.task == 'classification':
            return dict(loss_contrast=multi_label_contrastive_loss(logits, image_labels, **self.contrast))
        maps = gradcam(self.clip, features, text_features, image_labels, signed=True, create_graph=True,
                       softmax=self.softmax)
        inside, outside = cam_activation_loss(maps, offline_labels(data_samples, inputs), **self.activation)
        margin = F.multilabel_soft_margin_loss(logits, to_device(image_labels, logits.device).to(logits.dtype))
        return dict(loss_inside=self.activation_weight * inside, loss_outside=self.activation_weight * outside,
                    loss_margin=self.soft_margin_weight * margin)

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list[SegSample]) -> list[SegSample]:
        """Add ``image_scores`` (C float, the foreground logits) to every sample, for multi-label mAP."""
        logits = self.tensor(inputs, data_samples)[:, :len(self.classes)]
        for sample, scores in zip(data_samples, logits, strict=True):
            sample.image_scores = scores
        return data_samples

    # ---- beside the loop ----------------------------------------------------------------------------------------

    def save_prompts(self, path: str | Path) -> None:
        """Write the learnt prompts for :func:`weclip_sam.models.prompts.load_prompts`."""
        save_prompts(path, self.prompts, arch=self.clip.arch)

    @staticmethod
    def _padding(data_samples: list[SegSample] | None, inputs: Tensor) -> Tensor | None:
        """B H W bool, or None when no sample says where it is padded."""
        if not data_samples or any(sample.get('padding_mask') is None for sample in data_samples):
            return None
        return torch.stack([pad_to(s.padding_mask, inputs.shape[-2:], True) for s in data_samples])
