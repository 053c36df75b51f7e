"""List, show and copy the configs that come with the package: ``python tools/configs.py [list WORD | copy NAME]``.

Every command takes a config by its name (``weclip-sam_tiny_400_shapes``), by its path below ``configs``, or by that of
a file of one's own, which comes first. ``copy`` writes a file of one's own that inherits from the package's. In a
``_base_``, the package's are called ``weclip_sam::weclip_sam/weclip-sam_tiny_400_shapes.py``.
"""
from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from weclip_sam.cli.starting import starting
from weclip_sam.commands import command_line
from weclip_sam.io.config_files import PREFIXES, configs_folder, find_config, packaged_config, packaged_configs
from weclip_sam.io.pipes import lasting_output

EXPERIMENTS = 'compare'  # the folder of files for compare
# Settings that a copy shows as they are: whoever changes one needs to change no other.
TRAINED = ('train_dataloader.batch_size', 'optim_wrapper.optimizer.lr', 'mask_bank')


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='List, show and copy the configs that come with the package.')
    what = parser.add_subparsers(dest='what', metavar='list|show|copy')
    listing = what.add_parser('list', help='all configs (the default)', description='List configs.')
    listing.add_argument('words', nargs='*', metavar='WORD', help='only those with all these words in path or text')
    shown = what.add_parser('show', help='what one is for, and the commands', description='Tell about a config.')
    copied = what.add_parser('copy', help='begin one of your own', description='Write a config of your own that '
                             "inherits from one of the package's: what it does not say is as there.")
    for of_one in (shown, copied):
        of_one.add_argument('config', metavar='NAME', help='as the list says it')
    copied.add_argument('file', nargs='?', help='where to write it (default: my_NAME.py in the current folder)')
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    if args.what in (None, 'list'):
        with lasting_output():
            text = list_configs(getattr(args, 'words', []))
            print(text or f'error: no config has these words; {command_line("configs")} lists all',
                  file=sys.stdout if text else sys.stderr)
        sys.exit(0 if text else 2)
    with starting():
        find_config(args.config)
        from weclip_sam.engine import friendly_errors  # takes seconds, which the list does not need
    with friendly_errors():
        if args.what == 'show':
            print(show(args.config))
        else:
            path, command = copy(args.config, args.file)
            print(f'{path}: change what you like, then: {command}')


def list_configs(words: list[str]) -> str:
    """The package's configs by folder, with the first sentence of each; those alone that have all the words."""
    lines: list[str] = []
    folder = ''
    for name, path in packaged_configs().items():
        text = _docstring(path)
        if all(word.lower() in f'{name} {text}'.lower() for word in words):
            place = PurePosixPath(name)
            if str(place.parent) != folder:
                folder = str(place.parent)
                lines.append(f'{folder}:' if not lines else f'\n{folder}:')
            lines.append(f'  {place.stem}\n      {re.split(r"[.:](?=[ ]|$)", " ".join(text.split()))[0]}')
    return '\n'.join([f'in {configs_folder()}', '', *lines]) if lines else ''


def show(given: str) -> str:
    """Where a config lies and what it says of itself, commands as they are called here."""
    path = find_config(given)
    text = re.sub(r'python tools/(\w+)\.py', lambda match: command_line(match[1]), _docstring(path))
    return f'{path}\n\n{text}'


def copy(given: str, target: str | None = None) -> tuple[Path, str]:
    """Write a config that inherits from one of the package's.

    Args:
        given: what that is called by.
        target: the file to write; by default ``my_NAME.py`` in the current folder.

    Returns:
        The file, and the command that it is for.

    Raises:
        FileNotFoundError: the package has no such config.
        ValueError: the file is there already, or is none of Python; a config of somebody's own.
    """
    from weclip_sam.engine.start.config import read_config
    from weclip_sam.io.files import atomic_open
    source = packaged_config(given)
    if source is None:
        raise ValueError(f"{find_config(given)}: is none of the package's configs; copy the file itself")
    name = source.relative_to(configs_folder()).as_posix()
    path = Path(target or f'my_{source.stem}.py')
    if path.suffix != '.py':
        raise ValueError(f'{path}: a config is a .py file, got {path.suffix or "no suffix"}')
    if path.exists():
        raise ValueError(f'{path}: is there already; give another file: '
                         f'{command_line("configs", "copy", source.stem, "FILE")}')
    config = read_config(source).to_dict()
    lines = [f'"""{source.stem}, changed."""', f"_base_ = ['{PREFIXES[0]}{name}']"]
    shown: tuple[str, ...] = TRAINED
    command = ['train', str(path)]
    if source.parent.name == EXPERIMENTS:
        lines.append(f'root = {f"work_dirs/compare/{path.stem}"!r}')  # runs of its own
        shown, command = ('seeds',), ['compare', str(path), '--run']
    elif config['model']['type'] == 'SeedMaker':
        shown, command = ('mask_bank', 'input_labels'), ['make_seeds', str(path)]
    if examples := _as_it_is(config, shown):
        lines += ['', '# What is not said here is as there. For example, each as it is now:', *examples]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(path, 'w') as file:
        file.write('\n'.join(lines) + '\n')
    return path, command_line(*command)


def _as_it_is(config: dict[str, Any], places: Sequence[str]) -> list[str]:
    """Lines that would set some settings to what they are, as comments."""
    lines = []
    for place in places:
        first, *rest = place.split('.')
        value: Any = config
        for key in (first, *rest):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            nested = ''.join(f'dict({key}=' for key in rest) + repr(value) + ')' * len(rest)
            lines.append(f'# {first} = {nested}')
    return lines


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''


if __name__ == '__main__':
    main()
