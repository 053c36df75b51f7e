"""How the package's commands are called here: messages print what can be typed.

In a checkout that is ``python tools/train.py CONFIG``; where the package was installed without one, or the work was
begun by the command ``weclip-sam`` (:mod:`weclip_sam.cli.main`), it is ``weclip-sam train CONFIG``.
"""
from __future__ import annotations

import os
import shlex
from pathlib import Path

CONSOLE, MODULE = 'weclip-sam', 'python -m weclip_sam'
DOOR = 'WECLIP_SAM_DOOR'  # variable: how the command was called that began all this, for its child processes, too
_PACKAGE = Path(__file__).resolve().parent


def in_checkout() -> bool:
    """Whether the package lies in its repository, beside ``tools`` and ``configs``; a wheel has the configs inside."""
    return not (_PACKAGE / 'configs').is_dir() and (_PACKAGE.parent / 'tools' / 'train.py').is_file()


def door() -> str:
    """``weclip-sam`` or ``python -m weclip_sam``, or nothing where commands are ``tools/*.py``."""
    return os.environ.get(DOOR) or ('' if in_checkout() else CONSOLE)


def as_typed(command: str) -> str:
    """The name of a command as ``weclip-sam`` takes it: ``make-masks`` for ``make_masks``."""
    return command.replace('_', '-')


def tool(command: str) -> str:
    """A command by name, for a sentence: ``tools/make_masks.py`` or ``weclip-sam make-masks``.

    Args:
        command: a module of :mod:`weclip_sam.cli`.
    """
    through = door()
    return f'{through} {as_typed(command)}' if through else f'tools/{command}.py'


def command_line(command: str, *arguments: str | os.PathLike[str], start: str = '') -> str:
    """A line to be typed, its arguments quoted for a shell.

    Args:
        command: a module of :mod:`weclip_sam.cli`.
        arguments: of the command.
        start: what starts several processes: ``torchrun --nproc-per-node N``, ``srun``, ``mpirun``. The first is given
            a script or a module instead of a program.
    """
    through, rest = door(), shlex.join(os.fspath(argument) for argument in arguments)
    if start.startswith('torchrun'):
        program = f'-m weclip_sam {as_typed(command)}' if through else tool(command)
    else:
        program = tool(command) if through else f'python {tool(command)}'
    return ' '.join(part for part in (start, program, rest) if part)
