"""``python -m weclip_sam train CONFIG``: where the command ``weclip-sam`` is not on the path."""
import sys

from weclip_sam.cli.main import main

if __name__ == '__main__':
    sys.exit(main())
