"""Print a config as a run uses it: ``python tools/print_config.py CONFIG``.

Parents, options, shared settings (the mask bank, its generator, the seed images) and the names of the data are all
filled in. What is printed is a config again: with ``--out FILE`` it can be trained with, edited and compared.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from weclip_sam.cli.starting import starting
from weclip_sam.io.config_files import find_config
from weclip_sam.io.files import atomic_open


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Print a config as a run uses it.')
    parser.add_argument('config', help='a config file')
    parser.add_argument('--out', metavar='FILE', help='write it there (a .py file) instead')
    parser.add_argument('--amp', action='store_true', help='as train --amp does')
    parser.add_argument('--seed', type=int, help='as train --seed does')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='change the config')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with starting():
        find_config(args.config)
        from weclip_sam.engine import friendly_errors, load_config
        from weclip_sam.engine.start.config import use_amp, use_randomness
        from weclip_sam.engine.start.config_text import config_text
        from weclip_sam.engine.start.fill import fill_what_can_be
    with friendly_errors():
        if args.out and not args.out.endswith('.py'):
            raise ValueError(f'--out {args.out}: a config is a .py file')
        config = load_config(args.config, args.cfg_options)
        if args.out and Path(args.out).resolve() == Path(config.filename).resolve():
            raise ValueError(f'--out {args.out}: would overwrite the config itself; give another file')
        if args.amp:
            use_amp(config)
        use_randomness(config, args.seed)
        why = fill_what_can_be(config)
        text = config_text(config.to_dict())
        if args.out:
            with atomic_open(args.out, 'w') as file:
                file.write(f'"""{_plain(args.config)} with everything filled in."""\n{text}')
            print(f'written: {args.out}')
        else:
            print(text, end='')
        if why:
            print(f'note: the names of the data are not in it, for they cannot be read: {why}', file=sys.stderr)


def _plain(name: str) -> str:
    """A name as a docstring can hold it."""
    return name.replace('\\', '/').replace('"', "'")


if __name__ == '__main__':
    main()
