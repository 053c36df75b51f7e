"""A mask generator by its SAM's name or file, as people say it on a command line."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weclip_sam.foundation.published import sam_checkpoint
from weclip_sam.foundation.sam_card import CARDS, WEIGHTS_DIR
from weclip_sam.io.given import check_sam
from weclip_sam.io.text import read_json

NAMES = ('tiny', *CARDS)


def named_generator(name: str, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The config of a :class:`MaskGenerator`.

    Args:
        name: ``tiny``, ``vit_b``, ``vit_l``, ``vit_h`` (their published files in ``checkpoints/``), or a checkpoint
            whose file name tells which of them it is (``sam_vit_b_01ec64.pth``).
        like: a generator whose settings are taken if its SAM is of the same architecture. Otherwise the tiny SAM has
            those of its card, and others the defaults of :class:`MaskGenerator`.

    Raises:
        ValueError: nobody knows which SAM is meant.
    """
    arch = _architecture(name)
    known = sam_checkpoint(name)
    checkpoint = name if known is None else known.place.as_posix()
    if like is not None and (like.get('sam') or {}).get('arch') == arch:
        # The file that the config names is the one that is there.
        return {**like, 'sam': {**like['sam'], **({} if name == arch else {'checkpoint': checkpoint})}}
    card = read_json(WEIGHTS_DIR / 'tiny_sam.json')['metrics']['generator'] if arch == 'tiny' else {}
    return dict(type='MaskGenerator', sam=dict(type='FrozenSam', arch=arch, checkpoint=checkpoint), **card)


def _architecture(name: str) -> str:
    check_sam(name, typed=False)
    if name in NAMES:
        return name
    told = [arch for arch in NAMES if arch in Path(name).name]
    if len(told) == 1:
        return told[0]
    raise ValueError(f'sam={name!r}: the name of the file does not tell which SAM it is; let it hold one of '
                     f'{NAMES}, or give the config a mask_generator with sam.arch and sam.checkpoint')
