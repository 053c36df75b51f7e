"""Parts of a training iteration: against the plain way of doing them, and one by one."""
from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from benchmarks.floors import moved
from benchmarks.made_up import Bench, boxes
from benchmarks.measure import Case, Way
from torch import Tensor

from weclip_sam.seeds.crf import dense_crf
from weclip_sam.seeds.excel import ExcelMaps
from weclip_sam.seeds.gradcam import GradCam, gradcam
from weclip_sam.seeds.par import pixel_adaptive_refinement
from weclip_sam.seeds.sams import sam_vote
from weclip_sam.seeds.scores import resize_maps
from weclip_sam.structures import ClassMaps, ClipFeatures, MaskSet, SeedState, to_device


def encoder(bench: Bench) -> Iterator[Case]:
    """CLIP on a batch: together, one by one, and in bfloat16."""
    images = bench.clip.normalize(bench.crops().to(bench.device).float())
    count, clip = len(images), bench.clip

    def low() -> Tensor:
        with torch.autocast(bench.device.type, torch.bfloat16):
            return clip.encode(images).tokens[-1]
    yield Case('CLIP encoder', (
        Way('batch, float32', lambda: clip.encode(images).tokens[-1], count, moved(images, clip)),
        Way('one by one, float32', lambda: torch.cat([clip.encode(image[None]).tokens[-1] for image in images]), count,
            moved(images, clip)),
        Way('batch, bfloat16', low, count, moved(images, clip, dtype=torch.bfloat16), torch.bfloat16)), _relative)


def features_and_maps(bench: Bench) -> tuple[Tensor, ClipFeatures, ClassMaps]:
    """Normalised images, what CLIP sees in them, and the maps of their classes."""
    images = bench.clip.normalize(bench.crops().to(bench.device).float())
    features = bench.clip.encode(images)
    return images, features, gradcam(bench.clip, features, bench.text, bench.image_labels)


def class_maps(bench: Bench) -> Iterator[Case]:
    """GradCAM of all (image, class) pairs at once, and pair by pair as the published code does it."""
    images, features, _ = features_and_maps(bench)
    clip, text, labels = bench.clip, bench.text, bench.image_labels
    alone = [clip.encode(image[None]) for image in images]

    def one_by_one() -> Tensor:
        # The other classes of the image still compete, so each pair needs its own backward pass.
        return torch.stack([gradcam(clip, own, text, row[None]).scores[place]
                            for own, row in zip(alone, labels, strict=True) for place in range(int(row.sum()))])
    reads = moved(features.last_block_input, text)
    yield Case('GradCAM', (
        Way('loop over pairs', one_by_one, len(labels), reads),
        Way('batched', lambda: gradcam(clip, features, text, labels).scores, len(labels), reads)), _absolute)


def two_kinds_of_maps(bench: Bench) -> Iterator[Case]:
    """From what CLIP saw to a map of each class: with gradients, and by ExCEL's calibrated path without any."""
    images, features, _ = features_and_maps(bench)
    state = SeedState(images=images, image_labels=bench.image_labels, features=dict(clip=features),
                      encoders=dict(clip=bench.clip), text_features=bench.text)
    reads = moved(features.last_block_input, bench.text)
    yield Case('maps of the classes', tuple(
        Way(label, lambda step=step: step(state).maps.scores, len(images), reads)
        for label, step in (('GradCAM', GradCam()), ('ExCEL, five blocks', ExcelMaps()))))


def votes(bench: Bench) -> Iterator[Case]:
    """SAMS votes of a batch at once, and mask by mask as published."""
    size, count = (bench.setting.size, bench.setting.size), bench.setting.batch
    _, _, maps = features_and_maps(bench)
    maps = maps.with_scores(resize_maps(maps.scores, size))
    sets = [to_device(boxes(bench.setting.masks, size, seed), bench.device) for seed in range(count)]
    stacked = MaskSet.stack(sets)
    reads = moved(maps.scores, stacked)
    yield Case('SAMS vote', (
        Way('loop over images and masks', lambda: torch.stack(
            [_vote_by_loop(maps, masks, image) for image, masks in enumerate(sets)]), count, reads),
        Way('batched', lambda: sam_vote(maps, stacked, count)[0], count, reads)), _share_of_other_labels)


def par(bench: Bench) -> Iterator[Case]:
    """PAR on the maps of a batch, at the size of the image and at half of it."""
    images, _, maps = features_and_maps(bench)

    def at(name: str, scale: int) -> Way:
        side = bench.setting.size // scale
        smaller = F.interpolate(images, (side, side), mode='area')
        scores = resize_maps(maps.scores, (side, side))
        return Way(name, lambda: pixel_adaptive_refinement(smaller, scores, maps.sample_index), len(images),
                   moved(smaller, scores))
    yield Case('PAR', (at('full size', 1), at('half size', 2)))


def crf(bench: Bench) -> Iterator[Case]:
    """The dense CRF of a photo: on the classes that are named, and on all of a prediction."""
    height, width = bench.setting.photo
    rgb = F.interpolate(bench.crops(1).float(), (height, width), mode='bilinear')[0].permute(1, 2, 0).to(bench.device)

    def with_channels(name: str, channels: int) -> Way:
        scores = torch.rand(1, channels, 8, 8, generator=bench.generator)
        given = F.interpolate(scores, (height, width), mode='bilinear')[0].mul(4).softmax(0).to(bench.device)
        return Way(name, lambda: dense_crf(rgb, given), 1, moved(rgb, given))
    yield Case('dense CRF', (with_channels(f'{bench.setting.named} classes', bench.setting.named + 1),
                             with_channels(f'{bench.setting.classes} classes', bench.setting.classes + 1)),
               compares=False)


def _vote_by_loop(maps: ClassMaps, masks: MaskSet, image: int, power: float = 0.6) -> Tensor:
    """SAMS for one image in plain loops, the form in which it is written down: labels H W."""
    pairs = (maps.sample_index == image).nonzero()[:, 0].tolist()
    planes = masks.masks
    scores = torch.stack([torch.stack([maps.scores[pair].relu()[plane].mean() for plane in planes]) for pair in pairs])
    low, high = scores.min(1, keepdim=True).values, scores.max(1, keepdim=True).values
    best, winner = ((scores - low) / (high - low + 1e-7)).max(0)
    rest = (1 - best) ** power
    labels = torch.where(best > rest, maps.class_index[pairs][winner] + 1, 0)
    confidence = torch.where(best > rest, best, rest)
    painted = torch.zeros(masks.size, dtype=torch.long, device=planes.device)
    for place in sorted(range(len(planes)), key=lambda i: (int(masks.level[i]), float(confidence[i]))):
        painted[planes[place]] = labels[place]
    return painted


def _relative(first: Tensor, other: Tensor) -> float:
    return float((first - other.to(first)).norm() / first.norm())


def _absolute(first: Tensor, other: Tensor) -> float:
    return float((first - other.to(first)).abs().max())


def _share_of_other_labels(first: Tensor, other: Tensor) -> float:
    return float((first != other).float().mean())


Part = Callable[[Bench], Iterator[Case]]
PARTS: dict[str, Part] = dict(
    encoder=encoder, gradcam=class_maps, maps=two_kinds_of_maps, votes=votes, par=par, crf=crf)
