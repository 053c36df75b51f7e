#!/usr/bin/env python
"""Take corrected labels back: ``python tools/import_labels.py SOURCE... --like FOLDER --out DIR``.

It is ``weclip_sam/cli/import_labels.py``.
"""
from weclip_sam.cli.import_labels import main

if __name__ == '__main__':
    main()
