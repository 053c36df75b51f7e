"""Weights of timm's networks: which file, where it comes from, does it fit; errors that say what to do."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from weclip_sam.foundation.published import Published, hub_copy, timm_checkpoint
from weclip_sam.io.tensors import read_tensors

# What stands before the names in files of whole models: this package's Segmentor, others' wrappers.
_PREFIXES = ('backbone.model.', 'model.', 'backbone.')


def find_timm_weights(name: str, weights: str, what: str = 'backbone weights', argument: str = 'weights') -> Path:
    """The file of a timm network's weights, without opening it or asking a network.

    Args:
        name: a timm model, perhaps with a tag.
        weights: ``'timm'`` (timm's pretrained weights, looked up on this machine, see :func:`timm_places`)
            or a path.
        what, argument: what to call the weights, and the argument that names them, in errors.

    Raises:
        FileNotFoundError: no such file, or timm's own weights are not on this machine; says how large they are and
            under which licence, as far as that is known, and which line fetches them.
    """
    known = timm_checkpoint(name)
    if weights != 'timm':
        path = Path(weights).expanduser()
        if path.is_file():
            return path
        fault = 'are a folder, not a file' if path.is_dir() else 'are not there'
        message = f'{what} {path} {fault}; expected a .safetensors file or a state dict (.pth) of {name!r}'
        if known is not None:
            folder = path if path.is_dir() else path.parent  # a name that says what is in it
            target = path if path.suffix == '.safetensors' else folder / known.file
            message += f'. {known.how_to_get(target)}'
            message += f'  (and give {target} as {argument})' if target != path else ''
        raise FileNotFoundError(message)
    if known is None:
        raise FileNotFoundError(f'timm names no source of pretrained weights of {name!r}: give a file of your own as '
                                f'{argument}, or {"None" if argument == "weights" else "random"!r} for random ones')
    for place in timm_places(known):
        if place.is_file():
            return place
    raise FileNotFoundError(f'the pretrained weights of {name!r} are not on this machine. {known.how_to_get()}  '
                            f'(or copy the file here and give its path as {argument})')


def timm_places(known: Published) -> list[Path]:
    """Where timm's own weights are looked for, first place first: the folder of checkpoints, and the hub's cache where
    it has them.
    """
    cached = None if known.hub is None else hub_copy(known.hub)
    return [known.place, *([cached] if cached else [])]


def load_timm_weights(model: nn.Module, path: Path, what: str = 'backbone weights',
                      convert: Callable[[dict[str, Tensor], Mapping[str, Tensor]], dict[str, Tensor]] | None = None
                      ) -> None:
    """Copy the weights in a file into a timm network; a classifier, or whatever else is in the file, is left out.

    Args:
        model: the network.
        path: the file.
        what: what to call the weights in errors.
        convert: brings the tensors of a file, given those of the network, to the network's names.

    Raises:
        ValueError: the file cannot be read (see :func:`weclip_sam.io.tensors.read_tensors`), or is of another network.
    """
    state, kind = read_tensors(path, what)
    wanted = model.state_dict()
    for prefix in _PREFIXES:
        if not set(wanted) & set(state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    state = convert(state, wanted) if convert else state
    wrong = [key for key, value in wanted.items()
             if not key.endswith('num_batches_tracked') and (key not in state or state[key].shape != value.shape)]
    if wrong:
        raise ValueError(f'{what} {path}, {kind}, are of another network: {len(wrong)} of {len(wanted)} '
                         f'tensors are missing or have another shape, for example {wrong[0]}')
    model.load_state_dict({key: state[key] for key in wanted if key in state}, strict=False)
