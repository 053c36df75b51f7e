#!/usr/bin/env python
"""Evaluate a trained model: ``python tools/test.py CONFIG CHECKPOINT``.

It is ``weclip_sam/cli/test.py``.
"""
from weclip_sam.cli.test import main

if __name__ == '__main__':
    main()
