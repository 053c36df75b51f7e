#!/usr/bin/env python
"""The checkpoints that configs need: ``python tools/weights.py [CONFIG...]``, ``python tools/weights.py fetch NAME``.

It is ``weclip_sam/cli/weights.py``.
"""
from weclip_sam.cli.weights import main

if __name__ == '__main__':
    main()
