#!/usr/bin/env python
"""Look through labels, the doubtful ones first: ``python tools/review.py FOLDER``.

It is ``weclip_sam/cli/review.py``.
"""
from weclip_sam.cli.review import main

if __name__ == '__main__':
    main()
