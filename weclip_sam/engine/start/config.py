"""Reading configs: missing files, misspelt keys and options are errors with the nearest match, not silence."""
from __future__ import annotations

import copy
import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict

from weclip_sam.engine.start.kinds import check_kinds
from weclip_sam.engine.start.options import RUNNER_KEYS, apply_options, parse_options
from weclip_sam.engine.start.sam_at_test import sam_protocol
from weclip_sam.engine.start.shared_settings import fill_scenes_seed
from weclip_sam.io.config_files import PREFIXES, find_config, packaged_configs

# Variables that programs read themselves; any other is there for the settings that are copied from it.
READ = {'mask_bank', 'mask_generator', 'mask_dataset', 'seed_dataset', 'tune_dataset', 'input_labels', 'tta', 'crf',
        'sam', 'tracker'}
_FILLED = {'scenes_seed', 'tracker'}  # parts take them when a run starts; nothing is a copy, whatever is alike
_SHOWN = 4  # settings that an error names


def load_config(path: str | os.PathLike, options: dict[str, Any] | Sequence[str] | None = None) -> Config:
    """Read a config file and apply command-line options.

    Args:
        path: a python config: a path, or what one of the package's is called by, see
            :func:`weclip_sam.io.config_files.find_config`.
        options: dotted keys with values (``{'optim_wrapper.optimizer.lr': 1e-4}``), or ``key=value`` strings. A new
            value of a variable (``data_root``, ``mask_bank``, ``mask_generator.…``) holds for every setting that was
            copied from it; what is not copied but filled in (:mod:`shared_settings`) follows later.

    Raises:
        FileNotFoundError: no such file (names the nearest config).
        ValueError: the file cannot be run, a key is misspelt, an option's key does not exist, an option changes a
            variable that nothing was copied from, or a number stands where a path or a name is wanted (or the other
            way round).
    """
    path = find_config(path)
    config = read_config(path)
    _check_top_level(config, path)
    return change_config(config, options, str(path))


def change_config(config: Config, options: dict[str, Any] | Sequence[str] | None = None, source: str = 'the config'
                  ) -> Config:
    """Apply options to a config, in place, as :func:`load_config` does; ``source`` is named in errors."""
    if options:
        parsed = parse_options(options, config) if not isinstance(options, dict) else options
        variables = {key.split('.')[0] for key in parsed} - RUNNER_KEYS - _FILLED
        before = {name: copy.deepcopy(config[name]) for name in variables if name in config}
        apply_options(config, parsed)
        # Containers first: once a string inside a copy has changed, the copy is no longer told by its old value.
        for name, old in sorted(before.items(), key=lambda item: (isinstance(item[1], str), item[0])):
            if config[name] != old:
                _carry(config, name, old)
    fill_scenes_seed(config)
    check_kinds(config, source)
    return config


def read_config(path: Path) -> Config:
    """Run a config file that is there; whatever it raises is one line that names it.

    A ``_base_`` may be one of the package's: ``weclip_sam::weclip_sam/weclip-sam_tiny_400_folder.py``.

    Raises:
        ValueError: no config, or one that cannot be run.
        FileNotFoundError: a ``_base_`` is missing.
    """
    if path.suffix not in ('.py', '.json', '.yaml', '.yml'):
        raise ValueError(f'{path}: a config is a .py file, got {path.suffix or "no suffix"}')
    try:
        return Config.fromfile(str(path))
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{path}: its _base_ is missing: {error}{_packaged_base(error)}') from None
    except OSError:
        raise
    except Exception as error:  # a config is a program of the user's
        where = f' (line {error.lineno})' if isinstance(error, SyntaxError) else ''
        told = ' '.join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
        raise ValueError(f'{path}: {type(error).__name__}{where}: {told:.500}') from None


def _packaged_base(error: FileNotFoundError) -> str:
    """What to write where a ``_base_`` lies in the package and not beside the config."""
    parts = Path(error.filename or '').parts
    names = ['/'.join(parts[start:]) for start in range(len(parts))]
    known = packaged_configs(parts=True)
    return next((f". The package's own is _base_ = ['{PREFIXES[0]}{name}']" for name in names if name in known), '')


def _base_path(base: str, config: str) -> tuple[str, str | None]:
    """mmengine's way from a ``_base_`` to a file, which knows ``package::path`` of its own sisters alone."""
    if not base.startswith(PREFIXES):
        return _mmengine_base_path(base, config)
    return str(find_config(base)), None


_mmengine_base_path = Config._get_cfg_path
Config._get_cfg_path = staticmethod(_base_path)


def _carry(config: Config, name: str, old: Any) -> None:
    """An option changes only a variable itself; carry it on to the settings that were copied from it.

    Raises:
        ValueError: for a number, which may stand elsewhere by chance; for a variable that reaches nothing.
    """
    places = [place for key, value in config._cfg_dict.items() if key != name
              for place in _places_of(value, old, (key,))]
    if places and not isinstance(old, (str, dict, list)):
        keys = ' '.join(f'{".".join(map(str, place))}={config[name]}' for place in places)
        raise ValueError(f'--cfg-options {name}: this variable was copied when the config was read, and other settings '
                         f'may be {old} by chance; name those you mean: {keys}')
    # Modules of the user's own may read any variable.
    if not places and name not in READ and not config.get('custom_imports'):
        raise ValueError(f'--cfg-options {name}: no setting of this config is a copy of this variable, so a new value '
                         f'would change nothing; {_meant(config, name, old)}')
    for *path, last in places:
        node: Any = config._cfg_dict
        for part in path:
            node = node[part]
        node[last] = copy.deepcopy(config[name])


def _meant(config: Config, name: str, old: Any) -> str:
    """The settings that a variable's name may mean: ``crop_size`` is the ``size`` of a ``RandomCrop``."""
    found = ['.'.join(map(str, place)) for key, value in config._cfg_dict.items() if key != name
             for place in _called(value, name, old, (key,))]
    more = f' or one of {len(found) - _SHOWN} more' if len(found) > _SHOWN else ''
    return f'give the setting itself: {"=... or ".join(found[:_SHOWN])}=...{more}' if found else \
        'give the setting that you mean itself, with its place'


def _called(node: Any, name: str, old: Any, path: tuple) -> Iterator[tuple]:
    """Places of settings with the name of a variable, or with its end where the owner's place or type has its start."""
    for key, below in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if isinstance(key, str) and type(below) is type(old) and f'_{name}'.endswith(f'_{key}'):
            owner = f'{".".join(map(str, path))} {node.get("type")}'.lower()
            if name.removesuffix(key).rstrip('_') in owner:
                yield *path, key
        else:
            yield from _called(below, name, old, (*path, key))


def _places_of(node: Any, value: Any, path: tuple) -> Iterator[tuple]:
    if type(node) is type(value) and node == value:
        yield path
        return
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, below in items:
        yield from _places_of(below, value, (*path, key))


def _check_top_level(config: Config, path: Path) -> None:
    """A name that is nearly a key of the runner's, where that key is absent, is a slip of the pen."""
    missing = sorted(RUNNER_KEYS - set(config))
    for key in config:
        if key in RUNNER_KEYS:
            continue
        near = difflib.get_close_matches(key, missing, n=1, cutoff=0.85)
        if near:
            raise ValueError(f"{path}: unknown key '{key}'. Did you mean '{near[0]}'?")
    if 'model' not in config:
        raise ValueError(f"{path}: has no 'model'; is it a leaf config (files under _base_ are parts)?")


def use_amp(config: Config) -> None:
    """Train in bfloat16 autocast (``--amp``)."""
    wrapper = config.get('optim_wrapper')
    if wrapper is None:
        raise ValueError('--amp: the config has no optim_wrapper')
    if wrapper.get('type', 'OptimWrapper') not in ('OptimWrapper', 'Bf16OptimWrapper'):
        raise ValueError(f"--amp: optim_wrapper is already '{wrapper.type}'; set its type in the config instead")
    wrapper.type = 'Bf16OptimWrapper'


def use_test_options(config: Config, tta: bool = False, crf: bool = False,
                     sam: bool | str | Mapping[str, Any] = False) -> None:
    """Switch on multi-scale + flip (``--tta``), the dense CRF (``--crf``) and SAM (``--sam``) in the model's ``test``
    settings.

    Their settings are the config's top-level ``tta`` and ``crf``, or else those published for WeCLIP: scales 1 and
    0.75 with flip; 10 iterations, Gaussian sxy 3 compat 3, bilateral sxy 64 srgb 5 compat 4. What ``sam`` may be and
    does says :func:`weclip_sam.engine.start.sam_at_test.sam_protocol`.
    """
    if tta or crf or sam:
        config.model.test = ConfigDict({**(config.model.get('test') or {}), **protocol_settings(config, tta, crf, sam)})


def protocol_settings(config: Config, tta: bool, crf: bool, sam: bool | str | Mapping[str, Any] = False
                      ) -> dict[str, Any]:
    """The entries of a model's ``test`` that :func:`use_test_options` sets."""
    settings: dict[str, Any] = {}
    if tta:
        settings.update(config.get('tta') or dict(scales=(1.0, 0.75), flip=True))
    if crf:
        settings['crf'] = dict(config.get('crf') or dict(
            iterations=10, gaussian_sxy=3, gaussian_compat=3, bilateral_sxy=64, bilateral_srgb=5, bilateral_compat=4))
    if sam:
        settings.update(sam_protocol(config, sam, settings.pop('crf', None)))
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
