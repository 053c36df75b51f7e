"""Where configs lie and how they are called: a path, a path below ``configs``, or the bare name.

A checkout has its configs in the folder ``configs`` beside the package, an installed package has them inside. What is
found from the current folder comes first: ``configs/weclip_sam/x.py`` means the file of that path where there is one,
else the package's.
"""
from __future__ import annotations

import difflib
import os
from pathlib import Path

from weclip_sam.commands import command_line

PREFIXES = ('weclip_sam::', 'weclip-sam::')  # of the package's own in a ``_base_``, whatever lies in the folder
PARTS = '_base_'  # folder of what configs are put together from
_PACKAGE = Path(__file__).resolve().parents[1]


def configs_folder() -> Path:
    """The folder of the package's configs."""
    inside = _PACKAGE / 'configs'
    return inside if inside.is_dir() else _PACKAGE.parent / 'configs'


def packaged_configs(parts: bool = False) -> dict[str, Path]:
    """The package's configs and experiments by their path below ``configs``; the parts they are put together from, too,
    if asked for."""
    folder = configs_folder()
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob('*.py')}
    return {name: found[name] for name in sorted(found) if parts or not name.startswith(f'{PARTS}/')}


def find_config(given: str | os.PathLike[str], what: str = 'config') -> Path:
    """The file that a config is called by.

    Args:
        given: a path; ``NAME`` or ``NAME.py`` of a file in the current folder or of one of the package's; or the path
            of one of the package's below ``configs``, with or without that folder.
        what: it is called in errors.

    Raises:
        FileNotFoundError: there is none; names the nearest.
    """
    text = os.fspath(given)
    if not text.startswith(PREFIXES):
        for path in (Path(text), Path(f'{text}.py')):
            if path.is_file():
                return path
    if found := packaged_config(text):
        return found
    raise FileNotFoundError(f'{text}: no such {what}. {_nearest(text)}')


def packaged_config(given: str) -> Path | None:
    """One of the package's configs by its name or its path below ``configs``; None where there is none of it."""
    for prefix in PREFIXES:
        given = given.removeprefix(prefix)
    name = Path(given).as_posix().removeprefix('./').removeprefix('configs/')
    name = name if name.endswith('.py') else f'{name}.py'
    known = packaged_configs(parts=True)
    if name in known:
        return known[name]
    named = [path for key, path in known.items() if key.endswith(f'/{name}') and not key.startswith(f'{PARTS}/')]
    return named[0] if len(named) == 1 and '/' not in name else None


def _nearest(given: str) -> str:
    """The config whose name, with or without its folders, is like the one asked for; else where to look."""
    prefix = next((prefix for prefix in PREFIXES if given.startswith(prefix)), '')
    path = Path(given.removeprefix(prefix))
    called = {Path(name).stem: f'{prefix}{name}' if prefix else f'configs/{name}' if path.suffix or len(path.parts) > 1
              else Path(name).stem for name in packaged_configs()}
    folder = next((parent for parent in path.parents if parent.name == 'configs'), Path('configs'))
    # Of a folder that is not there none.
    for file in () if prefix else sorted((*folder.rglob('*.py'), *path.parent.glob('*.py'))):
        if PARTS not in file.parts:
            called[file.stem] = str(file)
    near = difflib.get_close_matches(path.name.removesuffix('.py'), called, n=1, cutoff=0.6)
    return f"Did you mean '{called[near[0]]}'?" if near else f'`{command_line("configs")}` lists those of the package'
