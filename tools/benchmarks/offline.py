"""What is done once for a data set or for a finished model: seeds, masks, predictions; and what large photos take."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from benchmarks.floors import moved
from benchmarks.made_up import CONFIGS, Bench, boxes, pictures
from benchmarks.measure import Case, Way
from mmengine.config import Config
from torch import Tensor

from weclip_sam.engine.start.config import protocol_settings
from weclip_sam.registry import MODELS
from weclip_sam.seeds.sams import sam_vote
from weclip_sam.structures import ClassMaps, MaskSet

SHARE = 1 / 6  # of SAM's candidates that are let through where random weights score them
SEED_BATCHES = (1, 8)
LARGE = (3000, 4000)
PRECISIONS = {'float32': torch.float32, 'bfloat16': torch.bfloat16}


def at_precision(bench: Bench, dtype: torch.dtype, run: Callable[[], Any]) -> Callable[[], Any]:
    """``run`` under autocast where ``dtype`` is the lower one."""
    def wrapped() -> Any:
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            return run()
    return wrapped


# ---- seeds ----------------------------------------------------------------------------------------------------------

def seeds(bench: Bench) -> Iterator[Case]:
    """CLIP-ES's labels of photos without the CRF: encoder, GradCAM, affinity; one by one and together."""
    maker, size = _seed_maker(bench), bench.setting.photo
    ways = []
    for count in SEED_BATCHES:
        photos, samples = pictures(count, size), bench.samples(count, size)
        for name, dtype in PRECISIONS.items():
            ways.append(Way(f'batch {count}, {name}', at_precision(
                bench, dtype, lambda photos=photos, samples=samples: maker.make(photos, samples).pixel_labels),
                count, moved(photos, maker, dtype=dtype), dtype))
    yield Case('seeds: GradCAM and affinity', tuple(ways))


def _seed_maker(bench: Bench) -> Any:
    config = bench.config(bench.setting.seeds)
    config.model.seeds = [step for step in config.model.seeds if step.type != 'Crf'] + [dict(type='PixelLabels')]
    return bench.build(config).eval()


# ---- masks ----------------------------------------------------------------------------------------------------------

def masks(bench: Bench) -> Iterator[Case]:
    """All SAM masks of an image; ViT-H on a GPU alone: it is too much for a CPU."""
    for name, (config, arch, side) in bench.setting.generators.items():
        if arch == 'vit_h' and bench.device.type != 'cuda':
            continue
        image = pictures(1, (side, side))[0].permute(1, 2, 0).contiguous()
        made = _mask_generator(bench, config, arch, image)
        yield Case(f'{name}, masks of {side} x {side} pixels', tuple(
            Way(label, at_precision(bench, dtype, lambda made=made, image=image: made.generate(image)), 1,
                moved(image, made.sam, dtype=dtype), dtype) for label, dtype in PRECISIONS.items()),
            most=None if arch is None or bench.device.type == 'cuda' else 2)


def _mask_generator(bench: Bench, config: str, arch: str | None, image: Tensor) -> Any:
    settings = Config.fromfile(CONFIGS / config).mask_generator
    if arch is None:
        return MODELS.build(settings).to(bench.device)
    torch.manual_seed(0)
    sam = MODELS.build(dict(type='FrozenSam', arch=arch, checkpoint='random')).to(bench.device)
    settings.update(sam=sam, crop_n_layers=0, stability_thresh=0.0)
    # Of random weights no threshold is known: a few points without one tell which lets the wanted share through.
    everything = dict(settings, points_per_side=8, pred_iou_thresh=-1e9, nms_thresh=1.0, min_region_area=0)
    scores = MODELS.build(everything).generate(image).predicted_iou.float()
    return MODELS.build(dict(settings, pred_iou_thresh=float(scores.quantile(1 - SHARE))))


# ---- predictions ----------------------------------------------------------------------------------------------------

def inference(bench: Bench) -> Iterator[Case]:
    """Labels of a photo, from bytes to the size of the file: at one scale, with multi-scale and flip, with CRF."""
    config = bench.config(next(iter(bench.setting.systems.values())))
    model = bench.build(config).eval()
    base = model.test_cfg
    way = _predicting(bench, model, bench.setting.photo)
    low = at_precision(bench, torch.bfloat16, way)
    yield Case('prediction of a photo', tuple(
        Way(label, _with_settings(model, {**base, **protocol_settings(config, *options)}, run), 1,
            moved(pictures(1, bench.setting.seen), model, dtype=dtype), dtype)
        for label, options, run, dtype in (
            ('one scale', (False, False), way, torch.float32),
            ('one scale, bfloat16', (False, False), low, torch.bfloat16),
            ('multi-scale and flip', (True, False), way, torch.float32),
            ('one scale, CRF', (False, True), way, torch.float32))))


def _predicting(bench: Bench, model: Any, photo: tuple[int, int], masks: MaskSet | None = None) -> Callable[[], Tensor]:
    sample, = bench.samples(1, bench.setting.seen)
    sample.set_metainfo(dict(ori_shape=photo))
    if masks is not None:
        sample.mask_set = masks
    batch = dict(inputs=list(pictures(1, bench.setting.seen)), data_samples=[sample])

    def predict() -> Tensor:
        with torch.no_grad():
            return model.val_step(batch)[0].prediction
    return predict


def _with_settings(model: Any, settings: dict[str, Any], run: Callable[[], Any]) -> Callable[[], Any]:
    def wrapped() -> Any:
        model.test_cfg = settings
        return run()
    return wrapped


# ---- large photos ---------------------------------------------------------------------------------------------------

def memory(bench: Bench) -> Iterator[Case]:
    """What should fit beside the weights whatever the photo: look at the memory, the times are of one run."""
    height, width = LARGE
    for classes in (20, 80):
        large = Bench(replace(bench.setting, classes=classes), bench.device)
        model = large.build(large.config(next(iter(large.setting.systems.values())))).eval()
        yield Case(f'prediction of {height * width // 10 ** 6} megapixels', (
            Way(f'{classes} classes', _predicting(large, model, LARGE)),), most=1)
        if classes == 20:
            vote = {**model.test_cfg, 'refine': [dict(type='VotePrediction')]}
            yield Case('the same, refined by votes of 300 masks (450 MB, there before)', (
                Way(f'{classes} classes', _with_settings(model, vote, _predicting(
                    large, model, LARGE, _many_boxes(300).to(bench.device)))),), most=1)
        del model
    given, size = _many_boxes(300).to(bench.device), tuple(side // 16 for side in LARGE)
    maps = ClassMaps(torch.rand(2, *size, generator=bench.generator).to(bench.device),
                     torch.zeros(2, dtype=torch.long, device=bench.device), torch.arange(2, device=bench.device))
    yield Case(f'votes of 300 masks of {height} x {width} pixels', (
        Way('SAMS vote', lambda: sam_vote(maps, given, 1)[0], 1, moved(maps, given)),), most=1)
    maker, photo = _seed_maker(bench), bench.setting.photo
    photos, samples = pictures(1, photo), bench.samples(1, photo)
    yield Case('seeds of one photo', (Way('batch 1', lambda: maker.make(photos, samples).pixel_labels),), most=2)


def _many_boxes(count: int, few: int = 10) -> MaskSet:
    """Masks of the large photo, as bits where masks can be held so: never all of them as whole planes."""
    sets = (boxes(few, LARGE, seed) for seed in range(count // few))
    stacked = MaskSet.stack([s.packed() if hasattr(s, 'packed') else s for s in sets])
    return replace(stacked, sample_index=torch.zeros_like(stacked.sample_index))


PARTS = dict(seeds=seeds, masks=masks, inference=inference, memory=memory)
