#!/usr/bin/env python
"""Score label PNGs against ground truth: ``python tools/eval_seeds.py --pred PRED --gt GT``.

It is ``weclip_sam/cli/eval_seeds.py``.
"""
from weclip_sam.cli.eval_seeds import main

if __name__ == '__main__':
    main()
