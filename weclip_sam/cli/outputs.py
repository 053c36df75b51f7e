"""Options that predict.py and make_labels.py share: what is written where."""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weclip_sam.checks import suggest_name
from weclip_sam.offline.results import open_labels


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


def check_exports(names: Sequence[str]) -> None:
    """Whether there are such exports; call it before the work.

    Raises:
        ValueError: there is none of that name.
    """
    if not names:
        return
    from weclip_sam.export import EXPORTS
    for name in names:
        if name not in EXPORTS:
            raise ValueError(f'--export: no export is called {name!r}.{suggest_name(name, EXPORTS)} There are: '
                             f'{", ".join(EXPORTS)}')


def write_exports(out: Path, args: Namespace) -> dict[str, Any]:
    """Write the exports that were asked for; the main process calls it when everything else is written.

    Returns:
        The path of each by name.
    """
    if not args.export:
        return {}
    from weclip_sam.export import export_folder
    written = export_folder(open_labels(out), args.export)
    for name, path in written.items():
        print(f'{name}: {path}')
    return written
