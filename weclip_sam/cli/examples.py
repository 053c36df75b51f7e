"""A command that can be pasted, for whoever left out an argument: of what lies there, as far as it can be seen."""
from __future__ import annotations

import json
import re
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from weclip_sam.commands import command_line
from weclip_sam.io.given import newest_checkpoint

_RUNS = 'work_dirs'  # where trainings go unless they are told otherwise


class ParserWithExample(ArgumentParser):
    """Ends with an example where a required argument is missing.

    Args:
        example: makes the line, of the arguments that were given.
        options: of an :class:`ArgumentParser`.
    """

    def __init__(self, example: Callable[[Sequence[str]], str], **options: Any) -> None:
        super().__init__(**options)
        self._example, self._given = example, list[str]()

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As of an :class:`ArgumentParser`."""
        self._given = list(sys.argv[1:] if args is None else args)
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """As of an :class:`ArgumentParser`, with the example."""
        missing = 'are required' in message or 'is required' in message
        super().error(f'{message}\nfor example: {self._example(self._given)}' if missing else message)


def for_checkpoint(command: str, *rest: str) -> Callable[[Sequence[str]], str]:
    """What makes an example of a command that begins with a checkpoint.

    Args:
        command: its name.
        rest: what follows; ``{run}`` is the folder of the checkpoint, ``{photos}`` one of photos: that which was given,
            or that of the training.
    """
    def example(given: Sequence[str]) -> str:
        paths = [Path(word) for word in given if not word.startswith('-') and Path(word).exists()]
        checkpoint = _checkpoint(paths)
        places = dict(run=checkpoint.parent, photos=_photos(paths, checkpoint))
        return command_line(command, checkpoint, *(word.format(**places) for word in rest))
    return example


def _checkpoint(paths: Sequence[Path]) -> Path:
    """One of those given or in a folder given, else the newest of the trainings here."""
    for path in paths:
        if path.is_file() and path.suffix in ('.pth', '.pt'):
            return path
        if path.is_dir() and (found := newest_checkpoint(path)) is not None:
            return found
    runs = [found for folder in Path(_RUNS).glob('*/') if (found := newest_checkpoint(folder)) is not None]
    return max(runs, key=lambda path: path.stat().st_mtime, default=Path(_RUNS) / 'NAME' / 'iter_400.pth')


def _photos(paths: Sequence[Path], checkpoint: Path) -> Path:
    for path in paths:
        if path != checkpoint and path != checkpoint.parent:
            return path
    try:
        settings = json.loads((checkpoint.parent / 'run.json').read_text(encoding='utf-8'))['settings']
        root = Path(next(value for key, value in settings.items() if re.search(r'reader\.data_root$', key)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return Path('photos')
    return next((place for place in (root / 'images', root) if place.is_dir()), Path('photos'))
