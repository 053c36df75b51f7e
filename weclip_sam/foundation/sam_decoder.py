"""SAM's prompt encoder and mask decoder for points on one image, without what does not depend on the point.

segment_anything copies the image embedding for every prompt, projects each copy to queries, keys and values again and
again, and enlarges all masks before anybody knows whether they are any good. Here

- what the first layer makes of the image is made once an image, and of its position encoding once for good;
- the many image tokens are never projected where a handful of prompt tokens can be projected the other way round:
  q (W k) = (q W) k, and the weighted mean of projections is the projection of the weighted mean;
- the predicted IoU comes first, and only masks that are asked for are enlarged.

The same numbers but for rounding: sums are taken in another order.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from segment_anything.modeling import Sam
from torch import Tensor

from weclip_sam.foundation.sam_encoder import cast_copy, norm_channels

# Of the output tokens: predicted IoU, and the masks of levels 0, 1, 2; token 1 is that of the single-mask output.
_READ = (0, 2, 3, 4)


@dataclass(frozen=True)
class ImageSide:
    """What all prompts on one image share.

    Attributes:
        tokens: N D, the embedding plus the dense prompt that says that there is no mask.
        keys, values: 1 H N d, of the first attention of prompt tokens to the image.
        queries: N width, of the first attention of the image to prompt tokens.
    """

    tokens: Tensor
    keys: Tensor
    values: Tensor
    queries: Tensor


class Answers:
    """SAM's answers to N points: predicted IoU at once, masks when they are asked for.

    Attributes:
        iou: N 3 fp32, predicted IoU of levels 0 sub-part, 1 part, 2 whole.
    """

    def __init__(self, decoder: PointDecoder, iou: Tensor, tokens: Tensor, pixels: Tensor) -> None:
        self.iou, self._decoder, self._tokens, self._pixels = iou, decoder, tokens, pixels

    def logits(self, wanted: Tensor) -> Tensor:
        """Mask logits M 4h 4w fp32 of the answers at ``wanted``: M ascending positions in 3 N, point by point."""
        if len(wanted) == self.iou.numel():
            return self._decoder.enlarge(self._tokens, self._pixels).flatten(0, 1).float()
        points, place = torch.unique_consecutive(wanted // 3, return_inverse=True)
        found = self._decoder.enlarge(self._tokens[points], self._pixels[points]).flatten(0, 1)
        return found.index_select(0, 3 * place + wanted % 3).float()


class PointDecoder:
    """A ``Sam``'s prompt encoder and mask decoder for inference on single foreground points.

    Args:
        sam: segment_anything's; it is left as it is.
        dtype: to compute in; another one than the model's makes a copy of the decoder's weights. Points are encoded in
            the model's own.
    """

    def __init__(self, sam: Sam, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self.prompts: Any = sam.prompt_encoder
        (h, w), device = self.prompts.image_embedding_size, self.prompts.no_mask_embed.weight.device
        # Where each pixel of a mask, row by row, is among the 4x4 that each token becomes.
        self.order = torch.arange(16 * h * w, device=device).view(h, w, 2, 2, 2, 2).permute(0, 2, 4, 1, 3, 5).flatten()
        self.net: Any = cast_copy(sam.mask_decoder, dtype)
        transformer = self.net.transformer
        self.layers = list(transformer.layers)
        with torch.no_grad():
            self.position = _as_tokens(self.prompts.get_dense_pe()).to(dtype)
            self.readers = [_Reader(layer.cross_attn_token_to_image, self.position) for layer in self.layers]
            self.writers = [_Writer(layer.cross_attn_image_to_token, self.position) for layer in self.layers]
            self.last = _Reader(transformer.final_attn_token_to_image, self.position)
            first, _, _, second, _ = self.net.output_upscaling
            self.enlargers = [_as_linear(first), _as_linear(second)]
            heads = [self.net.output_hypernetworks_mlps[i - 1] for i in _READ[1:]]
            self.mask_heads = [(torch.stack([layer.weight.T for layer in layers]),
                                torch.stack([layer.bias for layer in layers])[:, None])
                               for layers in zip(*(head.layers for head in heads), strict=True)]

    def look(self, embedding: Tensor) -> ImageSide:
        """What all prompts share on an image with embedding 1 D h w."""
        tokens = (_as_tokens(embedding) + self.prompts.no_mask_embed.weight).to(self.dtype)
        reader, writer, placed = self.readers[0].attn, self.writers[0].attn, tokens + self.position
        return ImageSide(tokens, _split_heads(reader.k_proj(placed), reader.num_heads),
                         _split_heads(reader.v_proj(tokens), reader.num_heads), writer.q_proj(placed))

    def __call__(self, image: ImageSide, points: Tensor) -> Answers:
        """Answers to foreground points N 2, (x, y) in pixels of the model's input frame."""
        places = self._embed(points)
        queries, pixels = places, image.tokens.expand(len(points), -1, -1)
        for i, (layer, reader, writer) in enumerate(zip(self.layers, self.readers, self.writers, strict=True)):
            if layer.skip_first_layer_pe:
                queries = _attend(layer.self_attn, queries, queries)
            else:
                queries = queries + _attend(layer.self_attn, queries + places, queries)
            queries = layer.norm1(queries)
            asking = queries + places
            seen = reader.read(asking, pixels) if i else reader.read_shared(asking, image)
            queries = layer.norm2(queries + seen)
            queries = layer.norm3(queries + layer.mlp(queries))
            pixels = layer.norm4(writer.write(queries + places, queries, pixels, None if i else image))
        chosen = list(_READ)
        queries = self.net.transformer.norm_final_attn(
            queries[:, chosen] + self.last.read((queries + places)[:, chosen], pixels))
        iou = self.net.iou_prediction_head(queries[:, 0])[:, 1:].float()
        return Answers(self, iou, queries[:, 1:], pixels)

    def enlarge(self, tokens: Tensor, pixels: Tensor) -> Tensor:
        """Mask logits N 3 4h 4w from mask tokens N 3 D and image tokens N hw D."""
        _, norm, act, _, last_act = self.net.output_upscaling
        (first, first_bias), (second, second_bias) = self.enlargers
        # A transposed convolution whose steps are as wide as its kernel makes 2x2 pixels of each one by itself.
        fine = F.linear(pixels, first, first_bias).view(-1, norm.weight.numel())
        fine = F.linear(act(norm_channels(norm, fine)), second, second_bias)
        fine = last_act(fine).view(len(pixels), len(self.order), second.shape[0] // 4)
        heads = tokens.transpose(0, 1)
        for i, (weight, bias) in enumerate(self.mask_heads):
            heads = torch.baddbmm(bias, heads.relu() if i else heads, weight)
        logits = (heads.transpose(0, 1) @ fine.mT).flatten(0, 1)
        return logits.index_select(1, self.order).view(len(pixels), len(_READ) - 1, *self.prompts.mask_input_size)

    def _embed(self, points: Tensor) -> Tensor:
        """Output tokens, the point and the padding that segment_anything adds where there is no box: N T D."""
        place = self.prompts.pe_layer.forward_with_coords(points[:, None] + 0.5, self.prompts.input_image_size)
        place = place + self.prompts.point_embeddings[1].weight
        shared = (self.net.iou_token.weight, self.net.mask_tokens.weight, self.prompts.not_a_point_embed.weight)
        outputs, padding = torch.cat(shared[:2]).to(self.dtype), shared[2].to(self.dtype)
        n = len(points)
        return torch.cat([outputs.expand(n, -1, -1), place.to(self.dtype), padding.expand(n, -1, -1)], dim=1)


class _Cross:
    """A cross-attention between T prompt tokens and N image tokens, with all work on the side of the few.

    Heads are told apart by zeros: each prompt token has one row per head, zero outside of that head's channels, so that
    whatever all prompts share meets them in one matrix product.
    """

    def __init__(self, attn: Any) -> None:
        self.attn, width = attn, attn.internal_dim // attn.num_heads
        self.scale = 1 / math.sqrt(width)
        heads = torch.arange(attn.num_heads, device=attn.q_proj.weight.device)
        self.heads = (heads.repeat_interleave(width) == heads[:, None]).to(attn.q_proj.weight)[:, None]  # H 1 width

    def by_head(self, tokens: Tensor) -> Tensor:
        """B T width to B HT width."""
        return (tokens[:, None] * self.heads).flatten(1, 2)

    def join_heads(self, rows: Tensor) -> Tensor:
        """B HT width to B T width."""
        return (rows.unflatten(1, (len(self.heads), -1)) * self.heads).sum(1)


class _Reader(_Cross):
    """Prompt tokens attend to the image."""

    def __init__(self, attn: Any, position: Tensor) -> None:
        super().__init__(attn)
        # The bias of the keys adds the same to all of a query's logits: the softmax takes it out again.
        self.position = F.linear(position, attn.k_proj.weight).T

    def read(self, asking: Tensor, pixels: Tensor) -> Tensor:
        """B T D from queries B T D (with places) and image tokens B N D (without)."""
        attn, rows = self.attn, self.by_head(self.attn.q_proj(asking) * self.scale)
        logits = torch.baddbmm(rows @ self.position, rows @ attn.k_proj.weight, pixels.mT)
        seen = F.linear(logits.softmax(-1) @ pixels, attn.v_proj.weight, attn.v_proj.bias)
        return attn.out_proj(self.join_heads(seen))

    def read_shared(self, asking: Tensor, image: ImageSide) -> Tensor:
        """The same where all prompts see the same image."""
        queries = _split_heads(self.attn.q_proj(asking).flatten(0, 1), self.attn.num_heads)
        seen = F.scaled_dot_product_attention(queries, image.keys, image.values)
        return self.attn.out_proj(seen[0].transpose(0, 1).reshape(*asking.shape[:2], -1))


class _Writer(_Cross):
    """The image attends to prompt tokens."""

    def __init__(self, attn: Any, position: Tensor) -> None:
        super().__init__(attn)
        self.position = attn.q_proj(position).T
        # The weights of a head sum to one, and so its share of the bias may stand in the values.
        self.bias = attn.out_proj.bias / attn.num_heads

    def write(self, asked: Tensor, queries: Tensor, pixels: Tensor, image: ImageSide | None) -> Tensor:
        """B N D, image tokens with what they find in the prompt tokens added.

        Args:
            asked: B T D, prompt tokens with places.
            queries: B T D, without.
            pixels: B N D, image tokens; written over unless they are shared.
            image: where all prompts see the same image, otherwise None.
        """
        attn, rows = self.attn, self.by_head(self.attn.k_proj(asked) * self.scale)
        logits = rows @ image.queries.T if image is not None else torch.baddbmm(
            rows @ self.position, rows @ attn.q_proj.weight, pixels.mT)
        weights = logits.unflatten(1, (len(self.heads), -1)).softmax(2).flatten(1, 2)
        values = F.linear(self.by_head(attn.v_proj(queries)), attn.out_proj.weight, self.bias)
        return torch.baddbmm(pixels, weights.mT, values) if image is not None else pixels.baddbmm_(weights.mT, values)


def _attend(attn: Any, placed: Tensor, tokens: Tensor) -> Tensor:
    """Self-attention of B T D, with places and without."""
    query, key, value = (layer(x).unflatten(2, (attn.num_heads, -1)).transpose(1, 2) for layer, x in (
        (attn.q_proj, placed), (attn.k_proj, placed), (attn.v_proj, tokens)))
    return attn.out_proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


def _as_tokens(image: Tensor) -> Tensor:
    """1 D h w to hw D."""
    return image[0].flatten(1).T


def _split_heads(tokens: Tensor, heads: int) -> Tensor:
    """N width to 1 heads N d."""
    return tokens.unflatten(1, (heads, -1)).transpose(0, 1)[None]


def _as_linear(conv: Any) -> tuple[Tensor, Tensor]:
    """Weight 4C' C and bias 4C' of a transposed convolution with kernel and stride 2; the 2x2 pixels come first."""
    return conv.weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous(), conv.bias.repeat(4)
