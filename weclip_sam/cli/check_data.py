"""Check all data and checkpoints of a config before training: ``python tools/check_data.py CONFIG``.

Reads every image, every mask that evaluation will open, and every checkpoint. Exit code 0 if a run can start, 1 if
there are errors (warnings and notes do not count), 2 if the config itself cannot be used or --json cannot be written.
"""
from __future__ import annotations

import argparse
import sys

from weclip_sam.cli.starting import starting
from weclip_sam.io.config_files import find_config
from weclip_sam.io.files import write_json


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description='Check all data and checkpoints of a config.')
    parser.add_argument('config', help='a config file')
    parser.add_argument('--json', metavar='FILE', help='write all findings there too')
    parser.add_argument('--quick', action='store_true', help='lists, labels and a few images only, as train does')
    parser.add_argument('--show', type=int, default=10, help='findings of each kind to print (default: %(default)s)')
    parser.add_argument('--workers', type=int, help='processes (default: one per core)')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='change the config')
    args = parser.parse_args(argv)
    with starting():
        find_config(args.config)
        from weclip_sam.checking.configs import full_check, quick_check
        from weclip_sam.engine import friendly_errors, load_config
        from weclip_sam.engine.progress import phase_progress
    with friendly_errors():
        with phase_progress() as progress:
            config = load_config(args.config, args.cfg_options)
            report = quick_check(config) if args.quick else full_check(config, args.workers, progress)
        print(report.text(args.show))  # before the file, which a full disk may refuse
        if args.json:
            write_json(args.json, report.as_dict())
    sys.exit(0 if report.ok else 1)


if __name__ == '__main__':
    main()
