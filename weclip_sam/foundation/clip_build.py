"""From an architecture's name and a checkpoint to a CLIP, or to the message why they do not go together."""
from __future__ import annotations

from typing import Any

import open_clip
import torch
from torch import Tensor

from weclip_sam.foundation.clip_card import build_clip, card_from_state_dict, find_card
from weclip_sam.foundation.clip_weights import find_weights, read_state_dict
from weclip_sam.foundation.published import tag_config


def load_clip(arch: str, checkpoint: str, seed: int, quick_gelu: bool | None) -> open_clip.CLIP:
    """The CLIP that :class:`~weclip_sam.foundation.clip.FrozenClip` describes by these arguments, in float32."""
    card = None if arch == 'auto' else find_card(arch)
    if card is not None and quick_gelu is not None:
        card = {**card, 'quick_gelu': quick_gelu}
    if checkpoint == 'random':
        if card is None:
            raise ValueError("arch='auto' reads the sizes off a checkpoint: name an architecture for random weights")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_clip(card)
    if card is not None:
        _check_activation(arch, checkpoint, card)
    path = find_weights(arch, checkpoint)
    state = read_state_dict(path)
    if card is None:
        card = card_from_state_dict(state, True if quick_gelu is None else quick_gelu)
    card = _fit_card(card, state, f'CLIP checkpoint {path}', arch)
    model = build_clip(card)
    problems = model.load_state_dict(state, strict=False)
    if problems.missing_keys or problems.unexpected_keys:
        raise ValueError(f'CLIP checkpoint {path} does not fit {arch!r}: missing {_some(problems.missing_keys)}, '
                         f'unexpected {_some(problems.unexpected_keys)}')
    return model.float()


def _some(keys: list[str]) -> str:
    return f'{len(keys)} keys' + (f' ({", ".join(keys[:3])}{", ..." if len(keys) > 3 else ""})' if keys else '')


def _check_activation(arch: str, tag: str, card: dict[str, Any]) -> None:
    config = tag_config(arch, tag)
    wanted = config.get('quick_gelu', False)
    if config and bool(card.get('quick_gelu')) != wanted:
        fix = f'{arch}-quickgelu' if wanted else arch.removesuffix('-quickgelu')
        raise ValueError(f'CLIP weights {tag!r} were trained {"with" if wanted else "without"} QuickGELU, which is not '
                         f'what {arch!r} says. Use arch={fix!r}')


def _fit_card(card: dict[str, Any], state: dict[str, Tensor], where: str, arch: str) -> dict[str, Any]:
    """The card with the checkpoint's own image size (positions are resized anyhow); every other size must agree."""
    vision, text = card['vision_cfg'], card['text_cfg']
    found = card_from_state_dict(state)
    pairs = [('embed_dim', card['embed_dim'], found['embed_dim'])]
    pairs += [(f'image {key}', vision[key], found['vision_cfg'][key]) for key in ('width', 'layers', 'patch_size')]
    pairs += [(f'text {key}', text[key], found['text_cfg'][key])
              for key in ('width', 'layers', 'context_length', 'vocab_size') if key in text]
    wrong = [f'{name} {got} (expected {expected})' for name, expected, got in pairs if expected != got]
    if wrong:
        raise ValueError(f'{where} is another architecture than {arch!r}: it has {", ".join(wrong)}. '
                         "Name the right arch, or use arch='auto'")
    return {**card, 'vision_cfg': {**vision, 'image_size': found['vision_cfg']['image_size']}}
