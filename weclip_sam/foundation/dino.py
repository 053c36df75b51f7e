"""The frozen DINO: a self-supervised vision transformer whose patch tokens say what belongs together."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from weclip_sam.checks import check_shape, suggest_name
from weclip_sam.features import Kept, TokenFeatures, Wanted
from weclip_sam.foundation.clip import check_image_size, is_real, of_channels
from weclip_sam.foundation.graph import making_graph, number, same_size
from weclip_sam.foundation.timm_weights import find_timm_weights, load_timm_weights
from weclip_sam.io.text import read_json
from weclip_sam.registry import MODELS

DEFAULT_ARCH = 'vit_small_patch14_dinov2.lvd142m'
TINY_CARD = Path(__file__).parent / 'weights' / 'tiny_dino.json'
POSITIONS = ('timm', 'hub')
ROUNDING = ('nearest', 'down')
MOST_ENLARGED = 8  # 64 times the tokens
_FINEST = 64  # factors are whole numbers of such parts, or of larger ones
_INCOMPLETE = ' The package is incomplete: install it again, or run tools/pretrain/train_tiny_dino.py.'
_REQUIRED = ('img_size', 'patch_size', 'embed_dim', 'depth', 'num_heads')


@MODELS.register_module()
class FrozenDino(nn.Module):
    """A DINO vision transformer that is never trained, as an encoder of :class:`~weclip_sam.models.encoders.Encoders`.

    It reads RGB in 0..255 and normalises by itself. Where its patches do not divide an image, it resizes the image
    (bilinear) to a multiple of them, at least one patch; on request it enlarges it.

    Args:
        arch: a timm vision transformer with a class token (``'vit_small_patch14_dinov2.lvd142m'``,
            ``'vit_small_patch16_224.dino'``, the ``reg4`` variants; DINOv3, whose weights come under the DINOv3
            License, by name), ``'tiny'`` (bundled, trained by this project on its own scenes without names and masks:
            ``tools/pretrain/train_tiny_dino.py``), or the path of a ``.json`` card of the same form.
        checkpoint: ``'timm'`` (timm's weights of that name, looked up in the local cache, never downloaded), a file
            (state dict .pt/.pth or .safetensors, in timm's names or torch.hub's), ``'tiny'`` or ``'random'``.
        positions: how the position embedding is brought to the grid: ``'timm'`` (bicubic with antialiasing) or
            ``'hub'``, torch.hub's rule for DINOv2 without registers, which WeCLIP+ saw (golden/QUIRKS.md, WeCLIP+ 13);
            on another grid than that of pretraining the two differ by some percent.
        rounding: to which multiple of the patch an image is resized: the ``'nearest'`` or the next one ``'down'``, as
            WeCLIP+ does.
        mean, std: three numbers each, of RGB in [0, 1]; the network's own unless given.
        seed: of the ``'random'`` weights.
        enlarge: images are enlarged by this factor first (bilinear), for a finer grid of tokens: 2 gives four times as
            many; at most 8.

    Raises:
        ValueError: an unknown network or one of another kind, or a file of another network.
        FileNotFoundError: no such weights; the message says how large they are, under which licence, and which line
            fetches them.

    Attributes:
        patch_size, width, layers: sizes of the network.
        mean, std: tuples, of RGB in [0, 1].
    """

    _mean: Tensor
    _std: Tensor

    def __init__(self, arch: str = DEFAULT_ARCH, checkpoint: str = 'timm',
                 positions: str = 'timm', rounding: str = 'nearest', mean: Sequence[float] | None = None,
                 std: Sequence[float] | None = None, seed: int = 0, enlarge: float = 1.0) -> None:
        super().__init__()
        for name, value, known in (('positions', positions, POSITIONS), ('rounding', rounding, ROUNDING)):
            if value not in known:
                raise ValueError(f'FrozenDino: {name} must be one of {", ".join(map(repr, known))}, got {value!r}')
        if not is_real(enlarge) or not 1 / _FINEST <= enlarge <= MOST_ENLARGED:
            raise ValueError(f'FrozenDino enlarge: expected a factor, a number from 1/{_FINEST} to {MOST_ENLARGED}, '
                             f'got {enlarge!r}')
        self.arch, self.checkpoint, self.rounding = arch, checkpoint, rounding
        self.enlarge = Fraction(float(enlarge)).limit_denominator(_FINEST)  # sizes stay whole numbers, also in a graph
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model, (own_mean, own_std) = build_dino(arch)
        if checkpoint != 'random':
            load_timm_weights(self.model, find_dino_weights(arch, checkpoint), 'DINO weights', as_in_timm)
        if positions == 'hub':
            use_hub_positions(self.model, arch)
        self.mean = of_channels(own_mean if mean is None else mean, 'FrozenDino mean')
        self.std = of_channels(own_std if std is None else std, 'FrozenDino std', positive=True)
        self.register_buffer('_mean', torch.tensor(self.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer('_std', torch.tensor(self.std).view(1, 3, 1, 1) * 255, persistent=False)
        self.patch_size: int = self.model.patch_embed.patch_size[0]
        self.width: int = self.model.embed_dim
        self.layers: int = len(self.model.blocks)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenDino:
        """Stays in evaluation mode: a frozen model has nothing to train."""
        return super().train(False)

    def normalize(self, rgb: Tensor) -> Tensor:
        """Turn B 3 H W RGB in 0..255 (any dtype) into what the network reads."""
        return (rgb.float() - self._mean) / self._std

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(h, w), the patches of an image of this size, enlarged: sides to the nearest multiple (or down), at least one
        patch."""
        half = self.patch_size // 2 if self.rounding == 'nearest' else 0
        times, by = self.enlarge.numerator, self.enlarge.denominator
        rows, columns = ((side * times // by + half) // self.patch_size for side in (height, width))
        return (rows, columns) if making_graph() else (max(1, rows), max(1, columns))

    def forward(self, rgb: Tensor, wanted: Wanted | None = None) -> TokenFeatures:
        """Features of B 3 H W RGB in 0..255, resized if need be: :meth:`encode` of the normalised images."""
        check_shape('rgb: B 3 H W', rgb=rgb)
        images, grid = self.normalize(rgb), self.grid(*rgb.shape[2:])
        size = grid[0] * self.patch_size, grid[1] * self.patch_size
        if not same_size(size, images.shape[2:]):
            images = F.interpolate(images, size=size, mode='bilinear', align_corners=False)
        return self.encode(images, wanted)

    @torch.no_grad()
    def encode(self, images: Tensor, wanted: Wanted | None = None) -> TokenFeatures:
        """Run the blocks on normalised ``images`` (B 3 H W; the patches divide H and W).

        The tokens of every block went through the network's last norm, so those of the last block are what timm's
        ``forward_features`` and torch.hub's ``x_norm_patchtokens`` return. Registers are dropped. Of what is ``wanted``
        only the tokens are kept; None keeps those of every block (L B 1+P D).

        Raises:
            ValueError: H or W is not a multiple of the patch size (:meth:`forward` resizes).
        """
        height, width = check_image_size(images, self.patch_size)
        chosen = list(range(self.layers)) if wanted is None else sorted(wanted.tokens)
        # Of no block at all timm cannot say which is the last.
        blocks = self.model.forward_intermediates(images, chosen, norm=True, return_prefix_tokens=True,
                                                  output_fmt='NLC', intermediates_only=True, stop_early=True
                                                  ) if chosen else []
        tokens = {block: torch.cat([prefix[:, :1], patches], 1)
                  for block, (patches, prefix) in zip(chosen, blocks, strict=True)}
        grid = height // self.patch_size, width // self.patch_size
        if wanted is None:
            return TokenFeatures(torch.stack(list(tokens.values())), grid)
        return TokenFeatures(Kept('tokens', self.layers, tokens), grid)


def build_dino(arch: str) -> tuple[Any, tuple[Sequence[float], Sequence[float]]]:
    """The network of an architecture with random weights, and the (mean, std) that it expects of RGB in [0, 1].

    Raises:
        ValueError: no such network in timm, or not a vision transformer with a class token; a card that misses a size.
        FileNotFoundError: the card file is not there.
    """
    if arch == 'tiny' or arch.endswith('.json'):
        model, statistics = _read_card(TINY_CARD if arch == 'tiny' else Path(arch).expanduser(), arch)
    else:
        model = _build_by_name(arch)
        statistics = model.default_cfg['mean'], model.default_cfg['std']
    if getattr(model, 'cls_token', None) is None:
        raise ValueError(f'DINO: {arch!r} has no class token; expected a plain transformer such as {DEFAULT_ARCH}')
    return model, statistics


def _build_by_name(arch: str) -> Any:
    known = timm.list_models('vit_*')
    if (name := arch.split('.')[0]) not in known:
        raise ValueError(f"DINO: timm {timm.__version__} has no vision transformer {arch!r}."
                         f"{suggest_name(name, known)} Known are 'tiny', a .json card, and timm's vit_* models such as "
                         f'{DEFAULT_ARCH}')
    try:
        return timm.create_model(arch, num_classes=0, dynamic_img_size=True)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f'DINO: {arch!r} cannot be built for images of any size: {error}') from None


def _read_card(path: Path, arch: str) -> tuple[VisionTransformer, tuple[Sequence[float], Sequence[float]]]:
    """A card holds timm's sizes, maybe under ``card`` beside ``mean``, ``std`` and notes on the training."""
    if not path.is_file():
        raise FileNotFoundError(f'DINO card {path} is not there.{_INCOMPLETE if arch == "tiny" else ""}')
    content = read_json(path, 'DINO card')
    card = content.get('card', content)
    if missing := [key for key in _REQUIRED if key not in card]:
        raise ValueError(f'DINO card {path}: missing {", ".join(map(repr, missing))}')
    try:
        model = VisionTransformer(**{**card, 'num_classes': 0, 'dynamic_img_size': True})
    except (TypeError, AssertionError) as error:
        raise ValueError(f'DINO card {path} describes no vision transformer of timm: {error}') from None
    return model, (content.get('mean', IMAGENET_DEFAULT_MEAN), content.get('std', IMAGENET_DEFAULT_STD))


def find_dino_weights(arch: str, checkpoint: str) -> Path:
    """The file behind a ``checkpoint`` argument, without opening it or asking a network.

    Raises:
        FileNotFoundError: there is no such file; says how large, under which licence, and which line fetches it.
    """
    if arch == 'tiny' and checkpoint == 'timm':
        raise FileNotFoundError("DINO weights: timm has none of arch='tiny', which is of this package: give "
                                "checkpoint='tiny' for the bundled weights, a file, or 'random'")
    if checkpoint != 'tiny':
        return find_timm_weights(arch, checkpoint, 'DINO weights', 'checkpoint')
    path = TINY_CARD.with_suffix('.safetensors')
    if not path.is_file():
        raise FileNotFoundError(f'DINO weights {path} are not there.{_INCOMPLETE}')
    return path


def as_in_timm(state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torch.hub's DINOv2 with registers in timm's names; other state dicts as they are.

    torch.hub adds a position to the class token on the way; timm keeps the sum.
    """
    if 'register_tokens' not in state or 'reg_token' not in wanted or 'pos_embed' not in state:
        return state
    state = dict(state)
    positions = state['pos_embed']
    state['reg_token'] = state.pop('register_tokens')
    state['cls_token'] = state['cls_token'] + positions[:, :1]
    state['pos_embed'] = positions[:, 1:]
    return state


# Positions as torch.hub resizes them --------------------------------------------------------------------------------

def use_hub_positions(model: Any, arch: str) -> None:
    """Let a network resize its position embedding as torch.hub's DINOv2 does."""
    if getattr(model, 'pos_embed', None) is None or model.num_prefix_tokens != 1 or model.no_embed_class:
        raise ValueError(f"FrozenDino: positions='hub' is the rule of a DINOv2 without registers, which {arch!r} is "
                         "not; with registers torch.hub and timm agree: positions='timm'")
    model._pos_embed = partial(_embed_hub_positions, model)


def _embed_hub_positions(model: Any, patches: Tensor) -> Tensor:
    """Class token and B h w D patches with their positions, B 1+P D."""
    grid = patches.shape[1:3]
    positions = torch.cat([model.pos_embed[:, :1], hub_positions(model.pos_embed[:, 1:], grid)], 1)
    return torch.cat([model.cls_token.expand(patches.shape[0], -1, -1), patches.flatten(1, 2)], 1) + positions


def hub_positions(positions: Tensor, grid: Sequence[int]) -> Tensor:
    """1 P D position embedding for an (h, w) grid, of 1 S*S D: bicubic, scaled by (n + 0.1) / S, no antialiasing.

    The offset was meant to guard the size against rounding; as the factor, not the size, sets where it is sampled, it
    moves every value a little (torch.hub's ``interpolate_pos_encoding``).
    """
    side = round(positions.shape[1] ** 0.5)
    if same_size(grid, (side, side)):
        return positions
    planes = positions.unflatten(1, (side, side)).permute(0, 3, 1, 2).float()
    if making_graph():
        rows, columns = (_hub_matrix(n, side, planes) for n in grid)
        return (rows @ planes @ columns.mT).flatten(2).transpose(1, 2).to(positions.dtype)
    factor = [(n + 0.1) / side for n in grid]
    planes = F.interpolate(planes, scale_factor=factor, mode='bicubic', align_corners=False)
    return planes.flatten(2).transpose(1, 2).to(positions.dtype)


def _hub_matrix(new: int, side: int, like: Tensor) -> Tensor:
    """``new`` x ``side``, the same along one side as a matrix product: a graph knows no factor."""
    place, column = (torch.arange(total, device=like.device) for total in (new, side))
    source = (place + 0.5) * (side / (number(new, like.device) + 0.1)) - 0.5
    first = source.floor()
    x = source - first
    a = -0.75  # torch's cubic convolution
    near = [((a + 2) * t - (a + 3)) * t * t + 1 for t in (x, 1 - x)]
    far = [((a * t - 5 * a) * t + 8 * a) * t - 4 * a for t in (x + 1, 2 - x)]
    weights = torch.stack([far[0], near[0], near[1], far[1]], 1)
    read = (first[:, None] + torch.arange(-1, 3, device=like.device)).clamp(0, side - 1)
    return ((read[..., None] == column) * weights[..., None]).sum(1)
