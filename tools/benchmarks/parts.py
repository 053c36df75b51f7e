"""The pieces of work that are worth timing, on made-up images: speed does not depend on what is in them."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from benchmarks.measure import Case, Way
from torch import Tensor

from weclip_sam.models.weclip import WeClip
from weclip_sam.registry import MODELS
from weclip_sam.seeds.gradcam import gradcam
from weclip_sam.seeds.par import pixel_adaptive_refinement
from weclip_sam.seeds.sams import sam_vote
from weclip_sam.seeds.scores import resize_maps
from weclip_sam.structures import ClassMaps, ClipFeatures, MaskSet, SegSample


@dataclass(frozen=True)
class Setting:
    """Sizes of the work.

    Attributes:
        clip, sam: configs of the frozen models.
        decoder: config of the decoder.
        size: side of the images; batch: how many; classes: C; named: classes per image; masks: per image.
        generator: settings of the mask generator.
        sam_size: side of the image whose masks are made.
    """

    clip: dict[str, Any]
    sam: dict[str, Any]
    decoder: dict[str, Any]
    size: int
    batch: int
    classes: int
    named: int
    masks: int
    generator: dict[str, Any]
    sam_size: int


SETTINGS = {
    'tiny': Setting(dict(type='FrozenClip', arch='tiny', checkpoint='random'),
                    dict(type='FrozenSam', arch='tiny', checkpoint='random'),
                    dict(type='WeClipDecoder', dim=128, depth=2), 112, 8, 10, 2, 30,
                    dict(points_per_side=12, min_region_area=12, pred_iou_thresh=-9.0, stability_thresh=0.0), 112),
    'vit-b16': Setting(dict(type='FrozenClip', arch='ViT-B-16-quickgelu', checkpoint='random'),
                       dict(type='FrozenSam', arch='vit_b', checkpoint='random'),
                       dict(type='WeClipDecoder'), 320, 4, 20, 2, 80,
                       dict(points_per_side=32, pred_iou_thresh=-9.0, stability_thresh=0.0), 512)}


class Bench:
    """Models and made-up inputs, made once, and the cases that use them.

    Args:
        setting: sizes.
        device: of everything.
        seed: of the inputs.
    """

    def __init__(self, setting: Setting, device: torch.device, seed: int = 0) -> None:
        self.setting, self.device = setting, device
        generator = torch.Generator().manual_seed(seed)
        batch, size = setting.batch, setting.size
        self.rgb = torch.rand(batch, 3, size, size, generator=generator).mul(255).to(device)
        labels = torch.zeros(batch, setting.classes, dtype=torch.bool)
        for row in labels:
            row[torch.randperm(setting.classes, generator=generator)[:setting.named]] = True
        self.image_labels = labels
        self.clip = MODELS.build(setting.clip).to(device)
        text = torch.randn(setting.classes + 5, self.clip.embed_dim, generator=generator).to(device)
        self.text = text / text.norm(dim=1, keepdim=True)
        self.images = self.clip.normalize(self.rgb)
        self.features: ClipFeatures = self.clip(self.rgb)
        self.masks = _boxes(batch, setting.masks, size, generator).to(device)
        self.maps: ClassMaps = gradcam(self.clip, self.features, self.text, labels)
        self._generator = generator

    # ---- cases --------------------------------------------------------------------------------------------------

    def encoder(self) -> Case:
        """CLIP on a batch: together, one by one, and in bfloat16."""
        count = len(self.images)

        def low() -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16):
                return self.clip(self.rgb).tokens
        return Case('CLIP encoder', (
            Way('batch, float32', lambda: self.clip(self.rgb).tokens, count),
            Way('one by one, float32', lambda: torch.cat(
                [self.clip(image[None]).tokens for image in self.rgb], 1), count),
            Way('batch, bfloat16', low, count)), _relative)

    def gradcam(self) -> Case:
        """GradCAM of all (image, class) pairs at once, and pair by pair as the published code does it."""
        def one_by_one() -> Tensor:
            maps = []
            for index, labels in enumerate(self.image_labels):
                features = ClipFeatures(self.features.tokens[:, index:index + 1],
                                        self.features.attentions[:, index:index + 1], self.features.grid)
                for position in range(int(labels.sum())):
                    # The other classes of the image still compete, so each pair needs its own backward pass.
                    maps.append(gradcam(self.clip, features, self.text, labels[None]).scores[position])
            return torch.stack(maps)
        count = len(self.image_labels)
        return Case('GradCAM', (
            Way('loop over pairs', one_by_one, count),
            Way('batched', lambda: gradcam(self.clip, self.features, self.text, self.image_labels).scores, count)),
            _absolute)

    def sams(self) -> Case:
        """SAMS votes of a batch at once, and mask by mask as published."""
        size, count = self.masks.size, len(self.image_labels)
        maps = self.maps.with_scores(resize_maps(self.maps.scores, size))
        return Case('SAMS vote', (
            Way('loop over images and masks', lambda: torch.stack(
                [_vote_by_loop(maps, self.masks, index) for index in range(count)]), count),
            Way('batched', lambda: sam_vote(maps, self.masks, count)[0], count)), _share_of_other_labels)

    def par(self) -> Case:
        """PAR on the maps of a batch, at the size of the image and at half of it."""
        count = len(self.images)

        def at(scale: int) -> Callable[[], Tensor]:
            side = self.setting.size // scale
            images = torch.nn.functional.interpolate(self.images, (side, side), mode='area')
            scores = resize_maps(self.maps.scores, (side, side))
            return lambda: pixel_adaptive_refinement(images, scores, self.maps.sample_index)
        return Case('PAR', (Way('full size', at(1), count), Way('half size', at(2), count)))

    def training(self) -> Case:
        """A training iteration (forward, backward, step) with WeCLIP's seeds, with SAM votes, and in bfloat16."""
        affinity = dict(type='RfmAffinity', layers=4, warmup_layers=3)
        seeds = dict(par=[dict(type='GradCam'), affinity, dict(type='Par'), dict(type='PixelLabels')],
                     sam=[dict(type='GradCam'), affinity, dict(type='SamVote')])
        count = len(self.images)
        return Case('training iteration', (
            Way('WeCLIP (PAR)', self._step(seeds['par'], False), count),
            Way('WeCLIP-SAM (votes)', self._step(seeds['sam'], False), count),
            Way('WeCLIP-SAM, bfloat16', self._step(seeds['sam'], True), count)))

    def mask_generation(self) -> Case:
        """All SAM masks of an image, against CLIP's encoding of one, which every training iteration does."""
        size = self.setting.sam_size
        image = torch.rand(size, size, 3, generator=self._generator).mul(255).byte()
        made = MODELS.build(dict(type='MaskGenerator', sam=self.setting.sam, **self.setting.generator)).to(self.device)
        return Case('mask generation', (
            Way('SAM, all masks of an image', lambda: made.generate(image)),
            Way('CLIP, one image', lambda: self.clip(self.rgb[:1]))))

    # ---- helpers ------------------------------------------------------------------------------------------------

    def _step(self, seeds: list[dict[str, Any]], low_precision: bool) -> Callable[[], Tensor]:
        names = [f'class {number}' for number in range(self.setting.classes)]
        torch.manual_seed(0)
        model = WeClip(self.setting.clip, self.setting.decoder, seeds, affinity_radius=5, rfm_start=0, vocabulary=dict(
            classes=names, prompt_names=names, background_nouns=['sky', 'grass'])).to(self.device).train()
        model.set_progress(0)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
        samples = []
        for index, labels in enumerate(self.image_labels):
            own = self.masks.select(self.masks.sample_index == index)
            sample = SegSample()
            sample.image_labels = labels
            sample.mask_set = replace(own, sample_index=torch.zeros_like(own.sample_index))
            sample.padding_mask = torch.zeros(own.size, dtype=torch.bool, device=self.device)
            samples.append(sample)

        def step() -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=low_precision):
                loss = sum(model.loss(self.rgb, samples).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()
        return step


PARTS: dict[str, Callable[[Bench], Case]] = dict(
    encoder=Bench.encoder, gradcam=Bench.gradcam, sams=Bench.sams, par=Bench.par, training=Bench.training,
    masks=Bench.mask_generation)


def _boxes(batch: int, count: int, size: int, generator: torch.Generator) -> MaskSet:
    """Rectangles of all sizes, ``count`` an image."""
    corners = torch.rand(batch * count, 2, generator=generator) * 0.7
    sides = torch.rand(batch * count, 2, generator=generator) * 0.5 + 0.08
    grid = (torch.arange(size) + 0.5) / size
    inside = [(grid >= corners[:, axis, None]) & (grid < (corners + sides)[:, axis, None]) for axis in (0, 1)]
    masks = inside[0][:, :, None] & inside[1][:, None, :]
    return MaskSet(masks, torch.randint(0, 3, (batch * count,), generator=generator),
                   torch.rand(batch * count, generator=generator), torch.rand(batch * count, generator=generator),
                   torch.arange(batch).repeat_interleave(count))


def _vote_by_loop(maps: ClassMaps, masks: MaskSet, image: int, power: float = 0.6) -> Tensor:
    """SAMS for one image in plain loops, the form in which it is written down: labels H W."""
    pairs = (maps.sample_index == image).nonzero()[:, 0].tolist()
    own = (masks.sample_index == image).nonzero()[:, 0].tolist()
    scores = torch.zeros(len(pairs), len(own), device=masks.masks.device)
    for row, pair in enumerate(pairs):
        for column, mask in enumerate(own):
            scores[row, column] = maps.scores[pair].relu()[masks.masks[mask]].mean()
    low, high = scores.min(1, keepdim=True).values, scores.max(1, keepdim=True).values
    best, winner = ((scores - low) / (high - low + 1e-7)).max(0)
    rest = (1 - best) ** power
    labels = torch.where(best > rest, maps.class_index[pairs][winner] + 1, 0)
    confidence = torch.where(best > rest, best, rest)
    order = sorted(range(len(own)), key=lambda i: (int(masks.level[own[i]]), float(confidence[i])))
    painted = torch.zeros(masks.size, dtype=torch.long, device=masks.masks.device)
    for place in order:
        painted[masks.masks[own[place]]] = labels[place]
    return painted


def _relative(first: Tensor, other: Tensor) -> float:
    return float((first - other.to(first)).norm() / first.norm())


def _absolute(first: Tensor, other: Tensor) -> float:
    return float((first - other.to(first)).abs().max())


def _share_of_other_labels(first: Tensor, other: Tensor) -> float:
    return float((first != other).float().mean())
