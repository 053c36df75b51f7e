"""SAM checkpoints: which file, where it comes from, is it the right architecture; errors that say what to do."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from weclip_sam.foundation.published import sam_checkpoint
from weclip_sam.foundation.sam_card import CARDS, WEIGHTS_DIR, SamCard, build_sam
from weclip_sam.io.tensors import read_tensors


def how_to_get(arch: Any, path: Path) -> str:
    """One sentence that says where the weights of ``arch`` come from; the command saves them as ``path``."""
    if (known := sam_checkpoint(arch)) is not None:
        # A name that says what is in it.
        return known.how_to_get(path if path.suffix in ('.pth', '.pt') else path.parent / known.file)
    if arch == 'tiny':
        return ('The tiny weights belong to the package: reinstall it, or make them with '
                'tools/pretrain/train_tiny_sam.py')
    return "Give the path of a .pth or .safetensors state dict, or checkpoint='random'"


def read_sam_weights(checkpoint: str | Path, arch: Any, card: SamCard) -> dict[str, Tensor]:
    """The state dict of a SAM, fitted to ``card``.

    Args:
        checkpoint: path, or ``tiny`` for the bundled weights.
        arch: as the user gave it; for messages.
        card: the architecture to fit; its image size may differ from the checkpoint's.

    Returns:
        name -> tensor, exactly the names and shapes of ``build_sam(card).state_dict()``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, unsafe, or of another architecture.
    """
    path = WEIGHTS_DIR / 'tiny_sam.safetensors' if checkpoint == 'tiny' else Path(checkpoint).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'SAM checkpoint {path} does not exist. {how_to_get(arch, path)}')
    known = sam_checkpoint(arch)
    state, kind = read_tensors(path, 'SAM checkpoint', _beside(arch, path), known.bytes if known else None)
    if all(key.startswith('sam.') for key in state):
        state = {key.removeprefix('sam.'): value for key, value in state.items()}
    _check_architecture(state, kind, path, arch, card)
    return _fit_positions(state, card)


def _expected_shapes(card: SamCard) -> dict[str, torch.Size]:
    with torch.device('meta'):
        return {name: tensor.shape for name, tensor in build_sam(card).state_dict().items()}


def _describe(state: Mapping[str, Tensor]) -> str:
    """Name the architecture of a state dict, as far as its encoder tells."""
    width = state['image_encoder.pos_embed'].shape[-1]
    depth = len({k.split('.')[2] for k in state if k.startswith('image_encoder.blocks.')})
    for name, card in CARDS.items():
        if (width, depth) == (card.embed_dim, card.depth):
            return f'{name} (width {width}, {depth} blocks)'
    return f'an encoder of width {width} with {depth} blocks'


def _beside(arch: Any, path: Path) -> str:
    """:func:`how_to_get` for a file that is there: it may be sound and of something else, so it is not written over."""
    known = sam_checkpoint(arch)
    return how_to_get(arch, path.parent / known.file if known else path)


def _check_architecture(state: Mapping[str, Tensor], kind: str, path: Path, arch: Any, card: SamCard) -> None:
    if getattr(state.get('image_encoder.pos_embed'), 'ndim', 0) != 4:
        raise ValueError(f'SAM checkpoint {path}, {kind}, holds no SAM state dict (found {sorted(state)[:4]}). '
                         f'{_beside(arch, path)}')
    wanted = _expected_shapes(card)
    name = arch if isinstance(arch, str) else 'the given card'
    expected = f'{name} (width {card.embed_dim}, {card.depth} blocks)'
    missing, extra = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
    differing = [k for k in sorted(set(wanted) & set(state)) if not _same_but_position(k, state[k].shape, wanted[k])]
    if missing or extra or differing:
        first = (f'lacks {missing[0]}' if missing else f'has unknown {extra[0]}' if extra else
                 f'{differing[0]} is {tuple(state[differing[0]].shape)}, not {tuple(wanted[differing[0]])}')
        raise ValueError(f'SAM checkpoint {path} is {_describe(state)}, but arch is {expected}: {first}. '
                         f'Set arch to match the file. {_beside(arch, path)}')


def _same_but_position(name: str, found: torch.Size, wanted: torch.Size) -> bool:
    if name == 'image_encoder.pos_embed':
        return len(found) == 4 and found[-1] == wanted[-1]
    if name.endswith(('attn.rel_pos_h', 'attn.rel_pos_w')):
        return len(found) == 2 and found[1] == wanted[1]
    return found == wanted


def _fit_positions(state: Mapping[str, Tensor], card: SamCard) -> dict[str, Tensor]:
    """Interpolate absolute (bilinear) and relative (linear) position embeddings to the card's grid."""
    fitted = {}
    for name, wanted in _expected_shapes(card).items():
        value = state[name].float()
        if value.shape != wanted and value.ndim == 4:
            value = F.interpolate(value.permute(0, 3, 1, 2), wanted[1:3], mode='bilinear').permute(0, 2, 3, 1)
        elif value.shape != wanted:
            value = F.interpolate(value.T[None], wanted[0], mode='linear')[0].T
        fitted[name] = value
    return fitted
