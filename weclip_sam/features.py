"""What a frozen encoder saw, and what somebody wants of it: said before the encoder runs, so that nothing else is kept.

The shape legend is in :mod:`weclip_sam.structures`.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, overload

import torch
from torch import Tensor

from weclip_sam.checks import select_layers


class Named(Protocol):
    """Things by name, as in a dict or a ``ModuleDict``."""

    def __getitem__(self, name: str, /) -> Any: ...

    def __contains__(self, name: str, /) -> bool: ...


@dataclass(frozen=True)
class Wanted:
    """What is read of an encoder's features. An encoder computes and keeps that, and no more.

    Attributes:
        tokens: blocks whose output is read.
        attentions: blocks whose attention is read by itself.
        means: groups of blocks (ascending) of which the mean attention between patches alone is read: one buffer.
        heads: blocks whose attention somebody goes back through, head by head (:class:`Heads`). Kept where there is
            room for it: who reads it must be able to make it again.

    Two of them add up by ``|``. None, in their place everywhere, stands for everything.
    """

    tokens: frozenset[int] = frozenset()
    attentions: frozenset[int] = frozenset()
    means: frozenset[tuple[int, ...]] = frozenset()
    heads: frozenset[int] = frozenset()

    def __or__(self, other: Wanted) -> Wanted:
        return Wanted(self.tokens | other.tokens, self.attentions | other.attentions, self.means | other.means,
                      self.heads | other.heads)

    @classmethod
    def last_block_input(cls, layers: int) -> Wanted:
        """The tokens that enter the last of ``layers`` blocks.

        Raises:
            ValueError: there is a single block.
        """
        if layers < 2:
            raise ValueError(f'input of the last block: expected an encoder of at least 2 blocks, got {layers}')
        return cls(tokens=frozenset({layers - 2}))

    @classmethod
    def mean_attention(cls, layers: int, chosen: int | Sequence[int]) -> Wanted:
        """The mean attention of the last n of ``layers`` blocks, or of blocks by index."""
        return cls(means=frozenset({mean_key(chosen, layers)}))

    @classmethod
    def everything(cls, layers: int) -> Wanted:
        """All tokens and all attentions of ``layers`` blocks."""
        return cls(frozenset(range(layers)), frozenset(range(layers)))

    def attended(self, block: int) -> bool:
        """Whether the attention of ``block`` is read, by itself or in a mean."""
        return block in self.attentions or any(block in group for group in self.means)

    @property
    def last(self) -> int:
        """The last block that has to run; -1 where nothing is wanted."""
        return max((*self.tokens, *self.attentions, *self.heads, *(block for group in self.means for block in group)),
                   default=-1)


def wanted_by_all(wishes: Iterable[Mapping[str, Wanted | None]]) -> dict[str, Wanted | None]:
    """Add up wishes of several readers, each by name of the encoder; None (everything) stays None."""
    total: dict[str, Wanted | None] = {}
    for wish in wishes:
        for name, wanted in wish.items():
            before = total.get(name, Wanted())
            total[name] = None if wanted is None or before is None else before | wanted
    return total


def wishes(reader: Any, needs: Iterable[str], encoders: Named, decoder_heard: bool) -> dict[str, Any]:
    """What a step or decoder reads of the encoders that it needs, by name: what its ``wants`` says, or everything."""
    said = reader.wants(encoders, decoder_heard) if hasattr(reader, 'wants') else {}
    return {name: said.get(name) for name in sorted(needs) if name in encoders}


def mean_key(chosen: int | Sequence[int], layers: int) -> tuple[int, ...]:
    """Ascending indices of the last n of ``layers`` blocks, or of blocks by index: how a mean is called."""
    return tuple(sorted(select_layers(chosen, layers, 'attention layers')))


class Kept(Sequence[Tensor]):
    """Tensors of some of an encoder's blocks: indexed like a list of all, an error for those that nobody asked for.

    Args:
        what: what they are, for the error.
        blocks: L, the blocks of the encoder.
        kept: tensors by block.
    """

    def __init__(self, what: str, blocks: int, kept: Mapping[int, Tensor]) -> None:
        self.what, self.blocks, self.kept = what, blocks, dict(kept)

    def __len__(self) -> int:
        return self.blocks

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...

    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        blocks = range(self.blocks)
        if isinstance(index, slice):
            return [self[block] for block in blocks[index]]
        block = blocks[index]
        if block not in self.kept:
            raise ValueError(f'features: the {self.what} of block {block} were not asked for (kept: '
                             f'{sorted(self.kept)}); name them in what the encoder is asked for (wants)')
        return self.kept[block]


@dataclass(frozen=True)
class Heads:
    """A block's attention head by head, and what it was made of; all but ``normed`` in the encoder's precision.

    Attributes:
        normed: B 1+P D, what the block's first norm makes of its input.
        queries, keys, values: B heads 1+P d.
        weights: B heads 1+P 1+P, rows sum to one.
    """

    normed: Tensor
    queries: Tensor
    keys: Tensor
    values: Tensor
    weights: Tensor

    def of(self, images: slice) -> Heads:
        """Those of some of the images."""
        return Heads(self.normed[images], self.queries[images], self.keys[images], self.values[images],
                     self.weights[images])


@dataclass(frozen=True)
class ClipFeatures:
    """What the frozen image encoder saw.

    Attributes:
        tokens: the output of every block: L B 1+P D, or :class:`Kept` B 1+P D of the blocks that were asked for.
        attentions: softmax attention averaged over heads, rows sum to one: L B 1+P 1+P, :class:`Kept` B 1+P 1+P, or
            None from encoders without any.
        grid: (h, w), so that P = h * w.
        padding: B P bool, patches that nobody attended to because they are padding, or None.
        means: B P P mean attention between patches of groups of blocks, by :func:`mean_key`.
        heads: :class:`Heads` by block.
    """

    tokens: Tensor | Kept
    attentions: Tensor | Kept
    grid: tuple[int, int]
    padding: Tensor | None = None
    means: Mapping[tuple[int, ...], Tensor] = field(default_factory=dict)
    heads: Mapping[int, Heads] = field(default_factory=dict)

    @property
    def last_block_input(self) -> Tensor:
        """B 1+P D: what enters the last block."""
        return self.tokens[-2]

    def entering_last_block(self, tokens: Tensor, attention: Tensor) -> ClipFeatures:
        """The same features as if other ``tokens`` (B 1+P D) had entered the last block, with the ``attention``
        (B 1+P 1+P) that they have there.

        Raises:
            ValueError: there is a mean that the last block has a share in, but its own attention was not asked for.
        """
        blocks = len(self.tokens)
        known, last = (self.tokens, self.attentions), blocks - 1
        changed = (Kept('tokens', blocks, {**_as_kept(known[0]), blocks - 2: tokens}),
                   Kept('attentions', blocks, {**_as_kept(known[1]), last: attention}))
        means = {group: mean + (attention[:, 1:, 1:] - self.patch_attention(last)) / len(group) if last in group
                 else mean for group, mean in self.means.items()}
        return replace(self, tokens=changed[0], attentions=changed[1], means=means, heads={})

    def patch_attention(self, block: int) -> Tensor:
        """B P P: attention of one block between patches; the class token dropped, rows not renormalised.

        Raises:
            ValueError: it was not asked for.
        """
        return self.attentions[block][:, 1:, 1:]

    def patch_attentions(self) -> Tensor:
        """L B P P: :meth:`patch_attention` of every block; all must have been kept."""
        if isinstance(self.attentions, Tensor):
            return self.attentions[:, :, 1:, 1:]
        return torch.stack([self.patch_attention(block) for block in range(len(self.attentions))])

    def mean_attention(self, layers: int | Sequence[int]) -> Tensor:
        """B P P float32: mean of :meth:`patch_attention` over the last n blocks, or over blocks by index.

        Raises:
            ValueError: no such blocks, or neither this mean nor all its blocks were asked for.
        """
        key = mean_key(layers, len(self.attentions))
        if key in self.means:
            return self.means[key]
        return mean_of([self.patch_attention(block) for block in key])


@dataclass(frozen=True)
class TokenFeatures:
    """What a frozen encoder other than CLIP saw.

    Attributes:
        tokens: B 1+P D of every block, the class token first: L B 1+P D, or :class:`Kept` of those asked for.
        grid: (h, w), so that P = h * w.
        used: in a graph for images of any size (:mod:`weclip_sam.foundation.graph`) the rows and columns of the grid
            that show the image, as 2 int64; the others are padding. None: all of them.
    """

    tokens: Tensor | Kept
    grid: tuple[int, int]
    used: Tensor | None = None


class BankedTokens(NamedTuple):
    """What an encoder saw of one image, kept on disk and brought into the image's frame by the data set.

    Attributes:
        tokens: h w D, of cells of ``stride`` pixels; zero where there is padding.
        block: whose output they are.
        stride: side of a cell, in pixels.
    """

    tokens: Tensor
    block: int
    stride: int


def _as_kept(tensors: Tensor | Kept) -> Mapping[int, Tensor]:
    return dict(enumerate(tensors)) if isinstance(tensors, Tensor) else tensors.kept


def mean_of(tensors: Sequence[Tensor]) -> Tensor:
    """Mean of equally shaped tensors, in float32 and in one buffer."""
    total = tensors[0].float().clone()
    for tensor in tensors[1:]:
        total += tensor
    return total.div_(len(tensors))


def joined(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """``torch.cat`` that copies nothing where there is a single tensor."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), dim)
