"""Frozen encoders by name: each sees the image in its own normalisation and on its own grid."""
from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weclip_sam.features import BankedTokens, Wanted
from weclip_sam.registry import MODELS
from weclip_sam.structures import SegSample


class Encoders(nn.Module):
    """The frozen encoders of a model, as a mapping from names to networks.

    An encoder is a module that turns RGB images into features: ``forward`` takes B 3 H W in 0..255 and returns an
    object with ``tokens`` (L B 1+P D) and ``grid`` (h, w), such as :class:`~weclip_sam.features.ClipFeatures`. It
    normalises by itself and, where its patches do not divide the image, resizes by itself; ``width`` (D), ``layers``
    (L) and ``patch_size`` are its attributes. One whose ``forward`` also takes ``wanted`` is told what will be read
    (:class:`~weclip_sam.features.Wanted`, or None for everything) and may leave out the rest. One with a method
    ``from_bank(banked, wanted)`` takes what it saw earlier in the place of images.

    Args:
        configs: of registered encoders by the name that steps and decoders ask for.
    """

    def __init__(self, configs: Mapping[str, dict]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict({name: MODELS.build(config) for name, config in configs.items()})
        self._told = {name for name, network in self.networks.items()
                      if 'wanted' in inspect.signature(network.forward).parameters}

    def forward(self, rgb: Tensor, wanted: Mapping[str, Wanted | None] | Iterable[str] | None = None,
                banked: Mapping[str, BankedTokens] | None = None) -> dict[str, Any]:
        """See the images.

        Args:
            rgb: B 3 H W RGB in 0..255.
            wanted: what is read of each encoder, by name; names alone, or None (all encoders), stand for everything.
                Names of other things than encoders are passed over, so that what steps need can be given as it is.
            banked: tokens B h w D of these images by name, from :func:`stack_banked`: these encoders do not run.

        Returns:
            Features by name of the encoder.
        """
        asked = wanted if isinstance(wanted, Mapping) else dict.fromkeys(self if wanted is None else wanted)
        return {name: self._see(name, network, rgb, asked[name], (banked or {}).get(name))
                for name, network in self.networks.items() if name in asked}

    def _see(self, name: str, network: Any, rgb: Tensor, wanted: Wanted | None, banked: BankedTokens | None) -> Any:
        if banked is None:
            return network(rgb, wanted=wanted) if name in self._told else network(rgb)
        if not hasattr(network, 'from_bank'):
            raise ValueError(f'encoder {name!r}: {type(network).__name__} takes no features of a bank; name another '
                             'encoder (feature_bank.encoder of the data set)')
        return network.from_bank(banked, wanted)

    def __getitem__(self, name: str) -> Any:
        return self.networks[name]

    def __contains__(self, name: str) -> bool:
        return name in self.networks

    def __iter__(self) -> Iterator[str]:
        return iter(self.networks)

    def __len__(self) -> int:
        return len(self.networks)

    def get(self, name: str) -> Any:
        """The encoder of that name, or None."""
        return self.networks[name] if name in self.networks else None


def stack_banked(data_samples: Sequence[SegSample], size: Sequence[int]) -> dict[str, BankedTokens]:
    """The banked tokens that all samples of a batch bring, by name of the encoder.

    Args:
        data_samples: with ``banked``, or without.
        size: (H, W) of the batch's inputs, which may be padded below and on the right.

    Returns:
        Tokens B h w D each, zero where there is padding; nothing of an encoder that looked at some of the images only.

    Raises:
        ValueError: their cells do not divide the inputs.
    """
    brought = [sample.get('banked') or {} for sample in data_samples]
    stacked = {}
    for name in brought[0] if brought else ():
        if not all(name in each for each in brought):
            continue
        each, stride = [own[name].tokens for own in brought], brought[0][name].stride
        if any(side % stride for side in size):
            raise ValueError(f'banked tokens of {name!r}: cells of {stride} pixels do not divide inputs of '
                             f'{tuple(size)}; set feature_bank.stride to one that divides the patch size of CLIP')
        rows, columns = (side // stride for side in size)
        padded = [F.pad(own, (0, 0, 0, columns - own.shape[1], 0, rows - own.shape[0])) for own in each]
        stacked[name] = BankedTokens(torch.stack(padded), brought[0][name].block, stride)
    return stacked
