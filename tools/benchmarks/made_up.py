"""Sizes, models with random weights, and made-up images, labels and masks that the pieces of work are done on."""
from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor, nn

from weclip_sam.datasets.shapes.reader import shapes_scene
from weclip_sam.features import BankedTokens
from weclip_sam.registry import MODELS
from weclip_sam.structures import MaskSet, SegSample

CONFIGS = Path(__file__).parents[2] / 'configs'
OWN_WEIGHTS = 'tiny'  # the bundled ones; all others are left to chance


@dataclass(frozen=True)
class Setting:
    """Sizes of the work. Models, steps and their settings are those of the configs.

    Attributes:
        systems: config of each system whose training iterations are measured.
        seeds: config of the seeds that are made offline.
        generators: the mask generators: config, another SAM than the config's or None, side of the image.
        size: side of the training crops.
        batch: crops in a batch.
        classes: C, of the data set; named: of these, in an image.
        masks: in an image.
        photo: height and width of a photo: what seeds are made of and predictions are made for.
        seen: height and width at which predicting sees it.
        eyes: encoders beside CLIP, by name.
    """

    systems: dict[str, str]
    seeds: str
    generators: dict[str, tuple[str, str | None, int]]
    size: int
    batch: int
    classes: int
    named: int
    masks: int
    photo: tuple[int, int]
    seen: tuple[int, int]
    eyes: dict[str, dict[str, Any]]


BEFORE_EYES = 'WeCLIP-SAM, first version'  # CLIP alone sees


# A further system is one more line in ``systems``.
SETTINGS = {
    'tiny': Setting(
        {'WeCLIP': 'weclip/weclip_tiny_400_shapes.py', BEFORE_EYES: 'weclip_sam/weclip-sam-v1_tiny_400_shapes.py',
         'WeCLIP-SAM': 'weclip_sam/weclip-sam_tiny_400_shapes.py'},
        'clip_es/clip-es_tiny_free_shapes.py', {'tiny SAM': ('_base_/models/tiny_sam.py', None, 112)},
        size=112, batch=8, classes=10, named=2, masks=30, photo=(112, 112), seen=(112, 112),
        eyes={'SAM': dict(type='SamEye', sam=dict(type='FrozenSam', arch='tiny', checkpoint='tiny'))}),
    'vit-b16': Setting(
        {'WeCLIP': 'weclip/weclip_vit-b16_30k_voc.py', BEFORE_EYES: 'weclip_sam/weclip-sam-v1_vit-b16_30k_voc.py',
         'WeCLIP-SAM': 'weclip_sam/weclip-sam_vit-b16_30k_voc.py'},
        'clip_es/clip-es_vit-b16_free_voc.py',
        {'SAM ViT-B': ('_base_/models/sam_vit-h.py', 'vit_b', 1024),
         'SAM ViT-H': ('_base_/models/sam_vit-h.py', 'vit_h', 1024)},
        size=320, batch=4, classes=20, named=2, masks=100, photo=(375, 500), seen=(384, 512),
        eyes={'DINO': dict(type='FrozenDino', checkpoint='random'),
              'SAM': dict(type='SamEye', sam=dict(type='FrozenSam', arch='vit_b', checkpoint='random'))})}


class Bench:
    """What the pieces of work share: models are built when they are asked for, inputs are the same for all.

    Args:
        setting: sizes.
        device: of the models. Samples stay on the host, as the data loader leaves them.
        quick, full: fewer files to read and score, or as many as VOC has and the large photos, too.
        seed: of the inputs.
    """

    def __init__(self, setting: Setting, device: torch.device, quick: bool = False, full: bool = False,
                 seed: int = 0) -> None:
        self.setting, self.device, self.quick, self.full = setting, device, quick, full
        self.generator = torch.Generator().manual_seed(seed)
        self.image_labels = torch.zeros(setting.batch, setting.classes, dtype=torch.bool)
        for row in self.image_labels:
            row[torch.randperm(setting.classes, generator=self.generator)[:setting.named]] = True

    # ---- models -------------------------------------------------------------------------------------------------

    def config(self, name: str) -> Config:
        """A config as the tools would use it, with made-up names and without weights that would have to be there."""
        config = Config.fromfile(CONFIGS / name)
        names = [f'class {number}' for number in range(self.setting.classes)]
        model = config.model
        model.vocabulary = dict(classes=names, prompt_names=names, background_nouns=['sky', 'grass', 'road', 'tree'])
        for encoder in [model.clip, *(model.get('encoders') or {}).values()]:
            weights = encoder.get('sam', encoder)  # an eye of SAM's sees with a SAM of its own
            if weights.get('checkpoint') != OWN_WEIGHTS:
                weights.checkpoint = 'random'
        if 'rfm_start' in model:
            model.rfm_start = 0
        return config

    def build(self, config: Config) -> Any:
        """Its model, on the device, with the curriculum behind it."""
        torch.manual_seed(0)
        model = MODELS.build(config.model).to(self.device)
        if hasattr(model, 'set_progress'):
            model.set_progress(0)
        return model

    @functools.cached_property
    def clip(self) -> nn.Module:
        """The frozen encoder of the first system."""
        return MODELS.build(self.config(next(iter(self.setting.systems.values()))).model.clip).to(self.device)

    # ---- inputs -------------------------------------------------------------------------------------------------

    def crops(self, count: int | None = None) -> Tensor:
        """B 3 H W uint8 on the host."""
        return pictures(count or self.setting.batch, (self.setting.size, self.setting.size))

    @functools.cached_property
    def text(self) -> Tensor:
        """C+G E, unit rows: names that mean nothing."""
        return F.normalize(torch.randn(self.setting.classes + 5, self.clip.embed_dim, generator=self.generator)).to(
            self.device)

    def samples(self, count: int, size: tuple[int, int], masks: int = 0) -> list[SegSample]:
        """What a data set knows of images that are whole photos of that size. Everything lies on the host."""
        samples = []
        for index in range(count):
            sample = SegSample(metainfo=dict(image_id=f'image {index}', ori_shape=size, img_shape=size,
                                             content_box=(0, 0, *size), flip=False))
            sample.image_labels = self.image_labels[index % len(self.image_labels)].clone()
            sample.padding_mask = torch.zeros(size, dtype=torch.bool)
            if masks:
                sample.mask_set = boxes(masks, size, seed=index).packed()
            samples.append(sample)
        return samples

    def batch(self) -> dict[str, Any]:
        """A batch as the data loader hands it to the training step."""
        size = (self.setting.size, self.setting.size)
        return dict(inputs=list(self.crops()),
                    data_samples=self.samples(self.setting.batch, size, self.setting.masks))


def bring_tokens(batch: dict[str, Any], name: str, eye: Any, stride: int) -> None:
    """Let the samples of a batch bring what an eye saw of them, as from a bank of features."""
    for image, sample in zip(batch['inputs'], batch['data_samples'], strict=True):
        grid = [side // stride for side in image.shape[-2:]]
        sample.banked = {name: BankedTokens(torch.randn(*grid, eye.width).half(), eye.layers - 1, stride)}


def pictures(count: int, size: tuple[int, int]) -> Tensor:
    """B 3 H W uint8: rendered scenes, enlarged. Unlike noise they have areas and edges, on which CRF and SAM depend."""
    scenes = torch.stack([torch.from_numpy(shapes_scene('val', index, 112, 0).image) for index in range(count)])
    return F.interpolate(scenes.permute(0, 3, 1, 2).float(), size, mode='bilinear').round().byte()


def boxes(count: int, size: tuple[int, int], seed: int = 0) -> MaskSet:
    """Rectangles of all sizes as the masks of an image."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 0.7
    sides = torch.rand(count, 2, generator=generator) * 0.5 + 0.08
    places = [(torch.arange(side) + 0.5) / side for side in size]
    rows, columns = ((place >= corners[:, axis, None]) & (place < (corners + sides)[:, axis, None])
                     for axis, place in enumerate(places))
    scores = torch.rand(2, count, generator=generator)
    return MaskSet(rows[:, :, None] & columns[:, None, :], torch.randint(0, 3, (count,), generator=generator),
                   *scores, torch.zeros(count, dtype=torch.long))
