#!/usr/bin/env python
"""Train a model: ``python tools/train.py CONFIG``.

It is ``weclip_sam/cli/train.py``.
"""
from weclip_sam.cli.train import main

if __name__ == '__main__':
    main()
