"""What a frozen encoder saw of the whole image, from a bank, brought into the frame of a training crop."""
from __future__ import annotations

import os
from typing import Any

from weclip_sam.commands import tool
from weclip_sam.features import BankedTokens
from weclip_sam.io.identity import recognise
from weclip_sam.mask_bank import FeatureBank
from weclip_sam.registry import TRANSFORMS

Results = dict[str, Any]


@TRANSFORMS.register_module()
class LoadFeatures:
    """SAM's banked tokens of the image go into ``results['features']``; :class:`PackSample` brings them into its frame.

    So an encoder's pass over every crop is spared, and the crop is seen as a part of the whole image. The bank is
    opened by the process that reads from it, when it first does.

    Args:
        bank: folder of a :class:`FeatureBank`.
        encoder: name of the model's encoder whose tokens they are.
        stride: side in pixels of the cells that the tokens are brought to: the patch size of the model's CLIP, or what
            divides it. Larger cells blur what the encoder saw.
        block: whose tokens they must be; -1 is the encoder's last. With ``pool``, also what a new bank is made with.
        pool: tokens to a side that were averaged to one.
        missing: for an image that the bank does not have (or where there is no bank), ``'error'``, or ``'none'``: the
            encoder looks at the image itself.
        image_folder: see :class:`LoadMasks`.

    Raises:
        ValueError: naming bank and image, when features are missing, damaged, or of another image.
    """

    def __init__(self, bank: str, encoder: str = 'sam', stride: int = 16, block: int = -1, pool: int = 1,
                 missing: str = 'error', image_folder: str | None = None) -> None:
        if missing not in ('error', 'none'):
            raise ValueError(f"LoadFeatures.missing: expected 'error' or 'none', got {missing!r}")
        for name, value in (('stride', stride), ('pool', pool)):
            if value < 1:
                raise ValueError(f'LoadFeatures.{name}: expected at least 1, got {value}')
        self.bank, self.encoder, self.stride, self.block, self.pool = str(bank), encoder, stride, block, pool
        self.missing, self.image_folder = missing, image_folder
        self._opened: tuple[int, FeatureBank] | None = None
        self._recognised: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_opened': None}

    def open(self) -> FeatureBank | None:
        """The bank, or None where there is none and none is needed."""
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                self._opened = os.getpid(), FeatureBank(self.bank, mode='r', image_folder=self.image_folder, moved=True)
            except FileNotFoundError:
                if self.missing == 'error':
                    raise
                return None
        return self._opened[1]

    def __call__(self, results: Results) -> Results:
        """Reads ``image_id``, ``image_path`` and ``ori_shape``; writes ``features`` (this loader and a
        :class:`FeatureMap`) or None."""
        bank, image_id, found = self.open(), results['image_id'], None
        if bank is not None:
            if bank.elsewhere:
                self._require_own(bank, image_id, results.get('image_path'))
            found = bank.get(image_id, tuple(results['ori_shape']))
        if found is None and self.missing == 'error':
            raise ValueError(f'feature bank {self.bank}: no features of image {image_id!r}; run {tool("make_masks")} '
                             '--features with this config first')
        results['features'] = None if bank is None or found is None else (self, bank.header['block'], found)
        return results

    def _require_own(self, bank: FeatureBank, image_id: str, path: str | None) -> None:
        if image_id in self._recognised:
            return
        known = bank.made_of(image_id)
        if path is None or known is None or recognise(path, known.photos) is None:
            raise ValueError(bank.elsewhere)
        self._recognised.add(image_id)


def in_frame(results: Results) -> dict[str, BankedTokens]:
    """The loaded tokens in the frame of the current image, by the name of their encoder."""
    loader, block, found = results['features']
    tokens = results['frame'].take_tokens(found.tokens, found.extent, loader.stride)
    return {loader.encoder: BankedTokens(tokens, block, loader.stride)}
