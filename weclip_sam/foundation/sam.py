"""FrozenSam: segment_anything's models, loaded with care, never trained, decoding points of many images at once."""
from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from segment_anything.modeling import Sam
from torch import Tensor, nn

from weclip_sam.checks import suggest_name
from weclip_sam.foundation.cast_once import precision
from weclip_sam.foundation.sam_card import SamCard, build_sam, learnt_prompts, load_card
from weclip_sam.foundation.sam_decoder import Answers, ImageSide, PointDecoder
from weclip_sam.foundation.sam_encoder import ImageEncoder
from weclip_sam.foundation.sam_weights import read_sam_weights
from weclip_sam.registry import MODELS

__all__ = ['PRECISIONS', 'FrozenSam', 'SamCard', 'build_sam', 'decode_points', 'load_card']

PRECISIONS = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def decode_points(sam: Sam, embeddings: Tensor, index: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """One foreground point per prompt, prompts of several images in one call: the library's code, differentiable.

    segment_anything's decoder repeats ONE image embedding over all prompts and adds the dense prompt to it. Handing it
    a zero image and the image embedding inside the dense prompt gives the same sum for any number of images.

    Args:
        sam: the model.
        embeddings: B D h w from the image encoder.
        index: N int64, the image of each prompt.
        points: N 2 float, (x, y) in pixels of the model's input frame.

    Returns:
        Mask logits N 4 4h 4w and predicted IoU N 4. Output 0 is SAM's single-mask token, 1..3 are the multi-mask
        tokens, in SAM's order.
    """
    labels = torch.ones(len(points), 1, dtype=torch.int, device=points.device)
    sparse, dense = sam.prompt_encoder(points=(points[:, None], labels), boxes=None, masks=None)
    return sam.mask_decoder.predict_masks(
        image_embeddings=torch.zeros_like(embeddings[:1]), image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse, dense_prompt_embeddings=embeddings[index] + dense)


@MODELS.register_module()
class FrozenSam(nn.Module):
    """A frozen SAM.

    Args:
        arch: ``vit_b`` | ``vit_l`` | ``vit_h`` | ``tiny``, a card (dict) or the path of a ``.json`` card.
        checkpoint: path of a ``.pth``/``.pt`` state dict (read with ``weights_only=True``) or ``.safetensors`` file,
            ``tiny`` for the bundled weights, or ``random`` for seeded random weights (tests and smoke configs).
        image_size: another input size than the card's, a multiple of its patch size; position embeddings of the
            checkpoint are interpolated to it.
        seed: of the ``random`` weights.
        precision: ``fp32``, ``bf16`` or ``fp16``, in which :meth:`embed` and :meth:`ask` compute; None is ``fp32``
            unless whoever asks says otherwise (``tools/make_masks.py --amp``, or the bank that masks go to). In
            ``torch.autocast`` they compute in its type. Weights are cast once.

    Raises:
        ValueError: unknown architecture or precision, weights of another architecture, a truncated or unsafe file.
        FileNotFoundError: missing checkpoint; the message says where to get it.

    Attributes:
        prompts: the kinds of prompts that it has learnt from: ``points``, ``box``, ``rough`` (a rough mask).
    """

    def __init__(self, arch: str | Mapping[str, Any] = 'vit_b', checkpoint: str = 'random',
                 image_size: int | None = None, seed: int = 0, precision: str | None = None) -> None:
        super().__init__()
        if precision is not None and precision not in PRECISIONS:
            raise ValueError(f'FrozenSam: precision must be one of {list(PRECISIONS)} or None, got {precision!r}.'
                             f'{suggest_name(str(precision), PRECISIONS)}')
        if arch != 'tiny' and checkpoint == 'tiny':
            raise ValueError(f"checkpoint 'tiny' belongs to arch 'tiny', got arch {arch!r}")
        self.card = load_card(arch).resized(image_size)
        self.prompts = learnt_prompts(arch)
        weights = None if checkpoint == 'random' else read_sam_weights(checkpoint, arch, self.card)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.sam = build_sam(self.card)
        if weights is not None:
            self.sam.load_state_dict(weights)
        self.requires_grad_(False)
        self.eval()
        self.precision = precision
        self._fingerprint: str | None = None
        self._ready: dict[torch.dtype, tuple[ImageEncoder, PointDecoder]] = {}
        for module in self.sam.modules():
            module.register_load_state_dict_post_hook(self._forget)

    @property
    def image_size(self) -> int:
        """Side of the model's square input, in pixels."""
        return self.card.image_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.sam.pixel_mean.device

    @property
    def mask_threshold(self) -> float:
        """Logits above it are mask."""
        return self.sam.mask_threshold

    def train(self, mode: bool = True) -> FrozenSam:
        """Stays in eval mode: it is frozen."""
        return super().train(False)

    def input_shape(self, height: int, width: int) -> tuple[int, int]:
        """Size (H, W) of an image once its longest side is ``image_size``; the rest of the square is padding."""
        scale = self.image_size / max(height, width)
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def preprocess(self, rgb: Tensor) -> Tensor:
        """Resize the longest side (Pillow's bilinear), normalise, pad.

        Args:
            rgb: 3 H W uint8.

        Returns:
            3 S S float, S = ``image_size``; padding at the right and bottom is zero.
        """
        shape = self.input_shape(*rgb.shape[1:])
        image = rgb
        if shape != tuple(rgb.shape[1:]):
            # Pillow on the host, as segment_anything does: torch's byte kernel differs from it by one grey level.
            pixels = Image.fromarray(rgb.permute(1, 2, 0).cpu().numpy())
            resized = np.array(pixels.resize(shape[::-1], Image.Resampling.BILINEAR))
            image = torch.from_numpy(resized).permute(2, 0, 1)
        image = image.to(self.device)
        return self.sam.preprocess(image.float())

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """B 3 S S from :meth:`preprocess` to embeddings B D h w, fp32 whatever they were computed in."""
        return self.see(images, ())[0]

    @torch.no_grad()
    def see(self, images: Tensor, blocks: Sequence[int]) -> tuple[Tensor, dict[int, Tensor]]:
        """What :meth:`embed` gives, and of the same pass the tokens B h w D behind some blocks, padding included."""
        encoder, _ = self._prepared()
        with torch.autocast(images.device.type, enabled=False):
            embeddings, tokens = encoder.see(images, blocks)
        return embeddings.float(), tokens

    @torch.no_grad()
    def tokens(self, images: Tensor, blocks: Sequence[int]) -> dict[int, Tensor]:
        """What some blocks of the image encoder make of B 3 H W, RGB in 0..255 with the longer side at ``image_size``.

        Returns:
            B h w D by block, of the whole square input: h and w are its patches, padding included.
        """
        encoder, _ = self._prepared()
        with torch.autocast(images.device.type, enabled=False):
            return encoder.tokens(self.sam.preprocess(images), blocks)

    @torch.no_grad()
    def look(self, embedding: Tensor) -> ImageSide:
        """What all points on an image with embedding 1 D h w share, for :meth:`ask`."""
        _, decoder = self._prepared()
        with torch.autocast(embedding.device.type, enabled=False):
            return decoder.look(embedding)

    @torch.no_grad()
    def ask(self, image: ImageSide, points: Tensor) -> Answers:
        """Three answers per foreground point, predicted IoU first: what :meth:`decode` says, at a fraction of the cost.

        Args:
            image: from :meth:`look`.
            points: N 2 float (x, y) in the frame of :meth:`preprocess`'s output.
        """
        _, decoder = self._prepared()
        with torch.autocast(points.device.type, enabled=False):
            return decoder(image, points)

    @torch.no_grad()
    def decode(self, embeddings: Tensor, index: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Three masks per foreground point on any of several images, by the library's own code.

        Args:
            embeddings: B D h w.
            index: N int64, the image of each point.
            points: N 2 float (x, y) in the frame of :meth:`preprocess`'s output.

        Returns:
            Logits N 3 4h 4w and predicted IoU N 3; the second axis is SAM's level (0 sub-part, 1 part, 2 whole).
        """
        logits, iou = decode_points(self.sam, embeddings, index, points)
        return logits[:, 1:], iou[:, 1:]

    def upscale(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """N C 4h 4w logits to N C H W at the image's own ``size``, padding cut away.

        In memory, masks come last: so the CPU interpolates, compares and counts many masks in one instruction.
        """
        n, channels, rows, columns = logits.shape
        if not n:
            return logits.new_zeros(0, channels, *size)
        height, width = self.input_shape(*size)
        if self.image_size % rows == 0:
            # What lies in the padding, but for the neighbours of the last pixels, is not even enlarged.
            step = self.image_size // rows
            rows, columns = min(rows, height // step + 2), min(columns, width // step + 2)
            whole = step * rows, step * columns
        else:
            whole = self.image_size, self.image_size
        masks = logits[..., :rows, :columns].reshape(1, n * channels, rows, columns)
        masks = masks.contiguous(memory_format=torch.channels_last)
        masks = F.interpolate(masks, whole, mode='bilinear')[..., :height, :width]
        if (height, width) != tuple(size):
            masks = F.interpolate(masks, size, mode='bilinear')
        return masks.view(n, channels, *size)

    def _prepared(self) -> tuple[ImageEncoder, PointDecoder]:
        dtype = PRECISIONS[self.precision or 'fp32']
        if dtype == torch.float32:
            dtype = precision(self.device, dtype)
        if dtype not in self._ready:
            self._ready[dtype] = ImageEncoder(self.sam.image_encoder, dtype), PointDecoder(self.sam, dtype)
        return self._ready[dtype]

    def _apply(self, *args: Any, **kwargs: Any) -> FrozenSam:
        self._ready = {}  # of weights elsewhere
        return super()._apply(*args, **kwargs)

    def _forget(self, *_: Any) -> None:
        """What was made of weights before others were loaded, into the whole or any part of it."""
        self._ready, self._fingerprint = {}, None

    def fingerprint(self) -> str:
        """SHA-256 of the card and all weights, the same on every device; computed once, and again for weights that are
        loaded later."""
        if self._fingerprint is None:
            digest = hashlib.sha256(repr(sorted(self.card.to_dict().items())).encode())
            for name, tensor in sorted(self.sam.state_dict().items()):
                digest.update(name.encode())
                digest.update(tensor.detach().float().cpu().contiguous().numpy().data)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint
