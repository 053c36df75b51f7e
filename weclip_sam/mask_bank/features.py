"""What SAM's image encoder saw, on disk beside the masks: one pass through it serves both.

A feature bank is the folder ``features`` of a mask bank:

``features.json``
    which data set, which folder of images and which encoder it belongs to, and whose block's tokens it holds.
``tokens/<two letters>/<digest of the image's id>.safetensors``
    the tokens h w D of an image in float16, and as metadata its id and size, how many tokens the image covers, and the
    photo that it was. Written to a temporary name and renamed: it is there whole or not at all, so any number of
    processes fill a bank without a lock, and a new file takes the place of that of a replaced photo.
``photos-*.jsonl``
    photos that were seen later with another time (copied, touched), as one list a line: [bytes, time, digest].
"""
from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from weclip_sam.checks import check_shape
from weclip_sam.commands import tool
from weclip_sam.io.files import atomic_open
from weclip_sam.io.identity import FileIdentity, IdentityNotes
from weclip_sam.io.names import normal
from weclip_sam.mask_bank.bank import MadeOf
from weclip_sam.mask_bank.header import FEATURES, open_header, other_folder

FOLDER = 'features'  # of a mask bank


def feature_folder(mask_bank: str | os.PathLike[str]) -> str:
    """Where the features lie that belong to the masks of a bank."""
    return str(Path(mask_bank) / FOLDER)


@dataclass(frozen=True)
class FeatureMap:
    """The tokens of an image.

    Attributes:
        tokens: h w D float16, from its top left corner on.
        size: (H, W) of the image.
        extent: how many tokens the image covers, down and across: the last ones may reach beyond it.
    """

    tokens: Tensor
    size: tuple[int, int]
    extent: tuple[float, float]


class FeatureBank:
    """The tokens of a data set's images, by image id.

    Args:
        root: folder of the bank.
        fingerprint: of encoder, block and pooling (:func:`weclip_sam.foundation.sam_eye.feature_fingerprint`); None
            accepts any.
        dataset: name or hash of the data set; None accepts any.
        mode: ``r`` reads an existing bank, ``a`` also adds to it and creates it where there is none.
        image_folder, moved: see :class:`MaskBank`.
        about: ``block`` and ``pool``, entries of the header of a bank that is created.

    Attributes:
        header: what ``features.json`` says.
        elsewhere: see :class:`MaskBank`.

    Raises:
        FileNotFoundError: mode ``r`` and no bank in ``root``.
        ValueError: the bank belongs to other images or another encoder, or its header is damaged.
    """

    imported = False  # as of a MaskBank: nobody else makes features

    def __init__(self, root: str | os.PathLike[str], fingerprint: str | None = None, dataset: str | None = None,
                 mode: str = 'a', image_folder: str | None = None, moved: bool = False, **about: int) -> None:
        if mode not in ('r', 'a'):
            raise ValueError(f"mode must be 'r' (read) or 'a' (read and add), got {mode!r}")
        self.root, self.mode = Path(root), mode
        self.header = open_header(self.root, mode, fingerprint, dataset, image_folder, FEATURES, about)
        if not all(isinstance(self.header.get(key), int) for key in ('block', 'pool')):
            raise ValueError(f'{self.root / FEATURES.file}: not the header of a feature bank')
        self.elsewhere = other_folder(self.root / FEATURES.file, self.header, image_folder)
        if self.elsewhere and not moved:
            raise ValueError(self.elsewhere)
        self._notes = IdentityNotes(self.root)
        self._noted: dict[str, list[FileIdentity]] | None = None  # by digest; read when first asked for

    def __contains__(self, image_id: object) -> bool:
        return isinstance(image_id, str) and self._path(image_id).is_file()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_noted': None}

    def _path(self, image_id: str) -> Path:
        name = hashlib.blake2b(normal(image_id).encode('utf-8', 'surrogateescape'), digest_size=16).hexdigest()
        return self.root / FEATURES.records / name[:2] / f'{name}.safetensors'

    def get(self, image_id: str, size: tuple[int, int] | None = None) -> FeatureMap | None:
        """The tokens of an image on the CPU, or None where the bank has none.

        Args:
            image_id: as it was put.
            size: (H, W) of the image, to be sure the tokens are its own.

        Raises:
            ValueError: the file is damaged, or of another image.
        """
        path = self._path(image_id)
        try:
            with safe_open(path, framework='pt') as file:
                about, tokens = _about(file.metadata()), file.get_tensor('tokens')
            found = FeatureMap(tokens, tuple(about['size']), tuple(about['extent']))
            if tokens.ndim != 3 or tokens.dtype != torch.float16 or len(found.size) != 2 or len(found.extent) != 2:
                raise ValueError('no features')
        except FileNotFoundError:
            return None
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f'feature bank {path}: the features of {image_id!r} are damaged ({error}); delete the '
                             f'file and run {tool("make_masks")} with this config again') from None
        if size is not None and found.size != tuple(size):
            raise ValueError(f'feature bank {self.root}: the features of {image_id!r} are of an image of {found.size}, '
                             f'the image is {tuple(size)} (height, width). A bank belongs to one data set with images '
                             'of unchanged size: use another folder or make the features anew')
        return found

    def put(self, image_id: str, found: FeatureMap, photo: FileIdentity | None = None, max_side: int | None = None
            ) -> None:
        """Keep the tokens of one image; on return they are on the disk, in the place of any that were there.

        Args:
            image_id: of the data set.
            found: its tokens.
            photo, max_side: see :meth:`MaskBank.put`.

        Raises:
            ValueError: a bank opened with mode ``r``, or tokens of another type.
            OSError: the disk is full or not writable; everything put before stays intact.
        """
        self._need_writing()
        check_shape('tokens: h w D', tokens=found.tokens)
        about = dict(id=normal(image_id), size=list(found.size), extent=list(found.extent),
                     photo=None if photo is None else [*photo, max_side])
        tokens = found.tokens.detach().cpu().contiguous()
        if tokens.dtype != torch.float16:
            raise ValueError(f'features of {image_id!r}: expected float16, got {tokens.dtype}')
        data = safetensors.torch.save({'tokens': tokens}, metadata={'features': json.dumps(about)})
        with atomic_open(self._path(image_id)) as file:
            file.write(data)

    def made_of(self, image_id: str) -> MadeOf | None:
        """What an image's tokens were made of; None where the bank has none, or their file is damaged.

        What others note meanwhile is not seen.
        """
        try:
            with safe_open(self._path(image_id), framework='pt') as file:
                about = _about(file.metadata())
            size, (*photo, max_side) = tuple(about['size']), about['photo'] or [None]
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            return None
        own = FileIdentity.parse(photo)
        if own is None:
            return MadeOf(size)
        photos = (own, *(each for each in self._seen_later().get(own.digest, ()) if each.bytes == own.bytes))
        return MadeOf(size, photos, (max_side,) * len(photos))

    def note(self, image_id: str, photo: FileIdentity, max_side: int | None) -> None:
        """Keep that the photo of an image that the bank has is seen with a new time; the rest is known already."""
        self._need_writing()
        seen = self._seen_later()
        self._notes.add(*photo)
        seen.setdefault(photo.digest, []).append(photo)

    def _seen_later(self) -> dict[str, list[FileIdentity]]:
        if self._noted is None:
            self._noted = {}
            for line in self._notes.read():
                if (photo := FileIdentity.parse(line)) is not None:
                    self._noted.setdefault(photo.digest, []).append(photo)
        return self._noted

    def refresh(self) -> None:
        """Nothing: whether an image is there is looked up on the disk."""

    def close(self) -> None:
        """The next note goes to a new file."""
        self._notes.close()

    def __enter__(self) -> FeatureBank:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _need_writing(self) -> None:
        if self.mode != 'a':
            raise ValueError(f"feature bank {self.root} was opened with mode 'r'; open it with mode 'a' to add to it")


def _about(metadata: dict[str, str] | None) -> dict[str, Any]:
    about = json.loads((metadata or {})['features'])
    if not isinstance(about, dict):
        raise ValueError('no features')
    return about
