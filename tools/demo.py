#!/usr/bin/env python
"""A page to try a trained model in a browser: ``python tools/demo.py CHECKPOINT``.

It is ``weclip_sam/cli/demo.py``.
"""
from weclip_sam.cli.demo import main

if __name__ == '__main__':
    main()
