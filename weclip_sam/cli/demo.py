"""A page to try a trained model in a browser: ``python tools/demo.py CHECKPOINT``.

It is served on this machine alone (127.0.0.1) unless ``--host`` says otherwise, asks no other machine for anything and
sends nothing. Uploads are removed an hour after they came, and all at the end.

Exit code: 0 when it was stopped, 2 if it could not start.
"""
from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from weclip_sam.cli.examples import ParserWithExample, for_checkpoint
from weclip_sam.cli.starting import starting
from weclip_sam.io.given import check_sam, find_checkpoint


def build_parser() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = ParserWithExample(for_checkpoint('demo'), description='A page to try a trained model in a browser.')
    parser.add_argument('checkpoint', help='an iter_*.pth or best_*.pth file of a training run')
    parser.add_argument('--sam', metavar='NAME|FILE', help="another SAM than the config's: tiny, vit_b, or a file")
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')
    parser.add_argument('--host', default='127.0.0.1', help='address to serve on (default: %(default)s, this machine '
                                                            'alone; 0.0.0.0 lets everybody in who reaches it)')
    parser.add_argument('--port', type=int, help='(default: the first free one from 7860 on)')
    parser.add_argument('--max-upload', default='50mb', help='largest photo (default: %(default)s)')
    parser.add_argument('--config', help="use this config instead of the checkpoint's own")
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='change the config, e.g. model.clip.checkpoint=/elsewhere/ViT-B-16.pt')
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    with starting():
        find_checkpoint(args.checkpoint)
        check_sam(args.sam)
        from weclip_sam.engine import friendly_errors
    with friendly_errors(), tempfile.TemporaryDirectory(prefix='weclip_sam_demo_') as folder:
        os.environ['GRADIO_TEMP_DIR'] = folder  # of this page alone: nothing is left behind
        from weclip_sam.demo.page import build_page, import_gradio, serve
        import_gradio()
        from weclip_sam.demo.answers import Answerer
        answerer = Answerer(args.checkpoint, sam=args.sam or True, device=args.device, config=args.config,
                            options=args.cfg_options)
        if answerer.without_sam:
            print(f'predictions without SAM: {answerer.without_sam}')
        if answerer.without_labels:
            print(f'no labels from names: {answerer.without_labels}')
        serve(build_page(answerer, f'weclip_sam: {Path(args.checkpoint).name}'), args.host, args.port, args.max_upload)


if __name__ == '__main__':
    main()
