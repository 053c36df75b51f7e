#!/usr/bin/env python
"""Make pseudo labels for a split: ``python tools/make_seeds.py CONFIG``.

It is ``weclip_sam/cli/make_seeds.py``.
"""
from weclip_sam.cli.make_seeds import main

if __name__ == '__main__':
    main()
