"""Where CLIP weights come from: finding the file, reading any of four formats, and saying exactly what is wrong.

Nothing here touches the network: a missing file is reported at once, with its size and the one line that fetches it.
"""
from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from safetensors.torch import load_file
from torch import Tensor

from weclip_sam.checks import suggest_name
from weclip_sam.foundation.clip_card import TINY_WEIGHTS, card_from_state_dict, count_parameters, find_card
from weclip_sam.foundation.torchscript import Refused, is_torchscript, read_torchscript

FILE_SUFFIXES = ('.pt', '.pth', '.bin', '.ckpt', '.safetensors')
_FORMATS = 'a PyTorch state dict (.pt/.pth), a .safetensors file or an OpenAI TorchScript archive'
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
        how = f'Expected {_FORMATS} of {arch!r}. {_how_to_fetch(arch, "openai")}'
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
    """Read a CLIP state dict, whichever of the known formats the file's content (not its name) shows.

    Nothing in the file is executed, in none of the formats.

    Returns:
        Tensors under OpenAI's key names, without ``module.`` prefixes and without entries that are no weights.

    Raises:
        ValueError: the file is truncated, of another format, refused as unsafe, or holds no CLIP.
    """
    path = Path(path)
    size = path.stat().st_size
    try:
        state = _read_any(path)
    except Refused as error:
        raise ValueError(f'CLIP checkpoint {path} ({size} bytes): {error}') from None
    except Exception as error:  # every reader has exceptions of its own for a damaged file
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f'CLIP checkpoint {path} ({size} bytes) cannot be read: it is truncated or damaged, or it is '
                         f'not {_FORMATS}. Fetch it again and compare sizes. ({first_line})') from None
    return _tidy(state, path)


def _read_any(path: Path) -> Any:
    with path.open('rb') as file:
        head = file.read(16)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            scripted = is_torchscript(archive)
        return read_torchscript(path) if scripted else _torch_load(path)
    if head[:2] == b'PK':
        raise Refused('a zip archive whose end is missing: the file is truncated; fetch it again')
    if len(head) > 8 and head[8:9] == b'{':
        length = struct.unpack('<Q', head[:8])[0]
        if length > path.stat().st_size - 8:
            raise Refused(f'its header of {length} bytes does not fit into it: the file is truncated; fetch it again')
        return load_file(path)
    return _torch_load(path)


def _torch_load(path: Path) -> Any:
    import pickle
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        if 'Unsupported' in str(error) or 'Weights only load failed' in str(error):
            raise Refused('refused: it is not a plain file of tensors (it would run code or build foreign objects, or '
                          f'is damaged). Expected {_FORMATS}') from None
        raise


def _tidy(state: Any, path: Path) -> dict[str, Tensor]:
    for key in ('state_dict', 'model', 'model_state_dict'):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
            break
    if not isinstance(state, Mapping) or not state:
        raise ValueError(f'CLIP checkpoint {path}: expected a dict of tensors, found {type(state).__name__}')
    tidy = {}
    for key, value in state.items():
        key = str(key).removeprefix('module.').removeprefix('text.')
        if key.rpartition('.')[2] not in _NOT_WEIGHTS and isinstance(value, Tensor):
            tidy[key] = value
    if any(key.startswith('vision_model.') for key in tidy):
        raise ValueError(f'CLIP checkpoint {path} is in the format of the transformers library; take the open_clip or '
                         'OpenAI file of the same model instead (open_clip_model.safetensors, ViT-B-16.pt)')
    try:
        card_from_state_dict(tidy)
    except ValueError as error:
        raise ValueError(f'CLIP checkpoint {path} is {error}') from None
    return tidy
