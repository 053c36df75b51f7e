"""A comparison of methods as one small file: which stages each method has, and the folders they leave.

An experiment file (``configs/compare/*.py``) names ``title``, ``root``, ``seeds`` (how many), ``shared`` stages and
``methods``; names that begin with ``_`` are its own. A stage is ``dict(name=..., tool=..., config=...)`` with a tool of
``TOOLS``, and optionally

- ``options``: config options. In them, in ``arguments`` and in ``checkpoint``, ``{name}`` stands for the folder of an
  earlier stage of the method or of a shared one, and ``{seed}`` for the seed;
- ``arguments``: further arguments of the tool;
- ``once=True``: it does not depend on the seed, so it runs once for all of them;
- ``folder``: where it works, if not below ``root``;
- ``checkpoint`` (tests): a checkpoint, or the folder of a training run, whose last one is taken (never its best one:
  that was picked by looking at the validation set). Default: the method's last training stage.

A method is ``dict(name=..., stages=[...], uses=[names of shared stages], tests=['single', 'multi', 'crf',
'sam', 'all'])``; for each of its ``tests`` (default: the experiment's) a test stage is added. ``sam`` refines with SAM
(the experiment's ``sam``, as ``test.py --sam`` takes it), ``all`` with everything. ``note`` stands beside a method's
name in the report, ``reference=True`` marks an upper bound that does not compete, ``tuning`` says which settings ground
truth chose.
"""
from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from weclip_sam.checks import suggest_name
from weclip_sam.comparison.names import folder_name, method_named
from weclip_sam.comparison.values import WITH_SAM
from weclip_sam.engine.start.config import read_config
from weclip_sam.io.config_files import find_config

TESTS = {'single': (), 'multi': ('--tta',), 'crf': ('--tta', '--crf'), 'sam': (), 'all': ('--tta', '--crf')}
TOOLS = ('train', 'test', 'make_seeds', 'make_masks')
_STAGE_KEYS = {'name', 'tool', 'config', 'options', 'arguments', 'once', 'folder', 'checkpoint'}
_METHOD_KEYS = {'name', 'stages', 'uses', 'tests', 'note', 'tuning', 'reference'}
_NAME = r'[A-Za-z][\w.-]*'
_EXPERIMENT_KEYS = {'title', 'root', 'seeds', 'shared', 'methods', 'tests', 'sam', 'pictures', 'terms', 'tuning',
                    'notes', 'estimates'}


@dataclass(frozen=True)
class Stage:
    """One command of a comparison, ready to run.

    Attributes:
        name: within its method (or among the shared stages).
        tool: one of ``TOOLS``.
        arguments: of the tool, without what a resumed run adds.
        folder: where it writes; its summary is there when it is finished.
        measure: for tests, one of ``TESTS``.
        shared: whether several methods use it.
        once: whether all seeds share it.
        after: folders of the earlier stages it reads.
    """

    name: str
    tool: str
    arguments: tuple[str, ...]
    folder: Path
    measure: str | None = None
    shared: bool = False
    once: bool = False
    after: tuple[Path, ...] = ()

    @property
    def summary(self) -> Path:
        """The file that the tool writes when it has finished."""
        return self.folder / ('summary_test.json' if self.tool == 'test' else 'summary.json')

    @property
    def record(self) -> Path:
        """What :mod:`weclip_sam.comparison.stages` writes about a run of this stage."""
        return self.folder / 'stage.json'


@dataclass(frozen=True)
class Run:
    """One method with one seed: its stages in order, shared ones first."""

    method: str
    seed: int
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Experiment:
    """A comparison as read from its file.

    Attributes:
        title, root: of the experiment.
        seeds: 0 ... n-1.
        methods: method name to its settings, in order.
        runs: by seed and then by method, so that an interrupted comparison has whole rows first.
        pictures: ``config`` (of the data set shown), ``count``, ``focus`` (method name), ``ids``.
        terms: sentences on what is equal for all.
        tuning: rows ``dict(what=, where=, how=)``: which settings were chosen by looking at which ground truth.
        notes: sentences for the end of the report.
        estimates: ``seconds_per_iteration`` and ``seconds`` by pattern of config, ``where`` they were measured: see
            ``listing.py``.
    """

    title: str
    root: Path
    seeds: int
    methods: dict[str, dict[str, Any]]
    runs: tuple[Run, ...]
    pictures: dict[str, Any] = field(default_factory=dict)
    terms: tuple[str, ...] = ()
    tuning: tuple[dict[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    estimates: dict[str, Any] = field(default_factory=dict)

    def only(self, names: Iterable[str]) -> Experiment:
        """The same experiment with some methods, by name or in the form of their folders (``weclip-sam``).

        Raises:
            ValueError: a method that is not in it.
        """
        names = [method_named(name, self.methods) for name in names]
        pictures = {k: v for k, v in self.pictures.items() if k != 'focus' or v in names}
        return replace(self, methods={k: v for k, v in self.methods.items() if k in names}, pictures=pictures,
                       runs=tuple(run for run in self.runs if run.method in names))


def load_experiment(path: str | os.PathLike, root: str | os.PathLike | None = None, seeds: int | None = None
                    ) -> Experiment:
    """Read an experiment file.

    Args:
        path: the file, or what one of the package's is called by: ``shapes``, ``compare/shapes.py``.
        root: instead of the file's ``root``.
        seeds: instead of the file's number of seeds.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a config of another kind, a key, tool, test or stage that does not exist (with the nearest name), or
            a stage named twice.
    """
    path = find_config(path, 'experiment file')
    given = read_config(path).to_dict()
    if 'methods' not in given and ('model' in given or not _EXPERIMENT_KEYS & given.keys()):
        raise ValueError(f'{path}: this is no experiment file (it has no methods); expected one of '
                         'configs/compare/*.py, or a file of your own like them')
    check_keys(given, _EXPERIMENT_KEYS, f'{path}')
    if not given.get('methods'):
        raise ValueError(f'{path}: names no methods')
    folder = Path(root or given.get('root') or f'work_dirs/compare/{path.stem}')
    count = int(seeds if seeds is not None else given.get('seeds', 1))
    if count < 1:
        raise ValueError(f'{path}: seeds must be at least 1, got {count}')
    planner = _Planner(str(path), folder, given)
    if not all(method.get('name') for method in given['methods']):
        raise ValueError(f'{path}: a method has no name')
    methods = {method['name']: method for method in given['methods']}
    if len(methods) < len(given['methods']):
        raise ValueError(f'{path}: two methods have the same name')
    by_folder: dict[str, str] = {}
    for name in methods:
        other = by_folder.setdefault(folder_name(name), name)
        if other != name:
            raise ValueError(f"{path}: the methods '{other}' and '{name}' would share the folder {folder_name(name)}; "
                             'choose names that differ in more than signs')
    runs = tuple(Run(name, seed, planner.stages(method, seed))
                 for seed in range(count) for name, method in methods.items())
    focus = (given.get('pictures') or {}).get('focus')
    if focus is not None and focus not in methods:  # said now, not after the hours of --run
        raise ValueError(f"{path}: pictures: focus: no method is called '{focus}'.{suggest_name(focus, methods)}")
    estimates = dict(given.get('estimates') or {})
    check_keys(estimates, {'seconds_per_iteration', 'seconds', 'where'}, f'{path}: estimates')
    tuning = [dict(row) for row in given.get('tuning', ())]
    tuning += [dict(row, method=name) for name, method in methods.items() for row in method.get('tuning', ())]
    return Experiment(given.get('title', path.stem), folder, count, methods, runs, dict(given.get('pictures') or {}),
                      tuple(given.get('terms', ())), tuple(tuning), tuple(given.get('notes', ())), estimates)


def check_keys(given: Mapping[str, Any], known: set[str], where: str) -> None:
    """Raise a ValueError that names the first key of ``given`` that is not ``known``; ``_names`` are the file's own."""
    for key in given:
        if key not in known and not key.startswith('_'):
            raise ValueError(f"{where}: unknown key '{key}'.{suggest_name(key, known)}")


class _Planner:
    """From the experiment's dicts to stages with commands and folders."""

    def __init__(self, source: str, root: Path, given: Mapping[str, Any]) -> None:
        self.source, self.root = source, root
        self.tests = tuple(given.get('tests', ('single',)))
        self.sam = [given['sam']] if given.get('sam') else []  # or the SAM of each config
        self.shared: dict[str, Stage] = {}
        folders: dict[str, Path] = {}
        for settings in given.get('shared', ()):
            stage = self._stage(dict(settings, once=True), root / 'shared', 'shared stages', folders, seed=0)
            self.shared[stage.name] = replace(stage, shared=True)

    def stages(self, method: Mapping[str, Any], seed: int) -> tuple[Stage, ...]:
        """All stages of a method for one seed."""
        name = method['name']
        where = f"method '{name}'"
        check_keys(method, _METHOD_KEYS, f'{self.source}: {where}')
        result, folders = [], {}
        for used in method.get('uses', ()):
            if used not in self.shared:
                raise ValueError(f"{self.source}: {where} uses '{used}', which is no shared stage."
                                 f'{suggest_name(used, self.shared)}')
            result.append(self.shared[used])
            folders[used] = self.shared[used].folder
        base = self.root / folder_name(name)
        for settings in (*method.get('stages', ()), *self._tests(method, where)):
            result.append(self._stage(settings, base, where, folders, seed))
        return tuple(result)

    def _tests(self, method: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
        """A test stage for each wanted kind of test, on the method's last training stage."""
        trained = [stage for stage in method.get('stages', ()) if stage.get('tool') == 'train']
        wanted = tuple(method.get('tests', self.tests if trained else ()))
        for kind in wanted:
            if kind not in TESTS:
                raise ValueError(f"{self.source}: {where}: tests: expected some of {tuple(TESTS)}, got '{kind}'."
                                 f'{suggest_name(str(kind), TESTS)}')
        if wanted and not trained:
            raise ValueError(f'{self.source}: {where} has tests but no training stage to test')
        if not wanted:
            return []
        last = trained[-1]
        return [dict(name=f'test-{kind}', tool='test', config=last['config'], options=last.get('options', {}),
                     once=last.get('once', False), checkpoint='{' + last['name'] + '}', measure=kind)
                for kind in wanted]

    def _stage(self, settings: Mapping[str, Any], base: Path, where: str, folders: dict[str, Path], seed: int) -> Stage:
        """One stage; its folder is added to ``folders``."""
        where = f'{self.source}: {where}'
        check_keys(settings, _STAGE_KEYS | {'measure'}, where)
        for key in ('name', 'tool', 'config'):
            if not settings.get(key):
                raise ValueError(f"{where}: a stage lacks '{key}': {dict(settings)}")
        name, tool = settings['name'], settings['tool']
        if not re.fullmatch(_NAME, name):
            raise ValueError(f"{where}: stage '{name}': a name begins with a letter and holds only letters, digits, "
                             "'_', '.' and '-'")
        if tool not in TOOLS:
            raise ValueError(f"{where}: stage '{name}': tool: expected one of {TOOLS}, got '{tool}'."
                             f'{suggest_name(tool, TOOLS)}')
        if name in folders:
            raise ValueError(f"{where}: two stages are called '{name}'")
        once = bool(settings.get('once', False))

        def filled(text: Any) -> Any:
            return _fill(text, dict(folders, seed=seed), f"{where}: stage '{name}'")
        branch = '' if base.name == 'shared' else 'once' if once else f'seed{seed}'
        folder = Path(filled(settings['folder'])) if settings.get('folder') else base / branch / folder_name(name)
        arguments = [settings['config']]
        if tool == 'train':
            arguments += ['--work-dir', str(folder), '--seed', str(seed)]
        elif tool == 'test':
            arguments += [filled(settings.get('checkpoint') or ''), '--work-dir', str(folder), '--out',
                          str(folder / 'predictions')]
            measure = settings.get('measure', 'single')
            arguments += [*TESTS[measure], *(['--sam', *self.sam] if measure in WITH_SAM else [])]
        else:
            arguments += ['--out', str(folder)] + (['--evaluate'] if tool == 'make_seeds' else [])
        arguments += [filled(str(argument)) for argument in settings.get('arguments', ())]
        options = [f'{key}={filled(value)}' for key, value in (settings.get('options') or {}).items()]
        if options:
            arguments += ['--cfg-options', *options]
        after = tuple(path for path in folders.values()
                      if any(re.search(re.escape(str(path)) + r'(?![\w.-])', argument) for argument in arguments))
        folders[name] = folder
        measure = settings.get('measure') if tool == 'test' else None
        return Stage(name, tool, tuple(arguments), folder, measure, once=once, after=after)


def _fill(value: Any, names: Mapping[str, Any], where: str) -> Any:
    """Replace ``{name}`` in a text; other values and other braces stay."""
    if not isinstance(value, str):
        return value

    def folder(match: re.Match) -> str:
        if match.group(1) not in names:
            raise ValueError(f"{where}: '{match.group(0)}' is no earlier stage.{suggest_name(match.group(1), names)}")
        return str(names[match.group(1)])
    return re.sub(r'\{(' + _NAME + r')\}', folder, value)
