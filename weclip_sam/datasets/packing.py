"""The two ends of a pipeline: what is loaded besides the image, and the sample that comes out."""
from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch

from weclip_sam.commands import tool
from weclip_sam.datasets.features import in_frame
from weclip_sam.datasets.frame import Frame
from weclip_sam.io.files import inside
from weclip_sam.io.identity import recognise
from weclip_sam.io.images import ImageReadError, read_labels
from weclip_sam.io.names import RealNames, normal, real_path
from weclip_sam.io.text import read_json
from weclip_sam.mask_bank import MaskBank
from weclip_sam.registry import TRANSFORMS
from weclip_sam.structures import IGNORE_LABEL, SegSample

Results = dict[str, Any]
SEEDS_HEADER = 'seeds.json'  # tools/make_seeds.py says there what the labels of a folder were made of


@TRANSFORMS.register_module()
class LoadMasks:
    """Put the SAM masks of the image into ``results['masks']``, at the original size.

    The bank is opened by the process that reads from it, when it first does, so that workers share no file handle.

    Args:
        bank: the folder of a mask bank, or anything with ``get(image_id) -> MaskSet | None``.
        fingerprint: the generator the masks must come from; None takes whatever the bank holds.
        missing: for an image the bank does not have (or where there is no bank yet), ``'error'``, or ``'none'`` to
            leave ``masks`` None.
        image_folder: where the images lie that the masks must be of (:class:`ImageLabelDataset` fills it in); None
            takes whatever the bank holds. Of a bank made for another folder the masks of photos with the same content
            are taken: the folder was copied or renamed.
        others: what masks of another photo are, by the identity that the bank keeps of each (size, time, content):
            ``'error'``, or ``'missing'``. None looks at no photo unless the folder is another one: before training
            ``MaskBankHook`` has looked at all.

    Raises:
        ValueError: naming bank and image, when masks are missing or have another size than the image, or are of another
            photo; naming the bank, when it was made for another generator or other images.
    """

    def __init__(self, bank: Any, fingerprint: str | None = None, missing: str = 'error',
                 image_folder: str | None = None, others: str | None = None) -> None:
        if missing not in ('error', 'none'):
            raise ValueError(f"LoadMasks.missing: expected 'error' or 'none', got {missing!r}")
        if others not in (None, 'error', 'missing'):
            raise ValueError(f"LoadMasks.others: expected 'error', 'missing' or None, got {others!r}")
        self.others = others
        self.bank, self.fingerprint, self.missing, self.image_folder = bank, fingerprint, missing, image_folder
        self._opened: tuple[int, Any] | None = None
        self._recognised: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_opened': None}

    def open(self) -> Any:
        """The bank, or None where there is none and none is needed."""
        if not isinstance(self.bank, (str, os.PathLike)):
            return self.bank
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                self._opened = os.getpid(), MaskBank(self.bank, fingerprint=self.fingerprint, mode='r',
                                                     image_folder=self.image_folder, moved=True)
            except FileNotFoundError:
                if self.missing == 'error':
                    raise
                return None  # it may be made while training goes on
        return self._opened[1]

    def __call__(self, results: Results) -> Results:
        """Reads ``image_id``, ``image_path`` and ``ori_shape``; writes ``masks``, a :class:`MaskSet` or None."""
        bank = self.open()
        masks = None
        if bank is not None and self._are_its_own(bank, results):
            masks = bank.get(results['image_id'])
        if masks is None and self.missing == 'error':
            raise ValueError(f'mask bank {self.bank}: no masks for image {results["image_id"]!r}; run '
                             f'{tool("make_masks")} with this config first')
        if masks is not None and masks.size != tuple(results['ori_shape']):
            raise ValueError(f'mask bank {self.bank}: the masks of {results["image_id"]!r} are {masks.size}, the image '
                             f'is {tuple(results["ori_shape"])} (height, width); the bank belongs to other images')
        # Of an image that the bank does not have, somebody may have brought some.
        results['masks'] = results.get('masks') if masks is None else masks
        return results

    def _are_its_own(self, bank: Any, results: Results) -> bool:
        """Whether what the bank has under an image's name, if anything, are masks of this very image."""
        image_id, path = results['image_id'], results.get('image_path')
        if not isinstance(bank, MaskBank) or image_id in self._recognised or not (bank.elsewhere or self.others):
            return True
        known = bank.made_of(image_id)
        if known is None and self.others is not None:
            return True  # there are none
        photos = () if known is None else known.photos
        if path is not None and photos:
            own = recognise(path, photos) is not None
        else:
            own = not bank.elsewhere  # of images without files, and of photos that nobody has noted, the folder tells
        if self.others == 'missing' and known is not None and known.size != tuple(results['ori_shape']):
            own = False
        if own:
            self._recognised.add(image_id)
        elif self.others != 'missing':
            raise ValueError(bank.elsewhere or
                             f'mask bank {self.bank}: the photo {path} of {image_id!r} is another one now than when '
                             f'its masks were made; run {tool("make_masks")} again, or choose another mask_bank')
        return own


@TRANSFORMS.register_module()
class LoadPixelLabels:
    """Put labels made offline into ``results['pixel_labels']``, at the original size (second-stage training).

    Where the folder has a ``seeds.json``, as ``tools/make_seeds.py`` writes it, the classes and the images that it
    names must be those of the data set (which may have further classes after them): label numbers mean nothing else.
    Folders without one are believed.

    Args:
        folder: where ``<image_id>.png`` lie.
        classes: the C class names in label order (:class:`ImageLabelDataset` fills them in); None takes any labels.
        image_folder: where the images lie that the labels must be of (filled in, too); None takes any labels.

    Raises:
        ValueError: naming the file, when it is missing, has another size, or values that name no class; naming
            ``seeds.json``, when the labels are of other classes or other images.
    """

    def __init__(self, folder: str, classes: Sequence[str] | None = None, image_folder: str | None = None) -> None:
        self.folder = Path(folder)
        _check_header(self.folder / SEEDS_HEADER, classes, image_folder)

    def path(self, image_id: str) -> Path:
        """The label file of an image."""
        inside(self.folder, f'{image_id}.png', 'image ids')
        return real_path(self.folder, f'{image_id}.png')

    def missing(self, image_ids: Iterable[str]) -> list[str]:
        """The images that have no label, found by one look at each folder instead of one at each file."""
        names = RealNames()
        return [image_id for image_id in image_ids
                if names.find(inside(self.folder, f'{image_id}.png', 'image ids')) is None]

    def __call__(self, results: Results) -> Results:
        """Reads ``image_id`` and ``ori_shape``; writes ``pixel_labels`` (H0 W0, 0..C and 255)."""
        path = self.path(results['image_id'])
        if not path.is_file():
            raise ImageReadError(f'{path}: no such label file; every image needs one. Run {tool("make_seeds")} again '
                                 '(summary.json in its folder says which images failed and why), or take the image '
                                 'off the list')
        labels = read_labels(path, len(results['image_labels']), results['ori_shape'])
        results['pixel_labels'] = torch.from_numpy(labels)
        return results


def _check_header(path: Path, classes: Sequence[str] | None, image_folder: str | None) -> None:
    """Compare ``seeds.json``, if there is one, with a data set; what either does not say is not compared."""
    if not path.is_file():
        return
    try:
        header = read_json(path)
        made_for, made_of = header.get('classes'), header.get('image_folder')
        if not isinstance(made_for, (list, type(None))) or not isinstance(made_of, (str, type(None))):
            raise TypeError
        made_for = None if made_for is None else [normal(name) for name in made_for]
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ValueError(f'{path}: not the header of a seed folder; make the labels anew with {tool("make_seeds")} '
                         '--overwrite, or remove this file if you know what the labels mean') from None
    # Classes that were added at the end leave the meaning of the others' labels alone.
    if made_for is not None and classes is not None and made_for != list(classes[:len(made_for)]):
        first = next(i for i, (a, b) in enumerate(zip_longest(made_for, classes)) if a != b)
        is_, was = (f'{names[first]!r}' if first < len(names) else 'no class' for names in (classes, made_for))
        raise ValueError(f'{path}: these labels were made for {len(made_for)} classes ({_shown(made_for)}), but the '
                         f'data set has {len(classes)} ({_shown(classes)}): label {first + 1} was {was} and would '
                         f'teach {is_}. Make them anew with {tool("make_seeds")} --overwrite, or keep the old '
                         'order of the classes, new ones last (a classes.txt beside the images does)')
    if made_of is not None and image_folder is not None and normal(made_of) != normal(image_folder):
        raise ValueError(f'{path}: these labels were made of images in {made_of}, but the images are in {image_folder};'
                         f' other images may have the same names: make labels of these with {tool("make_seeds")}. If '
                         f'they are the same images, moved, write "image_folder": {json.dumps(image_folder)} into '
                         f'{path}')


def _shown(names: Sequence[str]) -> str:
    return ', '.join(map(str, names[:5])) + (', ...' if len(names) > 5 else '')


@TRANSFORMS.register_module()
class UseGroundTruth:
    """Train on the ground truth: the fully supervised upper bound, and nothing else.

    Needs a data set with ``with_masks=True``, so that no configuration does it by accident.
    """

    def __call__(self, results: Results) -> Results:
        """Reads ``ground_truth``; writes it as ``pixel_labels`` (H0 W0 uint8). ValueError where there is none."""
        if results.get('ground_truth') is None:
            raise ValueError('UseGroundTruth: this data set was made without masks; only a fully supervised config may '
                             'pass with_masks=True to its training data set')
        results['pixel_labels'] = torch.from_numpy(np.array(results['ground_truth'], np.uint8))
        return results


@TRANSFORMS.register_module()
class PackSample:
    """End of a pipeline: bring masks and labels into the frame of the image and make tensors.

    Args:
        original: for seed making, whose labels are made at the size of the file: masks and labels stay there, and the
            sample also has ``original`` (3 H0 W0 uint8), the image before any transform. The transforms may resize
            but not crop, pad or flip.
        refine: for predictions that SAM refines, at the size of the file: the sample also has ``original`` and
            ``original_masks``, whatever the transforms do.

    Returns:
        ``inputs``: 3 H W uint8 RGB; ``data_samples``: :class:`SegSample` with ``image_labels`` (C bool),
        ``padding_mask`` (H W bool), and, where there are any, ``mask_set`` (bits; masks without a pixel are dropped),
        ``pixel_labels`` (H W int64, 255 on padding) and ``ground_truth`` (H W int64, always at the original size).
    """

    def __init__(self, original: bool = False, refine: bool = False) -> None:
        self.original, self.refine = original, refine

    def __call__(self, results: Results) -> dict[str, Any]:
        frame = results['frame']
        sample = SegSample(metainfo=dict(
            image_id=results['image_id'], image_path=results['image_path'], ori_shape=tuple(results['ori_shape']),
            img_shape=frame.size, content_box=frame.content_box(), flip=results.get('flip', False)))
        sample.image_labels = results['image_labels']
        sample.padding_mask = frame.padding_mask()
        if results.get('features') is not None:
            sample.banked = in_frame(results)
        if self.original:
            frame = self._add_original(results, sample)
        if self.refine:
            sample.set_field(_as_tensor(results['original']), 'original')
        if results.get('masks') is not None:
            sample.mask_set = frame.take_masks(results['masks'])
            if self.refine:
                sample.original_masks = Frame.whole(*results['ori_shape']).take_masks(results['masks'])
        if results.get('pixel_labels') is not None:
            sample.pixel_labels = frame.take(results['pixel_labels'], IGNORE_LABEL).long()
        if results.get('ground_truth') is not None:
            sample.ground_truth = torch.from_numpy(np.array(results['ground_truth'], np.int64))
        return dict(inputs=_as_tensor(results['image']), data_samples=sample)

    @staticmethod
    def _add_original(results: Results, sample: SegSample) -> Frame:
        """Put the untouched image into the sample; returns its frame."""
        if sample.content_box != (0, 0, *sample.img_shape) or sample.flip:
            raise ValueError(f'PackSample(original=True): {results["image_id"]} was padded or flipped; the pipeline of '
                             'seed making may resize only')
        sample.set_field(_as_tensor(results['original']), 'original')
        return Frame.whole(*results['ori_shape'])


def _as_tensor(image: np.ndarray) -> torch.Tensor:
    """H W 3 uint8 -> 3 H W uint8, a copy."""
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), order='C'))
