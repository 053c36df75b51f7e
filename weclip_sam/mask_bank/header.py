"""Whose masks or features a bank holds: its file ``bank.json`` or ``features.json``."""
from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weclip_sam.commands import tool
from weclip_sam.io.files import move
from weclip_sam.io.names import normal
from weclip_sam.io.new_folders import make_folder
from weclip_sam.io.text import read_json

FORMAT, VERSION, WITH_GENERATIONS = 'weclip_sam mask bank', 1, 2
HEADER = 'bank.json'
IMPORTED = 'imported '  # how the generator of a bank of others' masks begins


@dataclass(frozen=True)
class Kind:
    """What sort of bank a header is of.

    Attributes:
        format, versions: as its header says.
        file: name of the header.
        records: glob of what only a bank with a header may hold.
        content: what it holds, for messages.
    """

    format: str
    versions: tuple[int, ...]
    file: str
    records: str
    content: str


MASKS = Kind(FORMAT, (VERSION, WITH_GENERATIONS), HEADER, 'shard-*.masks', 'mask')
FEATURES = Kind('weclip_sam feature bank', (VERSION,), 'features.json', 'tokens', 'feature')


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


def read_header(path: Path, kind: Kind = MASKS) -> dict[str, Any]:
    """The header in the file ``path``.

    Raises:
        ValueError: it is damaged, or of a version that this program does not know.
    """
    content = kind.content
    header = read_json(path, fix=f'the header of the {content} bank is damaged: restore it or empty the folder')
    if not isinstance(header, dict) or header.get('format') != kind.format or \
            not {'dataset', 'generator'} <= set(header):
        raise ValueError(f'{path}: not the header of a {content} bank')
    if header.get('version') not in kind.versions:
        known = ' and '.join(map(str, kind.versions))
        raise ValueError(f'{path}: {content} bank version {header.get("version")!r}, this program reads version'
                         f'{"s" if len(kind.versions) > 1 else ""} {known}; make the {content}s anew')
    return header


def open_header(root: Path, mode: str, fingerprint: str | None, dataset: str | None, folder: str | None,
                kind: Kind = MASKS, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The header of the bank in ``root``, made where mode ``a`` allows it; the arguments are those of the bank.

    Args:
        root, mode, fingerprint, dataset, folder: of the bank.
        kind: of the bank.
        more: further entries of a header that is made.
    """
    path = root / kind.file
    if not path.is_file():
        if mode == 'r':
            raise FileNotFoundError(f'no {kind.content} bank in {root} ({kind.file} is missing). Make one with '
                                    f'{tool("make_masks")}{" --features" if kind is FEATURES else ""}')
        entries = dict(format=kind.format, version=VERSION, dataset=dataset, generator=fingerprint, image_folder=folder,
                       **(more or {}))
        _create_header(path, entries, kind)
    header = read_header(path, kind)
    if fingerprint is not None and (made := precision_of(header)) != (asked := precision_of(dict(
            generator=fingerprint))) and fingerprint.split()[:1] == str(header['generator']).split()[:1]:
        raise ValueError(f'{path}: this bank holds {kind.content}s made in {made}, but {asked} was asked for: go on in '
                         f'{made} ({"--no-amp" if made == "fp32" else "--amp"} or neither; precision={made!r} or '
                         "none of the mask generator's sam), or use another folder")
    for what, wanted in (('generator', fingerprint), ('dataset', dataset)):
        if wanted is not None and wanted != header[what]:
            raise ValueError(f'{path}: this bank was made for {what} {header[what]!r}, but {wanted!r} was asked '
                             f'for. A bank belongs to one data set and one generator (settings and weights): '
                             f'use another folder, or delete this one to make the {kind.content}s anew')
    return header


def other_folder(path: Path, header: dict[str, Any], folder: str | None) -> str:
    """Empty, or that the bank with this header was made for images in another folder."""
    before = header.get('image_folder', 'no known place')
    if folder is None or before is None or normal(folder) == normal(before):
        return ''
    return (f'{path}: this bank was made for images in {before}, but the images are in {folder}. A bank belongs to '
            'one data set, and other images may have the same names: use another folder (mask_bank of the config, '
            f'--out of {tool("make_masks")}). If they are the same images, moved, write "image_folder": '
            f'{json.dumps(folder)} into {path}')


def _create_header(path: Path, entries: Mapping[str, Any], kind: Kind) -> None:
    if any(path.parent.glob(kind.records)):
        raise ValueError(f'{path} is missing, but {path.parent} holds {kind.content}s. The header says whose they are: '
                         'restore it, or empty the folder')
    make_folder(path.parent)
    text = json.dumps(entries, indent=2)
    temporary = path.parent / f'.{path.name}.{uuid.uuid4().hex}.tmp'
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
            move(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # a failing write names no file
    finally:
        with suppress(OSError):  # the first error counts
            temporary.unlink()
