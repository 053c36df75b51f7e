"""The frozen CLIP: tokens and attentions of every block, a differentiable last block, and the text tower."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn

from weclip_sam.checks import check_shape
from weclip_sam.features import ClipFeatures, Heads, Wanted
from weclip_sam.foundation.blocks import FrozenBlocks
from weclip_sam.foundation.calibrated import calibrated_patches
from weclip_sam.foundation.cast_once import CastOnce, precision
from weclip_sam.foundation.clip_build import load_clip
from weclip_sam.foundation.last_block import LastBlock, Products, at_once, run_block
from weclip_sam.foundation.positions import PositionCache, stretched_positions
from weclip_sam.foundation.published import tag_config
from weclip_sam.registry import MODELS

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@MODELS.register_module()
class FrozenClip(nn.Module):
    """A CLIP vision transformer that is never trained, opened up for localisation.

    Args:
        arch: an open_clip model name, ``'tiny'`` (bundled), a path to a ``.json`` card, or ``'auto'`` to read the sizes
            off the checkpoint (OpenAI's conventions: QuickGELU, heads of 64 channels).
        checkpoint: an open_clip pretrained tag (looked up in the local cache, never downloaded), a file (state dict
            .pt/.pth, .safetensors, OpenAI TorchScript archive), ``'tiny'`` for the bundled weights, or ``'random'``.
        mean, std: three numbers each, of RGB in [0, 1]; CLIP's (or the tag's) own unless given. The public WeCLIP code
            feeds CLIP with ImageNet's: give those to reproduce it.
        seed: of the ``'random'`` weights.
        quick_gelu: overrides the activation of the card, for checkpoints that the card does not fit.

    Raises:
        ValueError: unknown name, or a file that is truncated, of another format or of another architecture.
        FileNotFoundError: no such file; the message says how large it is and which line fetches it.

    Attributes:
        patch_size, width, layers, embed_dim: sizes of the image encoder.
        mean, std: tuples, of RGB in [0, 1].
    """

    _mean: Tensor
    _std: Tensor

    def __init__(self, arch: str = 'ViT-B-16-quickgelu', checkpoint: str = 'openai',
                 mean: Sequence[float] | None = None, std: Sequence[float] | None = None, seed: int = 0,
                 quick_gelu: bool | None = None) -> None:
        super().__init__()
        self.arch, self.checkpoint = arch, checkpoint
        self.model = load_clip(arch, str(checkpoint), seed, quick_gelu)
        tag = tag_config(arch, checkpoint) if isinstance(checkpoint, str) else {}
        self.mean = of_channels(mean if mean is not None else tag.get('mean', CLIP_MEAN), 'FrozenClip mean')
        self.std = of_channels(std if std is not None else tag.get('std', CLIP_STD), 'FrozenClip std', positive=True)
        self.register_buffer('_mean', torch.tensor(self.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer('_std', torch.tensor(self.std).view(1, 3, 1, 1) * 255, persistent=False)
        visual = self.model.visual
        self.patch_size: int = visual.patch_size[0]
        self.width: int = visual.conv1.out_channels
        self.layers: int = len(visual.transformer.resblocks)
        self.embed_dim: int = visual.output_dim
        self._cast, self._positions = CastOnce(), PositionCache()
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenClip:
        """Stays in evaluation mode: a frozen model has nothing to train."""
        return super().train(False)

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> FrozenClip:
        self._cast.clear()
        self._positions.clear()
        return super()._apply(fn, *args, **kwargs)

    @property
    def logit_scale(self) -> Tensor:
        """The scalar that multiplies cosines (already exponentiated)."""
        return self.model.logit_scale.exp()

    @property
    def context_length(self) -> int:
        """Tokens T that the text tower reads."""
        return self.model.context_length

    def normalize(self, rgb: Tensor) -> Tensor:
        """Turn B 3 H W RGB in 0..255 (any dtype) into what the encoder reads."""
        return (rgb.float() - self._mean) / self._std

    # ---- image tower ------------------------------------------------------------------------------------------

    def forward(self, rgb: Tensor, padding_mask: Tensor | None = None, wanted: Wanted | None = None) -> ClipFeatures:
        """Features of B 3 H W RGB in 0..255: :meth:`encode` of the normalised images."""
        return self.encode(self.normalize(rgb), padding_mask, wanted)

    @torch.no_grad()
    def encode(self, images: Tensor, padding_mask: Tensor | None = None, wanted: Wanted | None = None) -> ClipFeatures:
        """What the blocks make of normalised ``images`` (B 3 H W): their tokens and their attention, mean of the heads.

        Under ``torch.autocast`` the matrix products run in its precision with weights that are cast once
        (:class:`~weclip_sam.foundation.cast_once.CastOnce`); norms, the residual stream and results stay float32.

        Deliberate difference from the public CLIP-ES code, which takes any sequence of 77 tokens for text: an image of
        exactly 76 patches is treated like every other.

        Args:
            images: B 3 H W.
            padding_mask: B H W bool, True on padding around a rectangle of content, as FMA-WSSS treats it: nobody
                attends to patches that are all padding, and positions are stretched over the content alone. None takes
                every pixel for content.
            wanted: what is going to be read; nothing else is kept, and blocks that nothing depends on are not run. None
                keeps the tokens and attentions of every block (L B ...).

        Raises:
            ValueError: H or W is not a multiple of the patch size; the message says which size to pad to.
        """
        patches = None if padding_mask is None else self._padded_patches(images, padding_mask)
        tokens, attentions, means, heads, grid, padding = self._run(
            images, Wanted.everything(self.layers) if wanted is None else wanted, patches)
        if wanted is not None:
            return ClipFeatures(tokens, attentions, grid, padding, means, heads)
        return ClipFeatures(torch.stack(tokens[:]), torch.stack(attentions[:]), grid, padding)

    def _run(self, images: Tensor, wanted: Wanted, padding: Tensor | None = None) -> tuple:
        """What :meth:`FrozenBlocks.run` makes of the images, the grid, and B P bool of padded patches (from B h w)."""
        dtype = precision(images.device, self.model.visual.conv1.weight.dtype)
        with torch.autocast(images.device.type, enabled=False):
            tokens, grid = self._embed(images, dtype, padding)
            flat = None if padding is None else padding.flatten(1)
            return *self._blocks().run(tokens, wanted, dtype, flat), grid, flat

    def _blocks(self) -> FrozenBlocks:
        return FrozenBlocks(self.model.visual.transformer.resblocks, self._cast)

    def last_ln1(self, tokens: Tensor) -> Tensor:
        """First layer norm of the last block on its input ``tokens`` (N 1+P D): the activations GradCAM weighs."""
        return self.model.visual.transformer.resblocks[-1].ln_1(tokens)

    def finish(self, tokens: Tensor, activations: Tensor | None = None,
               padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run the last block and embed the **mean patch token**, as CLIP-ES localises.

        Differentiable. Queries, keys and values are read from ``activations``; the residual comes from ``tokens``,
        so a gradient with respect to ``activations`` flows through the attention branch only.

        Args:
            tokens: N 1+P D, input of the last block (:attr:`ClipFeatures.last_block_input`, maybe repeated).
            activations: N 1+P D, ``last_ln1(tokens)`` if None.
            padding: N P bool, patches left out of attention and mean (:attr:`ClipFeatures.padding`), or None.

        Returns:
            embedding N E of unit norm, attention N 1+P 1+P averaged over heads.
        """
        activations = self.last_ln1(tokens) if activations is None else activations
        check_shape('tokens: N T D; activations: N T D', tokens=tokens, activations=activations)
        visual = self.model.visual
        tokens, attention = run_block(visual.transformer.resblocks[-1], tokens, activations, padding)
        patches = visual.ln_post(tokens[:, 1:])
        if padding is None:
            pooled = patches.mean(1)
        else:
            content = ~padding[..., None]
            pooled = (patches * content).sum(1) / content.sum(1).clamp(min=1)
        return F.normalize(pooled @ visual.proj, dim=-1), attention

    def localise(self, tokens: Tensor, padding: Tensor | None = None, heads: Heads | None = None) -> LastBlock:
        """The last block on its input ``tokens`` (B 1+P D), kept for the gradients that GradCAM reads.

        Under autocast in bfloat16 its products run in it, see :class:`LastBlock`.

        Args:
            tokens, padding: see :meth:`finish`, which is the same by autograd.
            heads: the last block's attention on these tokens, if the encoder kept it (:attr:`ClipFeatures.heads`). It
                is made again where it has another precision.
        """
        visual, dtype = self.model.visual, precision(tokens.device, torch.float32)
        dtype = dtype if dtype == torch.bfloat16 else torch.float32
        with torch.autocast(tokens.device.type, enabled=False):
            if heads is None or heads.weights.dtype != dtype:
                heads = self._blocks().heads(self.layers - 1, tokens.float(), dtype, padding)
            return LastBlock(visual.transformer.resblocks[-1], visual.ln_post, visual.proj, tokens.float(), heads,
                             padding, Products(self._cast, dtype))

    def pairs_at_once(self, tokens: Tensor) -> int:
        """For how many (image, class) pairs :meth:`localise` may work at once on images with such tokens."""
        return at_once(tokens, self.model.visual.transformer.resblocks[-1].mlp.c_fc.out_features)

    @torch.no_grad()
    def embed_calibrated(self, features: ClipFeatures, blocks: int = 5, over_heads: str = 'mean',
                         bias: Tensor | None = None) -> Tensor:
        """Tokens in the space of the texts: patches by ExCEL's calibrated path, the class token by the ordinary one.

        Args:
            features: with the tokens that enter each of the last ``blocks`` blocks, and the last block's.
            blocks: how many of the last blocks are calibrated; published: 5.
            over_heads, bias: see :func:`~weclip_sam.foundation.calibrated.calibrated_matrix`.

        Returns:
            B 1+P E, not normalised.
        """
        visual = self.model.visual
        with torch.autocast(self._mean.device.type, enabled=False):
            inputs = [features.tokens[index - 1].float() for index in range(self.layers - blocks, self.layers)]
            patches = calibrated_patches(visual.transformer.resblocks[-blocks:], inputs, over_heads, bias)
            tokens = torch.cat([features.tokens[-1][:, :1].float(), patches[:, 1:]], 1)
            return visual.ln_post(tokens) @ visual.proj

    @torch.no_grad()
    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """B T E, the last block's ``tokens`` (B T D) in the space of the texts, not normalised."""
        visual = self.model.visual
        with torch.autocast(self._mean.device.type, enabled=False):
            return visual.ln_post(tokens.float()) @ visual.proj

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> Tensor:
        """B E, the class token's embedding, not normalised: what open_clip's ``encode_image`` returns."""
        visual = self.model.visual
        tokens, *_ = self._run(images, Wanted(tokens=frozenset({self.layers - 1})))
        return visual.ln_post(tokens[-1][:, 0]) @ visual.proj

    def position_embedding(self, grid: tuple[int, int]) -> Tensor:
        """1+P D position embedding for an (h, w) grid of patches, resized bilinearly.

        Deliberate difference from the public CLIP-ES and WeCLIP code: no rounding to float16 on the way (moves scaled
        maps by up to 2e-4).
        """
        return self._positions(self.model.visual.positional_embedding, self.model.visual.grid_size, grid)

    def padded_position_embedding(self, padding: Tensor) -> Tensor:
        """B 1+P D position embeddings stretched over each image's content; zero on padding.

        Args:
            padding: B h w bool, True around a rectangle of content.
        """
        return stretched_positions(self.model.visual.positional_embedding, self.model.visual.grid_size, padding)

    def _padded_patches(self, images: Tensor, padding_mask: Tensor) -> Tensor:
        """B h w bool, patches all of whose pixels are padding."""
        check_image_size(images, self.patch_size)
        check_shape('images: B 3 H W; padding_mask: B H W', images=images, padding_mask=padding_mask)
        patches = padding_mask.to(images.device).unflatten(2, (-1, self.patch_size))
        return patches.unflatten(1, (-1, self.patch_size)).all(4).all(2)

    def _embed(self, images: Tensor, dtype: torch.dtype, padding: Tensor | None) -> tuple[Tensor, tuple[int, int]]:
        """B 1+P D, what enters the first block, and the grid."""
        height, width = check_image_size(images, self.patch_size)
        visual, grid = self.model.visual, (height // self.patch_size, width // self.patch_size)
        weight = self._cast('conv1.weight', visual.conv1.weight, dtype)
        patches = F.conv2d(images.to(dtype), weight, stride=visual.conv1.stride).flatten(2).transpose(1, 2)
        class_token = visual.class_embedding.expand(images.shape[0], 1, -1)
        positions = self.position_embedding(grid) if padding is None else self.padded_position_embedding(padding)
        return visual.ln_pre(torch.cat([class_token, patches.to(class_token.dtype)], 1) + positions), grid

    # ---- text tower -------------------------------------------------------------------------------------------

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """N T int64 on the model's device, padded with zeros.

        Raises:
            ValueError: a text does not fit into the context; it would silently lose its last words.
        """
        length = self.context_length
        for text in texts:
            if (used := count_tokens(text)) > length:
                raise ValueError(f'prompt {text!r} needs {used} tokens, but the text tower reads {length}: shorten it')
        ids = _tokenizer()(list(texts), context_length=length)
        return ids.to(self.model.positional_embedding.device)

    def token_embedding(self, token_ids: Tensor) -> Tensor:
        """N T int64 -> N T Dt, embeddings before positions are added."""
        return self.model.token_embedding(token_ids)

    def encode_text(self, token_ids: Tensor) -> Tensor:
        """N T int64 -> N E, not normalised."""
        return self.encode_text_embeddings(self.token_embedding(token_ids), token_ids.argmax(-1))

    def encode_text_embeddings(self, prompts: Tensor, eot: Tensor) -> Tensor:
        """Encode token embeddings, learnt ones perhaps; differentiable.

        Args:
            prompts: N T Dt, without positions.
            eot: N int64, the place of the end token, where the text is read off.

        Returns:
            N E, not normalised.
        """
        model = self.model
        hidden = model.transformer(prompts + model.positional_embedding, attn_mask=model.attn_mask)
        hidden = model.ln_final(hidden[torch.arange(len(hidden), device=hidden.device), eot])
        return hidden @ model.text_projection


def check_image_size(images: Tensor, patch_size: int) -> tuple[int, int]:
    """Return (H, W) of B 3 H W ``images``, or raise ValueError with the size to pad to."""
    check_shape('images: B 3 H W', images=images)
    height, width = images.shape[-2:]
    padded = tuple(-(-side // patch_size) * patch_size for side in (height, width))
    if padded != (height, width):
        raise ValueError(f'images: {height}x{width} is not divisible by the patch size {patch_size}; '
                         f'pad to {padded[0]}x{padded[1]}')
    return height, width


def of_channels(values: Any, what: str, positive: bool = False) -> tuple[float, ...]:
    """Three numbers in [0, 1], of red, green and blue; ``positive``: not 0, since colours are divided by them.

    Raises:
        ValueError: something else; names ``what``.
    """
    numbers = tuple(values) if isinstance(values, Iterable) else (values,)
    if len(numbers) != 3 or not all(_is_share(number) and (number > 0 or not positive) for number in numbers):
        wide = any(is_real(number) and number > 1 for number in numbers)
        raise ValueError(f'{what}: expected three numbers, of red, green and blue in {"(" if positive else "["}0, 1], '
                         f'got {values}{"; divide those of 0..255 by 255" * wide}')
    return tuple(map(float, numbers))


def is_real(value: Any) -> bool:
    """Whether a value is one number, of Python, NumPy or torch, and no truth value."""
    return not isinstance(value, bool) and (isinstance(value, Real) or (isinstance(value, Tensor) and not value.dim()))


def _is_share(value: Any) -> bool:
    return is_real(value) and 0 <= float(value) <= 1


def count_tokens(text: str) -> int:
    """How many places of CLIP's context a text takes, start and end included."""
    return len(_tokenizer().encode(text)) + 2


@lru_cache(maxsize=1)
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()
