"""Where CLIP weights come from: finding the file, and whether it holds a CLIP.

Nothing here touches the network: a missing file is reported at once, with its size and the one line that fetches it.
"""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from torch import Tensor

from weclip_sam.checks import suggest_name
from weclip_sam.foundation.clip_card import TINY_WEIGHTS, card_from_state_dict, count_parameters, find_card
from weclip_sam.io.tensors import FORMATS, read_tensors

FILE_SUFFIXES = ('.pt', '.pth', '.bin', '.ckpt', '.safetensors')
_NOT_WEIGHTS = ('input_resolution', 'context_length', 'vocab_size', 'attn_mask')


def find_weights(arch: str, checkpoint: str) -> Path:
    """The file behind a ``checkpoint`` argument: a path, 'tiny', or an open_clip pretrained tag found in the cache.

    Raises:
        FileNotFoundError: there is no such file; the message has the size to expect and the line that fetches it.
        ValueError: the name is neither a path nor a tag that open_clip knows for ``arch``.
    """
    if checkpoint == 'tiny':
        path = TINY_WEIGHTS
        how = 'The package is incomplete: install it again, or run tools/pretrain/train_tiny_clip.py.'
    elif _looks_like_path(checkpoint):
        path = Path(checkpoint).expanduser()
        how = f'Expected {FORMATS} of {arch!r}. {_how_to_fetch(arch, "openai")}'
    else:
        return _find_cached_tag(arch, checkpoint)
    if not path.is_file():
        what = 'is a folder, not a file' if path.is_dir() else 'is not there'
        raise FileNotFoundError(f'CLIP checkpoint {path} {what}. {how}')
    return path


def tag_config(arch: str, tag: str) -> dict[str, Any]:
    """open_clip's record of a pretrained tag (url, hf_hub, mean, std, quick_gelu); empty when there is none."""
    config = open_clip.get_pretrained_cfg(arch, tag)
    # OpenAI's own weights are listed under the plain name although they are QuickGELU models, and vice versa.
    return dict(config or open_clip.get_pretrained_cfg(arch.removesuffix('-quickgelu'), tag) or {})


def _looks_like_path(checkpoint: str) -> bool:
    return checkpoint.endswith(FILE_SUFFIXES) or '/' in checkpoint or '\\' in checkpoint or Path(checkpoint).exists()


def _find_cached_tag(arch: str, tag: str) -> Path:
    config = tag_config(arch, tag)
    if not config:
        tags = ['tiny', 'random', *open_clip.list_pretrained_tags_by_model(arch)]
        raise ValueError(f'unknown CLIP checkpoint {tag!r} for {arch!r}.{suggest_name(tag, tags)} Give a file '
                         f'({", ".join(FILE_SUFFIXES)}) or one of: {", ".join(tags)}')
    for candidate in _cached_candidates(config):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f'the weights of CLIP {arch!r}, tag {tag!r}, are not on this machine. '
                            f'{_how_to_fetch(arch, tag)}')


def _cached_candidates(config: Mapping[str, Any]) -> list[Path]:
    candidates = []
    if config.get('hf_hub'):
        from huggingface_hub import try_to_load_from_cache
        repository, _, name = config['hf_hub'].rpartition('/')
        names = [name.rsplit('.', 1)[0] + '.safetensors', name] if name else [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
        found = (try_to_load_from_cache(repository, each) for each in names)
        candidates += [Path(path) for path in found if isinstance(path, str)]
    if config.get('url'):
        candidates.append(Path.home() / '.cache' / 'clip' / config['url'].rsplit('/', 1)[-1])
    return candidates


def _how_to_fetch(arch: str, tag: str) -> str:
    """One sentence: how large the file is and the command that brings it."""
    config = tag_config(arch, tag)
    if not config:
        return ''
    size = f'about {count_parameters(find_card(arch)) * 4 / 1e6:.0f} MB in float32'
    if config.get('hf_hub'):
        repository, _, name = config['hf_hub'].rpartition('/')
        name = name or HF_SAFE_WEIGHTS_NAME
        return (f'Fetch {name} of the hub repository {repository} ({size}) with: hf download {repository} {name}  '
                '(or copy the file here and give its path as checkpoint)')
    name = config['url'].rsplit('/', 1)[-1]
    return f'Fetch {name} ({size}) with: curl -L --create-dirs -o ~/.cache/clip/{name} {config["url"]}'


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a CLIP state dict, in any format of :func:`weclip_sam.io.tensors.read_tensors`.

    Returns:
        Tensors under OpenAI's key names, without ``text.`` prefixes and without entries that are no weights. They may
        be mapped from the file.

    Raises:
        ValueError: the file is truncated, of another format, refused as unsafe, or holds no CLIP.
    """
    state, kind = read_tensors(Path(path), 'CLIP checkpoint')
    state = {key.removeprefix('text.'): value for key, value in state.items()
             if key.rpartition('.')[2] not in _NOT_WEIGHTS}
    if any(key.startswith('vision_model.') for key in state):
        raise ValueError(f'CLIP checkpoint {path} is in the format of the transformers library; take the open_clip or '
                         'OpenAI file of the same model instead (open_clip_model.safetensors, ViT-B-16.pt)')
    try:
        card_from_state_dict(state)
    except ValueError as error:
        raise ValueError(f'CLIP checkpoint {path}, {kind}, is {error}') from None
    return state
