"""Weights of timm's networks: which file, where it comes from, does it fit; errors that say what to do."""
from __future__ import annotations

import shlex
from pathlib import Path

import timm
from torch import nn

from weclip_sam.io.tensors import read_tensors

# Bytes of the weights that configs name, by hub repository.
PUBLISHED = {
    'timm/resnet101.tv_in1k': 178_618_848,
    'timm/vit_base_patch16_224.augreg_in21k_ft_in1k': 346_270_624,
}
# What stands before the names in files of whole models: this package's Segmentor, others' wrappers.
_PREFIXES = ('backbone.model.', 'model.', 'backbone.')


def find_timm_weights(name: str, weights: str) -> Path:
    """The file of a timm network's weights, without opening it or asking a network.

    Args:
        name: a timm model, perhaps with a tag.
        weights: ``'timm'`` (timm's pretrained weights, looked up in the local cache) or a path.

    Raises:
        FileNotFoundError: no such file, or timm's own weights are not in the local cache; says how large they are, as
            far as that is known, and which line fetches them.
    """
    known = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    repository = known.hf_hub_id if known is not None else None
    size = f' ({PUBLISHED[repository] / 1e6:.0f} MB)' if repository in PUBLISHED else ''
    if weights != 'timm':
        path = Path(weights).expanduser()
        if path.is_file():
            return path
        what = 'are a folder, not a file' if path.is_dir() else 'are not there'
        message = f'backbone weights {path} {what}; expected a .safetensors file or a state dict (.pth) of {name!r}'
        if repository:
            folder = path if path.is_dir() else path.parent  # a name that says what is in it
            target = path if path.suffix == '.safetensors' else folder / f'{name}.safetensors'
            message += (f'. Fetch that of {repository}{size} with: curl -L --create-dirs -o {shlex.quote(str(target))} '
                        f'https://huggingface.co/{repository}/resolve/main/model.safetensors')
            message += f'  (and give {target} as weights)' if target != path else ''
        raise FileNotFoundError(message)
    from huggingface_hub import try_to_load_from_cache
    found = try_to_load_from_cache(repository, 'model.safetensors') if repository else None
    if isinstance(found, str):
        return Path(found)
    if not repository:
        raise FileNotFoundError(f'timm names no source of pretrained weights of {name!r}: give a file of your own as '
                                'weights, or None for random ones')
    raise FileNotFoundError(f'the pretrained weights of {name!r} are not on this machine. Fetch them{size} with: '
                            f'hf download {repository} model.safetensors  '
                            '(or copy the file here and give its path as weights)')


def load_timm_weights(model: nn.Module, path: Path) -> None:
    """Copy the weights in a file into a timm network; a classifier, or whatever else is in the file, is left out.

    Raises:
        ValueError: the file cannot be read (see :func:`weclip_sam.io.tensors.read_tensors`), or is of another network.
    """
    state, kind = read_tensors(path, 'backbone weights')
    wanted = model.state_dict()
    for prefix in _PREFIXES:
        if not set(wanted) & set(state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    wrong = [key for key, value in wanted.items()
             if not key.endswith('num_batches_tracked') and (key not in state or state[key].shape != value.shape)]
    if wrong:
        raise ValueError(f'backbone weights {path}, {kind}, are of another network: {len(wrong)} of {len(wanted)} '
                         f'tensors are missing or have another shape, for example {wrong[0]}')
    model.load_state_dict({key: state[key] for key in wanted if key in state}, strict=False)
