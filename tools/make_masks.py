#!/usr/bin/env python
"""Make the SAM masks of a split and keep them in a mask bank: ``python tools/make_masks.py CONFIG``.

It is ``weclip_sam/cli/make_masks.py``.
"""
from weclip_sam.cli.make_masks import main

if __name__ == '__main__':
    main()
