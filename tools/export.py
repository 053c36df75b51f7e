#!/usr/bin/env python
"""Write labels in the forms of other tools: ``python tools/export.py FOLDER NAME...``.

It is ``weclip_sam/cli/export.py``.
"""
from weclip_sam.cli.export import main

if __name__ == '__main__':
    main()
