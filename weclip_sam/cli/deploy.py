"""Export a trained model: ``python tools/deploy.py CHECKPOINT --out model.onnx`` (or ``model.pt2``).

The file holds the network, the names and colours of the classes and how images are prepared, and runs without this
package (``docs/deployment.md``). What ONNX Runtime makes of it is compared with the checkpoint before it is written.

``python tools/deploy.py CHECKPOINT --check model.onnx`` compares a file that was exported earlier.

Exit code 0 if the labels agree, 1 if they do not (nothing is written then), 2 if it could not start.
"""
from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from weclip_sam.cli.examples import ParserWithExample, for_checkpoint
from weclip_sam.cli.starting import starting
from weclip_sam.io.files import atomic_open
from weclip_sam.io.given import find_checkpoint, find_file, find_photos
from weclip_sam.words import counted

if TYPE_CHECKING:
    from weclip_sam.api import Segmenter
    from weclip_sam.export.deploy import Deployed, InferenceNetwork


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ParserWithExample(for_checkpoint('deploy', '--out', '{run}/model.onnx'),
                               description='Export a trained model to ONNX or torch.export.')
    parser.add_argument('checkpoint', help='an iter_*.pth or best_*.pth file of a training run')
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--out', metavar='FILE', help='where to: model.onnx, or model.pt2 for torch.export.load')
    what.add_argument('--check', metavar='FILE', help='compare an .onnx file that was exported earlier')
    parser.add_argument('--images', nargs='+', default=[], metavar='PHOTO',
                        help='photos to compare on (default: a few drawn scenes)')
    parser.add_argument('--overwrite', action='store_true', help='replace FILE if it is there')
    parser.add_argument('--config', help="use this config instead of the checkpoint's own")
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='change the config, e.g. model.clip.checkpoint=/elsewhere/ViT-B-16.pt')
    args = parser.parse_args(argv)
    if args.check and args.check.lower().endswith('.pt2'):
        parser.error('--check runs a file in ONNX Runtime, so it takes .onnx files alone; a .pt2 file is the very '
                     'program of torch that was exported')
    return args


def plain_segmenter(args: argparse.Namespace, config: Any) -> Segmenter:
    """The checkpoint without what is not exported: one scale, no refinement."""
    from weclip_sam.api import Segmenter
    from weclip_sam.engine.start.options import parse_options
    plain = dict(scales=(1.0,), flip=False, crf=None, refine=[])
    own = config.model.get('test') or {}
    options = parse_options(args.cfg_options, config) | {f'model.test.{key}': value for key, value in plain.items()
                                                         if key in own}
    return Segmenter(args.checkpoint, 'cpu', config=args.config, options=options)


def compare(args: argparse.Namespace, config: Any, network: InferenceNetwork, deployed: Deployed) -> bool:
    """Say how far the labels agree; whether that is enough."""
    import torch

    from weclip_sam.export.deploy import ENOUGH, agreement, drawn_pictures, time_ratio
    from weclip_sam.io.images import read_image
    pictures = [read_image(path) for path in args.images] or drawn_pictures()
    segmenter = plain_segmenter(args, config)
    shares = agreement(deployed, lambda picture: segmenter(picture).labels, pictures)
    print(f'the labels of ONNX Runtime and of torch agree on {100 * sum(shares) / len(shares):.3f} % of the pixels of '
          f'{counted(len(shares), "image")} (on the worst of them {100 * min(shares):.3f} %)')
    if min(shares) < ENOUGH:
        print(f'that is too little: {100 * ENOUGH:.1f} % are expected of every image', file=sys.stderr)
        return False
    print(f'ONNX Runtime took {time_ratio(deployed, network, pictures[0]):.2f} times as long as torch for one of them '
          f'({torch.get_num_threads()} threads each)')
    return True


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with starting():
        find_checkpoint(args.checkpoint)
        if args.check:
            find_file(args.check, '--check')
        find_photos(args.images)
        import torch

        from weclip_sam.engine import friendly_errors
        from weclip_sam.engine.start.restore import restore_model
        from weclip_sam.export.deploy import (
            FORMS,
            Deployed,
            InferenceNetwork,
            check_place,
            export_network,
            network_card,
            same_checkpoint,
        )
    with friendly_errors():
        path = check_place(args.out, args.overwrite) if args.out else None
        earlier = None if path else Deployed(args.check, torch.get_num_threads())
        model, config, meta = restore_model(args.checkpoint, args.config, args.cfg_options)
        network = InferenceNetwork(model)
        card = network_card(network, config, meta, args.checkpoint)
        if path is None:
            assert earlier is not None
            same_checkpoint(earlier, args.check, card)
            agrees = compare(args, config, network, earlier)
        else:
            content = FORMS[path.suffix](export_network(network), card)
            agrees = True
            if path.suffix == '.onnx' and find_spec('onnxruntime') is None:
                print('not compared with the checkpoint: onnxruntime is not installed')
            elif path.suffix == '.onnx':
                agrees = compare(args, config, network, Deployed(content, torch.get_num_threads()))
            if agrees:
                with atomic_open(path) as file:
                    file.write(content)
                print(f'{path}: {len(content) / 1e6:.1f} MB, {len(card["classes"])} classes with the background, for '
                      f'images whose sides {network.divisor} divides, of {network.smallest} pixels and more')
            for left in card['left_out']:
                print(f'left out, though the checkpoint predicts with it: {left}')
    sys.exit(0 if agrees else 1)


if __name__ == '__main__':
    main()
