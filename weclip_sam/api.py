"""The trained model as a function: images in, labels out.

>>> from weclip_sam import Segmenter
>>> segment = Segmenter('work_dirs/run/iter_400.pth')
>>> result = segment('photo.jpg')
>>> result.labels.shape, result.areas()
>>> result.overlay().save('photo_overlay.png')
>>> segment('photo.jpg', names=['cup', 'table'], confidence=True).scores()
"""
from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image

from weclip_sam.datasets.frame import Frame
from weclip_sam.engine.start.config import use_test_options
from weclip_sam.engine.start.devices import choose_device
from weclip_sam.engine.start.preparation import preparation, read_side
from weclip_sam.engine.start.restore import only_registered, restore_model
from weclip_sam.engine.start.sam_at_test import banks_there, fill_generator, looks_at_sam
from weclip_sam.engine.start.shared_settings import mask_settings
from weclip_sam.io.images import as_rgb, fit_within, read_image
from weclip_sam.mask_bank import MaskBank, masks_of_photo
from weclip_sam.models.name_scores import name_scores
from weclip_sam.models.refine import refinement
from weclip_sam.offline.photo_names import check_names, in_label_order
from weclip_sam.registry import MODELS, SEED_STEPS, TRANSFORMS
from weclip_sam.result import SegmentationResult, as_half, as_planes
from weclip_sam.structures import SegSample
from weclip_sam.words import counted

__all__ = ['ImageInput', 'SegmentationResult', 'Segmenter', 'choose_device']

ImageInput = str | os.PathLike | Image.Image | np.ndarray
Names = Sequence[str] | None


@dataclass(frozen=True)
class Prepared:
    """An image before the model sees it.

    Attributes:
        name: its path, or ``image 3``.
        picture: RGB, whole.
        inputs: 3 H W uint8, as the model looks at it.
        sample: what goes with it; ``image_labels`` are the classes that are possible.
        names: those that were given, in label order; None if nobody named any.
    """

    name: str
    picture: Image.Image
    inputs: torch.Tensor
    sample: SegSample
    names: tuple[str, ...] | None = None

    @property
    def shape(self) -> torch.Size:
        """Images of one shape go through the model together."""
        return self.inputs.shape


class Segmenter:
    """A trained model, ready for images of any size. No data set is needed. Threads may share it: they take turns.

    Config and class names come from the checkpoint; images are prepared as in the validation of the training run, so
    labels equal those of ``tools/test.py``.

    Args:
        checkpoint: a file that ``tools/train.py`` wrote (``iter_*.pth``, ``best_*.pth``).
        device: ``'cpu'``, ``'cuda'``, ``'cuda:1'``, ...; a GPU if there is one when None.
        config: a config file instead of the checkpoint's own.
        options: changes of the config, such as ``{'model.clip.checkpoint': '/elsewhere/ViT-B-16.pt'}``.
        multi_scale: fuse the scales and mirror images of the config's ``tta`` (else 1 and 0.75).
        crf: refine with a dense CRF: True takes the config's ``crf`` settings (else WeCLIP's), or give its arguments.
        sam: refine with SAM. True takes the config's ``sam`` settings (else those that ``tools/test.py --sam`` has) and
            its ``mask_generator``; a name (``'tiny'``, ``'vit_b'``) or a file means that SAM; or give the settings. The
            masks of a photo come from the config's banks, if one has some that were made of this very photo, else they
            are made. An image without any keeps its prediction.
        max_side: inputs with a longer side after the test's own resizing are segmented at this size: bounds the memory
            where the test resizes nothing.

    A photo is looked at as the training's reader reads it (a folder's shrinks it to 1024 pixels). Labels are drawn from
    the logits at the size of the photo, at most at ``max_side``; a CRF and SAM draw them at the size of reading. From
    there they are enlarged (:func:`weclip_sam.visualization.enlarge_labels`).

    Attributes:
        classes: C+1 names by label, ``background`` first.
        device: where the model is.
        checkpoint: its file.

    Raises:
        FileNotFoundError: no such checkpoint (or the frozen encoder's weights, which are named).
        ValueError: a file that is no checkpoint, is damaged, holds code, or does not fit; a model that makes no labels;
            a device that is not there; ``sam`` where nothing says which SAM.
    """

    def __init__(self, checkpoint: str | os.PathLike, device: str | torch.device | None = None, *,
                 config: str | os.PathLike | None = None, options: Mapping[str, Any] | Sequence[str] | None = None,
                 multi_scale: bool = False, crf: bool | Mapping[str, Any] = False,
                 sam: bool | str | Mapping[str, Any] = False, max_side: int = 2048) -> None:
        if max_side < 16:
            raise ValueError(f'Segmenter: max_side must be at least 16 pixels, got {max_side}')
        self.checkpoint, self.device = os.fspath(checkpoint), choose_device(device)
        model, self.config, meta = restore_model(checkpoint, config, options)
        if not hasattr(model, 'test_cfg'):
            raise ValueError(f'{checkpoint}: a {type(model).__name__} predicts no label for every pixel; '
                             'Segmenter wants a segmentation model')
        self.model: Any = model.to(self.device)
        self.classes: tuple[str, ...] = ('background', *meta['classes'])
        self.palette = meta.get('palette')
        self.max_side = max_side
        self._one_at_a_time = threading.Lock()
        self._banks: list[MaskBank] = []
        self._apply_test_settings(multi_scale, crf, sam, None if config is not None else str(checkpoint))
        steps = preparation(self.config)
        if config is None:
            only_registered(steps, (TRANSFORMS,), str(checkpoint), 'pipeline')
        self._read_side = read_side(self.config)
        self._steps = [TRANSFORMS.build(dict(step)) for step in steps]
        self._pack = TRANSFORMS.build(dict(type='PackSample', refine=self._refines_with_sam))

    def _apply_test_settings(self, multi_scale: bool, crf: bool | Mapping[str, Any],
                             sam: bool | str | Mapping[str, Any], source: str | None) -> None:
        """``source``: the checkpoint, if the config is its own and must import nothing."""
        said, masks = {key: self.config.get(key) for key in ('tta', 'crf', 'sam')}, mask_settings(self.config)
        if isinstance(crf, Mapping):
            said['crf'] = dict(crf)
        settings = Config(dict(said, mask_generator=masks['generator'], mask_bank=masks['bank'],
                               model=dict(test=dict(self.model.test_cfg))))
        use_test_options(settings, tta=multi_scale, crf=bool(crf), sam=sam)
        if source is not None:  # before the first step is built
            only_registered(settings.to_dict(), (MODELS, SEED_STEPS), source, 'config')
        self._refines_with_sam = looks_at_sam(settings.model.test.refine)
        if self._refines_with_sam:
            fill_generator(settings)
            self._banks = [MaskBank(bank, mode='r') for bank in banks_there(settings)]
        self.model.test_cfg = settings.model.test.to_dict()
        self._refines = refinement(self.model.test_cfg) is not None
        if self._refines_with_sam and not self._banks:
            self.model.sam_at_test().load(self.device)  # what is wrong with it is known now

    @overload
    def __call__(self, image: ImageInput, *, names: Names = ..., probabilities: bool = ..., confidence: bool = ...,
                 batch_size: int = ...) -> SegmentationResult: ...

    @overload
    def __call__(self, image: list[Any] | tuple[ImageInput, ...], *, names: Sequence[Names] | None = ...,
                 probabilities: bool = ..., confidence: bool = ..., batch_size: int = ...
                 ) -> list[SegmentationResult]: ...

    def __call__(self, image: ImageInput | list[Any] | tuple[ImageInput, ...], *, names: Any = None,
                 probabilities: bool = False, confidence: bool = False, batch_size: int = 8
                 ) -> SegmentationResult | list[SegmentationResult]:
        """Segment one image or several.

        Args:
            image: a path, a PIL image of any mode, an array H W [3 or 4] uint8 in RGB order, or a list of those.
            names: the classes that are in the image, such as ``['cup', 'table']``: others are impossible. Of several
                images a list of such lists, with None for those of which nothing is known.
            probabilities: also keep the probability of every class at every pixel: C+1 floats a pixel while they are
                made (of an image with names, one more than it has names), C+1 halves in the result.
            confidence: also keep the probability of each pixel's label. Without ``probabilities`` the memory does not
                grow with the number of classes.
            batch_size: images of equal prepared size that go through the model together.

        Returns:
            One result, or a list in the order of the images. An image gets the same labels (to rounding) whatever the
            other images of its list.

        Raises:
            ValueError: a name that no class has, or not one entry of ``names`` for each image.
            ImageReadError: (a ValueError) naming the image that cannot be used; use :meth:`stream` to go on after it.
        """
        options: dict[str, Any] = dict(probabilities=probabilities, confidence=confidence, batch_size=batch_size)
        if not isinstance(image, (list, tuple)):
            self.possible(names, _name(image, 0))
            return self([image], names=None if names is None else [names], **options)[0]
        results: dict[int, SegmentationResult] = {}
        for index, result in self.stream(image, names=names, **options):
            if isinstance(result, Exception):
                raise result
            results[index] = result
        return [results[index] for index in range(len(image))]

    def __getstate__(self) -> dict[str, Any]:
        """Without the lock: a copy, perhaps in another process, has its own."""
        return {name: value for name, value in self.__dict__.items() if name != '_one_at_a_time'}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _one_at_a_time=threading.Lock())

    def segments(self, image: ImageInput, scores: bool = False, background: bool = True) -> list[dict[str, Any]]:
        """One image as Hugging Face's ``pipeline('image-segmentation')`` gives it, see
        :meth:`SegmentationResult.segments`; with ``scores`` every class has one, which takes memory for all classes."""
        return self(image, probabilities=scores).segments(background)

    def __repr__(self) -> str:
        names = [*self.classes[1:4], *(['...'] if len(self.classes) > 4 else [])]
        classes = f'{counted(len(self.classes) - 1, "class", "classes")}: {", ".join(names)}'
        return f'Segmenter({self.checkpoint!r}, {classes}; on {self.device})'

    def stream(self, images: Sequence[ImageInput], *, names: Sequence[Names] | None = None, probabilities: bool = False,
               confidence: bool = False, batch_size: int = 8
               ) -> Iterator[tuple[int, SegmentationResult | Exception]]:
        """Segment many images, keeping only a batch in memory; those that fail do not end it.

        Yields:
            (position, result or the exception) of every image, each once, mostly in order.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {batch_size}')
        if text := next((each for each in (names, *(names or ())) if isinstance(each, str)), None):
            raise ValueError(f"names: of several images one list each is expected, such as [['cup', 'table'], None] of "
                             f'two (None: any class may be there), got the text {text!r}')
        if names is not None and len(names) != len(images):
            raise ValueError(f'names: expected one list of class names (or None) for each of the {len(images)} images, '
                             f'got {len(names)}')
        for index, own in enumerate(names or ()):
            self.possible(own, _name(images[index], index))  # found out before the first image
        waiting: list[tuple[int, Prepared]] = []

        def results() -> Iterator[tuple[int, SegmentationResult | Exception]]:
            made = self.run([each for _, each in waiting], probabilities, confidence)
            return zip([index for index, _ in waiting], made, strict=True)
        for index, image in enumerate(images):
            try:
                prepared = self.prepare(image, None if names is None else names[index], _name(image, index))
            except (ValueError, OSError, MemoryError) as error:
                yield index, error
                continue
            # Images are never padded to each other's size: padding would change what attention sees.
            if waiting and (waiting[0][1].shape != prepared.shape or len(waiting) == batch_size):
                yield from results()
                waiting = []
            waiting.append((index, prepared))
        if waiting:
            yield from results()

    def possible(self, names: Names, source: str) -> tuple[str, ...] | None:
        """Given names in label order; None where none are given.

        Raises:
            ValueError: naming ``source``; a name that no class has, or a text in the place of a list.
        """
        if isinstance(names, str):
            raise ValueError(f"{source}: names are a list such as ['cup', 'table'], got the text {names!r}")
        if names is None:
            return None
        check_names(names, self.classes[1:], source)
        return in_label_order(names, self.classes[1:])

    def prepare(self, image: ImageInput, names: Names = None, name: str = 'image') -> Prepared:
        """Read an image and prepare it for :meth:`run`.

        Raises:
            ValueError: it cannot be used, or a name that no class has.
        """
        given = self.possible(names, name)
        picture = read_image(image) if isinstance(image, (str, os.PathLike)) else as_rgb(image, name)
        path = image if isinstance(image, (str, os.PathLike)) else None
        # As a data set of the training run would read it: then labels are those of tools/test.py.
        item = self._transform(_shrunk(image, picture, self._read_side), name, path, given)
        if max(item['inputs'].shape[-2:]) > self.max_side:
            item = self._transform(_shrunk(picture, picture, self.max_side), name, path, given)
        drawn = fit_within((picture.height, picture.width), self.max_side)
        if max(drawn) > max(item['data_samples'].ori_shape) and not self._refines:
            item['data_samples'].set_metainfo(dict(ori_shape=drawn))
        return Prepared(name, picture, item['inputs'], item['data_samples'], given)

    def _transform(self, picture: Image.Image, name: str, path: str | os.PathLike | None,
                   names: Names) -> dict[str, Any]:
        """Inputs and sample of an image, as the validation of the training run prepares it."""
        possible = torch.tensor([names is None or each in names for each in self.classes[1:]])
        size, pixels = (picture.height, picture.width), np.asarray(picture)
        found = (masks_of_photo(bank, path, size) for bank in self._banks) if path is not None else ()
        results = dict(image=pixels, original=pixels, masks=next((one for one in found if one is not None), None),
                       image_labels=possible, ground_truth=None, frame=Frame.whole(*size), image_id=name,
                       image_path=None, ori_shape=size, rng=np.random.default_rng(0))
        for step in (*self._steps, self._pack):
            results = step(results)
        return results

    def run(self, prepared: Sequence[Prepared], probabilities: bool = False, confidence: bool = False
            ) -> list[SegmentationResult | Exception]:
        """Segment prepared images of one shape together.

        Returns:
            Of each the result, or what was wrong with it.
        """
        try:
            samples, fitting = self._predict(prepared, probabilities, confidence)
            return [self._result(*each, probabilities) for each in zip(prepared, samples, fitting, strict=True)]
        except (RuntimeError, ValueError, MemoryError) as error:
            if len(prepared) > 1:  # find out which one it is; the others may pass, out of memory included
                return [result for one in prepared for result in self.run([one], probabilities, confidence)]
            kind = MemoryError if isinstance(error, MemoryError) else type(error)  # NumPy's takes a shape, no text
            return [kind(f'{prepared[0].name}: {error}')]

    def _result(self, one: Prepared, sample: SegSample, fitting: Mapping[int, float],
                probabilities: bool) -> SegmentationResult:
        size = (one.picture.height, one.picture.width)
        labels, sure = as_planes(sample.prediction, sample.get('confidence'), size)
        return SegmentationResult(
            labels, self.classes, np.asarray(one.picture),
            as_half(sample.probabilities, size) if probabilities else None, self.palette, one.name,
            one.picture.info.get('suspected_bits'), sample.get('sam'), sure,
            one.names, {self.classes[1:][c]: score for c, score in fitting.items()})

    @torch.inference_mode()
    def _predict(self, prepared: Sequence[Prepared], probabilities: bool, confidence: bool
                 ) -> tuple[list[SegSample], list[dict[int, float]]]:
        """The samples with what is predicted, and of those with names how well each name fits."""
        named = [one.names is not None for one in prepared]
        with self._one_at_a_time:  # the settings are the model's, whichever thread asks
            before = self.model.test_cfg
            self.model.test_cfg = dict(before, probabilities=probabilities, confidence=confidence, named=any(named))
            try:
                data = self.model.data_preprocessor(dict(inputs=[one.inputs for one in prepared],
                                                         data_samples=[one.sample for one in prepared]))
                samples = self.model(data['inputs'], data['data_samples'], mode='predict')
            finally:
                self.model.test_cfg = before
        if getattr(self.model, 'clip', None) is None or not any(named):
            return samples, [{} for _ in prepared]
        scores = name_scores(self.model.clip, self.model.text_features, data['inputs'],
                             torch.stack([sample.image_labels for sample in samples]))
        return samples, [score if own else {} for score, own in zip(scores, named, strict=True)]


def _shrunk(image: ImageInput, picture: Image.Image, side: int | None) -> Image.Image:
    """``image`` (already read as ``picture``) with at most this long side."""
    height, width = fit_within((picture.height, picture.width), side)
    if (width, height) == picture.size:
        return picture
    if isinstance(image, (str, os.PathLike)):
        return read_image(image, max_side=side)  # decodes at a fraction of the size, as a data set does
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def _name(image: Any, index: int) -> str:
    return os.fspath(image) if isinstance(image, (str, os.PathLike)) else f'image {index}'
