"""The last block as CLIP-ES localises with it: from its input to the mean patch token, and the gradient back to its
first layer norm (GradCAM), once by autograd (:func:`run_block`) and once written out (:class:`LastBlock`).

Written out, the block runs once an image however many classes are asked about, and only what GradCAM reads is made: the
*mean over patches* of the gradient at the first norm. With P patches of D channels a class costs about 10 P D^2 +
2 P^2 D operations instead of the 48 P D^2 + 12 P^2 D of a forward and a backward pass.
"""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weclip_sam.foundation.cast_once import CastOnce

# Hidden numbers of the MLP that are worked on at once: what a cache of a CPU holds, or what keeps a GPU busy.
_CPU_NUMBERS, _GPU_NUMBERS = 2 ** 22, 2 ** 28


def run_block(block: Any, tokens: Tensor, normed: Tensor, padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
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


def at_once(tokens: Tensor, hidden: int) -> int:
    """How many (image, class) pairs of B 1+P D ``tokens`` are worked on at once, if the MLP has ``hidden`` channels."""
    numbers = _CPU_NUMBERS if tokens.device.type == 'cpu' else _GPU_NUMBERS
    return max(1, numbers // (tokens.shape[1] * hidden))


class Products:
    """Matrix products with frozen weights in one precision; numbers go in and come out in their own.

    Args:
        cast: gives the weights in another precision.
        dtype: the precision.
    """

    def __init__(self, cast: CastOnce, dtype: torch.dtype) -> None:
        self.cast, self.dtype = cast, dtype

    def linear(self, name: str, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """``F.linear``; the name tells weights apart."""
        return F.linear(x.to(self.dtype), self.cast(f'plain.{name}.weight', weight, self.dtype),
                        self.cast(f'plain.{name}.bias', bias, self.dtype)).to(x.dtype)

    def matmul(self, name: str, x: Tensor, weight: Tensor) -> Tensor:
        """``x @ weight``: :meth:`linear` backwards."""
        return (x.to(self.dtype) @ self.cast(f'plain.{name}.weight', weight, self.dtype)).to(x.dtype)


class LastBlock:
    """The last block and the norm behind it on some images, kept for gradients of scores of the mean patch token.

    Args:
        block: open_clip's residual block.
        ln_post: the layer norm behind it.
        tokens: B 1+P D float, what enters the block.
        padding: B P bool, patches left out of attention and mean, or None.
        products: makes the products with the block's matrices. In bfloat16 they move scaled maps by less than 3e-3
            (norms, attention and what lies between stay in float32); float16 would lose small gradients.

    Attributes:
        activations: B P D, the first norm's output at the patches: what GradCAM weighs.
        pooled: B D, mean patch token behind ``ln_post``, to be projected and normalised.
    """

    @torch.no_grad()
    def __init__(self, block: Any, ln_post: nn.LayerNorm, tokens: Tensor, padding: Tensor | None,
                 products: Products) -> None:
        self.block, self.ln_post, self.products = block, ln_post, products
        attn, mlp = block.attn, block.mlp
        self.gamma_1, self.gamma_2 = (getattr(scale, 'gamma', None) for scale in (block.ls_1, block.ls_2))
        patches = tokens[:, 1:]
        # Attention: the class token is a key, but its own output is not read.
        normed = block.ln_1(tokens)
        self.activations = normed[:, 1:]
        projected = products.linear('in_proj', normed, attn.in_proj_weight, attn.in_proj_bias)
        q, self.k, self.v = projected.unflatten(2, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)  # B heads T d
        self.scale = q.shape[-1] ** -0.5
        self.q = q[:, :, 1:] * self.scale
        scores = self.q @ self.k.transpose(-2, -1)
        if padding is not None:
            scores.masked_fill_(F.pad(padding, (1, 0))[:, None, None], float('-inf'))
        self.weights = scores.softmax(-1)  # B heads P T
        self.mixed = (self.weights @ self.v).transpose(1, 2)  # B P heads d
        x = products.linear('out_proj', self.mixed.flatten(2), attn.out_proj.weight, attn.out_proj.bias)
        x = patches + _scaled(x, self.gamma_1)
        # MLP
        self.x_hat, self.x_rstd = _standardise(x, block.ln_2)
        hidden = products.linear('c_fc', _affine(self.x_hat, block.ln_2), mlp.c_fc.weight, mlp.c_fc.bias)
        active, slope = _with_slope(mlp.gelu, hidden)
        x = x + _scaled(products.linear('c_proj', active, mlp.c_proj.weight, mlp.c_proj.bias), self.gamma_2)
        # Norm and mean
        self.y_hat, y_rstd = _standardise(x, ln_post)
        if padding is None:
            share = tokens.new_full((len(tokens), patches.shape[1], 1), 1 / patches.shape[1])
        else:
            content = (~padding[..., None]).to(tokens.dtype)
            share = content / content.sum(1, keepdim=True).clamp(min=1)
        self.pooled = (share * _affine(self.y_hat, ln_post)).sum(1)
        # The mean's gradient behind ln_post is one vector c a class; at patch p it is share_p rstd_p (c - b_p y_hat_p)
        # with c centred and b_p = mean(c y_hat_p). So the MLP's second layer sees c and y_hat_p apart: the latter here.
        self.share = share * y_rstd
        self.slope = slope.mul_(self.share)
        self.slope_of_y = products.matmul('c_proj', _scaled(self.y_hat, self.gamma_2), mlp.c_proj.weight)
        self.slope_of_y.mul_(self.slope)

    @torch.no_grad()
    def mean_gradient(self, gradient: Tensor) -> Tensor:
        """From the gradients of some scores at the mean patch token to those at the first norm, averaged over patches.

        Args:
            gradient: B N D, of N scores of each image with respect to :attr:`pooled`.

        Returns:
            B N D: mean over the patches of the gradients with respect to :attr:`activations`.
        """
        step = max(1, at_once(self.activations, self.slope.shape[-1]) // max(1, len(gradient)))
        return torch.cat([self._mean_gradient(some) for some in gradient.split(step, 1)], 1)

    def _mean_gradient(self, gradient: Tensor) -> Tensor:
        block = self.block
        # Back through ln_post, the MLP, and ln_2, to the sum behind attention: B N P D.
        c = gradient * self.ln_post.weight
        b = c @ self.y_hat.transpose(-2, -1) / c.shape[-1]  # B N P
        c = c - c.mean(-1, keepdim=True)
        hidden = self.slope[:, None] * (_scaled(c, self.gamma_2) @ block.mlp.c_proj.weight)[:, :, None]
        hidden.addcmul_(b[..., None], self.slope_of_y[:, None], value=-1)
        inner = self.products.matmul('c_fc', hidden, block.mlp.c_fc.weight).mul_(block.ln_2.weight)
        del hidden
        x_hat = self.x_hat[:, None]
        correlation = (inner * x_hat).mean(-1, keepdim=True)
        inner = inner.sub_(inner.mean(-1, keepdim=True)).addcmul_(correlation, x_hat, value=-1)
        inner = inner.mul_(self.x_rstd[:, None])
        inner += (c[:, :, None] - b[..., None] * self.y_hat[:, None]).mul_(self.share[:, None])
        return self._through_attention(
            self.products.matmul('out_proj', _scaled(inner, self.gamma_1), block.attn.out_proj.weight))

    def _through_attention(self, gradient: Tensor) -> Tensor:
        """From B N P D, gradients at the mixed values, to their sum over patches in front of the projections.

        No P x P matrix is made for a score. With a the attention weights, o the mixed values, g their gradient and
        e_i = g_i . o_i, softmax gives ds_ij = a_ij (g_i . v_j - e_i). The mean over patches needs of it

        - for the queries, sum_ij ds_ij k_j, where sum_i ds_ij = v_j . (a^T g)_j - (a^T e)_j;
        - for the keys, sum over *patches* j of sum_i ds_ij q_i: as every row of ds sums to zero over all keys, that is
          -ds_i0 q_i with the class token as key 0;
        - for the values, sum over patches j of a_ij g_i, which is (1 - a_i0) g_i.
        """
        attn, heads = self.block.attn, self.block.attn.num_heads
        count, patches = gradient.shape[1:3]
        g = gradient.unflatten(3, (heads, -1))  # B N P heads d
        e = (g * self.mixed[:, None]).sum(-1)  # B N P heads
        back = self.weights.transpose(-2, -1)  # B heads T P
        values = back @ g.permute(0, 3, 2, 1, 4).flatten(3)  # B heads T N*d
        values = (values.unflatten(3, (count, -1)) * self.v[:, :, :, None]).sum(-1)  # B heads T N
        sums = (values - back @ e.permute(0, 3, 2, 1)).transpose(-2, -1)  # B heads N T
        g = g.permute(0, 3, 1, 2, 4)  # B heads N P d
        to_class = self.weights[:, :, None, :, 0]  # B heads 1 P
        first = to_class * ((g @ self.v[:, :, 0, None, :, None])[..., 0] - e.permute(0, 3, 1, 2))
        of_q = sums @ self.k * self.scale  # B heads N d
        of_k = -(first @ self.q)
        of_v = ((1 - to_class)[..., None, :] @ g)[..., 0, :]
        parts = torch.stack([of_q, of_k, of_v], 3).permute(0, 2, 3, 1, 4)  # B N 3 heads d
        return parts.flatten(2) @ attn.in_proj_weight / patches


def _scaled(x: Tensor, gamma: Tensor | None) -> Tensor:
    """``x`` times a layer scale, if there is one."""
    return x if gamma is None else x * gamma


def _standardise(x: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """... D with mean 0 and variance 1, and ... 1, one over the deviation it had."""
    standard, _, rstd = torch.native_layer_norm(x, norm.normalized_shape, None, None, norm.eps)
    return standard, rstd


def _affine(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """What ``norm`` makes of a standardised x."""
    return torch.addcmul(norm.bias, x, norm.weight)


def _with_slope(activation: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """An elementwise activation's value and derivative."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = activation(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), slope
