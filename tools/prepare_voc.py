#!/usr/bin/env python
"""Make a VOC 2012 folder ready: ``python tools/prepare_voc.py data/VOCdevkit/VOC2012 --sbd benchmark_RELEASE``.

It is ``weclip_sam/cli/prepare_voc.py``.
"""
from weclip_sam.cli.prepare_voc import main

if __name__ == '__main__':
    main()
