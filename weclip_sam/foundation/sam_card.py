"""SAM as a small card: every size that tells one segment_anything model from another, and the builder that reads it."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from weclip_sam.checks import suggest_name
from weclip_sam.io.text import read_json

WEIGHTS_DIR = Path(__file__).parent / 'weights'
PROMPTS = ('points', 'box', 'rough')  # rough: a rough mask


@dataclass(frozen=True)
class SamCard:
    """Sizes of a SAM.

    Attributes:
        image_size: side of the square input in pixels; the longest side of an image is resized to it.
        patch_size: pixels per patch; must divide ``image_size``.
        embed_dim, depth, num_heads: width, blocks and attention heads of the image encoder.
        window_size: side, in patches, of the attention windows of the blocks not in ``global_attn_indexes``.
        global_attn_indexes: blocks that attend over the whole image.
        prompt_dim: channels of the image embedding, the prompts and the mask decoder.
        decoder_depth, decoder_heads, decoder_mlp_dim: the two-way transformer; half of ``prompt_dim`` is divided
            among the heads.
        iou_head_depth, iou_head_hidden_dim: the head that predicts each mask's IoU.
        mask_in_chans: hidden channels of the mask prompt encoder.
        mlp_ratio: hidden width of the encoder's MLPs, in units of ``embed_dim``.
    """

    image_size: int
    patch_size: int
    embed_dim: int
    depth: int
    num_heads: int
    window_size: int
    global_attn_indexes: tuple[int, ...]
    prompt_dim: int = 256
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_mlp_dim: int = 2048
    iou_head_depth: int = 3
    iou_head_hidden_dim: int = 256
    mask_in_chans: int = 16
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        object.__setattr__(self, 'global_attn_indexes', tuple(self.global_attn_indexes))
        for divided, divisor in (('image_size', 'patch_size'), ('embed_dim', 'num_heads'), ('prompt_dim', 8)):
            size = divisor if isinstance(divisor, int) else getattr(self, divisor)
            if size < 1 or getattr(self, divided) < 1 or getattr(self, divided) % size:
                raise ValueError(f'SAM card: {divided}={getattr(self, divided)} must be a positive multiple of '
                                 f'{divisor}{"" if isinstance(divisor, int) else f"={size}"}')
        if self.prompt_dim // 2 % self.decoder_heads:
            raise ValueError(f'SAM card: half of prompt_dim={self.prompt_dim} must be a multiple of '
                             f'decoder_heads={self.decoder_heads}')
        outside = [i for i in self.global_attn_indexes if not 0 <= i < self.depth]
        if outside:
            raise ValueError(f'SAM card: global_attn_indexes {outside} lie outside the {self.depth} blocks')

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = 'SAM card') -> SamCard:
        """A card from plain values.

        Raises:
            ValueError: unknown or missing entries, or sizes that do not fit each other.
        """
        known = {f.name for f in fields(cls)}
        for name in sorted(set(values) - known):
            raise ValueError(f'{source}: unknown entry {name!r}.{suggest_name(name, known)}')
        try:
            return cls(**values)
        except TypeError as error:
            missing = sorted(f.name for f in fields(cls) if f.default is MISSING and f.name not in values)
            raise ValueError(f'{source}: missing entries {missing} ({error})') from error

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a JSON card."""
        return {**asdict(self), 'global_attn_indexes': list(self.global_attn_indexes)}

    def resized(self, image_size: int | None) -> SamCard:
        """The same network for another input size."""
        return self if image_size is None else replace(self, image_size=image_size)


CARDS = {
    'vit_b': SamCard(1024, 16, 768, 12, 12, 14, (2, 5, 8, 11)),
    'vit_l': SamCard(1024, 16, 1024, 24, 16, 14, (5, 11, 17, 23)),
    'vit_h': SamCard(1024, 16, 1280, 32, 16, 14, (7, 15, 23, 31)),
}


def learnt_prompts(arch: str | Mapping[str, Any] | SamCard) -> tuple[str, ...]:
    """The kinds of prompts that a SAM has learnt from: all of ``PROMPTS``, unless its JSON file says which."""
    path = _json_of(arch)
    return PROMPTS if path is None else tuple(read_json(path, 'SAM card').get('prompts', PROMPTS))


def _json_of(arch: str | Mapping[str, Any] | SamCard) -> Path | None:
    """The file of a card; None where there is none."""
    if arch == 'tiny':
        return WEIGHTS_DIR / 'tiny_sam.json'
    return Path(arch) if isinstance(arch, str) and arch.endswith('.json') else None


def load_card(arch: str | Mapping[str, Any] | SamCard) -> SamCard:
    """The card of a known architecture (``vit_b``, ``vit_l``, ``vit_h``, ``tiny``), of plain values or of a JSON file.

    A JSON file may be the card itself or hold it under ``card``.

    Raises:
        ValueError: unknown name (with the nearest match) or an inconsistent card.
        FileNotFoundError: a ``.json`` path that does not exist.
    """
    if isinstance(arch, SamCard):
        return arch
    if isinstance(arch, Mapping):
        return SamCard.from_dict(arch)
    if arch in CARDS:
        return CARDS[arch]
    path = _json_of(arch)
    if path is None:
        names = [*CARDS, 'tiny']
        raise ValueError(f'unknown SAM architecture {arch!r}, expected one of {names}, a card (dict) or the path of a '
                         f'.json card.{suggest_name(str(arch), names)}')
    if not path.is_file():
        raise FileNotFoundError(f'SAM card {path} does not exist')
    values = read_json(path, 'SAM card')
    return SamCard.from_dict(values.get('card', values), source=f'SAM card {path}')


def build_sam(card: SamCard | Mapping[str, Any] | str) -> Sam:
    """Assemble a segment_anything ``Sam`` from a card, in eval mode, with fresh weights from torch's global generator.

    Sizes are those of :class:`SamCard`; ``vit_b``, ``vit_l`` and ``vit_h`` give segment_anything's own models. The
    position embedding starts from a normal distribution (std 0.02) where the library starts from zeros, so that an
    untrained model can tell places apart.
    """
    card = load_card(card)
    encoder = ImageEncoderViT(
        img_size=card.image_size, patch_size=card.patch_size, embed_dim=card.embed_dim, depth=card.depth,
        num_heads=card.num_heads, mlp_ratio=card.mlp_ratio, out_chans=card.prompt_dim, qkv_bias=True,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), use_rel_pos=True, window_size=card.window_size,
        global_attn_indexes=card.global_attn_indexes)
    torch.nn.init.normal_(encoder.pos_embed, std=0.02)
    prompts = PromptEncoder(embed_dim=card.prompt_dim, image_embedding_size=(card.grid, card.grid),
                            input_image_size=(card.image_size, card.image_size), mask_in_chans=card.mask_in_chans)
    transformer = TwoWayTransformer(depth=card.decoder_depth, embedding_dim=card.prompt_dim,
                                    num_heads=card.decoder_heads, mlp_dim=card.decoder_mlp_dim)
    decoder = MaskDecoder(num_multimask_outputs=3, transformer=transformer, transformer_dim=card.prompt_dim,
                          iou_head_depth=card.iou_head_depth, iou_head_hidden_dim=card.iou_head_hidden_dim)
    return Sam(encoder, prompts, decoder).eval()
