#!/usr/bin/env python
"""Print a config as a run uses it: ``python tools/print_config.py CONFIG``.

It is ``weclip_sam/cli/print_config.py``.
"""
from weclip_sam.cli.print_config import main

if __name__ == '__main__':
    main()
