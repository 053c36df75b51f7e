"""Learnt prompts (CoOp, https://arxiv.org/abs/2109.01134, as in FMA-WSSS): context vectors around class names."""
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from weclip_sam.checks import suggest_name
from weclip_sam.commands import tool
from weclip_sam.foundation.clip import FrozenClip
from weclip_sam.io.files import atomic_open
from weclip_sam.io.names import normal
from weclip_sam.registry import MODELS

POSITIONS = ('front', 'middle', 'end')
CONTEXTS = ('shared', 'per_class')
FORMAT = 'weclip_sam prompts 1'


@MODELS.register_module()
class PromptLearner(nn.Module):
    """One sentence per name: ``[start] context and name in some order . [end]``, with learnable context vectors.

    The only parameter is ``context``: M Dt (shared) or Q M Dt (Q sets). Everything else is looked up once in the
    frozen text tower, which is passed in and not kept.

    Args:
        clip: the frozen CLIP.
        names: N names (classes, then background prompts); ``''`` is an empty name, ``_`` reads as a blank.
        n_ctx: M, context vectors per prompt.
        position: of the name: ``front`` of the context, ``middle`` (behind the first M // 2 vectors) or ``end``.
        context: ``shared`` by all names, ``per_class``, or a list with the index of each name's set.
        ctx_init: words to start from, ``'a photo of a'``; overrides ``n_ctx`` with their number of tokens (the public
            code counts words, which cuts words of several tokens short). Blanks or ``_`` between the words.
        init_std: of random contexts.
        generator: of the random numbers; the global one if None.

    Raises:
        ValueError: unknown position or context, no names, or a prompt that does not fit the text tower.
    """

    tokens: Tensor
    name_lengths: Tensor
    embeddings: Tensor
    sources: Tensor
    groups: Tensor | None  # None: one set of vectors for all

    def __init__(self, clip: FrozenClip, names: Sequence[str], n_ctx: int = 16, position: str = 'end',
                 context: str | Sequence[int] = 'shared', ctx_init: str | None = None, init_std: float = 0.015,
                 generator: torch.Generator | None = None) -> None:
        super().__init__()
        if position not in POSITIONS:
            raise ValueError(f'PromptLearner position: expected one of {POSITIONS}, got {position!r}.'
                             f'{suggest_name(str(position), POSITIONS)}')
        if isinstance(names, str) or not names:
            raise ValueError(f'PromptLearner names: expected a list of names, got {names!r}')
        words = ctx_init.replace('_', ' ') if ctx_init else None
        if words is not None:
            n_ctx = int(clip.tokenize([words]).argmax(-1)) - 1
        if n_ctx < 1:
            raise ValueError(f'PromptLearner n_ctx: expected at least 1 context vector, got {n_ctx}')
        self.names, self.n_ctx, self.position, self.context_kind = tuple(names), n_ctx, position, context
        spoken = [name.replace('_', ' ') for name in names]
        prefix = words if words is not None else ' '.join(['X'] * n_ctx)
        tokens = clip.tokenize([f'{prefix} {name}.' for name in spoken])
        name_lengths = clip.tokenize(spoken).argmax(-1) - 1
        self.register_buffer('tokens', tokens, persistent=False)
        self.register_buffer('name_lengths', name_lengths, persistent=False)
        self.register_buffer('embeddings', clip.token_embedding(tokens).detach().float(), persistent=False)
        self.register_buffer('sources', _sources(name_lengths, tokens.shape[1], n_ctx, position), persistent=False)
        groups = _groups(context, len(names))
        self.register_buffer('groups', groups, persistent=False)
        width = self.embeddings.shape[-1]
        shape: tuple[int, ...] = (n_ctx, width) if groups is None else (int(groups.max()) + 1, n_ctx, width)
        if words is not None:
            start = clip.token_embedding(clip.tokenize([words]))[0, 1:1 + n_ctx].detach().float()
            self.context = nn.Parameter(start.expand(shape).clone())
        else:
            start = torch.empty(shape).normal_(std=init_std, generator=generator)
            self.context = nn.Parameter(start.to(tokens.device))

    def forward(self) -> Tensor:
        """N T Dt token embeddings of the assembled prompts."""
        count = len(self.names)
        context = self.context.expand(count, -1, -1) if self.groups is None else self.context[self.groups]
        parts = torch.cat([self.embeddings, context], 1)
        return parts.gather(1, self.sources[..., None].expand(-1, -1, parts.shape[-1]))

    def text_embeddings(self, clip: FrozenClip) -> Tensor:
        """N E, not normalised; differentiable with respect to ``context``."""
        return clip.encode_text_embeddings(self(), self.tokens.argmax(-1))

    def text_features(self, clip: FrozenClip) -> Tensor:
        """N E of unit norm, what the seed pipeline calls ``text_features``."""
        return F.normalize(self.text_embeddings(clip).float(), dim=-1)


def _sources(name_lengths: Tensor, length: int, n_ctx: int, position: str) -> Tensor:
    """N T: for every place of the prompt its row among T token embeddings followed by M context vectors.

    The tokens were laid out as ``start, M placeholders, name, rest``. Moving the context vectors around the name keeps
    start and rest where they are.
    """
    place = torch.arange(length, device=name_lengths.device)[None]
    before = {'front': 0, 'middle': n_ctx // 2, 'end': n_ctx}[position]
    name_start = 1 + before
    name_end = name_start + name_lengths[:, None]
    body_end = 1 + n_ctx + name_lengths[:, None]
    first = length + place - 1                    # context vectors before the name
    name = place - name_start + 1 + n_ctx         # where the tokenizer put the name
    second = length + before + place - name_end   # context vectors behind the name
    source = torch.where(place < name_start, first, torch.where(place < name_end, name, second))
    outside = (place < 1) | (place >= body_end)
    return torch.where(outside, place, source)


def _groups(context: str | Sequence[int], count: int) -> Tensor | None:
    if isinstance(context, str):
        if context not in CONTEXTS:
            raise ValueError(f'PromptLearner context: expected one of {CONTEXTS} or a list with the set of each name, '
                             f'got {context!r}.{suggest_name(context, CONTEXTS)}')
        return None if context == 'shared' else torch.arange(count)
    groups = torch.as_tensor(list(context))
    if groups.shape != (count,) or groups.is_floating_point() or groups.min() < 0:
        raise ValueError(f'PromptLearner context: expected the index (>= 0) of a set of vectors for each of the '
                         f'{count} names, got {list(context)}')
    return groups.long()


def save_prompts(path: str | Path, learner: PromptLearner, arch: str = '') -> None:
    """Write learnt prompts as safetensors (atomically): the context vectors, and in the header what assembles them."""
    context = learner.context_kind
    card = dict(format=FORMAT, names=list(learner.names), n_ctx=learner.n_ctx, position=learner.position, arch=arch,
                context=context if isinstance(context, str) else [int(i) for i in context])
    data = safetensors.torch.save({'context': learner.context.detach().float().cpu().contiguous()},
                                  metadata={'prompts': json.dumps(card)})
    with atomic_open(path) as file:
        file.write(data)


def read_prompts(path: str | Path, clip: FrozenClip) -> PromptLearner:
    """Load a :class:`PromptLearner` that :func:`save_prompts` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, a truncated one, or prompts learnt for another text tower.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'learnt prompts {path} do not exist: train a PromptTuner with {tool("train")} first')
    try:
        with safe_open(path, framework='pt') as file:
            card: dict[str, Any] = json.loads((file.metadata() or {})['prompts'])
            context = file.get_tensor('context')
        if card['format'] != FORMAT:
            raise KeyError(card['format'])
        settings = dict(n_ctx=card['n_ctx'], position=card['position'], context=card['context'])
        names = card['names']
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f'{path} holds no learnt prompts ({FORMAT!r}, as PromptTuner saves them): {error}') from error
    learner = PromptLearner(clip, names, **settings)
    if context.shape != learner.context.shape:
        raise ValueError(f'{path}: context vectors have shape {tuple(context.shape)}, this text tower '
                         f'({clip.arch}) needs {tuple(learner.context.shape)}; they were learnt on {card["arch"]!r}')
    with torch.no_grad():
        learner.context.copy_(context)
    return learner


@torch.no_grad()
def start_from(learner: PromptLearner, learnt: PromptLearner, path: str | Path) -> None:
    """Set the context vectors of ``learner`` to those of ``learnt``; a shared set serves every set of ``learner``.

    Raises:
        ValueError: vectors of another number or width, or sets of other classes; names ``path``.
    """
    wanted, given = learner.context.shape, learnt.context.shape
    if given not in (wanted, wanted[-2:]):
        raise ValueError(f'{path}: context vectors have shape {tuple(given)}, but {tuple(wanted)} or '
                         f'{tuple(wanted[-2:])} are needed to start from; learn both with the same n_ctx')
    if given == wanted and len(wanted) > 2 and learner.names != learnt.names:
        raise ValueError(f'{path}: its sets of context vectors belong to {", ".join(learnt.names[:5])}..., not to '
                         f'{", ".join(learner.names[:5])}...; learn them for these names, or start from a shared set')
    learner.context.copy_(learnt.context.expand(wanted))


@torch.no_grad()
def load_prompts(path: str | Path, clip: FrozenClip, names: Sequence[str] | None = None) -> Tensor:
    """Text features of learnt prompts, for the seed pipeline.

    Args:
        path: a file from :func:`save_prompts`.
        clip: the frozen CLIP they were learnt on.
        names: the class names expected, in order; background prompts follow and are not compared.

    Returns:
        C+G E of unit norm.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_prompts`; also when the classes are others.
    """
    learner = read_prompts(path, clip)
    learnt = tuple(map(normal, learner.names))
    if names is not None and learnt[:len(names)] != tuple(map(normal, names)):
        # A list that merely ends early has no differing pair.
        wrong = next((pair for pair in zip(learnt, map(normal, names), strict=False) if pair[0] != pair[1]),
                     ('the end', names[-1]))
        raise ValueError(f'{path}: prompts were learnt for other classes ({wrong[0]!r} where {wrong[1]!r} is expected)')
    return learner.text_features(clip)
