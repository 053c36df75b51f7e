"""A trained model as a maker of final labels: of its training images, or of photos whose classes are named."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from weclip_sam.commands import tool
from weclip_sam.datasets import ImageLabelDataset, Reader, Record, Vocabulary
from weclip_sam.engine.progress import announce
from weclip_sam.engine.start.config import protocol_settings
from weclip_sam.engine.start.preparation import read_side
from weclip_sam.engine.start.restore import only_registered, restore_model
from weclip_sam.engine.start.sam_at_test import banks_there
from weclip_sam.engine.start.shared_settings import fill_shared_settings, mask_settings
from weclip_sam.io.images import read_image
from weclip_sam.mask_bank import MaskBank, masks_of_photo
from weclip_sam.models.labelling import FinalLabels, final_labels
from weclip_sam.models.refine import OF_SAM, SamAtTest, refinement
from weclip_sam.models.weclip import WeClip
from weclip_sam.offline.result_folder import Asked
from weclip_sam.offline.splits import seed_images, seed_pipeline
from weclip_sam.offline.work import StageClock
from weclip_sam.registry import DATASETS, MODELS, READERS, SEED_STEPS, TRANSFORMS
from weclip_sam.result import SegmentationResult, as_planes
from weclip_sam.visualization import enlarge

LARGEST = 2048  # long side of photos that labels are made of; those of larger ones are enlarged


@dataclass(frozen=True)
class LoadedImage:
    """An image before labels are made of it.

    Attributes:
        asked: what is wanted of it.
        picture: RGB, at the size of the file.
        item: ``inputs`` and ``data_samples``.
    """

    asked: Asked
    picture: Image.Image
    item: Mapping[str, Any]

    @property
    def shape(self) -> torch.Size:
        """Of the inputs."""
        return self.item['inputs'].shape


class LabelMaker:
    """Final labels by a trained WeCLIP, WeCLIP+ or WeCLIP-SAM, see :func:`weclip_sam.models.labelling.final_labels`.

    Then :meth:`take_split` or :meth:`take_photos` says of what.

    Args:
        checkpoint: a file that ``tools/train.py`` wrote.
        device: where the model works.
        config, options: see :func:`restore_model`.
        crf: refine the labels with a dense CRF.
        sam: refine them with SAM, as predictions are (True, or the name or file of the SAM that does it and makes all
            masks).

    Attributes:
        classes: C+1 names by label, ``background`` first.
        palette: RGB triples by label.
        dataset: the images; asked: what is wanted of each, in the same order.

    Raises:
        FileNotFoundError: no such checkpoint or weights.
        ValueError: a checkpoint that cannot be used, a model that makes no labels, or nothing that says which SAM is to
            make the masks.
    """

    dataset: ImageLabelDataset
    asked: list[Asked]

    def __init__(self, checkpoint: str | os.PathLike, device: torch.device, *,
                 config: str | os.PathLike | None = None, options: Mapping[str, Any] | Sequence[str] | None = None,
                 crf: bool = False, sam: bool | str = False) -> None:
        model, self.config, self._meta = restore_model(checkpoint, config, options, labels=True)
        self.checkpoint = str(checkpoint)
        self.model = _label_making(model, self.checkpoint).to(device)
        self._trusted = config is not None
        self.classes: tuple[str, ...] = ('background', *self._meta['classes'])
        self.palette = self._meta.get('palette')
        fill_shared_settings(self.config)
        self._use_sam(sam, crf)
        self._find_sam(device)
        if not self.model.decoder_heard:
            announce(f'{checkpoint}: after {int(self.model.progress) + 1} iterations the labels do not listen to the '
                     f'decoder yet (from {self.model.rfm_start} on)')

    # ---- what the labels are made with -----------------------------------------------------------------------------

    def _use_sam(self, sam: bool | str, crf: bool) -> None:
        settings = protocol_settings(self.config, False, crf, sam)
        self._only_registered(settings, (MODELS, SEED_STEPS), 'test')
        steps = dict(refine=settings.get('refine') or (), crf=settings.get('crf'))
        self.refine = refinement(steps)
        own = mask_settings(self.config)['generator']
        generator = settings.get('mask_generator') or own
        self._only_registered(generator or {}, (MODELS,), 'mask_generator')
        self.sam = SamAtTest(generator)
        self._own_masks = generator == own

    def _find_sam(self, device: torch.device) -> None:
        """What is wrong with it is known now, not at the first image."""
        needs = self.model.seeds_need | (frozenset() if self.refine is None else self.refine.needs)
        if not needs & OF_SAM:
            return
        banks = banks_there(self.config) if self._own_masks else []
        if self.sam.config is None and ('prompter' in needs or not banks):
            raise ValueError(f"{self.checkpoint}: SAM's masks decide on these labels, and nothing says which SAM is to "
                             'make them: the config has no mask_generator, and there is no bank of masks. Name one: '
                             '--sam tiny, --sam vit_b, --sam FILE')
        if 'prompter' in needs or not banks:
            self.sam.load(device)

    def _only_registered(self, node: Any, registries: Sequence[Any], place: str) -> None:
        """Of a checkpoint's own config nothing is imported."""
        if not self._trusted:
            only_registered(node, registries, self.checkpoint, place)

    # ---- the images ------------------------------------------------------------------------------------------------

    def take_split(self, split: str) -> None:
        """The images of a split of the config, with masks of its bank if that has some of these very images.

        Raises:
            ValueError, FileNotFoundError: the config has no such split, its data are not there or have other classes
                than the model.
        """
        settings = seed_images(self.config, split, masks=self._own_masks, masks_needed=False)
        if 'mask_bank' in settings:
            settings['mask_bank'] = dict(settings['mask_bank'], others='missing')
        self._only_registered(settings, (DATASETS, READERS, TRANSFORMS), 'train_dataloader.dataset')
        dataset = DATASETS.build(settings)
        if tuple(dataset.metainfo['classes']) != self.classes[1:]:
            raise ValueError(f'{self.checkpoint}: was trained on the classes {_some(self.classes[1:])}, but its data '
                             f'now have {_some(dataset.metainfo["classes"])}, so that other labels would be meant. '
                             'Give the photos and their table: PHOTOS --labels FILE')
        self._take(dataset)

    def take_photos(self, photos: Sequence[tuple[Path, str, tuple[str, ...]]]) -> None:
        """Photos (file, name, given classes), with masks of any bank of the config that knows them by their content."""
        classes = self.classes[1:]
        vocabulary = Vocabulary(classes, tuple(self._meta.get('prompt_names') or classes),
                                tuple(self._meta.get('background_nouns') or ()))
        records = [Record(name, tuple(classes.index(each) for each in given), file) for file, name, given in photos]
        reader = Reader(vocabulary, records, max_side=min(read_side(self.config) or LARGEST, LARGEST))
        steps = seed_pipeline(self.config)
        self._only_registered(steps, (TRANSFORMS,), 'seed_dataset.pipeline')
        banks = banks_there(self.config) if self._own_masks else []
        self._take(ImageLabelDataset(reader, [FindMasks([MaskBank(bank, mode='r') for bank in banks]), *steps]))

    def _take(self, dataset: ImageLabelDataset) -> None:
        self.dataset = dataset
        self.asked = [Asked(record.image_id, record.image_path, tuple(self.classes[1:][c] for c in record.classes))
                      for record in dataset.records]

    # ---- image by image --------------------------------------------------------------------------------------------

    def load(self, index: int) -> LoadedImage:
        """Read and prepare an image.

        Raises:
            ValueError, OSError: it cannot be used.
        """
        asked = self.asked[index]
        picture = self.dataset.load_image(index) if asked.image is None else read_image(asked.image)
        return LoadedImage(asked, picture, self.dataset[index])

    def make(self, images: Sequence[LoadedImage], clock: StageClock) -> list[SegmentationResult]:
        """Label images one by one, so that an image's labels do not depend on which others are still missing."""
        return [self._result(image, final_labels(self.model, image.item['inputs'], image.item['data_samples'], self.sam,
                                                 self.refine, clock)) for image in images]

    def _result(self, image: LoadedImage, made: FinalLabels) -> SegmentationResult:
        size = (image.picture.height, image.picture.width)
        labels, sure = as_planes(made.labels, made.confidence, size)
        return SegmentationResult(
            labels, self.classes, np.asarray(image.picture), palette=self.palette,
            name=str(image.asked.image or image.asked.name),
            suspected_bits=image.picture.info.get('suspected_bits'), sam=made.sam,
            confidence=sure, names=image.asked.names,
            named={self.classes[1:][c]: score for c, score in made.named.items()},
            doubts={name: enlarge(other.cpu().numpy(), size, smooth=False) for name, other in made.doubts.items()})


class FindMasks:
    """Put the masks that a bank has of this very photo into ``results['masks']``; None where none has any.

    Args:
        banks: looked at in this order.
    """

    def __init__(self, banks: Sequence[MaskBank]) -> None:
        self.banks = banks

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Reads ``image_path`` and ``ori_shape``; writes ``masks``."""
        found = (masks_of_photo(bank, results['image_path'], results['ori_shape']) for bank in self.banks)
        results['masks'] = next((masks for masks in found if masks is not None), None)
        return results


def _label_making(model: Any, checkpoint: str) -> WeClip:
    if not isinstance(model, WeClip):
        raise ValueError(f'{checkpoint}: a {type(model).__name__} makes no labels of named images; '
                         f'{tool("make_labels")} takes trained WeCLIP, WeCLIP+ and WeCLIP-SAM models '
                         f'({tool("predict")} --labels FILE takes any)')
    if model.seeds is None:
        raise ValueError(f"{checkpoint}: this model learnt from labels that were made before (labels='offline') and "
                         f'makes none itself; {tool("predict")} --labels FILE predicts among the named classes')
    return model


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:5]) + (f', ... ({len(names)})' if len(names) > 5 else '')
