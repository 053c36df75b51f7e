"""Off-the-shelf networks from timm as dense feature extractors."""
from __future__ import annotations

import pickle
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from weclip_sam.checks import suggest_name
from weclip_sam.registry import MODELS

# Bytes of the weights that configs name, by hub repository.
PUBLISHED = {
    'timm/resnet101.tv_in1k': 178_618_848,
    'timm/vit_base_patch16_224.augreg_in21k_ft_in1k': 346_270_624,
}


@MODELS.register_module()
class TimmBackbone(nn.Module):
    """The last feature map of a timm network: at a chosen stride if convolutional, one per patch of a transformer.

    Args:
        name: a timm model, ``'resnet101'`` or ``'vit_base_patch16_224'``, perhaps with a tag (``'resnet101.tv_in1k'``).
        weights: None (random), ``'timm'`` (timm's pretrained weights, looked up in the local cache, never
            downloaded), or a file: .safetensors, or a .pth/.pt state dict. A classifier in it is left out.
        output_stride: of convolutional networks: 8 or 16 dilates the last stages instead of striding (DeepLab). None
            for transformers.
        options: further keyword arguments of ``timm.create_model`` (``drop_path_rate``, say).

    Attributes:
        channels: of the feature map.
        stride: pixels per feature.
        divisor: sides of the input must be divisible by it.
        mean, std: what the network expects of RGB in [0, 1].

    Raises:
        ValueError: an unknown network or one without intermediate features, or weights of another network.
        FileNotFoundError: no such weights; says how to get them.
    """

    def __init__(self, name: str, weights: str | None = None, output_stride: int | None = None,
                 options: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        known = timm.list_models()
        if name.split('.')[0] not in known:
            raise ValueError(f'TimmBackbone: timm has no model {name!r}.{suggest_name(name.split(".")[0], known)}')
        settings = dict(options or {}) | (dict(output_stride=output_stride) if output_stride else {})
        transformer = name.startswith(('vit_', 'deit', 'eva', 'beit', 'test_vit'))
        if transformer:
            settings.setdefault('dynamic_img_size', True)
        try:
            self.model = timm.create_model(name, num_classes=0, **settings)
        except (TypeError, NotImplementedError, RuntimeError, AssertionError) as error:
            raise ValueError(f'TimmBackbone {name!r} cannot be built with {settings}: {error}') from None
        if not hasattr(self.model, 'forward_intermediates'):
            raise ValueError(f'TimmBackbone: {name!r} gives no intermediate features in timm {timm.__version__}; take '
                             'a resnet or vit, or upgrade timm')
        last = self.model.feature_info[-1]
        self.channels, self.stride = int(last['num_chs']), int(last['reduction'])
        self.divisor = self.stride if transformer else 1
        self.mean, self.std = tuple(self.model.default_cfg['mean']), tuple(self.model.default_cfg['std'])
        if weights is not None:
            self._load(find_backbone_weights(name, weights))

    def forward(self, images: Tensor) -> Tensor:
        """B 3 H W normalised -> B channels H/stride W/stride (rounded up for convolutional networks)."""
        return self.model.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)[-1]

    def _load(self, path: Path) -> None:
        state = _read(path)
        wanted = self.model.state_dict()
        for prefix in ('backbone.model.', 'module.', 'model.', 'backbone.'):
            if not set(wanted) & set(state):
                state = {key.removeprefix(prefix): value for key, value in state.items()}
        wrong = [key for key, value in wanted.items()
                 if not key.endswith('num_batches_tracked') and (key not in state or state[key].shape != value.shape)]
        if wrong:
            raise ValueError(f'backbone weights {path} are of another network: {len(wrong)} of {len(wanted)} tensors '
                             f'are missing or have another shape, for example {wrong[0]}')
        self.model.load_state_dict({key: state[key] for key in wanted if key in state}, strict=False)


def find_backbone_weights(name: str, weights: str) -> Path:
    """The file that ``weights`` of a :class:`TimmBackbone` means, without opening it or asking a network.

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
            folder = path if path.is_dir() else path.parent  # the suffix decides how a file is read
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


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = load_file(path) if path.suffix == '.safetensors' else \
            torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, SafetensorError, ValueError, OSError) as error:
        raise ValueError(f'backbone weights {path} cannot be read (truncated, of another format, or refused because it '
                         f'would run code): {str(error).splitlines()[0][:150]}') from None
    for key in ('state_dict', 'model'):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping):
        raise ValueError(f'backbone weights {path}: expected a dict of tensors, found {type(state).__name__}')
    return {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
