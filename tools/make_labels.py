#!/usr/bin/env python
"""Write the labels that teach a trained model: ``python tools/make_labels.py CHECKPOINT --out DIR``.

It is ``weclip_sam/cli/make_labels.py``.
"""
from weclip_sam.cli.make_labels import main

if __name__ == '__main__':
    main()
