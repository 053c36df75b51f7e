#!/usr/bin/env python
"""Rank prompt templates on your own images by sharpness (CLIP-ES): ``python tools/select_prompt.py CONFIG``.

It is ``weclip_sam/cli/select_prompt.py``.
"""
from weclip_sam.cli.select_prompt import main

if __name__ == '__main__':
    main()
