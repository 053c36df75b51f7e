"""Frozen encoders by name: each sees the image in its own normalisation and on its own grid."""
from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from weclip_sam.features import Wanted
from weclip_sam.registry import MODELS


class Encoders(nn.Module):
    """The frozen encoders of a model, as a mapping from names to networks.

    An encoder is a module that turns RGB images into features: ``forward`` takes B 3 H W in 0..255 and returns an
    object with ``tokens`` (L B 1+P D) and ``grid`` (h, w), such as :class:`~weclip_sam.features.ClipFeatures`. It
    normalises by itself and, where its patches do not divide the image, resizes by itself; ``width`` (D), ``layers``
    (L) and ``patch_size`` are its attributes. One whose ``forward`` also takes ``wanted`` is told what will be read
    (:class:`~weclip_sam.features.Wanted`, or None for everything) and may leave out the rest.

    Args:
        configs: of registered encoders by the name that steps and decoders ask for.
    """

    def __init__(self, configs: Mapping[str, dict]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict({name: MODELS.build(config) for name, config in configs.items()})
        self._told = {name for name, network in self.networks.items()
                      if 'wanted' in inspect.signature(network.forward).parameters}

    def forward(self, rgb: Tensor,
                wanted: Mapping[str, Wanted | None] | Iterable[str] | None = None) -> dict[str, Any]:
        """See the images.

        Args:
            rgb: B 3 H W RGB in 0..255.
            wanted: what is read of each encoder, by name; names alone, or None (all encoders), stand for everything.
                Names of other things than encoders are passed over, so that what steps need can be given as it is.

        Returns:
            Features by name of the encoder.
        """
        asked = wanted if isinstance(wanted, Mapping) else dict.fromkeys(self if wanted is None else wanted)
        return {name: network(rgb, wanted=asked[name]) if name in self._told else network(rgb)
                for name, network in self.networks.items() if name in asked}

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
