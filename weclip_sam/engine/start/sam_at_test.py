"""SAM when a model is used: what ``--sam`` means, and where a refinement that looks at SAM finds its masks.

Masks of an image come from a bank, if one has them, or are made live by the config's ``mask_generator``.
"""
from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from weclip_sam.checks import suggest_name
from weclip_sam.engine.start.shared_settings import mask_settings
from weclip_sam.foundation.named_sam import named_generator
from weclip_sam.mask_bank import HEADER
from weclip_sam.models.refine import OF_SAM, refinement_steps
from weclip_sam.seeds.pipeline import steps_need

# What --sam does unless the config's ``sam`` says otherwise; chosen on tune (docs/results.md).
SAM_AT_TEST: dict[str, Any] = dict(
    refine=[dict(type='PromptedSam', min_iou=0.5, weight=0.7), dict(type='VotePrediction', weight=0.7)],
    order=('sam', 'crf'))
WITHOUT = 'without_sam'
LOADERS = ('val_dataloader', 'test_dataloader')


def looks_at_sam(steps: Sequence[Mapping[str, Any]]) -> bool:
    """Whether any of these steps (configs) needs masks or a SAM that answers prompts."""
    return bool(steps_need(steps) & OF_SAM)


def sam_protocol(config: Mapping[str, Any], sam: bool | str | Mapping[str, Any],
                 crf: Mapping[str, Any] | None) -> dict[str, Any]:
    """The entries of a model's ``test`` that ``--sam`` sets: ``refine``, ``crf`` and, for a named SAM,
    ``mask_generator``.

    Args:
        config: its ``sam`` (``refine``: steps, ``order``: of ``'sam'`` and ``'crf'``) is what is done. Where the
            model's own ``test.refine`` looks at SAM already, that is.
        sam: True; the name or file of a SAM (:func:`named_generator`); or settings instead of the config's ``sam``,
            with ``mask_generator`` where another one than the config's is meant.
        crf: arguments of the CRF if there is to be one, too.

    Raises:
        ValueError: an unknown setting, order or SAM.
    """
    chosen = {**SAM_AT_TEST, **(config.get('sam') or {}), **(sam if isinstance(sam, Mapping) else {})}
    known = {*SAM_AT_TEST, 'mask_generator'}
    for name in sorted(set(chosen) - known):
        raise ValueError(f'sam: unknown setting {name!r}.{suggest_name(name, known)} It takes {sorted(known)}')
    if sorted(chosen['order']) != ['crf', 'sam']:
        raise ValueError(f"sam.order: expected ('sam', 'crf') or ('crf', 'sam'), got {chosen['order']!r}")
    own = [dict(step) for step in ((config.get('model') or {}).get('test') or {}).get('refine') or ()]
    steps = own if looks_at_sam(own) else [*own, *(dict(step) for step in chosen['refine'])]
    settings: dict[str, Any] = dict(refine=steps)
    if crf is not None and chosen['order'][0] == 'crf':
        settings.update(refine=[dict(type='Crf', normalise=False, crf=dict(crf)), *steps], crf=None)
    elif crf is not None:
        settings['crf'] = dict(crf)
    if isinstance(sam, str):
        settings['mask_generator'] = named_generator(sam, mask_settings(config)['generator'])
    elif chosen.get('mask_generator') is not None:
        settings['mask_generator'] = chosen['mask_generator']
    return settings


def fill_sam_at_test(config: MutableMapping[str, Any]) -> None:
    """Where the model's ``test.refine`` looks at SAM, give it the config's mask generator, and the data sets of
    validation and test their masks from a bank and their images at the size of the file.

    Args:
        config: a whole config, changed in place. Filling it again changes nothing.

    Raises:
        ValueError: steps ask for masks or answers, and nothing says where they come from.
    """
    test = (config.get('model') or {}).get('test') or {}
    if not looks_at_sam(test.get('refine') or ()):
        return
    fill_generator(config)
    for loader in LOADERS:
        dataset = (config.get(loader) or {}).get('dataset')
        if dataset is None:
            continue
        dataset['pipeline'] = [dict(step, refine=True) if step['type'] == 'PackSample' else step
                               for step in dataset.get('pipeline') or ()]
        split = (dataset.get('reader') or {}).get('split')
        bank = _asked(dataset.get('mask_bank')) or _found(config, [split, 'val', 'train'])
        if bank is not None:
            missing = 'error' if test.get('mask_generator') is None else 'none'
            dataset['mask_bank'] = dict(dict(missing=missing), **bank)


def fill_generator(config: MutableMapping[str, Any]) -> None:
    """Give the model's ``test`` settings, whose ``refine`` looks at SAM, the config's mask generator unless they have
    one.

    Raises:
        ValueError: there is none, and no bank either, or steps that ask more than a bank holds.
    """
    test, generator = config['model']['test'], mask_settings(config)['generator']
    if test.get('mask_generator') is None:
        test['mask_generator'] = copy.deepcopy(generator)
    banks = [bank for loader in LOADERS if (bank := ((config.get(loader) or {}).get('dataset') or {}).get('mask_bank'))]
    banks += banks_there(config)
    if test['mask_generator'] is None and ('prompter' in steps_need(test['refine']) or not banks):
        besides = 'a bank answers no prompts' if banks else 'there is no bank of masks (mask_bank)'
        raise ValueError('SAM at test: nothing says which SAM is to be asked. The setting mask_generator is missing at '
                         f'the top of the config, and {besides}; name one: --sam tiny, --sam vit_b, --sam FILE '
                         "(in Python sam='tiny')")


def banks_there(config: Mapping[str, Any], splits: Sequence[str | None] = ('val', 'train')) -> list[str]:
    """The banks of these splits that are on the disk, each once, if the masks of predictions are to come from them:
    not where another SAM was named than the config's.
    """
    generator = ((config.get('model') or {}).get('test') or {}).get('mask_generator')
    if generator is not None and generator != mask_settings(config)['generator']:
        return []
    named = [mask_settings(config, split)['bank'] for split in splits if split]
    return [bank for bank in dict.fromkeys(named) if bank is not None and (Path(bank) / HEADER).is_file()]


def _asked(bank: Any) -> dict[str, Any] | None:
    """A bank that the data set names itself: masks of other photos are an error."""
    if bank is None:
        return None
    return dict(dict(others='error'), **(bank if isinstance(bank, Mapping) else dict(bank=bank)))


def _found(config: Mapping[str, Any], splits: Sequence[str | None]) -> dict[str, Any] | None:
    """A bank that is there; masks of other photos count as missing."""
    banks = banks_there(config, splits)
    return dict(bank=banks[0], others='missing') if banks else None


def score_without_sam(config: Config) -> None:
    """Where a test refines with SAM, score the same predictions without it, too, and tell what SAM costs."""
    test = (config.get('model') or {}).get('test') or {}
    steps = refinement_steps(test)
    if not looks_at_sam(steps) or WITHOUT in (test.get('beside') or {}):
        return
    plain = [step for step in steps if not looks_at_sam([step])]
    config.model.test = ConfigDict({**test, 'beside': {**(test.get('beside') or {}), WITHOUT: plain}})
    given = config.get('test_evaluator') or []
    config.test_evaluator = [*(given if isinstance(given, (list, tuple)) else [given]),
                             dict(type='IoUMetric', prediction_key=f'prediction_{WITHOUT}', prefix=WITHOUT,
                                  print_table=False), dict(type='SamCost')]
