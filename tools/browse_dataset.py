#!/usr/bin/env python
"""Look at what a training sees: ``python tools/browse_dataset.py CONFIG --out DIR``.

It is ``weclip_sam/cli/browse_dataset.py``.
"""
from weclip_sam.cli.browse_dataset import main

if __name__ == '__main__':
    main()
