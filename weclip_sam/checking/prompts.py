"""Whether CLIP can read the names of a data set: its text tower takes 77 tokens, and cuts nothing off in silence."""
from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from weclip_sam.checking.findings import Report
from weclip_sam.foundation.clip import count_tokens
from weclip_sam.foundation.clip_card import find_card
from weclip_sam.registry import MODELS


def check_prompt_lengths(model: Mapping[str, Any], names: Mapping[str, Sequence[str]], report: Report) -> None:
    """Find classes and background nouns whose prompt is longer than what a model's CLIP reads.

    Args:
        model: the config of a model; one without a CLIP, or with learnt prompts, has nothing to find.
        names: ``classes``, ``prompt_names`` and ``background_nouns``.
        report: gets an error for each name.
    """
    kind = model.get('type')
    target = MODELS.get(kind) if isinstance(kind, str) else kind
    clip = model.get('clip')
    if target is None or not isinstance(clip, Mapping) or model.get('prompts'):
        return
    sentences = _sentences(model, inspect.signature(target).parameters)
    length = _context_length(clip)
    if length is None or not sentences:
        return
    for name, text in zip(names['classes'], names['prompt_names'], strict=True):
        if (used := _tokens(text, sentences)) > length:
            report.add('error', 'class names', 'model', f'class {name!r:.200}: its prompt needs {used} tokens, but '
                       f'CLIP reads {length}: shorten the name, or give the class a short text in prompts.json, '
                       '{"name of the class": "short text"}')
    for noun in names['background_nouns']:
        if (used := _tokens(noun, sentences)) > length:
            report.add('error', 'class names', 'model', f'background noun {noun!r:.200}: its prompt needs {used} '
                       f'tokens, but CLIP reads {length}: shorten it in background.txt')


def _sentences(model: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """What names are put into, as the model does it."""
    if 'templates' in parameters:
        templates = model.get('templates', parameters['templates'].default)
        fine = isinstance(templates, (list, tuple)) and all(isinstance(each, str) for each in templates)
        return [each for each in templates if each.count('{}') == 1] if fine else []
    if 'n_ctx' in parameters:  # learns vectors in place of words
        words = model.get('ctx_init') or ' '.join(['X'] * int(model.get('n_ctx', parameters['n_ctx'].default)))
        return [f'{str(words).replace("_", " ")} {{}}.']
    return []


def _tokens(name: str, sentences: Sequence[str]) -> int:
    return max(count_tokens(sentence.replace('{}', name)) for sentence in sentences)


def _context_length(clip: Mapping[str, Any]) -> int | None:
    arch = clip.get('arch', 'ViT-B-16-quickgelu')
    try:
        return 77 if arch == 'auto' else int(find_card(arch)['text_cfg']['context_length'])
    except (ValueError, OSError, KeyError, TypeError, AttributeError):
        return None  # the check of the model's parts says what is wrong with it
