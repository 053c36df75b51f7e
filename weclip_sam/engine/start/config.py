"""Reading configs: missing files, misspelt keys and options are errors with the nearest match, not silence."""
from __future__ import annotations

import ast
import copy
import difflib
import inspect
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

from weclip_sam.checks import suggest_name

# Keys that mmengine reads from the config itself, besides the arguments of Runner.
_EXTRA_KEYS = {'custom_imports', 'sync_bn', 'find_unused_parameters', 'model_wrapper_cfg', 'compile',
               'activation_checkpointing', 'efficient_conv_bn_eval'}
_RUNNER_KEYS = (set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}) | _EXTRA_KEYS


def load_config(path: str | os.PathLike, options: dict[str, Any] | Sequence[str] | None = None) -> Config:
    """Read a config file and apply command-line options.

    Args:
        path: a python config.
        options: dotted keys with values (``{'optim_wrapper.optimizer.lr': 1e-4}``), or ``key=value`` strings. A new
            value of a variable (``data_root``, ``mask_bank``, ``mask_generator.…``) holds for every setting that was
            copied from it; what is not copied but filled in (:mod:`shared_settings`) follows later.

    Raises:
        FileNotFoundError: no such file (names the nearest config).
        ValueError: the file cannot be parsed, a key is misspelt, or an option's key does not exist.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such config.{_nearest_config(path)}')
    if path.suffix not in ('.py', '.json', '.yaml', '.yml'):
        raise ValueError(f'{path}: a config is a .py file, got {path.suffix or "no suffix"}')
    try:
        config = Config.fromfile(str(path))
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{path}: its _base_ is missing: {error}') from None
    except (SyntaxError, NameError, KeyError, TypeError, AttributeError) as error:
        where = f' (line {error.lineno})' if isinstance(error, SyntaxError) else ''
        raise ValueError(f'{path}: {type(error).__name__}{where}: {error}') from None
    _check_top_level(config, path)
    if options:
        parsed = parse_options(options) if not isinstance(options, dict) else options
        variables = {key.split('.')[0] for key in parsed} - _RUNNER_KEYS
        before = {name: copy.deepcopy(config[name]) for name in variables if name in config}
        apply_options(config, parsed)
        # Containers first: once a string inside a copy has changed, the copy is no longer told by its old value.
        for name, old in sorted(before.items(), key=lambda item: (isinstance(item[1], str), item[0])):
            if config[name] != old:
                _carry(config, name, old)
    return config


def _carry(config: Config, name: str, old: Any) -> None:
    """An option changes only a variable itself; carry it on to the settings that were copied from it.

    Raises:
        ValueError: for a number, which may stand elsewhere by chance.
    """
    places = [place for key, value in config._cfg_dict.items() if key != name
              for place in _places_of(value, old, (key,))]
    if places and not isinstance(old, (str, dict, list)):
        keys = ' '.join(f'{".".join(map(str, place))}={config[name]}' for place in places)
        raise ValueError(f'--cfg-options {name}: this variable was copied when the config was read, and other settings '
                         f'may be {old} by chance; name those you mean: {keys}')
    for *path, last in places:
        node: Any = config._cfg_dict
        for part in path:
            node = node[part]
        node[last] = copy.deepcopy(config[name])


def _places_of(node: Any, value: Any, path: tuple) -> Iterator[tuple]:
    if type(node) is type(value) and node == value:
        yield path
        return
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, below in items:
        yield from _places_of(below, value, (*path, key))


def _nearest_config(path: Path) -> str:
    """A config whose name, with or without its folders, is like the one asked for."""
    for folder in path.parents:
        if folder.name == 'configs' and folder.is_dir():
            break
    else:
        folder = Path('configs')
    known = sorted(p for p in folder.glob('**/*.py') if '_base_' not in p.parts)
    by_name = {p.name: str(p) for p in known}
    near = difflib.get_close_matches(path.name, by_name, n=1, cutoff=0.5)
    return f" Did you mean '{by_name[near[0]]}'?" if near else ''


def parse_options(options: Sequence[str]) -> dict[str, Any]:
    """``['a.b=1', "c=['x y']", 'd=p,q']`` as a dict.

    A value is read as a Python literal; what is none is a text as it stands, blanks and all. ``true`` and ``false``
    are truth values. As with mmengine, commas make a list (``p,q``) and names in brackets need no quotes (``[p,q]``);
    a path, which has a slash, may hold commas.
    """
    parsed: dict[str, Any] = {}
    for option in options:
        key, sign, value = option.partition('=')
        if not sign or not key.strip():
            raise ValueError(f"--cfg-options: expected key=value, got '{option}'")
        parsed[key.strip()] = _option_value(value)
    return parsed


def _option_value(text: str) -> Any:
    text = text.strip()
    if text.lower() in ('true', 'false'):
        return text.lower() == 'true'
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    else:
        return list(value) if isinstance(value, tuple) and not text.startswith('(') else value
    kind = {'[]': list, '()': tuple}.get(text[:1] + text[-1:])
    if kind is None and (',' not in text or '/' in text or '\\' in text):
        return text
    inner = text[1:-1] if kind else text
    return (kind or list)(_option_value(part) for part in _split_at_commas(inner) if part.strip())


def _split_at_commas(text: str) -> list[str]:
    """At those that no bracket encloses."""
    parts, depth = [''], 0
    for letter in text:
        depth += (letter in '([{') - (letter in ')]}')
        if letter == ',' and depth <= 0:
            parts.append('')
        else:
            parts[-1] += letter
    return parts


def _check_top_level(config: Config, path: Path) -> None:
    """A name that is nearly a key of the runner's, where that key is absent, is a slip of the pen."""
    missing = sorted(_RUNNER_KEYS - set(config))
    for key in config:
        if key in _RUNNER_KEYS:
            continue
        near = difflib.get_close_matches(key, missing, n=1, cutoff=0.85)
        if near:
            raise ValueError(f"{path}: unknown key '{key}'. Did you mean '{near[0]}'?")
    if 'model' not in config:
        raise ValueError(f"{path}: has no 'model'; is it a leaf config (files under _base_ are parts)?")


def apply_options(config: Config, options: dict[str, Any]) -> None:
    """Merge dotted options into ``config``; each must name a place that exists.

    The last part of a key may be new only where a constructor could take it (a dict with a ``type``, whose arguments
    are checked when it is built) or at the top level for a key the runner knows.
    """
    for key, value in options.items():
        _check_option(config, key)
        try:
            config.merge_from_dict({key: value})
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"--cfg-options {key}={value}: {error}") from None


def _check_option(config: Config, key: str) -> None:
    node: Any = config._cfg_dict
    parts = key.split('.')
    for depth, part in enumerate(parts):
        shown = '.'.join(parts[:depth]) or 'the config'
        if isinstance(node, (list, tuple)):
            if not re.fullmatch(r'\d+', part) or int(part) >= len(node):
                raise ValueError(f"--cfg-options {key}: {shown} is a list of {len(node)}; '{part}' is no index of it")
            node = node[int(part)]
        elif isinstance(node, dict):
            if part not in node:
                last = depth == len(parts) - 1
                if (depth == 0 and part in _RUNNER_KEYS) or (last and depth > 0 and 'type' in node):
                    return
                known = [*node, *(_RUNNER_KEYS if depth == 0 else ())]
                raise ValueError(f"--cfg-options {key}: {shown} has no '{part}'.{suggest_name(part, known)}")
            node = node[part]
        else:
            raise ValueError(f"--cfg-options {key}: {shown} is {node!r}, which has no '{part}'")


def use_amp(config: Config) -> None:
    """Train in bfloat16 autocast (``--amp``)."""
    wrapper = config.get('optim_wrapper')
    if wrapper is None:
        raise ValueError('--amp: the config has no optim_wrapper')
    if wrapper.get('type', 'OptimWrapper') not in ('OptimWrapper', 'Bf16OptimWrapper'):
        raise ValueError(f"--amp: optim_wrapper is already '{wrapper.type}'; set its type in the config instead")
    wrapper.type = 'Bf16OptimWrapper'


def use_test_options(config: Config, tta: bool = False, crf: bool = False) -> None:
    """Switch on multi-scale + flip (``--tta``) and the dense CRF (``--crf``) in the model's ``test`` settings.

    Their settings are the config's top-level ``tta`` and ``crf``, or else those published for WeCLIP: scales 1 and
    0.75 with flip; 10 iterations, Gaussian sxy 3 compat 3, bilateral sxy 64 srgb 5 compat 4.
    """
    if tta or crf:
        config.model.test = ConfigDict({**(config.model.get('test') or {}), **protocol_settings(config, tta, crf)})


def protocol_settings(config: Config, tta: bool, crf: bool) -> dict[str, Any]:
    """The entries of a model's ``test`` that :func:`use_test_options` sets."""
    settings: dict[str, Any] = {}
    if tta:
        settings.update(config.get('tta') or dict(scales=(1.0, 0.75), flip=True))
    if crf:
        settings['crf'] = dict(config.get('crf') or dict(
            iterations=10, gaussian_sxy=3, gaussian_compat=3, bilateral_sxy=64, bilateral_srgb=5, bilateral_compat=4))
    return settings


def use_randomness(config: Config, seed: int | None = None, deterministic: bool = False) -> None:
    """Set the seed (default: the config's, else 0) and, on request, deterministic kernels."""
    randomness = dict(config.get('randomness') or {})
    if seed is not None:
        randomness['seed'] = seed
    elif randomness.get('seed') is None:
        randomness['seed'] = 0
    if deterministic:
        # cuBLAS reads this when it starts; without it torch refuses deterministic matrix products.
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        # Some backward passes (bilinear resize on CUDA) have no deterministic kernel: warn, do not die.
        torch.use_deterministic_algorithms(True, warn_only=True)
    config.randomness = randomness
