"""Options that several commands share, those of outputs above all; none of them reads torch."""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weclip_sam.checks import suggest_name
from weclip_sam.choices import EXPORTS, LAUNCHERS
from weclip_sam.io.config_files import find_config
from weclip_sam.io.given import check_sam, find_checkpoint, find_file, find_photos


def add_output_options(parser: ArgumentParser) -> None:
    """``--out``, ``--overwrite``, what is left out, and ``--export``."""
    parser.add_argument('--out', required=True, metavar='DIR', help='where everything is written')
    parser.add_argument('--overwrite', action='store_true',
                        help='remove the results that are in DIR first: of another model, or of other images')
    parser.add_argument('--no-overlay', action='store_true', help='write no pictures of the labels over the photos')
    parser.add_argument('--no-confidence', action='store_true', help='write no confidence maps and scores')
    parser.add_argument('--export', nargs='+', default=[], metavar='NAME',
                        help='also write the labels in the forms of other tools, e.g. coco')


def add_model_options(parser: ArgumentParser) -> None:
    """``--config`` and ``--cfg-options``."""
    parser.add_argument('--config', help="use this config instead of the checkpoint's own")
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='change the config, e.g. model.clip.checkpoint=/elsewhere/ViT-B-16.pt')


def add_sam_option(parser: ArgumentParser) -> None:
    """``--sam [NAME|FILE]`` of a command that predicts: False, True, or what is named."""
    parser.add_argument('--sam', nargs='?', const=True, default=False, metavar='NAME|FILE',
                        help="refine with SAM's masks, of the config's bank or mask_generator; a name (tiny, vit_b, "
                             'vit_l, vit_h) or file of a SAM makes them with that one')


def add_launcher_option(parser: ArgumentParser) -> None:
    """``--launcher`` of a command that several processes share."""
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='how the processes were started')


def check_exports(names: Sequence[str], option: str = '--export: ') -> None:
    """Whether there are such exports; call it before the work.

    Raises:
        ValueError: there is none of that name.
    """
    for name in names:
        if name not in EXPORTS:
            raise ValueError(f'{option}no export is called {name!r}.{suggest_name(name, EXPORTS)} There are: '
                             f'{", ".join(EXPORTS)}')


def check_given(args: Namespace, photos: Sequence[str]) -> None:
    """Whether what a command that makes labels or predictions was given is there, as far as that can be told before
    torch is read.

    Args:
        args: with ``checkpoint``, ``config``, ``export``, ``labels``, ``sam``.
        photos: that were named.

    Raises:
        FileNotFoundError, ValueError: naming the argument.
    """
    check_exports(args.export)
    find_checkpoint(args.checkpoint)
    check_sam(args.sam)
    if args.config:
        find_config(args.config)
    find_photos(photos)
    if args.labels:
        find_file(args.labels, '--labels')


def write_exports(out: Path, args: Namespace) -> dict[str, Any]:
    """Write the exports that were asked for; the main process calls it when everything else is written.

    Returns:
        The path of each by name.
    """
    if not args.export:
        return {}
    from weclip_sam.export import export_folder
    from weclip_sam.offline.results import open_labels
    return export_folder(open_labels(out), args.export, told=print)
