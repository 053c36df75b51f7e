"""The work of ``weights``: the list of checkpoints that configs need, and bringing them."""
from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from weclip_sam.checking.weights import (
    MISSING,
    OF_THE_PACKAGE,
    THERE,
    WRONG,
    Need,
    State,
    merge,
    needs,
    optional_needs,
    shipped_configs,
    state_of,
)
from weclip_sam.choices import CHECKPOINTS
from weclip_sam.commands import command_line, tool
from weclip_sam.engine import load_config
from weclip_sam.engine.progress import announce, phase_progress
from weclip_sam.foundation.published import WHO, Published, find_published
from weclip_sam.io.config_files import find_config, packaged_config
from weclip_sam.io.download import DownloadError, Fetched, download
from weclip_sam.io.files import write_json
from weclip_sam.io.locks import FolderTaken

_WIDTH = 118  # of a line
_NAMED = 6  # configs that want a checkpoint; more are counted


# The list -------------------------------------------------------------------------------------------------------------

def show(args: argparse.Namespace) -> bool:
    """Print the list; whether nothing is wrong, and a named config lacks nothing."""
    found = collect(args.configs, args.cfg_options)
    with phase_progress('MB', 1e6) as progress:
        states = [state_of(need, args.verify, progress) for need in found]
    print('\n'.join(as_table(found, states)))
    print()
    for need, state in zip(found, states, strict=True):
        if need.needed or state.path is not None or not args.configs:
            print('\n'.join(as_text(need, state, args.verify)))
    if args.json:
        write_json(args.json, [as_dict(need, state) for need, state in zip(found, states, strict=True)])
    bad = {WRONG, MISSING} if args.configs else {WRONG}
    return not any(state.verdict in bad and need.needed for need, state in zip(found, states, strict=True))


def collect(configs: Sequence[str], options: Sequence[str] = ()) -> list[Need]:
    """What these configs need or might use; of several (and of the package's, if none is given) by their names."""
    if len(configs) == 1:
        return needs(load_config(configs[0], list(options)))
    files = [find_config(config) for config in configs] or shipped_configs()
    if not files:
        raise ValueError("the package's configs are not beside it: name a CONFIG")
    found: list[Need] = []
    for file in files:
        name = f'{file.parent.name}/{file.stem}'
        found += [replace(need, wanted_by=(name,)) for need in needs(load_config(file, list(options)), optional=False)
                  if configs or need.known is not None or need.note == OF_THE_PACKAGE]
    return merge([*found, *optional_needs(settings=not configs)])


def as_table(found: Sequence[Need], states: Sequence[State]) -> list[str]:
    """One line a checkpoint, with a head."""
    rows = [('checkpoint', 'size', 'licence', 'login', 'SHA-256', 'state')]
    for need, state in zip(found, states, strict=True):
        size = need.known.size if need.known else ''
        if not size and state.path is not None:
            size = f'{state.path.stat().st_size / 1e6:,.0f} MB'
        rows.append((need.name if len(need.name) < 50 else f'...{need.name[-46:]}', size or '?',
                     need.licence or ('?' if need.known else '-'),
                     need.known.gate if need.known else '-', WHO[need.known.sha256_by][0] if need.known else '-',
                     state.verdict if need.needed or state.path else f'for {need.wanted_by[0]}'))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ['  '.join(cell.rjust(width) if column == 1 else cell.ljust(width)
                      for column, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip() for row in rows]


def as_text(need: Need, state: State, verified: bool) -> list[str]:
    """A checkpoint at length."""
    known, told = need.known, {'needed by' if need.needed else 'might be used by': _some(need.wanted_by)}
    if need.note != OF_THE_PACKAGE:
        cache = f", the hub's cache of {need.hub}" if need.hub else ''
        told['looked for at'] = ', '.join(map(_shown, need.places)) + cache
    if state.path is not None:
        told['state'] = f'{state.verdict}: {_shown(state.path)}' + (f', {state.told}' if state.told else '')
        if state.verdict == THERE and not verified and known is not None:
            told['state'] += ' (--verify compares the SHA-256)'
    if known is not None:
        told['SHA-256'] = f'{known.sha256 or ""} ({WHO[known.sha256_by][1]})'.lstrip()
        told['from'] = known.url
        if state.verdict == MISSING:
            told['missing'] = command_line('weights', 'fetch', known.name)
    elif need.note:
        told['note'] = need.note
    lines = [f'{need.name}: {need.what}' if need.what != need.name else need.name]
    for name, text in told.items():
        lines += textwrap.wrap(f'  {name + ":":<17} {text}', _WIDTH if name != 'from' else 1000, break_long_words=False,
                               subsequent_indent=' ' * 20, break_on_hyphens=False)
    return lines


def _some(names: Sequence[str]) -> str:
    if len(names) <= _NAMED:
        return ', '.join(names)
    return f'{len(names)} configs of {", ".join(dict.fromkeys(name.split("/")[0] for name in names))}'


def _shown(path: Path) -> str:
    return f'~/{path.relative_to(Path.home())}' if path.is_relative_to(Path.home()) else str(path)


def as_dict(need: Need, state: State) -> dict[str, Any]:
    """An entry of ``--json``."""
    known = need.known
    return dict(name=need.name, what=need.what, needed=need.needed, wanted_by=list(need.wanted_by),
                looked_for=list(map(str, need.places)), state=state.verdict, path=state.path, told=state.told,
                licence=need.licence or None, note=need.note,
                **(dict(login=known.gate, bytes=known.bytes, tensor_bytes=known.tensor_bytes, sha256=known.sha256,
                        sha256_from=WHO[known.sha256_by][1], url=known.url, file=known.file) if known else {}))


# Fetching -------------------------------------------------------------------------------------------------------------

def fetch_all(names: Sequence[str], to: str | None) -> bool:
    """Bring what is named; whether all is there now. One line for each that is not."""
    wanted = dict.fromkeys(each for name in names for each in _meant(name))
    if not wanted:
        print('nothing to fetch: all that is published is here')
    unreached, sound = dict[str, list[str]](), True
    for known, place in wanted:
        try:
            fetch(known, place if to is None else Path(to).expanduser(), place)
        except DownloadError as error:
            sound = False
            if error.unreached and len(wanted) > 1:
                unreached.setdefault(error.unreached, []).append(known.file)
            else:
                print(f'error: {error}{_of_a_login(known, error)}', file=sys.stderr)
        except FolderTaken as error:
            sound = False
            print(f'error: {error}', file=sys.stderr)
    for why, files in unreached.items():
        print(f'error: {", ".join(files)}: nobody can be reached ({why}). Without a network fetch them elsewhere (the '
              f'list, {tool("weights")}, has the URLs) and put them into {to or CHECKPOINTS}', file=sys.stderr)
    return sound


def _meant(name: str) -> list[tuple[Published, Path]]:
    """What a name means, each with the folder where it is looked for."""
    if not name.endswith('.py') and packaged_config(name) is None:
        return [(find_published(name), Path(CHECKPOINTS))]
    return [(need.known, need.places[0].parent) for need in needs(load_config(name), optional=False)
            if need.known is not None and state_of(need).verdict in (MISSING, WRONG)]


def fetch(known: Published, folder: Path, place: Path) -> None:
    """Bring one, unless it is there and right.

    Args:
        known: which one.
        folder: where it goes.
        place: where it is looked for.

    Raises:
        DownloadError, FolderTaken, ValueError, OSError: see :func:`weclip_sam.io.download.download`; a file of that
            name that is not the one.
    """
    path = folder / known.file
    with phase_progress('MB', 1e6) as progress:
        if path.is_file():
            state = state_of(Need(known.name, known.what, (path,), (), known), True, progress)
            if state.verdict == WRONG:
                raise DownloadError(f'{path}: is there, but {state.told}. Remove it, and fetch it again')
            print(f'{path}: is there ({state.told})')
            return
        announce(f'{known.file}{known.facts} from {known.url.split("/")[2]} into {folder}')
        found = download(known.url, path, known.sha256, known.size_fits, progress)
    print(_told(known, found))
    if folder != place:
        setting = known.setting or 'its checkpoint (or weights)'
        print(f'  it is looked for in {place}; to have it found here: --cfg-options {setting}={path}')


def _told(known: Published, found: Fetched) -> str:
    if found.checked:
        return f'{found.path}: {found.bytes / 1e6:,.0f} MB, SHA-256 as it has to be ({WHO[known.sha256_by][1]})'
    return f'{found.path}: {found.bytes / 1e6:,.0f} MB. Nobody says what its SHA-256 has to be; it is {found.sha256}'


def _of_a_login(known: Published, error: DownloadError) -> str:
    if error.code not in (401, 403) or known.hub is None:
        return ''
    repository, file = known.hub
    return (f' Accept its licence at https://huggingface.co/{repository} if it asks for that, then: hf auth login && '
            f'hf download {repository} {file}  (what is in its cache is found)')
