"""From a config to a running Runner: distributed start-up, work dir, resume."""
from __future__ import annotations

import logging
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch import distributed, nn

from weclip_sam.checks import suggest_name
from weclip_sam.choices import LAUNCHERS
from weclip_sam.commands import command_line
from weclip_sam.engine.hooks.state import unwrapped
from weclip_sam.engine.start.class_names import require_same_classes
from weclip_sam.engine.start.config_text import ReadableConfig
from weclip_sam.engine.start.environment import write_environment
from weclip_sam.engine.start.fill import fill_config
from weclip_sam.engine.start.together import watch_others
from weclip_sam.engine.start.tracker import fill_tracker
from weclip_sam.engine.tracking import end_trackers, trackers_of
from weclip_sam.io.checkpoints import NotFiniteError, find_resumable, require_finite, safe_load
from weclip_sam.io.new_folders import make_folder
from weclip_sam.models.fixed_shapes import chosen
from weclip_sam.registry import OPTIMIZERS

_MMENGINES_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')


def prepare_work_dir(path: str | os.PathLike, option: str = '--work-dir') -> str:
    """Make the work dir and find out now, not after the first thousand iterations, whether it can be written.

    Args:
        path: made with its parents.
        option: what the user chose it with.

    Raises:
        ValueError: a file is in the way, here or further up.
        OSError: read-only, no permission, disk full.
    """
    folder = Path(path).expanduser().absolute()
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f'{option} {folder}: a file of that name is in the way' if place == folder else
                             f'{option} {folder}: {place} is a file, not a folder; choose another {option}')
    make_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(1 << 20))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None
    return str(folder)


def start_distributed(launcher: str, config: Config) -> None:
    """Join the process group where mmengine would look for a GPU that is not there.

    With CUDA mmengine's own start-up (NCCL) serves; on CPUs the group is made here (gloo) and the model's wrapper is
    told that it has no device. Sets ``launcher`` and ``model_wrapper_cfg`` in the config.

    Raises:
        ValueError: an unknown launcher, or one whose environment variables are missing.
    """
    if launcher not in LAUNCHERS:
        raise ValueError(f"--launcher must be one of {LAUNCHERS}, got '{launcher}'.{suggest_name(launcher, LAUNCHERS)}")
    config.launcher = launcher
    if launcher == 'none':
        return
    _fill_environment(launcher)
    if torch.cuda.is_available():
        return
    if not distributed.is_initialized():
        distributed.init_process_group('gloo')
    watch_others()
    wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False,
                   find_unused_parameters=config.get('find_unused_parameters', False))
    wrapper.update(config.get('model_wrapper_cfg') or {})
    config.model_wrapper_cfg = {**wrapper, 'device_ids': None}


def _fill_environment(launcher: str) -> None:
    """torch reads RANK, WORLD_SIZE, LOCAL_RANK and the master's address; translate the launcher's own names."""
    env = os.environ
    names = dict(slurm=dict(RANK='SLURM_PROCID', WORLD_SIZE='SLURM_NTASKS', LOCAL_RANK='SLURM_LOCALID'),
                 mpi=dict(RANK='OMPI_COMM_WORLD_RANK', WORLD_SIZE='OMPI_COMM_WORLD_SIZE',
                          LOCAL_RANK='OMPI_COMM_WORLD_LOCAL_RANK')).get(launcher, {})
    for name, source in names.items():
        if source in env:
            env[name] = env[source]
    missing = [names.get(name, name) for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK') if name not in env]
    if missing:
        start = dict(pytorch='torchrun --nproc-per-node N', slurm='srun', mpi='mpirun')[launcher]
        raise ValueError(f'--launcher {launcher}: the environment lacks {", ".join(missing)}; start it with '
                         f'`{command_line("train", "...", "--launcher", launcher, start=start)}`')
    if launcher == 'slurm' and 'MASTER_ADDR' not in env:
        listed = subprocess.run(['scontrol', 'show', 'hostnames', env.get('SLURM_NODELIST', '')], capture_output=True,
                                text=True, check=False).stdout.split()
        env['MASTER_ADDR'] = listed[0] if listed else '127.0.0.1'
    env.setdefault('MASTER_ADDR', '127.0.0.1')
    env.setdefault('MASTER_PORT', '29500')


def asked_to_resume(config: Config) -> str | None:
    """What ``--resume`` would be for a config that says ``resume=True`` itself: mmengine would follow the pointer of
    the work dir, wherever it leads."""
    return (config.get('load_from') or 'auto') if config.get('resume') else None


def use_resume(config: Config, resume: str | None, classes: Sequence[str] | None = None) -> str | None:
    """Set up ``--resume``: ``'auto'`` finds the newest good checkpoint of the work dir, a path is checked and used.

    Args:
        config: changed in place.
        resume: ``--resume``.
        classes: of the training data, where they are known.

    Returns:
        The checkpoint, or None where ``'auto'`` finds none (the run then starts from the beginning).

    Raises:
        ValueError: the checkpoint is not good, or was trained on other classes.
    """
    if resume is None:
        return None
    if resume == 'auto':
        found = find_resumable(config.work_dir)
    else:
        found = Path(resume).expanduser()
    if found is not None:
        content = safe_load(found, kind='training')
        require_finite(content['state_dict'], str(found))
        require_same_classes(str(found), content, classes)
    config.resume = found is not None
    if found is not None:
        config.load_from = str(found)
    return str(found) if found else None


def _not_about_itself(record: logging.LogRecord) -> bool:
    """mmengine warns on every save that its own writing function uses a deprecated part of mmengine."""
    text = str(record.msg)
    return '"FileClient" will be deprecated' not in text and '"HardDiskBackend" is the alias' not in text


class QuietRunner(Runner):
    """mmengine's Runner that keeps its opening pages (environment, whole config, hook order) in the log file.

    From the end of its construction on the terminal shows what happens, as usual.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._silenced: list[tuple[logging.Handler, int]] = []
        super().__init__(*args, **kwargs)
        for handler, level in self._silenced:
            handler.setLevel(level)

    def train(self) -> nn.Module:
        """Train; hooks with ``after_failure(runner, error)`` hear of losses or weights that are no numbers.

        Trackers hear how it ended.
        """
        self._note_environment()
        try:
            trained = super().train()
        except BaseException as error:
            if isinstance(error, NotFiniteError):
                self.call_hook('after_failure', error=error)
            end_trackers(self.visualizer, failed=True)
            raise
        end_trackers(self.visualizer)
        return trained

    def test(self) -> dict:
        """Test."""
        self._note_environment()
        return super().test()

    def _note_environment(self) -> None:
        """Now that what is in the work dir may be replaced, and not when the runner is built."""
        if is_main_process():
            write_environment(self.work_dir, goes_on=self._resume)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """The logger, its terminal handler silenced but for warnings."""
        logger = super().build_logger(*args, **kwargs)
        logger.addFilter(_not_about_itself)
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                self._silenced.append((handler, handler.level))
                handler.setLevel(max(handler.level, logging.WARNING))
        return logger


def _check_optimizer(config: Config) -> None:
    """mmengine asks for an optimizer's signature before it looks whether there is such an optimizer.

    Raises:
        ValueError: no such optimizer, or AmpOptimWrapper without a GPU.
    """
    wrapper = (config.get('optim_wrapper') or {}).get('type')
    if getattr(wrapper, '__name__', wrapper) == 'AmpOptimWrapper' and not torch.cuda.is_available():
        raise ValueError('optim_wrapper.type: AmpOptimWrapper needs a GPU, and there is none; on a CPU write '
                         'optim_wrapper.type=Bf16OptimWrapper (bfloat16, needs no loss_scale)')
    optimizer = (config.get('optim_wrapper') or {}).get('optimizer') or {}
    name = optimizer.get('type')
    if isinstance(name, str) and OPTIMIZERS.get(name) is None:
        known = {*OPTIMIZERS.module_dict, *OPTIMIZERS.parent.module_dict}
        raise ValueError(f"no optimizer is called '{name}'.{suggest_name(name, known)}")


def _compile_step(runner: Runner) -> None:
    """Take the config's ``compile`` for this package's models; mmengine has a meaning of its own for a dict, and for
    True with other models.

    Raises:
        ValueError: what it says cannot be, see :func:`weclip_sam.models.fixed_shapes.chosen`.
    """
    model, choice = unwrapped(runner.model), runner.cfg.get('compile', False)
    if isinstance(choice, Mapping) or choice is True and not hasattr(model, 'fix_shape'):
        return
    runner.cfg.pop('compile', None)
    counts = (runner.cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    if chosen(choice, next(model.parameters()).device.type, counts) and hasattr(model, 'fix_shape'):
        model.fix_shape()
        runner.logger.info('Encoder and decoder are compiled in the first iteration (compile=False leaves it)')


def build_runner(config: Config, known: Mapping[str, Sequence[str]] | None = None) -> Runner:
    """A Runner for ``config``: types are registered, checkpoints read safely, hooks that the model brings added.

    Args:
        config: changed in place.
        known: names that a checkpoint brings, see :func:`known_names`: testing it then needs no training data.
    """
    fill_config(config, known)
    fill_tracker(config)
    _check_optimizer(config)
    hooks = config.get('default_hooks') or {}
    for name in [name for name, hook in hooks.items() if hook is None and name not in _MMENGINES_HOOKS]:
        del hooks[name]  # mmengine takes None for "without this hook" only where the hook is its own
    runner = QuietRunner.from_cfg(ReadableConfig.of(config))
    watch_others()  # mmengine has made the group where there are GPUs
    runner.logger.info(f'{runner.experiment_name}: seed {runner.seed}, {runner.world_size} process(es), everything is '
                       f'written to {runner.work_dir}')
    for tracker in trackers_of(runner.visualizer) if is_main_process() else ():
        runner.logger.info(f'Watched by {tracker.name}: {tracker.where}')
    model = unwrapped(runner.model)
    _compile_step(runner)
    listed = {type(hook).__name__ for hook in runner.hooks}
    for hook in getattr(model, 'brings_hooks', ()):
        if hook['type'] not in listed:
            runner.register_hook(dict(hook))
    return runner
