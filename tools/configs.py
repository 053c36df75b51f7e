#!/usr/bin/env python
"""List, show and copy the configs that come with the package: ``python tools/configs.py [list WORD | copy NAME]``.

It is ``weclip_sam/cli/configs.py``.
"""
from weclip_sam.cli.configs import main

if __name__ == '__main__':
    main()
