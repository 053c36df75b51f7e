#!/usr/bin/env python
"""Make a COCO 2014 folder ready: ``python tools/prepare_coco.py data/coco``.

It is ``weclip_sam/cli/prepare_coco.py``.
"""
from weclip_sam.cli.prepare_coco import main

if __name__ == '__main__':
    main()
