"""The frozen CLIP: tokens and attentions of every block, a differentiable last block, and the text tower."""
from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn

from weclip_sam.checks import check_shape
from weclip_sam.foundation.clip_card import build_clip, card_from_state_dict, find_card
from weclip_sam.foundation.clip_weights import find_weights, read_state_dict, tag_config
from weclip_sam.registry import MODELS
from weclip_sam.structures import ClipFeatures

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
        self.model = _load(arch, str(checkpoint), seed, quick_gelu)
        tag = tag_config(arch, checkpoint) if isinstance(checkpoint, str) else {}
        self.mean = tuple(mean if mean is not None else tag.get('mean', CLIP_MEAN))
        self.std = tuple(std if std is not None else tag.get('std', CLIP_STD))
        self.register_buffer('_mean', torch.tensor(self.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer('_std', torch.tensor(self.std).view(1, 3, 1, 1) * 255, persistent=False)
        visual = self.model.visual
        self.patch_size: int = visual.patch_size[0]
        self.width: int = visual.conv1.out_channels
        self.layers: int = len(visual.transformer.resblocks)
        self.embed_dim: int = visual.output_dim
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenClip:
        """Stays in evaluation mode: a frozen model has nothing to train."""
        return super().train(False)

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

    def forward(self, rgb: Tensor, padding_mask: Tensor | None = None) -> ClipFeatures:
        """Features of B 3 H W RGB in 0..255: :meth:`encode` of the normalised images."""
        return self.encode(self.normalize(rgb), padding_mask)

    @torch.no_grad()
    def encode(self, images: Tensor, padding_mask: Tensor | None = None) -> ClipFeatures:
        """Run all blocks on normalised ``images`` (B 3 H W) and keep every block's tokens and head-mean attention.

        Deliberate difference from the public CLIP-ES code, which takes any sequence of 77 tokens for text: an image of
        exactly 76 patches is treated like every other.

        Args:
            images: B 3 H W.
            padding_mask: B H W bool, True on padding around a rectangle of content, as FMA-WSSS treats it: nobody
                attends to patches that are all padding, and positions are stretched over the content alone. None takes
                every pixel for content.

        Raises:
            ValueError: H or W is not a multiple of the patch size; the message says which size to pad to.
        """
        padding = None if padding_mask is None else self._padded_patches(images, padding_mask)
        tokens, grid = self._embed(images, padding)
        padding = None if padding is None else padding.flatten(1)
        all_tokens, all_attentions = [], []
        for block in self.model.visual.transformer.resblocks:
            tokens, attention = _run_block(block, tokens, block.ln_1(tokens), padding)
            all_tokens.append(tokens)
            all_attentions.append(attention)
        return ClipFeatures(torch.stack(all_tokens), torch.stack(all_attentions), grid, padding)

    def last_ln1(self, tokens: Tensor) -> Tensor:
        """First layer norm of the last block on its input ``tokens`` (N 1+P D): the activations GradCAM weighs."""
        return self.model.visual.transformer.resblocks[-1].ln_1(tokens)

    def finish(self, tokens: Tensor, activations: Tensor | None = None,
               padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run the last block and embed the **mean patch token**, as CLIP-ES localises (METHODS section 0).

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
        tokens, attention = _run_block(visual.transformer.resblocks[-1], tokens, activations, padding)
        patches = visual.ln_post(tokens[:, 1:])
        if padding is None:
            embedding = patches.mean(1) @ visual.proj
        else:
            content = ~padding[..., None]
            embedding = (patches * content).sum(1) / content.sum(1).clamp(min=1) @ visual.proj
        return F.normalize(embedding, dim=-1), attention

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> Tensor:
        """B E, the class token's embedding, not normalised: what open_clip's ``encode_image`` returns."""
        tokens, _ = self._embed(images)
        visual = self.model.visual
        for block in visual.transformer.resblocks:
            tokens, _ = _run_block(block, tokens, block.ln_1(tokens))
        return visual.ln_post(tokens[:, 0]) @ visual.proj

    def position_embedding(self, grid: tuple[int, int]) -> Tensor:
        """1+P D position embedding for an (h, w) grid of patches.

        The class row is kept; the patch rows are resized bilinearly (align_corners=False). Deliberate difference from
        the public CLIP-ES and WeCLIP code: no rounding to float16 on the way (moves scaled maps by up to 2e-4).
        """
        embedding = self.model.visual.positional_embedding
        native = self.model.visual.grid_size
        if tuple(native) == tuple(grid):
            return embedding
        patches = embedding[1:].T.reshape(1, -1, *native)
        patches = F.interpolate(patches, size=grid, mode='bilinear', align_corners=False)
        return torch.cat([embedding[:1], patches.flatten(2)[0].T])

    def padded_position_embedding(self, padding: Tensor) -> Tensor:
        """B 1+P D position embeddings stretched over each image's content; zero on padding.

        Args:
            padding: B h w bool, True around a rectangle of content.
        """
        embedding = self.model.visual.positional_embedding
        native = self.model.visual.grid_size
        rows = _stretch_matrix(~padding.all(2), native[0])
        columns = _stretch_matrix(~padding.all(1), native[1])
        patches = embedding[1:].view(*native, -1)
        patches = torch.einsum('bhs,std,bwt->bhwd', rows, patches, columns).flatten(1, 2)
        return torch.cat([embedding[:1].expand(len(patches), 1, -1), patches], 1)

    def _padded_patches(self, images: Tensor, padding_mask: Tensor) -> Tensor:
        """B h w bool, patches all of whose pixels are padding."""
        check_image_size(images, self.patch_size)
        check_shape('images: B 3 H W; padding_mask: B H W', images=images, padding_mask=padding_mask)
        patches = padding_mask.to(images.device).unflatten(2, (-1, self.patch_size))
        return patches.unflatten(1, (-1, self.patch_size)).all(4).all(2)

    def _embed(self, images: Tensor, padding: Tensor | None = None) -> tuple[Tensor, tuple[int, int]]:
        height, width = check_image_size(images, self.patch_size)
        visual, grid = self.model.visual, (height // self.patch_size, width // self.patch_size)
        patches = visual.conv1(images.to(visual.conv1.weight.dtype)).flatten(2).transpose(1, 2)
        class_token = visual.class_embedding.expand(len(images), 1, -1)
        positions = self.position_embedding(grid) if padding is None else self.padded_position_embedding(padding)
        return visual.ln_pre(torch.cat([class_token, patches], 1) + positions), grid

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


def _stretch_matrix(inside: Tensor, size: int) -> Tensor:
    """B n size: bilinear resizing (align_corners=False) of ``size`` values onto the run of True in ``inside`` (B n)."""
    count = inside.sum(1, keepdim=True).clamp(min=1)
    place = torch.arange(inside.shape[1], device=inside.device) - inside.int().argmax(1, keepdim=True)
    source = ((place + 0.5) * (size / count) - 0.5).clamp(0, size - 1)
    weights = (1 - (source[..., None] - torch.arange(size, device=inside.device)).abs()).clamp(min=0)
    return weights * inside[..., None]


def _run_block(block: Any, tokens: Tensor, normed: Tensor,
               padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One residual block on N T D ``tokens`` with its first norm already applied (``normed``); the head-mean attention
    N T T comes second. Written out so that other activations can be fed in and second-order gradients always exist.
    Nobody attends to patches in ``padding`` (N P bool)."""
    attention = block.attn
    n, t, d = normed.shape
    projected = F.linear(normed, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = projected.view(n, t, 3, attention.num_heads, d // attention.num_heads).permute(2, 0, 3, 1, 4)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if padding is not None:
        scores = scores.masked_fill(F.pad(padding, (1, 0))[:, None, None], float('-inf'))
    weights = scores.softmax(-1)
    mixed = attention.out_proj((weights @ v).transpose(1, 2).reshape(n, t, d))
    tokens = tokens + block.ls_1(mixed)
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens))), weights.mean(1)


def count_tokens(text: str) -> int:
    """How many places of CLIP's context a text takes, start and end included."""
    return len(_tokenizer().encode(text)) + 2


@lru_cache(maxsize=1)
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()


def _load(arch: str, checkpoint: str, seed: int, quick_gelu: bool | None) -> open_clip.CLIP:
    card = None if arch == 'auto' else find_card(arch)
    if card is not None and quick_gelu is not None:
        card = {**card, 'quick_gelu': quick_gelu}
    if checkpoint == 'random':
        if card is None:
            raise ValueError("arch='auto' reads the sizes off a checkpoint: name an architecture for random weights")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_clip(card)
    if card is not None:
        _check_activation(arch, checkpoint, card)
    path = find_weights(arch, checkpoint)
    state = read_state_dict(path)
    if card is None:
        card = card_from_state_dict(state, True if quick_gelu is None else quick_gelu)
    card = _fit_card(card, state, f'CLIP checkpoint {path}', arch)
    model = build_clip(card)
    problems = model.load_state_dict(state, strict=False)
    if problems.missing_keys or problems.unexpected_keys:
        raise ValueError(f'CLIP checkpoint {path} does not fit {arch!r}: missing {_some(problems.missing_keys)}, '
                         f'unexpected {_some(problems.unexpected_keys)}')
    return model.float()


def _some(keys: list[str]) -> str:
    return f'{len(keys)} keys' + (f' ({", ".join(keys[:3])}{", ..." if len(keys) > 3 else ""})' if keys else '')


def _check_activation(arch: str, tag: str, card: dict[str, Any]) -> None:
    config = tag_config(arch, tag)
    wanted = config.get('quick_gelu', False)
    if config and bool(card.get('quick_gelu')) != wanted:
        fix = f'{arch}-quickgelu' if wanted else arch.removesuffix('-quickgelu')
        raise ValueError(f'CLIP weights {tag!r} were trained {"with" if wanted else "without"} QuickGELU, which is not '
                         f'what {arch!r} says. Use arch={fix!r}')


def _fit_card(card: dict[str, Any], state: dict[str, Tensor], where: str, arch: str) -> dict[str, Any]:
    """The card with the checkpoint's own image size (positions are resized anyhow); every other size must agree."""
    vision, text = card['vision_cfg'], card['text_cfg']
    found = card_from_state_dict(state)
    pairs = [('embed_dim', card['embed_dim'], found['embed_dim'])]
    pairs += [(f'image {key}', vision[key], found['vision_cfg'][key]) for key in ('width', 'layers', 'patch_size')]
    pairs += [(f'text {key}', text[key], found['text_cfg'][key])
              for key in ('width', 'layers', 'context_length', 'vocab_size') if key in text]
    wrong = [f'{name} {got} (expected {expected})' for name, expected, got in pairs if expected != got]
    if wrong:
        raise ValueError(f'{where} is another architecture than {arch!r}: it has {", ".join(wrong)}. '
                         "Name the right arch, or use arch='auto'")
    return {**card, 'vision_cfg': {**vision, 'image_size': found['vision_cfg']['image_size']}}
