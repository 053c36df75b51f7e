"""After every validation, or a training without one: a sheet of a few images; for TensorBoard and trackers, too."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.visualization import LocalVisBackend
from PIL import Image
from torch import Tensor

from weclip_sam.colors import label_colors
from weclip_sam.io.files import atomic_open, remove_stale_temporaries
from weclip_sam.registry import DATASETS, HOOKS, MODELS
from weclip_sam.structures import MaskSet
from weclip_sam.visualization.sheet import Row, draw_sheet, explained_row, meanings


@HOOKS.register_module()
class SheetHook(Hook):
    """Writes ``sheets/iter_000500.png``: per image its given names and a row of image, ground truth, CAM, seed and
    prediction; below, a legend and what the pictures and their numbers mean.

    The model shows them through ``model.explain(batch)``, where ``batch`` is a collated batch of one validation image;
    it returns ``prediction`` (H W int64) and, from models that make seeds, ``cam`` (K h w in [0, 1]), ``cam_classes``
    (K int64, 0-based) and ``seed`` (H W int64).
    The images are the same at every validation, spread evenly over the set. A picture that fails is logged and does not
    end the training.

    Args:
        images: how many.
        height: of a picture in pixels.
        mask_generator: config of a :class:`MaskGenerator` that segments these images once, for seeds that SAM's masks
            vote on; validation itself needs no masks. A training with a ``MaskBankHook`` gives the config's
            ``mask_generator``; None draws without.
        dataset: config of a labelled data set without random transforms, from which one sheet is drawn at the end of a
            training that has no validation (photos without masks).
    """

    priority = 'LOW'

    def __init__(self, images: int = 6, height: int = 200, mask_generator: dict | None = None,
                 dataset: dict | None = None) -> None:
        if images < 1 or height < 16:
            raise ValueError(f'SheetHook: at least one image of 16 pixels, got images={images}, height={height}')
        self.images, self.height, self.mask_generator, self.dataset = images, height, mask_generator, dataset
        self._masks: dict[str, MaskSet] = {}

    def before_train(self, runner: Any) -> None:
        """Clear what a killed writer left."""
        if is_main_process():
            remove_stale_temporaries(Path(runner.work_dir) / 'sheets', '*.png')

    def after_val_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        """Draw and write the sheet of this iteration (main process)."""
        self._draw(runner, runner.val_dataloader.dataset, metrics)

    def after_train(self, runner: Any) -> None:
        """Where nothing is validated, the trained model still shows what it makes of a few images."""
        if runner.val_loop is not None or self.dataset is None or not is_main_process():
            return
        runner.model.eval()
        try:
            self._draw(runner, DATASETS.build(self.dataset), None)
        except (ValueError, OSError) as error:
            runner.logger.warning(f'SheetHook: the images of the sheet cannot be read: {error}')
        finally:
            runner.model.train()

    def _draw(self, runner: Any, dataset: Any, metrics: dict | None) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not is_main_process() or not hasattr(model, 'explain'):
            return
        count = min(self.images, len(dataset))
        names = ('background', *dataset.metainfo['classes'])
        colors = label_colors(dataset.metainfo.get('palette'), len(names))
        rows = []
        chosen = [position * len(dataset) // count for position in range(count)]
        try:
            self._segment(model, dataset, chosen)
        except (ValueError, OSError, RuntimeError) as error:
            runner.logger.warning(f'SheetHook: no SAM masks for the sheet: {error}')
        for index in chosen:
            try:
                rows.append(draw_image(model, dataset, index, colors, self.height, self._masks))
            except Exception as error:  # a picture is not worth a training
                runner.logger.warning(f'SheetHook: image {index} could not be drawn: {type(error).__name__}: {error}')
        if not rows:
            return
        score = f' · mIoU {metrics["mIoU"]:.2f} on all validation images' if metrics and 'mIoU' in metrics else ''
        sheet = draw_sheet(rows, colors, names, f'iteration {runner.iter}{score}', meanings(rows))
        with atomic_open(Path(runner.work_dir) / 'sheets' / f'iter_{runner.iter:06}.png') as file:
            Image.fromarray(sheet).save(file, format='PNG')
        # The local backend would write the same picture a second time.
        for backend in runner.visualizer._vis_backends.values():
            if not isinstance(backend, LocalVisBackend):
                backend.add_image('sheet', sheet, step=runner.iter)

    def _segment(self, model: Any, dataset: Any, chosen: list[int]) -> None:
        if self.mask_generator is None or self._masks:
            return
        # Held for this moment only: the published SAM takes 2.6 GB. What its initial weights draw is drawn apart, so
        # that training goes on with the same random numbers whether this happens or not.
        with torch.random.fork_rng(devices=[]):
            generator = MODELS.build(self.mask_generator).to(next(model.parameters()).device)
        for index in chosen:
            made, = generator.generate_batch([np.array(dataset.load_image(index))])
            self._masks[dataset.image_ids[index]] = made.to('cpu')


@torch.no_grad()
def draw_image(model: Any, dataset: Any, index: int, colors: np.ndarray, height: int,
               masks: Mapping[str, MaskSet] | None = None) -> Row:
    """The row of one image of a labelled data set, explained by ``model`` (which stays in its mode).

    Args:
        model, dataset, colors, height: see :class:`SheetHook`.
        index: of the image in the data set.
        masks: SAM masks of images by id, at the original size, for models whose seeds need them.
    """
    if masks:
        item = dataset.load(index)
        item['masks'] = masks.get(item['image_id'])
        for transform in dataset.pipeline:
            item = transform(item)
    else:
        item = dataset[index]
    sample = item['data_samples']
    truth = sample.get('ground_truth')
    if hasattr(dataset, 'load_image'):
        rgb = np.asarray(dataset.load_image(index))
    else:
        rgb = item['inputs'].permute(1, 2, 0).byte().cpu().numpy()
    shown = model.explain(pseudo_collate([item]))
    arrays = {key: value.float().cpu().numpy() if key == 'cam' else value.cpu().numpy()
              for key, value in shown.items() if isinstance(value, Tensor)}
    classes = arrays['cam_classes'].tolist() if 'cam' in arrays else []
    return explained_row(rgb, None if truth is None else truth.cpu().numpy(), arrays.get('cam'), classes,
                         arrays.get('seed'), arrays['prediction'], colors, _caption(sample, dataset), height)


def _caption(sample: Any, dataset: Any) -> str:
    """Id and given names of an image."""
    given = sample.get('image_labels')
    if given is None:
        return str(sample.image_id)
    names = [dataset.metainfo['classes'][index] for index in given.nonzero()[:, 0].tolist()]
    return f'{sample.image_id} · given names: {", ".join(names) or "none"}'
