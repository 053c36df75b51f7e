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
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from weclip_sam.features import Heads, joined
from weclip_sam.foundation.blocks import QUICK
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
    """Matrix products with frozen weights in one precision, whatever that of the numbers that go in.

    Args:
        cast: gives the weights in another precision.
        dtype: the precision, also of what comes out.
    """

    def __init__(self, cast: CastOnce, dtype: torch.dtype) -> None:
        self.cast, self.dtype = cast, dtype

    def linear(self, name: str, x: Tensor, weight: Tensor, bias: Tensor, alpha: float = 1.0,
               beta: float = 1.0) -> Tensor:
        """``alpha * x @ weight.T + beta * bias``; the name tells weights apart."""
        weight, bias = self._weight(name, weight), self.cast(f'plain.{name}.bias', bias, self.dtype)
        product = torch.addmm(bias, x.to(self.dtype).flatten(0, -2), weight.t(), alpha=alpha, beta=beta)
        return product.view(*x.shape[:-1], -1)

    def matmul(self, name: str, x: Tensor, weight: Tensor) -> Tensor:
        """``x @ weight``: :meth:`linear` backwards."""
        return x.to(self.dtype) @ self._weight(name, weight)

    def _weight(self, name: str, weight: Tensor) -> Tensor:
        return self.cast(f'plain.{name}.weight', weight, self.dtype)


class Activation:
    """An MLP's activation on hidden numbers that come times :attr:`factor`, so that every way is one operator.

    Args:
        module: open_clip's QuickGELU (x * sigmoid(1.702 x), which is silu(1.702 x) / 1.702) or GELU.
    """

    def __init__(self, module: Any) -> None:
        self.approximate: str | None = None if isinstance(module, QuickGELU) else module.approximate
        self.factor = QUICK if self.approximate is None else 1.0

    def __call__(self, hidden: Tensor) -> Tensor:
        """The activations, times :attr:`factor`, too."""
        return F.silu(hidden) if self.approximate is None else F.gelu(hidden, approximate=self.approximate)

    def backward(self, gradient: Tensor, hidden: Tensor) -> Tensor:
        """The derivatives (without any factor) times ``gradient``, which is spread over ``hidden``."""
        gradient = gradient.expand_as(hidden)
        if self.approximate is None:
            return torch.ops.aten.silu_backward(gradient, hidden)
        return torch.ops.aten.gelu_backward(gradient, hidden, approximate=self.approximate)


class LastBlock:
    """The last block and what turns it into an embedding on some images, kept for gradients of the embedding's scores.

    Args:
        block: open_clip's residual block.
        ln_post: the layer norm behind it.
        proj: D E, from there to the texts' space.
        tokens: B 1+P D float, what enters the block.
        heads: its attention on them.
        padding: B P bool, patches left out of attention and mean, or None.
        products: makes the products with the block's matrices, in the precision of ``heads``; so are the MLP's hidden
            numbers, while norms and sums of branches stay in float32. In bfloat16 that moves scaled maps by up to 1e-2,
            a third of what the encoder's bfloat16 does; float16 would lose small gradients.

    Attributes:
        activations: B P D, the first norm's output at the patches: what GradCAM weighs.
        embedding: B E of unit norm, of the mean patch token behind ``ln_post``.
    """

    @torch.no_grad()
    def __init__(self, block: Any, ln_post: nn.LayerNorm, proj: Tensor, tokens: Tensor, heads: Heads,
                 padding: Tensor | None, products: Products) -> None:
        self.block, self.ln_post, self.proj, self.products = block, ln_post, proj, products
        attn, mlp = block.attn, block.mlp
        self.gamma_1, self.gamma_2 = (getattr(scale, 'gamma', None) for scale in (block.ls_1, block.ls_2))
        # Attention: the class token is a key, but its own output is not read.
        self.heads, self.activations = heads, heads.normed[:, 1:]
        mixed = (heads.weights @ heads.values)[:, :, 1:].transpose(1, 2)  # B P heads d
        x = products.linear('out_proj', mixed.flatten(2), attn.out_proj.weight, attn.out_proj.bias)
        x = tokens[:, 1:] + _scaled(x, self.gamma_1)
        self.mixed, self.v_and_one = mixed, F.pad(heads.values, (0, 1), value=-1.0)
        self.v_and_one *= heads.keys.shape[-1] ** -0.5
        to_class = heads.weights[..., :1]  # B heads T 1
        self.minus_class, self.to_others = -to_class, 1 - to_class
        # MLP
        normed, *statistics = _norm(x, block.ln_2)
        activation = Activation(mlp.gelu)
        hidden = products.linear('c_fc', normed, mlp.c_fc.weight, mlp.c_fc.bias, activation.factor, activation.factor)
        y = products.linear('c_proj', activation(hidden), mlp.c_proj.weight, mlp.c_proj.bias, 1 / activation.factor)
        # Norm, mean and embedding
        self.normed, y = (x, *statistics), x + _scaled(y, self.gamma_2)
        self.y_hat, _, y_rstd = torch.native_layer_norm(y, ln_post.normalized_shape, None, None, ln_post.eps)
        patches = y.shape[1]
        if padding is None:
            mean, share = self.y_hat.mean(1), y_rstd / patches ** 2
        else:
            content = (~padding[..., None]).to(y.dtype)
            content /= content.sum(1, keepdim=True).clamp(min=1)
            mean, share = (content.mT @ self.y_hat)[:, 0], content * y_rstd / patches
        embedding = torch.addcmul(ln_post.bias, mean, ln_post.weight) @ proj
        self.length = embedding.norm(dim=-1, keepdim=True).clamp_(min=1e-12)
        self.embedding = embedding / self.length
        # The mean's gradient behind ln_post is one vector c a class; at patch p it is share_p rstd_p (c - b_p y_hat_p)
        # with c centred and b_p = mean(c y_hat_p). So the MLP's second layer sees c and y_hat_p apart: the latter here.
        # As a mean over patches is asked for in the end, their number divides everything here.
        self.share = share
        self.slope = activation.backward(share.to(hidden.dtype), hidden)
        self.slope_of_y = products.matmul('c_proj', _scaled(self.y_hat, self.gamma_2), mlp.c_proj.weight)
        self.slope_of_y.mul_(self.slope)

    @torch.no_grad()
    def mean_gradient(self, gradient: Tensor) -> Tensor:
        """From the gradients of some scores at the embedding to those at the first norm, averaged over patches.

        Args:
            gradient: B N E, of N scores of each image with respect to :attr:`embedding`.

        Returns:
            B N D: mean over the patches of the gradients with respect to :attr:`activations`.
        """
        block = self.block
        step = max(1, at_once(self.activations, self.slope.shape[-1]) // max(1, len(gradient)))
        along = gradient @ self.embedding[..., None]  # what only changes the length
        gradient = torch.addcmul(gradient, along, self.embedding[:, None], value=-1) / self.length[:, None]
        c = gradient @ self.proj.T * self.ln_post.weight
        c = c - c.mean(-1, keepdim=True)
        b = c @ self.y_hat.mT  # D times the b above: B N P
        before = self.products.matmul('c_proj', _scaled(c, self.gamma_2), block.mlp.c_proj.weight)
        behind = joined([self._at_projections(*some) for some in zip(*(x.split(step, 1) for x in (c, b, before)),
                                                                     strict=True)], 1)
        return self.products.matmul('in_proj', behind, block.attn.in_proj_weight).to(gradient.dtype)

    def _at_projections(self, c: Tensor, b: Tensor, hidden: Tensor) -> Tensor:
        """B N 3D, sums over patches of the gradients at queries, keys and values.

        Args:
            c, b, hidden: B N D, B N P and B N 4D, gradients behind ``ln_post`` as in :meth:`mean_gradient`.
        """
        block, c, b, minus = self.block, c[:, :, None], b[..., None], -1 / c.shape[-1]
        # Back through the MLP and ln_2 to the sum behind attention: B N P D.
        hidden = self.slope[:, None] * hidden[:, :, None]
        hidden.addcmul_(b.to(hidden.dtype), self.slope_of_y[:, None], value=minus)
        inner = self.products.matmul('c_fc', hidden, block.mlp.c_fc.weight).to(c.dtype)
        del hidden
        inner = _norm_backward(inner, block.ln_2, *self.normed)
        inner.addcmul_(torch.addcmul(c, b, self.y_hat[:, None], value=minus), self.share[:, None])
        return self._through_attention(
            self.products.matmul('out_proj', _scaled(inner, self.gamma_1), block.attn.out_proj.weight))

    def _through_attention(self, gradient: Tensor) -> Tensor:
        """From B N P D, gradients at the mixed values, to their sum over patches at queries, keys and values: B N 3D.

        No P x P matrix is made for a score. With a the attention weights, o the mixed values, g their gradient and
        e_i = g_i . o_i, softmax gives ds_ij = a_ij (g_i . v_j - e_i) = a_ij [g_i, e_i] . [v_j, -1]. Asked for are

        - for the queries, sum_ij ds_ij k_j, where sum_i ds_ij = (a^T [g, e])_j . [v_j, -1];
        - for the keys, the sum over *patches* j of sum_i ds_ij q_i: as every row of ds sums to zero over all keys, that
          is -ds_i0 q_i with the class token as key 0;
        - for the values, the sum over patches j of a_ij g_i, which is (1 - a_i0) g_i.
        """
        g = gradient.unflatten(3, self.mixed.shape[2:])  # B N P heads d
        e = (g * self.mixed[:, None]).sum(-1, keepdim=True)
        # B heads T N d+1: none at the class token, whose output is not read.
        both = F.pad(torch.cat([each.permute(0, 3, 2, 1, 4) for each in (g, e)], -1), (0, 0, 0, 0, 1, 0))
        side = both.flatten(3)
        back = (self.heads.weights.mT @ side).unflatten(3, both.shape[3:])
        of_q = (back * self.v_and_one[:, :, :, None]).sum(-1).mT @ self.heads.keys  # B heads N d
        with_class = (both.flatten(2, 3) @ self.v_and_one[:, :, 0, :, None]).view(both.shape[:-1])
        of_k = (with_class * self.minus_class).mT @ self.heads.queries
        of_v = (self.to_others.mT @ side).view(*of_q.shape[:-1], -1)[..., :-1]
        return torch.stack([of.transpose(1, 2) for of in (of_q, of_k, of_v)], 2).flatten(2)


def _scaled(x: Tensor, gamma: Tensor | None) -> Tensor:
    """``x`` times a layer scale, if there is one."""
    return x if gamma is None else x * gamma


def _norm(x: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor, Tensor]:
    """What ``norm`` makes of ... D; the mean and one over the deviation that x had, ... 1."""
    return torch.native_layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _norm_backward(gradient: Tensor, norm: nn.LayerNorm, x: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
    """From the gradients behind ``norm``, B N ... D, to those in front of it, where x is B ... D."""
    x, mean, rstd = (each[:, None].expand(*gradient.shape[:-1], -1).contiguous() for each in (x, mean, rstd))
    return torch.ops.aten.native_layer_norm_backward(
        gradient, x, norm.normalized_shape, mean, rstd, norm.weight, norm.bias, [True, False, False])[0]
