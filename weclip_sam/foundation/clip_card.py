"""CLIP model cards: the sizes of a model as open_clip's JSON cards write them, and the model a card describes.

A card is ``{embed_dim, quick_gelu, vision_cfg: {image_size, layers, width, head_width, patch_size},
text_cfg: {context_length, vocab_size, width, heads, layers}}``. Only plain vision transformers are accepted (a class
token, ``ln_pre``, ``ln_post``, ``proj`` and a text tower read at its end token), because the seeds need all of that.
"""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
from torch import Tensor

from weclip_sam.checks import suggest_name
from weclip_sam.io.text import read_json

WEIGHTS_DIR = Path(__file__).parent / 'weights'
TINY_CARD = WEIGHTS_DIR / 'tiny_clip.json'
TINY_WEIGHTS = WEIGHTS_DIR / 'tiny_clip.safetensors'
HEAD_WIDTH = 64  # of both towers in every OpenAI model; state dicts do not say it

_TOP_KEYS = ('embed_dim', 'quick_gelu', 'vision_cfg', 'text_cfg', 'init_logit_scale')
_VISION_KEYS = ('image_size', 'layers', 'width', 'head_width', 'patch_size', 'mlp_ratio', 'ls_init_value',
                'patch_dropout')
_TEXT_KEYS = ('context_length', 'vocab_size', 'width', 'heads', 'layers', 'mlp_ratio', 'ls_init_value')
_REQUIRED = {'': ('embed_dim',), 'vision_cfg': ('layers', 'width', 'patch_size'),
             'text_cfg': ('width', 'heads', 'layers')}


def build_clip(card: Mapping[str, Any]) -> open_clip.CLIP:
    """Build the (randomly initialised) open_clip model of a card, in float32 and training mode.

    Args:
        card: the card's content; keys other than open_clip's model keys (notes on the training, say) are ignored at
            the top level, but not inside ``vision_cfg`` and ``text_cfg``.

    Raises:
        ValueError: a size is missing, or the card describes something else than a plain vision transformer.
    """
    check_card(card)
    options = {key: card[key] for key in _TOP_KEYS if key in card}
    return open_clip.CLIP(**options)


def check_card(card: Mapping[str, Any], name: str = 'CLIP card') -> None:
    """Raise ValueError unless ``card`` describes a plain vision transformer with a causal text tower."""
    for part in ('vision_cfg', 'text_cfg'):
        if part not in card:
            raise ValueError(f'{name}: missing {part!r}')
    for part, known in (('vision_cfg', _VISION_KEYS), ('text_cfg', _TEXT_KEYS)):
        for key in card[part]:
            if key not in known:
                raise ValueError(f'{name}: {part} has {key!r}, no part of a plain CLIP vision transformer '
                                 f'(known: {", ".join(known)}).{suggest_name(key, known)}')
    for part, keys in _REQUIRED.items():
        missing = [key for key in keys if key not in (card[part] if part else card)]
        if missing:
            where = f' in {part}' if part else ''
            raise ValueError(f'{name}: missing {", ".join(repr(key) for key in missing)}{where}')
    if card.get('custom_text') or card.get('multimodal_cfg'):
        raise ValueError(f'{name}: only plain CLIP text towers are supported')
    if not isinstance(card['vision_cfg']['layers'], int):
        raise ValueError(f'{name}: a ResNet CLIP; the seeds need a vision transformer such as ViT-B-16-quickgelu')
    head_width = card['vision_cfg'].get('head_width', HEAD_WIDTH)
    if card['vision_cfg']['width'] % head_width:
        raise ValueError(f'{name}: width {card["vision_cfg"]["width"]} is not divisible by head_width {head_width}')


def known_archs() -> list[str]:
    """Names ``find_card`` understands: 'tiny' and every plain vision transformer among open_clip's cards."""
    return ['tiny', *(name for name in open_clip.list_models() if _is_plain(open_clip.get_model_config(name)))]


def _is_plain(card: Mapping[str, Any]) -> bool:
    try:
        check_card(card)
    except ValueError:
        return False
    return True


def find_card(arch: str) -> dict[str, Any]:
    """The card of an architecture: 'tiny', an open_clip model name, or the path of a ``.json`` card.

    Raises:
        ValueError: the name is unknown (with the nearest known one) or not a plain vision transformer.
        FileNotFoundError: the card file is not there.
    """
    if arch == 'tiny' or arch.endswith('.json'):
        path = TINY_CARD if arch == 'tiny' else Path(arch)
        if not path.is_file():
            hint = ''
            if arch == 'tiny':
                hint = ' The package is incomplete: install it again, or run tools/pretrain/train_tiny_clip.py.'
            raise FileNotFoundError(f'CLIP card {path} is not there.{hint}')
        card = read_json(path, 'CLIP card')
        check_card(card, f'CLIP card {path}')
        return card
    card = open_clip.get_model_config(arch)
    if card is None:
        raise ValueError(f"unknown CLIP architecture {arch!r}.{suggest_name(arch, known_archs())} Known are 'tiny', "
                         "'auto' (sizes read from the checkpoint), a path to a .json card, and open_clip's plain "
                         'vision transformers such as ViT-B-16-quickgelu')
    check_card(card, f'CLIP architecture {arch!r}')
    return card


def card_from_state_dict(state: Mapping[str, Tensor], quick_gelu: bool = True) -> dict[str, Any]:
    """Read every size off a state dict with OpenAI's (equally open_clip's) key names.

    What a state dict cannot tell are the activation and the width of a head: OpenAI's are QuickGELU and 64.

    Raises:
        ValueError: a key that a CLIP vision transformer has is missing.
    """
    def shape(key: str, dim: int) -> int:
        if key not in state or state[key].dim() <= dim:
            raise ValueError(f'not a CLIP vision transformer: no usable {key!r} among its {len(state)} keys')
        return int(state[key].shape[dim])

    patch = shape('visual.conv1.weight', 3)
    grid = round((shape('visual.positional_embedding', 0) - 1) ** 0.5)
    text_width = shape('ln_final.weight', 0)
    width = shape('visual.conv1.weight', 0)
    return {
        'embed_dim': shape('text_projection', 1),
        'quick_gelu': quick_gelu,
        'vision_cfg': {'image_size': grid * patch, 'layers': _count_blocks(state, 'visual.transformer.resblocks.'),
                       'width': width, 'head_width': min(HEAD_WIDTH, width), 'patch_size': patch},
        'text_cfg': {'context_length': shape('positional_embedding', 0),
                     'vocab_size': shape('token_embedding.weight', 0), 'width': text_width,
                     'heads': max(1, text_width // HEAD_WIDTH),
                     'layers': _count_blocks(state, 'transformer.resblocks.')},
    }


def _count_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix):].split('.')[0] for key in state if key.startswith(prefix)})
