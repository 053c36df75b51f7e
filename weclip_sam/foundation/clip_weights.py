"""Where CLIP weights come from: finding the file, and whether it holds a CLIP.

Nothing here touches the network: a missing file is reported at once, with its size and the line that fetches it.
"""
from __future__ import annotations

from pathlib import Path

import open_clip
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from torch import Tensor

from weclip_sam.checks import suggest_name
from weclip_sam.foundation.clip_card import TINY_WEIGHTS, card_from_state_dict
from weclip_sam.foundation.published import clip_checkpoint, hub_copy, tag_config
from weclip_sam.io.tensors import FORMATS, read_tensors

FILE_SUFFIXES = ('.pt', '.pth', '.bin', '.ckpt', '.safetensors')
_NOT_WEIGHTS = ('input_resolution', 'context_length', 'vocab_size', 'attn_mask')


def find_weights(arch: str, checkpoint: str) -> Path:
    """The file behind a ``checkpoint`` argument: a path, 'tiny', or an open_clip pretrained tag that is here.

    Raises:
        FileNotFoundError: there is no such file; the message has the size to expect and the line that fetches it.
        ValueError: the name is neither a path nor a tag that open_clip knows for ``arch``.
    """
    if checkpoint == 'tiny':
        path = TINY_WEIGHTS
        how = 'The package is incomplete: install it again, or run tools/pretrain/train_tiny_clip.py.'
    elif is_path(checkpoint):
        path = Path(checkpoint).expanduser()
        openai = clip_checkpoint(arch, 'openai')
        how = f'Expected {FORMATS} of {arch!r}. {openai.how_to_get(path.parent / openai.file) if openai else ""}'
    else:
        return _find_tag(arch, checkpoint)
    if not path.is_file():
        what = 'is a folder, not a file' if path.is_dir() else 'is not there'
        raise FileNotFoundError(f'CLIP checkpoint {path} {what}. {how}'.rstrip())
    return path


def is_path(checkpoint: str) -> bool:
    """Whether a ``checkpoint`` argument means a file, and not a pretrained tag."""
    return checkpoint.endswith(FILE_SUFFIXES) or '/' in checkpoint or '\\' in checkpoint or Path(checkpoint).exists()


def _find_tag(arch: str, tag: str) -> Path:
    known = clip_checkpoint(arch, tag)
    if known is None:
        tags = ['tiny', 'random', *open_clip.list_pretrained_tags_by_model(arch)]
        raise ValueError(f'unknown CLIP checkpoint {tag!r} for {arch!r}.{suggest_name(tag, tags)} Give a file '
                         f'({", ".join(FILE_SUFFIXES)}) or one of: {", ".join(tags)}')
    for place in tag_places(arch, tag):
        if place.is_file():
            return place
    raise FileNotFoundError(f'the weights of CLIP {arch!r}, tag {tag!r}, are not on this machine. '
                            f'{known.how_to_get()}')


def tag_places(arch: str, tag: str) -> list[Path]:
    """Where the weights of a pretrained tag are looked for, first place first: the folder of checkpoints, the hub's
    cache where it has them, and where OpenAI's and open_clip's own programs put them.
    """
    known, config = clip_checkpoint(arch, tag), tag_config(arch, tag)
    places = [] if known is None else [known.place]
    if config.get('hf_hub'):
        repository, _, name = config['hf_hub'].rpartition('/')
        names = [name.rsplit('.', 1)[0] + '.safetensors', name] if name else [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
        places += filter(None, (hub_copy((repository, each)) for each in names))
    if config.get('url'):
        places.append(Path.home() / '.cache' / 'clip' / config['url'].rsplit('/', 1)[-1])
    return places


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
