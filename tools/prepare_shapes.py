#!/usr/bin/env python
"""Write the embedded data set to disk in VOC's layout: ``python tools/prepare_shapes.py OUT``.

It is ``weclip_sam/cli/prepare_shapes.py``.
"""
from weclip_sam.cli.prepare_shapes import main

if __name__ == '__main__':
    raise SystemExit(main())
