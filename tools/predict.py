#!/usr/bin/env python
"""Segment images with a trained model: ``python tools/predict.py CHECKPOINT IMAGES... --out DIR``.

It is ``weclip_sam/cli/predict.py``.
"""
from weclip_sam.cli.predict import main

if __name__ == '__main__':
    main()
