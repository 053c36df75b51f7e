"""What an exported network says of itself: everything that somebody needs who has no more than the file."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from weclip_sam.colors import label_colors
from weclip_sam.engine.start.preparation import preparation, read_side
from weclip_sam.export.deploy.network import InferenceNetwork, read_encoders
from weclip_sam.io.identity import file_digest

FORMAT = 2  # raised when readers of a card have to change
# The long side up to which labels are drawn, and photos are looked at where nothing else bounds it, as Segmenter does.
LARGEST = 2048


def network_card(network: InferenceNetwork, config: Config, meta: Mapping[str, Any],
                 checkpoint: str | os.PathLike) -> dict[str, Any]:
    """Plain values, as JSON has them; ``docs/deployment.md`` describes each.

    Args:
        network: with the model of the checkpoint.
        config, meta: as :func:`weclip_sam.engine.start.restore.restore_model` gives them.
        checkpoint: its file.
    """
    from weclip_sam import __version__
    test, names = network.model.test_cfg, ['background', *meta['classes']]
    steps = [_step(step) for step in preparation(config)]
    return dict(
        format=FORMAT, made_by=f'weclip_sam {__version__}', model=type(network.model).__name__,
        checkpoint=dict(name=Path(checkpoint).name, digest=file_digest(checkpoint)),
        classes=names, palette=label_colors(meta.get('palette'), len(names)).tolist(),
        input=dict(name='image', layout='NCHW', type='uint8', channels='RGB', range=[0, 255]),
        outputs=dict(labels='N H W uint8, index into classes', logits='N classes h w float32'),
        read=_resizing('bicubic', most=_read_side(config, steps), rounded='nearest'), resize=steps,
        border=test['border'], divisor=network.divisor, smallest=network.smallest,
        pad_value=round(getattr(network.model.data_preprocessor, 'fill', 0)),
        normalisation=dict(where='inside the network', **_normalisation(network.model)), left_out=_left_out(test))


def _read_side(config: Config, steps: Sequence[Mapping[str, Any]]) -> int | None:
    side = read_side(config)
    if any(step.get('most') for step in steps):
        return side
    return LARGEST if side is None else min(side, LARGEST)


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    """A transform of the test's pipeline in words that need no package; one of the user's own as it is."""
    if step['type'] == 'ResizeLong':
        size = step['size'] if isinstance(step['size'], int) else min(step['size'])
        return _resizing(step.get('interpolation', 'bilinear'), 0 if step.get('only_shrink') else size, size)
    if step['type'] == 'ResizeToMultiple':
        return _resizing(step.get('interpolation', 'bicubic'), unit=step.get('divisor', 16), rounded='up')
    return {key: value if key != 'type' else str(value) for key, value in step.items()}


def _resizing(kernel: str, least: int = 0, most: int | None = None, unit: int = 1, rounded: str = 'down'
              ) -> dict[str, Any]:
    """What :func:`weclip_sam.export.deploy.deployed.resized` does."""
    return dict(least=least, most=most, unit=unit, round=rounded, filter=kernel)


def _normalisation(model: Any) -> dict[str, Any]:
    """Mean and standard deviation, of RGB in [0, 1], by encoder."""
    networks = dict(read_encoders(model)) or {'backbone': getattr(model, 'backbone', None)}
    found = {}
    for name, network in networks.items():
        if hasattr(network, 'mean') and hasattr(network, 'std'):
            numbers = dict(mean=network.mean, std=network.std)
        elif hasattr(network, 'sam'):
            numbers = {key: getattr(network.sam.sam, f'pixel_{key}').flatten() / 255 for key in ('mean', 'std')}
        else:
            continue
        found[name] = {key: [round(float(value), 6) for value in values] for key, values in numbers.items()}
    return found


def _left_out(test: Mapping[str, Any]) -> list[str]:
    """What the checkpoint's own predictions have and the network has not."""
    left = [str(step['type']) for step in test['refine']] + (['CRF'] if test['crf'] is not None else [])
    return left + (['other scales and mirror images'] if tuple(test['scales']) != (1.0,) or test['flip'] else [])
