"""Off-the-shelf networks from timm as dense feature extractors."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
from torch import Tensor, nn

from weclip_sam.checks import suggest_name
from weclip_sam.foundation.timm_weights import find_timm_weights, load_timm_weights
from weclip_sam.registry import MODELS

# Ways of timm.create_model to other weights: over the network, or past the checks of a file.
_OTHER_WEIGHTS = ('pretrained', 'pretrained_cfg', 'pretrained_cfg_overlay', 'checkpoint_path', 'cache_dir')

@MODELS.register_module()
class TimmBackbone(nn.Module):
    """The last feature map of a timm network: at a chosen stride if convolutional, one per patch of a transformer.

    Args:
        name: a timm model, ``'resnet101'`` or ``'vit_base_patch16_224'``, perhaps with a tag (``'resnet101.tv_in1k'``).
        weights: None (random), ``'timm'`` (timm's pretrained weights, looked up in the local cache, never
            downloaded), or a file: .safetensors, a .pth/.pt state dict, or a training checkpoint of this package. A
            classifier in it is left out.
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
        if other := sorted(set(options or {}) & set(_OTHER_WEIGHTS)):
            raise ValueError(f'TimmBackbone: options must not hold {other[0]!r}: name the weights as weights')
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
            load_timm_weights(self.model, find_timm_weights(name, weights))

    def forward(self, images: Tensor) -> Tensor:
        """B 3 H W normalised -> B channels H/stride W/stride (rounded up for convolutional networks)."""
        return self.model.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)[-1]
