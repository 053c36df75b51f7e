#!/usr/bin/env python
"""Compare methods on one data set: ``python tools/compare.py configs/compare/shapes.py --run``.

It is ``weclip_sam/cli/compare.py``.
"""
from weclip_sam.cli.compare import main

if __name__ == '__main__':
    main()
