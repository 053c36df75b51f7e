#!/usr/bin/env python
"""Check all data and checkpoints of a config before training: ``python tools/check_data.py CONFIG``.

It is ``weclip_sam/cli/check_data.py``.
"""
from weclip_sam.cli.check_data import main

if __name__ == '__main__':
    main()
