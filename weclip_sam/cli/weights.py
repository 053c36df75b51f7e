"""The checkpoints that configs need: ``python tools/weights.py [CONFIG...]`` lists them, ``fetch NAME`` brings them.

Without a config it lists what the package's own configs need or might use. ``--verify`` also compares each file's
SHA-256. Exit code: 0; 1 if something is wrong, or a CONFIG lacks what it needs; 2 if a config cannot be used.

``python tools/weights.py fetch NAME... [--to DIR]`` downloads into ``checkpoints``, where every config looks first.
NAME is of the list, a file name in it, a timm network with its tag, or a CONFIG, whose missing ones are all fetched. A
download that was cut off or stopped goes on where it was; a file gets its name once it is whole and right. Proxies are
those of the usual environment variables. Exit code: 0 all is there, 1 something could not be fetched, 2 no such name.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from weclip_sam.choices import CHECKPOINTS
from weclip_sam.cli.starting import starting
from weclip_sam.commands import tool
from weclip_sam.io.config_files import find_config

FETCH = 'fetch'


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """``command``: ``fetch`` or nothing, and the arguments of the one or the other."""
    if argv and argv[0] == FETCH:
        parser = argparse.ArgumentParser(prog=f'{tool("weights")} fetch', description='Download published checkpoints.')
        parser.add_argument('names', nargs='+', metavar='NAME',
                            help='of the list, a file name in it, a timm network (resnet18.a1_in1k), a CLIP of '
                                 'open_clip (ViT-B-32-quickgelu.openai), or a config, which stands for all it lacks')
        parser.add_argument('--to', metavar='DIR', help=f'where to (default: {CHECKPOINTS}, where configs look first)')
        return argparse.Namespace(command=FETCH, **vars(parser.parse_args(argv[1:])))
    parser = argparse.ArgumentParser(description='List the checkpoints that configs need; fetch NAME downloads one.',
                                     epilog=f'{tool("weights")} fetch --help tells of the other form')
    parser.add_argument('configs', nargs='*', metavar='CONFIG', help="config files (default: all of the package's)")
    parser.add_argument('--verify', action='store_true', help='read the files that are there for their SHA-256')
    parser.add_argument('--json', metavar='FILE', help='write the list there too')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='change the configs')
    return argparse.Namespace(command='', **vars(parser.parse_args(argv)))


def main(argv: list[str] | None = None) -> None:
    args = parse_args(sys.argv[1:] if argv is None else argv)
    with starting():
        for config in [] if args.command else args.configs:
            find_config(config)
        from weclip_sam.cli.checkpoints import fetch_all, show
        from weclip_sam.engine import friendly_errors
    with friendly_errors(on_stop=lambda: 'What has come is kept: the same command goes on.' if args.command else ''):
        sound = fetch_all(args.names, args.to) if args.command else show(args)
    sys.exit(0 if sound else 1)


if __name__ == '__main__':
    main()
