"""Whose masks a bank holds: its file ``bank.json``."""
from __future__ import annotations

import json
import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from weclip_sam.io.names import normal
from weclip_sam.io.text import read_json

FORMAT, VERSION, WITH_GENERATIONS = 'weclip_sam mask bank', 1, 2
HEADER = 'bank.json'
IMPORTED = 'imported '  # how the generator of a bank of others' masks begins


def holds_imported(root: str | os.PathLike) -> bool:
    """Whether there is a bank in ``root``, and another program made its masks.

    Raises:
        ValueError: its header is damaged.
    """
    path = Path(root) / HEADER
    return path.is_file() and is_imported(read_header(path))


def precision_of(header: dict[str, Any]) -> str | None:
    """``fp32``, or the word after the hash of a generator that computed in another one; None of imported masks."""
    words = str(header['generator']).split()
    return None if is_imported(header) or not words else (*words[1:], 'fp32')[0]


def bank_precision(root: str | os.PathLike) -> str | None:
    """What the masks of a bank were computed in; None where there is no bank, or another program made its masks.

    Raises:
        ValueError: its header is damaged.
    """
    path = Path(root) / HEADER
    return precision_of(read_header(path)) if path.is_file() else None


def is_imported(header: dict[str, Any]) -> bool:
    """Whether another program made the masks of the bank with this header."""
    return str(header['generator']).startswith(IMPORTED)


def read_header(path: Path) -> dict[str, Any]:
    """The header in the file ``path``.

    Raises:
        ValueError: it is damaged, or of a version that this program does not know.
    """
    header = read_json(path, fix='the header of the mask bank is damaged: restore it or empty the folder')
    if not isinstance(header, dict) or header.get('format') != FORMAT or not {'dataset', 'generator'} <= set(header):
        raise ValueError(f'{path}: not the header of a mask bank')
    if header.get('version') not in (VERSION, WITH_GENERATIONS):
        raise ValueError(f'{path}: mask bank version {header.get("version")!r}, this program reads versions {VERSION} '
                         f'and {WITH_GENERATIONS}; make the masks anew')
    return header


def open_header(root: Path, mode: str, fingerprint: str | None, dataset: str | None,
                folder: str | None) -> dict[str, Any]:
    """The header of the bank in ``root``, made where mode ``a`` allows it; the arguments are those of the bank."""
    path = root / HEADER
    if not path.is_file():
        if mode == 'r':
            raise FileNotFoundError(f'no mask bank in {root} ({HEADER} is missing). Make one with '
                                    f'tools/make_masks.py')
        _create_header(path, fingerprint, dataset, folder)
    header = read_header(path)
    if fingerprint is not None and (made := precision_of(header)) != (asked := precision_of(dict(
            generator=fingerprint))) and fingerprint.split()[0] == header['generator'].split()[0]:
        raise ValueError(f'{path}: this bank holds masks made in {made}, but {asked} was asked for: go on in '
                         f'{made} ({"--no-amp" if made == "fp32" else "--amp"} or neither; precision={made!r} or '
                         "none of the mask generator's sam), or use another folder")
    for what, wanted in (('generator', fingerprint), ('dataset', dataset)):
        if wanted is not None and wanted != header[what]:
            raise ValueError(f'{path}: this bank was made for {what} {header[what]!r}, but {wanted!r} was asked '
                             f'for. A bank belongs to one data set and one generator (settings and weights): '
                             f'use another folder, or delete this one to make the masks anew')
    return header


def other_folder(path: Path, header: dict[str, Any], folder: str | None) -> str:
    """Empty, or that the bank with this header was made for images in another folder."""
    before = header.get('image_folder', 'no known place')
    if folder is None or before is None or normal(folder) == normal(before):
        return ''
    return (f'{path}: this bank was made for images in {before}, but the images are in {folder}. A bank belongs to '
            'one data set, and other images may have the same names: use another folder (mask_bank of the config, '
            '--out of tools/make_masks.py). If they are the same images, moved, write "image_folder": '
            f'{json.dumps(folder)} into {path}')


def _create_header(path: Path, fingerprint: str | None, dataset: str | None, folder: str | None) -> None:
    if any(path.parent.glob('shard-*.masks')):
        raise ValueError(f'{path} is missing, but {path.parent} holds mask shards. The header says whose masks they '
                         f'are: restore it, or empty the folder')
    path.parent.mkdir(parents=True, exist_ok=True)
    header = dict(format=FORMAT, version=VERSION, dataset=dataset, generator=fingerprint, image_folder=folder)
    text = json.dumps(header, indent=2)
    temporary = path.parent / f'.{HEADER}.{uuid.uuid4().hex}.tmp'
    try:
        with open(temporary, 'w', encoding='utf-8') as file:
            file.write(text + '\n')
            file.flush()
            os.fsync(file.fileno())
        try:
            # A link never overwrites: of several processes that start together, one creates and all read.
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # a failing write names no file
    finally:
        with suppress(OSError):  # the first error counts
            temporary.unlink()
